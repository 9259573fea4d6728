/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.c - instructions that use the stack (pushes, pops, calls, returns), and jumps whose target is in a register or
 * memory.
 */
#include "engine/soft/translate/internal.h"

static void emit_store_imm(struct tr *t, const struct operand *o, u32 imm)
{
    struct emit *e = &t->e;
    if (t->slot == 2)
        e1(e, 0x66);
    e1(e, 0x40 | (t->slot == 8) << 3 | (o->index != NONE && o->index >> 3) << 1 | o->base >> 3), e1(e, 0xc7);
    e_mem(e, 0, o->base, o->index, o->scale, o->disp);
    if (t->slot == 2)
        e1(e, imm & 0xff), e1(e, imm >> 8 & 0xff);
    else
        e4(e, imm);
}

/* Saves what lies where a CALL is about to write, so that jit_bad_target can put it back. */
static void emit_keep_under(struct tr *t, struct operand *o)
{
    settle_operand(t, o);
    e_rm(&t->e, 0x8b, o->free, o->base, o->index, o->scale, o->disp, t->slot);
    e_gs(&t->e, 0x89, o->free, OFF(tr.under), 8);
}

/* Pushes host register reg. If that is NONE, pushes guest register g from memory. If both are NONE, pushes imm, or with
   reloc imm + tr.delta. keep: what lies there is saved (emit_keep_under). */
static void emit_push(struct tr *t, unsigned reg, unsigned g, u64 imm, bool reloc, bool keep)
{
    struct emit *e = &t->e;
    struct operand o;
    bool restore;
    const struct address below = stack_at(t, -t->slot);
    struct slow *s = begin_access(t, &below, t->slot, true, &o, &restore);
    if (keep)
        emit_keep_under(t, &o);
    if (reg == NONE && g == NONE && !reloc && (fits32(imm) || t->slot < 8)) {
        emit_store_imm(t, &o, (u32)imm);
    } else {
        if (reg == NONE) {
            settle_operand(t, &o);
            reg = o.free;
            if (g == NONE)
                emit_place(t, reg, imm, reloc);
            else
                e_gs(e, 0x8b, reg, GPR(g), 8);
        }
        e_rm(e, 0x89, reg, o.base, o.index, o.scale, o.disp, t->slot);
    }
    if (restore)
        emit_restore_flags(e);
    emit_move_stack(t, -t->slot);
    end_access(t, s);
}

/* Writes the place at which a called function's host RET arrives. T0 has the RIP at which the guest goes on. If that is not
   rip, it is looked up. Flags are kept, since the code there may read them. */
void emit_landing(struct tr *t, u64 rip)
{
    struct emit *e = &t->e;
    t->t1_slot = -1;
    t->s.n = 0;
    e_mov(e, T1, RCX);
    if (t->r->reloc) { /* the caller's tr.delta is next on the stack (emit_leave_delta) */
        e1(e, 0x59);                           /* pop rcx */
        e1(e, 0x49), e1(e, 0xf7), e1(e, 0xd2); /* not r10 */
        e_lea(e, RCX, RCX, T0, 0, (s32)rip + 1);
        e1(e, 0xe3), e1(e, 11); /* jrcxz */
        e_mov(e, RCX, T1);
        e1(e, 0x49), e1(e, 0xf7), e1(e, 0xd2);
        e_jmp(e, t->j->lookup_reset[t->s.ctx]);
        e_mov(e, RCX, T1);
        e1(e, 0x49), e1(e, 0xf7), e1(e, 0xd2);
        e_lea(e, T0, T0, NONE, 0, -(s32)rip);
        e_gs(e, 0x89, T0, OFF(tr.delta), 8);
    } else {
        e_mov_imm(e, RCX, 0 - rip);
        e_lea(e, RCX, RCX, T0, 0, 0);
        e1(e, 0xe3), e1(e, 8); /* jrcxz */
        e_mov(e, RCX, T1);
        e_jmp(e, t->j->lookup[t->s.ctx]);
        e_mov(e, RCX, T1);
    }
    emit_take(t);
}

/* To be called before a host CALL is written: its landing does not know by itself with which delta it runs. */
static void emit_leave_delta(struct tr *t)
{
    struct emit *e = &t->e;
    if (t->r->reloc)
        e1(e, 0x65), e1(e, 0xff), e1(e, 0x34), e1(e, 0x25), e4(e, OFF(tr.delta)); /* push gs:[..] */
}

