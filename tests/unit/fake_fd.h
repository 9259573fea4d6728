/* SPDX-License-Identifier: Apache-2.0 */
/* fake_fd.h - the descriptors of base/loop.h for programs with fake_loop.h: looked at when the test says so. */
#ifndef LODGE_TEST_FAKE_FD_H
#define LODGE_TEST_FAKE_FD_H

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>

#include "fake_loop.h"

enum { FAKE_FDS = 2048 };
static struct loop_fd *fake_fd[FAKE_FDS];
static u32 fake_fds;

int loop_fd_add(struct loop *l, struct loop_fd *w)
{
    for (u32 i = 0; i < fake_fds; i++)
        if (fake_fd[i] == w || fake_fd[i]->fd == w->fd)
            return -EEXIST;
    if (fake_fds == FAKE_FDS)
        return -ENOSPC;
    fake_fd[fake_fds++] = w;
    return 0;
}

int loop_fd_set(struct loop *l, struct loop_fd *w, u32 events)
{
    for (u32 i = 0; i < fake_fds; i++)
        if (fake_fd[i] == w) {
            w->events = events;
            return 0;
        }
    return -ENOENT;
}

void loop_fd_remove(struct loop *l, struct loop_fd *w)
{
    for (u32 i = 0; i < fake_fds; i++)
        if (fake_fd[i] == w)
            fake_fd[i] = fake_fd[--fake_fds];
}

/* One look at each; returns how many had something. */
static inline u32 fake_poll(void)
{
    static struct pollfd p[FAKE_FDS];
    static struct loop_fd *w[FAKE_FDS];
    const u32 n = fake_fds;
    u32 had = 0;
    for (u32 i = 0; i < n; i++) {
        w[i] = fake_fd[i];
        p[i] = (struct pollfd){ w[i]->fd, (short)w[i]->events, 0 };
    }
    if (poll(p, n, 0) <= 0)
        return 0;
    for (u32 i = 0; i < n; i++)
        for (u32 k = 0; p[i].revents && k < fake_fds; k++)
            if (fake_fd[k] == w[i] && w[i]->fd == p[i].fd) { /* still there */
                w[i]->ready(w[i], (u32)p[i].revents);
                had++;
                break;
            }
    return had;
}

#endif
