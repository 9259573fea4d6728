/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.c - see i8042.h.
 *
 * The output buffer holds one byte.  It is filled, in this order, by a reply of the
 * controller, the keyboard, the mouse; a port that is disabled waits.  The input
 * buffer is always empty: commands are carried out as they are written.
 */
#include "devices/i8042.h"

#include <errno.h>
#include <string.h>

enum { STATUS_OBF = 1, STATUS_IBF = 2, STATUS_SYS = 4, STATUS_COMMAND = 8, STATUS_UNLOCKED = 16, STATUS_AUX = 32 };
enum { CMD_IRQ1 = 1, CMD_IRQ12 = 2, CMD_SYS = 4, CMD_NO_KEYBOARD = 16, CMD_NO_AUX = 32, CMD_TRANSLATE = 64 };
enum { OUT_RESET = 1, OUT_A20 = 2, OUT_IRQ1 = 16, OUT_IRQ12 = 32 };
enum { /* commands */
    READ_RAM_FIRST = 0x20, READ_RAM_LAST = 0x3f, WRITE_RAM_FIRST = 0x60, WRITE_RAM_LAST = 0x7f, AUX_DISABLE = 0xa7,
    PASSWORD_TEST = 0xa4, AUX_ENABLE = 0xa8, AUX_TEST = 0xa9, SELF_TEST = 0xaa, KEYBOARD_TEST = 0xab, KEYBOARD_DISABLE = 0xad,
    KEYBOARD_ENABLE = 0xae, READ_INPUT = 0xc0, READ_OUTPUT = 0xd0, WRITE_OUTPUT = 0xd1, WRITE_KEYBOARD_OUT = 0xd2,
    WRITE_AUX_OUT = 0xd3, WRITE_AUX = 0xd4, A20_OFF = 0xdd, A20_ON = 0xdf, READ_TEST = 0xe0, PULSE_FIRST = 0xf0,
};

static u8 command_byte(const struct i8042 *k) { return k->ram[0]; }

static void update_irqs(struct i8042 *k)
{
    bool full = k->status & STATUS_OBF, aux = k->status & STATUS_AUX;
    bool irq1 = full && !aux && (command_byte(k) & CMD_IRQ1), irq12 = full && aux && (command_byte(k) & CMD_IRQ12);

    k->output_port = (u8)((k->output_port & ~(OUT_IRQ1 | OUT_IRQ12)) | (irq1 ? OUT_IRQ1 : 0) | (irq12 ? OUT_IRQ12 : 0));
    irq_set(&k->c.irq_keyboard, irq1);
    irq_set(&k->c.irq_mouse, irq12);
}

static void fill(struct i8042 *k, u8 value, bool aux)
{
    k->output = value;
    k->status = (u8)((k->status & ~STATUS_AUX) | STATUS_OBF | (aux ? STATUS_AUX : 0));
    update_irqs(k);
}

/* The keyboard's next byte after translation. */
static bool take_keyboard(struct i8042 *k, u8 *value)
{
    while (ps2_take(&k->keyboard.out, value)) {
        if (!(command_byte(k) & CMD_TRANSLATE)) {
            k->break_prefix = false;
            return true;
        }
        if (*value == 0xf0) {
            k->break_prefix = true;
            continue;
        }
        if (*value < 0x80)
            *value = ps2_set1[*value]; /* codes from 80h on pass, but for F7 (83h) and SysRq (84h) */
        else if (*value == 0x83 || *value == 0x84)
            *value = *value == 0x83 ? 0x41 : 0x54;
        if (k->break_prefix)
            *value |= 0x80;
        k->break_prefix = false;
        return true;
    }
    return false;
}

/* Fills the output buffer if it is empty and someone has something to say. */
static void refill(struct i8042 *k)
{
    u8 value;

    if (k->status & STATUS_OBF)
        return;
    if (k->reply_waits) {
        k->reply_waits = false;
        fill(k, k->reply, false);
    } else if (!(command_byte(k) & CMD_NO_KEYBOARD) && take_keyboard(k, &value)) {
        fill(k, value, false);
    } else if (!(command_byte(k) & CMD_NO_AUX) && ps2_mouse_take(&k->mouse, &value)) {
        fill(k, value, true);
    }
}

