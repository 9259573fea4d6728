/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_refcount.c - knows which clusters of the file are in use, takes clusters and gives them back. It also knows
 * which clusters hold metadata, so that a damaged image cannot make us write a guest's data over it.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

int qcow2_corrupt(struct qcow2 *q, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (q->broken)
        return -EIO;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    q->broken = true;
    if (!q->b->check_only)
        log_error("%s is damaged: %s; nothing more is written to it (lodge disk check -r all)", q->b->path, text);
    if (!q->b->readonly && q->version == 3) {
        q->incompatible |= INCOMPATIBLE_CORRUPT;
        put64(q->header + H_INCOMPATIBLE, q->incompatible);
        if (file_pwrite(q->file, 0, q->header, 512) || file_flush(q->file))
            log_warn("%s: could not be marked as damaged", q->b->path);
    }
    return -EIO;
}

/* ---- counts ---- */

u64 refcount_read(const struct qcow2 *q, const u8 *block, u64 i)
{
    switch (q->refcount_order) {
    case 3:
        return block[i];
    case 4:
        return get16(block + i * 2);
    case 5:
        return get32(block + i * 4);
    case 6:
        return get64(block + i * 8);
    default: {
        u32 width = 1u << q->refcount_order, per_byte = 8 / width;
        return block[i / per_byte] >> (i % per_byte * width) & ((1u << width) - 1);
    }
    }
}

void refcount_write(const struct qcow2 *q, u8 *block, u64 i, u64 count)
{
    switch (q->refcount_order) {
    case 3:
        block[i] = (u8)count;
        break;
    case 4:
        put16(block + i * 2, (u32)count);
        break;
    case 5:
        put32(block + i * 4, (u32)count);
        break;
    case 6:
        put64(block + i * 8, count);
        break;
    default: {
        u32 width = 1u << q->refcount_order, per_byte = 8 / width, shift = (u32)(i % per_byte) * width;
        u32 mask = (1u << width) - 1;
        block[i / per_byte] = (u8)((block[i / per_byte] & ~(mask << shift)) | (count & mask) << shift);
        break;
    }
    }
}

static u64 in_block(const struct qcow2 *q, u64 cluster)
{
    return cluster & (BIT(q->block_bits) - 1);
}

int refcount_get(struct qcow2 *q, u64 cluster, u64 *count)
{
    u64 i = cluster >> q->block_bits;
    struct table *block;

    *count = 0;
    if (i >= q->reftable.n || !q->reftable.entry[i])
        return 0;
    int r = table_get(q, &q->reftable, (u32)i, &block);
    if (!r)
        *count = refcount_read(q, block->data, in_block(q, cluster));
    return r;
}

int refcount_set(struct qcow2 *q, u64 cluster, u64 count)
{
    struct table *block;
    u64 i = in_block(q, cluster);
    int r = table_get(q, &q->reftable, (u32)(cluster >> q->block_bits), &block);

    if (r)
        return r;
    u32 len = q->refcount_order > 3 ? 1u << (q->refcount_order - 3) : 1, at = (u32)(i << q->refcount_order >> 3);
    u8 bytes[16] = { 0 };
    /* We change a copy of the bytes that hold the count, because a flush copies counts. The loop thread does not
       look at them. */
    memcpy(bytes, block->data + at, len);
    refcount_write(q, bytes, q->refcount_order < 3 ? i & ((8u >> q->refcount_order) - 1) : 0, count);
    table_change(q, &q->reftable, block, at, bytes, len);
    return 0;
}

/* ---- metadata ---- */

static u64 slot_of(const struct cluster_set *s, u64 cluster)
{
    u64 i = (cluster + 1) * 0x9e3779b97f4a7c15ull >> 20;
    for (i &= s->slots - 1; s->slot[i] && s->slot[i] != cluster + 1;)
        i = (i + 1) & (s->slots - 1);
    return i;
}

static int set_add(struct cluster_set *s, u64 cluster)
{
    if (s->used * 2 >= s->slots) {
        struct cluster_set grown = { .slots = s->slots ? s->slots * 2 : 64, .used = s->used };
        grown.slot = calloc(grown.slots, 8);
        if (!grown.slot)
            return -ENOMEM;
        for (u64 i = 0; i < s->slots; i++)
            if (s->slot[i])
                grown.slot[slot_of(&grown, s->slot[i] - 1)] = s->slot[i];
        free(s->slot);
        *s = grown;
    }
    u64 i = slot_of(s, cluster);
    if (s->slot[i])
        return -EEXIST;
    s->slot[i] = cluster + 1;
    s->used++;
    return 0;
}

