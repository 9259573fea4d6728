/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device.c - what all devices have in common: status, features and reset (VIRTIO 1.2, chapters 2 and 3), the way from a
 * notification to the loop's thread, state; and what both transports have.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "virtio/internal.h"

/* Buffers of one queue that are taken in one turn of the loop: then everybody else has his. */
enum { BATCH = 128 };

/* ---- notifications ------------------------------------------------------ */

void virtio_kick(struct virtio_device *d, u32 n)
{
    if (n >= d->nqueues)
        return;
    __atomic_fetch_or(&d->kicked, 1u << n, __ATOMIC_SEQ_CST);
    loop_kick(&d->kick);
}

static void kick_all(struct virtio_device *d)
{
    for (u32 i = 0; i < d->nqueues; i++)
        if (virtio_queue_live(&d->queue[i]))
            virtio_kick(d, i);
}

static void on_kick(struct loop_kick *k)
{
    struct virtio_device *d = container_of(k, struct virtio_device, kick);

    pthread_mutex_lock(&d->lock);
    u32 work = d->settled ? 0 : __atomic_exchange_n(&d->kicked, 0, __ATOMIC_SEQ_CST);
    for (; work; work &= work - 1) {
        struct virtio_queue *q = &d->queue[__builtin_ctz(work)];
        if (!virtio_queue_live(q))
            continue; /* enabling and DRIVER_OK kick again */
        q->budget = BATCH;
        d->ops->kick(d, q);
        q->budget = UINT32_MAX;
    }
    pthread_mutex_unlock(&d->lock);
}

/* ---- failure, configuration --------------------------------------------- */

/* 2.1.2 */
void virtio_fail(struct virtio_device *d, const char *why)
{
    if (d->status & VIRTIO_NEEDS_RESET)
        return;
    log_guest("%s: the driver broke the rules and must reset it: %s", d->ops->name, why);
    d->status |= VIRTIO_NEEDS_RESET;
    if (d->status & VIRTIO_DRIVER_OK)
        d->transport_ops->config_interrupt(d->transport);
}

void virtio_config_changed(struct virtio_device *d)
{
    d->config_stale = true;
    if (d->status & VIRTIO_DRIVER_OK)
        d->transport_ops->config_interrupt(d->transport);
}

/* 4.1.4.3.1: the generation changes when the driver reads what has changed, so that 8 bits of it are enough. */
u32 virtio_config_read(struct virtio_device *d, u32 offset, u32 len)
{
    u32 v = 0;

    if (d->config_stale) {
        d->config_stale = false;
        d->generation++;
    }
    if (offset < d->ops->config_size)
        d->ops->config_read(d, offset, &v, MIN(len, d->ops->config_size - offset));
    return v;
}

void virtio_config_write(struct virtio_device *d, u32 offset, u32 len, u32 value)
{
    if (d->ops->config_write && offset < d->ops->config_size)
        d->ops->config_write(d, offset, &value, MIN(len, d->ops->config_size - offset));
}

/* ---- status and features ------------------------------------------------ */

u32 virtio_feature_word(const struct virtio_device *d, u64 features, u32 select)
{
    return select > 1 ? 0 : (u32)(features >> select * 32);
}

void virtio_set_features(struct virtio_device *d, u32 select, u32 word)
{
    if (select > 1 || d->resetting || (d->status & VIRTIO_FEATURES_OK))
        return;
    d->wanted = (d->wanted & ~(0xffffffffull << select * 32)) | (u64)word << select * 32;
}

struct virtio_queue *virtio_selected(struct virtio_device *d)
{
    return d->queue_select < d->nqueues ? &d->queue[d->queue_select] : NULL;
}

u8 virtio_status(const struct virtio_device *d)
{
    return d->resetting && !d->status ? VIRTIO_NEEDS_RESET : d->status;
}

static void begin_reset(struct virtio_device *d)
{
    d->resetting = true;
    __atomic_store_n(&d->quiet, false, __ATOMIC_RELEASE);
    if (!d->ops->reset || d->ops->reset(d))
        virtio_reset_done(d);
}

