/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - control transfers beyond the code segment: far JMP, CALL, RET, IRET, INT n, SYSCALL, SYSENTER,
 * and the delivery of exceptions and interrupts.
 *
 * SDM vol. 2 (CALL, JMP, RET, IRET, INT n, SYSCALL, SYSRET, SYSENTER, SYSEXIT), vol. 3 ch. 5.8, 6.11-6.14, 20.
 * Every routine reads, checks and pushes first and changes registers last, so that a fault leaves no trace.
 */
#include "engine/soft/system.h"

/* ---- committing CS, SS, RIP --------------------------------------------- */

/* Loads CS (checked) with CPL = its RPL and brings the mode in step; SS and RFLAGS.VM are set before. */
static void cs_commit(struct soft_vcpu *v, u16 sel, u64 raw)
{
    seg_unpack(&v->s.seg[CS], sel, raw);
    v->cpl = sel & 3;
    if (likely(v->bits == 64 && (raw & DESC_L))) {
        soft_update_tlb_ctx(v);
        return;
    }
    soft_update_mode(v);
}

/* The flat segments of the fast system calls. */
enum fixed_seg { FIXED_CODE64, FIXED_CODE32, FIXED_DATA };
static void seg_fixed(struct cpu_seg *s, u16 sel, unsigned dpl, enum fixed_seg kind)
{
    s->selector = sel;
    s->base = 0;
    s->limit = 0xffffffff;
    s->attr = (u16)(SEG_P | SEG_S | dpl << SEG_DPL_SHIFT | SEG_A | SEG_G | SEG_W |
                    (kind == FIXED_DATA ? SEG_DB : SEG_CODE | (kind == FIXED_CODE64 ? SEG_L : SEG_DB)));
}
static void fixed_commit(struct soft_vcpu *v, u16 cs, u16 ss, unsigned cpl, bool code64)
{
    const bool was64 = v->bits == 64;
    seg_fixed(&v->s.seg[CS], cs, cpl, code64 ? FIXED_CODE64 : FIXED_CODE32);
    seg_fixed(&v->s.seg[SS], ss, cpl, FIXED_DATA);
    v->cpl = (u8)cpl;
    if (likely(was64 && code64))
        soft_update_tlb_ctx(v);
    else
        soft_update_mode(v);
}

/* Loads RF from an IRET's image. It matters only to instruction breakpoints; where none is armed it is dropped. */
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
    u32 err;  /* of the #SS */
    bool sys; /* an inner level's: supervisor access */
};

static void push(struct soft_vcpu *v, struct stack *k, unsigned size, u64 x)
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

static struct stack current_stack(struct soft_vcpu *v, u32 err)
{
    struct stack k = {v->bits == 64 ? NULL : &v->s.seg[SS], v->gpr[RSP], sp_mask(v), err, false};
    return k;
}
static void stack_commit(struct soft_vcpu *v, const struct stack *k)
{
    if (k->mask == 0xffff)
        R16(v, REG_OFF(RSP)) = (u16)k->sp;
    else
        v->gpr[RSP] = k->sp & k->mask;
}
static u64 stack_mask_of(const struct cpu_seg *ss)
{
    return ss->attr & SEG_DB ? 0xffffffff : 0xffff;
}

/* The stack of level dpl from a 16- or 32-bit TSS, checked (SDM vol. 2, INT n: INTER-PRIVILEGE-LEVEL-INTERRUPT). */
static struct stack inner_stack(struct soft_vcpu *v, unsigned dpl, u32 ext, struct cpu_seg *ss)
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

/* A 64-bit stack pointer from the TSS: RSP0-2 or an IST. */
static u64 tss_rsp(struct soft_vcpu *v, u32 off, u32 ext)
{
    if (unlikely(off + 7 > v->s.tr.limit))
        soft_raise_err(v, NULL, VEC_TS, sel_err(v->s.tr.selector) | ext);
    u64 sp = sys_load8(v, v->s.tr.base + off);
    if (unlikely(!canonical(v, sp)))
        soft_raise_err(v, NULL, VEC_SS, ext);
    return sp;
}

