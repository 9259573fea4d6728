/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_frame.c - checksums against the sums of RFC 1071 done the slow way, large segments cut and put together again,
 * headers that lie; the token bucket by a clock of our own; user's frames: sizes that the guest's SYN asked for.
 */
#include "test.h"

#include <stdlib.h>

#include "net/bucket.h"
#include "net/frame.h"
#include "net/user_frame.h"

#include "net_frames.h"

/* Big-endian words, end-around carry: as the RFC says it. */
static u32 slow_sum(const u8 *p, size_t n)
{
    u32 sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (u32)p[i] << (i % 2 ? 0 : 8);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static u32 slow_tcp_sum(const u8 *ip, bool v6, u32 len)
{
    static u8 buf[40 + NET_MAX_FRAME];
    const u32 n = v6 ? 32 : 8;

    memcpy(buf, ip + (v6 ? 8 : 12), n);
    put32(buf + n, len);
    put32(buf + n + 4, 6);
    memcpy(buf + n + 8, ip + (v6 ? 40 : (ip[0] & 15) * 4), len);
    return slow_sum(buf, n + 8 + len);
}

TEST(sums)
{
    u8 buf[300];

    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (u8)(i * 77 + 200);
    for (size_t n = 0; n < sizeof(buf); n++) {
        const u16 v = csum_fold(csum_add(0, buf, n));
        CHECK_EQ(get16((const u8 *)&v), slow_sum(buf, n));
    }
    memset(buf, 255, sizeof(buf));
    CHECK_EQ(csum_fold(csum_add(0, buf, 300)), 0xffff);
}

static void cut(bool v6, u32 vlan, u32 options, u32 payload, u32 mss)
{
    static u8 in[NET_MAX_FRAME], out[NET_MAX_FRAME], all[NET_MAX_FRAME];
    struct virtio_net_hdr_v1 h;
    const u32 len = tcp_frame(in, &h, v6, vlan, options, payload, mss), l3 = 14 + vlan, l4 = l3 + (v6 ? 40 : 20);
    const u32 head = len - payload;
    struct frame f;
    u32 done = 0;

    CHECK(!frame_check(&f, &h, in, len));
    CHECK_EQ(f.payload, head);
    CHECK_EQ(frame_needs(&f), NET_CSUM | (v6 ? NET_TSO6 : NET_TSO4));
    CHECK_EQ(frame_cuts(&f), (payload + mss - 1) / mss);
    for (u32 i = 0; i < frame_cuts(&f); i++) {
        const u32 n = frame_cut(&f, in, i, out), part = n - head;
        CHECK(part <= mss && part > 0);
        CHECK_EQ(get32(out + l4 + 4), 1000 + done);
        CHECK_EQ(slow_tcp_sum(out + l3, v6, n - l4), 0xffff);
        if (!v6) {
            CHECK_EQ(slow_sum(out + l3, 20), 0xffff);
            CHECK_EQ(get16(out + l3 + 2), n - l3);
            CHECK_EQ(get16(out + l3 + 4), (0xfffe + i) & 0xffff);
        } else {
            CHECK_EQ(get16(out + l3 + 4), n - l4);
        }
        /* FIN and PSH with the last, CWR with the first. */
        CHECK_EQ(out[l4 + 13], (i ? 0 : 0x80) | 0x10 | (done + part == payload ? 9 : 0));
        memcpy(all + done, out + head, part);
        done += part;
    }
    CHECK_EQ(done, payload);
    CHECK(!memcmp(all, in + head, payload));
}

TEST(cuts)
{
    cut(false, 0, 0, 65000, 1460);
    cut(false, 4, 12, 2921, 1460);
    cut(false, 8, 40, 2920, 1460);
    cut(true, 0, 0, 65000, 1440);
    cut(true, 4, 20, 1, 1440);
    cut(false, 0, 0, 3000, FRAME_MSS_LEAST);
}

TEST(checksum_left_open)
{
    static u8 d[NET_MAX_FRAME];
    struct virtio_net_hdr_v1 h;
    struct frame f;

    for (u32 v6 = 0; v6 < 2; v6++) {
        u32 len = tcp_frame(d, &h, v6, 0, 12, 999, 1460);
        h.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        const u16 pseudo = csum_fold(csum_pseudo(d + 14, v6, 6, len - h.csum_start));
        memcpy(d + h.csum_start + 16, &pseudo, 2);
        CHECK(!frame_check(&f, &h, d, len));
        CHECK_EQ(frame_needs(&f), NET_CSUM);
        frame_complete(&f, d);
        CHECK_EQ(slow_tcp_sum(d + 14, v6, len - h.csum_start), 0xffff);
    }
}

#define REFUSED(change)                                      \
    do {                                                     \
        u32 len = tcp_frame(d, &h, false, 0, 0, 3000, 1460); \
        change;                                              \
        CHECK(frame_check(&f, &h, d, len));                  \
        (void)len;                                           \
    } while (0)

TEST(headers_that_lie)
{
    static u8 d[NET_MAX_FRAME];
    struct virtio_net_hdr_v1 h;
    struct frame f;

    REFUSED(h.gso_size = 0);
    REFUSED(h.gso_size = 7);
    REFUSED(h.flags = 0);
    REFUSED(h.gso_type = VIRTIO_NET_HDR_GSO_UDP);
    REFUSED(h.gso_type = 5); /* VIRTIO_NET_HDR_GSO_UDP_L4 */
    REFUSED(h.gso_type = VIRTIO_NET_HDR_GSO_TCPV6);
    REFUSED(h.gso_type = 77);
    REFUSED(h.csum_start = 60000);
    REFUSED(h.csum_offset = 6);
    REFUSED(d[14] = 0x44);                /* IHL 4 */
    REFUSED(d[14] = 0x4f);                /* IHL 15: the TCP header elsewhere */
    REFUSED(put16(d + 16, 60000));        /* longer than it is */
    REFUSED(put16(d + 20, 0x2000));       /* a fragment */
    REFUSED(d[23] = 17);                  /* UDP */
    REFUSED(d[34 + 12] = 0x40);           /* TCP header of 16 bytes */
    REFUSED(len = 54; put16(d + 16, 40)); /* no data */
    REFUSED(len = 20);
    REFUSED(len = 13);
    REFUSED(len = NET_MAX_FRAME + 1);
    REFUSED(h.gso_type = 0; h.csum_start = 0);
    REFUSED(h.gso_type = 0; h.csum_start = (u16)(len - 17));
    REFUSED(h.gso_type = 0; h.csum_start = h.csum_offset = 0xffff);
}

TEST(bucket)
{
    struct bucket b;
    u64 now = 5000, sent = 0, when = 0;

    bucket_init(&b, 0, 0, now);
    CHECK(bucket_open(&b, now, &when)); /* no limit */
    bucket_pay(&b, 1 << 30);
    CHECK(bucket_open(&b, now, &when));

    /* 1,000,000 bytes a second, 10,000 at once, packets of 1,500: ten seconds of sending as fast as it lets us. */
    bucket_init(&b, 1000000, 10000, now);
    while (now < 5000 + 10000000000ull) {
        if (bucket_open(&b, now, &when)) {
            bucket_pay(&b, 1500);
            sent += 1500;
        } else {
            CHECK(when > now);
            u64 early = when - 2000; /* not a moment before: one byte takes 1000 ns */
            CHECK(early <= now || !bucket_open(&b, early, &early));
            now = when;
        }
    }
    CHECK(sent >= 10000000 && sent <= 10000000 + 10000 + 1500);

    /* Larger than the burst: it goes, and the next waits for all of it. A long rest earns a burst and no more. */
    now += 1000000000000ull;
    CHECK(bucket_open(&b, now, &when));
    bucket_pay(&b, 60000);
    CHECK(!bucket_open(&b, now, &when));
    CHECK(when - now >= 50000000 && when - now < 50010000);
    CHECK(bucket_open(&b, when, &when));
    /* The rate that leaves less than a byte between two questions. */
    bucket_init(&b, 3, 1, 0);
    bucket_open(&b, 0, &when);
    bucket_pay(&b, 4);
    u32 asked = 0;
    for (now = 0; !bucket_open(&b, now, &when); now += 100000000)
        asked++;
    CHECK(asked >= 13 && asked <= 15); /* 4 bytes: 1.33 s */
    /* A clock that went back. */
    bucket_init(&b, 1000, 1000, 1 << 20);
    CHECK(bucket_open(&b, 0, &when));
}

/* ---- user_frame ---- */

static u8 out[100][NET_MAX_FRAME];
static struct virtio_net_hdr_v1 out_hdr[100];
static u32 nout, out_len[100];

static void emit(void *ctx, const u8 *hdr, const u8 *frame, u32 len)
{
    if (nout == ARRAY_SIZE(out))
        return;
    memcpy(&out_hdr[nout], hdr, NET_HDR);
    memcpy(out[nout], frame, len);
    out_len[nout++] = len;
}

TEST(segment_sizes)
{
    static struct user_frames u = { .mtu = 1500 };
    static u8 d[NET_MAX_FRAME];
    struct virtio_net_hdr_v1 h;
    struct frame f;

    for (u32 v6 = 0; v6 < 2; v6++) {
        const u32 l4 = 14 + (v6 ? 40 : 20);
        u32 len = syn_frame(d, &h, v6, 1200);
        CHECK(!frame_check(&f, &h, d, len));
        user_frame_sum(&f, d);
        user_frame_syn(&u, d, len);
        CHECK_EQ(get16(d + l4 + 22), USER_MSS);
        CHECK_EQ(slow_tcp_sum(d + 14, v6, len - l4), 0xffff);

        /* The answer: told as what an Ethernet takes. */
        len = syn_frame(d, &h, v6, 65000);
        turn_round(d, v6);
        nout = 0;
        user_frame_down(&u, d, len, 0, emit, NULL);
        CHECK_EQ(nout, 1);
        CHECK_EQ(get16(out[0] + l4 + 22), v6 ? 1440 : 1460);
        CHECK_EQ(slow_tcp_sum(out[0] + 14, v6, len - l4), 0xffff);

        /* Data: in one for who takes it, else cut; a size that the other flow asked for, else the least. */
        for (u32 i = 0; i < 3; i++) {
            len = tcp_frame(d, &h, v6, 0, 0, 5000, 1);
            turn_round(d, v6);
            if (i == 2)
                put16(d + l4 + 2, 4711);
            nout = 0;
            user_frame_down(&u, d, len, i != 1 ? NET_CSUM | NET_TSO4 | NET_TSO6 : 0, emit, NULL);
            CHECK_EQ(nout, i == 1 ? 5 : 1);
            if (i != 1) {
                CHECK_EQ(out_hdr[0].gso_size, i ? (v6 ? 1220 : 536) : 1200);
                CHECK(!frame_check(&f, &out_hdr[0], out[0], out_len[0]));
            } else {
                CHECK_EQ(out_len[0], l4 + 20 + 1200);
                CHECK_EQ(slow_tcp_sum(out[0] + 14, v6, out_len[0] - l4), 0xffff);
            }
        }
    }
}

TEST(fragments)
{
    static struct user_frames u = { .mtu = 1500 };
    static u8 d[NET_MAX_FRAME], all[NET_MAX_FRAME];
    u32 n = udp_frame(d, 4000), got = 0;

    nout = 0;
    user_frame_down(&u, d, n, 0, emit, NULL);
    CHECK_EQ(nout, 3);
    for (u32 i = 0; i < nout; i++) {
        const u8 *ip = out[i] + 14;
        CHECK(out_len[i] <= 1514);
        CHECK_EQ(slow_sum(ip, 20), 0xffff);
        CHECK_EQ(get16(ip + 6), got / 8 | (i < 2 ? 0x2000 : 0));
        CHECK_EQ(get16(ip + 2), out_len[i] - 14);
        memcpy(all + got, ip + 20, out_len[i] - 34);
        got += out_len[i] - 34;
    }
    CHECK_EQ(got, n - 34);
    CHECK(!memcmp(all, d + 34, got));
}
