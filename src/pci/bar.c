/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bar.c - base address registers (PCI 3.0, 6.2.5): maps BARs where the registers say, and gives addresses as firmware
 * does.
 */
#include <assert.h>
#include <string.h>

#include "pci/internal.h"

enum { REGIONS = PCI_BARS + 1 };

static u32 config_get32(const struct pci_function *f, u32 at)
{
    return config_get16(f, at) | (u32)config_get16(f, at + 2) << 16;
}

static u32 bar_register(u32 n)
{
    return n == PCI_ROM ? PCI_ROM_ADDRESS : PCI_BASE_ADDRESS + 4 * n;
}

/* The address where software wants BAR n, or UNMAPPED: it is not decoded, or it is at 0, which is what a BAR without
   an address reads. */
static u64 wanted(const struct pci_function *f, u32 n)
{
    const struct pci_bar *bar = &f->bar[n];
    u64 base;

    if (!bar->size || !(config_get(f, PCI_COMMAND) & (bar->flags & PCI_BAR_IO ? COMMAND_IO : COMMAND_MEMORY)))
        return UNMAPPED;
    if (n == PCI_ROM && !(config_get(f, PCI_ROM_ADDRESS) & ROM_ENABLE))
        return UNMAPPED;
    base = config_get32(f, bar_register(n)) & ~(n == PCI_ROM ? ROM_FLAGS : bar->flags & PCI_BAR_IO ? BAR_IO_FLAGS : BAR_FLAGS);
    if (bar->flags & PCI_BAR_64)
        base |= (u64)config_get32(f, bar_register(n + 1)) << 32;
    return base && !(bar->memory && base < MiB(1)) ? base : UNMAPPED;
}

static struct bus *space(const struct pci_bus *b, const struct pci_bar *bar)
{
    return bar->flags & PCI_BAR_IO ? b->c.ports : b->c.mmio;
}

static void unmap(struct pci_bus *b, struct pci_bar *bar)
{
    if (bar->at == UNMAPPED)
        return;
    if (bar->memory)
        memory_unmap(b->c.memory, bar->at);
    bus_remove(space(b, bar), bar->at, bar->dev);
    bar->at = UNMAPPED;
}

/* A BAR that is memory also has its place on the bus. So it cannot be over a chip of the board, and the bus gets the
   writes to a ROM. */
static void map(struct pci_bus *b, struct pci_bar *bar, u64 at)
{
    static const struct bus_ops nothing = { 0 };
    const struct bus_range r = { at, bar->size, bar->ops ? bar->ops : &nothing, bar->dev, bar->lock, bar->name };

    if (bus_add(space(b, bar), &r)) /* over a chip of the board, or past the end: it answers nowhere */
        return;
    if (bar->memory && memory_map(b->c.memory, at, bar->size, bar->memory, 0, false))
        bus_remove(space(b, bar), at, bar->dev); /* over RAM */
    else
        bar->at = at;
}

/* Does an earlier BAR of the same space have any of these addresses? */
static bool taken(const struct pci_bus *b, u32 devfn, u32 n, u64 base, const u64 to[PCI_FUNCTIONS][REGIONS])
{
    const struct pci_bar *bar = &b->fn[devfn]->bar[n];

    for (u32 i = 0; i <= devfn; i++)
        for (u32 k = 0; b->fn[i] && k < (i == devfn ? n : REGIONS); k++) {
            const struct pci_bar *other = &b->fn[i]->bar[k];
            if (to[i][k] != UNMAPPED && !((other->flags ^ bar->flags) & PCI_BAR_IO) &&
                base <= to[i][k] + (other->size - 1) && to[i][k] <= base + (bar->size - 1))
                return true;
        }
    return false;
}

/* The result depends on the registers alone, not on their history. So a restored machine has its BARs where the
   saved one had them. */
void bars_update(struct pci_bus *b)
{
    u64 to[PCI_FUNCTIONS][REGIONS];

    for (u32 i = 0; i < PCI_FUNCTIONS; i++)
        for (u32 n = 0; b->fn[i] && n < REGIONS; n++) {
            u64 base = wanted(b->fn[i], n);
            to[i][n] = base != UNMAPPED && !taken(b, i, n, base, to) ? base : UNMAPPED;
            if (b->fn[i]->bar[n].at != to[i][n])
                unmap(b, &b->fn[i]->bar[n]);
        }
    for (u32 i = 0; i < PCI_FUNCTIONS; i++)
        for (u32 n = 0; b->fn[i] && n < REGIONS; n++) {
            struct pci_bar *bar = &b->fn[i]->bar[n];
            if (bar->at != to[i][n])
                map(b, bar, to[i][n]);
        }
}

