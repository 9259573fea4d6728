/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i440fx.h - the PCI side of the board "pc": host bridge (82441FX, 00:00.0), ISA bridge (82371SB PIIX3, 00:01.0) with
 * its PCI interrupt routing, power management function (82371AB PIIX4, 00:01.3).  Intel 290549, 290550, 290562.
 *
 * A PCI interrupt line goes two ways, as on boards with an I/O APIC: to an input of it beyond the first 16, and, if
 * PIRQRC says so, to an IRQ of the 8259As.
 */
#ifndef LODGE_MACHINE_I440FX_H
#define LODGE_MACHINE_I440FX_H

#include <pthread.h>

#include "pci/pci.h"

enum { I440FX_PAM0 = 0x59, I440FX_PAMS = 7, I440FX_ISA_SLOT = 1, PIRQRC = 0x60, PIRQRC_DISABLED = 0x80 };

struct i440fx {
    struct pci_bus *bus; /* NULL: not built */
    struct pci_function host, isa, pm;
    struct irq_line gsi[PCI_INTX_LINES]; /* I/O APIC inputs */
    struct irq_line irq[16];             /* 8259A inputs; as PIRQs see them: what else is wired to them is or-ed outside */
    void (*shadow)(void *ctx);           /* PAM registers changed; the bus's lock may be held */
    void *ctx;
    pthread_mutex_t lock;                /* guards the rest */
    u32 pirq;                            /* levels of PIRQA..D */
    u32 routed;                          /* IRQs they assert */
    u16 level_irqs;                      /* after reset: ISA IRQs that functions were given, to be level-triggered */
};

/* x->shadow and ctx are set already. c->intx is ignored: it is ours. The PM function says pm_base. */
int must_check i440fx_init(struct i440fx *x, const struct pci_bus_config *c, const struct irq_line gsi[PCI_INTX_LINES],
                           const struct irq_line irq[16], u16 pm_base, struct state_list *l, struct error *err);
void i440fx_destroy(struct i440fx *x); /* after the functions others plugged in are gone */
/* Power-on; then, for a machine without one, what firmware does: shadow RAM, PIRQs routed to IRQ 10 and 11, BARs given
   their addresses. */
void i440fx_reset(struct i440fx *x, bool firmware);
/* After loading state. */
void i440fx_after_load(struct i440fx *x);

#endif
