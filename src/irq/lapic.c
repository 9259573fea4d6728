/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic.c - the core of the local APICs: acceptance, priorities, the INTR pin, message routing, local pins, reset. See
 * lapic.h.
 */
#include "irq/lapic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "irq/lapic_private.h"

/* ---- 256-bit registers ---- */

static int highest_bit(const u32 *words)
{
    for (int i = 7; i >= 0; i--)
        if (words[i])
            return i * 32 + 31 - __builtin_clz(words[i]);
    return -1;
}
static bool test_bit(const u32 *words, u8 v) { return words[v >> 5] >> (v & 31) & 1; }
static void set_bit(u32 *words, u8 v) { words[v >> 5] |= 1u << (v & 31); }
static void clear_bit(u32 *words, u8 v) { words[v >> 5] &= ~(1u << (v & 31)); }

/* ---- locking ---- */

void lapic_lock(struct lapic *l)
{
    pthread_mutex_lock(&l->lock);
}

void lapic_unlock(struct lapic *l)
{
    const struct lapic_config *c = &l->set->c;
    bool nmi = l->nmi_wanted, init = l->init_wanted;

    l->nmi_wanted = l->init_wanted = false;
    pthread_mutex_unlock(&l->lock);
    if (unlikely(nmi))
        c->ops->nmi(c->ctx, l->vcpu);
    if (unlikely(init))
        c->ops->init(c->ctx, l->vcpu);
}

/* ---- priorities and the INTR pin ---- */

/* Does the processor see the 8259A through this APIC? SDM 11.5.1; a disabled APIC is transparent (11.4.3). */
static bool extint_requested(const struct lapic *l)
{
    u32 lvt = l->s.chip.reg[R_LVT_LINT0];

    if (l->mode == MODE_OFF)
        return l->s.lint0;
    if (l->s.extint)
        return true;
    return l->s.lint0 && (lvt & (LVT_DELIVERY | LVT_MASKED)) == DELIVER_EXTINT << 8;
}

void lapic_update(struct lapic *l)
{
    u32 *reg = l->s.chip.reg;
    int isr = highest_bit(&reg[R_ISR]), irr;
    u32 tpr = reg[R_TPR] & 0xff, isrv = isr < 0 ? 0 : (u32)isr;
    bool intr;

    /* SDM 11.8.3.1: PPR is TPR if TPR's class is at least that of ISRV, else it is ISRV's class. */
    reg[R_PPR] = tpr >> 4 >= isrv >> 4 ? tpr : isrv & 0xf0;
    intr = extint_requested(l);
    if (!intr && l->mode != MODE_OFF) {
        irr = highest_bit(&reg[R_IRR]);
        intr = irr >= 0 && (u32)irr >> 4 > reg[R_PPR] >> 4;
    }
    if (intr != l->intr) {
        __atomic_store_n(&l->intr, intr, __ATOMIC_RELAXED);
        l->set->c.ops->intr(l->set->c.ctx, l->vcpu, intr);
    }
}

bool lapic_pending(const struct lapic_set *set, u32 vcpu)
{
    return vcpu < set->c.cpus && __atomic_load_n(&set->apic[vcpu].intr, __ATOMIC_RELAXED);
}

void lapic_error(struct lapic *l, u32 bits)
{
    u32 lvt = l->s.chip.reg[R_LVT_ERROR];

    /* SDM 11.5.3: there is an error interrupt each time a new bit is set in the pending errors. */
    if (!(bits & ~l->s.esr_pending))
        return;
    l->s.esr_pending |= bits;
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        lapic_accept(l, (u8)lvt, false);
}

void lapic_accept(struct lapic *l, u8 vector, bool level)
{
    u32 *reg = l->s.chip.reg;

    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    set_bit(&reg[R_IRR], vector);
    if (level)
        set_bit(&reg[R_TMR], vector);
    else
        clear_bit(&reg[R_TMR], vector);
    lapic_update(l);
}

