/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - one writer or many readers of an image, also across programs: the locks that qemu and qemu-img take
 * (docs/interop/ of qemu does not describe them; its block/file-posix.c does).
 *
 * They are read locks on single bytes. Byte 100 + p says "I use permission p", byte 200 + p "I let nobody else use it";
 * everybody takes his own first and then looks whether another's contradict. Two that do so at the same moment would both
 * give up: so lodge does it one at a time, under a lock on a byte of its own.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
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

/* The process that has the file open, by what /proc shows of our own processes: OFD locks have no owner to ask for. */
static void find_user(const struct file *f, char *who, size_t size)
{
    DIR *proc = opendir("/proc");
    struct dirent *p, *d;
    char name[600], comm[64] = "";

    snprintf(who, size, "another program");
    while (proc && (p = readdir(proc))) {
        if (!isdigit((unsigned char)p->d_name[0]))
            continue;
        bool self = atol(p->d_name) == getpid();
        snprintf(name, sizeof(name), "/proc/%.20s/fd", p->d_name);
        DIR *fds = opendir(name);
        bool found = false;
        while (fds && !found && (d = readdir(fds))) {
            struct stat st;
            snprintf(name, sizeof(name), "/proc/%.20s/fd/%.20s", p->d_name, d->d_name);
            if (!isdigit((unsigned char)d->d_name[0]) || (self && atoi(d->d_name) == f->fd) || stat(name, &st))
                continue;
            found = f->device ? S_ISBLK(st.st_mode) && st.st_rdev == f->dev : st.st_dev == f->dev && st.st_ino == f->ino;
        }
        if (fds)
            closedir(fds);
        if (!found)
            continue;
        if (self) {
            snprintf(who, size, "this machine itself: it is named twice");
            continue; /* another process says more */
        }
        snprintf(name, sizeof(name), "/proc/%.20s/comm", p->d_name);
        FILE *c = fopen(name, "re");
        if (c && fgets(comm, sizeof(comm), c))
            comm[strcspn(comm, "\n")] = 0;
        if (c)
            fclose(c);
        snprintf(who, size, "%s (process %.20s)", comm[0] ? comm : "another program", p->d_name);
        break;
    }
    if (proc)
        closedir(proc);
}

static int refused(const struct file *f, bool writer, bool other_writes, struct error *err)
{
    char who[128];

    find_user(f, who, sizeof(who));
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
        /* A read-only descriptor can hold no write lock; readers need not wait for each other anyway. */
        int r = set(f->fd, writer ? F_WRLCK : F_RDLCK, OURS);
        if ((r != -EAGAIN && r != -EACCES) || i == TRIES)
            return r;
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

int file_lock(struct file *f, bool writer, struct error *err)
{
    static const off_t writers[] = { USED + CONSISTENT_READ, USED + WRITE, USED + RESIZE, UNSHARED + WRITE,
                                     UNSHARED + RESIZE };
    static const off_t readers[] = { USED + CONSISTENT_READ, UNSHARED + WRITE, UNSHARED + RESIZE };
    const off_t *bytes = writer ? writers : readers;
    u32 n = writer ? ARRAY_SIZE(writers) : ARRAY_SIZE(readers);
    int r = lock_ours(f, writer);

    for (u32 i = 0; !r && i < n; i++)
        r = set(f->fd, F_RDLCK, bytes[i]);
    if (r && r != -EAGAIN && r != -EACCES) {
        log_warn("%s cannot be locked (%s): take care that nothing else writes it", f->path, strerror(-r));
        return 0;
    }
    bool writes = taken(f->fd, USED + WRITE) || taken(f->fd, USED + RESIZE);
    bool refuses = taken(f->fd, UNSHARED + CONSISTENT_READ) ||
                   (writer && (taken(f->fd, UNSHARED + WRITE) || taken(f->fd, UNSHARED + RESIZE)));
    if (r || writes || refuses) {
        for (u32 i = 0; i < n; i++)
            set(f->fd, F_UNLCK, bytes[i]);
        set(f->fd, F_UNLCK, OURS);
        return refused(f, writer, writes, err);
    }
    set(f->fd, F_UNLCK, OURS);
    return 0;
}
