/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_data.c - from the guest's disk to the file: lookup, reading, writing with allocation and copy on write, zeroes,
 * discard. Nothing here waits until data is stable: new data and counts are in the file before the flush writes the L2
 * table.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdlib.h>

enum { BOUNCE = 256 * 1024, RUN_MAX = 16 << 20 };

static const u8 zeroes[64 * 1024];

/* ---- lookup ---- */

static enum run_kind kind_of(const struct qcow2 *q, u64 e)
{
    if (e & ENTRY_COMPRESSED)
        return RUN_COMPRESSED;
    if (e & ENTRY_ZERO && q->version > 2)
        return RUN_ZERO;
    return e & ENTRY_OFFSET ? RUN_DATA : RUN_BACKING;
}

static u64 l2_entry(const struct table *t, u32 i)
{
    return get64(t->data + (size_t)i * 8);
}

int qcow2_lookup(struct qcow2 *q, u64 offset, u64 len, bool cached, struct run *run)
{
    u32 i = (u32)(offset >> l1_shift(q)), l2 = (u32)(cluster_of(q, offset) & (BIT(q->l2_bits) - 1));
    u64 inside = in_cluster(q, offset), l1e = i < q->l1.n ? q->l1.entry[i] : 0, at;
    struct table *t;

    *run = (struct run){ .kind = RUN_BACKING };
    if (!(l1e & ENTRY_OFFSET)) {
        u64 end = (u64)i + 1;
        while (end < q->l1.n && end << l1_shift(q) < offset + len && !(q->l1.entry[end] & ENTRY_OFFSET))
            end++;
        run->len = MIN(len, (end << l1_shift(q)) - offset);
        return 0;
    }
    if (cached) {
        t = q->l1.sub[i];
        if (!t)
            return -EAGAIN;
    } else {
        int r = table_get(q, &q->l1, i, &t);
        if (r)
            return r;
    }
    u64 e = l2_entry(t, l2);
    run->kind = kind_of(q, e);
    run->own = e & ENTRY_COPIED && l1e & ENTRY_COPIED;
    at = run->kind == RUN_COMPRESSED ? e : e & ENTRY_OFFSET;
    if (run->kind == RUN_DATA && in_cluster(q, at))
        return cached ? -EAGAIN : qcow2_corrupt(q, "the cluster for %llu is at %llu, which is not aligned",
                                                (unsigned long long)offset, (unsigned long long)at);
    run->host = run->kind == RUN_DATA ? at + inside : at;
    u64 n = 1, most = MIN(BIT(q->l2_bits) - l2, clusters_for(q, inside + len));
    while (run->kind != RUN_COMPRESSED && n < most) {
        u64 f = l2_entry(t, l2 + (u32)n);
        if (kind_of(q, f) != run->kind || (run->kind == RUN_DATA && ((f ^ e) & ENTRY_COPIED ||
                                                                     (f & ENTRY_OFFSET) != at + (n << q->cluster_bits))))
            break;
        n++;
    }
    run->len = MIN(len, (n << q->cluster_bits) - inside);
    return 0;
}

static bool reads_as_zero(const struct qcow2 *q, enum run_kind kind, u64 offset)
{
    return kind == RUN_ZERO || (kind == RUN_BACKING && (!q->b->backing || offset >= q->b->backing->size));
}

/* ---- reading ---- */

static int read_backing(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    struct iovec one;
    int r = 0;

    if (iov_slice(&one, 1, iov, niov, skip, len) == 1 && one.iov_len == len)
        return block_read_now(q->b->backing, offset, one.iov_base, len);
    u8 *buf = malloc(MIN(len, BOUNCE));
    if (!buf)
        return -ENOMEM;
    for (u64 done = 0, n; !r && done < len; done += n) {
        n = MIN(len - done, BOUNCE);
        r = block_read_now(q->b->backing, offset + done, buf, n);
        if (!r)
            iov_scatter(iov, niov, skip + done, buf, n);
    }
    free(buf);
    return r;
}

