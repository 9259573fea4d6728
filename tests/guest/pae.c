/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pae.c - paging in 32-bit mode: two-level with 4 MiB pages, then PAE with 2 MiB
 * pages and NX; accessed and dirty bits, error codes, remapping, the stale TLB's flush.
 */
#include "lib/guest.h"

const char guest_name[] = "pae";

static volatile u32 pd[1024] __attribute__((aligned(4096))), pt[1024] __attribute__((aligned(4096)));
static volatile u64 pdpt4[4] __attribute__((aligned(32))), ppd[512] __attribute__((aligned(4096))), ppt[512] __attribute__((aligned(4096)));
static u8 page_a[4096] __attribute__((aligned(4096))), page_b[4096] __attribute__((aligned(4096)));

static volatile u32 *const at = (u32 *)0x40000000;

static void two_level(void)
{
    for (u32 i = 0; i < 4; i++)
        pd[i] = i << 22 | 0x83;
    pd[0x40000000 >> 22] = (u32)pt | 7;
    pt[0] = (u32)page_a | 7;
    pt[1] = (u32)page_b | 5; /* read-only */
    WRITE_CR(4, READ_CR(4) | 0x10);
    WRITE_CR(3, pd);
    WRITE_CR(0, READ_CR(0) | 0x80010000);

    *(u32 *)page_a = 0x1111;
    *(u32 *)page_b = 0x2222;
    CHECK("accessed clear", pt[0] & 0x60, 0);
    CHECK("read", at[0], 0x1111);
    CHECK("accessed set", pt[0] & 0x60, 0x20);
    at[1] = 5;
    CHECK("dirty set", pt[0] & 0x60, 0x60);
    CHECK("other page", at[1024], 0x2222);
    TRY("movl $1, (%1)", "r"(at + 1024));
    CHECK("write to read-only page", caught.vector, 14);
    CHECK("its error", caught.error, 3);
    CHECK("its CR2", caught.cr2, 0x40001000);
    TRY("movl (%1), %%eax", "r"(at + 2048));
    CHECK("absent", caught.vector, 14);
    CHECK("absent error", caught.error, 0);
    CHECK("absent CR2", caught.cr2, 0x40002000);
    WRITE_CR(0, READ_CR(0) & ~0x10000ul);
    TRY("movl $0x3333, (%1)", "r"(at + 1024));
    CHECK("read-only without WP", caught.vector, -1);
    CHECK("written", *(volatile u32 *)page_b, 0x3333);
    WRITE_CR(0, READ_CR(0) | 0x10000);
    pt[0] = (u32)page_b | 7;
    invlpg((void *)at);
    CHECK("remapped", at[0], 0x3333);
}

static void pae(void)
{
    u32 r[4];
    cpuid(0x80000001, 0, r);
    int nx = r[3] >> 20 & 1;
    for (u32 i = 0; i < 8; i++)
        ppd[i] = (u64)i << 21 | 0x83;
    pdpt4[0] = (u32)ppd | 1;
    static volatile u64 ppd1[512] __attribute__((aligned(4096)));
    pdpt4[1] = (u32)ppd1 | 1;
    ppd1[0] = (u32)ppt | 7;
    ppt[0] = (u32)page_a | 3;
    WRITE_CR(0, READ_CR(0) & ~0x80000000ul);
    WRITE_CR(4, READ_CR(4) | 0x20);
    if (nx)
        wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    WRITE_CR(3, pdpt4);
    WRITE_CR(0, READ_CR(0) | 0x80000000);

    page_a[0x100] = 0xc3; /* RET */
    *(u32 *)page_a = 0x1111;
    CHECK("PAE read", at[0], 0x1111);
    ((void (*)(void))(0x40000100))();
    if (nx) {
        ppt[0] |= 1ull << 63;
        invlpg((void *)at);
        CHECK("data of an NX page", at[0], 0x1111);
        TRY("call *%1", "r"(0x40000100));
        CHECK("fetch from an NX page", caught.vector, 14);
        CHECK("its error", caught.error, 0x11);
        CHECK("its CR2", caught.cr2, 0x40000100);
    }
    ppt[0] = (u64)(u32)page_b | 3 | 1ull << 51; /* reserved: no processor of ours has that many address bits */
    invlpg((void *)at);
    TRY("movl (%1), %%eax", "r"(at));
    CHECK("reserved bit", caught.vector, 14);
    CHECK("reserved bit error", caught.error, 9);
}

int main(void)
{
    on_interrupt = try_interrupt;
    two_level();
    pae();
    WRITE_CR(0, READ_CR(0) & ~0x80000000ul);
    return 0;
}
