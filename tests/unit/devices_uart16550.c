/* SPDX-License-Identifier: Apache-2.0 */
/* devices_uart16550.c - the serial port against the PC16550D data sheet, and against what drivers probe for. */
#include "devices/uart16550.h"

#include "fake_loop.h"
#include "test.h"

static bool irq;
static unsigned irq_edges, tx_calls, resumed;
static u8 sent[32768];
static size_t sent_len;

static void set_irq(void *chip, u32 pin, bool level)
{
    irq_edges += level && !irq;
    irq = level;
}
static void tx(void *ctx, const u8 *data, size_t len)
{
    memcpy(sent + sent_len, data, len);
    sent_len += len;
    tx_calls++;
}
static void can_receive(void *ctx) { resumed++; }

static void setup(struct uart *u)
{
    struct uart_config c = { .irq = { set_irq, NULL, 4 }, .loop = (struct loop *)&irq, .tx = tx, .can_receive = can_receive };

    irq = false;
    irq_edges = tx_calls = resumed = 0;
    sent_len = 0;
    fake_posts = 0;
    uart_init(u, &c);
}
static void out(struct uart *u, unsigned r, u8 v) { uart_ops.write(u, r, 1, v); }
static u8 in(struct uart *u, unsigned r) { return (u8)uart_ops.read(u, r, 1); }

TEST(reset_values)
{
    static const u8 want[8] = { 0, 0, 0x01, 0, 0, 0x60, 0xb0, 0 };
    struct uart u;

    setup(&u);
    for (unsigned r = 0; r < 8; r++)
        CHECK_EQ(in(&u, r), want[r]);
    uart_destroy(&u);
}

TEST(writable_bits)
{
    static const struct { u8 reg, mask; } table[] = { { 1, 0x0f }, { 3, 0xff }, { 4, 0x1f }, { 7, 0xff } };
    struct uart u;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&u);
        out(&u, table[i].reg, 0xff);
        CHECK_EQ(in(&u, table[i].reg), table[i].mask);
        out(&u, table[i].reg, 0);
        CHECK_EQ(in(&u, table[i].reg), 0);
        uart_destroy(&u);
    }
    setup(&u);
    out(&u, 3, 0x80); /* DLAB */
    out(&u, 0, 0x12);
    out(&u, 1, 0x34);
    CHECK_EQ(in(&u, 0), 0x12);
    CHECK_EQ(in(&u, 1), 0x34);
    out(&u, 3, 0x03);
    CHECK_EQ(in(&u, 1), 0);
    uart_destroy(&u);
}

TEST(sending_is_gathered)
{
    struct uart u;

    setup(&u);
    for (unsigned i = 0; i < 100; i++) {
        CHECK(in(&u, 5) & 0x20);
        out(&u, 0, (u8)i);
    }
    CHECK_EQ(sent_len, 0);
    fake_run_posts();
    CHECK_EQ(sent_len, 100);
    CHECK_EQ(tx_calls, 1);
    CHECK_EQ(sent[99], 99);
    for (unsigned i = 0; i < 10000; i++) /* faster than the loop */
        out(&u, 0, (u8)i);
    uart_flush(&u);
    CHECK_EQ(sent_len, 10100);
    for (unsigned i = 0; i < 10000; i++)
        if (sent[100 + i] != (u8)i)
            CHECK(!"order");
    uart_destroy(&u);
}

/* A vCPU waits for a slow reader; a pause of the machine lets it go (as the fake's loop_wait does), and nothing is lost. */
TEST(a_pause_lets_go)
{
    struct uart u;

    setup(&u);
    u.vcpus = (struct loop *)&irq;
    fake_waits = 0;
    for (unsigned i = 0; i < UART_TX_BUFFER + 20; i++)
        out(&u, 0, (u8)i);
    CHECK_EQ(fake_waits, 20);
    CHECK_EQ(sent_len, 0);
    fake_run_posts();
    CHECK(u.room);
    CHECK_EQ(sent_len, UART_TX_BUFFER + 20);
    for (unsigned i = 0; i < sent_len; i++)
        if (sent[i] != (u8)i)
            CHECK(!"order");
    for (unsigned i = 0; i < 3 * UART_TX_BUFFER; i++) /* no pause lets so many pass, but if one does */
        out(&u, 0, 1);
    fake_run_posts();
    CHECK_EQ(sent_len, UART_TX_BUFFER + 20 + UART_TX_BUFFER + UART_TX_RESERVE);
    uart_destroy(&u);
}

/* What Linux' 8250 driver does to find the chip (serial8250: autoconfig, do_startup). */
TEST(driver_probe)
{
    struct uart u;

    setup(&u);
    out(&u, 1, 0);
    CHECK_EQ(in(&u, 1) & 0xf, 0);
    out(&u, 1, 0xf);
    CHECK_EQ(in(&u, 1) & 0xf, 0xf);
    out(&u, 1, 0);
    out(&u, 4, 0x10 | 0x08 | 0x02); /* loopback: OUT2, RTS */
    CHECK_EQ(in(&u, 6) & 0xf0, 0x90);
    out(&u, 4, 0);
    out(&u, 2, 1);
    CHECK_EQ(in(&u, 2) >> 6, 3); /* 16550A */
    /* size_fifo: in loopback, 256 bytes out, count what comes back */
    out(&u, 2, 0x07);
    out(&u, 4, 0x10);
    for (int i = 0; i < 256; i++)
        out(&u, 0, (u8)i);
    unsigned count = 0;
    while (in(&u, 5) & 1) {
        CHECK_EQ(in(&u, 0), count);
        count++;
    }
    CHECK_EQ(count, 16);
    CHECK_EQ(sent_len, 0);
    out(&u, 4, 0x08);
    /* The THRE test, twice: the interrupt comes again each time it is enabled. */
    for (int i = 0; i < 2; i++) {
        out(&u, 1, 0x02);
        CHECK(irq);
        CHECK_EQ(in(&u, 2) & 0xf, 0x02);
        CHECK(!irq); /* reading IIR takes it back */
        CHECK_EQ(in(&u, 2) & 0xf, 0x01);
        out(&u, 1, 0);
    }
    uart_destroy(&u);
}

