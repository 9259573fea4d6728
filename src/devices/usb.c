/* SPDX-License-Identifier: Apache-2.0 */
/* usb.c - see usb.h. */
#include "devices/usb.h"

#include <string.h>

enum { IDLE, DATA_IN, DATA_OUT, STATUS_IN, STALLED };
enum { TYPE_IN = 0x80, TYPE_KIND = 0x60, RECIPIENT = 0x1f, TO_DEVICE = 0, TO_INTERFACE = 1, TO_ENDPOINT = 2 };
enum { /* 9.4 */
    GET_STATUS = 0, CLEAR_FEATURE = 1, SET_FEATURE = 3, SET_ADDRESS = 5, GET_DESCRIPTOR = 6, GET_CONFIGURATION = 8,
    SET_CONFIGURATION = 9, GET_INTERFACE = 10, SET_INTERFACE = 11,
};
enum { DEVICE = 1, CONFIGURATION = 2, STRING = 3 };
enum { ENDPOINT_HALT = 0, DEVICE_REMOTE_WAKEUP = 1 };
enum { CONFIG_TOTAL = 2, CONFIG_VALUE = 5, CONFIG_ATTRIBUTES = 7, SELF_POWERED = 0x40, LANGUAGE = 0x0409 };

void usb_init(struct usb_device *d, const struct usb_ops *ops)
{
    memset(d, 0, sizeof(*d));
    d->ops = ops;
}

void usb_reset(struct usb_device *d)
{
    usb_init(d, d->ops);
    d->ops->reset(d);
}

/* ---- standard requests ------------------------------------------------------ */

static int string(const struct usb_device *d, u32 n, u8 *data)
{
    u32 i = 0;

    data[1] = STRING;
    if (!n) {
        data[2] = (u8)LANGUAGE, data[3] = LANGUAGE >> 8;
        return data[0] = 4;
    }
    while (i + 1 < n && d->ops->string[i])
        i++;
    if (!d->ops->string[i])
        return USB_STALL;
    data[0] = (u8)(2 + 2 * strlen(d->ops->string[i]));
    for (u32 k = 2; k < data[0]; k += 2)
        data[k] = (u8)d->ops->string[i][k / 2 - 1], data[k + 1] = 0;
    return data[0];
}

static int descriptor(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    const u8 *from = s->value >> 8 == DEVICE ? d->ops->device : d->ops->config;

    switch (s->value >> 8) {
    case DEVICE:
    case CONFIGURATION: {
        const u32 len = from == d->ops->device ? from[0] : from[CONFIG_TOTAL] | (u32)from[CONFIG_TOTAL + 1] << 8;
        if (s->value & 0xff)
            return USB_STALL;
        memcpy(data, from, len);
        return (int)len;
    }
    case STRING: return string(d, s->value & 0xff, data);
    default: return d->ops->control(d, s, data);
    }
}

/* The bit of the endpoint a request names; 0: there is none. */
static u8 endpoint_bit(const struct usb_device *d, const struct usb_setup *s)
{
    return s->index >= 0x81 && s->index < 0x88 ? d->ops->in_endpoints & (u8)(1u << (s->index & 7)) : 0;
}

static int feature(struct usb_device *d, const struct usb_setup *s, bool on)
{
    const u32 to = s->type & RECIPIENT;
    const u8 bit = endpoint_bit(d, s);

    if (to == TO_DEVICE && s->value == DEVICE_REMOTE_WAKEUP)
        d->remote_wakeup = on;
    else if (to == TO_ENDPOINT && s->value == ENDPOINT_HALT && bit)
        d->halted = (u8)(on ? d->halted | bit : d->halted & ~bit);
    else if (to != TO_ENDPOINT || s->value != ENDPOINT_HALT || (s->index & 0x7f))
        return USB_STALL;
    return 0;
}

static int standard(struct usb_device *d, const struct usb_setup *s, u8 *data)
{
    switch (s->request) {
    case GET_STATUS:
        data[0] = data[1] = 0;
        if ((s->type & RECIPIENT) == TO_DEVICE)
            data[0] = (u8)((d->ops->config[CONFIG_ATTRIBUTES] & SELF_POWERED ? 1 : 0) | (d->remote_wakeup ? 2 : 0));
        else if ((s->type & RECIPIENT) == TO_ENDPOINT)
            data[0] = (d->halted & endpoint_bit(d, s)) != 0;
        return 2;
    case CLEAR_FEATURE:
    case SET_FEATURE:
        return feature(d, s, s->request == SET_FEATURE);
    case SET_ADDRESS:
        return s->value < 128 ? 0 : USB_STALL; /* it counts once the status stage is over */
    case GET_DESCRIPTOR:
        return descriptor(d, s, data);
    case GET_CONFIGURATION:
        data[0] = d->configuration;
        return 1;
    case SET_CONFIGURATION:
        if (s->value && s->value != d->ops->config[CONFIG_VALUE])
            return USB_STALL;
        d->configuration = (u8)s->value;
        d->halted = 0;
        return 0;
    case GET_INTERFACE:
        data[0] = 0;
        return 1;
    case SET_INTERFACE:
        return s->value ? USB_STALL : 0;
    default:
        return USB_STALL;
    }
}

