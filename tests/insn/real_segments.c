/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_segments.c - segment registers, loaded in all ways and stored; the device, which ES leads to.
 */
#include "real.h"

u32 real_any_selector(struct prog *f, unsigned seg)
{
    struct rng *r = f->b.r;
    if (f->env->cuts || seg == DS || chance(r, 60))
        return seg != DS && chance(r, 8) ? REAL_DEVICE >> 4 : (REAL_DATA >> 4) + rng_below(r, 0x40);
    switch (rng_below(r, 5)) {
    case 0: return 0xffff - rng_below(r, 0x100); /* beyond 1 MiB */
    case 1: return REAL_STACK >> 4;
    case 2: return f->env->seg[CS].selector;
    case 3: return rng_below(r, 0x10000);
    default: return REAL_DATA >> 4;
    }
}

static void pop_segment(struct prog *f, unsigned seg, bool wide)
{
    static const u16 pops[SEG_COUNT] = {[ES] = 0x07, [SS] = 0x17, [DS] = 0x1f, [FS] = 0x0fa1, [GS] = 0x0fa9};
    u8 c[3] = {0x66, (u8)(pops[seg] >> 8), (u8)pops[seg]};
    if (!c[1]) {
        c[1] = c[2];
        real_put(f, c + !wide, 1u + wide);
    } else {
        real_put(f, c + !wide, 2u + wide);
    }
}
void real_push_segment(struct prog *f, unsigned seg, bool wide)
{
    static const u16 pushes[SEG_COUNT] = {0x06, 0x0e, 0x16, 0x1e, 0x0fa0, 0x0fa8};
    u8 c[3] = {0x66, (u8)(pushes[seg] >> 8), (u8)pushes[seg]};
    if (!c[1]) {
        c[1] = c[2];
        real_put(f, c + !wide, 1u + wide);
    } else {
        real_put(f, c + !wide, 2u + wide);
    }
}

void real_load_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    static const u8 to[] = {ES, ES, DS, DS, FS, GS};
    const unsigned seg = to[rng_below(r, ARRAY_SIZE(to))], reg = real_scratch(f);
    const u32 sel = real_any_selector(f, seg), slot = real_new_slot(f);
    const bool wide = !f->env->cuts && chance(r, 25);
    switch (rng_below(r, 7)) {
    default:
        real_move_imm(f, reg, sel);
        if (wide)
            PUT(f, 0x66, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        else
            PUT(f, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        break;
    case 2:
        if (wide)
            PUT(f, 0x66, 0x68, (u8)sel, (u8)(sel >> 8), 0, 0);
        else
            PUT(f, 0x68, (u8)sel, (u8)(sel >> 8));
        pop_segment(f, seg, wide);
        break;
    case 3: /* from memory */
        real_store(f, slot, sel);
        real_op_mem(f, 0x8e, seg, SS, slot, 2, 0);
        break;
    case 4: /* LES, LDS, LFS, LGS */
        real_store(f, slot, rng_below(r, 0x3000));
        real_store(f, slot + 2 + (wide ? 2 : 0), sel);
        if (wide)
            real_store(f, slot + 2, 0);
        real_op_mem(f, seg == ES ? 0xc4 : seg == DS ? 0xc5 : seg == FS ? 0x0fb4 : 0x0fb5, reg, SS, slot, wide ? 4 : 2, 0);
        break;
    case 5: /* from another */
        real_push_segment(f, DS, wide);
        pop_segment(f, seg, wide);
        break;
    case 6:
        PUT(f, 0x8c, (u8)(0xc0 | DS << 3 | reg));
        PUT(f, 0x8e, (u8)(0xc0 | seg << 3 | reg));
        break;
    }
    for (unsigned n = rng_below(r, 3); n--;)
        real_access(f, seg, real_offset_in_data(f), true);
}

void real_store_segment(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned seg = rng_below(r, SEG_COUNT), reg = real_scratch(f);
    switch (rng_below(r, 4)) {
    case 0: real_op_mem(f, 0x8c, seg, SS, real_new_slot(f), chance(r, 30) ? 4 : 2, 0); break;
    case 1: /* push; pop */
        real_push_segment(f, seg, false);
        PUT(f, (u8)(0x58 | reg));
        break;
    case 2: PUT(f, 0x66, 0x8c, (u8)(0xc0 | seg << 3 | reg)); break;
    default: PUT(f, 0x8c, (u8)(0xc0 | seg << 3 | reg)); break;
    }
}

void real_poke(struct prog *f)
{
    struct rng *r = f->b.r;
    const unsigned reg = real_scratch(f);
    if (chance(r, 40) && !(f->b.fixed & 1)) {
        PUT(f, chance(r, 50) ? 0xe4 : 0xe5, 0x70);
        return;
    }
    real_move_imm(f, reg, REAL_DEVICE >> 4);
    PUT(f, 0x8e, (u8)(0xc0 | ES << 3 | reg));
    for (unsigned n = 1 + rng_below(r, 3); n--;)
        real_access(f, ES, 0x10 + rng_below(r, 0xf00), true);
    real_move_imm(f, reg, real_any_selector(f, ES));
    PUT(f, 0x8e, (u8)(0xc0 | ES << 3 | reg));
}
