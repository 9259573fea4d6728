/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_threads.c - a driver on one thread, the device on the loop's: a notification or an interrupt that gets lost
 * between them hangs here; a reset by MMIO returns when the device is quiet, and a paused machine does not wait for it.
 */
#include "test.h"

#include <sched.h>
#include <stdlib.h>

#include "virtio_driver.h"

#define BASE 0x10000000ull
enum { SIZE = 64, REQUESTS = 20000 };

/* ---- the device: gives everything back, at once or a moment later --------- */

struct echo {
    struct virtio_device d;
    struct timer later;
    bool slow;
    struct virtio_chain c[SIZE];
    struct iovec iov[SIZE][2];
    u32 held, kicks, pops, writes;
};

static void finish(struct echo *e)
{
    for (; e->held; e->held--) {
        u32 v;
        struct virtio_chain *c = &e->c[e->held - 1];
        virtio_read(c, 0, &v, 4);
        v++;
        virtio_write(c, 0, &v, 4);
        __atomic_fetch_add(&e->writes, 1, __ATOMIC_SEQ_CST);
        virtio_push(&e->d.queue[0], c, 4);
    }
    virtio_notify(&e->d.queue[0]);
    virtio_reset_done(&e->d);
}

static void on_timer(struct timer *t)
{
    struct echo *e = container_of(t, struct echo, later);
    pthread_mutex_lock(&e->d.lock);
    finish(e);
    pthread_mutex_unlock(&e->d.lock);
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct echo *e = container_of(d, struct echo, d);

    __atomic_fetch_add(&e->kicks, 1, __ATOMIC_RELAXED);
    for (;;) {
        e->c[e->held] = (struct virtio_chain){ .iov = e->iov[e->held], .max = 2 };
        if (virtio_pop(q, &e->c[e->held]) <= 0)
            break;
        e->held++;
        __atomic_fetch_add(&e->pops, 1, __ATOMIC_SEQ_CST);
        if (!e->slow)
            finish(e);
    }
    if (e->held)
        timer_arm(&e->later, clock_ns() + 50000);
}

static bool reset(struct virtio_device *d)
{
    return !container_of(d, struct echo, d)->held;
}

static void settle(struct virtio_device *d)
{
    finish(container_of(d, struct echo, d));
}

static const struct virtio_ops ops = { .id = VIRTIO_ID_ENTROPY, .name = "echo", .kick = kick, .reset = reset,
                                       .settle = settle };

/* ---- the world ------------------------------------------------------------ */

static struct loop *loop;
static struct memory *m;
static struct echo e;
static struct virtio_transport *t;
static struct drv v;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool line;
static u32 interrupts;

static void set_line(void *chip, u32 pin, bool level)
{
    pthread_mutex_lock(&lock);
    interrupts += level && !line;
    line = level;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void open_world(void)
{
    struct irq_line irq = { set_line, NULL, 0 };

    loop = loop_new();
    m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "ram", 0, MiB(1), false, NULL), 0);
    memset(&e, 0, sizeof(e));
    memset(&v, 0, sizeof(v));
    virtio_init(&e.d, &ops, m, loop, 0, 1, (u16[]){ SIZE });
    timer_init(&e.later, loop, on_timer);
    v.bus = bus_new(1ull << 40);
    v.m = m;
    v.base = BASE;
    t = virtio_mmio_new(&e.d, v.bus, BASE, &irq, NULL, 0, NULL);
}

static void close_world(void)
{
    virtio_transport_free(t);
    timer_disarm(&e.later);
    virtio_destroy(&e.d);
    bus_free(v.bus);
    memory_free(m);
    loop_free(loop);
}

static void bring_up(u64 features)
{
    CHECK(drv_negotiate(&v, VIRTIO_F_VERSION_1 | features));
    drv_queue(&v, 0, SIZE, 0x1000);
    drv_ok(&v);
}

static void add(u32 i)
{
    u64 at = 0x90000 + i % SIZE * 8;
    DRV_AT(&v, u32, at) = i;
    CHECK(drv_add(&v, (struct drv_piece[]){ { at, 4, false }, { at + 4, 4, true } }, 2, i & 1, i));
}

