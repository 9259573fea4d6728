/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hpet.h - the high precision event timer: a 64-bit counter at 100 MHz and three
 * comparators.  IA-PC HPET specification 1.0a.
 *
 * No legacy replacement routing (the capability bit says so): timers reach I/O APIC
 * inputs 20-23.  No FSB messages.
 *
 * Locks itself: map its range with no lock.
 */
#ifndef LODGE_DEVICES_HPET_H
#define LODGE_DEVICES_HPET_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { HPET_TIMERS = 3, HPET_SIZE = 0x400, HPET_TICK_NS = 10 };
#define HPET_BASE 0xfed00000ull
#define HPET_ID 0x8086a201u /* GCAP_ID bits 31-0, which the ACPI table repeats */

struct hpet;
struct hpet_timer {
    struct hpet *hpet;
    struct timer timer;
    u64 config, comparator, period;
    u64 seen; /* the counter's value up to which matches have been acted on */
    bool line; /* level the timer now drives */
    u32 line_gsi;
};

struct hpet {
    pthread_mutex_t lock;
    struct irq_line gsi; /* pin is replaced by the number of the input */
    u64 config, status;
    u64 counter; /* its value when halted, saved, or ... */
    u64 start;   /* ... at this clock_ns() while running */
    struct hpet_timer t[HPET_TIMERS];
};

void hpet_init(struct hpet *h, struct loop *loop, const struct irq_line *gsi);
void hpet_destroy(struct hpet *h);
void hpet_reset(struct hpet *h);

extern const struct bus_ops hpet_ops; /* HPET_SIZE bytes; dev: struct hpet */
extern const struct state_desc hpet_state;

#endif
