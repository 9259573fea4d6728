/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.c - virtio as a PCI function without the legacy interface.  VIRTIO 1.2, 4.1.
 *
 * BAR 1 has the MSI-X table, BAR 4 the four structures, a page each.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/internal.h"

enum { VENDOR = 0x1af4, DEVICE_BASE = 0x1040, SUBSYSTEM = 0x1100, REVISION = 1 };
enum { MSIX_BAR = 1, BAR = 4 };
enum { COMMON = 0, ISR = 0x1000, DEVICE = 0x2000, NOTIFY = 0x3000, BAR_SIZE = 0x4000 };
enum { NOTIFY_OFF_MULTIPLIER = 4 };

enum { /* 4.1.4 */
    VIRTIO_PCI_CAP_COMMON_CFG = 1, VIRTIO_PCI_CAP_NOTIFY_CFG = 2, VIRTIO_PCI_CAP_ISR_CFG = 3,
    VIRTIO_PCI_CAP_DEVICE_CFG = 4, VIRTIO_PCI_CAP_PCI_CFG = 5,
};
enum { /* struct virtio_pci_cap; struct virtio_pci_notify_cap, struct virtio_pci_cfg_cap */
    CAP_VNDR = 9, CAP_LEN = 2, CAP_CFG_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_SIZE = 16,
    CAP_NOTIFY_OFF_MULTIPLIER = 16, CAP_PCI_CFG_DATA = 16,
};
enum { PCI_COMMAND = 4 };

struct virtio_pci_common_cfg { /* 4.1.4.3 */
    u32 device_feature_select, device_feature, driver_feature_select, driver_feature;
    u16 config_msix_vector, num_queues;
    u8 device_status, config_generation;
    u16 queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    u64 queue_desc, queue_driver, queue_device;
    u16 queue_notif_config_data, queue_reset;
};
_Static_assert(offsetof(struct virtio_pci_common_cfg, queue_reset) == 58, "4.1.4.3");
#define REG(name) offsetof(struct virtio_pci_common_cfg, name)

struct virtio_pci {
    struct virtio_transport t;
    struct pci_function f;
    u8 cfg_cap; /* where the window into the BAR is in configuration space */
};

static struct virtio_pci *vpci(void *t) { return container_of(t, struct virtio_pci, t); }

/* ---- registers ---------------------------------------------------------- */

static void common_fill(struct virtio_pci *p, struct virtio_pci_common_cfg *c)
{
    struct virtio_device *d = p->t.d;
    const struct virtio_queue *q = virtio_selected(d);

    *c = (struct virtio_pci_common_cfg){
        .device_feature_select = d->device_feature_select,
        .device_feature = virtio_feature_word(d, d->offered, d->device_feature_select),
        .driver_feature_select = d->driver_feature_select,
        .driver_feature = virtio_feature_word(d, d->wanted, d->driver_feature_select),
        .config_msix_vector = d->config_vector,
        .num_queues = (u16)d->nqueues,
        .device_status = virtio_status(d),
        .config_generation = (u8)d->generation,
        .queue_select = (u16)d->queue_select,
        .queue_msix_vector = VIRTIO_MSI_NO_VECTOR,
    };
    if (!q)
        return;
    c->queue_size = q->size;
    c->queue_msix_vector = q->vector;
    c->queue_enable = q->enabled;
    c->queue_notify_off = q->index;
    c->queue_desc = q->desc;
    c->queue_driver = q->driver;
    c->queue_device = q->device;
    c->queue_reset = q->resetting;
}

/* 4.1.5.1.2.1: one that does not exist reads back as none. */
static u16 vector(const struct virtio_pci *p, u32 v)
{
    return v < p->f.msix_vectors ? (u16)v : VIRTIO_MSI_NO_VECTOR;
}

static void common_write16(struct virtio_pci *p, u64 offset, u16 v)
{
    struct virtio_device *d = p->t.d;
    struct virtio_queue *q = virtio_selected(d);

    if (offset == REG(config_msix_vector)) {
        d->config_vector = vector(p, v);
    } else if (offset == REG(queue_select)) {
        d->queue_select = v;
    } else if (!q || q->resetting) {
        return;
    } else if (offset == REG(queue_msix_vector)) {
        q->vector = vector(p, v);
    } else if (offset == REG(queue_enable)) {
        if (v == 1)
            virtio_queue_enable(q);
    } else if (offset == REG(queue_reset)) {
        if (v == 1 && virtio_has(d, VIRTIO_F_RING_RESET))
            virtio_queue_reset(q);
    } else if (offset == REG(queue_size) && !q->enabled) {
        q->size = v;
    }
}

