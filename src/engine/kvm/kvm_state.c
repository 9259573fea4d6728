/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm_state.c - copies a vCPU's registers between KVM's structures and struct cpu_state.
 *
 * They are set in the order that KVM needs. The special registers (the mode) come first, because KVM checks much of the rest
 * against them. Events come after everything that could disturb them.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cpu/msr.h"

/* ---- MSRs --------------------------------------------------------------- */

struct msr_row {
    u32 msr;
    u32 offset; /* in struct cpu_state */
};
#define M(n, f) { n, offsetof(struct cpu_state, f) }
#define FIXED(n, i) { n, offsetof(struct cpu_state, mtrr_fixed) + (i) * 8 }
#define VARIABLE(i)                                                                      \
    { MSR_IA32_MTRR_PHYSBASE0 + 2 * (i), offsetof(struct cpu_state, mtrr_base) + (i) * 8 }, \
    { MSR_IA32_MTRR_PHYSBASE0 + 2 * (i) + 1, offsetof(struct cpu_state, mtrr_mask) + (i) * 8 }
static const struct msr_row msr_rows[] = {
    M(MSR_STAR, star), M(MSR_LSTAR, lstar), M(MSR_CSTAR, cstar), M(MSR_SFMASK, sfmask),
    M(MSR_KERNEL_GS_BASE, kernel_gs_base), M(MSR_IA32_SYSENTER_CS, sysenter_cs),
    M(MSR_IA32_SYSENTER_ESP, sysenter_esp), M(MSR_IA32_SYSENTER_EIP, sysenter_eip), M(MSR_IA32_PAT, pat),
    M(MSR_TSC_AUX, tsc_aux), M(MSR_IA32_MISC_ENABLE, misc_enable), M(MSR_IA32_DEBUGCTL, debugctl),
    M(MSR_IA32_SPEC_CTRL, spec_ctrl), M(MSR_IA32_XSS, xss), M(MSR_IA32_MCG_STATUS, mcg_status),
    M(MSR_IA32_PKRS, pkrs), M(MSR_IA32_TSC_ADJUST, tsc_adjust), M(MSR_IA32_TSC, tsc),
    M(MSR_IA32_MTRR_DEF_TYPE, mtrr_def_type),
    FIXED(MSR_IA32_MTRR_FIX64K_00000, 0), FIXED(MSR_IA32_MTRR_FIX16K_80000, 1), FIXED(MSR_IA32_MTRR_FIX16K_A0000, 2),
    FIXED(MSR_IA32_MTRR_FIX4K_C0000, 3), FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 1, 4),
    FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 2, 5), FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 3, 6),
    FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 4, 7), FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 5, 8),
    FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 6, 9), FIXED(MSR_IA32_MTRR_FIX4K_C0000 + 7, 10),
    VARIABLE(0), VARIABLE(1), VARIABLE(2), VARIABLE(3), VARIABLE(4), VARIABLE(5), VARIABLE(6), VARIABLE(7),
    M(MSR_KVM_WALL_CLOCK_NEW, kvm_wall_clock), M(MSR_KVM_SYSTEM_TIME_NEW, kvm_system_time),
    M(MSR_IA32_TSC_DEADLINE, tsc_deadline), /* after the TSC, with which it is compared */
    M(MSR_IA32_MCG_CAP, mcg_cap),           /* only read, never set */
};
_Static_assert(ARRAY_SIZE(msr_rows) <= KVM_MSR_COUNT, "a bit for each row");

struct msr_list { /* struct kvm_msrs with room for its entries */
    u32 nmsrs, pad;
    struct kvm_msr_entry e[KVM_MSR_COUNT];
};
_Static_assert(offsetof(struct msr_list, e) == offsetof(struct kvm_msrs, entries), "the same layout");

