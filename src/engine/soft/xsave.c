/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xsave.c - instructions that move the x87 and vector state as a whole: FXSAVE,
 * the XSAVE family, XGETBV, XSETBV. Those of x87 alone are in x87_env.c.
 *
 * They work on the canonical image v->s.xsave, not on the host's unit, because what
 * the guest may see (its own FIP and FDP, the components it has enabled, PKRU)
 * differs from what the host's instructions would store. SDM vol. 1 ch. 8.1.10, 10.5, 13.
 */
#include "engine/soft/fpu_state.h"

enum { LEGACY_END64 = 416, LEGACY_END32 = 288, RUN = 1024 };
enum save_kind { SAVE_PLAIN, SAVE_OPT, SAVE_COMPACT };

/* ---- memory ------------------------------------------------------------- */

void store_run(struct soft_vcpu *v, const struct insn *i, u64 lin, const u8 *from, unsigned n)
{
    u8 buf[RUN + 128] __attribute__((aligned(64)));
    for (unsigned c; n; n -= c, lin += c, from += c) {
        bool bounce;
        c = MIN(n, (unsigned)RUN);
        void *p = soft_ptr(v, i, lin, c, ACCESS_WRITE, buf, &bounce);
        copy_bytes(p, from, c);
        if (bounce)
            soft_bounce_out(v, i, lin, c, p);
    }
}
void load_run(struct soft_vcpu *v, const struct insn *i, u64 lin, u8 *to, unsigned n)
{
    u8 buf[RUN + 128] __attribute__((aligned(64)));
    for (unsigned c; n; n -= c, lin += c, to += c) {
        bool bounce;
        c = MIN(n, (unsigned)RUN);
        copy_bytes(to, soft_ptr(v, i, lin, c, ACCESS_READ, buf, &bounce), c);
    }
}

/* Returns the operand's linear address, and checks it. If align is 16 or 64, its #GP(0) comes before the page faults. */
u64 area(struct soft_vcpu *v, const struct insn *i, unsigned size, unsigned align, enum access a)
{
    u64 lin = insn_linear(v, i, size, a);
    if (lin & (align - 1))
        soft_raise_err(v, i, VEC_GP, 0);
    if (align == 1) /* an x87 environment is checked by words of the operand's size (vol. 3, table 6-7) */
        soft_check_alignment(v, i, lin, i->size == 2 ? 2 : 4);
    soft_probe(v, i, lin, size, a);
    return lin;
}

/* ---- the legacy region -------------------------------------------------- */

/* Makes bytes 0 to 415 as an instruction with REX.W (wide) or without it stores them. */
static void build_legacy(struct soft_vcpu *v, bool wide, u8 *to)
{
    copy_bytes(to, v->s.xsave, LEGACY_END64);
    *(u32 *)(to + XS_MXCSR_MASK) = v->native->mxcsr_mask;
    to[XS_FTW + 1] = 0;
    if (v->native->fip_if_pending && !(to[XS_FSW] & 0x80)) {
        zero_bytes(to + XS_FOP, XS_MXCSR - XS_FOP);
        return;
    }
    if (wide)
        return;
    *(u32 *)(to + XS_FIP + 4) = v->x87.fcs;
    *(u32 *)(to + XS_FDP + 4) = v->x87.fds;
}

/* Makes the control and status words what the unit would make of them: bit 6 of the control word reads as 1 and its other
   reserved bits as 0; ES and B of the status word say whether an unmasked exception is pending. */
void settle_control(u8 *image)
{
    u16 *fcw = (u16 *)(image + XS_FCW), *fsw = (u16 *)(image + XS_FSW);
    *fcw = (u16)((*fcw & 0x1f3f) | 0x40);
    *fsw &= 0x7f7f;
    if (*fsw & ~*fcw & 0x3f)
        *fsw |= 0x8080;
}

