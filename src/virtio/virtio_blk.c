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
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "virtio/virtio_blk_private.h"

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
        struct request *r = virtio_blk_take(b, q);
        if (!r) {
            b->starved |= bit;
            break;
        }
        r->chain = (struct virtio_chain){ .iov = r->iov, .max = PIECES };
        if (virtio_pop(q, &r->chain) <= 0) {
            virtio_blk_release(r);
            break;
        }
        virtio_blk_begin(r);
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
    struct request *r = b->flush_wanted ? virtio_blk_take(b, NULL) : NULL;

    if (!r) /* when one is free */
        return;
    b->flush_wanted = false;
    virtio_blk_flush(r);
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
    while ((r = virtio_blk_list_take(&b->parked))) {
        r->retried = true;
        b->retrying++;
        virtio_blk_submit(r);
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
        virtio_blk_soon(b);
    }
    b->wce = v != 0;
}

/* Gives up the requests of q (NULL: all) that wait for their next try. */
static void drop_parked(struct virtio_blk *b, const struct virtio_queue *q)
{
    struct list old = b->parked;
    struct request *r;

    virtio_blk_list_init(&b->parked);
    for (r = old.first; r;) {
        struct request *next = r->next;
        if (!q || r->q == q)
            virtio_blk_push(r);
        else
            virtio_blk_list_add(&b->parked, r);
        r = next;
    }
    if (b->stopped)
        virtio_blk_soon(b);
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
        while ((r = virtio_blk_list_take(&b->deferred)))
            virtio_blk_submit(r);
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
    virtio_blk_list_init(&b->deferred);
    virtio_blk_list_init(&b->parked);
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

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    const struct config_disk *k = &env->config->disk[d->index];
    const struct virtio_blk_config c = {
        .memory = env->memory, .loop = env->loop, .block = d->block, .serial = k->serial,
        .queues = k->queues ? k->queues : MIN(env->config->cpus, 4u), .write_cache = true, .discard = k->discard,
        .rerror = config_read_errors(k), .werror = k->errors,
        .stop = env->disk_stop, .go = env->disk_go, .ctx = env->machine,
    };

    d->dev = virtio_blk_new(&c, err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_blk_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_blk_free(d->dev);
}

const struct device_class virtio_blk_class = { .kind = DEVICE_DISK, .name = "virtio", .create = create, .unplug = unplug };
