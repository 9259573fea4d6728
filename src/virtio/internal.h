/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - what queue.c, device.c and the two transports share. */
#ifndef LODGE_VIRTIO_INTERNAL_H
#define LODGE_VIRTIO_INTERNAL_H

#include "virtio/transport.h"

enum { /* bits of the ISR status (4.1.4.5), of InterruptStatus (4.2.2) */
    ISR_QUEUE = 1,
    ISR_CONFIG = 2,
};

struct virtio_transport_kind {
    void (*set_line)(struct virtio_transport *t); /* as isr says; irq_lock held */
    void (*resume)(struct virtio_transport *t);   /* what the bus around it may have changed; NULL: nothing */
    void (*remove)(struct virtio_transport *t);   /* from its bus */
    struct pci_function *(*function)(struct virtio_transport *t);
};

/* First in each transport. */
struct virtio_transport {
    const struct virtio_transport_kind *kind;
    struct virtio_device *d;
    pthread_mutex_t irq_lock; /* guards d->isr and the line: never held during queue work, unlike d->lock */
};

/* Plugs d in and adds its state. */
int must_check virtio_transport_init(struct virtio_transport *t, const struct virtio_transport_kind *kind,
                                     const struct virtio_transport_ops *ops, struct virtio_device *d,
                                     struct state_list *l, u32 instance, struct error *err);
void virtio_isr_set(struct virtio_transport *t, u32 bits);
u32 virtio_isr_clear(struct virtio_transport *t, u32 bits); /* returns what it was */

void virtio_queue_init(struct virtio_queue *q); /* power-on; dev, index and max_size stay */
/* Finds the rings where the driver put them, and begins at the places that q says: NULL, or why not. */
const char *virtio_queue_map(struct virtio_queue *q);

#endif
