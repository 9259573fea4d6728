/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft.h - inside the software engine: one processor, its decoded code, its TLB,
 * and the conventions its instruction handlers keep.
 *
 * A handler executes one instruction:  void op(struct soft_vcpu *v, const struct insn *i).
 * It ends in one of three ways:
 *   NEXT(v, i)       tail-calls the next instruction of the block: the ordinary end;
 *   v->rip = ...; return   leaves the block: jumps, and whatever changes mode, mapping, IF, TF
 *                    (END_BLOCK(v, i) sets RIP past the instruction and returns);
 *   soft_raise(...)  a fault: does not return; RIP is that of the instruction. So a handler commits
 *                    nothing (register, flag, memory) before its last possible fault.
 * v->rip is stale while a block runs: use RIP_START / RIP_NEXT.
 *
 * VECTORS. While v->vec_live the host's vector and x87 registers hold the guest's. All files of this
 * folder are therefore built with general registers only, and call nothing outside it (no libc: no
 * memcpy, memset, printf, pthread) unless through a function marked `gate`, which first calls
 * soft_vec_save(). tests/soft_symbols checks the undefined symbols against a list. Files that are gates
 * wholly (engine.c, system-side helpers) are named *_gate.c and built like any other.
 * Use copy_bytes / zero_bytes below for memory.
 *
 * Threads: everything here is the vCPU's own thread but `request` (atomic) and struct soft_vm.
 */
#ifndef LODGE_ENGINE_SOFT_SOFT_H
#define LODGE_ENGINE_SOFT_SOFT_H

#include <setjmp.h>

#include "base/base.h"
#include "base/spin.h"
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "engine/soft/decode.h"
#include "engine/soft/tlb.h"

struct soft_vcpu;
struct insn;
typedef void soft_fn(struct soft_vcpu *v, const struct insn *i);

/* ---- registers ---------------------------------------------------------- */

/* Register operands in struct insn are byte offsets into soft_vcpu.gpr, so that AH is RAX's offset + 1. */
#define REG_OFF(n) ((u8)((n) * 8))
#define REG_ZERO 16 /* always 0: absent base or index */
#define REG_BLOCK 17 /* RIP of the running block's first instruction: base of RIP-relative operands */

/* How an insn's memory operand forms its linear address. */
enum insn_seg {
    /* 0-5 (enum seg_reg): legacy and compatibility mode: base, limit and rights are checked */
    ISEG_FLAT = 6, /* long mode ES CS DS: base 0; a non-canonical address is #GP */
    ISEG_FLAT_SS,  /* long mode SS: base 0; non-canonical is #SS */
    ISEG_FS,       /* long mode with a base */
    ISEG_GS,
    ISEG_COUNT
};

struct insn {
    soft_fn *fn;
    u64 imm;  /* immediate, or a pointer (native stub) */
    s64 disp; /* memory operand; RIP-relative: from REG_BLOCK */
    u8 reg, rm; /* register operands, as byte offsets (REG_OFF; byte registers: +1 for AH-BH) */
    u8 base, index; /* byte offsets; REG_OFF(REG_ZERO) if absent */
    u8 scale;       /* log2 */
    u8 ashift;      /* 0, 32, 48: 64 - address size */
    u8 seg;         /* enum insn_seg */
    u8 len;
    u16 off; /* of the instruction from the block's first byte */
    u8 size; /* operand size in bytes */
    u8 rep;  /* 0, F2, F3 */
    u8 lock;
    u8 aux, aux2, aux3; /* the handler's own */
};

/* ---- accesses ------------------------------------------------------------ */

enum access { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_EXEC = 2, ACCESS_IMPLICIT = 4 /* supervisor whatever the CPL: descriptor tables, TSS */,
              ACCESS_RMW = 8 | 1 /* read, then written: what bounces is fetched first; a plain ACCESS_WRITE is not */,
              ACCESS_PART = 16 /* of an operand whose alignment was looked at or does not matter */ };

/* ---- decoded code ------------------------------------------------------- */

enum { BLOCK_MAX_INSNS = 64, JC_BITS = 15, JC_SIZE = 1 << JC_BITS };
struct block;
struct jc_entry { /* code segment and RIP to block; valid while key == soft_vcpu.jc_key */
    u64 name, key; /* soft_code_name() */
    struct block *block;
};

