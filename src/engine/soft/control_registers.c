/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_registers.c - CR0 to CR4 and CR8: the checks of a write, and what it changes (SDM vol. 3 ch. 2.5).
 */
#include "engine/soft/system.h"

void op_mov_from_cr(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    u64 x;
    switch (i->aux) {
    case 0: x = v->s.cr0; break;
    case 2: x = v->s.cr2; break;
    case 3: x = v->s.cr3; break;
    case 4: x = v->s.cr4; break;
    default: x = soft_cr8_read(v); break;
    }
    reg_write(v, i->rm, i->size, x);
    NEXT(v, i);
}

/* For PAE paging outside long mode: #GP(0) if a present one of the four entries that CR3 points to has a reserved bit set
   (SDM vol. 3 4.4.1). */
static void check_pdptes(struct soft_vcpu *v, u64 cr3)
{
    const u64 reserved = 0x1e6 | ~(BIT(v->vm->phys_bits) - 1);
    for (unsigned k = 0; k < 4; k++) {
        u64 e = soft_phys_load(v, (cr3 & 0xffffffe0) + 8 * k, 8);
        if ((e & 1) && (e & reserved))
            raise_gp0(v);
    }
}

void cr3_load(struct soft_vcpu *v, u64 x)
{
    const u64 cr4 = v->s.cr4;
    bool keep = false;
    if (v->long_mode) {
        if (cr4 & CR4_PCIDE) {
            keep = x & BIT(63);
            x &= ~BIT(63);
        }
        if (unlikely(x >> v->vm->phys_bits))
            raise_gp0(v);
    } else if ((v->s.cr0 & CR0_PG) && (cr4 & CR4_PAE)) {
        check_pdptes(v, x);
    }
    v->s.cr3 = x;
    v->stat.flush[keep ? FLUSH_CR3_KEPT : FLUSH_CR3]++;
    soft_set_space(v, soft_pcid(v), keep);
}

static void cr0_load(struct soft_vcpu *v, u64 x)
{
    const u64 old = v->s.cr0;
    if (x >> 32)
        raise_gp0(v);
    x = (x & (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)) | CR0_ET;
    if (((x & CR0_PG) && !(x & CR0_PE)) || ((x & CR0_NW) && !(x & CR0_CD)))
        raise_gp0(v);
    if ((x & CR0_PG) && !(old & CR0_PG)) {
        if (v->s.efer & EFER_LME) {
            if (!(v->s.cr4 & CR4_PAE) || (v->s.seg[CS].attr & SEG_L))
                raise_gp0(v);
            v->s.efer |= EFER_LMA;
        } else if (v->s.cr4 & CR4_PAE) {
            check_pdptes(v, v->s.cr3);
        }
    } else if (!(x & CR0_PG) && (old & CR0_PG)) {
        if (v->bits == 64 || (v->s.cr4 & CR4_PCIDE))
            raise_gp0(v);
        v->s.efer &= ~EFER_LMA;
    }
    v->s.cr0 = x;
    if ((x ^ old) & (CR0_PE | CR0_PG | CR0_WP)) {
        if ((x ^ old) & CR0_PE)
            v->cpl = 0;
        soft_update_mode(v);
        if ((x ^ old) & CR0_PG) /* PE alone, without paging before or after, changes no mapping */
            soft_flush_tlb(v);
        else if ((x ^ old) & CR0_WP)
            soft_flush_data(v);
    }
    if ((x ^ old) & (CR0_EM | CR0_TS | CR0_MP))
        soft_update_fpu(v);
    if ((x ^ old) & CR0_AM)
        soft_update_tlb_ctx(v);
}

/* The bits of CR4 that this processor has (the others are reserved: SDM vol. 3 2.5). */
static u64 cr4_allowed(const struct soft_vcpu *v)
{
    static const struct {
        u32 function;
        u8 reg, bit, cr4;
    } feature[] = {
        {1, 3, 1, 0}, {1, 3, 1, 1}, /* VME: VME, PVI */
        {1, 3, 4, 2},               /* TSC: TSD */
        {1, 3, 2, 3},               /* DE */
        {1, 3, 3, 4},               /* PSE */
        {1, 3, 6, 5},               /* PAE */
        {1, 3, 7, 6},               /* MCE */
        {1, 3, 13, 7},              /* PGE */
        {1, 3, 24, 9},              /* FXSR: OSFXSR */
        {1, 3, 25, 10},             /* SSE: OSXMMEXCPT */
        {7, 2, 2, 11},              /* UMIP */
        {7, 1, 0, 16},              /* FSGSBASE */
        {1, 2, 17, 17},             /* PCID */
        {1, 2, 26, 18},             /* XSAVE: OSXSAVE */
        {7, 1, 7, 20},              /* SMEP */
        {7, 1, 20, 21},             /* SMAP */
        {7, 2, 3, 22},              /* PKU: PKE */
        {7, 2, 31, 24},             /* PKS */
    };
    u64 m = CR4_PCE;
    for (unsigned k = 0; k < ARRAY_SIZE(feature); k++)
        if (soft_has(v, feature[k].function, 0, feature[k].reg, feature[k].bit))
            m |= BIT(feature[k].cr4);
    return m;
}

static void cr4_load(struct soft_vcpu *v, u64 x)
{
    const u64 old = v->s.cr4, diff = x ^ old;
    if (diff & x & ~cr4_allowed(v))
        raise_gp0(v);
    if (v->long_mode && !(x & CR4_PAE))
        raise_gp0(v);
    if ((diff & x & CR4_PCIDE) && (!v->long_mode || (v->s.cr3 & 0xfff)))
        raise_gp0(v);
    if (!v->long_mode && (v->s.cr0 & CR0_PG) && (x & CR4_PAE) && (diff & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)))
        check_pdptes(v, v->s.cr3);
    v->s.cr4 = x;
    soft_update_mode(v);
    if (diff & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS | CR4_LA57))
        soft_flush_tlb(v);
    if (diff & (CR4_OSFXSR | CR4_OSXSAVE | CR4_OSXMMEXCPT))
        soft_update_fpu(v);
}

void op_mov_to_cr(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    const u64 x = reg_read(v, i->rm, i->size);
    SYNC(v, i);
    switch (i->aux) {
    case 0: cr0_load(v, x); break;
    case 2: v->s.cr2 = x; NEXT(v, i);
    case 3: cr3_load(v, x); break;
    case 4: cr4_load(v, x); break;
    default:
        if (x > 15)
            raise_gp0(v);
        soft_cr8_write(v, (u8)x);
        break;
    }
    END_BLOCK(v, i);
}

void op_clts(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    v->s.cr0 &= ~CR0_TS;
    soft_update_fpu(v);
    NEXT(v, i);
}
void op_smsw(struct soft_vcpu *v, const struct insn *i)
{
    if (v->cpl > 0 && (v->s.cr4 & CR4_UMIP))
        soft_raise_err(v, i, VEC_GP, 0);
    if (i->aux2)
        soft_store(v, i, insn_linear(v, i, 2, ACCESS_WRITE), 2, v->s.cr0 & 0xffff);
    else
        reg_write(v, i->rm, i->size, v->s.cr0);
    NEXT(v, i);
}
/* Sets PE but cannot clear it. */
void op_lmsw(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    u64 x = i->aux2 ? soft_load(v, i, insn_linear(v, i, 2, ACCESS_READ), 2) : R16(v, i->rm);
    SYNC(v, i);
    cr0_load(v, (v->s.cr0 & ~14ull) | (x & 15) | (v->s.cr0 & CR0_PE));
    END_BLOCK(v, i);
}
