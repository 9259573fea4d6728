/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gsi.h - a PC's global system interrupts. Each of the first 16 reaches the input of its number on the 8259A and on the
 * I/O APIC. The exception is IRQ 0, which is I/O APIC input 2 (the interrupt source override of the MADT and MP table).
 * 16-23 reach only the I/O APIC.
 */
#ifndef LODGE_IRQ_GSI_H
#define LODGE_IRQ_GSI_H

#include "irq/ioapic.h"
#include "irq/irq.h"
#include "irq/pic.h"

struct gsi {
    struct pic *pic;       /* either may be NULL */
    struct ioapic *ioapic;
};

/* irq_line.set; chip is the struct gsi. */
static inline void gsi_set(void *chip, u32 gsi, bool level)
{
    struct gsi *g = chip;

    if (g->pic && gsi < 16)
        pic_set(g->pic, gsi, level);
    if (g->ioapic && gsi != 2)
        ioapic_set(g->ioapic, gsi == 0 ? 2 : gsi, level);
}

#endif
