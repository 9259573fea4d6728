/* SPDX-License-Identifier: Apache-2.0 */
/* directd.h - "lodge directd": the process that makes the processes in which a guest's programs run (runner.h). It has two
   descriptors, a socket of the machine's engine and the guest's memory, and ends when the machine closes the socket. */
#ifndef LODGE_ENGINE_DIRECTD_H
#define LODGE_ENGINE_DIRECTD_H

#include "base/error.h"

int directd_main(int argc, char **argv); /* the exit status */

/* Makes one such process, as a machine would, and ends it. */
struct directd_report {
    bool usable;
    bool guards;      /* debug registers of such a process can be set */
    bool cpuid;       /* CPUID can be made to fault */
    struct error why; /* if it is not usable */
};
void directd_probe(struct directd_report *r);

#endif