static void common_write32(struct virtio_pci *p, u64 offset, u32 v)
{
    struct virtio_device *d = p->t.d;
    struct virtio_queue *q = virtio_selected(d);

    if (offset == REG(device_feature_select)) {
        d->device_feature_select = v;
    } else if (offset == REG(driver_feature_select)) {
        d->driver_feature_select = v;
    } else if (offset == REG(driver_feature)) {
        virtio_set_features(d, d->driver_feature_select, v);
    } else if (q && !q->enabled && offset >= REG(queue_desc) && offset < REG(queue_notif_config_data)) {
        u64 *const areas[] = { &q->desc, &q->driver, &q->device }, *address = areas[(offset - REG(queue_desc)) / 8];
        *address = offset & 4 ? (u32)*address | (u64)v << 32 : (*address & ~0xffffffffull) | v;
    }
}

/* Each register takes writes of its own width alone (4.1.3.1), addresses halves. */
static void common_write(struct virtio_pci *p, u64 offset, unsigned size, u32 v)
{
    struct virtio_device *d = p->t.d;

    if (offset == REG(device_status) && size == 1) {
        virtio_set_status(d, (u8)v);
    } else if (d->resetting) {
        return; /* 4.1.4.3.2: the driver waits */
    } else if (size == 2 && !(offset & 1)) {
        common_write16(p, offset, (u16)v);
    } else if (size == 4 && !(offset & 3)) {
        common_write32(p, offset, v);
    }
}

static u64 bar_read(void *dev, u64 offset, unsigned size)
{
    struct virtio_pci *p = dev;
    struct virtio_pci_common_cfg c;
    u32 v = 0;

    if (offset >= NOTIFY)
        return 0;
    if (offset == ISR) /* 4.1.4.5: reading clears; not behind queue work */
        return virtio_isr_clear(&p->t, UINT32_MAX);
    pthread_mutex_lock(&p->t.d->lock);
    if (offset >= DEVICE) {
        v = virtio_config_read(p->t.d, (u32)offset - DEVICE, size);
    } else if (offset < sizeof c) {
        common_fill(p, &c);
        memcpy(&v, (u8 *)&c + offset, MIN(size, sizeof c - offset));
    }
    pthread_mutex_unlock(&p->t.d->lock);
    return v;
}

static void bar_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct virtio_pci *p = dev;

    if (offset >= NOTIFY) { /* without the device's lock */
        virtio_kick(p->t.d, (u32)(offset - NOTIFY) / NOTIFY_OFF_MULTIPLIER);
        return;
    }
    pthread_mutex_lock(&p->t.d->lock);
    if (offset >= DEVICE)
        virtio_config_write(p->t.d, (u32)offset - DEVICE, size, (u32)value);
    else if (offset < ISR)
        common_write(p, offset, size, (u32)value);
    pthread_mutex_unlock(&p->t.d->lock);
}

static const struct bus_ops bar_ops = { bar_read, bar_write, 1, 4 };

/* ---- configuration space ------------------------------------------------ */

/* 4.1.4.9: what the window shows, if it is one that the BAR has: its size, or 0. */
static u32 window(const struct virtio_pci *p, u32 *offset)
{
    const u8 *cap = &p->f.config[p->cfg_cap];
    u32 length = pci_get32(cap + CAP_LENGTH);

    *offset = pci_get32(cap + CAP_OFFSET);
    if (cap[CAP_BAR] != BAR || (length != 1 && length != 2 && length != 4) || *offset % length || *offset >= BAR_SIZE)
        return 0;
    return length;
}

static bool config_read(struct pci_function *f, u32 at, u32 len, u32 *value)
{
    struct virtio_pci *p = container_of(f, struct virtio_pci, f);
    u32 offset, n;

    if (at != (u32)p->cfg_cap + CAP_PCI_CFG_DATA || !(n = window(p, &offset)))
        return false;
    *value = (u32)bar_read(p, offset, n);
    return true;
}

static void config_written(struct pci_function *f, u32 at, u32 len)
{
    struct virtio_pci *p = container_of(f, struct virtio_pci, f);
    u32 offset, n;

    if (at == (u32)p->cfg_cap + CAP_PCI_CFG_DATA && (n = window(p, &offset)) && len >= n)
        bar_write(p, offset, n, pci_get32(&f->config[at]) & (u32)(BIT(n * 8) - 1));
    if (at < PCI_COMMAND + 2 && PCI_COMMAND < at + len) {
        pthread_mutex_lock(&p->t.d->lock);
        virtio_set_dma(p->t.d, pci_bus_master(f));
        pthread_mutex_unlock(&p->t.d->lock);
    }
}

/* ---- for device.c ------------------------------------------------------- */

static void set_line(struct virtio_transport *t)
{
    pci_set_intx(&vpci(t)->f, t->d->isr != 0); /* not seen while MSI-X is enabled */
}

static void queue_interrupt(void *t, struct virtio_queue *q)
{
    if (!pci_msix_enabled(&vpci(t)->f))
        virtio_isr_set(t, ISR_QUEUE);
    else if (q->vector != VIRTIO_MSI_NO_VECTOR)
        pci_msix_notify(&vpci(t)->f, q->vector);
}

