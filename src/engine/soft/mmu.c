/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmu.c - linear to guest-physical to host: segment checks, page walks, the
 * software TLB's slow paths, and the watch on pages that hold decoded code.
 *
 * SDM vol. 3 ch. 4 (paging), ch. 5 (protection); 4.6 access rights, 4.7 error codes.
 */
#include "engine/soft/soft.h"

#include "engine/soft/block.h"
#include "engine/soft/translate/translate.h"

enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16, PF_PK = 32 };
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ull

/* ---- segments ----------------------------------------------------------- */

static _Noreturn void seg_fault(struct soft_vcpu *v, const struct insn *i, unsigned seg)
{
    soft_raise_err(v, i, seg == SS ? VEC_SS : VEC_GP, 0);
}

u64 soft_legacy_linear(struct soft_vcpu *v, const struct insn *i, unsigned seg, u64 ea, u64 size, enum access a)
{
    const struct cpu_seg *s = &v->s.seg[seg];
    if (likely(v->seg_flat & (1 << seg)))
        /* A flat 4 GiB segment: only an access that wraps past the top is outside its limit. */
        return ea + size - 1 <= 0xffffffff ? ea : (seg_fault(v, i, seg), 0);
    if (v->protected_mode) {
        if (s->attr & SEG_UNUSABLE)
            seg_fault(v, i, seg);
        bool code = s->attr & SEG_CODE;
        if (a & ACCESS_WRITE ? code || !(s->attr & SEG_W) : code && !(s->attr & SEG_R))
            seg_fault(v, i, seg);
    }
    u64 last = ea + size - 1;
    bool down = (s->attr & (SEG_CODE | SEG_E)) == SEG_E;
    if (down ? ea <= s->limit || last > (s->attr & SEG_DB ? 0xffffffffu : 0xffffu) : last > s->limit || last < ea)
        seg_fault(v, i, seg);
    return (s->base + ea) & 0xffffffff;
}

/* ---- physical memory ---------------------------------------------------- */

static const struct memory_region *region_at(const struct soft_vm *vm, u64 gpa)
{
    const struct memory *m = vm->cfg.memory;
    for (u32 k = 0; k < m->nregions; k++)
        if (gpa - m->region[k].gpa < m->region[k].size)
            return &m->region[k];
    return NULL;
}

