/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch_process.c - the process behind "switch:NAME": VMs come and go, and it ends with the last of them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/listener.h"
#include "base/sandbox.h"
#include "net/peer.h"
#include "net/switch.h"
#include "net/switch_socket.h"

enum { DOWN = 4096 * 1024 }; /* bytes that the TCP window of one sender may bring at once */

#define HELLO_NS (10 * 1000000000ull) /* a client must say what it wants within this time, and the first client must
                                         come within it */

struct client {
    struct process *process;
    struct switch_port *port;
    struct loop_fd sock, bell; /* sock.fd -1: free; bell.fd is the link's */
    struct timer timer;        /* limits the time until the hello */
};

struct process {
    struct loop *loop;
    struct switch_ sw;
    struct client client[SWITCH_PORTS];
    struct listener listener;
    struct timer idle;
    uid_t uid; /* read before the sandbox is entered */
    struct error missing; /* what the sandbox lacks on this host; each machine is told */
    u32 clients, admitted;
    bool full; /* the listener is paused */
};

static void leave(struct client *c)
{
    struct process *p = c->process;

    timer_disarm(&c->timer);
    loop_fd_remove(p->loop, &c->sock);
    close(c->sock.fd);
    c->sock.fd = -1;
    p->clients--;
    if (c->port->used) {
        c->port->used = false;
        loop_fd_remove(p->loop, &c->bell);
        link_close(&c->port->link);
        if (!--p->admitted)
            loop_stop(p->loop);
    }
    if (p->full && !listener_resume(&p->listener))
        p->full = false;
}

static void bell(struct loop_fd *w, u32 events)
{
    struct client *c = container_of(w, struct client, bell);
    struct link *l = &c->port->link;
    const u64 one = 1;

    /* The bell is watched for edges and not read. A port that has more to send waits behind the others. */
    if (switch_forward(&c->process->sw, c->port) || !link_wait(l)) {
        const ssize_t n = write(l->bell_in, &one, sizeof(one));
        (void)n;
    }
    if (l->broken)
        leave(c);
}

static int assign(struct process *p, const struct peer_hello *h, struct switch_port *port, struct error *err)
{
    memcpy(port->mac, h->mac, 6);
    if (h->mac_fixed && (h->mac[0] & 1))
        return error_set(err, EINVAL, "the address is not one of a card");
    if (h->mac_fixed && switch_has(&p->sw, port->mac))
        return error_set(err, EADDRINUSE,
                         "another machine on this switch has the address %02x:%02x:%02x:%02x:%02x:%02x; "
                         "give another with mac=, or none",
                         h->mac[0], h->mac[1], h->mac[2], h->mac[3], h->mac[4], h->mac[5]);
    while ((port->mac[0] & 1) || switch_has(&p->sw, port->mac)) {
        if (getrandom(port->mac, 6, 0) != 6)
            return error_set(err, EIO, "no random bytes for an address");
        port->mac[0] = (u8)((port->mac[0] & 0xfc) | 2);
    }
    return 0;
}

static int admit(struct client *c, const struct peer_hello *h, struct peer_answer *a)
{
    struct process *p = c->process;
    struct switch_port *port = c->port;
    int fds[3], r = assign(p, h, port, &a->err);

    if (r)
        return r;
    r = link_create(&port->link, DOWN);
    if (r)
        return error_set(&a->err, -r, "the switch has no memory for another machine: %s", strerror(-r));
    link_fds(&port->link, fds);
    memcpy(a->mac, port->mac, 6);
    a->err = p->missing;
    c->bell = (struct loop_fd){ port->link.bell_in, EPOLLIN | EPOLLET, bell };
    r = loop_fd_add(p->loop, &c->bell);
    if (r)
        error_set(&a->err, -r, "the switch cannot watch another machine: %s", strerror(-r));
    else if ((r = peer_send_answer(c->sock.fd, a, fds)))
        loop_fd_remove(p->loop, &c->bell);
    if (r) {
        link_close(&port->link);
        return r;
    }
    port->used = true;
    p->admitted++;
    timer_disarm(&c->timer);
    return 0;
}

static void heard(struct loop_fd *w, u32 events)
{
    struct client *c = container_of(w, struct client, sock);
    struct peer_answer a = { .magic = PEER_MAGIC };
    struct peer_hello h;
    int r;

    if (c->port->used) { /* nothing more is to be said here, so this is the end of the connection */
        leave(c);
        return;
    }
    r = peer_receive_hello(c->sock.fd, &h);
    if (r == -EAGAIN)
        return;
    if (!r) {
        a.result = admit(c, &h, &a);
        if (!a.result)
            return;
        if (peer_send_answer(c->sock.fd, &a, NULL))
            a.result = 0; /* the client has left already */
    }
    leave(c);
}

static void too_late(struct timer *t)
{
    struct client *c = container_of(t, struct client, timer);

    if (c->sock.fd >= 0 && !c->port->used)
        leave(c);
}

static void nobody(struct timer *t)
{
    struct process *p = container_of(t, struct process, idle);

    if (!p->admitted)
        loop_stop(p->loop);
}

static void knock(struct loop_fd *w, u32 events)
{
    struct process *p = container_of(w, struct process, listener.watch);
    struct ucred peer;
    socklen_t len = sizeof(peer);
    struct client *c = NULL;

    for (u32 i = 0; i < SWITCH_PORTS && !c; i++)
        if (p->client[i].sock.fd < 0)
            c = &p->client[i];
    if (!c) { /* clients wait in the queue until one leaves */
        p->full = !listener_pause(&p->listener);
        return;
    }
    const int fd = listener_accept(&p->listener, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    c->sock = (struct loop_fd){ fd, EPOLLIN | EPOLLRDHUP, heard };
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.uid != p->uid || loop_fd_add(p->loop, &c->sock)) {
        close(fd);
        c->sock.fd = -1;
        return;
    }
    p->clients++;
    timer_arm(&c->timer, clock_ns() + HELLO_NS);
}

int switch_process(int listener)
{
    struct process *p = calloc(1, sizeof(*p));
    int r;

    if (!p || !(p->loop = loop_new()))
        return 1;
    for (u32 i = 0; i < SWITCH_PORTS; i++) {
        p->client[i].process = p;
        p->client[i].port = &p->sw.port[i];
        p->client[i].sock.fd = -1;
        p->sw.port[i].link = (struct link){ .memfd = -1, .bell_in = -1, .bell_out = -1 };
        timer_init(&p->client[i].timer, p->loop, too_late);
    }
    p->uid = geteuid();
    r = listen(listener, SWITCH_BACKLOG); /* listen once more: SO_PEERCRED names the process that did it, and that
                                             was our parent */
    timer_init(&p->idle, p->loop, nobody);
    timer_arm(&p->idle, clock_ns() + HELLO_NS);
    if (!r)
        r = listener_add(&p->listener, p->loop, listener, knock);
    if (!r)
        r = sandbox_enter(SANDBOX_SWITCH, NULL, NULL, &p->missing);
    if (!r)
        r = loop_run(p->loop);
    return r != 0; /* a client that still comes finds the connection closed, or nobody, and tries again */
}
