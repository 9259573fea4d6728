/* SPDX-License-Identifier: Apache-2.0 */
/*
 * direct.h - direct execution: programs of a 64-bit guest at CPL 3 run on the host's processor, in a process of their own
 * whose memory is what the guest's page tables give them (a runner, engine/runner.h). docs/direct-execution.md has
 * the design, and the table of what is proved by which means.
 *
 *   direct_gate.c   whether and how a program runs directly: the choice, entering, coming back
 *   mirror.c        what a runner has mapped, and what of that the guest's tables do not give any more
 *   admit.c         which pages may be executed there
 *   guard.c         and which others, because debug registers keep the program from what is not admitted in them
 *   conditions_gate.c  what must hold so that the program cannot tell
 *   runner_gate.c   the processes
 *
 * All of it belongs to one processor and is used on its thread, except what is said of struct soft_vm's members. None of it is
 * part of the guest's state.
 */
#ifndef LODGE_ENGINE_SOFT_DIRECT_DIRECT_H
#define LODGE_ENGINE_SOFT_DIRECT_DIRECT_H

#include "engine/runner.h"
#include "engine/soft/mmu.h"

/* ---- what is mapped ------------------------------------------------------------ */

enum { /* bits of mirror_leaf.page; above them is the place */
    MIRROR_MAPPED = 1, MIRROR_OPEN = 2 /* for stores */, MIRROR_EXEC = 4, MIRROR_GUARDED = 8 /* executed thanks to guards */,
    MIRROR_BITS = 0xfff,
};
struct mirror_leaf { /* 2 MiB of linear addresses */
    u64 number;      /* linear address >> PAGE_2M */
    u32 mapped, open;/* how many pages */
    bool stale;      /* the guest has invalidated something in it, or rights may be gone */
    bool taken;      /* of a page of it the dirty log was taken since it was opened for stores */
    u64 page[512];   /* 0: not mapped */
};
enum { MIRROR_HASH = 1 << 12, MIRROR_MOST_LEAVES = MIRROR_HASH / 2,
       MIRROR_MOST_PAGES = 60000 /* a process may have 65,530 mappings (vm.max_map_count), and each page could be one */ };

enum direct_end { /* why a stint of direct execution ended */
    DIRECT_SYSTEM_CALL, DIRECT_MAPPING /* the page was there, only not mapped */, DIRECT_PAGE_FAULT, DIRECT_WATCHED /* a store to
    a page with code, or to registers */, DIRECT_KICK, DIRECT_GUARD, DIRECT_OTHER, DIRECT_END_COUNT,
};

struct guard { /* of one page, or a candidate for it */
    u64 lin;
    u32 score;       /* how often the program came there of late while it could not be executed */
    bool set;
    u8 n;            /* more than RUNNER_GUARDS: it cannot be guarded, */
    u32 gen;         /* as long as this is its soft_vm.code_gen */
    u16 offset[RUNNER_GUARDS];
};
enum { GUARD_CANDIDATES = 16 };

struct direct_space { /* of the guest: what a value of CR3 gives */
    u64 cr3;                     /* 0: unused */
    u16 pcid;
    bool stale;                  /* the guest has invalidated all of it */
    bool recheck;                /* rights to store or to execute may be gone */
    bool some;                   /* leaves of it are stale */
    bool huge;                   /* it has pages of more than one leaf */
    bool direct;                 /* it runs directly */
    u64 last;                    /* when it ran last (soft_direct.now) */
    struct direct_runner *runner;/* NULL: it has none */
    u64 code_seq;                /* soft_vm.direct_seq that its executable pages are known to be right for */
    u32 pkru;                    /* with which its pages were mapped */
    u32 pages;                   /* mapped, */
    u32 pages_before;            /* and before the guest invalidated all of it */
    bool replaced;               /* hardly anything of it was left then: it is another program */
    u32 nmaps;                   /* orders that the runner has not been given yet */
    struct runner_map map[RUNNER_MOST_MAPS];
    u32 leaves;
    struct mirror_leaf *leaf[MIRROR_MOST_LEAVES];
    u16 hash[MIRROR_HASH];       /* by number: index in leaf + 1; 0: none */
    struct guard guard[GUARD_CANDIDATES];
    u64 guard_time;              /* when scores were halved */
    u64 expected;                /* where the guest's kernel was told of a page fault: it has probably a page now; 0: none */
    /* The choice: since when, how often the program has entered the kernel, and how long it was outside. */
    u64 since, entries, spent;
    u64 total;                   /* how long it was outside, translated */
    u64 not_before;              /* it stays translated until this time */
    u32 backoff;
};
enum { DIRECT_SPACES = 12 };

