/* SPDX-License-Identifier: Apache-2.0 */
/*
 * puppet.h - another process's thread, stopped by ptrace(2), that makes the system calls it is told to. This is what an
 * attacker could do who has taken the thread over: the calls are the thread's own, with its credentials, namespaces and
 * filters. The program in it needs no help for that, so it is the one that ships.
 *
 * The thread's registers and its mask of signals are as they were when it is released, and a call that was interrupted when
 * it was taken is made anew. The process's other threads run on meanwhile.
 */
#ifndef LODGE_TESTS_PUPPET_H
#define LODGE_TESTS_PUPPET_H

#include <sys/types.h>
#include <sys/user.h>

#include "base/base.h"

enum { SCRATCH_PAGES = 6, SCRATCH = SCRATCH_PAGES * 4096 };

struct puppet {
    pid_t pid, tid;
    int mem;                     /* /proc/PID/mem */
    u64 syscall_at, int80_at;    /* such instructions in its memory; 0: there is none */
    u64 scratch;                 /* memory of its own, at the lower end of the first thread's stack */
    size_t used;                 /* of the scratch memory, but for the last page */
    char saved[SCRATCH];
    struct user_regs_struct regs;
    u64 mask, signals;           /* 1 << (n - 1): blocked before; came for it meanwhile */
    bool dead;                   /* it has ended, or runs another program */
    int ended_by;                /* the signal, if it is known */
};

struct outcome {
    long result;  /* as the kernel returned it: -errno */
    bool blocked; /* it waited, and was interrupted */
    bool faulted; /* there was no such call: the instruction raised a signal */
    u32 made;     /* processes and threads that it made; they have been ended */
    bool thread;  /* the last of these was a thread of its process */
};

/* -errno: EPERM if this user may not trace it. */
int must_check puppet_take(struct puppet *p, pid_t pid, pid_t tid);
void puppet_release(struct puppet *p);

/* A call by number, by the syscall instruction or int 0x80. */
struct outcome puppet_call(struct puppet *p, long nr, const u64 arg[6]);
struct outcome puppet_call32(struct puppet *p, long nr, const u64 arg[6]);
#define CALL(p, nr, ...) puppet_call(p, nr, (const u64[6]){ __VA_ARGS__ })

/* Its memory. What is put stays until puppet_forget. */
u64 puppet_put(struct puppet *p, const void *data, size_t n);
u64 puppet_string(struct puppet *p, const char *text);
u64 puppet_page(const struct puppet *p); /* a page of its own that nothing is put into */
void puppet_forget(struct puppet *p);
int must_check puppet_read(const struct puppet *p, u64 at, void *data, size_t n);
int must_check puppet_write(const struct puppet *p, u64 at, const void *data, size_t n);

#endif
