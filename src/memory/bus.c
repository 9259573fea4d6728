/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.c - the sorted table of ranges; it also splits accesses into those that a device takes.
 *
 * Lookups use a sequence lock: a reader copies the range that it found, and tries again if the table changed meanwhile. It
 * never waits for another reader, and never writes to shared memory. A full table is replaced by one that is twice as large.
 * The old one is kept until bus_free, so a slow reader never looks at freed memory. A range that moves needs no larger
 * table, so a guest that moves a BAR again and again uses up no memory.
 */
#include "memory/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct table {
    struct table *older; /* outgrown, freed with the bus */
    u32 cap;
    struct bus_range range[];
};

struct bus {
    u64 limit;
    u32 seq; /* odd: being changed */
    u32 n;
    struct table *table;
    pthread_mutex_t change;
};

enum { FIRST_CAP = 32 };

static struct table *table_new(u32 cap)
{
    struct table *t = calloc(1, sizeof *t + cap * sizeof t->range[0]);
    if (t)
        t->cap = cap;
    return t;
}

struct bus *bus_new(u64 limit)
{
    struct bus *b = calloc(1, sizeof *b);
    if (!b || !(b->table = table_new(FIRST_CAP))) {
        free(b);
        return NULL;
    }
    b->limit = limit;
    pthread_mutex_init(&b->change, NULL);
    return b;
}

void bus_free(struct bus *b)
{
    if (!b)
        return;
    for (struct table *t = b->table, *older; t; t = older) {
        older = t->older;
        free(t);
    }
    pthread_mutex_destroy(&b->change);
    free(b);
}

/* Ranges are copied word by word, and each word atomically, because a reader may look at one while a writer moves it. */
#define LOAD(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#define STORE(p, v) __atomic_store_n(&(p), v, __ATOMIC_RELAXED)

static void range_copy(struct bus_range *to, const struct bus_range *from)
{
    STORE(to->base, LOAD(from->base));
    STORE(to->size, LOAD(from->size));
    STORE(to->ops, LOAD(from->ops));
    STORE(to->dev, LOAD(from->dev));
    STORE(to->lock, LOAD(from->lock));
    STORE(to->name, LOAD(from->name));
}

static void change_begin(struct bus *b)
{
    STORE(b->seq, b->seq + 1);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* pairs with the acquire fence in lookup() */
}

static void change_end(struct bus *b)
{
    __atomic_store_n(&b->seq, b->seq + 1, __ATOMIC_RELEASE);
}

int bus_add(struct bus *b, const struct bus_range *r)
{
    u64 end;
    u32 at = 0;
    int rc = 0;

    if (!r->size || add_overflows(r->base, r->size, &end) || end > b->limit)
        return -EINVAL;
    pthread_mutex_lock(&b->change);
    struct bus_range *v = b->table->range;
    for (; at < b->n && v[at].base < r->base; at++)
        ;
    if ((at < b->n && v[at].base < end) || (at > 0 && v[at - 1].base + v[at - 1].size > r->base)) {
        rc = -EEXIST;
    } else if (b->n == b->table->cap) {
        struct table *t = table_new(b->table->cap * 2);
        if (!t) {
            rc = -ENOMEM;
        } else {
            memcpy(t->range, v, b->n * sizeof v[0]);
            t->older = b->table;
            __atomic_store_n(&b->table, t, __ATOMIC_RELEASE);
            v = t->range;
        }
    }
    if (!rc) {
        change_begin(b);
        for (u32 i = b->n; i > at; i--)
            range_copy(&v[i], &v[i - 1]);
        range_copy(&v[at], r);
        STORE(b->n, b->n + 1);
        change_end(b);
    }
    pthread_mutex_unlock(&b->change);
    return rc;
}

void bus_remove(struct bus *b, u64 base, void *dev)
{
    pthread_mutex_lock(&b->change);
    struct bus_range *v = b->table->range;
    for (u32 i = 0; i < b->n; i++) {
        if (v[i].base != base || v[i].dev != dev)
            continue;
        change_begin(b);
        for (; i + 1 < b->n; i++)
            range_copy(&v[i], &v[i + 1]);
        STORE(b->n, b->n - 1);
        change_end(b);
    }
    pthread_mutex_unlock(&b->change);
}

/*
 * Returns a copy of the range that holds addr. If none does, its size is 0, and its base is where the next range starts (or
 * the limit). The search never leaves the table, whatever a writer that works at the same time lets it see, since it goes
 * no further than the table's capacity.
 */
static inline __attribute__((always_inline)) struct bus_range lookup(struct bus *b, u64 addr)
{
    for (;;) {
        u32 seq = __atomic_load_n(&b->seq, __ATOMIC_ACQUIRE);
        struct table *t = __atomic_load_n(&b->table, __ATOMIC_ACQUIRE);
        u32 lo = 0, hi = MIN(LOAD(b->n), t->cap);
        struct bus_range r = { .base = b->limit };

        while (lo < hi) { /* the first range that ends after addr */
            u32 mid = (lo + hi) / 2;
            if (addr < LOAD(t->range[mid].base) + LOAD(t->range[mid].size))
                hi = mid;
            else
                lo = mid + 1;
        }
        if (lo < MIN(LOAD(b->n), t->cap)) {
            range_copy(&r, &t->range[lo]);
            if (addr < r.base)
                r.size = 0;
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE); /* pairs with the release in change_begin() */
        if (likely(!(seq & 1) && LOAD(b->seq) == seq))
            return r;
    }
}

