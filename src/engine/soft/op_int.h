/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_int.h - shared by op_arith.c, op_near.c and op_int.c: handlers by operation, size and operand form.
 *
 * The result and the flags of an operation come from the host's own instruction of the same size, so that flags that the
 * manual leaves undefined are also as on this processor. The forms are
 *   rr  register, register      rm  register, memory      mr  memory, register
 *   ri  register, immediate     mi  memory, immediate     r, m  one operand
 */
#ifndef LODGE_ENGINE_SOFT_OP_INT_H
#define LODGE_ENGINE_SOFT_OP_INT_H

#include "engine/soft/blocks.h"
#include "engine/soft/soft.h"

enum { SZ1, SZ2, SZ4, SZ8, SIZES };
static inline unsigned size_index(unsigned size) { return size == 1 ? SZ1 : size == 2 ? SZ2 : size == 4 ? SZ4 : SZ8; }

/* LAHF and SETO are cheaper than PUSHF/POP. AH: SF ZF 0 AF 0 PF 1 CF, AL: OF. */
#define TAKE_FLAGS "lahf\n\tseto %%al\n\t"
static inline u64 flags_of(u32 ax) { return (ax >> 8 & 0xd5) | (ax & 1) << 11; }
static inline void set_flags(struct soft_vcpu *v, u32 ax)
{
    v->rflags = (v->rflags & ~(u64)RFLAGS_ARITH) | flags_of(ax);
}
/* For instructions that do not change CF (INC, DEC). */
static inline void set_flags_not_cf(struct soft_vcpu *v, u32 ax)
{
    const u64 mask = RFLAGS_ARITH & ~RFLAGS_CF;
    v->rflags = (v->rflags & ~mask) | (flags_of(ax) & mask);
}

#define R_1(v, off) R8(v, off)
#define R_2(v, off) R16(v, off)
#define R_4(v, off) R32(v, off)
#define R_8(v, off) R64(v, off)
/* Writes of registers: a result of 4 bytes is zero-extended. */
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
 * A memory destination: RMW_BEGIN gets a pointer p for reading and writing; if it points to a copy, RMW_END writes the copy
 * back. The two enclose a block: with the buffer still in scope the compiler could not make NEXT a jump, and the stack
 * would grow.
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

enum form { RR, RM, MR, RI, MI, FORMS };
#define FORM_ROW(name, form) {name##_##form##1, name##_##form##2, name##_##form##4, name##_##form##8}

/* Each finds the handler of its own mnemonics. False: another mnemonic, or one that the host unit runs (native.c). */
bool lower_arith(const struct decoded *d, struct insn *i);                           /* op_arith.c */
bool lower_near(const struct soft_vcpu *v, const struct decoded *d, struct insn *i); /* op_near.c */

/* Does ModRM name a memory operand? */
static inline bool has_memory(const struct decoded *d)
{
    return d->has_modrm && d->mod != 3;
}

#endif
