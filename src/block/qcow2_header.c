/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_header.c - the first cluster (header, extensions, the name of the backing file) and the snapshot table.
 */
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADER_AREA = 64 * 1024, FEATURE_NAME = 46, FEATURE_ENTRY = 48, SNAPSHOT_ENTRY = 40, SNAPSHOT_EXTRA_MAX = 1024 };

static const struct {
    u8 type, bit;
    char name[FEATURE_NAME];
} feature_names[] = {
    { 0, 0, "dirty bit" },
    { 0, 1, "corrupt bit" },
    { 0, 2, "external data file" },
    { 0, 3, "compression type" },
    { 0, 4, "extended L2 entries" },
};

/* Gives the extension at *pos and moves *pos on. false at the end; an extension that does not fit is the end, too. */
static bool next_extension(const u8 *h, u32 end, u32 *pos, u32 *type, const u8 **data, u32 *len)
{
    if (*pos > end || end - *pos < 8)
        return false;
    *type = get32(h + *pos);
    *len = get32(h + *pos + 4);
    if (*type == EXT_END || *len > end - *pos - 8)
        return false;
    *data = h + *pos + 8;
    *pos += 8 + (u32)align_up(*len, 8);
    return true;
}

static u32 extensions_begin(const struct qcow2 *q)
{
    return q->version == 2 ? QCOW2_V2_HEADER : q->header_length;
}

static u32 extensions_limit(const struct qcow2 *q)
{
    u64 backing = get64(q->header + H_BACKING_OFFSET);
    return backing && backing < q->header_size ? (u32)backing : q->header_size;
}

const u8 *qcow2_bitmaps(const struct qcow2 *q)
{
    u32 pos = extensions_begin(q), type, len;
    const u8 *data;

    while (next_extension(q->header, extensions_limit(q), &pos, &type, &data, &len))
        if (type == EXT_BITMAPS && len >= 24)
            return data;
    return NULL;
}

/* ---- reading ---- */

static int refuse_features(struct qcow2 *q, u64 unknown, struct error *err)
{
    unsigned bit = (unsigned)__builtin_ctzll(unknown);
    u32 pos = extensions_begin(q), type, len;
    const u8 *data;
    char name[FEATURE_NAME + 1] = "";

    while (next_extension(q->header, extensions_limit(q), &pos, &type, &data, &len))
        for (u32 i = 0; type == EXT_FEATURE_NAMES && i + FEATURE_ENTRY <= len; i += FEATURE_ENTRY)
            if (data[i] == 0 && data[i + 1] == bit)
                memcpy(name, data + i + 2, FEATURE_NAME);
    if (!name[0])
        snprintf(name, sizeof(name), "incompatible bit %u", bit);
    return error_set(err, ENOTSUP, "%s uses a feature of qcow2 that is not known here: %s; convert it with qemu-img",
                     q->b->path, name);
}

static int read_names(struct qcow2 *q, struct error *err)
{
    const u8 *h = q->header, *data;
    u64 offset = get64(h + H_BACKING_OFFSET);
    u32 size = get32(h + H_BACKING_SIZE), pos = extensions_begin(q), type, len;

    while (next_extension(h, extensions_limit(q), &pos, &type, &data, &len))
        if (type == EXT_BACKING_FORMAT && !q->backing_format) {
            if (len > 15)
                return error_set(err, EINVAL, "%s is damaged: the name of the backing file's format is %u bytes long",
                                 q->b->path, len);
            q->backing_format = strndup((const char *)data, len);
            if (!q->backing_format)
                return error_set(err, ENOMEM, "no memory");
        }
    if (!offset || !size)
        return 0;
    if (size > QCOW2_MAX_BACKING || offset > q->header_size || size > q->header_size - offset)
        return error_set(err, EINVAL, "%s is damaged: the name of its backing file is not within the first cluster",
                         q->b->path);
    q->backing = strndup((const char *)h + offset, size);
    return q->backing ? 0 : error_set(err, ENOMEM, "no memory");
}

