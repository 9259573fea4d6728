/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_input.c - the input device.  Events wait here until a group is complete (SYN_REPORT) and the guest has buffers for it:
 * a group is given whole or not at all.
 */
#include "virtio/virtio_input.h"

#include <errno.h>
#include <linux/input.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTQ, STATUSQ, QUEUES, QUEUE_SIZE = 64, WAITING = 256 };
enum { CFG_UNSET, CFG_ID_NAME, CFG_ID_SERIAL, CFG_ID_DEVIDS, CFG_PROP_BITS = 0x10, CFG_EV_BITS, CFG_ABS_INFO };

struct event {
    u16 type, code;
    s32 value;
};

struct virtio_input {
    struct virtio_device dev;
    enum virtio_input_kind kind;
    struct chardev *source;
    u8 select, subsel;
    struct event event[WAITING]; /* oldest first */
    u32 n;
    u8 partial[sizeof(struct event)]; /* of the source */
    u32 npartial;
    u8 leds; /* as the guest last set them: bits by LED_ number */
};

static struct virtio_input *input_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_input, dev);
}

/* ---- what it is --------------------------------------------------------- */

static bool has_code(const struct virtio_input *i, u16 type, u16 code)
{
    if (type == EV_SYN)
        return code == SYN_REPORT;
    if (i->kind == VIRTIO_INPUT_KEYBOARD)
        return (type == EV_KEY && code > KEY_RESERVED && code < BTN_MISC) || (type == EV_LED && code <= LED_SCROLLL) ||
               (type == EV_REP && code <= REP_MAX);
    return (type == EV_KEY && (code == BTN_LEFT || code == BTN_RIGHT || code == BTN_MIDDLE)) ||
           (type == EV_ABS && (code == ABS_X || code == ABS_Y)) || (type == EV_REL && code == REL_WHEEL);
}

/* struct virtio_input_config's u for select and subsel; returns its size. */
static u8 describe(const struct virtio_input *i, u8 u[128])
{
    static const char *const name[] = { "Lodge keyboard", "Lodge tablet" };
    const struct input_id id = { BUS_VIRTUAL, 0x1af4, (u16)(1 + i->kind), 1 };
    const struct input_absinfo abs = { .maximum = VIRTIO_INPUT_ABS_MAX };
    const u32 absinfo[5] = { (u32)abs.minimum, (u32)abs.maximum, 0, 0, 0 };
    u8 size = 0;
    memset(u, 0, 128);
    switch (i->select) {
    case CFG_ID_NAME:
        if (i->subsel)
            return 0;
        strcpy((char *)u, name[i->kind]);
        return (u8)strlen(name[i->kind]);
    case CFG_ID_DEVIDS:
        if (i->subsel)
            return 0;
        memcpy(u, &id, sizeof id);
        return sizeof id;
    case CFG_EV_BITS:
        for (u16 code = 0; i->subsel && code < 128 * 8; code++)
            if (has_code(i, i->subsel, code)) {
                u[code / 8] |= (u8)(1u << code % 8);
                size = (u8)(code / 8 + 1);
            }
        return size;
    case CFG_ABS_INFO:
        if (!has_code(i, EV_ABS, i->subsel))
            return 0;
        memcpy(u, absinfo, sizeof absinfo);
        return sizeof absinfo;
    default: return 0;
    }
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    const struct virtio_input *i = input_of(d);
    u8 config[136] = { i->select, i->subsel };
    config[2] = describe(i, config + 8);
    memcpy(to, config + offset, len);
}

static void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    struct virtio_input *i = input_of(d);
    const u8 *byte = from;
    for (u32 k = 0; k < len; k++) {
        if (offset + k == 0)
            i->select = byte[k];
        else if (offset + k == 1)
            i->subsel = byte[k];
    }
}

/* ---- events ------------------------------------------------------------- */

/* Whole groups go to the guest, if it has a buffer for each event of the group. */
static void deliver(struct virtio_input *i)
{
    struct virtio_queue *q = &i->dev.queue[EVENTQ];
    struct iovec iov[WAITING][2];
    u64 gpa[WAITING][2];
    struct virtio_chain chain[WAITING];
    u32 done = 0;
    bool room = virtio_queue_live(q);

    while (room) {
        u32 end = done;
        while (end < i->n && i->event[end].type != EV_SYN)
            end++;
        if (end == i->n)
            break;
        if (end + 1 - done > MIN((u32)q->size, (u32)WAITING)) { /* no ring holds it */
            done = end + 1;
            continue;
        }
        u32 got = 0;
        for (const u32 wanted = end + 1 - done; got < wanted; got++) {
            chain[got] = (struct virtio_chain){ .iov = iov[got], .gpa = gpa[got], .max = 2 };
            if (virtio_pop(q, &chain[got]) <= 0)
                break;
        }
        if (got < end + 1 - done) {
            while (got)
                virtio_unpop(q, &chain[--got]);
            break;
        }
        for (u32 k = 0; k < got; k++)
            virtio_push(q, &chain[k], virtio_write(&chain[k], 0, &i->event[done + k], sizeof i->event[0]));
        done = end + 1;
        room = virtio_queue_live(q);
    }
    memmove(i->event, i->event + done, (i->n - done) * sizeof i->event[0]);
    i->n -= done;
    if (done)
        virtio_notify(q);
}

