/* SPDX-License-Identifier: Apache-2.0 */
/*
 * left.c - what a BIOS leaves programmed, and systems rely on, is so without one, too (docs/devices.md, "Without a firmware"):
 * the timers take a count without a mode, the floppy controller takes commands without a reset.
 */
#include "lib/guest.h"

const char guest_name[] = "left";

static volatile u32 ticks;

static int on_irq(struct frame *f)
{
    if (f->vector < 0x20)
        return try_interrupt(f);
    ticks += f->vector == 0x20;
    outb(0x20, 0x20);
    return 1;
}

static u16 counter(u8 n)
{
    outb(0x43, (u8)(n << 6));
    u8 low = inb((u16)(0x40 + n));
    return (u16)(low | inb((u16)(0x40 + n)) << 8);
}

static void wait_for_change(u16 port, u8 bit) /* however late the host is: for as long as the test may last */
{
    u8 was = inb(port) & bit;

    while ((inb(port) & bit) == was)
        ;
}

static u8 rtc(u8 index)
{
    outb(0x70, index);
    return inb(0x71);
}

static void timers(void)
{
    static const u8 status[3] = { 0x36, 0x14, 0x36 }; /* less OUT: mode 3 by words, mode 2 by the low byte, mode 3 */

    for (u8 i = 0; i < 3; i++) {
        outb(0x43, (u8)(0xe0 | 2u << i)); /* read back the status */
        CHECK("8254's status", inb((u16)(0x40 + i)) & 0x7f, status[i]);
    }
    wait_for_change(0x61, 0x10); /* memory is being refreshed */

    /* The speaker's channel: a count, the gate, and it counts. */
    outb(0x42, 0xa8), outb(0x42, 0x61);
    outb(0x61, (u8)((inb(0x61) & ~2u) | 1));
    wait_for_change(0x61, 0x20);
    u16 was = counter(2);
    while (counter(2) == was)
        ;
    CHECK("channel 2 counts from", counter(2) <= 0x61a8, 1);
    outb(0x61, inb(0x61) & ~3u);

    /* The 8259A is to give vectors of our own; then all that a guest of old says to the timer is how fast. */
    CHECK("IMR", inb(0x21), 0xb8);
    CHECK("second IMR", inb(0xa1), 0x8e);
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1);
    outb(0xa1, 0xff);
    outb(0x21, 0xfe);
    outb(0x40, 0xa9), outb(0x40, 0x04); /* 1 ms */
    while (ticks < 5)
        __asm__ volatile("sti; hlt; cli");
    outb(0x21, 0xff);
}

static void floppy_command(const u8 *bytes, u32 n)
{
    for (u32 i = 0; i < n; i++) {
        CHECK("MSR, for a command", inb(0x3f4), i ? 0x90 : 0x80);
        outb(0x3f5, bytes[i]);
    }
}

static void floppy(void)
{
    CHECK("DOR", inb(0x3f2), 0x0c);
    floppy_command((const u8[]){ 0x10 }, 1);
    CHECK("VERSION", inb(0x3f5), 0x90);
    floppy_command((const u8[]){ 0x08 }, 1);
    CHECK("SENSE INTERRUPT, of none", inb(0x3f5), 0x80);
    floppy_command((const u8[]){ 0x0e }, 1);
    for (u32 i = 0; i < 10; i++) {
        u8 v = inb(0x3f5);
        if (i == 4 || i == 5)
            CHECK("DUMPREG: SPECIFY", v, i == 4 ? 0xdf : 0x02);
    }
}

int main(void)
{
    on_interrupt = on_irq;
    timers();
    floppy();
    CHECK("RTC A", rtc(10) & 0x7f, 0x26);
    CHECK("RTC B", rtc(11), 0x02);
    outb(0x64, 0x20);
    while (!(inb(0x64) & 1))
        ;
    CHECK("8042's command byte", inb(0x60), 0x47);
    CHECK("A20", inb(0x92) & 2, 2);
    CHECK("PM1_CNT", inw(0x604) & 1, 0); /* SCI_EN: ACPI is off until it is asked for */
    volatile u32 *apic = (u32 *)0xfee00000ull;
    CHECK("SVR", apic[0xf0 / 4], 0x1ff);
    CHECK("LINT0", apic[0x350 / 4] & ~0x1000u, 0x700);
    CHECK("LINT1", apic[0x360 / 4], 0x400);
    CHECK("MTRRs", rdmsr(0x2ff) & 0x8ff, 0x806);
    return 0;
}
