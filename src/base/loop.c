/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop.c - epoll for descriptors, a binary heap of timers with one timerfd for the earliest of them, and an eventfd
 * that wakes the thread.
 *
 * One lock guards the heap, the posted calls and the flag `asleep`. While the loop is awake, nobody has to wake it or
 * program the timerfd, because it looks at everything again before it sleeps. While it sleeps, arming a timer costs a
 * system call only if the new deadline is earlier than the one that the timerfd is set to. This matters because guests
 * re-arm their timers far more often than the timers fire.
 *
 * Kicks need no lock: each is pushed on a list that the loop takes as a whole. The thread that finds `asleep` set, and
 * is the one that clears it, wakes the loop. The loop sets the flag before it looks at the list for the last time.
 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/spin.h"

enum { MAX_EVENTS = 16, MAX_ALWAYS = 16 };

#define NEVER UINT64_MAX

struct post {
    struct post *next;
    void (*fn)(void *arg);
    void *arg;
};

struct loop {
    int epoll, wake, timerfd;
    /* Descriptors that epoll cannot watch because they never block (files, /dev/null): always ready. Loop thread. */
    struct loop_fd *always[MAX_ALWAYS];
    u32 nalways;
    /* What epoll returned and the loop has not dispatched yet. An entry is cleared when its descriptor is removed. */
    struct epoll_event events[MAX_EVENTS];
    int nevents;
    struct loop_kick *kicked;  /* atomic: newest first */
    struct loop_kick *running; /* taken from kicked, still to be called */
    bool asleep;               /* atomic; set under the lock */
    struct loop_poller *pollers;
    struct spin spin;
    bool expecting;

    pthread_mutex_t lock; /* guards the rest */
    struct timer **heap;  /* earliest deadline first; heap[i]->slot == i */
    u32 ntimers, cap;
    u64 programmed; /* what the timerfd is set to, or NEVER */
    struct post *first, **last;
    bool stop;
    pthread_cond_t done; /* wakes threads in loop_wait */
    bool let_go;
};

u64 clock_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* ---- the heap ---- */

static void heap_put(struct loop *l, u32 i, struct timer *t)
{
    l->heap[i] = t;
    t->slot = i;
}

static void heap_sift(struct loop *l, u32 i)
{
    struct timer *t = l->heap[i];

    while (i > 0 && l->heap[(i - 1) / 2]->deadline > t->deadline) {
        heap_put(l, i, l->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        u32 child = 2 * i + 1;
        if (child >= l->ntimers)
            break;
        if (child + 1 < l->ntimers && l->heap[child + 1]->deadline < l->heap[child]->deadline)
            child++;
        if (l->heap[child]->deadline >= t->deadline)
            break;
        heap_put(l, i, l->heap[child]);
        i = child;
    }
    heap_put(l, i, t);
}

static void heap_remove(struct loop *l, struct timer *t)
{
    u32 i = t->slot;

    t->armed = false;
    if (i != --l->ntimers) {
        heap_put(l, i, l->heap[l->ntimers]);
        heap_sift(l, i);
    }
}

static void program(struct loop *l, u64 deadline)
{
    struct itimerspec when = { 0 };

    if (deadline != NEVER) {
        u64 ns = MAX(deadline, 1); /* zero would switch the timerfd off */
        when.it_value.tv_sec = (time_t)(ns / 1000000000);
        when.it_value.tv_nsec = (long)(ns % 1000000000);
    }
    timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &when, NULL);
    l->programmed = deadline;
}

