/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk_rig.h - the block device of virtio over a fake disk, which carries requests out when and as the test says.
 * Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_VIRTIO_BLK_RIG_H
#define LODGE_TEST_VIRTIO_BLK_RIG_H

#include "virtio/virtio_blk.h"

#include <errno.h>

#include "virtio_rig.h"

/* ---- the fake disk ---- */

enum { DISK = 1 << 20, PENDING = 600 };
struct block {
    u8 data[DISK];
    u64 size;
    bool readonly, draining;
    struct block_request *rq[PENDING];
    u32 n, kicked; /* rq[0..n): kicked of them handed over */
    unsigned kicks, ops[5];
    u64 unmapped;
};
static struct block disk;

u64 block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
u32 block_alignment(const struct block *b) { return 4096; }
const char *block_path(const struct block *b) { return "disk.img"; }

void block_submit(struct block *b, struct block_request *rq)
{
    CHECK(!b->draining);
    CHECK(b->n < PENDING);
    CHECK(rq->op == BLOCK_FLUSH || (rq->len && !(rq->len % 512) && rq->offset + rq->len <= b->size));
    b->rq[b->n++] = rq;
    b->ops[rq->op]++;
}

void block_kick(struct block *b)
{
    b->kicks++;
    b->kicked = b->n;
}

/* Ends request i of those under way with this result. */
static inline void finish(u32 i, int result)
{
    struct block_request *rq = disk.rq[i];
    u8 *p = disk.data + rq->offset;
    u64 len = 0;

    CHECK(i < disk.kicked);
    disk.kicked--;
    disk.n--;
    memmove(&disk.rq[i], &disk.rq[i + 1], (disk.n - i) * sizeof(disk.rq[0]));
    if (!result && rq->op <= BLOCK_WRITE) {
        for (u32 v = 0; v < rq->niov; v++) {
            void *to = rq->op == BLOCK_READ ? rq->iov[v].iov_base : p + len;
            memcpy(to, rq->op == BLOCK_READ ? p + len : rq->iov[v].iov_base, rq->iov[v].iov_len);
            len += rq->iov[v].iov_len;
        }
        CHECK_EQ(len, rq->len);
    } else if (!result && (rq->op == BLOCK_WRITE_ZEROES || rq->op == BLOCK_DISCARD)) {
        memset(p, 0, rq->len);
        disk.unmapped += rq->flags & BLOCK_UNMAP ? rq->len : 0;
    }
    rq->done(rq, result);
}

static inline void finish_all(void)
{
    while (disk.kicked)
        finish(disk.kicked / 2, 0);
    loop_turns();
}

void block_drain(struct block *b)
{
    b->draining = true;
    b->kicked = b->n;
    while (b->kicked)
        finish(b->kicked - 1, 0);
    b->draining = false;
}

/* ---- the device ---- */

enum { OK, IOERR, UNSUPP, UNTOUCHED = 0x77 };
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
#define F_FLUSH BIT(9)
#define F_CONFIG_WCE BIT(11)
#define F_DISCARD BIT(13)
#define F_WRITE_ZEROES BIT(14)
#define ALL (~0ull & ~VIRTIO_F_RING_PACKED)

static struct virtio_blk *blk;
static unsigned stops, goes;
static char why[256];

static inline void stop(void *ctx, const char *text)
{
    stops++;
    snprintf(why, sizeof(why), "%s", text);
}
static inline void go(void *ctx) { goes++; }

static inline struct virtio_blk_config blk_config(void)
{
    return (struct virtio_blk_config){ .block = &disk, .serial = "lodge-1", .queues = 2, .write_cache = true,
                                       .discard = true, .stop = stop, .go = go };
}

static inline void setup_with(struct virtio_blk_config c, u64 features)
{
    rig_memory();
    c.memory = drv.m;
    blk = virtio_blk_new(&c, NULL);
    rig_start(virtio_blk_device(blk), features);
    loop_turns();
}

static inline void setup(void)
{
    memset(&disk, 0, sizeof(disk));
    disk.size = DISK;
    for (u32 i = 0; i < DISK; i++)
        disk.data[i] = (u8)(i * 7 + i / 512);
    stops = goes = 0;
    setup_with(blk_config(), ALL);
}

static inline void end(void)
{
    CHECK_EQ(disk.n, 0);
    virtio_blk_free(blk);
    rig_end();
    CHECK_EQ(fake_advance(10000000000), 0);
}

static inline u64 header(u32 type, u64 sector)
{
    u64 gpa = alloc(16), h[2] = { type, sector };

    memcpy(at(gpa, 16), h, 16);
    return gpa;
}

static inline u64 status_byte(void)
{
    u64 gpa = alloc(1);

    *(u8 *)at(gpa, 1) = UNTOUCHED;
    return gpa;
}

/* A request in the usual three pieces; what it leaves at *status is its status. */
static inline u16 request(u32 q, u32 type, u64 sector, u64 data, u32 len, u64 *status)
{
    struct piece p[3] = { { header(type, sector), 16 }, { data, len }, { *status = status_byte(), 1 } };

    if (!len) {
        p[1] = p[2];
        return add(q, p, 1, 1);
    }
    return type == T_IN || type == T_GET_ID ? add(q, p, 1, 2) : add(q, p, 2, 1);
}

static inline u8 byte(u64 gpa) { return *(u8 *)at(gpa, 1); }

/* One request from begin to end. */
static inline u8 carry_out(u32 type, u64 sector, u64 data, u32 len)
{
    u64 status;
    u16 id = request(0, type, sector, data, len, &status);

    kick(0);
    while (disk.n)
        finish_all();
    CHECK_EQ(used(0, NULL), id);
    return byte(status);
}

#endif
