/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_console.h - virtio console (VIRTIO 1.2, 5.3) with several ports: hvc0, hvc1, ... in Linux, each joined to a chardev.
 */
#ifndef LODGE_VIRTIO_CONSOLE_H
#define LODGE_VIRTIO_CONSOLE_H

#include "chardev/chardev.h"
#include "devices/device.h"
#include "virtio/virtio.h"

enum { VIRTIO_CONSOLE_MAX_PORTS = 8 };

struct virtio_console_config {
    struct memory *memory;
    struct loop *loop;
    u32 nports; /* 1 to VIRTIO_CONSOLE_MAX_PORTS */
    struct chardev *port[VIRTIO_CONSOLE_MAX_PORTS]; /* borrowed; none is NULL */
};

struct virtio_console;
struct virtio_console *virtio_console_new(const struct virtio_console_config *c, struct error *err);
void virtio_console_free(struct virtio_console *c); /* may be NULL */
struct virtio_device *virtio_console_device(struct virtio_console *c);

extern const struct device_class virtio_console_class;

#endif
