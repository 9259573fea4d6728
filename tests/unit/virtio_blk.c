/* SPDX-License-Identifier: Apache-2.0 */
/* The block device (VIRTIO 1.2, 5.2) over a fake disk, which carries requests out when and as the test says. */
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
static void finish(u32 i, int result)
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

static void finish_all(void)
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

static void stop(void *ctx, const char *text)
{
    stops++;
    snprintf(why, sizeof(why), "%s", text);
}
static void go(void *ctx) { goes++; }

static struct virtio_blk_config blk_config(void)
{
    return (struct virtio_blk_config){ .block = &disk, .serial = "lodge-1", .queues = 2, .write_cache = true,
                                       .discard = true, .stop = stop, .go = go };
}

static void setup_with(struct virtio_blk_config c, u64 features)
{
    rig_memory();
    c.memory = drv.m;
    blk = virtio_blk_new(&c, NULL);
    rig_start(virtio_blk_device(blk), features);
    loop_turns();
}

static void setup(void)
{
    memset(&disk, 0, sizeof(disk));
    disk.size = DISK;
    for (u32 i = 0; i < DISK; i++)
        disk.data[i] = (u8)(i * 7 + i / 512);
    stops = goes = 0;
    setup_with(blk_config(), ALL);
}

static void end(void)
{
    CHECK_EQ(disk.n, 0);
    virtio_blk_free(blk);
    rig_end();
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u64 header(u32 type, u64 sector)
{
    u64 gpa = alloc(16), h[2] = { type, sector };

    memcpy(at(gpa, 16), h, 16);
    return gpa;
}

static u64 status_byte(void)
{
    u64 gpa = alloc(1);

    *(u8 *)at(gpa, 1) = UNTOUCHED;
    return gpa;
}

/* A request in the usual three pieces; what it leaves at *status is its status. */
static u16 request(u32 q, u32 type, u64 sector, u64 data, u32 len, u64 *status)
{
    struct piece p[3] = { { header(type, sector), 16 }, { data, len }, { *status = status_byte(), 1 } };

    if (!len) {
        p[1] = p[2];
        return add(q, p, 1, 1);
    }
    return type == T_IN || type == T_GET_ID ? add(q, p, 1, 2) : add(q, p, 2, 1);
}

static u8 byte(u64 gpa) { return *(u8 *)at(gpa, 1); }

/* One request from begin to end. */
static u8 carry_out(u32 type, u64 sector, u64 data, u32 len)
{
    u64 status;
    u16 id = request(0, type, sector, data, len, &status);

    kick(0);
    while (disk.n)
        finish_all();
    CHECK_EQ(used(0, NULL), id);
    return byte(status);
}

TEST(configuration)
{
    setup();
    CHECK_EQ(drv.d->ops->id, 2);
    CHECK_EQ(config(0, 4), DISK / 512);
    CHECK_EQ(config(8, 4), MiB(1));
    CHECK_EQ(config(12, 4), 254);
    CHECK_EQ(config(16, 2), DISK / 512 / 16 / 63);
    CHECK_EQ(config(18, 1), 16);
    CHECK_EQ(config(19, 1), 63);
    CHECK_EQ(config(20, 4), 512);
    CHECK_EQ(config(24, 1), 3);
    CHECK_EQ(config(34, 2), 2);
    CHECK(config(36, 4) > 0 && config(40, 4) > 1 && config(44, 4) == 8);
    CHECK_EQ(config(56, 1), 1);
    disk.size = 2 * DISK;
    virtio_blk_resized(blk);
    CHECK_EQ(drv.config_interrupts, 1);
    CHECK_EQ(config(0, 4), 2 * DISK / 512);
    end();
    struct virtio_blk_config c = blk_config();
    struct error err;
    c.queues = 9;
    CHECK(!virtio_blk_new(&c, &err));
    c = blk_config();
    c.serial = "more than twenty bytes";
    CHECK(!virtio_blk_new(&c, &err));
}

TEST(any_framing)
{
    u32 len = 0;

    setup();
    for (u32 split = 1; split < 16; split += 3) {
        u64 h = header(T_OUT, split), data = alloc(2048), status = status_byte();
        memset(at(data, 1536), (int)(0x40 + split), 1536);
        struct piece w[] = { { h, split }, { h + split, 16 - split }, { data, 100 }, { data + 100, 1436 }, { status, 1 } };
        u16 id = add(0, w, 4, 1);
        kick(0);
        finish_all();
        CHECK_EQ(used(0, &len), id);
        CHECK_EQ(byte(status), OK);
        CHECK_EQ(len, 1);
        CHECK_EQ(disk.data[split * 512], 0x40 + split);
        CHECK_EQ(disk.data[split * 512 + 1535], 0x40 + split);
        CHECK(disk.data[split * 512 + 1536] != 0x40 + split);

        /* Read: the status at the end of a piece with data, or alone. */
        u64 r = alloc(4096);
        struct piece in[] = { { header(T_IN, split), 16 }, { r, split * 10 }, { r + split * 10, 1537 - split * 10 } };
        *(u8 *)at(r + 1536, 1) = UNTOUCHED;
        id = add(1, in, 1, 2);
        kick(1);
        finish_all();
        CHECK_EQ(used(1, &len), id);
        CHECK_EQ(len, 1537);
        CHECK_EQ(byte(r + 1536), OK);
        CHECK(!memcmp(at(r, 1536), disk.data + split * 512, 1536));
        CHECK_EQ(byte(r + 1537), 0);
    }
    /* Header and data in one piece. */
    u64 one = alloc(1024), status = status_byte();
    memcpy(at(one, 16), at(header(T_OUT, 100), 16), 16);
    memset(at(one + 16, 512), 0xaa, 512);
    struct piece p[] = { { one, 528 }, { status, 1 } };
    add(0, p, 1, 1);
    kick(0);
    finish_all();
    CHECK_EQ(byte(status), OK);
    CHECK_EQ(disk.data[100 * 512 + 511], 0xaa);
    end();
}

TEST(many_at_once_in_any_order)
{
    enum { N = 40 };
    u64 status[N], data = alloc(0);
    u16 id[N];

    setup();
    data = alloc(N * 512);
    for (u32 i = 0; i < N; i++)
        id[i] = request(0, T_IN, i * 3, data + i * 512, 512, &status[i]);
    kick(0);
    CHECK_EQ(disk.n, N);
    CHECK_EQ(disk.kicks, 1); /* one for all */
    CHECK_EQ(drv.interrupts[0], 0);
    finish(7, 0);
    finish(30, -EIO);
    finish(0, 0);
    CHECK_EQ(drv.interrupts[0], 0);
    loop_turns();
    CHECK_EQ(drv.interrupts[0], 1); /* and one for these three */
    CHECK_EQ(used(0, NULL), id[7]);
    CHECK_EQ(used(0, NULL), id[31]);
    CHECK_EQ(used(0, NULL), id[0]);
    CHECK_EQ(used(0, NULL), -1);
    CHECK_EQ(byte(status[31]), IOERR);
    CHECK_EQ(byte(status[1]), UNTOUCHED);
    finish_all();
    for (u32 i = 0; i < N; i++)
        CHECK_EQ(byte(status[i]), i == 31 ? IOERR : OK);
    CHECK(!memcmp(at(data + 39 * 512, 512), disk.data + 39 * 3 * 512, 512));
    end();
}

TEST(what_is_refused)
{
    setup();
    u64 data = alloc(4096);
    CHECK_EQ(carry_out(T_IN, DISK / 512, data, 512), IOERR);
    CHECK_EQ(carry_out(T_IN, DISK / 512 - 1, data, 1024), IOERR);
    CHECK_EQ(carry_out(T_IN, DISK / 512 - 1, data, 512), OK);
    CHECK_EQ(carry_out(T_OUT, ~0ull, data, 512), IOERR);
    CHECK_EQ(carry_out(T_OUT, 1ull << 55, data, 512), IOERR);
    CHECK_EQ(carry_out(T_OUT, 0, data, 511), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 513), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 0), OK);
    CHECK_EQ(carry_out(2, 0, data, 512), UNSUPP);
    CHECK_EQ(carry_out(~0u, 0, data, 512), UNSUPP);
    CHECK_EQ(disk.ops[BLOCK_READ] + disk.ops[BLOCK_WRITE], 1);
    CHECK_EQ(carry_out(T_GET_ID, 0, data, 20), OK);
    CHECK(!memcmp(at(data, 20), "lodge-1\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
    CHECK_EQ(carry_out(T_GET_ID, 0, data, 5), OK);
    end();

    disk.readonly = true;
    setup_with(blk_config(), ALL);
    CHECK(drv.d->offered & BIT(5));
    CHECK(!(drv.d->offered & (F_DISCARD | F_WRITE_ZEROES)));
    data = alloc(512);
    CHECK_EQ(carry_out(T_OUT, 0, data, 512), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 512), OK);
    CHECK_EQ(carry_out(T_FLUSH, 0, 0, 0), OK);
    end();
}

