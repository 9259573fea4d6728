/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvclock.h - KVM's paravirtual clock for engines that do not bring their own: the guest reads its time from a
 * page we fill, by its TSC, without an exit.  linux/Documentation/virt/kvm/x86/msr.rst (MSRs 11h, 12h,
 * 4b564d00h, 4b564d01h) and cpuid.rst.
 *
 * MSR access: the vCPU's thread.  The rest: while no vCPU runs.
 */
#ifndef LODGE_MACHINE_PVCLOCK_H
#define LODGE_MACHINE_PVCLOCK_H

#include "base/base.h"
#include "cpu/cpuid.h"
#include "memory/memory.h"
#include "state/state.h"

enum { PVCLOCK_MAX_CPUS = 256 };

struct pvclock {
    struct memory *memory;
    u32 cpus;
    u64 tsc_khz;
    u64 (*tsc_now)(void *ctx, u32 vcpu); /* the guest's TSC */
    void *ctx;
    /* The moment every page refers to. With one of its own each, processors would differ by what lies between reading
       the two clocks, and time would step back from one to the next. */
    u64 base_tsc, base_ns; /* base_tsc 0: none yet */
    bool base_lock;
    u64 epoch; /* clock_ns() at which the guest's system time was 0 */
    u64 age;   /* saved: the system time */
    u64 wall;  /* MSR_KVM_WALL_CLOCK as last written */
    u64 system_time[PVCLOCK_MAX_CPUS]; /* MSR_KVM_SYSTEM_TIME of each vCPU */
};

void pvclock_init(struct pvclock *p, struct memory *m, const struct cpuid_table *cpuid,
                  u64 (*tsc_now)(void *ctx, u32 vcpu), void *ctx);
void pvclock_reset(struct pvclock *p);
bool pvclock_owns_msr(u32 msr);
/* 0, or -1: #GP */
int must_check pvclock_msr_read(struct pvclock *p, u32 vcpu, u32 msr, u64 *value);
int must_check pvclock_msr_write(struct pvclock *p, u32 vcpu, u32 msr, u64 value);
/* The guest's TSC of this vCPU now runs with another offset. */
void pvclock_tsc_changed(struct pvclock *p, u32 vcpu);

u64 pvclock_system_time(const struct pvclock *p);
extern const struct state_desc pvclock_state; /* obj: struct pvclock */

/* ns = ((ticks << shift, or >> -shift) * mul) >> 32 for a clock of khz. */
void pvclock_scale(u64 khz, u32 *mul, s8 *shift);

#endif
