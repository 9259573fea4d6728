/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_draw.c - the picture: every dot the monitor would show between the borders, so 320-dot modes are 640 wide and
 * scanned twice.  A line is made from the registers and video memory, and is a change if it is not what the picture has.
 *
 * Not there: interlacing, display enable skew, shift registers loaded less often than every character clock.
 */
#include <string.h>

#include "base/loop.h"
#include "devices/vga_private.h"

enum { MAX_CELLS = 257, MAX_DOTS = MAX_CELLS * 9 * 2 };
/* At 70 frames a second: 8 frames of cursor, 8 without; characters take twice as long. */
enum { CURSOR_NS = 114000000, BLINK_NS = 2 * CURSOR_NS };

/* ---- a frame's registers ---- */

static u32 eight_bits(u8 component) /* of 6; there may be more, from when the DAC had 8 */
{
    return (component & 0x3fu) << 2 | (component & 0x3fu) >> 4;
}

void vga_view_take(struct vga *v, struct vga_view *w)
{
    const struct vga_registers *r = &w->r;
    u64 now = clock_ns();

    pthread_mutex_lock(&v->lock);
    w->r = v->r;
    pthread_mutex_unlock(&v->lock);
    w->vram = v->vram;
    w->vram_size = v->vram_size;
    w->cursor_on = !(now / CURSOR_NS & 1);
    w->blink_on = !(now / BLINK_NS & 1);
    bool wide = r->vbe[VBE_DISPI_INDEX_ENABLE] & VBE_DISPI_8BIT_DAC;
    for (u32 i = 0; i < 256; i++) {
        const u8 *c = &r->dac[(i & r->pel_mask) * 3];
        w->color[i] = wide ? (u32)c[0] << 16 | (u32)c[1] << 8 | c[2]
                           : eight_bits(c[0]) << 16 | eight_bits(c[1]) << 8 | eight_bits(c[2]);
    }
    u8 control = r->att[ATT_MODE_CONTROL], select = r->att[ATT_COLOR_SELECT];
    /* In graphics modes all that blinks is bit 3; mode 0Fh's palette makes sense of it. */
    u8 blink = (r->gfx[GFX_MISC] & MISC_GRAPHICS) && (control & CONTROL_BLINK) && !w->blink_on ? 8 : 0;
    for (u32 i = 0; i < 16; i++) {
        u8 p = r->att[(i & r->att[ATT_COLOR_PLANE_ENABLE] & 15) ^ blink];
        if (control & CONTROL_P54_SELECT)
            p = (u8)((p & 15) | (select & 3) << 4);
        w->palette[i] = w->color[p | (select & 0xc) << 4];
    }
}

/* ---- what of a line is new ---- */

struct changes { /* lines changed one after the other, as one rectangle */
    struct display *d;
    u32 width, height;
    u32 y, n, left, right;
};

static void changes_flush(struct changes *c)
{
    if (c->n)
        display_changed(c->d, c->left, c->y, c->right - c->left, c->n);
    c->n = 0;
}

static void show(struct changes *c, u32 y, const u32 *line)
{
    u32 *old = display_pixels(c->d) + (size_t)y * c->width, left = 0, right = c->width;

    if (!memcmp(old, line, c->width * 4ul)) {
        changes_flush(c);
        return;
    }
    /* Video memory may be changing: what is compared and what is shown must not run past the line, that is all. */
    while (left < right && old[left] == line[left])
        left++;
    while (right > left && old[right - 1] == line[right - 1])
        right--;
    memcpy(old + left, line + left, (right - left) * 4ul);
    if (!c->n)
        c->y = y, c->left = left, c->right = right;
    c->n++;
    c->left = MIN(c->left, left);
    c->right = MAX(c->right, right);
}

static void changes_begin(struct changes *c, struct display *d, u32 width, u32 height)
{
    display_resize(d, width, height);
    *c = (struct changes){ .d = d };
    display_size(d, &c->width, &c->height); /* it may be cut off */
}

