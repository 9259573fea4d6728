/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_sandbox - writes the system call filters of src/base/sandbox.c, at build time.
 *
 *   gen_sandbox SANDBOX_FILTERS_H
 *
 * The tables say which calls each kind of sandbox still makes; libseccomp makes a program for the kernel of each
 * (seccomp(2)).  It does so here and not in the process that goes into the sandbox, since it allocates a lot and does not
 * come back, or crashes, where it gets no memory (2.5.4).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

enum {
    FOR_USER = 1 << SANDBOX_USER, FOR_SWITCH = 1 << SANDBOX_SWITCH, FOR_SCREEN = 1 << SANDBOX_SCREEN,
    FOR_VIEWER = 1 << SANDBOX_VIEWER | FOR_SCREEN, /* a filter stays on those who come after */
    FOR_FOLDER = 1 << SANDBOX_FOLDER,
    FOR_PEERS = FOR_USER | FOR_SWITCH | FOR_VIEWER, /* those that speak with strangers */
    FOR_ALL = FOR_PEERS | FOR_FOLDER,
    /* The worker's threads: what the loop's may do, the others may do less of. */
    FOR_LOOP = 1 << SANDBOX_LOOP, FOR_VCPU = 1 << SANDBOX_VCPU, FOR_BLOCK = 1 << SANDBOX_BLOCK, FOR_OUTPUT = 1 << SANDBOX_OUTPUT,
    FOR_THREADS = FOR_LOOP | FOR_VCPU | FOR_BLOCK | FOR_OUTPUT, FOR_EACH = FOR_ALL | FOR_THREADS,
};

