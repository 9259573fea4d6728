/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpuid.c - makes the leaves that a guest reads, from the name of a model and what the engine supports. Sources: Intel SDM
 * vol. 2 CPUID; AMD APM vol. 3 app. E; for the hypervisor's leaves linux/Documentation/virt/kvm/x86/cpuid.rst.
 *
 * A guest has one socket. Each CPU is a core with one thread, and its x2APIC ID is its number.
 */
#include "cpu/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/feature.h"

enum { MAX_BASIC = 0x1f, GUEST_PHYS_BITS = 40, GUEST_LIN_BITS = 48 };
#define MAX_HYPERVISOR 0x40000010u
#define MAX_EXTENDED 0x80000021u
#define APIC_HZ 1000000000u /* the timers of KVM's LAPIC and of ours count nanoseconds */

/* ---- the table ---------------------------------------------------------- */

const struct cpuid_leaf *cpuid_leaf_find(const struct cpuid_table *t, u32 function, u32 index)
{
    for (u32 i = 0; i < t->n && i < CPUID_MAX_LEAVES; i++) {
        const struct cpuid_leaf *l = &t->leaf[i];
        if (l->function == function && (!l->indexed || l->index == index))
            return l;
    }
    return NULL;
}

struct cpuid_leaf *cpuid_leaf_add(struct cpuid_table *t, u32 function, u32 index, bool indexed)
{
    struct cpuid_leaf *l = (struct cpuid_leaf *)(uintptr_t)cpuid_leaf_find(t, function, index);
    if (l)
        return l;
    if (t->n == CPUID_MAX_LEAVES)
        return NULL;
    l = &t->leaf[t->n++];
    *l = (struct cpuid_leaf){ .function = function, .index = index, .indexed = indexed };
    return l;
}

bool cpuid_bit(const struct cpuid_table *t, u32 function, u32 index, unsigned reg, unsigned bit)
{
    const struct cpuid_leaf *l = cpuid_leaf_find(t, function, index);
    if (!l)
        return false;
    u32 r = reg == 0 ? l->eax : reg == 1 ? l->ebx : reg == 2 ? l->ecx : l->edx;
    return r >> bit & 1;
}

static bool has(const struct cpuid_table *t, const char *name)
{
    return cpuid_has(t, cpu_feature_find(name));
}

u32 cpuid_xsave_offset(const struct cpuid_table *t, unsigned n)
{
    const struct cpuid_leaf *l = n >= 2 && n < 63 && (t->xcr0 >> n & 1) ? cpuid_leaf_find(t, 0xd, n) : NULL;
    return l ? l->ebx : 0;
}

u32 cpuid_xsave_length(const struct cpuid_table *t, unsigned n)
{
    const struct cpuid_leaf *l = n >= 2 && n < 63 && (t->xcr0 >> n & 1) ? cpuid_leaf_find(t, 0xd, n) : NULL;
    return l ? l->eax : 0;
}

/* ---- what an engine supports -------------------------------------------- */

/* The XCR0 components that the features of t use. */
static u64 xcr0_of(const struct cpuid_table *t, u64 possible)
{
    u64 x = 0;
    if (!has(t, "xsave"))
        return 1;
    x = 3;
    if (has(t, "avx"))
        x |= BIT(2);
    if (has(t, "avx512f"))
        x |= 0xe0;
    if (has(t, "pku"))
        x |= BIT(9);
    return x & (possible | 3);
}

