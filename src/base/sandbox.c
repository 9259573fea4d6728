/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - three steps: no new privileges and no resources that are not needed, no files but a few (Landlock), no
 * system calls but a few (seccomp).  A call that is not on the list fails with EPERM; it does not end the process,
 * since what the C library tries and can do without differs between versions.
 */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_FILES = 1024 };

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
    { SCMP_SYS(fcntl), FOR_ALL },
    { SCMP_SYS(getsockopt), FOR_ALL },
    { SCMP_SYS(setsockopt), FOR_ALL },
    { SCMP_SYS(accept), FOR_USER | FOR_SWITCH | FOR_SCREEN },
    { SCMP_SYS(accept4), FOR_USER | FOR_SWITCH | FOR_SCREEN },
    /* the guest's connections; socket() below */
    { SCMP_SYS(connect), FOR_USER },
    { SCMP_SYS(bind), FOR_USER },
    { SCMP_SYS(listen), FOR_USER },
    { SCMP_SYS(shutdown), FOR_USER | FOR_VIEWER },
    { SCMP_SYS(getsockname), FOR_USER },
    { SCMP_SYS(getpeername), FOR_USER | FOR_VIEWER },
    { SCMP_SYS(ioctl), FOR_USER }, /* FIONBIO, FIONREAD */
    /* /etc/resolv.conf; what may be opened is Landlock's and open's flags below */
    { SCMP_SYS(newfstatat), FOR_USER },
    { SCMP_SYS(stat), FOR_USER },
    { SCMP_SYS(fstat), FOR_ALL },
    { SCMP_SYS(lseek), FOR_USER },
    /* a new client's link; the socket's name goes with the last */
    { SCMP_SYS(memfd_create), FOR_SWITCH },
    { SCMP_SYS(eventfd2), FOR_SWITCH },
    { SCMP_SYS(ftruncate), FOR_SWITCH },
    { SCMP_SYS(unlink), FOR_SWITCH },
    /* viewers: select, a time to be done by, a process for each and its sandbox */
    { SCMP_SYS(select), FOR_VIEWER },
    { SCMP_SYS(pselect6), FOR_VIEWER },
    { SCMP_SYS(alarm), FOR_VIEWER },
    { SCMP_SYS(clone), FOR_SCREEN },
    { SCMP_SYS(fork), FOR_SCREEN },
    { SCMP_SYS(wait4), FOR_SCREEN },
    { SCMP_SYS(socketpair), FOR_SCREEN },
    { SCMP_SYS(set_robust_list), FOR_SCREEN },
    { SCMP_SYS(prctl), FOR_SCREEN },
    { SCMP_SYS(prlimit64), FOR_SCREEN },
    { SCMP_SYS(seccomp), FOR_SCREEN },
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
    { SCMP_SYS(tgkill), FOR_ALL },
    { SCMP_SYS(restart_syscall), FOR_ALL },
    { SCMP_SYS(exit), FOR_ALL },
    { SCMP_SYS(exit_group), FOR_ALL },
};

/* Where resolv.conf is or leads to. */
static const char *const resolver[] = { "/etc", "/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager" };

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

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);
    if (rule.parent_fd < 0)
        return 0; /* not there: nothing to allow */
    r = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
    close(rule.parent_fd);
    return r;
}

static int restrict_files(enum sandbox kind, const char *dir)
{
    /* All that the first version of Landlock knows of. */
    const struct landlock_ruleset_attr all = { .handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1 };
    int r = 0, set = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);

    if (set < 0)
        return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM /* a container's filter */ ? 0 : -errno;
    for (size_t i = 0; kind == SANDBOX_USER && i < ARRAY_SIZE(resolver) && !r; i++)
        r = allow_beneath(set, resolver[i], LANDLOCK_ACCESS_FS_READ_FILE);
    if (dir && !r)
        r = allow_beneath(set, dir, kind == SANDBOX_USER ? LANDLOCK_ACCESS_FS_READ_FILE /* tftp= */
                                                         : LANDLOCK_ACCESS_FS_REMOVE_FILE /* its socket, at the end */);
    if (!r && syscall(SYS_landlock_restrict_self, set, 0))
        r = -errno;
    close(set);
    return r;
}

static int restrict_calls(enum sandbox kind)
{
    if (prctl(PR_GET_SECCOMP) < 0 && errno == EINVAL)
        return 0; /* a kernel without it */
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int r = ctx ? 0 : -ENOMEM;

    for (size_t i = 0; i < ARRAY_SIZE(calls) && !r; i++)
        if (calls[i].who & 1u << kind)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].nr, 0);
    /* No memory is ever made executable. */
    for (int i = 0; i < 2 && !r; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, i ? SCMP_SYS(mprotect) : SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0));
    if (kind == SANDBOX_USER) {
        static const int families[] = { AF_INET, AF_INET6 };
        for (size_t i = 0; i < ARRAY_SIZE(families) && !r; i++)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (u64)families[i]));
        if (!r)
            r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
    }
    if (!r)
        r = seccomp_load(ctx);
    if (ctx)
        seccomp_release(ctx);
    return r;
}

int sandbox_enter(enum sandbox kind, const char *dir, struct error *err)
{
    int r;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        r = -errno;
    else if (!(r = limit(RLIMIT_CORE, 0)) && (kind == SANDBOX_SCREEN || !(r = limit(RLIMIT_NPROC, 0))) &&
             !(r = limit(RLIMIT_NOFILE, MAX_FILES)) &&
             (kind == SANDBOX_VIEWER || (!(r = limit_memory()) && !(r = restrict_files(kind, dir)))))
        r = restrict_calls(kind);
    return r ? error_set(err, -r, "its process cannot give up its privileges: %s", strerror(-r)) : 0;
}
