/* SPDX-License-Identifier: Apache-2.0 */
/*
 * translate.h - the binary translator, which makes host code of guest code that runs often.
 *
 * The unit is a region: blocks of one guest page that lead to each other by direct jumps, and are translated together
 * (region.c finds them; translate.c and the files beside it write them). Most instructions are kept as they are; those that
 * must not run on the real machine are replaced. Guest registers live in host registers (below), arithmetic flags in RFLAGS,
 * vectors and x87 in the host's unit. A memory operand becomes a probe of the software TLB and an access through a host
 * pointer; one probe serves all accesses that use the same base registers and lie near each other. What the fast path does
 * not cover (a TLB miss, a register of a device, an access that faults, an instruction without a translation) is done by the
 * interpreter's handler of that one instruction, with the registers stored where the handler expects them (stubs.c). So only
 * the interpreter has to know what every instruction means, and faults are as precise as in the interpreter.
 *
 *   guest  rax rcx rdx rbx rbp rsi rdi r8 r12-r15   the same host register
 *          rsp                                      r9
 *          r9 r10 r11                               in memory, gs:[gpr]
 *   host   r10 r11  scratch      gs  struct soft_vcpu      rsp  the stack of translated calls (soft_vcpu.tr.base)
 *
 * This holds between regions. Inside a region, a guest register that it uses often may have the host register of one that
 * it does not use.
 *
 * A guest CALL is a host CALL, and a guest RET is a host RET with the guest's return address in r10. The code at which the
 * host RET arrives compares r10 with the guest's address that it is for. Everything that leaves translated code empties
 * that stack. Relocatable code (cache.c) runs at RIPs that are tr.delta away from those that it was translated for, and
 * puts tr.delta on the stack before its CALL.
 *
 * A translation is for one RIP, one place in guest memory and one mode (jc_key's low byte). It is valid as long as the
 * generation of its page stays the same (blocks.h). When the guest overwrites the code, the entry of the translation is
 * patched so that it leaves at once. All processors of a VM share the translations (cache.c). A thread that changes them
 * holds jit.lock; a thread that runs them needs no lock.
 */
#ifndef LODGE_ENGINE_SOFT_TRANSLATE_TRANSLATE_H
#define LODGE_ENGINE_SOFT_TRANSLATE_TRANSLATE_H

#include "engine/soft/blocks.h"
#include "engine/soft/translate/emit.h"

enum {
    REGION_INSNS = 256, CAREFUL_INSNS = 32, /* the most instructions of a region; of careful code */
    REGION_BLOCKS = 48,
    JIT_REGION_MAX = 32 << 10, /* the most bytes of host code of a region; offsets in it have 16 bits */
    JIT_SEGMENTS = 8, /* a small cache has 4 */
    JIT_PAGE_BUCKETS = 1 << 14,
    /* Relocatable code is translated for RIPs between FIRST and END. Its homes are STEP apart, and far enough from 0 and
       2 GiB for addresses near them. */
    JIT_HOME_FIRST = 256 << 20, JIT_HOME_END = 1792 << 20, JIT_HOME_STEP = 48 << 20,
    JIT_SLOTS = 8,          /* so many earlier probes may be relied on at one place */
    JIT_STACK = 256 << 10,  /* size of the stack of translated calls in bytes */
};

#if defined(JIT_CHECK) && JIT_CHECK
#define JIT_RELOC_FROM (64ull << 10) /* the code of the tests lies at low addresses */
#else
#define JIT_RELOC_FROM (1ull << 32)
#endif
#define JIT_RELOC_END ((1ull << 47) - (4ull << 30))

/* A way out of a translation to another one, which need not exist yet when the first is written. */
struct link {
    u64 rip;             /* where it leads */
    u32 key;
    u32 jump;        /* the place of the rel32 to patch, from the start of the code */
    u32 unlinked;    /* where that jump goes while it is not linked, from the start of the code */
    u32 check;       /* the place of the disp32 of the mapping check, if it leads to another page; else 0 */
    bool forward;        /* it leads to a higher RIP than it comes from */
    bool door;           /* of a translation that is but a way into another: it goes with that one */
    u64 quiet;           /* the value of jit.quiet when it was last unlinked; 0: it was never linked */
    struct trans *from, *to;
    struct link *next, **prev; /* the list of the links to the same translation; there may be thousands */
};

