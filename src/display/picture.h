/* SPDX-License-Identifier: Apache-2.0 */
/*
 * picture.h - writes the content of the screen as a file or as text. Any thread.
 */
#ifndef LODGE_DISPLAY_PICTURE_H
#define LODGE_DISPLAY_PICTURE_H

#include "display/display.h"

/* Makes a PNG (8 bits a colour) of width * height XRGB8888 pixels. The caller frees *png. 0 or -ENOMEM. */
int must_check picture_png(const u32 *pixels, u32 width, u32 height, u8 **png, size_t *size);

/* The rows of a text mode in UTF-8, each with a newline, without the blanks at its end. The caller frees it; NULL:
   out of memory. */
char *picture_text(const struct display_text *t);

#endif
