/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbd.c - a disk on a server, by the Network Block Device protocol; libnbd implements the protocol.
 *
 * A lost connection stays lost: requests that are under way and all later ones fail with EIO, after one line in the
 * log. A server that answers nothing for a minute counts as lost, so that neither a guest nor the end of a run waits
 * for ever.
 */
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/patience.h"
#include "base/unix_socket.h"
#include "block/aio.h"
#include "block/nbd_uri.h"

enum { CONNECT_MS = 10000, CHUNK = 32 << 20 };
static const u64 SILENCE_NS = 60000000000ull, HURRY_NS = 1000000000ull;

struct nbd {
    struct block *b;
    struct nbd_handle *h; /* NULL: the connection is lost */
    struct aio_source source;
    struct nbd_request *pending;
    u64 chunk;
    bool can_flush, can_trim, can_zero, hurry;
};

struct nbd_request {
    struct nbd *n;
    struct block_request *rq;
    struct aio_work work;
    u32 parts; /* commands under way, plus one while they are issued */
    int result;
    u8 *buf;   /* the data in one piece */
    bool own_buf;
    struct nbd_request *next, **link;
};

static void request_done(struct aio_work *w)
{
    struct nbd_request *r = container_of(w, struct nbd_request, work);
    struct block_request *rq = r->rq;
    int result = r->result;

    if (r->own_buf && rq->op == BLOCK_READ && !result)
        iov_scatter(rq->iov, rq->niov, 0, r->buf, rq->len);
    if (r->own_buf)
        free(r->buf);
    free(r);
    block_done(rq, result);
}

static void part_done(struct nbd_request *r)
{
    if (--r->parts)
        return;
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    aio_ready(r->n->b->aio, &r->work);
}

/* Runs under libnbd's lock, so it must not call libnbd. */
static int answered(void *arg, int *error)
{
    struct nbd_request *r = arg;

    if (!r->n->h) /* the connection is being closed: lose() ends all requests */
        return 1;
    if (*error)
        r->result = *error == ENOTCONN || *error == ESHUTDOWN ? -EIO : -*error;
    part_done(r);
    return 1;
}

static void lose(struct nbd *n, const char *why)
{
    struct nbd_handle *h = n->h;

    log_error("%s: the connection is lost (%s); from now on the guest gets I/O errors from this disk", n->b->path, why);
    n->h = NULL;
    aio_source_remove(n->b->aio, &n->source);
    nbd_close(h);
    while (n->pending) {
        n->pending->result = -EIO;
        n->pending->parts = 1;
        part_done(n->pending);
    }
}

/* Sets what to wait for, after that has changed; or notices the end of the connection. */
static void settle(struct nbd *n)
{
    if (nbd_aio_is_dead(n->h) || nbd_aio_is_closed(n->h)) {
        const char *why = nbd_get_error();
        lose(n, why ? why : "the server closed it");
        return;
    }
    unsigned dir = nbd_aio_get_direction(n->h);
    u32 events = (dir & LIBNBD_AIO_DIRECTION_READ ? EPOLLIN : 0) | (dir & LIBNBD_AIO_DIRECTION_WRITE ? EPOLLOUT : 0);
    if (aio_source_set(n->b->aio, &n->source, events))
        lose(n, strerror(ENOMEM));
    else
        aio_source_deadline(n->b->aio, &n->source, n->pending ? clock_ns() + (n->hurry ? HURRY_NS : SILENCE_NS) : 0);
}

static void nbd_hurry(struct block *b, bool on)
{
    struct nbd *n = b->priv;

    if (n->h && n->pending && on != n->hurry) /* the deadline that it would have if `on` had been set since the last
                                                 answer */
        aio_source_deadline(b->aio, &n->source,
                            on ? n->source.deadline - SILENCE_NS + HURRY_NS : n->source.deadline + SILENCE_NS - HURRY_NS);
    n->hurry = on;
}

static void ready(struct loop_fd *w, u32 events)
{
    struct nbd *n = container_of(w, struct nbd, source.watch);
    struct aio *aio = n->b->aio;

    aio->reaping++;
    unsigned dir = nbd_aio_get_direction(n->h);
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && (dir & LIBNBD_AIO_DIRECTION_READ))
        nbd_aio_notify_read(n->h);
    else if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
        nbd_aio_notify_write(n->h);
    settle(n);
    aio->reaping--;
    aio_reap(aio);
}

static void silent(struct aio_source *s)
{
    struct nbd *n = container_of(s, struct nbd, source);

    if (n->h)
        lose(n, n->hurry ? "the server does not answer" : patience_over() ? "it was not waited for any longer"
                                                        : "the server has not answered for a minute");
}

