/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - keys by what people and protocols call them, as Linux key codes (KEY_).  Any thread.
 */
#ifndef LODGE_DISPLAY_KEYS_H
#define LODGE_DISPLAY_KEYS_H

#include "base/base.h"
#include "base/error.h"

enum { KEYS_CHORD = 8 }; /* keys held at once */

/* "ctrl-alt-delete", "f10", "a": names as of qemu's sendkey, "-" between them. The number of keys, or -EINVAL. */
int must_check keys_chord(const char *text, u16 key[KEYS_CHORD], struct error *err);
/* How the character is typed on a US keyboard (newline: return). 0: it cannot be. */
u16 keys_character(u32 c, bool *shift);
/* X11 keysym, as VNC has them, on a US keyboard; 0: none. */
u16 keys_keysym(u32 keysym);
/* IBM PC/XT scan code, bit 7 for an E0h before it, as VNC's QEMU Extended Key Event has them; 0: none. */
u16 keys_xt(u32 code);

#endif
