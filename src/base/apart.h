/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apart.h - address space without neighbours: a piece at a random place, with pages on both sides that fault.
 *
 * Such a piece holds the memory that a guest's accesses are aimed at. It also holds memory that a stray access must not
 * reach, such as generated code. Generated code is mapped twice: at one place to be written, at the other to be
 * executed. If the distance between the two places were constant, a relative write from one to the other would write
 * code.
 */
#ifndef LODGE_BASE_APART_H
#define LODGE_BASE_APART_H

#include "base/base.h"

enum { APART_GUARD = 64 << 10 }; /* bytes on each side */

/*
 * Nothing may be accessed in the piece yet: the caller uses mprotect, or mmap with MAP_FIXED over it. size is rounded
 * up to pages. If size is 2 MiB or more, the address modulo 2 MiB is that of offset. offset is the place in a file that
 * will be mapped there, so that huge pages fit. NULL: errno says why.
 */
void *apart_reserve(u64 size, u64 offset);
/* The same, but the piece is private zeroes that may be read and written. They cost nothing before they are touched. */
void *apart_alloc(u64 size);
/* Works whatever is mapped there now. NULL: does nothing. */
void apart_free(void *p, u64 size);

#endif
