/* SPDX-License-Identifier: Apache-2.0 */
/* same_picture.c - same_picture OURS.png RAW: is the screenshot what RAW says, XRGB8888, line after line? */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    png_image image = { .version = PNG_IMAGE_VERSION };
    unsigned wrong = 0;

    if (argc != 3 || !png_image_begin_read_from_file(&image, argv[1]))
        return printf("%s: %s\n", argv[1], image.message), 1;
    image.format = PNG_FORMAT_RGB;
    const size_t dots = (size_t)image.width * image.height;
    unsigned char *ours = malloc(PNG_IMAGE_SIZE(image)), *raw = malloc(dots * 4 + 1);
    FILE *f = fopen(argv[2], "rb");
    if (!ours || !raw || !png_image_finish_read(&image, NULL, ours, 0, NULL))
        return printf("%s: %s\n", argv[1], image.message), 1;
    if (!f || fread(raw, 1, dots * 4 + 1, f) != dots * 4)
        return printf("%s is not of %ux%u dots\n", argv[2], image.width, image.height), 1;
    for (size_t n = 0; n < dots; n++) {
        const unsigned char *a = ours + n * 3, *b = raw + n * 4;
        if ((a[0] != b[2] || a[1] != b[1] || a[2] != b[0]) && !wrong++)
            printf("dot %zu, %zu is %02x%02x%02x, not %02x%02x%02x\n", n % image.width, n / image.width, a[0], a[1], a[2], b[2], b[1], b[0]);
    }
    if (wrong)
        printf("%u of %zu dots\n", wrong, dots);
    return wrong != 0;
}
