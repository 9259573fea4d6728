/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.c - the state of a processor after RESET and INIT, the table of its fields for a snapshot, and the check that a state
 * from a file must pass before an engine sees it.
 */
#include "cpu/cpu.h"

#include <errno.h>
#include <string.h>

/* ---- state table -------------------------------------------------------- */

static const struct state_field seg_fields[] = {
    STATE_FIELD(struct cpu_seg, selector, 1),
    STATE_FIELD(struct cpu_seg, attr, 1),
    STATE_FIELD(struct cpu_seg, limit, 1),
    STATE_FIELD(struct cpu_seg, base, 1),
    STATE_END,
};

static const struct state_field table_fields[] = {
    STATE_FIELD(struct cpu_table, base, 1),
    STATE_FIELD(struct cpu_table, limit, 1),
    STATE_END,
};

#define S(f) STATE_FIELD(struct cpu_state, f, 1)
#define A(f) STATE_ARRAY(struct cpu_state, f, 1)
static const struct state_field cpu_fields[] = {
    A(gpr), S(rip), S(rflags),
    STATE_STRUCTS(struct cpu_state, seg, 1, seg_fields),
    STATE_STRUCT(struct cpu_state, ldtr, 1, seg_fields),
    STATE_STRUCT(struct cpu_state, tr, 1, seg_fields),
    STATE_STRUCT(struct cpu_state, gdtr, 1, table_fields),
    STATE_STRUCT(struct cpu_state, idtr, 1, table_fields),
    S(cr0), S(cr2), S(cr3), S(cr4), S(cr8), S(xcr0), A(dr), S(dr6), S(dr7),
    S(efer), S(star), S(lstar), S(cstar), S(sfmask), S(kernel_gs_base),
    S(sysenter_cs), S(sysenter_esp), S(sysenter_eip),
    S(pat), S(tsc_aux), S(misc_enable), S(debugctl), S(spec_ctrl), S(xss), S(mcg_status), S(mcg_cap), S(pkrs),
    S(apic_base), S(tsc_deadline), S(tsc), S(tsc_adjust),
    S(mtrr_def_type), A(mtrr_fixed), A(mtrr_base), A(mtrr_mask),
    S(kvm_wall_clock), S(kvm_system_time),
    S(activity), S(sti_shadow), S(movss_shadow), S(nmi_masked), S(nmi_pending), S(sipi_pending), S(sipi_vector),
    S(exception_pending), S(exception_has_error), S(exception_vector), S(exception_error),
    S(interrupt_injected), S(interrupt_vector), S(interrupt_soft),
    A(xsave),
    STATE_END,
};
#undef S
#undef A

static int cpu_loaded(void *obj, struct error *err)
{
    return cpu_state_check(obj, err);
}

const struct state_desc cpu_state_desc = { "cpu", 1, cpu_fields, .post_load = cpu_loaded };

/* ---- RESET and INIT ----------------------------------------------------- */

enum {
    XSAVE_FCW = 0, XSAVE_FTW = 4, XSAVE_MXCSR = 24, XSAVE_XSTATE_BV = 512, XSAVE_XCOMP_BV = 520, XSAVE_HEADER_END = 576,
};

static void put_le(u8 *p, u64 v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (u8)(v >> (8 * i));
}

static u64 get_le(const u8 *p, unsigned n)
{
    u64 v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (u64)p[i] << (8 * i);
    return v;
}

