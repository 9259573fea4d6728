/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - the interface of what executes guest instructions.  Two
 * implementations: engine/kvm and engine/soft.  The engine never sees a device:
 * what leaves the processor (port, MMIO, an MSR it does not own, interrupt
 * acknowledge) goes through struct engine_machine, on the vCPU's thread.  Devices
 * never see instructions.
 *
 * Threads: run, get_state, set_state: the vCPU's own thread (or any while it is
 * not running).  kick, signal, irq_line, msi: any thread.  The rest: while no
 * vCPU runs.
 */
#ifndef LODGE_ENGINE_ENGINE_H
#define LODGE_ENGINE_ENGINE_H

#include "base/base.h"
#include "base/error.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "engine/irqchip.h"
#include "memory/bus.h"
#include "memory/memory.h"

struct engine_vm;   /* an engine's own */
struct engine_vcpu; /* an engine's own */

/* The machine around the processors. m is engine_config.machine. */
struct engine_machine {
    u64 (*port_read)(void *m, u16 port, unsigned size); /* size 1, 2, 4 */
    void (*port_write)(void *m, u16 port, unsigned size, u64 value);
    u64 (*mmio_read)(void *m, u32 vcpu, u64 gpa, unsigned size); /* size 1, 2, 4, 8; the xAPIC page too */
    void (*mmio_write)(void *m, u32 vcpu, u64 gpa, unsigned size, u64 value);
    /* The rest only an engine without an irqchip calls (capability irqchip false). */
    int (*interrupt_ack)(void *m, u32 vcpu); /* INTA: the vector, or -1 if the request went away */
    u8 (*cr8_read)(void *m, u32 vcpu);       /* TPR bits 7-4 */
    void (*cr8_write)(void *m, u32 vcpu, u8 value);
    /* MSRs outside struct cpu_state: x2APIC, APIC_BASE, TSC_DEADLINE, KVM clock. 0, or -1: raise #GP. */
    int (*msr_read)(void *m, u32 vcpu, u32 msr, u64 *value);
    int (*msr_write)(void *m, u32 vcpu, u32 msr, u64 value);
    /* A KVM hypercall from ring 0 (linux/Documentation/virt/kvm/x86/hypercalls.rst); arguments truncated to 32 bits
       outside 64-bit mode. Its result, -1000 (KVM_ENOSYS) for one not offered. NULL: none is. */
    s64 (*hypercall)(void *m, u32 vcpu, u64 number, const u64 arg[4], bool long_mode);
    /* Many accesses at once (bus.h); false, and nothing was done: one at a time, then. NULL: always so. */
    bool (*mmio_run)(void *m, u32 vcpu, const struct bus_run *r);
};

/* Host code that stands for guest code. Pointers are good during the call. */
struct engine_translation {
    u64 rip, place; /* in guest memory (memory.h) */
    unsigned bits;
    const u8 *host;  /* readable here, executes at host_at */
    u64 host_at;
    u32 host_size;
    u32 ninsns;
    const struct engine_translated { /* by host */
        u64 rip;
        u32 host; /* where its host code begins, from host_at; the last one's is followed by code for no one */
        u8 len;
        const u8 *bytes;
    } *insn;
    u32 nlinks;
    const struct engine_link { /* where another translation is gone to, directly once it exists */
        u64 rip;
        u32 host; /* a place in the instruction that does, from host_at; 0: there is none */
    } *link;
    u32 ndata;
    const struct engine_data { /* bytes that are no instructions but say what the call before them is about */
        u32 host, size; /* from host_at */
        u32 number;     /* of an instruction, or a link */
        bool of_link;
    } *data;
};
struct engine_stub { /* host code that translations share */
    const char *name;
    u64 host_at;
    u32 host_size;
};

/* NULL members: not wanted. Software engine only (KVM: exits). Called on the vCPU's thread, but stub, which is called
   while the VM is created. translation: one at a time, whatever the vCPU. */
struct engine_trace {
    void *ctx;
    void (*exec)(void *ctx, u32 vcpu, const struct cpu_state *s, const u8 *code, unsigned len, unsigned bits);
    void (*exception)(void *ctx, u32 vcpu, unsigned vector, bool has_error, u32 error, const struct cpu_state *s);
    void (*stub)(void *ctx, const struct engine_stub *s);
    void (*translation)(void *ctx, u32 vcpu, const struct engine_translation *t);
};

/* One of the figures of a report. */
enum engine_unit { ENGINE_COUNT, ENGINE_BYTES, ENGINE_NS, ENGINE_RATE /* value / of */ };
struct engine_figure {
    const char *group, *name;
    enum engine_unit unit;
    u64 value, of;
};

