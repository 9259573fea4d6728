/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_queue.c - the queue walker against a driver in software and a loopback device that holds buffers for a while
 * and gives them back in any order.  Random chains in all kinds of rings: nothing is lost, nothing stands still for
 * want of a notification or an interrupt, contents are right, through resets, queue resets and saved states at any
 * moment.  Then what a driver may not do, case by case.
 */
#include "test.h"

#include <stdlib.h>

#include "fake_loop.h"
#include "virtio_driver.h"

#define BASE 0x10000000ull
#define RINGS 0x1000ull
#define BOUNDARY 0x100000ull /* where one region of memory ends and the next begins */
#define ROM 0x200000ull
#define HIGH GiB(4)

enum { QUEUES = 2, SLOT = 2044, SLOTS = 256, MAX_PIECES = 6 };

/* ---- the device --------------------------------------------------------- */

struct held {
    struct virtio_chain c;
    struct iovec iov[64];
    u64 gpa[64];
    bool busy;
};

struct loopback {
    struct virtio_device d;
    struct held held[QUEUES][SLOTS];
    u32 limit;           /* buffers it takes at most at a time */
    bool no_gpa;
    u32 kicks, pops;
    u8 config[8];
};

static struct loopback *lb(struct virtio_device *d) { return container_of(d, struct loopback, d); }

static u32 holding(struct loopback *l, u32 q)
{
    u32 n = 0;
    for (u32 i = 0; i < SLOTS; i++)
        n += l->held[q][i].busy;
    return n;
}

static struct held *place(struct loopback *l, u32 q)
{
    for (u32 i = 0; i < SLOTS; i++)
        if (!l->held[q][i].busy)
            return &l->held[q][i];
    return NULL;
}

static void take(struct loopback *l, struct virtio_queue *q)
{
    struct held *h;
    while (holding(l, q->index) < l->limit && (h = place(l, q->index))) {
        h->c = (struct virtio_chain){ .iov = h->iov, .gpa = l->no_gpa ? NULL : h->gpa, .max = 64 };
        if (virtio_pop(q, &h->c) <= 0)
            break;
        h->busy = true;
        l->pops++;
    }
}

static void lb_kick(struct virtio_device *d, struct virtio_queue *q)
{
    lb(d)->kicks++;
    take(lb(d), q);
}

/* in[i] = out[i % n] + i, as many as there is room */
static void finish(struct loopback *l, u32 queue, u32 i)
{
    struct held *h = &l->held[queue][i];
    u8 out[SLOT], in[SLOT];
    u64 n = virtio_read(&h->c, 0, out, sizeof(out)), room = MIN(h->c.in_len, (u64)SLOT);

    CHECK_EQ(n, MIN(h->c.out_len, (u64)SLOT));
    for (u64 k = 0; k < room; k++)
        in[k] = (u8)((n ? out[k % n] : 0) + k);
    if (virtio_queue_live(&l->d.queue[queue]))
        CHECK_EQ(virtio_write(&h->c, 0, in, room), room);
    virtio_push(&l->d.queue[queue], &h->c, room);
    h->busy = false;
}

static bool lb_reset(struct virtio_device *d)
{
    for (u32 q = 0; q < QUEUES; q++)
        if (holding(lb(d), q))
            return false;
    return true;
}

static bool lb_queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    return !holding(lb(d), q->index);
}

/* Finishes some of what it holds, as the host does, and what that ends. */
static void host(struct loopback *l, u32 percent)
{
    pthread_mutex_lock(&l->d.lock);
    for (u32 q = 0; q < QUEUES; q++) {
        for (u32 i = 0, at = (u32)rand(); i < SLOTS; i++)
            if (l->held[q][(i + at) % SLOTS].busy && (u32)rand() % 100 < percent)
                finish(l, q, (i + at) % SLOTS);
        if (!holding(l, q))
            virtio_queue_reset_done(&l->d.queue[q]);
        take(l, &l->d.queue[q]);
        virtio_notify(&l->d.queue[q]);
    }
    if (lb_reset(&l->d))
        virtio_reset_done(&l->d);
    pthread_mutex_unlock(&l->d.lock);
}

static void lb_settle(struct virtio_device *d)
{
    for (u32 q = 0; q < QUEUES; q++)
        for (u32 i = 0; i < SLOTS; i++)
            if (lb(d)->held[q][i].busy)
                finish(lb(d), q, i);
}

static void lb_config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    CHECK(offset + len <= sizeof(lb(d)->config));
    memcpy(to, lb(d)->config + offset, len);
}