/* ---- interrupt and exception delivery ----------------------------------- */

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

/* The handler's code segment: present code of a level not outside ours. */
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
    const unsigned type = (unsigned)(gate >> 40) & 31; /* with S */
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
    v->s.activity = CPU_RUNNING; /* a trap after HLT ends it */
    if (kind == EVENT_NMI)
        v->s.nmi_masked = true;
    if (kind == EVENT_FAULT && vector == VEC_DB)
        v->s.dr7 &= ~BIT(13); /* GD */
    v->s.sti_shadow = v->s.movss_shadow = false;
    v->slow &= ~(u32)SLOW_SHADOW;
}

static void op_int(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    if (v->v86 && i->aux && iopl_of(v) < 3)
        raise_gp0(v);
    v->tf_blocked = true;
    deliver(v, (u8)i->imm, EVENT_SOFT_INT, false, 0, RIP_NEXT(v, i));
}
static void op_int1(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    v->tf_blocked = true;
    v->db_pending = 0; /* what MOV SS held back is lost in this #DB */
    deliver(v, VEC_DB, EVENT_ICEBP, false, 0, RIP_NEXT(v, i));
}
static void op_into(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->rflags & RFLAGS_OF))
        NEXT(v, i);
    SYNC(v, i);
    v->tf_blocked = true;
    deliver(v, VEC_OF, EVENT_SOFT_INT, false, 0, RIP_NEXT(v, i));
}

/* ---- far JMP and CALL --------------------------------------------------- */

static void check_target(struct soft_vcpu *v, u64 raw, u64 off)
{
    if (v->long_mode && (raw & DESC_L) ? !canonical(v, off) : (u32)off > desc_limit(raw) || off >> 32)
        raise_gp0(v);
}

static void far_real(struct soft_vcpu *v, u16 sel, u64 off, unsigned n, bool call, u64 next)
{
    if (off > v->s.seg[CS].limit)
        raise_gp0(v);
    if (call) {
        struct stack k = current_stack(v, 0);
        push(v, &k, n, v->s.seg[CS].selector);
        push(v, &k, n, next);
        stack_commit(v, &k);
    }
    seg_load_real(v, CS, sel);
    v->rip = off;
    soft_update_mode(v);
}

