/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user.c - the process behind "user": libslirp between the ring and the host's sockets.
 *
 * It has one thread and one poll. It always takes what a guest sends, so that a guest that does not receive cannot make
 * it stuck. It reads host sockets only while the ring has room for the packets that result.
 */
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "net/peer.h"
#include "net/user_files.h"
#include "net/user_frame.h"

enum {
    BATCH = 64,        /* packets from the guest, after which it looks at the sockets again */
    ROOM = 192 * 1024, /* bytes that must be free in the ring before a socket is read: libslirp takes up to 128 KiB
                          at once */
    SMALL = 2048,      /* bytes; every SYN is as small as this */
    MAX_POLL = 4096,
    MAX_TIMERS = 4,
    PORT_TRIES = 16,
};

struct user_timer {
    SlirpTimerCb fn;
    void *arg;
    SlirpTimerId id;
    bool used, by_id, armed;
    s64 expires; /* ms */
};

struct user {
    Slirp *slirp;
    struct link link;
    struct user_frames frames;
    struct user_timer timer[MAX_TIMERS];
    struct pollfd poll[MAX_POLL];
    u32 npoll;
    u8 frame[SMALL]; /* a frame from the guest, or its first bytes */
};

/* ---- functions that libslirp calls ---- */

static void emit(void *ctx, const u8 *hdr, const u8 *frame, u32 len)
{
    struct user *u = ctx;
    u8 *to = link_room(&u->link, NET_HDR + len);

    if (!to) {
        /* With the ring full, only answers to what the guest sends come here. TCP sends them again. */
        __atomic_add_fetch(&u->link.shared->dropped, 1, __ATOMIC_RELAXED);
        return;
    }
    memcpy(to, hdr, NET_HDR);
    memcpy(to + NET_HDR, frame, len);
    link_put(&u->link, NET_HDR + len);
}

static u32 takes(const struct user *u)
{
    return __atomic_load_n(&u->link.shared->takes, __ATOMIC_ACQUIRE);
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
    struct user *u = opaque;

    if (u->link.shared)
        /* The buffer is a packet of libslirp's own, which it frees after this call. */
        user_frame_down(&u->frames, (u8 *)(uintptr_t)buf, (u32)MIN(len, (size_t)UINT32_MAX), takes(u), emit, u);
    return (ssize_t)len;
}

static void guest_error(const char *msg, void *opaque) {}

static int64_t now_ns(void *opaque)
{
    return (int64_t)clock_ns();
}

static struct user_timer *timer_get(struct user *u)
{
    for (u32 i = 0; i < MAX_TIMERS; i++) {
        if (!u->timer[i].used) {
            u->timer[i] = (struct user_timer){ .used = true };
            return &u->timer[i];
        }
    }
    abort(); /* libslirp uses only one */
}

static void *timer_new(SlirpTimerCb fn, void *arg, void *opaque)
{
    struct user_timer *t = timer_get(opaque);

    t->fn = fn;
    t->arg = arg;
    return t;
}

static void *timer_new_opaque(SlirpTimerId id, void *arg, void *opaque)
{
    struct user_timer *t = timer_get(opaque);

    t->by_id = true;
    t->id = id;
    t->arg = arg;
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    ((struct user_timer *)timer)->used = false;
}

static void timer_mod(void *timer, int64_t expires, void *opaque)
{
    struct user_timer *t = timer;

    t->armed = true;
    t->expires = expires;
}

static void no_fd(int fd, void *opaque) {}

static void no_notify(void *opaque) {}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = now_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = no_fd,
    .unregister_poll_fd = no_fd,
    .notify = no_notify,
    .timer_new_opaque = timer_new_opaque,
};

static void run_timers(struct user *u)
{
    const s64 now = (s64)(clock_ns() / 1000000);

    for (u32 i = 0; i < MAX_TIMERS; i++) {
        struct user_timer *t = &u->timer[i];
        if (!t->used || !t->armed || t->expires > now)
            continue;
        t->armed = false;
        if (t->by_id)
            slirp_handle_timer(u->slirp, t->id, t->arg);
        else
            t->fn(t->arg);
    }
}

static int add_poll(int fd, int events, void *opaque)
{
    struct user *u = opaque;

    if (u->npoll == MAX_POLL)
        return -1;
    u->poll[u->npoll] = (struct pollfd){
        .fd = fd,
        .events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                          (events & SLIRP_POLL_PRI ? POLLPRI : 0)),
    };
    return (int)u->npoll++;
}

