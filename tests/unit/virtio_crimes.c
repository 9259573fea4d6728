/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_crimes.c - what a driver may not do in its rings, case by case, and what the queue walker makes of it. */
#include "loopback_rig.h"

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
