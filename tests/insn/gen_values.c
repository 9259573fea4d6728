/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gen_values.c - random numbers, and what registers and memory hold before a sequence: edge cases, floats of all kinds,
 * anything.
 */
#include "gen.h"

#include <string.h>

u64 rng_next(struct rng *r) /* xorshift64* */
{
    r->s ^= r->s >> 12;
    r->s ^= r->s << 25;
    r->s ^= r->s >> 27;
    return r->s * 0x2545f4914f6cdd1dull;
}

u64 gen_number(struct rng *r)
{
    static const u64 edges[] = {0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
        0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, ~1ull, 0x5555555555555555};
    switch (rng_below(r, 5)) {
    case 0: return edges[rng_below(r, ARRAY_SIZE(edges))];
    case 1: return rng_next(r) & 0xff;
    case 2: return rng_next(r) & 0xffffffff;
    case 3: return rng_next(r) >> rng_below(r, 64);
    default: return rng_next(r);
    }
}

static u32 float_bits(struct rng *r)
{
    static const u32 edges[] = {0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1,
        0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0x40490fdb, 0x3f000000, 0x4b800000};
    return chance(r, 40) ? edges[rng_below(r, ARRAY_SIZE(edges))] :
        chance(r, 70) ? (u32)((rng_next(r) & 0x807fffff) | (0x3f800000 + (rng_below(r, 40) << 23) - (20u << 23))) : (u32)rng_next(r);
}
static u64 double_bits(struct rng *r)
{
    static const u64 edges[] = {0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000,
        0xfff0000000000000, 0x7ff8000000000000, 0x7ff0000000000001, 1, 0x000fffffffffffff, 0x0010000000000000,
        0x7fefffffffffffff, 0x43e0000000000000, 0x400921fb54442d18, 0x3fe0000000000000, 0x4340000000000000};
    return chance(r, 40) ? edges[rng_below(r, ARRAY_SIZE(edges))] :
        chance(r, 70) ? (rng_next(r) & 0x800fffffffffffff) | ((u64)(1003 + rng_below(r, 40)) << 52) : rng_next(r);
}

static void vector_bytes(struct rng *r, u8 *p, unsigned len)
{
    unsigned kind = rng_below(r, 4);
    for (unsigned i = 0; i < len; i += 8) {
        u64 x = kind == 0 ? rng_next(r) : kind == 1 ? double_bits(r) : kind == 2 ? gen_number(r) :
            (u64)float_bits(r) << 32 | float_bits(r);
        memcpy(p + i, &x, 8);
    }
}

void gen_memory(u64 seed, u8 *data, u8 *stack)
{
    struct rng r = {seed | 1};
    /* Blocks of 256 bytes, repeated: what matters is that bytes near each other differ. */
    static const unsigned block = 512;
    u8 b[512];
    for (unsigned i = 0; i < block; i += 32)
        vector_bytes(&r, b + i, 32);
    for (unsigned i = 0; i < DATA_RO; i += block)
        memcpy(data + i, b, block);
    for (unsigned i = 0; i < 4096; i += 8) { /* small numbers, also as 64 bits */
        u64 x = rng_next(&r) >> 52;
        memcpy(data + DATA_SMALL + i, &x, 8);
    }
    for (unsigned i = 0; i < STACK_SIZE; i += block)
        memcpy(stack + i, b, block);
}

void gen_read_only(u8 *page)
{
    struct rng r = {12345};
    for (unsigned i = 0; i < DATA_SIZE - DATA_RO; i += 8) {
        u64 x = rng_next(&r);
        memcpy(page + i, &x, 8);
    }
}

void gen_fpu(struct rng *r, u8 *x, bool has_avx, bool has_avx512)
{
    u16 fcw = 0x37f, fsw = 0;
    u32 mxcsr = 0x1f80;
    u64 bv = has_avx ? 7 : 3;
    memset(x, 0, XSAVE_MAX);
    if (chance(r, 40))
        fcw = (u16)((rng_next(r) & 0xf00) | 0x7f);
    if (chance(r, 10))
        fcw = (u16)((rng_next(r) & 0xf3f) | 0x40);
    fsw = (u16)(rng_below(r, 8) << 11 | (chance(r, 30) ? rng_next(r) & 0x4700 : 0));
    if ((fcw & 0x3f) == 0x3f && chance(r, 20)) /* sticky flags of masked exceptions */
        fsw |= rng_next(r) & 0x3f;
    if (chance(r, 40))
        mxcsr = (u32)(rng_next(r) & 0xe03f) | 0x1f80 | (chance(r, 50) ? 0x40 : 0); /* rounding, FZ, DAZ, flags */
    if (chance(r, 10))
        mxcsr = (u32)(rng_next(r) & 0xffc0) | 0; /* exceptions unmasked */
    memcpy(x, &fcw, 2);
    memcpy(x + 2, &fsw, 2);
    x[4] = chance(r, 50) ? (u8)rng_next(r) : 0xff;
    memcpy(x + 24, &mxcsr, 4);
    u32 mask = 0xffff;
    memcpy(x + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++) {
        u64 m = chance(r, 80) ? rng_next(r) | 1ull << 63 : gen_number(r);
        u16 e = (u16)(chance(r, 80) ? 0x3fff + rng_below(r, 64) - 32 : chance(r, 50) ? 0x7fff : rng_next(r) & 0x7fff);
        if (chance(r, 20))
            m = 1ull << 63;
        if (chance(r, 10))
            m = e = 0;
        e |= (u16)(rng_next(r) & 0x8000);
        memcpy(x + 32 + i * 16, &m, 8);
        memcpy(x + 32 + i * 16 + 8, &e, 2);
    }
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + 160 + i * 16, 16);
    memcpy(x + 512, &bv, 8);
    if (has_avx)
        for (unsigned i = 0; i < 16; i++)
            vector_bytes(r, x + 576 + i * 16, 16);
    if (!has_avx512)
        return;
    for (unsigned i = 0; i < 8; i++) {
        u64 k = chance(r, 60) ? rng_next(r) : chance(r, 50) ? rng_next(r) & 0xffff : gen_number(r);
        memcpy(x + host_component[5] + 8 * i, &k, 8);
    }
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + host_component[6] + 32 * i, 32);
    for (unsigned i = 0; i < 16; i++)
        vector_bytes(r, x + host_component[7] + 64 * i, 64);
    bv |= chance(r, 90) ? 0xe0 : rng_below(r, 8) << 5; /* components that are initial too */
    memcpy(x + 512, &bv, 8);
}
