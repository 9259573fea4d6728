/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msr.c - RDMSR and WRMSR: the registers that struct cpu_state holds, and those that a kernel reads because of the vendor
 * that CPUID names. The others are passed on to the machine (APIC, paravirtual clock).
 *
 * SDM vol. 4; vol. 3 ch. 11.11 (MTRRs), 11.12 (PAT), 17.17 (TSC); AMD APM vol. 2 app. A.
 */
#include "engine/soft/system.h"

#include "cpu/msr.h"

bool soft_has(const struct soft_vcpu *v, u32 function, u32 index, unsigned reg, unsigned bit)
{
    const struct cpuid_table *t = v->vm->cfg.cpuid;
    for (u32 k = 0; k < t->n; k++) {
        const struct cpuid_leaf *l = &t->leaf[k];
        if (l->function != function || (l->indexed && l->index != index))
            continue;
        const u32 x = reg == 0 ? l->eax : reg == 1 ? l->ebx : reg == 2 ? l->ecx : l->edx;
        return x >> bit & 1;
    }
    return false;
}

bool soft_is_amd(const struct soft_vcpu *v)
{
    const struct cpuid_table *t = v->vm->cfg.cpuid;
    for (u32 k = 0; k < t->n; k++)
        if (t->leaf[k].function == 0)
            return t->leaf[k].ebx == 0x68747541 || t->leaf[k].ebx == 0x6f677948; /* "Auth", "Hygo" */
    return false;
}

/* ---- registers that read as zero and ignore writes ----------------------- */

struct msr_range {
    u32 first, last;
};
/* Platform registers that kernels touch without expecting #GP on a processor of that vendor. */
static const struct msr_range amd_zero[] = {
    {0xc0010000, 0xc0010007}, /* PERF_CTL, PERF_CTR */
    {0xc0010010, 0xc0010010}, /* SYSCFG */
    {0xc0010015, 0xc0010015}, /* HWCR */
    {0xc0010016, 0xc001001a}, /* IORR, TOP_MEM */
    {0xc001001d, 0xc001001d}, /* TOP_MEM2 */
    {0xc001001f, 0xc001001f}, /* NB_CFG */
    {0xc0010055, 0xc0010055}, /* Interrupt pending */
    {0xc0010058, 0xc0010058}, /* MMIO configuration base */
    {0xc0010112, 0xc0010113}, /* SMM TSEG */
    {0xc0010114, 0xc0010115}, /* VM_CR, IGNNE */
    {0xc0010117, 0xc0010117}, /* VM_HSAVE_PA */
    {0xc0010140, 0xc0010141}, /* OSVW */
    {0xc0010200, 0xc001020b}, /* extended PERF_CTL, PERF_CTR */
    {0xc0011020, 0xc0011023}, /* LS, IC, DC, BU configuration */
    {0xc0011029, 0xc001102d}, /* DE_CFG and its neighbours */
};
static const struct msr_range intel_zero[] = {
    {0x17, 0x17},   /* PLATFORM_ID */
    {0x2a, 0x2a},   /* EBL_CR_POWERON */
    {0x2c, 0x2c},   /* EBC_FREQUENCY_ID */
    {0x34, 0x34},   /* SMI_COUNT */
    {0xcd, 0xce},   /* FSB_FREQ, PLATFORM_INFO */
    {0x119, 0x119}, /* BBL_CR_CTL */
    {0x11e, 0x11e}, /* BBL_CR_CTL3 */
    {0x140, 0x140}, /* MISC_FEATURES_ENABLES */
    {0x198, 0x199}, /* PERF_STATUS, PERF_CTL */
    {0x19a, 0x19c}, /* thermal */
    {0x1ad, 0x1ad}, /* TURBO_RATIO_LIMIT */
    {0x606, 0x606}, /* RAPL_POWER_UNIT */
};

static bool reads_zero(const struct soft_vcpu *v, u32 msr)
{
    const bool amd = soft_is_amd(v);
    const struct msr_range *r = amd ? amd_zero : intel_zero;
    const unsigned n = amd ? ARRAY_SIZE(amd_zero) : ARRAY_SIZE(intel_zero);
    if (msr == MSR_P5_MC_ADDR || msr == MSR_P5_MC_TYPE)
        return true;
    for (unsigned k = 0; k < n; k++)
        if (msr >= r[k].first && msr <= r[k].last)
            return true;
    return false;
}

/* ---- tables and checks --------------------------------------------------- */