static const struct {
    int nr;
    u32 who;
} calls[] = {
    /* waiting, and the clock where the vDSO does not answer */
    { SCMP_SYS(poll), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(ppoll), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(epoll_wait), FOR_SWITCH },
    { SCMP_SYS(epoll_pwait), FOR_SWITCH },
    { SCMP_SYS(epoll_ctl), FOR_SWITCH },
    { SCMP_SYS(timerfd_settime), FOR_SWITCH },
    { SCMP_SYS(clock_gettime), FOR_EACH },
    { SCMP_SYS(gettimeofday), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(time), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(nanosleep), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(clock_nanosleep), FOR_PEERS | FOR_THREADS },
    /* bells and messages */
    { SCMP_SYS(read), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(write), FOR_EACH },
    { SCMP_SYS(readv), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(writev), FOR_PEERS | FOR_THREADS },
    { SCMP_SYS(recvfrom), FOR_ALL },
    { SCMP_SYS(recvmsg), FOR_PEERS },
    { SCMP_SYS(sendto), FOR_ALL },
    { SCMP_SYS(sendmsg), FOR_PEERS },
    { SCMP_SYS(close), FOR_EACH },
    { SCMP_SYS(getsockopt), FOR_PEERS },
    { SCMP_SYS(setsockopt), FOR_PEERS },
    { SCMP_SYS(accept), FOR_USER | FOR_SWITCH | FOR_SCREEN },
    { SCMP_SYS(accept4), FOR_USER | FOR_SWITCH | FOR_SCREEN },
    /* the guest's connections; socket() and ioctl() below */
    { SCMP_SYS(connect), FOR_USER },
    { SCMP_SYS(bind), FOR_USER },
    { SCMP_SYS(listen), FOR_USER },
    { SCMP_SYS(shutdown), FOR_USER | FOR_VIEWER },
    { SCMP_SYS(getsockname), FOR_USER },
    { SCMP_SYS(getpeername), FOR_USER | FOR_VIEWER },
    /* /etc/resolv.conf, of which libslirp asks whether it changed; openat() below */
    { SCMP_SYS(newfstatat), FOR_USER },
    { SCMP_SYS(stat), FOR_USER },
    { SCMP_SYS(fstat), FOR_EACH },
    { SCMP_SYS(lseek), FOR_USER },
    /* a new client's link */
    { SCMP_SYS(memfd_create), FOR_SWITCH },
    { SCMP_SYS(eventfd2), FOR_SWITCH },
    { SCMP_SYS(ftruncate), FOR_SWITCH },
    /* viewers: select, a time to be done by, a process for each and its sandbox */
    { SCMP_SYS(select), FOR_VIEWER },
    { SCMP_SYS(pselect6), FOR_VIEWER },
    { SCMP_SYS(alarm), FOR_VIEWER },
    { SCMP_SYS(fork), FOR_SCREEN },
    { SCMP_SYS(wait4), FOR_SCREEN },
    { SCMP_SYS(set_robust_list), FOR_SCREEN },
    { SCMP_SYS(seccomp), FOR_SCREEN },
    /* a folder's files: by a name below a descriptor, by a descriptor, or by the name of one (setxattr and the like, chmod) */
    { SCMP_SYS(openat), FOR_FOLDER },
    { SCMP_SYS(openat2), FOR_FOLDER },
    { SCMP_SYS(newfstatat), FOR_FOLDER },
    { SCMP_SYS(fstatfs), FOR_FOLDER },
    { SCMP_SYS(getdents64), FOR_FOLDER },
    { SCMP_SYS(lseek), FOR_FOLDER },
    { SCMP_SYS(preadv), FOR_FOLDER },
    { SCMP_SYS(pwritev), FOR_FOLDER },
    { SCMP_SYS(copy_file_range), FOR_FOLDER },
    { SCMP_SYS(ftruncate), FOR_FOLDER },
    { SCMP_SYS(fallocate), FOR_FOLDER },
    { SCMP_SYS(fsync), FOR_FOLDER },
    { SCMP_SYS(fdatasync), FOR_FOLDER },
    { SCMP_SYS(mkdirat), FOR_FOLDER },
    { SCMP_SYS(unlinkat), FOR_FOLDER },
    { SCMP_SYS(renameat), FOR_FOLDER }, /* renameat2() without flags, in some C libraries */
    { SCMP_SYS(renameat2), FOR_FOLDER },
    { SCMP_SYS(linkat), FOR_FOLDER },
    { SCMP_SYS(symlinkat), FOR_FOLDER },
    { SCMP_SYS(readlinkat), FOR_FOLDER },
    { SCMP_SYS(chmod), FOR_FOLDER },
    { SCMP_SYS(fchownat), FOR_FOLDER },
    { SCMP_SYS(utimensat), FOR_FOLDER },
    { SCMP_SYS(getxattr), FOR_FOLDER },
    { SCMP_SYS(setxattr), FOR_FOLDER },
    { SCMP_SYS(listxattr), FOR_FOLDER },
    { SCMP_SYS(removexattr), FOR_FOLDER },
    /* memory, threads' locks, the end */
    { SCMP_SYS(brk), FOR_EACH },
    { SCMP_SYS(munmap), FOR_EACH },
    { SCMP_SYS(mremap), FOR_EACH },
    { SCMP_SYS(madvise), FOR_EACH },
    { SCMP_SYS(futex), FOR_EACH },
    { SCMP_SYS(getrandom), FOR_EACH },
    { SCMP_SYS(rt_sigreturn), FOR_EACH },
    { SCMP_SYS(rt_sigprocmask), FOR_EACH }, /* abort() */
    { SCMP_SYS(sigaltstack), FOR_EACH },
    { SCMP_SYS(getpid), FOR_EACH },
    { SCMP_SYS(gettid), FOR_EACH },
    { SCMP_SYS(restart_syscall), FOR_EACH },
    { SCMP_SYS(exit), FOR_EACH },
    { SCMP_SYS(exit_group), FOR_EACH },
    /* ---- the worker (worker/worker.h), from the guest's first instruction on ---- */
    /* it waits; a device arms a timer and watches a descriptor from whichever thread */
    { SCMP_SYS(epoll_wait), FOR_THREADS },
    { SCMP_SYS(epoll_pwait), FOR_THREADS },
    { SCMP_SYS(epoll_ctl), FOR_LOOP | FOR_VCPU | FOR_OUTPUT },
    { SCMP_SYS(timerfd_settime), FOR_LOOP | FOR_VCPU | FOR_OUTPUT },
    { SCMP_SYS(sched_yield), FOR_THREADS },
    { SCMP_SYS(rt_sigpending), FOR_LOOP | FOR_BLOCK }, /* has a signal come that ends it? (base/patience.h) */
    { SCMP_SYS(rt_sigtimedwait), FOR_LOOP },
    /* what is plugged into its ports, its helpers, its broker; it accepts viewers of a console, and makes no socket */
    { SCMP_SYS(recvfrom), FOR_LOOP | FOR_VCPU },
    { SCMP_SYS(recvmsg), FOR_LOOP },
    { SCMP_SYS(recvmmsg), FOR_LOOP },
    { SCMP_SYS(sendto), FOR_LOOP | FOR_VCPU | FOR_OUTPUT },
    { SCMP_SYS(sendmsg), FOR_LOOP },
    { SCMP_SYS(accept4), FOR_LOOP },
    { SCMP_SYS(shutdown), FOR_LOOP | FOR_OUTPUT },
    { SCMP_SYS(getsockopt), FOR_LOOP },
    { SCMP_SYS(setsockopt), FOR_LOOP },
    { SCMP_SYS(getsockname), FOR_LOOP },
    { SCMP_SYS(getpeername), FOR_LOOP },
    /* disks: descriptors that it has. A path of newfstatat() and statx() leads nowhere in its empty root. */
    { SCMP_SYS(pread64), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(pwrite64), FOR_LOOP | FOR_BLOCK | FOR_VCPU }, /* a vCPU: UEFI's variables */
    { SCMP_SYS(preadv), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(pwritev), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(preadv2), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(pwritev2), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(lseek), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(fsync), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(fdatasync), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(fallocate), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(ftruncate), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(fadvise64), FOR_LOOP },
    { SCMP_SYS(newfstatat), FOR_LOOP | FOR_BLOCK },
    { SCMP_SYS(statx), FOR_LOOP },
    { SCMP_SYS(flock), FOR_LOOP },
    { SCMP_SYS(io_uring_enter), FOR_LOOP | FOR_VCPU | FOR_BLOCK }, /* rings that may only read, write and sync (block/uring.c) */
    /* a medium that is put in: its queue and its threads; io_uring_setup() is refused, so threads do its I/O */
    { SCMP_SYS(eventfd2), FOR_LOOP },
    { SCMP_SYS(timerfd_create), FOR_LOOP },
    { SCMP_SYS(set_robust_list), FOR_THREADS },
    { SCMP_SYS(rseq), FOR_THREADS },
    { SCMP_SYS(seccomp), FOR_LOOP }, /* a new thread's own list, which can only be shorter */
    /* what a run cost */
    { SCMP_SYS(getrusage), FOR_LOOP },
    { SCMP_SYS(rt_sigaction), FOR_THREADS }, /* abort() */
    { SCMP_SYS(sched_getaffinity), FOR_THREADS }, /* how long to look before sleeping (base/spin.h) */
    { SCMP_SYS(geteuid), FOR_LOOP },
    { SCMP_SYS(getuid), FOR_LOOP },
};

