/* SPDX-License-Identifier: Apache-2.0 */
/*
 * access.c - how an instruction gets at its memory operand: by a group that holds already, by one that is made now, or by a
 * probe of its own. It also knows where the guest's flags are meanwhile.
 */
#include "engine/soft/translate/internal.h"

/* True if the instruction, as it is translated, neither reads arithmetic flags nor writes any. */
bool leaves_flags(const struct rinsn *i)
{
    switch (i->how) {
    case HOW_KEEP:
    case HOW_STRING:
    case HOW_X87: return !((i->d.desc->eflags_read | i->d.desc->eflags_write) & RFLAGS_ARITH);
    case HOW_NOP:
    case HOW_LEA:
    case HOW_SEG_STORE:
    case HOW_PUSH:
    case HOW_POP:
    case HOW_LEAVE: return true;
    /* these restore the flags before they leave */
    case HOW_CALL:
    case HOW_RET:
    case HOW_JMP_IND: return true;
    case HOW_CALL_IND: return !i->d.has_mem;
    }
    return false;
}

/* Makes the host's flags the guest's again, if they are not. scratch is used up. */
void have_flags(struct tr *t, unsigned scratch)
{
    if (!t->flags_away)
        return;
    emit_restore_flags_by(&t->e, scratch);
    t->flags_away = false;
    if (scratch == T1)
        t->t1_slot = -1;
}

/* Finds the operand of the present instruction's access, whose address is m: by a group, by one that is made now, or by a
   probe of its own. *restore: the caller must write emit_restore_flags behind the probe. Returns the slow path if the access
   has one of its own. It comes back behind what is written before end_access(). */
struct slow *begin_access(struct tr *t, const struct address *m, unsigned size, bool write, struct operand *o,
                          bool *restore)
{
    struct emit *e = &t->e;
    const struct rinsn *i = &t->r->insn[t->r->order[t->pos]];
    struct access_at a;
    *restore = false;
    const bool known = !t->r->careful && access_of(t->r, i, &a);
    t->accesses++;
    if (known) {
        const struct group *g = find_group(&t->s, &a);
        if (g) {
            use_group(t, g, &a, o);
            check(t, o, size, write);
            return NULL;
        }
    }
    const u64 back = here(e);
    const bool was_away = t->flags_away, saved = live(t, t->pos), lazy = saved && leaves_flags(i);
    if (saved && !was_away)
        emit_save_flags_by(e, T0);
    if (lazy)
        t->flags_away = true;
    if (known) {
        s32 lo = a.lo, hi = a.hi;
        bool w = a.key.write;
        const unsigned n = look_ahead(t, t->block, t->pos, &a, &lo, &hi, &w);
        /* the probe is worth keeping for another access, or for the next round of a loop */
        if (n >= 2 || a.key.base == RSP ||
            (t->loops && a.key.index == 0xff && a.key.seg == SEG_FLAT && !(a.key.base != 0xff && t->moved >> a.key.base & 1))) {
            struct slow *s = make_group(t, t->block, t->pos, &a, saved, back);
            s->flags_away = was_away;
            if (saved && !lazy)
                emit_restore_flags(e);
            use_group(t, &t->s.g[t->s.n - 1], &a, o);
            check(t, o, size, write);
            return NULL;
        }
    }
    struct slow *s = emit_probe(t, m, size, write, saved, o);
    check(t, o, size, write);
    s->flags_away = lazy;
    *restore = saved && !lazy;
    return s;
}

void end_access(struct tr *t, struct slow *s)
{
    if (s) {
        s->back = here(&t->e);
        t->t1_slot = -1;
    }
}

/* Called before each instruction. If it sets flags that are still needed at the accesses that follow, makes the probes for
   these now, when no flags need to be saved. */
void probe_ahead(struct tr *t)
{
    const struct region *r = t->r;
    const struct rblock *b = &r->block[t->block];
    const unsigned end = b->first + b->n;
    unsigned pos = t->pos;
    if (r->careful || live(t, pos) || pos + 1 >= end || !live(t, pos + 1))
        return;
    for (pos++; pos < end && live(t, pos) && pos < t->pos + 16; pos++) {
        struct access_at a;
        if (!access_of(r, &r->insn[r->order[pos]], &a))
            continue;
        /* its range, as it is relative to the registers here */
        s32 lo = 0, hi = 0;
        bool known = true;
        for (unsigned k = t->pos; k < pos && known; k++)
            known = carry_group(&a.key, &r->insn[r->order[k]], &lo, &hi) &&
                    !(r->insn[r->order[k]].how == HOW_FALLBACK && r->insn[r->order[k]].d.desc->cls == OPC_SYSTEM) &&
                    r->insn[r->order[k]].how != HOW_STAC && r->insn[r->order[k]].how != HOW_CLAC;
        if (!known)
            continue;
        a.lo -= lo, a.hi -= lo;
        if (find_group(&t->s, &a))
            continue;
        make_group(t, t->block, t->pos, &a, false, here(&t->e));
    }
}

/* Changes the operand so that it leaves a scratch register free. */
void settle_operand(struct tr *t, struct operand *o)
{
    if (o->free != NONE)
        return;
    e_lea(&t->e, T0, o->base, o->index, o->scale, o->disp);
    *o = (struct operand){ T0, NONE, T1, 0, 0 };
    t->t1_slot = -1;
}

/* T0 = the size bytes at o. size is 2, 4 or 8. */
void emit_load_zx(struct tr *t, const struct operand *o, unsigned size)
{
    struct emit *e = &t->e;
    if (size == 2) { /* movzx r10d, word */
        e1(e, 0x44 | (o->index != NONE && o->index >> 3) << 1 | o->base >> 3), e1(e, 0x0f), e1(e, 0xb7);
        e_mem(e, T0, o->base, o->index, o->scale, o->disp);
    } else {
        e_rm(e, 0x8b, T0, o->base, o->index, o->scale, o->disp, size);
    }
}
