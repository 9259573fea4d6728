/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - see worker.h. */
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/signals.h"

enum { END_MS = 30000 }; /* a machine that nobody wants any more has as long to write out its disks */

/* What ends a machine, and what stops it for a while (front.c). */
static int watch_signals(sigset_t *before)
{
    sigset_t set;

    signals_of_end(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTSTP);
    sigaddset(&set, SIGCONT);
    if (sigprocmask(SIG_BLOCK, &set, before))
        return -errno;
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static void hand_on(pid_t worker, int signals)
{
    struct signalfd_siginfo si;

    while (read(signals, &si, sizeof si) == sizeof si)
        if (si.ssi_signo == SIGTSTP)
            kill(worker, SIGSTOP);
        else if (si.ssi_signo != SIGCHLD) {
            kill(worker, (int)si.ssi_signo);
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
static int keep(pid_t worker, int signals, int front)
{
    struct pollfd p[2] = { { signals, POLLIN, 0 }, { front, 0, 0 } };
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
    }
    return got == worker ? end_of(worker, status) : 1;
}

int worker_start(int front, int *status, struct error *err)
{
    const pid_t broker = getpid();
    sigset_t before;
    const int signals = watch_signals(&before);

    fflush(NULL);
    const pid_t pid = signals < 0 ? -1 : fork();
    if (pid < 0) {
        const int r = signals < 0 ? signals : -errno;
        if (signals >= 0)
            close(signals);
        return error_set(err, -r, "cannot make the machine's process: %s", strerror(-r));
    }
    if (pid) {
        prctl(PR_SET_NAME, "lodge-broker");
        *status = keep(pid, signals, front);
        close(signals);
        return 1;
    }
    close(signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    prctl(PR_SET_NAME, "lodge-vm");
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != broker) /* it died before that */
        raise(SIGTERM);
    return 0;
}
