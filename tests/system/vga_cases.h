/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vga_cases.h - what is drawn on the graphics adapter, for two that include it: vga_modes.c, the guest that draws it with ports and
 * video memory, and vga_expected.c, which works out from the documents what must come of it.  The words of both (mode, poke, seq,
 * pan ...) are declared here; the document behind them is IBM's PS/2 Hardware Interface Technical Reference, "Video Subsystem", its
 * BIOS Interface Technical Reference (INT 10h), and VESA's VBE 3.0.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

enum { MONO_TEXT = 0x10000, COLOR_TEXT = 0x18000 }; /* where they begin in the window at A0000h */
enum { LINEAR = 0x4000 };
enum { GC_SET_RESET, GC_ENABLE_SET_RESET, GC_COLOR_COMPARE, GC_ROTATE, GC_READ_MAP, GC_MODE, GC_MISC, GC_DONT_CARE, GC_BIT_MASK };
enum { SEQ_MAP_MASK = 2, SEQ_MEMORY_MODE = 4 };

static void mode(u16 number);                    /* by the BIOS, the cursor off; from 100h on VBE's; LINEAR: frame buffer */
static void show(const char *name, u32 pictures); /* as many pictures come by turns, as characters and cursor blink */
static void poke(u32 offset, u8 value);          /* a byte of the window */
static u8 peek(u32 offset);
static void pixels(u32 offset, u32 value);       /* four bytes of a VBE mode's frame buffer */
static void seq(u8 index, u8 value);             /* sequencer, graphics controller: as they are */
static void gc(u8 index, u8 value);
static void mode_x(void);                        /* from mode 13h */
static void double_scan(void);                   /* half the lines, each twice */
/* text */
static void blinking(u32 on);
static void line_graphics(u32 on);
static void eight_dots(void);
static void underline(u32 line);
static void rom_font(u32 height);
static void own_font(u32 block);                 /* 8x16, by glyph() */
static void font_blocks(u32 b, u32 a);           /* for attributes with bit 3 clear, and set */
static void cursor(u32 first, u32 last, u32 cell, u32 skew);
/* the way through memory; counted as the CRT controller does: a cell, 8 dots of a plane, four pixels of 256 colours */
static void start(u32 at);
static void row_length(u32 half);                /* the Offset register */
static void row_pan(u32 lines, u32 bytes);
static void pan(u32 dots);                       /* pixels in 256 colours */
static void split(u32 line, u32 below_unpanned);
/* colours */
static void palette(u32 i, u32 color);
static void planes_shown(u32 mask);
static void color_select(u32 value, u32 p54);
static void dac(u32 i, u8 r, u8 g, u8 b);
static void dac_mask(u8 mask);
static void dac_8bit(void);
/* VBE */
static void line_width(u32 width);
static void display_start(u32 x, u32 y);

static u32 noise(u32 n)
{
    n *= 2654435761u;
    n ^= n >> 15;
    n *= 2246822519u;
    return n ^ n >> 13;
}

static u8 glyph(u32 character, u32 line) { return (u8)noise(character * 16 + line); }

/* All characters and all attributes. */
static void characters(u32 at, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        poke(at + 2 * i, (u8)i);
        poke(at + 2 * i + 1, (u8)(i * 7 + i / 256 * 31));
    }
}

