/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - an address space of registers. There is one for ports (64 KiB) and one for MMIO. A device registers handlers for
 * a range, which get offsets into the range. The bus finds the range of an access, splits or widens the access to the sizes
 * that the device allows, takes the device's lock, and calls the handler. An address that no device has claimed reads as all
 * ones, and writes to it do nothing.
 *
 * bus_read and bus_write may be called by any vCPU thread. bus_add and bus_remove may be called while no vCPU runs, or by a
 * vCPU thread inside a handler (a BAR that moves). Lookups never wait: they search a sorted table under a sequence lock.
 */
#ifndef LODGE_MEMORY_BUS_H
#define LODGE_MEMORY_BUS_H

#include <pthread.h>

#include "base/base.h"

struct bus;

/*
 * A run of accesses of one size to consecutive addresses, as a processor's string instructions make them. Each element is
 * read from from_host or from, or it is value. It is then written to to_host or to.
 */
struct bus_run {
    /* Where the first element is, if to_host or from_host is NULL: an address of the bus for bus_run, an offset for a
       device. */
    u64 to, from;
    u8 *to_host;
    const u8 *from_host;
    u64 value;
    bool fill;    /* with value */
    bool down;    /* the next element is below */
    u8 size;      /* 1, 2, 4 or 8 */
    u32 count;    /* at least 1 */
};

struct bus_ops {
    u64 (*read)(void *dev, u64 offset, unsigned size);
    void (*write)(void *dev, u64 offset, unsigned size, u64 value);
    /* 1, 2, 4 or 8; 0 stands for 1 and for 8. Wider accesses are split, and narrower ones are widened. A widened write does
       not read the register first: the other bytes are 0. */
    u8 min_size, max_size;
    /* Does a whole run at once, with the same result as if read and write were called for each element. It must not change
       what memory is mapped where. May be NULL. */
    void (*run)(void *dev, const struct bus_run *r);
};

struct bus_range {
    u64 base, size;
    const struct bus_ops *ops;
    void *dev;
    pthread_mutex_t *lock; /* held around the call; NULL: the device locks itself */
    const char *name;      /* for traces */
};

struct bus *bus_new(u64 limit); /* addresses below limit */
void bus_free(struct bus *b);
/* -EEXIST on overlap, -EINVAL if empty or past the limit, -ENOMEM. The range is copied. */
int must_check bus_add(struct bus *b, const struct bus_range *r);
void bus_remove(struct bus *b, u64 base, void *dev);
/* size is 1, 2, 4 or 8. An access that crosses the end of a range is split there. */
u64 bus_read(struct bus *b, u64 addr, unsigned size);
void bus_write(struct bus *b, u64 addr, unsigned size, u64 value);
/* Does a run of accesses. If it is not to one device, or the device has no handler for runs, nothing is done: false. */
bool bus_run(struct bus *b, const struct bus_run *r);
/* The name of the range at addr, for traces, or "-". */
const char *bus_name(struct bus *b, u64 addr);

#endif
