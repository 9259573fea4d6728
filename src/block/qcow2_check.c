/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_check.c - counts what refers to each cluster, compares the counts with the refcounts in the file, and repairs.
 * An error can lose data: a count that is too low, a wrong flag COPIED, an invalid entry. A leak only loses space.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>

/* Reports or fixes one wrong count. */
static int judge(struct qcow2 *q, struct block_check *c, u64 cluster, u64 count, u32 references, bool fix)
{
    bool leak = count > references;

    if (fix)
        return leak ? refcount_set(q, cluster, references) : 0;
    c->leaks += leak;
    c->errors += !leak;
    say_finding(c, "%s cluster %llu refcount=%llu reference=%u", leak ? "Leaked" : "ERROR", (unsigned long long)cluster,
                (unsigned long long)count, references);
    return 0;
}

/* Compares all counts with the references. A refcount block with an invalid place counts nothing. */
static int compare(struct qcow2 *q, struct counts *counts, struct block_check *c, bool fix)
{
    u64 per_block = BIT(q->block_bits), at = 0;
    struct table *block;
    int r = counts_sort(counts);

    for (u64 i = 0; !r && i < q->reftable.n; i++) {
        u64 offset = q->reftable.entry[i] & ~511ull;
        if (q->broken && i * per_block >= clusters_for(q, q->file_end))
            break; /* all entries may name one block: this bounds the work */
        if (!offset)
            continue;
        if (in_cluster(q, offset) || offset >= q->file_end) {
            c->errors++;
            say_finding(c, "ERROR refcount block %llu cannot be at %llu", (unsigned long long)i, (unsigned long long)offset);
            continue;
        }
        r = table_get(q, &q->reftable, (u32)i, &block);
        for (u64 k = 0; !r && k < per_block; k++) {
            u64 cluster = i * per_block + k, count = refcount_read(q, block->data, k);
            u32 references = counts_get(counts, cluster);
            if (count != references)
                r = judge(q, c, cluster, count, references, fix);
        }
    }
    for (; !r && counts_next(counts, &at); at++) {
        u64 i = at >> q->block_bits, offset = i < q->reftable.n ? q->reftable.entry[i] & ~511ull : 0;
        if (!offset || in_cluster(q, offset) || offset >= q->file_end)
            r = judge(q, c, at, 0, counts_get(counts, at), fix);
        c->end = (at + 1) << q->cluster_bits;
    }
    return r;
}

static int add_area(struct qcow2 *q, struct counts *counts, u64 offset, u64 bytes)
{
    int r = 0;
    for (u64 i = 0; !r && i < clusters_for(q, bytes); i++)
        r = counts_add(counts, cluster_of(q, offset) + i, 1);
    return r;
}

/* Checks the flags of the active image, and counts its clusters by kind. */
static int look_at_map(struct qcow2 *q, struct block_check *c)
{
    u64 next = 0, count;
    struct table *t;
    int r = 0;

    for (u32 i = 0; !r && i < q->l1.n; i++) {
        u64 l1e = q->l1.entry[i], l2 = l1e & ENTRY_OFFSET;
        if (!l2 || in_cluster(q, l2) || l2 >= q->file_end)
            continue; /* the scan has reported it */
        r = refcount_get(q, cluster_of(q, l2), &count);
        if (!r && (count == 1) != !!(l1e & ENTRY_COPIED)) {
            c->errors++;
            say_finding(c, "ERROR OFLAG_COPIED L2 cluster: l1_index=%u l1_entry=%llx refcount=%llu", i,
                        (unsigned long long)l1e, (unsigned long long)count);
        }
        r = r ? r : table_get(q, &q->l1, i, &t);
        for (u32 k = 0; !r && k < q->cluster_size / 8; k++) {
            u64 e = get64(t->data + (size_t)k * 8), at = e & ENTRY_OFFSET;
            if (e & ENTRY_COMPRESSED) {
                c->allocated++, c->compressed++, c->fragmented++;
                continue;
            }
            if (!at || in_cluster(q, at))
                continue;
            c->allocated++;
            c->fragmented += next && at != next;
            next = at + q->cluster_size;
            r = refcount_get(q, cluster_of(q, at), &count);
            if (!r && (count == 1) != !!(e & ENTRY_COPIED)) {
                c->errors++;
                say_finding(c, "ERROR OFLAG_COPIED data cluster: l2_entry=%llx refcount=%llu", (unsigned long long)e,
                            (unsigned long long)count);
            }
        }
        if (r == -EIO)
            c->errors++, r = 0; /* a refcount block with an invalid place: reported below */
    }
    return r;
}

