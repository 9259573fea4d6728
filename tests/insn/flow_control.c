/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_control.c - branches, loops of all kinds, jumps through a table; a fault made on purpose.
 */
#include "flow.h"

#include <string.h>

/* cmp counter, k; jne on; something that faults; on: */
static void fault(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned k = 1 + rng_below(r, f->counts_from), counter = (unsigned)f->counter;
    u16 on = flow_new_label(f);
    f->bomb = false;
    u8 c[8] = {0};
    unsigned n;
    if (flow_free_registers(f) > 4 && !(f->b.fixed & 5) && chance(r, 40)) { /* a divisor that comes to nothing: no jump */
        unsigned d = flow_scratch(f);
        if (d == RAX || d == RDX)
            return;
        flow_move_imm(f, RDX, 0);
        flow_op_mem(f, 0x8d, d, counter, 0xff, 0, -(s32)k, 4, 0);
        flow_settle(f);
        flow_op_rr(f, 0xf7, 6, d, 4);
        return;
    }
    if (chance(r, 40)) { /* an address that leaves the area */
        static const u32 ops[] = {0x8b, 0x89, 0x01, 0x11, 0x0fb6, 0x87, 0x0f10, 0x0f11};
        unsigned scale = rng_below(r, 4);
        u32 end = (u32)(chance(r, 50) ? DATA_BASE + DATA_SIZE : DATA_BASE + DATA_RO);
        unsigned base = flow_scratch(f);
        flow_move_imm(f, base, end - (k << scale) - (chance(r, 50) ? 0 : 4) + rng_below(r, 4));
        flow_settle(f);
        flow_op_mem(f, ops[rng_below(r, ARRAY_SIZE(ops))], flow_scratch(f), base, counter, scale, 0, 4, 0);
        return;
    }
    flow_settle(f);
    n = flow_encode(f, c, 0x83, 7, 4, counter);
    c[n++] = (u8)(0xf8 | (counter & 7));
    c[n++] = (u8)k;
    flow_put(f, c, n);
    flow_jump(f, 5, on);
    switch (rng_below(r, 5)) {
    case 0: flow_put(f, (const u8[]){0x0f, 0x0b}, 2); break;                              /* ud2 */
    case 1: flow_put(f, (const u8[]){0xf4}, 1); break;                                    /* hlt: #GP */
    case 2: flow_put(f, (const u8[]){0x0f, 0x22, 0xd8}, 3); break;                        /* mov cr3, rax */
    case 3: flow_op_at(f, 0xff, 6, DATA_BASE - 4096 + rng_below(r, 4096), 4, "", 0); break; /* push of what is not there */
    default: flow_op_at(f, 0xff, 0, DATA_BASE + DATA_RO + 4 * rng_below(r, 1000), 4, "", 0); break; /* inc of what is read-only */
    }
    flow_bind(f, on);
}

void flow_if_else(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 other = flow_new_label(f), end = flow_new_label(f);
    unsigned patched = chance(r, 10);
    if (f->b.fixed >> RCX & 1 || chance(r, 85)) {
        if (patched) { /* its condition is turned round each time it is met */
            u16 at = flow_new_label(f);
            u8 c[16] = {0x80, 0x34, 0x25, 0, 0, 0, 0, 1}; /* xor byte [at + 1], 1 */
            unsigned n = flow_wide(f) ? 8 : 7;
            if (!flow_wide(f)) {
                c[1] = 0x35;
                memset(c + 2, 0, 4);
                c[6] = 1;
            }
            struct gen_insn *i = flow_put(f, c, n);
            gen_fix(i, FIX_ADDRESS32, n - 5, at, 1);
            f->b.q->patches_itself = true;
            flow_bind(f, at);
            flow_jump(f, rng_below(r, 16), other)->short_fix = true; /* stays long */
        } else {
            flow_jump(f, rng_below(r, 16), other);
        }
        flow_body(f, 1 + rng_below(r, 2));
    } else { /* jrcxz, loop: over little */
        flow_settle(f);
        u8 c[] = {(u8)(0xe0 + rng_below(r, 4)), 0};
        struct gen_insn *i = flow_put(f, c, 2);
        gen_fix(i, FIX_REL8, 1, other, 0);
        flow_straight(f, 1 + rng_below(r, 3));
    }
    bool has_else = chance(r, 40);
    if (has_else)
        flow_jump(f, JMP, end);
    flow_bind(f, other);
    if (has_else)
        flow_body(f, 1);
    flow_bind(f, end);
}

