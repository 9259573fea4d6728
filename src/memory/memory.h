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
    u64 place, size;  /* the place of its first byte; its size in bytes. Both are multiples of a page */
    bool rom;         /* the guest may write to no region that shows it */
};

struct memory_region {
    u64 gpa, size; /* bytes, page-aligned */
    u8 *host;      /* where the byte at gpa is in this process */
    u64 place;     /* its place */
    bool readonly;
    u32 id;        /* below MEMORY_MAX_REGIONS; no other region has it before this one is unmapped */
};

struct memory {
    u32 seq; /* odd: regions are being changed */
    u32 nregions;
    struct memory_region region[MEMORY_MAX_REGIONS]; /* largest first: most lookups end at the first or second */
    u32 npieces;
    struct memory_piece piece[MEMORY_MAX_PIECES];
    int fd;      /* the memfd; helper processes map it, too, and say what they wrote */
    u64 fd_size; /* places are below it */
    u64 most;    /* the bytes of RAM that the host had when this was made (at most 2^46); all places are below it */
    u64 top;     /* first address above all regions that there ever were */
    u64 *dirty;  /* one bit for each page, in the order of places; accessed atomically */
    pthread_mutex_t change;
    /* The engine's hooks. written is called on any thread, after a device has written len bytes from place on (in one
       piece): code may have been translated from them. changed is called when a region is gone (now is NULL), is new (was
       is NULL), or shows something else from now on. It is called in the order of the changes, when lookups find the new
       state already. */
    void (*written)(void *ctx, u64 place, u64 len);
    void (*changed)(void *ctx, const struct memory_region *was, const struct memory_region *now);
    void *ctx;
};

struct memory *memory_new(struct error *err);
void memory_free(struct memory *m);
/* To be called when all pieces are made: from now on nobody who has the memfd can make it larger. */
void memory_complete(struct memory *m);

/* Makes zeroed memory that the guest sees nowhere yet. size is rounded up to pages. -ENOSPC: size is 0, or there are too
   many pieces. -E2BIG: it is more than the host has. -EFBIG: it is more than RLIMIT_FSIZE allows. */
int must_check memory_piece(struct memory *m, struct memory_piece **out, const char *name, u64 size, bool rom,
                            struct error *err);
/* From now on [gpa, gpa + size) shows the piece from offset on. A region of a ROM is always read-only. -EINVAL: these are
   not whole pages, or not all in the piece. -EEXIST: another region overlaps. -ENOSPC: there are too many regions. */
int must_check memory_map(struct memory *m, u64 gpa, u64 size, const struct memory_piece *p, u64 offset, bool readonly);
/* The region that begins at gpa shows another part of memory from now on; nobody sees a state in between. -EINVAL: no region
   begins there, or the part is not in the piece. */
int must_check memory_remap(struct memory *m, u64 gpa, const struct memory_piece *p, u64 offset, bool readonly);
/* Removes the region that begins at gpa, if there is one. */
void memory_unmap(struct memory *m, u64 gpa);
/* Makes a piece and a region at gpa that shows all of it. */
int must_check memory_add(struct memory *m, const char *name, u64 gpa, u64 size, bool readonly, struct error *err);

/* ---- lookups ------------------------------------------------------------ */

#define MEMORY_LOAD_(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
/* Puts the region that gpa is in into *r. False: gpa is in no region. */
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
/* The same. If the next regions go on with the bytes that follow in the piece, and are as writable, *r includes them. */
bool memory_find(const struct memory *m, u64 gpa, struct memory_region *r);
/* This number changes whenever a region does. While it stays the same, a region that was found is still right. */
static inline u32 memory_generation(const struct memory *m) { return __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE); }
/* A pointer to the byte at a place, and in *left how many bytes of its piece there are from it on. NULL: no such place. */
u8 *memory_at(const struct memory *m, u64 place, u64 *left);
/* The other way: finds the place of the byte that a pointer into a piece leads to. False: it leads into none. */
bool memory_place_of(const struct memory *m, const void *host, u64 *place);

/* ---- checked access ------------------------------------------------------ */

/* They copy, also over several regions without a gap between them. -EFAULT: a byte is outside all regions, and nothing was
   copied; or the regions changed meanwhile, and some bytes may have been copied. */
int must_check memory_read(const struct memory *m, u64 gpa, void *buf, u64 len);
/* memory_write refuses read-only regions with -EROFS. memory_load, which is for our own loaders, writes to them. */
int must_check memory_write(struct memory *m, u64 gpa, const void *buf, u64 len);
int must_check memory_load(struct memory *m, u64 gpa, const void *buf, u64 len);

/* A pointer to len bytes at gpa, or NULL if they are not all there or do not lie together in this process. With write, their
   pages are marked as dirty, and read-only regions are refused. */
void *memory_ptr(struct memory *m, u64 gpa, u64 len, bool write);

/* To be called after this process, or the host for it, has written through a pointer of memory_ptr(..., true): marks the
   pages as dirty once more, and tells the engine. */
void memory_written(struct memory *m, u64 gpa, u64 len);
/* The same, for bytes that are given by that pointer. */
void memory_host_written(struct memory *m, const void *host, u64 len);
/* The same by place, for a device that wrote to its own piece through piece->host. The guest need not see it anywhere. */
void memory_place_written(struct memory *m, u64 place, u64 len);

/* The guest no longer needs the contents of the pages that lie wholly in [gpa, gpa + len). They read as zero from now on,
   and take no memory of the host's until they are written again. Read-only regions stay as they are, and so does all that
   lies behind the first page that is in no region. Any thread may call it. */
void memory_discard(struct memory *m, u64 gpa, u64 len);

/* The dirty log: the pages that were written since the last memory_dirty_take. Code that writes to guest memory calls
   memory_mark_dirty. */
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
/* Copies the dirty bits of a piece to out ((pages + 63) / 64 words), and clears them. */
void memory_dirty_take(struct memory *m, const struct memory_piece *p, u64 *out);

#endif
