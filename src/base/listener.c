/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.c - see listener.h.
 */
#include "base/listener.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { REST_NS = 100 * 1000000 };

static void rested(struct timer *t)
{
    struct listener *s = container_of(t, struct listener, again);

    if (!s->paused && loop_fd_set(s->loop, &s->watch, EPOLLIN))
        timer_arm(t, clock_ns() + REST_NS);
}

int listener_add(struct listener *s, struct loop *l, int fd, void (*knock)(struct loop_fd *watch, u32 events))
{
    *s = (struct listener){ .watch = { fd, EPOLLIN, knock }, .loop = l };
    timer_init(&s->again, l, rested);
    return loop_fd_add(l, &s->watch);
}

int listener_accept(struct listener *s, int flags)
{
    const int fd = accept4(s->watch.fd, NULL, NULL, flags | SOCK_CLOEXEC);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) &&
        !loop_fd_set(s->loop, &s->watch, 0))
        timer_arm(&s->again, clock_ns() + REST_NS);
    return fd;
}

int listener_pause(struct listener *s)
{
    s->paused = true;
    return loop_fd_set(s->loop, &s->watch, 0);
}

int listener_resume(struct listener *s)
{
    s->paused = false;
    return loop_fd_set(s->loop, &s->watch, EPOLLIN);
}

void listener_remove(struct listener *s)
{
    timer_disarm(&s->again);
    loop_fd_remove(s->loop, &s->watch);
}
