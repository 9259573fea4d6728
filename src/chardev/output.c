/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.c - the ring between the code that has bytes and the thread that may wait for their reader.
 */
#include "chardev/output.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "base/signals.h"

enum { RING = 64 * 1024, GIVE_UP_S = 2 };

struct output {
    struct loop *loop;
    void (*room)(void *ctx);
    void *ctx;
    const char *name; /* for the one line about a failed write; or NULL */
    pthread_t thread;

    pthread_mutex_t lock; /* guards the members below; not held while writing */
    pthread_cond_t change;
    u8 ring[RING];
    u64 head, tail; /* bytes ever taken and ever written: head - tail <= RING */
    int fd;
    bool writing, closing, short_of_room, failed, stuck;
};

/* This signal interrupts a blocking write to a stuck reader. Its handler does nothing. */
static void interrupt(int sig)
{
    (void)sig;
}

static void write_some(struct output *o)
{
    size_t at = o->tail % RING, n = MIN(o->head - o->tail, RING - at);
    int fd = o->fd;

    o->writing = true;
    pthread_mutex_unlock(&o->lock);
    ssize_t w = fd < 0 ? (ssize_t)n : write(fd, o->ring + at, MIN(n, 4096));
    int e = errno;
    pthread_mutex_lock(&o->lock);
    o->writing = false;
    if (w < 0 && e != EINTR && e != EAGAIN) {
        if (!o->failed && fd == o->fd && o->name)
            log_warn("%s: %s; what the guest writes there is lost", o->name, strerror(e));
        o->failed = true;
        o->fd = -1;
    }
    /* output_set_fd may have emptied the ring meanwhile. */
    if (w > 0 && o->fd == fd)
        o->tail += MIN((u64)w, o->head - o->tail);
    pthread_cond_broadcast(&o->change);
}

static void wait_a_little(struct output *o)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    pthread_cond_clockwait(&o->change, &o->lock, CLOCK_MONOTONIC, &until);
}

static void *pump(void *arg)
{
    struct output *o = arg;

    sandbox_thread(SANDBOX_OUTPUT);
    pthread_mutex_lock(&o->lock);
    while (!o->stuck) {
        if (o->short_of_room && o->head - o->tail <= RING / 2 && o->room)
            o->short_of_room = loop_post(o->loop, o->room, o->ctx); /* no memory: it tries again, below */
        if (o->head != o->tail)
            write_some(o);
        else if (o->closing)
            break;
        else if (o->short_of_room && o->room)
            wait_a_little(o);
        else
            pthread_cond_wait(&o->change, &o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

struct output *output_new(struct loop *loop, void (*room)(void *ctx), void *ctx, const char *name)
{
    struct output *o = calloc(1, sizeof(*o));
    pthread_condattr_t attr;
    sigset_t urgent, old;

    if (!o)
        return NULL;
    *o = (struct output){ .loop = loop, .room = room, .ctx = ctx, .name = name, .fd = -1 };
    pthread_mutex_init(&o->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&o->change, &attr);
    pthread_condattr_destroy(&attr);

    /* There is no SA_RESTART, because the write must return. SIGURG is used because it is ignored by default: a
       stray one does no harm. */
    struct sigaction sa = { .sa_handler = interrupt };
    sigaction(SIGURG, &sa, NULL);
    signals_block(&old);
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask(SIG_UNBLOCK, &urgent, NULL);
    int e = pthread_create(&o->thread, NULL, pump, o);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        pthread_cond_destroy(&o->change);
        pthread_mutex_destroy(&o->lock);
        free(o);
        errno = e;
        return NULL;
    }
    return o;
}

void output_set_fd(struct output *o, int fd)
{
    pthread_mutex_lock(&o->lock);
    o->fd = fd;
    o->failed = false;
    o->tail = o->head;
    while (o->writing) {
        struct timespec t;
        pthread_kill(o->thread, SIGURG);
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += 10000000; /* a signal just before the write began is lost: send another */
        if (t.tv_nsec >= 1000000000) {
            t.tv_nsec -= 1000000000;
            t.tv_sec++;
        }
        pthread_cond_timedwait(&o->change, &o->lock, &t);
    }
    pthread_mutex_unlock(&o->lock);
}

size_t output_write(struct output *o, const u8 *buf, size_t len)
{
    pthread_mutex_lock(&o->lock);
    bool idle = o->head == o->tail;
    size_t n = MIN(len, RING - (size_t)(o->head - o->tail)), at = o->head % RING, first = MIN(n, RING - at);
    memcpy(o->ring + at, buf, first);
    memcpy(o->ring, buf + first, n - first);
    o->head += n;
    if (n < len)
        o->short_of_room = true;
    if (idle && n)
        pthread_cond_broadcast(&o->change);
    pthread_mutex_unlock(&o->lock);
    return n;
}

void output_close(struct output *o)
{
    u64 last, now;

    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    o->room = NULL;
    o->closing = true;
    pthread_cond_broadcast(&o->change);
    last = o->tail;
    now = clock_ns();
    while (o->head != o->tail) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += GIVE_UP_S;
        pthread_cond_timedwait(&o->change, &o->lock, &t);
        if (o->tail != last) {
            last = o->tail;
            now = clock_ns();
        } else if (clock_ns() - now >= GIVE_UP_S * 1000000000ull) {
            break;
        }
    }
    if (o->head != o->tail) {
        if (o->name)
            log_warn("%s takes no output; %llu bytes are lost", o->name, (unsigned long long)(o->head - o->tail));
        o->stuck = true;
        pthread_mutex_unlock(&o->lock);
        output_set_fd(o, -1);
        pthread_mutex_lock(&o->lock);
    }
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    pthread_cond_destroy(&o->change);
    pthread_mutex_destroy(&o->lock);
    free(o);
}
