/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h - what the files of the folder server share: linux/fuse.h, with the structs' and operations' names from
 * there.  fuse.c serves a request, fuse_node.c keeps the files that the guest has found or opened,
 * fuse_names.c has the operations on names and attributes, fuse_files.c those on what is open.
 *
 * A node is a file the guest has looked up and not forgotten, held by an O_PATH descriptor; the same file found twice is
 * one node.  Node and handle numbers that a guest makes up are looked for in the tables like all others.  Only regular
 * files and folders are ever opened: what else lies in the folder (devices, FIFOs, sockets) the guest's kernel treats
 * as its own.
 *
 * A file made here belongs to the user who runs Lodge.  So none of them gets a setuid or setgid bit, by which others on
 * the host would become this user with what the guest wrote; and devices cannot be made.
 */
#ifndef LODGE_SHARE_INTERNAL_H
#define LODGE_SHARE_INTERNAL_H

#include <linux/fuse.h>
#include <sys/stat.h>

#include "base/iov.h"
#include "share/share.h"

enum { FUSE_MAX_WRITE = 1 << 20, FUSE_BUCKETS = 4096, FUSE_BUFFER = 65536 };
enum { FUSE_VALID_S = 1 /* how long the guest may believe in what it was told */ };

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
    struct node *node; /* of in.nodeid */
    const u8 *args;    /* what follows the header, copied, and a 0 */
    u32 nargs;
    u32 room;          /* bytes there are for the answer's body */
    u32 body;          /* its length: in s->out, or, in_place, in the message's pieces already */
    bool in_place;
};

/* ---- fuse_node.c ---- */

struct node *fuse_node(struct fuse_server *s, u64 id); /* NULL: there is none of this number */
/* The node of the file fd is (O_PATH) with one lookup more; fd is taken over. NULL with errno. */
struct node *fuse_node_found(struct fuse_server *s, int fd, const struct stat *st);
/* For another one, and a handle of it, in the first part-th of the descriptors. */
bool fuse_node_room(const struct fuse_server *s, u32 part);
void fuse_node_free(struct fuse_server *s, struct node *n);
void fuse_forget(struct fuse_server *s, u64 id, u64 lookups);
enum { SELF_PATH = 40 };
/* A path that leads to the node itself, for calls that take no descriptor of O_PATH. */
void fuse_self_path(const struct node *n, char path[SELF_PATH]);
/* A descriptor for the node's data: what is opened is the very file, wherever its name leads by now. */
int fuse_node_open(const struct node *n, int flags);

int fuse_handle_new(struct fuse_server *s, int fd, u64 *fh); /* takes fd over, also when it fails */
int fuse_handle_fd(const struct fuse_server *s, u64 fh); /* -1: there is none of this number */
int fuse_handle_close(struct fuse_server *s, u64 fh);

/* ---- fuse.c ---- */

/* The struct the arguments begin with; NULL: they are too short. */
const void *fuse_args(struct op *o, u32 size);
/* The n-th of the names that follow the first `skip` bytes; NULL: cut off. part: one part of a path, or NULL. */
const char *fuse_name_at(struct op *o, u32 skip, unsigned n);
const char *fuse_part_at(struct op *o, u32 skip, unsigned n);
/* The answer's body, of so many zeroes. */
void *fuse_answer(struct op *o, u32 size);
int fuse_answer_attr(struct op *o, int fd);
/* Looks a name up: the node gains a lookup. */
int fuse_entry(struct fuse_server *s, const struct node *dir, const char *name, struct fuse_entry_out *e);
/* What a call returned: 0 or -errno. */
int fuse_result(int rc);
/* The mode a guest may give to what is no folder. */
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
