/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart16550.h - the 16550A serial port.  National Semiconductor PC16550D data sheet.
 *
 * Nothing is paced by the baud rate: a byte written is sent at once.  What the
 * guest sends gathers in a buffer that the I/O thread hands on, so that a line of
 * text costs one call, not one a byte.  While it is full the vCPU waits, so that nothing is lost however slow the reader
 * is; but a pause of the machine lets it go (loop_wait), its byte finds room in a reserve.
 *
 * MCR.OUT2, the gate of the interrupt on the first PCs' cards, gates nothing: not all systems open it (xv6 does not).
 *
 * Locks itself: map its range (8 ports) with no lock.  tx() and can_receive() are
 * called with no lock of the device held, tx() never by two threads at once.
 */
#ifndef LODGE_DEVICES_UART16550_H
#define LODGE_DEVICES_UART16550_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { UART_PORTS = 8, UART_FIFO = 16, UART_TX_BUFFER = 4096, UART_TX_RESERVE = 4096 };

struct uart {
    pthread_mutex_t lock;
    struct irq_line irq;
    struct loop *loop;                                  /* NULL: each byte is handed on at once */
    struct loop *vcpus;                                 /* NULL: a vCPU hands a full buffer on itself */
    void (*tx)(void *ctx, const u8 *data, size_t len);  /* or NULL */
    void (*can_receive)(void *ctx);                     /* room again after uart_receive took less; or NULL */
    void *ctx;

    /* registers */
    u8 rbr, ier, lcr, mcr, lsr, msr, scr, fcr, dll, dlm;
    u8 fifo[UART_FIFO], fifo_errors[UART_FIFO]; /* received, oldest at rx_head; LSR bits PE FE BI of each */
    u8 rx_head, rx_count;
    bool thre_pending; /* THR became empty and nobody was told */
    bool refused;      /* uart_receive took less than it was given; not state */

    /* not state: flushed before saving */
    pthread_mutex_t tx_lock; /* held across tx(); before lock */
    u8 tx_buffer[UART_TX_BUFFER + UART_TX_RESERVE];
    u32 tx_count;
    bool flush_posted;
    bool room; /* in the buffer; for loop_wait */
    bool irq_level;
};

struct uart_config {
    struct irq_line irq;
    struct loop *loop;  /* on whose thread tx() may wait for the reader */
    struct loop *vcpus; /* that of vcpus_config, for loop_wait */
    void (*tx)(void *ctx, const u8 *data, size_t len);
    void (*can_receive)(void *ctx);
    void *ctx;
};

void uart_init(struct uart *u, const struct uart_config *c);
void uart_destroy(struct uart *u); /* hands on what is buffered; after the loop stopped */
void uart_reset(struct uart *u);

/* Bytes from outside: returns how many found room; can_receive() is called when the guest has made some. Any thread. */
size_t uart_receive(struct uart *u, const u8 *data, size_t len);
void uart_receive_break(struct uart *u);
/* Hands on what the guest has sent, now. Any thread but one inside tx(). */
void uart_flush(struct uart *u);

extern const struct bus_ops uart_ops; /* dev: struct uart */
extern const struct state_desc uart_state;

#endif