int metadata_add(struct qcow2 *q, u64 cluster)
{
    pthread_mutex_lock(&q->lock);
    int r = set_add(&q->tables, cluster);
    pthread_mutex_unlock(&q->lock);
    return r == -EEXIST ? qcow2_corrupt(q, "two tables are at cluster %llu", (unsigned long long)cluster) : r;
}

static void set_remove(struct cluster_set *s, u64 cluster)
{
    u64 i = s->slots ? slot_of(s, cluster) : 0;

    if (!s->slots || !s->slot[i])
        return;
    s->slot[i] = 0;
    s->used--;
    /* The clusters in the slots behind it may be there because their own slot was taken by it. */
    for (i = (i + 1) & (s->slots - 1); s->slot[i]; i = (i + 1) & (s->slots - 1)) {
        u64 moved = s->slot[i];
        s->slot[i] = 0;
        s->slot[slot_of(s, moved - 1)] = moved;
    }
}

void metadata_remove(struct qcow2 *q, u64 cluster)
{
    pthread_mutex_lock(&q->lock);
    set_remove(&q->tables, cluster);
    pthread_mutex_unlock(&q->lock);
}

bool is_metadata(struct qcow2 *q, u64 cluster, u64 n)
{
    u32 low = 0, high = q->nfixed;

    while (low < high) { /* finds the first range that ends behind cluster */
        u32 mid = (low + high) / 2;
        if (q->fixed[mid].end <= cluster)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < q->nfixed && q->fixed[low].start < cluster + n)
        return true;
    for (u64 c = cluster; q->tables.slots && c < cluster + n; c++)
        if (q->tables.slot[slot_of(&q->tables, c)])
            return true;
    return false;
}

static int by_start(const void *a, const void *b)
{
    u64 x = ((const struct range *)a)->start, y = ((const struct range *)b)->start;
    return x < y ? -1 : x > y;
}

static int fixed_collect(struct qcow2 *q)
{
    struct range *f = calloc(4 + (size_t)q->nsnapshots, sizeof(*f));
    u32 n = 0, kept = 0;

    if (!f)
        return -ENOMEM;
    f[n++] = (struct range){ 0, 1 };
    f[n++] = (struct range){ cluster_of(q, q->l1.offset), clusters_for(q, (u64)q->l1.n * 8) };
    f[n++] = (struct range){ cluster_of(q, q->reftable.offset), clusters_for(q, (u64)q->reftable.n * 8) };
    f[n++] = (struct range){ cluster_of(q, q->snapshots_offset), clusters_for(q, q->snapshots_bytes) };
    for (u32 i = 0; i < q->nsnapshots; i++)
        f[n++] = (struct range){ cluster_of(q, q->snapshots[i].l1_offset),
                                 clusters_for(q, (u64)q->snapshots[i].l1_size * 8) };
    for (u32 i = 0; i < n; i++)
        f[i].end += f[i].start; /* until here it was the number of clusters */
    qsort(f, n, sizeof(*f), by_start);
    for (u32 i = 0; i < n; i++)
        if (kept && f[i].start <= f[kept - 1].end)
            f[kept - 1].end = MAX(f[kept - 1].end, f[i].end);
        else
            f[kept++] = f[i];
    pthread_mutex_lock(&q->lock);
    free(q->fixed);
    q->fixed = f, q->nfixed = kept;
    pthread_mutex_unlock(&q->lock);
    return 0;
}

/* Checks that each table has a place of its own that is not one of the fixed ones. */
static int tables_collect(struct qcow2 *q, const struct top *t, u64 mask, const char *what)
{
    for (u32 i = 0; i < t->n; i++) {
        u64 offset = t->entry[i] & mask;
        if (!offset)
            continue;
        if (in_cluster(q, offset) || offset >= q->file_end || is_metadata(q, cluster_of(q, offset), 1))
            return qcow2_corrupt(q, "%s %u cannot be at %llu", what, i, (unsigned long long)offset);
        int r = metadata_add(q, cluster_of(q, offset));
        if (r)
            return r;
    }
    return 0;
}

