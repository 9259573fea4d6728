/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic.h - the local APICs of a VM's processors, one set for each VM: xAPIC and x2APIC modes, timer, inter-processor
 * interrupts, message-signalled interrupts. Intel SDM vol. 3 ch. 11 (APIC); we use its register names and numbers.
 *
 * Any thread may call. Register access comes from the vCPU that the APIC belongs to. Each APIC has one lock, and no
 * thread holds two of them at once. Lock order: device, PIC or I/O APIC, LAPIC, then the locks of ops->intr and of the
 * timer service. ops->intr is called with the APIC's lock held, so that levels arrive in order. The other ops are
 * called with no lock held.
 *
 * The timer counts a 1 GHz bus clock. INIT resets the APIC here before ops->init is called.
 */
#ifndef LODGE_IRQ_LAPIC_H
#define LODGE_IRQ_LAPIC_H

#include "base/base.h"
#include "base/loop.h"
#include "engine/irqchip.h"
#include "irq/irqchip_state.h"
#include "state/state.h"

#define LAPIC_DEFAULT_BASE 0xfee00000ull
#define LAPIC_BUS_HZ 1000000000ull

enum lapic_delivery { /* ICR, LVT, redirection entry and MSI data bits 10-8 */
    DELIVER_FIXED = 0, DELIVER_LOWEST = 1, DELIVER_SMI = 2, DELIVER_NMI = 4, DELIVER_INIT = 5, DELIVER_STARTUP = 6,
    DELIVER_EXTINT = 7,
};

struct lapic_message {
    u32 dest;
    bool wide;    /* dest is a 32-bit x2APIC destination; otherwise 8 bits */
    bool logical;
    bool level;   /* level-triggered: its EOI is broadcast to the I/O APICs */
    u8 mode;      /* enum lapic_delivery */
    u8 vector;
};

struct lapic_ops { /* no member may be NULL */
    void (*intr)(void *ctx, u32 vcpu, bool level); /* the processor's INTR pin; called on changes only */
    void (*nmi)(void *ctx, u32 vcpu);
    void (*init)(void *ctx, u32 vcpu);
    void (*sipi)(void *ctx, u32 vcpu, u8 vector);
    void (*eoi)(void *ctx, u8 vector);  /* EOI broadcast of a level-triggered vector: ioapic_eoi */
    int (*extint_ack)(void *ctx);       /* INTA to the 8259A: pic_ack */
    u64 (*tsc_now)(void *ctx, u32 vcpu); /* the guest's TSC */
    u64 (*tsc_to_ns)(void *ctx, u64 ticks);
};

struct lapic_config {
    u32 cpus;
    bool x2apic, tsc_deadline; /* as CPUID.1:ECX says */
    u8 phys_bits;
    struct loop *loop;
    const struct lapic_ops *ops;
    void *ctx;
};

struct lapic_set;
struct lapic_set *lapic_set_new(const struct lapic_config *c); /* in reset state; NULL: out of memory */
void lapic_set_free(struct lapic_set *set);
void lapic_reset(struct lapic_set *set); /* RESET of all APICs; no vCPU may run */
void lapic_init(struct lapic_set *set);  /* INIT# of all APICs, without ops->init; no vCPU may run */
/* One record "lapic" a vCPU. */
int must_check lapic_add_state(struct lapic_set *set, struct state_list *list);

/* Is gpa in this vCPU's register page (xAPIC mode, base where APIC_BASE put it)? */
bool lapic_decodes(const struct lapic_set *set, u32 vcpu, u64 gpa);
u64 lapic_mmio_read(struct lapic_set *set, u32 vcpu, u32 offset, unsigned size);
void lapic_mmio_write(struct lapic_set *set, u32 vcpu, u32 offset, unsigned size, u64 value);

/* APIC_BASE, TSC_DEADLINE and 800h-8FFh. msr_read and msr_write: 0, or -1 for #GP. */
bool lapic_owns_msr(u32 msr);
int must_check lapic_msr_read(struct lapic_set *set, u32 vcpu, u32 msr, u64 *value);
int must_check lapic_msr_write(struct lapic_set *set, u32 vcpu, u32 msr, u64 value);
u8 lapic_cr8_read(struct lapic_set *set, u32 vcpu);
void lapic_cr8_write(struct lapic_set *set, u32 vcpu, u8 value);
u64 lapic_apic_base(const struct lapic_set *set, u32 vcpu);
/* The guest's TSC was written, so a TSC deadline is now at another time. It must also be called after state was
   loaded, when the processor has its TSC: a loaded deadline is armed only then. */
void lapic_tsc_changed(struct lapic_set *set, u32 vcpu);

/* The level of the INTR pin; lock-free. */
bool lapic_pending(const struct lapic_set *set, u32 vcpu);
/* Takes the interrupt and returns its vector, or -1 if the request has gone away. Runs the INTA cycle for an ExtINT. */
int lapic_ack(struct lapic_set *set, u32 vcpu);

/* Returns how many processors accepted the message. */
unsigned lapic_deliver(struct lapic_set *set, const struct lapic_message *m);
unsigned lapic_msi(struct lapic_set *set, u64 address, u32 data);

/* KVM_HC_SEND_IPI (linux/Documentation/virt/kvm/x86/hypercalls.rst): a bitmap of APIC IDs from `first` on, and the low
   half of an ICR. Returns how many processors accepted it. */
unsigned lapic_send_ipi_mask(struct lapic_set *set, u64 low, u64 high, u32 first, u32 icr);

/* The local interrupt pins. Each is wired to all processors: LINT0 is the 8259A's INT, LINT1 is NMI. */
void lapic_lint0(struct lapic_set *set, bool level);
void lapic_lint1(struct lapic_set *set, bool level);

/* Refuses a record that no APIC can hold. The in-kernel twin uses it, too. */
int must_check lapic_check_record(const struct lapic_record *r, u32 vcpu, struct error *err);

#endif
