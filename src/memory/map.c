/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c - the table of regions, which says where the guest sees which part of memory. It is changed in place, under a
 * sequence lock. Readers (memory_lookup) write nothing and never wait for one another. A guest that changes its regions
 * again and again uses up no memory.
 */
#include <errno.h>
#include <string.h>

#include "memory/memory.h"

#define STORE(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELAXED)

/* Copies word by word, and each word atomically, because a reader may look at it at the same time. */
static void put(struct memory_region *to, const struct memory_region *from)
{
    STORE(to->gpa, from->gpa);
    STORE(to->size, from->size);
    STORE(to->host, from->host);
    STORE(to->place, from->place);
    STORE(to->readonly, from->readonly);
    STORE(to->id, from->id);
}

static void change_begin(struct memory *m)
{
    STORE(m->seq, m->seq + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* pairs with the acquire fence in memory_lookup() */
}

static void change_end(struct memory *m)
{
    __atomic_store_n(&m->seq, m->seq + 1, __ATOMIC_RELEASE);
}

/* The index of the region that begins at gpa, or nregions if there is none. The caller holds the lock. */
static u32 index_of(const struct memory *m, u64 gpa)
{
    u32 k = 0;
    while (k < m->nregions && m->region[k].gpa != gpa)
        k++;
    return k;
}

static u32 free_id(const struct memory *m)
{
    u64 used[(MEMORY_MAX_REGIONS + 63) / 64] = { 0 };
    u32 id = 0;
    for (u32 k = 0; k < m->nregions; k++)
        used[m->region[k].id / 64] |= BIT(m->region[k].id % 64);
    while (used[id / 64] >> (id % 64) & 1)
        id++;
    return id;
}

static bool within(const struct memory_piece *p, u64 offset, u64 size)
{
    return !(offset % GUEST_PAGE_SIZE) && offset <= p->size && size <= p->size - offset;
}

static void tell(struct memory *m, const struct memory_region *was, const struct memory_region *now)
{
    if (m->changed)
        m->changed(m->ctx, was, now);
}

int memory_map(struct memory *m, u64 gpa, u64 size, const struct memory_piece *p, u64 offset, bool readonly)
{
    struct memory_region now = { gpa, size, p->host + offset, p->place + offset, readonly || p->rom, 0 };
    u64 end;
    u32 at = 0;
    int rc = 0;

    if (!size || (gpa | size) % GUEST_PAGE_SIZE || add_overflows(gpa, size, &end) || !within(p, offset, size))
        return -EINVAL;
    pthread_mutex_lock(&m->change);
    for (u32 k = 0; k < m->nregions; k++) {
        const struct memory_region *r = &m->region[k];
        if (gpa < r->gpa + r->size && r->gpa < end)
            rc = -EEXIST;
        at += r->size >= size;
    }
    if (!rc && m->nregions == MEMORY_MAX_REGIONS)
        rc = -ENOSPC;
    if (!rc) {
        now.id = free_id(m);
        change_begin(m);
        for (u32 k = m->nregions; k > at; k--)
            put(&m->region[k], &m->region[k - 1]);
        put(&m->region[at], &now);
        STORE(m->nregions, m->nregions + 1);
        change_end(m);
        m->top = MAX(m->top, end);
        tell(m, NULL, &now);
    }
    pthread_mutex_unlock(&m->change);
    return rc;
}

int memory_remap(struct memory *m, u64 gpa, const struct memory_piece *p, u64 offset, bool readonly)
{
    int rc = 0;

    pthread_mutex_lock(&m->change);
    const u32 k = index_of(m, gpa);
    if (k == m->nregions || !within(p, offset, m->region[k].size)) {
        rc = -EINVAL;
    } else {
        const struct memory_region was = m->region[k];
        struct memory_region now = was;
        now.host = p->host + offset;
        now.place = p->place + offset;
        now.readonly = readonly || p->rom;
        if (now.place != was.place || now.readonly != was.readonly) {
            change_begin(m);
            put(&m->region[k], &now);
            change_end(m);
            tell(m, &was, &now);
        }
    }
    pthread_mutex_unlock(&m->change);
    return rc;
}

void memory_unmap(struct memory *m, u64 gpa)
{
    pthread_mutex_lock(&m->change);
    u32 k = index_of(m, gpa);
    if (k < m->nregions) {
        const struct memory_region was = m->region[k];
        change_begin(m);
        for (; k + 1 < m->nregions; k++)
            put(&m->region[k], &m->region[k + 1]);
        STORE(m->nregions, m->nregions - 1);
        change_end(m);
        tell(m, &was, NULL);
    }
    pthread_mutex_unlock(&m->change);
}

int memory_add(struct memory *m, const char *name, u64 gpa, u64 size, bool readonly, struct error *err)
{
    u64 end;

    if (!size || (gpa | size) % GUEST_PAGE_SIZE || add_overflows(gpa, size, &end))
        return error_set(err, EINVAL, "guest memory %s: %llu bytes at 0x%llx is not a range of whole pages", name,
                         (unsigned long long)size, (unsigned long long)gpa);
    for (u32 k = 0; k < m->nregions; k++)
        if (gpa < m->region[k].gpa + m->region[k].size && m->region[k].gpa < end)
            return error_set(err, EINVAL, "guest memory %s: overlaps another region", name);
    if (m->nregions == MEMORY_MAX_REGIONS)
        return error_set(err, ENOSPC, "guest memory %s: more than %d regions", name, MEMORY_MAX_REGIONS);
    struct memory_piece *p;
    int rc = memory_piece(m, &p, name, size, readonly, err);
    return rc ? rc : memory_map(m, gpa, size, p, 0, readonly);
}

bool memory_find(const struct memory *m, u64 gpa, struct memory_region *r)
{
    if (!memory_lookup(m, gpa, r))
        return false;
    struct memory_region next;
    while (r->size <= UINT64_MAX - r->gpa - 1 && memory_lookup(m, r->gpa + r->size, &next) &&
           next.gpa == r->gpa + r->size && next.place == r->place + r->size && next.host == r->host + r->size &&
           next.readonly == r->readonly)
        r->size += next.size;
    return true;
}
