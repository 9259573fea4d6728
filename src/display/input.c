/* SPDX-License-Identifier: Apache-2.0 */
/* input.c - see input.h. */
#include "display/input.h"

#include <stdlib.h>
#include <string.h>

struct input {
    struct input_sink *sinks;
    struct input_sink *keyboard; /* it has received the keys that are down */
    struct input_sink *pointer;  /* it has received the buttons that are down */
    bool absolute;               /* the pointer received positions */
    bool down[INPUT_KEYS];
    u8 buttons;
    bool placed; /* x, y are known */
    u32 x, y;    /* the last position, in pixels */
    u32 width, height; /* of its picture */
};

static bool active(const struct input_sink *s)
{
    return !s->ops->active || s->ops->active(s->dev);
}

enum kind { KEYBOARD, RELATIVE, ABSOLUTE };

static struct input_sink *best(struct input *in, enum kind k)
{
    struct input_sink *found = NULL;
    for (struct input_sink *s = in->sinks; s; s = s->next) {
        const bool can = k == KEYBOARD   ? s->ops->key != NULL
                         : k == RELATIVE ? s->ops->relative != NULL
                                         : s->ops->absolute != NULL;
        if (can && (!found || s->rank > found->rank) && active(s))
            found = s;
    }
    return found;
}

static void release_keys(struct input *in)
{
    for (u16 code = 0; code < INPUT_KEYS; code++) {
        if (in->down[code] && in->keyboard)
            in->keyboard->ops->key(in->keyboard->dev, code, false);
        in->down[code] = false;
    }
}

static u32 scaled(u32 at, u32 size)
{
    return size > 1 ? (u32)((u64)at * INPUT_ABS_MAX / (size - 1)) : 0;
}

static void tell_pointer(struct input *in, s32 dx, s32 dy, s32 wheel)
{
    const struct input_sink *s = in->pointer;
    if (s && in->absolute)
        s->ops->absolute(s->dev, scaled(in->x, in->width), scaled(in->y, in->height), wheel, in->buttons);
    else if (s)
        s->ops->relative(s->dev, dx, dy, wheel, in->buttons);
}

static void release_buttons(struct input *in)
{
    if (!in->buttons)
        return;
    in->buttons = 0;
    tell_pointer(in, 0, 0, 0);
}

static void choose_keyboard(struct input *in)
{
    struct input_sink *s = best(in, KEYBOARD);
    if (s != in->keyboard)
        release_keys(in);
    in->keyboard = s;
}

static void choose_pointer(struct input *in)
{
    struct input_sink *s = best(in, ABSOLUTE);
    const bool absolute = s != NULL;
    if (!s)
        s = best(in, RELATIVE);
    if (s != in->pointer || absolute != in->absolute)
        release_buttons(in);
    in->pointer = s;
    in->absolute = absolute;
}

void input_key(struct input *in, u16 code, bool down)
{
    if (!code || code >= INPUT_KEYS)
        return;
    choose_keyboard(in);
    if (in->down[code] == down)
        return;
    in->down[code] = down;
    if (in->keyboard)
        in->keyboard->ops->key(in->keyboard->dev, code, down);
}

static void pointer(struct input *in, s32 dx, s32 dy, u32 width, u32 height, s32 wheel, u8 buttons)
{
    choose_pointer(in);
    in->buttons = buttons;
    in->width = width;
    in->height = height;
    tell_pointer(in, dx, dy, wheel);
}

void input_position(struct input *in, u32 x, u32 y, u32 width, u32 height, s32 wheel, u8 buttons)
{
    if (!width || !height)
        return;
    x = MIN(x, width - 1);
    y = MIN(y, height - 1);
    const s32 dx = in->placed ? (s32)(x - in->x) : 0, dy = in->placed ? (s32)(y - in->y) : 0;
    in->placed = true;
    in->x = x;
    in->y = y;
    pointer(in, dx, dy, width, height, wheel, buttons);
}

static u32 moved(u32 at, s32 by, u32 size)
{
    const s64 to = (s64)MIN(at, size - 1) + by;
    return to < 0 ? 0 : (u32)MIN(to, (s64)size - 1);
}

void input_move(struct input *in, s32 dx, s32 dy, u32 width, u32 height, s32 wheel, u8 buttons)
{
    if (!width || !height)
        return;
    in->x = moved(in->x, dx, width);
    in->y = moved(in->y, dy, height);
    in->placed = true;
    pointer(in, dx, dy, width, height, wheel, buttons);
}

void input_release(struct input *in)
{
    release_keys(in);
    release_buttons(in);
}

u32 input_waiting(struct input *in)
{
    struct input_sink *s = best(in, KEYBOARD);
    return s && s->ops->waiting ? s->ops->waiting(s->dev) : 0;
}

void input_plug(struct input *in, struct input_sink *s)
{
    s->next = in->sinks;
    in->sinks = s;
}

void input_unplug(struct input *in, struct input_sink *s)
{
    struct input_sink **p = &in->sinks;
    while (*p && *p != s)
        p = &(*p)->next;
    if (*p)
        *p = s->next;
    if (in->keyboard == s) {
        in->keyboard = NULL;
        memset(in->down, 0, sizeof in->down);
    }
    if (in->pointer == s) {
        in->pointer = NULL;
        in->buttons = 0;
    }
}

struct input *input_new(void)
{
    return calloc(1, sizeof(struct input));
}

void input_free(struct input *in)
{
    free(in);
}
