/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.c - from image to image: convert, commit, rebase. Zeroes are not copied: the target is told that they are
 * zeroes.
 *
 * Reading is synchronous (the host reads ahead). Writing is not: up to SLOTS pieces are under way.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"
#include "block/aio.h"

enum { PIECE = 1 << 20, SLOTS = 8, UNIT = 4096, MANY = 1 << 30 };

struct slot {
    struct block_request rq;
    struct iovec iov;
    struct copy *copy;
    u8 *buf;
    u32 under_way;
};

struct copy {
    struct block *to;
    struct slot slots[SLOTS];
    u32 unit;  /* zeroes are looked for in pieces of this size */
    int result;
    struct error *err;
    struct block_progress *progress;
    u64 total;
};

static int copy_begin(struct copy *c, struct block *to, u64 total, struct block_progress *p, struct error *err)
{
    struct block_info info;

    *c = (struct copy){ .to = to, .err = err, .progress = p, .total = total, .unit = UNIT };
    if (!block_info(to, &info, NULL)) {
        c->unit = MAX(info.cluster_size, UNIT);
        block_info_free(&info);
    }
    c->unit = MIN(c->unit, PIECE);
    for (u32 i = 0; i < SLOTS; i++) {
        void *buf;
        if (posix_memalign(&buf, UNIT, PIECE))
            return error_set(err, ENOMEM, "no memory for copying");
        c->slots[i].buf = buf;
        c->slots[i].copy = c;
    }
    return 0;
}

static void slot_done(struct block_request *rq, int result)
{
    struct slot *s = container_of(rq, struct slot, rq);

    s->under_way = 0;
    if (result && !s->copy->result)
        s->copy->result = result;
}

static int write_failed(struct copy *c)
{
    if (c->result == -ENOSPC)
        return error_set(c->err, ENOSPC, "%s: its disk is full", c->to->path);
    return error_set(c->err, -c->result, "%s cannot be written: %s", c->to->path, strerror(-c->result));
}

/* Returns a free slot, and waits for one if necessary. */
static struct slot *take(struct copy *c)
{
    for (;;) {
        for (u32 i = 0; i < SLOTS; i++)
            if (!c->slots[i].under_way)
                return &c->slots[i];
        aio_wait(c->to->aio);
    }
}

static int send_off(struct copy *c, struct slot *s, enum block_op op, u64 offset, u8 *data, u64 len)
{
    s->iov = (struct iovec){ data, len };
    s->rq = (struct block_request){ .op = op, .flags = BLOCK_UNMAP, .offset = offset, .len = len, .iov = &s->iov,
                                    .niov = 1, .done = slot_done };
    s->under_way = 1;
    block_submit(c->to, &s->rq);
    block_kick(c->to);
    return c->result ? write_failed(c) : 0;
}

static int copy_zero(struct copy *c, u64 offset, u64 len)
{
    return send_off(c, take(c), BLOCK_WRITE_ZEROES, offset, NULL, len);
}

/* r: the result of the copying so far; if it failed, err has its sentence already. A write may have failed since
   then without notice. */
static int copy_end(struct copy *c, int r)
{
    while (c->to->under_way)
        aio_wait(c->to->aio);
    for (u32 i = 0; i < SLOTS; i++)
        free(c->slots[i].buf);
    return r || !c->result ? r : write_failed(c);
}

