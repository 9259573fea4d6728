/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.c - split and packed virtqueues.  VIRTIO 1.2, 2.6 to 2.8.
 *
 * The driver may write to its rings at any moment.  So everything is read once, into a local copy, and what is done
 * next depends on the copy alone; nothing that was written to a ring is ever read back.  A chain is followed for as
 * many descriptors as its table has, and no further than the caller has room for pieces: every one adds a piece.
 *
 * Ordering: x86 keeps loads in order and stores in order, so acquire and release cost nothing; only a store that must
 * be seen before a load is made (2.7.7.1, 2.7.10.1: our request to be notified before the last look at the ring, what
 * was used before the driver's wish to be interrupted) takes a full fence.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "virtio/internal.h"

enum { /* 2.7.5, 2.8.1 */
    VIRTQ_DESC_F_NEXT = 1, VIRTQ_DESC_F_WRITE = 2, VIRTQ_DESC_F_INDIRECT = 4,
    VIRTQ_DESC_F_AVAIL = 1 << 7, VIRTQ_DESC_F_USED = 1 << 15,
};
enum { VIRTQ_AVAIL_F_NO_INTERRUPT = 1, VIRTQ_USED_F_NO_NOTIFY = 1 };
enum { RING_EVENT_FLAGS_ENABLE = 0, RING_EVENT_FLAGS_DISABLE = 1, RING_EVENT_FLAGS_DESC = 2 }; /* 2.8.10 */
enum { DESC_SIZE = 16 };
#define CHAIN_MAX GiB(4) /* 2.7.5.1: no chain is longer */

struct virtq_avail {
    u16 flags, idx, ring[]; /* and used_event */
};
struct virtq_used {
    u16 flags, idx;
    struct virtq_used_elem {
        u32 id, len;
    } ring[]; /* and avail_event */
};

/* A local copy; other: next (split) or the buffer id (packed). */
struct desc {
    u64 addr;
    u32 len;
    u16 flags, other;
};

#define READ(x) (*(volatile __typeof__(x) *)&(x))
#define WRITE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

static bool packed(const struct virtio_queue *q) { return virtio_has(q->dev, VIRTIO_F_RING_PACKED); }
static bool event_idx(const struct virtio_queue *q) { return virtio_has(q->dev, VIRTIO_F_EVENT_IDX); }

bool virtio_live(const struct virtio_device *d)
{
    return (d->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET | VIRTIO_FAILED)) == VIRTIO_DRIVER_OK && !d->resetting &&
           d->dma;
}

bool virtio_queue_live(const struct virtio_queue *q)
{
    return q->enabled && !q->resetting && virtio_live(q->dev);
}

static int fail(struct virtio_queue *q, const char *why)
{
    char text[128];

    snprintf(text, sizeof text, "queue %u: %s", q->index, why);
    virtio_fail(q->dev, text);
    return -1;
}

/* ---- setting up --------------------------------------------------------- */

void virtio_queue_init(struct virtio_queue *q)
{
    *q = (struct virtio_queue){
        .dev = q->dev, .index = q->index, .max_size = q->max_size, .size = q->max_size,
        .vector = VIRTIO_MSI_NO_VECTOR, .budget = UINT32_MAX,
    };
}

static void *area(const struct virtio_queue *q, u64 gpa, u64 len, u64 align, bool write)
{
    return gpa % align ? NULL : memory_ptr(q->dev->memory, gpa, len, write);
}

const char *virtio_queue_map(struct virtio_queue *q)
{
    u64 n = q->size;

    if (!n || n > q->max_size || (!packed(q) && (n & (n - 1))))
        return "a size that it cannot have";
    if (packed(q)) { /* 2.8.10.1 */
        q->desc_ptr = area(q, q->desc, DESC_SIZE * n, DESC_SIZE, true);
        q->driver_ptr = area(q, q->driver, 4, 4, false);
        q->device_ptr = area(q, q->device, 4, 4, true);
    } else { /* 2.7 */
        q->desc_ptr = area(q, q->desc, DESC_SIZE * n, DESC_SIZE, false);
        q->driver_ptr = area(q, q->driver, 6 + 2 * n, 2, false);
        q->device_ptr = area(q, q->device, 6 + 8 * n, 4, true);
    }
    if (!q->desc_ptr || !q->driver_ptr || !q->device_ptr)
        return "its rings are not aligned, or not in memory";
    if (q->inflight > n || (packed(q) && (q->last_avail >= n || q->used_idx >= n)))
        return "it is at a place that it has not got";
    q->avail_seen = q->last_avail;
    return NULL;
}

