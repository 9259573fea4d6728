/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_net.c - see virtio_net.h.
 *
 * Packets are copied once: from guest memory into what the backend writes, and from what it has read into guest memory.
 * Nothing is under way when a call returns, so a reset is at once.  What a vCPU thread changes and the backend must be
 * told waits for the timer `sync`, which fires in the loop's next turn.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/virtio_net_private.h"

/* ---- what the backend must know ---- */

void virtio_net_set_offloads(struct virtio_net *n)
{
    u64 g = n->device.agreed & ~n->offloads_off;

    net_set_offloads(n->net, (g & VIRTIO_NET_F_GUEST_CSUM ? NET_CSUM : 0) | (g & VIRTIO_NET_F_GUEST_TSO4 ? NET_TSO4 : 0) |
                                 (g & VIRTIO_NET_F_GUEST_TSO6 ? NET_TSO6 : 0));
}

/* Has the backend come again with what these of its queues keep. */
void virtio_net_resume_queues(struct virtio_net *n, u32 queues)
{
    queues &= n->rx_refused;
    n->rx_refused &= ~queues;
    for (u32 q = 0; queues; queues &= ~(1u << q++))
        if (queues & 1u << q)
            net_resume(n->net, q);
}

static void sync(struct timer *t)
{
    struct virtio_net *n = container_of(t, struct virtio_net, sync);

    pthread_mutex_lock(&n->device.lock);
    virtio_net_set_offloads(n);
    virtio_net_resume_queues(n, ~0u);
    pthread_mutex_unlock(&n->device.lock);
}

static void sync_soon(struct virtio_net *n)
{
    timer_arm(&n->sync, 0);
}

/* ---- to the guest ---- */

static bool in_table(const struct mac_table *t, const u8 *mac)
{
    for (u32 i = 0; i < t->count; i++)
        if (!memcmp(t->mac + i * 6, mac, 6))
            return true;
    return false;
}

static bool wanted(const struct virtio_net *n, const u8 *frame, size_t len)
{
    const u8 *to = frame;

    if (n->mode[CTRL_RX_PROMISC])
        return true;
    if (virtio_has(&n->device, VIRTIO_NET_F_CTRL_VLAN) && len >= 16 && (frame[12] << 8 | frame[13]) == VLAN_TPID) {
        u32 id = (frame[14] << 8 | frame[15]) & 0xfff;
        if (!(n->vlans[id / 64] & BIT(id % 64)))
            return false;
    }
    if (!memcmp(to, "\xff\xff\xff\xff\xff\xff", 6))
        return !n->mode[CTRL_RX_NOBCAST];
    if (to[0] & 1)
        return !n->mode[CTRL_RX_NOMULTI] &&
               (n->mode[CTRL_RX_ALLMULTI] || n->multicast.overflow || in_table(&n->multicast, to));
    return !n->mode[CTRL_RX_NOUNI] && (n->mode[CTRL_RX_ALLUNI] || n->unicast.overflow || !memcmp(to, n->mac, 6) ||
                                       in_table(&n->unicast, to));
}

/* Copies the first bytes of the pieces. */
static size_t peek(const struct iovec *iov, u32 niov, u8 *to, size_t len)
{
    size_t done = 0;

    for (u32 i = 0; i < niov && done < len; i++) {
        size_t k = MIN(iov[i].iov_len, len - done);
        memcpy(to + done, iov[i].iov_base, k);
        done += k;
    }
    return done;
}

static void give_back(struct virtio_net *n, struct virtio_queue *q, u32 count)
{
    while (count)
        virtio_unpop(q, &n->chain[--count]);
}

/* Gets buffers for len bytes: how many, 0 for none yet, -1: there is no way. */
static int get_buffers(struct virtio_net *n, struct virtio_queue *q, size_t len)
{
    bool merge = virtio_has(&n->device, VIRTIO_NET_F_MRG_RXBUF);
    u32 count = 0, used = 0;
    u64 room = 0;

    do {
        struct virtio_chain *c = &n->chain[count];
        if (count == MERGE_MAX || PIECES - used < VIRTIO_MAX_IOV || (count && !merge)) {
            give_back(n, q, count);
            return -1;
        }
        *c = (struct virtio_chain){ .iov = n->iov + used, .max = VIRTIO_MAX_IOV };
        int r = virtio_pop(q, c);
        if (r <= 0) {
            give_back(n, q, count);
            return r;
        }
        used += c->nout + c->nin;
        room += c->in_len;
        count++;
    } while (room < len);
    return (int)count;
}

