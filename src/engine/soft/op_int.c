/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_int.c - the common integer instructions: moves, bit tests, flags; lower_int, which tries the other files, too.
 * Arithmetic is in op_arith.c, the stack and near jumps are in op_near.c. The rarer instructions run on the host unit
 * (native.c).
 */
#include "engine/soft/op_int.h"

/* ---- moves -------------------------------------------------------------- */

#define MOVES(sz)                                                                                               \
    OP(mov_rr##sz) { W_##sz(v, i->rm, R_##sz(v, i->reg)); NEXT(v, i); }                                         \
    OP(mov_rm##sz)                                                                                              \
    {                                                                                                           \
        W_##sz(v, i->reg, (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz));                     \
        NEXT(v, i);                                                                                             \
    }                                                                                                           \
    OP(mov_mr##sz)                                                                                              \
    {                                                                                                           \
        soft_store(v, i, insn_linear(v, i, sz, ACCESS_WRITE), sz, R_##sz(v, i->reg));                           \
        NEXT(v, i);                                                                                             \
    }                                                                                                           \
    OP(mov_ri##sz) { W_##sz(v, i->rm, (T_##sz)i->imm); NEXT(v, i); }                                            \
    OP(mov_mi##sz)                                                                                              \
    {                                                                                                           \
        soft_store(v, i, insn_linear(v, i, sz, ACCESS_WRITE), sz, (T_##sz)i->imm);                              \
        NEXT(v, i);                                                                                             \
    }                                                                                                           \
    OP(xchg_rr##sz)                                                                                             \
    {                                                                                                           \
        T_##sz a = R_##sz(v, i->rm), b = R_##sz(v, i->reg);                                                     \
        W_##sz(v, i->rm, b);                                                                                    \
        W_##sz(v, i->reg, a);                                                                                   \
        NEXT(v, i);                                                                                             \
    }                                                                                                           \
    OP(lea##sz) { W_##sz(v, i->reg, (T_##sz)insn_ea(v, i)); NEXT(v, i); }
MOVES(1)
MOVES(2)
MOVES(4)
MOVES(8)
static soft_fn *const mov[FORMS][SIZES] = {FORM_ROW(mov, rr), FORM_ROW(mov, rm), FORM_ROW(mov, mr), FORM_ROW(mov, ri),
                                           FORM_ROW(mov, mi)};
static soft_fn *const xchg_rr[SIZES] = {xchg_rr1, xchg_rr2, xchg_rr4, xchg_rr8};
static soft_fn *const lea[SIZES] = {lea1, lea2, lea4, lea8};

/* MOVZX, MOVSX, MOVSXD: from size f to size t. */
#define EXTEND(name, f, t, cast)                                                                        \
    OP(name##_r##f##t) { W_##t(v, i->reg, (T_##t)(cast)R_##f(v, i->rm)); NEXT(v, i); }                  \
    OP(name##_m##f##t)                                                                                  \
    {                                                                                                   \
        W_##t(v, i->reg, (T_##t)(cast)soft_load(v, i, insn_linear(v, i, f, ACCESS_READ), f));           \
        NEXT(v, i);                                                                                     \
    }
EXTEND(movzx, 1, 2, u8)
EXTEND(movzx, 1, 4, u8)
EXTEND(movzx, 2, 2, u16)
EXTEND(movzx, 2, 4, u16)
EXTEND(movsx, 1, 2, s8)
EXTEND(movsx, 1, 4, s8)
EXTEND(movsx, 1, 8, s8)
EXTEND(movsx, 2, 2, s16)
EXTEND(movsx, 2, 4, s16)
EXTEND(movsx, 2, 8, s16)
EXTEND(movsx, 4, 4, s32)
EXTEND(movsx, 4, 8, s32)
static soft_fn *const movzx[2][2][SIZES] = {{{NULL, movzx_r12, movzx_r14, movzx_r14}, {NULL, movzx_m12, movzx_m14, movzx_m14}},
                                            {{NULL, movzx_r22, movzx_r24, movzx_r24}, {NULL, movzx_m22, movzx_m24, movzx_m24}}};
static soft_fn *const movsx[3][2][SIZES] = {{{NULL, movsx_r12, movsx_r14, movsx_r18}, {NULL, movsx_m12, movsx_m14, movsx_m18}},
                                            {{NULL, movsx_r22, movsx_r24, movsx_r28}, {NULL, movsx_m22, movsx_m24, movsx_m28}},
                                            {{NULL, movsx_r22, movsx_r44, movsx_r48}, {NULL, movsx_m22, movsx_m44, movsx_m48}}};

OP(cbw2) { R16(v, REG_OFF(RAX)) = (u16)(s8)R8(v, REG_OFF(RAX)); NEXT(v, i); }
OP(cwde4) { R64(v, REG_OFF(RAX)) = (u32)(s16)R16(v, REG_OFF(RAX)); NEXT(v, i); }
OP(cdqe8) { R64(v, REG_OFF(RAX)) = (u64)(s32)R32(v, REG_OFF(RAX)); NEXT(v, i); }
OP(cwd2) { R16(v, REG_OFF(RDX)) = (u16)((s16)R16(v, REG_OFF(RAX)) >> 15); NEXT(v, i); }
OP(cdq4) { R64(v, REG_OFF(RDX)) = (u32)((s32)R32(v, REG_OFF(RAX)) >> 31); NEXT(v, i); }
OP(cqo8) { R64(v, REG_OFF(RDX)) = (u64)((s64)R64(v, REG_OFF(RAX)) >> 63); NEXT(v, i); }
OP(nop) { NEXT(v, i); }

/* ---- bit tests with the bit number in a register ------------------------- */

/* A memory operand is a bit string: the bit number also moves the address, by whole operands. */
OP(bt_mr)
{
    unsigned size = i->size, bits = size * 8;
    s64 n = size == 2 ? (s16)R16(v, i->reg) : size == 4 ? (s32)R32(v, i->reg) : (s64)R64(v, i->reg);
    u64 ea = R64(v, i->base) + (R64(v, i->index) << i->scale) + (u64)i->disp + (u64)((n & ~(s64)(bits - 1)) / 8);
    ea = ea << i->ashift >> i->ashift;
    unsigned bit = (unsigned)n & (bits - 1);
    bool write = i->aux != 0;
    u64 lin = soft_linear(v, i, i->seg, ea, size, write ? ACCESS_WRITE : ACCESS_READ);
    { /* a block, as in RMW_BEGIN */
    u64 buf[16];
    bool bounce;
    void *p = soft_ptr(v, i, lin, size, write ? ACCESS_RMW : ACCESS_READ, buf, &bounce);
    /* An atomic operation needs to cover only the byte that holds the bit. */
    u8 *q = (u8 *)p + bit / 8, m = (u8)(1 << bit % 8), old;
    bool lock = i->lock && !bounce;
    switch (i->aux) {
    case 0: old = *q; break;
    case 1: old = lock ? __atomic_fetch_or(q, m, __ATOMIC_SEQ_CST) : *q; break;
    case 2: old = lock ? __atomic_fetch_and(q, (u8)~m, __ATOMIC_SEQ_CST) : *q; break;
    default: old = lock ? __atomic_fetch_xor(q, m, __ATOMIC_SEQ_CST) : *q; break;
    }
    if (!lock && write)
        *q = i->aux == 1 ? old | m : i->aux == 2 ? old & ~m : old ^ m;
    if (bounce && write)
        soft_bounce_out(v, i, lin, size, p);
    v->rflags = (v->rflags & ~(u64)RFLAGS_CF) | ((old & m) ? RFLAGS_CF : 0);
    }
    NEXT(v, i);
}

/* ---- flags and odds ----------------------------------------------------- */

OP(clc) { v->rflags &= ~(u64)RFLAGS_CF; NEXT(v, i); }
OP(stc) { v->rflags |= RFLAGS_CF; NEXT(v, i); }
OP(cmc) { v->rflags ^= RFLAGS_CF; NEXT(v, i); }
OP(cld) { v->rflags &= ~(u64)RFLAGS_DF; NEXT(v, i); }
OP(std) { v->rflags |= RFLAGS_DF; NEXT(v, i); }
OP(lahf) { R8(v, REG_OFF(RAX) + 1) = (u8)((v->rflags & 0xd5) | 2); NEXT(v, i); }
OP(sahf)
{
    v->rflags = (v->rflags & ~0xd5ull) | (R8(v, REG_OFF(RAX) + 1) & 0xd5);
    NEXT(v, i);
}
OP(bswap4) { R64(v, i->rm) = __builtin_bswap32(R32(v, i->rm)); NEXT(v, i); }
OP(bswap8) { R64(v, i->rm) = __builtin_bswap64(R64(v, i->rm)); NEXT(v, i); }
OP(xlat)
{
    u64 ea = (v->gpr[RBX] + R8(v, REG_OFF(RAX))) << i->ashift >> i->ashift;
    R8(v, REG_OFF(RAX)) = (u8)soft_load(v, i, soft_linear(v, i, i->seg, ea, 1, ACCESS_READ), 1);
    NEXT(v, i);
}

/* ---- lowering ----------------------------------------------------------- */

static bool lower_mov(const struct decoded *d, struct insn *i)
{
    if (d->map != 0)
        return false; /* a control or debug register: not done here */
    unsigned size = d->osize, op = d->opcode;
    switch (op) {
    case 0x88: case 0x89:
        i->fn = mov[d->mod == 3 ? RR : MR][size_index(op == 0x88 ? 1 : size)];
        return true;
    case 0x8a: case 0x8b:
        if (d->mod == 3) {
            u8 t = i->rm;
            i->rm = i->reg;
            i->reg = t;
        }
        i->fn = mov[d->mod == 3 ? RR : RM][size_index(op == 0x8a ? 1 : size)];
        return true;
    case 0xa0: case 0xa1:
        i->reg = REG_OFF(RAX);
        i->fn = mov[RM][size_index(op == 0xa0 ? 1 : size)];
        return true;
    case 0xa2: case 0xa3:
        i->reg = REG_OFF(RAX);
        i->fn = mov[MR][size_index(op == 0xa2 ? 1 : size)];
        return true;
    case 0xb0 ... 0xbf:
        i->rm = i->reg;
        i->fn = mov[RI][size_index(op < 0xb8 ? 1 : size)];
        return true;
    case 0xc6: case 0xc7:
        i->fn = mov[d->mod == 3 ? RI : MI][size_index(op == 0xc6 ? 1 : size)];
        return true;
    }
    return false; /* a segment register: not done here */
}

bool lower_int(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    const bool mem = has_memory(d);
    if (d->lock) {
        /* Locked instructions run on the host unit as real atomics, except bit strings, whose address the register moves. */
        if (d->map == 1 && (d->opcode == 0xab || d->opcode == 0xb3 || d->opcode == 0xbb)) {
            i->aux = d->opcode == 0xab ? 1 : d->opcode == 0xb3 ? 2 : 3;
            i->fn = bt_mr;
            return true;
        }
        return false;
    }
    if (lower_near(v, d, i) || lower_arith(d, i))
        return true;
    const unsigned s = size_index(d->osize);
    switch (d->desc->mnemonic) {
    case M_MOV: return lower_mov(d, i);
    case M_LEA: i->fn = lea[s]; return true;
    case M_XCHG:
        if (mem)
            return false; /* always locked: runs on the host unit */
        if (d->opcode >= 0x90 && d->opcode <= 0x97) {
            i->rm = REG_OFF(RAX);
            i->fn = xchg_rr[s];
        } else {
            i->fn = xchg_rr[d->opcode == 0x86 ? SZ1 : s];
        }
        return true;
    case M_MOVZX: i->fn = movzx[d->opcode & 1][mem][s]; return true;
    case M_MOVSX: i->fn = movsx[d->opcode & 1][mem][s]; return true;
    case M_MOVSXD: i->fn = movsx[2][mem][s]; return true;
    case M_CBW: i->fn = cbw2; return true;
    case M_CWDE: i->fn = cwde4; return true;
    case M_CDQE: i->fn = cdqe8; return true;
    case M_CWD: i->fn = cwd2; return true;
    case M_CDQ: i->fn = cdq4; return true;
    case M_CQO: i->fn = cqo8; return true;
    case M_NOP: i->fn = nop; return true;
    case M_PAUSE: i->fn = op_pause; return true;
    case M_BT: case M_BTS: case M_BTR: case M_BTC:
        if (d->opcode == 0xba || !mem)
            return false;
        i->aux = d->opcode == 0xa3 ? 0 : d->opcode == 0xab ? 1 : d->opcode == 0xb3 ? 2 : 3;
        i->fn = bt_mr;
        return true;
    case M_CLC: i->fn = clc; return true;
    case M_STC: i->fn = stc; return true;
    case M_CMC: i->fn = cmc; return true;
    case M_CLD: i->fn = cld; return true;
    case M_STD: i->fn = std; return true;
    case M_LAHF: i->fn = lahf; return true;
    case M_SAHF: i->fn = sahf; return true;
    case M_BSWAP:
        if (d->osize == 2)
            return false;
        i->rm = i->reg;
        i->fn = d->osize == 8 ? bswap8 : bswap4;
        return true;
    case M_XLAT: i->fn = xlat; return true;
    }
    return false;
}
