/* SPDX-License-Identifier: Apache-2.0 */
/* The network card (VIRTIO 1.2, 5.1) over a fake cable, which keeps what is sent and refuses when the test says so. */
#include "virtio/virtio_net.h"

#include "virtio_rig.h"

/* ---- the fake cable ---- */

enum { SENT = 300, FRAME = NET_HDR + NET_MAX_FRAME };
struct net {
    const struct net_user *user;
    void *card;
    u32 queues, offloads, set_offloads, resumed, room_for;
    bool link, again; /* again: resume comes back with a packet at once */
    struct {
        u32 q, len;
        u8 data[2048];
    } sent[SENT];
    u32 nsent, flushes;
};
static struct net cable;

void net_connect(struct net *n, const struct net_user *user, void *card)
{
    n->user = user;
    n->card = card;
}
void net_mac(const struct net *n, u8 mac[6]) { memcpy(mac, "\x52\x54\x00\x01\x02\x03", 6); }
bool net_link(const struct net *n) { return n->link; }
u32 net_queues(const struct net *n) { return n->queues; }
u32 net_mtu(const struct net *n) { return 1500; }
u32 net_offloads(const struct net *n) { return n->offloads; }
void net_set_offloads(struct net *n, u32 receive) { n->set_offloads = receive; }
void net_flush(struct net *n, u32 q) { n->flushes++; }

bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    u32 at = 0;

    CHECK(niov && niov <= NET_MAX_IOV);
    CHECK_EQ(iov[0].iov_len, NET_HDR);
    if (!n->room_for)
        return false;
    n->room_for--;
    n->sent[n->nsent].q = q;
    n->sent[n->nsent].len = (u32)len;
    for (u32 i = 0; i < niov; i++)
        for (size_t k = 0; k < iov[i].iov_len; k++, at++)
            if (at < sizeof(n->sent[0].data))
                n->sent[n->nsent].data[at] = ((u8 *)iov[i].iov_base)[k];
    CHECK_EQ(at, len);
    n->nsent++;
    return true;
}

static u8 packet[FRAME];

/* A packet of len bytes (header included) comes in three pieces; to: the destination address. */
static bool arrive_first(u32 q, u32 len, const char *to)
{
    memset(packet, 0, NET_HDR);
    for (u32 i = NET_HDR; i < len; i++)
        packet[i] = (u8)(i * 3 + i / 256);
    if (to)
        memcpy(packet + NET_HDR, to, 6);
    struct iovec iov[] = { { packet, NET_HDR }, { packet + NET_HDR, 20 }, { packet + NET_HDR + 20, len - NET_HDR - 20 } };
    return cable.user->receive(cable.card, q, iov, 3, len);
}

static bool arrive(u32 q, u32 len, const char *to)
{
    bool r = arrive_first(q, len, to);

    cable.user->batch(cable.card, q);
    return r;
}

void net_resume(struct net *n, u32 q)
{
    n->resumed |= 1u << q;
    if (n->again) {
        n->again = false;
        CHECK(arrive(q, 100, NULL));
    }
}

/* ---- the card ---- */

#define F_CSUM BIT(0)
#define F_GUEST_CSUM BIT(1)
#define F_GUEST_TSO4 BIT(7)
#define F_MRG_RXBUF BIT(15)
#define F_MQ BIT(22)
#define ALL (~0ull & ~VIRTIO_F_RING_PACKED)
enum { RX, TX, CTRL };

static struct virtio_net *net;

static void setup_with(u32 queues, u64 features)
{
    memset(&cable, 0, sizeof(cable));
    cable.queues = queues;
    cable.link = true;
    cable.offloads = NET_CSUM | NET_TSO4;
    cable.room_for = SENT;
    rig_memory();
    net = virtio_net_new(&cable, drv.m, NULL, NULL);
    rig_start(virtio_net_device(net), features);
    loop_turns();
}