/* Page-table entries: size 4 or 8. Outside RAM they read as all-ones, as an empty bus does. */
static void *pte_host(struct soft_vcpu *v, u64 gpa)
{
    const struct memory_region *r = region_at(v->vm, gpa);
    return r ? r->host + (gpa - r->gpa) : NULL;
}
static u64 pte_load(const void *p, unsigned size)
{
    if (!p)
        return ~0ull >> (64 - 8 * size);
    return size == 8 ? __atomic_load_n((const u64 *)p, __ATOMIC_RELAXED)
                     : __atomic_load_n((const u32 *)p, __ATOMIC_RELAXED);
}
/* Sets accessed and dirty bits in a present entry; false if it changed meanwhile: walk again. */
static bool pte_set(struct soft_vcpu *v, void *p, u64 gpa, unsigned size, u64 old, u64 bits)
{
    if ((old & bits) == bits)
        return true;
    const struct memory_region *r = region_at(v->vm, gpa);
    if (!p || !r || r->readonly)
        return true;
    memory_mark_dirty(r, gpa);
    soft_code_written(v, gpa, size);
    if (size == 8)
        return __atomic_compare_exchange_n((u64 *)p, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    u32 old32 = (u32)old;
    return __atomic_compare_exchange_n((u32 *)p, &old32, old32 | (u32)bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* ---- the walk ----------------------------------------------------------- */

struct walk {
    u64 gpa;      /* of the 4 KiB page */
    bool w, u, nx; /* rights over all levels */
    bool dirty;   /* D set in the leaf */
    u8 pkey;
    u32 fault; /* error code; 0 with ok */
    bool ok;
};

static bool user_access(const struct soft_vcpu *v, enum access a)
{
    return v->cpl == 3 && !(a & ACCESS_IMPLICIT);
}

/* Is access a allowed by the rights found? Returns the error-code bits beyond P/W/U/I that a refusal has, or -1 if
   allowed. PK tells of the key's rights whatever else refuses (SDM vol. 3 4.7). */
static int refused(const struct soft_vcpu *v, const struct walk *w, enum access a, bool user, bool smap)
{
    bool write = a & ACCESS_WRITE, exec = a & ACCESS_EXEC;
    u64 cr0 = v->s.cr0, cr4 = v->s.cr4;
    if (exec)
        return (user && !w->u) || w->nx || (!user && w->u && (cr4 & CR4_SMEP)) ? 0 : -1;
    int pk = 0;
    /* PKRU guards user pages from data accesses of either mode, PKRS supervisor pages from the supervisor's. */
    if (v->long_mode && (cr4 & (w->u ? CR4_PKE : CR4_PKS)) && (w->u || !user)) {
        u32 rights = (w->u ? v->pkru : (u32)v->s.pkrs) >> (2 * w->pkey) & 3;
        if ((rights & 1) || (write && (rights & 2) && (user || (cr0 & CR0_WP))))
            pk = PF_PK;
    }
    if ((user && !w->u) || (!user && w->u && smap) || (write && !w->w && (user || (cr0 & CR0_WP))))
        return pk;
    return pk ? pk : -1;
}

static struct walk walk(struct soft_vcpu *v, u64 lin, enum access a, bool smap)
{
    const u64 cr0 = v->s.cr0, cr4 = v->s.cr4;
    const bool user = user_access(v, a), write = a & ACCESS_WRITE, exec = a & ACCESS_EXEC;
    const bool nxe = v->s.efer & EFER_NXE;
    struct walk w = {.w = true, .u = true};
    if (!(cr0 & CR0_PG)) {
        w.gpa = lin & 0xfffff000 & v->vm->a20_mask;
        w.dirty = true;
        w.ok = true;
        return w;
    }
    const u32 code = (write ? PF_W : 0) | (user ? PF_U : 0) | (exec && (nxe || (cr4 & CR4_SMEP)) ? PF_I : 0);
    const bool pae = cr4 & CR4_PAE;
    const unsigned size = pae ? 8 : 4;
    const u64 phys_reserved = PTE_ADDR & ~(BIT(v->vm->phys_bits) - 1);

retry:;
    void *host[4];
    u64 entry[4], addr[4];
    unsigned depth = 0;
    int level = v->long_mode ? 4 : pae ? 3 : 2;
    u64 table = v->long_mode ? v->s.cr3 & PTE_ADDR : pae ? v->s.cr3 & 0xffffffe0 : v->s.cr3 & 0xfffff000;
    u64 e, page_mask;
    w.w = w.u = true;
    w.nx = false;
    for (;; level--) {
        unsigned shift = pae ? 12 + 9 * (level - 1) : 12 + 10 * (level - 1);
        u64 gpa = (table + (lin >> shift & (pae ? (level == 3 && !v->long_mode ? 3 : 511) : 1023)) * size) & v->vm->a20_mask;
        void *p = pte_host(v, gpa);
        e = pte_load(p, size);
        if (!(e & PTE_P)) {
            w.fault = code;
            return w;
        }
        bool pdpte = pae && level == 3 && !v->long_mode;
        bool leaf = level == 1 || (!pdpte && level <= 3 && (e & PTE_PS) && (pae || (level == 2 && (cr4 & CR4_PSE))));
        u64 reserved = pae ? phys_reserved : 0;
        if (pae && !nxe)
            reserved |= PTE_NX;
        if (pae && !v->long_mode)
            reserved |= 0x7ff0000000000000ull; /* bits 62:52 */
        if (pdpte)
            reserved |= 0x1e6 | PTE_NX; /* 2:1, 8:5, 63 */
        else if (level == 4)
            reserved |= PTE_PS;
        else if (leaf && level > 1 && pae)
            reserved |= (BIT(shift) - 1) & ~0x1fffull; /* between PAT and the frame */
        else if (leaf && level == 2 && !pae)
            reserved |= BIT(21); /* PSE-36 on a processor of 40 physical bits */
        if (e & reserved) {
            w.fault = code | PF_P | PF_RSVD;
            return w;
        }
        if (!pdpte) {
            w.w &= !!(e & PTE_W);
            w.u &= !!(e & PTE_U);
            w.nx |= nxe && pae && (e & PTE_NX);
            host[depth] = p, entry[depth] = e, addr[depth] = gpa;
            depth++;
        }
        if (leaf) {
            page_mask = BIT(shift) - 1;
            break;
        }
        table = pae ? e & PTE_ADDR : e & 0xfffff000;
    }
    w.pkey = v->long_mode ? e >> 59 & 15 : 0;
    int why = refused(v, &w, a, user, smap);
    if (why >= 0) {
        w.fault = code | PF_P | (u32)why;
        return w;
    }
    for (unsigned k = 0; k < depth; k++) {
        u64 bits = k == depth - 1 && write ? PTE_A | PTE_D : PTE_A;
        if (!pte_set(v, host[k], addr[k], size, entry[k], bits))
            goto retry;
    }
    u64 frame = pae ? e & PTE_ADDR & ~page_mask
                    : (page_mask > 4095 ? (e & 0xffc00000) | (e >> 13 & 0xff) << 32 : e & 0xfffff000);
    w.gpa = (frame | (lin & page_mask & ~0xfffull)) & v->vm->a20_mask;
    w.dirty = write || (e & PTE_D);
    w.ok = true;
    return w;
}

/* ---- TLB ---------------------------------------------------------------- */

void soft_flush_tlb(struct soft_vcpu *v)
{
    zero_bytes(v->tlbs, sizeof v->tlbs);
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++)
        v->tlbs[c][0].read = v->tlbs[c][0].write = TLB_NONE(0);
    for (unsigned c = 0; c < 2; c++)
        for (unsigned k = 0; k < XTLB_SIZE; k++)
            v->xtlb[c][k].tag = 1; /* no page address */
    v->jc_gen++;
    soft_update_jc_key(v);
}

void soft_flush_page(struct soft_vcpu *v, u64 lin)
{
    unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++)
        v->tlbs[c][slot].read = v->tlbs[c][slot].write = TLB_NONE(slot);
    for (unsigned c = 0; c < 2; c++)
        v->xtlb[c][(lin >> 12) & (XTLB_SIZE - 1)].tag = 1;
    v->jc_gen++;
    soft_update_jc_key(v);
}

/* In tlb_entry.gpa: the page may be written, but holds decoded code: stores take the slow path, without a walk. */
enum { GPA_WATCHED = 1 };

void soft_drop_writable(struct soft_vcpu *v)
{
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++)
        for (unsigned slot = 0; slot < TLB_SIZE; slot++) {
            struct tlb_entry *e = &v->tlbs[c][slot];
            bool open = e->write != TLB_NONE(slot);
            e->write = TLB_NONE(slot);
            e->gpa &= ~0xfffull; /* a watched page, too, must be noted as dirty anew */
            if (!open)
                continue;
            /* It may have been written since the dirty log was taken, or since another processor decoded code from
               it: it is dirty (again), and that code is stale. */
            const struct memory_region *r = region_at(v->vm, e->gpa);
            if (r)
                memory_mark_dirty(r, e->gpa);
            soft_code_written(v, e->gpa, GUEST_PAGE_SIZE);
        }
}

