/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_driver.h - a driver in software, for tests of virtio devices: brings a device up by its MMIO registers and
 * runs its queues, split or packed.  VIRTIO 1.2, 2.7 and 2.8 from the driver's side.
 */
#ifndef LODGE_TEST_VIRTIO_DRIVER_H
#define LODGE_TEST_VIRTIO_DRIVER_H

#include <string.h>

#include "test.h"
#include "virtio/transport.h"

enum { DRV_MAX = VIRTIO_MAX_QUEUE_SIZE };

struct drv { /* one for each queue */
    struct memory *m;
    struct bus *bus;
    u64 base;       /* of the registers */
    u32 queue;
    u16 size;
    u64 agreed;
    u64 desc, driver, device;  /* the rings */
    u64 tables;                /* room for an indirect table of 64 entries for each id, or 0 */
    u16 avail, used;           /* split: counters; packed: places */
    bool avail_wrap, used_wrap;
    u16 kicked;                /* avail at the last question whether to kick */
    u16 added;                 /* packed: entries since then */
    u16 free;                  /* ring entries */
    u16 next[DRV_MAX];         /* split: free descriptors */
    u16 first_free;
    struct { u16 n; bool indirect; u64 token; bool busy; } id[DRV_MAX];
};

struct drv_piece {
    u64 gpa;
    u32 len;
    bool in;
};

static inline u32 drv_reg(struct drv *v, u64 reg) { return (u32)bus_read(v->bus, v->base + reg, 4); }
static inline void drv_set(struct drv *v, u64 reg, u32 value) { bus_write(v->bus, v->base + reg, 4, value); }

#define DRV_AT(v, type, gpa_) (*(volatile type *)memory_ptr((v)->m, gpa_, sizeof(type), true))

static inline u64 drv_offered(struct drv *v)
{
    u64 f;
    drv_set(v, 0x14, 0);
    f = drv_reg(v, 0x10);
    drv_set(v, 0x14, 1);
    return f | (u64)drv_reg(v, 0x10) << 32;
}

