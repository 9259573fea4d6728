/* SPDX-License-Identifier: Apache-2.0 */
/* irq_lapic.c - the local APICs against SDM vol. 3 ch. 11: registers, priorities, who gets what. */
#include "irq_bench.h"

TEST(reset_values)
{
    static const struct { u32 reg, bsp, ap; } table[] = {
        { 0x20, 0, 1u << 24 }, { 0x30, 0x50014, 0x50014 }, { 0x80, 0, 0 }, { 0xa0, 0, 0 }, { 0xd0, 0, 0 },
        { 0xe0, 0xffffffff, 0xffffffff }, { 0xf0, 0xff, 0xff }, { 0x280, 0, 0 }, { 0x300, 0, 0 },
        { 0x320, 0x10000, 0x10000 }, { 0x330, 0x10000, 0x10000 }, { 0x340, 0x10000, 0x10000 },
        { 0x350, 0x700, 0x10000 }, { 0x360, 0x10000, 0x10000 }, { 0x370, 0x10000, 0x10000 },
        { 0x380, 0, 0 }, { 0x390, 0, 0 }, { 0x3e0, 0, 0 },
    };
    struct bench b;

    bench_open(&b);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        CHECK_EQ(bench_read(&b, 0, table[i].reg), table[i].bsp);
        CHECK_EQ(bench_read(&b, 1, table[i].reg), table[i].ap);
    }
    CHECK_EQ(bench_rdmsr(&b, 0, 0x1b), 0xfee00900);
    CHECK_EQ(bench_rdmsr(&b, 1, 0x1b), 0xfee00800);
    CHECK(lapic_decodes(b.lapic, 0, 0xfee00fff));
    CHECK(!lapic_decodes(b.lapic, 0, 0xfee01000));
    bench_close(&b);
}

TEST(apic_base_transitions)
{
    enum { OFF, X, X2, BAD };
    static const u64 bits[4] = { 0, 0x800, 0xc00, 0x400 };
    static const bool ok[3][4] = { { 1, 1, 0, 0 }, { 1, 1, 1, 0 }, { 1, 0, 1, 0 } }; /* figure 11-27 */
    struct bench b;

    for (int from = OFF; from <= X2; from++)
        for (int to = OFF; to <= BAD; to++) {
            bench_open(&b);
            if (from != X)
                CHECK(bench_wrmsr(&b, 1, 0x1b, LAPIC_DEFAULT_BASE | bits[from]));
            CHECK_EQ(bench_wrmsr(&b, 1, 0x1b, LAPIC_DEFAULT_BASE | bits[to]), ok[from][to]);
            CHECK_EQ(lapic_decodes(b.lapic, 1, LAPIC_DEFAULT_BASE),
                     (bench_rdmsr(&b, 1, 0x1b) & 0xc00) == 0x800);
            bench_close(&b);
        }
    bench_open(&b);
    CHECK(!bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE | 0x801));
    CHECK(!bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE | 0xa00));
    CHECK(!bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE | 0x800 | BIT(40)));
    CHECK(bench_wrmsr(&b, 0, 0x1b, 0xfed40900));
    CHECK(lapic_decodes(b.lapic, 0, 0xfed40030));
    CHECK(!lapic_decodes(b.lapic, 0, 0xfee00030));
    CHECK_EQ(lapic_apic_base(b.lapic, 0), 0xfed40900);
    bench_close(&b);
    bench_open_with(&b, false);
    CHECK(!bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE | 0xc00));
    bench_close(&b);
}

TEST(disabled_apic)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    lapic_cr8_write(b.lapic, 0, 5);
    CHECK_EQ(bench_read(&b, 0, 0x80), 0x50);
    CHECK(bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE));
    CHECK_EQ(bench_read(&b, 0, 0x30), 0xffffffff);
    CHECK_EQ(lapic_cr8_read(b.lapic, 0), 5);
    lapic_cr8_write(b.lapic, 0, 0xa);
    CHECK_EQ(lapic_cr8_read(b.lapic, 0), 0xa);
    /* The 8259A reaches the processor directly. */
    pic_set(&b.pic, 0, true);
    CHECK(b.intr[0]);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0);
    CHECK(!b.intr[0]);
    CHECK(bench_wrmsr(&b, 0, 0x1b, LAPIC_DEFAULT_BASE | 0x900));
    CHECK_EQ(bench_read(&b, 0, 0xf0), 0xff);
    CHECK_EQ(bench_read(&b, 0, 0x80), 0xa0);
    bench_close(&b);
}

