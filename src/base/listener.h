/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - a listening socket on the loop. If descriptors or memory run out, a connection (a knock) cannot be
 * accepted. The listener then rests for a moment, because the knock stays and the loop would do nothing but look at it.
 * Loop thread.
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

/* fd is a listening socket. The caller owns it and closes it after listener_remove. knock() is to call
   listener_accept. */
int must_check listener_add(struct listener *s, struct loop *l, int fd, void (*knock)(struct loop_fd *watch, u32 events));
/* As accept4(): a descriptor, close on exec, or -1: nobody is there, or the listener rests. */
int listener_accept(struct listener *s, int flags);
/* New connections wait in the queue of the socket until the listener watches it again. 0 or -errno. */
int must_check listener_pause(struct listener *s);
int must_check listener_resume(struct listener *s);
void listener_remove(struct listener *s);

#endif