/* Sets what RESET and INIT set alike (SDM vol. 3 table 10-1). */
static void reset_execution(struct cpu_state *s, bool bsp)
{
    static const struct cpu_seg data = { .selector = 0, .attr = SEG_P | SEG_S | SEG_W | SEG_A, .limit = 0xffff, .base = 0 };

    memset(s->gpr, 0, sizeof(s->gpr));
    s->gpr[RDX] = 0x600; /* the processor's signature (00n06xxxh); the machine puts CPUID.1:EAX here */
    s->rip = 0xfff0;
    s->rflags = RFLAGS_FIXED;
    for (int i = 0; i < SEG_COUNT; i++)
        s->seg[i] = data;
    s->seg[CS] = (struct cpu_seg){ .selector = 0xf000, .attr = SEG_P | SEG_S | SEG_CODE | SEG_R | SEG_A,
                                   .limit = 0xffff, .base = 0xffff0000 };
    s->ldtr = (struct cpu_seg){ .attr = SEG_P | 2, .limit = 0xffff };
    s->tr = (struct cpu_seg){ .attr = SEG_P | 11, .limit = 0xffff };
    s->gdtr = s->idtr = (struct cpu_table){ .limit = 0xffff };
    s->cr0 = (s->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
    s->cr2 = s->cr3 = s->cr4 = s->cr8 = 0;
    memset(s->dr, 0, sizeof(s->dr));
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->efer = 0;

    s->activity = bsp ? CPU_RUNNING : CPU_WAIT_SIPI;
    s->sti_shadow = s->movss_shadow = false;
    s->nmi_masked = s->nmi_pending = s->sipi_pending = false;
    s->sipi_vector = 0;
    s->exception_pending = s->exception_has_error = false;
    s->exception_vector = 0;
    s->exception_error = 0;
    s->interrupt_injected = s->interrupt_soft = false;
    s->interrupt_vector = 0;
}

void cpu_reset(struct cpu_state *s, bool bsp)
{
    memset(s, 0, sizeof(*s));
    s->cr0 = CR0_CD | CR0_NW;
    reset_execution(s, bsp);
    s->xcr0 = 1;
    s->pat = 0x0007040600070406;
    s->misc_enable = 1; /* fast strings */
    s->apic_base = 0xfee00000 | BIT(11) | (bsp ? BIT(8) : 0);
    /* RESET leaves x87 in another state than FNINIT: FCW is 0040h, and every register is +0.0 and valid. */
    put_le(s->xsave + XSAVE_FCW, 0x40, 2);
    put_le(s->xsave + XSAVE_FTW, 0xff, 1);
    put_le(s->xsave + XSAVE_MXCSR, 0x1f80, 4);
    put_le(s->xsave + XSAVE_XSTATE_BV, 1, 8);
}

void cpu_init_signal(struct cpu_state *s, bool bsp)
{
    reset_execution(s, bsp);
}

/* ---- check -------------------------------------------------------------- */

#define RFLAGS_KNOWN 0x3f7fd7ull
#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_KNOWN                                                                                                       \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR |               \
     CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS)
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE | EFER_FFXSR)
#define XCR0_AVX512 0xe0ull
#define XCR0_KNOWN (7ull | XCR0_AVX512 | BIT(9))

static bool canonical(u64 a)
{
    return (u64)((s64)(a << 16) >> 16) == a;
}

static bool bad_pat(u64 pat)
{
    for (int i = 0; i < 64; i += 8) {
        u8 t = (u8)(pat >> i);
        if (t > 7 || t == 2 || t == 3)
            return true;
    }
    return false;
}

static int bad(struct error *err, const char *what)
{
    return error_set(err, EINVAL, "the processor state is not one a processor can be in: %s", what);
}

