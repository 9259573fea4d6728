/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_vsock_socket.c - the host's end: connections, and the unix sockets that they are. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtio/virtio_vsock_private.h"

/* ---- connections -------------------------------------------------------- */

static void on_socket(struct loop_fd *w, u32 events);

struct connection *vsock_find(struct virtio_vsock *s, u32 host_port, u32 guest_port)
{
    for (struct connection *c = s->first; c; c = c->next)
        if (c->state != GREET && c->state != DRAINING && c->state != DEAD && c->host_port == host_port && c->guest_port == guest_port)
            return c;
    return NULL;
}

struct connection *vsock_connection_new(struct virtio_vsock *s, int fd)
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

void vsock_connection_free(struct connection *c)
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
void vsock_rotate(struct virtio_vsock *s, struct connection *c)
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

void vsock_drop_all(struct virtio_vsock *s)
{
    while (s->first)
        vsock_connection_free(s->first);
    s->norphans = 0;
}

/* The unix socket is gone or useless: the guest hears RST. On the loop's thread. */
void vsock_fail(struct connection *c)
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

u32 vsock_credit(const struct connection *c)
{
    const u32 used = c->sent - c->peer_fwd;
    return c->peer_alloc > used ? c->peer_alloc - used : 0;
}

/* May its data go to the guest? */
bool vsock_flows(const struct connection *c)
{
    return c->state == OPEN && !c->eof && vsock_credit(c) && !(c->shut_heard & SHUTDOWN_RCV);
}

/* Watched only for what can be acted on: epoll would go on telling of a socket that was hung up. */
void vsock_watch(struct connection *c)
{
    u32 events = 0;
    if (c->state == GREET || (vsock_flows(c) && !c->readable))
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
            vsock_connection_free(c);
            return;
        }
        c->greeting[c->greeted++] = b;
        if (b != '\n')
            continue;
        c->greeting[c->greeted - 1] = 0;
        const bool form = !strncmp(c->greeting, "CONNECT ", 8) && c->greeting[8] >= '0' && c->greeting[8] <= '9';
        const unsigned long port = form ? strtoul(c->greeting + 8, &end, 10) : 0;
        if (!form || *end || port > UINT32_MAX - 1 || !virtio_live(&s->dev)) {
            vsock_connection_free(c);
            return;
        }
        do {
            c->host_port = s->next_port++;
            if (s->next_port < FIRST_HOST_PORT || s->next_port == UINT32_MAX)
                s->next_port = FIRST_HOST_PORT;
        } while (vsock_find(s, c->host_port, (u32)port));
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
        vsock_flush(c);
    else if (c->state == ASKED && (events & (EPOLLHUP | EPOLLERR)))
        vsock_fail(c);
    vsock_serve(s);
    pthread_mutex_unlock(&s->dev.lock);
}

static void on_listener(struct loop_fd *w, u32 events)
{
    struct virtio_vsock *s = container_of(w, struct virtio_vsock, listener.watch);
    const int fd = listener_accept(&s->listener, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    pthread_mutex_lock(&s->dev.lock);
    (void)vsock_connection_new(s, fd);
    pthread_mutex_unlock(&s->dev.lock);
}

int vsock_listen_on(struct virtio_vsock *s, const char *path, struct error *err)
{
    if (strlen(path) > MAX_PATH)
        return error_set(err, EINVAL, "%s: the path of a socket has at most %d bytes here", path,
                         MAX_PATH);
    int r = unix_socket_listen(&s->sock, OPENER_VSOCK, "", path, err);
    if (!r && (r = listener_add(&s->listener, s->dev.loop, s->sock.fd, on_listener)))
        error_set(err, -r, "%s: %s", path, strerror(-r));
    return r;
}
