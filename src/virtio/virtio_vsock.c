/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.c - the socket device.  A connection is a unix socket on this side and a pair of ports on the guest's.
 *
 * Flow control is by credit (5.10.6.3).  What the guest sends goes into the unix socket; what that does not take waits
 * in the connection's buffer, which is what we tell the guest as buf_alloc.  What comes from the unix socket stays
 * there until the guest has credit and a buffer for it, and is read straight into that buffer.
 *
 * What we owe the guest besides data is a bit in `owed` of its connection, so that no queue of ours can grow; answers to
 * packets of no connection are kept in a small one and given up on when that is full.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/virtio_vsock_private.h"

/* ---- to the guest ------------------------------------------------------- */

static struct header header_of(struct connection *c, enum op op, u32 len)
{
    c->told_fwd_cnt = c->fwd_cnt;
    return (struct header){
        .src_cid = HOST_CID, .dst_cid = c->vsock->cid, .src_port = c->host_port, .dst_port = c->guest_port, .len = len,
        .type = TYPE_STREAM, .op = (u16)op, .flags = op == OP_SHUTDOWN ? c->shut_told : 0, .buf_alloc = BUFFER,
        .fwd_cnt = c->fwd_cnt,
    };
}

/* Data of the unix socket into the buffer. False: it goes back unused. */
static bool fill(struct connection *c, struct virtio_chain *chain, struct virtio_queue *q)
{
    struct iovec iov[16];
    const u32 n = virtio_pieces(chain, true, sizeof(struct header), MIN(vsock_credit(c), (u32)MAX_PACKET), iov, ARRAY_SIZE(iov));
    const ssize_t got = n ? readv(c->watch.fd, iov, (int)n) : 0;
    if (got < 0) {
        c->readable = false;
        if (errno != EAGAIN && errno != EINTR)
            vsock_fail(c);
        return false;
    }
    if (!got) {
        if (n) {
            c->eof = true;
            c->shut_told |= SHUTDOWN_SEND;
            c->owed |= BIT(OP_SHUTDOWN);
        }
        return false;
    }
    c->sent += (u32)got;
    const struct header h = header_of(c, OP_RW, (u32)got);
    virtio_write(chain, 0, &h, sizeof h);
    virtio_push(q, chain, sizeof h + (u64)got);
    return true;
}

/* One round: all that is owed, and a buffer of data of each connection that has some. False: nothing more can be done. */
static bool serve_round(struct virtio_vsock *s)
{
    struct virtio_queue *q = &s->dev.queue[RX];
    struct iovec iov[VIRTIO_MAX_IOV];
    u64 gpa[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };
    bool pushed = false, have = false;

    for (struct connection *c = s->first, *next; c || s->norphans; c = next) {
        next = c ? c->next : NULL;
        if (c && !c->owed && !(c->readable && vsock_flows(c)))
            continue;
        if (!have && (!virtio_queue_live(q) || virtio_pop(q, &chain) <= 0)) {
            if (c)
                vsock_rotate(s, c); /* its turn when there are buffers again */
            break;
        }
        have = true;
        if (chain.in_len < sizeof(struct header)) {
            virtio_fail(&s->dev, "a receive buffer is too small for a packet's header");
            virtio_push(q, &chain, 0);
            return false;
        }
        if (s->norphans) {
            virtio_push(q, &chain, virtio_write(&chain, 0, &s->orphan[--s->norphans], sizeof s->orphan[0]));
            have = false;
            next = c;
        } else if (c->owed) {
            const enum op op = (enum op)__builtin_ctz(c->owed);
            const struct header h = header_of(c, op, 0);
            c->owed &= c->owed - 1;
            virtio_push(q, &chain, virtio_write(&chain, 0, &h, sizeof h));
            have = false;
            if (c->state == CLOSING && !c->owed)
                vsock_connection_free(c);
            else
                next = c;
        } else if (fill(c, &chain, q)) {
            have = false;
        } else if (c->owed) {
            next = c;
        }
        pushed |= !have;
    }
    if (have)
        virtio_unpop(q, &chain);
    if (pushed)
        virtio_notify(q);
    return pushed;
}

static void serve_later(struct loop_kick *k)
{
    struct virtio_vsock *s = container_of(k, struct virtio_vsock, later);
    pthread_mutex_lock(&s->dev.lock);
    vsock_serve(s);
    pthread_mutex_unlock(&s->dev.lock);
}