/* A driver that names one piece of memory in many requests does not make the host hold as many copies of it. */
TEST(not_too_much_at_once)
{
    enum { N = 80 };
    u64 status[N];

    setup();
    u64 data = alloc(MiB(1));
    for (u32 i = 0; i < N; i++)
        request(0, T_IN, 0, data, MiB(1), &status[i]);
    kick(0);
    CHECK_EQ(disk.n, 64);
    while (disk.n)
        finish_all();
    for (u32 i = 0; i < N; i++)
        CHECK_EQ(byte(status[i]), OK);

    struct piece p[256] = { { header(T_IN, 0), 16 } };
    for (u32 i = 1; i < 255; i++)
        p[i] = (struct piece){ data, (u32)MiB(1) + (i == 1 ? 512 : 0) };
    p[255] = (struct piece){ status[0] = status_byte(), 1 };
    disk.size = GiB(1);
    virtio_blk_resized(blk);
    add(0, p, 1, 255);
    kick(0);
    CHECK_EQ(disk.n, 0);
    CHECK_EQ(byte(status[0]), IOERR);
    end();
}

TEST(no_header_no_status)
{
    setup();
    u64 h = header(T_IN, 0);
    struct piece p[] = { { h, 15 }, { alloc(513), 513 } };
    add(0, p, 1, 1);
    kick(0);
    CHECK(virtio_status(drv.d) & VIRTIO_NEEDS_RESET);
    end();
    setup();
    struct piece only[] = { { header(T_OUT, 0), 16 }, { alloc(512), 512 } };
    add(0, only, 2, 0);
    kick(0);
    CHECK(virtio_status(drv.d) & VIRTIO_NEEDS_RESET);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(without_a_cache_a_write_is_flushed)
{
    u64 status, data;

    setup();
    CHECK_EQ(config(32, 1), 1);
    data = alloc(512);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish_all();
    CHECK_EQ(byte(status), OK);
    CHECK_EQ(disk.ops[BLOCK_FLUSH], 0);
    set_config(32, 1, 0); /* what was written until now is flushed, too */
    loop_turns();
    CHECK_EQ(disk.ops[BLOCK_FLUSH], 1);
    finish_all();
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(byte(status), UNTOUCHED);
    CHECK_EQ(disk.rq[0]->op, BLOCK_FLUSH);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(byte(status), OK);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish(0, 0);
    loop_turns();
    finish(0, -EIO);
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    set_status(0);
    finish_all();
    end();

    setup_with(blk_config(), ALL & ~F_FLUSH & ~F_CONFIG_WCE); /* a driver that cannot flush */
    CHECK_EQ(carry_out(T_OUT, 0, alloc(512), 512), OK);
    CHECK(disk.ops[BLOCK_FLUSH] > 3);
    end();
}

struct range {
    u64 sector;
    u32 n, flags;
};

static u8 ranges(u32 type, const struct range *r, u32 n)
{
    u64 data = alloc(n * sizeof(*r));

    memcpy(at(data, n * sizeof(*r)), r, n * sizeof(*r));
    return carry_out(type, 0, data, (u32)(n * sizeof(*r)));
}

TEST(discard_and_write_zeroes)
{
    setup();
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 0 }, { 0, 0, 0 }, { 100, 4, 0 } }, 3), OK);
    CHECK_EQ(disk.ops[BLOCK_DISCARD], 2);
    CHECK_EQ(disk.data[100 * 512 + 2047], 0);
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 1 } }, 1), UNSUPP);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 200, 1, 0 } }, 1), OK);
    CHECK_EQ(disk.unmapped, 0);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 201, 1, 1 } }, 1), OK);
    CHECK_EQ(disk.unmapped, 512);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 201, 1, 2 } }, 1), UNSUPP);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { DISK / 512 - 1, 2, 0 } }, 1), IOERR);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { ~0ull, 0xffffffff, 0 } }, 1), IOERR);
    CHECK_EQ(carry_out(T_DISCARD, 0, alloc(24), 24), IOERR);
    CHECK_EQ(carry_out(T_DISCARD, 0, alloc(65 * 16), 65 * 16), IOERR);
    end();
    setup_with(blk_config(), ALL & ~F_DISCARD);
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 0 } }, 1), UNSUPP);
    end();
}

