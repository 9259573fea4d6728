/* SPDX-License-Identifier: Apache-2.0 */
/*
 * translate.c - from a region of guest instructions to host code; translate.h has the conventions.
 *
 * A block is written once for each set of probes that are known to hold where it is entered (struct state), up to
 * VERSIONS: so the second round of a loop finds done what the first had to do.
 */
#include "engine/soft/translate/translate.h"

#include "engine/soft/native.h"

enum {
    VERSIONS = 3,
    GROUPS = JIT_SLOTS,
    SPAN_MAX = 512, /* bytes one probe may answer for: the wider, the likelier it reaches over a page's end, */
    SPAN_FIRST = 64, SPAN_EACH = 64, /* which costs what 50 probes do: where nothing is repeated, for each access it serves */
    LOOKAHEAD = 40,
    TINSNS = 3 * REGION_INSNS,
    SLOW_MAX = 2 * TINSNS,
    LINKS_MAX = 6 * REGION_BLOCKS,
};

/* ---- what is known at a point ---------------------------------------------- */

enum { SEG_FLAT = 0xff };

/* A probe that holds: lo..hi about the registers (or the constant) lie in one page, and gs:[jit_slot + slot] is what
   to add to reach them in the host. */
struct group {
    u8 base, index, scale; /* guest registers, FF none */
    u8 seg;                /* SEG_FLAT, FS, GS */
    u8 slot;
    bool write;
    s32 lo, hi;  /* from the value of the registers; hi exclusive */
    bool reloc;  /* constant, and jit_delta is to be added */
    u64 page;    /* of constant addresses: both registers FF */
};
struct state {
    u8 n, ctx;
    struct group g[GROUPS];
};
struct version {
    struct state s;
    u64 code; /* 0: not written yet */
};

struct slow {
    u8 *at;        /* rel32 that leads here */
    u64 back;      /* single: after the instruction; group: where the probe begins */
    u16 insn;      /* tinsn */
    bool flags_saved; /* they are to be had back before the interpreter goes on */
    bool flags_away;  /* and where it comes back they are away again */
    bool group;
    struct group g;
    u16 watched;      /* a probe for stores of so many bytes, which may be made beside decoded code; 0: no such */
    u64 found;        /* where that goes on */
    u8 ctx;           /* enum tlb_ctx */
    u64 lin;          /* a constant address, whose probe leaves nothing in T0 and T1 */
    bool constant;
    u8 *beyond;       /* rel32 that leads here, but past that question: beyond the segment's limit; NULL */
};
struct fixup {
    u8 *at;
    u8 block, version;
};
enum { OUT_EXIT, OUT_POLL, OUT_CALL, OUT_FROM };
struct way_out { /* a way out, written behind the blocks */
    int kind; /* OUT_* */
    u8 *at; /* rel32 that leads here; NULL: linked in place only */
    u64 rip;
    s16 same;         /* -1: none; another way out that is this one, too */
    s16 link;         /* -1: by the lookup, in context ctx */
    u8 ctx;
    u16 insn;
    bool restore_rcx; /* the poll that keeps the flags */
    bool at_entry;    /* registers are where they are between regions */
    u64 code;         /* where it was written */
};

struct tr {
    struct emit e;
    struct soft_vcpu *v;
    struct jit *j;
    struct region *r;
    struct trans *t;
    struct state s;   /* here */
    u8 map[16];       /* host register of a guest register, in the region; IN_MEMORY */
    struct { u8 guest, victim; } swap[3]; /* guest lives where victim does elsewhere, and victim in memory */
    unsigned nswaps;
    bool flags_away;  /* the guest's flags are in gs:[jit_flags], the host's mean nothing */
    s8 t1_slot;       /* T1 holds this slot, -1: no */
    u8 next_slot;
    bool failed, loops;
    u32 moved;        /* registers that the region writes */
    u8 w;             /* bytes of an address: 8, 4, 2 */
    u8 sp;            /* of the stack pointer: the same, but where SS.B has it otherwise */
    bool watched;     /* stores to pages with decoded code are made here where their lines have none */
    u8 slot;          /* of what the present instruction pushes or pops: the same, but in 16-bit code its operand size */
    struct emit_counts counts; /* of the block in the making; what it has of them */
    u32 probes, accesses;
    unsigned block, pos; /* the instruction: block, index in region.order */
    struct version version[REGION_BLOCKS][VERSIONS];
    u8 nversions[REGION_BLOCKS];
    struct { u8 block, version; } todo[REGION_BLOCKS * VERSIONS];
    unsigned ntodo, nslow, nfixup, nout, ntinsn, nlink, nbytes;
    struct slow slow[SLOW_MAX];
    struct fixup fixup[4 * REGION_BLOCKS * VERSIONS];
    struct way_out out[LINKS_MAX];
    struct link link[LINKS_MAX];
    struct tinsn tinsn[TINSNS];
    u8 bytes[15 * TINSNS];
};

u64 jit_workspace_size(void)
{
    return sizeof(struct tr);
}

static void fail(struct tr *t)
{
    t->failed = true;
}

/* ---- out of the way ---------------------------------------------------------- */

/* The block written so far has ended; another of some instructions begins. */
static void count_block(struct tr *t, unsigned insns)
{
    emit_counts_end(&t->counts, t->probes, t->accesses);
    t->probes = t->accesses = 0;
    t->counts = t->j->count && insns ? emit_counts(&t->e, insns) : (struct emit_counts){ 0 };
}

#define host_of (t->map)

static unsigned tinsn_now(const struct tr *t)
{
    return t->ntinsn - 1;
}

static void emit_site(struct emit *e, const struct jit_site *s, unsigned size)
{
    const u8 *b = (const u8 *)s;
    e_data(e, size);
    for (unsigned k = 0; k < size; k++)
        e1(e, b[k]);
}
enum { SITE_SHORT = offsetof(struct jit_site, base) };
static u32 trans_number(const struct tr *t)
{
    return (u32)((u64)((u8 *)t->t - t->j->data) / 16);
}

/* Registers to where they are between regions, and back. Keep the flags, and T0 and T1. */
static void emit_give(struct tr *t)
{
    for (unsigned k = 0; k < t->nswaps; k++) {
        const unsigned host = jit_home[t->swap[k].victim];
        e_gs(&t->e, 0x89, host, GPR(t->swap[k].guest), 8);
        e_gs(&t->e, 0x8b, host, GPR(t->swap[k].victim), 8);
    }
}
static void emit_take(struct tr *t)
{
    for (unsigned k = 0; k < t->nswaps; k++) {
        const unsigned host = jit_home[t->swap[k].victim];
        e_gs(&t->e, 0x89, host, GPR(t->swap[k].victim), 8);
        e_gs(&t->e, 0x8b, host, GPR(t->swap[k].guest), 8);
    }
}

/* The interpreter's handler, in line; goes on behind. */
static void emit_fallback(struct tr *t)
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

static struct slow *new_slow(struct tr *t, unsigned cc, bool flags_saved)
{
    static struct slow none;
    if (t->nslow == SLOW_MAX) {
        fail(t);
        return &none;
    }
    struct slow *s = &t->slow[t->nslow++];
    s->at = e_jcc(&t->e, cc);
    s->flags_saved = flags_saved;
    s->insn = (u16)tinsn_now(t);
    s->flags_away = false;
    s->group = s->constant = false;
    s->back = 0;
    s->watched = 0;
    s->beyond = NULL;
    return s;
}

/* The probe's branch has just been written. */
static struct slow *ask_watched(struct tr *t, struct slow *s, unsigned span, bool write)
{
    if (write && t->watched) {
        s->watched = (u16)span;
        s->ctx = t->s.ctx;
        s->found = here(&t->e);
    }
    return s;
}

static bool fits32(u64 x)
{
    return (u64)(s64)(s32)x == x;
}

/* ---- operands ------------------------------------------------------------------ */

struct address { /* guest terms; 0xff none */
    u8 base, index, scale, seg, asize;
    s64 disp;
    bool constant; /* value is the effective address */
    u64 value;
    bool reloc;    /* with jit_delta */
};

/* Where an operand is, once probed: [base + index + disp], and the scratch register that is free (NONE: none). */
struct operand {
    u8 base, index, free;
    s32 disp;
    u8 scale;
};

static bool address_of(const struct region *r, const struct rinsn *i, struct address *a)
{
    const struct decoded *d = &i->d;
    *a = (struct address){ d->base, d->index, d->scale, d->seg, d->asize, d->disp, false, 0, false };
    const bool absolute = d->base == 0xff && d->index == 0xff && !d->rip_relative;
    if ((!fits32((u64)d->disp) && !absolute) || (d->asize == 2 && d->bits == 32))
        return false;
    if (d->rip_relative) {
        a->constant = true;
        a->value = region_rip(r, i->off) + d->len + (u64)d->disp;
        a->reloc = r->reloc;
        if (d->asize == 4) {
            a->value = (u32)a->value;
            return !r->reloc;
        }
    } else if (absolute) {
        a->constant = true;
        a->value = d->asize == 2 ? (u16)d->disp : d->asize == 4 ? (u32)d->disp : (u64)d->disp;
    }
    return true;
}

/* An address known now, but for jit_delta, into a register. */
static void emit_place(struct tr *t, unsigned reg, u64 x, bool reloc)
{
    struct emit *e = &t->e;
    if (!reloc) {
        e_mov_imm(e, reg, x);
        return;
    }
    e_gs(e, 0x8b, reg, OFF(jit_delta), 8);
    const s64 near = MAX(MIN((s64)x, 0x7fffffffll), -0x80000000ll); /* and what is left fits as well */
    e_lea(e, reg, reg, NONE, 0, (s32)near);
    if ((s64)x != near)
        e_lea(e, reg, reg, NONE, 0, (s32)((s64)x - near));
}
static void emit_rip(struct tr *t, unsigned reg, u64 rip)
{
    emit_place(t, reg, rip, t->r->reloc);
}