/* One guest instruction of a translation. */
struct tinsn {
    u16 host; /* its host code, from the entry */
    u16 off;  /* in the guest page */
    u8 len;
    bool flags_away; /* the guest's flags are in gs:[tr.flags] while it accesses memory */
};

/* A block of a translation that may be entered at any time: nothing is promised to it (struct state). */
struct door {
    u16 off;  /* in the guest page */
    u16 host; /* from the entry */
    bool live, header; /* flags are wanted there; it polls itself */
};

enum { JIT_SWAPS = 3 };
struct swap { /* guest lives where victim lives between regions, and victim lives in memory */
    u8 guest, victim;
};

struct trans {
    /* What a search of a list looks at, together for the host's cache. */
    u64 rip, place;
    u64 cs;          /* jit_cs() */
    u64 place2;      /* the second page of an instruction that crosses pages, and is then the only one; else ~0 */
    u32 key;
    u32 ndoors;
    struct door *door;
    struct trans *hash_next, *page_next;

    u32 gen, gen2;
    u32 page_id2;
    u32 serial;    /* every translation has its own number, which is never used again */
    u32 page_id;   /* see jit_page */
    u8 *entry;     /* writable view */
    u64 code;      /* where it executes */
    u64 convert;   /* the code that puts registers where they are between regions, for a fault; 0: they are there already */
    u32 size;
    u32 retired_code; /* where its entry leads after it was patched, from the entry */
    u32 slow_code;    /* where its slow paths and ways out begin, from the entry */
    u32 ntinsns, nlinks;
    struct tinsn *tinsn; /* by host address */
    u8 *bytes;           /* the bytes of the guest's instructions, in the order of tinsn */
    struct link *link;
    struct link *in;     /* links that lead here */
    /* Where links lead to, from the start of the code: behind the poll, if what polls already bounds the way there. */
    u32 from_below, from_above;
    u8 nswaps;           /* as in struct tr */
    struct swap swap[JIT_SWAPS];
    struct trans *inside; /* it is but a way into that one; or NULL */
    bool reloc;          /* rip, and everything computed from it, is tr.delta away from the guest's */
    bool retired, merged;
    struct trans **page_prev; /* NULL: it is not in the list of its page (inside) */
    struct trans *page2_next, *seg_next;
};

/* Describes a call out of translated code. It stands behind the call and the five bytes of the jump that follows the
   call. */
struct jit_site {
    u32 trans; /* number of the translation: its place in jit.data / 16 */
    u16 insn;  /* number of the instruction in trans.tinsn; for an exit, of the link in trans.link */
    /* Only for a probe for several accesses (run_refill). These lie in span bytes from lo on, relative to the registers. */
    u8 base, index, scale, seg;
    bool write;
    u16 span;
    s32 lo;
    u64 constant;
    bool reloc; /* tr.delta is to be added to constant */
    bool stack; /* it looks at tr.stack_page */
} __attribute__((packed));

struct jit_segment {
    u32 code, code_end; /* where its used part ends, and where it ends, from the start of the code */
    u32 data, data_end; /* the same for its records */
    struct trans *first;
    u32 state; /* enum segment_state */
    u64 epoch; /* while it drains: it is free when every processor has passed this epoch */
};
enum segment_state { SEG_FREE, SEG_OPEN, SEG_FULL, SEG_DRAINING };

