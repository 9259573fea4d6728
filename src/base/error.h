/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - how a failure reaches the person at the terminal.
 *
 * A function that can fail returns 0 or -errno. If a user sees the failure, the function also takes a `struct error *`
 * and writes one sentence there. It does so at the place where the reason is known. The sentence says what failed and
 * what to do next.
 */
#ifndef LODGE_BASE_ERROR_H
#define LODGE_BASE_ERROR_H

#include "base/base.h"

struct error {
    char text[512]; /* one line, no newline, no "lodge:" prefix */
    int code;       /* the error of the sentence, for a function that returns no number because it returns NULL */
};

/* Writes the sentence (err may be NULL) and returns -code; code > 0 is an errno value. */
int error_set(struct error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts the subject of the sentence before it, for example "nets[1]: "; returns -err->code. */
int error_about(struct error *err, const char *fmt, ...) printf_like(2, 3);

/* Puts the advice that a front end has after the sentence, for example "; say that it is raw"; returns -code, which
   is the new code of the sentence. */
int error_add(struct error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* The bytes (1 to 4) of the UTF-8 character at s, if a terminal may get the character as it is. 0: a control
   character (C0, DEL, C1), or not UTF-8. */
u32 plain_bytes(const char *s);

#endif
