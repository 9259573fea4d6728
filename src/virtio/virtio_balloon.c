/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_balloon.c - the memory balloon.  The guest's figures are asked for once a second, by giving it back the buffer it
 * hands them over in.
 */
#include "virtio/virtio_balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { INFLATE, DEFLATE, STATS, REPORTING, QUEUES, QUEUE_SIZE = 128, PFN_SHIFT = 12, CHUNK = 256 };
/* Pages given back in a turn of the loop; a buffer may be larger, but what is beyond is then not looked at. */
enum { TURN_PFNS = 32768, TURN_REPORTED = 1 << 20 };
#define VIRTIO_BALLOON_F_STATS_VQ BIT(1)
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM BIT(2)
#define VIRTIO_BALLOON_F_PAGE_REPORTING BIT(5)
#define STATS_PERIOD_NS 1000000000ull

struct virtio_balloon {
    struct virtio_device dev;
    struct timer timer;
    u32 num_pages, actual;
    u64 reported;
    bool holding; /* the statistics buffer */
    struct virtio_chain stats;
    struct iovec iov[8];
    bool known;
    u64 stat[BALLOON_STATS];
};

static struct virtio_balloon *balloon_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_balloon, dev);
}

/* Page frame numbers, 32 bits each; runs of them are one call to the host. */
static void inflate(struct virtio_balloon *b, struct virtio_queue *q, bool give)
{
    struct iovec iov[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };
    bool pushed = false;
    u64 looked = 0;

    while (looked < TURN_PFNS && virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        u32 pfn[CHUNK];
        u64 n, start = 0, pages = 0;
        for (u64 at = 0; give && looked < TURN_PFNS && (n = virtio_read(&chain, at, pfn, sizeof pfn) / sizeof pfn[0]); at += n * sizeof pfn[0]) {
            looked += n;
            for (u64 i = 0; i < n; i++) {
                if (pages && pfn[i] == start + pages) {
                    pages++;
                    continue;
                }
                memory_discard(b->dev.memory, start << PFN_SHIFT, pages << PFN_SHIFT);
                start = pfn[i];
                pages = 1;
            }
        }
        memory_discard(b->dev.memory, start << PFN_SHIFT, pages << PFN_SHIFT);
        virtio_push(q, &chain, 0);
        pushed = true;
    }
    if (looked >= TURN_PFNS)
        virtio_kick(&b->dev, q->index);
    if (pushed)
        virtio_notify(q);
}

static void report(struct virtio_balloon *b, struct virtio_queue *q)
{
    struct iovec iov[VIRTIO_MAX_IOV];
    u64 gpa[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };
    bool pushed = false;
    u64 pages = 0;

    while (pages < TURN_REPORTED && virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        for (u32 i = chain.nout; i < chain.nout + chain.nin; i++) {
            memory_discard(b->dev.memory, gpa[i], iov[i].iov_len);
            b->reported += iov[i].iov_len;
            pages += (iov[i].iov_len >> PFN_SHIFT) + 1;
        }
        virtio_push(q, &chain, 0);
        pushed = true;
    }
    if (pages >= TURN_REPORTED)
        virtio_kick(&b->dev, q->index);
    if (pushed)
        virtio_notify(q);
}

static void take_stats(struct virtio_balloon *b, struct virtio_queue *q)
{
    struct {
        u16 tag;
        u64 value;
    } __attribute__((packed)) entry;

    if (b->holding || !virtio_queue_live(q))
        return;
    b->stats = (struct virtio_chain){ .iov = b->iov, .max = ARRAY_SIZE(b->iov) };
    if (virtio_pop(q, &b->stats) <= 0)
        return;
    for (u64 at = 0; at < 64 * sizeof entry && virtio_read(&b->stats, at, &entry, sizeof entry) == sizeof entry; at += sizeof entry)
        if (entry.tag < BALLOON_STATS) {
            b->stat[entry.tag] = entry.value;
            b->known = true;
        }
    b->holding = true;
    timer_arm(&b->timer, clock_ns() + STATS_PERIOD_NS);
}

