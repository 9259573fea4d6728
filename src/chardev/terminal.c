/* SPDX-License-Identifier: Apache-2.0 */
/*
 * terminal.c - raw mode and the way back.
 *
 * The state is at file scope because it belongs to the process. A process has one terminal, and a signal handler can
 * reach no other state. tcsetattr, tcgetpgrp, sigaction and raise are async-signal-safe (POSIX 2.4.3).
 */
#include "chardev/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

static struct {
    int fd;
    volatile sig_atomic_t raw; /* the terminal is in raw mode now */
    volatile sig_atomic_t wanted;
    bool claimed, at_exit, elsewhere;
    void (*stop)(bool stop); /* or NULL */
    struct termios before, during;
} terminal;

/* Crashes, and the usual signals that ask a process to end. A signal that already has a handler keeps it. */
static const int deadly[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };

/* In the background the terminal belongs to another process: we must neither take it nor "restore" it while that
   process uses it. */
static bool foreground(void)
{
    return tcgetpgrp(terminal.fd) == getpgrp();
}

static void set_cooked(void)
{
    if (terminal.raw && foreground())
        tcsetattr(terminal.fd, TCSANOW, &terminal.before);
    terminal.raw = 0;
}

static void set_raw(void)
{
    if (!foreground())
        return;
    if (!tcsetattr(terminal.fd, TCSANOW, &terminal.during))
        terminal.raw = 1;
}

static void on_deadly(int sig)
{
    struct sigaction sa = { .sa_handler = SIG_DFL };

    set_cooked();
    sigaction(sig, &sa, NULL);
    raise(sig); /* it is delivered on return; a fault would come again anyway */
}

static void on_stop(int sig)
{
    struct sigaction sa = { .sa_handler = SIG_DFL }, old;
    sigset_t set;
    int saved = errno;

    set_cooked();
    if (terminal.stop)
        terminal.stop(true);
    sigaction(sig, &sa, &old);
    sigemptyset(&set);
    sigaddset(&set, sig);
    raise(sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* here the process stops, and later goes on */
    sigaction(sig, &old, NULL);
    if (terminal.wanted)
        set_raw();
    if (terminal.stop) /* the process was not stopped, because nobody could continue it: an orphaned process group */
        terminal.stop(false);
    errno = saved;
}

static void on_continue(int sig)
{
    int saved = errno;

    (void)sig;
    if (terminal.wanted)
        set_raw();
    if (terminal.stop)
        terminal.stop(false);
    errno = saved;
}

static void handle(int sig, void (*handler)(int))
{
    struct sigaction sa = { .sa_handler = handler, .sa_flags = SA_RESTART | SA_ONSTACK }, old;

    if (!sigaction(sig, NULL, &old) && old.sa_handler == SIG_DFL)
        sigaction(sig, &sa, NULL);
}

void terminal_on_stop(void (*fn)(bool stop))
{
    terminal.stop = fn;
    handle(SIGTSTP, on_stop);
    handle(SIGCONT, on_continue);
}

bool terminal_typed_at(void)
{
    return terminal.elsewhere || isatty(STDIN_FILENO);
}

void terminal_is_elsewhere(void)
{
    terminal.elsewhere = true;
}

bool terminal_claim(int fd)
{
    if (!isatty(fd) || tcgetattr(fd, &terminal.before))
        return false;
    terminal.fd = fd;
    terminal.during = terminal.before;
    cfmakeraw(&terminal.during);
    for (size_t i = 0; i < ARRAY_SIZE(deadly); i++)
        handle(deadly[i], on_deadly);
    terminal_on_stop(terminal.stop);
    if (!terminal.at_exit)
        terminal.at_exit = !atexit(terminal_restore);
    terminal.claimed = true;
    return true;
}

void terminal_begin(void)
{
    if (!terminal.claimed || terminal.wanted)
        return;
    terminal.wanted = 1;
    log_set_raw(true);
    /* If the process was started in the background, this stops it (SIGTTOU) until the user brings it to the front. */
    if (!tcsetattr(terminal.fd, TCSANOW, &terminal.during))
        terminal.raw = 1;
}

void terminal_restore(void)
{
    terminal.claimed = false;
    if (!terminal.wanted)
        return;
    terminal.wanted = 0;
    set_cooked();
    log_set_raw(false);
}