/* Up to FEATURES_OK; false: the device refuses. */
static inline bool drv_negotiate(struct drv *v, u64 features)
{
    drv_set(v, 0x70, 0);
    drv_set(v, 0x70, VIRTIO_ACKNOWLEDGE);
    drv_set(v, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    for (u32 i = 0; i < 2; i++) {
        drv_set(v, 0x24, i);
        drv_set(v, 0x20, (u32)(features >> i * 32));
    }
    v->agreed = features;
    drv_set(v, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    return drv_reg(v, 0x70) & VIRTIO_FEATURES_OK;
}

static inline void drv_ok(struct drv *v)
{
    drv_set(v, 0x70, drv_reg(v, 0x70) | VIRTIO_DRIVER_OK);
}

static inline bool drv_packed(const struct drv *v) { return v->agreed & VIRTIO_F_RING_PACKED; }
static inline bool drv_event_idx(const struct drv *v) { return v->agreed & VIRTIO_F_EVENT_IDX; }

/* Rings at gpa, 16-aligned: returns the first address behind them. Indirect tables, if agreed on, there too. */
static inline u64 drv_queue(struct drv *v, u32 queue, u16 size, u64 gpa)
{
    v->queue = queue;
    v->size = v->free = size;
    v->avail = v->used = v->kicked = v->added = v->first_free = 0;
    v->avail_wrap = v->used_wrap = true;
    memset(v->id, 0, sizeof(v->id));
    for (u16 i = 0; i < size; i++)
        v->next[i] = i + 1;
    v->desc = gpa;
    v->driver = gpa + 16ull * size;
    v->device = align_up(v->driver + 6 + 2ull * size, 4);
    gpa = align_up(v->device + 6 + 8ull * size, 16);
    memset(memory_ptr(v->m, v->desc, gpa - v->desc, true), 0, gpa - v->desc);
    v->tables = v->agreed & VIRTIO_F_INDIRECT_DESC ? gpa : 0;
    drv_set(v, 0x30, queue);
    drv_set(v, 0x38, size);
    u64 at[3] = { v->desc, v->driver, v->device };
    for (u32 i = 0; i < 3; i++) {
        drv_set(v, 0x80 + 0x10 * i, (u32)at[i]);
        drv_set(v, 0x84 + 0x10 * i, (u32)(at[i] >> 32));
    }
    drv_set(v, 0x44, 1);
    return v->tables ? gpa + 64 * 16ull * size : gpa;
}

static inline void drv_desc(struct drv *v, u64 at, const struct drv_piece *p, u16 third, u16 fourth)
{
    DRV_AT(v, u64, at) = p->gpa;
    DRV_AT(v, u32, at + 8) = p->len;
    DRV_AT(v, u16, at + 12) = third;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    DRV_AT(v, u16, at + 14) = fourth;
}

static inline struct drv_piece drv_table(struct drv *v, u16 id, const struct drv_piece *p, u32 n)
{
    u64 table = v->tables + 64 * 16ull * id;
    for (u32 i = 0; i < n; i++) {
        u16 flags = (p[i].in ? 2 : 0) | (i + 1 < n && !drv_packed(v) ? 1 : 0);
        drv_desc(v, table + 16 * i, &p[i], drv_packed(v) ? 0 : flags, drv_packed(v) ? flags : (u16)(i + 1));
    }
    return (struct drv_piece){ table, 16 * n, false };
}

static inline bool drv_add_packed(struct drv *v, const struct drv_piece *p, u32 n, bool indirect, u64 token)
{
    struct drv_piece table;
    u16 id = 0, first_flags = 0, at = v->avail;
    bool wrap = v->avail_wrap;

    while (v->id[id].busy)
        id++;
    v->id[id].busy = true;
    v->id[id].token = token;
    if (indirect) {
        table = drv_table(v, id, p, n);
        p = &table;
        n = 1;
    }
    v->id[id].n = (u16)n;
    for (u32 i = 0; i < n; i++) {
        u16 flags = (p[i].in ? 2 : 0) | (i + 1 < n ? 1 : 0) | (indirect ? 4 : 0) | (wrap ? 1 << 7 : 1 << 15);
        if (!i)
            first_flags = flags;
        drv_desc(v, v->desc + 16 * at, &p[i], id, i ? flags : DRV_AT(v, u16, v->desc + 16 * at + 14));
        if (++at == v->size) {
            at = 0;
            wrap = !wrap;
        }
    }
    __atomic_thread_fence(__ATOMIC_RELEASE);
    DRV_AT(v, u16, v->desc + 16 * v->avail + 14) = first_flags;
    v->avail = at;
    v->avail_wrap = wrap;
    v->added += (u16)n;
    v->free -= (u16)n;
    return true;
}

/* False: no room in the ring. */
static inline bool drv_add(struct drv *v, const struct drv_piece *p, u32 n, bool indirect, u64 token)
{
    struct drv_piece table;

    if (v->free < (indirect ? 1 : n))
        return false;
    if (drv_packed(v))
        return drv_add_packed(v, p, n, indirect, token);
    u16 head = v->first_free, at = head;
    if (indirect) {
        table = drv_table(v, head, p, n);
        p = &table;
        n = 1;
    }
    for (u32 i = 0; i < n; i++, at = v->next[at])
        drv_desc(v, v->desc + 16 * at, &p[i], (p[i].in ? 2 : 0) | (i + 1 < n ? 1 : 0) | (indirect ? 4 : 0),
                 v->next[at]);
    v->first_free = at;
    v->free -= (u16)n;
    v->id[head].n = (u16)n;
    v->id[head].token = token;
    v->id[head].busy = true;
    DRV_AT(v, u16, v->driver + 4 + 2 * (v->avail & (v->size - 1))) = head;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    DRV_AT(v, u16, v->driver + 2) = ++v->avail;
    return true;
}

/* Must the device be told of what was added since the last question? */
static inline bool drv_wants_kick(struct drv *v)
{
    u16 old = v->kicked, new = v->avail, event;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (drv_packed(v)) {
        u32 e = DRV_AT(v, u32, v->device), flags = e >> 16 & 3;
        old = new - v->added;
        v->added = 0;
        if (flags != 2)
            return flags != 1;
        event = e & 0x7fff;
        if ((e >> 15 & 1) != v->avail_wrap)
            event -= v->size;
    } else {
        v->kicked = new;
        if (!drv_event_idx(v))
            return !(DRV_AT(v, u16, v->device) & 1);
        event = DRV_AT(v, u16, v->device + 4 + 8ull * v->size);
    }
    return (u16)(new - event - 1) < (u16)(new - old);
}

static inline void drv_kick(struct drv *v)
{
    if (drv_wants_kick(v))
        drv_set(v, 0x50, v->queue);
}

/* The next buffer that was used: its token, and the bytes written. */
static inline bool drv_used(struct drv *v, u64 *token, u32 *len)
{
    u16 id;

    if (drv_packed(v)) {
        u64 at = v->desc + 16ull * v->used;
        u16 flags = DRV_AT(v, u16, at + 14);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!!(flags & 1 << 7) != v->used_wrap || !!(flags & 1 << 15) != v->used_wrap)
            return false;
        id = DRV_AT(v, u16, at + 12);
        *len = DRV_AT(v, u32, at + 8);
        CHECK_EQ(!!(flags & 2), *len != 0);
    } else {
        if (DRV_AT(v, u16, v->device + 2) == v->used)
            return false;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        u64 at = v->device + 4 + 8ull * (v->used & (v->size - 1));
        id = (u16)DRV_AT(v, u32, at);
        *len = DRV_AT(v, u32, at + 4);
        v->used++;
    }
    CHECK(id < v->size && v->id[id].busy);
    *token = v->id[id].token;
    v->id[id].busy = false;
    v->free += v->id[id].n;
    if (drv_packed(v)) {
        v->used += v->id[id].n;
        if (v->used >= v->size) {
            v->used -= v->size;
            v->used_wrap = !v->used_wrap;
        }
    } else {
        u16 last = id;
        for (u16 i = 1; i < v->id[id].n; i++)
            last = v->next[last];
        v->next[last] = v->first_free;
        v->first_free = id;
    }
    return true;
}

/* The driver wants an interrupt for the next buffer used, or (off) none. */
static inline void drv_interrupts(struct drv *v, bool on)
{
    if (drv_packed(v))
        DRV_AT(v, u32, v->driver) =
            !on ? 1u << 16 : drv_event_idx(v) ? 2u << 16 | (u32)v->used_wrap << 15 | v->used : 0;
    else if (drv_event_idx(v))
        DRV_AT(v, u16, v->driver + 4 + 2ull * v->size) = on ? v->used : v->used - 1;
    else
        DRV_AT(v, u16, v->driver) = !on;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
