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
    while (*s) {
        const u32 n = plain_bytes(s);
        const u8 *b = (const u8 *)s;
        if (n == 1 && (*s == '"' || *s == '\\'))
            printf("\\%c", *s);
        else if (n)
            fwrite(s, 1, n, stdout);
        else if (b[0] < 0x80)
            printf("\\u%04x", b[0]);
        else if (b[0] == 0xc2 && (b[1] & 0xc0) == 0x80) /* C1 */
            printf("\\u%04x", b[1]), s++;
        else
            fputs("\\ufffd", stdout); /* JSON is UTF-8 */
        s += MAX(n, 1u);
    }
    putchar('"');
}

void print_plain(const char *s)
{
    while (*s) {
        const u32 n = plain_bytes(s);
        fwrite(n ? s : "?", 1, MAX(n, 1u), stdout);
        s += MAX(n, 1u);
    }
}
