/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.h - a folder of the host, served by the FUSE protocol (linux/fuse.h, 7.31 and up), one request at a time.  The
 * server knows no guest and no queue: a request and the room for its answer are pieces of memory.
 *
 * No root: the guest sees and does what the user who runs Lodge may, with the numbers of the host's users.  It cannot
 * leave the folder: every name is looked up below a directory, one part at a time, and links are not followed.  It makes
 * no device nodes, and no files that are setuid or setgid on the host: those bits of a mode are dropped.  Links that it
 * makes may point anywhere, and a user of the host who follows them must expect that.  What the guest has open does not
 * survive a snapshot: it gets ESTALE and EBADF, and finds names anew.
 *
 * One thread at a time.
 */
#ifndef LODGE_SHARE_SHARE_H
#define LODGE_SHARE_SHARE_H

#include <sys/uio.h>

#include "base/base.h"
#include "base/error.h"

struct fuse_server;
struct fuse_server *fuse_server_new(const char *path, bool readonly, struct error *err); /* path: the folder */
void fuse_server_free(struct fuse_server *s);
/* All nodes and handles are forgotten but the root: a new session. May wait for the host's disk if it holds open files. */
void fuse_server_reset(struct fuse_server *s);
bool fuse_server_holds_files(const struct fuse_server *s);

/* The names are VIRTIO's: the request is what comes out of the guest, the answer goes in. The pieces may be memory that
   somebody else changes while we look. */
struct fuse_message {
    const struct iovec *out, *in; /* the request, its header first; room for the answer */
    u32 nout, nin;
};
/* Returns the answer's length; 0: none is due. May wait for the host's disk. */
u64 fuse_server_serve(struct fuse_server *s, const struct fuse_message *m);

#endif