/* Marks the parts of the rings that the device writes as dirty, all of each: the driver is the next to look at them. */
static void rings_written(const struct virtio_queue *q)
{
    if (packed(q)) {
        memory_written(q->dev->memory, q->desc, (u64)DESC_SIZE * q->size);
        memory_written(q->dev->memory, q->device, 4);
    } else {
        memory_written(q->dev->memory, q->device, 6 + 8ull * q->size);
    }
}

/* ---- notifications ------------------------------------------------------ */

static u16 *avail_event(const struct virtio_queue *q)
{
    return (u16 *)&((struct virtq_used *)q->device_ptr)->ring[q->size];
}

/* The driver is to notify us of the next buffer; after that the ring must be looked at once more. */
static void tell(struct virtio_queue *q)
{
    if (packed(q))
        WRITE(*(u32 *)q->device_ptr,
              event_idx(q) ? (u32)RING_EVENT_FLAGS_DESC << 16 | (u32)q->avail_wrap << 15 | q->last_avail
                           : (u32)RING_EVENT_FLAGS_ENABLE << 16);
    else if (event_idx(q))
        WRITE(*avail_event(q), q->last_avail);
    else
        WRITE(((struct virtq_used *)q->device_ptr)->flags, 0);
    q->told = true;
    rings_written(q);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the driver's: between making a buffer available and reading our wish */
}

/* No longer. An index of the past does the same as a flag. */
static void untell(struct virtio_queue *q)
{
    if (packed(q))
        WRITE(*(u32 *)q->device_ptr, (u32)RING_EVENT_FLAGS_DISABLE << 16);
    else if (!event_idx(q))
        WRITE(((struct virtq_used *)q->device_ptr)->flags, VIRTQ_USED_F_NO_NOTIFY);
    q->told = false;
}

/* 2.7.7.2: is `event` among the indices used since old? */
static bool passed(u16 event, u16 new, u16 old)
{
    return (u16)(new - event - 1) < (u16)(new - old);
}

static bool wants_interrupt(struct virtio_queue *q)
{
    u16 old = q->signalled_used, new = q->used_idx, event;
    bool valid = q->signalled_valid;

    q->signalled_used = new;
    q->signalled_valid = true;
    if (packed(q)) {
        u32 v = READ(*(u32 *)q->driver_ptr), flags = v >> 16 & 3;
        if (flags != RING_EVENT_FLAGS_DESC || !event_idx(q))
            return flags != RING_EVENT_FLAGS_DISABLE;
        event = v & 0x7fff;
        if ((v >> 15 & 1) != q->used_wrap)
            event -= q->size; /* of the round before */
    } else {
        struct virtq_avail *avail = q->driver_ptr;
        if (!event_idx(q))
            return !(READ(avail->flags) & VIRTQ_AVAIL_F_NO_INTERRUPT);
        event = READ(avail->ring[q->size]);
    }
    return !valid || passed(event, new, old);
}

/* Shows the driver the buffers that were pushed. The stores pair with its reads of idx, or of flags. */
static void publish(struct virtio_queue *q)
{
    if (packed(q))
        __atomic_store_n((u16 *)q->desc_ptr + DESC_SIZE / 2 * q->first_used + 7, q->first_flags, __ATOMIC_RELEASE);
    else
        __atomic_store_n(&((struct virtq_used *)q->device_ptr)->idx, q->used_idx, __ATOMIC_RELEASE);
    q->pushed = false;
}

