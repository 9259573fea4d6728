/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow.c - random programs: gen.c's instructions in loops, functions, jumps of all kinds, runs of pushes and pops, and
 * groups of accesses off one base across page ends; code that overwrites itself where it runs.
 *
 * All that keeps a program going - counters of loops, return addresses, tables of addresses - is in registers and memory
 * that its other instructions do not write, so most programs come to their end, the others to a fault; the host's watchdog
 * takes care of what remains. Flags have defined values wherever control comes together (settle), so that what is read
 * in one block may have been made in any other. Most programs are calm: only instructions that do not fault, and perhaps
 * one fault made on purpose, in the middle of a loop.
 */
#include "gen.h"

#include <string.h>

#include "cpu/cpu.h"

static const unsigned weights[B_COUNT] = {82, 5, 2, 2, 6, 3, 3, 0};
enum { FUNCTIONS = 5, ITERATIONS = 1500 /* of all loops around an instruction, about */ };

struct flow {
    struct build b;
    unsigned labels, slots, depth, around, budget;
    u16 function[FUNCTIONS];
    unsigned functions, calls_from; /* a function calls only those behind it: no recursion but a counted one */
    int counter;                    /* register that counts the loop around, or -1 */
    unsigned counts_from;
    u32 always;                     /* fixed in functions, too */
    bool bomb;                      /* one fault made on purpose, not yet placed */
};

static void body(struct flow *f, unsigned items);
static void fault(struct flow *f);
static void settle(struct flow *f);

/* ---- pieces ------------------------------------------------------------------------ */

static bool wide(const struct flow *f) { return f->b.q->bits == 64; }
static bool full(const struct flow *f) { return f->b.q->n > SEQ_MAX - 60 || f->labels > LABEL_MAX - 24; }
static unsigned word_size(const struct flow *f) { return wide(f) ? 8 : 4; }

static struct gen_insn *put(struct flow *f, const u8 *bytes, unsigned n)
{
    if (gen_reads_undefined(&f->b, bytes, n))
        settle(f);
    return gen_append(&f->b, bytes, n);
}

static u16 new_label(struct flow *f) { return (u16)++f->labels; }

/* All flags get a value: cmp of two registers. */
static void settle(struct flow *f)
{
    if (!f->b.undefined)
        return;
    u8 c[] = {0x39, (u8)(0xc0 | rng_below(f->b.r, 64))};
    put(f, c, 2)->keep = true; /* the rules hold for what is left of a program, too */
}

static void bind(struct flow *f, u16 label)
{
    settle(f);
    struct gen_insn *i = put(f, NULL, 0);
    i->label = label;
    i->keep = true;
}

static void fix(struct gen_insn *i, enum fix kind, unsigned off, u16 to, int add)
{
    i->fix = (u8)kind;
    i->fix_off = (u8)off;
    i->to = to;
    i->add = (s16)add;
}

static struct gen_insn *jump(struct flow *f, unsigned what, u16 to)
{
    settle(f);
    u8 c[6] = {(u8)what};
    unsigned n = 1;
    if (what < 16) {
        c[0] = 0x0f;
        c[1] = (u8)(0x80 | what);
        n = 2;
    }
    struct gen_insn *i = put(f, c, n + 4);
    fix(i, FIX_REL32, n, to, 0);
    return i;
}

/* Where a distance allows it, half of the jumps become short. */
static void shorten(struct flow *f)
{
    static u8 code[CODE_SIZE];
    static unsigned offsets[SEQ_MAX + 1];
    struct sequence *q = f->b.q;
    int where[LABEL_MAX] = {0};
    gen_assemble(q, code, offsets);
    for (unsigned i = 0; i < q->n; i++)
        where[q->insn[i].label] = (int)offsets[i];
    for (unsigned i = 0; i < q->n; i++) {
        struct gen_insn *g = &q->insn[i];
        bool conditional = g->bytes[0] == 0x0f && (g->bytes[1] & 0xf0) == 0x80;
        int distance = where[g->to] - (int)offsets[i];
        if (g->fix != FIX_REL32 || g->data || g->short_fix || !(conditional || g->bytes[0] == JMP) || distance < -100 || distance > 100 ||
            chance(f->b.r, 40))
            continue;
        g->bytes[0] = conditional ? (u8)(0x70 | (g->bytes[1] & 0x0f)) : 0xeb;
        g->len = 2;
        g->fix = FIX_REL8;
        g->fix_off = 1;
    }
}

/* A register to write: not RSP, not one that is kept; not of the first four if any other is free. */
static unsigned scratch(struct flow *f)
{
    for (unsigned n = 0;; n++) {
        unsigned reg = rng_below(f->b.r, wide(f) ? 16 : 8);
        if (reg != RSP && !(f->b.fixed >> reg & 1))
            return reg;
    }
}

