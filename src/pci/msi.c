/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msi.c - a function's interrupts: INTx (PCI 3.0, 2.2.6 and 6.2.2-3), MSI and MSI-X (6.8).
 *
 * A message is a write to memory by the function. A function that is not bus master keeps it pending. A level or a
 * message is taken from a function and given to the interrupt controllers in one step under irq_lock, so that they
 * arrive in order.
 */
#include <assert.h>
#include <string.h>

#include "pci/internal.h"

enum { /* MSI capability of 24 bytes: 64-bit address, per-vector masking */
    MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_UPPER_ADDRESS = 8, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20, MSI_SIZE = 24,
    MSI_ENABLE = 1 << 0, MSI_MMC_SHIFT = 1, MSI_MME_SHIFT = 4, MSI_64BIT = 1 << 7, MSI_MASKING = 1 << 8,
};
enum {
    MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PBA = 8, MSIX_SIZE = 12,
    MSIX_ENABLE = 1 << 15, MSIX_FUNCTION_MASK = 1 << 14,
    MSIX_BAR_SIZE = 4096, MSIX_PBA_OFFSET = 2048, /* behind a table of PCI_MSIX_MAX entries */
    VECTOR_MASKED = 1 << 0,
};
_Static_assert(PCI_MSIX_MAX * 16 <= MSIX_PBA_OFFSET, "the table reaches into the PBA");

bool pci_bus_master(const struct pci_function *f)
{
    return config_get(f, PCI_COMMAND) & COMMAND_MASTER;
}

bool pci_msi_enabled(const struct pci_function *f)
{
    return f->msi && (config_get(f, f->msi + MSI_CONTROL) & MSI_ENABLE);
}

bool pci_msix_enabled(const struct pci_function *f)
{
    return f->msix && (config_get16(f, f->msix + MSIX_CONTROL) & MSIX_ENABLE);
}

static u32 get32(const struct pci_function *f, u32 at)
{
    return config_get16(f, at) | (u32)config_get16(f, at + 2) << 16;
}

/* ---- INTx; irq_lock held -------------------------------------------------- */

static void intx_update(struct pci_function *f)
{
    struct pci_bus *b = f->bus;
    u8 pin = f->config[PCI_INTERRUPT_PIN], status = config_get(f, PCI_STATUS);
    bool out = f->intx && pin && !(config_get16(f, PCI_COMMAND) & COMMAND_INTX_DISABLE) && !pci_msi_enabled(f) &&
               !pci_msix_enabled(f);

    config_put(f, PCI_STATUS, f->intx ? status | STATUS_INTERRUPT : status & (u8)~STATUS_INTERRUPT);
    if (out == f->intx_out)
        return;
    f->intx_out = out;
    u32 line = ((u32)(f->devfn >> 3) + pin - 1) % PCI_INTX_LINES;
    pthread_mutex_lock(&b->intx_lock);
    u32 count = b->intx_count[line] += out ? 1 : UINT32_MAX;
    if (count == (out ? 1 : 0))
        irq_set(&b->c.intx[line], out);
    pthread_mutex_unlock(&b->intx_lock);
}

void pci_set_intx(struct pci_function *f, bool level)
{
    pthread_mutex_lock(&f->irq_lock);
    if (f->intx != level) {
        f->intx = level;
        intx_update(f);
    }
    pthread_mutex_unlock(&f->irq_lock);
}

void pci_use_intx(struct pci_function *f)
{
    f->config[PCI_INTERRUPT_PIN] = 1;
    f->wmask[PCI_COMMAND + 1] |= COMMAND_INTX_DISABLE >> 8;
}

/* ---- MSI; irq_lock held --------------------------------------------------- */

/* The number of vectors that software allocated: a power of two, never more than the function asked for. */
static u32 msi_vectors(const struct pci_function *f)
{
    u32 control = config_get16(f, f->msi + MSI_CONTROL), asked = control >> MSI_MMC_SHIFT & 7;
    return 1u << MIN(control >> MSI_MME_SHIFT & 7, asked);
}

