/* SPDX-License-Identifier: Apache-2.0 */
/* testdev.c - see testdev.h. */
#include "devices/testdev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- isa-debug-exit ---- */

static u64 exit_read(void *dev, u64 offset, unsigned size)
{
    return 0;
}

static void exit_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = dev;

    if (t->exit)
        t->exit(t->ctx, (int)((u32)value << 1 | 1));
}

const struct bus_ops testdev_exit_ops = { .read = exit_read, .write = exit_write, .min_size = 1, .max_size = 4 };

/* ---- debug console: reads as its own port number, by which programs find it ---- */

static u64 console_read(void *dev, u64 offset, unsigned size)
{
    return TESTDEV_CONSOLE_PORT;
}

static void console_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = dev;
    u8 byte = (u8)value;

    if (t->console)
        t->console(t->ctx, &byte, 1);
}

const struct bus_ops testdev_console_ops = { .read = console_read, .write = console_write, .min_size = 1, .max_size = 1 };

/* ---- a port that is memory ---- */

static u64 io_read(void *dev, u64 offset, unsigned size)
{
    struct testdev *t = dev;
    u64 v = 0;

    pthread_mutex_lock(&t->lock);
    if (offset < 4)
        v = t->io >> offset * 8;
    pthread_mutex_unlock(&t->lock);
    return v & (BIT(size * 8) - 1);
}

static void io_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = dev;
    u32 mask = (u32)((BIT(size * 8) - 1) << offset * 8);

    if (offset >= 4) /* E4h: have this page faulted in anew; nothing is cached here that would need it */
        return;
    pthread_mutex_lock(&t->lock);
    t->io = (t->io & ~mask) | ((u32)(value << offset * 8) & mask);
    pthread_mutex_unlock(&t->lock);
}

const struct bus_ops testdev_io_ops = { .read = io_read, .write = io_write, .min_size = 1, .max_size = 4 };

/* ---- interrupt lines ---- */

static u64 irq_read(void *dev, u64 offset, unsigned size)
{
    return 0;
}

static void irq_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = dev;
    struct irq_line line = t->gsi;

    line.pin = (u32)offset;
    irq_set(&line, value != 0);
}

const struct bus_ops testdev_irq_ops = { .read = irq_read, .write = irq_write, .min_size = 1, .max_size = 1 };

/* ---- memory-mapped I/O that is memory ---- */

static u64 iomem_read(void *dev, u64 offset, unsigned size)
{
    struct testdev *t = dev;
    u64 v = 0;

    if (offset > TESTDEV_IOMEM_SIZE - size)
        return UINT64_MAX;
    pthread_mutex_lock(&t->lock);
    memcpy(&v, &t->iomem[offset], size);
    pthread_mutex_unlock(&t->lock);
    return v;
}

static void iomem_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = dev;

    if (offset > TESTDEV_IOMEM_SIZE - size)
        return;
    pthread_mutex_lock(&t->lock);
    memcpy(&t->iomem[offset], &value, size);
    pthread_mutex_unlock(&t->lock);
}

const struct bus_ops testdev_iomem_ops = { .read = iomem_read, .write = iomem_write, .min_size = 1, .max_size = 8 };

/* ---- life ---- */

void testdev_reset(struct testdev *t)
{
    pthread_mutex_lock(&t->lock);
    t->io = 0;
    memset(t->iomem, 0, sizeof(t->iomem));
    pthread_mutex_unlock(&t->lock);
}

void testdev_init(struct testdev *t, const struct testdev_config *c)
{
    memset(t, 0, sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    t->exit = c->exit;
    t->console = c->console;
    t->ctx = c->ctx;
    t->gsi = c->gsi;
}

void testdev_destroy(struct testdev *t)
{
    pthread_mutex_destroy(&t->lock);
}

static const struct state_field fields[] = {
    STATE_FIELD(struct testdev, io, 1),
    STATE_ARRAY(struct testdev, iomem, 1),
    STATE_END,
};
const struct state_desc testdev_state = { "testdev", 1, fields, NULL, NULL };

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    const struct testdev_config c = {
        .exit = env->debug_exit, .console = env->debug_console, .ctx = env->board, .gsi = env->line(env->board, 0),
    };
    struct testdev *t = d->dev = malloc(sizeof *t);
    const struct bus_range ports[] = {
        { TESTDEV_EXIT_PORT, TESTDEV_EXIT_PORTS, &testdev_exit_ops, t, NULL, "debug-exit" },
        { TESTDEV_CONSOLE_PORT, 1, &testdev_console_ops, t, NULL, "debug-console" },
        { TESTDEV_IO_PORT, TESTDEV_IO_PORTS, &testdev_io_ops, t, NULL, "testdev" },
        { TESTDEV_IRQ_PORT, TESTDEV_IRQS, &testdev_irq_ops, t, NULL, "testdev-irq" },
    };
    int rc = 0;

    if (!t)
        return error_set(err, ENOMEM, "out of memory");
    testdev_init(t, &c);
    for (u32 i = 0; i < ARRAY_SIZE(ports) && !rc; i++)
        rc = bus_add(env->ports, &ports[i]);
    if (!rc)
        rc = bus_add(env->mmio, &(struct bus_range){ TESTDEV_IOMEM_BASE, TESTDEV_IOMEM_SIZE, &testdev_iomem_ops, t, NULL, "testdev" });
    return rc ? error_set(err, -rc, "the ports of testdev are taken: a machine has one") : 0;
}

static void unplug(struct device *d)
{
    testdev_destroy(d->dev);
    free(d->dev);
}

static void reset(struct device *d)
{
    testdev_reset(d->dev);
}

const struct device_class testdev_class = {
    .kind = DEVICE_OTHER, .name = "testdev", .summary = "for test programs: debug exit at port F4h, and what kvm-unit-tests expects",
    .state = &testdev_state, .create = create, .unplug = unplug, .reset = reset,
};