void cpuid_restrict(struct cpuid_table *t, bool soft)
{
    bool seen[CPUID_MAX_LEAVES][4] = { { false } };
    u64 possible = t->xcr0;

    /* Registers that hold features are built again from the table of known features. The other registers of a leaf stay. */
    struct cpuid_table raw = *t;
    for (u32 i = 0; i < feature_count; i++) {
        const struct feature_entry *e = &feature_table[i];
        struct cpuid_leaf *l = cpuid_leaf_add(t, e->f.function, e->f.index, e->f.function == 7 || e->f.function == 0xd);
        if (!l)
            return;
        u32 at = (u32)(l - t->leaf);
        if (!seen[at][e->f.reg]) {
            seen[at][e->f.reg] = true;
            *leaf_reg(l, e->f.reg) = 0;
        }
    }
    for (u32 i = 0; i < feature_count; i++) {
        const struct feature_entry *e = &feature_table[i];
        bool raw_has = cpuid_has(&raw, &e->f), give = false;
        switch ((enum feature_kind)e->kind) {
        case FEATURE_SYSTEM: give = soft || raw_has; break;
        case FEATURE_HOST: give = raw_has; break;
        case FEATURE_KVM_ONLY: give = !soft && raw_has; break;
        case FEATURE_SOFT_ONLY: give = soft; break;
        case FEATURE_NEVER: break;
        }
        if (give)
            feature_set(t, &e->f, true);
    }

    /* AVX and AVX-512 are of no use if the host's operating system does not switch their registers. */
    if (!(possible & BIT(2)) || !cpuid_leaf_find(t, 0xd, 2))
        feature_set(t, cpu_feature_find("avx"), false);
    if ((possible & 0xe0) != 0xe0)
        feature_set(t, cpu_feature_find("avx512f"), false);
    feature_close(t);
    if (soft && has(t, "pku") && !(possible & BIT(9))) {
        /* The host's XCR0 has no PKRU, so it exists in software only. It lies in the XSAVE area where Intel has it. No
           component of such a host reaches that place. */
        struct cpuid_leaf *l = cpuid_leaf_add(t, 0xd, 9, true);
        if (l && !l->eax) {
            l->eax = 8;
            l->ebx = 2688;
        }
        possible |= BIT(9);
        t->own_pku = true;
    } else if (!soft && !(possible & BIT(9))) {
        feature_set(t, cpu_feature_find("pku"), false);
    }
    t->xcr0 = xcr0_of(t, possible);
}

/* ---- models ------------------------------------------------------------- */

struct model {
    const char *name;
    const char *features;  /* space-separated; the engine must be able to give them. NULL: all that it can give */
    const char *vendor;    /* NULL: the host's */
    u32 signature;         /* CPUID.1:EAX; 0: the host's */
    const char *brand;
    /* Without what the software engine has and the host has not, if it is in XCR0: then programs can be executed
       directly (docs/direct-execution.md), and the VM can move to KVM here. */
    bool host_only;
};

#define F_PLATFORM "fpu de pse tsc msr pae cx8 mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 "
#define F_V1 F_PLATFORM "syscall nx lm "
#define F_V2 F_V1 "cx16 lahf_lm popcnt pni ssse3 sse4_1 sse4_2 "
#define F_V3 F_V2 "xsave avx avx2 bmi1 bmi2 f16c fma abm movbe "
#define F_V4 F_V3 "avx512f avx512bw avx512cd avx512dq avx512vl "

static const struct model models[] = {
    { "host", NULL, NULL, 0, NULL, true },
    { "max", NULL, NULL, 0, NULL, false },
    /* The levels of the x86-64 psABI. The guest has the same instructions on any host that reaches the level. */
    { "x86-64-v1", F_V1, NULL, 0, "Lodge x86-64-v1", false },
    { "x86-64-v2", F_V2, NULL, 0, "Lodge x86-64-v2", false },
    { "x86-64-v3", F_V3, NULL, 0, "Lodge x86-64-v3", false },
    { "x86-64-v4", F_V4, NULL, 0, "Lodge x86-64-v4", false },
    { "qemu64", F_V1 "pni cx16 lahf_lm ", "AuthenticAMD", 0x60fb1, "Lodge qemu64", false },
    { "Nehalem", F_V2, "GenuineIntel", 0x106a3, "Intel Core i7 9xx (Nehalem class, Lodge)", false },
    { "Haswell", F_V3 "aes pclmulqdq rdrand erms xsaveopt ", "GenuineIntel", 0x306c4,
      "Intel Core Processor (Haswell class, Lodge)", false },
};

