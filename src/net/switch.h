/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch.h - the switch without its process: it decides which packets go where. A port may send from its own address
 * only. It gets packets for that address, broadcasts, multicasts, and packets for addresses that no port has.
 *
 * An address is assigned when a port is plugged in, and is free when the port is pulled out. So the switch does not
 * learn addresses, and none of them ages.
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

/* Does another port have this address? */
bool switch_has(const struct switch_ *s, const u8 mac[6]);
/* Forwards at most one batch of the packets that port p has sent; true if there may be more. It rings the bells of
   the other ports. */
bool switch_forward(struct switch_ *s, struct switch_port *p);

#endif