/* On the loop's thread. */
void vsock_serve(struct virtio_vsock *s)
{
    for (struct connection *c = s->first, *next; c; c = next) {
        next = c->next;
        if (c->state == DEAD)
            vsock_connection_free(c);
    }
    const u32 max = 1 + MAX_ROUNDS / (1 + s->nconnections); /* others want the loop, too */
    u32 rounds = 0;
    while (rounds < max && serve_round(s))
        rounds++;
    if (rounds == max)
        loop_kick(&s->later);
    for (struct connection *c = s->first; c; c = c->next)
        vsock_watch(c);
}

/* ---- from the guest ----------------------------------------------------- */

/* Writes the guest's data that waits into the unix socket. */
void vsock_flush(struct connection *c)
{
    while (c->held) {
        const u32 at = c->first % BUFFER, n = MIN(c->held, BUFFER - at);
        const ssize_t w = send(c->watch.fd, c->buffer + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (w < 0) {
            vsock_fail(c);
            return;
        }
        c->first += (u32)w;
        c->held -= (u32)w;
        c->fwd_cnt += (u32)w;
    }
    if (c->shut_heard & SHUTDOWN_RCV)
        shutdown(c->watch.fd, SHUT_RD);
    if (!c->held && (c->shut_heard & SHUTDOWN_SEND))
        shutdown(c->watch.fd, SHUT_WR);
    if (!c->held && (c->state == DRAINING || c->shut_heard == (SHUTDOWN_RCV | SHUTDOWN_SEND)))
        vsock_fail(c); /* both ends are done: RST says so (5.10.6.4) */
    else if (c->fwd_cnt - c->told_fwd_cnt >= BUFFER / 4)
        c->owed |= BIT(OP_CREDIT_UPDATE);
}

static void on_data(struct connection *c, const struct virtio_chain *chain, u32 len)
{
    if (!c->buffer && !(c->buffer = malloc(BUFFER))) {
        vsock_fail(c);
        return;
    }
    if (len > BUFFER - c->held || (c->shut_heard & SHUTDOWN_SEND)) { /* more than its credit */
        vsock_fail(c);
        return;
    }
    for (u32 done = 0; done < len;) {
        const u32 at = (c->first + c->held) % BUFFER, n = MIN(len - done, BUFFER - at);
        virtio_read(chain, sizeof(struct header) + done, c->buffer + at, n);
        c->held += n;
        done += n;
    }
    vsock_flush(c);
}

/* RST for a packet that belongs to no connection. */
static void refuse(struct virtio_vsock *s, const struct header *h)
{
    if (s->norphans < MAX_ORPHANS)
        s->orphan[s->norphans++] = (struct header){
            .src_cid = HOST_CID, .dst_cid = s->cid, .src_port = h->dst_port, .dst_port = h->src_port, .type = h->type,
            .op = OP_RST,
        };
}

static void on_request(struct virtio_vsock *s, const struct header *h)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct connection *c = NULL;

    snprintf(a.sun_path, sizeof a.sun_path, "%.*s_%u", MAX_PATH, s->sock.path, h->dst_port);
    const int fd = opener_connect(OPENER_VSOCK, (struct sockaddr *)&a, sizeof a, SOCK_STREAM | SOCK_NONBLOCK);
    if (fd >= 0)
        c = vsock_connection_new(s, fd);
    if (!c) {
        refuse(s, h);
        return;
    }
    c->host_port = h->dst_port;
    c->guest_port = h->src_port;
    c->state = OPEN;
    c->owed = BIT(OP_RESPONSE);
}