static u32 collect(void)
{
    u64 token;
    u32 len, n = 0;

    for (; drv_used(&v, &token, &len); n++) {
        CHECK_EQ(len, 4);
        CHECK_EQ(DRV_AT(&v, u32, 0x90004 + token % SIZE * 8), token + 1);
    }
    return n;
}

static void *drive(void *arg)
{
    for (u32 f = 0; f < 4; f++) {
        u32 done = 0, sent = 0;
        bring_up(VIRTIO_F_INDIRECT_DESC | (f & 1 ? VIRTIO_F_RING_PACKED : 0) | (f & 2 ? VIRTIO_F_EVENT_IDX : 0));
        while (done < REQUESTS) {
            for (u32 n = 1 + (u32)rand() % 8; n && sent < REQUESTS && sent - done < SIZE / 2; n--)
                add(sent++);
            drv_kick(&v);
            drv_interrupts(&v, true);
            u32 n = collect();
            done += n;
            if (n || done == sent) {
                drv_interrupts(&v, false);
                continue;
            }
            pthread_mutex_lock(&lock);
            while (!line)
                pthread_cond_wait(&changed, &lock);
            pthread_mutex_unlock(&lock);
            drv_set(&v, 0x64, drv_reg(&v, 0x60));
        }
        printf("%s%s: %u kicks heard, %u interrupts for %u requests\n", f & 1 ? "packed" : "split",
               f & 2 ? ", event idx" : "", __atomic_exchange_n(&e.kicks, 0, __ATOMIC_RELAXED), interrupts, REQUESTS);
        interrupts = 0;
    }
    loop_stop(loop);
    return NULL;
}

TEST(nothing_is_lost)
{
    pthread_t thread;

    open_world();
    pthread_create(&thread, NULL, drive, NULL);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(thread, NULL);
    close_world();
}

static void *reset_often(void *arg)
{
    for (u32 i = 0; i < 300; i++) {
        bring_up(i & 1 ? VIRTIO_F_RING_PACKED : 0);
        u32 pops = __atomic_load_n(&e.pops, __ATOMIC_SEQ_CST);
        for (u32 k = 0; k < i % 8; k++)
            add(2 * k);
        drv_kick(&v);
        while (i % 3 && __atomic_load_n(&e.pops, __ATOMIC_SEQ_CST) < pops + i % 8)
            sched_yield();
        drv_set(&v, 0x70, 0);
        u32 writes = __atomic_load_n(&e.writes, __ATOMIC_SEQ_CST); /* what is there now is all */
        CHECK_EQ(drv_reg(&v, 0x70), 0);
        for (u32 k = 0; k < 50; k++)
            sched_yield();
        CHECK_EQ(__atomic_load_n(&e.writes, __ATOMIC_SEQ_CST), writes);
    }
    loop_stop(loop);
    return NULL;
}

TEST(a_reset_returns_when_all_is_quiet)
{
    pthread_t thread;

    open_world();
    e.slow = true;
    pthread_create(&thread, NULL, reset_often, NULL);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(e.writes, e.pops);
    CHECK(e.pops >= 600);
    close_world();
}

/* As vcpus_pause does it: the loop's thread waits for the vCPU, which waits for the device. */
static bool waiting;

static void *reset_once(void *arg)
{
    __atomic_store_n(&waiting, true, __ATOMIC_SEQ_CST);
    drv_set(&v, 0x70, 0);
    return NULL;
}

TEST(a_pause_does_not_wait_for_a_reset)
{
    pthread_t thread;

    open_world();
    e.slow = true;
    bring_up(0);
    add(0);
    virtio_kick(&e.d, 0);
    e.d.kick.fn(&e.d.kick);
    CHECK_EQ(e.held, 1);
    pthread_create(&thread, NULL, reset_once, NULL);
    while (!__atomic_load_n(&waiting, __ATOMIC_SEQ_CST))
        sched_yield();
    loop_let_go(loop);
    pthread_join(thread, NULL);
    CHECK(drv_reg(&v, 0x70) != 0);
    virtio_transport_settle(t);
    CHECK_EQ(drv_reg(&v, 0x70), 0);
    CHECK_EQ(e.held, 0);
    virtio_transport_resume(t);
    close_world();
}
