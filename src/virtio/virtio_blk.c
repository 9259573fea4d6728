/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.c - see virtio_blk.h.
 *
 * Every request there can be has its memory from the start.  The way of one: service() pops it, begin() looks at the
 * header, submit() hands it to the block layer, advance() takes the result and does what is still to be done (the next
 * range of a discard, the flush of a write without a cache), complete() writes the status and pushes.  What many
 * results of one turn of the loop need once (interrupts, block_kick, stop and go) waits for the timer `batch`, which
 * fires in the loop's next turn.
 *
 * A request is under way (b->busy, its queue's count) from service() until release(), but for those that are parked:
 * failed in the host, waiting for the next try.
 */
#include "virtio/virtio_blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* 5.2.3 Feature bits */
#define VIRTIO_BLK_F_SIZE_MAX BIT(1)
#define VIRTIO_BLK_F_SEG_MAX BIT(2)
#define VIRTIO_BLK_F_GEOMETRY BIT(4)
#define VIRTIO_BLK_F_RO BIT(5)
#define VIRTIO_BLK_F_BLK_SIZE BIT(6)
#define VIRTIO_BLK_F_FLUSH BIT(9)
#define VIRTIO_BLK_F_TOPOLOGY BIT(10)
#define VIRTIO_BLK_F_CONFIG_WCE BIT(11)
#define VIRTIO_BLK_F_MQ BIT(12)
#define VIRTIO_BLK_F_DISCARD BIT(13)
#define VIRTIO_BLK_F_WRITE_ZEROES BIT(14)

enum { /* 5.2.6 */
    VIRTIO_BLK_T_IN = 0, VIRTIO_BLK_T_OUT = 1, VIRTIO_BLK_T_FLUSH = 4, VIRTIO_BLK_T_GET_ID = 8,
    VIRTIO_BLK_T_DISCARD = 11, VIRTIO_BLK_T_WRITE_ZEROES = 13,
};
enum { VIRTIO_BLK_S_OK = 0, VIRTIO_BLK_S_IOERR = 1, VIRTIO_BLK_S_UNSUPP = 2 };
enum { VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1 };

struct virtio_blk_req { /* the header */
    u32 type, reserved;
    u64 sector;
};
struct virtio_blk_discard_write_zeroes {
    u64 sector;
    u32 num_sectors, flags;
};
struct virtio_blk_layout { /* 5.2.4 Device configuration layout: struct virtio_blk_config there */
    u64 capacity;
    u32 size_max, seg_max;
    u16 cylinders;
    u8 heads, sectors;
    u32 blk_size;
    u8 physical_block_exp, alignment_offset;
    u16 min_io_size;
    u32 opt_io_size;
    u8 writeback, unused0;
    u16 num_queues;
    u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    u32 max_write_zeroes_sectors, max_write_zeroes_seg;
    u8 write_zeroes_may_unmap, unused1[3];
};
_Static_assert(offsetof(struct virtio_blk_layout, writeback) == 32 && sizeof(struct virtio_blk_layout) == 64, "5.2.4");

enum {
    QUEUE_SIZE = 256,
    SEG_MAX = QUEUE_SIZE - 2,
    SEG_BYTES = 1 << 20,
    REQUEST_MAX = SEG_MAX * SEG_BYTES, /* bytes */
    /* Bytes under way when the last request is begun. The block layer may have to copy them, and a driver can name the same
       memory in all of its buffers. */
    BUSY_MAX = 64 << 20,
    PIECES = QUEUE_SIZE + MEMORY_MAX_REGIONS, /* a buffer may reach over the end of each region */
    MAX_RANGES = 64,                          /* of a discard */
    MAX_RANGE_SECTORS = 1 << 21,
};
#define RETRY_NS 1000000000ull

struct request {
    struct block_request rq;
    struct virtio_blk *b;
    struct virtio_queue *q; /* NULL: the device's own flush */
    struct request *next;   /* free, parked or deferred */
    u32 type;               /* VIRTIO_BLK_T_ */
    u32 range;              /* the next one of a discard */
    u64 bytes;              /* of its buffers */
    bool flushing, retried;
    u8 *status;
    struct iovec *trimmed;  /* the piece whose last byte, the status, is hidden from the block layer */
    struct virtio_chain chain;
    struct iovec iov[PIECES];
};

struct list {
    struct request *first, **last;
};

struct virtio_blk {
    struct virtio_device device;
    struct virtio_blk_config c;
    char serial[VIRTIO_BLK_SERIAL];
    u64 capacity; /* sectors */
    u64 offered;
    bool wce;     /* the register writeback */

    struct request *requests, *free;
    u32 nrequests, fresh; /* requests[fresh...] have never been used */
    u32 busy, queue_busy[VIRTIO_BLK_MAX_QUEUES];
    u64 busy_bytes;
    u32 queue_resetting, starved, to_notify; /* a bit a queue */
    bool submitted, flush_wanted, draining, batch_armed;
    struct list deferred; /* to be submitted, but the block layer is drained */
    struct list parked;
    u32 retrying;
    bool stopped; /* something is parked or tried again: nothing new is begun */
    bool told;    /* stop() was called, go() not yet */
    char why[256];
    struct timer batch, retry;
};

static struct virtio_blk *blk(struct virtio_device *d) { return container_of(d, struct virtio_blk, device); }

static void list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_add(struct list *l, struct request *r)
{
    r->next = NULL;
    *l->last = r;
    l->last = &r->next;
}

static struct request *list_take(struct list *l)
{
    struct request *r = l->first;

    if (r && !(l->first = r->next))
        l->last = &l->first;
    return r;
}

static void soon(struct virtio_blk *b)
{
    if (!b->batch_armed) {
        b->batch_armed = true;
        timer_arm(&b->batch, 0);
    }
}

/* ---- the life of a request ---- */

static struct request *take(struct virtio_blk *b, struct virtio_queue *q)
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

static void release(struct request *r)
{
    struct virtio_blk *b = r->b;

    b->busy--;
    b->busy_bytes -= r->bytes;
    if (r->q)
        b->queue_busy[r->q->index]--;
    r->next = b->free;
    b->free = r;
    if (b->starved || b->flush_wanted)
        soon(b);
}

/* Gives the buffer back, whatever of it has been written. */
static void push(struct request *r)
{
    if (r->trimmed)
        r->trimmed->iov_len++;
    virtio_push(r->q, &r->chain, r->chain.in_len);
    r->b->to_notify |= 1u << r->q->index;
    release(r);
}

static void complete(struct request *r, u8 status)
{
    *r->status = status;
    push(r);
}

static void done(struct block_request *rq, int result);

static void submit(struct request *r)
{
    struct virtio_blk *b = r->b;

    if (b->draining) {
        list_add(&b->deferred, r);
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

static void flush(struct request *r)
{
    r->flushing = true;
    r->rq = (struct block_request){ .op = BLOCK_FLUSH };
    submit(r);
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
        return submit(r);
    }
    if (r->rq.len && !writeback(b))
        return flush(r);
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
    list_add(&b->parked, r);
    timer_arm(&b->retry, clock_ns() + RETRY_NS);
    soon(b);
}

static bool may_stop(const struct virtio_blk *b, const struct request *r, int error)
{
    enum virtio_blk_error_policy p = r->rq.op == BLOCK_READ ? b->c.rerror : b->c.werror;

    if (error == EINVAL || error == EROFS || error == EOPNOTSUPP) /* no time will mend these */
        return false;
    return p == VIRTIO_BLK_STOP || (p == VIRTIO_BLK_ENOSPC && (error == ENOSPC || error == EDQUOT));
}

static void advance(struct request *r, int result)
{
    struct virtio_blk *b = r->b;

    if (!r->q) {
        if (result)
            log_warn("%s could not be flushed when its write cache was switched off: %s", block_path(b->c.block),
                     strerror(-result));
        return release(r);
    }
    if (!virtio_queue_live(r->q))
        return push(r);
    if (result < 0) {
        if (may_stop(b, r, -result))
            return park(r, -result);
        return complete(r, result == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
    }
    if (r->flushing || r->type == VIRTIO_BLK_T_IN || (r->type == VIRTIO_BLK_T_OUT && writeback(b)))
        return complete(r, VIRTIO_BLK_S_OK);
    if (r->type == VIRTIO_BLK_T_OUT)
        return flush(r);
    next_range(r);
}

/* What was being waited for: nothing of the device, or of one queue, is under way. */
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
    soon(b);
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
    submit(r);
}

static void begin(struct request *r)
{
    struct virtio_blk *b = r->b;
    struct virtio_chain *c = &r->chain;
    struct virtio_blk_req h;
    u64 len;

    if (virtio_read(c, 0, &h, sizeof(h)) != sizeof(h) || !c->in_len) {
        virtio_fail(&b->device, "a request without a header or a place for its status");
        return push(r);
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
        return flush(r);
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

static void hand_over(struct virtio_blk *b)
{
    if (b->submitted) {
        b->submitted = false;
        block_kick(b->c.block);
    }
}

static void service(struct virtio_blk *b, struct virtio_queue *q)
{
    u32 bit = 1u << q->index;

    while (!b->stopped) {
        struct request *r = take(b, q);
        if (!r) {
            b->starved |= bit;
            break;
        }
        r->chain = (struct virtio_chain){ .iov = r->iov, .max = PIECES };
        if (virtio_pop(q, &r->chain) <= 0) {
            release(r);
            break;
        }
        begin(r);
    }
    hand_over(b);
    if (b->to_notify & bit) {
        b->to_notify &= ~bit;
        virtio_notify(q);
    }
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    service(blk(d), q);
}

/* ---- once for many ---- */

static void notify_all(struct virtio_blk *b)
{
    for (u32 i = 0; b->to_notify; b->to_notify &= ~(1u << i++))
        if (b->to_notify & 1u << i)
            virtio_notify(&b->device.queue[i]);
}

/* The driver has switched the write cache off. */
static void flush_cache(struct virtio_blk *b)
{
    struct request *r = b->flush_wanted ? take(b, NULL) : NULL;

    if (!r) /* when one is free */
        return;
    b->flush_wanted = false;
    flush(r);
}

static void batch(struct timer *t)
{
    struct virtio_blk *b = container_of(t, struct virtio_blk, batch);
    u32 starved;

    pthread_mutex_lock(&b->device.lock);
    b->batch_armed = false;
    flush_cache(b);
    if (b->stopped && !b->parked.first && !b->retrying) {
        b->stopped = false;
        timer_disarm(&b->retry);
        b->starved = (u32)BIT(b->c.queues) - 1;
    }
    notify_all(b);
    starved = b->starved;
    b->starved = 0;
    for (u32 i = 0; i < b->c.queues; i++)
        if (starved & 1u << i)
            service(b, &b->device.queue[i]);
    hand_over(b);
    bool stopped = b->stopped, tell = stopped != b->told;
    b->told = stopped;
    pthread_mutex_unlock(&b->device.lock);

    if (tell && stopped)
        b->c.stop(b->c.ctx, b->why);
    else if (tell)
        b->c.go(b->c.ctx);
}

static void retry(struct timer *t)
{
    struct virtio_blk *b = container_of(t, struct virtio_blk, retry);
    struct request *r;

    pthread_mutex_lock(&b->device.lock);
    while ((r = list_take(&b->parked))) {
        r->retried = true;
        b->retrying++;
        submit(r);
    }
    hand_over(b);
    pthread_mutex_unlock(&b->device.lock);
}

/* ---- configuration, reset, saving ---- */

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    struct virtio_blk *b = blk(d);
    u32 best = MAX(block_alignment(b->c.block), (u32)BLOCK_SECTOR), physical = MIN(best, 4096u);
    u64 cylinders = b->capacity / (16 * 63);
    struct virtio_blk_layout l = {
        .capacity = b->capacity,
        .size_max = SEG_BYTES,
        .seg_max = SEG_MAX,
        .cylinders = (u16)MIN(cylinders, 0xffff),
        .heads = 16,
        .sectors = 63,
        .blk_size = BLOCK_SECTOR,
        .physical_block_exp = (u8)__builtin_ctz(physical / BLOCK_SECTOR),
        .min_io_size = (u16)(physical / BLOCK_SECTOR),
        .opt_io_size = best > physical ? best / BLOCK_SECTOR : 0,
        .writeback = b->wce,
        .num_queues = (u16)b->c.queues,
        .max_discard_sectors = MAX_RANGE_SECTORS,
        .max_discard_seg = MAX_RANGES,
        .discard_sector_alignment = MAX(best, (u32)GUEST_PAGE_SIZE) / BLOCK_SECTOR,
        .max_write_zeroes_sectors = MAX_RANGE_SECTORS,
        .max_write_zeroes_seg = MAX_RANGES,
        .write_zeroes_may_unmap = b->c.discard,
    };
    memcpy(to, (u8 *)&l + offset, len);
}

static void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    struct virtio_blk *b = blk(d);
    u8 v;

    if (offset != offsetof(struct virtio_blk_layout, writeback) || len != 1 || !virtio_has(d, VIRTIO_BLK_F_CONFIG_WCE))
        return;
    memcpy(&v, from, 1);
    if (b->wce && !v) { /* what is in the cache now the driver will not flush any more */
        b->flush_wanted = true;
        soon(b);
    }
    b->wce = v != 0;
}

/* Gives up the requests of q (NULL: all) that wait for their next try. */
static void drop_parked(struct virtio_blk *b, const struct virtio_queue *q)
{
    struct list old = b->parked;
    struct request *r;

    list_init(&b->parked);
    for (r = old.first; r;) {
        struct request *next = r->next;
        if (!q || r->q == q)
            push(r);
        else
            list_add(&b->parked, r);
        r = next;
    }
    if (b->stopped)
        soon(b);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_blk *b = blk(d);

    drop_parked(b, NULL);
    b->wce = b->c.write_cache;
    b->to_notify = b->starved = b->queue_resetting = 0;
    return !b->busy;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_blk *b = blk(d);
    u32 bit = 1u << q->index;

    drop_parked(b, q);
    b->to_notify &= ~bit;
    b->starved &= ~bit;
    if (!b->queue_busy[q->index])
        return true;
    b->queue_resetting |= bit;
    return false;
}

/* Drains the block layer, which takes nothing new meanwhile, until no request has more to do. */
static void drain(struct virtio_blk *b)
{
    struct request *r;

    do {
        hand_over(b);
        b->draining = true;
        block_drain(b->c.block);
        b->draining = false;
        while ((r = list_take(&b->deferred)))
            submit(r);
    } while (b->submitted);
}

static void settle(struct virtio_device *d)
{
    flush_cache(blk(d));
    drain(blk(d));
}

static int pre_save(void *obj)
{
    struct virtio_blk *b = obj;

    if (!b->parked.first)
        return 0;
    log_error("%s: the state cannot be saved while a request waits for the host", block_path(b->c.block));
    return -EBUSY;
}

static const struct state_field fields[] = { STATE_FIELD(struct virtio_blk, wce, 1), STATE_END };
static const struct state_desc state = { "virtio-blk", 1, fields, pre_save, NULL };

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_BLOCK,
    .name = "virtio-blk",
    .config_size = offsetof(struct virtio_blk_layout, unused1) + 3,
    .config_read = config_read,
    .config_write = config_write,
    .kick = kick,
    .reset = reset,
    .queue_reset = queue_reset,
    .settle = settle,
    .state = &state,
};

/* ---- life ---- */

struct virtio_device *virtio_blk_device(struct virtio_blk *b)
{
    return &b->device;
}

void virtio_blk_resized(struct virtio_blk *b)
{
    pthread_mutex_lock(&b->device.lock);
    b->capacity = block_size(b->c.block) / BLOCK_SECTOR;
    virtio_config_changed(&b->device);
    pthread_mutex_unlock(&b->device.lock);
}

struct virtio_blk *virtio_blk_new(const struct virtio_blk_config *c, struct error *err)
{
    struct virtio_blk *b;
    u16 sizes[VIRTIO_BLK_MAX_QUEUES];

    if (c->queues < 1 || c->queues > VIRTIO_BLK_MAX_QUEUES || (c->serial && strlen(c->serial) > VIRTIO_BLK_SERIAL)) {
        error_set(err, EINVAL, "disk %s: between 1 and %d queues, and a serial number of at most %d bytes",
                  block_path(c->block), VIRTIO_BLK_MAX_QUEUES, VIRTIO_BLK_SERIAL);
        return NULL;
    }
    b = calloc(1, sizeof(*b));
    if (b) {
        b->nrequests = c->queues * QUEUE_SIZE;
        b->requests = calloc(b->nrequests, sizeof(*b->requests)); /* memory comes with first use */
    }
    if (!b || !b->requests) {
        free(b);
        error_set(err, ENOMEM, "not enough memory for disk %s", block_path(c->block));
        return NULL;
    }
    b->c = *c;
    if (c->serial)
        memcpy(b->serial, c->serial, strlen(c->serial));
    b->capacity = block_size(c->block) / BLOCK_SECTOR;
    b->wce = c->write_cache;
    list_init(&b->deferred);
    list_init(&b->parked);
    timer_init(&b->batch, c->loop, batch);
    timer_init(&b->retry, c->loop, retry);
    b->offered = VIRTIO_BLK_F_SIZE_MAX | VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_GEOMETRY | VIRTIO_BLK_F_BLK_SIZE |
                 VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_CONFIG_WCE;
    if (c->queues > 1)
        b->offered |= VIRTIO_BLK_F_MQ;
    if (block_readonly(c->block))
        b->offered |= VIRTIO_BLK_F_RO;
    else
        b->offered |= VIRTIO_BLK_F_WRITE_ZEROES | (c->discard ? VIRTIO_BLK_F_DISCARD : 0);
    for (u32 i = 0; i < c->queues; i++)
        sizes[i] = QUEUE_SIZE;
    virtio_init(&b->device, &ops, c->memory, c->loop, b->offered, c->queues, sizes);
    return b;
}

void virtio_blk_free(struct virtio_blk *b)
{
    if (!b)
        return;
    drain(b); /* the transport has settled us, but for a flush of our own */
    timer_disarm(&b->batch);
    timer_disarm(&b->retry);
    virtio_destroy(&b->device);
    free(b->requests);
    free(b);
}
