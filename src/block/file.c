/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - the file or block device of an image.
 *
 * With cache=none there are two descriptors: one with O_DIRECT for aligned requests, and one through the page cache for
 * the rest (metadata, odd buffers of tools). Linux keeps the two coherent page by page, as long as they do not both
 * write one page at once. So a misaligned asynchronous write (sectors of 512 bytes on a disk of 4096) waits until no
 * direct write is under way. Writes that come after it wait for it. Memory that is not aligned is copied.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"

enum { ZEROES = 1 << 20 };

/* The guest sees all these errors as the same: no room. EFBIG: RLIMIT_FSIZE, or the largest file that the file
   system can have. */
static int room_error(int e)
{
    return e == EDQUOT || e == EFBIG ? -ENOSPC : -e;
}

/* ---- synchronous part ---- */

static bool aligned(const struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    u64 bits = 0;

    for (u32 i = 0; i < niov; i++)
        bits |= (u64)(uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return !((offset | len) & (f->offset_align - 1)) && !(bits & (f->memory_align - 1));
}

/* Moves all of len bytes; `moved` of them have been moved already. */
static int transfer(struct file *f, int fd, bool write, u64 offset, const struct iovec *iov, u32 niov, u64 len, u64 moved)
{
    struct iovec part[64];

    while (moved < len) {
        u32 n = iov_slice(part, ARRAY_SIZE(part), iov, niov, moved, len - moved);
        if (!n)
            return -EINVAL; /* iov is shorter than len */
        ssize_t r = write ? pwritev(fd, part, (int)n, (off_t)(offset + moved))
                          : preadv(fd, part, (int)n, (off_t)(offset + moved));
        aio_count(f->aio, 1);
        if (r < 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            /* After a short transfer the rest may be misaligned for O_DIRECT. */
            if (errno == EINVAL && fd == f->direct) {
                fd = f->fd;
                continue;
            }
            return room_error(errno);
        }
        if (r == 0 && write)
            return -ENOSPC;
        if (r == 0) {
            iov_zero(iov, niov, moved, len - moved); /* past the end of the file */
            break;
        }
        moved += (u64)r;
    }
    return 0;
}

static int write_zeroes(struct file *f, u64 offset, u64 len)
{
    void *zeroes;
    int r = 0;

    if (posix_memalign(&zeroes, PAGE, MIN(align_up(len, PAGE), ZEROES)))
        return -ENOMEM;
    memset(zeroes, 0, MIN(len, ZEROES));
    for (u64 done = 0; !r && done < len; done += ZEROES) {
        struct iovec v = { zeroes, MIN(len - done, ZEROES) };
        r = transfer(f, f->fd, true, offset + done, &v, 1, v.iov_len, 0);
    }
    free(zeroes);
    return r;
}

static int allocate(struct file *f, int mode, u64 offset, u64 len)
{
    int r;

    do {
        r = fallocate(f->fd, mode, (off_t)offset, (off_t)len);
        aio_count(f->aio, 1);
    } while (r && errno == EINTR);
    return r ? room_error(errno) : 0;
}

static bool unsupported(int r)
{
    return r == -EOPNOTSUPP || r == -ENOSYS || r == -EINVAL || r == -ENODEV || r == -EPERM;
}

static int discard(struct file *f, u64 offset, u64 len)
{
    u64 from = align_up(offset, PAGE), to = align_down(offset + len, PAGE);

    if (from >= to) /* too small a piece for the file system to give back */
        return 0;
    if (f->device) {
        u64 range[2] = { from, to - from };
        aio_count(f->aio, 1);
        int r = ioctl(f->fd, BLKDISCARD, range) ? -errno : 0;
        return unsupported(r) || r == -ENOTTY ? 0 : r;
    }
    int r = allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from);
    return unsupported(r) ? 0 : r;
}

static int zero(struct file *f, bool unmap, u64 offset, u64 len)
{
    int r = -EOPNOTSUPP;

    /* A hole past the end of a file leaves the file short. That is fine here, since bytes past the end read as
       zeroes. */
    if (unmap)
        r = allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len);
    if (unsupported(r))
        r = allocate(f, FALLOC_FL_ZERO_RANGE, offset, len);
    if (unsupported(r))
        r = write_zeroes(f, offset, len);
    return r;
}

static int reserve(struct file *f, u64 offset, u64 len)
{
    if (f->device)
        return offset + len <= file_size(f) ? 0 : -ENOSPC;
    int r = allocate(f, 0, offset, len);
    if (!unsupported(r))
        return r;
    /* This file system has no such call: we set at least the length. */
    return file_size(f) >= offset + len ? 0 : ftruncate(f->fd, (off_t)(offset + len)) ? room_error(errno) : 0;
}