void virtio_notify(struct virtio_queue *q)
{
    if (!q->pushed || !virtio_queue_live(q))
        return;
    publish(q);
    rings_written(q);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the driver's: between saying its wish and looking for used buffers */
    if (wants_interrupt(q))
        q->dev->transport_ops->queue_interrupt(q->dev->transport, q);
}

/* ---- descriptors -------------------------------------------------------- */

/* Each half is read once, that with the flags first: packed descriptors are there as soon as their flags say so. An
   indirect table need not be aligned. */
static struct desc read_desc(const void *table, u64 i, bool is_packed)
{
    typedef u64 __attribute__((aligned(1), may_alias)) word;
    const volatile word *p = (const volatile word *)table + 2 * i;
    u64 high = p[1];

    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    struct desc d = { .addr = p[0], .len = (u32)high };
    u16 third = (u16)(high >> 32), fourth = (u16)(high >> 48);
    d.flags = is_packed ? fourth : third;
    d.other = is_packed ? third : fourth;
    return d;
}

static const struct memory_region *region(struct virtio_queue *q, u64 gpa)
{
    const u32 now = memory_generation(q->dev->memory);
    if (gpa - q->near.gpa >= q->near.size || now != q->near_generation) {
        q->near_generation = now;
        if (!memory_find(q->dev->memory, gpa, &q->near))
            q->near.size = 0;
    }
    return q->near.size ? &q->near : NULL;
}

/* Adds a descriptor's buffer to the chain: NULL, or what is wrong with it. */
static const char *add(struct virtio_queue *q, struct virtio_chain *c, const struct desc *d)
{
    bool in = d->flags & VIRTQ_DESC_F_WRITE;
    u64 gpa = d->addr, left = d->len;

    if (!left)
        return "a buffer of no bytes";
    if (!in && c->nin)
        return "a buffer to be read after one to be written";
    *(in ? &c->in_len : &c->out_len) += left;
    if (c->in_len + c->out_len > CHAIN_MAX)
        return "a chain of more than 4 GiB";
    while (left) {
        const struct memory_region *r = region(q, gpa);
        if (!r || (in && r->readonly))
            return "a buffer that is not in memory";
        u32 n = c->nout + c->nin;
        if (n == c->max)
            return "a chain of too many buffers";
        u64 here = MIN(left, r->gpa + r->size - gpa);
        c->iov[n] = (struct iovec){ r->host + (gpa - r->gpa), here };
        if (c->gpa)
            c->gpa[n] = gpa;
        ++*(in ? &c->nin : &c->nout);
        gpa += here;
        left -= here;
    }
    return NULL;
}

/* The table of an indirect descriptor, or NULL with what is wrong. */
static const void *indirect_table(const struct virtio_queue *q, const struct desc *d, u64 *n, const char **why)
{
    const void *table = NULL;

    *n = d->len / DESC_SIZE;
    if (!virtio_has(q->dev, VIRTIO_F_INDIRECT_DESC) || (d->flags & VIRTQ_DESC_F_NEXT) || !*n || d->len % DESC_SIZE)
        *why = "an indirect descriptor where or as it may not be";
    else if (!(table = memory_ptr(q->dev->memory, d->addr, d->len, false)))
        *why = "an indirect table that is not in memory";
    return table;
}

static const char *walk_split(struct virtio_queue *q, struct virtio_chain *c, u16 head)
{
    const void *table = q->desc_ptr;
    u64 n = q->size, i = head, seen = 0;
    bool indirect = false;
    const char *why = NULL;

    while (i < n) {
        if (seen++ == n)
            return "a chain that loops";
        struct desc d = read_desc(table, i, false);
        if (d.flags & VIRTQ_DESC_F_INDIRECT) {
            if (indirect)
                return "an indirect table in an indirect table";
            if (!(table = indirect_table(q, &d, &n, &why)))
                return why;
            indirect = true;
            i = seen = 0;
            continue;
        }
        if ((why = add(q, c, &d)) || !(d.flags & VIRTQ_DESC_F_NEXT))
            return why;
        i = d.other;
    }
    return "a descriptor that is not in the table";
}

