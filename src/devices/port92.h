/* SPDX-License-Identifier: Apache-2.0 */
/*
 * port92.h - port 92h (fast A20, fast INIT), and the A20M# gate it shares with the keyboard controller.  82371AB (PIIX4)
 * data sheet, 4.2.6.5; but where that has the line free if either says so, here who spoke last decides, and bit 1 reads
 * as the gate.  SeaBIOS opens it at port 92h and nowhere else: a DOS that closes it at the 8042, and who asks the BIOS
 * to (INT 15h, AX=2400h) with the 8042's pin high as since reset, would both be told of success and have it open.
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
    u8 init;   /* bit 0, as it was written */
    bool open; /* address line 20 is free; so it is at reset */
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