static void config_interrupt(void *t)
{
    struct virtio_pci *p = vpci(t);

    virtio_isr_set(t, ISR_CONFIG); /* 4.1.4.5.1: this bit in any case */
    if (pci_msix_enabled(&p->f) && p->t.d->config_vector != VIRTIO_MSI_NO_VECTOR)
        pci_msix_notify(&p->f, p->t.d->config_vector);
}

static void reset_done(void *t)
{
    virtio_isr_clear(t, UINT32_MAX);
}

static void resume(struct virtio_transport *t)
{
    virtio_set_dma(t->d, pci_bus_master(&vpci(t)->f));
}

static void unplug(struct virtio_transport *t)
{
    pci_remove(&vpci(t)->f);
}

static struct pci_function *function(struct virtio_transport *t)
{
    return &vpci(t)->f;
}

static const struct virtio_transport_kind kind = { set_line, resume, unplug, function };
static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt, reset_done };

/* ---- building ----------------------------------------------------------- */

static u32 class_code(enum virtio_id id)
{
    switch (id) {
    case VIRTIO_ID_NET: return 0x020000;     /* Ethernet */
    case VIRTIO_ID_BLOCK: return 0x018000;   /* mass storage, other */
    case VIRTIO_ID_FS: return 0x018000;
    case VIRTIO_ID_CONSOLE: return 0x078000; /* communication, other */
    case VIRTIO_ID_SOCKET: return 0x078000;
    case VIRTIO_ID_BALLOON: return 0x058000; /* memory, other */
    case VIRTIO_ID_INPUT: return 0x098000;   /* input, other */
    default: return 0xff0000;
    }
}

static u8 add_cap(struct pci_function *f, u8 type, u8 size, u32 offset, u32 length)
{
    u8 at = pci_add_capability(f, CAP_VNDR, size), *cap = &f->config[at];

    cap[CAP_LEN] = size;
    cap[CAP_CFG_TYPE] = type;
    cap[CAP_BAR] = type == VIRTIO_PCI_CAP_PCI_CFG ? 0 : BAR;
    pci_put32(cap + CAP_OFFSET, offset);
    pci_put32(cap + CAP_LENGTH, length);
    return at;
}

static void build(struct virtio_pci *p, struct virtio_device *d)
{
    struct pci_function *f = &p->f;
    struct pci_bar bar = { .size = BAR_SIZE, .flags = PCI_BAR_64 | PCI_BAR_PREFETCH, .ops = &bar_ops, .dev = p,
                           .name = d->ops->name };

    pci_function_init(f, d->ops->name, VENDOR, (u16)(DEVICE_BASE + d->ops->id), REVISION, class_code(d->ops->id),
                      VENDOR, SUBSYSTEM);
    pci_use_intx(f);
    pci_add_msix(f, d->nqueues + 1, MSIX_BAR);
    pci_bar_init(f, BAR, &bar);
    add_cap(f, VIRTIO_PCI_CAP_COMMON_CFG, CAP_SIZE, COMMON, sizeof(struct virtio_pci_common_cfg));
    add_cap(f, VIRTIO_PCI_CAP_ISR_CFG, CAP_SIZE, ISR, 1);
    if (d->ops->config_size)
        add_cap(f, VIRTIO_PCI_CAP_DEVICE_CFG, CAP_SIZE, DEVICE, (u32)align_up(d->ops->config_size, 4));
    u8 at = add_cap(f, VIRTIO_PCI_CAP_NOTIFY_CFG, CAP_SIZE + 4, NOTIFY, d->nqueues * NOTIFY_OFF_MULTIPLIER);
    pci_put32(&f->config[at] + CAP_NOTIFY_OFF_MULTIPLIER, NOTIFY_OFF_MULTIPLIER);
    p->cfg_cap = add_cap(f, VIRTIO_PCI_CAP_PCI_CFG, CAP_SIZE + 4, 0, 0);
    f->wmask[p->cfg_cap + CAP_BAR] = 0xff;
    memset(&f->wmask[p->cfg_cap + CAP_OFFSET], 0xff, CAP_PCI_CFG_DATA + 4 - CAP_OFFSET);
    f->config_read = config_read;
    f->config_written = config_written;
}

struct virtio_transport *virtio_pci_new(struct virtio_device *d, struct pci_bus *bus, u32 slot, struct state_list *l,
                                        u32 instance, struct error *err)
{
    struct virtio_pci *p = calloc(1, sizeof *p);

    if (!p) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    build(p, d);
    d->dma = false; /* until the driver makes it a bus master */
    if (pci_add(bus, &p->f, slot, 0, l, err)) {
        free(p);
        return NULL;
    }
    if (virtio_transport_init(&p->t, &kind, &transport_ops, d, l, instance, err)) {
        pci_remove(&p->f);
        free(p);
        return NULL;
    }
    return &p->t;
}