static void show_color(struct changes *c, u32 color)
{
    u32 line[DISPLAY_MAX_WIDTH];

    for (u32 x = 0; x < c->width; x++)
        line[x] = color;
    for (u32 y = 0; y < c->height; y++)
        show(c, y, line);
}

/* ---- VGA ---- */

u32 vga_address(const struct vga_registers *r, u32 ma, u32 rs)
{
    u8 mode = r->crtc[CRTC_MODE_CONTROL];

    /* Doubleword mode is for chain 4, which is packed here: it goes on by one, too. */
    if (!(mode & CRTC_BYTE_MODE) && !(r->crtc[CRTC_UNDERLINE] & UNDERLINE_DOUBLEWORD))
        ma = ma << 1 | (ma >> (mode & CRTC_WRAP_A15 ? 15 : 13) & 1);
    if (!(mode & CRTC_NOT_CMS0))
        ma = (ma & ~0x2000u) | (rs & 1) << 13;
    if (!(mode & CRTC_NOT_SRSC))
        ma = (ma & ~0x4000u) | (rs & 2) << 13;
    return ma & 0xffff;
}

/* Bit 7-k of b into byte k. */
static u64 spread(u8 b)
{
    return ((b * 0x0101010101010101ull & 0x0102040810204080ull) + 0x7f7f7f7f7f7f7f7full) >> 7 & 0x0101010101010101ull;
}

static u64 planar_dots(u32 planes)
{
    return spread((u8)planes) | spread((u8)(planes >> 8)) << 1 | spread((u8)(planes >> 16)) << 2 | spread((u8)(planes >> 24)) << 3;
}

/* Two bits a dot: planes 0 and 2 have the first four dots, 1 and 3 the others. */
static u64 interleaved_dots(u32 planes)
{
    u64 dots = 0;

    for (u32 k = 0; k < 8; k++) {
        u32 p = planes >> (k >> 2) * 8 >> (6 - (k & 3) * 2);
        dots |= (u64)((p & 3) | (p >> 14 & 0xc)) << k * 8;
    }
    return dots;
}

static void graphics_line(const struct vga_view *w, u32 *out, u32 ma, u32 rs, u32 count)
{
    const struct vga_registers *r = &w->r;
    const u32 *vram = (const u32 *)(const void *)w->vram;
    u32 step = r->crtc[CRTC_MODE_CONTROL] & CRTC_COUNT_BY_TWO ? 1 : r->crtc[CRTC_UNDERLINE] & 0x20 ? 2 : 0;

    for (u32 i = 0; i < count; i++, out += 8) {
        u32 planes = vram[vga_address(r, ma + (i >> step), rs)];
        if (r->gfx[GFX_MODE] & MODE_256_COLOR) {
            for (u32 k = 0; k < 8; k++)
                out[k] = w->color[planes >> (k & 6) * 4 & 0xff];
        } else {
            u64 dots = r->gfx[GFX_MODE] & MODE_SHIFT_REGISTER ? interleaved_dots(planes) : planar_dots(planes);
            for (u32 k = 0; k < 8; k++, dots >>= 8)
                out[k] = w->palette[dots & 15];
        }
    }
}

/* ---- the CRT controller's way through a frame ---- */

void vga_scan_begin(const struct vga_registers *r, struct vga_scan *s)
{
    *s = (struct vga_scan){
        .row = (u32)r->crtc[CRTC_START_HIGH] << 8 | r->crtc[CRTC_START_LOW],
        .rs = r->crtc[CRTC_PRESET_ROW_SCAN] & 0x1f,
        .byte_pan = r->crtc[CRTC_PRESET_ROW_SCAN] >> 5 & 3,
        .height = (vga_vertical_display_end(r) + 1) << !!(r->crtc[CRTC_MODE_CONTROL] & CRTC_HALF_LINES),
        .compare = r->crtc[CRTC_LINE_COMPARE] | (r->crtc[CRTC_OVERFLOW] & 0x10u) << 4 |
                   (r->crtc[CRTC_MAXIMUM_SCAN_LINE] & 0x40u) << 3,
    };
}