int lapic_ack(struct lapic_set *set, u32 vcpu)
{
    struct lapic *l;
    u32 *reg;
    int vector = -1;

    if (vcpu >= set->c.cpus)
        return -1;
    l = &set->apic[vcpu];
    reg = l->s.chip.reg;
    lapic_lock(l);
    if (extint_requested(l)) {
        l->s.extint = false;
        lapic_unlock(l); /* in the lock order the 8259A comes before this APIC */
        vector = set->c.ops->extint_ack(set->c.ctx);
        lapic_lock(l);
    } else if (l->mode != MODE_OFF) {
        vector = highest_bit(&reg[R_IRR]);
        if (vector >= 0 && (u32)vector >> 4 > reg[R_PPR] >> 4) {
            clear_bit(&reg[R_IRR], (u8)vector);
            set_bit(&reg[R_ISR], (u8)vector);
        } else {
            vector = -1;
        }
    }
    lapic_update(l);
    lapic_unlock(l);
    return vector;
}

/* The EOI register was written. It is called with the lock held and returns with it held; it drops the lock to
   broadcast. */
void lapic_end_of_interrupt(struct lapic *l)
{
    u32 *reg = l->s.chip.reg;
    int vector = highest_bit(&reg[R_ISR]);
    u32 lint0 = reg[R_LVT_LINT0];
    bool level;

    if (vector < 0)
        return;
    clear_bit(&reg[R_ISR], (u8)vector);
    level = test_bit(&reg[R_TMR], (u8)vector);
    if (level && (lint0 & LVT_REMOTE_IRR) && (lint0 & 0xff) == (u32)vector) {
        reg[R_LVT_LINT0] &= ~(u32)LVT_REMOTE_IRR;
        lapic_lint0_check(l);
    }
    lapic_update(l);
    if (level) {
        lapic_unlock(l);
        l->set->c.ops->eoi(l->set->c.ctx, (u8)vector);
        lapic_lock(l);
    }
}

/* ---- local interrupts ---- */

void lapic_local(struct lapic *l, unsigned entry)
{
    u32 lvt = l->s.chip.reg[entry];

    if (lvt & LVT_MASKED)
        return;
    if (entry == R_LVT_TIMER || entry == R_LVT_ERROR) { /* they have no delivery mode field */
        lapic_accept(l, (u8)lvt, false);
        return;
    }
    switch (lvt >> 8 & 7) {
    case DELIVER_FIXED:
        lapic_accept(l, (u8)lvt, entry == R_LVT_LINT0 && (lvt & LVT_LEVEL));
        break;
    case DELIVER_NMI:
        l->nmi_wanted = true;
        break;
    case DELIVER_INIT:
        lapic_reset_one(l, LAPIC_INIT);
        l->init_wanted = true;
        break;
    default: /* ExtINT is a level, not an event; there is no SMI here */
        break;
    }
}

void lapic_lint0_check(struct lapic *l)
{
    u32 *lvt = &l->s.chip.reg[R_LVT_LINT0];

    if (l->s.lint0 && (*lvt & LVT_LEVEL) && !(*lvt & (LVT_REMOTE_IRR | LVT_MASKED | LVT_DELIVERY))) {
        *lvt |= LVT_REMOTE_IRR;
        lapic_local(l, R_LVT_LINT0);
    }
}

void lapic_lint0(struct lapic_set *set, bool level)
{
    for (u32 i = 0; i < set->c.cpus; i++) {
        struct lapic *l = &set->apic[i];
        bool rose;

        lapic_lock(l);
        rose = level && !l->s.lint0;
        l->s.lint0 = level;
        if (l->mode != MODE_OFF) {
            if (l->s.chip.reg[R_LVT_LINT0] & LVT_LEVEL)
                lapic_lint0_check(l);
            else if (rose)
                lapic_local(l, R_LVT_LINT0);
        }
        lapic_update(l);
        lapic_unlock(l);
    }
}

void lapic_lint1(struct lapic_set *set, bool level)
{
    for (u32 i = 0; i < set->c.cpus; i++) {
        struct lapic *l = &set->apic[i];
        bool rose;

        lapic_lock(l);
        rose = level && !l->s.lint1;
        l->s.lint1 = level;
        if (rose && l->mode != MODE_OFF)
            lapic_local(l, R_LVT_LINT1);
        else if (rose && i == 0) /* a disabled APIC's LINT1 is the processor's NMI pin */
            l->nmi_wanted = true;
        lapic_unlock(l);
    }
}

