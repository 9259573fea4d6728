/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the inside of block/: what a format (raw, qcow2, NBD) offers to block.c, and the image file below it.
 *
 * A disk is a chain of blocks, the top one opened by block_open, each with its own driver and file. All of a chain share
 * one `struct aio`: one ring (or thread pool) and one eventfd on the loop.
 *
 * Two ways to a file: asynchronous (file_submit: loop thread) for data, synchronous (file_pread ...: any thread) for
 * metadata. What must wait (an allocation, copy on write) runs on a worker thread: aio_work(). "The loop thread" is, for
 * a chain without a loop, the one thread that uses it.
 */
#ifndef LODGE_BLOCK_INTERNAL_H
#define LODGE_BLOCK_INTERNAL_H

#include "base/base.h"
#include "base/error.h"
#include "base/iov.h"
#include "base/loop.h"
#include "block/block.h"
#include "block/tools.h"

/* ---- a format ---- */

struct file;
struct aio;
struct block_hook;

struct block_driver {
    const char *name; /* as qemu's -f */

    /* b->file is open and locked (NULL for nbd). Sets b->size (a multiple of 512), b->alignment, b->priv; opens its backing
       file by block_open_backing. When b->readonly, nothing may be written, not even to repair. On failure it undoes
       what it did; block.c closes backing and file. b->check_only: `disk check` and `disk info` want even a damaged
       image opened where that is possible; b->alone: without its backing file. */
    int (*open)(struct block *b, struct error *err);
    /* Writes back and flushes what it holds, frees priv even if that fails; nothing is under way. */
    int (*close)(struct block *b, struct error *err);
    /* Loop thread. The request is checked (range, op, readonly). Ends in block_done(rq, result), from here too. May use
       rq->next and rq->own. Must not wait. */
    void (*submit)(struct block *b, struct block_request *rq);
    /* Any thread: reads before it returns, safely beside requests under way. Within b->size. */
    int (*read)(struct block *b, u64 offset, void *buf, u64 len);

    /* Loop thread: see block_hurry. NULL: what is slow stays so. */
    void (*hurry)(struct block *b, bool on);

    /* The rest: nothing is under way, the loop thread; NULL where the format has no such thing. */

    /* Makes an empty image in f, new and of length 0. t->size is a multiple of 512; t->backing_format is set if
       t->backing is. */
    int (*create)(struct file *f, const struct block_create *t, struct error *err);
    /* What [offset, offset + *len) is; shortens *len to the first piece that is all one thing (a hole past the end of
       the backing file need not be seen as such). offset < size. */
    int (*map)(struct block *b, u64 offset, u64 *len, enum block_map *what);
    int (*info)(struct block *b, struct block_info *info, struct error *err);
    int (*check)(struct block *b, enum block_repair repair, struct block_check *c, struct error *err);
    int (*resize)(struct block *b, u64 size, struct error *err); /* sets b->size; what is new reads as zeroes */
    int (*snapshot)(struct block *b, enum block_snapshot_op op, const char *name, struct error *err);
    /* Only the name in the header; backing NULL: none. */
    int (*set_backing)(struct block *b, const char *backing, const char *format, struct error *err);
    /* Forgets all data, so that everything comes from the backing file again (after a commit). */
    int (*make_empty)(struct block *b, struct error *err);
};

extern const struct block_driver block_raw, block_nbd, block_qcow2;

struct block {
    const struct block_driver *driver;
    struct aio *aio;
    struct file *file;     /* NULL: nbd */
    struct block *backing; /* or NULL */
    struct block *overlay; /* the one this is the backing file of, or NULL */
    char *path;
    void *priv;            /* the driver's */
    u64 size;
    u32 alignment;
    bool readonly, discard, check_only;
    bool top;              /* aio ends with it */
    bool alone;            /* the driver shall not open its backing file */
    bool guarded;          /* raw by probing: see raw.c */
    bool no_lock;
    bool own_name;         /* the name of its backing file is ours, not an image's: it is not judged */
    struct block_follow follow;
    enum block_cache cache;
    bool probed;
    u32 under_way;
    struct block_stats stats;
};

/* Opens `name` (relative: to the folder of b->path; "json:" and the like are refused) read-only as b->backing, with a
   shared lock; a loop or a chain of more than 64 is refused. format: "raw", "qcow2" or NULL to probe. */
int must_check block_open_backing(struct block *b, const char *name, const char *format, struct error *err);

/* Whether b, which means `path` by its backing file's name, is to have it (-EXDEV: no). real, of PATH_MAX bytes: where that is, without
   links; "": wherever that is. */
int must_check block_may_follow(const struct block *b, const char *path, char *real, struct error *err);
bool block_is_nbd(const char *path);

/* `name` as b, whose backing file it is or shall be, means it; path has PATH_MAX bytes. */
int must_check block_resolve(const struct block *b, const char *name, char *path, struct error *err);
/* b->backing is closed and opened again to be written (commit). On failure there is none any more. */
int must_check block_backing_writable(struct block *b, struct error *err);

/* The first sector of a disk is that of a format that names other files. */
bool raw_names_files(const u8 *sector);

/* Ends a request: done() is called now, or after block_submit and block_kick if within one. Loop thread. */
void block_done(struct block_request *rq, int result);

