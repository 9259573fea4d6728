/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe_group.c - one probe serves all accesses that use the same base registers and lie near each other. This file says
 * which accesses a probe serves (struct group), which instructions keep it true, and how far ahead it is worth looking.
 */
#include "engine/soft/translate/internal.h"

enum {
    /* A probe serves at most SPAN_MAX bytes. The wider it is, the likelier it reaches over the end of a page, which costs as
       much as 50 probes. So in a region without loops it serves at most SPAN_FIRST bytes, and SPAN_EACH more for each access
       that it serves already. */
    SPAN_MAX = 512,
    SPAN_FIRST = 64, SPAN_EACH = 64,
    LOOKAHEAD = 40, /* instructions */
};

/* ---- which instructions keep a group true ---- */

/* True if i adds a constant to register g, and does nothing else to it. */
static bool adjusts(const struct rinsn *i, unsigned g, s32 *by)
{
    const struct decoded *d = &i->d;
    const s32 word = d->bits == 64 ? 8 : 4;
    switch (i->how) {
    case HOW_PUSH:
    case HOW_PUSH_MEM:
    case HOW_PUSHF:
        *by = -word;
        return g == RSP;
    case HOW_POP:
        *by = word;
        return g == RSP && (d->opcode == 0x8f ? d->rm : d->reg) != RSP;
    case HOW_POPF:
        *by = 8;
        return g == RSP;
    case HOW_LEA:
        *by = (s32)d->disp;
        return d->reg == g && d->base == g && d->index == 0xff && d->osize == word && d->asize == word;
    case HOW_KEEP:
        if (d->has_mem || d->osize != word || d->map != 0 || (d->rm & 15) != g || !d->has_modrm)
            return false;
        if ((d->opcode == 0x81 || d->opcode == 0x83) && fits32(d->imm)) {
            const unsigned op = d->modrm >> 3 & 7;
            *by = op == 5 ? -(s32)d->imm : (s32)d->imm;
            return (op == 0 || op == 5) && (s32)d->imm != (s32)0x80000000;
        }
        if (d->opcode == 0xff && (d->modrm >> 3 & 7) < 2) {
            *by = (d->modrm >> 3 & 7) ? -1 : 1;
            return true;
        }
    }
    return false;
}

/* True if i, which writes the registers w, changes register g of a group. *by is what it adds to it; *lost: that is not
   known. */
static bool moves(const struct rinsn *i, u32 w, unsigned g, s32 *by, bool *lost)
{
    *by = 0;
    if (g == 0xff || !(w >> g & 1))
        return false;
    if (!adjusts(i, g, by))
        *lost = true;
    return true;
}

/* Carries a range, which is relative to the group's registers, over instruction i. False: it is lost. */
bool carry_group(const struct group *key, const struct rinsn *i, s32 *lo, s32 *hi)
{
    if (is_constant(key))
        return true;
    if (key->seg != SEG_FLAT)
        return i->how != HOW_SWAPGS && i->how != HOW_FALLBACK;
    const u32 w = written_or_stack(i);
    bool lost = false;
    s32 by, by2;
    const bool b = moves(i, w, key->base, &by, &lost), x = moves(i, w, key->index, &by2, &lost);
    if (x || lost)
        return !x && !lost;
    if (b) {
        const s64 l = (s64)*lo - by, h = (s64)*hi - by;
        if (l < -0x40000000 || h > 0x40000000)
            return false;
        *lo = (s32)l, *hi = (s32)h;
    }
    return true;
}

static void drop_group(struct state *s, unsigned k)
{
    s->g[k] = s->g[--s->n];
}

/* Drops the groups that do not hold after i, and changes the ranges of the others. */
void carry_state(struct tr *t, const struct rinsn *i)
{
    struct state *s = &t->s;
    if ((i->how == HOW_FALLBACK && i->d.desc->cls == OPC_SYSTEM) || i->how == HOW_STAC || i->how == HOW_CLAC)
        s->n = 0; /* mappings or rights may have changed */
    for (unsigned k = s->n; k-- > 0;)
        if (!carry_group(&s->g[k], i, &s->g[k].lo, &s->g[k].hi))
            drop_group(s, k);
}

/* ---- which accesses it serves ---- */

