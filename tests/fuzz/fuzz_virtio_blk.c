/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_virtio_blk.c - the block device against a hostile driver, over a disk that ends requests late and in any order. */
#include "fuzz_virtio.h"
#include "virtio/virtio_blk.h"

enum { DISK = 65536, PENDING = 1024 };
struct block {
    u8 data[DISK];
    bool readonly;
    struct block_request *rq[PENDING];
    u32 n;
};
static struct block disk;

u64 block_size(const struct block *b) { return DISK; }
bool block_readonly(const struct block *b) { return b->readonly; }
u32 block_alignment(const struct block *b) { return 512; }
const char *block_path(const struct block *b) { return "disk"; }
void block_kick(struct block *b) {}

void block_submit(struct block *b, struct block_request *rq)
{
    if (b->n == PENDING || (rq->op != BLOCK_FLUSH && (!rq->len || rq->len % 512 || rq->offset % 512 ||
                                                      rq->len > DISK || rq->offset > DISK - rq->len)))
        abort();
    b->rq[b->n++] = rq;
}

static void finish(u32 i, int result)
{
    struct block_request *rq = disk.rq[i];
    u64 at = rq->offset;

    disk.rq[i] = disk.rq[--disk.n];
    if (rq->op == BLOCK_READ || rq->op == BLOCK_WRITE) {
        for (u32 v = 0; v < rq->niov; at += rq->iov[v++].iov_len)
            memcpy(rq->op == BLOCK_READ ? rq->iov[v].iov_base : disk.data + at,
                   rq->op == BLOCK_READ ? disk.data + at : rq->iov[v].iov_base, rq->iov[v].iov_len);
        if (at != rq->offset + rq->len)
            abort();
    }
    rq->done(rq, result);
}

void block_drain(struct block *b)
{
    while (b->n)
        finish(b->n / 2, 0);
}

static void stop(void *ctx, const char *why) {}
static void go(void *ctx) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    need_memory();
    u32 nops = size ? data[0] % 64 : 0, first = MIN(1 + nops, (u32)size), left = (u32)size - first;
    u8 how = size ? data[0] >> 6 : 0;
    u64 features = ~0ull & ~(how & 1 ? 0 : VIRTIO_F_RING_PACKED);

    memset(guest(0), 0, MEMORY);
    memcpy(guest(0), data + first, MIN(left, (u32)MEMORY));
    disk.readonly = nops % 16 == 3;
    struct virtio_blk_config c = { .memory = memory, .block = &disk, .queues = 2, .write_cache = how & 2, .discard = true,
                                   .rerror = DISK_ERRORS_STOP, .werror = DISK_ERRORS_ENOSPC, .stop = stop, .go = go };
    struct virtio_blk *b = virtio_blk_new(&c, NULL);
    struct virtio_device *d = virtio_blk_device(b);
    if (virtio_transport_init(&transport, &transport_kind, &transport_ops, d, NULL, 0, NULL))
        abort();
    start(d, features);
    virtio_kick(d, 0);
    turns();
    for (u32 i = 1; i < first; i++) {
        static const int results[] = { 0, 0, -28, -5 };
        if (!common_op(d, data[i], features) && disk.n) {
            finish(data[i] / 64 % disk.n, results[data[i] >> 4 & 3]);
            turns();
        }
    }
    virtio_transport_settle(&transport);
    virtio_transport_resume(&transport);
    set_status(d, 0);
    block_drain(&disk);
    turns();
    if (virtio_status(d) || disk.n)
        abort();
    virtio_blk_free(b);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u8 ops[] = { 0, 4, 0, 11, 12, 27, 43, 6, 11, 7, 0, 8, 9, 10, 5 };
    static const u32 types[] = { 0, 1, 4, 8, 11, 13, 99 };
    enum { N = sizeof(ops) };
    u8 *ram = buf + 1 + N;
    u64 gpa = 0x1000;

    if (i >= 8)
        return 0;
    memset(buf, 0, 1 + N + 0x3000);
    buf[0] = (u8)(N | i << 6);
    memcpy(buf + 1, ops, N);
    for (u32 n = 0; n < 5; n++) {
        u32 type = types[(n + i / 2 * 4 + 4) % 7], len[3] = { 16, type == 11 || type == 13 ? 32 : 512, 1 };
        u64 sector = n * 7;
        memcpy(ram + gpa, &type, 4);
        memcpy(ram + gpa + 8, &sector, 8);
        if (len[1] == 32) {
            u64 range[] = { n, 2, n + 8, 1 };
            memcpy(ram + gpa + 16, range, 32);
        }
        bool reads = type == 0 || type == 8;
        gpa = seed_chain(ram, i & 1, 0, n, 3 * n, gpa, len, reads ? 1 : 2, reads ? 2 : 1);
    }
    return 1 + N + 0x3000;
}