struct rinsn {
    u16 off;            /* its offset in the page */
    u8 how;             /* enum how */
    struct decoded d;
};
struct rblock {
    u16 first, n;       /* instructions */
    u16 off, end;       /* where it begins and ends in the page */
    s16 next, taken;    /* the blocks that follow; -1: none, or it is not in the region */
    bool header;        /* a backward jump leads here */
    u32 live_in, live_out;
};
struct region {
    struct soft_vcpu *v;
    u64 rip, place;     /* rip is the guest's, less delta */
    u64 delta;
    bool reloc;
    u64 cs;             /* jit_cs() */
    const u8 *page;     /* the guest's page */
    const struct block *crossing; /* an instruction that reaches into another page, and is then the only one; or NULL */
    const u8 *page2;    /* that page */
    u32 gen;
    u32 key;
    unsigned ctx;
    bool vectors, avx512, user, segmented;
    bool whole;         /* it includes blocks that have translations of their own (join) */
    bool careful;       /* each access has a probe of its own, and nothing jumps backward */
    unsigned most;      /* it has at most so many instructions */
    unsigned ninsns, nblocks;
    u64 known[64];      /* a bit for each byte of the page where a translation can be entered */
    u64 watched;        /* a bit for each line of the page */
    s16 at[4096];       /* the instruction at an offset, or -1 */
    s16 block_at[4096]; /* the block that starts at an offset, or -1 */
    u16 order[REGION_INSNS + REGION_BLOCKS]; /* the blocks' instructions, in their order */
    /* in the same order: the instruction or a later one needs the arithmetic flags */
    bool live[REGION_INSNS + REGION_BLOCKS];
    struct rinsn insn[REGION_INSNS];
    struct rblock block[REGION_BLOCKS];
};
struct jit {
    u32 lock; /* protects everything here except what never changes, such as `lookup` */
    u8 *rw, *rx;
    u64 size;
    u8 *data;
    u64 data_size;
    u64 enter, fallback, fault, exit, exit_link, miss, lookup[TLB_EMPTY], lookup_reset[TLB_EMPTY], sentinel[TLB_EMPTY],
        refill, check, watched[TLB_EMPTY], stack[TLB_EMPTY];
    u32 stubs_end;
    u64 huge; /* the code up to here is in huge pages, or not to be had so */
    struct jit_segment seg[JIT_SEGMENTS];
    u32 nseg, open; /* open: the segment that is written */
    u64 epoch;
    /* counts the changes of which a processor may have seen a part only, until it is outside translated code; atomic */
    u64 quiet;
    u32 serial;
    u32 npages;
    bool crowded;        /* a page got no number */
    /* sweep: unused numbers are free when all processors have passed this epoch; 0: there are none. swept: the value of
       jit.made when they were looked for last */
    u64 sweep, swept;
    struct jit_page { u64 lin, place; } page_id[JIT_PAGE_IDS]; /* a page of code and where it is mapped; open hashing */
    void *workspace;
    /* how often the interpreter runs a block before it is translated; hot_least: the same if the cache were large */
    u16 hot, hot_least;
    /* window: the time at which the costs were last looked at; busy: time spent on translating since then */
    u64 window, busy, window_evicted;
    bool bmi2;
    bool count; /* translated code counts what it does */
    struct emit_data data_in_code; /* of the newest translation, for soft_jit_report */
    /* for each page of guest memory: the page for which relocatable code in it is translated; 0: none yet */
    u32 *home;
    u64 next_home;        /* the home of the next module that has none */
    struct trans **hash; /* by hash_of(), 1 << hash_bits */
    u32 hash_bits;
    struct trans *page[JIT_PAGE_BUCKETS];
    struct trans *page2[JIT_PAGE_BUCKETS]; /* those that have a second page, by that page */
    struct region region; /* the region that is being translated */
    u64 made, made_insns, made_bytes, refused, retired, evicted, links;
};

/* The description of the call that has the return address back. */
static inline const struct jit_site *jit_site_at(u64 back)
{
    return (const struct jit_site *)(back + 5);
}
static inline struct trans *jit_trans_of(const struct jit *j, const struct jit_site *s)
{
    return (struct trans *)(j->data + (u64)s->trans * 16);
}
/* The distance of the guest's RIPs from those of a translation, while it runs. */
static inline u64 jit_delta_of(const struct soft_vcpu *v, const struct trans *t)
{
    return t->reloc ? v->tr.delta : 0;
}
/* The guest's bytes of instruction k. */
static inline const u8 *jit_bytes(const struct trans *t, unsigned k)
{
    const u8 *bytes = t->bytes;
    for (unsigned n = 0; n < k; n++)
        bytes += t->tinsn[n].len;
    return bytes;
}

