/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec_masked.c - memory operands whose elements are selected by a mask: VMASKMOV,
 * VPMASKMOV, MASKMOVQ/DQU, EVEX operands under {k}, gathers and scatters.
 *
 * Elements that are not selected cause no fault. If the whole operand is
 * accessible, the stub runs on it and the host selects the elements. Otherwise the
 * host still decides which elements count, so that no table of element sizes is
 * needed:
 *   loads run on a copy that lies next to inaccessible pages exactly as the guest's
 *   operand does: if the host faults there, the guest faults at that element;
 *   stores run twice, on a buffer of 00 and on one of FF: the bytes that are equal
 *   after both were written, and only these are checked and stored.
 * The copies are aligned as the operand is, so the host also decides whether a
 * misaligned operand is #GP: some processors raise it whatever the mask is, others
 * not if the mask is empty.
 * insn.aux2 of a store: enum store_kind.
 * Gathers and scatters are done here, element by element in the saved image. At a
 * fault the elements before it are done already (SDM vol. 2, VPGATHERDD).
 */
#include "engine/soft/native.h"

/* ---- loads -------------------------------------------------------------- */

static void copy_in(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned n, u8 *to)
{
    u8 buf[192] __attribute__((aligned(64)));
    bool bounce;
    void *p = soft_ptr(v, i, lin, n, ACCESS_READ | ACCESS_PART, buf, &bounce);
    copy_bytes(to, p, n);
}

static __attribute__((noinline)) void masked_load_slow(struct soft_vcpu *v, const struct insn *i, u64 lin)
{
    struct soft_native *n = v->native;
    unsigned at = lin & 0xfff, first = MIN(i->size, 4096 - at), rest = i->size - first;
    bool low = soft_accessible(v, lin, ACCESS_READ), high = rest && soft_accessible(v, lin + first, ACCESS_READ);
    if (low && (high || !rest)) {
        native_slow(v, i, lin, 0, ACCESS_READ);
        return;
    }
    u8 *host = n->guard + at; /* in pages 0 and 1, which are both inaccessible */
    if (low)
        copy_in(v, i, lin, first, host += GUARD_OPEN);
    else if (high)
        copy_in(v, i, lin + first, rest, (host += GUARD_OPEN - 4096) + first);
    n->masked_lin = lin;
    n->masked_host = (u64)host;
    n->masked_active = true;
    native_run(v, i, host, 0);
    n->masked_active = false;
}

void native_masked_fault(struct soft_vcpu *v, const struct insn *i, u64 addr)
{
    struct soft_native *n = v->native;
    if (!n->masked_active || addr - (u64)n->guard >= GUARD_PAGES * 4096)
        return;
    n->masked_active = false;
    u64 lin = n->masked_lin + (addr > n->masked_host ? addr - n->masked_host : 0);
    soft_probe(v, i, lin, 1, ACCESS_READ);
    /* Another processor has mapped the page meanwhile. */
    soft_retry_slow(v, i, SLOW_SMC);
}

static void op_masked_load(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    u64 lin = insn_linear(v, i, i->size, ACCESS_READ);
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (SOFT_VEC_EAGER || unlikely((lin ^ e->read) > 4096u - i->size)) {
        masked_load_slow(v, i, lin);
        NEXT(v, i);
    }
    return STUB(i)(v, i, (void *)(e->host + lin), 0);
}

enum { MXCSR_MASKS = 0x1f80 };
enum store_kind {
    STORE_CHECKS_ALL = 1, /* faults are not suppressed (SDM vol. 2, exception class E6NF) */
    STORE_CONVERTS,       /* the instruction may raise #XM, but after the faults of the operand */
};

/* ---- stores ------------------------------------------------------------- */

static void copy_out(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned n, const u8 *from)
{
    u8 buf[192] __attribute__((aligned(64)));
    bool bounce;
    void *p = soft_ptr(v, i, lin, n, ACCESS_WRITE | ACCESS_PART, buf, &bounce);
    copy_bytes(p, from, n);
    if (bounce)
        soft_bounce_out(v, i, lin, n, p);
}

static u32 get_mxcsr(const struct soft_vcpu *v)
{
    u32 x = *(const u32 *)(v->s.xsave + XS_MXCSR);
    if (v->vec_live)
        __asm__ volatile("stmxcsr %0" : "=m"(x));
    return x;
}
static void set_mxcsr(struct soft_vcpu *v, u32 x)
{
    if (v->vec_live)
        __asm__ volatile("ldmxcsr %0" ::"m"(x));
    else
        *(u32 *)(v->s.xsave + XS_MXCSR) = x;
}

