/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft.h - inside the software engine: one processor, its decoded code, its TLB, and the conventions that the handlers of
 * instructions keep.
 *
 * A handler executes one instruction:  void op(struct soft_vcpu *v, const struct insn *i).
 * It ends in one of three ways:
 *   NEXT(v, i)       tail-calls the handler of the block's next instruction. This is the ordinary end.
 *   v->rip = ...; return   leaves the block. Jumps do so, and instructions that change mode, mapping, IF or TF.
 *                    END_BLOCK(v, i) sets RIP past the instruction and returns.
 *   soft_raise(...)  raises a fault and does not return; RIP is that of the instruction. So a handler must not
 *                    change a register, a flag or memory before the last fault that it may raise.
 * v->rip is out of date while a block runs: use RIP_START and RIP_NEXT.
 *
 * VECTORS. While v->vec_live the host's vector and x87 registers hold the guest's. Therefore the
 * files of this folder are built with general registers only. They call nothing outside the folder (no memcpy,
 * memset, printf, pthread or other function of libc), except by a function that is marked `gate` and first calls
 * soft_vec_save(). tests/soft_symbols checks the undefined symbols against a list. Files in which every function
 * is a gate are named *_gate.c and are built like any other. For memory, use copy_bytes and zero_bytes below.
 *
 * Threads: only the vCPU's own thread touches what is here, except for `request` (atomic) and struct soft_vm.
 */
#ifndef LODGE_ENGINE_SOFT_SOFT_H
#define LODGE_ENGINE_SOFT_SOFT_H

#include <pthread.h>
#include <setjmp.h>

#include "base/base.h"
#include "base/spin.h"
#include "cpu/cpu.h"
#include "engine/engine.h"
#include "engine/soft/decode.h"
#include "engine/soft/tlb.h"

struct soft_direct;
struct soft_vcpu;
struct insn;
typedef void soft_fn(struct soft_vcpu *v, const struct insn *i);

/* ---- registers ---------------------------------------------------------- */

/* Register operands in struct insn are byte offsets into soft_vcpu.gpr, so that AH is RAX's offset + 1. */
#define REG_OFF(n) ((u8)((n) * 8))
#define REG_ZERO 16 /* always 0, for an operand that has no base or no index */
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

enum access { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_EXEC = 2, ACCESS_IMPLICIT = 4 /* as supervisor, at any CPL */,
              /* Read and then written: the buffer of soft_ptr is filled first, which it is not for ACCESS_WRITE. */
              ACCESS_RMW = 8 | 1,
              ACCESS_PART = 16 /* a part of an operand; its alignment was checked before, or does not matter */ };

/* ---- decoded code ------------------------------------------------------- */

enum { BLOCK_MAX_INSNS = 64, JC_BITS = 15, JC_SIZE = 1 << JC_BITS };
struct block;
struct jc_entry { /* leads from code segment and RIP to a block; valid while key == soft_vcpu.jc_key */
    u64 name, key; /* soft_code_name() */
    struct block *block;
};

/* Finds translated code by the low bits of RIP. There is a table for each TLB context. It is cleared when mappings
   change. */
enum { JCT_BITS = 15, JCT_SIZE = 1 << JCT_BITS };
enum { JIT_PAGE_IDS = 1 << 16 };
struct trans;
struct jct_entry {
    u64 minus_rip;   /* the RIP, negated; JCT_NONE(index): the entry is unused */
    u64 code, delta; /* the address at which its code executes, and the tr.delta that it needs */
    struct trans *trans; /* the translation that has this code; NULL: unused */
};
_Static_assert(sizeof(struct jct_entry) == 32, "the lookup shifts by 5");
/* The value belongs to another index, so no RIP that is looked up at this index matches it. */
#define JCT_NONE(index) ((index) ? 0ull : 1ull)
struct link;