/* The effective address into T0; T1 may be used up. */
static void emit_ea(struct tr *t, const struct address *a)
{
    struct emit *e = &t->e;
    if (a->constant) {
        emit_place(t, T0, a->value, a->reloc);
        return;
    }
    u8 hb = a->base == 0xff ? NONE : host_of[a->base], hi = NONE;
    if (hb == IN_MEMORY) {
        e_gs(e, 0x8b, T0, GPR(a->base), 8);
        hb = T0;
    }
    if (a->index != 0xff) {
        hi = host_of[a->index];
        if (hi == IN_MEMORY) {
            e_gs(e, 0x8b, T1, GPR(a->index), 8);
            t->t1_slot = -1;
            hi = T1;
        }
    }
    if (hb == NONE) { /* [index * scale + disp32] */
        e1(e, 0x4c | (hi >> 3) << 1), e1(e, 0x8d), e1(e, 0x14), e1(e, a->scale << 6 | (hi & 7) << 3 | 5);
        e4(e, (u32)a->disp);
    } else if (hi == NONE && a->disp == 0) {
        if (hb != T0)
            e_mov(e, T0, hb);
    } else {
        e_lea(e, T0, hb, hi, a->scale, (s32)a->disp);
    }
    if (a->asize == 4)
        e_rr(e, 0x8b, T0, T0, 4);
    else if (a->asize == 2)
        e_rr(e, 0x0fb7, T0, T0, 4);
}

/* The operand at what T1 holds + base + index * 2^scale + disp, any of them NONE. */
static void operand_by(struct tr *t, u8 base, u8 index, u8 scale, s32 disp, struct operand *o)
{
    if (index == NONE) {
        *o = (struct operand){ base, T1, T0, disp, 0 };
        return;
    }
    if (base != NONE) {
        e_lea(&t->e, T1, T1, base, 0, 0);
        t->t1_slot = -1;
    }
    *o = (struct operand){ T1, index, T0, disp, scale };
}

/* A probe of one access. Address, comparison with the TLB's tag, branch to the slow path; the host pointer is in o (NULL:
   T1 is what to add to the address).
   Called with flags that nobody needs (saved, or dead). */
static struct slow *emit_probe(struct tr *t, const struct address *a, unsigned span, bool write, bool saved,
                               struct operand *o)
{
    struct emit *e = &t->e;
    const u32 tlb = OFF(tlbs) + t->s.ctx * (u32)sizeof t->v->tlbs[0];
    const u32 tag = (u32)(write ? offsetof(struct tlb_entry, write) : offsetof(struct tlb_entry, read));
    const u32 host = (u32)offsetof(struct tlb_entry, host);
    struct slow *s;
    t->t1_slot = -1;
    t->probes++;
    if (a->constant && a->seg < FS && !t->r->segmented && !a->reloc) {
        u64 lin = a->value, page = lin & ~0xfffull;
        u32 slot = tlb + (u32)((lin >> 12) & (TLB_SIZE - 1)) * (u32)sizeof(struct tlb_entry);
        if ((lin & 0xfff) + span > 4096) {         /* always the slow way */
            e1(e, 0x45), e1(e, 0x39), e1(e, 0xd2); /* cmp r10d, r10d */
            s = new_slow(t, CC_E, saved);
        } else if (fits32(page)) {
            e1(e, 0x65), e1(e, 0x48), e1(e, 0x81), e1(e, 0x3c), e1(e, 0x25); /* cmp gs:[tag], imm32 */
            e4(e, slot + tag), e4(e, (u32)page);
            s = ask_watched(t, new_slow(t, CC_NE, saved), span, write);
        } else {
            e_mov_imm(e, T0, page);
            e_gs(e, 0x39, T0, slot + tag, 8);
            s = ask_watched(t, new_slow(t, CC_NE, saved), span, write);
        }
        s->constant = true;
        s->lin = lin;
        e_gs(e, 0x8b, T1, slot + host, 8);
        if (!o)
            return s;
        if (fits32(lin)) {
            *o = (struct operand){ T1, NONE, T0, (s32)lin };
        } else {
            e_mov_imm(e, T0, lin);
            e1(e, 0x4d), e1(e, 0x01), e1(e, 0xd3); /* add r11, r10 */
            *o = (struct operand){ T1, NONE, T0, 0 };
        }
        return s;
    }
    const u8 hb = a->constant || a->base == 0xff ? NONE : host_of[a->base];
    const u8 hi = a->constant || a->index == 0xff ? NONE : host_of[a->index];
    const bool in_registers = !a->constant && hb != IN_MEMORY && hi != IN_MEMORY && a->seg < FS && a->asize == 8;
    u8 *beyond = NULL, *out = NULL;
    emit_ea(t, a);
    if (t->r->segmented) { /* its limit and its base */
        e_lea(e, T1, T0, NONE, 0, (s32)span);
        e_gs(e, 0x3b, T1, OFF(seg_end[write][0]) + 8u * a->seg, 8);
        if (write && t->watched)
            out = e_jcc(e, CC_A);
        else
            e1(e, 0x77), e1(e, 0), beyond = e->p; /* ja */
        e_gs(e, 0x03, T0, OFF(segbase) + 8u * a->seg, 4);
    } else if (a->seg >= FS) {
        e_gs(e, 0x8b, T1, OFF(segbase) + 8u * (a->seg == FS ? ISEG_FS : ISEG_GS), 8);
        e_rm(e, 0x8d, T0, T0, T1, 0, 0, t->w);
    }
    if (t->j->bmi2) {
        e1(e, 0xc4), e1(e, 0x43), e1(e, 0xfb), e1(e, 0xf0), e1(e, 0xda), e1(e, 7); /* rorx r11, r10, 7 */
    } else {
        e_mov(e, T1, T0);
        e1(e, 0x49), e1(e, 0xc1), e1(e, 0xeb), e1(e, 7); /* shr r11, 7 */
    }
    e1(e, 0x41), e1(e, 0x81), e1(e, 0xe3), e4(e, (TLB_SIZE - 1) * (u32)sizeof(struct tlb_entry)); /* and r11d, .. */
    e_gs_r11(e, 0x33, T0, tlb + tag);
    e1(e, 0x49), e1(e, 0x81), e1(e, 0xfa), e4(e, 4096 - span); /* cmp r10, 4096 - span */
    if (beyond)
        beyond[-1] = (u8)(e->p - beyond); /* which goes on with the same condition */
    s = ask_watched(t, new_slow(t, CC_A, saved), span, write);
    s->beyond = out;
    if (in_registers || !o) {
        e_gs_r11(e, 0x8b, T1, tlb + host);
        if (o)
            operand_by(t, hb, hi, a->scale, (s32)a->disp, o);
        return s;
    }
    e_gs_r11(e, 0x33, T0, tlb + tag); /* the address again */
    e_gs_r11(e, 0x03, T0, tlb + host);
    *o = (struct operand){ T0, NONE, T1, 0 };
    return s;
}

_Static_assert(sizeof(struct tlb_entry) == 32, "the probe shifts by 7: 12 bits of page offset less 5 of entry");

/* ---- registers written --------------------------------------------------------- */

static unsigned gpr_named(const struct decoded *d, unsigned n, unsigned size)
{
    return size == 1 && d->encoding == ENC_LEGACY && !d->rex && n >= 4 && n < 8 ? n - 4 : n & 15;
}

static u32 written(const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    const struct opdesc *o = d->desc;
    u32 w = o->gpr_write;
    if (o->reg.write)
        w |= BIT(gpr_named(d, d->reg, o->reg.size));
    if (o->rm.write && !d->has_mem)
        w |= BIT(gpr_named(d, d->rm, o->rm.size));
    if (o->vvvv.write)
        w |= BIT(d->vvvv & 15);
    return w & 0xffff;
}

/* Does i add a constant to register g, and do nothing else to it? */
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

/* ---- groups ---------------------------------------------------------------------- */

/* One access of an instruction, as a group would serve it. */
struct access_at {
    struct group key; /* base, index, scale, seg, page; write */
    s32 lo, hi;
};

static bool access_of(const struct region *r, const struct rinsn *i, struct access_at *a)
{
    const struct decoded *d = &i->d;
    const s32 word = d->bits == 64 ? 8 : 4;
    struct address m;
    a->key = (struct group){ .base = 0xff, .index = 0xff, .seg = SEG_FLAT };
    if (r->segmented) /* each access is held against a limit */
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
            return false; /* two accesses: each probes for itself */
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

static bool same_key(const struct group *a, const struct group *b)
{
    return a->base == b->base && a->index == b->index && a->scale == b->scale && a->seg == b->seg && a->page == b->page &&
           a->reloc == b->reloc;
}
static bool is_constant(const struct group *g)
{
    return g->base == 0xff && g->index == 0xff && g->seg == SEG_FLAT;
}

/* The group that serves a, or NULL. */
static struct group *find_group(struct state *s, const struct access_at *a)
{
    for (unsigned k = 0; k < s->n; k++) {
        struct group *g = &s->g[k];
        if (same_key(g, &a->key) && (is_constant(g) || (a->lo >= g->lo && a->hi <= g->hi)) && g->write >= a->key.write)
            return g;
    }
    return NULL;
}

static void drop_group(struct state *s, unsigned k)
{
    s->g[k] = s->g[--s->n];
}

/* Is register g of a group given another value by i? by: what is added, if that is known. */
static bool moves(const struct rinsn *i, u32 w, unsigned g, s32 *by, bool *lost)
{
    *by = 0;
    if (g == 0xff || !(w >> g & 1))
        return false;
    if (!adjusts(i, g, by))
        *lost = true;
    return true;
}

static u32 written_or_stack(const struct rinsn *i)
{
    u32 w = written(i);
    switch (i->how) {
    case HOW_PUSH:
    case HOW_PUSH_MEM:
    case HOW_POP:
    case HOW_PUSHF:
    case HOW_POPF:
    case HOW_LEAVE:
    case HOW_CALL:
    case HOW_CALL_IND:
    case HOW_RET:
        w |= BIT(RSP);
        break;
    }
    if (i->how == HOW_LEAVE)
        w |= BIT(RBP);
    if (i->how == HOW_FALLBACK && (i->d.desc->cls == OPC_CONTROL || (i->d.desc->flags & OPF_IMPLICIT_MEM)))
        w |= BIT(RSP) | BIT(RBP);
    if (i->how == HOW_POP)
        w |= BIT(i->d.opcode == 0x8f ? i->d.rm : i->d.reg);
    if (i->how == HOW_LEA)
        w |= BIT(i->d.reg);
    if (i->how == HOW_STRING)
        w |= BIT(RSI) | BIT(RDI);
    if (i->how == HOW_LOOP)
        w |= BIT(RCX);
    return w;
}

/* Carries a range about the group's registers over instruction i. false: it is lost. */
static bool carry(const struct group *key, const struct rinsn *i, s32 *lo, s32 *hi)
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

/* What holds after i. */
static void carry_state(struct tr *t, const struct rinsn *i)
{
    struct state *s = &t->s;
    if ((i->how == HOW_FALLBACK && i->d.desc->cls == OPC_SYSTEM) || i->how == HOW_STAC || i->how == HOW_CLAC)
        s->n = 0; /* mappings, or what is allowed, may have changed */
    for (unsigned k = s->n; k-- > 0;)
        if (!carry(&s->g[k], i, &s->g[k].lo, &s->g[k].hi))
            drop_group(s, k);
}

/* The range that a probe for a, made before instruction pos of the block, should answer for: what the instructions
   from there on access. lo, hi: relative to the registers at pos. Returns how many accesses it serves. */
static unsigned look_ahead(const struct tr *t, unsigned block, unsigned pos, const struct access_at *a, s32 *lo, s32 *hi,
                           bool *write)
{
    const struct region *r = t->r;
    const struct rblock *b = &r->block[block];
    unsigned n = 0;
    s32 shift_lo = 0, shift_hi = 0; /* the registers at pos, seen from the instruction: 0 less what was added since */
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
        if (access_of(r, i, &x) && same_key(&x.key, &a->key)) {
            /* seen from pos0: displacement here + what was added between */
            const s64 l = MIN((s64)*lo, (s64)x.lo - shift_lo), h = MAX((s64)*hi, (s64)x.hi - shift_lo);
            if (is_constant(&a->key) || h - l <= (t->loops ? SPAN_MAX : MIN(SPAN_MAX, SPAN_FIRST + SPAN_EACH * (s64)n))) {
                *lo = (s32)l, *hi = (s32)h;
                *write |= x.key.write;
                n++;
            }
        }
        if (i->how == HOW_FALLBACK && i->d.desc->cls == OPC_SYSTEM)
            return n;
        if (!carry(&a->key, i, &shift_lo, &shift_hi))
            return n;
    }
    return n;
}

