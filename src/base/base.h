/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - the few words that every file uses: integer names, checked arithmetic, compiler attributes. Nothing here
 * allocates memory or has state.
 */
#ifndef LODGE_BASE_BASE_H
#define LODGE_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define cold __attribute__((cold, noinline))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define KiB(n) ((u64)(n) << 10)
#define MiB(n) ((u64)(n) << 20)
#define GiB(n) ((u64)(n) << 30)
#define BIT(n) (1ull << (n))

/* True, with *sum untouched, if a + b does not fit 64 bits. */
static inline bool add_overflows(u64 a, u64 b, u64 *sum)
{
    u64 r;
    if (__builtin_add_overflow(a, b, &r))
        return true;
    *sum = r;
    return false;
}

/* Rounds up or down to a power of two. */
static inline u64 align_down(u64 v, u64 to) { return v & ~(to - 1); }
static inline u64 align_up(u64 v, u64 to) { return (v + to - 1) & ~(to - 1); }

#endif
