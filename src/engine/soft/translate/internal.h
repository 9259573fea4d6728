/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - shared by the files that write a region's host code (jit_translate): the translation while it is being
 * written, and what each file does for the others.
 *
 *   translate.c         the region as a whole: its entry, its blocks, and what lies behind them
 *   versions.c          its blocks, each written for what is known where it is entered
 *   region_registers.c  which host register has which guest register
 *   kept.c replaced.c calls.c system_insn.c   one instruction, by family
 *   access.c            how an instruction gets at its memory operand
 *   probe_group.c       which accesses one probe serves
 *   probe.c             the probe
 *   slow_path.c         where to go when the probe fails
 *   way_out.c           how the region is left
 */
#ifndef LODGE_ENGINE_SOFT_TRANSLATE_INTERNAL_H
#define LODGE_ENGINE_SOFT_TRANSLATE_INTERNAL_H

#include "engine/soft/translate/translate.h"

#include "engine/soft/native.h"

enum {
    VERSIONS = 3,
    GROUPS = JIT_SLOTS,
    SLOT_STACK = JIT_SLOTS, /* tr.stack_page has it */
    TINSNS = 3 * REGION_INSNS,
    SLOW_MAX = 2 * TINSNS,
    LINKS_MAX = 6 * REGION_BLOCKS,
};

/* ---- what is known at a point ---------------------------------------------- */

enum { SEG_FLAT = 0xff };

/* A probe that still holds. All bytes from lo to hi, relative to the registers (or the constant), lie in one page.
   tr.slot[slot] is what to add to a guest address to get the host's. */
struct group {
    u8 base, index, scale; /* guest registers, 0xff: none */
    u8 seg;                /* SEG_FLAT, FS, GS */
    u8 slot;
    bool write;
    s32 lo, hi;  /* relative to the registers; hi is exclusive */
    bool reloc;  /* the address is constant, and tr.delta is to be added */
    u64 page;    /* the page of a constant address, for which both registers are 0xff */
};
struct state {
    u8 n, ctx;
    struct group g[GROUPS + 1]; /* a slot each */
};
struct version {
    struct state s;
    u64 code; /* 0: not written yet */
};

struct slow {
    u8 *at;        /* the rel32 that leads here */
    u64 back;      /* where it goes on: behind the instruction, or for a group where the probe begins */
    u16 insn;      /* number of the instruction in trans.tinsn */
    bool flags_saved; /* the flags must be restored before the interpreter runs the instruction */
    bool flags_away;  /* at `back` the flags must be saved again */
    bool group;
    bool stack;       /* of a group whose probe looks at tr.stack_page; it goes on at found if the TLB has the page */
    struct group g;
    u16 watched;      /* the probe is for a store of so many bytes that may be made beside decoded code; 0: it is not */
    u64 found;        /* where such a store goes on */
    u8 ctx;           /* enum tlb_ctx */
    u64 lin;          /* a constant address, whose probe leaves nothing in T0 and T1 */
    bool constant;
    u8 *beyond;       /* a rel32 that leads here without the question `watched`: beyond the segment's limit; or NULL */
};
struct fixup {
    u8 *at;
    u8 block, version;
};
enum { OUT_EXIT, OUT_POLL, OUT_CALL, OUT_FROM };
struct way_out { /* a way out, written behind the blocks */
    int kind; /* OUT_* */
    u8 *at; /* the rel32 that leads here; NULL: none does */
    u64 rip;
    s16 same;         /* an earlier way out that is used instead; -1: none */
    s16 link;         /* number of its link; -1: it goes through the lookup of context ctx */
    u8 ctx;
    u16 insn;
    bool restore_rcx; /* T1 has RCX, since this is a poll that keeps the flags */
    bool at_entry;    /* registers are where they are between regions */
    u64 code;         /* where it was written */
};

