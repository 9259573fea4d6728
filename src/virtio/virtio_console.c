/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_console.c - the virtio console.  Queues: receiveq and transmitq of port 0, the control pair, then a pair a port.
 *
 * Output goes from the guest's buffers into the chardev, which takes what it has room for; the rest of a buffer waits
 * there, and so do the buffers behind it.  Input waits in the chardev until the guest has buffers.
 */
#include "virtio/virtio_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VIRTIO_CONSOLE_F_MULTIPORT BIT(1)
#define VIRTIO_CONSOLE_F_EMERG_WRITE BIT(2)

enum { QUEUE_SIZE = 128, CONTROL_RX = 2, CONTROL_TX = 3, PENDING = 64 };
enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME }; /* 5.3.6.2 */

struct control {
    u32 id;
    u16 event, value;
};

struct port {
    struct virtio_console *console;
    struct chardev *chardev;
    u64 sent; /* of the transmit buffer at the head of the queue */
    bool ready, open;
};

struct virtio_console {
    struct virtio_device dev;
    u32 nports;
    struct port port[VIRTIO_CONSOLE_MAX_PORTS];
    struct control pending[PENDING]; /* for the driver, oldest first */
    u32 npending;
};

static struct virtio_console *console_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_console, dev);
}
static u32 rx_queue(u32 port) { return port ? 2 * port + 2 : 0; }
static u32 tx_queue(u32 port) { return rx_queue(port) + 1; }

/* ---- control ------------------------------------------------------------ */

static void send_pending(struct virtio_console *c)
{
    struct virtio_queue *q = &c->dev.queue[CONTROL_RX];
    u32 sent = 0;
    while (sent < c->npending && virtio_queue_live(q)) {
        struct iovec iov[8];
        u64 gpa[8];
        struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };
        if (virtio_pop(q, &chain) <= 0)
            break;
        virtio_push(q, &chain, virtio_write(&chain, 0, &c->pending[sent], sizeof c->pending[0]));
        sent++;
    }
    memmove(c->pending, c->pending + sent, (c->npending - sent) * sizeof c->pending[0]);
    c->npending -= sent;
    if (sent)
        virtio_notify(q);
}

static void tell(struct virtio_console *c, u32 port, u16 event, u16 value)
{
    if (c->npending < PENDING) /* a driver that asks and never listens hears no more */
        c->pending[c->npending++] = (struct control){ port, event, value };
}

static void hear(struct virtio_console *c, const struct control *m)
{
    if (m->event == DEVICE_READY) {
        for (u32 i = 0; m->value && i < c->nports; i++)
            tell(c, i, DEVICE_ADD, 1);
        return;
    }
    if (m->id >= c->nports)
        return;
    struct port *p = &c->port[m->id];
    if (m->event == PORT_READY && m->value) {
        p->ready = true;
        tell(c, m->id, CONSOLE_PORT, 1);
        tell(c, m->id, PORT_OPEN, 1);
    } else if (m->event == PORT_OPEN) {
        p->open = m->value;
        if (p->open)
            chardev_resume(p->chardev);
    }
}

static void control(struct virtio_console *c)
{
    struct virtio_queue *q = &c->dev.queue[CONTROL_TX];
    struct iovec iov[8];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };
    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        struct control m;
        if (virtio_read(&chain, 0, &m, sizeof m) == sizeof m)
            hear(c, &m);
        virtio_push(q, &chain, 0);
    }
    if (virtio_queue_live(q))
        virtio_notify(q);
    send_pending(c);
}

/* ---- output ------------------------------------------------------------- */

static void transmit(struct virtio_console *c, u32 n)
{
    struct port *p = &c->port[n];
    struct virtio_queue *q = &c->dev.queue[tx_queue(n)];
    struct iovec iov[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };
    bool pushed = false;

    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        u64 at = 0;
        bool full = false;
        for (u32 i = 0; i < chain.nout && !full; at += iov[i++].iov_len) {
            if (p->sent >= at + iov[i].iov_len)
                continue;
            const u64 skip = p->sent - at, left = iov[i].iov_len - skip;
            const size_t took = chardev_write(p->chardev, (u8 *)iov[i].iov_base + skip, left);
            p->sent += took;
            full = took < left;
        }
        if (full) { /* writable() comes */
            virtio_unpop(q, &chain);
            break;
        }
        p->sent = 0;
        virtio_push(q, &chain, 0);
        pushed = true;
    }
    if (pushed)
        virtio_notify(q);
}

static void writable(void *dev)
{
    struct port *p = dev;
    struct virtio_console *c = p->console;
    pthread_mutex_lock(&c->dev.lock);
    transmit(c, (u32)(p - c->port));
    pthread_mutex_unlock(&c->dev.lock);
}

/* ---- input -------------------------------------------------------------- */

