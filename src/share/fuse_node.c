/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse_node.c - the files of a shared folder that the guest knows (nodes) and those that it has open (handles).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "share/internal.h"

enum { MAX_NODES = 1 << 20, MAX_HANDLES = 65536 };

/* ---- nodes -------------------------------------------------------------- */

struct node *fuse_node(struct fuse_server *s, u64 id)
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

/* Finds a number that is free. */
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

struct node *fuse_node_found(struct fuse_server *s, int fd, const struct stat *st)
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

bool fuse_node_room(const struct fuse_server *s, u32 part)
{
    const int fd = fcntl(s->node[0]->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0 && fd < s->fd_limit / (int)part - 1;
}

void fuse_node_free(struct fuse_server *s, struct node *n)
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

void fuse_forget(struct fuse_server *s, u64 id, u64 lookups)
{
    struct node *n = fuse_node(s, id);
    if (!n || id == FUSE_ROOT_ID)
        return;
    n->lookups -= MIN(lookups, n->lookups);
    if (!n->lookups)
        fuse_node_free(s, n);
}

void fuse_self_path(const struct fuse_server *s, const struct node *n, char path[SELF_PATH])
{
    snprintf(path, SELF_PATH, "%s/%d", s->self, n->fd);
}

int fuse_node_open(const struct fuse_server *s, const struct node *n, int flags)
{
    char self[SELF_PATH];
    if (n->type != S_IFREG && n->type != S_IFDIR)
        return n->type == S_IFLNK ? -ELOOP : -ENXIO;
    fuse_self_path(s, n, self);
    const int fd = open(self, (flags & ~(O_NOFOLLOW | O_CREAT | O_EXCL)) | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int fuse_open_at(const struct fuse_server *s, const struct node *dir, const char *name, int flags, mode_t mode)
{
    const struct open_how how = {
        .flags = (u64)flags, .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
    };
    return s->beneath ? (int)syscall(SYS_openat2, dir->fd, name, &how, sizeof how) : openat(dir->fd, name, flags, mode);
}

/* ---- handles ------------------------------------------------------------ */

int fuse_handle_new(struct fuse_server *s, int fd, u64 *fh)
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

int fuse_handle_fd(const struct fuse_server *s, u64 fh)
{
    return fh >> 32 == s->epoch && (u32)fh < s->nhandles ? s->handle[(u32)fh] : -1;
}

int fuse_handle_close(struct fuse_server *s, u64 fh)
{
    const int fd = fuse_handle_fd(s, fh);
    if (fd < 0)
        return -EBADF;
    s->handle[(u32)fh] = -1;
    close(fd);
    return 0;
}
