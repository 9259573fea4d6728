/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_irqchip.h - the twin of our own PIC, I/O APIC, PIT and local APICs, for engines that keep these in the kernel
 * (engine_caps.irqchip). Lines and messages go to the engine. It saves and loads the same records as our own chips, so
 * a snapshot taken on one loads in the other.
 *
 * Lines: any thread. State: while no vCPU runs.
 */
#ifndef LODGE_IRQ_KERNEL_IRQCHIP_H
#define LODGE_IRQ_KERNEL_IRQCHIP_H

#include "base/base.h"
#include "engine/engine.h"
#include "irq/irqchip_state.h"
#include "state/state.h"

struct kernel_irqchip;

/* vcpus: borrowed; it has cpus entries. NULL: out of memory. */
struct kernel_irqchip *kernel_irqchip_new(const struct engine_ops *engine, struct engine_vm *vm,
                                          struct engine_vcpu *const *vcpus, u32 cpus);
void kernel_irqchip_free(struct kernel_irqchip *k);
/* Records "pic", "ioapic", "i8254", and "lapic" per vCPU. */
int must_check kernel_irqchip_add_state(struct kernel_irqchip *k, struct state_list *list);
/* Power-on state of all chips (a reset of the machine). */
int must_check kernel_irqchip_reset(struct kernel_irqchip *k);
/* Puts the local APICs into the state after INIT#: as at power-on, except for their IDs and APIC_BASE. */
int must_check kernel_irqchip_init(struct kernel_irqchip *k);

/* irq_line.set; chip is the struct kernel_irqchip, pin the GSI. */
void kernel_irqchip_line(void *chip, u32 gsi, bool level);
/* 0, also if the guest holds the interrupt off; or -errno. */
int kernel_irqchip_msi(struct kernel_irqchip *k, u64 address, u32 data);

#endif
