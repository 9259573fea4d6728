/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - guest memory, the addresses at which the guest sees it, and checked access to it.
 *
 * A *piece* is memory itself: RAM, the contents of a ROM, a card's frame buffer. All pieces lie in one memfd. The *place*
 * of a byte is its offset in that memfd. Pieces are made while the machine is built, before the engine's VM, and live as
 * long as the machine. So a pointer into a piece that the guest has moved away meanwhile is out of date, but harmless.
 *
 * A *region* is a range of guest-physical addresses at which the guest sees part of a piece. It may see the same bytes in
 * several regions. Regions come and go while the guest runs (PAM, BARs, flash). Any thread may call memory_map,
 * memory_remap and memory_unmap, also with a device's or the PCI bus's lock held. Regions never overlap. A change holds for
 * the vCPU that asked for it from its next instruction on. For the other vCPUs it holds from their next block on (software
 * engine) or at once (KVM).
 *
 * Addresses outside all regions belong to the MMIO bus. The guest's writes to a read-only region go to the MMIO bus, too.
 *
 * Devices reach guest memory by memory_read and memory_write, which copy, or by memory_ptr, whose pointer is valid during
 * the call only. All of them check bounds without overflow, and mark the pages that they write as dirty. Any thread may call
 * them; they never wait.
 *
 * The regions are not saved. They follow from registers (PAM, BARs, a flash's mode), and the owner of these registers maps
 * its regions again after it was loaded. The contents of all pieces are saved.
 */
#ifndef LODGE_MEMORY_MEMORY_H
#define LODGE_MEMORY_MEMORY_H

#include <pthread.h>

#include "base/base.h"
#include "base/error.h"

#define GUEST_PAGE_SHIFT 12
#define GUEST_PAGE_SIZE 4096ull

enum { MEMORY_MAX_REGIONS = 96, MEMORY_MAX_PIECES = 48 };

struct memory_piece {
    const char *name; /* "ram", "ram-high", "bios": static string */
    u8 *host;         /* mapped read-write in this process, page-aligned */
    u64 place, size;  /* of its first byte; bytes. Multiples of a page */
    bool rom;         /* no mapping of it may be written by the guest */
};

struct memory_region {
    u64 gpa, size; /* bytes, page-aligned */
    u8 *host;      /* of the byte at gpa */
    u64 place;     /* likewise */
    bool readonly;
    u32 id;        /* below MEMORY_MAX_REGIONS; its own until it is unmapped */
};

struct memory {
    u32 seq; /* odd: regions are being changed */
    u32 nregions;
    struct memory_region region[MEMORY_MAX_REGIONS]; /* largest first: most lookups end at the first or second */
    u32 npieces;
    struct memory_piece piece[MEMORY_MAX_PIECES];
    int fd;      /* the memfd */
    bool keep_mapped;
    u64 fd_size; /* places are below it */
    u64 most;    /* bytes: what the host had when this was made, and the most that there can be */
    u64 top;     /* first address above all that was ever mapped */
    u64 *dirty;  /* a bit a page, by place; atomic */
    pthread_mutex_t change;
    /* The engine's hooks. written: what devices wrote, after it is there, len bytes from place on (one piece); any
       thread: code may have been translated from it. changed: a region is gone (now is NULL), new (was is NULL), or
       shows something else from now on; called in order, after lookups find the new state. */
    void (*written)(void *ctx, u64 place, u64 len);
    void (*changed)(void *ctx, const struct memory_region *was, const struct memory_region *now);
    void *ctx;
};

struct memory *memory_new(struct error *err);
void memory_free(struct memory *m);
/* Somebody may still read and write the guest's memory after memory_free: it stays mapped as long as the process lives. */
void memory_keep_mapped(struct memory *m);

/* Zeroed memory that the guest sees nowhere yet; size is rounded up to pages. -ENOSPC too many, -E2BIG more than the host
   has. */
int must_check memory_piece(struct memory *m, struct memory_piece **out, const char *name, u64 size, bool rom,
                            struct error *err);
/* [gpa, gpa + size) shows the piece from offset on. -EINVAL not whole pages, or not in the piece; -EEXIST overlaps
   another region; -ENOSPC too many. Of a ROM, readonly is implied. */
int must_check memory_map(struct memory *m, u64 gpa, u64 size, const struct memory_piece *p, u64 offset, bool readonly);
/* The region that begins at gpa shows something else, in one step. -EINVAL: there is none, or not in the piece. */
int must_check memory_remap(struct memory *m, u64 gpa, const struct memory_piece *p, u64 offset, bool readonly);
/* The region that begins at gpa is gone; if there is none, nothing happens. */
void memory_unmap(struct memory *m, u64 gpa);
/* A piece of its own, seen at gpa. */
int must_check memory_add(struct memory *m, const char *name, u64 gpa, u64 size, bool readonly, struct error *err);

/* ---- lookups ------------------------------------------------------------ */

#define MEMORY_LOAD_(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
/* The region that holds gpa into *r; false: none. */
static inline bool memory_lookup(const struct memory *m, u64 gpa, struct memory_region *r)
{
    for (;;) {
        const u32 seq = __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE);
        const u32 n = MIN(MEMORY_LOAD_(m->nregions), (u32)MEMORY_MAX_REGIONS);
        bool found = false;
        for (u32 k = 0; k < n && !found; k++) {
            const struct memory_region *at = &m->region[k];
            r->gpa = MEMORY_LOAD_(at->gpa);
            r->size = MEMORY_LOAD_(at->size);
            if (gpa - r->gpa >= r->size)
                continue;
            r->host = MEMORY_LOAD_(at->host);
            r->place = MEMORY_LOAD_(at->place);
            r->readonly = MEMORY_LOAD_(at->readonly);
            r->id = MEMORY_LOAD_(at->id);
            found = true;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* pairs with the release in change_begin() */
        if (likely(!(seq & 1) && MEMORY_LOAD_(m->seq) == seq))
            return found;
    }
}
/* The same, and as much of what follows it as shows the bytes that follow, with the same right. */
bool memory_find(const struct memory *m, u64 gpa, struct memory_region *r);
/* Changes whenever a region does: whether one that was found before is still so. */
static inline u32 memory_generation(const struct memory *m) { return __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE); }
/* The byte at a place, and how many follow in its piece; NULL: there is none. */
u8 *memory_at(const struct memory *m, u64 place, u64 *left);

