/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_rng.h - the entropy device, from the host's getrandom(2).  VIRTIO 1.2, 5.4.
 */
#ifndef LODGE_VIRTIO_RNG_H
#define LODGE_VIRTIO_RNG_H

#include "devices/device.h"
#include "virtio/virtio.h"

struct virtio_rng;

struct virtio_rng *virtio_rng_new(struct memory *m, struct loop *loop, struct error *err); /* NULL with err set */
void virtio_rng_free(struct virtio_rng *r); /* after its transport is gone */
struct virtio_device *virtio_rng_device(struct virtio_rng *r);

extern const struct device_class virtio_rng_class;

#endif
