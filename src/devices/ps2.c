/* SPDX-License-Identifier: Apache-2.0 */
/* ps2.c - see ps2.h: queues, and the keyboard's commands. */
#include "devices/ps2.h"

#include <string.h>

enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };

/* ---- queues ---- */

unsigned ps2_room(const struct ps2_queue *q)
{
    return PS2_QUEUE - q->count;
}

void ps2_put(struct ps2_queue *q, u8 value)
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

void ps2_clear(struct ps2_queue *q)
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
    ps2_default_types(k);
    k->repeating = 0;
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
    ps2_put(&k->out, value);
    if (value != RESEND)
        k->last_sent = value;
}

static void keyboard_argument(struct ps2_keyboard *k, u8 command, u8 value)
{
    if (command == KEYBOARD_SCANCODE_SET && value > 3) {
        k->expecting = command;
        keyboard_reply(k, RESEND);
        return;
    }
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
        else
            k->scancode_set = value;
        break;
    default:
        ps2_set_type(k, command, value);
        break;
    }
}

void ps2_keyboard_command(struct ps2_keyboard *k, u8 value)
{
    u8 expecting = k->expecting;

    ps2_clear(&k->out); /* a command ends whatever was being sent */
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
        ps2_set_types(k, value);
        keyboard_reply(k, ACK);
        break;
    case KEYBOARD_RESEND:
        ps2_put(&k->out, k->last_sent);
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

bool ps2_keyboard_valid(const struct ps2_keyboard *k)
{
    return ps2_queue_valid(&k->out) && k->scancode_set >= 1 && k->scancode_set <= 3;
}

/* ---- state ---- */

const struct state_field ps2_queue_fields[] = {
    STATE_ARRAY(struct ps2_queue, data, 1),
    STATE_FIELD(struct ps2_queue, head, 1),
    STATE_FIELD(struct ps2_queue, count, 1),
    STATE_END,
};

const struct state_field ps2_keyboard_fields[] = {
    STATE_STRUCT(struct ps2_keyboard, out, 1, ps2_queue_fields),
    STATE_FIELD(struct ps2_keyboard, scanning, 1),
    STATE_FIELD(struct ps2_keyboard, expecting, 1),
    STATE_FIELD(struct ps2_keyboard, leds, 1),
    STATE_FIELD(struct ps2_keyboard, rate, 1),
    STATE_FIELD(struct ps2_keyboard, scancode_set, 1),
    STATE_FIELD(struct ps2_keyboard, last_sent, 1),
    STATE_FIELD(struct ps2_keyboard, overrun, 2),
    STATE_FIELD(struct ps2_keyboard, modifiers, 2),
    STATE_FIELD(struct ps2_keyboard, repeating, 2),
    STATE_ARRAY(struct ps2_keyboard, types, 2),
    STATE_END,
};