/* A reply of the controller comes next, but for a byte the guest has not read yet. */
static void reply(struct i8042 *k, u8 value)
{
    if (k->status & STATUS_OBF) {
        k->reply = value;
        k->reply_waits = true;
    } else {
        fill(k, value, false);
    }
}

struct effects { /* to be called without the lock */
    bool a20, reset;
    bool a20_level;
};

static void write_output_port(struct i8042 *k, u8 value, struct effects *e)
{
    e->a20 = true; /* also where nothing changes here: the gate is port 92h's, too */
    e->a20_level = value & OUT_A20;
    if (!(value & OUT_RESET))
        e->reset = true;
    /* Bit 0 low is a reset: the line is high again after it. The interrupt bits follow the buffer. */
    k->output_port = (u8)((value & ~(OUT_IRQ1 | OUT_IRQ12)) | OUT_RESET);
    update_irqs(k);
}

static void write_command_byte(struct i8042 *k, u8 value)
{
    k->ram[0] = value;
    k->status = (u8)((k->status & ~STATUS_SYS) | (value & CMD_SYS ? STATUS_SYS : 0));
    update_irqs(k);
}

static void command(struct i8042 *k, u8 c, struct effects *e)
{
    k->expecting = 0;
    k->status |= STATUS_COMMAND;
    switch (c) {
    case READ_RAM_FIRST ... READ_RAM_LAST:
        reply(k, k->ram[c & 0x1f]);
        break;
    case WRITE_RAM_FIRST ... WRITE_RAM_LAST:
    case WRITE_OUTPUT:
    case WRITE_KEYBOARD_OUT:
    case WRITE_AUX_OUT:
    case WRITE_AUX:
        k->expecting = c;
        break;
    case AUX_DISABLE:
        k->ram[0] |= CMD_NO_AUX;
        break;
    case AUX_ENABLE:
        k->ram[0] &= (u8)~CMD_NO_AUX;
        break;
    case PASSWORD_TEST: /* there is none */
        reply(k, 0xf1);
        break;
    case AUX_TEST:
    case KEYBOARD_TEST:
        reply(k, 0x00);
        break;
    case SELF_TEST:
        k->status |= STATUS_SYS;
        k->ram[0] |= CMD_SYS;
        reply(k, 0x55);
        break;
    case KEYBOARD_DISABLE:
        k->ram[0] |= CMD_NO_KEYBOARD;
        break;
    case KEYBOARD_ENABLE:
        k->ram[0] &= (u8)~CMD_NO_KEYBOARD;
        break;
    case READ_INPUT: /* keyboard not locked, colour display, manufacturing jumper open */
        reply(k, 0xa0);
        break;
    case READ_OUTPUT:
        reply(k, k->output_port);
        break;
    case A20_OFF:
    case A20_ON:
        write_output_port(k, (u8)(c == A20_ON ? k->output_port | OUT_A20 : k->output_port & ~OUT_A20), e);
        break;
    case READ_TEST: /* both clocks low, no data */
        reply(k, 0x00);
        break;
    case PULSE_FIRST ... 0xff: /* bits that are 0 pulse low; bit 0 is reset */
        if (!(c & 1))
            e->reset = true;
        break;
    default:
        break;
    }
    refill(k);
}

