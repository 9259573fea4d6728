/* SPDX-License-Identifier: Apache-2.0 */
/*
 * same_picture.c - same_picture OURS.png THEIRS [wide|loose]: is our screenshot the picture that qemu's screendump (PPM) shows, or
 * raw XRGB8888 of the same size?
 *
 * A 6-bit colour has two ways to 8 bits: the last bits of a component may differ.  wide: 40 columns of text, nine dots each
 * on a VGA and eight in QEMU, two wide: the ninth is left out.  loose: of 15-bit pixels QEMU leaves the low bits empty.
 */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *read_all(const char *path, size_t *size)
{
    unsigned char *data = malloc(64 << 20);
    FILE *f = fopen(path, "rb");

    *size = f && data ? fread(data, 1, 64 << 20, f) : 0;
    if (f)
        fclose(f);
    return data;
}

int main(int argc, char **argv)
{
    png_image ours = { .version = PNG_IMAGE_VERSION };
    size_t size, at = 0;
    int wide = argc > 3 && !strcmp(argv[3], "wide"), slack = argc > 3 && !wide ? 7 : 3, raw;
    unsigned width, height, wrong = 0, colors = 0;
    char first[4] = "";

    if (argc < 3 || !png_image_begin_read_from_file(&ours, argv[1]))
        return printf("%s: %s\n", argv[1], ours.message), 1;
    ours.format = PNG_FORMAT_RGB;
    unsigned char *mine = malloc(PNG_IMAGE_SIZE(ours)), *theirs = read_all(argv[2], &size);
    if (!mine || !theirs || !png_image_finish_read(&ours, NULL, mine, 0, NULL))
        return printf("%s: %s\n", argv[1], ours.message), 1;
    raw = size == (size_t)ours.width * ours.height * 4;
    width = ours.width, height = ours.height;
    if (!raw) {
        int n = 0;
        if (sscanf((char *)theirs, "%3s %u %u 255%n", first, &width, &height, &n) != 3 || strcmp(first, "P6"))
            return printf("%s: no picture\n", argv[2]), 1;
        at = (size_t)n + 1;
    }
    if (height != ours.height || width != (wide ? ours.width / 9 * 8 : ours.width))
        return printf("%s is %ux%u, %s %ux%u\n", argv[1], ours.width, ours.height, argv[2], width, height), 1;
    for (unsigned y = 0; y < height; y++)
        for (unsigned x = 0; x < width; x++) {
            size_t n = (size_t)y * width + x;
            const unsigned char *a = mine + ((size_t)y * ours.width + (wide ? x / 16 * 18 + x % 16 : x)) * 3;
            const unsigned char rgb[3] = { theirs[n * 4 + 2], theirs[n * 4 + 1], theirs[n * 4] };
            const unsigned char *b = raw ? rgb : theirs + at + n * 3;
            int bad = 0;
            for (int c = 0; c < 3; c++)
                bad |= abs(a[c] - b[c]) > (raw ? 0 : slack);
            if (bad && !wrong++)
                printf("%s, %s: dot %u, %u is %02x%02x%02x, not %02x%02x%02x\n", argv[1], argv[2], x, y, a[0], a[1], a[2],
                       b[0], b[1], b[2]);
            colors += n && memcmp(a, mine, 3) != 0;
        }
    if (wrong)
        printf("%u of %u dots\n", wrong, width * height);
    else if (colors < width * height / 8)
        printf("%s: a picture of nearly one colour proves nothing\n", argv[1]);
    return wrong || colors < width * height / 8;
}
