/* SPDX-License-Identifier: Apache-2.0 */
/* devices_hpet.c - the high precision event timer against the IA-PC HPET specification 1.0a. */
#include "devices/hpet.h"

#include "fake_loop.h"
#include "test.h"

static bool level[32];
static unsigned edges[32];
static void set_irq(void *chip, u32 pin, bool l)
{
    edges[pin & 31] += l && !level[pin & 31];
    level[pin & 31] = l;
}
static void setup(struct hpet *h)
{
    static const struct irq_line line = { set_irq, NULL, 0 };

    memset(level, 0, sizeof(level));
    memset(edges, 0, sizeof(edges));
    hpet_init(h, NULL, &line, true);
}
static u64 in(struct hpet *h, u64 r) { return hpet_ops.read(h, r, 8); }
static void out(struct hpet *h, u64 r, u64 v) { hpet_ops.write(h, r, 8, v); }
enum { LEVEL = 2, ENABLE = 4, PERIODIC = 8, SET = 64, BITS32 = 256 };
#define ROUTE(n) ((u64)(n) << 9)

TEST(registers)
{
    struct hpet h;

    setup(&h);
    CHECK_EQ(in(&h, 0), 0x009896808086a201);
    CHECK_EQ(hpet_ops.read(&h, 4, 4), 10000000);
    out(&h, 0, 0);
    CHECK_EQ(in(&h, 0), 0x009896808086a201);
    CHECK_EQ(in(&h, 0x100), 0x00f0000000000030);
    out(&h, 0x100, UINT64_MAX);
    CHECK_EQ(in(&h, 0x100), 0x00f0000000003f7e);
    CHECK_EQ(in(&h, 0x160), 0);
    out(&h, 0x10, UINT64_MAX);
    CHECK_EQ(in(&h, 0x10), 3);
    hpet_init(&h, NULL, &h.gsi, false);
    CHECK_EQ(in(&h, 0), 0x0098968080862201);
    out(&h, 0x10, UINT64_MAX);
    CHECK_EQ(in(&h, 0x10), 1); /* no legacy routing */
    hpet_destroy(&h);
}

TEST(counter)
{
    struct hpet h;

    setup(&h);
    fake_advance(1000);
    CHECK_EQ(in(&h, 0xf0), 0);
    out(&h, 0xf0, 0xfffffffe);
    out(&h, 0x10, 1);
    fake_advance(1000);
    CHECK_EQ(in(&h, 0xf0), 0x100000062);
    CHECK_EQ(hpet_ops.read(&h, 0xf4, 4), 1);
    out(&h, 0xf0, 0); /* not while it runs */
    CHECK_EQ(in(&h, 0xf0), 0x100000062);
    out(&h, 0x10, 0);
    fake_advance(1000);
    CHECK_EQ(in(&h, 0xf0), 0x100000062);
    hpet_ops.write(&h, 0xf4, 4, 7);
    CHECK_EQ(in(&h, 0xf0), 0x700000062);
    hpet_destroy(&h);
}

TEST(one_shot)
{
    struct hpet h;

    setup(&h);
    out(&h, 0x10, 1);
    out(&h, 0x100, ENABLE | ROUTE(20));
    out(&h, 0x108, 1000);
    CHECK_EQ(fake_advance(9999), 0);
    CHECK_EQ(fake_advance(1), 1);
    CHECK_EQ(edges[20], 1);
    CHECK(!level[20]);
    CHECK_EQ(fake_advance(1000000000000), 0);
    out(&h, 0x120, ENABLE | BITS32 | ROUTE(21)); /* 32 bits wrap */
    out(&h, 0x128, (u32)(in(&h, 0xf0) + 100));
    fake_advance(1000);
    CHECK_EQ(edges[21], 1);
    fake_advance(42949672960 - 1000);
    CHECK_EQ(edges[21], 1);
    fake_advance(1000);
    CHECK_EQ(edges[21], 2);
    hpet_destroy(&h);
}

TEST(periodic)
{
    struct hpet h;

    setup(&h);
    out(&h, 0x10, 1);
    out(&h, 0x100, ENABLE | PERIODIC | SET | ROUTE(22));
    out(&h, 0x108, in(&h, 0xf0) + 50000); /* comparator, then period */
    out(&h, 0x108, 100000);
    fake_advance(499999);
    CHECK_EQ(edges[22], 0);
    fake_advance(1);
    CHECK_EQ(edges[22], 1);
    fake_advance(10000000);
    CHECK_EQ(edges[22], 11);
    fake_now += 100000000; /* late: one interrupt for what was missed */
    fake_advance(0);
    CHECK_EQ(edges[22], 12);
    fake_advance(1000000);
    CHECK_EQ(edges[22], 13);
    out(&h, 0x108, 1); /* absurd */
    CHECK(fake_advance(1000000000) <= 20002);
    hpet_destroy(&h);
}

