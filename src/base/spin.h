/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spin.h - how long a thread that waits should look before it sleeps, learnt from how long its waits are: a wake-up costs
 * tens of microseconds, and what is asked of a disk or a network in memory is often there sooner.  The rule is that of
 * KVM's halt polling (Linux, Documentation/virt/kvm/halt-polling.rst): waits that could have been looked through double
 * the time, long ones set it to nothing.  So who is idle sleeps.
 */
#ifndef LODGE_BASE_SPIN_H
#define LODGE_BASE_SPIN_H

#include <sched.h>

#include "base/base.h"

enum { SPIN_FIRST = 10000, SPIN_MOST = 200000 }; /* ns */

struct spin {
    u32 ns;    /* to look for now */
    bool never;
};

/* threads: how many there are that may look or work at once; with fewer processors than that to run on, nobody looks. */
static inline struct spin spin_for(u32 threads)
{
    cpu_set_t set;

    return (struct spin){ .never = sched_getaffinity(0, sizeof set, &set) || (u32)CPU_COUNT(&set) < threads };
}

/* After a wait of that many ns, looking included. */
static inline void spin_learn(struct spin *s, u64 waited)
{
    if (s->never)
        return;
    if (waited > SPIN_MOST)
        s->ns = 0;
    else if (waited > s->ns)
        s->ns = s->ns ? MIN(2 * s->ns, (u32)SPIN_MOST) : SPIN_FIRST;
}

#endif