/* Translated code by RIP's low bits, one table a TLB context. Cleared when mappings change. */
enum { JCT_BITS = 15, JCT_SIZE = 1 << JCT_BITS };
enum { JIT_PAGE_IDS = 1 << 16 };
struct trans;
struct jct_entry {
    u64 minus_rip;   /* what added to the RIP is 0; JCT_NONE(index): unused */
    u64 code, delta; /* where that executes, and with what tr.delta */
    struct trans *trans; /* whose it is; NULL: unused */
};
_Static_assert(sizeof(struct jct_entry) == 32, "the lookup shifts by 5");
/* Of another index, so that no RIP that is looked up there has it. */
#define JCT_NONE(index) ((index) ? 0ull : 1ull)
struct link;

/* Why the handler of an instruction of translated code was called. */
enum soft_handled {
    HANDLED_UNTRANSLATED, /* it has no translation */
    HANDLED_SLOW,         /* its access is not of open RAM, or (STI, POPF) a request waits */
    HANDLED_SPLIT,        /* a probe for several accesses failed for good */
    HANDLED_FAULT,        /* it faults */
    HANDLED_COUNT
};
enum soft_flush { FLUSH_CR3, FLUSH_CR3_KEPT, FLUSH_INVLPG, FLUSH_INVPCID, FLUSH_RIGHTS, FLUSH_ALL, FLUSH_COUNT };

struct soft_stat { /* the figures of one processor (report_gate.c) */
    u64 blocks, insns, steps;      /* the interpreter's; steps: looked at one by one */
    u64 enter, refill;             /* translated code: entered from the run loop; probes for several accesses that failed */
    u64 careful;                   /* of those: gone round in careful code */
    u64 jit_blocks, jit_insns, jit_probes, jit_accesses; /* counted by translated code if engine_config.count */
    u64 handled[HANDLED_COUNT][MNEMONIC_COUNT];
    u64 walk, walk_whole, fetch_walk, crossing, watched, overwritten; /* of accesses; of them, without psc; of fetches */
    u64 mmio_read, mmio_write, port_in, port_out, msr, cpuid;
    u64 flush[FLUSH_COUNT];
    u64 forgot;                    /* times what RIPs lead to was forgotten */
    u64 vector[256];               /* exceptions and interrupts delivered */
    u64 waits, wait_ns, run_ns;
};

/* ---- a processor -------------------------------------------------------- */

enum { JC_DENIED = 1 << 7 }; /* in soft_vcpu.jc_key: some vector or x87 instructions are denied the guest */

enum soft_request { /* bits of soft_vcpu.request */
    REQ_KICK = 1 << 0, REQ_INTR = 1 << 1, REQ_NMI = 1 << 2, REQ_INIT = 1 << 3, REQ_SIPI = 1 << 4,
    REQ_FLUSH = 1 << 5, /* drop writable TLB entries (another vCPU decoded code, dirty log taken) */
    REQ_RESET_CACHES = 1 << 6,
    REQ_REMAP = 1 << 8, /* what guest-physical addresses mean changed: memory.h's changed, the A20 gate */
    REQ_NMI2 = 1 << 7, /* a second NMI came before the first was taken: one is served while one is latched */
};
enum soft_slow { /* why instructions run one at a time (soft_vcpu.slow) */
    SLOW_TF = 1 << 0, SLOW_DR = 1 << 1, SLOW_TRACE = 1 << 2, SLOW_SHADOW = 1 << 3, SLOW_SMC = 1 << 4, SLOW_RF = 1 << 5,
};
enum { /* soft_vcpu.fpu_deny: why an instruction class faults; recomputed by soft_update_fpu() */
    DENY_X87 = 1 << 0, /* CR0.EM or TS: #NM */
    DENY_MMX = 1 << 1, /* TS: #NM, EM: #UD */
    DENY_SSE = 1 << 2, /* EM or !OSFXSR: #UD, TS: #NM */
    DENY_AVX = 1 << 3, /* !OSXSAVE or XCR0: #UD, TS: #NM */
    DENY_AVX512 = 1 << 4,
    DENY_WAIT = 1 << 5, /* FWAIT: MP and TS */
};

