/* SPDX-License-Identifier: Apache-2.0 */
/* vga_private.h - shared by the parts of the graphics adapter. */
#ifndef LODGE_DEVICES_VGA_PRIVATE_H
#define LODGE_DEVICES_VGA_PRIVATE_H

#include "devices/vga.h"

enum { SEQ_RESET, SEQ_CLOCKING_MODE, SEQ_MAP_MASK, SEQ_CHARACTER_MAP_SELECT, SEQ_MEMORY_MODE };
enum { CLOCKING_8_DOTS = 1, CLOCKING_DOT_CLOCK_2 = 8, CLOCKING_SCREEN_OFF = 0x20 };
enum { MEMORY_NOT_ODD_EVEN = 4, MEMORY_CHAIN_4 = 8 };

enum { GFX_SET_RESET, GFX_ENABLE_SET_RESET, GFX_COLOR_COMPARE, GFX_DATA_ROTATE, GFX_READ_MAP_SELECT, GFX_MODE,
       GFX_MISC, GFX_COLOR_DONT_CARE, GFX_BIT_MASK };
enum { MODE_WRITE = 3, MODE_READ_COMPARE = 8, MODE_ODD_EVEN = 0x10, MODE_SHIFT_REGISTER = 0x20, MODE_256_COLOR = 0x40 };
enum { MISC_GRAPHICS = 1, MISC_CHAIN_ODD_EVEN = 2 };

enum { ATT_MODE_CONTROL = 0x10, ATT_OVERSCAN, ATT_COLOR_PLANE_ENABLE, ATT_HORIZONTAL_PEL_PANNING, ATT_COLOR_SELECT };
enum { ATT_INDEX_PAS = 0x20 };
enum { CONTROL_MONO = 2, CONTROL_LINE_GRAPHICS = 4, CONTROL_BLINK = 8, CONTROL_PEL_PANNING_COMPATIBILITY = 0x20,
       CONTROL_P54_SELECT = 0x80 };

enum { CRTC_HORIZONTAL_TOTAL = 0x00, CRTC_HORIZONTAL_DISPLAY_END = 0x01, CRTC_VERTICAL_TOTAL = 0x06, CRTC_OVERFLOW = 0x07,
       CRTC_PRESET_ROW_SCAN = 0x08, CRTC_MAXIMUM_SCAN_LINE = 0x09, CRTC_CURSOR_START = 0x0a, CRTC_CURSOR_END = 0x0b,
       CRTC_START_HIGH = 0x0c, CRTC_START_LOW = 0x0d, CRTC_CURSOR_HIGH = 0x0e, CRTC_CURSOR_LOW = 0x0f,
       CRTC_VERTICAL_RETRACE_START = 0x10, CRTC_VERTICAL_RETRACE_END = 0x11, CRTC_VERTICAL_DISPLAY_END = 0x12,
       CRTC_OFFSET = 0x13, CRTC_UNDERLINE = 0x14, CRTC_MODE_CONTROL = 0x17, CRTC_LINE_COMPARE = 0x18 };
enum { UNDERLINE_DOUBLEWORD = 0x40 };
enum { CRTC_NOT_CMS0 = 1, CRTC_NOT_SRSC = 2, CRTC_HALF_LINES = 4, CRTC_COUNT_BY_TWO = 8, CRTC_WRAP_A15 = 0x20,
       CRTC_BYTE_MODE = 0x40, CRTC_RETRACE_ENABLE = 0x80 };

enum { OUTPUT_COLOR_PORTS = 1, OUTPUT_ENABLE_RAM = 2, OUTPUT_CLOCK = 0xc, OUTPUT_PAGE = 0x20 };

/* Bit p of an index becomes all bits of plane p. */
extern const u32 vga_planes[16];

/* A 10-bit vertical value: bits 7:0 of a register, 8 and 9 elsewhere. */
static inline u32 vga_vertical_display_end(const struct vga_registers *r)
{
    u8 o = r->crtc[CRTC_OVERFLOW];
    return r->crtc[CRTC_VERTICAL_DISPLAY_END] | (o & 2u) << 7 | (o & 0x40u) << 3;
}

/* vga_memory.c, after a register changed; the lock is held. */
void vga_window_map(struct vga *v);

/* vga_vbe.c; the lock is held. */
static inline bool vbe_enabled(const struct vga_registers *r) { return r->vbe[VBE_DISPI_INDEX_ENABLE] & VBE_DISPI_ENABLED; }
static inline u32 vbe_bpp(const struct vga_registers *r) { return r->vbe[VBE_DISPI_INDEX_BPP]; }
/* Bytes from a line to the next. In 4-bit modes, of one plane. */
u32 vbe_pitch(const struct vga_registers *r);
void vbe_reset(struct vga *v);
void vbe_sanitize(struct vga *v); /* after a load */
void vga_pci_init(struct vga *v, const struct vga_config *c);

/* vga.c, for the register BAR */
u8 vga_port_read(struct vga *v, u32 port);
void vga_port_write(struct vga *v, u32 port, u8 value);

/* vga_draw.c */
extern const struct display_ops vga_display_ops;

struct vga_view { /* a frame's registers, and what follows from them */
    struct vga_registers r;
    const u8 *vram;
    u32 vram_size;
    u32 color[256];      /* DAC: XRGB8888, the PEL mask applied */
    u32 palette[16];     /* through the palette registers, too */
    bool blink_on, cursor_on; /* the phases of now */
};
/* The CRTC's address of counter value ma in row scan rs: a plane's byte. */
u32 vga_address(const struct vga_registers *r, u32 ma, u32 rs);

void vga_view_take(struct vga *v, struct vga_view *w);

struct vga_scan { /* where in a frame the CRT controller is */
    u32 y, height;
    u32 row, rs;         /* counter value at which the line of characters begins; line within it */
    u32 byte_pan, compare;
    bool second;         /* of a line shown twice */
    bool no_pel_pan;
};
void vga_scan_begin(const struct vga_registers *r, struct vga_scan *s);
void vga_scan_next(const struct vga_registers *r, struct vga_scan *s);

/* vga_text.c: the dots of count characters from counter value ma on */
void vga_text_line(const struct vga_view *w, u32 *out, u32 ma, u32 rs, u32 count);
bool vga_text(void *dev, struct display_text *t);

#endif
