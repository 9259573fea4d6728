/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - between net.c and the code that really carries packets. net.c does what all networks share: limits,
 * capture, checks, and finishing packets that the guest's driver cannot finish itself. Private to this folder.
 */
#ifndef LODGE_NET_BACKEND_H
#define LODGE_NET_BACKEND_H

#include "net/bucket.h"
#include "net/frame.h"
#include "net/net.h"
#include "net/pcap.h"

enum { NET_MAX_FORWARDS = CONFIG_MAX_FORWARDS, NET_MAX_NAME = 256 };

/* The description of one network, made from the configuration. */
struct net_spec {
    const struct config_net *config;
    const char *kind, *name; /* "tap", "tap0"; name NULL: the network has no name */
    bool has_mac; /* mac shall be the card's address; it comes from the caller or from the configuration */
    u8 mac[6];
    char text[NET_MAX_NAME]; /* kind and name point into this */
};

struct net_ops {
    const char *kind;
    int (*open)(struct net *n, const struct net_spec *spec, struct error *err); /* may set mac, queues, mtu, ports */
    void (*close)(struct net *n);
    /* Takes a packet that frame_check accepted. False: no room; room_again() is called later. */
    bool (*send)(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len);
    void (*flush)(struct net *n, u32 q);
    void (*resume)(struct net *n, u32 q); /* net_deliver refused a packet and may accept it now; also called to begin */
    void (*offloads)(struct net *n);      /* n->takes has changed */
};
extern const struct net_ops net_user_ops, net_switch_ops, net_tap_ops, net_none_ops;

struct net {
    const struct net_ops *ops;
    void *priv; /* belongs to the backend */
    struct loop *loop;
    const struct net_user *user;
    void *card;
    char name[64]; /* for messages: KIND[:NAME] */
    u8 mac[6];
    u32 queues, mtu, offloads; /* offloads: what the backend takes */
    u32 takes;                 /* what the card has agreed to receive */
    bool link;
    u16 port[NET_MAX_FORWARDS];
    u32 nports;
    struct net_stats stats;
    const u64 *dropped; /* packets of ours that the network process dropped; or NULL */

    struct bucket tx, rx;
    struct timer tx_timer, rx_timer;
    u32 rx_waiting, cut[NET_MAX_QUEUES]; /* rx_waiting: a bit for each queue that waits for rx_timer; cut: the number
                                            of frames already made of a gso packet */
    struct pcap *pcap;
    u8 *scratch; /* one frame */
};

/*
 * Delivers a packet from the cable, in one piece. False: the card has no room, or the limit is reached. The backend
 * then keeps the packet and delivers it first when resume() is called.
 */
bool must_check net_deliver(struct net *n, u32 q, const u8 *packet, u32 len);
/* Ends a batch of net_deliver. */
void net_delivered(struct net *n, u32 q);
void net_set_link(struct net *n, bool up);
/* Called when there is room again after send() refused. */
void net_room(struct net *n);

#endif
