/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm.h - shared inside the KVM engine. Each file has one subject: kvm_vm.c (probe, memory, clock), kvm_vcpu.c (creation of
 * a vCPU and its run loop), kvm_state.c (getting and setting registers), chips.c (interrupt lines, and the chips in the
 * kernel), selftest.c (whether this KVM is fast enough). Source: linux/Documentation/virt/kvm/api.rst.
 */
#ifndef LODGE_ENGINE_KVM_KVM_H
#define LODGE_ENGINE_KVM_KVM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>

#include "engine/engine.h"

struct engine_vm {
    struct engine_config cfg;
    int kvm_fd, vm_fd;
    u32 run_size;      /* of each vCPU's mapping */
    bool has_readonly, dirty_on;
    bool a20_closed;   /* changes under memory's lock only */
    u32 map_changes;   /* how often slots were changed; atomic */
    u64 *dirty_buf;    /* room for the largest slot's log */
    u64 dirty_words;
};

enum kvm_request { KVM_DO_NMI = 1 << 0, KVM_DO_INIT = 1 << 1, KVM_DO_SIPI = 1 << 2 };
enum { KVM_MSR_COUNT = 64 };

struct engine_vcpu {
    struct engine_vm *vm;
    u32 id;
    int fd;
    struct kvm_run *run;
    int tid;            /* the thread inside run(), or 0; atomic */
    int prepared_tid;   /* the thread whose signal mask lets the kick through */
    bool kicked;        /* atomic */
    u32 request;        /* enum kvm_request; atomic */
    u8 sipi_vector;
    bool shutdown;      /* its activity is CPU_SHUTDOWN, which KVM does not have */
    u64 tsc_deadline;   /* what the last set_state had, for lapic_set */
    u64 msr_known;      /* a bit for each row of the MSR table: this KVM has the MSR */
};

/* The signal that interrupts KVM_RUN. Its handler does nothing: KVM_RUN ends because a signal arrives. */
static inline int kvm_kick_signal(void) { return SIGRTMIN; }
void kvm_install_kick(void);

int kvm_vm_ioctl(int fd, unsigned long rq, void *arg); /* 0 and up, or -errno */

/* kvm_vm.c: while a slot is changed, it does not exist for a moment. kvm_map_moved says whether slots were changed since the
   count was taken. If one is being changed, it waits until that is done. */
static inline u32 kvm_map_changes(const struct engine_vm *vm) { return __atomic_load_n(&vm->map_changes, __ATOMIC_ACQUIRE); }
bool kvm_map_moved(struct engine_vm *vm, u32 since);
/* The address that the A20 gate makes of gpa. */
static inline u64 kvm_a20_masked(const struct engine_vm *vm, u64 gpa)
{
    return __atomic_load_n(&vm->a20_closed, __ATOMIC_RELAXED) && gpa >> 20 == 1 ? gpa - MiB(1) : gpa;
}

/* kvm_vcpu.c */
int kvm_vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **v, struct error *err);
void kvm_vcpu_destroy(struct engine_vcpu *v);
enum run_result kvm_run(struct engine_vcpu *v, struct error *err);
void kvm_kick(struct engine_vcpu *v);
void kvm_signal(struct engine_vcpu *v, enum engine_signal sig, u32 arg);
/* Does what kvm_signal asked this vCPU for. To be called while it is outside KVM_RUN. */
int kvm_do_requests(struct engine_vcpu *v);

/* kvm_state.c */
void kvm_find_msrs(struct engine_vcpu *v);
int kvm_get_state(struct engine_vcpu *v, struct cpu_state *s);
int kvm_set_state(struct engine_vcpu *v, const struct cpu_state *s);
int kvm_put_state(struct engine_vcpu *v, const struct cpu_state *s); /* keeps the requests, which kvm_set_state drops */
int kvm_set_tsc_deadline(struct engine_vcpu *v, u64 deadline);

/* chips.c */
int kvm_irq_line(struct engine_vm *vm, u32 gsi, bool level);
int kvm_msi(struct engine_vm *vm, u64 address, u32 data);
int kvm_irqchip_get(struct engine_vm *vm, enum irqchip which, void *state);
int kvm_irqchip_set(struct engine_vm *vm, enum irqchip which, const void *state);
int kvm_lapic_get(struct engine_vcpu *v, struct irqchip_lapic *state);
int kvm_lapic_set(struct engine_vcpu *v, const struct irqchip_lapic *state);
int kvm_create_chips(struct engine_vm *vm, struct error *err);

#endif