/* True if a table of `bytes` at offset lies in the file (its last cluster may be cut short). */
static bool table_fits(const struct qcow2 *q, u64 offset, u64 bytes)
{
    u64 end;
    return !in_cluster(q, offset) && offset && !add_overflows(offset, bytes, &end) &&
           end <= align_up(q->file_end, q->cluster_size);
}

static int check_fields(struct qcow2 *q, struct error *err)
{
    const u8 *h = q->header;
    const char *path = q->b->path, *why = NULL;

    if (get32(h + H_CRYPT))
        return error_set(err, ENOTSUP, "%s is encrypted, which is not supported; convert it with qemu-img", path);
    u64 unknown = q->incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION |
                                      INCOMPATIBLE_DATA_FILE | INCOMPATIBLE_EXTENDED_L2);
    if (unknown)
        return refuse_features(q, unknown, err);
    if (q->incompatible & INCOMPATIBLE_DATA_FILE)
        return error_set(err, ENOTSUP, "%s keeps its data in another file (data_file), which is not supported; convert "
                         "it with qemu-img", path);
    if (q->incompatible & INCOMPATIBLE_EXTENDED_L2)
        return error_set(err, ENOTSUP, "%s has extended L2 entries, which are not supported; convert it with "
                         "qemu-img -o extended_l2=off", path);
    if (q->compression > 1 || !q->compression != !(q->incompatible & INCOMPATIBLE_COMPRESSION))
        return error_set(err, ENOTSUP, "%s is compressed in a way that is not known here (%u)", path, q->compression);

    u64 l1 = get64(h + H_L1_OFFSET), reftable = get64(h + H_REFTABLE_OFFSET);
    u32 l1_size = get32(h + H_L1_SIZE), reftable_clusters = get32(h + H_REFTABLE_CLUSTERS);
    if (q->refcount_order > 6)
        why = "refcount_order is above 6";
    else if (l1_size > QCOW2_MAX_L1 / 8)
        why = "its L1 table is larger than 32 MiB";
    else if (q->size > (u64)INT64_MAX - q->cluster_size || l1_for(q, q->size) > l1_size)
        why = "its L1 table is too small for its size";
    else if (l1_size && !table_fits(q, l1, (u64)l1_size * 8))
        why = "its L1 table is not within the file";
    else if (!reftable_clusters || ((u64)reftable_clusters << q->cluster_bits) > QCOW2_MAX_REFTABLE)
        why = "the size of its refcount table cannot be";
    else if (!table_fits(q, reftable, (u64)reftable_clusters << q->cluster_bits))
        why = "its refcount table is not within the file";
    return why ? error_set(err, EINVAL, "%s is damaged: %s", path, why) : 0;
}

