/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_model.h - random requests on a disk, many at once, against a copy in memory.
 *
 * Requests under way never overlap: their order is not defined. Memory is scattered in pieces of odd length and alignment.
 */
#ifndef LODGE_TEST_BLOCK_MODEL_H
#define LODGE_TEST_BLOCK_MODEL_H

#include <errno.h>
#include <stdlib.h>

#include "block/block.h"
#include "test.h"

enum { MODEL_DEPTH = 32, MODEL_MOST = 128, MODEL_PIECES = 5 };

struct model;
struct model_slot {
    struct block_request rq;
    struct model *m;
    struct iovec iov[MODEL_PIECES];
    u8 *memory, *copy; /* MODEL_MOST sectors and some; what a write writes, in one piece */
    bool busy;
};

struct model {
    struct block *b;
    struct loop *loop; /* or NULL: by drain */
    u64 sectors, seed;
    u8 *shadow;
    u8 *busy;    /* by sector */
    u8 *unknown; /* after a discard, or a failed write */
    struct model_slot slots[MODEL_DEPTH];
    u32 depth, left, under_way, failed;
    int may_fail; /* -errno that is no mistake, or 0 */
    u32 calls; /* how deep in block_submit: done() must not come */
    u64 in_done;
};

static inline u64 model_random(struct model *m)
{
    m->seed ^= m->seed << 13;
    m->seed ^= m->seed >> 7;
    m->seed ^= m->seed << 17;
    return m->seed;
}

static inline void model_start(struct model *m, struct model_slot *s);

static inline void model_done(struct block_request *rq, int result)
{
    struct model_slot *s = container_of(rq, struct model_slot, rq);
    struct model *m = s->m;
    u64 first = rq->offset / 512, n = rq->len / 512;
    u8 *at = s->memory + MODEL_MOST * 512 + 512;

    CHECK_EQ(m->calls, 0);
    if (result) {
        m->failed++;
        if (result != m->may_fail)
            test_fail(__FILE__, __LINE__, "request %d of %llu sectors at %llu: %d", rq->op, (unsigned long long)n,
                      (unsigned long long)first, result);
    }
    switch (rq->op) {
    case BLOCK_READ:
        for (u32 i = 0; i < rq->niov; i++) {
            memcpy(at, rq->iov[i].iov_base, rq->iov[i].iov_len);
            at += rq->iov[i].iov_len;
        }
        at -= rq->len;
        for (u64 i = 0; i < n && !result; i++)
            if (!m->unknown[first + i] && memcmp(at + 512 * i, m->shadow + 512 * (first + i), 512)) {
                test_fail(__FILE__, __LINE__, "sector %llu (%llu of %llu) reads wrong", (unsigned long long)(first + i),
                          (unsigned long long)i, (unsigned long long)n);
                break;
            }
        break;
    case BLOCK_WRITE:
        memcpy(m->shadow + rq->offset, s->copy, rq->len);
        memset(m->unknown + first, result != 0, n);
        break;
    case BLOCK_WRITE_ZEROES:
        memset(m->shadow + rq->offset, 0, rq->len);
        memset(m->unknown + first, result != 0, n);
        break;
    case BLOCK_DISCARD:
        memset(m->unknown + first, 1, n);
        break;
    default:
        break;
    }
    memset(m->busy + first, 0, n);
    s->busy = false;
    m->under_way--;
    if (m->left)
        model_start(m, s);
    else if (!m->under_way && m->loop)
        loop_stop(m->loop);
}

