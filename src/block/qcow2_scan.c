/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_scan.c - counts all references of an image anew. A table that several L1 entries share is read once, so that
 * the size of the file bounds the work, whatever a hostile image says. A file may be nearly all hole, so a table that
 * lies in a hole is not read.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 64, PAGES_MAX = 4 << 20, CHUNK = 64 * 1024 };

struct page {
    u64 key; /* cluster / PAGE */
    u32 count[PAGE];
};

struct counts {
    struct page **slot;
    u64 slots, used;
    struct page **sorted; /* the pages that existed at counts_sort */
    u64 nsorted;
};

struct counts *counts_new(void)
{
    struct counts *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->slots = 64;
    c->slot = calloc(c->slots, sizeof(*c->slot));
    if (!c->slot) {
        free(c);
        return NULL;
    }
    return c;
}

void counts_free(struct counts *c)
{
    if (!c)
        return;
    for (u64 i = 0; i < c->slots; i++)
        free(c->slot[i]);
    free(c->slot);
    free(c->sorted);
    free(c);
}

static struct page **find(struct page **slot, u64 slots, u64 key)
{
    u64 i = (key + 1) * 0x9e3779b97f4a7c15ull >> 20;
    for (i &= slots - 1; slot[i] && slot[i]->key != key;)
        i = (i + 1) & (slots - 1);
    return &slot[i];
}

int counts_add(struct counts *c, u64 cluster, u32 n)
{
    struct page **p = find(c->slot, c->slots, cluster / PAGE);

    if (!*p) {
        if (c->used >= PAGES_MAX)
            return -ENOMEM;
        if (c->used * 2 >= c->slots) {
            struct page **grown = calloc(c->slots * 2, sizeof(*grown));
            if (!grown)
                return -ENOMEM;
            for (u64 i = 0; i < c->slots; i++)
                if (c->slot[i])
                    *find(grown, c->slots * 2, c->slot[i]->key) = c->slot[i];
            free(c->slot);
            c->slot = grown, c->slots *= 2;
            p = find(c->slot, c->slots, cluster / PAGE);
        }
        *p = calloc(1, sizeof(**p));
        if (!*p)
            return -ENOMEM;
        (*p)->key = cluster / PAGE;
        c->used++;
    }
    u32 *count = &(*p)->count[cluster % PAGE];
    *count = n > UINT32_MAX - *count ? UINT32_MAX : *count + n;
    return 0;
}

void counts_sub(struct counts *c, u64 cluster)
{
    (*find(c->slot, c->slots, cluster / PAGE))->count[cluster % PAGE]--;
}

u32 counts_get(const struct counts *c, u64 cluster)
{
    const struct page *p = *find(c->slot, c->slots, cluster / PAGE);
    return p ? p->count[cluster % PAGE] : 0;
}

static int by_key(const void *a, const void *b)
{
    u64 x = (*(struct page *const *)a)->key, y = (*(struct page *const *)b)->key;
    return x < y ? -1 : x > y;
}

int counts_sort(struct counts *c)
{
    free(c->sorted);
    c->nsorted = 0;
    c->sorted = calloc(c->used + 1, sizeof(*c->sorted));
    if (!c->sorted)
        return -ENOMEM;
    for (u64 i = 0; i < c->slots; i++)
        if (c->slot[i])
            c->sorted[c->nsorted++] = c->slot[i];
    qsort(c->sorted, c->nsorted, sizeof(*c->sorted), by_key);
    return 0;
}

bool counts_next(const struct counts *c, u64 *cluster)
{
    u64 low = 0, high = c->nsorted;

    while (low < high) { /* finds the first page that ends behind *cluster */
        u64 mid = (low + high) / 2;
        if (c->sorted[mid]->key < *cluster / PAGE)
            low = mid + 1;
        else
            high = mid;
    }
    for (; low < c->nsorted; low++) {
        const struct page *p = c->sorted[low];
        for (u64 i = p->key == *cluster / PAGE ? *cluster % PAGE : 0; i < PAGE; i++)
            if (p->count[i]) {
                *cluster = p->key * PAGE + i;
                return true;
            }
    }
    return false;
}

