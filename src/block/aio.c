/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio.c - how I/O of a chain ends: completions of the ring, work of the threads, connections. It also waits for them.
 */
#include "block/aio.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/patience.h"

struct aio_ask {
    struct block_request rq;
    struct iovec iov;
    struct block *block;
    struct aio_ask *next;
    pthread_cond_t ended;
    bool over;
    int result;
};

void aio_signal(struct aio *aio)
{
    u64 one = 1;
    ssize_t n = write(aio->watch.fd, &one, sizeof(one));

    (void)n; /* it cannot be full */
    aio_count(aio, 1);
}

/* For something that this thread made ready. While an end is handled, the loop sees it without a signal. */
static void signal_ready(struct aio *aio)
{
    if (aio->reaping || aio->signalled)
        return;
    aio->signalled = true;
    aio_signal(aio);
}

void aio_ready(struct aio *aio, struct aio_work *w)
{
    w->next = NULL;
    *aio->ready_last = w;
    aio->ready_last = &w->next;
    signal_ready(aio);
}

void aio_request_done(struct aio *aio, struct block_request *rq, int result)
{
    rq->own[0] = (u64)(s64)result;
    rq->next = NULL;
    *aio->requests_last = rq;
    aio->requests_last = &rq->next;
    signal_ready(aio);
}

void aio_work(struct aio *aio, struct aio_work *w)
{
    aio->under_way++;
    if (w->run)
        pool_add(aio->pool, w);
    else
        aio_ready(aio, w);
}

void aio_kick(struct aio *aio)
{
    if (aio->ring)
        uring_kick(aio->ring);
    if (aio->under_way && aio->loop)
        loop_expect(aio->loop);
}

/* ---- questions of workers ---- */

static void ask_done(struct block_request *rq, int result)
{
    struct aio_ask *a = container_of(rq, struct aio_ask, rq);
    struct aio *aio = a->block->aio;

    pthread_mutex_lock(&aio->lock);
    a->result = result;
    a->over = true;
    pthread_cond_signal(&a->ended);
    pthread_mutex_unlock(&aio->lock);
}

int aio_ask_read(struct aio *aio, struct block *b, u64 offset, void *buf, u64 len)
{
    struct aio_ask a = { .iov = { buf, len }, .block = b };

    a.rq = (struct block_request){
        .op = BLOCK_READ, .offset = offset, .len = len, .iov = &a.iov, .niov = 1, .done = ask_done
    };
    pthread_cond_init(&a.ended, NULL);
    pthread_mutex_lock(&aio->lock);
    a.next = aio->asked;
    aio->asked = &a;
    __atomic_store_n(&aio->any_asked, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&aio->lock);
    aio_signal(aio);
    pthread_mutex_lock(&aio->lock);
    while (!a.over)
        pthread_cond_wait(&a.ended, &aio->lock);
    pthread_mutex_unlock(&aio->lock);
    pthread_cond_destroy(&a.ended);
    return a.result;
}

static bool answer(struct aio *aio)
{
    if (!__atomic_load_n(&aio->any_asked, __ATOMIC_RELAXED))
        return false;
    pthread_mutex_lock(&aio->lock);
    struct aio_ask *a = aio->asked;
    aio->asked = NULL;
    __atomic_store_n(&aio->any_asked, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&aio->lock);
    for (struct aio_ask *next; a; a = next) {
        next = a->next; /* a may end within block_submit */
        block_submit(a->block, &a->rq);
    }
    return true;
}

/* ---- the ends ---- */

/* Takes one at a time off the lists, because a done() may come back here through block_drain. */
static bool reap_one(struct aio *aio)
{
    struct aio_work *w = aio->ready;

    if (w) {
        aio->ready = w->next;
        if (!aio->ready)
            aio->ready_last = &aio->ready;
        aio->under_way--;
        w->done(w);
        return true;
    }
    struct block_request *rq = aio->requests;
    if (rq) {
        aio->requests = rq->next;
        if (!aio->requests)
            aio->requests_last = &aio->requests;
        int result = (int)(s64)rq->own[0];
        rq->block->under_way--;
        rq->done(rq, result);
        return true;
    }
    if (aio->ring && uring_reap(aio->ring))
        return true;
    w = pool_ended(aio->pool);
    if (w) {
        *aio->ready_last = w;
        while (w->next)
            w = w->next;
        aio->ready_last = &w->next;
        return true;
    }
    return answer(aio);
}

