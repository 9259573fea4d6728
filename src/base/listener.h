/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - a listening socket on the loop.  Where a knock cannot be answered for want of descriptors or memory, it
 * rests a moment: the knock stays, and the loop would do nothing but to look at it.  Loop thread.
 */
#ifndef LODGE_BASE_LISTENER_H
#define LODGE_BASE_LISTENER_H

#include "base/loop.h"

struct listener {
    struct loop_fd watch; /* fd -1: none */
    struct loop *loop;
    struct timer again;
    bool paused;
};

/* fd listens and stays the caller's to close, after listener_remove; knock() is to call listener_accept. */
int must_check listener_add(struct listener *s, struct loop *l, int fd, void (*knock)(struct loop_fd *watch, u32 events));
/* accept4(): a descriptor, close on exec, or -1: nobody is there, or it rests. */
int listener_accept(struct listener *s, int flags);
/* Who knocks waits in the queue of the socket, until it is watched again. 0 or -errno. */
int must_check listener_pause(struct listener *s);
int must_check listener_resume(struct listener *s);
void listener_remove(struct listener *s);

#endif
