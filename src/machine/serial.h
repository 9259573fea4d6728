/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serial.h - a UART and what it is plugged into.
 *
 * Output is handed on by a thread of its own, which may wait for a slow reader; the guest's next bytes wait in
 * the UART, and when that is full the vCPU waits too.  So nothing is lost and the I/O loop never blocks.
 */
#ifndef LODGE_MACHINE_SERIAL_H
#define LODGE_MACHINE_SERIAL_H

#include <pthread.h>

#include "base/loop.h"
#include "chardev/chardev.h"
#include "devices/uart16550.h"

struct serial {
    struct uart uart;
    struct chardev *chardev; /* NULL: nothing is plugged in */
    struct loop *loop;       /* of the output thread */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t room;
    u64 patience; /* ns without progress after which output is dropped; UINT64_MAX: never */
};

/* vcpus: as uart_config has it. */
int must_check serial_init(struct serial *s, struct chardev *c, const struct irq_line *irq, struct loop *vcpus);
void serial_destroy(struct serial *s); /* hands on what is buffered */
void serial_patience(struct serial *s, u64 ns);

#endif
