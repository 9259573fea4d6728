/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.h - the processor that the guest is told it has. It is a table of CPUID leaves, which is built once per VM. It is
 * made from a named model or the host's processor, the user's list of +feature and -feature, what the engine can run, and
 * the number of CPUs.
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
    u64 xcr0; /* the components that the guest may enable */
    bool own_pku; /* of what the software engine supports: the host has no PKU */
};

/* A feature is one bit of a leaf's register. name is that of /proc/cpuinfo; cpu_feature_find takes QEMU's name, too. */
struct cpu_feature {
    const char *name;
    u32 function, index;
    u8 reg; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
    u8 bit;
};
const struct cpu_feature *cpu_feature_find(const char *name);
const struct cpu_feature *cpu_feature_at(u32 i); /* NULL behind the last one; for lists, and for doctor */

struct cpuid_request {
    const char *model; /* one of cpuid_models(), such as "host", "x86-64-v3" or "qemu64"; NULL or "": "host" */
    const char *features; /* "+avx,-smap" or NULL */
    u32 cpus;
    const struct cpuid_table *supported; /* what the engine can run; the guest gets no other feature */
};
const char *const *cpuid_models(void); /* NULL-terminated */
/* -EINVAL with a sentence: there is no such model or feature, the host or the engine lacks a feature, the list contradicts
   itself, or the number of CPUs is out of range. */
int must_check cpuid_build(struct cpuid_table *t, const struct cpuid_request *rq, struct error *err);
/* Fills t with the standard leaves of the host's CPU, cut to what the software engine implements. */
int must_check cpuid_soft_supported(struct cpuid_table *t, struct error *err);

bool cpuid_has(const struct cpuid_table *t, const struct cpu_feature *f);
/* What CPUID answers on processor vcpu, with its APIC ID and topology filled in. OSXSAVE and OSPKE follow cr4, the sizes in
   leaf Dh follow xcr0 and xss, and the APIC bit follows apic_base. A function out of range is answered as the table's vendor
   does it. out: eax ebx ecx edx. */
void cpuid_query(const struct cpuid_table *t, u32 vcpu, u64 cr4, u64 xcr0, u64 xss, u64 apic_base, u32 function, u32 index,
                 u32 out[4]);
/* True if the vendor in leaf 0 answers functions beyond the highest leaf with zeros, as AMD does. */
bool cpuid_amd_like(const struct cpuid_leaf *leaf0);
/* One bit of a leaf as the table has it (reg: 0 eax .. 3 edx); false if there is no such leaf. */
bool cpuid_bit(const struct cpuid_table *t, u32 function, u32 index, unsigned reg, unsigned bit);
const struct cpuid_leaf *cpuid_leaf_find(const struct cpuid_table *t, u32 function, u32 index);
/* Where component n (2..62) lies in an XSAVE area of the standard format, and how long it is; 0 if the guest cannot have it.
   The two legacy components have no entry: they are the first 512 bytes, and the header of 64 bytes follows. */
u32 cpuid_xsave_offset(const struct cpuid_table *t, unsigned n);
u32 cpuid_xsave_length(const struct cpuid_table *t, unsigned n);
/* For an engine's probe. t holds the raw leaves and xcr0. Drops every feature that Lodge does not give to a guest on KVM
   (soft is false) or on the software engine (soft is true), and every feature that depends on one of these. With soft, also
   adds the features that software implements on any host. */
void cpuid_restrict(struct cpuid_table *t, bool soft);
/* Adds a zeroed leaf, or finds the one that is there already. NULL: the table is full. */
struct cpuid_leaf *cpuid_leaf_add(struct cpuid_table *t, u32 function, u32 index, bool indexed);
/* What CPUID 15h or the kernel tells if measuring agrees with it, else what was measured. It is found once per process. */
u64 host_tsc_khz(void);

#endif
