/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmu.c - the accesses of instructions: the segment checks, the loads, stores and fetches for which the software TLB has no
 * entry, and the state that is derived from the control registers.
 *
 * SDM vol. 3 ch. 4 (paging), ch. 5 (protection).
 */
#include "engine/soft/mmu.h"
#include "engine/soft/translate/translate.h"

/* ---- segments ----------------------------------------------------------- */

static _Noreturn void seg_fault(struct soft_vcpu *v, const struct insn *i, unsigned seg)
{
    soft_raise_err(v, i, seg == SS ? VEC_SS : VEC_GP, 0);
}

u64 soft_legacy_linear(struct soft_vcpu *v, const struct insn *i, unsigned seg, u64 ea, u64 size, enum access a)
{
    const struct cpu_seg *s = &v->s.seg[seg];
    if (likely(ea + size <= v->seg_end[a & ACCESS_WRITE][seg]))
        return (u32)(v->segbase[seg] + ea);
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

/* ---- translation -------------------------------------------------------- */

/* One page of an access, translated. */
struct page {
    u64 gpa;   /* of the byte; not set if the TLB had the page: such a page is memory, and no ROM if it may be written */
    u64 place; /* of the byte, if host */
    u8 *host;  /* of the byte; NULL: not memory */
    bool rom;  /* stores go to the bus */
};

static bool canonical(u64 lin)
{
    return (u64)((s64)(lin << 16) >> 16) == lin;
}

/* Translates lin for access a. False: it is a page fault, and *fault is its error code. */
static bool translate(struct soft_vcpu *v, u64 lin, enum access a, struct page *p, u32 *fault)
{
    const enum tlb_ctx ctx = ctx_of(v, a);
    const struct tlb_entry *e = &v->tlbs[ctx][(lin >> 12) & (TLB_SIZE - 1)];
    const bool write = a & ACCESS_WRITE;
    const u64 page = lin & ~0xfffull;
    const bool watched = write && e->read == page && (e->place & PLACE_WATCHED);
    if (watched) {
        v->stat.watched++;
        soft_tlb_open(v, ctx, lin); /* opens the entry if the page holds no code any more */
    }
    if ((write ? e->write : e->read) == page || watched) {
        *p = (struct page){ .place = (e->place & ~0xfffull) | (lin & 0xfff), .host = (u8 *)(e->host + lin) };
        return true;
    }
    struct walk w;
    v->stat.walk++;
    if (!soft_walk(v, lin, a, ctx == TLB_KERNEL, &w)) {
        *fault = w.fault;
        return false;
    }
    *p = (struct page){ .gpa = w.gpa | (lin & 0xfff) };
    struct memory *m = v->vm->cfg.memory;
    struct memory_region r;
    const u32 generation = memory_generation(m);
    if (v->mmu.hole == w.gpa && v->mmu.hole_generation == generation)
        return true;
    if (!memory_lookup(m, w.gpa, &r)) {
        v->mmu.hole = w.gpa;
        v->mmu.hole_generation = generation;
        return true;
    }
    u8 *host = r.host + (w.gpa - r.gpa);
    const u64 place = r.place + (w.gpa - r.gpa);
    p->host = host + (lin & 0xfff);
    p->place = place | (lin & 0xfff);
    p->rom = r.readonly;
    if (write && !p->rom)
        memory_mark_dirty(m, place);
    soft_tlb_fill(v, ctx, lin, &w, host, place);
    /* A read opens the page for writes, too, if the page is dirty already: then the first write has nothing to mark. A page
       that is written now is marked again when the entry is closed, because the log may be taken between the mark above and
       the store. */
    if (!p->rom && (write || memory_is_dirty(m, place))) {
        if (soft_walk_writable(v, &w, ctx))
            soft_tlb_open(v, ctx, lin);
        else if (write)
            soft_tlb_note(v, ctx, lin);
    }
    return true;
}

static _Noreturn void not_canonical(struct soft_vcpu *v, const struct insn *i)
{
    soft_raise_err(v, i, i && i->seg == ISEG_FLAT_SS ? VEC_SS : VEC_GP, 0);
}

/* Translates the byte at lin, or raises the fault. */
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

bool soft_registers(struct soft_vcpu *v, const struct insn *i, u64 lin, enum access a, u64 *gpa)
{
    const struct page p = reach(v, i, lin, a);
    *gpa = p.gpa;
    return !p.host;
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

/* SDM vol. 3, table 6-7. Operands of 16 bytes and more are not checked; processors may leave that out (vol. 2, MOVUPS). */
void soft_check_alignment(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size)
{
    if (size == 10) /* extended and BCD operands of the x87 */
        size = 8;
    if (v->cpl == 3 && (v->s.cr0 & CR0_AM) && (v->rflags & RFLAGS_AC) && size <= 8 && (lin & (size - 1)))
        soft_raise_err(v, i, VEC_AC, 0);
}

static void check_access(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    if (a & ACCESS_IMPLICIT)
        return;
    if (!(a & ACCESS_PART))
        soft_check_alignment(v, i, lin, size);
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

/* page_read and page_write access n bytes inside one page, which is RAM or registers. */
static void page_read(struct soft_vcpu *v, const struct page *p, u8 *buf, unsigned n)
{
    if (p->host) {
        copy_bytes(buf, p->host, n);
        return;
    }
    for (unsigned k = 0; k < n;) {
        unsigned c = n - k >= 8 ? 8 : n - k >= 4 ? 4 : n - k >= 2 ? 2 : 1;
        u64 x = soft_register_load(v, p->gpa + k, c);
        copy_bytes(buf + k, &x, c);
        k += c;
    }
}
static void page_write(struct soft_vcpu *v, const struct page *p, const u8 *buf, unsigned n)
{
    if (p->host && !p->rom) {
        soft_code_written(v, p->place, n);
        copy_bytes(p->host, buf, n);
        soft_code_stored(v, p->place, n);
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

/* If a write is about to change decoded code of the running block, the instruction runs again, alone, so that the
   instructions after it are decoded anew. */
static void check_smc(struct soft_vcpu *v, const struct insn *i, const struct page *p, unsigned n)
{
    if (i && p->host && !p->rom && !(v->slow & SLOW_SMC) && !v->in_string && soft_code_hits_block(v, p->place, n))
        soft_retry_slow(v, i, SLOW_SMC);
}

u64 soft_load_slow(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    if (unlikely(v->watch_access))
        check_access(v, i, lin, size, a);
    struct page p = reach(v, i, lin, a);
    unsigned first = 4096 - (lin & 0xfff);
    if (likely(size <= first))
        return p.host ? host_load(p.host, size) : soft_register_load(v, p.gpa, size);
    v->stat.crossing++;
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
        if (!p.host || p.rom) {
            soft_phys_store(v, p.gpa, size, x);
        } else {
            check_smc(v, i, &p, size);
            soft_code_written(v, p.place, size);
            host_store(p.host, size, x);
            soft_code_stored(v, p.place, size);
        }
        return;
    }
    v->stat.crossing++;
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
            soft_code_written(v, p.place, size);
            soft_code_written_later(v, p.place, size);
        }
        return p.host;
    }
    struct page q = {0};
    v->stat.crossing += first < size;
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

const u8 *soft_fetch_page(struct soft_vcpu *v, u64 lin, u64 *place)
{
    if (v->long_mode && v->bits == 64) {
        if (unlikely(!canonical(lin)))
            soft_raise_err(v, NULL, VEC_GP, 0);
    } else {
        lin = (u32)lin;
    }
    const bool user = v->cpl == 3;
    struct xtlb_entry *x = &v->mmu.xtlb[user][(lin >> 12) & (XTLB_SIZE - 1)];
    if (likely(x->lin == (lin & ~0xfffull) && x->gen == v->jc_gen[user])) {
        *place = x->place;
        return x->host;
    }
    struct walk w;
    v->stat.fetch_walk++;
    if (!soft_walk(v, lin, ACCESS_EXEC, false, &w))
        soft_raise_pf(v, NULL, lin, w.fault);
    struct memory_region r;
    if (!memory_lookup(v->vm->cfg.memory, w.gpa, &r))
        return NULL;
    *place = r.place + (w.gpa - r.gpa);
    soft_note_code(v, lin, &w);
    *x = (struct xtlb_entry){ .lin = lin & ~0xfffull,
                              .gen = v->jc_gen[user],
                              .place = *place,
                              .host = r.host + (w.gpa - r.gpa) };
    return x->host;
}

/* ---- derived state ------------------------------------------------------ */

void soft_update_tlb_ctx(struct soft_vcpu *v)
{
    bool align = v->cpl == 3 && (v->rflags & RFLAGS_AC) && (v->s.cr0 & CR0_AM);
    /* A data breakpoint is an enabled breakpoint whose R/W field is 1 or 3. */
    bool data_bp = false;
    for (unsigned n = 0; unlikely(v->s.dr7 & 0xff) && n < 4; n++)
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
        const bool code = s->attr & SEG_CODE, usable = !v->protected_mode || !(s->attr & SEG_UNUSABLE);
        v->seg_end[0][n] = !down && usable && (!v->protected_mode || !code || (s->attr & SEG_R)) ? s->limit + 1ull : 0;
        v->seg_end[1][n] = !down && usable && (!v->protected_mode || (!code && (s->attr & SEG_W))) ? s->limit + 1ull : 0;
        if (v->protected_mode && !s->base && s->limit == 0xffffffff && !(s->attr & SEG_UNUSABLE) && !down &&
            !(s->attr & SEG_CODE) && (s->attr & SEG_W))
            v->seg_flat |= 1 << n;
    }
    v->segbase[ISEG_FLAT] = v->segbase[ISEG_FLAT_SS] = 0;
    v->segbase[ISEG_FS] = v->s.seg[FS].base;
    v->segbase[ISEG_GS] = v->s.seg[GS].base;
    v->jc_cs = v->bits == 64 ? 0 : (u32)cs->base | (u64)(u32)cs->base << 32;
    v->jc_limit = v->bits == 64 ? ~0ull : cs->limit;
    soft_update_tlb_ctx(v);
}

void soft_update_jc_key(struct soft_vcpu *v)
{
    const bool user = v->cpl == 3, denied = v->fpu_deny & (DENY_X87 | DENY_MMX | DENY_SSE | DENY_AVX);
    const u64 key = v->jc_gen[user] << 8 | (denied ? JC_DENIED : 0) | (u64)v->tlb_ctx << 5 | (u64)user << 4 |
                    soft_code_key(v);
    if (v->jit && ((key ^ v->jc_key) & JC_DENIED))
        soft_jit_clear_lookup(v, ~0u);
    v->jc_key = key;
}