/* Why the handler of an instruction of translated code was called. */
enum soft_handled {
    HANDLED_UNTRANSLATED, /* it has no translation */
    HANDLED_SLOW,         /* its access is not to RAM that may be accessed directly; or (STI, POPF) a request is waiting */
    HANDLED_SPLIT,        /* a probe for several accesses failed for good */
    HANDLED_FAULT,        /* it faults */
    HANDLED_COUNT
};
enum soft_flush { FLUSH_CR3, FLUSH_CR3_KEPT, FLUSH_INVLPG, FLUSH_INVPCID, FLUSH_RIGHTS, FLUSH_ALL, FLUSH_COUNT };

struct soft_stat { /* the figures of one processor (report_gate.c) */
    u64 blocks, insns, steps;      /* of the interpreter; steps: instructions that ran one at a time */
    /* entries into translated code from the run loop; probes for several accesses that failed */
    u64 enter, refill;
    u64 careful;                   /* how many of those went on in careful code, which probes for each access */
    u64 jit_blocks, jit_insns, jit_probes, jit_accesses; /* counted by translated code if engine_config.count */
    u64 handled[HANDLED_COUNT][MNEMONIC_COUNT];
    /* page walks of accesses; how many of those began at CR3 (without psc); page walks of fetches */
    u64 walk, walk_whole, fetch_walk, crossing, watched, overwritten;
    u64 mmio_read, mmio_write, port_in, port_out, msr, cpuid;
    u64 flush[FLUSH_COUNT];
    u64 forgot;                    /* how often all caches from RIP to code were dropped */
    u64 vector[256];               /* exceptions and interrupts delivered */
    u64 waits, wait_ns, run_ns;
};

/* ---- a processor -------------------------------------------------------- */

enum { JC_DENIED = 1 << 7 }; /* in soft_vcpu.jc_key: the guest may not use some vector or x87 instructions now */

