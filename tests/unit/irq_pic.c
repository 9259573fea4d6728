/* SPDX-License-Identifier: Apache-2.0 */
/* irq_pic.c - the 8259A pair against its data sheet. */
#include "irq/pic.h"

#include "test.h"

static bool intr;
static void set_intr(void *ctx, bool level)
{
    intr = level;
}

static void out(struct pic *p, unsigned chip, unsigned port, u8 v)
{
    pic_ops.write(&p->port[chip], port, 1, v);
}
static u8 in(struct pic *p, unsigned chip, unsigned port)
{
    return (u8)pic_ops.read(&p->port[chip], port, 1);
}

/* As a PC's firmware does it: bases 20h and 28h. */
static void setup(struct pic *p, u8 icw4)
{
    intr = false;
    pic_init(p, set_intr, NULL);
    for (unsigned i = 0; i < 2; i++) {
        out(p, i, 0, 0x11);
        out(p, i, 1, i ? 0x28 : 0x20);
        out(p, i, 1, i ? 2 : 4);
        out(p, i, 1, icw4);
    }
}

TEST(edge_is_taken_once)
{
    struct pic p;

    setup(&p, 1);
    pic_set(&p, 3, true);
    CHECK(intr);
    CHECK_EQ(in(&p, 0, 0), 0x08); /* IRR */
    CHECK_EQ(pic_ack(&p), 0x23);
    CHECK(!intr);
    out(&p, 0, 0, 0x0b);
    CHECK_EQ(in(&p, 0, 0), 0x08); /* ISR */
    out(&p, 0, 0, 0x20);
    CHECK_EQ(in(&p, 0, 0), 0x00);
    CHECK(!intr); /* the line is still high: no new edge */
    pic_set(&p, 3, false);
    pic_set(&p, 3, true);
    CHECK(intr);
    pic_destroy(&p);
}

TEST(fixed_priority_and_nesting)
{
    struct pic p;

    setup(&p, 1);
    pic_set(&p, 5, true);
    pic_set(&p, 1, true);
    CHECK_EQ(pic_ack(&p), 0x21);
    CHECK(!intr); /* 5 is below 1 in service */
    pic_set(&p, 0, true);
    CHECK(intr); /* 0 is above */
    CHECK_EQ(pic_ack(&p), 0x20);
    out(&p, 0, 0, 0x20);
    CHECK(!intr);
    out(&p, 0, 0, 0x20);
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x25);
    pic_destroy(&p);
}

TEST(slave_comes_through_the_cascade)
{
    struct pic p;

    setup(&p, 1);
    pic_set(&p, 12, true);
    pic_set(&p, 8, true);
    CHECK_EQ(pic_ack(&p), 0x28);
    CHECK(!intr);
    out(&p, 1, 0, 0x20);
    CHECK(!intr); /* the master's IR2 is in service */
    out(&p, 0, 0, 0x20);
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x2c);
    pic_destroy(&p);
}

TEST(special_fully_nested)
{
    struct pic p;

    setup(&p, 0x11);
    pic_set(&p, 12, true);
    CHECK_EQ(pic_ack(&p), 0x2c);
    pic_set(&p, 8, true);
    CHECK(intr); /* a higher one of the same slave is not held by IR2 in service */
    CHECK_EQ(pic_ack(&p), 0x28);
    pic_destroy(&p);
}

TEST(spurious)
{
    struct pic p;

    setup(&p, 1);
    CHECK_EQ(pic_ack(&p), 0x27);
    out(&p, 0, 0, 0x0b);
    CHECK_EQ(in(&p, 0, 0), 0);
    /* A level-triggered input that goes away before INTA. */
    pic_elcr_ops.write(&p, 0, 1, 0xff);
    CHECK_EQ(pic_elcr_ops.read(&p, 0, 1), 0xf8);
    pic_set(&p, 5, true);
    CHECK(intr);
    pic_set(&p, 5, false);
    CHECK(!intr);
    CHECK_EQ(pic_ack(&p), 0x27);
    pic_destroy(&p);
}

TEST(level_triggered_repeats_until_dropped)
{
    struct pic p;

    setup(&p, 1);
    pic_elcr_ops.write(&p, 1, 1, 0x08); /* IRQ 11 */
    pic_set(&p, 11, true);
    CHECK_EQ(pic_ack(&p), 0x2b);
    out(&p, 1, 0, 0x20);
    out(&p, 0, 0, 0x20);
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x2b);
    pic_set(&p, 11, false);
    out(&p, 1, 0, 0x20);
    out(&p, 0, 0, 0x20);
    CHECK(!intr);
    pic_destroy(&p);
}

