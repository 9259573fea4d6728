/* SPDX-License-Identifier: Apache-2.0 */
/*
 * soft_mmu.c - what the software engine remembers of the guest's page tables: dropped where the architecture says so,
 * and kept where it may be, which no guest can see.
 *
 * SDM vol. 3 4.10 (caching translation information).
 */
#include "test.h"

#include <stdlib.h>

#include "engine/soft/blocks.h"

enum {
    RAM = 32 << 20, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, PML4_B = 0x5000, PDPT_B = 0x6000, PD_B = 0x7000,
    PT_B = 0x8000, PT_NEW = 0x9000, PDPT_HIGH = 0xa000, PD_HIGH = 0xb000,
    A = 0x100000, B = 0x200000, C = 0x400000, /* pages; B and C aligned to 2 MiB */
    SMALL = 0x10000,                          /* linear: a 4 KiB page, by PT */
    LARGE = 0x200000,                         /* of 2 MiB */
    GIGA = 0x40000000,                        /* of 1 GiB */
};
#define HIGH 0xffff800000000000ull /* of 2 MiB, in the supervisor's half */
enum { P = 1, W = 2, U = 4, ACCESSED = 0x20, DIRTY = 0x40, PS = 0x80, G = 0x100 };

static struct soft_vcpu *v;
static struct soft_vm vm;
static struct memory *memory;
static u8 *ram;

static void put(u64 gpa, u64 x) { memcpy(ram + gpa, &x, 8); }
static u64 get(u64 gpa) { u64 x; memcpy(&x, ram + gpa, 8); return x; }

