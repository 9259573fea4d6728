/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8237.h - the two DMA controllers of a PC, their cascade and the page registers.  Intel 8237A data sheet (231466);
 * 82371AB (PIIX4) data sheet, 4.2.1.
 *
 * Channels 0 to 3 move bytes, 5 to 7 words; 4 is the cascade.  A channel's 24-bit address does not carry from its 16
 * counting bits into its page.  There is no bus to share: single, demand and block mode are one, and the device that is
 * served (i8237_transfer) says when.
 *
 * Locks itself: map its ranges with no lock.  May be called with a device's lock held; ready() is called with none.
 */
#ifndef LODGE_DEVICES_I8237_H
#define LODGE_DEVICES_I8237_H

#include <pthread.h>

#include "base/base.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "state/state.h"

enum { I8237_CHANNELS = 8, I8237_PORTS = 0x10, I8237_PORTS2 = 0x20, I8237_PAGE_PORTS = 0x10 };

struct i8237_channel {
    u16 address, count, base_address, base_count;
    u8 mode;
};

struct i8237_controller { /* what a bus range's dev points to */
    struct i8237 *dma;
    struct i8237_channel channel[4];
    u8 command, status, request, mask; /* status: the terminal counts alone */
    bool high; /* the byte pointer: the next byte is a register's upper one */
};

struct i8237 {
    pthread_mutex_t lock;
    struct memory *memory;
    struct i8237_controller controller[2];
    u8 page[I8237_PAGE_PORTS]; /* as at ports 80h-8Fh */
    struct { /* whom to tell that his channel may have become ready */
        void (*ready)(void *ctx);
        void *ctx;
    } device[I8237_CHANNELS];
};

void i8237_init(struct i8237 *d, struct memory *memory);
void i8237_destroy(struct i8237 *d);
void i8237_reset(struct i8237 *d);

/* Before the machine runs. ready: on a vCPU's thread, after a write that changed a mode, a mask or the command. */
void i8237_attach(struct i8237 *d, u32 channel, void (*ready)(void *ctx), void *ctx);

/*
 * The device on that channel moves up to len bytes: from data to guest memory (to_memory), or the other way.  Returns how
 * many went: fewer than len if the count ran out, which sets *tc; 0 if the channel is masked, disabled or in cascade mode.
 * A channel programmed for the other direction or for verify moves nothing and counts; what the device gets then is FFh.
 */
u32 i8237_transfer(struct i8237 *d, u32 channel, bool to_memory, u8 *data, u32 len, bool *tc);

extern const struct bus_ops i8237_ops;      /* 16 ports at 0; dev: &controller[0] */
extern const struct bus_ops i8237_ops2;     /* 32 ports at C0h, of which each second counts; dev: &controller[1] */
extern const struct bus_ops i8237_page_ops; /* 16 ports at 80h; dev: struct i8237 */
extern const struct state_desc i8237_state;

#endif
