/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ps2.h - a PS/2 keyboard and a PS/2 mouse as seen from their cable: command bytes in, bytes out.  IBM PS/2 Hardware
 * Interface Technical Reference (Keyboard and Auxiliary Device Controller; Keyboards; Mouse), Microsoft's IntelliMouse with
 * wheel (id 3) and with five buttons (id 4).  No locks: the i8042 holds its own.
 *
 * The mouse sends as fast as it is read, whatever its sample rate, and takes a pixel for a count, whatever its resolution.
 */
#ifndef LODGE_DEVICES_PS2_H
#define LODGE_DEVICES_PS2_H

#include "base/base.h"
#include "state/state.h"

enum { PS2_QUEUE = 64, PS2_KEYS = 256 };

struct ps2_queue { /* replies go before events: an event found waiting when a command arrives is dropped */
    u8 data[PS2_QUEUE];
    u8 head, count;
};

struct ps2_keyboard {
    struct ps2_queue out;
    bool scanning, overrun;
    u8 expecting; /* the command whose argument comes next, or 0 */
    u8 leds, rate, scancode_set, last_sent;
    u8 modifiers;   /* of those that change other keys' codes, held down */
    u8 repeating;   /* the key, a KEY_, that repeats; 0: none */
    u8 types[36];   /* of a key in set 3, by its code, two bits each: see ps2_key.c */
};

struct ps2_mouse {
    struct ps2_queue out;
    bool reporting, remote, wrap, scale_2_1;
    u8 expecting, resolution, rate, id;
    u8 buttons, reported; /* down now; as last sent */
    u8 last[4], nlast;    /* sent: what RESEND asks for */
    u8 knock[2]; /* the last two sample rates set: before 80, 200 and 100 turn the wheel on, 200 and 200 the buttons, too */
    s32 dx, dy, dz; /* moved, not yet reported */
};

extern const u8 ps2_set1[128]; /* scan code set 2 to set 1, as the controller translates */

void ps2_keyboard_reset(struct ps2_keyboard *k); /* power-on, without the BAT reply */
void ps2_keyboard_command(struct ps2_keyboard *k, u8 value);
/* A key, one of linux/input-event-codes.h's KEY_, goes down or up. Those the keyboard has not are ignored. */
void ps2_keyboard_key(struct ps2_keyboard *k, u16 code, bool down);
/* Time until a key that has been held that long repeats first, and from then on; ns. */
u64 ps2_keyboard_delay(const struct ps2_keyboard *k);
u64 ps2_keyboard_period(const struct ps2_keyboard *k);
void ps2_keyboard_repeat(struct ps2_keyboard *k); /* it does so now */
bool ps2_keyboard_valid(const struct ps2_keyboard *k);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_command(struct ps2_mouse *m, u8 value);
/* Movement in counts (y up), wheel steps (towards the user), buttons: left 1, right 2, middle 4, 4th 8, 5th 16. */
void ps2_mouse_move(struct ps2_mouse *m, s32 dx, s32 dy, s32 dz, u8 buttons);
bool ps2_mouse_valid(const struct ps2_mouse *m);

/* ps2.c, for ps2_key.c and ps2_mouse.c */
unsigned ps2_room(const struct ps2_queue *q);
void ps2_put(struct ps2_queue *q, u8 value);
void ps2_clear(struct ps2_queue *q);
/* ps2_key.c: back to the types that set 3 begins with; all keys of a type. */
void ps2_default_types(struct ps2_keyboard *k);
void ps2_set_types(struct ps2_keyboard *k, u8 command);
void ps2_set_type(struct ps2_keyboard *k, u8 command, u8 code);

bool ps2_take(struct ps2_queue *q, u8 *value); /* false: nothing waits */
bool ps2_mouse_take(struct ps2_mouse *m, u8 *value); /* makes a packet of pending movement if need be */

extern const struct state_field ps2_keyboard_fields[];
extern const struct state_field ps2_mouse_fields[];
extern const struct state_field ps2_queue_fields[];
bool ps2_queue_valid(const struct ps2_queue *q);

#endif