static unsigned free_registers(const struct flow *f)
{
    return (wide(f) ? 15u : 7u) - (unsigned)__builtin_popcount(f->b.fixed & (wide(f) ? 0xffff : 0xff) & ~(1u << RSP));
}

/* Prefixes and opcode for reg, rm or reg, [rm + index]. size 1 takes the low byte (REX), or one of the first four registers. */
static unsigned encode_indexed(const struct flow *f, u8 *c, u32 op, unsigned reg, unsigned size, unsigned rm, unsigned index)
{
    unsigned n = 0;
    u8 rex = (u8)((size == 8 ? 8 : 0) | reg >> 3 << 2 | index >> 3 << 1 | rm >> 3);
    if (size == 2)
        c[n++] = 0x66;
    if (wide(f) && (rex || size == 1))
        c[n++] = (u8)(0x40 | rex);
    if (op > 0xff)
        c[n++] = (u8)(op >> 8);
    c[n++] = (u8)op;
    return n;
}

static unsigned encode(const struct flow *f, u8 *c, u32 op, unsigned reg, unsigned size, unsigned rm)
{
    return encode_indexed(f, c, op, reg, size, rm, 0);
}

static void op_rr(struct flow *f, u32 op, unsigned reg, unsigned rm, unsigned size)
{
    u8 c[8];
    unsigned n = encode(f, c, op, reg, size, rm);
    c[n++] = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
    put(f, c, n);
}

/* op reg, [base + disp] or [base + index*2^scale + disp]; index 0xff: none; extra: immediate bytes behind, zero */
static struct gen_insn *op_mem(struct flow *f, u32 op, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size,
    unsigned extra)
{
    u8 c[24] = {0};
    unsigned n = encode_indexed(f, c, op, reg, size, base, index == 0xff ? 0 : index);
    bool small = disp == (s8)disp && chance(f->b.r, 80);
    u8 mod = small ? 0x40 : 0x80;
    if (index != 0xff || (base & 7) == RSP) {
        c[n++] = (u8)(mod | (reg & 7) << 3 | 4);
        c[n++] = (u8)((index == 0xff ? 0x20 : scale << 6 | (index & 7) << 3) | (base & 7));
    } else {
        c[n++] = (u8)(mod | (reg & 7) << 3 | (base & 7));
    }
    memcpy(c + n, &disp, 4);
    n += small ? 1 : 4;
    return put(f, c, n + extra);
}

/* op [address]: an absolute one, or relative to RIP. extra bytes behind it. */
static struct gen_insn *op_at(struct flow *f, u32 op, unsigned reg, u64 at, unsigned size, const void *extra, unsigned n_extra)
{
    u8 c[24];
    unsigned n = encode(f, c, op, reg, size, 0);
    bool rip = wide(f) && chance(f->b.r, 50);
    if (wide(f) && !rip) {
        c[n++] = (u8)((reg & 7) << 3 | 4);
        c[n++] = 0x25;
    } else {
        c[n++] = (u8)((reg & 7) << 3 | 5);
    }
    unsigned off = n;
    u32 disp = (u32)at;
    memcpy(c + n, &disp, 4);
    memcpy(c + n + 4, extra, n_extra);
    struct gen_insn *i = put(f, c, n + 4 + n_extra);
    if (rip) {
        i->fix = FIX_RIP;
        i->fix_off = (u8)off;
        i->target = at;
    }
    return i;
}

static void push_pop(struct flow *f, unsigned op, unsigned reg)
{
    u8 c[2] = {0x41, (u8)(op | (reg & 7))};
    put(f, reg >= 8 ? c : c + 1, reg >= 8 ? 2 : 1);
}

static void move_imm(struct flow *f, unsigned reg, u32 value)
{
    gen_set_register(&f->b, reg, value);
}

static void move_label(struct flow *f, unsigned reg, u16 label)
{
    move_imm(f, reg, 0);
    struct gen_insn *i = &f->b.q->insn[f->b.q->n - 1];
    fix(i, FIX_ADDRESS32, i->len - 4u, label, 0);
}

/* mov word [at], label */
static void store_label(struct flow *f, u64 at, u16 label)
{
    static const u8 zero[4];
    struct gen_insn *i = op_at(f, 0xc7, 0, at, word_size(f), zero, 4);
    if (i->fix == FIX_RIP) { /* one place to fix: as an absolute address */
        u8 c[16] = {0x48, 0xc7, 0x04, 0x25};
        u32 disp = (u32)at;
        memcpy(c + 4, &disp, 4);
        memcpy(i->bytes, c, 12);
        i->len = 12;
    }
    fix(i, FIX_ADDRESS32, i->len - 4u, label, 0);
}