TEST(level_triggered)
{
    struct hpet h;

    setup(&h);
    out(&h, 0x10, 1);
    out(&h, 0x140, ENABLE | LEVEL | ROUTE(23));
    out(&h, 0x148, 100);
    fake_advance(1000);
    CHECK(level[23]);
    CHECK_EQ(in(&h, 0x20), 4);
    hpet_ops.write(&h, 0x20, 4, 3);
    CHECK(level[23]);
    hpet_ops.write(&h, 0x20, 4, 4);
    CHECK(!level[23]);
    CHECK_EQ(in(&h, 0x20), 0);
    out(&h, 0x140, ENABLE | LEVEL | ROUTE(3)); /* not connected */
    out(&h, 0x148, in(&h, 0xf0) + 10);
    fake_advance(1000);
    CHECK_EQ(edges[3], 0);
    hpet_destroy(&h);
}

TEST(state_survives)
{
    struct hpet a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    out(&a, 0x10, 1);
    out(&a, 0x100, ENABLE | ROUTE(20));
    out(&a, 0x108, 1000);
    fake_advance(4000);
    CHECK_EQ(state_add(la, &hpet_state, 0, &a), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    hpet_destroy(&a);
    setup(&b);
    CHECK_EQ(state_add(lb, &hpet_state, 0, &b), 0);
    fake_now += 5555555555;
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    CHECK_EQ(in(&b, 0xf0), 400);
    fake_advance(5999);
    CHECK_EQ(edges[20], 0);
    fake_advance(1);
    CHECK_EQ(edges[20], 1);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    hpet_destroy(&b);
}

/* 2.3.5: timers 0 and 1 take IRQ 0 and 8 from the PIT and the RTC, when both bits are set. */
TEST(legacy_replacement)
{
    struct hpet h;

    setup(&h);
    hpet_input(&h, 0, true);
    hpet_input(&h, 1, true);
    CHECK(level[0] && level[8]);
    out(&h, 0x10, 2); /* not enabled yet */
    CHECK(level[0] && level[8]);
    out(&h, 0x10, 3);
    CHECK(!level[0] && !level[8]);
    hpet_input(&h, 0, false);
    hpet_input(&h, 0, true);
    CHECK(!level[0]);
    edges[0] = edges[8] = 0;
    out(&h, 0x100, ENABLE | PERIODIC | SET | ROUTE(20));
    out(&h, 0x108, 100000);
    out(&h, 0x120, ENABLE | ROUTE(3)); /* a route it cannot have, and needs not */
    out(&h, 0x128, in(&h, 0xf0) + 1000);
    out(&h, 0x140, ENABLE | ROUTE(21));
    out(&h, 0x148, in(&h, 0xf0) + 1000);
    fake_advance(10000000);
    CHECK_EQ(edges[0], 10);
    CHECK_EQ(edges[8], 1);
    CHECK_EQ(edges[20], 0);
    CHECK_EQ(edges[21], 1);
    out(&h, 0x10, 1);
    CHECK(level[0] && level[8]);
    fake_advance(1000000);
    CHECK_EQ(edges[20], 1);
    out(&h, 0x10, 3);
    hpet_reset(&h);
    CHECK(level[0] && level[8]);
    hpet_destroy(&h);
}

/* A level follows its status bit, the enable bits and the route. */
TEST(level_follows_the_registers)
{
    struct hpet h;

    setup(&h);
    out(&h, 0x10, 1);
    out(&h, 0x100, LEVEL | ROUTE(20));
    out(&h, 0x108, 1000);
    fake_advance(20000);
    CHECK_EQ(in(&h, 0x20), 1);
    CHECK(!level[20]);
    out(&h, 0x100, LEVEL | ENABLE | ROUTE(20));
    CHECK(level[20]);
    out(&h, 0x100, LEVEL | ENABLE | ROUTE(22));
    CHECK(!level[20] && level[22]);
    out(&h, 0x10, 0); /* halted: the status stays */
    CHECK(!level[22]);
    CHECK_EQ(in(&h, 0x20), 1);
    out(&h, 0x10, 1);
    CHECK(level[22]);
    out(&h, 0x20, 1);
    CHECK(!level[22]);
    hpet_destroy(&h);
}

/* A match between the last look and the save is the restored machine's. */
TEST(saved_when_due)
{
    struct hpet a, b;
    struct state_list *l = state_list_new(), *m = state_list_new();
    struct state_buf s = { 0 };

    setup(&a);
    out(&a, 0x10, 1);
    out(&a, 0x100, ENABLE | ROUTE(20));
    out(&a, 0x108, 1000);
    fake_now += 20000;
    CHECK_EQ(state_add(l, &hpet_state, 0, &a), 0);
    CHECK_EQ(state_save(l, &s, NULL), 0);
    CHECK_EQ(edges[20], 0);
    hpet_destroy(&a);
    setup(&b);
    CHECK_EQ(state_add(m, &hpet_state, 0, &b), 0);
    CHECK_EQ(state_load(m, s.data, s.len, NULL), 0);
    fake_advance(0);
    CHECK_EQ(edges[20], 1);
    CHECK_EQ(in(&b, 0xf0), 2000);
    hpet_destroy(&b);
    state_list_free(l);
    state_list_free(m);
    state_buf_free(&s);
}
