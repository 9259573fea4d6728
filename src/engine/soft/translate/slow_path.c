/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slow_path.c - leaves to the interpreter's handler what the fast path does not cover: in line for an instruction that is
 * not translated, and behind the region for an access whose probe fails.
 */
#include "engine/soft/translate/internal.h"

void emit_site(struct emit *e, const struct jit_site *s, unsigned size)
{
    const u8 *b = (const u8 *)s;
    e_data(e, size);
    for (unsigned k = 0; k < size; k++)
        e1(e, b[k]);
}

/* Calls the interpreter's handler in line, and goes on behind the call. */
void emit_fallback(struct tr *t)
{
    struct emit *e = &t->e;
    const struct jit_site s = { .trans = trans_number(t), .insn = (u16)tinsn_now(t) };
    if (t->flags_away) {
        emit_restore_flags(e);
        t->flags_away = false;
    }
    emit_give(t);
    e_call_rel(e, t->j->fallback);
    e_jmp(e, here(e) + 5 + SITE_SHORT);
    emit_site(e, &s, SITE_SHORT);
    emit_take(t);
    t->t1_slot = -1;
}

struct slow *new_slow(struct tr *t, unsigned cc, bool flags_saved)
{
    if (t->nslow == SLOW_MAX) {
        fail(t);
        return &t->slow[0]; /* the translation is thrown away, since it failed */
    }
    struct slow *s = &t->slow[t->nslow++];
    s->at = e_jcc(&t->e, cc);
    s->flags_saved = flags_saved;
    s->insn = (u16)tinsn_now(t);
    s->flags_away = false;
    s->group = s->stack = s->constant = false;
    s->back = 0;
    s->watched = 0;
    s->beyond = NULL;
    return s;
}

/* To be called when the branch of a probe has just been written. If it is for a store, and tr.watched, the slow path first
   asks whether the store may be made beside decoded code. */
struct slow *ask_watched(struct tr *t, struct slow *s, unsigned span, bool write)
{
    if (write && t->watched) {
        s->watched = (u16)span;
        s->ctx = t->s.ctx;
        s->found = here(&t->e);
    }
    return s;
}

void write_slow(struct tr *t, const struct slow *s)
{
    struct emit *e = &t->e;
    e_fix(e, s->at, here(e));
    if (s->watched) {
        if (s->constant) { /* T0 and T1 get what the other probes leave in them */
            const u32 slot = (u32)((s->lin >> 12) & (TLB_SIZE - 1)) * (u32)sizeof(struct tlb_entry);
            e_mov_imm(e, T1, slot);
            e_mov_imm(e, T0, s->lin);
            e_gs_r11(e, 0x33, T0, OFF(tlbs) + s->ctx * (u32)sizeof t->v->tlbs[0] + (u32)offsetof(struct tlb_entry, write));
        }
        e_gs_imm(e, OFF(tr.span), s->watched);
        e_call_rel(e, t->j->watched[s->ctx]);
        e_fix(e, e_jcc(e, CC_AE), s->found);
    }
    if (s->beyond)
        e_fix(e, s->beyond, here(e));
    if (s->stack) {
        e_call_rel(e, t->j->stack[s->ctx]);
        e_cmp_t0(e, 4096 - (u32)(s->g.hi - s->g.lo));
        e_fix(e, e_jcc(e, CC_BE), s->found);
    }
    if (s->flags_saved)
        emit_restore_flags(e);
    emit_give(t);
    struct jit_site x = { .trans = trans_number(t), .insn = s->insn };
    if (s->group) {
        x.base = s->g.base;
        x.index = s->g.index;
        x.scale = s->g.scale;
        x.seg = s->g.seg == FS ? ISEG_FS : s->g.seg == GS ? ISEG_GS : 0;
        x.write = s->g.write;
        x.lo = s->g.lo;
        x.span = (u16)(s->g.hi - s->g.lo);
        x.reloc = s->g.reloc;
        x.stack = s->stack;
        x.constant = is_constant(&s->g) ? s->g.page + (u64)s->g.lo : (u64)(s64)s->g.lo;
    }
    const unsigned size = s->group ? sizeof x : SITE_SHORT;
    e_call_rel(e, s->group ? t->j->refill : t->j->fallback);
    const bool direct = !t->nswaps && !s->flags_away;
    e_jmp(e, direct ? s->back : here(e) + 5 + size);
    emit_site(e, &x, size);
    if (direct)
        return;
    emit_take(t);
    if (s->flags_away)
        emit_save_flags(e);
    e_jmp(e, s->back);
}
