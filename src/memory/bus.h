/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bus.h - an address space of registers: one instance for ports (64 KiB), one
 * for MMIO.  A device registers offset-relative handlers for a range; the bus
 * finds it, clamps and splits the access to what the device allows, takes the
 * device's lock, and calls.  What nobody claims reads all-ones and swallows writes.
 *
 * bus_read and bus_write: any vCPU thread.  bus_add, bus_remove: while no vCPU runs,
 * or from a vCPU thread inside a handler (BARs that move); lookups never wait: they run
 * under a sequence lock on a sorted table.
 */
#ifndef LODGE_MEMORY_BUS_H
#define LODGE_MEMORY_BUS_H

#include <pthread.h>

#include "base/base.h"

struct bus;

/*
 * A run of accesses of one size, one after the other in memory, as a processor's string instructions make them: each element is
 * read, from where from_host or from says, or is value; and then written to where to_host or to says.
 */
struct bus_run {
    u64 to, from; /* of the first element, in registers, where there is no host's address: the bus's to bus_run, offsets to a device */
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
    u8 min_size, max_size; /* 1, 2, 4 or 8: wider accesses are split, narrower ones widened
                              (a widened write reads nothing: it zero-fills); 0 means 1 and 8 */
    /* A whole run at once, with the same outcome as by read and write; or NULL. It changes no mapping of memory. */
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
/* size 1, 2, 4 or 8. An access that crosses the end of a range is split between its neighbours. */
u64 bus_read(struct bus *b, u64 addr, unsigned size);
void bus_write(struct bus *b, u64 addr, unsigned size, u64 value);
/* A run of accesses; false, and nothing was done: not to one device, or to one that cannot. */
bool bus_run(struct bus *b, const struct bus_run *r);
/* Name of the range at addr for traces, or "-". */
const char *bus_name(struct bus *b, u64 addr);

#endif