int qcow2_read_header(struct qcow2 *q, struct error *err)
{
    const char *path = q->b->path;
    u8 first[512];

    q->file_end = file_size(q->file);
    int r = file_pread(q->file, 0, first, sizeof(first));
    if (r)
        return error_set(err, -r, "cannot read %s: %s", path, strerror(-r));
    if (get32(first) != QCOW2_MAGIC || q->file_end < QCOW2_V2_HEADER)
        return error_set(err, EINVAL, "%s is not a qcow2 image", path);
    q->version = get32(first + H_VERSION);
    if (q->version != 2 && q->version != 3)
        return error_set(err, ENOTSUP, "%s is qcow2 of version %u; versions 2 and 3 are known here", path, q->version);
    q->cluster_bits = get32(first + H_CLUSTER_BITS);
    if (q->cluster_bits < QCOW2_MIN_BITS || q->cluster_bits > QCOW2_MAX_BITS)
        return error_set(err, EINVAL, "%s is damaged: its clusters have 2^%u bytes; 512 bytes to 2 MiB are known here",
                         path, q->cluster_bits);
    q->cluster_size = 1u << q->cluster_bits;
    q->l2_bits = q->cluster_bits - 3;
    q->piece_bits = MAX(q->cluster_bits, 18) - 6; /* at most 64 pieces, of at least 4 KiB */
    q->piece_bits = MIN(q->piece_bits, q->cluster_bits);
    q->header_size = MIN(q->cluster_size, HEADER_AREA);
    q->header = malloc(q->header_size);
    if (!q->header)
        return error_set(err, ENOMEM, "no memory");
    r = file_pread(q->file, 0, q->header, q->header_size);
    if (r)
        return error_set(err, -r, "cannot read %s: %s", path, strerror(-r));

    const u8 *h = q->header;
    q->size = get64(h + H_SIZE);
    q->refcount_order = 4;
    q->header_length = QCOW2_V2_HEADER;
    if (q->version == 3) {
        q->incompatible = get64(h + H_INCOMPATIBLE);
        q->compatible = get64(h + H_COMPATIBLE);
        q->autoclear = get64(h + H_AUTOCLEAR);
        q->refcount_order = get32(h + H_REFCOUNT_ORDER);
        q->header_length = get32(h + H_LENGTH);
        if (q->header_length < QCOW2_V3_HEADER || q->header_length % 8 || q->header_length > q->header_size)
            return error_set(err, EINVAL, "%s is damaged: its header is %u bytes long", path, q->header_length);
        q->compression = q->header_length > H_COMPRESSION ? h[H_COMPRESSION] : 0;
    }
    q->block_bits = q->cluster_bits + 3 - q->refcount_order;
    r = check_fields(q, err);
    return r ? r : read_names(q, err);
}

void qcow2_free_header(struct qcow2 *q)
{
    free(q->header);
    free(q->backing);
    free(q->backing_format);
    q->header = NULL, q->backing = NULL, q->backing_format = NULL;
}

/* ---- writing ---- */

static void put_fields(const struct qcow2 *q, u8 *h)
{
    put32(h, QCOW2_MAGIC);
    put32(h + H_VERSION, q->version);
    put32(h + H_CLUSTER_BITS, q->cluster_bits);
    put64(h + H_SIZE, q->size);
    put32(h + H_CRYPT, 0);
    put32(h + H_L1_SIZE, q->l1.n);
    put64(h + H_L1_OFFSET, q->l1.offset);
    put64(h + H_REFTABLE_OFFSET, q->reftable.offset);
    put32(h + H_REFTABLE_CLUSTERS, (u32)clusters_for(q, (u64)q->reftable.n * 8));
    put32(h + H_NB_SNAPSHOTS, q->nsnapshots);
    put64(h + H_SNAPSHOTS_OFFSET, q->snapshots_offset);
    if (q->version == 2)
        return;
    put64(h + H_INCOMPATIBLE, q->incompatible);
    put64(h + H_COMPATIBLE, q->compatible);
    put64(h + H_AUTOCLEAR, q->autoclear);
    put32(h + H_REFCOUNT_ORDER, q->refcount_order);
    put32(h + H_LENGTH, q->header_length);
}

int qcow2_write_header(struct qcow2 *q)
{
    put_fields(q, q->header);
    return file_pwrite(q->file, 0, q->header, 512);
}

/* Appends an extension; false if it does not fit. */
static bool put_extension(u8 *buf, u32 room, u32 *pos, u32 type, const void *data, u32 len)
{
    u32 padded = (u32)align_up(len, 8);
    if (room < *pos || room - *pos < 8 || room - *pos - 8 < padded)
        return false;
    put32(buf + *pos, type);
    put32(buf + *pos + 4, len);
    memcpy(buf + *pos + 8, data, len);
    memset(buf + *pos + 8 + len, 0, padded - len);
    *pos += 8 + padded;
    return true;
}

static bool put_feature_names(u8 *buf, u32 room, u32 *pos)
{
    u8 table[ARRAY_SIZE(feature_names) * FEATURE_ENTRY];
    for (u32 i = 0; i < ARRAY_SIZE(feature_names); i++)
        memcpy(table + (size_t)i * FEATURE_ENTRY, &feature_names[i], FEATURE_ENTRY);
    return put_extension(buf, room, pos, EXT_FEATURE_NAMES, table, sizeof(table));
}

