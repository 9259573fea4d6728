/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mc146818.h - the real-time clock, its 256 bytes of CMOS memory in two banks, and the gate of NMI that shares its port.
 * Motorola MC146818A data sheet; 82371AB (PIIX4) data sheet for ports 70h-73h.
 *
 * The guest's calendar is the host's (UTC) plus the offset a guest makes by setting
 * the clock; the offset is state, the time is not.
 *
 * Locks itself: map its range with no lock.
 */
#ifndef LODGE_DEVICES_MC146818_H
#define LODGE_DEVICES_MC146818_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { MC146818_PORTS = 4, CMOS_SIZE = 256 };

struct mc146818 {
    pthread_mutex_t lock;
    struct irq_line irq;
    struct irq_line nmi; /* pulsed for each NMI that port 70h lets through; the board connects it before the guest runs */
    struct timer timer;
    u64 (*wall_ns)(void); /* CLOCK_REALTIME; tests put their own here before the first access */

    u8 cmos[CMOS_SIZE]; /* with the clock's registers in the first 14 bytes; 128-255: the second bank */
    u8 index, index2;   /* ports 70h (7 bits) and 72h */
    bool nmi_masked;    /* port 70h bit 7 */
    bool nmi_waits;     /* one came meanwhile */
    s64 offset;         /* guest's time less the host's, ns */
    s64 held;           /* the guest's time in ns when it was stopped (register B SET, or the divider held) */
    bool stopped;
    u8 weekday_shift;   /* day-of-week register less the calendar's, modulo 7 */

    s64 synced; /* guest time up to which register C has the events */
};

void mc146818_init(struct mc146818 *r, struct loop *loop, const struct irq_line *irq);
void mc146818_destroy(struct mc146818 *r);
void mc146818_reset(struct mc146818 *r); /* RESET#: CMOS and time stay */
void mc146818_set(struct mc146818 *r, u8 index, u8 value); /* CMOS byte, for the board; not the clock's registers */
/* The memory sizes firmware leaves there: 15h-18h, 30h-31h, 34h-35h, 5Bh-5Dh. */
void mc146818_set_memory(struct mc146818 *r, u64 below_4g, u64 above_4g);
/* An NMI. False: the guest masks them, and gets this one when it lifts that. Any thread. */
bool mc146818_nmi(struct mc146818 *r);
u8 mc146818_get(struct mc146818 *r, u8 index);

extern const struct bus_ops mc146818_ops; /* 4 ports (70h); dev: struct mc146818 */
extern const struct state_desc mc146818_state;

#endif
