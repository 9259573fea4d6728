/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rng.c - see virtio_rng.h.
 *
 * A buffer is filled from its start with at most BUFFER_MAX bytes (5.4.6.1 allows less than there is room for), and
 * TURN_MAX bytes in all are made before the loop's other work gets its turn.
 */
#include "virtio/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

enum { QUEUE_SIZE = 64, BUFFER_MAX = 16 * 1024, TURN_MAX = 64 * 1024 };

struct virtio_rng {
    struct virtio_device device;
    struct iovec iov[VIRTIO_MAX_IOV];
};

static u64 fill(const struct virtio_chain *c)
{
    u64 done = 0;

    for (u32 i = c->nout; i < c->nout + c->nin && done < BUFFER_MAX; i++) {
        u8 *p = c->iov[i].iov_base;
        for (size_t left = MIN(c->iov[i].iov_len, BUFFER_MAX - done); left;) {
            ssize_t n = getrandom(p, left, 0);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return done;
            p += n;
            left -= (size_t)n;
            done += (u64)n;
        }
    }
    return done;
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_rng *r = container_of(d, struct virtio_rng, device);
    struct virtio_chain c = { .iov = r->iov, .max = VIRTIO_MAX_IOV };

    for (u64 made = 0; virtio_pop(q, &c) > 0;) {
        u64 n = fill(&c);
        virtio_push(q, &c, n);
        made += n;
        if (made >= TURN_MAX) {
            virtio_kick(d, q->index);
            break;
        }
    }
    virtio_notify(q);
}

static bool reset(struct virtio_device *d)
{
    return true;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    return true;
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_ENTROPY, .name = "virtio-rng", .kick = kick, .reset = reset, .queue_reset = queue_reset,
};

struct virtio_device *virtio_rng_device(struct virtio_rng *r)
{
    return &r->device;
}

struct virtio_rng *virtio_rng_new(struct memory *m, struct loop *loop, struct error *err)
{
    struct virtio_rng *r = calloc(1, sizeof(*r));
    u16 size = QUEUE_SIZE;

    if (!r)
        error_set(err, ENOMEM, "not enough memory for the entropy device");
    else
        virtio_init(&r->device, &ops, m, loop, 0, 1, &size);
    return r;
}

void virtio_rng_free(struct virtio_rng *r)
{
    if (r)
        virtio_destroy(&r->device);
    free(r);
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    d->dev = virtio_rng_new(env->memory, env->loop, err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_rng_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_rng_free(d->dev);
}

const struct device_class virtio_rng_class = { .kind = DEVICE_RNG, .create = create, .unplug = unplug };