TEST(priorities)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x300, 0x40041); /* self */
    bench_write(&b, 0, 0x300, 0x40062);
    CHECK_EQ(bench_read(&b, 0, 0x200 + 0x20), 2); /* IRR 41h */
    CHECK_EQ(bench_read(&b, 0, 0x200 + 0x30), 4); /* IRR 62h */
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x62);
    CHECK_EQ(bench_read(&b, 0, 0xa0), 0x60);
    CHECK_EQ(bench_pending(&b), 0);
    bench_write(&b, 0, 0x300, 0x4006f); /* same class: waits */
    CHECK_EQ(bench_pending(&b), 0);
    bench_write(&b, 0, 0x300, 0x40071);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x71);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 0);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x6f);
    bench_write(&b, 0, 0xb0, 0);
    bench_write(&b, 0, 0x80, 0x45);
    CHECK_EQ(bench_read(&b, 0, 0xa0), 0x45);
    CHECK_EQ(bench_pending(&b), 0); /* 41h is in TPR's class */
    CHECK_EQ(lapic_ack(b.lapic, 0), (u64)-1);
    lapic_cr8_write(b.lapic, 0, 3);
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x41);
    bench_close(&b);
}

/* xAPIC destinations: who of four processors gets it. LDRs 1, 2, 4, 8 (flat) or 11h, 12h, 21h, 22h (cluster). */
TEST(xapic_destinations)
{
    static const struct { u32 icr, dest; bool cluster; u32 expect; } table[] = {
        { 0x041, 0x00, false, 1 }, { 0x041, 0x02, false, 4 }, { 0x041, 0x09, false, 0 }, { 0x041, 0xff, false, 15 },
        { 0x841, 0x01, false, 1 }, { 0x841, 0x0a, false, 10 }, { 0x841, 0xff, false, 15 }, { 0x841, 0xf0, false, 0 },
        { 0x841, 0x11, true, 1 }, { 0x841, 0x13, true, 3 }, { 0x841, 0x22, true, 8 }, { 0x841, 0x31, true, 0 },
        { 0x841, 0xff, true, 15 }, { 0x40041, 0x33, false, 2 }, { 0x80041, 0, false, 15 }, { 0xc0041, 0, false, 13 },
    };
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        for (u32 c = 0; c < BENCH_CPUS; c++) {
            bench_write(&b, c, 0xe0, table[i].cluster ? 0x0fffffff : 0xffffffff);
            bench_write(&b, c, 0xd0, (table[i].cluster ? (c / 2 + 1) << 4 | 1u << c % 2 : 1u << c) << 24);
        }
        bench_write(&b, 1, 0x310, table[i].dest << 24);
        bench_write(&b, 1, 0x300, table[i].icr);
        CHECK_EQ(bench_pending(&b), table[i].expect);
        bench_drain(&b);
    }
    bench_close(&b);
}

TEST(x2apic_destinations)
{
    static const struct { u32 icr, dest, expect; } table[] = {
        { 0x041, 0, 1 }, { 0x041, 3, 8 }, { 0x041, 0xff, 0 }, { 0x041, 0xffffffff, 15 }, { 0x841, 0x5, 5 },
        { 0x841, 0x10001, 0 }, { 0x841, 0xffffffff, 15 }, { 0x40041, 9, 2 }, { 0x80041, 9, 15 }, { 0xc0041, 9, 13 },
    };
    struct bench b;

    bench_open(&b);
    bench_enable_x2apic(&b);
    CHECK_EQ(bench_rdmsr(&b, 3, 0x80d), 8);
    CHECK_EQ(bench_rdmsr(&b, 3, 0x802), 3);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        CHECK(bench_wrmsr(&b, 1, 0x830, (u64)table[i].dest << 32 | table[i].icr));
        CHECK_EQ(bench_rdmsr(&b, 1, 0x830), (u64)table[i].dest << 32 | table[i].icr);
        CHECK_EQ(bench_pending(&b), table[i].expect);
        bench_drain(&b);
    }
    CHECK(bench_wrmsr(&b, 2, 0x83f, 0x77));
    CHECK_EQ(lapic_ack(b.lapic, 2), 0x77);
    CHECK(bench_wrmsr(&b, 2, 0x83f, 0x0f)); /* SELF IPI with an illegal vector: no #GP, an error */
    CHECK(bench_wrmsr(&b, 2, 0x828, 0));
    CHECK_EQ(bench_rdmsr(&b, 2, 0x828), 0x60);
    bench_close(&b);
}

