/* SPDX-License-Identifier: Apache-2.0 */
/* puppet.c - see puppet.h. ptrace(2), "Stopped states". */
#include "puppet.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What the kernel returns to itself for a call that is to be made anew; linux/errno.h has these for the kernel alone. */
enum { ERESTART_SYS = 512, ERESTART_NOINTR = 513, ERESTART_NOHAND = 514, ERESTART_BLOCK = 516 };

enum {
    OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
              PTRACE_O_EXITKILL,
    BLOCKED_MS = 300,   /* a call that takes longer waits for something */
    LONG_MS = 60000,    /* a call that has been interrupted comes back, on hosts however busy */
    NEAR_STACK = 16384, /* the first thread's stack has to have as much left above the scratch memory */
};

static u64 now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void nap(u32 us)
{
    nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

/* ---- its memory ------------------------------------------------------------- */

int puppet_read(const struct puppet *p, u64 at, void *data, size_t n)
{
    return pread(p->mem, data, n, (off_t)at) == (ssize_t)n ? 0 : -EFAULT;
}

int puppet_write(const struct puppet *p, u64 at, const void *data, size_t n)
{
    return pwrite(p->mem, data, n, (off_t)at) == (ssize_t)n ? 0 : -EFAULT;
}

u64 puppet_put(struct puppet *p, const void *data, size_t n)
{
    const u64 at = p->scratch + p->used;

    if (p->used + n > SCRATCH - 4096 || puppet_write(p, at, data, n)) {
        fprintf(stderr, "attacker: no room for %zu bytes in process %d\n", n, p->pid);
        exit(1);
    }
    p->used = align_up(p->used + n, 16);
    return at;
}

u64 puppet_string(struct puppet *p, const char *text)
{
    return puppet_put(p, text, strlen(text) + 1);
}

u64 puppet_page(const struct puppet *p)
{
    return p->scratch + SCRATCH - 4096;
}

void puppet_forget(struct puppet *p)
{
    p->used = 0;
}

/* An instruction of two bytes, in memory that it may execute. */
static u64 find_code(const struct puppet *p, u64 from, u64 to, const char code[2])
{
    char *text = malloc(to - from);
    u64 found = 0;

    if (text && !puppet_read(p, from, text, to - from)) {
        const char *at = memmem(text, to - from, code, 2);
        found = at ? from + (u64)(at - text) : 0;
    }
    free(text);
    return found;
}

/* Not in what the translator made: that code may go. */
static int find_places(struct puppet *p)
{
    char path[40], line[512], rights[8], name[256];
    unsigned long from, to;

    snprintf(path, sizeof path, "/proc/%d/maps", p->tid);
    FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    while (fgets(line, sizeof line, f)) {
        name[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255[^\n]", &from, &to, rights, name) < 3)
            continue;
        if (!strcmp(name, "[stack]"))
            p->scratch = from;
        if (rights[2] != 'x' || (name[0] != '/' && strcmp(name, "[vdso]")) || strstr(name, "memfd:"))
            continue;
        if (!p->syscall_at)
            p->syscall_at = find_code(p, from, to, "\x0f\x05");
        if (!p->int80_at)
            p->int80_at = find_code(p, from, to, "\xcd\x80");
    }
    fclose(f);
    return p->syscall_at && p->scratch ? 0 : -ENOENT;
}

/* Is the first thread far enough from the end of its stack? */
static bool stack_is_free(const struct puppet *p)
{
    char path[60], text[256] = "";
    unsigned long sp = 0;

    if (p->pid == p->tid) {
        sp = p->regs.rsp;
    } else {
        snprintf(path, sizeof path, "/proc/%d/task/%d/syscall", p->pid, p->pid);
        FILE *f = fopen(path, "re");
        if (f && fgets(text, sizeof text, f) && sscanf(text, "%*s %*s %*s %*s %*s %*s %*s %lx", &sp) != 1)
            sp = 0; /* "running" */
        if (f)
            fclose(f);
    }
    return !sp || sp > p->scratch + SCRATCH + NEAR_STACK;
}

/* ---- its stops -------------------------------------------------------------- */

/* A thread that has ended while others of its process run is not reported if it was the first. *by: the signal that
   ended it; proc_pid_stat(5), "exit_code". */
static bool is_zombie(pid_t tid, int *by)
{
    char path[40], text[1024];
    size_t n = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", tid);
    FILE *f = fopen(path, "re");
    if (f) {
        n = fread(text, 1, sizeof text - 1, f);
        fclose(f);
    }
    text[n] = 0;
    const char *end = strrchr(text, ')'), *last = strrchr(text, ' ');
    const bool is = !end || end[2] == 'Z' || end[2] == 'X';
    *by = is && end ? atoi(last) & 0x7f : 0;
    return is;
}

/* 1 with *status: it stopped. 0: not in this time. -1: it has ended. */
static int wait_stop(struct puppet *p, pid_t tid, int *status, u32 ms)
{
    const u64 end = now_ms() + ms;

    for (u32 i = 0;; i++) {
        const pid_t got = waitpid(tid, status, __WALL | WNOHANG);
        if (got == tid && WIFSTOPPED(*status))
            return 1;
        if (got == tid) {
            p->ended_by = WIFSIGNALED(*status) ? WTERMSIG(*status) : 0;
            return -1;
        }
        if ((got < 0 && errno != EINTR) || (i % 64 == 63 && is_zombie(tid, &p->ended_by)))
            return -1;
        if (now_ms() >= end)
            return 0;
        if (i < 100)
            sched_yield();
        else
            nap(100);
    }
}

/* A number from /proc/TID/status, in this base. */
static u64 read_status(pid_t tid, const char *key, int base)
{
    char path[40], line[256];
    const size_t n = strlen(key);
    u64 value = 0;

    snprintf(path, sizeof path, "/proc/%d/status", tid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, n))
            value = strtoull(line + n, NULL, base);
    if (f)
        fclose(f);
    return value;
}

/* What it made is ours too, and stopped. A process is killed, and a thread is made to leave. */
static void end_made(struct puppet *p, struct outcome *o)
{
    unsigned long tid = 0;
    struct user_regs_struct regs;
    int status;

    o->made++;
    if (ptrace(PTRACE_GETEVENTMSG, p->tid, 0, &tid) || wait_stop(p, (pid_t)tid, &status, LONG_MS) != 1)
        return;
    o->thread = (pid_t)read_status((pid_t)tid, "Tgid:", 10) == p->pid;
    if (!o->thread) {
        kill((pid_t)tid, SIGKILL);
        while (wait_stop(p, (pid_t)tid, &status, LONG_MS) > 0)
            ptrace(PTRACE_CONT, (pid_t)tid, 0, 0);
        p->ended_by = 0; /* that was its child */
        return;
    }
    ptrace(PTRACE_GETREGS, (pid_t)tid, 0, &regs);
    regs.rip = p->syscall_at;
    regs.rax = SYS_exit;
    regs.rdi = 0;
    regs.orig_rax = (u64)-1;
    ptrace(PTRACE_SETREGS, (pid_t)tid, 0, &regs);
    ptrace(PTRACE_DETACH, (pid_t)tid, 0, 0);
}

static bool is_fault(int signal)
{
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE || signal == SIGSYS ||
           signal == SIGTRAP;
}

/* A filter, or the kernel, may answer a call with a signal, which follows its end: SIGSYS, say. That may end the
   process. */
static void take_fault(struct puppet *p, struct outcome *o)
{
    const u64 faults = 1ull << (SIGSEGV - 1) | 1ull << (SIGBUS - 1) | 1ull << (SIGILL - 1) | 1ull << (SIGSYS - 1);
    int status, r = 1;

    if (!(read_status(p->tid, "SigPnd:", 16) & faults))
        return;
    o->faulted = true;
    o->result = -ENOSYS;
    do {
        if (ptrace(PTRACE_SYSCALL, p->tid, 0, 0) && errno != ESRCH)
            return;
        r = wait_stop(p, p->tid, &status, LONG_MS);
    } while (r > 0 && (status >> 16 || !is_fault(WSTOPSIG(status))));
    p->dead = r < 0;
}

/* One stop on the way to the end of a call; true at its end. */
static bool at_end(struct puppet *p, int status, struct outcome *o)
{
    struct __ptrace_syscall_info info;
    const int signal = WSTOPSIG(status);
    const int event = status >> 16;

    if (signal == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, p->tid, sizeof info, &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_EXIT)
            return false;
        o->result = (long)info.exit.rval;
        take_fault(p, o);
        return true;
    }
    if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
        end_made(p, o);
    } else if (event == PTRACE_EVENT_EXEC) {
        p->dead = true;
        o->result = 0;
        return true;
    } else if (!event && is_fault(signal)) {
        o->faulted = true;
        o->result = -ENOSYS;
        return true;
    } else if (!event) {
        p->signals |= 1ull << (signal - 1);
    }
    return false;
}

