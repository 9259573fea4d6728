/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - see keys.h. */
#include "display/keys.h"

#include <errno.h>
#include <linux/input-event-codes.h>
#include <string.h>
#include <strings.h>

/* Keys that have no character, or whose character has a name. The first name of a code is qemu's. */
static const struct {
    const char *name;
    u16 code;
    u16 keysym; /* of X11's keysymdef.h; 0: found by another line, or by its character */
} keys[] = {
    { "esc", KEY_ESC, 0xff1b }, { "escape", KEY_ESC, 0 }, { "backspace", KEY_BACKSPACE, 0xff08 },
    { "tab", KEY_TAB, 0xff09 }, { "", KEY_TAB, 0xfe20 /* ISO_Left_Tab */ },
    { "ret", KEY_ENTER, 0xff0d }, { "enter", KEY_ENTER, 0 }, { "return", KEY_ENTER, 0 },
    { "ctrl", KEY_LEFTCTRL, 0xffe3 }, { "ctrl_r", KEY_RIGHTCTRL, 0xffe4 }, { "control", KEY_LEFTCTRL, 0 },
    { "shift", KEY_LEFTSHIFT, 0xffe1 }, { "shift_r", KEY_RIGHTSHIFT, 0xffe2 },
    { "alt", KEY_LEFTALT, 0xffe9 }, { "alt_r", KEY_RIGHTALT, 0xffea }, { "", KEY_RIGHTALT, 0xfe03 /* AltGr */ },
    { "", KEY_LEFTALT, 0xffe7 }, { "", KEY_RIGHTALT, 0xffe8 }, { "", KEY_RIGHTALT, 0xff7e },
    { "meta_l", KEY_LEFTMETA, 0xffeb }, { "meta_r", KEY_RIGHTMETA, 0xffec }, { "super", KEY_LEFTMETA, 0 },
    { "win", KEY_LEFTMETA, 0 }, { "menu", KEY_COMPOSE, 0xff67 }, { "compose", KEY_COMPOSE, 0 },
    { "spc", KEY_SPACE, 0 }, { "space", KEY_SPACE, 0 }, { "caps_lock", KEY_CAPSLOCK, 0xffe5 },
    { "num_lock", KEY_NUMLOCK, 0xff7f }, { "scroll_lock", KEY_SCROLLLOCK, 0xff14 },
    { "print", KEY_SYSRQ, 0xff61 }, { "sysrq", KEY_SYSRQ, 0xff15 }, { "pause", KEY_PAUSE, 0xff13 },
    { "", KEY_PAUSE, 0xff6b },
    { "insert", KEY_INSERT, 0xff63 }, { "ins", KEY_INSERT, 0 }, { "delete", KEY_DELETE, 0xffff },
    { "del", KEY_DELETE, 0 }, { "home", KEY_HOME, 0xff50 }, { "end", KEY_END, 0xff57 },
    { "pgup", KEY_PAGEUP, 0xff55 }, { "pgdn", KEY_PAGEDOWN, 0xff56 }, { "up", KEY_UP, 0xff52 },
    { "down", KEY_DOWN, 0xff54 }, { "left", KEY_LEFT, 0xff51 }, { "right", KEY_RIGHT, 0xff53 },
    { "f1", KEY_F1, 0xffbe }, { "f2", KEY_F2, 0xffbf }, { "f3", KEY_F3, 0xffc0 }, { "f4", KEY_F4, 0xffc1 },
    { "f5", KEY_F5, 0xffc2 }, { "f6", KEY_F6, 0xffc3 }, { "f7", KEY_F7, 0xffc4 }, { "f8", KEY_F8, 0xffc5 },
    { "f9", KEY_F9, 0xffc6 }, { "f10", KEY_F10, 0xffc7 }, { "f11", KEY_F11, 0xffc8 }, { "f12", KEY_F12, 0xffc9 },
    { "kp_0", KEY_KP0, 0xffb0 }, { "kp_1", KEY_KP1, 0xffb1 }, { "kp_2", KEY_KP2, 0xffb2 }, { "kp_3", KEY_KP3, 0xffb3 },
    { "kp_4", KEY_KP4, 0xffb4 }, { "kp_5", KEY_KP5, 0xffb5 }, { "kp_6", KEY_KP6, 0xffb6 }, { "kp_7", KEY_KP7, 0xffb7 },
    { "kp_8", KEY_KP8, 0xffb8 }, { "kp_9", KEY_KP9, 0xffb9 }, { "kp_add", KEY_KPPLUS, 0xffab },
    { "kp_subtract", KEY_KPMINUS, 0xffad }, { "kp_multiply", KEY_KPASTERISK, 0xffaa }, { "kp_divide", KEY_KPSLASH, 0xffaf },
    { "kp_decimal", KEY_KPDOT, 0xffae }, { "", KEY_KPDOT, 0xffac }, { "kp_enter", KEY_KPENTER, 0xff8d },
    { "", KEY_KP0, 0xff9e }, { "", KEY_KPDOT, 0xff9f }, { "", KEY_KP7, 0xff95 }, { "", KEY_KP4, 0xff96 },
    { "", KEY_KP8, 0xff97 }, { "", KEY_KP6, 0xff98 }, { "", KEY_KP2, 0xff99 }, { "", KEY_KP9, 0xff9a },
    { "", KEY_KP3, 0xff9b }, { "", KEY_KP1, 0xff9c }, { "", KEY_KP5, 0xff9d },
    { "minus", KEY_MINUS, 0 }, { "equal", KEY_EQUAL, 0 }, { "bracket_left", KEY_LEFTBRACE, 0 },
    { "bracket_right", KEY_RIGHTBRACE, 0 }, { "semicolon", KEY_SEMICOLON, 0 }, { "apostrophe", KEY_APOSTROPHE, 0 },
    { "grave_accent", KEY_GRAVE, 0 }, { "backslash", KEY_BACKSLASH, 0 }, { "comma", KEY_COMMA, 0 },
    { "dot", KEY_DOT, 0 }, { "slash", KEY_SLASH, 0 }, { "less", KEY_102ND, 0 },
};

