/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.h - the process that runs one machine, and its broker: the process that made it, waits for it, and puts away what it
 * leaves behind.
 */
#ifndef LODGE_WORKER_WORKER_H
#define LODGE_WORKER_WORKER_H

#include "base/error.h"
#include "worker/policy.h"

/* What a machine has for which its worker needs more than an empty room. */
enum worker_needs {
    WORKER_PERF = 1 << 0,   /* perf finds what it knows of the process by the host's name and number */
    WORKER_TLS = 1 << 1,    /* disks by nbds://: libnbd reads keys by their names */
};

enum { WORKER_END_MS = 30000 }; /* a machine that nobody wants any more has as long to write out its disks */

struct worker_job {
    int front;  /* a socket whose other end closes when nobody wants the machine any more; the worker is then told to end in
                   order (SIGTERM), and ended if it does not */
    u32 needs;  /* enum worker_needs */
    struct policy *policy; /* what the broker opens; the caller's */
};

/*
 * Like fork(). 0: this is the worker. 1: this is the broker, and the worker has ended: *status is its exit status, or 1 after
 * one line that says what it died of. -errno with err set: there is no worker.
 *
 * Before there are threads, with the signals of the end blocked (base/signals.h): the broker hands them on. The worker is
 * sent SIGTERM, too, should the broker die.
 *
 * The worker is in an empty room from the first (room.h), and has everything opened by the broker (broker.h).
 */
int must_check worker_start(const struct worker_job *job, int *status, struct error *err);

/* In the worker, when all is set up and before the guest's first instruction: from here on it makes only the system calls of
   a machine that runs (tools/gen_sandbox.c), and uses at the most what limits says. It ends the process if it cannot. */
struct worker_limits {
    u64 memory; /* bytes of its own, beside the guest's */
    u64 file;   /* bytes of a file that it writes */
    u64 descriptors, threads;
};
void worker_close_door(const struct worker_limits *limits);

#endif