enum { THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID };

#define ONLY(n, value) { n, SCMP_CMP_EQ, (u64)(value), 0 }
#define BITS(n, mask, value) { n, SCMP_CMP_MASKED_EQ, (u64)(mask), (u64)(value) }

/* Calls that can do more than they are for, by what they are given. A line allows; several of one call are as many ways. */
static const struct {
    int nr;
    u32 who, nargs;
    struct scmp_arg_cmp arg[3];
} by_argument[] = {
    /* No memory is ever made executable. */
    { SCMP_SYS(mmap), FOR_EACH, 1, { BITS(2, 4 /* PROT_EXEC */, 0) } },
    { SCMP_SYS(mprotect), FOR_EACH, 1, { BITS(2, 4, 0) } },
    /* Not F_SETOWN and F_SETSIG: whose descriptor has an owner sends signals to it. */
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_DUPFD) } },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_DUPFD_CLOEXEC) } },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_GETFD) } },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_SETFD) } },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_GETFL) } },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_SETFL) } },
    { SCMP_SYS(fcntl), FOR_SWITCH, 1, { ONLY(1, F_ADD_SEALS) } },
    /* Not FIOSETOWN, the same, and nothing of terminals. */
    { SCMP_SYS(ioctl), FOR_USER, 1, { ONLY(1, FIONBIO) } },
    { SCMP_SYS(ioctl), FOR_USER, 1, { ONLY(1, FIONREAD) } },
    /* TCP, UDP and ping; no protocol whose module the kernel would have to load first. */
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_STREAM), ONLY(2, 0) } },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_STREAM), ONLY(2, 0) } },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 0) } },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 0) } },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 1 /* ICMP */) } },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 58 /* ICMPv6 */) } },
    /* Not SOCK_DGRAM, which sends to any unix socket that has a name. */
    { SCMP_SYS(socketpair), FOR_SCREEN, 3, { ONLY(0, AF_UNIX), ONLY(1, SOCK_SEQPACKET | SOCK_CLOEXEC), ONLY(2, 0) } },
    { SCMP_SYS(socketpair), FOR_SCREEN, 3, { ONLY(0, AF_UNIX), ONLY(1, SOCK_STREAM | SOCK_CLOEXEC), ONLY(2, 0) } },
    /* fork(): no threads, no namespaces, nobody else's child, no other signal at its end. */
    { SCMP_SYS(clone), FOR_SCREEN, 1, { BITS(0, ~(u64)(CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID), SIGCHLD) } },
    /* No devices. */
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFREG) } },
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFIFO) } },
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFSOCK) } },
    /* How many descriptors there may be. */
    { SCMP_SYS(prlimit64), FOR_FOLDER, 2, { ONLY(0, 0), ONLY(2, 0) } },
    /* A viewer's sandbox, and its own limits alone. */
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_GET_SECCOMP) } },
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_SET_SECCOMP) } },
    { SCMP_SYS(prlimit64), FOR_SCREEN, 1, { ONLY(0, 0) } },
    /* ---- the worker ---- */
    { SCMP_SYS(prlimit64), FOR_LOOP, 2, { ONLY(0, 0), ONLY(2, 0) } }, /* it looks, and sets none */
    /* Locks on images: of a process, and of an open file. */
    { SCMP_SYS(fcntl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, F_OFD_GETLK) } },
    { SCMP_SYS(fcntl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, F_OFD_SETLK) } },
    /* A thread of its own, and no process: pthread_create's flags. */
    { SCMP_SYS(clone), FOR_LOOP, 1, { BITS(0, ~(u64)0, THREAD_FLAGS) } },
    { SCMP_SYS(prctl), FOR_THREADS, 1, { ONLY(0, PR_SET_NAME) } },
    { SCMP_SYS(prctl), FOR_LOOP, 1, { ONLY(0, PR_SET_SECCOMP) } },
    { SCMP_SYS(arch_prctl), FOR_VCPU, 1, { ONLY(0, 0x1001 /* ARCH_SET_GS */) } }, /* where the processor's state is */
    /* KVM's of its machine and processors: all of one type; it has no descriptor of /dev/kvm to make another machine. */
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xffffff00, 0xae00) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0x4000ae00) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0x8000ae00) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0xc000ae00) } },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, FIONBIO) } },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, FIONREAD) } },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKGETSIZE64) } },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKSSZGET) } },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKPBSZGET) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, BLKDISCARD) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, BLKZEROOUT) } },
    /* A tap device's queue, when the guest's driver agrees to its offloads, or takes fewer queues. */
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { ONLY(1, TUNSETOFFLOAD) } },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { ONLY(1, TUNSETQUEUE) } },
};