/* What the translator (translate/translate.h) keeps for a processor. Up to `slot` translated code names it, off GS. */
struct soft_translator {
    struct soft_vcpu *self;
    u64 tmp, tmp2, flags;         /* a moment's use */
    u64 under;                    /* what the last indirect CALL wrote its return address over, should its target be none */
    u64 back;                     /* where to go on after an instruction's handler */
    u64 site;                     /* the way out that was taken and can be linked; 0: none */
    u64 check_at, check_save[12]; /* instrument.c */
    u32 check_size, check_write;
    u64 watch[3];                 /* registers, while a watched page is looked at: stubs.c */
    u32 span;                     /* bytes that it is about */
    u32 from;                     /* where in the code the last jump by register or memory is described; 0: none */
    u64 delta;                    /* of the relocatable code that runs: its RIPs less those it was written for */
    u64 c_sp, base;               /* the stacks of C and, empty, of translated calls */
    u64 on;                       /* the latter, for who goes on elsewhere after an instruction's handler */
    u64 slot[8];                  /* JIT_SLOTS: what to add to guest addresses that were probed for */
    u64 code, code_size, fault_pc;/* for the signal handler: translated code, the place of the fault */
    u64 (*fault)(struct soft_vcpu *v, u64 pc);/* and where it goes on */
    bool next;                    /* the handler fell through */
    bool stayed;                  /* translated code was left where it was entered */
    u8 splits[1 << 10];           /* by hash of the place: how often a probe failed there (jit_careful) */
    struct link *pending;         /* of the way out taken last */
    u64 quiet;                    /* of jit.quiet, when last outside translated code; atomic */
    u64 pending_epoch, epoch;     /* epoch: atomic; of jit.epoch, when last outside translated code; ~0: is outside */
    u8 *stack;
    struct lowered *lowered;
    u32 filled[1 << 15];          /* entries of jct in use, to clear them cheaply: context, index */
    u32 nfilled, nmapped;
    u32 mode[TLB_EMPTY];          /* bits of jit_key() that all of a context's jct is for; TLB_KERNEL: of both supervisor's */
    u64 cs[TLB_EMPTY];            /* and jit_cs() */
    u16 mapped_log[1 << 14];      /* likewise of mapped */
    u64 mapped[JIT_PAGE_IDS];     /* by page number of cache.c: 1 - delta if the code page is mapped as it was when it got the
                                     number, delta further up; else 0 */
    struct { u64 lo, hi, delta; } module[8];/* where relocatable code was found last, and how far from where it was written for */
    u32 modules;                  /* counts those that were noted */
};

/* Guest values behind the last x87 instruction (native.c). */
struct soft_x87 {
    u64 fip, fdp;
    u16 fop, fcs, fds;
};

struct soft_vcpu {
    u64 gpr[18]; /* 0-15, REG_ZERO, REG_BLOCK (= RIP of the block's first instruction) */
    u64 rip;     /* current at block boundaries */
    u64 rflags;  /* complete and current at all times */
    u64 ipmask;  /* FFFF, FFFFFFFF or ~0: how RIP wraps */
    struct tlb_entry *tlb;      /* the context in force: tlbs[ctx] */
    u64 segbase[ISEG_COUNT];    /* linear bases by enum insn_seg */
    u32 request;                /* enum soft_request; atomic */
    u32 poll;                   /* a request came that the run loop has not seen: translated code leaves; atomic */
    u32 slow;                   /* enum soft_slow */
    u32 fpu_deny;
    u8 cpl, bits;               /* code size 16, 32, 64 */
    bool long_mode;             /* EFER.LMA */
    bool protected_mode;        /* CR0.PE and not V86 */
    bool v86;
    bool vec_live;
    u8 tlb_ctx;
    u8 seg_flat;                /* bit by enum seg_reg: base 0, limit 4 GiB, readable and writable */
    u64 seg_end[2][6];          /* [write][enum seg_reg]: offsets below may be accessed so; what is not that simple has 0 */
    bool watch_access;          /* alignment checks or data breakpoints are on: tlb is TLB_EMPTY */
    bool ss32;                  /* SS.B: stack pointer size in 16/32-bit code */
    u64 jc_gen[2];              /* [cpl == 3]: of executable mappings; one a user address space */
    u64 jc_key;                 /* what a jump cache entry must match: jc_gen, JC_DENIED, TLB context, privilege, code mode */
    u64 jc_cs;                  /* what CS's base adds to the name of a RIP; 0 in 64-bit mode */
    u64 jc_limit;               /* of CS; ~0 in 64-bit mode */
    struct block *block;        /* the one that runs */
    struct { u64 place, n; } written[2]; /* what an instruction writes that may be code: soft_code_written_later */
    u64 stack_floor;            /* below it no block follows another without the run loop */