void timer_init(struct timer *t, struct loop *l, void (*fire)(struct timer *t))
{
    memset(t, 0, sizeof(*t));
    t->loop = l;
    t->fire = fire;
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
    struct loop *l = t->loop;

    deadline_ns = MIN(deadline_ns, (u64)INT64_MAX); /* centuries, and the most that a timerfd can hold */
    pthread_mutex_lock(&l->lock);
    t->deadline = deadline_ns;
    if (!t->armed) {
        if (l->ntimers == l->cap) {
            u32 cap = l->cap * 2;
            struct timer **heap = realloc(l->heap, cap * sizeof(struct timer *));
            if (!heap)
                abort(); /* no machine has this many timers, and a machine without its timers cannot go on */
            l->heap = heap;
            l->cap = cap;
        }
        t->armed = true;
        heap_put(l, l->ntimers++, t);
    }
    heap_sift(l, t->slot);
    if (__atomic_load_n(&l->asleep, __ATOMIC_SEQ_CST) && deadline_ns < l->programmed)
        program(l, deadline_ns);
    pthread_mutex_unlock(&l->lock);
}

void timer_disarm(struct timer *t)
{
    struct loop *l = t->loop;

    pthread_mutex_lock(&l->lock);
    if (t->armed)
        heap_remove(l, t);
    pthread_mutex_unlock(&l->lock);
}

