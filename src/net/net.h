/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - what a network card's cable leads to: user (a private network behind the host, no privileges), tap, a
 * switch between the VMs of this host, nothing.  Knows no guest.
 *
 *   user        a network of the guest's own behind this host
 *   tap:IF      an existing tap device that this user may open
 *   switch:NAME the switch NAME of this user, started when the first VM plugs in
 *   none        a cable that leads nowhere: packets are lost, link down
 * and what struct config_net (config/config.h) has besides.
 *
 * A packet is an Ethernet frame of 14 to NET_MAX_FRAME bytes with a struct virtio_net_hdr (12 bytes, as
 * linux/virtio_net.h struct virtio_net_hdr_mrg_rxbuf has it, little-endian) before it, which says what checksum and
 * segmentation the frame still wants (VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type).  A backend takes and gives only such as
 * were agreed by net_set_offloads.
 *
 * Threads: all on the loop's thread.
 */
#ifndef LODGE_NET_NET_H
#define LODGE_NET_NET_H

#include <sys/uio.h>

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"
#include "config/config.h"

struct net;

enum { NET_HDR = 12, NET_MAX_FRAME = 65550, NET_MAX_QUEUES = 8, NET_MAX_IOV = 1024 };

/* The card at this end. */
struct net_user {
    /* A packet from the cable for queue pair q, header first. False: no room; the backend keeps it (or lets its own
       source wait) and comes again after net_resume. */
    bool (*receive)(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len);
    void (*batch)(void *card, u32 q);  /* no more for now: interrupt the guest, once for many packets */
    void (*link)(void *card, bool up); /* the cable's state changed */
    void (*room)(void *card);          /* after net_send refused: it takes packets again */
};

enum net_offload {               /* what the receiver is able to finish itself */
                   NET_CSUM = 1, /* frames whose checksum is not yet filled in */
                   NET_TSO4 = 2,
                   NET_TSO6 = 4,
                   NET_UFO = 8,
};

/* c: its forms are checked (config/fields.h); borrowed for this call. mac: the card's address in place of c's; NULL or 0: as
   c has it. NULL with err set: what is wrong and what to do. */
struct net *net_open(const struct config_net *c, const u8 mac[6], struct loop *loop, struct error *err);
/* Once, before anything flows. Also called with user NULL before net_close. */
void net_connect(struct net *n, const struct net_user *user, void *card);
void net_close(struct net *n);

/* The card's address: mac=, made of seed=, or random and locally administered; a switch gives one that is free. */
void net_mac(const struct net *n, u8 mac[6]);
bool net_link(const struct net *n);
u32 net_queues(const struct net *n); /* queue pairs, 1 unless asked for and possible */
u32 net_mtu(const struct net *n);
/* The host's port of the i-th hostfwd= as given: where 0 was asked for, the one that was free. 0: no such. */
u16 net_hostfwd_port(const struct net *n, u32 i);
u32 net_offloads(const struct net *n); /* enum net_offload: what it takes from the card, and can give */
/* What the guest's driver agreed to receive; at a reset 0. */
void net_set_offloads(struct net *n, u32 receive);

/* Sends one packet, header first; copied or gone when this returns. False: no room now, try after room(). */
bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len);
/* The card has handed over what it had: one system call for many. */
void net_flush(struct net *n, u32 q);
/* The card has buffers again, after receive() said no. */
void net_resume(struct net *n, u32 q);

struct net_stats {
    u64 rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped, syscalls;
};
struct net_stats net_stats(const struct net *n);

#endif
