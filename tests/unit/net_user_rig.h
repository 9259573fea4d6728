/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_user_rig.h - a card at "user" that collects the packets which come, and hand-written frames to send.  Include it in
 * one .c of a test program.
 */
#ifndef LODGE_TEST_NET_USER_RIG_H
#define LODGE_TEST_NET_USER_RIG_H

#include "net_wire.h"
#include "said.h"

#include "net/frame.h"

#include "net_frames.h"

static struct loop *loop;

/* ---- a card that collects packets ---- */

static u8 packet[64][2048];
static size_t packet_len[64];
static u32 npackets;

static inline bool collect(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    size_t at = 0;

    if (npackets == ARRAY_SIZE(packet) || len > sizeof(packet[0]))
        return true;
    for (u32 i = 0; i < niov; i++) {
        memcpy(packet[npackets] + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    CHECK_EQ(at, len);
    packet_len[npackets++] = len;
    return true;
}

static bool (*wanted)(const u8 *frame, size_t len);

static inline void batch(void *card, u32 q)
{
    for (u32 i = 0; i < npackets; i++)
        if (!wanted || wanted(packet[i] + NET_HDR, packet_len[i] - NET_HDR))
            loop_stop(loop);
}

static const struct net_user collector = { collect, batch, NULL, NULL };

static inline void send_frame(struct net *n, const u8 *frame, size_t len)
{
    u8 hdr[NET_HDR] = { 0 };
    const struct iovec iov[2] = { { hdr, NET_HDR }, { (void *)(uintptr_t)frame, len } };

    CHECK(net_send(n, 0, iov, 2, NET_HDR + len));
    net_flush(n, 0);
}

/* Runs until a frame that f likes is there; it. */
static inline const u8 *await(bool (*f)(const u8 *frame, size_t len))
{
    wanted = f;
    CHECK_EQ(loop_run(loop), 0);
    for (u32 i = 0; i < npackets; i++)
        if (f(packet[i] + NET_HDR, packet_len[i] - NET_HDR))
            return packet[i] + NET_HDR;
    return NULL;
}

static const u8 mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static inline void ethernet(u8 *f, const u8 dst[6], u32 type)
{
    memcpy(f, dst, 6);
    memcpy(f + 6, mac, 6);
    put16(f + 12, type);
}

/* An IPv4 packet with n bytes after the header. */
static inline void ip(u8 *f, u32 src, u32 dst, u8 protocol, u32 n)
{
    u8 *p = f + 14;

    memset(p, 0, 20);
    p[0] = 0x45;
    put16(p + 2, 20 + n);
    p[8] = 64;
    p[9] = protocol;
    put32(p + 12, src);
    put32(p + 16, dst);
    const u16 sum = (u16)~csum_fold(csum_add(0, p, 20));
    memcpy(p + 10, &sum, 2);
}

static inline bool is_arp_reply(const u8 *f, size_t len)
{
    return len >= 42 && get16(f + 12) == 0x0806 && get16(f + 20) == 2;
}

static inline bool is_dhcp(const u8 *f, size_t len)
{
    return len > 300 && get16(f + 12) == 0x0800 && f[23] == 17 && get16(f + 34) == 67;
}

static inline bool is_echo_reply(const u8 *f, size_t len)
{
    return len >= 42 && get16(f + 12) == 0x0800 && f[23] == 1 && f[34] == 0;
}

static inline const u8 *dhcp_option(const u8 *f, u8 tag)
{
    const u8 *o = f + 14 + 20 + 8 + 240, *end = f + 590;

    while (o < end && *o != 255) {
        if (*o == tag)
            return o + 2;
        o += *o ? 2 + o[1] : 1;
    }
    return NULL;
}

static inline const u8 *dhcp(struct net *n, u8 type, u32 ask)
{
    u8 f[342] = { 0 };
    u8 *b = f + 42;

    ethernet(f, (const u8 *)"\xff\xff\xff\xff\xff\xff", 0x0800);
    ip(f, 0, 0xffffffff, 17, sizeof(f) - 34);
    put16(f + 34, 68);
    put16(f + 36, 67);
    put16(f + 38, sizeof(f) - 34);
    b[0] = b[1] = 1;
    b[2] = 6;
    put32(b + 4, 0x12345678);
    memcpy(b + 28, mac, 6);
    put32(b + 236, 0x63825363);
    memcpy(b + 240, (const u8[]){ 53, 1, type, 50, 4, (u8)(ask >> 24), (u8)(ask >> 16), (u8)(ask >> 8), (u8)ask, 255 },
           10);
    npackets = 0;
    send_frame(n, f, sizeof(f));
    return await(is_dhcp);
}

#endif
