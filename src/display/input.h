/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - carries keys and pointer movements from the people who look at the screen to the guest's input devices
 * ("sinks": PS/2 keyboard and mouse, USB tablet, virtio-input).
 *
 * Keys go to one active keyboard, the one of the highest rank. The position of a pointer goes to the active absolute
 * pointer of the highest rank. If there is none, the movement goes to the relative pointer.
 *
 * Everything here, and every callback, is on the loop's thread (or before it runs). Sinks take their own locks.
 */
#ifndef LODGE_DISPLAY_INPUT_H
#define LODGE_DISPLAY_INPUT_H

#include "base/base.h"

enum { INPUT_KEYS = 256 };      /* all codes are below this: KEY_ of linux/input-event-codes.h */
enum { INPUT_ABS_MAX = 32767 }; /* an absolute position is 0 (left, top) to this (right, bottom) */
/* Buttons that are down. */
enum { INPUT_LEFT = 1, INPUT_RIGHT = 2, INPUT_MIDDLE = 4, INPUT_SIDE = 8, INPUT_EXTRA = 16 };
enum input_rank { INPUT_PS2, INPUT_USB, INPUT_VIRTIO };

struct input_sink_ops { /* any member may be NULL: the device does not have it */
    /* code: KEY_; called once with down, then once with up. Repeating a key that is held is the task of the device
       (or of the guest). */
    void (*key)(void *dev, u16 code, bool down);
    /* dx right, dy down, wheel notches away from the user: since the last call. buttons: all that are down now. */
    void (*relative)(void *dev, s32 dx, s32 dy, s32 wheel, u8 buttons);
    void (*absolute)(void *dev, u32 x, u32 y, s32 wheel, u8 buttons);
    /* True if the guest has set up the device so that it would see events. NULL: always true. */
    bool (*active)(void *dev);
    /* The number of key events that the guest has not taken yet. The sender of text waits until it is 0. NULL:
       unknown. */
    u32 (*waiting)(void *dev);
};

/* Embedded by its owner. */
struct input_sink {
    const struct input_sink_ops *ops;
    void *dev;
    enum input_rank rank;
    struct input_sink *next; /* private */
};

struct input;

struct input *input_new(void);       /* NULL: out of memory */
void input_free(struct input *in);   /* may be NULL */
void input_plug(struct input *in, struct input_sink *s); /* s->ops, dev, rank must be set */
void input_unplug(struct input *in, struct input_sink *s);

/* It ignores a code that is no key, a press of a key that is down, and a release of a key that is not down. */
void input_key(struct input *in, u16 code, bool down);
/* A pixel x, y of a picture of that size. A position outside the picture counts as its edge. */
void input_position(struct input *in, u32 x, u32 y, u32 width, u32 height, s32 wheel, u8 buttons);
/* A movement, in pixels of a picture of that size. */
void input_move(struct input *in, s32 dx, s32 dy, u32 width, u32 height, s32 wheel, u8 buttons);
/* Releases all keys and buttons, because the person who held them has gone. */
void input_release(struct input *in);
/* As struct input_sink_ops.waiting, for the keyboard that keys go to; 0 if there is none. */
u32 input_waiting(struct input *in);

#endif
