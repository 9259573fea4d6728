/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.c - an existing tap device. The kernel's header is the same as ours (TUNSETVNETHDRSZ), so packets go in and out
 * unchanged. Linux Documentation/networking/tuntap.rst, linux/if_tun.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/backend.h"

#include "base/opener.h"

enum { BATCH = 64 };

struct tap_queue {
    struct net *net;
    struct loop_fd fd;
    u32 index, pending; /* pending: bytes of a packet that the card had no room for */
    bool added, inside, wants_room;
    u8 packet[NET_HDR + NET_MAX_FRAME];
};

struct tap {
    struct tap_queue queue[NET_MAX_QUEUES];
};

static void watch(struct tap_queue *t)
{
    const u32 want = (t->pending || !t->net->user ? 0u : EPOLLIN) | (t->wants_room ? EPOLLOUT : 0u);

    if (t->added && want != t->fd.events) {
        t->net->stats.syscalls++;
        if (loop_fd_set(t->net->loop, &t->fd, want))
            net_set_link(t->net, false);
    }
}

static void receive(struct tap_queue *t)
{
    struct net *n = t->net;
    u32 count = 0;

    if (t->inside)
        return;
    t->inside = true;
    while (n->user && count < BATCH) {
        if (!t->pending) {
            const ssize_t got = read(t->fd.fd, t->packet, sizeof(t->packet));
            n->stats.syscalls++;
            if (got <= 0) {
                /* EBADFD: the device was deleted. */
                if (got < 0 && errno != EAGAIN && errno != EINTR && errno != EIO) {
                    loop_fd_remove(n->loop, &t->fd);
                    t->added = false;
                    net_set_link(n, false);
                }
                break;
            }
            t->pending = (u32)got;
        }
        if (!net_deliver(n, t->index, t->packet, t->pending))
            break;
        t->pending = 0;
        count++;
    }
    t->inside = false;
    if (count)
        net_delivered(n, t->index);
    watch(t);
}

static void ready(struct loop_fd *w, u32 events)
{
    struct tap_queue *t = container_of(w, struct tap_queue, fd);

    t->net->stats.syscalls++;
    if (events & EPOLLOUT && t->wants_room) {
        t->wants_room = false;
        net_room(t->net);
    }
    if (!t->pending)
        receive(t);
    else
        watch(t);
}

static bool tap_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct tap_queue *t = &((struct tap *)n->priv)->queue[q];
    ssize_t r;

    n->stats.syscalls++;
    do
        r = writev(t->fd.fd, iov, (int)niov);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EAGAIN) {
        t->wants_room = true;
        watch(t);
        return false;
    }
    if (r < 0)
        n->stats.tx_dropped++; /* EIO: the interface is down; EINVAL: the kernel did not accept the packet */
    return true;
}

static void tap_flush(struct net *n, u32 q) {}

static void tap_resume(struct net *n, u32 q)
{
    receive(&((struct tap *)n->priv)->queue[q]);
}

static void tap_offloads(struct net *n)
{
    struct tap *t = n->priv;
    const unsigned flags = (n->takes & NET_CSUM ? TUN_F_CSUM : 0) | (n->takes & NET_TSO4 ? TUN_F_TSO4 : 0) |
                           (n->takes & NET_TSO6 ? TUN_F_TSO6 : 0);

    /* If the kernel refuses, net.c finishes the packets that come. That is correct, only slower. */
    if (ioctl(t->queue[0].fd.fd, TUNSETOFFLOAD, flags))
        return;
}

static void tap_close(struct net *n)
{
    struct tap *t = n->priv;

    for (u32 q = 0; q < NET_MAX_QUEUES; q++) {
        if (t->queue[q].added)
            loop_fd_remove(n->loop, &t->queue[q].fd);
        if (t->queue[q].fd.fd >= 0)
            close(t->queue[q].fd.fd);
    }
    free(t);
}

static int explain(const char *name, int e, struct error *err)
{
    const struct passwd *pw = getpwuid(getuid());
    const char *user = pw ? pw->pw_name : "USER";

    if (e == ENOENT || e == ENODEV)
        return error_set(err, e,
                         "there is no such device; make it with \"sudo ip tuntap add dev %s mode tap "
                         "user %s && sudo ip link set %s up\"",
                         name, user, name);
    if (e == EPERM || e == EACCES)
        return error_set(err, e,
                         "it does not belong to you; make it yours with \"sudo ip tuntap del dev %s "
                         "mode tap; sudo ip tuntap add dev %s mode tap user %s\"",
                         name, name, user);
    if (e == EBUSY)
        return error_set(err, e, "another program uses it");
    if (e == EINVAL)
        return error_set(err, e,
                         "it is no tap device, or one of another kind: several queues need "
                         "\"ip tuntap add ... multi_queue\", and one queue a device without");
    return error_set(err, e, "%s", strerror(e));
}

static int open_queue(struct net *n, struct tap_queue *t, const struct net_spec *s, struct error *err)
{
    const int fd = opener_tap(s->name, s->config->queues > 1);
    const int header = NET_HDR;
    int little = 1;

    /* tap_open has seen that the device is there, so these are /dev/net/tun's errors. */
    if (fd == -ENOENT || fd == -ENODEV || fd == -ENXIO || fd == -EACCES)
        return error_set(err, -fd, "/dev/net/tun: %s; load it with \"sudo modprobe tun\"", strerror(-fd));
    if (fd < 0)
        return explain(s->name, -fd, err);
    t->fd.fd = fd;
    if (ioctl(t->fd.fd, TUNSETVNETHDRSZ, &header) || (ioctl(t->fd.fd, TUNSETVNETLE, &little) && errno != EINVAL))
        return error_set(err, errno, "the kernel does not take our packet header: %s", strerror(errno));
    t->fd.events = 0;
    t->fd.ready = ready;
    int r = loop_fd_add(n->loop, &t->fd);
    t->added = !r;
    return r ? error_set(err, -r, "cannot watch it: %s", strerror(-r)) : 0;
}

static int tap_open(struct net *n, const struct net_spec *s, struct error *err)
{
    struct ifreq ifr = { 0 };
    struct tap *t;
    int r = 0;

    if (strlen(s->name) >= IFNAMSIZ)
        return error_set(err, EINVAL, "a device's name has at most %d characters", IFNAMSIZ - 1);
    /* If no device of this name exists, TUNSETIFF would make one, if it may, and remove it when we end. The user did
       not ask for that. */
    if (!if_nametoindex(s->name))
        return explain(s->name, ENODEV, err);
    t = calloc(1, sizeof(*t));
    if (!t)
        return error_set(err, ENOMEM, "no memory");
    n->priv = t;
    for (u32 q = 0; q < NET_MAX_QUEUES; q++) {
        t->queue[q].net = n;
        t->queue[q].index = q;
        t->queue[q].fd.fd = -1;
    }
    for (u32 q = 0; q < s->config->queues && !r; q++)
        r = open_queue(n, &t->queue[q], s, err);
    if (r) {
        tap_close(n);
        return r;
    }
    n->queues = s->config->queues;
    strcpy(ifr.ifr_name, s->name);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !ioctl(fd, SIOCGIFMTU, &ifr) && ifr.ifr_mtu >= 68 && ifr.ifr_mtu <= 65535)
        n->mtu = (u32)ifr.ifr_mtu;
    if (fd >= 0)
        close(fd);
    tap_offloads(n);
    return 0;
}

const struct net_ops net_tap_ops = { "tap", tap_open, tap_close, tap_send, tap_flush, tap_resume, tap_offloads };
