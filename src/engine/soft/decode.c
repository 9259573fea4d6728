/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - takes one instruction's bytes apart: prefixes, opcode, ModRM, SIB, displacement, immediates
 * (Intel SDM vol. 2 ch. 2; EVEX 2.7). The meaning of the opcode is in the generated table (optree.h).
 *
 * The bytes are first copied to a buffer that is padded with zeroes, so the code need not check before it reads each byte.
 * It checks whether there were enough bytes at the few points where it returns a result.
 */
#include "engine/soft/decode.h"

#include "engine/soft/optree.h"

#include "cpu/cpu.h"

#include "optable.inc"

enum { MAX_LEN = 15 };

/* Instruction bytes have no alignment. */
typedef u16 __attribute__((aligned(1), may_alias)) le16;
typedef u32 __attribute__((aligned(1), may_alias)) le32;
typedef u64 __attribute__((aligned(1), may_alias)) le64;

const char *mnemonic_name(unsigned mnemonic)
{
    return mnemonic < MNEMONIC_COUNT ? mnemonic_names[mnemonic] : mnemonic_names[0];
}

/* What a decode carries from stage to stage. */
struct walk {
    u8 buf[48];     /* at most 15 bytes, then zeroes, so that reads past the end stay inside */
    unsigned avail; /* the bytes of the instruction that are in buf, up to 15 */
    unsigned pos;
    u8 dims[OPDIM_COUNT];
    u8 r, x, b;     /* prefix bits, positive */
    u8 r2, v2;      /* EVEX R' V' */
};

static void fill(struct walk *w, const u8 *bytes, unsigned avail)
{
    le64 *q = (le64 *)w->buf;
    for (unsigned i = 0; i < sizeof(w->buf) / 8; i++)
        q[i] = 0;
    w->avail = avail < MAX_LEN ? avail : MAX_LEN;
    if (w->avail >= 8) {
        *(le64 *)w->buf = *(const le64 *)bytes;
        *(le64 *)(w->buf + w->avail - 8) = *(const le64 *)(bytes + w->avail - 8);
    } else {
        for (unsigned i = 0; i < w->avail; i++)
            w->buf[i] = bytes[i];
    }
}

/* The result when the bytes before pos are not all available. */
static enum decode_result short_of(struct decoded *d, const struct walk *w)
{
    d->len = (u8)w->avail;
    return w->avail < MAX_LEN ? DECODE_MORE : DECODE_TOO_LONG;
}

static enum decode_result undefined(struct decoded *d, const struct walk *w)
{
    if (w->pos > w->avail)
        return short_of(d, w);
    d->len = (u8)w->pos;
    return DECODE_UD;
}

static s64 read_signed(const u8 *p, unsigned size)
{
    switch (size) {
    case 1: return (s8)*p;
    case 2: return (s16)*(const le16 *)p;
    case 4: return (s32)*(const le32 *)p;
    default: return (s64)*(const le64 *)p;
    }
}

static u64 read_unsigned(const u8 *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return *(const le16 *)p;
    case 4: return *(const le32 *)p;
    default: return *(const le64 *)p;
    }
}

/* Reads legacy prefixes and REX, and leaves pos at the first byte that is not a prefix. False: the bytes ran out. */
static bool prefixes(struct decoded *d, struct walk *w)
{
    for (; w->pos < w->avail; w->pos++) {
        u8 c = w->buf[w->pos], seg;
        switch (c) {
        case 0x26: seg = ES; break;
        case 0x2e: seg = CS; break;
        case 0x36: seg = SS; break;
        case 0x3e: seg = DS; break;
        case 0x64: seg = FS; break;
        case 0x65: seg = GS; break;
        case 0x66:
            d->opsize66 = true;
            d->rex = 0;
            continue;
        case 0x67:
            d->addr67 = true;
            d->rex = 0;
            continue;
        case 0xf0:
            d->lock = true;
            d->rex = 0;
            continue;
        case 0xf2:
        case 0xf3:
            d->rep = c;
            d->rex = 0;
            continue;
        default:
            if (d->bits == 64 && (c & 0xf0) == 0x40) {
                d->rex = c;
                continue;
            }
            return true;
        }
        /* A REX prefix counts only right before the opcode. ES, CS, SS and DS prefixes have no effect in 64-bit mode. */
        d->rex = 0;
        if (d->bits != 64 || seg >= FS)
            d->seg_override = seg;
    }
    return false;
}