static int issue(struct nbd_request *r, u64 at, u64 len)
{
    struct nbd *n = r->n;
    const struct block_request *rq = r->rq;
    nbd_completion_callback c = { .callback = answered, .user_data = r };
    u64 offset = rq->offset + at;
    int64_t cookie = -1;

    r->parts++;
    switch (rq->op) {
    case BLOCK_READ:
        cookie = nbd_aio_pread(n->h, r->buf + at, len, offset, c, 0);
        break;
    case BLOCK_WRITE:
        cookie = nbd_aio_pwrite(n->h, r->buf + at, len, offset, c, 0);
        break;
    case BLOCK_FLUSH:
        cookie = nbd_aio_flush(n->h, c, 0);
        break;
    case BLOCK_DISCARD:
        cookie = nbd_aio_trim(n->h, len, offset, c, 0);
        break;
    case BLOCK_WRITE_ZEROES:
        if (n->can_zero)
            cookie = nbd_aio_zero(n->h, len, offset, c,
                                  (rq->flags & BLOCK_UNMAP) && n->b->discard ? 0 : LIBNBD_CMD_FLAG_NO_HOLE);
        else
            cookie = nbd_aio_pwrite(n->h, r->buf, len, offset, c, 0);
        break;
    }
    if (cookie < 0) {
        r->result = -EIO;
        r->parts--;
    }
    return cookie < 0 ? -EIO : 0;
}

/* 0, -errno: there is nothing to send, or no connection. 1: send it; r->buf is set if the data needs a buffer. */
static int prepare(struct nbd_request *r)
{
    const struct nbd *n = r->n;
    const struct block_request *rq = r->rq;
    bool zeroes = rq->op == BLOCK_WRITE_ZEROES && !n->can_zero;

    if (!n->h)
        return -EIO;
    if ((rq->op == BLOCK_FLUSH && !n->can_flush) || (rq->op == BLOCK_DISCARD && !n->can_trim))
        return 0;
    if (rq->op != BLOCK_READ && rq->op != BLOCK_WRITE && !zeroes)
        return 1;
    if (rq->niov == 1 && !zeroes) {
        r->buf = rq->iov->iov_base;
        return 1;
    }
    r->buf = zeroes ? calloc(1, MIN(rq->len, n->chunk)) : malloc(rq->len);
    r->own_buf = true;
    if (!r->buf)
        return -ENOMEM;
    if (rq->op == BLOCK_WRITE)
        iov_gather(r->buf, rq->iov, rq->niov, 0, rq->len);
    return 1;
}

static void nbd_submit(struct block *b, struct block_request *rq)
{
    struct nbd *n = b->priv;
    struct nbd_request *r = calloc(1, sizeof(*r));

    if (!r) {
        block_done(rq, -ENOMEM);
        return;
    }
    r->n = n;
    r->rq = rq;
    r->work.done = request_done;
    int e = prepare(r);
    if (e <= 0) {
        if (r->own_buf)
            free(r->buf);
        free(r);
        block_done(rq, e);
        return;
    }
    b->aio->under_way++;
    r->parts = 1;
    r->next = n->pending;
    r->link = &n->pending;
    if (r->next)
        r->next->link = &r->next;
    n->pending = r;
    if (rq->op == BLOCK_FLUSH)
        e = issue(r, 0, 0);
    for (u64 at = 0; e >= 0 && rq->op != BLOCK_FLUSH && at < rq->len; at += n->chunk)
        e = issue(r, at, MIN(n->chunk, rq->len - at));
    part_done(r);
    settle(n);
}

/* ---- open and close ---- */

static int open_failed(struct nbd *n, const char *what, struct error *err)
{
    const char *why = what ? what : nbd_get_error();
    int r = error_set(err, EIO, "%s: %s", n->b->path, why ? why : "no connection");

    if (n->h)
        nbd_close(n->h);
    free(n);
    return r;
}

/* As nbd_poll, but it waits only for a moment. */
static int connect_on(struct nbd *n)
{
    const unsigned dir = nbd_aio_get_direction(n->h);
    const bool in = dir & LIBNBD_AIO_DIRECTION_READ, out = dir & LIBNBD_AIO_DIRECTION_WRITE;
    struct pollfd p = { .fd = nbd_aio_get_fd(n->h), .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)) };

    if (!patience_sleep(p.fd, p.events) || poll(&p, 1, 0) <= 0)
        return 0;
    if (in && (p.revents & (POLLIN | POLLHUP | POLLERR)))
        return nbd_aio_notify_read(n->h);
    return out && (p.revents & (POLLOUT | POLLHUP | POLLERR)) ? nbd_aio_notify_write(n->h) : 0;
}

