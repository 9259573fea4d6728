/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.h - the switch without its process: which packets go where.  A port may send from its own address only, and
 * gets what is for that address, broadcasts, multicasts and what is for nobody here.
 *
 * So there is nothing to learn and nothing to age: addresses are assigned when a port is plugged in and free when it is
 * pulled out.
 */
#ifndef LODGE_NET_SWITCH_H
#define LODGE_NET_SWITCH_H

#include "net/ring.h"

enum { SWITCH_PORTS = 256, SWITCH_BATCH = 64 };

struct switch_port {
    struct link link;
    u8 mac[6];
    bool used; /* plugged in */
};

struct switch_ {
    struct switch_port port[SWITCH_PORTS];
};

/* Is the address another port's? */
bool switch_has(const struct switch_ *s, const u8 mac[6]);
/* Forwards at most a batch of what port p has sent; true if there may be more. Others' bells are rung. */
bool switch_forward(struct switch_ *s, struct switch_port *p);

#endif
