/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - the interface of an engine, which executes guest instructions. There are two: engine/kvm and engine/soft. An
 * engine never sees a device. What leaves the processor (a port, MMIO, an MSR that the engine does not own, the acknowledge
 * of an interrupt) goes through struct engine_machine, on the vCPU's thread. Devices never see instructions.
 *
 * Threads: run, get_state and set_state may be called on the vCPU's own thread, or on any thread while the vCPU does not
 * run. kick, signal, irq_line and msi may be called on any thread. The others may be called while no vCPU runs.
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
    /* Only an engine without interrupt controllers (capability irqchip false) calls those below. */
    int (*interrupt_ack)(void *m, u32 vcpu); /* INTA: the vector, or -1 if the request went away */
    u8 (*cr8_read)(void *m, u32 vcpu);       /* TPR bits 7-4 */
    void (*cr8_write)(void *m, u32 vcpu, u8 value);
    /* MSRs outside struct cpu_state: x2APIC, APIC_BASE, TSC_DEADLINE, KVM clock. 0, or -1: raise #GP. */
    int (*msr_read)(void *m, u32 vcpu, u32 msr, u64 *value);
    int (*msr_write)(void *m, u32 vcpu, u32 msr, u64 value);
    /* A KVM hypercall from ring 0 (linux/Documentation/virt/kvm/x86/hypercalls.rst); arguments truncated to 32 bits
       outside 64-bit mode. It returns the call's result, or -1000 (KVM_ENOSYS) if there is no such call. NULL: there are
       no hypercalls. */
    s64 (*hypercall)(void *m, u32 vcpu, u64 number, const u64 arg[4], bool long_mode);
    /* Does many accesses at once (bus.h). False: nothing was done, and the engine makes them one by one. May be NULL. */
    bool (*mmio_run)(void *m, u32 vcpu, const struct bus_run *r);
};

/* Host code that a piece of guest code was translated to. The pointers are valid during the call. */
struct engine_translation {
    u64 rip, place; /* in guest memory (memory.h) */
    unsigned bits;
    const u8 *host;  /* readable here, executes at host_at */
    u64 host_at;
    u32 host_size;
    u32 ninsns;
    const struct engine_translated { /* by host */
        u64 rip;
        u32 host; /* where its host code begins, from host_at. Code for no instruction follows that of the last one. */
        u8 len;
        const u8 *bytes;
    } *insn;
    u32 nlinks;
    const struct engine_link { /* a way to another translation: a direct jump, once that exists */
        u64 rip;
        u32 host; /* a place in the host instruction that jumps, from host_at; 0: there is none */
    } *link;
    u32 ndata;
    const struct engine_data { /* bytes behind a call that are its arguments, and no instructions */
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

/* A member may be NULL. The software engine calls them on the vCPU's thread, except stub, which it calls while the VM is
   created. KVM calls none. There is never more than one call of translation at a time, whichever vCPU it is for. */
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
    u64 code_cache; /* software engine: bytes for translated code, one cache for all vCPUs; 0: everything is interpreted */
    u32 translate_after; /* software engine: how often a block runs in the interpreter before it is translated */
    int direct; /* software engine: a socket of "lodge directd" (engine/runner.h), the caller's; 0: no direct execution */
    bool direct_always; /* programs run directly wherever they can, not only where it pays */
    bool count; /* software engine: translated code counts what it does, which costs a little */
};

enum { ENGINE_TRANSLATE_AFTER = 12 }; /* the usual value */

struct engine_caps {
    bool irqchip;      /* the engine has PIC, IOAPIC, LAPIC and PIT; irqchip_get/set and lapic_get/set move their state */
    bool trace_exec;
    const char *no_direct; /* why the guest's programs cannot be executed directly on this host; NULL: they may be */
    struct cpuid_table supported;
};

enum run_result {
    RUN_KICKED,   /* kick() was called; the caller looks at its requests and runs again */
    RUN_SHUTDOWN, /* a triple fault; the state is as the fault left it */
    RUN_ERROR,    /* Lodge or the host failed; err says how */
};

enum engine_signal {
    SIGNAL_INTR, /* arg: level of the INTR pin (1 asserted); the engine then calls interrupt_ack */
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

    /* Executes until there is something that only the caller can handle. Sleeps in HLT and while it waits for a SIPI. */
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

    /* To be called before memory_dirty_take, to bring the dirty bits of memory up to date (KVM: fetches the log), and again
       after it, so that later writes are logged again (software engine: drops the rights to write). vCPUs may run
       meanwhile, but a take is complete only if they are stopped. */
    int (*dirty_sync)(struct engine_vm *vm);
    int (*dirty_enable)(struct engine_vm *vm, bool on);
    /* The A20 gate. While it is closed, address line 20 is 0 in every access of a processor (KVM: only below 2 MiB). It is
       open at first. Any thread; it takes effect when a change of memory's regions would (memory.h). */
    void (*a20)(struct engine_vm *vm, bool open);
    /* To be called after guest memory or the clock was changed from outside (a state was loaded): drops all caches. */
    void (*reset_caches)(struct engine_vm *vm);
    /* Tells the figures that were counted for a processor (the same ones in the same order for each) or, with vcpu < 0,
       for the VM. To be called while no vCPU runs. NULL: this engine counts nothing. */
    void (*stats)(struct engine_vm *vm, int vcpu, void (*tell)(void *ctx, const struct engine_figure *f), void *ctx);
    /* kvmclock: the guest's system time now in ns; clock_set is for loading. NULL: the machine has its own pvclock. */
    int (*clock_get)(struct engine_vm *vm, u64 *ns);
    int (*clock_set)(struct engine_vm *vm, u64 ns);
};

extern const struct engine_ops engine_soft;
extern const struct engine_ops engine_kvm;

/* The engine of the name "auto", "kvm" or "soft". why: one sentence for the user that says why this one. NULL with err set:
   it cannot be used here. */
const struct engine_ops *engine_choose(const char *name, struct error *why, struct error *err);

#endif
