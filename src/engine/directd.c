/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directd.c - see directd.h and runner.h. For each request it makes one process, which hands over the listener of its
 * reports, gives up everything but the guest's memory, and waits in the stub. The engine's first orders remove what is left
 * of this program's own memory there.
 */
#include "engine/directd.h"

#include <asm/prctl.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/pass.h"
#include "base/sandbox.h"
#include "engine/runner.h"

/* ---- the stub ------------------------------------------------------------------ */

/*
 * All of it is position-independent but for the addresses of the room, and touches no memory but the room. The program may
 * jump to any byte of it with any registers. It gains nothing: it could execute each of these instructions itself, except
 * SYSCALL, and the filter lets a call through only at three places, of which one leads on in the stub and the others want
 * the secret.
 */
extern const u8 stub_begin[], stub_handler[], stub_report[], stub_map[], stub_sigreturn[], stub_first[], stub_end[];
__asm__(".pushsection .rodata\n"
        "stub_begin:\n"
        /* A signal: what its frame lacks is saved beside it. rdi, rsi, rdx stay. */
        "stub_handler:\n"
        "  movabs $0x2f5d6c005000, %r8\n" /* RUNNER_SAVED */
        "  rdfsbase %rax\n  mov %rax, (%r8)\n"
        "  rdgsbase %rax\n  mov %rax, 8(%r8)\n"
        "  mov %ds, %eax\n  mov %eax, 16(%r8)\n"
        "  mov %es, %eax\n  mov %eax, 20(%r8)\n"
        "  mov %fs, %eax\n  mov %eax, 24(%r8)\n"
        "  mov %gs, %eax\n  mov %eax, 28(%r8)\n"
        "0:\n"
        "  mov $39, %eax\n" /* RUNNER_REPORT_CALL */
        "  syscall\n"
        "stub_report:\n"
        "  mov %rax, %rbx\n"
        "  mov %rax, %r15\n  shr $32, %r15\n  shl $32, %r15\n"
        "  mov %rax, %rbp\n  shl $32, %rbp\n"
        "  movabs $0x2f5d6c001000, %r12\n" /* RUNNER_ORDERS */
        "  mov (%r12), %r13\n"
        "  lea 56(%r12), %r14\n"
        "1:\n"
        "  test %r13, %r13\n  jz 2f\n"
        "  mov (%r14), %rax\n"
        "  mov 8(%r14), %rdi\n"
        "  mov 16(%r14), %rsi\n"
        "  mov 24(%r14), %rdx\n"
        "  mov 32(%r14), %r10\n  or %r15, %r10\n"
        "  lea 4(%rbp), %r8\n" /* RUNNER_FD_MEMORY */
        "  mov 40(%r14), %r9\n"
        "  syscall\n"
        "stub_map:\n"
        "  cmp $-4096, %rax\n  ja 3f\n"
        "  add $48, %r14\n  dec %r13\n  jmp 1b\n"
        "2:\n"
        "  mov 40(%r12), %eax\n  mov %eax, %ds\n"
        "  mov 44(%r12), %eax\n  mov %eax, %es\n"
        "  mov 48(%r12), %eax\n  mov %eax, %fs\n"
        "  mov 52(%r12), %eax\n  mov %eax, %gs\n"
        "  mov 8(%r12), %rax\n  wrfsbase %rax\n"
        "  mov 16(%r12), %rax\n  wrgsbase %rax\n"
        "  mov 24(%r12), %rsp\n"
        "  pushq 32(%r12)\n  popfq\n"
        "  mov %rbx, %rdi\n"
        "  mov $15, %eax\n" /* rt_sigreturn */
        "  syscall\n"
        "stub_sigreturn:\n"
        "  ud2\n"
        "3:\n"
        "  mov %rax, %rsi\n"
        "  mov $-1, %rdi\n"
        "  jmp 0b\n"
        "stub_first:\n" /* where a new process goes: it makes the first frame */
        "  ud2\n"
        "stub_end:\n"
        ".popsection\n");
