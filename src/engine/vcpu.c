/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.c - vCPU threads.
 *
 * There is one mutex. Threads that wait until they may run use the condition `wake`, and the controlling thread uses
 * `stopped` to wait until all have stopped. `stop` says what is wanted, and `running` how many threads are inside run(). A
 * kick that comes before run() makes it return at once (engine.h), so a kick after `stop` was set cannot be lost.
 */
#include "engine/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sandbox.h"
#include "base/signals.h"

struct vcpu {
    struct vcpus *group;
    struct engine_vcpu *engine;
    pthread_t thread;
    u32 id;
    bool started; /* the thread exists */
    bool parked;  /* its run() ended in a shutdown or an error; it waits for the next resume */
};

struct vcpus {
    struct vcpus_config c;
    pthread_mutex_t lock;
    pthread_cond_t wake, stopped;
    bool stop, quit;
    u32 running;
    struct vcpu vcpu[];
};

static void *vcpu_thread(void *arg)
{
    struct vcpu *v = arg;
    struct vcpus *g = v->group;
    struct error err;
    char name[16];

    snprintf(name, sizeof name, "vcpu%u", v->id);
    pthread_setname_np(pthread_self(), name);
    sandbox_thread(SANDBOX_VCPU);
    pthread_mutex_lock(&g->lock);
    while (!g->quit) {
        if (g->stop || v->parked) {
            pthread_cond_wait(&g->wake, &g->lock);
            continue;
        }
        g->running++;
        pthread_mutex_unlock(&g->lock);
        err.text[0] = 0;
        if (g->c.loop)
            loop_wait_again(g->c.loop); /* the last pause may have come while an access had to wait */
        enum run_result r = g->c.ops->run(v->engine, &err);
        if (r != RUN_KICKED)
            g->c.on_stop(g->c.ctx, v->id, r, &err);
        pthread_mutex_lock(&g->lock);
        v->parked = r != RUN_KICKED;
        if (--g->running == 0)
            pthread_cond_broadcast(&g->stopped);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Signals are for the loop's thread, so a vCPU's thread blocks them. The engine unblocks the one that it kicks with. Signals
   that an instruction causes are not blocked, because an engine may have handlers for them. */
static int start_thread(struct vcpu *v)
{
    sigset_t old;
    signals_block(&old);
    int rc = pthread_create(&v->thread, NULL, vcpu_thread, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    v->started = rc == 0;
    return -rc;
}

int vcpus_new(struct vcpus **out, const struct vcpus_config *c, struct error *err)
{
    struct vcpus *g = calloc(1, sizeof *g + c->n * sizeof g->vcpu[0]);
    int rc = 0;

    if (!g)
        return error_set(err, ENOMEM, "out of memory");
    g->c = *c;
    g->stop = true;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->wake, NULL);
    pthread_cond_init(&g->stopped, NULL);
    for (u32 i = 0; i < c->n && !rc; i++) {
        g->vcpu[i].group = g;
        g->vcpu[i].id = i;
        rc = c->ops->vcpu_create(c->vm, i, &g->vcpu[i].engine, err);
        if (rc)
            g->vcpu[i].engine = NULL;
    }
    for (u32 i = 0; i < c->n && !rc; i++)
        if ((rc = start_thread(&g->vcpu[i])))
            rc = error_set(err, -rc, "cannot start the thread of vCPU %u: %s", i, strerror(-rc));
    if (rc) {
        vcpus_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

void vcpus_free(struct vcpus *g)
{
    if (!g)
        return;
    vcpus_pause(g);
    pthread_mutex_lock(&g->lock);
    g->quit = true;
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->lock);
    for (u32 i = 0; i < g->c.n; i++)
        if (g->vcpu[i].started)
            pthread_join(g->vcpu[i].thread, NULL);
    for (u32 i = 0; i < g->c.n; i++)
        if (g->vcpu[i].engine)
            g->c.ops->vcpu_destroy(g->vcpu[i].engine);
    pthread_cond_destroy(&g->stopped);
    pthread_cond_destroy(&g->wake);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

void vcpus_resume(struct vcpus *g)
{
    if (g->c.loop)
        loop_hold(g->c.loop);
    pthread_mutex_lock(&g->lock);
    g->stop = false;
    for (u32 i = 0; i < g->c.n; i++)
        g->vcpu[i].parked = false;
    pthread_cond_broadcast(&g->wake);
    pthread_mutex_unlock(&g->lock);
}

void vcpus_stop_soon(struct vcpus *g)
{
    pthread_mutex_lock(&g->lock);
    g->stop = true;
    pthread_mutex_unlock(&g->lock);
    for (u32 i = 0; i < g->c.n; i++)
        if (g->vcpu[i].started)
            g->c.ops->kick(g->vcpu[i].engine);
}

void vcpus_pause(struct vcpus *g)
{
    vcpus_stop_soon(g);
    if (g->c.loop)
        loop_let_go(g->c.loop);
    pthread_mutex_lock(&g->lock);
    while (g->running)
        pthread_cond_wait(&g->stopped, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

u32 vcpus_count(const struct vcpus *g)
{
    return g->c.n;
}

struct engine_vcpu *vcpus_engine(const struct vcpus *g, u32 i)
{
    return g->vcpu[i].engine;
}

u64 vcpus_cpu_time(const struct vcpus *g, u32 i)
{
    clockid_t clock;
    struct timespec ts;
    if (pthread_getcpuclockid(g->vcpu[i].thread, &clock) || clock_gettime(clock, &ts))
        return 0;
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}
