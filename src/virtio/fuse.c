/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.c - the file server behind virtio-fs: linux/fuse.h, with the structs' and operations' names from there.
 *
 * A node is a file the guest has looked up and not forgotten, held by an O_PATH descriptor; the same file found twice is
 * one node.  Node and handle numbers that a guest makes up are looked for in the tables like all others.  Only regular
 * files and folders are ever opened: what else lies in the folder (devices, FIFOs, sockets) the guest's kernel treats
 * as its own.
 *
 * A file made here belongs to the user who runs Lodge.  So none of them gets a setuid or setgid bit, by which others on
 * the host would become this user with what the guest wrote; and devices cannot be made.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "virtio/fs.h"

enum { MAX_WRITE = 1 << 20, BUCKETS = 4096, MAX_NODES = 1 << 20, MAX_HANDLES = 65536, BUFFER = 65536 };
enum { FD_RESERVE = 256 };
enum { MINOR = 36, VALID_S = 1 /* how long the guest may believe in what it was told */ };

struct node {
    struct node *next; /* of its bucket */
    u64 id;
    int fd;
    mode_t type; /* S_IFMT */
    dev_t dev;
    ino_t ino;
    u64 lookups; /* the guest's */
};

struct fuse_server {
    bool readonly;
    /* High half of the numbers of nodes (but the root's) and handles, another in each session: a guest that was saved and
       goes on elsewhere, or was not told of a reset, gets ESTALE and EBADF and not another file. Not 0. */
    u32 epoch;
    int fd_limit; /* descriptors from here on are left to the rest of the process */
    struct node **node; /* [low half of id, - 1]; NULL: free. The first is the folder itself */
    u32 nnodes, node_cap, free_hint;
    struct node *bucket[BUCKETS];
    int *handle; /* [low half of fh]; -1: free */
    u32 nhandles;
    u8 in[BUFFER + 8] __attribute__((aligned(8))), out[BUFFER] __attribute__((aligned(8)));
};

/* A request and its answer. */
struct op {
    struct fuse_server *s;
    const struct virtio_chain *c;
    struct fuse_in_header in;
    struct node *node; /* of in.nodeid */
    const u8 *args;    /* what follows the header, copied, and a 0 */
    u32 nargs;
    u32 room;          /* bytes there are for the answer's body */
    u32 body;          /* its length: in s->out, or, in_place, in the guest's buffers already */
    bool in_place;
};

/* ---- nodes -------------------------------------------------------------- */

static struct node *node_of(struct fuse_server *s, u64 id)
{
    const u32 n = (u32)id;
    if (id == FUSE_ROOT_ID)
        return s->node[0];
    return id >> 32 == s->epoch && n > FUSE_ROOT_ID && n <= s->nnodes ? s->node[n - 1] : NULL;
}

static struct node **bucket_of(struct fuse_server *s, dev_t dev, ino_t ino)
{
    return &s->bucket[(((u64)ino ^ (u64)dev << 32) * 0x9e3779b97f4a7c15ull) >> 52];
}

/* A number that is free. */
static int new_id(struct fuse_server *s, u64 *id)
{
    for (; s->free_hint < s->nnodes; s->free_hint++)
        if (!s->node[s->free_hint]) {
            *id = (u64)s->epoch << 32 | ++s->free_hint;
            return 0;
        }
    if (s->nnodes == s->node_cap) {
        const u32 cap = s->node_cap ? 2 * s->node_cap : 256;
        struct node **grown = cap <= MAX_NODES ? realloc(s->node, cap * sizeof *grown) : NULL;
        if (!grown)
            return -ENOMEM;
        s->node = grown;
        s->node_cap = cap;
    }
    s->node[s->nnodes] = NULL;
    *id = ++s->nnodes == FUSE_ROOT_ID ? FUSE_ROOT_ID : (u64)s->epoch << 32 | s->nnodes;
    s->free_hint = s->nnodes;
    return 0;
}

