/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_model.h - what the parts of block_qcow2_model.c, which says what the test does, know of each other.
 */
#ifndef LODGE_TEST_QCOW2_MODEL_H
#define LODGE_TEST_QCOW2_MODEL_H

#include "block/internal.h"
#include "test.h"

enum { SECTOR = 512, DISK_MAX = 4 << 20, SECTORS = DISK_MAX / SECTOR, FILE_MAX = 40 << 20, WRITES = 12, SNAPSHOTS = 4,
       FLIGHT = 12 };

/* block_qcow2_model.c: chance, by the case's seed; the end of a test that fails. */
u64 below(u64 n);
bool one_in(u64 n);
void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* qcow2_model_disk.c */
struct record;

struct file {
    u8 *now, *stable; /* as the system sees it; as it is after a power cut, at least */
    u64 size, stable_size;
    struct record *since; /* the last flush */
    u32 nsince, room;
    u64 accesses, cut_at; /* 0: never */
    u32 flushes_to_cut;   /* then soon after: where an order is most likely to matter; 0: never */
    bool cut;
    u32 full; /* one in so many writes fails with ENOSPC; 0: none */
};

struct file *disk_new(void);
void disk_free(struct file *f);
void disk_load(struct file *f, const u8 *data, u64 size);
u64 disk_after_cut(const struct file *f, u8 *data); /* what a power cut leaves, into data; its length */
u8 *file_room(void);                                /* FILE_MAX bytes */

/* qcow2_model_steps.c */
bool step(void);  /* one step of something that is under way; false: nothing is */
void yield(void); /* a coroutine lets others run, perhaps */
void submit_to(struct block *b, struct block_request *rq);

/* qcow2_model_sectors.c. A tag names a write; 0 is zeroes. */
struct write { /* i may be there if no j was begun after i's end and ended before the look */
    u32 tag;
    u64 begun, ended; /* ended ~0: not yet, or it failed */
};

struct sector {
    struct write w[WRITES];
    u32 n;
    bool any; /* too many to remember */
};

extern struct sector *model; /* of the active disk */
extern u64 live;             /* sectors that the disk ever had */
extern u64 now, forgotten;   /* what a read that began before `forgotten` may see is not known any more */

void pattern(u8 *p, u32 tag, u64 sector);
u32 tag_of(const u8 *p, u64 sector); /* ~0: none */
bool may_hold(const struct sector *s, u32 tag, u64 look);
void add_write(u64 sector, u32 tag, u64 begun);
void end_write(u64 sector, u32 tag, u64 begun, u64 at);
void flushed(u64 look); /* a flush that began then succeeded: what was outdated then is gone */
void set_sector(u64 sector, u32 tag);
u64 wrong_sector(const u8 *content, u64 size, u64 look); /* the first that may not hold what is there; ~0: none */

/* qcow2_model_qemu.c */
extern char image_dir[];
extern bool have_qemu;
extern u64 judged;

int run_program(const char *const *argv, bool quiet); /* its exit status, or -1 */
void save_file(const char *name, const u8 *data, u64 size);
u64 load_file(const char *name, u8 *data);
const char *in_dir(const char *name, char *path); /* path: 128 bytes */
/* qemu-img finds no error in the image, and, unless content is NULL, what our driver reads there. */
void judge(const u8 *image, u64 size, const u8 *content, u64 content_size);

/* qcow2_model_image.c */
extern struct block top;  /* the image, when it is open */
extern struct file *disk; /* where it is */
extern u8 *scratch;       /* for a whole image, by whoever wants it */
extern u32 cluster;
extern bool v2;
extern u32 *base_tags; /* of the backing file; all 0 if there is none */
extern u64 base_size;

void make_image(void);
void make_dirty(void);           /* the refcounts are not kept up, as the dirty bit says */
int open_top(struct error *err); /* 0, or why not; the image may be the one after a cut */
void read_sectors(struct block *b, u64 sector, u64 n, u8 *buf);

/* qcow2_model_use.c */
extern u32 under_way, next_tag;

void submit(void); /* some request */
void drain(void);
void flush_now(void);
void settle(u64 size); /* what is there is what is; nothing is under way */

/* qcow2_model_whole.c */
enum { TAKE, APPLY, DELETE, RESIZE, RENAME, EMPTY, KINDS };

/* What an operation on the whole image, that the power cut, may have left. */
struct unfinished {
    bool is;
    int kind;
    u32 snapshot;
    u64 size;
    char name[16];
};

extern struct unfinished unfinished;
extern u32 *tags[SNAPSHOTS]; /* of each snapshot */
extern u64 tags_size[SNAPSHOTS];
extern char snapshot_names[SNAPSHOTS][16];
extern u32 nsnapshots;

void whole(void);                             /* one operation on the whole image */
void finish_kind(const struct unfinished *u); /* it has happened */

#endif
