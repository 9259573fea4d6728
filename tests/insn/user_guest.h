/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_guest.h - the guest whose ring 3 runs a sequence, between the files that make it: user_guest_kernel.c is the
 * guest's kernel, its tables and its processor's state, user_guest_memory.c lays the areas of a sequence into its memory,
 * user_guest_machine.c is what surrounds its processor, user_guest.c runs it.
 */
#ifndef LODGE_TESTS_INSN_USER_GUEST_H
#define LODGE_TESTS_INSN_USER_GUEST_H

#include <pthread.h>

#include "gen.h"

#include "engine/engine.h"
#include "memory/memory.h"

enum { /* guest-physical */
    PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT_LOW = 0x4000, PT_HIGH = 0x5000, PDPT_KERNEL = 0x6000, PD_KERNEL = 0x7000,
    GDT = 0x8000, IDT = 0x9000, TSS = 0xa000, STUBS = 0xb000, HANDLERS = 0xb800, KSTACK_TOP = 0xe000, LDT = 0xf000,
    ENTRY = 0x10000, CODE_COPY = 0x14000,
    CODE_GPA = 0x100000, DATA_GPA = 0x110000, STACK_GPA = 0x120000, AREAS_END = 0x130000, RAM_SIZE = 0x200000,
    DEVICE_GPA = 0xd0000000,
};
enum { PATTERN = 0xa5, FIRST_INTERRUPT = 0x40, INTERRUPTS = 6 };
/* The kernel's half, which ring 3 cannot see: the first 2 MiB of guest memory. */
#define KERNEL 0xffff800000000000ull
enum { EXIT_PORT = 0xf4, GDT_CODE = 0x10, GDT_USER32 = 0x20, GDT_USER_DATA = 0x28, GDT_USER = 0x30, GDT_TSS = 0x40 };

/* What the kernel's way into a run takes from ENTRY; the XSAVE image lies a page further. */
struct entry {
    u64 code, code_len; /* to be written first */
    u64 touch;          /* a byte of code for an interrupt handler to write */
    u64 gpr[15];        /* all but RSP, last to first */
    u64 rip, cs, rflags, rsp, ss;
};

struct guest {
    struct memory *memory;
    u8 *ram;
    u8 device[DEVICE_SIZE];
    struct cpuid_table cpuid;
    struct engine_vm *vm[2];       /* the second: another engine on the same memory, which a run may be moved to */
    struct engine_vcpu *vcpu[2];
    unsigned now;                  /* which of them runs */
    int translate_after;
    struct cpu_state state;
    bool exited;
    u32 line;                      /* INTR is raised; atomic */
    struct rng rng;                /* of cuts */
    bool prodded;
    u64 cuts;
    pthread_t rusher;
    bool has_rusher, started;
    u32 rushed, rusher_ends;       /* atomic */
    u32 beat;                      /* a run began or ended; atomic */
    bool gave_up;
};

/* ---- user_guest_memory.c ---- */
u64 guest_page_gpa(u64 area, unsigned n); /* where page n of an area is in guest memory: none beside its neighbour */
void guest_scatter(struct guest *g, u64 area, u64 offset, const u8 *from, u64 size);
void guest_gather(const struct guest *g, u64 area, u8 *to, u64 size);
/* The pages between those of the areas are filled or, with check, looked at; false: something wrote there. */
bool guest_pattern(struct guest *g, bool check);

/* ---- user_guest_kernel.c ---- */
void guest_build_tables(struct guest *g);
void guest_build_state(struct guest *g);
static inline void guest_segment(struct cpu_seg *s, u16 selector, u16 attr, u32 limit, u64 base)
{
    *s = (struct cpu_seg){.selector = selector, .attr = attr, .limit = limit, .base = base};
}

/* ---- user_guest_machine.c ---- */
extern const struct engine_machine guest_machine;
/* A thread that cuts runs while g->rushed, and ends one that goes on for ever. */
void guest_start_rusher(struct guest *g);

#endif