void pci_bar_init(struct pci_function *f, u32 n, const struct pci_bar *bar)
{
    u64 mask = ~(bar->size - 1);
    bool io = bar->flags & PCI_BAR_IO, wide = bar->flags & PCI_BAR_64, rom = n == PCI_ROM;

    assert(!bar->memory || (!io && bar->size >= GUEST_PAGE_SIZE && bar->size <= bar->memory->size));
    assert(rom ? !bar->flags && bar->size > ROM_FLAGS : n + wide < PCI_BARS && !(bar->size & (bar->size - 1)) && bar->size >= (io ? 4 : 16) && !(io && wide));
    assert(!f->bar[n].size && (wide || bar->size <= GiB(2)));
    f->bar[n] = *bar;
    f->bar[n].at = UNMAPPED;
    f->config[bar_register(n)] =
        (u8)(io ? BAR_IO : (wide ? BAR_64 : 0) | (bar->flags & PCI_BAR_PREFETCH ? BAR_PREFETCH : 0));
    pci_put32(f->wmask + bar_register(n), (u32)mask | (rom ? ROM_ENABLE : 0));
    if (wide)
        pci_put32(f->wmask + bar_register(n + 1), (u32)(mask >> 32));
    f->wmask[PCI_COMMAND] |= io ? COMMAND_IO : COMMAND_MEMORY;
}

void pci_remove(struct pci_function *f)
{
    struct pci_bus *b = f->bus;

    pci_set_intx(f, false);
    pthread_mutex_lock(&b->lock);
    for (u32 n = 0; n < REGIONS; n++)
        unmap(b, &f->bar[n]);
    b->fn[f->devfn] = NULL;
    bars_update(b); /* a BAR that it covered may answer now */
    pthread_mutex_unlock(&b->lock);
}

/* ---- the work of firmware -------------------------------------------------- */

struct window {
    u64 next, end;
};

static u64 allocate(struct window *w, u64 size)
{
    u64 at = align_up(w->next, size);

    if (at < w->next || at > w->end || w->end - at < size)
        return 0;
    w->next = at + size;
    return at;
}

static void place(struct pci_function *f, u32 n, struct window *io, struct window *low, struct window *high)
{
    struct pci_bar *bar = &f->bar[n];
    u64 at = 0;

    if (bar->flags & PCI_BAR_IO) {
        at = allocate(io, bar->size);
    } else {
        /* A large BAR goes above 4 GiB, so that the others have room. The others go where 32-bit systems can reach
           them. */
        bool wide = bar->flags & PCI_BAR_64, large = bar->size > (low->end - low->next) / 8;
        if (wide && large)
            at = allocate(high, bar->size);
        if (!at)
            at = allocate(low, bar->size);
        if (!at && wide)
            at = allocate(high, bar->size);
        if (wide)
            pci_put32(f->config + bar_register(n + 1), (u32)(at >> 32));
    }
    pci_put32(f->config + bar_register(n), (u32)at | (f->config[bar_register(n)] & BAR_FLAGS));
    if (at && n != PCI_ROM) /* the ROM stays off */
        f->config[PCI_COMMAND] |= bar->flags & PCI_BAR_IO ? COMMAND_IO : COMMAND_MEMORY;
}

u16 pci_assign(struct pci_bus *b, const u8 line_irq[PCI_INTX_LINES])
{
    struct window io = { b->c.io, (u64)b->c.io + b->c.io_size };
    struct window low = { b->c.mmio32, b->c.mmio32 + b->c.mmio32_size };
    struct window high = { b->c.mmio64, b->c.mmio64 + b->c.mmio64_size };
    u16 given = 0;

    pthread_mutex_lock(&b->lock);
    for (u32 bit = 64; bit-- > 0;) /* largest first leaves no gaps */
        for (u32 i = 0; i < PCI_FUNCTIONS; i++)
            for (u32 n = 0; b->fn[i] && n < REGIONS; n++)
                if (b->fn[i]->bar[n].size == BIT(bit))
                    place(b->fn[i], n, &io, &low, &high);
    for (u32 i = 0; i < PCI_FUNCTIONS; i++)
        if (b->fn[i] && b->fn[i]->config[PCI_INTERRUPT_PIN]) {
            const u8 irq = line_irq[((i >> 3) + b->fn[i]->config[PCI_INTERRUPT_PIN] - 1) % PCI_INTX_LINES];
            b->fn[i]->config[PCI_INTERRUPT_LINE] = irq;
            given |= (u16)BIT(irq & 15);
        }
    bars_update(b);
    pthread_mutex_unlock(&b->lock);
    return given;
}

/* It looks at the registers only, because decoding may be off when a firmware asks. */
void pci_bars64(struct pci_bus *b, u64 *base, u64 *size)
{
    u64 first = UINT64_MAX, last = 0;

    pthread_mutex_lock(&b->lock);
    for (u32 i = 0; i < PCI_FUNCTIONS; i++)
        for (u32 n = 0; b->fn[i] && n < PCI_BARS; n++) {
            const struct pci_bar *bar = &b->fn[i]->bar[n];
            if (!bar->size || !(bar->flags & PCI_BAR_64))
                continue;
            const u64 at = (u64)config_get32(b->fn[i], bar_register(n + 1)) << 32 |
                           (config_get32(b->fn[i], bar_register(n)) & ~BAR_FLAGS);
            if (at < GiB(4) || at + (bar->size - 1) == UINT64_MAX) /* it is below 4 GiB, or software is sizing it */
                continue;
            first = MIN(first, at);
            last = MAX(last, at + (bar->size - 1));
        }
    pthread_mutex_unlock(&b->lock);
    if (last && (first < *base || last - *base >= *size)) {
        *base = align_down(first, GiB(1));
        *size = align_up(last, GiB(1)) - *base;
    }
}
