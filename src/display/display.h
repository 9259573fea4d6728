/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display.h - the screen: one picture. One device (VGA) draws it, and any number of viewers (VNC, screenshots) look at
 * it.
 *
 * The picture is XRGB8888 (a u32 for each pixel: 0x00RRGGBB; the top byte is ignored). Lines of width pixels follow
 * each other from the top. The picture is in a memfd of fixed size, so another process can map the picture and nothing
 * else. A reader that reads while the device draws may get half of the old and half of the new picture, but never
 * anything outside it.
 *
 * Nothing is drawn unless somebody looks. Then the device's refresh() is called, at most DISPLAY_RATE times a second.
 *
 * Everything here is for the loop's thread (or before it runs).
 */
#ifndef LODGE_DISPLAY_DISPLAY_H
#define LODGE_DISPLAY_DISPLAY_H

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"

enum {
    DISPLAY_RATE = 30,
    DISPLAY_MAX_WIDTH = 2560,
    DISPLAY_MAX_HEIGHT = 1600,
    /* bytes of the memfd, whatever the size of the picture */
    DISPLAY_BYTES = DISPLAY_MAX_WIDTH * DISPLAY_MAX_HEIGHT * 4,
    DISPLAY_MAX_CELLS = 256 * 100,
    DISPLAY_MAX_RECTS = 32,
};

struct display;

struct display_rect { /* pixels, within the picture */
    u32 x, y, w, h;
};

/* The content of the screen in a text mode. */
struct display_text {
    u32 columns, rows;      /* columns * rows <= DISPLAY_MAX_CELLS */
    u32 cursor_column, cursor_row;
    bool cursor;            /* it is shown, and is within the screen */
    struct display_cell {
        u16 character;      /* index into the font: code page 437; from 256 on it is the second font */
        u8 attribute;       /* IBM VGA: bits 3:0 foreground, 7:4 background (bit 7 may be blinking) */
    } cell[DISPLAY_MAX_CELLS]; /* row by row */
};

/* ---- the device's side ---- */

struct display_ops {
    /* Draws what has changed since the last call, with display_resize, display_pixels and display_changed. Other
       threads change registers and video memory, so it takes the device's own lock. After a reset or a load it draws
       everything. */
    void (*refresh)(void *dev);
    /* In a text mode it fills t; else it returns false. NULL: the device has no text mode. */
    bool (*text)(void *dev, struct display_text *t);
};

/* Plugs in the one device; ops NULL takes it away. The picture is black until the device draws. Without a device it
   is 640x480 and black. */
void display_plug(struct display *d, const struct display_ops *ops, void *dev);

bool display_plugged(const struct display *d);

/* Call it from refresh() only. If the size differs from the present one, the whole picture becomes black and counts
   as changed. A size outside 1..MAX is cut to that range: ask display_size. */
void display_resize(struct display *d, u32 width, u32 height);
/* Line y begins at y * width. The address stays the same as long as the display exists. */
u32 *display_pixels(struct display *d);
/* The part that reaches outside the picture is cut off. */
void display_changed(struct display *d, u32 x, u32 y, u32 width, u32 height);

/* ---- the viewers' side ---- */

struct display *display_new(struct loop *loop, struct error *err); /* loop NULL: for tests, which refresh by hand */
void display_free(struct display *d);                              /* d may be NULL; the viewers must be gone */

void display_size(const struct display *d, u32 *width, u32 *height);
int display_memfd(const struct display *d);
/* Brings the picture up to date now. */
void display_refresh(struct display *d);
/* False: the device is not in a text mode, or there is no device. */
bool display_text(struct display *d, struct display_text *t);

/* A viewer that wants to be kept up to date, embedded by its owner. */
struct display_viewer {
    /* Called after a refresh that changed something. resized: the size differs from last time, and r is the whole
       picture. */
    void (*changed)(struct display_viewer *v, const struct display_rect *r, u32 n, bool resized);
    struct display_viewer *next; /* private */
};
/* It is told of changes from now on. What it shows first is its own task. */
void display_look(struct display *d, struct display_viewer *v);
void display_look_away(struct display *d, struct display_viewer *v);

#endif