TEST(nmi_init_sipi)
{
    struct bench b;

    bench_open(&b);
    bench_write(&b, 1, 0x20, 0x07000000);
    bench_write(&b, 1, 0xf0, 0x1ff);
    bench_write(&b, 0, 0x310, 7u << 24);
    bench_write(&b, 0, 0x300, 0x4400); /* NMI, even to a software-disabled APIC */
    CHECK_EQ(b.nmi[1], 1);
    bench_write(&b, 0, 0x300, 0xc500); /* INIT, level, assert */
    CHECK_EQ(b.init[1], 1);
    CHECK_EQ(bench_read(&b, 1, 0xf0), 0xff);
    CHECK_EQ(bench_read(&b, 1, 0x20), 0x07000000); /* the ID stays */
    bench_write(&b, 0, 0x300, 0x8500); /* de-assert */
    CHECK_EQ(b.init[1], 1);
    bench_write(&b, 0, 0x300, 0x469a);
    CHECK_EQ(b.sipi[1], 1);
    CHECK_EQ(b.sipi_vector, 0x9a);
    bench_write(&b, 0, 0x300, 0xc4500); /* INIT, all but self */
    CHECK_EQ(b.init[0] * 1000 + b.init[1] * 100 + b.init[2] * 10 + b.init[3], 211);
    bench_close(&b);
}

/* SDM vol. 3 table 11-3 and its notes, APM vol. 2 table 16-4: which shorthand goes with which delivery mode. */
TEST(icr_combinations)
{
    enum { TO_SELF = 1, TO_ALL, TO_OTHERS, FIXED = 0, LOWEST, SMI, RESERVED, NMI, INIT, STARTUP, EXTINT };
    /* who: gets it, a bit a processor; 10h: one of those in bits 5-8 */
    static const struct { u8 shorthand, mode; u32 who; } table[] = {
        { 0, FIXED, 1 << 2 }, { 0, LOWEST, 1 << 2 }, { 0, SMI, 0 }, { 0, RESERVED, 0 }, { 0, NMI, 1 << 2 },
        { 0, INIT, 1 << 2 }, { 0, STARTUP, 1 << 2 }, { 0, EXTINT, 0 },
        { TO_SELF, FIXED, 1 << 1 }, { TO_SELF, LOWEST, 0 }, { TO_SELF, SMI, 0 }, { TO_SELF, RESERVED, 0 },
        { TO_SELF, NMI, 0 }, { TO_SELF, INIT, 0 }, { TO_SELF, STARTUP, 0 }, { TO_SELF, EXTINT, 0 },
        { TO_ALL, FIXED, 15 }, { TO_ALL, LOWEST, 0 }, { TO_ALL, SMI, 0 }, { TO_ALL, RESERVED, 0 }, { TO_ALL, NMI, 0 },
        { TO_ALL, INIT, 0 }, { TO_ALL, STARTUP, 0 }, { TO_ALL, EXTINT, 0 },
        { TO_OTHERS, FIXED, 13 }, { TO_OTHERS, LOWEST, 0x10 | 13 << 5 }, { TO_OTHERS, SMI, 0 }, { TO_OTHERS, RESERVED, 0 },
        { TO_OTHERS, NMI, 13 }, { TO_OTHERS, INIT, 13 }, { TO_OTHERS, STARTUP, 13 }, { TO_OTHERS, EXTINT, 0 },
    };

    for (unsigned x2 = 0; x2 < 2; x2++)
        for (unsigned trigger = 0; trigger < 3; trigger++) /* edge; level and asserted; level and not */
            for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
                const u32 icr = (u32)table[i].shorthand << 18 | (u32)table[i].mode << 8 | 0x41 |
                                (trigger == 0 ? 0x4000 : trigger == 1 ? 0xc000 : 0x8000);
                u32 who = table[i].who, got = 0;
                struct bench b;

                bench_open(&b);
                x2 ? bench_enable_x2apic(&b) : bench_enable_all(&b);
                if (trigger == 2 && table[i].mode == INIT)
                    who = 0; /* de-assert: loads arbitration IDs */
                if (x2) {
                    CHECK(bench_wrmsr(&b, 1, 0x830, 2ull << 32 | icr));
                } else {
                    bench_write(&b, 1, 0x310, 2u << 24);
                    bench_write(&b, 1, 0x300, icr);
                }
                for (u32 c = 0; c < BENCH_CPUS; c++)
                    got |= (u32)(b.nmi[c] || b.init[c] || b.sipi[c]) << c;
                got |= bench_pending(&b);
                if (who & 0x10) {
                    CHECK_EQ(__builtin_popcount(got), 1);
                    CHECK_EQ(got & ~(who >> 5), 0);
                } else {
                    CHECK_EQ(got, who);
                }
                for (u32 c = 0; c < BENCH_CPUS; c++) /* always as edges */
                    CHECK_EQ(b.init[c] ? 0 : x2 ? bench_rdmsr(&b, c, 0x81a) : bench_read(&b, c, 0x1a0), 0);
                bench_close(&b);
            }
}