/* ---- messages ---- */

void lapic_publish(struct lapic *l)
{
    const u32 *reg = l->s.chip.reg;
    enum lapic_mode mode = mode_of(l->s.apic_base);
    bool x2 = mode == MODE_X2APIC;
    u64 page = mode == MODE_XAPIC ? l->s.apic_base & ~0xfffull : ~0ull;

    __atomic_store_n(&l->mode, (u8)mode, __ATOMIC_RELAXED);
    __atomic_store_n(&l->page, page, __ATOMIC_RELAXED);
    __atomic_store_n(&l->id, x2 ? l->vcpu : reg[R_ID] >> 24, __ATOMIC_RELAXED);
    /* SDM 11.12.10.2: the logical x2APIC ID is derived from the ID. */
    __atomic_store_n(&l->ldr, x2 ? (l->vcpu >> 4) << 16 | 1u << (l->vcpu & 15) : reg[R_LDR] >> 24, __ATOMIC_RELAXED);
    __atomic_store_n(&l->cluster, !x2 && reg[R_DFR] >> 28 != 0xf, __ATOMIC_RELAXED);
}

/* SDM 11.6.2. It reads without the lock. An APIC that is being reprogrammed matches either as before or as after the
   change. */
static bool matches(const struct lapic *l, const struct lapic_message *m)
{
    enum lapic_mode mode = __atomic_load_n(&l->mode, __ATOMIC_RELAXED);
    u32 dest = m->dest, ldr;

    if (mode == MODE_OFF)
        return false;
    if (dest == (m->wide ? 0xffffffff : 0xff))
        return true;
    if (!m->logical)
        return dest == __atomic_load_n(&l->id, __ATOMIC_RELAXED);
    ldr = __atomic_load_n(&l->ldr, __ATOMIC_RELAXED);
    if (mode == MODE_X2APIC)
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    if (dest > 0xff)
        return false;
    if (__atomic_load_n(&l->cluster, __ATOMIC_RELAXED))
        return dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
    return dest & ldr;
}

static bool deliver_one(struct lapic *l, const struct lapic_message *m)
{
    bool accepted = true;

    lapic_lock(l);
    if (l->mode == MODE_OFF) {
        accepted = false;
    } else {
        switch (m->mode) {
        case DELIVER_FIXED:
        case DELIVER_LOWEST:
            /* SDM 11.4.7.2: an APIC that is software-disabled answers only INIT, NMI, SMI and SIPI. */
            accepted = software_enabled(l);
            if (accepted)
                lapic_accept(l, m->vector, m->level);
            break;
        case DELIVER_NMI:
            l->nmi_wanted = true;
            break;
        case DELIVER_INIT:
            lapic_reset_one(l, LAPIC_INIT);
            l->init_wanted = true;
            break;
        case DELIVER_EXTINT:
            l->s.extint = true;
            lapic_update(l);
            break;
        case DELIVER_STARTUP:
            lapic_unlock(l);
            l->set->c.ops->sipi(l->set->c.ctx, l->vcpu, m->vector);
            return true;
        default: /* SMI: it does not exist here; also reserved encodings */
            accepted = false;
            break;
        }
    }
    lapic_unlock(l);
    return accepted;
}

static u32 processor_priority(struct lapic *l)
{
    u32 ppr;

    lapic_lock(l);
    ppr = software_enabled(l) ? l->s.chip.reg[R_PPR] : UINT32_MAX;
    lapic_unlock(l);
    return ppr;
}

/* Lowest priority: chooses the matching processor with the least urgent work, but not `not`. Equal processors take
   turns. */
static unsigned deliver_lowest(struct lapic_set *set, const struct lapic_message *m, const struct lapic *not)
{
    u32 n = set->c.cpus, start = __atomic_fetch_add(&set->turn, 1, __ATOMIC_RELAXED) % n, best_priority = UINT32_MAX;
    struct lapic *best = NULL;

    for (u32 i = 0; i < n; i++) {
        struct lapic *l = &set->apic[(start + i) % n];
        u32 p;

        if (l == not || !matches(l, m))
            continue;
        p = processor_priority(l);
        if (p < best_priority) {
            best_priority = p;
            best = l;
        }
    }
    return best ? deliver_one(best, m) : 0;
}