static u64 new_slot(struct flow *f) { return COUNTERS + 8 * (f->slots++ % 31); }

static void straight(struct flow *f, unsigned n)
{
    while (n-- && !full(f))
        gen_general(&f->b);
}

/* ---- memory --------------------------------------------------------------------------- */

/* One access through a base register that never changes, or one that was just set. */
static void access_near(struct flow *f, unsigned base, s32 disp, unsigned index, unsigned scale, bool may_write)
{
    struct rng *r = f->b.r;
    static const u8 sizes[] = {1, 2, 4, 8, 8, 4};
    unsigned size = sizes[rng_below(r, ARRAY_SIZE(sizes))];
    if (size == 8 && !wide(f))
        size = 4;
    unsigned reg = scratch(f);
    if (size == 1 && !wide(f))
        reg = f->b.fixed & 1 ? RDX : RAX; /* may be kept: then only read */
    bool kept = f->b.fixed >> reg & 1 || reg == RSP;
    switch (rng_below(r, 10)) {
    case 0:
    case 1: /* mov reg, m */
        if (!kept)
            op_mem(f, size == 1 ? 0x8a : 0x8b, reg, base, index, scale, disp, size, 0);
        break;
    case 2: /* add, or, adc, sbb, and, sub, xor, cmp reg, m */
        if (!kept) {
            settle(f);
            op_mem(f, rng_below(r, 8) << 3 | (size == 1 ? 2 : 3), reg, base, index, scale, disp, size, 0);
        }
        break;
    case 3:
    case 4: /* mov m, reg */
        if (may_write)
            op_mem(f, size == 1 ? 0x88 : 0x89, reg, base, index, scale, disp, size, 0);
        break;
    case 5: /* the same to memory */
        if (may_write) {
            settle(f);
            op_mem(f, rng_below(r, 7) << 3 | (size == 1 ? 0 : 1), reg, base, index, scale, disp, size, 0);
        }
        break;
    case 6: /* inc, dec, neg, not m */
        if (may_write)
            op_mem(f, size == 1 ? 0xfe : 0xff, rng_below(r, 2), base, index, scale, disp, size, 0);
        break;
    case 7: /* movzx, movsx */
        if (!kept)
            op_mem(f, (chance(r, 50) ? 0x0fb6 : 0x0fbe) + rng_below(r, 2), reg, base, index, scale, disp, size == 8 ? 8 : 4, 0);
        break;
    case 8: /* setcc m */
        if (may_write && !f->b.undefined)
            op_mem(f, 0x0f90 | rng_below(r, 16), 0, base, index, scale, disp, 4, 0);
        break;
    default: /* movups xmm, m and back */
        if (may_write || chance(r, 50))
            op_mem(f, may_write && chance(r, 50) ? 0x0f11 : 0x0f10, rng_below(r, 8), base, index, scale, disp, 4, 0);
        break;
    }
}

/* Several accesses off one base, around one place. */
static void group(struct flow *f)
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
        base = scratch(f);
        value = around - rng_below(r, 200) + 100;
        move_imm(f, base, (u32)value);
        f->b.fixed |= 1u << base; /* until the group is over */
    }
    u32 fixed = f->b.fixed;
    if (free_registers(f) < 2)
        return;
    if (chance(r, 30)) {
        index = f->b.small;
        scale = rng_below(r, 4);
        value += f->b.q->init.gpr[index] << scale;
    }
    for (unsigned n = 2 + rng_below(r, 5); n--;) {
        if (chance(r, 25))
            straight(f, 1);
        access_near(f, base, (s32)(around - value + rng_below(r, chance(r, 50) ? 24 : 64) - (chance(r, 50) ? 12 : 32)), index, scale,
            rash || !read_only);
    }
    f->b.fixed = fixed & ~(1u << base);
    if (base == f->b.pointer[0] || base == f->b.pointer[1] || base == f->b.pointer[2])
        f->b.fixed |= 1u << base;
}

/* A pointer that walks over page ends; without calm perhaps beyond the area. */
static void walk(struct flow *f)
{
    struct rng *r = f->b.r;
    if (free_registers(f) < 4 || full(f))
        return;
    u32 saved = f->b.fixed;
    unsigned p = scratch(f);
    f->b.fixed |= 1u << p;
    unsigned n = scratch(f), times = 4 + rng_below(r, 24), stride = 1 + rng_below(r, chance(r, 50) ? 16 : 200);
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
    u16 top = new_label(f);
    move_imm(f, p, (u32)start);
    move_imm(f, n, times);
    bind(f, top);
    bool write = !(off && !read_only && !down);
    for (unsigned k = 2 + rng_below(r, 4); k--;) {
        access_near(f, p, (s32)rng_below(r, 48) - 24, 0xff, 0, write);
        if (chance(r, 25))
            straight(f, 1);
    }
    settle(f);
    op_mem(f, 0x8d, p, p, 0xff, 0, down ? -(s32)stride : (s32)stride, word_size(f), 0); /* lea */
    op_rr(f, 0xff, 1, n, 4);
    jump(f, 5, top); /* dec n; jnz */
    f->b.fixed = saved;
}