/* ---- the door ------------------------------------------------------------ */

/* Copies that may span adjoining regions. -EFAULT if any byte is outside memory (nothing is then written). */
int must_check memory_read(const struct memory *m, u64 gpa, void *buf, u64 len);
/* memory_write refuses read-only regions with -EROFS; memory_load is for our own loaders and does not. */
int must_check memory_write(struct memory *m, u64 gpa, const void *buf, u64 len);
int must_check memory_load(struct memory *m, u64 gpa, const void *buf, u64 len);

/* len bytes at gpa that lie together, or NULL. write marks them dirty and refuses read-only regions. */
void *memory_ptr(struct memory *m, u64 gpa, u64 len, bool write);

/* After writing through a pointer that memory_ptr(..., true) gave, or having the host do so: the pages are dirty (again),
   and the engine is told. */
void memory_written(struct memory *m, u64 gpa, u64 len);
/* The same by a pointer. */
void memory_host_written(struct memory *m, const void *host, u64 len);
/* The same by place: after a device wrote its own piece through piece->host, wherever the guest sees it, if at all. */
void memory_place_written(struct memory *m, u64 place, u64 len);

/* The guest does without what is in the whole pages of [gpa, gpa + len): they read as zero and cost the host nothing until
   written again. What is no RAM is left alone. Any thread. */
void memory_discard(struct memory *m, u64 gpa, u64 len);

/* Dirty log. Pages written since the last take. Software writers set bits by memory_mark_dirty. */
static inline void memory_mark_dirty(const struct memory *m, u64 place)
{
    u64 page = place >> GUEST_PAGE_SHIFT, bit = 1ull << (page & 63);
    u64 *word = &m->dirty[page >> 6];
    if (!(__atomic_load_n(word, __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
}
static inline bool memory_is_dirty(const struct memory *m, u64 place)
{
    const u64 page = place >> GUEST_PAGE_SHIFT;
    return __atomic_load_n(&m->dirty[page >> 6], __ATOMIC_RELAXED) >> (page & 63) & 1;
}
/* Moves the piece's dirty bits into out ((pages + 63) / 64 words), clearing them. */
void memory_dirty_take(struct memory *m, const struct memory_piece *p, u64 *out);

#endif
