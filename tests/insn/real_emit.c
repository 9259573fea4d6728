/* SPDX-License-Identifier: Apache-2.0 */
/*
 * real_emit.c - instructions and labels of a program.
 */
#include "real.h"

#include <string.h>

struct gen_insn *real_put(struct prog *f, const u8 *bytes, unsigned n)
{
    if (gen_reads_undefined(&f->b, bytes, n))
        real_settle(f);
    return gen_append(&f->b, bytes, n);
}

void real_settle(struct prog *f)
{
    if (f->b.undefined)
        PUT(f, 0x39, (u8)(0xc0 | rng_below(f->b.r, 64)))->keep = true;
}

void real_place_label(struct prog *f, u16 label)
{
    real_settle(f);
    struct gen_insn *i = real_put(f, NULL, 0);
    i->label = label;
    i->keep = true;
}

void real_jump(struct prog *f, unsigned what, u16 to)
{
    real_settle(f);
    const bool wide = chance(f->b.r, 20);
    u8 c[8] = {0x66};
    unsigned n = 1;
    if (what < 16) {
        c[n++] = 0x0f;
        c[n++] = (u8)(0x80 | what);
    } else {
        c[n++] = (u8)what;
    }
    if (wide)
        gen_fix(real_put(f, c, n + 4), FIX_REL32, n, to, 0);
    else
        gen_fix(real_put(f, c + 1, n + 1), FIX_REL16, n - 1, to, 0);
}

/* Where instructions and labels come to lie. */
static void lay_out(const struct sequence *q, unsigned *offsets, int *where)
{
    static u8 code[CODE_SIZE];
    gen_assemble(q, code, offsets);
    memset(where, 0, LABEL_MAX * sizeof(*where));
    for (unsigned i = 0; i < q->n; i++)
        where[q->insn[i].label] = (int)offsets[i];
}

void real_shorten(struct prog *f)
{
    static unsigned offsets[SEQ_MAX + 1];
    struct sequence *q = f->b.q;
    int where[LABEL_MAX];
    lay_out(q, offsets, where);
    for (unsigned i = 0; i < q->n; i++) {
        struct gen_insn *g = &q->insn[i];
        const bool conditional = g->bytes[0] == 0x0f && (g->bytes[1] & 0xf0) == 0x80;
        const int distance = where[g->to] - (int)offsets[i];
        if (g->fix != FIX_REL16 || !(conditional || g->bytes[0] == JMP) || distance < -100 || distance > 100 || chance(f->b.r, 40))
            continue;
        g->bytes[0] = conditional ? (u8)(0x70 | (g->bytes[1] & 0x0f)) : 0xeb;
        g->len = 2;
        g->fix = FIX_REL8;
        g->fix_off = 1;
    }
}

unsigned real_scratch(struct prog *f)
{
    for (;;) {
        unsigned reg = rng_below(f->b.r, 8);
        if (reg != RSP && !(f->b.fixed >> reg & 1))
            return reg;
    }
}
unsigned real_free_registers(const struct prog *f) { return 7u - (unsigned)__builtin_popcount(f->b.fixed & 0xff & ~(1u << RSP)); }

void real_lengthen(struct prog *f)
{
    static unsigned offsets[SEQ_MAX + 1];
    struct sequence *q = f->b.q;
    int where[LABEL_MAX];
    lay_out(q, offsets, where);
    for (unsigned i = 0; i < q->n; i++) {
        struct gen_insn *g = &q->insn[i];
        if (g->fix != FIX_REL8 || g->bytes[0] != 0xe2 || !g->skip)
            continue;
        g->skip = 0;
        if (where[g->to] - (int)offsets[i] - 2 >= -128)
            continue;
        const u8 c[] = {0xe2, 2, 0xeb, 3, 0xe9, 0, 0}; /* one piece */
        memcpy(g->bytes, c, sizeof(c));
        g->len = sizeof(c);
        g->fix = FIX_REL16;
        g->fix_off = 5;
    }
}