TEST(init_pin)
{
    struct bench b;

    bench_open(&b);
    bench_enable_x2apic(&b);
    CHECK(bench_wrmsr(&b, 1, 0x835, 0x10000 | 0x41));
    CHECK(bench_wrmsr(&b, 1, 0x832, 0x20050)); /* a periodic timer */
    CHECK(bench_wrmsr(&b, 1, 0x838, 1000));
    CHECK(bench_wrmsr(&b, 1, 0x83f, 0x77));
    CHECK_EQ(bench_pending(&b), 1 << 1);
    lapic_init(b.lapic);
    fake_advance(5000);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK_EQ(b.init[1], 0); /* who pulled the pin tells the processors */
    CHECK_EQ(bench_rdmsr(&b, 1, 0x1b) & 0xc00, 0xc00); /* APIC_BASE stays, */
    CHECK_EQ(bench_rdmsr(&b, 1, 0x802), 1);            /* and the ID */
    CHECK_EQ(bench_rdmsr(&b, 1, 0x80f), 0xff);
    CHECK_EQ(bench_rdmsr(&b, 1, 0x832), 0x10000);
    CHECK_EQ(bench_rdmsr(&b, 1, 0x838), 0);
    bench_close(&b);
}

TEST(software_disable)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x360, 0x400);
    CHECK_EQ(bench_read(&b, 0, 0x360), 0x400);
    bench_write(&b, 0, 0x300, 0x40050);
    bench_write(&b, 0, 0xf0, 0xff);
    CHECK_EQ(bench_read(&b, 0, 0x360), 0x10400); /* masked ... */
    bench_write(&b, 0, 0x360, 0x400);
    CHECK_EQ(bench_read(&b, 0, 0x360), 0x10400); /* ... for good */
    CHECK_EQ(bench_pending(&b), 1);              /* what was accepted stays */
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x50);
    bench_write(&b, 0, 0x300, 0x40060);
    CHECK_EQ(bench_pending(&b), 0); /* no more is accepted */
    bench_close(&b);
}

TEST(lowest_priority)
{
    struct bench b;
    u32 got = 0;

    bench_open(&b);
    bench_enable_all(&b);
    for (u32 c = 0; c < BENCH_CPUS; c++)
        bench_write(&b, c, 0x80, c == 2 ? 0x10 : 0x30);
    bench_write(&b, 0, 0x310, 0xff000000);
    bench_write(&b, 0, 0x300, 0x141);
    CHECK_EQ(bench_pending(&b), 4);
    bench_drain(&b);
    for (u32 c = 0; c < BENCH_CPUS; c++)
        bench_write(&b, c, 0x80, 0);
    for (int i = 0; i < 4; i++) {
        bench_write(&b, 0, 0x300, 0x141);
        CHECK_EQ(__builtin_popcount(bench_pending(&b)), 1);
        got |= bench_pending(&b);
        bench_drain(&b);
    }
    CHECK_EQ(got, 15); /* equals take turns */
    bench_close(&b);
}

