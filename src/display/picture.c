/* SPDX-License-Identifier: Apache-2.0 */
/* picture.c - see picture.h. */
#include "display/picture.h"

#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

struct buffer {
    u8 *data;
    size_t size, max;
};

static void append(png_structp png, png_bytep data, png_size_t len)
{
    struct buffer *b = png_get_io_ptr(png);
    if (len > b->max - b->size) {
        b->max = MAX(2 * b->max, b->size + len + 65536);
        u8 *more = realloc(b->data, b->max);
        if (!more)
            png_error(png, "memory");
        b->data = more;
    }
    memcpy(b->data + b->size, data, len);
    b->size += len;
}

static void flush(png_structp png) { (void)png; }

static void failed(png_structp png, png_const_charp what) { longjmp(png_jmpbuf(png), 1); }
static void ignored(png_structp png, png_const_charp what) { (void)png; }

int picture_png(const u32 *pixels, u32 width, u32 height, u8 **out, size_t *size)
{
    struct buffer b = { 0 };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, failed, ignored);
    png_infop info = png ? png_create_info_struct(png) : NULL;

    if (!info || setjmp(png_jmpbuf(png))) {
        png_destroy_write_struct(&png, &info);
        free(b.data);
        return -ENOMEM;
    }
    png_set_write_fn(png, &b, append, flush);
    png_set_compression_level(png, 3); /* screens are simple; a higher level takes time and gains little */
    png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_set_filler(png, 0, PNG_FILLER_AFTER);
    png_set_bgr(png);
    for (u32 y = 0; y < height; y++)
        png_write_row(png, (png_const_bytep)(pixels + (size_t)y * width));
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    *out = b.data;
    *size = b.size;
    return 0;
}

/* Code page 437 as VGA's font draws it, for characters outside of 20h..7Eh. */
static const u16 low[32] = {
    ' ',    0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
    0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const u16 high[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5,
    0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
    0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
    0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510,
    0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567,
    0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
    0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229,
    0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, ' ',
};

char *picture_text(const struct display_text *t)
{
    char *text = malloc((size_t)t->rows * (t->columns * 3 + 1) + 1), *to = text;
    if (!text)
        return NULL;
    for (u32 y = 0; y < t->rows; y++) {
        char *end = to;
        for (u32 x = 0; x < t->columns; x++) {
            const u8 c = (u8)t->cell[y * t->columns + x].character;
            const u32 u = c < 0x20 ? low[c] : c == 0x7f ? 0x2302u : c < 0x80 ? c : high[c - 0x80];
            if (u < 0x80) {
                *to++ = (char)u;
            } else if (u < 0x800) {
                *to++ = (char)(0xc0 | u >> 6);
                *to++ = (char)(0x80 | (u & 63));
            } else {
                *to++ = (char)(0xe0 | u >> 12);
                *to++ = (char)(0x80 | (u >> 6 & 63));
                *to++ = (char)(0x80 | (u & 63));
            }
            if (u != ' ')
                end = to;
        }
        to = end;
        *to++ = '\n';
    }
    *to = 0;
    return text;
}