struct counted {
    unsigned kind, reg; /* reg counts */
    u64 slot;           /* or this does, with kind 4 */
    u16 top, out;
};

/* The end of a loop: one time less, and back to its top while any are left. */
static void count_down(struct flow *f, const struct counted *l)
{
    struct rng *r = f->b.r;
    switch (l->kind) {
    case 0: { /* loop, with a jump back where it does not reach */
        u16 on = flow_new_label(f), over = flow_new_label(f);
        u8 c[] = {0xe2, 0};
        gen_fix(flow_put(f, c, 2), FIX_REL8, 1, on, 0);
        flow_jump(f, JMP, over);
        flow_bind(f, on);
        flow_jump(f, JMP, l->top);
        flow_bind(f, over);
        break;
    }
    case 1: /* sub reg, 1; ja, jnbe, jns as may be */
        if (chance(r, 50)) {
            u8 c[8];
            unsigned n = flow_encode(f, c, 0x83, 5, chance(r, 50) ? flow_word(f) : 4, l->reg);
            c[n++] = (u8)(0xe8 | (l->reg & 7));
            c[n++] = 1;
            flow_put(f, c, n);
            static const u8 ccs[] = {5, 7, 15};
            flow_jump(f, ccs[rng_below(r, 3)], l->top);
            break;
        } /* fall through */
    case 2: /* dec, which keeps CF */
        flow_op_rr(f, 0xff, 1, l->reg, chance(r, 50) ? flow_word(f) : 4);
        flow_jump(f, chance(r, 50) ? 5 : 15, l->top);
        break;
    case 3: { /* no flag is touched: lea; xchg with rcx; jrcxz */
        u16 over = flow_new_label(f), stop = flow_new_label(f);
        u8 c[] = {0xe3, 0};
        flow_op_mem(f, 0x8d, l->reg, l->reg, 0xff, 0, -1, flow_word(f), 0);
        flow_op_rr(f, 0x87, l->reg, RCX, flow_word(f));
        flow_settle(f);
        gen_fix(flow_put(f, c, 2), FIX_REL8, 1, stop, 0);
        flow_op_rr(f, 0x87, l->reg, RCX, flow_word(f));
        flow_jump(f, JMP, l->top);
        flow_bind(f, stop);
        flow_op_rr(f, 0x87, l->reg, RCX, flow_word(f));
        flow_bind(f, over);
        break;
    }
    case 4: /* dec dword [slot] */
        flow_op_at(f, 0xff, 1, l->slot, 4, "", 0);
        flow_jump(f, 15, l->top);
        break;
    default: /* dec; jz out; a jump to an address, in a register or in memory */
        flow_op_rr(f, 0xff, 1, l->reg, 4);
        if (chance(r, 50)) {
            flow_jump(f, 4, l->out);
            unsigned t = flow_scratch(f);
            flow_move_label(f, t, l->top);
            flow_settle(f);
            flow_op_rr(f, 0xff, 4, t, 4); /* jmp t */
        } else {
            u64 where = flow_new_slot(f);
            flow_jump(f, 4, l->out);
            flow_store_label(f, where, l->top);
            flow_settle(f);
            flow_op_at(f, 0xff, 4, where, 4, "", 0);
        }
        break;
    }
}