/* Index into mtrr_fixed[], or -1. */
static int mtrr_fixed_index(u32 msr)
{
    if (msr == MSR_IA32_MTRR_FIX64K_00000)
        return 0;
    if (msr == MSR_IA32_MTRR_FIX16K_80000 || msr == MSR_IA32_MTRR_FIX16K_A0000)
        return (int)(msr - MSR_IA32_MTRR_FIX16K_80000) + 1;
    if (msr >= MSR_IA32_MTRR_FIX4K_C0000 && msr < MSR_IA32_MTRR_FIX4K_C0000 + 8)
        return (int)(msr - MSR_IA32_MTRR_FIX4K_C0000) + 3;
    return -1;
}
static bool mtrr_type_ok(unsigned t) { return t < 7 && t != 2 && t != 3; }
static bool types_ok(u64 x, bool pat)
{
    for (unsigned k = 0; k < 8; k++, x >>= 8)
        if (!(mtrr_type_ok(x & 0xff) || (pat && (x & 0xff) == 7)))
            return false;
    return true;
}

/* SPEC_CTRL exists if the processor has any of the features that it controls. */
static bool has_spec_ctrl(const struct soft_vcpu *v)
{
    return soft_has(v, 7, 0, 3, 26) || soft_has(v, 7, 0, 3, 27) || soft_has(v, 7, 0, 3, 31) ||
           soft_has(v, 0x80000008, 0, 1, 14) || soft_has(v, 0x80000008, 0, 1, 15) || soft_has(v, 0x80000008, 0, 1, 24);
}
static bool has_ibpb(const struct soft_vcpu *v)
{
    return soft_has(v, 7, 0, 3, 26) || soft_has(v, 0x80000008, 0, 1, 12);
}

static u64 xss_allowed(const struct soft_vcpu *v)
{
    const struct cpuid_table *t = v->vm->cfg.cpuid;
    for (u32 k = 0; k < t->n; k++)
        if (t->leaf[k].function == 0xd && t->leaf[k].index == 1)
            return t->leaf[k].ecx | (u64)t->leaf[k].edx << 32;
    return 0;
}

/* ---- read --------------------------------------------------------------- */

/* False: there is no such register. */
static bool msr_read(struct soft_vcpu *v, u32 msr, u64 *x)
{
    struct cpu_state *s = &v->s;
    switch (msr) {
    case MSR_IA32_TSC: *x = soft_tsc(v); return true;
    case MSR_IA32_TSC_ADJUST: *x = s->tsc_adjust; return soft_has(v, 7, 0, 1, 1);
    case MSR_FS_BASE: *x = s->seg[FS].base; return true;
    case MSR_GS_BASE: *x = s->seg[GS].base; return true;
    case MSR_KERNEL_GS_BASE: *x = s->kernel_gs_base; return true;
    case MSR_EFER: *x = s->efer; return true;
    case MSR_STAR: *x = s->star; return true;
    case MSR_LSTAR: *x = s->lstar; return true;
    case MSR_CSTAR: *x = s->cstar; return true;
    case MSR_SFMASK: *x = s->sfmask; return true;
    case MSR_TSC_AUX:
        *x = s->tsc_aux;
        return soft_has(v, 0x80000001, 0, 3, 27) || soft_has(v, 7, 0, 2, 22);
    case MSR_IA32_SYSENTER_CS: *x = s->sysenter_cs; return true;
    case MSR_IA32_SYSENTER_ESP: *x = s->sysenter_esp; return true;
    case MSR_IA32_SYSENTER_EIP: *x = s->sysenter_eip; return true;
    case MSR_IA32_PAT: *x = s->pat; return true;
    case MSR_IA32_MISC_ENABLE: *x = s->misc_enable; return true;
    case MSR_IA32_DEBUGCTL: *x = s->debugctl; return true;
    case MSR_IA32_SPEC_CTRL: *x = s->spec_ctrl; return has_spec_ctrl(v);
    case MSR_IA32_PKRS: *x = s->pkrs; return soft_has(v, 7, 0, 2, 31);
    case MSR_IA32_XSS: *x = s->xss; return soft_has(v, 0xd, 1, 0, 3);
    case MSR_IA32_MCG_CAP: *x = s->mcg_cap; return true;
    case MSR_IA32_MCG_STATUS: *x = s->mcg_status; return true;
    case MSR_IA32_MCG_CTL: *x = ~0ull; return s->mcg_cap & BIT(8);
    case MSR_IA32_MTRRCAP: *x = CPU_MTRR_VAR | BIT(8) | BIT(10); return soft_has(v, 1, 0, 3, 12);
    case MSR_IA32_MTRR_DEF_TYPE: *x = s->mtrr_def_type; return true;
    case MSR_IA32_ARCH_CAPABILITIES: *x = ARCH_CAP_SOFT; return soft_has(v, 7, 0, 3, 29);
    case MSR_IA32_FEATURE_CONTROL: *x = 1; return !soft_is_amd(v); /* it is locked, and nothing is enabled */
    case MSR_IA32_BIOS_SIGN_ID:
        *x = soft_is_amd(v) ? 0x01000065 : 1ull << 32; /* a microcode revision, as KVM reports it */
        return true;
    }
    if (msr >= MSR_IA32_MTRR_PHYSBASE0 && msr < MSR_IA32_MTRR_PHYSBASE0 + 2 * CPU_MTRR_VAR) {
        const unsigned n = (msr - MSR_IA32_MTRR_PHYSBASE0) / 2;
        *x = msr & 1 ? s->mtrr_mask[n] : s->mtrr_base[n];
        return true;
    }
    const int fixed = mtrr_fixed_index(msr);
    if (fixed >= 0) {
        *x = s->mtrr_fixed[fixed];
        return true;
    }
    if (msr >= MSR_IA32_MC0_CTL && msr < MSR_IA32_MC0_CTL + 4 * (s->mcg_cap & 0xff)) {
        *x = 0;
        return true;
    }
    if (reads_zero(v, msr)) {
        /* HWCR.TscFreqSel is set: the TSC counts at one rate. If it is not set, Linux reports faulty firmware. */
        *x = msr == 0xc0010015 && soft_is_amd(v) ? BIT(24) : 0;
        return true;
    }
    return soft_msr_read_machine(v, msr, x) == 0;
}

