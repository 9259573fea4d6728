/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_loop.h - base/loop.h with a clock that moves only when a test says so.
 * Include it in one .c of a test program: its definitions replace those of the base library.
 */
#ifndef LODGE_TEST_FAKE_LOOP_H
#define LODGE_TEST_FAKE_LOOP_H

#include "base/loop.h"
#include "test.h"

enum { FAKE_TIMERS = 64, FAKE_POSTS = 64 };
static u64 fake_now = 1000000000;
static struct timer *fake_timer[FAKE_TIMERS];
static struct { void (*fn)(void *); void *arg; } fake_post[FAKE_POSTS];
static unsigned fake_posts;

u64 clock_ns(void)
{
    return fake_now;
}

void timer_init(struct timer *t, struct loop *l, void (*fire)(struct timer *t))
{
    *t = (struct timer){ .loop = l, .fire = fire };
}

void timer_arm(struct timer *t, u64 deadline_ns)
{
    t->deadline = deadline_ns;
    if (t->armed)
        return;
    for (unsigned i = 0; i < FAKE_TIMERS; i++) {
        if (fake_timer[i])
            continue;
        fake_timer[i] = t;
        t->slot = i;
        t->armed = true;
        return;
    }
    CHECK(!"more timers than the fake has");
}

void timer_disarm(struct timer *t)
{
    if (!t->armed)
        return;
    fake_timer[t->slot] = NULL;
    t->armed = false;
}

int loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    if (fake_posts == FAKE_POSTS)
        return -12;
    fake_post[fake_posts].fn = fn;
    fake_post[fake_posts++].arg = arg;
    return 0;
}

static void fake_kicked(void *arg)
{
    struct loop_kick *k = arg;

    k->pending = false;
    k->fn(k);
}

void loop_kick_init(struct loop_kick *k, struct loop *l, void (*fn)(struct loop_kick *k))
{
    *k = (struct loop_kick){ .loop = l, .fn = fn };
}

void loop_kick(struct loop_kick *k)
{
    if (!k->pending)
        k->pending = !loop_post(k->loop, fake_kicked, k);
}

void loop_kick_remove(struct loop_kick *k)
{
    for (unsigned i = 0; i < fake_posts; i++)
        if (fake_post[i].arg == k)
            fake_post[i].fn = NULL;
    k->pending = false;
}

void loop_done(struct loop *l, bool *done)
{
    *done = true;
}

static unsigned fake_waits; /* that would have waited */

void loop_wait(struct loop *l, const bool *done)
{
    fake_waits += !*done;
}

/* Runs what was posted, but for what is posted meanwhile. Was there anything? */
static inline bool fake_run_posts(void)
{
    unsigned n = fake_posts;

    for (unsigned i = 0; i < n; i++) {
        void (*fn)(void *) = fake_post[i].fn;
        fake_post[i].fn = NULL;
        if (fn)
            fn(fake_post[i].arg);
    }
    fake_posts -= n;
    memmove(fake_post, fake_post + n, fake_posts * sizeof(fake_post[0]));
    return n;
}

/* Lets time pass, firing timers in order, each at its own instant (plus `late`). Returns how many fired. */
static inline unsigned fake_advance_late(u64 ns, u64 late)
{
    u64 end = fake_now + ns;
    unsigned fired = 0;

    for (;;) {
        struct timer *next = NULL;

        for (unsigned i = 0; i < FAKE_TIMERS; i++)
            if (fake_timer[i] && fake_timer[i]->deadline <= end && (!next || fake_timer[i]->deadline < next->deadline))
                next = fake_timer[i];
        if (!next)
            break;
        if (next->deadline + late > fake_now)
            fake_now = next->deadline + late;
        timer_disarm(next);
        next->fire(next);
        fired++;
    }
    if (fake_now < end)
        fake_now = end;
    return fired;
}

static inline unsigned fake_advance(u64 ns)
{
    return fake_advance_late(ns, 0);
}

#endif