void soft_protect_page(struct soft_vcpu *v, u64 gpa)
{
    for (unsigned c = 0; c < TLB_CTX_COUNT; c++)
        for (unsigned slot = 0; slot < TLB_SIZE; slot++)
            if ((v->tlbs[c][slot].gpa & ~0xfffull) == gpa)
                v->tlbs[c][slot].write = TLB_NONE(slot);
}

/* One page of an access, translated. */
struct page {
    u64 gpa;  /* of the byte */
    u8 *host; /* of the byte; NULL: not RAM */
    bool rom;
};

static enum tlb_ctx ctx_of(const struct soft_vcpu *v, enum access a)
{
    if (v->cpl == 3 && !(a & ACCESS_IMPLICIT))
        return TLB_USER;
    if (!(v->s.cr4 & CR4_SMAP))
        return TLB_KERNEL_AC;
    return (v->rflags & RFLAGS_AC) && !(a & ACCESS_IMPLICIT) ? TLB_KERNEL_AC : TLB_KERNEL;
}

static bool canonical(u64 lin)
{
    return (u64)((s64)(lin << 16) >> 16) == lin;
}

/* Lets stores go straight to the page unless it holds decoded code. Pairs with the order in block.c: lines are set,
   then the other processors asked to drop write entries. */
static void open_if_unwatched(struct soft_vcpu *v, struct tlb_entry *e, u64 page, unsigned slot)
{
    e->write = page;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    e->gpa &= ~0xfffull;
    if (__atomic_load_n(&v->vm->code_lines[e->gpa >> GUEST_PAGE_SHIFT], __ATOMIC_RELAXED)) {
        e->write = TLB_NONE(slot);
        e->gpa |= GPA_WATCHED;
    }
}