unsigned lapic_deliver(struct lapic_set *set, const struct lapic_message *m)
{
    unsigned accepted = 0;

    if (m->mode == DELIVER_LOWEST)
        return deliver_lowest(set, m, NULL);
    for (u32 i = 0; i < set->c.cpus; i++)
        if (matches(&set->apic[i], m))
            accepted += deliver_one(&set->apic[i], m);
    return accepted;
}

unsigned lapic_msi(struct lapic_set *set, u64 address, u32 data)
{
    struct lapic_message m = {
        .dest = address >> 12 & 0xff,
        .logical = address >> 2 & 1,
        .level = data >> 15 & 1,
        .mode = data >> 8 & 7,
        .vector = (u8)data,
    };

    if ((address & 0xfff00000) != LAPIC_DEFAULT_BASE || m.mode == DELIVER_STARTUP)
        return 0;
    /* Bits 63-40 extend the destination for more than 255 processors, as KVM defined it. */
    if (address >> 40) {
        m.dest |= (u32)(address >> 40) << 8;
        m.wide = true;
    }
    /* SDM 11.11.1: the redirection hint with a logical destination asks for one processor of the set. */
    if ((address >> 3 & 1) && m.logical && m.mode == DELIVER_FIXED)
        m.mode = DELIVER_LOWEST;
    return lapic_deliver(set, &m);
}

/*
 * SDM vol. 3 tables 11-3 and 11-4, APM vol. 2 table 16-4: to itself, alone or with all others, a processor can send
 * only a fixed interrupt. Messages that are not in the tables are not sent. INIT level de-assert only loads arbitration
 * IDs, and an IPI can be neither ExtINT nor reserved.
 */