/* A row of the US keyboard: keys from code on, without shift and with it. */
static const struct {
    u16 code;
    const char *plain, *shifted;
} rows[] = {
    { KEY_1, "1234567890-=", "!@#$%^&*()_+" }, { KEY_Q, "qwertyuiop[]", "QWERTYUIOP{}" },
    { KEY_A, "asdfghjkl;'`", "ASDFGHJKL:\"~" }, { KEY_BACKSLASH, "\\zxcvbnm,./", "|ZXCVBNM<>?" },
    { KEY_SPACE, " ", " " }, { KEY_ENTER, "\n", "\n" }, { KEY_TAB, "\t", "\t" },
};

u16 keys_character(u32 c, bool *shift)
{
    if (!c || c > 126)
        return 0;
    for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *p = strchr(rows[i].plain, (int)c), *s = strchr(rows[i].shifted, (int)c);
        *shift = !p;
        if (p || s)
            return (u16)(rows[i].code + (p ? p - rows[i].plain : s - rows[i].shifted));
    }
    return 0;
}

static u16 named(const char *name, size_t len)
{
    bool shift;
    if (len == 1)
        return keys_character((u8)(*name | (*name >= 'A' && *name <= 'Z' ? 0x20 : 0)), &shift);
    for (u32 i = 0; i < ARRAY_SIZE(keys); i++)
        if (len && strlen(keys[i].name) == len && !strncasecmp(keys[i].name, name, len))
            return keys[i].code;
    return 0;
}

int keys_chord(const char *text, u16 key[KEYS_CHORD], struct error *err)
{
    int n = 0;
    for (const char *p = text;; p++) {
        const size_t len = strcspn(p, "-");
        if (n == KEYS_CHORD)
            return error_set(err, EINVAL, "\"%.64s\": at most %d keys at once", text, KEYS_CHORD);
        if (!(key[n++] = named(p, len)))
            return error_set(err, EINVAL, "\"%.*s\" in \"%.64s\" is no key; keys are for example a, 1, ctrl, alt, delete, ret, "
                             "spc, minus, f1, up, with - between those held together", (int)MIN(len, 32u), p, text);
        p += len;
        if (!*p)
            return n;
    }
}

u16 keys_keysym(u32 keysym)
{
    bool shift;
    for (u32 i = 0; i < ARRAY_SIZE(keys); i++)
        if (keys[i].keysym == keysym && keysym)
            return keys[i].code;
    return keysym >= 0x20 ? keys_character(keysym, &shift) : 0;
}

u16 keys_xt(u32 code)
{
    static const u8 e0[128] = {
        [0x1c] = KEY_KPENTER, [0x1d] = KEY_RIGHTCTRL, [0x35] = KEY_KPSLASH, [0x37] = KEY_SYSRQ, [0x38] = KEY_RIGHTALT,
        [0x46] = KEY_PAUSE, [0x47] = KEY_HOME, [0x48] = KEY_UP, [0x49] = KEY_PAGEUP, [0x4b] = KEY_LEFT, [0x4d] = KEY_RIGHT,
        [0x4f] = KEY_END, [0x50] = KEY_DOWN, [0x51] = KEY_PAGEDOWN, [0x52] = KEY_INSERT, [0x53] = KEY_DELETE,
        [0x5b] = KEY_LEFTMETA, [0x5c] = KEY_RIGHTMETA, [0x5d] = KEY_COMPOSE,
    };
    if (code & 0x80)
        return code < 0x100 ? e0[code & 0x7f] : 0;
    /* Linux took its key numbers from these codes. */
    return code == 0x54 ? KEY_SYSRQ : code <= KEY_KPDOT || (code >= KEY_102ND && code <= KEY_F12) ? (u16)code : 0;
}