bool access_of(const struct region *r, const struct rinsn *i, struct access_at *a)
{
    const struct decoded *d = &i->d;
    const s32 word = d->bits == 64 ? 8 : 4;
    struct address m;
    a->key = (struct group){ .base = 0xff, .index = 0xff, .seg = SEG_FLAT };
    if (r->segmented) /* each access is compared with a limit */
        return false;
    switch (i->how) {
    case HOW_PUSH:
    case HOW_PUSHF:
    case HOW_CALL:
        a->key.base = RSP;
        a->key.write = true;
        a->lo = -word, a->hi = 0;
        return true;
    case HOW_CALL_IND:
        if (d->has_mem)
            return false; /* it has two accesses, and each has its own probe */
        a->key.base = RSP;
        a->key.write = true;
        a->lo = -word, a->hi = 0;
        return true;
    case HOW_POP:
    case HOW_POPF:
    case HOW_RET:
        a->key.base = RSP;
        a->lo = 0, a->hi = word;
        return true;
    case HOW_LEAVE:
        a->key.base = RBP;
        a->lo = 0, a->hi = word;
        return true;
    case HOW_KEEP:
    case HOW_X87:
    case HOW_JMP_IND:
        break;
    default:
        return false;
    }
    const unsigned size = i->how == HOW_JMP_IND ? (unsigned)word : memory_size(d);
    if (!d->has_mem || !size || !address_of(r, i, &m) || m.asize != word || (m.seg >= FS && word == 4))
        return false;
    if (m.seg >= FS) {
        if (!m.constant || m.reloc)
            return false;
        a->key.seg = m.seg;
        if (!fits32(m.value) || (s32)m.value > 0x7fffff00)
            return false;
        a->lo = (s32)m.value;
    } else if (m.constant) {
        a->key.reloc = m.reloc;
        a->key.page = m.value & ~0xfffull;
        a->lo = (s32)(m.value & 0xfff);
        if (a->lo + size > 4096)
            return false;
    } else {
        if (m.disp > 0x7fffff00 || m.disp < -0x7fffff00)
            return false;
        a->key.base = m.base;
        a->key.index = m.index;
        a->key.scale = m.index == 0xff ? 0 : m.scale;
        a->lo = (s32)m.disp;
    }
    a->hi = a->lo + (s32)size;
    a->key.write = d->desc->flags & OPF_MEM_WRITE;
    return true;
}

bool same_registers(const struct group *a, const struct group *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg && a->page == b->page &&
           a->reloc == b->reloc;
}

/* The group that serves a, or NULL. */
struct group *find_group(struct state *s, const struct access_at *a)
{
    for (unsigned k = 0; k < s->n; k++) {
        struct group *g = &s->g[k];
        if (same_registers(g, &a->key) && (is_constant(g) || (a->lo >= g->lo && a->hi <= g->hi)) && g->write >= a->key.write)
            return g;
    }
    return NULL;
}

/* Finds the range that a probe for a should serve if it is made before instruction pos of the block: what the instructions
   from there on access. *lo and *hi are relative to the registers at pos. Returns how many accesses it serves. */
unsigned look_ahead(const struct tr *t, unsigned block, unsigned pos, const struct access_at *a, s32 *lo, s32 *hi,
                    bool *write)
{
    const struct region *r = t->r;
    const struct rblock *b = &r->block[block];
    unsigned n = 0;
    s32 shift_lo = 0, shift_hi = 0; /* 0 less what was added to the registers between pos and the present instruction */
    unsigned blocks = 0;
    for (unsigned steps = 0; steps < LOOKAHEAD; steps++, pos++) {
        while (pos == b->first + b->n) {
            if (b->next < 0 || blocks++ == 2)
                return n;
            const unsigned last = r->insn[r->order[pos - 1]].how;
            if (last == HOW_CALL || last == HOW_CALL_IND)
                return n;
            b = &r->block[b->next];
            pos = b->first;
        }
        const struct rinsn *i = &r->insn[r->order[pos]];
        struct access_at x;
        if (access_of(r, i, &x) && same_registers(&x.key, &a->key)) {
            /* relative to the registers at the first pos: the displacement here + what was added since */
            const s64 l = MIN((s64)*lo, (s64)x.lo - shift_lo), h = MAX((s64)*hi, (s64)x.hi - shift_lo);
            if (is_constant(&a->key) || h - l <= (t->loops ? SPAN_MAX : MIN(SPAN_MAX, SPAN_FIRST + SPAN_EACH * (s64)n))) {
                *lo = (s32)l, *hi = (s32)h;
                *write |= x.key.write;
                n++;
            }
        }
        if (i->how == HOW_FALLBACK && i->d.desc->cls == OPC_SYSTEM)
            return n;
        if (!carry_group(&a->key, i, &shift_lo, &shift_hi))
            return n;
    }
    return n;
}

/* ---- what is written ---- */

static void emit_load_slot(struct tr *t, unsigned slot)
{
    if (t->t1_slot == (s8)slot)
        return;
    e_gs(&t->e, 0x8b, T1, slot == SLOT_STACK ? OFF(tr.stack_page[0].host) + 16u * t->s.ctx : OFF(tr.slot) + 8 * slot, 8);
    t->t1_slot = (s8)slot;
}