void virtio_reset_done(struct virtio_device *d)
{
    if (!d->resetting)
        return;
    for (u32 i = 0; i < d->nqueues; i++)
        virtio_queue_init(&d->queue[i]);
    d->wanted = d->agreed = 0;
    d->status = 0;
    d->device_feature_select = d->driver_feature_select = d->queue_select = 0;
    d->config_vector = VIRTIO_MSI_NO_VECTOR;
    __atomic_store_n(&d->kicked, 0, __ATOMIC_SEQ_CST);
    d->resetting = d->loaded = false;
    d->transport_ops->reset_done(d->transport);
    loop_done(d->loop, &d->quiet);
}

/* Bits cannot be taken back but by a reset (2.1.1). */
void virtio_set_status(struct virtio_device *d, u8 status)
{
    if (d->resetting)
        return;
    if (!status) {
        begin_reset(d);
        return;
    }
    u8 new = status & ~d->status &
             (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED);
    if (new & VIRTIO_FEATURES_OK) {
        if ((d->wanted & ~d->offered) || !(d->wanted & VIRTIO_F_VERSION_1)) {
            new &= ~VIRTIO_FEATURES_OK; /* 3.1.1, step 6: the driver reads it back */
        } else {
            d->agreed = d->wanted;
            d->status |= VIRTIO_FEATURES_OK;
            if (d->ops->features)
                d->ops->features(d, d->agreed);
        }
    }
    if ((new & VIRTIO_DRIVER_OK) && !((d->status | new) & VIRTIO_FEATURES_OK)) {
        virtio_fail(d, "it begins without having agreed on features");
        new &= ~VIRTIO_DRIVER_OK;
    }
    d->status |= new;
    if (new & VIRTIO_DRIVER_OK) {
        if (!d->driver_ok_at)
            d->driver_ok_at = clock_ns();
        if (d->ops->driver_ok)
            d->ops->driver_ok(d);
        kick_all(d);
    }
}

void virtio_set_dma(struct virtio_device *d, bool on)
{
    bool begins = on && !d->dma;

    d->dma = on;
    if (begins)
        kick_all(d);
}

/* ---- queues ------------------------------------------------------------- */

void virtio_queue_enable(struct virtio_queue *q)
{
    struct virtio_device *d = q->dev;
    const char *why = NULL;

    if (q->enabled || q->resetting || d->resetting || (d->status & VIRTIO_NEEDS_RESET))
        return;
    q->last_avail = q->used_idx = q->inflight = 0;
    q->avail_wrap = q->used_wrap = true;
    if (!(d->status & VIRTIO_FEATURES_OK))
        why = "a queue is enabled before features are agreed";
    else
        why = virtio_queue_map(q);
    if (why) {
        virtio_fail(d, why);
        return;
    }
    q->enabled = true;
    virtio_kick(d, q->index);
}

void virtio_queue_reset(struct virtio_queue *q)
{
    struct virtio_device *d = q->dev;

    if (!q->enabled || q->resetting || d->resetting)
        return;
    q->resetting = true;
    __atomic_store_n(&d->quiet, false, __ATOMIC_RELEASE);
    if (!d->ops->queue_reset || d->ops->queue_reset(d, q))
        virtio_queue_reset_done(q);
}

void virtio_queue_reset_done(struct virtio_queue *q)
{
    struct virtio_device *d = q->dev;
    bool others = d->resetting;

    if (!q->resetting)
        return;
    virtio_queue_init(q);
    for (u32 i = 0; i < d->nqueues; i++)
        others |= d->queue[i].resetting;
    if (!others)
        loop_done(d->loop, &d->quiet);
}

/* ---- life --------------------------------------------------------------- */

