/* SPDX-License-Identifier: Apache-2.0 */
/* devices_i8042.c - the keyboard controller, keyboard and mouse: their command sets and what drivers probe for. */
#include "devices/i8042.h"
#include "devices/port92.h"

#include "test.h"

static bool irq1, irq12;
static unsigned irq1_edges, irq12_edges, resets;
static int a20 = -1;
static void set_irq1(void *chip, u32 pin, bool level)
{
    irq1_edges += level && !irq1;
    irq1 = level;
}
static void set_irq12(void *chip, u32 pin, bool level)
{
    irq12_edges += level && !irq12;
    irq12 = level;
}
static void set_a20(void *ctx, bool enabled) { a20 = enabled; }
static void reset(void *ctx, enum reset_kind kind)
{
    resets++;
    CHECK_EQ(kind, RESET_INIT);
}

static void setup(struct i8042 *k)
{
    static const struct i8042_config c = { { set_irq1, NULL, 1 }, { set_irq12, NULL, 12 }, set_a20, reset, NULL };

    irq1 = irq12 = false;
    irq1_edges = irq12_edges = resets = 0;
    a20 = -1;
    i8042_init(k, &c);
}
static void command(struct i8042 *k, u8 v) { i8042_command_ops.write(k, 0, 1, v); }
static void data(struct i8042 *k, u8 v) { i8042_data_ops.write(k, 0, 1, v); }
static u8 status(struct i8042 *k) { return (u8)i8042_command_ops.read(k, 0, 1); }
/* The next byte: 100h + byte from the keyboard side, 200h + byte from the mouse, 0 none. */
static unsigned next(struct i8042 *k)
{
    u8 s = status(k);

    return s & 1 ? (unsigned)i8042_data_ops.read(k, 0, 1) | (s & 0x20 ? 0x200 : 0x100) : 0;
}

TEST(controller_commands)
{
    static const struct { u8 command; int argument; unsigned answer; } table[] = {
        { 0xaa, -1, 0x155 }, { 0xab, -1, 0x100 }, { 0xa9, -1, 0x100 }, { 0x20, -1, 0x147 }, { 0xc0, -1, 0x1a0 },
        { 0xd2, 0x5a, 0x15a }, { 0xd3, 0xa5, 0x2a5 }, { 0xe0, -1, 0x100 }, { 0xd0, -1, 0x1cf }, { 0xff, -1, 0 },
    };
    struct i8042 k;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&k);
        command(&k, table[i].command);
        CHECK_EQ(status(&k) & 8, 8);
        if (table[i].argument >= 0)
            data(&k, (u8)table[i].argument);
        CHECK_EQ(next(&k), table[i].answer);
        CHECK_EQ(next(&k), 0);
        CHECK_EQ(resets, 0);
        i8042_destroy(&k);
    }
    setup(&k);
    command(&k, 0x65); /* RAM */
    data(&k, 0x99);
    command(&k, 0x25);
    CHECK_EQ(next(&k), 0x199);
    command(&k, 0xa7);
    command(&k, 0x20);
    CHECK_EQ(next(&k), 0x167);
    command(&k, 0xa8);
    command(&k, 0xad);
    command(&k, 0x20);
    CHECK_EQ(next(&k), 0x157);
    i8042_destroy(&k);
}

TEST(a20_and_reset)
{
    struct i8042 k;

    setup(&k);
    command(&k, 0xd1);
    data(&k, 0xdd);
    CHECK_EQ(a20, 0);
    command(&k, 0xd0);
    CHECK_EQ(next(&k) & 3, 1);
    command(&k, 0xdf);
    CHECK_EQ(a20, 1);
    command(&k, 0xdd);
    CHECK_EQ(a20, 0);
    CHECK_EQ(resets, 0);
    command(&k, 0xfe);
    CHECK_EQ(resets, 1);
    command(&k, 0xd1);
    data(&k, 0xde);
    CHECK_EQ(resets, 2);
    i8042_destroy(&k);
}

