/* SPDX-License-Identifier: Apache-2.0 */
/*
 * picture.h - what the screen shows, for files and for reading.  Any thread.
 */
#ifndef LODGE_DISPLAY_PICTURE_H
#define LODGE_DISPLAY_PICTURE_H

#include "display/display.h"

/* XRGB8888, width * height of them, as PNG (8 bits a colour). *png is the caller's to free. 0 or -ENOMEM. */
int must_check picture_png(const u32 *pixels, u32 width, u32 height, u8 **png, size_t *size);

/* A text mode's rows in UTF-8, each with a newline, without the blanks at its end. The caller's to free; NULL: out of
   memory. */
char *picture_text(const struct display_text *t);

#endif