static int one_msr(struct engine_vcpu *v, unsigned long rq, u32 msr, u64 *value)
{
    struct msr_list l = { .nmsrs = 1 };
    l.e[0] = (struct kvm_msr_entry){ .index = msr, .data = *value };
    int r = kvm_vm_ioctl(v->fd, rq, &l);
    *value = l.e[0].data;
    return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

void kvm_find_msrs(struct engine_vcpu *v)
{
    for (u32 i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        u64 x = 0;
        if (!one_msr(v, KVM_GET_MSRS, msr_rows[i].msr, &x))
            v->msr_known |= BIT(i);
    }
}

static u64 *msr_field(const struct cpu_state *s, u32 i)
{
    return (u64 *)((uintptr_t)s + msr_rows[i].offset);
}

static int get_msrs(struct engine_vcpu *v, struct cpu_state *s)
{
    struct msr_list l = { .nmsrs = 0 };
    for (u32 i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        if (v->msr_known & BIT(i))
            l.e[l.nmsrs++].index = msr_rows[i].msr;
    }
    int r = kvm_vm_ioctl(v->fd, KVM_GET_MSRS, &l);
    if (r != (int)l.nmsrs)
        return r < 0 ? r : -EIO;
    u32 n = 0;
    for (u32 i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        if (v->msr_known & BIT(i))
            *msr_field(s, i) = l.e[n++].data;
    }
    return 0;
}

static int set_msrs(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct msr_list l = { .nmsrs = 0 };
    for (u32 i = 0; i < ARRAY_SIZE(msr_rows); i++) {
        u64 x = *msr_field(s, i);
        if ((v->msr_known & BIT(i)) && msr_rows[i].msr != MSR_IA32_MCG_CAP)
            l.e[l.nmsrs++] = (struct kvm_msr_entry){ .index = msr_rows[i].msr, .data = x };
    }
    /* KVM stops at the first MSR that it refuses. If that MSR has the wanted value already, nothing is lost. */
    for (u32 at = 0; at < l.nmsrs;) {
        struct msr_list part = { .nmsrs = l.nmsrs - at };
        memcpy(part.e, l.e + at, part.nmsrs * sizeof(part.e[0]));
        int r = kvm_vm_ioctl(v->fd, KVM_SET_MSRS, &part);
        if (r < 0)
            return r;
        at += (u32)r;
        if (at < l.nmsrs) {
            u64 now = 0;
            u32 msr = l.e[at].index;
            if (one_msr(v, KVM_GET_MSRS, msr, &now) < 0 || now != l.e[at].data) {
                /* IA32_MISC_ENABLE is Intel's. If KVM refuses its bits, they have no meaning here. */
                if (msr != MSR_IA32_MISC_ENABLE) {
                    log_error("KVM refuses the value %llx of MSR %x", (unsigned long long)l.e[at].data, msr);
                    return -EINVAL;
                }
            }
            at++;
        }
    }
    return 0;
}

int kvm_set_tsc_deadline(struct engine_vcpu *v, u64 deadline)
{
    u64 x = deadline;
    if (!deadline)
        return 0;
    return one_msr(v, KVM_SET_MSRS, MSR_IA32_TSC_DEADLINE, &x);
}

/* ---- segments ----------------------------------------------------------- */

static void seg_get(struct cpu_seg *d, const struct kvm_segment *s)
{
    d->selector = s->selector;
    d->base = s->base;
    d->limit = s->limit;
    d->attr = (u16)(s->type | s->s << 4 | s->dpl << 5 | s->present << 7 | s->avl << 12 | s->l << 13 | s->db << 14 |
                    s->g << 15);
    if (s->unusable)
        d->attr |= SEG_UNUSABLE;
}

static struct kvm_segment seg_put(const struct cpu_seg *s)
{
    return (struct kvm_segment){
        .base = s->base, .limit = s->limit, .selector = s->selector, .type = s->attr & 15, .s = s->attr >> 4 & 1,
        .dpl = s->attr >> 5 & 3, .present = s->attr >> 7 & 1, .avl = s->attr >> 12 & 1, .l = s->attr >> 13 & 1,
        .db = s->attr >> 14 & 1, .g = s->attr >> 15 & 1,
        .unusable = (s->attr & SEG_UNUSABLE) || !(s->attr & SEG_P),
    };
}

/* ---- special registers -------------------------------------------------- */


static int get_sregs(struct engine_vcpu *v, struct cpu_state *s)
{
    struct kvm_sregs k;
    int r = kvm_vm_ioctl(v->fd, KVM_GET_SREGS, &k);
    if (r < 0)
        return r;
    seg_get(&s->seg[ES], &k.es);
    seg_get(&s->seg[CS], &k.cs);
    seg_get(&s->seg[SS], &k.ss);
    seg_get(&s->seg[DS], &k.ds);
    seg_get(&s->seg[FS], &k.fs);
    seg_get(&s->seg[GS], &k.gs);
    seg_get(&s->tr, &k.tr);
    seg_get(&s->ldtr, &k.ldt);
    s->gdtr = (struct cpu_table){ k.gdt.base, k.gdt.limit };
    s->idtr = (struct cpu_table){ k.idt.base, k.idt.limit };
    s->cr0 = k.cr0;
    s->cr2 = k.cr2;
    s->cr3 = k.cr3;
    s->cr4 = k.cr4;
    s->cr8 = k.cr8;
    s->efer = k.efer;
    s->apic_base = k.apic_base;
    return 0;
}

/* KVM_SET_SREGS2 takes the PAE PDPTEs, which our state does not have. They must be read again from where CR3 points, as a
   load of CR3 does it. The older call does so. */
static int set_sregs(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct kvm_sregs k = { .es = seg_put(&s->seg[ES]), .cs = seg_put(&s->seg[CS]), .ss = seg_put(&s->seg[SS]),
                           .ds = seg_put(&s->seg[DS]), .fs = seg_put(&s->seg[FS]), .gs = seg_put(&s->seg[GS]),
                           .tr = seg_put(&s->tr), .ldt = seg_put(&s->ldtr) };
    k.gdt.base = s->gdtr.base;
    k.gdt.limit = (u16)s->gdtr.limit;
    k.idt.base = s->idtr.base;
    k.idt.limit = (u16)s->idtr.limit;
    k.cr0 = s->cr0;
    k.cr2 = s->cr2;
    k.cr3 = s->cr3;
    k.cr4 = s->cr4;
    k.cr8 = s->cr8;
    k.efer = s->efer;
    k.apic_base = s->apic_base;
    return kvm_vm_ioctl(v->fd, KVM_SET_SREGS, &k);
}

/* ---- events ------------------------------------------------------------- */

static int get_events(struct engine_vcpu *v, struct cpu_state *s)
{
    struct kvm_vcpu_events e = { 0 };
    struct kvm_mp_state m = { 0 };
    int r = kvm_vm_ioctl(v->fd, KVM_GET_MP_STATE, &m); /* comes first, since KVM then carries out a pending INIT or SIPI */
    if (r >= 0)
        r = kvm_vm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e);
    if (r < 0)
        return r;
    s->activity = m.mp_state == KVM_MP_STATE_HALTED ? CPU_HALTED :
                  m.mp_state == KVM_MP_STATE_INIT_RECEIVED || m.mp_state == KVM_MP_STATE_UNINITIALIZED ? CPU_WAIT_SIPI :
                  v->shutdown ? CPU_SHUTDOWN : CPU_RUNNING;
    s->sipi_pending = m.mp_state == KVM_MP_STATE_SIPI_RECEIVED;
    s->sipi_vector = s->sipi_pending ? (u8)e.sipi_vector : 0;
    if (s->sipi_pending)
        s->activity = CPU_WAIT_SIPI;
    s->sti_shadow = e.interrupt.shadow & KVM_X86_SHADOW_INT_STI;
    s->movss_shadow = !s->sti_shadow && (e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS);
    s->nmi_masked = e.nmi.masked;
    s->nmi_pending = e.nmi.pending || e.nmi.injected;
    s->exception_pending = e.exception.injected;
    s->exception_vector = s->exception_pending ? e.exception.nr : 0;
    s->exception_has_error = s->exception_pending && e.exception.has_error_code;
    s->exception_error = s->exception_has_error ? e.exception.error_code : 0;
    s->interrupt_injected = e.interrupt.injected;
    s->interrupt_vector = s->interrupt_injected ? e.interrupt.nr : 0;
    s->interrupt_soft = s->interrupt_injected && e.interrupt.soft;
    return 0;
}