/* The node of the file fd is (O_PATH) with one lookup more; fd is taken over. NULL with errno. */
static struct node *node_found(struct fuse_server *s, int fd, const struct stat *st)
{
    struct node **bucket = bucket_of(s, st->st_dev, st->st_ino), *n;
    for (n = *bucket; n; n = n->next)
        if (n->dev == st->st_dev && n->ino == st->st_ino) {
            close(fd);
            n->lookups++;
            return n;
        }
    n = fd < s->fd_limit ? calloc(1, sizeof *n) : NULL;
    if (!n || new_id(s, &n->id)) {
        errno = fd < s->fd_limit ? ENOMEM : ENFILE;
        free(n);
        close(fd);
        return NULL;
    }
    n->fd = fd;
    n->type = st->st_mode & S_IFMT;
    n->dev = st->st_dev;
    n->ino = st->st_ino;
    n->lookups = 1;
    n->next = *bucket;
    *bucket = s->node[(u32)n->id - 1] = n;
    return n;
}

static void node_free(struct fuse_server *s, struct node *n)
{
    struct node **link = bucket_of(s, n->dev, n->ino);
    while (*link != n)
        link = &(*link)->next;
    *link = n->next;
    s->node[(u32)n->id - 1] = NULL;
    s->free_hint = MIN(s->free_hint, (u32)n->id - 1);
    close(n->fd);
    free(n);
}

static void forget(struct fuse_server *s, u64 id, u64 lookups)
{
    struct node *n = node_of(s, id);
    if (!n || id == FUSE_ROOT_ID)
        return;
    n->lookups -= MIN(lookups, n->lookups);
    if (!n->lookups)
        node_free(s, n);
}

enum { SELF_PATH = 40 };

/* A path that leads to the node itself, for calls that take no descriptor of O_PATH. */
static void self_path(const struct node *n, char path[SELF_PATH])
{
    snprintf(path, SELF_PATH, "/proc/self/fd/%d", n->fd);
}

/* A descriptor for the node's data: what is opened is the very file, wherever its name leads by now. */
static int node_open(const struct node *n, int flags)
{
    char self[SELF_PATH];
    if (n->type != S_IFREG && n->type != S_IFDIR)
        return n->type == S_IFLNK ? -ELOOP : -ENXIO;
    self_path(n, self);
    const int fd = open(self, (flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL)) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

/* ---- handles ------------------------------------------------------------ */

static int handle_new(struct fuse_server *s, int fd, u64 *fh)
{
    u32 i = 0;
    if (fd >= s->fd_limit) {
        close(fd);
        return -ENFILE;
    }
    while (i < s->nhandles && s->handle[i] >= 0)
        i++;
    if (i == s->nhandles) {
        const u32 n = s->nhandles ? 2 * s->nhandles : 64;
        int *grown = n <= MAX_HANDLES ? realloc(s->handle, n * sizeof *grown) : NULL;
        if (!grown) {
            close(fd);
            return -ENFILE;
        }
        for (u32 k = s->nhandles; k < n; k++)
            grown[k] = -1;
        s->handle = grown;
        s->nhandles = n;
    }
    s->handle[i] = fd;
    *fh = (u64)s->epoch << 32 | i;
    return 0;
}

static int handle_fd(const struct fuse_server *s, u64 fh)
{
    return fh >> 32 == s->epoch && (u32)fh < s->nhandles ? s->handle[(u32)fh] : -1;
}

static int handle_close(struct fuse_server *s, u64 fh)
{
    const int fd = handle_fd(s, fh);
    if (fd < 0)
        return -EBADF;
    s->handle[(u32)fh] = -1;
    close(fd);
    return 0;
}

/* ---- arguments and answers ---------------------------------------------- */

/* The struct the arguments begin with; NULL: they are too short. */
static const void *args(struct op *o, u32 size)
{
    return o->nargs >= size ? o->args : NULL;
}

/* The n-th of the names that follow the first `skip` bytes: one part of a path. NULL: it is none, or cut off. */
static const char *name_at(struct op *o, u32 skip, unsigned n)
{
    u32 at = skip;
    for (;; n--) {
        const u8 *end = at < o->nargs ? memchr(o->args + at, 0, o->nargs - at) : NULL;
        if (!end)
            return NULL;
        if (!n)
            break;
        at = (u32)(end + 1 - o->args);
    }
    return (const char *)o->args + at;
}
static const char *part_at(struct op *o, u32 skip, unsigned n)
{
    const char *name = name_at(o, skip, n);
    return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") ? name : NULL;
}

static void *answer(struct op *o, u32 size)
{
    o->body = size;
    memset(o->s->out, 0, size);
    return o->s->out;
}

static void attr_of(struct fuse_attr *a, const struct stat *st)
{
    *a = (struct fuse_attr){
        .ino = st->st_ino, .size = (u64)st->st_size, .blocks = (u64)st->st_blocks, .atime = (u64)st->st_atim.tv_sec,
        .mtime = (u64)st->st_mtim.tv_sec, .ctime = (u64)st->st_ctim.tv_sec, .atimensec = (u32)st->st_atim.tv_nsec,
        .mtimensec = (u32)st->st_mtim.tv_nsec, .ctimensec = (u32)st->st_ctim.tv_nsec, .mode = st->st_mode,
        .nlink = (u32)st->st_nlink, .uid = st->st_uid, .gid = st->st_gid, .rdev = (u32)st->st_rdev,
        .blksize = (u32)st->st_blksize,
    };
}

/* Looks a name up: the node gains a lookup. */
static int entry(struct fuse_server *s, const struct node *dir, const char *name, struct fuse_entry_out *e)
{
    struct stat st;
    const int fd = openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstatat(fd, "", &st, AT_EMPTY_PATH)) {
        const int rc = -errno;
        close(fd);
        return rc;
    }
    const struct node *n = node_found(s, fd, &st);
    if (!n)
        return -errno;
    *e = (struct fuse_entry_out){ .nodeid = n->id, .entry_valid = VALID_S, .attr_valid = VALID_S };
    attr_of(&e->attr, &st);
    return 0;
}

