/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - shared by the files of the folder server. The names of structs and operations are those of linux/fuse.h.
 * fuse.c serves a request, fuse_node.c keeps the files that the guest has found or opened, fuse_names.c has the
 * operations on names and attributes, fuse_files.c has those on open files.
 *
 * A node is a file that the guest has looked up and not forgotten. An O_PATH descriptor holds it. If the same file is
 * found twice, there is only one node. A guest may invent node and handle numbers: they are looked up in the tables
 * like all others. Only regular files and folders are ever opened. The guest's kernel treats other things in the folder
 * (devices, FIFOs, sockets) as its own.
 *
 * A file made here belongs to the user who runs Lodge. So no such file gets a setuid or setgid bit. With such a bit,
 * others on the host could become this user by running what the guest wrote. Devices cannot be made.
 */
#ifndef LODGE_SHARE_INTERNAL_H
#define LODGE_SHARE_INTERNAL_H

#include <linux/fuse.h>
#include <sys/stat.h>

#include "base/iov.h"
#include "share/share.h"

enum { FUSE_MAX_WRITE = 1 << 20, FUSE_BUCKETS = 4096, FUSE_BUFFER = 65536 };
enum { FUSE_VALID_S = 1 /* how long the guest may rely on what it was told */ };

struct node {
    struct node *next; /* in its bucket */
    u64 id;
    int fd;
    mode_t type; /* S_IFMT */
    dev_t dev;
    ino_t ino;
    u64 lookups; /* the guest's lookups */
};

struct fuse_server {
    bool readonly;
    const char *self; /* the directory whose names are this process's descriptors */
    bool beneath;     /* the kernel has openat2 */
    /* The high half of the numbers of nodes (except the root's) and handles. It differs in each session. So a guest
       that was saved and goes on elsewhere, or was not told of a reset, gets ESTALE and EBADF and not another file.
       It is not 0. */
    u32 epoch;
    int fd_limit; /* descriptors from this number on are left to the rest of the process */
    struct node **node; /* [low half of id, - 1]; NULL: free. The first one is the folder itself */
    u32 nnodes, node_cap, free_hint;
    struct node *bucket[FUSE_BUCKETS];
    int *handle; /* [low half of fh]; -1: free */
    u32 nhandles;
    u8 in[FUSE_BUFFER + 8] __attribute__((aligned(8))), out[FUSE_BUFFER] __attribute__((aligned(8)));
};

/* A request and its answer. */
struct op {
    struct fuse_server *s;
    const struct fuse_message *m;
    struct fuse_in_header in;
    struct node *node; /* the node of in.nodeid */
    const u8 *args;    /* a copy of what follows the header, with a 0 after it */
    u32 nargs;
    u32 room;          /* bytes that there are for the answer's body */
    u32 body;          /* length of the answer's body, which is in s->out or, if in_place, already in the message's
                          pieces */
    bool in_place;
};

/* ---- fuse_node.c ---- */

struct node *fuse_node(struct fuse_server *s, u64 id); /* NULL: there is no node of this number */
/* Returns the node of the file of fd (O_PATH), with one more lookup. It takes over fd. NULL with errno. */
struct node *fuse_node_found(struct fuse_server *s, int fd, const struct stat *st);
/* True if there is room for one more node and a handle of it in the first part-th of the descriptors. */
bool fuse_node_room(const struct fuse_server *s, u32 part);
void fuse_node_free(struct fuse_server *s, struct node *n);
void fuse_forget(struct fuse_server *s, u64 id, u64 lookups);
enum { SELF_PATH = 40 };
/* Gives a path that leads to the node itself, for calls that take no O_PATH descriptor. */
void fuse_self_path(const struct fuse_server *s, const struct node *n, char path[SELF_PATH]);
/* Opens the node's data and returns a descriptor. It opens exactly this file, wherever the file's name leads by now. */
int fuse_node_open(const struct fuse_server *s, const struct node *n, int flags);
/* As openat(2), of a name that is one part of a path: it cannot lead out of the folder. -1 with errno. */
int fuse_open_at(const struct fuse_server *s, const struct node *dir, const char *name, int flags, mode_t mode);

int fuse_handle_new(struct fuse_server *s, int fd, u64 *fh); /* takes over fd, even if it fails */
int fuse_handle_fd(const struct fuse_server *s, u64 fh); /* -1: there is no handle of this number */
int fuse_handle_close(struct fuse_server *s, u64 fh);

/* ---- fuse.c ---- */

/* Returns the struct with which the arguments begin. NULL: they are too short. */
const void *fuse_args(struct op *o, u32 size);
/* Return the n-th of the names after the first `skip` bytes. NULL: it is cut off. part: the name must be one part of
   a path, else NULL. */
const char *fuse_name_at(struct op *o, u32 skip, unsigned n);
const char *fuse_part_at(struct op *o, u32 skip, unsigned n);
/* Makes the answer's body, of size zeroes. */
void *fuse_answer(struct op *o, u32 size);
int fuse_answer_attr(struct op *o, int fd);
/* Looks a name up: the node gains a lookup. */
int fuse_entry(struct fuse_server *s, const struct node *dir, const char *name, struct fuse_entry_out *e);
/* Converts what a call returned to 0 or -errno. */
int fuse_result(int rc);
/* The mode that a guest may give to anything but a folder. */
mode_t fuse_file_mode(u32 mode);

/* ---- the operations: 0 or -errno ---- */

#define OPERATION(name) int fuse_op_##name(struct op *o)
OPERATION(lookup);
OPERATION(getattr);
OPERATION(setattr);
OPERATION(readlink);
OPERATION(symlink);
OPERATION(mknod);
OPERATION(mkdir);
OPERATION(unlink);
OPERATION(rmdir);
OPERATION(rename);
OPERATION(rename2);
OPERATION(link);
OPERATION(getxattr); /* and listxattr */
OPERATION(setxattr);
OPERATION(removexattr);

OPERATION(open); /* and opendir */
OPERATION(create);
OPERATION(release);
OPERATION(read);
OPERATION(write);
OPERATION(statfs);
OPERATION(flush);
OPERATION(fsync);
OPERATION(fallocate);
OPERATION(lseek);
OPERATION(copy_file_range);
OPERATION(readdir); /* and readdirplus */
#undef OPERATION

#endif
