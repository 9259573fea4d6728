/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_input.h - input devices (VIRTIO 1.2, 5.8) with Linux's event numbers (linux/input-event-codes.h): a keyboard, and a
 * tablet (absolute pointer, three buttons, wheel).  Events come by virtio_input_event, or from a chardev as the
 * device's own eight bytes: type u16, code u16, value s32, little-endian; a SYN_REPORT ends each group.
 */
#ifndef LODGE_VIRTIO_INPUT_H
#define LODGE_VIRTIO_INPUT_H

#include "chardev/chardev.h"
#include "devices/device.h"
#include "virtio/virtio.h"

enum virtio_input_kind { VIRTIO_INPUT_KEYBOARD, VIRTIO_INPUT_TABLET };
enum { VIRTIO_INPUT_ABS_MAX = 32767 }; /* of the tablet's ABS_X and ABS_Y; 0: left, top */

struct virtio_input;
/* source: borrowed, or NULL. */
struct virtio_input *virtio_input_new(enum virtio_input_kind kind, struct memory *m, struct loop *loop,
                                      struct chardev *source, struct error *err);
void virtio_input_free(struct virtio_input *i); /* may be NULL */
struct virtio_device *virtio_input_device(struct virtio_input *i);
/* The loop's thread. What the device of this kind has no code for is left out; while nobody reads, the oldest are lost. */
void virtio_input_event(struct virtio_input *i, u16 type, u16 code, s32 value);

extern const struct device_class virtio_input_class;

#endif
