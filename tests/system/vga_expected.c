/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_expected.c - vga_expected FONTS FOLDER: are the screenshots FOLDER/NAME.0.png ... what vga_cases.h must look like?  FONTS is what
 * vga_modes.c wrote of the ROM's fonts.
 *
 * Nothing here is the device's: a mode is what the BIOS's documents call it (so many characters of such a size, or pixels, in such an
 * order in memory), and each dot is worked out alone, bit by bit, from that and what was drawn.  A monitor shows 200 lines twice, and
 * dots of 320 (and 360) a line twice as wide.
 */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vga_cases.h"

enum kind { TEXT, CGA_4, CGA_2, PLANAR, CHAIN_4, MODE_X, VBE_4, VBE_PACKED };

static struct {
    enum kind kind;
    u32 width, height; /* in pixels of the mode; text: of its cells */
    u32 wide, high;    /* how often each is shown */
    u32 cell_width, cell_height, underline, window;
    u32 blink, line_graphics, first, last, cursor, fonts[2];
    u32 start, row, line_pan, byte_pan, pan, split, below_unpanned;
    u32 palette[16], planes_shown, color_select, p54, dac_mask, dac_8bit;
    u8 dac[256][3], gc[9], map_mask, memory_mode, latch[4];
    u32 bits, line_width, x, y; /* VBE */
} m;
static u8 plane[4][0x10000], memory[0x20000], frame_buffer[4 << 20], fonts[8][256][32];
static u8 rom8[256][8], rom14[256][14], rom16[256][16];

/* ---- modes ---- */

static void gray(u32 i, u32 v) { dac(i, (u8)v, (u8)v, (u8)v); }

/* The colours that the BIOS loads: 64 of two bits each (bits 2 to 0 two thirds of red, green and blue, 5 to 3 one third), of an
   RGBI monitor (bit 4 the intensity, and brown for dark yellow), of a monochrome one, or 256. */
static void colors_64(void)
{
    for (u32 i = 0; i < 64; i++)
        dac(i, (u8)((i >> 2 & 1) * 42 + (i >> 5 & 1) * 21), (u8)((i >> 1 & 1) * 42 + (i >> 4 & 1) * 21), (u8)((i & 1) * 42 + (i >> 3 & 1) * 21));
}
static void rgbi(u32 at, u32 i)
{
    u8 base = i & 8 ? 21 : 0;
    dac(at, base + (i & 4 ? 42 : 0), i == 6 ? 21 : base + (i & 2 ? 42 : 0), base + (i & 1 ? 42 : 0));
}
static void colors_mono(void)
{
    static const u8 level[8] = { 0, 42, 0, 63, 0, 42, 0, 63 };
    for (u32 i = 0; i < 64; i++)
        gray(i, level[i / 8]);
}
/* 16 of RGBI, 16 greys, and 24 hues in three intensities of three saturations. */
static void colors_of_13h(void)
{
    static const u8 greys[16] = { 0, 5, 8, 11, 14, 17, 20, 24, 28, 32, 36, 40, 45, 50, 56, 63 };
    static const u8 levels[9][5] = { { 0, 16, 31, 47, 63 }, { 31, 39, 47, 55, 63 }, { 45, 49, 54, 58, 63 },
                                     { 0, 7, 14, 21, 28 }, { 14, 17, 21, 24, 28 }, { 20, 22, 24, 26, 28 },
                                     { 0, 4, 8, 12, 16 }, { 8, 10, 12, 14, 16 }, { 11, 12, 13, 15, 16 } };
    for (u32 i = 0; i < 16; i++)
        rgbi(i, i), gray(16 + i, greys[i]);
    for (u32 i = 0; i < 216; i++) {
        const u8 *l = levels[i / 24];
        u32 hue = i % 24, k = hue % 4, part = hue / 4; /* blue, magenta, red, yellow, green, cyan, and three steps between */
        u8 up = l[k], down = l[4 - k];
        const u8 c[6][3] = { { up, l[0], l[4] }, { l[4], l[0], down }, { l[4], up, l[0] }, { down, l[4], l[0] }, { l[0], l[4], up }, { l[0], down, l[4] } };
        dac(32 + i, c[part][0], c[part][1], c[part][2]);
    }
    for (u32 i = 248; i < 256; i++)
        gray(i, 0);
}

static void text_fonts(u32 block, const u8 *f, u32 height)
{
    for (u32 c = 0; c < 256; c++)
        memcpy(fonts[block][c], f + c * height, height);
}

