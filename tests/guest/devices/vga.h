/* SPDX-License-Identifier: Apache-2.0 */
/* vga.h - the graphics adapter: modes, palettes, registers and picture. */
#ifndef DEVICES_VGA_H
#define DEVICES_VGA_H

#include "devices/words.h"

static void vga(void)
{
    static const u16 index[] = { 0x3c4, 0x3ce, 0x3d4, 0x3b4, 0x1ce };
    const u32 which = (u32)rnd_below(ARRAY_SIZE(index));
    switch (rnd_below(6)) {
    case 0: /* a mode of VBE */
        outw(0x1ce, 4), outw(0x1cf, 0);
        for (u32 i = 1; i < 10; i++)
            outw(0x1ce, (u16)i), outw(0x1cf, (u16)(i == 3 ? PICK(4, 8, 15, 16, 24, 32) : i == 4 ? mostly(0xc1) : mostly(rnd_below(2000))));
        outw(0x1ce, 4), outw(0x1cf, (u16)mostly(0xc1));
        break;
    case 1:
        (void)inb(0x3da);
        outb(0x3c0, (u8)mostly(rnd_below(0x15) | 0x20)), outb(0x3c0, (u8)value());
        break;
    case 2:
        outb(0x3c8, (u8)value());
        for (u32 i = 0; i < 6; i++)
            outb(0x3c9, (u8)value());
        (void)inb(0x3c7), (void)inb(0x3c9);
        break;
    case 3: {
        const u64 at = 0xa0000 + rnd_below(0x20000);
        for (u32 i = 0; i < 16; i++)
            w8(at + i, value()), (void)r8(at + 2 * i);
        break;
    }
    default:
        if (which == 4) {
            outw(0x1ce, (u16)mostly(rnd_below(11))), outw(0x1cf, (u16)value()), (void)inw(0x1cf);
        } else {
            outb(index[which], (u8)mostly(rnd_below(0x19)));
            outb((u16)(index[which] + 1), (u8)value());
            (void)inb((u16)(index[which] + 1));
        }
    }
}

#endif