/* A direct transfer to code of the same level. */
static void far_code(struct soft_vcpu *v, u16 sel, struct desc *d, u64 off, unsigned n, bool call, u64 next)
{
    const unsigned dpl = desc_dpl(d->raw), rpl = sel & 3;
    if (v->long_mode && (d->raw & DESC_L) && (d->raw & DESC_DB))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (desc_is_conforming(d->raw) ? dpl > v->cpl : rpl > v->cpl || dpl != v->cpl)
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (!(d->raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    struct stack k = current_stack(v, 0);
    if (call) {
        push(v, &k, n, v->s.seg[CS].selector);
        push(v, &k, n, next);
    }
    check_target(v, d->raw, off);
    desc_set_accessed(v, d);
    if (call)
        stack_commit(v, &k);
    v->rip = off;
    cs_commit(v, (u16)((sel & ~3) | v->cpl), d->raw);
}

static void call_gate(struct soft_vcpu *v, u16 gate_sel, const struct desc *gate, bool call, u64 next)
{
    if (desc_dpl(gate->raw) < v->cpl || (gate_sel & 3u) > desc_dpl(gate->raw))
        soft_raise_err(v, NULL, VEC_GP, sel_err(gate_sel));
    if (v->long_mode && (gate->high >> 40 & 0x1f))
        soft_raise_err(v, NULL, VEC_GP, sel_err(gate_sel));
    if (!(gate->raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(gate_sel));
    const unsigned n = v->long_mode ? 8 : gate->raw >> 43 & 1 ? 4 : 2;
    const u16 sel = (u16)(gate->raw >> 16);
    u64 off = gate->raw & 0xffff;
    if (n >= 4)
        off |= gate->raw >> 32 & 0xffff0000;
    if (n == 8)
        off |= gate->high << 32;
    struct desc d;
    if (sel_null(sel))
        raise_gp0(v);
    if (!desc_fetch(v, sel, &d) || !desc_is_code(d.raw) || desc_dpl(d.raw) > v->cpl)
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (v->long_mode && (d.raw & (DESC_L | DESC_DB)) != DESC_L)
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    const unsigned dpl = desc_dpl(d.raw);
    const bool conforming = desc_is_conforming(d.raw);
    if (!call && !conforming && dpl != v->cpl)
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    if (!call || conforming || dpl == v->cpl) {
        struct stack k = current_stack(v, 0);
        if (v->long_mode) {
            k.seg = NULL;
            k.mask = ~0ull;
        }
        if (call) {
            push(v, &k, n, v->s.seg[CS].selector);
            push(v, &k, n, next);
        }
        check_target(v, d.raw, off);
        desc_set_accessed(v, &d);
        if (call)
            stack_commit(v, &k);
        v->rip = off;
        cs_commit(v, (u16)((sel & ~3) | v->cpl), d.raw);
        return;
    }

    /* To an inner level: its stack, parameters copied. */
    struct cpu_seg ss;
    struct stack k;
    if (v->long_mode) {
        seg_null(&ss, (u16)dpl, dpl);
        k = (struct stack){NULL, tss_rsp(v, 4 + dpl * 8, 0), ~0ull, 0, true};
    } else {
        k = inner_stack(v, dpl, 0, &ss);
    }
    push(v, &k, n, v->s.seg[SS].selector);
    push(v, &k, n, v->gpr[RSP]);
    if (!v->long_mode)
        for (unsigned p = (unsigned)(gate->raw >> 32) & 31; p > 0; p--)
            push(v, &k, n, stack_peek(v, (p - 1) * n, n));
    push(v, &k, n, v->s.seg[CS].selector);
    push(v, &k, n, next);
    check_target(v, d.raw, off);
    desc_set_accessed(v, &d);
    v->s.seg[SS] = ss;
    stack_commit(v, &k);
    v->rip = off;
    cs_commit(v, (u16)((sel & ~3) | dpl), d.raw);
}

/* JMP or CALL to a TSS or through a task gate. */
static void far_task(struct soft_vcpu *v, u16 sel, struct desc *d, bool call, u64 next)
{
    if (desc_dpl(d->raw) < v->cpl || desc_dpl(d->raw) < (sel & 3u))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (desc_type(d->raw) == 5) {
        if (!(d->raw & DESC_P))
            soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
        sel = (u16)(d->raw >> 16);
        if ((sel & 4) || sel_null(sel) || !desc_fetch(v, sel, d) || (d->raw & DESC_S) || (desc_type(d->raw) & ~8u) != 1)
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    } else if (sel & 4) {
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    }
    if (!(d->raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    v->tf_blocked = true;
    const struct task_event t = {call ? TASK_CALL : TASK_JMP, next, v->rflags, 0, false, 0};
    task_switch(v, sel, d, &t);
}

static void far_transfer(struct soft_vcpu *v, u16 sel, u64 off, unsigned n, bool call, u64 next)
{
    if (!v->protected_mode) {
        far_real(v, sel, off, n, call, next);
        return;
    }
    struct desc d;
    if (sel_null(sel))
        raise_gp0(v);
    if (!desc_fetch(v, sel, &d))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (d.raw & DESC_S) {
        if (!desc_is_code(d.raw))
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
        far_code(v, sel, &d, off, n, call, next);
        return;
    }
    switch (desc_type(d.raw)) {
    case 12:
        if (v->long_mode && !desc_fetch_system(v, sel, &d))
            break;
        call_gate(v, sel, &d, call, next);
        return;
    case 4:
        if (v->long_mode)
            break;
        call_gate(v, sel, &d, call, next);
        return;
    case 1: case 5: case 9:
        if (v->long_mode)
            break;
        far_task(v, sel, &d, call, next);
        return;
    }
    soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
}

static void op_far_direct(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    far_transfer(v, (u16)i->disp, i->imm & mask_of(i->size), i->size, i->aux, RIP_NEXT(v, i));
}
static void op_far_indirect(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    const unsigned n = i->size;
    u64 ea = insn_ea(v, i), top = ~0ull >> i->ashift;
    u64 lin = soft_linear(v, i, i->seg, ea, n + 2, ACCESS_READ);
    u64 off = n == 8 ? soft_load(v, i, lin, 8) : n == 4 ? soft_load(v, i, lin, 4) : soft_load(v, i, lin, 2);
    u16 sel = (u16)soft_load(v, i, soft_linear(v, i, i->seg, (ea + n) & top, 2, ACCESS_READ), 2);
    far_transfer(v, sel, off, n, i->aux, RIP_NEXT(v, i));
}

/* ---- returns ------------------------------------------------------------ */

/* CS as RETF and IRET load it: of our level or an outer one. */
static void return_code(struct soft_vcpu *v, u16 sel, struct desc *d)
{
    const unsigned rpl = sel & 3;
    if (unlikely(sel_null(sel)))
        raise_gp0(v);
    if (unlikely(!desc_fetch(v, sel, d) || !desc_is_code(d->raw) || rpl < v->cpl))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (unlikely(desc_is_conforming(d->raw) ? desc_dpl(d->raw) > rpl : desc_dpl(d->raw) != rpl))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (unlikely(v->long_mode && (d->raw & DESC_L) && (d->raw & DESC_DB)))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (unlikely(!(d->raw & DESC_P)))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
}

/* The descriptor of SS for level rpl; 0: a null selector. */
static u64 return_stack(struct soft_vcpu *v, u16 sel, unsigned rpl, bool to64)
{
    struct desc d;
    if (sel_null(sel)) {
        if (!to64 || rpl == 3)
            raise_gp0(v);
        if ((sel & 3u) != rpl)
            soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
        return 0;
    }
    if (unlikely(!desc_fetch(v, sel, &d) || (sel & 3u) != rpl || !desc_is_writable_data(d.raw) ||
                 desc_dpl(d.raw) != rpl))
        soft_raise_err(v, NULL, VEC_GP, sel_err(sel));
    if (unlikely(!(d.raw & DESC_P)))
        soft_raise_err(v, NULL, VEC_SS, sel_err(sel));
    desc_set_accessed(v, &d);
    return d.raw;
}

/* SS as return_stack found it, and the stack pointer; the mode is still that of before. */
static void stack_return(struct soft_vcpu *v, u16 sel, unsigned rpl, u64 raw, u64 sp)
{
    if (v->bits == 64 || (raw & DESC_DB))
        v->gpr[RSP] = sp;
    else
        R16(v, REG_OFF(RSP)) = (u16)sp;
    if (likely(raw))
        seg_unpack(&v->s.seg[SS], sel, raw);
    else
        seg_null(&v->s.seg[SS], sel, rpl);
}

static void op_retf(struct soft_vcpu *v, const struct insn *i)
{
    SYNC(v, i);
    const unsigned n = i->size;
    const u64 extra = i->aux ? i->imm & 0xffff : 0;
    u64 off = stack_peek(v, 0, n);
    u16 sel = (u16)stack_peek(v, n, n);
    if (!v->protected_mode) {
        if (off > v->s.seg[CS].limit)
            raise_gp0(v);
        sp_set(v, v->gpr[RSP] + 2 * n + extra);
        seg_load_real(v, CS, sel);
        v->rip = off;
        soft_update_mode(v);
        return;
    }
    struct desc d;
    return_code(v, sel, &d);
    const unsigned rpl = sel & 3;
    const bool to64 = v->long_mode && (d.raw & DESC_L);
    if (rpl == v->cpl) {
        check_target(v, d.raw, off);
        desc_set_accessed(v, &d);
        sp_set(v, v->gpr[RSP] + 2 * n + extra);
    } else {
        u64 sp = stack_peek(v, 2 * n + extra, n);
        u16 ss_sel = (u16)stack_peek(v, 3 * n + extra, n);
        const u64 ss = return_stack(v, ss_sel, rpl, to64);
        check_target(v, d.raw, off);
        desc_set_accessed(v, &d);
        stack_return(v, ss_sel, rpl, ss, sp + extra);
        v->cpl = (u8)rpl;
        seg_revalidate(v);
    }
    v->rip = off;
    cs_commit(v, sel, d.raw);
}

static void iret_real(struct soft_vcpu *v, unsigned n)
{
    if (v->v86 && iopl_of(v) < 3)
        raise_gp0(v);
    u64 off = stack_peek(v, 0, n);
    u16 sel = (u16)stack_peek(v, n, n);
    u64 image = stack_peek(v, 2 * n, n);
    if (off > v->s.seg[CS].limit)
        raise_gp0(v);
    sp_set(v, v->gpr[RSP] + 3 * n);
    u64 mask = (n == 2 ? FLAGS_IRET16 : FLAGS_IRET32) | RFLAGS_IF;
    if (!v->v86)
        mask |= RFLAGS_IOPL;
    flags_change(v, image, mask);
    flags_rf(v, n == 2 ? 0 : image);
    seg_load_real(v, CS, sel);
    v->rip = off;
    soft_update_mode(v);
}

/* To a virtual-8086 task: CS, EIP, EFLAGS, SS:ESP and the data segments from the stack. */
static void iret_to_v86(struct soft_vcpu *v, u64 off, u16 sel, u64 image)
{
    static const u8 order[] = {SS, ES, DS, FS, GS};
    u16 s[5];
    u64 sp = stack_peek(v, 12, 4);
    for (unsigned k = 0; k < 5; k++)
        s[k] = (u16)stack_peek(v, 16 + 4 * k, 4);
    if (off > 0xffff)
        raise_gp0(v);
    v->rflags |= RFLAGS_VM;
    v->cpl = 3;
    v->v86 = true;
    seg_load_real(v, CS, sel);
    for (unsigned k = 0; k < 5; k++)
        seg_load_real(v, order[k], s[k]);
    flags_change(v, image, FLAGS_IRET32 | RFLAGS_IF | RFLAGS_IOPL);
    flags_rf(v, image);
    v->gpr[RSP] = sp;
    v->rip = off;
    soft_update_mode(v);
}

/* IRET with NT: back to the task that the running one was nested in. */
static void iret_task(struct soft_vcpu *v, u64 next)
{
    u16 sel = (u16)soft_sys_load(v, v->s.tr.base, 2);
    struct desc d;
    if ((sel & 4) || sel_null(sel) || !desc_fetch(v, sel, &d) || (d.raw & DESC_S) || (desc_type(d.raw) & ~8u) != 3)
        soft_raise_err(v, NULL, VEC_TS, sel_err(sel));
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel));
    v->tf_blocked = true;
    const struct task_event t = {TASK_IRET, next, v->rflags & ~(u64)RFLAGS_NT, 0, false, 0};
    task_switch(v, sel, &d, &t);
}

static void op_iret(struct soft_vcpu *v, const struct insn *i)
{
    const unsigned n = i->size;
    SYNC(v, i);
    v->s.nmi_masked = false;
    if (unlikely(!v->protected_mode)) {
        iret_real(v, n);
        return;
    }
    if (unlikely(v->rflags & RFLAGS_NT)) {
        if (v->long_mode)
            raise_gp0(v);
        iret_task(v, RIP_NEXT(v, i));
        return;
    }
    u64 off, image, sp = 0;
    u16 sel, ss_sel = 0;
    const u64 top = v->gpr[RSP];
    const struct tlb_entry *e = &v->tlb[(top >> 12) & (TLB_SIZE - 1)];
    if (likely(n == 8 && (top ^ e->read) <= 4096 - 40)) { /* n is 8 in 64-bit mode only */
        const volatile u64 *p = (const volatile u64 *)(e->host + top);
        off = p[0];
        sel = (u16)p[1];
        image = p[2];
        sp = p[3];
        ss_sel = (u16)p[4];
    } else {
        off = stack_peek(v, 0, n);
        sel = (u16)stack_peek(v, n, n);
        image = stack_peek(v, 2 * n, n);
        if (!v->long_mode && n == 4 && v->cpl == 0 && (image & RFLAGS_VM)) {
            iret_to_v86(v, off, sel, image);
            return;
        }
        if (v->bits == 64 || (sel & 3) > v->cpl) {
            /* CS is judged before the rest of the frame is touched. */
            struct desc probe;
            return_code(v, sel, &probe);
            sp = stack_peek(v, 3 * n, n);
            ss_sel = (u16)stack_peek(v, 4 * n, n);
        }
    }
    struct desc d;
    return_code(v, sel, &d);
    const unsigned rpl = sel & 3, cpl = v->cpl;
    const bool outer = rpl > cpl, new_ss = outer || v->bits == 64;
    const u64 ss = new_ss ? return_stack(v, ss_sel, rpl, v->long_mode && (d.raw & DESC_L)) : 0;
    check_target(v, d.raw, off);
    desc_set_accessed(v, &d);

    u64 mask = n == 2 ? FLAGS_IRET16 : FLAGS_IRET32;
    if (cpl <= iopl_of(v))
        mask |= RFLAGS_IF;
    if (cpl == 0)
        mask |= RFLAGS_IOPL;
    flags_change(v, image, mask);
    flags_rf(v, n == 2 ? 0 : image);
    if (new_ss)
        stack_return(v, ss_sel, rpl, ss, sp);
    else
        sp_set(v, top + 3 * n);
    if (outer) {
        v->cpl = (u8)rpl;
        seg_revalidate(v);
    }
    v->rip = off;
    cs_commit(v, sel, d.raw);
}

/* ---- fast system calls -------------------------------------------------- */

static void op_syscall(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(!(v->s.efer & EFER_SCE)))
        soft_raise(v, i, VEC_UD);
    if (unlikely(v->bits != 64)) {
        /* Intel: 64-bit mode only. AMD: also from compatibility and legacy protected mode. */
        if (!soft_is_amd(v) || !v->protected_mode)
            soft_raise(v, i, VEC_UD);
        if (!v->long_mode) {
            v->gpr[RCX] = RIP_NEXT(v, i);
            v->rip = (u32)v->s.star;
            v->rflags &= ~(u64)(RFLAGS_VM | RFLAGS_RF);
            v->rflags &= ~(u64)RFLAGS_IF;
            u16 cs = (u16)(v->s.star >> 32) & 0xfffc;
            fixed_commit(v, cs, (u16)(cs + 8), 0, false);
            return;
        }
    }
    v->gpr[RCX] = RIP_NEXT(v, i);
    v->gpr[R11] = v->rflags & ~(u64)RFLAGS_RF;
    v->rip = v->bits == 64 ? v->s.lstar : v->s.cstar;
    v->rflags &= ~(u64)RFLAGS_RF;
    flags_change(v, 0, v->s.sfmask & ~(u64)(RFLAGS_FIXED | RFLAGS_VM));
    v->tf_blocked = !(v->rflags & RFLAGS_TF); /* the single-step trap looks at TF as SYSCALL left it */
    u16 cs = (u16)(v->s.star >> 32) & 0xfffc;
    fixed_commit(v, cs, (u16)(cs + 8), 0, true);
}

static void op_sysret(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(!(v->s.efer & EFER_SCE) || !v->protected_mode || (v->bits != 64 && !soft_is_amd(v))))
        soft_raise(v, i, VEC_UD);
    need_cpl0(v, i);
    const u16 base = (u16)(v->s.star >> 48) | 3;
    const bool to64 = i->size == 8;
    const bool tf = v->rflags & RFLAGS_TF;
    if (to64 && unlikely(!canonical(v, v->gpr[RCX])))
        soft_raise_err(v, i, VEC_GP, 0);
    v->rip = to64 ? v->gpr[RCX] : (u32)v->gpr[RCX];
    v->rflags &= ~(u64)(RFLAGS_RF | RFLAGS_VM);
    if (v->long_mode)
        flags_change(v, v->gpr[R11], FLAGS_IRET32 | RFLAGS_IF | RFLAGS_IOPL);
    else
        v->rflags |= RFLAGS_IF;
    fixed_commit(v, (u16)(to64 ? base + 16 : base), (u16)(base + 8), 3, to64);
    if (unlikely((v->rflags & RFLAGS_TF) && !tf)) { /* a TF that SYSRET sets traps at once (SDM vol. 3 17.3.1.4) */
        v->s.dr6 |= BIT(14);
        soft_raise(v, NULL, VEC_DB);
    }
    v->tf_blocked = !(v->rflags & RFLAGS_TF);
}

static void op_sysenter(struct soft_vcpu *v, const struct insn *i)
{
    if (v->long_mode && soft_is_amd(v))
        soft_raise(v, i, VEC_UD);
    if (!(v->s.cr0 & CR0_PE) || !(v->s.sysenter_cs & 0xfffc))
        soft_raise_err(v, i, VEC_GP, 0);
    const u16 cs = (u16)v->s.sysenter_cs & 0xfffc;
    v->rflags &= ~(u64)(RFLAGS_VM | RFLAGS_RF | RFLAGS_IF);
    v->gpr[RSP] = v->long_mode ? v->s.sysenter_esp : (u32)v->s.sysenter_esp;
    v->rip = v->long_mode ? v->s.sysenter_eip : (u32)v->s.sysenter_eip;
    fixed_commit(v, cs, (u16)(cs + 8), 0, v->long_mode);
}

static void op_sysexit(struct soft_vcpu *v, const struct insn *i)
{
    if (v->long_mode && soft_is_amd(v))
        soft_raise(v, i, VEC_UD);
    if (!v->protected_mode || v->cpl != 0 || !(v->s.sysenter_cs & 0xfffc))
        soft_raise_err(v, i, VEC_GP, 0);
    const bool to64 = i->size == 8;
    if (to64 && (!canonical(v, v->gpr[RCX]) || !canonical(v, v->gpr[RDX])))
        soft_raise_err(v, i, VEC_GP, 0);
    const u16 cs = (u16)((v->s.sysenter_cs & 0xfffc) + (to64 ? 32 : 16)) | 3;
    v->rip = to64 ? v->gpr[RDX] : (u32)v->gpr[RDX];
    v->gpr[RSP] = to64 ? v->gpr[RCX] : (u32)v->gpr[RCX];
    fixed_commit(v, cs, (u16)(cs + 8), 3, to64);
}

/* ---- lowering ----------------------------------------------------------- */

static bool set(struct insn *i, soft_fn *fn, unsigned size, unsigned aux)
{
    i->fn = fn;
    i->size = (u8)size;
    i->aux = (u8)aux;
    return true;
}

bool lower_transfer(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    (void)v;
    if (d->encoding != ENC_LEGACY)
        return false;
    if (d->map == 0) {
        switch (d->opcode) {
        case 0x9a: case 0xea:
            if (d->bits == 64)
                return false;
            i->disp = (s64)d->imm2;
            return set(i, op_far_direct, far_size(d), d->opcode == 0x9a);
        case 0xff:
            if ((d->reg & 7) != 3 && (d->reg & 7) != 5)
                return false;
            if (!d->has_mem)
                return set(i, op_ud, 0, 0);
            return set(i, op_far_indirect, far_size(d), (d->reg & 7) == 3);
        case 0xca: case 0xcb: return set(i, op_retf, far_size(d), d->opcode == 0xca);
        case 0xcc: i->imm = VEC_BP; return set(i, op_int, 0, 0);
        case 0xcd: i->imm = d->imm & 0xff; return set(i, op_int, 0, 1);
        case 0xce: return d->bits == 64 ? false : set(i, op_into, 0, 0);
        case 0xcf: return set(i, op_iret, far_size(d), 0);
        case 0xf1: return set(i, op_int1, 0, 0);
        }
        return false;
    }
    if (d->map == 1) {
        const unsigned n = d->bits == 64 && (d->rex & 8) ? 8 : 4;
        switch (d->opcode) {
        case 0x05: return set(i, op_syscall, n, 0);
        case 0x07: return set(i, op_sysret, n, 0);
        case 0x34: return set(i, op_sysenter, n, 0);
        case 0x35: return set(i, op_sysexit, n, 0);
        }
    }
    return false;
}