TEST(errors)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x370, 0xe0);
    bench_write(&b, 0, 0x300, 0x40005); /* illegal vector sent */
    CHECK_EQ(bench_read(&b, 0, 0x280), 0);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0xe0);
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0x60); /* and received: SDM 11.5.3, "or via a self IPI" */
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0);
    bench_write(&b, 0, 0x300, 0x4100); /* lowest priority, to processor 0 */
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0x20);
    bench_write(&b, 0, 0x300, 0x44400); /* not to be sent at all: no vector that is illegal */
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0);
    lapic_msi(b.lapic, 0xfee00000, 0x0003); /* illegal vector received */
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0x40);
    bench_read(&b, 0, 0x40); /* reserved register */
    bench_write(&b, 0, 0x280, 0);
    CHECK_EQ(bench_read(&b, 0, 0x280), 0x80);
    bench_close(&b);
}

TEST(x2apic_registers)
{
    /* 0 none, 1 read, 2 write, 3 both */
    static const struct { u32 first, last; int access; } table[] = {
        { 0x02, 0x03, 1 }, { 0x08, 0x08, 3 }, { 0x0a, 0x0a, 1 }, { 0x0b, 0x0b, 2 }, { 0x0d, 0x0d, 1 }, { 0x0f, 0x0f, 3 },
        { 0x10, 0x27, 1 }, { 0x28, 0x28, 3 }, { 0x30, 0x30, 3 }, { 0x32, 0x38, 3 }, { 0x39, 0x39, 1 }, { 0x3e, 0x3e, 3 },
        { 0x3f, 0x3f, 2 },
    };
    struct bench b;

    bench_open(&b);
    CHECK_EQ(bench_rdmsr(&b, 0, 0x803), 0xdeadbeefdeadbeef); /* #GP in xAPIC mode */
    bench_enable_x2apic(&b);
    for (u32 r = 0; r < 0x100; r++) {
        int access = 0;
        u64 v;

        for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
            if (r >= table[i].first && r <= table[i].last)
                access = table[i].access;
        CHECK_EQ(lapic_msr_read(b.lapic, 0, 0x800 + r, &v) == 0, access & 1);
        CHECK_EQ(bench_wrmsr(&b, 0, 0x800 + r, 0), access >> 1);
        if (r != 0x30)
            CHECK(!bench_wrmsr(&b, 0, 0x800 + r, UINT64_MAX)); /* upper half reserved */
    }
    CHECK(!bench_wrmsr(&b, 0, 0x83f, 0x100));
    CHECK(!bench_wrmsr(&b, 0, 0x80b, 1));
    CHECK(!bench_wrmsr(&b, 0, 0x828, 1));
    CHECK(!bench_wrmsr(&b, 0, 0x808, 0x100));
    CHECK(!bench_wrmsr(&b, 0, 0x830, 0x100000));
    CHECK(!bench_wrmsr(&b, 0, 0x80f, 0x1000)); /* no EOI-broadcast suppression here */
    CHECK_EQ(bench_read(&b, 0, 0x30), 0xffffffff); /* the page is gone */
    bench_close(&b);
}

TEST(ids)
{
    struct bench b;

    bench_open(&b);
    bench_write(&b, 1, 0x20, 0x09000000);
    CHECK_EQ(bench_read(&b, 1, 0x20), 0x09000000);
    CHECK(bench_wrmsr(&b, 1, 0x1b, LAPIC_DEFAULT_BASE | 0xc00));
    CHECK_EQ(bench_rdmsr(&b, 1, 0x802), 1);
    CHECK(bench_wrmsr(&b, 1, 0x1b, LAPIC_DEFAULT_BASE));
    CHECK(bench_wrmsr(&b, 1, 0x1b, LAPIC_DEFAULT_BASE | 0x800));
    CHECK_EQ(bench_read(&b, 1, 0x20), 0x01000000);
    bench_close(&b);
}

