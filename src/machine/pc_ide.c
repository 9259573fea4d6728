/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc_ide.c - the PIIX3's IDE function on the board "pc": function 1 of the ISA bridge's slot, ports 1F0h-1F7h and 3F6h with
 * IRQ 14, 170h-177h and 376h with IRQ 15; and what CMOS says of its disks.
 */
#include "machine/internal.h"

/* Where AT BIOSes keep the disks' types and what a type of 47 means; and, since Bochs, how BIOSes translate geometry. */
enum { CMOS_DISKS = 0x12, CMOS_TYPE = 0x19, CMOS_GEOMETRY = 0x1b, GEOMETRY_SIZE = 9, CMOS_TRANSLATION = 0x39, TYPE_USER = 47 };
enum { TRANSLATION_NONE, TRANSLATION_LBA, TRANSLATION_LARGE };

int machine_place_ide(struct machine *m, struct ide *x, struct error *err)
{
    static const u16 ports[IDE_CHANNELS] = { 0x1f0, 0x170 };
    const struct irq_line irq[IDE_CHANNELS] = { machine_line(m, 14), machine_line(m, 15) };
    int rc = ide_init(x, irq, m->i440fx.bus, I440FX_ISA_SLOT, 1, m->state, err);

    for (u32 i = 0; i < IDE_CHANNELS && !rc; i++)
        if (!(rc = machine_ports(m, ports[i], IDE_PORTS, &ide_ops, &x->channel[i], "ide")))
            rc = machine_ports(m, (u16)(ports[i] + 0x206), 1, &ide_control_ops, &x->channel[i], "ide-control");
    if (rc)
        return error_set(err, -rc, "the IDE channels find no place");
    m->ide = x;
    return 0;
}

/* Translated so that 1024 cylinders of at most 255 heads hold as much as they can. */
static u32 translation(const struct ata_drive *d)
{
    if (d->cylinders <= 1024)
        return TRANSLATION_NONE;
    return (u32)d->cylinders * d->heads <= 131072 ? TRANSLATION_LARGE : TRANSLATION_LBA;
}

void pc_ide_ready(struct machine *m)
{
    u8 types = 0;
    u32 translations = 0;

    if (!m->ide)
        return;
    for (u32 i = 0; i < IDE_DRIVES; i++) {
        const struct ata_drive *d = ide_drive(m->ide, i);
        if (!d || d->c.cdrom)
            continue;
        translations |= translation(d) << i * 2;
        if (i > 1)
            continue;
        const u8 geometry[GEOMETRY_SIZE] = { (u8)d->cylinders, (u8)(d->cylinders >> 8), d->heads, 0xff, 0xff,
                                             d->heads > 8 ? 0xc8 : 0xc0, (u8)d->cylinders, (u8)(d->cylinders >> 8), d->sectors };
        types |= i ? 0x0f : 0xf0;
        mc146818_set(&m->rtc, (u8)(CMOS_TYPE + i), TYPE_USER);
        for (u32 k = 0; k < GEOMETRY_SIZE; k++)
            mc146818_set(&m->rtc, (u8)(CMOS_GEOMETRY + i * GEOMETRY_SIZE + k), geometry[k]);
    }
    mc146818_set(&m->rtc, CMOS_DISKS, types);
    mc146818_set(&m->rtc, CMOS_TRANSLATION, (u8)translations);
}
