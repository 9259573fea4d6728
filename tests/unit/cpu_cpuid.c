/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu_cpuid.c - CPU models against made-up hosts: what a guest is told, what is
 * refused and with which words, and the bits that depend on CR4, XCR0 and the CPU's number.
 */
#include "test.h"

#include "cpu/cpu.h"
#include "cpu/cpuid.h"

static bool has(const struct cpuid_table *t, const char *name)
{
    const struct cpu_feature *f = cpu_feature_find(name);
    if (!f)
        test_fail(__FILE__, __LINE__, "no feature %s", name);
    return f && cpuid_has(t, f);
}

static void raw(struct cpuid_table *t, u32 fn, u32 idx, bool indexed, u32 a, u32 b, u32 c, u32 d)
{
    struct cpuid_leaf *l = cpuid_leaf_add(t, fn, idx, indexed);
    l->eax = a, l->ebx = b, l->ecx = c, l->edx = d;
}

/* An Intel host with everything up to AVX-512 and much that guests must not see. */
static void big_host(struct cpuid_table *t)
{
    memset(t, 0, sizeof(*t));
    raw(t, 0, 0, false, 0x16, 0x756e6547, 0x6c65746e, 0x49656e69);
    raw(t, 1, 0, false, 0x50657, 0, ~0u, ~0u);
    raw(t, 7, 0, true, 1, ~0u, ~0u, ~0u);
    raw(t, 7, 1, true, ~0u, ~0u, ~0u, ~0u);
    raw(t, 0xd, 0, true, 0x2e7, 2696, 2696, 0);
    raw(t, 0xd, 1, true, 0xf, 0, 0, 0);
    raw(t, 0xd, 2, true, 256, 576, 0, 0);
    raw(t, 0xd, 5, true, 64, 1088, 0, 0);
    raw(t, 0xd, 6, true, 512, 1152, 0, 0);
    raw(t, 0xd, 7, true, 1024, 1664, 0, 0);
    raw(t, 0xd, 9, true, 8, 2688, 0, 0);
    raw(t, 0x80000001, 0, false, 0, 0, ~0u, ~0u);
    t->xcr0 = 0x2e7;
    t->tsc_khz = 2500000;
}

static void small_host(struct cpuid_table *t)
{
    big_host(t);
    cpuid_leaf_add(t, 1, 0, false)->ecx = 0x80000001; /* SSE3 and no more */
    cpuid_leaf_add(t, 7, 0, true)->ebx = 0;
    cpuid_leaf_add(t, 7, 0, true)->ecx = 0;
    t->xcr0 = 3;
}

static int build(struct cpuid_table *t, const struct cpuid_table *s, const char *model, const char *features, u32 cpus,
                 struct error *err)
{
    struct cpuid_request rq = { model, features, cpus, s };
    memset(t, 0, sizeof(*t));
    return cpuid_build(t, &rq, err);
}

TEST(names)
{
    CHECK(cpu_feature_find("sse3") == cpu_feature_find("pni"));
    CHECK(cpu_feature_find("nonsense") == NULL);
    for (u32 i = 0; cpu_feature_at(i); i++) {
        const struct cpu_feature *f = cpu_feature_at(i);
        CHECK(cpu_feature_find(f->name) == f);
        CHECK(f->reg < 4 && f->bit < 32);
    }
}

TEST(restrict_soft_and_kvm)
{
    struct cpuid_table t;
    static const char *const never[] = { "vmx", "monitor", "xsaves", "mpx", "la57", "shstk", "amx_tile", "rtm", "svm",
                                         "3dnow", "vme" };
    big_host(&t);
    cpuid_restrict(&t, true);
    for (u32 i = 0; i < ARRAY_SIZE(never); i++)
        CHECK(!has(&t, never[i]));
    CHECK(has(&t, "avx512f") && has(&t, "pku") && has(&t, "smap") && !has(&t, "md_clear"));
    CHECK(has(&t, "arch_capabilities") && has(&t, "spec_ctrl") && has(&t, "srso_no") && has(&t, "btc_no"));
    CHECK_EQ(t.xcr0, 0x2e7);
    big_host(&t);
    cpuid_restrict(&t, false);
    CHECK(has(&t, "spec_ctrl") && !has(&t, "vmx") && !has(&t, "arch_capabilities"));

    small_host(&t);
    cpuid_restrict(&t, true);
    CHECK(has(&t, "smep") && has(&t, "cx16") && has(&t, "x2apic")); /* software's own */
    CHECK(!has(&t, "avx") && !has(&t, "xsave") && !has(&t, "pku") && !has(&t, "popcnt"));
    CHECK_EQ(t.xcr0, 1);
    small_host(&t);
    cpuid_restrict(&t, false);
    CHECK(!has(&t, "smep") && !has(&t, "cx16"));
}

