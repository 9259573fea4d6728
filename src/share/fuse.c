/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.c - the folder server (share.h): it reads a request, carries it out and answers it; it also starts and ends the
 * server.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/loop.h"
#include "share/internal.h"

enum { FD_RESERVE = 256, MINOR = 36 };

/* ---- arguments and answers ---------------------------------------------- */

const void *fuse_args(struct op *o, u32 size)
{
    return o->nargs >= size ? o->args : NULL;
}

const char *fuse_name_at(struct op *o, u32 skip, unsigned n)
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
const char *fuse_part_at(struct op *o, u32 skip, unsigned n)
{
    const char *name = fuse_name_at(o, skip, n);
    return name && *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..") ? name : NULL;
}

void *fuse_answer(struct op *o, u32 size)
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

int fuse_entry(struct fuse_server *s, const struct node *dir, const char *name, struct fuse_entry_out *e)
{
    struct stat st;
    const int fd = fuse_open_at(s, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (fstatat(fd, "", &st, AT_EMPTY_PATH)) {
        const int rc = -errno;
        close(fd);
        return rc;
    }
    const struct node *n = fuse_node_found(s, fd, &st);
    if (!n)
        return -errno;
    *e = (struct fuse_entry_out){ .nodeid = n->id, .entry_valid = FUSE_VALID_S, .attr_valid = FUSE_VALID_S };
    attr_of(&e->attr, &st);
    return 0;
}

int fuse_answer_attr(struct op *o, int fd)
{
    struct fuse_attr_out *a = fuse_answer(o, sizeof *a);
    struct stat st;
    if (fstatat(fd, "", &st, AT_EMPTY_PATH))
        return -errno;
    a->attr_valid = FUSE_VALID_S;
    attr_of(&a->attr, &st);
    return 0;
}

int fuse_result(int rc)
{
    return rc < 0 ? -errno : 0;
}

mode_t fuse_file_mode(u32 mode)
{
    return mode & ~(u32)(S_ISUID | S_ISGID) & 07777;
}

/* ---- serving ------------------------------------------------------------ */

static int op_init(struct op *o)
{
    const struct fuse_init_in *in = fuse_args(o, 16); /* the part that all versions have */
    if (!in)
        return -EINVAL;
    if (in->major < FUSE_KERNEL_VERSION)
        return -EPROTO;
    const u32 offered = in->flags;
    struct fuse_init_out *out = fuse_answer(o, sizeof *out);
    out->major = FUSE_KERNEL_VERSION;
    out->minor = MINOR;
    if (in->major > FUSE_KERNEL_VERSION)
        return 0; /* it asks again in our version */
    fuse_server_reset(o->s); /* removes what an earlier mount has left */
    out->max_readahead = in->max_readahead;
    out->flags = offered & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
                            FUSE_ATOMIC_O_TRUNC | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_AUTO_INVAL_DATA);
    out->max_background = 64;
    out->congestion_threshold = 48;
    out->max_write = FUSE_MAX_WRITE;
    out->time_gran = 1;
    out->max_pages = FUSE_MAX_WRITE / 4096;
    return 0;
}

static const struct {
    int (*run)(struct op *o);
    bool changes; /* it changes something: refused if the folder is read-only */
    bool dir;     /* the node must be a folder */
    bool makes;   /* it makes a name, whose node takes a descriptor. It is refused if there is no descriptor;
                     otherwise it would make the name and then report a failure */
} operations[] = {
    [FUSE_INIT] = { op_init }, [FUSE_LOOKUP] = { fuse_op_lookup, .dir = true }, [FUSE_GETATTR] = { fuse_op_getattr },
    [FUSE_SETATTR] = { fuse_op_setattr, true }, [FUSE_READLINK] = { fuse_op_readlink },
    [FUSE_SYMLINK] = { fuse_op_symlink, true, true, true }, [FUSE_MKNOD] = { fuse_op_mknod, true, true, true },
    [FUSE_MKDIR] = { fuse_op_mkdir, true, true, true }, [FUSE_UNLINK] = { fuse_op_unlink, true, true },
    [FUSE_RMDIR] = { fuse_op_rmdir, true, true }, [FUSE_RENAME] = { fuse_op_rename, true, true },
    [FUSE_RENAME2] = { fuse_op_rename2, true, true }, [FUSE_LINK] = { fuse_op_link, true, true, true },
    [FUSE_OPEN] = { fuse_op_open }, [FUSE_READ] = { fuse_op_read }, [FUSE_WRITE] = { fuse_op_write, true },
    [FUSE_STATFS] = { fuse_op_statfs }, [FUSE_RELEASE] = { fuse_op_release }, [FUSE_FSYNC] = { fuse_op_fsync },
    [FUSE_SETXATTR] = { fuse_op_setxattr, true }, [FUSE_GETXATTR] = { fuse_op_getxattr },
    [FUSE_LISTXATTR] = { fuse_op_getxattr }, [FUSE_REMOVEXATTR] = { fuse_op_removexattr, true },
    [FUSE_FLUSH] = { fuse_op_flush }, [FUSE_OPENDIR] = { fuse_op_open }, [FUSE_READDIR] = { fuse_op_readdir },
    [FUSE_READDIRPLUS] = { fuse_op_readdir, .dir = true }, [FUSE_RELEASEDIR] = { fuse_op_release },
    [FUSE_FSYNCDIR] = { fuse_op_fsync }, [FUSE_CREATE] = { fuse_op_create, true, true, true },
    [FUSE_FALLOCATE] = { fuse_op_fallocate, true }, [FUSE_LSEEK] = { fuse_op_lseek },
    [FUSE_COPY_FILE_RANGE] = { fuse_op_copy_file_range, true },
};