/* false with *fault: the error code of the page fault. */
static bool translate(struct soft_vcpu *v, u64 lin, enum access a, struct page *p, u32 *fault)
{
    enum tlb_ctx ctx = ctx_of(v, a);
    unsigned slot = (lin >> 12) & (TLB_SIZE - 1);
    struct tlb_entry *e = &v->tlbs[ctx][slot];
    bool write = a & ACCESS_WRITE;
    u64 page = lin & ~0xfffull;
    const bool watched = write && e->read == page && (e->gpa & GPA_WATCHED);
    if (watched)
        open_if_unwatched(v, e, page, slot);
    if ((write ? e->write : e->read) == page || watched) {
        *p = (struct page){(e->gpa & ~0xfffull) | (lin & 0xfff), (u8 *)(e->host + lin), false};
        return true;
    }
    struct walk w = walk(v, lin, a, ctx == TLB_KERNEL);
    if (!w.ok) {
        *fault = w.fault;
        return false;
    }
    p->gpa = w.gpa | (lin & 0xfff);
    const struct memory_region *r = region_at(v->vm, w.gpa);
    if (!r) {
        p->host = NULL;
        p->rom = false;
        return true;
    }
    u8 *host = r->host + (w.gpa - r->gpa);
    p->host = host + (lin & 0xfff);
    p->rom = r->readonly;
    if (write && !p->rom)
        memory_mark_dirty(r, w.gpa);
    e->read = page;
    e->host = (u64)host - page;
    e->gpa = w.gpa;
    /* A read may open the page for writes too, where nothing would have to be noted at the first one. */
    bool can_write = w.dirty && !p->rom && refused(v, &w, ACCESS_WRITE, ctx == TLB_USER, ctx == TLB_KERNEL) < 0;
    u64 n = (w.gpa - r->gpa) >> GUEST_PAGE_SHIFT;
    bool marked = __atomic_load_n(&r->dirty[n >> 6], __ATOMIC_RELAXED) >> (n & 63) & 1;
    e->write = TLB_NONE(slot);
    if (can_write && marked)
        open_if_unwatched(v, e, page, slot);
    return true;
}

