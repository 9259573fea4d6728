/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_model_use.c - a guest's use of the image: random requests, many in flight, each looked at when it is done. */
#include "qcow2_model.h"

#include <errno.h>
#include <stdlib.h>

struct request {
    struct block_request rq;
    struct iovec iov[4];
    u8 *buf;
    u32 tag;
    u64 begun;
    bool busy;
};
static struct request requests[FLIGHT];
u32 under_way;
u32 next_tag;

static void request_done(struct block_request *rq, int result)
{
    struct request *q = container_of(rq, struct request, rq);
    u64 first = rq->offset / SECTOR, n = rq->op == BLOCK_FLUSH ? 0 : rq->len / SECTOR, end = ++now;

    q->busy = false;
    under_way--;
    if (disk->cut && result)
        return;
    if (result && result != -ENOSPC)
        die("request %d of %llu bytes at %llu: %s", rq->op, (unsigned long long)rq->len, (unsigned long long)rq->offset,
            strerror(-result));
    if (rq->op == BLOCK_FLUSH && !result)
        flushed(q->begun);
    for (u64 i = 0; i < n && !result; i++) {
        if (rq->op == BLOCK_READ) {
            u32 tag = tag_of(q->buf + i * SECTOR, first + i);
            if (!may_hold(&model[first + i], tag, q->begun) && q->begun > forgotten)
                die("sector %llu reads as write %x", (unsigned long long)(first + i), tag);
        } else if (rq->op != BLOCK_DISCARD) {
            end_write(first + i, q->tag, q->begun, end);
        }
    }
}

/* Where: n sectors at a place, or whole clusters. */
static void choose_place(u64 *first, u64 *count)
{
    u64 sectors = top.size / SECTOR, unit = cluster / SECTOR, n, at;

    n = one_in(8) ? 256 : one_in(3) ? unit * 4 : unit;
    n = 1 + below(MIN(sectors, n));
    at = below(sectors - n + 1);
    if (one_in(3)) { /* whole clusters */
        at -= at % unit;
        n = MIN(sectors - at, align_up(n, unit));
    }
    *first = at;
    *count = n;
}

/* What: the kind is one of 16; a write has a tag of its own, in a buffer for n sectors. */
static void choose_op(struct request *q, u64 kind, u64 at, u64 n)
{
    if (kind < 8) {
        q->rq.op = BLOCK_WRITE;
        q->tag = next_tag++;
        for (u64 i = 0; i < n; i++)
            pattern(q->buf + i * SECTOR, q->tag, at + i);
    } else if (kind < 11) {
        q->rq.op = BLOCK_READ;
    } else if (kind < 12) {
        q->rq.op = BLOCK_DISCARD;
    } else if (kind < 13) {
        q->rq.op = BLOCK_WRITE_ZEROES;
        q->rq.flags = one_in(2) ? BLOCK_UNMAP : 0;
    } else {
        q->rq.op = BLOCK_FLUSH;
        q->rq.offset = q->rq.len = 0;
    }
}

/* The buffer in up to four pieces. */
static void cut_buffer(struct request *q)
{
    u64 done = 0, len = q->rq.len;

    while (q->rq.niov < 3 && done < len) {
        u64 part = one_in(2) ? len - done : 1 + below(len - done);
        q->iov[q->rq.niov++] = (struct iovec){ q->buf + done, part };
        done += part;
    }
    if (done < len)
        q->iov[q->rq.niov++] = (struct iovec){ q->buf + done, len - done };
    q->rq.iov = q->iov;
}

/* The sectors may hold it from now on; those of a discard are as before, or zeroes. */
static void expect(const struct request *q)
{
    for (u64 i = 0; q->rq.op != BLOCK_READ && i < q->rq.len / SECTOR; i++)
        add_write(q->rq.offset / SECTOR + i, q->tag, q->begun);
}

void submit(void)
{
    struct request *q = requests;
    u64 kind = below(16), n, at;

    while (q->busy)
        q++;
    choose_place(&at, &n);
    q->busy = true;
    q->begun = ++now;
    q->tag = 0;
    q->rq = (struct block_request){ .offset = at * SECTOR, .len = n * SECTOR, .done = request_done, .block = &top };
    free(q->buf);
    q->buf = malloc(n * SECTOR);
    choose_op(q, kind, at, n);
    if (q->rq.op <= BLOCK_WRITE)
        cut_buffer(q);
    expect(q);
    under_way++;
    submit_to(&top, &q->rq);
}

void drain(void)
{
    while (under_way)
        if (!step())
            die("requests are under way, but nothing happens");
}

void settle(u64 size)
{
    read_sectors(&top, 0, size / SECTOR, scratch);
    for (u64 i = 0; i < size / SECTOR && !disk->cut; i++) {
        u32 tag = tag_of(scratch + i * SECTOR, i);
        if (!may_hold(&model[i], tag, now + 1))
            die("sector %llu reads as write %x", (unsigned long long)i, tag);
        set_sector(i, tag);
    }
}

void flush_now(void)
{
    struct request *q = requests;
    q->busy = true;
    q->begun = ++now;
    q->rq = (struct block_request){ .op = BLOCK_FLUSH, .done = request_done, .block = &top };
    under_way++;
    submit_to(&top, &q->rq);
    drain();
}