static void lb_config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    CHECK(offset + len <= sizeof(lb(d)->config));
    memcpy(lb(d)->config + offset, from, len);
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_ENTROPY, .name = "loopback", .config_size = 7, .config_read = lb_config_read,
    .config_write = lb_config_write, .kick = lb_kick, .reset = lb_reset, .queue_reset = lb_queue_reset,
    .settle = lb_settle,
};

/* ---- the machine around it ---------------------------------------------- */

struct world {
    struct memory *m;
    struct bus *bus;
    struct state_list *state;
    struct loopback *l;
    struct virtio_transport *t;
    bool line;
    u32 interrupts;
    struct drv v[QUEUES];
};

static void set_line(void *chip, u32 pin, bool level)
{
    struct world *w = chip;
    w->interrupts += level && !w->line;
    w->line = level;
}

static void plug(struct world *w)
{
    static const u16 sizes[QUEUES] = { SLOTS, SLOTS };
    struct irq_line irq = { set_line, w, 0 };

    w->bus = bus_new(1ull << 40);
    w->state = state_list_new();
    w->l = calloc(1, sizeof(*w->l));
    w->l->limit = SLOTS;
    virtio_init(&w->l->d, &ops, w->m, NULL, 0, QUEUES, sizes);
    w->t = virtio_mmio_new(&w->l->d, w->bus, BASE, &irq, w->state, 0, NULL);
    for (u32 i = 0; i < QUEUES; i++) {
        w->v[i].m = w->m;
        w->v[i].bus = w->bus;
        w->v[i].base = BASE;
    }
}

static void unplug(struct world *w)
{
    virtio_transport_free(w->t);
    virtio_destroy(&w->l->d);
    for (u32 q = 0; q < QUEUES; q++)
        CHECK_EQ(holding(w->l, q), 0);
    free(w->l);
    state_list_free(w->state);
    bus_free(w->bus);
    CHECK(!w->line);
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->m = memory_new(NULL);
    if (memory_add(w->m, "ram", 0, BOUNDARY, false, NULL) ||
        memory_add(w->m, "ram", BOUNDARY, ROM - BOUNDARY, false, NULL) ||
        memory_add(w->m, "rom", ROM, 0x10000, true, NULL) || memory_add(w->m, "ram-high", HIGH, 0x10000, false, NULL))
        abort();
    plug(w);
}

static void close_world(struct world *w)
{
    unplug(w);
    memory_free(w->m);
}

static void start(struct world *w, u64 features, u16 size)
{
    REQUIRE(drv_negotiate(&w->v[0], features));
    w->v[1].agreed = features;
    drv_queue(&w->v[1], 1, size, drv_queue(&w->v[0], 0, size, RINGS));
    drv_ok(&w->v[0]);
    for (u32 i = 0; i < QUEUES; i++)
        drv_interrupts(&w->v[i], true);
}

static void run(struct world *w)
{
    while (fake_run_posts())
        ;
}

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

/* ---- what a driver may not do ------------------------------------------- */

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, D = 16 };

struct crime {
    const char *name;
    u64 features;
    struct { u64 addr; u32 len; u16 flags, next; } d[5]; /* split; packed: next is not looked at */
    u16 head;
    u16 ahead;   /* split: avail->idx is this much further than it should be */
    bool legal, split; /* split: makes no sense in a packed ring */
};

#define TABLE 0x80000ull

