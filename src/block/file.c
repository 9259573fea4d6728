/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c - an image's file or block device.
 *
 * With cache=none there are two descriptors: O_DIRECT for what is aligned, and the page cache for the rest (metadata, odd
 * buffers of tools). Linux keeps the two coherent page by page as long as no page is written by both at once. So a
 * misaligned asynchronous write (sectors of 512 bytes on a disk of 4096) waits until no direct write is under way, and
 * those that come after wait for it. Memory that is not aligned is copied.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"

enum { PAGE = 4096, ZEROES = 1 << 20 };

/* What a guest sees of them is the same: no room. EFBIG: RLIMIT_FSIZE, or the file system's largest file. */
static int room_error(int e)
{
    return e == EDQUOT || e == EFBIG ? -ENOSPC : -e;
}

/* ---- synchronous, as far as it goes ---- */

static bool aligned(const struct file *f, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    u64 bits = 0;

    for (u32 i = 0; i < niov; i++)
        bits |= (u64)(uintptr_t)iov[i].iov_base | iov[i].iov_len;
    return !((offset | len) & (f->offset_align - 1)) && !(bits & (f->memory_align - 1));
}

/* Moves all of len bytes; `moved` of them are there already. */
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
            /* O_DIRECT behind the end of a short transfer may be misaligned. */
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

    if (from >= to) /* less than the file system can give back */
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

    /* A hole past the end of a file would leave it short: fine, since it reads as zeroes here. */
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
    /* No such call on this file system: the length at least. */
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