TEST(keyboard_commands)
{
    static const struct { const char *name; u8 in[4]; unsigned n; u8 out[6]; unsigned m; } table[] = {
        { "reset", { 0xff }, 1, { 0xfa, 0xaa }, 2 },        { "identify", { 0xf2 }, 1, { 0xfa, 0xab, 0x83 }, 3 },
        { "echo", { 0xee }, 1, { 0xee }, 1 },               { "leds", { 0xed, 0x07 }, 2, { 0xfa, 0xfa }, 2 },
        { "rate", { 0xf3, 0x20 }, 2, { 0xfa, 0xfa }, 2 },   { "enable", { 0xf4 }, 1, { 0xfa }, 1 },
        { "disable", { 0xf5 }, 1, { 0xfa }, 1 },            { "default", { 0xf6 }, 1, { 0xfa }, 1 },
        { "which set", { 0xf0, 0 }, 2, { 0xfa, 0xfa, 2 }, 3 }, { "set 3", { 0xf0, 3, 0xf0, 0 }, 4, { 0xfa, 0xfa, 0xfa, 0xfa, 3 }, 5 },
        { "nonsense", { 0x12 }, 1, { 0xfe }, 1 },           { "resend", { 0xee, 0xfe }, 2, { 0xee, 0xee }, 2 },
        { "all typematic", { 0xf7 }, 1, { 0xfa }, 1 },
    };
    struct i8042 k;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        u8 got[16] = { 0 };
        unsigned n = 0, v;

        setup(&k);
        command(&k, 0x60);
        data(&k, 0x05); /* no translation */
        for (unsigned j = 0; j < table[i].n; j++) {
            data(&k, table[i].in[j]);
            while (n < 16 && (v = next(&k)) != 0)
                got[n++] = (u8)v;
        }
        CHECK_EQ(n, table[i].m);
        if (memcmp(got, table[i].out, sizeof(table[i].out)) != 0)
            CHECK_STR(table[i].name, "to be answered rightly");
        i8042_destroy(&k);
    }
}

TEST(mouse_commands)
{
    static const struct { const char *name; u8 in[8]; unsigned n; u8 out[12]; unsigned m; } table[] = {
        { "reset", { 0xff }, 1, { 0xfa, 0xaa, 0x00 }, 3 },
        { "identify", { 0xf2 }, 1, { 0xfa, 0x00 }, 2 },
        { "status", { 0xe9 }, 1, { 0xfa, 0x00, 2, 100 }, 4 },
        { "resolution", { 0xe8, 3, 0xe9 }, 3, { 0xfa, 0xfa, 0xfa, 0x00, 3, 100 }, 6 },
        { "enable", { 0xf4, 0xe9 }, 2, { 0xfa, 0xfa, 0x20, 2, 100 }, 5 },
        { "read", { 0xeb }, 1, { 0xfa, 0x08, 0, 0 }, 4 },
        { "wrap", { 0xee, 0x55, 0xec, 0x55 }, 4, { 0xfa, 0x55, 0xfa, 0xfe }, 4 },
        { "wheel", { 0xf3, 200, 0xf3, 100, 0xf3, 80, 0xf2 }, 7, { 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 3 }, 8 },
        { "remote", { 0xf0, 0xe9 }, 2, { 0xfa, 0xfa, 0x40, 2, 100 }, 5 },
    };
    struct i8042 k;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        u8 got[16] = { 0 };
        unsigned n = 0, v;

        setup(&k);
        for (unsigned j = 0; j < table[i].n; j++) {
            command(&k, 0xd4);
            data(&k, table[i].in[j]);
            while (n < 16 && (v = next(&k)) != 0) {
                CHECK_EQ(v >> 8, 2);
                got[n++] = (u8)v;
            }
        }
        CHECK_EQ(n, table[i].m);
        if (memcmp(got, table[i].out, sizeof(table[i].out)) != 0)
            CHECK_STR(table[i].name, "to be answered rightly");
        i8042_destroy(&k);
    }
}

TEST(keys_are_translated)
{
    static const u8 keys[] = { 0x1c, 0xf0, 0x1c, 0xe0, 0x75, 0xe0, 0xf0, 0x75, 0x83 };
    static const u8 want[] = { 0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41 };
    struct i8042 k;

    setup(&k);
    for (unsigned i = 0; i < sizeof(keys);) { /* key by key */
        unsigned n = 1;

        while (keys[i + n - 1] == 0xe0 || keys[i + n - 1] == 0xf0)
            n++;
        i8042_key(&k, keys + i, n);
        i += n;
    }
    CHECK(irq1);
    for (unsigned i = 0; i < sizeof(want); i++)
        CHECK_EQ(next(&k), 0x100u + want[i]);
    CHECK_EQ(next(&k), 0);
    CHECK_EQ(irq1_edges, sizeof(want)); /* an edge a byte */
    CHECK(!irq1);
    command(&k, 0xad); /* disabled: keys wait */
    i8042_key(&k, keys, 1);
    CHECK_EQ(next(&k), 0);
    command(&k, 0xae);
    CHECK_EQ(next(&k), 0x11e);
    for (int i = 0; i < 1000; i++)
        i8042_key(&k, keys, 3);
    i8042_destroy(&k);
}