int metadata_collect(struct qcow2 *q)
{
    metadata_free(q);
    int r = fixed_collect(q);
    r = r ? r : tables_collect(q, &q->reftable, ~511ull, "refcount block");
    return r ? r : tables_collect(q, &q->l1, ENTRY_OFFSET, "L2 table");
}

void metadata_free(struct qcow2 *q)
{
    free(q->tables.slot);
    free(q->fixed);
    q->tables = (struct cluster_set){ 0 };
    q->fixed = NULL, q->nfixed = 0;
}

/* ---- taking ---- */

static void file_reaches(struct qcow2 *q, u64 end)
{
    pthread_mutex_lock(&q->lock);
    q->file_end = MAX(q->file_end, end);
    pthread_mutex_unlock(&q->lock);
}

/* Makes a new refcount block i, at the first cluster that it counts. All the clusters that it counts are free. */
static int block_new(struct qcow2 *q, u32 i, u64 cluster)
{
    u64 offset = cluster << q->cluster_bits;

    if (is_metadata(q, cluster, 1))
        return qcow2_corrupt(q, "cluster %llu is in use but counted as free", (unsigned long long)cluster);
    int r = metadata_add(q, cluster);
    if (r)
        return r;
    r = table_new(q, &q->reftable, i, offset, NULL);
    if (r) {
        metadata_remove(q, cluster);
        return r;
    }
    top_set(q, &q->reftable, i, offset);
    file_reaches(q, offset + q->cluster_size);
    return 0;
}

/* Makes a larger refcount table behind all clusters that the present one covers: first the refcount blocks for it,
   then the table itself. The flush writes it, and then the header. */
static int reftable_grow(struct qcow2 *q)
{
    struct top *t = &q->reftable;
    u64 per_cluster = q->cluster_size / 8, start = (u64)t->n << q->block_bits, blocks = 1;
    u64 clusters = clusters_for(q, (u64)t->n * 8), wanted = clusters + MAX(clusters / 2, 1), n = wanted * per_cluster;

    for (u64 need; (need = (blocks + wanted + BIT(q->block_bits) - 1) >> q->block_bits) > blocks;)
        blocks = need;
    if (n * 8 > QCOW2_MAX_REFTABLE)
        return -EFBIG;
    if (is_metadata(q, start, blocks + wanted))
        return qcow2_corrupt(q, "cluster %llu is in use but not counted", (unsigned long long)start);

    int r = file_do(q->file, FILE_ALLOCATE, start << q->cluster_bits, (blocks + wanted) << q->cluster_bits);
    if (r)
        return r;
    u64 *entry = calloc(n, 8), *dirty = calloc(n / 4096 + 1, 8), old = cluster_of(q, t->offset);
    struct table **sub = calloc(n, sizeof(*sub));
    if (!entry || !dirty || !sub || clusters_drop(q, old, clusters)) {
        free(entry);
        free(dirty);
        free(sub);
        return -ENOMEM;
    }
    memcpy(entry, t->entry, (size_t)t->n * 8);
    memcpy(sub, t->sub, (size_t)t->n * sizeof(*sub));
    memset(dirty, 0xff, (n / 4096 + 1) * 8);
    dirty[n / 4096] = BIT((n % 4096 + 63) / 64) - 1; /* n / 64 < 64 there */
    u32 first = t->n;
    pthread_mutex_lock(&q->lock);
    free(t->entry);
    free(t->dirty);
    free(t->sub);
    t->entry = entry, t->dirty = dirty, t->sub = sub;
    t->offset = (start + blocks) << q->cluster_bits;
    t->n = (u32)n;
    t->any_dirty = t->fresh = t->unnamed = true;
    pthread_mutex_unlock(&q->lock);

    for (u64 i = 0; !r && i < blocks; i++)
        r = block_new(q, first + (u32)i, start + i);
    for (u64 c = start; !r && c < start + blocks + wanted; c++)
        r = refcount_set(q, c, 1);
    file_reaches(q, (start + blocks + wanted) << q->cluster_bits);
    r = r ? r : fixed_collect(q);
    if (r) /* no memory in the middle of it: nothing in the file is wrong, and none of these changes may reach the
              file */
        q->broken = true;
    return r;
}