/* Registers to the stack and back, in another order, of several sizes; RSP moved by hand in between. */
static void stack_run(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned n = 1 + rng_below(r, 6), room = 0;
    for (unsigned k = 0; k < n; k++) {
        unsigned kind = rng_below(r, 8);
        u8 c[8] = {0};
        unsigned reg = rng_below(r, wide(f) ? 16 : 8), len = 0;
        if (kind == 0) {
            settle(f);
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
            op_mem(f, 0xff, 6, f->b.pointer[rng_below(r, 3)], 0xff, 0, (s8)rng_next(r), 4, 0);
            continue;
        } else {
            if (reg >= 8)
                c[len++] = 0x41;
            c[len++] = (u8)(0x50 | (reg & 7));
        }
        put(f, c, len);
    }
    if (chance(r, 30)) {
        room = 8 * rng_below(r, 12);
        op_mem(f, 0x8d, RSP, RSP, 0xff, 0, -(s32)room, word_size(f), 0);
    }
    for (unsigned k = rng_below(r, 4); k-- && n;) {
        unsigned at = room + rng_below(r, n * word_size(f) - 7 > 32 ? 8 : 1);
        unsigned reg = rng_below(r, wide(f) ? 16 : 8);
        if (chance(r, 50))
            op_mem(f, 0x89, reg, RSP, 0xff, 0, (s32)at, chance(r, 50) ? word_size(f) : 4, 0);
        else
            op_mem(f, 0x8b, scratch(f), RSP, 0xff, 0, (s32)at, word_size(f), 0);
    }
    straight(f, rng_below(r, 3));
    if (room && chance(r, 50)) {
        op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)room, word_size(f), 0);
        room = 0;
    }
    if (room || chance(r, 30)) { /* add rsp: all of it dropped */
        u8 c[8] = {0x48, 0x81, 0xc4};
        u32 x = room + n * word_size(f);
        memcpy(c + 3, &x, 4);
        put(f, wide(f) ? c : c + 1, wide(f) ? 7 : 6);
        return;
    }
    while (n--) {
        unsigned reg = scratch(f);
        if (chance(r, 15)) {
            op_mem(f, 0x8f, 0, f->b.pointer[rng_below(r, 3)], 0xff, 0, (s8)rng_next(r), 4, 0);
            continue;
        }
        push_pop(f, 0x58, reg);
    }
}

/* ---- flags ------------------------------------------------------------------------------ */

/* Reads flags that some block before made. */
static void flags_used(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned cc = rng_below(r, 16), reg = scratch(f), size = chance(r, 50) ? word_size(f) : 4;
    settle(f);
    for (unsigned n = 1 + rng_below(r, 3); n--;) {
        switch (rng_below(r, 7)) {
        case 0: op_rr(f, 0x0f90 | cc, 0, wide(f) ? reg : f->b.fixed & 1 ? RDX : RAX, 1); break;
        case 1: op_rr(f, 0x0f40 | cc, reg, rng_below(r, wide(f) ? 16 : 8), size); break;
        case 2: op_rr(f, chance(r, 50) ? 0x11 : 0x19, rng_below(r, 8), reg, size); break;
        case 3: { /* pushf; pop */
            u8 c[] = {0x9c};
            put(f, c, 1);
            push_pop(f, 0x58, reg);
            break;
        }
        case 4: { /* lahf; and back, changed or not */
            u8 c[] = {0x9f};
            if (f->b.fixed & 1)
                break;
            put(f, c, 1);
            if (chance(r, 50))
                straight(f, 1);
            settle(f);
            c[0] = 0x9e;
            put(f, c, 1);
            break;
        }
        case 5: { /* pushf; change some; popf */
            u8 c[] = {0x9c, 0x81, 0x34, 0x24, (u8)(rng_next(r) & 0xd5), (u8)(rng_next(r) & 8), 0, 0, 0x9d};
            put(f, c, 1);
            put(f, c + 1, 7);
            put(f, c + 8, 1);
            break;
        }
        default: { /* cmc, stc, clc */
            static const u8 ops[] = {0xf5, 0xf8, 0xf9};
            put(f, ops + rng_below(r, 3), 1);
            break;
        }
        }
        cc = rng_below(r, 16);
    }
}

