/* SPDX-License-Identifier: Apache-2.0 */
/* parse.h - numbers, sizes and words as people write them. Any thread. */
#ifndef LODGE_BASE_PARSE_H
#define LODGE_BASE_PARSE_H

#include "base/base.h"

/* The candidate nearest to word if it is near enough that the user may have meant it, else NULL. candidates ends
   with NULL. */
const char *suggest(const char *word, const char *const *candidates);

/* "512M", "2G", "1024K", "512MiB"; a plain number counts MiB, as qemu's -m does. -EINVAL, -ERANGE. */
int must_check parse_size(const char *text, u64 *bytes);
/* A decimal number from min to max. -EINVAL, -ERANGE. */
int must_check parse_number(const char *text, u64 min, u64 max, u64 *value);
/* The reverse of parse_size, in the largest unit that leaves no remainder: "512M", "100B"; returns out. */
const char *size_word(u64 bytes, char out[32]);

#endif