static int answer_entry(struct op *o, const char *name)
{
    return entry(o->s, o->node, name, answer(o, sizeof(struct fuse_entry_out)));
}

static int answer_attr(struct op *o, int fd)
{
    struct fuse_attr_out *a = answer(o, sizeof *a);
    struct stat st;
    if (fstatat(fd, "", &st, AT_EMPTY_PATH))
        return -errno;
    a->attr_valid = VALID_S;
    attr_of(&a->attr, &st);
    return 0;
}

static int result(int rc)
{
    return rc < 0 ? -errno : 0;
}

/* The mode a guest may give to what is no folder. */
static mode_t file_mode(u32 mode)
{
    return mode & ~(u32)(S_ISUID | S_ISGID) & 07777;
}

/* ---- operations: 0 or -errno -------------------------------------------- */

static int op_init(struct op *o)
{
    const struct fuse_init_in *in = args(o, 16); /* what all versions have */
    if (!in)
        return -EINVAL;
    if (in->major < FUSE_KERNEL_VERSION)
        return -EPROTO;
    const u32 offered = in->flags;
    struct fuse_init_out *out = answer(o, sizeof *out);
    out->major = FUSE_KERNEL_VERSION;
    out->minor = MINOR;
    if (in->major > FUSE_KERNEL_VERSION)
        return 0; /* it asks again in our version */
    fuse_server_reset(o->s); /* what an earlier mount has left */
    out->max_readahead = in->max_readahead;
    out->flags = offered & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                            FUSE_ATOMIC_O_TRUNC | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_AUTO_INVAL_DATA);
    out->max_background = 64;
    out->congestion_threshold = 48;
    out->max_write = MAX_WRITE;
    out->time_gran = 1;
    out->max_pages = MAX_WRITE / 4096;
    return 0;
}

static int op_lookup(struct op *o)
{
    const char *name = part_at(o, 0, 0);
    return name ? answer_entry(o, name) : -EINVAL;
}

static int op_getattr(struct op *o)
{
    return answer_attr(o, o->node->fd);
}

