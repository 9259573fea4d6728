/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_stack.c - flags, pushed, popped and used; runs of pushes and pops of both sizes; the stack segment.
 */
#include "real.h"

#include <string.h>

void real_flags_used(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = real_scratch(f);
    real_settle(f);
    for (unsigned n = 1 + rng_below(r, 3); n--;)
        switch (rng_below(r, 9)) {
        case 0: PUT(f, 0x0f, (u8)(0x40 | rng_below(r, 16)), (u8)(0xc0 | reg << 3 | rng_below(r, 8))); break;
        case 1: PUT(f, chance(r, 50) ? 0x11 : 0x19, (u8)(0xc0 | rng_below(r, 8) << 3 | reg)); break;
        case 2: /* pushf; pop */
            if (!real_may_change_if(f))
                break;
            PUT(f, 0x9c);
            PUT(f, (u8)(0x58 | reg));
            break;
        case 3: /* pushf; pop; change some, with IF, DF; push; popf */
            if (!real_may_change_if(f))
                break;
            PUT(f, 0x9c);
            PUT(f, (u8)(0x58 | reg));
            PUT(f, 0x81, (u8)(0xf0 | reg), (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 0x0e));
            PUT(f, (u8)(0x50 | reg));
            PUT(f, 0x9d);
            break;
        case 4: /* the same of 32 bits, with ID, and AC */
            if (!real_may_change_if(f))
                break;
            PUT(f, 0x66, 0x9c);
            PUT(f, 0x66, (u8)(0x58 | reg));
            PUT(f, 0x66, 0x81, (u8)(0xf0 | reg), (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 0x0e),
                (u8)(rng_next(r) & (f->b.calm ? 0x20 : 0x24)), 0); /* AC may fault, and an interrupt in real mode clears it */
            PUT(f, 0x66, (u8)(0x50 | reg));
            PUT(f, 0x66, 0x9d);
            break;
        case 5:
        case 6: /* cli, sti */
            if (real_may_change_if(f))
                PUT(f, (u8)(0xfa | rng_below(r, 2)));
            break;
        case 7:
            if (f->b.fixed & 1)
                break;
            PUT(f, 0x9f);
            real_straight(f, rng_below(r, 2));
            real_settle(f);
            PUT(f, 0x9e);
            break;
        default: PUT(f, (const u8[]){0xf5, 0xf8, 0xf9}[rng_below(r, 3)]); break;
        }
}

void real_stack_run(struct prog *f)
{
    struct rng *r = f->b.r;
    unsigned bytes = 0;
    if (chance(r, 15)) { /* pusha; popa */
        const bool wide = chance(r, 40);
        real_put(f, wide ? (const u8[]){0x66, 0x60} : (const u8[]){0x60}, 1u + wide)->keep = true;
        real_straight(f, rng_below(r, 3));
        real_put(f, wide ? (const u8[]){0x66, 0x61} : (const u8[]){0x61}, 1u + wide)->keep = true;
        return;
    }
    if (chance(r, 10) && !(f->env->seg[SS].attr & SEG_DB)) { /* enter; leave, which takes ESP from EBP then */
        PUT(f, 0xc8, (u8)(2 * rng_below(r, 40)), 0, f->env->cuts ? 0 : (u8)rng_below(r, 4))->keep = true;
        PUT(f, 0xc9)->keep = true;
        return;
    }
    for (unsigned n = 1 + rng_below(r, 6); n--;) {
        const bool wide = chance(r, 25);
        const unsigned reg = rng_below(r, 8);
        const u32 x = (u32)rng_next(r);
        bytes += wide ? 4 : 2;
        switch (rng_below(r, 8)) {
        case 0: real_put(f, wide ? (const u8[]){0x66, 0x6a, (u8)x} : (const u8[]){0x6a, (u8)x}, 2u + wide); break;
        case 1:
            if (wide)
                PUT(f, 0x66, 0x68, (u8)x, (u8)(x >> 8), (u8)(x >> 16), (u8)(x >> 24));
            else
                PUT(f, 0x68, (u8)x, (u8)(x >> 8));
            break;
        case 2: real_op_mem(f, 0xff, 6, DS, real_offset_in_data(f), wide ? 4 : 2, 0); break;
        case 3:
            if (wide && f->env->cuts)
                bytes -= 4;
            else
                real_push_segment(f, rng_below(r, SEG_COUNT), wide);
            break;
        case 4: real_put(f, wide ? (const u8[]){0x66, 0xff, (u8)(0xf0 | reg)} : (const u8[]){0xff, (u8)(0xf0 | reg)}, 2u + wide); break;
        default: real_put(f, wide ? (const u8[]){0x66, (u8)(0x50 | reg)} : (const u8[]){(u8)(0x50 | reg)}, 1u + wide); break;
        }
    }
    real_straight(f, rng_below(r, 3));
    if (chance(r, 30)) { /* add sp */
        PUT(f, 0x83, 0xc4, (u8)bytes);
        return;
    }
    while (bytes) {
        const bool wide = bytes >= 4 && chance(r, 25);
        const unsigned reg = real_scratch(f);
        bytes -= wide ? 4 : 2;
        switch (rng_below(r, 8)) {
        case 0: real_op_mem(f, 0x8f, 0, DS, real_offset_in_data(f), wide ? 4 : 2, 0); break;
        case 1: real_put(f, wide ? (const u8[]){0x66, 0x8f, (u8)(0xc0 | reg)} : (const u8[]){0x8f, (u8)(0xc0 | reg)}, 2u + wide); break;
        default: real_put(f, wide ? (const u8[]){0x66, (u8)(0x58 | reg)} : (const u8[]){(u8)(0x58 | reg)}, 1u + wide); break;
        }
    }
}

void real_stack_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = real_scratch(f);
    const u32 slot = real_new_slot(f);
    switch (rng_below(r, 4)) {
    case 0: /* mov ss, reg */
        PUT(f, 0x8c, (u8)(0xd0 | reg));
        PUT(f, 0x8e, (u8)(0xd0 | reg));
        break;
    case 1: /* push ss; pop ss */
        PUT(f, 0x16);
        PUT(f, 0x17);
        break;
    case 2: { /* mov [slot], sp; mov [slot + 2], ss; lss sp, [slot] */
        PUT(f, 0x36, 0x89, 0x26, (u8)slot, (u8)(slot >> 8));
        PUT(f, 0x36, 0x8c, 0x16, (u8)(slot + 2), (u8)((slot + 2) >> 8));
        PUT(f, 0x36, 0x0f, 0xb2, 0x26, (u8)slot, (u8)(slot >> 8));
        break;
    }
    default: /* mov reg, ss; dec reg; mov ss, reg; lea sp, [esp + 16]; and back */
        real_settle(f);
        PUT(f, 0x8c, (u8)(0xd0 | reg))->keep = true;
        PUT(f, (u8)(0x48 | reg), 0x8e, (u8)(0xd0 | reg), 0x67, 0x8d, 0x64, 0x24, 0x10)->keep = true;
        PUT(f, 0x50)->keep = true;
        PUT(f, 0x36, 0x67, 0x8b, 0x04 | (u8)(reg << 3), 0x24)->keep = true;
        PUT(f, 0x67, 0x8d, 0x64, 0x24, 0x02)->keep = true;
        PUT(f, 0x8c, (u8)(0xd0 | reg))->keep = true;
        PUT(f, (u8)(0x40 | reg), 0x8e, (u8)(0xd0 | reg), 0x67, 0x8d, 0x64, 0x24, 0xf0)->keep = true;
        break;
    }
}
