/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_arith.c - integer arithmetic and shifts. The rarer instructions run on the host unit (native.c).
 */
#include "engine/soft/op_int.h"

/* ---- two-operand arithmetic --------------------------------------------- */

/* carry: copies the guest's CF to the host's CF before the operation. */
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

#define ALU_ROW(name) \
    {FORM_ROW(name, rr), FORM_ROW(name, rm), FORM_ROW(name, mr), FORM_ROW(name, ri), FORM_ROW(name, mi)}
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_COUNT };
static soft_fn *const alu[ALU_COUNT][FORMS][SIZES] = {
    [ALU_ADD] = ALU_ROW(add), [ALU_OR] = ALU_ROW(or),   [ALU_ADC] = ALU_ROW(adc),
    [ALU_SBB] = ALU_ROW(sbb), [ALU_AND] = ALU_ROW(and), [ALU_SUB] = ALU_ROW(sub),
    [ALU_XOR] = ALU_ROW(xor), [ALU_CMP] = ALU_ROW(cmp), [ALU_TEST] = ALU_ROW(test),
};

/* XOR or SUB of a register with itself gives zero, whatever it held. */
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
 * The count is i->imm, or CL if aux is 1. A masked count of 0 changes no flag; rotates change only CF and OF. Both cases
 * come out right because the host gets the guest's flags before the shift and all of them are taken back. POPF costs less
 * than telling the cases apart; this is true of shifts only.
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

/* SHL, SHR, SAR of a register by a constant other than 0 set every flag, so the old flags are not needed. */
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

/* ---- lowering ----------------------------------------------------------- */

static bool lower_alu(const struct decoded *d, struct insn *i, unsigned op)
{
    unsigned size = d->osize, form;
    /* In opcodes 00-3F the low three bits name the operands; the rest are 80-83, 84-85, A8-A9 and F6-F7 /0. */
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

bool lower_arith(const struct decoded *d, struct insn *i)
{
    const bool mem = has_memory(d);
    const unsigned s = size_index(d->osize);
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
    case M_IMUL:
        if (d->map == 1) {
            i->fn = imul2[mem][s];
        } else if (d->opcode == 0x69 || d->opcode == 0x6b) {
            i->fn = imul3[mem][s];
        } else {
            return false;
        }
        return true;
    }
    return false;
}
