/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_net_control.c - the control queue of a network card (VIRTIO 1.2, 5.1.6.5). */
#include <string.h>

#include "virtio/virtio_net_private.h"

/* Reads one of MAC_TABLE_SET's two tables, at *at. */
static bool read_table(const struct virtio_chain *c, u64 *at, struct mac_table *t)
{
    u32 entries;

    if (virtio_read(c, *at, &entries, 4) != 4 || entries > (c->out_len - *at - 4) / 6)
        return false;
    t->overflow = entries > MAC_TABLE;
    t->count = t->overflow ? 0 : entries;
    virtio_read(c, *at + 4, t->mac, t->count * 6);
    *at += 4 + (u64)entries * 6;
    return true;
}

static bool set_tables(struct virtio_net *n, const struct virtio_chain *c)
{
    struct mac_table unicast = { 0 }, multicast = { 0 };
    u64 at = 2;

    if (!read_table(c, &at, &unicast) || !read_table(c, &at, &multicast))
        return false;
    n->unicast = unicast;
    n->multicast = multicast;
    return true;
}

static bool control(struct virtio_net *n, const struct virtio_chain *c)
{
    static const struct {
        u16 first, last;
        u64 feature;
        u32 size; /* of the argument */
    } commands[] = {
        { CTRL_RX_PROMISC, CTRL_RX_ALLMULTI, VIRTIO_NET_F_CTRL_RX, 1 },
        { CTRL_RX_ALLUNI, CTRL_RX_NOBCAST, VIRTIO_NET_F_CTRL_RX_EXTRA, 1 },
        { CTRL_MAC_TABLE_SET, CTRL_MAC_TABLE_SET, VIRTIO_NET_F_CTRL_RX, 8 },
        { CTRL_MAC_ADDR_SET, CTRL_MAC_ADDR_SET, VIRTIO_NET_F_CTRL_MAC_ADDR, 6 },
        { CTRL_VLAN_ADD, CTRL_VLAN_DEL, VIRTIO_NET_F_CTRL_VLAN, 2 },
        { CTRL_ANNOUNCE_ACK, CTRL_ANNOUNCE_ACK, VIRTIO_NET_F_GUEST_ANNOUNCE, 0 },
        { CTRL_MQ_VQ_PAIRS_SET, CTRL_MQ_VQ_PAIRS_SET, VIRTIO_NET_F_MQ, 2 },
        { CTRL_GUEST_OFFLOADS_SET, CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 8 },
    };
    u8 head[2], arg[8] = { 0 };
    u32 i = 0;
    u16 word;
    u64 mask;

    virtio_read(c, 0, head, 2);
    u32 command = (u32)head[0] << 8 | head[1];
    while (i < ARRAY_SIZE(commands) && (command < commands[i].first || command > commands[i].last))
        i++;
    if (i == ARRAY_SIZE(commands) || !virtio_has(&n->device, commands[i].feature) ||
        virtio_read(c, 2, arg, commands[i].size) != commands[i].size)
        return false;
    memcpy(&word, arg, 2);
    memcpy(&mask, arg, 8);
    switch (command) {
    case CTRL_MAC_TABLE_SET:
        return set_tables(n, c);
    case CTRL_MAC_ADDR_SET:
        memcpy(n->mac, arg, 6);
        return true;
    case CTRL_VLAN_ADD:
    case CTRL_VLAN_DEL:
        if (word >= 4096)
            return false;
        mask = BIT(word % 64);
        n->vlans[word / 64] = command == CTRL_VLAN_ADD ? n->vlans[word / 64] | mask : n->vlans[word / 64] & ~mask;
        return true;
    case CTRL_ANNOUNCE_ACK:
        n->announce = false;
        return true;
    case CTRL_MQ_VQ_PAIRS_SET:
        if (word < 1 || word > n->max_pairs)
            return false;
        n->pairs = word;
        virtio_net_resume_queues(n, ~0u);
        return true;
    case CTRL_GUEST_OFFLOADS_SET:
        if (mask & ~n->device.agreed)
            return false;
        n->offloads_off = ~mask;
        virtio_net_set_offloads(n);
        return true;
    default:
        n->mode[command] = arg[0];
        return true;
    }
}

void virtio_net_serve_control(struct virtio_net *n, struct virtio_queue *q)
{
    struct virtio_chain c = { .iov = n->iov, .max = VIRTIO_MAX_IOV };

    while (virtio_pop(q, &c) > 0) {
        if (c.out_len < 2 || !c.in_len) {
            virtio_fail(&n->device, "a control command without a header or a place for its status");
            virtio_push(q, &c, 0);
            return;
        }
        u8 ack = control(n, &c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
        virtio_write(&c, 0, &ack, 1);
        virtio_push(q, &c, 1);
    }
    virtio_notify(q);
}