/* ---- control ------------------------------------------------------------------------------ */

static void if_else(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 other = new_label(f), end = new_label(f);
    unsigned patched = chance(r, 10);
    if (f->b.fixed >> RCX & 1 || chance(r, 85)) {
        if (patched) { /* its condition is turned round each time it is met */
            u16 at = new_label(f);
            u8 c[16] = {0x80, 0x34, 0x25, 0, 0, 0, 0, 1}; /* xor byte [at + 1], 1 */
            unsigned n = wide(f) ? 8 : 7;
            if (!wide(f)) {
                c[1] = 0x35;
                memset(c + 2, 0, 4);
                c[6] = 1;
            }
            struct gen_insn *i = put(f, c, n);
            fix(i, FIX_ADDRESS32, n - 5, at, 1);
            f->b.q->patches_itself = true;
            bind(f, at);
            jump(f, rng_below(r, 16), other)->short_fix = true; /* stays long */
        } else {
            jump(f, rng_below(r, 16), other);
        }
        body(f, 1 + rng_below(r, 2));
    } else { /* jrcxz, loop: over little */
        settle(f);
        u8 c[] = {(u8)(0xe0 + rng_below(r, 4)), 0};
        struct gen_insn *i = put(f, c, 2);
        fix(i, FIX_REL8, 1, other, 0);
        straight(f, 1 + rng_below(r, 3));
    }
    bool has_else = chance(r, 40);
    if (has_else)
        jump(f, JMP, end);
    bind(f, other);
    if (has_else)
        body(f, 1);
    bind(f, end);
}

static void loop(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned most = ITERATIONS / f->around, kind = rng_below(r, 6), reg = RCX;
    if (most < 2 || free_registers(f) < 4 || full(f))
        return;
    unsigned times = 2 + rng_below(r, MIN(most, chance(r, 30) ? 60u : 12u));
    u32 saved_fixed = f->b.fixed;
    int saved_counter = f->counter;
    u16 top = new_label(f), out = new_label(f), again = new_label(f);
    u64 slot = new_slot(f);

    if (kind == 0 && f->b.fixed >> RCX & 1)
        kind = 1;
    if (kind == 3 && f->b.fixed >> RCX & 1)
        kind = 2;
    if (kind != 0) {
        do
            reg = scratch(f);
        while (reg == RCX);
    }
    if (kind == 4) {
        op_at(f, 0xc7, 0, slot, 4, &(u32){times}, 4);
    } else {
        move_imm(f, reg, times);
        f->b.fixed |= 1u << reg;
        f->counter = (int)reg;
        f->counts_from = times;
    }
    f->around *= times;
    f->depth++;
    if (chance(r, 15))
        jump(f, JMP, again); /* into the middle: one time less */
    bind(f, top);
    body(f, 1 + rng_below(r, 4));
    if (chance(r, 30))
        jump(f, rng_below(r, 16), out); /* break */
    if (chance(r, 30))
        jump(f, rng_below(r, 16), again); /* continue */
    if (f->bomb && f->counter >= 0 && chance(r, 60))
        fault(f);
    if (chance(r, 40))
        body(f, 1);
    bind(f, again);
    switch (kind) {
    case 0: { /* loop, with a jump back where it does not reach */
        u16 on = new_label(f), over = new_label(f);
        u8 c[] = {0xe2, 0};
        fix(put(f, c, 2), FIX_REL8, 1, on, 0);
        jump(f, JMP, over);
        bind(f, on);
        jump(f, JMP, top);
        bind(f, over);
        break;
    }
    case 1: /* sub reg, 1; ja, jnbe, jns as may be */
        if (chance(r, 50)) {
            u8 c[8];
            unsigned n = encode(f, c, 0x83, 5, chance(r, 50) ? word_size(f) : 4, reg);
            c[n++] = (u8)(0xe8 | (reg & 7));
            c[n++] = 1;
            put(f, c, n);
            static const u8 ccs[] = {5, 7, 15};
            jump(f, ccs[rng_below(r, 3)], top);
            break;
        } /* fall through */
    case 2: /* dec, which keeps CF */
        op_rr(f, 0xff, 1, reg, chance(r, 50) ? word_size(f) : 4);
        jump(f, chance(r, 50) ? 5 : 15, top);
        break;
    case 3: { /* no flag is touched: lea; xchg with rcx; jrcxz */
        u16 over = new_label(f), stop = new_label(f);
        u8 c[] = {0xe3, 0};
        op_mem(f, 0x8d, reg, reg, 0xff, 0, -1, word_size(f), 0);
        op_rr(f, 0x87, reg, RCX, word_size(f));
        settle(f);
        fix(put(f, c, 2), FIX_REL8, 1, stop, 0);
        op_rr(f, 0x87, reg, RCX, word_size(f));
        jump(f, JMP, top);
        bind(f, stop);
        op_rr(f, 0x87, reg, RCX, word_size(f));
        bind(f, over);
        break;
    }
    case 4: /* dec dword [slot] */
        op_at(f, 0xff, 1, slot, 4, "", 0);
        jump(f, 15, top);
        break;
    default: /* by a table of two: cmp; sbb; jmp [..] */
        op_rr(f, 0xff, 1, reg, 4);
        if (chance(r, 50)) {
            jump(f, 4, out);
            unsigned t = scratch(f);
            move_label(f, t, top);
            settle(f);
            op_rr(f, 0xff, 4, t, 4); /* jmp t */
        } else {
            u64 where = new_slot(f);
            jump(f, 4, out);
            store_label(f, where, top);
            settle(f);
            op_at(f, 0xff, 4, where, 4, "", 0);
        }
        break;
    }
    bind(f, out);
    f->depth--;
    f->around /= times;
    f->b.fixed = saved_fixed;
    f->counter = saved_counter;
}

