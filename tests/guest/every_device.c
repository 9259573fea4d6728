/* SPDX-License-Identifier: Apache-2.0 */
/*
 * every_device.c - a hostile guest with a driver of sorts for every device: it starts what each can do, mostly as it is meant
 * to be started, with descriptors that lie in memory and are mostly right, so that DMA runs; and in between it hammers all
 * registers with random values. It resets the machine now and then, and goes on after that (what it has to know lies where
 * nothing is loaded), takes interrupts for a while, closes the A20 gate (it lies in an even megabyte).
 *
 * By its command line: seed=, rounds=. Like fuzz.c it may die of what it does; the VMM may not.
 */
#include "lib/hammer.h"

const char guest_name[] = "every_device";

/* What runs past the end of the pool does not meet the guest. */
enum { POOL = 60 << 20, POOL_SIZE = 1 << 20, KEEP = 46 << 20, MAGIC = 0x6b656570, MAX_RESETS = 200 };

/* Outlives a reset. */
static volatile struct { u32 magic, resets; u64 state, left, check; } *const keep = (void *)KEEP;

static int big;

/* ---- words of the recipes ---- */

static u64 mostly(u64 right) { return rnd_below(12) ? right : value(); }
static u32 r8(u64 a) { return *(volatile u8 *)a; }
static u32 r16(u64 a) { return *(volatile u16 *)a; }
static u32 r32(u64 a) { return *(volatile u32 *)a; }
static void w8(u64 a, u64 v) { *(volatile u8 *)a = (u8)v; }
static void w16(u64 a, u64 v) { *(volatile u16 *)a = (u16)v; }
static void w32(u64 a, u64 v) { *(volatile u32 *)a = (u32)v; }
static void w64(u64 a, u64 v) { *(volatile u64 *)a = v; }
static u8 pick(const u8 *from, u32 n) { return (u8)mostly(from[rnd_below(n)]); }
#define PICK(...) ({ static const u8 from_[] = { __VA_ARGS__ }; pick(from_, sizeof(from_)); })

static void fill(u64 at, u32 words)
{
    while (words--)
        w32(at += 4, value());
}

/* ---- PCI ---- */

static struct function { u32 devfn, id, class; u64 bar[6]; u32 config[16]; u32 virtio; } functions[32];
static u32 nfunctions;

static u32 config_read(u32 devfn, u32 at)
{
    outl(0xcf8, 0x80000000 | devfn << 8 | (at & 0xfc));
    return inl(0xcfc);
}

static void config_write(u32 devfn, u32 at, u32 v)
{
    outl(0xcf8, 0x80000000 | devfn << 8 | (at & 0xfc));
    outl(0xcfc, v);
}

static u32 io_next = 0xc000;
static u64 mem_next = 0xc0000000;

/* Without firmware Lodge has placed the BARs. */
static void place_bar(u32 devfn, u32 at)
{
    const u32 old = config_read(devfn, at);
    config_write(devfn, at, ~0u);
    const u32 mask = config_read(devfn, at), size = mask & 1 ? -(mask & 0xfffc) & 0xffff : -(mask & ~0xfu);
    config_write(devfn, at, old);
    if (!mask || !size || old & ~0xfu)
        return;
    if (mask & 1) {
        io_next = (io_next + size - 1) & -size;
        config_write(devfn, at, io_next);
        io_next += size;
    } else {
        mem_next = (mem_next + size - 1) & -(u64)size;
        config_write(devfn, at, (u32)mem_next);
        mem_next += size;
    }
}

static void find_functions(void)
{
    for (u32 devfn = 0; devfn < 256 && nfunctions < ARRAY_SIZE(functions); devfn++) {
        struct function *f = &functions[nfunctions];
        if ((f->id = config_read(devfn, 0)) == ~0u)
            continue;
        nfunctions++;
        f->devfn = devfn;
        f->class = config_read(devfn, 8) >> 16;
        for (u32 i = 0; i < 6; i++) {
            place_bar(devfn, 0x10 + 4 * i);
            const u32 low = config_read(devfn, 0x10 + 4 * i);
            f->bar[i] = low & 1 ? low & 0xfffc : low & ~0xfu;
            if ((low & 7) == 4 && i < 5) {
                i++;
                f->bar[i - 1] |= (u64)config_read(devfn, 0x10 + 4 * i) << 32;
            }
        }
        config_write(devfn, 4, 7);
        for (u32 i = 0; i < 16; i++)
            f->config[i] = config_read(devfn, 4 * i);
    }
}