/* The connection is made by whoever opens for this process. 0, -1 (libnbd says why), or an errno. */
static int begin(struct nbd *n)
{
    struct nbd_uri u;
    int r = nbd_uri_parse(n->b->path, &u);

    if (r == -ENOTSUP) /* what only libnbd knows */
        return nbd_aio_connect_uri(n->h, n->b->path) ? -1 : 0;
    if (r)
        return -r;
    if (nbd_set_export_name(n->h, u.export) || (u.tls && nbd_set_tls(n->h, LIBNBD_TLS_REQUIRE)) ||
        (u.tls && u.user[0] && nbd_set_tls_username(n->h, u.user)) || (u.tls && u.psk[0] && nbd_set_tls_psk_file(n->h, u.psk)) ||
        (u.tls && u.certificates[0] && nbd_set_tls_certificates(n->h, u.certificates)))
        return -1;
    const int fd = u.socket[0] ? unix_socket_connect(OPENER_DISK, u.socket, SOCK_STREAM | SOCK_NONBLOCK)
                               : opener_host(OPENER_DISK, OPENER_CONNECT_HOST, u.host, u.port, SOCK_STREAM);
    if (fd < 0)
        return -fd;
    if (!nbd_aio_connect_socket(n->h, fd))
        return 0;
    close(fd); /* libnbd has taken it only if it succeeds */
    return -1;
}

/* 0, -1 (libnbd says why), or the errno that ended the wait. */
static int connect_to(struct nbd *n)
{
    u64 end = clock_ns() + CONNECT_MS * 1000000ull;
    struct patience wait = { 0 };

    const int r = nbd_set_tls_verify_peer(n->h, true) ? -1 : begin(n);
    if (r)
        return r;
    while (!nbd_aio_is_ready(n->h)) {
        if (nbd_aio_is_dead(n->h) || nbd_aio_is_closed(n->h))
            return -1;
        if (clock_ns() >= end)
            return ETIMEDOUT;
        if (patience_ask(&wait, "%s: waiting for the server's answer", n->b->path))
            return EINTR;
        if (connect_on(n) < 0)
            return -1;
    }
    return 0;
}

static int nbd_open(struct block *b, struct error *err)
{
    struct nbd *n = calloc(1, sizeof(*n));

    if (!n)
        return error_set(err, ENOMEM, "%s: no memory", b->path);
    n->b = b;
    n->h = nbd_create();
    if (!n->h)
        return open_failed(n, NULL, err);
    int r = connect_to(n);
    if (r)
        return open_failed(n, r == ETIMEDOUT ? "the server does not answer" : r == EINTR ? "a signal ended the wait"
                              : r == EADDRNOTAVAIL ? "no server of this name is known" : r > 0 ? strerror(r) : NULL, err);
    int64_t size = nbd_get_size(n->h), least = nbd_get_block_size(n->h, LIBNBD_SIZE_MINIMUM),
            best = nbd_get_block_size(n->h, LIBNBD_SIZE_PREFERRED), most = nbd_get_block_size(n->h, LIBNBD_SIZE_MAXIMUM);
    if (size < 0)
        return open_failed(n, NULL, err);
    if (least > BLOCK_SECTOR)
        return open_failed(n, "the server wants larger blocks than the 512 bytes of a guest's sector", err);
    if (!b->readonly && nbd_is_read_only(n->h))
        return open_failed(n, "the server lets nobody write; open it readonly", err);
    n->can_flush = nbd_can_flush(n->h) > 0;
    n->can_trim = nbd_can_trim(n->h) > 0;
    n->can_zero = nbd_can_zero(n->h) > 0;
    n->chunk = most >= 65536 ? MIN((u64)most & ~(u64)4095, CHUNK) : CHUNK;
    b->size = align_down((u64)size, BLOCK_SECTOR);
    b->alignment = best >= BLOCK_SECTOR && best <= 1 << 20 && !(best & (best - 1)) ? (u32)best : 4096;
    n->source.watch = (struct loop_fd){ .fd = nbd_aio_get_fd(n->h), .events = EPOLLIN, .ready = ready };
    n->source.expired = silent;
    if (aio_source_add(b->aio, &n->source))
        return open_failed(n, "no memory", err);
    b->priv = n;
    return 0;
}

static int nbd_end(struct block *b, struct error *err)
{
    struct nbd *n = b->priv;
    int r = b->readonly ? 0 : block_sync(b, BLOCK_FLUSH, 0, NULL, 0);

    if (r)
        error_set(err, -r, "%s: what was written last may not be on the server's disk: %s", b->path, strerror(-r));
    if (n->h) {
        aio_source_remove(b->aio, &n->source);
        nbd_aio_disconnect(n->h, 0); /* the server need not receive this message */
        nbd_close(n->h);
    }
    free(n);
    return r;
}

const struct block_driver block_nbd = {
    .name = "nbd",
    .open = nbd_open,
    .close = nbd_end,
    .submit = nbd_submit,
    .hurry = nbd_hurry,
};