struct place {
    struct virtio_chain *c;
    u64 at;
};

static void put(struct place *p, const u8 *from, u64 len)
{
    for (;;) {
        u64 k = virtio_write(p->c, p->at, from, len);
        from += k;
        len -= k;
        p->at += k;
        if (!len)
            return;
        p->c++;
        p->at = 0;
    }
}

static bool deliver(struct virtio_net *n, u32 bq, const struct iovec *iov, u32 niov, size_t len)
{
    u32 pair = bq % n->pairs;
    struct virtio_queue *q = &n->device.queue[2 * pair];
    u8 head[NET_HDR + ETH_HEADER + 4];
    size_t have = peek(iov, niov, head, sizeof(head)), skip = NET_HDR;

    if (!virtio_queue_live(q) || len > NET_HDR + NET_MAX_FRAME || have < NET_HDR + ETH_HEADER ||
        !wanted(n, head + NET_HDR, have - NET_HDR))
        return true;
    int count = get_buffers(n, q, len);
    if (!count) {
        n->rx_refused |= 1u << bq;
        virtio_notify(q);
    }
    if (count <= 0)
        return count < 0;

    struct place p = { n->chain, 0 };
    u16 num_buffers = (u16)count;
    memcpy(head + NET_HDR - 2, &num_buffers, 2);
    put(&p, head, NET_HDR);
    for (u32 i = 0; i < niov; i++) {
        size_t past = MIN(skip, iov[i].iov_len);
        put(&p, (const u8 *)iov[i].iov_base + past, iov[i].iov_len - past);
        skip -= past;
    }
    for (int i = 0; i < count; i++)
        virtio_push(q, &n->chain[i], &n->chain[i] == p.c ? p.at : n->chain[i].in_len);
    n->rx_pushed |= 1u << pair;
    return true;
}

static bool receive(void *ctx, u32 bq, const struct iovec *iov, u32 niov, size_t len)
{
    struct virtio_net *n = ctx;

    pthread_mutex_lock(&n->device.lock);
    bool r = deliver(n, bq, iov, niov, len);
    pthread_mutex_unlock(&n->device.lock);
    return r;
}

static void batch(void *ctx, u32 bq)
{
    struct virtio_net *n = ctx;

    pthread_mutex_lock(&n->device.lock);
    u32 pair = bq % n->pairs;
    if (n->rx_pushed & 1u << pair) {
        n->rx_pushed &= ~(1u << pair);
        virtio_notify(&n->device.queue[2 * pair]);
    }
    pthread_mutex_unlock(&n->device.lock);
}

static void link_changed(void *ctx, bool up)
{
    struct virtio_net *n = ctx;

    pthread_mutex_lock(&n->device.lock);
    n->link = up;
    virtio_config_changed(&n->device);
    pthread_mutex_unlock(&n->device.lock);
}

/* ---- from the guest ---- */

/* False: the cable does not take it now. */
static bool send(struct virtio_net *n, u32 pair, struct virtio_chain *c)
{
    struct iovec *v = c->iov, *end = c->iov + c->nout;
    u8 header[NET_HDR]; /* of our own: what is checked is what is used */
    size_t skip = NET_HDR;

    if (c->out_len < NET_HDR + ETH_HEADER || c->out_len > NET_HDR + NET_MAX_FRAME)
        return true;
    virtio_read(c, 0, header, NET_HDR);
    while (skip >= v->iov_len)
        skip -= v++->iov_len;
    v->iov_base = (u8 *)v->iov_base + skip;
    v->iov_len -= skip;
    *--v = (struct iovec){ header, NET_HDR };
    if (end - v > NET_MAX_IOV)
        return true;
    return net_send(n->net, pair, v, (u32)(end - v), c->out_len);
}