struct direct_stat {
    u64 ends[DIRECT_END_COUNT], refused_page, guarded, refused_state, maps, unmaps, started, stopped, runners, ticks, failed;
};

struct direct_host { /* what a program here sees of the host */
    u64 xcr0;
    u32 scan;                    /* enum admit: what its processor would show */
    u32 rights[4];               /* by LAR, of the descriptors that it sees */
    bool umip;                   /* the kernel answers SGDT and the like itself, with constants */
};
struct soft_direct {
    bool always;                 /* --direct on: the choice is not made by rates */
    bool said;                   /* that there are no processes */
    u8 refusals;                 /* in a row, at a RIP in a page that may not be executed, */
    u64 refused;                 /* and that page, with bit 0 set */
    u32 scan;                    /* enum admit: what is not admitted */
    u64 now;
    u64 stint;                   /* how long the last one took */
    u64 gdt[64];                 /* the guest's descriptors at the last look, */
    u32 gdt_size;                /* and in bytes; */
    bool gdt_good;               /* what a program may load is as on the host */
    u32 gdt_scan;                /* enum admit */
    struct direct_host host;
    struct direct_space *space;  /* of the CR3 that is loaded; NULL: not looked for yet */
    struct direct_space spaces[DIRECT_SPACES];
    u16 *open;                   /* by page of guest memory: how many pages of all spaces are open for stores */
    struct direct_stat stat;
};

/* ---- direct_gate.c ------------------------------------------------------------- */

enum direct_result { DIRECT_NO /* the engine runs the program itself */, DIRECT_AGAIN /* it ran */, DIRECT_STEP /* the engine
                     executes one instruction, and asks again */ };
/* gate. At CPL 3, between blocks, with nothing for the run loop to do. May raise. */
enum direct_result soft_direct_run(struct soft_vcpu *v);
/* Why this host cannot have direct execution; NULL: it can, if it has the processes for it. */
const char *soft_direct_unfit(void);
/* -errno; 0 also where direct execution is off */
int must_check soft_direct_new(struct soft_vcpu *v);
void soft_direct_free(struct soft_vcpu *v);

/* ---- conditions_gate.c ---------------------------------------------------------- */

/* True if nothing that a program can do without being stopped shows it another processor than the guest's, but for what
   admit.c keeps from it. */
bool conditions_hold(struct soft_vcpu *v);
u32 conditions_scan(const struct soft_vcpu *v); /* enum admit: what must be kept from it now */
bool conditions_visible(u16 sel);               /* one of the descriptors that host and guest have alike */
/* False: this host is unlike what is known of Linux. XSAVE must be there. */
bool conditions_of_host(struct direct_host *h);

/* ---- mirror.c ------------------------------------------------------------------ */

struct mirror_leaf *mirror_find(const struct direct_space *s, u64 lin);
static inline u64 mirror_page(const struct direct_space *s, u64 lin)
{
    const struct mirror_leaf *l = mirror_find(s, lin);
    return l ? l->page[lin >> PAGE_4K & 511] : 0;
}
/* Brings the pages around lin into agreement with the guest's tables, as far as these allow it without a change. exec: lin's
   page is to be executed. Adds orders to s->map. False: no room for orders, or for pages. */
bool mirror_update(struct soft_vcpu *v, struct direct_space *s, u64 lin, bool exec);
/* The same for all that may have become wrong. False: not all yet; the orders are to be carried out first. */
bool mirror_settle(struct soft_vcpu *v, struct direct_space *s);
/* The page, which is guarded, is not executed any more. False: no room for the order. */
bool mirror_unguard(struct soft_vcpu *v, struct direct_space *s, u64 lin);
/* Nothing is mapped any more, without orders: the runner is gone. */
void mirror_forget(struct soft_vcpu *v, struct direct_space *s);

/* Counts what the program that is translated did since the last time. */
static inline void direct_count(struct soft_vcpu *v)
{
    struct direct_space *s = v->direct->space;
    if (s) {
        s->spent += v->direct_ticks;
        s->total += v->direct_ticks;
        s->entries += v->direct_returns;
    }
    v->direct_ticks = v->direct_returns = 0;
}

/* For tlb.c, which says what the guest has invalidated; see there. */
#define MIRROR_EVERY 0x10000u
void mirror_flush_page(struct soft_vcpu *v, u64 lin);
/* CR3 was loaded: another space may be the current one. */
void mirror_switched(struct soft_vcpu *v, u16 pcid, bool keep);
void mirror_flush_space(struct soft_vcpu *v, u32 pcid /* or MIRROR_EVERY */);
/* written is called for each page that is open for stores. Those that may stay so do. */
void mirror_drop_writable(struct soft_vcpu *v, void (*written)(struct soft_vcpu *v, u64 place));
/* The page has code from now on. True: it was open for stores. */
bool mirror_protect_page(struct soft_vcpu *v, u64 place);

