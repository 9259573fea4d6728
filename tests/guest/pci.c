/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.c - the PCI bus and a virtio entropy device on it (--rng), with no system's help: configuration space by CF8h and
 * by ECAM, BARs sized and moved, and the device's interrupt by MSI-X, masked and pending, by INTx through the I/O APIC and
 * through the 8259As.
 */
#include "lib/guest.h"

const char guest_name[] = "pci";

#define ECAM 0xe0000000ull
#define TABLE 0xd0000000ull
#define REGS 0xd1000000ull
enum { VECTOR_MSIX = 0x50, VECTOR_IOAPIC = 0x51, VECTOR_PIC = 0x2a }; /* IRQ 10 */

static volatile u32 hits[256];
static volatile u8 *isr;
static u32 devfn;

static int on_irq(struct frame *f)
{
    if (f->vector < 0x20)
        return try_interrupt(f);
    hits[f->vector]++;
    if (isr)
        (void)*isr; /* takes the line down */
    if (f->vector == VECTOR_PIC)
        outb(0xa0, 0x20), outb(0x20, 0x20);
    else
        *(volatile u32 *)0xfee000b0ull = 0;
    return 1;
}

static u32 cf8(u32 fn, u32 at)
{
    outl(0xcf8, 0x80000000 | fn << 8 | (at & 0xfc));
    return inl(0xcfc);
}
static volatile void *ecam(u32 fn, u32 at) { return (volatile void *)(ECAM + ((u64)fn << 12) + at); }
static u32 get(u32 at) { return *(volatile u32 *)ecam(devfn, at); }
static u8 get8(u32 at) { return *(volatile u8 *)ecam(devfn, at); }
static void put(u32 at, u32 v) { *(volatile u32 *)ecam(devfn, at) = v; }
static void put16(u32 at, u16 v) { *(volatile u16 *)ecam(devfn, at) = v; }

static u32 capability(u8 id, u8 type)
{
    for (u32 at = get8(0x34); at; at = get8(at + 1))
        if (get8(at) == id && (id != 9 || get8(at + 3) == type))
            return at;
    return 0;
}

/* A driver of one buffer: VIRTIO 1.2, 4.1.4.3 and 2.7. */
static struct {
    struct { u64 addr; u32 len; u16 flags, next; } desc[8];
    u16 avail_flags, avail_idx, avail[8], event;
    u16 used_flags __attribute__((aligned(4))), used_idx;
    struct { u32 id, len; } used[8];
} ring __attribute__((aligned(16)));
static u8 random[64];
static volatile u16 *doorbell;

static void set_up(volatile u8 *common)
{
    volatile u8 *status = common + 20;

    *status = 0;
    *status = 3;
    *(volatile u32 *)(common + 8) = 1, *(volatile u32 *)(common + 12) = 1; /* VERSION_1 */
    *status = 0xb;
    CHECK("features", *status, 0xb);
    *(volatile u16 *)(common + 22) = 0;
    *(volatile u16 *)(common + 24) = 8;
    *(volatile u16 *)(common + 26) = 0; /* MSI-X entry 0 */
    CHECK("queue's vector", *(volatile u16 *)(common + 26), 0);
    *(volatile u32 *)(common + 32) = (u32)(word)ring.desc, *(volatile u32 *)(common + 36) = 0;
    *(volatile u32 *)(common + 40) = (u32)(word)&ring.avail_flags, *(volatile u32 *)(common + 44) = 0;
    *(volatile u32 *)(common + 48) = (u32)(word)&ring.used_flags, *(volatile u32 *)(common + 52) = 0;
    *(volatile u16 *)(common + 28) = 1;
    *status = 0xf;
}

/* Asks for random bytes; returns when they are there, interrupt or not. */
static void request(void)
{
    u16 next = (u16)(ring.avail_idx + 1);

    ring.desc[0].addr = (u64)(word)random;
    ring.desc[0].len = sizeof random;
    ring.desc[0].flags = 2; /* device writes */
    ring.avail[ring.avail_idx % 8] = 0;
    barrier();
    *(volatile u16 *)&ring.avail_idx = next;
    *doorbell = 0;
    while (*(volatile u16 *)&ring.used_idx != next)
        ;
}

/* Until the vector has been seen n times; the answer to a request may be there before its interrupt. */
static void wait_for(u32 vector, u32 n)
{
    while (hits[vector] < n)
        __asm__ volatile("sti; nop; cli");
    CHECK("interrupts", hits[vector], n);
}

