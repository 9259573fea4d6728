/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_blk_request.c - one request: taken, begun, submitted, parked or done; see virtio_blk.c for the way as a whole. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "virtio/virtio_blk_private.h"

void virtio_blk_list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

void virtio_blk_list_add(struct list *l, struct request *r)
{
    r->next = NULL;
    *l->last = r;
    l->last = &r->next;
}

struct request *virtio_blk_list_take(struct list *l)
{
    struct request *r = l->first;

    if (r && !(l->first = r->next))
        l->last = &l->first;
    return r;
}

void virtio_blk_soon(struct virtio_blk *b)
{
    if (!b->batch_armed) {
        b->batch_armed = true;
        timer_arm(&b->batch, 0);
    }
}

/* ---- the life of a request ---- */

struct request *virtio_blk_take(struct virtio_blk *b, struct virtio_queue *q)
{
    struct request *r = b->free;

    if (b->busy_bytes >= BUSY_MAX)
        return NULL;
    if (r)
        b->free = r->next;
    else if (b->fresh < b->nrequests)
        r = &b->requests[b->fresh++];
    else
        return NULL;
    r->b = b;
    r->q = q;
    r->range = 0;
    r->bytes = 0;
    r->flushing = r->retried = false;
    r->status = NULL;
    r->trimmed = NULL;
    b->busy++;
    if (q)
        b->queue_busy[q->index]++;
    return r;
}

void virtio_blk_release(struct request *r)
{
    struct virtio_blk *b = r->b;

    b->busy--;
    b->busy_bytes -= r->bytes;
    if (r->q)
        b->queue_busy[r->q->index]--;
    r->next = b->free;
    b->free = r;
    if (b->starved || b->flush_wanted)
        virtio_blk_soon(b);
}

/* Gives the buffer back, whatever of it has been written. */
void virtio_blk_push(struct request *r)
{
    if (r->trimmed)
        r->trimmed->iov_len++;
    virtio_push(r->q, &r->chain, r->chain.in_len);
    r->b->to_notify |= 1u << r->q->index;
    virtio_blk_release(r);
}

static void complete(struct request *r, u8 status)
{
    *r->status = status;
    virtio_blk_push(r);
}

static void done(struct block_request *rq, int result);

void virtio_blk_submit(struct request *r)
{
    struct virtio_blk *b = r->b;

    if (b->draining) {
        virtio_blk_list_add(&b->deferred, r);
        return;
    }
    r->rq.done = done;
    block_submit(b->c.block, &r->rq);
    b->submitted = true;
}

static bool writeback(const struct virtio_blk *b)
{
    /* 5.2.5.2: without CONFIG_WCE there is a cache if the driver is able to flush it. */
    if (virtio_has(&b->device, VIRTIO_BLK_F_CONFIG_WCE))
        return b->wce;
    return b->c.write_cache && virtio_has(&b->device, VIRTIO_BLK_F_FLUSH);
}

void virtio_blk_flush(struct request *r)
{
    r->flushing = true;
    r->rq = (struct block_request){ .op = BLOCK_FLUSH };
    virtio_blk_submit(r);
}

static bool in_range(const struct virtio_blk *b, u64 sector, u64 sectors)
{
    return sector <= b->capacity && sectors <= b->capacity - sector;
}

