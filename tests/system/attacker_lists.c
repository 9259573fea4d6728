/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker_lists.c - what each kind of thread may do, and what for. A call that is not here must be refused, or a thread can
 * do more than it needs. The calls that are here give nothing outside, whatever their arguments: what those can be is tried
 * one by one in attacker_calls.c and attacker_ways.c.
 */
#include <string.h>
#include <sys/syscall.h>

#include "attacker.h"

#define ONE(k) (1u << (k))

enum {
    RUNS = ONE(LOOP) | ONE(VCPU), /* may touch a device's registers, and what is behind them */
    WRITES = ONE(SERIAL) | ONE(OUTPUT),
    DISKS = ONE(LOOP) | ONE(VCPU) | ONE(BLOCK),
    MAKES = ONE(LOOP) | ONE(VCPU), /* threads, when they are needed */
    HELPERS = ONE(SHARE) | ONE(NET) | ONE(SWITCH) | ONE(SCREEN) | ONE(VIEWER),
    FILES = ONE(FOLDER) | ONE(SHARE),
};

static const struct {
    long nr;
    u32 who;
    const char *why;
} list[] = {
    { SYS_read, EVERYONE, "its descriptors" },
    { SYS_write, EVERYONE, "its descriptors" },
    { SYS_readv, EVERYONE, "its descriptors" },
    { SYS_writev, EVERYONE, "its descriptors" },
    { SYS_close, EVERYONE, "its descriptors" },
    { SYS_fstat, EVERYONE, "its descriptors" },
    { SYS_lseek, DISKS | FILES | ONE(NET), "its descriptors" },
    { SYS_fcntl, EVERYONE, "flags of its descriptors" },
    { SYS_pread64, DISKS | FILES, "disks" },
    { SYS_pwrite64, DISKS | FILES, "disks" },
    { SYS_preadv, DISKS | FILES, "disks" },
    { SYS_pwritev, DISKS | FILES, "disks" },
    { SYS_preadv2, DISKS | FILES, "disks" },
    { SYS_pwritev2, DISKS | FILES, "disks" },
    { SYS_fsync, DISKS | FILES, "disks" },
    { SYS_fdatasync, DISKS | FILES, "disks" },
    { SYS_sync_file_range, DISKS, "disks" },
    { SYS_fallocate, WORKER | ONE(SHARE), "discard" },
    { SYS_ftruncate, DISKS | FILES | ONE(SWITCH), "disks that grow" },
    { SYS_flock, DISKS | FILES, "locks of images" },
    { SYS_fadvise64, DISKS, "disks" },
    { SYS_copy_file_range, FILES, "copies in a folder" },
    { SYS_ioctl, WORKER | ONE(NET), "KVM, terminals' sizes, FIONREAD" },
    { SYS_recvfrom, EVERYONE, "its sockets" },
    { SYS_recvmsg, EVERYONE, "its sockets" },
    { SYS_sendto, EVERYONE, "its sockets" },
    { SYS_sendmsg, EVERYONE, "its sockets" },
    { SYS_recvmmsg, ONE(LOOP), "its sockets" },
    { SYS_sendmmsg, ONE(LOOP), "its sockets" },
    { SYS_getsockopt, WORKER | HELPERS, "its sockets" },
    { SYS_setsockopt, WORKER | HELPERS, "its sockets" },
    { SYS_shutdown, ONE(LOOP) | WRITES | ONE(NET) | ONE(VIEWER) | ONE(SCREEN), "its sockets" },
    { SYS_getsockname, ONE(LOOP) | ONE(NET), "its sockets" },
    { SYS_getpeername, ONE(LOOP) | ONE(NET) | ONE(VIEWER) | ONE(SCREEN), "its sockets" },
    { SYS_accept, ONE(LOOP) | ONE(NET) | ONE(SWITCH) | ONE(SCREEN), "its clients" },
    { SYS_accept4, ONE(LOOP) | ONE(NET) | ONE(SWITCH) | ONE(SCREEN), "its clients" },
    { SYS_connect, ONE(NET), "the guest's connections" },
    { SYS_bind, ONE(NET), "the guest's connections" },
    { SYS_listen, ONE(NET), "the guest's connections" },
    { SYS_poll, EVERYONE, "waiting" },
    { SYS_ppoll, EVERYONE, "waiting" },
    { SYS_select, ONE(VIEWER) | ONE(SCREEN), "waiting" },
    { SYS_pselect6, ONE(VIEWER) | ONE(SCREEN), "waiting" },
    { SYS_alarm, ONE(VIEWER) | ONE(SCREEN), "a viewer's time" },
    { SYS_epoll_wait, WORKER | ONE(SWITCH), "waiting" },
    { SYS_epoll_pwait, WORKER | ONE(SWITCH), "waiting" },
    { SYS_epoll_ctl, WORKER | ONE(SWITCH), "waiting" },
    { SYS_epoll_create1, ONE(LOOP), "waiting" },
    { SYS_eventfd2, ONE(LOOP) | ONE(SWITCH), "bells" },
    { SYS_timerfd_create, ONE(LOOP), "timers" },
    { SYS_timerfd_settime, WORKER | ONE(SWITCH), "timers" },
    { SYS_clock_gettime, EVERYONE, "time" },
    { SYS_clock_getres, EVERYONE, "time" },
    { SYS_gettimeofday, EVERYONE, "time" },
    { SYS_time, EVERYONE, "time" },
    { SYS_nanosleep, EVERYONE, "time" },
    { SYS_clock_nanosleep, EVERYONE, "time" },
    { SYS_sched_yield, WORKER, "spinning" },
    { SYS_sched_getaffinity, WORKER, "spinning" },
    { SYS_getcpu, WORKER, "where it runs" },
    { SYS_io_uring_enter, DISKS, "disks; attacker_ring.c tries what the ring takes" },
    { SYS_brk, EVERYONE, "memory" },
    { SYS_mmap, EVERYONE, "memory" },
    { SYS_munmap, EVERYONE, "memory" },
    { SYS_mremap, EVERYONE, "memory" },
    { SYS_mprotect, EVERYONE, "memory" },
    { SYS_madvise, EVERYONE, "memory" },
    { SYS_memfd_create, ONE(SWITCH), "a client's link" },
    { SYS_membarrier, RUNS, "code that changes" },
    { SYS_futex, EVERYONE, "locks" },
    { SYS_getrandom, EVERYONE, "random numbers" },
    { SYS_rt_sigprocmask, EVERYONE, "abort()" },
    { SYS_rt_sigaction, WORKER, "abort()" },
    { SYS_sigaltstack, EVERYONE, "the end of a thread" },
    { SYS_rt_sigpending, ONE(LOOP) | ONE(BLOCK), "has a signal come that ends it?" },
    { SYS_rt_sigtimedwait, ONE(LOOP), "the same" },
    { SYS_getrusage, ONE(LOOP), "what a run cost" },
    { SYS_getuid, ONE(LOOP), "who it is" },
    { SYS_geteuid, ONE(LOOP), "who it is" },
    { SYS_getpid, EVERYONE, "its own number" },
    { SYS_gettid, EVERYONE, "its own number" },
    { SYS_tgkill, EVERYONE, "itself: kicks, abort()" },
    { SYS_restart_syscall, EVERYONE, "what a signal interrupted" },
    { SYS_clone, MAKES | ONE(SCREEN), "threads; a viewer's process" },
    { SYS_clone3, MAKES, "threads" },
    { SYS_set_robust_list, MAKES | ONE(BLOCK) | ONE(SERIAL) | ONE(OUTPUT) | ONE(SCREEN), "a new thread" },
    { SYS_rseq, WORKER, "a new thread" },
    { SYS_prctl, MAKES | ONE(BLOCK) | ONE(SCREEN), "a new thread's name" },
    { SYS_fork, ONE(SCREEN), "a viewer's process" },
    { SYS_wait4, ONE(SCREEN), "a viewer's process" },
    { SYS_seccomp, ONE(SCREEN) | ONE(LOOP), "a viewer's sandbox, a new thread's" },
    { SYS_prlimit64, ONE(SCREEN), "a viewer's sandbox" },
    { SYS_socketpair, ONE(SCREEN), "a viewer's process" },
    { SYS_socket, ONE(NET), "the guest's connections" },
    { SYS_stat, ONE(NET), "resolv.conf" },
    { SYS_newfstatat, ONE(NET) | FILES, "resolv.conf; the folder" },
    { SYS_openat, FILES, "the folder" },
    { SYS_openat2, FILES, "the folder" },
    { SYS_statx, FILES, "the folder" },
    { SYS_statfs, FILES, "the folder" },
    { SYS_fstatfs, FILES, "the folder" },
    { SYS_getdents64, FILES, "the folder" },
    { SYS_readlinkat, FILES, "the folder" },
    { SYS_mkdirat, FILES, "the folder" },
    { SYS_mknodat, FILES, "the folder" },
    { SYS_unlinkat, FILES, "the folder" },
    { SYS_linkat, FILES, "the folder" },
    { SYS_symlinkat, FILES, "the folder" },
    { SYS_renameat, FILES, "the folder" },
    { SYS_renameat2, FILES, "the folder" },
    { SYS_fchmod, FILES, "the folder" },
    { SYS_chmod, ONE(SHARE), "the folder, by the name of a descriptor" },
    { SYS_fchmodat, FILES, "the folder" },
    { SYS_fchown, FILES, "the folder" },
    { SYS_fchownat, FILES, "the folder" },
    { SYS_utimensat, FILES, "the folder" },
    { SYS_faccessat, FILES, "the folder" },
    { SYS_faccessat2, FILES, "the folder" },
    { SYS_fgetxattr, FILES, "the folder" },
    { SYS_fsetxattr, FILES, "the folder" },
    { SYS_flistxattr, FILES, "the folder" },
    { SYS_fremovexattr, FILES, "the folder" },
    { SYS_getxattr, FILES, "the folder" },
    { SYS_setxattr, FILES, "the folder" },
    { SYS_listxattr, FILES, "the folder" },
    { SYS_removexattr, FILES, "the folder" },
    { SYS_setfsuid, FILES, "who makes a file" },
    { SYS_setfsgid, FILES, "who makes a file" },
    { SYS_setresuid, FILES, "who makes a file" },
    { SYS_setresgid, FILES, "who makes a file" },
    { SYS_setgroups, FILES, "who makes a file" },
    { SYS_umask, FILES, "modes as the guest has them" },
    { SYS_landlock_restrict_self, ONE(NET), "comes after the filter; it takes away only" },
    { 335 /* uretprobe */, EVERYONE, "no filter of seccomp(2) sees it; of use only in code that the kernel has made" },
    { 336 /* uprobe */, EVERYONE, "the same" },
};

