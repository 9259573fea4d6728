/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ioapic.h - the I/O APIC, 24 inputs. Intel 82093AA data sheet (290566). Its version register is 11h, so it has no EOI
 * register: the local APICs' broadcast tells level-triggered inputs of the end of interrupt.
 *
 * An input's level means what the redirection entry calls active: polarity is stored but not applied. An edge on a
 * masked input is lost, as the data sheet says; a level waits.
 *
 * It locks itself: map its range with no lock. Any thread may call. It holds its lock while it sends to the local
 * APICs.
 */
#ifndef LODGE_IRQ_IOAPIC_H
#define LODGE_IRQ_IOAPIC_H

#include <pthread.h>

#include "base/base.h"
#include "irq/irqchip_state.h"
#include "irq/lapic.h"
#include "memory/bus.h"
#include "state/state.h"

enum { IOAPIC_PINS = 24, IOAPIC_SIZE = 0x1000 };
#define IOAPIC_DEFAULT_BASE 0xfec00000ull

struct ioapic {
    pthread_mutex_t lock;
    struct lapic_set *lapic;
    struct ioapic_record s;
};

void ioapic_init(struct ioapic *a, struct lapic_set *lapic);
void ioapic_destroy(struct ioapic *a);
void ioapic_reset(struct ioapic *a);

/* irq_line.set; chip is the struct ioapic. */
void ioapic_set(void *chip, u32 pin, bool level);
/* Handles the EOI message of a level-triggered vector. */
void ioapic_eoi(struct ioapic *a, u8 vector);

extern const struct bus_ops ioapic_ops; /* dev: struct ioapic */
int must_check ioapic_add_state(struct ioapic *a, struct state_list *list);

#endif
