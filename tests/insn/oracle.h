/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oracle.h - random instruction sequences run on the host CPU and in the software engine, from the same state.
 *
 * gen*.c make the sequences of what forms.c lists, flow*.c programs of them that jump, loop and call, real*.c the like for
 * real mode; host_cpu.c and user_guest*.c run them, compare.c compares, oracle.c shrinks (trial.h). Both sides see the same
 * linear addresses: a code area, a data area with nothing mapped before it and a read-only page as its last, a stack, and
 * a page that is memory on the host and a device in the guest.
 * A sequence ends at an INT3 behind it, or at the exception that it raised.
 */
#ifndef LODGE_TESTS_INSN_ORACLE_H
#define LODGE_TESTS_INSN_ORACLE_H

#include "base/base.h"
#include "cpu/cpu.h"
#include "engine/soft/decode.h"

#define CODE_BASE 0x10000000ull
#define CODE_SIZE 0x4000u
#define DATA_BASE 0x10100000ull
#define DATA_SIZE 0x5000u /* the last page cannot be written */
#define DATA_RO 0x4000u
#define DATA_SMALL 0x3000u /* a page of small numbers: indexes for gathers */
#define STACK_BASE 0x10200000ull
#define STACK_SIZE 0x2000u
#define DEVICE_BASE 0x10300000ull
#define DEVICE_SIZE 0x1000u
#define COUNTERS (STACK_BASE + STACK_SIZE - 0x100) /* of loops, where random operands do not come */
#define GS_BASE (DATA_BASE + 0x1000)
#define VECTOR_NO_END 0x100 /* outcome.vector: the watchdog stopped it */

enum { XSAVE_MAX = 4096 };

struct mstate {
    u64 gpr[16], rip, rflags;
    u16 selector[6]; /* only where a sequence ended */
    u8 xsave[XSAVE_MAX] __attribute__((aligned(64))); /* standard form */
};

/* What is told of an exception. */
struct fault {
    unsigned vector;
    u32 error;
    u64 cr2;
};

/* Where a sequence ended. */
struct outcome {
    struct mstate s;
    struct fault f;
    struct fault other; /* of the host's, with has_other: by the same instruction's other operand, which faults too */
    bool has_other;
    u8 data[DATA_SIZE], stack[STACK_SIZE], device[DEVICE_SIZE];
};

enum fix {
    FIX_NONE,
    FIX_RIP,  /* disp32 at fix_off: target, RIP-relative */
    FIX_SKIP, /* rel8 at fix_off: over `skip` instructions */
    FIX_SKIP32,
    FIX_CODE, /* disp32 at fix_off: address of the second byte of the instruction after the next `skip` */
    FIX_ABS,  /* imm32 at fix_off: address of the instruction behind */
    /* at fix_off, of the label `to`, plus `add` */
    FIX_REL8, FIX_REL16, FIX_REL32, /* from the instruction's end */
    FIX_ADDRESS16, FIX_ADDRESS32, FIX_ADDRESS64,
};

/* Segments of their own, in an LDT, for 16-bit code and some of the 32-bit: addresses are then offsets. The rest is for
   loads of segment registers to try. */
enum ldt_entry {
    LDT_CODE16, LDT_DATA, LDT_STACK16, LDT_CODE32, LDT_STACK32, LDT_READ_ONLY, LDT_DOWN16, LDT_DOWN32, LDT_EXECUTE_ONLY,
    LDT_OTHER32, LDT_OTHER16, LDT_ABSENT_DATA, LDT_ABSENT_CODE, LDT_PAGES, LDT_EMPTY, LDT_COUNT
};
#define LDT_SELECTOR(n) ((n) * 8 + 7)
struct ldt_spec { /* as modify_ldt wants it */
    u32 base, limit;
    u8 contents; /* 0 data, 1 expand-down, 2 code, 3 conforming code (Linux allows it only absent) */
    bool wide, fixed /* not writable, not readable */, absent, pages;
};
extern const struct ldt_spec ldt_specs[LDT_COUNT]; /* all zero: no entry */

struct gen_insn {
    u8 bytes[32], len, fix, fix_off, skip; /* one instruction, or a few that must stay together */
    bool short_fix; /* two bytes */
    bool keep;      /* not to be left out when a difference is shrunk */
    bool data;      /* no instruction */
    u16 label;      /* of no bytes: only says where that label is; 0: none */
    u16 to, pad;    /* pad: INT3s behind it, never reached */
    s16 add;
    u64 target;
};

/* Real and virtual-8086 mode: the first megabyte and what a segment reaches beyond. */
enum {
    REAL_HANDLERS = 0x1000, REAL_CODE = 0x10000, REAL_DATA = 0x30000, REAL_STACK = 0x50000, REAL_DEVICE = 0xa0000, REAL_SIZE = 0x110000,
    REAL_EXIT = 0xf4, /* the port on which a run ends */
    REAL_FIRST_INT = 0x60, REAL_INTS = 8,
};
enum { VECTOR_END = 0x101, VECTOR_HALTED, VECTOR_SHUTDOWN }; /* real_outcome.vector */
struct real_env {
    bool v86, cuts /* interrupts may come: nothing reads below the stack pointer */;
    u8 iopl;
    u64 cr0, cr4;
    struct cpu_seg seg[SEG_COUNT];
};

