/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_queue.c - the queue walker against a driver in software and a loopback device.  Random chains in all kinds of
 * rings: nothing is lost, nothing stands still for want of a notification or an interrupt, contents are right, through
 * resets, queue resets and saved states at any moment.
 */
#include "loopback_rig.h"

/* ---- random work -------------------------------------------------------- */

struct model {
    struct { bool busy; u32 out_len, in_len; } req[QUEUES][SLOTS];
    bool wants[QUEUES]; /* interrupts are on */
    u64 done;
};

/* Each queue has half of the memory around the boundary; a request's place has its bytes in one row. */
static u64 slot_gpa(u32 q, u32 i)
{
    return BOUNDARY - 460 * 1024 + (q * SLOTS + i) * (u64)SLOT;
}

static u32 add_random(struct world *w, struct model *x, u32 q)
{
    struct drv *v = &w->v[q];
    struct drv_piece p[MAX_PIECES];
    u32 i = 0, n = 1 + (u32)rand() % MAX_PIECES, nout = (u32)rand() % (n + 1), out = 0, in = 0;
    u64 at;

    while (i < SLOTS && x->req[q][i].busy)
        i++;
    if (i == SLOTS)
        return false;
    at = slot_gpa(q, i);
    for (u32 k = 0; k < n; k++) {
        p[k] = (struct drv_piece){ at, 1 + (u32)rand() % (SLOT / MAX_PIECES), k >= nout };
        *(p[k].in ? &in : &out) += p[k].len;
        at += p[k].len;
    }
    if (!drv_add(v, p, n, (v->agreed & VIRTIO_F_INDIRECT_DESC) && rand() % 2, i))
        return false;
    for (u32 k = 0; k < out + in; k++) /* after it is available, which is early enough here */
        DRV_AT(v, u8, slot_gpa(q, i) + k) = (u8)(k < out ? i * 31 + k * 7 : 0xee);
    x->req[q][i].busy = true;
    x->req[q][i].out_len = out;
    x->req[q][i].in_len = in;
    return true;
}

static u32 collect(struct world *w, struct model *x, u32 q)
{
    u64 i;
    u32 len, n = 0;

    for (; drv_used(&w->v[q], &i, &len); n++) {
        CHECK(x->req[q][i].busy);
        x->req[q][i].busy = false;
        u32 out = x->req[q][i].out_len, in = x->req[q][i].in_len, wrong = 0;
        CHECK_EQ(len, in);
        for (u32 k = 0; k < in; k++)
            wrong += DRV_AT(&w->v[q], u8, slot_gpa(q, (u32)i) + out + k) !=
                     (u8)((out ? (u8)((u32)i * 31 + k % out * 7) : 0) + k);
        CHECK_EQ(wrong, 0);
        x->done++;
    }
    return n;
}

static void forget(struct model *x, u32 q)
{
    memset(x->req[q], 0, sizeof(x->req[q]));
    x->wants[q] = true;
}

/* The whole machine in another process: everything but memory anew. */
static void move(struct world *w)
{
    struct state_buf b = { 0 };
    struct error err = { "" };

    virtio_transport_settle(w->t);
    run(w); /* kicks of before do nothing now */
    CHECK_EQ(state_save(w->state, &b, &err), 0);
    CHECK_EQ(fake_posts, 0);
    u32 limit = w->l->limit;
    unplug(w);
    plug(w);
    w->l->limit = limit;
    CHECK_EQ(state_load(w->state, b.data, b.len, &err), 0);
    CHECK_STR(err.text, "");
    virtio_transport_resume(w->t);
    state_buf_free(&b);
}

/* Nothing is under way any more: whoever waits must have been called. */
static void check_progress(struct world *w, struct model *x)
{
    for (u32 round = 0; round < 2000; round++) {
        u32 waiting = 0;
        run(w);
        host(w->l, 100);
        for (u32 q = 0; q < QUEUES; q++) {
            if (!x->wants[q]) {
                drv_interrupts(&w->v[q], true);
                x->wants[q] = true;
                collect(w, x, q);
                drv_interrupts(&w->v[q], true);
                collect(w, x, q);
            }
        }
        if (w->line) { /* only then does the driver look */
            drv_set(w->v, 0x64, drv_reg(w->v, 0x60));
            for (u32 q = 0; q < QUEUES; q++) {
                collect(w, x, q);
                drv_interrupts(&w->v[q], true);
                collect(w, x, q);
            }
        }
        for (u32 q = 0; q < QUEUES; q++)
            for (u32 i = 0; i < SLOTS; i++)
                waiting += x->req[q][i].busy;
        if (!waiting)
            return;
    }
    CHECK(!"all buffers come back");
}

