/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.c - guest RAM: one memfd, one mapping a region, one bitmap of dirty pages a region.
 *
 * The memfd is what a snapshot copies and what another process can map; it is sparse, so memory the
 * guest never touched costs nothing.  MAP_NORESERVE: a VM may be given more than is free now, as any
 * process may, but never more than the host has: that could only end in the OOM killer.
 */
#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static u64 host_ram(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (u64)pages * (u64)size : UINT64_MAX;
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
    m->fd = memfd_create("guest-ram", MFD_CLOEXEC);
    if (m->fd < 0) {
        error_set(err, errno, "cannot create guest memory (memfd_create): %s", strerror(errno));
        free(m);
        return NULL;
    }
    return m;
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    for (u32 i = 0; i < m->nregions; i++) {
        munmap(m->region[i].host, m->region[i].size);
        munmap(m->region[i].dirty, bitmap_bytes(m->region[i].size));
    }
    close(m->fd);
    free(m);
}

static void *map_bitmap(u64 size)
{
    void *p =
        mmap(NULL, bitmap_bytes(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int memory_add(struct memory *m, const char *name, u64 gpa, u64 size, bool readonly, struct error *err)
{
    u64 end, fd_end;
    u32 at = 0;

    if (!size || (gpa | size) % GUEST_PAGE_SIZE || add_overflows(gpa, size, &end))
        return error_set(err, EINVAL, "guest memory %s: %llu bytes at 0x%llx is not a range of whole pages", name,
                         (unsigned long long)size, (unsigned long long)gpa);
    if (m->nregions == MEMORY_MAX_REGIONS)
        return error_set(err, ENOSPC, "guest memory %s: more than %d regions", name, MEMORY_MAX_REGIONS);
    for (; at < m->nregions && m->region[at].gpa < gpa; at++)
        ;
    if ((at < m->nregions && m->region[at].gpa < end) ||
        (at > 0 && m->region[at - 1].gpa + m->region[at - 1].size > gpa))
        return error_set(err, EINVAL, "guest memory %s: overlaps another region", name);
    if (add_overflows(m->fd_size, size, &fd_end) || fd_end > host_ram())
        return error_set(err, ENOMEM,
                         "the guest's memory (%llu MiB) is more than this host has (%llu MiB); give less with --memory",
                         (unsigned long long)((m->fd_size + size) >> 20), (unsigned long long)(host_ram() >> 20));

    if (ftruncate(m->fd, (off_t)fd_end) < 0)
        return error_set(err, errno, "cannot size guest memory to %llu MiB: %s", (unsigned long long)(fd_end >> 20),
                         strerror(errno));
    u8 *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, (off_t)m->fd_size);
    if (host == MAP_FAILED)
        return error_set(err, errno, "cannot map %llu MiB of guest memory: %s", (unsigned long long)(size >> 20),
                         strerror(errno));
    /* Only advice: helps where the host allows huge pages in shared memory, refused elsewhere. */
    if (size >= MiB(2))
        (void)madvise(host, size, MADV_HUGEPAGE);
    u64 *dirty = map_bitmap(size);
    if (!dirty) {
        munmap(host, size);
        return error_set(err, ENOMEM, "cannot map the dirty log of guest memory");
    }

    memmove(&m->region[at + 1], &m->region[at], (m->nregions - at) * sizeof m->region[0]);
    m->region[at] = (struct memory_region){
        .gpa = gpa,
        .size = size,
        .host = host,
        .fd_offset = m->fd_size,
        .readonly = readonly,
        .dirty = dirty,
        .name = name,
    };
    m->nregions++;
    m->fd_size = fd_end;
    m->top = MAX(m->top, end);
    return 0;
}

const struct memory_region *memory_find(const struct memory *m, u64 gpa)
{
    for (u32 i = 0; i < m->nregions; i++) {
        const struct memory_region *r = &m->region[i];
        if (gpa - r->gpa < r->size)
            return r;
    }
    return NULL;
}

/* 0 if [gpa, gpa + len) is all memory; writable: and none of it read-only. */
static int check(const struct memory *m, u64 gpa, u64 len, bool writable)
{
    u64 end;
    if (add_overflows(gpa, len, &end))
        return -EFAULT;
    while (gpa < end) {
        const struct memory_region *r = memory_find(m, gpa);
        if (!r)
            return -EFAULT;
        if (writable && r->readonly)
            return -EROFS;
        gpa = r->gpa + r->size;
    }
    return 0;
}

static void mark_range(const struct memory_region *r, u64 gpa, u64 len)
{
    for (u64 p = align_down(gpa, GUEST_PAGE_SIZE); p < gpa + len; p += GUEST_PAGE_SIZE)
        memory_mark_dirty(r, p);
}

int memory_read(const struct memory *m, u64 gpa, void *buf, u64 len)
{
    int rc = check(m, gpa, len, false);
    for (u8 *to = buf; !rc && len;) {
        const struct memory_region *r = memory_find(m, gpa);
        u64 n = MIN(len, r->gpa + r->size - gpa);
        memcpy(to, r->host + (gpa - r->gpa), n);
        gpa += n, to += n, len -= n;
    }
    return rc;
}

static void copy_in(struct memory *m, u64 gpa, const void *buf, u64 len)
{
    for (const u8 *from = buf; len;) {
        const struct memory_region *r = memory_find(m, gpa);
        u64 n = MIN(len, r->gpa + r->size - gpa);
        memcpy(r->host + (gpa - r->gpa), from, n);
        mark_range(r, gpa, n);
        if (m->written)
            m->written(m->written_ctx, gpa, n);
        gpa += n, from += n, len -= n;
    }
}

void memory_written(struct memory *m, u64 gpa, u64 len)
{
    const struct memory_region *r = memory_find(m, gpa);
    if (!r || !len)
        return;
    mark_range(r, gpa, MIN(len, r->gpa + r->size - gpa));
    if (m->written)
        m->written(m->written_ctx, gpa, len);
}

int memory_write(struct memory *m, u64 gpa, const void *buf, u64 len)
{
    int rc = check(m, gpa, len, true);
    if (!rc)
        copy_in(m, gpa, buf, len);
    return rc;
}

int memory_load(struct memory *m, u64 gpa, const void *buf, u64 len)
{
    int rc = check(m, gpa, len, false);
    if (!rc)
        copy_in(m, gpa, buf, len);
    return rc;
}

void *memory_ptr(struct memory *m, u64 gpa, u64 len, bool write)
{
    const struct memory_region *r = memory_find(m, gpa);
    if (!r || len > r->gpa + r->size - gpa || (write && r->readonly))
        return NULL;
    if (write)
        mark_range(r, gpa, len);
    return r->host + (gpa - r->gpa);
}

void memory_discard(struct memory *m, u64 gpa, u64 len)
{
    u64 end;
    if (add_overflows(gpa, len, &end) || gpa > UINT64_MAX - GUEST_PAGE_SIZE)
        return;
    gpa = align_up(gpa, GUEST_PAGE_SIZE);
    end = align_down(end, GUEST_PAGE_SIZE);
    while (gpa < end) {
        const struct memory_region *r = memory_find(m, gpa);
        if (!r)
            return;
        const u64 n = MIN(end, r->gpa + r->size) - gpa;
        if (!r->readonly && !fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       (off_t)(r->fd_offset + (gpa - r->gpa)), (off_t)n))
            memory_written(m, gpa, n);
        gpa += n;
    }
}

void memory_dirty_take(struct memory *m, u32 r, u64 *out)
{
    u64 words = bitmap_bytes(m->region[r].size) / sizeof(u64);
    u64 *dirty = m->region[r].dirty;
    for (u64 i = 0; i < words; i++) /* acquire: pairs with the release in memory_mark_dirty */
        out[i] = __atomic_load_n(&dirty[i], __ATOMIC_RELAXED) ? __atomic_exchange_n(&dirty[i], 0, __ATOMIC_ACQUIRE) : 0;
}
