/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic_regs.c - register access to the local APICs: the xAPIC page (SDM vol. 3 table 11-1), the x2APIC MSRs (table
 * 11-6), APIC_BASE (11.4.4, 11.12.5), CR8.
 *
 * Both ways of access share read_reg and write_reg. The x2APIC way first refuses accesses that raise #GP.
 */
#include "cpu/msr.h"
#include "irq/lapic_private.h"

enum { REG_READ = 1, REG_WRITE = 2 };

/* The accesses that a register allows, and the bits that a write may set in x2APIC mode (read-only status bits
   included). */
struct reg_rule {
    u8 xapic, x2apic;
    u32 writable;
};
static struct reg_rule rule(u32 r)
{
    enum { RO = REG_READ, WO = REG_WRITE, RW = REG_READ | REG_WRITE };
    const u32 lvt = 0xff | LVT_PENDING | LVT_MASKED;
    const u32 lint = lvt | LVT_DELIVERY | LVT_POLARITY | LVT_REMOTE_IRR | LVT_LEVEL;

    switch (r) {
    case R_ID: return (struct reg_rule){ RW, RO, 0 };
    case R_VERSION: return (struct reg_rule){ RO, RO, 0 };
    case R_TPR: return (struct reg_rule){ RW, RW, 0xff };
    case R_APR: return (struct reg_rule){ RO, 0, 0 };
    case R_PPR: return (struct reg_rule){ RO, RO, 0 };
    case R_EOI: return (struct reg_rule){ RW, WO, 0 };
    case R_RRD: return (struct reg_rule){ RO, 0, 0 };
    case R_LDR: return (struct reg_rule){ RW, RO, 0 };
    case R_DFR: return (struct reg_rule){ RW, 0, 0 };
    case R_SVR: return (struct reg_rule){ RW, RW, 0xff | SVR_ENABLE | SVR_FOCUS };
    case R_ESR: return (struct reg_rule){ RW, RW, 0 };
    /* Bits 12 (delivery status) and 14-15 do no harm; 13, 16, 17, 20-31 are reserved. */
    case R_ICR: return (struct reg_rule){ RW, RW, 0xcdfff };
    case R_ICR2: return (struct reg_rule){ RW, 0, 0 };
    case R_LVT_TIMER: return (struct reg_rule){ RW, RW, lvt | LVT_TIMER_MODE };
    case R_LVT_THERMAL:
    case R_LVT_PMC: return (struct reg_rule){ RW, RW, lvt | LVT_DELIVERY };
    case R_LVT_LINT0:
    case R_LVT_LINT1: return (struct reg_rule){ RW, RW, lint };
    case R_LVT_ERROR: return (struct reg_rule){ RW, RW, lvt };
    case R_TIMER_INIT: return (struct reg_rule){ RW, RW, 0xffffffff };
    case R_TIMER_CURRENT: return (struct reg_rule){ RO, RO, 0 };
    case R_TIMER_DIVIDE: return (struct reg_rule){ RW, RW, 0xb };
    case R_SELF_IPI: return (struct reg_rule){ 0, WO, 0xff };
    default:
        if (r >= R_ISR && r < R_ESR) /* ISR, TMR, IRR */
            return (struct reg_rule){ RO, RO, 0 };
        return (struct reg_rule){ 0, 0, 0 };
    }
}

static u32 read_reg(struct lapic *l, u32 r)
{
    u32 *reg = l->s.chip.reg;

    switch (r) {
    case R_ID:
        return l->mode == MODE_X2APIC ? l->vcpu : reg[R_ID];
    case R_LDR:
        return l->mode == MODE_X2APIC ? l->ldr : reg[R_LDR];
    case R_APR:
        return reg[R_PPR];
    case R_EOI:
    case R_RRD:
        return 0;
    case R_TIMER_CURRENT:
        return lapic_timer_current(l);
    default:
        return reg[r];
    }
}

/* Read-only bits keep their values. While the APIC is software-disabled, no entry can be unmasked (SDM 11.4.7.2). */
static u32 lvt_value(const struct lapic *l, u32 r, u32 value)
{
    const u32 status = LVT_PENDING | LVT_REMOTE_IRR;

    value = (value & rule(r).writable & ~status) | (l->s.chip.reg[r] & status);
    /* Remote IRR has a meaning only for a level-triggered fixed interrupt. */
    if (!(value & LVT_LEVEL) || (value & LVT_DELIVERY))
        value &= ~(u32)LVT_REMOTE_IRR;
    return software_enabled(l) ? value : value | LVT_MASKED;
}