static int op_setattr(struct op *o)
{
    const struct fuse_setattr_in *in = args(o, sizeof *in);
    char self[SELF_PATH];
    int rc = 0;
    if (!in)
        return -EINVAL;
    self_path(o->node, self);
    if (in->valid & FATTR_MODE) {
        if (o->node->type == S_IFLNK)
            return -EOPNOTSUPP;
        rc = result(chmod(self, o->node->type == S_IFDIR ? in->mode & 07777 : file_mode(in->mode)));
    }
    if (!rc && (in->valid & (FATTR_UID | FATTR_GID)))
        rc = result(fchownat(o->node->fd, "", in->valid & FATTR_UID ? in->uid : (uid_t)-1,
                             in->valid & FATTR_GID ? in->gid : (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
    if (!rc && (in->valid & FATTR_SIZE)) {
        const int held = in->valid & FATTR_FH ? handle_fd(o->s, in->fh) : -1;
        const int fd = held >= 0 ? held : o->node->type == S_IFREG ? node_open(o->node, O_WRONLY) : -EINVAL;
        rc = fd < 0 ? fd : result(ftruncate(fd, (off_t)in->size));
        if (fd >= 0 && held < 0)
            close(fd);
    }
    if (!rc && (in->valid & (FATTR_ATIME | FATTR_MTIME))) {
        struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
        if (in->valid & FATTR_ATIME)
            t[0] = (struct timespec){ (time_t)in->atime, in->valid & FATTR_ATIME_NOW ? UTIME_NOW : (long)in->atimensec };
        if (in->valid & FATTR_MTIME)
            t[1] = (struct timespec){ (time_t)in->mtime, in->valid & FATTR_MTIME_NOW ? UTIME_NOW : (long)in->mtimensec };
        rc = o->node->type == S_IFLNK ? 0 : result(utimensat(AT_FDCWD, self, t, 0));
    }
    return rc ? rc : answer_attr(o, o->node->fd);
}

static int op_readlink(struct op *o)
{
    const ssize_t n = readlinkat(o->node->fd, "", (char *)o->s->out, MIN(o->room, 4096u));
    if (n < 0)
        return -errno;
    o->body = (u32)n;
    return 0;
}

static int op_symlink(struct op *o)
{
    const char *name = part_at(o, 0, 0), *target = name_at(o, 0, 1);
    if (!name || !target)
        return -EINVAL;
    return symlinkat(target, o->node->fd, name) ? -errno : answer_entry(o, name);
}

static int op_mknod(struct op *o)
{
    const struct fuse_mknod_in *in = args(o, sizeof *in);
    const char *name = part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    if (!S_ISREG(in->mode) && !S_ISFIFO(in->mode) && !S_ISSOCK(in->mode))
        return -EPERM; /* a device of the guest's would be one of the host's */
    const mode_t mode = (in->mode & S_IFMT) | file_mode(in->mode & ~in->umask);
    return mknodat(o->node->fd, name, mode, 0) ? -errno : answer_entry(o, name);
}

static int op_mkdir(struct op *o)
{
    const struct fuse_mkdir_in *in = args(o, sizeof *in);
    const char *name = part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    return mkdirat(o->node->fd, name, in->mode & ~(mode_t)in->umask & 07777) ? -errno : answer_entry(o, name);
}

static int op_unlink(struct op *o)
{
    const char *name = part_at(o, 0, 0);
    return name ? result(unlinkat(o->node->fd, name, 0)) : -EINVAL;
}

static int op_rmdir(struct op *o)
{
    const char *name = part_at(o, 0, 0);
    return name ? result(unlinkat(o->node->fd, name, AT_REMOVEDIR)) : -EINVAL;
}

static int rename_to(struct op *o, u32 skip, u64 newdir, u32 flags)
{
    const char *from = part_at(o, skip, 0), *to = part_at(o, skip, 1);
    const struct node *dir = node_of(o->s, newdir);
    if (!from || !to)
        return -EINVAL;
    if (!dir)
        return -ESTALE;
    if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE))
        return -EINVAL; /* RENAME_WHITEOUT makes a device */
    return result(renameat2(o->node->fd, from, dir->fd, to, flags));
}

static int op_rename(struct op *o)
{
    const struct fuse_rename_in *in = args(o, sizeof *in);
    return in ? rename_to(o, sizeof *in, in->newdir, 0) : -EINVAL;
}

static int op_rename2(struct op *o)
{
    const struct fuse_rename2_in *in = args(o, sizeof *in);
    return in ? rename_to(o, sizeof *in, in->newdir, in->flags) : -EINVAL;
}

static int op_link(struct op *o)
{
    const struct fuse_link_in *in = args(o, sizeof *in);
    const char *name = part_at(o, sizeof *in, 0);
    const struct node *old = in ? node_of(o->s, in->oldnodeid) : NULL;
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    if (!old)
        return -ESTALE;
    self_path(old, self);
    return linkat(AT_FDCWD, self, o->node->fd, name, AT_SYMLINK_FOLLOW) ? -errno : answer_entry(o, name);
}

/* What of open(2)'s flags is the file's; appending and caching are the guest's own affair. */
static int flags_of(u32 flags)
{
    return (int)(flags & (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC));
}

static bool writes(u32 flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

static int op_open(struct op *o)
{
    const struct fuse_open_in *in = args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    if (o->s->readonly && writes(in->flags))
        return -EROFS;
    const bool dir = o->in.opcode == FUSE_OPENDIR;
    if (dir != (o->node->type == S_IFDIR))
        return dir ? -ENOTDIR : o->node->type == S_IFDIR ? -EISDIR : -ENXIO;
    struct fuse_open_out *out = answer(o, sizeof *out);
    const int fd = node_open(o->node, dir ? O_RDONLY | O_DIRECTORY : flags_of(in->flags));
    return fd < 0 ? fd : handle_new(o->s, fd, &out->fh);
}

static int op_create(struct op *o)
{
    const struct fuse_create_in *in = args(o, sizeof *in);
    const char *name = part_at(o, sizeof *in, 0);
    if (!in || !name)
        return -EINVAL;
    const mode_t mode = file_mode(in->mode & ~in->umask);
    struct {
        struct fuse_entry_out e;
        struct fuse_open_out f;
    } *out = answer(o, sizeof *out);
    int fd = openat(o->node->fd, name, flags_of(in->flags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, mode);
    if (fd < 0 && (errno != EEXIST || (in->flags & O_EXCL)))
        return -errno;
    int rc = entry(o->s, o->node, name, &out->e);
    if (rc) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (fd < 0) { /* it is there already, perhaps as what may not be opened */
        const struct node *n = node_of(o->s, out->e.nodeid);
        rc = fd = n->type == S_IFDIR ? -EISDIR : node_open(n, flags_of(in->flags));
    }
    if (fd >= 0)
        rc = handle_new(o->s, fd, &out->f.fh);
    if (rc)
        forget(o->s, out->e.nodeid, 1);
    return rc;
}

static int op_release(struct op *o)
{
    const struct fuse_release_in *in = args(o, sizeof *in);
    return in ? handle_close(o->s, in->fh) : -EINVAL;
}

/* The guest's buffers from `skip` bytes into the out (in) pieces, at most len. */
static u32 pieces(const struct virtio_chain *c, bool in, u64 skip, u64 len, struct iovec *iov, u32 max)
{
    const u32 first = in ? c->nout : 0, end = in ? c->nout + c->nin : c->nout;
    u32 n = 0;
    for (u32 i = first; i < end && len && n < max; i++) {
        const u64 cut = MIN(skip, c->iov[i].iov_len), take = MIN(c->iov[i].iov_len - cut, len);
        skip -= cut;
        if (!take)
            continue;
        iov[n++] = (struct iovec){ (u8 *)c->iov[i].iov_base + cut, take };
        len -= take;
    }
    return n;
}

static int op_read(struct op *o)
{
    const struct fuse_read_in *in = args(o, sizeof *in);
    struct iovec iov[512];
    if (!in)
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    const u32 n = pieces(o->c, true, sizeof(struct fuse_out_header), MIN(MIN(in->size, o->room), (u32)MAX_WRITE), iov,
                         ARRAY_SIZE(iov));
    const ssize_t got = n ? preadv(fd, iov, (int)n, (off_t)in->offset) : 0;
    if (got < 0)
        return -errno;
    o->body = (u32)got;
    o->in_place = true;
    return 0;
}

static int op_write(struct op *o)
{
    const struct fuse_write_in *in = args(o, sizeof *in);
    struct iovec iov[512];
    if (!in)
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    const u64 head = sizeof o->in + sizeof *in;
    const u32 n = pieces(o->c, false, head, MIN(in->size, (u32)MAX_WRITE), iov, ARRAY_SIZE(iov));
    const ssize_t put = n ? pwritev(fd, iov, (int)n, (off_t)in->offset) : 0;
    if (put < 0)
        return -errno;
    struct fuse_write_out *out = answer(o, sizeof *out);
    out->size = (u32)put;
    return 0;
}

static int op_statfs(struct op *o)
{
    struct fuse_statfs_out *out = answer(o, sizeof *out);
    struct statvfs s;
    if (fstatvfs(o->node->fd, &s))
        return -errno;
    out->st = (struct fuse_kstatfs){
        .blocks = s.f_blocks, .bfree = s.f_bfree, .bavail = s.f_bavail, .files = s.f_files, .ffree = s.f_ffree,
        .bsize = (u32)s.f_bsize, .namelen = (u32)s.f_namemax, .frsize = (u32)s.f_frsize,
    };
    return 0;
}

static int op_flush(struct op *o) { return 0; } /* nothing is held back here */

static int op_fsync(struct op *o)
{
    const struct fuse_fsync_in *in = args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    if (fd < 0)
        return -EBADF;
    return result(in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd));
}

static int op_fallocate(struct op *o)
{
    const struct fuse_fallocate_in *in = args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    return fd < 0 ? -EBADF : result(fallocate(fd, (int)in->mode, (off_t)in->offset, (off_t)in->length));
}

static int op_lseek(struct op *o)
{
    const struct fuse_lseek_in *in = args(o, sizeof *in);
    if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE))
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    struct fuse_lseek_out *out = answer(o, sizeof *out);
    const off_t at = fd < 0 ? -1 : lseek(fd, (off_t)in->offset, (int)in->whence);
    out->offset = (u64)at;
    return fd < 0 ? -EBADF : at < 0 ? -errno : 0;
}

