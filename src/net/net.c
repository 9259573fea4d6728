/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net.c - what all networks share: the spec, rate limits, the capture file, the check of every packet in both
 * directions, and the software that finishes packets for a guest whose driver did not agree to do so.
 */
#include "net/net.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "net/backend.h"

static const struct net_ops *const kinds[] = { &net_user_ops, &net_tap_ops, &net_switch_ops, &net_none_ops };

/* ---- the spec ---- */

static int parse_mac(const char *text, u8 mac[6], struct error *err)
{
    unsigned v[6];
    int end = 0;

    if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &end) != 6 || text[end])
        return error_set(err, EINVAL, "mac=%s: an address has six bytes, for example 52:54:00:12:34:56", text);
    for (int i = 0; i < 6; i++)
        mac[i] = (u8)v[i];
    if ((mac[0] & 1) || !(mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]))
        return error_set(err, EINVAL,
                         "mac=%s: this is no card's address; its first byte must be even, for example "
                         "52:54:00:12:34:56",
                         text);
    return 0;
}

/* Reads from the configuration what the cable leads to. The forms of its values are checked already. The text is
   split in s. */
static const struct net_ops *read_config(const struct config_net *c, const u8 mac[6], struct net_spec *s, struct error *err)
{
    static const u8 none[6];

    *s = (struct net_spec){ .config = c };
    if (mac && memcmp(mac, none, 6)) {
        s->has_mac = true;
        memcpy(s->mac, mac, 6);
    } else if (c->mac) {
        s->has_mac = true;
        if (parse_mac(c->mac, s->mac, err))
            return NULL;
    }
    if (strlen(c->backend) >= sizeof s->text) {
        error_set(err, E2BIG, "the name of the network has more than %zu characters", sizeof s->text - 1);
        return NULL;
    }
    strcpy(s->text, c->backend);
    s->kind = s->text;
    s->name = strchr(s->text, ':');
    if (s->name)
        s->text[s->name++ - s->text] = 0;
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        if (!strcmp(kinds[i]->kind, s->kind))
            return kinds[i];
    error_set(err, EINVAL, "\"%s\" is none of user, tap:IF, switch:NAME, none", c->backend);
    return NULL;
}

/* ---- from the card ---- */

static u64 wall_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/* Copies from the pieces. The caller has checked that they hold at least skip + len bytes. */
static void gather(u8 *to, const struct iovec *iov, u32 niov, size_t skip, size_t len)
{
    for (u32 i = 0; i < niov && len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        const size_t n = MIN(len, iov[i].iov_len - skip);
        memcpy(to, (const u8 *)iov[i].iov_base + skip, n);
        to += n;
        len -= n;
        skip = 0;
    }
}

static void tx_timer(struct timer *t)
{
    net_room(container_of(t, struct net, tx_timer));
}

bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    u8 head[NET_HDR + FRAME_HEAD];
    const size_t have = MIN(len, sizeof(head));
    struct virtio_net_hdr_v1 hdr;
    struct frame f;
    const char *why = "a length that no frame has";
    u64 when;

    gather(head, iov, niov, 0, have);
    if (len > NET_HDR) {
        memcpy(&hdr, head, sizeof(hdr));
        why = frame_check(&f, &hdr, head + NET_HDR, len - NET_HDR);
    }
    if (why || q >= n->queues) {
        log_guest("%s: a packet from the guest is dropped: %s", n->name, why ? why : "no such queue");
        n->stats.tx_dropped++;
        return true;
    }
    if (!bucket_open(&n->tx, n->tx.rate ? clock_ns() : 0, &when)) {
        timer_arm(&n->tx_timer, when);
        return false;
    }
    if (!n->link) {
        n->stats.tx_dropped++;
        return true;
    }
    if (!n->ops->send(n, q, iov, niov, len))
        return false;
    bucket_pay(&n->tx, f.len);
    n->stats.tx_packets++;
    n->stats.tx_bytes += f.len;
    if (n->pcap) {
        gather(n->scratch, iov, niov, NET_HDR, f.len);
        pcap_frame(n->pcap, &f, n->scratch, wall_ns());
    }
    return true;
}