/* A call's argument that is only known when the process is there; no process has this number (PID_MAX_LIMIT is 2^22). */
enum { PID = 0x7ab1e51d };

static const struct {
    const char *name;
    enum sandbox kind;
    u32 reading; /* what openat() to read comes to; 0: as all that is not listed */
} filters[] = {
    { "user", SANDBOX_USER, SCMP_ACT_ALLOW },
    { "user_asking", SANDBOX_USER, SCMP_ACT_NOTIFY },
    { "switch", SANDBOX_SWITCH, 0 },
    { "screen", SANDBOX_SCREEN, 0 },
    { "viewer", SANDBOX_VIEWER, 0 },
    { "folder", SANDBOX_FOLDER, 0 },
    { "loop", SANDBOX_LOOP, 0 },
    { "vcpu", SANDBOX_VCPU, 0 },
    { "block", SANDBOX_BLOCK, 0 },
    { "output", SANDBOX_OUTPUT, 0 },
};

static void check(const char *what, int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "gen_sandbox: %s: %s\n", what, strerror(-r));
    exit(1);
}

static scmp_filter_ctx filter_new(enum sandbox kind, u32 reading)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) : -ENOMEM; /* a tree, since a machine makes many calls */

    /* By x32's numbers or int 80h nothing of ours calls. The process ends: a thread alone would leave a machine that hangs. */
    if (!r)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    for (size_t i = 0; i < ARRAY_SIZE(calls) && !r; i++)
        if (calls[i].who & 1u << kind)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].nr, 0);
    for (size_t i = 0; i < ARRAY_SIZE(by_argument) && !r; i++)
        if (by_argument[i].who & 1u << kind)
            r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, by_argument[i].nr, by_argument[i].nargs, by_argument[i].arg);
    /* abort(): itself only. A child of this one has another number, and dies of the next thing that abort() tries. */
    if (!r)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, PID));
    if (!r && kind == SANDBOX_LOOP) /* the C library then makes threads by clone(), whose flags a filter can see */
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (!r && reading)
        r = seccomp_rule_add(ctx, reading, SCMP_SYS(openat), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    if (!r && reading == SCMP_ACT_NOTIFY) /* comes after this, and can only take more away */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SYS_landlock_restrict_self, 0);
    check("the rules", r);
    return ctx;
}

