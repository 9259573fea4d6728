/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.h - the process that "lodge run" began as. It keeps the terminal and what a shell knows it by: its process group, its
 * signals, its exit status. The machine lives in processes of its own (worker/worker.h), which have no terminal to control.
 */
#ifndef LODGE_CLI_FRONT_H
#define LODGE_CLI_FRONT_H

#include "base/base.h"
#include "base/error.h"

struct front {
    int sock;      /* its end means that the front has ended */
    bool terminal; /* standard input was one: now it is a socket with what is typed there */
};

/*
 * Like fork(). 0: this is the new process, and *f is its connection to the front. 1: this is the front, all is over, the terminal
 * is as it was, and *status is the exit status. -errno with err set: there is only one process still.
 * terminal: standard input, if it is one, is for the machine. Before there are threads, with the signals of the end blocked
 * (base/signals.h): the front hands them on to the new process.
 */
int must_check front_split(bool terminal, struct front *f, int *status, struct error *err);
/* The machine begins to run: returns once the terminal is raw, which takes until the user has put the front to the foreground.
   Until then Ctrl-C is a signal that ends the start. */
void front_begin(struct front *f);

#endif