/* Reads a VEX or EVEX prefix. False: #UD. */
static bool vector_prefix(struct decoded *d, struct walk *w)
{
    const u8 *p = w->buf + w->pos;
    u8 v;
    if (d->opsize66 || d->rep || d->lock || d->rex)
        return false;
    switch (p[0]) {
    case 0xc5:
        d->encoding = ENC_VEX;
        d->map = 1;
        w->r = !(p[1] & 0x80);
        v = p[1];
        w->pos += 2;
        break;
    case 0xc4:
        d->encoding = ENC_VEX;
        d->map = p[1] & 0x1f;
        w->r = !(p[1] & 0x80);
        w->x = !(p[1] & 0x40);
        w->b = !(p[1] & 0x20);
        v = p[2];
        d->w = v >> 7;
        w->pos += 3;
        break;
    default:
        d->encoding = ENC_EVEX;
        d->map = p[1] & 7;
        w->r = !(p[1] & 0x80);
        w->x = !(p[1] & 0x40);
        w->b = !(p[1] & 0x20);
        w->r2 = !(p[1] & 0x10);
        v = p[2];
        d->w = v >> 7;
        d->z = p[3] >> 7;
        d->vl = p[3] >> 5 & 3;
        d->b = p[3] >> 4 & 1;
        w->v2 = !(p[3] & 8);
        d->aaa = p[3] & 7;
        w->pos += 4;
        if (p[1] & 8 || !(v & 4) || (d->z && !d->aaa))
            return false;
        break;
    }
    if (d->encoding == ENC_VEX)
        d->vl = v >> 2 & 1;
    d->pp = v & 3;
    d->vvvv = ~v >> 3 & 15;
    w->dims[OPDIM_VVVV] = d->vvvv || w->v2;
    if (d->bits != 64) { /* there are only 8 registers; bits that select others are ignored, except V' */
        if (w->v2)
            return false;
        d->vvvv &= 7;
        w->b = w->r2 = 0;
    }
    d->vvvv |= (u8)(w->v2 << 4);
    d->rex = (u8)(0x40 | d->w << 3 | w->r << 2 | w->x << 1 | w->b);
    w->dims[OPDIM_PP] = d->pp;
    w->dims[OPDIM_MODE64] = d->bits == 64;
    w->dims[OPDIM_W] = d->w;
    w->dims[OPDIM_L] = d->vl;
    w->dims[OPDIM_B] = d->b;
    w->dims[OPDIM_MASK] = d->z ? 2 : d->aaa != 0;
    return true;
}

/* Follows the decision graph. *by_modrm: a decision depended on ModRM. */
static unsigned descend(const struct walk *w, unsigned word, bool *by_modrm)
{
    while (word & OPTREE_NODE) {
        const optree_t *node = optree + (word & (OPTREE_NODE - 1)) * 2;
        *by_modrm |= node[0] <= OPDIM_RM;
        word = node[1 + w->dims[node[0]]];
    }
    return word;
}

