/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.h - shared by deliver.c, transfer.c and far_return.c: a stack that is not committed yet, and the commit of CS.
 */
#ifndef LODGE_ENGINE_SOFT_TRANSFER_H
#define LODGE_ENGINE_SOFT_TRANSFER_H

#include "engine/soft/system.h"

/* Loads CS, which is checked already, sets CPL to its RPL and updates the mode. The caller has set SS and RFLAGS.VM. */
static inline void cs_commit(struct soft_vcpu *v, u16 sel, u64 raw)
{
    seg_unpack(&v->s.seg[CS], sel, raw);
    if ((sel & 3) == 3)
        soft_user_entered(v);
    else if (v->cpl == 3)
        soft_user_leaves(v);
    v->cpl = sel & 3;
    if (likely(v->bits == 64 && (raw & DESC_L))) {
        soft_update_tlb_ctx(v);
        return;
    }
    soft_update_mode(v);
}

/* Loads RF from an IRET's image. RF matters only to instruction breakpoints, so it is dropped if no breakpoint is armed. */
static inline void flags_rf(struct soft_vcpu *v, u64 image)
{
    v->rflags &= ~(u64)RFLAGS_RF;
    if (unlikely((image & RFLAGS_RF) && (v->s.dr7 & 0xff))) {
        v->rflags |= RFLAGS_RF;
        v->slow |= SLOW_RF;
    }
}

/* ---- stacks ------------------------------------------------------------- */

struct stack {
    const struct cpu_seg *seg; /* NULL: 64-bit, no limit */
    u64 sp, mask;
    u32 err;  /* error code of the #SS */
    bool sys; /* the stack of an inner level: pushes are supervisor accesses */
};

static inline void push(struct soft_vcpu *v, struct stack *k, unsigned size, u64 x)
{
    u64 sp = (k->sp - size) & k->mask, lin = sp;
    if (k->seg) {
        if (!seg_contains(k->seg, sp, size))
            soft_raise_err(v, NULL, VEC_SS, k->err);
        lin = (u32)(k->seg->base + sp);
    } else if (!canonical(v, sp)) {
        soft_raise_err(v, NULL, VEC_SS, k->err);
    }
    if (k->sys)
        soft_sys_store(v, lin, size, x);
    else
        soft_store(v, NULL, lin, size, x);
    k->sp = sp;
}

static inline struct stack current_stack(struct soft_vcpu *v, u32 err)
{
    struct stack k = {v->bits == 64 ? NULL : &v->s.seg[SS], v->gpr[RSP], sp_mask(v), err, false};
    return k;
}

static inline void stack_commit(struct soft_vcpu *v, const struct stack *k)
{
    if (k->mask == 0xffff)
        R16(v, REG_OFF(RSP)) = (u16)k->sp;
    else
        v->gpr[RSP] = k->sp & k->mask;
}

static inline u64 stack_mask_of(const struct cpu_seg *ss)
{
    return ss->attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* A 64-bit stack pointer from the TSS: RSP0-2 or an IST. */
static inline u64 tss_rsp(struct soft_vcpu *v, u32 off, u32 ext)
{
    if (unlikely(off + 7 > v->s.tr.limit))
        soft_raise_err(v, NULL, VEC_TS, sel_err(v->s.tr.selector) | ext);
    u64 sp = sys_load8(v, v->s.tr.base + off);
    if (unlikely(!canonical(v, sp)))
        soft_raise_err(v, NULL, VEC_SS, ext);
    return sp;
}

static inline void check_target(struct soft_vcpu *v, u64 raw, u64 off)
{
    if (v->long_mode && (raw & DESC_L) ? !canonical(v, off) : (u32)off > desc_limit(raw) || off >> 32)
        raise_gp0(v);
}

/* deliver.c */
/* Returns the stack of level dpl from a 16- or 32-bit TSS, checked (SDM vol. 2, INT n: INTER-PRIVILEGE-LEVEL-INTERRUPT). */
struct stack inner_stack(struct soft_vcpu *v, unsigned dpl, u32 ext, struct cpu_seg *ss);
soft_fn op_int, op_int1, op_into;

/* far_return.c */
soft_fn op_retf, op_iret;

#endif
