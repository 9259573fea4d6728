/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - the file of an image, for file.c, file_open.c and lock.c.
 */
#ifndef LODGE_BLOCK_FILE_H
#define LODGE_BLOCK_FILE_H

#include <sys/stat.h>

#include "block/aio.h"

enum { PAGE = 4096 };

struct file {
    struct aio *aio;
    char *path;
    int fd;     /* goes through the page cache; holds the lock */
    int direct; /* O_DIRECT, or -1 */
    u32 memory_align, offset_align; /* O_DIRECT wants these: powers of two */
    u32 best_align;                 /* the size of a physical sector, or the file system's block */
    bool readonly, device, created, locked;
    dev_t dev;
    ino_t ino;
    int lost; /* atomic. -errno: a flush failed; data that should be on disk may not be there, and no flush succeeds
                 any more */
    u32 writes;                             /* writes by O_DIRECT that are under way */
    bool alone;                             /* a misaligned write is under way */
    struct aio_work *waiting, **waiting_last; /* file_io that wait for one of these two to end */
};

/* lock.c: takes the locks of a writer, or of a reader. If it fails, err says who has the image. */
int must_check file_lock(struct file *f, bool writer, struct error *err);

/* file_open.c */
u32 file_alignment(const struct file *f); /* for block.alignment */

#endif
