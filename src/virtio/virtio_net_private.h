/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_net_private.h - the network card, for virtio_net.c and virtio_net_control.c. */
#ifndef LODGE_VIRTIO_VIRTIO_NET_PRIVATE_H
#define LODGE_VIRTIO_VIRTIO_NET_PRIVATE_H

#include "virtio/virtio_net.h"

/* 5.1.3 Feature bits */
#define VIRTIO_NET_F_CSUM BIT(0)
#define VIRTIO_NET_F_GUEST_CSUM BIT(1)
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS BIT(2)
#define VIRTIO_NET_F_MTU BIT(3)
#define VIRTIO_NET_F_MAC BIT(5)
#define VIRTIO_NET_F_GUEST_TSO4 BIT(7)
#define VIRTIO_NET_F_GUEST_TSO6 BIT(8)
#define VIRTIO_NET_F_HOST_TSO4 BIT(11)
#define VIRTIO_NET_F_HOST_TSO6 BIT(12)
#define VIRTIO_NET_F_MRG_RXBUF BIT(15)
#define VIRTIO_NET_F_STATUS BIT(16)
#define VIRTIO_NET_F_CTRL_VQ BIT(17)
#define VIRTIO_NET_F_CTRL_RX BIT(18)
#define VIRTIO_NET_F_CTRL_VLAN BIT(19)
#define VIRTIO_NET_F_CTRL_RX_EXTRA BIT(20)
#define VIRTIO_NET_F_GUEST_ANNOUNCE BIT(21)
#define VIRTIO_NET_F_MQ BIT(22)
#define VIRTIO_NET_F_CTRL_MAC_ADDR BIT(23)
#define VIRTIO_NET_F_SPEED_DUPLEX BIT(63)

enum { VIRTIO_NET_S_LINK_UP = 1, VIRTIO_NET_S_ANNOUNCE = 2 };
enum { VIRTIO_NET_OK = 0, VIRTIO_NET_ERR = 1 };
enum { /* 5.1.6.5: class << 8 | command */
    CTRL_RX_PROMISC = 0x000, CTRL_RX_ALLMULTI, CTRL_RX_ALLUNI, CTRL_RX_NOMULTI, CTRL_RX_NOUNI, CTRL_RX_NOBCAST,
    CTRL_MAC_TABLE_SET = 0x100, CTRL_MAC_ADDR_SET,
    CTRL_VLAN_ADD = 0x200, CTRL_VLAN_DEL,
    CTRL_ANNOUNCE_ACK = 0x300,
    CTRL_MQ_VQ_PAIRS_SET = 0x400,
    CTRL_GUEST_OFFLOADS_SET = 0x500,
};
enum { RX_MODES = CTRL_RX_NOBCAST + 1 };

struct virtio_net_layout { /* 5.1.4 Device configuration layout: struct virtio_net_config there */
    u8 mac[6];
    u16 status, max_virtqueue_pairs, mtu;
    u32 speed; /* Mbit/s */
    u8 duplex;
};

enum {
    RX_SIZE = 512, TX_SIZE = 256, CTRL_SIZE = 64,
    ETH_HEADER = 14, VLAN_TPID = 0x8100,
    MAC_TABLE = 64,       /* addresses of each kind; with more the filter lets all of the kind pass */
    MERGE_MAX = 128,      /* buffers for one packet: 64 KiB in pieces of 512 */
    PIECES = 4 * VIRTIO_MAX_IOV,
    SPEED = 10000,
};

/* Addresses of one kind. */
struct mac_table {
    u32 count;
    bool overflow;
    u8 mac[MAC_TABLE * 6];
};

struct virtio_net {
    struct virtio_device device;
    struct net *net;
    u32 max_pairs;
    bool link;
    u16 mtu;
    u32 rx_refused;    /* bits, the backend's queues: receive() said no */
    u32 tx_waits;      /* bits, pairs: net_send said no */
    u32 rx_pushed;     /* bits, pairs: to be notified */
    struct timer sync;

    /* as the driver set it */
    bool mode[RX_MODES]; /* promisc, allmulti, ... */
    struct mac_table unicast, multicast;
    u8 mac[6];
    u64 vlans[4096 / 64];
    u16 pairs;
    u64 offloads_off;    /* feature bits agreed to and then switched off */
    bool announce;
    u8 home_mac[6];      /* what mac is after a reset */
    bool restored;

    struct virtio_chain chain[MERGE_MAX];
    struct iovec iov[1 + PIECES];
};

static inline struct virtio_net *card(struct virtio_device *d) { return container_of(d, struct virtio_net, device); }

/* All with the device's lock. What the driver agreed to is told to the backend. */
void virtio_net_set_offloads(struct virtio_net *n);
/* Has the backend come again with what these of its queues (bits) keep. */
void virtio_net_resume_queues(struct virtio_net *n, u32 queues);
void virtio_net_serve_control(struct virtio_net *n, struct virtio_queue *q);

#endif
