/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pic.h - the two cascaded 8259A interrupt controllers of a PC, and their edge/level control registers. Intel 8259A
 * data sheet (231468); 82371AB (PIIX4) data sheet, 4.2.5 (ELCR).
 *
 * It locks itself: map its ranges with no lock. Any thread may call. intr() is called with the lock held and may take
 * the LAPIC's lock.
 */
#ifndef LODGE_IRQ_PIC_H
#define LODGE_IRQ_PIC_H

#include <pthread.h>

#include "base/base.h"
#include "engine/irqchip.h"
#include "memory/bus.h"
#include "state/state.h"

struct pic;
struct pic_port { /* dev of a bus range points to this */
    struct pic *pic;
    u32 index;
};

struct pic {
    pthread_mutex_t lock;
    struct irqchip_pic chip[2]; /* master, slave */
    struct pic_port port[2];
    void (*intr)(void *ctx, bool level); /* the master's INT pin; called on changes only */
    void *ctx;
    bool output; /* the level that intr() was last told */
};

void pic_init(struct pic *p, void (*intr)(void *ctx, bool level), void *ctx);
void pic_destroy(struct pic *p);
void pic_reset(struct pic *p);

/* irq_line.set; chip is the struct pic, pins 0-15 (2 is the cascade: ignored). */
void pic_set(void *chip, u32 pin, bool level);

/* Does the INTA cycle and returns the vector. It never fails: with nothing pending, the vector is that of the
   spurious IRQ 7 (or 15). */
int pic_ack(struct pic *p);

/* 2 ports each at 20h and A0h with dev = &port[0] and &port[1]; 2 ports at 4D0h with dev = the struct pic. */
extern const struct bus_ops pic_ops;
extern const struct bus_ops pic_elcr_ops;
extern const struct state_desc pic_state; /* obj: struct pic */

/* Refuses a state that an 8259A cannot hold. The in-kernel twin uses it, too. */
int must_check pic_check_state(struct irqchip_pic chip[2], struct error *err);

#endif
