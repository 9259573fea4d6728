/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hammer.h - random numbers, and random accesses to ports, memory-mapped registers and MSRs: for hostile 64-bit guests.
 * Those whose CPUs share the state get other numbers each time; nothing else comes of it.
 */
#ifndef HAMMER_H
#define HAMMER_H

#include "guest.h"

extern volatile u64 pml4[], pdpt[], pd[];
extern u32 boot_info;
static volatile u8 data[2][4096] __attribute__((aligned(4096)));
static u64 state;     /* of the random numbers; never 0 */
static u32 mercy;     /* one access in so many may end the machine; 0: none */
static u64 pool, pool_size; /* memory for devices to find things in; size 0: none */

static u64 rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1dull;
}

static u64 rnd_below(u64 n) { return (rnd() >> 16) % n; }

static u64 pool_at(u64 align) { return pool + (rnd_below(pool_size) & ~(align - 1)); }

/* A number of random width: small ones, all-ones, single bits and pointers into the pool are likelier than chance. */
static u64 value(void)
{
    u64 v = rnd() >> rnd_below(64);
    if (pool_size && !rnd_below(5))
        return pool_at(16);
    switch (rnd_below(6)) {
    case 0: return ~v;
    case 1: return 1ull << rnd_below(64);
    case 2: return rnd_below(2) ? ~0ull : 0;
    default: return v;
    }
}

/* ---- ports, memory-mapped registers, MSRs ---- */

/* What ends the machine: reset and power-off registers, and the debug exit. */
static int deadly(u32 port, u32 size)
{
    static const u16 p[] = { 0xf4, 0xf5, 0xf6, 0xf7, 0x64, 0x92, 0xcf9, 0x501, 0x600, 0x601, 0x602, 0x603, 0x604, 0x605,
                             0x606, 0x607, 0x608, 0xb2, 0xb3 };
    for (u32 i = 0; i < ARRAY_SIZE(p); i++) {
        if (p[i] >= port && p[i] < port + size)
            return !mercy || rnd_below(mercy);
    }
    return 0;
}

/* What PCI functions have their registers at, as firmware or Lodge placed them. */
static u64 bars[64];
static u16 io_bars[32];
static u32 nbars, nio_bars;

static void find_bars(void)
{
    for (u32 devfn = 0; devfn < 256; devfn++)
        for (u32 at = 0x80000000 | devfn << 8 | 0x10; outl(0xcf8, 0x80000000 | devfn << 8), inl(0xcfc) != ~0u && (at & 0xff) < 0x28;
             at += 4) {
            outl(0xcf8, at);
            const u32 bar = inl(0xcfc);
            if (bar & 1 && nio_bars < ARRAY_SIZE(io_bars))
                io_bars[nio_bars++] = bar & 0xfffc;
            else if (!(bar & 1) && bar >> 12 && nbars < ARRAY_SIZE(bars))
                bars[nbars++] = bar & ~0xfu;
            outl(0xcf8, 0x80000000 | devfn << 8 | 4);
            outl(0xcfc, inl(0xcfc) | 7); /* decoded, and a bus master */
        }
}

static u32 some_port(void)
{
    static const u16 known[] = { 0x00, 0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x70, 0x71, 0x80, 0xa0, 0xa1, 0xc0,
                                 0xe0, 0xe8, 0x1f0, 0x2e8, 0x2f8, 0x3b0, 0x3c0, 0x3e8, 0x3f0, 0x3f8, 0x4d0, 0x4d1, 0x510,
                                 0x511, 0x514, 0x518, 0xcf8, 0xcfc, 0x2000, 0xb000, 0xc000, 0xffff };
    if (nio_bars && !rnd_below(4))
        return io_bars[rnd_below(nio_bars)] + (u32)rnd_below(32);
    u32 p = rnd_below(3) ? known[rnd_below(ARRAY_SIZE(known))] + (u32)rnd_below(8) : (u32)rnd_below(0x10000);
    return p & 0xffff;
}

static void port(void)
{
    u32 p = some_port(), size = 1u << rnd_below(3), n = (u32)rnd_below(40);
    u64 v = value();
    void *buf = (void *)data[0];
    if (deadly(p, size))
        return;
    switch (rnd_below(10)) {
    case 0:
        __asm__ volatile("rep outsb" : "+S"(buf), "+c"(n) : "d"(p) : "memory");
        return;
    case 1:
        __asm__ volatile("rep insw" : "+D"(buf), "+c"(n) : "d"(p) : "memory");
        return;
    case 2: case 3: case 4:
        if (size == 1)
            (void)inb((u16)p);
        else if (size == 2)
            (void)inw((u16)p);
        else
            (void)inl((u16)p);
        return;
    default:
        if (size == 1)
            outb((u16)p, (u8)v);
        else if (size == 2)
            outw((u16)p, (u16)v);
        else
            outl((u16)p, (u32)v);
    }
}

