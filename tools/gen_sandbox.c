/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_sandbox - writes the system call filters of src/base/sandbox.c, at build time.
 *
 *   gen_sandbox SANDBOX_FILTERS_H SYSTEM_CALLS_MD
 *
 * The tables say which calls each kind of sandbox still makes; libseccomp makes a program for the kernel of each
 * (seccomp(2)).  It does so here and not in the process that goes into the sandbox, since it allocates a lot and does not
 * come back, or crashes, where it gets no memory (2.5.4). The second file is the tables for people to read, docs/system-calls.md.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <asm/prctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sandbox.h"

enum {
    FOR_USER = 1 << SANDBOX_USER, FOR_SWITCH = 1 << SANDBOX_SWITCH, FOR_SCREEN = 1 << SANDBOX_SCREEN,
    FOR_VIEWER = 1 << SANDBOX_VIEWER | FOR_SCREEN, /* a filter stays on those who come after */
    FOR_FOLDER = 1 << SANDBOX_FOLDER, FOR_DIRECT = 1 << SANDBOX_DIRECT,
    FOR_PEERS = FOR_USER | FOR_SWITCH | FOR_VIEWER, /* those that speak with strangers */
    FOR_ALL = FOR_PEERS | FOR_FOLDER,
    /* The worker's threads: what the loop's may do, the others may do less of. */
    FOR_LOOP = 1 << SANDBOX_LOOP, FOR_VCPU = 1 << SANDBOX_VCPU, FOR_BLOCK = 1 << SANDBOX_BLOCK, FOR_OUTPUT = 1 << SANDBOX_OUTPUT,
    FOR_THREADS = FOR_LOOP | FOR_VCPU | FOR_BLOCK | FOR_OUTPUT, FOR_EACH = FOR_ALL | FOR_DIRECT | FOR_THREADS,
};

