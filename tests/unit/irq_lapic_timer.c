/* SPDX-License-Identifier: Apache-2.0 */
/* irq_lapic_timer.c - the local APICs' timers against SDM vol. 3, 11.5.4. */
#include "irq_bench.h"

TEST(timer_one_shot)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x320, 0xee);
    bench_write(&b, 0, 0x3e0, 0xb); /* divide by 1 */
    bench_write(&b, 0, 0x380, 1000000);
    fake_advance(400000);
    CHECK_EQ(bench_read(&b, 0, 0x390), 600000);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK_EQ(fake_advance(600000), 1);
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0xee);
    CHECK_EQ(bench_read(&b, 0, 0x390), 0);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(fake_advance(10000000), 0);
    bench_write(&b, 0, 0x380, 5000);
    bench_write(&b, 0, 0x380, 0); /* stops */
    CHECK_EQ(fake_advance(1000000), 0);
    /* A change of the divisor while it counts */
    bench_write(&b, 0, 0x380, 1000);
    bench_write(&b, 0, 0x3e0, 0x2); /* 8 */
    CHECK_EQ(bench_read(&b, 0, 0x390), 1000);
    fake_advance(7992);
    CHECK_EQ(bench_read(&b, 0, 0x390), 1);
    fake_advance(8);
    CHECK_EQ(bench_pending(&b), 1);
    bench_close(&b);
}

TEST(timer_divisors)
{
    static const struct { u32 dcr, by; } table[] = { { 0xb, 1 }, { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 },
                                                     { 0xa, 128 } };
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        bench_write(&b, 0, 0x3e0, table[i].dcr);
        bench_write(&b, 0, 0x380, 1000);
        fake_advance(100 * table[i].by);
        CHECK_EQ(bench_read(&b, 0, 0x390), 900);
    }
    bench_close(&b);
}

/* What an operating system does when it changes between the modes under way. */
TEST(timer_mode_changes)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x3e0, 0xb);
    bench_write(&b, 0, 0x320, 0x200ee);
    bench_write(&b, 0, 0x380, 1000000);
    CHECK_EQ(fake_advance(3500000), 3);
    CHECK_EQ(bench_read(&b, 0, 0x390), 500000);
    bench_write(&b, 0, 0x320, 0xee); /* to one-shot: goes on to zero */
    CHECK_EQ(bench_read(&b, 0, 0x390), 500000);
    fake_advance(500000);
    CHECK_EQ(bench_read(&b, 0, 0x390), 0);
    bench_write(&b, 0, 0x320, 0x200ee); /* to periodic at zero: stays */
    CHECK_EQ(bench_read(&b, 0, 0x390), 0);
    CHECK_EQ(bench_read(&b, 0, 0x380), 1000000);
    CHECK_EQ(fake_advance(5000000), 0);
    bench_write(&b, 0, 0x320, 0xee);
    bench_write(&b, 0, 0x380, 1000000);
    fake_advance(600000);
    bench_write(&b, 0, 0x320, 0x200ee);
    CHECK_EQ(bench_read(&b, 0, 0x390), 400000);
    fake_advance(400000);
    CHECK_EQ(bench_read(&b, 0, 0x390), 1000000); /* reloaded */
    bench_write(&b, 0, 0x320, 0x400ee); /* to TSC-deadline: disarmed */
    CHECK_EQ(bench_read(&b, 0, 0x390), 0);
    CHECK_EQ(fake_advance(5000000), 0);
    bench_close(&b);
}

TEST(timer_late_and_absurd)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x3e0, 0xb);
    bench_write(&b, 0, 0x320, 0x200ee);
    bench_write(&b, 0, 0x380, 1); /* 1 GHz of interrupts */
    CHECK(fake_advance(1000000000) <= 20001);
    bench_write(&b, 0, 0x380, 1000000);
    fake_now += 10000000; /* ten periods missed: one interrupt, and on in step */
    CHECK_EQ(fake_advance(0), 1);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0xee);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK_EQ(bench_read(&b, 0, 0x390), 1000000);
    bench_close(&b);
}

TEST(tsc_deadline)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    CHECK(bench_wrmsr(&b, 0, 0x6e0, 1)); /* ignored in other modes */
    CHECK_EQ(bench_rdmsr(&b, 0, 0x6e0), 0);
    bench_write(&b, 0, 0x320, 0x400ef);
    CHECK(bench_wrmsr(&b, 0, 0x6e0, fake_now * 2)); /* now: at once */
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(bench_rdmsr(&b, 0, 0x6e0), 0);
    bench_drain(&b);
    CHECK(bench_wrmsr(&b, 0, 0x6e0, fake_now * 2 + 20001));
    fake_advance(10000);
    CHECK_EQ(bench_pending(&b), 0);
    fake_advance(1);
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(bench_rdmsr(&b, 0, 0x6e0), 0);
    bench_drain(&b);
    CHECK(bench_wrmsr(&b, 0, 0x6e0, UINT64_MAX)); /* never */
    CHECK(bench_wrmsr(&b, 0, 0x6e0, 0));          /* disarmed */
    CHECK_EQ(fake_advance(1000000), 0);
    bench_close(&b);
}