static const struct crime crimes[] = {
    { "plain", 0, { { 0x90000, 64, NEXT, 1 }, { 0x91000, 64, WRITE, 0 } }, .legal = true },
    { "over the end of a region", 0, { { BOUNDARY - 8, 64, NEXT, 1 }, { 0x91000, 64, WRITE, 0 } }, .legal = true },
    { "out of ROM", 0, { { ROM, 64, NEXT, 1 }, { 0x91000, 64, WRITE, 0 } }, .legal = true },
    { "two in a loop", 0, { { 0x90000, 64, NEXT, 1 }, { 0x91000, 64, NEXT, 0 } }, .split = true },
    { "one that is its own next", 0, { { 0x90000, 64, NEXT, 0 } }, .split = true },
    { "next outside the table", 0, { { 0x90000, 64, NEXT, 8 } }, .split = true },
    { "head outside the table", 0, { { 0x90000, 64, 0, 0 } }, .head = 8, .split = true },
    { "far too many available", 0, { { 0x90000, 64, 0, 0 } }, .ahead = 8, .split = true },
    { "all too many available", 0, { { 0x90000, 64, 0, 0 } }, .ahead = 0x8000, .split = true },
    { "out after in", 0, { { 0x90000, 64, NEXT | WRITE, 1 }, { 0x91000, 64, 0, 0 } } },
    { "no bytes", 0, { { 0x90000, 0, 0, 0 } } },
    { "no bytes at the end", 0, { { 0x90000, 64, NEXT, 1 }, { 0x91000, 0, WRITE, 0 } } },
    { "outside memory", 0, { { 0x3000000, 64, 0, 0 } } },
    { "out of memory's end", 0, { { HIGH + 0xfff0, 17, 0, 0 } } },
    { "up to memory's end", 0, { { HIGH + 0xfff0, 16, 0, 0 } }, .legal = true },
    { "over the end of the address space", 0, { { UINT64_MAX - 3, 64, 0, 0 } } },
    { "at the end of the address space", 0, { { UINT64_MAX, 1, 0, 0 } } },
    { "4 GiB less 1", 0, { { 0x90000, UINT32_MAX, 0, 0 } } },
    { "into ROM", 0, { { ROM, 64, WRITE, 0 } } },
    { "from RAM on into ROM", 0, { { ROM - 8, 64, WRITE, 0 } } },
    { "into a ROM later", 0, { { 0x90000, 64, NEXT, 1 }, { ROM + 0x8000, 1, WRITE, 0 } } },
    { "indirect, not agreed", 0, { { TABLE, 4 * D, INDIRECT, 0 } } },
    { "indirect", VIRTIO_F_INDIRECT_DESC, { { TABLE, 4 * D, INDIRECT, 0 } }, .legal = true },
    { "indirect, to be written", VIRTIO_F_INDIRECT_DESC, { { TABLE, 4 * D, INDIRECT | WRITE, 0 } }, .legal = true },
    { "indirect, and next", VIRTIO_F_INDIRECT_DESC, { { TABLE, 4 * D, INDIRECT | NEXT, 1 }, { 0x91000, 64, 0, 0 } } },
    { "indirect, empty", VIRTIO_F_INDIRECT_DESC, { { TABLE, 0, INDIRECT, 0 } } },
    { "indirect, not whole", VIRTIO_F_INDIRECT_DESC, { { TABLE, 4 * D + 1, INDIRECT, 0 } } },
    { "indirect, outside memory", VIRTIO_F_INDIRECT_DESC, { { 0x3000000, 4 * D, INDIRECT, 0 } } },
    { "indirect, out of memory", VIRTIO_F_INDIRECT_DESC, { { HIGH + 0x10000 - D, 2 * D, INDIRECT, 0 } } },
    { "indirect, all of the address space", VIRTIO_F_INDIRECT_DESC, { { TABLE, 0xfffffff0, INDIRECT, 0 } } },
    { "indirect to the ring itself", VIRTIO_F_INDIRECT_DESC, { { RINGS, 4 * D, INDIRECT, 0 } }, .split = true },
    { "next outside the indirect table", VIRTIO_F_INDIRECT_DESC, { { TABLE, D, INDIRECT, 0 } }, .split = true },
};

/* An indirect table of four: out, out, in, in. */
static void table(struct drv *v, bool is_packed)
{
    for (u16 i = 0; i < 4; i++) {
        struct drv_piece p = { 0x92000 + i * 256u, 100, i > 1 };
        u16 flags = (i < 3 && !is_packed ? NEXT : 0) | (i > 1 ? WRITE : 0);
        drv_desc(v, TABLE + D * i, &p, is_packed ? 0 : flags, is_packed ? flags : (u16)(i + 1));
    }
}

