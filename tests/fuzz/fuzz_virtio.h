/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_virtio.h - a hostile driver of a virtio device, for the fuzz targets: the input is what it does and what is in its
 * memory.
 *
 *   byte 0        number of operations, then one byte each
 *   the rest      the 64 KiB of guest memory from its start; what is missing is zero
 *
 * Queue n, of 16 entries, has its rings at n * RINGS: descriptors, 100h further what is available, 200h what is used.
 */
#ifndef LODGE_FUZZ_VIRTIO_H
#define LODGE_FUZZ_VIRTIO_H

#include <stdlib.h>

#include "../unit/fake_loop.h"
#include "fuzz.h"
#include "virtio/internal.h"

enum { MEMORY = 65536, RINGS = 0x400, QUEUE = 16, NEXT = 1, WRITE = 2, AVAIL = 128 };

void test_fail(const char *file, int line, const char *fmt, ...) { abort(); }

static struct memory *memory;
static struct virtio_transport transport;

static void queue_interrupt(void *t, struct virtio_queue *q) {}
static void config_interrupt(void *t) {}
static void reset_done(void *t) {}
static const struct virtio_transport_ops transport_ops = { queue_interrupt, config_interrupt, reset_done };
static void nothing(struct virtio_transport *t) {}
static const struct virtio_transport_kind transport_kind = { .set_line = nothing, .remove = nothing };

static void turns(void)
{
    for (int i = 0; i < 4; i++) {
        fake_run_posts();
        fake_advance(0);
    }
}

static u8 *guest(u64 gpa) { return memory->region[0].host + gpa; }

static void need_memory(void)
{
    if (memory)
        return;
    memory = memory_new(NULL);
    if (!memory || memory_add(memory, "ram", 0, MEMORY, false, NULL))
        abort();
}

static void set_status(struct virtio_device *d, u8 s)
{
    pthread_mutex_lock(&d->lock);
    virtio_set_status(d, s);
    pthread_mutex_unlock(&d->lock);
}

static void enable_queue(struct virtio_device *d, u32 i)
{
    struct virtio_queue *q = &d->queue[i];

    pthread_mutex_lock(&d->lock);
    if (!q->enabled && !q->resetting && !d->resetting) {
        q->size = QUEUE;
        q->desc = i * RINGS;
        q->driver = q->desc + 0x100;
        q->device = q->desc + 0x200;
        virtio_queue_enable(q);
    }
    pthread_mutex_unlock(&d->lock);
}

static void start(struct virtio_device *d, u64 features)
{
    features &= d->offered;
    set_status(d, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    pthread_mutex_lock(&d->lock);
    virtio_set_features(d, 0, (u32)features);
    virtio_set_features(d, 1, (u32)(features >> 32));
    pthread_mutex_unlock(&d->lock);
    set_status(d, VIRTIO_FEATURES_OK);
    for (u32 i = 0; i < d->nqueues; i++)
        enable_queue(d, i);
    set_status(d, VIRTIO_DRIVER_OK);
}

/* The operations that all devices have; false: it is one of the device's own. */
static bool common_op(struct virtio_device *d, u8 op, u64 features)
{
    u32 q = op >> 4 & 3, v;

    switch (op & 15) {
    case 0 ... 3:
        virtio_kick(d, q);
        turns();
        return true;
    case 4: /* more is available */
        *(u16 *)guest(q * RINGS + 0x102) += 1;
        return true;
    case 5:
        set_status(d, 0);
        turns();
        start(d, features);
        return true;
    case 6:
        pthread_mutex_lock(&d->lock);
        if (q < d->nqueues)
            virtio_queue_reset(&d->queue[q]);
        pthread_mutex_unlock(&d->lock);
        return true;
    case 7:
        if (q < d->nqueues)
            enable_queue(d, q);
        return true;
    case 8:
        virtio_transport_settle(&transport);
        virtio_transport_resume(&transport);
        turns();
        return true;
    case 9:
        pthread_mutex_lock(&d->lock);
        v = virtio_config_read(d, q * 16, 4);
        virtio_config_write(d, q * 16, 1, v ^ 1);
        pthread_mutex_unlock(&d->lock);
        turns();
        return true;
    case 10: /* time */
        fake_advance(1100000000);
        turns();
        return true;
    default:
        return false;
    }
}

/* For seeds: chain number n of queue q at descriptor `first`: pieces of these lengths, one behind the other. */
static inline u64 seed_chain(u8 *ram, bool packed, u32 q, u32 n, u32 first, u64 gpa, const u32 *len, u32 nout, u32 nin)
{
    u8 *table = ram + q * RINGS;
    u16 idx = (u16)(n + 1), head = (u16)first;

    for (u32 i = 0; i < nout + nin; i++) {
        u16 flags = (u16)((i + 1 < nout + nin ? NEXT : 0) | (i >= nout ? WRITE : 0)), next = (u16)(first + i + 1);
        struct { u64 addr; u32 len; u16 third, fourth; } d = {
            gpa, len[i], packed ? (u16)n : flags, packed ? flags | AVAIL : next };
        memcpy(table + 16 * (first + i), &d, 16);
        gpa += len[i];
    }
    if (!packed) {
        memcpy(table + 0x100 + 4 + 2 * n, &head, 2);
        memcpy(table + 0x100 + 2, &idx, 2);
    }
    return gpa;
}

#endif