const char *const *cpuid_models(void)
{
    static const char *const names[] = { "host", "max", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4",
                                         "qemu64", "Nehalem", "Haswell", NULL };
    return names;
}

static const struct model *find_model(const char *name)
{
    for (u32 i = 0; i < ARRAY_SIZE(models); i++) {
        if (!strcmp(models[i].name, name))
            return &models[i];
    }
    return NULL;
}

static const char *next_word(const char *s, const char *separators, char *word, size_t size)
{
    s += strspn(s, separators);
    size_t n = strcspn(s, separators);
    snprintf(word, size, "%.*s", (int)MIN(n, size - 1), s);
    return s + n;
}

/* The features that the guest shall have. The table holds registers with features only. */
struct wish {
    struct cpuid_table has;
    const struct cpuid_table *supported;
};

static int want_feature(struct wish *w, const struct cpu_feature *f, const char *asked, struct error *err)
{
    for (unsigned depth = 0; f && depth < 8; depth++) {
        if (!cpuid_has(w->supported, f)) {
            if (!strcmp(f->name, asked))
                return error_set(err, EINVAL, "neither this host nor the engine can give a guest the CPU feature '%s'; "
                                 "leave it out, or see `lodge doctor` for those there are", asked);
            return error_set(err, EINVAL, "the CPU feature '%s' needs '%s', which this host and engine cannot give", asked,
                             f->name);
        }
        feature_set(&w->has, f, true);
        const char *needs = feature_entry(f)->needs;
        f = needs ? cpu_feature_find(needs) : NULL;
    }
    return 0;
}

static int apply_model(struct wish *w, const struct model *m, struct error *err)
{
    char word[40];

    for (u32 i = 0; i < feature_count; i++) {
        const struct feature_entry *e = &feature_table[i];
        if (cpuid_has(w->supported, &e->f) &&
            (!m->features || e->kind == FEATURE_SYSTEM || e->kind == FEATURE_SOFT_ONLY) &&
            !(m->host_only && w->supported->own_pku && &e->f == cpu_feature_find("pku")))
            feature_set(&w->has, &e->f, true);
    }
    if (!m->features)
        return 0;
    for (const char *s = next_word(m->features, " ", word, sizeof(word)); word[0];
         s = next_word(s, " ", word, sizeof(word))) {
        const struct cpu_feature *f = cpu_feature_find(word);
        if (!f || !cpuid_has(w->supported, f))
            return error_set(err, EINVAL, "this host cannot run the CPU model '%s': it lacks '%s'; "
                             "choose a lower level, or the CPU model host", m->name, word);
        feature_set(&w->has, f, true);
    }
    return 0;
}

static int apply_list(struct wish *w, const char *list, struct error *err)
{
    char word[40];
    const char *s;

    for (int pass = 0; pass < 2; pass++) { /* adds first and then removes, so the order in the list does not matter */
        for (s = next_word(list, ",", word, sizeof(word)); word[0]; s = next_word(s, ",", word, sizeof(word))) {
            if (word[0] != '+' && word[0] != '-')
                return error_set(err, EINVAL, "CPU feature '%s' needs a + or - before it", word);
            const struct cpu_feature *f = cpu_feature_find(word + 1);
            if (!f)
                return error_set(err, EINVAL, "there is no CPU feature '%s'; the names are those of /proc/cpuinfo", word + 1);
            if (pass == 0 && word[0] == '+') {
                int r = want_feature(w, f, f->name, err);
                if (r)
                    return r;
            } else if (pass == 1 && word[0] == '-') {
                feature_set(&w->has, f, false);
            }
        }
    }
    feature_close(&w->has);
    for (s = next_word(list, ",", word, sizeof(word)); word[0]; s = next_word(s, ",", word, sizeof(word))) {
        if (word[0] == '+' && !cpuid_has(&w->has, cpu_feature_find(word + 1)))
            return error_set(err, EINVAL, "the CPU features contradict each other: '%s' is asked for, and it or what it "
                             "needs is taken away", word);
    }
    return 0;
}

/* ---- leaves ------------------------------------------------------------- */