static void random_work(struct world *w, struct model *x, u64 features, u16 size, u32 steps)
{
    start(w, features, size);
    for (u32 q = 0; q < QUEUES; q++)
        forget(x, q);
    w->l->limit = rand() % 3 ? SLOTS : 1 + (u32)rand() % 8;
    for (u32 s = 0; s < steps; s++) {
        u32 q = (u32)rand() % QUEUES;
        switch (rand() % 16) {
        case 0: case 1: case 2: case 3: case 4:
            for (u32 n = (u32)rand() % (size + 1); n && add_random(w, x, q); n--)
                ;
            drv_kick(&w->v[q]);
            break;
        case 5: case 6: case 7:
            run(w);
            break;
        case 8: case 9: case 10:
            host(w->l, (u32)rand() % 101);
            break;
        case 11:
            collect(w, x, q);
            x->wants[q] = rand() % 2;
            drv_interrupts(&w->v[q], x->wants[q]);
            break;
        case 12:
            check_progress(w, x);
            break;
        case 13:
            if (rand() % 8 == 0)
                move(w);
            break;
        case 14: /* one queue anew */
            if ((features & VIRTIO_F_RING_RESET) && rand() % 8 == 0) {
                drv_set(w->v, 0x30, q);
                drv_set(w->v, 0xc0, 1);
                while (drv_reg(w->v, 0xc0)) {
                    CHECK_EQ(drv_reg(w->v, 0x44), 1);
                    host(w->l, 50);
                }
                CHECK_EQ(drv_reg(w->v, 0x44), 0);
                CHECK_EQ(holding(w->l, q), 0);
                drv_queue(&w->v[q], q, size, q ? w->v[q].desc : RINGS);
                drv_interrupts(&w->v[q], true);
                forget(x, q);
            }
            break;
        default: break;
        }
        CHECK(!(drv_reg(w->v, 0x70) & VIRTIO_NEEDS_RESET));
    }
    if (rand() % 2)
        check_progress(w, x);
    drv_set(w->v, 0x70, 0);
    while (drv_reg(w->v, 0x70)) {
        run(w);
        host(w->l, 50);
    }
    CHECK(!w->line);
}

TEST(random_rings)
{
    static const u64 bits[] = { VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET };
    const char *seed = getenv("LODGE_TEST_SEED");
    struct world w;
    struct model *x = calloc(1, sizeof(*x));

    srand(seed ? (unsigned)atoi(seed) : 1);
    open_world(&w);
    for (u32 i = 0; i < 16 * 8; i++) {
        u64 f = VIRTIO_F_VERSION_1;
        for (u32 b = 0; b < ARRAY_SIZE(bits); b++)
            f |= i >> b & 1 ? bits[b] : 0;
        u16 size = (u16)(1u << rand() % 9);
        if ((f & VIRTIO_F_RING_PACKED) && rand() % 2) /* 2.8.10.1: any number */
            size = (u16)(1 + rand() % SLOTS);
        w.l->no_gpa = rand() % 2;
        random_work(&w, x, f, size, 300);
    }
    CHECK(x->done > 10000);
    close_world(&w);
    free(x);
}

/* A driver that never stops: each turn of the loop takes a bounded number. */
TEST(no_queue_takes_all_of_the_loop)
{
    struct world w;
    struct drv *v = &w.v[0];
    u32 turns = 0;

    open_world(&w);
    start(&w, VIRTIO_F_VERSION_1, 256);
    for (u32 i = 0; i < 256; i++)
        CHECK(drv_add(v, &(struct drv_piece){ 0x90000, 1, false }, 1, false, i));
    drv_kick(v);
    while (fake_run_posts())
        CHECK(w.l->pops <= ++turns * 128);
    CHECK(turns > 1);
    CHECK_EQ(w.l->pops, 256);
    close_world(&w);
}

