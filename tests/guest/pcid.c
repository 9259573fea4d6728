/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pcid.c - what must be forgotten of page tables, and when: INVLPG inside large pages, CR3 with and without PCIDs and
 * with bit 63, the four types of INVPCID, CR4.PGE. What may be forgotten as well is not looked at.
 */
#include "lib/guest.h"

const char guest_name[] = "pcid";

extern u64 pml4[];
enum { P = 1, W = 2, PS = 0x80, G = 0x100 };
#define WINDOW 0x8000000000ull /* PML4 entry 1 */
static volatile u64 *const small = (u64 *)WINDOW, *const global = (u64 *)(WINDOW + 0x1000);
static volatile u64 *const big = (u64 *)(WINDOW + 0x200000), *const giga = (u64 *)(WINDOW + 0x40000000);

static u64 root[2][512] __attribute__((aligned(4096))), pdpt1[2][512] __attribute__((aligned(4096)));
static u64 dir[2][512] __attribute__((aligned(4096))), table[2][512] __attribute__((aligned(4096)));
static u64 giga_dir[512] __attribute__((aligned(4096)));
static u64 page[4][512] __attribute__((aligned(4096)));
/* Physical memory beyond this guest, for pages of 2 MiB. */
#define BIG(n) (0x1000000ull + (n) * 0x200000ull)

static u64 has(u32 function, u32 reg, u32 bit)
{
    u32 r[4];
    cpuid(function, 0, r);
    return r[reg] >> bit & 1;
}

static void build(void)
{
    for (u32 n = 0; n < 4; n++) {
        page[n][0] = 100 + n;
        for (u32 k = 0; k < 2 << 20; k += 4096)
            *(volatile u64 *)(BIG(n) + k) = 1000 * n + k / 4096;
    }
    for (u32 s = 0; s < 2; s++) {
        for (u32 k = 0; k < 512; k++)
            root[s][k] = pml4[k];
        root[s][1] = (u64)pdpt1[s] | P | W;
        pdpt1[s][0] = (u64)dir[s] | P | W;
        dir[s][0] = (u64)table[s] | P | W;
        dir[s][1] = BIG(s) | P | W | PS;
        table[s][0] = (u64)page[s] | P | W;
        table[s][1] = (u64)page[3] | P | W | G;
    }
}

static void large_pages(void)
{
    CHECK("a large page", big[0], 0);
    CHECK("its eighth piece", big[7 * 512], 7);
    dir[0][1] = BIG(1) | P | W | PS;
    invlpg((void *)(big + 100 * 512));
    CHECK("after INVLPG of another piece", big[0], 1000);
    CHECK("its eighth piece", big[7 * 512], 1007);
    dir[0][1] = BIG(0) | P | W | PS;
    invlpg((void *)big);
    if (!has(0x80000001, 3, 26))
        return;
    pdpt1[0][1] = P | W | PS;
    CHECK("a page of 1 GiB", giga[BIG(2) / 8], 2000);
    CHECK("elsewhere in it", giga[BIG(3) / 8 + 512], 3001);
    giga_dir[BIG(2) >> 21] = BIG(3) | P | W | PS;
    giga_dir[BIG(3) >> 21] = BIG(2) | P | W | PS;
    pdpt1[0][1] = (u64)giga_dir | P | W;
    invlpg((void *)giga);
    CHECK("after INVLPG of its start", giga[BIG(2) / 8], 3000);
    CHECK("elsewhere in it", giga[BIG(3) / 8 + 512], 2001);
}

static void reload(void)
{
    CHECK("a page", *small, 100);
    table[0][0] = (u64)page[2] | P | W;
    WRITE_CR(3, root[0]);
    CHECK("after a reload of CR3", *small, 102);
    table[0][0] = (u64)page[0] | P | W;
    WRITE_CR(3, root[1]);
    CHECK("in another space", *small, 101);
    CHECK("a large page in another space", *big, 1000);
    WRITE_CR(3, root[0]);
    CHECK("back", *small, 100);
    CHECK("a large page, back", *big, 0);
    if (!has(1, 3, 13))
        return;
    WRITE_CR(4, READ_CR(4) | 1 << 7);
    CHECK("a global page", *global, 103);
    table[0][1] = (u64)page[2] | P | W | G;
    invlpg((void *)global);
    CHECK("after INVLPG", *global, 102);
    table[0][1] = (u64)page[3] | P | W | G;
    WRITE_CR(4, READ_CR(4) & ~(1ul << 7));
    CHECK("after PGE was cleared", *global, 103);
    WRITE_CR(4, READ_CR(4) | 1 << 7);
}

static void switch_to(u32 space, u64 keep)
{
    WRITE_CR(3, (u64)root[space] | (space + 1) | keep << 63);
}
static void invpcid(u64 type, u64 pcid, volatile void *address)
{
    u64 what[2] = { pcid, (u64)address };
    __asm__ volatile("invpcid %0, %1" : : "m"(what), "r"(type) : "memory");
}

static void pcids(void)
{
    WRITE_CR(3, root[0]);
    WRITE_CR(4, READ_CR(4) | 1 << 17);
    switch_to(0, 0);
    for (u32 n = 0; n < 50; n++) {
        CHECK("PCID 1", *small, 100);
        CHECK("PCID 1, large", *big, 0);
        switch_to(1, n > 0);
        CHECK("PCID 2", *small, 101);
        CHECK("PCID 2, large", *big, 1000);
        switch_to(0, 1);
    }
    /* Remapped behind the back of the other: found once it is told. */
    switch_to(1, 1);
    table[0][0] = (u64)page[2] | P | W;
    switch_to(0, 0);
    CHECK("CR3 without bit 63", *small, 102);
    CHECK("CR3 holds no bit 63", READ_CR(3), (u64)root[0] | 1);
    if (!has(7, 1, 10))
        return;
    u32 n = 2; /* the page that is mapped */
    for (u32 type = 0; type < 4; type++)
        for (u32 other = 0; other < 2; other++) {
            CHECK("before INVPCID", *small, 100 + n);
            n = 2 - n;
            if (other)
                switch_to(1, 1);
            table[0][0] = (u64)page[n] | P | W;
            invpcid(type, 1, small);
            if (other) {
                CHECK("the other PCID", *small, 101);
                switch_to(0, 1);
            }
            CHECK("after INVPCID", *small, 100 + n);
        }
    u64 what[2] = { 1ull << 12, 0 };
    TRY("mov $1, %%eax; invpcid (%1), %%rax", "r"(what));
    CHECK("INVPCID of a reserved bit", caught.vector, 13);
    switch_to(0, 0);
    WRITE_CR(3, root[0]);
    WRITE_CR(4, READ_CR(4) & ~(1ul << 17));
}

int main(void)
{
    on_interrupt = try_interrupt;
    build();
    WRITE_CR(3, root[0]);
    large_pages();
    reload();
    if (has(1, 2, 17))
        pcids();
    WRITE_CR(3, pml4);
    return 0;
}