/* The buffer goes back: that asks for the figures anew. */
static void on_timer(struct timer *t)
{
    struct virtio_balloon *b = container_of(t, struct virtio_balloon, timer);
    struct virtio_queue *q = &b->dev.queue[STATS];
    pthread_mutex_lock(&b->dev.lock);
    if (b->holding && virtio_queue_live(q)) {
        b->holding = false;
        virtio_push(q, &b->stats, 0);
        virtio_notify(q);
        take_stats(b, q);
    }
    pthread_mutex_unlock(&b->dev.lock);
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_balloon *b = balloon_of(d);
    switch (q->index) {
    case INFLATE: inflate(b, q, true); break;
    case DEFLATE: inflate(b, q, false); break;
    case STATS: take_stats(b, q); break;
    case REPORTING: report(b, q); break;
    default: break;
    }
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    const u32 config[2] = { balloon_of(d)->num_pages, balloon_of(d)->actual };
    memcpy(to, (const u8 *)config + offset, len);
}

static void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    struct virtio_balloon *b = balloon_of(d);
    if (offset >= 4 && offset + len <= 8)
        memcpy((u8 *)&b->actual + (offset - 4), from, len);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_balloon *b = balloon_of(d);
    b->actual = 0;
    b->holding = b->known = false;
    timer_disarm(&b->timer);
    return true;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_balloon *b = balloon_of(d);
    if (q->index == STATS)
        b->holding = false;
    return true;
}

/* The pages that we hold are not in the state: they go back to the guest, and the driver gives them anew. */
static void settle(struct virtio_device *d)
{
    struct virtio_balloon *b = balloon_of(d);
    if (b->holding)
        virtio_unpop(&d->queue[STATS], &b->stats);
    b->holding = false;
    timer_disarm(&b->timer);
}

static const struct state_field fields[] = {
    STATE_FIELD(struct virtio_balloon, num_pages, 1), STATE_FIELD(struct virtio_balloon, actual, 1),
    STATE_FIELD(struct virtio_balloon, reported, 1), STATE_END
};
static const struct state_desc state = { "virtio-balloon", 1, fields };

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_BALLOON, .name = "virtio-balloon", .config_size = 8, .config_read = config_read,
    .config_write = config_write, .kick = kick, .reset = reset, .queue_reset = queue_reset, .settle = settle, .state = &state,
};

struct virtio_balloon *virtio_balloon_new(struct memory *m, struct loop *loop, u64 target, struct error *err)
{
    static const u16 sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE, 4, 32 };
    struct virtio_balloon *b = calloc(1, sizeof *b);
    if (!b) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    virtio_init(&b->dev, &ops, m, loop,
                VIRTIO_BALLOON_F_STATS_VQ | VIRTIO_BALLOON_F_DEFLATE_ON_OOM | VIRTIO_BALLOON_F_PAGE_REPORTING, QUEUES, sizes);
    timer_init(&b->timer, loop, on_timer);
    b->num_pages = (u32)(target >> PFN_SHIFT);
    memset(b->stat, 0xff, sizeof b->stat);
    return b;
}

void virtio_balloon_free(struct virtio_balloon *b)
{
    if (!b)
        return;
    timer_disarm(&b->timer);
    virtio_destroy(&b->dev);
    free(b);
}

struct virtio_device *virtio_balloon_device(struct virtio_balloon *b)
{
    return &b->dev;
}

void virtio_balloon_set(struct virtio_balloon *b, u64 target)
{
    pthread_mutex_lock(&b->dev.lock);
    b->num_pages = (u32)(target >> PFN_SHIFT);
    virtio_config_changed(&b->dev);
    pthread_mutex_unlock(&b->dev.lock);
}

struct virtio_balloon_figures virtio_balloon_figures(struct virtio_balloon *b)
{
    pthread_mutex_lock(&b->dev.lock);
    struct virtio_balloon_figures f = { (u64)b->num_pages << PFN_SHIFT, (u64)b->actual << PFN_SHIFT, b->reported, b->known, { 0 } };
    memcpy(f.stat, b->stat, sizeof f.stat);
    pthread_mutex_unlock(&b->dev.lock);
    return f;
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    d->dev = virtio_balloon_new(env->memory, env->loop, env->config->balloon_target, err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_balloon_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_balloon_free(d->dev);
}

const struct device_class virtio_balloon_class = { .kind = DEVICE_BALLOON, .create = create, .unplug = unplug };
