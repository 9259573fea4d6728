/* SPDX-License-Identifier: Apache-2.0 */
/* pci.h - finds the PCI functions, gives their BARs a place where nobody has, and writes into their configuration. */
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "devices/words.h"

static struct function { u32 devfn, id, class; u64 bar[6]; u32 config[16]; u32 virtio; } functions[32];
static u32 nfunctions;

static u32 config_read(u32 devfn, u32 at)
{
    outl(0xcf8, 0x80000000 | devfn << 8 | (at & 0xfc));
    return inl(0xcfc);
}

static void config_write(u32 devfn, u32 at, u32 v)
{
    outl(0xcf8, 0x80000000 | devfn << 8 | (at & 0xfc));
    outl(0xcfc, v);
}

static u32 io_next = 0xc000;
static u64 mem_next = 0xc0000000;

/* Without firmware Lodge has placed the BARs. */
static void place_bar(u32 devfn, u32 at)
{
    const u32 old = config_read(devfn, at);
    config_write(devfn, at, ~0u);
    const u32 mask = config_read(devfn, at), size = mask & 1 ? -(mask & 0xfffc) & 0xffff : -(mask & ~0xfu);
    config_write(devfn, at, old);
    if (!mask || !size || old & ~0xfu)
        return;
    if (mask & 1) {
        io_next = (io_next + size - 1) & -size;
        config_write(devfn, at, io_next);
        io_next += size;
    } else {
        mem_next = (mem_next + size - 1) & -(u64)size;
        config_write(devfn, at, (u32)mem_next);
        mem_next += size;
    }
}

static void find_functions(void)
{
    for (u32 devfn = 0; devfn < 256 && nfunctions < ARRAY_SIZE(functions); devfn++) {
        struct function *f = &functions[nfunctions];
        if ((f->id = config_read(devfn, 0)) == ~0u)
            continue;
        nfunctions++;
        f->devfn = devfn;
        f->class = config_read(devfn, 8) >> 16;
        for (u32 i = 0; i < 6; i++) {
            place_bar(devfn, 0x10 + 4 * i);
            const u32 low = config_read(devfn, 0x10 + 4 * i);
            f->bar[i] = low & 1 ? low & 0xfffc : low & ~0xfu;
            if ((low & 7) == 4 && i < 5) {
                i++;
                f->bar[i - 1] |= (u64)config_read(devfn, 0x10 + 4 * i) << 32;
            }
        }
        config_write(devfn, 4, 7);
        for (u32 i = 0; i < 16; i++)
            f->config[i] = config_read(devfn, 4 * i);
    }
}

/* Now and then put back where it was, or left where random writes have it. */
static void repair(const struct function *f)
{
    if (rnd_below(12))
        return;
    for (u32 i = 4; i < 10; i++)
        config_write(f->devfn, 4 * i, f->config[i]);
    config_write(f->devfn, 4, rnd_below(8) ? 7 : 0x407);
}

static const struct function *function(u32 class)
{
    for (u32 i = 0; i < nfunctions; i++)
        if (functions[i].class == class) {
            repair(&functions[i]);
            return &functions[i];
        }
    return NULL;
}

static void pci(void)
{
    if (!nfunctions)
        return;
    const struct function *f = &functions[rnd_below(nfunctions)];
    const u32 at = (u32)rnd_below(rnd_below(4) ? 64 : 256), v = (u32)value();
    switch (rnd_below(6)) {
    case 0: (void)config_read(f->devfn, at); break;
    case 1: config_write(f->devfn, at, v); break;
    case 2: w32(0xe0000000 + (f->devfn << 12) + (at & ~3u), v); break;
    case 3: w8(0xe0000000 + (f->devfn << 12) + at, v); break;
    case 4: config_write(f->devfn, at, ~0u), (void)config_read(f->devfn, at); break;
    default: repair(f);
    }
}

#endif
