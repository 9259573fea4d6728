/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2.c - the driver: opening, closing, and requests. A request goes straight to the file if tables in memory know
 * all its clusters and none needs a change. Any other request goes to a worker thread. A request that changes which
 * clusters hold what has its range to itself: it waits for all requests that overlap it, and later ones that overlap
 * wait for it.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>

enum { RUNS_MAX = 64, L2_CACHE = 32 << 20, BLOCK_CACHE = 8 << 20, TABLES_MIN = 16 };

struct op;

struct piece {
    struct op *op;
    union {
        struct file_io io;
        struct block_request rq; /* of the backing file */
    };
};

struct op {
    struct op *prev, *next; /* in the list of ops under way, or of those that wait */
    struct qcow2 *q;
    struct block_request *rq;
    u64 first, last; /* guest clusters */
    bool changes;
    u64 seen; /* for a flush: the number of the last flush that had begun */
    int result;
    struct aio_work work;
    u32 left; /* number of pieces not done yet, plus one */
    struct piece *pieces;
};

struct qcow2_requests {
    struct op active, waiting; /* heads of lists */
    bool scanning, again;
};

static void list_init(struct op *head) { head->next = head->prev = head; }

static void list_append(struct op *head, struct op *op)
{
    op->prev = head->prev;
    op->next = head;
    op->prev->next = op->next->prev = op;
}

static void list_remove(struct op *op)
{
    op->prev->next = op->next;
    op->next->prev = op->prev;
}

/* ---- requests ---- */

static bool conflicts(const struct op *a, const struct op *b)
{
    return a->rq->op != BLOCK_FLUSH && b->rq->op != BLOCK_FLUSH && (a->changes || b->changes) &&
           a->first <= b->last && b->first <= a->last;
}

