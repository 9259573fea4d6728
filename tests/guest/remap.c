/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remap.c - code whose mapping changes: other pages at the same address by INVLPG and by CR3, two address spaces with
 * different code at one RIP, a page of code remapped from within itself, large pages, a page that goes away.
 */
#include "lib/guest.h"

const char guest_name[] = "remap";

extern u64 pml4[], pdpt[];
#define WINDOW 0x8000000000ull /* PML4 entry 1 */
enum { ROUNDS = 200, HOT = 12 };
static u64 tables[2][3][512] __attribute__((aligned(4096))); /* by address space: PDPT, page directory, page table */
static u64 second_pml4[512] __attribute__((aligned(4096)));
static u8 pages[4][4096] __attribute__((aligned(4096)));
static u8 large[2][2 << 20] __attribute__((aligned(2 << 20)));

/* mov $n, %eax; mov $3, %ecx; 1: dec %ecx; jnz 1b; ret */
static void function(u8 *p, u32 n)
{
    static const u8 text[] = {0xb8, 0, 0, 0, 0, 0xb9, 3, 0, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xc3};
    memcpy(p, text, sizeof(text));
    memcpy(p + 1, &n, 4);
}
static u32 call(u64 at) { return ((u32 (*)(void))at)(); }
static u64 window_call(u64 n) { return call(WINDOW + n * 4096); }

static void build(u32 space, u64 *root)
{
    tables[space][2][0] = (u64)pages[space] | 3;
    tables[space][1][0] = (u64)tables[space][2] | 3;
    tables[space][0][0] = (u64)tables[space][1] | 3;
    root[1] = (u64)tables[space][0] | 3;
}

/* Other pages at the same address, by INVLPG, by CR3, and by what CR3 names. */
static void other_pages(u64 *pt, const u64 space[2])
{
    for (u32 i = 0; i < ROUNDS; i++) { /* INVLPG */
        pt[0] = (u64)pages[i & 3] | 3;
        invlpg((void *)WINDOW);
        for (u32 k = 0; k < HOT; k++)
            CHECK("after INVLPG", window_call(0), 100 + (i & 3));
    }
    for (u32 i = 0; i < ROUNDS; i++) { /* CR3 reloaded with the same */
        pt[0] = (u64)pages[i & 3] | 3;
        WRITE_CR(3, space[0]);
        for (u32 k = 0; k < HOT; k++)
            CHECK("after a reload of CR3", window_call(0), 100 + (i & 3));
    }
    pt[0] = (u64)pages[0] | 3;
    for (u32 i = 0; i < ROUNDS * HOT; i++) { /* two address spaces */
        WRITE_CR(3, space[i & 1]);
        CHECK("in its own address space", window_call(0), 100 + (i & 1));
    }
}

/* One loop that goes to and fro between the spaces, itself at the same place in both. */
static void to_and_fro(const u64 space[2])
{
    u64 sum = 0;
    __asm__ volatile("mov $400, %%r8d\n"
                     "1: mov %2, %%cr3\n   mov $0x8000000000, %%rdx\n   call *%%rdx\n   add %%rax, %0\n"
                     "   mov %1, %%cr3\n   mov $0x8000000000, %%rdx\n   call *%%rdx\n   add %%rax, %0\n"
                     "   dec %%r8d\n   jnz 1b" : "+r"(sum) : "r"(space[0]), "r"(space[1]) : "rax", "rcx", "rdx", "r8", "memory", "cc");
    CHECK("to and fro", sum, 400 * (100 + 101));
    WRITE_CR(3, space[0]);
}

/* Data through a window that moves under a loop: accesses near each other, across its two pages' common end. */
static void moving_window(u64 *pt)
{
    for (u32 i = 0; i < 4; i++)
        for (u32 k = 256; k < 4096; k++)
            pages[i][k] = (u8)(16 * i + (k & 15));
    for (u32 i = 0; i < ROUNDS; i++) {
        u32 a = i & 3, b = (i >> 1) & 3;
        pt[1] = (u64)pages[a] | 3;
        pt[2] = (u64)pages[b] | 3;
        invlpg((void *)(WINDOW + 4096));
        invlpg((void *)(WINDOW + 8192));
        function(pages[b], 100 + b); /* its first bytes are code elsewhere */
        u64 got = 0, end = WINDOW + 8192;
        u32 first;
        memcpy(&first, pages[b], 4);
        for (u32 k = 0; k < HOT; k++) {
            volatile u8 *p = (volatile u8 *)end;
            CHECK("the last byte of a page", p[-1], 16 * a + 15);
            CHECK("the first of the next", p[0], pages[b][0]);
            __asm__ volatile("mov -2(%1), %k0" : "=r"(got) : "r"(p) : "memory");
            CHECK("both at once", got, (u32)(16 * a + 14) | (u32)(16 * a + 15) << 8 | (first & 0xffff) << 16);
        }
    }
}