static void on_response(struct connection *c)
{
    char text[24];
    const int n = snprintf(text, sizeof text, "OK %u\n", c->host_port);
    if (c->state != ASKED || send(c->watch.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
        vsock_fail(c);
    else
        c->state = OPEN;
}

static void on_packet(struct virtio_vsock *s, const struct header *h, const struct virtio_chain *chain)
{
    if (h->src_cid != s->cid || h->dst_cid != HOST_CID)
        return; /* not for us, or not by our guest */
    struct connection *c = vsock_find(s, h->dst_port, h->src_port);
    if (h->type != TYPE_STREAM || (!c && h->op != OP_REQUEST)) {
        if (h->op != OP_RST)
            refuse(s, h);
        return;
    }
    if (c) {
        c->peer_alloc = h->buf_alloc;
        c->peer_fwd = h->fwd_cnt;
        if (c->state == CLOSING)
            return;
    }
    switch (h->op) {
    case OP_REQUEST:
        if (c) {
            vsock_fail(c);
        } else {
            on_request(s, h);
            if ((c = vsock_find(s, h->dst_port, h->src_port))) {
                c->peer_alloc = h->buf_alloc;
                c->peer_fwd = h->fwd_cnt;
            }
        }
        break;
    case OP_RESPONSE: on_response(c); break;
    case OP_RST:
        if (c->held && (c->shut_heard & SHUTDOWN_SEND)) /* it closed in order and no longer waits for our RST */
            c->state = DRAINING, c->owed = 0;
        else
            vsock_connection_free(c);
        break;
    case OP_SHUTDOWN:
        c->shut_heard |= h->flags & (SHUTDOWN_RCV | SHUTDOWN_SEND);
        vsock_flush(c);
        break;
    case OP_RW:
        if (c->state == OPEN)
            on_data(c, chain, h->len);
        else
            vsock_fail(c);
        break;
    case OP_CREDIT_UPDATE: break;
    case OP_CREDIT_REQUEST: c->owed |= BIT(OP_CREDIT_UPDATE); break;
    default: vsock_fail(c);
    }
}

static void transmit(struct virtio_vsock *s)
{
    struct virtio_queue *q = &s->dev.queue[TX];
    struct iovec iov[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };
    bool pushed = false;

    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        struct header h;
        if (virtio_read(&chain, 0, &h, sizeof h) != sizeof h || h.len > chain.out_len - sizeof h || h.len > MAX_PACKET) {
            virtio_fail(&s->dev, "a packet is shorter than it says");
            virtio_push(q, &chain, 0);
            return;
        }
        on_packet(s, &h, &chain);
        virtio_push(q, &chain, 0);
        pushed = true;
    }
    if (pushed)
        virtio_notify(q);
    vsock_serve(s);
}

/* ---- the device --------------------------------------------------------- */

static void tell_reset(struct virtio_vsock *s)
{
    struct virtio_queue *q = &s->dev.queue[EVENT];
    struct iovec iov[4];
    u64 gpa[4];
    struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };
    const u32 event = EVENT_TRANSPORT_RESET;
    if (!s->transport_reset || !virtio_queue_live(q) || virtio_pop(q, &chain) <= 0)
        return;
    virtio_push(q, &chain, virtio_write(&chain, 0, &event, sizeof event));
    virtio_notify(q);
    s->transport_reset = false;
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_vsock *s = vsock_of(d);
    if (q->index == TX)
        transmit(s);
    else if (q->index == RX)
        vsock_serve(s);
    else
        tell_reset(s);
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    memcpy(to, (const u8 *)&vsock_of(d)->cid + offset, len);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_vsock *s = vsock_of(d);
    for (struct connection *c = s->first; c; c = c->next) {
        c->state = DEAD;
        c->owed = c->held = 0;
    }
    s->norphans = 0;
    s->transport_reset = false;
    loop_kick(&s->later);
    return true;
}

static void resume(struct virtio_device *d)
{
    tell_reset(vsock_of(d));
}

static int loaded(void *obj, struct error *err)
{
    struct virtio_vsock *s = obj;
    vsock_drop_all(s);
    s->transport_reset = true;
    return 0;
}

static const struct state_field fields[] = { STATE_FIELD(struct virtio_vsock, transport_reset, 1), STATE_END };
static const struct state_desc state = { "virtio-vsock", 1, fields, .post_load = loaded };

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_SOCKET, .name = "virtio-vsock", .config_size = 8, .config_read = config_read, .kick = kick,
    .reset = reset, .resume = resume, .state = &state,
};

struct virtio_vsock *virtio_vsock_new(const struct virtio_vsock_config *c, struct error *err)
{
    static const u16 sizes[QUEUES] = { QUEUE_SIZE, QUEUE_SIZE, 16 };
    struct virtio_vsock *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    s->cid = c->cid;
    s->next_port = FIRST_HOST_PORT;
    s->sock.fd = -1;
    loop_kick_init(&s->later, c->loop, serve_later);
    virtio_init(&s->dev, &ops, c->memory, c->loop, 0, QUEUES, sizes);
    if (vsock_listen_on(s, c->path, err)) {
        virtio_vsock_free(s);
        return NULL;
    }
    return s;
}

void virtio_vsock_free(struct virtio_vsock *s)
{
    if (!s)
        return;
    loop_kick_remove(&s->later);
    vsock_drop_all(s);
    if (s->listener.watch.ready)
        listener_remove(&s->listener);
    unix_socket_close(&s->sock);
    virtio_destroy(&s->dev);
    free(s);
}

struct virtio_device *virtio_vsock_device(struct virtio_vsock *s)
{
    return &s->dev;
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    const struct virtio_vsock_config c = {
        .memory = env->memory, .loop = env->loop, .path = env->config->vsock, .cid = env->config->vsock_cid,
    };

    d->dev = virtio_vsock_new(&c, err);
    if (!d->dev)
        return error_about(err, "vsock");
    return device_plug_virtio(d, virtio_vsock_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_vsock_free(d->dev);
}

const struct device_class virtio_vsock_class = { .kind = DEVICE_VSOCK, .create = create, .unplug = unplug };
