/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_memory.c - accesses to memory: groups of them off one base across page ends, pointers that walk, runs of pushes and
 * pops, the device.
 */
#include "flow.h"

#include <string.h>

/* One access through a base register that never changes, or one that was just set. */
static void access_near(struct flow *f, unsigned base, s32 disp, unsigned index, unsigned scale, bool may_write)
{
    struct rng *r = f->b.r;
    static const u8 sizes[] = {1, 2, 4, 8, 8, 4};
    unsigned size = sizes[rng_below(r, ARRAY_SIZE(sizes))];
    if (size == 8 && !flow_wide(f))
        size = 4;
    unsigned reg = flow_scratch(f);
    if (size == 1 && !flow_wide(f))
        reg = f->b.fixed & 1 ? RDX : RAX; /* may be kept: then only read */
    bool kept = f->b.fixed >> reg & 1 || reg == RSP;
    switch (rng_below(r, 10)) {
    case 0:
    case 1: /* mov reg, m */
        if (!kept)
            flow_op_mem(f, size == 1 ? 0x8a : 0x8b, reg, base, index, scale, disp, size, 0);
        break;
    case 2: /* add, or, adc, sbb, and, sub, xor, cmp reg, m */
        if (!kept) {
            flow_settle(f);
            flow_op_mem(f, rng_below(r, 8) << 3 | (size == 1 ? 2 : 3), reg, base, index, scale, disp, size, 0);
        }
        break;
    case 3:
    case 4: /* mov m, reg */
        if (may_write)
            flow_op_mem(f, size == 1 ? 0x88 : 0x89, reg, base, index, scale, disp, size, 0);
        break;
    case 5: /* the same to memory */
        if (may_write) {
            flow_settle(f);
            flow_op_mem(f, rng_below(r, 7) << 3 | (size == 1 ? 0 : 1), reg, base, index, scale, disp, size, 0);
        }
        break;
    case 6: /* inc, dec, neg, not m */
        if (may_write)
            flow_op_mem(f, size == 1 ? 0xfe : 0xff, rng_below(r, 2), base, index, scale, disp, size, 0);
        break;
    case 7: /* movzx, movsx */
        if (!kept)
            flow_op_mem(f, (chance(r, 50) ? 0x0fb6 : 0x0fbe) + rng_below(r, 2), reg, base, index, scale, disp, size == 8 ? 8 : 4, 0);
        break;
    case 8: /* setcc m */
        if (may_write && !f->b.undefined)
            flow_op_mem(f, 0x0f90 | rng_below(r, 16), 0, base, index, scale, disp, 4, 0);
        break;
    default: /* movups xmm, m and back */
        if (may_write || chance(r, 50))
            flow_op_mem(f, may_write && chance(r, 50) ? 0x0f11 : 0x0f10, rng_below(r, 8), base, index, scale, disp, 4, 0);
        break;
    }
}

void flow_group(struct flow *f)
{
    struct rng *r = f->b.r;
    bool read_only = chance(r, 15), rash = !f->b.calm && chance(r, 30);
    u64 around = read_only ? DATA_BASE + DATA_RO + (chance(r, 50) ? 0 : 2048) :
        chance(r, 75)      ? DATA_BASE + 4096 * (1 + rng_below(r, 3)) :
                             DATA_BASE + 512 + rng_below(r, DATA_RO - 1024);
    if (rash) /* over the end, or to where nothing can be written */
        around = chance(r, 40) ? DATA_BASE : chance(r, 50) ? DATA_BASE + DATA_SIZE : DATA_BASE + DATA_RO;
    unsigned base, index = 0xff, scale = 0;
    u64 value;
    if (chance(r, 60)) {
        base = f->b.pointer[rng_below(r, 3)];
        value = f->b.q->init.gpr[base];
    } else {
        base = flow_scratch(f);
        value = around - rng_below(r, 200) + 100;
        flow_move_imm(f, base, (u32)value);
        f->b.fixed |= 1u << base; /* until the group is over */
    }
    u32 fixed = f->b.fixed;
    if (flow_free_registers(f) < 2)
        return;
    if (chance(r, 30)) {
        index = f->b.small;
        scale = rng_below(r, 4);
        value += f->b.q->init.gpr[index] << scale;
    }
    for (unsigned n = 2 + rng_below(r, 5); n--;) {
        if (chance(r, 25))
            flow_straight(f, 1);
        access_near(f, base, (s32)(around - value + rng_below(r, chance(r, 50) ? 24 : 64) - (chance(r, 50) ? 12 : 32)), index, scale,
            rash || !read_only);
    }
    f->b.fixed = fixed & ~(1u << base);
    if (base == f->b.pointer[0] || base == f->b.pointer[1] || base == f->b.pointer[2])
        f->b.fixed |= 1u << base;
}

