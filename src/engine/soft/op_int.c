/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_int.c - the integer instructions that programs are made of: moves, arithmetic,
 * shifts, the stack, near jumps. What is rarer goes to the host unit (native.c).
 *
 * The result and the flags of an operation come from the host's own instruction of the
 * same size, so that flags the manual leaves undefined are this processor's own too.
 * One handler per operation, size and operand form; the forms are
 *   rr  register, register      rm  register, memory      mr  memory, register
 *   ri  register, immediate     mi  memory, immediate     r, m  one operand
 */
#include "engine/soft/block.h"
#include "engine/soft/soft.h"

enum { SZ1, SZ2, SZ4, SZ8, SIZES };
static unsigned size_index(unsigned size) { return size == 1 ? SZ1 : size == 2 ? SZ2 : size == 4 ? SZ4 : SZ8; }

/* LAHF and SETO are cheaper than PUSHF/POP. AH: SF ZF 0 AF 0 PF 1 CF, AL: OF. */
#define TAKE_FLAGS "lahf\n\tseto %%al\n\t"
static inline u64 flags_of(u32 ax) { return (ax >> 8 & 0xd5) | (ax & 1) << 11; }
static inline void set_flags(struct soft_vcpu *v, u32 ax)
{
    v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | flags_of(ax);
}
/* Those that leave CF (INC, DEC). */
static inline void set_flags_not_cf(struct soft_vcpu *v, u32 ax)
{
    const u64 mask = RFLAGS_ARITH & ~RFLAGS_CF;
    v->rflags = (v->rflags & ~mask) | (flags_of(ax) & mask);
}

#define R_1(v, off) R8(v, off)
#define R_2(v, off) R16(v, off)
#define R_4(v, off) R32(v, off)
#define R_8(v, off) R64(v, off)
/* Register results: 4 bytes zero-extend. */
#define W_1(v, off, x) (R8(v, off) = (u8)(x))
#define W_2(v, off, x) (R16(v, off) = (u16)(x))
#define W_4(v, off, x) (R64(v, off) = (u32)(x))
#define W_8(v, off, x) (R64(v, off) = (x))
#define T_1 u8
#define T_2 u16
#define T_4 u32
#define T_8 u64
#define SUF_1 "b"
#define SUF_2 "w"
#define SUF_4 "l"
#define SUF_8 "q"

#define OP(name) static void name(struct soft_vcpu *v, const struct insn *i)

/*
 * A memory destination: a pointer to it for reading and writing, put back where it was a copy.  The two are a
 * block: with the buffer still in scope the compiler could not make NEXT a jump, and the stack would grow.
 */
#define RMW_BEGIN(sz)                                                       \
    {                                                                       \
    u64 lin = insn_linear(v, i, sz, ACCESS_WRITE);                          \
    u64 buf_[16];                                                           \
    bool bounce;                                                            \
    T_##sz *p = soft_ptr(v, i, lin, sz, ACCESS_RMW, buf_, &bounce)
#define RMW_END(sz)                         \
    if (unlikely(bounce))                   \
        soft_bounce_out(v, i, lin, sz, p);  \
    }

/* ---- two-operand arithmetic --------------------------------------------- */

/* carry: brings the guest's CF into the host's before the operation. */
#define NO_CARRY
#define CARRY "btl $0, %k[fl]\n\t"
#define ALU_FN(name, sz, carry)                                                                                    \
    static inline T_##sz alu_##name##sz(struct soft_vcpu *v, T_##sz a, T_##sz b)                                   \
    {                                                                                                              \
        u32 ax;                                                                                                    \
        __asm__(carry #name SUF_##sz " %[b], %[a]\n\t" TAKE_FLAGS                                                  \
                : [a] "+&r"(a), "=&a"(ax)                                                                          \
                : [b] "r"(b), [fl] "r"(v->rflags)                                                                  \
                : "cc");                                                                                           \
        set_flags(v, ax);                                                                                          \
        return a;                                                                                                  \
    }