static void address16(struct decoded *d, struct walk *w)
{
    static const u8 bases[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static const u8 indexes[8] = {RSI, RDI, RSI, RDI, 0xff, 0xff, 0xff, 0xff};
    unsigned size = d->mod; /* of the displacement */
    unsigned rm = d->modrm & 7;
    if (d->mod == 0 && rm == 6) {
        size = 2;
    } else {
        d->base = bases[rm];
        d->index = indexes[rm];
    }
    if (d->base == RBP)
        d->seg = SS;
    if (size) {
        d->disp_off = (u8)w->pos;
        d->disp = read_signed(w->buf + w->pos, size);
        if (size == 1)
            d->disp = (s64)((u64)d->disp << d->desc->disp8_shift);
        w->pos += size;
    }
}

static void address32(struct decoded *d, struct walk *w)
{
    static const u8 sizes[4] = {0, 1, 4, 0};
    unsigned size = sizes[d->mod], rm = d->modrm & 7;
    if (rm == 4) {
        u8 sib = w->buf[w->pos++];
        d->scale = sib >> 6;
        d->index = (u8)((sib >> 3 & 7) | w->x << 3);
        if (d->desc->flags & OPF_VSIB)
            d->index |= (u8)(w->v2 << 4);
        else if (d->index == RSP)
            d->index = 0xff;
        rm = sib & 7;
        if (rm == 5 && d->mod == 0)
            size = 4;
        else
            d->base = (u8)(rm | w->b << 3);
    } else if (rm == 5 && d->mod == 0) {
        size = 4;
        d->rip_relative = d->bits == 64;
    } else {
        d->base = (u8)(rm | w->b << 3);
    }
    if (d->base == RSP || d->base == RBP)
        d->seg = SS;
    if (size) {
        d->disp_off = (u8)w->pos;
        d->disp = read_signed(w->buf + w->pos, size);
        if (size == 1)
            d->disp = (s64)((u64)d->disp << d->desc->disp8_shift);
        w->pos += size;
    }
}

/* False for operands that the table allows but no processor accepts. */
static bool operands_ok(const struct decoded *d, const struct walk *w)
{
    unsigned check = d->desc->check;
    if (d->lock && !(d->has_mem && d->desc->flags & OPF_LOCK))
        return false;
    if (d->desc->flags & OPF_VSIB && ((d->modrm & 7) != 4 || d->asize == 2))
        return false;
    if (d->encoding == ENC_LEGACY) {
        if (d->map == 1 && (d->opcode & 0xfc) == 0x20 && d->reg >= 8) /* above CR7 and DR7 there is only CR8 */
            return d->reg == 8 && !(d->opcode & 1);
        return true;
    }
    /* VF[C]MADDCPH, VF[C]MULCPH and the scalar ones: the destination must not be the register of a source. */
    if (d->encoding == ENC_EVEX && d->map == 6 && (d->opcode & 0x7e) == 0x56 &&
        (d->reg == d->vvvv || (d->mod == 3 && d->reg == d->rm)))
        return false;
    if (check & OPCHK_REG_MASK && (w->r || w->r2))
        return false;
    if (check & OPCHK_REG_GPR && w->r2)
        return false;
    if (check & OPCHK_VVVV_MASK && d->vvvv > 7)
        return false;
    if (check & OPCHK_VVVV_GPR && d->vvvv > 15)
        return false;
    if (check & OPCHK_GATHER) {
        if (d->reg == d->index)
            return false;
        if (d->encoding == ENC_VEX && (d->reg == d->vvvv || d->index == d->vvvv))
            return false;
    }
    return true;
}

static void immediates(struct decoded *d, struct walk *w)
{
    const struct opdesc *o = d->desc;
    if (!o->imm1)
        return;
    d->imm_off = (u8)w->pos;
    d->imm = (u64)read_signed(w->buf + w->pos, o->imm1);
    /* The immediates of far pointers, RET n and ENTER are unsigned. */
    if (d->encoding == ENC_LEGACY && d->map == 0 &&
        (d->opcode == 0x9a || d->opcode == 0xea || d->opcode == 0xc2 || d->opcode == 0xca || d->opcode == 0xc8))
        d->imm = read_unsigned(w->buf + w->pos, o->imm1);
    w->pos += o->imm1;
    if (o->imm2) {
        d->imm2 = read_unsigned(w->buf + w->pos, o->imm2);
        w->pos += o->imm2;
    }
}

/* Reads the opcode behind a VEX or EVEX prefix. *word: where the decision graph begins. False: #UD. */
static inline __attribute__((always_inline)) bool vector_opcode(struct decoded *d, struct walk *w, unsigned bits,
                                                                bool protected_mode, unsigned *word)
{
    if (!vector_prefix(d, w) || !protected_mode || d->map == 0)
        return false;
    d->opcode_off = (u8)w->pos;
    d->opcode = w->buf[w->pos++];
    if (d->encoding == ENC_VEX) {
        if (d->map > 3)
            return false;
        *word = opcode_root[OPROOT_VEX + d->map - 1][d->opcode];
    } else {
        if (d->map == 4 || d->map == 7)
            return false;
        *word = opcode_root[OPROOT_EVEX + d->map - (d->map > 3 ? 2 : 1)][d->opcode];
    }
    d->osize = bits == 64 && d->w ? 8 : 4;
    return true;
}

/* Reads any other opcode; c is its first byte. Returns where the decision graph begins. */
static inline __attribute__((always_inline)) unsigned legacy_opcode(struct decoded *d, struct walk *w, unsigned bits, u8 c)
{
    if (d->rex) {
        d->w = d->rex >> 3 & 1;
        w->r = d->rex >> 2 & 1;
        w->x = d->rex >> 1 & 1;
        w->b = d->rex & 1;
    }
    w->pos++;
    if (c == 0x0f) {
        c = w->buf[w->pos++];
        d->map = 1;
        if (c == 0x38 || c == 0x3a) {
            d->map = c == 0x38 ? 2 : 3;
            c = w->buf[w->pos++];
        }
    }
    d->opcode_off = (u8)(w->pos - 1);
    d->opcode = c;
    unsigned word = opcode_root[OPROOT_LEGACY + d->map][c];
    if (unlikely(c == 0x90) && d->map == 0 && w->b)
        word = OPROOT_90_REX_B;
    w->dims[OPDIM_REP] = d->rep ? d->rep - 0xf1 : 0;
    w->dims[OPDIM_ASIZE67] = d->addr67;
    w->dims[OPDIM_SIZE] = (u8)((bits == 64 ? 4 + d->w * 2 : bits == 32 ? 2 : 0) + d->opsize66);
    d->osize = d->w ? 8 : (bits == 16) != d->opsize66 ? 2 : 4;
    return word;
}

/* Reads the operands that ModRM names, or that the opcode names if there is no ModRM. */
static inline __attribute__((always_inline)) void operands(struct decoded *d, struct walk *w)
{
    if (d->desc->flags & OPF_MODRM) {
        unsigned check = d->desc->check;
        d->has_modrm = true;
        d->modrm_off = (u8)w->pos++;
        d->mod = d->modrm >> 6;
        d->reg = d->modrm >> 3 & 7;
        if (!(check & OPCHK_REG_LOW))
            d->reg |= (u8)(w->r << 3 | w->r2 << 4);
        if (d->encoding == ENC_LEGACY && d->map == 1 && (d->opcode & 0xfc) == 0x20)
            d->mod = 3; /* MOV to and from control and debug registers: mod is ignored */
        if (d->mod == 3) {
            d->rm = d->modrm & 7;
            if (!(check & OPCHK_RM_LOW)) {
                d->rm |= (u8)(w->b << 3);
                if (d->encoding == ENC_EVEX && !d->desc->rm.size)
                    d->rm |= (u8)(w->x << 4);
            }
        } else {
            d->rm = d->modrm & 7;
            d->has_mem = true;
            if (d->asize == 2)
                address16(d, w);
            else
                address32(d, w);
        }
    } else {
        d->modrm = 0;
        d->reg = (u8)((d->opcode & 7) | w->b << 3);
        if (d->encoding == ENC_LEGACY && d->map == 0 && (d->opcode & 0xfc) == 0xa0) { /* moffs */
            d->has_mem = true;
            d->disp_off = (u8)w->pos;
            d->disp = (s64)read_unsigned(w->buf + w->pos, d->asize);
            w->pos += d->asize;
        }
    }
}

enum decode_result decode(struct decoded *d, const u8 *bytes, unsigned avail, unsigned bits, bool protected_mode)
{
    struct walk w;
    *d = (struct decoded){.bits = (u8)bits, .seg_override = 0xff, .base = 0xff, .index = 0xff, .seg = DS};
    fill(&w, bytes, avail);
    w.pos = 0;
    w.r = w.x = w.b = w.r2 = w.v2 = 0;
    if (!prefixes(d, &w))
        return short_of(d, &w);

    d->asize = bits == 64 ? (d->addr67 ? 4 : 8) : (bits == 32) != d->addr67 ? 4 : 2;
    unsigned word;
    const u8 c = w.buf[w.pos];
    if ((c == 0xc4 || c == 0xc5 || c == 0x62) && (bits == 64 || w.buf[w.pos + 1] >= 0xc0)) {
        if (!vector_opcode(d, &w, bits, protected_mode, &word))
            return undefined(d, &w);
    } else {
        word = legacy_opcode(d, &w, bits, c);
    }
    if (w.pos > w.avail)
        return short_of(d, &w);

    d->modrm = w.buf[w.pos];
    w.dims[OPDIM_MOD] = d->modrm >= 0xc0;
    w.dims[OPDIM_REG] = d->modrm >> 3 & 7;
    w.dims[OPDIM_RM] = d->modrm & 7;
    bool by_modrm = false;
    unsigned n = descend(&w, word, &by_modrm);
    if (!n && w.v2 && d->vvvv == 16) { /* only EVEX.V' is set: it may be part of a vector index */
        w.dims[OPDIM_VVVV] = 0;
        n = descend(&w, word, &by_modrm);
        if (!(opdescs[n].flags & OPF_VSIB))
            n = 0;
        d->vvvv = 0;
    }
    d->desc = &opdescs[n];
    if (!n || (d->desc->check & OPCHK_PROTECTED && !protected_mode)) {
        w.pos += by_modrm;
        d->has_modrm = by_modrm;
        return undefined(d, &w);
    }
    if (d->desc->osize)
        d->osize = d->desc->osize;

    operands(d, &w);
    if (d->seg_override != 0xff)
        d->seg = d->seg_override;
    immediates(d, &w);

    if (w.pos > w.avail)
        return short_of(d, &w);
    if (!operands_ok(d, &w))
        return undefined(d, &w);
    d->len = (u8)w.pos;
    for (unsigned i = 0; i < d->len; i++)
        d->bytes[i] = w.buf[i];
    return DECODE_OK;
}