/* ---- between the run loop and the translator ---- */

/* Runs translated code at v->rip, if there is any; it translates block b if that is hot. False: the caller interprets b. */
bool soft_jit_run(struct soft_vcpu *v, struct block *b);
/* To be called before the block at v->rip, whose bytes begin at place, is decoded. Its translation is looked up next. */
void soft_jit_expect(struct soft_vcpu *v, u64 place);
/* To be called when the processor is outside translated code. Tells the others so, which may then use space again. */
void soft_jit_quiesce(struct soft_vcpu *v);
/* The same, when it will be outside for a long time. */
void soft_jit_idle(struct soft_vcpu *v);
/* Executable mappings changed: forgets where the RIPs of these TLB contexts (a bit for each enum tlb_ctx) lead. */
void soft_jit_clear_lookup(struct soft_vcpu *v, u32 contexts);
/* Code in a page changed. soft_jit_retire_page makes its translations leave when they are entered next, and none is made
   until soft_jit_page_retired is called. Any thread. */
void soft_jit_retire_page(struct soft_vm *vm, u64 page);
void soft_jit_page_retired(struct soft_vm *vm);
/* The native stubs are gone, so the processor forgets its lowered instructions, which lead to them. */
void soft_jit_forget_lowered(struct soft_vcpu *v);
/* Something that all translations assume has changed: none of them is entered again. */
void soft_jit_retire_all(struct soft_vcpu *v);

/* Loads the host's vector registers, unless the guest may not use vectors. Translated code then has no vector
   instruction. */
static inline void jit_vec_load(struct soft_vcpu *v)
{
    if (likely(!(v->jc_key & JC_DENIED)))
        soft_vec_load(v);
}

/* ---- jit_gate.c ---- */

/* Code up to end, from its start, is about to be written. */
void jit_huge(struct soft_vcpu *v, u64 end); /* gate */
int must_check soft_jit_new(struct soft_vm *vm);
void soft_jit_free(struct soft_vm *vm);
int must_check soft_jit_attach(struct soft_vcpu *v);
void soft_jit_detach(struct soft_vcpu *v);
void soft_jit_thread(struct soft_vcpu *v);     /* on the vCPU's thread, before running */
void soft_jit_thread_end(struct soft_vcpu *v); /* and after */

/* ---- among the translator's files ---- */

/* stubs.c */
void jit_stubs(struct jit *j, const u64 *code_lines);
enum { H_SP = R9, T0 = R10, T1 = R11, NONE = 16, IN_MEMORY = 0xff };
extern const u8 jit_home[16]; /* the host register that has a guest register between regions, or IN_MEMORY */
#define OFF(field) ((u32)offsetof(struct soft_vcpu, field))
#define GPR(n)     (OFF(gpr) + 8u * (n))
void emit_save_flags(struct emit *e);
void emit_save_flags_by(struct emit *e, unsigned scratch);
void emit_restore_flags_by(struct emit *e, unsigned scratch);
void emit_restore_flags(struct emit *e);
void emit_flags_from_eax(struct emit *e);
/* The last indirect jump led to an address that is not valid. Raises the fault, which belongs to the jump. */
void jit_bad_target(struct soft_vcpu *v);
u64 soft_jit_lowered_size(void);
/* Called in a signal handler, after a fault of a vector or x87 instruction at pc in translated code: where to go on. */
u64 soft_jit_fault_entry(struct soft_vcpu *v, u64 pc);

/* instrument.c: checks and counts that translated code makes where that was asked for */
struct emit_counts { /* of a block; filled in when the block has been written */
    u8 *probes, *accesses; /* NULL: not counted */
};
/* Emits code that counts a run of the block that begins here. Uses T0. */
struct emit_counts emit_counts(struct emit *e, unsigned insns);
void emit_counts_end(const struct emit_counts *c, u32 probes, u32 accesses);
/* Emits a check that size bytes at [base + (index << scale) + disp], which are accessed next, are the guest's memory. The
   check changes no register and no flag. It emits nothing unless Lodge is built with -Djit_check=true. */