const char *may_call(enum kind k, long nr)
{
    for (u32 i = 0; i < ARRAY_SIZE(list); i++)
        if (list[i].nr == nr && list[i].who & ONE(k))
            return list[i].why;
    return NULL;
}

/* A folder's process opens files, and its list of calls cannot tell one name from another. Landlock keeps it below its folder,
   but has no rule for what only looks or changes a mode; for that the folder is its root. Where a host has neither, it has
   its user's rights to files. */
static const struct {
    const char *name;
    u32 lacks;
} beyond_folder[] = {
    { "openat secret O_PATH", HOST_NO_NAMESPACES },
    { "newfstatat", HOST_NO_NAMESPACES },
    { "readlinkat", HOST_NO_NAMESPACES },
    { "chmod", HOST_NO_NAMESPACES },
    { "fchownat", HOST_NO_NAMESPACES },
    { "utimensat", HOST_NO_NAMESPACES },
    { "setxattr", HOST_NO_NAMESPACES },
    { "getxattr", HOST_NO_NAMESPACES },
    { "listxattr", HOST_NO_NAMESPACES },
    { "the way up from a folder", HOST_NO_NAMESPACES },
    { "openat secret", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "openat2 secret", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "openat O_CREAT", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "openat O_TMPFILE", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /etc/passwd", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /proc/self/mem", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /proc/self/exe", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /proc/self/fd", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open core_pattern", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /dev/kvm", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open /dev/null", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open the victim's maps", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open the victim's memory", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open the victim's network", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "open the victim's root", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "up from a folder", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "unlinkat", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "renameat2", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "linkat", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "symlinkat", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "mkdirat", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
    { "mknodat", HOST_NO_NAMESPACES | HOST_NO_LANDLOCK },
};

const char *reachable(enum kind k, const char *name, u32 lacks)
{
    for (u32 i = 0; i < ARRAY_SIZE(beyond_folder) && k == SHARE; i++)
        if (!strcmp(beyond_folder[i].name, name) && (beyond_folder[i].lacks & lacks) == beyond_folder[i].lacks)
            return lacks & HOST_NO_LANDLOCK ? "a file, with its user's rights" : "a file's name, mode, owner or times";
    return NULL;
}
