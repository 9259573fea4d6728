/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.c - see front.h. The front copies to the machine what is typed, hands signals on, and waits. It opens nothing,
 * runs nothing of the guest's, and gives the terminal back, however the other processes end.
 */
#include "cli/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"
#include "chardev/terminal.h"
#include "worker/worker.h"

/* The front's descriptors beyond the standard ones. */
enum { SIGNALS = 3, SOCK, KEYS, FDS };

struct watch {
    pid_t pid;
    bool terminal, raw, typed_all;
    char typed[4096]; /* typed, but not yet taken from us */
    size_t n;
};

static pid_t behind; /* for the handler below, which can reach no other state; 0: there is no such process yet */

/* Ctrl-Z, or SIGTSTP from elsewhere: the machine stops with us, and continues with us. Async-signal-safe. */
static void on_stop(bool stop)
{
    if (behind > 0)
        kill(behind, stop ? SIGTSTP : SIGCONT);
}

static void hand_on(struct watch *w)
{
    struct signalfd_siginfo si;

    while (read(SIGNALS, &si, sizeof si) == sizeof si)
        if (si.ssi_signo != SIGCHLD)
            kill(w->pid, (int)si.ssi_signo);
}

/* The other side says that it begins to run the machine. */
static void begin(struct watch *w, struct pollfd *p)
{
    char c;
    const ssize_t n = read(SOCK, &c, 1);

    if (n > 0) {
        terminal_begin();
        w->raw = w->terminal;
        if (send(SOCK, &c, 1, MSG_NOSIGNAL) == 1)
            return;
    } else if (n < 0 && errno == EINTR) {
        return;
    }
    p->fd = -1; /* the other processes have ended, or are about to end */
}

/* The terminal was closed. SIGHUP tells only its foreground of that. A process that ignores the signal goes on
   without a terminal. */
static void closed(struct watch *w)
{
    struct sigaction sa;

    w->typed_all = true;
    shutdown(KEYS, SHUT_WR);
    if (!sigaction(SIGHUP, NULL, &sa) && sa.sa_handler != SIG_IGN)
        kill(w->pid, SIGHUP);
}

static void take_keys(struct watch *w)
{
    const ssize_t n = read(STDIN_FILENO, w->typed, sizeof w->typed);

    if (n > 0)
        w->n = (size_t)n;
    else if (!n || (errno != EINTR && errno != EAGAIN))
        closed(w);
}

static void give_keys(struct watch *w)
{
    const ssize_t n = send(KEYS, w->typed, w->n, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        w->typed_all = true; /* nobody reads the socket any more */
    w->n = n < 0 ? 0 : w->n - (size_t)n;
    memmove(w->typed, w->typed + MAX(n, 0), w->n);
}

/* Waits until the other side has ended. Returns its status. */
static int watch(struct watch *w)
{
    struct pollfd p[FDS] = { [SIGNALS] = { SIGNALS, POLLIN, 0 }, [SOCK] = { SOCK, POLLIN, 0 } };
    int status;
    pid_t got;

    while ((got = waitpid(w->pid, &status, WNOHANG)) == 0) {
        p[STDIN_FILENO] = (struct pollfd){ w->raw && !w->typed_all && !w->n ? STDIN_FILENO : -1, POLLIN, 0 };
        p[STDOUT_FILENO].fd = p[STDERR_FILENO].fd = -1;
        p[KEYS] = (struct pollfd){ w->n ? KEYS : -1, POLLOUT, 0 };
        if (poll(p, FDS, -1) < 0)
            continue;
        if (p[SIGNALS].revents)
            hand_on(w);
        if (p[SOCK].revents)
            begin(w, &p[SOCK]);
        if (p[STDIN_FILENO].revents)
            take_keys(w);
        if (p[KEYS].revents)
            give_keys(w);
    }
    terminal_restore();
    if (got == w->pid && WIFSIGNALED(status)) {
        /* The machine ends now, in order. It has the other end of this socket until then. */
        struct pollfd last = { SOCK, POLLIN, 0 };
        char c[16];
        while (poll(&last, 1, WORKER_END_MS) > 0 && read(SOCK, c, sizeof c) > 0)
            ;
    }
    if (got == w->pid && WIFEXITED(status))
        return WEXITSTATUS(status);
    if (got == w->pid && WIFSIGNALED(status))
        log_error("the process that watches over the machine was ended by signal %d (%s); the machine ends, too", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        log_error("the machine's process cannot be waited for: %s", strerror(errno));
    return 1;
}

/* All descriptors of both sides, made before there are two: -1 for none. */
struct ends {
    int front[FDS]; /* from SIGNALS on, and not yet where they belong, so that none is in another's place */
    int sock, keys; /* the other side's */
};

static int out_of_the_way(int *fd)
{
    const int high = fcntl(*fd, F_DUPFD_CLOEXEC, FDS);

    if (high < 0)
        return -errno;
    close(*fd);
    *fd = high;
    return 0;
}

static int open_ends(struct ends *e, bool terminal)
{
    static const int child = SIGCHLD;
    int pair[2], r = 0;

    *e = (struct ends){ .front = { [SIGNALS] = -1, -1, -1 }, .sock = -1, .keys = -1 };
    if ((e->front[SIGNALS] = signals_fd(&child, 1)) < 0)
        return e->front[SIGNALS];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    e->front[SOCK] = pair[0], e->sock = pair[1];
    if (terminal && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -errno;
    if (terminal)
        e->front[KEYS] = pair[0], e->keys = pair[1];
    for (int i = SIGNALS; i < FDS && !r; i++)
        if (e->front[i] >= 0)
            r = out_of_the_way(&e->front[i]);
    return r;
}

static void close_ends(const int *fd, int n)
{
    for (int i = 0; i < n; i++)
        if (fd[i] >= 0)
            close(fd[i]);
}

/* Nothing here can fail: the other process is there already. What the user names by descriptor is the machine's. */
static int be_front(struct watch *w, const struct ends *e)
{
    for (int i = SIGNALS; i < FDS; i++)
        if (e->front[i] >= 0)
            dup3(e->front[i], i, O_CLOEXEC);
        else
            close(i);
    closefrom(FDS);
    behind = w->pid;
    terminal_on_stop(on_stop);
    if (w->terminal)
        w->terminal = terminal_claim(STDIN_FILENO);
    return watch(w);
}

int front_split(bool terminal, struct front *f, int *status, struct error *err)
{
    struct watch w = { .terminal = terminal && isatty(STDIN_FILENO) };
    struct ends e;

    signal(SIGCHLD, SIG_DFL); /* the program that started us may ignore it; then we could wait for nobody */
    int r = open_ends(&e, w.terminal);
    fflush(NULL);
    w.pid = r ? -1 : fork();
    if (w.pid > 0) {
        *status = be_front(&w, &e);
        return 1;
    }
    r = r ? r : w.pid < 0 ? -errno : 0;
    close_ends(e.front + SIGNALS, FDS - SIGNALS);
    if (r) {
        close_ends((int[]){ e.sock, e.keys }, 2);
        return error_set(err, -r, "cannot make the machine's process: %s", strerror(-r));
    }
    setsid(); /* the terminal's signals go to the front */
    *f = (struct front){ e.sock, w.terminal };
    if (w.terminal) {
        dup2(e.keys, STDIN_FILENO);
        close(e.keys);
    }
    return 0;
}

void front_begin(struct front *f)
{
    char c = 0;

    if (send(f->sock, &c, 1, MSG_NOSIGNAL) == 1)
        while (read(f->sock, &c, 1) < 0 && errno == EINTR)
            ;
    log_set_raw(f->terminal);
}
