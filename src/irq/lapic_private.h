/* SPDX-License-Identifier: Apache-2.0 */
/* lapic_private.h - shared by lapic.c (core), lapic_regs.c (register access) and lapic_timer.c. */
#ifndef LODGE_IRQ_LAPIC_PRIVATE_H
#define LODGE_IRQ_LAPIC_PRIVATE_H

#include <pthread.h>

#include "irq/lapic.h"

enum { /* register offsets / 16: indexes of irqchip_lapic.reg, and x2APIC MSR numbers minus 800h */
    R_ID = 0x02, R_VERSION = 0x03, R_TPR = 0x08, R_APR = 0x09, R_PPR = 0x0a, R_EOI = 0x0b, R_RRD = 0x0c, R_LDR = 0x0d,
    R_DFR = 0x0e, R_SVR = 0x0f, R_ISR = 0x10, R_TMR = 0x18, R_IRR = 0x20, R_ESR = 0x28, R_CMCI = 0x2f, R_ICR = 0x30,
    R_ICR2 = 0x31, R_LVT_TIMER = 0x32, R_LVT_THERMAL = 0x33, R_LVT_PMC = 0x34, R_LVT_LINT0 = 0x35, R_LVT_LINT1 = 0x36,
    R_LVT_ERROR = 0x37, R_TIMER_INIT = 0x38, R_TIMER_CURRENT = 0x39, R_TIMER_DIVIDE = 0x3e, R_SELF_IPI = 0x3f,
};
enum {
    APIC_VERSION = 0x50014, /* integrated APIC, 6 LVT entries, no EOI-broadcast suppression */
    SVR_ENABLE = 1 << 8, SVR_FOCUS = 1 << 9,
    LVT_DELIVERY = 7 << 8, LVT_PENDING = 1 << 12, LVT_POLARITY = 1 << 13, LVT_REMOTE_IRR = 1 << 14, LVT_LEVEL = 1 << 15,
    LVT_MASKED = 1 << 16, LVT_TIMER_MODE = 3 << 17, LVT_TIMER_PERIODIC = 1 << 17, LVT_TIMER_DEADLINE = 2 << 17,
    ICR_LOGICAL = 1 << 11, ICR_PENDING = 1 << 12, ICR_ASSERT = 1 << 14, ICR_LEVEL = 1 << 15, ICR_SHORTHAND = 3 << 18,
    ICR_TO_DEST = 0 << 18, ICR_TO_SELF = 1 << 18, ICR_TO_ALL = 2 << 18, ICR_TO_OTHERS = 3 << 18,
    ESR_SEND_VECTOR = 1 << 5, ESR_RECEIVE_VECTOR = 1 << 6, ESR_REGISTER = 1 << 7,
};
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_EXTD BIT(10)
#define APIC_BASE_EN BIT(11)

enum lapic_mode { MODE_OFF, MODE_XAPIC, MODE_X2APIC };

struct lapic {
    pthread_mutex_t lock;
    struct lapic_set *set;
    u32 vcpu;
    struct lapic_record s; /* the registers; this is what is saved */
    struct timer timer;
    u64 expiry;      /* clock_ns() at which the timer runs out; valid while running */
    bool running;
    bool nmi_wanted; /* set under the lock; the processor is told without it */
    bool init_wanted;

    /* For readers without the lock. */
    bool intr;           /* INTR pin */
    u8 mode;             /* enum lapic_mode */
    u32 id, ldr;         /* as used for matching: xAPIC 8 bits, x2APIC 32 */
    bool cluster;        /* xAPIC cluster model */
    u64 page;            /* base of the register page, or ~0 */
};

struct lapic_set {
    struct lapic_config c;
    u32 turn; /* where the next search for a lowest-priority processor begins; atomic */
    struct lapic apic[];
};

static inline bool software_enabled(const struct lapic *l) { return l->s.chip.reg[R_SVR] & SVR_ENABLE; }
static inline enum lapic_mode mode_of(u64 apic_base)
{
    return !(apic_base & APIC_BASE_EN) ? MODE_OFF : apic_base & APIC_BASE_EXTD ? MODE_X2APIC : MODE_XAPIC;
}

/* lapic.c; all with the lock held */
void lapic_lock(struct lapic *l);
void lapic_unlock(struct lapic *l); /* it then tells the processor of an NMI or INIT that was found under the lock */
void lapic_update(struct lapic *l); /* computes PPR and the INTR pin */
void lapic_publish(struct lapic *l); /* call it after ID, LDR, DFR or APIC_BASE changed */
void lapic_accept(struct lapic *l, u8 vector, bool level);
void lapic_end_of_interrupt(struct lapic *l); /* drops the lock to broadcast */
void lapic_send(struct lapic *l, u32 icr, u32 dest); /* drops the lock to deliver */
void lapic_local(struct lapic *l, unsigned lvt); /* handles the event of a local vector table entry */
void lapic_error(struct lapic *l, u32 bits);
void lapic_lint0_check(struct lapic *l); /* sends a level-triggered fixed LINT0 that is still asserted */
enum lapic_reset_kind { LAPIC_POWER_ON, LAPIC_INIT, LAPIC_DISABLED };
void lapic_reset_one(struct lapic *l, enum lapic_reset_kind kind);

/* lapic_timer.c; all with the lock held */
void lapic_timer_fire(struct timer *t);
void lapic_timer_sync(struct lapic *l); /* delivers the interrupt that is due */
void lapic_timer_stop(struct lapic *l);
void lapic_timer_init_count(struct lapic *l, u32 count);
void lapic_timer_divide(struct lapic *l, u32 value);
void lapic_timer_lvt(struct lapic *l, u32 value); /* the new LVT, before it is stored */
u32 lapic_timer_current(struct lapic *l);
void lapic_timer_deadline(struct lapic *l, u64 tsc);
void lapic_timer_save(struct lapic *l);
void lapic_timer_load(struct lapic *l);

#endif
