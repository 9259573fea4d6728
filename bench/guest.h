/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tests that bench/run puts to a machine: each does a piece of work n times over.
 *
 * A test returns a figure made of its results, which depends on n alone and not on the machine, or 0. What it needs it
 * builds at its first call, whose time is not counted.
 */
#ifndef LODGE_BENCH_GUEST_H
#define LODGE_BENCH_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench {
    const char *name;
    uint64_t (*run)(long n);
    bool (*possible)(void); /* NULL: anywhere */
};

/* Each ends with a bench without a name. */
extern const struct bench compute_benches[]; /* in user mode */
extern const struct bench kernel_benches[];  /* into the kernel at every operation */
extern const struct bench smp_benches[];     /* two threads */

/* xorshift64: a sequence that is the same everywhere */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Keeps the compiler from moving or dropping what was stored. */
static inline void bench_barrier(void)
{
    __asm__ volatile("" ::: "memory");
}

#endif