/* ---- write -------------------------------------------------------------- */

static bool efer_write(struct soft_vcpu *v, u64 x)
{
    u64 allowed = EFER_SCE | EFER_LME | EFER_LMA;
    const u64 old = v->s.efer;
    if (soft_has(v, 0x80000001, 0, 3, 20))
        allowed |= EFER_NXE;
    if (soft_has(v, 0x80000001, 0, 3, 25))
        allowed |= EFER_FFXSR;
    if (x & ~allowed)
        return false;
    if ((v->s.cr0 & CR0_PG) && ((x ^ old) & EFER_LME))
        return false;
    v->s.efer = (x & ~EFER_LMA) | (old & EFER_LMA);
    if ((x ^ old) & EFER_NXE)
        soft_flush_tlb(v);
    return true;
}

static bool mtrr_write(struct soft_vcpu *v, u32 msr, u64 x, bool *done)
{
    struct cpu_state *s = &v->s;
    *done = true;
    if (msr >= MSR_IA32_MTRR_PHYSBASE0 && msr < MSR_IA32_MTRR_PHYSBASE0 + 2 * CPU_MTRR_VAR) {
        const unsigned n = (msr - MSR_IA32_MTRR_PHYSBASE0) / 2;
        if (x >> v->vm->phys_bits)
            return false;
        if (msr & 1) {
            if (x & 0x7ff)
                return false;
            s->mtrr_mask[n] = x;
        } else {
            if ((x & 0xf00) || !mtrr_type_ok(x & 0xff))
                return false;
            s->mtrr_base[n] = x;
        }
        return true;
    }
    const int fixed = mtrr_fixed_index(msr);
    if (fixed >= 0) {
        if (!types_ok(x, false))
            return false;
        s->mtrr_fixed[fixed] = x;
        return true;
    }
    *done = false;
    return true;
}

/* Sets a register that holds the target of a transfer, a stack pointer or a base. False: x is not canonical, #GP. */
static bool set_canonical(const struct soft_vcpu *v, u64 *msr, u64 x)
{
    if (!canonical(v, x))
        return false;
    *msr = x;
    return true;
}

static bool seg_base_write(struct soft_vcpu *v, unsigned seg, u64 x)
{
    if (!canonical(v, x))
        return false;
    v->s.seg[seg].base = v->segbase[seg] = v->segbase[seg == FS ? ISEG_FS : ISEG_GS] = x;
    if (v->bits != 64)
        soft_update_mode(v);
    return true;
}

static bool tsc_aux_write(struct soft_vcpu *v, u64 x)
{
    if (!soft_has(v, 0x80000001, 0, 3, 27) && !soft_has(v, 7, 0, 2, 22))
        return false;
    if (x >> 32 && !soft_is_amd(v))
        return false;
    v->s.tsc_aux = (u32)x;
    return true;
}

/* Writes the MTRRs, the banks of the machine check, the registers that ignore writes, and those of the machine. False: #GP,
   also if nobody has the register. */
static bool other_msr_write(struct soft_vcpu *v, u32 msr, u64 x)
{
    struct cpu_state *s = &v->s;
    bool done, ok = mtrr_write(v, msr, x, &done);
    if (done)
        return ok;
    if (msr >= MSR_IA32_MC0_CTL && msr < MSR_IA32_MC0_CTL + 4 * (s->mcg_cap & 0xff))
        return msr & 3 ? x == 0 : x == 0 || x == ~0ull;
    if (reads_zero(v, msr))
        return true;
    if (soft_msr_write_machine(v, msr, x))
        return false;
    if (msr == MSR_IA32_APIC_BASE)
        s->apic_base = x;
    return true;
}