_Static_assert(RUNNER_BASE + RUNNER_SAVED == 0x2f5d6c005000 && RUNNER_BASE + RUNNER_ORDERS == 0x2f5d6c001000 &&
                   offsetof(struct runner_orders, map) == 56 && sizeof(struct runner_map) == 48 && RUNNER_FD_MEMORY == 4 &&
                   RUNNER_REPORT_CALL == 39 && offsetof(struct runner_orders, ds) == 40,
               "the stub above has these numbers");

static u64 at(const u8 *label) { return RUNNER_BASE + RUNNER_CODE + (u64)(label - stub_begin); }

/* ---- a runner ------------------------------------------------------------------ */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LOW(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n))
#define HIGH(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (n) + 4)
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (u32)(value), (yes), (no))
#define GIVE(action) BPF_STMT(BPF_RET | BPF_K, (action))

/* The reports. Everything else is as before, so that the process can send the listener that this returns. */
static int filter_reports(void)
{
    struct sock_filter code[] = {
        LOAD(arch), IS(AUDIT_ARCH_X86_64, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4), IS(RUNNER_BASE >> 32, 0, 3),
        LOAD(instruction_pointer), IS(at(stub_report), 0, 1),
        GIVE(SECCOMP_RET_USER_NOTIF),
        GIVE(SECCOMP_RET_ALLOW),
    };
    return sandbox_load(code, ARRAY_SIZE(code), SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

/* And nothing else but the stub's mappings of the guest's memory and its rt_sigreturn. */
static int filter_all(u64 secret)
{
    const u32 high = (u32)(secret >> 32), low = (u32)secret;
    struct sock_filter code[] = {
        /* 0 */ LOAD(arch), IS(AUDIT_ARCH_X86_64, 0, 30),
        /* 2 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
        /* 3 */ IS(RUNNER_BASE >> 32, 0, 28),
        /* 4 */ LOAD(instruction_pointer), IS(at(stub_map), 9, 0), IS(at(stub_sigreturn), 2, 0),
        /* 7 */ IS(at(stub_report), 23, 24), GIVE(SECCOMP_RET_TRAP),
        /* 9 */ LOAD(nr), IS(SYS_rt_sigreturn, 0, 21),
        /* 11 */ LOW(0), IS(low, 0, 19),
        /* 13 */ HIGH(0), IS(high, 16, 17),
        /* 15 */ HIGH(3), IS(high, 0, 15),
        /* 17 */ HIGH(4), IS(low, 0, 13),
        /* 19 */ LOAD(nr), IS(SYS_munmap, 10, 0), IS(SYS_mmap, 0, 10),
        /* 22 */ LOW(4), IS(RUNNER_FD_MEMORY, 0, 8),
        /* 24 */ LOW(3), IS(MAP_SHARED | MAP_FIXED, 5, 0), IS(MAP_SHARED | MAP_FIXED | MAP_POPULATE, 4, 5),
        /* 27 */ GIVE(SECCOMP_RET_TRAP), GIVE(SECCOMP_RET_TRAP), GIVE(SECCOMP_RET_TRAP), GIVE(SECCOMP_RET_TRAP),
        /* 31 */ GIVE(SECCOMP_RET_ALLOW),
        /* 32 */ GIVE(SECCOMP_RET_TRAP),
    };
    return sandbox_load(code, ARRAY_SIZE(code), 0);
}

static _Noreturn void give_up(int r)
{
    const struct runner_answer a = { .magic = RUNNER_MAGIC, .result = r };
    (void)!send(RUNNER_FD_ENGINE, &a, sizeof a, MSG_NOSIGNAL);
    _exit(1);
}

static int set_signals(void)
{
    /* sigaction(2) as the kernel has it: the C library would put its own restorer there. */
    const struct { u64 handler, flags, restorer, mask; } action = {
        at(stub_handler), SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */, at(stub_sigreturn), ~0ull
    };
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGIO };
    const stack_t stack = { .ss_sp = (void *)(RUNNER_BASE + RUNNER_STACK), .ss_size = RUNNER_ROOM - RUNNER_STACK,
                            .ss_flags = (int)(1u << 31) /* SS_AUTODISARM: each frame lies at the same place */ };
    const u64 none = 0;

    if (syscall(SYS_sigaltstack, &stack, NULL))
        return -errno;
    for (unsigned k = 0; k < ARRAY_SIZE(signals); k++)
        if (syscall(SYS_rt_sigaction, signals[k], &action, NULL, 8))
            return -errno;
    return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8) ? -errno : 0;
}