static const char *walk_packed(struct virtio_queue *q, struct virtio_chain *c, struct desc d)
{
    u64 n;
    const char *why = NULL;
    const void *table;

    for (c->ndesc = 1;; c->ndesc++) {
        if (d.flags & VIRTQ_DESC_F_INDIRECT) {
            if (c->ndesc > 1)
                return "an indirect descriptor in a chain";
            if (!(table = indirect_table(q, &d, &n, &why)))
                return why;
            c->id = d.other;
            for (u64 i = 0; i < n && !why; i++) { /* 2.8.8: of the flags only WRITE counts */
                d = read_desc(table, i, true);
                why = add(q, c, &d);
            }
            return why;
        }
        if ((why = add(q, c, &d)))
            return why;
        if (!(d.flags & VIRTQ_DESC_F_NEXT))
            break;
        if (q->inflight + c->ndesc >= q->size)
            return "a chain longer than the ring";
        u32 at = q->last_avail + c->ndesc;
        d = read_desc(q->desc_ptr, at >= q->size ? at - q->size : at, true);
    }
    c->id = d.other;
    return NULL;
}

/* ---- taking and giving back --------------------------------------------- */

/* Packed: moves a place in the ring. */
static void advance(const struct virtio_queue *q, u16 *at, bool *wrap, u16 by)
{
    u32 to = (u32)*at + by;

    if (to >= q->size) {
        to -= q->size;
        *wrap = !*wrap;
    }
    *at = (u16)to;
}

static int next_split(struct virtio_queue *q, struct virtio_chain *c)
{
    struct virtq_avail *avail = q->driver_ptr;

    if (q->avail_seen == q->last_avail) {
        q->avail_seen = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
        if (q->avail_seen == q->last_avail && !q->told) {
            tell(q);
            q->avail_seen = __atomic_load_n(&avail->idx, __ATOMIC_ACQUIRE);
        }
        if (q->avail_seen == q->last_avail)
            return 0;
        if ((u16)(q->avail_seen - q->last_avail) > q->size - q->inflight)
            return fail(q, "more buffers available than the ring has");
    }
    u16 head = READ(avail->ring[q->last_avail & (q->size - 1)]);
    const char *why = walk_split(q, c, head);
    if (why)
        return fail(q, why);
    c->id = head;
    c->ndesc = 1;
    q->last_avail++;
    return 1;
}

static bool is_avail(const struct virtio_queue *q, const struct desc *d)
{
    return !!(d->flags & VIRTQ_DESC_F_AVAIL) == q->avail_wrap && !!(d->flags & VIRTQ_DESC_F_USED) != q->avail_wrap;
}

static int next_packed(struct virtio_queue *q, struct virtio_chain *c)
{
    struct desc d = read_desc(q->desc_ptr, q->last_avail, true);

    if (!is_avail(q, &d)) {
        if (q->told)
            return 0;
        tell(q);
        d = read_desc(q->desc_ptr, q->last_avail, true);
        if (!is_avail(q, &d))
            return 0;
    }
    if (q->inflight == q->size)
        return fail(q, "more buffers available than the ring has");
    const char *why = walk_packed(q, c, d);
    if (why)
        return fail(q, why);
    advance(q, &q->last_avail, &q->avail_wrap, c->ndesc);
    return 1;
}

int virtio_pop(struct virtio_queue *q, struct virtio_chain *c)
{
    c->nout = c->nin = 0;
    c->out_len = c->in_len = 0;
    c->ndesc = 0;
    if (unlikely(!virtio_queue_live(q) || q->dev->settled))
        return q->dev->status & VIRTIO_NEEDS_RESET ? -1 : 0;
    if (unlikely(!q->budget)) {
        virtio_kick(q->dev, q->index);
        return 0;
    }
    int r = packed(q) ? next_packed(q, c) : next_split(q, c);
    if (r > 0) {
        q->budget--;
        q->inflight += c->ndesc;
        if (q->told)
            untell(q);
    }
    return r;
}

