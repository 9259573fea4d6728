/* SPDX-License-Identifier: Apache-2.0 */
/* i440fx.c - see i440fx.h. */
#include "machine/i440fx.h"

#include <errno.h>
#include <string.h>

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

/* irq_line.set of the bus's INTx lines. Slot 1's INTA# is PIRQA, as firmware has it that knows this board. */
static void line_set(void *chip, u32 n, bool level)
{
    struct i440fx *x = chip;
    const u32 pirq = BIT((n + PCI_INTX_LINES - I440FX_ISA_SLOT) % PCI_INTX_LINES);

    pthread_mutex_lock(&x->lock);
    x->pirq = level ? x->pirq | pirq : x->pirq & ~pirq;
    irq_set(&x->gsi[n], level);
    follow(x);
    pthread_mutex_unlock(&x->lock);
}

static void host_written(struct pci_function *f, u32 offset, u32 len)
{
    struct i440fx *x = container_of(f, struct i440fx, host);

    if (offset < I440FX_PAM0 + I440FX_PAMS && offset + len > I440FX_PAM0)
        x->shadow(x->ctx);
}

static void isa_written(struct pci_function *f, u32 offset, u32 len)
{
    struct i440fx *x = container_of(f, struct i440fx, isa);

    if (offset >= PIRQRC + PCI_INTX_LINES || offset + len <= PIRQRC)
        return;
    pthread_mutex_lock(&x->lock);
    follow(x);
    pthread_mutex_unlock(&x->lock);
}

void i440fx_after_load(struct i440fx *x)
{
    x->shadow(x->ctx);
    pthread_mutex_lock(&x->lock);
    follow(x);
    pthread_mutex_unlock(&x->lock);
}

static void functions_init(struct i440fx *x, u16 pm_base)
{
    struct pci_function *f = &x->host;
    enum { COMMAND = 4, STATUS = 6, MEMORY_MASTER = 6, IO_MEMORY_MASTER = 7, MEDIUM_DEVSEL = 0x200, SMRAM = 0x72,
           PMBASE = 0x40, DEVACTB = 0x58, PMREGMISC = 0x80, APMC_EN = 1 << 1 /* of byte 3 */ };
    /* By these SeaBIOS knows that there is fw_cfg. */
    enum { QEMU_VENDOR = 0x1af4, QEMU_MACHINE = 0x1100 };

    pci_function_init(f, "i440fx", 0x8086, 0x1237, 2, 0x060000, QEMU_VENDOR, QEMU_MACHINE);
    pci_put16(f->config + COMMAND, MEMORY_MASTER);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    f->wmask[I440FX_PAM0] = 0x30;
    memset(f->wmask + I440FX_PAM0 + 1, 0x33, I440FX_PAMS - 1);
    f->config[SMRAM] = 2; /* C_BASE_SEG: A0000h. No processor here has SMM, and nothing is there to open. */
    f->wmask[SMRAM] = 0x78;
    f->config_written = host_written;

    f = &x->isa;
    pci_function_init(f, "piix3", 0x8086, 0x7000, 0, 0x060100, QEMU_VENDOR, QEMU_MACHINE);
    pci_put16(f->config + COMMAND, IO_MEMORY_MASTER);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        f->config[PIRQRC + i] = PIRQRC_DISABLED, f->wmask[PIRQRC + i] = 0x8f;
    f->config_written = isa_written;

    f = &x->pm;
    pci_function_init(f, "piix4-pm", 0x8086, 0x7113, 3, 0x068000, QEMU_VENDOR, QEMU_MACHINE);
    pci_put16(f->config + STATUS, MEDIUM_DEVSEL);
    pci_put16(f->wmask + COMMAND, 0);
    pci_put32(f->config + PMBASE, pm_base | 1u);
    f->config[PMREGMISC] = 1; /* PMIOSE: the block answers */
    f->config[DEVACTB + 3] = APMC_EN; /* to firmware: SMM is set up, leave it alone */
}

int i440fx_init(struct i440fx *x, const struct pci_bus_config *c, const struct irq_line gsi[PCI_INTX_LINES],
                const struct irq_line irq[16], u16 pm_base, struct state_list *l, struct error *err)
{
    struct pci_bus_config bc = *c;
    int rc;

    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        bc.intx[i] = (struct irq_line){ line_set, x, i }, x->gsi[i] = gsi[i];
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

void i440fx_reset(struct i440fx *x, bool firmware)
{
    static const u8 irq[PCI_INTX_LINES] = { 10, 11, 10, 11 }; /* of the bus's lines */

    pci_reset(x->bus);
    if (!firmware) {
        x->host.config[I440FX_PAM0] = 0x30;
        memset(x->host.config + I440FX_PAM0 + 1, 0x33, I440FX_PAMS - 1);
        for (u32 i = 0; i < PCI_INTX_LINES; i++)
            x->isa.config[PIRQRC + i] = irq[(i + I440FX_ISA_SLOT) % PCI_INTX_LINES];
    }
    i440fx_after_load(x);
    x->level_irqs = firmware ? 0 : pci_assign(x->bus, irq);
}