/* The C library has told the kernel of a place in its memory (rseq(2)), which will not be there any more. How large it is
   depends on the library's version. */
static void forget_rseq(void)
{
    void *at = (char *)__builtin_thread_pointer() + __rseq_offset;
    for (u32 size = 20; size <= 512 && syscall(SYS_rseq, at, size, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG); size++)
        ;
}

/* In the new process. */
static _Noreturn void become(const struct runner_ask *q, int room)
{
    const int prot[] = { PROT_READ | PROT_EXEC, PROT_READ, PROT_READ | PROT_WRITE };
    const u64 from[] = { RUNNER_CODE, RUNNER_ORDERS, RUNNER_SAVED, RUNNER_ROOM };

    forget_rseq();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "lodge-run");
    for (unsigned k = 0; k < ARRAY_SIZE(prot); k++)
        if (mmap((void *)(RUNNER_BASE + from[k]), from[k + 1] - from[k], prot[k], MAP_SHARED | MAP_FIXED_NOREPLACE, room,
                 (off_t)from[k]) == MAP_FAILED)
            give_up(-errno);
    int r = set_signals();
    if (!r && q->trap_tsc && prctl(PR_SET_TSC, PR_TSC_SIGSEGV))
        r = -errno;
    /* Where the processor has CPUID faulting; nothing in this program uses CPUID from here on. */
    const bool traps_cpuid = !syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    int bell[2];
    if (!r && (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, bell) || fcntl(bell[0], F_SETFL, O_NONBLOCK | O_ASYNC) ||
               fcntl(bell[1], F_SETFL, O_NONBLOCK | O_ASYNC) || fcntl(bell[1], F_SETOWN, getpid())))
        r = -errno;
    if (r)
        give_up(r);
    const int listener = filter_reports();
    if (listener < 0)
        give_up(listener);
    const struct runner_answer a = { .magic = RUNNER_MAGIC, .pid = getpid(), .traps_cpuid = traps_cpuid,
                                     .report = at(stub_report),
                                     .sigreturn = at(stub_sigreturn) };
    if (pass_send(RUNNER_FD_ENGINE, &a, sizeof a, (int[]){ listener, room, bell[0], bell[1] }, RUNNER_DESCRIPTORS, 0))
        _exit(1);
    /* Only the guest's memory stays. */
    if (syscall(SYS_close_range, RUNNER_FD_MEMORY + 1, ~0u, 0) || syscall(SYS_close_range, 0, RUNNER_FD_MEMORY - 1, 0) ||
        filter_all(q->secret))
        _exit(1);
    __asm__ volatile("jmp *%0" ::"r"(at(stub_first)));
    __builtin_unreachable();
}

static int make(const struct runner_ask *q)
{
    const int room = memfd_create("lodge-runner", MFD_CLOEXEC);
    if (room < 0 || ftruncate(room, RUNNER_ROOM) ||
        pwrite(room, stub_begin, (size_t)(stub_end - stub_begin), RUNNER_CODE) != stub_end - stub_begin) {
        const int r = -errno;
        if (room >= 0)
            close(room);
        return r;
    }
    const pid_t pid = fork();
    if (!pid)
        become(q, room);
    const int r = pid < 0 ? -errno : 0;
    close(room);
    return r;
}

/* ---- guards ---------------------------------------------------------------------- */

/* The registers stay set when it is not traced any more. */
static int set_guards(const struct runner_guard *q)
{
    unsigned long enabled = 0;
    int status, r = 0;

    if (q->pid <= 0 || waitpid(q->pid, &status, WNOHANG)) /* not a runner, or it has ended */
        return -ESRCH;
    if (ptrace(PTRACE_SEIZE, q->pid, 0, 0))
        return -errno;
    if (ptrace(PTRACE_INTERRUPT, q->pid, 0, 0) || waitpid(q->pid, &status, __WALL) != q->pid || !WIFSTOPPED(status))
        r = -ESRCH;
    for (unsigned k = 0; !r && k < RUNNER_GUARDS; k++)
        if (q->address[k]) {
            enabled |= 1ul << 2 * k; /* DR7.Lk; R/W and LEN 0: execution */
            r = ptrace(PTRACE_POKEUSER, q->pid, offsetof(struct user, u_debugreg[k]), q->address[k]) ? -errno : 0;
        }
    if (ptrace(PTRACE_POKEUSER, q->pid, offsetof(struct user, u_debugreg[7]), r ? 0 : enabled) && !r)
        r = -errno;
    return ptrace(PTRACE_DETACH, q->pid, 0, 0) && !r ? -errno : r;
}