static void transmit(struct virtio_net *n, u32 pair)
{
    struct virtio_queue *q = &n->device.queue[2 * pair + 1];
    struct virtio_chain c = { .iov = n->iov + 1, .max = VIRTIO_MAX_IOV };
    bool sent = false;

    while (!(n->tx_waits & 1u << pair) && virtio_pop(q, &c) > 0) {
        if (!send(n, pair, &c)) {
            virtio_unpop(q, &c);
            n->tx_waits |= 1u << pair;
            break;
        }
        virtio_push(q, &c, 0);
        sent = true;
    }
    if (sent) {
        net_flush(n->net, pair);
        virtio_notify(q);
    }
}

static void room(void *ctx)
{
    struct virtio_net *n = ctx;

    pthread_mutex_lock(&n->device.lock);
    u32 waits = n->tx_waits;
    n->tx_waits = 0;
    for (u32 pair = 0; pair < n->max_pairs; pair++)
        if (waits & 1u << pair)
            transmit(n, pair);
    pthread_mutex_unlock(&n->device.lock);
}

static const struct net_user user = { .receive = receive, .batch = batch, .link = link_changed, .room = room };

/* ---- the device ---- */

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_net *n = card(d);
    u32 control_queue = virtio_has(d, VIRTIO_NET_F_MQ) ? 2 * n->max_pairs : 2; /* 5.1.2 */

    if (q->index == control_queue && virtio_has(d, VIRTIO_NET_F_CTRL_VQ))
        virtio_net_serve_control(n, q);
    else if (q->index & 1 && q->index < 2 * n->max_pairs)
        transmit(n, q->index / 2);
    else if (n->rx_refused)
        for (u32 bq = q->index / 2; bq < n->max_pairs; bq += n->pairs)
            virtio_net_resume_queues(n, 1u << bq);
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    struct virtio_net *n = card(d);
    struct virtio_net_layout l = {
        .status = (u16)((n->link ? VIRTIO_NET_S_LINK_UP : 0) | (n->announce ? VIRTIO_NET_S_ANNOUNCE : 0)),
        .max_virtqueue_pairs = (u16)n->max_pairs,
        .mtu = n->mtu,
        .speed = SPEED,
        .duplex = 1,
    };
    memcpy(l.mac, n->mac, 6);
    memcpy(to, (u8 *)&l + offset, len);
}

static void features(struct virtio_device *d, u64 agreed)
{
    sync_soon(card(d));
}

static void to_default(struct virtio_net *n)
{
    memset(n->mode, 0, sizeof(n->mode));
    n->mode[CTRL_RX_PROMISC] = true; /* a driver without CTRL_RX has no other way to get what it wants */
    memset(&n->unicast, 0, sizeof(n->unicast));
    memset(&n->multicast, 0, sizeof(n->multicast));
    memset(n->vlans, 0, sizeof(n->vlans));
    memcpy(n->mac, n->home_mac, 6);
    n->pairs = 1;
    n->offloads_off = 0;
    n->announce = false;
    n->tx_waits = n->rx_pushed = 0;
}

static bool reset(struct virtio_device *d)
{
    to_default(card(d));
    sync_soon(card(d));
    return true;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    if (q->index & 1)
        card(d)->tx_waits &= ~(1u << q->index / 2);
    else
        sync_soon(card(d));
    return true;
}

static void resume(struct virtio_device *d)
{
    struct virtio_net *n = card(d);

    n->tx_waits = 0;
    if (n->restored && virtio_has(d, VIRTIO_NET_F_GUEST_ANNOUNCE)) { /* the switch may know us elsewhere */
        n->announce = true;
        virtio_config_changed(d);
    }
    n->restored = false;
    sync_soon(n);
}

static int loaded(void *obj, struct error *err)
{
    struct virtio_net *n = obj;

    if (n->pairs < 1 || n->pairs > n->max_pairs || n->unicast.count > MAC_TABLE || n->multicast.count > MAC_TABLE)
        return error_set(err, EINVAL, "the saved state of a network card (virtio-net) is not possible here: it has "
                         "%u queue pairs of %u", n->pairs, n->max_pairs);
    n->restored = true;
    return 0;
}

