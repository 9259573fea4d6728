/* SPDX-License-Identifier: Apache-2.0 */
/* ata.h - disks and CD drives on IDE and AHCI: commands and packets, by PRDTs, command lists and port I/O. */
#ifndef DEVICES_ATA_H
#define DEVICES_ATA_H

#include "devices/pci.h"

static u8 ata_command(void)
{
    return PICK(0x20, 0x24, 0x25, 0xc8, 0x30, 0x34, 0x35, 0xca, 0xc4, 0xc5, 0x29, 0x39, 0xc6, 0x40, 0x42, 0x06, 0xa0, 0xa0, 0xa0,
                0xa1, 0xec, 0xef, 0xe7, 0xea, 0x91, 0x10, 0x70, 0x27, 0xf8, 0x37, 0xf9, 0x08, 0x90, 0xe0, 0xe1, 0xe2, 0xe5, 0xe6,
                0xb0, 0x2f, 0xda, 0xb1, 0x00);
}

static void packet(u64 at)
{
    for (u32 i = 0; i < 16; i += 4)
        w32(at + i, 0);
    w8(at, PICK(0x28, 0x28, 0xa8, 0xbe, 0xb9, 0x12, 0x03, 0x43, 0x5a, 0x1b, 0x1e, 0x4a, 0x51, 0x46, 0x25, 0xbd, 0x2b, 0x35, 0x52,
                    0xad, 0x23, 0x55, 0x00, 0x42, 0x4b, 0xbb));
    w8(at + 1, mostly(0));
    w16(at + 4, value());
    w16(at + 7, mostly(rnd_below(16) << 8));
    w8(at + 9, mostly(0xf8));
}

/* Entries of 8 bytes: where, and how much. */
static u64 prdt(void)
{
    const u64 at = pool_at(rnd_below(16) ? 4 : 1);
    const u32 n = (u32)rnd_below(8) + 1;
    for (u32 i = 0; i < n; i++) {
        w32(at + 8 * i, mostly(pool_at(2)));
        w32(at + 8 * i + 4, mostly(rnd_below(128) * 512) | (i + 1 == n && rnd_below(8) ? 1u << 31 : 0));
    }
    return at;
}

static void ide(void)
{
    const struct function *f = function(0x0101);
    const u32 second = (u32)rnd_below(2), base = second ? 0x170 : 0x1f0, control = second ? 0x376 : 0x3f6;
    const u32 bm = f ? (u32)f->bar[4] + 8 * second : 0;
    const u8 command = ata_command();
    u32 n = rnd_below(4) ? (u32)rnd_below(20) : (u32)rnd_below(4) * 256;
    void *buf = (void *)pool_at(2);
    if (!rnd_below(20))
        outb((u16)control, (u8)PICK(0, 2, 4, 6, 0x80));
    outb((u16)(base + 6), (u8)mostly(0xa0 | rnd_below(2) << 4 | rnd_below(2) << 6));
    if (rnd_below(2))
        for (u32 i = 1; i < 6; i++)
            outb((u16)(base + i), (u8)mostly(0));
    outb((u16)(base + 1), (u8)mostly(command == 0xef ? PICK(2, 3, 0x82, 0xaa, 0x55, 5) : rnd_below(2)));
    outb((u16)(base + 2), (u8)mostly(command == 0xef ? PICK(8, 0xc, 0x22, 0x42, 0x45) : 1 + rnd_below(20)));
    outb((u16)(base + 3), (u8)value());
    outb((u16)(base + 4), (u8)mostly(command == 0xa0 ? rnd() : rnd_below(3)));
    outb((u16)(base + 5), (u8)mostly(command == 0xa0 ? rnd() & 0xff : 0));
    if (bm) {
        outb((u16)(bm + 2), (u8)mostly(6));
        outl((u16)(bm + 4), (u32)mostly(prdt()));
    }
    outb((u16)(base + 7), command);
    if (bm && rnd_below(3))
        outb((u16)bm, (u8)mostly(1 | rnd_below(2) << 3));
    for (u32 i = rnd_below(30); i; i--)
        (void)inb((u16)(base + 7));
    if (command == 0xa0) {
        packet((u64)buf);
        u32 words = 6;
        void *b = buf;
        __asm__ volatile("rep outsw" : "+S"(b), "+c"(words) : "d"(base) : "memory");
        for (u32 i = rnd_below(30); i; i--)
            (void)inb((u16)(base + 7));
    }
    if (rnd_below(2))
        __asm__ volatile("rep insw" : "+D"(buf), "+c"(n) : "d"(base) : "memory");
    else
        __asm__ volatile("rep outsw" : "+S"(buf), "+c"(n) : "d"(base) : "memory");
    if (bm && rnd_below(3))
        outb((u16)bm, 0);
    for (u32 i = rnd_below(8); i; i--)
        (void)inb((u16)(rnd_below(2) ? base + 7 : bm + 2));
}

static void ahci(void)
{
    const struct function *f = function(0x0106);
    if (!f)
        return;
    const u64 abar = f->bar[5], port = abar + 0x100 + 0x80 * rnd_below(4), list = pool_at(1024), fis = pool_at(256);
    w32(abar + 4, mostly(0x80000002) & (rnd_below(40) ? ~1u : ~0u));
    if (!rnd_below(6))
        w32(port + 0x18, value());
    if (!rnd_below(12))
        w32(port + 0x2c, mostly(0x301)), w32(port + 0x2c, 0x300);
    if (rnd_below(3)) {
        w32(port + 0x18, 6 & mostly(0));
        w32(port, mostly(list)), w32(port + 4, mostly(0));
        w32(port + 8, mostly(fis)), w32(port + 12, mostly(0));
        w32(port + 0x30, ~0u);
        w32(port + 0x14, value());
        w32(port + 0x18, mostly(0x11) | 0x10);
        w32(port + 0x18, mostly(0x11));
    }
    const u32 slots = (u32)value() | 1u << rnd_below(32);
    const u64 clb = r32(port);
    for (u32 slot = 0; slot < 32; slot++) {
        if (!(slots & 1u << slot) || clb < POOL || clb >= POOL + POOL_SIZE)
            continue;
        const u64 table = pool_at(128), head = clb + 32 * slot;
        const u32 n = (u32)rnd_below(6);
        const u8 command = ata_command();
        w32(head, mostly(5 | (command == 0xa0) << 5 | rnd_below(2) << 6) | n << 16);
        w32(head + 4, 0);
        w64(head + 8, mostly(table));
        w32(table, mostly(0x8027) | (u32)command << 16 | (u32)mostly(command == 0xa0) << 24);
        w32(table + 4, mostly(0xe0000000 | rnd_below(2000)));
        w32(table + 8, mostly(0));
        w32(table + 12, mostly(1 + rnd_below(64)));
        packet(table + 0x40);
        for (u32 i = 0; i < n; i++) {
            w64(table + 0x80 + 16 * i, mostly(pool_at(2)));
            w32(table + 0x80 + 16 * i + 12, mostly(rnd_below(64) * 512 + 511) | (u32)rnd_below(2) << 31);
        }
    }
    w32(port + 0x38, slots);
    if (!rnd_below(4))
        w32(port + 0x34, slots);
    for (u32 i = rnd_below(20); i; i--)
        (void)r32(port + 4 * rnd_below(16));
    w32(port + 0x10, value());
    w32(abar + 8, ~0u);
}

#endif