TEST(interrupts_by_priority)
{
    struct uart u;

    setup(&u);
    out(&u, 2, 0x41); /* FIFO, trigger 4 */
    out(&u, 4, 0x08);
    out(&u, 1, 0x0f);
    CHECK_EQ(in(&u, 2), 0xc2);
    CHECK_EQ(uart_receive(&u, (const u8 *)"abc", 3), 3);
    CHECK_EQ(in(&u, 2), 0xcc); /* below the trigger: timeout */
    CHECK(irq);
    CHECK_EQ(uart_receive(&u, (const u8 *)"d", 1), 1);
    CHECK_EQ(in(&u, 2), 0xc4);
    uart_receive_break(&u);
    CHECK_EQ(in(&u, 2), 0xc4); /* the break is not on top yet */
    CHECK_EQ(in(&u, 5), 0xe1); /* but somewhere */
    CHECK_EQ(in(&u, 0), 'a');
    CHECK_EQ(in(&u, 0), 'b');
    CHECK_EQ(in(&u, 0), 'c');
    CHECK_EQ(in(&u, 0), 'd');
    CHECK_EQ(in(&u, 2), 0xc6);
    CHECK_EQ(in(&u, 5), 0xf1);
    CHECK_EQ(in(&u, 5), 0x61); /* reading cleared it */
    CHECK_EQ(in(&u, 0), 0);
    CHECK_EQ(in(&u, 2), 0xc1);
    CHECK(!irq);
    out(&u, 4, 0x18); /* loopback drops the modem inputs */
    CHECK_EQ(in(&u, 2), 0xc0);
    CHECK_EQ(in(&u, 6), 0x83);
    CHECK_EQ(in(&u, 2), 0xc1);
    uart_destroy(&u);
}

TEST(out2_gates_nothing)
{
    struct uart u;

    setup(&u);
    out(&u, 1, 0x01);
    uart_receive(&u, (const u8 *)"x", 1);
    CHECK_EQ(in(&u, 2), 0x04);
    CHECK(irq);
    CHECK_EQ(in(&u, 0), 'x');
    CHECK(!irq);
    uart_destroy(&u);
}

TEST(each_byte_sent_makes_an_edge)
{
    struct uart u;

    setup(&u);
    out(&u, 4, 0x08);
    out(&u, 1, 0x02);
    CHECK_EQ(irq_edges, 1);
    out(&u, 0, 'a');
    CHECK_EQ(irq_edges, 2);
    CHECK_EQ(in(&u, 2), 0x02);
    out(&u, 0, 'b');
    CHECK_EQ(irq_edges, 3);
    uart_destroy(&u);
}

TEST(receiving_waits_for_room)
{
    struct uart u;
    u8 data[40];

    setup(&u);
    for (u8 i = 0; i < 40; i++)
        data[i] = i;
    CHECK_EQ(uart_receive(&u, data, 40), 1); /* no FIFO */
    CHECK_EQ(resumed, 0);
    CHECK_EQ(in(&u, 0), 0);
    CHECK_EQ(resumed, 1);
    out(&u, 2, 1);
    CHECK_EQ(uart_receive(&u, data, 40), 16);
    CHECK_EQ(uart_receive(&u, data, 1), 0);
    CHECK_EQ(in(&u, 5) & 2, 0); /* no overrun: the sender was held */
    in(&u, 0);
    CHECK_EQ(resumed, 2);
    in(&u, 0);
    CHECK_EQ(resumed, 2); /* told once */
    out(&u, 2, 3); /* FIFO reset */
    CHECK_EQ(in(&u, 5) & 1, 0);
    out(&u, 4, 0x10); /* loopback */
    CHECK_EQ(uart_receive(&u, data, 1), 0);
    in(&u, 5);
    CHECK_EQ(resumed, 2);
    out(&u, 4, 0);
    CHECK_EQ(resumed, 3);
    uart_destroy(&u);
}

TEST(overrun)
{
    struct uart u;

    setup(&u);
    out(&u, 4, 0x10);
    out(&u, 0, 1);
    out(&u, 0, 2); /* 16450: the first is lost */
    CHECK_EQ(in(&u, 5), 0x63);
    CHECK_EQ(in(&u, 0), 2);
    CHECK_EQ(in(&u, 5), 0x60);
    uart_destroy(&u);
}

TEST(state_survives)
{
    struct uart a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    out(&a, 2, 0x81);
    out(&a, 4, 0x0b);
    out(&a, 1, 0x05);
    out(&a, 7, 0x5a);
    uart_receive(&a, (const u8 *)"hello", 5);
    out(&a, 0, 'z');
    CHECK_EQ(state_add(la, &uart_state, 0, &a), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    CHECK_EQ(sent_len, 1); /* what was on its way has gone */
    uart_destroy(&a);
    setup(&b);
    CHECK_EQ(state_add(lb, &uart_state, 0, &b), 0);
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK(irq); /* which a port that shares the line does not take away then */
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    CHECK_EQ(in(&b, 0), 'h');
    CHECK_EQ(in(&b, 7), 0x5a);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    uart_destroy(&b);
}
