/* SPDX-License-Identifier: Apache-2.0 */
/* uhci_source.c - events of Linux's kind (type u16, code u16, value s32) from a chardev to the tablet. */
#include <linux/input.h>
#include <string.h>

#include "devices/uhci.h"

static void event(struct uhci *u, u16 type, u16 code, s32 value)
{
    static const u16 button[] = { BTN_LEFT, BTN_RIGHT, BTN_MIDDLE, BTN_SIDE, BTN_EXTRA };
    struct uhci_source *s = &u->source;
    const u32 at = value < 0 ? 0 : (u32)value;

    if (type == EV_ABS && code == ABS_X)
        s->x = at;
    else if (type == EV_ABS && code == ABS_Y)
        s->y = at;
    else if (type == EV_REL && code == REL_WHEEL)
        s->wheel = value;
    for (u32 i = 0; type == EV_KEY && i < ARRAY_SIZE(button); i++)
        if (code == button[i])
            s->buttons = (u8)(value ? s->buttons | 1u << i : s->buttons & ~(1u << i));
    if (type != EV_SYN || code != SYN_REPORT)
        return;
    uhci_event(u, s->x, s->y, s->wheel, s->buttons);
    s->wheel = 0;
}

static size_t receive(void *dev, const u8 *buf, size_t len)
{
    struct uhci *u = dev;
    struct uhci_source *s = &u->source;

    for (size_t i = 0; i < len; i++) {
        u16 type, code;
        s32 value;

        s->partial[s->n++] = buf[i];
        if (s->n < sizeof(s->partial))
            continue;
        s->n = 0;
        memcpy(&type, s->partial, 2);
        memcpy(&code, s->partial + 2, 2);
        memcpy(&value, s->partial + 4, 4);
        event(u, type, code, value);
    }
    return len;
}

void uhci_attach(struct uhci *u, struct chardev *source)
{
    static const struct chardev_user user = { receive, NULL };

    chardev_attach(source, &user, u);
}