static int get_revents(int i, void *opaque)
{
    struct user *u = opaque;

    if (i < 0)
        return 0;
    const int r = u->poll[i].revents;
    /* Without room in the ring, data waits in its socket until later. */
    if (link_free(&u->link) < ROOM)
        return r & POLLOUT ? SLIRP_POLL_OUT : 0;
    return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) | (r & POLLPRI ? SLIRP_POLL_PRI : 0) |
           (r & POLLERR ? SLIRP_POLL_ERR : 0) | (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* ---- forwarded ports ---- */

/* Finds the one socket that was not there before, and returns the port that it really has. */
static u16 new_port(struct user *u, u32 before, const struct pollfd *old)
{
    uint32_t timeout = UINT32_MAX;
    u16 port = 0;

    u->npoll = 0;
    slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
    for (u32 i = 0; i < u->npoll; i++) {
        struct sockaddr_in6 a;
        socklen_t n = sizeof(a);
        bool known = false;
        for (u32 k = 0; k < before; k++)
            known |= old[k].fd == u->poll[i].fd;
        /* sin_port and sin6_port are at the same place. */
        if (!known && !getsockname(u->poll[i].fd, (struct sockaddr *)&a, &n))
            port = ntohs(a.sin6_port);
    }
    return port;
}

static int forward(struct user *u, const struct user_forward *f, u16 *port, struct error *err)
{
    struct pollfd old[NET_MAX_FORWARDS];
    const socklen_t len = f->host.any.sa_family == AF_INET6 ? sizeof(f->host.in6) : sizeof(f->host.in);
    const u32 before = u->npoll;

    memcpy(old, u->poll, before * sizeof(old[0]));
    errno = 0;
    if (!slirp_add_hostxfwd(u->slirp, &f->host.any, len, &f->guest.any, len,
                            (f->udp ? SLIRP_HOSTFWD_UDP : 0) |
                                (len == sizeof(f->host.in6) ? SLIRP_HOSTFWD_V6ONLY : 0))) {
        *port = new_port(u, before, old);
        return 0;
    }
    const int e = errno ? errno : EIO;
    const u32 want = ntohs(f->host.in.sin_port);
    const char *kind = f->udp ? "udp" : "tcp";
    if (e == EADDRINUSE)
        return error_set(err, e,
                         "hostfwd: %s port %u of this host is in use; choose another, or 0 for any that is free", kind,
                         want);
    if (e == EACCES)
        return error_set(err, e, "hostfwd: %s port %u needs privileges; choose one from 1024 on", kind, want);
    if (e == EADDRNOTAVAIL)
        return error_set(err, e, "hostfwd: this host has no such address for %s port %u", kind, want);
    return error_set(err, e, "hostfwd: cannot listen on %s port %u: %s", kind, want, strerror(e));
}

/* ---- the process ---- */

static int start(struct user *u, const struct peer_hello *h, int keeper, struct peer_answer *a)
{
    const struct user_config *c = &h->user;
    SlirpConfig cfg = {
        .version = 4,
        .restricted = c->restricted,
        .in_enabled = true,
        .vnetwork = c->net,
        .vnetmask = c->mask,
        .vhost = c->gateway,
        .vnameserver = c->dns,
        .vdhcp_start = c->dhcp,
        .in6_enabled = c->ipv6,
        .vprefix_len = 64,
        .vhostname = c->hostname[0] ? c->hostname : NULL,
        .tftp_path = c->tftp[0] ? c->tftp : NULL,
        .bootfile = c->bootfile[0] ? c->bootfile : NULL,
        .if_mtu = 65521, /* user_frame.c */
        .if_mru = 65521,
    };
    static const u8 prefix[16] = { 0xfe, 0xc0 };

    if (c->nforwards > NET_MAX_FORWARDS || c->mtu < 576 || c->mtu > 65521 ||
        !memchr(c->hostname, 0, sizeof(c->hostname)) || !memchr(c->bootfile, 0, sizeof(c->bootfile)))
        return error_set(&a->err, EINVAL, "a configuration that makes no sense");
    memcpy(&cfg.vprefix_addr6, prefix, 16);
    memcpy(&cfg.vhost6, prefix, 16);
    memcpy(&cfg.vnameserver6, prefix, 16);
    cfg.vhost6.s6_addr[15] = 2;
    cfg.vnameserver6.s6_addr[15] = 3;
    u->frames.mtu = c->mtu;
    u->slirp = slirp_new(&cfg, &callbacks, u);
    if (!u->slirp)
        return error_set(&a->err, EINVAL, "libslirp %s does not take this configuration", slirp_version_string());
    for (u32 i = 0; i < c->nforwards; i++) {
        int r = forward(u, &c->forward[i], &a->port[i], &a->err);
        if (r)
            return r;
    }
    int r = link_create(&u->link, RING_SIZE);
    if (r)
        return error_set(&a->err, -r, "cannot make its memory: %s", strerror(-r));
    return user_files_sandbox(keeper, cfg.tftp_path, &a->err);
}

/* Takes up to one batch of packets from the guest. A large packet stays where it is until libslirp has copied it. */
static void take(struct user *u)
{
    struct virtio_net_hdr_v1 hdr;
    const u8 *p;
    struct frame f;
    u32 len;

    for (u32 i = 0; i < BATCH && (p = link_next(&u->link, &len)); i++, link_pop(&u->link)) {
        u8 *data = u->frame;
        len -= NET_HDR;
        memcpy(&hdr, p, NET_HDR);
        memcpy(u->frame, p + NET_HDR, MIN(len, (u32)SMALL));
        if (frame_check(&f, &hdr, u->frame, len)) {
            __atomic_add_fetch(&u->link.shared->dropped, 1, __ATOMIC_RELAXED);
            continue;
        }
        if (len > SMALL)
            data = (u8 *)(uintptr_t)p + NET_HDR;
        user_frame_sum(&f, data);
        if (len <= SMALL)
            user_frame_syn(&u->frames, data, len);
        slirp_input(u->slirp, data, (int)len);
    }
}

static void serve(struct user *u, int sock)
{
    while (!u->link.broken) {
        uint32_t timeout = UINT32_MAX;
        bool bell;
        u64 n;

        take(u);
        u->poll[0] = (struct pollfd){ .fd = sock, .events = POLLIN };
        u->poll[1] = (struct pollfd){ .fd = u->link.bell_in, .events = POLLIN };
        u->npoll = 2;
        slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
        if (link_free(&u->link) < ROOM && link_wait_room(&u->link, ROOM))
            /* A socket that is ready must not turn this into a busy loop. When there is room, the bell rings. */
            for (u32 i = 2; i < u->npoll; i++)
                if (!(u->poll[i].events &= POLLOUT))
                    u->poll[i].fd = -1;
        link_kick(&u->link);
        for (u32 i = 0; i < MAX_TIMERS; i++) {
            const s64 left = u->timer[i].expires - (s64)(clock_ns() / 1000000);
            if (u->timer[i].used && u->timer[i].armed)
                timeout = (uint32_t)MIN(MAX(left, 0), (s64)timeout);
        }
        if (!link_wait(&u->link))
            timeout = 0;
        const int r = poll(u->poll, u->npoll, timeout > INT32_MAX ? -1 : (int)timeout);
        if (r < 0 && errno != EINTR)
            return;
        if (r > 0 && u->poll[0].revents)
            return; /* the VM has ended */
        bell = r > 0 && u->poll[1].revents;
        if (bell && read(u->link.bell_in, &n, sizeof(n)) < 0 && errno != EAGAIN)
            return;
        run_timers(u);
        slirp_pollfds_poll(u->slirp, r < 0, get_revents, u);
    }
}

int user_process(int sock, const char *tftp)
{
    struct user *u = calloc(1, sizeof(*u));
    struct peer_hello h;
    struct peer_answer a = { .magic = PEER_MAGIC };
    int fds[3], status = 1, keeper;

    if (!u || peer_receive_hello(sock, &h) || !memchr(h.user.tftp, 0, sizeof(h.user.tftp)) ||
        strcmp(h.user.tftp, tftp)) /* the machine may be in a guest's hands; who started us is not */
        goto out;
    memcpy(a.mac, h.mac, 6);
    u->link.memfd = u->link.bell_in = u->link.bell_out = -1;
    keeper = user_files_begin(h.user.tftp);
    a.result = keeper < 0 ? error_set(&a.err, -keeper, "cannot start its process: %s", strerror(-keeper))
                          : start(u, &h, keeper, &a);
    if (!a.result)
        link_fds(&u->link, fds);
    if (!peer_send_answer(sock, &a, a.result ? NULL : fds) && !a.result) {
        serve(u, sock);
        status = 0;
    }
    if (u->slirp)
        slirp_cleanup(u->slirp);
    link_close(&u->link);
out:
    free(u);
    return status;
}
