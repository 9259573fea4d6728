/* SPDX-License-Identifier: Apache-2.0 */
/* usb_tablet.c - see usb_tablet.h. */
#include "devices/usb_tablet.h"

#include <string.h>

#include "base/loop.h"

enum { REPORT = 6, INTERVAL_MS = 8, ABS_MAX = 32767, BUTTONS = 5 };
enum { GET_REPORT = 1, GET_IDLE = 2, GET_PROTOCOL = 3, SET_REPORT = 9, SET_IDLE = 10, SET_PROTOCOL = 11 }; /* 7.2 */
enum { GET_DESCRIPTOR = 6, HID_DESCRIPTOR = 0x21, REPORT_DESCRIPTOR = 0x22 };
#define IDLE_UNIT_NS 4000000ull

/* 6.2.2: five buttons; X and Y, absolute, of 16 bits; a wheel, relative, of 8. */
static const u8 report_descriptor[] = {
    0x05, 0x01,       /* Usage Page (Generic Desktop) */
    0x09, 0x02,       /* Usage (Mouse) */
    0xa1, 0x01,       /* Collection (Application) */
    0x09, 0x01,       /*  Usage (Pointer) */
    0xa1, 0x00,       /*  Collection (Physical) */
    0x05, 0x09,       /*   Usage Page (Button) */
    0x19, 0x01,       /*   Usage Minimum (1) */
    0x29, BUTTONS,    /*   Usage Maximum */
    0x15, 0x00,       /*   Logical Minimum (0) */
    0x25, 0x01,       /*   Logical Maximum (1) */
    0x95, BUTTONS,    /*   Report Count */
    0x75, 0x01,       /*   Report Size (1) */
    0x81, 0x02,       /*   Input (Data, Variable, Absolute) */
    0x95, 0x01,       /*   Report Count (1) */
    0x75, 8 - BUTTONS,/*   Report Size */
    0x81, 0x01,       /*   Input (Constant) */
    0x05, 0x01,       /*   Usage Page (Generic Desktop) */
    0x09, 0x30,       /*   Usage (X) */
    0x09, 0x31,       /*   Usage (Y) */
    0x16, 0x00, 0x00, /*   Logical Minimum (0) */
    0x26, 0xff, 0x7f, /*   Logical Maximum (32767) */
    0x36, 0x00, 0x00, /*   Physical Minimum (0) */
    0x46, 0xff, 0x7f, /*   Physical Maximum (32767) */
    0x75, 0x10,       /*   Report Size (16) */
    0x95, 0x02,       /*   Report Count (2) */
    0x81, 0x02,       /*   Input (Data, Variable, Absolute) */
    0x09, 0x38,       /*   Usage (Wheel) */
    0x15, 0x81,       /*   Logical Minimum (-127) */
    0x25, 0x7f,       /*   Logical Maximum (127) */
    0x35, 0x00,       /*   Physical Minimum (0), as maximum: as the logical ones */
    0x45, 0x00,
    0x75, 0x08,       /*   Report Size (8) */
    0x95, 0x01,       /*   Report Count (1) */
    0x81, 0x06,       /*   Input (Data, Variable, Relative) */
    0xc0, 0xc0,       /* End Collection, twice */
};

static const u8 device_descriptor[] = {
    18, 1, 0x10, 0x01, 0, 0, 0, USB_EP0_SIZE, /* USB 1.1; the class is the interface's */
    0x27, 0x06, 0x01, 0x00,                   /* 0627:0001, by which guests know the tablet of a virtual machine */
    0x00, 0x01, 1, 2, 3, 1,
};

enum { HID_AT = 18 };
static const u8 config_descriptor[] = {
    9, 2, 34, 0, 1, 1, 0, 0xa0, 50,                                         /* one interface; bus powered, can wake; 100 mA */
    9, 4, 0, 0, 1, 3, 0, 0, 0,                                              /* HID, no boot protocol */
    9, HID_DESCRIPTOR, 0x11, 0x01, 0, 1, REPORT_DESCRIPTOR, sizeof(report_descriptor), 0,
    7, 5, 0x81, 3, 8, 0, INTERVAL_MS,                                       /* endpoint 1: IN, interrupt, 8 bytes */
};
_Static_assert(sizeof(config_descriptor) == 34, "wTotalLength");

static const char *const strings[] = { "Lodge", "Lodge USB Tablet", "1", NULL };

static struct usb_tablet *tablet(struct usb_device *d)
{
    return container_of(d, struct usb_tablet, usb);
}

static int put(const struct usb_tablet_report *r, u8 *data)
{
    const u8 bytes[REPORT] = { r->buttons, (u8)r->x, (u8)(r->x >> 8), (u8)r->y, (u8)(r->y >> 8), (u8)r->wheel };

    memcpy(data, bytes, REPORT);
    return REPORT;
}

