/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ps2.h - a PS/2 keyboard and a PS/2 mouse as seen from their cable: command bytes
 * in, bytes out.  IBM PS/2 Hardware Interface Technical Reference (Keyboard and
 * Auxiliary Device Controller; Mouse).  No locks: the i8042 holds its own.
 */
#ifndef LODGE_DEVICES_PS2_H
#define LODGE_DEVICES_PS2_H

#include "base/base.h"
#include "state/state.h"

enum { PS2_QUEUE = 64 };

struct ps2_queue { /* replies go before events: an event found waiting when a command arrives is dropped */
    u8 data[PS2_QUEUE];
    u8 head, count;
};

struct ps2_keyboard {
    struct ps2_queue out;
    bool scanning;
    u8 expecting; /* the command whose argument comes next, or 0 */
    u8 leds, rate, scancode_set, last_sent;
};

struct ps2_mouse {
    struct ps2_queue out;
    bool reporting, remote, wrap, scale_2_1;
    u8 expecting, resolution, rate, buttons, id, last_sent;
    u8 knock[2]; /* the last two sample rates set: 200, 100, 80 turns the wheel on */
    s32 dx, dy, dz; /* moved, not yet reported */
};

void ps2_keyboard_reset(struct ps2_keyboard *k); /* power-on, without the BAT reply */
void ps2_keyboard_command(struct ps2_keyboard *k, u8 value);
/* Make and break codes of scan code set 2 as the keyboard sends them; dropped whole if there is no room. */
void ps2_keyboard_put(struct ps2_keyboard *k, const u8 *codes, unsigned len);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_command(struct ps2_mouse *m, u8 value);
/* Movement in counts (y up), wheel steps, buttons: left 1, right 2, middle 4. */
void ps2_mouse_move(struct ps2_mouse *m, s32 dx, s32 dy, s32 dz, u8 buttons);

bool ps2_take(struct ps2_queue *q, u8 *value); /* false: nothing waits */
bool ps2_mouse_take(struct ps2_mouse *m, u8 *value); /* makes a packet of pending movement if need be */

extern const struct state_field ps2_keyboard_fields[];
extern const struct state_field ps2_mouse_fields[];
bool ps2_queue_valid(const struct ps2_queue *q);

#endif
