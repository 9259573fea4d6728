/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_switch.c - large changes that happen as a whole. The new L1 table, L2 tables, refcounts and snapshot table are
 * written to clusters that are free both before and after the change. When they are stable, one write of the header's
 * 512 bytes names them instead of the old ones. A power cut leaves either the image before the change or the image
 * after it.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>

struct change {
    struct qcow2 *q;
    struct target *t;
    struct scan s;
    u64 next; /* cluster: no free cluster for a single one is before it */
    u64 separable; /* the number of tables that separate_l2 may still copy */
    u64 l1_offset, reftable_offset, snapshots_offset, snapshots_bytes;
    u32 reftable_n;
};

static int is_free(struct change *c, u64 cluster, bool *free_)
{
    u64 count = 0;
    int r = c->t->distrust ? 0 : refcount_get(c->q, cluster, &count);

    *free_ = !r && !count && !counts_get(c->s.counts, cluster) && !is_metadata(c->q, cluster, 1);
    return r;
}

/* Picks n clusters in a row that neither the old nor the new image uses. */
static int pick(struct change *c, u64 n, u64 *offset)
{
    struct qcow2 *q = c->q;
    u64 first = c->next, run = 0, at = first;
    u64 limit = file_is_device(q->file) ? file_size(q->file) >> q->cluster_bits : ENTRY_OFFSET >> q->cluster_bits;

    for (; run < n; at++) {
        bool is;
        int r = is_free(c, at, &is);
        if (r)
            return r;
        if (at >= limit)
            return -ENOSPC;
        if (is && !run++)
            first = at;
        if (!is)
            run = 0;
    }
    if (n == 1)
        c->next = at;
    for (u64 i = 0; i < n; i++) {
        int r = counts_add(c->s.counts, first + i, 1);
        if (r)
            return r;
    }
    *offset = first << q->cluster_bits;
    q->file_end = MAX(q->file_end, (first + n) << q->cluster_bits);
    return 0;
}

/* Corrects the flags of one L2 table. A table that changes is written elsewhere, and *l2 then names the new place. */
static int renew_l2(struct change *c, u64 *l2, u8 *table)
{
    struct qcow2 *q = c->q;
    bool changed = false;

    if (qcow2_in_hole(q, *l2, q->cluster_size))
        return 0;
    int r = file_pread(q->file, *l2, table, q->cluster_size);
    for (u32 i = 0; !r && i < q->cluster_size / 8; i++) {
        u64 e = get64(table + (size_t)i * 8), want = e & ~ENTRY_COPIED;
        if (!(e & ENTRY_COMPRESSED) && e & ENTRY_OFFSET && counts_get(c->s.counts, cluster_of(q, e & ENTRY_OFFSET)) == 1)
            want |= ENTRY_COPIED;
        put64(table + (size_t)i * 8, want);
        changed |= e != want;
    }
    if (r || !changed)
        return r;
    counts_sub(c->s.counts, cluster_of(q, *l2));
    r = pick(c, 1, l2);
    return r ? r : file_pwrite(q->file, *l2, table, q->cluster_size);
}

/* In a repair, an L2 table that shares its place with something else gets a place of its own. The number of copies
   is limited, since a hostile image may have a million entries for one table. */
static int separate_l2(struct change *c, u64 *l2, u8 *table)
{
    struct qcow2 *q = c->q;

    if (counts_get(c->s.counts, cluster_of(q, *l2)) == 1)
        return 0;
    if (!c->separable--)
        return -EMLINK;
    int r = file_pread(q->file, *l2, table, q->cluster_size);
    counts_sub(c->s.counts, cluster_of(q, *l2));
    r = r ? r : pick(c, 1, l2);
    return r ? r : file_pwrite(q->file, *l2, table, q->cluster_size);
}

/* Writes the L1 table, with its flags. */
static int write_l1(struct change *c)
{
    struct qcow2 *q = c->q;
    struct target *t = c->t;
    u64 bytes = (u64)t->l1_size * 8, room = align_up(MAX(bytes, 1), q->cluster_size);
    u8 *table = malloc(q->cluster_size), *buf = calloc(1, room);
    int r = table && buf ? 0 : -ENOMEM;

    for (u32 i = 0; !r && i < t->l1_size; i++) {
        t->l1[i] &= ENTRY_OFFSET;
        if (t->fix && t->l1[i])
            r = separate_l2(c, &t->l1[i], table);
    }
    for (u32 i = 0; !r && i < t->l1_size; i++) {
        u64 l2 = t->l1[i];
        if (l2)
            r = renew_l2(c, &l2, table);
        if (l2 && counts_get(c->s.counts, cluster_of(q, l2)) == 1)
            l2 |= ENTRY_COPIED;
        put64(buf + (size_t)i * 8, l2);
    }
    r = r ? r : pick(c, room >> q->cluster_bits, &c->l1_offset);
    r = r ? r : file_pwrite(q->file, c->l1_offset, buf, room);
    free(table);
    free(buf);
    return r;
}