static void reset(struct usb_device *d)
{
    struct usb_tablet *t = tablet(d);

    t->last = (struct usb_tablet_report){ 0 };
    t->n = t->idle = 0;
    t->protocol = 1;
    t->sent = 0;
}

static int control(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    struct usb_tablet *t = tablet(d);

    switch (s->type << 8 | s->request) {
    case 0x8100 | GET_DESCRIPTOR:
        if (s->value >> 8 == HID_DESCRIPTOR) {
            memcpy(data, config_descriptor + HID_AT, 9);
            return 9;
        }
        if (s->value >> 8 != REPORT_DESCRIPTOR)
            return USB_STALL;
        memcpy(data, report_descriptor, sizeof(report_descriptor));
        return sizeof(report_descriptor);
    case 0xa100 | GET_REPORT: {
        struct usb_tablet_report now = t->last;
        now.wheel = 0; /* not a movement since the last one */
        return s->value == 0x0100 ? put(&now, data) : USB_STALL;
    }
    case 0xa100 | GET_IDLE:
        data[0] = t->idle;
        return 1;
    case 0xa100 | GET_PROTOCOL:
        data[0] = t->protocol;
        return 1;
    case 0x2100 | SET_IDLE:
        t->idle = (u8)(s->value >> 8);
        return 0;
    case 0x2100 | SET_PROTOCOL:
        t->protocol = (u8)(s->value & 1);
        return 0;
    default: /* SET_REPORT, too: it has no outputs */
        return USB_STALL;
    }
}

static int in(struct usb_device *d, u32 endpoint, u8 *data, u32 max)
{
    struct usb_tablet *t = tablet(d);
    struct usb_tablet_report r = t->last;

    if (max < REPORT)
        return USB_STALL;
    if (t->n) {
        r = t->waiting[0];
        memmove(t->waiting, t->waiting + 1, --t->n * sizeof(r));
    } else if (!t->idle || clock_ns() - t->sent < t->idle * IDLE_UNIT_NS) {
        return USB_NAK;
    } else {
        r.wheel = 0;
    }
    t->sent = t->idle ? clock_ns() : 0;
    return put(&r, data);
}

static const struct usb_ops ops = {
    .device = device_descriptor, .config = config_descriptor, .string = strings, .in_endpoints = 1 << 1,
    .reset = reset, .control = control, .in = in,
};

void usb_tablet_init(struct usb_tablet *t)
{
    memset(t, 0, sizeof(*t));
    usb_init(&t->usb, &ops);
    reset(&t->usb);
}

bool usb_tablet_active(const struct usb_tablet *t)
{
    return t->usb.configuration != 0;
}

/* A position that only moves on replaces the one before; what happened with the buttons is kept as long as there is room. */
void usb_tablet_event(struct usb_tablet *t, u32 x, u32 y, s32 wheel, u8 buttons)
{
    struct usb_tablet_report r = { buttons & ((1 << BUTTONS) - 1), (u16)MIN(x, (u32)ABS_MAX), (u16)MIN(y, (u32)ABS_MAX),
                                   (s8)MAX(MIN(wheel, 127), -127) };
    struct usb_tablet_report *before = t->n ? &t->waiting[t->n - 1] : NULL;

    if (!usb_tablet_active(t) || (r.buttons == t->last.buttons && r.x == t->last.x && r.y == t->last.y && !r.wheel))
        return;
    t->last = r;
    if (before && ((before->buttons == r.buttons && !before->wheel) || t->n == USB_TABLET_WAITING)) {
        r.wheel = (s8)MAX(MIN(r.wheel + before->wheel, 127), -127);
        *before = r;
    } else {
        t->waiting[t->n++] = r;
    }
    t->last.wheel = 0;
}

void usb_tablet_sanitize(struct usb_tablet *t)
{
    usb_sanitize(&t->usb);
    t->n = MIN(t->n, (u32)USB_TABLET_WAITING);
    t->sent = 0;
}

static const struct state_field report_fields[] = {
    STATE_FIELD(struct usb_tablet_report, buttons, 1), STATE_FIELD(struct usb_tablet_report, x, 1),
    STATE_FIELD(struct usb_tablet_report, y, 1),       STATE_FIELD(struct usb_tablet_report, wheel, 1),
    STATE_END,
};
const struct state_field usb_tablet_fields[] = {
    STATE_STRUCT(struct usb_tablet, usb, 1, usb_fields),
    STATE_STRUCT(struct usb_tablet, last, 1, report_fields),
    STATE_STRUCTS(struct usb_tablet, waiting, 1, report_fields),
    STATE_FIELD(struct usb_tablet, n, 1),
    STATE_FIELD(struct usb_tablet, idle, 1),
    STATE_FIELD(struct usb_tablet, protocol, 1),
    STATE_END,
};