static int flush(struct file *f)
{
    int lost = __atomic_load_n(&f->lost, __ATOMIC_RELAXED), r;

    if (lost)
        return lost;
    do {
        r = fdatasync(f->fd);
        aio_count(f->aio, 1);
    } while (r && errno == EINTR);
    return r ? -errno : 0;
}

/* After a failed fdatasync the kernel has marked the pages clean. The next fdatasync would report a false success. */
static int flushed(struct file *f, int r)
{
    if (r && r != -EINVAL && !__atomic_exchange_n(&f->lost, -EIO, __ATOMIC_RELAXED))
        log_error("%s: its host could not write it to disk: %s; what was written last may be lost, and every flush "
                  "fails from now on", f->path, strerror(-r));
    return r == -EINVAL ? 0 : r; /* EINVAL: a special file, which has nothing to flush */
}

static int carry_out(struct file *f, int fd, enum file_op op, u64 offset, const struct iovec *iov, u32 niov, u64 len,
                     u64 moved)
{
    switch (op) {
    case FILE_READ:
    case FILE_WRITE:
        return transfer(f, fd, op == FILE_WRITE, offset, iov, niov, len, moved);
    case FILE_FLUSH:
        return flushed(f, flush(f));
    case FILE_DISCARD:
        return discard(f, offset, len);
    case FILE_ZERO:
    case FILE_ZERO_UNMAP:
        return len ? zero(f, op == FILE_ZERO_UNMAP, offset, len) : 0;
    case FILE_ALLOCATE:
        return len ? reserve(f, offset, len) : 0;
    case FILE_TRUNCATE:
        if (f->device)
            return offset <= file_size(f) ? 0 : -ENOSPC;
        aio_count(f->aio, 1);
        return ftruncate(f->fd, (off_t)offset) ? room_error(errno) : 0;
    }
    return -EINVAL;
}

static int hooked(struct file *f, enum file_op op, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    struct block_hook *h = f->aio->hook;
    struct file_event e = { f, op, offset, len, iov, niov };
    bool move = op == FILE_READ || op == FILE_WRITE;
    int r = h ? h->before(h, &e) : 0;

    if (r)
        return op == FILE_FLUSH ? flushed(f, r) : r;
    r = carry_out(f, move && f->direct >= 0 && aligned(f, offset, iov, niov, len) ? f->direct : f->fd, op, offset, iov,
                  niov, len, 0);
    if (h && h->after)
        h->after(h, &e, r);
    return r;
}

int file_pread(struct file *f, u64 offset, void *buf, u64 len)
{
    struct iovec v = { buf, len };
    return hooked(f, FILE_READ, offset, &v, 1, len);
}

int file_pwrite(struct file *f, u64 offset, const void *buf, u64 len)
{
    union {
        const void *from;
        void *base;
    } u = { buf };
    struct iovec v = { u.base, len };
    return hooked(f, FILE_WRITE, offset, &v, 1, len);
}

int file_preadv(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    return hooked(f, FILE_READ, offset, iov, niov, len);
}

int file_pwritev(struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    return hooked(f, FILE_WRITE, offset, iov, niov, len);
}

int file_flush(struct file *f)
{
    return hooked(f, FILE_FLUSH, 0, NULL, 0, 0);
}

int file_do(struct file *f, enum file_op op, u64 offset, u64 len)
{
    return hooked(f, op, offset, NULL, 0, len);
}

int file_truncate(struct file *f, u64 size)
{
    return hooked(f, FILE_TRUNCATE, size, NULL, 0, 0);
}

/* ---- asynchronous ---- */

static int io_fd(const struct file_io *io)
{
    return io->buffered ? io->file->fd : io->file->direct;
}

static void run(struct aio_work *w)
{
    struct file_io *io = container_of(w, struct file_io, work);

    io->result = carry_out(io->file, io_fd(io), io->op, io->offset, io->at, io->nat, io->len, io->moved);
}

static bool by_ring(const struct file_io *io)
{
    const struct file *f = io->file;

    if (!f->aio->ring)
        return false;
    switch (io->op) {
    case FILE_READ:
    case FILE_FLUSH:
        return true;
    case FILE_WRITE: /* a write into the page cache may wait (ext4): the ring would also hand it to a thread, one by
                        one */
        return !io->buffered;
    case FILE_DISCARD:
        return !f->device && !((io->offset | io->len) & (PAGE - 1));
    default:
        return !f->device;
    }
}