static int serve(struct op *o)
{
    struct fuse_server *s = o->s;
    const u32 code = o->in.opcode;
    if (code == FUSE_DESTROY) { /* an unmount itself forgets nothing */
        fuse_server_reset(s);
        return 0;
    }
    if (code >= ARRAY_SIZE(operations) || !operations[code].run)
        return -ENOSYS;
    if (code == FUSE_INIT)
        return op_init(o);
    if (!(o->node = fuse_node(s, o->in.nodeid)))
        return -ESTALE;
    if (operations[code].dir && o->node->type != S_IFDIR)
        return -ENOTDIR;
    if (s->readonly && operations[code].changes)
        return -EROFS;
    if (operations[code].makes && !fuse_node_room(s, 1))
        return -ENFILE;
    return operations[code].run(o);
}

/* Requests without an answer. */
static bool serve_silent(struct op *o)
{
    if (o->in.opcode == FUSE_FORGET) {
        const struct fuse_forget_in *in = fuse_args(o, sizeof *in);
        if (in)
            fuse_forget(o->s, o->in.nodeid, in->nlookup);
    } else if (o->in.opcode == FUSE_BATCH_FORGET) {
        const struct fuse_batch_forget_in *in = fuse_args(o, sizeof *in);
        const struct fuse_forget_one *one = (const struct fuse_forget_one *)(o->args + sizeof *in);
        for (u32 i = 0; in && i < in->count && sizeof *in + (i + 1ull) * sizeof *one <= o->nargs; i++)
            fuse_forget(o->s, one[i].nodeid, one[i].nlookup);
    } else {
        return o->in.opcode == FUSE_INTERRUPT; /* the operation that it would interrupt ends by itself */
    }
    return true;
}

u64 fuse_server_serve(struct fuse_server *s, const struct fuse_message *m)
{
    struct op o = { .s = s, .m = m };
    const u64 out_len = iov_length(m->out, m->nout), in_len = iov_length(m->in, m->nin);
    if (out_len < sizeof o.in)
        return 0;
    iov_gather(&o.in, m->out, m->nout, 0, sizeof o.in);
    /* The data of WRITE stays where it is. */
    const u64 wanted = o.in.opcode == FUSE_WRITE ? sizeof(struct fuse_write_in) : FUSE_BUFFER;
    o.nargs = (u32)MIN(wanted, out_len - sizeof o.in);
    iov_gather(s->in, m->out, m->nout, sizeof o.in, o.nargs);
    s->in[o.nargs] = 0;
    o.args = s->in;
    if (serve_silent(&o) || in_len < sizeof(struct fuse_out_header))
        return 0;
    o.room = (u32)MIN(in_len - sizeof(struct fuse_out_header), UINT32_MAX);
    int rc = serve(&o);
    if (rc || (!o.in_place && o.body > o.room)) {
        rc = rc ? rc : -EIO;
        o.body = 0;
    }
    const struct fuse_out_header out = { .len = (u32)sizeof out + o.body, .error = rc, .unique = o.in.unique };
    iov_scatter(m->in, m->nin, 0, &out, sizeof out);
    if (o.body && !o.in_place)
        iov_scatter(m->in, m->nin, sizeof out, s->out, o.body);
    return out.len;
}

/* ---- the server --------------------------------------------------------- */

void fuse_server_reset(struct fuse_server *s)
{
    for (u32 i = FUSE_ROOT_ID; i < s->nnodes; i++)
        if (s->node[i])
            fuse_node_free(s, s->node[i]);
    s->nnodes = MIN(s->nnodes, (u32)FUSE_ROOT_ID);
    s->free_hint = s->nnodes;
    for (u32 i = 0; i < s->nhandles; i++)
        if (s->handle[i] >= 0)
            (void)fuse_handle_close(s, (u64)s->epoch << 32 | i);
    s->epoch += 1 + !(s->epoch + 1);
}

/* Each node takes a descriptor. Returns the first descriptor that nodes may not take. */
static int fd_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r))
        return FD_RESERVE;
    return (int)MIN(r.rlim_cur - MIN(r.rlim_cur / 2, (rlim_t)FD_RESERVE), (rlim_t)INT32_MAX);
}

static bool has_openat2(int folder)
{
    const struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH };
    const int fd = (int)syscall(SYS_openat2, folder, ".", &how, sizeof how);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

struct fuse_server *fuse_server_new(int folder, const char *self, bool readonly, struct error *err)
{
    struct fuse_server *s = calloc(1, sizeof *s);
    struct stat st;

    if (fstatat(folder, "", &st, AT_EMPTY_PATH) || !s) {
        error_set(err, s ? errno : ENOMEM, "%s", s ? strerror(errno) : "out of memory");
        close(folder);
        free(s);
        return NULL;
    }
    s->self = self;
    s->beneath = has_openat2(folder);
    s->fd_limit = fd_limit();
    if (getrandom(&s->epoch, sizeof s->epoch, GRND_NONBLOCK) < 0)
        s->epoch = (u32)clock_ns();
    s->epoch |= !s->epoch;
    s->readonly = readonly;
    if (fuse_node_found(s, folder, &st))
        return s;
    error_set(err, ENOMEM, "out of memory");
    fuse_server_free(s);
    return NULL;
}

void fuse_server_free(struct fuse_server *s)
{
    if (!s)
        return;
    fuse_server_reset(s);
    if (s->nnodes)
        fuse_node_free(s, s->node[0]);
    free(s->node);
    free(s->handle);
    free(s);
}