bool aio_reap(struct aio *aio)
{
    enum { AT_ONCE = 1024 }; /* after this many, others on the loop have their turn */
    u32 n = 0;

    __atomic_store_n(&aio->owner, pthread_self(), __ATOMIC_RELAXED);
    aio->signalled = false;
    aio->reaping++;
    while (n < AT_ONCE && reap_one(aio))
        n++;
    aio->reaping--;
    if (n && aio->loop)
        loop_expect(aio->loop);
    if (n)
        aio_kick(aio); /* for the requests that the done()s submitted */
    if (n == AT_ONCE)
        aio_signal(aio);
    return n;
}

static void event(struct loop_fd *w, u32 events)
{
    aio_reap(container_of(w, struct aio, watch));
}

static bool look(struct loop_poller *p)
{
    struct aio *aio = container_of(p, struct aio, poller);

    return ((aio->ring && uring_ended(aio->ring)) || pool_any_ended(aio->pool)) && aio_reap(aio);
}

void aio_wait(struct aio *aio)
{
    struct pollfd p[1 + 8] = { { .fd = aio->watch.fd, .events = POLLIN } };
    struct aio_source *sources[8];
    u32 n = 0;
    u64 first = UINT64_MAX, count;

    aio_kick(aio);
    if (aio_reap(aio) || !aio->under_way)
        return;
    for (struct aio_source *s = aio->sources; s && n < ARRAY_SIZE(sources); s = s->next) {
        p[1 + n] = (struct pollfd){ .fd = s->watch.fd, .events = (short)s->watch.events }; /* EPOLLIN is POLLIN */
        sources[n++] = s;
        if (s->deadline)
            first = MIN(first, s->deadline);
    }
    int timeout = -1;
    if (first != UINT64_MAX) {
        u64 now = clock_ns();
        timeout = first <= now ? 0 : (int)MIN((first - now) / 1000000 + 1, 1000000);
    }
    if (n && patience_limited())
        timeout = timeout < 0 ? 100 : MIN(timeout, 100);
    int r = poll(p, 1 + n, timeout);
    aio_count(aio, 1);
    if (r > 0 && p[0].revents) {
        ssize_t got = read(aio->watch.fd, &count, sizeof(count));
        (void)got;
        aio_count(aio, 1);
    }
    const bool over = n && patience_over();
    for (u32 i = 0; i < n; i++) {
        bool there = false;
        for (struct aio_source *s = aio->sources; s; s = s->next) /* one may have been removed meanwhile */
            there |= s == sources[i];
        if (there && r > 0 && p[1 + i].revents)
            sources[i]->watch.ready(&sources[i]->watch, (u32)p[1 + i].revents);
        else if (there && (over || (sources[i]->deadline && sources[i]->deadline <= clock_ns())))
            sources[i]->expired(sources[i]);
    }
    aio_reap(aio);
}

/* ---- connections ---- */

static void source_timer(struct timer *t)
{
    struct aio_source *s = container_of(t, struct aio_source, timer);

    if (s->deadline && s->deadline <= clock_ns())
        s->expired(s);
}

int aio_source_add(struct aio *aio, struct aio_source *s)
{
    int r = aio->loop ? loop_fd_add(aio->loop, &s->watch) : 0;

    if (r)
        return r;
    if (aio->loop)
        timer_init(&s->timer, aio->loop, source_timer);
    s->next = aio->sources;
    aio->sources = s;
    return 0;
}

int aio_source_set(struct aio *aio, struct aio_source *s, u32 events)
{
    if (s->watch.events == events)
        return 0;
    if (aio->loop) {
        aio_count(aio, 1);
        return loop_fd_set(aio->loop, &s->watch, events);
    }
    s->watch.events = events;
    return 0;
}

