/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - a disk image as a row of bytes: read, write, flush, discard, write zeroes; asynchronous. It knows no guest.
 *
 * A request belongs to the caller, who leaves it untouched until done() has been called. Requests that are under way at
 * the same time may be carried out in any order. A flush, and a request that overlaps another one, is ordered only
 * after what was done before it was submitted. What a successful flush covered survives a power cut. After a power cut,
 * each sector of anything later may be there or not.
 *
 * Threads: block_open, block_close, block_submit, block_kick, block_drain and every done() run on the thread of the
 * loop. block_sync, and a block that was opened without a loop (tools), may be used on any one thread.
 */
#ifndef LODGE_BLOCK_BLOCK_H
#define LODGE_BLOCK_BLOCK_H

#include <sys/uio.h>

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"

struct block;

enum { BLOCK_MAX_IOV = 1024, BLOCK_SECTOR = 512 };

enum block_op {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,        /* offset, len: unused */
    BLOCK_DISCARD,      /* the bytes may read as anything afterwards; aligned parts are given back to the host */
    BLOCK_WRITE_ZEROES, /* flag BLOCK_UNMAP: may give the space back */
};
enum block_flag { BLOCK_UNMAP = 1 };

struct block_request {
    enum block_op op;
    u32 flags;         /* enum block_flag */
    u64 offset, len;   /* bytes, multiples of 512; block.c checks that they are within block_size(): -EINVAL */
    const struct iovec *iov; /* READ, WRITE: niov pieces of any alignment, len bytes in all; the caller keeps them */
    u32 niov;
    /* result: 0 or -errno (-ENOSPC: the host's disk is full; the request may be submitted again). It is never called
       from within block_submit or block_kick. */
    void (*done)(struct block_request *rq, int result);

    /* The block layer uses these while the request is under way. */
    struct block *block;
    struct block_request *next;
    u64 own[6];
};

/* AUTO: by the magic number. A guest could turn a raw image into another format by writing that format's number. So
   such an image is opened as raw with its first sector guarded (see block.c). */
enum block_format { BLOCK_AUTO, BLOCK_RAW, BLOCK_QCOW2 };
enum block_cache {
    BLOCK_WRITEBACK, /* host page cache; a flush is fdatasync */
    BLOCK_DIRECT,    /* cache=none: O_DIRECT */
};

/* Says which of the backing files named by images are opened. The caller keeps the strings until block_close. A
   backing file in the folder of the image that names it, or below that folder, is always opened, if it is a regular
   file and no part of the path is hidden. */
struct block_follow {
    const char *more;  /* NULL; or a folder: files in it are opened, too; "any": whatever the image names; "none":
                          not even the files above */
    const char *store; /* or NULL: the folder of the user's images; files in it are opened, too, for reading */
};

struct block_options {
    const char *path; /* a file, a block device, nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH */
    enum block_format format;
    enum block_cache cache;
    bool readonly;
    bool discard;      /* hand discards on to the file; without this they succeed and do nothing */
    bool no_lock;      /* for tools that only look (lodge disk info, check without repair) */
    const char *overlay; /* or NULL: path of a new qcow2 that is made over `path`; writes go there, `path` is opened
                            read-only ("" : one without a name, gone with the process) */
    struct block_follow follow;
};

/* Opens and locks the image and its backing files. One writer or many readers may have a lock. It works across
   processes (F_OFD_SETLK), so that two VMs never write one image. loop NULL: only block_sync may be used. NULL with
   err set. */
struct block *block_open(const struct block_options *o, struct loop *loop, struct error *err);
/* Flushes, and closes when all is done. No request may be under way. -errno if the flush failed. */
int block_close(struct block *b, struct error *err);

/*
 * For a disk that is opened or closed while a machine runs. That may take long, so it is done without a loop, on a
 * thread of its own. While nothing is under way, the loop's thread may then take the disk over (block_attach; -errno:
 * it cannot) and give it away again (block_detach).
 */
int must_check block_attach(struct block *b, struct loop *loop);
void block_detach(struct block *b);
/* on: somebody waits for its requests. Then a server that is silent for a second is given up; otherwise only one
   that is silent for a minute. */
void block_hurry(struct block *b, bool on);

u64 block_size(const struct block *b);      /* bytes, a multiple of 512 */
bool block_readonly(const struct block *b);
u32 block_alignment(const struct block *b); /* the best size and alignment of I/O in bytes: 512, or 4096 and more */
const char *block_path(const struct block *b);

void block_submit(struct block *b, struct block_request *rq);
/* Hands what was submitted since the last call to the host now: one system call for many requests. A request that
   was only submitted may wait. */
void block_kick(struct block *b);
/* Returns when nothing is under way and each done() has been called. For saving and for the end; the caller submits
   nothing meanwhile. */
void block_drain(struct block *b);

/* Carries out one request before it returns; done is ignored. */
int must_check block_sync(struct block *b, enum block_op op, u64 offset, void *data, u64 len);

/* Figures for reports and benchmarks: requests, bytes and system calls so far. */
struct block_stats {
    u64 requests[5], bytes[5], syscalls;
};
struct block_stats block_stats(const struct block *b);

#endif
