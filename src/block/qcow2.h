/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2.h - the inside of the qcow2 format (qemu docs/interop/qcow2.txt; we use its names). docs/qcow2.md says how
 * consistency is kept.
 *
 * There are three locks. `op` is held by code that maps, allocates or changes tables. It may be held while a table is
 * read from the file, so the loop thread never takes it while requests run. `lock` (inside op) is held for a short time
 * only. It protects what the loop thread looks at: a table in the cache changes, comes or goes only while both are
 * held. `flushing` (outside op) allows one flush at a time.
 */
#ifndef LODGE_BLOCK_QCOW2_H
#define LODGE_BLOCK_QCOW2_H

#include <endian.h>
#include <pthread.h>
#include <string.h>

#include "block/internal.h"

enum {
    QCOW2_MAGIC = 0x514649fb, /* "QFI\xfb" */
    QCOW2_MIN_BITS = 9,
    QCOW2_MAX_BITS = 21,
    QCOW2_V2_HEADER = 72,
    QCOW2_V3_HEADER = 104,
    QCOW2_MAX_L1 = 32 << 20,    /* bytes; the limits of qemu */
    QCOW2_MAX_CHAIN_L1 = 4 * QCOW2_MAX_L1, /* for a chain of images, since all are in memory */
    QCOW2_MAX_REFTABLE = 8 << 20,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_SNAPSHOT_TABLE = 64 << 20,
    QCOW2_MAX_BACKING = 1023,
};

/* The offsets of the fields in the header. */
enum qcow2_field {
    H_VERSION = 4,
    H_BACKING_OFFSET = 8,
    H_BACKING_SIZE = 16,
    H_CLUSTER_BITS = 20,
    H_SIZE = 24,
    H_CRYPT = 32,
    H_L1_SIZE = 36,
    H_L1_OFFSET = 40,
    H_REFTABLE_OFFSET = 48,
    H_REFTABLE_CLUSTERS = 56,
    H_NB_SNAPSHOTS = 60,
    H_SNAPSHOTS_OFFSET = 64,
    H_INCOMPATIBLE = 72,
    H_COMPATIBLE = 80,
    H_AUTOCLEAR = 88,
    H_REFCOUNT_ORDER = 96,
    H_LENGTH = 100,
    H_COMPRESSION = 104,
};

/* Header extensions. */
#define EXT_END            0u
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_FEATURE_NAMES  0x6803f857u
#define EXT_BITMAPS        0x23852875u

#define INCOMPATIBLE_DIRTY       BIT(0)
#define INCOMPATIBLE_CORRUPT     BIT(1)
#define INCOMPATIBLE_DATA_FILE   BIT(2)
#define INCOMPATIBLE_COMPRESSION BIT(3)
#define INCOMPATIBLE_EXTENDED_L2 BIT(4)
#define COMPATIBLE_LAZY          BIT(0)
#define AUTOCLEAR_BITMAPS        BIT(0)

#define ENTRY_COPIED     BIT(63)
#define ENTRY_COMPRESSED BIT(62)
#define ENTRY_ZERO       BIT(0)
#define ENTRY_OFFSET     0x00fffffffffffe00ull

static inline u64 get64(const void *p) { u64 v; memcpy(&v, p, 8); return be64toh(v); }
static inline u32 get32(const void *p) { u32 v; memcpy(&v, p, 4); return be32toh(v); }
static inline u32 get16(const void *p) { u16 v; memcpy(&v, p, 2); return be16toh(v); }
static inline void put64(void *p, u64 v) { v = htobe64(v); memcpy(p, &v, 8); }
static inline void put32(void *p, u32 v) { v = htobe32(v); memcpy(p, &v, 4); }
static inline void put16(void *p, u32 v) { u16 w = htobe16((u16)v); memcpy(p, &w, 2); }

/* ---- tables in memory ---- */

/* An L2 table or a refcount block, as it is in the file (big endian). */
struct table {
    struct table *prev, *next; /* ordered by last use, among tables of its kind */
    u64 offset;
    u32 index;    /* in the L1 table or in the refcount table */
    bool fresh;   /* nothing in the file points here yet: it may be written before what it refers to is stable */
    bool writing; /* a flush is writing it: it stays in the cache */
    u64 dirty;    /* a bit for each piece of 1 << q->piece_bits bytes */
    u8 data[];
};