static void data(struct i8042 *k, u8 value, struct effects *e)
{
    u8 c = k->expecting;

    k->expecting = 0;
    k->status &= (u8)~STATUS_COMMAND;
    switch (c) {
    case WRITE_RAM_FIRST:
        write_command_byte(k, value);
        break;
    case WRITE_RAM_FIRST + 1 ... WRITE_RAM_LAST:
        k->ram[c & 0x1f] = value;
        break;
    case WRITE_OUTPUT:
        write_output_port(k, value, e);
        break;
    case WRITE_KEYBOARD_OUT:
        fill(k, value, false);
        break;
    case WRITE_AUX_OUT:
        fill(k, value, true);
        break;
    case WRITE_AUX:
        k->ram[0] &= (u8)~CMD_NO_AUX; /* sending enables the port's clock */
        ps2_mouse_command(&k->mouse, value);
        break;
    default:
        k->ram[0] &= (u8)~CMD_NO_KEYBOARD;
        k->break_prefix = false;
        ps2_keyboard_command(&k->keyboard, value);
        break;
    }
    refill(k);
}

static void finish(struct i8042 *k, const struct effects *e)
{
    pthread_mutex_unlock(&k->lock);
    if (e->a20 && k->c.a20)
        k->c.a20(k->c.ctx, e->a20_level);
    if (e->reset && k->c.reset)
        k->c.reset(k->c.ctx, RESET_INIT);
}

/* Bytes of the keyboard's that the guest has not read. */
static u32 unread(const struct i8042 *k)
{
    return k->keyboard.out.count + ((k->status & (STATUS_OBF | STATUS_AUX)) == STATUS_OBF);
}

/* A key that is held repeats, first after the delay. */
static void arm(struct i8042 *k, u64 after)
{
    k->repeat_waits = false;
    if (k->keyboard.repeating) {
        k->repeat_at = clock_ns() + after;
        timer_arm(&k->repeat, k->repeat_at);
    } else {
        timer_disarm(&k->repeat);
    }
}

static u64 data_read(void *dev, u64 offset, unsigned size)
{
    struct i8042 *k = dev;
    u8 v;

    pthread_mutex_lock(&k->lock);
    v = k->output;
    if (k->status & STATUS_OBF) {
        k->status &= (u8)~(STATUS_OBF | STATUS_AUX);
        update_irqs(k);
        refill(k);
        if (k->repeat_waits && !unread(k))
            arm(k, ps2_keyboard_delay(&k->keyboard));
    }
    pthread_mutex_unlock(&k->lock);
    return v;
}

static void data_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i8042 *k = dev;
    struct effects e = { 0 };

    pthread_mutex_lock(&k->lock);
    data(k, (u8)value, &e);
    finish(k, &e);
}

const struct bus_ops i8042_data_ops = { .read = data_read, .write = data_write, .min_size = 1, .max_size = 1 };

static u64 status_read(void *dev, u64 offset, unsigned size)
{
    struct i8042 *k = dev;
    u8 v;

    pthread_mutex_lock(&k->lock);
    v = k->status;
    pthread_mutex_unlock(&k->lock);
    return v;
}

static void command_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i8042 *k = dev;
    struct effects e = { 0 };

    pthread_mutex_lock(&k->lock);
    command(k, (u8)value, &e);
    finish(k, &e);
}

const struct bus_ops i8042_command_ops = { .read = status_read, .write = command_write, .min_size = 1, .max_size = 1 };

/* ---- input ---- */

/* A guest that has not read what was sent is not sent more: it would take a key that was pressed once, and is up again by
   now on its way here, for one that was held. The delay begins anew when it has read. */
static void repeat(struct timer *t)
{
    struct i8042 *k = container_of(t, struct i8042, repeat);

    pthread_mutex_lock(&k->lock);
    if (k->keyboard.repeating && unread(k)) {
        k->repeat_waits = true;
    } else if (k->keyboard.repeating && clock_ns() >= k->repeat_at) {
        ps2_keyboard_repeat(&k->keyboard);
        refill(k);
        arm(k, ps2_keyboard_period(&k->keyboard));
    }
    pthread_mutex_unlock(&k->lock);
}

static void key(void *dev, u16 code, bool down)
{
    struct i8042 *k = dev;

    pthread_mutex_lock(&k->lock);
    u8 was = k->keyboard.repeating;
    ps2_keyboard_key(&k->keyboard, code, down);
    refill(k);
    if (down || was != k->keyboard.repeating)
        arm(k, ps2_keyboard_delay(&k->keyboard));
    pthread_mutex_unlock(&k->lock);
}

