/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_gate.c - host exceptions that a guest's instruction causes.
 *
 * An exception inside a stub (native.h) is the guest's: #DE, #UD, #GP for a misaligned operand, #MF, #XM. The signal handler
 * turns it into a call of soft_native_fault(v, i, vector, address) in the interrupted thread. The return from the signal
 * puts the guest's vectors back first. An exception in translated code is handled likewise, but that code goes on at a stub
 * of its own (translate/stubs.c).
 *
 * It is known which exceptions a guest's instruction can cause there (is_guests). Any other is a fault of ours: a wrong
 * pointer, or code that was not meant to run. It ends the process with a message that says what is known of it, and does
 * not become an exception in a guest that did nothing wrong.
 *
 * A signal's disposition belongs to the process, and so does the list of address ranges that are stubs. This is the one
 * place where file-scope state cannot be avoided. A fault anywhere else goes to the handler that the signal had before, or
 * kills the process.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/soft/native.h"

enum { RANGES = 4096 };
static u64 range_start[RANGES]; /* 0: free; all are NATIVE_CODE_SIZE long */
static struct soft_vcpu *range_owner[RANGES];
static u32 range_top;           /* no range at this index or after it is used */
static pthread_mutex_t range_lock = PTHREAD_MUTEX_INITIALIZER;

static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
static struct sigaction previous[ARRAY_SIZE(fault_signals)];
static bool installed;

/* The processor this thread runs. */
_Thread_local struct soft_vcpu *soft_fault_vcpu;

/* Returns the processor that owns the stub at rip; NULL: there is no stub. */
static struct soft_vcpu *stub_owner(u64 rip)
{
    u32 top = __atomic_load_n(&range_top, __ATOMIC_ACQUIRE);
    for (u32 n = 0; n < top; n++) {
        u64 start = __atomic_load_n(&range_start[n], __ATOMIC_RELAXED);
        if (start && rip - start < NATIVE_CODE_SIZE)
            return __atomic_load_n(&range_owner[n], __ATOMIC_RELAXED);
    }
    return NULL;
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
            signal(sig, SIG_DFL); /* the instruction runs again, and the signal ends the process */
    }
}

/* ---- whose fault it is -------------------------------------------------- */

static bool in_guest_memory(const struct soft_vcpu *v, u64 host)
{
    const struct memory *m = v->vm ? v->vm->cfg.memory : NULL;
    for (u32 n = 0; m && n < m->npieces; n++)
        if (host - (u64)m->piece[n].host < m->piece[n].size)
            return true;
    return false;
}

