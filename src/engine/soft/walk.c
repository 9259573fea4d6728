/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.c - the guest's page tables: linear to guest-physical addresses, rights, accessed and dirty bits, and the
 * paging-structure caches that save most of a walk.
 *
 * SDM vol. 3 ch. 4: 4.6 access rights, 4.7 error codes, 4.8 accessed and dirty flags, 4.10.3 paging-structure caches.
 */
#include "engine/soft/mmu.h"

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull
enum { PTE_PKEY_SHIFT = 59 };
#define PSC_1G BIT(9) /* ignored by hardware; in psc_entry.entry: the guest's page is 1 GiB large */

/* ---- entries ------------------------------------------------------------ */

/* Page-table entries have 4 or 8 bytes (size). Outside RAM they read as all-ones, as an empty bus does. */
static void *pte_host(struct soft_vcpu *v, u64 gpa)
{
    struct memory_region r;
    return memory_lookup(v->vm->cfg.memory, gpa, &r) ? r.host + (gpa - r.gpa) : NULL;
}
static u64 pte_load(const void *p, unsigned size)
{
    if (!p)
        return ~0ull >> (64 - 8 * size);
    return size == 8 ? __atomic_load_n((const u64 *)p, __ATOMIC_RELAXED)
                     : __atomic_load_n((const u32 *)p, __ATOMIC_RELAXED);
}
/* Sets accessed and dirty bits in a present entry. Returns false if the entry changed meanwhile: the caller walks again. */
static bool pte_set(struct soft_vcpu *v, void *p, u64 gpa, unsigned size, u64 old, u64 bits)
{
    if ((old & bits) == bits)
        return true;
    struct memory_region r;
    if (!p || !memory_lookup(v->vm->cfg.memory, gpa, &r) || r.readonly)
        return true;
    const u64 place = r.place + (gpa - r.gpa);
    u32 old32 = (u32)old;
    const bool done =
        size == 8
            ? __atomic_compare_exchange_n((u64 *)p, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)
            : __atomic_compare_exchange_n((u32 *)p, &old32, old32 | (u32)bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    memory_mark_dirty(v->vm->cfg.memory, place); /* after the store, so that a log taken between the two misses nothing */
    soft_code_stored(v, place, size);
    return done;
}

/* Bits that must be 0 in any entry of this paging mode. */
static u64 always_reserved(const struct soft_vcpu *v)
{
    u64 reserved = PTE_ADDR & ~(BIT(v->vm->phys_bits) - 1);
    if (!(v->s.efer & EFER_NXE))
        reserved |= PTE_NX;
    if (!v->long_mode)
        reserved |= 0x7ff0000000000000ull; /* bits 62:52 */
    return reserved;
}

/* ---- rights ------------------------------------------------------------- */

static bool user_access(const struct soft_vcpu *v, enum access a)
{
    return v->cpl == 3 && !(a & ACCESS_IMPLICIT);
}

/* Is access a allowed by the rights found? Returns the error-code bits beyond P/W/U/I that a refusal has, or -1 if
   allowed. PF_PK tells whether the key refuses, even if something else refuses too (SDM vol. 3 4.7). */
static int refused(const struct soft_vcpu *v, const struct walk *w, enum access a, bool user, bool smap)
{
    bool write = a & ACCESS_WRITE, exec = a & ACCESS_EXEC;
    u64 cr0 = v->s.cr0, cr4 = v->s.cr4;
    if (exec)
        return (user && !w->u) || w->nx || (!user && w->u && (cr4 & CR4_SMEP)) ? 0 : -1;
    int pk = 0;
    /* PKRU protects user pages from data accesses of both modes; PKRS protects supervisor pages from the supervisor. */
    if (v->long_mode && (cr4 & (w->u ? CR4_PKE : CR4_PKS)) && (w->u || !user)) {
        u32 rights = (w->u ? v->pkru : (u32)v->s.pkrs) >> (2 * w->pkey) & 3;
        if ((rights & 1) || (write && (rights & 2) && (user || (cr0 & CR0_WP))))
            pk = PF_PK;
    }
    if ((user && !w->u) || (!user && w->u && smap) || (write && !w->w && (user || (cr0 & CR0_WP))))
        return pk;
    return pk ? pk : -1;
}

bool soft_walk_writable(const struct soft_vcpu *v, const struct walk *w, enum tlb_ctx ctx)
{
    return w->dirty && refused(v, w, ACCESS_WRITE, ctx == TLB_USER, ctx == TLB_KERNEL) < 0;
}

/* ---- paging-structure caches -------------------------------------------- */

/* Each space has its own slots for the lower half of the addresses, so only the space that walked to a global page there
   finds it again. */
static struct psc_entry *psc_slot(struct soft_vcpu *v, u64 lin)
{
    enum { STEP = 67 }; /* keeps spaces apart, though all programs have similar addresses */
    const u64 mix = lin >> 63 ? 0 : (u64)(v->mmu.space - v->mmu.spaces) * STEP;
    return &v->mmu.psc[((lin >> PAGE_2M) + mix) & (PSC_SIZE - 1)];
}

/* Keeps, after a walk, what the next walk in the same 2 MiB need not look up. table: the guest's table of 4 KiB entries; p:
   its host address; w has the rights of the levels above it. If p is NULL, w describes a large page. */
static void remember(struct soft_vcpu *v, u64 lin, const struct walk *w, u64 table, u8 *p)
{
    const bool global = !p && w->global && lin >> 63;
    if (!p && w->global && !global && (v->s.cr4 & CR4_PCIDE))
        return; /* INVLPG must drop a global page whatever the PCID, but would find it in the current space only */
    u64 e = PTE_P | (w->w ? PTE_W : 0) | (w->u ? PTE_U : 0) | (w->nx ? PTE_NX : 0);
    if (p)
        e |= table;
    else
        e |= PTE_PS | (w->gpa & ~(BIT(PAGE_2M) - 1)) | (w->dirty ? PTE_D : 0) | (w->global ? PTE_G : 0) |
             (w->shift == PAGE_1G ? PSC_1G : 0) | (u64)w->pkey << PTE_PKEY_SHIFT;
    *psc_slot(v, lin) = (struct psc_entry){ .lin = lin >> PAGE_2M,
                                            .gen = global ? v->mmu.psc_global : v->mmu.space->psc_gen,
                                            .entry = e,
                                            .table = p };
}

/* Walks from what remember() kept. Returns false if that is not enough, and also where the access would fault: the guest
   may change its tables to allow more without an invalidation, so only the whole walk can decide on a fault. */
static bool walk_remembered(struct soft_vcpu *v, u64 lin, enum access a, bool smap, struct walk *w)
{
    const struct psc_entry *c = psc_slot(v, lin);
    if (c->lin != lin >> PAGE_2M || (c->gen != v->mmu.space->psc_gen && c->gen != v->mmu.psc_global))
        return false;
    const bool write = a & ACCESS_WRITE;
    const u64 upper = c->entry;
    u64 e = upper;
    void *p = NULL;
    if (!(upper & PTE_PS)) {
        p = c->table + (lin >> PAGE_4K & 511) * 8;
        e = pte_load(p, 8);
        if (!(e & PTE_P) || (e & always_reserved(v)))
            return false;
    } else if (write && !(e & PTE_D)) {
        return false;
    }
    w->w = upper & e & PTE_W;
    w->u = upper & e & PTE_U;
    w->nx = (upper | e) & PTE_NX;
    w->global = (e & PTE_G) && (v->s.cr4 & CR4_PGE);
    w->pkey = v->long_mode ? e >> PTE_PKEY_SHIFT & 15 : 0;
    if (refused(v, w, a, user_access(v, a), smap) >= 0)
        return false;
    if (p) {
        const u64 at = (upper & PTE_ADDR) + (lin >> PAGE_4K & 511) * 8;
        if (!pte_set(v, p, at, 8, e, write ? PTE_A | PTE_D : PTE_A))
            return false;
        w->gpa = e & PTE_ADDR & a20_mask(v);
        w->shift = PAGE_4K;
    } else {
        w->gpa = ((e & PTE_ADDR & ~(BIT(PAGE_2M) - 1)) | (lin & (BIT(PAGE_2M) - 1) & ~0xfffull)) & a20_mask(v);
        w->shift = e & PSC_1G ? PAGE_1G : PAGE_2M;
    }
    w->dirty = write || (e & PTE_D);
    return true;
}

/* ---- the walk ----------------------------------------------------------- */

/* Returns the bits that are reserved in an entry of this level. */
static inline u64 reserved_bits(const struct soft_vcpu *v, int level, unsigned shift, bool pae, bool pdpte, bool leaf)
{
    const u64 always = pae ? always_reserved(v) : 0;
    if (pdpte)
        return always | 0x1e6 | PTE_NX; /* 2:1, 8:5, 63 */
    if (level == 4)
        return always | PTE_PS;
    if (leaf && level > 1 && pae)
        return always | ((BIT(shift) - 1) & ~0x1fffull); /* between PAT and the frame */
    if (leaf && level == 2 && !pae)
        return always | BIT(21); /* PSE-36 on a processor of 40 physical bits */
    return always;
}

static bool walk_whole(struct soft_vcpu *v, u64 lin, enum access a, bool smap, struct walk *w)
{
    const u64 cr0 = v->s.cr0, cr4 = v->s.cr4;
    const bool user = user_access(v, a), write = a & ACCESS_WRITE, exec = a & ACCESS_EXEC;
    const bool nxe = v->s.efer & EFER_NXE;
    v->stat.walk_whole++;
    *w = (struct walk){ .w = true, .u = true, .shift = PAGE_4K };
    if (!(cr0 & CR0_PG)) {
        w->gpa = lin & 0xfffff000 & a20_mask(v);
        w->dirty = true;
        return true;
    }
    const u32 code = (write ? PF_W : 0) | (user ? PF_U : 0) | (exec && (nxe || (cr4 & CR4_SMEP)) ? PF_I : 0);
    const bool pae = cr4 & CR4_PAE;
    const unsigned size = pae ? 8 : 4;

retry:;
    void *host[4];
    u64 entry[4], addr[4];
    unsigned depth = 0;
    int level = v->long_mode ? 4 : pae ? 3 : 2;
    u64 table = v->long_mode ? v->s.cr3 & PTE_ADDR : pae ? v->s.cr3 & 0xffffffe0 : v->s.cr3 & 0xfffff000;
    u64 e, page_mask;
    struct walk upper; /* rights without those of a 4 KiB entry */
    w->w = w->u = true;
    w->nx = false;
    for (;; level--) {
        unsigned shift = pae ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
        u64 gpa = (table + (lin >> shift & (pae ? (level == 3 && !v->long_mode ? 3 : 511) : 1023)) * size) & a20_mask(v);
        void *p = pte_host(v, gpa);
        e = pte_load(p, size);
        if (!(e & PTE_P)) {
            w->fault = code;
            return false;
        }
        bool pdpte = pae && level == 3 && !v->long_mode;
        bool leaf = level == 1 || (!pdpte && level <= 3 && (e & PTE_PS) && (pae || (level == 2 && (cr4 & CR4_PSE))));
        if (e & reserved_bits(v, level, shift, pae, pdpte, leaf)) {
            w->fault = code | PF_P | PF_RSVD;
            return false;
        }
        if (level == 1)
            upper = *w;
        if (!pdpte) {
            w->w &= !!(e & PTE_W);
            w->u &= !!(e & PTE_U);
            w->nx |= nxe && pae && (e & PTE_NX);
            host[depth] = p, entry[depth] = e, addr[depth] = gpa;
            depth++;
        }
        if (leaf) {
            page_mask = BIT(shift) - 1;
            w->shift = (u8)shift;
            break;
        }
        table = pae ? e & PTE_ADDR : e & 0xfffff000;
    }
    w->pkey = v->long_mode ? e >> PTE_PKEY_SHIFT & 15 : 0;
    w->global = (e & PTE_G) && (cr4 & CR4_PGE);
    int why = refused(v, w, a, user, smap);
    if (why >= 0) {
        w->fault = code | PF_P | (u32)why;
        return false;
    }
    for (unsigned k = 0; k < depth; k++) {
        u64 bits = k == depth - 1 && write ? PTE_A | PTE_D : PTE_A;
        if (!pte_set(v, host[k], addr[k], size, entry[k], bits))
            goto retry;
    }
    u64 frame = pae ? e & PTE_ADDR & ~page_mask
                    : (page_mask > 4095 ? (e & 0xffc00000) | (e >> 13 & 0xff) << 32 : e & 0xfffff000);
    w->gpa = (frame | (lin & page_mask & ~0xfffull)) & a20_mask(v);
    w->dirty = write || (e & PTE_D);
    if (w->shift > PAGE_4K)
        soft_note_large(v, lin, w->shift);
    if (pae && w->shift > PAGE_4K)
        remember(v, lin, w, 0, NULL);
    else if (pae && host[depth - 1])
        remember(v, lin, &upper, addr[depth - 1] & ~0xfffull, (u8 *)((u64)host[depth - 1] & ~0xfffull));
    return true;
}

bool soft_walk(struct soft_vcpu *v, u64 lin, enum access a, bool smap, struct walk *w)
{
    return likely(walk_remembered(v, lin, a, smap, w)) || walk_whole(v, lin, a, smap, w);
}

/* ---- looking without a trace ------------------------------------------------ */

static bool useful(const struct soft_vcpu *v, u64 e, u64 reserved)
{
    return (e & (PTE_P | PTE_U | PTE_A)) == (PTE_P | PTE_U | PTE_A) && !(e & (reserved | always_reserved(v)));
}

bool soft_peek(struct soft_vcpu *v, u64 lin, struct soft_walk_peek *p)
{
    u64 table = v->s.cr3 & PTE_ADDR, rights = PTE_W, nx = 0;
    *p = (struct soft_walk_peek){ 0 };
    for (int level = 4; level > 1; level--) {
        const unsigned shift = 12 + 9 * (unsigned)(level - 1);
        const u64 e = pte_load(pte_host(v, (table + (lin >> shift & 511) * 8) & a20_mask(v)), 8);
        const bool large = level < 4 && (e & PTE_PS);
        if (!useful(v, e, reserved_bits(v, level, shift, true, false, large)))
            return false;
        rights &= e;
        nx |= e & PTE_NX;
        table = e & PTE_ADDR;
        if (large) {
            p->large = true;
            p->huge = level == 3;
            p->upper = (e & ~(PTE_W | PTE_NX | PTE_ADDR)) | (e & PTE_ADDR & ~(BIT(shift) - 1)) | rights | nx;
            if (p->huge)
                p->upper |= lin & (BIT(PAGE_1G) - BIT(PAGE_2M));
            return true;
        }
    }
    p->upper = rights | nx;
    p->table = pte_host(v, table & a20_mask(v));
    return p->table != NULL;
}

bool soft_peek_page(const struct soft_vcpu *v, const struct soft_walk_peek *p, u64 lin, struct walk *w)
{
    u64 e = p->upper;
    if (!p->large) {
        e = pte_load(p->table + (lin >> PAGE_4K & 511) * 8, 8);
        if (!useful(v, e, 0))
            return false;
        e = (e & ~PTE_W) | (e & p->upper & PTE_W) | (p->upper & PTE_NX);
        w->gpa = e & PTE_ADDR & a20_mask(v);
    } else {
        w->gpa = ((e & PTE_ADDR) | (lin & (BIT(PAGE_2M) - 1) & ~0xfffull)) & a20_mask(v);
    }
    w->w = e & PTE_W;
    w->u = true;
    w->nx = e & PTE_NX;
    w->dirty = e & PTE_D;
    w->pkey = e >> PTE_PKEY_SHIFT & 15;
    if (v->s.cr4 & CR4_PKE) {
        const u32 rights = v->pkru >> (2 * w->pkey) & 3;
        w->w &= !(rights & 2);
        return !(rights & 1);
    }
    return true;
}
