/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_text.c - text modes: characters in plane 0, attributes in plane 1, fonts in plane 2.
 */
#include "devices/vga_private.h"

enum { CURSOR_OFF = 0x20 };

/* Where a font of plane 2 begins; map A is for attributes with bit 3 set, map B for the others. */
static u32 font(const struct vga_registers *r, bool a)
{
    u32 s = r->seq[SEQ_CHARACTER_MAP_SELECT] >> (a ? 2 : 0), high = r->seq[SEQ_CHARACTER_MAP_SELECT] >> (a ? 5 : 4);
    return (s & 3) * 0x4000 + (high & 1) * 0x2000;
}

static u32 cell_at(const struct vga_view *w, u32 ma, u32 rs)
{
    return ((const u32 *)(const void *)w->vram)[vga_address(&w->r, ma, rs)];
}

static u32 cursor_at(const struct vga_registers *r)
{
    return (((u32)r->crtc[CRTC_CURSOR_HIGH] << 8 | r->crtc[CRTC_CURSOR_LOW]) + (r->crtc[CRTC_CURSOR_END] >> 5 & 3)) & 0xffff;
}

void vga_text_line(const struct vga_view *w, u32 *out, u32 ma, u32 rs, u32 count)
{
    const struct vga_registers *r = &w->r;
    u8 control = r->att[ATT_MODE_CONTROL];
    u32 cell = r->seq[SEQ_CLOCKING_MODE] & CLOCKING_8_DOTS ? 8 : 9, fonts[2] = { font(r, false), font(r, true) };
    bool cursor = w->cursor_on && !(r->crtc[CRTC_CURSOR_START] & CURSOR_OFF) && rs >= (r->crtc[CRTC_CURSOR_START] & 0x1fu) &&
                  rs <= (r->crtc[CRTC_CURSOR_END] & 0x1fu);

    for (u32 i = 0; i < count; i++, out += cell) {
        u32 planes = cell_at(w, ma + i, rs), ch = planes & 0xff, attribute = planes >> 8 & 0xff;
        u32 dots = w->vram[(fonts[attribute >> 3 & 1] + ch * 32 + rs) * 4 + 2], back = attribute >> 4;

        if ((attribute & 0x77) == 1 && rs == (r->crtc[CRTC_UNDERLINE] & 0x1fu)) /* of colours, too, if they have such a line */
            dots = 0xff | 0x100; /* through the ninth dot, too */
        dots = (dots & 0xff) << 1 | dots >> 8;
        if ((control & CONTROL_LINE_GRAPHICS) && (ch & 0xe0) == 0xc0)
            dots |= dots >> 1 & 1;
        if (control & CONTROL_BLINK) {
            if ((attribute & 0x80) && !w->blink_on)
                dots = 0;
            back &= 7;
        }
        if (cursor && ((ma + i) & 0xffff) == cursor_at(r))
            dots = 0x1ff;
        for (u32 k = 0; k < cell; k++)
            out[k] = w->palette[dots >> (8 - k) & 1 ? attribute & 15 : back];
    }
}

bool vga_text(void *dev, struct display_text *t)
{
    struct vga_view w;
    struct vga_scan s;

    vga_view_take(dev, &w);
    const struct vga_registers *r = &w.r;
    if (vbe_enabled(r) || (r->gfx[GFX_MISC] & MISC_GRAPHICS) || (r->seq[SEQ_CLOCKING_MODE] & CLOCKING_SCREEN_OFF) ||
        !(r->att_index & ATT_INDEX_PAS) || !(r->crtc[CRTC_MODE_CONTROL] & CRTC_RETRACE_ENABLE))
        return false;
    t->columns = r->crtc[CRTC_HORIZONTAL_DISPLAY_END] + 1u;
    t->rows = 0;
    t->cursor = false;
    bool two_fonts = font(r, false) != font(r, true), begins = true;
    for (vga_scan_begin(r, &s); s.y < s.height && (t->rows + 1) * t->columns <= DISPLAY_MAX_CELLS;) {
        struct display_cell *cell = &t->cell[t->rows * t->columns];
        u32 row = s.row, rs = s.rs;

        for (u32 i = 0; begins && i < t->columns; i++) {
            u32 planes = cell_at(&w, row + s.byte_pan + i, rs);
            cell[i].attribute = (u8)(planes >> 8);
            cell[i].character = (u16)((planes & 0xff) | (two_fonts && (planes & 0x800) ? 0x100 : 0));
            if (((row + s.byte_pan + i) & 0xffff) == cursor_at(r) && !(r->crtc[CRTC_CURSOR_START] & CURSOR_OFF)) {
                t->cursor = true;
                t->cursor_column = i;
                t->cursor_row = t->rows;
            }
        }
        t->rows += begins;
        vga_scan_next(r, &s);
        /* A row of one scan line begins at each, if that is not shown twice. */
        begins = s.row != row || (s.rs == 0 && (rs != 0 || !s.second));
    }
    return true;
}