static int read_compressed(struct qcow2 *q, u64 entry, u64 inside, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    int r = 0;

    pthread_mutex_lock(&q->packed);
    if (!q->unpacked)
        q->unpacked = malloc(q->cluster_size);
    if (!q->unpacked)
        r = -ENOMEM;
    else if (q->unpacked_at != entry) {
        q->unpacked_at = 0;
        r = qcow2_unpack(q, entry, q->unpacked);
        if (!r)
            q->unpacked_at = entry;
    }
    if (!r)
        iov_scatter(iov, niov, skip, q->unpacked + inside, len);
    pthread_mutex_unlock(&q->packed);
    return r;
}

int qcow2_read(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    struct iovec part[BLOCK_MAX_IOV];
    struct run run;

    for (u64 done = 0; done < len; done += run.len) {
        u64 at = offset + done;
        pthread_mutex_lock(&q->op);
        int r = qcow2_lookup(q, at, len - done, false, &run);
        pthread_mutex_unlock(&q->op);
        if (r)
            return r;
        if (reads_as_zero(q, run.kind, at))
            iov_zero(iov, niov, skip + done, run.len);
        else if (run.kind == RUN_BACKING)
            r = read_backing(q, at, iov, niov, skip + done, run.len);
        else if (run.kind == RUN_COMPRESSED)
            r = read_compressed(q, run.host, in_cluster(q, at), iov, niov, skip + done, run.len);
        else
            r = file_preadv(q->file, run.host, part,
                            iov_slice(part, BLOCK_MAX_IOV, iov, niov, skip + done, run.len), run.len);
        if (r)
            return r;
    }
    return 0;
}

/* ---- writing ---- */

/* Gets the L2 table for L1 entry i, as one that only the active image uses; op held. */
static int l2_for_write(struct qcow2 *q, u32 i, struct table **out)
{
    struct table *old = NULL;
    u64 e, cluster, n;
    bool blank;

    if (i >= q->l1.n)
        return -EINVAL;
    e = q->l1.entry[i];
    if (e & ENTRY_OFFSET && e & ENTRY_COPIED)
        return table_get(q, &q->l1, i, out);
    int r = clusters_take(q, 1, &cluster, &n, &blank);
    if (r)
        return r;
    if (e & ENTRY_OFFSET)
        r = table_get(q, &q->l1, i, &old);
    r = r ? r : metadata_add(q, cluster);
    r = r ? r : table_new(q, &q->l1, i, cluster << q->cluster_bits, old);
    if (r) {
        metadata_remove(q, cluster);
        clusters_untake(q, cluster, 1);
        return r;
    }
    top_set(q, &q->l1, i, cluster << q->cluster_bits | ENTRY_COPIED);
    if (e & ENTRY_OFFSET && clusters_drop(q, cluster_of(q, e & ENTRY_OFFSET), 1))
        r = 0; /* no memory to remember the cluster: it is leaked */
    return table_get(q, &q->l1, i, out);
}

/* Drops the clusters that the entry referred to. If there is no memory for that, they are leaked. */
static void drop_entry(struct qcow2 *q, u64 e)
{
    u64 offset = e & ENTRY_OFFSET, len = 1;

    if (e & ENTRY_COMPRESSED)
        compressed_extent(q, e, &offset, &len);
    else if (!offset)
        return;
    u64 first = cluster_of(q, offset), last = cluster_of(q, offset + len - 1);
    for (u64 c = first; c <= last; c++)
        if (clusters_drop(q, c, 1))
            return;
}

static int write_in_place(struct qcow2 *q, u64 host, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    struct iovec part[BLOCK_MAX_IOV];
    return file_pwritev(q->file, host, part, iov_slice(part, BLOCK_MAX_IOV, iov, niov, skip, len), len);
}

/* Clusters that are about to be written: `n` from guest cluster `first` on, all under one L2 table. */
struct plan {
    u64 first, n, host;
    bool taken; /* host was free before; otherwise it already belongs to these (zero) clusters */
    bool blank; /* host reads as zeroes */
};

