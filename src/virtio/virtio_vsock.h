/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_vsock.h - virtio sockets (VIRTIO 1.2, 5.10) joined to unix sockets of the host, by Firecracker's convention:
 *
 *   host to guest  connect to PATH, write "CONNECT PORT\n", read "OK HOSTPORT\n"; then the bytes are the guest's
 *   guest to host  the guest connects to CID 2, port P: a host program listens on PATH_P
 *
 * Stream sockets. Connections do not survive a snapshot: the guest's see a reset.
 */
#ifndef LODGE_VIRTIO_VSOCK_H
#define LODGE_VIRTIO_VSOCK_H

#include "devices/device.h"
#include "virtio/virtio.h"

struct virtio_vsock_config {
    struct memory *memory;
    struct loop *loop;
    const char *path; /* at most 90 bytes; made when the device is, removed with it. Of a process gone: replaced */
    u64 cid;          /* the guest's, 3 to 2^32 - 2 */
};

struct virtio_vsock;
struct virtio_vsock *virtio_vsock_new(const struct virtio_vsock_config *c, struct error *err);
void virtio_vsock_free(struct virtio_vsock *s); /* may be NULL */
struct virtio_device *virtio_vsock_device(struct virtio_vsock *s);

extern const struct device_class virtio_vsock_class;

#endif
