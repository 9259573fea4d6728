/* SPDX-License-Identifier: Apache-2.0 */
/* devices_mc146818.c - the real-time clock against the MC146818 data sheet. */
#include "devices/mc146818.h"

#include "fake_loop.h"
#include "test.h"

static bool irq;
static s64 wall_offset;
static void set_irq(void *chip, u32 pin, bool level) { irq = level; }
static u64 wall(void) { return (u64)((s64)fake_now + wall_offset); }

#define S 1000000000ll

/* The host's clock stands at `seconds` since 1970. */
static void setup(struct mc146818 *r, s64 seconds)
{
    static const struct irq_line line = { set_irq, NULL, 8 };

    irq = false;
    wall_offset = seconds * S - (s64)fake_now;
    mc146818_init(r, NULL, &line);
    r->wall_ns = wall;
    mc146818_ops.write(r, 0, 1, 0x0c); /* what was synced came from the real clock */
    r->synced = (s64)wall();
    mc146818_ops.read(r, 1, 1);
}
static u8 in(struct mc146818 *r, u8 i)
{
    mc146818_ops.write(r, 0, 1, i);
    return (u8)mc146818_ops.read(r, 1, 1);
}
static void out(struct mc146818 *r, u8 i, u8 v)
{
    mc146818_ops.write(r, 0, 1, i);
    mc146818_ops.write(r, 1, 1, v);
}
/* 20yymmdd hhmmss as it stands in the registers */
static u64 show(struct mc146818 *r)
{
    static const u8 reg[] = { 0x32, 9, 8, 7, 4, 2, 0 };
    u64 v = 0;

    for (unsigned i = 0; i < sizeof(reg); i++)
        v = v << 8 | in(r, reg[i]);
    return v;
}

TEST(calendar)
{
    static const struct { s64 t; u64 bcd; u8 weekday; } table[] = {
        { 0, 0x19700101000000, 5 },          { 951782400, 0x20000229000000, 3 }, { 951868799, 0x20000229235959, 3 },
        { 951868800, 0x20000301000000, 4 },  { 1709208000, 0x20240229120000, 5 }, { 4107542399, 0x21000228235959, 1 },
        { 4107542400, 0x21000301000000, 2 }, { 1798761599, 0x20261231235959, 5 },
    };
    struct mc146818 r;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&r, table[i].t);
        CHECK_EQ(show(&r), table[i].bcd);
        CHECK_EQ(in(&r, 6), table[i].weekday);
        mc146818_destroy(&r);
    }
}

TEST(formats)
{
    static const struct { u8 b; s64 hour; u8 want; } table[] = {
        { 0x02, 0, 0x00 }, { 0x02, 13, 0x13 }, { 0x02, 23, 0x23 }, { 0x06, 23, 23 },  { 0x00, 0, 0x12 },
        { 0x00, 1, 0x01 }, { 0x00, 12, 0x92 }, { 0x00, 13, 0x81 }, { 0x04, 12, 0x8c }, { 0x04, 23, 0x8b },
    };
    struct mc146818 r;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&r, 1000000000 / 86400 * 86400 + table[i].hour * 3600);
        out(&r, 0xb, table[i].b);
        CHECK_EQ(in(&r, 4), table[i].want);
        out(&r, 4, table[i].want); /* and back */
        CHECK_EQ(in(&r, 4), table[i].want);
        mc146818_destroy(&r);
    }
}

