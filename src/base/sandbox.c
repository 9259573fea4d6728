/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - four steps: no privileges and no resources that are not needed, no files (Landlock), no system calls but a
 * few (seccomp), which have no way to open a file, to reach another process or to make one.  The last holds without the
 * one before it, too.  A call that is not on the list fails with EPERM; it does not end the process, since what the C
 * library tries and can do without differs between versions.
 */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FILTER_SECONDS = 5, /* of CPU; it takes milliseconds */
    MAX_FILES = 1024,
    MAX_FILE_SIZE = MiB(64), /* the switch's memory for a machine: a file, to the kernel */
};

enum {
    FOR_USER = 1 << SANDBOX_USER, FOR_SWITCH = 1 << SANDBOX_SWITCH, FOR_SCREEN = 1 << SANDBOX_SCREEN,
    FOR_VIEWER = 1 << SANDBOX_VIEWER | FOR_SCREEN, /* a filter stays on those who come after */
    FOR_ALL = FOR_USER | FOR_SWITCH | FOR_VIEWER,
};

static const struct {
    int nr;
    u32 who;
} calls[] = {
    /* waiting, and the clock where the vDSO does not answer */
    { SCMP_SYS(poll), FOR_ALL },
    { SCMP_SYS(ppoll), FOR_ALL },
    { SCMP_SYS(epoll_wait), FOR_SWITCH },
    { SCMP_SYS(epoll_pwait), FOR_SWITCH },
    { SCMP_SYS(epoll_ctl), FOR_SWITCH },
    { SCMP_SYS(timerfd_settime), FOR_SWITCH },
    { SCMP_SYS(clock_gettime), FOR_ALL },
    { SCMP_SYS(gettimeofday), FOR_ALL },
    { SCMP_SYS(time), FOR_ALL },
    { SCMP_SYS(nanosleep), FOR_ALL },
    { SCMP_SYS(clock_nanosleep), FOR_ALL },
    /* bells and messages */
    { SCMP_SYS(read), FOR_ALL },
    { SCMP_SYS(write), FOR_ALL },
    { SCMP_SYS(readv), FOR_ALL },
    { SCMP_SYS(writev), FOR_ALL },
    { SCMP_SYS(recvfrom), FOR_ALL },
    { SCMP_SYS(recvmsg), FOR_ALL },
    { SCMP_SYS(sendto), FOR_ALL },
    { SCMP_SYS(sendmsg), FOR_ALL },
    { SCMP_SYS(close), FOR_ALL },
    { SCMP_SYS(getsockopt), FOR_ALL },
    { SCMP_SYS(setsockopt), FOR_ALL },
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
    { SCMP_SYS(fstat), FOR_ALL },
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
    { SCMP_SYS(setitimer), FOR_SCREEN },
    { SCMP_SYS(rt_sigaction), FOR_SCREEN },
    /* memory, threads' locks, the end */
    { SCMP_SYS(brk), FOR_ALL },
    { SCMP_SYS(munmap), FOR_ALL },
    { SCMP_SYS(mremap), FOR_ALL },
    { SCMP_SYS(madvise), FOR_ALL },
    { SCMP_SYS(futex), FOR_ALL },
    { SCMP_SYS(getrandom), FOR_ALL },
    { SCMP_SYS(rt_sigreturn), FOR_ALL },
    { SCMP_SYS(rt_sigprocmask), FOR_ALL }, /* abort() */
    { SCMP_SYS(sigaltstack), FOR_ALL },
    { SCMP_SYS(getpid), FOR_ALL },
    { SCMP_SYS(gettid), FOR_ALL },
    { SCMP_SYS(restart_syscall), FOR_ALL },
    { SCMP_SYS(exit), FOR_ALL },
    { SCMP_SYS(exit_group), FOR_ALL },
};

#define ONLY(n, value) { n, SCMP_CMP_EQ, (u64)(value), 0 }
#define BITS(n, mask, value) { n, SCMP_CMP_MASKED_EQ, (u64)(mask), (u64)(value) }

/* Calls that can do more than they are for, by what they are given. A line allows; several of one call are as many ways. */
static const struct {
    int nr;
    u32 who, nargs;
    struct scmp_arg_cmp arg[3];
} by_argument[] = {
    /* No memory is ever made executable. */
    { SCMP_SYS(mmap), FOR_ALL, 1, { BITS(2, 4 /* PROT_EXEC */, 0) } },
    { SCMP_SYS(mprotect), FOR_ALL, 1, { BITS(2, 4, 0) } },
    /* Not F_SETOWN and F_SETSIG: whose descriptor has an owner sends signals to it. */
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_DUPFD) } },
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_DUPFD_CLOEXEC) } },
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_GETFD) } },
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_SETFD) } },
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_GETFL) } },
    { SCMP_SYS(fcntl), FOR_ALL, 1, { ONLY(1, F_SETFL) } },
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
    /* A viewer's sandbox, and its own limits alone. */
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_SET_NO_NEW_PRIVS) } },
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_GET_SECCOMP) } },
    { SCMP_SYS(prctl), FOR_SCREEN, 1, { ONLY(0, PR_SET_SECCOMP) } },
    { SCMP_SYS(prlimit64), FOR_SCREEN, 1, { ONLY(0, 0) } },
};

