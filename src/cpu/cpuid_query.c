/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_query.c - what CPUID answers when it is executed: the table's values, and those that follow the processor's
   state. */
#include "cpu/cpu.h"
#include "cpu/cpuid.h"

/* The size of an XSAVE area for the components in mask, compacted or in the standard format (SDM vol. 1 13.4.2, 13.4.3). */
static u32 xsave_size(const struct cpuid_table *t, u64 mask, bool compacted)
{
    u32 end = 576;

    for (u32 n = 2; n < 63; n++) {
        const struct cpuid_leaf *l = mask >> n & 1 ? cpuid_leaf_find(t, 0xd, n) : NULL;
        if (!l)
            continue;
        if (!compacted) {
            end = MAX(end, l->eax + l->ebx);
        } else {
            if (l->ecx & 2)
                end = (u32)align_up(end, 64);
            end += l->eax;
        }
    }
    return end;
}

/* A function beyond the highest leaf of its class reads as zeros on AMD, and as the highest basic leaf on Intel. Returns the
   function to answer. */
static u32 clamp_function(const struct cpuid_table *t, u32 function)
{
    const struct cpuid_leaf *zero = cpuid_leaf_find(t, 0, 0);
    u32 base = function >> 16 == 0x4000 ? 0x40000000 : function & 0x80000000 ? 0x80000000 : 0;
    const struct cpuid_leaf *top = cpuid_leaf_find(t, base, 0);

    if (!zero || cpuid_amd_like(zero) || (top && function >= base && function <= top->eax))
        return function;
    return zero->eax;
}

void cpuid_query(const struct cpuid_table *t, u32 vcpu, u64 cr4, u64 xcr0, u64 xss, u64 apic_base, u32 function, u32 index,
                 u32 out[4])
{
    function = clamp_function(t, function);
    const struct cpuid_leaf *l = cpuid_leaf_find(t, function, index);

    out[0] = l ? l->eax : 0;
    out[1] = l ? l->ebx : 0;
    out[2] = l ? l->ecx : 0;
    out[3] = l ? l->edx : 0;
    switch (function) {
    case 1:
        out[1] |= vcpu << 24;
        if ((cr4 & CR4_OSXSAVE) && (out[2] & BIT(26)))
            out[2] |= BIT(27);
        if (!(apic_base & BIT(11)))
            out[3] &= ~(u32)BIT(9);
        break;
    case 7:
        if (index == 0 && (cr4 & CR4_PKE) && (out[2] & BIT(3)))
            out[2] |= BIT(4);
        break;
    case 0xb:
    case 0x1f:
        out[2] = (out[2] & ~0xffu) | (index & 0xff);
        out[3] = vcpu;
        break;
    case 0xd:
        if (!l)
            break;
        if (index == 0)
            out[1] = xsave_size(t, xcr0, false);
        else if (index == 1)
            out[1] = out[0] & (BIT(1) | BIT(3)) ? xsave_size(t, xcr0 | xss, true) : 0;
        break;
    case 0x80000001:
        if (!(apic_base & BIT(11)))
            out[3] &= ~(u32)BIT(9);
        break;
    case 0x8000001e:
        if (l) {
            out[0] = vcpu;
            out[1] = vcpu & 0xff;
        }
        break;
    default:
        break;
    }
}