/* ---- can it be done here? ------------------------------------------------------------ */

static int ask_for_one(int socket, struct directd_report *r)
{
    const struct runner_ask q = { .magic = RUNNER_MAGIC, .secret = 1 };
    struct runner_guard g = { .magic = RUNNER_GUARD_MAGIC };
    struct runner_answer a = { 0 };
    int fd[RUNNER_DESCRIPTORS];
    if (send(socket, &q, sizeof q, MSG_NOSIGNAL) != sizeof q)
        return -errno;
    const int n = pass_receive(socket, &a, sizeof a, fd, RUNNER_DESCRIPTORS);
    if (n < 0)
        return n;
    if (n == RUNNER_DESCRIPTORS && !a.result) {
        r->cpuid = a.traps_cpuid;
        g.pid = a.pid;
        g.address[0] = RUNNER_BASE;
        r->guards = send(socket, &g, sizeof g, MSG_NOSIGNAL) == sizeof g && recv(socket, &a, sizeof a, 0) == sizeof a && !a.result;
    } else if (!a.result) {
        a.result = -EPROTO;
    }
    for (int k = 0; k < n; k++)
        close(fd[k]);
    return a.result;
}

void directd_probe(struct directd_report *r)
{
    char *const argv[] = { (char *)"lodge", (char *)"directd", NULL };
    struct child c = { .says = -1 };
    int pair[2] = { -1, -1 };

    *r = (struct directd_report){ 0 };
    const int memory = memfd_create("lodge-probe", MFD_CLOEXEC);
    int e = memory < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) ? -errno : 0;
    if (!e && !(e = child_start(&c, argv, (int[]){ pair[1], memory }, 2))) {
        close(pair[1]);
        pair[1] = -1;
        e = ask_for_one(pair[0], r);
    }
    for (int k = 0; k < 2; k++)
        if (pair[k] >= 0)
            close(pair[k]);
    if (memory >= 0)
        close(memory);
    child_end(&c);
    r->usable = !e;
    if (e)
        error_set(&r->why, -e, "this host refuses what it needs (seccomp with a listener, as some containers do): %s", strerror(-e));
}

/* ---- the process ----------------------------------------------------------------------- */

union question {
    u32 magic;
    struct runner_ask ask;
    struct runner_guard guard;
};

/* -EBADMSG: nobody that speaks to us asks so. */
static int answer(const union question *q, size_t size)
{
    struct runner_answer a = { .magic = q->magic };
    if (size == sizeof q->ask && q->magic == RUNNER_MAGIC) {
        a.result = make(&q->ask);
        if (!a.result) /* the runner answers itself */
            return 0;
    } else if (size == sizeof q->guard && q->magic == RUNNER_GUARD_MAGIC) {
        a.result = set_guards(&q->guard);
    } else {
        return -EBADMSG;
    }
    return send(RUNNER_FD_ENGINE, &a, sizeof a, MSG_NOSIGNAL) == sizeof a ? 0 : -errno;
}

int directd_main(int argc, char **argv)
{
    union question q;
    struct error err = { 0 };
    (void)argv;

    if (argc != 1 || (recv(RUNNER_FD_ENGINE, &q, sizeof q, MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN)) {
        fprintf(stderr, "lodge: \"directd\" is for lodge itself\n");
        return 2;
    }
    prctl(PR_SET_NAME, "lodge-direct");
    signal(SIGCHLD, SIG_IGN); /* nobody waits for a runner */
    if (sandbox_enter(SANDBOX_DIRECT, NULL, NULL, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (;;) {
        const ssize_t n = recv(RUNNER_FD_ENGINE, &q, sizeof q, 0);
        if (n <= 0)
            return 0;
        if (answer(&q, (size_t)n))
            return 1;
    }
}