/* Where resolv.conf is or leads to. */
static const char *const resolver[] = { "/etc/resolv.conf", "/run/systemd/resolve", "/run/resolvconf",
                                        "/run/NetworkManager" };

static int limit(int what, rlim_t most)
{
    struct rlimit r;

    if (getrlimit((__rlimit_resource_t)what, &r))
        return -errno;
    r.rlim_cur = MIN(r.rlim_cur, most);
    r.rlim_max = MIN(r.rlim_max, most);
    return setrlimit((__rlimit_resource_t)what, &r) ? -errno : 0;
}

/* A guest can make libslirp keep what it sends (fragments without an end, segments with gaps). It ends the process, and
   with it the guest's network, before it hurts the host. */
static int limit_memory(void)
{
    unsigned long data = 0; /* pages: /proc/self/statm, proc(5) */
    FILE *f = fopen("/proc/self/statm", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%*u %*u %*u %*u %*u %lu", &data) != 1)
        data = 0;
    fclose(f);
    return data ? limit(RLIMIT_DATA, data * 4096 + GiB(1)) : 0;
}

static int allow_beneath(int set, const char *path, u64 access)
{
    struct landlock_path_beneath_attr rule = { .allowed_access = access };
    int r;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return 0; /* not there: nothing to allow */
    r = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
    close(rule.parent_fd);
    return r;
}

/* A descriptor of the rules, or -1 with *r 0 where the kernel has no Landlock. */
static int file_rules(bool by_itself, const char *dir, int *r)
{
    /* All that the first version of Landlock knows of. */
    const struct landlock_ruleset_attr all = { .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
    const int set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

    *r = 0;
    if (set < 0) {
        if (errno != ENOSYS && errno != EOPNOTSUPP && errno != EPERM /* a container's filter */)
            *r = -errno;
        return -1;
    }
    for (size_t i = 0; by_itself && i < ARRAY_SIZE(resolver) && !*r; i++)
        *r = allow_beneath(set, resolver[i], LANDLOCK_ACCESS_FS_READ_FILE);
    if (by_itself && dir && !*r)
        *r = allow_beneath(set, dir, LANDLOCK_ACCESS_FS_READ_FILE);
    return set;
}

static int restrict_files(int set)
{
    int r = set < 0 || !syscall(SYS_landlock_restrict_self, set, 0) ? 0 : -errno;

    if (set >= 0)
        close(set);
    return r;
}

/* libseccomp (2.5.4) goes round for ever where it has no memory: then this ends the process. With the filter on, the timer
   cannot be stopped any more, but its signal be kept waiting. */
static int limit_time(void)
{
    const struct itimerval most = { .it_value = { .tv_sec = FILTER_SECONDS } };

    signal(SIGPROF, SIG_DFL);
    return setitimer(ITIMER_PROF, &most, NULL) ? -errno : 0;
}

static void forget_time(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static scmp_filter_ctx filter_new(enum sandbox kind, int *r)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));

    *r = ctx ? 0 : -ENOMEM;
    for (size_t i = 0; i < ARRAY_SIZE(calls) && !*r; i++)
        if (calls[i].who & 1u << kind)
            *r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].nr, 0);
    for (size_t i = 0; i < ARRAY_SIZE(by_argument) && !*r; i++)
        if (by_argument[i].who & 1u << kind)
            *r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, by_argument[i].nr, by_argument[i].nargs,
                                        by_argument[i].arg);
    /* abort(): itself only. A child of this one has another number, and dies of the next thing that abort() tries. */
    if (!*r)
        *r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (u64)getpid()));
    return ctx;
}

static int filter_load(scmp_filter_ctx ctx, int r)
{
    if (!r)
        r = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return r;
}

