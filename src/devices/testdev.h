/* SPDX-License-Identifier: Apache-2.0 */
/*
 * testdev.h - devices for test programs, by the port numbers they know from QEMU:
 * isa-debug-exit, the debug console at E9h, and pc-testdev (a port that is memory,
 * interrupt lines at 2000h, memory-mapped I/O that is memory).
 *
 * Locks itself: map its ranges with no lock.  Callbacks run with no lock held.
 */
#ifndef LODGE_DEVICES_TESTDEV_H
#define LODGE_DEVICES_TESTDEV_H

#include <pthread.h>

#include "base/base.h"
#include "devices/device.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum {
    TESTDEV_EXIT_PORT = 0xf4, TESTDEV_EXIT_PORTS = 4,
    TESTDEV_CONSOLE_PORT = 0xe9,
    TESTDEV_IO_PORT = 0xe0, TESTDEV_IO_PORTS = 8, /* E0h-E3h: memory; E4h-E7h: "flush this page", nothing to do here */
    TESTDEV_IRQ_PORT = 0x2000, TESTDEV_IRQS = 24,
    TESTDEV_IOMEM_SIZE = 0x10000,
};
#define TESTDEV_IOMEM_BASE 0xff000000ull

struct testdev {
    pthread_mutex_t lock;
    void (*exit)(void *ctx, int status); /* status: (value << 1) | 1 of the value written */
    void (*console)(void *ctx, const u8 *data, size_t len); /* or NULL */
    void *ctx;
    struct irq_line gsi; /* pin is replaced by the number of the line */

    u32 io;
    u8 iomem[TESTDEV_IOMEM_SIZE];
};

struct testdev_config {
    void (*exit)(void *ctx, int status);
    void (*console)(void *ctx, const u8 *data, size_t len);
    void *ctx;
    struct irq_line gsi;
};

void testdev_init(struct testdev *t, const struct testdev_config *c);
void testdev_destroy(struct testdev *t);
void testdev_reset(struct testdev *t);

extern const struct bus_ops testdev_exit_ops, testdev_console_ops, testdev_io_ops, testdev_irq_ops, testdev_iomem_ops;
extern const struct state_desc testdev_state;
extern const struct device_class testdev_class;

#endif