/* cmp counter, k; jne on; something that faults; on: */
static void fault(struct flow *f)
{
    struct rng *r = f->b.r;
    unsigned k = 1 + rng_below(r, f->counts_from), counter = (unsigned)f->counter;
    u16 on = new_label(f);
    f->bomb = false;
    u8 c[8] = {0};
    unsigned n;
    if (free_registers(f) > 4 && !(f->b.fixed & 5) && chance(r, 40)) { /* a divisor that comes to nothing: no jump */
        unsigned d = scratch(f);
        if (d == RAX || d == RDX)
            return;
        move_imm(f, RDX, 0);
        op_mem(f, 0x8d, d, counter, 0xff, 0, -(s32)k, 4, 0);
        settle(f);
        op_rr(f, 0xf7, 6, d, 4);
        return;
    }
    if (chance(r, 40)) { /* an address that leaves the area */
        static const u32 ops[] = {0x8b, 0x89, 0x01, 0x11, 0x0fb6, 0x87, 0x0f10, 0x0f11};
        unsigned scale = rng_below(r, 4);
        u32 end = (u32)(chance(r, 50) ? DATA_BASE + DATA_SIZE : DATA_BASE + DATA_RO);
        unsigned base = scratch(f);
        move_imm(f, base, end - (k << scale) - (chance(r, 50) ? 0 : 4) + rng_below(r, 4));
        settle(f);
        op_mem(f, ops[rng_below(r, ARRAY_SIZE(ops))], scratch(f), base, counter, scale, 0, 4, 0);
        return;
    }
    settle(f);
    n = encode(f, c, 0x83, 7, 4, counter);
    c[n++] = (u8)(0xf8 | (counter & 7));
    c[n++] = (u8)k;
    put(f, c, n);
    jump(f, 5, on);
    switch (rng_below(r, 5)) {
    case 0: put(f, (const u8[]){0x0f, 0x0b}, 2); break;                              /* ud2 */
    case 1: put(f, (const u8[]){0xf4}, 1); break;                                    /* hlt: #GP */
    case 2: put(f, (const u8[]){0x0f, 0x22, 0xd8}, 3); break;                        /* mov cr3, rax */
    case 3: op_at(f, 0xff, 6, DATA_BASE - 4096 + rng_below(r, 4096), 4, "", 0); break; /* push of what is not there */
    default: op_at(f, 0xff, 0, DATA_BASE + DATA_RO + 4 * rng_below(r, 1000), 4, "", 0); break; /* inc of what is read-only */
    }
    bind(f, on);
}

static void select_one(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 end = new_label(f), arm[4];
    if (free_registers(f) < 3 || full(f))
        return;
    unsigned reg = scratch(f);
    u64 table = COUNTERS + 8 * (f->slots % 24);
    f->slots += 4;
    for (unsigned k = 0; k < 4; k++)
        arm[k] = new_label(f);
    for (unsigned k = 0; k < 4; k++)
        store_label(f, table + k * word_size(f), arm[k]);
    straight(f, rng_below(r, 3));
    if (f->counter >= 0 && chance(r, 60))
        op_rr(f, 0x89, (unsigned)f->counter, reg, 4); /* another way each time */
    u8 c[8];
    unsigned n = encode(f, c, 0x83, 4, 4, reg);
    c[n++] = (u8)(0xe0 | (reg & 7)); /* and reg, 3 */
    c[n++] = 3;
    put(f, c, n);
    settle(f);
    /* jmp or call [table + reg * size]; called, each arm drops the return address */
    bool call = chance(r, 30);
    u8 j[10] = {0x42, 0xff, call ? 0x14 : 0x24, (u8)((wide(f) ? 0xc0 : 0x80) | (reg & 7) << 3 | 5)};
    u32 disp = (u32)table;
    memcpy(j + 4, &disp, 4);
    put(f, reg >= 8 ? j : j + 1, reg >= 8 ? 8 : 7);
    u32 fixed = f->b.fixed;
    for (unsigned k = 0; k < 4; k++) {
        bind(f, arm[k]);
        if (call)
            op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)word_size(f), word_size(f), 0);
        straight(f, 1 + rng_below(r, 3));
        if (k < 3)
            jump(f, JMP, end);
        f->b.fixed = fixed;
    }
    bind(f, end);
}