static void emit_load_slot(struct tr *t, unsigned slot)
{
    if (t->t1_slot == (s8)slot)
        return;
    e_gs(&t->e, 0x8b, T1, OFF(jit_slot) + 8 * slot, 8);
    t->t1_slot = (s8)slot;
}

/* Probes for the group of a before instruction pos, whose place is the present one; the flags may be used up. */
static struct slow *make_group(struct tr *t, unsigned block, unsigned pos, const struct access_at *a, bool saved, u64 back)
{
    struct emit *e = &t->e;
    struct state *s = &t->s;
    struct group g = a->key;
    g.lo = a->lo, g.hi = a->hi;
    look_ahead(t, block, pos, a, &g.lo, &g.hi, &g.write);
    /* One that this replaces. */
    for (unsigned k = s->n; k-- > 0;)
        if (same_key(&s->g[k], &g) && s->g[k].lo >= g.lo && s->g[k].hi <= g.hi && s->g[k].write <= g.write)
            drop_group(s, k);
    g.slot = t->next_slot;
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
    struct slow *w = emit_probe(t, &m, (unsigned)(g.hi - g.lo), g.write, saved, NULL);
    w->group = true;
    w->g = g;
    w->back = back;
    if (is_constant(&g)) { /* the page in the host */
        if (fits32(g.page) && !g.reloc) {
            e_lea(e, T1, T1, NONE, 0, (s32)g.page);
        } else {
            emit_place(t, T0, g.page, g.reloc);
            e_lea(e, T1, T1, T0, 0, 0);
        }
    }
    e_gs(e, 0x89, T1, OFF(jit_slot) + 8 * g.slot, 8);
    t->t1_slot = (s8)g.slot;
    s->g[s->n++] = g;
    return w;
}

/* The operand of an access that a group serves. */
static void use_group(struct tr *t, const struct group *g, const struct access_at *a, struct operand *o)
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

/* ---- registers ---------------------------------------------------------------------- */

