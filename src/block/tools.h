/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools.h - what is done to images while no guest uses them: create, look, check, resize, convert, commit, rebase,
 * snapshots. One thread; the blocks are opened without a loop. Functions return 0 or -errno with err set.
 */
#ifndef LODGE_BLOCK_TOOLS_H
#define LODGE_BLOCK_TOOLS_H

#include "block/block.h"

/* Called now and then; done and total in bytes. true: stop (-EINTR). */
struct block_progress {
    bool (*tell)(struct block_progress *p, u64 done, u64 total);
};

/* BLOCK_AUTO for NULL; -EINVAL with err: lodge does not have it. */
int must_check block_format_named(const char *name, enum block_format *format, struct error *err);

struct block_create {
    const char *path;
    const char *format;         /* "raw", "qcow2" */
    u64 size;                   /* bytes; rounded up to 512. 0 with a backing file: its size */
    const char *backing;        /* or NULL; as it will stand in the image: relative names are so to its folder */
    const char *backing_format; /* NULL: probed now and written down */
    u32 cluster_size;           /* bytes, 512 to 2 MiB, a power of two; 0: the format's usual (65536) */
    bool overwrite;             /* an existing file is emptied (after it was locked); a device always is taken */
    bool unchecked;             /* the backing file need not exist (size is given) */
    bool v2;                    /* qcow2 compat=0.10 */
    bool preallocate;           /* raw: take the space now. qcow2: metadata */
    struct block_follow follow; /* what the backing file may name in its turn */
};
int must_check block_create(const struct block_create *t, struct error *err);

struct block_snapshot_info {
    char id[64], name[256];
    u64 size, state_size; /* bytes of the disk, of a VM's saved state */
    u64 time_s, clock_ns; /* when; the guest's clock */
};

struct block_info {
    char format[16];
    u64 size, allocated; /* bytes: the guest's, the host's */
    /* what the format has; 0 or "" elsewhere */
    u32 cluster_size;
    char compat[8]; /* "0.10", "1.1" */
    bool dirty, corrupt, lazy_refcounts, extended_l2, encrypted, compressed_zstd;
    u32 refcount_bits;
    char backing[4096], backing_format[16]; /* as they stand in the image */
    char backing_path[4096];                /* as it was opened */
    struct block_snapshot_info *snapshots;
    u32 nsnapshots;
};
int must_check block_info(struct block *b, struct block_info *info, struct error *err);
void block_info_free(struct block_info *info);
struct block *block_backing(struct block *b); /* or NULL */

/* Opens to look or to repair: BLOCK_DAMAGED: also what no guest should be given; BLOCK_ALONE: without its backing file. */
enum { BLOCK_DAMAGED = 1, BLOCK_ALONE = 2 };
struct block *block_open_tool(const struct block_options *o, u32 how, struct error *err);

enum block_repair { BLOCK_REPAIR_NONE, BLOCK_REPAIR_LEAKS, BLOCK_REPAIR_ALL };
struct block_check {
    u64 errors, leaks;             /* found (after a repair: still there) */
    u64 errors_fixed, leaks_fixed; /* clusters */
    u64 clusters, allocated, fragmented, compressed; /* of the guest's disk */
    u64 end;                       /* bytes: where the image's last cluster ends */
    void (*say)(struct block_check *c, const char *text); /* one line a finding; or NULL */
};
/* -EOPNOTSUPP: the format has nothing to check. 0 even if errors were found. */
int must_check block_check(struct block *b, enum block_repair repair, struct block_check *c, struct error *err);

int must_check block_resize(struct block *b, u64 size, bool shrink, struct error *err);

enum block_snapshot_op { BLOCK_SNAPSHOT_CREATE, BLOCK_SNAPSHOT_APPLY, BLOCK_SNAPSHOT_DELETE };
int must_check block_snapshot(struct block *b, enum block_snapshot_op op, const char *name, struct error *err);

/* Where bytes are: enum order as it grows on the way down. */
enum block_map { BLOCK_MAP_BACKING, BLOCK_MAP_ZERO, BLOCK_MAP_DATA };
/* Of the whole chain: ZERO or DATA; shortens *len. */
int must_check block_map(struct block *b, u64 offset, u64 *len, enum block_map *what);

/* Copies all of src into a new image; what is zero stays unwritten where the target can have holes. On failure the new
   file is removed. to->size: ignored. */
int must_check block_convert(struct block *src, const struct block_create *to, struct block_progress *p, struct error *err);
/* Writes what b holds into its backing file, which grows if it must, and empties b. */
int must_check block_commit(struct block *b, struct block_progress *p, struct error *err);
/* Makes `backing` (NULL: none) the backing file; what differs between old and new is copied into b first, unless `unsafe`. */
int must_check block_rebase(struct block *b, const char *backing, const char *format, bool unsafe, struct block_progress *p,
                            struct error *err);

#endif