void aio_source_deadline(struct aio *aio, struct aio_source *s, u64 deadline)
{
    s->deadline = deadline;
    if (aio->loop && deadline)
        timer_arm(&s->timer, deadline);
    else if (aio->loop)
        timer_disarm(&s->timer);
}

void aio_source_remove(struct aio *aio, struct aio_source *s)
{
    struct aio_source **p = &aio->sources;

    while (*p && *p != s)
        p = &(*p)->next;
    if (!*p)
        return;
    *p = s->next;
    if (aio->loop) {
        timer_disarm(&s->timer);
        loop_fd_remove(aio->loop, &s->watch);
    }
}

/* ---- life ---- */

struct aio *aio_new(struct loop *loop, struct block_hook *hook, const char *io, struct error *err)
{
    struct aio *aio = calloc(1, sizeof(*aio));

    if (!aio)
        goto no_memory;
    if (io && strcmp(io, "uring") && strcmp(io, "threads")) {
        error_set(err, EINVAL, "LODGE_BLOCK_IO=%s: it is uring or threads", io);
        free(aio);
        return NULL;
    }
    aio->owner = pthread_self();
    aio->loop = loop;
    aio->hook = hook;
    aio->ready_last = &aio->ready;
    aio->requests_last = &aio->requests;
    pthread_mutex_init(&aio->lock, NULL);
    aio->watch = (struct loop_fd){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN | EPOLLET,
                                   .ready = event };
    aio->pool = pool_new(aio);
    if (aio->watch.fd < 0 || !aio->pool)
        goto no_memory;
    if (!io || !strcmp(io, "uring")) {
        aio->ring = uring_new(aio, aio->watch.fd);
        if (!aio->ring && io) {
            error_set(err, errno, "io_uring cannot be used here: %s; leave out LODGE_BLOCK_IO=uring", strerror(errno));
            goto fail;
        }
        if (!aio->ring)
            log_debug("disks: io_uring cannot be used (%s): by threads", strerror(errno));
    }
    if (loop && loop_fd_add(loop, &aio->watch))
        goto no_memory;
    aio->poller.poll = look;
    if (loop)
        loop_poller_add(loop, &aio->poller);
    return aio;

no_memory:
    error_set(err, ENOMEM, "no memory or descriptors for disk I/O");
fail:
    if (aio) {
        aio->loop = NULL;
        aio_free(aio);
    }
    return NULL;
}

int aio_attach(struct aio *aio, struct loop *loop)
{
    int r = loop_fd_add(loop, &aio->watch);

    if (r)
        return r;
    for (struct aio_source *s = aio->sources; s; s = s->next) {
        if ((r = loop_fd_add(loop, &s->watch))) {
            for (struct aio_source *added = aio->sources; added != s; added = added->next)
                loop_fd_remove(loop, &added->watch);
            loop_fd_remove(loop, &aio->watch);
            return r;
        }
    }
    aio->loop = loop;
    loop_poller_add(loop, &aio->poller);
    for (struct aio_source *s = aio->sources; s; s = s->next) {
        timer_init(&s->timer, loop, source_timer);
        aio_source_deadline(aio, s, s->deadline);
    }
    return 0;
}

void aio_detach(struct aio *aio)
{
    loop_poller_remove(aio->loop, &aio->poller);
    loop_fd_remove(aio->loop, &aio->watch);
    for (struct aio_source *s = aio->sources; s; s = s->next) {
        timer_disarm(&s->timer);
        loop_fd_remove(aio->loop, &s->watch);
    }
    aio->loop = NULL;
}

void aio_free(struct aio *aio)
{
    if (!aio)
        return;
    if (aio->loop)
        aio_detach(aio);
    uring_free(aio->ring);
    pool_free(aio->pool);
    if (aio->watch.fd >= 0)
        close(aio->watch.fd);
    pthread_mutex_destroy(&aio->lock);
    free(aio);
}