void vga_scan_next(const struct vga_registers *r, struct vga_scan *s)
{
    bool half = r->crtc[CRTC_MODE_CONTROL] & CRTC_HALF_LINES;
    u32 line = s->y++;

    if (line >> half == s->compare && (!half || (line & 1))) { /* split screen: the rest shows memory from 0 on */
        s->row = s->rs = 0;
        s->second = false;
        if (r->att[ATT_MODE_CONTROL] & CONTROL_PEL_PANNING_COMPATIBILITY) {
            s->byte_pan = 0;
            s->no_pel_pan = true;
        }
        return;
    }
    if (r->crtc[CRTC_MAXIMUM_SCAN_LINE] & 0x80) {
        s->second = !s->second;
        if (s->second)
            return;
    }
    if (s->rs == (r->crtc[CRTC_MAXIMUM_SCAN_LINE] & 0x1fu)) {
        s->rs = 0;
        s->row = (s->row + r->crtc[CRTC_OFFSET] * 2u) & 0xffff;
    } else {
        s->rs = (s->rs + 1) & 0x1f;
    }
}

/* Dots that the picture is moved to the left. */
static u32 pel_pan(const struct vga_registers *r, const struct vga_scan *s)
{
    u32 pan = r->att[ATT_HORIZONTAL_PEL_PANNING];
    bool nine = !(r->gfx[GFX_MISC] & MISC_GRAPHICS) && !(r->seq[SEQ_CLOCKING_MODE] & CLOCKING_8_DOTS);

    if (s->no_pel_pan)
        pan = nine ? 8 : 0;
    return nine ? (pan >= 8 ? 0 : pan + 1) : pan >= 8 ? 0 : pan;
}

static void draw_vga(const struct vga_view *w, struct display *d)
{
    const struct vga_registers *r = &w->r;
    bool graphics = r->gfx[GFX_MISC] & MISC_GRAPHICS, twice = r->seq[SEQ_CLOCKING_MODE] & CLOCKING_DOT_CLOCK_2;
    u32 cell = graphics || (r->seq[SEQ_CLOCKING_MODE] & CLOCKING_8_DOTS) ? 8 : 9;
    u32 count = r->crtc[CRTC_HORIZONTAL_DISPLAY_END] + 1u, dots[MAX_DOTS], shown = UINT32_MAX;
    struct changes c;
    struct vga_scan s;

    vga_scan_begin(r, &s);
    changes_begin(&c, d, (count * cell) << twice, s.height);
    if (!(r->att_index & ATT_INDEX_PAS)) {
        show_color(&c, w->color[r->att[ATT_OVERSCAN]]);
    } else {
        for (; s.y < c.height; vga_scan_next(r, &s)) {
            u32 what = s.rs << 16 | ((s.row + s.byte_pan) & 0xffff) | (u32)s.no_pel_pan << 31;
            if (what != shown) {
                if (graphics)
                    graphics_line(w, dots, s.row + s.byte_pan, s.rs, count + 1);
                else
                    vga_text_line(w, dots, s.row + s.byte_pan, s.rs, count + 1);
                for (u32 i = twice ? (count + 1) * cell : 0; i-- > 0;)
                    dots[2 * i] = dots[2 * i + 1] = dots[i];
            }
            shown = what;
            show(&c, s.y, dots + (pel_pan(r, &s) << twice));
        }
    }
    changes_flush(&c);
}

/* ---- DISPI ---- */

