/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - guest memory: one memfd, one mapping for each piece, and one bitmap of dirty pages. map.c says where the guest
 * sees it.
 *
 * A snapshot copies the memfd, and another process can map it. It is sparse, so memory that the guest never touched costs
 * nothing. The mappings are made with MAP_NORESERVE: a VM may be given more memory than is free now, as any process may. It
 * may never be given more than the host has, since that could only end in the OOM killer.
 */
#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/apart.h"

enum { MOST_SHIFT = 46 }; /* places have at most this many bits, as the addresses of today's processors have */
#define PIECE_ALIGN (64 * GUEST_PAGE_SIZE) /* a piece's dirty bits are whole words */

static u64 host_ram(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? MIN((u64)pages * (u64)size, 1ull << MOST_SHIFT) : 1ull << MOST_SHIFT;
}

static u64 bitmap_bytes(u64 size)
{
    return ((size >> GUEST_PAGE_SHIFT) + 63) / 64 * sizeof(u64);
}

struct memory *memory_new(struct error *err)
{
    struct memory *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    m->most = host_ram();
    m->fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Another process that gets the descriptor cannot take away memory that is mapped here. */
    if (m->fd >= 0 && fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK)) {
        close(m->fd);
        m->fd = -1;
    }
    if (m->fd < 0) {
        error_set(err, errno, "cannot create guest memory (memfd_create): %s", strerror(errno));
        free(m);
        return NULL;
    }
    m->dirty = mmap(NULL, bitmap_bytes(m->most), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    if (m->dirty == MAP_FAILED) {
        error_set(err, ENOMEM, "cannot map the dirty log of guest memory");
        close(m->fd);
        free(m);
        return NULL;
    }
    pthread_mutex_init(&m->change, NULL);
    return m;
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    for (u32 i = 0; i < m->npieces; i++)
        apart_free(m->piece[i].host, m->piece[i].size);
    munmap(m->dirty, bitmap_bytes(m->most));
    pthread_mutex_destroy(&m->change);
    close(m->fd);
    free(m);
}

void memory_complete(struct memory *m)
{
    (void)fcntl(m->fd, F_ADD_SEALS, F_SEAL_GROW); /* one more lock on the door of the helpers that have it */
}

int memory_piece(struct memory *m, struct memory_piece **out, const char *name, u64 size, bool rom, struct error *err)
{
    const u64 place = align_up(m->fd_size, PIECE_ALIGN);
    u64 end;

    if (!size || m->npieces == MEMORY_MAX_PIECES)
        return error_set(err, ENOSPC, "guest memory %s: empty, or more than %d pieces", name, MEMORY_MAX_PIECES);
    size = align_up(MIN(size, UINT64_MAX - GUEST_PAGE_SIZE), GUEST_PAGE_SIZE);
    if (add_overflows(place, size, &end) || end > m->most)
        return error_set(err, E2BIG,
                         "the guest's memory (%llu MiB) is more than this host has (%llu MiB); give it less",
                         (unsigned long long)((m->fd_size + size) >> 20), (unsigned long long)(m->most >> 20));
    if (ftruncate(m->fd, (off_t)end) < 0 && errno == EFBIG) /* RLIMIT_FSIZE holds for a file in memory, too */
        return error_set(err, EFBIG,
                         "the guest's memory (%llu MiB) is more than the limit on the size of files (ulimit -f) lets it be; "
                         "raise that, or give it less memory", (unsigned long long)(end >> 20));
    else if (ftruncate(m->fd, (off_t)end) < 0)
        return error_set(err, errno, "cannot size guest memory to %llu MiB: %s", (unsigned long long)(end >> 20),
                         strerror(errno));
    u8 *host = apart_reserve(size, place);
    if (!host || mmap(host, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, m->fd, (off_t)place) != host) {
        const int e = errno;
        apart_free(host, size);
        return error_set(err, e, "cannot map %llu MiB of guest memory: %s", (unsigned long long)(size >> 20),
                         strerror(e));
    }
    /* This is only advice. It helps on a host that allows huge pages in shared memory; others refuse it. */
    if (size >= MiB(2))
        (void)madvise(host, size, MADV_HUGEPAGE);
    m->fd_size = end;
    *out = &m->piece[m->npieces++];
    **out = (struct memory_piece){ .name = name, .host = host, .place = place, .size = size, .rom = rom };
    return 0;
}

u8 *memory_at(const struct memory *m, u64 place, u64 *left)
{
    for (u32 i = 0; i < m->npieces; i++) {
        const struct memory_piece *p = &m->piece[i];
        if (place - p->place < p->size) {
            *left = p->size - (place - p->place);
            return p->host + (place - p->place);
        }
    }
    return NULL;
}

