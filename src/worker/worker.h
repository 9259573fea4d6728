/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the process that runs one machine, and its broker: the process that made it, waits for it, and puts away what it
 * leaves behind.
 */
#ifndef LODGE_WORKER_WORKER_H
#define LODGE_WORKER_WORKER_H

#include "base/error.h"

/*
 * Like fork(). 0: this is the worker. 1: this is the broker, and the worker has ended: *status is its exit status, or 1 after
 * one line that says what it died of. -errno with err set: there is no worker.
 *
 * front: a socket whose other end closes when nobody wants the machine any more; the worker is then told to end in order
 * (SIGTERM), and ended if it does not. Before there are threads, with the signals of the end blocked (base/signals.h): the
 * broker hands them on. The worker is sent SIGTERM, too, should the broker die.
 */
int must_check worker_start(int front, int *status, struct error *err);

#endif