/* A page that remaps itself: what is behind the INVLPG is the other page's. */
static void remapped_by_itself(u64 *pt)
{
    static const u8 remapper[] = {0x48, 0x89, 0x37, 0x0f, 0x01, 0x3a}; /* mov %rsi, (%rdi); invlpg (%rdx) */
    for (u32 i = 0; i < 2; i++) {
        u8 *p = pages[2 + i];
        memcpy(p, remapper, sizeof(remapper));
        function(p + sizeof(remapper), 200 + i);
    }
    for (u32 i = 0; i < ROUNDS; i++) {
        u32 from = i & 1;
        pt[0] = (u64)pages[2 + from] | 3;
        invlpg((void *)WINDOW);
        u64 r = ((u64 (*)(u64 *, u64, u64))WINDOW)(pt, (u64)pages[3 - from] | 3, WINDOW);
        CHECK("remapped by itself", r, 200 + (1 - from));
    }
}

/* 2 MiB pages, and one taken apart under running code. */
static void large_pages(u64 *dir, u64 root)
{
    for (u32 i = 0; i < 2; i++)
        for (u32 k = 0; k < 512; k += 37)
            function(large[i] + k * 4096, 1000 * i + k);
    for (u32 i = 0; i < ROUNDS; i++) {
        dir[1] = (u64)large[i & 1] | 0x83;
        invlpg((void *)(WINDOW + (2 << 20) + 4096 * (i % 512))); /* any address in it will do */
        for (u32 k = 0; k < 512; k += 37)
            CHECK("in a large page", call(WINDOW + (2 << 20) + k * 4096), 1000 * (i & 1) + k);
    }
    u64 *small = tables[1][2] + 0; /* the other space's table is free now */
    for (u32 k = 0; k < 512; k++)
        small[k] = ((u64)large[k % 37 == 0 && k % 2] + k * 4096) | 3;
    dir[1] = (u64)small | 3;
    WRITE_CR(3, root);
    for (u32 k = 0; k < 512; k += 37)
        CHECK("in the pages it fell into", call(WINDOW + (2 << 20) + k * 4096), 1000 * (k % 2) + k);
}

/* A page that goes away, with its code hot. */
static void page_gone(u64 *pt)
{
    on_interrupt = try_interrupt;
    for (u32 i = 0; i < 50; i++) {
        function(pages[0], 7);
        pt[0] = (u64)pages[0] | 3;
        invlpg((void *)WINDOW);
        for (u32 k = 0; k < HOT; k++)
            CHECK("there", window_call(0), 7);
        pt[0] = 0;
        invlpg((void *)WINDOW);
        TRY("mov $0x8000000000, %%rax; call *%%rax", "m"(pt[0]));
        CHECK("gone", caught.vector, 14);
        CHECK("and where", caught.cr2, WINDOW);
        pt[0] = (u64)pages[0] | 3 | 1ull << 63; /* not to be executed */
        TRY("mov $0x8000000000, %%rax; call *%%rax", "m"(pt[0]));
        CHECK("no code", caught.error, 0x11);
    }
}

int main(void)
{
    u64 *pt = tables[0][2], *dir = tables[0][1];
    for (u32 i = 0; i < 4; i++)
        function(pages[i], 100 + i);
    for (u32 i = 0; i < 512; i++)
        second_pml4[i] = pml4[i];
    build(0, pml4);
    build(1, second_pml4);
    const u64 space[2] = {(u64)pml4, (u64)second_pml4};

    other_pages(pt, space);
    to_and_fro(space);
    moving_window(pt);
    remapped_by_itself(pt);
    large_pages(dir, space[0]);
    page_gone(pt);
    return 0;
}
