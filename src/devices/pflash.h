/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pflash.h - a parallel flash chip with Intel's command set, 8 bits wide, in blocks of 4 KiB: where UEFI keeps its
 * variables.  Intel 290606 (28F800C3 and others, whose command set CFI calls 1); JEDEC JESD68 (CFI).
 *
 * While it reads as memory (read array mode), its contents are seen at its address as a read-only region of guest memory,
 * and only writes come here; otherwise there is no region, and reads come here, too.
 *
 * Locks itself: map its range with no lock.
 */
#ifndef LODGE_DEVICES_PFLASH_H
#define LODGE_DEVICES_PFLASH_H

#include <pthread.h>

#include "base/base.h"
#include "base/error.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "state/state.h"

enum { PFLASH_BLOCK = 4096, PFLASH_BUFFER = 64 }; /* bytes */

struct pflash {
    pthread_mutex_t lock;
    struct memory *memory;
    struct memory_piece *piece;
    u64 gpa;
    u32 size;
    /* [offset, offset + len) is to last: 0, or -errno and the chip reports a failure. */
    int (*store)(void *ctx, u32 offset, const void *data, u32 len);
    void *ctx;

    u8 command;      /* whose further cycles are awaited, or what reading gives; ARRAY: contents */
    u8 status;
    bool confirming; /* the next write is the second cycle of command */
    u32 left;        /* bytes that a write to the buffer still takes; then its confirmation */
    u32 start, count;/* of the buffer: where it goes, bytes it holds */
    u8 buffer[PFLASH_BUFFER];
};

/* contents: size bytes, a multiple of PFLASH_BLOCK. Copied into memory of its own, seen at gpa from now on. */
int must_check pflash_init(struct pflash *p, struct memory *m, u64 gpa, const void *contents, u32 size,
                           int (*store)(void *ctx, u32 offset, const void *data, u32 len), void *ctx, struct error *err);
void pflash_destroy(struct pflash *p);
void pflash_reset(struct pflash *p);

extern const struct bus_ops pflash_ops; /* size bytes at gpa; dev: struct pflash */
extern const struct state_desc pflash_state; /* its contents are in guest memory */

#endif