#define ALU_FORMS(name, sz)                                                                                        \
    OP(name##_rr##sz) { W_##sz(v, i->rm, alu_##name##sz(v, R_##sz(v, i->rm), R_##sz(v, i->reg))); NEXT(v, i); }    \
    OP(name##_rm##sz)                                                                                              \
    {                                                                                                              \
        T_##sz b = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                                \
        W_##sz(v, i->reg, alu_##name##sz(v, R_##sz(v, i->reg), b));                                                \
        NEXT(v, i);                                                                                                \
    }                                                                                                              \
    OP(name##_mr##sz)                                                                                              \
    {                                                                                                              \
        RMW_BEGIN(sz);                                                                                             \
        *p = alu_##name##sz(v, *p, R_##sz(v, i->reg));                                                             \
        RMW_END(sz);                                                                                               \
        NEXT(v, i);                                                                                                \
    }                                                                                                              \
    OP(name##_ri##sz) { W_##sz(v, i->rm, alu_##name##sz(v, R_##sz(v, i->rm), (T_##sz)i->imm)); NEXT(v, i); }       \
    OP(name##_mi##sz)                                                                                              \
    {                                                                                                              \
        RMW_BEGIN(sz);                                                                                             \
        *p = alu_##name##sz(v, *p, (T_##sz)i->imm);                                                                \
        RMW_END(sz);                                                                                               \
        NEXT(v, i);                                                                                                \
    }
/* CMP and TEST only read. */
#define CMP_FORMS(name, sz)                                                                                        \
    OP(name##_rr##sz) { alu_##name##sz(v, R_##sz(v, i->rm), R_##sz(v, i->reg)); NEXT(v, i); }                      \
    OP(name##_rm##sz)                                                                                              \
    {                                                                                                              \
        T_##sz b = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                                \
        alu_##name##sz(v, R_##sz(v, i->reg), b);                                                                   \
        NEXT(v, i);                                                                                                \
    }                                                                                                              \
    OP(name##_mr##sz)                                                                                              \
    {                                                                                                              \
        T_##sz a = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                                \
        alu_##name##sz(v, a, R_##sz(v, i->reg));                                                                   \
        NEXT(v, i);                                                                                                \
    }                                                                                                              \
    OP(name##_ri##sz) { alu_##name##sz(v, R_##sz(v, i->rm), (T_##sz)i->imm); NEXT(v, i); }                         \
    OP(name##_mi##sz)                                                                                              \
    {                                                                                                              \
        T_##sz a = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                                \
        alu_##name##sz(v, a, (T_##sz)i->imm);                                                                      \
        NEXT(v, i);                                                                                                \
    }
#define ALU(name, carry, forms)                                                                       \
    ALU_FN(name, 1, carry) ALU_FN(name, 2, carry) ALU_FN(name, 4, carry) ALU_FN(name, 8, carry)       \
    forms(name, 1) forms(name, 2) forms(name, 4) forms(name, 8)

ALU(add, NO_CARRY, ALU_FORMS)
ALU(or, NO_CARRY, ALU_FORMS)
ALU(adc, CARRY, ALU_FORMS)
ALU(sbb, CARRY, ALU_FORMS)
ALU(and, NO_CARRY, ALU_FORMS)
ALU(sub, NO_CARRY, ALU_FORMS)
ALU(xor, NO_CARRY, ALU_FORMS)
ALU(cmp, NO_CARRY, CMP_FORMS)
ALU(test, NO_CARRY, CMP_FORMS)

enum form { RR, RM, MR, RI, MI, FORMS };
#define FORM_ROW(name, form) {name##_##form##1, name##_##form##2, name##_##form##4, name##_##form##8}
#define ALU_ROW(name) \
    {FORM_ROW(name, rr), FORM_ROW(name, rm), FORM_ROW(name, mr), FORM_ROW(name, ri), FORM_ROW(name, mi)}
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_COUNT };
static soft_fn *const alu[ALU_COUNT][FORMS][SIZES] = {
    [ALU_ADD] = ALU_ROW(add), [ALU_OR] = ALU_ROW(or),   [ALU_ADC] = ALU_ROW(adc),
    [ALU_SBB] = ALU_ROW(sbb), [ALU_AND] = ALU_ROW(and), [ALU_SUB] = ALU_ROW(sub),
    [ALU_XOR] = ALU_ROW(xor), [ALU_CMP] = ALU_ROW(cmp), [ALU_TEST] = ALU_ROW(test),
};

/* XOR or SUB of a register with itself: zero, whatever it held. */
OP(zero_r4)
{
    R64(v, i->rm) = 0;
    v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | RFLAGS_ZF | RFLAGS_PF;
    NEXT(v, i);
}

/* ---- one-operand arithmetic --------------------------------------------- */

#define UNARY(name, sz, keep)                                                            \
    static inline T_##sz un_##name##sz(struct soft_vcpu *v, T_##sz a)                    \
    {                                                                                    \
        u32 ax;                                                                          \
        __asm__(#name SUF_##sz " %[a]\n\t" TAKE_FLAGS : [a] "+&r"(a), "=&a"(ax) : : "cc"); \
        keep(v, ax);                                                                     \
        return a;                                                                        \
    }                                                                                    \
    OP(name##_r##sz) { W_##sz(v, i->rm, un_##name##sz(v, R_##sz(v, i->rm))); NEXT(v, i); } \
    OP(name##_m##sz) { RMW_BEGIN(sz); *p = un_##name##sz(v, *p); RMW_END(sz); NEXT(v, i); }
#define UNARY_ALL(name, keep) UNARY(name, 1, keep) UNARY(name, 2, keep) UNARY(name, 4, keep) UNARY(name, 8, keep)
#define UNARY_ROW(name) \
    {{name##_r1, name##_r2, name##_r4, name##_r8}, {name##_m1, name##_m2, name##_m4, name##_m8}}
#define FLAGS_NONE(v, ax) (void)(ax)
UNARY_ALL(inc, set_flags_not_cf)
UNARY_ALL(dec, set_flags_not_cf)
UNARY_ALL(neg, set_flags)
UNARY_ALL(not, FLAGS_NONE)
enum { UN_INC, UN_DEC, UN_NEG, UN_NOT, UN_COUNT };
static soft_fn *const unary[UN_COUNT][2][SIZES] = {
    [UN_INC] = UNARY_ROW(inc), [UN_DEC] = UNARY_ROW(dec), [UN_NEG] = UNARY_ROW(neg), [UN_NOT] = UNARY_ROW(not)};

/* ---- shifts ------------------------------------------------------------- */

/*
 * The count is i->imm or CL (aux 1). A masked count of 0 changes no flag; rotates change only CF and OF. Both come
 * out right by giving the host the guest's flags and taking them all back: POPF costs less than the case analysis
 * is worth, and only here.
 */
static inline unsigned shift_count(struct soft_vcpu *v, const struct insn *i)
{
    return i->aux ? R8(v, REG_OFF(RCX)) : (u8)i->imm;
}
#define SHIFT(name, sz)                                                                                       \
    static inline T_##sz sh_##name##sz(struct soft_vcpu *v, T_##sz a, unsigned count)                         \
    {                                                                                                         \
        u64 f = v->rflags & RFLAGS_ARITH;                                                                     \
        __asm__("pushq %[f]\n\tpopfq\n\t" #name SUF_##sz " %%cl, %[a]\n\tpushfq\n\tpopq %[f]"                 \
                : [a] "+r"(a), [f] "+r"(f)                                                                    \
                : "c"(count)                                                                                  \
                : "cc");                                                                                      \
        v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | (f & RFLAGS_ARITH);                                    \
        return a;                                                                                             \
    }                                                                                                         \
    OP(name##_r##sz) { W_##sz(v, i->rm, sh_##name##sz(v, R_##sz(v, i->rm), shift_count(v, i))); NEXT(v, i); } \
    OP(name##_m##sz)                                                                                          \
    {                                                                                                         \
        RMW_BEGIN(sz);                                                                                        \
        *p = sh_##name##sz(v, *p, shift_count(v, i));                                                         \
        RMW_END(sz);                                                                                          \
        NEXT(v, i);                                                                                           \
    }
#define SHIFT_ALL(name) SHIFT(name, 1) SHIFT(name, 2) SHIFT(name, 4) SHIFT(name, 8)
SHIFT_ALL(rol)
SHIFT_ALL(ror)
SHIFT_ALL(rcl)
SHIFT_ALL(rcr)
SHIFT_ALL(shl)
SHIFT_ALL(shr)
SHIFT_ALL(sar)

/* SHL, SHR, SAR of a register by a constant that is not 0 set every flag: no need for the old ones. */
#define SHIFT_IMM(name, sz)                                                                     \
    OP(name##_c##sz)                                                                            \
    {                                                                                           \
        u32 ax;                                                                                 \
        T_##sz a = R_##sz(v, i->rm);                                                            \
        __asm__(#name SUF_##sz " %%cl, %[a]\n\t" TAKE_FLAGS                                     \
                : [a] "+&r"(a), "=&a"(ax)                                                       \
                : "c"((u32)i->imm)                                                              \
                : "cc");                                                                        \
        set_flags(v, ax);                                                                       \
        W_##sz(v, i->rm, a);                                                                    \
        NEXT(v, i);                                                                             \
    }
SHIFT_IMM(shl, 4)
SHIFT_IMM(shl, 8)
SHIFT_IMM(shr, 4)
SHIFT_IMM(shr, 8)
SHIFT_IMM(sar, 4)
SHIFT_IMM(sar, 8)
enum { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR, SH_COUNT };
static soft_fn *const shift[SH_COUNT][2][SIZES] = {
    [SH_ROL] = UNARY_ROW(rol), [SH_ROR] = UNARY_ROW(ror), [SH_RCL] = UNARY_ROW(rcl), [SH_RCR] = UNARY_ROW(rcr),
    [SH_SHL] = UNARY_ROW(shl), [SH_SHR] = UNARY_ROW(shr), [SH_SAR] = UNARY_ROW(sar)};
static soft_fn *const shift_const[SH_COUNT][2] = {
    [SH_SHL] = {shl_c4, shl_c8}, [SH_SHR] = {shr_c4, shr_c8}, [SH_SAR] = {sar_c4, sar_c8}};

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

/* ---- multiplication with one result ------------------------------------- */

#define IMUL(sz)                                                                                                  \
    static inline T_##sz imul_##sz(struct soft_vcpu *v, T_##sz a, T_##sz b)                                       \
    {                                                                                                             \
        u32 ax;                                                                                                   \
        __asm__("imul" SUF_##sz " %[b], %[a]\n\t" TAKE_FLAGS : [a] "+&r"(a), "=&a"(ax) : [b] "r"(b) : "cc");      \
        set_flags(v, ax);                                                                                         \
        return a;                                                                                                 \
    }                                                                                                             \
    OP(imul2_r##sz) { W_##sz(v, i->reg, imul_##sz(v, R_##sz(v, i->reg), R_##sz(v, i->rm))); NEXT(v, i); }         \
    OP(imul2_m##sz)                                                                                               \
    {                                                                                                             \
        T_##sz b = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                               \
        W_##sz(v, i->reg, imul_##sz(v, R_##sz(v, i->reg), b));                                                    \
        NEXT(v, i);                                                                                               \
    }                                                                                                             \
    OP(imul3_r##sz) { W_##sz(v, i->reg, imul_##sz(v, R_##sz(v, i->rm), (T_##sz)i->imm)); NEXT(v, i); }            \
    OP(imul3_m##sz)                                                                                               \
    {                                                                                                             \
        T_##sz b = (T_##sz)soft_load(v, i, insn_linear(v, i, sz, ACCESS_READ), sz);                               \
        W_##sz(v, i->reg, imul_##sz(v, b, (T_##sz)i->imm));                                                       \
        NEXT(v, i);                                                                                               \
    }
IMUL(2)
IMUL(4)
IMUL(8)
static soft_fn *const imul2[2][SIZES] = {{NULL, imul2_r2, imul2_r4, imul2_r8}, {NULL, imul2_m2, imul2_m4, imul2_m8}};
static soft_fn *const imul3[2][SIZES] = {{NULL, imul3_r2, imul3_r4, imul3_r8}, {NULL, imul3_m2, imul3_m4, imul3_m8}};

/* ---- conditions --------------------------------------------------------- */

/* Condition codes in encoding order (SDM vol. 2 app. B table B-10); the odd ones are the even ones' negation. */
#define C_O(f) ((f) >> 11 & 1)
#define C_B(f) ((f)&1)
#define C_Z(f) ((f) >> 6 & 1)
#define C_BE(f) (((f)&0x41) != 0)
#define C_S(f) ((f) >> 7 & 1)
#define C_P(f) ((f) >> 2 & 1)
#define C_L(f) (((f) >> 7 ^ (f) >> 11) & 1)
#define C_LE(f) (C_Z(f) | C_L(f))
#define C_NO(f) (!C_O(f))
#define C_NB(f) (!C_B(f))
#define C_NZ(f) (!C_Z(f))
#define C_NBE(f) (!C_BE(f))
#define C_NS(f) (!C_S(f))
#define C_NP(f) (!C_P(f))
#define C_NL(f) (!C_L(f))
#define C_NLE(f) (!C_LE(f))

/* Near targets outside the code segment, or not canonical, are #GP(0) at the jump. */
static inline void near_check(struct soft_vcpu *v, const struct insn *i, u64 target)
{
    if (v->bits == 64) {
        if (unlikely((u64)((s64)(target << 16) >> 16) != target))
            soft_raise_err(v, i, VEC_GP, 0);
    } else if (unlikely(target > v->s.seg[CS].limit)) {
        soft_raise_err(v, i, VEC_GP, 0);
    }
}
static __attribute__((noinline)) u64 near_target_legacy(struct soft_vcpu *v, const struct insn *i, u64 to)
{
    to = i->size == 2 ? (u16)to : i->size == 4 && v->bits != 64 ? (u32)to : to;
    near_check(v, i, to);
    return to;
}
static inline __attribute__((always_inline)) u64 near_target(struct soft_vcpu *v, const struct insn *i, u64 to)
{
    if (likely(v->bits == 64 && i->size != 2 && (u64)((s64)(to << 16) >> 16) == to))
        return to;
    return near_target_legacy(v, i, to);
}
#define BRANCH(v, i) ((v)->rip = near_target(v, i, RIP_NEXT(v, i) + (i)->imm))

#define COND(cc)                                                                                                   \
    OP(j##cc)                                                                                                      \
    {                                                                                                              \
        if (C_##cc(v->rflags))                                                                                     \
            BRANCH(v, i);                                                                                          \
        else                                                                                                       \
            v->rip = RIP_NEXT(v, i);                                                                               \
        CHAIN(v);                                                                                                  \
    }                                                                                                              \
    OP(set##cc##_r) { R8(v, i->rm) = C_##cc(v->rflags); NEXT(v, i); }                                              \
    OP(set##cc##_m)                                                                                                \
    {                                                                                                              \
        soft_store(v, i, insn_linear(v, i, 1, ACCESS_WRITE), 1, C_##cc(v->rflags));                                \
        NEXT(v, i);                                                                                                \
    }                                                                                                              \
    OP(cmov##cc##_r2) { if (C_##cc(v->rflags)) R16(v, i->reg) = R16(v, i->rm); NEXT(v, i); }                       \
    OP(cmov##cc##_r4) { R64(v, i->reg) = C_##cc(v->rflags) ? R32(v, i->rm) : R32(v, i->reg); NEXT(v, i); }         \
    OP(cmov##cc##_r8) { R64(v, i->reg) = C_##cc(v->rflags) ? R64(v, i->rm) : R64(v, i->reg); NEXT(v, i); }         \
    OP(cmov##cc##_m)                                                                                               \
    {                                                                                                              \
        u64 x, lin = insn_linear(v, i, i->size, ACCESS_READ);                                                      \
        x = i->size == 8 ? soft_load(v, i, lin, 8) : i->size == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2); \
        if (C_##cc(v->rflags))                                                                                     \
            reg_write(v, i->reg, i->size, x);                                                                      \
        else if (i->size == 4)                                                                                     \
            R64(v, i->reg) = R32(v, i->reg);                                                                       \
        NEXT(v, i);                                                                                                \
    }
COND(O)
COND(NO)
COND(B)
COND(NB)
COND(Z)
COND(NZ)
COND(BE)
COND(NBE)
COND(S)
COND(NS)
COND(P)
COND(NP)
COND(L)
COND(NL)
COND(LE)
COND(NLE)
#define CONDS(pre, post)                                                                                             \
    {pre##O##post, pre##NO##post, pre##B##post, pre##NB##post, pre##Z##post, pre##NZ##post, pre##BE##post,           \
     pre##NBE##post, pre##S##post, pre##NS##post, pre##P##post, pre##NP##post, pre##L##post, pre##NL##post,          \
     pre##LE##post, pre##NLE##post}
static soft_fn *const jcc[16] = CONDS(j, );
static soft_fn *const setcc[2][16] = {CONDS(set, _r), CONDS(set, _m)};
static soft_fn *const cmovcc[4][16] = {CONDS(cmov, _r2), CONDS(cmov, _r4), CONDS(cmov, _r8), CONDS(cmov, _m)};

/* ---- the stack ---------------------------------------------------------- */

/* Stack pointer arithmetic in the width of the stack segment. */
static inline u64 stack_mask(const struct soft_vcpu *v) { return v->bits == 64 ? ~0ull : v->ss32 ? 0xffffffff : 0xffff; }
static inline void stack_set(struct soft_vcpu *v, u64 sp)
{
    u64 m = stack_mask(v);
    v->gpr[RSP] = m == 0xffff ? (v->gpr[RSP] & ~m) | (sp & m) : sp & m;
}
/* Stores below the top and returns the new stack pointer, not yet committed. */
static inline u64 push(struct soft_vcpu *v, const struct insn *i, unsigned size, u64 x)
{
    u64 sp = (v->gpr[RSP] - size) & stack_mask(v);
    u64 lin = soft_linear(v, i, v->bits == 64 ? ISEG_FLAT_SS : SS, sp, size, ACCESS_WRITE);
    if (size == 8)
        soft_store(v, i, lin, 8, x);
    else if (size == 4)
        soft_store(v, i, lin, 4, x);
    else
        soft_store(v, i, lin, 2, x);
    return sp;
}
static inline u64 stack_load(struct soft_vcpu *v, const struct insn *i, unsigned size, u64 sp)
{
    u64 lin = soft_linear(v, i, v->bits == 64 ? ISEG_FLAT_SS : SS, sp & stack_mask(v), size, ACCESS_READ);
    return size == 8 ? soft_load(v, i, lin, 8) : size == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2);
}

OP(push64_r)
{
    u64 sp = v->gpr[RSP] - 8;
    soft_store(v, i, sp, 8, R64(v, i->rm));
    v->gpr[RSP] = sp;
    NEXT(v, i);
}
OP(pop64_r)
{
    u64 x = soft_load(v, i, v->gpr[RSP], 8);
    v->gpr[RSP] += 8;
    R64(v, i->rm) = x;
    NEXT(v, i);
}
OP(push_r) { u64 sp = push(v, i, i->size, R64(v, i->rm)); stack_set(v, sp); NEXT(v, i); }
OP(push_i) { u64 sp = push(v, i, i->size, i->imm); stack_set(v, sp); NEXT(v, i); }
OP(push_m)
{
    u64 lin = insn_linear(v, i, i->size, ACCESS_READ);
    u64 x = i->size == 8 ? soft_load(v, i, lin, 8) : i->size == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2);
    u64 sp = push(v, i, i->size, x);
    stack_set(v, sp);
    NEXT(v, i);
}
OP(pop_r)
{
    u64 x = stack_load(v, i, i->size, v->gpr[RSP]);
    stack_set(v, v->gpr[RSP] + i->size);
    reg_write(v, i->rm, i->size, x);
    NEXT(v, i);
}
OP(pop_m)
{
    /* SDM vol. 2 POP: an address from ESP uses its value after the increment. */
    u64 x = stack_load(v, i, i->size, v->gpr[RSP]), old = v->gpr[RSP];
    stack_set(v, old + i->size);
    u64 sp = v->gpr[RSP], ea = insn_ea(v, i);
    v->gpr[RSP] = old; /* until nothing can fault */
    u64 lin = soft_linear(v, i, i->seg, ea, i->size, ACCESS_WRITE);
    if (i->size == 8)
        soft_store(v, i, lin, 8, x);
    else if (i->size == 4)
        soft_store(v, i, lin, 4, x);
    else
        soft_store(v, i, lin, 2, x);
    v->gpr[RSP] = sp;
    NEXT(v, i);
}
OP(leave)
{
    u64 bp = v->gpr[RBP] & stack_mask(v);
    u64 x = stack_load(v, i, i->size, bp);
    stack_set(v, bp + i->size);
    reg_write(v, REG_OFF(RBP), i->size, x);
    NEXT(v, i);
}

/* ---- near transfers ----------------------------------------------------- */

OP(jmp_rel) { BRANCH(v, i); CHAIN(v); }
OP(call_rel)
{
    u64 next = RIP_NEXT(v, i), to = near_target(v, i, next + i->imm);
    u64 sp = push(v, i, i->size, next);
    stack_set(v, sp);
    v->rip = to;
    CHAIN(v);
}
static inline u64 near_operand(struct soft_vcpu *v, const struct insn *i)
{
    if (!i->aux)
        return reg_read(v, i->rm, i->size);
    u64 lin = insn_linear(v, i, i->size, ACCESS_READ);
    return i->size == 8 ? soft_load(v, i, lin, 8) : i->size == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2);
}
OP(jmp_ind) { v->rip = near_target(v, i, near_operand(v, i)); CHAIN(v); }
OP(call_ind)
{
    u64 to = near_target(v, i, near_operand(v, i));
    u64 sp = push(v, i, i->size, RIP_NEXT(v, i));
    stack_set(v, sp);
    v->rip = to;
    CHAIN(v);
}
OP(ret)
{
    u64 to = near_target(v, i, stack_load(v, i, i->size, v->gpr[RSP]));
    stack_set(v, v->gpr[RSP] + i->size + (u16)i->imm);
    v->rip = to;
    CHAIN(v);
}
/* LOOP, LOOPE, LOOPNE, JCXZ: the counter has the address size. aux: 0 LOOPNE, 1 LOOPE, 2 LOOP, 3 JCXZ. */
OP(loop)
{
    u64 mask = ~0ull >> i->ashift, c = v->gpr[RCX] & mask;
    bool take, zf = v->rflags & RFLAGS_ZF;
    if (i->aux == 3) {
        take = c == 0;
    } else {
        c = (c - 1) & mask;
        take = c != 0 && (i->aux == 2 || zf == (i->aux == 1));
    }
    u64 to = RIP_NEXT(v, i);
    if (take)
        to = near_target(v, i, to + i->imm);
    if (i->aux != 3)
        v->gpr[RCX] = mask == 0xffff ? (v->gpr[RCX] & ~mask) | c : c;
    v->rip = to;
    CHAIN(v);
}

/* ---- bit tests with the bit number in a register ------------------------- */

/* A memory operand is a bit string: the register also moves the address, by whole operands. */
OP(bt_mr)
{
    unsigned size = i->size, bits = size * 8;
    s64 n = size == 2 ? (s16)R16(v, i->reg) : size == 4 ? (s32)R32(v, i->reg) : (s64)R64(v, i->reg);
    u64 ea = R64(v, i->base) + (R64(v, i->index) << i->scale) + (u64)i->disp + (u64)((n & ~(s64)(bits - 1)) / 8);
    ea = ea << i->ashift >> i->ashift;
    unsigned bit = (unsigned)n & (bits - 1);
    bool write = i->aux != 0;
    u64 lin = soft_linear(v, i, i->seg, ea, size, write ? ACCESS_WRITE : ACCESS_READ);
    { /* as RMW_BEGIN */
    u64 buf[16];
    bool bounce;
    void *p = soft_ptr(v, i, lin, size, write ? ACCESS_RMW : ACCESS_READ, buf, &bounce);
    /* The byte that holds the bit is all that an atomic operation needs to cover. */
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

static bool lower_alu(const struct decoded *d, struct insn *i, unsigned op)
{
    unsigned size = d->osize, form;
    /* 00-3F: the low three bits of the opcode name the operands; 80-83, 84-85, A8-A9, F6-F7 /0 the rest. */
    if (d->map != 0)
        return false;
    if (d->opcode < 0x40) {
        switch (d->opcode & 7) {
        case 0: case 1: form = d->mod == 3 ? RR : MR; break;
        case 2: case 3: form = d->mod == 3 ? RR : RM; break;
        default: form = RI; break;
        }
        if ((d->opcode & 6) == 2 && d->mod == 3) { /* destination in reg: exchange the names */
            u8 t = i->rm;
            i->rm = i->reg;
            i->reg = t;
        }
        if ((d->opcode & 7) >= 4)
            i->rm = REG_OFF(RAX);
        if (!(d->opcode & 1))
            size = 1;
    } else if (d->opcode >= 0x80 && d->opcode <= 0x83) {
        form = d->mod == 3 ? RI : MI;
        if (!(d->opcode & 1))
            size = 1;
    } else if (d->opcode == 0x84 || d->opcode == 0x85) {
        form = d->mod == 3 ? RR : MR;
        if (d->opcode == 0x84)
            size = 1;
    } else if (d->opcode == 0xa8 || d->opcode == 0xa9) {
        form = RI;
        i->rm = REG_OFF(RAX);
        if (d->opcode == 0xa8)
            size = 1;
    } else if (d->opcode == 0xf6 || d->opcode == 0xf7) {
        form = d->mod == 3 ? RI : MI;
        if (d->opcode == 0xf6)
            size = 1;
    } else {
        return false;
    }
    i->fn = alu[op][form][size_index(size)];
    if ((op == ALU_XOR || op == ALU_SUB) && form == RR && size == 4 && i->rm == i->reg)
        i->fn = zero_r4;
    return true;
}

static bool lower_mov(const struct decoded *d, struct insn *i)
{
    if (d->map != 0)
        return false; /* control and debug registers */
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
    return false; /* segment registers */
}

static bool lower_shift(const struct decoded *d, struct insn *i, unsigned op)
{
    unsigned size = d->osize;
    if (d->map != 0)
        return false;
    if (!(d->opcode & 1))
        size = 1;
    if (d->opcode == 0xd0 || d->opcode == 0xd1)
        i->imm = 1;
    else if (d->opcode == 0xd2 || d->opcode == 0xd3)
        i->aux = 1;
    else if (d->opcode != 0xc0 && d->opcode != 0xc1)
        return false;
    i->fn = shift[op][d->mod != 3][size_index(size)];
    unsigned count = (u8)i->imm & (size == 8 ? 63 : 31);
    if (!i->aux && d->mod == 3 && size >= 4 && count && op >= SH_SHL) {
        i->imm = count;
        i->fn = shift_const[op][size == 8];
    }
    return true;
}

static bool lower_near(const struct decoded *d, struct insn *i)
{
    switch (d->desc->mnemonic) {
    case M_JMP:
        if (d->map == 0 && (d->opcode == 0xe9 || d->opcode == 0xeb))
            i->fn = jmp_rel;
        else if (d->map == 0 && d->opcode == 0xff && (d->modrm >> 3 & 7) == 4)
            i->fn = jmp_ind;
        else
            return false;
        break;
    case M_CALL:
        if (d->map == 0 && d->opcode == 0xe8)
            i->fn = call_rel;
        else if (d->map == 0 && d->opcode == 0xff && (d->modrm >> 3 & 7) == 2)
            i->fn = call_ind;
        else
            return false;
        break;
    case M_RET:
        if (d->opcode != 0xc2 && d->opcode != 0xc3)
            return false;
        if (d->opcode == 0xc3)
            i->imm = 0;
        i->fn = ret;
        break;
    }
    i->aux = d->mod != 3;
    return true;
}

bool lower_int(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    const bool mem = d->has_modrm && d->mod != 3;
    if (d->lock) {
        /* Read-modify-write on real atomics: the host unit's, except bit strings whose address the register moves. */
        if (d->map == 1 && (d->opcode == 0xab || d->opcode == 0xb3 || d->opcode == 0xbb)) {
            i->aux = d->opcode == 0xab ? 1 : d->opcode == 0xb3 ? 2 : 3;
            i->fn = bt_mr;
            return true;
        }
        return false;
    }
    if (d->map == 0 && d->opcode >= 0x70 && d->opcode <= 0x7f) {
        i->fn = jcc[d->opcode & 15];
        return true;
    }
    if (d->map == 1 && d->encoding == ENC_LEGACY) {
        if (d->opcode >= 0x80 && d->opcode <= 0x8f) {
            i->fn = jcc[d->opcode & 15];
            return true;
        }
        if (d->opcode >= 0x90 && d->opcode <= 0x9f) {
            i->rm = mem ? 0 : i->rm;
            i->fn = setcc[mem][d->opcode & 15];
            return true;
        }
        if (d->opcode >= 0x40 && d->opcode <= 0x4f) {
            i->fn = cmovcc[mem ? 3 : d->osize == 8 ? 2 : d->osize == 4 ? 1 : 0][d->opcode & 15];
            return true;
        }
    }
    unsigned s = size_index(d->osize);
    switch (d->desc->mnemonic) {
    case M_ADD: return lower_alu(d, i, ALU_ADD);
    case M_OR: return lower_alu(d, i, ALU_OR);
    case M_ADC: return lower_alu(d, i, ALU_ADC);
    case M_SBB: return lower_alu(d, i, ALU_SBB);
    case M_AND: return lower_alu(d, i, ALU_AND);
    case M_SUB: return lower_alu(d, i, ALU_SUB);
    case M_XOR: return lower_alu(d, i, ALU_XOR);
    case M_CMP: return lower_alu(d, i, ALU_CMP);
    case M_TEST: return lower_alu(d, i, ALU_TEST);
    case M_MOV: return lower_mov(d, i);
    case M_ROL: return lower_shift(d, i, SH_ROL);
    case M_ROR: return lower_shift(d, i, SH_ROR);
    case M_RCL: return lower_shift(d, i, SH_RCL);
    case M_RCR: return lower_shift(d, i, SH_RCR);
    case M_SHL: return lower_shift(d, i, SH_SHL);
    case M_SHR: return lower_shift(d, i, SH_SHR);
    case M_SAR: return lower_shift(d, i, SH_SAR);
    case M_INC: case M_DEC: {
        unsigned op = d->desc->mnemonic == M_INC ? UN_INC : UN_DEC;
        if (d->opcode >= 0x40 && d->opcode <= 0x4f) {
            i->rm = i->reg;
            i->fn = unary[op][0][s];
        } else {
            i->fn = unary[op][mem][d->opcode == 0xfe ? SZ1 : s];
        }
        return true;
    }
    case M_NEG: i->fn = unary[UN_NEG][mem][d->opcode == 0xf6 ? SZ1 : s]; return true;
    case M_NOT: i->fn = unary[UN_NOT][mem][d->opcode == 0xf6 ? SZ1 : s]; return true;
    case M_LEA: i->fn = lea[s]; return true;
    case M_XCHG:
        if (mem)
            return false; /* always locked: host unit */
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
    case M_IMUL:
        if (d->map == 1) {
            i->fn = imul2[mem][s];
        } else if (d->opcode == 0x69 || d->opcode == 0x6b) {
            i->fn = imul3[mem][s];
        } else {
            return false;
        }
        return true;
    case M_PUSH:
        if (d->map == 0 && d->opcode >= 0x50 && d->opcode <= 0x57) {
            i->rm = i->reg;
            i->fn = d->osize == 8 ? push64_r : push_r;
        } else if (d->map == 0 && (d->opcode == 0x68 || d->opcode == 0x6a)) {
            i->fn = push_i;
        } else if (d->map == 0 && d->opcode == 0xff) {
            i->fn = mem ? push_m : push_r;
        } else {
            return false;
        }
        if (v->bits == 64) { /* what the operands of PUSH itself cannot name: faults of its stack access are #SS */
            if (i->fn == push64_r || i->fn == push_i || i->fn == push_r)
                i->seg = ISEG_FLAT_SS;
        }
        return true;
    case M_POP:
        if (d->map == 0 && d->opcode >= 0x58 && d->opcode <= 0x5f) {
            i->rm = i->reg;
            i->fn = d->osize == 8 ? pop64_r : pop_r;
        } else if (d->map == 0 && d->opcode == 0x8f) {
            i->fn = mem ? pop_m : pop_r;
        } else {
            return false;
        }
        if (v->bits == 64 && i->fn != pop_m)
            i->seg = ISEG_FLAT_SS;
        return true;
    case M_LEAVE:
        i->seg = (u8)soft_seg(v, SS);
        i->fn = leave;
        return true;
    case M_JMP: case M_CALL: case M_RET: return lower_near(d, i);
    case M_LOOPNE: i->aux = 0, i->fn = loop; return true;
    case M_LOOPE: i->aux = 1, i->fn = loop; return true;
    case M_LOOP: i->aux = 2, i->fn = loop; return true;
    case M_JCXZ: case M_JECXZ: case M_JRCXZ: i->aux = 3, i->fn = loop; return true;
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
    case M_XLAT:
        i->fn = xlat;
        return true;
    }
    return false;
}
