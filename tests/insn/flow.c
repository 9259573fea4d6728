/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - random programs: gen.c's instructions in loops, functions, jumps of all kinds, runs of pushes and pops, and
 * groups of accesses off one base across page ends; code that overwrites itself where it runs.
 *
 * Most programs are calm: only instructions that do not fault, and perhaps one fault made on purpose, in the middle of a
 * loop. What keeps a program going is said in flow.h.
 */
#include "flow.h"

#include <string.h>

static const unsigned weights[B_COUNT] = {82, 5, 2, 2, 6, 3, 3, 0};

/* Reads flags that some block before made. */
static void flags_used(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned cc = rng_below(r, 16), reg = flow_scratch(f), size = chance(r, 50) ? flow_word(f) : 4;
    flow_settle(f);
    for (unsigned n = 1 + rng_below(r, 3); n--;) {
        switch (rng_below(r, 7)) {
        case 0: flow_op_rr(f, 0x0f90 | cc, 0, flow_wide(f) ? reg : f->b.fixed & 1 ? RDX : RAX, 1); break;
        case 1: flow_op_rr(f, 0x0f40 | cc, reg, rng_below(r, flow_wide(f) ? 16 : 8), size); break;
        case 2: flow_op_rr(f, chance(r, 50) ? 0x11 : 0x19, rng_below(r, 8), reg, size); break;
        case 3: { /* pushf; pop */
            u8 c[] = {0x9c};
            flow_put(f, c, 1);
            flow_push_pop(f, 0x58, reg);
            break;
        }
        case 4: { /* lahf; and back, changed or not */
            u8 c[] = {0x9f};
            if (f->b.fixed & 1)
                break;
            flow_put(f, c, 1);
            if (chance(r, 50))
                flow_straight(f, 1);
            flow_settle(f);
            c[0] = 0x9e;
            flow_put(f, c, 1);
            break;
        }
        case 5: { /* pushf; change some; popf */
            u8 c[] = {0x9c, 0x81, 0x34, 0x24, (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 8), 0, 0, 0x9d};
            flow_put(f, c, 1);
            flow_put(f, c + 1, 7);
            flow_put(f, c + 8, 1);
            break;
        }
        default: { /* cmc, stc, clc */
            static const u8 ops[] = {0xf5, 0xf8, 0xf9};
            flow_put(f, ops + rng_below(r, 3), 1);
            break;
        }
        }
        cc = rng_below(r, 16);
    }
}

/* An immediate somewhere near is overwritten, with what a register holds or its next value. */
static void patch(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 at = flow_new_label(f);
    bool before = chance(r, 50);
    unsigned reg = flow_scratch(f), from = flow_scratch(f);
    u8 c[16] = {0};
    if (f->counter >= 0 && chance(r, 60))
        from = (unsigned)f->counter;
    for (unsigned pass = 0; pass < 2; pass++) {
        if ((pass == 0) == before) {
            unsigned n = flow_encode(f, c, 0x89, from, 4, 0); /* mov [at + 1 or 2], from */
            if (chance(r, 40)) {
                n = 0;
                if (flow_wide(f))
                    c[n++] = (u8)(0x40 | from >> 3 << 2);
                c[n++] = 0x00; /* add byte [..], from */
                if (!flow_wide(f) && from >= 4)
                    from &= 3;
            }
            if (flow_wide(f)) {
                c[n++] = (u8)((from & 7) << 3 | 4);
                c[n++] = 0x25;
            } else {
                c[n++] = (u8)((from & 7) << 3 | 5);
            }
            struct gen_insn *i = flow_put(f, c, n + 4);
            gen_fix(i, FIX_ADDRESS32, n, at, reg >= 8 ? 2 : 1);
            f->b.q->patches_itself = true;
        } else { /* mov reg, imm32 */
            flow_bind(f, at);
            flow_move_imm(f, reg, (u32)rng_next(r));
        }
        if (pass == 0 && chance(r, 50))
            flow_straight(f, 1 + rng_below(r, 3));
    }
}

