/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_mode3.c - the text mode that a PC's firmware leaves, for kernels that are booted without one: registers as the BIOS's
 * video parameters have them (IBM PS/2 and PC BIOS Interface Technical Reference, mode 3+), and a font.
 */
#include <string.h>

#include "devices/vga_private.h"

enum { COLUMNS = 80, ROWS = 25, GREY_ON_BLACK = 0x07 };

void vga_text_mode(struct vga *v, const u8 *font)
{
    static const u8 seq[VGA_SEQ_COUNT] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
    static const u8 crtc[VGA_CRTC_COUNT] = { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00,
                                             0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff };
    static const u8 gfx[VGA_GFX_COUNT] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff };
    static const u8 att[VGA_ATT_COUNT] = { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a,
                                           0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00 };

    pthread_mutex_lock(&v->lock);
    v->r.misc = 0x67;
    memcpy(v->r.seq, seq, sizeof seq);
    memcpy(v->r.crtc, crtc, sizeof crtc);
    memcpy(v->r.gfx, gfx, sizeof gfx);
    memcpy(v->r.att, att, sizeof att);
    v->r.att_index = ATT_INDEX_PAS;
    for (u32 i = 0; i < 64; i++) /* a bit of each colour for two thirds and one for a third: bits 2 1 0 and 5 4 3 */
        for (u32 c = 0; c < 3; c++)
            v->r.dac[i * 3 + c] = (u8)((i >> (2 - c) & 1) * 0x2a + (i >> (5 - c) & 1) * 0x15);
    for (u32 i = 0; i < COLUMNS * ROWS; i++)
        v->vram[i * 8] = ' ', v->vram[i * 8 + 1] = GREY_ON_BLACK;
    for (u32 i = 0; i < 256; i++)
        for (u32 line = 0; line < VGA_FONT_HEIGHT; line++)
            v->vram[(i * 32 + line) * 4 + 2] = font[i * VGA_FONT_HEIGHT + line];
    pthread_mutex_unlock(&v->lock);
}
