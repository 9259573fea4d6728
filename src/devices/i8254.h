/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8254.h - the programmable interval timer and port 61h.  Intel 8254 data sheet
 * (231164); 82371AB (PIIX4) data sheet for port 61h.
 *
 * Nothing counts: the state of a channel is computed from the time since it was
 * started.  Only channel 0 has a timer, for the edges of its output (IRQ 0).
 * Edges that the host was late for are delivered afterwards at up to four times
 * the rate, as far as 64 of them.
 *
 * Locks itself: map its ranges with no lock.
 */
#ifndef LODGE_DEVICES_I8254_H
#define LODGE_DEVICES_I8254_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "irq/irq.h"
#include "irq/irqchip_state.h"
#include "memory/bus.h"
#include "state/state.h"

enum { PIT_HZ = 1193182, PIT_PORTS = 4 };

struct i8254 {
    pthread_mutex_t lock;
    struct irq_line irq;
    struct timer timer;
    u64 next_edge;       /* clock_ns() of channel 0's next rising edge; 0: none */
    struct pit_record s; /* registers; count_load_time is a clock_ns() while counting, an age while held */
    struct pit_record saved; /* the same with all times as ages; filled to save, read after load */
};

void i8254_init(struct i8254 *p, struct loop *loop, const struct irq_line *irq);
void i8254_destroy(struct i8254 *p);
void i8254_reset(struct i8254 *p);

extern const struct bus_ops i8254_ops;      /* 4 ports (40h); dev: struct i8254 */
extern const struct bus_ops i8254_port61;   /* 1 port (61h); dev: struct i8254 */
int must_check i8254_add_state(struct i8254 *p, struct state_list *list);

#endif
