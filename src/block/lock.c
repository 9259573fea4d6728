/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - allows one writer or many readers of an image, also across programs, by the locks that qemu and qemu-img
 * take (docs/interop/ of qemu does not describe them; its block/file-posix.c does).
 *
 * They are read locks on single bytes. Byte 100 + p says "I use permission p", byte 200 + p says "I let nobody else use
 * it". Each program first takes its own locks and then looks whether those of another contradict them. Two programs
 * that do so at the same moment would both give up. So lodge programs do it one at a time, under a lock on a byte of
 * their own.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/file_user.h"
#include "base/log.h"
#include "base/patience.h"
#include "block/file.h"

enum {
    CONSISTENT_READ = 0,
    WRITE = 1,
    RESIZE = 3,
    USED = 100,
    UNSHARED = 200,
    OURS = 300, /* held while the others are taken */
    TRIES = 2000, /* ms */
};
#define LEFT_BEHIND_NS 5000000000ull

static int set(int fd, short type, off_t byte)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static bool taken(int fd, off_t byte)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

    return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

static int refused(const struct file *f, bool writer, bool other_writes, const char *who, struct error *err)
{
    if (!writer)
        return error_set(err, EBUSY, "%s is being written by %s; use a copy, or end that first", f->path, who);
    if (other_writes)
        return error_set(err, EBUSY, "%s is in use by %s; use a copy or an overlay of a copy, or end that first", f->path,
                         who);
    return error_set(err, EBUSY, "%s is being read by %s, perhaps as a backing file; use a copy, an overlay "
                     "(lodge disk create -b) or readonly", f->path, who);
}

static int lock_ours(struct file *f, bool writer)
{
    for (int i = 0;; i++) {
        /* A read-only descriptor can hold no write lock. That is no problem, since readers need not wait for each
           other. */
        int r = set(f->fd, writer ? F_WRLCK : F_RDLCK, OURS);
        if ((r != -EAGAIN && r != -EACCES) || i == TRIES)
            return r;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

/* 0, -EBUSY (*writes: the other one writes), or another -errno. */
static int try_lock(struct file *f, bool writer, bool *writes)
{
    static const off_t writers[] = { USED + CONSISTENT_READ, USED + WRITE, USED + RESIZE, UNSHARED + WRITE,
                                     UNSHARED + RESIZE };
    static const off_t readers[] = { USED + CONSISTENT_READ, UNSHARED + WRITE, UNSHARED + RESIZE };
    const off_t *bytes = writer ? writers : readers;
    u32 n = writer ? ARRAY_SIZE(writers) : ARRAY_SIZE(readers);
    int r = lock_ours(f, writer);

    for (u32 i = 0; !r && i < n; i++)
        r = set(f->fd, F_RDLCK, bytes[i]);
    if (r && r != -EAGAIN && r != -EACCES)
        return r;
    *writes = taken(f->fd, USED + WRITE) || taken(f->fd, USED + RESIZE);
    bool refuses = taken(f->fd, UNSHARED + CONSISTENT_READ) ||
                   (writer && (taken(f->fd, UNSHARED + WRITE) || taken(f->fd, UNSHARED + RESIZE)));
    bool busy = r || *writes || refuses;
    for (u32 i = 0; busy && i < n; i++)
        set(f->fd, F_UNLCK, bytes[i]);
    set(f->fd, F_UNLCK, OURS);
    return busy ? -EBUSY : 0;
}

/*
 * A lock ends with the last reference to the open file. That reference lives longer than a process that is killed: the
 * process's memory is freed first, and its io_uring, with the requests that were under way, ends some time after it
 * (io_ring_exit_work()). So we wait for a lock as long as no process that will stay is seen to have the file open. Such
 * a process must be seen twice, because the first look may have met one in the middle of its end.
 */
int file_lock(struct file *f, bool writer, struct error *err)
{
    const u64 end = clock_ns() + LEFT_BEHIND_NS;
    struct patience p = { 0 };
    char who[FILE_USER];
    bool writes = false, seen = false;
    int r;

    while ((r = try_lock(f, writer, &writes)) == -EBUSY) {
        file_user(f->fd, who);
        if ((who[0] && seen) || clock_ns() >= end)
            break;
        seen = who[0];
        if (patience_ask(&p, "%s is locked by another program, perhaps one that has just ended: waiting for that", f->path))
            return error_set(err, EINTR, "%s is locked by another program; a signal ended the wait", f->path);
        patience_sleep(-1, 0);
    }
    if (r == -EBUSY)
        return refused(f, writer, writes, who[0] ? who : "another program", err);
    if (r)
        log_warn("%s cannot be locked (%s): take care that nothing else writes it", f->path, strerror(-r));
    return 0;
}
