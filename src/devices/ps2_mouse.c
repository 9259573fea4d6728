/* SPDX-License-Identifier: Apache-2.0 */
/* ps2_mouse.c - the mouse; see ps2.h. */
#include <string.h>

#include "devices/ps2.h"

enum {
    MOUSE_SCALE_1_1 = 0xe6, MOUSE_SCALE_2_1 = 0xe7, MOUSE_RESOLUTION = 0xe8, MOUSE_STATUS = 0xe9, MOUSE_STREAM = 0xea,
    MOUSE_READ = 0xeb, MOUSE_WRAP_END = 0xec, MOUSE_WRAP = 0xee, MOUSE_REMOTE = 0xf0, MOUSE_IDENTIFY = 0xf2,
    MOUSE_RATE = 0xf3, MOUSE_ENABLE = 0xf4, MOUSE_DISABLE = 0xf5, MOUSE_DEFAULT = 0xf6, MOUSE_RESEND = 0xfe,
    MOUSE_RESET = 0xff,
};
enum { ACK = 0xfa, RESEND = 0xfe, BAT_OK = 0xaa };
enum { MOUSE_STANDARD = 0, MOUSE_WHEEL = 3, MOUSE_BUTTONS = 4 }; /* what IDENTIFY answers */

static void mouse_defaults(struct ps2_mouse *m)
{
    m->reporting = m->remote = m->wrap = m->scale_2_1 = false;
    m->resolution = 2; /* 4 counts a mm */
    m->rate = 100;
    m->expecting = 0;
    m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    memset(m, 0, sizeof(*m));
    mouse_defaults(m);
}

static void mouse_reply(struct ps2_mouse *m, u8 value)
{
    ps2_put(&m->out, value);
    if (value != RESEND && m->nlast < sizeof m->last)
        m->last[m->nlast++] = value;
}

static s32 clamp(s32 v, s32 least, s32 most)
{
    return v < least ? least : v > most ? most : v;
}

/* Scaling 2:1, of what is sent in stream mode. */
static s32 scaled(s32 v)
{
    static const u8 small[] = { 0, 1, 1, 3, 6, 9 };
    s32 n = v < 0 ? -v : v;

    n = n < (s32)ARRAY_SIZE(small) ? small[n] : 2 * n;
    return v < 0 ? -n : n;
}