static void emit_call(struct tr *t, u64 to, u64 next)
{
    struct emit *e = &t->e;
    emit_push(t, NONE, NONE, next, t->r->reloc, false);
    have_flags(t, T0);
    emit_give(t);
    emit_leave_delta(t);
    struct way_out *c = new_way_out(t, OUT_CALL, to);
    struct link *l = new_link(t, to, &c->link);
    if (region_has(t->r, to)) {
        e_align(e, 1);
        e1(e, 0xe8);
        c->at = e->p;
        l->jump = place(t, e->p);
        e4(e, 0);
        return;
    }
    u8 *yes = emit_mapping_check(t, l);
    e_mov(e, RCX, T0);
    e1(e, 0xe9), c->at = e->p, e4(e, 0);
    yes[-1] = (u8)(e->p - yes);
    e_mov(e, RCX, T0);
    e_align(e, 1);
    e1(e, 0xe8);
    l->jump = place(t, e->p);
    e4(e, 0);
}

/* ---- one instruction ---- */

void translate_push(struct tr *t, const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    const unsigned g = d->opcode == 0xff ? d->rm : d->reg;
    if (d->opcode == 0x68 || d->opcode == 0x6a)
        emit_push(t, NONE, NONE, d->imm, false, false);
    else if (host_of[g] == IN_MEMORY)
        emit_push(t, NONE, g, 0, false, false);
    else
        emit_push(t, host_of[g], NONE, 0, false, false);
}

/* There are two accesses. Neither is made before both are known to succeed. */
void translate_push_mem(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    struct address a;
    struct operand o;
    if (!address_of(t->r, i, &a)) {
        emit_fallback(t);
        return;
    }
    const bool saved = live(t, t->pos);
    if (saved)
        emit_save_flags(e);
    struct slow *s = emit_probe(t, &a, t->slot, false, saved, &o);
    check(t, &o, t->slot, false);
    emit_load_zx(t, &o, t->slot);
    e_gs(e, 0x89, T0, OFF(tr.tmp2), 8);
    a = stack_at(t, -t->slot);
    struct slow *s2 = emit_probe(t, &a, t->slot, true, saved, &o);
    check(t, &o, t->slot, true);
    settle_operand(t, &o);
    e_gs(e, 0x8b, o.free, OFF(tr.tmp2), 8);
    e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, t->slot);
    if (saved)
        emit_restore_flags(e);
    emit_move_stack(t, -t->slot);
    end_access(t, s);
    end_access(t, s2);
}

void translate_pop(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const unsigned g = d->opcode == 0x8f ? d->rm : d->reg;
    const struct address a = stack_at(t, 0);
    struct operand o;
    bool restore;
    struct slow *s = begin_access(t, &a, t->slot, false, &o, &restore);
    const unsigned dst = host_of[g] == IN_MEMORY ? T0 : host_of[g];
    if (g == RSP && t->slot < t->sp) /* the part of RSP that is not written has moved before */
        emit_move_stack(t, t->slot);
    e_rm(e, 0x8b, dst, o.base, o.index, o.scale, o.disp, t->slot);
    if (host_of[g] == IN_MEMORY)
        store_guest(t, g, dst);
    if (restore)
        emit_restore_flags(e);
    if (g != RSP)
        emit_move_stack(t, t->slot);
    end_access(t, s);
}

void translate_leave(struct tr *t)
{
    struct emit *e = &t->e;
    const struct address a = { .base = RBP, .index = 0xff, .seg = SS, .asize = t->sp, .disp = 0 };
    struct operand o;
    bool restore;
    struct slow *s = begin_access(t, &a, t->slot, false, &o, &restore);
    e_rm(e, 0x8b, T0, o.base, o.index, o.scale, o.disp, t->slot);
    e_rm(e, 0x8d, H_SP, RBP, NONE, 0, t->slot, t->sp);
    e_rr(e, 0x8b, RBP, T0, t->slot);
    if (restore)
        emit_restore_flags(e);
    end_access(t, s);
}

/* The RIP behind instruction i. */
static u64 rip_behind(const struct tr *t, const struct rinsn *i)
{
    return region_to(t->r, region_rip(t->r, i->off) + i->d.len);
}