static void run_timers(struct loop *l)
{
    u64 now = clock_ns();

    pthread_mutex_lock(&l->lock);
    while (l->ntimers && l->heap[0]->deadline <= now) {
        struct timer *t = l->heap[0];
        heap_remove(l, t);
        pthread_mutex_unlock(&l->lock);
        t->fire(t);
        pthread_mutex_lock(&l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- posted calls ---- */

static void wake(struct loop *l)
{
    u64 one = 1;

    if (!__atomic_load_n(&l->asleep, __ATOMIC_SEQ_CST) || !__atomic_exchange_n(&l->asleep, false, __ATOMIC_SEQ_CST))
        return;
    ssize_t n = write(l->wake, &one, sizeof(one));
    (void)n; /* nobody reads the count, but 2^64 wake-ups fit before it is full */
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = malloc(sizeof(*p));

    if (!p)
        return -ENOMEM;
    *p = (struct post){ .fn = fn, .arg = arg };
    pthread_mutex_lock(&l->lock);
    *l->last = p;
    l->last = &p->next;
    wake(l);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

static void run_posts(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct post *p = l->first;
    l->first = NULL;
    l->last = &l->first;
    pthread_mutex_unlock(&l->lock);

    while (p) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

/* ---- kicks ---- */

void loop_kick_init(struct loop_kick *k, struct loop *l, void (*fn)(struct loop_kick *k))
{
    *k = (struct loop_kick){ .loop = l, .fn = fn };
}

static void push_kick(struct loop *l, struct loop_kick *k)
{
    k->next = __atomic_load_n(&l->kicked, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&l->kicked, &k->next, k, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
}

void loop_kick(struct loop_kick *k)
{
    if (__atomic_exchange_n(&k->pending, true, __ATOMIC_SEQ_CST))
        return; /* fn has not begun yet: it will see what the kick is about */
    push_kick(k->loop, k);
    wake(k->loop);
}

static void run_kicks(struct loop *l)
{
    l->running = __atomic_exchange_n(&l->kicked, NULL, __ATOMIC_SEQ_CST);
    while (l->running) {
        struct loop_kick *k = l->running;
        l->running = k->next;
        __atomic_store_n(&k->pending, false, __ATOMIC_SEQ_CST); /* before fn looks; this pairs with loop_kick */
        k->fn(k);
    }
}

void loop_kick_remove(struct loop_kick *k)
{
    struct loop *l = k->loop;

    for (struct loop_kick **p = &l->running; *p; p = &(*p)->next) {
        if (*p == k) {
            *p = k->next;
            break;
        }
    }
    for (struct loop_kick *all = __atomic_exchange_n(&l->kicked, NULL, __ATOMIC_SEQ_CST), *next; all; all = next) {
        next = all->next;
        if (all != k)
            push_kick(l, all);
    }
    k->pending = false;
}

/* ---- threads that wait for the loop's thread ---- */

static _Thread_local const bool *owed; /* what this thread still has to wait for */

void loop_wait(struct loop *l, const bool *done)
{
    pthread_mutex_lock(&l->lock);
    while (!__atomic_load_n(done, __ATOMIC_ACQUIRE) && !l->let_go)
        pthread_cond_wait(&l->done, &l->lock);
    owed = __atomic_load_n(done, __ATOMIC_ACQUIRE) ? NULL : done;
    pthread_mutex_unlock(&l->lock);
}

void loop_wait_again(struct loop *l)
{
    if (unlikely(owed))
        loop_wait(l, owed);
}

void loop_done(struct loop *l, bool *done)
{
    pthread_mutex_lock(&l->lock);
    __atomic_store_n(done, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&l->done);
    pthread_mutex_unlock(&l->lock);
}

static void set_let_go(struct loop *l, bool on)
{
    pthread_mutex_lock(&l->lock);
    l->let_go = on;
    pthread_cond_broadcast(&l->done);
    pthread_mutex_unlock(&l->lock);
}

void loop_let_go(struct loop *l)
{
    set_let_go(l, true);
}

void loop_hold(struct loop *l)
{
    set_let_go(l, false);
}

/* ---- descriptors ---- */

int loop_fd_add(struct loop *l, struct loop_fd *w)
{
    struct epoll_event e = { .events = w->events, .data.ptr = w };

    if (!epoll_ctl(l->epoll, EPOLL_CTL_ADD, w->fd, &e))
        return 0;
    if (errno != EPERM)
        return -errno;
    if (l->nalways == MAX_ALWAYS)
        return -ENOSPC;
    l->always[l->nalways++] = w;
    return 0;
}

static bool is_always(const struct loop *l, const struct loop_fd *w)
{
    for (u32 i = 0; i < l->nalways; i++)
        if (l->always[i] == w)
            return true;
    return false;
}

int loop_fd_set(struct loop *l, struct loop_fd *w, u32 events)
{
    struct epoll_event e = { .events = events, .data.ptr = w };

    if (!is_always(l, w) && epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &e))
        return -errno;
    w->events = events;
    return 0;
}

void loop_fd_remove(struct loop *l, struct loop_fd *w)
{
    for (u32 i = 0; i < l->nalways; i++) {
        if (l->always[i] == w) {
            l->always[i] = l->always[--l->nalways];
            return;
        }
    }
    epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = 0; i < l->nevents; i++)
        if (l->events[i].data.ptr == w)
            l->events[i].data.ptr = NULL;
}

static void run_descriptors(struct loop *l)
{
    for (int i = 0; i < l->nevents; i++) {
        struct loop_fd *w = l->events[i].data.ptr;
        if (w)
            w->ready(w, l->events[i].events);
    }
    l->nevents = 0;
    for (u32 i = 0; i < l->nalways; i++) {
        struct loop_fd *w = l->always[i];
        if (w->events)
            w->ready(w, w->events); /* it may remove itself: the one that takes its place then waits a round */
    }
}

/* epoll reports this one by edge, so nobody needs to read it. */
static void woken(struct loop_fd *w, u32 events)
{
    (void)w;
    (void)events;
}

static void drain(struct loop_fd *w, u32 events)
{
    u64 count;
    ssize_t n = read(w->fd, &count, sizeof(count));

    (void)n;
    (void)events;
}

/* ---- looking instead of sleeping ---- */

void loop_poller_add(struct loop *l, struct loop_poller *p)
{
    p->next = l->pollers;
    l->pollers = p;
}

void loop_poller_remove(struct loop *l, struct loop_poller *p)
{
    struct loop_poller **at = &l->pollers;

    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
}

void loop_expect(struct loop *l)
{
    l->expecting = true;
}

static bool something(struct loop *l)
{
    if (__atomic_load_n(&l->kicked, __ATOMIC_ACQUIRE) || __atomic_load_n(&l->first, __ATOMIC_RELAXED))
        return true;
    for (struct loop_poller *p = l->pollers; p; p = p->next)
        if (p->poll(p))
            return true; /* poll may have changed the list */
    return false;
}

/* Looks until something comes, at most as long as waiting awake pays and not past the first deadline. If another
   thread wants this processor, it gets it: it may be the thread that we wait for. */
static bool look(struct loop *l, u64 since)
{
    u64 end;

    do {
        for (u32 i = 0; i < 16; i++) {
            if (something(l))
                return true;
            __builtin_ia32_pause();
        }
        sched_yield();
        pthread_mutex_lock(&l->lock);
        end = MIN(since + l->spin.ns, l->ntimers ? l->heap[0]->deadline : NEVER);
        pthread_mutex_unlock(&l->lock);
    } while (clock_ns() < end);
    return false;
}

/* ---- the loop ---- */

int loop_run(struct loop *l)
{
    struct loop_fd waker = { l->wake, EPOLLIN | EPOLLET, woken }, clock = { l->timerfd, EPOLLIN, drain };
    int r = loop_fd_add(l, &waker);
    u64 since = 0; /* the time when the wait for the expected event began */

    if (!r)
        r = loop_fd_add(l, &clock);
    while (!r) {
        run_posts(l);
        run_kicks(l); /* after that, what the kicks made due at once */
        run_timers(l);

        bool ready = false;
        for (u32 i = 0; i < l->nalways; i++)
            ready |= l->always[i]->events != 0;

        pthread_mutex_lock(&l->lock);
        if (l->stop) {
            l->stop = false;
            pthread_mutex_unlock(&l->lock);
            break;
        }
        if (l->first || (l->ntimers && l->heap[0]->deadline <= clock_ns()))
            ready = true;
        if (!ready) {
            /* A timerfd that is set too early only wakes us once for nothing. One that is set too late would lose a
               deadline. */
            u64 next = l->ntimers ? l->heap[0]->deadline : NEVER;
            if (next < l->programmed || l->programmed <= clock_ns())
                program(l, next);
            if (l->expecting && !since) {
                since = clock_ns();
                l->expecting = false;
                pthread_mutex_unlock(&l->lock);
                if (l->spin.ns && look(l, since)) {
                    spin_learn(&l->spin, clock_ns() - since);
                    since = 0;
                }
                continue; /* look at everything that may have come without waking us */
            }
            __atomic_store_n(&l->asleep, true, __ATOMIC_SEQ_CST); /* before kicked is read; this pairs with loop_kick */
            ready = __atomic_load_n(&l->kicked, __ATOMIC_SEQ_CST);
        }
        pthread_mutex_unlock(&l->lock);

        int n = epoll_wait(l->epoll, l->events, MAX_EVENTS, ready ? 0 : -1);
        if (since && !ready)
            spin_learn(&l->spin, clock_ns() - since);
        since = 0;
        if (n < 0 && errno != EINTR)
            r = -errno;
        l->nevents = MAX(n, 0);

        __atomic_store_n(&l->asleep, false, __ATOMIC_SEQ_CST);
        run_descriptors(l);
    }
    loop_fd_remove(l, &waker);
    loop_fd_remove(l, &clock);
    return r;
}

void loop_stop(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    wake(l);
    pthread_mutex_unlock(&l->lock);
}

struct loop *loop_new(void)
{
    struct loop *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    /* Room for all timers, so that arming one cannot fail. */
    l->cap = 1024;
    if (!(l->heap = calloc(l->cap, sizeof(*l->heap)))) {
        free(l);
        return NULL;
    }
    l->last = &l->first;
    l->programmed = NEVER;
    l->spin = spin_for(2);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->done, NULL);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->epoll < 0 || l->wake < 0 || l->timerfd < 0) {
        int saved = errno;
        loop_free(l);
        errno = saved;
        return NULL;
    }
    return l;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    for (struct post *p = l->first; p;) {
        struct post *next = p->next;
        free(p);
        p = next;
    }
    if (l->epoll >= 0)
        close(l->epoll);
    if (l->wake >= 0)
        close(l->wake);
    if (l->timerfd >= 0)
        close(l->timerfd);
    pthread_cond_destroy(&l->done);
    pthread_mutex_destroy(&l->lock);
    free(l->heap);
    free(l);
}
