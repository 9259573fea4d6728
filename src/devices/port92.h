/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port92.h - port 92h (fast A20, fast INIT), and the A20M# gate it shares with the
 * keyboard controller: the address line is free if either says so.  82371AB (PIIX4)
 * data sheet, 4.2.6.5.
 *
 * Locks itself: map its range (1 port) with no lock.  a20() is called with the lock held, reset() with none.
 */
#ifndef LODGE_DEVICES_PORT92_H
#define LODGE_DEVICES_PORT92_H

#include <pthread.h>

#include "base/base.h"
#include "devices/reset.h"
#include "memory/bus.h"
#include "state/state.h"

struct port92 {
    pthread_mutex_t lock;
    void (*a20)(void *ctx, bool enabled); /* told of every change, in order; or NULL */
    void (*reset)(void *ctx, enum reset_kind kind);
    void *ctx;
    u8 value;
    bool keyboard_a20; /* what the keyboard controller says; on at reset */
    bool told;
};

void port92_init(struct port92 *p, void (*a20)(void *, bool), void (*reset)(void *, enum reset_kind), void *ctx);
void port92_destroy(struct port92 *p);
void port92_reset(struct port92 *p);
void port92_keyboard_a20(void *p, bool enabled); /* i8042_config.a20; ctx is the struct port92 */
bool port92_a20(struct port92 *p); /* is address line 20 free? */

extern const struct bus_ops port92_ops; /* dev: struct port92 */
extern const struct state_desc port92_state;

#endif
