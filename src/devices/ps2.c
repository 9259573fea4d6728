/* SPDX-License-Identifier: Apache-2.0 */
/* ps2.c - see ps2.h. */
#include "devices/ps2.h"

#include <string.h>

enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };

/* ---- queues ---- */

static unsigned room(const struct ps2_queue *q)
{
    return PS2_QUEUE - q->count;
}

static void put(struct ps2_queue *q, u8 value)
{
    if (q->count == PS2_QUEUE)
        return;
    q->data[(q->head + q->count++) % PS2_QUEUE] = value;
}

bool ps2_take(struct ps2_queue *q, u8 *value)
{
    if (!q->count)
        return false;
    *value = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE;
    q->count--;
    return true;
}

bool ps2_queue_valid(const struct ps2_queue *q)
{
    return q->head < PS2_QUEUE && q->count <= PS2_QUEUE;
}

static void clear(struct ps2_queue *q)
{
    q->head = q->count = 0;
}

/* ---- keyboard ---- */

enum { /* commands */
    KEYBOARD_LEDS = 0xed, KEYBOARD_ECHO = 0xee, KEYBOARD_SCANCODE_SET = 0xf0, KEYBOARD_IDENTIFY = 0xf2,
    KEYBOARD_RATE = 0xf3, KEYBOARD_ENABLE = 0xf4, KEYBOARD_DISABLE = 0xf5, KEYBOARD_DEFAULT = 0xf6, KEYBOARD_ALL_FIRST = 0xf7,
    KEYBOARD_ALL_LAST = 0xfa, KEYBOARD_KEY_FIRST = 0xfb, KEYBOARD_KEY_LAST = 0xfd, KEYBOARD_RESEND = 0xfe,
    KEYBOARD_RESET = 0xff,
};

static void keyboard_defaults(struct ps2_keyboard *k)
{
    k->rate = 0x2b; /* 10.9 a second after 500 ms */
    k->scancode_set = 2;
    k->leds = 0;
    k->expecting = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    memset(k, 0, sizeof(*k));
    keyboard_defaults(k);
    k->scanning = true;
}

static void keyboard_reply(struct ps2_keyboard *k, u8 value)
{
    put(&k->out, value);
    if (value != RESEND)
        k->last_sent = value;
}

static void keyboard_argument(struct ps2_keyboard *k, u8 command, u8 value)
{
    keyboard_reply(k, ACK);
    switch (command) {
    case KEYBOARD_LEDS:
        k->leds = value & 7;
        break;
    case KEYBOARD_RATE:
        k->rate = value & 0x7f;
        break;
    case KEYBOARD_SCANCODE_SET:
        if (value == 0)
            keyboard_reply(k, k->scancode_set);
        else if (value <= 3)
            k->scancode_set = value;
        break;
    default: /* a key's type in scan code set 3: taken and not acted on */
        break;
    }
}

void ps2_keyboard_command(struct ps2_keyboard *k, u8 value)
{
    u8 expecting = k->expecting;

    clear(&k->out); /* a command ends whatever was being sent */
    k->expecting = 0;
    if (expecting && value < KEYBOARD_LEDS) {
        keyboard_argument(k, expecting, value);
        if (expecting >= KEYBOARD_KEY_FIRST && expecting <= KEYBOARD_KEY_LAST)
            k->expecting = expecting; /* keys follow until a command */
        return;
    }
    switch (value) {
    case KEYBOARD_LEDS:
    case KEYBOARD_RATE:
    case KEYBOARD_SCANCODE_SET:
    case KEYBOARD_KEY_FIRST ... KEYBOARD_KEY_LAST:
        k->expecting = value;
        keyboard_reply(k, ACK);
        break;
    case KEYBOARD_ECHO:
        keyboard_reply(k, KEYBOARD_ECHO);
        break;
    case KEYBOARD_IDENTIFY:
        keyboard_reply(k, ACK);
        keyboard_reply(k, 0xab);
        keyboard_reply(k, 0x83);
        break;
    case KEYBOARD_ENABLE:
        k->scanning = true;
        keyboard_reply(k, ACK);
        break;
    case KEYBOARD_DISABLE:
    case KEYBOARD_DEFAULT:
        keyboard_defaults(k);
        k->scanning = value == KEYBOARD_DEFAULT;
        keyboard_reply(k, ACK);
        break;
    case KEYBOARD_ALL_FIRST ... KEYBOARD_ALL_LAST:
        keyboard_reply(k, ACK);
        break;
    case KEYBOARD_RESEND:
        put(&k->out, k->last_sent);
        break;
    case KEYBOARD_RESET:
        keyboard_defaults(k);
        k->scanning = true;
        keyboard_reply(k, ACK);
        keyboard_reply(k, BAT_OK);
        break;
    default:
        keyboard_reply(k, RESEND);
        break;
    }
}