static int set_events(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct kvm_vcpu_events e = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };
    struct kvm_mp_state m = { .mp_state = KVM_MP_STATE_RUNNABLE };

    e.exception.injected = s->exception_pending;
    e.exception.nr = s->exception_vector;
    e.exception.has_error_code = s->exception_has_error;
    e.exception.error_code = s->exception_error;
    e.interrupt.injected = s->interrupt_injected;
    e.interrupt.nr = s->interrupt_vector;
    e.interrupt.soft = s->interrupt_soft;
    e.interrupt.shadow = (s->sti_shadow ? KVM_X86_SHADOW_INT_STI : 0) | (s->movss_shadow ? KVM_X86_SHADOW_INT_MOV_SS : 0);
    e.nmi.pending = s->nmi_pending;
    e.nmi.masked = s->nmi_masked;
    if (s->activity == CPU_WAIT_SIPI && s->sipi_pending) {
        e.flags |= KVM_VCPUEVENT_VALID_SIPI_VECTOR;
        e.sipi_vector = s->sipi_vector;
        m.mp_state = KVM_MP_STATE_SIPI_RECEIVED;
    } else if (s->activity == CPU_WAIT_SIPI) {
        m.mp_state = KVM_MP_STATE_INIT_RECEIVED;
    } else if (s->activity == CPU_HALTED) {
        m.mp_state = KVM_MP_STATE_HALTED;
    }
    int r = kvm_vm_ioctl(v->fd, KVM_SET_MP_STATE, &m);
    if (r >= 0)
        r = kvm_vm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e);
    v->shutdown = s->activity == CPU_SHUTDOWN;
    return r;
}