static const struct {
    int nr;
    u32 who;
    const char *why;
} calls[] = {
    { SCMP_SYS(poll), FOR_PEERS | FOR_THREADS, "waiting" },
    { SCMP_SYS(ppoll), FOR_PEERS | FOR_THREADS, "waiting" },
    { SCMP_SYS(select), FOR_VIEWER, "waiting" },
    { SCMP_SYS(pselect6), FOR_VIEWER, "waiting" },
    { SCMP_SYS(epoll_wait), FOR_SWITCH | FOR_THREADS, "waiting" },
    { SCMP_SYS(epoll_pwait), FOR_SWITCH | FOR_THREADS, "waiting" },
    { SCMP_SYS(epoll_ctl), FOR_SWITCH | FOR_LOOP | FOR_VCPU | FOR_OUTPUT,
      "what is waited for: a device watches a descriptor from whichever thread" },
    { SCMP_SYS(timerfd_settime), FOR_SWITCH | FOR_LOOP | FOR_VCPU | FOR_OUTPUT,
      "a timer is set; a device's by whichever thread" },
    { SCMP_SYS(clock_gettime), FOR_EACH, "the time, where the vDSO does not have it" },
    { SCMP_SYS(gettimeofday), FOR_PEERS | FOR_THREADS, "the same" },
    { SCMP_SYS(time), FOR_PEERS | FOR_THREADS, "the same" },
    { SCMP_SYS(nanosleep), FOR_PEERS | FOR_THREADS, "waiting" },
    { SCMP_SYS(clock_nanosleep), FOR_PEERS | FOR_THREADS, "waiting" },
    { SCMP_SYS(sched_yield), FOR_THREADS, "a lock that another thread has" },
    { SCMP_SYS(alarm), FOR_VIEWER, "the time that a viewer has to say who it is" },
    { SCMP_SYS(rt_sigpending), FOR_LOOP | FOR_BLOCK, "has a signal come that ends it? (base/patience.h)" },
    { SCMP_SYS(rt_sigtimedwait), FOR_LOOP, "the same" },
    { SCMP_SYS(read), FOR_PEERS | FOR_THREADS, "descriptors that it has" },
    { SCMP_SYS(write), FOR_EACH, "descriptors that it has" },
    { SCMP_SYS(readv), FOR_PEERS | FOR_THREADS, "descriptors that it has" },
    { SCMP_SYS(writev), FOR_PEERS | FOR_THREADS, "descriptors that it has" },
    { SCMP_SYS(close), FOR_EACH, "the end of a descriptor" },
    { SCMP_SYS(fstat), FOR_EACH, "what a descriptor is, and its size (the C library's fstat() looks up a name instead)" },
    { SCMP_SYS(lseek), FOR_USER | FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "descriptors that it has; where an image has holes" },
    { SCMP_SYS(recvfrom), FOR_ALL | FOR_DIRECT | FOR_LOOP | FOR_VCPU, "sockets that it has" },
    { SCMP_SYS(recvmsg), FOR_PEERS | FOR_LOOP | FOR_VCPU, "sockets that it has, and descriptors that its own processes hand it" },
    { SCMP_SYS(recvmmsg), FOR_LOOP, "packets, several at once" },
    { SCMP_SYS(sendto), FOR_ALL | FOR_DIRECT | FOR_LOOP | FOR_VCPU | FOR_OUTPUT, "sockets that it has" },
    { SCMP_SYS(sendmsg), FOR_PEERS | FOR_DIRECT | FOR_LOOP, "sockets that it has" },
    { SCMP_SYS(accept), FOR_USER | FOR_SWITCH | FOR_SCREEN, "clients of a socket that it has" },
    { SCMP_SYS(accept4), FOR_USER | FOR_SWITCH | FOR_SCREEN | FOR_LOOP, "clients of a socket that it has" },
    { SCMP_SYS(getsockopt), FOR_PEERS | FOR_LOOP, "an error of a connection" },
    { SCMP_SYS(setsockopt), FOR_PEERS | FOR_LOOP, "buffers and delays of a connection" },
    { SCMP_SYS(shutdown), FOR_USER | FOR_VIEWER | FOR_LOOP | FOR_OUTPUT, "the end of one direction" },
    { SCMP_SYS(getsockname), FOR_USER | FOR_LOOP, "its own address" },
    { SCMP_SYS(getpeername), FOR_USER | FOR_VIEWER | FOR_LOOP, "its peer's address" },
    { SCMP_SYS(connect), FOR_USER, "the guest's connections" },
    { SCMP_SYS(bind), FOR_USER, "the guest's connections" },
    { SCMP_SYS(listen), FOR_USER, "ports that are forwarded to the guest" },
    { SCMP_SYS(newfstatat), FOR_USER | FOR_FOLDER,
      "/etc/resolv.conf, of which libslirp asks whether it changed; a folder's files" },
    { SCMP_SYS(stat), FOR_USER, "/etc/resolv.conf" },
    { SCMP_SYS(wait4), FOR_DIRECT, "a runner that stops, so that its debug registers can be set" },
    { SCMP_SYS(memfd_create), FOR_SWITCH | FOR_DIRECT, "the rings of a new client; the room of a runner" },
    { SCMP_SYS(eventfd2), FOR_SWITCH | FOR_LOOP, "bells of a new client, of a medium that is put in" },
    { SCMP_SYS(timerfd_create), FOR_LOOP, "a medium that is put in" },
    { SCMP_SYS(ftruncate), FOR_SWITCH | FOR_DIRECT | FOR_FOLDER | FOR_LOOP | FOR_BLOCK,
      "the size of rings, of a folder's file, of an image" },
    { SCMP_SYS(pread64), FOR_LOOP | FOR_BLOCK, "disks" },
    { SCMP_SYS(pwrite64), FOR_DIRECT | FOR_LOOP | FOR_BLOCK | FOR_VCPU, "disks; a vCPU: the variables of UEFI; a runner's stub" },
    { SCMP_SYS(preadv), FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "disks, a folder's files" },
    { SCMP_SYS(pwritev), FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "disks, a folder's files" },
    { SCMP_SYS(preadv2), FOR_LOOP | FOR_BLOCK, "disks" },
    { SCMP_SYS(pwritev2), FOR_LOOP | FOR_BLOCK, "disks" },
    { SCMP_SYS(fsync), FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "disks, a folder's files" },
    { SCMP_SYS(fdatasync), FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "disks, a folder's files" },
    { SCMP_SYS(fallocate), FOR_FOLDER | FOR_LOOP | FOR_BLOCK, "discard, a folder's files" },
    { SCMP_SYS(fadvise64), FOR_LOOP, "a disk with cache=none" },
    { SCMP_SYS(flock), FOR_LOOP, "the lock of an image" },
    { SCMP_SYS(io_uring_enter), FOR_LOOP | FOR_VCPU | FOR_BLOCK,
      "rings that may only read, write, sync and allocate (block/uring.c)" },
    { SCMP_SYS(openat), FOR_FOLDER, "a folder's files, by a name below a descriptor, by a descriptor, or by the name of one" },
    { SCMP_SYS(openat2), FOR_FOLDER, "the same" },
    { SCMP_SYS(fstatfs), FOR_FOLDER, "the same" },
    { SCMP_SYS(getdents64), FOR_FOLDER, "the same" },
    { SCMP_SYS(copy_file_range), FOR_FOLDER, "the same" },
    { SCMP_SYS(mkdirat), FOR_FOLDER, "the same" },
    { SCMP_SYS(unlinkat), FOR_FOLDER, "the same" },
    { SCMP_SYS(renameat), FOR_FOLDER, "the same; renameat2() without flags in some C libraries" },
    { SCMP_SYS(renameat2), FOR_FOLDER, "the same" },
    { SCMP_SYS(linkat), FOR_FOLDER, "the same" },
    { SCMP_SYS(symlinkat), FOR_FOLDER, "the same" },
    { SCMP_SYS(readlinkat), FOR_FOLDER, "the same" },
    { SCMP_SYS(chmod), FOR_FOLDER, "the same" },
    { SCMP_SYS(fchownat), FOR_FOLDER, "the same" },
    { SCMP_SYS(utimensat), FOR_FOLDER, "the same" },
    { SCMP_SYS(getxattr), FOR_FOLDER, "the same" },
    { SCMP_SYS(setxattr), FOR_FOLDER, "the same" },
    { SCMP_SYS(listxattr), FOR_FOLDER, "the same" },
    { SCMP_SYS(removexattr), FOR_FOLDER, "the same" },
    { SCMP_SYS(brk), FOR_EACH, "memory" },
    { SCMP_SYS(munmap), FOR_EACH, "memory" },
    { SCMP_SYS(mremap), FOR_EACH, "memory" },
    { SCMP_SYS(madvise), FOR_EACH, "memory" },
    { SCMP_SYS(futex), FOR_EACH, "locks" },
    { SCMP_SYS(getrandom), FOR_EACH, "random numbers" },
    { SCMP_SYS(rt_sigreturn), FOR_EACH, "the end of a signal's handler" },
    { SCMP_SYS(rt_sigprocmask), FOR_EACH, "abort()" },
    { SCMP_SYS(rt_sigaction), FOR_DIRECT | FOR_THREADS, "abort(); where a runner's faults go" },
    { SCMP_SYS(close_range), FOR_DIRECT, "what a runner must not have" },
    { SCMP_SYS(sigaltstack), FOR_EACH, "the end of a thread" },
    { SCMP_SYS(getpid), FOR_EACH, "abort()" },
    { SCMP_SYS(gettid), FOR_EACH, "abort()" },
    { SCMP_SYS(restart_syscall), FOR_EACH, "what a signal interrupted" },
    { SCMP_SYS(exit), FOR_EACH, "the end" },
    { SCMP_SYS(exit_group), FOR_EACH, "the end" },
    { SCMP_SYS(getrusage), FOR_LOOP, "what a run cost" },
    { SCMP_SYS(getuid), FOR_LOOP, "what was started for whom" },
    { SCMP_SYS(geteuid), FOR_LOOP, "the same" },
    { SCMP_SYS(set_robust_list), FOR_SCREEN | FOR_DIRECT | FOR_THREADS, "a new process, a new thread" },
    { SCMP_SYS(rseq), FOR_DIRECT | FOR_THREADS, "a new thread; a runner has none" },
    { SCMP_SYS(fork), FOR_SCREEN | FOR_DIRECT, "a process for each viewer; a runner" },
    { SCMP_SYS(wait4), FOR_SCREEN, "its end" },
    { SCMP_SYS(seccomp), FOR_SCREEN | FOR_DIRECT | FOR_LOOP,
      "the list of a viewer, a runner, a new thread, which can only be shorter than its maker's" },
};