/* The program, as libseccomp writes it. */
static size_t compile(scmp_filter_ctx ctx, struct sock_filter code[BPF_MAXINSNS])
{
    FILE *f = tmpfile();

    if (!f)
        check("a temporary file", -errno);
    check("a filter", seccomp_export_bpf(ctx, fileno(f)));
    rewind(f);
    const size_t n = fread(code, sizeof(code[0]), BPF_MAXINSNS, f);
    fclose(f);
    return n;
}

/* Where the process's own number is compared: in one place, with the low half of tgkill's first argument. */
static size_t find_pid(const struct sock_filter *code, size_t n)
{
    const u32 low = offsetof(struct seccomp_data, args), high = low + 4;
    size_t found = 0, at = 0;
    bool zero = false;

    for (size_t i = 1; i < n; i++) {
        if (code[i].k == PID) {
            at = i;
            found++;
        }
    }
    if (found == 1 && code[at].code == (BPF_JMP | BPF_JEQ | BPF_K) && code[at - 1].code == (BPF_LD | BPF_W | BPF_ABS) &&
        code[at - 1].k == low)
        for (size_t i = 1; i < at; i++)
            zero |= code[i - 1].k == high && code[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && !code[i].k;
    check("the filter's place for the process's number is not where it should be", zero ? 0 : -EINVAL);
    return at;
}

int main(int argc, char **argv)
{
    static struct sock_filter code[BPF_MAXINSNS];
    size_t most = 0;
    FILE *f = argc == 2 ? fopen(argv[1], "w") : NULL;

    if (!f)
        check(argc == 2 ? argv[1] : "it takes a file's name", argc == 2 ? -errno : -EINVAL);
    /* What this machine's kernel can do is nothing to the one that runs it: all of version 5, SCMP_ACT_NOTIFY. */
    check("libseccomp 2.5 is needed", seccomp_api_set(5));
    fprintf(f, "/* Made by tools/gen_sandbox.c: the programs of seccomp(2). */\n");
    fprintf(f, "struct filter {\n    u16 n, pid; /* instructions; which of them has FILTER_PID */\n"
               "    const struct sock_filter *code;\n};\n");
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
        scmp_filter_ctx ctx = filter_new(filters[i].kind, filters[i].reading);
        const size_t n = compile(ctx, code), pid = find_pid(code, n);
        seccomp_release(ctx);
        most = MAX(most, n);
        fprintf(f, "\nstatic const struct sock_filter code_%s[] = {\n", filters[i].name);
        for (size_t j = 0; j < n; j++)
            fprintf(f, "    { 0x%02x, %u, %u, 0x%08x },\n", code[j].code, code[j].jt, code[j].jf, code[j].k);
        fprintf(f, "};\nstatic const struct filter filter_%s = { %zu, %zu, code_%s };\n", filters[i].name, n, pid,
                filters[i].name);
    }
    fprintf(f, "\nenum { FILTER_PID = 0x%x, FILTER_MOST = %zu };\n", PID, most);
    check("writing", fflush(f) || ferror(f) ? -EIO : 0);
    return fclose(f) != 0;
}