/* As block_submit and driver->read, for a driver that reads its backing file: what lies past the end of b reads as zeroes.
   _pad: loop thread; rq is the driver's own. _now: a worker thread; nbd too. */
void block_submit_pad(struct block *b, struct block_request *rq);
int must_check block_read_now(struct block *b, u64 offset, void *buf, u64 len);

/* ---- threads and completions, one for a chain ---- */

/* Runs run() on a worker thread, then done() on the loop thread; the caller's until then. Loop thread. At most
   AIO_WORKERS run at once, the others wait in line: run() may wait for the disk and for locks held by other run()s, not
   for work that is still in line. run NULL: done() is called soon, from the loop. */
struct aio_work {
    void (*run)(struct aio_work *w);
    void (*done)(struct aio_work *w);
    struct aio_work *next;
};
enum { AIO_WORKERS = 16 };
void aio_work(struct aio *aio, struct aio_work *w);
/* Hands what was submitted to the host; done by itself after any done(). */
void aio_kick(struct aio *aio);
/* Waits for something to end and calls its done(); for drains. Returns at once if nothing is under way. Loop thread. */
void aio_wait(struct aio *aio);

/* ---- the image file ---- */

enum file_op {
    FILE_READ,    /* past the end of the file: zeroes */
    FILE_WRITE,
    FILE_FLUSH,   /* fdatasync */
    FILE_DISCARD, /* punches a hole; succeeds if the file system cannot */
    FILE_ZERO,    /* reads as zeroes after: FALLOC_FL_ZERO_RANGE, else written */
    FILE_ZERO_UNMAP, /* the same by FALLOC_FL_PUNCH_HOLE, else as FILE_ZERO */
    FILE_ALLOCATE, /* fallocate: the file is at least that long and has the space, or -ENOSPC */
    FILE_TRUNCATE, /* to_size in offset; file_truncate only, not for file_submit */
};

/* An asynchronous request, the caller's until done(), which is called on the loop thread, never from within file_submit.
   Short transfers, EINTR and O_DIRECT's alignment are dealt with below. */
struct file_io {
    enum file_op op;
    u64 offset, len;
    const struct iovec *iov; /* READ, WRITE: niov <= BLOCK_MAX_IOV pieces of len bytes in all; kept by the caller */
    u32 niov;
    void (*done)(struct file_io *io, int result); /* 0 or -errno */

    /* file.c's own */
    struct file *file;
    struct aio_work work;
    int result;
    bool buffered, alone;
    u64 moved;
    u8 *bounce;
    const struct iovec *at; /* iov, or &one with the bounce buffer */
    u32 nat;
    struct iovec one;
};
void file_submit(struct file *f, struct file_io *io); /* handed to the host by the next aio_kick at the latest */

/* Synchronous, any thread; 0 or -errno. Metadata goes through the page cache even with cache=none; the two kinds may not
   touch one 4 KiB page of the file at the same time (file_buffer_all for images with smaller clusters). */
int must_check file_pread(struct file *f, u64 offset, void *buf, u64 len); /* past the end: zeroes */
int must_check file_pwrite(struct file *f, u64 offset, const void *buf, u64 len);
int must_check file_preadv(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len);
int must_check file_pwritev(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len);
int must_check file_flush(struct file *f);
int must_check file_do(struct file *f, enum file_op op, u64 offset, u64 len); /* DISCARD ... ALLOCATE */
int must_check file_truncate(struct file *f, u64 size);
u64 file_size(struct file *f);      /* bytes, as fstat says now; a device: its size */
u64 file_allocated(struct file *f); /* bytes of the disk that it takes */
bool file_is_device(const struct file *f); /* a block device: cannot grow */
void file_buffer_all(struct file *f); /* from now on O_DIRECT is not used; before the first file_submit */
const char *file_path(const struct file *f);
/* The end of the data or of the hole that begins at offset (SEEK_DATA, SEEK_HOLE). */
int must_check file_map(struct file *f, u64 offset, u64 *len, bool *data);

struct file_options {
    const char *path;
    const char *real; /* or NULL. What to open for it: a path without symbolic links; -ELOOP if it has got one */
    bool readonly, direct, no_lock;
    bool create;    /* made new: must not exist, or (overwrite) is emptied once it is locked */
    bool overwrite;
    bool unnamed;   /* with create: a file without a name; path says what it is for */
};
struct file *file_open(const struct file_options *o, struct aio *aio, struct error *err);
void file_close(struct file *f);
/* Removes the file that was made by create: a tool that failed leaves no half image. */
void file_unlink(struct file *f);

/* For tests: is told of every change to the files of a chain, may refuse it. Any thread. */
struct file_event {
    struct file *file;
    enum file_op op; /* also FILE_READ */
    u64 offset, len;
    const struct iovec *iov; /* FILE_WRITE */
    u32 niov;
};
struct block_hook {
    int (*before)(struct block_hook *h, const struct file_event *e); /* 0: go on; -errno is the result */
    void (*after)(struct block_hook *h, const struct file_event *e, int result); /* or NULL */
};
struct block *block_open_hooked(const struct block_options *o, struct loop *loop, struct block_hook *hook, struct error *err);

#endif
