/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_files.c - operations on open files and folders, and opening them.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "share/internal.h"

/* The flags of open(2) that concern the file. Appending and caching are the task of the guest. */
static int flags_of(u32 flags)
{
    return (int)(flags & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC));
}

static bool writes(u32 flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

int fuse_op_open(struct op *o)
{
    const struct fuse_open_in *in = fuse_args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    if (o->s->readonly && writes(in->flags))
        return -EROFS;
    const bool dir = o->in.opcode == FUSE_OPENDIR;
    if (dir != (o->node->type == S_IFDIR))
        return dir ? -ENOTDIR : o->node->type == S_IFDIR ? -EISDIR : -ENXIO;
    struct fuse_open_out *out = fuse_answer(o, sizeof *out);
    const int fd = fuse_node_open(o->s, o->node, dir ? O_RDONLY | O_DIRECTORY : flags_of(in->flags));
    return fd < 0 ? fd : fuse_handle_new(o->s, fd, &out->fh);
}

int fuse_op_create(struct op *o)
{
    const struct fuse_create_in *in = fuse_args(o, sizeof *in);
    const char *name = fuse_part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    const mode_t mode = fuse_file_mode(in->mode & ~in->umask);
    struct {
        struct fuse_entry_out e;
        struct fuse_open_out f;
    } *out = fuse_answer(o, sizeof *out);
    int fd = fuse_open_at(o->s, o->node, name, flags_of(in->flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
    if (fd < 0 && (errno != EEXIST || (in->flags & O_EXCL)))
        return -errno;
    int rc = fuse_entry(o->s, o->node, name, &out->e);
    if (rc) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (fd < 0) { /* it exists already, perhaps as something that may not be opened */
        const struct node *n = fuse_node(o->s, out->e.nodeid);
        rc = fd = n->type == S_IFDIR ? -EISDIR : fuse_node_open(o->s, n, flags_of(in->flags));
    }
    if (fd >= 0)
        rc = fuse_handle_new(o->s, fd, &out->f.fh);
    if (rc)
        fuse_forget(o->s, out->e.nodeid, 1);
    return rc;
}

int fuse_op_release(struct op *o)
{
    const struct fuse_release_in *in = fuse_args(o, sizeof *in);
    return in ? fuse_handle_close(o->s, in->fh) : -EINVAL;
}

int fuse_op_read(struct op *o)
{
    const struct fuse_read_in *in = fuse_args(o, sizeof *in);
    struct iovec iov[512];
    if (!in)
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    const u32 n = iov_slice(iov, ARRAY_SIZE(iov), o->m->in, o->m->nin, sizeof(struct fuse_out_header),
                            MIN(MIN(in->size, o->room), (u32)FUSE_MAX_WRITE));
    const ssize_t got = n ? preadv(fd, iov, (int)n, (off_t)in->offset) : 0;
    if (got < 0)
        return -errno;
    o->body = (u32)got;
    o->in_place = true;
    return 0;
}

int fuse_op_write(struct op *o)
{
    const struct fuse_write_in *in = fuse_args(o, sizeof *in);
    struct iovec iov[512];
    if (!in)
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    const u64 head = sizeof o->in + sizeof *in;
    const u32 n = iov_slice(iov, ARRAY_SIZE(iov), o->m->out, o->m->nout, head, MIN(in->size, (u32)FUSE_MAX_WRITE));
    const ssize_t put = n ? pwritev(fd, iov, (int)n, (off_t)in->offset) : 0;
    if (put < 0)
        return -errno;
    struct fuse_write_out *out = fuse_answer(o, sizeof *out);
    out->size = (u32)put;
    return 0;
}

int fuse_op_statfs(struct op *o)
{
    struct fuse_statfs_out *out = fuse_answer(o, sizeof *out);
    struct statvfs s;
    if (fstatvfs(o->node->fd, &s))
        return -errno;
    out->st = (struct fuse_kstatfs){
        .blocks = s.f_blocks, .bfree = s.f_bfree, .bavail = s.f_bavail, .files = s.f_files, .ffree = s.f_ffree,
        .bsize = (u32)s.f_bsize, .namelen = (u32)s.f_namemax, .frsize = (u32)s.f_frsize,
    };
    return 0;
}

int fuse_op_flush(struct op *o) { return 0; } /* nothing is held back here */

int fuse_op_fsync(struct op *o)
{
    const struct fuse_fsync_in *in = fuse_args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    return fuse_result(in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd));
}

int fuse_op_fallocate(struct op *o)
{
    const struct fuse_fallocate_in *in = fuse_args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    return fd < 0 ? -EBADF : fuse_result(fallocate(fd, (int)in->mode, (off_t)in->offset, (off_t)in->length));
}

int fuse_op_lseek(struct op *o)
{
    const struct fuse_lseek_in *in = fuse_args(o, sizeof *in);
    if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    struct fuse_lseek_out *out = fuse_answer(o, sizeof *out);
    const off_t at = fd < 0 ? -1 : lseek(fd, (off_t)in->offset, (int)in->whence);
    out->offset = (u64)at;
    return fd < 0 ? -EBADF : at < 0 ? -errno : 0;
}

int fuse_op_copy_file_range(struct op *o)
{
    const struct fuse_copy_file_range_in *in = fuse_args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int from = fuse_handle_fd(o->s, in->fh_in), to = fuse_handle_fd(o->s, in->fh_out);
    off_t at = (off_t)in->off_in, off = (off_t)in->off_out;
    if (from < 0 || to < 0)
        return -EBADF;
    const ssize_t n = copy_file_range(from, &at, to, &off, MIN(in->len, (u64)FUSE_MAX_WRITE), 0);
    struct fuse_write_out *out = fuse_answer(o, sizeof *out);
    out->size = (u32)n;
    return n < 0 ? -errno : 0;
}

/* ---- folders ------------------------------------------------------------ */

struct linux_dirent64 {
    u64 d_ino;
    s64 d_off;
    u16 d_reclen;
    u8 d_type;
    char d_name[];
};

int fuse_op_readdir(struct op *o)
{
    const struct fuse_read_in *in = fuse_args(o, sizeof *in);
    const bool plus = o->in.opcode == FUSE_READDIRPLUS;
    u8 entries[8192] __attribute__((aligned(8)));
    if (!in)
        return -EINVAL;
    const int fd = fuse_handle_fd(o->s, in->fh);
    const u32 room = MIN(MIN(in->size, o->room), (u32)FUSE_BUFFER);
    const bool nodes = plus && fuse_node_room(o->s, 2); /* without room, only files that the guest looks up by name
                                                           get a node */
    if (fd < 0)
        return -EBADF;
    if (lseek(fd, (off_t)in->offset, SEEK_SET) < 0)
        return -errno;
    for (;;) {
        const long n = syscall(SYS_getdents64, fd, entries, sizeof entries);
        if (n <= 0)
            return n < 0 && !o->body ? -errno : 0;
        for (long at = 0; at < n;) {
            const struct linux_dirent64 *d = (const struct linux_dirent64 *)(entries + at);
            const u32 len = (u32)strlen(d->d_name);
            const u32 head = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET, size = (u32)FUSE_DIRENT_ALIGN(head + len);
            if (size > room - o->body)
                return 0;
            u8 *to = o->s->out + o->body;
            memset(to, 0, size);
            struct fuse_dirent *e = plus ? &((struct fuse_direntplus *)to)->dirent : (struct fuse_dirent *)to;
            *e = (struct fuse_dirent){ .ino = d->d_ino, .off = (u64)d->d_off, .namelen = len, .type = d->d_type };
            memcpy(e->name, d->d_name, len);
            if (nodes && strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
                /* node 0: the guest must look the name up */
                (void)!fuse_entry(o->s, o->node, d->d_name, &((struct fuse_direntplus *)to)->entry_out);
            o->body += size;
            at += d->d_reclen;
        }
    }
}
