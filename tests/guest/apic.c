/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apic.c - the local APIC: timer one-shot, periodic and TSC-deadline, self-interrupts and
 * priorities, TPR through CR8, xAPIC and x2APIC; HLT wakes.
 */
#include "lib/guest.h"

const char guest_name[] = "apic";

static volatile u32 hits[256], order[8], norder;
static int x2;

static u32 apic_read(u32 reg)
{
    return x2 ? (u32)rdmsr(0x800 + reg / 16) : *(volatile u32 *)(0xfee00000ull + reg);
}

static void apic_write(u32 reg, u32 v)
{
    if (x2)
        wrmsr(0x800 + reg / 16, v);
    else
        *(volatile u32 *)(0xfee00000ull + reg) = v;
}

static int on_irq(struct frame *f)
{
    if (f->vector < 0x30)
        return try_interrupt(f);
    hits[f->vector]++;
    if (norder < 8)
        order[norder++] = (u32)f->vector;
    if (f->vector != 0xff)
        apic_write(0xb0, 0);
    return 1;
}

static void self_ipi(u32 vector)
{
    if (x2)
        wrmsr(0x83f, vector);
    else
        apic_write(0x300, 0x40000 | vector); /* shorthand: self */
}

static void wait_for(u32 vector, u32 n)
{
    for (int i = 0; i < 100 && hits[vector] < n; i++)
        __asm__ volatile("sti; hlt; cli");
}

/* Long enough for a KVM that looks for interrupts only every thousand instructions. */
static void window(void)
{
    __asm__ volatile("sti; mov $3000, %%ecx; 1: loop 1b; cli" : : : "rcx");
}

static void clear(void)
{
    for (int i = 0; i < 256; i++)
        hits[i] = 0;
    norder = 0;
}

static void timers(void)
{
    u32 r[4];
    clear();
    apic_write(0x3e0, 0xb); /* divide by 1 */
    apic_write(0x320, 0x40);
    CHECK("stopped", apic_read(0x390), 0);
    apic_write(0x380, 100000);
    wait_for(0x40, 1);
    CHECK("one-shot", hits[0x40], 1);
    CHECK("one-shot has ended", apic_read(0x390), 0);
    apic_write(0x320, 0x20041);
    apic_write(0x380, 1000000);
    wait_for(0x41, 5);
    apic_write(0x380, 0);
    CHECK("periodic", hits[0x41] >= 5, 1);
    apic_write(0x320, 0x10041);
    cpuid(1, 0, r);
    if (r[2] >> 24 & 1) {
        apic_write(0x320, 0x40042);
        CHECK("deadline reads 0", rdmsr(0x6e0), 0);
        u64 deadline = rdtsc() + 1000000;
        wrmsr(0x6e0, deadline);
        wait_for(0x42, 1);
        CHECK("TSC deadline", hits[0x42], 1);
        CHECK("not early", rdtsc() >= deadline, 1);
        CHECK("deadline is disarmed", rdmsr(0x6e0), 0);
        wrmsr(0x6e0, 1); /* in the past */
        wait_for(0x42, 2);
        CHECK("TSC deadline in the past", hits[0x42], 2);
        apic_write(0x320, 0x10042);
    }
}

/* CPUID says what the timer counts (15h: the crystal, and the TSC's ratio to it): so it must count. The best of several
   tries, for we may be interrupted between two readings. */
static void rate(void)
{
    u32 r[4];
    cpuid(0x15, 0, r);
    if (!r[0] || !r[1])
        return;
    u64 best = ~0ull;
    for (int i = 0; i < 20; i++) {
        apic_write(0x320, 0x10040);
        apic_write(0x3e0, 0xb);
        apic_write(0x380, 0xffffffff);
        u32 c0 = apic_read(0x390);
        u64 t0 = rdtsc();
        while (rdtsc() - t0 < 4000000)
            __asm__ volatile("pause");
        u32 counted = c0 - apic_read(0x390);
        u64 due = (rdtsc() - t0) * r[0] / r[1], off = counted > due ? counted - due : due - counted;
        if (off * 1000 / due < best)
            best = off * 1000 / due;
    }
    CHECK("timer counts the crystal, to 2%", best < 20, 1);
    apic_write(0x380, 0);
}

static void priorities(void)
{
    clear();
    self_ipi(0x51);
    self_ipi(0x71);
    self_ipi(0x61);
    CHECK("IRR", apic_read(0x200 + 0x10 * 2) >> 17 & 1, 1); /* 51h: bit 17 of the third word */
    window();
    CHECK("three", norder, 3);
    CHECK("highest first", order[0], 0x71);
    CHECK("then", order[1], 0x61);
    CHECK("last", order[2], 0x51);

    clear();
    __asm__ volatile("mov %0, %%cr8" : : "r"(6ull));
    CHECK("CR8 is TPR", apic_read(0x80), 0x60);
    self_ipi(0x61);
    self_ipi(0x71);
    window();
    CHECK("above the TPR", hits[0x71], 1);
    CHECK("not above the TPR", hits[0x61], 0);
    __asm__ volatile("mov %0, %%cr8" : : "r"(0ull));
    window();
    CHECK("TPR lowered", hits[0x61], 1);
    apic_write(0x80, 0x30);
    u64 cr8;
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    CHECK("TPR is CR8", cr8, 3);
    apic_write(0x80, 0);

    /* the STI shadow: HLT after STI is reached before the interrupt */
    clear();
    self_ipi(0x55);
    __asm__ volatile("sti; hlt; cli");
    CHECK("sti; hlt", hits[0x55], 1);
}

int main(void)
{
    u32 r[4];
    on_interrupt = on_irq;
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    CHECK("APIC base", rdmsr(0x1b) & 0xfffff900, 0xfee00900);
    apic_write(0xf0, 0x1ff);
    CHECK("ID", apic_read(0x20), 0);
    CHECK("version", apic_read(0x30) & 0xff, 0x14);
    CHECK("spurious", apic_read(0xf0), 0x1ff);
    priorities();
    rate();
    timers();
    cpuid(1, 0, r);
    if (r[2] >> 21 & 1) {
        wrmsr(0x1b, rdmsr(0x1b) | 0x400);
        x2 = 1;
        CHECK("x2APIC spurious", apic_read(0xf0), 0x1ff);
        priorities();
        timers();
        TRY("mov $0x80e, %%ecx; rdmsr", "r"(0)); /* DFR is gone */
        CHECK("x2APIC DFR", caught.vector, 13);
        TRY("mov $0x80b, %%ecx; mov $1, %%eax; xor %%edx, %%edx; wrmsr", "r"(0));
        CHECK("x2APIC EOI other than 0", caught.vector, 13);
    }
    return 0;
}