static void relative(void *dev, s32 dx, s32 dy, s32 wheel, u8 buttons)
{
    struct i8042 *k = dev;

    pthread_mutex_lock(&k->lock);
    ps2_mouse_move(&k->mouse, dx, dy == INT32_MIN ? INT32_MAX : -dy, wheel == INT32_MIN ? INT32_MAX : -wheel, buttons);
    refill(k);
    pthread_mutex_unlock(&k->lock);
}

static u32 waiting(void *dev)
{
    struct i8042 *k = dev;

    pthread_mutex_lock(&k->lock);
    u32 n = unread(k);
    pthread_mutex_unlock(&k->lock);
    return n;
}

static const struct input_sink_ops sink_ops = { .key = key, .relative = relative, .waiting = waiting };

/* ---- life ---- */

void i8042_reset(struct i8042 *k)
{
    pthread_mutex_lock(&k->lock);
    memset(k->ram, 0, sizeof(k->ram));
    /* As firmware leaves it: tested, translating, both ports on. */
    k->ram[0] = CMD_IRQ1 | CMD_IRQ12 | CMD_SYS | CMD_TRANSLATE;
    k->status = STATUS_SYS | STATUS_UNLOCKED | STATUS_COMMAND;
    k->output = k->reply = k->expecting = 0;
    k->output_port = 0xc0 | OUT_RESET | OUT_A20 | 0x0c;
    k->reply_waits = k->break_prefix = false;
    ps2_keyboard_reset(&k->keyboard);
    timer_disarm(&k->repeat);
    ps2_mouse_reset(&k->mouse);
    update_irqs(k);
    pthread_mutex_unlock(&k->lock);
}

void i8042_init(struct i8042 *k, const struct i8042_config *c)
{
    memset(k, 0, sizeof(*k));
    pthread_mutex_init(&k->lock, NULL);
    k->c = *c;
    timer_init(&k->repeat, c->loop, repeat);
    k->sink = (struct input_sink){ .ops = &sink_ops, .dev = k, .rank = INPUT_PS2 };
    if (c->input)
        input_plug(c->input, &k->sink);
    i8042_reset(k);
}

void i8042_destroy(struct i8042 *k)
{
    if (k->c.input)
        input_unplug(k->c.input, &k->sink);
    timer_disarm(&k->repeat);
    pthread_mutex_destroy(&k->lock);
}

static int saving(void *obj)
{
    struct i8042 *k = obj;
    u64 now = clock_ns();

    k->repeat_left = k->keyboard.repeating && k->repeat_at > now ? k->repeat_at - now : 0;
    return 0;
}

/* The A20 gate's own record tells the board; nothing to do for it here. */
static int loaded(void *obj, struct error *err)
{
    struct i8042 *k = obj;

    if (!ps2_keyboard_valid(&k->keyboard) || !ps2_mouse_valid(&k->mouse))
        return error_set(err, EINVAL, "the saved state of the keyboard controller (8042) is not possible");
    arm(k, MIN(k->repeat_left, ps2_keyboard_delay(&k->keyboard)));
    return 0;
}

static const struct state_field fields[] = {
    STATE_ARRAY(struct i8042, ram, 1),
    STATE_FIELD(struct i8042, status, 1),
    STATE_FIELD(struct i8042, output, 1),
    STATE_FIELD(struct i8042, output_port, 1),
    STATE_FIELD(struct i8042, expecting, 1),
    STATE_FIELD(struct i8042, reply, 1),
    STATE_FIELD(struct i8042, reply_waits, 1),
    STATE_FIELD(struct i8042, break_prefix, 1),
    STATE_STRUCT(struct i8042, keyboard, 1, ps2_keyboard_fields),
    STATE_STRUCT(struct i8042, mouse, 1, ps2_mouse_fields),
    STATE_FIELD(struct i8042, repeat_left, 2),
    STATE_END,
};
const struct state_desc i8042_state = { "i8042", 2, fields, saving, loaded };