/* Now and then put back where it was, or left where random writes have it. */
static void repair(const struct function *f)
{
    if (rnd_below(12))
        return;
    for (u32 i = 4; i < 10; i++)
        config_write(f->devfn, 4 * i, f->config[i]);
    config_write(f->devfn, 4, rnd_below(8) ? 7 : 0x407);
}

static const struct function *function(u32 class)
{
    for (u32 i = 0; i < nfunctions; i++)
        if (functions[i].class == class) {
            repair(&functions[i]);
            return &functions[i];
        }
    return NULL;
}

static void pci(void)
{
    if (!nfunctions)
        return;
    const struct function *f = &functions[rnd_below(nfunctions)];
    const u32 at = (u32)rnd_below(rnd_below(4) ? 64 : 256), v = (u32)value();
    switch (rnd_below(6)) {
    case 0: (void)config_read(f->devfn, at); break;
    case 1: config_write(f->devfn, at, v); break;
    case 2: w32(0xe0000000 + (f->devfn << 12) + (at & ~3u), v); break;
    case 3: w8(0xe0000000 + (f->devfn << 12) + at, v); break;
    case 4: config_write(f->devfn, at, ~0u), (void)config_read(f->devfn, at); break;
    default: repair(f);
    }
}

/* ---- IDE and AHCI ---- */

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

/* ---- the floppy controller, with DMA ---- */

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

/* ---- e1000 ---- */

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

/* ---- USB ---- */

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

/* ---- virtio, by PCI and by MMIO ---- */

struct virtio { u64 common, notify, config, isr, mmio; u32 step, type; };
static struct virtio virtios[24];
static u32 nvirtio;

static void find_virtio(void)
{
    for (u32 k = 0; k < nfunctions; k++) {
        struct function *f = &functions[k];
        if ((f->id & 0xffff) != 0x1af4 || nvirtio == ARRAY_SIZE(virtios))
            continue;
        struct virtio *v = &virtios[nvirtio];
        v->type = (f->id >> 16) - 0x1040;
        for (u32 at = config_read(f->devfn, 0x34) & 0xfc, n = 0; at && n < 20; at = config_read(f->devfn, at) >> 8 & 0xfc, n++) {
            const u32 head = config_read(f->devfn, at), bar = config_read(f->devfn, at + 4) & 0xff;
            if ((head & 0xff) != 9 || bar > 5)
                continue;
            const u64 address = f->bar[bar] + config_read(f->devfn, at + 8);
            switch (head >> 24) {
            case 1: v->common = address; break;
            case 2: v->notify = address, v->step = config_read(f->devfn, at + 16); break;
            case 3: v->isr = address; break;
            case 4: v->config = address; break;
            }
        }
        if (!v->common || (v->common >> 32 && !big))
            continue;
        f->virtio = ++nvirtio;
    }
    for (u64 at = 0xc0000000; !nfunctions && r32(at) == 0x74726976 && nvirtio < ARRAY_SIZE(virtios); at += 4096) {
        virtios[nvirtio].mmio = at;
        virtios[nvirtio].config = at + 0x100;
        virtios[nvirtio++].type = r32(at + 8);
    }
}

static void virtio_status(const struct virtio *v, u64 s)
{
    if (v->mmio)
        w32(v->mmio + 0x70, s & 0xff);
    else
        w8(v->common + 0x14, s);
}

/* By its address in the common configuration; MMIO has it elsewhere, in 32 bits. */
static void virtio_put(const struct virtio *v, u32 pci, u32 mmio, u32 size, u64 x)
{
    if (v->mmio) {
        w32(v->mmio + mmio, x);
        if (size == 8)
            w32(v->mmio + mmio + 4, x >> 32);
    } else if (size == 8) {
        w32(v->common + pci, x), w32(v->common + pci + 4, x >> 32);
    } else if (size == 4) {
        w32(v->common + pci, x);
    } else {
        w16(v->common + pci, x);
    }
}

static u32 virtio_features(const struct virtio *v, u32 half)
{
    virtio_put(v, 0, 0x14, 4, half);
    return v->mmio ? r32(v->mmio + 0x10) : r32(v->common + 4);
}

