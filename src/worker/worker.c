/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - see worker.h. */
#include "worker/worker.h"

#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/sandbox.h"
#include "base/signals.h"
#include "worker/broker.h"

enum { END_MS = 30000 }; /* a machine that nobody wants any more has as long to write out its disks */

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
static int keep(pid_t worker, int signals, int front, struct broker *b, int requests)
{
    struct pollfd p[3] = { { signals, POLLIN, 0 }, { front, 0, 0 }, { requests, POLLIN, 0 } };
    u64 end = 0; /* clock_ns() at which it is no longer waited for; 0: ever */
    int status;
    pid_t got;

    while ((got = waitpid(worker, &status, WNOHANG)) == 0) {
        const u64 now = clock_ns();
        if (end && now >= end)
            kill(worker, SIGKILL);
        if (poll(p, ARRAY_SIZE(p), end && now < end ? (int)((end - now) / 1000000) + 1 : -1) < 0)
            continue;
        if (p[0].revents)
            hand_on(worker, signals);
        if (p[1].revents & (POLLHUP | POLLERR | POLLNVAL)) {
            p[1].fd = -1;
            end = clock_ns() + END_MS * 1000000ull;
            kill(worker, SIGCONT);
            kill(worker, SIGTERM);
        }
        if (p[2].revents && !broker_serve(b))
            p[2].fd = -1;
    }
    return got == worker ? end_of(worker, status) : 1;
}

static int failed(int r, struct error *err)
{
    return error_set(err, -r, "cannot make the machine's process: %s", strerror(-r));
}

/* Capabilities: those of capabilities(7) that the guest's root needs to be the root of a shared folder. The folder's process,
   which this one starts, has them from it (base/sandbox.c). */
static u32 rights(u32 needs)
{
    const u32 folders = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER;

    return (needs & WORKER_FOLDERS ? folders : 0) | (needs & WORKER_FORWARDS ? 1u << CAP_NET_BIND_SERVICE : 0);
}

/* In the new process. */
static void be_worker(pid_t broker, int requests, u32 needs, const sigset_t *before)
{
    sigprocmask(SIG_SETMASK, before, NULL);
    prctl(PR_SET_NAME, "lodge-vm");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != broker) /* it died before that */
        raise(SIGTERM);
    broker_use(requests);
    const int r = sandbox_drop(rights(needs));
    if (r) {
        log_error("the machine's process cannot give up its privileges: %s", strerror(-r));
        _exit(1);
    }
}

int worker_start(int front, u32 needs, int *status, struct error *err)
{
    /* Its end, and what stops a machine for a while (front.c). */
    static const int also[] = { SIGCHLD, SIGTSTP, SIGCONT };
    const pid_t broker = getpid();
    sigset_t before;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return failed(-errno, err);
    struct broker *b = broker_new(pair[0]); /* pair[0] is its */
    sigprocmask(SIG_SETMASK, NULL, &before);
    const int signals = b ? signals_fd(also, ARRAY_SIZE(also)) : -ENOMEM;
    fflush(NULL);
    const pid_t pid = signals < 0 ? -1 : fork();
    const int r = signals < 0 ? signals : pid < 0 ? -errno : pid ? 1 : 0;
    if (r) /* or the end of the worker's would not be seen */
        close(pair[1]);
    if (r > 0) {
        prctl(PR_SET_NAME, "lodge-broker");
        *status = keep(pid, signals, front, b, pair[0]);
    }
    if (signals >= 0)
        close(signals);
    if (!b)
        close(pair[0]);
    broker_free(b); /* in the worker, too, where it has nothing to remove yet */
    if (!r)
        be_worker(broker, pair[1], needs, &before);
    return r < 0 ? failed(r, err) : r;
}