/* A top table, completely in memory (host endian), with those tables below it that are in the cache. */
struct top {
    u64 offset;
    u32 n;
    u64 *entry;
    u64 *dirty; /* a bit for each 512 bytes */
    bool any_dirty;
    bool fresh, unnamed; /* a refcount table that grew: fresh: not yet written; unnamed: not yet in the header */
    struct table **sub;
    struct table lru;   /* head of the list */
    u64 cached, most;   /* tables */
    u64 dirty_tables;
};

/* References that were dropped. Their clusters are given back when the file no longer has the references. */
struct dropped {
    u64 cluster, n;
};

struct qcow2_snapshot {
    u64 l1_offset;
    u32 l1_size;
    u32 seconds, nanoseconds;
    u64 clock, state_size, size;
    u32 extra_size;
    u8 *extra;   /* all of the extra data, unchanged */
    char *id, *name;
};

/* A set of clusters that hold metadata. Guests' data must not be written over them. */
struct cluster_set {
    u64 *slot; /* cluster + 1, or 0 */
    u64 slots, used;
};
struct range {
    u64 start, end; /* clusters */
};

struct qcow2 {
    struct block *b;
    struct file *file;
    u32 version, cluster_bits, cluster_size, l2_bits, refcount_order, block_bits, piece_bits;
    u64 size; /* size of the guest's disk, as the header says */
    u64 incompatible, compatible, autoclear;
    u32 compression, header_length;
    u8 *header; /* the first cluster (64 KiB of it at most), as the file has it */
    u32 header_size;
    char *backing, *backing_format; /* as they are in the header, or NULL */

    pthread_mutex_t flushing, op, lock;
    struct top l1, reftable;
    struct qcow2_snapshot *snapshots;
    u64 snapshots_offset, snapshots_bytes;
    u32 nsnapshots;

    u64 file_end; /* bytes: what begins here or later was never written and reads as zeroes. It only grows. */
    u64 free_hint; /* cluster: no cluster before it is free */
    struct dropped *dropped;
    u64 ndropped, dropped_room;
    struct cluster_set tables;
    struct range *fixed; /* sorted: header, L1, refcount table, snapshots */
    u32 nfixed;
    bool broken; /* the image was found corrupt: it can only be read from now on */

    u64 flushes_begun, flushes_done; /* numbers of flushes; done: the last one that succeeded */

    u64 unpacked_at; /* file offset of the compressed cluster that is in `unpacked`, or 0; protected by `packed` */
    u8 *unpacked;
    pthread_mutex_t packed;

    struct qcow2_requests *requests;
};

static inline u64 cluster_of(const struct qcow2 *q, u64 offset) { return offset >> q->cluster_bits; }
static inline u64 in_cluster(const struct qcow2 *q, u64 offset) { return offset & (q->cluster_size - 1); }
static inline u64 clusters_for(const struct qcow2 *q, u64 bytes) { return (bytes + q->cluster_size - 1) >> q->cluster_bits; }
/* Bytes of the guest's disk that one L1 entry covers. */
static inline u32 l1_shift(const struct qcow2 *q) { return q->cluster_bits + q->l2_bits; }
static inline u64 l1_for(const struct qcow2 *q, u64 size) { return (size + BIT(l1_shift(q)) - 1) >> l1_shift(q); }
static inline u64 max_refcount(const struct qcow2 *q) { return q->refcount_order == 6 ? ~0ull : BIT(1u << q->refcount_order) - 1; }

/* ---- qcow2_header.c ---- */

/* Reads and checks the header, the extensions and the snapshot table. */
int must_check qcow2_read_header(struct qcow2 *q, struct error *err);
void qcow2_free_header(struct qcow2 *q);
/* Writes the first 512 bytes as one unit; all fields are in them. */
int must_check qcow2_write_header(struct qcow2 *q);
/* Writes a new first cluster with these names; the other fields come from q. */
int must_check qcow2_rename_backing(struct qcow2 *q, const char *backing, const char *format, struct error *err);
int must_check qcow2_read_snapshots(struct qcow2 *q, struct error *err);
/* The snapshot table in the form that it has in the file: malloc'ed, *len bytes. */
u8 *qcow2_format_snapshots(const struct qcow2_snapshot *s, u32 n, u64 *len);
/* The bitmaps extension, or NULL if there is none. */
const u8 *qcow2_bitmaps(const struct qcow2 *q);
void qcow2_free_snapshots(struct qcow2_snapshot *s, u32 n);
/* Finds the snapshots whose L1 table begins within that of another snapshot, which keeps the table. The caller frees
   *shared. -ENOMEM. */
