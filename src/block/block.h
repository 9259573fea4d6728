/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - a disk image as a row of bytes: read, write, flush, discard, write zeroes; asynchronous.  Knows no guest.
 *
 * A request belongs to the caller and stays untouched until done() has been called.  Requests under way at the same
 * time may be carried out in any order; those that overlap, and a flush, are only ordered after what was done before
 * they were submitted.  What a flush that succeeded covers survives a power cut; anything later may be there or not,
 * by the sector.
 *
 * Threads: block_open, block_close, block_submit, block_kick, block_drain and every done(): the thread of the loop.
 * block_sync and a block opened without a loop (tools): any one thread.
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
    BLOCK_DISCARD,      /* the bytes may read as anything after; aligned parts are given back to the host */
    BLOCK_WRITE_ZEROES, /* flag BLOCK_UNMAP: may give the space back */
};
enum block_flag { BLOCK_UNMAP = 1 };

struct block_request {
    enum block_op op;
    u32 flags;         /* enum block_flag */
    u64 offset, len;   /* bytes, multiples of 512; within block_size(), checked: -EINVAL */
    const struct iovec *iov; /* READ, WRITE: niov pieces of len bytes in all, of any alignment; kept by the caller */
    u32 niov;
    /* result: 0 or -errno (-ENOSPC: the host's disk is full; the request may be submitted again). Never called from
       within block_submit or block_kick. */
    void (*done)(struct block_request *rq, int result);

    /* The block layer's own, while the request is under way. */
    struct block *block;
    struct block_request *next;
    u64 own[6];
};

enum block_format { BLOCK_AUTO, BLOCK_RAW, BLOCK_QCOW2 }; /* AUTO: by the magic number; a raw image that a guest could
                                                             turn into another format by writing one is opened as raw
                                                             with its first sector guarded (see block.c) */
enum block_cache {
    BLOCK_WRITEBACK, /* host page cache; a flush is fdatasync */
    BLOCK_DIRECT,    /* cache=none: O_DIRECT */
};

/* Which backing files named by images are opened; the strings are kept by the caller until block_close. Always those in the
   folder of the image that names them and below, if they are regular files and nothing of the path is hidden. */
struct block_follow {
    const char *more;  /* NULL; a folder: those in it, too; "any": whatever it names; "none": not even those */
    const char *store; /* or NULL: the folder of the user's images: those in it, too; for reading */
};

struct block_options {
    const char *path; /* a file, a block device, nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH */
    enum block_format format;
    enum block_cache cache;
    bool readonly;
    bool discard;      /* hand discards on to the file; otherwise they succeed and do nothing */
    bool no_lock;      /* tools that only look (lodge disk info, check without repair) */
    const char *overlay; /* or NULL: path of a qcow2 made anew over `path`; writes go there, `path` is opened read-only
                            ("" : one without a name, gone with the process) */
    struct block_follow follow;
};

/* Opens and locks (one writer or many readers; across processes, F_OFD_SETLK, so that two VMs never write one image),
   backing files too. loop NULL: block_sync only. NULL with err set. */
struct block *block_open(const struct block_options *o, struct loop *loop, struct error *err);
/* Flushes, and closes once all is done; no request may be under way. -errno if the flush failed. */
int block_close(struct block *b, struct error *err);

/*
 * A disk that is opened or closed while a machine runs, which may take long: without a loop, on a thread of its own.  While
 * nothing is under way the loop's thread may then take it over (-errno: it cannot), and give it away again.
 */
int must_check block_attach(struct block *b, struct loop *loop);
void block_detach(struct block *b);
/* Somebody waits for its requests: a server that is silent for a second, not only one that is for a minute, is given up. */
void block_hurry(struct block *b, bool on);

u64 block_size(const struct block *b);      /* bytes, a multiple of 512 */
bool block_readonly(const struct block *b);
u32 block_alignment(const struct block *b); /* best size and alignment of I/O in bytes: 512 or 4096 and up */
const char *block_path(const struct block *b);

void block_submit(struct block *b, struct block_request *rq);
/* What was submitted since is handed to the host now: one system call for many. Submit alone may wait. */
void block_kick(struct block *b);
/* Returns when nothing is under way, done() of each called; for saving and the end. The caller submits nothing then. */
void block_drain(struct block *b);

/* Carries one request out before it returns; done is ignored. */
int must_check block_sync(struct block *b, enum block_op op, u64 offset, void *data, u64 len);

/* Figures for reports and benchmarks: requests, bytes and system calls so far. */
struct block_stats {
    u64 requests[5], bytes[5], syscalls;
};
struct block_stats block_stats(const struct block *b);

#endif
