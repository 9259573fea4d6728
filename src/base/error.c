/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - writes the sentence of a failure.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof(err->text), fmt, ap);
        va_end(ap);
        /* The text may quote file names and guest data: whatever they hold, it stays one line of the terminal. */
        for (char *p = err->text; *p; p++)
            if ((unsigned char)*p < ' ' || *p == 0x7f)
                *p = '?';
    }
    return -code;
}
