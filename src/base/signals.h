/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h - which signals (signal(7)) end a machine, and what a thread of ours blocks.
 *
 * A process that runs a machine holds back the signals that end it and reads them from a signalfd. So each of them ends
 * the machine in order: sockets are removed, disks are written out, the terminal is given back. Until the process
 * watches the signalfd, code that has to wait looks for these signals (patience.h).
 */
#ifndef LODGE_BASE_SIGNALS_H
#define LODGE_BASE_SIGNALS_H

#include <signal.h>

#include "base/base.h"

/*
 * The set is every signal whose default is to end the process and that has not been given another meaning. An ignored
 * signal (by nohup, by a shell for its background jobs) stays ignored. SIGPIPE and SIGXFSZ are not in the set, since a
 * failed write reports them better (signals_as_error). Signals that say that a program is broken (SIGSEGV, SIGABRT and
 * the like) are not in it either.
 */
void signals_of_end(sigset_t *set);
/*
 * A descriptor to read them from (signalfd(2)), close-on-exec and non-blocking, and also[0 .. n - 1], which this thread blocks
 * from now on. The signals of the end are blocked already. -errno.
 */
int must_check signals_fd(const int *also, u32 n);
/* True if one of those is held back just now. */
bool signals_end_pending(void);

/* For SIGPIPE and SIGXFSZ: from now on a write that would raise the signal just fails, with EPIPE or EFBIG. Programs
   that are started get the default again. A signal that is already ignored or handled stays so. */
void signals_as_error(int sig);

/*
 * For a thread that is about to be created: no signal reaches it except those that a fault of its own raises. If these
 * were blocked, they would end the process without their handler: the engine's, which makes them the guest's, or that
 * of the command, which gives the terminal back.
 */
void signals_block(sigset_t *old);

#endif