static void write_svr(struct lapic *l, u32 value)
{
    u32 *reg = l->s.chip.reg;

    reg[R_SVR] = value & (0xff | SVR_ENABLE | SVR_FOCUS);
    if (value & SVR_ENABLE)
        return;
    for (u32 r = R_LVT_TIMER; r <= R_LVT_ERROR; r++)
        reg[r] |= LVT_MASKED;
}

static void write_reg(struct lapic *l, u32 r, u32 value)
{
    u32 *reg = l->s.chip.reg;

    switch (r) {
    case R_ID:
        reg[R_ID] = value & 0xff000000;
        lapic_publish(l);
        break;
    case R_TPR:
        reg[R_TPR] = value & 0xff;
        break;
    case R_EOI:
        lapic_end_of_interrupt(l);
        break;
    case R_LDR:
        reg[R_LDR] = value & 0xff000000;
        lapic_publish(l);
        break;
    case R_DFR:
        reg[R_DFR] = value | 0x0fffffff;
        lapic_publish(l);
        break;
    case R_SVR:
        write_svr(l, value);
        break;
    case R_ESR: /* SDM 11.5.3: the write makes the errors visible that were logged since the last write */
        reg[R_ESR] = l->s.esr_pending;
        l->s.esr_pending = 0;
        break;
    case R_ICR: /* delivery is immediate, so it is never pending */
        reg[R_ICR] = value & rule(R_ICR).writable & ~(u32)ICR_PENDING;
        lapic_send(l, value, l->mode == MODE_X2APIC ? reg[R_ICR2] : reg[R_ICR2] >> 24);
        break;
    case R_ICR2:
        reg[R_ICR2] = value & 0xff000000;
        break;
    case R_LVT_TIMER:
        value = lvt_value(l, r, value);
        if (!l->set->c.tsc_deadline)
            value &= ~(u32)LVT_TIMER_DEADLINE;
        lapic_timer_lvt(l, value);
        break;
    case R_LVT_LINT0:
        reg[r] = lvt_value(l, r, value);
        lapic_lint0_check(l);
        break;
    case R_LVT_THERMAL:
    case R_LVT_PMC:
    case R_LVT_LINT1:
    case R_LVT_ERROR:
        reg[r] = lvt_value(l, r, value);
        break;
    case R_TIMER_INIT:
        lapic_timer_init_count(l, value);
        break;
    case R_TIMER_DIVIDE:
        lapic_timer_divide(l, value);
        break;
    case R_SELF_IPI:
        lapic_send(l, (value & 0xff) | ICR_TO_SELF, 0);
        break;
    default:
        break;
    }
    lapic_update(l);
}

/* ---- the xAPIC page ---- */

/* SDM 11.4.1: registers have 32 bits on 128-bit boundaries. Narrower reads within one register are allowed here, as
   on KVM. */
u64 lapic_mmio_read(struct lapic_set *set, u32 vcpu, u32 offset, unsigned size)
{
    u32 r = (offset & 0xfff) >> 4, byte = offset & 0xf;
    struct lapic *l;
    u64 value = 0;

    if (vcpu >= set->c.cpus)
        return UINT64_MAX;
    l = &set->apic[vcpu];
    lapic_lock(l);
    if (l->mode != MODE_XAPIC) {
        value = UINT64_MAX;
    } else if (r >= 64 || !(rule(r).xapic & REG_READ)) {
        lapic_error(l, ESR_REGISTER);
    } else if (byte + size <= 4) {
        value = read_reg(l, r) >> (byte * 8);
    } else if (byte == 0) {
        value = read_reg(l, r); /* the access is wider: the rest is undefined */
    }
    lapic_unlock(l);
    return size < 8 ? value & (BIT(size * 8) - 1) : value;
}

void lapic_mmio_write(struct lapic_set *set, u32 vcpu, u32 offset, unsigned size, u64 value)
{
    u32 r = (offset & 0xfff) >> 4;
    struct lapic *l;

    if (vcpu >= set->c.cpus || (offset & 0xf) || size < 4)
        return;
    l = &set->apic[vcpu];
    lapic_lock(l);
    if (l->mode == MODE_XAPIC) {
        if (r < 64 && (rule(r).xapic & REG_WRITE))
            write_reg(l, r, (u32)value);
        else if (r >= 64 || !rule(r).xapic)
            lapic_error(l, ESR_REGISTER);
    }
    lapic_unlock(l);
}

/* ---- MSRs ---- */

