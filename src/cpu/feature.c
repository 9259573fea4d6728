/* SPDX-License-Identifier: Apache-2.0 */
/*
 * feature.c - the table of the CPUID features that Lodge knows: their names in /proc/cpuinfo (and QEMU's if they differ),
 * who can give them to a guest, and what they need. Sources: Intel SDM vol. 2 CPUID; AMD APM vol. 3 app. E.
 *
 * A guest sees no feature bit that is not in this table, except the few that cpuid.c sets for a vendor or for several CPUs,
 * and those that follow the processor's state (cpuid_query.c).
 */
#include "cpu/feature.h"

#include <string.h>

#define SYS FEATURE_SYSTEM
#define HOST FEATURE_HOST
#define KVM FEATURE_KVM_ONLY
#define SOFT FEATURE_SOFT_ONLY
#define NEVER FEATURE_NEVER
#define EAX 0
#define EBX 1
#define ECX 2
#define EDX 3
#define EXT1 0x80000001u

const struct feature_entry feature_table[] = {
    /* 1:EDX */
    { { "fpu", 1, 0, EDX, 0 }, NULL, NULL, SYS },
    { { "vme", 1, 0, EDX, 1 }, NULL, NULL, NEVER },
    { { "de", 1, 0, EDX, 2 }, NULL, NULL, SYS },
    { { "pse", 1, 0, EDX, 3 }, NULL, NULL, SYS },
    { { "tsc", 1, 0, EDX, 4 }, NULL, NULL, SYS },
    { { "msr", 1, 0, EDX, 5 }, NULL, NULL, SYS },
    { { "pae", 1, 0, EDX, 6 }, NULL, NULL, SYS },
    { { "mce", 1, 0, EDX, 7 }, NULL, NULL, SYS },
    { { "cx8", 1, 0, EDX, 8 }, NULL, NULL, SYS },
    { { "apic", 1, 0, EDX, 9 }, NULL, NULL, SYS },
    { { "sep", 1, 0, EDX, 11 }, NULL, NULL, SYS },
    { { "mtrr", 1, 0, EDX, 12 }, NULL, NULL, SYS },
    { { "pge", 1, 0, EDX, 13 }, NULL, NULL, SYS },
    { { "mca", 1, 0, EDX, 14 }, NULL, NULL, SYS },
    { { "cmov", 1, 0, EDX, 15 }, NULL, NULL, SYS },
    { { "pat", 1, 0, EDX, 16 }, NULL, NULL, SYS },
    { { "pse36", 1, 0, EDX, 17 }, NULL, NULL, SYS },
    { { "clflush", 1, 0, EDX, 19 }, "clfsh", NULL, HOST },
    { { "ds", 1, 0, EDX, 21 }, NULL, NULL, NEVER },
    { { "acpi", 1, 0, EDX, 22 }, NULL, NULL, NEVER },
    { { "mmx", 1, 0, EDX, 23 }, NULL, "fpu", HOST },
    { { "fxsr", 1, 0, EDX, 24 }, NULL, "fpu", HOST },
    { { "sse", 1, 0, EDX, 25 }, NULL, "fxsr", HOST },
    { { "sse2", 1, 0, EDX, 26 }, NULL, "sse", HOST },
    { { "tm", 1, 0, EDX, 29 }, NULL, NULL, NEVER },
    /* 1:ECX */
    { { "pni", 1, 0, ECX, 0 }, "sse3", "sse2", HOST },
    { { "pclmulqdq", 1, 0, ECX, 1 }, "pclmuldq", "sse2", HOST },
    { { "monitor", 1, 0, ECX, 3 }, "mwait", NULL, NEVER },
    { { "vmx", 1, 0, ECX, 5 }, NULL, NULL, NEVER },
    { { "smx", 1, 0, ECX, 6 }, NULL, NULL, NEVER },
    { { "ssse3", 1, 0, ECX, 9 }, NULL, "pni", HOST },
    { { "fma", 1, 0, ECX, 12 }, NULL, "avx", HOST },
    { { "cx16", 1, 0, ECX, 13 }, NULL, NULL, SYS },
    { { "pcid", 1, 0, ECX, 17 }, NULL, NULL, SYS },
    { { "sse4_1", 1, 0, ECX, 19 }, "sse4.1", "ssse3", HOST },
    { { "sse4_2", 1, 0, ECX, 20 }, "sse4.2", "sse4_1", HOST },
    { { "x2apic", 1, 0, ECX, 21 }, NULL, "apic", SYS },
    { { "movbe", 1, 0, ECX, 22 }, NULL, NULL, HOST },
    { { "popcnt", 1, 0, ECX, 23 }, NULL, NULL, HOST },
    { { "tsc_deadline_timer", 1, 0, ECX, 24 }, "tsc-deadline", "apic", SYS },
    { { "aes", 1, 0, ECX, 25 }, NULL, "sse2", HOST },
    { { "xsave", 1, 0, ECX, 26 }, NULL, "fxsr", HOST },
    { { "avx", 1, 0, ECX, 28 }, NULL, "xsave", HOST },
    { { "f16c", 1, 0, ECX, 29 }, NULL, "avx", HOST },
    { { "rdrand", 1, 0, ECX, 30 }, NULL, NULL, HOST },
    { { "hypervisor", 1, 0, ECX, 31 }, NULL, NULL, SYS },
    /* 6:EAX */
    { { "arat", 6, 0, EAX, 2 }, NULL, "apic", SYS },
    /* 7.0:EBX */
    { { "fsgsbase", 7, 0, EBX, 0 }, NULL, "lm", SYS },
    { { "tsc_adjust", 7, 0, EBX, 1 }, NULL, "tsc", SYS },
    { { "sgx", 7, 0, EBX, 2 }, NULL, NULL, NEVER },
    { { "bmi1", 7, 0, EBX, 3 }, NULL, NULL, HOST },
    { { "hle", 7, 0, EBX, 4 }, NULL, NULL, NEVER },
    { { "avx2", 7, 0, EBX, 5 }, NULL, "avx", HOST },
    { { "smep", 7, 0, EBX, 7 }, NULL, NULL, SYS },
    { { "bmi2", 7, 0, EBX, 8 }, NULL, NULL, HOST },
    { { "erms", 7, 0, EBX, 9 }, NULL, NULL, HOST },
    { { "invpcid", 7, 0, EBX, 10 }, NULL, NULL, SYS },
    { { "rtm", 7, 0, EBX, 11 }, NULL, NULL, NEVER },
    { { "mpx", 7, 0, EBX, 14 }, NULL, NULL, NEVER },
    { { "avx512f", 7, 0, EBX, 16 }, NULL, "avx2", HOST },
    { { "avx512dq", 7, 0, EBX, 17 }, NULL, "avx512f", HOST },
    { { "rdseed", 7, 0, EBX, 18 }, NULL, NULL, HOST },
    { { "adx", 7, 0, EBX, 19 }, NULL, NULL, HOST },
    { { "smap", 7, 0, EBX, 20 }, NULL, NULL, SYS },
    { { "avx512ifma", 7, 0, EBX, 21 }, "avx512-ifma", "avx512f", HOST },
    { { "clflushopt", 7, 0, EBX, 23 }, NULL, "clflush", HOST },
    { { "clwb", 7, 0, EBX, 24 }, NULL, "clflush", HOST },
    { { "intel_pt", 7, 0, EBX, 25 }, "intel-pt", NULL, NEVER },
    { { "avx512cd", 7, 0, EBX, 28 }, NULL, "avx512f", HOST },
    { { "sha_ni", 7, 0, EBX, 29 }, "sha-ni", "sse2", HOST },
    { { "avx512bw", 7, 0, EBX, 30 }, NULL, "avx512f", HOST },
    { { "avx512vl", 7, 0, EBX, 31 }, NULL, "avx512f", HOST },
    /* 7.0:ECX */
    { { "avx512vbmi", 7, 0, ECX, 1 }, NULL, "avx512bw", HOST },
    { { "umip", 7, 0, ECX, 2 }, NULL, NULL, SYS },
    { { "pku", 7, 0, ECX, 3 }, NULL, "xsave", SYS },
    { { "waitpkg", 7, 0, ECX, 5 }, NULL, NULL, NEVER },
    { { "avx512_vbmi2", 7, 0, ECX, 6 }, "avx512vbmi2", "avx512bw", HOST },
    { { "shstk", 7, 0, ECX, 7 }, NULL, NULL, NEVER },
    { { "gfni", 7, 0, ECX, 8 }, NULL, "sse2", HOST },
    { { "vaes", 7, 0, ECX, 9 }, NULL, "avx", HOST },
    { { "vpclmulqdq", 7, 0, ECX, 10 }, NULL, "avx", HOST },
    { { "avx512_vnni", 7, 0, ECX, 11 }, "avx512vnni", "avx512f", HOST },
    { { "avx512_bitalg", 7, 0, ECX, 12 }, "avx512bitalg", "avx512bw", HOST },
    { { "avx512_vpopcntdq", 7, 0, ECX, 14 }, "avx512-vpopcntdq", "avx512f", HOST },
    { { "la57", 7, 0, ECX, 16 }, NULL, NULL, NEVER },
    { { "rdpid", 7, 0, ECX, 22 }, NULL, NULL, HOST },
    { { "cldemote", 7, 0, ECX, 25 }, NULL, NULL, NEVER },
    { { "movdiri", 7, 0, ECX, 27 }, NULL, NULL, NEVER },
    { { "movdir64b", 7, 0, ECX, 28 }, NULL, NULL, NEVER },
    { { "pks", 7, 0, ECX, 31 }, NULL, "lm", SYS },
    /* 7.0:EDX */
    { { "fsrm", 7, 0, EDX, 4 }, NULL, "erms", HOST },
    { { "avx512_vp2intersect", 7, 0, EDX, 8 }, "avx512-vp2intersect", "avx512f", HOST },
    { { "md_clear", 7, 0, EDX, 10 }, "md-clear", NULL, KVM },
    { { "serialize", 7, 0, EDX, 14 }, NULL, NULL, NEVER },
    { { "ibt", 7, 0, EDX, 20 }, NULL, NULL, NEVER },
    { { "amx_bf16", 7, 0, EDX, 22 }, "amx-bf16", NULL, NEVER },
    { { "avx512_fp16", 7, 0, EDX, 23 }, "avx512-fp16", "avx512bw", HOST },
    { { "amx_tile", 7, 0, EDX, 24 }, "amx-tile", NULL, NEVER },
    { { "amx_int8", 7, 0, EDX, 25 }, "amx-int8", NULL, NEVER },
    { { "spec_ctrl", 7, 0, EDX, 26 }, "spec-ctrl", NULL, SYS },
    { { "intel_stibp", 7, 0, EDX, 27 }, "stibp", NULL, KVM },
    { { "arch_capabilities", 7, 0, EDX, 29 }, "arch-capabilities", "spec_ctrl", SOFT },
    { { "spec_ctrl_ssbd", 7, 0, EDX, 31 }, "ssbd", NULL, KVM },
    /* 7.1:EAX */
    { { "avx_vnni", 7, 1, EAX, 4 }, "avx-vnni", "avx2", HOST },
    { { "avx512_bf16", 7, 1, EAX, 5 }, "avx512-bf16", "avx512f", HOST },
    { { "fzrm", 7, 1, EAX, 10 }, NULL, "erms", HOST },
    { { "fsrs", 7, 1, EAX, 11 }, NULL, "erms", HOST },
    { { "fsrc", 7, 1, EAX, 12 }, NULL, "erms", HOST },
    /* D.1:EAX */
    { { "xsaveopt", 0xd, 1, EAX, 0 }, NULL, "xsave", HOST },
    { { "xsavec", 0xd, 1, EAX, 1 }, NULL, "xsave", HOST },
    { { "xgetbv1", 0xd, 1, EAX, 2 }, NULL, "xsave", HOST },
    { { "xsaves", 0xd, 1, EAX, 3 }, NULL, "xsave", NEVER },
    /* 80000001:EDX (cpuid.c copies bits of 1:EDX to it for AMD) */
    { { "syscall", EXT1, 0, EDX, 11 }, NULL, NULL, SYS },
    { { "nx", EXT1, 0, EDX, 20 }, NULL, "pae", SYS },
    { { "mmxext", EXT1, 0, EDX, 22 }, NULL, "sse", HOST },
    { { "fxsr_opt", EXT1, 0, EDX, 25 }, "fxsr-opt", NULL, NEVER },
    { { "pdpe1gb", EXT1, 0, EDX, 26 }, NULL, "lm", SYS },
    { { "rdtscp", EXT1, 0, EDX, 27 }, NULL, "tsc", SYS },
    { { "lm", EXT1, 0, EDX, 29 }, NULL, "pae", SYS },
    { { "3dnowext", EXT1, 0, EDX, 30 }, NULL, NULL, NEVER },
    { { "3dnow", EXT1, 0, EDX, 31 }, NULL, NULL, NEVER },
    /* 80000001:ECX */
    { { "lahf_lm", EXT1, 0, ECX, 0 }, "lahf-lm", "lm", SYS },
    { { "svm", EXT1, 0, ECX, 2 }, NULL, NULL, NEVER },
    { { "cr8_legacy", EXT1, 0, ECX, 4 }, "cr8legacy", NULL, NEVER },
    { { "abm", EXT1, 0, ECX, 5 }, "lzcnt", NULL, HOST },
    { { "sse4a", EXT1, 0, ECX, 6 }, NULL, "pni", HOST },
    { { "misalignsse", EXT1, 0, ECX, 7 }, NULL, "sse", NEVER },
    { { "3dnowprefetch", EXT1, 0, ECX, 8 }, "3dnow-prefetch", NULL, HOST },
    { { "osvw", EXT1, 0, ECX, 9 }, NULL, NULL, NEVER },
    { { "xop", EXT1, 0, ECX, 11 }, NULL, NULL, NEVER },
    { { "fma4", EXT1, 0, ECX, 16 }, NULL, NULL, NEVER },
    { { "tbm", EXT1, 0, ECX, 21 }, NULL, NULL, NEVER },
    /* 80000007:EDX. Two names of /proc/cpuinfo follow from this one bit. */
    { { "nonstop_tsc", 0x80000007, 0, EDX, 8 }, "invtsc", "tsc", SYS },
    { { "constant_tsc", 0x80000007, 0, EDX, 8 }, NULL, "tsc", SYS },
    /* 80000008:EBX */
    { { "clzero", 0x80000008, 0, EBX, 0 }, NULL, NULL, NEVER },
    { { "xsaveerptr", 0x80000008, 0, EBX, 2 }, NULL, "xsave", HOST },
    { { "amd_ibpb", 0x80000008, 0, EBX, 12 }, "ibpb", NULL, KVM },
    { { "amd_ibrs", 0x80000008, 0, EBX, 14 }, "ibrs", NULL, KVM },
    { { "amd_stibp", 0x80000008, 0, EBX, 15 }, "amd-stibp", NULL, KVM },
    { { "amd_ssbd", 0x80000008, 0, EBX, 24 }, "amd-ssbd", NULL, KVM },
    { { "btc_no", 0x80000008, 0, EBX, 29 }, "btc-no", NULL, SYS },
    /* 80000021:EAX */
    { { "lfence_rdtsc", 0x80000021, 0, EAX, 2 }, "lfence-always-serializing", NULL, HOST },
    { { "null_seg_clr_base", 0x80000021, 0, EAX, 6 }, "null-sel-clr-base", NULL, SYS },
    { { "srso_no", 0x80000021, 0, EAX, 29 }, "srso-no", NULL, SYS },
    /* 40000001:EAX, KVM's paravirtual features (linux/Documentation/virt/kvm/x86/cpuid.rst) */
    { { "kvm_nopiodelay", 0x40000001, 0, EAX, 1 }, "kvm-nopiodelay", NULL, SYS },
    { { "kvmclock", 0x40000001, 0, EAX, 3 }, NULL, "tsc", SYS },
    { { "kvmclock_stable", 0x40000001, 0, EAX, 24 }, "kvmclock-stable-bit", "kvmclock", SYS },
};
const u32 feature_count = ARRAY_SIZE(feature_table);

