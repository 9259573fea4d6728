/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tools.h - operations on images that no guest uses: create, look, check, resize, convert, commit, rebase, snapshots.
 * One thread; the blocks are opened without a loop. Functions return 0 or -errno with err set.
 */
#ifndef LODGE_BLOCK_TOOLS_H
#define LODGE_BLOCK_TOOLS_H

#include "block/block.h"

/* tell is called now and then; done and total are in bytes. It returns true to stop (-EINTR). */
struct block_progress {
    bool (*tell)(struct block_progress *p, u64 done, u64 total);
};

/* Gives BLOCK_AUTO for NULL. -EINVAL with err: lodge does not have the format. */
int must_check block_format_named(const char *name, enum block_format *format, struct error *err);

struct block_create {
    const char *path;
    const char *format;         /* "raw", "qcow2" */
    u64 size;                   /* bytes; rounded up to 512. 0 with a backing file: the size of that file */
    const char *backing;        /* or NULL; the name as the image will hold it: a relative name is relative to the
                                   image's folder */
    const char *backing_format; /* NULL: it is probed now and written down */
    u32 cluster_size;           /* bytes, 512 to 2 MiB, a power of two; 0: the usual one of the format (65536) */
    bool overwrite;             /* an existing file is emptied (after it was locked); a device is always accepted */
    bool unchecked;             /* the backing file need not exist (size is given) */
    bool v2;                    /* qcow2 compat=0.10 */
    bool preallocate;           /* raw: take the space now. qcow2: metadata */
    struct block_follow follow; /* what the backing file may name itself */
};
int must_check block_create(const struct block_create *t, struct error *err);

struct block_snapshot_info {
    char id[64], name[256];
    u64 size, state_size; /* bytes of the disk and of a VM's saved state */
    u64 time_s, clock_ns; /* when it was taken; the guest's clock */
};

struct block_info {
    char format[16];
    u64 size, allocated; /* bytes: of the guest's disk, on the host */
    /* properties of the format; 0 or "" in other formats */
    u32 cluster_size;
    char compat[8]; /* "0.10", "1.1" */
    bool dirty, corrupt, lazy_refcounts, extended_l2, encrypted, compressed_zstd;
    u32 refcount_bits;
    char backing[4096], backing_format[16]; /* as they are written in the image */
    char backing_path[4096];                /* as it was opened */
    struct block_snapshot_info *snapshots;
    u32 nsnapshots;
};
int must_check block_info(struct block *b, struct block_info *info, struct error *err);
void block_info_free(struct block_info *info);
struct block *block_backing(struct block *b); /* or NULL */

/* Opens an image to look at it or to repair it. BLOCK_DAMAGED: also one that no guest should be given. BLOCK_ALONE:
   without its backing file. */
enum { BLOCK_DAMAGED = 1, BLOCK_ALONE = 2 };
struct block *block_open_tool(const struct block_options *o, u32 how, struct error *err);

enum block_repair { BLOCK_REPAIR_NONE, BLOCK_REPAIR_LEAKS, BLOCK_REPAIR_ALL };
struct block_check {
    u64 errors, leaks;             /* found (after a repair: those that are still there) */
    u64 errors_fixed, leaks_fixed; /* clusters */
    u64 clusters, allocated, fragmented, compressed; /* of the guest's disk */
    u64 end;                       /* bytes: the place where the image's last cluster ends */
    void (*say)(struct block_check *c, const char *text); /* called with one line for each finding; or NULL */
};
/* -EOPNOTSUPP: the format has nothing to check. 0 even if errors were found. */
int must_check block_check(struct block *b, enum block_repair repair, struct block_check *c, struct error *err);

int must_check block_resize(struct block *b, u64 size, bool shrink, struct error *err);

enum block_snapshot_op { BLOCK_SNAPSHOT_CREATE, BLOCK_SNAPSHOT_APPLY, BLOCK_SNAPSHOT_DELETE };
int must_check block_snapshot(struct block *b, enum block_snapshot_op op, const char *name, struct error *err);

/* Says where bytes are. On the way down a chain the value grows in the order of this enum. */
enum block_map { BLOCK_MAP_BACKING, BLOCK_MAP_ZERO, BLOCK_MAP_DATA };
/* For the whole chain: ZERO or DATA; shortens *len. */
int must_check block_map(struct block *b, u64 offset, u64 *len, enum block_map *what);

/* Copies all of src into a new image. Zeroes stay unwritten where the target can have holes. If it fails, the new
   file is removed. to->size is ignored. */
int must_check block_convert(struct block *src, const struct block_create *to, struct block_progress *p, struct error *err);
/* Writes what b holds into its backing file, which grows if necessary, and empties b. */
int must_check block_commit(struct block *b, struct block_progress *p, struct error *err);
/* Makes `backing` (NULL: none) the backing file. The differences between old and new are first copied into b, unless
   `unsafe`. */
int must_check block_rebase(struct block *b, const char *backing, const char *format, bool unsafe, struct block_progress *p,
                            struct error *err);

#endif