static void load_guest(struct tr *t, unsigned host, unsigned g)
{
    if (host == T1)
        t->t1_slot = -1;
    if (host_of[g] == IN_MEMORY)
        e_gs(&t->e, 0x8b, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(&t->e, host, host_of[g]);
}
static void store_guest(struct tr *t, unsigned g, unsigned host)
{
    if (host_of[g] == IN_MEMORY)
        e_gs(&t->e, 0x89, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(&t->e, host_of[g], host);
}

/* ---- an instruction kept as it is, operands renamed ---------------------------------- */

struct rename {
    u8 host[3]; /* reg, rm, vvvv */
    struct {
        u8 guest, host;
        bool write;
    } mem[2]; /* those that live in memory */
    unsigned nmem;
};

static bool is_high(const struct decoded *d, unsigned n, unsigned size)
{
    return size == 1 && d->encoding == ENC_LEGACY && !d->rex && n >= 4 && n < 8;
}

/* Names one operand; false: no scratch register is left. */
static bool rename_one(const struct tr *t, struct rename *r, unsigned slot, unsigned guest, const struct opdesc_gpr *o, const u8 *scratch,
                       unsigned nscratch)
{
    if (host_of[guest] != IN_MEMORY) {
        r->host[slot] = host_of[guest];
        return true;
    }
    for (unsigned k = 0; k < r->nmem; k++)
        if (r->mem[k].guest == guest) {
            r->mem[k].write |= o->write;
            r->host[slot] = r->mem[k].host;
            return true;
        }
    if (r->nmem == nscratch)
        return false;
    r->mem[r->nmem].guest = (u8)guest;
    r->mem[r->nmem].host = scratch[r->nmem];
    r->mem[r->nmem].write = o->write;
    r->host[slot] = scratch[r->nmem++];
    return true;
}

/* Does 66 belong before it where it is kept? Code of 16 bits has it where it means 32. */
static bool short_operand(const struct decoded *d)
{
    if (d->bits != 16 || (d->desc->cls != OPC_INT && d->desc->cls != OPC_CONTROL))
        return d->opsize66 && d->desc->cls != OPC_X87;
    if (d->map == 1 && d->opcode == 0xae) /* fences: MFENCE with it is TPAUSE */
        return false;
    return d->osize == 2 && !d->desc->osize;
}

static bool keeps_prefix(const struct decoded *d)
{
    switch (d->desc->cls) {
    case OPC_SSE:
    case OPC_AVX:
        return true;
    }
    switch (d->desc->mnemonic) {
    case M_TZCNT:
    case M_LZCNT:
    case M_POPCNT:
    case M_CRC32:
    case M_ADOX:
    case M_ADCX:
        return true;
    }
    return false;
}

/* The plan for renaming, made before anything is emitted. scratch as available. */
static bool plan(const struct tr *t, const struct decoded *d, struct rename *r, const u8 *scratch, unsigned nscratch)
{
    const struct opdesc *o = d->desc;
    const bool mem = d->has_mem;
    r->nmem = 0;
    r->host[0] = d->reg, r->host[1] = d->rm, r->host[2] = d->vvvv;
    bool high = false, needs_rex = mem;
    if (o->reg.size) {
        if (is_high(d, d->reg, o->reg.size))
            high = true;
        else if (!rename_one(t, r, 0, d->reg, &o->reg, scratch, nscratch))
            return false;
        else
            needs_rex |= r->host[0] >= 8;
    }
    if (!mem && d->has_modrm && o->rm.size) {
        if (is_high(d, d->rm, o->rm.size))
            high = true;
        else if (!rename_one(t, r, 1, d->rm, &o->rm, scratch, nscratch))
            return false;
        else
            needs_rex |= r->host[1] >= 8;
    }
    if (o->vvvv.size && !rename_one(t, r, 2, d->vvvv, &o->vvvv, scratch, nscratch))
        return false;
    return !(high && needs_rex);
}

static void emit_kept(struct tr *t, const struct decoded *d, const struct rename *r, const struct operand *m)
{
    struct emit *e = &t->e;
    const struct opdesc *o = d->desc;
    const bool mem = m != NULL;
    const unsigned reg = r->host[0], rm = r->host[1];
    for (unsigned k = 0; k < r->nmem; k++) {
        e_gs(e, 0x8b, r->mem[k].host, GPR(r->mem[k].guest), 8);
        if (r->mem[k].host == T1)
            t->t1_slot = -1;
    }
    const unsigned x = mem ? (m->index != NONE ? m->index >> 3 : 0) : d->encoding == ENC_EVEX ? rm >> 4 : 0;
    const unsigned b = mem ? m->base >> 3 : d->has_modrm ? rm >> 3 & 1 : reg >> 3;
    const unsigned rr = d->has_modrm ? reg >> 3 & 1 : 0; /* not where the accumulator is moved */
    if (d->encoding == ENC_EVEX) {
        /* The numbers that were decoded, not the bytes: R' and vvvv's highest bit name registers here, and mean nothing
           in the guest's 32-bit code (SDM vol. 2, 2.7). */
        e1(e, 0x62);
        e1(e, (~rr & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | (~reg >> 4 & 1) << 4 | d->map);
        e1(e, (d->w & 1) << 7 | (~r->host[2] & 15) << 3 | 4 | d->pp);
        e1(e, (d->bytes[d->opcode_off - 1] & 0xf7u) | (~r->host[2] >> 4 & 1) << 3);
        e1(e, d->opcode);
    } else if (d->encoding == ENC_VEX) {
        e1(e, 0xc4);
        e1(e, (~rr & 1) << 7 | (~x & 1) << 6 | (~b & 1) << 5 | d->map);
        e1(e, (d->w & 1) << 7 | (~r->host[2] & 15) << 3 | (d->vl & 1) << 2 | d->pp);
        e1(e, d->opcode);
    } else {
        if (d->lock)
            e1(e, 0xf0);
        if (short_operand(d))
            e1(e, 0x66);
        if (d->rep && keeps_prefix(d))
            e1(e, d->rep);
        unsigned rex = (d->rex & 8) | rr << 2 | x << 1 | b;
        /* SPL BPL SIL DIL and what replaces them are bytes only with a REX prefix. */
        if (rex || (d->rex && (o->reg.size == 1 || o->rm.size == 1)))
            e1(e, 0x40 | rex);
        if (d->map >= 1)
            e1(e, 0x0f);
        if (d->map == 2)
            e1(e, 0x38);
        if (d->map == 3)
            e1(e, 0x3a);
        if (!d->has_modrm && (d->opcode & 0xf0) == 0x40 && !d->map) /* INC, DEC: REX prefixes here */
            e1(e, 0xff), e1(e, 0xc0 | (d->opcode & 8) | (reg & 7));
        else if (mem && !d->has_modrm) /* MOV of the accumulator and an address */
            e1(e, 0x88 | (d->opcode & 1) | (~d->opcode & 2));
        else
            e1(e, !d->has_modrm                      ? (d->opcode & ~7u) | (reg & 7)
                  : d->map == 0 && d->opcode == 0x82 ? 0x80 /* which has no such other number in 64-bit mode */
                                                     : d->opcode);
    }
    if (mem && !d->has_modrm) {
        e_mem(e, RAX, m->base, m->index, m->scale, m->disp);
    } else if (d->has_modrm) {
        /* A register number where ModRM.reg names one, else the opcode's extension. */
        unsigned field = o->reg.size || d->encoding != ENC_LEGACY || o->cls == OPC_SSE || o->cls == OPC_MMX
                             ? reg
                             : d->modrm >> 3 & 7;
        if (mem && d->encoding == ENC_EVEX)
            e_mem_wide(e, field, m->base, m->index, m->scale, m->disp);
        else if (mem)
            e_mem(e, field, m->base, m->index, m->scale, m->disp);
        else
            e1(e, 0xc0 | (field & 7) << 3 | (rm & 7));
    }
    /* VBLENDVPS, VBLENDVPD, VPBLENDVB name a fourth register in the immediate; of eight, outside 64-bit mode. */
    const bool is4 = d->encoding == ENC_VEX && d->map == 3 && d->opcode >= 0x4a && d->opcode <= 0x4c;
    if (d->imm_off)
        for (unsigned k = d->imm_off; k < d->len; k++)
            e1(e, is4 && d->bits != 64 ? d->bytes[k] & 0x7f : d->bytes[k]);
    for (unsigned k = 0; k < r->nmem; k++)
        if (r->mem[k].write)
            e_gs(e, 0x89, r->mem[k].host, GPR(r->mem[k].guest), 8);
}

/* ---- memory operands -------------------------------------------------------------------- */

static bool live(const struct tr *t, unsigned pos)
{
    return t->r->live[pos];
}
static void check(struct tr *t, const struct operand *o, unsigned size, bool write)
{
    emit_check(&t->e, t->j, o->base, o->index, o->scale, o->disp, size, write);
}

/* Neither reads flags nor writes any. */
static bool leaves_flags(const struct rinsn *i)
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
    /* these have them back before they go */
    case HOW_CALL:
    case HOW_RET:
    case HOW_JMP_IND: return true;
    case HOW_CALL_IND: return !i->d.has_mem;
    }
    return false;
}

/* The flags are to be the guest's again. scratch is used up. */
static void have_flags(struct tr *t, unsigned scratch)
{
    if (!t->flags_away)
        return;
    emit_restore_flags_by(&t->e, scratch);
    t->flags_away = false;
    if (scratch == T1)
        t->t1_slot = -1;
}

/* The operand of the present instruction's access a, whose address is m: by a group, one made now, or a probe of its
   own. restore: the flags are to be restored behind the access (emit_restore_flags). The slow path, if there is one of
   its own, comes back behind what is written until end_access(). */
static struct slow *begin_access(struct tr *t, const struct address *m, unsigned size, bool write, struct operand *o,
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
        /* worth keeping: for another access, or the next round */
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
static void end_access(struct tr *t, struct slow *s)
{
    if (s) {
        s->back = here(&t->e);
        t->t1_slot = -1;
    }
}

/* Before an instruction that sets flags which are still wanted where the next accesses are: probes for those now. */
static void prepare(struct tr *t)
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
        /* seen from here */
        s32 lo = 0, hi = 0;
        bool known = true;
        for (unsigned k = t->pos; k < pos && known; k++)
            known = carry(&a.key, &r->insn[r->order[k]], &lo, &hi) &&
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

/* ---- exits --------------------------------------------------------------------------------- */

static struct way_out *new_way_out(struct tr *t, int kind, u64 rip)
{
    static struct way_out none;
    if (t->nout == LINKS_MAX) {
        fail(t);
        return &none;
    }
    struct way_out *c = &t->out[t->nout++];
    *c = (struct way_out){ .kind = kind, .rip = rip, .same = -1, .link = -1, .ctx = t->s.ctx };
    return c;
}
static struct link *new_link(struct tr *t, u64 rip, s16 *number)
{
    static struct link none;
    if (t->nlink == LINKS_MAX) {
        fail(t);
        return &none;
    }
    *number = (s16)t->nlink;
    struct link *l = &t->link[t->nlink++];
    *l = (struct link){ .rip = rip, .key = (t->t->key & ~(0x60u | JIT_CAREFUL)) | (u32)t->s.ctx << 5 };
    return l;
}
static u32 place(const struct tr *t, const u8 *p)
{
    return (u32)(p - t->j->rw);
}

/* Is the code entered in another TLB context than it is in here? Then nobody who called it may be returned to. */
static bool ctx_changed(const struct tr *t)
{
    return t->s.ctx != t->r->ctx;
}

/* Into RCX, whose value is then in another register: 0 if the page of this number is mapped as it was when it got it.
   Returns where the number is. Keeps the flags; T1 is used up. */
static u8 *emit_mapped(struct tr *t, u32 id)
{
    struct emit *e = &t->e;
    e_align(e, 5); /* the displacement is patched */
    e_gs(e, 0x8b, RCX, OFF(jit_mapped) + 8 * id, 8); /* mov rcx, gs:[..]; entry 0 is never set */
    u8 *at = e->p - 4;
    if (t->r->reloc) {
        e_gs(e, 0x8b, T1, OFF(jit_delta), 8);
        e_lea(e, RCX, RCX, T1, 0, -1);
    } else {
        e_lea(e, RCX, RCX, NONE, 0, -1);
    }
    return at;
}
/* The comparison that keeps the flags: is the page of the target mapped as it was when the link was made? RCX is in T0
   from then on. Returns behind a JRCXZ to where it is. */
static u8 *emit_mapping_check(struct tr *t, struct link *l)
{
    struct emit *e = &t->e;
    e_mov(e, T0, RCX);
    l->check = place(t, emit_mapped(t, 0));
    e1(e, 0xe3), e1(e, 0);
    return e->p;
}

/* Out to a RIP known now. cc < 0: always. Linked to the target's translation when there is one. */
static void emit_exit(struct tr *t, u64 rip, int cc)
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
    /* What is written behind, with a link in it, serves all that lead there. */
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
    for (unsigned k = 0; k < 5; k++) /* as behind the other calls */
        e1(e, 0xcc);
    emit_site(e, &s, SITE_SHORT);
}

static void write_way_out(struct tr *t, struct way_out *c)
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

/* Requests are looked at where the region is entered and where its loops close: that bounds how long an interrupt
   waits. */
static void emit_poll(struct tr *t, u64 rip, bool flags, bool at_entry)
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

/* Notes which instruction goes where T0 says: a target that is not canonical is its fault. */
static void emit_from(struct tr *t)
{
    struct emit *e = &t->e;
    struct way_out *c = new_way_out(t, OUT_FROM, 0);
    c->insn = (u16)tinsn_now(t);
    e1(e, 0x65), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(jit_from)); /* mov dword gs:[], place */
    c->at = e->p;
    e4(e, 0);
}

/* The entry's, where the instruction's bytes reach into a second page: is that mapped as it was? */
static void emit_page2_check(struct tr *t, u64 rip)
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

/* ---- stack, calls, returns -------------------------------------------------------------------- */

static struct address stack_at(const struct tr *t, s32 disp)
{
    return (struct address){ .base = RSP, .index = 0xff, .seg = SS, .asize = t->sp, .disp = disp };
}
static void emit_move_stack(struct tr *t, s32 by)
{
    e_rm(&t->e, 0x8d, H_SP, H_SP, NONE, 0, by, t->sp);
}

/* An operand that leaves a scratch register. */
static void settle(struct tr *t, struct operand *o)
{
    if (o->free != NONE)
        return;
    e_lea(&t->e, T0, o->base, o->index, o->scale, o->disp);
    *o = (struct operand){ T0, NONE, T1, 0, 0 };
    t->t1_slot = -1;
}

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

