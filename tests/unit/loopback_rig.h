/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loopback_rig.h - a loopback device of virtio that holds buffers for a while and gives them back in any order, and the
 * machine around it.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_LOOPBACK_RIG_H
#define LODGE_TEST_LOOPBACK_RIG_H

#include "test.h"

#include <stdlib.h>

#include "fake_loop.h"
#include "virtio_driver.h"

#define BASE 0x10000000ull
#define RINGS 0x1000ull
#define BOUNDARY 0x100000ull /* where one region of memory ends and the next begins */
#define ROM 0x200000ull
#define HIGH GiB(4)

enum { QUEUES = 2, SLOT = 2044, SLOTS = 256, MAX_PIECES = 6 };

/* ---- the device --------------------------------------------------------- */

struct held {
    struct virtio_chain c;
    struct iovec iov[64];
    u64 gpa[64];
    bool busy;
};

struct loopback {
    struct virtio_device d;
    struct held held[QUEUES][SLOTS];
    u32 limit;           /* buffers it takes at most at a time */
    bool no_gpa;
    u32 kicks, pops;
    u8 config[8];
};

static inline struct loopback *lb(struct virtio_device *d) { return container_of(d, struct loopback, d); }

static inline u32 holding(struct loopback *l, u32 q)
{
    u32 n = 0;
    for (u32 i = 0; i < SLOTS; i++)
        n += l->held[q][i].busy;
    return n;
}

static inline struct held *place(struct loopback *l, u32 q)
{
    for (u32 i = 0; i < SLOTS; i++)
        if (!l->held[q][i].busy)
            return &l->held[q][i];
    return NULL;
}

static inline void take(struct loopback *l, struct virtio_queue *q)
{
    struct held *h;
    while (holding(l, q->index) < l->limit && (h = place(l, q->index))) {
        h->c = (struct virtio_chain){ .iov = h->iov, .gpa = l->no_gpa ? NULL : h->gpa, .max = 64 };
        if (virtio_pop(q, &h->c) <= 0)
            break;
        h->busy = true;
        l->pops++;
    }
}

static inline void lb_kick(struct virtio_device *d, struct virtio_queue *q)
{
    lb(d)->kicks++;
    take(lb(d), q);
}

/* in[i] = out[i % n] + i, as many as there is room */
static inline void finish(struct loopback *l, u32 queue, u32 i)
{
    struct held *h = &l->held[queue][i];
    u8 out[SLOT], in[SLOT];
    u64 n = virtio_read(&h->c, 0, out, sizeof(out)), room = MIN(h->c.in_len, (u64)SLOT);

    CHECK_EQ(n, MIN(h->c.out_len, (u64)SLOT));
    for (u64 k = 0; k < room; k++)
        in[k] = (u8)((n ? out[k % n] : 0) + k);
    if (virtio_queue_live(&l->d.queue[queue]))
        CHECK_EQ(virtio_write(&h->c, 0, in, room), room);
    virtio_push(&l->d.queue[queue], &h->c, room);
    h->busy = false;
}

static inline bool lb_reset(struct virtio_device *d)
{
    for (u32 q = 0; q < QUEUES; q++)
        if (holding(lb(d), q))
            return false;
    return true;
}

static inline bool lb_queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    return !holding(lb(d), q->index);
}

/* Finishes some of what it holds, as the host does, and what that ends. */
static inline void host(struct loopback *l, u32 percent)
{
    pthread_mutex_lock(&l->d.lock);
    for (u32 q = 0; q < QUEUES; q++) {
        for (u32 i = 0, at = (u32)rand(); i < SLOTS; i++)
            if (l->held[q][(i + at) % SLOTS].busy && (u32)rand() % 100 < percent)
                finish(l, q, (i + at) % SLOTS);
        if (!holding(l, q))
            virtio_queue_reset_done(&l->d.queue[q]);
        take(l, &l->d.queue[q]);
        virtio_notify(&l->d.queue[q]);
    }
    if (lb_reset(&l->d))
        virtio_reset_done(&l->d);
    pthread_mutex_unlock(&l->d.lock);
}

static inline void lb_settle(struct virtio_device *d)
{
    for (u32 q = 0; q < QUEUES; q++)
        for (u32 i = 0; i < SLOTS; i++)
            if (lb(d)->held[q][i].busy)
                finish(lb(d), q, i);
}

static inline void lb_config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    CHECK(offset + len <= sizeof(lb(d)->config));
    memcpy(to, lb(d)->config + offset, len);
}

static inline void lb_config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    CHECK(offset + len <= sizeof(lb(d)->config));
    memcpy(lb(d)->config + offset, from, len);
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_ENTROPY, .name = "loopback", .config_size = 7, .config_read = lb_config_read,
    .config_write = lb_config_write, .kick = lb_kick, .reset = lb_reset, .queue_reset = lb_queue_reset,
    .settle = lb_settle,
};

/* ---- the machine around it ---------------------------------------------- */

struct world {
    struct memory *m;
    struct bus *bus;
    struct state_list *state;
    struct loopback *l;
    struct virtio_transport *t;
    bool line;
    u32 interrupts;
    struct drv v[QUEUES];
};

static inline void set_line(void *chip, u32 pin, bool level)
{
    struct world *w = chip;
    w->interrupts += level && !w->line;
    w->line = level;
}

static inline void plug(struct world *w)
{
    static const u16 sizes[QUEUES] = { SLOTS, SLOTS };
    struct irq_line irq = { set_line, w, 0 };

    w->bus = bus_new(1ull << 40);
    w->state = state_list_new();
    w->l = calloc(1, sizeof(*w->l));
    w->l->limit = SLOTS;
    virtio_init(&w->l->d, &ops, w->m, NULL, 0, QUEUES, sizes);
    w->t = virtio_mmio_new(&w->l->d, w->bus, BASE, &irq, w->state, 0, NULL);
    for (u32 i = 0; i < QUEUES; i++) {
        w->v[i].m = w->m;
        w->v[i].bus = w->bus;
        w->v[i].base = BASE;
    }
}

static inline void unplug(struct world *w)
{
    virtio_transport_free(w->t);
    virtio_destroy(&w->l->d);
    for (u32 q = 0; q < QUEUES; q++)
        CHECK_EQ(holding(w->l, q), 0);
    free(w->l);
    state_list_free(w->state);
    bus_free(w->bus);
    CHECK(!w->line);
}

static inline void open_world(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->m = memory_new(NULL);
    if (memory_add(w->m, "ram", 0, BOUNDARY, false, NULL) ||
        memory_add(w->m, "ram", BOUNDARY, ROM - BOUNDARY, false, NULL) ||
        memory_add(w->m, "rom", ROM, 0x10000, true, NULL) || memory_add(w->m, "ram-high", HIGH, 0x10000, false, NULL))
        abort();
    plug(w);
}

static inline void close_world(struct world *w)
{
    unplug(w);
    memory_free(w->m);
}

static inline void start(struct world *w, u64 features, u16 size)
{
    REQUIRE(drv_negotiate(&w->v[0], features));
    w->v[1].agreed = features;
    drv_queue(&w->v[1], 1, size, drv_queue(&w->v[0], 0, size, RINGS));
    drv_ok(&w->v[0]);
    for (u32 i = 0; i < QUEUES; i++)
        drv_interrupts(&w->v[i], true);
}

static inline void run(struct world *w)
{
    while (fake_run_posts())
        ;
}

#endif
