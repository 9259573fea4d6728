/* SPDX-License-Identifier: Apache-2.0 */
/* memory_bus.c - finding a device, splitting and widening accesses, and changing the table under readers. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "memory/bus.h"
#include "test.h"

struct chip { /* 16 bytes of registers that remember the sizes they were reached with */
    u8 reg[16];
    unsigned calls, last_size;
};

static u64 chip_read(void *dev, u64 offset, unsigned size)
{
    struct chip *c = dev;
    u64 v = 0;
    c->calls++, c->last_size = size;
    memcpy(&v, c->reg + offset, size);
    return v;
}

static void chip_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct chip *c = dev;
    c->calls++, c->last_size = size;
    memcpy(c->reg + offset, &value, size);
}

static const struct bus_ops any = { .read = chip_read, .write = chip_write };
static const struct bus_ops bytes = { .read = chip_read, .write = chip_write, .min_size = 1, .max_size = 1 };
static const struct bus_ops dwords = { .read = chip_read, .write = chip_write, .min_size = 4, .max_size = 4 };
static const struct bus_ops deaf = { 0 };

static int add(struct bus *b, u64 base, u64 size, const struct bus_ops *ops, struct chip *c)
{
    return bus_add(b, &(struct bus_range){ base, size, ops, c, NULL, "chip" });
}

TEST(finds_and_refuses)
{
    struct bus *b = bus_new(0x10000);
    struct chip c = { { 0 }, 0, 0 };
    CHECK_EQ(add(b, 0x100, 16, &any, &c), 0);
    CHECK_EQ(add(b, 0x10f, 1, &any, &c), -EEXIST);
    CHECK_EQ(add(b, 0xff, 2, &any, &c), -EEXIST);
    CHECK_EQ(add(b, 0xff, 1, &any, &c), 0);
    CHECK_EQ(add(b, 0xfff8, 16, &any, &c), -EINVAL);
    CHECK_EQ(add(b, 0x200, 0, &any, &c), -EINVAL);
    CHECK_EQ(add(b, 2, ~0ull, &any, &c), -EINVAL);
    CHECK_EQ(strcmp(bus_name(b, 0x105), "chip"), 0);
    CHECK_EQ(strcmp(bus_name(b, 0x110), "-"), 0);
    CHECK_EQ(bus_read(b, 0x300, 4), 0xffffffff);
    CHECK_EQ(bus_read(b, 0x300, 8), UINT64_MAX);
    CHECK_EQ(bus_read(b, 0xffff, 4), 0xffffffff);
    bus_write(b, 0xffff, 8, 1);
    bus_remove(b, 0x100, &c);
    CHECK_EQ(bus_read(b, 0x105, 1), 0xff);
    CHECK_EQ(add(b, 0x108, 16, &deaf, &c), 0);
    CHECK_EQ(bus_read(b, 0x108, 2), 0xffff);
    bus_write(b, 0x108, 2, 0);
    bus_free(b);
}

TEST(splits_and_widens)
{
    struct bus *b = bus_new(0x10000);
    struct chip c = { { 0 }, 0, 0 }, d = { { 0 }, 0, 0 };
    for (unsigned i = 0; i < 16; i++)
        c.reg[i] = (u8)(0x10 + i), d.reg[i] = (u8)(0xa0 + i);
    CHECK_EQ(add(b, 0x100, 16, &bytes, &c), 0);
    CHECK_EQ(add(b, 0x110, 16, &dwords, &d), 0);
    CHECK_EQ(bus_read(b, 0x100, 4), 0x13121110);
    CHECK_EQ(c.calls, 4);
    CHECK_EQ(c.last_size, 1);
    CHECK_EQ(bus_read(b, 0x110, 8), 0xa7a6a5a4a3a2a1a0);
    CHECK_EQ(d.calls, 2);
    CHECK_EQ(bus_read(b, 0x113, 1), 0xa3);
    CHECK_EQ(d.last_size, 4);
    CHECK_EQ(bus_read(b, 0x112, 4), 0xa5a4a3a2);
    CHECK_EQ(bus_read(b, 0x10e, 4), 0xa1a01f1e);         /* from one chip into the next */
    CHECK_EQ(bus_read(b, 0x11c, 8), 0xffffffffafaeadac); /* and off the end */
    CHECK_EQ(bus_read(b, 0xfe, 4), 0x1110ffff);          /* and from nothing into the first */
    bus_write(b, 0x115, 1, 0x77);
    CHECK_EQ(bus_read(b, 0x114, 4), 0x00007700); /* widened writes fill with zeros */
    bus_write(b, 0x10f, 2, 0x3322);
    CHECK_EQ(c.reg[15], 0x22);
    CHECK_EQ(d.reg[0], 0x33);
    bus_free(b);
}

static struct bus_run given;
static unsigned runs;
static void chip_run(void *dev, const struct bus_run *r) { given = *r, runs++; }
static const struct bus_ops strings = { .read = chip_read, .write = chip_write, .run = chip_run };

TEST(runs_lie_in_one_device)
{
    struct bus *b = bus_new(0x10000);
    struct chip c = { { 0 }, 0, 0 };
    u8 ram[16];
    CHECK_EQ(add(b, 0x100, 16, &strings, &c), 0);
    CHECK_EQ(add(b, 0x110, 16, &any, &c), 0);
    CHECK(bus_run(b, &(struct bus_run){ .to = 0x108, .fill = true, .value = 7, .size = 4, .count = 2 }));
    CHECK_EQ(given.to, 8);
    CHECK(bus_run(b, &(struct bus_run){ .to = 0x10c, .from = 0x10e, .size = 2, .count = 7, .down = true }));
    CHECK(given.to == 12 && given.from == 14);
    CHECK(bus_run(b, &(struct bus_run){ .to_host = ram, .from = 0x100, .size = 8, .count = 2 }));
    CHECK(bus_run(b, &(struct bus_run){ .to = 0x100, .from_host = ram, .size = 1, .count = 16 }));
    runs = 0;
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x108, .fill = true, .size = 4, .count = 3 }));              /* past its end */
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x104, .fill = true, .size = 4, .count = 3, .down = true })); /* before it */
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x104, .from = 0xfe, .size = 2, .count = 1 }));
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x104, .from = 0x10e, .size = 2, .count = 2 }));
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x110, .fill = true, .size = 1, .count = 1 })); /* cannot */
    CHECK(!bus_run(b, &(struct bus_run){ .to = 0x200, .fill = true, .size = 1, .count = 1 })); /* nobody */
    CHECK_EQ(runs, 0);
    bus_free(b);
}

static void *reader(void *arg)
{
    struct bus *b = arg;
    u64 wrong = 0;
    for (unsigned i = 0; i < 200000; i++)
        wrong += bus_read(b, 0x8000, 1) != 0x10 || bus_read(b, 0x9000, 1) != 0xff;
    return (void *)(uintptr_t)wrong;
}

TEST(readers_never_see_a_table_in_between)
{
    struct bus *b = bus_new(0x10000);
    struct chip c = { { 0x10 }, 0, 0 };
    pthread_t t;
    void *wrong;
    CHECK_EQ(add(b, 0x8000, 16, &any, &c), 0);
    CHECK_EQ(pthread_create(&t, NULL, reader, b), 0);
    for (unsigned round = 0; round < 200; round++) {
        for (u64 i = 0; i < 100; i++)
            CHECK_EQ(add(b, i * 16, 16, &any, &c), 0);
        for (u64 i = 0; i < 100; i++)
            bus_remove(b, i * 16, &c);
    }
    pthread_join(t, &wrong);
    CHECK(!wrong);
    bus_free(b);
}
