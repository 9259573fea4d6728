/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools.c - operations on whole images: create, look, check, resize, snapshots, and where the data is.
 */
#include "block/tools.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/file.h"

static int no_such_thing(const struct block *b, const char *what, struct error *err)
{
    return error_set(err, EOPNOTSUPP, "%s: a %s image %s", b->path, b->driver->name, what);
}

/* ---- create ---- */

/* Takes the size and the format from the backing file, where they are not given. */
static int look_below(struct block_create *t, struct error *err)
{
    struct block as = { .path = (char *)(uintptr_t)t->path };
    struct error why = { "" };
    struct stat a, b;
    char path[PATH_MAX];
    int r = block_resolve(&as, t->backing, path, err);

    if (r)
        return r;
    if (!stat(path, &a) && !stat(t->path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return error_set(err, EINVAL, "%s cannot be its own backing file", t->path);
    if (t->unchecked) {
        if (t->backing_format)
            return 0;
        return error_set(err, EINVAL, "the format of the backing file is needed: -F raw or -F qcow2");
    }
    struct block_options o = { .path = path, .readonly = true, .no_lock = true, .follow = t->follow };
    struct block *below = block_format_named(t->backing_format, &o.format, &why) ? NULL : block_open(&o, NULL, &why);
    if (!below)
        return error_set(err, why.code ? why.code : EINVAL, "the backing file: %.400s", why.text);
    if (!t->size)
        t->size = below->size;
    if (!t->backing_format)
        t->backing_format = below->driver == &block_qcow2 ? "qcow2" : "raw";
    block_close(below, NULL);
    return 0;
}

int block_create(const struct block_create *asked, struct error *err)
{
    struct block_create t = *asked;
    const struct block_driver *driver;
    enum block_format format;
    int r = block_format_named(t.format, &format, err);

    driver = format == BLOCK_QCOW2 ? &block_qcow2 : &block_raw;
    if (!r && t.backing)
        r = look_below(&t, err);
    if (r)
        return r;
    if (t.size > (u64)INT64_MAX - BLOCK_SECTOR)
        return error_set(err, EFBIG, "%s: no image can be larger than 8 EiB", t.path);
    t.size = align_up(t.size, BLOCK_SECTOR);
    struct aio *aio = aio_new(NULL, NULL, "threads", err);
    if (!aio)
        return -ENOMEM;
    struct file_options fo = { .path = t.path, .create = true, .overwrite = t.overwrite };
    struct file *f = file_open(&fo, aio, err);
    r = f ? 0 : -errno;
    if (f) {
        r = driver->create(f, &t, err);
        if (!r && (r = file_flush(f)))
            error_set(err, -r, "%s: %s", t.path, strerror(-r));
        if (r)
            file_unlink(f);
        file_close(f);
    }
    aio_free(aio);
    return r;
}

/* ---- look ---- */

int block_info(struct block *b, struct block_info *info, struct error *err)
{
    *info = (struct block_info){ .size = b->size, .allocated = b->file ? file_allocated(b->file) : 0 };
    snprintf(info->format, sizeof(info->format), "%s", b->driver->name);
    int r = b->driver->info ? b->driver->info(b, info, err) : 0;
    if (!r && b->backing)
        snprintf(info->backing_path, sizeof(info->backing_path), "%s", b->backing->path);
    else if (!r && info->backing[0] && block_resolve(b, info->backing, info->backing_path, NULL))
        info->backing_path[0] = 0;
    return r;
}

void block_info_free(struct block_info *info)
{
    free(info->snapshots);
    info->snapshots = NULL;
    info->nsnapshots = 0;
}

int block_check(struct block *b, enum block_repair repair, struct block_check *c, struct error *err)
{
    if (!b->driver->check)
        return no_such_thing(b, "has nothing that could be checked", err);
    return b->driver->check(b, repair, c, err);
}

int block_map(struct block *b, u64 offset, u64 *len, enum block_map *what)
{
    for (;; b = b->backing) {
        *what = BLOCK_MAP_DATA;
        int r = b->driver->map ? b->driver->map(b, offset, len, what) : 0;
        if (r || *what != BLOCK_MAP_BACKING)
            return r;
        if (!b->backing || offset >= b->backing->size) {
            *what = BLOCK_MAP_ZERO;
            return 0;
        }
        *len = MIN(*len, b->backing->size - offset);
    }
}

/* ---- change ---- */

int block_resize(struct block *b, u64 size, bool shrink, struct error *err)
{
    if (size > (u64)INT64_MAX - BLOCK_SECTOR)
        return error_set(err, EFBIG, "%s: no image can be larger than 8 EiB", b->path);
    size = align_up(size, BLOCK_SECTOR);
    if (!b->driver->resize)
        return no_such_thing(b, "has the size that its server gives it", err);
    if (size < b->size && !shrink)
        return error_set(err, ENOTEMPTY, "%s would lose what lies beyond %llu bytes; if the guest's file system ends before "
                         "that, allow it to shrink", b->path, (unsigned long long)size);
    return b->driver->resize(b, size, err);
}

int block_snapshot(struct block *b, enum block_snapshot_op op, const char *name, struct error *err)
{
    if (!b->driver->snapshot)
        return no_such_thing(b, "has no snapshots; convert it to qcow2", err);
    return b->driver->snapshot(b, op, name, err);
}
