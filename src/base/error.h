/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - how a failure travels to the person at the terminal.
 *
 * A function that can fail returns 0 or -errno.  One whose failure a user sees
 * also takes a `struct error *` and writes one sentence there, at the place
 * where the reason is known: what failed, and what to do next.
 */
#ifndef LODGE_BASE_ERROR_H
#define LODGE_BASE_ERROR_H

#include "base/base.h"

struct error {
    char text[512]; /* one line, no newline, no "lodge:" prefix */
    int code;       /* of the sentence, for who hands on no number: a function that returns NULL */
};

/* Writes the sentence (err may be NULL) and returns -code; code > 0 is an errno value. */
int error_set(struct error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts what the sentence is about before it, "nets[1]: "; returns -err->code. */
int error_about(struct error *err, const char *fmt, ...) printf_like(2, 3);

/* Puts what a front end knows to do about it after it, "; say that it is raw"; returns -code, the sentence's new one. */
int error_add(struct error *err, int code, const char *fmt, ...) printf_like(3, 4);

/* The bytes (1 to 4) of the UTF-8 character at s if a terminal may get it as it is; 0: control characters (C0, DEL, C1)
   and what is no UTF-8. */
u32 plain_bytes(const char *s);

#endif
