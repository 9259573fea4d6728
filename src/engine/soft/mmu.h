/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmu.h - shared by mmu.c (accesses), walk.c (the guest's page tables) and tlb.c (the caches of these tables).
 */
#ifndef LODGE_ENGINE_SOFT_MMU_H
#define LODGE_ENGINE_SOFT_MMU_H

#include "engine/soft/blocks.h"

/* A bit in tlb_entry.place: the page may be written but holds decoded code, so stores take the slow path, without a walk. */
enum { PLACE_WATCHED = 1 };

enum { PAGE_4K = 12, PAGE_2M = 21, PAGE_4M = 22, PAGE_1G = 30 };

struct walk {
    u64 gpa;       /* of the 4 KiB page */
    bool w, u, nx; /* the rights, combined over all levels */
    bool dirty;    /* D is set in the leaf */
    bool global;   /* CR4.PGE and G are set */
    u8 pkey;
    u8 shift;  /* the size of the guest's page: PAGE_4K, .. */
    u32 fault; /* error code, if the walk failed */
};

static inline enum tlb_ctx ctx_of(const struct soft_vcpu *v, enum access a)
{
    if (v->cpl == 3 && !(a & ACCESS_IMPLICIT))
        return TLB_USER;
    if (!(v->s.cr4 & CR4_SMAP))
        return TLB_KERNEL_AC;
    return (v->rflags & RFLAGS_AC) && !(a & ACCESS_IMPLICIT) ? TLB_KERNEL_AC : TLB_KERNEL;
}

/* The mask for guest-physical addresses: bit 20 is 0 while the A20 gate (AT's 8042, port 92h) holds address line 20 low. */
static inline u64 a20_mask(const struct soft_vcpu *v)
{
    return __atomic_load_n(&v->vm->a20_mask, __ATOMIC_RELAXED);
}

/* ---- walk.c --------------------------------------------------------------- */

/* Translates lin for access a, and sets A and D bits. False: the error code is in w->fault. smap: the supervisor may not
   access user pages. */
bool soft_walk(struct soft_vcpu *v, u64 lin, enum access a, bool smap, struct walk *w);
/* True if D is set already and a write in ctx would be allowed, too. */
bool soft_walk_writable(const struct soft_vcpu *v, const struct walk *w, enum tlb_ctx ctx);

/* A look at the tables that changes nothing, for what the guest may use already (A is set at all levels). First the 2 MiB
   around lin. False: there is nothing. Only in long mode. */
struct soft_walk_peek {
    u64 upper;        /* the rights above the last level, as PTE bits; for a large page its entry */
    const u8 *table;  /* of 4 KiB pages */
    bool large, huge; /* a page of 2 MiB or more; of 1 GiB */
};
bool soft_peek(struct soft_vcpu *v, u64 lin, struct soft_walk_peek *p);
/* Then the page of lin, which lies in them: gpa, w, nx, dirty as far as CPL 3 may use them. False: it may not be used. */
bool soft_peek_page(const struct soft_vcpu *v, const struct soft_walk_peek *p, u64 lin, struct walk *w);

/* ---- tlb.c ---------------------------------------------------------------- */

/* From now on loads in ctx go straight to the page that lin was translated to. It is memory's page at place; host is its
   address. */
void soft_tlb_fill(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin, const struct walk *w, u8 *host, u64 place);
/* From now on stores go straight to the page, too, unless it holds decoded code. The page must have been filled in by
   soft_tlb_fill, the guest must be allowed to write it, and it must be marked as dirty. */
void soft_tlb_open(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin);
/* Notes that the page of the entry just filled is written although the entry stays closed for stores. After the log is
   taken, the page counts as dirty once more. */
void soft_tlb_note(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin);
/* Notes that a walk found a large page: an INVLPG must drop all of it. */
void soft_note_large(struct soft_vcpu *v, u64 lin, unsigned shift);
/* Notes that code is fetched through the page at the current privilege. To be called before any cache remembers something by
   a RIP in it. */
void soft_note_code(struct soft_vcpu *v, u64 lin, const struct walk *w);

#endif