static int op_copy_file_range(struct op *o)
{
    const struct fuse_copy_file_range_in *in = args(o, sizeof *in);
    if (!in)
        return -EINVAL;
    const int from = handle_fd(o->s, in->fh_in), to = handle_fd(o->s, in->fh_out);
    off_t at = (off_t)in->off_in, off = (off_t)in->off_out;
    if (from < 0 || to < 0)
        return -EBADF;
    const ssize_t n = copy_file_range(from, &at, to, &off, MIN(in->len, (u64)MAX_WRITE), 0);
    struct fuse_write_out *out = answer(o, sizeof *out);
    out->size = (u32)n;
    return n < 0 ? -errno : 0;
}

/* Names of the user's own; what the host's kernel believes in (security, trusted, ACLs) is not the guest's to set. */
static bool attribute_allowed(const char *name)
{
    return !strncmp(name, "user.", 5);
}

static int op_getxattr(struct op *o)
{
    const struct fuse_getxattr_in *in = args(o, sizeof *in);
    const bool list = o->in.opcode == FUSE_LISTXATTR;
    const char *name = list ? "" : in ? name_at(o, sizeof *in, 0) : NULL;
    char self[SELF_PATH];
    if (!in || !name)
        return -EINVAL;
    if (!list && !attribute_allowed(name))
        return -ENODATA;
    if (o->node->type != S_IFREG && o->node->type != S_IFDIR)
        return -EOPNOTSUPP;
    const size_t size = MIN(MIN(in->size, o->room), (u32)BUFFER);
    self_path(o->node, self);
    const ssize_t n = list ? listxattr(self, (char *)o->s->out, size) : getxattr(self, name, o->s->out, size);
    if (n < 0)
        return -errno;
    o->body = (u32)n;
    if (!in->size) {
        struct fuse_getxattr_out *out = answer(o, sizeof *out);
        out->size = (u32)n;
    }
    return 0;
}

