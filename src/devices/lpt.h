/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lpt.h - a parallel port of the PC/AT kind (SPP: data, status, control; the data lines can be turned round, as on the
 * PS/2), and the printer on it, which takes every byte that is strobed to it and hands it to a chardev.  IBM PC/AT
 * Technical Reference, Parallel Printer Adapter; IEEE 1284-1994, compatibility mode.
 *
 * Locks itself: map its range with no lock.
 */
#ifndef LODGE_DEVICES_LPT_H
#define LODGE_DEVICES_LPT_H

#include <pthread.h>

#include "base/base.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { LPT_PORTS = 3 };

struct lpt_config {
    struct irq_line irq; /* IRQ 7 */
    /* A byte for the printer; false: not now, lpt_writable() will be called. Any thread, under the port's lock. NULL: there
       is no printer, and the lines from it float. */
    bool (*print)(void *ctx, u8 byte);
    void *ctx;
};

struct lpt {
    pthread_mutex_t lock;
    struct lpt_config c;
    u8 data, control, pending;
    bool busy; /* pending is not printed yet */
};

void lpt_init(struct lpt *l, const struct lpt_config *c);
void lpt_destroy(struct lpt *l);
void lpt_reset(struct lpt *l);
void lpt_writable(struct lpt *l); /* any thread */

extern const struct bus_ops lpt_ops; /* 3 ports (378h); dev: struct lpt */
extern const struct state_desc lpt_state;

#endif
