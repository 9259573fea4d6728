/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.h - a folder of the host shared with the guest (VIRTIO 1.2, 5.11, and the FUSE protocol of linux/fuse.h, 7.31 and
 * up): mount -t virtiofs TAG /mnt.  No root: the guest sees and does what the user who runs Lodge may, with the numbers
 * of the host's users.  It cannot leave the folder: every name is looked up below a directory, one part at a time,
 * links not followed.  It makes no device nodes, and no files that are setuid or setgid on the host: those bits of a mode
 * are dropped.  Links that it makes may point anywhere; who follows them on the host is to know that.  What the guest has
 * open does not survive a snapshot: it gets ESTALE and EBADF, and finds names anew.
 *
 * A host's file system may never answer (a server that is gone): then its thread waits in the kernel, and so does whoever
 * waits for it.  A machine that is to end does not do so for long: if no request is done for two seconds, the thread is
 * left behind with all it may still touch, and ends with the process.
 */
#ifndef LODGE_VIRTIO_FS_H
#define LODGE_VIRTIO_FS_H

#include "virtio/virtio.h"

enum { VIRTIO_FS_TAG = 36 };

struct virtio_fs_config {
    struct memory *memory;
    struct loop *loop;
    const char *path; /* the folder */
    const char *tag;  /* 1 to VIRTIO_FS_TAG bytes */
    bool readonly;
};

struct virtio_fs;
struct virtio_fs *virtio_fs_new(const struct virtio_fs_config *c, struct error *err);
void virtio_fs_free(struct virtio_fs *f); /* may be NULL */
struct virtio_device *virtio_fs_device(struct virtio_fs *f);

/* ---- fuse.c: the server, one request at a time, knows no queue ------------- */

struct fuse_server;
struct fuse_server *fuse_server_new(const char *path, bool readonly, struct error *err);
void fuse_server_free(struct fuse_server *s);
/* All nodes and handles are forgotten but the root: a new session. May wait for the host's disk if it holds open files. */
void fuse_server_reset(struct fuse_server *s);
bool fuse_server_holds_files(const struct fuse_server *s);
/* A request in out pieces (its header first), the answer into in pieces: returns the answer's length, 0: none is due. The
   pieces are guest memory and may change while we look. May wait for the host's disk. */
u64 fuse_server_serve(struct fuse_server *s, const struct virtio_chain *c);

#endif
