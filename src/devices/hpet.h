/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hpet.h - the high precision event timer: a 64-bit counter at 100 MHz and three
 * comparators.  IA-PC HPET specification 1.0a.
 *
 * Timers reach I/O APIC inputs 20-23, or with legacy replacement routing timer 0 IRQ 0 and
 * timer 1 IRQ 8; therefore the PIT and the RTC drive hpet_input, which lets them through
 * otherwise.  No FSB messages.
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
#define HPET_ID 0x80862201u /* GCAP_ID bits 31-0, which the ACPI table repeats; and HPET_LEG_RT_CAP */
#define HPET_LEG_RT_CAP BIT(15)
/* No timer interrupts more often than this, whatever the guest asks for. */
enum { HPET_MIN_INTERVAL_NS = 50000 };

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
    bool legacy;         /* it can do legacy replacement routing */
    bool legacy_in[2];   /* levels of the PIT and the RTC */
    u64 config, status;
    u64 counter; /* its value when halted, saved, or ... */
    u64 start;   /* ... at this clock_ns() while running */
    struct hpet_timer t[HPET_TIMERS];
};

/* legacy: what drives IRQ 0 and 8 goes through hpet_input. */
void hpet_init(struct hpet *h, struct loop *loop, const struct irq_line *gsi, bool legacy);
void hpet_destroy(struct hpet *h);
void hpet_reset(struct hpet *h);
u32 hpet_id(const struct hpet *h); /* GCAP_ID bits 31-0 */
void hpet_input(void *h, u32 n, bool level); /* irq_line.set; 0: the PIT, 1: the RTC */

extern const struct bus_ops hpet_ops; /* HPET_SIZE bytes; dev: struct hpet */
extern const struct state_desc hpet_state;

#endif