static u64 ones(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (1ull << size * 8) - 1;
}

static u64 call_read(const struct bus_range *r, u64 offset, unsigned size)
{
    if (!r->ops->read)
        return ones(size);
    if (r->lock)
        pthread_mutex_lock(r->lock);
    u64 v = r->ops->read(r->dev, offset, size);
    if (r->lock)
        pthread_mutex_unlock(r->lock);
    return v & ones(size);
}

static void call_write(const struct bus_range *r, u64 offset, unsigned size, u64 value)
{
    if (!r->ops->write)
        return;
    if (r->lock)
        pthread_mutex_lock(r->lock);
    r->ops->write(r->dev, offset, size, value & ones(size));
    if (r->lock)
        pthread_mutex_unlock(r->lock);
}

/*
 * Finds the next piece of an access of which n bytes at addr remain. It is within one range, and not larger than the
 * device's largest access. If it is smaller than the device's smallest access, or not aligned to that, it becomes an access
 * of min_size at *offset, and the piece begins *shift bytes into it. Returns how many bytes the piece covers.
 */
static unsigned piece(const struct bus_range *r, u64 addr, unsigned n, u64 *offset, unsigned *size, unsigned *shift)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1, max = r->ops->max_size ? r->ops->max_size : 8;
    u64 left = r->base + r->size - addr;

    *offset = addr - r->base;
    *shift = 0;
    n = (unsigned)MIN((u64)MIN(n, max), left);
    n = 1u << (31 - __builtin_clz(n));
    *size = n;
    if (n < min || (*offset & (min - 1))) {
        *shift = *offset & (min - 1);
        *offset -= *shift;
        *size = min;
        n = MIN(n, min - *shift);
    }
    return n;
}

/* True if the device takes the access as it is. Almost all accesses are so. */
static inline bool plain(const struct bus_range *r, u64 addr, unsigned size)
{
    const u8 min = r->ops->min_size, max = r->ops->max_size; /* 0: no limit; (u8)(0 - 1) is then the largest size - 1 */
    const u64 offset = addr - r->base;
    return size >= min && (u8)(max - 1) >= size - 1 && (min <= 1 || !(offset & (min - 1u))) && r->size - offset >= size;
}

/* How many bytes from addr on, at most n, belong to no range. next is what lookup returned for addr. */
static unsigned gap(const struct bus_range *next, u64 addr, unsigned n)
{
    return next->base > addr ? (unsigned)MIN((u64)n, next->base - addr) : n;
}

static __attribute__((noinline)) u64 read_pieces(struct bus *b, u64 addr, unsigned size)
{
    u64 value = 0;
    for (unsigned done = 0; done < size;) {
        struct bus_range r = lookup(b, addr + done);
        unsigned n, len, shift;
        u64 offset, v;
        if (!r.size) {
            n = gap(&r, addr + done, size - done);
            v = ones(n);
        } else {
            n = piece(&r, addr + done, size - done, &offset, &len, &shift);
            v = call_read(&r, offset, len) >> shift * 8 & ones(n);
        }
        value |= v << done * 8;
        done += n;
    }
    return value;
}

u64 bus_read(struct bus *b, u64 addr, unsigned size)
{
    const struct bus_range r = lookup(b, addr);

    return r.size && plain(&r, addr, size) ? call_read(&r, addr - r.base, size) : read_pieces(b, addr, size);
}

static __attribute__((noinline)) void write_pieces(struct bus *b, u64 addr, unsigned size, u64 value)
{
    for (unsigned done = 0; done < size;) {
        struct bus_range r = lookup(b, addr + done);
        unsigned n, len, shift;
        u64 offset;
        if (!r.size) {
            n = gap(&r, addr + done, size - done);
        } else {
            n = piece(&r, addr + done, size - done, &offset, &len, &shift);
            call_write(&r, offset, len, (value >> done * 8 & ones(n)) << shift * 8);
        }
        done += n;
    }
}

void bus_write(struct bus *b, u64 addr, unsigned size, u64 value)
{
    const struct bus_range r = lookup(b, addr);

    if (r.size && plain(&r, addr, size))
        call_write(&r, addr - r.base, size, value);
    else
        write_pieces(b, addr, size, value);
}

/* True if all of a run that begins at addr lies in the range. */
static bool holds(const struct bus_range *r, const struct bus_run *run, u64 addr)
{
    const u64 before = run->down ? (u64)(run->count - 1) * run->size : 0, after = (u64)run->size * run->count - before;
    return addr >= r->base && addr - r->base >= before && addr - r->base < r->size && after <= r->base + r->size - addr;
}

bool bus_run(struct bus *b, const struct bus_run *run)
{
    const bool to = !run->to_host, from = !run->from_host && !run->fill;
    const struct bus_range r = lookup(b, to ? run->to : run->from);

    if (!r.size || !r.ops->run || (to && !holds(&r, run, run->to)) || (from && !holds(&r, run, run->from)))
        return false;
    struct bus_run at = *run;
    at.to -= r.base;
    at.from -= r.base;
    if (r.lock)
        pthread_mutex_lock(r.lock);
    r.ops->run(r.dev, &at);
    if (r.lock)
        pthread_mutex_unlock(r.lock);
    return true;
}

const char *bus_name(struct bus *b, u64 addr)
{
    struct bus_range r = lookup(b, addr);
    return r.size && r.name ? r.name : "-";
}