static void text(void)
{
    mode(0), characters(COLOR_TEXT, 1000), show("mode-0", 2);
    mode(1), characters(COLOR_TEXT, 1000), show("mode-1", 2);
    mode(2), characters(COLOR_TEXT, 2000), show("mode-2", 2);
    mode(3), characters(COLOR_TEXT, 2200), show("mode-3", 2);
    blinking(0), show("16-backgrounds", 1);
    line_graphics(0), show("no-line-graphics", 1);
    line_graphics(1), underline(9), show("underline", 1);
    cursor(3, 10, 85, 0), show("cursor", 2);
    cursor(0, 31, 170, 2), show("cursor-skewed", 2);
    cursor(10, 3, 85, 0), show("cursor-upside-down", 1);
    blinking(1), cursor(13, 14, 3, 0), show("cursor-and-blink", 4);
    mode(3), blinking(0), characters(COLOR_TEXT, 4000);
    start(160), show("text-start", 1);
    row_pan(5, 2), pan(3), show("text-pan", 1);
    split(199, 0), show("text-split", 1);
    split(199, 1), show("text-split-unpanned", 1);
    row_length(44), show("text-row-length", 1);
    mode(3), blinking(0), characters(COLOR_TEXT, 2000);
    for (u32 i = 0; i < 16; i++)
        palette(i, i * 11 % 64);
    planes_shown(0xb), show("text-palette", 1);
    mode(3), blinking(0), characters(COLOR_TEXT, 2000), eight_dots(), show("eight-dots", 1);
    pan(5), show("eight-dots-pan", 1);
    mode(3), blinking(0), rom_font(8), characters(COLOR_TEXT, 4000), show("font-8", 1);
    mode(3), blinking(0), rom_font(14), characters(COLOR_TEXT, 2240), show("font-14", 1);
    mode(3), blinking(0), own_font(5), own_font(2), characters(COLOR_TEXT, 2000);
    font_blocks(0, 5), show("two-fonts", 1);
    font_blocks(5, 0), show("two-fonts-swapped", 1);
    font_blocks(2, 2), show("own-font", 1);
    mode(3), blinking(0), rom_font(8), characters(COLOR_TEXT, 2000), double_scan(), show("text-double-scan", 1);
    mode(7), characters(MONO_TEXT, 2000);
    for (u32 i = 0; i < 4; i++) /* black, normal, bright with nothing else, bright; the third is black or normal by other BIOSes */
        dac(i * 8, (u8)(i * 20), (u8)(i * 20), (u8)(i * 20));
    show("mode-7", 2);
}

static void cga(void)
{
    static const u8 modes[] = { 4, 5, 6 };
    static const char *const names[] = { "mode-4", "mode-5", "mode-6" };

    for (u32 m = 0; m < 3; m++) {
        mode(modes[m]);
        for (u32 i = 0; i < 0x4000; i++)
            poke(COLOR_TEXT + i, (u8)noise(i));
        show(names[m], 1);
    }
}

static void noise_planes(u32 size)
{
    for (u32 p = 0; p < 4; p++) {
        seq(SEQ_MAP_MASK, (u8)(1 << p));
        for (u32 a = 0; a < size; a++)
            poke(a, (u8)noise(a * 4 + p));
    }
    seq(SEQ_MAP_MASK, 15);
}

