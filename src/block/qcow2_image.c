/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_image.c - makes an image, changes an image as a whole (size, name of the backing file, emptying) and gives
 * information.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- create ---- */

/* The order from the beginning of the file: header, refcount table, refcount blocks, L1 table. */
struct plan {
    u64 reftable, blocks, l1; /* the clusters that each takes */
    u64 l1_size;
};

static int plan_image(const struct qcow2 *q, struct plan *p, u64 room)
{
    u64 per_block = BIT(q->block_bits), per_cluster = q->cluster_size / 8;

    p->l1_size = l1_for(q, q->size);
    p->l1 = MAX(clusters_for(q, p->l1_size * 8), 1);
    /* The refcount table gets room for all clusters that the disk may take, if that is not absurd. */
    u64 data = clusters_for(q, q->size), all = data + data / per_cluster + data / per_block + p->l1 + 64;
    p->reftable = MIN(MAX(clusters_for(q, (all / per_block + 1) * 8), 1), 16);
    for (p->blocks = 1;; p->blocks++) {
        u64 used = 1 + p->reftable + p->blocks + p->l1 + room;
        if (p->blocks * per_block >= used && p->reftable * per_cluster >= p->blocks)
            return 0;
        if (p->reftable * per_cluster < p->blocks + 1)
            p->reftable++;
        if (p->reftable << q->cluster_bits > QCOW2_MAX_REFTABLE)
            return -EFBIG;
    }
}

static int write_image(struct qcow2 *q, struct file *f, const struct plan *p)
{
    u64 used = 1 + p->reftable + p->blocks + p->l1;
    u8 *buf = calloc(1, MAX(q->cluster_size, p->reftable << q->cluster_bits));
    int r = buf ? 0 : -ENOMEM;

    for (u64 i = 0; !r && i < p->blocks; i++)
        put64(buf + i * 8, (1 + p->reftable + i) << q->cluster_bits);
    r = r ? r : file_pwrite(f, q->cluster_size, buf, p->reftable << q->cluster_bits);
    for (u64 i = 0; !r && i < p->blocks; i++) {
        memset(buf, 0, q->cluster_size);
        for (u64 k = 0; k < BIT(q->block_bits) && (i << q->block_bits) + k < used; k++)
            refcount_write(q, buf, k, 1);
        r = file_pwrite(f, (1 + p->reftable + i) << q->cluster_bits, buf, q->cluster_size);
    }
    r = r ? r : file_truncate(f, used << q->cluster_bits); /* the L1 table: zeroes, with the space that it needs
                                                              later */
    r = r ? r : file_do(f, FILE_ALLOCATE, q->l1.offset, q->l1.n * 8ull);
    if (!r) {
        memset(buf, 0, q->cluster_size);
        r = qcow2_format_header(q, buf, q->cluster_size);
    }
    r = r < 0 ? r : file_flush(f);
    r = r ? r : file_pwrite(f, 0, buf, q->cluster_size);
    r = r ? r : file_flush(f);
    free(buf);
    return r;
}

/* preallocation=metadata: every cluster gets a place, which is a hole and so reads as zeroes. */
static int write_places(struct qcow2 *q, struct file *f, const struct plan *p)
{
    u64 data = clusters_for(q, q->size), per_l2 = BIT(q->l2_bits), first = 1 + p->reftable + p->blocks + p->l1;
    u64 l2s = p->l1_size, start = first + l2s;
    u8 *buf = malloc(q->cluster_size);
    int r = buf ? 0 : -ENOMEM;

    for (u64 i = 0; !r && i < l2s; i++) {
        memset(buf, 0, q->cluster_size);
        for (u64 k = 0; k < per_l2 && i * per_l2 + k < data; k++)
            put64(buf + k * 8, (start + i * per_l2 + k) << q->cluster_bits | ENTRY_COPIED);
        r = file_pwrite(f, (first + i) << q->cluster_bits, buf, q->cluster_size);
        put64(buf, (first + i) << q->cluster_bits | ENTRY_COPIED);
        r = r ? r : file_pwrite(f, (first - p->l1) * q->cluster_size + i * 8, buf, 8);
    }
    for (u64 i = 0; !r && i < p->blocks; i++) {
        memset(buf, 0, q->cluster_size);
        for (u64 k = 0; k < BIT(q->block_bits) && (i << q->block_bits) + k < start + data; k++)
            refcount_write(q, buf, k, 1);
        r = file_pwrite(f, (1 + p->reftable + i) << q->cluster_bits, buf, q->cluster_size);
    }
    r = r ? r : file_truncate(f, (start + data) << q->cluster_bits);
    r = r ? r : file_flush(f);
    free(buf);
    return r;
}

