/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.c - opens a chain of images and hands requests to its top one.
 */
#include "block/block.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"
#include "base/signals.h"
#include "block/file.h"

enum { MAX_CHAIN = 64 };

/* ---- open ---- */

int block_format_named(const char *name, enum block_format *format, struct error *err)
{
    *format = BLOCK_AUTO;
    if (!name || !*name)
        return 0;
    if (!strcmp(name, "raw"))
        *format = BLOCK_RAW;
    else if (!strcmp(name, "qcow2"))
        *format = BLOCK_QCOW2;
    else
        return error_set(err, EINVAL, "the format \"%.20s\" is not one of lodge's, which are raw and qcow2; qemu-img convert "
                         "makes these from it", name);
    return 0;
}

static int probe(struct block *b, enum block_format format, struct error *err)
{
    u8 magic[4] = { 0 };

    b->probed = format == BLOCK_AUTO;
    if (format == BLOCK_AUTO) {
        int r = file_pread(b->file, 0, magic, sizeof(magic));
        if (r)
            return error_set(err, -r, "%s cannot be read: %s", b->path, strerror(-r));
        format = memcmp(magic, "QFI\xfb", 4) ? BLOCK_RAW : BLOCK_QCOW2;
    }
    b->driver = format == BLOCK_QCOW2 ? &block_qcow2 : &block_raw;
    return 0;
}

/* Opens one image and those below it. b0 is filled in except for what this function finds out. file: already open,
   or NULL. real: the place of the file, without links, or NULL: b0.path. */
static struct block *open_one(struct block b0, const char *real, enum block_format format, struct file *file,
                              struct error *err)
{
    struct block *b = malloc(sizeof(*b));
    int r;

    if (b) {
        *b = b0;
        b->path = strdup(b0.path);
    }
    if (!b || !b->path) {
        error_set(err, ENOMEM, "%s: no memory", b0.path);
        file_close(file);
        free(b);
        return NULL;
    }
    b->file = file;
    if (!file && block_is_nbd(b->path)) {
        b->driver = &block_nbd;
        r = format == BLOCK_QCOW2 ? error_set(err, EINVAL, "%s: only raw images can be used over NBD (let the server, for "
                                              "example qemu-nbd, read the qcow2)", b->path) : 0;
    } else {
        struct file_options fo = { .path = b->path, .readonly = b->readonly, .direct = b->cache == BLOCK_DIRECT,
                                   .no_lock = b->no_lock, .real = real };
        if (!b->file)
            b->file = file_open(&fo, b->aio, err);
        r = b->file ? probe(b, format, err) : -errno;
    }
    if (!r)
        r = b->driver->open(b, err);
    if (!r)
        return b;
    if (b->backing)
        block_close(b->backing, NULL);
    file_close(b->file);
    free(b->path);
    free(b);
    errno = -r;
    return NULL;
}

int block_open_backing(struct block *b, const char *name, const char *format, struct error *err)
{
    char path[PATH_MAX], real[PATH_MAX];
    enum block_format f;
    struct error why = { "" };
    struct stat st;
    u32 depth = 1;
    int r = block_resolve(b, name, path, err);

    if (!r)
        r = block_may_follow(b, path, real, err);
    if (r)
        return r;
    if (block_format_named(format && strcmp(format, "nbd") ? format : NULL, &f, &why))
        return error_set(err, EINVAL, "the backing file of %.150s: %.300s", b->path, why.text);
    bool there = !block_is_nbd(path) && !opener_stat(OPENER_DISK, path, 0, &st);
    for (const struct block *o = b; o; o = o->overlay, depth++)
        if (there && o->file && o->file->dev == (S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev) &&
            o->file->ino == (S_ISBLK(st.st_mode) ? 0 : st.st_ino))
            return error_set(err, ELOOP, "%s: its chain of backing files comes back to %s", b->path, path);
    if (depth > MAX_CHAIN)
        return error_set(err, ELOOP, "%s: its chain of backing files is longer than %d", b->path, MAX_CHAIN);
    struct block below = { .aio = b->aio, .overlay = b, .path = path, .readonly = true, .cache = b->cache,
                           .no_lock = b->no_lock, .check_only = b->check_only, .follow = b->follow };
    b->backing = open_one(below, real[0] ? real : NULL, f, NULL, &why);
    /* A message that already names the image in question is handed on unchanged. If each link added one more name,
       the reason would be cut off. */
    if (!b->backing && (errno == EXDEV || !strncmp(why.text, "the backing file of ", 20)))
        return error_set(err, errno, "%s", why.text);
    if (!b->backing)
        return error_set(err, errno, "the backing file of %.150s: %.300s", b->path, why.text);
    return 0;
}