/* What a request of this kind of device begins with. */
static void virtio_request(const struct virtio *v, u64 at)
{
    fill(at, 16);
    switch (v->type) {
    case 1: fill(at, 3), frame(at + 12); break;
    case 2: w32(at, PICK(0, 1, 4, 8, 11, 13)), w64(at + 8, mostly(rnd_below(2048))); break;
    case 3: w32(at, rnd_below(3)), w16(at + 4, rnd_below(9)), w16(at + 6, rnd_below(2)); break;
    case 19:
        w64(at, mostly(3)), w64(at + 8, mostly(2)), w32(at + 16, value()), w32(at + 20, mostly(1 + rnd_below(4)));
        w32(at + 24, mostly(rnd_below(20))), w16(at + 28, mostly(1)), w16(at + 30, mostly(1 + rnd_below(7)));
        break;
    case 26:
        w32(at, mostly(40 + rnd_below(60))), w32(at + 4, PICK(26, 26, 1, 3, 4, 14, 15, 16, 17, 18, 20, 22, 27, 28, 29, 34, 35, 38, 44));
        w64(at + 16, mostly(1 + rnd_below(4))), w32(at + 40, mostly(7)), w32(at + 44, mostly(31)), w64(at + 48, mostly('a'));
        break;
    }
}

static void virtio(void)
{
    if (!nvirtio)
        return;
    const u32 which = (u32)rnd_below(nvirtio);
    const struct virtio *v = &virtios[which];
    static struct queue { u64 desc, avail, used; u32 size, packed; } queues[ARRAY_SIZE(virtios)][8];
    for (u32 k = 0; k < nfunctions; k++)
        if (functions[k].virtio == which + 1)
            repair(&functions[k]);
    if (!rnd_below(6)) { /* again from the start */
        virtio_status(v, 0);
        virtio_status(v, mostly(3));
        u32 packed = 0;
        for (u32 half = 0; half < 2; half++) {
            u32 wanted = virtio_features(v, half) & (rnd_below(2) ? ~0u : (u32)rnd());
            if (half)
                wanted |= 1, packed = wanted >> 2 & 1; /* VERSION_1, RING_PACKED */
            virtio_put(v, 8, 0x24, 4, half);
            virtio_put(v, 12, 0x20, 4, mostly(wanted));
        }
        virtio_status(v, mostly(11));
        virtio_put(v, 16, 0x60, 2, mostly(0xffff));
        for (u32 q = 0; q < 8; q++) {
            struct queue *u = &queues[which][q];
            *u = (struct queue){ pool_at(16), pool_at(16), pool_at(16), 4u << rnd_below(6), packed };
            virtio_put(v, 0x16, 0x30, 2, mostly(q));
            virtio_put(v, 0x18, 0x38, 2, mostly(u->size));
            virtio_put(v, 0x20, 0x80, 8, mostly(u->desc));
            virtio_put(v, 0x28, 0x90, 8, mostly(u->avail));
            virtio_put(v, 0x30, 0xa0, 8, mostly(u->used));
            virtio_put(v, 0x1a, 0x60, 2, mostly(rnd_below(2) ? q : 0xffff));
            w32(u->avail, 0);
            virtio_put(v, 0x1c, 0x44, 2, mostly(1));
        }
        virtio_status(v, mostly(15));
        return;
    }
    const u32 q = (u32)rnd_below(rnd_below(3) ? 3 : 8);
    const struct queue *u = &queues[which][q];
    if (u->size) {
        u32 at = (u32)rnd_below(u->size), n = 1 + (u32)rnd_below(5);
        const u32 first = at, out = (u32)rnd_below(n + 1);
        for (u32 i = 0; i < n; i++, at = (at + 1) % u->size) {
            const u64 buffer = pool_at(1), d = u->desc + 16 * at, last = i + 1 == n;
            if (!i)
                virtio_request(v, buffer);
            u32 flags = (u32)mostly((last ? 0 : 1) | (i >= out ? 2 : 0) | (rnd_below(10) ? 0 : 4)) & 0xffff;
            w64(d, mostly(buffer));
            w32(d + 8, mostly(i ? rnd_below(5000) : PICK(16, 44, 80, 4, 12, 8)));
            if (u->packed)
                w16(d + 12, value()), w16(d + 14, (flags & ~0x8080u) | (rnd_below(2) ? 0x80 : 0x8000));
            else
                w16(d + 12, flags), w16(d + 14, mostly((at + 1) % u->size));
        }
        if (!u->packed) {
            const u32 index = r16(u->avail + 2);
            w16(u->avail + 4 + 2 * (index % u->size), mostly(first));
            w16(u->avail, mostly(0));
            w16(u->avail + 2, mostly(index + 1));
        }
    }
    if (v->mmio)
        w32(v->mmio + 0x50, mostly(q));
    else
        w16(v->notify + q * v->step, mostly(q));
    if (v->config && !rnd_below(8))
        w32(v->config + 4 * rnd_below(8), value()), (void)r32(v->config + 4 * rnd_below(8));
    (void)(v->mmio ? r32(v->mmio + 0x60) : r8(v->isr));
    if (v->mmio)
        w32(v->mmio + 0x64, 3);
}

