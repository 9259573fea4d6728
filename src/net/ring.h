/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - packets between two processes through shared memory: a ring each way, a bell (eventfd) each way.
 *
 * A record is u32 length, u32 zero, then a packet (struct virtio_net_hdr_v1 and the frame), padded to 8.  head and tail
 * count bytes and wrap at 2^32.  The data is mapped twice in a row, so that a record is never in two pieces.  A bell is
 * rung only for a peer that said it sleeps: a busy pair makes no system call at all.
 *
 * The peer may be hostile: what it writes is looked at once and bounded; nonsense makes the link `broken`, and nothing
 * more comes or goes.
 */
#ifndef LODGE_NET_RING_H
#define LODGE_NET_RING_H

#include "base/base.h"
#include "base/error.h"

enum {
    RING_SIZE = 512 * 1024,          /* of the ring up, and the least of the one down */
    RING_MAX_DOWN = 8 * 1024 * 1024, /* a power of two like all of them */
    RING_RECORD = 8,
};

struct ring_shared {
    _Alignas(64) u32 head; /* the producer's line: bytes ever put in */
    u32 wants_room;        /* it waits for the ring to become half empty */
    _Alignas(64) u32 tail; /* the consumer's: bytes ever taken out */
    u32 sleeps;            /* it wants the bell for the next record */
};

struct link_shared {
    struct ring_shared up, down; /* from the VM to the helper; from the helper to the VM */
    _Alignas(64) u32 takes;      /* enum net_offload, what the card agreed to receive; the VM's */
    _Alignas(64) u64 dropped;    /* packets from the VM that were not forwarded; the helper's */
};

struct ring {
    struct ring_shared *shared;
    u8 *data;
    u32 size;
    u32 own;    /* our index, head or tail: the shared one is only told */
    u32 length; /* of the record that ring_next gave */
};

struct link {
    struct link_shared *shared;
    struct ring in, out;
    int memfd, bell_in, bell_out;
    bool broken, news; /* news: records put in since the last link_kick */
    u64 syscalls;
};

/* The helper's side: makes the memory and the bells. down: bytes, from RING_SIZE to RING_MAX_DOWN. -errno. */
int must_check link_create(struct link *l, u32 down);
/* The VM's side: takes over the three descriptors, also when it fails. -errno. */
int must_check link_attach(struct link *l, const int fds[3]);
void link_close(struct link *l);
/* The three for the other side's link_attach. */
void link_fds(const struct link *l, int fds[3]);

/* Room for a packet of len bytes, or NULL; then link_put makes it visible. */
u8 *link_room(struct link *l, u32 len);
void link_put(struct link *l, u32 len);
/* After link_room said NULL: false if there is room after all, else the bell rings when there is. */
bool link_wait_room(struct link *l, u32 len);
u32 link_free(struct link *l); /* bytes */

/* The oldest packet, or NULL; it stays until link_pop. */
const u8 *link_next(struct link *l, u32 *len);
void link_pop(struct link *l);
/* Before sleeping: false if something came meanwhile, else the bell rings for the next packet. */
bool link_wait(struct link *l);

/* Rings the peer's bell if it has to know of what was put in or taken out. */
void link_kick(struct link *l);

#endif
