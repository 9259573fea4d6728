/* SPDX-License-Identifier: Apache-2.0 */
/* devices_i8254.c - the interval timer against the 8254 data sheet. */
#include "devices/i8254.h"

#include "fake_loop.h"
#include "test.h"

static bool irq;
static unsigned edges;
static void set_irq(void *chip, u32 pin, bool level)
{
    edges += level && !irq;
    irq = level;
}

static void setup(struct i8254 *p)
{
    static const struct irq_line line = { set_irq, NULL, 0 };

    irq = false;
    edges = 0;
    i8254_init(p, NULL, &line);
}
static void out(struct i8254 *p, unsigned r, u8 v) { i8254_ops.write(p, r, 1, v); }
static u8 in(struct i8254 *p, unsigned r) { return (u8)i8254_ops.read(p, r, 1); }
static void port61(struct i8254 *p, u8 v) { i8254_port61.write(p, 0, 1, v); }
static bool out2(struct i8254 *p) { return i8254_port61.read(p, 0, 1) >> 5 & 1; }
static void clocks(u64 n) { fake_advance(n * 1000000000 / PIT_HZ + 1); } /* a little past the n-th */
static u16 count(struct i8254 *p, unsigned ch)
{
    u16 v;

    out(p, 3, (u8)(ch << 6));
    v = in(p, ch);
    return (u16)(v | in(p, ch) << 8);
}
static u8 status(struct i8254 *p, unsigned ch)
{
    out(p, 3, (u8)(0xe0 | 2u << ch));
    return in(p, ch);
}
static void program(struct i8254 *p, unsigned ch, unsigned mode, u16 value)
{
    out(p, 3, (u8)(ch << 6 | 0x30 | mode << 1));
    out(p, ch, (u8)value);
    out(p, ch, (u8)(value >> 8));
}

TEST(mode_0_interrupt_on_terminal_count)
{
    struct i8254 p;

    setup(&p);
    port61(&p, 1);
    program(&p, 2, 0, 1000);
    CHECK(!out2(&p));
    clocks(400);
    CHECK_EQ(count(&p, 2), 600);
    port61(&p, 0); /* the gate holds the count ... */
    clocks(5000);
    CHECK_EQ(count(&p, 2), 600);
    port61(&p, 1); /* ... and lets it go on */
    clocks(599);
    CHECK(!out2(&p));
    clocks(1);
    CHECK(out2(&p));
    clocks(10);
    CHECK(out2(&p));
    CHECK(count(&p, 2) >= 0xfff4 - 1); /* wraps and goes on */
    out(&p, 2, 0x10); /* the first byte of a new count stops it and lowers OUT */
    CHECK(!out2(&p));
    clocks(5000);
    CHECK(!out2(&p));
    out(&p, 2, 0x00);
    clocks(16);
    CHECK(out2(&p));
    i8254_destroy(&p);
}

TEST(mode_1_one_shot)
{
    struct i8254 p;

    setup(&p);
    program(&p, 2, 1, 100);
    CHECK(out2(&p));
    clocks(1000);
    CHECK(out2(&p)); /* no trigger, no pulse */
    CHECK_EQ(status(&p, 2) & 0x40, 0x40); /* null count: not loaded */
    port61(&p, 1);
    CHECK(!out2(&p));
    CHECK_EQ(status(&p, 2) & 0x40, 0);
    clocks(60);
    port61(&p, 0);
    port61(&p, 1); /* retriggered */
    clocks(60);
    CHECK(!out2(&p));
    clocks(40);
    CHECK(out2(&p));
    i8254_destroy(&p);
}

TEST(mode_2_rate_generator)
{
    struct i8254 p;

    setup(&p);
    program(&p, 0, 2, 11932); /* 100 Hz */
    CHECK_EQ(edges, 0);
    fake_advance(1000000000);
    CHECK(edges == 99 || edges == 100);
    program(&p, 0, 2, 1000);
    clocks(300);
    CHECK_EQ(count(&p, 0), 700);
    clocks(1000);
    CHECK(count(&p, 0) == 700 || count(&p, 0) == 699);
    /* A count written during a period takes effect at its end. */
    out(&p, 0, 0xd0);
    out(&p, 0, 0x07); /* 2000 */
    CHECK_EQ(status(&p, 0) & 0x40, 0x40);
    clocks(600);
    CHECK(count(&p, 0) <= 100);
    clocks(200);
    CHECK(count(&p, 0) > 1850 && count(&p, 0) < 1950);
    CHECK_EQ(status(&p, 0) & 0x40, 0);
    i8254_destroy(&p);
}

TEST(mode_2_gate)
{
    struct i8254 p;

    setup(&p);
    port61(&p, 1);
    program(&p, 2, 2, 100);
    clocks(99);
    CHECK(!out2(&p));
    port61(&p, 0);
    CHECK(out2(&p)); /* a low gate raises OUT at once */
    clocks(99);
    CHECK(out2(&p));
    port61(&p, 1); /* and begins anew */
    clocks(50);
    CHECK_EQ(count(&p, 2), 50);
    i8254_destroy(&p);
}

