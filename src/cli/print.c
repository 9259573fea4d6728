/* SPDX-License-Identifier: Apache-2.0 */
/*
 * print.c - strings and sizes on standard output.
 */
#include <stdio.h>

#include "cli/cli.h"

const char *size_text(u64 bytes, char out[32])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double v = (double)bytes;
    u32 i = 0;

    for (; v >= 1000 && i < ARRAY_SIZE(units) - 1; i++)
        v /= 1024;
    snprintf(out, 32, "%.3g %s", v, units[i]);
    return out;
}

void json_quoted(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < ' ' || *s == 0x7f)
            printf("\\u%04x", (unsigned char)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

void print_plain(const char *s)
{
    for (; *s; s++)
        putchar((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s);
}