static void commit_crime(struct world *w, const struct crime *k, bool is_packed)
{
    struct drv *v = &w->v[0];

    start(w, VIRTIO_F_VERSION_1 | k->features | (is_packed ? VIRTIO_F_RING_PACKED : 0), 8);
    run(w);
    table(v, is_packed);
    if (is_packed) {
        u32 n = 1;
        while (n < 5 && k->d[n].addr)
            n++;
        for (u32 i = n; i-- > 0;) {
            struct drv_piece p = { k->d[i].addr, k->d[i].len, false };
            drv_desc(v, v->desc + D * i, &p, 5, k->d[i].flags | 1 << 7);
        }
    } else {
        for (u32 i = 0; i < ARRAY_SIZE(k->d); i++) {
            struct drv_piece p = { k->d[i].addr, k->d[i].len, false };
            drv_desc(v, v->desc + D * i, &p, k->d[i].flags, k->d[i].next);
        }
        DRV_AT(v, u16, v->driver + 4) = k->head;
        DRV_AT(v, u16, v->driver + 2) = 1 + k->ahead;
    }
    u32 pops = w->l->pops;
    drv_set(v, 0x50, 0);
    run(w);
    bool failed = drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET;
    if (failed == k->legal || (w->l->pops == pops) == k->legal)
        test_fail(__FILE__, __LINE__, "%s, %s: %s", k->name, is_packed ? "packed" : "split",
                  failed ? "refused" : "accepted");
    CHECK_EQ(drv_reg(v, 0x60) & 2, failed ? 2 : 0); /* 2.1.2: told by a configuration interrupt */
    /* Nothing moves until the reset; then all is well. */
    if (failed) {
        drv_set(v, 0x50, 0);
        run(w);
        host(w->l, 100);
        CHECK_EQ(w->l->pops, pops);
        CHECK_EQ(drv_reg(v, 0x60) & 1, 0);
    }
    drv_set(v, 0x70, 0);
    host(w->l, 100);
    CHECK_EQ(drv_reg(v, 0x70), 0);
    CHECK_EQ(drv_reg(v, 0x60), 0);
}

TEST(crimes)
{
    struct world w;

    open_world(&w);
    for (u32 i = 0; i < ARRAY_SIZE(crimes); i++) {
        commit_crime(&w, &crimes[i], false);
        if (!crimes[i].split)
            commit_crime(&w, &crimes[i], true);
    }
    close_world(&w);
}

/* More that takes several steps. */
TEST(nested_tables_and_endless_chains)
{
    struct world w;
    struct drv *v = &w.v[0];
    struct drv_piece p = { TABLE, 4 * D, false };

    open_world(&w);
    for (u32 round = 0; round < 4; round++) {
        bool is_packed = round & 1;
        u64 f = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (is_packed ? VIRTIO_F_RING_PACKED : 0);
        start(&w, f, 4);
        run(&w);
        table(v, is_packed);
        if (round < 2) { /* the second of the table is a table */
            if (!is_packed)
                drv_desc(v, TABLE + D, &p, INDIRECT, 0);
            else
                drv_desc(v, TABLE + D, &(struct drv_piece){ 0x3000000, 4 * D, false }, 0, INDIRECT);
            drv_desc(v, v->desc, &p, is_packed ? 0 : INDIRECT, is_packed ? INDIRECT | 1 << 7 : 0);
        } else { /* all of the ring is one chain, without an end */
            for (u32 i = 4; i-- > 0;) {
                p = (struct drv_piece){ 0x90000, 16, false };
                drv_desc(v, v->desc + D * i, &p, is_packed ? 0 : NEXT, is_packed ? NEXT | 1 << 7 : (u16)((i + 1) % 4));
            }
        }
        DRV_AT(v, u16, v->driver + 4) = 0;
        if (!is_packed)
            DRV_AT(v, u16, v->driver + 2) = 1;
        u32 pops = w.l->pops;
        drv_set(v, 0x50, 0);
        run(&w);
        CHECK(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET);
        CHECK_EQ(w.l->pops, pops);
    }
    /* A table of more pieces than the device has room for. */
    start(&w, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_RING_PACKED, 4);
    run(&w);
    for (u32 i = 0; i < 65; i++)
        drv_desc(v, TABLE + D * i, &(struct drv_piece){ 0x90000, 1, false }, 0, 0);
    for (u32 n = 64; n <= 65; n++) {
        u32 pops = w.l->pops;
        drv_desc(v, v->desc + D * (n - 64), &(struct drv_piece){ TABLE, D * n, false }, 0, INDIRECT | 1 << 7);
        drv_set(v, 0x50, 0);
        run(&w);
        CHECK_EQ(w.l->pops, pops + (n == 64));
        CHECK_EQ(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET, n == 64 ? 0 : VIRTIO_NEEDS_RESET);
    }
    close_world(&w);
}