enum soft_request { /* bits of soft_vcpu.request */
    REQ_KICK = 1 << 0, REQ_INTR = 1 << 1, REQ_NMI = 1 << 2, REQ_INIT = 1 << 3, REQ_SIPI = 1 << 4,
    REQ_FLUSH = 1 << 5, /* drop writable TLB entries (another vCPU decoded code, dirty log taken) */
    REQ_RESET_CACHES = 1 << 6,
    REQ_REMAP = 1 << 8, /* guest-physical addresses mean something else now: a region changed (memory.h), or the A20 gate */
    /* a second NMI came before the first was taken. A processor remembers one NMI while it serves another. */
    REQ_NMI2 = 1 << 7,
};
enum soft_slow { /* the reasons to run instructions one at a time (soft_vcpu.slow) */
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

/* In the place of a page, for none: it is not canonical, so the host faults where the guest would, should the guest's stack
   pointer ever lie there (fault_gate.c). */
#define NO_STACK_PAGE 0x6b0d5eed9a73d000ull

/* The translator's part of a processor (translate/translate.h). Translated code reaches the members up to `slot` relative to
   GS. */
struct soft_translator {
    struct soft_vcpu *self;
    u64 tmp, tmp2, flags;         /* for short use inside one piece of host code */
    /* the value that the last indirect CALL overwrote with its return address, put back if the target is no address */
    u64 under;
    u64 back;                     /* the address at which to go on after an instruction's handler */
    u64 site;                     /* the way out that was taken last, if it can be linked to its target; else 0 */
    u64 check_at, check_save[12]; /* instrument.c */
    u32 check_size, check_write;
    u64 watch[3];                 /* registers that are saved during an access to a watched page: stubs.c */
    u32 span;                     /* how many bytes this access has */
    u32 from;                     /* where in the code the description of the last indirect jump is; 0: none */
    u64 delta;                    /* for relocatable code that runs: its RIPs less those that it was translated for */
    u64 c_sp, base;               /* stack pointers: of C, and of translated calls when there are none */
    /* the stack of translated calls, for code that goes on elsewhere after an instruction's handler */
    u64 on;
    /* The page that the stack was in last, for each context: the TLB has it, open for stores (else NO_STACK_PAGE); and
       what to add to its addresses. tlb.c forgets the first, never the second: as with slot, code goes on with it */
    struct { u64 page, host; } stack_page[TLB_EMPTY];
    u64 stack_offset;             /* for short use */
    u64 slot[8];                  /* JIT_SLOTS of them: what to add to a guest address that was probed, to get the host's */
    u64 code, code_size, fault_pc;/* for the signal handler: the range of translated code, and where the fault was */
    u64 (*fault)(struct soft_vcpu *v, u64 pc);/* returns the address at which to go on after the fault */
    bool next;                    /* the handler went on to the next instruction */
    bool stayed;                  /* translated code was left at the instruction at which it was entered */
    u8 splits[1 << 10];           /* how often a probe failed, by a hash of the instruction's place (jit_careful) */
    struct link *pending;         /* the link of the way out that was taken last */
    u64 quiet;                    /* the value of jit.quiet when this vCPU was outside translated code last; atomic */
    /* epoch (atomic): the value of jit.epoch when this vCPU was outside translated code last; ~0: it is outside */
    u64 pending_epoch, epoch;
    u8 *stack;
    struct lowered *lowered;
    /* context and index of the entries of jct that are in use, so that they can be cleared without a search */
    u32 filled[1 << 15];
    u32 nfilled, nmapped;
    /* the bits of jit_key() that all entries of a context's jct have in common; TLB_KERNEL's are for both supervisor
       contexts */
    u32 mode[TLB_EMPTY];
    u64 cs[TLB_EMPTY];            /* likewise jit_cs() */
    u16 mapped_log[1 << 14];      /* the entries of mapped that are in use */
    u64 mapped[JIT_PAGE_IDS];     /* by the page numbers of cache.c: 1 - delta, if the code page is mapped delta bytes above
                                     where it was when it got its number; 0: it is not known to be mapped */
    /* ranges in which relocatable code was found last, and their distance from where it was translated for */
    struct { u64 lo, hi, delta; } module[8];
    u32 modules;                  /* how many were noted so far */
};

/* The guest's pointers to the last x87 instruction and its operand (native.c). */
struct soft_x87 {
    u64 fip, fdp;
    u16 fop, fcs, fds;
};

struct soft_vcpu {
    u64 gpr[18]; /* 0-15, REG_ZERO, REG_BLOCK (= RIP of the block's first instruction) */
    u64 rip;     /* current at block boundaries */
    u64 rflags;  /* complete and up to date at all times */
    u64 ipmask;  /* FFFF, FFFFFFFF or ~0: the bits that RIP has */
    struct tlb_entry *tlb;      /* the context that is in use: tlbs[ctx] */
    u64 segbase[ISEG_COUNT];    /* linear bases by enum insn_seg */
    u32 request;                /* enum soft_request; atomic */
    u32 poll;                   /* a request came that the run loop has not seen, so translated code must leave; atomic */
    u32 slow;                   /* enum soft_slow */
    u32 fpu_deny;
    u8 cpl, bits;               /* code size 16, 32, 64 */
    bool long_mode;             /* EFER.LMA */
    bool protected_mode;        /* CR0.PE and not V86 */
    bool v86;
    bool vec_live;
    u8 tlb_ctx;
    u8 seg_flat;                /* bit by enum seg_reg: base 0, limit 4 GiB, readable and writable */
    /* [write][enum seg_reg]: offsets below this may be accessed; 0 for a segment that needs the slow path */
    u64 seg_end[2][6];
    bool watch_access;          /* alignment checks or data breakpoints are on: tlb is TLB_EMPTY */
    bool ss32;                  /* SS.B: stack pointer size in 16/32-bit code */
    u64 jc_gen[2];              /* [cpl == 3]: a number of the executable mappings; each user address space has its own */
    /* what a jump cache entry must match: jc_gen, JC_DENIED, TLB context, privilege, code mode */
    u64 jc_key;
    u64 jc_cs;                  /* the part of soft_code_name() that comes from CS's base; 0 in 64-bit mode */
    u64 jc_limit;               /* of CS; ~0 in 64-bit mode */
    struct block *block;        /* the block that runs */
    struct { u64 place, n; } written[2]; /* what the instruction writes that may be code: soft_code_written_later */
    /* with less stack than this, a block returns to the run loop and does not call the next one */
    u64 stack_floor;