void translate_call(struct tr *t, const struct rinsn *i)
{
    if (ctx_changed(t)) { /* its callee would return to code of another context */
        emit_fallback(t);
        return;
    }
    emit_call(t, region_target(t->r, i), rip_behind(t, i));
}

/* Loads T0 with the target that guest register g holds. */
static void emit_target(struct tr *t, unsigned g)
{
    load_guest(t, T0, g);
    if (t->w == 2)
        e_rr(&t->e, t->slot == 2 ? 0x0fb7 : 0x8b, T0, T0, 4);
}

/* Calls the target in tr.tmp2. The return address is on the guest's stack already. */
static void emit_call_known(struct tr *t)
{
    struct emit *e = &t->e;
    emit_give(t);
    emit_from(t);
    emit_leave_delta(t);
    e_gs(e, 0x8b, T0, OFF(tr.tmp2), 8);
    e_call_rel(e, t->j->lookup[t->s.ctx]);
}

/* A CALL whose target is in memory at a. It has two accesses, each with its own probe. */
static void emit_call_memory(struct tr *t, const struct address *a, u64 next)
{
    struct emit *e = &t->e;
    struct operand o;
    const bool saved = live(t, t->pos);
    if (saved)
        emit_save_flags(e);
    struct slow *s = emit_probe(t, a, t->slot, false, saved, &o);
    check(t, &o, t->slot, false);
    s->back = t->j->exit; /* the handler has set RIP; it does not fall through */
    emit_load_zx(t, &o, t->slot);
    e_gs(e, 0x89, T0, OFF(tr.tmp2), 8);
    const struct address below = stack_at(t, -t->slot);
    s = emit_probe(t, &below, t->slot, true, saved, &o);
    check(t, &o, t->slot, true);
    s->back = t->j->exit;
    emit_keep_under(t, &o);
    if ((fits32(next) || t->slot < 8) && !t->r->reloc) {
        emit_store_imm(t, &o, (u32)next);
    } else {
        emit_rip(t, o.free, next);
        e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, 8);
    }
    if (saved)
        emit_restore_flags(e);
    emit_move_stack(t, -t->slot);
    emit_call_known(t);
}

void translate_call_indirect(struct tr *t, const struct rinsn *i)
{
    const u64 next = rip_behind(t, i);
    struct address a;
    if (ctx_changed(t) || (i->d.has_mem && !address_of(t->r, i, &a))) {
        emit_fallback(t);
        return;
    }
    if (i->d.has_mem) {
        emit_call_memory(t, &a, next);
        return;
    }
    emit_target(t, i->d.rm); /* before RSP moves, because it may be RSP */
    e_gs(&t->e, 0x89, T0, OFF(tr.tmp2), 8);
    emit_push(t, NONE, NONE, next, t->r->reloc, true);
    have_flags(t, T0);
    emit_call_known(t);
}

void translate_jump_indirect(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    struct address a;
    if (!i->d.has_mem) {
        emit_target(t, i->d.rm);
    } else if (address_of(t->r, i, &a)) {
        struct operand o;
        bool restore;
        struct slow *s = begin_access(t, &a, t->slot, false, &o, &restore);
        if (s)
            s->back = t->j->exit; /* the handler has set RIP; it does not fall through */
        emit_load_zx(t, &o, t->slot);
        if (restore)
            emit_restore_flags(e);
    } else {
        emit_fallback(t);
        return;
    }
    have_flags(t, T1);
    emit_give(t);
    emit_from(t);
    e_jmp(e, ctx_changed(t) ? t->j->lookup_reset[t->s.ctx] : t->j->lookup[t->s.ctx]);
}

void translate_ret(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const struct address a = stack_at(t, 0);
    struct operand o;
    bool restore;
    struct slow *s = begin_access(t, &a, t->slot, false, &o, &restore);
    if (s)
        s->back = t->j->exit;
    emit_load_zx(t, &o, t->slot);
    if (restore)
        emit_restore_flags(e);
    emit_move_stack(t, t->slot + (d->opcode == 0xc2 ? (s32)(u16)d->imm : 0));
    have_flags(t, T1);
    emit_give(t);
    emit_from(t);
    if (ctx_changed(t))
        e_jmp(e, t->j->lookup_reset[t->s.ctx]);
    else
        e1(e, 0xc3);
}