static int make_plan(struct qcow2 *q, u64 offset, u64 len, struct plan *p)
{
    struct table *t;
    u32 l2 = (u32)(cluster_of(q, offset) & (BIT(q->l2_bits) - 1));
    u64 most = MIN(BIT(q->l2_bits) - l2, clusters_for(q, in_cluster(q, offset) + len)), cluster;

    int r = l2_for_write(q, (u32)(offset >> l1_shift(q)), &t);
    if (r)
        return r;
    most = MIN(most, (u64)MAX(RUN_MAX >> q->cluster_bits, 1));
    *p = (struct plan){ .first = cluster_of(q, offset) };
    u64 e = l2_entry(t, l2);
    bool reuse = kind_of(q, e) == RUN_ZERO && e & ENTRY_OFFSET && e & ENTRY_COPIED;
    for (p->n = 1; p->n < most; p->n++) {
        u64 f = l2_entry(t, l2 + (u32)p->n);
        bool own = kind_of(q, f) <= RUN_DATA && f & ENTRY_OFFSET && f & ENTRY_COPIED;
        if (reuse ? !own || kind_of(q, f) != RUN_ZERO || (f & ENTRY_OFFSET) != (e & ENTRY_OFFSET) + (p->n << q->cluster_bits)
                  : own)
            break;
    }
    if (reuse) {
        p->host = e & ENTRY_OFFSET;
        if (in_cluster(q, p->host) || p->host + (p->n << q->cluster_bits) > align_up(q->file_end, q->cluster_size) ||
            is_metadata(q, cluster_of(q, p->host), p->n))
            return qcow2_corrupt(q, "data would be written over tables at %llu", (unsigned long long)p->host);
        return 0;
    }
    r = clusters_take(q, p->n, &cluster, &p->n, &p->blank);
    p->host = cluster << q->cluster_bits;
    p->taken = true;
    return r;
}

/* Reads the old content of the part of a cluster that the request does not cover. *n = 0 if the file has it already. */
static int old_part(struct qcow2 *q, const struct plan *p, u64 offset, u64 *n, u8 **buf)
{
    struct run run;

    if (!*n)
        return 0;
    pthread_mutex_lock(&q->op);
    int r = qcow2_lookup(q, offset, *n, false, &run);
    pthread_mutex_unlock(&q->op);
    if (!r && p->blank && run.len == *n && reads_as_zero(q, run.kind, offset)) {
        *n = 0;
        return 0;
    }
    *buf = r ? NULL : malloc(*n);
    if (!*buf)
        return r ? r : -ENOMEM;
    return qcow2_read(q, offset, &(struct iovec){ *buf, *n }, 1, 0, *n);
}

/* Writes data, with the old content around it, into clusters that no table names yet. */
static int write_plan(struct qcow2 *q, const struct plan *p, u64 offset, const struct iovec *iov, u32 niov, u64 skip,
                      u64 len)
{
    u64 start = p->first << q->cluster_bits, end = (p->first + p->n) << q->cluster_bits;
    u64 head = offset - start, tail = end - (offset + len), behind = offset + len;
    struct iovec part[BLOCK_MAX_IOV + 2];
    u8 *before = NULL, *after = NULL;

    int r = old_part(q, p, start, &head, &before);
    r = r ? r : old_part(q, p, behind, &tail, &after);
    if (!r) {
        u32 n = iov_slice(part + 1, BLOCK_MAX_IOV, iov, niov, skip, len);
        u64 host = p->host + (offset - start);
        if (n + 2 > BLOCK_MAX_IOV) {
            r = head ? file_pwrite(q->file, p->host, before, head) : 0;
            r = r || !tail ? r : file_pwrite(q->file, p->host + (behind - start), after, tail);
            r = r ? r : file_pwritev(q->file, host, part + 1, n, len);
        } else {
            part[0] = (struct iovec){ before, head };
            part[n + 1] = (struct iovec){ after, tail };
            r = file_pwritev(q->file, host - head, head ? part : part + 1, n + !!head + !!tail, head + len + tail);
        }
    }
    free(before);
    free(after);
    return r;
}