/* The next range of a discard that is not empty, or the end. */
static void next_range(struct request *r)
{
    struct virtio_blk *b = r->b;
    struct virtio_blk_discard_write_zeroes range;
    bool discard = r->type == VIRTIO_BLK_T_DISCARD;
    u32 ranges = (u32)((r->chain.out_len - sizeof(struct virtio_blk_req)) / sizeof(range));

    while (r->range < ranges) {
        u64 at = sizeof(struct virtio_blk_req) + r->range++ * sizeof(range);
        if (virtio_read(&r->chain, at, &range, sizeof(range)) != sizeof(range))
            return complete(r, VIRTIO_BLK_S_IOERR);
        if (range.flags & (discard ? ~0u : ~(u32)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
            return complete(r, VIRTIO_BLK_S_UNSUPP);
        if (range.num_sectors > MAX_RANGE_SECTORS || !in_range(b, range.sector, range.num_sectors))
            return complete(r, VIRTIO_BLK_S_IOERR);
        if (!range.num_sectors)
            continue;
        r->rq = (struct block_request){ .op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES,
                                        .flags = range.flags ? BLOCK_UNMAP : 0,
                                        .offset = range.sector * BLOCK_SECTOR,
                                        .len = (u64)range.num_sectors * BLOCK_SECTOR };
        return virtio_blk_submit(r);
    }
    if (r->rq.len && !writeback(b))
        return virtio_blk_flush(r);
    complete(r, VIRTIO_BLK_S_OK);
}

static void park(struct request *r, int error)
{
    struct virtio_blk *b = r->b;

    if (!b->stopped)
        snprintf(b->why, sizeof(b->why), "%s of %s failed: %s; it is tried again each second",
                 r->rq.op == BLOCK_READ ? "a read" : r->flushing ? "a flush" : "a write", block_path(b->c.block),
                 error == ENOSPC ? "the host's disk is full, or a limit (ulimit -f, a quota) reached" : strerror(error));
    b->stopped = true;
    virtio_blk_list_add(&b->parked, r);
    timer_arm(&b->retry, clock_ns() + RETRY_NS);
    virtio_blk_soon(b);
}

static bool may_stop(const struct virtio_blk *b, const struct request *r, int error)
{
    return config_may_wait(r->rq.op == BLOCK_READ ? b->c.rerror : b->c.werror, error);
}

static void advance(struct request *r, int result)
{
    struct virtio_blk *b = r->b;

    if (!r->q) {
        if (result)
            log_warn("%s could not be flushed when its write cache was switched off: %s", block_path(b->c.block),
                     strerror(-result));
        return virtio_blk_release(r);
    }
    if (!virtio_queue_live(r->q))
        return virtio_blk_push(r);
    if (result < 0) {
        if (may_stop(b, r, -result))
            return park(r, -result);
        return complete(r, result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
    }
    if (r->flushing || r->type == VIRTIO_BLK_T_IN || (r->type == VIRTIO_BLK_T_OUT && writeback(b)))
        return complete(r, VIRTIO_BLK_S_OK);
    if (r->type == VIRTIO_BLK_T_OUT)
        return virtio_blk_flush(r);
    next_range(r);
}

/* Ends a reset that waited until nothing of the device, or of one queue, was under way. */
static void check_reset(struct virtio_blk *b)
{
    if (b->device.resetting && !b->busy)
        virtio_reset_done(&b->device);
    for (u32 i = 0; b->queue_resetting && i < b->c.queues; i++) {
        if (b->queue_resetting & 1u << i && !b->queue_busy[i]) {
            b->queue_resetting &= ~(1u << i);
            virtio_queue_reset_done(&b->device.queue[i]);
        }
    }
}

static void done(struct block_request *rq, int result)
{
    struct request *r = container_of(rq, struct request, rq);
    struct virtio_blk *b = r->b;

    pthread_mutex_lock(&b->device.lock);
    if (r->retried) {
        r->retried = false;
        b->retrying--;
    }
    advance(r, result);
    check_reset(b);
    virtio_blk_soon(b);
    pthread_mutex_unlock(&b->device.lock);
}

/* ---- a request begins ---- */

static void read_or_write(struct request *r, u64 sector)
{
    struct virtio_blk *b = r->b;
    struct virtio_chain *c = &r->chain;
    bool write = r->type == VIRTIO_BLK_T_OUT;
    u64 len = write ? c->out_len - sizeof(struct virtio_blk_req) : c->in_len - 1;
    struct iovec *v = write ? c->iov : c->iov + c->nout, *end = v + (write ? c->nout : c->nin);

    if (!write) {
        r->trimmed = &end[-1];
        end -= --r->trimmed->iov_len == 0;
    }
    if (len % BLOCK_SECTOR || len > REQUEST_MAX || !in_range(b, sector, len / BLOCK_SECTOR) ||
        (write && b->offered & VIRTIO_BLK_F_RO))
        return complete(r, VIRTIO_BLK_S_IOERR);
    if (!len)
        return complete(r, VIRTIO_BLK_S_OK);
    if (write) { /* past the header */
        size_t skip = sizeof(struct virtio_blk_req);
        while (skip >= v->iov_len)
            skip -= v++->iov_len;
        v->iov_base = (u8 *)v->iov_base + skip;
        v->iov_len -= skip;
    }
    r->rq = (struct block_request){ .op = write ? BLOCK_WRITE : BLOCK_READ,
                                    .offset = sector * BLOCK_SECTOR,
                                    .len = len,
                                    .iov = v,
                                    .niov = (u32)(end - v) };
    virtio_blk_submit(r);
}

void virtio_blk_begin(struct request *r)
{
    struct virtio_blk *b = r->b;
    struct virtio_chain *c = &r->chain;
    struct virtio_blk_req h;
    u64 len;

    if (virtio_read(c, 0, &h, sizeof(h)) != sizeof(h) || !c->in_len) {
        virtio_fail(&b->device, "a request without a header or a place for its status");
        return virtio_blk_push(r);
    }
    const struct iovec *last = &c->iov[c->nout + c->nin - 1];
    r->status = (u8 *)last->iov_base + last->iov_len - 1;
    r->type = h.type;
    r->rq.len = 0;
    r->bytes = c->out_len + c->in_len;
    b->busy_bytes += r->bytes;
    switch (h.type) {
    case VIRTIO_BLK_T_IN:
    case VIRTIO_BLK_T_OUT:
        return read_or_write(r, h.sector);
    case VIRTIO_BLK_T_FLUSH:
        return virtio_blk_flush(r);
    case VIRTIO_BLK_T_GET_ID:
        virtio_write(c, 0, b->serial, MIN(sizeof(b->serial), c->in_len - 1));
        return complete(r, VIRTIO_BLK_S_OK);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        if (b->offered & VIRTIO_BLK_F_RO)
            return complete(r, VIRTIO_BLK_S_IOERR);
        if (!virtio_has(&b->device, h.type == VIRTIO_BLK_T_DISCARD ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
            return complete(r, VIRTIO_BLK_S_UNSUPP);
        len = c->out_len - sizeof(h);
        if (len % sizeof(struct virtio_blk_discard_write_zeroes) ||
            len / sizeof(struct virtio_blk_discard_write_zeroes) > MAX_RANGES)
            return complete(r, VIRTIO_BLK_S_IOERR);
        return next_range(r);
    default:
        return complete(r, VIRTIO_BLK_S_UNSUPP);
    }
}
