/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw.c - an image that contains only the bytes of the disk.
 *
 * If the length of a file is not a multiple of 512 bytes, the rest up to the next multiple reads as zeroes, as in qemu.
 * A write there makes the file that long.
 *
 * The guard: if no format was given, an image was found to be raw because it does not begin with another format's magic
 * number. A guest could write such a number there, with the name of any file of the host as its backing file. At the
 * next start it would read that file as its disk. So while the format is only a guess, such a first sector is refused
 * with EPERM.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/file.h"

struct raw_request {
    struct file_io io;
    struct block_request *rq;
    struct raw_request *next;
    void *copy; /* guarded: we must write what we checked, and the guest can change its memory at any time */
    struct iovec copied;
};

struct raw {
    struct raw_request *unused;
};

bool raw_names_files(const u8 *sector)
{
    static const char magic[][5] = { "QFI\xfb", "QED\0", "KDMV", "COWD", "# Di" };

    for (u32 i = 0; i < ARRAY_SIZE(magic); i++)
        if (!memcmp(sector, magic[i], 4))
            return true;
    return false;
}

static void give_back(struct block *b, struct raw_request *r)
{
    struct raw *raw = b->priv;

    free(r->copy);
    r->next = raw->unused;
    raw->unused = r;
}

static void raw_done(struct file_io *io, int result)
{
    struct raw_request *r = container_of(io, struct raw_request, io);
    struct block_request *rq = r->rq;

    give_back(rq->block, r);
    block_done(rq, result);
}

static int guard(struct block *b, struct raw_request *r)
{
    const struct block_request *rq = r->rq;

    r->copy = malloc(rq->len);
    if (!r->copy)
        return -ENOMEM;
    iov_gather(r->copy, rq->iov, rq->niov, 0, rq->len);
    if (raw_names_files(r->copy)) {
        log_guest("%s: the guest wrote what looks like another image format over the beginning of its disk: refused; if that "
                  "is meant, start it with format=raw", b->path);
        return -EPERM;
    }
    r->copied = (struct iovec){ r->copy, rq->len };
    r->io.iov = &r->copied;
    r->io.niov = 1;
    return 0;
}

static void raw_submit(struct block *b, struct block_request *rq)
{
    static const enum file_op ops[] = {
        [BLOCK_READ] = FILE_READ,       [BLOCK_WRITE] = FILE_WRITE,       [BLOCK_FLUSH] = FILE_FLUSH,
        [BLOCK_DISCARD] = FILE_DISCARD, [BLOCK_WRITE_ZEROES] = FILE_ZERO,
    };
    struct raw *raw = b->priv;
    struct raw_request *r = raw->unused;

    if (r)
        raw->unused = r->next;
    else
        r = malloc(sizeof(*r));
    if (!r) {
        block_done(rq, -ENOMEM);
        return;
    }
    r->rq = rq;
    r->copy = NULL;
    r->io.op = ops[rq->op];
    r->io.offset = rq->offset;
    r->io.len = rq->len;
    r->io.iov = rq->iov;
    r->io.niov = rq->niov;
    r->io.done = raw_done;
    if (rq->op == BLOCK_FLUSH) {
        r->io.offset = r->io.len = 0;
        if (b->readonly) {
            give_back(b, r);
            block_done(rq, 0);
            return;
        }
    }
    if (rq->op == BLOCK_WRITE_ZEROES && (rq->flags & BLOCK_UNMAP) && b->discard)
        r->io.op = FILE_ZERO_UNMAP;
    if (b->guarded && rq->op == BLOCK_WRITE && rq->offset == 0) {
        int e = guard(b, r);
        if (e) {
            give_back(b, r);
            block_done(rq, e);
            return;
        }
    }
    file_submit(b->file, &r->io);
}

static int raw_read(struct block *b, u64 offset, void *buf, u64 len)
{
    return file_pread(b->file, offset, buf, len);
}

static int raw_open(struct block *b, struct error *err)
{
    b->priv = calloc(1, sizeof(struct raw));
    if (!b->priv)
        return error_set(err, ENOMEM, "%s: no memory", b->path);
    b->size = align_up(file_size(b->file), BLOCK_SECTOR);
    b->alignment = file_alignment(b->file);
    b->guarded = b->probed && !b->readonly;
    return 0;
}

static int raw_close(struct block *b, struct error *err)
{
    struct raw *raw = b->priv;
    int r = b->readonly ? 0 : file_flush(b->file);

    if (r)
        error_set(err, -r, "%s: what was written last may not be on the disk: %s", b->path, strerror(-r));
    for (struct raw_request *q = raw->unused, *next; q; q = next) {
        next = q->next;
        free(q);
    }
    free(raw);
    return r;
}

static int raw_create(struct file *f, const struct block_create *t, struct error *err)
{
    int r;

    if (t->backing)
        return error_set(err, EINVAL, "a raw image cannot have a backing file; use -f qcow2");
    r = file_truncate(f, t->size);
    if (!r && t->preallocate)
        r = file_do(f, FILE_ALLOCATE, 0, t->size);
    if (r)
        return error_set(err, -r, "%s cannot be made %llu bytes long: %s", f->path, (unsigned long long)t->size,
                         strerror(-r));
    return 0;
}

static int raw_map(struct block *b, u64 offset, u64 *len, enum block_map *what)
{
    const u64 asked = *len;
    bool data;
    int r = file_map(b->file, offset, len, &data);

    /* The answer is in whole sectors, even if the file ends in the middle of one. */
    if (*len % BLOCK_SECTOR && !data)
        *len -= *len % BLOCK_SECTOR;
    data = data || !*len;
    *len = MIN(align_up(MAX(*len, 1), BLOCK_SECTOR), asked);
    *what = data ? BLOCK_MAP_DATA : BLOCK_MAP_ZERO;
    return r;
}

static int raw_resize(struct block *b, u64 size, struct error *err)
{
    int r = file_truncate(b->file, size);

    if (r == -ENOSPC && file_is_device(b->file))
        return error_set(err, EINVAL, "%s is a block device of %llu bytes and cannot grow", b->path,
                         (unsigned long long)file_size(b->file));
    if (r)
        return error_set(err, -r, "%s cannot be resized: %s", b->path, strerror(-r));
    b->size = size;
    return 0;
}

const struct block_driver block_raw = {
    .name = "raw",
    .open = raw_open,
    .close = raw_close,
    .submit = raw_submit,
    .read = raw_read,
    .create = raw_create,
    .map = raw_map,
    .resize = raw_resize,
};