int block_backing_writable(struct block *b, struct error *err)
{
    struct block *old = b->backing;
    enum block_format format = old->driver == &block_qcow2 ? BLOCK_QCOW2 : BLOCK_RAW;
    char path[PATH_MAX], real[PATH_MAX];

    snprintf(path, sizeof(path), "%s", old->path);
    b->follow.store = NULL; /* the images of the store are never written */
    int r = block_may_follow(b, path, real, err);
    if (r)
        return r;
    b->backing = NULL;
    block_close(old, NULL);
    struct block below = { .aio = b->aio, .overlay = b, .path = path, .discard = true, .cache = b->cache,
                           .follow = b->follow };
    b->backing = open_one(below, real[0] ? real : NULL, format, NULL, err);
    return b->backing ? 0 : -errno;
}

/* Makes a new qcow2 over o->path and opens it. */
static struct block *open_overlay(struct block b0, const struct block_options *o, struct error *err)
{
    struct block base = b0, *b;
    bool unnamed = !o->overlay[0];
    char path[PATH_MAX], label[PATH_MAX + 32];
    int r = 0;

    base.readonly = true;
    b = open_one(base, NULL, o->format, NULL, err);
    if (!b)
        return NULL;
    struct block_create c = { .path = o->overlay, .format = "qcow2", .size = b->size, .backing = path,
                              .backing_format = b->driver == &block_qcow2 ? "qcow2" : "raw" };
    block_close(b, NULL);
    if (block_is_nbd(o->path))
        snprintf(path, sizeof(path), "%s", o->path);
    else if (!opener_real(OPENER_DISK, o->path, path))
        r = error_set(err, errno, "%s: %s", o->path, strerror(errno));
    snprintf(label, sizeof(label), "%s (throw-away overlay)", path);
    struct file_options fo = { .path = unnamed ? label : o->overlay, .direct = o->cache == BLOCK_DIRECT, .create = true,
                               .unnamed = unnamed };
    struct file *f = r ? NULL : file_open(&fo, b0.aio, err);
    if (!f)
        return NULL;
    r = block_qcow2.create(f, &c, err);
    if (r) {
        file_unlink(f);
        file_close(f);
        return NULL;
    }
    b0.path = (char *)(uintptr_t)fo.path; /* it is copied */
    b0.readonly = false;
    b0.own_name = true;
    b = open_one(b0, NULL, BLOCK_QCOW2, f, err);
    if (!b && !unnamed) { /* or the next attempt would find the file there */
        r = errno;
        opener_remove(OPENER_OVERLAY, o->overlay);
        errno = r;
    }
    return b;
}

static struct block *open_chain(const struct block_options *o, u32 how, struct loop *loop, struct block_hook *hook,
                                struct error *err)
{
    struct block b0 = { .path = (char *)(uintptr_t)o->path, .readonly = o->readonly, .discard = o->discard,
                        .no_lock = o->no_lock, .cache = o->cache, .check_only = how & BLOCK_DAMAGED,
                        .alone = how & BLOCK_ALONE, .follow = o->follow }, *b;

    signals_as_error(SIGXFSZ); /* RLIMIT_FSIZE then causes an error of the request, not the end of the process */
    b0.aio = aio_new(loop, hook, getenv("LODGE_BLOCK_IO"), err);
    if (!b0.aio)
        return NULL;
    b = o->overlay ? open_overlay(b0, o, err) : open_one(b0, NULL, o->format, NULL, err);
    if (b)
        b->top = true;
    else
        aio_free(b0.aio);
    return b;
}

struct block *block_open(const struct block_options *o, struct loop *loop, struct error *err)
{
    return open_chain(o, 0, loop, NULL, err);
}

struct block *block_open_tool(const struct block_options *o, u32 how, struct error *err)
{
    return open_chain(o, how, NULL, NULL, err);
}

struct block *block_open_hooked(const struct block_options *o, struct loop *loop, struct block_hook *hook, struct error *err)
{
    return open_chain(o, 0, loop, hook, err);
}

int block_close(struct block *b, struct error *err)
{
    struct aio *aio = b->top ? b->aio : NULL;
    int r;

    block_drain(b);
    r = b->driver->close(b, err);
    if (b->backing)
        block_close(b->backing, NULL);
    file_close(b->file);
    aio_free(aio);
    free(b->path);
    free(b);
    return r;
}

int block_attach(struct block *b, struct loop *loop)
{
    return aio_attach(b->aio, loop);
}

void block_detach(struct block *b)
{
    aio_detach(b->aio);
}

void block_hurry(struct block *b, bool on)
{
    for (; b; b = b->backing)
        if (b->driver->hurry)
            b->driver->hurry(b, on);
}

u64 block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
u32 block_alignment(const struct block *b) { return b->alignment; }
const char *block_path(const struct block *b) { return b->path; }
struct block *block_backing(struct block *b) { return b->backing; }

/* ---- requests ---- */