bool memory_place_of(const struct memory *m, const void *host, u64 *place)
{
    for (u32 i = 0; i < m->npieces; i++) {
        const struct memory_piece *p = &m->piece[i];
        const u64 offset = (u64)host - (u64)p->host;
        if (offset < p->size) {
            *place = p->place + offset;
            return true;
        }
    }
    return false;
}

/* Returns 0 if all of [gpa, gpa + len) is memory and, with writable, none of it is read-only. */
static int check(const struct memory *m, u64 gpa, u64 len, bool writable)
{
    u64 end;
    if (add_overflows(gpa, len, &end))
        return -EFAULT;
    while (gpa < end) {
        struct memory_region r;
        if (!memory_lookup(m, gpa, &r))
            return -EFAULT;
        if (writable && r.readonly)
            return -EROFS;
        gpa = r.gpa + r.size;
    }
    return 0;
}

int memory_read(const struct memory *m, u64 gpa, void *buf, u64 len)
{
    int rc = check(m, gpa, len, false);
    struct memory_region r;
    for (u8 *to = buf; !rc && len;) {
        if (!memory_lookup(m, gpa, &r)) /* gone meanwhile */
            return -EFAULT;
        u64 n = MIN(len, r.gpa + r.size - gpa);
        memcpy(to, r.host + (gpa - r.gpa), n);
        gpa += n, to += n, len -= n;
    }
    return rc;
}

void memory_place_written(struct memory *m, u64 place, u64 len)
{
    for (u64 p = align_down(place, GUEST_PAGE_SIZE); p < place + len; p += GUEST_PAGE_SIZE)
        memory_mark_dirty(m, p);
    if (m->written && len)
        m->written(m->ctx, place, len);
}

static int copy_in(struct memory *m, u64 gpa, const void *buf, u64 len, bool load)
{
    struct memory_region r;
    int rc = check(m, gpa, len, !load);
    for (const u8 *from = buf; !rc && len;) {
        if (!memory_lookup(m, gpa, &r) || (r.readonly && !load)) /* changed meanwhile */
            return -EFAULT;
        u64 n = MIN(len, r.gpa + r.size - gpa);
        memcpy(r.host + (gpa - r.gpa), from, n);
        memory_place_written(m, r.place + (gpa - r.gpa), n);
        gpa += n, from += n, len -= n;
    }
    return rc;
}

void memory_written(struct memory *m, u64 gpa, u64 len)
{
    struct memory_region r;
    while (len && memory_lookup(m, gpa, &r)) {
        const u64 n = MIN(len, r.gpa + r.size - gpa);
        memory_place_written(m, r.place + (gpa - r.gpa), n);
        gpa += n, len -= n;
    }
}

void memory_host_written(struct memory *m, const void *host, u64 len)
{
    u64 place, left;
    if (memory_place_of(m, host, &place) && memory_at(m, place, &left))
        memory_place_written(m, place, MIN(len, left));
}

int memory_write(struct memory *m, u64 gpa, const void *buf, u64 len)
{
    return copy_in(m, gpa, buf, len, false);
}

int memory_load(struct memory *m, u64 gpa, const void *buf, u64 len)
{
    return copy_in(m, gpa, buf, len, true);
}

void *memory_ptr(struct memory *m, u64 gpa, u64 len, bool write)
{
    struct memory_region r;
    if (!memory_find(m, gpa, &r) || len > r.gpa + r.size - gpa || (write && r.readonly))
        return NULL;
    const u64 place = r.place + (gpa - r.gpa);
    for (u64 p = align_down(place, GUEST_PAGE_SIZE); write && p < place + len; p += GUEST_PAGE_SIZE)
        memory_mark_dirty(m, p);
    return r.host + (gpa - r.gpa);
}

void memory_discard(struct memory *m, u64 gpa, u64 len)
{
    u64 end;
    if (add_overflows(gpa, len, &end) || gpa > UINT64_MAX - GUEST_PAGE_SIZE)
        return;
    gpa = align_up(gpa, GUEST_PAGE_SIZE);
    end = align_down(end, GUEST_PAGE_SIZE);
    while (gpa < end) {
        struct memory_region r;
        if (!memory_lookup(m, gpa, &r))
            return;
        const u64 n = MIN(end, r.gpa + r.size) - gpa, place = r.place + (gpa - r.gpa);
        if (!r.readonly && !fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)place, (off_t)n))
            memory_place_written(m, place, n);
        gpa += n;
    }
}

void memory_dirty_take(struct memory *m, const struct memory_piece *p, u64 *out)
{
    u64 words = bitmap_bytes(p->size) / sizeof(u64);
    u64 *dirty = m->dirty + (p->place >> GUEST_PAGE_SHIFT) / 64;
    for (u64 i = 0; i < words; i++) /* acquire: pairs with the release in memory_mark_dirty */
        out[i] = __atomic_load_n(&dirty[i], __ATOMIC_RELAXED) ? __atomic_exchange_n(&dirty[i], 0, __ATOMIC_ACQUIRE) : 0;
}
