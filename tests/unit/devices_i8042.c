/* SPDX-License-Identifier: Apache-2.0 */
/* devices_i8042.c - the keyboard controller, keyboard and mouse: their command sets and what drivers probe for. */
#include "devices/i8042.h"
#include "devices/port92.h"

#include <linux/input-event-codes.h>

#include "fake_loop.h"
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
    static const struct i8042_config c = {
        .irq_keyboard = { set_irq1, NULL, 1 }, .irq_mouse = { set_irq12, NULL, 12 }, .a20 = set_a20, .reset = reset
    };

    irq1 = irq12 = false;
    irq1_edges = irq12_edges = resets = 0;
    a20 = -1;
    i8042_init(k, &c);
}
static void key(struct i8042 *k, u16 code, bool down) { k->sink.ops->key(k->sink.dev, code, down); }
static void move(struct i8042 *k, s32 dx, s32 dy, s32 wheel, u8 buttons)
{
    k->sink.ops->relative(k->sink.dev, dx, dy, wheel, buttons);
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
        { 0xd2, 0x5a, 0x15a }, { 0xd3, 0xa5, 0x2a5 }, { 0xe0, -1, 0x100 }, { 0xd0, -1, 0x1cf }, { 0xff, -1, 0 }, { 0xa4, -1, 0x1f1 },
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
        { "all typematic", { 0xf7 }, 1, { 0xfa }, 1 },      { "set 4", { 0xf0, 4, 2 }, 3, { 0xfa, 0xfe, 0xfa }, 3 },
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
        { "buttons", { 0xf3, 200, 0xf3, 200, 0xf3, 80, 0xf2 }, 7, { 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 0xfa, 4 }, 8 },
        { "resend", { 0xeb, 0xfe }, 2, { 0xfa, 0x08, 0, 0, 0x08, 0, 0 }, 7 },
        { "scaling", { 0xe7, 0xe9, 0xf6, 0xe9 }, 4, { 0xfa, 0xfa, 0x10, 2, 100, 0xfa, 0xfa, 0, 2, 100 }, 10 },
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

/* What a key says, down and up, in a set and without translation. */
TEST(scan_codes)
{
    static const struct { u8 set; u16 code, with; u8 want[12]; } table[] = {
        { 2, KEY_A, 0, { 0x1c, 0xf0, 0x1c } },
        { 1, KEY_A, 0, { 0x1e, 0x9e } },
        { 3, KEY_LEFTCTRL, 0, { 0x11, 0xf0, 0x11 } },
        { 3, KEY_A, 0, { 0x1c } }, /* typematic: no break */
        { 2, KEY_UP, 0, { 0xe0, 0x75, 0xe0, 0xf0, 0x75 } },
        { 1, KEY_UP, 0, { 0xe0, 0x48, 0xe0, 0xc8 } },
        { 2, KEY_F7, 0, { 0x83, 0xf0, 0x83 } },
        { 1, KEY_F7, 0, { 0x41, 0xc1 } },
        { 2, KEY_SYSRQ, 0, { 0xe0, 0x12, 0xe0, 0x7c, 0xe0, 0xf0, 0x7c, 0xe0, 0xf0, 0x12 } },
        { 2, KEY_SYSRQ, KEY_LEFTALT, { 0x84, 0xf0, 0x84 } },
        { 2, KEY_SYSRQ, KEY_LEFTCTRL, { 0xe0, 0x7c, 0xe0, 0xf0, 0x7c } },
        { 1, KEY_SYSRQ, 0, { 0xe0, 0x2a, 0xe0, 0x37, 0xe0, 0xb7, 0xe0, 0xaa } },
        { 1, KEY_SYSRQ, KEY_RIGHTALT, { 0x54, 0xd4 } },
        { 2, KEY_PAUSE, 0, { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 } },
        { 1, KEY_PAUSE, 0, { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 } },
        { 2, KEY_PAUSE, KEY_RIGHTCTRL, { 0xe0, 0x7e, 0xe0, 0xf0, 0x7e } },
        { 1, KEY_KPENTER, 0, { 0xe0, 0x1c, 0xe0, 0x9c } },
        { 2, KEY_POWER, 0, { 0xe0, 0x37, 0xe0, 0xf0, 0x37 } },
        { 2, KEY_PROG1, 0, { 0 } }, /* no key of this keyboard */
    };
    struct i8042 k;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        u8 got[12] = { 0 };
        unsigned n = 0, v;

        setup(&k);
        command(&k, 0x60);
        data(&k, 0x05);
        data(&k, 0xf0);
        next(&k);
        data(&k, table[i].set);
        next(&k);
        if (table[i].with)
            key(&k, table[i].with, true);
        while (next(&k))
            ;
        key(&k, table[i].code, true);
        key(&k, table[i].code, false);
        while (n < 12 && (v = next(&k)) != 0)
            got[n++] = (u8)v;
        if (memcmp(got, table[i].want, sizeof got)) {
            printf("row %u\n", i);
            CHECK_STR("its codes", "other codes");
        }
        i8042_destroy(&k);
    }
    setup(&k); /* all keys of Linux' first 89 are in set 1 what they are there */
    for (u16 c = KEY_ESC; c <= KEY_F12; c++) {
        if (c == KEY_ZENKAKUHANKAKU || c == 84)
            continue;
        key(&k, c, true);
        CHECK_EQ(next(&k), 0x100u + c);
        key(&k, c, false);
        CHECK_EQ(next(&k), 0x180u + c);
    }
    i8042_destroy(&k);
}