/* False: #GP. */
static bool msr_write(struct soft_vcpu *v, u32 msr, u64 x)
{
    struct cpu_state *s = &v->s;
    switch (msr) {
    case MSR_IA32_TSC: {
        const u64 delta = x - soft_tsc(v);
        v->tsc_offset += delta;
        s->tsc_adjust += delta;
        return true;
    }
    case MSR_IA32_TSC_ADJUST:
        if (!soft_has(v, 7, 0, 1, 1))
            return false;
        v->tsc_offset += x - s->tsc_adjust;
        s->tsc_adjust = x;
        return true;
    case MSR_FS_BASE: return seg_base_write(v, FS, x);
    case MSR_GS_BASE: return seg_base_write(v, GS, x);
    case MSR_KERNEL_GS_BASE: return set_canonical(v, &s->kernel_gs_base, x);
    case MSR_EFER: return efer_write(v, x);
    case MSR_STAR: s->star = x; return true;
    case MSR_LSTAR: return set_canonical(v, &s->lstar, x);
    case MSR_CSTAR: return set_canonical(v, &s->cstar, x);
    case MSR_SFMASK: s->sfmask = (u32)x; return true;
    case MSR_TSC_AUX: return tsc_aux_write(v, x);
    case MSR_IA32_SYSENTER_CS: s->sysenter_cs = (u32)x; return true;
    case MSR_IA32_SYSENTER_ESP: return set_canonical(v, &s->sysenter_esp, x);
    case MSR_IA32_SYSENTER_EIP: return set_canonical(v, &s->sysenter_eip, x);
    case MSR_IA32_PAT:
        if (!types_ok(x, true))
            return false;
        s->pat = x;
        return true;
    case MSR_IA32_MISC_ENABLE: s->misc_enable = x; return true;
    case MSR_IA32_DEBUGCTL:
        if (x & ~3ull) /* LBR, BTF */
            return false;
        s->debugctl = x;
        return true;
    case MSR_IA32_SPEC_CTRL:
        if (!has_spec_ctrl(v) || (x & ~7ull))
            return false;
        s->spec_ctrl = x;
        return true;
    case MSR_IA32_PRED_CMD: return has_ibpb(v) && !(x & ~1ull); /* the engine predicts nothing for the guest */
    case MSR_IA32_XSS:
        if (!soft_has(v, 0xd, 1, 0, 3) || (x & ~xss_allowed(v)))
            return false;
        s->xss = x;
        return true;
    case MSR_IA32_PKRS:
        if (!soft_has(v, 7, 0, 2, 31) || x >> 32)
            return false;
        s->pkrs = x;
        soft_flush_data(v);
        return true;
    case MSR_IA32_MCG_STATUS: s->mcg_status = x; return true;
    case MSR_IA32_MCG_CTL: return (s->mcg_cap & BIT(8)) && (x == 0 || x == ~0ull);
    case MSR_IA32_MTRR_DEF_TYPE:
        if ((x & ~0xcffull) || !mtrr_type_ok(x & 0xff))
            return false;
        s->mtrr_def_type = x;
        return true;
    case MSR_IA32_BIOS_SIGN_ID: return true;
    case MSR_IA32_BIOS_UPDT_TRIG: return true;
    case MSR_IA32_MCG_CAP:
    case MSR_IA32_MTRRCAP:
    case MSR_IA32_ARCH_CAPABILITIES:
    case MSR_IA32_FEATURE_CONTROL: return false; /* read-only, or locked */
    }
    return other_msr_write(v, msr, x);
}

/* ---- instructions ------------------------------------------------------- */

/* This is a function of its own so that op_rdmsr has no local whose address is taken, and can end in a jump. */
static __attribute__((noinline)) u64 rdmsr(struct soft_vcpu *v, const struct insn *i)
{
    u64 x = 0;
    if (unlikely(!msr_read(v, (u32)v->gpr[RCX], &x)))
        soft_raise_err(v, i, VEC_GP, 0);
    return x;
}

void op_rdmsr(struct soft_vcpu *v, const struct insn *i)
{
    need_cpl0(v, i);
    const u64 x = rdmsr(v, i);
    v->gpr[RAX] = (u32)x;
    v->gpr[RDX] = x >> 32;
    NEXT(v, i);
}

void op_wrmsr(struct soft_vcpu *v, const struct insn *i)
{
    const u32 msr = (u32)v->gpr[RCX];
    need_cpl0(v, i);
    if (unlikely(!msr_write(v, msr, (u32)v->gpr[RAX] | v->gpr[RDX] << 32)))
        soft_raise_err(v, i, VEC_GP, 0);
    if (msr == MSR_EFER)
        END_BLOCK(v, i);
    NEXT_UNLESS_REQUEST(v, i);
}