    /* The rest of the architecture: gpr, rip, rflags here are stale while running (kept above). */
    struct cpu_state s;

    struct soft_vm *vm;
    u32 id;
    jmp_buf escape;             /* soft_raise, soft_retry_slow and soft_fail come here */
    struct { bool active; u8 vector; bool has_error; u32 error; } fault; /* being delivered */
    bool has_pending_vector;    /* an interrupt accepted before the state was saved: to be delivered first */
    u8 pending_vector;
    u8 running;                 /* enum running: inside run(), or seen to by another thread */
    u8 sipi_vector;             /* of REQ_SIPI; set by other threads, so not in s, which INIT resets */
    bool sleeping;              /* in soft_wait: a request must wake it */
    struct spin spin;           /* soft_wait's; not with more processors than the host has to spare */
    bool tf_blocked;            /* the instruction entered a handler with TF cleared: no single-step trap after it */
    s8 delivering;              /* vector whose delivery runs, or -1: for double faults */
    u64 tsc_offset;             /* guest TSC = host TSC + tsc_offset */
    u64 db_pending;             /* DR6 bits of debug exceptions due after this instruction */
    u64 isa[4];                 /* features the guest may use, a bit per enum isa */
    struct tlb_entry tlbs[TLB_CTX_COUNT][TLB_SIZE];
    struct jc_entry jc[JC_SIZE];
    struct jit *jit;            /* the translator; NULL: interpret only */
    struct soft_translator tr;
    struct soft_stat stat;
    bool in_string;             /* a string instruction runs: it may overwrite itself and goes on (op_string.c) */
    struct jct_entry jct[TLB_EMPTY][JCT_SIZE];
    struct soft_code *code;     /* blocks.c's own */
    struct soft_native *native; /* native.c's own */
    struct soft_x87 x87;
    u32 pauses;                 /* PAUSE executed */
    enum run_result leave;      /* what soft_fail ends the run with */
    const char *error;          /* set by soft_fail */
    u32 pkru;                   /* the PKRU register; component 9 of s.xsave is stale while running */
    struct soft_mmu mmu;
};

struct soft_vm {
    struct engine_config cfg;
    struct soft_vcpu *vcpu[256];
    struct jit *jit; /* the translator's, shared by the processors; NULL: interpret only */
    u64 *code_lines; /* by page of guest memory (place): bit a 64-byte line that holds decoded code */
    u32 *code_gen;   /* likewise: bumped when code in it is overwritten */
    u32 code_asking[256]; /* by page number: processors between setting lines and asking the others to close the page */
    u64 pages;       /* of guest memory: what both cover */
    u64 a20_mask;    /* atomic: all ones, or without bit 20 */
    u32 split_lock;  /* spin lock for locked accesses that cross a page or touch MMIO */
    u64 tsc_offset;  /* common to the processors: guest TSC = host TSC + this + IA32_TSC_ADJUST */
    bool tsc_set;    /* by a processor's state */
    u8 phys_bits, lin_bits;
    bool vec_eager;  /* save vectors after each vector instruction (sanitizer builds) */
};

/* Any thread. The run loop clears poll, then looks at request. */
static inline void soft_request(struct soft_vcpu *v, u32 bits)
{
    __atomic_fetch_or(&v->request, bits, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->poll, 1, __ATOMIC_SEQ_CST);
}

#define NEXT(v, i) return (i)[1].fn((v), (i) + 1)
#define RIP_START(v, i) (((v)->gpr[REG_BLOCK] + (i)->off) & (v)->ipmask)
#define RIP_NEXT(v, i) (((v)->gpr[REG_BLOCK] + (i)->off + (i)->len) & (v)->ipmask)
#define END_BLOCK(v, i)               \
    do {                              \
        (v)->rip = RIP_NEXT((v), (i)); \
        return;                       \
    } while (0)

