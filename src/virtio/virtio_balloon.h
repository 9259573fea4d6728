/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_balloon.h - the memory balloon (VIRTIO 1.2, 5.5): memory the guest does not need goes back to the host, pages it gave
 * up (inflate) as well as those it reports free (VIRTIO_BALLOON_F_PAGE_REPORTING).
 */
#ifndef LODGE_VIRTIO_BALLOON_H
#define LODGE_VIRTIO_BALLOON_H

#include "devices/device.h"
#include "virtio/virtio.h"

enum { /* 5.5.6.4; in bytes or counts as there */
    BALLOON_SWAP_IN, BALLOON_SWAP_OUT, BALLOON_MAJFLT, BALLOON_MINFLT, BALLOON_MEMFREE, BALLOON_MEMTOT, BALLOON_AVAIL,
    BALLOON_CACHES, BALLOON_HTLB_PGALLOC, BALLOON_HTLB_PGFAIL, BALLOON_STATS,
};

struct virtio_balloon_figures {
    u64 target, actual;      /* bytes the guest is asked to give up, and has */
    u64 reported;            /* bytes reported free so far */
    bool known;              /* the guest's own figures have come */
    u64 stat[BALLOON_STATS]; /* UINT64_MAX: not told */
};

struct virtio_balloon;
/* target: bytes to ask for at first. */
struct virtio_balloon *virtio_balloon_new(struct memory *m, struct loop *loop, u64 target, struct error *err);
void virtio_balloon_free(struct virtio_balloon *b); /* may be NULL */
struct virtio_device *virtio_balloon_device(struct virtio_balloon *b);
/* The loop's thread, or when it has ended. */
void virtio_balloon_set(struct virtio_balloon *b, u64 target);
struct virtio_balloon_figures virtio_balloon_figures(struct virtio_balloon *b);

extern const struct device_class virtio_balloon_class;

#endif
