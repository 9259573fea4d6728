/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uhci.h - the USB 1.1 host controller of the 82371SB (PIIX3, function 2, PCI 8086:7020) with its two ports; port 1 has a
 * tablet.  Intel Universal Host Controller Interface Design Guide 1.1; 290550.
 *
 * The schedule is looked at each millisecond while something happens on the bus, and less and less often, down to each
 * IDLE_MS, while nothing does; an event of the tablet's brings it back at once.  All frames are looked at that the time
 * since then holds, up to FRAMES_MAX.  A controller that is stopped costs nothing.
 *
 * Threads: init, destroy, event: the loop's.  Locks itself.
 */
#ifndef LODGE_DEVICES_UHCI_H
#define LODGE_DEVICES_UHCI_H

#include <pthread.h>

#include "base/error.h"
#include "base/loop.h"
#include "chardev/chardev.h"
#include "devices/device.h"
#include "devices/usb_tablet.h"
#include "display/input.h"
#include "memory/memory.h"
#include "pci/pci.h"

enum { UHCI_PORTS = 2 };

struct uhci {
    struct pci_function f;
    struct memory *memory;
    struct input *input; /* or NULL */
    struct input_sink sink;
    pthread_mutex_t lock; /* guards the rest */
    struct timer timer;
    u16 cmd, sts, intr, frnum;
    u32 frbase;
    u8 sofmod;
    u16 port[UHCI_PORTS];
    u8 why;      /* of STS.USBINT: a TD with IOC, a short packet */
    u64 started; /* clock_ns() at which frame frnum began; while running */
    u64 elapsed; /* what is saved of it */
    u32 quiet;   /* frames since something happened */
    struct usb_tablet tablet;

    struct uhci_source { /* the loop's thread */
        u8 partial[8]; /* of an event */
        u32 n;
        u32 x, y;
        s32 wheel;
        u8 buttons;
    } source;
};

/* Plugged into slot.function; its state into l. input: the tablet is one of its sinks. source: borrowed; events for the
   tablet, as virtio/virtio_input.h has them. Either may be NULL. */
int must_check uhci_init(struct uhci *u, struct memory *m, struct loop *loop, struct input *input, struct chardev *source,
                         struct pci_bus *bus, u32 slot, u32 function, struct state_list *l, struct error *err);
void uhci_destroy(struct uhci *u); /* after the bus is gone */
void uhci_reset(void *u);          /* power-on */
/* As the tablet's sink gets them. */
void uhci_event(struct uhci *u, u32 x, u32 y, s32 wheel, u8 buttons);
void uhci_attach(struct uhci *u, struct chardev *source); /* uhci_source.c */

extern const struct device_class uhci_class;

#endif
