/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_legacy.c - instructions that a 64-bit host cannot encode: decimal and ASCII adjustment, SALC, BOUND, PUSHA, POPA;
 * and ENTER with nesting levels. The source is SDM vol. 2; flags that the manual leaves undefined are as current
 * processors leave them.
 */
#include "engine/soft/system.h"

static u64 flags_szp(u8 x)
{
    u64 f = x ? 0 : RFLAGS_ZF;
    if (x & 0x80)
        f |= RFLAGS_SF;
    if (!__builtin_parity(x))
        f |= RFLAGS_PF;
    return f;
}
static void flags_set(struct soft_vcpu *v, u64 f)
{
    v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | f;
}

static void op_aaa_aas(struct soft_vcpu *v, const struct insn *i)
{
    const bool adjust = (v->gpr[RAX] & 15) > 9 || (v->rflags & RFLAGS_AF);
    u16 ax = (u16)v->gpr[RAX];
    if (adjust)
        ax = (u16)(i->aux ? ax - 0x106 : ax + 0x106);
    ax &= 0xff0f;
    R16(v, REG_OFF(RAX)) = ax;
    flags_set(v, flags_szp((u8)ax) | (adjust ? RFLAGS_AF | RFLAGS_CF : 0));
    NEXT(v, i);
}

static void op_daa_das(struct soft_vcpu *v, const struct insn *i)
{
    const u8 old = R8(v, REG_OFF(RAX));
    const bool cf = v->rflags & RFLAGS_CF;
    u8 al = old;
    u64 f = 0;
    if ((old & 15) > 9 || (v->rflags & RFLAGS_AF)) {
        f |= RFLAGS_AF;
        if (i->aux ? cf || old < 6 : cf || old > 0xf9)
            f |= RFLAGS_CF;
        al = (u8)(i->aux ? al - 6 : al + 6);
    }
    if (old > 0x99 || cf) {
        al = (u8)(i->aux ? al - 0x60 : al + 0x60);
        f |= RFLAGS_CF;
    } else if (!i->aux) {
        f &= ~(u64)RFLAGS_CF;
    }
    R8(v, REG_OFF(RAX)) = al;
    flags_set(v, f | flags_szp(al));
    NEXT(v, i);
}

static void op_aam(struct soft_vcpu *v, const struct insn *i)
{
    const u8 base = (u8)i->imm, al = R8(v, REG_OFF(RAX));
    if (!base)
        soft_raise(v, i, VEC_DE);
    R16(v, REG_OFF(RAX)) = (u16)((al / base) << 8 | al % base);
    flags_set(v, flags_szp(al % base));
    NEXT(v, i);
}
static void op_aad(struct soft_vcpu *v, const struct insn *i)
{
    const u16 ax = R16(v, REG_OFF(RAX));
    const u8 al = (u8)(ax + (ax >> 8) * (u8)i->imm);
    R16(v, REG_OFF(RAX)) = al;
    flags_set(v, flags_szp(al));
    NEXT(v, i);
}

static void op_salc(struct soft_vcpu *v, const struct insn *i)
{
    R8(v, REG_OFF(RAX)) = v->rflags & RFLAGS_CF ? 0xff : 0;
    NEXT(v, i);
}

static void op_bound(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size;
    const u64 lin = insn_linear(v, i, 2 * n, ACCESS_READ);
    s64 low, high, x;
    if (n == 2) {
        low = (s16)soft_load(v, i, lin, 2);
        high = (s16)soft_load(v, i, lin + 2, 2);
        x = (s16)R16(v, i->reg);
    } else {
        low = (s32)soft_load(v, i, lin, 4);
        high = (s32)soft_load(v, i, lin + 4, 4);
        x = (s32)R32(v, i->reg);
    }
    if (x < low || x > high)
        soft_raise(v, i, VEC_BR);
    NEXT(v, i);
}

static void op_pusha(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size;
    SYNC(v, i);
    for (unsigned r = 0; r < 8; r++)
        stack_poke(v, (r + 1) * n, n, v->gpr[r]); /* RSP is stored as it was before */
    sp_set(v, v->gpr[RSP] - 8 * n);
    NEXT(v, i);
}
static void op_popa(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size;
    u64 x[8];
    SYNC(v, i);
    for (unsigned k = 0; k < 8; k++)
        x[7 - k] = stack_peek(v, k * n, n);
    for (unsigned r = 0; r < 8; r++)
        if (r != RSP)
            reg_write(v, REG_OFF(r), n, x[r]);
    sp_set(v, v->gpr[RSP] + 8 * n);
    NEXT(v, i);
}

/* ENTER. aux: the nesting level. The frame pointers of the outer levels are copied (SDM vol. 2). */
static void op_enter(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size, level = i->aux;
    const u64 mask = sp_mask(v);
    SYNC(v, i);
    u64 depth = n;
    stack_poke(v, depth, n, v->gpr[RBP]);
    u64 frame = v->gpr[RSP] - n;
    if (mask == 0xffff) /* ESP after the push: its upper half does not change */
        frame = (v->gpr[RSP] & ~mask) | (frame & mask);
    for (unsigned k = 1; k < level; k++) {
        /* Reads the word at RBP - k*n: its depth is the distance from RSP. */
        u64 x = stack_peek(v, v->gpr[RBP] - k * n - v->gpr[RSP], n);
        depth += n;
        stack_poke(v, depth, n, x);
    }
    if (level) {
        depth += n;
        stack_poke(v, depth, n, frame);
    }
    const u64 sp = (v->gpr[RSP] - depth - (i->imm & 0xffff)) & mask;
    /* The new top must be writable: a fault here leaves RSP and RBP as they were. */
    soft_probe(v, NULL, soft_linear(v, NULL, soft_seg(v, SS), sp, n, ACCESS_WRITE), n, ACCESS_WRITE);
    reg_write(v, REG_OFF(RBP), n, frame);
    sp_set(v, sp);
    NEXT(v, i);
}

/* ---- lowering ----------------------------------------------------------- */

static bool set(struct insn *i, soft_fn *fn, unsigned size, unsigned aux)
{
    i->fn = fn;
    i->size = (u8)size;
    i->aux = (u8)aux;
    return true;
}

bool lower_legacy(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    (void)v;
    if (d->encoding != ENC_LEGACY || d->map != 0)
        return false;
    if (d->opcode == 0xc8)
        return set(i, op_enter, stack_size(d), d->imm2 & 31);
    if (d->bits == 64)
        return false;
    switch (d->opcode) {
    case 0x27: return set(i, op_daa_das, 1, 0);
    case 0x2f: return set(i, op_daa_das, 1, 1);
    case 0x37: return set(i, op_aaa_aas, 1, 0);
    case 0x3f: return set(i, op_aaa_aas, 1, 1);
    case 0x60: return set(i, op_pusha, stack_size(d), 0);
    case 0x61: return set(i, op_popa, stack_size(d), 0);
    case 0x62: return d->has_mem ? set(i, op_bound, d->osize, 0) : false;
    case 0xd4: return set(i, op_aam, 1, 0);
    case 0xd5: return set(i, op_aad, 1, 0);
    case 0xd6: return set(i, op_salc, 1, 0);
    }
    return false;
}
