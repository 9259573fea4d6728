/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliver.c - the delivery of exceptions and interrupts, and INT n (SDM vol. 3 ch. 6.11-6.14, 20).
 */
#include "engine/soft/transfer.h"

/* Reads the stack of level dpl from a 16- or 32-bit TSS and checks it (SDM vol. 2, INT n:
   INTER-PRIVILEGE-LEVEL-INTERRUPT). */
struct stack inner_stack(struct soft_vcpu *v, unsigned dpl, u32 ext, struct cpu_seg *ss)
{
    const struct cpu_seg *tr = &v->s.tr;
    const bool tss32 = tr->attr & 8;
    const u32 off = tss32 ? dpl * 8 + 4 : dpl * 4 + 2;
    if (off + (tss32 ? 5 : 3) > tr->limit)
        soft_raise_err(v, NULL, VEC_TS, sel_err(tr->selector) | ext);
    u64 sp = soft_sys_load(v, tr->base + off, tss32 ? 4 : 2);
    u16 sel = (u16)soft_sys_load(v, tr->base + off + (tss32 ? 4 : 2), 2);
    struct desc d;
    if (sel_null(sel))
        soft_raise_err(v, NULL, VEC_TS, ext);
    if (!desc_fetch(v, sel, &d) || (sel & 3u) != dpl || desc_dpl(d.raw) != dpl || !desc_is_writable_data(d.raw))
        soft_raise_err(v, NULL, VEC_TS, sel_err(sel) | ext);
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_SS, sel_err(sel) | ext);
    desc_set_accessed(v, &d);
    seg_unpack(ss, sel, d.raw);
    return (struct stack){ss, sp, stack_mask_of(ss), sel_err(sel) | ext, true};
}

static void deliver_real(struct soft_vcpu *v, unsigned vector, u64 next)
{
    if (vector * 4 + 3 > v->s.idtr.limit)
        soft_raise_err(v, NULL, VEC_GP, vector * 8 + 2);
    u64 entry = soft_sys_load(v, (u32)(v->s.idtr.base + vector * 4), 4);
    struct stack k = current_stack(v, 0);
    push(v, &k, 2, v->rflags);
    push(v, &k, 2, v->s.seg[CS].selector);
    push(v, &k, 2, next);
    if ((entry & 0xffff) > v->s.seg[CS].limit)
        raise_gp0(v);
    stack_commit(v, &k);
    v->rflags &= ~(u64)RFLAGS_RF;
    flags_change(v, 0, RFLAGS_IF | RFLAGS_TF | RFLAGS_AC);
    v->rip = entry & 0xffff;
    seg_load_real(v, CS, (u16)(entry >> 16));
    soft_update_mode(v);
}

/* Fetches the handler's code segment and checks it: it must be code, present, and of our level or an inner one. */
static void handler_code(struct soft_vcpu *v, u16 sel, u32 ext, struct desc *d)
{
    if (unlikely(sel_null(sel)))
        soft_raise_err(v, NULL, VEC_GP, ext);
    if (unlikely(!desc_fetch(v, sel, d) || !desc_is_code(d->raw) || desc_dpl(d->raw) > v->cpl))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel) | ext);
    if (unlikely(v->long_mode && (d->raw & (DESC_L | DESC_DB)) != DESC_L))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel) | ext);
    if (unlikely(!(d->raw & DESC_P)))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel) | ext);
}