/* 1: the driver shall handle it. 0, -errno: it has ended already. */
static int check(const struct block *b, const struct block_request *rq)
{
    if (rq->op == BLOCK_FLUSH)
        return 1;
    if (rq->op > BLOCK_WRITE_ZEROES || ((rq->offset | rq->len) & (BLOCK_SECTOR - 1)) || rq->offset > b->size ||
        rq->len > b->size - rq->offset || rq->niov > BLOCK_MAX_IOV)
        return -EINVAL;
    if (rq->op != BLOCK_READ && b->readonly)
        return -EROFS;
    if (!rq->len || (rq->op == BLOCK_DISCARD && !b->discard))
        return 0;
    return 1;
}

void block_submit(struct block *b, struct block_request *rq)
{
    struct aio *aio = b->aio;
    int r = check(b, rq);

    rq->block = b;
    rq->next = NULL;
    b->under_way++;
    if (rq->op <= BLOCK_WRITE_ZEROES) {
        b->stats.requests[rq->op]++;
        b->stats.bytes[rq->op] += rq->op == BLOCK_FLUSH ? 0 : rq->len;
    }
    __atomic_store_n(&aio->owner, pthread_self(), __ATOMIC_RELAXED);
    aio->submitting++;
    if (r > 0)
        b->driver->submit(b, rq);
    else
        block_done(rq, r);
    aio->submitting--;
}

void block_done(struct block_request *rq, int result)
{
    struct block *b = rq->block;

    if (b->aio->submitting) {
        aio_request_done(b->aio, rq, result);
        return;
    }
    b->under_way--;
    rq->done(rq, result);
}

void block_kick(struct block *b)
{
    aio_kick(b->aio);
}

void block_drain(struct block *b)
{
    while (b->under_way)
        aio_wait(b->aio);
}

struct sync {
    struct block_request rq;
    bool over;
    int result;
};

static void sync_done(struct block_request *rq, int result)
{
    struct sync *s = container_of(rq, struct sync, rq);

    s->over = true;
    s->result = result;
}

int block_sync(struct block *b, enum block_op op, u64 offset, void *data, u64 len)
{
    struct iovec v = { data, len };
    struct sync s = { .rq = { .op = op, .offset = offset, .len = len, .iov = &v, .niov = 1, .done = sync_done } };

    /* this way is shorter; this thread would have to serve nobody */
    if (op == BLOCK_READ && b->driver->read && !b->aio->under_way) {
        int r = check(b, &s.rq);
        return r > 0 ? b->driver->read(b, offset, data, len) : r;
    }
    block_submit(b, &s.rq);
    while (!s.over)
        aio_wait(b->aio);
    return s.result;
}

struct block_stats block_stats(const struct block *b)
{
    struct block_stats s = b->stats;

    s.syscalls = __atomic_load_n(&b->aio->syscalls, __ATOMIC_RELAXED);
    return s;
}

/* ---- reads of a backing file ---- */

struct padded {
    struct block_request rq, *whole;
    struct iovec iov[];
};

static void padded_done(struct block_request *rq, int result)
{
    struct padded *p = container_of(rq, struct padded, rq);
    struct block_request *whole = p->whole;

    if (!result)
        iov_zero(whole->iov, whole->niov, rq->len, whole->len - rq->len);
    free(p);
    block_done(whole, result);
}

/* Reads the part before the end of b, for a read that reaches past the end. */
static void submit_part(struct block *b, struct block_request *rq, u64 len)
{
    struct padded *p = malloc(sizeof(*p) + rq->niov * sizeof(p->iov[0]));

    if (!p) {
        block_done(rq, -ENOMEM);
        return;
    }
    p->rq = (struct block_request){ .op = BLOCK_READ, .offset = rq->offset, .len = len, .iov = p->iov, .done = padded_done };
    p->rq.niov = iov_slice(p->iov, rq->niov, rq->iov, rq->niov, 0, len);
    p->whole = rq;
    block_submit(b, &p->rq);
}

void block_submit_pad(struct block *b, struct block_request *rq)
{
    u64 there = rq->offset < b->size ? b->size - rq->offset : 0;

    if (there >= rq->len) {
        block_submit(b, rq);
        return;
    }
    rq->block = b;
    b->under_way++;
    b->aio->submitting++;
    if (there) {
        submit_part(b, rq, there);
    } else {
        iov_zero(rq->iov, rq->niov, 0, rq->len);
        block_done(rq, 0);
    }
    b->aio->submitting--;
}

int block_read_now(struct block *b, u64 offset, void *buf, u64 len)
{
    u64 there = offset < b->size ? MIN(b->size - offset, len) : 0;

    memset((char *)buf + there, 0, len - there);
    if (!there)
        return 0;
    if (b->driver->read)
        return b->driver->read(b, offset, buf, there);
    if (pthread_equal(pthread_self(), __atomic_load_n(&b->aio->owner, __ATOMIC_RELAXED)))
        return block_sync(b, BLOCK_READ, offset, buf, there);
    return aio_ask_read(b->aio, b, offset, buf, there);
}
