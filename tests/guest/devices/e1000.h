/* SPDX-License-Identifier: Apache-2.0 */
/* e1000.h - the network card e1000: its rings, offloads, and frames that somebody takes an interest in. */
#ifndef DEVICES_E1000_H
#define DEVICES_E1000_H

#include "devices/pci.h"

static u8 own_mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

/* Something that a switch, DHCP or a checksum engine takes an interest in. */
static void frame(u64 at)
{
    static const u8 ip[] = { 8, 0, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2, 0, 68, 0, 67, 0, 40, 0, 0 };
    static const u8 arp[] = { 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2 };
    const u8 *const from = rnd_below(2) ? ip : arp;
    for (u32 i = 0; i < 6; i++)
        w8(at + i, mostly(0xff)), w8(at + 6 + i, mostly(own_mac[i]));
    for (u32 i = 0; i < sizeof(ip); i++)
        w8(at + 12 + i, mostly(from[i]));
}

static void e1000(void)
{
    const struct function *f = function(0x0200);
    enum { RING = 16 };
    if (!f || f->id >> 16 != 0x100e)
        return;
    const u64 reg = f->bar[0], tx = pool_at(16), rx = pool_at(16);
    if (!rnd_below(30))
        w32(reg, 1u << 26);
    if (!rnd_below(4))
        w32(reg + 0x14, mostly(1 | rnd_below(64) << 8)), (void)r32(reg + 0x14);
    if (!rnd_below(4))
        w32(reg + 0x20, mostly(1u << 21 | rnd_below(4) << 26 | rnd_below(32) << 16)), (void)r32(reg + 0x20);
    if (rnd_below(2)) {
        w32(reg + 0x3800, mostly(tx)), w32(reg + 0x3804, 0), w32(reg + 0x3808, mostly(RING * 16));
        w32(reg + 0x3810, 0), w32(reg + 0x3818, 0);
        w32(reg + 0x2800, mostly(rx)), w32(reg + 0x2804, 0), w32(reg + 0x2808, mostly(RING * 16));
        w32(reg + 0x2810, 0), w32(reg + 0x2818, mostly(RING - 1));
        for (u32 i = 0; i < RING; i++)
            w64(rx + 16 * i, mostly(pool_at(1)));
        w32(reg + 0x100, mostly(2 | rnd() << 2)), w32(reg + 0x400, mostly(2 | rnd_below(2) << 3));
        w32(reg + 0xd0, value()), w32(reg + 0xc4, value());
    }
    const u64 ring = r32(reg + 0x3800);
    u32 tail = r32(reg + 0x3818);
    for (u32 n = (u32)rnd_below(8); n && ring >= POOL && ring < POOL + POOL_SIZE; n--, tail = (tail + 1) % RING) {
        const u64 at = ring + 16 * (tail % RING), buffer = pool_at(1);
        frame(buffer);
        w64(at, mostly(buffer));
        switch (rnd_below(4)) {
        case 0: /* context */
            w64(at, mostly(14 | 24ull << 8 | 33ull << 16 | 34ull << 32 | 50ull << 40));
            w64(at + 8, mostly(1ull << 29 | rnd_below(16) << 24 | rnd_below(3000) | (54 | rnd_below(1500) << 16) << 40));
            break;
        case 1: /* data */
            w64(at + 8, mostly(1ull << 29 | 1ull << 20 | (rnd() & 0xcf000000) | rnd_below(4000) | rnd_below(4) << 40));
            break;
        default:
            w64(at + 8, mostly(rnd_below(1600) | (rnd() & 0xcf000000) | 3ull << 24));
        }
    }
    w32(reg + 0x3818, mostly(tail));
    w32(reg + 0x2818, mostly(rnd_below(RING)));
    (void)r32(reg + 0xc0);
}

#endif
