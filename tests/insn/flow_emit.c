/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flow_emit.c - instructions and labels of a program.
 */
#include "flow.h"

#include <string.h>

struct gen_insn *flow_put(struct flow *f, const u8 *bytes, unsigned n)
{
    if (gen_reads_undefined(&f->b, bytes, n))
        flow_settle(f);
    return gen_append(&f->b, bytes, n);
}

void flow_settle(struct flow *f)
{
    if (!f->b.undefined)
        return;
    u8 c[] = {0x39, (u8)(0xc0 | rng_below(f->b.r, 64))};
    flow_put(f, c, 2)->keep = true; /* the rules hold for what is left of a program, too */
}

void flow_bind(struct flow *f, u16 label)
{
    flow_settle(f);
    struct gen_insn *i = flow_put(f, NULL, 0);
    i->label = label;
    i->keep = true;
}

struct gen_insn *flow_jump(struct flow *f, unsigned what, u16 to)
{
    flow_settle(f);
    u8 c[6] = {(u8)what};
    unsigned n = 1;
    if (what < 16) {
        c[0] = 0x0f;
        c[1] = (u8)(0x80 | what);
        n = 2;
    }
    struct gen_insn *i = flow_put(f, c, n + 4);
    gen_fix(i, FIX_REL32, n, to, 0);
    return i;
}

void flow_shorten(struct flow *f)
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

unsigned flow_scratch(struct flow *f)
{
    for (unsigned n = 0;; n++) {
        unsigned reg = rng_below(f->b.r, flow_wide(f) ? 16 : 8);
        if (reg != RSP && !(f->b.fixed >> reg & 1))
            return reg;
    }
}

unsigned flow_free_registers(const struct flow *f)
{
    return (flow_wide(f) ? 15u : 7u) - (unsigned)__builtin_popcount(f->b.fixed & (flow_wide(f) ? 0xffff : 0xff) & ~(1u << RSP));
}

/* Prefixes and opcode for reg, rm or reg, [rm + index]. size 1 takes the low byte (REX), or one of the first four registers. */
static unsigned encode_indexed(const struct flow *f, u8 *c, u32 op, unsigned reg, unsigned size, unsigned rm, unsigned index)
{
    unsigned n = 0;
    u8 rex = (u8)((size == 8 ? 8 : 0) | reg >> 3 << 2 | index >> 3 << 1 | rm >> 3);
    if (size == 2)
        c[n++] = 0x66;
    if (flow_wide(f) && (rex || size == 1))
        c[n++] = (u8)(0x40 | rex);
    if (op > 0xff)
        c[n++] = (u8)(op >> 8);
    c[n++] = (u8)op;
    return n;
}

unsigned flow_encode(const struct flow *f, u8 *c, u32 op, unsigned reg, unsigned size, unsigned rm)
{
    return encode_indexed(f, c, op, reg, size, rm, 0);
}

void flow_op_rr(struct flow *f, u32 op, unsigned reg, unsigned rm, unsigned size)
{
    u8 c[8];
    unsigned n = flow_encode(f, c, op, reg, size, rm);
    c[n++] = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
    flow_put(f, c, n);
}

struct gen_insn *flow_op_mem(struct flow *f, u32 op, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size,
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
    return flow_put(f, c, n + extra);
}

struct gen_insn *flow_op_at(struct flow *f, u32 op, unsigned reg, u64 at, unsigned size, const void *extra, unsigned n_extra)
{
    u8 c[24];
    unsigned n = flow_encode(f, c, op, reg, size, 0);
    bool rip = flow_wide(f) && chance(f->b.r, 50);
    if (flow_wide(f) && !rip) {
        c[n++] = (u8)((reg & 7) << 3 | 4);
        c[n++] = 0x25;
    } else {
        c[n++] = (u8)((reg & 7) << 3 | 5);
    }
    unsigned off = n;
    u32 disp = (u32)at;
    memcpy(c + n, &disp, 4);
    memcpy(c + n + 4, extra, n_extra);
    struct gen_insn *i = flow_put(f, c, n + 4 + n_extra);
    if (rip) {
        i->fix = FIX_RIP;
        i->fix_off = (u8)off;
        i->target = at;
    }
    return i;
}

void flow_push_pop(struct flow *f, unsigned op, unsigned reg)
{
    u8 c[2] = {0x41, (u8)(op | (reg & 7))};
    flow_put(f, reg >= 8 ? c : c + 1, reg >= 8 ? 2 : 1);
}

void flow_move_imm(struct flow *f, unsigned reg, u32 value)
{
    gen_set_register(&f->b, reg, value);
}

void flow_move_label(struct flow *f, unsigned reg, u16 label)
{
    flow_move_imm(f, reg, 0);
    struct gen_insn *i = &f->b.q->insn[f->b.q->n - 1];
    gen_fix(i, FIX_ADDRESS32, i->len - 4u, label, 0);
}

void flow_store_label(struct flow *f, u64 at, u16 label)
{
    static const u8 zero[4];
    struct gen_insn *i = flow_op_at(f, 0xc7, 0, at, flow_word(f), zero, 4);
    if (i->fix == FIX_RIP) { /* one place to fix: as an absolute address */
        u8 c[16] = {0x48, 0xc7, 0x04, 0x25};
        u32 disp = (u32)at;
        memcpy(c + 4, &disp, 4);
        memcpy(i->bytes, c, 12);
        i->len = 12;
    }
    gen_fix(i, FIX_ADDRESS32, i->len - 4u, label, 0);
}

void flow_straight(struct flow *f, unsigned n)
{
    while (n-- && !flow_full(f))
        gen_general(&f->b);
}