/* One movement packet: what does not fit stays for the next. */
static void mouse_packet(struct ps2_mouse *m, bool scale)
{
    s32 most = scale ? 127 : 255, dx = clamp(m->dx, -most, most), dy = clamp(m->dy, -most, most), dz = clamp(m->dz, -8, 7);

    m->dx -= dx;
    m->dy -= dy;
    m->dz -= m->id != MOUSE_STANDARD ? dz : m->dz;
    m->reported = m->buttons;
    m->nlast = 0;
    if (scale)
        dx = scaled(dx), dy = scaled(dy);
    mouse_reply(m, (u8)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
    mouse_reply(m, (u8)dx);
    mouse_reply(m, (u8)dy);
    if (m->id == MOUSE_WHEEL)
        mouse_reply(m, (u8)dz);
    else if (m->id == MOUSE_BUTTONS)
        mouse_reply(m, (u8)((dz & 0xf) | (m->buttons & 0x18) << 1));
}

/* The sequences of sample rates by which a driver asks for the wheel and for the other buttons. */
static void mouse_rate(struct ps2_mouse *m, u8 rate)
{
    if (m->knock[0] == 200 && rate == 80 && (m->knock[1] == 100 || m->knock[1] == 200))
        m->id = m->knock[1] == 100 ? MOUSE_WHEEL : MOUSE_BUTTONS;
    m->knock[0] = m->knock[1];
    m->knock[1] = rate;
    m->rate = rate;
}

static void mouse_status(struct ps2_mouse *m)
{
    /* Buttons here are left 4, middle 2, right 1. */
    u8 b = (m->buttons & 1 ? 4 : 0) | (m->buttons & 2 ? 1 : 0) | (m->buttons & 4 ? 2 : 0);

    mouse_reply(m, (u8)(b | (m->scale_2_1 ? 0x10 : 0) | (m->reporting ? 0x20 : 0) | (m->remote ? 0x40 : 0)));
    mouse_reply(m, m->resolution);
    mouse_reply(m, m->rate);
}

void ps2_mouse_command(struct ps2_mouse *m, u8 value)
{
    u8 expecting = m->expecting;

    ps2_clear(&m->out);
    m->expecting = 0;
    if (value == MOUSE_RESEND && !m->wrap && !expecting) {
        for (u8 i = 0; i < m->nlast; i++)
            ps2_put(&m->out, m->last[i]);
        return;
    }
    m->nlast = 0;
    if (m->wrap && value != MOUSE_WRAP_END && value != MOUSE_RESET) {
        mouse_reply(m, value);
        return;
    }
    if (expecting == MOUSE_RESOLUTION || expecting == MOUSE_RATE) {
        mouse_reply(m, ACK);
        if (expecting == MOUSE_RATE)
            mouse_rate(m, value);
        else
            m->resolution = value & 3;
        return;
    }
    switch (value) {
    case MOUSE_SCALE_1_1:
    case MOUSE_SCALE_2_1:
        m->scale_2_1 = value == MOUSE_SCALE_2_1;
        mouse_reply(m, ACK);
        break;
    case MOUSE_RESOLUTION:
    case MOUSE_RATE:
        m->expecting = value;
        mouse_reply(m, ACK);
        break;
    case MOUSE_STATUS:
        mouse_reply(m, ACK);
        mouse_status(m);
        break;
    case MOUSE_STREAM:
        m->remote = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_READ:
        mouse_reply(m, ACK);
        mouse_packet(m, false);
        break;
    case MOUSE_WRAP:
        m->wrap = true;
        mouse_reply(m, ACK);
        break;
    case MOUSE_WRAP_END:
        m->wrap = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_REMOTE:
        m->remote = true;
        mouse_reply(m, ACK);
        break;
    case MOUSE_IDENTIFY:
        mouse_reply(m, ACK);
        mouse_reply(m, m->id);
        break;
    case MOUSE_ENABLE:
        m->reporting = true;
        m->dx = m->dy = m->dz = 0;
        mouse_reply(m, ACK);
        break;
    case MOUSE_DISABLE:
        m->reporting = false;
        mouse_reply(m, ACK);
        break;
    case MOUSE_DEFAULT:
        mouse_defaults(m);
        mouse_reply(m, ACK);
        break;
    case MOUSE_RESET:
        mouse_defaults(m);
        m->id = MOUSE_STANDARD;
        m->knock[0] = m->knock[1] = 0;
        mouse_reply(m, ACK);
        mouse_reply(m, BAT_OK);
        mouse_reply(m, m->id);
        break;
    default:
        mouse_reply(m, RESEND);
        break;
    }
}

/* Is there anything to tell that has not been told? */
static bool pending(const struct ps2_mouse *m)
{
    u8 seen = m->id == MOUSE_BUTTONS ? 0x1f : 7;

    return m->dx || m->dy || (m->dz && m->id != MOUSE_STANDARD) || (m->buttons ^ m->reported) & seen;
}

void ps2_mouse_move(struct ps2_mouse *m, s32 dx, s32 dy, s32 dz, u8 buttons)
{
    const s32 most = 1 << 20;
    bool pressed = (m->buttons ^ buttons) & 0x1f;

    /* Movement that came before a change of buttons is reported before that change. */
    if (pressed && m->reporting && !m->remote && !m->wrap && pending(m) && ps2_room(&m->out) >= 16)
        mouse_packet(m, m->scale_2_1);
    m->buttons = buttons & 0x1f;
    m->dx = clamp(m->dx + clamp(dx, -most, most), -most, most);
    m->dy = clamp(m->dy + clamp(dy, -most, most), -most, most);
    m->dz = clamp(m->dz + clamp(dz, -most, most), -most, most);
    /* A change of buttons must not be merged with the next: it is sent at once. */
    if (pressed && m->reporting && !m->remote && !m->wrap && ps2_room(&m->out) >= 16)
        mouse_packet(m, m->scale_2_1);
}

bool ps2_mouse_take(struct ps2_mouse *m, u8 *value)
{
    if (!m->out.count && m->reporting && !m->remote && !m->wrap && pending(m))
        mouse_packet(m, m->scale_2_1);
    return ps2_take(&m->out, value);
}

bool ps2_mouse_valid(const struct ps2_mouse *m)
{
    return ps2_queue_valid(&m->out) && m->nlast <= sizeof m->last &&
           (m->id == MOUSE_STANDARD || m->id == MOUSE_WHEEL || m->id == MOUSE_BUTTONS);
}

const struct state_field ps2_mouse_fields[] = {
    STATE_STRUCT(struct ps2_mouse, out, 1, ps2_queue_fields),
    STATE_FIELD(struct ps2_mouse, reporting, 1),
    STATE_FIELD(struct ps2_mouse, remote, 1),
    STATE_FIELD(struct ps2_mouse, wrap, 1),
    STATE_FIELD(struct ps2_mouse, scale_2_1, 1),
    STATE_FIELD(struct ps2_mouse, expecting, 1),
    STATE_FIELD(struct ps2_mouse, resolution, 1),
    STATE_FIELD(struct ps2_mouse, rate, 1),
    STATE_FIELD(struct ps2_mouse, buttons, 1),
    STATE_FIELD(struct ps2_mouse, reported, 2),
    STATE_FIELD(struct ps2_mouse, id, 1),
    STATE_ARRAY(struct ps2_mouse, last, 2),
    STATE_FIELD(struct ps2_mouse, nlast, 2),
    STATE_ARRAY(struct ps2_mouse, knock, 1),
    STATE_FIELD(struct ps2_mouse, dx, 1),
    STATE_FIELD(struct ps2_mouse, dy, 1),
    STATE_FIELD(struct ps2_mouse, dz, 1),
    STATE_END,
};