/* ---- the rest ----------------------------------------------------------- */

static const u8 kvm_gpr[16] = { /* struct kvm_regs has rax rbx rcx rdx rsi rdi rsp rbp r8.. */
    [RAX] = 0, [RBX] = 1, [RCX] = 2, [RDX] = 3, [RSI] = 4, [RDI] = 5, [RSP] = 6, [RBP] = 7,
    [R8] = 8, [R9] = 9, [R10] = 10, [R11] = 11, [R12] = 12, [R13] = 13, [R14] = 14, [R15] = 15,
};

static int get_regs(struct engine_vcpu *v, struct cpu_state *s)
{
    struct kvm_regs k;
    u64 g[16];
    int r = kvm_vm_ioctl(v->fd, KVM_GET_REGS, &k);
    if (r < 0)
        return r;
    memcpy(g, &k, sizeof(g));
    for (int i = 0; i < 16; i++)
        s->gpr[i] = g[kvm_gpr[i]];
    s->rip = k.rip;
    s->rflags = k.rflags;
    return 0;
}

static int set_regs(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct kvm_regs k = { .rip = s->rip, .rflags = s->rflags };
    u64 g[16];
    for (int i = 0; i < 16; i++)
        g[kvm_gpr[i]] = s->gpr[i];
    memcpy(&k, g, sizeof(g));
    return kvm_vm_ioctl(v->fd, KVM_SET_REGS, &k);
}

enum { XSAVE_SW_BYTES = 464, XSAVE_HEADER = 512 };

