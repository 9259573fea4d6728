/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.h - the architectural state of one x86-64 processor. It is the same for every engine, so that a snapshot of one
 * engine resumes on the other.
 *
 * Names and layouts: Intel SDM vol. 1 ch. 3 and 13 (XSAVE), vol. 3 ch. 2-5; AMD APM vol. 2.
 */
#ifndef LODGE_CPU_CPU_H
#define LODGE_CPU_CPU_H

#include "base/base.h"
#include "base/error.h"
#include "state/state.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum seg_reg { ES, CS, SS, DS, FS, GS, SEG_COUNT }; /* instruction encoding order */

/* attr has bits 40-55 of the descriptor in their order (type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15), without
   the bits of the limit, and SEG_UNUSABLE. limit is in bytes, scaled by G already. */
struct cpu_seg {
    u16 selector, attr;
    u32 limit;
    u64 base;
};
enum {
    SEG_TYPE = 0xf, SEG_A = 1 << 0, SEG_W = 1 << 1, SEG_R = 1 << 1, SEG_E = 1 << 2, SEG_C = 1 << 2,
    SEG_CODE = 1 << 3, SEG_S = 1 << 4, SEG_DPL_SHIFT = 5, SEG_DPL = 3 << 5, SEG_P = 1 << 7,
    SEG_AVL = 1 << 12, SEG_L = 1 << 13, SEG_DB = 1 << 14, SEG_G = 1 << 15, SEG_UNUSABLE = 1 << 8,
};
static inline unsigned seg_dpl(const struct cpu_seg *s) { return (s->attr & SEG_DPL) >> SEG_DPL_SHIFT; }

struct cpu_table { /* GDTR, IDTR */
    u64 base;
    u32 limit; /* 16 bits are used */
};

enum {
    RFLAGS_CF = 1 << 0, RFLAGS_FIXED = 1 << 1, RFLAGS_PF = 1 << 2, RFLAGS_AF = 1 << 4, RFLAGS_ZF = 1 << 6,
    RFLAGS_SF = 1 << 7, RFLAGS_TF = 1 << 8, RFLAGS_IF = 1 << 9, RFLAGS_DF = 1 << 10, RFLAGS_OF = 1 << 11,
    RFLAGS_IOPL = 3 << 12, RFLAGS_NT = 1 << 14, RFLAGS_RF = 1 << 16, RFLAGS_VM = 1 << 17, RFLAGS_AC = 1 << 18,
    RFLAGS_VIF = 1 << 19, RFLAGS_VIP = 1 << 20, RFLAGS_ID = 1 << 21,
    RFLAGS_ARITH = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF,
};
#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_LA57 BIT(12)
#define CR4_VMXE BIT(13)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE BIT(22)
#define CR4_CET BIT(23)
#define CR4_PKS BIT(24)
#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)
#define EFER_SVME BIT(12)
#define EFER_FFXSR BIT(14)

enum vector {
    VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
    VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18,
    VEC_XM = 19,
};

/* What a processor is doing (as KVM's mp_state). */
enum cpu_activity { CPU_RUNNING, CPU_HALTED, CPU_WAIT_SIPI, CPU_SHUTDOWN };

enum { CPU_MTRR_VAR = 8, CPU_XSAVE_SIZE = 4096 };

struct cpu_state {
    u64 gpr[16], rip, rflags;
    struct cpu_seg seg[SEG_COUNT], ldtr, tr;
    struct cpu_table gdtr, idtr;
    u64 cr0, cr2, cr3, cr4, cr8, xcr0;
    u64 dr[4], dr6, dr7;

    /* model-specific registers, which the engines keep; see cpu/msr.h */
    u64 efer, star, lstar, cstar, sfmask, kernel_gs_base;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, tsc_aux, misc_enable, debugctl, spec_ctrl, xss, mcg_status, mcg_cap, pkrs;
    u64 apic_base;    /* IA32_APIC_BASE; the LAPIC owns it, and CPUID needs this copy */
    u64 tsc_deadline; /* the LAPIC owns it; KVM keeps it with the MSRs */
    u64 tsc;          /* the guest's TSC when the state was taken */
    u64 tsc_adjust;
    u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[CPU_MTRR_VAR], mtrr_mask[CPU_MTRR_VAR];
    u64 kvm_wall_clock, kvm_system_time; /* paravirtual clock MSRs 4b564d00h, 01h */

    /* activity, and events that are not delivered yet */
    u8 activity;                      /* enum cpu_activity */
    bool sti_shadow, movss_shadow;    /* interrupts are held off for one instruction */
    bool nmi_masked, nmi_pending;
    bool sipi_pending;
    u8 sipi_vector;
    bool exception_pending, exception_has_error; /* raised, but not delivered yet */
    u8 exception_vector;
    u32 exception_error;
    bool interrupt_injected; /* accepted from the PIC or the LAPIC, but its delivery was interrupted */
    u8 interrupt_vector;
    bool interrupt_soft;

    /* The XSAVE image in the standard format (not compacted). x87, SSE and the components in xcr0 are valid. XSTATE_BV says
       which of them are not in their initial state. */
    u8 xsave[CPU_XSAVE_SIZE] __attribute__((aligned(64)));
};

extern const struct state_desc cpu_state_desc;

/* The state after power-up or RESET, and what INIT makes of a state (SDM vol. 3 table 10-1). INIT keeps x87 and SSE, XCR0,
   the MSRs except EFER, CR0.CD and CR0.NW, and the TSC. bsp: the boot processor runs; the others wait for a SIPI. */
void cpu_reset(struct cpu_state *s, bool bsp);
void cpu_init_signal(struct cpu_state *s, bool bsp);
/* For states from files: refuses what no processor can hold (reserved bits, non-canonical bases, a bad MXCSR). */
int must_check cpu_state_check(const struct cpu_state *s, struct error *err);

#endif
