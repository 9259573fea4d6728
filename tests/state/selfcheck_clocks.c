/* SPDX-License-Identifier: Apache-2.0 */
/* selfcheck_clocks.c - clocks that never go back, on whatever processor they are read, and sleeps of their length. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>

#include "selfcheck.h"

static void at_least(u64 *shared, u64 (*read)(void), const char *name)
{
    u64 seen = __atomic_load_n(shared, __ATOMIC_SEQ_CST);
    const u64 t = read();
    if (t < seen)
        bad("%s went back by %lu: %#lx after %#lx", name, seen - t, t, seen);
    while (t > seen && !__atomic_compare_exchange_n(shared, &seen, t, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
}
static u64 read_tsc(void)
{
    unsigned x;
    return __rdtscp(&x);
}
static u64 read_monotonic(void) { return now(CLOCK_MONOTONIC); }
static u64 read_boottime(void) { return now(CLOCK_BOOTTIME); }
void clocks(void)
{
    pin((int)self);
    unsigned a, b, c, d;
    __cpuid(0x80000001, a, b, c, d);
    for (; going();) {
        for (unsigned k = 0; k < 3000; k++)
            if (d & 1 << 27)
                at_least(&sh->tsc, read_tsc, "the TSC");
        for (unsigned k = 0; k < 300; k++)
            at_least(&sh->clock[0], read_monotonic, "CLOCK_MONOTONIC");
        at_least(&sh->clock[1], read_boottime, "CLOCK_BOOTTIME");
        const u64 t = now(CLOCK_MONOTONIC), ns = 1 + rnd() % 3000000;
        const struct timespec nap = { 0, (long)ns };
        if (!nanosleep(&nap, NULL) && now(CLOCK_MONOTONIC) - t < ns)
            bad("a sleep of %lu ns took %lu", ns, now(CLOCK_MONOTONIC) - t);
    }
}
