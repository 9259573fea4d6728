/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.c - the processor that Lodge runs on: its CPUID, cut to what the software engine implements, and the frequency of its
 * time-stamp counter.
 */
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "base/loop.h"

/* ---- CPUID -------------------------------------------------------------- */

static void host_leaf(struct cpuid_table *t, u32 function, u32 index, bool indexed)
{
    struct cpuid_leaf *l = cpuid_leaf_add(t, function, index, indexed);
    if (l)
        __cpuid_count(function, index, l->eax, l->ebx, l->ecx, l->edx);
}

static u64 host_xcr0(void)
{
    u32 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (u64)hi << 32 | lo;
}

int cpuid_soft_supported(struct cpuid_table *t, struct error *err)
{
    u32 max = __get_cpuid_max(0, NULL), ext = __get_cpuid_max(0x80000000, NULL);

    memset(t, 0, sizeof(*t));
    if (max < 1 || ext < 0x80000004)
        return error_set(err, ENOTSUP, "this processor is too old: it is not an x86-64 one");
    host_leaf(t, 0, 0, false);
    host_leaf(t, 1, 0, false);
    for (u32 i = 0; max >= 4 && i < 4; i++)
        host_leaf(t, 4, i, true);
    if (max >= 7) {
        host_leaf(t, 7, 0, true);
        if (cpuid_leaf_find(t, 7, 0)->eax >= 1)
            host_leaf(t, 7, 1, true);
    }
    t->xcr0 = 1;
    if (cpuid_bit(t, 1, 0, 2, 27)) { /* OSXSAVE: XGETBV may be executed */
        t->xcr0 = host_xcr0();
        host_leaf(t, 0xd, 0, true);
        host_leaf(t, 0xd, 1, true);
        for (u32 n = 2; n < 10; n++) {
            if (t->xcr0 >> n & 1)
                host_leaf(t, 0xd, n, true);
        }
    } else {
        cpuid_leaf_add(t, 1, 0, false)->ecx &= ~(u32)BIT(26); /* XSAVE cannot be used: the system has not enabled it */
    }
    host_leaf(t, 0x80000001, 0, false);
    for (u32 f = 0x80000002; f <= 0x80000008; f++) {
        if (f <= ext)
            host_leaf(t, f, 0, false);
    }
    if (ext >= 0x8000001e && cpuid_bit(t, 0x80000001, 0, 2, 22)) {
        for (u32 i = 0; i < 4; i++)
            host_leaf(t, 0x8000001d, i, true);
    }
    if (ext >= 0x80000021)
        host_leaf(t, 0x80000021, 0, false);
    cpuid_restrict(t, true);
    t->tsc_khz = host_tsc_khz();
    t->phys_bits = 40;
    t->lin_bits = 48;
    t->cpus = 255;
    return 0;
}

/* ---- TSC ---------------------------------------------------------------- */

/* Reads the TSC and the clock, several times, and keeps the pair whose readings are closest together. Returns how close they
   are, in TSC ticks. */
static u64 read_pair(u64 *tsc, u64 *ns)
{
    u64 best = ~0ull;

    *tsc = *ns = 0;
    for (int i = 0; i < 50; i++) {
        u64 a = __rdtsc(), n = clock_ns(), b = __rdtsc();
        if (b - a < best) {
            best = b - a;
            *tsc = a + (b - a) / 2;
            *ns = n;
        }
    }
    return best;
}

/* Every start waits for this, so it takes no longer than is needed for a result within 10 ppm, and at most 20 ms. The result
   is nearly always within 1 ppm. The clock is read with a jitter of a few nanoseconds if the system makes it from the TSC,
   and of a microsecond if it is another chip. */
static u64 measure_khz(void)
{
    const u64 enough = 100000, longest_ns = 20 * 1000 * 1000;
    const struct timespec nap = { 0, 1000 * 1000 };
    u64 t0, n0, t1, n1, off = read_pair(&t0, &n0);

    do {
        nanosleep(&nap, NULL);
        off = MAX(off, read_pair(&t1, &n1));
        if (n1 <= n0 || t1 <= t0)
            return 0;
    } while ((t1 - t0) / enough < off && n1 - n0 < longest_ns);
    return (u64)((unsigned __int128)(t1 - t0) * 1000000 / (n1 - n0));
}

/* The CPU's frequency as the kernel tells it. In virtual machines and on older CPUs the TSC has the same. */
static u64 cpuinfo_khz(void)
{
    char line[256];
    unsigned mhz, frac;
    u64 khz = 0;
    FILE *f = fopen("/proc/cpuinfo", "re");

    if (!f)
        return 0;
    while (!khz && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "cpu MHz : %u.%3u", &mhz, &frac) == 2)
            khz = (u64)mhz * 1000 + frac;
    }
    fclose(f);
    return khz;
}

static bool near_ppm(u64 a, u64 b, u64 ppm)
{
    u64 d = a > b ? a - b : b - a;
    return d * 1000000 <= b * ppm;
}

static u64 find_khz(void)
{
    u32 a, b, c, d;
    u64 told = 0, kernel, measured = measure_khz();

    if (__get_cpuid_max(0, NULL) >= 0x15) {
        __cpuid(0x15, a, b, c, d);
        if (a && b && c)
            told = (u64)c * b / a / 1000;
    }
    /* What is told is exact and the same each time, so it is preferred. But measuring must agree with it, because firmware
       may tell a wrong value, and a CPU's frequency need not be its TSC's. With 15 ppm, a guest's clock stays within 1 ms of
       ours over a minute. */
    if (!measured)
        return told;
    if (told && near_ppm(told, measured, 15))
        return told;
    kernel = cpuinfo_khz();
    if (kernel && near_ppm(kernel, measured, 15))
        return kernel;
    return measured;
}

u64 host_tsc_khz(void)
{
    static u64 cached; /* a property of the machine, not of a VM */
    u64 khz = __atomic_load_n(&cached, __ATOMIC_RELAXED);
    if (!khz) {
        khz = find_khz();
        __atomic_store_n(&cached, khz, __ATOMIC_RELAXED);
    }
    return khz;
}