static int op_setxattr(struct op *o)
{
    const struct fuse_setxattr_in *in = args(o, FUSE_COMPAT_SETXATTR_IN_SIZE);
    const char *name = in ? name_at(o, FUSE_COMPAT_SETXATTR_IN_SIZE, 0) : NULL;
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    const u32 at = (u32)((const u8 *)name - o->args + strlen(name) + 1);
    if (in->size > o->nargs - at)
        return -EINVAL;
    if (!attribute_allowed(name) || (o->node->type != S_IFREG && o->node->type != S_IFDIR))
        return -EOPNOTSUPP;
    self_path(o->node, self);
    return result(setxattr(self, name, o->args + at, in->size, (int)in->flags));
}

static int op_removexattr(struct op *o)
{
    const char *name = name_at(o, 0, 0);
    char self[SELF_PATH];
    if (!name)
        return -EINVAL;
    if (!attribute_allowed(name) || (o->node->type != S_IFREG && o->node->type != S_IFDIR))
        return -ENODATA;
    self_path(o->node, self);
    return result(removexattr(self, name));
}

/* ---- folders ------------------------------------------------------------ */

struct linux_dirent64 {
    u64 d_ino;
    s64 d_off;
    u16 d_reclen;
    u8 d_type;
    char d_name[];
};

