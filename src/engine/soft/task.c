/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.c - the hardware task switch: JMP, CALL, IRET and interrupts to a 16- or 32-bit TSS.
 *
 * SDM vol. 3 ch. 8 (task management), 8.3 (the order of steps) and table 8-1 (what each check raises). Long mode
 * has no task switches.
 */
#include "engine/soft/system.h"

enum { /* offsets in a TSS */
    T32_CR3 = 28, T32_EIP = 32, T32_EFLAGS = 36, T32_EAX = 40, T32_ES = 72, T32_LDT = 96, T32_TRAP = 100,
    T32_SIZE = 104,
    T16_IP = 14, T16_FLAGS = 16, T16_AX = 18, T16_ES = 34, T16_LDT = 42, T16_SIZE = 44,
};

static void save_old(struct soft_vcpu *v, const struct task_event *t, bool tss32)
{
    const u64 base = v->s.tr.base;
    if (tss32) {
        soft_sys_store(v, base + T32_EIP, 4, t->next);
        soft_sys_store(v, base + T32_EFLAGS, 4, t->flags);
        for (unsigned r = 0; r < 8; r++)
            soft_sys_store(v, base + T32_EAX + 4 * r, 4, v->gpr[r]);
        for (unsigned s = 0; s < SEG_COUNT; s++)
            soft_sys_store(v, base + T32_ES + 4 * s, 2, v->s.seg[s].selector);
        return;
    }
    soft_sys_store(v, base + T16_IP, 2, t->next);
    soft_sys_store(v, base + T16_FLAGS, 2, t->flags);
    for (unsigned r = 0; r < 8; r++)
        soft_sys_store(v, base + T16_AX + 2 * r, 2, v->gpr[r]);
    for (unsigned s = 0; s < 4; s++)
        soft_sys_store(v, base + T16_ES + 2 * s, 2, v->s.seg[s].selector);
}

struct task_image {
    u32 cr3, eip, eflags, gpr[8];
    u16 seg[SEG_COUNT], ldt, trap;
};

static void load_image(struct soft_vcpu *v, u64 base, bool tss32, struct task_image *n)
{
    if (tss32) {
        n->cr3 = (u32)soft_sys_load(v, base + T32_CR3, 4);
        n->eip = (u32)soft_sys_load(v, base + T32_EIP, 4);
        n->eflags = (u32)soft_sys_load(v, base + T32_EFLAGS, 4);
        for (unsigned r = 0; r < 8; r++)
            n->gpr[r] = (u32)soft_sys_load(v, base + T32_EAX + 4 * r, 4);
        for (unsigned s = 0; s < SEG_COUNT; s++)
            n->seg[s] = (u16)soft_sys_load(v, base + T32_ES + 4 * s, 2);
        n->ldt = (u16)soft_sys_load(v, base + T32_LDT, 2);
        n->trap = (u16)soft_sys_load(v, base + T32_TRAP, 2);
        return;
    }
    n->cr3 = (u32)v->s.cr3;
    n->eip = (u32)soft_sys_load(v, base + T16_IP, 2);
    n->eflags = (u32)soft_sys_load(v, base + T16_FLAGS, 2);
    for (unsigned r = 0; r < 8; r++) /* the upper halves do not change */
        n->gpr[r] = ((u32)v->gpr[r] & 0xffff0000) | (u32)soft_sys_load(v, base + T16_AX + 2 * r, 2);
    for (unsigned s = 0; s < 4; s++)
        n->seg[s] = (u16)soft_sys_load(v, base + T16_ES + 2 * s, 2);
    n->seg[FS] = n->seg[GS] = 0;
    n->ldt = (u16)soft_sys_load(v, base + T16_LDT, 2);
    n->trap = 0;
}

/* Sets or clears the busy bit of the TSS descriptor that sel names in the GDT. */
static void set_busy(struct soft_vcpu *v, u16 sel, bool busy)
{
    struct desc d;
    if (!desc_fetch(v, sel, &d))
        return;
    u64 access = (d.raw >> 40 & 0xfd) | (busy ? 2 : 0);
    soft_sys_store(v, d.addr + 5, 1, access);
}

/* Loads the segments of the new task, whose CPL is the RPL of CS. Faults here belong to the new task. */
static void load_segments(struct soft_vcpu *v, const u16 *sel, u32 ext)
{
    struct desc d;
    const unsigned rpl = sel[CS] & 3;
    if (sel_null(sel[CS]) || !desc_fetch(v, sel[CS], &d) || !desc_is_code(d.raw) ||
        (desc_is_conforming(d.raw) ? desc_dpl(d.raw) > rpl : desc_dpl(d.raw) != rpl))
        soft_raise_err(v, NULL, VEC_TS, sel_err(sel[CS]) | ext);
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_NP, sel_err(sel[CS]) | ext);
    desc_set_accessed(v, &d);
    seg_unpack(&v->s.seg[CS], sel[CS], d.raw);

    if (sel_null(sel[SS]) || !desc_fetch(v, sel[SS], &d) || !desc_is_writable_data(d.raw) || (sel[SS] & 3u) != rpl ||
        desc_dpl(d.raw) != rpl)
        soft_raise_err(v, NULL, VEC_TS, sel_err(sel[SS]) | ext);
    if (!(d.raw & DESC_P))
        soft_raise_err(v, NULL, VEC_SS, sel_err(sel[SS]) | ext);
    desc_set_accessed(v, &d);
    seg_unpack(&v->s.seg[SS], sel[SS], d.raw);

    static const u8 data[] = {ES, DS, FS, GS};
    for (unsigned k = 0; k < 4; k++) {
        const u16 s = sel[data[k]];
        if (sel_null(s))
            continue;
        if (!desc_fetch(v, s, &d) || !(d.raw & DESC_S) || (desc_is_code(d.raw) && !(d.raw & BIT(41))) ||
            (!(desc_is_code(d.raw) && desc_is_conforming(d.raw)) &&
             (desc_dpl(d.raw) < rpl || desc_dpl(d.raw) < (s & 3u))))
            soft_raise_err(v, NULL, VEC_TS, sel_err(s) | ext);
        if (!(d.raw & DESC_P))
            soft_raise_err(v, NULL, VEC_NP, sel_err(s) | ext);
        desc_set_accessed(v, &d);
        seg_unpack(&v->s.seg[data[k]], s, d.raw);
    }
}