static _Noreturn void not_canonical(struct soft_vcpu *v, const struct insn *i)
{
    soft_raise_err(v, i, i && i->seg == ISEG_FLAT_SS ? VEC_SS : VEC_GP, 0);
}

/* Translates the byte at lin or raises. */
static struct page reach(struct soft_vcpu *v, const struct insn *i, u64 lin, enum access a)
{
    struct page p = {0};
    u32 fault = 0;
    if (v->long_mode) {
        if (unlikely(!canonical(lin)))
            not_canonical(v, i);
    } else {
        lin = (u32)lin;
    }
    if (!translate(v, lin, a, &p, &fault))
        soft_raise_pf(v, i, lin, fault);
    return p;
}

bool soft_accessible(struct soft_vcpu *v, u64 lin, enum access a)
{
    struct page p;
    u32 fault;
    if (v->long_mode ? !canonical(lin) : (lin = (u32)lin, false))
        return false;
    return translate(v, lin, a, &p, &fault);
}

void soft_probe(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 size, enum access a)
{
    u64 last = lin + size - 1;
    for (u64 at = lin;; at = (at & ~0xfffull) + 4096) {
        reach(v, i, at, a);
        if ((at ^ last) < 4096)
            return;
    }
}

/* ---- slow paths --------------------------------------------------------- */

static void check_access(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    if (a & ACCESS_IMPLICIT)
        return;
    if (v->cpl == 3 && (v->s.cr0 & CR0_AM) && (v->rflags & RFLAGS_AC) && size <= 8 && (lin & (size - 1)))
        soft_raise_err(v, i, VEC_AC, 0);
    if (v->s.dr7 & 0xff)
        soft_check_data_bp(v, lin, size, a & ACCESS_WRITE);
}

static u64 host_load(const u8 *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return *(const volatile u16 *)p;
    case 4: return *(const volatile u32 *)p;
    default: return *(const volatile u64 *)p;
    }
}
static void host_store(u8 *p, unsigned size, u64 x)
{
    switch (size) {
    case 1: *(volatile u8 *)p = (u8)x; break;
    case 2: *(volatile u16 *)p = (u16)x; break;
    case 4: *(volatile u32 *)p = (u32)x; break;
    default: *(volatile u64 *)p = x; break;
    }
}

/* Any length inside one page, of RAM or registers. */
static void page_read(struct soft_vcpu *v, const struct page *p, u8 *buf, unsigned n)
{
    if (p->host) {
        copy_bytes(buf, p->host, n);
        return;
    }
    for (unsigned k = 0; k < n;) {
        unsigned c = n - k >= 8 ? 8 : n - k >= 4 ? 4 : n - k >= 2 ? 2 : 1;
        u64 x = soft_phys_load(v, p->gpa + k, c);
        copy_bytes(buf + k, &x, c);
        k += c;
    }
}
static void page_write(struct soft_vcpu *v, const struct page *p, const u8 *buf, unsigned n)
{
    if (p->host) {
        if (p->rom)
            return;
        soft_code_written(v, p->gpa, n);
        copy_bytes(p->host, buf, n);
        return;
    }
    for (unsigned k = 0; k < n;) {
        unsigned c = n - k >= 8 ? 8 : n - k >= 4 ? 4 : n - k >= 2 ? 2 : 1;
        u64 x = 0;
        copy_bytes(&x, buf + k, c);
        soft_phys_store(v, p->gpa + k, c, x);
        k += c;
    }
}

/* A write about to hit decoded code of the block that runs: run the instruction again, alone, so that what follows it
   is decoded afresh. */
static void check_smc(struct soft_vcpu *v, const struct insn *i, const struct page *p, unsigned n)
{
    if (i && p->host && !(v->slow & SLOW_SMC) && !v->in_string && soft_code_hits_block(v, p->gpa, n))
        soft_retry_slow(v, i, SLOW_SMC);
}

