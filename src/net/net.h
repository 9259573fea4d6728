/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.h - the network that a card's cable leads to: user (a private network behind the host, no privileges), tap, a
 * switch between the VMs of this host, or nothing. It knows no guest.
 *
 *   user        a network of the guest's own behind this host
 *   tap:IF      an existing tap device that this user may open
 *   switch:NAME the switch NAME of this user, started when the first VM plugs in
 *   none        a cable that leads nowhere: packets are lost, link down
 *
 * struct config_net (config/config.h) has the other settings.
 *
 * A packet is an Ethernet frame of 14 to NET_MAX_FRAME bytes with a struct virtio_net_hdr before it (12 bytes, as
 * linux/virtio_net.h struct virtio_net_hdr_mrg_rxbuf has it, little-endian). This header says which checksum and
 * segmentation the frame still needs (VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type). A backend takes and gives only packets of
 * the kinds that were agreed by net_set_offloads.
 *
 * Threads: everything runs on the loop's thread.
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
    /* Takes a packet from the cable for queue pair q, header first. False: no room. The backend then keeps the
       packet (or lets its own source wait) and tries again after net_resume. */
    bool (*receive)(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len);
    void (*batch)(void *card, u32 q);  /* no more packets for now: interrupt the guest, once for many packets */
    void (*link)(void *card, bool up); /* the state of the cable has changed */
    void (*room)(void *card);          /* after net_send refused a packet: the network takes packets again */
};

enum net_offload {               /* what the receiver is able to finish itself */
                   NET_CSUM = 1, /* frames whose checksum is not filled in yet */
                   NET_TSO4 = 2,
                   NET_TSO6 = 4,
                   NET_UFO = 8,
};

/* c: the forms of its values are checked (config/fields.h); borrowed for this call. mac: the card's address in place
   of c's; NULL or 0: the address is as c says. NULL with err set: err says what is wrong and what to do. */
struct net *net_open(const struct config_net *c, const u8 mac[6], struct loop *loop, struct error *err);
/* Call it once, before any packet flows. It is also called with user NULL before net_close. */
void net_connect(struct net *n, const struct net_user *user, void *card);
void net_close(struct net *n);

/* The card's address: mac=, or made from seed=, or random and locally administered. A switch gives one that is free. */
void net_mac(const struct net *n, u8 mac[6]);
bool net_link(const struct net *n);
u32 net_queues(const struct net *n); /* queue pairs; 1 unless more were asked for and are possible */
u32 net_mtu(const struct net *n);
/* The host's port of the i-th hostfwd= in the order given. If 0 was asked for, it is the free port that was chosen.
   0: there is no such hostfwd=. */
u16 net_hostfwd_port(const struct net *n, u32 i);
u32 net_offloads(const struct net *n); /* enum net_offload: what the network takes from the card, and can give to it */
/* Says what the guest's driver agreed to receive; 0 at a reset. */
void net_set_offloads(struct net *n, u32 receive);

/* Sends one packet, header first. The packet is copied or gone when this returns. False: no room now; try again
   after room(). */
bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len);
/* The card has handed over all it had: one system call is made for many packets. */
void net_flush(struct net *n, u32 q);
/* The card has buffers again, after receive() refused a packet. */
void net_resume(struct net *n, u32 q);

struct net_stats {
    u64 rx_packets, rx_bytes, rx_dropped, tx_packets, tx_bytes, tx_dropped, syscalls;
};
struct net_stats net_stats(const struct net *n);

#endif