static int allow_reading(scmp_filter_ctx ctx, u32 action)
{
    return seccomp_rule_add(ctx, action, SCMP_SYS(openat), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

/* All calls but to open a file, which whoever has the descriptor that this returns decides (seccomp_unotify(2)).
   -errno: an old kernel, or another program has such a descriptor for us already. */
static int restrict_calls_asking(void)
{
    int r, fd = -1;
    scmp_filter_ctx ctx = filter_new(SANDBOX_USER, &r);

    if (!r)
        r = allow_reading(ctx, SCMP_ACT_NOTIFY);
    if (!r) /* comes after this, and can only take more away */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SYS_landlock_restrict_self, 0);
    if (!r)
        r = seccomp_load(ctx);
    const int notify = r ? -1 : seccomp_notify_fd(ctx);
    if (notify >= 0)
        fd = fcntl(notify, F_DUPFD_CLOEXEC, 3);
    if (notify >= 0 && fd < 0)
        r = -errno;
    if (ctx)
        seccomp_release(ctx);
    if (notify >= 0 && fcntl(notify, F_GETFD) >= 0)
        close(notify); /* the library leaves it to us */
    return r ? r : fd;
}

static int restrict_calls(enum sandbox kind)
{
    int r;
    scmp_filter_ctx ctx = filter_new(kind, &r);

    if (!r && kind == SANDBOX_USER)
        r = allow_reading(ctx, SCMP_ACT_ALLOW);
    return filter_load(ctx, r);
}

int sandbox_drop(void)
{
    struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { { 0 } }, have[2] = { { 0 } };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    /* Root keeps its files, by their owner, and nothing else of root's. Who cannot shrink the bounding set has nothing
       in it that could be got back without new privileges. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &hdr, none) &&
        (syscall(SYS_capget, &hdr, have) || have[0].permitted || have[1].permitted))
        return -EPERM;
    return limit(RLIMIT_CORE, 0);
}

static int limits(enum sandbox kind)
{
    int r = limit(RLIMIT_NOFILE, MAX_FILES);

    if (!r && kind != SANDBOX_SCREEN)
        r = limit(RLIMIT_NPROC, 0);
    if (!r)
        r = limit(RLIMIT_FSIZE, kind == SANDBOX_SWITCH ? MAX_FILE_SIZE : 0);
    return r || kind == SANDBOX_VIEWER ? r : limit_memory(); /* a viewer's has the screen's */
}

/* What a kernel without one of these leaves open. */
static void say_missing(enum sandbox kind, struct sandbox_report *r)
{
    r->missing.text[0] = 0;
    if (!r->seccomp)
        error_set(&r->missing, 0,
                  "this kernel has no seccomp (CONFIG_SECCOMP_FILTER): its process may make every system call%s",
                  r->landlock ? "" : ", and without Landlock use every file that you can");
    else if (kind == SANDBOX_USER && !r->asks && !r->landlock)
        error_set(&r->missing, 0,
                  "this host has neither Landlock nor a way to decide on each file that is opened (seccomp_unotify, "
                  "Linux 5.9): its process may read every file that you can");
}

static int enter(enum sandbox kind, const char *dir, int *requests, struct sandbox_report *report)
{
    int set = -1, files;
    /* A viewer's process has passed SANDBOX_SCREEN. */
    int r = kind == SANDBOX_VIEWER ? 0 : sandbox_drop();

    *report = (struct sandbox_report){ .seccomp = prctl(PR_GET_SECCOMP) >= 0 || errno != EINVAL, .landlock = true };
    if (!r)
        r = limits(kind);
    if (!r && kind != SANDBOX_VIEWER) {
        set = file_rules(false, NULL, &r);
        report->landlock = set >= 0;
    }
    if (!r && report->seccomp)
        r = limit_time();
    if (!r && kind == SANDBOX_USER) {
        if (requests) {
            *requests = report->seccomp ? restrict_calls_asking() : -1;
            report->asks = *requests >= 0;
        }
        if (!report->asks && set >= 0) {
            close(set);
            set = file_rules(true, dir, &r);
        }
    }
    files = restrict_files(set);
    r = r ? r : files;
    if (!r && report->seccomp && !report->asks)
        r = restrict_calls(kind);
    forget_time();
    say_missing(kind, report);
    return r;
}

int sandbox_enter(enum sandbox kind, const char *dir, int *requests, struct error *err)
{
    struct sandbox_report report;
    const int r = enter(kind, dir, requests, &report);

    *err = report.missing;
    return r ? error_set(err, -r, "its process cannot give up its privileges: %s", strerror(-r)) : 0;
}

int sandbox_probe(struct sandbox_report *report)
{
    struct {
        int r;
        struct sandbox_report it;
    } m = { .r = -EIO };
    int ends[2], requests;

    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    const pid_t pid = fork();
    if (!pid) {
        m.r = enter(SANDBOX_USER, NULL, &requests, &m.it);
        _exit(write(ends[1], &m, sizeof(m)) != sizeof(m));
    }
    close(ends[1]);
    if (pid < 0 || read(ends[0], &m, sizeof(m)) != sizeof(m))
        m.r = -EIO;
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *report = m.it;
    return m.r;
}