#define R64(v, off) (*(u64 *)((char *)(v)->gpr + (off)))
#define R32(v, off) (*(u32 *)((char *)(v)->gpr + (off)))
#define R16(v, off) (*(u16 *)((char *)(v)->gpr + (off)))
#define R8(v, off) (*(u8 *)((char *)(v)->gpr + (off)))

/* Whole-register write of a 1, 2, 4 or 8 byte result: 4 zero-extends, 1 and 2 merge. */
static inline void reg_write(struct soft_vcpu *v, unsigned off, unsigned size, u64 x)
{
    switch (size) {
    case 1: R8(v, off) = (u8)x; break;
    case 2: R16(v, off) = (u16)x; break;
    case 4: R64(v, off) = (u32)x; break;
    default: R64(v, off) = x;
    }
}
static inline u64 reg_read(struct soft_vcpu *v, unsigned off, unsigned size)
{
    return size == 1 ? R8(v, off) : size == 2 ? R16(v, off) : size == 4 ? R32(v, off) : R64(v, off);
}

static inline void copy_bytes(void *d, const void *s, u64 n)
{
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
}
static inline void zero_bytes(void *d, u64 n)
{
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(0) : "memory");
}

/* ---- faults (core.c) -------------------------------------------------- */

/* Ends the instruction with an exception; the machine is as before it. i NULL: RIP is v->rip already. */
_Noreturn void soft_raise(struct soft_vcpu *v, const struct insn *i, unsigned vector);                /* no error code */
_Noreturn void soft_raise_err(struct soft_vcpu *v, const struct insn *i, unsigned vector, u32 error); /* with one */
_Noreturn void soft_raise_pf(struct soft_vcpu *v, const struct insn *i, u64 linear, u32 error);       /* sets CR2 */
/* Ends the run with v->error said: our failure. */
_Noreturn void soft_fail(struct soft_vcpu *v, const char *why);
/* Abandons the instruction before any effect so that it runs again alone (slow |= why). */
_Noreturn void soft_retry_slow(struct soft_vcpu *v, const struct insn *i, enum soft_slow why);

enum event_kind { EVENT_FAULT, EVENT_INTERRUPT, EVENT_NMI, EVENT_SOFT_INT /* INT n, INT3, INTO */, EVENT_ICEBP };
/* Delivers through IVT, IDT, task gate (deliver.c); v->rip is the return address. May raise. Double faults and
   shutdown are the caller's (engine.c). */
void soft_deliver(struct soft_vcpu *v, unsigned vector, enum event_kind kind, bool has_error, u32 error);

/* ---- memory (mmu.c) ----------------------------------------------------- */

/* Linear address of i's memory operand, segment limit and rights checked for size bytes. */
u64 soft_legacy_linear(struct soft_vcpu *v, const struct insn *i, unsigned seg, u64 ea, u64 size, enum access a);
static inline u64 insn_ea(struct soft_vcpu *v, const struct insn *i)
{
    u64 ea = R64(v, i->base) + (R64(v, i->index) << i->scale) + (u64)i->disp;
    return ea << i->ashift >> i->ashift;
}
static inline u64 insn_linear(struct soft_vcpu *v, const struct insn *i, u64 size, enum access a)
{
    u64 ea = insn_ea(v, i);
    if (likely(i->seg >= ISEG_FLAT))
        return ea + v->segbase[i->seg];
    return soft_legacy_linear(v, i, i->seg, ea, size, a);
}
/* The same for an address the handler made: seg is an enum insn_seg (see soft_seg). */
static inline u64 soft_linear(struct soft_vcpu *v, const struct insn *i, unsigned seg, u64 ea, u64 size, enum access a)
{
    if (likely(seg >= ISEG_FLAT))
        return ea + v->segbase[seg];
    return soft_legacy_linear(v, i, seg, ea, size, a);
}
/* enum seg_reg to enum insn_seg in the current mode. */
static inline unsigned soft_seg(const struct soft_vcpu *v, unsigned seg)
{
    if (v->bits != 64)
        return seg;
    return seg == FS ? ISEG_FS : seg == GS ? ISEG_GS : seg == SS ? ISEG_FLAT_SS : ISEG_FLAT;
}

u64 soft_load_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a);
void soft_store_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 value, enum access a);

