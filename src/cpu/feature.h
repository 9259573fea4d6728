/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feature.h - shared inside cpu/: who can give a feature to a guest, and what the feature needs.
 */
#ifndef LODGE_CPU_FEATURE_H
#define LODGE_CPU_FEATURE_H

#include "cpu/cpuid.h"

enum feature_kind {
    FEATURE_SYSTEM,   /* the software engine implements it on any host; KVM gives it if it says that it can */
    FEATURE_HOST,     /* the host's own unit executes it, so the host must have it */
    FEATURE_KVM_ONLY, /* it concerns what the processor leaks, and has no effect on the software engine */
    FEATURE_SOFT_ONLY, /* what it promises is true on the software engine only */
    FEATURE_NEVER,    /* its name is known, but no guest gets it */
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

/* A register of a leaf by its number, as struct cpu_feature has it. */
static inline u32 *leaf_reg(struct cpuid_leaf *l, unsigned reg)
{
    return reg == 0 ? &l->eax : reg == 1 ? &l->ebx : reg == 2 ? &l->ecx : &l->edx;
}

/* Clears the features of t that need another one which t does not have. */
void feature_close(struct cpuid_table *t);
void feature_set(struct cpuid_table *t, const struct cpu_feature *f, bool on);

#endif