static int get_fpu(struct engine_vcpu *v, struct cpu_state *s)
{
    struct kvm_xsave *k = aligned_alloc(64, sizeof(*k));
    struct kvm_xcrs x = { 0 };
    if (!k)
        return -ENOMEM;
    memset(k, 0, sizeof(*k));
    int r = kvm_vm_ioctl(v->fd, KVM_GET_XSAVE, k);
    _Static_assert(sizeof(k->region) == CPU_XSAVE_SIZE, "KVM's area is as large as ours");
    memcpy(s->xsave, k->region, CPU_XSAVE_SIZE);
    free(k);
    memset(s->xsave + XSAVE_SW_BYTES, 0, XSAVE_HEADER - XSAVE_SW_BYTES); /* the host kernel's notes, and no state */
    if (r >= 0)
        r = kvm_vm_ioctl(v->fd, KVM_GET_XCRS, &x);
    if (r < 0)
        return r;
    s->xcr0 = 1;
    for (u32 i = 0; i < x.nr_xcrs && i < KVM_MAX_XCRS; i++) {
        if (x.xcrs[i].xcr == 0)
            s->xcr0 = x.xcrs[i].value;
    }
    return 0;
}

static int set_fpu(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct kvm_xsave *k = aligned_alloc(64, sizeof(*k));
    struct kvm_xcrs x = { .nr_xcrs = 1 };
    if (!k)
        return -ENOMEM;
    memset(k, 0, sizeof(*k));
    memcpy(k->region, s->xsave, CPU_XSAVE_SIZE);
    x.xcrs[0].value = s->xcr0;
    int r = kvm_vm_ioctl(v->fd, KVM_SET_XSAVE, k);
    free(k);
    if (r >= 0)
        r = kvm_vm_ioctl(v->fd, KVM_SET_XCRS, &x);
    if (r == -EINVAL && s->xcr0 == 1) /* this guest has no XSAVE, so it has no XCR0 either */
        r = 0;
    return r;
}

static int get_debug(struct engine_vcpu *v, struct cpu_state *s)
{
    struct kvm_debugregs k;
    int r = kvm_vm_ioctl(v->fd, KVM_GET_DEBUGREGS, &k);
    if (r < 0)
        return r;
    for (int i = 0; i < 4; i++)
        s->dr[i] = k.db[i];
    s->dr6 = k.dr6;
    s->dr7 = k.dr7;
    return 0;
}

static int set_debug(struct engine_vcpu *v, const struct cpu_state *s)
{
    struct kvm_debugregs k = { .dr6 = s->dr6, .dr7 = s->dr7 };
    for (int i = 0; i < 4; i++)
        k.db[i] = s->dr[i];
    return kvm_vm_ioctl(v->fd, KVM_SET_DEBUGREGS, &k);
}

int kvm_get_state(struct engine_vcpu *v, struct cpu_state *s)
{
    memset(s, 0, sizeof(*s));
    int r = kvm_do_requests(v); /* an NMI that came while the vCPU does not run belongs to its state */
    if (r >= 0)
        r = get_events(v, s);
    if (r >= 0)
        r = get_regs(v, s);
    if (r >= 0)
        r = get_sregs(v, s);
    if (r >= 0)
        r = get_fpu(v, s);
    if (r >= 0)
        r = get_debug(v, s);
    if (r >= 0)
        r = get_msrs(v, s);
    return r < 0 ? r : 0;
}

int kvm_put_state(struct engine_vcpu *v, const struct cpu_state *s)
{
    static const struct {
        int (*set)(struct engine_vcpu *v, const struct cpu_state *s);
        const char *what;
    } step[] = {
        { set_sregs, "special registers" }, { set_regs, "general registers" }, { set_fpu, "x87 and vector registers" },
        { set_msrs, "MSRs" }, { set_events, "pending events" }, { set_debug, "debug registers" },
    };
    v->tsc_deadline = s->tsc_deadline;
    for (u32 i = 0; i < ARRAY_SIZE(step); i++) {
        int r = step[i].set(v, s);
        if (r < 0) {
            log_error("KVM does not take the %s of CPU %u: %s", step[i].what, v->id, strerror(-r));
            return r;
        }
    }
    return 0;
}

int kvm_set_state(struct engine_vcpu *v, const struct cpu_state *s)
{
    __atomic_store_n(&v->request, 0, __ATOMIC_SEQ_CST); /* requests were meant for the state that is replaced here */
    return kvm_put_state(v, s);
}