TEST(mask)
{
    struct pic p;

    setup(&p, 1);
    out(&p, 0, 1, 0xff);
    CHECK_EQ(in(&p, 0, 1), 0xff);
    pic_set(&p, 4, true);
    CHECK(!intr);
    out(&p, 0, 1, 0xef);
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x24);
    pic_destroy(&p);
}

TEST(auto_eoi_and_rotation)
{
    struct pic p;

    setup(&p, 3);
    out(&p, 0, 0, 0x80); /* rotate in AEOI mode */
    pic_set(&p, 0, true);
    CHECK_EQ(pic_ack(&p), 0x20);
    pic_set(&p, 0, false);
    pic_set(&p, 0, true);
    pic_set(&p, 1, true);
    CHECK_EQ(pic_ack(&p), 0x21); /* 0 is now the lowest */
    CHECK_EQ(pic_ack(&p), 0x20);
    CHECK(!intr);
    pic_destroy(&p);
}

TEST(ocw2_rotations)
{
    struct pic p;

    setup(&p, 1);
    out(&p, 0, 0, 0xc3); /* set priority: 3 lowest, 4 highest */
    pic_set(&p, 3, true);
    pic_set(&p, 4, true);
    CHECK_EQ(pic_ack(&p), 0x24);
    out(&p, 0, 0, 0xe4); /* rotate on specific EOI: 4 lowest */
    pic_set(&p, 5, true);
    CHECK_EQ(pic_ack(&p), 0x25);
    out(&p, 0, 0, 0xa0); /* rotate on non-specific EOI: 5 lowest */
    pic_set(&p, 5, false);
    pic_set(&p, 5, true);
    CHECK_EQ(pic_ack(&p), 0x23);
    CHECK(!intr);
    out(&p, 0, 0, 0x63); /* specific EOI */
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x25);
    pic_destroy(&p);
}

TEST(special_mask_mode)
{
    struct pic p;

    setup(&p, 1);
    pic_set(&p, 2 + 1, true);
    CHECK_EQ(pic_ack(&p), 0x23);
    pic_set(&p, 6, true);
    CHECK(!intr);
    out(&p, 0, 1, 0x08); /* mask the one in service ... */
    out(&p, 0, 0, 0x68); /* ... and let the lower ones through */
    CHECK(intr);
    CHECK_EQ(pic_ack(&p), 0x26);
    pic_destroy(&p);
}

TEST(poll)
{
    struct pic p;

    setup(&p, 1);
    out(&p, 0, 0, 0x0c);
    CHECK_EQ(in(&p, 0, 0), 0x00);
    pic_set(&p, 6, true);
    out(&p, 0, 0, 0x0c);
    CHECK_EQ(in(&p, 0, 0), 0x86);
    CHECK(!intr); /* the read was the acknowledge */
    out(&p, 0, 0, 0x0b);
    CHECK_EQ(in(&p, 0, 0), 0x40);
    pic_destroy(&p);
}

TEST(icw1_clears)
{
    struct pic p;

    setup(&p, 1);
    out(&p, 0, 1, 0x55);
    pic_set(&p, 0, true);
    out(&p, 0, 0, 0x11);
    CHECK_EQ(in(&p, 0, 1), 0);
    CHECK(!intr); /* an edge seen before does not count */
    out(&p, 0, 1, 0x40);
    out(&p, 0, 1, 4);
    out(&p, 0, 1, 1);
    pic_set(&p, 7, true);
    CHECK_EQ(pic_ack(&p), 0x47);
    pic_destroy(&p);
}

static struct pic *made(void)
{
    static struct pic p;

    setup(&p, 1);
    return &p;
}

TEST(state_survives)
{
    struct pic *a = made(), b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf buf = { 0 };
    struct error err;

    pic_set(a, 4, true);
    pic_set(a, 9, true);
    CHECK_EQ(pic_ack(a), 0x29);
    pic_set(a, 1, true);
    CHECK_EQ(state_add(la, &pic_state, 0, a), 0);
    CHECK_EQ(state_save(la, &buf, &err), 0);
    pic_init(&b, set_intr, NULL);
    CHECK_EQ(state_add(lb, &pic_state, 0, &b), 0);
    intr = false;
    CHECK_EQ(state_load(lb, buf.data, buf.len, &err), 0);
    CHECK(intr);
    CHECK(memcmp(a->chip, b.chip, sizeof(b.chip)) == 0);
    CHECK_EQ(pic_ack(&b), 0x21);
    state_buf_free(&buf);
    state_list_free(la);
    state_list_free(lb);
    pic_destroy(a);
    pic_destroy(&b);
}
