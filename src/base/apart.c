/* SPDX-License-Identifier: Apache-2.0 */
/* apart.c - address space without neighbours. */
#include "base/apart.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>

enum { PAGE = 4096, TRIES = 64 };

/* The kernel puts nothing into this range unless asked: it fills the 128 TiB of a process from the top, and programs
   are at 85 TiB. An address sanitizer does not put its shadow there either. The range is 64 TiB, from 17 TiB on. */
static const u64 first = 0x110000000000, span = 0x400000000000;

static u64 whole(u64 size)
{
    return align_up(size, PAGE) + 2 * APART_GUARD;
}

void *apart_reserve(u64 size, u64 offset)
{
    const u64 align = size >= MiB(2) ? MiB(2) : PAGE;

    if (!size || size > span / 2) {
        errno = ENOMEM;
        return NULL;
    }
    for (unsigned n = 0; n < TRIES; n++) {
        u64 at;
        if (getrandom(&at, sizeof at, 0) != sizeof at)
            return NULL;
        at = align_up(first + at % span, align) + (offset & (align - 1)) - APART_GUARD;
        void *p = mmap((void *)at, whole(size), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                       -1, 0);
        if (p == (void *)at)
            return (u8 *)p + APART_GUARD;
        if (p != MAP_FAILED) { /* a kernel before 4.17 treats the address as a hint */
            munmap(p, whole(size));
            errno = EEXIST;
        }
        if (errno != EEXIST)
            return NULL;
    }
    errno = ENOMEM;
    return NULL;
}

void *apart_alloc(u64 size)
{
    void *p = apart_reserve(size, 0);

    if (p && mprotect(p, align_up(size, PAGE), PROT_READ | PROT_WRITE) < 0) {
        const int e = errno;
        apart_free(p, size);
        errno = e;
        return NULL;
    }
    /* Lookups in tables of this size are at random places. */
    if (p && size >= MiB(2))
        (void)madvise(p, size, MADV_HUGEPAGE);
    return p;
}

void apart_free(void *p, u64 size)
{
    if (p)
        munmap((u8 *)p - APART_GUARD, whole(size));
}
