/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8042.h - the keyboard controller with its two PS/2 ports, a keyboard and a mouse.
 * IBM PC/AT and PS/2 Hardware Interface Technical Reference; Intel 8042.
 *
 * Locks itself: map its two ranges (port 60h and port 64h, one port each) with no
 * lock.  a20() and reset() are called with no lock of the device held.
 */
#ifndef LODGE_DEVICES_I8042_H
#define LODGE_DEVICES_I8042_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "devices/ps2.h"
#include "devices/reset.h"
#include "display/input.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

struct i8042_config {
    struct loop *loop;
    struct input *input; /* where keys and movements come from; or NULL */
    struct irq_line irq_keyboard, irq_mouse;          /* IRQ 1, IRQ 12 */
    void (*a20)(void *ctx, bool enabled);             /* output port bit 1; or NULL */
    void (*reset)(void *ctx, enum reset_kind kind);   /* output port bit 0 low; or NULL */
    void *ctx;
};

struct i8042 {
    pthread_mutex_t lock;
    struct i8042_config c;

    u8 ram[32]; /* byte 0 is the command byte */
    u8 status;  /* bits as read at port 64h */
    u8 output;  /* output buffer */
    u8 output_port;
    u8 expecting; /* the controller command whose argument comes next at port 60h, or 0 */
    u8 reply;     /* a controller reply that found the output buffer full */
    bool reply_waits, break_prefix;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;

    struct input_sink sink;
    struct timer repeat; /* of a key that is held */
    bool repeat_waits;   /* for the guest to read what was sent; not saved: the timer finds out */
    u64 repeat_at, repeat_left; /* clock_ns(); ns, filled to save */
};

void i8042_init(struct i8042 *k, const struct i8042_config *c);
void i8042_destroy(struct i8042 *k);
void i8042_reset(struct i8042 *k);

extern const struct bus_ops i8042_data_ops;    /* port 60h; dev: struct i8042 */
extern const struct bus_ops i8042_command_ops; /* port 64h */
extern const struct state_desc i8042_state;

#endif