void net_flush(struct net *n, u32 q)
{
    n->ops->flush(n, q);
    if (n->pcap)
        pcap_flush(n->pcap);
}

void net_room(struct net *n)
{
    if (n->user && n->user->room)
        n->user->room(n->card);
}

/* ---- to the card ---- */

static void rx_timer(struct timer *t)
{
    struct net *n = container_of(t, struct net, rx_timer);
    const u32 waiting = n->rx_waiting;

    n->rx_waiting = 0;
    for (u32 q = 0; q < n->queues; q++)
        if (waiting & BIT(q))
            n->ops->resume(n, q);
}

static bool give(struct net *n, u32 q, const struct virtio_net_hdr_v1 *hdr, const u8 *data, u32 len)
{
    struct virtio_net_hdr_v1 h = *hdr;
    const struct iovec iov[2] = { { &h, NET_HDR }, { (void *)(uintptr_t)data, len } };

    return n->user->receive(n->card, q, iov, 2, NET_HDR + len);
}

/* Gives the card a packet that its driver did not agree to finish. False: no room; n->cut says how many frames were
   given. */
static bool give_finished(struct net *n, u32 q, const struct frame *f, const u8 *data)
{
    const struct virtio_net_hdr_v1 plain = { .num_buffers = 1 };

    if (!f->gso) {
        memcpy(n->scratch, data, f->len);
        frame_complete(f, n->scratch);
        return give(n, q, &plain, n->scratch, f->len);
    }
    for (; n->cut[q] < frame_cuts(f); n->cut[q]++)
        if (!give(n, q, &plain, n->scratch, frame_cut(f, data, n->cut[q], n->scratch)))
            return false;
    n->cut[q] = 0;
    return true;
}

bool net_deliver(struct net *n, u32 q, const u8 *packet, u32 len)
{
    struct virtio_net_hdr_v1 hdr;
    u8 head[FRAME_HEAD]; /* a copy: others may write to the memory that holds the packet */
    struct frame f;
    u64 when;

    if (len < NET_HDR + FRAME_ETH || len > NET_HDR + NET_MAX_FRAME || !n->user)
        goto drop;
    memcpy(&hdr, packet, NET_HDR);
    memcpy(head, packet + NET_HDR, MIN(len - NET_HDR, sizeof(head)));
    if (frame_check(&f, &hdr, head, len - NET_HDR))
        goto drop;
    if (!bucket_open(&n->rx, n->rx.rate ? clock_ns() : 0, &when)) {
        n->rx_waiting |= (u32)BIT(q);
        timer_arm(&n->rx_timer, when);
        return false;
    }
    if (frame_needs(&f) & ~n->takes) {
        if (!give_finished(n, q, &f, packet + NET_HDR))
            return false;
    } else {
        hdr.num_buffers = 1;
        hdr.flags &= n->takes & NET_CSUM ? VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID : 0;
        if (!give(n, q, &hdr, packet + NET_HDR, f.len))
            return false;
    }
    n->cut[q] = 0;
    bucket_pay(&n->rx, f.len);
    n->stats.rx_packets++;
    n->stats.rx_bytes += f.len;
    if (n->pcap)
        pcap_frame(n->pcap, &f, packet + NET_HDR, wall_ns());
    return true;
drop:
    n->cut[q] = 0;
    n->stats.rx_dropped++;
    return true;
}

void net_delivered(struct net *n, u32 q)
{
    if (n->user && n->user->batch)
        n->user->batch(n->card, q);
    if (n->pcap)
        pcap_flush(n->pcap);
}

void net_resume(struct net *n, u32 q)
{
    if (q < n->queues && !(n->rx_waiting & BIT(q)))
        n->ops->resume(n, q);
}

void net_set_link(struct net *n, bool up)
{
    if (n->link == up)
        return;
    n->link = up;
    if (n->user && n->user->link)
        n->user->link(n->card, up);
}

/* ---- the rest of the interface ---- */

