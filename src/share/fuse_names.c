/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_names.c - operations on names, attributes and extended attributes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "share/internal.h"

static int answer_entry(struct op *o, const char *name)
{
    return fuse_entry(o->s, o->node, name, fuse_answer(o, sizeof(struct fuse_entry_out)));
}

int fuse_op_lookup(struct op *o)
{
    const char *name = fuse_part_at(o, 0, 0);
    return name ? answer_entry(o, name) : -EINVAL;
}

int fuse_op_getattr(struct op *o)
{
    return fuse_answer_attr(o, o->node->fd);
}

int fuse_op_setattr(struct op *o)
{
    const struct fuse_setattr_in *in = fuse_args(o, sizeof *in);
    char self[SELF_PATH];
    int rc = 0;
    if (!in)
        return -EINVAL;
    fuse_self_path(o->s, o->node, self);
    if (in->valid & FATTR_MODE) {
        if (o->node->type == S_IFLNK)
            return -EOPNOTSUPP;
        rc = fuse_result(chmod(self, o->node->type == S_IFDIR ? in->mode & 07777 : fuse_file_mode(in->mode)));
    }
    if (!rc && (in->valid & (FATTR_UID | FATTR_GID)))
        rc = fuse_result(fchownat(o->node->fd, "", in->valid & FATTR_UID ? in->uid : (uid_t)-1,
                             in->valid & FATTR_GID ? in->gid : (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    if (!rc && (in->valid & FATTR_SIZE)) {
        const int held = in->valid & FATTR_FH ? fuse_handle_fd(o->s, in->fh) : -1;
        const int fd = held >= 0 ? held : o->node->type == S_IFREG ? fuse_node_open(o->s, o->node, O_WRONLY) : -EINVAL;
        rc = fd < 0 ? fd : fuse_result(ftruncate(fd, (off_t)in->size));
        if (fd >= 0 && held < 0)
            close(fd);
    }
    if (!rc && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
        struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
        if (in->valid & FATTR_ATIME)
            t[0] = (struct timespec){ (time_t)in->atime, in->valid & FATTR_ATIME_NOW ? UTIME_NOW : (long)in->atimensec };
        if (in->valid & FATTR_MTIME)
            t[1] = (struct timespec){ (time_t)in->mtime, in->valid & FATTR_MTIME_NOW ? UTIME_NOW : (long)in->mtimensec };
        rc = o->node->type == S_IFLNK ? 0 : fuse_result(utimensat(AT_FDCWD, self, t, 0));
    }
    return rc ? rc : fuse_answer_attr(o, o->node->fd);
}

int fuse_op_readlink(struct op *o)
{
    const ssize_t n = readlinkat(o->node->fd, "", (char *)o->s->out, MIN(o->room, 4096u));
    if (n < 0)
        return -errno;
    o->body = (u32)n;
    return 0;
}

int fuse_op_symlink(struct op *o)
{
    const char *name = fuse_part_at(o, 0, 0), *target = fuse_name_at(o, 0, 1);
    if (!name || !target)
        return -EINVAL;
    return symlinkat(target, o->node->fd, name) ? -errno : answer_entry(o, name);
}

int fuse_op_mknod(struct op *o)
{
    const struct fuse_mknod_in *in = fuse_args(o, sizeof *in);
    const char *name = fuse_part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    if (!S_ISREG(in->mode) && !S_ISFIFO(in->mode) && !S_ISSOCK(in->mode))
        return -EPERM; /* a device that the guest makes would be a device of the host */
    const mode_t mode = (in->mode & S_IFMT) | fuse_file_mode(in->mode & ~in->umask);
    return mknodat(o->node->fd, name, mode, 0) ? -errno : answer_entry(o, name);
}

int fuse_op_mkdir(struct op *o)
{
    const struct fuse_mkdir_in *in = fuse_args(o, sizeof *in);
    const char *name = fuse_part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    return mkdirat(o->node->fd, name, in->mode & ~(mode_t)in->umask & 07777) ? -errno : answer_entry(o, name);
}

int fuse_op_unlink(struct op *o)
{
    const char *name = fuse_part_at(o, 0, 0);
    return name ? fuse_result(unlinkat(o->node->fd, name, 0)) : -EINVAL;
}

int fuse_op_rmdir(struct op *o)
{
    const char *name = fuse_part_at(o, 0, 0);
    return name ? fuse_result(unlinkat(o->node->fd, name, AT_REMOVEDIR)) : -EINVAL;
}

static int rename_to(struct op *o, u32 skip, u64 newdir, u32 flags)
{
    const char *from = fuse_part_at(o, skip, 0), *to = fuse_part_at(o, skip, 1);
    const struct node *dir = fuse_node(o->s, newdir);
    if (!from || !to)
        return -EINVAL;
    if (!dir)
        return -ESTALE;
    if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL; /* RENAME_WHITEOUT would make a device */
    return fuse_result(renameat2(o->node->fd, from, dir->fd, to, flags));
}

int fuse_op_rename(struct op *o)
{
    const struct fuse_rename_in *in = fuse_args(o, sizeof *in);
    return in ? rename_to(o, sizeof *in, in->newdir, 0) : -EINVAL;
}

int fuse_op_rename2(struct op *o)
{
    const struct fuse_rename2_in *in = fuse_args(o, sizeof *in);
    return in ? rename_to(o, sizeof *in, in->newdir, in->flags) : -EINVAL;
}

int fuse_op_link(struct op *o)
{
    const struct fuse_link_in *in = fuse_args(o, sizeof *in);
    const char *name = fuse_part_at(o, sizeof *in, 0);
    const struct node *old = in ? fuse_node(o->s, in->oldnodeid) : NULL;
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    if (!old)
        return -ESTALE;
    fuse_self_path(o->s, old, self);
    return linkat(AT_FDCWD, self, o->node->fd, name, AT_SYMLINK_FOLLOW) ? -errno : answer_entry(o, name);
}

/* ---- extended attributes ------------------------------------------------ */

/* The guest may set names of the class "user" only. It may not set those that the host's kernel relies on (security,
   trusted, ACLs). */
static bool attribute_allowed(const char *name)
{
    return !strncmp(name, "user.", 5);
}

int fuse_op_getxattr(struct op *o)
{
    const struct fuse_getxattr_in *in = fuse_args(o, sizeof *in);
    const bool list = o->in.opcode == FUSE_LISTXATTR;
    const char *name = list ? "" : in ? fuse_name_at(o, sizeof *in, 0) : NULL;
    char self[SELF_PATH];
    if (!in || !name)
        return -EINVAL;
    if (!list && !attribute_allowed(name))
        return -ENODATA;
    if (o->node->type != S_IFREG && o->node->type != S_IFDIR)
        return -EOPNOTSUPP;
    const size_t size = MIN(MIN(in->size, o->room), (u32)FUSE_BUFFER);
    fuse_self_path(o->s, o->node, self);
    const ssize_t n = list ? listxattr(self, (char *)o->s->out, size) : getxattr(self, name, o->s->out, size);
    if (n < 0)
        return -errno;
    o->body = (u32)n;
    if (!in->size) {
        struct fuse_getxattr_out *out = fuse_answer(o, sizeof *out);
        out->size = (u32)n;
    }
    return 0;
}

int fuse_op_setxattr(struct op *o)
{
    const struct fuse_setxattr_in *in = fuse_args(o, FUSE_COMPAT_SETXATTR_IN_SIZE);
    const char *name = in ? fuse_name_at(o, FUSE_COMPAT_SETXATTR_IN_SIZE, 0) : NULL;
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    const u32 at = (u32)((const u8 *)name - o->args + strlen(name) + 1);
    if (in->size > o->nargs - at)
        return -EINVAL;
    if (!attribute_allowed(name) || (o->node->type != S_IFREG && o->node->type != S_IFDIR))
        return -EOPNOTSUPP;
    fuse_self_path(o->s, o->node, self);
    return fuse_result(setxattr(self, name, o->args + at, in->size, (int)in->flags));
}

int fuse_op_removexattr(struct op *o)
{
    const char *name = fuse_name_at(o, 0, 0);
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    if (!attribute_allowed(name) || (o->node->type != S_IFREG && o->node->type != S_IFDIR))
        return -ENODATA;
    fuse_self_path(o->s, o->node, self);
    return fuse_result(removexattr(self, name));
}
