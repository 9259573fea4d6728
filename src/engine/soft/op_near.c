/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_near.c - instructions that depend on a condition or use the stack, and jumps within the code segment.
 */
#include "engine/soft/op_int.h"

/* ---- conditions --------------------------------------------------------- */

/* Condition codes in encoding order (SDM vol. 2 app. B table B-10). An odd code negates the even one before. */
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

/* A near target that is outside the code segment or not canonical raises #GP(0) at the jump. */
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

/* Arithmetic on the stack pointer has the width of the stack segment. */
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
    v->gpr[RSP] = old; /* until no fault is possible */
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

/* ---- lowering ----------------------------------------------------------- */

static bool lower_transfer_near(const struct decoded *d, struct insn *i)
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

static bool lower_condition(const struct decoded *d, struct insn *i)
{
    const bool mem = has_memory(d);
    if (d->map == 0 && d->opcode >= 0x70 && d->opcode <= 0x7f) {
        i->fn = jcc[d->opcode & 15];
        return true;
    }
    if (d->map != 1 || d->encoding != ENC_LEGACY)
        return false;
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
    return false;
}

static bool lower_push(const struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    if (d->map == 0 && d->opcode >= 0x50 && d->opcode <= 0x57) {
        i->rm = i->reg;
        i->fn = d->osize == 8 ? push64_r : push_r;
    } else if (d->map == 0 && (d->opcode == 0x68 || d->opcode == 0x6a)) {
        i->fn = push_i;
    } else if (d->map == 0 && d->opcode == 0xff) {
        i->fn = has_memory(d) ? push_m : push_r;
    } else {
        return false;
    }
    if (v->bits == 64) { /* these have no memory operand: seg names the stack, whose faults are #SS */
        if (i->fn == push64_r || i->fn == push_i || i->fn == push_r)
            i->seg = ISEG_FLAT_SS;
    }
    return true;
}

static bool lower_pop(const struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    if (d->map == 0 && d->opcode >= 0x58 && d->opcode <= 0x5f) {
        i->rm = i->reg;
        i->fn = d->osize == 8 ? pop64_r : pop_r;
    } else if (d->map == 0 && d->opcode == 0x8f) {
        i->fn = has_memory(d) ? pop_m : pop_r;
    } else {
        return false;
    }
    if (v->bits == 64 && i->fn != pop_m)
        i->seg = ISEG_FLAT_SS;
    return true;
}

bool lower_near(const struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    if (lower_condition(d, i))
        return true;
    switch (d->desc->mnemonic) {
    case M_PUSH: return lower_push(v, d, i);
    case M_POP: return lower_pop(v, d, i);
    case M_LEAVE:
        i->seg = (u8)soft_seg(v, SS);
        i->fn = leave;
        return true;
    case M_JMP: case M_CALL: case M_RET: return lower_transfer_near(d, i);
    case M_LOOPNE: i->aux = 0, i->fn = loop; return true;
    case M_LOOPE: i->aux = 1, i->fn = loop; return true;
    case M_LOOP: i->aux = 2, i->fn = loop; return true;
    case M_JCXZ: case M_JECXZ: case M_JRCXZ: i->aux = 3, i->fn = loop; return true;
    }
    return false;
}