static bool vendor_is(const struct cpuid_leaf *l, const char *name)
{
    char v[12];
    memcpy(v, &l->ebx, 4);
    memcpy(v + 4, &l->edx, 4);
    memcpy(v + 8, &l->ecx, 4);
    return !memcmp(v, name, 12);
}

bool cpuid_amd_like(const struct cpuid_leaf *leaf0)
{
    return vendor_is(leaf0, "AuthenticAMD") || vendor_is(leaf0, "HygonGenuine");
}

static void set_vendor(struct cpuid_leaf *l, const char *name)
{
    memcpy(&l->ebx, name, 4);
    memcpy(&l->edx, name + 4, 4);
    memcpy(&l->ecx, name + 8, 4);
}

/* How many bits of an APIC ID are needed to number n things. */
static u32 id_bits(u32 n)
{
    u32 bits = 0;
    while ((1u << bits) < n)
        bits++;
    return bits;
}

static struct cpuid_leaf *put(struct cpuid_table *t, u32 function, u32 index, bool indexed, u32 eax, u32 ebx, u32 ecx,
                              u32 edx)
{
    struct cpuid_leaf *l = cpuid_leaf_add(t, function, index, indexed);
    if (!l)
        return NULL;
    l->eax = eax;
    l->ebx = ebx;
    l->ecx = ecx;
    l->edx = edx;
    return l;
}

struct cache {
    u8 type, level; /* 1 data, 2 instruction, 3 unified */
    u32 ways, line, sets;
};

/* Finds the host's caches, since the guest's memory accesses go through them on either engine. If the host's are not known,
   these are ordinary ones. Returns how many there are. */
static u32 host_caches(const struct cpuid_table *s, struct cache out[4])
{
    static const struct cache usual[4] = { { 1, 1, 8, 64, 64 }, { 2, 1, 8, 64, 64 }, { 3, 2, 8, 64, 1024 },
                                           { 3, 3, 16, 64, 16384 } };
    static const u32 from[2] = { 4, 0x8000001d };
    for (u32 k = 0; k < 2; k++) {
        u32 n = 0;
        for (u32 i = 0; i < 4; i++) {
            const struct cpuid_leaf *l = cpuid_leaf_find(s, from[k], i);
            if (!l || (l->eax & 31) == 0 || (l->eax & 31) > 3)
                break;
            out[n++] = (struct cache){ .type = l->eax & 31, .level = l->eax >> 5 & 7, .ways = (l->ebx >> 22) + 1,
                                       .line = (l->ebx & 0xfff) + 1, .sets = l->ecx + 1 };
        }
        if (n)
            return n;
    }
    memcpy(out, usual, sizeof(usual));
    return 4;
}

static void put_caches(struct cpuid_table *t, const struct cpuid_table *s, bool amd, u32 cpus)
{
    struct cache c[4];
    u32 n = host_caches(s, c), cores = (1u << id_bits(cpus)) - 1;

    for (u32 i = 0; i < n; i++) {
        u32 sharing = c[i].level >= 3 ? MIN(cpus - 1, 0xfffu) : 0;
        u32 eax = c[i].type | (u32)c[i].level << 5 | 1u << 8 /* self-initializing */ | sharing << 14;
        u32 ebx = (c[i].line - 1) | (c[i].ways - 1) << 22;
        put(t, 4, i, true, amd ? 0 : eax | MIN(cores, 63u) << 26, amd ? 0 : ebx, amd ? 0 : c[i].sets - 1, 0);
        if (amd)
            put(t, 0x8000001d, i, true, eax, ebx, c[i].sets - 1, c[i].level == 3 ? 1 : c[i].level == 2 ? 2 : 0);
    }
    put(t, 4, n, true, 0, 0, 0, 0);
    if (amd)
        put(t, 0x8000001d, n, true, 0, 0, 0, 0);
}

