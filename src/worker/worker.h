/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the process that runs one machine, and its broker: the process that made it, waits for it, and puts away what it
 * leaves behind.
 */
#ifndef LODGE_WORKER_WORKER_H
#define LODGE_WORKER_WORKER_H

#include "base/error.h"

/* What a machine has that needs rights of root's. They are of use only where the command is run by root. */
enum worker_needs {
    WORKER_FOLDERS = 1 << 0,  /* shared folders: their processes, which it starts, reach the files as the host's root does */
    WORKER_FORWARDS = 1 << 1, /* ports of the host's that are forwarded: those below 1024 */
};

/*
 * Like fork(). 0: this is the worker. 1: this is the broker, and the worker has ended: *status is its exit status, or 1 after
 * one line that says what it died of. -errno with err set: there is no worker.
 *
 * front: a socket whose other end closes when nobody wants the machine any more; the worker is then told to end in order
 * (SIGTERM), and ended if it does not. Before there are threads, with the signals of the end blocked (base/signals.h): the
 * broker hands them on. The worker is sent SIGTERM, too, should the broker die.
 *
 * The worker cannot get new privileges, by whatever program, has no capabilities but what needs (enum worker_needs) asks
 * for, and leaves no core file, in which the guest's memory would be. What needs more is opened by the broker.
 */
int must_check worker_start(int front, u32 needs, int *status, struct error *err);

#endif