int qcow2_create(struct file *f, const struct block_create *t, struct error *err)
{
    u32 cluster = t->cluster_size ? t->cluster_size : 65536;
    struct plan p;

    if (cluster & (cluster - 1) || cluster < 1u << QCOW2_MIN_BITS || cluster > 1u << QCOW2_MAX_BITS)
        return error_set(err, EINVAL, "cluster_size must be a power of two from 512 to 2M, not %u", cluster);
    if (t->preallocate && t->backing)
        return error_set(err, EINVAL, "an image with a backing file cannot be preallocated: nothing of that file would be "
                         "seen");
    if (t->backing && strlen(t->backing) > QCOW2_MAX_BACKING)
        return error_set(err, EINVAL, "the backing file's name is longer than %d bytes", QCOW2_MAX_BACKING);
    struct qcow2 q = { .file = f, .version = t->v2 ? 2 : 3, .cluster_size = cluster, .size = t->size, .refcount_order = 4,
                       .cluster_bits = (u32)__builtin_ctz(cluster), .header_length = t->v2 ? QCOW2_V2_HEADER : 112,
                       .backing = (char *)(uintptr_t)t->backing,
                       .backing_format = (char *)(uintptr_t)(t->backing ? t->backing_format : NULL) };
    q.l2_bits = q.cluster_bits - 3;
    q.block_bits = q.cluster_bits + 3 - q.refcount_order;
    if (t->size > (u64)INT64_MAX - cluster || l1_for(&q, t->size) > QCOW2_MAX_L1 / 8)
        return error_set(err, EFBIG, "with clusters of %u bytes a disk can have %llu GiB; take a larger cluster_size",
                         cluster, (unsigned long long)((u64)(QCOW2_MAX_L1 / 8) << (q.cluster_bits + q.l2_bits) >> 30));
    u64 data = clusters_for(&q, t->size);
    int r = plan_image(&q, &p, t->preallocate ? data + l1_for(&q, t->size) : 0);
    if (!r) {
        q.l1.n = (u32)p.l1_size;
        q.reftable.offset = cluster;
        q.reftable.n = (u32)(p.reftable << (q.cluster_bits - 3));
        q.l1.offset = (1 + p.reftable + p.blocks) << q.cluster_bits;
        r = write_image(&q, f, &p);
    }
    if (!r && t->preallocate)
        r = write_places(&q, f, &p);
    return r ? error_set(err, -r, "cannot write %s: %s", file_path(f), strerror(-r)) : 0;
}

/* ---- changes ---- */

/* Makes everything between the old and the new end zero: what the backing file has there, the rest of the last
   cluster, and what is left of a shrinking that was cut short. */
static int cover(struct qcow2 *q, u64 from, u64 to)
{
    u64 old = q->b->size, at = MIN(align_up(from, q->cluster_size), to);
    u64 end = MAX(q->b->backing ? q->b->backing->size : 0, align_up(from, BIT(l1_shift(q))));

    q->b->size = to;
    int r = qcow2_zero(q, from, at - from, true);
    if (!r && end > at)
        r = qcow2_zero(q, at, MIN(align_up(end, q->cluster_size), to) - at, true);
    q->b->size = old;
    return r ? r : qcow2_flush(q);
}

