/* SPDX-License-Identifier: Apache-2.0 */
/*
 * board.h - what is on the board itself: fw_cfg, power management, keyboard controller, timers, interrupt controllers,
 * flash, and the ways to reset the machine.
 */
#ifndef DEVICES_BOARD_H
#define DEVICES_BOARD_H

#include "devices/pci.h"

static void fw_cfg(void)
{
    const u64 at = pool_at(8), to = mostly(pool_at(1));
    const u32 control = (u32)mostly(rnd_below(32) | rnd_below(2) << 15) << 16 | (u32)mostly(PICK(2, 10, 8, 12, 16, 24, 0));
    w32(at, __builtin_bswap32(control));
    w32(at + 4, __builtin_bswap32((u32)mostly(rnd_below(5000))));
    w64(at + 8, __builtin_bswap64(to));
    if (rnd_below(3))
        outl(0x514, 0);
    outl(0x518, __builtin_bswap32((u32)mostly(at)));
    outw(0x510, (u16)mostly(rnd_below(0x40)));
    for (u32 i = rnd_below(20); i; i--)
        (void)inb(0x511);
}

static void pm(void)
{
    if (!nfunctions && rnd_below(1000)) /* a micro's: it would sleep */
        return;
    switch (rnd_below(8)) {
    case 0: outw(0x600, (u16)value()); break;
    case 1: outw(0x602, (u16)value()); break;
    case 2: outw(0x604, (u16)value() & ~0x2000); break;
    case 3: (void)inl(0x608); break;
    case 4: outb((u16)(0x60c + rnd_below(4)), (u8)value()); break;
    case 5: outb((u16)(0xb2 + rnd_below(2)), (u8)value()); break;
    case 6: (void)inw((u16)(0x600 + 2 * rnd_below(8))); break;
    default: outl(0x600, (u32)value());
    }
}

static void keyboard(void)
{
    static const u8 controller[] = { 0x20, 0x60, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xad, 0xae, 0xc0, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd4, 0xdd, 0xdf, 0xe0 };
    static const u8 device[] = { 0xed, 0xee, 0xf0, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xff, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xeb, 0xec, 0xfe };
    if (rnd_below(2))
        outb(0x64, controller[rnd_below(sizeof(controller))]);
    outb(0x60, rnd_below(2) ? device[rnd_below(sizeof(device))] : (u8)value() | 2); /* D1h with bit 0 clear resets */
    for (u32 i = rnd_below(6); i; i--)
        (void)inb(0x64), (void)inb(0x60);
    if (!rnd_below(4))
        outb(0x92, (u8)(value() & ~1u));
}

static void timers(void)
{
    const u64 hpet = 0xfed00000, timer = hpet + 0x100 + 0x20 * rnd_below(4);
    switch (rnd_below(6)) {
    case 0: w32(hpet + 0x10, mostly(rnd_below(4))); break;
    case 1:
        w32(timer, mostly(rnd_below(0x80) | rnd_below(24) << 9));
        w32(timer + 8, mostly(r32(hpet + 0xf0) + rnd_below(100000)));
        break;
    case 2: w64(hpet + 0xf0, value()); break;
    case 3:
        outb(0x43, (u8)value());
        outb((u16)(0x40 + rnd_below(3)), (u8)value()), outb((u16)(0x40 + rnd_below(3)), (u8)value());
        break;
    case 4: outb(0x70, (u8)mostly(rnd_below(14))), outb(0x71, (u8)value()), (void)inb(0x71); break;
    default:
        w32(0xfee00320, mostly(0x40 | rnd_below(3) << 17 | rnd_below(2) << 16));
        w32(0xfee003e0, rnd_below(16)), w32(0xfee00380, mostly(rnd_below(1000000)));
    }
}

static void interrupts(void)
{
    const u32 pin = (u32)rnd_below(24);
    switch (rnd_below(6)) {
    case 0:
        w32(0xfec00000, 0x10 + 2 * pin);
        w32(0xfec00010, mostly((0x30 + rnd_below(0xc0)) | rnd_below(2) << 15 | rnd_below(2) << 16 | rnd_below(2) << 13));
        break;
    case 1: w32(0xfec00000, 0x11 + 2 * pin), w32(0xfec00010, mostly(rnd_below(2) << 24)); break;
    case 2:
        outb(0x20, 0x11), outb(0x21, (u8)mostly(0x40)), outb(0x21, 4), outb(0x21, (u8)mostly(1));
        outb(0xa0, 0x11), outb(0xa1, (u8)mostly(0x48)), outb(0xa1, 2), outb(0xa1, (u8)mostly(1));
        break;
    case 3: outb(0x21, (u8)value()), outb(0xa1, (u8)value()); break;
    case 4: w32(0xfee00000 + (u32[]){ 0xf0, 0x80, 0xb0, 0x350, 0x360, 0x370, 0xd0, 0xe0 }[rnd_below(8)], mostly(0x1ff)); break;
    default:
        __asm__ volatile("sti");
        for (u32 i = rnd_below(100); i; i--)
            __asm__ volatile("pause");
        __asm__ volatile("cli");
    }
}

/* Flash, where a firmware brought one; else nobody. */
static void flash(void)
{
    const u64 at = 0xff800000 + (rnd_below(2) ? rnd_below(0x800000) : 0x700000 + rnd_below(0xf0000));
    w8(at, PICK(0x10, 0x40, 0x20, 0xe8, 0x50, 0x60, 0x70, 0x90, 0x98, 0xb0, 0xd0, 0xff));
    for (u32 i = rnd_below(70); i; i--)
        w8(at + rnd_below(64), mostly(PICK(0xd0, 0x0f, 0xff)));
    (void)r32(at & ~3u);
}

/* All that leads back to the start, or to the end. */
static void reset(void)
{
    switch (rnd_below(8)) {
    case 0: outb(0x64, 0xfe); break;
    case 1: outb(0x92, 1); break;
    case 2: outb(0xcf9, 2), outb(0xcf9, 6); break;
    case 3: outb(0xcf9, 0xe); break;
    case 4: outb(0x64, 0xd1), outb(0x60, (u8)value() & ~1); break;
    case 5: outb(0x600, (u8)value()), outb(0x601, (u8)value()); break;
    case 6: *(volatile u32 *)0xfee00300 = (u32)mostly(0xc4500); break;
    default: outw(0x604, (u16)value()); break;
    }
}

#endif
