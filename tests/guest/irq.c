/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.c - the 8259s and the 8254: remapping, the timer's interrupt, masks, rotation of
 * priority by EOI, reading IRR and ISR, the counter read back; then the same through the IOAPIC.
 */
#include "lib/guest.h"

const char guest_name[] = "irq";

static volatile u32 hits[256];
static volatile u8 isr_seen;
static int use_apic;

static int on_irq(struct frame *f)
{
    if (f->vector < 0x20)
        return try_interrupt(f);
    hits[f->vector]++;
    if (use_apic) {
        *(volatile u32 *)0xfee000b0ull = 0;
        return 1;
    }
    outb(0x20, 0x0b); /* OCW3: read ISR */
    isr_seen = inb(0x20);
    if (f->vector >= 0x28)
        outb(0xa0, 0x20);
    outb(0x20, 0x20);
    return 1;
}

static void pit(u16 count, u8 mode)
{
    outb(0x43, (u8)(0x30 | mode << 1));
    outb(0x40, (u8)count);
    outb(0x40, (u8)(count >> 8));
}

static void wait_for(u32 vector, u32 n)
{
    for (int i = 0; i < 100 && hits[vector] < n; i++)
        __asm__ volatile("sti; hlt; cli");
}

int main(void)
{
    on_interrupt = on_irq;
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1);
    outb(0x21, 0xfb);
    outb(0xa1, 0xff);
    CHECK("IMR", inb(0x21), 0xfb);

    pit(1193, 2); /* rate generator, 1 ms */
    outb(0x21, 0xfe);
    wait_for(0x20, 5);
    CHECK("timer interrupts", hits[0x20] >= 5, 1);
    CHECK("in service meanwhile", isr_seen, 1);
    outb(0x21, 0xff);
    u32 before = hits[0x20];
    outb(0x20, 0x0a); /* read IRR */
    while (!(inb(0x20) & 1)) /* however late the host lets the timer's thread run */
        ;
    __asm__ volatile("sti; nop; cli");
    CHECK("not delivered while masked", hits[0x20], before);

    pit(11930, 0); /* interrupt on terminal count: once */
    outb(0x21, 0xfe);
    hits[0x20] = 0;
    wait_for(0x20, 1);
    CHECK("one-shot", hits[0x20] >= 1, 1);
    outb(0x21, 0xff);

    outb(0x43, 0xb0); /* channel 2, mode 0, gated by port 61h */
    outb(0x61, (inb(0x61) & ~2u) | 1);
    outb(0x42, 0xff);
    outb(0x42, 0x0f);
    while (!(inb(0x61) & 0x20))
        ;
    outb(0x43, 0xe8); /* read back status of channel 2 */
    CHECK("status: OUT, mode 0", inb(0x42) & 0x8e, 0x80);

    /* IOAPIC: the timer is on pin 2 */
    use_apic = 1;
    *(volatile u32 *)0xfee000f0ull = 0x1ff;
    volatile u32 *sel = (u32 *)0xfec00000ull, *win = (u32 *)0xfec00010ull;
    *sel = 1;
    CHECK("IOAPIC version", *win & 0xff0000, 23 << 16);
    *sel = 0x15;
    *win = 0;
    *sel = 0x14;
    *win = 0x60;
    CHECK("redirection entry", *win & 0x1ffff, 0x60);
    pit(1193, 2);
    wait_for(0x60, 3);
    CHECK("timer through the IOAPIC", hits[0x60] >= 3, 1);
    *win = 0x10060;
    pit(0, 0);
    return 0;
}
