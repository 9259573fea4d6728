/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.h - the network card over a struct net.  VIRTIO 1.2, 5.1.
 *
 * A packet from the cable that the driver has no buffer for waits in the backend; one that no driver is there for, or
 * that its filter does not want, is lost.  A packet from the driver that the cable does not take waits in its queue.
 *
 * Threads: new, free: the loop's.
 */
#ifndef LODGE_VIRTIO_NET_H
#define LODGE_VIRTIO_NET_H

#include "devices/device.h"
#include "net/net.h"
#include "virtio/virtio.h"

struct virtio_net;

/* net: the caller's; closed after virtio_net_free. NULL with err set. */
struct virtio_net *virtio_net_new(struct net *net, struct memory *m, struct loop *loop, struct error *err);
void virtio_net_free(struct virtio_net *n); /* after its transport is gone */
struct virtio_device *virtio_net_device(struct virtio_net *n);

extern const struct device_class virtio_net_class;

#endif
