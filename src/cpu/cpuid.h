/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.h - what processor the guest is told it has.  A model is a table of
 * CPUID leaves, built once per VM from a named model or the host, the user's
 * +feature,-feature list, what the engine can run, and the number of CPUs.
 */
#ifndef LODGE_CPU_CPUID_H
#define LODGE_CPU_CPUID_H

#include "base/base.h"
#include "base/error.h"

struct cpuid_leaf {
    u32 function, index;
    bool indexed; /* index is significant */
    u32 eax, ebx, ecx, edx;
};
enum { CPUID_MAX_LEAVES = 96 };
struct cpuid_table {
    u32 n;
    struct cpuid_leaf leaf[CPUID_MAX_LEAVES];
    u64 tsc_khz; /* the guest's TSC frequency */
    u32 cpus;
    u8 phys_bits, lin_bits;
    u64 xcr0; /* components the guest may enable */
};

/* Features by the names of /proc/cpuinfo and QEMU (both accepted); a bit of a leaf's register. */
struct cpu_feature {
    const char *name;
    u32 function, index;
    u8 reg; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
    u8 bit;
};
const struct cpu_feature *cpu_feature_find(const char *name);
const struct cpu_feature *cpu_feature_at(u32 i); /* NULL past the last: for lists and doctor */

struct cpuid_request {
    const char *model; /* "host", "x86-64-v1".. "x86-64-v4", "qemu64"-like names: see cpuid_models(); NULL: "host" */
    const char *features; /* "+avx,-smap" or NULL */
    u32 cpus;
    const struct cpuid_table *supported; /* what the engine can run (leaves masked against it) */
};
const char *const *cpuid_models(void); /* NULL-terminated */
/* -EINVAL with a sentence: unknown model or feature, or a feature that host or engine lacks. */
int must_check cpuid_build(struct cpuid_table *t, const struct cpuid_request *rq, struct error *err);
/* What the host CPU has, raw, for the standard leaves; cut to what Lodge's software engine implements. */
int must_check cpuid_soft_supported(struct cpuid_table *t, struct error *err);

bool cpuid_has(const struct cpuid_table *t, const struct cpu_feature *f);
/* The leaf as vCPU id sees it (APIC id, topology filled in); cr4 and xcr0 for OSXSAVE, OSPKE and leaf Dh sizes;
   out of range as Intel/AMD say. out: eax ebx ecx edx. */
void cpuid_query(const struct cpuid_table *t, u32 vcpu, u64 cr4, u64 xcr0, u64 xss, u64 apic_base, u32 function, u32 index,
                 u32 out[4]);
/* Does the vendor of leaf 0 answer beyond its highest leaf as AMD does, with zeros? */
bool cpuid_amd_like(const struct cpuid_leaf *leaf0);
/* One bit of a leaf as the table has it (reg: 0 eax .. 3 edx); false where the leaf is absent. */
bool cpuid_bit(const struct cpuid_table *t, u32 function, u32 index, unsigned reg, unsigned bit);
const struct cpuid_leaf *cpuid_leaf_find(const struct cpuid_table *t, u32 function, u32 index);
/* Standard-format XSAVE area: where component n (2..62) lies and how long it is; 0 if the guest cannot have it.
   The two legacy components are at 0 (512 bytes, and the 64-byte header behind). */
u32 cpuid_xsave_offset(const struct cpuid_table *t, unsigned n);
u32 cpuid_xsave_length(const struct cpuid_table *t, unsigned n);
/* For an engine's probe: t holds raw leaves and xcr0; drops every feature Lodge does not give to a guest on KVM (soft
   false) or in software (soft true, which also adds what software implements whatever the host), and what depends on it. */
void cpuid_restrict(struct cpuid_table *t, bool soft);
/* Adds a zeroed leaf, or finds the one there is; NULL when the table is full. */
struct cpuid_leaf *cpuid_leaf_add(struct cpuid_table *t, u32 function, u32 index, bool indexed);
u64 host_tsc_khz(void); /* told by CPUID 15h or the kernel if measuring agrees, else as measured; cached */

#endif