void virtio_init(struct virtio_device *d, const struct virtio_ops *ops, struct memory *m, struct loop *loop,
                 u64 features, u32 nqueues, const u16 *queue_sizes)
{
    pthread_mutexattr_t recursive;

    assert(nqueues <= VIRTIO_MAX_QUEUES);
    memset(d, 0, sizeof *d);
    d->ops = ops;
    d->memory = m;
    d->loop = loop;
    d->offered = features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_RING_PACKED;
    if (ops->queue_reset)
        d->offered |= VIRTIO_F_RING_RESET;
    d->nqueues = nqueues;
    d->quiet = d->dma = true;
    d->config_vector = VIRTIO_MSI_NO_VECTOR;
    for (u32 i = 0; i < nqueues; i++) {
        assert(queue_sizes[i] && queue_sizes[i] <= VIRTIO_MAX_QUEUE_SIZE && !(queue_sizes[i] & (queue_sizes[i] - 1)));
        d->queue[i].dev = d;
        d->queue[i].index = (u16)i;
        d->queue[i].max_size = queue_sizes[i];
        virtio_queue_init(&d->queue[i]);
    }
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&d->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    loop_kick_init(&d->kick, loop, on_kick);
}

void virtio_destroy(struct virtio_device *d)
{
    loop_kick_remove(&d->kick);
    pthread_mutex_destroy(&d->lock);
}

/* Lock held. What a device still had to do for a reset is done when it is settled. */
static void settle(struct virtio_device *d)
{
    if (d->ops->settle)
        d->ops->settle(d);
    virtio_reset_done(d);
    for (u32 i = 0; i < d->nqueues; i++) {
        virtio_queue_reset_done(&d->queue[i]);
        virtio_notify(&d->queue[i]);
    }
}

/* ---- state -------------------------------------------------------------- */

static const struct state_field queue_fields[] = {
    STATE_FIELD(struct virtio_queue, size, 1),       STATE_FIELD(struct virtio_queue, enabled, 1),
    STATE_FIELD(struct virtio_queue, vector, 1),     STATE_FIELD(struct virtio_queue, desc, 1),
    STATE_FIELD(struct virtio_queue, driver, 1),     STATE_FIELD(struct virtio_queue, device, 1),
    STATE_FIELD(struct virtio_queue, last_avail, 1), STATE_FIELD(struct virtio_queue, used_idx, 1),
    STATE_FIELD(struct virtio_queue, avail_wrap, 1), STATE_FIELD(struct virtio_queue, used_wrap, 1),
    STATE_FIELD(struct virtio_queue, inflight, 1),   STATE_END,
};

static const struct state_field fields[] = {
    STATE_FIELD(struct virtio_device, wanted, 1),
    STATE_FIELD(struct virtio_device, agreed, 1),
    STATE_FIELD(struct virtio_device, status, 1),
    STATE_FIELD(struct virtio_device, config_stale, 1),
    STATE_FIELD(struct virtio_device, generation, 1),
    STATE_FIELD(struct virtio_device, device_feature_select, 1),
    STATE_FIELD(struct virtio_device, driver_feature_select, 1),
    STATE_FIELD(struct virtio_device, queue_select, 1),
    STATE_FIELD(struct virtio_device, config_vector, 1),
    STATE_FIELD(struct virtio_device, isr, 1),
    STATE_STRUCTS(struct virtio_device, queue, 1, queue_fields),
    STATE_END,
};

static const char *check_loaded(struct virtio_device *d)
{
    bool agreed = d->status & VIRTIO_FEATURES_OK;

    if (d->agreed & ~d->offered)
        return "its driver uses features that it has not got here";
    if (agreed != (d->agreed != 0) || agreed != ((d->agreed & VIRTIO_F_VERSION_1) != 0) ||
        (!agreed && (d->status & VIRTIO_DRIVER_OK)))
        return "features are agreed or not, but not both";
    for (u32 i = 0; i < d->nqueues; i++) {
        struct virtio_queue *q = &d->queue[i];
        const char *why;
        if (q->enabled && !agreed)
            return "a queue is enabled before features are agreed";
        if (q->enabled && (why = virtio_queue_map(q)))
            return why;
    }
    return NULL;
}

