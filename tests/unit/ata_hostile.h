/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata_hostile.h - a machine with drives on IDE and AHCI, and a guest that does anything: for the hammer and the fuzz target.
 * Disks end requests late, in any order, and with errors.
 */
#ifndef LODGE_TEST_ATA_HOSTILE_H
#define LODGE_TEST_ATA_HOSTILE_H

#include "ata_rig.h"
#include "devices/ahci.h"
#include "devices/ide.h"

enum { SMALL = 1 << 20, HOSTILE_RAM = 0x40000, NDISKS = 5, NDRIVES = 6 };

struct hostile {
    struct rig r;
    struct ide ide;
    struct ahci ahci;
    struct ata_drive *drive[NDRIVES];
    struct block *disc[NDRIVES]; /* what is in each */
};

static struct block *hostile_disk[NDISKS]; /* 0-3 for one drive each, 4 to change discs with */

static inline void hostile_finish(struct block *b, u32 i, int result)
{
    if (b->n)
        finish(b, i % b->n, result);
}

static void hostile_plug(struct hostile *h, u32 n, bool cdrom, struct block *b)
{
    struct ata_drive_config c = { .cdrom = cdrom, .block = b, .serial = "S-1", .discard = true, .werror = n & 1 ? DISK_ERRORS_STOP : DISK_ERRORS_ENOSPC,
                                  .rerror = n & 1 ? DISK_ERRORS_STOP : DISK_ERRORS_REPORT, .stop = rig_stop, .go = rig_go, .ctx = &h->r,
                                  .memory = h->r.memory };
    if (n < 4 ? ide_plug(&h->ide, n, &c, NULL) : ahci_plug(&h->ahci, n - 4, &c, NULL))
        abort();
    h->drive[n] = n < 4 ? ide_drive(&h->ide, n) : ahci_drive(&h->ahci, n - 4);
    h->disc[n] = b;
}

static void hostile_reset(struct hostile *h)
{
    static const u8 lines[PCI_INTX_LINES] = { 10, 11, 10, 11 };

    ide_reset(&h->ide);
    ahci_reset(&h->ahci);
    pci_reset(h->r.pci);
    pci_assign(h->r.pci, lines);
    h->ide.f.config[4] |= 4;
    h->ahci.f.config[4] |= 4;
}

static struct hostile *hostile_new(void)
{
    struct hostile *h = calloc(1, sizeof *h);
    const struct irq_line irq[2] = { { rig_irq, &h->r, 14 }, { rig_irq, &h->r, 15 } };

    for (u32 i = 0; i < NDISKS; i++)
        if (!hostile_disk[i])
            hostile_disk[i] = disk_new(SMALL);
    rig_open(&h->r);
    int rc = ide_init(&h->ide, irq, h->r.pci, 1, 1, h->r.state, NULL) | ahci_init(&h->ahci, h->r.pci, h->r.state, NULL);
    for (u32 i = 0; i < 2; i++) {
        rc |= bus_add(h->r.ports, &(struct bus_range){ i ? 0x170 : 0x1f0, 8, &ide_ops, &h->ide.channel[i], NULL, "ide" });
        rc |= bus_add(h->r.ports, &(struct bus_range){ i ? 0x376 : 0x3f6, 1, &ide_control_ops, &h->ide.channel[i], NULL, "ide" });
    }
    if (rc)
        abort();
    hostile_plug(h, 0, false, hostile_disk[0]);
    hostile_plug(h, 1, false, hostile_disk[1]);
    hostile_plug(h, 2, true, hostile_disk[2]);
    hostile_plug(h, 4, false, hostile_disk[3]);
    hostile_plug(h, 5, true, NULL);
    hostile_reset(h);
    return h;
}

static inline void hostile_free(struct hostile *h)
{
    ide_settle(&h->ide);
    ahci_settle(&h->ahci);
    rig_close(&h->r);
    ide_destroy(&h->ide);
    ahci_destroy(&h->ahci);
    free(h);
    turns(NULL);
}