static void call(struct flow *f)
{
    struct rng *r = f->b.r;
    if (f->calls_from >= f->functions || f->around > ITERATIONS / 8)
        return;
    u16 to = f->function[f->calls_from + rng_below(r, f->functions - f->calls_from)], back = new_label(f);
    u64 slot = new_slot(f);
    const u32 saved = f->b.fixed & ~f->always; /* counters, which the function may overwrite */
    for (unsigned reg = 0; reg < 16; reg++)
        if (saved >> reg & 1)
            push_pop(f, 0x50, reg);
    switch (rng_below(r, 8)) {
    default: jump(f, CALL, to); break;
    case 4: { /* through a register */
        unsigned reg = scratch(f);
        move_label(f, reg, to);
        settle(f);
        op_rr(f, 0xff, 2, reg, 4);
        break;
    }
    case 5: /* through memory */
        store_label(f, slot, to);
        straight(f, rng_below(r, 2));
        settle(f);
        op_at(f, 0xff, 2, slot, 4, "", 0);
        break;
    case 6: { /* no call: an address is pushed */
        u8 c[5] = {0x68};
        fix(put(f, c, 5), FIX_ADDRESS32, 1, back, 0);
        jump(f, JMP, to);
        straight(f, 1);
        bind(f, back);
        break;
    }
    case 7: { /* no jump: two addresses are pushed, and a return */
        u8 c[5] = {0x68}, ret[] = {0xc3};
        fix(put(f, c, 5), FIX_ADDRESS32, 1, back, 0);
        fix(put(f, c, 5), FIX_ADDRESS32, 1, to, 0);
        settle(f);
        put(f, ret, 1);
        straight(f, 1);
        bind(f, back);
        break;
    }
    }
    for (unsigned reg = 16; reg-- > 0;)
        if (saved >> reg & 1)
            push_pop(f, 0x58, reg);
}

/* call next; pop reg: where am I. Or the call leaves for good. */
static void call_no_return(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 there = new_label(f);
    jump(f, CALL, there);
    if (chance(r, 50))
        straight(f, 1); /* dead */
    bind(f, there);
    unsigned reg = scratch(f);
    if (chance(r, 70))
        push_pop(f, 0x58, reg);
    else
        op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)word_size(f), word_size(f), 0);
}

/* An immediate somewhere near is overwritten, with what a register holds or its next value. */
static void patch(struct flow *f)
{
    struct rng *r = f->b.r;
    u16 at = new_label(f);
    bool before = chance(r, 50);
    unsigned reg = scratch(f), from = scratch(f);
    u8 c[16] = {0};
    if (f->counter >= 0 && chance(r, 60))
        from = (unsigned)f->counter;
    for (unsigned pass = 0; pass < 2; pass++) {
        if ((pass == 0) == before) {
            unsigned n = encode(f, c, 0x89, from, 4, 0); /* mov [at + 1 or 2], from */
            if (chance(r, 40)) {
                n = 0;
                if (wide(f))
                    c[n++] = (u8)(0x40 | from >> 3 << 2);
                c[n++] = 0x00; /* add byte [..], from */
                if (!wide(f) && from >= 4)
                    from &= 3;
            }
            if (wide(f)) {
                c[n++] = (u8)((from & 7) << 3 | 4);
                c[n++] = 0x25;
            } else {
                c[n++] = (u8)((from & 7) << 3 | 5);
            }
            struct gen_insn *i = put(f, c, n + 4);
            fix(i, FIX_ADDRESS32, n, at, reg >= 8 ? 2 : 1);
            f->b.q->patches_itself = true;
        } else { /* mov reg, imm32 */
            bind(f, at);
            move_imm(f, reg, (u32)rng_next(r));
        }
        if (pass == 0 && chance(r, 50))
            straight(f, 1 + rng_below(r, 3));
    }
}

