/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spin.h - how long a waiting thread should look before it sleeps. A wake-up costs tens of microseconds, and the answer
 * of a disk or a network in memory often comes sooner. So the time is learnt from how long the thread's waits are. The
 * rule is that of KVM's halt polling (Linux, Documentation/virt/kvm/halt-polling.rst). A wait that could have been
 * spent looking doubles the time; a long wait sets it to nothing. So an idle thread sleeps.
 */
#ifndef LODGE_BASE_SPIN_H
#define LODGE_BASE_SPIN_H

#include <sched.h>

#include "base/base.h"

enum { SPIN_FIRST = 10000, SPIN_MOST = 200000 }; /* ns */

struct spin {
    u32 ns;    /* the time to look for now */
    bool never;
};

/* threads: how many threads may look or work at once. If fewer processors than that are there to run on, nobody
   looks. */
static inline struct spin spin_for(u32 threads)
{
    cpu_set_t set;

    return (struct spin){ .never = sched_getaffinity(0, sizeof set, &set) || (u32)CPU_COUNT(&set) < threads };
}

/* Call it after a wait of that many ns, which includes the time spent looking. */
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