static void vga_mode(enum kind kind, u32 width, u32 height, u32 row)
{
    m.kind = kind, m.width = width, m.height = height, m.row = row;
    m.wide = width <= 360 ? 2 : 1, m.high = height <= 240 ? 2 : 1;
}

static void mode(u16 number)
{
    static const struct { u16 number, width, height, bits; } vbe_modes[] = {
        { 0x101, 640, 480, 8 }, { 0x102, 800, 600, 4 }, { 0x103, 800, 600, 8 }, { 0x110, 640, 480, 15 },
        { 0x111, 640, 480, 16 }, { 0x112, 640, 480, 24 }, { 0x142, 640, 480, 32 } };

    memset(&m, 0, sizeof m);
    memset(plane, 0, sizeof plane);
    memset(memory, 0, sizeof memory);
    m.cell_width = m.cell_height = 1;
    m.map_mask = 15, m.memory_mode = 4, m.gc[GC_BIT_MASK] = 0xff, m.gc[GC_DONT_CARE] = 15;
    m.split = m.underline = ~0u, m.planes_shown = 15, m.dac_mask = 0xff, m.first = 32;
    colors_64();
    for (u32 i = 0; i < 16; i++)
        m.palette[i] = i == 6 ? 0x14 : i < 8 ? i : i + 0x30;
    if (number < 4 || number == 7) {
        vga_mode(TEXT, number < 2 ? 360 : 720, 400, number < 2 ? 40 : 80);
        m.cell_width = 9, m.cell_height = 16, m.blink = m.line_graphics = 1, m.window = COLOR_TEXT;
        for (u32 i = 0; number < 4 && i < m.row * 25; i++)
            memory[2 * i] = ' ', memory[2 * i + 1] = 7;
        text_fonts(0, rom16[0], 16);
    }
    if ((number >= 4 && number <= 6) || number == 0x0d || number == 0x0e)
        for (u32 i = 0; i < 64; i++)
            rgbi(i, (i & 7) | (i & 16) >> 1);
    if (number >= 4 && number <= 6)
        memset(m.palette, 0, sizeof m.palette);
    switch (number) {
    case 4: case 5: /* background, and cyan, magenta and white in bright */
        vga_mode(CGA_4, 320, 200, 0);
        m.palette[1] = 0x13, m.palette[2] = 0x15, m.palette[3] = 0x17;
        break;
    case 6:
        vga_mode(CGA_2, 640, 200, 0);
        m.palette[1] = 0x17;
        break;
    case 7: /* normal is two thirds, bright all; foreground 1 on background 0 is underlined */
        colors_mono();
        m.underline = 13, m.window = MONO_TEXT;
        for (u32 i = 0; i < 16; i++)
            m.palette[i] = (i & 7 ? 8 : 0) + (i & 8 ? 16 : 0);
        break;
    case 0x0d: case 0x0e:
        vga_mode(PLANAR, number == 0x0d ? 320 : 640, 200, number == 0x0d ? 40 : 80);
        for (u32 i = 8; i < 16; i++)
            m.palette[i] = i + 8;
        m.palette[6] = 6;
        break;
    case 0x0f: /* planes 0 and 2: black, normal, blinking (the second phase: bright or black), bright */
        vga_mode(PLANAR, 640, 350, 80);
        colors_mono();
        m.blink = 1, m.planes_shown = 5;
        memset(m.palette, 0, sizeof m.palette);
        m.palette[1] = m.palette[9] = 8, m.palette[4] = m.palette[5] = m.palette[13] = 0x18;
        break;
    case 0x10:
        vga_mode(PLANAR, 640, 350, 80);
        break;
    case 0x11:
        vga_mode(PLANAR, 640, 480, 80);
        for (u32 i = 1; i < 16; i++)
            m.palette[i] = 0x3f;
        break;
    case 0x12:
        vga_mode(PLANAR, 640, 480, 80);
        break;
    case 0x13:
        vga_mode(CHAIN_4, 320, 200, 80);
        colors_of_13h();
        break;
    }
    if (number < 0x100)
        return;
    colors_of_13h();
    for (u32 i = 0; i < sizeof vbe_modes / sizeof vbe_modes[0]; i++)
        if ((number & ~LINEAR) == vbe_modes[i].number) {
            vga_mode(vbe_modes[i].bits == 4 ? VBE_4 : VBE_PACKED, vbe_modes[i].width, vbe_modes[i].height, vbe_modes[i].width / 8);
            m.wide = m.high = 1, m.bits = vbe_modes[i].bits, m.line_width = m.width;
        }
    if (m.kind == VBE_4)
        colors_64();
    memset(frame_buffer, 0, sizeof frame_buffer);
}

