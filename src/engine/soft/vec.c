/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vec.c - whose registers are in the host's vector and x87 unit, and whether the
 * guest may use them now.
 *
 * The guest's registers are in the unit while v->vec_live is set, otherwise in
 * v->s.xsave. This file uses vector registers only in the instructions written out
 * below. PKRU (component 9) never reaches the host: it belongs to the guest alone,
 * and XRSTOR would fault on it on a host that has no PKRU.
 */
#include "engine/soft/blocks.h"
#include "engine/soft/native.h"

#define IMAGE16(v, o) (*(u16 *)((v)->s.xsave + (o)))
#define IMAGE32(v, o) (*(u32 *)((v)->s.xsave + (o)))
#define IMAGE64(v, o) (*(u64 *)((v)->s.xsave + (o)))

void soft_vec_load(struct soft_vcpu *v)
{
    if (v->vec_live)
        return;
    const struct soft_native *n = v->native;
    u8 *image = v->s.xsave;
    v->x87.fip = IMAGE64(v, XS_FIP);
    v->x87.fdp = IMAGE64(v, XS_FDP);
    v->x87.fop = IMAGE16(v, XS_FOP);
    /* A reserved bit would fault here, in the host. */
    IMAGE32(v, XS_MXCSR) &= n->mxcsr_mask;
    if (n->xsave) {
        u64 bv = IMAGE64(v, XS_BV);
        IMAGE64(v, XS_BV) = bv & n->mask;
        __asm__ volatile("xrstor64 %0"
                         :
                         : "m"(*(const u8(*)[CPU_XSAVE_SIZE])image), "a"((u32)n->mask), "d"(0)
                         : "memory");
        IMAGE64(v, XS_BV) = bv;
    } else {
        vec_image(v);
        __asm__ volatile("fxrstor64 %0" ::"m"(*(const u8(*)[512])image) : "memory");
    }
    v->vec_live = true;
}

void soft_vec_save(struct soft_vcpu *v)
{
    if (!v->vec_live)
        return;
    const struct soft_native *n = v->native;
    u8 *image = v->s.xsave;
    u64 used = XCOMP_X87;
    if (n->xsave) {
        __asm__ volatile("xsave64 %0" : "+m"(*(u8(*)[CPU_XSAVE_SIZE])image) : "a"((u32)n->mask), "d"(0) : "memory");
        used = IMAGE64(v, XS_BV);
    } else {
        __asm__ volatile("fxsave64 %0" : "+m"(*(u8(*)[512])image)::"memory");
        IMAGE64(v, XS_BV) |= XCOMP_X87 | XCOMP_SSE;
    }
    IMAGE64(v, XS_FIP) = v->x87.fip;
    IMAGE64(v, XS_FDP) = v->x87.fdp;
    IMAGE16(v, XS_FOP) = v->x87.fop;
    IMAGE32(v, XS_MXCSR_MASK) = n->mxcsr_mask;
    v->vec_live = false;
    /* The C code that follows expects the unit as the ABI says: exceptions masked, round to nearest, x87 stack
       empty. The upper halves must be zero, because mixing SSE and AVX is slow otherwise. */
    if (used & XCOMP_X87)
        __asm__ volatile("fninit" ::: "memory");
    if ((IMAGE32(v, XS_MXCSR) & ~0x3fu) != 0x1f80) {
        u32 mxcsr = 0x1f80;
        __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
    }
    if (used & (XCOMP_AVX | XCOMP_ZMM_HI) & n->mask)
        __asm__ volatile("vzeroupper");
}

void vec_init_component(struct soft_vcpu *v, unsigned c)
{
    const struct soft_native *n = v->native;
    u8 *image = v->s.xsave;
    switch (c) {
    case 0:
        zero_bytes(image, XS_MXCSR);
        zero_bytes(image + XS_ST, XS_XMM - XS_ST);
        IMAGE16(v, XS_FCW) = 0x37f;
        break;
    case 1: zero_bytes(image + XS_XMM, 256); break;
    default:
        if (n->size[c] && n->offset[c] + n->size[c] <= CPU_XSAVE_SIZE)
            zero_bytes(image + n->offset[c], n->size[c]);
    }
}

u8 *vec_image(struct soft_vcpu *v)
{
    soft_vec_save(v);
    u64 initial = ~IMAGE64(v, XS_BV) & (v->native->mask | XCOMP_X87 | XCOMP_SSE);
    for (unsigned c = 0; initial; c++, initial >>= 1)
        if (initial & 1)
            vec_init_component(v, c);
    return v->s.xsave;
}

/* ---- permission --------------------------------------------------------- */

/* The rules are in SDM vol. 2, 2.4 to 2.7 (exception classes), and vol. 3 table 14-1 and 2.5 for x87 and MMX. */
void soft_update_fpu(struct soft_vcpu *v)
{
    const u64 cr0 = v->s.cr0, cr4 = v->s.cr4, xcr0 = v->s.xcr0;
    const bool em = cr0 & CR0_EM, ts = cr0 & CR0_TS;
    u32 deny = 0;
    if (em || ts)
        deny |= DENY_X87 | DENY_MMX;
    if (em || ts || !(cr4 & CR4_OSFXSR))
        deny |= DENY_SSE;
    if (ts || !(cr4 & CR4_OSXSAVE) || (xcr0 & 6) != 6)
        deny |= DENY_AVX;
    if (ts || !(cr4 & CR4_OSXSAVE) || (xcr0 & 0xe6) != 0xe6)
        deny |= DENY_AVX512;
    if (ts && (cr0 & CR0_MP))
        deny |= DENY_WAIT;
    v->fpu_deny = deny;
    soft_update_jc_key(v);
}

void vec_check(struct soft_vcpu *v, const struct insn *i, unsigned deny)
{
    if (!(v->fpu_deny & deny))
        return;
    const bool em = v->s.cr0 & CR0_EM, osxsave = v->s.cr4 & CR4_OSXSAVE;
    bool ud = false;
    switch (deny) {
    case DENY_MMX: ud = em; break;
    case DENY_SSE: ud = em || !(v->s.cr4 & CR4_OSFXSR); break;
    case DENY_AVX: ud = !osxsave || (v->s.xcr0 & 6) != 6; break;
    case DENY_AVX512: ud = !osxsave || (v->s.xcr0 & 0xe6) != 0xe6; break;
    }
    soft_raise(v, i, ud ? VEC_UD : VEC_NM);
}

void vec_prepare(struct soft_vcpu *v, const struct insn *i, unsigned deny)
{
    vec_check(v, i, deny);
    if (!SOFT_VEC_EAGER) /* otherwise native_run loads them, just before the stub */
        soft_vec_load(v);
}

/* SDM vol. 2, WAIT: a pending unmasked exception comes before the faults of the operand. (In a stub the host itself raises
   it.) */
__attribute__((noinline)) void vec_wait(struct soft_vcpu *v, const struct insn *i)
{
    u16 fsw = IMAGE16(v, XS_FSW);
    if (v->vec_live)
        __asm__ volatile("fnstsw %0" : "=a"(fsw));
    else if (!(IMAGE64(v, XS_BV) & XCOMP_X87))
        return;
    if (fsw & 0x80) /* ES */
        soft_raise(v, i, VEC_MF);
}
