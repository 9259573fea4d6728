/* SPDX-License-Identifier: Apache-2.0 */
/* others.h - what is plugged in by its name: the watchdog i6300esb, pvpanic. */
#ifndef DEVICES_OTHERS_H
#define DEVICES_OTHERS_H

#include "devices/pci.h"

/* What is plugged in by its name: the watchdog is started and fed, seldom in time; a crash is announced. */
static void others(void)
{
    if (rnd_below(2)) {
        outb(0x505, (u8)value());
        (void)inb(0x505);
    }
    for (u32 i = 0; i < nfunctions; i++) {
        const struct function *f = &functions[i];
        if (f->class != 0x0880)
            continue;
        repair(f);
        if (f->id != 0x25ab8086) {
            w8(f->bar[0], value());
            (void)r8(f->bar[0]);
            continue;
        }
        const u64 reg = f->bar[0] + 4 * rnd_below(4);
        config_write(f->devfn, 0x60, (u32)mostly(rnd_below(4) | rnd_below(2) << 2));
        w16(f->bar[0] + 12, mostly(0x80)), w16(f->bar[0] + 12, mostly(0x86));
        w32(reg, mostly(reg == f->bar[0] + 12 ? (u64)PICK(1, 2, 3) << 8 : rnd_below(64)));
        config_write(f->devfn, 0x68, (u32)mostly(PICK(2, 6, 0)));
        (void)r32(reg);
    }
}

#endif