void real_move_imm(struct prog *f, unsigned reg, u32 value)
{
    if (value > 0xffff || chance(f->b.r, 30))
        gen_set_register(&f->b, reg, value);
    else
        PUT(f, (u8)(0xb8 | reg), (u8)value, (u8)(value >> 8));
}

void real_straight(struct prog *f, unsigned n)
{
    while (n-- && !real_full(f))
        gen_general(&f->b);
}

struct gen_insn *real_store(struct prog *f, u32 at, u32 value)
{
    return PUT(f, 0x36, 0xc7, 0x06, (u8)at, (u8)(at >> 8), (u8)value, (u8)(value >> 8));
}
void real_store_label(struct prog *f, u32 at, u16 label) { gen_fix(real_store(f, at, 0), FIX_ADDRESS16, 5, label, 0); }

const u8 real_overrides[SEG_COUNT] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};

struct gen_insn *real_op_mem(struct prog *f, u32 op, unsigned reg, unsigned seg, u32 at, unsigned size, unsigned extra)
{
    struct rng *r = f->b.r;
    const u64 *gpr = f->b.q->init.gpr;
    const unsigned small = f->b.small;
    u8 c[24] = {0};
    unsigned n = 0, form = rng_below(r, 8), mod, scale = rng_below(r, 4), natural = DS;
    const bool wide = form >= 5;
    u8 modrm[8];
    unsigned nm = 0;
    u32 disp = at;
    reg = (reg & 7) << 3;
    switch (form) {
    default: /* [disp16] */
        modrm[nm++] = (u8)(reg | 6);
        mod = 0x100;
        break;
    case 1:
    case 2: /* [bx + disp] */
        disp = at - (u32)gpr[RBX];
        modrm[nm++] = (u8)(reg | 7);
        mod = 2;
        break;
    case 3: /* [bx + si + disp], [bp + disp] */
        disp = at - (u32)gpr[small] - (small == RSI ? (u32)gpr[RBX] : 0);
        modrm[nm++] = (u8)(reg | (small == RSI ? 0 : 6));
        natural = small == RSI ? DS : SS;
        mod = 2;
        break;
    case 4: /* [si + disp], [bp + disp] */
        disp = at - (u32)gpr[small];
        modrm[nm++] = (u8)(reg | (small == RSI ? 4 : 6));
        natural = small == RSI ? DS : SS;
        mod = 2;
        break;
    case 5: /* [ebx + disp] */
        disp = at - (u32)gpr[RBX];
        modrm[nm++] = (u8)(reg | 3);
        mod = 2;
        break;
    case 6: /* [ebx + index * 2^scale + disp] */
        disp = at - (u32)gpr[RBX] - ((u32)gpr[small] << scale);
        modrm[nm++] = (u8)(reg | 4);
        modrm[nm++] = (u8)(scale << 6 | small << 3 | RBX);
        mod = 2;
        break;
    case 7: /* [disp32] */
        modrm[nm++] = (u8)(reg | 5);
        mod = 0x100;
        break;
    }
    unsigned bytes = wide ? 4 : 2;
    if (mod == 2 && (wide ? (s32)disp == (s8)disp : (s16)disp == (s8)disp) && chance(r, 80)) {
        mod = 1;
        bytes = 1;
    }
    modrm[0] |= (u8)((mod & 3) << 6);
    if (seg != natural || chance(r, 5))
        c[n++] = real_overrides[seg];
    if (size == 4)
        c[n++] = 0x66;
    if (wide)
        c[n++] = 0x67;
    if (op > 0xff)
        c[n++] = (u8)(op >> 8);
    c[n++] = (u8)op;
    memcpy(c + n, modrm, nm);
    n += nm;
    memcpy(c + n, &disp, bytes);
    return real_put(f, c, n + bytes + extra);
}