void flow_walk(struct flow *f)
{
    struct rng *r = f->b.r;
    if (flow_free_registers(f) < 4 || flow_full(f))
        return;
    u32 saved = f->b.fixed;
    unsigned p = flow_scratch(f);
    f->b.fixed |= 1u << p;
    unsigned n = flow_scratch(f), times = 4 + rng_below(r, 24), stride = 1 + rng_below(r, chance(r, 50) ? 16 : 200);
    f->b.fixed |= 1u << n;
    bool off = f->bomb && chance(r, 40), down = chance(r, 40), read_only = off && chance(r, 50);
    u64 start = DATA_BASE + 4096 * (1 + rng_below(r, 3)) - (s64)(stride * times) / 2 * (down ? -1 : 1);
    if (off) {
        u64 end = read_only || down ? DATA_BASE + DATA_RO : DATA_BASE + DATA_SIZE;
        start = down ? DATA_BASE + rng_below(r, stride * times) : end - rng_below(r, stride * times);
        f->bomb = false;
    }
    if (start < DATA_BASE + 64 || start > DATA_BASE + DATA_SIZE)
        start = DATA_BASE + 0x800;
    u16 top = flow_new_label(f);
    flow_move_imm(f, p, (u32)start);
    flow_move_imm(f, n, times);
    flow_bind(f, top);
    bool write = !(off && !read_only && !down);
    for (unsigned k = 2 + rng_below(r, 4); k--;) {
        access_near(f, p, (s32)rng_below(r, 48) - 24, 0xff, 0, write);
        if (chance(r, 25))
            flow_straight(f, 1);
    }
    flow_settle(f);
    flow_op_mem(f, 0x8d, p, p, 0xff, 0, down ? -(s32)stride : (s32)stride, flow_word(f), 0); /* lea */
    flow_op_rr(f, 0xff, 1, n, 4);
    flow_jump(f, 5, top); /* dec n; jnz */
    f->b.fixed = saved;
}

/* Registers to the stack and back, in another order, of several sizes; RSP moved by hand in between. */
void flow_stack_run(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned n = 1 + rng_below(r, 6), room = 0;
    for (unsigned k = 0; k < n; k++) {
        unsigned kind = rng_below(r, 8);
        u8 c[8] = {0};
        unsigned reg = rng_below(r, flow_wide(f) ? 16 : 8), len = 0;
        if (kind == 0) {
            flow_settle(f);
            c[len++] = 0x9c;
        } else if (kind == 1) {
            c[len++] = 0x6a;
            c[len++] = (u8)rng_next(r);
        } else if (kind == 2) {
            c[len++] = 0x68;
            u32 x = (u32)rng_next(r);
            memcpy(c + 1, &x, 4);
            len = 5;
        } else if (kind == 3) {
            flow_op_mem(f, 0xff, 6, f->b.pointer[rng_below(r, 3)], 0xff, 0, (s8)rng_next(r), 4, 0);
            continue;
        } else {
            if (reg >= 8)
                c[len++] = 0x41;
            c[len++] = (u8)(0x50 | (reg & 7));
        }
        flow_put(f, c, len);
    }
    if (chance(r, 30)) {
        room = 8 * rng_below(r, 12);
        flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, -(s32)room, flow_word(f), 0);
    }
    for (unsigned k = rng_below(r, 4); k-- && n;) {
        unsigned at = room + rng_below(r, n * flow_word(f) - 7 > 32 ? 8 : 1);
        unsigned reg = rng_below(r, flow_wide(f) ? 16 : 8);
        if (chance(r, 50))
            flow_op_mem(f, 0x89, reg, RSP, 0xff, 0, (s32)at, chance(r, 50) ? flow_word(f) : 4, 0);
        else
            flow_op_mem(f, 0x8b, flow_scratch(f), RSP, 0xff, 0, (s32)at, flow_word(f), 0);
    }
    flow_straight(f, rng_below(r, 3));
    if (room && chance(r, 50)) {
        flow_op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)room, flow_word(f), 0);
        room = 0;
    }
    if (room || chance(r, 30)) { /* add rsp: all of it dropped */
        u8 c[8] = {0x48, 0x81, 0xc4};
        u32 x = room + n * flow_word(f);
        memcpy(c + 3, &x, 4);
        flow_put(f, flow_wide(f) ? c : c + 1, flow_wide(f) ? 7 : 6);
        return;
    }
    while (n--) {
        unsigned reg = flow_scratch(f);
        if (chance(r, 15)) {
            flow_op_mem(f, 0x8f, 0, f->b.pointer[rng_below(r, 3)], 0xff, 0, (s8)rng_next(r), 4, 0);
            continue;
        }
        flow_push_pop(f, 0x58, reg);
    }
}

void flow_poke(struct flow *f)
{
    struct rng *r = f->b.r;
    u64 at = DEVICE_BASE + 8 * rng_below(r, DEVICE_SIZE / 8 - 1);
    switch (rng_below(r, 4)) {
    case 0: flow_op_at(f, 0x8b, flow_scratch(f), at, 4, "", 0); break;
    case 1: flow_op_at(f, 0x01, flow_scratch(f), at, flow_word(f), "", 0); break;
    default: flow_op_at(f, 0x89, flow_scratch(f), at, 4, "", 0); break;
    }
}
