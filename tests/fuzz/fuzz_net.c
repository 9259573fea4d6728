/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_net.c - everything that looks at packets, fed with any bytes: the check and what follows it, user's frames, what
 * a card gets from a hostile cable, a switch whose clients write what they like into their rings, its first message, and the
 * options of --net user.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/backend.h"
#include "net/peer.h"
#include "net/switch.h"
#include "net/user_frame.h"

#include "../unit/net_frames.h"

enum { CARD, USER, SWITCH, HELLO, OPTIONS, KINDS };

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* ---- a card: every packet is whole, finished as agreed, and none larger than a frame ---- */

static u32 agreed, appetite;

static bool receive(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct virtio_net_hdr_v1 h;
    struct frame f;

    require(niov == 2 && iov[0].iov_len == NET_HDR && iov[1].iov_len + NET_HDR == len);
    memcpy(&h, iov[0].iov_base, NET_HDR);
    require(!frame_check(&f, &h, iov[1].iov_base, iov[1].iov_len) && !(frame_needs(&f) & ~agreed));
    if (!appetite--)
        return appetite = 7, false;
    return true;
}

static const struct net_user user = { receive, NULL, NULL, NULL };

static void card(const u8 *p, size_t n, u32 takes)
{
    static struct loop *loop;
    static struct net *net;
    struct error err;

    if (!net) {
        loop = loop_new();
        const struct config_net none = { .backend = (char *)(uintptr_t)"none", .pcap = (char *)(uintptr_t)"/dev/null", .queues = 1 };
        net = net_open(&none, NULL, loop, &err);
        require(net);
        net_connect(net, &user, NULL);
    }
    net_set_offloads(net, takes & 7);
    agreed = takes & NET_CSUM ? takes & 7 : 0;
    appetite = 7;
    for (u32 i = 0; i < 70000 && !net_deliver(net, 0, p, (u32)n); i++)
        ;
    net->link = true;
    const struct iovec iov[2] = { { (void *)(uintptr_t)p, n / 3 }, { (void *)(uintptr_t)(p + n / 3), n - n / 3 } };
    require(net_send(net, 0, iov, 2, n));
}

/* ---- user ---- */

static void emit(void *ctx, const u8 *hdr, const u8 *frame, u32 len)
{
    struct virtio_net_hdr_v1 h;
    struct frame f;

    memcpy(&h, hdr, NET_HDR);
    require(!frame_check(&f, &h, frame, len));
    require(f.gso || len <= FRAME_ETH + 1500);
}

static void up_and_down(const u8 *p, size_t n, u32 takes)
{
    static struct user_frames u = { .mtu = 1500 };
    struct virtio_net_hdr_v1 h;
    struct frame f;
    u8 *d = malloc(n);

    memcpy(&h, p, NET_HDR);
    memcpy(d, p + NET_HDR, n - NET_HDR);
    if (!frame_check(&f, &h, d, n - NET_HDR)) {
        user_frame_sum(&f, d);
        user_frame_syn(&u, d, (u32)(n - NET_HDR));
    }
    user_frame_down(&u, d, (u32)(n - NET_HDR), takes, emit, NULL);
    free(d);
}

/* ---- the switch: the input is the ring of a client, its indices and those of the other direction ---- */

static void through_switch(const u8 *p, size_t n)
{
    static struct switch_ s;
    static struct link vm[3];
    u32 word[4], len;
    int fds[3];

    for (u32 i = 0; i < 3; i++) {
        struct switch_port *port = &s.port[i];
        if (port->used && !port->link.broken && !vm[i].broken)
            continue;
        if (port->used) {
            link_close(&port->link);
            link_close(&vm[i]);
        }
        require(!link_create(&port->link, RING_SIZE));
        link_fds(&port->link, fds);
        for (int k = 0; k < 3; k++)
            fds[k] = dup(fds[k]);
        require(!link_attach(&vm[i], fds));
        memcpy(port->mac, "\x02\x00\x00\x00\x00\x01", 6);
        port->mac[5] = (u8)(i + 1);
        port->used = true;
    }
    if (n < sizeof(word))
        return;
    memcpy(word, p, sizeof(word));
    n -= sizeof(word);
    memcpy(vm[0].out.data + s.port[0].link.in.own % RING_SIZE, p + sizeof(word), n);
    vm[0].out.shared->head = s.port[0].link.in.own + word[0];
    vm[0].out.shared->wants_room = word[1] & 1;
    if (word[1] & 2)
        vm[1].in.shared->tail = word[2];
    while (switch_forward(&s, &s.port[0]) && !s.port[0].link.broken)
        ;
    /* The others got sane packets of the sender's, or none. */
    for (u32 i = 1; i < 3; i++) {
        const u8 *got;
        while ((got = link_next(&vm[i], &len))) {
            require(len >= NET_HDR + FRAME_ETH && got[NET_HDR + 11] == 1);
            link_pop(&vm[i]);
        }
    }
}