static void push_error(struct soft_vcpu *v, unsigned n, u32 error, u32 ext)
{
    const struct cpu_seg *ss = &v->s.seg[SS];
    u64 sp = (v->gpr[RSP] - n) & sp_mask(v);
    if (!v->v86 && !seg_contains(ss, sp, n))
        soft_raise_err(v, NULL, VEC_SS, ext);
    stack_poke(v, n, n, error);
    sp_set(v, sp);
}

void task_switch(struct soft_vcpu *v, u16 sel, struct desc *d, const struct task_event *t)
{
    const bool tss32 = desc_type(d->raw) & 8, old32 = v->s.tr.attr & 8, busy = desc_type(d->raw) & 2;
    const u16 old_sel = v->s.tr.selector;
    const u64 base = desc_base(d->raw);
    if (t->why == TASK_IRET ? !busy : busy)
        soft_raise_err(v, NULL, t->why == TASK_IRET ? VEC_TS : VEC_GP, sel_err(sel) | t->ext);
    if (desc_limit(d->raw) < (tss32 ? T32_SIZE : T16_SIZE) - 1)
        soft_raise_err(v, NULL, VEC_TS, sel_err(sel) | t->ext);
    if (v->s.tr.limit < (old32 ? T32_SIZE : T16_SIZE) - 1)
        soft_raise_err(v, NULL, VEC_TS, sel_err(old_sel) | t->ext);
    /* Everything that is accessed is checked first, so that no fault comes halfway. */
    soft_probe(v, NULL, v->s.tr.base, old32 ? T32_SIZE : T16_SIZE, ACCESS_WRITE | ACCESS_IMPLICIT);
    soft_probe(v, NULL, base, tss32 ? T32_SIZE : T16_SIZE, ACCESS_WRITE | ACCESS_IMPLICIT);
    soft_probe(v, NULL, d->addr, 8, ACCESS_WRITE | ACCESS_IMPLICIT);

    save_old(v, t, old32);
    struct task_image n;
    load_image(v, base, tss32, &n);
    if (t->why == TASK_JMP || t->why == TASK_IRET)
        set_busy(v, old_sel, false);
    if (t->why == TASK_CALL || t->why == TASK_INT) {
        soft_sys_store(v, base, 2, old_sel);
        n.eflags |= RFLAGS_NT;
    }
    if (t->why != TASK_IRET)
        set_busy(v, sel, true);

    /* From here on the new task runs. */
    seg_unpack(&v->s.tr, sel, d->raw | BIT(41));
    v->s.cr0 |= CR0_TS;
    soft_update_fpu(v);
    if (tss32 && (v->s.cr0 & CR0_PG)) {
        v->s.cr3 = n.cr3;
        soft_flush_tlb(v);
    }
    v->rip = n.eip;
    for (unsigned r = 0; r < 8; r++)
        v->gpr[r] = n.gpr[r];
    const u64 all = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM |
                    RFLAGS_AC | RFLAGS_ID;
    v->rflags = (n.eflags & (tss32 ? all : all & 0xffff)) | RFLAGS_FIXED;
    if ((v->rflags & RFLAGS_RF) && (v->s.dr7 & 0xff))
        v->slow |= SLOW_RF;
    else
        v->rflags &= ~(u64)RFLAGS_RF;
    v->s.dr7 &= ~0x155ull; /* L0-L3, LE */

    const bool v86 = v->rflags & RFLAGS_VM;
    v->cpl = v86 ? 3 : n.seg[CS] & 3;
    for (unsigned s = 0; s < SEG_COUNT; s++)
        seg_null(&v->s.seg[s], n.seg[s], s == SS || s == CS ? v->cpl : 0);
    v->v86 = v86;
    seg_null(&v->s.ldtr, n.ldt, 0);
    soft_update_slow(v);
    soft_update_mode(v);
    ldt_load(v, n.ldt, VEC_TS, t->ext);
    if (v86)
        for (unsigned s = 0; s < SEG_COUNT; s++)
            seg_load_real(v, s, n.seg[s]);
    else
        load_segments(v, n.seg, t->ext);
    soft_update_mode(v);
    if (t->has_error)
        push_error(v, tss32 ? 4 : 2, t->error, t->ext);
    if (v->rip > v->s.seg[CS].limit)
        soft_raise_err(v, NULL, VEC_GP, t->ext);
    if (n.trap & 1) {
        v->s.dr6 |= BIT(15); /* BT */
        soft_raise(v, NULL, VEC_DB);
    }
}
