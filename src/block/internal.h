/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - the inside of block/: what a format (raw, qcow2, NBD) offers to block.c, and the image file below the
 * format.
 *
 * A disk is a chain of blocks. block_open opens the top one. Each block has its own driver and file. All blocks of a
 * chain share one `struct aio`: one ring (or thread pool) and one eventfd on the loop.
 *
 * There are two ways to use a file. Data takes the asynchronous way (file_submit: loop thread). Metadata takes the
 * synchronous way (file_pread ...: any thread). Work that must wait (an allocation, copy on write) runs on a worker
 * thread: aio_work(). For a chain without a loop, "the loop thread" means the one thread that uses the chain.
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

    /* b->file is open and locked (NULL for nbd). open sets b->size (a multiple of 512), b->alignment and b->priv,
       and opens the backing file by block_open_backing. If b->readonly, it may write nothing, not even to repair. If
       it fails, it undoes what it did; block.c closes backing and file. b->check_only: `disk check` and `disk info`
       want even a damaged image opened, where that is possible. b->alone: open the image without its backing file. */
    int (*open)(struct block *b, struct error *err);
    /* Writes back and flushes what it holds; frees priv even if that fails. Nothing is under way. */
    int (*close)(struct block *b, struct error *err);
    /* Loop thread. The request is checked already (range, op, readonly). submit ends it with block_done(rq, result),
       and may do so before it returns. It may use rq->next and rq->own. It must not wait. */
    void (*submit)(struct block *b, struct block_request *rq);
    /* Any thread: reads before it returns, and is safe while other requests are under way. Within b->size. */
    int (*read)(struct block *b, u64 offset, void *buf, u64 len);

    /* Loop thread: see block_hurry. NULL: slow requests stay slow. */
    void (*hurry)(struct block *b, bool on);

    /* The rest is called on the loop thread, while nothing is under way. NULL: the format has no such operation. */

    /* Makes an empty image in f, which is new and of length 0. t->size is a multiple of 512. t->backing_format is
       set if t->backing is. */
    int (*create)(struct file *f, const struct block_create *t, struct error *err);
    /* Says what [offset, offset + *len) is. It shortens *len to the first piece that is all of one kind. It need not
       recognise a hole past the end of the backing file as a hole. offset < size. */
    int (*map)(struct block *b, u64 offset, u64 *len, enum block_map *what);
    int (*info)(struct block *b, struct block_info *info, struct error *err);
    int (*check)(struct block *b, enum block_repair repair, struct block_check *c, struct error *err);
    int (*resize)(struct block *b, u64 size, struct error *err); /* sets b->size; the new part reads as zeroes */
    int (*snapshot)(struct block *b, enum block_snapshot_op op, const char *name, struct error *err);
    /* Changes only the name in the header; backing NULL: none. */
    int (*set_backing)(struct block *b, const char *backing, const char *format, struct error *err);
    /* Forgets all data, so that the image shows its backing file again (after a commit). */
    int (*make_empty)(struct block *b, struct error *err);
};

extern const struct block_driver block_raw, block_nbd, block_qcow2;

struct block {
    const struct block_driver *driver;
    struct aio *aio;
    struct file *file;     /* NULL: nbd */
    struct block *backing; /* or NULL */
    struct block *overlay; /* the block that has this one as its backing file, or NULL */
    char *path;
    void *priv;            /* belongs to the driver */
    u64 size;
    u32 alignment;
    bool readonly, discard, check_only;
    bool top;              /* the aio ends with this block */
    bool alone;            /* the driver shall not open its backing file */
    bool guarded;          /* raw by probing: see raw.c */
    bool no_lock;
    bool own_name;         /* we chose the name of its backing file, not an image: it is not judged */
    struct block_follow follow;
    enum block_cache cache;
    bool probed;
    u32 under_way;
    struct block_stats stats;
};

/* Opens `name` read-only as b->backing, with a shared lock. A relative name is relative to the folder of b->path;
   "json:" and the like are refused. A cycle, or a chain of more than 64, is refused. format: "raw", "qcow2" or NULL
   to probe. */
int must_check block_open_backing(struct block *b, const char *name, const char *format, struct error *err);

/* Decides whether b may have its backing file, whose name leads to `path` (-EXDEV: no). real has PATH_MAX bytes and
   gets the file's place without links. "": the place does not matter. */
int must_check block_may_follow(const struct block *b, const char *path, char *real, struct error *err);
bool block_is_nbd(const char *path);

/* Resolves `name` as b means it; `name` is or shall be the backing file of b. path has PATH_MAX bytes. */
int must_check block_resolve(const struct block *b, const char *name, char *path, struct error *err);
/* Closes b->backing and opens it again for writing (commit). If it fails, b has no backing file any more. */
int must_check block_backing_writable(struct block *b, struct error *err);

/* True if the first sector of a disk belongs to a format that names other files. */
bool raw_names_files(const u8 *sector);

/* Ends a request: done() is called now, or, within block_submit or block_kick, after these. Loop thread. */
void block_done(struct block_request *rq, int result);

