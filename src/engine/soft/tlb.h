/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlb.h - what a processor remembers of the guest's page tables. None of it is part of the
 * guest's state: everything here may be forgotten at any moment.
 *
 *   tlbs            linear page to host page, one table for each access context; loads and stores look here;
 *   psc             the paging-structure caches: the level before the last one of a walk, and large pages;
 *   xtlb, filters   the pages that code was fetched through (everything that finds code by its RIP depends on them);
 *   spaces          the last few PCIDs (SDM vol. 3 4.10.1). The tables hold translations of the current PCID and
 *                   of global pages. Entries of the other PCIDs are kept aside until CR3 names those again.
 */
#ifndef LODGE_ENGINE_SOFT_TLB_H
#define LODGE_ENGINE_SOFT_TLB_H

#include "base/base.h"

/* ---- the tables that loads and stores probe ------------------------------ */

enum { TLB_BITS = 12, TLB_SIZE = 1 << TLB_BITS };
/* USER: CPL 3; KERNEL: CPL<3 with SMAP in force; KERNEL_AC: CPL<3 without it (AC=1 or SMAP off); every access in EMPTY
   takes the slow path. */
enum tlb_ctx { TLB_USER, TLB_KERNEL, TLB_KERNEL_AC, TLB_EMPTY /* never filled */, TLB_CTX_COUNT };
struct tlb_entry {
    u64 read, write; /* linear page address if such an access may go straight to host memory, else TLB_NONE(slot) */
    u64 host;        /* host address minus linear address */
    u64 place;       /* of the page in guest memory (memory.h); bit 0: PLACE_WATCHED */
};
/* An invalid tag names a page that belongs to another slot, so that no address that indexes this slot can match. */
#define TLB_NONE(slot) ((slot) ? 0ull : 0x1000ull)

/* Sets of slots of one table by what is in them, so that no function has to look at the whole table. */
struct tlb_slots {
    u64 word[TLB_SIZE / 64];
};
struct tlb_index {
    struct tlb_slots filled; /* read is valid */
    struct tlb_slots open;   /* of these: write is valid, or the page is marked as watched */
    struct tlb_slots global; /* of these: the page is global */
};

/* ---- paging-structure caches --------------------------------------------- */

enum { PSC_BITS = 9, PSC_SIZE = 1 << PSC_BITS };
struct psc_entry { /* 2 MiB of linear addresses: a table of 4 KiB entries, or (a piece of) a large page */
    u64 lin;   /* >> 21 */
    u64 gen;   /* the entry is valid if this is the space's psc_gen or psc_global */
    u64 entry; /* as in the guest's tables, but W, U, NX over all levels; with PS it maps a page and has the 2 MiB frame */
    u8 *table; /* the guest's table; NULL with PS */
};

/* ---- sets of pages by a hash: may say yes for a page that was never added - */

enum { FILTER_BITS = 12 };
struct page_filter {
    u64 word[(1 << FILTER_BITS) / 64];
};

/* ---- code pages ---------------------------------------------------------- */

enum { XTLB_SIZE = 1024 };
struct xtlb_entry {
    u64 lin, gen; /* the entry is valid while gen equals jc_gen of its privilege */
    u64 place;
    const u8 *host;
};

/* ---- address spaces ------------------------------------------------------ */

enum { SPACE_COUNT = 8 /* Linux uses 6 PCIDs a processor */, SPACE_KEPT = 256 };
struct tlb_kept { /* entry.write equals entry.read if the page was open for stores; else it has any other value */
    struct tlb_entry entry;
    u64 ctx;
};
struct tlb_space {
    bool used;
    u16 pcid;
    u64 last;                /* when it was last the current one: soft_mmu.now */
    u64 psc_gen, code_gen;   /* code_gen: equals soft_vcpu.jc_gen[1] while current */
    struct page_filter code; /* user pages that are not global and that code was fetched through */
    u32 nkept;
    struct tlb_kept kept[SPACE_KEPT]; /* while not current */
};

struct soft_mmu {
    u64 hole;                      /* no memory is at this guest-physical page while memory has hole_generation */
    u32 hole_generation;
    struct tlb_index index[TLB_EMPTY];
    struct psc_entry psc[PSC_SIZE];
    struct xtlb_entry xtlb[2][XTLB_SIZE]; /* [cpl == 3] */
    struct page_filter code[2];    /* pages code was fetched through: the supervisor's, the user's global ones */
    struct page_filter pieces[2];  /* large pages of which tlbs may hold pieces, for each half of the addresses */
    u32 ndisplaced;
    bool displaced_lost;           /* there were more pages than displaced has room for: any page may be written to */
    u64 displaced[64];             /* places of pages that translated code may still write to though they are not open */
    bool local_code;               /* supervisor code was fetched through pages that are not global */
    u64 gen;                       /* the generation given out last, for code and psc alike */
    u64 psc_global;                /* the generation of global large pages in psc */
    u64 now;                       /* counts changes of the space */
    struct tlb_space *space;       /* current */
    struct tlb_space spaces[SPACE_COUNT];
};

#endif