TEST(types_of_set_3)
{
    static const struct { u8 commands[3]; unsigned n; u8 want[4]; bool repeats; } table[] = {
        { { 0xf8 }, 1, { 0x1c, 0xf0, 0x1c }, false },       { { 0xf9 }, 1, { 0x1c }, false },
        { { 0xfa }, 1, { 0x1c, 0xf0, 0x1c }, true },        { { 0xf7 }, 1, { 0x1c }, true },
        { { 0xf7, 0xfc, 0x1c }, 3, { 0x1c, 0xf0, 0x1c }, false }, { { 0xf8, 0xfd, 0x1c }, 3, { 0x1c }, false },
        { { 0xf8, 0xfb, 0x1c }, 3, { 0x1c }, true },
    };
    struct i8042 k;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&k);
        command(&k, 0x60);
        data(&k, 0x05);
        data(&k, 0xf0);
        data(&k, 3);
        for (unsigned j = 0; j < table[i].n; j++)
            data(&k, table[i].commands[j]);
        data(&k, 0xee); /* ends the list of keys */
        while (next(&k))
            ;
        key(&k, KEY_A, true);
        CHECK_EQ(next(&k), 0x11c);
        fake_advance(510000000);
        CHECK_EQ(next(&k), table[i].repeats ? 0x11c : 0);
        key(&k, KEY_A, false);
        for (unsigned j = 1; table[i].want[j]; j++)
            CHECK_EQ(next(&k), 0x100u + table[i].want[j]);
        CHECK_EQ(next(&k), 0);
        i8042_destroy(&k);
    }
}

TEST(keys_are_translated)
{
    static const struct { u16 code; bool down; } keys[] = { { KEY_A, true }, { KEY_A, false }, { KEY_UP, true }, { KEY_UP, false },
                                                            { KEY_F7, true } };
    static const u8 want[] = { 0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41 };
    struct i8042 k;

    setup(&k);
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        key(&k, keys[i].code, keys[i].down);
    CHECK(irq1);
    CHECK_EQ(k.sink.ops->waiting(&k), 1 + 1 + 1 + 2 + 3 + 1); /* of set 2 */
    for (unsigned i = 0; i < sizeof(want); i++)
        CHECK_EQ(next(&k), 0x100u + want[i]);
    CHECK_EQ(next(&k), 0);
    CHECK_EQ(k.sink.ops->waiting(&k), 0);
    CHECK_EQ(irq1_edges, sizeof(want)); /* an edge a byte */
    CHECK(!irq1);
    command(&k, 0xad); /* disabled: keys wait */
    key(&k, KEY_A, true);
    CHECK_EQ(next(&k), 0);
    command(&k, 0xae);
    CHECK_EQ(next(&k), 0x11e);
    for (int i = 0; i < 100; i++) { /* too many */
        key(&k, KEY_B, true);
        key(&k, KEY_B, false);
    }
    unsigned codes = 0, overruns = 0;
    for (unsigned v; (v = next(&k)) != 0;) {
        codes += v == 0x130 || v == 0x1b0;
        overruns += v == 0x1ff; /* 00h, translated */
    }
    CHECK(codes > 30 && codes < 64);
    CHECK_EQ(overruns, 1);
    data(&k, 0xf5); /* not scanning */
    CHECK_EQ(next(&k), 0x1fa);
    key(&k, KEY_C, true);
    CHECK_EQ(next(&k), 0);
    i8042_destroy(&k);
}

TEST(typematic)
{
    struct i8042 k;

    setup(&k);
    key(&k, KEY_A, true);
    CHECK_EQ(next(&k), 0x11e);
    fake_advance(499000000);
    CHECK_EQ(next(&k), 0);
    fake_advance(2000000);
    CHECK_EQ(next(&k), 0x11e);
    unsigned n = 0;
    for (unsigned i = 0; i < 1000; i++) { /* 10.9 a second */
        fake_advance(1000000);
        n += next(&k) == 0x11e;
    }
    CHECK_EQ(n, 10);
    fake_advance(1000000000); /* nobody reads: one waits, not ten, and it begins anew */
    CHECK_EQ(next(&k), 0x11e);
    CHECK_EQ(next(&k), 0);
    fake_advance(490000000);
    CHECK_EQ(next(&k), 0);
    fake_advance(20000000);
    CHECK_EQ(next(&k), 0x11e);
    data(&k, 0xf3); /* 250 ms, 30 a second */
    CHECK_EQ(next(&k), 0x1fa);
    data(&k, 0x00);
    CHECK_EQ(next(&k), 0x1fa);
    key(&k, KEY_LEFTSHIFT, true); /* the last one that went down repeats */
    CHECK_EQ(next(&k), 0x12a);
    fake_advance(249000000);
    CHECK_EQ(next(&k), 0);
    n = 0;
    for (unsigned i = 0; i < 1002; i++) {
        fake_advance(1000000);
        n += next(&k) == 0x12a;
    }
    CHECK_EQ(n, 31);
    key(&k, KEY_A, false);
    CHECK_EQ(next(&k), 0x19e);
    fake_advance(40000000);
    CHECK_EQ(next(&k), 0x12a);
    key(&k, KEY_LEFTSHIFT, false);
    CHECK_EQ(next(&k), 0x1aa);
    CHECK_EQ(fake_advance(2000000000), 0);
    i8042_destroy(&k);
}

