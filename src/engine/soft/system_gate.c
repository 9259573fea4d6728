/* SPDX-License-Identifier: Apache-2.0 */
/* system_gate.c - calls from the handlers of privileged instructions to the machine and the CPUID model. Each saves the
   guest's vectors first. */
#include "engine/soft/system.h"

#include "engine/soft/blocks.h"

u64 soft_port_in(struct soft_vcpu *v, u16 port, unsigned size)
{
    soft_vec_save(v);
    v->stat.port_in++;
    const u64 x = v->vm->cfg.ops->port_read(v->vm->cfg.machine, port, size) & mask_of(size);
    soft_settle_map(v);
    return x;
}

void soft_port_out(struct soft_vcpu *v, u16 port, unsigned size, u64 value)
{
    soft_vec_save(v);
    v->stat.port_out++;
    v->vm->cfg.ops->port_write(v->vm->cfg.machine, port, size, value & mask_of(size));
    soft_settle_map(v);
}

void soft_cpuid(struct soft_vcpu *v, u32 function, u32 index, u32 out[4])
{
    soft_vec_save(v);
    v->stat.cpuid++;
    cpuid_query(v->vm->cfg.cpuid, v->id, v->s.cr4, v->s.xcr0, v->s.xss, v->s.apic_base, function, index, out);
}

int soft_msr_read_machine(struct soft_vcpu *v, u32 msr, u64 *value)
{
    soft_vec_save(v);
    v->stat.msr++;
    return v->vm->cfg.ops->msr_read(v->vm->cfg.machine, v->id, msr, value);
}

int soft_msr_write_machine(struct soft_vcpu *v, u32 msr, u64 value)
{
    soft_vec_save(v);
    v->stat.msr++;
    return v->vm->cfg.ops->msr_write(v->vm->cfg.machine, v->id, msr, value);
}

s64 soft_hypercall(struct soft_vcpu *v, u64 number, const u64 arg[4])
{
    soft_vec_save(v);
    if (!v->vm->cfg.ops->hypercall)
        return -1000; /* KVM_ENOSYS */
    return v->vm->cfg.ops->hypercall(v->vm->cfg.machine, v->id, number, arg, v->bits == 64);
}

u8 soft_cr8_read(struct soft_vcpu *v)
{
    soft_vec_save(v);
    return v->vm->cfg.ops->cr8_read(v->vm->cfg.machine, v->id);
}

void soft_cr8_write(struct soft_vcpu *v, u8 value)
{
    soft_vec_save(v);
    v->vm->cfg.ops->cr8_write(v->vm->cfg.machine, v->id, value);
}