static int op_readdir(struct op *o)
{
    const struct fuse_read_in *in = args(o, sizeof *in);
    const bool plus = o->in.opcode == FUSE_READDIRPLUS;
    u8 entries[8192] __attribute__((aligned(8)));
    if (!in)
        return -EINVAL;
    const int fd = handle_fd(o->s, in->fh);
    const u32 room = MIN(MIN(in->size, o->room), (u32)BUFFER);
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
            if (plus && strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
                (void)!entry(o->s, o->node, d->d_name, &((struct fuse_direntplus *)to)->entry_out); /* node 0: look it up */
            o->body += size;
            at += d->d_reclen;
        }
    }
}

/* ---- serving ------------------------------------------------------------ */

static const struct {
    int (*run)(struct op *o);
    bool changes; /* something: refused where the folder is read-only */
    bool dir;     /* the node must be a folder */
} operations[] = {
    [FUSE_INIT] = { op_init }, [FUSE_LOOKUP] = { op_lookup, .dir = true }, [FUSE_GETATTR] = { op_getattr },
    [FUSE_SETATTR] = { op_setattr, true }, [FUSE_READLINK] = { op_readlink }, [FUSE_SYMLINK] = { op_symlink, true, true },
    [FUSE_MKNOD] = { op_mknod, true, true }, [FUSE_MKDIR] = { op_mkdir, true, true },
    [FUSE_UNLINK] = { op_unlink, true, true }, [FUSE_RMDIR] = { op_rmdir, true, true },
    [FUSE_RENAME] = { op_rename, true, true }, [FUSE_RENAME2] = { op_rename2, true, true },
    [FUSE_LINK] = { op_link, true, true }, [FUSE_OPEN] = { op_open }, [FUSE_READ] = { op_read },
    [FUSE_WRITE] = { op_write, true }, [FUSE_STATFS] = { op_statfs }, [FUSE_RELEASE] = { op_release },
    [FUSE_FSYNC] = { op_fsync }, [FUSE_SETXATTR] = { op_setxattr, true }, [FUSE_GETXATTR] = { op_getxattr },
    [FUSE_LISTXATTR] = { op_getxattr }, [FUSE_REMOVEXATTR] = { op_removexattr, true }, [FUSE_FLUSH] = { op_flush },
    [FUSE_OPENDIR] = { op_open }, [FUSE_READDIR] = { op_readdir }, [FUSE_READDIRPLUS] = { op_readdir, .dir = true },
    [FUSE_RELEASEDIR] = { op_release }, [FUSE_FSYNCDIR] = { op_fsync }, [FUSE_CREATE] = { op_create, true, true },
    [FUSE_FALLOCATE] = { op_fallocate, true }, [FUSE_LSEEK] = { op_lseek },
    [FUSE_COPY_FILE_RANGE] = { op_copy_file_range, true },
};

static int serve(struct op *o)
{
    struct fuse_server *s = o->s;
    const u32 code = o->in.opcode;
    if (code == FUSE_DESTROY) { /* an unmount forgets nothing by itself */
        fuse_server_reset(s);
        return 0;
    }
    if (code >= ARRAY_SIZE(operations) || !operations[code].run)
        return -ENOSYS;
    if (code == FUSE_INIT)
        return op_init(o);
    if (!(o->node = node_of(s, o->in.nodeid)))
        return -ESTALE;
    if (operations[code].dir && o->node->type != S_IFDIR)
        return -ENOTDIR;
    if (s->readonly && operations[code].changes)
        return -EROFS;
    return operations[code].run(o);
}