/* size 1, 2, 4, 8 (constant). Fast path inline; page crossing, MMIO, faults in the slow one. */
static inline u64 soft_load(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size)
{
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (unlikely((lin ^ e->read) > 4096 - size))
        return soft_load_slow(v, i, lin, size, ACCESS_READ);
    const void *p = (const void *)(e->host + lin);
    switch (size) {
    case 1: return *(const volatile u8 *)p;
    case 2: return *(const volatile u16 *)p;
    case 4: return *(const volatile u32 *)p;
    default: return *(const volatile u64 *)p;
    }
}
static inline void soft_store(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 x)
{
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (unlikely((lin ^ e->write) > 4096 - size)) {
        soft_store_slow(v, i, lin, size, x, ACCESS_WRITE);
        return;
    }
    void *p = (void *)(e->host + lin);
    switch (size) {
    case 1: *(volatile u8 *)p = (u8)x; break;
    case 2: *(volatile u16 *)p = (u16)x; break;
    case 4: *(volatile u32 *)p = (u32)x; break;
    default: *(volatile u64 *)p = x;
    }
}

/*
 * A host pointer to size bytes (up to 4096) at lin for the given access, for read-modify-write and native
 * operands. If they lie in one page of RAM that may be accessed directly: the pointer itself, *bounce = false.
 * Else (page crossing, MMIO, ROM write, watched code page): every page is checked, faults are raised, for reads the bytes are
 * fetched into buf (64-byte aligned start + (lin & 63), so alignment faults stay exact) and *bounce = true:
 * the caller then works in buf and for writes calls soft_bounce_out. buf must have room for size + 64.
 */
void *soft_ptr(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a, void *buf, bool *bounce);
void soft_bounce_out(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, const void *data);

/* #AC if the whole operand is misaligned and alignment is checked; for what is then accessed as ACCESS_PART. */
void soft_check_alignment(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size);

/* Checks that size bytes at lin may be accessed, raising the fault if not; no other effect but A/D bits. */
void soft_probe(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 size, enum access a);
/* Is the byte at lin no memory but registers, at *gpa? May raise. */
bool soft_registers(struct soft_vcpu *v, const struct insn *i, u64 lin, enum access a, u64 *gpa);
/* As soft_probe for one page but answers instead of raising. */
bool soft_accessible(struct soft_vcpu *v, u64 lin, enum access a);

/* System structures (descriptors, TSS, IDT, stack of inner level): sup = supervisor access whatever the CPL. */
u64 soft_sys_load(struct soft_vcpu *v, u64 lin, unsigned size);
void soft_sys_store(struct soft_vcpu *v, u64 lin, unsigned size, u64 value);

/* What is remembered of the guest's page tables (tlb.c). */
static inline u16 soft_pcid(const struct soft_vcpu *v) { return v->s.cr4 & CR4_PCIDE ? v->s.cr3 & 0xfff : 0; }
void soft_flush_tlb(struct soft_vcpu *v);                 /* all of it: paging itself changed */
void soft_flush_data(struct soft_vcpu *v);                /* rights of data accesses: WP, protection keys */
void soft_flush_page(struct soft_vcpu *v, u64 lin);       /* INVLPG */
void soft_set_space(struct soft_vcpu *v, u16 pcid, bool keep); /* CR3 was loaded; keep: what the PCID had is still valid */
void soft_flush_space(struct soft_vcpu *v, u16 pcid);     /* a PCID's, but global pages */
void soft_flush_spaces(struct soft_vcpu *v);              /* every PCID's, but global pages */
void soft_forget_code(struct soft_vcpu *v);               /* which code a RIP leads to, everywhere */
/* After CPL, CR0, CR3, CR4, EFER, AC, segment changes: recompute what is derived (mmu.c calls it all). */
void soft_update_mode(struct soft_vcpu *v);    /* bits, ipmask, long_mode, protected_mode, v86, segbase, tlb context */
void soft_update_tlb_ctx(struct soft_vcpu *v); /* only CPL or AC or SMAP changed */
void soft_update_fpu(struct soft_vcpu *v);     /* CR0.EM/TS/MP, CR4.OSFXSR/OSXSAVE, XCR0 changed */
void soft_update_slow(struct soft_vcpu *v);    /* TF, DR7 changed */