static void vbe_planar_line(const struct vga_view *w, u32 *out, u32 width, u32 y)
{
    const struct vga_registers *r = &w->r;
    const u32 *vram = (const u32 *)(const void *)w->vram;
    u32 at = (r->vbe[VBE_DISPI_INDEX_Y_OFFSET] + y) * vbe_pitch(r) + r->vbe[VBE_DISPI_INDEX_X_OFFSET] / 8;
    u32 skip = r->vbe[VBE_DISPI_INDEX_X_OFFSET] & 7;

    for (u32 x = 0; x < width; at++) {
        u64 dots = planar_dots(vram[at & (w->vram_size / 4 - 1)]) >> skip * 8;
        for (u32 k = skip; k < 8 && x < width; k++, dots >>= 8)
            out[x++] = w->palette[dots & 15];
        skip = 0;
    }
}

/* XRGB8888 of packed pixels. */
static void convert(const struct vga_view *w, u32 *out, const u8 *in, u32 width, u32 bpp)
{
    for (u32 x = 0; x < width; x++) {
        u32 p = in[0];
        switch (bpp) {
        case 8:
            out[x] = w->color[p];
            in += 1;
            break;
        case 15:
            p |= (u32)in[1] << 8;
            out[x] = (p & 0x7c00) << 9 | (p & 0x7000) << 4 | (p & 0x3e0) << 6 | (p & 0x380) << 1 | (p & 0x1f) << 3 | (p & 0x1c) >> 2;
            in += 2;
            break;
        case 16:
            p |= (u32)in[1] << 8;
            out[x] = (p & 0xf800) << 8 | (p & 0xe000) << 3 | (p & 0x7e0) << 5 | (p & 0x600) >> 1 | (p & 0x1f) << 3 | (p & 0x1c) >> 2;
            in += 2;
            break;
        default: /* 24 */
            out[x] = p | (u32)in[1] << 8 | (u32)in[2] << 16;
            in += 3;
            break;
        }
    }
}

static void draw_vbe(const struct vga_view *w, struct display *d)
{
    const u16 *vbe = w->r.vbe;
    u32 bpp = vbe_bpp(&w->r), pixel = (bpp + 7) / 8, pitch = vbe_pitch(&w->r), line[DISPLAY_MAX_WIDTH];
    u8 wrapped[DISPLAY_MAX_WIDTH * 4];
    struct changes c;

    changes_begin(&c, d, vbe[VBE_DISPI_INDEX_XRES], vbe[VBE_DISPI_INDEX_YRES]);
    if (!(w->r.att_index & ATT_INDEX_PAS))
        show_color(&c, 0);
    for (u32 y = 0; (w->r.att_index & ATT_INDEX_PAS) && y < c.height; y++) {
        u32 at = ((vbe[VBE_DISPI_INDEX_Y_OFFSET] + y) * pitch + vbe[VBE_DISPI_INDEX_X_OFFSET] * pixel) & (w->vram_size - 1);
        u32 bytes = c.width * pixel, left = w->vram_size - at;
        const u8 *in = w->vram + at;

        if (bpp == 4) {
            vbe_planar_line(w, line, c.width, y);
            show(&c, y, line);
            continue;
        }
        if (bytes > left) {
            memcpy(wrapped, in, left);
            memcpy(wrapped + left, w->vram, bytes - left);
            in = wrapped;
        }
        if (bpp == 32) {
            show(&c, y, (const u32 *)(const void *)in);
        } else {
            convert(w, line, in, c.width, bpp);
            show(&c, y, line);
        }
    }
    changes_flush(&c);
}

/* ---- */

static void refresh(void *dev)
{
    struct vga *v = dev;
    struct vga_view w;
    struct changes c;

    vga_view_take(v, &w);
    if (vbe_enabled(&w.r)) {
        draw_vbe(&w, v->display);
    } else if ((w.r.seq[SEQ_CLOCKING_MODE] & CLOCKING_SCREEN_OFF) || !(w.r.crtc[CRTC_MODE_CONTROL] & CRTC_RETRACE_ENABLE)) {
        u32 width, height;
        display_size(v->display, &width, &height);
        changes_begin(&c, v->display, width, height);
        show_color(&c, 0);
        changes_flush(&c);
    } else {
        draw_vga(&w, v->display);
    }
}

const struct display_ops vga_display_ops = { .refresh = refresh, .text = vga_text };