static int choose_mac(u8 mac[6], const struct net_spec *s, struct error *err)
{
    u64 hash = 0xcbf29ce484222325; /* FNV-1a */

    if (s->has_mac) {
        memcpy(mac, s->mac, 6);
        return 0;
    }
    if (s->config->seed) {
        for (const char *p = s->config->seed; *p; p++)
            hash = (hash ^ (u8)*p) * 0x100000001b3;
        memcpy(mac, &hash, 6);
    } else if (getrandom(mac, 6, 0) != 6) {
        return error_set(err, errno, "cannot get random bytes for an address: %s", strerror(errno));
    }
    mac[0] = (u8)((mac[0] & 0xfc) | 2); /* locally administered, and the address of one card */
    return 0;
}

struct net *net_open(const struct config_net *c, const u8 mac[6], struct loop *loop, struct error *err)
{
    struct net *n = calloc(1, sizeof(*n));
    struct net_spec *s = malloc(sizeof(*s));

    if (!n || !s) {
        error_set(err, ENOMEM, "no memory");
        goto fail;
    }
    const struct net_ops *ops = read_config(c, mac, s, err);
    if (!ops)
        goto fail;
    snprintf(n->name, sizeof(n->name), "network %s%s%s", s->kind, s->name ? ":" : "", s->name ? s->name : "");
    n->loop = loop;
    n->queues = 1;
    n->mtu = 1500;
    n->link = true;
    n->offloads = NET_CSUM | NET_TSO4 | NET_TSO6;
    timer_init(&n->tx_timer, loop, tx_timer);
    timer_init(&n->rx_timer, loop, rx_timer);
    const u64 burst = c->burst ? c->burst : MAX(c->rate / 20, 65536u); /* 50 ms */
    bucket_init(&n->tx, c->rate, burst, clock_ns());
    bucket_init(&n->rx, c->rate, burst, clock_ns());
    if (choose_mac(n->mac, s, err))
        goto fail;
    n->scratch = malloc(NET_MAX_FRAME);
    if (!n->scratch) {
        error_set(err, ENOMEM, "no memory");
        goto fail;
    }
    if (c->pcap && !(n->pcap = pcap_open(c->pcap, err)))
        goto fail;
    n->ops = ops;
    if (ops->open(n, s, err)) {
        n->ops = NULL;
        goto fail;
    }
    free(s);
    return n;
fail:
    free(s);
    net_close(n);
    return NULL;
}

void net_connect(struct net *n, const struct net_user *user, void *card)
{
    n->user = user;
    n->card = card;
    if (user)
        for (u32 q = 0; q < n->queues; q++)
            n->ops->resume(n, q);
}

void net_close(struct net *n)
{
    if (!n)
        return;
    n->user = NULL;
    if (n->ops) {
        timer_disarm(&n->tx_timer);
        timer_disarm(&n->rx_timer);
        n->ops->close(n);
    }
    pcap_close(n->pcap);
    free(n->scratch);
    free(n);
}

void net_mac(const struct net *n, u8 mac[6])
{
    memcpy(mac, n->mac, 6);
}

bool net_link(const struct net *n)
{
    return n->link;
}

u32 net_queues(const struct net *n)
{
    return n->queues;
}

u32 net_mtu(const struct net *n)
{
    return n->mtu;
}

u32 net_offloads(const struct net *n)
{
    return n->offloads;
}

void net_set_offloads(struct net *n, u32 receive)
{
    n->takes = receive & n->offloads;
    if (!(n->takes & NET_CSUM))
        n->takes = 0; /* a large segment always has an open checksum */
    if (n->ops->offloads)
        n->ops->offloads(n);
}

u16 net_hostfwd_port(const struct net *n, u32 i)
{
    return i < n->nports ? n->port[i] : 0;
}

struct net_stats net_stats(const struct net *n)
{
    struct net_stats s = n->stats;

    if (n->dropped)
        s.tx_dropped += __atomic_load_n(n->dropped, __ATOMIC_RELAXED);
    return s;
}

/* ---- none ---- */

static int none_open(struct net *n, const struct net_spec *spec, struct error *err)
{
    n->queues = spec->config->queues;
    n->link = false;
    return 0;
}

static void none_close(struct net *n) {}

static bool none_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    return true;
}

static void none_queue(struct net *n, u32 q) {}

const struct net_ops net_none_ops = { "none", none_open, none_close, none_send, none_queue, none_queue, NULL };