enum { THREAD_FLAGS = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                     CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID };

#define NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64) /* Linux 6.6 */
#define KVMS "type 0xae"
#define ONLY(n, value) { n, SCMP_CMP_EQ, (u64)(value), 0 }
#define BITS(n, mask, value) { n, SCMP_CMP_MASKED_EQ, (u64)(mask), (u64)(value) }

/* Calls that can do more than they are for, by what they are given. A line allows; several of one call are as many ways. */
static const struct {
    int nr;
    u32 who, nargs;
    struct scmp_arg_cmp arg[3];
    const char *given, *why; /* in words */
} by_argument[] = {
    { SCMP_SYS(mmap), FOR_EACH, 1, { BITS(2, PROT_EXEC, 0) }, "not PROT_EXEC", "memory, which is never made executable" },
    { SCMP_SYS(mmap), FOR_DIRECT, 1, { BITS(2, PROT_EXEC, PROT_EXEC) }, "PROT_EXEC", "a guest's program in a runner" },
    { SCMP_SYS(mprotect), FOR_EACH, 1, { BITS(2, PROT_EXEC, 0) }, "not PROT_EXEC", "the same" },
    /* Not F_SETOWN and F_SETSIG: whose descriptor has an owner sends signals to it. */
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_DUPFD) }, "F_DUPFD", "another number" },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_DUPFD_CLOEXEC) }, "F_DUPFD_CLOEXEC", "another number" },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_GETFD) }, "F_GETFD", "flags" },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_SETFD) }, "F_SETFD", "flags" },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_GETFL) }, "F_GETFL", "flags" },
    { SCMP_SYS(fcntl), FOR_ALL | FOR_LOOP | FOR_BLOCK | FOR_OUTPUT, 1, { ONLY(1, F_SETFL) }, "F_SETFL", "flags" },
    { SCMP_SYS(fcntl), FOR_DIRECT, 1, { ONLY(1, F_SETOWN) }, "F_SETOWN", "the bell of a runner" },
    { SCMP_SYS(fcntl), FOR_DIRECT, 2, { ONLY(1, F_SETFL), ONLY(2, O_NONBLOCK | O_ASYNC) }, "F_SETFL, O_NONBLOCK and O_ASYNC", "the same" },
    { SCMP_SYS(fcntl), FOR_SWITCH, 1, { ONLY(1, F_ADD_SEALS) }, "F_ADD_SEALS", "rings that cannot shrink" },
    { SCMP_SYS(fcntl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, F_OFD_GETLK) }, "F_OFD_GETLK", "who has an image" },
    { SCMP_SYS(fcntl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, F_OFD_SETLK) }, "F_OFD_SETLK", "the lock of an image" },
    /* Not FIOSETOWN, the same, and nothing of terminals. */
    { SCMP_SYS(ioctl), FOR_USER | FOR_LOOP, 1, { ONLY(1, FIONBIO) }, "FIONBIO", "flags" },
    { SCMP_SYS(ioctl), FOR_USER | FOR_LOOP, 1, { ONLY(1, FIONREAD) }, "FIONREAD", "how much there is to read" },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKGETSIZE64) }, "BLKGETSIZE64", "a block device that is a disk" },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKSSZGET) }, "BLKSSZGET", "the same" },
    { SCMP_SYS(ioctl), FOR_LOOP, 1, { ONLY(1, BLKPBSZGET) }, "BLKPBSZGET", "the same" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, BLKDISCARD) }, "BLKDISCARD", "the same" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_BLOCK, 1, { ONLY(1, BLKZEROOUT) }, "BLKZEROOUT", "the same" },
    /* It has no descriptor of /dev/kvm, by which to make another machine. */
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xffffff00, 0xae00) }, KVMS, "KVM's machine and its processors" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0x4000ae00) }, KVMS, "the same, that write" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0x8000ae00) }, KVMS, "the same, that read" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { BITS(1, 0xc000ff00, 0xc000ae00) }, KVMS, "the same, that do both" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { ONLY(1, TUNSETOFFLOAD) }, "TUNSETOFFLOAD", "a guest's driver agrees to a tap's offloads" },
    { SCMP_SYS(ioctl), FOR_LOOP | FOR_VCPU, 1, { ONLY(1, TUNSETQUEUE) }, "TUNSETQUEUE", "it takes fewer queues" },
    /* No protocol whose module the kernel would have to load first. */
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_STREAM), ONLY(2, 0) }, "IPv4, TCP", "the guest's connections" },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_STREAM), ONLY(2, 0) }, "IPv6, TCP", "the same" },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 0) }, "IPv4, UDP", "the same" },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, 0) }, "IPv6, UDP", "the same" },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, IPPROTO_ICMP) }, "IPv4, ping", "the same" },
    { SCMP_SYS(socket), FOR_USER, 3, { ONLY(0, AF_INET6), BITS(1, 0xf, SOCK_DGRAM), ONLY(2, IPPROTO_ICMPV6) }, "IPv6, ping", "the same" },
    /* Not SOCK_DGRAM, which sends to any unix socket that has a name. */
    { SCMP_SYS(socketpair), FOR_SCREEN, 3, { ONLY(0, AF_UNIX), ONLY(1, SOCK_SEQPACKET | SOCK_CLOEXEC), ONLY(2, 0) }, "SOCK_SEQPACKET",
      "between it and a viewer's process" },
    { SCMP_SYS(socketpair), FOR_SCREEN, 3, { ONLY(0, AF_UNIX), ONLY(1, SOCK_STREAM | SOCK_CLOEXEC), ONLY(2, 0) }, "SOCK_STREAM", "the same" },
    { SCMP_SYS(socketpair), FOR_DIRECT, 3, { ONLY(0, AF_UNIX), ONLY(1, SOCK_DGRAM | SOCK_CLOEXEC), ONLY(2, 0) }, "SOCK_DGRAM",
      "the bell of a runner" },
    { SCMP_SYS(clone), FOR_SCREEN | FOR_DIRECT, 1, { BITS(0, ~(u64)(CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID), SIGCHLD) }, "as fork()",
      "a process for each viewer; a runner: no thread, no namespace, no other signal at its end" },
    { SCMP_SYS(clone), FOR_LOOP, 1, { BITS(0, ~(u64)0, THREAD_FLAGS) }, "as pthread_create()", "a thread; not a process" },
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFREG) }, "a file", "a folder's files, but no devices" },
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFIFO) }, "a FIFO", "the same" },
    { SCMP_SYS(mknodat), FOR_FOLDER, 1, { BITS(2, S_IFMT, S_IFSOCK) }, "a socket", "the same" },
    { SCMP_SYS(prlimit64), FOR_FOLDER | FOR_LOOP, 2, { ONLY(0, 0), ONLY(2, 0) }, "itself, to read", "how many descriptors there may be" },
    { SCMP_SYS(prlimit64), FOR_SCREEN, 1, { ONLY(0, 0) }, "itself", "the limits of a viewer's process" },
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_GET_SECCOMP) }, "PR_GET_SECCOMP", "a viewer's list" },
    { SCMP_SYS(prctl), FOR_SCREEN | FOR_LOOP, 1, { ONLY(0, PR_SET_SECCOMP) }, "PR_SET_SECCOMP", "a viewer's list, a thread's" },
    { SCMP_SYS(prctl), FOR_THREADS, 1, { ONLY(0, PR_SET_NAME) }, "PR_SET_NAME", "a new thread's name" },
    { SCMP_SYS(arch_prctl), FOR_DIRECT, 2, { ONLY(0, ARCH_SET_CPUID), ONLY(1, 0) }, "ARCH_SET_CPUID, 0", "a runner's CPUID faults" },
    { SCMP_SYS(ptrace), FOR_DIRECT, 1, { ONLY(0, PTRACE_SEIZE) }, "PTRACE_SEIZE", "a runner's debug registers" },
    { SCMP_SYS(ptrace), FOR_DIRECT, 1, { ONLY(0, PTRACE_INTERRUPT) }, "PTRACE_INTERRUPT", "the same" },
    { SCMP_SYS(ptrace), FOR_DIRECT, 1, { ONLY(0, PTRACE_POKEUSER) }, "PTRACE_POKEUSER", "the same" },
    { SCMP_SYS(ptrace), FOR_DIRECT, 1, { ONLY(0, PTRACE_DETACH) }, "PTRACE_DETACH", "the same" },
    { SCMP_SYS(prctl), FOR_DIRECT, 1, { ONLY(0, PR_SET_NAME) }, "PR_SET_NAME", "a runner's name" },
    { SCMP_SYS(prctl), FOR_DIRECT, 2, { ONLY(0, PR_SET_PDEATHSIG), ONLY(1, SIGKILL) }, "PR_SET_PDEATHSIG, SIGKILL", "a runner ends with its maker" },
    { SCMP_SYS(prctl), FOR_DIRECT, 2, { ONLY(0, PR_SET_TSC), ONLY(1, PR_TSC_SIGSEGV) }, "PR_SET_TSC, PR_TSC_SIGSEGV", "a runner's clock" },
    { SCMP_SYS(ioctl), FOR_VCPU, 1, { ONLY(1, SECCOMP_IOCTL_NOTIF_RECV) }, "SECCOMP_IOCTL_NOTIF_RECV", "a runner's report" },
    { SCMP_SYS(ioctl), FOR_VCPU, 1, { ONLY(1, SECCOMP_IOCTL_NOTIF_SEND) }, "SECCOMP_IOCTL_NOTIF_SEND", "a runner goes on" },
    { SCMP_SYS(ioctl), FOR_VCPU, 1, { ONLY(1, SECCOMP_IOCTL_NOTIF_ID_VALID) }, "SECCOMP_IOCTL_NOTIF_ID_VALID", "does a report wait" },
    { SCMP_SYS(ioctl), FOR_VCPU, 1, { ONLY(1, NOTIF_SET_FLAGS) }, "SECCOMP_IOCTL_NOTIF_SET_FLAGS", "how a runner is woken" },
    { SCMP_SYS(sched_getaffinity), FOR_THREADS, 1, { ONLY(0, 0) }, "itself", "how long to look before sleeping (base/spin.h)" },
    { SCMP_SYS(arch_prctl), FOR_VCPU, 1, { ONLY(0, 0x1001) }, "ARCH_SET_GS", "where the guest's processor has its state" },
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
    { "direct", SANDBOX_DIRECT, 0 },
    { "loop", SANDBOX_LOOP, 0 },
    { "vcpu", SANDBOX_VCPU, 0 },
    { "block", SANDBOX_BLOCK, 0 },
    { "output", SANDBOX_OUTPUT, 0 },
};

