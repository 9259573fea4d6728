/* SPDX-License-Identifier: Apache-2.0 */
/* uhci.h - the USB controller: frame lists, queues and transfer descriptors for what is plugged in. */
#ifndef DEVICES_UHCI_H
#define DEVICES_UHCI_H

#include "devices/pci.h"

static void uhci(void)
{
    const struct function *f = function(0x0c03);
    if (!f)
        return;
    const u32 io = (u32)f->bar[4];
    const u64 list = pool_at(4096), tds = pool_at(16), setup = pool_at(1);
    static const u8 requests[][8] = { { 0x80, 6, 0, 1, 0, 0, 64, 0 }, { 0x80, 6, 0, 2, 0, 0, 255, 0 }, { 0, 5, 1, 0, 0, 0, 0, 0 },
                                      { 0, 9, 1, 0, 0, 0, 0, 0 }, { 0x81, 6, 0, 0x22, 0, 0, 255, 0 }, { 0x21, 10, 0, 0, 0, 0, 0, 0 },
                                      { 0xa1, 1, 0, 1, 0, 0, 8, 0 } };
    const u32 which = (u32)rnd_below(ARRAY_SIZE(requests));
    for (u32 i = 0; i < 8; i++)
        w8(setup + i, mostly(requests[which][i]));
    for (u32 i = 0; i < 6; i++) { /* SETUP, then data and status either way */
        const u64 td = tds + 32 * i;
        const u32 pid = i ? rnd_below(2) ? 0x69 : 0xe1 : 0x2d, length = i ? (u32)rnd_below(64) : 7;
        w32(td, mostly(i == 5 ? 1 : (td + 32) | 4));
        w32(td + 4, mostly(1u << 23 | 3u << 27 | (u32)rnd_below(2) << 24));
        w32(td + 8, mostly(pid | (u32)rnd_below(3) << 8 | (u32)rnd_below(2) << 15 | length << 21));
        w32(td + 12, mostly(i ? pool_at(1) : setup));
    }
    w32(tds + 256, mostly(1)), w32(tds + 260, mostly(tds)); /* a queue head */
    for (u32 i = 0; i < 1024; i += 1 + (u32)rnd_below(64))
        w32(list + 4 * i, mostly(rnd_below(2) ? tds : (tds + 256) | 2));
    w32(list, tds);
    if (!rnd_below(20))
        outw((u16)io, (u16)PICK(2, 4, 0));
    outw((u16)(io + 4), (u16)value());
    outw((u16)(io + 6), (u16)mostly(0));
    outl((u16)(io + 8), (u32)mostly(list));
    if (!rnd_below(3)) {
        outw((u16)(io + 16), (u16)mostly(0x200));
        outw((u16)(io + 16), (u16)mostly(4));
    }
    outw((u16)io, (u16)mostly(0xc1));
    for (u32 i = rnd_below(10); i; i--)
        (void)inw((u16)(io + 2 * rnd_below(10)));
    outw((u16)(io + 2), 0xff);
}

#endif