/* Makes the L2 entries name the clusters; op held. */
static int link_plan(struct qcow2 *q, const struct plan *p)
{
    u32 l2 = (u32)(p->first & (BIT(q->l2_bits) - 1));
    struct table *t;
    u8 *entries = malloc(p->n * 8);

    int r = entries ? table_get(q, &q->l1, (u32)(p->first >> q->l2_bits), &t) : -ENOMEM;
    for (u64 i = 0; !r && i < p->n; i++) {
        if (p->taken)
            drop_entry(q, l2_entry(t, l2 + (u32)i));
        put64(entries + i * 8, (p->host + (i << q->cluster_bits)) | ENTRY_COPIED);
    }
    if (!r)
        table_change(q, &q->l1, t, l2 * 8, entries, (u32)p->n * 8);
    free(entries);
    return r;
}

/* Writes as much as can all be written in place, or all to new clusters: *n bytes. */
static int write_some(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 skip, u64 len, u64 *n)
{
    struct run run;
    struct plan p;

    pthread_mutex_lock(&q->op);
    int r = q->broken ? -EIO : qcow2_lookup(q, offset, len, false, &run);
    if (!r && run.kind == RUN_DATA && run.own) {
        if (run.host + run.len > align_up(q->file_end, q->cluster_size) ||
            is_metadata(q, cluster_of(q, run.host), cluster_of(q, run.host + run.len - 1) - cluster_of(q, run.host) + 1))
            r = qcow2_corrupt(q, "data would be written over tables at %llu", (unsigned long long)run.host);
        pthread_mutex_unlock(&q->op);
        *n = run.len;
        return r ? r : write_in_place(q, run.host, iov, niov, skip, run.len);
    }
    if (!r)
        r = make_plan(q, offset, len, &p);
    pthread_mutex_unlock(&q->op);
    if (r)
        return r;
    *n = MIN(len, ((p.first + p.n) << q->cluster_bits) - offset);
    r = write_plan(q, &p, offset, iov, niov, skip, *n);
    pthread_mutex_lock(&q->op);
    if (!r)
        r = link_plan(q, &p);
    if (r && p.taken)
        clusters_untake(q, cluster_of(q, p.host), p.n);
    pthread_mutex_unlock(&q->op);
    return r;
}

int qcow2_write(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 len)
{
    for (u64 done = 0, n; done < len; done += n) {
        int r = qcow2_relieve(q);
        r = r ? r : write_some(q, offset + done, iov, niov, done, len - done, &n);
        if (r)
            return r;
    }
    return 0;
}

/* ---- zeroes and discard ---- */

/* Writes zeroes as data wherever the content is something else. */
static int zero_by_writing(struct qcow2 *q, u64 offset, u64 len)
{
    struct run run;

    for (u64 done = 0; done < len; done += run.len) {
        u64 at = offset + done;
        pthread_mutex_lock(&q->op);
        int r = qcow2_lookup(q, at, MIN(len - done, (u64)8 * sizeof(zeroes)), false, &run);
        pthread_mutex_unlock(&q->op);
        if (r)
            return r;
        if (reads_as_zero(q, run.kind, at))
            continue;
        struct iovec iov[8];
        u32 n = 0;
        for (u64 left = run.len; left; left -= iov[n++].iov_len)
            iov[n] = (struct iovec){ (void *)(uintptr_t)zeroes, MIN(left, sizeof(zeroes)) };
        r = qcow2_write(q, at, iov, n, run.len);
        if (r)
            return r;
    }
    return 0;
}

enum clear { CLEAR_FORGET, CLEAR_DISCARD, CLEAR_ZERO, CLEAR_ZERO_UNMAP };