static void deliver_long(struct soft_vcpu *v, unsigned vector, bool soft, bool has_error, u32 error, u64 next,
                         u64 image)
{
    const u32 ext = soft ? 0 : 1, gate_err = vector * 8 + 2 + ext;
    if (unlikely(vector * 16 + 15 > v->s.idtr.limit))
        soft_raise_err(v, NULL, VEC_GP, gate_err);
    const u64 lo = sys_load8(v, v->s.idtr.base + vector * 16), hi = sys_load8(v, v->s.idtr.base + vector * 16 + 8);
    if (unlikely((lo >> 40 & 0x1e) != 0xe || (soft && desc_dpl(lo) < v->cpl)))
        soft_raise_err(v, NULL, VEC_GP, gate_err);
    if (unlikely(!(lo & DESC_P)))
        soft_raise_err(v, NULL, VEC_NP, gate_err);
    const u16 sel = (u16)(lo >> 16);
    const u64 target = (lo & 0xffff) | (lo >> 32 & 0xffff0000) | hi << 32;
    struct desc d;
    handler_code(v, sel, ext, &d);
    const unsigned cpl = desc_is_conforming(d.raw) ? v->cpl : desc_dpl(d.raw);
    const unsigned ist = (unsigned)(lo >> 32) & 7;
    u64 sp = v->gpr[RSP];
    if (ist)
        sp = tss_rsp(v, 28 + ist * 8, ext);
    else if (cpl < v->cpl)
        sp = tss_rsp(v, 4 + cpl * 8, ext);
    if (unlikely(!canonical(v, target)))
        soft_raise_err(v, NULL, VEC_GP, ext);
    sp &= ~15ull;
    const u64 bytes = has_error ? 48 : 40;
    struct tlb_entry *e = cpl == 3 ? &v->tlb[(sp - bytes) >> 12 & (TLB_SIZE - 1)] : sys_tlb(v, sp - bytes);
    if (likely(((sp - bytes) ^ e->write) <= 4096 - bytes)) {
        volatile u64 *p = (volatile u64 *)(e->host + sp);
        p[-1] = v->s.seg[SS].selector;
        p[-2] = v->gpr[RSP];
        p[-3] = image;
        p[-4] = v->s.seg[CS].selector;
        p[-5] = next;
        if (has_error)
            p[-6] = error;
        sp -= bytes;
    } else {
        struct stack k = {NULL, sp, ~0ull, ext, cpl < 3};
        push(v, &k, 8, v->s.seg[SS].selector);
        push(v, &k, 8, v->gpr[RSP]);
        push(v, &k, 8, image);
        push(v, &k, 8, v->s.seg[CS].selector);
        push(v, &k, 8, next);
        if (has_error)
            push(v, &k, 8, error);
        sp = k.sp;
    }
    desc_set_accessed(v, &d);
    v->gpr[RSP] = sp;
    v->rflags &= ~(u64)(RFLAGS_RF | RFLAGS_NT);
    flags_change(v, 0, RFLAGS_TF | (lo & BIT(40) ? 0 : RFLAGS_IF));
    if (cpl != v->cpl)
        seg_null(&v->s.seg[SS], (u16)cpl, cpl);
    v->rip = target;
    cs_commit(v, (u16)((sel & ~3) | cpl), d.raw);
}

static void deliver_task(struct soft_vcpu *v, u16 sel, const struct task_event *t)
{
    struct desc d;
    if ((sel & 4) || sel_null(sel) || !desc_fetch(v, sel, &d) || (d.raw & DESC_S) || (desc_type(d.raw) & ~8u) != 1)
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel) | t->ext);
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel) | t->ext);
    task_switch(v, sel, &d, t);
}

