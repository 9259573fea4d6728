/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tlb.h - what a processor remembers of the guest's page tables. None of it is
 * state: everything here may be forgotten at any moment.
 *
 *   tlbs            linear page to host page, a table an access context: what loads and stores probe;
 *   psc             the paging-structure caches: the last level but one of the walk, and large pages;
 *   xtlb, filters   which pages code was fetched through (what knows code by RIP depends on it);
 *   spaces          the last few PCIDs (SDM vol. 3 4.10.1). The tables hold what the current one and global pages
 *                   translate to; what the others had in the tables is kept aside until CR3 names them again.
 */
#ifndef LODGE_ENGINE_SOFT_TLB_H
#define LODGE_ENGINE_SOFT_TLB_H

#include "base/base.h"

/* ---- the tables that loads and stores probe ------------------------------ */

enum { TLB_BITS = 12, TLB_SIZE = 1 << TLB_BITS };
enum tlb_ctx { TLB_USER, TLB_KERNEL, TLB_KERNEL_AC, TLB_EMPTY /* never filled: every access is looked at */, TLB_CTX_COUNT }; /* CPL 3; CPL<3 with SMAP in force; CPL<3 without (AC=1 or SMAP off) */
struct tlb_entry {
    u64 read, write; /* linear page address if such an access may go straight to host memory, else TLB_NONE(slot) */
    u64 host;        /* host address minus linear address */
    u64 place;       /* of the page in guest memory (memory.h); bit 0: PLACE_WATCHED */
};
/* An invalid tag names a page that belongs to another slot, so that no address that indexes this slot can match. */
#define TLB_NONE(slot) ((slot) ? 0ull : 0x1000ull)

/* Slots of one table by what is in them, so that nothing has to look at all of it. */
struct tlb_slots {
    u64 word[TLB_SIZE / 64];
};
struct tlb_index {
    struct tlb_slots filled; /* read is valid */
    struct tlb_slots open;   /* of them: write is, or the page is marked as watched */
    struct tlb_slots global; /* of them: by a global page */
};

/* ---- paging-structure caches --------------------------------------------- */

enum { PSC_BITS = 9, PSC_SIZE = 1 << PSC_BITS };
struct psc_entry { /* 2 MiB of linear addresses: a table of 4 KiB entries, or (a piece of) a large page */
    u64 lin;   /* >> 21 */
    u64 gen;   /* valid if the space's psc_gen or the global one */
    u64 entry; /* as in the guest's tables, W, U and NX over all levels; PS: it maps, and gives the 2 MiB frame */
    u8 *table; /* the guest's table; NULL with PS */
};

/* ---- pages, by a hash: may say yes for one that was never added ---------- */

enum { FILTER_BITS = 12 };
struct page_filter {
    u64 word[(1 << FILTER_BITS) / 64];
};

/* ---- code pages ---------------------------------------------------------- */

enum { XTLB_SIZE = 1024 };
struct xtlb_entry {
    u64 lin, gen; /* valid while gen is jc_gen of its privilege */
    u64 place;
    const u8 *host;
};

/* ---- address spaces ------------------------------------------------------ */

enum { SPACE_COUNT = 8 /* Linux uses 6 PCIDs a processor */, SPACE_KEPT = 256 };
struct tlb_kept { /* write as it was if stores were let through, else anything but read */
    struct tlb_entry entry;
    u64 ctx;
};
struct tlb_space {
    bool used;
    u16 pcid;
    u64 last;                /* when it was last the current one */
    u64 psc_gen, code_gen;   /* code_gen: soft_vcpu.jc_gen[1] while current */
    struct page_filter code; /* user pages, not global, that code was fetched through */
    u32 nkept;
    struct tlb_kept kept[SPACE_KEPT]; /* while not current */
};

struct soft_mmu {
    u64 hole;                      /* no memory is at this guest-physical page while memory's generation is that */
    u32 hole_generation;
    struct tlb_index index[TLB_EMPTY];
    struct psc_entry psc[PSC_SIZE];
    struct xtlb_entry xtlb[2][XTLB_SIZE]; /* [cpl == 3] */
    struct page_filter code[2];    /* pages code was fetched through: the supervisor's, the user's global ones */
    struct page_filter pieces[2];  /* large pages of which tlbs may hold pieces, by half of the address space */
    u32 ndisplaced;
    bool displaced_lost;           /* there were more than have room below: any page may be written to */
    u64 displaced[64];             /* places of pages that translated code may write to though they are not open */
    bool local_code;               /* supervisor code was fetched through pages that are not global */
    u64 gen;                       /* the last one given out: of code, of psc */
    u64 psc_global;                /* the generation of global large pages in psc */
    u64 now;                       /* counts changes of the space */
    struct tlb_space *space;       /* current */
    struct tlb_space spaces[SPACE_COUNT];
};

#endif