/* Copies the x87 part of a legacy region into the image. */
static void take_x87(struct soft_vcpu *v, bool wide, const u8 *from)
{
    u8 *image = v->s.xsave;
    copy_bytes(image, from, XS_MXCSR);
    copy_bytes(image + XS_ST, from + XS_ST, XS_XMM - XS_ST);
    settle_control(image);
    IMAGE16(v, XS_FOP) &= 0x7ff;
    image[XS_FTW + 1] = 0;
    if (!wide) {
        v->x87.fcs = IMAGE16(v, XS_FIP + 4);
        v->x87.fds = IMAGE16(v, XS_FDP + 4);
        IMAGE32(v, XS_FIP + 4) = 0;
        IMAGE32(v, XS_FDP + 4) = 0;
    } else if (v->native->fip_if_pending) { /* these processors hold 48 or 57 bits of the pointers, sign-extended */
        const u8 spare = v->native->fip_spare;
        IMAGE64(v, XS_FIP) = (u64)((s64)(IMAGE64(v, XS_FIP) << spare) >> spare);
        IMAGE64(v, XS_FDP) = (u64)((s64)(IMAGE64(v, XS_FDP) << spare) >> spare);
    }
    for (unsigned k = 0; k < 8; k++) { /* bytes 10-15 of a register are reserved */
        IMAGE16(v, XS_ST + 16 * k + 10) = 0;
        IMAGE32(v, XS_ST + 16 * k + 12) = 0;
    }
}

static unsigned legacy_end(const struct soft_vcpu *v)
{
    return v->bits == 64 ? LEGACY_END64 : LEGACY_END32;
}
/* EFER.FFXSR (APM vol. 2, 3.1.7): at CPL 0 in 64-bit mode FXSAVE leaves the XMM registers out. */
static bool without_xmm(const struct soft_vcpu *v)
{
    return (v->s.efer & EFER_FFXSR) && v->cpl == 0 && v->bits == 64;
}

static void op_fxsave(struct soft_vcpu *v, const struct insn *i)
{
    u8 legacy[LEGACY_END64] __attribute__((aligned(8)));
    vec_check(v, i, DENY_X87);
    u64 lin = area(v, i, 512, 16, ACCESS_WRITE);
    vec_image(v);
    build_legacy(v, i->aux2, legacy);
    store_run(v, i, lin, legacy, without_xmm(v) ? XS_XMM : legacy_end(v));
    NEXT(v, i);
}

static void op_fxrstor(struct soft_vcpu *v, const struct insn *i)
{
    u8 legacy[LEGACY_END64] __attribute__((aligned(8)));
    vec_check(v, i, DENY_X87);
    u64 lin = area(v, i, 512, 16, ACCESS_READ);
    const unsigned end = legacy_end(v);
    load_run(v, i, lin, legacy, end);
    bool sse = v->s.cr4 & CR4_OSFXSR;
    u32 mxcsr = *(u32 *)(legacy + XS_MXCSR);
    if (sse && (mxcsr & ~v->native->mxcsr_mask))
        soft_raise_err(v, i, VEC_GP, 0);
    vec_image(v);
    take_x87(v, i->aux2, legacy);
    if (sse) {
        IMAGE32(v, XS_MXCSR) = mxcsr;
        if (!without_xmm(v))
            copy_bytes(v->s.xsave + XS_XMM, legacy + XS_XMM, end - XS_XMM);
    }
    IMAGE64(v, XS_BV) |= XCOMP_X87 | XCOMP_SSE;
    NEXT(v, i);
}

/* ---- the XSAVE family --------------------------------------------------- */