/* As block_submit and driver->read, for a driver that reads its backing file: bytes past the end of b read as
   zeroes. _pad: loop thread; rq is the driver's own. _now: a worker thread; works for nbd too. */
void block_submit_pad(struct block *b, struct block_request *rq);
int must_check block_read_now(struct block *b, u64 offset, void *buf, u64 len);

/* ---- threads and completions, one for a chain ---- */

/* Runs run() on a worker thread, then done() on the loop thread. w is the caller's and must stay until then. Loop
   thread. At most AIO_WORKERS run at once, the others wait in line. So run() may wait for the disk and for locks
   that other run()s hold, but not for work that is still in line. run NULL: the loop calls done() soon. */
struct aio_work {
    void (*run)(struct aio_work *w);
    void (*done)(struct aio_work *w);
    struct aio_work *next;
};
enum { AIO_WORKERS = 16 };
void aio_work(struct aio *aio, struct aio_work *w);
/* Hands what was submitted to the host. This happens without a call after any done(). */
void aio_kick(struct aio *aio);
/* Waits until something ends, and calls its done(). For drains. Returns at once if nothing is under way. Loop
   thread. */
void aio_wait(struct aio *aio);

/* ---- the image file ---- */

enum file_op {
    FILE_READ,    /* bytes past the end of the file are zeroes */
    FILE_WRITE,
    FILE_FLUSH,   /* fdatasync */
    FILE_DISCARD, /* punches a hole; it also succeeds if the file system cannot do that */
    FILE_ZERO,    /* the range reads as zeroes afterwards: FALLOC_FL_ZERO_RANGE, or else zeroes are written */
    FILE_ZERO_UNMAP, /* the same by FALLOC_FL_PUNCH_HOLE, or else as FILE_ZERO */
    FILE_ALLOCATE, /* fallocate: afterwards the file is at least that long and has the space, or -ENOSPC */
    FILE_TRUNCATE, /* the new size is in offset; for file_truncate only, not for file_submit */
};

/* An asynchronous request. The caller owns it and keeps it until done(), which is called on the loop thread, never
   from within file_submit. file.c deals with short transfers, EINTR and O_DIRECT's alignment. */
struct file_io {
    enum file_op op;
    u64 offset, len;
    const struct iovec *iov; /* READ, WRITE: niov <= BLOCK_MAX_IOV pieces, len bytes in all; the caller keeps them */
    u32 niov;
    void (*done)(struct file_io *io, int result); /* 0 or -errno */

    /* file.c uses these */
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
void file_submit(struct file *f, struct file_io *io); /* the next aio_kick hands it to the host at the latest */

/* Synchronous, any thread; 0 or -errno. Metadata goes through the page cache even with cache=none. The two ways may
   not touch one 4 KiB page of the file at the same time (file_buffer_all for images with smaller clusters). */
int must_check file_pread(struct file *f, u64 offset, void *buf, u64 len); /* past the end: zeroes */
int must_check file_pwrite(struct file *f, u64 offset, const void *buf, u64 len);
int must_check file_preadv(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len);
int must_check file_pwritev(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len);
int must_check file_flush(struct file *f);
int must_check file_do(struct file *f, enum file_op op, u64 offset, u64 len); /* DISCARD ... ALLOCATE */
int must_check file_truncate(struct file *f, u64 size);
u64 file_size(struct file *f);      /* bytes, as fstat reports them now; for a device its size */
u64 file_allocated(struct file *f); /* bytes that it takes on the disk */
bool file_is_device(const struct file *f); /* a block device, which cannot grow */
void file_buffer_all(struct file *f); /* from now on O_DIRECT is not used; call it before the first file_submit */
const char *file_path(const struct file *f);
/* Finds the end of the data or of the hole that begins at offset (SEEK_DATA, SEEK_HOLE). */
int must_check file_map(struct file *f, u64 offset, u64 *len, bool *data);

struct file_options {
    const char *path;
    const char *real; /* or NULL. The path to open instead: it has no symbolic links; -ELOOP if it has */
    bool readonly, direct, no_lock;
    bool create;    /* make a new file: it must not exist, or (overwrite) is emptied after it is locked */
    bool overwrite;
    bool unnamed;   /* with create: a file without a name; path says what the file is for */
};
struct file *file_open(const struct file_options *o, struct aio *aio, struct error *err);
void file_close(struct file *f);
/* Removes the file that create made, so that a tool that failed leaves no half image. */
void file_unlink(struct file *f);

/* For tests: the hook is told of every change to the files of a chain and may refuse it. Any thread. */
struct file_event {
    struct file *file;
    enum file_op op; /* also FILE_READ */
    u64 offset, len;
    const struct iovec *iov; /* FILE_WRITE */
    u32 niov;
};
struct block_hook {
    int (*before)(struct block_hook *h, const struct file_event *e); /* 0: go on; -errno becomes the result */
    void (*after)(struct block_hook *h, const struct file_event *e, int result); /* or NULL */
};
struct block *block_open_hooked(const struct block_options *o, struct loop *loop, struct block_hook *hook, struct error *err);

#endif