void emit_check(struct emit *e, const struct jit *j, unsigned base, unsigned index, unsigned scale, s32 disp, unsigned size,
                bool write);
void emit_check_stub(struct emit *e);

/* ---- report_gate.c ---- */
void soft_jit_report(struct soft_vcpu *v, const struct trans *t); /* tells the trace about a translation; jit.lock is held */
void soft_jit_report_stubs(struct soft_vm *vm);
_Noreturn void soft_jit_check_failed(struct soft_vcpu *v, u64 host, u64 size, bool write);
void soft_report_vcpu(const struct soft_vcpu *v, void (*tell)(void *ctx, const struct engine_figure *f), void *ctx);
void soft_report_vm(const struct soft_vm *vm, void (*tell)(void *ctx, const struct engine_figure *f), void *ctx);

/* cache.c */
/* The mode that a translation is for: the low byte of jc_key, and what that byte does not say. */
enum { JIT_NO_AVX512 = 1 << 8, JIT_NOT = 1 << 9 /* not translated: CPL 1 or 2, or a code segment that reaches over 4 GiB */,
       JIT_FS_4G = 1 << 10, JIT_GS_4G = 1 << 11 /* 32-bit code in which any address is within FS, GS */,
       JIT_SEGMENTED = 1 << 12 /* 16-bit code, or CS, DS, ES and SS are not all flat, or SS.B is 0 */,
       JIT_OTHER_STACK = 1 << 13 /* SS.B differs from CS.D */,
       JIT_RELOC = 1 << 14 /* relocatable; only translations and links have it, and jit_key() does not */,
       JIT_CAREFUL = 1 << 15 /* goes on where a probe for several accesses failed; only translations have it */ };
u32 jit_key32(const struct soft_vcpu *v);
static inline u32 jit_key(const struct soft_vcpu *v)
{
    const u32 key = (u32)(v->jc_key & 0xff) | (v->fpu_deny & DENY_AVX512 ? JIT_NO_AVX512 : 0);
    if (unlikely(v->cpl == 1 || v->cpl == 2))
        return key | JIT_NOT;
    return likely(v->bits == 64) ? key : key | jit_key32(v);
}
/* The code segment that a translation is for: the base in bits 0 to 31, the limit above it; 0: a flat segment. */
static inline u64 jit_cs(const struct soft_vcpu *v)
{
    const u64 base = v->s.seg[CS].base;
    return likely(v->bits == 64) || (!base && v->jc_limit == 0xffffffff) ? 0 : base | v->jc_limit << 32;
}
static inline u64 jit_lin(u64 cs, u64 rip)
{
    return likely(!cs) ? rip : (u32)(rip + cs);
}
/* The RIP at offset off in the page in which rip is. */
static inline u64 jit_rip_at(u64 cs, u64 rip, unsigned off)
{
    return likely(!cs) ? (rip & ~0xfffull) | off : (u32)((((u32)(rip + cs) & ~0xfffu) | off) - (u32)cs);
}
/* The bits of a key that all entries of a context's lookup table have in common. */
enum { JIT_MODE = ~0xf0 };
/* The second page and the code segment are left out, because code at one place rarely runs with more than one of them. */
static inline unsigned jit_hash_of(const struct jit *j, u64 rip, u64 place, u32 key)
{
    return (unsigned)(((rip ^ place << 20 ^ (u64)key << 52) * 0x9e3779b97f4a7c15ull) >> (64 - j->hash_bits));
}

/* jit_run.c */
/* Returns the translation for v->rip if it can be found without the run loop, or NULL. jct has it from now on. */
struct trans *jit_known(struct soft_vcpu *v);
/* Returns a careful translation for v->rip, which is at place in a page of t, the translation that runs; or NULL. It is made
   if it is needed often. */