/* The host's instruction at pc, and the address of its operand in memory, if it has one. */
static bool host_insn(struct decoded *d, const greg_t *g, u64 pc, u64 end, u64 *ea)
{
    static const int number[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    if (decode(d, (const u8 *)pc, (unsigned)MIN(end - pc, 15ull), 64, true) != DECODE_OK)
        return false;
    *ea = (u64)d->disp;
    if (d->base != 0xff)
        *ea += (u64)g[number[d->base & 15]];
    if (d->index != 0xff)
        *ea += (u64)g[number[d->index & 15]] << d->scale;
    if (d->rip_relative)
        *ea += pc + d->len;
    return true;
}

/*
 * True if the guest's instruction can have caused the exception at pc. pc is in code that was made for v and ends before
 * end. These exceptions can be the guest's:
 *
 *   SIGBUS              if the host cannot supply a page of guest memory
 *   #DE                 only of DIV and IDIV
 *   #UD, #MF, #XM       always: the host's unit raises them when the operand is there and nothing else was done
 *   #GP                 for an operand in memory that is misaligned (or, for LDMXCSR, not allowed). It is never the guest's
 *                       without a memory operand, or with an address that is not canonical: pointers to guest memory are
 *                       canonical, but on a stack in NO_STACK_PAGE
 *   #PF                 in the pages that vec_masked.c keeps for this. Other addresses were probed before, so one that is
 *                       not mapped did not come from the guest
 */
static bool is_guests(const struct soft_vcpu *v, int sig, const siginfo_t *info, const greg_t *g, u64 pc, u64 end)
{
    const struct soft_native *n = v->native;
    const u64 addr = (u64)info->si_addr;
    struct decoded d;
    u64 ea;
    if (sig == SIGBUS && g[REG_TRAPNO] != VEC_AC && in_guest_memory(v, addr))
        return true;
    switch (g[REG_TRAPNO]) {
    case VEC_DE:
        return host_insn(&d, g, pc, end, &ea) && (d.desc->mnemonic == M_DIV || d.desc->mnemonic == M_IDIV);
    case VEC_UD:
    case VEC_MF:
    case VEC_XM: return true;
    case VEC_GP:
        return host_insn(&d, g, pc, end, &ea) && d.has_mem && d.seg_override == 0xff &&
               ((u64)((s64)ea << 16 >> 16) == ea || (u64)g[REG_R9] - (NO_STACK_PAGE - MiB(1)) < MiB(2));
    case VEC_PF: return n && n->masked_active && addr - (u64)n->guard < GUARD_PAGES * 4096;
    }
    return false;
}

_Noreturn static void internal_error(const struct soft_vcpu *v, const char *where, const siginfo_t *info, const greg_t *g,
                                     u64 start, u64 end)
{
    const u64 pc = (u64)g[REG_RIP];
    char text[512];
    int n = snprintf(text, sizeof text,
                     "lodge: internal error: exception %llu (error code %#llx, address %#llx) at %#llx, %#llx into the %s of CPU "
                     "%u, is none that its guest can cause there. Please report this line:",
                     (unsigned long long)g[REG_TRAPNO], (unsigned long long)g[REG_ERR], (unsigned long long)(u64)info->si_addr,
                     (unsigned long long)pc, (unsigned long long)(pc - start), where, v->id);
    for (u64 k = 0; k < 16 && pc + k < end && n < (int)sizeof text - 8; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %02x", ((const u8 *)pc)[k]);
    n += snprintf(text + n, sizeof text - (size_t)n, "\r\n");
    (void)!write(STDERR_FILENO, text, (size_t)n);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void in_translation(struct soft_vcpu *v, int sig, const siginfo_t *info, greg_t *g)
{
    const u64 pc = (u64)g[REG_RIP], end = v->tr.code + v->tr.code_size, pushed = (u64)info->si_addr;
    if (sig == SIGSEGV && pushed - (u64)v->tr.stack < GUEST_PAGE_SIZE && pushed == (u64)g[REG_RSP] - 8) {
        /* A CALL found no room on the stack of translated calls. The stack is emptied, so no entry is returned to. */
        g[REG_RSP] = (greg_t)v->tr.base;
        return;
    }
    /* The translated code goes on at its own stub, which finds out the instruction (translate.c). There is no such stub if
       pc is not in a translation. */
    const u64 on = is_guests(v, sig, info, g, pc, end) ? v->tr.fault(v, pc) : 0;
    if (!on)
        internal_error(v, "translated code", info, g, v->tr.code, end);
    v->tr.fault_pc = pc;
    g[REG_RIP] = (greg_t)on;
}

static void in_native_stub(struct soft_vcpu *v, int sig, const siginfo_t *info, greg_t *g)
{
    const u64 start = (u64)v->native->rx, end = start + NATIVE_CODE_SIZE;
    /* rdi and rsi are v and i already (native.h). */
    if ((u64)g[REG_RDI] != (u64)v || !is_guests(v, sig, info, g, (u64)g[REG_RIP], end))
        internal_error(v, "native stubs", info, g, start, end);
    /* The stack below the stub's is free. At a function's first instruction, RSP is 8 less than a multiple of 16. */
    g[REG_RDX] = g[REG_TRAPNO];
    g[REG_RCX] = (greg_t)info->si_addr;
    g[REG_RSP] = ((g[REG_RSP] - 128) & ~15ll) - 8;
    g[REG_RIP] = (greg_t)soft_native_fault;
    g[REG_EFL] &= ~(greg_t)(RFLAGS_DF | RFLAGS_AC);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    struct soft_vcpu *v = soft_fault_vcpu;
    if (info->si_code <= 0) { /* the signal was sent, by kill() and the like */
        not_ours(sig, info, context);
    } else if (v && (u64)g[REG_RIP] - v->tr.code < v->tr.code_size) {
        in_translation(v, sig, info, g);
    } else if ((v = stub_owner((u64)g[REG_RIP]))) {
        in_native_stub(v, sig, info, g);
    } else {
        not_ours(sig, info, context);
    }
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
            __atomic_store_n(&range_owner[n], v, __ATOMIC_RELAXED);
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
