/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_assemble.c - instructions that stand one behind the other, and the bytes they become once it is known where each of
 * them lies.
 */
#include "gen.h"

#include <string.h>

struct gen_insn *gen_append(struct build *b, const u8 *bytes, unsigned len)
{
    struct gen_insn *i = &b->q->insn[b->q->n++];
    struct decoded d;
    *i = (struct gen_insn){.len = (u8)len};
    if (len) /* else there may be no bytes */
        memcpy(i->bytes, bytes, len);
    if (b->flow && len && decode(&d, i->bytes, 15, b->q->bits, true) == DECODE_OK)
        b->undefined = gen_undefined_after(&d, b->undefined, true);
    return i;
}

void gen_set_register(struct build *b, unsigned reg, u32 value)
{
    u8 c[8];
    unsigned n = 0;
    if (b->q->bits == 16)
        c[n++] = 0x66;
    if (reg >= 8)
        c[n++] = 0x41;
    c[n++] = (u8)(0xb8 | (reg & 7));
    memcpy(c + n, &value, 4);
    gen_append(b, c, n + 4);
}

void gen_at_address(struct build *b, const u8 *op, unsigned n_op, unsigned reg, u32 at, unsigned n_imm)
{
    u8 c[16] = {0};
    unsigned n = n_op;
    memcpy(c, op, n_op);
    if (b->q->bits == 64) {
        c[n++] = (u8)(reg << 3 | 4);
        c[n++] = 0x25;
    } else {
        c[n++] = (u8)(reg << 3 | 5);
    }
    memcpy(c + n, &at, 4);
    gen_append(b, c, n + 4 + n_imm);
}

void gen_fix(struct gen_insn *i, enum fix kind, unsigned off, u16 to, int add)
{
    i->fix = (u8)kind;
    i->fix_off = (u8)off;
    i->to = to;
    i->add = (s16)add;
}

unsigned gen_assemble(const struct sequence *q, u8 *out, unsigned *offsets)
{
    unsigned at = 0;
    u16 where[LABEL_MAX] = {0};
    for (unsigned i = 0; i < q->n; i++) {
        offsets[i] = at;
        where[q->insn[i].label] = (u16)at;
        memset(out + at + q->insn[i].len, 0xcc, q->insn[i].pad);
        at += q->insn[i].len + q->insn[i].pad;
    }
    offsets[q->n] = at;
    for (unsigned i = 0; i < q->n; i++) {
        const struct gen_insn *g = &q->insn[i];
        u8 *p = out + offsets[i];
        unsigned to = MIN(i + 1 + g->skip, q->n);
        u32 x;
        memcpy(p, g->bytes, g->len);
        switch (g->fix) {
        case FIX_RIP:
            x = (u32)(g->target - (q->init.rip + offsets[i] + g->len));
            memcpy(p + g->fix_off, &x, 4);
            break;
        case FIX_SKIP: p[g->fix_off] = (u8)(offsets[to] - offsets[i + 1]); break;
        case FIX_SKIP32:
            x = offsets[to] - offsets[i + 1];
            memcpy(p + g->fix_off, &x, g->short_fix ? 2 : 4);
            break;
        case FIX_CODE:
            x = (u32)(q->code + offsets[to] + 1);
            memcpy(p + g->fix_off, &x, 4);
            break;
        case FIX_ABS:
            x = (u32)(q->init.rip + offsets[to]);
            memcpy(p + g->fix_off, &x, g->short_fix ? 2 : 4);
            break;
        case FIX_REL8:
        case FIX_REL16:
        case FIX_REL32:
            x = (u32)(where[g->to] + g->add - (int)(offsets[i] + g->len));
            memcpy(p + g->fix_off, &x, g->fix == FIX_REL8 ? 1 : g->fix == FIX_REL16 ? 2 : 4);
            break;
        case FIX_ADDRESS16:
        case FIX_ADDRESS32:
        case FIX_ADDRESS64: {
            u64 address = q->init.rip + where[g->to] + (u64)(s64)g->add;
            memcpy(p + g->fix_off, &address, g->fix == FIX_ADDRESS16 ? 2 : g->fix == FIX_ADDRESS32 ? 4 : 8);
            break;
        }
        default: break;
        }
    }
    out[at] = 0xcc;
    return at + 1;
}