void say_finding(struct block_check *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (!c->say)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    c->say(c, text);
}

/* ---- */

/* True if [offset, offset + len) begins and ends within the file, whose end is rounded up to a cluster. */
static bool in_file(const struct qcow2 *q, u64 offset, u64 len)
{
    return len <= align_up(q->file_end, q->cluster_size) && offset <= align_up(q->file_end, q->cluster_size) - len;
}

bool qcow2_in_hole(struct qcow2 *q, u64 offset, u64 len)
{
    u64 hole = len;
    bool data;

    return !file_map(q->file, offset, &hole, &data) && !data && hole == len;
}

static int bad_entry(struct scan *s, const char *what, u64 i, u64 entry, bool *remove)
{
    s->bad++;
    *remove = s->fix;
    if (s->check)
        say_finding(s->check, "ERROR %s %llu: entry %llx cannot be", what, (unsigned long long)i,
                    (unsigned long long)entry);
    return s->check || s->fix ? 0 : -EIO;
}

static int add_range(struct qcow2 *q, struct scan *s, u64 offset, u64 bytes, u32 n)
{
    int r = 0;
    for (u64 c = cluster_of(q, offset), end = clusters_for(q, offset + bytes); !r && c < end; c++)
        r = counts_add(s->counts, c, n);
    return r;
}

/* Scans one L2 table that `weight` L1 entries name. */
static int scan_l2(struct qcow2 *q, struct scan *s, u64 offset, u32 weight, u8 *table)
{
    int r = counts_add(s->counts, cluster_of(q, offset), weight);
    bool changed = false, remove;

    if (!r && qcow2_in_hole(q, offset, q->cluster_size))
        return 0;
    r = r ? r : file_pread(q->file, offset, table, q->cluster_size);
    for (u32 i = 0; !r && i < q->cluster_size / 8; i++) {
        u64 e = get64(table + (size_t)i * 8), at = e & ENTRY_OFFSET, len = q->cluster_size;
        if (e & ENTRY_COMPRESSED)
            compressed_extent(q, e, &at, &len);
        else if (!at)
            continue;
        bool ok = at && in_file(q, at, len) && (e & ENTRY_COMPRESSED || !in_cluster(q, at));
        if (ok) {
            r = add_range(q, s, at, len, weight);
            continue;
        }
        r = bad_entry(s, "cluster, table at", offset, e, &remove);
        if (!r && remove) {
            put64(table + (size_t)i * 8, q->version > 2 ? ENTRY_ZERO : 0);
            changed = true;
        }
    }
    return r || !changed ? r : file_pwrite(q->file, offset, table, q->cluster_size);
}

/* Counts in `tables` how often each L2 table is named. */
static int scan_l1(struct qcow2 *q, struct scan *s, u64 *l1, u32 n, struct counts *tables, const char *what, bool *changed)
{
    int r = 0;
    for (u32 i = 0; !r && i < n; i++) {
        u64 at = l1[i] & ENTRY_OFFSET;
        bool remove = false;
        if (!at)
            continue;
        if (!in_cluster(q, at) && in_file(q, at, q->cluster_size)) {
            r = counts_add(tables, cluster_of(q, at), 1);
            continue;
        }
        r = bad_entry(s, what, i, l1[i], &remove);
        if (remove) {
            l1[i] = 0;
            *changed = true;
        }
    }
    return r;
}

