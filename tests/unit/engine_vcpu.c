/* SPDX-License-Identifier: Apache-2.0 */
/* engine_vcpu.c - vCPU threads over an engine whose run() only waits for its kick: stopping, going on, parking. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "engine/vcpu.h"
#include "test.h"

struct engine_vcpu {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool kicked, shut_down;
    unsigned runs;
    bool inside;
};

static struct engine_vcpu fake[4];
static unsigned created;

static int vcpu_create(struct engine_vm *vm, u32 id, struct engine_vcpu **v, struct error *err)
{
    if (id == 3)
        return error_set(err, ENOSPC, "no more than three");
    *v = &fake[id];
    memset(*v, 0, sizeof **v);
    pthread_mutex_init(&fake[id].lock, NULL);
    pthread_cond_init(&fake[id].cond, NULL);
    created++;
    return 0;
}

static void vcpu_destroy(struct engine_vcpu *v) { created--; }

static enum run_result run(struct engine_vcpu *v, struct error *err)
{
    pthread_mutex_lock(&v->lock);
    v->runs++;
    v->inside = true;
    while (!v->kicked && !v->shut_down)
        pthread_cond_wait(&v->cond, &v->lock);
    enum run_result r = v->kicked ? RUN_KICKED : RUN_SHUTDOWN;
    v->kicked = v->shut_down = v->inside = false;
    pthread_mutex_unlock(&v->lock);
    return r;
}

static void wake(struct engine_vcpu *v, bool shut_down)
{
    pthread_mutex_lock(&v->lock);
    v->kicked |= !shut_down;
    v->shut_down |= shut_down;
    pthread_cond_broadcast(&v->cond);
    pthread_mutex_unlock(&v->lock);
}

static void kick(struct engine_vcpu *v) { wake(v, false); }

static const struct engine_ops ops = {
    .name = "fake", .vcpu_create = vcpu_create, .vcpu_destroy = vcpu_destroy, .run = run, .kick = kick
};

struct stops {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    unsigned n;
    u32 vcpu;
    enum run_result why;
    struct vcpus *stop_soon;
};

static void on_stop(void *ctx, u32 vcpu, enum run_result why, const struct error *err)
{
    struct stops *s = ctx;
    if (s->stop_soon)
        vcpus_stop_soon(s->stop_soon); /* from a vCPU's own thread */
    pthread_mutex_lock(&s->lock);
    s->n++, s->vcpu = vcpu, s->why = why;
    pthread_cond_broadcast(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

static void wait_inside(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        for (bool in = false; !in;) {
            pthread_mutex_lock(&fake[i].lock);
            in = fake[i].inside;
            pthread_mutex_unlock(&fake[i].lock);
            sched_yield();
        }
}

TEST(pause_means_outside)
{
    struct stops s = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };
    struct vcpus *g = NULL;
    struct vcpus_config c = { &ops, NULL, 3, on_stop, &s };
    CHECK_EQ(vcpus_new(&g, &c, NULL), 0);
    CHECK_EQ(vcpus_count(g), 3);
    CHECK(vcpus_engine(g, 2) == &fake[2]);
    CHECK_EQ(fake[0].runs, 0); /* created paused */
    for (int i = 0; i < 200; i++) {
        vcpus_resume(g);
        if (i % 3)
            wait_inside(3);
        vcpus_pause(g);
        for (int k = 0; k < 3; k++)
            CHECK(!fake[k].inside);
        vcpus_pause(g); /* again: nothing to wait for */
    }
    CHECK(fake[0].runs > 100);
    CHECK_EQ(s.n, 0);
    vcpus_resume(g);
    vcpus_free(g); /* while running */
    CHECK_EQ(created, 0);
}

TEST(a_shutdown_parks_until_resumed)
{
    struct stops s = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };
    struct vcpus *g = NULL;
    struct vcpus_config c = { &ops, NULL, 2, on_stop, &s };
    CHECK_EQ(vcpus_new(&g, &c, NULL), 0);
    s.stop_soon = g;
    vcpus_resume(g);
    wait_inside(2);
    wake(&fake[1], true);
    pthread_mutex_lock(&s.lock);
    while (!s.n)
        pthread_cond_wait(&s.cond, &s.lock);
    pthread_mutex_unlock(&s.lock);
    CHECK_EQ(s.vcpu, 1);
    CHECK_EQ(s.why, RUN_SHUTDOWN);
    vcpus_pause(g);
    CHECK_EQ(s.n, 1);
    unsigned before = fake[1].runs;
    vcpus_resume(g);
    wait_inside(2);
    CHECK(fake[1].runs > before);
    vcpus_free(g);
}

TEST(creation_that_fails_leaves_nothing)
{
    struct stops s = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER };
    struct vcpus *g = NULL;
    struct error err = { "" };
    struct vcpus_config c = { &ops, NULL, 4, on_stop, &s };
    CHECK_EQ(vcpus_new(&g, &c, &err), -ENOSPC);
    CHECK_STR(err.text, "no more than three");
    CHECK_EQ(created, 0);
}
