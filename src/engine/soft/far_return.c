/* SPDX-License-Identifier: Apache-2.0 */
/*
 * far_return.c - far RET and IRET (SDM vol. 2): to the same level, to an outer level, to V86 mode, to another task.
 */
#include "engine/soft/transfer.h"

/* Fetches the code segment that RETF or IRET returns to, and checks it: it must be of our level or an outer one. */
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

/* Returns the descriptor of SS for level rpl, checked; 0: the selector is null. */
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

/* Sets SS to the descriptor that return_stack returned, and the stack pointer. The mode is still the one before the
   return. */
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

void op_retf(struct soft_vcpu *v, const struct insn *i)
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

/* Returns to a virtual-8086 task: CS, EIP, EFLAGS, SS:ESP and the data segments come from the stack. */
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

/* IRET with NT set returns to the task in which the running one is nested. */
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

void op_iret(struct soft_vcpu *v, const struct insn *i)
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
            /* CS is checked before the rest of the frame is read. */
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
