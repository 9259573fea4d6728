/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usb_tablet.h - an absolute pointer with five buttons and a wheel, as a USB human interface device.  Device Class
 * Definition for HID 1.11.  Positions are 0 to 32767, as display/input.h has them.
 *
 * Its controller's lock guards it; events come on the loop's thread.
 */
#ifndef LODGE_DEVICES_USB_TABLET_H
#define LODGE_DEVICES_USB_TABLET_H

#include "devices/usb.h"

enum { USB_TABLET_WAITING = 16 };

struct usb_tablet {
    struct usb_device usb;
    struct usb_tablet_report {
        u8 buttons;
        u16 x, y;
        s8 wheel;
    } last, waiting[USB_TABLET_WAITING]; /* as given last; what the host has not fetched, oldest first */
    u32 n;
    u8 idle;     /* SET_IDLE: a report at least each so many times 4 ms; 0: only if something changed */
    u8 protocol;
    u64 sent;    /* clock_ns() */
};

void usb_tablet_init(struct usb_tablet *t);
/* buttons: bits as display/input.h has them; wheel: notches away from the user. */
void usb_tablet_event(struct usb_tablet *t, u32 x, u32 y, s32 wheel, u8 buttons);
bool usb_tablet_active(const struct usb_tablet *t); /* a driver has set it up */
void usb_tablet_sanitize(struct usb_tablet *t);

extern const struct state_field usb_tablet_fields[];

#endif