/* Is it looked for in tr.stack_page? That is one page, which calls and returns seldom leave. */
static bool on_stack(const struct tr *t, const struct group *g)
{
    return !t->watched && g->base == RSP && g->index == 0xff && g->seg == SEG_FLAT && g->lo > -0x80000 && g->hi < 0x80000;
}

/* The probe of such a group, at m. */
static struct slow *emit_stack_probe(struct tr *t, const struct group *g, const struct address *m, bool saved)
{
    struct emit *e = &t->e;
    t->probes++;
    emit_ea(t, m);
    e_gs(e, 0x33, T0, OFF(tr.stack_page[0].page) + 16u * t->s.ctx, 8);
    e_cmp_t0(e, 4096 - (u32)(g->hi - g->lo));
    struct slow *s = new_slow(t, CC_A, saved);
    s->stack = true;
    s->ctx = t->s.ctx;
    s->found = here(e);
    t->t1_slot = -1;
    return s;
}

/* Writes, at the present place, a probe for the group of a before instruction pos. The flags are used up. */
struct slow *make_group(struct tr *t, unsigned block, unsigned pos, const struct access_at *a, bool saved, u64 back)
{
    struct emit *e = &t->e;
    struct state *s = &t->s;
    struct group g = a->key;
    g.lo = a->lo, g.hi = a->hi;
    look_ahead(t, block, pos, a, &g.lo, &g.hi, &g.write);
    const bool stack = on_stack(t, &g);
    g.write |= stack;
    /* Drops groups that this one replaces. */
    for (unsigned k = s->n; k-- > 0;)
        if (same_registers(&s->g[k], &g) && s->g[k].lo >= g.lo && s->g[k].hi <= g.hi && s->g[k].write <= g.write)
            drop_group(s, k);
    g.slot = stack ? SLOT_STACK : t->next_slot;
    if (!stack)
        t->next_slot = (u8)((t->next_slot + 1) % GROUPS);
    for (unsigned k = s->n; k-- > 0;)
        if (s->g[k].slot == g.slot)
            drop_group(s, k);
    struct address m = { g.base, g.index, g.scale, g.seg == SEG_FLAT ? DS : g.seg, t->w, g.lo, false, 0, false };
    if (is_constant(&g)) {
        m.constant = true;
        m.value = g.page + (u64)g.lo;
        m.reloc = g.reloc;
    } else if (g.seg != SEG_FLAT) {
        m.constant = true;
        m.value = (u64)(s64)g.lo;
    }
    struct slow *w = stack ? emit_stack_probe(t, &g, &m, saved) : emit_probe(t, &m, (unsigned)(g.hi - g.lo), g.write, saved, NULL);
    w->group = true;
    w->g = g;
    w->back = back;
    if (stack) {
        s->g[s->n++] = g;
        return w;
    }
    if (is_constant(&g)) { /* T1 = where the host has the page */
        if (fits32(g.page) && !g.reloc) {
            e_lea(e, T1, T1, NONE, 0, (s32)g.page);
        } else {
            emit_place(t, T0, g.page, g.reloc);
            e_lea(e, T1, T1, T0, 0, 0);
        }
    }
    e_gs(e, 0x89, T1, OFF(tr.slot) + 8 * g.slot, 8);
    t->t1_slot = (s8)g.slot;
    s->g[s->n++] = g;
    return w;
}

/* Makes the operand of an access that a group serves. */
void use_group(struct tr *t, const struct group *g, const struct access_at *a, struct operand *o)
{
    struct emit *e = &t->e;
    if (is_constant(g)) {
        emit_load_slot(t, g->slot);
        *o = (struct operand){ T1, NONE, T0, a->lo };
        return;
    }
    if (g->seg != SEG_FLAT) {
        emit_load_slot(t, g->slot);
        e_gs(e, 0x8b, T0, OFF(segbase) + 8u * (g->seg == FS ? ISEG_FS : ISEG_GS), 8);
        *o = (struct operand){ T0, T1, NONE, a->lo };
        return;
    }
    const u8 hb = g->base == 0xff ? NONE : host_of[g->base], hi = g->index == 0xff ? NONE : host_of[g->index];
    if (hb != IN_MEMORY && hi != IN_MEMORY && t->w == 8) {
        emit_load_slot(t, g->slot);
        operand_by(t, hb, hi, g->scale, a->lo, o);
        return;
    }
    const struct address m = { g->base, g->index, g->scale, DS, t->w, a->lo, false, 0, false };
    emit_ea(t, &m);
    emit_load_slot(t, g->slot);
    *o = (struct operand){ T0, T1, NONE, 0 };
}