int must_check qcow2_shared_l1s(const struct qcow2 *q, struct qcow2_snapshot ***shared, u32 *n);
/* Writes the header for a new image into buf (a cluster); returns the length or -ENOSPC. */
int qcow2_format_header(struct qcow2 *q, u8 *buf, u32 room);

/* ---- qcow2_table.c: the cache and the order of writes ---- */

int must_check top_load(struct qcow2 *q, struct top *t, u64 offset, u32 n, u64 most);
void top_free(struct top *t);
/* Gets the table of entry i (which is not 0), and reads it if necessary; op held. */
int must_check table_get(struct qcow2 *q, struct top *t, u32 i, struct table **out);
/* Makes a new table of zeroes, or (from) a copy, at offset, for entry i. Marks it dirty and fresh; op held. The
   caller sets the entry. */
int must_check table_new(struct qcow2 *q, struct top *t, u32 i, u64 offset, const struct table *from);
/* These change [data + at, + len), or an entry: op held; they take lock. */
void table_change(struct qcow2 *q, struct top *t, struct table *tab, u32 at, const void *bytes, u32 len);
void top_set(struct qcow2 *q, struct top *t, u32 i, u64 entry);
/* Frees t, which then becomes what was just loaded. */
void top_replace(struct top *t, struct top *by);
/* Makes everything done so far stable, in order. Takes flushing and op. */
int must_check qcow2_flush(struct qcow2 *q);
/* The same, unless a flush that began after flush number `seen` already did it. */
int must_check qcow2_flush_since(struct qcow2 *q, u64 seen);
/* Flushes if many tables are dirty. No lock held. */
int must_check qcow2_relieve(struct qcow2 *q);

/* ---- qcow2_refcount.c ---- */

int must_check refcount_get(struct qcow2 *q, u64 cluster, u64 *count); /* op held, as below */
u64 refcount_read(const struct qcow2 *q, const u8 *block, u64 i);
void refcount_write(const struct qcow2 *q, u8 *block, u64 i, u64 count);
int must_check refcount_set(struct qcow2 *q, u64 cluster, u64 count); /* its refcount block exists */
/* Takes up to `want` clusters in a row, at least one. *blank: says whether they read as zeroes. */
int must_check clusters_take(struct qcow2 *q, u64 want, u64 *cluster, u64 *got, bool *blank);
/* Gives back clusters that clusters_take gave and that nothing ever referred to. */
void clusters_untake(struct qcow2 *q, u64 cluster, u64 n);
/* A reference to these clusters is dropped from a table. They are given back after the next flush. */
int must_check clusters_drop(struct qcow2 *q, u64 cluster, u64 n);
/* The flush calls it when the file has no such reference any more. */
void clusters_release(struct qcow2 *q, const struct dropped *d, u64 n);

bool is_metadata(struct qcow2 *q, u64 cluster, u64 n);
int must_check metadata_add(struct qcow2 *q, u64 cluster);
void metadata_remove(struct qcow2 *q, u64 cluster);
/* Collects all metadata from L1, refcount table and snapshots. */
int must_check metadata_collect(struct qcow2 *q);
void metadata_free(struct qcow2 *q);

/* Called when the image is found corrupt: says so once, marks the image in its header (v3), and makes writes fail
   from now on. -EIO. */
int qcow2_corrupt(struct qcow2 *q, const char *fmt, ...) printf_like(2, 3);

/* ---- qcow2.c ---- */

/* Reads the tables that the header names; it is called again after a switch. */
int must_check qcow2_load_tables(struct qcow2 *q, struct error *err);

/* ---- qcow2_data.c ---- */

enum run_kind { RUN_BACKING, RUN_ZERO, RUN_DATA, RUN_COMPRESSED };
struct run {
    enum run_kind kind;
    u64 len;   /* bytes */
    u64 host;  /* DATA: the place in the file; COMPRESSED: the L2 entry */
    bool own;  /* it may be written in place */
};
/* Finds what begins at offset. cached: it uses only tables in memory, else -EAGAIN, and `lock` is held; otherwise op
   is held. */