int qcow2_resize(struct block *b, u64 size, struct error *err)
{
    struct qcow2 *q = b->priv;
    int r = 0;

    if (q->version == 2 && q->nsnapshots)
        return error_set(err, ENOTSUP, "%s has snapshots and is of version 2 (compat=0.10), where they share one size: it "
                         "cannot be resized", b->path);
    if (size > (u64)INT64_MAX - q->cluster_size || l1_for(q, size) > QCOW2_MAX_L1 / 8)
        return error_set(err, EFBIG, "with clusters of %u bytes a disk can have %llu GiB", q->cluster_size,
                         (unsigned long long)((u64)(QCOW2_MAX_L1 / 8) << l1_shift(q) >> 30));
    u32 need = (u32)l1_for(q, size);
    u64 *l1 = calloc(need + 1u, 8);
    if (!l1)
        return error_set(err, ENOMEM, "no memory");
    struct target t = { .l1 = l1, .l1_size = need, .size = q->size, .snapshots = q->snapshots,
                        .nsnapshots = q->nsnapshots };
    if (size > b->size) {
        if (need > q->l1.n) {
            memcpy(l1, q->l1.entry, (size_t)q->l1.n * 8);
            r = qcow2_switch(q, &t, "resize", err);
        }
        if (!r && (r = cover(q, b->size, size)))
            error_set(err, -r, "cannot resize %s: %s", b->path, strerror(-r));
    } else if (size < b->size) {
        /* First the header forgets the L1 entries behind the end. Then the entries of the last L2 table are removed,
           which nobody sees any more. */
        u64 end = clusters_for(q, size), n = MIN(clusters_for(q, q->size), need * BIT(q->l2_bits)) - end;
        memcpy(l1, q->l1.entry, (size_t)need * 8);
        t.size = size;
        r = qcow2_switch(q, &t, "resize", err);
        if (!r && n && (r = qcow2_forget(q, end, n)))
            error_set(err, -r, "%s is smaller, but its space was not given back: %s", b->path, strerror(-r));
    }
    free(l1);
    if (!r && q->size != size) {
        u64 old = q->size;
        q->size = size;
        r = qcow2_write_header(q);
        r = r ? r : file_flush(q->file);
        if (r) {
            q->size = old;
            error_set(err, -r, "cannot write the header of %s: %s", b->path, strerror(-r));
        }
    }
    b->size = align_down(q->size, BLOCK_SECTOR);
    return r;
}

int qcow2_set_backing(struct block *b, const char *backing, const char *format, struct error *err)
{
    struct qcow2 *q = b->priv;
    int r = q->broken ? -EIO : qcow2_flush(q);
    return r ? error_set(err, -r, "cannot write to %s: %s", b->path, strerror(-r))
             : qcow2_rename_backing(q, backing, format, err);
}

int qcow2_make_empty(struct block *b, struct error *err)
{
    struct qcow2 *q = b->priv;
    u32 n = (u32)l1_for(q, q->size);
    u64 *l1 = calloc(n + 1u, 8);

    if (!l1)
        return error_set(err, ENOMEM, "no memory");
    struct target t = { .l1 = l1, .l1_size = n, .size = q->size, .snapshots = q->snapshots, .nsnapshots = q->nsnapshots };
    int r = qcow2_switch(q, &t, "empty", err);
    free(l1);
    return r;
}

/* ---- information ---- */

int qcow2_info(struct block *b, struct block_info *info, struct error *err)
{
    struct qcow2 *q = b->priv;

    info->cluster_size = q->cluster_size;
    snprintf(info->compat, sizeof(info->compat), "%s", q->version == 2 ? "0.10" : "1.1");
    info->dirty = q->incompatible & INCOMPATIBLE_DIRTY;
    info->corrupt = q->incompatible & INCOMPATIBLE_CORRUPT;
    info->lazy_refcounts = q->compatible & COMPATIBLE_LAZY;
    info->compressed_zstd = q->compression == 1;
    info->refcount_bits = 1u << q->refcount_order;
    snprintf(info->backing, sizeof(info->backing), "%s", q->backing ? q->backing : "");
    snprintf(info->backing_format, sizeof(info->backing_format), "%s", q->backing_format ? q->backing_format : "");
    info->snapshots = calloc(q->nsnapshots + 1u, sizeof(*info->snapshots));
    if (!info->snapshots)
        return error_set(err, ENOMEM, "no memory");
    info->nsnapshots = q->nsnapshots;
    for (u32 i = 0; i < q->nsnapshots; i++) {
        const struct qcow2_snapshot *s = &q->snapshots[i];
        struct block_snapshot_info *to = &info->snapshots[i];
        *to = (struct block_snapshot_info){ .size = s->size, .state_size = s->state_size, .time_s = s->seconds,
                                            .clock_ns = s->clock };
        snprintf(to->id, sizeof(to->id), "%s", s->id);
        snprintf(to->name, sizeof(to->name), "%s", s->name);
    }
    return 0;
}
