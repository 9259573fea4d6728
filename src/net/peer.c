/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c - a network in a process of its own, seen from the VM: "user" and "switch".
 */
#include "net/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "base/pass.h"

enum { BATCH = 256, ANSWER_MS = 10000 };

struct peer {
    struct net *net;
    int sock; /* reports the end of the process */
    struct child child;
    struct link link;
    struct loop_fd bell, control;
    bool bell_added, control_added;
    bool stuck;      /* the card had no room */
    bool wants_room; /* net_send refused a packet */
    bool inside;     /* we are in receive_batch: a resume during it is only noted */
};

/* ---- messages ---- */

int peer_receive_hello(int sock, struct peer_hello *h)
{
    int fds[3], n = pass_receive(sock, h, sizeof(*h), fds, 3);

    for (int i = 0; i < n; i++)
        close(fds[i]);
    if (n < 0)
        return n;
    return n || h->magic != PEER_MAGIC || h->version != PEER_VERSION ? -EPROTO : 0;
}

int peer_send_answer(int sock, const struct peer_answer *a, const int fds[3])
{
    return pass_send(sock, a, sizeof(*a), fds, fds ? 3 : 0, MSG_DONTWAIT);
}

/* ---- packets ---- */

static void receive_batch(struct peer *p)
{
    struct net *n = p->net;
    struct link *l = &p->link;
    const u8 *packet;
    u32 len, count = 0;

    if (p->inside || !n->user)
        return;
    p->inside = true;
    p->stuck = false;
    do {
        while (!p->stuck && count < BATCH && (packet = link_next(l, &len))) {
            if (net_deliver(n, 0, packet, len)) {
                link_pop(l);
                count++;
            } else {
                p->stuck = true;
            }
        }
    } while (!p->stuck && count < BATCH && !link_wait(l));
    if (count)
        net_delivered(n, 0);
    link_kick(l);
    if (count == BATCH && !p->stuck) { /* others have their turn first: our own bell brings us back */
        const u64 one = 1;
        ssize_t r = write(l->bell_in, &one, sizeof(one));
        (void)r;
        l->syscalls++;
    }
    p->inside = false;
    n->stats.syscalls = l->syscalls;
}

static void gone(struct peer *p)
{
    struct net *n = p->net;

    log_warn("%s: its process has ended%s; the cable is out until this machine is started again", n->name,
             p->link.broken ? " or sent nonsense" : "");
    if (p->bell_added)
        loop_fd_remove(n->loop, &p->bell);
    if (p->control_added)
        loop_fd_remove(n->loop, &p->control);
    p->bell_added = p->control_added = false;
    p->link.broken = true;
    net_set_link(n, false);
    net_room(n); /* packets that waited are now dropped */
}

/* The loop watches the bell for edges, so nobody needs to read it. */
static void bell(struct loop_fd *w, u32 events)
{
    struct peer *p = container_of(w, struct peer, bell);

    p->link.syscalls++; /* counts the loop's epoll_wait */
    if (!p->stuck)
        receive_batch(p);
    if (p->wants_room && !p->link.broken && link_free(&p->link) >= p->link.out.size / 2) {
        p->wants_room = false;
        net_room(p->net);
    }
    if (p->link.broken)
        gone(p);
}

static void control(struct loop_fd *w, u32 events)
{
    gone(container_of(w, struct peer, control));
}

static bool peer_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct peer *p = n->priv;
    struct link *l = &p->link;
    u8 *to = link_room(l, (u32)len);

    if (!to && !l->broken) {
        p->wants_room = true;
        link_kick(l);
        if (link_wait_room(l, (u32)len))
            return l->broken;
        p->wants_room = false;
        to = link_room(l, (u32)len);
    }
    if (!to) {
        n->stats.tx_dropped++;
        return true;
    }
    for (u32 i = 0, at = 0; i < niov && at < len; i++) {
        const size_t part = MIN(iov[i].iov_len, len - at);
        memcpy(to + at, iov[i].iov_base, part);
        at += (u32)part;
    }
    link_put(l, (u32)len);
    return true;
}

static void peer_flush(struct net *n, u32 q)
{
    struct peer *p = n->priv;

    link_kick(&p->link);
    n->stats.syscalls = p->link.syscalls;
}

static void peer_resume(struct net *n, u32 q)
{
    receive_batch(n->priv);
}

static void peer_offloads(struct net *n)
{
    struct peer *p = n->priv;

    if (p->link.shared)
        __atomic_store_n(&p->link.shared->takes, n->takes, __ATOMIC_RELEASE);
}

/* ---- beginning and end ---- */

static void peer_close(struct net *n)
{
    struct peer *p = n->priv;

    if (p->bell_added)
        loop_fd_remove(n->loop, &p->bell);
    if (p->control_added)
        loop_fd_remove(n->loop, &p->control);
    if (p->sock >= 0)
        close(p->sock); /* ends the process */
    link_close(&p->link);
    child_end(&p->child);
    free(p);
}

