/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_calls.c - functions and the ways to call them and to return, calls without returns and returns without calls.
 */
#include "flow.h"

#include <string.h>

void flow_call(struct flow *f)
{
    struct rng *r = f->b.r;
    if (f->calls_from >= f->functions || f->around > ITERATIONS / 8)
        return;
    u16 to = f->function[f->calls_from + rng_below(r, f->functions - f->calls_from)], back = flow_new_label(f);
    u64 slot = flow_new_slot(f);
    const u32 saved = f->b.fixed & ~f->always; /* counters, which the function may overwrite */
    for (unsigned reg = 0; reg < 16; reg++)
        if (saved >> reg & 1)
            flow_push_pop(f, 0x50, reg);
    switch (rng_below(r, 8)) {
    default: flow_jump(f, CALL, to); break;
    case 4: { /* through a register */
        unsigned reg = flow_scratch(f);
        flow_move_label(f, reg, to);
        flow_settle(f);
        flow_op_rr(f, 0xff, 2, reg, 4);
        break;
    }
    case 5: /* through memory */
        flow_store_label(f, slot, to);
        flow_straight(f, rng_below(r, 2));
        flow_settle(f);
        flow_op_at(f, 0xff, 2, slot, 4, "", 0);
        break;
    case 6: { /* no call: an address is pushed */
        u8 c[5] = {0x68};
        gen_fix(flow_put(f, c, 5), FIX_ADDRESS32, 1, back, 0);
        flow_jump(f, JMP, to);
        flow_straight(f, 1);
        flow_bind(f, back);
        break;
    }
    case 7: { /* no jump: two addresses are pushed, and a return */
        u8 c[5] = {0x68}, ret[] = {0xc3};
        gen_fix(flow_put(f, c, 5), FIX_ADDRESS32, 1, back, 0);
        gen_fix(flow_put(f, c, 5), FIX_ADDRESS32, 1, to, 0);
        flow_settle(f);
        flow_put(f, ret, 1);
        flow_straight(f, 1);
        flow_bind(f, back);
        break;
    }
    }
    for (unsigned reg = 16; reg-- > 0;)
        if (saved >> reg & 1)
            flow_push_pop(f, 0x58, reg);
}

void flow_call_no_return(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 there = flow_new_label(f);
    flow_jump(f, CALL, there);
    if (chance(r, 50))
        flow_straight(f, 1); /* dead */
    flow_bind(f, there);
    unsigned reg = flow_scratch(f);
    if (chance(r, 70))
        flow_push_pop(f, 0x58, reg);
    else
        flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)flow_word(f), flow_word(f), 0);
}

void flow_function(struct flow *f, unsigned n)
{
    struct rng *r = f->b.r;
    u8 ret[] = {0xc3}, leave[] = {0xc9};
    bool frame = !(f->b.fixed >> RBP & 1) && chance(r, 40);
    u32 fixed = f->b.fixed;
    unsigned room = 8 * rng_below(r, 8);
    f->calls_from = n + 1;
    f->counter = -1;
    f->around = 12;
    f->depth = 1;
    f->budget = 4;
    flow_bind(f, f->function[n]);
    if (frame) { /* push rbp; mov rbp, rsp; sub rsp, room */
        flow_put(f, (const u8[]){0x55}, 1);
        flow_op_rr(f, 0x89, RSP, RBP, flow_word(f));
        flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, -(s32)room, flow_word(f), 0);
        f->b.fixed |= 1u << RBP;
        for (unsigned k = room / 8; k--;)
            if (chance(r, 50))
                flow_op_mem(f, chance(r, 50) ? 0x89 : 0x8b, flow_scratch(f), RBP, 0xff, 0, -(s32)(8 + rng_below(r, room)), 4, 0);
    }
    flow_body(f, 1 + rng_below(r, 4));
    if (frame)
        flow_put(f, leave, 1);
    f->b.fixed = fixed;
    flow_settle(f);
    unsigned reg = flow_scratch(f);
    switch (rng_below(r, 9)) {
    default: flow_put(f, ret, 1); break;
    case 4: /* pop reg; jmp reg */
        flow_push_pop(f, 0x58, reg);
        flow_op_rr(f, 0xff, 4, reg, 4);
        break;
    case 5: /* pop reg; push it twice; ret 8 */
        flow_push_pop(f, 0x58, reg);
        flow_push_pop(f, 0x50, reg);
        flow_push_pop(f, 0x50, reg);
        flow_put(f, flow_wide(f) ? (const u8[]){0xc2, 8, 0} : (const u8[]){0xc2, 4, 0}, 3);
        break;
    case 6: { /* returns by way of another return: the address of one is pushed */
        u16 at = flow_new_label(f);
        u8 c[5] = {0x68};
        gen_fix(flow_put(f, c, 5), FIX_ADDRESS32, 1, at, 0);
        flow_put(f, ret, 1);
        flow_straight(f, 1);
        flow_bind(f, at);
        flow_put(f, ret, 1);
        break;
    }
    case 7: /* into the next function, which returns for it */
        if (n + 1 < f->functions)
            flow_jump(f, JMP, f->function[n + 1]);
        else
            flow_put(f, ret, 1);
        break;
    case 8: /* add rsp; jmp [rsp - size] */
        flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)flow_word(f), flow_word(f), 0);
        flow_op_mem(f, 0xff, 4, RSP, 0xff, 0, -(s32)flow_word(f), 4, 0);
        break;
    }
    if (chance(r, 25)) /* the next lies on another line or page */
        f->b.q->insn[f->b.q->n - 1].pad = (u16)rng_below(r, 1500);
}