static bool can_be_sent(u32 low)
{
    u32 mode = low >> 8 & 7, shorthand = low & ICR_SHORTHAND;

    if (mode == DELIVER_EXTINT || mode == 3 /* reserved */)
        return false;
    if (mode == DELIVER_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
        return false;
    return mode == DELIVER_FIXED || shorthand == ICR_TO_DEST || shorthand == ICR_TO_OTHERS;
}

/* The interrupt command register was written: SDM 11.6.1. It is called with the lock held and returns with it held. */
void lapic_send(struct lapic *l, u32 low, u32 dest)
{
    struct lapic_set *set = l->set;
    struct lapic_message m = {
        .dest = dest,
        .wide = l->mode == MODE_X2APIC,
        .logical = low & ICR_LOGICAL,
        .mode = low >> 8 & 7,
        .vector = (u8)low,
    };
    u32 shorthand = low & ICR_SHORTHAND;

    if (!can_be_sent(low))
        return;
    if ((m.mode == DELIVER_FIXED || m.mode == DELIVER_LOWEST) && m.vector < 16) {
        /* SDM 11.5.3: a self IPI also counts as received */
        lapic_error(l, ESR_SEND_VECTOR | (shorthand == ICR_TO_SELF ? ESR_RECEIVE_VECTOR : 0));
        return;
    }
    lapic_unlock(l);
    if (shorthand == ICR_TO_SELF) {
        deliver_one(l, &m);
    } else if (shorthand == ICR_TO_DEST) {
        lapic_deliver(set, &m);
    } else if (m.mode == DELIVER_LOWEST) { /* to all but itself; it "may be redirected back", but here it is not */
        m.dest = m.wide ? 0xffffffff : 0xff;
        deliver_lowest(set, &m, l);
    } else {
        for (u32 i = 0; i < set->c.cpus; i++)
            if (shorthand == ICR_TO_ALL || &set->apic[i] != l)
                deliver_one(&set->apic[i], &m);
    }
    lapic_lock(l);
}

unsigned lapic_send_ipi_mask(struct lapic_set *set, u64 low, u64 high, u32 first, u32 icr)
{
    struct lapic_message m = { .wide = true, .mode = icr >> 8 & 7, .vector = (u8)icr };
    unsigned accepted = 0;

    if (m.mode != DELIVER_NMI && (m.mode != DELIVER_FIXED || m.vector < 16))
        return 0;
    for (u32 i = 0; i < 128; i++)
        if ((i < 64 ? low >> i : high >> (i - 64)) & 1 && !__builtin_add_overflow(first, i, &m.dest))
            accepted += m.dest != UINT32_MAX ? lapic_deliver(set, &m) : 0;
    return accepted;
}

/* ---- reset ---- */

void lapic_reset_one(struct lapic *l, enum lapic_reset_kind kind)
{
    u32 *reg = l->s.chip.reg, id = reg[R_ID], tpr = reg[R_TPR];
    bool bsp = l->vcpu == 0;

    lapic_timer_stop(l);
    memset(reg, 0, sizeof(l->s.chip.reg));
    /* SDM 11.4.7.1, 11.4.7.3: INIT keeps the APIC ID and APIC_BASE. (In x2APIC mode this register is only a copy of
       the ID.) */
    reg[R_ID] = kind == LAPIC_INIT ? id : l->vcpu << 24;
    reg[R_VERSION] = APIC_VERSION;
    reg[R_DFR] = 0xffffffff;
    reg[R_SVR] = 0xff;
    for (unsigned i = R_LVT_TIMER; i <= R_LVT_ERROR; i++)
        reg[i] = LVT_MASKED;
    /* Virtual wire (MP specification 1.4, 3.6.2.2), which is how firmware leaves the boot processor. So no firmware
       needs to run here. */
    if (bsp)
        reg[R_LVT_LINT0] = DELIVER_EXTINT << 8;
    l->s.tsc_deadline = 0;
    l->s.esr_pending = 0;
    l->s.extint = false;
    if (kind == LAPIC_POWER_ON)
        l->s.apic_base = LAPIC_DEFAULT_BASE | APIC_BASE_EN | (bsp ? APIC_BASE_BSP : 0);
    else if (kind == LAPIC_DISABLED)
        reg[R_TPR] = tpr; /* CR8 can still be used without an APIC */
    lapic_publish(l);
    lapic_update(l);
}

static void reset_all(struct lapic_set *set, enum lapic_reset_kind kind)
{
    for (u32 i = 0; i < set->c.cpus; i++) {
        lapic_lock(&set->apic[i]);
        lapic_reset_one(&set->apic[i], kind);
        lapic_unlock(&set->apic[i]);
    }
}

void lapic_reset(struct lapic_set *set)
{
    reset_all(set, LAPIC_POWER_ON);
}

void lapic_init(struct lapic_set *set)
{
    reset_all(set, LAPIC_INIT);
}

struct lapic_set *lapic_set_new(const struct lapic_config *c)
{
    struct lapic_set *set;

    if (c->cpus == 0 || c->cpus > 4096)
        return NULL;
    set = calloc(1, sizeof(*set) + c->cpus * sizeof(set->apic[0]));
    if (!set)
        return NULL;
    set->c = *c;
    for (u32 i = 0; i < c->cpus; i++) {
        struct lapic *l = &set->apic[i];

        pthread_mutex_init(&l->lock, NULL);
        l->set = set;
        l->vcpu = i;
        timer_init(&l->timer, c->loop, lapic_timer_fire);
    }
    lapic_reset(set);
    return set;
}

void lapic_set_free(struct lapic_set *set)
{
    if (!set)
        return;
    for (u32 i = 0; i < set->c.cpus; i++) {
        timer_disarm(&set->apic[i].timer);
        pthread_mutex_destroy(&set->apic[i].lock);
    }
    free(set);
}

bool lapic_decodes(const struct lapic_set *set, u32 vcpu, u64 gpa)
{
    return vcpu < set->c.cpus && (gpa & ~0xfffull) == __atomic_load_n(&set->apic[vcpu].page, __ATOMIC_RELAXED);
}

u64 lapic_apic_base(const struct lapic_set *set, u32 vcpu)
{
    return vcpu < set->c.cpus ? __atomic_load_n(&set->apic[vcpu].s.apic_base, __ATOMIC_RELAXED) : 0;
}
