/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - guest RAM and the one checked door to it.
 *
 * Guest RAM is one memfd, mapped once, presented as regions of guest-physical
 * space: RAM below the PCI hole, RAM above 4 GiB, ROMs.  Regions are added while
 * the VM is built and never change while it runs.
 *
 * Devices reach guest memory through memory_read/memory_write (copies) or
 * memory_ptr (a pointer, valid during the call only).  All check bounds without
 * overflow; writes mark pages dirty.  Any thread.
 */
#ifndef LODGE_MEMORY_MEMORY_H
#define LODGE_MEMORY_MEMORY_H

#include "base/base.h"
#include "base/error.h"

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096ull

enum { MEMORY_MAX_REGIONS = 16 };

struct memory_region {
    u64 gpa, size;    /* bytes, page-aligned */
    u8 *host;         /* mapped read-write in this process, page-aligned */
    u64 fd_offset;    /* where in memory_fd() it lies */
    bool readonly;    /* guest writes are dropped (ROM) */
    u64 *dirty;       /* one bit a page of this region; atomic */
    u64 *dirty_spare; /* private */
    const char *name; /* "ram", "ram-high", "bios": static string */
};

struct memory {
    u32 nregions;
    struct memory_region region[MEMORY_MAX_REGIONS]; /* sorted by gpa, disjoint */
    int fd;                                          /* the memfd */
    u64 fd_size;
    u64 top; /* first address above every region */
    /* Told of what devices wrote, after it is there; any thread. The engine's: it may have translated code from it. */
    void (*written)(void *ctx, u64 gpa, u64 len);
    void *written_ctx;
};

struct memory *memory_new(struct error *err);
void memory_free(struct memory *m);
/* Adds zeroed memory at gpa. -EINVAL unaligned or overlapping, -ENOMEM, -ENOSPC too many. */
int must_check memory_add(struct memory *m, const char *name, u64 gpa, u64 size, bool readonly, struct error *err);

/* The region that holds gpa, or NULL. */
const struct memory_region *memory_find(const struct memory *m, u64 gpa);

/* Copies that may span adjoining regions. -EFAULT if any byte is outside memory (nothing is then written). */
int must_check memory_read(const struct memory *m, u64 gpa, void *buf, u64 len);
/* memory_write refuses read-only regions with -EROFS; memory_load is for our own loaders and does not. */
int must_check memory_write(struct memory *m, u64 gpa, const void *buf, u64 len);
int must_check memory_load(struct memory *m, u64 gpa, const void *buf, u64 len);

/* len bytes at gpa within one region, or NULL. write marks them dirty and refuses read-only regions. */
void *memory_ptr(struct memory *m, u64 gpa, u64 len, bool write);

/* After writing through a pointer that memory_ptr(..., true) gave, or having the host do so: the pages are dirty (again),
   and the engine is told. */
void memory_written(struct memory *m, u64 gpa, u64 len);

/* The guest does without what is in the whole pages of [gpa, gpa + len): they read as zero and cost the host nothing until
   written again. What is no RAM is left alone. Any thread. */
void memory_discard(struct memory *m, u64 gpa, u64 len);

/* Dirty log. Pages written since the last take. Software writers set bits by memory_mark_dirty. */
static inline void memory_mark_dirty(const struct memory_region *r, u64 gpa)
{
    u64 page = (gpa - r->gpa) >> GUEST_PAGE_SHIFT, bit = 1ull << (page & 63);
    u64 *word = &r->dirty[page >> 6];
    if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
}
/* Moves region r's dirty bits into out ((pages + 63) / 64 words), clearing them. */
void memory_dirty_take(struct memory *m, u32 r, u64 *out);

#endif