static void msi_send(struct pci_function *f)
{
    u32 pending = get32(f, f->msi + MSI_PENDING), now, n = msi_vectors(f);

    if (!pci_msi_enabled(f) || !pci_bus_master(f))
        return;
    now = pending & ~get32(f, f->msi + MSI_MASK);
    for (u32 v = 0; v < 32; v++)
        if (now & BIT(v)) {
            u64 address = get32(f, f->msi + MSI_ADDRESS) | (u64)get32(f, f->msi + MSI_UPPER_ADDRESS) << 32;
            u32 data = config_get16(f, f->msi + MSI_DATA);
            f->bus->c.msi(f->bus->c.ctx, address, (data & ~(n - 1)) | (v & (n - 1)));
        }
    for (u32 i = 0; i < 4; i++)
        config_put(f, f->msi + MSI_PENDING + i, (u8)((pending & ~now) >> i * 8));
}

void pci_msi_notify(struct pci_function *f, u32 vector)
{
    if (!f->msi)
        return;
    pthread_mutex_lock(&f->irq_lock);
    if (pci_msi_enabled(f)) {
        u32 at = f->msi + MSI_PENDING + (vector &= msi_vectors(f) - 1) / 8;
        config_put(f, at, (u8)(config_get(f, at) | 1u << vector % 8));
        msi_send(f);
    }
    pthread_mutex_unlock(&f->irq_lock);
}

void pci_add_msi(struct pci_function *f, u32 vectors)
{
    assert(vectors && vectors <= 32 && !(vectors & (vectors - 1)));
    f->msi = pci_add_capability(f, CAP_MSI, MSI_SIZE);
    u32 mmc = (u32)__builtin_ctz(vectors);
    pci_put16(f->config + f->msi + MSI_CONTROL, (u16)(mmc << MSI_MMC_SHIFT | MSI_64BIT | MSI_MASKING));
    pci_put16(f->wmask + f->msi + MSI_CONTROL, 7 << MSI_MME_SHIFT | MSI_ENABLE);
    pci_put32(f->wmask + f->msi + MSI_ADDRESS, ~3u);
    pci_put32(f->wmask + f->msi + MSI_UPPER_ADDRESS, ~0u);
    pci_put16(f->wmask + f->msi + MSI_DATA, 0xffff);
    pci_put32(f->wmask + f->msi + MSI_MASK, (u32)(BIT(vectors) - 1));
}

/* ---- MSI-X ---------------------------------------------------------------- */

/* Sends the pending message of entry v, if that is allowed; irq_lock held. */
static void msix_send(struct pci_function *f, u32 v)
{
    const struct pci_msix_entry *e = &f->msix_table[v];
    u64 *word = &f->msix_pba[v / 64];

    if (!(*word & BIT(v % 64)) || (e->control & VECTOR_MASKED) || !pci_bus_master(f) ||
        (config_get16(f, f->msix + MSIX_CONTROL) & (MSIX_ENABLE | MSIX_FUNCTION_MASK)) != MSIX_ENABLE)
        return;
    *word &= ~BIT(v % 64);
    f->bus->c.msi(f->bus->c.ctx, e->address | (u64)e->upper_address << 32, e->data);
}

void pci_msix_notify(struct pci_function *f, u32 vector)
{
    if (vector >= f->msix_vectors)
        return;
    pthread_mutex_lock(&f->irq_lock);
    if (pci_msix_enabled(f)) {
        f->msix_pba[vector / 64] |= BIT(vector % 64);
        msix_send(f, vector);
    }
    pthread_mutex_unlock(&f->irq_lock);
}

static u32 *table_word(struct pci_function *f, u64 offset)
{
    u32 v = (u32)offset / 16;
    u32 *words = v < f->msix_vectors ? &f->msix_table[v].address : NULL;
    return words ? words + offset % 16 / 4 : NULL;
}