static bool is_zero(const u8 *p, u64 len)
{
    return len == 0 || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Sends what a slot's buffer holds. `keep` says for each unit whether to write it. */
static int copy_units(struct copy *c, struct slot *s, u64 offset, u64 len, bool zeroes_too,
                      bool (*keep)(const u8 *old, const u8 *new, u64 len), const u8 *other)
{
    u8 *buf = s->buf;
    int r = 0;

    for (u64 at = 0, end; !r && at < len; at = end) {
        bool kept = keep(buf + at, other ? other + at : NULL, MIN(c->unit, len - at));
        for (end = at + c->unit; end < len; end += c->unit)
            if (keep(buf + end, other ? other + end : NULL, MIN(c->unit, len - end)) != kept)
                break;
        end = MIN(end, len);
        if (!kept) {
            if (zeroes_too)
                r = copy_zero(c, offset + at, end - at);
        } else if (at == 0 && end == len) {
            r = send_off(c, s, BLOCK_WRITE, offset, buf, len);
        } else { /* the slot's buffer holds several pieces: they are written one after the other, so that the buffer
                    is free afterwards */
            struct slot part = { .copy = c };
            r = send_off(c, &part, BLOCK_WRITE, offset + at, buf + at, end - at);
            while (part.under_way)
                aio_wait(c->to->aio);
            if (!r && c->result)
                r = write_failed(c);
        }
    }
    return r;
}

static bool not_zero(const u8 *data, const u8 *unused, u64 len)
{
    return !is_zero(data, len);
}

static bool differs(const u8 *a, const u8 *b, u64 len)
{
    return memcmp(a, b, len);
}

static int told(struct copy *c, u64 done)
{
    if (c->progress && c->progress->tell(c->progress, done, c->total))
        return error_set(c->err, EINTR, "interrupted");
    return 0;
}

static int read_failed(struct block *b, int r, struct error *err)
{
    return error_set(err, -r, "%s cannot be read: %s", b->path, strerror(-r));
}

/* The guest decides what a raw image contains. So, if the format of the image is guessed, the guest decides the
   result of the guess: see raw.c. */
static void warn_of_guess(struct block *from, const struct block_driver *to, const char *path)
{
    u8 sector[BLOCK_SECTOR];

    if (to == &block_raw && from->size >= sizeof(sector) && !block_sync(from, BLOCK_READ, 0, sector, sizeof(sector)) &&
        raw_names_files(sector))
        log_warn("%s: the guest's disk begins as another image format does, and would be taken for one: use it with format=raw "
                 "(lodge disk: -f raw)", path);
}

/* ---- convert ---- */

static int copy_all(struct block *from, struct copy *c, bool reads_as_zero)
{
    int r = 0;

    for (u64 at = 0, len; !r && at < c->total; at += len) {
        enum block_map what;
        len = MIN(c->total - at, MANY);
        if ((r = block_map(from, at, &len, &what)))
            return read_failed(from, r, c->err);
        if (what == BLOCK_MAP_ZERO) {
            if (!reads_as_zero)
                r = copy_zero(c, at, len);
        } else {
            /* Pieces begin at multiples of their size, so that clusters of the target are written as a whole. */
            len = MIN(len, PIECE - at % PIECE);
            struct slot *s = take(c);
            r = block_sync(from, BLOCK_READ, at, s->buf, len);
            if (r)
                return read_failed(from, r, c->err);
            r = copy_units(c, s, at, len, !reads_as_zero, not_zero, NULL);
        }
        if (!r)
            r = told(c, at + len);
    }
    return r;
}

int block_convert(struct block *src, const struct block_create *asked, struct block_progress *p, struct error *err)
{
    struct block_create t = *asked;
    struct block_options o = { .path = t.path, .discard = true };
    struct stat st;
    struct error close_err;
    struct copy c;
    int r;

    t.size = src->size;
    r = block_format_named(t.format, &o.format, err);
    if (!r)
        r = block_create(&t, err);
    if (r)
        return r;
    bool device = !stat(t.path, &st) && S_ISBLK(st.st_mode);
    struct block *dst = block_open(&o, NULL, err);
    if (!dst) {
        r = -errno;
    } else {
        r = copy_begin(&c, dst, src->size, p, err);
        if (!r)
            r = copy_all(src, &c, !device || o.format == BLOCK_QCOW2);
        r = copy_end(&c, r);
        if (!r)
            warn_of_guess(src, dst->driver, t.path);
        int e = block_close(dst, &close_err);
        if (!r && e) {
            r = e;
            *err = close_err;
        }
    }
    if (r && !device)
        opener_remove(OPENER_DISK, t.path);
    return r;
}

/* ---- commit ---- */

static int commit_all(struct block *b, struct copy *c)
{
    int r = 0;

    for (u64 at = 0, len; !r && at < b->size; at += len) {
        enum block_map what;
        len = MIN(b->size - at, MANY);
        if ((r = b->driver->map(b, at, &len, &what)))
            return read_failed(b, r, c->err);
        if (what == BLOCK_MAP_ZERO) {
            r = copy_zero(c, at, len);
        } else if (what == BLOCK_MAP_DATA) {
            len = MIN(len, PIECE - at % PIECE);
            struct slot *s = take(c);
            r = block_sync(b, BLOCK_READ, at, s->buf, len);
            if (r)
                return read_failed(b, r, c->err);
            r = copy_units(c, s, at, len, true, not_zero, NULL);
        }
        if (!r)
            r = told(c, at + len);
    }
    return r;
}

int block_commit(struct block *b, struct block_progress *p, struct error *err)
{
    struct copy c;
    int r;

    if (!b->backing)
        return error_set(err, EINVAL, "%s has no backing file", b->path);
    if (!b->driver->make_empty)
        return error_set(err, EOPNOTSUPP, "%s: a %s image cannot be committed", b->path, b->driver->name);
    if (!b->backing->file)
        return error_set(err, EOPNOTSUPP, "%s: its backing file is on a server; copy with \"lodge disk convert\"", b->path);
    r = block_backing_writable(b, err);
    if (r)
        return r;
    if (b->backing->size < b->size && (r = block_resize(b->backing, b->size, false, err)))
        return r;
    r = copy_begin(&c, b->backing, b->size, p, err);
    if (!r)
        r = commit_all(b, &c);
    r = copy_end(&c, r);
    /* The data may be removed here only when the backing file has it for good. */
    if (!r && (r = block_sync(b->backing, BLOCK_FLUSH, 0, NULL, 0)))
        error_set(err, -r, "%s: %s", b->backing->path, strerror(-r));
    if (!r)
        warn_of_guess(b, b->backing->driver, b->backing->path);
    return r ? r : b->driver->make_empty(b, err);
}

/* ---- rebase ---- */

static int rebase_all(struct block *b, struct block *below, struct copy *c, u8 *other)
{
    int r = 0;

    for (u64 at = 0, len; !r && at < b->size; at += len) {
        enum block_map what, old, new = BLOCK_MAP_ZERO;
        len = MIN(b->size - at, PIECE - at % PIECE);
        if ((r = b->driver->map(b, at, &len, &what)))
            return read_failed(b, r, c->err);
        if (what == BLOCK_MAP_BACKING) {
            if ((r = block_map(b, at, &len, &old)))
                return read_failed(b, r, c->err);
            if (below && at < below->size) {
                len = MIN(len, below->size - at);
                if ((r = block_map(below, at, &len, &new)))
                    return read_failed(below, r, c->err);
            }
            if (old == BLOCK_MAP_DATA || new == BLOCK_MAP_DATA) {
                struct slot *s = take(c);
                if ((r = block_sync(b, BLOCK_READ, at, s->buf, len)))
                    return read_failed(b, r, c->err);
                if (new == BLOCK_MAP_ZERO)
                    memset(other, 0, len);
                else if ((r = block_sync(below, BLOCK_READ, at, other, len)))
                    return read_failed(below, r, c->err);
                r = copy_units(c, s, at, len, false, differs, other);
            }
        }
        if (!r)
            r = told(c, at + len);
    }
    return r;
}

int block_rebase(struct block *b, const char *backing, const char *format, bool unsafe, struct block_progress *p,
                 struct error *err)
{
    struct block *below = NULL;
    struct copy c;
    u8 *other = NULL;
    char path[PATH_MAX];
    int r;

    if (!b->driver->set_backing)
        return error_set(err, EOPNOTSUPP, "%s: a %s image has no backing file", b->path, b->driver->name);
    if (backing && (!unsafe || !format)) {
        struct block_options o = { .path = path, .readonly = true, .follow = b->follow };
        if ((r = block_format_named(format, &o.format, err)) || (r = block_resolve(b, backing, path, err)))
            return r;
        if (!(below = block_open(&o, NULL, err)))
            return -errno;
        if (!format)
            format = below->driver == &block_qcow2 ? "qcow2" : "raw";
    }
    r = 0;
    if (!unsafe) {
        r = copy_begin(&c, b, b->size, p, err);
        other = malloc(PIECE);
        if (!r)
            r = other ? rebase_all(b, below, &c, other) : error_set(err, ENOMEM, "no memory for copying");
        r = copy_end(&c, r);
        if (!r && (r = block_sync(b, BLOCK_FLUSH, 0, NULL, 0)))
            error_set(err, -r, "%s: %s", b->path, strerror(-r));
    }
    if (!r)
        r = b->driver->set_backing(b, backing, format, err);
    if (below)
        block_close(below, NULL);
    free(other);
    return r;
}
