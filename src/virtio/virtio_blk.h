/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_blk.h - the block device over a struct block.  VIRTIO 1.2, 5.2.
 *
 * A request is carried out once, whole, by the block layer; what is under way together may happen in any order.  With
 * the write cache off (by configuration, by the driver, or because it cannot flush) a write is done once it has been
 * flushed.  Requests that lie outside the disk, are no multiple of 512 bytes, have more than 254 MiB, or write to a
 * read-only one get IOERR.  Of those under way at most 64 MiB and one more are begun; the others wait in their queue.
 *
 * Where the host fails, the policy for reads and that for writes say what happens: the guest is told (REPORT), or the
 * request is kept, stop() is called, and it is tried again each second until it succeeds, then go() (STOP); ENOSPC
 * stops for a full disk and reports the rest.  While stopped nothing new is begun, and the state cannot be saved.
 *
 * Threads: new, free, resized, and the callbacks: the loop's.
 */
#ifndef LODGE_VIRTIO_BLK_H
#define LODGE_VIRTIO_BLK_H

#include "block/block.h"
#include "devices/device.h"
#include "virtio/virtio.h"

enum { VIRTIO_BLK_SERIAL = 20, VIRTIO_BLK_MAX_QUEUES = 8 };

struct virtio_blk_config {
    struct memory *memory;
    struct loop *loop;
    struct block *block;  /* the caller's; closed after virtio_blk_free */
    const char *serial;   /* at most 20 bytes, or NULL */
    u32 queues;           /* 1 to VIRTIO_BLK_MAX_QUEUES */
    bool write_cache;     /* what the driver finds; it may change it (CONFIG_WCE) */
    bool discard;         /* offer discard to the driver */
    enum config_disk_errors rerror, werror;
    /* Called with no lock held, in turns; only needed for STOP and ENOSPC. why: one sentence, good for the call. */
    void (*stop)(void *ctx, const char *why);
    void (*go)(void *ctx);
    void *ctx;
};

struct virtio_blk;

struct virtio_blk *virtio_blk_new(const struct virtio_blk_config *c, struct error *err); /* NULL with err set */
/* After its transport is gone; waits for what is under way. */
void virtio_blk_free(struct virtio_blk *b);
struct virtio_device *virtio_blk_device(struct virtio_blk *b);
/* The block's size has changed: tells the driver. */
void virtio_blk_resized(struct virtio_blk *b);

extern const struct device_class virtio_blk_class;

#endif