static u64 msix_read(void *dev, u64 offset, unsigned size)
{
    struct pci_function *f = dev;
    u64 v = 0;

    pthread_mutex_lock(&f->irq_lock);
    if (offset < MSIX_PBA_OFFSET) {
        const u32 *word = table_word(f, offset);
        v = word ? *word : 0;
    } else if (offset < MSIX_PBA_OFFSET + PCI_MSIX_MAX / 8) {
        v = f->msix_pba[(offset - MSIX_PBA_OFFSET) / 8] >> (offset & 4) * 8;
    }
    pthread_mutex_unlock(&f->irq_lock);
    return v;
}

static void msix_write(void *dev, u64 offset, unsigned size, u64 value)
{
    static const u32 writable[4] = { ~3u, ~0u, ~0u, VECTOR_MASKED };
    struct pci_function *f = dev;

    if (offset >= MSIX_PBA_OFFSET)
        return;
    pthread_mutex_lock(&f->irq_lock);
    u32 *word = table_word(f, offset);
    if (word) {
        *word = (u32)value & writable[offset % 16 / 4];
        msix_send(f, (u32)offset / 16);
    }
    pthread_mutex_unlock(&f->irq_lock);
}

static const struct bus_ops msix_ops = { msix_read, msix_write, 4, 4 };

void pci_add_msix(struct pci_function *f, u32 vectors, u32 bar)
{
    struct pci_bar table = { .size = MSIX_BAR_SIZE, .ops = &msix_ops, .dev = f, .name = "msi-x" };

    assert(vectors && vectors <= PCI_MSIX_MAX);
    pci_bar_init(f, bar, &table);
    f->msix_vectors = (u16)vectors;
    f->msix = pci_add_capability(f, CAP_MSIX, MSIX_SIZE);
    pci_put16(f->config + f->msix + MSIX_CONTROL, (u16)(vectors - 1));
    pci_put16(f->wmask + f->msix + MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
    pci_put32(f->config + f->msix + MSIX_TABLE, bar);
    pci_put32(f->config + f->msix + MSIX_PBA, MSIX_PBA_OFFSET | bar);
}

/* ---- of all kinds --------------------------------------------------------- */

void interrupts_update(struct pci_function *f)
{
    pthread_mutex_lock(&f->irq_lock);
    intx_update(f);
    if (f->msi)
        msi_send(f);
    for (u32 v = 0; v < f->msix_vectors; v++)
        msix_send(f, v);
    pthread_mutex_unlock(&f->irq_lock);
}

void interrupts_reset(struct pci_function *f)
{
    pthread_mutex_lock(&f->irq_lock);
    for (u32 v = 0; v < PCI_MSIX_MAX; v++)
        f->msix_table[v] = (struct pci_msix_entry){ .control = VECTOR_MASKED };
    memset(f->msix_pba, 0, sizeof f->msix_pba);
    f->intx = 0;
    intx_update(f);
    pthread_mutex_unlock(&f->irq_lock);
}

u8 interrupts_pending_mask(const struct pci_function *f, u32 at)
{
    u32 first = f->msi + MSI_PENDING;
    return f->msi && at >= first && at < first + 4 ? f->wmask[at - MSI_PENDING + MSI_MASK] : 0;
}

/* Nothing is sent here: messages that had been sent are in the interrupt controllers' records. */
void interrupts_sanitize(struct pci_function *f)
{
    pthread_mutex_lock(&f->irq_lock);
    for (u32 v = 0; v < PCI_MSIX_MAX; v++) {
        struct pci_msix_entry *e = &f->msix_table[v];
        if (v >= f->msix_vectors)
            *e = (struct pci_msix_entry){ .control = VECTOR_MASKED }, f->msix_pba[v / 64] &= ~BIT(v % 64);
        e->address &= ~3u;
        e->control &= VECTOR_MASKED;
    }
    f->intx = f->intx != 0;
    intx_update(f);
    pthread_mutex_unlock(&f->irq_lock);
}
