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
#include "virtio/virtio_vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/listener.h"
#include "base/unix_socket.h"

enum { RX, TX, EVENT, QUEUES };
enum { QUEUE_SIZE = 256, MAX_CONNECTIONS = 1024, BUFFER = 65536, MAX_ORPHANS = 64, GREETING = 32, MAX_PACKET = 65536, MAX_ROUNDS = 64 };
enum { MAX_PATH = 90 }; /* bytes: with a port behind it, it is a host program's */
enum { HOST_CID = 2, TYPE_STREAM = 1, EVENT_TRANSPORT_RESET = 0 };
enum op { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { SHUTDOWN_RCV = 1, SHUTDOWN_SEND = 2 };

#define FIRST_HOST_PORT 0x40000000u

struct header {
    u64 src_cid, dst_cid;
    u32 src_port, dst_port, len;
    u16 type, op;
    u32 flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum state {
    GREET,   /* accepted; its CONNECT line is not complete */
    ASKED,   /* the guest was asked */
    OPEN,
    CLOSING, /* to the guest it is over, once it has been told */
    DRAINING, /* the guest is gone; what it sent before still goes into the unix socket */
    DEAD,    /* of before a reset, which may come on a vCPU's thread: the loop's frees it */
};

struct connection {
    struct loop_fd watch;
    struct virtio_vsock *vsock;
    struct connection *next;
    enum state state;
    u32 host_port, guest_port;
    u32 owed; /* BIT(enum op) */
    u32 shut_told, shut_heard; /* SHUTDOWN_ flags: told the guest, heard from it */
    char greeting[GREETING];
    u32 greeted;
    /* guest to host */
    u8 *buffer; /* BUFFER bytes, a ring; NULL until needed */
    u32 first, held;
    u32 fwd_cnt;      /* bytes given to the unix socket, modulo 2^32 */
    u32 told_fwd_cnt; /* as the guest last heard */
    /* host to guest */
    u32 peer_alloc, peer_fwd, sent;
    bool eof;
    bool watched, readable;
};

struct virtio_vsock {
    struct virtio_device dev;
    u64 cid;
    struct unix_socket sock;
    struct listener listener;
    struct loop_kick later; /* serve() is wanted */
    struct connection *first;
    u32 nconnections, next_port;
    struct header orphan[MAX_ORPHANS]; /* answers to packets of no connection */
    u32 norphans;
    bool transport_reset; /* the guest is to hear that all its connections are gone */
};

static struct virtio_vsock *vsock_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_vsock, dev);
}

/* ---- connections -------------------------------------------------------- */

static void on_socket(struct loop_fd *w, u32 events);

static struct connection *find(struct virtio_vsock *s, u32 host_port, u32 guest_port)
{
    for (struct connection *c = s->first; c; c = c->next)
        if (c->state != GREET && c->state != DRAINING && c->state != DEAD && c->host_port == host_port && c->guest_port == guest_port)
            return c;
    return NULL;
}

static struct connection *connection_new(struct virtio_vsock *s, int fd)
{
    struct connection *c = s->nconnections < MAX_CONNECTIONS ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        close(fd);
        return NULL;
    }
    *c = (struct connection){ .watch = { fd, EPOLLIN, on_socket }, .vsock = s, .watched = true };
    if (loop_fd_add(s->dev.loop, &c->watch)) {
        close(fd);
        free(c);
        return NULL;
    }
    c->next = s->first;
    s->first = c;
    s->nconnections++;
    return c;
}

static void unwatch(struct connection *c)
{
    if (c->watched)
        loop_fd_remove(c->vsock->dev.loop, &c->watch);
    c->watched = false;
}

static void connection_free(struct connection *c)
{
    struct virtio_vsock *s = c->vsock;
    struct connection **link = &s->first;
    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    s->nconnections--;
    unwatch(c);
    if (c->watch.fd >= 0)
        close(c->watch.fd);
    free(c->buffer);
    free(c);
}

/* c is served first from now on. */
static void rotate(struct virtio_vsock *s, struct connection *c)
{
    struct connection **link = &s->first, *old = s->first;
    if (c == old)
        return;
    while (*link != c)
        link = &(*link)->next;
    *link = NULL;
    s->first = c;
    while (c->next)
        c = c->next;
    c->next = old;
}

