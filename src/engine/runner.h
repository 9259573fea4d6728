/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runner.h - what the engine and the processes that execute a guest's programs ("runners") have in common: the messages by
 * which a runner is asked for, and the memory that both see. docs/direct-execution.md says how it works.
 *
 * A runner has, at RUNNER_BASE, its room, and otherwise only what the guest's page tables give the program. Both sides map
 * the room; the program can read all of it, write RUNNER_SAVED and the stack of signals, and execute the stub. The engine
 * believes nothing that it reads there.
 */
#ifndef LODGE_ENGINE_RUNNER_H
#define LODGE_ENGINE_RUNNER_H

#include "base/base.h"

enum { RUNNER_FD_ENGINE = 3, RUNNER_FD_MEMORY = 4 }; /* of "lodge directd" */
enum { RUNNER_MAGIC = 0x6e75724c, RUNNER_GUARD_MAGIC = 0x6472474c };

/* 2 MiB of a program's addresses that it cannot have. */
#define RUNNER_BASE 0x2f5d6c000000ull
#define RUNNER_REACH MiB(2)
#define RUNNER_TOP 0x7ffffffff000ull /* no mapping of a process ends above this (x86, 4 levels) */
enum {
    RUNNER_CODE = 0,            /* the stub: one page, read and executed */
    RUNNER_ORDERS = 0x1000,     /* struct runner_orders: read */
    RUNNER_SAVED = 0x5000,      /* struct runner_saved: read and written */
    RUNNER_STACK = 0x6000,      /* of signals, up to the end */
    RUNNER_ROOM = 0x10000,      /* the size of all */
};

/* What the stub does before it goes on with the program. */
enum { RUNNER_MOST_MAPS = 256 };
struct runner_map { /* mmap(), or munmap(), which takes address and size */
    u64 call, address, size, protection, flags, offset;
};
struct runner_orders {
    u64 maps;              /* how many of map[] are to be done */
    u64 fs_base, gs_base;
    u64 frame;             /* the stack pointer with which rt_sigreturn finds the frame */
    u64 flags;             /* RFLAGS of which rt_sigreturn restores nothing: NT, ID */
    u32 ds, es, fs, gs;    /* selectors */
    struct runner_map map[RUNNER_MOST_MAPS];
};
_Static_assert(sizeof(struct runner_orders) <= RUNNER_SAVED - RUNNER_ORDERS, "the room has space for all orders");
struct runner_saved { /* what a signal's frame lacks */
    u64 fs_base, gs_base;
    u32 ds, es, fs, gs;
};

/* The call by which the stub reports: rdi, rsi and rdx as the signal's handler got them; or rdi is RUNNER_FAILED, and rsi
   what a mapping failed with (-errno). The answer is the secret. */
enum { RUNNER_REPORT_CALL = 39 /* getpid */ };
#define RUNNER_FAILED 0xffffffffffffffffull

/* Without the secret in its registers no other call of the stub's is made: mmap and munmap have its high half in the high
   half of the fourth argument, and its low half in that of the fifth; the kernel looks at neither. rt_sigreturn has it as
   its first argument. It is never in memory that the program could read. */
struct runner_ask {
    u32 magic; /* RUNNER_MAGIC */
    u32 trap_tsc; /* RDTSC and RDTSCP fault */
    u64 secret;
};
/* A runner that waits is to trap, before it executes what begins at these addresses (SIGTRAP, TRAP_HWBKPT): by the debug
   registers, of which each runner has four of its own. Its report is taken back, and comes again. Answered without descriptors. */
enum { RUNNER_GUARDS = 4 };
struct runner_guard {
    u32 magic; /* RUNNER_GUARD_MAGIC */
    s32 pid;   /* as answered */
    u64 address[RUNNER_GUARDS]; /* 0: none */
};
/* A new runner comes with four descriptors: the listener of the reports, the room, and the two ends of its bell: what is
   written to the first one gives the runner a SIGIO, and can be read at the second. (A signal to the process itself is
   refused between namespaces of processes.) It ends when its listener is closed. */
enum { RUNNER_DESCRIPTORS = 4 };
struct runner_answer {
    u32 magic;       /* that of what was asked */
    s32 result;      /* 0 or -errno, and then no descriptors */
    s32 pid;         /* as lodge-direct sees it */
    u32 traps_cpuid; /* CPUID faults there */
    u64 report, sigreturn; /* the stub's addresses just behind these SYSCALL instructions */
};

#endif