void ps2_keyboard_put(struct ps2_keyboard *k, const u8 *codes, unsigned len)
{
    /* Eight places stay free for replies. */
    if (!k->scanning || len > room(&k->out) || room(&k->out) - len < 8)
        return;
    for (unsigned i = 0; i < len; i++)
        put(&k->out, codes[i]);
    if (len)
        k->last_sent = codes[len - 1];
}

/* ---- mouse ---- */

enum {
    MOUSE_SCALE_1_1 = 0xe6, MOUSE_SCALE_2_1 = 0xe7, MOUSE_RESOLUTION = 0xe8, MOUSE_STATUS = 0xe9, MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb, MOUSE_WRAP_END = 0xec, MOUSE_WRAP = 0xee, MOUSE_REMOTE = 0xf0, MOUSE_IDENTIFY = 0xf2,
    MOUSE_RATE = 0xf3, MOUSE_ENABLE = 0xf4, MOUSE_DISABLE = 0xf5, MOUSE_DEFAULT = 0xf6, MOUSE_RESEND = 0xfe,
    MOUSE_RESET = 0xff,
};
enum { MOUSE_STANDARD = 0, MOUSE_WHEEL = 3 };

static void mouse_defaults(struct ps2_mouse *m)
{
    m->reporting = m->remote = m->wrap = m->scale_2_1 = false;
    m->resolution = 2; /* 4 counts a mm */
    m->rate = 100;
    m->expecting = 0;
    m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    memset(m, 0, sizeof(*m));
    mouse_defaults(m);
}

static void mouse_reply(struct ps2_mouse *m, u8 value)
{
    put(&m->out, value);
    if (value != RESEND)
        m->last_sent = value;
}

static s32 clamp(s32 v, s32 least, s32 most)
{
    return v < least ? least : v > most ? most : v;
}