static inline void model_start(struct model *m, struct model_slot *s)
{
    u64 kind = model_random(m) % 100, first, n;
    struct block_request *rq = &s->rq;

    for (int tries = 0;; tries++) {
        n = model_random(m) % 3 ? 1 + model_random(m) % 8 : 1 + model_random(m) % MODEL_MOST;
        first = model_random(m) % m->sectors;
        if (model_random(m) % 4 == 0) /* many in one place */
            first %= MIN(m->sectors, 256);
        if (model_random(m) % 3 == 0) {
            first &= ~7ull;
            n = (n + 7) & ~7ull;
        }
        n = MIN(n, m->sectors - first);
        if (!memchr(m->busy + first, 1, n))
            break;
    }
    *rq = (struct block_request){ .offset = first * 512, .len = n * 512, .iov = s->iov, .done = model_done };
    rq->op = kind < 40 ? BLOCK_READ : kind < 80 ? BLOCK_WRITE : kind < 82 ? BLOCK_FLUSH : kind < 90 ? BLOCK_DISCARD
                                                                                                   : BLOCK_WRITE_ZEROES;
    if (rq->op == BLOCK_FLUSH) {
        rq->offset = rq->len = n = 0;
    } else if (rq->op == BLOCK_WRITE_ZEROES) {
        rq->flags = model_random(m) & BLOCK_UNMAP;
    } else if (rq->op != BLOCK_DISCARD) {
        u64 align = model_random(m) % 3 ? 1 : 512, left = rq->len;
        u8 *at = s->memory + model_random(m) % 512 / align * align;
        while (left) {
            u64 piece = rq->niov == MODEL_PIECES - 1 || model_random(m) % 2 ? left : MAX(model_random(m) % left / align * align, align);
            piece = MIN(piece, left);
            s->iov[rq->niov++] = (struct iovec){ at, piece };
            at += piece;
            left -= piece;
        }
        u64 v = model_random(m);
        for (u64 i = 0; rq->op == BLOCK_WRITE && i < rq->len; i++)
            s->copy[i] = (u8)(v >> (i % 57)) ^ (u8)(i / 512);
        at = s->copy;
        for (u32 i = 0; i < rq->niov; i++) {
            if (rq->op == BLOCK_WRITE)
                memcpy(rq->iov[i].iov_base, at, rq->iov[i].iov_len);
            at += rq->iov[i].iov_len;
        }
    }
    memset(m->busy + first, 1, n);
    s->busy = true;
    m->left--;
    m->under_way++;
    m->calls++;
    block_submit(m->b, rq);
    if (model_random(m) % 4 == 0)
        block_kick(m->b);
    m->calls--;
}

static inline void model_new(struct model *m, struct block *b, struct loop *loop, u64 seed)
{
    memset(m, 0, sizeof(*m));
    m->b = b;
    m->loop = loop;
    m->seed = seed * 2654435761u + 88172645463325252ull;
    m->sectors = block_size(b) / 512;
    m->depth = MODEL_DEPTH;
    m->shadow = calloc(m->sectors, 512);
    m->busy = calloc(m->sectors, 1);
    m->unknown = calloc(m->sectors, 1);
    for (u32 i = 0; i < MODEL_DEPTH; i++) {
        m->slots[i].m = m;
        if (posix_memalign((void **)&m->slots[i].memory, 4096, (2 * MODEL_MOST + 2) * 512))
            abort();
        m->slots[i].copy = malloc(MODEL_MOST * 512);
    }
}

static inline void model_free(struct model *m)
{
    for (u32 i = 0; i < MODEL_DEPTH; i++) {
        free(m->slots[i].memory);
        free(m->slots[i].copy);
    }
    free(m->shadow);
    free(m->busy);
    free(m->unknown);
}

/* Carries out n requests. */
static inline void model_run(struct model *m, u32 n)
{
    m->left = n;
    for (u32 i = 0; i < m->depth && m->left; i++)
        model_start(m, &m->slots[i]);
    block_kick(m->b);
    if (m->loop)
        CHECK_EQ(loop_run(m->loop), 0);
    else
        while (m->under_way)
            block_drain(m->b);
}

/* Everything, read back. */
static inline void model_compare(struct model *m)
{
    u8 *buf = malloc(65536);

    for (u64 at = 0; at < m->sectors; at += 128) {
        u64 n = MIN(128, m->sectors - at);
        int r = block_sync(m->b, BLOCK_READ, at * 512, buf, n * 512);
        CHECK_EQ(r, 0);
        for (u64 i = 0; i < n && !r; i++)
            if (!m->unknown[at + i] && memcmp(buf + 512 * i, m->shadow + 512 * (at + i), 512)) {
                test_fail(__FILE__, __LINE__, "sector %llu is wrong in the end", (unsigned long long)(at + i));
                free(buf);
                return;
            }
    }
    free(buf);
}

#endif