/* The refcount block that counts `cluster`; it is made if necessary. */
static int block_for(struct qcow2 *q, u64 cluster, struct table **block)
{
    u64 i = cluster >> q->block_bits;
    int r = 0;

    if (cluster > (ENTRY_OFFSET >> q->cluster_bits))
        return -EFBIG;
    while (!r && i >= q->reftable.n)
        r = reftable_grow(q);
    if (!r && !q->reftable.entry[i]) {
        u64 at = i << q->block_bits;
        r = block_new(q, (u32)i, at);
        r = r ? r : refcount_set(q, at, 1);
    }
    return r ? r : table_get(q, &q->reftable, (u32)i, block);
}

int clusters_take(struct qcow2 *q, u64 want, u64 *cluster, u64 *got, bool *blank)
{
    u64 c = q->free_hint, n, per_block = BIT(q->block_bits);
    struct table *block;

    if (q->broken)
        return -EIO;
    for (;;) {
        int r = block_for(q, c, &block);
        if (r)
            return r;
        u64 i = in_block(q, c);
        while (i < per_block && refcount_read(q, block->data, i))
            i++;
        c = (c & ~(per_block - 1)) + i;
        if (i < per_block)
            break;
    }
    for (n = 1; n < want && in_block(q, c + n) && !refcount_read(q, block->data, in_block(q, c + n));)
        n++;
    if (file_is_device(q->file)) {
        u64 room = file_size(q->file) >> q->cluster_bits;
        if (c >= room)
            return -ENOSPC;
        n = MIN(n, room - c);
    }
    if (is_metadata(q, c, n))
        return qcow2_corrupt(q, "cluster %llu holds tables but is counted as free", (unsigned long long)c);
    for (u64 i = 0; i < n; i++) {
        int r = refcount_set(q, c + i, 1);
        if (r) {
            clusters_untake(q, c, i);
            return r;
        }
    }
    q->free_hint = c + n;
    *cluster = c;
    *got = n;
    *blank = c << q->cluster_bits >= q->file_end && !file_is_device(q->file);
    file_reaches(q, (c + n) << q->cluster_bits);
    return 0;
}

void clusters_untake(struct qcow2 *q, u64 cluster, u64 n)
{
    for (u64 i = 0; i < n; i++)
        if (refcount_set(q, cluster + i, 0))
            break; /* the rest is leaked */
    q->free_hint = MIN(q->free_hint, cluster);
}

/* ---- giving back ---- */

int clusters_drop(struct qcow2 *q, u64 cluster, u64 n)
{
    struct dropped *last = q->ndropped ? &q->dropped[q->ndropped - 1] : NULL;

    if (last && last->cluster + last->n == cluster) {
        last->n += n;
        return 0;
    }
    if (q->ndropped == q->dropped_room) {
        u64 room = MAX(q->dropped_room * 2, 64);
        struct dropped *grown = realloc(q->dropped, room * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        q->dropped = grown, q->dropped_room = room;
    }
    q->dropped[q->ndropped++] = (struct dropped){ cluster, n };
    return 0;
}

static void punch(struct qcow2 *q, struct range *run)
{
    /* A free cluster may hold anything, so a failure here does not matter. */
    if (run->end > run->start && q->b->discard &&
        file_do(q->file, FILE_DISCARD, run->start << q->cluster_bits, (run->end - run->start) << q->cluster_bits))
        log_debug("%s: no hole at cluster %llu", q->b->path, (unsigned long long)run->start);
    *run = (struct range){ 0, 0 };
}

void clusters_release(struct qcow2 *q, const struct dropped *d, u64 n)
{
    struct range run = { 0, 0 };

    for (u64 i = 0; i < n; i++)
        for (u64 c = d[i].cluster; c < d[i].cluster + d[i].n; c++) {
            u64 count;
            if (refcount_get(q, c, &count))
                continue; /* the cluster is leaked */
            if (!count) {
                qcow2_corrupt(q, "cluster %llu was in use but counted as free", (unsigned long long)c);
                continue;
            }
            if (refcount_set(q, c, count - 1) || count > 1)
                continue;
            metadata_remove(q, c);
            if (run.end != c) {
                punch(q, &run);
                run.start = c;
            }
            run.end = c + 1;
            q->free_hint = MIN(q->free_hint, c);
        }
    punch(q, &run);
}