static void mode_x(void)
{
    vga_mode(MODE_X, 320, 240, 80);
}

/* ---- the words of vga_cases.h that say how it is shown ---- */

static void double_scan(void) { m.height /= 2, m.high = 2; }
static void blinking(u32 on) { m.blink = on; }
static void line_graphics(u32 on) { m.line_graphics = on; }
static void eight_dots(void) { m.width = m.width / 9 * 8, m.cell_width = 8; }
static void underline(u32 line) { m.underline = line; }
static void rom_font(u32 height) /* as many rows as fit into 400 lines */
{
    m.cell_height = height;
    m.height = 400 / height * height;
    text_fonts(0, height == 8 ? rom8[0] : rom14[0], height);
}
static void own_font(u32 block)
{
    for (u32 c = 0; c < 256; c++)
        for (u32 line = 0; line < 16; line++)
            fonts[block][c][line] = glyph(c, line);
}
static void font_blocks(u32 b, u32 a) { m.fonts[0] = b, m.fonts[1] = a; }
static void cursor(u32 first, u32 last, u32 cell, u32 skew) { m.first = first, m.last = last, m.cursor = cell + skew; }

static void start(u32 at) { m.start = at; }
static void row_length(u32 half) { m.row = half * 2; }
static void row_pan(u32 lines, u32 bytes) { m.line_pan = lines, m.byte_pan = bytes; }
static void pan(u32 dots) { m.pan = dots; }
static void split(u32 line, u32 below_unpanned) { m.split = line, m.below_unpanned = below_unpanned; }

static void palette(u32 i, u32 color) { m.palette[i] = color; }
static void planes_shown(u32 mask) { m.planes_shown = mask; }
static void color_select(u32 value, u32 p54) { m.color_select = value, m.p54 = p54; }
static void dac(u32 i, u8 r, u8 g, u8 b)
{
    u8 bits = m.dac_8bit ? 0xff : 0x3f;
    m.dac[i][0] = r & bits, m.dac[i][1] = g & bits, m.dac[i][2] = b & bits;
}
static void dac_mask(u8 mask) { m.dac_mask = mask; }
static void dac_8bit(void) { m.dac_8bit = 1; }
static void line_width(u32 width) { m.line_width = width; }
static void display_start(u32 x, u32 y) { m.x = x, m.y = y; }

/* ---- memory ---- */

static void seq(u8 index, u8 value) { *(index == SEQ_MAP_MASK ? &m.map_mask : &m.memory_mode) = value; }
static void gc(u8 index, u8 value) { m.gc[index] = value; }

static int plain_memory(void) { return m.kind == TEXT || m.kind == CGA_4 || m.kind == CGA_2; }

/* Which byte of the planes, and by writing which planes at most. */
static u32 planes_at(u32 *offset, int write)
{
    u32 a = *offset, planes = 15;

    if (m.kind == CHAIN_4) {
        *offset = a / 4;
        return 1 << a % 4;
    }
    if (write ? !(m.memory_mode & 4) : m.gc[GC_MODE] >> 4 & 1) {
        planes = a % 2 ? 10 : 5;
        if (m.gc[GC_MISC] & 2)
            *offset = a - a % 2;
    }
    return planes;
}

static void poke(u32 offset, u8 value)
{
    u32 write_mode = m.gc[GC_MODE] & 3, planes, turn = m.gc[GC_ROTATE] & 7;

    if (plain_memory()) {
        memory[offset - (m.window ? m.window : COLOR_TEXT)] = value;
        return;
    }
    planes = planes_at(&offset, 1) & m.map_mask;
    for (u32 p = 0; p < 4; p++) {
        for (u32 bit = 0; (planes >> p & 1) && bit < 8; bit++) {
            u32 latch = m.latch[p] >> bit & 1, turned = value >> (bit + turn) % 8 & 1, set = m.gc[GC_SET_RESET] >> p & 1;
            u32 masked = m.gc[GC_BIT_MASK] >> bit & 1, new = 0;
            switch (write_mode) {
            case 0: new = m.gc[GC_ENABLE_SET_RESET] >> p & 1 ? set : turned; break;
            case 2: new = value >> p & 1; break;
            case 3: new = set, masked &= turned; break;
            }
            switch (m.gc[GC_ROTATE] >> 3) {
            case 1: new &= latch; break;
            case 2: new |= latch; break;
            case 3: new ^= latch; break;
            }
            if (write_mode == 1 || !masked)
                new = latch;
            plane[p][offset] = (u8)((plane[p][offset] & ~(1 << bit)) | new << bit);
        }
    }
}

