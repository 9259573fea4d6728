/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transfer.c - control transfers beyond the code segment: far JMP and CALL, SYSCALL, SYSENTER. Far returns are in
 * far_return.c, interrupts and exceptions in deliver.c.
 *
 * SDM vol. 2 (CALL, JMP, SYSCALL, SYSRET, SYSENTER, SYSEXIT), vol. 3 ch. 5.8.
 * Every routine reads, checks and pushes first and changes registers last, so that a fault leaves no trace.
 */
#include "engine/soft/transfer.h"

/* Loads s with a flat segment of the fast system calls. */
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
    if (cpl == 3)
        soft_user_entered(v);
    else if (v->cpl == 3)
        soft_user_leaves(v);
    v->cpl = (u8)cpl;
    if (likely(was64 && code64))
        soft_update_tlb_ctx(v);
    else
        soft_update_mode(v);
}

/* ---- far JMP and CALL --------------------------------------------------- */

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

/* Transfers directly to code of the same level. */
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

    /* A call to an inner level uses that level's stack, and copies the parameters to it. */
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

/* ---- fast system calls -------------------------------------------------- */

static void op_syscall(struct soft_vcpu *v, const struct insn *i)
{
    if (unlikely(!(v->s.efer & EFER_SCE)))
        soft_raise(v, i, VEC_UD);
    if (unlikely(v->bits != 64)) {
        /* Intel's processors have it in 64-bit mode only, AMD's also in compatibility and legacy protected mode. */
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
