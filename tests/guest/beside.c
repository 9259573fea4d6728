/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beside.c - 32-bit code with data beside it in one page, as old systems have it: what is stored between, into and across
 * into code, one at a time and several about one register; code that comes to lie where data was.
 */
#include "lib/guest.h"

const char guest_name[] = "beside";

enum { ROUNDS = 100000, LINE = 64 };

static u8 page[8192] __attribute__((aligned(4096)));

static void put_code(u8 *at, u32 x) /* mov $x, %eax; ret */
{
    at[0] = 0xb8;
    *(volatile u32 *)(at + 1) = x;
    at[5] = 0xc3;
}

static u32 call(const void *at)
{
    return ((u32 (*)(void))(unsigned long)at)();
}

/* Stores of all sizes, with and without reading first, by constant and by computed address. */
static void between(volatile u32 *d, volatile u8 *b)
{
    u32 sum = 0, calls = 0;

    d[0] = d[4] = 0;
    for (u32 i = 0; i < ROUNDS; i++) {
        d[0] += i;
        d[1] = i;
        *(volatile u16 *)(b + 2) = (u16)i; /* in two lines */
        b[9] = (u8)i;
        d[4] ^= i;
        *(volatile u32 *)(page + 2001) = ~i;
        *(volatile u64 *)(page + 3 * LINE - 4) = (u64)i << 32 | i;
        sum += i;
        if (i % 10 == 0)
            calls += call(page);
    }
    CHECK("added", d[0], sum);
    CHECK("stored", d[1], ROUNDS - 1);
    CHECK("across lines", *(volatile u16 *)(b + 2), (u16)(ROUNDS - 1));
    CHECK("a byte", b[9], (u8)(ROUNDS - 1));
    CHECK("xor", d[4], 0); /* of 0 to 99999 */
    CHECK("at a constant address", *(volatile u32 *)(page + 2001), ~(u32)(ROUNDS - 1));
    CHECK("eight bytes", *(volatile u64 *)(page + 3 * LINE - 4), (u64)(ROUNDS - 1) << 32 | (ROUNDS - 1));
    CHECK("the code", calls, 7 * (ROUNDS / 10));
}

/* One place is code now and then, in the middle of what one probe serves. */
static void into(u8 *p)
{
    u32 wrong = 0;

    put_code(p + LINE, 1);
    for (u32 i = 0; i < 20000; i++) {
        *(volatile u32 *)(p + LINE - 8) = i;
        *(volatile u32 *)(p + 2 * LINE) = i;
        if (i % 16 == 0) {
            *(volatile u32 *)(p + LINE + 1) = i;
            wrong += call(p + LINE) != i;
        } else if (i % 16 == 5) { /* begins before the line: the opcode, and the number's lowest byte */
            *(volatile u32 *)(p + LINE - 2) = 0xb80000u | (i & 0xff) << 24;
            wrong += (call(p + LINE) & 0xff) != (i & 0xff);
        }
        wrong += *(volatile u32 *)(p + 2 * LINE) != i;
    }
    CHECK("into code", wrong, 0);
}

/* The stack, too: pushes and calls, with code in its page. */
static void stack(u8 *top)
{
    u32 sum = 0;

    for (u32 i = 0; i < ROUNDS; i++) {
        u32 x;
        __asm__ volatile("mov %%esp, %%edi\n mov %2, %%esp\n push %1\n push $5\n call 1f\n jmp 2f\n"
                         "1: push %%edx\n pop %%edx\n add %1, 4(%%esp)\n ret\n"
                         "2: pop %0\n pop %%edx\n add %%edx, %0\n mov %%edi, %%esp"
                         : "=&a"(x) : "c"(i), "S"(top) : "edx", "edi", "memory", "cc");
        sum += x;
    }
    CHECK("the stack", sum, 5u * ROUNDS + (u32)((u64)ROUNDS * (ROUNDS - 1)));
    CHECK("its code", call(page), 7);
}

/* Data becomes code, and data again. */
static void becomes(u8 *p)
{
    u32 wrong = 0;

    for (u32 i = 0; i < 3000; i++) {
        for (u32 k = 0; k < 8; k++)
            *(volatile u32 *)(p + 8 * k) = i + k;
        put_code(p, i);
        wrong += call(p) != i;
        put_code(p + 16, ~i);
        wrong += call(p + 16) != ~i;
    }
    CHECK("data becomes code", wrong, 0);
}

int main(void)
{
    put_code(page, 7);
    CHECK("first", call(page), 7);
    between((volatile u32 *)(page + 512), page + 4 * LINE - 3);
    into(page + 1024);
    stack(page + 2048 + 3 * LINE / 2);
    becomes(page + 3000);
    into(page + 4096 - LINE - 4); /* over the end of a page */
    return 0;
}
