/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apart.h - address space that has no neighbours: a piece at a random place, with pages that fault on both sides. For what
 * a guest's accesses are aimed at, and for what must not be in reach of one that goes astray: generated code, where it is
 * written and where it is executed, is twice the same bytes, so that a relative write from one place to the other, were it
 * a constant, would be code.
 */
#ifndef LODGE_BASE_APART_H
#define LODGE_BASE_APART_H

#include "base/base.h"

enum { APART_GUARD = 64 << 10 }; /* bytes on each side */

/*
 * Nothing may be accessed in it yet (mprotect, or mmap with MAP_FIXED over it). size: rounded up to pages. From 2 MiB on the
 * address is, modulo 2 MiB, offset: where in a file it will be mapped from, so that huge pages fit. NULL: errno says why.
 */
void *apart_reserve(u64 size, u64 offset);
/* The same, private zeroes to read and write, which cost nothing before they are touched. */
void *apart_alloc(u64 size);
/* Whatever is mapped there now. NULL: nothing. */
void apart_free(void *p, u64 size);

#endif
