/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck_debugging.c - a watchpoint that another process sets, and single steps. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selfcheck.h"

static volatile u64 watched[8] __attribute__((aligned(64)));
static volatile u64 traps;
static void on_trap(int sig)
{
    (void)sig;
    traps++;
}
void debugging(void)
{
    for (; going();) {
        const unsigned n = 1 + (unsigned)(rnd() % 20);
        const pid_t pid = fork();
        if (!pid) {
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            raise(SIGSTOP);
            for (unsigned k = 0; k < n; k++) {
                for (unsigned j = 0; j < 50; j++)
                    watched[1] += j;
                watched[0] = k;
            }
            _exit(0);
        }
        int status, hits = 0;
        waitpid(pid, &status, 0);
        if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &watched[0]) ||
            ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0x90001)) { /* 8 bytes, writes */
            bad("debug registers: %d", errno);
        }
        for (;;) {
            ptrace(PTRACE_CONT, pid, 0, 0);
            if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
                break;
            hits++;
            const long dr6 = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, u_debugreg[6]), 0);
            if (WSTOPSIG(status) != SIGTRAP || !(dr6 & 1))
                bad("a stop by %d, DR6 %#lx", WSTOPSIG(status), dr6);
            ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[6]), 0);
        }
        if (status || hits != (int)n)
            bad("%d hits of a watchpoint, not %u; status %#x", hits, n, status);

        signal(SIGTRAP, on_trap);
        traps = 0;
        u64 x = 5;
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; add $1, %0; imul $3, %0; mov %0, %1; xchg %0, %1\n"
                         "pushfq; andq $~0x100, (%%rsp); popfq" : "+r"(x), "+m"(watched[2])::"cc", "memory");
        if (x != 18 || traps != 7)
            bad("%lu single steps, not 7; %lu", traps, x);
    }
}