/* Reads or writes what is a device in the guest. */
static void poke(struct flow *f)
{
    struct rng *r = f->b.r;
    u64 at = DEVICE_BASE + 8 * rng_below(r, DEVICE_SIZE / 8 - 1);
    switch (rng_below(r, 4)) {
    case 0: op_at(f, 0x8b, scratch(f), at, 4, "", 0); break;
    case 1: op_at(f, 0x01, scratch(f), at, word_size(f), "", 0); break;
    default: op_at(f, 0x89, scratch(f), at, 4, "", 0); break;
    }
}

static void item(struct flow *f)
{
    struct rng *r = f->b.r;
    switch (rng_below(r, 26)) {
    case 0:
    case 1:
    case 2: if_else(f); break;
    case 3:
    case 4:
    case 5:
    case 6:
        if (f->depth < 3)
            loop(f);
        break;
    case 7:
    case 8:
    case 9: call(f); break;
    case 10:
    case 11:
    case 12: group(f); break;
    case 13: walk(f); break;
    case 14:
    case 15: stack_run(f); break;
    case 16:
    case 17:
    case 18: flags_used(f); break;
    case 19:
        if (f->depth < 2)
            select_one(f);
        break;
    case 20: call_no_return(f); break;
    case 21:
        if (chance(r, 30))
            patch(f);
        break;
    case 22: poke(f); break;
    default: straight(f, 1 + rng_below(r, 5)); break;
    }
}

static void body(struct flow *f, unsigned items)
{
    while (items-- && f->budget && !full(f)) {
        f->budget--;
        item(f);
        if (chance(f->b.r, 50))
            straight(f, 1 + rng_below(f->b.r, 3));
    }
}

/* A function: its frame, a body, and one of the ways back. */
static void function(struct flow *f, unsigned n)
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
    bind(f, f->function[n]);
    if (frame) { /* push rbp; mov rbp, rsp; sub rsp, room */
        put(f, (const u8[]){0x55}, 1);
        op_rr(f, 0x89, RSP, RBP, word_size(f));
        op_mem(f, 0x8d, RSP, RSP, 0xff, 0, -(s32)room, word_size(f), 0);
        f->b.fixed |= 1u << RBP;
        for (unsigned k = room / 8; k--;)
            if (chance(r, 50))
                op_mem(f, chance(r, 50) ? 0x89 : 0x8b, scratch(f), RBP, 0xff, 0, -(s32)(8 + rng_below(r, room)), 4, 0);
    }
    body(f, 1 + rng_below(r, 4));
    if (frame)
        put(f, leave, 1);
    f->b.fixed = fixed;
    settle(f);
    unsigned reg = scratch(f);
    switch (rng_below(r, 9)) {
    default: put(f, ret, 1); break;
    case 4: /* pop reg; jmp reg */
        push_pop(f, 0x58, reg);
        op_rr(f, 0xff, 4, reg, 4);
        break;
    case 5: /* pop reg; push it twice; ret 8 */
        push_pop(f, 0x58, reg);
        push_pop(f, 0x50, reg);
        push_pop(f, 0x50, reg);
        put(f, wide(f) ? (const u8[]){0xc2, 8, 0} : (const u8[]){0xc2, 4, 0}, 3);
        break;
    case 6: { /* returns by way of another return: the address of one is pushed */
        u16 at = new_label(f);
        u8 c[5] = {0x68};
        fix(put(f, c, 5), FIX_ADDRESS32, 1, at, 0);
        put(f, ret, 1);
        straight(f, 1);
        bind(f, at);
        put(f, ret, 1);
        break;
    }
    case 7: /* into the next function, which returns for it */
        if (n + 1 < f->functions)
            jump(f, JMP, f->function[n + 1]);
        else
            put(f, ret, 1);
        break;
    case 8: /* add rsp; jmp [rsp - size] */
        op_mem(f, 0x8d, RSP, RSP, 0xff, 0, (s32)word_size(f), word_size(f), 0);
        op_mem(f, 0xff, 4, RSP, 0xff, 0, -(s32)word_size(f), 4, 0);
        break;
    }
    if (chance(r, 25)) /* the next lies on another line or page */
        f->b.q->insn[f->b.q->n - 1].pad = (u16)rng_below(r, 1500);
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
        f.function[i] = new_label(&f);
    u16 begin = new_label(&f);
    bool functions_first = chance(r, 30);
    if (functions_first) {
        jump(&f, JMP, begin);
        for (unsigned i = 0; i < f.functions; i++)
            function(&f, i);
    }
    bind(&f, begin);
    f.calls_from = 0;
    f.counter = -1;
    f.around = 1;
    f.depth = 0;
    f.budget = 8 + rng_below(r, 12);
    body(&f, f.budget);
    if (f.bomb && chance(r, 50))
        loop(&f);
    settle(&f);
    put(&f, end, 1);
    if (!functions_first)
        for (unsigned i = 0; i < f.functions; i++)
            function(&f, i);
    shorten(&f);
}
