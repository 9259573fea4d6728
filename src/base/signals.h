/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h - which signals (signal(7)) end a machine, and what a thread of ours blocks.
 *
 * A process that runs a machine holds the signals that end it back and reads them from a signalfd, so that each of them
 * is the end in order: sockets removed, disks written out, the terminal given back.  Until that is watched, whoever has
 * to wait looks for them (patience.h).
 */
#ifndef LODGE_BASE_SIGNALS_H
#define LODGE_BASE_SIGNALS_H

#include <signal.h>

#include "base/base.h"

/*
 * Every signal whose default is to end the process, and that has not been given another meaning: what is ignored (by
 * nohup, by a shell for its background jobs) stays ignored.  Not SIGPIPE and SIGXFSZ, which a failed write says better
 * (signals_as_error), and none that says that a program is broken (SIGSEGV, SIGABRT and the like).
 */
void signals_of_end(sigset_t *set);
/* One of those is held back just now. */
bool signals_end_pending(void);

/* For SIGPIPE and SIGXFSZ: from now on a write that would raise it just fails, with EPIPE or EFBIG. Programs that are
   started get the default again; what is ignored or handled already stays so. */
void signals_as_error(int sig);

/*
 * For a thread that is about to be created: it is left alone by all signals but those that a fault of its own raises.
 * Blocked, these would end the process without the handler that gives the terminal back.
 */
void signals_block(sigset_t *old);

#endif