static int agree(struct peer *p, const struct peer_hello *h, struct error *err)
{
    struct peer_answer a;
    struct timeval limit = { .tv_sec = ANSWER_MS / 1000 }, never = { 0 };
    int fds[3], r;

    setsockopt(p->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (send(p->sock, h, sizeof(*h), MSG_NOSIGNAL) != (ssize_t)sizeof(*h))
        return -errno;
    r = pass_receive(p->sock, &a, sizeof(a), fds, 3);
    setsockopt(p->sock, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof(never));
    if (r == 3 && a.magic == PEER_MAGIC && !a.result) {
        r = link_attach(&p->link, fds);
        memcpy(p->net->mac, a.mac, 6);
        memcpy(p->net->port, a.port, sizeof(a.port));
        a.err.text[sizeof(a.err.text) - 1] = 0;
        if (a.err.text[0]) {
            struct error e;
            error_set(&e, 0, "%s: %s", p->net->name, a.err.text);
            log_warn("%s", e.text);
        }
        return r ? error_set(err, -r, "%s: its memory cannot be mapped: %s", p->net->name, strerror(-r)) : 0;
    }
    for (int i = 0; i < r; i++)
        close(fds[i]);
    if (!r && a.magic == PEER_MAGIC && a.result < 0) {
        a.err.text[sizeof(a.err.text) - 1] = 0;
        return error_set(err, -a.result, "%s: %s", p->net->name, a.err.text);
    }
    return r < 0 ? r : -EPROTO;
}

static struct peer *peer_new(struct net *n, struct error *err)
{
    struct peer *p = calloc(1, sizeof(*p));

    if (!p) {
        error_set(err, ENOMEM, "no memory");
        return NULL;
    }
    p->net = n;
    p->sock = -1;
    p->child.says = -1;
    p->link = (struct link){ .memfd = -1, .bell_in = -1, .bell_out = -1 };
    n->priv = p;
    return p;
}

static int watch(struct peer *p, struct error *err)
{
    struct net *n = p->net;

    p->bell = (struct loop_fd){ p->link.bell_in, EPOLLIN | EPOLLET, bell };
    p->control = (struct loop_fd){ p->sock, EPOLLIN | EPOLLRDHUP, control };
    int r = loop_fd_add(n->loop, &p->bell);
    p->bell_added = !r;
    if (!r)
        r = loop_fd_add(n->loop, &p->control);
    p->control_added = p->bell_added && !r;
    n->dropped = &p->link.shared->dropped;
    return r ? error_set(err, -r, "%s: cannot watch it: %s", n->name, strerror(-r)) : 0;
}

static int user_open(struct net *n, const struct net_spec *spec, struct error *err)
{
    char *argv[] = { (char *)"lodge", (char *)"netd", (char *)"user", NULL, NULL };
    struct peer_hello h;
    struct peer *p = peer_new(n, err);
    int pair[2], r;

    if (!p)
        return -ENOMEM;
    memset(&h, 0, sizeof(h));
    h.magic = PEER_MAGIC;
    h.version = PEER_VERSION;
    memcpy(h.mac, n->mac, 6);
    r = user_options(&h.user, spec->config, err);
    if (r)
        goto fail;
    argv[3] = h.user.tftp[0] ? h.user.tftp : NULL;
    n->mtu = h.user.mtu;
    n->nports = h.user.nforwards;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        r = error_set(err, errno, "%s: cannot make a socket: %s", n->name, strerror(errno));
        goto fail;
    }
    p->sock = pair[0];
    r = child_start(&p->child, argv, &pair[1], 1);
    close(pair[1]);
    if (r) {
        error_set(err, -r, "%s: cannot start its process: %s", n->name, strerror(-r));
        goto fail;
    }
    err->text[0] = 0;
    r = agree(p, &h, err);
    if (r && !err->text[0])
        error_set(err, -r, "%s: its process did not start: %s", n->name, strerror(-r));
    if (!r)
        r = watch(p, err);
    if (!r && (r = child_listen(&p->child, n->loop, n->name)))
        error_set(err, -r, "%s: cannot watch it: %s", n->name, strerror(-r));
    if (!r)
        return 0;
fail:
    peer_close(n);
    return r;
}

const struct net_ops net_user_ops = {
    "user", user_open, peer_close, peer_send, peer_flush, peer_resume, peer_offloads
};

/* Starts a switch, because nobody listens yet. Its first process ends when it listens, or when another process
   listens, or after it has said why it cannot. */
static int start_switch(const char *name, struct error *err)
{
    char *const argv[] = { (char *)"lodge", (char *)"netd", (char *)"switch", (char *)(uintptr_t)name, NULL };
    struct child c;
    int r = child_start(&c, argv, NULL, 0);

    if (!r)
        r = child_last_words(&c, err);
    else
        error_set(err, -r, "switch:%s: cannot start its process: %s", name, strerror(-r));
    return r;
}

static int switch_open(struct net *n, const struct net_spec *spec, struct error *err)
{
    struct peer_hello h;
    struct peer *p = peer_new(n, err);
    int r = -EPROTO;

    if (!p)
        return -ENOMEM;
    memset(&h, 0, sizeof(h));
    h.magic = PEER_MAGIC;
    h.version = PEER_VERSION;
    h.mac_fixed = spec->has_mac;
    memcpy(h.mac, n->mac, 6);
    /* We may meet a switch that is just ending more than once, but not often. */
    for (int try = 0; try < 10; try++) {
        err->text[0] = 0;
        p->sock = switch_connect(spec->name, err);
        if (!err->text[0] && (p->sock == -ECONNREFUSED || p->sock == -ENOENT)) {
            r = start_switch(spec->name, err);
            if (r)
                break;
            p->sock = switch_connect(spec->name, err);
        }
        r = p->sock;
        if (p->sock >= 0) {
            r = agree(p, &h, err);
            if (!r && !(r = watch(p, err)))
                return 0;
            close(p->sock);
            p->sock = -1;
        }
        if (err->text[0] || (r != -ECONNRESET && r != -ECONNREFUSED && r != -EPIPE && r != -ENOENT))
            break;
    }
    if (!err->text[0])
        error_set(err, -r, "%s: cannot reach the switch: %s", n->name, strerror(-r));
    peer_close(n);
    return r < 0 ? r : -EPROTO;
}

const struct net_ops net_switch_ops = { "switch",   switch_open, peer_close,   peer_send,
                                        peer_flush, peer_resume, peer_offloads };
