/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_frame.c - see user_frame.h.  RFC 791 (fragments), 9293 (MSS option), 1624 (checksum update).
 */
#include "net/user_frame.h"

#include <string.h>

enum {
    IP = FRAME_ETH,
    TCP = 6,
    TCP_CSUM = 16,
    TH_SYN = 2,
    OPT_END = 0,
    OPT_NOP = 1,
    OPT_MSS = 2,
    MIN_MSS4 = 536, /* for a peer that does not give its MSS (RFC 9293 3.7.1) */
    MIN_MSS6 = 1220,
    LEAST_MSS = 64, /* for a peer that asks for a very small MSS */
};

/* Offset of TCP's header, or 0 if this is not a whole TCP header. have: number of bytes that there are. */
static u32 find_tcp(const u8 *d, u32 have, bool *v6)
{
    u32 at = 0;

    if (have < IP + 40)
        return 0;
    *v6 = get16(d + 12) == ETH_P_IPV6;
    if (*v6) {
        if (d[IP] >> 4 == 6 && d[IP + 6] == TCP)
            at = IP + 40;
    } else if (get16(d + 12) == ETH_P_IP && d[IP] >> 4 == 4 && (d[IP] & 15) >= 5 && d[IP + 9] == TCP &&
               !(get16(d + IP + 6) & 0x3fff)) {
        at = IP + (d[IP] & 15) * 4;
    }
    return at && at + 20 <= have && at + (d[at + 12] >> 4) * 4 <= have && d[at + 12] >> 4 >= 5 ? at : 0;
}

/* The place of the flow: it holds this flow, or another one that it may replace. */
static struct user_flow *find_flow(struct user_frames *u, const u8 *d, u32 tcp, bool v6, bool from_guest, u8 key[36])
{
    const u8 *src = d + IP + (v6 ? 8 : 12), *dst = src + (v6 ? 16 : 4);
    const u32 n = v6 ? 16 : 4;
    u32 hash = 2166136261u; /* FNV-1a */

    memset(key, 0, 36);
    memcpy(key, from_guest ? src : dst, n);
    memcpy(key + 16, from_guest ? dst : src, n);
    memcpy(key + 32, d + tcp + (from_guest ? 0 : 2), 2);
    memcpy(key + 34, d + tcp + (from_guest ? 2 : 0), 2);
    for (u32 i = 0; i < 36; i++)
        hash = (hash ^ key[i]) * 16777619;
    return &u->flow[(hash ^ hash >> 16) % USER_FLOWS];
}

/* The place of the value of a SYN's MSS option, or NULL. */
static u8 *find_mss(u8 *d, u32 tcp)
{
    const u32 end = tcp + (d[tcp + 12] >> 4) * 4;

    for (u32 at = tcp + 20; at < end && d[at] != OPT_END;) {
        if (d[at] == OPT_NOP) {
            at++;
            continue;
        }
        if (at + 2 > end || d[at + 1] < 2 || at + d[at + 1] > end)
            return NULL;
        if (d[at] == OPT_MSS)
            return d[at + 1] == 4 ? d + at + 2 : NULL;
        at += d[at + 1];
    }
    return NULL;
}

/* Puts another value into an MSS option, at an even or odd place: HC' = ~(~HC + ~m + m') of RFC 1624. */
static void set_mss(u8 *d, u32 tcp, u8 *mss, u32 value)
{
    u8 was[4] = { 0 }, is[4] = { 0 };
    const u32 odd = (u32)(mss - d - tcp) & 1;
    u16 sum;

    memcpy(was + odd, mss, 2);
    put16(mss, value);
    memcpy(is + odd, mss, 2);
    for (int i = 0; i < 4; i++)
        was[i] = (u8)~was[i];
    memcpy(&sum, d + tcp + TCP_CSUM, 2);
    sum = (u16)~csum_fold(csum_add(csum_add((u16)~sum, was, 4), is, 4));
    memcpy(d + tcp + TCP_CSUM, &sum, 2);
}