/* What writing can be like. */
static const struct way {
    u8 write_mode, map_mask, set_reset, enable_set_reset, rotate, bit_mask;
} ways[] = { /* rotate: the function, too: 8 and, 10h or, 18h exclusive or */
    { 0, 0x0f, 0, 0, 0x00, 0xff },  { 0, 0x05, 0, 0, 0x03, 0xff },   { 0, 0x0f, 0, 0, 0x00, 0x3c },  { 0, 0x0f, 0x05, 0x0f, 0x00, 0x5a },
    { 0, 0x0f, 0x06, 0x0c, 2, 0xff }, { 0, 0x0f, 0, 0, 0x0d, 0xff }, { 0, 0x0e, 0, 0, 0x10, 0xf0 },  { 0, 0x0f, 0, 0, 0x1f, 0x0f },
    { 0, 0x0b, 0x09, 0x0b, 0x18, 0x77 }, { 1, 0x0f, 0, 0, 0, 0xff }, { 1, 0x06, 0x0f, 0x0f, 0x1b, 0x12 }, { 2, 0x0f, 0, 0, 0x00, 0xff },
    { 2, 0x0f, 0x0a, 0x0f, 0x05, 0x99 }, { 2, 0x07, 0, 0, 0x08, 0xe7 }, { 2, 0x0f, 0, 0, 0x10, 0xff }, { 2, 0x0f, 0, 0, 0x18, 0x3f },
    { 3, 0x0f, 0x0a, 0, 0x00, 0xff }, { 3, 0x0d, 0x05, 0x0f, 0x02, 0x7e }, { 3, 0x0f, 0x0c, 0, 0x0c, 0xff }, { 3, 0x0f, 0x03, 0, 0x16, 0xfd },
    { 3, 0x0f, 0x09, 0x06, 0x19, 0xff },
};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* length bytes from at on: read, for the latches, and written; the next byte read is where the latches come from if ahead. */
static void draw_by(const struct way *w, u32 at, u32 length, u32 ahead)
{
    seq(SEQ_MAP_MASK, w->map_mask);
    gc(GC_SET_RESET, w->set_reset), gc(GC_ENABLE_SET_RESET, w->enable_set_reset);
    gc(GC_ROTATE, w->rotate), gc(GC_BIT_MASK, w->bit_mask);
    gc(GC_MODE, w->write_mode);
    for (u32 a = at; a < at + length; a++) {
        peek(a + ahead);
        poke(a, (u8)noise(a ^ 0x5555));
    }
}

static void draw_plainly(void)
{
    static const struct way plain = { 0, 15, 0, 0, 0, 0xff };
    draw_by(&plain, 0, 0, 0);
}

/* length bytes from to on become what reading from on gives. */
static void copy_read(u32 to, u32 from, u32 length, u8 gc_mode)
{
    for (u32 i = 0; i < length; i++) {
        gc(GC_MODE, gc_mode);
        u8 v = peek(from + i);
        gc(GC_MODE, 0);
        poke(to + i, v);
    }
}

static void planar(void)
{
    mode(0x0d), noise_planes(8000), show("mode-d", 1);
    pan(3), start(1000), show("mode-d-pan", 1);
    mode(0x0e), noise_planes(16000), show("mode-e", 1);
    mode(0x0f), noise_planes(28000), show("mode-f", 2);
    mode(0x10), noise_planes(28000), show("mode-10", 1);
    mode(0x11);
    for (u32 a = 0; a < 38400; a++)
        poke(a, (u8)noise(a));
    show("mode-11", 1);

    mode(0x12), noise_planes(38400), show("mode-12", 1);
    for (u32 i = 0; i < WAYS; i++) /* 16 lines each */
        draw_by(&ways[i], i * 1280, 1280, i & 1 ? 7 : 0);
    draw_plainly();
    show("write-modes", 1);
    for (u32 i = 0; i < 4; i++) {
        gc(GC_READ_MAP, (u8)i);
        copy_read(i * 1280, 20000 + i * 1280, 1280, 0);
    }
    for (u32 i = 0; i < 16; i++) {
        gc(GC_COLOR_COMPARE, (u8)i), gc(GC_DONT_CARE, (u8)(i < 8 ? 15 : noise(i)));
        copy_read(6400 + i * 640, 25000, 640, 8);
    }
    gc(GC_READ_MAP, 0);
    seq(SEQ_MEMORY_MODE, 2); /* even addresses: planes 0 and 2, odd ones: 1 and 3 */
    for (u32 a = 20480; a < 23040; a++)
        poke(a, (u8)noise(a));
    gc(GC_MODE, 0x10), gc(GC_MISC, 7); /* and A0 chooses nothing else */
    for (u32 a = 23040; a < 25600; a++)
        poke(a, (u8)noise(a));
    for (u32 a = 25600; a < 28160; a++) {
        u8 v = peek(a - 2560);
        poke(a, (u8)~v);
    }
    show("read-modes", 1);

    mode(0x12), noise_planes(0x10000);
    start(0x1234), show("start", 1);
    pan(5), show("pan", 1);
    row_length(50), show("row-length", 1);
    split(239, 0), show("split", 1);
    split(100, 1), show("split-unpanned", 1);
    mode(0x12), noise_planes(38400), double_scan(), show("double-scan", 1);
    split(101, 0), show("double-scan-split", 1);
    mode(0x12), noise_planes(38400);
    for (u32 i = 0; i < 16; i++)
        palette(i, i * 13 % 64);
    planes_shown(0xd), show("palette", 1);
    for (u32 i = 0; i < 256; i++)
        dac(i, (u8)(i * 3), (u8)(i ^ 0x2a), (u8)(255 - i));
    show("dac", 1);
    color_select(8, 0), show("color-select", 1);
    color_select(6, 1), show("p54", 1);
    dac_mask(0x5d), show("dac-mask", 1);
}