static u8 peek(u32 offset)
{
    u32 planes = planes_at(&offset, 0), map = m.gc[GC_READ_MAP];
    u8 same = 0xff;

    for (u32 p = 0; p < 4; p++)
        m.latch[p] = plane[p][offset];
    for (u32 p = 0; p < 4; p++)
        if (m.gc[GC_DONT_CARE] >> p & 1)
            same &= m.gc[GC_COLOR_COMPARE] >> p & 1 ? m.latch[p] : (u8)~m.latch[p];
    if (m.gc[GC_MODE] & 8)
        return same;
    if (m.kind == CHAIN_4)
        map = planes == 1 ? 0 : planes == 2 ? 1 : planes == 4 ? 2 : 3;
    else if (m.gc[GC_MODE] & 0x10)
        map = (map & 2) | (planes == 10);
    return m.latch[map];
}

static void pixels(u32 offset, u32 value) { memcpy(frame_buffer + offset, &value, 4); }

/* ---- what a dot must be ---- */

/* What a monitor makes of n bits. */
static u32 level(u32 v, u32 bits) { return bits == 8 ? v : (v << (8 - bits) | v >> (2 * bits - 8)) & 0xff; }

static u32 color(u32 index)
{
    const u8 *c = m.dac[index & m.dac_mask];
    u32 bits = m.dac_8bit ? 8 : 6;
    return level(c[0], bits) << 16 | level(c[1], bits) << 8 | level(c[2], bits);
}

/* Of 16 colours. */
static u32 attribute_color(u32 i)
{
    u32 p = m.palette[i & m.planes_shown];
    if (m.p54)
        p = (p & 15) | (m.color_select & 3) << 4;
    return color(p | (m.color_select & 12) << 4);
}

static u32 text_dot(u32 counter, u32 scan, u32 x, int blink_dark, int cursor_dark)
{
    u32 character = memory[counter * 2 & 0x7fff], attribute = memory[(counter * 2 & 0x7fff) + 1], fore = attribute & 15, back = attribute >> 4;
    const u8 *f = fonts[m.fonts[attribute >> 3 & 1]][character];
    int on = x < 8 ? f[scan] >> (7 - x) & 1 : character >= 0xc0 && character <= 0xdf && m.line_graphics && (f[scan] & 1);

    if ((attribute & 0x77) == 1 && scan == m.underline)
        on = 1;
    if (m.blink) {
        back &= 7;
        if ((attribute & 0x80) && blink_dark)
            on = 0;
    }
    if (counter == m.cursor && scan >= m.first && scan <= m.last && !cursor_dark)
        on = 1;
    return attribute_color(on ? fore : back);
}

static u32 vbe_dot(u32 x, u32 y)
{
    u32 bytes = (m.bits + 7) / 8, v = 0;
    memcpy(&v, frame_buffer + ((y + m.y) * m.line_width + x + m.x) * bytes, bytes);
    switch (m.bits) {
    case 8: return color(v);
    case 15: return level(v >> 10 & 31, 5) << 16 | level(v >> 5 & 31, 5) << 8 | level(v & 31, 5);
    case 16: return level(v >> 11, 5) << 16 | level(v >> 5 & 63, 6) << 8 | level(v & 31, 5);
    default: return v & 0xffffff;
    }
}

static u32 planar_dot(u32 offset, u32 bit, int blink_dark)
{
    u32 i = 0;
    for (u32 p = 0; p < 4; p++)
        i |= (plane[p][offset & 0xffff] >> (7 - bit) & 1u) << p;
    i &= m.planes_shown;
    return attribute_color(m.blink && blink_dark ? i ^ 8 : i);
}

