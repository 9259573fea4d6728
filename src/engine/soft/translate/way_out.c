/* SPDX-License-Identifier: Apache-2.0 */
/*
 * way_out.c - how a region is left: exits to a RIP that is known now, which are linked to its translation when there is one;
 * polls for requests; and what of both is written behind the blocks.
 */
#include "engine/soft/translate/internal.h"

struct way_out *new_way_out(struct tr *t, int kind, u64 rip)
{
    if (t->nout == LINKS_MAX) {
        fail(t);
        return &t->out[0];
    }
    struct way_out *c = &t->out[t->nout++];
    *c = (struct way_out){ .kind = kind, .rip = rip, .same = -1, .link = -1, .ctx = t->s.ctx };
    return c;
}

struct link *new_link(struct tr *t, u64 rip, s16 *number)
{
    if (t->nlink == LINKS_MAX) {
        fail(t);
        return &t->link[0];
    }
    *number = (s16)t->nlink;
    struct link *l = &t->link[t->nlink++];
    const struct rinsn *i = &t->r->insn[t->r->order[t->pos]];
    *l = (struct link){ .rip = rip, .forward = rip > region_rip(t->r, i->off), .key = (t->t->key & ~(0x60u | JIT_CAREFUL)) | (u32)t->s.ctx << 5 };
    return l;
}

/* Sets RCX to 0 if the page with this number is mapped as it was when it got the number. The caller has moved RCX's value to
   another register. Returns the place of the number in the code. Keeps the flags; T1 is used up. */
static u8 *emit_mapped(struct tr *t, u32 id)
{
    struct emit *e = &t->e;
    e_align(e, 5); /* the displacement is patched */
    e_gs(e, 0x8b, RCX, OFF(tr.mapped) + 8 * id, 8); /* mov rcx, gs:[..]; entry 0 is never set */
    u8 *at = e->p - 4;
    if (t->r->reloc) {
        e_gs(e, 0x8b, T1, OFF(tr.delta), 8);
        e_lea(e, RCX, RCX, T1, 0, -1);
    } else {
        e_lea(e, RCX, RCX, NONE, 0, -1);
    }
    return at;
}

/* Checks, without changing the flags, whether the page of the link's target is mapped as it was when it got its number.
   RCX's value is in T0 from then on. Ends with a JRCXZ, which is taken if it is, and returns the place behind it; the caller
   fills in where it goes. */
u8 *emit_mapping_check(struct tr *t, struct link *l)
{
    struct emit *e = &t->e;
    e_mov(e, T0, RCX);
    l->check = place(t, emit_mapped(t, 0));
    e1(e, 0xe3), e1(e, 0);
    return e->p;
}

/* Goes out to a RIP that is known now, if cc is true, or always if cc < 0. It is linked to the target's translation when
   there is one. */
void emit_exit(struct tr *t, u64 rip, int cc)
{
    struct emit *e = &t->e;
    struct way_out *c = new_way_out(t, OUT_EXIT, rip);
    t->t1_slot = -1;
    if (cc < 0) {
        e_align(e, 1);
        e1(e, 0xe9);
        c->at = e->p;
        e4(e, 0);
    } else {
        e_align(e, 2);
        c->at = e_jcc(e, (unsigned)cc);
    }
    /* A way out that is written behind the blocks serves all exits that lead to the same RIP. */
    const bool in_place = region_has(t->r, rip) && !t->nswaps && !ctx_changed(t);
    for (unsigned k = 0; k + 1 < t->nout && !in_place; k++)
        if (t->out[k].kind == OUT_EXIT && t->out[k].rip == rip && t->out[k].ctx == t->s.ctx && t->out[k].same < 0) {
            c->same = (s16)k;
            return;
        }
    if (ctx_changed(t))
        return;
    struct link *l = new_link(t, rip, &c->link);
    if (in_place)
        l->jump = place(t, c->at);
}

static void write_exit_link(struct tr *t, const struct way_out *c)
{
    struct emit *e = &t->e;
    const struct jit_site s = { .trans = trans_number(t), .insn = (u16)c->link };
    emit_rip(t, T0, c->rip);
    e_call_rel(e, t->j->exit_link);
    for (unsigned k = 0; k < 5; k++) /* so many bytes as the jump behind other calls has (jit_site_at) */
        e1(e, 0xcc);
    emit_site(e, &s, SITE_SHORT);
}