static void hello(const u8 *p, size_t n)
{
    struct peer_hello h;
    int pair[2];

    require(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    if (send(pair[0], p, n, MSG_DONTWAIT) == (ssize_t)n && !peer_receive_hello(pair[1], &h))
        require(n == sizeof(h));
    close(pair[0]);
    close(pair[1]);
}

/* "KEY=VALUE" of a network of the guest's own, each ended by a zero byte. */
static void options(const u8 *p, size_t n)
{
    struct config_net net = { .ipv6 = true, .mtu = 1500 };
    struct user_config c;
    struct error err = { "" };
    char *text = malloc(n + 1);

    memcpy(text, p, n);
    text[n] = 0;
    for (char *o = text; o < text + n; o += strlen(o) + 1) {
        char *value = strchr(o, '=');
        if (!value)
            continue;
        value++;
        if (!strncmp(o, "net=", 4))
            net.net = value;
        else if (!strncmp(o, "hostname=", 9))
            net.hostname = value;
        else if (!strncmp(o, "tftp=", 5))
            net.tftp = value;
        else if (!strncmp(o, "bootfile=", 9))
            net.bootfile = value;
        else if (net.nhostfwd < CONFIG_MAX_FORWARDS)
            net.hostfwd[net.nhostfwd++] = value;
    }
    const int rc = user_options(&c, &net, &err);
    require(!rc == !err.text[0]);
    require(rc || (c.nforwards <= NET_MAX_FORWARDS && strnlen(c.hostname, sizeof c.hostname) < sizeof c.hostname));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 + NET_HDR)
        return 0;
    const u8 *p = data + 2;
    const size_t n = size - 2;
    switch (data[0] % KINDS) {
    case CARD:
        card(p, n, data[1]);
        break;
    case USER:
        up_and_down(p, n, data[1]);
        break;
    case SWITCH:
        through_switch(p, n);
        break;
    case HELLO:
        hello(p, n);
        break;
    default:
        options(p, n);
    }
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    struct virtio_net_hdr_v1 h = { 0 };
    u8 *d = buf + 2 + NET_HDR;
    u32 len;

    if (cap < 16384 || i >= 18)
        return 0;
    buf[0] = i < 6 ? CARD : i < 12 ? USER : i < 15 ? SWITCH : i < 16 ? HELLO : OPTIONS;
    buf[1] = (u8)(i * 3);
    if (buf[0] == OPTIONS) {
        static const char text[2][96] = { "hostfwd=tcp:127.0.0.1:2222-:22\0net=10.1.0.0/16\0hostname=a.b\0mtu=1500\0ipv6=off\0restrict=on",
                                          "hostfwd=udp:[::1]:53-[fec0::1]:53\0hostfwd=tcp::1-:2\0hostfwd=tcp:10.0.2.2:1-10.0.2.15:2" };
        memcpy(buf + 2, text[i - 16], sizeof(text[0]));
        return 2 + sizeof(text[0]);
    }
    if (buf[0] == HELLO) {
        const struct peer_hello hi = { .magic = PEER_MAGIC, .version = PEER_VERSION };
        memcpy(buf + 2, &hi, sizeof(hi));
        return 2 + sizeof(hi);
    }
    if (buf[0] == SWITCH) { /* word[4], then records */
        u32 at = 2 + 16;
        for (u32 k = 0; k < 3; k++) {
            u8 *r = buf + at;
            len = tcp_frame(r + 8 + NET_HDR, &h, k == 1, 0, 0, 2000, 1000);
            memset(r, 0, 8);
            memcpy(r, &(u32){ NET_HDR + len }, 4);
            memcpy(r + 8, &h, NET_HDR);
            r[8 + NET_HDR] = k == 2 ? 0xff : 2;
            at += (u32)align_up(8 + NET_HDR + len, 8);
        }
        memcpy(buf + 2, (u32[4]){ at - 18, i, 0, 0 }, 16);
        return at;
    }
    switch (i % 6) {
    case 0:
        len = tcp_frame(d, &h, false, 0, 12, 4000, 1448);
        break;
    case 1:
        len = tcp_frame(d, &h, true, 4, 0, 4000, 1440);
        break;
    case 2:
        len = syn_frame(d, &h, false, 1460);
        break;
    case 3:
        len = syn_frame(d, &h, true, 1440);
        break;
    case 4:
        len = udp_frame(d, 4000);
        break;
    default:
        len = tcp_frame(d, &h, false, 0, 0, 500, 1448);
        h.gso_type = 0;
    }
    memcpy(buf + 2, &h, NET_HDR);
    return 2 + NET_HDR + len;
}