/* Pushes host register reg, guest register g from memory (reg NONE), or an immediate (both NONE; reloc: and jit_delta). */
static void emit_push(struct tr *t, unsigned reg, unsigned g, u64 imm, bool reloc)
{
    struct emit *e = &t->e;
    struct operand o;
    bool restore;
    const struct address below = stack_at(t, -t->slot);
    struct slow *s = begin_access(t, &below, t->slot, true, &o, &restore);
    if (reg == NONE && g == NONE && !reloc && (fits32(imm) || t->slot < 8)) {
        emit_store_imm(t, &o, (u32)imm);
    } else {
        if (reg == NONE) {
            settle(t, &o);
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

/* Where the called code returns to: T0 is where the guest goes on. Flags are kept: what does not return here may read
   them. */
static void emit_landing(struct tr *t, u64 rip)
{
    struct emit *e = &t->e;
    t->t1_slot = -1;
    t->s.n = 0;
    e_mov(e, T1, RCX);
    if (t->r->reloc) { /* what it was for the caller lies behind (emit_leave_delta) */
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
        e_gs(e, 0x89, T0, OFF(jit_delta), 8);
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

/* Before a CALL of the host's: where it lands does not know in which module it is. */
static void emit_leave_delta(struct tr *t)
{
    struct emit *e = &t->e;
    if (t->r->reloc)
        e1(e, 0x65), e1(e, 0xff), e1(e, 0x34), e1(e, 0x25), e4(e, OFF(jit_delta)); /* push gs:[..] */
}

static void emit_call(struct tr *t, u64 to, u64 next)
{
    struct emit *e = &t->e;
    emit_push(t, NONE, NONE, next, t->r->reloc);
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

/* ---- one instruction -------------------------------------------------------------------------- */

static bool keep_needs_modrm(const struct decoded *d)
{
    /* One-byte forms with implied operands carry nothing to rename but their opcode. */
    return d->has_modrm || d->desc->reg.size;
}

static bool translate_kept(struct tr *t, const struct rinsn *i)
{
    static const u8 both[2] = { T1, T0 }, one[1] = { T0 };
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    struct rename r;
    struct address a;
    struct operand o;
    bool restore;
    if (!d->has_mem) {
        if (!plan(t, d, &r, both, 2))
            return false;
        if (!keep_needs_modrm(d)) {
            /* CBW ... CMC, A8/A9 and 04-3D with the accumulator: as they are */
            const bool narrow = d->bits == 16;
            if (narrow && short_operand(d))
                e1(e, 0x66);
            if (narrow && d->map)
                e1(e, 0x0f);
            for (unsigned n = narrow ? d->opcode_off : 0; n < d->len; n++)
                e1(e, d->bytes[n]);
            return true;
        }
        emit_kept(t, d, &r, NULL);
        return true;
    }
    const unsigned size = memory_size(d);
    if (!size || !address_of(t->r, i, &a) || !plan(t, d, &r, one, 1))
        return false;
    struct slow *s = begin_access(t, &a, size, d->desc->flags & OPF_MEM_WRITE, &o, &restore);
    if (r.nmem)
        settle(t, &o);
    if (restore)
        emit_restore_flags(e);
    if (r.nmem) { /* the one scratch register depends on the operand's form */
        r.mem[0].host = o.free;
        if (d->desc->reg.size && host_of[d->reg & 15] == IN_MEMORY && !is_high(d, d->reg, d->desc->reg.size))
            r.host[0] = o.free;
        if (d->desc->vvvv.size && host_of[d->vvvv & 15] == IN_MEMORY)
            r.host[2] = o.free;
        if (o.free == T1)
            t->t1_slot = -1;
    }
    emit_kept(t, d, &r, &o);
    end_access(t, s);
    return true;
}

static void emit_sized(struct emit *e, unsigned op, unsigned reg, const struct operand *o, unsigned size)
{
    if (size == 2)
        e1(e, 0x66);
    e_rm(e, size == 1 ? op - 1 : op, reg, o->base, o->index, o->scale, o->disp, size == 8 ? 8 : 4);
}

static void emit_step(struct tr *t, unsigned g, unsigned size)
{
    const unsigned host = host_of[g] == IN_MEMORY ? T0 : host_of[g];
    load_guest(t, host, g);
    e_rm(&t->e, 0x8d, host, host, NONE, 0, (s32)size, t->w);
    store_guest(t, g, host);
}

/* One element of a string, upwards: with DF set the handler does it. Registers change behind the last probe. */
static void translate_string(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const unsigned op = i->d.opcode & ~1u, size = i->d.opcode & 1 ? i->d.osize : 1;
    const bool source = op != 0xaa && op != 0xae, destination = op != 0xac, both = source && destination;
    const bool flags = live(t, t->pos);
    struct address a = { .base = source ? RSI : RDI, .index = 0xff, .seg = source ? i->d.seg : ES, .asize = t->w };
    struct operand o;
    bool restore;
    if (flags && !leaves_flags(i)) { /* cannot be: comparisons set them all */
        emit_fallback(t);
        return;
    }
    struct slow *s = begin_access(t, &a, size, op == 0xaa, &o, &restore), *s2 = NULL;
    e1(e, 0x65), e1(e, 0xf6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(rflags) + 1), e1(e, RFLAGS_DF >> 8); /* test byte gs:[], DF */
    struct slow *down = new_slow(t, CC_NE, flags);
    down->flags_away = flags;
    unsigned reg = RAX;
    if (both) {
        emit_sized(e, 0x8b, T0, &o, size);
        e_gs(e, 0x89, T0, OFF(jit_tmp2), 8);
        a.base = RDI;
        a.seg = ES;
        s2 = begin_access(t, &a, size, op == 0xa4, &o, &restore);
        e_gs(e, 0x8b, reg = o.free, OFF(jit_tmp2), 8);
    }
    emit_sized(e, op == 0xac ? 0x8b : op == 0xa4 || op == 0xaa ? 0x89 : 0x3b, reg, &o, size);
    if (source)
        emit_step(t, RSI, size);
    if (destination)
        emit_step(t, RDI, size);
    end_access(t, s);
    end_access(t, s2);
    end_access(t, down);
}

static u32 selector_of(unsigned seg)
{
    return OFF(s.seg) + seg * (u32)sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, selector);
}

/* movzx dst, word gs:[selector] */
static void emit_selector(struct emit *e, unsigned dst, unsigned seg)
{
    e1(e, 0x65);
    if (dst >= 8)
        e1(e, 0x44);
    e1(e, 0x0f), e1(e, 0xb7), e1(e, (dst & 7) << 3 | 4), e1(e, 0x25), e4(e, selector_of(seg));
}

/* FIP, FDP, FOP, FCS, FDS of the x87 instruction just executed. */
static void emit_note_x87(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const u64 rip = region_rip(t->r, i->off);
    struct address a;
    emit_rip(t, T0, rip);
    e_gs(e, 0x89, T0, OFF(x87_fip), 8);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0xc7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(x87_fop)); /* mov word gs:[], imm */
    e1(e, d->modrm), e1(e, d->opcode & 7);
    emit_selector(e, T0, CS);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0x44), e1(e, 0x89), e1(e, 0x14), e1(e, 0x25), e4(e, OFF(x87_fcs));
    if (!d->has_mem || !address_of(t->r, i, &a))
        return;
    emit_ea(t, &a);
    e_gs(e, 0x89, T0, OFF(x87_fdp), 8);
    emit_selector(e, T0, d->seg % SEG_COUNT);
    e1(e, 0x65), e1(e, 0x66), e1(e, 0x44), e1(e, 0x89), e1(e, 0x14), e1(e, 0x25), e4(e, OFF(x87_fds));
}

static void translate_lea(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    struct address a;
    if (!address_of(t->r, i, &a)) {
        emit_fallback(t);
        return;
    }
    unsigned dst = host_of[d->reg] == IN_MEMORY ? T0 : host_of[d->reg];
    if (d->bits == 16) { /* all registers are the host's */
        emit_ea(t, &a);
        e_rr(e, 0x8b, dst, T0, d->osize);
        return;
    }
    if (a.constant) {
        emit_place(t, dst, d->osize == 4 && !a.reloc ? (u32)a.value : a.value, a.reloc);
        if (d->osize == 4 && a.reloc)
            e_rr(e, 0x8b, dst, dst, 4);
    } else if (a.asize == 4) {
        emit_ea(t, &a);
        if (dst != T0)
            e_mov(e, dst, T0);
    } else {
        unsigned hb = NONE, hi = NONE;
        if (a.base != 0xff) {
            hb = host_of[a.base];
            if (hb == IN_MEMORY)
                load_guest(t, hb = T0, a.base);
        }
        if (a.index != 0xff) {
            hi = host_of[a.index];
            if (hi == IN_MEMORY)
                load_guest(t, hi = T1, a.index);
        }
        if (hb == NONE) {
            e1(e, 0x40 | (d->osize == 8) << 3 | (dst >> 3) << 2 | (hi >> 3) << 1), e1(e, 0x8d);
            e1(e, 4 | (dst & 7) << 3), e1(e, a.scale << 6 | (hi & 7) << 3 | 5);
            e4(e, (u32)a.disp);
        } else {
            e_rm(e, 0x8d, dst, hb, hi, a.scale, (s32)a.disp, d->osize);
        }
    }
    store_guest(t, d->reg, dst);
}

/* op dword gs:[rflags], imm32 (81 /n: 1 or, 4 and). Uses up the flags. */
static void emit_rflags(struct emit *e, unsigned n, u32 x)
{
    e1(e, 0x65), e1(e, 0x81), e1(e, 0x04 | n << 3), e1(e, 0x25), e4(e, OFF(rflags)), e4(e, x);
}

/* T0 = the size bytes at o, size 2, 4 or 8. */
static void emit_load_zx(struct tr *t, const struct operand *o, unsigned size)
{
    struct emit *e = &t->e;
    if (size == 2) { /* movzx r10d, word */
        e1(e, 0x44 | (o->index != NONE && o->index >> 3) << 1 | o->base >> 3), e1(e, 0x0f), e1(e, 0xb7);
        e_mem(e, T0, o->base, o->index, o->scale, o->disp);
    } else {
        e_rm(e, 0x8b, T0, o->base, o->index, o->scale, o->disp, size);
    }
}

/* MOV from, PUSH a segment register. */
static void translate_seg_store(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const bool mov = d->map == 0 && d->opcode == 0x8c;
    const unsigned seg = mov || d->map == 0 ? (mov ? d->reg & 7 : d->opcode >> 3 & 3) : d->opcode == 0xa0 ? FS : GS;
    struct address a = stack_at(t, -t->w);
    struct operand o;
    bool restore;
    if (mov && !d->has_mem) {
        emit_selector(e, T0, seg);
        e_rr(e, 0x8b, host_of[d->rm], T0, d->osize);
        return;
    }
    if (mov && !address_of(t->r, i, &a)) {
        emit_fallback(t);
        return;
    }
    struct slow *s = begin_access(t, &a, 2, true, &o, &restore);
    emit_selector(e, o.free, seg);
    e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, 2);
    if (restore)
        emit_restore_flags(e);
    if (!mov)
        emit_move_stack(t, -t->w);
    end_access(t, s);
}

/* MOV to, POP, LES and the like where protection is off: the selector gives the base, all else stays as it is. Only what
   protected mode left unusable gets limit and rights, by the handler. */
static void translate_seg_load(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const unsigned op = d->map << 8 | d->opcode;
    const bool mov = op == 0x8e, far = op == 0xc4 || op == 0xc5 || op == 0x1b4 || op == 0x1b5, pop = !mov && !far;
    const unsigned seg = mov ? d->reg & 7 : op == 0x07 || op == 0xc4 ? ES : op == 0x1f || op == 0xc5 ? DS
                         : op == 0x1a1 || op == 0x1b4 ? FS : GS;
    struct address a = stack_at(t, 0);
    struct operand o;
    struct slow *s = NULL;
    bool restore = live(t, t->pos);
    if (mov && !d->has_mem) {
        e_rr(e, 0x0fb7, T0, host_of[d->rm], 4);
        if (restore)
            emit_save_flags_by(e, T1);
    } else {
        if (!pop && !address_of(t->r, i, &a)) {
            emit_fallback(t);
            return;
        }
        s = begin_access(t, &a, far ? 4 : 2, false, &o, &restore);
        if (far) {
            e_rm(e, 0x8b, T1, o.base, o.index, o.scale, o.disp, 4);
            e_mov(e, T0, T1);
            e1(e, 0x41), e1(e, 0xc1), e1(e, 0xea), e1(e, 16); /* shr r10d, 16 */
        } else {
            emit_load_zx(t, &o, 2);
        }
    }
    t->t1_slot = -1;
    e1(e, 0x65), e1(e, 0x66), e1(e, 0xf7), e1(e, 0x04), e1(e, 0x25); /* test word gs:[attr], UNUSABLE */
    e4(e, selector_of(seg) - (u32)offsetof(struct cpu_seg, selector) + (u32)offsetof(struct cpu_seg, attr));
    e1(e, SEG_UNUSABLE & 0xff), e1(e, SEG_UNUSABLE >> 8);
    struct slow *unusable = new_slow(t, CC_NE, restore);
    e1(e, 0x66), e_gs(e, 0x89, T0, selector_of(seg), 4);
    e1(e, 0x41), e1(e, 0xc1), e1(e, 0xe2), e1(e, 4); /* shl r10d, 4 */
    e_gs(e, 0x89, T0, OFF(s.seg) + seg * (u32)sizeof(struct cpu_seg) + (u32)offsetof(struct cpu_seg, base), 8);
    e_gs(e, 0x89, T0, OFF(segbase) + 8 * seg, 8);
    if (seg >= FS)
        e_gs(e, 0x89, T0, OFF(segbase) + 8u * (seg == FS ? ISEG_FS : ISEG_GS), 8);
    if (far)
        e_rr(e, 0x8b, host_of[d->reg & 7], T1, 2);
    if (restore)
        emit_restore_flags(e);
    if (pop)
        emit_move_stack(t, t->w);
    end_access(t, s);
    end_access(t, unusable);
}

static void translate_system(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const bool flags = live(t, t->pos);
    t->t1_slot = -1;
    switch (i->how) {
    case HOW_SWAPGS:
        e_gs(e, 0x8b, T0, OFF(segbase) + 8 * ISEG_GS, 8);
        e_gs(e, 0x8b, T1, OFF(s.kernel_gs_base), 8);
        e_gs(e, 0x89, T0, OFF(s.kernel_gs_base), 8);
        e_gs(e, 0x89, T1, OFF(segbase) + 8 * ISEG_GS, 8);
        e_gs(e, 0x89, T1, OFF(segbase) + 8 * GS, 8);
        e_gs(e, 0x89, T1, OFF(s.seg[GS].base), 8);
        return;
    case HOW_CLI:
        if (flags)
            emit_save_flags(e);
        emit_rflags(e, 4, ~(u32)RFLAGS_IF);
        if (flags)
            emit_restore_flags(e);
        return;
    case HOW_STI: {
        const struct rblock *b = &t->r->block[t->block];
        if (t->pos + 1 == b->first + b->n) { /* an interrupt could come before the next instruction */
            emit_fallback(t);
            return;
        }
        if (flags)
            emit_save_flags(e);
        e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(request)), e1(e, 0); /* cmp gs:[request], 0 */
        struct slow *s = new_slow(t, CC_NE, flags);
        emit_rflags(e, 1, RFLAGS_IF);
        if (flags)
            emit_restore_flags(e);
        end_access(t, s);
        return;
    }
    case HOW_STAC:
    case HOW_CLAC: {
        const unsigned ctx = i->how == HOW_STAC ? TLB_KERNEL_AC : TLB_KERNEL;
        if (flags)
            emit_save_flags(e);
        if (i->how == HOW_STAC)
            emit_rflags(e, 1, RFLAGS_AC);
        else
            emit_rflags(e, 4, ~(u32)RFLAGS_AC);
        if (flags)
            emit_restore_flags(e);
        e1(e, 0x65), e1(e, 0xc6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(tlb_ctx)), e1(e, ctx); /* mov byte gs:[], ctx */
        e1(e, 0x65), e1(e, 0xc6), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(jc_key));
        e1(e, (t->t->key & ~0x60u & 0xff) | ctx << 5);
        e_gs(e, 0x8b, T0, OFF(jit_self), 8);
        e_lea(e, T0, T0, NONE, 0, (s32)(OFF(tlbs) + ctx * sizeof t->v->tlbs[0]));
        e_gs(e, 0x89, T0, OFF(tlb), 8);
        t->s.ctx = (u8)ctx;
        return;
    }
    case HOW_RDTSC: {
        struct slow *s = NULL;
        if (flags)
            emit_save_flags(e);
        if (t->r->user) {
            e1(e, 0x65), e1(e, 0xf7), e1(e, 0x04), e1(e, 0x25), e4(e, OFF(s.cr4)), e4(e, CR4_TSD); /* test dword gs:[], imm32 */
            s = new_slow(t, CC_NE, flags);
        }
        if (i->d.desc->mnemonic == M_RDTSCP) {
            e1(e, 0x0f), e1(e, 0xae), e1(e, 0xe8); /* lfence: it waits for the loads before it */
            e_gs(e, 0x8b, RCX, OFF(s.tsc_aux), 4);
        }
        e1(e, 0x0f), e1(e, 0x31);
        e1(e, 0x48), e1(e, 0xc1), e1(e, 0xe2), e1(e, 32); /* shl rdx, 32 */
        e1(e, 0x48), e1(e, 0x09), e1(e, 0xd0);            /* or rax, rdx */
        e_gs(e, 0x03, RAX, OFF(tsc_offset), 8);
        e_mov(e, RDX, RAX);
        e1(e, 0x48), e1(e, 0xc1), e1(e, 0xea), e1(e, 32); /* shr rdx, 32 */
        e1(e, 0x89), e1(e, 0xc0);                         /* mov eax, eax */
        if (flags)
            emit_restore_flags(e);
        end_access(t, s);
        return;
    }
    case HOW_PUSHF: {
        const struct address stack = stack_at(t, -t->w);
        struct operand o;
        bool restore;
        /* flags are live here: they are what is pushed */
        struct slow *s = begin_access(t, &stack, t->w, true, &o, &restore);
        if (restore)
            emit_restore_flags(e);
        if (o.free == NONE) {
            fail(t);
            return;
        }
        const unsigned x = o.free & 7;
        if (o.free == T1)
            t->t1_slot = -1;
        e_gs(e, 0x89, RAX, OFF(jit_tmp2), 8);
        e1(e, 0x9f);                                              /* lahf */
        e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);                    /* seto al */
        e_gs(e, 0x89, RAX, OFF(jit_flags), 4);                    /* to have them back below */
        e1(e, 0x44), e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xc0 | x << 3); /* movzx free, al */
        e1(e, 0x41), e1(e, 0xc1), e1(e, 0xe0 | x), e1(e, 11);     /* shl free, 11 */
        e1(e, 0x0f), e1(e, 0xb6), e1(e, 0xc4);                    /* movzx eax, ah */
        e1(e, 0x41), e1(e, 0x09), e1(e, 0xc0 | x);                /* or free, eax */
        e1(e, 0x41), e1(e, 0x81), e1(e, 0xe0 | x), e4(e, RFLAGS_ARITH);
        e_gs(e, 0x8b, RAX, OFF(rflags), 4);
        e1(e, 0x25), e4(e, ~(u32)(RFLAGS_ARITH | RFLAGS_RF | RFLAGS_VM)); /* and eax, .. */
        e1(e, 0x41), e1(e, 0x09), e1(e, 0xc0 | x);                /* or free, eax */
        e_gs(e, 0x8b, RAX, OFF(jit_flags), 4);
        e1(e, 0x04), e1(e, 0x7f);
        e1(e, 0x9e);
        e_gs(e, 0x8b, RAX, OFF(jit_tmp2), 8);
        e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, t->w);
        emit_move_stack(t, -t->w);
        end_access(t, s);
        return;
    }
    case HOW_POPF: {
        const struct address stack = stack_at(t, 0);
        const u32 mine = t->w == 2 ? 0xffff : ~0u;
        struct operand o;
        bool restore;
        struct slow *s = begin_access(t, &stack, t->w, false, &o, &restore);
        emit_load_zx(t, &o, t->w);
        if (restore)
            emit_restore_flags(e);
        /* Only arithmetic flags and IF change, and nothing waits for IF: else the handler does it. */
        emit_save_flags(e);
        e_gs(e, 0x8b, T1, OFF(rflags), 4);
        e1(e, 0x45), e1(e, 0x31), e1(e, 0xd3);                                                 /* xor r11d, r10d */
        e1(e, 0x41), e1(e, 0xf7), e1(e, 0xc3), e4(e, ~(u32)(RFLAGS_ARITH | RFLAGS_IF) & mine); /* test r11d, .. */
        struct slow *w = new_slow(t, CC_NE, true);
        e1(e, 0x65), e1(e, 0x83), e1(e, 0x3c), e1(e, 0x25), e4(e, OFF(request)), e1(e, 0);
        struct slow *w2 = new_slow(t, CC_NE, true);
        if (t->w == 2)
            e1(e, 0x66);
        e_gs(e, 0x89, T0, OFF(rflags), 4);
        e_gs(e, 0x89, RAX, OFF(jit_tmp), 8);
        e1(e, 0x44), e1(e, 0x89), e1(e, 0xd0); /* mov eax, r10d */
        emit_flags_from_eax(e);
        e_gs(e, 0x8b, RAX, OFF(jit_tmp), 8);
        emit_move_stack(t, t->w);
        end_access(t, s);
        end_access(t, w);
        end_access(t, w2);
        return;
    }
    }
}