TEST(a_full_disk_stops_the_machine)
{
    struct virtio_blk_config c = blk_config();
    u64 status[4], data;

    setup();
    end();
    c.werror = DISK_ERRORS_ENOSPC;
    setup_with(c, ALL);
    data = alloc(512);
    memset(at(data, 512), 0x5a, 512);
    for (int i = 0; i < 3; i++)
        request(0, T_OUT, (u64)i, data, 512, &status[i]);
    kick(0);
    finish(0, -ENOSPC);
    finish(0, -EIO); /* this one the guest is told of */
    loop_turns();
    CHECK_EQ(stops, 1);
    CHECK(strstr(why, "disk.img") && strstr(why, "full"));
    CHECK_EQ(byte(status[0]), UNTOUCHED);
    CHECK_EQ(byte(status[1]), IOERR);
    request(0, T_FLUSH, 0, 0, 0, &status[3]); /* nothing new begins */
    kick(0);
    CHECK_EQ(disk.n, 1);
    finish(0, -ENOSPC);
    loop_turns();
    CHECK_EQ(stops, 1);
    /* It cannot be saved now. */
    struct state_list *l = state_list_new();
    struct state_buf buf = { 0 };
    CHECK_EQ(state_add(l, drv.d->ops->state, 0, blk), 0);
    CHECK_EQ(state_save(l, &buf, NULL), -EBUSY);

    fake_advance(1000000000);
    CHECK_EQ(disk.n, 2); /* tried again, in order */
    CHECK_EQ(disk.rq[0]->offset, 0);
    CHECK_EQ(disk.rq[1]->offset, 1024);
    finish(0, -ENOSPC);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(goes, 0);
    CHECK_EQ(byte(status[2]), OK);
    fake_advance(1000000000);
    CHECK_EQ(disk.n, 1);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(goes, 1);
    CHECK_EQ(byte(status[0]), OK);
    CHECK_EQ(disk.data[0], 0x5a);
    CHECK_EQ(disk.n, 1); /* the flush follows */
    CHECK_EQ(disk.rq[0]->op, BLOCK_FLUSH);
    finish_all();
    CHECK_EQ(state_save(l, &buf, NULL), 0);
    state_buf_free(&buf);
    state_list_free(l);
    end();
}