/* After a failed fdatasync the kernel has marked the pages clean: the next would succeed, and lie. */
static int flushed(struct file *f, int r)
{
    if (r && r != -EINVAL && !__atomic_exchange_n(&f->lost, -EIO, __ATOMIC_RELAXED))
        log_error("%s: its host could not write it to disk: %s; what was written last may be lost, and every flush "
                  "fails from now on", f->path, strerror(-r));
    return r == -EINVAL ? 0 : r; /* EINVAL: a special file that has nothing to flush */
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
    case FILE_WRITE: /* into the page cache it may wait (ext4): the ring would hand it to a thread too, one by one */
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

/* Those that waited for a misaligned write, or it for them. */
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

/* Refused by a hook, or there is nothing to do: none of finish()'s counts was made. */
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
        again |= result >= 0 && io->moved < io->len; /* short, or the end of the file */
    } else if (io->op != FILE_FLUSH) {
        again |= unsupported(result);
    }
    if (again || result == -EINVAL) { /* EINVAL: what this kernel's ring cannot do */
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

/* ---- what is known about it ---- */

u64 file_size(struct file *f)
{
    struct stat st;
    u64 bytes;

    if (f->device)
        return ioctl(f->fd, BLKGETSIZE64, &bytes) ? 0 : bytes;
    return fstat(f->fd, &st) ? 0 : (u64)st.st_size;
}

u64 file_allocated(struct file *f)
{
    struct stat st;

    if (f->device)
        return file_size(f);
    return fstat(f->fd, &st) ? 0 : (u64)st.st_blocks * 512;
}

bool file_is_device(const struct file *f) { return f->device; }
const char *file_path(const struct file *f) { return f->path; }
u32 file_alignment(const struct file *f) { return f->best_align; }

void file_buffer_all(struct file *f)
{
    if (f->direct >= 0)
        close(f->direct);
    f->direct = -1;
}

int file_map(struct file *f, u64 offset, u64 *len, bool *data)
{
    off_t at = lseek(f->fd, (off_t)offset, SEEK_DATA), end;

    *data = true;
    if (at < 0 && errno == ENXIO) { /* a hole up to the end, or past it */
        *data = false;
        return 0;
    }
    if (at < 0)
        return 0; /* cannot tell: data */
    if ((u64)at > offset) {
        *data = false;
        *len = MIN(*len, (u64)at - offset);
        return 0;
    }
    end = lseek(f->fd, (off_t)offset, SEEK_HOLE);
    if (end > 0 && (u64)end > offset)
        *len = MIN(*len, (u64)end - offset);
    return 0;
}

/* ---- open and close ---- */

static int open_failed(const struct file_options *o, int e, struct error *err)
{
    if (e == ENOENT && !o->create)
        return error_set(err, e, "%s: there is no such file", o->path);
    if (e == EEXIST)
        return error_set(err, e, "%s exists; remove it first", o->path);
    if ((e == EACCES || e == EPERM || e == EROFS) && !o->readonly && !o->create)
        return error_set(err, e, "%s cannot be written: %s; change that, or open it readonly", o->path, strerror(e));
    if (e == EBUSY)
        return error_set(err, e, "%s is in use by the host (mounted, or part of a volume or RAID); a guest that wrote to "
                         "it would destroy it", o->path);
    return error_set(err, e, "%s cannot be %s: %s", o->path, o->create ? "created" : "opened", strerror(e));
}

static int open_unnamed(void)
{
    const char *const folders[] = { getenv("TMPDIR"), "/var/tmp", "/tmp" };
    char name[PATH_MAX];

    for (u32 i = 0; i < ARRAY_SIZE(folders); i++) {
        if (!folders[i])
            continue;
        int fd = open(folders[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
        snprintf(name, sizeof(name), "%s/lodge-XXXXXX", folders[i]);
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0) {
            unlink(name);
            return fd;
        }
    }
    return -1;
}

/* The same file again, by the descriptor: the name may mean another by now. */
static int open_direct(struct file *f, bool readonly, struct error *err)
{
    char name[40];
    struct statx x;
    int sector = 0;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", f->fd);
    f->direct = open(name, (readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    if (f->direct < 0)
        return error_set(err, errno, "%s cannot be used with cache=none (%s); use cache=writeback", f->path,
                         errno == EINVAL ? "its file system has no O_DIRECT" : strerror(errno));
    f->memory_align = f->offset_align = PAGE;
#ifdef STATX_DIOALIGN
    if (!statx(f->direct, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) && (x.stx_mask & STATX_DIOALIGN) &&
        x.stx_dio_offset_align) {
        f->memory_align = x.stx_dio_mem_align;
        f->offset_align = x.stx_dio_offset_align;
    } else
#endif
        if (f->device && !ioctl(f->direct, BLKSSZGET, &sector) && sector >= 512)
            f->offset_align = (u32)sector;
    (void)x;
    /* Metadata goes through the page cache: what lies around it must not be read into there. */
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
    return 0;
}

static int identify(struct file *f, struct error *err)
{
    struct stat st;
    unsigned physical = 0;

    if (fstat(f->fd, &st))
        return error_set(err, errno, "%s: %s", f->path, strerror(errno));
    f->device = S_ISBLK(st.st_mode);
    if (!f->device && !S_ISREG(st.st_mode))
        return error_set(err, EINVAL, "%s is %s, not a file or a block device", f->path,
                         S_ISDIR(st.st_mode) ? "a folder" : "something else");
    f->dev = f->device ? st.st_rdev : st.st_dev;
    f->ino = f->device ? 0 : st.st_ino;
    f->best_align = PAGE;
    if (f->device && !ioctl(f->fd, BLKPBSZGET, &physical) && physical >= 512 && physical <= MiB(1))
        f->best_align = physical;
    return 0;
}

struct file *file_open(const struct file_options *o, struct aio *aio, struct error *err)
{
    struct file *f = calloc(1, sizeof(*f));
    struct stat st;
    int flags = (o->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK, r = 0;

    if (!f || !(f->path = strdup(o->path))) {
        free(f);
        error_set(err, ENOMEM, "%s: no memory", o->path);
        return NULL;
    }
    f->aio = aio;
    f->readonly = o->readonly;
    f->direct = -1;
    f->memory_align = f->offset_align = 1;
    f->waiting_last = &f->waiting;
    if (o->create)
        flags |= O_CREAT | (o->overwrite ? 0 : O_EXCL);
    if (!stat(o->path, &st) && S_ISBLK(st.st_mode)) /* O_EXCL: not while the host has it mounted */
        flags = (flags & ~O_CREAT) | (o->readonly || o->no_lock ? 0 : O_EXCL);
    f->fd = o->unnamed ? open_unnamed() : open(o->path, flags, 0644);
    if (f->fd < 0) {
        r = open_failed(o, errno, err);
        goto fail;
    }
    fcntl(f->fd, F_SETFL, 0); /* O_NONBLOCK was for FIFOs, which would have kept us */
    r = identify(f, err);
    if (!r && !o->no_lock && !o->unnamed)
        r = file_lock(f, !o->readonly, err);
    if (!r && o->create && !f->device) {
        f->created = !o->unnamed;
        if (ftruncate(f->fd, 0))
            r = error_set(err, errno, "%s cannot be emptied: %s", f->path, strerror(errno));
    }
    if (!r && o->direct)
        r = open_direct(f, o->readonly, err);
    if (!r)
        return f;
fail:
    file_close(f);
    errno = -r;
    return NULL;
}

void file_close(struct file *f)
{
    if (!f)
        return;
    if (f->direct >= 0)
        close(f->direct);
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    free(f);
}

void file_unlink(struct file *f)
{
    struct stat a, b;

    if (f->created && !fstat(f->fd, &a) && !lstat(f->path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        unlink(f->path);
}