static size_t receive(void *dev, const u8 *buf, size_t len)
{
    struct port *p = dev;
    struct virtio_console *c = p->console;
    struct virtio_queue *q = &c->dev.queue[rx_queue((u32)(p - c->port))];
    struct iovec iov[VIRTIO_MAX_IOV];
    u64 gpa[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };
    size_t taken = 0;

    pthread_mutex_lock(&c->dev.lock);
    const bool wanted = virtio_queue_live(q) && (p->open || !virtio_has(&c->dev, VIRTIO_CONSOLE_F_MULTIPORT));
    for (u32 i = 0; wanted && taken < len && virtio_pop(q, &chain) > 0; i++) {
        const u64 n = virtio_write(&chain, 0, buf + taken, len - taken);
        virtio_push(q, &chain, n);
        taken += n;
        if (i == QUEUE_SIZE) { /* buffers of no room could go on for ever */
            virtio_kick(&c->dev, q->index);
            break;
        }
    }
    virtio_notify(q);
    pthread_mutex_unlock(&c->dev.lock);
    return taken;
}

/* ---- state -------------------------------------------------------------- */

static int loaded(void *obj, struct error *err)
{
    struct virtio_console *c = obj;
    if (c->npending > PENDING)
        return error_set(err, EINVAL, "virtio-console: %u control messages wait; it has room for %d", c->npending, PENDING);
    return 0;
}

static const struct state_field port_fields[] = {
    STATE_FIELD(struct port, sent, 1), STATE_FIELD(struct port, ready, 1), STATE_FIELD(struct port, open, 1), STATE_END
};
static const struct state_field control_fields[] = {
    STATE_FIELD(struct control, id, 1), STATE_FIELD(struct control, event, 1), STATE_FIELD(struct control, value, 1), STATE_END
};
static const struct state_field fields[] = {
    STATE_STRUCTS(struct virtio_console, port, 1, port_fields),
    STATE_STRUCTS(struct virtio_console, pending, 1, control_fields),
    STATE_FIELD(struct virtio_console, npending, 1),
    STATE_END
};
static const struct state_desc state = { "virtio-console", 1, fields, .post_load = loaded };

/* ---- the device --------------------------------------------------------- */

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_console *c = console_of(d);
    if (q->index == CONTROL_RX) {
        send_pending(c);
    } else if (q->index == CONTROL_TX) {
        control(c);
    } else {
        const u32 port = q->index < CONTROL_RX ? 0 : (q->index - 2u) / 2;
        if (q->index & 1)
            transmit(c, port);
        else
            chardev_resume(c->port[port].chardev);
    }
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    const struct {
        u16 cols, rows;
        u32 max_nr_ports, emerg_wr;
    } config = { .max_nr_ports = console_of(d)->nports };
    memcpy(to, (const u8 *)&config + offset, len);
}

static void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    if (offset == 8 && len) /* emerg_wr: the low byte */
        (void)chardev_write(console_of(d)->port[0].chardev, from, 1);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_console *c = console_of(d);
    c->npending = 0;
    for (u32 i = 0; i < c->nports; i++)
        c->port[i].sent = c->port[i].ready = c->port[i].open = 0;
    return true;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    for (u32 i = 0; i < console_of(d)->nports; i++)
        if (q->index == tx_queue(i))
            console_of(d)->port[i].sent = 0;
    return true;
}

static void resume(struct virtio_device *d)
{
    struct virtio_console *c = console_of(d);
    for (u32 i = 0; i < c->nports; i++)
        chardev_resume(c->port[i].chardev);
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_CONSOLE, .name = "virtio-console", .config_size = 12, .config_read = config_read,
    .config_write = config_write, .kick = kick, .reset = reset, .queue_reset = queue_reset, .resume = resume,
    .state = &state,
};

struct virtio_console *virtio_console_new(const struct virtio_console_config *cc, struct error *err)
{
    static const struct chardev_user user = { receive, writable };
    struct virtio_console *c = calloc(1, sizeof *c);
    u16 sizes[2 * VIRTIO_CONSOLE_MAX_PORTS + 2];
    if (!c) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    for (u32 i = 0; i < ARRAY_SIZE(sizes); i++)
        sizes[i] = QUEUE_SIZE;
    virtio_init(&c->dev, &ops, cc->memory, cc->loop, VIRTIO_CONSOLE_F_MULTIPORT | VIRTIO_CONSOLE_F_EMERG_WRITE,
                2 * cc->nports + 2, sizes);
    c->nports = cc->nports;
    for (u32 i = 0; i < c->nports; i++) {
        c->port[i] = (struct port){ .console = c, .chardev = cc->port[i] };
        chardev_attach(cc->port[i], &user, &c->port[i]);
    }
    return c;
}

void virtio_console_free(struct virtio_console *c)
{
    if (!c)
        return;
    virtio_destroy(&c->dev);
    free(c);
}

struct virtio_device *virtio_console_device(struct virtio_console *c)
{
    return &c->dev;
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    struct virtio_console_config c = { .memory = env->memory, .loop = env->loop, .nports = env->config->nconsoles };

    memcpy(c.port, d->chardev, sizeof c.port);
    d->dev = virtio_console_new(&c, err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_console_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_console_free(d->dev);
}

const struct device_class virtio_console_class = { .kind = DEVICE_CONSOLE, .create = create, .unplug = unplug };
