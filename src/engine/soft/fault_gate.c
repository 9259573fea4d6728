/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_gate.c - an exception inside a stub (native.h) is the guest's: #DE, #UD,
 * #GP for a misaligned operand, #MF, #XM. The signal handler turns it into a call
 * of soft_native_fault(v, i, vector, address) in the interrupted thread; the
 * return from the signal puts the guest's vectors back first.
 *
 * A signal's disposition belongs to the process, and so does the list of address
 * ranges that are stubs: the one place where file-scope state cannot be avoided.
 * A fault anywhere else goes on to whoever handled the signal before, or kills.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include "engine/soft/native.h"

enum { RANGES = 4096 };
static u64 range_start[RANGES]; /* 0: free; all are NATIVE_CODE_SIZE long */
static u32 range_top;           /* none used at or after it */
static pthread_mutex_t range_lock = PTHREAD_MUTEX_INITIALIZER;

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction previous[ARRAY_SIZE(fault_signals)];
static bool installed;

/* The processor this thread runs. */
_Thread_local struct soft_vcpu *soft_fault_vcpu;

static bool in_stub(u64 rip)
{
    u32 top = __atomic_load_n(&range_top, __ATOMIC_ACQUIRE);
    for (u32 n = 0; n < top; n++) {
        u64 start = __atomic_load_n(&range_start[n], __ATOMIC_RELAXED);
        if (start && rip - start < NATIVE_CODE_SIZE)
            return true;
    }
    return false;
}

static void not_ours(int sig, siginfo_t *info, void *context)
{
    for (unsigned n = 0; n < ARRAY_SIZE(fault_signals); n++) {
        if (fault_signals[n] != sig)
            continue;
        const struct sigaction *p = &previous[n];
        if (p->sa_flags & SA_SIGINFO)
            p->sa_sigaction(sig, info, context);
        else if (p->sa_handler != SIG_DFL && p->sa_handler != SIG_IGN)
            p->sa_handler(sig);
        else
            signal(sig, SIG_DFL); /* the instruction runs again and the process dies of it */
    }
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    struct soft_vcpu *v = soft_fault_vcpu;
    if (info->si_code > 0 && v && (u64)g[REG_RIP] - v->jit_code < v->jit_code_size) {
        /* In a translation: its own stub finds out which instruction it is (translate.c). */
        const u64 low = (u64)v->jit_stack;
        if (sig == SIGSEGV && (u64)info->si_addr - low < GUEST_PAGE_SIZE) {
            /* A CALL, and no room for another: nobody will be returned to. */
            g[REG_RSP] = (greg_t)v->jit_base;
            return;
        }
        v->jit_fault_pc = (u64)g[REG_RIP];
        g[REG_RIP] = (greg_t)v->jit_fault(v, (u64)g[REG_RIP]);
        return;
    }
    if (info->si_code <= 0 || !in_stub((u64)g[REG_RIP])) {
        not_ours(sig, info, context);
        return;
    }
    /* rdi and rsi are v and i already (native.h). The stack below the stub's is free; at a function's first
       instruction it is 8 short of a multiple of 16. */
    g[REG_RDX] = g[REG_TRAPNO];
    g[REG_RCX] = (greg_t)info->si_addr;
    g[REG_RSP] = ((g[REG_RSP] - 128) & ~15ll) - 8;
    g[REG_RIP] = (greg_t)soft_native_fault;
    g[REG_EFL] &= ~(greg_t)(RFLAGS_DF | RFLAGS_AC);
}

static int install(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_sigaction = on_fault;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&sa.sa_mask);
    for (unsigned n = 0; n < ARRAY_SIZE(fault_signals); n++)
        if (sigaction(fault_signals[n], &sa, &previous[n]) < 0)
            return -errno;
    installed = true;
    return 0;
}

int fault_register(struct soft_vcpu *v)
{
    int r = 0;
    u32 n = 0;
    pthread_mutex_lock(&range_lock);
    if (!installed)
        r = install();
    if (!r) {
        while (n < RANGES && range_start[n])
            n++;
        if (n == RANGES) {
            r = -ENOSPC;
        } else {
            __atomic_store_n(&range_start[n], (u64)v->native->rx, __ATOMIC_RELAXED);
            if (n >= range_top)
                __atomic_store_n(&range_top, n + 1, __ATOMIC_RELEASE);
        }
    }
    pthread_mutex_unlock(&range_lock);
    return r;
}

void fault_unregister(struct soft_vcpu *v)
{
    pthread_mutex_lock(&range_lock);
    for (u32 n = 0; n < RANGES; n++)
        if (range_start[n] == (u64)v->native->rx)
            __atomic_store_n(&range_start[n], 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&range_lock);
}