/* Dot x, y of the screen; planes_shown has been applied where blinking turns bit 3 of what is left. */
static u32 dot(u32 x, u32 y, int blink_dark, int cursor_dark)
{
    u32 below = y > m.split, byte_pan = m.byte_pan, p = m.pan, counter = m.start;

    x /= m.wide;
    if (m.kind == VBE_PACKED)
        return vbe_dot(x, y);
    if (below) {
        y -= m.split + 1, counter = 0;
        if (m.below_unpanned)
            p = byte_pan = 0;
    }
    y /= m.high;
    if (!below)
        y += m.line_pan;
    x += p;
    u32 unit = m.kind == TEXT ? m.cell_width : m.kind == CHAIN_4 || m.kind == MODE_X ? 4 : 8, v;
    counter += y / m.cell_height * m.row + x / unit + byte_pan;
    switch (m.kind) {
    case TEXT:
        return text_dot(counter, y % m.cell_height, x % unit, blink_dark, cursor_dark);
    case CGA_4: /* even lines, and from 8 KiB on the odd ones; four pixels a byte, the leftmost in the highest bits */
        v = memory[y % 2 * 0x2000 + y / 2 * 80 + x / 4];
        return attribute_color(v >> (6 - x % 4 * 2) & 3);
    case CGA_2:
        v = memory[y % 2 * 0x2000 + y / 2 * 80 + x / 8];
        return attribute_color(v >> (7 - x % 8) & 1);
    case CHAIN_4: case MODE_X:
        return color(plane[x % 4][counter & (m.kind == MODE_X ? 0xffff : 0x3fff)]);
    default:
        return planar_dot(counter, x % 8, blink_dark);
    }
}

/* ---- comparing ---- */

static const char *folder;
static u32 failures, shown;

static int is_expected(const char *name, const png_byte *rgb, u32 width, u32 height, int blink_dark, int cursor_dark, int tell)
{
    for (u32 y = 0; y < height; y++)
        for (u32 x = 0; x < width; x++, rgb += 3) {
            u32 want = dot(x, y, blink_dark, cursor_dark), got = (u32)rgb[0] << 16 | (u32)rgb[1] << 8 | rgb[2];
            if (got != want) {
                if (tell)
                    printf("%s: dot %u, %u is %06x, not %06x\n", name, x, y, got, want);
                return 0;
            }
        }
    return 1;
}

/* Each of the pictures is one of those that come by turns, and each of those is there. */
static u32 look(const char *name, u32 pictures, int tell)
{
    u32 seen = 0;

    for (u32 n = 0; n < pictures; n++) {
        png_image image = { .version = PNG_IMAGE_VERSION };
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.%u.png", folder, name, n);
        if (!png_image_begin_read_from_file(&image, path)) {
            if (tell)
                printf("%s: %s\n", path, image.message);
            break;
        }
        image.format = PNG_FORMAT_RGB;
        png_byte *rgb = malloc(PNG_IMAGE_SIZE(image));
        if (!rgb || !png_image_finish_read(&image, NULL, rgb, 0, NULL)) {
            printf("%s: %s\n", path, image.message);
            png_image_free(&image);
        } else if (image.width != m.width * m.wide || image.height != m.height * m.high) {
            if (tell)
                printf("%s: %ux%u, not %ux%u\n", name, image.width, image.height, m.width * m.wide, m.height * m.high);
        } else { /* of two pictures one blinks, the cursor or the rest */
            int cursor_blinks = m.first <= m.last && m.first < 32, blinks = pictures == 4 || (pictures == 2 && !cursor_blinks);
            for (u32 k = 0; k < 4; k++)
                if ((!(k & 1) || blinks) && (!(k & 2) || cursor_blinks) &&
                    is_expected(name, rgb, image.width, image.height, k & 1, k >> 1, tell))
                    seen |= 1u << k;
        }
        free(rgb);
    }
    return (u32)__builtin_popcount(seen);
}

static void show(const char *name, u32 pictures)
{
    u32 right = look(name, pictures, 0);

    shown++;
    if (right == pictures)
        return;
    failures++;
    printf("FAILED: %s: %u of its %u pictures are right\n", name, right, pictures);
    look(name, pictures, 1);
}

int main(int argc, char **argv)
{
    FILE *f = argc == 3 ? fopen(argv[1], "rb") : NULL;

    if (!f || fread(rom8, 1, sizeof rom8, f) != sizeof rom8 || fread(rom14, 1, sizeof rom14, f) != sizeof rom14 ||
        fread(rom16, 1, sizeof rom16, f) != sizeof rom16)
        return printf("no fonts\n"), 1;
    folder = argv[2];
    cases();
    printf("%u cases, %u failed\n", shown, failures);
    return failures != 0;
}