static void xsave_check(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        soft_raise(v, i, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        soft_raise(v, i, VEC_NM);
}
static u64 requested(const struct soft_vcpu *v)
{
    return ((u64)(u32)v->gpr[RDX] << 32 | (u32)v->gpr[RAX]) & v->s.xcr0;
}

/* Returns the size of component c (2 to 8) that the mode has: outside 64-bit mode only the first eight vector registers
   exist (13.5.3, 13.5.5). */
static unsigned component_size(const struct soft_vcpu *v, unsigned c)
{
    const unsigned size = v->native->size[c];
    if (v->bits == 64)
        return size;
    return c == 2 ? MIN(size, 128u) : c == 6 ? MIN(size, 256u) : c == 7 ? 0 : size;
}

/* Returns the offset of component c in an area whose format is xcomp_bv (0: standard). */
static u32 component_at(const struct soft_native *n, u64 xcomp_bv, unsigned c)
{
    if (!xcomp_bv)
        return n->offset[c];
    u32 at = XS_EXTENDED;
    for (unsigned k = 2; k <= c; k++) {
        if (!(xcomp_bv >> k & 1))
            continue;
        if (n->aligned >> k & 1)
            at = (u32)align_up(at, 64);
        if (k < c)
            at += n->size[k];
    }
    return at;
}
/* Returns how many bytes the area needs for the components of mask. */
static u32 area_size(const struct soft_native *n, u64 xcomp_bv, u64 mask)
{
    u32 end = XS_EXTENDED;
    for (unsigned c = 2; c < XCOMP_COUNT; c++)
        if (mask >> c & 1)
            end = MAX(end, component_at(n, xcomp_bv, c) + n->size[c]);
    return end;
}

/* Returns which components are in use (not in their initial state). The image must be current. */
static u64 in_use(struct soft_vcpu *v)
{
    u64 bv = IMAGE64(v, XS_BV) & (v->native->mask | XCOMP_X87 | XCOMP_SSE);
    return v->pkru ? bv | XCOMP_PKRU : bv;
}

/* Returns the area if it is in one piece of host memory that may be accessed directly, else NULL. The caller has checked its
   alignment and probed it. */
static u8 *direct_area(struct soft_vcpu *v, const struct insn *i, u64 lin, unsigned size, enum access a)
{
    const unsigned first = MIN(size, 4096 - (unsigned)(lin & 0xfff));
    const bool write = a == ACCESS_WRITE;
    u8 buf[128];
    bool bounce;
    if (size > 4096)
        return NULL;
    /* For a read it is enough that one byte shows that its page is memory; for a write every byte may be decoded code. */
    u8 *p = soft_ptr(v, i, lin, write ? first : 1, a, buf, &bounce);
    if (bounce || first == size)
        return bounce ? NULL : p;
    const u8 *q = soft_ptr(v, i, lin + first, write ? size - first : 1, a, buf, &bounce);
    return bounce || q != p + first ? NULL : p;
}

/*
 * Does XSAVE64 or XSAVEC64 of what the unit holds, directly to the guest's memory. The host's instruction stores all except
 * what is not in the unit: the pointers of x87, and PKRU.
 */
static void save_native(struct soft_vcpu *v, u8 *p, u64 mask, u64 xcomp_bv)
{
    const struct soft_native *n = v->native;
    const u32 rfbm = (u32)(mask & n->mask);
    if (xcomp_bv)
        __asm__ volatile("xsavec64 %0" : "+m"(*(u8(*)[4096])p) : "a"(rfbm), "d"(0) : "memory");
    else
        __asm__ volatile("xsave64 %0" : "+m"(*(u8(*)[4096])p) : "a"(rfbm), "d"(0) : "memory");
    u64 bv = *(const u64 *)(p + XS_BV);
    if (xcomp_bv ? bv & XCOMP_X87 : mask & XCOMP_X87) {
        const bool none = n->fip_if_pending && !(p[XS_FSW] & 0x80);
        *(u16 *)(p + XS_FOP) = none ? 0 : v->x87.fop;
        *(u64 *)(p + XS_FIP) = none ? 0 : v->x87.fip;
        *(u64 *)(p + XS_FDP) = none ? 0 : v->x87.fdp;
    }
    if (!(mask & XCOMP_PKRU))
        return;
    if (v->pkru || !xcomp_bv)
        *(u64 *)(p + component_at(n, xcomp_bv, 9)) = v->pkru;
    bv = v->pkru ? bv | XCOMP_PKRU : bv & ~(u64)XCOMP_PKRU;
    *(u64 *)(p + XS_BV) = bv;
    if (xcomp_bv)
        *(u64 *)(p + XS_XCOMP_BV) = xcomp_bv;
}

/* The same for an area in several pieces: stores every component of mask, in the standard form. */
static void save_pieces(struct soft_vcpu *v, const struct insn *i, u64 lin, u64 mask)
{
    const struct soft_native *n = v->native;
    u8 buf[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
    *(u64 *)(buf + XS_BV) = soft_load(v, i, lin + XS_BV, 8);
    save_native(v, buf, mask, 0);
    store_run(v, i, lin, buf, LEGACY_END64);
    store_run(v, i, lin + XS_BV, buf + XS_BV, 8);
    for (unsigned c = 2; c < XCOMP_COUNT; c++)
        if (mask >> c & 1)
            store_run(v, i, lin + n->offset[c], buf + n->offset[c], n->size[c]);
}

static inline __attribute__((always_inline)) void do_xsave(struct soft_vcpu *v, const struct insn *i,
                                                          enum save_kind kind)
{
    const struct soft_native *n = v->native;
    u8 legacy[LEGACY_END64] __attribute__((aligned(8)));
    xsave_check(v, i);
    const u64 mask = requested(v), xcomp_bv = kind == SAVE_COMPACT ? mask | BIT(63) : 0;
    const unsigned total = area_size(n, xcomp_bv, mask);
    u64 lin = area(v, i, total, 64, ACCESS_WRITE);
    if (v->vec_live && v->bits == 64 && i->aux2 && n->xsave && (kind == SAVE_PLAIN || (kind == SAVE_COMPACT && n->xsavec))) {
        u8 *p = direct_area(v, i, lin, total, ACCESS_WRITE);
        const bool pieces = !p && kind == SAVE_PLAIN && (mask & 3) == 3;
        if (p)
            save_native(v, p, mask, xcomp_bv);
        else if (pieces)
            save_pieces(v, i, lin, mask);
        if (p || pieces)
            NEXT(v, i);
    }
    vec_image(v);
    u64 use = in_use(v) & mask;
    if (kind == SAVE_COMPACT && (mask & XCOMP_SSE) && IMAGE32(v, XS_MXCSR) != 0x1f80)
        use |= XCOMP_SSE; /* 13.10: MXCSR belongs to SSE here */
    const u64 store = kind == SAVE_PLAIN ? mask : use; /* the others store nothing for a component in its initial state */
    build_legacy(v, i->aux2, legacy);
    const bool mxcsr = kind == SAVE_COMPACT ? store & XCOMP_SSE : mask & (XCOMP_SSE | XCOMP_AVX);
    const unsigned end = legacy_end(v);
    if ((store & 3) == 3) {
        store_run(v, i, lin, legacy, end);
    } else {
        if (store & XCOMP_X87) {
            store_run(v, i, lin, legacy, XS_MXCSR);
            store_run(v, i, lin + XS_ST, legacy + XS_ST, XS_XMM - XS_ST);
        }
        if (mxcsr)
            store_run(v, i, lin + XS_MXCSR, legacy + XS_MXCSR, 8);
        if (store & XCOMP_SSE)
            store_run(v, i, lin + XS_XMM, legacy + XS_XMM, end - XS_XMM);
    }
    for (unsigned c = 2; c < XCOMP_COUNT; c++) {
        if (!(store >> c & 1))
            continue;
        u64 pkru[8] = {v->pkru};
        const u8 *from = c == 9 ? (u8 *)pkru : v->s.xsave + n->offset[c];
        unsigned size = c == 9 ? MIN(n->size[c], (u32)sizeof pkru) : component_size(v, c);
        store_run(v, i, lin + component_at(n, xcomp_bv, c), from, size);
    }
    u64 header[2] = {use, xcomp_bv};
    if (kind != SAVE_COMPACT)
        header[0] |= soft_load(v, i, lin + XS_BV, 8) & ~mask;
    store_run(v, i, lin + XS_HEADER, (u8 *)header, kind == SAVE_COMPACT ? 16 : 8);
    NEXT(v, i);
}
static void op_xsave(struct soft_vcpu *v, const struct insn *i)
{
    do_xsave(v, i, SAVE_PLAIN);
}
static void op_xsaveopt(struct soft_vcpu *v, const struct insn *i)
{
    do_xsave(v, i, SAVE_OPT);
}
static void op_xsavec(struct soft_vcpu *v, const struct insn *i)
{
    do_xsave(v, i, SAVE_COMPACT);
}

static void op_xrstor(struct soft_vcpu *v, const struct insn *i)
{
    const struct soft_native *n = v->native;
    u8 head[XS_EXTENDED] __attribute__((aligned(8)));
    xsave_check(v, i);
    const u64 mask = requested(v), xcr0 = v->s.xcr0;
    u64 lin = area(v, i, XS_EXTENDED, 64, ACCESS_READ);
    load_run(v, i, lin, head, XS_EXTENDED);
    const u64 *header = (const u64 *)(head + XS_HEADER);
    const u64 bv = header[0], xcomp_bv = header[1];
    /* 13.8, 13.8.1: standard form, or with bit 63 the compacted form */
    const bool compact = xcomp_bv >> 63;
    bool bad = compact ? (xcomp_bv & ~BIT(63) & ~xcr0) || (bv & ~xcomp_bv) : (bv & ~xcr0) || xcomp_bv || header[2];
    if (compact)
        for (unsigned k = 2; k < 8; k++)
            bad |= header[k] != 0;
    const u64 load = bv & mask, reset = mask & ~bv;
    const bool mxcsr = compact ? load & XCOMP_SSE : mask & (XCOMP_SSE | XCOMP_AVX);
    if (bad || (mxcsr && (*(u32 *)(head + XS_MXCSR) & ~n->mxcsr_mask)))
        soft_raise_err(v, i, VEC_GP, 0);
    const u32 size = area_size(n, xcomp_bv, load);
    if (load >> 2)
        soft_probe(v, i, insn_linear(v, i, size, ACCESS_READ), size, ACCESS_READ);
    /* If all that the unit holds is replaced, it need not be saved; but then no fault is allowed any more. */
    const u8 *p = NULL;
    if (v->vec_live && v->bits == 64 && !(n->mask & n->offered & ~mask))
        p = direct_area(v, i, lin, size, ACCESS_READ);
    if (p)
        v->vec_live = false;
    else
        vec_image(v);
    /* From here on a fault is possible only if another processor changes the page tables. */
    for (unsigned c = 2; c < XCOMP_COUNT; c++) {
        if (c == 9)
            continue;
        const u32 at = component_at(n, xcomp_bv, c);
        if (load >> c & 1) {
            if (p)
                copy_bytes(v->s.xsave + n->offset[c], p + at, n->size[c]);
            else
                load_run(v, i, lin + at, v->s.xsave + n->offset[c], component_size(v, c));
        } else if ((reset >> c & 1) && !p) {
            zero_bytes(v->s.xsave + n->offset[c], component_size(v, c));
        }
    }
    if (load & XCOMP_X87)
        take_x87(v, i->aux2, head);
    else if (reset & XCOMP_X87)
        vec_init_component(v, 0);
    if (load & XCOMP_SSE)
        copy_bytes(v->s.xsave + XS_XMM, head + XS_XMM, legacy_end(v) - XS_XMM);
    else if (reset & XCOMP_SSE)
        zero_bytes(v->s.xsave + XS_XMM, legacy_end(v) - XS_XMM);
    if (mxcsr)
        IMAGE32(v, XS_MXCSR) = *(u32 *)(head + XS_MXCSR);
    else if (compact && (reset & XCOMP_SSE))
        IMAGE32(v, XS_MXCSR) = 0x1f80;
    /* In 32-bit code registers 8-15 keep their contents, so their component stays in use. */
    const u64 keep = v->bits == 64 ? 0 : XCOMP_SSE | XCOMP_AVX | XCOMP_ZMM_HI | XCOMP_ZMM_HI16;
    IMAGE64(v, XS_BV) = ((IMAGE64(v, XS_BV) & ~(reset & ~keep)) | load) & ~(u64)XCOMP_PKRU;
    if (p)
        soft_vec_load(v);
    if (mask & XCOMP_PKRU) {
        u32 pkru = 0;
        if (load & XCOMP_PKRU)
            load_run(v, i, lin + component_at(n, xcomp_bv, 9), (u8 *)&pkru, 4);
        soft_set_pkru(v, pkru);
        END_BLOCK(v, i); /* the access rights to the pages of the next instructions may have changed */
    }
    NEXT(v, i);
}

static void op_xgetbv(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        soft_raise(v, i, VEC_UD);
    u64 x = v->s.xcr0;
    u32 index = (u32)v->gpr[RCX];
    if (index > 1 || (index == 1 && !v->native->xgetbv1))
        soft_raise_err(v, i, VEC_GP, 0);
    if (index == 1) {
        soft_vec_save(v);
        x &= in_use(v);
    }
    v->gpr[RAX] = (u32)x;
    v->gpr[RDX] = x >> 32;
    NEXT(v, i);
}

static void op_xsetbv(struct soft_vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        soft_raise(v, i, VEC_UD);
    u64 x = (u64)(u32)v->gpr[RDX] << 32 | (u32)v->gpr[RAX];
    const u64 avx512 = XCOMP_OPMASK | XCOMP_ZMM_HI | XCOMP_ZMM_HI16;
    if (v->cpl || (u32)v->gpr[RCX] || (x & ~v->native->offered) || !(x & XCOMP_X87) ||
        ((x & XCOMP_AVX) && !(x & XCOMP_SSE)) || ((x & avx512) && ((x & avx512) != avx512 || !(x & XCOMP_AVX))))
        soft_raise_err(v, i, VEC_GP, 0);
    v->s.xcr0 = x;
    soft_update_fpu(v);
    END_BLOCK(v, i);
}

/* ---- lowering ----------------------------------------------------------- */

bool lower_fpu_state(struct soft_vcpu *v, const struct decoded *d, struct insn *i)
{
    i->aux2 = d->bits == 64 && (d->rex & 8); /* REX.W: 64-bit FIP and FDP */
    switch (d->desc->mnemonic) {
    case M_FXSAVE: case M_FXSAVE64: i->fn = op_fxsave; return true;
    case M_FXRSTOR: case M_FXRSTOR64: i->fn = op_fxrstor; return true;
    case M_XSAVE: case M_XSAVE64: i->fn = op_xsave; return true;
    case M_XSAVEOPT: case M_XSAVEOPT64: i->fn = op_xsaveopt; return true;
    case M_XSAVEC: case M_XSAVEC64: i->fn = op_xsavec; return true;
    case M_XRSTOR: case M_XRSTOR64: i->fn = op_xrstor; return true;
    case M_XGETBV: i->fn = op_xgetbv; return true;
    case M_XSETBV: i->fn = op_xsetbv; return true;
    case M_FNSTENV: i->fn = op_fnstenv; return true;
    case M_FLDENV: i->fn = op_fldenv; return true;
    case M_FNSAVE: i->fn = op_fnsave; return true;
    case M_FRSTOR: i->fn = op_frstor; return true;
    case M_FNINIT: i->fn = op_fninit; return true;
    }
    return false;
}