/* One movement packet: what does not fit stays for the next. */
static void mouse_packet(struct ps2_mouse *m)
{
    s32 dx = clamp(m->dx, -255, 255), dy = clamp(m->dy, -255, 255), dz = clamp(m->dz, -8, 7);

    mouse_reply(m, (u8)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
    mouse_reply(m, (u8)dx);
    mouse_reply(m, (u8)dy);
    if (m->id == MOUSE_WHEEL)
        mouse_reply(m, (u8)dz);
    m->dx -= dx;
    m->dy -= dy;
    m->dz -= m->id == MOUSE_WHEEL ? dz : m->dz;
}

/* The sequence of sample rates by which a driver asks for the wheel (Microsoft IntelliMouse). */
static void mouse_rate(struct ps2_mouse *m, u8 rate)
{
    if (m->knock[0] == 200 && m->knock[1] == 100 && rate == 80)
        m->id = MOUSE_WHEEL;
    m->knock[0] = m->knock[1];
    m->knock[1] = rate;
    m->rate = rate;
}

static void mouse_status(struct ps2_mouse *m)
{
    /* Buttons here are left 4, middle 2, right 1. */
    u8 b = (m->buttons & 1 ? 4 : 0) | (m->buttons & 2 ? 1 : 0) | (m->buttons & 4 ? 2 : 0);

    mouse_reply(m, (u8)(b | (m->scale_2_1 ? 0x10 : 0) | (m->reporting ? 0x20 : 0) | (m->remote ? 0x40 : 0)));
    mouse_reply(m, m->resolution);
    mouse_reply(m, m->rate);
}

void ps2_mouse_command(struct ps2_mouse *m, u8 value)
{
    u8 expecting = m->expecting;

    clear(&m->out);
    m->expecting = 0;
    if (m->wrap && value != MOUSE_WRAP_END && value != MOUSE_RESET) {
        mouse_reply(m, value);
        return;
    }
    if (expecting == MOUSE_RESOLUTION || expecting == MOUSE_RATE) {
        mouse_reply(m, ACK);
        if (expecting == MOUSE_RATE)
            mouse_rate(m, value);
        else
            m->resolution = value & 3;
        return;
    }
    switch (value) {
    case MOUSE_SCALE_1_1:
    case MOUSE_SCALE_2_1:
        m->scale_2_1 = value == MOUSE_SCALE_2_1;
        mouse_reply(m, ACK);
        break;
    case MOUSE_RESOLUTION:
    case MOUSE_RATE:
        m->expecting = value;
        mouse_reply(m, ACK);
        break;
    case MOUSE_STATUS:
        mouse_reply(m, ACK);
        mouse_status(m);
        break;
    case MOUSE_STREAM:
        m->remote = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_READ:
        mouse_reply(m, ACK);
        mouse_packet(m);
        break;
    case MOUSE_WRAP:
        m->wrap = true;
        mouse_reply(m, ACK);
        break;
    case MOUSE_WRAP_END:
        m->wrap = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_REMOTE:
        m->remote = true;
        mouse_reply(m, ACK);
        break;
    case MOUSE_IDENTIFY:
        mouse_reply(m, ACK);
        mouse_reply(m, m->id);
        break;
    case MOUSE_ENABLE:
        m->reporting = true;
        m->dx = m->dy = m->dz = 0;
        mouse_reply(m, ACK);
        break;
    case MOUSE_DISABLE:
        m->reporting = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_DEFAULT:
        mouse_defaults(m);
        mouse_reply(m, ACK);
        break;
    case MOUSE_RESEND:
        put(&m->out, m->last_sent);
        break;
    case MOUSE_RESET:
        mouse_defaults(m);
        m->id = MOUSE_STANDARD;
        m->knock[0] = m->knock[1] = 0;
        mouse_reply(m, ACK);
        mouse_reply(m, BAT_OK);
        mouse_reply(m, m->id);
        break;
    default:
        mouse_reply(m, RESEND);
        break;
    }
}

void ps2_mouse_move(struct ps2_mouse *m, s32 dx, s32 dy, s32 dz, u8 buttons)
{
    const s32 most = 1 << 20;
    bool pressed = (m->buttons ^ buttons) & 7;

    m->buttons = buttons & 7;
    m->dx = clamp(m->dx + clamp(dx, -most, most), -most, most);
    m->dy = clamp(m->dy + clamp(dy, -most, most), -most, most);
    m->dz = clamp(m->dz + clamp(dz, -most, most), -most, most);
    /* A change of buttons must not be merged with the next: it is sent at once. */
    if (pressed && m->reporting && !m->remote && room(&m->out) >= 16)
        mouse_packet(m);
}

bool ps2_mouse_take(struct ps2_mouse *m, u8 *value)
{
    if (!m->out.count && m->reporting && !m->remote && !m->wrap && (m->dx || m->dy || (m->dz && m->id == MOUSE_WHEEL)))
        mouse_packet(m);
    return ps2_take(&m->out, value);
}

/* ---- state ---- */

static const struct state_field queue_fields[] = {
    STATE_ARRAY(struct ps2_queue, data, 1),
    STATE_FIELD(struct ps2_queue, head, 1),
    STATE_FIELD(struct ps2_queue, count, 1),
    STATE_END,
};

const struct state_field ps2_keyboard_fields[] = {
    STATE_STRUCT(struct ps2_keyboard, out, 1, queue_fields),
    STATE_FIELD(struct ps2_keyboard, scanning, 1),
    STATE_FIELD(struct ps2_keyboard, expecting, 1),
    STATE_FIELD(struct ps2_keyboard, leds, 1),
    STATE_FIELD(struct ps2_keyboard, rate, 1),
    STATE_FIELD(struct ps2_keyboard, scancode_set, 1),
    STATE_FIELD(struct ps2_keyboard, last_sent, 1),
    STATE_END,
};

const struct state_field ps2_mouse_fields[] = {
    STATE_STRUCT(struct ps2_mouse, out, 1, queue_fields),
    STATE_FIELD(struct ps2_mouse, reporting, 1),
    STATE_FIELD(struct ps2_mouse, remote, 1),
    STATE_FIELD(struct ps2_mouse, wrap, 1),
    STATE_FIELD(struct ps2_mouse, scale_2_1, 1),
    STATE_FIELD(struct ps2_mouse, expecting, 1),
    STATE_FIELD(struct ps2_mouse, resolution, 1),
    STATE_FIELD(struct ps2_mouse, rate, 1),
    STATE_FIELD(struct ps2_mouse, buttons, 1),
    STATE_FIELD(struct ps2_mouse, id, 1),
    STATE_FIELD(struct ps2_mouse, last_sent, 1),
    STATE_ARRAY(struct ps2_mouse, knock, 1),
    STATE_FIELD(struct ps2_mouse, dx, 1),
    STATE_FIELD(struct ps2_mouse, dy, 1),
    STATE_FIELD(struct ps2_mouse, dz, 1),
    STATE_END,
};
