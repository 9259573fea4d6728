/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h - packets between two processes through shared memory: a ring and a bell (eventfd) in each direction.
 *
 * A record is u32 length, u32 zero, then a packet (struct virtio_net_hdr_v1 and the frame), padded to 8. head and tail
 * count bytes and wrap at 2^32. The data is mapped twice in a row, so that a record is never in two pieces. A side
 * rings the bell only if the peer has said that it sleeps. So two busy sides make no system call at all.
 *
 * The peer may be hostile. So each value that it writes is read once and checked against its bounds. A value that makes
 * no sense makes the link `broken`, and then no packet comes or goes any more.
 */
#ifndef LODGE_NET_RING_H
#define LODGE_NET_RING_H

#include "base/base.h"
#include "base/error.h"

enum {
    RING_SIZE = 512 * 1024,          /* of the ring `up`, and the smallest size of the ring `down` */
    RING_MAX_DOWN = 8 * 1024 * 1024, /* a power of two, like all sizes of rings */
    RING_RECORD = 8,
};

struct ring_shared {
    _Alignas(64) u32 head; /* written by the producer: bytes ever put in */
    u32 wants_room;        /* the producer waits until the ring is half empty */
    _Alignas(64) u32 tail; /* written by the consumer: bytes ever taken out */
    u32 sleeps;            /* the consumer wants the bell for the next record */
};

struct link_shared {
    struct ring_shared up, down; /* up: from the VM to the helper; down: from the helper to the VM */
    _Alignas(64) u32 takes;      /* enum net_offload, what the card has agreed to receive; the VM writes it */
    _Alignas(64) u64 dropped;    /* packets from the VM that were not forwarded; the helper writes it */
};

struct ring {
    struct ring_shared *shared;
    u8 *data;
    u32 size;
    u32 own;    /* our own index, head or tail: we only write the shared one */
    u32 length; /* of the record that link_next gave */
};

struct link {
    struct link_shared *shared;
    struct ring in, out;
    int memfd, bell_in, bell_out;
    bool broken, news; /* news: records were put in since the last link_kick */
    u64 syscalls;
};

/* For the helper: makes the memory and the bells. down: bytes, from RING_SIZE to RING_MAX_DOWN. -errno. */
int must_check link_create(struct link *l, u32 down);
/* For the VM: takes over the three descriptors, even if it fails. -errno. */
int must_check link_attach(struct link *l, const int fds[3]);
void link_close(struct link *l);
/* The three descriptors for link_attach on the other side. */
void link_fds(const struct link *l, int fds[3]);

/* link_room: room for a packet of len bytes, or NULL. link_put then makes the packet visible. */
u8 *link_room(struct link *l, u32 len);
void link_put(struct link *l, u32 len);
/* After link_room returned NULL. False: there is room after all. True: the bell rings when there is room. */
bool link_wait_room(struct link *l, u32 len);
u32 link_free(struct link *l); /* bytes */

/* The oldest packet, or NULL. The packet stays until link_pop. */
const u8 *link_next(struct link *l, u32 *len);
void link_pop(struct link *l);
/* Call it before sleeping. False: something came meanwhile. True: the bell rings for the next packet. */
bool link_wait(struct link *l);

/* Rings the peer's bell if the peer must know that something was put in or taken out. */
void link_kick(struct link *l);

#endif
