/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_block.h - disks of memory that end their requests when the test says so (fake_block_finish), one after the other.
 * Include it in one .c of a test program that links no room "block".
 */
#ifndef LODGE_TEST_FAKE_BLOCK_H
#define LODGE_TEST_FAKE_BLOCK_H

#include <stdlib.h>

#include "block/block.h"
#include "test.h"

enum { FAKE_PENDING = 64 };
struct block {
    u8 *data;
    u64 size;
    bool readonly;
    int fails; /* -errno for each read and write */
    struct block_request *pending[FAKE_PENDING];
    u32 n;
    unsigned flushes;
};

static inline struct block fake_block(u64 size)
{
    return (struct block){ .data = calloc(1, size), .size = size };
}

u64 block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
u32 block_alignment(const struct block *b) { return 512; }
const char *block_path(const struct block *b) { return "disk.img"; }
void block_kick(struct block *b) {}

void block_submit(struct block *b, struct block_request *rq)
{
    u64 len = 0;

    if (rq->op == BLOCK_READ || rq->op == BLOCK_WRITE) {
        for (u32 i = 0; i < rq->niov; i++)
            len += rq->iov[i].iov_len;
        if (len != rq->len || !len || len % 512 || rq->offset % 512 || len > b->size || rq->offset > b->size - len)
            abort();
    }
    if (b->n == FAKE_PENDING || (b->readonly && rq->op == BLOCK_WRITE))
        abort();
    b->pending[b->n++] = rq;
}

/* The one that has waited longest. False: there was none. */
static inline bool fake_block_finish(struct block *b)
{
    struct block_request *rq = b->pending[0];
    int result = 0;

    if (!b->n)
        return false;
    memmove(b->pending, b->pending + 1, --b->n * sizeof b->pending[0]);
    if (rq->op == BLOCK_FLUSH) {
        b->flushes++;
    } else if (b->fails) {
        result = b->fails;
    } else {
        u64 at = rq->offset;
        for (u32 i = 0; i < rq->niov; at += rq->iov[i++].iov_len)
            memcpy(rq->op == BLOCK_READ ? rq->iov[i].iov_base : b->data + at,
                   rq->op == BLOCK_READ ? b->data + at : rq->iov[i].iov_base, rq->iov[i].iov_len);
    }
    rq->done(rq, result);
    return true;
}

void block_drain(struct block *b)
{
    while (fake_block_finish(b))
        ;
}

#endif
