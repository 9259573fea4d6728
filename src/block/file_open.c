/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_open.c - opens the file of an image, answers questions about it and closes it. file.c does the I/O.
 */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/opener.h"

/* ---- questions about the file ---- */

u64 file_size(struct file *f)
{
    struct stat st;
    u64 bytes;

    if (f->device)
        return ioctl(f->fd, BLKGETSIZE64, &bytes) ? 0 : bytes;
    return opener_fstat(f->fd, &st) ? 0 : (u64)st.st_size;
}

u64 file_allocated(struct file *f)
{
    struct stat st;

    if (f->device)
        return file_size(f);
    return opener_fstat(f->fd, &st) ? 0 : (u64)st.st_blocks * 512;
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
    if (at < 0 && errno == ENXIO) { /* a hole up to the end of the file, or offset is past the end */
        *data = false;
        return 0;
    }
    if (at < 0)
        return 0; /* the file system cannot tell: we say data */
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
    u64 random;

    for (u32 i = 0; i < ARRAY_SIZE(folders); i++) {
        if (!folders[i])
            continue;
        int fd = opener_file(OPENER_OVERLAY, folders[i], O_TMPFILE | O_RDWR, 0600);
        if (fd >= 0)
            return fd;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
            continue;
        snprintf(name, sizeof(name), "%s/lodge-%016llx", folders[i], (unsigned long long)random);
        fd = opener_file(OPENER_OVERLAY, name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0) {
            opener_remove(OPENER_OVERLAY, name);
            return fd;
        }
    }
    return -1;
}

/* Opens the path that was checked (o->real), in which nobody may have put a link since. */
static int open_named(const struct file_options *o, int flags)
{
    const struct opener_request r = {
        .purpose = OPENER_DISK, .kind = OPENER_FILE, .path = o->real ? o->real : o->path, .flags = flags, .mode = 0644,
        .no_links = o->real != NULL,
    };
    const int fd = opener_request(&r);

    if (fd < 0)
        errno = -fd;
    return fd < 0 ? -1 : fd;
}

/*
 * Opens the same file again. Its name may mean another file by now, so it is opened by its descriptor. This process may
 * not be allowed to do that, if the file belongs to another user and the opener has more rights than we have. Then it is
 * opened by its name, and refused if that is another file.
 */
static int open_again(const struct file *f, const struct file_options *o, int flags)
{
    struct stat a, b;
    int fd = opener_again(f->fd, flags);

    if (fd >= 0 || (errno != EACCES && errno != EPERM) || (fd = open_named(o, flags)) < 0)
        return fd;
    if (!opener_fstat(f->fd, &a) && !opener_fstat(fd, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        return fd;
    close(fd);
    errno = ESTALE;
    return -1;
}

static int open_direct(struct file *f, const struct file_options *o, bool readonly, struct error *err)
{
    struct statx x;
    int sector = 0;

    f->direct = open_again(f, o, (readonly ? O_RDONLY : O_RDWR) | O_DIRECT);
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
    /* Metadata goes through the page cache. The kernel must not read the data around it into the cache. */
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
    return 0;
}

static int identify(struct file *f, struct error *err)
{
    struct stat st;
    unsigned physical = 0;

    if (opener_fstat(f->fd, &st))
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
    if (!opener_stat(OPENER_DISK, o->path, 0, &st) && S_ISBLK(st.st_mode)) /* O_EXCL: fails while the host has the device mounted */
        flags = (flags & ~O_CREAT) | (o->readonly || o->no_lock ? 0 : O_EXCL);
    f->fd = o->unnamed ? open_unnamed() : open_named(o, flags);
    if (f->fd < 0) {
        r = open_failed(o, errno, err);
        goto fail;
    }
    fcntl(f->fd, F_SETFL, 0); /* O_NONBLOCK was for FIFOs, which would have made us wait */
    r = identify(f, err);
    if (!r && !o->no_lock && !o->unnamed)
        r = file_lock(f, !o->readonly, err);
    if (!r && o->create && !f->device) {
        f->created = !o->unnamed;
        if (ftruncate(f->fd, 0))
            r = error_set(err, errno, "%s cannot be emptied: %s", f->path, strerror(errno));
    }
    if (!r && o->direct)
        r = open_direct(f, o, o->readonly, err);
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

    if (f->created && !opener_fstat(f->fd, &a) && !opener_stat(OPENER_DISK, f->path, O_NOFOLLOW, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        opener_remove(OPENER_DISK, f->path);
}
