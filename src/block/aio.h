/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio.h - shared by aio.c, uring.c, pool.c, file.c and nbd.c: how the I/O of a chain is started and how its ends are
 * noticed.
 *
 * Ends are handled on the loop thread only, in aio.c. There are three kinds: the ring's completions, work that ended on
 * a thread, and `ready` (work that ended at once). One eventfd signals all three. The loop watches the eventfd
 * edge-triggered, so nobody needs to read it there. aio_wait reads it, since poll() is not edge-triggered.
 */
#ifndef LODGE_BLOCK_AIO_H
#define LODGE_BLOCK_AIO_H

#include <pthread.h>

#include "block/internal.h"

struct uring;
struct pool;

/* A descriptor of a network connection, which is watched as well as the eventfd. */
struct aio_source {
    struct loop_fd watch; /* aio_wait calls ready() too */
    u64 deadline;         /* clock_ns() when expired() is to be called; 0: never */
    void (*expired)(struct aio_source *s);
    struct timer timer;   /* belongs to aio.c */
    struct aio_source *next;
};

struct aio {
    struct loop *loop; /* or NULL */
    struct block_hook *hook;
    struct loop_fd watch; /* the eventfd */
    struct loop_poller poller;
    struct uring *ring;   /* NULL: threads are used */
    struct pool *pool;
    struct aio_source *sources;
    u32 under_way;  /* file_io, aio_work and source requests that have not ended; drains wait until it is 0 */
    u32 submitting; /* > 0: we are within block_submit or block_kick, where no done() may be called */
    u32 reaping;    /* > 0: an end is being handled; what it makes ready is looked at afterwards */
    bool signalled; /* the eventfd was written for `ready` or `requests` */
    struct aio_work *ready, **ready_last;             /* their done() is due */
    struct block_request *requests, **requests_last;  /* ended, result in own[0] */
    u64 syscalls; /* atomic */

    pthread_mutex_t lock;
    pthread_t owner;       /* atomic: the thread of the loop */
    struct aio_ask *asked; /* under lock: reads that a worker asks this thread to do */
    bool any_asked;        /* atomic */
};

/* loop NULL: for tools. io: "uring", "threads", or NULL for the best that this host can do. */
struct aio *aio_new(struct loop *loop, struct block_hook *hook, const char *io, struct error *err);
void aio_free(struct aio *aio); /* call it when nothing is under way */
/* On the loop's thread, while nothing is under way. attach gives an aio without a loop one, detach takes it away;
   after that, another thread may have the aio. */
int must_check aio_attach(struct aio *aio, struct loop *loop);
void aio_detach(struct aio *aio);
void aio_ready(struct aio *aio, struct aio_work *w); /* the loop calls its done(); the caller has counted it in
                                                        under_way */
void aio_request_done(struct aio *aio, struct block_request *rq, int result);
bool aio_reap(struct aio *aio); /* handles what has ended; false: nothing had ended */
void aio_signal(struct aio *aio); /* any thread: makes the loop look again */
static inline void aio_count(struct aio *aio, u32 n) { __atomic_fetch_add(&aio->syscalls, n, __ATOMIC_RELAXED); }

int must_check aio_source_add(struct aio *aio, struct aio_source *s);
int must_check aio_source_set(struct aio *aio, struct aio_source *s, u32 events);
void aio_source_deadline(struct aio *aio, struct aio_source *s, u64 deadline);
void aio_source_remove(struct aio *aio, struct aio_source *s);

/* Reads from a block whose driver cannot read on another thread. It is called on a worker and done on the loop
   thread. */
int aio_ask_read(struct aio *aio, struct block *b, u64 offset, void *buf, u64 len);

/* uring.c */
struct uring *uring_new(struct aio *aio, int eventfd); /* NULL with errno: the kernel or a sandbox refuses */
void uring_free(struct uring *u);
void uring_submit(struct uring *u, struct file_io *io, int fd); /* fills in a submission; waits for room if necessary */
void uring_kick(struct uring *u);
bool uring_reap(struct uring *u); /* handles one completion; false: there is none */
bool uring_ended(struct uring *u); /* true if there is one, or if the kernel would produce one when asked */

/* pool.c: makes threads when there is work, up to AIO_WORKERS; they end with the pool */
struct pool *pool_new(struct aio *aio);
void pool_free(struct pool *p);
void pool_add(struct pool *p, struct aio_work *w);
bool pool_any_ended(const struct pool *p);
struct aio_work *pool_ended(struct pool *p); /* all that has ended since the last call, in order; or NULL */

/* file.c */
void file_io_completed(struct file_io *io, int result); /* the ring calls it: bytes moved or -errno */

#endif
