/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmio.c - virtio by memory-mapped registers.  VIRTIO 1.2, 4.2 (QueueReset: 1.3).
 *
 * Resets.  A PCI driver polls the status register until the device is quiet.  Linux's virtio-mmio driver does not:
 * after its write of 0 the memory of the rings and buffers is its own again.  So that write, and QueueReady 0, returns
 * to the guest only when the host writes no more to guest memory: the vCPU's thread waits for the loop's, with no lock
 * held.
 * There is one case in which that would never end: the loop's thread is itself waiting for the vCPU to stop.  Then
 * vcpus_pause lets it go (loop_wait); it leaves run() right after this access, and before it executes another
 * instruction it waits for the rest (loop_wait_again in vcpu.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/internal.h"

enum { /* 4.2.2 */
    MAGIC_VALUE = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010, DEVICE_FEATURES_SEL = 0x014, DRIVER_FEATURES = 0x020, DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030, QUEUE_SIZE_MAX = 0x034, QUEUE_SIZE = 0x038, QUEUE_READY = 0x044, QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064, STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080, QUEUE_DESC_HIGH = 0x084, QUEUE_DRIVER_LOW = 0x090, QUEUE_DRIVER_HIGH = 0x094,
    QUEUE_DEVICE_LOW = 0x0a0, QUEUE_DEVICE_HIGH = 0x0a4,
    SHM_LEN_LOW = 0x0b0, SHM_LEN_HIGH = 0x0b4, SHM_BASE_LOW = 0x0b8, SHM_BASE_HIGH = 0x0bc,
    QUEUE_RESET = 0x0c0, CONFIG_GENERATION = 0x0fc, CONFIG = 0x100,
};
#define MAGIC 0x74726976u /* "virt" */
enum { VENDOR = 0x1af4 };

struct virtio_mmio {
    struct virtio_transport t;
    struct bus *bus;
    u64 base;
    struct irq_line irq;
};

static struct virtio_mmio *mmio(void *t) { return container_of(t, struct virtio_mmio, t); }

static u32 register_read(struct virtio_mmio *m, u32 offset)
{
    struct virtio_device *d = m->t.d;
    const struct virtio_queue *q = virtio_selected(d);

    switch (offset) {
    case MAGIC_VALUE: return MAGIC;
    case VERSION: return 2;
    case DEVICE_ID: return d->ops->id;
    case VENDOR_ID: return VENDOR;
    case DEVICE_FEATURES: return virtio_feature_word(d, d->offered, d->device_feature_select);
    case QUEUE_SIZE_MAX: return q ? q->max_size : 0;
    case QUEUE_READY: return q ? q->enabled : 0;
    case STATUS: return virtio_status(d);
    case SHM_LEN_LOW: /* no device has such regions */
    case SHM_LEN_HIGH:
    case SHM_BASE_LOW:
    case SHM_BASE_HIGH: return UINT32_MAX;
    case QUEUE_RESET: return q ? q->resetting : 0;
    case CONFIG_GENERATION: return d->generation;
    default: return 0;
    }
}

static void set_half(u64 *address, bool high, u32 value)
{
    *address = high ? (u32)*address | (u64)value << 32 : (*address & ~0xffffffffull) | value;
}

/* Returns whether the driver takes it for granted that the device is quiet then. */
static bool register_write(struct virtio_mmio *m, u32 offset, u32 value)
{
    struct virtio_device *d = m->t.d;
    struct virtio_queue *q = virtio_selected(d);
    bool setup = q && !q->enabled && !d->resetting;

    switch (offset) {
    case DEVICE_FEATURES_SEL: d->device_feature_select = value; break;
    case DRIVER_FEATURES_SEL: d->driver_feature_select = value; break;
    case DRIVER_FEATURES: virtio_set_features(d, d->driver_feature_select, value); break;
    case QUEUE_SEL: d->queue_select = value; break;
    case STATUS:
        virtio_set_status(d, (u8)value);
        return !(u8)value;
    case QUEUE_READY:
        if (q && value == 1)
            virtio_queue_enable(q);
        else if (q && !value)
            virtio_queue_reset(q);
        return !value;
    case QUEUE_RESET:
        if (q && value == 1 && virtio_has(d, VIRTIO_F_RING_RESET))
            virtio_queue_reset(q);
        break;
    case QUEUE_SIZE:
        if (setup)
            q->size = value > q->max_size ? 0 : (u16)value;
        break;
    case QUEUE_DESC_LOW:
    case QUEUE_DESC_HIGH:
        if (setup)
            set_half(&q->desc, offset & 4, value);
        break;
    case QUEUE_DRIVER_LOW:
    case QUEUE_DRIVER_HIGH:
        if (setup)
            set_half(&q->driver, offset & 4, value);
        break;
    case QUEUE_DEVICE_LOW:
    case QUEUE_DEVICE_HIGH:
        if (setup)
            set_half(&q->device, offset & 4, value);
        break;
    default: break;
    }
    return false;
}

static u64 mmio_read(void *dev, u64 offset, unsigned size)
{
    struct virtio_mmio *m = dev;
    struct virtio_device *d = m->t.d;
    u64 v = 0;

    if (offset == INTERRUPT_STATUS && size == 4) /* as in mmio_write: not behind queue work */
        return __atomic_load_n(&d->isr, __ATOMIC_ACQUIRE);
    pthread_mutex_lock(&d->lock);
    if (offset >= CONFIG)
        v = virtio_config_read(d, (u32)offset - CONFIG, size);
    else if (size == 4 && !(offset & 3))
        v = register_read(m, (u32)offset);
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void mmio_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct virtio_mmio *m = dev;
    struct virtio_device *d = m->t.d;
    bool wait = false;

    if (offset < CONFIG && (size != 4 || (offset & 3)))
        return;
    if (offset == QUEUE_NOTIFY) { /* these two without the device's lock */
        virtio_kick(d, (u32)value);
        return;
    }
    if (offset == INTERRUPT_ACK) {
        virtio_isr_clear(&m->t, (u32)value);
        return;
    }
    pthread_mutex_lock(&d->lock);
    if (offset >= CONFIG)
        virtio_config_write(d, (u32)offset - CONFIG, size, (u32)value);
    else
        wait = register_write(m, (u32)offset, (u32)value);
    pthread_mutex_unlock(&d->lock);
    if (wait && !__atomic_load_n(&d->quiet, __ATOMIC_ACQUIRE))
        loop_wait(d->loop, &d->quiet);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write, 1, 4 };

/* ---- for device.c ------------------------------------------------------- */

static void set_line(struct virtio_transport *t)
{
    irq_set(&mmio(t)->irq, t->d->isr != 0);
}

static void queue_interrupt(void *t, struct virtio_queue *q)
{
    (void)q;
    virtio_isr_set(t, ISR_QUEUE);
}

static void config_interrupt(void *t)
{
    virtio_isr_set(t, ISR_CONFIG);
}

static void reset_done(void *t)
{
    virtio_isr_clear(t, UINT32_MAX);
}

static void unplug(struct virtio_transport *t)
{
    irq_set(&mmio(t)->irq, false);
    bus_remove(mmio(t)->bus, mmio(t)->base, mmio(t));
}

static struct pci_function *no_function(struct virtio_transport *t)
{
    (void)t;
    return NULL;
}

static const struct virtio_transport_kind kind = { set_line, NULL, unplug, no_function };
static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt, reset_done };

struct virtio_transport *virtio_mmio_new(struct virtio_device *d, struct bus *bus, u64 base, const struct irq_line *irq,
                                         struct state_list *l, u32 instance, struct error *err)
{
    struct virtio_mmio *m = calloc(1, sizeof *m);
    int rc;

    if (!m) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    m->bus = bus;
    m->base = base;
    m->irq = *irq;
    if ((rc = bus_add(bus, &(struct bus_range){ base, VIRTIO_MMIO_SIZE, &mmio_ops, m, NULL, d->ops->name }))) {
        error_set(err, -rc, "%s cannot have its registers at 0x%llx: %s", d->ops->name, (unsigned long long)base,
                  strerror(-rc));
        free(m);
        return NULL;
    }
    if (virtio_transport_init(&m->t, &kind, &transport_ops, d, l, instance, err)) {
        bus_remove(bus, base, m);
        free(m);
        return NULL;
    }
    return &m->t;
}