void user_frame_sum(const struct frame *f, u8 *data)
{
    if (!(f->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return;
    if (f->gso) {
        /* The field has the sum of the pseudo header in the form for segmentation, perhaps without a length: compute
           it anew. */
        const u16 sum = csum_fold(csum_pseudo(data + f->l3, f->gso == NET_TSO6, TCP, f->len - f->l4));
        memcpy(data + f->l4 + TCP_CSUM, &sum, 2);
    }
    frame_complete(f, data);
}

void user_frame_syn(struct user_frames *u, u8 *data, u32 len)
{
    bool v6;
    u8 key[36];
    const u32 tcp = find_tcp(data, len, &v6);

    if (!tcp || !(data[tcp + 13] & TH_SYN))
        return;
    struct user_flow *flow = find_flow(u, data, tcp, v6, true, key);
    u8 *mss = find_mss(data, tcp);
    memcpy(flow->key, key, sizeof(key));
    flow->mss = v6 ? MIN_MSS6 : MIN_MSS4;
    if (mss) {
        flow->mss = (u16)MIN(MAX(get16(mss), (u32)LEAST_MSS), u->mtu - (v6 ? 60 : 40));
        set_mss(data, tcp, mss, USER_MSS);
    }
}

static void fragment(struct user_frames *u, const u8 *d, u32 len,
                     void (*emit)(void *ctx, const u8 *hdr, const u8 *frame, u32 len), void *ctx)
{
    static const u8 plain[NET_HDR];
    const u32 ihl = (d[IP] & 15) * 4, total = MIN(len - IP, get16(d + IP + 2)), offset = get16(d + IP + 6);
    const u32 most = (u->mtu - ihl) & ~7u;
    u8 *out = u->buf;

    /* libslirp makes no IP options; not every fragment would carry those. */
    if (d[IP] != 0x45 || total <= ihl)
        return;
    for (u32 at = 0; at < total - ihl; at += most) {
        const u32 n = MIN(most, total - ihl - at);
        const bool more = at + n < total - ihl;
        memcpy(out, d, IP + ihl);
        memcpy(out + IP + ihl, d + IP + ihl + at, n);
        put16(out + IP + 2, ihl + n);
        put16(out + IP + 6, (offset & 0x2000) | ((offset & 0x1fff) + at / 8) | (more ? 0x2000 : 0));
        put16(out + IP + 10, 0);
        const u16 sum = (u16)~csum_fold(csum_add(0, out + IP, ihl));
        memcpy(out + IP + 10, &sum, 2);
        emit(ctx, plain, out, IP + ihl + n);
    }
}

void user_frame_down(struct user_frames *u, u8 *data, u32 len, u32 takes,
                     void (*emit)(void *ctx, const u8 *hdr, const u8 *frame, u32 len), void *ctx)
{
    struct virtio_net_hdr_v1 h = { .flags = takes & NET_CSUM ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
    u8 key[36];
    bool v6;

    if (len < FRAME_ETH || len > NET_MAX_FRAME)
        return;
    const u32 tcp = find_tcp(data, len, &v6);
    const u32 head = tcp ? tcp + (data[tcp + 12] >> 4) * 4 : 0;
    u8 *option = tcp && data[tcp + 13] & TH_SYN ? find_mss(data, tcp) : NULL;
    if (option && get16(option) > u->mtu - (v6 ? 60 : 40))
        set_mss(data, tcp, option, u->mtu - (v6 ? 60 : 40));
    if (head && len > head + LEAST_MSS) {
        const struct user_flow *flow = find_flow(u, data, tcp, v6, false, key);
        const bool known = flow->mss && !memcmp(flow->key, key, sizeof(key));
        const u32 mss = known ? flow->mss : v6 ? MIN_MSS6 : MIN_MSS4;
        /* A flow that lost its place to another flow gets the smallest size. */
        if (len - head > mss && (known || len > FRAME_ETH + u->mtu)) {
            const u16 sum = csum_fold(csum_pseudo(data + IP, v6, TCP, len - tcp));
            h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            h.gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
            h.gso_size = (u16)mss;
            h.hdr_len = (u16)head;
            h.csum_start = (u16)tcp;
            h.csum_offset = TCP_CSUM;
            memcpy(data + tcp + TCP_CSUM, &sum, 2);
            struct frame f;
            if (frame_check(&f, &h, data, len))
                return;
            if (takes & (v6 ? NET_TSO6 : NET_TSO4)) {
                emit(ctx, (const u8 *)&h, data, len);
                return;
            }
            h = (struct virtio_net_hdr_v1){ .flags = takes & NET_CSUM ? VIRTIO_NET_HDR_F_DATA_VALID : 0 };
            for (u32 i = 0; i < frame_cuts(&f); i++) {
                const u32 n = frame_cut(&f, data, i, u->buf);
                emit(ctx, (const u8 *)&h, u->buf, n);
            }
            return;
        }
    } else if (len > FRAME_ETH + u->mtu && get16(data + 12) == ETH_P_IP) {
        fragment(u, data, len, emit, ctx);
        return;
    }
    if (len <= FRAME_ETH + u->mtu)
        emit(ctx, (const u8 *)&h, data, len);
}