bool lapic_owns_msr(u32 msr)
{
    return msr == MSR_IA32_APIC_BASE || msr == MSR_IA32_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static int x2apic_read(struct lapic *l, u32 r, u64 *value)
{
    if (l->mode != MODE_X2APIC || r >= 64 || !(rule(r).x2apic & REG_READ))
        return -1;
    *value = read_reg(l, r);
    if (r == R_ICR)
        *value |= (u64)l->s.chip.reg[R_ICR2] << 32;
    return 0;
}

static int x2apic_write(struct lapic *l, u32 r, u64 value)
{
    u32 allowed;

    if (l->mode != MODE_X2APIC || r >= 64 || !(rule(r).x2apic & REG_WRITE))
        return -1;
    if (r != R_ICR && value >> 32)
        return -1;
    allowed = rule(r).writable;
    if (r == R_LVT_TIMER && !l->set->c.tsc_deadline)
        allowed &= ~(u32)LVT_TIMER_DEADLINE;
    if ((u32)value & ~allowed)
        return -1;
    if (r == R_ICR)
        l->s.chip.reg[R_ICR2] = (u32)(value >> 32);
    write_reg(l, r, (u32)value);
    return 0;
}

/* SDM 11.12.5 and figure 11-27: the allowed changes between disabled, xAPIC and x2APIC. */
static int write_apic_base(struct lapic *l, u64 value)
{
    const struct lapic_config *c = &l->set->c;
    u64 reserved = 0x2ff | ~(BIT(c->phys_bits) - 1) | (c->x2apic ? 0 : APIC_BASE_EXTD);
    enum lapic_mode was = mode_of(l->s.apic_base), now = mode_of(value);

    if ((value & reserved) || ((value & APIC_BASE_EXTD) && now == MODE_OFF))
        return -1;
    if ((was == MODE_X2APIC && now == MODE_XAPIC) || (was == MODE_OFF && now == MODE_X2APIC))
        return -1;
    __atomic_store_n(&l->s.apic_base, value, __ATOMIC_RELAXED);
    if (now == MODE_OFF && was != MODE_OFF) {
        lapic_reset_one(l, LAPIC_DISABLED);
        return 0;
    }
    if (now == MODE_X2APIC && was == MODE_XAPIC) {
        l->s.chip.reg[R_ID] = l->vcpu << 24;
        l->s.chip.reg[R_ICR2] = 0;
    }
    lapic_publish(l);
    lapic_update(l);
    return 0;
}

int lapic_msr_read(struct lapic_set *set, u32 vcpu, u32 msr, u64 *value)
{
    struct lapic *l;
    int r = -1;

    if (vcpu >= set->c.cpus)
        return -1;
    l = &set->apic[vcpu];
    lapic_lock(l);
    if (msr == MSR_IA32_APIC_BASE) {
        *value = l->s.apic_base;
        r = 0;
    } else if (msr == MSR_IA32_TSC_DEADLINE) {
        if (set->c.tsc_deadline) {
            lapic_timer_sync(l);
            *value = l->s.tsc_deadline;
            r = 0;
        }
    } else if (lapic_owns_msr(msr)) {
        r = x2apic_read(l, msr - MSR_X2APIC_FIRST, value);
    }
    lapic_unlock(l);
    return r;
}

int lapic_msr_write(struct lapic_set *set, u32 vcpu, u32 msr, u64 value)
{
    struct lapic *l;
    int r = -1;

    if (vcpu >= set->c.cpus)
        return -1;
    l = &set->apic[vcpu];
    lapic_lock(l);
    if (msr == MSR_IA32_APIC_BASE) {
        r = write_apic_base(l, value);
    } else if (msr == MSR_IA32_TSC_DEADLINE) {
        if (set->c.tsc_deadline) {
            lapic_timer_deadline(l, value);
            r = 0;
        }
    } else if (lapic_owns_msr(msr)) {
        r = x2apic_write(l, msr - MSR_X2APIC_FIRST, value);
    }
    lapic_unlock(l);
    return r;
}

/* ---- CR8: TPR bits 7-4 (SDM 11.8.6) ---- */

u8 lapic_cr8_read(struct lapic_set *set, u32 vcpu)
{
    return vcpu < set->c.cpus ? (u8)(__atomic_load_n(&set->apic[vcpu].s.chip.reg[R_TPR], __ATOMIC_RELAXED) >> 4) : 0;
}

void lapic_cr8_write(struct lapic_set *set, u32 vcpu, u8 value)
{
    if (vcpu >= set->c.cpus)
        return;
    lapic_lock(&set->apic[vcpu]);
    set->apic[vcpu].s.chip.reg[R_TPR] = (u32)(value & 0xf) << 4;
    lapic_update(&set->apic[vcpu]);
    lapic_unlock(&set->apic[vcpu]);
}