static void deliver_protected(struct soft_vcpu *v, unsigned vector, bool soft, bool has_error, u32 error, u64 next,
                              u64 image)
{
    const u32 ext = soft ? 0 : 1, gate_err = vector * 8 + 2 + ext;
    if (vector * 8 + 7 > v->s.idtr.limit)
        soft_raise_err(v, NULL, VEC_GP, gate_err);
    const u64 gate = sys_load8(v, (u32)(v->s.idtr.base + vector * 8));
    const unsigned type = (unsigned)(gate >> 40) & 31; /* the S bit is included */
    if ((type != 5 && (type & ~9u) != 6) || (soft && desc_dpl(gate) < v->cpl))
        soft_raise_err(v, NULL, VEC_GP, gate_err);
    if (!(gate & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, gate_err);
    const u16 sel = (u16)(gate >> 16);
    if (type == 5) {
        const struct task_event t = {TASK_INT, next, image, ext, has_error, error};
        deliver_task(v, sel, &t);
        return;
    }
    const unsigned n = type & 8 ? 4 : 2;
    const u32 target = n == 4 ? (u32)(gate & 0xffff) | (u32)(gate >> 32 & 0xffff0000) : (u32)(gate & 0xffff);
    struct desc d;
    handler_code(v, sel, ext, &d);
    const unsigned dpl = desc_dpl(d.raw);
    const bool inner = !desc_is_conforming(d.raw) && dpl < v->cpl;
    struct cpu_seg ss;
    struct stack k;
    unsigned cpl = v->cpl;
    if (v->v86) {
        if (!inner || dpl != 0)
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel) | ext);
    } else if (!inner && !desc_is_conforming(d.raw) && dpl != v->cpl) {
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel) | ext);
    }
    if (inner) {
        cpl = dpl;
        k = inner_stack(v, dpl, ext, &ss);
        if (v->v86) {
            push(v, &k, n, v->s.seg[GS].selector);
            push(v, &k, n, v->s.seg[FS].selector);
            push(v, &k, n, v->s.seg[DS].selector);
            push(v, &k, n, v->s.seg[ES].selector);
        }
        push(v, &k, n, v->s.seg[SS].selector);
        push(v, &k, n, v->gpr[RSP]);
    } else {
        k = current_stack(v, ext);
    }
    push(v, &k, n, image);
    push(v, &k, n, v->s.seg[CS].selector);
    push(v, &k, n, next);
    if (has_error)
        push(v, &k, n, error);
    if (target > desc_limit(d.raw))
        soft_raise_err(v, NULL, VEC_GP, ext);
    desc_set_accessed(v, &d);
    if (inner)
        v->s.seg[SS] = ss;
    stack_commit(v, &k);
    if (v->v86) {
        seg_null(&v->s.seg[GS], 0, 0);
        seg_null(&v->s.seg[FS], 0, 0);
        seg_null(&v->s.seg[DS], 0, 0);
        seg_null(&v->s.seg[ES], 0, 0);
    }
    v->rflags &= ~(u64)(RFLAGS_RF | RFLAGS_NT | RFLAGS_VM);
    flags_change(v, 0, RFLAGS_TF | (type & 1 ? 0 : RFLAGS_IF));
    v->rip = target;
    cs_commit(v, (u16)((sel & ~3) | cpl), d.raw);
}

static void deliver(struct soft_vcpu *v, unsigned vector, enum event_kind kind, bool has_error, u32 error, u64 next)
{
    const bool soft = kind == EVENT_SOFT_INT;
    /* SDM vol. 3 17.3.1.1: RF is set in the image of every fault but #DB. #DF and #MC are aborts. */
    u64 image = v->rflags;
    if (kind == EVENT_FAULT && vector != VEC_DB && vector != VEC_DF && vector != VEC_MC)
        image |= RFLAGS_RF;
    if (v->long_mode)
        deliver_long(v, vector, soft, has_error, error, next, image);
    else if (v->s.cr0 & CR0_PE)
        deliver_protected(v, vector, soft, has_error, error, next, image);
    else
        deliver_real(v, vector, next);
}

void soft_deliver(struct soft_vcpu *v, unsigned vector, enum event_kind kind, bool has_error, u32 error)
{
    deliver(v, vector, kind, has_error, error, v->rip);
    v->s.activity = CPU_RUNNING; /* a trap after HLT ends the halt */
    if (kind == EVENT_NMI)
        v->s.nmi_masked = true;
    if (kind == EVENT_FAULT && vector == VEC_DB)
        v->s.dr7 &= ~BIT(13); /* GD */
    v->s.sti_shadow = v->s.movss_shadow = false;
    v->slow &= ~(u32)SLOW_SHADOW;
}

void op_int(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    if (v->v86 && i->aux && iopl_of(v) < 3)
        raise_gp0(v);
    v->tf_blocked = true;
    deliver(v, (u8)i->imm, EVENT_SOFT_INT, false, 0, RIP_NEXT(v, i));
}
void op_int1(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    v->tf_blocked = true;
    v->db_pending = 0; /* a debug exception that MOV SS held back is lost in this #DB */
    deliver(v, VEC_DB, EVENT_ICEBP, false, 0, RIP_NEXT(v, i));
}
void op_into(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->rflags & RFLAGS_OF))
        NEXT(v, i);
    SYNC(v, i);
    v->tf_blocked = true;
    deliver(v, VEC_OF, EVENT_SOFT_INT, false, 0, RIP_NEXT(v, i));
}
