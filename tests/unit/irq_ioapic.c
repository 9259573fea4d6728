/* SPDX-License-Identifier: Apache-2.0 */
/* irq_ioapic.c - the 82093AA against its data sheet. */
#include "irq_bench.h"

static u32 get(struct bench *b, u32 reg)
{
    ioapic_ops.write(&b->ioapic, 0, 4, reg);
    return (u32)ioapic_ops.read(&b->ioapic, 0x10, 4);
}
static void put(struct bench *b, u32 reg, u32 value)
{
    ioapic_ops.write(&b->ioapic, 0, 4, reg);
    ioapic_ops.write(&b->ioapic, 0x10, 4, value);
}
static void route(struct bench *b, u32 pin, u64 rte)
{
    put(b, 0x10 + pin * 2, (u32)rte);
    put(b, 0x11 + pin * 2, (u32)(rte >> 32));
}
enum { LEVEL = 0x8000, MASKED = 0x10000, REMOTE_IRR = 0x4000 };

TEST(registers)
{
    struct bench b;

    bench_open(&b);
    CHECK_EQ(get(&b, 1), 0x170011);
    put(&b, 1, 0);
    CHECK_EQ(get(&b, 1), 0x170011);
    put(&b, 0, 0xffffffff);
    CHECK_EQ(get(&b, 0), 0x0f000000);
    CHECK_EQ(get(&b, 2), 0x0f000000);
    put(&b, 2, 0);
    CHECK_EQ(get(&b, 2), 0x0f000000);
    for (u32 pin = 0; pin < 24; pin++)
        CHECK_EQ(get(&b, 0x10 + 2 * pin), MASKED);
    put(&b, 0x10, 0xffffffff);
    CHECK_EQ(get(&b, 0x10), 0x1afff); /* delivery status and remote IRR are read-only */
    put(&b, 0x11, 0xffffffff);
    CHECK_EQ(get(&b, 0x11), 0xff000000);
    CHECK_EQ(get(&b, 0x40), 0);
    put(&b, 0xff, 1);
    bench_close(&b);
}

TEST(edge)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    route(&b, 14, 0x76 | 1ull << 56);
    ioapic_set(&b.ioapic, 14, true);
    CHECK_EQ(bench_pending(&b), 2);
    CHECK_EQ(lapic_ack(b.lapic, 1), 0x76);
    ioapic_set(&b.ioapic, 14, true); /* no edge */
    bench_write(&b, 1, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK_EQ(b.eois, 0);
    ioapic_set(&b.ioapic, 14, false);
    put(&b, 0x10 + 28, 0x76 | MASKED);
    ioapic_set(&b.ioapic, 14, true); /* masked: lost */
    put(&b, 0x10 + 28, 0x76);
    CHECK_EQ(bench_pending(&b), 0);
    bench_close(&b);
}

TEST(level)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    route(&b, 9, 0x77 | LEVEL);
    ioapic_set(&b.ioapic, 9, true);
    CHECK_EQ(get(&b, 0x10 + 18), 0x77 | LEVEL | REMOTE_IRR);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x77);
    ioapic_set(&b.ioapic, 9, false);
    ioapic_set(&b.ioapic, 9, true);
    CHECK_EQ(bench_pending(&b), 0); /* in service */
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 1); /* still asserted: again */
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x77);
    CHECK(bench_read(&b, 0, 0x180 + 0x30) & 1u << 23); /* TMR */
    ioapic_set(&b.ioapic, 9, false);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(bench_pending(&b), 0);
    CHECK_EQ(get(&b, 0x10 + 18), 0x77 | LEVEL);
    put(&b, 0x10 + 18, 0x77 | LEVEL | MASKED);
    ioapic_set(&b.ioapic, 9, true);
    CHECK_EQ(bench_pending(&b), 0);
    put(&b, 0x10 + 18, 0x77 | LEVEL); /* a level waits behind the mask */
    CHECK_EQ(bench_pending(&b), 1);
    /* Ended by hand: to edge and back clears remote IRR. */
    put(&b, 0x10 + 18, 0x77 | MASKED);
    CHECK_EQ(get(&b, 0x10 + 18), 0x77 | MASKED);
    bench_close(&b);
}

TEST(a_line_that_nobody_takes_is_tried_again)
{
    struct bench b;

    bench_open(&b); /* local APICs software-disabled */
    route(&b, 9, 0x77 | LEVEL);
    ioapic_set(&b.ioapic, 9, true);
    CHECK_EQ(get(&b, 0x10 + 18), 0x77 | LEVEL);
    bench_enable_all(&b);
    ioapic_set(&b.ioapic, 9, true);
    CHECK_EQ(bench_pending(&b), 1);
    bench_close(&b);
}