/* "user_asking" differs from "user" in one line. */
static bool is_document(size_t filter)
{
    return !filter || filters[filter].kind != filters[filter - 1].kind;
}

static void check(const char *what, int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "gen_sandbox: %s: %s\n", what, strerror(-r));
    exit(1);
}

static scmp_filter_ctx filter_new(enum sandbox kind, u32 reading)
{
    /* A runner has the list of its maker and a shorter one. Its calls are the guest's, and must come back by a signal
       whichever list they are in. */
    scmp_filter_ctx ctx = seccomp_init(kind == SANDBOX_DIRECT ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(EPERM));
    int r = ctx ? seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) : -ENOMEM; /* a tree, since a machine makes many calls */

    /* By x32's numbers or int 80h nothing of ours calls. The process ends: a thread alone would leave a machine that hangs. */
    if (!r)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, kind == SANDBOX_DIRECT ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
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

/* ---- docs/system-calls.md ---------------------------------------------------- */

static void write_row(FILE *f, int nr, const char *given, u32 who, const char *why)
{
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);

    check("a call's name", name ? 0 : -ENOMEM);
    fprintf(f, "| %s | %s |", name, given);
    free(name);
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        if (is_document(i))
            fprintf(f, " %s |", who & 1u << filters[i].kind ? "x" : "");
    fprintf(f, " %s |\n", why);
}