void virtio_unpop(struct virtio_queue *q, const struct virtio_chain *c)
{
    if (c->ndesc > q->inflight)
        return; /* the queue was reset meanwhile */
    q->inflight -= c->ndesc;
    if (!packed(q)) {
        q->last_avail--;
        return;
    }
    if (c->ndesc > q->last_avail)
        q->avail_wrap = !q->avail_wrap;
    q->last_avail = (u16)(q->last_avail - c->ndesc + (c->ndesc > q->last_avail ? q->size : 0));
}

static void put_split(struct virtio_queue *q, const struct virtio_chain *c, u32 written)
{
    struct virtq_used *used = q->device_ptr;
    struct virtq_used_elem *e = &used->ring[q->used_idx & (q->size - 1)];

    WRITE(e->id, c->id);
    WRITE(e->len, written);
    q->used_idx++;
}

static void put_packed(struct virtio_queue *q, const struct virtio_chain *c, u32 written)
{
    u8 *d = (u8 *)q->desc_ptr + DESC_SIZE * q->used_idx;
    u16 flags = (q->used_wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0) | (written ? VIRTQ_DESC_F_WRITE : 0);

    WRITE(*(u32 *)(d + 8), written);
    WRITE(*(u16 *)(d + 12), c->id);
    if (!q->pushed) { /* the driver looks at them in order: the flags of the first publish all */
        q->first_used = q->used_idx;
        q->first_flags = flags;
    } else {
        __atomic_store_n((u16 *)(d + 14), flags, __ATOMIC_RELEASE);
    }
    advance(q, &q->used_idx, &q->used_wrap, c->ndesc);
    if (q->used_idx < c->ndesc)
        q->signalled_valid = false; /* a new round: 16-bit indices say no more what lies between */
}

void virtio_push(struct virtio_queue *q, const struct virtio_chain *c, u64 written)
{
    written = MIN(written, MIN(c->in_len, (u64)UINT32_MAX));
    for (u64 i = c->nout, left = written; left && i < c->nout + c->nin; i++) {
        u64 here = MIN(left, c->iov[i].iov_len);
        memory_host_written(q->dev->memory, c->iov[i].iov_base, here);
        left -= here;
    }
    if (c->ndesc > q->inflight)
        return; /* popped before a reset */
    q->inflight -= c->ndesc;
    if (!virtio_queue_live(q))
        return;
    if (packed(q))
        put_packed(q, c, (u32)written);
    else
        put_split(q, c, (u32)written);
    q->pushed = true;
}

/* ---- contents ----------------------------------------------------------- */

static u64 copy(const struct iovec *v, u32 n, u64 at, void *buf, u64 len, bool to_chain)
{
    u64 done = 0;

    for (; n && done < len; v++, n--) {
        if (at >= v->iov_len) {
            at -= v->iov_len;
            continue;
        }
        u64 here = MIN(v->iov_len - at, len - done);
        u8 *p = (u8 *)v->iov_base + at, *b = (u8 *)buf + done;
        memcpy(to_chain ? p : b, to_chain ? b : p, here);
        done += here;
        at = 0;
    }
    return done;
}

u64 virtio_read(const struct virtio_chain *c, u64 at, void *to, u64 len)
{
    return copy(c->iov, c->nout, at, to, len, false);
}

u64 virtio_write(const struct virtio_chain *c, u64 at, const void *from, u64 len)
{
    return copy(c->iov + c->nout, c->nin, at, (void *)from, len, true);
}

u32 virtio_pieces(const struct virtio_chain *c, bool in, u64 skip, u64 len, struct iovec *iov, u32 max)
{
    const u32 first = in ? c->nout : 0, end = in ? c->nout + c->nin : c->nout;
    u32 n = 0;
    for (u32 i = first; i < end && len && n < max; i++) {
        const u64 cut = MIN(skip, c->iov[i].iov_len), take = MIN(c->iov[i].iov_len - cut, len);
        skip -= cut;
        if (!take)
            continue;
        iov[n++] = (struct iovec){ (u8 *)c->iov[i].iov_base + cut, take };
        len -= take;
    }
    return n;
}
