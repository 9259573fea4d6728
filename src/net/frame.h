/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.h - checks and carries out in software what a packet's header (struct virtio_net_hdr_v1, Virtio 1.2 5.1.6) asks
 * for the frame behind it: it fills in checksums and cuts large TCP segments. Pure functions over bytes that may be
 * hostile.
 */
#ifndef LODGE_NET_FRAME_H
#define LODGE_NET_FRAME_H

#include <linux/virtio_net.h>

#include "base/base.h"
#include "net/net.h"

enum {
    FRAME_ETH = 14,
    FRAME_HEAD = 160, /* room for all headers that are looked at: Ethernet, two VLAN tags, IPv4 and TCP with options */
};

/* The smallest segment size: what is left of the smallest MSS that TCPs use (Linux: 48) after all options. If a
   guest sent single bytes, one packet could become 65,000 frames, and the code that cuts them would be held up. */
enum { FRAME_MSS_LEAST = 8 };

/* The places of a frame's parts. They are read once: nothing is read again from memory that may change. */
struct frame {
    struct virtio_net_hdr_v1 hdr;
    u32 len;     /* length of the frame, without hdr */
    u32 l3, l4;  /* offsets; set if gso */
    u32 payload; /* offset of TCP's data; set if gso */
    u32 gso;     /* 0, or NET_TSO4, NET_TSO6 */
};

/*
 * head: the first MIN(len, FRAME_HEAD) bytes of a frame of len bytes. Returns NULL and fills in *f, or returns the
 * reason why the packet cannot be what it claims.
 */
const char *must_check frame_check(struct frame *f, const struct virtio_net_hdr_v1 *hdr, const u8 *head, size_t len);

/* The enum net_offload bits that the receiver must have agreed to. */
u32 frame_needs(const struct frame *f);

/* Fills in the checksum that f->hdr leaves open (NEEDS_CSUM, no gso). data: the whole frame. */
void frame_complete(const struct frame *f, u8 *data);

/* frame_cuts: the number of frames that frame_cut makes of a gso frame. frame_cut: writes number i of them,
   complete, to out and returns its length. */
u32 frame_cuts(const struct frame *f);
u32 frame_cut(const struct frame *f, const u8 *data, u32 i, u8 *out);

/* csum_add: the one's complement sum of RFC 1071, not folded. csum_fold: folds it to 16 bits in memory order. */
u64 csum_add(u64 sum, const u8 *p, size_t len);
u16 csum_fold(u64 sum);
/* The sum of the pseudo header of TCP, UDP or ICMPv6 for the IP header at ip. */
u64 csum_pseudo(const u8 *ip, bool v6, u8 protocol, u32 len);

static inline u32 get16(const u8 *p)
{
    return (u32)p[0] << 8 | p[1];
}
static inline u32 get32(const u8 *p)
{
    return get16(p) << 16 | get16(p + 2);
}
static inline void put16(u8 *p, u32 v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}
static inline void put32(u8 *p, u32 v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

#endif
