/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.h - the I/O thread of a VM. File descriptors, timers and posted calls are all served by the one thread that is
 * inside loop_run().
 *
 * Any thread: loop_post, loop_kick, loop_stop, timer_arm, timer_disarm, clock_ns. Loop thread (or before loop_run): the
 * rest.
 */
#ifndef LODGE_BASE_LOOP_H
#define LODGE_BASE_LOOP_H

#include "base/base.h"

struct loop;

/* CLOCK_MONOTONIC in nanoseconds: the clock of every timer. */
u64 clock_ns(void);

struct loop *loop_new(void); /* NULL with errno set */
void loop_free(struct loop *l);
int must_check loop_run(struct loop *l); /* runs until loop_stop; returns 0 or -errno */
void loop_stop(struct loop *l);

/* Calls fn(arg) once on the loop thread, in order of posting. 0 or -ENOMEM. */
int loop_post(struct loop *l, void (*fn)(void *arg), void *arg);

/*
 * A call that is requested again and again, embedded by its owner. After a kick, fn runs on the loop thread. It runs
 * once for all kicks since it last began. A kick takes no lock and no memory. It makes a system call only if the loop
 * sleeps.
 */
struct loop_kick {
    struct loop *loop;
    void (*fn)(struct loop_kick *k);
    struct loop_kick *next; /* private */
    bool pending;           /* private */
};
void loop_kick_init(struct loop_kick *k, struct loop *l, void (*fn)(struct loop_kick *k));
void loop_kick(struct loop_kick *k);
void loop_kick_remove(struct loop_kick *k); /* call it on the loop thread, when nobody kicks it any more */

/*
 * For a thread that may not go on before the loop thread has done something. loop_wait returns in two cases. Either
 * loop_done was called for this flag, or the loop thread itself is about to wait for such threads and has called
 * loop_let_go. After loop_let_go nobody waits until loop_hold. A thread that was let go still owes the rest of its
 * wait: it calls loop_wait_again before it does anything but stopping. The waiting thread holds no lock. The flag
 * outlives the waiting thread. Any thread.
 */
void loop_wait(struct loop *l, const bool *done);
void loop_wait_again(struct loop *l); /* does nothing if this thread owes nothing */
void loop_done(struct loop *l, bool *done); /* sets *done */
void loop_let_go(struct loop *l);
void loop_hold(struct loop *l);

/* A watched descriptor, embedded by its owner. events: EPOLLIN | EPOLLOUT, level-triggered. */
struct loop_fd {
    int fd;
    u32 events;
    void (*ready)(struct loop_fd *w, u32 events);
};
int must_check loop_fd_add(struct loop *l, struct loop_fd *w); /* w->events may be 0 */
int must_check loop_fd_set(struct loop *l, struct loop_fd *w, u32 events);
void loop_fd_remove(struct loop *l, struct loop_fd *w);

/*
 * A source of events that can be seen in memory, embedded by its owner. After loop_expect the loop does not sleep at
 * once. It first looks for events and kicks for a while, as long as that pays (spin.h), which saves a wake-up. poll
 * handles what there is and says whether there was any. An event that poll overlooks must also come by a descriptor.
 */
struct loop_poller {
    bool (*poll)(struct loop_poller *p);
    struct loop_poller *next; /* private */
};
void loop_poller_add(struct loop *l, struct loop_poller *p);
void loop_poller_remove(struct loop *l, struct loop_poller *p);
/* Something has begun or ended, and more comes soon after it. Do not call this for an event that needs the processor
   in order to come, such as one from another process of ours that wants to run. */
void loop_expect(struct loop *l);

/*
 * A one-shot timer, embedded by its owner. fire() runs on the loop thread with no lock held, so the owner takes its own
 * lock. The owner must accept a stale call: one that was already under way when another thread disarmed the timer. To
 * detect it, the owner compares with the deadline it meant. Re-arming replaces the deadline.
 */
struct timer {
    struct loop *loop;
    void (*fire)(struct timer *t);
    u64 deadline; /* ns of clock_ns(); valid while armed */
    u32 slot;     /* private */
    bool armed;   /* private */
};
void timer_init(struct timer *t, struct loop *l, void (*fire)(struct timer *t));
void timer_arm(struct timer *t, u64 deadline_ns);
void timer_disarm(struct timer *t);

#endif