enum { SEQ_MAX = 640, STRAIGHT_MAX = 48, LABEL_MAX = 256 };
struct sequence {
    unsigned n, bits;
    bool segmented, patches_itself;
    bool flow; /* by gen_program or gen_real */
    bool real; /* by gen_real */
    struct real_env env;
    u64 code; /* linear address of the first */
    u64 data_seed;
    struct gen_insn insn[SEQ_MAX];
    struct mstate init;
};

/* ---- gen.c ---- */
struct rng {
    u64 s;
};
u64 rng_next(struct rng *r);
static inline unsigned rng_below(struct rng *r, unsigned n) { return (unsigned)((rng_next(r) >> 33) % n); }

struct gen; /* forms of every instruction that is tried */
struct guest;
struct gen *gen_new(u64 xcr0, const struct guest *guest); /* what the host has and, unless NULL, the guest */
void gen_free(struct gen *g);
bool gen_tries(const struct gen *g, unsigned mnemonic);
void gen_sequence(const struct gen *g, struct rng *r, struct sequence *q);
/* flow.c: jumps forth and back, loops, calls and returns. calm: little of it faults. */
void gen_program(const struct gen *g, struct rng *r, struct sequence *q);
/* real.c: the like for real and virtual-8086 mode. */
void gen_real(const struct gen *g, struct rng *r, struct sequence *q);
/* Bytes of q with the final INT3, and where each instruction begins (n + 1 of them). The length. */
unsigned gen_assemble(const struct sequence *q, u8 *out, unsigned *offsets);
void gen_memory(u64 seed, u8 *data, u8 *stack); /* but for the read-only page */
void gen_read_only(u8 *page);
/* RFLAGS bits that are undefined once the first k instructions have run. */
u32 gen_undefined_flags(const struct sequence *q, unsigned k);
/* False: flags are read while undefined; only a program from which something was left out can be so. */
bool gen_flags_defined(const struct sequence *q);
/* The flags without a value after an instruction, of those before it; *reads: it has read one of them. */
u32 gen_undefined_step(const u8 *bytes, unsigned len, unsigned bits, u32 undefined, bool *reads);
/* Arithmetic flags that something may read, or the end shows, before they are written, at the instruction at offset. */
u32 gen_live_flags(const struct sequence *q, unsigned offset);

static inline u64 code_base(const struct sequence *q) { return q->segmented ? CODE_BASE : 0; }
static inline u64 data_base(const struct sequence *q) { return q->segmented ? DATA_BASE : 0; }
static inline u64 stack_base(const struct sequence *q) { return q->segmented ? STACK_BASE : 0; }

/* ---- host_cpu.c ---- */
int host_init(void); /* 0, or -errno: this host does not let us */
extern u64 host_xcr0;
extern u32 host_xsave_size;
extern u32 host_component[8]; /* where components 2 to 7 lie in the standard form; 0: not there */
/* From now on: what components a processor with these in XCR0 has. */
void host_restrict(u64 xcr0);
extern bool host_restricted;
extern bool host_has_ldt; /* the kernel lets us have segments */
void host_run(const struct sequence *q, const u8 *code, unsigned code_len, struct outcome *o);
/* The host as a processor that touches the operands of MOVS and CMPS in the other order. */
static inline void host_name_other(struct outcome *o)
{
    const struct fault f = o->f;
    o->f = o->other;
    o->other = f;
}

/* ---- user_guest.c ---- */
enum { INTERPRET = -1 };
struct engine_trace;
/* translate_after: runs of a block before it is translated; or INTERPRET. model: as --cpu has it, NULL: max.
   trace: or NULL; with INTERPRET. */
struct guest *guest_new(int translate_after, const char *model, const struct engine_trace *trace);
bool guest_has(const struct guest *g, unsigned isa);
void guest_free(struct guest *g);
enum guest_how {
    HOW_FRESH,    /* nothing is cached */
    HOW_LOADED,   /* the guest's kernel writes the code over what was there before, and enters it */
    HOW_AGAIN,    /* the same code once more: hot (its kernel restores it if it changed) */
    HOW_PRODDED,  /* the same, and accesses to the device bring kicks, interrupts, and moves to another engine */
    HOW_RUSHED,   /* the same, and so does another thread, at any time */
};
/* False: the engine gave up; why is printed. */
bool guest_run(struct guest *g, const struct sequence *q, const u8 *code, unsigned code_len, struct outcome *o, enum guest_how how);
unsigned guest_runs_to_heat(const struct guest *g);
/* Copies n bytes of the code as they stand now at linear address lin; false: not all of them are in the code's area. */
bool guest_code(const struct guest *g, u64 lin, u8 *to, unsigned n);
u64 guest_cuts(const struct guest *g); /* how often a run was interrupted so far */

/* ---- real_guest.c: a program of gen_real's in one engine, to be compared with another ---- */
struct real_outcome {
    struct cpu_state s;
    unsigned vector;
    u32 frame[10]; /* that an exception pushed in virtual-8086 mode, from the error code, if any, on */
    u8 memory[REAL_SIZE]; /* by linear address, but for what interrupts leave below the stack pointer */
};
enum real_how { REAL_PLAIN, REAL_PRODDED, REAL_RUSHED }; /* as HOW_PRODDED, HOW_RUSHED; interrupts only with env.cuts */
struct real_guest;
struct real_guest *real_guest_new(int translate_after);
void real_guest_free(struct real_guest *g);
/* False: it came to no end. */
bool real_run(struct real_guest *g, const struct sequence *q, const u8 *code, unsigned code_len, struct real_outcome *o, enum real_how how);
u64 real_cuts(const struct real_guest *g);

#endif
