/* SPDX-License-Identifier: Apache-2.0 */
/* words.h - the words of every_device.c's recipes: memory for devices, and numbers that are mostly right. */
#ifndef DEVICES_WORDS_H
#define DEVICES_WORDS_H

#include "lib/hammer.h"

/* What runs past the end of the pool does not meet the guest. */
enum { POOL = 60 << 20, POOL_SIZE = 1 << 20 };

static int big; /* there is memory above 4 GiB to reach registers by */

static u64 mostly(u64 right) { return rnd_below(12) ? right : value(); }
static u32 r8(u64 a) { return *(volatile u8 *)a; }
static u32 r16(u64 a) { return *(volatile u16 *)a; }
static u32 r32(u64 a) { return *(volatile u32 *)a; }
static void w8(u64 a, u64 v) { *(volatile u8 *)a = (u8)v; }
static void w16(u64 a, u64 v) { *(volatile u16 *)a = (u16)v; }
static void w32(u64 a, u64 v) { *(volatile u32 *)a = (u32)v; }
static void w64(u64 a, u64 v) { *(volatile u64 *)a = v; }
static u8 pick(const u8 *from, u32 n) { return (u8)mostly(from[rnd_below(n)]); }
#define PICK(...) ({ static const u8 from_[] = { __VA_ARGS__ }; pick(from_, sizeof(from_)); })

static void fill(u64 at, u32 words)
{
    while (words--)
        w32(at += 4, value());
}

#endif