/* ---- admit.c ------------------------------------------------------------------ */

enum admit { /* what a page must not hold depends on host and guest; without any of these it is what always shows the host */
    ADMIT_NO_LAR = 1 << 0,   /* LAR, VERR, VERW: the guest has other descriptors */
    ADMIT_NO_TABLES = 1 << 1,/* SGDT, SIDT, SLDT, STR, SMSW, INT 80h: the guest's kernel may do otherwise than the host's */
    ADMIT_NO_XSAVE = 1 << 2, /* XGETBV, and what stores or loads components of XCR0: it is another one */
    ADMIT_NO_SYSENTER = 1 << 3, /* the processor has it in long mode (Intel's; AMD's gives #UD) */
    ADMIT_NO_PKRU = 1 << 4,  /* RDPKRU, WRPKRU: the host has the register */
    ADMIT_NO_SGX = 1 << 5,   /* ENCLU: the host has it */
    ADMIT_CPUID = 1 << 7,    /* CPUID may be there: it faults */
    ADMIT_NO_RDTSCP = 1 << 6,/* it does not fault, so it shows the host's processor number */
};
/* True if no byte of the page begins an instruction that shows the host. From then on a write to the page is noticed, and
   makes this false. */
bool admit_page(struct soft_vcpu *v, u64 place);
bool admit_current(const struct soft_vcpu *v, u64 place); /* the same without a new look */
bool admit_same(const struct soft_vcpu *v, u64 place);    /* it was refused, and is unchanged since */
/* For a page that is refused: where what is not admitted begins. Returns how many there are; more than `most`: too many, or the
   page is being written. */
unsigned admit_refused(struct soft_vcpu *v, u64 place, u16 *offset, unsigned most);
/* The same across the end of one page and the beginning of the next. */
bool admit_pair(const struct soft_vcpu *v, u64 place, u64 next);
/* Does code of n bytes hold no such instruction that begins before `from`? */
bool admit_bytes(const u8 *code, unsigned n, unsigned from, u32 scan);

/* ---- guard.c ------------------------------------------------------------------ */

enum guard_result { GUARD_NOT, GUARD_SET, GUARD_LOST /* the runner is dead */ };
/* The program has come to a page that is refused. GUARD_SET: from now on it is guarded, and may be mapped to be executed. */
enum guard_result guard_page(struct soft_vcpu *v, struct direct_space *s, u64 lin, u64 place);
/* Does a guard stand before everything in the page that is not admitted? */
bool guard_covers(struct soft_vcpu *v, const struct direct_space *s, u64 lin, u64 place);

/* ---- runner_gate.c ------------------------------------------------------------- */

struct direct_runner {
    int notify;                  /* descriptors: the listener, */
    int bell, bell_end;          /* and both ends of the bell */
    bool polls, traps_tsc, traps_cpuid;
    bool unguarded;              /* debug registers cannot be had */
    s32 pid;                     /* as lodge-direct sees it */
    u8 *room;
    u64 report, sigreturn;       /* addresses in the stub */
    u64 secret;
    u64 id;                      /* of the report that waits for its answer */
    u64 frame;                   /* where the ucontext of a signal lies, in the runner */
    u64 context[38];             /* the first one, as the kernel made it */
    u64 fpu;                     /* where its FPU state lies, from the room's start */
    u32 fpu_size;
    u8 fpu_words[48];            /* struct _fpx_sw_bytes */
};
/* Is this a kernel where a wait for a report must be a poll? Before the sandbox. */
bool runner_polls(void);
/* Makes one, and waits for its first report. NULL: there are no more runners. */
struct direct_runner *runner_new(struct soft_vcpu *v, u64 arg[3]);
/* RDTSC must not run directly: the guest's time has an offset, or CPL 3 may not read it. */
static inline bool runner_traps_tsc(const struct soft_vcpu *v)
{
    return v->tsc_offset || (v->s.cr4 & CR4_TSD);
}
void runner_free(struct direct_runner *r);
/* It was stopped by its bell. */
void runner_heard(struct direct_runner *r);
/* It traps before it executes what is at these addresses; 0: none. False: the runner is dead. */
bool runner_guard(struct soft_vcpu *v, struct direct_runner *r, const u64 address[RUNNER_GUARDS]);
/* Answers the report, and waits for the next one, with its arguments. False: the runner is dead. */
bool runner_go(struct direct_runner *r, u64 arg[3]);

#endif