static __attribute__((noinline)) void masked_store_slow(struct soft_vcpu *v, const struct insn *i, u64 lin)
{
    u8 bufs[2][128] __attribute__((aligned(64)));
    u8 *a = bufs[0] + (lin & 63), *b = bufs[1] + (lin & 63);
    const unsigned size = i->size;
    for (unsigned k = 0; k < size; k++)
        a[k] = 0, b[k] = 0xff;
    const u32 mxcsr = i->aux2 == STORE_CONVERTS ? get_mxcsr(v) : 0;
    if (i->aux2 == STORE_CONVERTS)
        set_mxcsr(v, mxcsr | MXCSR_MASKS);
    native_run(v, i, a, 0);
    native_run(v, i, b, 0);
    if (i->aux2 == STORE_CONVERTS)
        set_mxcsr(v, mxcsr);
    if (i->aux2 == STORE_CHECKS_ALL)
        soft_probe(v, i, lin, size, ACCESS_WRITE);
    /* All checks come before the first store. Each is of a run of selected bytes. */
    for (unsigned store = 0; store < 2; store++) {
        if (store && i->aux2 == STORE_CONVERTS)
            native_run(v, i, b, 0);
        for (unsigned k = 0, run; k < size; k += run + 1) {
            for (run = 0; k + run < size && a[k + run] == b[k + run];)
                run++;
            if (!run)
                continue;
            if (store)
                copy_out(v, i, lin + k, run, a + k);
            else
                soft_probe(v, i, lin + k, run, ACCESS_WRITE);
        }
    }
}

static void op_masked_store(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    u64 lin = insn_linear(v, i, i->size, ACCESS_WRITE);
    struct tlb_entry *e = &v->tlb[(lin >> 12) & (TLB_SIZE - 1)];
    if (SOFT_VEC_EAGER || unlikely((lin ^ e->write) > 4096u - i->size)) {
        masked_store_slow(v, i, lin);
        NEXT(v, i);
    }
    return STUB(i)(v, i, (void *)(e->host + lin), 0);
}

/* MASKMOVQ and MASKMOVDQU store at seg:[rDI]. Lowering has set i->seg. */
static void op_maskmov(struct soft_vcpu *v, const struct insn *i)
{
    vec_ready(v, i);
    if (i->size == 8) /* MASKMOVQ */
        vec_wait(v, i);
    u64 ea = v->gpr[RDI] << i->ashift >> i->ashift;
    u64 lin = soft_linear(v, i, i->seg, ea, i->size, ACCESS_WRITE);
    soft_probe(v, i, lin, i->size, ACCESS_WRITE); /* also bytes that are not selected: AMD does so, Intel allows it */
    masked_store_slow(v, i, lin);
    NEXT(v, i);
}

/* ---- gather and scatter ------------------------------------------------- */

/* The operands of a gather or scatter, packed into insn.imm. */
struct vsib {
    u8 data, index, mask; /* registers; mask: vector register (VEX) or k register (EVEX) */
    u8 element, index_size, count;
    bool evex, scatter;
};

static u8 *vec_byte(struct soft_vcpu *v, unsigned reg, unsigned byte)
{
    const struct soft_native *n = v->native;
    u8 *image = v->s.xsave;
    if (reg >= 16)
        return image + n->offset[7] + (reg - 16) * 64 + byte;
    if (byte < 16)
        return image + XS_XMM + reg * 16 + byte;
    if (byte < 32)
        return image + n->offset[2] + reg * 16 + byte - 16;
    return image + n->offset[6] + reg * 32 + byte - 32;
}

/* Zeroes a register from byte from on, as far as the host has the register. */
static void zero_from(struct soft_vcpu *v, unsigned reg, unsigned from)
{
    unsigned end = v->native->mask & XCOMP_ZMM_HI ? 64 : 32;
    for (unsigned k = from; k < end; k += 4)
        *(u32 *)vec_byte(v, reg, k) = 0;
}

static bool selected(struct soft_vcpu *v, const struct vsib *g, unsigned k)
{
    if (g->evex)
        return *(u64 *)(v->s.xsave + v->native->offset[5] + 8 * g->mask) >> k & 1;
    return *vec_byte(v, g->mask, (k + 1) * g->element - 1) >> 7;
}
static void deselect(struct soft_vcpu *v, const struct vsib *g, unsigned k)
{
    if (g->evex)
        *(u64 *)(v->s.xsave + v->native->offset[5] + 8 * g->mask) &= ~BIT(k);
    else
        for (unsigned b = 0; b < g->element; b++)
            *vec_byte(v, g->mask, k * g->element + b) = 0;
}

/* Elements are not checked for alignment (SDM vol. 2, VPGATHERDD). While every access is watched, the slow path is called
   directly with ACCESS_PART, which leaves out that check. */
static u64 load_element(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size)
{
    return v->watch_access ? soft_load_slow(v, i, lin, size, ACCESS_READ | ACCESS_PART) : soft_load(v, i, lin, size);
}
static void store_element(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, u64 x)
{
    if (v->watch_access)
        soft_store_slow(v, i, lin, size, x, ACCESS_WRITE | ACCESS_PART);
    else
        soft_store(v, i, lin, size, x);
}