static int loaded(void *obj, struct error *err)
{
    struct virtio_device *d = obj;

    for (u32 i = 0; i < VIRTIO_MAX_QUEUES; i++) { /* what is not saved begins anew */
        struct virtio_queue old = d->queue[i], *q = &d->queue[i];
        virtio_queue_init(q);
        q->size = old.size, q->enabled = i < d->nqueues && old.enabled, q->vector = old.vector;
        q->desc = old.desc, q->driver = old.driver, q->device = old.device;
        q->last_avail = old.last_avail, q->used_idx = old.used_idx, q->inflight = old.inflight;
        q->avail_wrap = old.avail_wrap, q->used_wrap = old.used_wrap;
    }
    d->isr &= ISR_QUEUE | ISR_CONFIG;
    d->resetting = false;
    d->quiet = d->settled = d->loaded = true;
    __atomic_store_n(&d->kicked, 0, __ATOMIC_SEQ_CST);
    const char *why = check_loaded(d);
    if (!why)
        return 0;
    d->status |= VIRTIO_NEEDS_RESET; /* nothing is done with it whatever the caller does */
    return error_set(err, EINVAL, "the saved state does not fit %s: %s", d->ops->name, why);
}

const struct state_desc virtio_state = { "virtio", 1, fields, .post_load = loaded };

/* ---- transports --------------------------------------------------------- */

int virtio_transport_init(struct virtio_transport *t, const struct virtio_transport_kind *kind,
                          const struct virtio_transport_ops *ops, struct virtio_device *d, struct state_list *l,
                          u32 instance, struct error *err)
{
    t->kind = kind;
    t->d = d;
    pthread_mutex_init(&t->irq_lock, NULL);
    d->transport_ops = ops;
    d->transport = t;
    if (l && state_add(l, &virtio_state, instance, d)) {
        pthread_mutex_destroy(&t->irq_lock);
        return error_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

void virtio_isr_set(struct virtio_transport *t, u32 bits)
{
    pthread_mutex_lock(&t->irq_lock);
    __atomic_store_n(&t->d->isr, t->d->isr | bits, __ATOMIC_RELEASE);
    t->kind->set_line(t);
    pthread_mutex_unlock(&t->irq_lock);
}

u32 virtio_isr_clear(struct virtio_transport *t, u32 bits)
{
    pthread_mutex_lock(&t->irq_lock);
    u32 was = t->d->isr;
    __atomic_store_n(&t->d->isr, was & ~bits, __ATOMIC_RELEASE);
    t->kind->set_line(t);
    pthread_mutex_unlock(&t->irq_lock);
    return was;
}

void virtio_transport_reset(struct virtio_transport *t)
{
    struct virtio_device *d = t->d;

    pthread_mutex_lock(&d->lock);
    d->settled = false;
    if (!d->resetting)
        begin_reset(d);
    if (d->resetting)
        settle(d);
    if (t->kind->resume)
        t->kind->resume(t);
    pthread_mutex_unlock(&d->lock);
}

void virtio_transport_settle(struct virtio_transport *t)
{
    pthread_mutex_lock(&t->d->lock);
    settle(t->d);
    t->d->settled = true;
    pthread_mutex_unlock(&t->d->lock);
}

void virtio_transport_resume(struct virtio_transport *t)
{
    struct virtio_device *d = t->d;

    pthread_mutex_lock(&d->lock);
    d->settled = false;
    if (t->kind->resume)
        t->kind->resume(t);
    virtio_isr_clear(t, 0); /* the line, if state was loaded */
    if (d->loaded && (d->status & VIRTIO_FEATURES_OK) && d->ops->features)
        d->ops->features(d, d->agreed);
    d->loaded = false;
    if (d->ops->resume)
        d->ops->resume(d);
    kick_all(d);
    pthread_mutex_unlock(&d->lock);
}

void virtio_transport_free(struct virtio_transport *t)
{
    if (!t)
        return;
    t->d->ending = true;
    virtio_transport_reset(t); /* from here on nothing has to be told to anybody */
    t->kind->remove(t);
    pthread_mutex_destroy(&t->irq_lock);
    free(t);
}

struct pci_function *virtio_transport_pci(struct virtio_transport *t)
{
    return t->kind->function(t);
}
