/* SPDX-License-Identifier: Apache-2.0 */
/* i440fx.c - see i440fx.h. */
#include "machine/i440fx.h"

#include <errno.h>

/* Those PIRQRC can name; the others are the board's own (PIIX3 2.2.14). */
enum { ROUTABLE = 0xdef8 };

static void follow(struct i440fx *x)
{
    u32 now = 0;

    for (u32 n = 0; n < PCI_INTX_LINES; n++) {
        u8 route = __atomic_load_n(&x->isa.config[PIRQRC + n], __ATOMIC_RELAXED);
        if ((x->pirq & BIT(n)) && !(route & PIRQRC_DISABLED))
            now |= ROUTABLE & 1u << (route & 15);
    }
    u32 changed = now ^ x->routed;
    x->routed = now;
    for (u32 irq = 0; irq < 16; irq++)
        if (changed & BIT(irq))
            irq_set(&x->irq[irq], now & BIT(irq));
}

/* irq_line.set of the bus's INTx lines. */
static void pirq_set(void *chip, u32 n, bool level)
{
    struct i440fx *x = chip;

    pthread_mutex_lock(&x->lock);
    x->pirq = level ? x->pirq | 1u << n : x->pirq & ~(1u << n);
    irq_set(&x->gsi[n], level);
    follow(x);
    pthread_mutex_unlock(&x->lock);
}

static void isa_written(struct pci_function *f, u32 offset, u32 len)
{
    struct i440fx *x = container_of(f, struct i440fx, isa);

    if (offset >= PIRQRC + PCI_INTX_LINES || offset + len <= PIRQRC)
        return;
    i440fx_after_load(x);
}

void i440fx_after_load(struct i440fx *x)
{
    pthread_mutex_lock(&x->lock);
    follow(x);
    pthread_mutex_unlock(&x->lock);
}

static void functions_init(struct i440fx *x, u16 pm_base)
{
    struct pci_function *f = &x->host;
    enum { COMMAND = 4, STATUS = 6, MEMORY_MASTER = 6, IO_MEMORY_MASTER = 7, MEDIUM_DEVSEL = 0x200, PAM0 = 0x59,
           PMBASE = 0x40, PMREGMISC = 0x80 };

    pci_function_init(f, "i440fx", 0x8086, 0x1237, 2, 0x060000, 0, 0);
    pci_put16(f->config + COMMAND, MEMORY_MASTER);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    f->config[PAM0] = 0x30; /* C0000h-FFFFFh is RAM, readable and writable, and stays it */
    for (u32 i = 1; i < 7; i++)
        f->config[PAM0 + i] = 0x33;

    f = &x->isa;
    pci_function_init(f, "piix3", 0x8086, 0x7000, 0, 0x060100, 0, 0);
    pci_put16(f->config + COMMAND, IO_MEMORY_MASTER);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        f->config[PIRQRC + i] = PIRQRC_DISABLED, f->wmask[PIRQRC + i] = 0x8f;
    f->config_written = isa_written;

    f = &x->pm;
    pci_function_init(f, "piix4-pm", 0x8086, 0x7113, 3, 0x068000, 0, 0);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put32(f->config + PMBASE, pm_base | 1u);
    f->config[PMREGMISC] = 1; /* PMIOSE: the block answers */
}

int i440fx_init(struct i440fx *x, const struct pci_bus_config *c, const struct irq_line gsi[PCI_INTX_LINES],
                const struct irq_line irq[16], u16 pm_base, struct state_list *l, struct error *err)
{
    struct pci_bus_config bc = *c;
    int rc;

    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        bc.intx[i] = (struct irq_line){ pirq_set, x, i }, x->gsi[i] = gsi[i];
    for (u32 i = 0; i < 16; i++)
        x->irq[i] = irq[i];
    pthread_mutex_init(&x->lock, NULL);
    if (!(x->bus = pci_bus_new(&bc, err)))
        return -ENOMEM;
    functions_init(x, pm_base);
    if ((rc = pci_bus_add_state(x->bus, l)) || (rc = pci_add(x->bus, &x->host, 0, 0, l, err)) ||
        (rc = pci_add(x->bus, &x->isa, I440FX_ISA_SLOT, 0, l, err)))
        return rc;
    return pci_add(x->bus, &x->pm, I440FX_ISA_SLOT, 3, l, err);
}

void i440fx_destroy(struct i440fx *x)
{
    if (!x->bus)
        return;
    pci_bus_free(x->bus);
    pthread_mutex_destroy(&x->lock);
}

void i440fx_reset(struct i440fx *x)
{
    static const u8 irq[PCI_INTX_LINES] = { 10, 11, 10, 11 };

    pci_reset(x->bus);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        x->isa.config[PIRQRC + i] = irq[i];
    i440fx_after_load(x);
    pci_assign(x->bus, irq);
}