/* A packet's buffers go back if they are too few, and come again in the same order. */
TEST(unpop)
{
    struct world w;
    struct drv *v = &w.v[0];
    struct held h[3];
    u64 token;
    u32 len;

    open_world(&w);
    for (u32 round = 0; round < 4; round++) {
        struct virtio_queue *q = &w.l->d.queue[0];
        u64 f = VIRTIO_F_VERSION_1 | (round & 1 ? VIRTIO_F_RING_PACKED : 0) | (round & 2 ? VIRTIO_F_EVENT_IDX : 0);
        w.l->limit = 0;
        start(&w, f, round & 1 ? 7 : 8);
        for (u32 lap = 0; lap < 20; lap++) {
            struct drv_piece p[3] = { { 0x90000, 4, true }, { 0x91000, 4, true }, { 0x92000, 4, true } };
            for (u32 i = 0; i < 2; i++) {
                CHECK(drv_add(v, p, 1 + i, false, i));
                drv_kick(v);
            }
            run(&w);
            for (u32 i = 0; i < 3; i++) {
                h[i].c = (struct virtio_chain){ .iov = h[i].iov, .max = 64 };
                CHECK_EQ(virtio_pop(q, &h[i].c), i < 2);
            }
            virtio_unpop(q, &h[1].c);
            virtio_unpop(q, &h[0].c);
            u32 kicks = w.l->kicks;
            CHECK(drv_add(v, p, 2, false, 2)); /* the driver tells us: the last pop found nothing */
            drv_kick(v);
            run(&w);
            CHECK_EQ(w.l->kicks, kicks + 1);
            for (u32 i = 0; i < 3; i++) {
                CHECK_EQ(virtio_pop(q, &h[i].c), 1);
                CHECK_EQ(h[i].c.nin, i ? 2 : 1);
            }
            for (u32 i = 0; i < 3; i++) {
                virtio_push(q, &h[i].c, i);
                CHECK(!drv_used(v, &token, &len)); /* not before all are there */
            }
            virtio_notify(q);
            for (u32 i = 0; i < 3; i++) {
                CHECK(drv_used(v, &token, &len));
                CHECK_EQ(token, i);
                CHECK_EQ(len, i);
            }
        }
    }
    close_world(&w);
}

/* A buffer that comes when the device has found none and is about to ask for notifications: it looks once more. */
static struct drv *late;

static void add_late(void *ctx, u64 gpa, u64 len)
{
    if (late) /* the device's wish has just been written, but the driver read it before */
        CHECK(drv_add(late, &(struct drv_piece){ 0x90000, 1, false }, 1, false, 0));
    late = NULL;
}

TEST(it_looks_once_more)
{
    struct world w;

    open_world(&w);
    for (u32 i = 0; i < 4; i++) {
        start(&w, VIRTIO_F_VERSION_1 | (i & 1 ? VIRTIO_F_RING_PACKED : 0) | (i & 2 ? VIRTIO_F_EVENT_IDX : 0), 8);
        w.l->pops = 0;
        w.m->written = add_late;
        late = &w.v[0];
        virtio_kick(&w.l->d, 0);
        run(&w);
        CHECK_EQ(w.l->pops, 1);
        w.m->written = NULL;
        host(w.l, 100);
    }
    close_world(&w);
}

/* What the device writes is dirty, and the engine is told, but not of what it was not to write. */
static u64 told_gpa[64], told_len[64];
static u32 told;

static void written(void *ctx, u64 gpa, u64 len)
{
    told_gpa[told % 64] = gpa;
    told_len[told++ % 64] = len;
}

TEST(memory_is_told)
{
    struct world w;
    struct drv *v = &w.v[0];
    u64 dirty[BOUNDARY / 4096 / 64];

    open_world(&w);
    start(&w, VIRTIO_F_VERSION_1, 8);
    struct drv_piece p[] = { { 0x90000, 8, false }, { 0x91ff8, 16, true }, { 0x95000, 4096, true } };
    CHECK(drv_add(v, p, 3, false, 0));
    drv_kick(v);
    run(&w);
    memory_dirty_take(w.m, &w.m->piece[0], dirty);
    w.m->written = written;
    told = 0;
    struct held *h = &w.l->held[0][0];
    CHECK(h->busy);
    h->busy = false;
    virtio_push(&w.l->d.queue[0], &h->c, 20);
    CHECK_EQ(told, 2);
    CHECK_EQ(told_gpa[0], 0x91ff8);
    CHECK_EQ(told_len[0], 16);
    CHECK_EQ(told_gpa[1], 0x95000);
    CHECK_EQ(told_len[1], 4);
    virtio_notify(&w.l->d.queue[0]);
    w.m->written = NULL;
    memory_dirty_take(w.m, &w.m->piece[0], dirty);
    CHECK_EQ(dirty[0x90 / 64] >> 0x10 & 0xff, 1 << 1 | 1 << 2 | 1 << 5);
    CHECK(dirty[0] >> (v->device >> 12) & 1); /* the used ring */
    close_world(&w);
}