/* Guest-physical access: gate. size 1, 2, 4, 8. Of page tables, wherever they are; the others of registers. */
u64 soft_phys_load(struct soft_vcpu *v, u64 gpa, unsigned size);
u64 soft_register_load(struct soft_vcpu *v, u64 gpa, unsigned size);
void soft_phys_store(struct soft_vcpu *v, u64 gpa, unsigned size, u64 value);
/* Many at once, or false: none was done. */
bool soft_phys_run(struct soft_vcpu *v, const struct bus_run *r);

/* ---- flags -------------------------------------------------------------- */

/* POPF/IRET-like change of bits in mask (RF, VM excluded by the caller); keeps slow, TLB context in step. */
void soft_set_rflags(struct soft_vcpu *v, u64 value, u64 mask);

/* ---- lowering: decoded instruction to handler --------------------------- */

/* Each fills in i->fn (and aux fields) and returns true if the instruction is its own.
   The common fields (imm, disp, regs, base, index, scale, ashift, seg, len, size, rep, lock) are set before:
   reg and rm as byte offsets of d->reg and d->rm with AH-BH resolved for byte operands (d->desc->reg.size == 1 ...). */
bool lower_int(struct soft_vcpu *v, const struct decoded *d, struct insn *i);      /* op_int.c, op_arith.c, op_near.c */
bool lower_string(struct soft_vcpu *v, const struct decoded *d, struct insn *i);   /* op_string.c, lead */
bool lower_transfer(struct soft_vcpu *v, const struct decoded *d, struct insn *i); /* transfer.c: far CALL JMP RET, IRET, INT, SYSCALL.. */
bool lower_system(struct soft_vcpu *v, const struct decoded *d, struct insn *i);   /* system.c, control_registers.c, debug_registers.c, segment.c, msr.c */
bool lower_fpu_state(struct soft_vcpu *v, const struct decoded *d, struct insn *i); /* xsave.c, x87_env.c: FXSAVE XSAVE FNSTENV ... */
bool lower_native(struct soft_vcpu *v, const struct decoded *d, struct insn *i);   /* native.c: everything else that runs on the host unit */
soft_fn op_ud;  /* raises #UD */
soft_fn op_end; /* artificial: ends a block, RIP past the previous instruction */
soft_fn op_pause; /* system.c: after many, offers the host's processor to whoever holds what the guest spins for */

/* ---- host unit (native.c, xsave.c) -------------------------------------- */

int must_check soft_native_new(struct soft_vcpu *v); /* gate; 0 or -errno */
void soft_native_free(struct soft_vcpu *v);
/* gate: if vec_live, stores the host's vector and x87 state into v->s.xsave; afterwards C may use the unit. */
void soft_vec_save(struct soft_vcpu *v);
/* Loads v->s.xsave into the host unit if it is not live. */
void soft_vec_load(struct soft_vcpu *v);

/* ---- segments and transfers (segment.c, deliver.c) ----------------------- */

void soft_load_seg(struct soft_vcpu *v, const struct insn *i, unsigned seg, u16 selector); /* MOV/POP/LDS semantics */
/* ---- ports and debug registers (system.c, debug_registers.c) ------------- */

/* IOPL and I/O permission bitmap: #GP(0) if the port may not be touched. */
void soft_check_io(struct soft_vcpu *v, const struct insn *i, u16 port, unsigned size);
u64 soft_port_in(struct soft_vcpu *v, u16 port, unsigned size);                /* gate */
void soft_port_out(struct soft_vcpu *v, u16 port, unsigned size, u64 value);   /* gate */
/* DR6 bits B0-B3 of the instruction breakpoints armed at linear (0: none, or RF holds them off). If not 0, before the
   instruction: v->db_pending |= them, soft_take_db(). */
u64 soft_check_code_bp(struct soft_vcpu *v, u64 linear);
/* Notes matches of data breakpoints in v->db_pending: taken after the instruction. */
void soft_check_data_bp(struct soft_vcpu *v, u64 linear, u64 size, bool write);
/* Folds db_pending (BS for single step included) into DR6 and raises #DB at v->rip. Only if db_pending is not 0. */
_Noreturn void soft_take_db(struct soft_vcpu *v);
/* PKRU changed (WRPKRU, XRSTOR): the TLB is dropped. */
void soft_set_pkru(struct soft_vcpu *v, u32 value);

/* ---- interrupts --------------------------------------------------------- */
/* LAPIC and PIC through engine_machine.interrupt_ack; engine.c */

#endif
