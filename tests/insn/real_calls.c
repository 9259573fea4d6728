/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_calls.c - functions, near, far and like handlers of interrupts, and the ways to call them; far jumps.
 */
#include "real.h"

#include <string.h>

/* The offset of a label under CS less k, selector behind. */
static void far_at(struct prog *f, struct gen_insn *i, unsigned off, u16 to, unsigned k)
{
    const u16 sel = (u16)(f->env->seg[CS].selector - k);
    const bool wide = i->len - off == 6;
    memcpy(i->bytes + i->len - 2, &sel, 2);
    gen_fix(i, wide ? FIX_ADDRESS32 : FIX_ADDRESS16, off, to, (int)(16 * k));
}

void real_call(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->calls_from >= f->functions || f->around > ITERATIONS / 8)
        return;
    const unsigned n = f->calls_from + rng_below(r, f->functions - f->calls_from);
    const u16 to = f->function[n].label;
    const bool wide = f->function[n].wide;
    const unsigned k = chance(r, 50) ? 0 : rng_below(r, 8), reg = real_scratch(f);
    const u32 slot = real_new_slot(f);
    const u32 saved = f->b.fixed & ~(1u << RBX | 1u << f->b.small);
    for (unsigned g = 0; g < 8; g++) /* counters */
        if (saved >> g & 1)
            real_put(f, (const u8[]){0x66, (u8)(0x50 | g)}, 2);
    if (f->counter >= 0) /* a slot may be taken twice */
        PUT(f, 0x36, 0xff, 0x36, (u8)f->counter, (u8)(f->counter >> 8));
    for (unsigned d = f->function[n].drops; d; d -= 2)
        PUT(f, (u8)(0x50 | rng_below(r, 8)));
    real_settle(f);
    if (f->function[n].kind == BY_IRET)
        real_put(f, wide ? (const u8[]){0x66, 0x9c} : (const u8[]){0x9c}, 1u + wide);
    if (f->function[n].kind == NEAR) {
        /* A label is of no use where CS may be another. */
        switch (f->moved ? 0 : rng_below(r, 6)) {
        default: {
            const u8 c[] = {0x66, CALL, 0, 0, 0, 0};
            gen_fix(real_put(f, c + !wide, wide ? 6 : 3), wide ? FIX_REL32 : FIX_REL16, 1u + wide, to, 0);
            break;
        }
        case 3: /* through a register */
            gen_fix(PUT(f, 0x66, (u8)(0xb8 | reg), 0, 0, 0, 0), FIX_ADDRESS32, 2, to, 0);
            real_put(f, wide ? (const u8[]){0x66, 0xff, (u8)(0xd0 | reg)} : (const u8[]){0xff, (u8)(0xd0 | reg)}, 2u + wide);
            break;
        case 4: /* through memory */
            real_store_label(f, slot, to);
            real_store(f, slot + 2, 0);
            real_op_mem(f, 0xff, 2, SS, slot, wide ? 4 : 2, 0);
            break;
        case 5: { /* two addresses are pushed, and a return */
            const u16 back = real_new_label(f);
            const u8 c[] = {0x66, 0x68, 0, 0, 0, 0}, ret[] = {0x66, 0xc3};
            for (unsigned p = 0; p < 2; p++)
                gen_fix(real_put(f, c + !wide, wide ? 6 : 3), wide ? FIX_ADDRESS32 : FIX_ADDRESS16, 1u + wide, p ? to : back, 0);
            real_put(f, ret + !wide, 1u + wide);
            real_place_label(f, back);
            break;
        }
        }
    } else {
        switch (rng_below(r, f->moved ? 3 : 4)) {
        default: { /* call selector:offset */
            const u8 c[10] = {0x66, 0x9a};
            far_at(f, real_put(f, c + !wide, wide ? 8 : 5), 1u + wide, to, k);
            break;
        }
        case 2: { /* through memory */
            const u16 sel = (u16)(f->env->seg[CS].selector - k);
            gen_fix(real_store(f, slot, 0), FIX_ADDRESS16, 5, to, (int)(16 * k));
            if (wide)
                real_store(f, slot + 2, 0);
            real_store(f, slot + (wide ? 4 : 2), sel);
            real_op_mem(f, 0xff, 3, SS, slot, wide ? 4 : 2, 0);
            break;
        }
        case 3: { /* push cs; a near call */
            const u8 c[] = {0x66, CALL, 0, 0, 0, 0};
            real_push_segment(f, CS, wide);
            gen_fix(real_put(f, c + !wide, wide ? 6 : 3), wide ? FIX_REL32 : FIX_REL16, 1u + wide, to, 0);
            break;
        }
        }
    }
    if (f->counter >= 0)
        PUT(f, 0x36, 0x8f, 0x06, (u8)f->counter, (u8)(f->counter >> 8));
    for (unsigned g = 8; g-- > 0;)
        if (saved >> g & 1)
            real_put(f, (const u8[]){0x66, (u8)(0x58 | g)}, 2);
}

