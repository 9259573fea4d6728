/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame.c - checks, completes and cuts frames.  RFC 791, 8200 (IP), 9293 (TCP), 1071 (checksums).
 */
#include "net/frame.h"

#include <string.h>

enum {
    TCP = 6,
    TCP_CSUM = 16,
    TH_FIN = 1,
    TH_PUSH = 8,
    TH_CWR = 0x80,
};

u64 csum_add(u64 sum, const u8 *p, size_t len)
{
    /* It adds 32-bit words to 64-bit sums, so no carry is lost in 16 GiB. There are two sums because that is faster. */
    u64 a = 0, b = 0;

    for (; len >= 32; p += 32, len -= 32) {
        u32 w[8];
        memcpy(w, p, sizeof(w));
        a += (u64)w[0] + w[1] + w[2] + w[3];
        b += (u64)w[4] + w[5] + w[6] + w[7];
    }
    for (; len >= 2; p += 2, len -= 2) {
        u16 w;
        memcpy(&w, p, sizeof(w));
        a += w;
    }
    if (len)
        a += *p;
    return sum + (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32);
}

u16 csum_fold(u64 sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

u64 csum_pseudo(const u8 *ip, bool v6, u8 protocol, u32 len)
{
    u8 rest[8] = { 0 };

    put32(rest, len);
    rest[7] = protocol;
    return csum_add(csum_add(0, v6 ? ip + 8 : ip + 12, v6 ? 32 : 8), rest, sizeof(rest));
}

static void csum_store(u8 *p, u64 sum)
{
    u16 v = (u16)~csum_fold(sum);

    memcpy(p, &v, sizeof(v));
}

static const char *check_gso(struct frame *f, const u8 *head, u32 have)
{
    const struct virtio_net_hdr_v1 *h = &f->hdr;
    const u32 kind = h->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
    u32 type, at = 12;

    if (kind != VIRTIO_NET_HDR_GSO_TCPV4 && kind != VIRTIO_NET_HDR_GSO_TCPV6)
        return "a kind of segmentation that was not offered";
    if (!(h->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || h->gso_size < FRAME_MSS_LEAST)
        return "segmentation without a checksum or a size";
    do {
        if (at + 2 > have)
            return "segmentation of a frame without headers";
        type = get16(head + at);
        at += type == ETH_P_8021Q || type == ETH_P_8021AD ? 4 : 2;
    } while ((type == ETH_P_8021Q || type == ETH_P_8021AD) && at <= FRAME_ETH + 8);
    f->l3 = at;
    if (kind == VIRTIO_NET_HDR_GSO_TCPV4) {
        if (type != ETH_P_IP || at + 20 > have || head[at] >> 4 != 4 || (head[at] & 15) < 5 || head[at + 9] != TCP ||
            get16(head + at + 2) != f->len - at || get16(head + at + 6) & 0x3fff)
            return "segmentation of what is not TCP over IPv4";
        f->l4 = at + (head[at] & 15) * 4;
        f->gso = NET_TSO4;
    } else {
        if (type != ETH_P_IPV6 || at + 40 > have || head[at] >> 4 != 6 || head[at + 6] != TCP ||
            get16(head + at + 4) != f->len - at - 40)
            return "segmentation of what is not TCP over IPv6";
        f->l4 = at + 40;
        f->gso = NET_TSO6;
    }
    if (f->l4 + 20 > have || h->csum_start != f->l4 || h->csum_offset != TCP_CSUM)
        return "segmentation with the checksum elsewhere";
    f->payload = f->l4 + (head[f->l4 + 12] >> 4) * 4;
    if (f->payload < f->l4 + 20 || f->payload > have || f->payload >= f->len)
        return "segmentation of TCP without data";
    return NULL;
}

const char *frame_check(struct frame *f, const struct virtio_net_hdr_v1 *hdr, const u8 *head, size_t len)
{
    if (len < FRAME_ETH || len > NET_MAX_FRAME)
        return "a length that no frame has";
    *f = (struct frame){ .hdr = *hdr, .len = (u32)len };
    if (hdr->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        const char *why = check_gso(f, head, MIN(f->len, (u32)FRAME_HEAD));
        if (why)
            return why;
    } else if (hdr->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        u32 at = (u32)hdr->csum_start + hdr->csum_offset;
        if (hdr->csum_start < FRAME_ETH || at + 2 > f->len)
            return "a checksum outside of the frame";
    }
    return NULL;
}

u32 frame_needs(const struct frame *f)
{
    return (f->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? NET_CSUM : 0) | f->gso;
}

void frame_complete(const struct frame *f, u8 *data)
{
    u8 *at = data + f->hdr.csum_start + f->hdr.csum_offset;

    /* The field already holds the sum of the pseudo header. Zero would mean "none" to UDP; to other protocols, zero
       and ffffh are the same. */
    csum_store(at, csum_add(0, data + f->hdr.csum_start, f->len - f->hdr.csum_start));
    if (!at[0] && !at[1])
        at[0] = at[1] = 0xff;
}

u32 frame_cuts(const struct frame *f)
{
    return (f->len - f->payload + f->hdr.gso_size - 1) / f->hdr.gso_size;
}

u32 frame_cut(const struct frame *f, const u8 *data, u32 i, u8 *out)
{
    const u32 off = i * f->hdr.gso_size, n = MIN((u32)f->hdr.gso_size, f->len - f->payload - off);
    const bool last = f->payload + off + n == f->len, v6 = f->gso == NET_TSO6;
    u8 *ip = out + f->l3, *tcp = out + f->l4;
    const u32 tcp_len = f->payload - f->l4 + n;

    memcpy(out, data, f->payload);
    memcpy(out + f->payload, data + f->payload + off, n);
    if (v6) {
        put16(ip + 4, tcp_len);
    } else {
        put16(ip + 2, f->l4 - f->l3 + tcp_len);
        put16(ip + 4, get16(ip + 4) + i);
        put16(ip + 10, 0);
        csum_store(ip + 10, csum_add(0, ip, f->l4 - f->l3));
    }
    put32(tcp + 4, get32(tcp + 4) + off);
    if (!last)
        tcp[13] &= (u8) ~(TH_FIN | TH_PUSH);
    if (i)
        tcp[13] &= (u8)~TH_CWR;
    put16(tcp + TCP_CSUM, 0);
    csum_store(tcp + TCP_CSUM, csum_add(csum_pseudo(ip, v6, TCP, tcp_len), tcp, tcp_len));
    return f->payload + n;
}