static void launch(struct file_io *io)
{
    struct file *f = io->file;

    if (io->op == FILE_WRITE && f->direct >= 0) {
        f->writes++;
        f->alone |= io->alone;
    }
    if (by_ring(io))
        uring_submit(f->aio->ring, io, io_fd(io));
    else
        pool_add(f->aio->pool, &io->work);
}

/* Starts the writes that waited for a misaligned write, or the misaligned write that waited for them. */
static void launch_waiting(struct file *f)
{
    while (f->waiting) {
        struct file_io *next = container_of(f->waiting, struct file_io, work);
        if (f->alone || (next->alone && f->writes))
            break;
        f->waiting = next->work.next;
        if (!f->waiting)
            f->waiting_last = &f->waiting;
        launch(next);
    }
}

static void finish(struct aio_work *w)
{
    struct file_io *io = container_of(w, struct file_io, work);
    struct file *f = io->file;
    struct block_hook *h = f->aio->hook;

    if (io->bounce && io->op == FILE_READ && !io->result)
        iov_scatter(io->iov, io->niov, 0, io->bounce, io->len);
    free(io->bounce);
    if (io->op == FILE_WRITE && f->direct >= 0) {
        f->writes--;
        if (io->alone)
            f->alone = false;
        launch_waiting(f);
    }
    if (h && h->after)
        h->after(h, &(struct file_event){ f, io->op, io->offset, io->len, io->iov, io->niov }, io->result);
    io->done(io, io->result);
}

/* A hook refused the request, or there is nothing to do: it is in none of the counts that finish() lowers. */
static void finish_early(struct aio_work *w)
{
    struct file_io *io = container_of(w, struct file_io, work);

    io->done(io, io->result);
}

void file_io_completed(struct file_io *io, int result)
{
    struct file *f = io->file;
    bool again = result == -EINTR || result == -EAGAIN;

    if (io->op == FILE_READ || io->op == FILE_WRITE) {
        if (result > 0)
            io->moved += (u64)result;
        again |= result >= 0 && io->moved < io->len; /* a short transfer, or the end of the file */
    } else if (io->op != FILE_FLUSH) {
        again |= unsupported(result);
    }
    if (again || result == -EINVAL) { /* EINVAL: this kernel's ring cannot do it */
        pool_add(f->aio->pool, &io->work);
        return;
    }
    io->result = result >= 0 ? 0 : io->op == FILE_FLUSH ? flushed(f, result) : room_error(-result);
    f->aio->under_way--;
    finish(&io->work);
}

static bool bounce(struct file_io *io)
{
    void *p;

    if (posix_memalign(&p, MAX(io->file->memory_align, 16), io->len))
        return false;
    io->bounce = p;
    io->one = (struct iovec){ p, io->len };
    io->at = &io->one;
    io->nat = 1;
    if (io->op == FILE_WRITE)
        iov_gather(p, io->iov, io->niov, 0, io->len);
    return true;
}

void file_submit(struct file *f, struct file_io *io)
{
    struct block_hook *h = f->aio->hook;
    bool move = io->op == FILE_READ || io->op == FILE_WRITE;
    int r = h ? h->before(h, &(struct file_event){ f, io->op, io->offset, io->len, io->iov, io->niov }) : 0;

    io->file = f;
    io->work = (struct aio_work){ .run = run, .done = finish };
    io->result = 0;
    io->moved = 0;
    io->bounce = NULL;
    io->at = io->iov;
    io->nat = io->niov;
    io->alone = false;
    io->buffered = f->direct < 0 || !move;
    if (io->op == FILE_FLUSH && (r || (r = __atomic_load_n(&f->lost, __ATOMIC_RELAXED))))
        r = flushed(f, r);
    if (!r && !io->buffered && !aligned(f, io->offset, io->iov, io->niov, io->len)) {
        if ((io->offset | io->len) & (f->offset_align - 1)) {
            io->buffered = true;
            io->alone = io->op == FILE_WRITE;
        } else if (!bounce(io)) {
            r = -ENOMEM;
        }
    }
    f->aio->under_way++;
    if (r || (!io->len && io->op != FILE_FLUSH)) {
        io->result = r;
        io->work.done = finish_early;
        aio_ready(f->aio, &io->work);
    } else if (io->op == FILE_WRITE && f->direct >= 0 && (f->alone || f->waiting || (io->alone && f->writes))) {
        *f->waiting_last = &io->work;
        f->waiting_last = &io->work.next;
    } else {
        launch(io);
    }
}