/* The format of the backing file comes first, so that it shares the first 512 bytes with the fields. Then come the
   other extensions of the old header. The bitmaps extension is left out when its autoclear bit is gone, because its
   clusters may have been given back. */
int qcow2_format_header(struct qcow2 *q, u8 *buf, u32 room)
{
    u32 pos = extensions_begin(q), from = pos, type, len;
    const u8 *data;
    bool fits = true;

    memset(buf, 0, room);
    if (q->header)
        memcpy(buf, q->header, extensions_begin(q));
    put_fields(q, buf);
    if (q->backing_format)
        fits = put_extension(buf, room, &pos, EXT_BACKING_FORMAT, q->backing_format, (u32)strlen(q->backing_format));
    if (!q->header && q->version == 3 && room - pos > 1024)
        fits = fits && put_feature_names(buf, room, &pos);
    while (q->header && next_extension(q->header, extensions_limit(q), &from, &type, &data, &len)) {
        if (type == EXT_BACKING_FORMAT || (type == EXT_BITMAPS && !(q->autoclear & AUTOCLEAR_BITMAPS)))
            continue;
        fits = fits && put_extension(buf, room, &pos, type, data, len);
    }
    if (!fits || room - pos < 8)
        return -ENOSPC;
    pos += 8; /* the end mark: zeroes */
    put64(buf + H_BACKING_OFFSET, 0);
    put32(buf + H_BACKING_SIZE, 0);
    if (q->backing) {
        u32 n = (u32)strlen(q->backing);
        if (n > QCOW2_MAX_BACKING || n > room - pos)
            return -ENOSPC;
        put64(buf + H_BACKING_OFFSET, pos);
        put32(buf + H_BACKING_SIZE, n);
        memcpy(buf + pos, q->backing, n);
        pos += n;
    }
    return (int)pos;
}

int qcow2_rename_backing(struct qcow2 *q, const char *backing, const char *format, struct error *err)
{
    char *old_backing = q->backing, *old_format = q->backing_format;
    u8 *buf = malloc(q->header_size);
    int r = buf ? 0 : -ENOMEM;

    q->backing = backing ? strdup(backing) : NULL;
    q->backing_format = backing && format ? strdup(format) : NULL;
    if (!r && backing && (!q->backing || (format && !q->backing_format)))
        r = -ENOMEM;
    if (!r)
        r = qcow2_format_header(q, buf, q->header_size);
    if (r > 0 && r > 512) {
        /* The new name must be in the file before the fields refer to it. It must not be in the place of the old
           one. */
        u64 old = get64(q->header + H_BACKING_OFFSET), at = get64(buf + H_BACKING_OFFSET);
        u32 n = backing ? (u32)strlen(backing) : 0, old_n = get32(q->header + H_BACKING_SIZE);
        u64 behind = MAX(old + old_n, 512);
        if (n && old && old < at + n && at < old + old_n && behind + n <= q->header_size) {
            u64 kept = MAX(MAX(old, at), 512); /* the bytes before this are written with the fields, or belong to the
                                                  new extensions */
            memmove(buf + behind, buf + at, n);
            put64(buf + H_BACKING_OFFSET, behind);
            if (kept < old + old_n)
                memcpy(buf + kept, q->header + kept, old + old_n - kept);
        }
        r = q->header_size > 512 ? file_pwrite(q->file, 512, buf + 512, q->header_size - 512) : 0;
        r = r ? r : file_flush(q->file);
    }
    if (r >= 0)
        r = file_pwrite(q->file, 0, buf, 512);
    if (!r)
        r = file_flush(q->file);
    if (r) {
        free(q->backing);
        free(q->backing_format);
        q->backing = old_backing, q->backing_format = old_format;
        free(buf);
        return r == -ENOSPC ? error_set(err, ENOSPC, "the backing file's name does not fit into the header of %s (or the "
                                        "disk is full)", q->b->path)
                            : error_set(err, -r, "cannot write the header of %s: %s", q->b->path, strerror(-r));
    }
    free(old_backing);
    free(old_format);
    free(q->header);
    q->header = buf;
    return 0;
}

