/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - serves a folder of the host by the FUSE protocol (linux/fuse.h, 7.31 and up), one request at a time. The
 * server knows no guest and no queue: a request and the room for its answer are pieces of memory.
 *
 * It needs no root. The guest sees and does what the user who runs Lodge may, with the numbers of the host's
 * users. It cannot leave the folder: every name is looked up below a directory, one part at a time, and links are not
 * followed. It makes no device nodes, and no files that are setuid or setgid on the host: those bits of a mode are
 * dropped. Links that the guest makes may point anywhere, and a user of the host who follows them must expect that.
 * Files that the guest has open do not survive a snapshot: the guest gets ESTALE and EBADF, and looks names up again.
 *
 * One thread at a time.
 */
#ifndef LODGE_SHARE_SHARE_H
#define LODGE_SHARE_SHARE_H

#include <sys/uio.h>

#include "base/base.h"
#include "base/error.h"

struct fuse_server;
/* folder: a descriptor of it (O_PATH), which becomes the server's, also if this fails. self: the directory that has this
   process's descriptors as its names, "/proc/self/fd" where there is no sandbox (base/sandbox.h); it outlives the server. */
struct fuse_server *fuse_server_new(int folder, const char *self, bool readonly, struct error *err);
void fuse_server_free(struct fuse_server *s);
/* Forgets all nodes and handles except the root: a new session begins. It may wait for the host's disk if it has
   open files. */
void fuse_server_reset(struct fuse_server *s);

/* The names are those of VIRTIO: the request comes out of the guest, the answer goes in. The pieces may be memory
   that somebody else changes while we look. */
struct fuse_message {
    const struct iovec *out, *in; /* out: the request, its header first; in: room for the answer */
    u32 nout, nin;
};
/* Returns the answer's length. 0: the request needs no answer. It may wait for the host's disk. */
u64 fuse_server_serve(struct fuse_server *s, const struct fuse_message *m);

#endif
