/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - the page that fault.so and who runs the program share: LODGE_FAULT names the file.
 *
 * tests/fault/inject writes the first half, also while the program runs; fault.so writes the second.  Native byte order; the
 * layout is inject's PAGE as well.
 */
#ifndef LODGE_TESTS_FAULT_H
#define LODGE_TESTS_FAULT_H

#include <stdint.h>

enum { FAULT_MEMORY = 1, FAULT_DESCRIPTOR = 2, FAULT_TASK = 4 }; /* what a call asks the host for */
enum { FAULT_FRAMES = 24 };

struct fault_page {
    uint32_t armed;    /* calls count */
    uint32_t kinds;    /* those of these kinds */
    uint32_t for_good; /* all from that one on fail, else it alone */
    uint32_t forked;   /* also in processes forked without an exec */
    uint64_t at;       /* the call that fails, from 1; 0: none, they are only counted */
    char verb[16];     /* in which of Lodge's processes: its argv[1] */

    uint64_t calls;  /* how many there were */
    uint64_t failed; /* how many of them failed */
    uint32_t signal; /* what ended a helper process (netd, displayd, folderd) */
    uint32_t frames; /* who made the first that failed, and its callers */
    char what[24];
    struct {
        char file[24];
        uint64_t offset;
    } frame[FAULT_FRAMES];
};

#endif
