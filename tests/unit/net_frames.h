/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_frames.h - frames made by hand, for tests and as seeds of the fuzzer.
 */
#ifndef LODGE_TESTS_NET_FRAMES_H
#define LODGE_TESTS_NET_FRAMES_H

#include <string.h>

#include "net/frame.h"

/* Ethernet and IP from 02::01 to 02::02 with room for n bytes of protocol; returns where they begin. */
static u32 ip_frame(u8 *d, bool v6, u32 vlan, u8 protocol, u32 n)
{
    u8 *ip = d + 14 + vlan;
    u16 sum;

    memset(d, 0, 14 + vlan + 40);
    memcpy(d, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01", 12);
    for (u32 at = 12; at < 12 + vlan; at += 4)
        put16(d + at, 0x8100);
    put16(d + 12 + vlan, v6 ? 0x86dd : 0x0800);
    if (v6) {
        ip[0] = 0x60;
        put16(ip + 4, n);
        ip[6] = protocol;
        ip[7] = 64;
        ip[8] = ip[24] = 0xfe;
        ip[23] = 1;
        ip[39] = 2;
        return 14 + vlan + 40;
    }
    ip[0] = 0x45;
    put16(ip + 2, 20 + n);
    put16(ip + 4, 0xfffe);
    ip[8] = 64;
    ip[9] = protocol;
    put32(ip + 12, 0x0a000001);
    put32(ip + 16, 0x0a000002);
    sum = (u16)~csum_fold(csum_add(0, ip, 20));
    memcpy(ip + 10, &sum, 2);
    return 14 + vlan + 20;
}

static u32 tcp_frame(u8 *d, struct virtio_net_hdr_v1 *h, bool v6, u32 vlan, u32 options, u32 payload, u32 mss)
{
    const u32 l4 = ip_frame(d, v6, vlan, 6, 20 + options + payload);
    u8 *tcp = d + l4;

    memset(tcp, 1, 20 + options); /* options: no-ops */
    put16(tcp, 5000);
    put16(tcp + 2, 80);
    put32(tcp + 4, 1000);
    tcp[12] = (u8)((20 + options) / 4 << 4);
    tcp[13] = 0x99; /* CWR ACK PSH FIN */
    for (u32 i = 0; i < payload; i++)
        tcp[20 + options + i] = (u8)(i * 7 + (i >> 8));
    *h = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = (u16)(l4 + 20 + options),
        .gso_size = (u16)mss,
        .csum_start = (u16)l4,
        .csum_offset = 16,
    };
    return l4 + 20 + options + payload;
}

/* A SYN that asks for segments of mss; its checksum is right. */
static __attribute__((unused)) u32 syn_frame(u8 *d, struct virtio_net_hdr_v1 *h, bool v6, u32 mss)
{
    const u32 len = tcp_frame(d, h, v6, 0, 8, 0, 1), l4 = h->csum_start;
    u16 sum;

    d[l4 + 13] = 2;
    d[l4 + 20] = 2;
    d[l4 + 21] = 4;
    put16(d + l4 + 22, mss);
    put16(d + l4 + 16, 0);
    sum = (u16)~csum_fold(csum_add(csum_pseudo(d + 14, v6, 6, len - l4), d + l4, len - l4));
    memcpy(d + l4 + 16, &sum, 2);
    memset(h, 0, sizeof(*h));
    return len;
}

/* From the other side: addresses and ports exchanged, which no checksum notices. */
static __attribute__((unused)) void turn_round(u8 *d, bool v6)
{
    u8 t[16], *src = d + 14 + (v6 ? 8 : 12), *ports = d + 14 + (v6 ? 40 : 20);
    const u32 n = v6 ? 16 : 4;

    memcpy(t, src, n);
    memcpy(src, src + n, n);
    memcpy(src + n, t, n);
    memcpy(t, ports, 2);
    memcpy(ports, ports + 2, 2);
    memcpy(ports + 2, t, 2);
}

static __attribute__((unused)) u32 udp_frame(u8 *d, u32 payload)
{
    const u32 l4 = ip_frame(d, false, 0, 17, 8 + payload);

    put16(d + l4, 5000);
    put16(d + l4 + 2, 53);
    put16(d + l4 + 4, 8 + payload);
    put16(d + l4 + 6, 0);
    for (u32 i = 0; i < payload; i++)
        d[l4 + 8 + i] = (u8)(i * 13);
    return l4 + 8 + payload;
}

#endif
