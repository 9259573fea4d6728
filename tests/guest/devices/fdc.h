/* SPDX-License-Identifier: Apache-2.0 */
/* fdc.h - the floppy controller, with DMA. */
#ifndef DEVICES_FDC_H
#define DEVICES_FDC_H

#include "devices/words.h"

static void dma_channel(u32 channel)
{
    static const u8 page[] = { 0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a };
    const u32 base = channel < 4 ? 0 : 0xc0, step = channel < 4 ? 1 : 2, n = channel & 3;
    const u64 at = pool_at(1), count = mostly(rnd_below(20) * 512 + 511);
    outb((u16)(base + 10 * step), (u8)(4 | n));
    outb((u16)(base + 12 * step), 0);
    outb((u16)(base + 11 * step), (u8)mostly(PICK(0x44, 0x48, 0x40, 0x54, 0x58, 0x64, 0x84) | n));
    outb((u16)(base + 2 * n * step), (u8)at), outb((u16)(base + 2 * n * step), (u8)(at >> 8));
    outb(page[channel], (u8)mostly(at >> 16)); /* 64 KiB of the low 16 MiB, whatever is there */
    outb((u16)(base + (2 * n + 1) * step), (u8)count), outb((u16)(base + (2 * n + 1) * step), (u8)(count >> 8));
    if (rnd_below(6))
        outb((u16)(base + 8 * step), 0);
    outb((u16)(base + 10 * step), (u8)n);
}

static void fdc(void)
{
    const u8 command = PICK(0x03, 0x04, 0x07, 0x08, 0x0f, 0xe6, 0xe6, 0x46, 0xc5, 0xc5, 0x45, 0x4d, 0x4a, 0x16, 0x02, 0x0e, 0x12,
                            0x13, 0x14, 0x94, 0x10, 0x8f, 0xcf, 0x4c, 0x11, 0x0c, 0x09, 0x18, 0x33);
    const u32 drive = (u32)rnd_below(2);
    outb(0x3f2, (u8)mostly(rnd_below(20) ? 0x1c + 0x10 * drive + drive : 0));
    if (!rnd_below(10))
        outb(0x3f7, (u8)PICK(0, 1, 2, 3));
    if (!rnd_below(30))
        outb(0x3f4, (u8)PICK(0x80, 0x40, 0));
    if (rnd_below(3))
        dma_channel(2);
    outb(0x3f5, command);
    const u8 parameters[] = { (u8)mostly(drive | rnd_below(2) << 2), (u8)mostly(rnd_below(80)), (u8)mostly(rnd_below(2)),
                              (u8)mostly(1 + rnd_below(18)), (u8)mostly(2), (u8)mostly(18), (u8)mostly(0x1b), (u8)mostly(0xff) };
    for (u32 i = 0; i < 8 && (inb(0x3f4) & 0xc0) == 0x80; i++)
        outb(0x3f5, parameters[i]);
    for (u32 i = rnd_below(40); i; i--) {
        const u8 msr = inb(0x3f4);
        if ((msr & 0xf0) == 0xd0 || (msr & 0xe0) == 0xe0)
            (void)inb(0x3f5);
        else if ((msr & 0xe0) == 0xa0)
            outb(0x3f5, (u8)value());
    }
}

#endif