static void put_brand(struct cpuid_table *t, const struct cpuid_table *s, const struct model *m)
{
    char brand[49] = { 0 };

    if (m->brand) {
        snprintf(brand, sizeof(brand), "%s", m->brand);
    } else {
        for (u32 i = 0; i < 3; i++) {
            const struct cpuid_leaf *l = cpuid_leaf_find(s, 0x80000002 + i, 0);
            if (l)
                memcpy(brand + 16 * i, &l->eax, 16); /* eax ebx ecx edx lie in order */
        }
        size_t n = strlen(brand);
        while (n && brand[n - 1] == ' ')
            n--;
        if (n == 0)
            n = (size_t)snprintf(brand, sizeof(brand), "x86-64 processor");
        if (n + 8 < sizeof(brand))
            snprintf(brand + n, sizeof(brand) - n, " (Lodge)"); /* tells that this is not the bare machine */
    }
    for (u32 i = 0; i < 3; i++) {
        u32 r[4];
        memcpy(r, brand + 16 * i, 16);
        put(t, 0x80000002 + i, 0, false, r[0], r[1], r[2], r[3]);
    }
}

/* The leaves of XSAVE: the components in t->xcr0 lie in the guest's area where they lie in this host's. */
static void put_xsave(struct cpuid_table *t, const struct cpuid_table *s)
{
    u32 end = 576;

    for (u32 n = 2; n < 63; n++) {
        const struct cpuid_leaf *l = t->xcr0 >> n & 1 ? cpuid_leaf_find(s, 0xd, n) : NULL;
        if (!l)
            continue;
        put(t, 0xd, n, true, l->eax, l->ebx, l->ecx & 2, 0);
        end = MAX(end, l->eax + l->ebx);
    }
    put(t, 0xd, 0, true, (u32)t->xcr0, end, end, (u32)(t->xcr0 >> 32));
}

static u32 copied(const struct cpuid_table *s, u32 function, unsigned reg)
{
    const struct cpuid_leaf *l = cpuid_leaf_find(s, function, 0);
    return !l ? 0 : reg == 0 ? l->eax : reg == 1 ? l->ebx : reg == 2 ? l->ecx : l->edx;
}

