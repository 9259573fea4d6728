/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - an image's file, for file.c, file_open.c and lock.c.
 */
#ifndef LODGE_BLOCK_FILE_H
#define LODGE_BLOCK_FILE_H

#include <sys/stat.h>

#include "block/aio.h"

enum { PAGE = 4096 };

struct file {
    struct aio *aio;
    char *path;
    int fd;     /* through the page cache; holds the lock */
    int direct; /* O_DIRECT, or -1 */
    u32 memory_align, offset_align; /* what O_DIRECT wants: powers of two */
    u32 best_align;                 /* physical sectors, or the file system's block */
    bool readonly, device, created, locked;
    dev_t dev;
    ino_t ino;
    int lost; /* atomic. -errno: a flush failed; what was to be on disk may not be, and no flush succeeds any more */
    u32 writes;                             /* by O_DIRECT, under way */
    bool alone;                             /* a misaligned write is under way */
    struct aio_work *waiting, **waiting_last; /* file_io that wait for one or the other */
};

/* lock.c: takes the locks of a writer, or of a reader. On failure says who has the image. */
int must_check file_lock(struct file *f, bool writer, struct error *err);

/* file_open.c */
u32 file_alignment(const struct file *f); /* for block.alignment */

#endif