struct engine_config {
    struct memory *memory;
    const struct cpuid_table *cpuid;
    const struct engine_machine *ops;
    void *machine;
    u32 cpus;
    const struct engine_trace *trace; /* or NULL */
    u64 code_cache; /* software engine: bytes for translated code, one cache for all vCPUs; 0: interpret everything */
    u32 translate_after; /* runs of a block in the interpreter before it is translated */
    bool count; /* software engine: translated code counts what it does; costs a little */
};

enum { ENGINE_TRANSLATE_AFTER = 12 }; /* the usual value */

struct engine_caps {
    bool irqchip;      /* PIC, IOAPIC, LAPIC, PIT in the engine; state by irqchip_get/set */
    bool trace_exec;
    struct cpuid_table supported;
};

enum run_result {
    RUN_KICKED,   /* kick() was called: look at your requests and run again */
    RUN_SHUTDOWN, /* triple fault; state is as the fault left it */
    RUN_ERROR,    /* our failure or the host's; err says */
};

enum engine_signal {
    SIGNAL_INTR, /* arg: level of the INTR pin (1 asserted); answered by interrupt_ack */
    SIGNAL_NMI,  /* with an irqchip: a pulse on the processor's LINT1, which its APIC may mask */
    SIGNAL_INIT,
    SIGNAL_SIPI, /* arg: vector */
};

struct engine_ops {
    const char *name; /* "kvm", "soft" */
    int (*probe)(struct engine_caps *caps, struct error *err); /* -errno: cannot be used here */
    int (*vm_create)(struct engine_vm **vm, const struct engine_config *cfg, struct error *err);
    void (*vm_destroy)(struct engine_vm *vm);
    int (*vcpu_create)(struct engine_vm *vm, u32 id, struct engine_vcpu **v, struct error *err);
    void (*vcpu_destroy)(struct engine_vcpu *v);

    /* Executes until something only the caller can handle. Blocks through HLT and wait-for-SIPI. */
    enum run_result (*run)(struct engine_vcpu *v, struct error *err);
    void (*kick)(struct engine_vcpu *v); /* run returns soon, or at once if called just before it */
    void (*signal)(struct engine_vcpu *v, enum engine_signal sig, u32 arg);
    int (*get_state)(struct engine_vcpu *v, struct cpu_state *s);
    int (*set_state)(struct engine_vcpu *v, const struct cpu_state *s);
    /* The guest's TSC less the host's. Any thread. Engines without an irqchip: the machine's APICs and clock need it. */
    u64 (*tsc_offset)(struct engine_vcpu *v);

    /* In-kernel interrupt controllers (capability irqchip); NULL otherwise. */
    int (*irq_line)(struct engine_vm *vm, u32 gsi, bool level);
    int (*msi)(struct engine_vm *vm, u64 address, u32 data);
    int (*irqchip_get)(struct engine_vm *vm, enum irqchip which, void *state);
    int (*irqchip_set)(struct engine_vm *vm, enum irqchip which, const void *state);
    int (*lapic_get)(struct engine_vcpu *v, struct irqchip_lapic *state);
    int (*lapic_set)(struct engine_vcpu *v, const struct irqchip_lapic *state);

    /* Before memory_dirty_take: brings memory's dirty bits up to date (KVM: fetches the log). After it, once more: what
       is written from now on is logged again (software: write rights are dropped). May be called while vCPUs run, but
       only with them stopped is the next take complete. */
    int (*dirty_sync)(struct engine_vm *vm);
    int (*dirty_enable)(struct engine_vm *vm, bool on);
    /* The A20 gate: closed, address line 20 is 0 whatever a processor wants to address (KVM: below 2 MiB only). Open until
       told. Any thread; in force as a change of memory's regions is (memory.h). */
    void (*a20)(struct engine_vm *vm, bool open);
    /* Guest memory or the clock was changed from outside (state loaded): drop what is cached. */
    void (*reset_caches)(struct engine_vm *vm);
    /* Tells what was counted of a processor (the same figures in the same order for each), or of the VM (vcpu < 0). While
       no vCPU runs. NULL: nothing is counted. */
    void (*stats)(struct engine_vm *vm, int vcpu, void (*tell)(void *ctx, const struct engine_figure *f), void *ctx);
    /* kvmclock: the guest's system time in ns now; set for load. NULL: the machine's own pvclock does it. */
    int (*clock_get)(struct engine_vm *vm, u64 *ns);
    int (*clock_set)(struct engine_vm *vm, u64 ns);
};

extern const struct engine_ops engine_soft;
extern const struct engine_ops engine_kvm;

/* "auto", "kvm", "soft" to an engine; why: one sentence for the user. NULL with err set if it cannot be had. */
const struct engine_ops *engine_choose(const char *name, struct error *why, struct error *err);

#endif