static void add(struct virtio_input *i, struct event e)
{
    if (!has_code(i, e.type, e.code) || !virtio_live(&i->dev))
        return;
    if (i->n == WAITING) { /* nobody reads: the oldest group gives way */
        u32 cut = 0;
        while (cut < i->n && i->event[cut++].type != EV_SYN)
            ;
        memmove(i->event, i->event + cut, (i->n - cut) * sizeof e);
        i->n -= cut;
    }
    i->event[i->n++] = e;
}

void virtio_input_event(struct virtio_input *i, u16 type, u16 code, s32 value)
{
    pthread_mutex_lock(&i->dev.lock);
    add(i, (struct event){ type, code, value });
    deliver(i);
    pthread_mutex_unlock(&i->dev.lock);
}

static size_t receive(void *dev, const u8 *buf, size_t len)
{
    struct virtio_input *i = dev;
    pthread_mutex_lock(&i->dev.lock);
    for (size_t k = 0; k < len; k++) {
        i->partial[i->npartial++] = buf[k];
        if (i->npartial < sizeof i->partial)
            continue;
        struct event e;
        memcpy(&e, i->partial, sizeof e);
        i->npartial = 0;
        add(i, e);
    }
    deliver(i);
    pthread_mutex_unlock(&i->dev.lock);
    return len;
}

/* ---- the device --------------------------------------------------------- */

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_input *i = input_of(d);
    struct iovec iov[4];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };
    bool pushed = false;

    if (q->index == EVENTQ) {
        deliver(i);
        return;
    }
    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        struct event e;
        if (virtio_read(&chain, 0, &e, sizeof e) == sizeof e && e.type == EV_LED && e.code <= LED_SCROLLL)
            i->leds = (u8)((i->leds & ~(1u << e.code)) | (unsigned)(e.value != 0) << e.code);
        virtio_push(q, &chain, 0);
        pushed = true;
    }
    if (pushed)
        virtio_notify(q);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_input *i = input_of(d);
    i->select = i->subsel = i->leds = 0;
    i->n = i->npartial = 0;
    return true;
}

static int loaded(void *obj, struct error *err)
{
    struct virtio_input *i = obj;
    if (i->n > WAITING)
        return error_set(err, EINVAL, "virtio-input: %u events wait; it has room for %d", i->n, WAITING);
    return 0;
}

static const struct state_field event_fields[] = {
    STATE_FIELD(struct event, type, 1), STATE_FIELD(struct event, code, 1), STATE_FIELD(struct event, value, 1), STATE_END
};
static const struct state_field fields[] = {
    STATE_FIELD(struct virtio_input, select, 1), STATE_FIELD(struct virtio_input, subsel, 1),
    STATE_FIELD(struct virtio_input, leds, 1), STATE_STRUCTS(struct virtio_input, event, 1, event_fields),
    STATE_FIELD(struct virtio_input, n, 1), STATE_END
};
static const struct state_desc state = { "virtio-input", 1, fields, .post_load = loaded };

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_INPUT, .name = "virtio-input", .config_size = 136, .config_read = config_read,
    .config_write = config_write, .kick = kick, .reset = reset, .state = &state,
};

struct virtio_input *virtio_input_new(enum virtio_input_kind kind, struct memory *m, struct loop *loop,
                                      struct chardev *source, struct error *err)
{
    static const u16 sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE };
    static const struct chardev_user user = { receive, NULL };
    struct virtio_input *i = calloc(1, sizeof *i);
    if (!i) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    virtio_init(&i->dev, &ops, m, loop, 0, QUEUES, sizes);
    i->kind = kind;
    if (source)
        chardev_attach(source, &user, i);
    return i;
}

void virtio_input_free(struct virtio_input *i)
{
    if (!i)
        return;
    virtio_destroy(&i->dev);
    free(i);
}

struct virtio_device *virtio_input_device(struct virtio_input *i)
{
    return &i->dev;
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    const enum virtio_input_kind kind =
        env->config->input[d->index].kind == INPUT_TABLET ? VIRTIO_INPUT_TABLET : VIRTIO_INPUT_KEYBOARD;

    d->dev = virtio_input_new(kind, env->memory, env->loop, d->chardev[0], err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_input_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_input_free(d->dev);
}

const struct device_class virtio_input_class = { .kind = DEVICE_INPUT, .create = create, .unplug = unplug };
