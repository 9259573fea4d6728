/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - threads for work that may wait, since the loop may not wait.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "base/signals.h"
#include "block/aio.h"

struct pool {
    struct aio *aio;
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t work;
    pthread_t threads[AIO_WORKERS];
    u32 nthreads, idle, nqueued;
    struct aio_work *queue, **queue_last;
    struct aio_work *ended, **ended_last;
    bool any; /* atomic: something ended; it saves taking the lock just to see that nothing has ended */
    bool quit;
};

static struct aio_work *take(struct pool *p)
{
    struct aio_work *w = p->queue;

    p->queue = w->next;
    if (!p->queue)
        p->queue_last = &p->queue;
    p->nqueued--;
    return w;
}

/* True: the caller has to tell the loop. */
static bool put_ended(struct pool *p, struct aio_work *w)
{
    bool first = !p->ended;

    w->next = NULL;
    *p->ended_last = w;
    p->ended_last = &w->next;
    __atomic_store_n(&p->any, true, __ATOMIC_RELAXED);
    return first;
}

static void *worker(void *arg)
{
    struct pool *p = arg;

    prctl(PR_SET_NAME, "block");
    sandbox_thread(SANDBOX_BLOCK);
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->queue && !p->quit) {
            p->idle++;
            pthread_cond_wait(&p->work, &p->lock);
            p->idle--;
        }
        if (!p->queue)
            break;
        struct aio_work *w = take(p);
        pthread_mutex_unlock(&p->lock);
        w->run(w);
        pthread_mutex_lock(&p->lock);
        bool first = put_ended(p, w);
        if (first) {
            pthread_mutex_unlock(&p->lock);
            aio_signal(p->aio);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void start_thread(struct pool *p)
{
    sigset_t old;

    signals_block(&old);
    int e = pthread_create(&p->threads[p->nthreads], NULL, worker, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!e)
        p->nthreads++;
    else if (!p->nthreads)
        log_warn("no thread for disk I/O: %s; it is done on the loop's, which makes the machine wait", strerror(e));
}

void pool_add(struct pool *p, struct aio_work *w)
{
    pthread_mutex_lock(&p->lock);
    w->next = NULL;
    *p->queue_last = w;
    p->queue_last = &w->next;
    p->nqueued++;
    if (p->idle >= p->nqueued)
        pthread_cond_signal(&p->work);
    else if (p->nthreads < AIO_WORKERS)
        start_thread(p);
    else if (p->idle)
        pthread_cond_signal(&p->work);
    bool none = !p->nthreads;
    if (none)
        take(p);
    pthread_mutex_unlock(&p->lock);
    if (none) {
        w->run(w);
        pthread_mutex_lock(&p->lock);
        put_ended(p, w);
        pthread_mutex_unlock(&p->lock);
        aio_signal(p->aio);
    }
}

bool pool_any_ended(const struct pool *p)
{
    return __atomic_load_n(&p->any, __ATOMIC_RELAXED); /* the thread that sets it signals afterwards */
}

struct aio_work *pool_ended(struct pool *p)
{
    if (!pool_any_ended(p))
        return NULL;
    pthread_mutex_lock(&p->lock);
    __atomic_store_n(&p->any, false, __ATOMIC_RELAXED);
    struct aio_work *w = p->ended;
    p->ended = NULL;
    p->ended_last = &p->ended;
    pthread_mutex_unlock(&p->lock);
    return w;
}

struct pool *pool_new(struct aio *aio)
{
    struct pool *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->aio = aio;
    p->queue_last = &p->queue;
    p->ended_last = &p->ended;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (u32 i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