/* ---- the screen ---- */

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

/* ---- the small ones ---- */

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

/* ---- */

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

static void (*const recipes[])(void) = { ide, ahci, fdc, e1000, uhci, others, virtio, virtio, virtio, vga, fw_cfg, pm, keyboard, timers,
                                         interrupts, pci, flash };

static void *loop[5];
static u64 spare_stack[512];

static void leave(void) { __builtin_longjmp(loop, 1); }

/*
 * An interrupt controller may have been told any vector. What looks like an exception outside a TRY is the end of what we
 * were at; the frame may lack an error code, but nothing of it is used.
 */
static int on_any(struct frame *f)
{
    if (f->vector < 32 && f->vector != 2) {
        if (try_interrupt(f))
            return 1;
        f->ip = (u64)leave;
        f->cs = 0x18;
        f->ss = 0x10;
        f->sp = (u64)&spare_stack[511];
        f->flags = 2;
        return 1;
    }
    if (rnd_below(8))
        *(volatile u32 *)0xfee000b0 = 0;
    if (rnd_below(4))
        outb(0x20, 0x20), outb(0xa0, 0x20);
    if (!rnd_below(8)) /* a line that stays up would never let us go on */
        f->flags &= ~0x200ul;
    return 1;
}

/* The second CPU, where there is one: what it reaches it reaches as it comes. */
void ap_main(void)
{
    for (;;) {
        port();
        (void)r32(some_address(0) & ~3ull);
        w32(some_address(0) & ~3ull, value());
        for (u32 i = rnd_below(200); i; i--)
            __asm__ volatile("pause");
    }
}

static void start_second(void)
{
    extern char trampoline[], trampoline_end[];
    u8 *low = (u8 *)0x8000;
    for (char *p = trampoline; p < trampoline_end; p++)
        *low++ = (u8)*p;
    w32(0xfee000f0, 0x1ff);
    w32(0xfee00300, 0xc4500); /* INIT and SIPI to all others */
    w32(0xfee00300, 0xc4608);
}

static void remember(void)
{
    keep->state = state;
    keep->check = state ^ keep->left ^ MAGIC;
    keep->magic = MAGIC;
}

int main(void)
{
    const int again = keep->magic == MAGIC && keep->check == (keep->state ^ keep->left ^ MAGIC);
    if (again) {
        state = keep->state ^ ++keep->resets << 20; /* not the same once more */
    } else {
        state = number("seed", 1) * 0x9e3779b97f4a7c15ull + 0x1234567;
        keep->left = number("rounds", 100000);
        keep->resets = 0;
    }
    remember();
    on_interrupt = on_any;
    pool = POOL;
    pool_size = POOL_SIZE;
    big = map_big();
    find_functions();
    find_virtio();
    find_bars();
    if (!again) {
        every_port(1);
        for (u64 at = POOL; at < POOL + POOL_SIZE; at += 8)
            w64(at, rnd() >> (at & 63));
    }
    mercy = 5000;
    start_second();
    __builtin_setjmp(loop);
    while (keep->left && keep->resets < MAX_RESETS) {
        keep->left--;
        remember();
        if (rnd_below(3))
            hammer(big);
        else
            recipes[rnd_below(ARRAY_SIZE(recipes))]();
        if (!rnd_below(20000))
            reset();
    }
    outb(0x3fb, 3); /* the serial port may have been left in any state */
    outb(0x3fc, 3);
    outb(0x3f9, 0);
    outb(0x3fa, 0);
    print("\nresets ");
    print_hex(keep->resets);
    print(", rounds left ");
    print_hex(keep->left);
    print("\n");
    return 0;
}