void flow_loop(struct flow *f)
{
    struct rng *r = f->b.r;
    const unsigned most = ITERATIONS / f->around;
    struct counted l = {.kind = rng_below(r, 6), .reg = RCX};
    if (most < 2 || flow_free_registers(f) < 4 || flow_full(f))
        return;
    unsigned times = 2 + rng_below(r, MIN(most, chance(r, 30) ? 60u : 12u));
    u32 saved_fixed = f->b.fixed;
    int saved_counter = f->counter;
    l.top = flow_new_label(f);
    l.out = flow_new_label(f);
    const u16 again = flow_new_label(f);
    l.slot = flow_new_slot(f);

    if (l.kind == 0 && f->b.fixed >> RCX & 1)
        l.kind = 1;
    if (l.kind == 3 && f->b.fixed >> RCX & 1)
        l.kind = 2;
    if (l.kind != 0) {
        do
            l.reg = flow_scratch(f);
        while (l.reg == RCX);
    }
    if (l.kind == 4) {
        flow_op_at(f, 0xc7, 0, l.slot, 4, &(u32){times}, 4);
    } else {
        flow_move_imm(f, l.reg, times);
        f->b.fixed |= 1u << l.reg;
        f->counter = (int)l.reg;
        f->counts_from = times;
    }
    f->around *= times;
    f->depth++;
    if (chance(r, 15))
        flow_jump(f, JMP, again); /* into the middle: one time less */
    flow_bind(f, l.top);
    flow_body(f, 1 + rng_below(r, 4));
    if (chance(r, 30))
        flow_jump(f, rng_below(r, 16), l.out); /* break */
    if (chance(r, 30))
        flow_jump(f, rng_below(r, 16), again); /* continue */
    if (f->bomb && f->counter >= 0 && chance(r, 60))
        fault(f);
    if (chance(r, 40))
        flow_body(f, 1);
    flow_bind(f, again);
    count_down(f, &l);
    flow_bind(f, l.out);
    f->depth--;
    f->around /= times;
    f->b.fixed = saved_fixed;
    f->counter = saved_counter;
}

void flow_select_one(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 end = flow_new_label(f), arm[4];
    if (flow_free_registers(f) < 3 || flow_full(f))
        return;
    unsigned reg = flow_scratch(f);
    u64 table = COUNTERS + 8 * (f->slots % 24);
    f->slots += 4;
    for (unsigned k = 0; k < 4; k++)
        arm[k] = flow_new_label(f);
    for (unsigned k = 0; k < 4; k++)
        flow_store_label(f, table + k * flow_word(f), arm[k]);
    flow_straight(f, rng_below(r, 3));
    if (f->counter >= 0 && chance(r, 60))
        flow_op_rr(f, 0x89, (unsigned)f->counter, reg, 4); /* another way each time */
    u8 c[8];
    unsigned n = flow_encode(f, c, 0x83, 4, 4, reg);
    c[n++] = (u8)(0xe0 | (reg & 7)); /* and reg, 3 */
    c[n++] = 3;
    flow_put(f, c, n);
    flow_settle(f);
    /* jmp or call [table + reg * size]; called, each arm drops the return address */
    bool call = chance(r, 30);
    u8 j[10] = {0x42, 0xff, call ? 0x14 : 0x24, (u8)((flow_wide(f) ? 0xc0 : 0x80) | (reg & 7) << 3 | 5)};
    u32 disp = (u32)table;
    memcpy(j + 4, &disp, 4);
    flow_put(f, reg >= 8 ? j : j + 1, reg >= 8 ? 8 : 7);
    u32 fixed = f->b.fixed;
    for (unsigned k = 0; k < 4; k++) {
        flow_bind(f, arm[k]);
        if (call)
            flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)flow_word(f), flow_word(f), 0);
        flow_straight(f, 1 + rng_below(r, 3));
        if (k < 3)
            flow_jump(f, JMP, end);
        f->b.fixed = fixed;
    }
    flow_bind(f, end);
}