int cpu_state_check(const struct cpu_state *s, struct error *err)
{
    bool lma = s->efer & EFER_LMA;
    const struct cpu_seg *cs = &s->seg[CS];

    if (!(s->rflags & RFLAGS_FIXED) || (s->rflags & ~RFLAGS_KNOWN))
        return bad(err, "reserved bits of RFLAGS");
    if (s->cr0 & ~CR0_KNOWN)
        return bad(err, "reserved bits of CR0");
    if ((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE))
        return bad(err, "CR0.PG without CR0.PE");
    if ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD))
        return bad(err, "CR0.NW without CR0.CD");
    if (s->cr4 & ~CR4_KNOWN)
        return bad(err, "reserved bits of CR4");
    if (s->efer & ~EFER_KNOWN)
        return bad(err, "reserved bits of EFER");
    if (lma != ((s->efer & EFER_LME) && (s->cr0 & CR0_PG)))
        return bad(err, "EFER.LMA disagrees with EFER.LME and CR0.PG");
    if (lma && !(s->cr4 & CR4_PAE))
        return bad(err, "long mode without CR4.PAE");
    if (!lma && (s->cr4 & CR4_PCIDE))
        return bad(err, "CR4.PCIDE outside long mode");
    if (lma && (s->rflags & RFLAGS_VM))
        return bad(err, "virtual-8086 mode in long mode");
    if ((s->rflags & RFLAGS_VM) && !(s->cr0 & CR0_PE))
        return bad(err, "virtual-8086 mode without CR0.PE");
    if (lma && (cs->attr & SEG_L) && (cs->attr & SEG_DB))
        return bad(err, "CS.L and CS.D both set");
    if (s->cr3 >> 52)
        return bad(err, "reserved bits of CR3");
    if (!lma && s->cr3 >> 32)
        return bad(err, "CR3 above 4 GiB outside long mode");
    if (s->cr8 > 15)
        return bad(err, "CR8");
    if ((s->dr6 | s->dr7) >> 32)
        return bad(err, "upper half of DR6 or DR7");

    if (lma && (cs->attr & SEG_L) ? !canonical(s->rip) : s->rip >> 32 != 0)
        return bad(err, "RIP");
    for (int i = 0; i < SEG_COUNT; i++) {
        if (!canonical(s->seg[i].base) || (!lma && s->seg[i].base >> 32))
            return bad(err, "a segment base");
    }
    if (!canonical(s->ldtr.base) || !canonical(s->tr.base) || !canonical(s->gdtr.base) || !canonical(s->idtr.base))
        return bad(err, "the base of a system table");
    if (s->gdtr.limit > 0xffff || s->idtr.limit > 0xffff)
        return bad(err, "the limit of GDTR or IDTR");
    if (!canonical(s->lstar) || !canonical(s->cstar) || !canonical(s->kernel_gs_base) || !canonical(s->sysenter_esp) ||
        !canonical(s->sysenter_eip))
        return bad(err, "a non-canonical address in an MSR");
    if (bad_pat(s->pat))
        return bad(err, "a memory type of IA32_PAT");

    if (!(s->xcr0 & 1) || (s->xcr0 & ~XCR0_KNOWN))
        return bad(err, "reserved bits of XCR0");
    if ((s->xcr0 & 4) && !(s->xcr0 & 2))
        return bad(err, "XCR0: AVX without SSE");
    if ((s->xcr0 & XCR0_AVX512) && ((s->xcr0 & XCR0_AVX512) != XCR0_AVX512 || !(s->xcr0 & 4)))
        return bad(err, "XCR0: AVX-512 in part");
    if (get_le(s->xsave + XSAVE_XSTATE_BV, 8) & ~(s->xcr0 | 3 | (XCR0_KNOWN & ~7ull)))
        return bad(err, "XSTATE_BV");
    for (int i = XSAVE_XCOMP_BV; i < XSAVE_HEADER_END; i++) {
        if (s->xsave[i])
            return bad(err, "the XSAVE header");
    }
    if (get_le(s->xsave + XSAVE_MXCSR, 4) >> 16)
        return bad(err, "reserved bits of MXCSR");

    if (s->activity > CPU_SHUTDOWN)
        return bad(err, "activity");
    if (s->exception_pending && (s->exception_vector > 31 || s->exception_vector == VEC_NMI))
        return bad(err, "the vector of the pending exception");
    if (s->sti_shadow && s->movss_shadow)
        return bad(err, "two interrupt shadows at once");
    return 0;
}
