/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nmi.c - presses of the NMI button (tests/system/nmi does them, and then says so by a byte at COM1): one that ends a HLT
 * with interrupts off; two that wait as one while bit 7 of port 70h is set; one that the local APIC keeps away.
 */
#include "lib/guest.h"

const char guest_name[] = "nmi";

enum { LVT_LINT1 = 0xfee00360, DELIVERY_NMI = 4 << 8, MASKED = 1 << 16 };

static volatile u32 nmis;

static int on_nmi(struct frame *f)
{
    nmis += f->vector == 2;
    return f->vector == 2;
}

static void pressed(const char *when)
{
    print(when);
    print("\n");
    while (!(inb(0x3fd) & 1))
        ;
    inb(0x3f8);
}

static void lint1(u32 v) { *(volatile u32 *)(u64)LVT_LINT1 = v; }

int main(void)
{
    on_interrupt = on_nmi;
    inb(0x3f8);
    lint1(DELIVERY_NMI);
    outb(0x70, 0x0f);
    print("halted\n");
    while (!nmis)
        __asm__ volatile("cli; hlt");
    CHECK("an NMI ends HLT", nmis, 1);
    CHECK("no source in port 61h", inb(0x61) & 0xc0, 0);
    pressed("wait");

    outb(0x70, 0x8f);
    pressed("gated");
    CHECK("held back at port 70h", nmis, 1);
    outb(0x70, 0x0f);
    while (nmis < 2)
        inb(0x61);

    lint1(DELIVERY_NMI | MASKED);
    pressed("masked");
    lint1(DELIVERY_NMI);
    pressed("lost");
    CHECK("masked by the APIC, it is lost", nmis, 2);
    return 0;
}