/* Finds snapshots that share their L1 table. A change to one of them could change the other. */
static int look_at_snapshots(struct qcow2 *q, struct block_check *c)
{
    struct qcow2_snapshot **shared;
    u32 n;
    int r = qcow2_shared_l1s(q, &shared, &n);

    for (u32 i = 0; i < n; i++) {
        c->errors++;
        say_finding(c, "ERROR snapshot %s: its L1 table lies over that of another", shared[i]->id);
    }
    free(shared);
    return r;
}

/* Reports what is wrong in c, or, with fix, lowers counts that are too high. */
static int look(struct qcow2 *q, struct block_check *c, bool fix)
{
    struct scan s = { .check = c };
    u64 *l1 = malloc((size_t)q->l1.n * 8 + 1);
    int r = l1 ? 0 : -ENOMEM;

    if (!r)
        memcpy(l1, q->l1.entry, (size_t)q->l1.n * 8);
    pthread_mutex_lock(&q->op);
    r = r ? r : scan_tables(q, &s, l1, q->l1.n, q->snapshots, q->nsnapshots);
    r = r ? r : add_area(q, s.counts, q->l1.offset, (u64)q->l1.n * 8);
    r = r ? r : add_area(q, s.counts, q->snapshots_offset, q->snapshots_bytes);
    r = r ? r : add_area(q, s.counts, q->reftable.offset, (u64)q->reftable.n * 8);
    for (u32 i = 0; !r && i < q->reftable.n; i++) {
        u64 offset = q->reftable.entry[i] & ~511ull;
        if (offset && !in_cluster(q, offset) && offset < q->file_end)
            r = counts_add(s.counts, cluster_of(q, offset), 1);
    }
    if (!r && !fix) {
        c->errors += s.bad;
        r = look_at_snapshots(q, c);
        r = r || q->broken ? r : look_at_map(q, c); /* if tables share a place, there is no valid map */
    }
    r = r ? r : compare(q, s.counts, c, fix);
    pthread_mutex_unlock(&q->op);
    counts_free(s.counts);
    free(l1);
    return r;
}

int qcow2_check(struct block *b, enum block_repair repair, struct block_check *c, struct error *err)
{
    struct qcow2 *q = b->priv;
    void (*say)(struct block_check *c, const char *text) = c->say;
    bool broken = q->broken;

    int r = b->readonly || q->broken ? 0 : qcow2_flush(q);
    *c = (struct block_check){ .clusters = clusters_for(q, q->size), .say = say };
    r = r ? r : look(q, c, false);
    if (!r && broken) {
        c->errors += !c->errors;
        say_finding(c, "ERROR tables lie over one another");
    }
    u64 errors = c->errors, leaks = c->leaks;
    bool all = repair == BLOCK_REPAIR_ALL && (errors || q->incompatible & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT));
    if (!r && repair != BLOCK_REPAIR_NONE && (errors || leaks || all)) {
        if (q->autoclear & ~AUTOCLEAR_BITMAPS) { /* we do not know what the other bits vouch for */
            q->autoclear &= AUTOCLEAR_BITMAPS;
            put64(q->header + H_AUTOCLEAR, q->autoclear);
            r = file_pwrite(q->file, 0, q->header, 512);
        }
        if (!r && all) {
            r = qcow2_rebuild(q, true, err);
            if (r)
                return r;
        } else if (!r && !errors) {
            r = look(q, c, true);
            r = r ? r : qcow2_flush(q);
        }
        *c = (struct block_check){ .clusters = c->clusters, .say = say };
        c->say = NULL;
        r = r ? r : look(q, c, false);
        if (!r && !errors && c->errors) { /* a count went down to 1: now the flag COPIED must be set */
            *c = (struct block_check){ .clusters = c->clusters };
            r = qcow2_rebuild(q, false, err);
            if (r)
                return r;
            r = look(q, c, false);
        }
        c->say = say;
        c->errors_fixed = errors - MIN(errors, c->errors);
        c->leaks_fixed = leaks - MIN(leaks, c->leaks);
    }
    return r ? error_set(err, -r, "cannot check %s: %s", b->path, strerror(-r)) : 0;
}