/* The driver makes available again what has not been used. */
TEST(more_than_the_ring_has)
{
    struct world w;
    struct drv *v = &w.v[0];

    open_world(&w);
    start(&w, VIRTIO_F_VERSION_1, 4);
    for (u32 i = 0; i < 3; i++)
        CHECK(drv_add(v, &(struct drv_piece){ 0x90000, 1, false }, 1, false, i));
    for (u32 i = 0; i < 2; i++) { /* 3, and 4 in all; then 5 */
        drv_set(v, 0x50, 0);
        run(&w);
        CHECK_EQ(w.l->pops, 3 + i);
        CHECK(!(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET));
        DRV_AT(v, u16, v->driver + 2) = (u16)(4 + i);
    }
    drv_set(v, 0x50, 0);
    run(&w);
    CHECK_EQ(w.l->pops, 4);
    CHECK(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET);
    drv_set(v, 0x70, 0);
    host(w.l, 100);
    w.l->pops = 0;
    start(&w, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_PACKED, 4);
    for (u32 i = 0; i < 4; i++)
        drv_desc(v, v->desc + D * i, &(struct drv_piece){ 0x90000, 1, false }, 0, 1 << 7);
    drv_set(v, 0x50, 0);
    run(&w);
    CHECK_EQ(w.l->pops, 4);
    CHECK(!(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET));
    drv_desc(v, v->desc, &(struct drv_piece){ 0x90000, 1, false }, 0, 1 << 15);
    drv_set(v, 0x50, 0);
    run(&w);
    CHECK_EQ(w.l->pops, 4);
    CHECK(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET);
    close_world(&w);
}

/* Rings that are not aligned, not in memory, in ROM, over the end of a region; sizes. */
TEST(rings_in_wrong_places)
{
    static const struct { u16 size; u64 desc, driver, device; bool split, packed; } c[] = {
        { 8, 0x1000, 0x2000, 0x3000, true, true },
        { 0, 0x1000, 0x2000, 0x3000, false, false },
        { 7, 0x1000, 0x2000, 0x3000, false, true },
        { 256, 0x1000, 0x2000, 0x3000, true, true },
        { 257, 0x1000, 0x3000, 0x4000, false, false },
        { 512, 0x1000, 0x4000, 0x5000, false, false },
        { 8, 0x1008, 0x2000, 0x3000, false, false },
        { 8, 0x1000, 0x2001, 0x3000, false, false },
        { 8, 0x1000, 0x2002, 0x3000, true, false },
        { 8, 0x1000, 0x2000, 0x3002, false, false },
        { 8, ROM, 0x2000, 0x3000, true, false },
        { 8, 0x1000, ROM, 0x3000, true, true },
        { 8, 0x1000, 0x2000, ROM, false, false },
        { 8, BOUNDARY - 16, 0x2000, 0x3000, false, false },
        { 8, 0x1000, BOUNDARY - 4, 0x3000, false, true },
        { 8, 0x1000, 0x2000, BOUNDARY - 4, false, true },
        { 8, 0x3000000, 0x2000, 0x3000, false, false },
        { 8, 0x1000, UINT64_MAX - 15, 0x3000, false, false },
        { 8, 0x1000, 0x2000, UINT64_MAX - 3, false, false },
        { 8, HIGH + 0x10000 - 128, HIGH, HIGH + 0x100, true, true },
        { 8, HIGH + 0x10000 - 112, HIGH, HIGH + 0x100, false, false },
    };
    struct world w;
    struct drv *v = &w.v[0];

    open_world(&w);
    for (u32 i = 0; i < 2 * ARRAY_SIZE(c); i++) {
        CHECK(drv_negotiate(v, VIRTIO_F_VERSION_1 | (i & 1 ? VIRTIO_F_RING_PACKED : 0)));
        drv_set(v, 0x30, 1);
        drv_set(v, 0x38, c[i / 2].size);
        u64 at[3] = { c[i / 2].desc, c[i / 2].driver, c[i / 2].device };
        for (u32 k = 0; k < 3; k++) {
            drv_set(v, 0x80 + 0x10 * k, (u32)at[k]);
            drv_set(v, 0x84 + 0x10 * k, (u32)(at[k] >> 32));
        }
        drv_set(v, 0x44, 1);
        bool good = i & 1 ? c[i / 2].packed : c[i / 2].split;
        if (drv_reg(v, 0x44) != good)
            test_fail(__FILE__, __LINE__, "case %u, %s: not %s", i / 2, i & 1 ? "packed" : "split",
                      good ? "good" : "refused");
        CHECK_EQ(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET, good ? 0 : VIRTIO_NEEDS_RESET);
        drv_ok(v);
        drv_set(v, 0x80, 0x3000000); /* too late */
        drv_set(v, 0x50, 1);
        run(&w);
        CHECK_EQ(drv_reg(v, 0x70) & VIRTIO_NEEDS_RESET, good ? 0 : VIRTIO_NEEDS_RESET);
    }
    close_world(&w);
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