    /* The rest of the architectural state. Its gpr, rip and rflags are out of date during a run; those above are right. */
    struct cpu_state s;

    struct soft_vm *vm;
    u32 id;
    jmp_buf escape;             /* soft_raise, soft_retry_slow and soft_fail jump here */
    struct { bool active; u8 vector; bool has_error; u32 error; } fault; /* the fault that is being delivered */
    bool has_pending_vector;    /* an interrupt was accepted before the state was saved, and must be delivered first */
    u8 pending_vector;
    u8 running;                 /* enum running: inside run(), or handled by another thread */
    u8 sipi_vector;             /* of REQ_SIPI. Other threads set it, so it is not in s, which INIT resets. */
    bool sleeping;              /* in soft_wait: a request must wake it */
    struct spin spin;           /* for soft_wait; not used if the VM has more processors than the host has to spare */
    /* the instruction entered a guest handler, which cleared TF, so no single-step trap follows it */
    bool tf_blocked;
    /* the vector that is being delivered, or -1; a fault during the delivery is a double fault */
    s8 delivering;
    u64 tsc_offset;             /* guest TSC = host TSC + tsc_offset */
    u64 db_pending;             /* DR6 bits of debug exceptions due after this instruction */
    u64 isa[4];                 /* features the guest may use, a bit per enum isa */
    struct tlb_entry tlbs[TLB_CTX_COUNT][TLB_SIZE];
    struct jc_entry jc[JC_SIZE];
    struct jit *jit;            /* the translator; NULL: interpret only */
    struct soft_translator tr;
    struct soft_stat stat;
    bool in_string;             /* a string instruction runs, which goes on even if it overwrites itself (op_string.c) */
    struct jct_entry jct[TLB_EMPTY][JCT_SIZE];
    struct soft_code *code;     /* blocks.c's own */
    struct soft_native *native; /* native.c's own */
    struct soft_x87 x87;
    u32 pauses;                 /* PAUSE executed */
    enum run_result leave;      /* what soft_fail ends the run with */
    const char *error;          /* set by soft_fail */
    struct soft_direct *direct; /* direct execution (direct/direct.h); NULL: there is none */
    u32 direct_kick;            /* the bell of the process that runs the program now, + 1; 0: none does; atomic */
    bool direct_now;            /* the run loop is to be asked when the guest returns to CPL 3 */
    u32 direct_returns;         /* how often it has returned there, */
    u64 direct_since, direct_ticks, direct_limit; /* since when it is there, and how long it was before that: ticks of the TSC */
    u32 pkru;                   /* the PKRU register; component 9 of s.xsave is stale while running */
    struct soft_mmu mmu;
};

struct soft_vm {
    struct engine_config cfg;
    struct soft_vcpu *vcpu[256];
    struct jit *jit; /* the translator's, shared by the processors; NULL: interpret only */
    /* a word for each page of guest memory, by place: a bit for each 64-byte line that holds decoded code */
    u64 *code_lines;
    u32 *code_gen;   /* a number for each page, which changes when code in the page is overwritten */
    /* by page number: how many processors have set lines and not yet asked the others to close the page */
    u32 code_asking[256];
    u64 *direct_page;/* for each page: what admit.c knows of it; atomic; NULL: no direct execution */
    bool direct_polls; /* runner_gate.c waits by poll */
    u64 direct_seq;  /* changes when one of those answers becomes wrong; atomic */
    pthread_mutex_t direct_lock; /* one request for a process at a time */
    u64 pages;       /* of guest memory: the length of the tables */
    u64 a20_mask;    /* atomic: all ones, or without bit 20 */
    u32 split_lock;  /* spin lock for locked accesses that cross a page or touch MMIO */
    u64 tsc_offset;  /* common to the processors: guest TSC = host TSC + this + IA32_TSC_ADJUST */
    bool tsc_set;    /* the state of a processor has set it */
    u8 phys_bits, lin_bits;
    bool vec_eager;  /* save vectors after each vector instruction (sanitizer builds) */
};

/* Any thread: translated code, and a program that runs directly, come back to the run loop soon. */
static inline void soft_poll(struct soft_vcpu *v)
{
    __atomic_store_n(&v->poll, 1, __ATOMIC_SEQ_CST);
    const u32 bell = __atomic_load_n(&v->direct_kick, __ATOMIC_SEQ_CST);
    if (unlikely(bell)) { /* write(bell - 1, &v->poll, 1), without libc. If it is full, it was rung and not heard yet. */
        long r;
        __asm__ volatile("syscall" : "=a"(r) : "a"(1L), "D"((u64)bell - 1), "S"(&v->poll), "d"(1L) : "rcx", "r11", "memory");
        (void)r;
    }
}
/* Any thread. The run loop clears poll, then looks at request. */
static inline void soft_request(struct soft_vcpu *v, u32 bits)
{
    __atomic_fetch_or(&v->request, bits, __ATOMIC_SEQ_CST);
    soft_poll(v);
}

/* The guest has entered CPL 3, or is about to leave it. */
static inline void soft_user_entered(struct soft_vcpu *v)
{
    if (likely(!v->direct))
        return;
    v->direct_since = __builtin_ia32_rdtsc();
    if (v->direct_now || ++v->direct_returns >= 64 || v->direct_ticks > v->direct_limit)
        v->poll = 1;
}
static inline void soft_user_leaves(struct soft_vcpu *v)
{
    if (v->direct)
        v->direct_ticks += __builtin_ia32_rdtsc() - v->direct_since;
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

/* Writes a result of 1, 2, 4 or 8 bytes to a register: 4 bytes are zero-extended, 1 and 2 leave the rest as it is. */
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

/* Ends the instruction with an exception; the machine is as it was before it. i may be NULL if v->rip is its RIP already. */
_Noreturn void soft_raise(struct soft_vcpu *v, const struct insn *i, unsigned vector);                /* no error code */
_Noreturn void soft_raise_err(struct soft_vcpu *v, const struct insn *i, unsigned vector, u32 error); /* with one */
_Noreturn void soft_raise_pf(struct soft_vcpu *v, const struct insn *i, u64 linear, u32 error);       /* sets CR2 */
/* Ends the run because we failed; why goes to v->error. */
_Noreturn void soft_fail(struct soft_vcpu *v, const char *why);
/* Gives up the instruction before it had any effect. It runs again, one at a time (slow |= why). */
_Noreturn void soft_retry_slow(struct soft_vcpu *v, const struct insn *i, enum soft_slow why);

enum event_kind { EVENT_FAULT, EVENT_INTERRUPT, EVENT_NMI, EVENT_SOFT_INT /* INT n, INT3, INTO */, EVENT_ICEBP };
/* Delivers through IVT, IDT, task gate (deliver.c); v->rip is the return address. May raise. The caller handles
   double faults and shutdown (engine.c). */
void soft_deliver(struct soft_vcpu *v, unsigned vector, enum event_kind kind, bool has_error, u32 error);

/* ---- memory (mmu.c) ----------------------------------------------------- */

/* The linear address of i's memory operand. The segment's limit and rights are checked for size bytes. */
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
/* The same for an address that the handler has computed. seg is an enum insn_seg (see soft_seg). */
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

/* size 1, 2, 4, 8 (constant). The fast path is inline. Accesses that cross a page, go to MMIO or fault take the slow one. */
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
 * operands. If the bytes lie in one page of RAM that may be accessed directly, it is a pointer to them, and *bounce = false.
 * Otherwise (they cross a page; MMIO; a write to ROM; a watched code page) every page is checked and faults are raised, for
 * reads the bytes are copied into buf, the pointer is into buf, and *bounce = true. Its address has the low 6 bits of lin,
 * so that alignment faults stay exact. The caller works in buf, and calls soft_bounce_out for a write. buf must have room
 * for size + 64 bytes.
 */
void *soft_ptr(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a, void *buf, bool *bounce);
void soft_bounce_out(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, const void *data);

/* Raises #AC if the whole operand is misaligned and alignment is checked. Its parts are then accessed as ACCESS_PART. */
void soft_check_alignment(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size);

/* Raises the fault if size bytes at lin may not be accessed. Its only other effect is on A and D bits. */
void soft_probe(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 size, enum access a);
/* True if the byte at lin is no memory but a device's register; its address is then in *gpa. May raise. */
bool soft_registers(struct soft_vcpu *v, const struct insn *i, u64 lin, enum access a, u64 *gpa);
/* As soft_probe for one page, but returns false where that raises. */
bool soft_accessible(struct soft_vcpu *v, u64 lin, enum access a);

/* Accesses to system structures (descriptors, TSS, IDT, the stack of an inner level): as supervisor at any CPL. */
u64 soft_sys_load(struct soft_vcpu *v, u64 lin, unsigned size);
void soft_sys_store(struct soft_vcpu *v, u64 lin, unsigned size, u64 value);

/* The caches of the guest's page tables (tlb.c). */
static inline u16 soft_pcid(const struct soft_vcpu *v) { return v->s.cr4 & CR4_PCIDE ? v->s.cr3 & 0xfff : 0; }
void soft_flush_tlb(struct soft_vcpu *v);                 /* all of it: paging itself changed */
void soft_flush_data(struct soft_vcpu *v);                /* the rights of data accesses changed: WP, protection keys */
void soft_flush_page(struct soft_vcpu *v, u64 lin);       /* INVLPG */
/* CR3 was loaded; keep: the entries of the PCID are still valid */
void soft_set_space(struct soft_vcpu *v, u16 pcid, bool keep);
void soft_flush_space(struct soft_vcpu *v, u16 pcid);     /* all entries of a PCID except global pages */
void soft_flush_spaces(struct soft_vcpu *v);              /* all entries of all PCIDs except global pages */
void soft_forget_code(struct soft_vcpu *v);               /* all caches that lead from a RIP to code */
/* To be called after CPL, CR0, CR3, CR4, EFER, AC or a segment changed: they compute what depends on these (mmu.c). */
void soft_update_mode(struct soft_vcpu *v);    /* bits, ipmask, long_mode, protected_mode, v86, segbase, tlb context */
void soft_update_tlb_ctx(struct soft_vcpu *v); /* only CPL or AC or SMAP changed */
void soft_update_fpu(struct soft_vcpu *v);     /* CR0.EM/TS/MP, CR4.OSFXSR/OSXSAVE, XCR0 changed */
void soft_update_slow(struct soft_vcpu *v);    /* TF, DR7 changed */

/* Guest-physical accesses of 1, 2, 4 or 8 bytes; gates. soft_phys_load and _store are for page tables, wherever these are,
   soft_register_load is for registers. */
u64 soft_phys_load(struct soft_vcpu *v, u64 gpa, unsigned size);
u64 soft_register_load(struct soft_vcpu *v, u64 gpa, unsigned size);
void soft_phys_store(struct soft_vcpu *v, u64 gpa, unsigned size, u64 value);
/* Many accesses to registers at once. False: none was made. */
bool soft_phys_run(struct soft_vcpu *v, const struct bus_run *r);

/* ---- flags -------------------------------------------------------------- */

/* Changes the flags in mask as POPF and IRET do (the caller leaves RF and VM out), and with them slow and the TLB
   context. */
void soft_set_rflags(struct soft_vcpu *v, u64 value, u64 mask);

/* ---- lowering: decoded instruction to handler --------------------------- */

/* Each returns true if it knows the instruction, and then has filled in i->fn and the aux fields. The common fields (imm,
   disp, regs, base, index, scale, ashift, seg, len, size, rep, lock) are set before:
   reg and rm as byte offsets of d->reg and d->rm with AH-BH resolved for byte operands (d->desc->reg.size == 1 ...). */
bool lower_int(struct soft_vcpu *v, const struct decoded *d, struct insn *i);      /* op_int.c, op_arith.c, op_near.c */
bool lower_string(struct soft_vcpu *v, const struct decoded *d, struct insn *i);   /* op_string.c, lead */
/* transfer.c: far CALL JMP RET, IRET, INT, SYSCALL.. */
bool lower_transfer(struct soft_vcpu *v, const struct decoded *d, struct insn *i);
/* system.c, control_registers.c, debug_registers.c, segment.c, msr.c */
bool lower_system(struct soft_vcpu *v, const struct decoded *d, struct insn *i);
/* xsave.c, x87_env.c: FXSAVE XSAVE FNSTENV ... */
bool lower_fpu_state(struct soft_vcpu *v, const struct decoded *d, struct insn *i);
/* native.c: everything else that runs on the host unit */
bool lower_native(struct soft_vcpu *v, const struct decoded *d, struct insn *i);
soft_fn op_ud;  /* raises #UD */
soft_fn op_end; /* no instruction of the guest's: ends a block, with RIP past the previous instruction */
/* system.c: after many of them, yields the host's processor, as another vCPU may hold the lock that the guest spins
   for */
soft_fn op_pause;

/* ---- host unit (native.c, xsave.c) -------------------------------------- */

int must_check soft_native_new(struct soft_vcpu *v); /* gate; 0 or -errno */
void soft_native_free(struct soft_vcpu *v);
/* gate: if vec_live, stores the host's vector and x87 state to v->s.xsave. After that, C code may use these registers. */
void soft_vec_save(struct soft_vcpu *v);
/* Loads v->s.xsave into the host's registers, if they do not hold it already. */
void soft_vec_load(struct soft_vcpu *v);

/* ---- segments and transfers (segment.c, deliver.c) ----------------------- */

void soft_load_seg(struct soft_vcpu *v, const struct insn *i, unsigned seg, u16 selector); /* MOV/POP/LDS semantics */
/* ---- ports and debug registers (system.c, debug_registers.c) ------------- */

/* Checks IOPL and the I/O permission bitmap: #GP(0) if the port may not be accessed. */
void soft_check_io(struct soft_vcpu *v, const struct insn *i, u16 port, unsigned size);
u64 soft_port_in(struct soft_vcpu *v, u16 port, unsigned size);                /* gate */
void soft_port_out(struct soft_vcpu *v, u16 port, unsigned size, u64 value);   /* gate */
/* DR6 bits B0 to B3 of the instruction breakpoints that are set at linear; 0: none, or RF suppresses them. If they are not
   0, the caller adds them to v->db_pending and calls soft_take_db() before the instruction. */
u64 soft_check_code_bp(struct soft_vcpu *v, u64 linear);
/* Adds the data breakpoints that match to v->db_pending. They are raised after the instruction. */
void soft_check_data_bp(struct soft_vcpu *v, u64 linear, u64 size, bool write);
/* Moves db_pending (with BS for a single step) to DR6 and raises #DB at v->rip. db_pending must not be 0. */
_Noreturn void soft_take_db(struct soft_vcpu *v);
/* Sets PKRU (WRPKRU, XRSTOR). If that changes it, the rights in the TLB are dropped. */
void soft_set_pkru(struct soft_vcpu *v, u32 value);

/* ---- interrupts --------------------------------------------------------- */
/* LAPIC and PIC through engine_machine.interrupt_ack; engine.c */

#endif
