/* SPDX-License-Identifier: Apache-2.0 */
/*
 * display.h - the screen: one picture, drawn by one device (VGA), looked at by any number of viewers (VNC, screenshots).
 *
 * The picture is XRGB8888 (a u32 a pixel: 0x00RRGGBB; the top byte counts for nothing), lines of width pixels one after
 * the other from the top, in a memfd of fixed size: another process can map it and nothing else.  What is read while
 * the device draws may be half of the old and half of the new picture, never outside it.
 *
 * Nothing is drawn unless somebody looks: then the device's refresh() is called, at most DISPLAY_RATE times a second.
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
    DISPLAY_BYTES = DISPLAY_MAX_WIDTH * DISPLAY_MAX_HEIGHT * 4, /* of the memfd, whatever the size of the picture */
    DISPLAY_MAX_CELLS = 256 * 100,
    DISPLAY_MAX_RECTS = 32,
};

struct display;

struct display_rect { /* pixels, within the picture */
    u32 x, y, w, h;
};

/* What a text mode shows. */
struct display_text {
    u32 columns, rows;      /* columns * rows <= DISPLAY_MAX_CELLS */
    u32 cursor_column, cursor_row;
    bool cursor;            /* shown, and within the screen */
    struct display_cell {
        u16 character;      /* index into the font: code page 437; from 256 on the second font */
        u8 attribute;       /* IBM VGA: bits 3:0 foreground, 7:4 background (bit 7 may be blinking) */
    } cell[DISPLAY_MAX_CELLS]; /* row by row */
};

/* ---- the device's side ---- */

struct display_ops {
    /* Draws what has changed since the last call: display_resize, display_pixels, display_changed. Registers and video
       memory are other threads': take the device's own lock. After a reset or a load it draws all. */
    void (*refresh)(void *dev);
    /* Fills t, if in a text mode; else false. NULL: there is none. */
    bool (*text)(void *dev, struct display_text *t);
};

/* The one device, or NULL to take it away. The picture is black until it draws; without a device it is 640x480 black. */
void display_plug(struct display *d, const struct display_ops *ops, void *dev);

bool display_plugged(const struct display *d);

/* From refresh() only. Another size than now: all of the picture is black and counts as changed. Sizes beyond 1..MAX
   are cut to them: ask display_size. */
void display_resize(struct display *d, u32 width, u32 height);
/* Line y begins at y * width. Stays where it is for as long as the display. */
u32 *display_pixels(struct display *d);
/* What reaches outside the picture is cut off. */
void display_changed(struct display *d, u32 x, u32 y, u32 width, u32 height);

/* ---- the viewers' side ---- */

struct display *display_new(struct loop *loop, struct error *err); /* loop: NULL for tests: refresh by hand */
void display_free(struct display *d);                              /* may be NULL; the viewers are gone by then */

void display_size(const struct display *d, u32 *width, u32 *height);
int display_memfd(const struct display *d);
/* Brings the picture up to date now. */
void display_refresh(struct display *d);
/* False: not in a text mode, or no device. */
bool display_text(struct display *d, struct display_text *t);

/* A viewer, embedded by its owner, that wants to be kept up to date. */
struct display_viewer {
    /* After a refresh that changed something. resized: the size is another than last time, and r is all of it. */
    void (*changed)(struct display_viewer *v, const struct display_rect *r, u32 n, bool resized);
    struct display_viewer *next; /* private */
};
/* From now on; what it sees first is its own business. */
void display_look(struct display *d, struct display_viewer *v);
void display_look_away(struct display *d, struct display_viewer *v);

#endif