TEST(models)
{
    struct cpuid_table big, small, t;
    struct error err;
    big_host(&big);
    cpuid_restrict(&big, true);
    small_host(&small);
    cpuid_restrict(&small, true);

    for (const char *const *m = cpuid_models(); *m; m++)
        CHECK_EQ(build(&t, &big, *m, NULL, 4, &err), 0);
    CHECK_EQ(build(&t, &small, NULL, NULL, 1, &err), 0);
    CHECK_EQ(build(&t, &small, "x86-64-v1", NULL, 1, &err), 0);
    CHECK(build(&t, &small, "x86-64-v3", NULL, 1, &err) < 0);
    CHECK(strstr(err.text, "x86-64-v3") && strstr(err.text, "it lacks"));
    CHECK(build(&t, &small, "host", "+avx2", 1, &err) < 0);
    CHECK(strstr(err.text, "avx2"));
    CHECK(build(&t, &small, "host", "+vmx", 1, &err) < 0);
    CHECK_EQ(build(&t, &small, "host", "-vmx", 1, &err), 0);
    CHECK(build(&t, &big, "z80", NULL, 1, &err) < 0);
    CHECK(strstr(err.text, "z80"));
    CHECK(build(&t, &big, "host", "avx", 1, &err) < 0);
    CHECK(build(&t, &big, "host", "+nosuch", 1, &err) < 0);
    CHECK(strstr(err.text, "nosuch"));
    CHECK(build(&t, &big, "host", NULL, 0, &err) < 0);
    CHECK(build(&t, &big, "host", NULL, 256, &err) < 0);

    CHECK_EQ(build(&t, &big, "x86-64-v3", NULL, 1, &err), 0);
    CHECK(has(&t, "avx2") && !has(&t, "avx512f") && !has(&t, "aes") && has(&t, "smap"));
    CHECK_EQ(t.xcr0, 0x207);
    CHECK_EQ(build(&t, &big, "x86-64-v1", "+avx2", 1, &err), 0); /* brings what it needs */
    CHECK(has(&t, "avx2") && has(&t, "avx") && has(&t, "xsave"));
    CHECK_EQ(build(&t, &big, "host", "-xsave", 1, &err), 0); /* takes away what needs it */
    CHECK(!has(&t, "avx") && !has(&t, "avx512bw") && !has(&t, "pku") && has(&t, "sse4_2"));
    CHECK_EQ(t.xcr0, 1);
    CHECK(build(&t, &big, "host", "+avx2,-avx", 1, &err) < 0);
    CHECK(strstr(err.text, "contradict"));
}

TEST(dynamic)
{
    struct cpuid_table big, t;
    struct error err;
    u32 r[4];
    big_host(&big);
    cpuid_restrict(&big, true);
    REQUIRE(build(&t, &big, "host", NULL, 6, &err) == 0);

    cpuid_query(&t, 3, 0, 1, 0, 0xfee00800, 1, 0, r);
    CHECK_EQ(r[1] >> 24, 3);
    CHECK_EQ(r[1] >> 16 & 0xff, 8);
    CHECK_EQ(r[2] >> 27 & 1, 0);
    CHECK_EQ(r[3] >> 9 & 1, 1);
    cpuid_query(&t, 3, CR4_OSXSAVE, 1, 0, 0, 1, 0, r);
    CHECK_EQ(r[2] >> 27 & 1, 1);
    CHECK_EQ(r[3] >> 9 & 1, 0);
    cpuid_query(&t, 0, CR4_PKE, 1, 0, 0, 7, 0, r);
    CHECK_EQ(r[2] >> 4 & 1, 1);
    cpuid_query(&t, 5, 0, 1, 0, 0, 0xb, 1, r);
    CHECK_EQ(r[0], 3);
    CHECK_EQ(r[1], 6);
    CHECK_EQ(r[2], 0x201);
    CHECK_EQ(r[3], 5);
    cpuid_query(&t, 5, 0, 1, 0, 0, 0xb, 7, r);
    CHECK_EQ(r[1], 0);
    CHECK_EQ(r[2], 7);
    CHECK_EQ(r[3], 5);

    cpuid_query(&t, 0, 0, 1, 0, 0, 0xd, 0, r);
    CHECK_EQ(r[0], 0x2e7);
    CHECK_EQ(r[1], 576);
    CHECK_EQ(r[2], 2696);
    cpuid_query(&t, 0, 0, 7, 0, 0, 0xd, 0, r);
    CHECK_EQ(r[1], 832);
    cpuid_query(&t, 0, 0, 0x201, 0, 0, 0xd, 1, r);
    CHECK_EQ(r[1], 584);
    CHECK_EQ(cpuid_xsave_offset(&t, 9), 2688);
    CHECK_EQ(cpuid_xsave_length(&t, 2), 256);
    CHECK_EQ(cpuid_xsave_offset(&t, 3), 0);

    cpuid_query(&t, 0, 0, 1, 0, 0, 0x40000000, 0, r);
    CHECK_EQ(r[1], 0x4b4d564b);
    cpuid_query(&t, 0, 0, 1, 0, 0, 0x40000010, 0, r);
    CHECK_EQ(r[0], 2500000);
    cpuid_query(&t, 0, 0, 1, 0, 0, 0x15, 0, r);
    CHECK_EQ((u64)r[2] * r[1] / r[0] / 1000, 2500000);
    /* out of range: Intel answers the highest basic leaf */
    u32 top[4];
    cpuid_query(&t, 2, 0, 1, 0, 0, 0x1f, 1, top);
    cpuid_query(&t, 2, 0, 1, 0, 0, 0x12345, 1, r);
    CHECK(!memcmp(r, top, sizeof(r)));
    REQUIRE(build(&t, &big, "qemu64", NULL, 6, &err) == 0); /* AMD: zeros */
    cpuid_query(&t, 2, 0, 1, 0, 0, 0x12345, 1, r);
    CHECK_EQ(r[0] | r[1] | r[2] | r[3], 0);
    cpuid_query(&t, 2, 0, 1, 0, 0, 0x8000001e, 0, r);
    CHECK_EQ(r[0], 2);
}

TEST(this_host)
{
    struct cpuid_table s, t;
    struct error err;
    REQUIRE(cpuid_soft_supported(&s, &err) == 0);
    REQUIRE(build(&t, &s, "host", NULL, 2, &err) == 0);
    CHECK(has(&t, "sse2") && has(&t, "lm") && has(&t, "hypervisor"));
    CHECK(t.tsc_khz > 100000);
    CHECK(t.n < CPUID_MAX_LEAVES);
}
