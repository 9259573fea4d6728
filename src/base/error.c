/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - writes the sentence of a failure.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

u32 plain_bytes(const char *s)
{
    const u8 *b = (const u8 *)s;
    const u32 n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;

    for (u32 i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) /* the end of the string, too */
            return 0;
    if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] >= 0xa0) || (b[0] == 0xf0 && b[1] < 0x90) ||
        (b[0] == 0xf4 && b[1] >= 0x90))
        return 0; /* longer than necessary, surrogates, above 10FFFFh */
    return b[0] < ' ' || b[0] == 0x7f || (b[0] == 0xc2 && b[1] < 0xa0) ? 0 : n;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        /* The text may quote file names and guest data. Whatever these contain, the text stays one line of the
           terminal. */
        for (char *p = err->text; *p;) {
            const u32 n = plain_bytes(p);
            if (!n)
                *p = '?';
            p += MAX(n, 1u);
        }
    }
    return -code;
}

int error_about(struct error *err, const char *fmt, ...)
{
    char about[sizeof err->text], sentence[sizeof err->text];
    va_list ap;

    memcpy(sentence, err->text, sizeof sentence);
    va_start(ap, fmt);
    vsnprintf(about, sizeof about, fmt, ap);
    va_end(ap);
    return error_set(err, err->code, "%s: %s", about, sentence);
}

int error_add(struct error *err, int code, const char *fmt, ...)
{
    char more[sizeof err->text], sentence[sizeof err->text];
    va_list ap;

    memcpy(sentence, err->text, sizeof sentence);
    va_start(ap, fmt);
    vsnprintf(more, sizeof more, fmt, ap);
    va_end(ap);
    return error_set(err, code, "%s%s", sentence, more);
}