/* ---- snapshots ---- */

void qcow2_free_snapshots(struct qcow2_snapshot *s, u32 n)
{
    for (u32 i = 0; s && i < n; i++) {
        free(s[i].extra);
        free(s[i].id);
        free(s[i].name);
    }
    free(s);
}

static char *read_string(struct qcow2 *q, u64 at, u32 len)
{
    char *s = calloc(1, len + 1u);
    if (s && file_pread(q->file, at, s, len)) {
        free(s);
        return NULL;
    }
    return s;
}

static int read_snapshot(struct qcow2 *q, u64 *at, u64 end, struct qcow2_snapshot *s)
{
    u8 e[SNAPSHOT_ENTRY];
    int r = end - *at < sizeof(e) ? -EINVAL : file_pread(q->file, *at, e, sizeof(e));
    if (r)
        return r;
    u32 id = get16(e + 12), name = get16(e + 14);
    *s = (struct qcow2_snapshot){ .l1_offset = get64(e), .l1_size = get32(e + 8), .seconds = get32(e + 16),
                                  .nanoseconds = get32(e + 20), .clock = get64(e + 24), .state_size = get32(e + 32),
                                  .extra_size = get32(e + 36), .size = q->size };
    u64 bytes = (u64)sizeof(e) + s->extra_size + id + name;
    if (s->extra_size > SNAPSHOT_EXTRA_MAX || bytes > end - *at || s->l1_size > QCOW2_MAX_L1 / 8 ||
        (s->l1_size && !table_fits(q, s->l1_offset, (u64)s->l1_size * 8)))
        return -EINVAL;
    s->extra = calloc(1, s->extra_size + 1u);
    s->id = read_string(q, *at + sizeof(e) + s->extra_size, id);
    s->name = read_string(q, *at + sizeof(e) + s->extra_size + id, name);
    if (!s->extra || !s->id || !s->name)
        return -EIO;
    r = file_pread(q->file, *at + sizeof(e), s->extra, s->extra_size);
    if (s->extra_size >= 8)
        s->state_size = get64(s->extra);
    if (s->extra_size >= 16)
        s->size = get64(s->extra + 8);
    if (!r && (s->size > (u64)INT64_MAX - q->cluster_size || l1_for(q, s->size) > s->l1_size))
        r = -EINVAL;
    *at = align_up(*at + bytes, 8);
    return r;
}

static int by_offset(const void *a, const void *b)
{
    const struct qcow2_snapshot *x = *(struct qcow2_snapshot *const *)a, *y = *(struct qcow2_snapshot *const *)b;
    return x->l1_offset != y->l1_offset ? (x->l1_offset < y->l1_offset ? -1 : 1) : (x > y) - (x < y);
}

int qcow2_shared_l1s(const struct qcow2 *q, struct qcow2_snapshot ***shared, u32 *n)
{
    struct qcow2_snapshot **l1 = calloc(q->nsnapshots + 1u, sizeof(struct qcow2_snapshot *));
    u32 all = 0;
    u64 end = 0;

    *shared = l1;
    *n = 0;
    if (!l1)
        return -ENOMEM;
    for (u32 i = 0; i < q->nsnapshots; i++)
        if (q->snapshots[i].l1_size)
            l1[all++] = &q->snapshots[i];
    qsort(l1, all, sizeof(*l1), by_offset);
    for (u32 i = 0; i < all; i++) {
        u64 own = l1[i]->l1_offset + l1[i]->l1_size * 8ull;
        if (l1[i]->l1_offset < end)
            l1[(*n)++] = l1[i];
        end = MAX(end, own);
    }
    return 0;
}