TEST(stop_or_report)
{
    struct virtio_blk_config c = blk_config();
    u64 status, data;

    setup();
    end();
    c.rerror = DISK_ERRORS_STOP;
    setup_with(c, ALL);
    data = alloc(512);
    request(0, T_IN, 0, data, 512, &status);
    kick(0);
    finish(0, -EINVAL); /* trying again would not help */
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    request(0, T_OUT, 0, data, 512, &status);
    kick(0);
    finish(0, -ENOSPC); /* writes are reported here */
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    CHECK_EQ(stops, 0);
    request(1, T_IN, 0, data, 512, &status);
    kick(1);
    finish(0, -EIO);
    loop_turns();
    CHECK_EQ(stops, 1);
    set_status(0); /* a reset gives it up */
    CHECK_EQ(virtio_status(drv.d), 0);
    loop_turns();
    CHECK_EQ(goes, 1);
    CHECK_EQ(byte(status), UNTOUCHED);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(reset_waits_for_the_host)
{
    u64 status[3], data;

    setup();
    data = alloc(512);
    for (int i = 0; i < 3; i++)
        request(0, T_IN, 0, data, 512, &status[i]);
    kick(0);
    set_status(0);
    CHECK(virtio_status(drv.d) != 0);
    finish(1, 0);
    finish(1, -EIO);
    loop_turns();
    CHECK(virtio_status(drv.d) != 0);
    finish(0, 0);
    CHECK_EQ(virtio_status(drv.d), 0);
    loop_turns();
    CHECK_EQ(used_ring(0)[1], 0); /* nothing reached the rings */
    CHECK_EQ(byte(status[0]), UNTOUCHED);
    CHECK_EQ(drv.interrupts[0], 0);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(queue_reset_waits_for_its_own)
{
    u64 status[2], data;

    setup();
    data = alloc(512);
    request(0, T_IN, 0, data, 512, &status[0]);
    request(1, T_IN, 0, data, 512, &status[1]);
    kick(0);
    kick(1);
    CHECK_EQ(disk.n, 2);
    lock();
    virtio_queue_reset(&drv.d->queue[1]);
    unlock();
    CHECK(drv.d->queue[1].resetting);
    finish(0, 0);
    CHECK(drv.d->queue[1].resetting);
    finish(0, 0);
    CHECK(!drv.d->queue[1].resetting);
    loop_turns();
    CHECK_EQ(byte(status[0]), OK);
    CHECK_EQ(byte(status[1]), UNTOUCHED);
    enable_queue(1, 16);
    request(1, T_IN, 0, data, 512, &status[1]);
    kick(1);
    finish_all();
    CHECK_EQ(byte(status[1]), OK);
    end();
}

TEST(settle_leaves_nothing_under_way)
{
    struct virtio_blk_config c = blk_config();
    u64 status[6], data;

    setup();
    end();
    c.write_cache = false;
    setup_with(c, ALL);
    data = alloc(512);
    for (int i = 0; i < 6; i++)
        request(0, i & 1 ? T_OUT : T_IN, (u64)i, data, 512, &status[i]);
    kick(0);
    virtio_transport_settle(&drv.t);
    CHECK_EQ(disk.n, 0);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(byte(status[i]), OK);
    CHECK_EQ(drv.interrupts[0], 1);
    while (used(0, NULL) >= 0)
        ;
    virtio_transport_resume(&drv.t);
    loop_turns();
    CHECK_EQ(carry_out(T_IN, 0, data, 512), OK);
    end();
}