/* In a repair, a snapshot whose L1 table overlaps another's gets a copy of its own. */
static int separate_l1s(struct change *c)
{
    struct qcow2 *q = c->q;
    struct qcow2_snapshot **shared;
    u32 n;
    int r = qcow2_shared_l1s(q, &shared, &n);

    for (u32 i = 0; !r && i < n; i++) {
        u64 bytes = shared[i]->l1_size * 8ull, old = shared[i]->l1_offset, room = align_up(bytes, q->cluster_size);
        u8 *l1 = calloc(1, room);
        r = l1 ? file_pread(q->file, old, l1, bytes) : -ENOMEM;
        for (u64 k = 0; k < room >> q->cluster_bits; k++)
            counts_sub(c->s.counts, cluster_of(q, old) + k);
        q->broken = true; /* until the header names them, the image in memory differs from the one in the file */
        r = r ? r : pick(c, room >> q->cluster_bits, &shared[i]->l1_offset);
        r = r ? r : file_pwrite(q->file, shared[i]->l1_offset, l1, room);
        free(l1);
    }
    free(shared);
    return r;
}

static int write_snapshots(struct change *c)
{
    u8 *buf;
    int r;

    if (!c->t->nsnapshots)
        return 0;
    buf = qcow2_format_snapshots(c->t->snapshots, c->t->nsnapshots, &c->snapshots_bytes);
    r = !buf ? -ENOMEM : c->snapshots_bytes > QCOW2_MAX_SNAPSHOT_TABLE ? -EFBIG : 0;
    r = r ? r : pick(c, clusters_for(c->q, c->snapshots_bytes), &c->snapshots_offset);
    r = r ? r : file_pwrite(c->q->file, c->snapshots_offset, buf, c->snapshots_bytes);
    free(buf);
    return r;
}

/* Picks a refcount block for each range that has a count. The blocks themselves may lie in ranges that then need
   one. */
static int pick_blocks(struct change *c, u64 **block, u64 *nblock)
{
    struct qcow2 *q = c->q;
    bool more = true;

    while (more) {
        int r = counts_sort(c->s.counts);
        if (r)
            return r;
        more = false;
        for (u64 at = 0; counts_next(c->s.counts, &at); at = ((at >> q->block_bits) + 1) << q->block_bits) {
            u64 i = at >> q->block_bits;
            if (i >= QCOW2_MAX_REFTABLE / 8)
                return -EFBIG;
            if (i >= *nblock) {
                u64 n = align_up(i + 1, 64);
                u64 *grown = realloc(*block, n * 8);
                if (!grown)
                    return -ENOMEM;
                memset(grown + *nblock, 0, (n - *nblock) * 8);
                *block = grown, *nblock = n;
            }
            if ((*block)[i])
                continue;
            r = pick(c, 1, &(*block)[i]);
            if (r)
                return r;
            more = true;
        }
    }
    return 0;
}

static int write_blocks(struct change *c, const u64 *block, u64 nblock)
{
    struct qcow2 *q = c->q;
    u8 *data = malloc(q->cluster_size), *top = calloc(1, (size_t)c->reftable_n * 8);
    int r = data && top ? 0 : -ENOMEM;

    for (u64 i = 0; !r && i < nblock; i++) {
        if (!block[i])
            continue;
        memset(data, 0, q->cluster_size);
        for (u64 k = 0; !r && k < BIT(q->block_bits); k++) {
            u32 n = counts_get(c->s.counts, (i << q->block_bits) + k);
            if (n > max_refcount(q) || n == UINT32_MAX)
                r = -ERANGE;
            else if (n)
                refcount_write(q, data, k, n);
        }
        r = r ? r : file_pwrite(q->file, block[i], data, q->cluster_size);
        put64(top + i * 8, block[i]);
    }
    r = r ? r : file_pwrite(q->file, c->reftable_offset, top, (u64)c->reftable_n * 8);
    free(data);
    free(top);
    return r;
}

