/* SPDX-License-Identifier: Apache-2.0 */
/*
 * isa.c - see isa.h.
 *
 *   ports      00h C0h DMA, 80h its page registers, 3F2h-3F5h and 3F7h floppy (3F6h is the disks'), 378h parallel
 *   IRQ        6 floppy, 7 parallel; DMA channel 2 floppy
 */
#include "machine/isa.h"

#include <errno.h>

#include "machine/internal.h"

enum { CMOS_FLOPPIES = 0x10, CMOS_EQUIPMENT = 0x14, EQUIPMENT_FPU = 2, EQUIPMENT_MOUSE = 4 };

static bool print(void *ctx, u8 byte)
{
    struct machine *m = ctx;
    return chardev_write(m->c.parallel, &byte, 1) == 1;
}

static size_t no_input(void *dev, const u8 *buf, size_t len) { return len; }
static void writable(void *dev)
{
    struct machine *m = dev;
    lpt_writable(&m->isa.lpt);
}

/* Puts the floppy disks in, and tells the guest by CMOS how many drives there are and of which type. */
int isa_build_drives(struct machine *m, struct error *err)
{
    struct isa *s = &m->isa;
    u8 types = 0;

    for (u32 i = 0; i < MACHINE_FLOPPIES; i++) {
        const struct machine_floppy *f = &m->c.floppy[i];
        if (!f->drive)
            continue;
        const enum fdc_drive_type type = f->disk ? fdc_drive_for(block_size(f->disk)) : FDC_1440K;
        if (type == FDC_NO_DRIVE)
            return error_set(err, EINVAL, "%s has %llu bytes: a floppy disk has 160, 180, 320, 360, 720, 1200, 1440, 1680 "
                             "or 2880 KiB", block_path(f->disk), (unsigned long long)block_size(f->disk));
        fdc_plug(&s->fdc, i, type);
        if (f->disk && fdc_insert(&s->fdc, i, f->disk, err))
            return -EINVAL;
        types |= (u8)(type << (i ? 0 : 4));
        s->floppies++;
    }
    if (s->floppies && machine_add_boot(m, MACHINE_BOOT_FLOPPY, "/pci@i0cf8/isa@1/fdc@03f0/floppy@0", err))
        return -ENOSPC;
    mc146818_set(&m->rtc, CMOS_FLOPPIES, types);
    mc146818_set(&m->rtc, CMOS_EQUIPMENT, (u8)(EQUIPMENT_FPU | EQUIPMENT_MOUSE |
                                               (s->floppies ? 1 | (s->floppies - 1) << 6 : 0)));
    return 0;
}

int isa_init_dma(struct machine *m, struct error *err)
{
    i8237_init(&m->isa.dma, m->memory);
    return 0;
}

int isa_init_fdc(struct machine *m, struct error *err)
{
    const struct fdc_config c = { .loop = m->c.loop, .dma = &m->isa.dma, .irq = machine_line(m, 6) };

    fdc_init(&m->isa.fdc, &c);
    m->isa.has_drives = true;
    return 0;
}

int isa_init_lpt(struct machine *m, struct error *err)
{
    static const struct chardev_user user = { no_input, writable };
    const struct lpt_config c = { .irq = machine_line(m, 7), .print = m->c.parallel ? print : NULL, .ctx = m };

    lpt_init(&m->isa.lpt, &c);
    if (m->c.parallel)
        chardev_attach(m->c.parallel, &user, m);
    return 0;
}

/* After a BIOS's power-on test the floppy controller is out of reset, its interrupts are taken, SPECIFY is as in IBM's disk
   base table, the data rate is that of the first drive's disks, and the motors are off. */
static void firmware_fdc(struct machine *m)
{
    enum { DOR = 0x3f2, FIFO = 0x3f5, CCR = 0x3f7, SENSE_INTERRUPT = 8 };
    static const u8 rate[] = { [FDC_360K] = 2, [FDC_720K] = 2, [FDC_2880K] = 3 }, specify[] = { 3, 0xdf, 0x02 };

    bus_write(m->ports, DOR, 1, 0x0c);
    for (u32 i = 0; i < 4; i++) {
        bus_write(m->ports, FIFO, 1, SENSE_INTERRUPT);
        bus_read(m->ports, FIFO, 1);
        bus_read(m->ports, FIFO, 1);
    }
    for (u32 i = 0; i < ARRAY_SIZE(specify); i++)
        bus_write(m->ports, FIFO, 1, specify[i]);
    bus_write(m->ports, CCR, 1, rate[m->isa.fdc.drive[0].type]);
}

void isa_ready(struct machine *m)
{
    if (!m->c.firmware)
        firmware_fdc(m);
}

void isa_settle(struct machine *m)
{
    fdc_settle(&m->isa.fdc);
}

int machine_floppy_insert(struct machine *m, u32 drive, struct block *disk, struct error *err)
{
    if (drive >= MACHINE_FLOPPIES || !m->isa.has_drives || !m->c.floppy[drive].drive)
        return error_set(err, ENODEV, "the machine has no floppy drive %u", drive);
    return fdc_insert(&m->isa.fdc, drive, disk, err);
}

struct block *machine_floppy_eject(struct machine *m, u32 drive)
{
    return drive < MACHINE_FLOPPIES && m->isa.has_drives ? fdc_eject(&m->isa.fdc, drive) : NULL;
}