struct trans *jit_careful(struct soft_vcpu *v, const struct trans *t, u64 place);
/* cache.c */
bool jit_lock(struct jit *j, bool wait);
void jit_unlock(struct jit *j);
struct trans *jit_find(struct jit *j, u64 rip, u64 place, u64 place2, u32 key, u64 cs);
struct trans *jit_by_code(struct jit *j, u64 pc);
bool jit_relocatable(const struct soft_vcpu *v);
bool jit_room(struct soft_vcpu *v); /* makes room for one more region in the open segment; false: there is none now */
void *jit_data(struct jit *j, u64 n);
void jit_add(struct jit *j, struct trans *t);
void jit_link(struct soft_vcpu *v, struct link *l, struct trans *to);
void jit_unlink(struct jit *j, struct link *l);
/* Notes only that l, which leads nowhere as yet, leads to this one. */
void jit_note_link(struct link *l, struct trans *to);
void jit_retire(struct jit *j, struct trans *t);
/* A translation was made, which began at `since`. Adjusts how often blocks must run before they are translated. */
void jit_watch_cost(struct soft_vcpu *v, u64 since);
u32 jit_page_id(struct jit *j, u64 lin, u64 place, bool user);

/* region.c */
bool region_find(struct region *r, struct soft_vcpu *v, const u8 *page);
/* Only what it says of the mode and the place; it has no instructions. */
void region_empty(struct region *r, struct soft_vcpu *v, const u8 *page);
static inline u64 region_rip(const struct region *r, unsigned off)
{
    return jit_rip_at(r->cs, r->rip, off);
}
/* True if rip lies in the region's page. */
static inline bool region_has(const struct region *r, u64 rip)
{
    return (jit_lin(r->cs, rip) ^ jit_lin(r->cs, r->rip)) < 4096;
}
/* True if t is of the same page and mode. */
static inline bool region_shares(const struct region *r, const struct trans *t)
{
    return (t->place ^ r->place) < 4096 && t->key == r->key && t->cs == r->cs && region_has(r, t->rip);
}
static inline unsigned region_off(const struct region *r, u64 rip)
{
    return jit_lin(r->cs, rip) & 0xfff;
}

/* rip with the bits that RIP has in this mode. */
static inline u64 region_to(const struct region *r, u64 rip)
{
    return rip & r->v->ipmask;
}
/* The target of the direct jump or call i. */
static inline u64 region_target(const struct region *r, const struct rinsn *i)
{
    const u64 to = region_to(r, region_rip(r, i->off) + i->d.len + i->d.imm);
    return i->d.osize == 2 ? to & 0xffff : to;
}

enum how {
    HOW_FALLBACK, /* the interpreter does it, and translated code goes on */
    HOW_STOP,     /* the same, but it ends the block */
    HOW_KEEP, HOW_NOP, HOW_LEA, HOW_PUSH, HOW_PUSH_MEM, HOW_POP, HOW_LEAVE, HOW_X87, HOW_STRING,
    /* in 16-bit code: a selector is stored to a register or memory; a selector, which is just base / 16, is loaded */
    HOW_SEG_STORE, HOW_SEG_LOAD,
    HOW_STAC, HOW_CLAC, HOW_CLI, HOW_STI, HOW_SWAPGS, HOW_RDTSC, HOW_PUSHF, HOW_POPF,
    HOW_CALL, HOW_CALL_IND, HOW_JMP, HOW_JMP_IND, HOW_JCC, HOW_LOOP, HOW_RET,
};
/* region_how.c */
enum how region_how(const struct region *r, const struct decoded *d);
static inline bool how_ends(unsigned how)
{
    return how == HOW_STOP || how >= HOW_CALL;
}

/* translate.c */
enum jit_kind { JIT_KIND_PLAIN, JIT_KIND_WHOLE, JIT_KIND_CAREFUL }; /* `whole` and `careful` of struct region */
/* A way to the code of b in a translation that has it already; NULL: there is none, or no space. It takes the place of a
   translation of its own. */
struct trans *jit_translate_door(struct soft_vcpu *v, const struct block *b, u64 delta);
/* page2: the second page, if b reaches into one */
struct trans *jit_translate(struct soft_vcpu *v, const struct block *b, u64 delta, const u8 *page, const u8 *page2,
                            enum jit_kind kind);
u64 jit_workspace_size(void);
/* region_how.c: the bytes of the explicit memory operand; 0: its size is not fixed */
unsigned memory_size(const struct decoded *d);

#endif