/* Each snapshot has an L1 table of its own. A hostile image could claim 65536 tables of 32 MiB in one place, and we
   would read them one by one. A check accepts as many as it can repair. */
static int check_l1s(const struct qcow2 *q, struct error *err)
{
    struct qcow2_snapshot **shared;
    u64 bytes = 0;
    u32 n;
    int r = qcow2_shared_l1s(q, &shared, &n);

    for (u32 i = 0; i < n; i++)
        bytes += shared[i]->l1_size * 8ull;
    free(shared);
    if (r)
        return error_set(err, ENOMEM, "no memory");
    if (bytes > (q->b->check_only ? QCOW2_MAX_CHAIN_L1 : 0))
        return error_set(err, EINVAL, "%s is damaged: the L1 tables of its snapshots lie over one another%s", q->b->path,
                         q->b->check_only ? ", too many to repair" : "; see lodge disk check");
    return 0;
}

int qcow2_read_snapshots(struct qcow2 *q, struct error *err)
{
    u64 begin = get64(q->header + H_SNAPSHOTS_OFFSET), at = begin, end = align_up(q->file_end, q->cluster_size), l1 = 0;
    u32 n = get32(q->header + H_NB_SNAPSHOTS);

    if (!n)
        return 0;
    if (n > QCOW2_MAX_SNAPSHOTS || !table_fits(q, begin, (u64)n * SNAPSHOT_ENTRY))
        return error_set(err, EINVAL, "%s is damaged: its snapshot table cannot be", q->b->path);
    end = MIN(end, begin + QCOW2_MAX_SNAPSHOT_TABLE);
    q->snapshots = calloc(n, sizeof(*q->snapshots));
    if (!q->snapshots)
        return error_set(err, ENOMEM, "no memory");
    for (u32 i = 0; i < n; i++) {
        q->nsnapshots = i + 1;
        int r = at > end ? -EINVAL : read_snapshot(q, &at, end, &q->snapshots[i]);
        /* Each snapshot has an L1 table of its own, so together these are no larger than the file. */
        l1 += align_up((u64)q->snapshots[i].l1_size * 8, q->cluster_size);
        if (!r && l1 > align_up(q->file_end, q->cluster_size))
            r = -EINVAL;
        if (r)
            return error_set(err, -r, "%s is damaged: the entry of snapshot %u cannot be", q->b->path, i + 1);
    }
    q->snapshots_offset = begin;
    q->snapshots_bytes = at - begin;
    return check_l1s(q, err);
}

u8 *qcow2_format_snapshots(const struct qcow2_snapshot *s, u32 n, u64 *len)
{
    u64 bytes = 0;

    for (u32 i = 0; i < n; i++)
        bytes += align_up(SNAPSHOT_ENTRY + MAX(s[i].extra_size, 16) + strlen(s[i].id) + strlen(s[i].name), 8);
    u8 *buf = calloc(1, bytes + 1), *p = buf;
    for (u32 i = 0; buf && i < n; i++, s++) {
        u32 extra = MAX(s->extra_size, 16);
        size_t id = strlen(s->id), name = strlen(s->name);
        put64(p, s->l1_offset);
        put32(p + 8, s->l1_size);
        put16(p + 12, (u32)id);
        put16(p + 14, (u32)name);
        put32(p + 16, s->seconds);
        put32(p + 20, s->nanoseconds);
        put64(p + 24, s->clock);
        put32(p + 32, (u32)MIN(s->state_size, UINT32_MAX));
        put32(p + 36, extra);
        memcpy(p + SNAPSHOT_ENTRY, s->extra, s->extra_size);
        put64(p + SNAPSHOT_ENTRY, s->state_size);
        put64(p + SNAPSHOT_ENTRY + 8, s->size);
        memcpy(p + SNAPSHOT_ENTRY + extra, s->id, id);
        memcpy(p + SNAPSHOT_ENTRY + extra + id, s->name, name);
        p += align_up(SNAPSHOT_ENTRY + extra + id + name, 8);
    }
    *len = bytes;
    return buf;
}