/* A processor at CPL 0 in 64-bit mode; every 4 KiB page begins with its own address. */
static void setup(void)
{
    struct error err = { "" };
    if (!v) {
        memory = memory_new(&err);
        if (!memory || memory_add(memory, "ram", 0, RAM, false, &err))
            abort();
        ram = memory->piece[0].host;
        vm = (struct soft_vm){ .cfg = { .memory = memory, .cpus = 1 }, .a20_mask = ~0ull, .phys_bits = 40, .lin_bits = 48,
                               .pages = RAM >> GUEST_PAGE_SHIFT };
        vm.code_lines = calloc(vm.pages, sizeof *vm.code_lines);
        vm.code_gen = calloc(vm.pages, sizeof *vm.code_gen);
        v = aligned_alloc(64, align_up(sizeof *v, 64));
        if (!v || !vm.code_lines || !vm.code_gen)
            abort();
    }
    memset(v, 0, sizeof *v);
    memset(ram, 0, RAM);
    memset(vm.code_lines, 0, vm.pages * sizeof *vm.code_lines);
    for (u64 gpa = A; gpa < RAM; gpa += 4096)
        put(gpa, gpa);
    put(PML4, PDPT | P | W | U), put(PDPT, PD | P | W | U), put(PD, PT | P | W | U);
    put(PML4_B, PDPT_B | P | W | U), put(PDPT_B, PD_B | P | W | U), put(PD_B, PT_B | P | W | U);
    put(PT + 8 * (SMALL >> 12), A | P | W | U);
    put(PT_B + 8 * (SMALL >> 12), B | P | W | U);
    put(PD + 8 * (LARGE >> 21), B | P | W | U | PS);
    put(PDPT + 8 * (GIGA >> 30), 0 | P | W | U | PS);
    put(PML4 + 8 * 256, PDPT_HIGH | P | W), put(PML4_B + 8 * 256, PDPT_HIGH | P | W);
    put(PDPT_HIGH, PD_HIGH | P | W), put(PD_HIGH, B | P | W | PS | G);
    v->vm = &vm;
    v->s.cr0 = CR0_PE | CR0_PG | CR0_WP;
    v->s.cr4 = CR4_PAE | CR4_PGE | CR4_PCIDE;
    v->s.efer = EFER_LME | EFER_LMA | EFER_NXE;
    v->s.cr3 = PML4 | 1;
    v->s.seg[CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_L;
    v->rflags = RFLAGS_FIXED;
    soft_update_mode(v);
    soft_flush_tlb(v);
}

static void cpl(unsigned n)
{
    v->cpl = (u8)n;
    soft_update_tlb_ctx(v);
}
static void cr3(u64 table, u16 pcid, bool keep)
{
    v->s.cr3 = table | pcid;
    soft_set_space(v, pcid, keep);
}

/* The vector of the fault, or -1. */
static int load(u64 lin, u64 *x)
{
    if (_setjmp(v->escape))
        return v->fault.vector;
    *x = soft_load(v, NULL, lin, 8);
    return -1;
}
static int store(u64 lin, u64 x)
{
    if (_setjmp(v->escape))
        return v->fault.vector;
    soft_store(v, NULL, lin, 8, x);
    return -1;
}
static u64 at(u64 lin)
{
    u64 x = ~0ull;
    CHECK_EQ(load(lin, &x), -1);
    return x;
}
static u64 code_at(u64 lin)
{
    u64 gpa = 0;
    if (_setjmp(v->escape))
        return ~0ull;
    soft_fetch_page(v, lin, &gpa);
    return gpa;
}

/* ---- one page -------------------------------------------------------------- */

TEST(invlpg_of_a_small_page)
{
    setup();
    CHECK_EQ(at(SMALL), A);
    put(PT + 8 * (SMALL >> 12), C | P | W);
    CHECK_EQ(at(SMALL), A); /* remembered */
    soft_flush_page(v, SMALL);
    CHECK_EQ(at(SMALL), C);
}

TEST(accessed_and_dirty)
{
    setup();
    const u64 pte = PT + 8 * (SMALL >> 12);
    at(SMALL);
    CHECK_EQ(get(pte) & (ACCESSED | DIRTY), ACCESSED);
    CHECK_EQ(store(SMALL + 8, 1), -1);
    CHECK_EQ(get(pte) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    at(LARGE);
    CHECK_EQ(get(PD + 8) & (ACCESSED | DIRTY), ACCESSED);
    CHECK_EQ(store(LARGE + 0x1008, 1), -1); /* another piece: its walk is remembered, as one that found D clear */
    CHECK_EQ(get(PD + 8) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    put(PD, get(PD) & ~(u64)ACCESSED);
    put(pte, A | P | W | U);
    soft_flush_page(v, SMALL);
    at(SMALL);
    CHECK_EQ(get(PD) & ACCESSED, ACCESSED);
}

TEST(invlpg_drops_all_of_a_large_page)
{
    setup();
    CHECK_EQ(at(LARGE), B);
    CHECK_EQ(at(LARGE + 0x7000), B + 0x7000);
    put(PD + 8 * (LARGE >> 21), C | P | W | PS);
    soft_flush_page(v, LARGE + 0x9000);
    CHECK_EQ(at(LARGE), C);
    CHECK_EQ(at(LARGE + 0x7000), C + 0x7000);
}

TEST(invlpg_drops_all_of_a_gigabyte)
{
    setup();
    CHECK_EQ(at(GIGA + B), B);
    CHECK_EQ(at(GIGA + C + 0x3000), C + 0x3000);
    put(PDPT + 8 * (GIGA >> 30), PD_B | P | W);
    put(PD_B + 8 * (B >> 21), C | P | W | PS);
    put(PD_B + 8 * (C >> 21), B | P | W | PS);
    soft_flush_page(v, GIGA + 0x3fe00000);
    CHECK_EQ(at(GIGA + B), C);
    CHECK_EQ(at(GIGA + C + 0x3000), B + 0x3000);
}

TEST(invlpg_drops_all_of_a_global_large_page)
{
    setup();
    CHECK_EQ(at(HIGH), B);
    CHECK_EQ(at(HIGH + 0x7000), B + 0x7000);
    cr3(PML4_B, 2, false);
    put(PD_HIGH, C | P | W | PS | G);
    soft_flush_page(v, HIGH + 0x9000);
    CHECK_EQ(at(HIGH), C);
    CHECK_EQ(at(HIGH + 0x7000), C + 0x7000);
    CHECK_EQ(at(HIGH + 0x8000), C + 0x8000); /* neither is the large page itself remembered */
}

TEST(invlpg_drops_large_code)
{
    setup();
    CHECK_EQ(code_at(HIGH), B);
    const u64 gen = v->jc_gen[0];
    soft_flush_page(v, SMALL);
    CHECK_EQ(v->jc_gen[0], gen); /* no code there */
    put(PD_HIGH, C | P | W | PS | G);
    soft_flush_page(v, HIGH + 0x9000);
    CHECK(v->jc_gen[0] != gen);
    CHECK_EQ(code_at(HIGH), C);
}

/* A table that is no more in use is found by no address, once any was invalidated. */
TEST(invlpg_drops_paging_structures)
{
    setup();
    put(PT + 8 * (SMALL >> 12) + 8, B | P | W);
    put(PT_NEW + 8 * (SMALL >> 12) + 8, C | P | W);
    at(SMALL);
    put(PD, PT_NEW | P | W);
    soft_flush_page(v, LARGE);
    CHECK_EQ(at(SMALL + 0x1000), C);
}

/* What allows more needs no invalidation: the whole walk is done before anything is refused. */
TEST(rights_that_grow)
{
    setup();
    put(PD, PT | P | U); /* read-only */
    at(SMALL);
    CHECK_EQ(store(SMALL, 7), VEC_PF);
    put(PD, PT | P | W | U);
    CHECK_EQ(store(SMALL, 7), -1);
    CHECK_EQ(at(SMALL), 7);
    u64 x;
    CHECK_EQ(load(0x7000000, &x), VEC_PF);
    put(PD + 8 * (0x7000000 >> 21), B | P | W | PS);
    CHECK_EQ(load(0x7000000, &x), -1);
}

/* ---- global pages, PCIDs ------------------------------------------------- */

TEST(global_pages_outlive_cr3)
{
    setup();
    at(HIGH), at(LARGE);
    put(PD_HIGH, C | P | W | PS | G);
    put(PD + 8 * (LARGE >> 21), C | P | W | U | PS);
    cr3(PML4, 1, false);
    CHECK_EQ(at(HIGH), B);  /* kept */
    CHECK_EQ(at(LARGE), C); /* dropped, as it must be */
    soft_flush_tlb(v);
    CHECK_EQ(at(HIGH), C);
}

TEST(without_pge_nothing_is_global)
{
    setup();
    v->s.cr4 &= ~(u64)CR4_PGE;
    soft_flush_tlb(v);
    at(HIGH);
    put(PD_HIGH, C | P | W | PS | G);
    cr3(PML4, 1, false);
    CHECK_EQ(at(HIGH), C);
}

TEST(pcids_apart)
{
    setup();
    cpl(3);
    CHECK_EQ(at(SMALL), A);
    cr3(PML4_B, 2, true);
    CHECK_EQ(at(SMALL), B);
    put(PT + 8 * (SMALL >> 12), C | P | W | U);
    cr3(PML4, 1, true);
    CHECK_EQ(at(SMALL), A); /* kept for its PCID */
    cr3(PML4_B, 2, true);
    CHECK_EQ(at(SMALL), B);
    cr3(PML4, 1, false);
    CHECK_EQ(at(SMALL), C);
}

TEST(more_pcids_than_are_remembered)
{
    setup();
    cpl(3);
    for (unsigned round = 0; round < 3; round++)
        for (u16 pcid = 1; pcid < 3 * SPACE_COUNT; pcid++) {
            cr3(pcid & 1 ? PML4 : PML4_B, pcid, true);
            CHECK_EQ(at(SMALL), pcid & 1 ? A : B);
            CHECK_EQ(code_at(SMALL), pcid & 1 ? A : B);
        }
}

/* The types of INVPCID, from the PCID itself (1) and from another (2). */
TEST(invpcid)
{
    for (unsigned type = 0; type < 4; type++)
        for (unsigned other = 0; other < 2; other++) {
            setup();
            cpl(3);
            at(SMALL), code_at(SMALL);
            put(PT + 8 * (SMALL >> 12), C | P | W | U);
            if (other)
                cr3(PML4_B, 2, true), at(SMALL), code_at(SMALL);
            if (type == 0)
                other ? soft_flush_space(v, 1) : soft_flush_page(v, SMALL);
            else if (type == 1)
                soft_flush_space(v, 1);
            else
                type == 2 ? soft_flush_tlb(v) : soft_flush_spaces(v);
            if (other)
                cr3(PML4, 1, true);
            CHECK_EQ(at(SMALL), C);
            CHECK_EQ(code_at(SMALL), C);
        }
}

/* ---- code ---------------------------------------------------------------- */

TEST(code_by_pcid)
{
    setup();
    cpl(3);
    CHECK_EQ(code_at(SMALL), A);
    const u64 key = v->jc_key;
    cr3(PML4_B, 2, true);
    CHECK(v->jc_key != key);
    CHECK_EQ(code_at(SMALL), B);
    cr3(PML4, 1, true);
    CHECK_EQ(v->jc_key, key); /* what RIPs led to is known again */
    soft_flush_page(v, LARGE);
    CHECK_EQ(v->jc_key, key);
    soft_flush_page(v, SMALL);
    CHECK(v->jc_key != key);
    const u64 now = v->jc_key;
    cr3(PML4, 1, false);
    CHECK(v->jc_key != now && v->jc_key != key);
}

TEST(forgotten_code_is_so_in_every_pcid)
{
    setup();
    cpl(3);
    code_at(SMALL);
    const u64 key = v->jc_key;
    cr3(PML4_B, 2, true);
    soft_forget_code(v);
    cr3(PML4, 1, true);
    CHECK(v->jc_key != key);
}

/* A global page is the same in all PCIDs, and so is its end. */
TEST(global_user_code)
{
    setup();
    put(PT + 8 * (SMALL >> 12), A | P | W | U | G);
    put(PT_B + 8 * (SMALL >> 12), A | P | W | U | G);
    cpl(3);
    CHECK_EQ(code_at(SMALL), A);
    const u64 key = v->jc_key;
    cr3(PML4_B, 2, true);
    soft_flush_page(v, SMALL);
    cr3(PML4, 1, true);
    CHECK(v->jc_key != key);
}

TEST(supervisor_code_by_global_pages_outlives_cr3)
{
    setup();
    CHECK_EQ(code_at(HIGH), B);
    const u64 key = v->jc_key;
    cr3(PML4_B, 2, false);
    CHECK_EQ(v->jc_key, key);
    code_at(SMALL); /* not global */
    cr3(PML4, 1, true);
    CHECK(v->jc_key != key);
    CHECK_EQ(code_at(SMALL), A);
}

/* ---- stores --------------------------------------------------------------- */

static struct tlb_entry *entry(enum tlb_ctx c, u64 lin) { return &v->tlbs[c][(lin >> 12) & (TLB_SIZE - 1)]; }

TEST(a_page_with_code_is_closed_everywhere)
{
    setup();
    cpl(3);
    CHECK_EQ(store(SMALL, 1), -1);
    CHECK_EQ(entry(TLB_USER, SMALL)->write, SMALL);
    cr3(PML4_B, 2, true);
    CHECK(entry(TLB_USER, SMALL)->write != SMALL);
    vm.code_lines[A >> 12] = 1;
    soft_protect_page(v, A);
    cr3(PML4, 1, true);
    CHECK_EQ(entry(TLB_USER, SMALL)->read, SMALL);
    CHECK(entry(TLB_USER, SMALL)->write != SMALL);
    const u32 gen = vm.code_gen[A >> 12];
    CHECK_EQ(store(SMALL, 2), -1);
    CHECK_EQ(vm.code_gen[A >> 12], gen + 1);
}

/* Another processor decoded code, or the dirty log was taken: what was open until then counts as written, in the tables
   and kept aside, also if something else drops it before the request is served. */
TEST(drop_writable)
{
    for (unsigned how = 0; how < 5; how++) {
        setup();
        u64 dirty[RAM >> 12 >> 6];
        cpl(3);
        CHECK_EQ(store(SMALL, 1), -1);
        memory_dirty_take(memory, &memory->piece[0], dirty);
        vm.code_lines[A >> 12] = 1;
        const u32 gen = vm.code_gen[A >> 12];
        if (how == 1)
            cr3(PML4_B, 2, true);
        soft_request(v, REQ_FLUSH);
        if (how == 2)
            cr3(PML4_B, 2, true), cr3(PML4, 1, false);
        else if (how == 3)
            soft_flush_page(v, SMALL);
        else if (how == 4) /* the same slot */
            at(GIGA + SMALL);
        soft_drop_writable(v);
        CHECK_EQ(vm.code_gen[A >> 12], gen + 1);
        memory_dirty_take(memory, &memory->piece[0], dirty);
        CHECK(dirty[A >> 12 >> 6] >> (A >> 12 & 63) & 1);
        if (how == 1)
            cr3(PML4, 1, true);
        CHECK(entry(TLB_USER, SMALL)->write != SMALL);
    }
}

/* Rights that hang on WP are looked at anew. */
TEST(write_protect)
{
    setup();
    put(PT + 8 * (SMALL >> 12), A | P | U);
    v->s.cr0 &= ~(u64)CR0_WP;
    soft_flush_data(v);
    CHECK_EQ(store(SMALL, 1), -1);
    CHECK_EQ(store(SMALL, 1), -1);
    v->s.cr0 |= CR0_WP;
    soft_flush_data(v);
    CHECK_EQ(store(SMALL, 1), VEC_PF);
}
