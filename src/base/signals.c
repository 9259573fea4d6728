/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c - see signals.h. */
#include "base/signals.h"

#include <errno.h>
#include <pthread.h>
#include <sys/signalfd.h>

static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };

/* The signals of the terminal may have a handler of chardev/terminal.c. That handler ends the process, too. */
static bool ends(int sig)
{
    static const int polite[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
    struct sigaction sa;

    if (sigaction(sig, NULL, &sa) || (!(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_IGN))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(polite); i++)
        if (sig == polite[i])
            return true;
    return !(sa.sa_flags & SA_SIGINFO) && sa.sa_handler == SIG_DFL; /* a profiler's SIGPROF belongs to the profiler */
}

void signals_of_end(sigset_t *set)
{
    static const int all[] = { SIGHUP,  SIGINT, SIGQUIT,   SIGTERM, SIGUSR1, SIGUSR2, SIGALRM,
                               SIGVTALRM, SIGPROF, SIGPOLL, SIGPWR, SIGXCPU,
#ifdef SIGSTKFLT
                               SIGSTKFLT,
#endif
    };

    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++)
        if (ends(all[i]))
            sigaddset(set, all[i]);
    for (int sig = SIGRTMIN; sig <= SIGRTMAX; sig++)
        if (ends(sig))
            sigaddset(set, sig);
}

int signals_fd(const int *also, u32 n)
{
    sigset_t set, more;

    signals_of_end(&set);
    sigemptyset(&more);
    for (u32 i = 0; i < n; i++) {
        sigaddset(&set, also[i]);
        sigaddset(&more, also[i]);
    }
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    pthread_sigmask(SIG_BLOCK, &more, NULL);
    return fd;
}

bool signals_end_pending(void)
{
    sigset_t ending, pending;

    signals_of_end(&ending);
    if (sigpending(&pending))
        return false;
    for (int sig = 1; sig <= SIGRTMAX; sig++)
        if (sigismember(&ending, sig) == 1 && sigismember(&pending, sig) == 1)
            return true;
    return false;
}

static void nothing(int sig)
{
    (void)sig;
}

void signals_as_error(int sig)
{
    struct sigaction sa = { .sa_handler = nothing, .sa_flags = SA_RESTART }, old;

    if (!sigaction(sig, NULL, &old) && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL)
        sigaction(sig, &sa, NULL);
}

void signals_block(sigset_t *old)
{
    sigset_t set;

    sigfillset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
        sigdelset(&set, faults[i]);
    pthread_sigmask(SIG_SETMASK, &set, old);
}
