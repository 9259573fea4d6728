/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feature.h - inside cpu/: who can give a feature to a guest, and what it needs.
 */
#ifndef LODGE_CPU_FEATURE_H
#define LODGE_CPU_FEATURE_H

#include "cpu/cpuid.h"

enum feature_kind {
    FEATURE_SYSTEM,   /* software implements it on any host; KVM where it says so */
    FEATURE_HOST,     /* executed by the host's own unit: the host must have it */
    FEATURE_KVM_ONLY, /* acts on the silicon's leaks: without effect in software */
    FEATURE_SOFT_ONLY, /* what it says is so only in software */
    FEATURE_NEVER,    /* known by name, given to no guest */
};

struct feature_entry {
    struct cpu_feature f;
    const char *alias; /* QEMU's or another usual name, or NULL */
    const char *needs; /* another feature without which this one makes no sense, or NULL */
    u8 kind;           /* enum feature_kind */
};

extern const struct feature_entry feature_table[];
extern const u32 feature_count;

static inline const struct feature_entry *feature_entry(const struct cpu_feature *f)
{
    return container_of(f, const struct feature_entry, f);
}

/* One bit of a register by number, as struct cpu_feature counts them. */
static inline u32 *leaf_reg(struct cpuid_leaf *l, unsigned reg)
{
    return reg == 0 ? &l->eax : reg == 1 ? &l->ebx : reg == 2 ? &l->ecx : &l->edx;
}

/* What features of table must vanish because another is absent: clears them. */
void feature_close(struct cpuid_table *t);
void feature_set(struct cpuid_table *t, const struct cpu_feature *f, bool on);

#endif