/* Requests without an answer. */
static bool serve_silent(struct op *o)
{
    if (o->in.opcode == FUSE_FORGET) {
        const struct fuse_forget_in *in = args(o, sizeof *in);
        if (in)
            forget(o->s, o->in.nodeid, in->nlookup);
    } else if (o->in.opcode == FUSE_BATCH_FORGET) {
        const struct fuse_batch_forget_in *in = args(o, sizeof *in);
        const struct fuse_forget_one *one = (const struct fuse_forget_one *)(o->args + sizeof *in);
        for (u32 i = 0; in && i < in->count && sizeof *in + (i + 1ull) * sizeof *one <= o->nargs; i++)
            forget(o->s, one[i].nodeid, one[i].nlookup);
    } else {
        return o->in.opcode == FUSE_INTERRUPT; /* what it would end ends by itself */
    }
    return true;
}

u64 fuse_server_serve(struct fuse_server *s, const struct virtio_chain *c)
{
    struct op o = { .s = s, .c = c };
    if (virtio_read(c, 0, &o.in, sizeof o.in) != sizeof o.in)
        return 0;
    /* WRITE's data stays where it is. */
    const u64 wanted = o.in.opcode == FUSE_WRITE ? sizeof(struct fuse_write_in) : BUFFER;
    o.nargs = (u32)virtio_read(c, sizeof o.in, s->in, MIN(wanted, c->out_len - sizeof o.in));
    s->in[o.nargs] = 0;
    o.args = s->in;
    if (serve_silent(&o) || c->in_len < sizeof(struct fuse_out_header))
        return 0;
    o.room = (u32)MIN(c->in_len - sizeof(struct fuse_out_header), UINT32_MAX);
    int rc = serve(&o);
    if (rc || (!o.in_place && o.body > o.room)) {
        rc = rc ? rc : -EIO;
        o.body = 0;
    }
    const struct fuse_out_header out = { .len = (u32)sizeof out + o.body, .error = rc, .unique = o.in.unique };
    virtio_write(c, 0, &out, sizeof out);
    if (o.body && !o.in_place)
        virtio_write(c, sizeof out, s->out, o.body);
    return out.len;
}

/* ---- the server --------------------------------------------------------- */

void fuse_server_reset(struct fuse_server *s)
{
    for (u32 i = FUSE_ROOT_ID; i < s->nnodes; i++)
        if (s->node[i])
            node_free(s, s->node[i]);
    s->nnodes = MIN(s->nnodes, (u32)FUSE_ROOT_ID);
    s->free_hint = s->nnodes;
    for (u32 i = 0; i < s->nhandles; i++)
        if (s->handle[i] >= 0)
            (void)handle_close(s, (u64)s->epoch << 32 | i);
    s->epoch += 1 + !(s->epoch + 1);
}

/* Nodes are descriptors. Returns the first that is not for them. */
static int fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return FD_RESERVE;
    return (int)MIN(r.rlim_cur - MIN(r.rlim_cur / 2, (rlim_t)FD_RESERVE), (rlim_t)INT32_MAX);
}

struct fuse_server *fuse_server_new(const char *path, bool readonly, struct error *err)
{
    struct fuse_server *s = calloc(1, sizeof *s);
    struct stat st;
    const int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st)) {
        error_set(err, errno, "--share %s: %s", path, strerror(errno));
    } else if (!s) {
        error_set(err, ENOMEM, "out of memory");
    } else if (faccessat(fd, ".", R_OK | X_OK, 0)) {
        error_set(err, errno, "--share %s: this user may not read it", path);
    } else if (access("/proc/self/fd", X_OK)) {
        error_set(err, errno, "--share %s: /proc is needed to open files", path);
    } else {
        s->fd_limit = fd_limit();
        if (getrandom(&s->epoch, sizeof s->epoch, GRND_NONBLOCK) < 0)
            s->epoch = (u32)clock_ns();
        s->epoch |= !s->epoch;
        s->readonly = readonly;
        if (node_found(s, fd, &st))
            return s;
        error_set(err, ENOMEM, "out of memory");
        fuse_server_free(s);
        return NULL;
    }
    if (fd >= 0)
        close(fd);
    free(s);
    return NULL;
}

void fuse_server_free(struct fuse_server *s)
{
    if (!s)
        return;
    fuse_server_reset(s);
    if (s->nnodes)
        node_free(s, s->node[0]);
    free(s->node);
    free(s->handle);
    free(s);
}
