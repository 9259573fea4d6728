/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.h - the process as which "lodge run" began. It keeps the terminal and everything by which a shell knows it: its
 * process group, its signals, its exit status. The machine is in processes of its own (worker/worker.h), which have no
 * controlling terminal.
 */
#ifndef LODGE_CLI_FRONT_H
#define LODGE_CLI_FRONT_H

#include "base/base.h"
#include "base/error.h"

struct front {
    int sock;      /* the end of this connection means that the front has ended */
    bool terminal; /* standard input was a terminal; now it is a socket that gives what is typed there */
};

/*
 * Like fork(). 0: this is the new process, and *f is its connection to the front. 1: this is the front; everything has
 * ended, the terminal is as it was, and *status is the exit status. -errno with err set: there is still only one
 * process.
 *
 * terminal: if standard input is a terminal, it is for the machine. Call this before there are threads, with the
 * signals of the end blocked (base/signals.h): the front hands them on to the new process.
 */
int must_check front_split(bool terminal, struct front *f, int *status, struct error *err);
/* The machine begins to run. It returns when the terminal is raw, which may take until the user has put the front
   into the foreground. Before that, Ctrl-C is a signal that ends the start. */
void front_begin(struct front *f);

#endif