static void drop_all(struct virtio_vsock *s)
{
    while (s->first)
        connection_free(s->first);
    s->norphans = 0;
}

/* The unix socket is gone or useless: the guest hears RST. On the loop's thread. */
static void fail(struct connection *c)
{
    const bool told = c->state == DRAINING;
    unwatch(c);
    if (c->watch.fd >= 0)
        close(c->watch.fd);
    c->watch.fd = -1;
    c->state = told ? DEAD : CLOSING;
    c->held = 0;
    c->owed = told ? 0 : BIT(OP_RST);
}

static u32 credit(const struct connection *c)
{
    const u32 used = c->sent - c->peer_fwd;
    return c->peer_alloc > used ? c->peer_alloc - used : 0;
}

/* May its data go to the guest? */
static bool flows(const struct connection *c)
{
    return c->state == OPEN && !c->eof && credit(c) && !(c->shut_heard & SHUTDOWN_RCV);
}

/* Watched only for what can be acted on: epoll would go on telling of a socket that was hung up. */
static void watch(struct connection *c)
{
    u32 events = 0;
    if (c->state == GREET || (flows(c) && !c->readable))
        events |= EPOLLIN;
    if (c->held)
        events |= EPOLLOUT;
    if ((!events && c->state != ASKED) || c->watch.fd < 0) { /* ASKED: the client may hang up */
        unwatch(c);
    } else if (!c->watched) {
        c->watch.events = events;
        c->watched = !loop_fd_add(c->vsock->dev.loop, &c->watch);
    } else if (events != c->watch.events) {
        (void)!loop_fd_set(c->vsock->dev.loop, &c->watch, events);
    }
}

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
    const u32 n = virtio_pieces(chain, true, sizeof(struct header), MIN(credit(c), (u32)MAX_PACKET), iov, ARRAY_SIZE(iov));
    const ssize_t got = n ? readv(c->watch.fd, iov, (int)n) : 0;
    if (got < 0) {
        c->readable = false;
        if (errno != EAGAIN && errno != EINTR)
            fail(c);
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
        if (c && !c->owed && !(c->readable && flows(c)))
            continue;
        if (!have && (!virtio_queue_live(q) || virtio_pop(q, &chain) <= 0)) {
            if (c)
                rotate(s, c); /* its turn when there are buffers again */
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
                connection_free(c);
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

static void serve(struct virtio_vsock *s);

static void serve_later(struct loop_kick *k)
{
    struct virtio_vsock *s = container_of(k, struct virtio_vsock, later);
    pthread_mutex_lock(&s->dev.lock);
    serve(s);
    pthread_mutex_unlock(&s->dev.lock);
}

/* On the loop's thread. */
static void serve(struct virtio_vsock *s)
{
    for (struct connection *c = s->first, *next; c; c = next) {
        next = c->next;
        if (c->state == DEAD)
            connection_free(c);
    }
    const u32 max = 1 + MAX_ROUNDS / (1 + s->nconnections); /* others want the loop, too */
    u32 rounds = 0;
    while (rounds < max && serve_round(s))
        rounds++;
    if (rounds == max)
        loop_kick(&s->later);
    for (struct connection *c = s->first; c; c = c->next)
        watch(c);
}

/* ---- from the guest ----------------------------------------------------- */

/* What waits goes into the unix socket. */
static void flush(struct connection *c)
{
    while (c->held) {
        const u32 at = c->first % BUFFER, n = MIN(c->held, BUFFER - at);
        const ssize_t w = send(c->watch.fd, c->buffer + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (w < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (w < 0) {
            fail(c);
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
        fail(c); /* both ends are done: RST says so (5.10.6.4) */
    else if (c->fwd_cnt - c->told_fwd_cnt >= BUFFER / 4)
        c->owed |= BIT(OP_CREDIT_UPDATE);
}

static void on_data(struct connection *c, const struct virtio_chain *chain, u32 len)
{
    if (!c->buffer && !(c->buffer = malloc(BUFFER))) {
        fail(c);
        return;
    }
    if (len > BUFFER - c->held || (c->shut_heard & SHUTDOWN_SEND)) { /* more than its credit */
        fail(c);
        return;
    }
    for (u32 done = 0; done < len;) {
        const u32 at = (c->first + c->held) % BUFFER, n = MIN(len - done, BUFFER - at);
        virtio_read(chain, sizeof(struct header) + done, c->buffer + at, n);
        c->held += n;
        done += n;
    }
    flush(c);
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
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct connection *c = NULL;

    snprintf(a.sun_path, sizeof a.sun_path, "%.*s_%u", MAX_PATH, s->sock.path, h->dst_port);
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof a))
        c = connection_new(s, fd);
    else if (fd >= 0)
        close(fd);
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
        fail(c);
    else
        c->state = OPEN;
}

static void on_packet(struct virtio_vsock *s, const struct header *h, const struct virtio_chain *chain)
{
    if (h->src_cid != s->cid || h->dst_cid != HOST_CID)
        return; /* not for us, or not by our guest */
    struct connection *c = find(s, h->dst_port, h->src_port);
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
            fail(c);
        } else {
            on_request(s, h);
            if ((c = find(s, h->dst_port, h->src_port))) {
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
            connection_free(c);
        break;
    case OP_SHUTDOWN:
        c->shut_heard |= h->flags & (SHUTDOWN_RCV | SHUTDOWN_SEND);
        flush(c);
        break;
    case OP_RW:
        if (c->state == OPEN)
            on_data(c, chain, h->len);
        else
            fail(c);
        break;
    case OP_CREDIT_UPDATE: break;
    case OP_CREDIT_REQUEST: c->owed |= BIT(OP_CREDIT_UPDATE); break;
    default: fail(c);
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
    serve(s);
}

/* ---- unix sockets ------------------------------------------------------- */

/* "CONNECT PORT\n", byte by byte: what follows is the guest's. */
static void greet(struct connection *c)
{
    struct virtio_vsock *s = c->vsock;
    for (;;) {
        char b, *end;
        const ssize_t n = recv(c->watch.fd, &b, 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0 || c->greeted == GREETING - 1) {
            connection_free(c);
            return;
        }
        c->greeting[c->greeted++] = b;
        if (b != '\n')
            continue;
        c->greeting[c->greeted - 1] = 0;
        const bool form = !strncmp(c->greeting, "CONNECT ", 8) && c->greeting[8] >= '0' && c->greeting[8] <= '9';
        const unsigned long port = form ? strtoul(c->greeting + 8, &end, 10) : 0;
        if (!form || *end || port > UINT32_MAX - 1 || !virtio_live(&s->dev)) {
            connection_free(c);
            return;
        }
        do {
            c->host_port = s->next_port++;
            if (s->next_port < FIRST_HOST_PORT || s->next_port == UINT32_MAX)
                s->next_port = FIRST_HOST_PORT;
        } while (find(s, c->host_port, (u32)port));
        c->guest_port = (u32)port;
        c->state = ASKED;
        c->owed = BIT(OP_REQUEST);
        return;
    }
}

static void on_socket(struct loop_fd *w, u32 events)
{
    struct connection *c = container_of(w, struct connection, watch);
    struct virtio_vsock *s = c->vsock;
    pthread_mutex_lock(&s->dev.lock);
    c->readable = c->state == OPEN && (events & (EPOLLIN | EPOLLHUP | EPOLLERR));
    if (c->state == GREET)
        greet(c);
    else if (c->held && (c->state == OPEN || c->state == DRAINING))
        flush(c);
    else if (c->state == ASKED && (events & (EPOLLHUP | EPOLLERR)))
        fail(c);
    serve(s);
    pthread_mutex_unlock(&s->dev.lock);
}

static void on_listener(struct loop_fd *w, u32 events)
{
    struct virtio_vsock *s = container_of(w, struct virtio_vsock, listener.watch);
    const int fd = listener_accept(&s->listener, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    pthread_mutex_lock(&s->dev.lock);
    (void)connection_new(s, fd);
    pthread_mutex_unlock(&s->dev.lock);
}

static int listen_on(struct virtio_vsock *s, const char *path, struct error *err)
{
    if (strlen(path) > MAX_PATH)
        return error_set(err, EINVAL, "%s: the path of a socket has at most %d bytes here", path,
                         MAX_PATH);
    int r = unix_socket_listen(&s->sock, "", path, err);
    if (!r && (r = listener_add(&s->listener, s->dev.loop, s->sock.fd, on_listener)))
        error_set(err, -r, "%s: %s", path, strerror(-r));
    return r;
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
        serve(s);
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
    drop_all(s);
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
    if (listen_on(s, c->path, err)) {
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
    drop_all(s);
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