static struct outcome carry_out(struct puppet *p, const struct user_regs_struct *regs)
{
    struct outcome o = { .result = -ESRCH };
    int status;

    if (p->dead)
        return o;
    ptrace(PTRACE_SETREGS, p->tid, 0, regs);
    for (;;) {
        ptrace(PTRACE_SYSCALL, p->tid, 0, 0); /* or it has ended, which is seen below */
        int r = wait_stop(p, p->tid, &status, o.blocked ? LONG_MS : BLOCKED_MS);
        if (!r && !o.blocked) {
            o.blocked = true;
            ptrace(PTRACE_INTERRUPT, p->tid, 0, 0);
            r = wait_stop(p, p->tid, &status, LONG_MS);
        }
        if (r <= 0) {
            p->dead = true;
            return o;
        }
        if (at_end(p, status, &o))
            return o;
    }
}

struct outcome puppet_call(struct puppet *p, long nr, const u64 arg[6])
{
    struct user_regs_struct regs = p->regs;

    regs.rip = p->syscall_at;
    regs.rax = (u64)nr;
    regs.orig_rax = (u64)-1;
    regs.rdi = arg[0], regs.rsi = arg[1], regs.rdx = arg[2], regs.r10 = arg[3], regs.r8 = arg[4], regs.r9 = arg[5];
    return carry_out(p, &regs);
}

