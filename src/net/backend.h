/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - between net.c, which does what all networks share (limits, capture, checks, what the guest's driver
 * cannot finish itself), and what really carries packets.  Private to this folder.
 */
#ifndef LODGE_NET_BACKEND_H
#define LODGE_NET_BACKEND_H

#include "net/bucket.h"
#include "net/frame.h"
#include "net/net.h"
#include "net/pcap.h"

enum { NET_MAX_FORWARDS = CONFIG_MAX_FORWARDS, NET_MAX_NAME = 256 };

/* What one network is, made of the configuration. */
struct net_spec {
    const struct config_net *config;
    const char *kind, *name; /* "tap", "tap0"; name NULL: it has none */
    bool has_mac; /* mac is to be the card's: the caller's or the configuration's */
    u8 mac[6];
    char text[NET_MAX_NAME]; /* what kind and name point into */
};

struct net_ops {
    const char *kind;
    int (*open)(struct net *n, const struct net_spec *spec, struct error *err); /* may set mac, queues, mtu, ports */
    void (*close)(struct net *n);
    /* A packet that frame_check found sane. False: no room, room_again() comes. */
    bool (*send)(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len);
    void (*flush)(struct net *n, u32 q);
    void (*resume)(struct net *n, u32 q); /* net_deliver said no, and may say yes now; also: begin */
    void (*offloads)(struct net *n);      /* n->takes has changed */
};
extern const struct net_ops net_user_ops, net_switch_ops, net_tap_ops, net_none_ops;

struct net {
    const struct net_ops *ops;
    void *priv; /* the backend's */
    struct loop *loop;
    const struct net_user *user;
    void *card;
    char name[64]; /* for messages: KIND[:NAME] */
    u8 mac[6];
    u32 queues, mtu, offloads; /* offloads: what the backend takes */
    u32 takes;                 /* what the card agreed to receive */
    bool link;
    u16 port[NET_MAX_FORWARDS];
    u32 nports;
    struct net_stats stats;
    const u64 *dropped; /* by the network process, of what we sent; or NULL */

    struct bucket tx, rx;
    struct timer tx_timer, rx_timer;
    u32 rx_waiting, cut[NET_MAX_QUEUES]; /* bits: queues that wait for rx_timer; frames already made of a gso packet */
    struct pcap *pcap;
    u8 *scratch; /* one frame */
};

/*
 * A packet from the cable, in one piece.  False: the card has no room or the limit is reached: keep it and come with it
 * again, first, when resume() is called.
 */
bool must_check net_deliver(struct net *n, u32 q, const u8 *packet, u32 len);
/* The end of a batch of net_deliver. */
void net_delivered(struct net *n, u32 q);
void net_set_link(struct net *n, bool up);
/* After send() said no. */
void net_room(struct net *n);

#endif