struct tr {
    struct emit e;
    struct soft_vcpu *v;
    struct jit *j;
    struct region *r;
    struct trans *t;
    struct state s;   /* what is known at the present place */
    u8 map[16];       /* the host register that has a guest register in this region, or IN_MEMORY */
    struct swap swap[JIT_SWAPS];
    unsigned nswaps;
    bool flags_away;  /* the guest's flags are in gs:[tr.flags], and the host's mean nothing */
    s8 t1_slot;       /* T1 holds this slot; -1: it holds none */
    u8 next_slot;
    bool failed, loops;
    u32 moved;        /* the registers that the region writes */
    u8 w;             /* bytes of an address: 8, 4 or 2 */
    u8 sp;            /* bytes of the stack pointer: w, unless SS.B says otherwise */
    bool watched;     /* a store to a page with decoded code is made by this code if the code is in other lines */
    u8 slot;          /* bytes that the present instruction pushes or pops: w, but in 16-bit code its operand size */
    struct emit_counts counts; /* for the block that is being written, which has so many of them: */
    u32 probes, accesses;
    unsigned block, pos; /* the present instruction: its block, and its index in region.order */
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

#define host_of (t->map)

/* The size of a struct jit_site that does not describe a probe. */
enum { SITE_SHORT = offsetof(struct jit_site, base) };

/* ---- operands ---- */

struct address { /* of the guest; 0xff: no register */
    u8 base, index, scale, seg, asize;
    s64 disp;
    bool constant; /* value is the effective address */
    u64 value;
    bool reloc;    /* tr.delta is to be added to value */
};

/* Where an operand is after its probe: [base + index * 2^scale + disp]. free is the scratch register that is not used for
   it, or NONE. */
struct operand {
    u8 base, index, free;
    s32 disp;
    u8 scale;
};

/* One access of an instruction, described as a group that would serve it. */
struct access_at {
    struct group key; /* base, index, scale, seg, page; write */
    s32 lo, hi;
};

/* ---- small things that all of them need ---- */

static inline void fail(struct tr *t)
{
    t->failed = true;
}
static inline unsigned tinsn_now(const struct tr *t)
{
    return t->ntinsn - 1;
}
static inline u32 trans_number(const struct tr *t)
{
    return (u32)((u64)((u8 *)t->t - t->j->data) / 16);
}
static inline bool fits32(u64 x)
{
    return (u64)(s64)(s32)x == x;
}
static inline bool live(const struct tr *t, unsigned pos)
{
    return t->r->live[pos];
}
static inline void check(struct tr *t, const struct operand *o, unsigned size, bool write)
{
    emit_check(&t->e, t->j, o->base, o->index, o->scale, o->disp, size, write);
}
static inline bool is_constant(const struct group *g)
{
    return g->base == 0xff && g->index == 0xff && g->seg == SEG_FLAT;
}
/* True if the region was entered in another TLB context than the present one. Then it may not return to its callers. */
static inline bool ctx_changed(const struct tr *t)
{
    return t->s.ctx != t->r->ctx;
}
static inline void load_guest(struct tr *t, unsigned host, unsigned g)
{
    if (host == T1)
        t->t1_slot = -1;
    if (host_of[g] == IN_MEMORY)
        e_gs(&t->e, 0x8b, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(&t->e, host, host_of[g]);
}
static inline void store_guest(struct tr *t, unsigned g, unsigned host)
{
    if (host_of[g] == IN_MEMORY)
        e_gs(&t->e, 0x89, host, GPR(g), 8);
    else if (host_of[g] != host)
        e_mov(&t->e, host_of[g], host);
}
static inline struct address stack_at(const struct tr *t, s32 disp)
{
    return (struct address){ .base = RSP, .index = 0xff, .seg = SS, .asize = t->sp, .disp = disp };
}
static inline void emit_move_stack(struct tr *t, s32 by)
{
    e_rm(&t->e, 0x8d, H_SP, H_SP, NONE, 0, by, t->sp);
}
static inline u32 place(const struct tr *t, const u8 *p)
{
    return (u32)(p - t->j->rw);
}

/* translate.c */
void count_block(struct tr *t, unsigned insns);
void translate_one(struct tr *t, const struct rinsn *i);

/* versions.c */
unsigned choose_version(struct tr *t, unsigned b);
void write_block(struct tr *t, unsigned b, unsigned k);

/* region_registers.c */
u32 written_or_stack(const struct rinsn *i);
void choose_map(struct tr *t);
void emit_give(struct tr *t);
void emit_take(struct tr *t);

/* kept.c */
bool translate_kept(struct tr *t, const struct rinsn *i);

/* replaced.c */
void translate_string(struct tr *t, const struct rinsn *i);
void emit_note_x87(struct tr *t, const struct rinsn *i);
void translate_lea(struct tr *t, const struct rinsn *i);
void translate_seg_store(struct tr *t, const struct rinsn *i);
void translate_seg_load(struct tr *t, const struct rinsn *i);

/* calls.c */
void translate_push(struct tr *t, const struct rinsn *i);
void translate_push_mem(struct tr *t, const struct rinsn *i);
void translate_pop(struct tr *t, const struct rinsn *i);
void translate_leave(struct tr *t);
void translate_call(struct tr *t, const struct rinsn *i);
void translate_call_indirect(struct tr *t, const struct rinsn *i);
void translate_jump_indirect(struct tr *t, const struct rinsn *i);
void translate_ret(struct tr *t, const struct rinsn *i);
void emit_landing(struct tr *t, u64 rip);

/* system_insn.c */
void translate_system(struct tr *t, const struct rinsn *i);

/* access.c */
bool leaves_flags(const struct rinsn *i);
void have_flags(struct tr *t, unsigned scratch);
struct slow *begin_access(struct tr *t, const struct address *m, unsigned size, bool write, struct operand *o,
                          bool *restore);
void end_access(struct tr *t, struct slow *s);
void probe_ahead(struct tr *t);
void settle_operand(struct tr *t, struct operand *o);
void emit_load_zx(struct tr *t, const struct operand *o, unsigned size);

/* probe_group.c */
bool carry_group(const struct group *key, const struct rinsn *i, s32 *lo, s32 *hi);
void carry_state(struct tr *t, const struct rinsn *i);
bool access_of(const struct region *r, const struct rinsn *i, struct access_at *a);
bool same_registers(const struct group *a, const struct group *b);
struct group *find_group(struct state *s, const struct access_at *a);
unsigned look_ahead(const struct tr *t, unsigned block, unsigned pos, const struct access_at *a, s32 *lo, s32 *hi,
                    bool *write);
struct slow *make_group(struct tr *t, unsigned block, unsigned pos, const struct access_at *a, bool saved, u64 back);
void use_group(struct tr *t, const struct group *g, const struct access_at *a, struct operand *o);

/* probe.c */
bool address_of(const struct region *r, const struct rinsn *i, struct address *a);
void emit_place(struct tr *t, unsigned reg, u64 x, bool reloc);
static inline void emit_rip(struct tr *t, unsigned reg, u64 rip)
{
    emit_place(t, reg, rip, t->r->reloc);
}
void emit_ea(struct tr *t, const struct address *a);
void operand_by(struct tr *t, u8 base, u8 index, u8 scale, s32 disp, struct operand *o);
struct slow *emit_probe(struct tr *t, const struct address *a, unsigned span, bool write, bool saved,
                        struct operand *o);

/* slow_path.c */
void emit_site(struct emit *e, const struct jit_site *s, unsigned size);
void emit_fallback(struct tr *t);
struct slow *new_slow(struct tr *t, unsigned cc, bool flags_saved);
struct slow *ask_watched(struct tr *t, struct slow *s, unsigned span, bool write);
void write_slow(struct tr *t, const struct slow *s);

/* way_out.c */
struct way_out *new_way_out(struct tr *t, int kind, u64 rip);
struct link *new_link(struct tr *t, u64 rip, s16 *number);
u8 *emit_mapping_check(struct tr *t, struct link *l);
void emit_exit(struct tr *t, u64 rip, int cc);
void write_way_out(struct tr *t, struct way_out *c);
void emit_poll(struct tr *t, u64 rip, bool flags, bool at_entry);
void emit_from(struct tr *t);
void emit_page2_check(struct tr *t, u64 rip);

#endif