TEST(mouse_moves)
{
    struct i8042 k;

    setup(&k);
    i8042_mouse(&k, 1, 1, 0, 0);
    CHECK_EQ(next(&k), 0); /* not enabled */
    command(&k, 0xd4);
    data(&k, 0xf4);
    CHECK(irq12);
    CHECK_EQ(next(&k), 0x2fa);
    i8042_mouse(&k, 300, -5, 0, 1);
    CHECK_EQ(next(&k), 0x229);
    CHECK_EQ(next(&k), 0x2ff);
    CHECK_EQ(next(&k), 0x2fb);
    CHECK_EQ(next(&k), 0x209); /* the rest of the way */
    CHECK_EQ(next(&k), 0x22d);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0);
    for (int i = 0; i < 1000; i++)
        i8042_mouse(&k, INT32_MAX, INT32_MIN, INT32_MAX, (u8)i);
    i8042_destroy(&k);
}

/* What Linux' i8042 driver does (i8042_controller_check, i8042_check_aux, i8042_toggle_aux, the IRQ test). */
TEST(driver_probe)
{
    struct i8042 k;

    setup(&k);
    CHECK_EQ(next(&k), 0);
    command(&k, 0xaa);
    CHECK_EQ(next(&k), 0x155);
    command(&k, 0x60);
    data(&k, 0x74); /* both ports off */
    command(&k, 0xd3);
    data(&k, 0x5a);
    CHECK_EQ(next(&k), 0x25a);
    command(&k, 0xa9);
    CHECK_EQ(next(&k), 0x100);
    command(&k, 0xa7);
    command(&k, 0x20);
    CHECK(next(&k) & 0x20);
    command(&k, 0xa8);
    command(&k, 0x20);
    CHECK(!(next(&k) & 0x20));
    command(&k, 0x60);
    data(&k, 0x56); /* aux interrupt on */
    command(&k, 0xd3);
    data(&k, 0xa5);
    CHECK(irq12);
    CHECK_EQ(next(&k), 0x2a5);
    CHECK(!irq12);
    CHECK_EQ(irq1_edges, 1); /* the self test's */
    i8042_destroy(&k);
}

TEST(port_92_and_the_gate)
{
    struct port92 p;

    a20 = -1;
    resets = 0;
    port92_init(&p, set_a20, reset, NULL);
    CHECK(port92_a20(&p));
    port92_keyboard_a20(&p, false);
    CHECK_EQ(a20, 0);
    port92_ops.write(&p, 0, 1, 2);
    CHECK_EQ(a20, 1);
    port92_keyboard_a20(&p, true);
    port92_ops.write(&p, 0, 1, 0);
    CHECK_EQ(a20, 1); /* either opens it */
    port92_ops.write(&p, 0, 1, 0xff);
    CHECK_EQ(resets, 1);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 3);
    port92_ops.write(&p, 0, 1, 1); /* no edge */
    CHECK_EQ(resets, 1);
    port92_keyboard_a20(&p, false);
    CHECK_EQ(a20, 0);
    port92_reset(&p);
    CHECK_EQ(a20, 1);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 0);
    port92_destroy(&p);
}

TEST(state_survives)
{
    static const u8 key[] = { 0x1c, 0xf0, 0x1c };
    struct i8042 a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    command(&a, 0xd4);
    data(&a, 0xf4);
    i8042_key(&a, key, 3);
    i8042_mouse(&a, 5, 6, 0, 0);
    command(&a, 0xd1);
    CHECK_EQ(state_add(la, &i8042_state, 0, &a), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    setup(&b);
    CHECK_EQ(state_add(lb, &i8042_state, 0, &b), 0);
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    CHECK_EQ(next(&b), 0x2fa);
    CHECK_EQ(next(&b), 0x11e);
    CHECK_EQ(next(&b), 0x19e);
    CHECK_EQ(next(&b), 0x208);
    data(&b, 0xdd);
    CHECK_EQ(a20, 0);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    i8042_destroy(&a);
    i8042_destroy(&b);
}