const struct cpu_feature *cpu_feature_find(const char *name)
{
    for (u32 i = 0; i < feature_count; i++) {
        const struct feature_entry *e = &feature_table[i];
        if (!strcmp(name, e->f.name) || (e->alias && !strcmp(name, e->alias)))
            return &e->f;
    }
    return NULL;
}

const struct cpu_feature *cpu_feature_at(u32 i)
{
    return i < feature_count ? &feature_table[i].f : NULL;
}

bool cpuid_has(const struct cpuid_table *t, const struct cpu_feature *f)
{
    return cpuid_bit(t, f->function, f->index, f->reg, f->bit);
}

void feature_set(struct cpuid_table *t, const struct cpu_feature *f, bool on)
{
    struct cpuid_leaf *l = cpuid_leaf_add(t, f->function, f->index, f->function == 7 || f->function == 0xd);
    if (!l)
        return;
    u32 *r = leaf_reg(l, f->reg);
    *r = on ? *r | (u32)BIT(f->bit) : *r & ~(u32)BIT(f->bit);
}

void feature_close(struct cpuid_table *t)
{
    bool again = true;
    while (again) { /* each round clears at least one bit, so this ends */
        again = false;
        for (u32 i = 0; i < feature_count; i++) {
            const struct feature_entry *e = &feature_table[i];
            if (!e->needs || !cpuid_has(t, &e->f) || cpuid_has(t, cpu_feature_find(e->needs)))
                continue;
            feature_set(t, &e->f, false);
            again = true;
        }
    }
}