u64 soft_load_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    if (unlikely(v->watch_access))
        check_access(v, i, lin, size, a);
    struct page p = reach(v, i, lin, a);
    unsigned first = 4096 - (lin & 0xfff);
    if (likely(size <= first))
        return p.host ? host_load(p.host, size) : soft_phys_load(v, p.gpa, size);
    struct page q = reach(v, i, lin + first, a);
    u8 buf[8] = {0};
    page_read(v, &p, buf, first);
    page_read(v, &q, buf + first, size - first);
    return host_load(buf, size);
}

void soft_store_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 x, enum access a)
{
    if (unlikely(v->watch_access))
        check_access(v, i, lin, size, a);
    struct page p = reach(v, i, lin, a);
    unsigned first = 4096 - (lin & 0xfff);
    if (likely(size <= first)) {
        if (!p.host) {
            soft_phys_store(v, p.gpa, size, x);
        } else if (!p.rom) {
            check_smc(v, i, &p, size);
            soft_code_written(v, p.gpa, size);
            host_store(p.host, size, x);
        }
        return;
    }
    struct page q = reach(v, i, lin + first, a);
    check_smc(v, i, &p, first);
    check_smc(v, i, &q, size - first);
    u8 buf[8];
    host_store(buf, 8, x);
    page_write(v, &p, buf, first);
    page_write(v, &q, buf + first, size - first);
}

void *soft_ptr(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a, void *buf, bool *bounce)
{
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    *bounce = false;
    if (likely((lin ^ (a & ACCESS_WRITE ? e->write : e->read)) <= 4096 - size))
        return (void *)(e->host + lin);
    if (unlikely(v->watch_access))
        check_access(v, i, lin, size, a);
    struct page p = reach(v, i, lin, a);
    unsigned first = MIN(size, 4096 - (unsigned)(lin & 0xfff));
    if (first == size && p.host && !p.rom) {
        if (a & ACCESS_WRITE) {
            check_smc(v, i, &p, size);
            soft_code_written(v, p.gpa, size);
        }
        return p.host;
    }
    struct page q = {0};
    if (first < size)
        q = reach(v, i, lin + first, a);
    if (a & ACCESS_WRITE) {
        check_smc(v, i, &p, first);
        if (first < size)
            check_smc(v, i, &q, size - first);
    }
    u8 *at = (u8 *)(((u64)buf + 63) & ~63ull) + (lin & 63);
    *bounce = true;
    if (!(a & ACCESS_WRITE) || (a & ACCESS_RMW) == ACCESS_RMW) {
        page_read(v, &p, at, first);
        if (first < size)
            page_read(v, &q, at + first, size - first);
    }
    return at;
}

void soft_bounce_out(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, const void *data)
{
    unsigned first = MIN(size, 4096 - (unsigned)(lin & 0xfff));
    struct page p = reach(v, i, lin, ACCESS_WRITE);
    page_write(v, &p, data, first);
    if (first < size) {
        p = reach(v, i, lin + first, ACCESS_WRITE);
        page_write(v, &p, (const u8 *)data + first, size - first);
    }
}

u64 soft_sys_load(struct soft_vcpu *v, u64 lin, unsigned size)
{
    return soft_load_slow(v, NULL, lin, size, ACCESS_READ | ACCESS_IMPLICIT);
}
void soft_sys_store(struct soft_vcpu *v, u64 lin, unsigned size, u64 x)
{
    soft_store_slow(v, NULL, lin, size, x, ACCESS_WRITE | ACCESS_IMPLICIT);
}

/* ---- instruction fetch -------------------------------------------------- */