int must_check qcow2_lookup(struct qcow2 *q, u64 offset, u64 len, bool cached, struct run *run);

/* Synchronous. A request that changes clusters is the only one that uses them. */
int must_check qcow2_read(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 skip, u64 len);
int must_check qcow2_write(struct qcow2 *q, u64 offset, const struct iovec *iov, u32 niov, u64 len);
int must_check qcow2_zero(struct qcow2 *q, u64 offset, u64 len, bool unmap);
int must_check qcow2_discard(struct qcow2 *q, u64 offset, u64 len);
/* Makes n clusters unallocated, so that the content of the backing file is seen again. */
int must_check qcow2_forget(struct qcow2 *q, u64 first, u64 n);
/* The bytes of the file that a compressed cluster takes. */
void compressed_extent(const struct qcow2 *q, u64 entry, u64 *offset, u64 *len);

/* ---- qcow2_compress.c ---- */

/* Unpacks the whole cluster of this L2 entry into out. */
int must_check qcow2_unpack(struct qcow2 *q, u64 entry, u8 *out);

/* ---- qcow2_scan.c: counts all references anew ---- */

struct counts; /* by cluster; it takes memory only where clusters have a count */
/* True if [offset, offset + len) of the file was never written and so reads as zeroes. */
bool qcow2_in_hole(struct qcow2 *q, u64 offset, u64 len);
struct counts *counts_new(void);
void counts_free(struct counts *c);
int must_check counts_add(struct counts *c, u64 cluster, u32 n); /* -ENOMEM; stops at UINT32_MAX */
void counts_sub(struct counts *c, u64 cluster);
u32 counts_get(const struct counts *c, u64 cluster);
/* Finds the first cluster from `from` on that has a count; false: none. It goes in order after counts_sort. */
int must_check counts_sort(struct counts *c);
bool counts_next(const struct counts *c, u64 *cluster);

struct scan {
    struct counts *counts;
    struct block_check *check; /* or NULL: the first invalid entry ends the scan with -EIO */
    bool fix;                  /* invalid entries are removed, in the file and in l1 */
    u64 bad;
};
/* Counts everything that these tables refer to: L2 tables, clusters, the snapshots' L1 tables; also bitmaps if they
   are valid. */
int must_check scan_tables(struct qcow2 *q, struct scan *s, u64 *l1, u32 l1_size, const struct qcow2_snapshot *snapshots,
                           u32 nsnapshots);
void say_finding(struct block_check *c, const char *fmt, ...) printf_like(2, 3);

/* ---- qcow2_switch.c: changes that take effect by one write of the header ---- */

/* What the image shall become. All tables that change are written beside the old ones; then the header names the new
   ones. */
struct target {
    u64 *l1; /* entries (host endian; the flag COPIED is ignored); qcow2_switch uses it up */
    u32 l1_size;
    u64 size;
    struct qcow2_snapshot *snapshots; /* their L1 tables are in the file; q owns them after success */
    u32 nsnapshots;
    bool distrust; /* the refcounts in the file are wrong */
    bool fix;      /* see struct scan */
};
/* Call it while nothing is under way. what: for the sentence in err, "take the snapshot". */
int must_check qcow2_switch(struct qcow2 *q, struct target *t, const char *what, struct error *err);
/* Gives the same content right refcounts: after the dirty bit was found, and for check -r all. */
int must_check qcow2_rebuild(struct qcow2 *q, bool fix, struct error *err);

/* ---- the operations of tools, each in its file ---- */

int qcow2_check(struct block *b, enum block_repair repair, struct block_check *c, struct error *err);
int qcow2_snapshot(struct block *b, enum block_snapshot_op op, const char *name, struct error *err);
int qcow2_create(struct file *f, const struct block_create *t, struct error *err);
int qcow2_resize(struct block *b, u64 size, struct error *err);
int qcow2_set_backing(struct block *b, const char *backing, const char *format, struct error *err);
int qcow2_make_empty(struct block *b, struct error *err);
int qcow2_info(struct block *b, struct block_info *info, struct error *err);

#endif