static void translate_one(struct tr *t, const struct rinsn *i)
{
    struct emit *e = &t->e;
    const struct decoded *d = &i->d;
    const u64 next = region_to(t->r, region_rip(t->r, i->off) + i->d.len);
    struct address a;
    struct operand o;
    bool restore;
    struct slow *s;
    t->slot = d->bits == 16 ? d->osize : t->w;
    switch (i->how) {
    case HOW_NOP:
        return;
    case HOW_KEEP:
        if (!translate_kept(t, i))
            emit_fallback(t);
        return;
    case HOW_X87:
        if (!translate_kept(t, i)) {
            emit_fallback(t);
            return;
        }
        if (d->desc->cls == OPC_X87 && !stub_is_x87_control(d->desc->mnemonic))
            emit_note_x87(t, i);
        return;
    case HOW_STRING:
        translate_string(t, i);
        return;
    case HOW_LEA:
        translate_lea(t, i);
        return;
    case HOW_SEG_STORE:
        translate_seg_store(t, i);
        return;
    case HOW_SEG_LOAD:
        translate_seg_load(t, i);
        return;
    case HOW_PUSH: {
        const unsigned g = d->opcode == 0xff ? d->rm : d->reg;
        if (d->opcode == 0x68 || d->opcode == 0x6a)
            emit_push(t, NONE, NONE, d->imm, false);
        else if (host_of[g] == IN_MEMORY)
            emit_push(t, NONE, g, 0, false);
        else
            emit_push(t, host_of[g], NONE, 0, false);
        return;
    }
    case HOW_PUSH_MEM: { /* two accesses, neither done before both are known to be good */
        if (!address_of(t->r, i, &a)) {
            emit_fallback(t);
            return;
        }
        const bool saved = live(t, t->pos);
        if (saved)
            emit_save_flags(e);
        s = emit_probe(t, &a, t->slot, false, saved, &o);
        check(t, &o, t->slot, false);
        emit_load_zx(t, &o, t->slot);
        e_gs(e, 0x89, T0, OFF(jit_tmp2), 8);
        a = stack_at(t, -t->slot);
        struct slow *s2 = emit_probe(t, &a, t->slot, true, saved, &o);
        check(t, &o, t->slot, true);
        settle(t, &o);
        e_gs(e, 0x8b, o.free, OFF(jit_tmp2), 8);
        e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, t->slot);
        if (saved)
            emit_restore_flags(e);
        emit_move_stack(t, -t->slot);
        end_access(t, s);
        end_access(t, s2);
        return;
    }
    case HOW_POP: {
        const unsigned g = d->opcode == 0x8f ? d->rm : d->reg;
        a = stack_at(t, 0);
        s = begin_access(t, &a, t->slot, false, &o, &restore);
        const unsigned dst = host_of[g] == IN_MEMORY ? T0 : host_of[g];
        if (g == RSP && t->slot < t->sp) /* what is not written has moved */
            emit_move_stack(t, t->slot);
        e_rm(e, 0x8b, dst, o.base, o.index, o.scale, o.disp, t->slot);
        if (host_of[g] == IN_MEMORY)
            store_guest(t, g, dst);
        if (restore)
            emit_restore_flags(e);
        if (g != RSP)
            emit_move_stack(t, t->slot);
        end_access(t, s);
        return;
    }
    case HOW_LEAVE: {
        a = (struct address){ .base = RBP, .index = 0xff, .seg = SS, .asize = t->sp, .disp = 0 };
        s = begin_access(t, &a, t->slot, false, &o, &restore);
        e_rm(e, 0x8b, T0, o.base, o.index, o.scale, o.disp, t->slot);
        e_rm(e, 0x8d, H_SP, RBP, NONE, 0, t->slot, t->sp);
        e_rr(e, 0x8b, RBP, T0, t->slot);
        if (restore)
            emit_restore_flags(e);
        end_access(t, s);
        return;
    }
    case HOW_STAC:
    case HOW_CLAC:
    case HOW_CLI:
    case HOW_STI:
    case HOW_SWAPGS:
    case HOW_RDTSC:
    case HOW_PUSHF:
    case HOW_POPF:
        translate_system(t, i);
        return;
    case HOW_CALL:
        if (ctx_changed(t)) { /* its return would find a caller in another context */
            emit_fallback(t);
            return;
        }
        emit_call(t, region_target(t->r, i), next);
        return;
    case HOW_CALL_IND:
    case HOW_JMP_IND:
        if (i->how == HOW_CALL_IND && ctx_changed(t)) {
            emit_fallback(t);
            return;
        }
        if (d->has_mem) {
            if (!address_of(t->r, i, &a)) {
                emit_fallback(t);
                return;
            }
            const bool saved = live(t, t->pos);
            if (i->how == HOW_JMP_IND) {
                s = begin_access(t, &a, t->slot, false, &o, &restore);
                if (s)
                    s->back = t->j->exit; /* the handler has set RIP; it does not fall through */
            } else {
                if (saved)
                    emit_save_flags(e);
                s = emit_probe(t, &a, t->slot, false, saved, &o);
                check(t, &o, t->slot, false);
                s->back = t->j->exit;
                restore = false;
            }
            emit_load_zx(t, &o, t->slot);
            if (restore)
                emit_restore_flags(e);
            if (i->how == HOW_CALL_IND) {
                e_gs(e, 0x89, T0, OFF(jit_tmp2), 8);
                a = stack_at(t, -t->slot);
                s = emit_probe(t, &a, t->slot, true, saved, &o);
                check(t, &o, t->slot, true);
                s->back = t->j->exit;
                if ((fits32(next) || t->slot < 8) && !t->r->reloc) {
                    emit_store_imm(t, &o, (u32)next);
                } else {
                    emit_rip(t, o.free, next);
                    e_rm(e, 0x89, o.free, o.base, o.index, o.scale, o.disp, 8);
                }
                if (saved)
                    emit_restore_flags(e);
                emit_move_stack(t, -t->slot);
                emit_give(t);
                emit_from(t);
                emit_leave_delta(t);
                e_gs(e, 0x8b, T0, OFF(jit_tmp2), 8);
                e_call_rel(e, t->j->lookup[t->s.ctx]);
            }
        } else if (i->how == HOW_CALL_IND) {
            const unsigned g = d->rm;
            /* the target may be RSP itself: before it moves */
            load_guest(t, T0, g);
            if (t->w == 2)
                e_rr(e, t->slot == 2 ? 0x0fb7 : 0x8b, T0, T0, 4);
            e_gs(e, 0x89, T0, OFF(jit_tmp2), 8);
            emit_push(t, NONE, NONE, next, t->r->reloc);
            have_flags(t, T0);
            emit_give(t);
            emit_from(t);
            emit_leave_delta(t);
            e_gs(e, 0x8b, T0, OFF(jit_tmp2), 8);
            e_call_rel(e, t->j->lookup[t->s.ctx]);
        } else {
            load_guest(t, T0, d->rm);
            if (t->w == 2)
                e_rr(e, t->slot == 2 ? 0x0fb7 : 0x8b, T0, T0, 4);
        }
        if (i->how == HOW_CALL_IND)
            return;
        have_flags(t, T1);
        emit_give(t);
        emit_from(t);
        e_jmp(e, ctx_changed(t) ? t->j->lookup_reset[t->s.ctx] : t->j->lookup[t->s.ctx]);
        return;
    case HOW_RET:
        a = stack_at(t, 0);
        s = begin_access(t, &a, t->slot, false, &o, &restore);
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
        return;
    case HOW_STOP:
    case HOW_FALLBACK:
        emit_fallback(t);
        return;
    }
}

