/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_memory.c - accesses to memory: in any segment, about the ends of pages and segments, by pointers that walk, by
 * string instructions.
 */
#include "real.h"

#include <string.h>

u32 real_offset_in_data(struct prog *f)
{
    struct rng *r = f->b.r;
    if (!f->b.calm && chance(r, 10)) /* about the end of a segment */
        return 0xffff - rng_below(r, 12);
    if (chance(r, 30)) /* about a page's end */
        return (u32)(0x1000 * (1 + rng_below(r, 3)) - rng_below(r, 8) - (f->env->seg[DS].base & 0xfff));
    return 0x200 + rng_below(r, 0x3a00);
}

void real_access(struct prog *f, unsigned seg, u32 at, bool may_write)
{
    struct rng *r = f->b.r;
    static const u8 sizes[] = {1, 2, 2, 2, 4};
    const unsigned size = sizes[rng_below(r, ARRAY_SIZE(sizes))], byte = size == 1;
    const unsigned reg = byte ? RAX : real_scratch(f);
    const bool kept = f->b.fixed >> reg & 1;
    switch (rng_below(r, 12)) {
    case 0:
    case 1:
        if (!kept)
            real_op_mem(f, 0x8b - byte, reg, seg, at, size, 0);
        break;
    case 2: /* add, or, adc, sbb, and, sub, xor, cmp reg, m */
        real_settle(f);
        if (!kept)
            real_op_mem(f, (rng_below(r, 8) << 3 | 3) - byte, reg, seg, at, size, 0);
        break;
    case 3:
    case 4:
        if (may_write)
            real_op_mem(f, 0x89 - byte, reg, seg, at, size, 0);
        break;
    case 5:
        real_settle(f);
        if (may_write)
            real_op_mem(f, (rng_below(r, 7) << 3 | 1) - byte, reg, seg, at, size, 0);
        break;
    case 6: /* inc, dec */
        if (may_write)
            real_op_mem(f, 0xff - byte, rng_below(r, 2), seg, at, size, 0);
        break;
    case 7: /* movzx, movsx */
        if (!kept && size > 1)
            real_op_mem(f, (chance(r, 50) ? 0x0fb6 : 0x0fbe) + rng_below(r, 2), reg, seg, at, size, 0);
        break;
    case 8: /* setcc */
        real_settle(f);
        if (may_write)
            real_op_mem(f, 0x0f90 | rng_below(r, 16), 0, seg, at, 2, 0);
        break;
    case 9: /* not, neg */
        if (may_write)
            real_op_mem(f, 0xf7 - byte, 2 + rng_below(r, 2), seg, at, size, 0);
        break;
    case 10: { /* op m, imm8 */
        real_settle(f);
        if (!may_write)
            break;
        struct gen_insn *i = real_op_mem(f, byte ? 0x80 : 0x83, rng_below(r, 8), seg, at, size, 1);
        i->bytes[i->len - 1] = (u8)rng_next(r);
        break;
    }
    default: /* xchg, xadd; mov m, imm16 */
        if (may_write && !kept && chance(r, 60))
            real_op_mem(f, chance(r, 50) ? 0x87u - byte : 0x0fc1 - byte, reg, seg, at, size, 0);
        else if (may_write)
            real_op_mem(f, 0xc7, 0, seg, at, 2, 2);
        break;
    }
}

unsigned real_other_segment(struct prog *f)
{
    static const u8 list[] = {ES, DS, FS, GS, DS};
    return list[rng_below(f->b.r, ARRAY_SIZE(list))];
}

void real_access_near(struct prog *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 8)) {
    case 0: real_access(f, SS, 0x1800 + rng_below(r, 0x600), true); break;
    case 1: real_access(f, CS, (u32)f->b.q->init.rip + rng_below(r, 400), false); break;
    case 2:
    case 3:
    case 4: real_access(f, DS, real_offset_in_data(f), true); break;
    default: real_access(f, real_other_segment(f), real_offset_in_data(f), true); break;
    }
}

void real_walk(struct prog *f)
{
    struct rng *r = f->b.r;
    if (f->b.fixed & (1u << RDI | 1u << RCX) || real_free_registers(f) < 4 || real_full(f) || f->around > ITERATIONS / 24)
        return;
    const u32 saved = f->b.fixed;
    const unsigned times = 4 + rng_below(r, 20), stride = 1 + rng_below(r, 60), seg = real_other_segment(f);
    const u16 top = real_new_label(f);
    gen_set_register(&f->b, RDI, (0x1000 * (1 + rng_below(r, 3)) - stride * times / 2 - rng_below(r, 0x400)) & 0xffff);
    gen_set_register(&f->b, RCX, times);
    f->b.fixed |= 1u << RDI | 1u << RCX;
    real_place_label(f, top);
    for (unsigned k = 1 + rng_below(r, 3); k--;) {
        static const u8 ops[] = {0x8b, 0x89, 0x01, 0x03, 0x31, 0x33, 0x8a, 0x88, 0x00, 0x86, 0x87};
        const u8 op = ops[rng_below(r, ARRAY_SIZE(ops))];
        const unsigned reg = op & 1 ? real_scratch(f) : RAX;
        u8 c[] = {real_overrides[seg], 0x66, op, (u8)(0x45 | (reg & 7) << 3), (u8)rng_below(r, 24)};
        const bool wide = chance(r, 25);
        if (f->b.fixed >> reg & 1)
            continue;
        real_settle(f);
        if (!wide) {
            c[1] = real_overrides[seg];
            real_put(f, c + (seg == DS ? 2 : 1), seg == DS ? 3 : 4);
        } else {
            real_put(f, c, 5);
        }
        if (chance(r, 25))
            real_straight(f, 1);
    }
    PUT(f, 0x67, 0x8d, 0x7f, (u8)stride); /* lea di, [edi + stride] */
    real_settle(f);
    gen_fix(PUT(f, 0xe2, 0), FIX_REL8, 1, top, 0);
    f->b.q->insn[f->b.q->n - 1].skip = 1;
    f->b.fixed = saved;
}

void real_string(struct prog *f)
{
    struct rng *r = f->b.r;
    static const u8 ops[] = {0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
    u8 c[8];
    unsigned n = 0, rep = rng_below(r, 4);
    if (f->b.fixed & (1u << RCX | 1u << RSI | 1u << RDI | 1u << RAX) || real_full(f))
        return;
    const bool edge = !f->b.calm && chance(r, 20);
    real_move_imm(f, RSI, edge && chance(r, 50) ? 0x10000 - rng_below(r, 40) : real_offset_in_data(f));
    real_move_imm(f, RDI, edge ? 0x10000 - rng_below(r, 40) : real_offset_in_data(f));
    if (rep < 2) {
        real_move_imm(f, RCX, rng_below(r, 40));
        c[n++] = (u8)(0xf2 | rng_below(r, 2));
    }
    if (chance(r, 30))
        PUT(f, (u8)(0xfc | rng_below(r, 2)));
    real_settle(f);
    if (chance(r, 30))
        c[n++] = real_overrides[f->env->cuts ? (chance(r, 50) ? ES : FS) : rng_below(r, SEG_COUNT)];
    if (chance(r, 25))
        c[n++] = 0x66;
    if (chance(r, 15))
        c[n++] = 0x67;
    c[n++] = ops[rng_below(r, ARRAY_SIZE(ops))];
    for (unsigned k = rep < 2 ? 1 : 1 + rng_below(r, 4); k--;)
        real_put(f, c, n);
    if (chance(r, 60))
        PUT(f, 0xfc);
}
