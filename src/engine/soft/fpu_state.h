/* SPDX-License-Identifier: Apache-2.0 */
/* fpu_state.h - shared by xsave.c and x87_env.c, which both work on the canonical image v->s.xsave. */
#ifndef LODGE_ENGINE_SOFT_FPU_STATE_H
#define LODGE_ENGINE_SOFT_FPU_STATE_H

#include "engine/soft/native.h"

#define IMAGE16(v, o) (*(u16 *)((v)->s.xsave + (o)))
#define IMAGE32(v, o) (*(u32 *)((v)->s.xsave + (o)))
#define IMAGE64(v, o) (*(u64 *)((v)->s.xsave + (o)))

/* xsave.c: copy n bytes to the guest's memory, and from it, at most RUN bytes at a time */
void store_run(struct soft_vcpu *v, const struct insn *i, u64 lin, const u8 *from, unsigned n);
void load_run(struct soft_vcpu *v, const struct insn *i, u64 lin, u8 *to, unsigned n);
/* Returns the operand's linear address. align is 1 (an x87 environment), 16 or 64. #GP(0) for a misaligned operand comes
   before page faults. */
u64 area(struct soft_vcpu *v, const struct insn *i, unsigned size, unsigned align, enum access a);
void settle_control(u8 *image);

/* x87_env.c */
soft_fn op_fnstenv, op_fldenv, op_fnsave, op_frstor, op_fninit;

#endif