TEST(mode_3_square_wave)
{
    struct i8254 p;

    setup(&p);
    port61(&p, 1);
    program(&p, 2, 3, 100);
    CHECK(out2(&p));
    clocks(49);
    CHECK(out2(&p));
    clocks(1);
    CHECK(!out2(&p));
    clocks(49);
    CHECK(!out2(&p));
    clocks(1);
    CHECK(out2(&p));
    program(&p, 2, 3, 100);
    clocks(10);
    CHECK_EQ(count(&p, 2), 80); /* by two */
    program(&p, 0, 3, 0); /* 65536: 18.2 Hz */
    edges = 0;
    fake_advance(10000000000);
    CHECK(edges == 181 || edges == 182);
    i8254_destroy(&p);
}

TEST(mode_4_software_strobe)
{
    struct i8254 p;

    setup(&p);
    program(&p, 0, 4, 1000);
    CHECK_EQ(fake_advance(2000000), 1);
    CHECK_EQ(edges, 1);
    CHECK_EQ(fake_advance(100000000), 0); /* once */
    out(&p, 0, 0xe8); /* armed again by a count alone */
    out(&p, 0, 0x03);
    CHECK_EQ(fake_advance(2000000), 1);
    CHECK_EQ(edges, 2);
    i8254_destroy(&p);
}

TEST(mode_5_hardware_strobe)
{
    struct i8254 p;

    setup(&p);
    program(&p, 2, 5, 100);
    clocks(200);
    CHECK(out2(&p));
    port61(&p, 1);
    clocks(99);
    CHECK(out2(&p));
    clocks(1);
    CHECK(!out2(&p)); /* one clock */
    clocks(1);
    CHECK(out2(&p));
    i8254_destroy(&p);
}

TEST(bcd)
{
    struct i8254 p;

    setup(&p);
    port61(&p, 1);
    out(&p, 3, 0xb1); /* channel 2, word, mode 0, BCD */
    out(&p, 2, 0x00);
    out(&p, 2, 0x10);
    clocks(1);
    CHECK_EQ(count(&p, 2), 0x0999);
    clocks(998);
    CHECK(!out2(&p));
    clocks(1);
    CHECK(out2(&p));
    out(&p, 3, 0xb1);
    out(&p, 2, 0);
    out(&p, 2, 0); /* 10000 */
    clocks(1);
    CHECK_EQ(count(&p, 2), 0x9999);
    i8254_destroy(&p);
}

TEST(latches_and_read_back)
{
    struct i8254 p;
    u8 lo, hi;

    setup(&p);
    program(&p, 0, 2, 60000);
    clocks(1000);
    out(&p, 3, 0x00); /* latch */
    clocks(1000);
    out(&p, 3, 0x00); /* a second latch is ignored */
    lo = in(&p, 0);
    hi = in(&p, 0);
    CHECK_EQ(lo | hi << 8, 59000);
    lo = in(&p, 0);
    hi = in(&p, 0);
    CHECK_EQ(lo | hi << 8, 58000); /* live again */
    out(&p, 3, 0xc2); /* read-back: count and status of channel 0: status comes first */
    CHECK_EQ(in(&p, 0), 0xb4);
    lo = in(&p, 0);
    hi = in(&p, 0);
    CHECK_EQ(lo | hi << 8, 58000);
    out(&p, 3, 0x10); /* LSB only */
    out(&p, 0, 50);
    CHECK_EQ(in(&p, 0), 50);
    out(&p, 3, 0x24); /* MSB only */
    out(&p, 0, 2);
    CHECK_EQ(in(&p, 0), 2);
    CHECK_EQ(in(&p, 3), 0xff);
    CHECK_EQ(status(&p, 0), 0xa4);
    i8254_destroy(&p);
}

TEST(port_61)
{
    struct i8254 p;
    unsigned toggles = 0;
    u8 last = 0;

    setup(&p);
    port61(&p, 0xff);
    CHECK_EQ(i8254_port61.read(&p, 0, 1) & 0xcf, 0x0f);
    for (int i = 0; i < 1000; i++) { /* the refresh bit changes every 15 us */
        u8 v = i8254_port61.read(&p, 0, 1) & 0x10;

        toggles += v != last;
        last = v;
        fake_advance(1000);
    }
    CHECK(toggles >= 65 && toggles <= 68);
    i8254_destroy(&p);
}

TEST(late_ticks_are_made_up_for)
{
    struct i8254 p;

    setup(&p);
    program(&p, 0, 2, 11932);
    fake_advance(100000000);
    edges = 0;
    fake_now += 200000000; /* the host was away for 20 ticks */
    fake_advance(400000000);
    CHECK(edges >= 58 && edges <= 61);
    fake_now += 60000000000ull; /* a minute: only so many are owed */
    edges = 0;
    fake_advance(1000000000);
    CHECK(edges <= 100 + 66);
    program(&p, 0, 2, 1); /* absurd */
    edges = 0;
    CHECK(fake_advance(1000000000) <= 10001);
    i8254_destroy(&p);
}

TEST(state_survives)
{
    struct i8254 a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    program(&a, 0, 2, 11932);
    port61(&a, 1);
    program(&a, 2, 0, 60000);
    clocks(1000);
    out(&a, 3, 0x80);
    in(&a, 2);
    CHECK_EQ(i8254_add_state(&a, la), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    i8254_destroy(&a);
    setup(&b);
    CHECK_EQ(i8254_add_state(&b, lb), 0);
    fake_now += 77777777777;
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    CHECK_EQ(in(&b, 2), 59000 >> 8);
    CHECK_EQ(count(&b, 2), 59000);
    CHECK_EQ(fake_advance(9000000), 0);
    CHECK_EQ(fake_advance(1000000), 1);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    i8254_destroy(&b);
}