static void put_all(struct cpuid_table *t, const struct cpuid_table *s, const struct model *m, u32 cpus)
{
    struct cpuid_leaf *l = put(t, 0, 0, false, MAX_BASIC, 0, 0, 0);
    const struct cpuid_leaf *s0 = cpuid_leaf_find(s, 0, 0);
    u32 signature = m->signature ? m->signature : copied(s, 1, 0), bits = id_bits(cpus);
    u64 khz = t->tsc_khz;

    set_vendor(l, "GenuineIntel");
    if (m->vendor)
        set_vendor(l, m->vendor);
    else if (s0)
        l->ebx = s0->ebx, l->ecx = s0->ecx, l->edx = s0->edx;
    bool amd = cpuid_amd_like(l);
    put(t, 0x80000000, 0, false, MAX_EXTENDED, l->ebx, l->ecx, l->edx);

    l = cpuid_leaf_add(t, 1, 0, false);
    l->eax = signature;
    l->ebx = (64 / 8) << 8 | (1u << bits) << 16; /* the CLFLUSH line; how many APIC IDs the package has */
    if (cpus > 255)
        l->ebx |= 0xffu << 16;
    if (cpus > 1)
        l->edx |= BIT(28); /* HTT: the number of APIC IDs is valid */

    if (!amd)
        put(t, 2, 0, false, 0x0000ff01, 0, 0, 0); /* FFh: the caches are in leaf 4 */
    put_caches(t, s, amd, cpus);
    put(t, 5, 0, false, 0, 0, 0, 0);
    cpuid_leaf_add(t, 6, 0, false);
    l = cpuid_leaf_add(t, 7, 0, true);
    l->eax = 1; /* highest subleaf */
    cpuid_leaf_add(t, 7, 1, true);
    put(t, 0xa, 0, false, 0, 0, 0, 0); /* no performance monitoring */
    for (u32 f = 0xb; f <= 0x1f; f += 0x1f - 0xb) {
        put(t, f, 0, true, 0, 1, 0 | 1 << 8, 0);
        put(t, f, 1, true, bits, cpus, 1 | 2 << 8, 0);
        put(t, f, 2, true, 0, 0, 2, 0);
    }
    if (has(t, "xsave"))
        put_xsave(t, s);
    if (khz) {
        /* The TSC's frequency is crystal * ebx / eax. The LAPIC timer counts the crystal, too. */
        put(t, 0x15, 0, false, 1000000, (u32)khz, APIC_HZ, 0);
        put(t, 0x16, 0, false, (u32)((khz + 500) / 1000), (u32)((khz + 500) / 1000), 100, 0);
    }

    put(t, 0x40000000, 0, false, MAX_HYPERVISOR, 0x4b4d564b, 0x564b4d56, 0x4d); /* "KVMKVMKVM\0\0\0" */
    cpuid_leaf_add(t, 0x40000001, 0, false);
    put(t, 0x40000010, 0, false, (u32)khz, APIC_HZ / 1000, 0, 0);

    l = cpuid_leaf_add(t, 0x80000001, 0, false);
    if (amd) {
        u32 one = cpuid_leaf_find(t, 1, 0)->edx;
        l->eax = signature;
        l->edx |= one & 0x0183f3ff; /* AMD repeats these bits of 1:EDX */
        l->ecx |= BIT(22); /* topology extensions: 8000001Dh, 1Eh */
        if (cpus > 1)
            l->ecx |= BIT(1); /* CmpLegacy */
    }
    put_brand(t, s, m);
    if (amd)
        put(t, 0x80000005, 0, false, copied(s, 0x80000005, 0), copied(s, 0x80000005, 1), copied(s, 0x80000005, 2),
            copied(s, 0x80000005, 3));
    put(t, 0x80000006, 0, false, amd ? copied(s, 0x80000006, 0) : 0, amd ? copied(s, 0x80000006, 1) : 0,
        copied(s, 0x80000006, 2), amd ? copied(s, 0x80000006, 3) : 0);
    cpuid_leaf_add(t, 0x80000007, 0, false);
    l = cpuid_leaf_add(t, 0x80000008, 0, false);
    l->eax = t->phys_bits | (u32)t->lin_bits << 8;
    if (amd)
        l->ecx = (cpus - 1) | bits << 12;
    if (amd)
        put(t, 0x8000001e, 0, false, 0, 0, 0, 0);
    l = cpuid_leaf_add(t, 0x80000021, 0, false);
    if (!amd)
        l->eax = 0;
}

int cpuid_build(struct cpuid_table *t, const struct cpuid_request *rq, struct error *err)
{
    const char *name = rq->model && rq->model[0] ? rq->model : "host";
    const struct model *m = find_model(name);

    if (!m)
        return error_set(err, EINVAL, "there is no CPU model '%s'; there are host, max, x86-64-v1 to x86-64-v4, qemu64, "
                         "Nehalem, Haswell", name);
    if (rq->cpus < 1 || rq->cpus > 255)
        return error_set(err, EINVAL, "a VM has 1 to 255 CPUs, not %u", rq->cpus);

    struct wish *w = calloc(1, sizeof(*w));
    if (!w)
        return error_set(err, ENOMEM, "out of memory");
    w->supported = rq->supported;
    int r = apply_model(w, m, err);
    if (!r && rq->features)
        r = apply_list(w, rq->features, err);
    if (!r) {
        feature_close(&w->has);
        *t = w->has;
        t->cpus = rq->cpus;
        t->tsc_khz = rq->supported->tsc_khz ? rq->supported->tsc_khz : host_tsc_khz();
        t->phys_bits = MIN(rq->supported->phys_bits ? rq->supported->phys_bits : GUEST_PHYS_BITS, GUEST_PHYS_BITS);
        t->lin_bits = GUEST_LIN_BITS;
        t->xcr0 = xcr0_of(t, rq->supported->xcr0);
        put_all(t, rq->supported, m, rq->cpus);
        if (t->n >= CPUID_MAX_LEAVES)
            r = error_set(err, ENOSPC, "too many CPUID leaves");
    }
    free(w);
    return r;
}