static int write_refcounts(struct change *c)
{
    struct qcow2 *q = c->q;
    u64 *block = NULL, nblock = 0, clusters = 0;

    int r = pick_blocks(c, &block, &nblock);
    while (!r && nblock > clusters << (q->cluster_bits - 3)) {
        /* If there was a table already, it is too small: its place stays free. */
        for (u64 i = 0; i < clusters; i++)
            counts_sub(c->s.counts, cluster_of(q, c->reftable_offset) + i);
        clusters = clusters_for(q, (nblock + nblock / 4 + 1) * 8);
        r = clusters << q->cluster_bits > QCOW2_MAX_REFTABLE ? -EFBIG : pick(c, clusters, &c->reftable_offset);
        r = r ? r : pick_blocks(c, &block, &nblock);
    }
    c->reftable_n = (u32)(clusters << (q->cluster_bits - 3));
    r = r ? r : write_blocks(c, block, nblock);
    free(block);
    return r;
}

/* Everything is stable: the header now names it. */
static int name_them(struct change *c)
{
    struct qcow2 *q = c->q;
    u8 h[512];

    memcpy(h, q->header, sizeof(h));
    put64(h + H_SIZE, c->t->size);
    put32(h + H_L1_SIZE, c->t->l1_size);
    put64(h + H_L1_OFFSET, c->l1_offset);
    put64(h + H_REFTABLE_OFFSET, c->reftable_offset);
    put32(h + H_REFTABLE_CLUSTERS, (u32)clusters_for(q, (u64)c->reftable_n * 8));
    put32(h + H_NB_SNAPSHOTS, c->t->nsnapshots);
    put64(h + H_SNAPSHOTS_OFFSET, c->snapshots_offset);
    u64 incompatible = q->incompatible & ~INCOMPATIBLE_DIRTY;
    if (c->t->fix)
        incompatible &= ~INCOMPATIBLE_CORRUPT;
    if (q->version > 2)
        put64(h + H_INCOMPATIBLE, incompatible);
    int r = file_pwrite(q->file, 0, h, sizeof(h));
    r = r ? r : file_flush(q->file);
    if (r) {
        q->broken = true; /* we do not know which of the two images the file has */
        return r;
    }
    memcpy(q->header, h, sizeof(h));
    q->incompatible = incompatible;
    q->size = c->t->size;
    if (q->snapshots != c->t->snapshots)
        qcow2_free_snapshots(q->snapshots, q->nsnapshots);
    q->snapshots = c->t->snapshots, q->nsnapshots = c->t->nsnapshots;
    q->snapshots_offset = c->snapshots_offset, q->snapshots_bytes = c->snapshots_bytes;
    return 0;
}

int qcow2_switch(struct qcow2 *q, struct target *t, const char *what, struct error *err)
{
    struct change c = { .q = q, .t = t, .s = { .fix = t->fix }, .separable = clusters_for(q, q->file_end) };
    bool named = false;
    int r = 0;

    if (q->broken && !t->fix)
        r = -EIO;
    else if (!q->broken)
        r = qcow2_flush(q);
    if (t->distrust)
        c.next = clusters_for(q, q->file_end);
    pthread_mutex_lock(&q->op);
    r = r ? r : scan_tables(q, &c.s, t->l1, t->l1_size, t->snapshots, t->nsnapshots);
    r = r ? r : write_l1(&c);
    r = r || !t->fix ? r : separate_l1s(&c);
    r = r ? r : write_snapshots(&c);
    r = r ? r : write_refcounts(&c);
    r = r ? r : file_flush(q->file);
    if (!r) {
        r = name_them(&c);
        named = !r;
    }
    counts_free(c.s.counts);
    if (named) {
        q->broken = false;
        free(q->dropped);
        q->dropped = NULL, q->ndropped = q->dropped_room = 0;
        r = qcow2_load_tables(q, err);
        if (r)
            q->broken = true;
    }
    pthread_mutex_unlock(&q->op);
    if (r == -ERANGE)
        return error_set(err, ERANGE, "cannot %s %s: its refcounts of %u bits cannot count that far", what, q->b->path,
                         1u << q->refcount_order);
    if (r == -EIO && !named)
        return error_set(err, EIO, "cannot %s %s: the image is damaged or cannot be read; see lodge disk check", what,
                         q->b->path);
    return r && !named ? error_set(err, -r, "cannot %s %s: %s", what, q->b->path, strerror(-r)) : r;
}

int qcow2_rebuild(struct qcow2 *q, bool fix, struct error *err)
{
    u64 *l1 = malloc((size_t)q->l1.n * 8 + 1);

    if (!l1)
        return error_set(err, ENOMEM, "no memory");
    memcpy(l1, q->l1.entry, (size_t)q->l1.n * 8);
    struct target t = { .l1 = l1, .l1_size = q->l1.n, .size = q->size, .snapshots = q->snapshots,
                        .nsnapshots = q->nsnapshots, .distrust = true, .fix = fix };
    int r = qcow2_switch(q, &t, "count the references of", err);
    free(l1);
    return r;
}