static void op_vsib(struct soft_vcpu *v, const struct insn *i)
{
    union { u64 imm; struct vsib g; } u = {.imm = i->imm};
    const struct vsib *g = &u.g;
    vec_check(v, i, i->aux);
    vec_image(v);
    if (!g->scatter) /* the components that may become other than zero; no other one comes into use */
        *(u64 *)(v->s.xsave + XS_BV) |= g->data >= 16                 ? XCOMP_ZMM_HI16
                                        : g->count * g->element <= 16 ? XCOMP_SSE
                                        : g->count * g->element <= 32 ? XCOMP_SSE | XCOMP_AVX
                                                                      : XCOMP_SSE | XCOMP_AVX | XCOMP_ZMM_HI;
    for (unsigned k = 0; k < g->count; k++) {
        if (!selected(v, g, k))
            continue;
        const void *x = vec_byte(v, g->index, k * g->index_size);
        u64 index = g->index_size == 8 ? *(const u64 *)x : (u64)(s64)*(const s32 *)x;
        u64 ea = R64(v, i->base) + (index << i->scale) + (u64)i->disp;
        ea = ea << i->ashift >> i->ashift;
        u64 lin = soft_linear(v, i, i->seg, ea, g->element, g->scatter ? ACCESS_WRITE : ACCESS_READ);
        void *data = vec_byte(v, g->data, k * g->element);
        if (g->scatter && g->element == 8)
            store_element(v, i, lin, 8, *(u64 *)data);
        else if (g->scatter)
            store_element(v, i, lin, 4, *(u32 *)data);
        else if (g->element == 8)
            *(u64 *)data = load_element(v, i, lin, 8);
        else
            *(u32 *)data = (u32)load_element(v, i, lin, 4);
        deselect(v, g, k);
    }
    /* Mask elements beyond the last one and the bytes above the result become zero. */
    if (g->evex)
        *(u64 *)(v->s.xsave + v->native->offset[5] + 8 * g->mask) = 0;
    else
        zero_from(v, g->mask, 0);
    if (!g->scatter)
        zero_from(v, g->data, g->count * g->element);
    NEXT(v, i);
}

static bool lower_vsib(const struct decoded *d, struct insn *i)
{
    const bool evex = d->encoding == ENC_EVEX, scatter = (d->opcode & 0xfc) == 0xa0;
    if (d->map != 2 || ((d->opcode & 0xfc) != 0x90 && !(evex && scatter)))
        return false;
    union { u64 imm; struct vsib g; } u = {.imm = 0};
    u.g.data = d->reg;
    u.g.index = d->index;
    u.g.mask = evex ? d->aaa : d->vvvv;
    u.g.element = d->w ? 8 : 4;
    u.g.index_size = d->opcode & 1 ? 8 : 4;
    u.g.count = (u8)((16 << d->vl) / MAX(u.g.element, u.g.index_size));
    u.g.evex = evex;
    u.g.scatter = scatter;
    if (evex ? !d->aaa || d->z || d->b || (!scatter && d->reg == d->index)
             : d->reg == d->index || d->reg == d->vvvv || d->index == d->vvvv)
        return false; /* #UD */
    i->imm = u.imm;
    i->fn = op_vsib;
    return true;
}

static u8 store_kind(const struct opdesc *o)
{
    switch (o->mnemonic) {
    case M_VEXTRACTF32X4: case M_VEXTRACTF64X2: case M_VEXTRACTF32X8: case M_VEXTRACTF64X4: case M_VEXTRACTI32X4:
    case M_VEXTRACTI64X2: case M_VEXTRACTI32X8: case M_VEXTRACTI64X4: return STORE_CHECKS_ALL;
    case M_VCVTPS2PH: return STORE_CONVERTS;
    }
    return 0;
}

bool lower_masked(struct soft_vcpu *v, const struct decoded *d, struct insn *i, unsigned size)
{
    const struct opdesc *o = d->desc;
    if (o->flags & OPF_VSIB)
        return lower_vsib(d, i);
    if (o->flags & OPF_IMPLICIT_MEM) {
        if (o->mnemonic != M_MASKMOVQ && o->mnemonic != M_MASKMOVDQU && o->mnemonic != M_VMASKMOVDQU)
            return false;
        i->seg = (u8)soft_seg(v, d->seg_override < SEG_COUNT ? d->seg_override : DS);
        i->size = o->mnemonic == M_MASKMOVQ ? 8 : 16;
        if (!native_make(v, d, i))
            return false;
        if (i->imm)
            i->fn = op_maskmov;
        return true;
    }
    if (!size || size > 64)
        return false;
    i->size = (u8)size;
    if (!native_make(v, d, i))
        return false;
    if (!i->imm)
        return true;
    switch (o->flags & (OPF_MEM_READ | OPF_MEM_WRITE)) {
    case OPF_MEM_READ: i->fn = op_masked_load; return true;
    case OPF_MEM_WRITE: i->aux2 = store_kind(o); i->fn = op_masked_store; return true;
    }
    return false;
}