static int request(struct usb_device *d)
{
    return d->setup.type & TYPE_KIND ? d->ops->control(d, &d->setup, d->data) : standard(d, &d->setup, d->data);
}

/* ---- control transfers (8.5.3) ---------------------------------------------- */

static int setup(struct usb_device *d, const u8 *data, u32 len)
{
    if (len != 8)
        return USB_STALL;
    d->setup = (struct usb_setup){ data[0], data[1], (u16)(data[2] | data[3] << 8), (u16)(data[4] | data[5] << 8),
                                   (u16)(data[6] | data[7] << 8) };
    d->at = d->len = 0;
    if (d->setup.type & TYPE_IN) {
        int r = request(d);
        d->stage = r < 0 ? STALLED : DATA_IN;
        d->len = (u16)MIN(MAX(r, 0), (int)d->setup.length);
    } else if (d->setup.length) {
        d->stage = d->setup.length <= USB_CONTROL_MAX ? DATA_OUT : STALLED;
        d->len = d->setup.length;
    } else {
        d->stage = request(d) < 0 ? STALLED : STATUS_IN;
    }
    return 8;
}

static int control_in(struct usb_device *d, u8 *data, u32 len)
{
    if (d->stage == DATA_IN) {
        const u32 n = MIN(MIN(len, (u32)USB_EP0_SIZE), (u32)(d->len - d->at));
        memcpy(data, d->data + d->at, n);
        d->at = (u16)(d->at + n);
        return (int)n;
    }
    if (d->stage != STATUS_IN)
        return USB_STALL;
    d->stage = IDLE;
    if (d->setup.type == 0 && d->setup.request == SET_ADDRESS)
        d->address = (u8)d->setup.value;
    return 0;
}

static int control_out(struct usb_device *d, const u8 *data, u32 len)
{
    if (d->stage == DATA_IN) { /* status stage; also of a transfer the host cuts short */
        d->stage = IDLE;
        return (int)len;
    }
    if (d->stage != DATA_OUT || len > (u32)(d->len - d->at))
        return USB_STALL;
    memcpy(d->data + d->at, data, len);
    d->at = (u16)(d->at + len);
    if (d->at == d->len)
        d->stage = request(d) < 0 ? STALLED : STATUS_IN;
    return (int)len;
}

int usb_transaction(struct usb_device *d, enum usb_pid pid, u32 endpoint, u8 *data, u32 len)
{
    if (!endpoint)
        return pid == USB_SETUP ? setup(d, data, len) : pid == USB_IN ? control_in(d, data, len) : control_out(d, data, len);
    const u32 bit = endpoint < 8 ? 1u << endpoint : 0;
    if (pid != USB_IN || !(d->ops->in_endpoints & bit) || !d->configuration || (d->halted & bit))
        return USB_STALL;
    return d->ops->in(d, endpoint, data, len);
}

/* ---- state ------------------------------------------------------------------ */

static const struct state_field setup_fields[] = {
    STATE_FIELD(struct usb_setup, type, 1),  STATE_FIELD(struct usb_setup, request, 1),
    STATE_FIELD(struct usb_setup, value, 1), STATE_FIELD(struct usb_setup, index, 1),
    STATE_FIELD(struct usb_setup, length, 1), STATE_END,
};
const struct state_field usb_fields[] = {
    STATE_FIELD(struct usb_device, address, 1),
    STATE_FIELD(struct usb_device, configuration, 1),
    STATE_FIELD(struct usb_device, remote_wakeup, 1),
    STATE_FIELD(struct usb_device, halted, 1),
    STATE_FIELD(struct usb_device, stage, 1),
    STATE_STRUCT(struct usb_device, setup, 1, setup_fields),
    STATE_ARRAY(struct usb_device, data, 1),
    STATE_FIELD(struct usb_device, at, 1),
    STATE_FIELD(struct usb_device, len, 1),
    STATE_END,
};

void usb_sanitize(struct usb_device *d)
{
    d->address &= 127;
    d->len = MIN(d->len, USB_CONTROL_MAX);
    d->at = MIN(d->at, d->len);
    if (d->stage == DATA_OUT) /* a request is made of what came */
        d->setup.length = d->len;
    if (d->stage > STALLED)
        d->stage = STALLED;
}