static void item(struct flow *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 26)) {
    case 0:
    case 1:
    case 2: flow_if_else(f); break;
    case 3:
    case 4:
    case 5:
    case 6:
        if (f->depth < 3)
            flow_loop(f);
        break;
    case 7:
    case 8:
    case 9: flow_call(f); break;
    case 10:
    case 11:
    case 12: flow_group(f); break;
    case 13: flow_walk(f); break;
    case 14:
    case 15: flow_stack_run(f); break;
    case 16:
    case 17:
    case 18: flags_used(f); break;
    case 19:
        if (f->depth < 2)
            flow_select_one(f);
        break;
    case 20: flow_call_no_return(f); break;
    case 21:
        if (chance(r, 30))
            patch(f);
        break;
    case 22: flow_poke(f); break;
    default: flow_straight(f, 1 + rng_below(r, 5)); break;
    }
}

void flow_body(struct flow *f, unsigned items)
{
    while (items-- && f->budget && !flow_full(f)) {
        f->budget--;
        item(f);
        if (chance(f->b.r, 50))
            flow_straight(f, 1 + rng_below(f->b.r, 3));
    }
}

void gen_program(const struct gen *g, struct rng *r, struct sequence *q)
{
    struct flow f = {.b = {.g = g, .r = r, .q = q, .weights = weights, .flow = true}, .counter = -1, .around = 1, .depth = 0};
    static const u8 pool64[] = {RBX, RBP, R8, R9, R10, R11, R12, R13, R14, R15}, pool32[] = {RBX, RBP, RSI};
    u8 end[] = {0xcc};

    q->n = 0;
    q->segmented = q->real = q->patches_itself = false;
    q->flow = true;
    q->bits = chance(r, 75) ? 64 : 32;
    q->code = CODE_BASE + 0x800 + (chance(r, 40) ? 0x800 - rng_below(r, 512) : rng_below(r, 0x800));
    q->data_seed = rng_next(r);
    q->init.rip = q->code;
    q->init.rflags = RFLAGS_FIXED | RFLAGS_IF | (rng_next(r) & RFLAGS_ARITH) | (chance(r, 20) ? RFLAGS_DF : 0);
    gen_fpu(r, q->init.xsave, g->isa[ISA_AVX], g->isa[ISA_AVX512F]);
    memcpy(q->init.xsave, &(u16){0x37f}, 2); /* nothing is unmasked, nothing pending */
    memset(q->init.xsave + 2, 0, 2);
    memcpy(q->init.xsave + 24, &(u32){0x1f80}, 4);
    for (unsigned i = 0; i < 16; i++)
        q->init.gpr[i] = q->bits == 64 ? gen_number(r) : i < 8 ? (u32)gen_number(r) : 0;
    f.b.calm = chance(r, 80);
    f.bomb = !f.b.calm || chance(r, 40);

    unsigned start = rng_below(r, 5);
    for (unsigned i = 0; i < 3; i++)
        f.b.pointer[i] = q->bits == 64 ? pool64[(start + i * 5 / 2) % ARRAY_SIZE(pool64)] : pool32[0];
    do
        f.b.small = q->bits == 64 ? pool64[rng_below(r, ARRAY_SIZE(pool64))] : pool32[1];
    while (f.b.small == f.b.pointer[0] || f.b.small == f.b.pointer[1] || f.b.small == f.b.pointer[2]);
    for (unsigned i = 0; i < 3; i++) {
        f.b.fixed |= 1u << f.b.pointer[i];
        q->init.gpr[f.b.pointer[i]] = DATA_BASE + 0x200 + rng_below(r, DATA_RO - 0x1000);
    }
    f.b.fixed |= 1u << f.b.small;
    q->init.gpr[f.b.small] = rng_below(r, 200);
    f.always = f.b.fixed;
    q->init.gpr[RSP] = STACK_BASE + 0x1000 + 8 * rng_below(r, 32);

    f.functions = rng_below(r, FUNCTIONS + 1);
    for (unsigned i = 0; i < f.functions; i++)
        f.function[i] = flow_new_label(&f);
    u16 begin = flow_new_label(&f);
    bool functions_first = chance(r, 30);
    if (functions_first) {
        flow_jump(&f, JMP, begin);
        for (unsigned i = 0; i < f.functions; i++)
            flow_function(&f, i);
    }
    flow_bind(&f, begin);
    f.calls_from = 0;
    f.counter = -1;
    f.around = 1;
    f.depth = 0;
    f.budget = 8 + rng_below(r, 12);
    flow_body(&f, f.budget);
    if (f.bomb && chance(r, 50))
        flow_loop(&f);
    flow_settle(&f);
    flow_put(&f, end, 1);
    if (!functions_first)
        for (unsigned i = 0; i < f.functions; i++)
            flow_function(&f, i);
    flow_shorten(&f);
}