/* Addresses are more often in memory than chance would have it. */
static u32 hostile_value(u32 v, u8 how)
{
    return how & 1 ? v & (HOSTILE_RAM - 1) & ~0x3ffu : v;
}

/* One step of the guest's or the world's. */
static void hostile_step(struct hostile *h, u8 op, u8 where, u32 v)
{
    static const u16 ports[] = { 0x1f0, 0x170, 0x3f6, 0x376 };
    static const u8 regs[] = { 0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x18, 0x20, 0x28, 0x2c, 0x30, 0x34, 0x38, 0x38, 0x38 };
    const u16 port = where & 0x30 ? (u16)(ports[where >> 6 & 1] + (where & 7)) : ports[where >> 6 & 3];
    const unsigned size = 1u << (op >> 4) % 3;
    const u64 abar = h->ahci.f.bar[5].at, bm = h->ide.f.bar[4].at;
    struct ata_drive *d = h->drive[where % NDRIVES];

    switch (op & 15) {
    case 0: case 1: /* IDE: registers, and the data of a block */
        bus_write(h->r.ports, port, (port & 7) == 0 ? size : 1, v);
        break;
    case 2:
        (void)bus_read(h->r.ports, port, size);
        break;
    case 3:
        for (u32 i = 0; i < (where & 3 ? 128 : 16384); i++)
            if (where & 4)
                bus_write(h->r.ports, ports[where >> 3 & 1], 4, v * i);
            else
                (void)bus_read(h->r.ports, ports[where >> 3 & 1], 4);
        break;
    case 4:
        if (bm != UINT64_MAX)
            bus_write(h->r.ports, bm + (where & 15), size, hostile_value(v, op >> 4));
        break;
    case 5: case 6: case 7: /* AHCI */
        if (abar != UINT64_MAX)
            bus_write(h->r.mmio, abar + 0x100 + (where >> 4 & 1) * 0x80 + regs[where & 15], 4, hostile_value(v, (where & 15) < 4));
        break;
    case 8:
        if (abar != UINT64_MAX && where & 1)
            bus_write(h->r.mmio, abar + (where & 0xfc) * 4, 4, v);
        else if (abar != UINT64_MAX)
            (void)bus_read(h->r.mmio, abar + (where & 0xfc), 4);
        break;
    case 9: /* a register FIS that starts both ports, and something to do */
        if (abar == UINT64_MAX)
            break;
        bus_write(h->r.mmio, abar + 0x118 + (where & 1) * 0x80, 4, 0x11);
        bus_write(h->r.mmio, abar + 0x134 + (where & 1) * 0x80, 4, v);
        bus_write(h->r.mmio, abar + 0x138 + (where & 1) * 0x80, 4, v);
        break;
    case 10: /* time passes */
        fake_run_posts();
        fake_advance(where & 1 ? 1100000000 : 0);
        break;
    case 11:
        hostile_finish(hostile_disk[where % NDISKS], v, 0);
        break;
    case 12:
        hostile_finish(hostile_disk[where % NDISKS], v, where & 0x80 ? -ENOSPC : -EIO);
        break;
    case 13: /* somebody changes the disc */
        if (d && d->c.cdrom && !(v & 3)) {
            struct error err;
            const bool out = h->disc[where % NDRIVES] == hostile_disk[4];
            bool free_disc = true;
            for (u32 i = 0; i < NDRIVES; i++)
                free_disc = free_disc && (h->disc[i] != hostile_disk[4]);
            struct block *b = out || !free_disc ? NULL : hostile_disk[4];
            if (!ata_change_medium(d, b, v & 4, &err))
                h->disc[where % NDRIVES] = b;
        }
        break;
    case 14: /* configuration space */
        bus_write(h->r.mmio, 0xe0000000 + (u64)(where & 1 ? h->ide.f.devfn : h->ahci.f.devfn) * 4096 + (where & 0xfc) % 0x60, 4,
                  where & 8 ? v : v | 7);
        break;
    default: /* memory */
        memcpy(ram(&h->r, (u64)where << 10 | (v & 0x3fc), 4), &v, 4);
        break;
    }
}

#endif
