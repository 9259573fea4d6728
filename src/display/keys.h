/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - translates the names that people and protocols use for keys to Linux key codes (KEY_). Any thread.
 */
#ifndef LODGE_DISPLAY_KEYS_H
#define LODGE_DISPLAY_KEYS_H

#include "base/base.h"
#include "base/error.h"

enum { KEYS_CHORD = 8 }; /* keys held at once */

/* "ctrl-alt-delete", "f10", "a": names as in qemu's sendkey, with "-" between them. Returns the number of keys, or
   -EINVAL. */
int must_check keys_chord(const char *text, u16 key[KEYS_CHORD], struct error *err);
/* How the character is typed on a US keyboard (newline: return). 0: it cannot be typed. */
u16 keys_character(u32 c, bool *shift);
/* The key of an X11 keysym, which VNC uses, on a US keyboard; 0: none. */
u16 keys_keysym(u32 keysym);
/* The key of an IBM PC/XT scan code; bit 7 means an E0h before it. VNC's QEMU Extended Key Event uses these codes.
   0: none. */
u16 keys_xt(u32 code);

#endif
