/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.h - the file system device (VIRTIO 1.2, 5.11), by which the guest mounts a folder of the host: mount -t virtiofs
 * TAG /mnt. A process of its own serves the folder (share/folder.h); share/share.h says what a guest may do there.
 *
 * A host's file system may never answer (a server that is gone): then that process waits in the kernel, and a reset of the
 * guest or a snapshot waits for the process. A machine that is to end does not do so for long: if no request is done for
 * two seconds, the process is killed, or left behind if it cannot even die.
 */
#ifndef LODGE_VIRTIO_FS_H
#define LODGE_VIRTIO_FS_H

#include "devices/device.h"
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

extern const struct device_class virtio_fs_class;

#endif