static u64 some_address(int big)
{
    static const u64 known[] = { 0xa0000, 0xb8000, 0xc0000, 0xe0000, 0xfffff, 0xe0000000, 0xfec00000, 0xfec00010, 0xfed00000,
                                 0xfee00000, 0xfee00080, 0xfee000b0, 0xfee000f0, 0xfee00320, 0xfee00350, 0xfee00380,
                                 0xfffc0000, 0xfffffff0 };
    if (nbars && rnd_below(2))
        return bars[rnd_below(nbars)] + rnd_below(1 << rnd_below(15));
    switch (rnd_below(4)) {
    case 0: return 0xfee00000 + (rnd() & 0xfff);
    case 1: return 0xc0000000 + (rnd() & 0x3fffffff);
    case 2: return big ? (rnd() & 0x7fffffffff) | 0x4000000000 : 0xd0000000;
    default: return known[rnd_below(ARRAY_SIZE(known))] + rnd_below(32);
    }
}

static void mmio(int big)
{
    u64 a = some_address(big), v = value();
    /* The vector table of the local APIC could turn a write into INIT of ourselves: ICR only now and then. */
    if ((a & ~0xffull) == 0xfee00300 && rnd_below(50))
        return;
    switch (rnd_below(12)) {
    case 0: TRY("movb %b2, (%1)", "r"(a), "r"(v)); break;
    case 1: TRY("movw %w2, (%1)", "r"(a), "r"(v)); break;
    case 2: TRY("movl %k2, (%1)", "r"(a), "r"(v)); break;
    case 3: TRY("movq %2, (%1)", "r"(a), "r"(v)); break;
    case 4: TRY("movb (%1), %%al", "r"(a)); break;
    case 5: TRY("movl (%1), %%eax", "r"(a)); break;
    case 6: TRY("movq (%1), %%rax", "r"(a)); break;
    case 7: TRY("lock xaddl %k2, (%1)", "r"(a), "r"(v)); break;
    case 8: TRY("movdqu (%1), %%xmm0; movdqu %%xmm0, (%1)", "r"(a)); break;
    case 9: TRY("mov %1, %%rsi; mov %2, %%rdi; mov $17, %%ecx; rep movsb", "r"(a), "r"(data[1]), "S"(0), "D"(0)); break;
    case 10: TRY("mov %1, %%rdi; mov $9, %%ecx; rep stosl", "r"(a), "D"(0)); break;
    default: TRY("lock cmpxchg8b (%1)", "r"(a)); break;
    }
}

static void msr(void)
{
    static const u32 known[] = { 0x10, 0x1b, 0x3a, 0x3b, 0x48, 0x8b, 0xfe, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x1a0, 0x1d9,
                                 0x200, 0x201, 0x250, 0x268, 0x277, 0x2ff, 0x400, 0x6e0, 0x800, 0x802, 0x80b, 0x80f, 0x830,
                                 0x83f, 0xda0, 0xc0000081, 0xc0000103, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x11, 0x12 };
    u32 n = rnd_below(2) ? known[rnd_below(ARRAY_SIZE(known))] : (u32)value();
    u64 v = value();
    if (n == 0xc0000080)
        return;
    if (n == 0x1b)
        v = (v & 0xff) | 0xfee00900; /* the watchdog needs the APIC where it is */
    TRY("mov %1, %%ecx; rdmsr", "r"(n));
    if (n == 0x830)
        return;
    TRY("mov %1, %%ecx; mov %k2, %%eax; mov %2, %%rdx; shr $32, %%rdx; wrmsr", "r"(n), "r"(v));
}

/* Maps what lies above 4 GiB, as far as the processor has pages of 1 GiB; whether it has. */
static int map_big(void)
{
    u32 r[4];
    cpuid(0x80000001, 0, r);
    if (!(r[3] >> 26 & 1))
        return 0;
    for (u64 i = 4; i < 512; i++)
        pdpt[i] = i << 30 | 0x83;
    return 1;
}

static void every_port(u32 step) /* each, once each way; 1: none left out */
{
    for (u32 p = 0; p < 0x10000; p += step) {
        if (!deadly(p, 1)) {
            outb((u16)p, (u8)rnd());
            (void)inb((u16)p);
        }
    }
}

static void hammer(int big)
{
    switch (rnd_below(5)) {
    case 0: case 1: port(); break;
    case 2: case 3: mmio(big); break;
    default: msr(); break;
    }
}

/* ---- the command line ---- */

static const char *option(const char *name)
{
    const char *c = boot_info && (*(u32 *)(u64)boot_info & 4) ? (const char *)(u64) * (u32 *)(u64)(boot_info + 16) : "";
    for (; *c; c++) {
        const char *n = name, *p = c;
        while (*n && *n == *p)
            n++, p++;
        if (!*n && *p == '=')
            return p + 1;
    }
    return "";
}

static u64 number(const char *name, u64 otherwise)
{
    u64 v = 0;
    const char *c = option(name);
    if (!*c)
        return otherwise;
    for (; *c >= '0' && *c <= '9'; c++)
        v = v * 10 + (u64)(*c - '0');
    return v;
}

#endif