static void colors_256(void)
{
    mode(0x13);
    for (u32 a = 0; a < 64000; a++)
        poke(a, (u8)(a + a / 320));
    show("mode-13", 1);
    for (u32 i = 0; i < WAYS; i++)
        draw_by(&ways[i], i * 2560, 2560, i & 1 ? 13 : 0);
    draw_plainly();
    for (u32 i = 0; i < 16; i++) {
        gc(GC_COLOR_COMPARE, (u8)i);
        copy_read(56000 + i * 320, i * 640, 320, 8);
    }
    show("chain-4", 1);
    split(199, 0), pan(3), start(77), show("mode-13-split", 1);
    row_length(45), show("mode-13-row-length", 1);
    for (u32 i = 0; i < 256; i++)
        dac(i, (u8)(i | 0xc0), (u8)(i >> 2), (u8)(i * 5));
    dac_mask(0xbf), show("mode-13-dac", 1);

    mode(0x13), mode_x(), noise_planes(0x10000), show("mode-x", 1);
    for (u32 i = 0; i < WAYS; i++)
        draw_by(&ways[i], i * 800, 800, i & 1 ? 13 : 0);
    draw_plainly();
    show("mode-x-write-modes", 1);
    start(0x4321), pan(1), row_length(47), split(299, 1), show("mode-x-scroll", 1);
}

static void frame(u32 size)
{
    for (u32 a = 0; a < size; a += 4)
        pixels(a, noise(a));
}

static void vbe(void)
{
    mode(0x101), frame(640 * 480), show("vbe-101", 1);
    for (u32 i = 0; i < 256; i++)
        dac(i, (u8)noise(i), (u8)noise(i + 256), (u8)noise(i + 512));
    dac_8bit();
    for (u32 i = 0; i < 256; i++)
        dac(i, (u8)noise(i), (u8)noise(i + 256), (u8)noise(i + 512));
    show("vbe-8-bit-dac", 1);
    mode(0x102), noise_planes(60000), show("vbe-102", 1);
    mode(0x103 | LINEAR), frame(800 * 600), show("vbe-103", 1);
    mode(0x110), frame(640 * 480 * 2), show("vbe-110", 1);
    mode(0x111 | LINEAR), frame(640 * 480 * 2), show("vbe-111", 1);
    mode(0x111), frame(640 * 480 * 2), show("vbe-111-banked", 1);
    mode(0x112 | LINEAR), frame(640 * 480 * 3), show("vbe-112", 1);
    mode(0x112), frame(640 * 480 * 3), show("vbe-112-banked", 1);
    mode(0x142), frame(640 * 480 * 4), show("vbe-142", 1); /* Bochs' own number: 640x480, 32 bits */
    mode(0x142 | LINEAR), line_width(700), frame(700 * 500 * 4), show("vbe-line-width", 1);
    display_start(37, 19), show("vbe-display-start", 1);
    mode(0x101), line_width(1024), frame(1024 * 500), display_start(201, 20), show("vbe-101-panned", 1);
}

static void cases(void)
{
    text();
    cga();
    planar();
    colors_256();
    vbe();
}