void real_far_jump(struct prog *f)
{
    struct rng *r = f->b.r;
    const u16 on = real_new_label(f);
    const bool wide = !f->env->cuts && chance(r, 40);
    const unsigned kind = rng_below(r, real_may_change_if(f) ? 5 : 4);
    const u32 slot = real_new_slot(f);
    if (f->moved)
        return;
    real_settle(f);
    switch (kind) {
    default: {
        const u8 c[10] = {0x66, 0xea};
        far_at(f, real_put(f, c + !wide, wide ? 8 : 5), 1u + wide, on, 0);
        break;
    }
    case 2: /* through memory */
        real_store_label(f, slot, on);
        if (wide)
            real_store(f, slot + 2, 0);
        real_store(f, slot + (wide ? 4 : 2), f->env->seg[CS].selector);
        real_op_mem(f, 0xff, 5, SS, slot, wide ? 4 : 2, 0);
        break;
    case 3:
    case 4: { /* [pushf;] push cs; push on; retf or iret */
        const u8 c[] = {0x66, 0x68, 0, 0, 0, 0}, end[] = {0x66, kind == 3 ? 0xcb : 0xcf}, pushf[] = {0x66, 0x9c};
        if (kind == 4)
            real_put(f, pushf + !wide, 1u + wide);
        real_push_segment(f, CS, wide);
        gen_fix(real_put(f, c + !wide, wide ? 6 : 3), wide ? FIX_ADDRESS32 : FIX_ADDRESS16, 1u + wide, on, 0);
        real_put(f, end + !wide, 1u + wide);
        break;
    }
    }
    if (chance(r, 30))
        real_straight(f, 1); /* dead */
    real_place_label(f, on);
}

void real_function(struct prog *f, unsigned n)
{
    struct rng *r = f->b.r;
    const bool wide = f->function[n].wide;
    const u8 drops = f->function[n].drops, kind = f->function[n].kind;
    f->calls_from = n + 1;
    f->counter = -1;
    f->around = 12;
    f->depth = 1;
    f->budget = 4;
    f->moved = kind != NEAR || f->functions > 1; /* a far one may call it */
    real_place_label(f, f->function[n].label);
    real_body(f, 1 + rng_below(r, 4));
    real_settle(f);
    u8 c[4] = {0x66, kind == BY_IRET ? 0xcf : (u8)((drops ? 0xc2 : 0xc3) | (kind == FAR ? 8 : 0)), drops, 0};
    if (kind == NEAR && !drops && !wide && chance(r, 20)) { /* pop reg; jmp reg */
        const unsigned reg = real_scratch(f);
        PUT(f, (u8)(0x58 | reg));
        PUT(f, 0xff, (u8)(0xe0 | reg));
    } else {
        real_put(f, c + !wide, 1u + wide + (drops ? 2 : 0));
    }
    if (chance(r, 25)) /* the next lies on another line or page */
        f->b.q->insn[f->b.q->n - 1].pad = (u16)rng_below(r, 1500);
    f->moved = false;
}
