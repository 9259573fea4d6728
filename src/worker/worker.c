/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - see worker.h. */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/sandbox.h"
#include "base/signals.h"
#include "worker/broker.h"
#include "worker/room.h"

static void hand_on(pid_t worker, int signals)
{
    struct signalfd_siginfo si;

    while (read(signals, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGCHLD)
            continue;
        kill(worker, si.ssi_signo == SIGTSTP ? SIGSTOP : (int)si.ssi_signo);
        if (si.ssi_signo != SIGTSTP)
            kill(worker, SIGCONT); /* it may have been stopped, and then it would not hear of its end */
    }
}

static int end_of(pid_t worker, int status)
{
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    log_error("the machine's process %d was ended by signal %d (%s)%s; its disks are as after a loss of power", worker, WTERMSIG(status),
              strsignal(WTERMSIG(status)), WTERMSIG(status) == SIGKILL ? "" : ", which is a fault of lodge's");
    return 1;
}

/* Until the worker has ended. */
static int keep(pid_t worker, int signals, int front, struct broker *b)
{
    struct pollfd p[2 + BROKER_FDS] = { { signals, POLLIN, 0 }, { front, 0, 0 } };
    u64 end = 0; /* clock_ns() at which it is no longer waited for; 0: ever */
    int status;
    pid_t got;

    while ((got = waitpid(worker, &status, WNOHANG)) == 0) {
        const u64 now = clock_ns();
        if (end && now >= end)
            kill(worker, SIGKILL);
        int ms = end && now < end ? (int)((end - now) / 1000000) + 1 : -1;
        const u32 n = broker_poll(b, p + 2, &ms);
        if (poll(p, 2 + n, ms) < 0)
            continue;
        if (p[0].revents)
            hand_on(worker, signals);
        if (p[1].revents & (POLLHUP | POLLERR | POLLNVAL)) {
            p[1].fd = -1;
            end = clock_ns() + WORKER_END_MS * 1000000ull;
            kill(worker, SIGCONT);
            kill(worker, SIGTERM);
        }
        broker_serve(b);
    }
    return got == worker ? end_of(worker, status) : 1;
}

static int failed(int r, struct error *err)
{
    return error_set(err, -r, "cannot make the machine's process: %s", strerror(-r));
}

/* The broker's end of the socket is closed when it is dead; in another namespace, getppid() does not know it. */
static bool has_broker(int requests)
{
    struct pollfd p = { requests, 0, 0 };

    return poll(&p, 1, 0) == 0;
}

/* The sanitizers' own code makes system calls and reads /proc, in its reports and at the end, so a build with them has no
   empty room. It is for tests. */
#ifdef __SANITIZE_ADDRESS__
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

/* Since Linux 5.14 RLIMIT_NPROC counts what is in the user namespace; before that, all that this user has on the host. */
static bool counts_threads(const struct room *room)
{
    struct utsname u;
    unsigned major, minor;

    return room->made && !uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2 && (major > 5 || (major == 5 && minor >= 14));
}

/* In the worker: its threads are counted apart from the user's others. */
static bool own_threads;

/* In the new process. */
static void be_worker(const struct room *room, int requests, const sigset_t *before)
{
    sigprocmask(SIG_SETMASK, before, NULL);
    prctl(PR_SET_NAME, "lodge-vm");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (!has_broker(requests)) /* it died before that */
        raise(SIGTERM);
    const int r = room_enter(room);
    if (r) {
        log_error("the machine's process cannot give up its privileges: %s", strerror(-r));
        _exit(1);
    }
    own_threads = counts_threads(room);
    broker_use(requests);
    if (!sanitized)
        sandbox_confine_threads();
}

/* vm/perf_map.c */
static void allow_perf_map(struct policy *p, pid_t worker)
{
    char path[40];

    snprintf(path, sizeof path, "/tmp/perf-%d.map", worker);
    if (policy_allow(p, OPENER_REPORT, path))
        log_warn("perf map: out of memory");
}

int worker_start(const struct worker_job *job, int *status, struct error *err)
{
    /* Its end, and what stops a machine for a while (front.c). */
    static const int also[] = { SIGCHLD, SIGTSTP, SIGCONT };
    struct room room = { .whole = !job->needs && !sanitized };
    sigset_t before;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return failed(-errno, err);
    struct broker *b = broker_new(pair[0], job->policy); /* pair[0] is its */
    sigprocmask(SIG_SETMASK, NULL, &before);
    const int signals = b ? signals_fd(also, ARRAY_SIZE(also)) : -ENOMEM;
    fflush(NULL);
    const pid_t pid = signals < 0 ? -1 : room_fork(&room);
    const int r = signals < 0 ? signals : pid < 0 ? -errno : pid ? 1 : 0;
    if (r) /* or the end of the worker's would not be seen */
        close(pair[1]);
    if (r > 0) {
        prctl(PR_SET_NAME, "lodge-broker");
        broker_worker(b, pid);
        if (job->needs & WORKER_PERF)
            allow_perf_map(job->policy, pid);
        *status = keep(pid, signals, job->front, b);
    }
    if (signals >= 0)
        close(signals);
    if (r)
        broker_free(b);
    else
        broker_drop(b);
    if (!r)
        be_worker(&room, pair[1], &before);
    return r < 0 ? failed(r, err) : r;
}

static void limit(int what, u64 most)
{
    struct rlimit r;

    if (getrlimit((__rlimit_resource_t)what, &r))
        return;
    r.rlim_cur = MIN(r.rlim_cur, most);
    r.rlim_max = MIN(r.rlim_max, most);
    (void)setrlimit((__rlimit_resource_t)what, &r);
}

void worker_close_door(const struct worker_limits *limits)
{
    if (!sanitized) /* whose shadow is a large part of the address space */
        limit(RLIMIT_DATA, limits->memory);
    limit(RLIMIT_FSIZE, limits->file);
    limit(RLIMIT_NOFILE, limits->descriptors);
    if (own_threads)
        limit(RLIMIT_NPROC, limits->threads);
    sandbox_thread(SANDBOX_LOOP);
}