static void configuration_space(void)
{
    u32 found = 0;

    for (u32 fn = 0; fn < 256; fn++) {
        u32 id = cf8(fn, 0);
        if (id == 0xffffffff)
            continue;
        found++;
        if (id == 0x10441af4)
            devfn = fn;
        for (u32 at = 0; at < 256; at += 4)
            CHECK("ECAM as CF8h", *(volatile u32 *)ecam(fn, at), cf8(fn, at));
        outl(0xcf8, 0x80000000 | fn << 8);
        CHECK("bytes", inb(0xcfd) | inb(0xcff) << 8, (id >> 8 & 0xff) | id >> 24 << 8);
        CHECK("an unaligned word", inw(0xcfd), id >> 8 & 0xffff);
    }
    CHECK("functions", found, 4);
    CHECK("host bridge", cf8(0, 0), 0x12378086);
    CHECK("ISA bridge", cf8(8, 0), 0x70008086);
    CHECK("power management", cf8(11, 0), 0x71138086);
}

int main(void)
{
    on_interrupt = on_irq;
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1);
    outb(0x21, 0xff), outb(0xa1, 0xff);
    *(volatile u32 *)0xfee000f0ull = 0x1ff;
    configuration_space();

    /* BARs: sized with decoding off, then put elsewhere. */
    u32 msix = capability(0x11, 0), common = capability(9, 1), notify = capability(9, 2), isr_cap = capability(9, 3);
    u32 table = 0x10 + (get(msix + 4) & 7) * 4, regs = 0x10 + get8(common + 4) * 4u;
    put16(4, 0);
    put(regs, 0xffffffff), put(regs + 4, 0xffffffff);
    CHECK("64-bit BAR", get(regs) & 0xf, 0xc);
    u64 mask = (u64)get(regs + 4) << 32 | (get(regs) & ~0xfu);
    CHECK("its size is a power of two", mask & (~mask + 1), ~mask + 1);
    put(regs, (u32)REGS), put(regs + 4, 0);
    put(table, (u32)TABLE);
    volatile u8 *r = (volatile u8 *)REGS;
    CHECK("not decoded", *(volatile u32 *)r, 0xffffffff);
    put16(4, 6);
    isr = r + get(isr_cap + 8);
    doorbell = (volatile u16 *)(r + get(notify + 8));

    /* MSI-X */
    volatile u32 *entry = (volatile u32 *)TABLE;
    CHECK("masked at first", entry[3], 1);
    entry[0] = 0xfee00000, entry[1] = 0, entry[2] = VECTOR_MSIX, entry[3] = 0;
    put16(msix + 2, 0x8000);
    set_up(r + get(common + 8));
    request();
    wait_for(VECTOR_MSIX, 1);
    u32 zeros = 0;
    for (u32 i = 0; i < sizeof random; i++)
        zeros += !random[i];
    CHECK("bytes that are zero are few", zeros < 16, 1);
    entry[3] = 1;
    request();
    volatile u64 *pba = (volatile u64 *)(TABLE + (get(msix + 8) & ~7u));
    while (!*pba)
        ;
    __asm__ volatile("sti; nop; nop; cli");
    CHECK("not delivered while masked", hits[VECTOR_MSIX], 1);
    entry[3] = 0;
    wait_for(VECTOR_MSIX, 2);
    CHECK("no longer pending", *pba, 0);

    /* INTx, line (slot + pin) modulo 4. */
    u32 line = (devfn >> 3) % 4;
    put16(msix + 2, 0);
    volatile u32 *sel = (u32 *)0xfec00000ull, *win = (u32 *)0xfec00010ull;
    *sel = 0x11 + (16 + line) * 2, *win = 0;
    *sel = 0x10 + (16 + line) * 2, *win = 0x8000 | VECTOR_IOAPIC;
    request();
    wait_for(VECTOR_IOAPIC, 1);
    *sel = 0x10 + (16 + line) * 2, *win = 0x10000;

    /* The same line as IRQ 10; ELCR, PIRQRC. Slot 1's INTA# is PIRQA. */
    const u16 pirqrc = (u16)(0xcfc + (line + 3) % 4);
    outl(0xcf8, 0x80000860);
    CHECK("PIRQRC", inb(pirqrc), line & 1 ? 11 : 10);
    outb(pirqrc, 10);
    outb(0x4d1, 1 << 2);
    outb(0xa1, (u8)~(1 << 2)), outb(0x21, (u8)~(1 << 2));
    *(volatile u32 *)0xfee00350ull = 0x700; /* LINT0: ExtINT */
    request();
    wait_for(VECTOR_PIC, 1);
    return 0;
}