/* The L2 entry after the change; the same entry if nothing needs to be done. */
static u64 cleared(const struct qcow2 *q, u64 e, enum clear how, bool backing)
{
    bool zero = kind_of(q, e) == RUN_ZERO, own = e & ENTRY_COPIED && !(e & ENTRY_COMPRESSED);

    if (how == CLEAR_FORGET)
        return 0;
    if (how == CLEAR_DISCARD)
        return kind_of(q, e) == RUN_BACKING || (zero && !(e & ENTRY_OFFSET)) ? e : backing ? ENTRY_ZERO : 0;
    if (kind_of(q, e) == RUN_BACKING)
        return backing ? ENTRY_ZERO : e;
    if (how == CLEAR_ZERO && own)
        return e | ENTRY_ZERO;
    return zero && !(e & ENTRY_OFFSET) ? e : q->version > 2 && (backing || how == CLEAR_ZERO) ? ENTRY_ZERO : 0;
}

/* Clears n whole clusters under one L2 table. */
static int clear_entries(struct qcow2 *q, u64 first, u64 n, enum clear how)
{
    u32 l2 = (u32)(first & (BIT(q->l2_bits) - 1)), i = (u32)(first >> q->l2_bits);
    bool backing = q->b->backing && first << q->cluster_bits < q->b->backing->size;
    struct table *t;
    int r = q->broken ? -EIO : 0;

    if (how == CLEAR_DISCARD)
        backing = q->b->backing || q->backing; /* also past the end of the backing file, which may be exchanged for
                                                  another one */
    if (r || (!(q->l1.entry[i] & ENTRY_OFFSET) && (how <= CLEAR_DISCARD || !backing)))
        return r;
    u8 *entries = malloc(n * 8);
    r = entries ? l2_for_write(q, i, &t) : -ENOMEM;
    for (u64 k = 0; !r && k < n; k++) {
        u64 e = l2_entry(t, l2 + (u32)k), to = cleared(q, e, how, backing);
        if (e != to && (e & ENTRY_COMPRESSED || (to & ENTRY_OFFSET) != (e & ENTRY_OFFSET)))
            drop_entry(q, e);
        put64(entries + k * 8, to);
    }
    if (!r && memcmp(entries, t->data + (size_t)l2 * 8, n * 8))
        table_change(q, &q->l1, t, l2 * 8, entries, (u32)n * 8);
    free(entries);
    return r;
}

static int clear_clusters(struct qcow2 *q, u64 first, u64 n, enum clear how)
{
    int r = 0;
    for (u64 k; !r && n; first += k, n -= k) {
        k = MIN(n, BIT(q->l2_bits) - (first & (BIT(q->l2_bits) - 1)));
        r = qcow2_relieve(q);
        pthread_mutex_lock(&q->op);
        r = r ? r : clear_entries(q, first, k, how);
        pthread_mutex_unlock(&q->op);
    }
    return r;
}

/* The end of the disk counts as the end of a cluster. */
static u64 whole_until(const struct qcow2 *q, u64 end)
{
    return end >= q->b->size ? clusters_for(q, end) : cluster_of(q, end);
}

int qcow2_zero(struct qcow2 *q, u64 offset, u64 len, bool unmap)
{
    u64 first = clusters_for(q, offset), last = whole_until(q, offset + len), end = offset + len;

    if (first >= last || (q->version == 2 && (q->b->backing || !unmap)))
        return zero_by_writing(q, offset, len);
    u64 from = first << q->cluster_bits, to = MIN(last << q->cluster_bits, end);
    int r = zero_by_writing(q, offset, from - offset);
    r = r ? r : zero_by_writing(q, to, end - to);
    return r ? r : clear_clusters(q, first, last - first, unmap ? CLEAR_ZERO_UNMAP : CLEAR_ZERO);
}

int qcow2_discard(struct qcow2 *q, u64 offset, u64 len)
{
    u64 first = clusters_for(q, offset), last = whole_until(q, offset + len);

    if (first >= last || (q->version == 2 && (q->b->backing || q->backing)))
        return 0;
    return clear_clusters(q, first, last - first, CLEAR_DISCARD);
}

int qcow2_forget(struct qcow2 *q, u64 first, u64 n)
{
    return clear_clusters(q, first, n, CLEAR_FORGET);
}
