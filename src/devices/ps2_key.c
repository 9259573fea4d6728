/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ps2_key.c - from keys to scan codes, in the three sets.
 *
 * Set 1 is what the controller would make of set 2. In set 3 each key has one byte, and a type of its own that commands
 * change; in the others all keys repeat and send a break code, but for Pause.
 */
#include <linux/input-event-codes.h>
#include <string.h>

#include "devices/ps2.h"

enum { T, MB, M, TMB }; /* typematic, make/break, make only, typematic and make/break: the order of commands F7h to FAh */
enum { TYPES_FIRST = 0xf7, TYPE_FIRST = 0xfb };
enum { CTRL = 3, ALT = 12, SHIFT = 48 }; /* in modifiers: left, right */
enum { BREAK = 0xf0, ALT_SYSRQ = 0x84 };

static const struct {
    u32 set2; /* with E0h before it */
    u8 set3, type; /* in set 3, at the start */
} keys[PS2_KEYS] = {
    [KEY_GRAVE] = { 0x0e, 0x0e, T }, [KEY_1] = { 0x16, 0x16, T }, [KEY_2] = { 0x1e, 0x1e, T },
    [KEY_3] = { 0x26, 0x26, T }, [KEY_4] = { 0x25, 0x25, T }, [KEY_5] = { 0x2e, 0x2e, T }, [KEY_6] = { 0x36, 0x36, T },
    [KEY_7] = { 0x3d, 0x3d, T }, [KEY_8] = { 0x3e, 0x3e, T }, [KEY_9] = { 0x46, 0x46, T }, [KEY_0] = { 0x45, 0x45, T },
    [KEY_MINUS] = { 0x4e, 0x4e, T }, [KEY_EQUAL] = { 0x55, 0x55, T }, [KEY_BACKSPACE] = { 0x66, 0x66, T },
    [KEY_TAB] = { 0x0d, 0x0d, T }, [KEY_Q] = { 0x15, 0x15, T }, [KEY_W] = { 0x1d, 0x1d, T },
    [KEY_E] = { 0x24, 0x24, T }, [KEY_R] = { 0x2d, 0x2d, T }, [KEY_T] = { 0x2c, 0x2c, T }, [KEY_Y] = { 0x35, 0x35, T },
    [KEY_U] = { 0x3c, 0x3c, T }, [KEY_I] = { 0x43, 0x43, T }, [KEY_O] = { 0x44, 0x44, T }, [KEY_P] = { 0x4d, 0x4d, T },
    [KEY_LEFTBRACE] = { 0x54, 0x54, T }, [KEY_RIGHTBRACE] = { 0x5b, 0x5b, T }, [KEY_BACKSLASH] = { 0x5d, 0x5c, T },
    [KEY_CAPSLOCK] = { 0x58, 0x14, MB }, [KEY_A] = { 0x1c, 0x1c, T }, [KEY_S] = { 0x1b, 0x1b, T },
    [KEY_D] = { 0x23, 0x23, T }, [KEY_F] = { 0x2b, 0x2b, T }, [KEY_G] = { 0x34, 0x34, T }, [KEY_H] = { 0x33, 0x33, T },
    [KEY_J] = { 0x3b, 0x3b, T }, [KEY_K] = { 0x42, 0x42, T }, [KEY_L] = { 0x4b, 0x4b, T },
    [KEY_SEMICOLON] = { 0x4c, 0x4c, T }, [KEY_APOSTROPHE] = { 0x52, 0x52, T }, [KEY_ENTER] = { 0x5a, 0x5a, T },
    [KEY_LEFTSHIFT] = { 0x12, 0x12, MB }, [KEY_102ND] = { 0x61, 0x13, T }, [KEY_Z] = { 0x1a, 0x1a, T },
    [KEY_X] = { 0x22, 0x22, T }, [KEY_C] = { 0x21, 0x21, T }, [KEY_V] = { 0x2a, 0x2a, T }, [KEY_B] = { 0x32, 0x32, T },
    [KEY_N] = { 0x31, 0x31, T }, [KEY_M] = { 0x3a, 0x3a, T }, [KEY_COMMA] = { 0x41, 0x41, T },
    [KEY_DOT] = { 0x49, 0x49, T }, [KEY_SLASH] = { 0x4a, 0x4a, T }, [KEY_RIGHTSHIFT] = { 0x59, 0x59, MB },
    [KEY_LEFTCTRL] = { 0x14, 0x11, MB }, [KEY_LEFTALT] = { 0x11, 0x19, MB }, [KEY_SPACE] = { 0x29, 0x29, T },
    [KEY_RIGHTALT] = { 0xe011, 0x39, M }, [KEY_RIGHTCTRL] = { 0xe014, 0x58, M }, [KEY_LEFTMETA] = { 0xe01f, 0x8b, M },
    [KEY_RIGHTMETA] = { 0xe027, 0x8c, M }, [KEY_COMPOSE] = { 0xe02f, 0x8d, M }, [KEY_INSERT] = { 0xe070, 0x67, M },
    [KEY_DELETE] = { 0xe071, 0x64, T }, [KEY_LEFT] = { 0xe06b, 0x61, T }, [KEY_HOME] = { 0xe06c, 0x6e, M },
    [KEY_END] = { 0xe069, 0x65, M }, [KEY_UP] = { 0xe075, 0x63, T }, [KEY_DOWN] = { 0xe072, 0x60, T },
    [KEY_PAGEUP] = { 0xe07d, 0x6f, M }, [KEY_PAGEDOWN] = { 0xe07a, 0x6d, M }, [KEY_RIGHT] = { 0xe074, 0x6a, T },
    [KEY_NUMLOCK] = { 0x77, 0x76, M }, [KEY_KP7] = { 0x6c, 0x6c, M }, [KEY_KP4] = { 0x6b, 0x6b, M },
    [KEY_KP1] = { 0x69, 0x69, M }, [KEY_KPSLASH] = { 0xe04a, 0x77, M }, [KEY_KP8] = { 0x75, 0x75, M },
    [KEY_KP5] = { 0x73, 0x73, M }, [KEY_KP2] = { 0x72, 0x72, M }, [KEY_KP0] = { 0x70, 0x70, M },
    [KEY_KPASTERISK] = { 0x7c, 0x7e, M }, [KEY_KP9] = { 0x7d, 0x7d, M }, [KEY_KP6] = { 0x74, 0x74, M },
    [KEY_KP3] = { 0x7a, 0x7a, M }, [KEY_KPDOT] = { 0x71, 0x71, M }, [KEY_KPMINUS] = { 0x7b, 0x84, M },
    [KEY_KPPLUS] = { 0x79, 0x7c, T }, [KEY_KPENTER] = { 0xe05a, 0x79, M }, [KEY_ESC] = { 0x76, 0x08, M },
    [KEY_F1] = { 0x05, 0x07, M }, [KEY_F2] = { 0x06, 0x0f, M }, [KEY_F3] = { 0x04, 0x17, M },
    [KEY_F4] = { 0x0c, 0x1f, M }, [KEY_F5] = { 0x03, 0x27, M }, [KEY_F6] = { 0x0b, 0x2f, M },
    [KEY_F7] = { 0x83, 0x37, M }, [KEY_F8] = { 0x0a, 0x3f, M }, [KEY_F9] = { 0x01, 0x47, M },
    [KEY_F10] = { 0x09, 0x4f, M }, [KEY_F11] = { 0x78, 0x56, M }, [KEY_F12] = { 0x07, 0x5e, M },
    [KEY_SYSRQ] = { 0xe07c, 0x57, M }, [KEY_SCROLLLOCK] = { 0x7e, 0x5f, M }, [KEY_PAUSE] = { 0xe11477, 0x62, M },
    [KEY_RO] = { 0x51, 0x00, T }, [KEY_KATAKANAHIRAGANA] = { 0x13, 0x00, T }, [KEY_YEN] = { 0x6a, 0x00, T },
    [KEY_HENKAN] = { 0x64, 0x00, T }, [KEY_MUHENKAN] = { 0x67, 0x00, T }, [KEY_POWER] = { 0xe037, 0x00, T },
    [KEY_SLEEP] = { 0xe03f, 0x00, T }, [KEY_WAKEUP] = { 0xe05e, 0x00, T }, [KEY_MUTE] = { 0xe023, 0x00, T },
    [KEY_VOLUMEDOWN] = { 0xe021, 0x00, T }, [KEY_VOLUMEUP] = { 0xe032, 0x00, T },
};