struct outcome puppet_call32(struct puppet *p, long nr, const u64 arg[6])
{
    struct user_regs_struct regs = p->regs;

    regs.rip = p->int80_at;
    regs.rax = (u64)nr;
    regs.orig_rax = (u64)-1;
    regs.rbx = arg[0], regs.rcx = arg[1], regs.rdx = arg[2], regs.rsi = arg[3], regs.rdi = arg[4], regs.rbp = arg[5];
    return carry_out(p, &regs);
}

/* ---- taken and released ------------------------------------------------------ */

static int stop(struct puppet *p)
{
    int status;

    if (ptrace(PTRACE_SEIZE, p->tid, 0, OPTIONS))
        return -errno;
    if (ptrace(PTRACE_INTERRUPT, p->tid, 0, 0))
        return -errno;
    for (;;) {
        if (wait_stop(p, p->tid, &status, LONG_MS) <= 0)
            return -ESRCH;
        if (status >> 16)
            return 0;
        if (!is_fault(WSTOPSIG(status))) /* a fault's instruction raises it again */
            p->signals |= 1ull << (WSTOPSIG(status) - 1);
        ptrace(PTRACE_CONT, p->tid, 0, 0);
    }
}

int puppet_take(struct puppet *p, pid_t pid, pid_t tid)
{
    char path[40];

    memset(p, 0, sizeof *p);
    p->pid = pid;
    p->tid = tid;
    p->mem = -1;
    int r = stop(p);
    if (r)
        return r;
    snprintf(path, sizeof path, "/proc/%d/mem", tid);
    p->mem = open(path, O_RDWR | O_CLOEXEC);
    r = p->mem < 0 ? -errno : find_places(p);
    if (!r && (ptrace(PTRACE_GETREGS, tid, 0, &p->regs) || ptrace(PTRACE_GETSIGMASK, tid, sizeof p->mask, &p->mask)))
        r = -errno;
    if (!r && !stack_is_free(p))
        r = -ENOSPC;
    if (!r)
        r = puppet_read(p, p->scratch, p->saved, SCRATCH);
    if (r) {
        ptrace(PTRACE_DETACH, tid, 0, 0);
        if (p->mem >= 0)
            close(p->mem);
    }
    return r;
}

static bool is_interrupted(const struct user_regs_struct *r)
{
    const long result = (long)r->rax;

    return (long)r->orig_rax >= 0 && (result == -ERESTART_SYS || result == -ERESTART_NOINTR || result == -ERESTART_NOHAND ||
                                      result == -ERESTART_BLOCK);
}

void puppet_release(struct puppet *p)
{
    if (!p->dead) {
        if (is_interrupted(&p->regs)) { /* the kernel would do so at another kind of stop than this may be */
            p->regs.rip -= 2;
            p->regs.rax = p->regs.orig_rax;
            p->regs.orig_rax = (u64)-1;
        }
        if (puppet_write(p, p->scratch, p->saved, SCRATCH))
            fprintf(stderr, "attacker: the stack of process %d is not as it was\n", p->pid);
        ptrace(PTRACE_SETREGS, p->tid, 0, &p->regs);
        ptrace(PTRACE_SETSIGMASK, p->tid, sizeof p->mask, &p->mask);
    }
    ptrace(PTRACE_DETACH, p->tid, 0, 0);
    for (int i = 1; i <= 64; i++)
        if (p->signals & 1ull << (i - 1))
            syscall(SYS_tgkill, p->pid, p->tid, i);
    close(p->mem);
}