static void mouse(struct i8042 *k, u8 v)
{
    command(k, 0xd4);
    data(k, v);
    CHECK_EQ(next(k), 0x2fa);
}

TEST(mouse_moves)
{
    struct i8042 k;

    setup(&k);
    move(&k, 1, -1, 0, 0);
    CHECK_EQ(next(&k), 0); /* not enabled */
    command(&k, 0xd4);
    data(&k, 0xf4);
    CHECK(irq12);
    CHECK_EQ(next(&k), 0x2fa);
    move(&k, 300, 5, 0, INPUT_LEFT);
    CHECK_EQ(next(&k), 0x229);
    CHECK_EQ(next(&k), 0x2ff);
    CHECK_EQ(next(&k), 0x2fb);
    CHECK_EQ(next(&k), 0x209); /* the rest of the way */
    CHECK_EQ(next(&k), 0x22d);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0);
    move(&k, 0, 0, 3, INPUT_LEFT | INPUT_SIDE); /* no wheel, no such button: nothing to say */
    while (next(&k))
        ;
    mouse(&k, 0xe7);
    move(&k, 4, 100, 0, INPUT_LEFT);
    CHECK_EQ(next(&k), 0x229);
    CHECK_EQ(next(&k), 0x206);
    CHECK_EQ(next(&k), 0x200 + (u8)-200);
    mouse(&k, 0xe6);
    for (unsigned i = 0; i < 3; i++) {
        mouse(&k, 0xf3);
        mouse(&k, (const u8[]){ 200, 200, 80 }[i]);
    }
    move(&k, 0, 0, 2, INPUT_SIDE); /* wheel away from the user */
    CHECK_EQ(next(&k), 0x208);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0x21e);
    move(&k, 0, 0, 0, 0);
    CHECK_EQ(next(&k), 0x208);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0x200);
    CHECK_EQ(next(&k), 0);
    for (int i = 0; i < 1000; i++)
        move(&k, INT32_MAX, INT32_MIN, INT32_MIN, (u8)i);
    unsigned left = 0; /* a button that went up with no room to say so is told of later */
    move(&k, 0, 0, 0, 0);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned b = next(&k);
        if (!b)
            break;
        left = b;
        for (unsigned j = 0; j < 3; j++)
            next(&k);
    }
    CHECK_EQ(left & 7, 0);
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
    CHECK_EQ(port92_ops.read(&p, 0, 1), 2); /* as the gate is */
    port92_ops.write(&p, 0, 1, 2);
    port92_keyboard_a20(&p, false); /* who spoke last decides */
    CHECK_EQ(a20, 0);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 0);
    port92_ops.write(&p, 0, 1, 2);
    CHECK_EQ(a20, 1);
    port92_keyboard_a20(&p, true);
    port92_ops.write(&p, 0, 1, 0);
    CHECK_EQ(a20, 0);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 0);
    port92_ops.write(&p, 0, 1, 0xff);
    CHECK_EQ(resets, 1);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 3);
    port92_ops.write(&p, 0, 1, 1); /* no edge */
    CHECK_EQ(resets, 1);
    CHECK_EQ(a20, 0);
    port92_ops.write(&p, 0, 1, 0);
    port92_ops.write(&p, 0, 1, 1); /* the processor starts beyond 1 MiB */
    CHECK_EQ(resets, 2);
    CHECK_EQ(a20, 1);
    port92_keyboard_a20(&p, false);
    port92_reset(&p);
    CHECK_EQ(a20, 1);
    CHECK_EQ(port92_ops.read(&p, 0, 1), 2);
    port92_destroy(&p);
}

TEST(state_survives)
{
    struct i8042 a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    command(&a, 0xd4);
    data(&a, 0xf4);
    key(&a, KEY_A, true);
    key(&a, KEY_A, false);
    key(&a, KEY_B, true);
    move(&a, 5, -6, 0, 0);
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
    CHECK_EQ(next(&b), 0x130);
    CHECK_EQ(next(&b), 0x208);
    CHECK_EQ(next(&b), 0x205);
    CHECK_EQ(next(&b), 0x206);
    fake_advance(510000000); /* B is held */
    CHECK_EQ(next(&b), 0x130);
    data(&b, 0xdd);
    CHECK_EQ(a20, 0);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    i8042_destroy(&a);
    i8042_destroy(&b);
}
