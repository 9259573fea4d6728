/* SPDX-License-Identifier: Apache-2.0 */
/*
 * versions.c - writes the blocks of a region, each for what is known where it is entered.
 *
 * A block is written once for each set of probes that are known to hold at its entry (struct state), but at most VERSIONS
 * times. So the second round of a loop need not make the probes that the first round has made.
 */
#include "engine/soft/translate/internal.h"

/* True if state s promises all that `wanted` relies on. */
static bool implies(const struct state *s, const struct state *wanted)
{
    if (s->ctx != wanted->ctx)
        return false;
    for (unsigned k = 0; k < wanted->n; k++) {
        const struct group *w = &wanted->g[k];
        bool have = false;
        for (unsigned n = 0; n < s->n && !have; n++) {
            const struct group *g = &s->g[n];
            have = g->slot == w->slot && same_registers(g, w) && (is_constant(w) || (g->lo <= w->lo && g->hi >= w->hi)) &&
                   g->write >= w->write;
        }
        if (!have)
            return false;
    }
    return true;
}

/* True if there is no more room for several versions. */
static bool crowded(const struct tr *t)
{
    return t->ntinsn > TINSNS - REGION_INSNS || t->e.p - t->t->entry > JIT_REGION_MAX / 4;
}

/* Returns the version of block b to go to from here. If none fits well, there will be a new one. */
unsigned choose_version(struct tr *t, unsigned b)
{
    struct version *v = t->version[b];
    unsigned best = VERSIONS;
    for (unsigned k = 0; k < t->nversions[b]; k++)
        if (implies(&t->s, &v[k].s) && (best == VERSIONS || v[k].s.n > v[best].s.n))
            best = k;
    const bool header = t->r->block[b].header;
    if (best < VERSIONS && (!header || t->nversions[b] >= 2 || v[best].s.n >= t->s.n))
        return best;
    if (t->nversions[b] == VERSIONS || crowded(t)) {
        if (best < VERSIONS)
            return best;
        if (t->nversions[b] == VERSIONS) { /* this cannot happen, because the last version relies on nothing */
            fail(t);
            return 0;
        }
    }
    const unsigned k = t->nversions[b]++;
    v[k].s = t->s;
    if (k == VERSIONS - 1 || crowded(t))
        v[k].s.n = 0;
    v[k].code = 0;
    t->todo[t->ntodo].block = (u8)b;
    t->todo[t->ntodo++].version = (u8)k;
    return k;
}

static void jump_to(struct tr *t, unsigned b, unsigned k, int cc)
{
    struct emit *e = &t->e;
    u8 *at;
    if (cc < 0) {
        e1(e, 0xe9);
        at = e->p;
        e4(e, 0);
    } else {
        at = e_jcc(e, (unsigned)cc);
    }
    if (t->version[b][k].code) {
        e_fix(e, at, t->version[b][k].code);
        return;
    }
    if (t->nfixup == ARRAY_SIZE(t->fixup)) {
        fail(t);
        return;
    }
    t->fixup[t->nfixup++] = (struct fixup){ at, (u8)b, (u8)k };
}

/* Goes to block b if it is in the region, else out. True: the caller must write version *k of b here, so no jump is
   needed. */
static bool flow_to(struct tr *t, s16 b, u64 rip, unsigned *k)
{
    if (b < 0) {
        emit_exit(t, rip, -1);
        return false;
    }
    *k = choose_version(t, (unsigned)b);
    if (t->failed)
        return false;
    if (t->version[b][*k].code) {
        jump_to(t, (unsigned)b, *k, -1);
        return false;
    }
    return true;
}

/* Writes the instructions of block q, one by one. Returns the last one; NULL: it failed. */
static const struct rinsn *write_insns(struct tr *t, const struct rblock *q)
{
    struct emit *e = &t->e;
    const struct region *r = t->r;
    const struct rinsn *i = NULL;
    for (unsigned n = 0; n < q->n; n++) {
        t->pos = q->first + n;
        i = &r->insn[r->order[t->pos]];
        if (t->ntinsn == TINSNS || emit_full(e) || e->p - t->t->entry > JIT_REGION_MAX / 2) {
            fail(t);
            return NULL;
        }
        struct tinsn *x = &t->tinsn[t->ntinsn++];
        *x = (struct tinsn){ (u16)(e->p - t->t->entry), i->off, i->d.len, false };
        copy_bytes(t->bytes + t->nbytes, i->d.bytes, i->d.len);
        t->nbytes += i->d.len;
        if (!live(t, t->pos))
            t->flags_away = false;
        else if (!leaves_flags(i))
            have_flags(t, T0);
        probe_ahead(t);
        translate_one(t, i);
        if (t->failed)
            return NULL;
        x->flags_away = t->flags_away;
        carry_state(t, i);
    }
    return i;
}