TEST(setting_the_clock)
{
    static const u8 reg[] = { 0x32, 9, 8, 7, 4, 2, 0 }, value[] = { 0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58 };
    struct mc146818 r;

    setup(&r, 1700000000);
    out(&r, 0xb, 0x82); /* SET */
    for (unsigned i = 0; i < 7; i++)
        out(&r, reg[i], value[i]);
    out(&r, 6, 6);
    fake_advance(5 * S);
    CHECK_EQ(show(&r), 0x19991231235958); /* stopped */
    out(&r, 0xb, 0x02);
    CHECK_EQ(show(&r), 0x19991231235958);
    fake_advance(2 * S);
    CHECK_EQ(show(&r), 0x20000101000000);
    CHECK_EQ(in(&r, 6), 7);
    out(&r, 4, 0x07); /* in passing */
    CHECK_EQ(show(&r), 0x20000101070000);
    /* Nonsense is no danger. */
    out(&r, 0xb, 0x82);
    for (unsigned i = 0; i < 7; i++)
        out(&r, reg[i], 0xff);
    CHECK_EQ(in(&r, 8), 0xff);
    out(&r, 0xb, 0x02);
    show(&r);
    fake_advance(3 * S);
    mc146818_destroy(&r);
}

TEST(update_in_progress)
{
    struct mc146818 r;

    setup(&r, 1700000000);
    CHECK_EQ(in(&r, 0xa), 0x26);
    fake_advance(S - 244001);
    CHECK_EQ(in(&r, 0xa), 0x26);
    fake_advance(1);
    CHECK_EQ(in(&r, 0xa), 0xa6);
    fake_advance(244000);
    CHECK_EQ(in(&r, 0xa), 0x26);
    out(&r, 0xa, 0x66); /* divider held: time stands; released: the first update half a second later */
    u64 t = show(&r);
    fake_advance(10 * S);
    CHECK_EQ(show(&r), t);
    out(&r, 0xa, 0x26);
    fake_advance(499999999);
    CHECK_EQ(show(&r), t);
    fake_advance(1);
    CHECK_EQ(show(&r), t + 1);
    mc146818_destroy(&r);
}

TEST(flags_without_interrupts)
{
    struct mc146818 r;

    setup(&r, 1700000000);
    in(&r, 0xc);
    CHECK_EQ(in(&r, 0xc), 0);
    fake_advance(1000000);
    CHECK_EQ(in(&r, 0xc), 0x40); /* 1024 Hz */
    fake_advance(S);
    CHECK_EQ(in(&r, 0xc) & 0xd0, 0x50);
    CHECK_EQ(in(&r, 0xc), 0);
    CHECK(!irq);
    mc146818_destroy(&r);
}

TEST(update_interrupt)
{
    struct mc146818 r;

    setup(&r, 1700000000);
    fake_advance(S / 4);
    in(&r, 0xc);
    out(&r, 0xb, 0x12);
    CHECK_EQ(fake_advance(S * 3 / 4 - 1), 0);
    CHECK_EQ(fake_advance(1), 1);
    CHECK(irq);
    CHECK_EQ(fake_advance(10 * S), 0); /* none more until it is acknowledged */
    CHECK_EQ(in(&r, 0xc) & 0x90, 0x90);
    CHECK(!irq);
    CHECK_EQ(fake_advance(S), 1);
    CHECK(irq);
    mc146818_destroy(&r);
}

TEST(periodic_interrupt)
{
    static const struct { u8 rs; unsigned hz; } table[] = {
        { 1, 256 }, { 2, 128 }, { 3, 8192 }, { 6, 1024 }, { 10, 64 }, { 15, 2 },
    };
    struct mc146818 r;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        unsigned n = 0;

        setup(&r, 1700000000);
        out(&r, 0xa, 0x20 | table[i].rs);
        in(&r, 0xc);
        out(&r, 0xb, 0x42);
        for (u64 end = fake_now + 2 * (u64)S; fake_now < end;) {
            fake_advance(20000);
            if (irq) {
                n++;
                CHECK_EQ(in(&r, 0xc) & 0xc0, 0xc0);
            }
        }
        CHECK(n >= 2 * table[i].hz - 1 && n <= 2 * table[i].hz + 1);
        mc146818_destroy(&r);
    }
}