static const struct state_field table_fields[] = { STATE_FIELD(struct mac_table, count, 1),
                                                   STATE_FIELD(struct mac_table, overflow, 1),
                                                   STATE_ARRAY(struct mac_table, mac, 1), STATE_END };
static const struct state_field fields[] = {
    STATE_ARRAY(struct virtio_net, mode, 1),
    STATE_STRUCT(struct virtio_net, unicast, 1, table_fields),
    STATE_STRUCT(struct virtio_net, multicast, 1, table_fields),
    STATE_ARRAY(struct virtio_net, mac, 1),
    STATE_ARRAY(struct virtio_net, home_mac, 1),
    STATE_ARRAY(struct virtio_net, vlans, 1),
    STATE_FIELD(struct virtio_net, pairs, 1),
    STATE_FIELD(struct virtio_net, offloads_off, 1),
    STATE_FIELD(struct virtio_net, announce, 1),
    STATE_END,
};
static const struct state_desc state = { "virtio-net", 1, fields, NULL, loaded };

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_NET,
    .name = "virtio-net",
    .config_size = offsetof(struct virtio_net_layout, duplex) + 1,
    .config_read = config_read,
    .features = features,
    .kick = kick,
    .reset = reset,
    .queue_reset = queue_reset,
    .resume = resume,
    .state = &state,
};

struct virtio_device *virtio_net_device(struct virtio_net *n)
{
    return &n->device;
}

struct virtio_net *virtio_net_new(struct net *net, struct memory *m, struct loop *loop, struct error *err)
{
    struct virtio_net *n = calloc(1, sizeof(*n));
    u32 can = net_offloads(net);
    u16 sizes[VIRTIO_MAX_QUEUES];
    u64 f = VIRTIO_NET_F_MAC | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ |
            VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_RX_EXTRA | VIRTIO_NET_F_CTRL_VLAN | VIRTIO_NET_F_CTRL_MAC_ADDR |
            VIRTIO_NET_F_GUEST_ANNOUNCE | VIRTIO_NET_F_SPEED_DUPLEX;

    if (!n) {
        error_set(err, ENOMEM, "not enough memory for the network card");
        return NULL;
    }
    n->net = net;
    n->max_pairs = MIN(net_queues(net), (u32)NET_MAX_QUEUES);
    n->link = net_link(net);
    n->mtu = (u16)MIN(net_mtu(net), 0xffffu);
    net_mac(net, n->home_mac);
    timer_init(&n->sync, loop, sync);
    to_default(n);
    if (can & NET_CSUM)
        f |= VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
    if (can & NET_CSUM && can & NET_TSO4)
        f |= VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_GUEST_TSO4;
    if (can & NET_CSUM && can & NET_TSO6)
        f |= VIRTIO_NET_F_HOST_TSO6 | VIRTIO_NET_F_GUEST_TSO6;
    if (n->mtu >= 68) /* 5.1.4.1 */
        f |= VIRTIO_NET_F_MTU;
    if (n->max_pairs > 1)
        f |= VIRTIO_NET_F_MQ;
    for (u32 i = 0; i < 2 * n->max_pairs; i++)
        sizes[i] = i & 1 ? TX_SIZE : RX_SIZE;
    sizes[2 * n->max_pairs] = CTRL_SIZE;
    virtio_init(&n->device, &ops, m, loop, f, 2 * n->max_pairs + 1, sizes);
    net_connect(net, &user, n);
    return n;
}

void virtio_net_free(struct virtio_net *n)
{
    if (!n)
        return;
    net_connect(n->net, NULL, NULL);
    timer_disarm(&n->sync);
    virtio_destroy(&n->device);
    free(n);
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    d->dev = virtio_net_new(d->net, env->memory, env->loop, err);
    if (!d->dev)
        return -ENOMEM;
    return device_plug_virtio(d, virtio_net_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_net_free(d->dev);
}

const struct device_class virtio_net_class = { .kind = DEVICE_NET, .name = "virtio", .create = create, .unplug = unplug };