static void write_document(FILE *f)
{
    fprintf(f, "<!-- Made by tools/gen_sandbox.c; a test compares. -->\n"
               "# The system calls that each process and thread may make\n\n"
               "What is not here is refused (EPERM); a call by int 80h or with x32's numbers ends the process. In `lodge-direct` both are a\n"
               "signal (SIGSYS), which ends it, and by which a program of the guest's in a runner comes back.\n"
               "[security.md](security.md) says what else stands around these processes. From left to right: `lodge-net` (user),\n"
               "`lodge-switch`, `lodge-screen`, its process for each viewer, `lodge-share` (folder), `lodge-direct`; the threads of\n"
               "`lodge-vm`: its loop, one for each processor of the guest, those that read and write disks, those that write to slow outputs.\n\n"
               "| call | given |");
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        if (is_document(i))
            fprintf(f, " %s |", filters[i].name);
    fprintf(f, " for |\n|---|---|");
    for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
        if (is_document(i))
            fprintf(f, "---|");
    fprintf(f, "---|\n");
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        write_row(f, calls[i].nr, "", calls[i].who, calls[i].why);
    for (size_t i = 0; i < ARRAY_SIZE(by_argument); i++)
        write_row(f, by_argument[i].nr, by_argument[i].given, by_argument[i].who, by_argument[i].why);
    write_row(f, SCMP_SYS(tgkill), "itself", FOR_EACH, "abort()");
    write_row(f, SCMP_SYS(openat), "to read", FOR_USER, "files that the process beside it opens for it, by policy (seccomp_unotify(2))");
    write_row(f, SYS_landlock_restrict_self, "", FOR_USER, "it comes after the list, and takes away only");
}

static FILE *create(const char *path)
{
    FILE *f = fopen(path, "w");

    check(path, f ? 0 : -errno);
    return f;
}

static void finish(FILE *f)
{
    check("writing", fflush(f) || ferror(f) ? -EIO : 0);
    check("writing", fclose(f) ? -errno : 0);
}

int main(int argc, char **argv)
{
    static struct sock_filter code[BPF_MAXINSNS];
    size_t most = 0;

    check("it takes two files' names", argc == 3 ? 0 : -EINVAL);
    FILE *f = create(argv[1]), *document = create(argv[2]);
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
    write_document(document);
    finish(document);
    finish(f);
    return 0;
}