/* Writes LOOP and the like, and JRCXZ. The host's JRCXZ does not reach far. So the jump that is taken is written right
   behind it, and what is not taken goes on behind that. */
static void write_loop(struct tr *t, const struct rblock *q, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const unsigned op = i->d.opcode;
    const bool cx = i->d.asize == 2; /* no host jump tests CX alone, so RCX becomes CX and is restored from T1 */
    u8 *over, *over2 = NULL;
    if (op != 0xe3)
        e_rm(e, 0x8d, RCX, RCX, NONE, 0, -1, i->d.asize);
    if (cx) {
        e_mov(e, T1, RCX);
        t->t1_slot = -1;
        e_rr(e, 0x0fb7, RCX, RCX, 4);
    }
    if (i->d.asize == 4)
        e1(e, 0x67);
    if (op == 0xe3)
        e1(e, 0xe3), e1(e, 2), e1(e, 0xeb), e1(e, 0), over = e->p;
    else
        e1(e, 0xe3), e1(e, 0), over = e->p;
    if (cx)
        e_mov(e, RCX, T1);
    if (op == 0xe0 || op == 0xe1) /* LOOPNE, LOOPE */
        e1(e, op == 0xe0 ? 0x74 : 0x75), e1(e, 0), over2 = e->p;
    const struct state keep = t->s;
    if (q->taken < 0)
        emit_exit(t, region_target(t->r, i), -1);
    else
        jump_to(t, (unsigned)q->taken, choose_version(t, (unsigned)q->taken), -1);
    t->s = keep;
    over[-1] = (u8)(e->p - over);
    if (over2)
        over2[-1] = (u8)(e->p - over2);
    if (cx)
        e_mov(e, RCX, T1);
}

/* Writes what follows i, the last instruction of block q. Returns the block to write next, in version *to; -1: none. */
static s16 write_end(struct tr *t, const struct rblock *q, const struct rinsn *i, unsigned *to)
{
    const struct region *r = t->r;
    const u64 next = region_to(r, region_rip(r, i->off) + i->d.len), jump = region_target(r, i);
    switch (i->how) {
    case HOW_STOP: /* for the case that it goes on to the next instruction after all */
        emit_exit(t, next, -1);
        return -1;
    case HOW_JMP_IND:
    case HOW_RET:
        return -1;
    case HOW_JMP:
        return flow_to(t, q->taken, jump, to) ? q->taken : -1;
    case HOW_LOOP:
        write_loop(t, q, i);
        break;
    case HOW_JCC:
        if (q->taken < 0)
            emit_exit(t, jump, i->d.opcode & 15);
        else
            jump_to(t, (unsigned)q->taken, choose_version(t, (unsigned)q->taken), i->d.opcode & 15);
        if (t->failed)
            return -1;
        break;
    case HOW_CALL:
    case HOW_CALL_IND:
        if (ctx_changed(t)) {
            emit_exit(t, next, -1);
            return -1;
        }
        emit_landing(t, next);
        break;
    }
    return flow_to(t, q->next, next, to) ? q->next : -1;
}

/* Writes version k of block b, and goes on with what follows while that is not written yet. */
void write_block(struct tr *t, unsigned b, unsigned k)
{
    const struct region *r = t->r;
    for (;;) {
        const struct rblock *q = &r->block[b];
        if (t->version[b][k].code || t->failed)
            return;
        t->version[b][k].code = here(&t->e);
        t->s = t->version[b][k].s;
        t->flags_away = false;
        t->t1_slot = -1;
        t->block = b;
        if (q->header)
            emit_poll(t, region_rip(r, q->off), live(t, q->first), false);
        count_block(t, q->n);
        const struct rinsn *i = write_insns(t, q);
        if (!i)
            return;
        if (q->live_out)
            have_flags(t, T0);
        const s16 on = write_end(t, q, i, &k);
        if (on < 0)
            return;
        b = (unsigned)on;
    }
}