const u8 ps2_set1[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

/* ---- types ---- */

void ps2_set_type(struct ps2_keyboard *k, u8 command, u8 code)
{
    u32 shift = (code & 3) * 2u;

    if (code / 4 < sizeof k->types)
        k->types[code / 4] = (u8)((k->types[code / 4] & ~(3u << shift)) | (command - TYPE_FIRST) % 4u << shift);
}

void ps2_set_types(struct ps2_keyboard *k, u8 command)
{
    memset(k->types, (command - TYPES_FIRST) * 0x55, sizeof k->types);
}

void ps2_default_types(struct ps2_keyboard *k)
{
    for (u32 i = 0; i < PS2_KEYS; i++)
        if (keys[i].set3)
            ps2_set_type(k, TYPE_FIRST + keys[i].type, keys[i].set3);
}

static u8 type_of(const struct ps2_keyboard *k, u16 code)
{
    u8 n = keys[code].set3;

    if (k->scancode_set != 3)
        return code == KEY_PAUSE ? M : TMB;
    return k->types[n / 4] >> n % 4 * 2 & 3;
}

/* ---- codes ---- */

/* The bytes of set 2, at most 8. */
static unsigned set2_codes(const struct ps2_keyboard *k, u16 code, bool down, u8 *to)
{
    u32 c = keys[code].set2;
    unsigned n = 0;

    if (code == KEY_SYSRQ && k->modifiers & ALT)
        c = ALT_SYSRQ;
    if (code == KEY_PAUSE && k->modifiers & CTRL) { /* Break: both at once */
        memcpy(to, (const u8[]){ 0xe0, 0x7e, 0xe0, BREAK, 0x7e }, 5);
        return 5;
    }
    if (code == KEY_PAUSE) {
        memcpy(to, (const u8[]){ 0xe1, 0x14, 0x77, 0xe1, BREAK, 0x14, BREAK, 0x77 }, 8);
        return 8;
    }
    if (code == KEY_SYSRQ && !k->modifiers && down) { /* the shift that it was made of, on the first keyboards */
        memcpy(to, (const u8[]){ 0xe0, 0x12, 0xe0, 0x7c }, 4);
        return 4;
    }
    if (c > 0xff)
        to[n++] = (u8)(c >> 8);
    if (!down)
        to[n++] = BREAK;
    to[n++] = (u8)c;
    if (code == KEY_SYSRQ && !k->modifiers) {
        memcpy(to + n, (const u8[]){ 0xe0, BREAK, 0x12 }, 3);
        n += 3;
    }
    return n;
}

static unsigned set1_codes(u8 *codes, unsigned n)
{
    unsigned m = 0;
    u8 up = 0;

    for (unsigned i = 0; i < n; i++) {
        if (codes[i] == BREAK) {
            up = 0x80;
        } else if (codes[i] >= 0xe0) {
            codes[m++] = codes[i];
        } else {
            codes[m++] = (codes[i] < 0x80 ? ps2_set1[codes[i]] : codes[i] == 0x83 ? 0x41 : 0x54) | up;
            up = 0;
        }
    }
    return m;
}

static unsigned key_codes(const struct ps2_keyboard *k, u16 code, bool down, u8 *to)
{
    unsigned n = 0;

    if (k->scancode_set == 3) {
        if (!down)
            to[n++] = BREAK;
        to[n++] = keys[code].set3;
        return keys[code].set3 ? n : 0;
    }
    n = set2_codes(k, code, down, to);
    return k->scancode_set == 1 ? set1_codes(to, n) : n;
}

/* Eight places stay free for replies. What finds no room is lost, and the keyboard says once that something is. */
static void send(struct ps2_keyboard *k, const u8 *codes, unsigned n)
{
    bool fits = ps2_room(&k->out) >= n + 8;

    if (fits)
        k->overrun = false;
    else if (k->overrun)
        return;
    for (unsigned i = 0; i < n && fits; i++)
        ps2_put(&k->out, codes[i]);
    if (!fits) {
        k->overrun = true;
        ps2_put(&k->out, k->scancode_set == 1 ? 0xff : 0x00);
    } else if (n) {
        k->last_sent = codes[n - 1];
    }
}

static void make(struct ps2_keyboard *k, u16 code, bool down)
{
    u8 codes[8];

    send(k, codes, key_codes(k, code, down, codes));
}

static u8 modifier(u16 code)
{
    static const u16 of[] = { KEY_LEFTCTRL, KEY_RIGHTCTRL, KEY_LEFTALT, KEY_RIGHTALT, KEY_LEFTSHIFT, KEY_RIGHTSHIFT };

    for (u32 i = 0; i < ARRAY_SIZE(of); i++)
        if (of[i] == code)
            return (u8)(1u << i);
    return 0;
}

void ps2_keyboard_key(struct ps2_keyboard *k, u16 code, bool down)
{
    u8 type;

    if (code >= PS2_KEYS || !keys[code].set2)
        return;
    type = type_of(k, code);
    if (k->scanning && (down || type == MB || type == TMB))
        make(k, code, down);
    k->modifiers = down ? k->modifiers | modifier(code) : k->modifiers & (u8)~modifier(code);
    if (down)
        k->repeating = k->scanning && (type == T || type == TMB) ? (u8)code : 0;
    else if (k->repeating == code)
        k->repeating = 0;
}

void ps2_keyboard_repeat(struct ps2_keyboard *k)
{
    if (k->repeating && k->scanning)
        make(k, k->repeating, true);
}

/* F3h: bits 6 and 5 the delay, 4 and 3 the exponent, 2 to 0 the rest of the period, in 1/240 s. */
u64 ps2_keyboard_delay(const struct ps2_keyboard *k)
{
    return ((k->rate >> 5 & 3u) + 1) * 250000000ull;
}

u64 ps2_keyboard_period(const struct ps2_keyboard *k)
{
    return ((8ull + (k->rate & 7)) << (k->rate >> 3 & 3)) * 1000000000ull / 240;
}