const u8 *soft_fetch_page(struct soft_vcpu *v, u64 lin, u64 *gpa)
{
    if (v->long_mode && v->bits == 64) {
        if (unlikely(!canonical(lin)))
            soft_raise_err(v, NULL, VEC_GP, 0);
    } else {
        lin = (u32)lin;
    }
    struct xtlb_entry *x = &v->xtlb[v->cpl == 3][(lin >> 12) & (XTLB_SIZE - 1)];
    if (likely(x->tag == (lin & ~0xfffull))) {
        *gpa = x->gpa;
        return x->host;
    }
    struct walk w = walk(v, lin, ACCESS_EXEC, false);
    if (!w.ok)
        soft_raise_pf(v, NULL, lin, w.fault);
    const struct memory_region *r = region_at(v->vm, w.gpa);
    *gpa = w.gpa;
    if (!r)
        return NULL;
    x->tag = lin & ~0xfffull;
    x->gpa = w.gpa;
    x->host = r->host + (w.gpa - r->gpa);
    return x->host;
}

/* ---- derived state ------------------------------------------------------ */

void soft_update_tlb_ctx(struct soft_vcpu *v)
{
    bool align = v->cpl == 3 && (v->s.cr0 & CR0_AM) && (v->rflags & RFLAGS_AC);
    /* Data breakpoints: R/W field 1 or 3 of an enabled one. */
    bool data_bp = false;
    for (unsigned n = 0; n < 4; n++)
        if ((v->s.dr7 >> (2 * n) & 3) && (v->s.dr7 >> (16 + 4 * n) & 1))
            data_bp = true;
    v->watch_access = align || data_bp;
    v->tlb_ctx = v->watch_access ? TLB_EMPTY : ctx_of(v, ACCESS_READ);
    v->tlb = v->tlbs[v->tlb_ctx];
    soft_update_jc_key(v);
}

void soft_update_mode(struct soft_vcpu *v)
{
    const struct cpu_seg *cs = &v->s.seg[CS];
    v->long_mode = v->s.efer & EFER_LMA;
    v->v86 = (v->rflags & RFLAGS_VM) && (v->s.cr0 & CR0_PE) && !v->long_mode;
    v->protected_mode = (v->s.cr0 & CR0_PE) && !v->v86;
    v->bits = v->long_mode && (cs->attr & SEG_L) ? 64 : (cs->attr & SEG_DB) ? 32 : 16;
    v->ipmask = v->bits == 64 ? ~0ull : 0xffffffff;
    v->ss32 = v->s.seg[SS].attr & SEG_DB;
    v->seg_flat = 0;
    for (unsigned n = 0; n < SEG_COUNT; n++) {
        const struct cpu_seg *s = &v->s.seg[n];
        bool down = (s->attr & (SEG_CODE | SEG_E)) == SEG_E;
        v->segbase[n] = s->base;
        if (v->protected_mode && !s->base && s->limit == 0xffffffff && !(s->attr & SEG_UNUSABLE) && !down &&
            !(s->attr & SEG_CODE) && (s->attr & SEG_W))
            v->seg_flat |= 1 << n;
    }
    v->segbase[ISEG_FLAT] = v->segbase[ISEG_FLAT_SS] = 0;
    v->segbase[ISEG_FS] = v->s.seg[FS].base;
    v->segbase[ISEG_GS] = v->s.seg[GS].base;
    if (v->bits != 64 && (cs->base != v->jc_cs_base || cs->limit != v->jc_cs_limit)) {
        v->jc_cs_base = cs->base;
        v->jc_cs_limit = cs->limit;
        v->jc_gen++; /* its entries are offsets in the former CS */
    }
    soft_update_tlb_ctx(v);
}

void soft_update_jc_key(struct soft_vcpu *v)
{
    u64 key = v->jc_gen << 8 | (u64)!!(v->fpu_deny & (DENY_X87 | DENY_MMX | DENY_SSE | DENY_AVX)) << 7 | (u64)v->tlb_ctx << 5 | (u64)(v->cpl == 3) << 4 | soft_code_key(v);
    if (v->jit && ((key ^ v->jc_key) & ~0x7full)) /* mappings; whether vectors may be used */
        soft_jit_clear_lookup(v);
    v->jc_key = key;
}