void write_way_out(struct tr *t, struct way_out *c)
{
    struct emit *e = &t->e;
    if (c->same >= 0) {
        e_fix(e, c->at, t->out[c->same].code);
        return;
    }
    c->code = here(e);
    if (c->kind == OUT_FROM) {
        const u32 at = place(t, e->p);
        for (unsigned k = 0; k < 4 && !emit_full(e); k++)
            c->at[k] = (u8)(at >> 8 * k);
        const struct jit_site s = { .trans = trans_number(t), .insn = c->insn };
        emit_site(e, &s, SITE_SHORT);
        return;
    }
    if (c->at)
        e_fix(e, c->at, here(e));
    if (c->kind == OUT_POLL) {
        if (c->restore_rcx)
            e_mov(e, RCX, T1);
        if (!c->at_entry)
            emit_give(t);
        emit_rip(t, T0, c->rip);
        e_jmp(e, t->j->miss);
        return;
    }
    if (c->kind == OUT_EXIT)
        emit_give(t);
    if (c->link < 0) {
        emit_rip(t, T0, c->rip);
        e_jmp(e, t->j->lookup_reset[c->ctx]);
        return;
    }
    struct link *l = &t->link[c->link];
    if (c->kind == OUT_EXIT && !region_has(t->r, c->rip)) {
        u8 *yes = emit_mapping_check(t, l);
        l->unlinked = place(t, e->p);
        e_mov(e, RCX, T0);
        write_exit_link(t, c);
        yes[-1] = (u8)(e->p - yes);
        e_mov(e, RCX, T0);
        e_align(e, 1);
        e1(e, 0xe9);
        l->jump = place(t, e->p);
        e4(e, 0);
        e_fix(e, t->j->rw + l->jump, (u64)(t->j->rx + l->unlinked));
        return;
    } else if (c->kind == OUT_EXIT && t->nswaps) {
        e_align(e, 1);
        e1(e, 0xe9);
        l->jump = place(t, e->p);
        e4(e, 0);
        l->unlinked = place(t, e->p);
    } else {
        l->unlinked = place(t, e->p);
    }
    write_exit_link(t, c);
}

/* Looks for requests. There is a poll where the region is entered and one in each loop, which bounds how long an interrupt
   waits. */
void emit_poll(struct tr *t, u64 rip, bool flags, bool at_entry)
{
    struct emit *e = &t->e;
    struct way_out *c = new_way_out(t, OUT_POLL, rip);
    c->at_entry = at_entry;
    if (flags) {
        e_mov(e, T1, RCX);
        e_gs(e, 0x8b, RCX, OFF(poll), 4);
        e1(e, 0xe3), e1(e, 5); /* jrcxz */
        e1(e, 0xe9), c->at = e->p, e4(e, 0);
        c->restore_rcx = true;
        e_mov(e, RCX, T1);
        t->t1_slot = -1;
    } else {
        e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(poll)), e1(e, 0); /* cmp gs:[poll], 0 */
        c->at = e_jcc(e, CC_NE);
    }
}

/* Notes which instruction jumps to the address in T0, because it is that instruction that faults if the address is not
   valid. */
void emit_from(struct tr *t)
{
    struct emit *e = &t->e;
    struct way_out *c = new_way_out(t, OUT_FROM, 0);
    c->insn = (u16)tinsn_now(t);
    e1(e, 0x65), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(tr.from)); /* mov dword gs:[], place */
    c->at = e->p;
    e4(e, 0);
}

/* Writes the check at the entry of an instruction that reaches into a second page: leaves if that page is not mapped as it
   was. */
void emit_page2_check(struct tr *t, u64 rip)
{
    struct emit *e = &t->e;
    struct way_out *c = new_way_out(t, OUT_POLL, rip);
    c->at_entry = true;
    e_mov(e, T0, RCX);
    emit_mapped(t, t->t->page_id2);
    e1(e, 0xe3), e1(e, 8); /* jrcxz */
    e_mov(e, RCX, T0);
    e1(e, 0xe9), c->at = e->p, e4(e, 0);
    e_mov(e, RCX, T0);
}
