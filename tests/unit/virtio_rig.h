/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rig.h - a virtio device on the bench: no transport's registers, split rings in guest memory, a loop that turns
 * when the test says so.  Include it in one .c of a test program.
 *
 * 16 MiB of memory; queue n has its rings at 64 KiB * (n + 1), buffers lie from BUFFERS on (alloc).
 */
#ifndef LODGE_TEST_VIRTIO_RIG_H
#define LODGE_TEST_VIRTIO_RIG_H

#include <stdlib.h>

#include "fake_loop.h"
#include "test.h"
#include "virtio/internal.h"

enum { BUFFERS = 0x400000, MEMORY_SIZE = 0x1000000, DESC_NEXT = 1, DESC_WRITE = 2 };

struct desc {
    u64 addr;
    u32 len;
    u16 flags, next;
};
struct piece {
    u64 gpa;
    u32 len;
};

struct rig {
    struct memory *m;
    struct virtio_device *d;
    struct virtio_transport t;
    u64 next_buffer;
    u16 free_desc[VIRTIO_MAX_QUEUES], avail[VIRTIO_MAX_QUEUES], used[VIRTIO_MAX_QUEUES];
    unsigned interrupts[VIRTIO_MAX_QUEUES], config_interrupts;
};

static struct rig drv;

static inline void *at(u64 gpa, u64 len)
{
    void *p = memory_ptr(drv.m, gpa, len, true);

    if (!p)
        abort();
    return p;
}

static inline u64 alloc(u64 len)
{
    u64 gpa = drv.next_buffer;

    drv.next_buffer += align_up(len, 16);
    return gpa;
}

static inline u64 rings(u32 q) { return 0x10000 * (q + 1ull); }
static inline struct desc *descs(u32 q) { return at(rings(q), 1024 * sizeof(struct desc)); }
static inline u16 *avail_ring(u32 q) { return at(rings(q) + 0x4000, 0x1000); }
static inline u16 *used_ring(u32 q) { return at(rings(q) + 0x6000, 0x2100); }

static void queue_interrupt(void *transport, struct virtio_queue *q) { drv.interrupts[q->index]++; }
static void config_interrupt(void *transport) { drv.config_interrupts++; }
static void reset_done(void *transport) {}
static const struct virtio_transport_ops rig_ops = { queue_interrupt, config_interrupt, reset_done };
static void nothing(struct virtio_transport *t) {}
static const struct virtio_transport_kind rig_kind = { .set_line = nothing, .remove = nothing };

static inline void rig_memory(void)
{
    memset(&drv, 0, sizeof(drv));
    drv.m = memory_new(NULL);
    if (!drv.m || memory_add(drv.m, "ram", 0, MEMORY_SIZE, false, NULL))
        abort();
}

static inline void lock(void) { pthread_mutex_lock(&drv.d->lock); }
static inline void unlock(void) { pthread_mutex_unlock(&drv.d->lock); }

static inline void set_status(u8 status)
{
    lock();
    virtio_set_status(drv.d, status);
    unlock();
}

static inline void enable_queue(u32 i, u16 size)
{
    struct virtio_queue *q = &drv.d->queue[i];

    memset(at(rings(i), 0x10000), 0, 0x10000);
    drv.free_desc[i] = drv.avail[i] = drv.used[i] = 0;
    q->size = size;
    q->desc = rings(i);
    q->driver = rings(i) + 0x4000;
    q->device = rings(i) + 0x6000;
    lock();
    virtio_queue_enable(q);
    unlock();
}

/* Negotiates: these of the features that are offered; brings up all queues. */
static inline void rig_start(struct virtio_device *d, u64 features)
{
    if (!drv.d) {
        drv.d = d;
        drv.next_buffer = BUFFERS;
        CHECK_EQ(virtio_transport_init(&drv.t, &rig_kind, &rig_ops, d, NULL, 0, NULL), 0);
    }
    set_status(0);
    set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    features = (features | VIRTIO_F_VERSION_1) & d->offered;
    lock();
    virtio_set_features(d, 0, (u32)features);
    virtio_set_features(d, 1, (u32)(features >> 32));
    unlock();
    set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    CHECK(virtio_status(d) & VIRTIO_FEATURES_OK);
    for (u32 i = 0; i < d->nqueues; i++)
        enable_queue(i, d->queue[i].max_size);
    set_status(VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
}

static inline void rig_end(void)
{
    memory_free(drv.m);
}

/* Makes a buffer available: nout pieces the device reads, then nin it writes; returns its id. */
static inline u16 add(u32 q, const struct piece *p, u32 nout, u32 nin)
{
    u16 size = drv.d->queue[q].size, head = drv.free_desc[q];
    struct desc *table = descs(q);
    u16 *ring = avail_ring(q);

    for (u32 i = 0; i < nout + nin; i++) {
        u16 n = (u16)((head + i) % size);
        table[n] = (struct desc){ p[i].gpa, p[i].len,
                                  (u16)((i + 1 < nout + nin ? DESC_NEXT : 0) | (i >= nout ? DESC_WRITE : 0)),
                                  (u16)((n + 1) % size) };
    }
    drv.free_desc[q] = (u16)((head + nout + nin) % size);
    ring[2 + drv.avail[q]++ % size] = head;
    ring[1] = drv.avail[q];
    return head;
}

/* The loop goes round until it has nothing to do at once. */
static inline void loop_turns(void)
{
    do
        fake_run_posts();
    while (fake_advance(0) || fake_posts);
}

static inline void kick(u32 q)
{
    virtio_kick(drv.d, q);
    loop_turns();
}

/* The next used buffer: its id, with the length in *len; -1: none. */
static inline int used(u32 q, u32 *len)
{
    u16 size = drv.d->queue[q].size;
    u16 *ring = used_ring(q);
    u32 *e = (u32 *)(void *)(ring + 2) + 2 * (drv.used[q] % size);

    if (ring[1] == drv.used[q])
        return -1;
    drv.used[q]++;
    if (len)
        *len = e[1];
    return (int)e[0];
}

static inline u32 config(u32 offset, u32 len)
{
    lock();
    u32 v = virtio_config_read(drv.d, offset, len);
    unlock();
    return v;
}

static inline void set_config(u32 offset, u32 len, u32 v)
{
    lock();
    virtio_config_write(drv.d, offset, len, v);
    unlock();
}

#endif