/* Looks the request up in the tables in memory. Returns the number of runs, or 0: a worker must do it. */
static u32 plan_runs(struct op *op, struct run *run)
{
    struct block_request *rq = op->rq;
    struct qcow2 *q = op->q;
    bool write = rq->op == BLOCK_WRITE;
    u32 n = 0;

    if (rq->op > BLOCK_WRITE)
        return 0;
    pthread_mutex_lock(&q->lock);
    for (u64 done = 0; done < rq->len; done += run[n++].len) {
        if (n == RUNS_MAX || qcow2_lookup(q, rq->offset + done, rq->len - done, true, &run[n]) ||
            run[n].kind == RUN_COMPRESSED ||
            (write && (run[n].kind != RUN_DATA || !run[n].own || q->broken ||
                       run[n].host + run[n].len > align_up(q->file_end, q->cluster_size) ||
                       is_metadata(q, cluster_of(q, run[n].host),
                                   cluster_of(q, run[n].host + run[n].len - 1) - cluster_of(q, run[n].host) + 1)))) {
            n = 0;
            break;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return n;
}

static void start_waiting(struct qcow2 *q);

static void finish(struct op *op)
{
    struct qcow2 *q = op->q;
    struct block_request *rq = op->rq;
    int result = op->result;

    list_remove(op);
    free(op->pieces);
    free(op);
    start_waiting(q);
    block_done(rq, result);
}

static void piece_done(struct op *op, int result)
{
    if (result && !op->result)
        op->result = result;
    if (!--op->left)
        finish(op);
}

static void file_done(struct file_io *io, int result)
{
    piece_done(container_of(io, struct piece, io)->op, result);
}

static void backing_done(struct block_request *rq, int result)
{
    piece_done(container_of(rq, struct piece, rq)->op, result);
}

static void work_run(struct aio_work *w)
{
    struct op *op = container_of(w, struct op, work);
    struct block_request *rq = op->rq;

    switch (rq->op) {
    case BLOCK_READ:
        op->result = qcow2_read(op->q, rq->offset, rq->iov, rq->niov, 0, rq->len);
        break;
    case BLOCK_WRITE:
        op->result = qcow2_write(op->q, rq->offset, rq->iov, rq->niov, rq->len);
        break;
    case BLOCK_FLUSH:
        op->result = qcow2_flush_since(op->q, op->seen);
        break;
    case BLOCK_DISCARD:
        op->result = qcow2_discard(op->q, rq->offset, rq->len);
        break;
    case BLOCK_WRITE_ZEROES:
        op->result = qcow2_zero(op->q, rq->offset, rq->len, rq->flags & BLOCK_UNMAP);
        break;
    }
}

static void work_done(struct aio_work *w)
{
    finish(container_of(w, struct op, work));
}

static void start_pieces(struct op *op, const struct run *run, u32 n)
{
    struct block_request *rq = op->rq;
    struct block *b = op->q->b;
    /* Each border between runs may cut one piece of memory in two. */
    struct piece *p = calloc(1, n * sizeof(*p) + (n > 1 ? (size_t)(rq->niov + n) * sizeof(struct iovec) : 0));
    struct iovec *iov = (struct iovec *)(void *)(p + n);
    u64 done = 0;

    op->pieces = p;
    op->left = 1;
    for (u32 i = 0; p && i < n; done += run[i++].len, p++) {
        u64 at = rq->offset + done;
        if (run[i].kind == RUN_ZERO || (run[i].kind == RUN_BACKING && (!b->backing || at >= b->backing->size))) {
            iov_zero(rq->iov, rq->niov, done, run[i].len);
            continue;
        }
        const struct iovec *mem = rq->iov;
        u32 nmem = rq->niov;
        if (n > 1) {
            nmem = iov_slice(iov, rq->niov, rq->iov, rq->niov, done, run[i].len);
            mem = iov;
            iov += nmem;
        }
        p->op = op;
        op->left++;
        if (run[i].kind == RUN_BACKING) {
            p->rq = (struct block_request){ .op = BLOCK_READ, .offset = at, .len = run[i].len, .iov = mem, .niov = nmem,
                                            .done = backing_done };
            block_submit_pad(b->backing, &p->rq);
        } else {
            p->io = (struct file_io){ .op = rq->op == BLOCK_WRITE ? FILE_WRITE : FILE_READ, .offset = run[i].host,
                                      .len = run[i].len, .iov = mem, .niov = nmem, .done = file_done };
            file_submit(b->file, &p->io);
        }
    }
    piece_done(op, op->pieces ? 0 : -ENOMEM);
}

/* Starts the op if nothing before it conflicts with it. false: it must wait. */
static bool start(struct op *op, struct op *before_end)
{
    struct run run[RUNS_MAX];
    struct qcow2_requests *rs = op->q->requests;
    u32 n = plan_runs(op, run);

    op->changes = op->rq->op != BLOCK_READ && !n;
    for (struct op *a = rs->active.next; a != &rs->active; a = a->next)
        if (conflicts(a, op))
            return false;
    for (struct op *a = rs->waiting.next; a != before_end; a = a->next)
        if (conflicts(a, op))
            return false;
    if (before_end == op) /* it is in the list of those that wait */
        list_remove(op);
    list_append(&rs->active, op);
    if (n) {
        start_pieces(op, run, n);
    } else {
        op->work = (struct aio_work){ .run = work_run, .done = work_done };
        aio_work(op->q->b->aio, &op->work);
    }
    return true;
}

/* An op that starts may end at once and call this function again. The outer call then starts its scan again. */
static void start_waiting(struct qcow2 *q)
{
    struct qcow2_requests *rs = q->requests;
    bool any = false;

    rs->again = true;
    if (rs->scanning)
        return;
    rs->scanning = true;
    while (rs->again) {
        rs->again = false;
        for (struct op *op = rs->waiting.next, *next; op != &rs->waiting && !rs->again; op = next) {
            next = op->next;
            any |= start(op, op);
        }
    }
    rs->scanning = false;
    if (any)
        aio_kick(q->b->aio);
}

static void submit(struct block *b, struct block_request *rq)
{
    struct qcow2 *q = b->priv;

    if ((rq->op == BLOCK_FLUSH && b->readonly) || (rq->op == BLOCK_DISCARD && !b->discard) ||
        (rq->op != BLOCK_FLUSH && !rq->len)) {
        block_done(rq, 0);
        return;
    }
    struct op *op = calloc(1, sizeof(*op));
    if (!op) {
        block_done(rq, -ENOMEM);
        return;
    }
    *op = (struct op){ .q = q, .rq = rq };
    if (rq->op == BLOCK_FLUSH) {
        pthread_mutex_lock(&q->lock);
        op->seen = q->flushes_begun;
        pthread_mutex_unlock(&q->lock);
    } else {
        op->first = cluster_of(q, rq->offset);
        op->last = cluster_of(q, rq->offset + rq->len - 1);
    }
    if (!start(op, &q->requests->waiting))
        list_append(&q->requests->waiting, op);
}

static int read_now(struct block *b, u64 offset, void *buf, u64 len)
{
    return qcow2_read(b->priv, offset, &(struct iovec){ buf, len }, 1, 0, len);
}

static int map(struct block *b, u64 offset, u64 *len, enum block_map *what)
{
    struct qcow2 *q = b->priv;
    struct run run;

    pthread_mutex_lock(&q->op);
    int r = qcow2_lookup(q, offset, MIN(*len, b->size - offset), false, &run);
    pthread_mutex_unlock(&q->op);
    if (r)
        return r;
    *len = run.len;
    *what = run.kind == RUN_ZERO ? BLOCK_MAP_ZERO : run.kind != RUN_BACKING ? BLOCK_MAP_DATA
            : b->backing ? BLOCK_MAP_BACKING : BLOCK_MAP_ZERO;
    return 0;
}

/* ---- opening and closing ---- */

static void destroy(struct qcow2 *q)
{
    top_free(&q->l1);
    top_free(&q->reftable);
    qcow2_free_snapshots(q->snapshots, q->nsnapshots);
    qcow2_free_header(q);
    metadata_free(q);
    free(q->dropped);
    free(q->unpacked);
    free(q->requests);
    pthread_mutex_destroy(&q->flushing);
    pthread_mutex_destroy(&q->op);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->packed);
    free(q);
}

int qcow2_load_tables(struct qcow2 *q, struct error *err)
{
    const u8 *h = q->header;
    u64 l2_most = MAX(L2_CACHE >> q->cluster_bits, TABLES_MIN), blocks = MAX(BLOCK_CACHE >> q->cluster_bits, TABLES_MIN);
    u32 reftable_n = get32(h + H_REFTABLE_CLUSTERS) << (q->cluster_bits - 3);
    struct top l1, reftable;

    u64 chain = get32(h + H_L1_SIZE) * 8ull;

    for (const struct block *o = q->b->overlay; o; o = o->overlay)
        if (o->driver == &block_qcow2)
            chain += ((const struct qcow2 *)o->priv)->l1.n * 8ull;
    if (chain > QCOW2_MAX_CHAIN_L1)
        return error_set(err, EFBIG, "%s: the L1 tables of its chain of images have more than %d MiB together; convert it into "
                         "one image", q->b->path, QCOW2_MAX_CHAIN_L1 >> 20);
    int r = top_load(q, &l1, get64(h + H_L1_OFFSET), get32(h + H_L1_SIZE), l2_most);
    if (!r) {
        r = top_load(q, &reftable, get64(h + H_REFTABLE_OFFSET), reftable_n, blocks);
        if (r)
            top_free(&l1);
    }
    if (r)
        return error_set(err, -r, "cannot read the tables of %s: %s", q->b->path, strerror(-r));
    top_replace(&q->l1, &l1);
    top_replace(&q->reftable, &reftable);
    q->free_hint = 0;
    r = metadata_collect(q);
    if (r && r != -EIO)
        return error_set(err, -r, "cannot open %s: %s", q->b->path, strerror(-r));
    if (r && !q->b->check_only)
        return error_set(err, EIO, "%s is damaged: its tables lie over one another; see lodge disk check", q->b->path);
    return 0;
}

static int prepare_writing(struct qcow2 *q, struct error *err)
{
    int r = 0;

    if (q->incompatible & INCOMPATIBLE_CORRUPT)
        return error_set(err, EIO, "%s is marked as damaged and can only be read; repair it with lodge disk check -r all",
                         q->b->path);
    if (q->autoclear) {
        /* We do not maintain what these bits vouch for (dirty bitmaps, and things unknown to us). */
        q->autoclear = 0;
        r = qcow2_write_header(q);
        r = r ? r : file_flush(q->file);
        if (r)
            return error_set(err, -r, "cannot write to %s: %s", q->b->path, strerror(-r));
    }
    return q->incompatible & INCOMPATIBLE_DIRTY ? qcow2_rebuild(q, false, err) : 0;
}

static int open_image(struct block *b, struct error *err)
{
    struct qcow2 *q = calloc(1, sizeof(*q));

    if (!q)
        return error_set(err, ENOMEM, "no memory");
    q->b = b;
    q->file = b->file;
    b->priv = q;
    pthread_mutex_init(&q->flushing, NULL);
    pthread_mutex_init(&q->op, NULL);
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->packed, NULL);
    q->requests = calloc(1, sizeof(*q->requests));
    int r = q->requests ? qcow2_read_header(q, err) : error_set(err, ENOMEM, "no memory");
    if (!r) {
        list_init(&q->requests->active);
        list_init(&q->requests->waiting);
        r = qcow2_read_snapshots(q, err);
        r = r ? r : qcow2_load_tables(q, err);
    }
    if (!r) {
        b->size = align_down(q->size, BLOCK_SECTOR);
        b->alignment = q->cluster_size < 4096 ? BLOCK_SECTOR : 4096;
        if (q->cluster_size < 4096)
            file_buffer_all(b->file);
        if (!b->readonly && !b->check_only)
            r = prepare_writing(q, err);
    }
    if (!r && q->backing && !b->alone)
        r = block_open_backing(b, q->backing, q->backing_format, err);
    if (r)
        destroy(q);
    return r;
}

static int close_image(struct block *b, struct error *err)
{
    struct qcow2 *q = b->priv;
    int r = 0;

    if (!b->readonly && !q->broken) {
        r = qcow2_flush(q);
        if (!r && q->reftable.dirty_tables) /* the clusters that the first flush gave back */
            r = qcow2_flush(q);
        if (r)
            error_set(err, -r, "cannot write the tables of %s back: %s; what was flushed before is there", b->path,
                      strerror(-r));
    }
    destroy(q);
    return r;
}

const struct block_driver block_qcow2 = {
    .name = "qcow2",
    .open = open_image,
    .close = close_image,
    .submit = submit,
    .read = read_now,
    .create = qcow2_create,
    .map = map,
    .info = qcow2_info,
    .check = qcow2_check,
    .resize = qcow2_resize,
    .snapshot = qcow2_snapshot,
    .set_backing = qcow2_set_backing,
    .make_empty = qcow2_make_empty,
};
