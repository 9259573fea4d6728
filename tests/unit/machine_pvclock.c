/* SPDX-License-Identifier: Apache-2.0 */
/* machine_pvclock.c - KVM's paravirtual clock: the page a guest reads, and the arithmetic it does with it. */
#include "base/loop.h"
#include "cpu/msr.h"
#include "machine/pvclock.h"
#include "test.h"

struct rig {
    struct pvclock clock;
    struct memory *memory;
    u64 tsc;
};

static u64 tsc_now(void *ctx, u32 vcpu)
{
    struct rig *r = ctx;
    return r->tsc + vcpu;
}

static void rig(struct rig *r, u64 khz)
{
    static struct cpuid_table t;
    t = (struct cpuid_table){ .tsc_khz = khz, .cpus = 2 };
    r->memory = memory_new(NULL);
    CHECK_EQ(memory_add(r->memory, "ram", 0, 0x10000, false, NULL), 0);
    r->tsc = 1000;
    pvclock_init(&r->clock, r->memory, &t, tsc_now, r);
}

/* What the guest computes (linux: __pvclock_read_cycles). */
static u64 guest_ns(const u8 *info, u64 tsc)
{
    u64 stamp, base;
    u32 mul;
    memcpy(&stamp, info + 8, 8), memcpy(&base, info + 16, 8), memcpy(&mul, info + 24, 4);
    s8 shift = (s8)info[28];
    u64 delta = tsc - stamp;
    delta = shift < 0 ? delta >> -shift : delta << shift;
    return base + (u64)(((unsigned __int128)delta * mul) >> 32);
}

TEST(scale)
{
    static const u64 khz[] = { 1, 999, 1000, 500000, 999999, 1000000, 1000001, 2000000, 2445000, 3999999, 10000000 };
    for (unsigned i = 0; i < ARRAY_SIZE(khz); i++) {
        u32 mul;
        s8 shift;
        pvclock_scale(khz[i], &mul, &shift);
        CHECK(mul >= 0x7fffffff); /* 31 bits of precision at least */
        u64 ticks = khz[i] * 1000 * 60; /* a minute */
        u64 t = shift < 0 ? ticks >> -shift : ticks << shift, ns = (u64)(((unsigned __int128)t * mul) >> 32);
        u64 want = 60000000000ull, off = ns > want ? ns - want : want - ns;
        if (khz[i] >= 1000)
            CHECK(off < 1000);
    }
}

TEST(page)
{
    struct rig r;
    u8 info[32];
    u32 version;
    rig(&r, 2000000);
    CHECK_EQ(pvclock_msr_write(&r.clock, 1, MSR_KVM_SYSTEM_TIME_NEW, 0x2001), 0);
    CHECK_EQ(memory_read(r.memory, 0x2000, info, 32), 0);
    memcpy(&version, info, 4);
    CHECK(version && !(version & 1));
    CHECK_EQ(info[29], 1);
    u64 a = guest_ns(info, r.tsc + 1), now = pvclock_system_time(&r.clock);
    CHECK(a <= now);
    CHECK_EQ(guest_ns(info, r.tsc + 1 + 2000000) - a, 1000000); /* 2 GHz: a millisecond */
    u64 v;
    CHECK_EQ(pvclock_msr_read(&r.clock, 1, MSR_KVM_SYSTEM_TIME, &v), 0);
    CHECK_EQ(v, 0x2001);
    CHECK_EQ(pvclock_msr_read(&r.clock, 0, MSR_KVM_SYSTEM_TIME, &v), 0);
    CHECK_EQ(v, 0);
    /* the TSC was written: the page follows */
    r.tsc = 5000000000;
    pvclock_tsc_changed(&r.clock, 1);
    CHECK_EQ(memory_read(r.memory, 0x2000, info, 32), 0);
    CHECK(guest_ns(info, r.tsc + 1) >= a);
    CHECK(guest_ns(info, r.tsc + 1) - a < 1000000000);
    /* switched off: nothing is written any more */
    CHECK_EQ(pvclock_msr_write(&r.clock, 1, MSR_KVM_SYSTEM_TIME_NEW, 0x3000), 0);
    CHECK_EQ(memory_read(r.memory, 0x3000, info, 4), 0);
    CHECK_EQ(info[0], 0);
    memory_free(r.memory);
}

TEST(hostile)
{
    struct rig r;
    u64 v;
    rig(&r, 2000000);
    CHECK_EQ(pvclock_msr_write(&r.clock, 0, MSR_KVM_SYSTEM_TIME_NEW, 0xffffffffffffffff), 0);
    CHECK_EQ(pvclock_msr_write(&r.clock, 0, MSR_KVM_SYSTEM_TIME_NEW, 0xffff), 0); /* off the end of memory */
    CHECK_EQ(pvclock_msr_write(&r.clock, 0, MSR_KVM_WALL_CLOCK_NEW, 0xfffffffffffff), 0);
    CHECK_EQ(pvclock_msr_write(&r.clock, 0, 0x4b564d77, 0), -1);
    CHECK_EQ(pvclock_msr_read(&r.clock, 0, 0x4b564d77, &v), -1);
    CHECK_EQ(pvclock_msr_write(&r.clock, 2, MSR_KVM_SYSTEM_TIME_NEW, 1), -1); /* no such vCPU */
    memory_free(r.memory);
}

TEST(wall_clock_and_state)
{
    struct rig r;
    u32 sec;
    rig(&r, 2000000);
    CHECK_EQ(pvclock_msr_write(&r.clock, 0, MSR_KVM_WALL_CLOCK, 0x1000), 0);
    CHECK_EQ(memory_read(r.memory, 0x1004, &sec, 4), 0);
    CHECK(sec > 1700000000);
    r.clock.epoch -= 5000000000;
    u64 before = pvclock_system_time(&r.clock);
    CHECK_EQ(pvclock_state.pre_save(&r.clock), 0);
    r.clock.epoch = 0;
    CHECK_EQ(pvclock_state.post_load(&r.clock, NULL), 0);
    u64 after = pvclock_system_time(&r.clock);
    CHECK(after >= before && after - before < 30000000000);
    memory_free(r.memory);
}
