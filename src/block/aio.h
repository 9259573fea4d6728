/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio.h - between aio.c, uring.c, pool.c, file.c and nbd.c: how I/O of a chain gets out and its ends come in.
 *
 * Ends come in on the loop thread only, in aio.c: the ring's completions, work that ended on a thread, and `ready`,
 * what ended at once. One eventfd tells of all three; the loop watches it edge-triggered, so nobody reads it (aio_wait
 * does, since poll() is not).
 */
#ifndef LODGE_BLOCK_AIO_H
#define LODGE_BLOCK_AIO_H

#include <pthread.h>

#include "block/internal.h"

struct uring;
struct pool;

/* A descriptor of a network connection, beside the eventfd. */
struct aio_source {
    struct loop_fd watch; /* ready() is called by aio_wait too */
    u64 deadline;         /* clock_ns() when expired() is to be called; 0: never */
    void (*expired)(struct aio_source *s);
    struct timer timer;   /* aio.c's */
    struct aio_source *next;
};

struct aio {
    struct loop *loop; /* or NULL */
    struct block_hook *hook;
    struct loop_fd watch; /* the eventfd */
    struct loop_poller poller;
    struct uring *ring;   /* NULL: threads */
    struct pool *pool;
    struct aio_source *sources;
    u32 under_way;  /* file_io, aio_work and source requests that have not ended; drains wait for 0 */
    u32 submitting; /* > 0: within block_submit or block_kick, where no done() may be called */
    u32 reaping;    /* > 0: an end is being handled; what it makes ready is looked at after it */
    bool signalled; /* the eventfd was written for `ready` or `requests` */
    struct aio_work *ready, **ready_last;             /* their done() is due */
    struct block_request *requests, **requests_last;  /* ended, result in own[0] */
    u64 syscalls; /* atomic */

    pthread_mutex_t lock;
    pthread_t owner;       /* atomic: the loop's thread */
    struct aio_ask *asked; /* under lock: reads that a worker wants done here */
    bool any_asked;        /* atomic */
};

/* loop NULL: for tools. io: "uring", "threads" or NULL for what this host can. */
struct aio *aio_new(struct loop *loop, struct block_hook *hook, const char *io, struct error *err);
void aio_free(struct aio *aio); /* nothing is under way */
/* On the loop's thread, while nothing is under way: from no loop to one, and back; then another thread may have it. */
int must_check aio_attach(struct aio *aio, struct loop *loop);
void aio_detach(struct aio *aio);
void aio_ready(struct aio *aio, struct aio_work *w); /* its done() is called from the loop; counted in under_way by caller */
void aio_request_done(struct aio *aio, struct block_request *rq, int result);
bool aio_reap(struct aio *aio); /* handles what has ended; false: nothing had */
void aio_signal(struct aio *aio); /* any thread: the loop comes around */
static inline void aio_count(struct aio *aio, u32 n) { __atomic_fetch_add(&aio->syscalls, n, __ATOMIC_RELAXED); }

int must_check aio_source_add(struct aio *aio, struct aio_source *s);
int must_check aio_source_set(struct aio *aio, struct aio_source *s, u32 events);
void aio_source_deadline(struct aio *aio, struct aio_source *s, u64 deadline);
void aio_source_remove(struct aio *aio, struct aio_source *s);

/* Reads from a block whose driver cannot do so on another thread; called on a worker, done on the loop thread. */
int aio_ask_read(struct aio *aio, struct block *b, u64 offset, void *buf, u64 len);

/* uring.c */
struct uring *uring_new(struct aio *aio, int eventfd); /* NULL with errno: the kernel or a sandbox refuses */
void uring_free(struct uring *u);
void uring_submit(struct uring *u, struct file_io *io, int fd); /* fills in a submission; waits for room if need be */
void uring_kick(struct uring *u);
bool uring_reap(struct uring *u); /* handles one completion; false: there is none */
bool uring_ended(struct uring *u); /* is there one, or would the kernel, if asked, bring one forth? */

/* pool.c: threads are made when there is work, up to AIO_WORKERS, and end with the pool */
struct pool *pool_new(struct aio *aio);
void pool_free(struct pool *p);
void pool_add(struct pool *p, struct aio_work *w);
bool pool_any_ended(const struct pool *p);
struct aio_work *pool_ended(struct pool *p); /* all that has ended since, in order; or NULL */

/* file.c */
void file_io_completed(struct file_io *io, int result); /* by the ring: bytes moved or -errno */

#endif
