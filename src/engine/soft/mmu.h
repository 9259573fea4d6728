/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmu.h - between mmu.c (accesses), walk.c (the guest's page tables) and tlb.c
 * (what is remembered of them).
 */
#ifndef LODGE_ENGINE_SOFT_MMU_H
#define LODGE_ENGINE_SOFT_MMU_H

#include "engine/soft/blocks.h"

enum { PLACE_WATCHED = 1 /* in tlb_entry.place: may be written, but holds decoded code: stores take the slow path, without a walk */ };

enum { PAGE_4K = 12, PAGE_2M = 21, PAGE_4M = 22, PAGE_1G = 30 };

struct walk {
    u64 gpa;       /* of the 4 KiB page */
    bool w, u, nx; /* rights over all levels */
    bool dirty;    /* D set in the leaf */
    bool global;   /* CR4.PGE and G */
    u8 pkey;
    u8 shift;  /* PAGE_4K, ..: of the guest's page */
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

/* Where address line 20 is held low: the gate may be closed (AT's 8042, port 92h). */
static inline u64 a20_mask(const struct soft_vcpu *v)
{
    return __atomic_load_n(&v->vm->a20_mask, __ATOMIC_RELAXED);
}

/* ---- walk.c --------------------------------------------------------------- */

/* Translates lin for access a, setting A and D bits; false: w->fault. smap: user pages are refused to the supervisor. */
bool soft_walk(struct soft_vcpu *v, u64 lin, enum access a, bool smap, struct walk *w);
/* Would a write by the same access be allowed, too? */
bool soft_walk_writable(const struct soft_vcpu *v, const struct walk *w, enum tlb_ctx ctx);

/* ---- tlb.c ---------------------------------------------------------------- */

/* Loads in ctx go straight to the page that lin was translated to, at host, which is memory's page at place. */
void soft_tlb_fill(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin, const struct walk *w, u8 *host, u64 place);
/* Stores do, too, unless the page holds decoded code. Only a page that soft_tlb_fill filled in, may be written and is
   marked as dirty. */
void soft_tlb_open(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin);
/* The page of the entry just filled is written although it stays closed: it is dirty once more when the log was taken. */
void soft_tlb_note(struct soft_vcpu *v, enum tlb_ctx ctx, u64 lin);
/* A walk found a large page: INVLPG must find all of it. */
void soft_note_large(struct soft_vcpu *v, u64 lin, unsigned shift);
/* Code is fetched through the page, by the current privilege: before anything is remembered by its RIP. */
void soft_note_code(struct soft_vcpu *v, u64 lin, const struct walk *w);

#endif