TEST(msi)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    CHECK_EQ(lapic_msi(b.lapic, 0xfee02000, 0x4051), 1);
    CHECK_EQ(bench_pending(&b), 4);
    CHECK_EQ(lapic_ack(b.lapic, 2), 0x51);
    CHECK_EQ(lapic_msi(b.lapic, 0xfee09000, 0x4051), 0);
    CHECK_EQ(lapic_msi(b.lapic, 0xfed02000, 0x4051), 0);
    CHECK_EQ(lapic_msi(b.lapic, 0xfee02000, 0x0400), 1); /* NMI */
    CHECK_EQ(b.nmi[2], 1);
    for (u32 c = 0; c < BENCH_CPUS; c++)
        bench_write(&b, c, 0xd0, 1u << (24 + c));
    CHECK_EQ(lapic_msi(b.lapic, 0xfee0300c, 0x0061), 1); /* hint, logical 3: one of the two */
    CHECK_EQ(lapic_msi(b.lapic, 0xfee03004, 0x0062), 2); /* no hint: both */
    bench_close(&b);
}

TEST(ipi_mask)
{
    struct bench b;

    bench_open(&b);
    bench_enable_x2apic(&b);
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, 0x5, 0, 1, 0x41), 2);
    CHECK_EQ(bench_pending(&b), 0xa);
    bench_drain(&b);
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, UINT64_MAX, UINT64_MAX, 0, 0x41), 4);
    bench_drain(&b);
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, UINT64_MAX, UINT64_MAX, 0xffffffff, 0x41), 0); /* not the broadcast */
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, 1, 0, 0, 0x05), 0);
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, 1, 0, 3, 0x400), 1);
    CHECK_EQ(b.nmi[3], 1);
    CHECK_EQ(lapic_send_ipi_mask(b.lapic, 1, 0, 0, 0x500), 0); /* INIT: no */
    CHECK_EQ(bench_pending(&b), 0);
    bench_close(&b);
}

TEST(virtual_wire)
{
    struct bench b;

    bench_open(&b);
    for (unsigned i = 0; i < 4; i++) { /* ICW1-4 */
        static const u8 icw[4] = { 0x11, 0x30, 0x04, 0x01 };

        pic_ops.write(&b.pic.port[0], i ? 1 : 0, 1, icw[i]);
    }
    gsi_set(&b.gsi, 0, true);
    CHECK_EQ(bench_pending(&b), 1); /* the boot processor alone */
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x30);
    CHECK_EQ(bench_pending(&b), 0);
    pic_ops.write(&b.pic.port[0], 0, 1, 0x20);
    bench_write(&b, 0, 0x350, 0x10700); /* LINT0 masked */
    gsi_set(&b.gsi, 4, true);
    CHECK_EQ(bench_pending(&b), 0);
    bench_write(&b, 0, 0xf0, 0x1ff);
    bench_write(&b, 0, 0x350, 0x700);
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x34);
    /* LINT1 is NMI */
    lapic_lint1(b.lapic, true);
    CHECK_EQ(b.nmi[0], 0);
    bench_write(&b, 0, 0x360, 0x400);
    lapic_lint1(b.lapic, false);
    lapic_lint1(b.lapic, true);
    CHECK_EQ(b.nmi[0], 1);
    bench_close(&b);
}

TEST(lint0_level_fixed)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x350, 0x8044);
    lapic_lint0(b.lapic, true);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x44);
    CHECK(bench_read(&b, 0, 0x350) & 0x4000); /* remote IRR */
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 1); /* the line still stands */
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x44);
    lapic_lint0(b.lapic, false);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK(!(bench_read(&b, 0, 0x350) & 0x4000));
    bench_close(&b);
}

TEST(state_survives)
{
    struct bench a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    bench_open(&a);
    bench_enable_all(&a);
    bench_write(&a, 0, 0x3e0, 0xb);
    bench_write(&a, 0, 0x320, 0x200ee);
    bench_write(&a, 0, 0x380, 1000000);
    bench_write(&a, 0, 0x300, 0x40051);
    CHECK(bench_wrmsr(&a, 2, 0x1b, LAPIC_DEFAULT_BASE | 0xc00));
    fake_advance(300000);
    CHECK_EQ(lapic_add_state(a.lapic, la), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    bench_open(&b);
    CHECK_EQ(lapic_add_state(b.lapic, lb), 0);
    fake_now += 123456789;
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(bench_pending(&b), 1);
    CHECK_EQ(bench_read(&b, 0, 0x390), 700000);
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK_EQ(one.len, two.len);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x51);
    fake_advance(700000);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0xee);
    CHECK_EQ(bench_rdmsr(&b, 2, 0x80d), 4);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    bench_close(&a);
    bench_close(&b);
}