static int scan_snapshot(struct qcow2 *q, struct scan *s, const struct qcow2_snapshot *snapshot, struct counts *tables)
{
    u64 *l1 = malloc(CHUNK), total = (u64)snapshot->l1_size * 8;
    int r = l1 ? add_range(q, s, snapshot->l1_offset, total, 1) : -ENOMEM;

    for (u64 done = 0, n; !r && done < total; done += n) {
        bool changed = false, data;
        n = total - done;
        if (!file_map(q->file, snapshot->l1_offset + done, &n, &data) && !data && (n >= CHUNK || n == total - done)) {
            n = n == total - done ? n : align_down(n, 8);
            continue;
        }
        n = MIN(total - done, CHUNK);
        r = file_pread(q->file, snapshot->l1_offset + done, l1, n);
        for (u64 i = 0; !r && i < n / 8; i++)
            l1[i] = be64toh(l1[i]);
        r = r ? r : scan_l1(q, s, l1, (u32)(n / 8), tables, "L1 table of a snapshot,", &changed);
        for (u64 i = 0; changed && i < n / 8; i++)
            l1[i] = htobe64(l1[i]);
        if (!r && changed)
            r = file_pwrite(q->file, snapshot->l1_offset + done, l1, n);
    }
    free(l1);
    return r;
}

/* Counts the clusters that the table of one bitmap names. */
static int scan_bitmap(struct qcow2 *q, struct scan *s, u64 table, u64 bytes)
{
    u8 *buf = malloc(CHUNK);
    int r = buf ? add_range(q, s, table, bytes, 1) : -ENOMEM;

    for (u64 done = 0, n; !r && done < bytes; done += n) {
        n = MIN(bytes - done, CHUNK);
        r = file_pread(q->file, table + done, buf, n);
        for (u64 i = 0; !r && i < n; i += 8) {
            u64 at = get64(buf + i) & ENTRY_OFFSET;
            bool remove;
            if (at && !in_cluster(q, at) && in_file(q, at, q->cluster_size))
                r = counts_add(s->counts, cluster_of(q, at), 1);
            else if (at)
                r = bad_entry(s, "bitmap,", i, at, &remove);
        }
    }
    free(buf);
    return r;
}

static int scan_bitmaps(struct qcow2 *q, struct scan *s)
{
    const u8 *ext = q->autoclear & AUTOCLEAR_BITMAPS ? qcow2_bitmaps(q) : NULL;
    u64 left = align_up(q->file_end, q->cluster_size);
    bool remove;

    if (!ext)
        return 0;
    u64 size = get64(ext + 8), at = get64(ext + 16), end;
    if (add_overflows(at, size, &end) || in_cluster(q, at) || !in_file(q, at, size))
        return bad_entry(s, "bitmap directory,", 0, at, &remove);
    int r = add_range(q, s, at, size, 1);
    while (!r && at < end && end - at >= 24) {
        u8 e[24];
        r = file_pread(q->file, at, e, sizeof(e));
        u64 table = get64(e), bytes = (u64)get32(e + 8) * 8;
        if (!r && (in_cluster(q, table) || !in_file(q, table, bytes) || bytes > left))
            return bad_entry(s, "bitmap directory,", at, table, &remove);
        left -= r ? 0 : bytes;
        r = r ? r : scan_bitmap(q, s, table, bytes);
        at += align_up(24 + (u64)get32(e + 20) + get16(e + 18), 8);
    }
    return r;
}

int scan_tables(struct qcow2 *q, struct scan *s, u64 *l1, u32 l1_size, const struct qcow2_snapshot *snapshots, u32 nsnapshots)
{
    struct counts *tables = counts_new();
    u8 *table = malloc(q->cluster_size);
    bool changed;

    s->counts = counts_new();
    int r = tables && table && s->counts ? counts_add(s->counts, 0, 1) : -ENOMEM;
    r = r ? r : scan_l1(q, s, l1, l1_size, tables, "L1 table,", &changed);
    for (u32 i = 0; !r && i < nsnapshots; i++)
        r = scan_snapshot(q, s, &snapshots[i], tables);
    r = r ? r : counts_sort(tables);
    for (u64 c = 0; !r && counts_next(tables, &c); c++)
        r = scan_l2(q, s, c << q->cluster_bits, counts_get(tables, c), table);
    r = r ? r : scan_bitmaps(q, s);
    counts_free(tables);
    free(table);
    return r;
}