/* ---- blocks ------------------------------------------------------------------------------------- */

/* Does state s promise all that `wanted` relies on? */
static bool implies(const struct state *s, const struct state *wanted)
{
    if (s->ctx != wanted->ctx)
        return false;
    for (unsigned k = 0; k < wanted->n; k++) {
        const struct group *w = &wanted->g[k];
        bool have = false;
        for (unsigned n = 0; n < s->n && !have; n++) {
            const struct group *g = &s->g[n];
            have = g->slot == w->slot && same_key(g, w) && (is_constant(w) || (g->lo <= w->lo && g->hi >= w->hi)) &&
                   g->write >= w->write;
        }
        if (!have)
            return false;
    }
    return true;
}

/* No more room for several versions. */
static bool crowded(const struct tr *t)
{
    return t->ntinsn > TINSNS - REGION_INSNS || t->e.p - t->t->entry > JIT_REGION_MAX / 4;
}

/* The version of block b to go to from here; made if none fits well. */
static unsigned choose(struct tr *t, unsigned b)
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
        if (t->nversions[b] == VERSIONS) { /* cannot be: the last has no promises */
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

/* To block b if it is in the region, else out; where that is the next thing written, nothing. Returns whether to go on
   writing (b, k). */
static bool flow_to(struct tr *t, s16 b, u64 rip, unsigned *k)
{
    if (b < 0) {
        emit_exit(t, rip, -1);
        return false;
    }
    *k = choose(t, (unsigned)b);
    if (t->failed)
        return false;
    if (t->version[b][*k].code) {
        jump_to(t, (unsigned)b, *k, -1);
        return false;
    }
    return true;
}

static void write_block(struct tr *t, unsigned b, unsigned k)
{
    struct emit *e = &t->e;
    struct region *r = t->r;
    for (;;) {
        const struct rblock *q = &r->block[b];
        if (t->version[b][k].code || t->failed)
            return;
        t->version[b][k].code = here(e);
        t->s = t->version[b][k].s;
        t->flags_away = false;
        t->t1_slot = -1;
        t->block = b;
        if (q->header)
            emit_poll(t, region_rip(r, q->off), live(t, q->first), false);
        count_block(t, q->n);
        const struct rinsn *i = NULL;
        for (unsigned n = 0; n < q->n; n++) {
            t->pos = q->first + n;
            i = &r->insn[r->order[t->pos]];
            if (t->ntinsn == TINSNS || emit_full(e) || e->p - t->t->entry > JIT_REGION_MAX / 2) {
                fail(t);
                return;
            }
            struct tinsn *x = &t->tinsn[t->ntinsn++];
            *x = (struct tinsn){ (u16)(e->p - t->t->entry), i->off, i->d.len, false };
            copy_bytes(t->bytes + t->nbytes, i->d.bytes, i->d.len);
            t->nbytes += i->d.len;
            if (!live(t, t->pos))
                t->flags_away = false;
            else if (!leaves_flags(i))
                have_flags(t, T0);
            prepare(t);
            translate_one(t, i);
            if (t->failed)
                return;
            x->flags_away = t->flags_away;
            carry_state(t, i);
        }
        if (q->live_out)
            have_flags(t, T0);
        const u64 next = region_to(r, region_rip(r, i->off) + i->d.len), jump = region_target(r, i);
        unsigned to;
        s16 on = q->next;
        switch (i->how) {
        case HOW_STOP: /* where it falls through after all */
            emit_exit(t, next, -1);
            return;
        case HOW_JMP_IND:
        case HOW_RET:
            return;
        case HOW_JMP:
            on = q->taken;
            if (!flow_to(t, on, jump, &to))
                return;
            break;
        case HOW_LOOP: { /* JRCXZ reaches only so far */
            const unsigned op = i->d.opcode;
            const bool cx = i->d.asize == 2; /* which no jump looks at by itself: all of RCX is to be had back from T1 */
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
            if (q->taken < 0) {
                emit_exit(t, jump, -1);
            } else {
                const unsigned v = choose(t, (unsigned)q->taken);
                jump_to(t, (unsigned)q->taken, v, -1);
            }
            t->s = keep;
            over[-1] = (u8)(e->p - over);
            if (over2)
                over2[-1] = (u8)(e->p - over2);
            if (cx)
                e_mov(e, RCX, T1);
            if (!flow_to(t, on, next, &to))
                return;
            break;
        }
        case HOW_JCC:
            if (q->taken < 0)
                emit_exit(t, jump, i->d.opcode & 15);
            else
                jump_to(t, (unsigned)q->taken, choose(t, (unsigned)q->taken), i->d.opcode & 15);
            if (t->failed || !flow_to(t, on, next, &to))
                return;
            break;
        case HOW_CALL:
        case HOW_CALL_IND:
            if (ctx_changed(t)) {
                emit_exit(t, next, -1);
                return;
            }
            emit_landing(t, next);
            if (!flow_to(t, on, next, &to))
                return;
            break;
        default:
            if (!flow_to(t, on, next, &to))
                return;
        }
        b = (unsigned)on;
        k = to;
    }
}

static void write_slow(struct tr *t, const struct slow *s)
{
    struct emit *e = &t->e;
    e_fix(e, s->at, here(e));
    if (s->watched) {
        if (s->constant) { /* as the other probes leave it */
            const u32 slot = (u32)((s->lin >> 12) & (TLB_SIZE - 1)) * (u32)sizeof(struct tlb_entry);
            e_mov_imm(e, T1, slot);
            e_mov_imm(e, T0, s->lin);
            e_gs_r11(e, 0x33, T0, OFF(tlbs) + s->ctx * (u32)sizeof t->v->tlbs[0] + (u32)offsetof(struct tlb_entry, write));
        }
        e_gs_imm(e, OFF(jit_span), s->watched);
        e_call_rel(e, t->j->watched[s->ctx]);
        e_fix(e, e_jcc(e, CC_AE), s->found);
    }
    if (s->beyond)
        e_fix(e, s->beyond, here(e));
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

/* ---- registers of a region ------------------------------------------------------------------------ */

/* The general registers an instruction names. */
static u32 named(const struct rinsn *i)
{
    const struct decoded *d = &i->d;
    const struct opdesc *o = d->desc;
    u32 w = written_or_stack(i) | o->gpr_read;
    if (o->reg.size)
        w |= BIT(gpr_named(d, d->reg, o->reg.size));
    if (o->rm.size && !d->has_mem)
        w |= BIT(gpr_named(d, d->rm, o->rm.size));
    if (o->vvvv.size)
        w |= BIT(d->vvvv & 15);
    if (d->has_mem && d->base < 16)
        w |= BIT(d->base);
    if (d->has_mem && d->index < 16)
        w |= BIT(d->index);
    return w;
}

/* Guest registers that live in memory between regions take the place of such that matter less here, where that pays for
   the moves at every way in and out. */
static void choose_map(struct tr *t)
{
    static const u8 outside[] = { R9, R10, R11 }, victims[] = { R15, R14, R13, R12, R8, RDI, RSI };
    const struct region *r = t->r;
    u64 weight[16] = { 0 }, ways = 0;
    copy_bytes(t->map, jit_home, 16);
    t->nswaps = 0;
    if (!t->loops)
        return;
    u8 depth[REGION_BLOCKS];
    zero_bytes(depth, sizeof depth);
    for (unsigned b = 0; b < r->nblocks; b++) {
        const struct rblock *k = &r->block[b];
        if (k->taken < 0 || r->block[k->taken].off >= k->end)
            continue;
        for (unsigned c = 0; c < r->nblocks; c++) /* what lies between a loop's head and its end */
            if (r->block[c].off >= r->block[k->taken].off && r->block[c].off <= k->off && depth[c] < 3)
                depth[c]++;
    }
    for (unsigned b = 0; b < r->nblocks; b++) {
        const struct rblock *k = &r->block[b];
        const u64 times = 1ull << 3 * depth[b];
        for (unsigned n = 0; n < k->n; n++) {
            const struct rinsn *i = &r->insn[r->order[k->first + n]];
            const u32 w = named(i);
            for (unsigned g = 0; g < 16; g++)
                weight[g] += w >> g & 1 ? times : 0;
            if (i->how == HOW_FALLBACK || i->how == HOW_STOP)
                ways += 2 * times;
        }
        const unsigned last = r->insn[r->order[k->first + k->n - 1]].how;
        if (last == HOW_CALL || last == HOW_CALL_IND)
            ways += 2 * times;
    }
    ways += 4;
    for (unsigned n = 0; n < ARRAY_SIZE(outside); n++) {
        unsigned g = 16, best = 16;
        for (unsigned k = 0; k < ARRAY_SIZE(outside); k++)
            if (t->map[outside[k]] == IN_MEMORY && (g == 16 || weight[outside[k]] > weight[g]))
                g = outside[k];
        for (unsigned k = 0; k < ARRAY_SIZE(victims); k++)
            if (t->map[victims[k]] != IN_MEMORY && (best == 16 || weight[victims[k]] < weight[best]))
                best = victims[k];
        if (g == 16 || best == 16 || weight[g] < weight[best] + 2 * ways)
            return;
        t->swap[t->nswaps].guest = (u8)g;
        t->swap[t->nswaps++].victim = (u8)best;
        t->map[g] = jit_home[best];
        t->map[best] = IN_MEMORY;
    }
}

static struct trans *translate(struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page, const u8 *page2,
                               enum jit_kind kind, unsigned most)
{
    struct jit *j = v->jit;
    struct region *r = &j->region;
    const u64 place = b->place, rip = v->rip - delta;
    r->rip = rip;
    r->delta = delta;
    r->reloc = jit_relocatable(v);
    r->place = place & ~0xfffull;
    r->crossing = page2 ? b : NULL;
    r->page2 = page2;
    r->most = most;
    r->whole = kind == JIT_KIND_WHOLE;
    r->careful = kind == JIT_KIND_CAREFUL;
    if (!region_find(r, v, page))
        return NULL;
    struct tr *t = j->workspace;
    struct jit_segment *seg = &j->seg[j->open];
    const u32 data_mark = seg->data;
    struct trans *x = jit_data(j, sizeof *x);
    zero_bytes(x, sizeof *x);
    const u64 lin = jit_lin(r->cs, rip) & ~0xfffull;
    x->rip = rip;
    x->cs = r->cs;
    x->place = place;
    x->reloc = r->reloc;
    x->merged = r->whole;
    x->place2 = b->place2;
    x->gen2 = b->gen2;
    if (page2)
        x->page_id2 = jit_page_id(j, lin + 4096, b->place2, v->cpl == 3);
    x->key = r->key;
    x->gen = r->gen;
    x->serial = ++j->serial;
    x->page_id = jit_page_id(j, lin, place & ~0xfffull, v->cpl == 3);
    t->v = v, t->j = j, t->r = r, t->t = x;
    /* With more processors another may decode what lies there just before the store. 64-bit systems keep code by itself. */
    t->watched = v->vm->cfg.cpus == 1 && v->bits != 64;
    t->e = (struct emit){ j->rw + align_up(seg->code, 16), j->rw + seg->code_end, j->rx - j->rw };
    j->data_in_code.n = 0;
    t->e.data = v->vm->cfg.trace ? &j->data_in_code : NULL;
    x->entry = t->e.p;
    t->failed = false;
    t->w = v->bits / 8;
    t->sp = r->key & JIT_OTHER_STACK ? 6 - t->w : t->w;
    t->next_slot = 0;
    t->ntodo = t->nslow = t->nfixup = t->nout = t->ntinsn = t->nlink = t->nbytes = 0;
    t->loops = false;
    t->counts = (struct emit_counts){ 0 };
    for (unsigned k = 0; k < r->nblocks; k++) {
        t->nversions[k] = 0;
        t->loops |= r->block[k].header;
    }
    t->moved = 0;
    for (unsigned k = 0; k < r->ninsns; k++)
        t->moved |= written_or_stack(&r->insn[k]);
    choose_map(t);
    struct emit *e = &t->e;
    x->code = here(e);

    /* The entry: five bytes that a jump can replace at once. */
    e1(e, 0x0f), e1(e, 0x1f), e1(e, 0x44), e1(e, 0x00), e1(e, 0x00);
    const unsigned first = (unsigned)r->block_at[region_off(r, rip)];
    if (!r->block[first].header)
        emit_poll(t, rip, r->live[r->block[first].first], true);
    emit_take(t);
    if (page2)
        emit_page2_check(t, rip);
    t->s = (struct state){ .n = 0, .ctx = (u8)r->ctx };
    choose(t, first);
    for (unsigned n = 0; n < t->ntodo && !t->failed; n++)
        write_block(t, t->todo[n].block, t->todo[n].version);
    t->s.ctx = (u8)r->ctx;
    count_block(t, 0);
    x->slow_code = (u32)(e->p - x->entry);
    for (unsigned n = 0; n < t->nfixup; n++)
        e_fix(e, t->fixup[n].at, t->version[t->fixup[n].block][t->fixup[n].version].code);
    for (unsigned n = 0; n < t->nslow && !emit_full(e); n++)
        write_slow(t, &t->slow[n]);
    for (unsigned n = 0; n < t->nout && !emit_full(e); n++)
        write_way_out(t, &t->out[n]);
    if (t->nswaps) {
        x->convert = here(e);
        emit_give(t);
        e_jmp(e, j->fault);
    }
    x->retired_code = (u32)(e->p - x->entry);
    emit_rip(t, T0, rip);
    e_jmp(e, j->miss);
    x->size = (u32)(e->p - x->entry);
    const u64 need = t->ntinsn * sizeof(struct tinsn) + t->nlink * sizeof(struct link) + t->nbytes + 64;
    if (t->failed || emit_full(e) || x->size > JIT_REGION_MAX || seg->data + need > seg->data_end ||
        soft_code_watch(v, place, 1) != r->gen ||
        (page2 && (!x->page_id2 || soft_code_watch(v, b->place2, 1) != b->gen2))) {
        seg->data = data_mark;
        return NULL;
    }
    x->ntinsns = t->ntinsn;
    x->tinsn = jit_data(j, t->ntinsn * sizeof(struct tinsn));
    copy_bytes(x->tinsn, t->tinsn, t->ntinsn * sizeof(struct tinsn));
    x->nlinks = t->nlink;
    x->link = jit_data(j, t->nlink * sizeof(struct link));
    copy_bytes(x->link, t->link, t->nlink * sizeof(struct link));
    for (u32 n = 0; n < x->nlinks; n++)
        x->link[n].from = x;
    x->bytes = jit_data(j, t->nbytes);
    copy_bytes(x->bytes, t->bytes, t->nbytes);
    seg->code = (u32)(e->p - j->rw);
    jit_add(j, x);
    return x;
}

struct trans *jit_translate(struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page, const u8 *page2,
                            enum jit_kind kind)
{
    struct trans *t = NULL;
    /* What does not fit is cut smaller. Careful code is soon to be left again. */
    for (unsigned most = kind == JIT_KIND_CAREFUL ? CAREFUL_INSNS : REGION_INSNS; !t && most >= 4; most /= 4)
        t = translate(v, b, delta, page, page2, kind, most);
    return t;
}
