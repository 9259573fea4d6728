/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usb.h - a full-speed USB device as its host controller sees it: transactions of a token, data and a handshake.
 * Universal Serial Bus Specification 2.0, chapters 8 and 9.  The standard requests are answered here, from descriptors
 * that the device gives as constants.
 *
 * A device is embedded by its owner; its controller's lock guards it.
 */
#ifndef LODGE_DEVICES_USB_H
#define LODGE_DEVICES_USB_H

#include "base/base.h"
#include "state/state.h"

enum usb_pid { USB_OUT = 0xe1, USB_IN = 0x69, USB_SETUP = 0x2d }; /* 8.3.1 */
enum { USB_NAK = -1, USB_STALL = -2 };                               /* in place of a length */
enum { USB_CONTROL_MAX = 256, USB_EP0_SIZE = 8 };                    /* bytes */

struct usb_setup { /* 9.3 */
    u8 type, request;
    u16 value, index, length;
};

struct usb_device;
struct usb_ops {
    const u8 *device;                  /* descriptor */
    const u8 *config;                  /* configuration descriptor with all that belong to it */
    const char *const *string;         /* number 1 on, ended by NULL */
    u8 in_endpoints;                   /* bits: those that there are, but for 0 */
    void (*reset)(struct usb_device *d);
    /* A request that is not a standard one, or a descriptor that is not known here. IN: fills data, at most s->length
       counts; returns its length or USB_STALL. OUT: data has s->length bytes; 0 or USB_STALL. */
    int (*control)(struct usb_device *d, const struct usb_setup *s, u8 *data);
    /* Fetches data for an IN endpoint. Returns a length of at most max, USB_NAK or USB_STALL. */
    int (*in)(struct usb_device *d, u32 endpoint, u8 *data, u32 max);
};

struct usb_device {
    const struct usb_ops *ops;
    u8 address, configuration;
    bool remote_wakeup;
    u8 halted;                 /* bits: IN endpoints */
    u8 stage;                  /* of the control transfer */
    struct usb_setup setup;
    u8 data[USB_CONTROL_MAX];
    u16 at, len;               /* of data: done, and all */
};

void usb_init(struct usb_device *d, const struct usb_ops *ops);
/* The port's reset. */
void usb_reset(struct usb_device *d);
/* One transaction; the address is this device's. SETUP, OUT: takes data, returns len; IN: gives at most len bytes. */
int usb_transaction(struct usb_device *d, enum usb_pid pid, u32 endpoint, u8 *data, u32 len);
/* After loading: values that the tablet could never have are replaced by ones that it could. */
void usb_sanitize(struct usb_device *d);

extern const struct state_field usb_fields[]; /* of struct usb_device */

#endif