static void setup(void) { setup_with(1, ALL & ~BIT(18)); }

static void end(void)
{
    virtio_net_free(net);
    CHECK(!cable.user);
    rig_end();
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u64 rx_buffer(u32 q, u32 len)
{
    struct piece p = { alloc(len), len };

    memset(at(p.gpa, len), 0, len);
    add(q, &p, 0, 1);
    return p.gpa;
}

TEST(configuration)
{
    setup();
    CHECK_EQ(drv.d->ops->id, 1);
    CHECK_EQ(config(0, 4), 0x01005452);
    CHECK_EQ(config(6, 2), 1);
    CHECK_EQ(config(10, 2), 1500);
    CHECK_EQ(config(12, 4), 10000);
    CHECK_EQ(config(16, 1), 1);
    CHECK_EQ(cable.set_offloads, NET_CSUM | NET_TSO4);
    CHECK(!(drv.d->offered & (BIT(8) | BIT(12) | F_MQ)));
    cable.user->link(cable.card, false);
    CHECK_EQ(drv.config_interrupts, 1);
    CHECK_EQ(config(6, 2), 0);
    set_status(0);
    loop_turns();
    CHECK_EQ(cable.set_offloads, 0);
    end();
    setup_with(1, ALL & ~F_GUEST_TSO4);
    CHECK_EQ(cable.set_offloads, NET_CSUM);
    end();
}

TEST(sends_in_any_framing)
{
    setup();
    u64 b = alloc(200);
    for (u32 i = 0; i < 200; i++)
        *(u8 *)at(b + i, 1) = (u8)i;
    struct piece whole[] = { { b, 112 } };
    struct piece parts[] = { { b, 5 }, { b + 5, 7 }, { b + 12, 1 }, { b + 13, 99 } };
    struct piece mixed[] = { { b, 3 }, { b + 3, 20 }, { b + 23, 89 } };
    add(TX, whole, 1, 0);
    add(TX, parts, 4, 0);
    add(TX, mixed, 3, 0);
    kick(TX);
    CHECK_EQ(cable.nsent, 3);
    CHECK_EQ(cable.flushes, 1);
    CHECK_EQ(drv.interrupts[TX], 1);
    for (u32 i = 0; i < 3; i++) {
        CHECK_EQ(cable.sent[i].len, 112);
        CHECK(!memcmp(cable.sent[i].data, at(b, 112), 112));
        CHECK(used(TX, NULL) >= 0);
    }
    end();
}

TEST(lengths_that_no_packet_has_are_dropped)
{
    setup();
    u64 b = alloc(FRAME + 1);
    struct piece p[] = { { b, 11 } };
    static const u32 lens[] = { 1, NET_HDR, NET_HDR + 13, FRAME + 1 };
    for (u32 i = 0; i < 4; i++) {
        p[0].len = lens[i];
        add(TX, p, 1, 0);
    }
    p[0].len = FRAME;
    add(TX, p, 1, 0);
    kick(TX);
    CHECK_EQ(cable.nsent, 1);
    CHECK_EQ(cable.sent[0].len, FRAME);
    for (u32 i = 0; i < 5; i++)
        CHECK(used(TX, NULL) >= 0);
    end();
}

TEST(no_room_on_the_cable)
{
    setup();
    struct piece p[] = { { alloc(100), 100 } };
    cable.room_for = 2;
    for (u32 i = 0; i < 5; i++)
        add(TX, p, 1, 0);
    kick(TX);
    CHECK_EQ(cable.nsent, 2);
    cable.room_for = 100;
    kick(TX); /* not before it says so */
    CHECK_EQ(cable.nsent, 2);
    cable.user->room(cable.card);
    loop_turns();
    CHECK_EQ(cable.nsent, 5);
    for (u32 i = 0; i < 5; i++)
        CHECK(used(TX, NULL) >= 0);
    CHECK_EQ(used(TX, NULL), -1);
    end();
}

TEST(receives_into_one_buffer)
{
    u32 len = 0;

    setup_with(1, ALL & ~F_MRG_RXBUF & ~BIT(18));
    u64 a = rx_buffer(RX, 2000);
    rx_buffer(RX, 2000);
    kick(RX);
    CHECK(arrive_first(0, 1500, NULL));
    CHECK_EQ(used(RX, &len), -1);
    CHECK_EQ(drv.interrupts[RX], 0);
    CHECK(arrive(0, 1500, NULL));
    CHECK_EQ(drv.interrupts[RX], 1);
    CHECK(used(RX, &len) >= 0);
    CHECK(used(RX, &len) >= 0);
    CHECK_EQ(len, 1500);
    CHECK_EQ(*(u16 *)at(a + 10, 2), 1);
    CHECK(!memcmp(at(a + 12, 1488), packet + 12, 1488));
    rx_buffer(RX, 100);
    CHECK(arrive(0, 1500, NULL)); /* no buffer will ever hold it: lost */
    CHECK_EQ(used(RX, &len), -1);
    CHECK(arrive(0, 100, NULL));
    CHECK(used(RX, &len) >= 0);
    CHECK_EQ(len, 100);
    end();
}

TEST(receives_into_many_buffers)
{
    u64 b[10];
    u32 len = 0;

    setup();
    for (u32 i = 0; i < 10; i++)
        b[i] = rx_buffer(RX, i ? 400 : 7); /* not even the header fits the first */
    CHECK(arrive(0, 1500, NULL));
    CHECK_EQ(used_ring(RX)[1], 5);
    for (u32 i = 0, at_byte = 0; i < 5; i++) {
        CHECK(used(RX, &len) >= 0);
        CHECK_EQ(len, i == 0 ? 7 : i < 4 ? 400 : 1500 - 7 - 1200);
        packet[10] = 5; /* num_buffers */
        CHECK(!memcmp(at(b[i], len), packet + at_byte, len));
        at_byte += len;
    }
    /* Too few: none is used, and the packet comes again. */
    CHECK(!arrive(0, 3000, NULL));
    CHECK_EQ(used_ring(RX)[1], 5);
    for (u32 i = 0; i < 5; i++)
        rx_buffer(RX, 400);
    kick(RX);
    CHECK_EQ(cable.resumed, 1);
    CHECK(arrive(0, 3000, NULL));
    CHECK_EQ(used_ring(RX)[1], 13);
    end();
}

TEST(absurdly_small_buffers)
{
    setup();
    for (u32 i = 0; i < 500; i++)
        rx_buffer(RX, 1);
    CHECK(arrive(0, 1000, NULL)); /* lost */
    CHECK_EQ(used_ring(RX)[1], 0);
    CHECK(arrive(0, 64, NULL));
    CHECK_EQ(used_ring(RX)[1], 64);
    end();
}

TEST(waits_for_buffers)
{
    u32 len = 0;

    setup();
    CHECK(!arrive(0, 100, NULL));
    cable.again = true;
    cable.resumed = 0;
    rx_buffer(RX, 1000);
    kick(RX); /* the packet comes from within the kick */
    CHECK_EQ(cable.resumed, 1);
    CHECK(used(RX, &len) >= 0);
    CHECK_EQ(drv.interrupts[RX], 1);
    cable.resumed = 0;
    rx_buffer(RX, 1000);
    kick(RX); /* nobody waits */
    CHECK_EQ(cable.resumed, 0);
    CHECK(arrive(0, 100, NULL));
    CHECK(!arrive(0, 100, NULL));
    set_status(0);
    loop_turns();
    CHECK_EQ(cable.resumed, 1); /* what waited for the driver that is gone ... */
    CHECK(arrive(0, 100, NULL)); /* ... is lost */
    end();
}

/* ---- the control queue ---- */

static u8 control(u8 class, u8 command, const void *arg, u32 len)
{
    u64 head = alloc(2 + len), ack = alloc(1);
    struct piece p[] = { { head, 2 }, { head + 2, len }, { ack, 1 } };

    memcpy(at(head, 2), ((u8[]){ class, command }), 2);
    if (len)
        memcpy(at(head + 2, len), arg, len);
    *(u8 *)at(ack, 1) = 0x77;
    add(CTRL, len ? p : (struct piece[]){ p[0], p[2] }, len ? 2 : 1, 1);
    kick(CTRL);
    CHECK(used(CTRL, NULL) >= 0);
    return *(u8 *)at(ack, 1);
}

#define HOME "\x52\x54\x00\x01\x02\x03"
#define OTHER "\x52\x54\x00\x01\x02\x99"
#define GROUP "\x01\x00\x5e\x00\x00\x01"
#define BROADCAST "\xff\xff\xff\xff\xff\xff"

static bool passes(const char *to)
{
    u16 before = used_ring(RX)[1];

    rx_buffer(RX, 200);
    CHECK(arrive(0, 100, to));
    return used_ring(RX)[1] != before;
}

TEST(filter)
{
    setup_with(1, ALL);
    CHECK(passes(OTHER));
    CHECK_EQ(control(0, 0, "\0", 1), 0); /* not promiscuous */
    CHECK(passes(HOME) && passes(BROADCAST) && !passes(OTHER) && !passes(GROUP));
    CHECK_EQ(control(0, 1, "\1", 1), 0);
    CHECK(passes(GROUP) && !passes(OTHER));
    CHECK_EQ(control(0, 1, "\0", 1), 0);
    CHECK_EQ(control(1, 0, "\1\0\0\0" OTHER "\1\0\0\0" GROUP, 20), 0);
    CHECK(passes(GROUP) && passes(OTHER) && !passes("\x01\x00\x5e\x00\x00\x02"));
    CHECK_EQ(control(1, 0, "\0\0\0\0\0\0\0\0", 8), 0);
    CHECK(!passes(GROUP) && !passes(OTHER));
    static u8 many[4 + 4 + 6 * 65] = { 0, 0, 0, 0, 65 };
    CHECK_EQ(control(1, 0, many, sizeof(many)), 0); /* more than there is room for: all of them */
    CHECK(passes(GROUP) && !passes(OTHER));
    CHECK_EQ(control(0, 5, "\1", 1), 0);
    CHECK(!passes(BROADCAST));
    CHECK_EQ(control(1, 1, OTHER, 6), 0);
    CHECK(passes(OTHER) && !passes(HOME));
    CHECK_EQ(config(5, 1), 0x99);
    CHECK_EQ(control(2, 0, "\5\0", 2), 0);
    /* A tag of VLAN 5, and of 6. */
    static const u8 tagged[][8] = { { 0x81, 0, 0, 5 }, { 0x81, 0, 0, 6 } };
    for (u32 i = 0; i < 2; i++) {
        u16 before = used_ring(RX)[1];
        struct iovec iov[] = { { packet, NET_HDR }, { (void *)(uintptr_t)OTHER, 6 }, { packet + NET_HDR, 6 },
                               { (void *)(uintptr_t)tagged[i], 4 }, { packet + NET_HDR, 50 } };
        rx_buffer(RX, 200);
        CHECK(cable.user->receive(cable.card, 0, iov, 5, NET_HDR + 66));
        cable.user->batch(cable.card, 0);
        CHECK_EQ(used_ring(RX)[1] - before, i == 0);
    }
    end();
}

TEST(control_refuses)
{
    setup_with(1, ALL);
    CHECK_EQ(control(9, 0, "\0", 1), 1);
    CHECK_EQ(control(0, 6, "\0", 1), 1);
    CHECK_EQ(control(0, 0, NULL, 0), 1);
    CHECK_EQ(control(1, 1, HOME, 5), 1);
    CHECK_EQ(control(1, 0, "\2\0\0\0" OTHER "\0\0\0\0", 14), 1);
    CHECK_EQ(control(1, 0, "\xff\xff\xff\xff\0\0\0\0", 8), 1);
    CHECK_EQ(control(1, 0, "\0\0\0\0\xff\xff\xff\x2a", 8), 1);
    CHECK_EQ(control(2, 0, "\0\x10", 2), 1);
    CHECK_EQ(control(4, 0, "\1\0", 2), 1); /* MQ was not offered */
    CHECK_EQ(control(5, 0, "\x82\0\0\0\0\0\0\1", 8), 1);
    CHECK_EQ(control(5, 0, "\2\0\0\0\0\0\0\0", 8), 0);
    CHECK_EQ(cable.set_offloads, NET_CSUM);
    struct piece p[] = { { alloc(16), 1 }, { alloc(16), 16 } };
    add(CTRL, p, 1, 1);
    kick(CTRL);
    CHECK(virtio_status(drv.d) & VIRTIO_NEEDS_RESET);
    end();
    setup_with(1, ALL & ~BIT(23));
    CHECK_EQ(control(1, 1, OTHER, 6), 1);
    end();
}

TEST(queue_pairs)
{
    setup_with(4, ALL & ~BIT(18));
    CHECK_EQ(drv.d->nqueues, 9);
    CHECK_EQ(config(8, 2), 4);
    u64 head = alloc(16);
    memcpy(at(head, 16), "\4\0\3\0", 4);
    struct piece p[] = { { head, 4 }, { head + 8, 1 } };
    add(8, p, 1, 1); /* the control queue is behind all pairs */
    kick(8);
    CHECK(used(8, NULL) >= 0);
    CHECK_EQ(*(u8 *)at(head + 8, 1), 0);
    rx_buffer(2 * 2, 200);
    CHECK(arrive(2, 100, NULL));
    CHECK_EQ(used_ring(4)[1], 1);
    CHECK(!arrive(3, 100, NULL)); /* a pair that is off: its packets come by another */
    rx_buffer(0, 200);
    kick(0);
    CHECK_EQ(cable.resumed & 8, 8);
    CHECK(arrive(3, 100, NULL));
    CHECK_EQ(used_ring(0)[1], 1);
    struct piece t = { alloc(100), 100 };
    add(5, &t, 1, 0);
    kick(5);
    CHECK_EQ(cable.sent[0].q, 2);
    end();
    setup_with(4, ALL & ~F_MQ); /* then it is the third */
    CHECK_EQ(control(0, 0, "\0", 1), 0);
    end();
}

TEST(announces_itself_after_a_restore)
{
    struct state_list *l = state_list_new(), *l2 = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };

    setup_with(1, ALL);
    control(0, 0, "\0", 1);
    control(1, 1, OTHER, 6);
    control(5, 0, "\2\0\0\0\0\0\0\0", 8);
    CHECK_EQ(state_add(l, drv.d->ops->state, 0, net), 0);
    CHECK_EQ(state_save(l, &one, NULL), 0);
    end();
    setup_with(1, ALL);
    CHECK_EQ(state_add(l2, drv.d->ops->state, 0, net), 0);
    CHECK_EQ(state_load(l2, one.data, one.len, NULL), 0);
    virtio_transport_resume(&drv.t);
    loop_turns();
    CHECK_EQ(cable.set_offloads, NET_CSUM);
    CHECK_EQ(drv.config_interrupts, 1);
    CHECK_EQ(config(6, 2), 3);
    CHECK(passes(OTHER) && !passes(HOME));
    CHECK_EQ(control(3, 0, NULL, 0), 0);
    CHECK_EQ(config(6, 2), 1);
    CHECK_EQ(state_save(l2, &two, NULL), 0);
    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));
    end();
    state_list_free(l);
    state_list_free(l2);
    state_buf_free(&one);
    state_buf_free(&two);
}