TEST(alarm)
{
    struct mc146818 r;

    setup(&r, 1700000000); /* 22:13:20 */
    out(&r, 1, 0x25);
    out(&r, 3, 0x13);
    out(&r, 5, 0x22);
    in(&r, 0xc);
    out(&r, 0xb, 0x22);
    CHECK_EQ(fake_advance(5 * S - 1), 0);
    fake_advance(1);
    CHECK(irq);
    CHECK_EQ(in(&r, 0xc) & 0xa0, 0xa0);
    CHECK_EQ(fake_advance(86400 * S - 1), 0); /* once a day */
    CHECK_EQ(fake_advance(1), 1);
    in(&r, 0xc);
    out(&r, 5, 0xff); /* any hour */
    fake_advance(3599 * S);
    CHECK(!irq);
    fake_advance(1 * S);
    CHECK(irq);
    in(&r, 0xc);
    out(&r, 1, 0xc0);
    out(&r, 3, 0xc0); /* any second */
    fake_advance(S);
    CHECK(irq);
    in(&r, 0xc);
    out(&r, 5, 0x77); /* never */
    CHECK_EQ(fake_advance(100 * 86400 * S), 0);
    CHECK_EQ(in(&r, 0xc) & 0x20, 0);
    mc146818_destroy(&r);
}

TEST(memory_and_nmi_mask)
{
    struct mc146818 r;

    setup(&r, 1700000000);
    mc146818_set_memory(&r, 0xc0000000, GiB(5));
    CHECK_EQ(in(&r, 0x15) | in(&r, 0x16) << 8, 640);
    CHECK_EQ(in(&r, 0x17) | in(&r, 0x18) << 8, 0xffff);
    CHECK_EQ(in(&r, 0x30) | in(&r, 0x31) << 8, 0xffff);
    CHECK_EQ(in(&r, 0x34) | in(&r, 0x35) << 8, 0xbf00);
    CHECK_EQ(in(&r, 0x5b) | in(&r, 0x5c) << 8 | in(&r, 0x5d) << 16, 0x14000);
    out(&r, 0x0f, 0x0a);
    mc146818_ops.write(&r, 2, 1, 0x0f); /* the second bank */
    mc146818_ops.write(&r, 3, 1, 0x55);
    CHECK_EQ(mc146818_ops.read(&r, 3, 1), 0x55);
    mc146818_reset(&r);
    CHECK_EQ(in(&r, 0x0f), 0x0a);
    mc146818_ops.write(&r, 0, 1, 0x8f);
    CHECK(r.nmi_masked);
    CHECK_EQ(mc146818_ops.read(&r, 1, 1), 0x0a);
    CHECK_EQ(mc146818_ops.read(&r, 0, 1), 0xff);
    CHECK_EQ(in(&r, 0xd), 0x80);
    CHECK_EQ(mc146818_get(&r, 0x0f), 0x0a);
    mc146818_destroy(&r);
}

TEST(state_survives)
{
    struct mc146818 a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 };
    struct error err;
    u64 t;

    setup(&a, 1700000000);
    out(&a, 4, 0x03);
    out(&a, 0xb, 0x22);
    out(&a, 1, 0xff);
    out(&a, 3, 0xff);
    out(&a, 5, 0xff);
    out(&a, 0x40, 0x99);
    t = show(&a);
    CHECK_EQ(state_add(la, &mc146818_state, 0, &a), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    mc146818_destroy(&a);
    setup(&b, 1700000000);
    CHECK_EQ(state_add(lb, &mc146818_state, 0, &b), 0);
    wall_offset += 3600 * S; /* an hour on a shelf: the guest's clock tells the hour */
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(show(&b), t + 0x10000);
    CHECK(irq); /* the alarm went off meanwhile */
    CHECK_EQ(in(&b, 0x40), 0x99);
    state_buf_free(&one);
    state_list_free(la);
    state_list_free(lb);
    mc146818_destroy(&b);
}