TEST(delivery)
{
    static const struct { u64 rte; u32 intr, nmi, init; } table[] = {
        { 0x41 | 2ull << 56, 4, 0, 0 },           { 0x41 | 0xffull << 56, 15, 0, 0 }, { 0x841 | 0xdull << 56, 13, 0, 0 },
        { 0x400 | 1ull << 56, 0, 2, 0 },          { 0x500 | 3ull << 56, 0, 0, 8 },    { 0x600, 0, 0, 0 },
        { 0x41 | 9ull << 56, 0, 0, 0 },           { 0x200, 0, 0, 0 },                 { 0x300, 0, 0, 0 },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        struct bench b;
        u32 nmi = 0, init = 0;

        bench_open(&b);
        bench_enable_all(&b);
        for (u32 c = 0; c < BENCH_CPUS; c++)
            bench_write(&b, c, 0xd0, 1u << (24 + c));
        route(&b, 5, table[i].rte);
        ioapic_set(&b.ioapic, 5, true);
        for (u32 c = 0; c < BENCH_CPUS; c++) {
            nmi |= (b.nmi[c] ? 1u : 0) << c;
            init |= (b.init[c] ? 1u : 0) << c;
        }
        CHECK_EQ(bench_pending(&b), table[i].intr);
        CHECK_EQ(nmi, table[i].nmi);
        CHECK_EQ(init, table[i].init);
        bench_close(&b);
    }
}

TEST(extint)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    bench_write(&b, 0, 0x350, 0x10000);
    for (unsigned i = 0; i < 4; i++) {
        static const u8 icw[4] = { 0x11, 0x30, 0x04, 0x01 };

        pic_ops.write(&b.pic.port[0], i ? 1 : 0, 1, icw[i]);
    }
    pic_set(&b.pic, 6, true);
    CHECK_EQ(bench_pending(&b), 0);
    route(&b, 0, 0x700 | 1ull << 56);
    ioapic_set(&b.ioapic, 0, true);
    CHECK_EQ(bench_pending(&b), 2);
    CHECK_EQ(lapic_ack(b.lapic, 1), 0x36);
    CHECK_EQ(bench_pending(&b), 0);
    bench_close(&b);
}

TEST(gsi_zero_is_input_two)
{
    struct bench b;

    bench_open(&b);
    bench_enable_all(&b);
    pic_ops.write(&b.pic.port[0], 1, 1, 0xff); /* mask the 8259A */
    route(&b, 2, 0x50);
    route(&b, 0, 0x51);
    gsi_set(&b.gsi, 0, true);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x50);
    gsi_set(&b.gsi, 2, true); /* the cascade: no line */
    CHECK_EQ(bench_read(&b, 0, 0x220), 0);
    bench_close(&b);
}

TEST(state_survives)
{
    struct bench a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf buf = { 0 };
    struct error err;

    bench_open(&a);
    bench_enable_all(&a);
    route(&a, 9, 0x77 | LEVEL);
    route(&a, 3, 0x61);
    put(&a, 0, 0x05000000);
    ioapic_set(&a.ioapic, 9, true);
    ioapic_set(&a.ioapic, 3, true);
    CHECK_EQ(ioapic_add_state(&a.ioapic, la), 0);
    CHECK_EQ(lapic_add_state(a.lapic, la), 0);
    CHECK_EQ(state_save(la, &buf, &err), 0);
    CHECK_EQ(a.ioapic.s.chip.irr, 1u << 9);
    bench_open(&b);
    CHECK_EQ(ioapic_add_state(&b.ioapic, lb), 0);
    CHECK_EQ(lapic_add_state(b.lapic, lb), 0);
    CHECK_EQ(state_load(lb, buf.data, buf.len, &err), 0);
    CHECK_EQ(get(&b, 0), 0x05000000);
    CHECK_EQ(get(&b, 0x10 + 18), 0x77 | LEVEL | REMOTE_IRR);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x77);
    bench_write(&b, 0, 0xb0, 0);
    CHECK_EQ(lapic_ack(b.lapic, 0), 0x77); /* the line is still up there */
    ioapic_set(&b.ioapic, 3, true);        /* no edge */
    bench_write(&b, 0, 0xb0, 0);
    ioapic_set(&b.ioapic, 9, false);
    state_buf_free(&buf);
    state_list_free(la);
    state_list_free(lb);
    bench_close(&a);
    bench_close(&b);
}
