/* SPDX-License-Identifier: Apache-2.0 */
/* The 82540EM against Intel 317453, as a driver sees it; frames are compared on the cable and in memory. */
#include "card_rig.h"
#include "devices/e1000_internal.h"
#include "net/frame.h"

enum { TX_RING = 0x10000, RX_RING = 0x11000, BUFFERS = 0x20000, BUFFER = 2048, N = 16 };
enum { EOP = 1 << 24, IFCS = 1 << 25, IC = 1 << 26, TSE = 1 << 26, RS = 1 << 27, DEXT = 1 << 29, VLE = 1 << 30, DATA = 1 << 20 };

struct descriptor {
    u64 buffer;
    u32 lower, upper;
};

static struct e1000 *e;

static u32 get(u32 reg) { return (u32)bus_read(rig.mmio, e->f.bar[0].at + reg, 4); }
static void set(u32 reg, u32 v) { bus_write(rig.mmio, e->f.bar[0].at + reg, 4, v); }
static struct descriptor *tx(u32 i) { return rig_at(TX_RING + i % N * 16, 16); }
static struct descriptor *rx(u32 i) { return rig_at(RX_RING + i % N * 16, 16); }
static u64 buffer(u32 i) { return BUFFERS + (u64)i * BUFFER; }
static bool line(void) { return rig.line[0] || rig.line[1] || rig.line[2] || rig.line[3]; }

static void card(void)
{
    e = e1000_new(&cable, rig.m, NULL, rig.pci, rig.state, 0, NULL);
    rig_start(&e->f);
}

static void setup(void)
{
    memset(&cable, 0, sizeof(cable));
    rig_open();
    memset(rig_at(0, RIG_MEMORY), 0, RIG_MEMORY);
    card();
    set(TDBAL, TX_RING), set(TDLEN, N * 16);
    set(RDBAL, RX_RING), set(RDLEN, N * 16);
    for (u32 i = 0; i < N; i++)
        rx(i)->buffer = buffer(i);
    set(TCTL, TCTL_EN);
    set(RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
    set(IMS, RXT0 | TXDW);
    rig_turns();
}

static void end(void)
{
    rig_close();
    e1000_free(e);
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u32 at;
static void send_one(u64 gpa, u32 lower, u32 upper)
{
    *tx(at++) = (struct descriptor){ gpa, lower, upper };
}
static void go(void)
{
    set(TDT, at % N);
    rig_turns();
}

/* A frame for us: IPv4 and TCP of n bytes of payload, or UDP; sums right, or those of the pseudo header left open. */
static u32 packet(u8 *p, u32 payload, bool v6, bool vlan, bool open)
{
    const u32 l3 = vlan ? 18 : 14, l4 = l3 + (v6 ? 40 : 20), len = l4 + 20 + payload;

    memset(p, 0, l4 + 20);
    memcpy(p, "\x52\x54\x00\x12\x34\x56\x52\x54\x00\x00\x00\x01", 12);
    if (vlan)
        put16(p + 12, 0x8100), put16(p + 14, 0x2005);
    put16(p + l3 - 2, v6 ? 0x86dd : 0x0800);
    if (v6) {
        p[l3] = 0x60, p[l3 + 6] = 6, p[l3 + 7] = 64, p[l3 + 8] = 0xfd, p[l3 + 24] = 0xfd, p[l3 + 39] = 1;
        put16(p + l3 + 4, open ? 0 : 20 + payload);
    } else {
        p[l3] = 0x45, p[l3 + 8] = 64, p[l3 + 9] = 6;
        put16(p + l3 + 2, open ? 0 : 40 + payload), put16(p + l3 + 4, 0x1234);
        memcpy(p + l3 + 12, "\x0a\0\2\x0f\x0a\0\2\2", 8);
    }
    put16(p + l4, 1000), put16(p + l4 + 2, 80), put32(p + l4 + 4, 0xfffffff0);
    p[l4 + 12] = 0x50, p[l4 + 13] = 0x19; /* ACK, PSH, FIN */
    for (u32 i = 0; i < payload; i++)
        p[l4 + 20 + i] = (u8)(i * 7 + i / 256);
    u16 sum = csum_fold(csum_pseudo(p + l3, v6, 6, open ? 0 : 20 + payload));
    memcpy(p + l4 + 16, &sum, 2);
    if (!open) {
        sum = (u16)~csum_fold(csum_add(0, p + l4, 20 + payload));
        memcpy(p + l4 + 16, &sum, 2);
        sum = (u16)~csum_fold(csum_add(0, p + l3, 20));
        if (!v6)
            memcpy(p + l3 + 10, &sum, 2);
    }
    return len;
}

TEST(power_on)
{
    setup();
    CHECK_EQ(get(STATUS), 0x283);
    CHECK_EQ(get(RA), 0x12005452);
    CHECK_EQ(get(RA + 4), 0x80005634);
    CHECK_EQ(get(VET), 0x8100);
    CHECK_EQ(get(0x1ffc0), 0);
    CHECK_EQ(e->f.config[0x3d], 1);
    CHECK_EQ(pci_get32(e->f.config), 0x100e8086);
    u16 sum = 0;
    for (u32 i = 0; i < 64; i++) {
        set(EERD, i << 8 | 1);
        CHECK_EQ(get(EERD) & 0x10, 0x10);
        sum = (u16)(sum + (get(EERD) >> 16));
    }
    CHECK_EQ(sum, 0xbaba);
    u64 io = e->f.bar[2].at; /* the window */
    bus_write(rig.ports, io, 4, RA);
    CHECK_EQ(bus_read(rig.ports, io + 4, 4), 0x12005452);
    bus_write(rig.ports, io, 4, FCAL);
    bus_write(rig.ports, io + 4, 4, 0x1234);
    CHECK_EQ(get(FCAL), 0x1234);
    cable.user->link(cable.card, false);
    CHECK_EQ(get(STATUS), 0x281);
    CHECK_EQ(get(ICR) & LSC, LSC);
    set(CTRL, CTRL_RST);
    CHECK_EQ(get(FCAL), 0);
    CHECK_EQ(get(RCTL), 0);
    CHECK_EQ(get(RA), 0x12005452);
    end();
}

/* EECD's lines: CS 2, SK 1, DI 4, DO 8. */
static void wire(u32 bits, u32 n)
{
    while (n--) {
        const u32 di = bits >> n & 1 ? 4 : 0;
        set(EECD, 0x42 | di), set(EECD, 0x43 | di);
    }
    set(EECD, 0x42);
}

static u32 wire_read(u32 address)
{
    u32 v = 0;

    set(EECD, 0x40), set(EECD, 0x42);
    wire(6, 3), wire(address, 6);
    CHECK_EQ(get(EECD) & 8, 0);
    for (u32 i = 0; i < 32; i++) {
        set(EECD, 0x43);
        v = v << 1 | (get(EECD) & 8 ? 1 : 0);
        set(EECD, 0x42);
    }
    return v;
}

TEST(microwire)
{
    setup();
    set(EECD, 0);
    CHECK_EQ(get(EECD) & 0x180, 0x100);
    set(EECD, 0x40);
    CHECK_EQ(get(EECD) & 0x180, 0x180);
    CHECK_EQ(wire_read(0), 0x54521200);
    CHECK_EQ(wire_read(1) >> 16, 0x1200);
    set(EECD, 0x40), set(EECD, 0x42);
    wire(5, 3), wire(20, 6), wire(0xbeef, 16); /* not enabled */
    CHECK_EQ(wire_read(20) >> 16, 0);
    set(EECD, 0x40), set(EECD, 0x42);
    wire(4, 3), wire(0x30, 6); /* EWEN */
    set(EECD, 0x40), set(EECD, 0x42);
    wire(5, 3), wire(20, 6), wire(0xbeef, 16);
    set(EECD, 0x40), set(EECD, 0x42);
    CHECK_EQ(get(EECD) & 8, 8);
    CHECK_EQ(wire_read(20) >> 16, 0xbeef);
    set(SWSM, 2); /* U-Boot reads nothing before it has this */
    CHECK_EQ(get(SWSM), 2);
    e1000_reset(e); /* of the machine: as it came */
    CHECK_EQ(get(SWSM), 0);
    CHECK_EQ(wire_read(20) >> 16, 0);
    end();
}

static u16 phy(u32 reg)
{
    set(MDIC, 2u << 26 | 1 << 21 | reg << 16);
    CHECK_EQ(get(MDIC) & 3u << 28, 1u << 28);
    return (u16)get(MDIC);
}

TEST(phy)
{
    setup();
    CHECK_EQ(phy(2), 0x0141);
    CHECK_EQ(phy(3) & 0xfff0, 0x0c20);
    CHECK_EQ(phy(1) & 0x24, 0x24);
    cable.user->link(cable.card, false);
    CHECK_EQ(phy(1) & 0x24, 0);
    set(MDIC, 2u << 26 | 2 << 21 | 2 << 16);
    CHECK_EQ(get(MDIC) >> 30 & 1, 1);
    get(ICR);
    set(MDIC, 1u << 26 | 1 << 21 | 4 << 16 | 0x1e1 | 1 << 29);
    CHECK_EQ(get(ICR), MDAC);
    CHECK_EQ(phy(4), 0x1e1);
    end();
}

TEST(sends)
{
    setup();
    at = 0;
    u8 *p = rig_at(0x40000, 2000);
    for (u32 i = 0; i < 100; i++)
        p[i] = (u8)i;
    send_one(0x40000, 40 | RS, 0); /* in three pieces; the last comes later */
    send_one(0x40028, DEXT | DATA | 0, 0);
    go();
    CHECK_EQ(cable.nsent, 0);
    send_one(0x40028, 60 | EOP | RS | IFCS, 0);
    go();
    CHECK_EQ(cable.nsent, 1);
    CHECK_EQ(cable.len, NET_HDR + 100);
    CHECK(!memcmp(cable.data + NET_HDR, p, 100));
    CHECK_EQ(tx(0)->upper & 1, 1);
    CHECK_EQ(tx(1)->upper & 1, 0);
    CHECK_EQ(tx(2)->upper & 1, 1);
    CHECK_EQ(get(TDH), 3);
    CHECK(line());
    CHECK_EQ(get(ICR), TXDW | TXQE);
    CHECK(!line());
    CHECK_EQ(get(GPTC), 1);
    CHECK_EQ(get(GPTC), 0);
    CHECK_EQ(get(GOTCL), 104);
    CHECK_EQ(get(GOTCH), 0);
    CHECK_EQ(get(GOTCL), 0);
    /* A legacy checksum, a tag, padding. */
    set(TCTL, TCTL_EN | TCTL_PSP);
    set(CTRL, get(CTRL) | CTRL_VME);
    memset(p + 14, 1, 8);
    p[16] = p[17] = 0;
    send_one(0x40000, 22 | EOP | IC | VLE | 16 << 16, 14 << 8 | 0x3007u << 16);
    go();
    CHECK_EQ(cable.len, NET_HDR + 60);
    CHECK_EQ(get32(cable.data + NET_HDR + 12), 0x81003007);
    CHECK_EQ(get16(cable.data + NET_HDR + 20), 0xffff - 0x0303);
    CHECK(!memcmp(cable.data + NET_HDR + 16, p + 12, 2));
    /* Not a frame: its descriptors are given back. */
    send_one(0x40000, 13 | EOP | RS, 0);
    send_one(UINT64_MAX - 20, 100 | EOP | RS, 0);
    for (u32 i = 0; i < 3; i++)
        send_one(0x40000, DEXT | DATA | 0xfffff | (i == 2 ? EOP | RS : 0), 0);
    go();
    CHECK_EQ(cable.nsent, 2);
    CHECK_EQ(get(TDH), at % N);
    end();
}

TEST(no_room_on_the_cable)
{
    setup();
    at = 0;
    cable.full = 3;
    for (u32 i = 0; i < 5; i++)
        send_one(0x40000, 60 | EOP | RS, 0);
    go();
    CHECK_EQ(cable.nsent, 2);
    CHECK_EQ(get(TDH), 2);
    cable.full = 0;
    go();
    CHECK_EQ(cable.nsent, 2); /* not before it says so */
    cable.user->room(cable.card);
    rig_turns();
    CHECK_EQ(cable.nsent, 5);
    end();
}

static void context(u32 ipcss, u32 tucss, u32 tucmd, u32 hdrlen, u32 mss)
{
    const bool v6 = !(tucmd & 2);
    send_one(ipcss | (u64)(ipcss + 10) << 8 | (u64)(v6 ? 0 : tucss - 1) << 16 | (u64)tucss << 32 | (u64)(tucss + 16) << 40,
             DEXT | tucmd << 24, hdrlen << 8 | mss << 16);
}

TEST(checksums)
{
    static u8 want[600];

    for (u32 v6 = 0; v6 < 2; v6++) {
        setup();
        at = 0;
        u32 len = packet(want, 500, v6, false, false);
        u8 *p = rig_at(0x40000, 2000);
        memcpy(p, want, len);
        const u32 l4 = v6 ? 54 : 34;
        u16 sum = csum_fold(csum_pseudo(p + 14, v6, 6, len - l4));
        memcpy(p + l4 + 16, &sum, 2);
        if (!v6)
            p[24] = p[25] = 0;
        context(14, l4, 1 | (v6 ? 0 : 2), 0, 0);
        send_one(0x40000, DEXT | DATA | len | EOP, v6 ? 2 << 8 : 3 << 8);
        go();
        CHECK_EQ(cable.len, NET_HDR + len);
        CHECK_EQ(cable.data[0], 0);
        CHECK(!memcmp(cable.data + NET_HDR, want, len));
        end();
    }
}

/* What a segmented send of it must come to: the cable's software cuts what it is given. */
TEST(segmentation)
{
    enum { PAYLOAD = 4000, MSS = 1460 };
    static u8 want[2000], loose[2000];

    for (u32 v6 = 0; v6 < 2; v6++)
        for (u32 tagged = 0; tagged < 2; tagged++) {
            setup();
            at = 0;
            u8 *p = rig_at(0x40000, 8000);
            const u32 len = packet(p, PAYLOAD, v6, false, true), l4 = v6 ? 54 : 34, hdr = l4 + 20;
            if (tagged)
                set(CTRL, get(CTRL) | CTRL_VME);
            context(14, l4, 5 | (v6 ? 0 : 2), hdr, MSS);
            send_one(0x40000, DEXT | DATA | TSE | hdr, v6 ? 2 << 8 : 3 << 8);
            send_one(0x40000 + hdr, DEXT | DATA | TSE | (len - hdr) | EOP | RS | (tagged ? VLE : 0), 5u << 16);
            go();
            CHECK_EQ(cable.nsent, 1);
            struct virtio_net_hdr_v1 h;
            struct frame f;
            memcpy(&h, cable.data, NET_HDR);
            CHECK_EQ(h.gso_type, v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
            REQUIRE(!frame_check(&f, &h, cable.data + NET_HDR, cable.len - NET_HDR));
            CHECK_EQ(frame_cuts(&f), 3);
            CHECK_EQ(get(GPTC), 3);
            CHECK_EQ(get(TSCTC), 1);
            /* The same by our own hand, which is taken where the frame is not as everybody makes them. */
            struct e1000_context *c = &e->context[1];
            c->tucse = (u16)(len - 1);
            cable.nsent = 0;
            cable.full = 3; /* the third waits: and does not come twice */
            e->reg[TDH / 4] = 1;
            go();
            set(TDT, at % N), rig_turns();
            CHECK_EQ(cable.nsent, 2);
            cable.full = 0;
            cable.user->room(cable.card);
            rig_turns();
            CHECK_EQ(cable.nsent, 3);
            u32 n = cable.len - NET_HDR;
            memcpy(loose, cable.data + NET_HDR, n);
            /* From the prototype, by frame_cut. */
            u8 whole[8000];
            u32 plen = packet(whole, PAYLOAD, v6, tagged, false);
            if (tagged)
                put16(whole + 14, 5);
            h = (struct virtio_net_hdr_v1){ .flags = 1, .gso_type = h.gso_type, .gso_size = MSS,
                                            .csum_start = (u16)(l4 + tagged * 4), .csum_offset = 16 };
            REQUIRE(!frame_check(&f, &h, whole, plen));
            CHECK_EQ(frame_cut(&f, whole, 2, want), n);
            CHECK(!memcmp(want, loose, n));
            end();
        }
}

/* A byte a frame: the loop is not held up by it, and all arrive. */
TEST(segmentation_without_end)
{
    setup();
    at = 0;
    u8 *p = rig_at(0x40000, 0x10000);
    const u32 len = packet(p, 30000, false, false, true), hdr = 54;
    context(14, 34, 7, hdr, 1);
    send_one(0x40000, DEXT | DATA | TSE | hdr, 3 << 8);
    send_one(0x40000 + hdr, DEXT | DATA | TSE | (len - hdr) | EOP | RS, 0);
    set(TDT, at);
    u32 turns = 0, before = 0;
    for (; get(TDH) != at && turns < 100; turns++) {
        fake_run_posts();
        CHECK(cable.nsent > before && cable.nsent - before <= 4096);
        before = cable.nsent;
    }
    CHECK(turns > 1);
    CHECK_EQ(cable.nsent, 30000);
    CHECK_EQ(get(TSCTC), 1);
    CHECK_EQ(cable.data[cable.len - 1], p[len - 1]);
    end();
}

static bool arrives(const char *to)
{
    const u32 head = get(RDH);

    memset(cable.packet, 0, NET_HDR + 100);
    memcpy(cable.packet + NET_HDR, to, 6);
    set(RDT, (head + N - 1) % N);
    CHECK(rig_arrive(100));
    return get(RDH) != head;
}
#define HOME "\x52\x54\x00\x12\x34\x56"
#define OTHER "\x52\x54\x00\x01\x02\x99"
#define GROUP "\x01\x00\x5e\x00\x00\x01"
#define BROADCAST "\xff\xff\xff\xff\xff\xff"

TEST(filters)
{
    setup();
    CHECK(arrives(HOME) && arrives(BROADCAST) && !arrives(OTHER) && !arrives(GROUP));
    set(RCTL, RCTL_EN);
    CHECK(!arrives(BROADCAST));
    set(RCTL, RCTL_EN | RCTL_UPE);
    CHECK(arrives(OTHER) && !arrives(GROUP));
    set(RCTL, RCTL_EN | RCTL_MPE);
    CHECK(!arrives(OTHER) && arrives(GROUP));
    set(RCTL, RCTL_EN);
    set(RA + 8, 0x01005452), set(RA + 12, 0x80009902);
    CHECK(arrives(OTHER));
    set(RA + 12, 0x00009902);
    CHECK(!arrives(OTHER));
    set(MTA + (0x010 >> 5) * 4, 1u << (0x010 & 31)); /* hash of GROUP with MO 0: bits 47-36 */
    CHECK(arrives(GROUP) && !arrives("\x01\x00\x5e\x00\x00\x02"));
    set(RCTL, RCTL_EN | 3 << RCTL_MO_SHIFT);
    CHECK(!arrives(GROUP));
    set(CTRL, get(CTRL) & ~(u32)CTRL_SLU);
    CHECK(!arrives(HOME));
    end();
}

TEST(receives)
{
    setup();
    set(RXCSUM, 3 << 8);
    set(RDT, N - 1);
    u32 len = packet(cable.packet + NET_HDR, 700, false, false, false);
    CHECK(rig_arrive(len));
    CHECK(!memcmp(rig_at(buffer(0), len), cable.packet + NET_HDR, len));
    CHECK_EQ(rx(0)->lower & 0xffff, len);
    CHECK_EQ(rx(0)->upper & 0xffff, 0x63); /* DD, EOP, TCPCS, IPCS */
    CHECK(line());
    CHECK_EQ(get(ICR) & RXT0, RXT0);
    CHECK(!line());
    cable.packet[NET_HDR + 100] ^= 1; /* wrong sums are told of */
    CHECK(rig_arrive(len));
    CHECK_EQ(rx(1)->upper & 0xffff, 0x2063);
    cable.packet[NET_HDR + 100] ^= 1, cable.packet[NET_HDR + 22] ^= 1;
    CHECK(rig_arrive(len));
    CHECK_EQ(rx(2)->upper & 0xffff, 0x4063);
    /* One whose sum is still open gets it; one known to be good is believed. */
    len = packet(cable.packet + NET_HDR, 700, true, false, false);
    static u8 want[2000];
    memcpy(want, cable.packet + NET_HDR, len);
    u16 sum = csum_fold(csum_pseudo(want + 14, true, 6, len - 54));
    memcpy(cable.packet + NET_HDR + 70, &sum, 2);
    struct virtio_net_hdr_v1 h = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 54, .csum_offset = 16 };
    memcpy(cable.packet, &h, NET_HDR);
    CHECK(rig_arrive(len));
    CHECK_EQ(rx(3)->upper & 0xffff, 0x23);
    CHECK(!memcmp(rig_at(buffer(3), len), want, len));
    memset(cable.packet, 0, NET_HDR);
    /* Tags: kept, then taken off. */
    len = packet(cable.packet + NET_HDR, 10, false, true, false);
    CHECK(rig_arrive(len));
    CHECK_EQ(rx(4)->lower & 0xffff, 68);
    CHECK_EQ(rx(4)->upper & 0xff, 0x63);
    set(CTRL, get(CTRL) | CTRL_VME);
    CHECK(rig_arrive(len));
    CHECK_EQ(rx(5)->lower & 0xffff, 64);
    CHECK_EQ(rx(5)->upper, 0x20050000 | 0x6b);
    CHECK_EQ(get16(rig_at(buffer(5) + 12, 2)), 0x0800);
    set(RCTL, get(RCTL) | RCTL_VFE);
    CHECK(rig_arrive(len));
    CHECK_EQ(get(RDH), 6);
    set(VFTA, 1 << 5);
    CHECK(rig_arrive(len));
    CHECK_EQ(get(RDH), 7);
    end();
}

TEST(many_descriptors_of_a_frame_and_none)
{
    setup();
    set(RCTL, RCTL_EN | RCTL_LPE | 3 << RCTL_BSIZE_SHIFT); /* 256 bytes; with CRC */
    for (u32 i = 0; i < 1000; i++)
        cable.packet[NET_HDR + i] = (u8)(i ^ i >> 3);
    memcpy(cable.packet + NET_HDR, HOME, 6);
    set(RDT, 3);
    CHECK(!rig_arrive(1000));
    CHECK_EQ(get(RDH), 0);
    set(RDT, 4); /* it comes again */
    rig_turns();
    CHECK_EQ(get(RDH), 4);
    for (u32 i = 0; i < 4; i++) {
        CHECK_EQ(rx(i)->lower & 0xffff, i < 3 ? 256 : 1004 - 768);
        CHECK_EQ(rx(i)->upper & 3, i < 3 ? 1 : 3);
        CHECK(!memcmp(rig_at(buffer(i), 232), cable.packet + NET_HDR + 256 * i, 232));
    }
    CHECK(rig_arrive(9000)); /* more than the ring will ever hold: lost */
    CHECK_EQ(get(MPC), 1);
    set(RCTL, RCTL_EN);
    CHECK(rig_arrive(1600));
    CHECK_EQ(get(ROC), 1);
    CHECK(!rig_arrive(100));
    set(RCTL, 0); /* what waits is for nobody */
    rig_turns();
    CHECK(!cable.waits);
    end();
}

TEST(moderation)
{
    setup();
    set(ITR, 4000); /* 1.024 ms */
    set(RDT, N - 1);
    memcpy(cable.packet + NET_HDR, HOME, 6);
    CHECK(rig_arrive(60));
    CHECK(line());
    get(ICR);
    CHECK(rig_arrive(60));
    CHECK(!line());
    fake_advance(1000000);
    CHECK(!line());
    fake_advance(30000);
    CHECK(line());
    CHECK_EQ(get(ICR) & RXT0, RXT0);
    set(ITR, 0);
    set(RDTR, 100), set(RADV, 150);
    for (u32 i = 0; i < 4; i++) { /* each puts it off, up to RADV */
        CHECK(!line());
        CHECK(rig_arrive(60));
        fake_advance(i < 3 ? 50000 : 3700);
    }
    CHECK(line());
    get(ICR);
    CHECK(rig_arrive(60));
    set(RDTR, DELAY_FPD | 100);
    CHECK(line());
    set(ICS, LSC);
    set(IMC, ~0u);
    CHECK(!line());
    end();
}

TEST(rings_that_are_none)
{
    setup();
    static const u32 odd[][3] = { { 0, 0, 1 }, { 0x7f, 0, 1 }, { 256, 16, 1 }, { 256, 0, 16 }, { 256, 0xffff, 0xffff } };
    for (u32 i = 0; i < ARRAY_SIZE(odd); i++) {
        set(TDLEN, odd[i][0]), set(TDH, odd[i][1]), set(TDT, odd[i][2]);
        set(RDLEN, odd[i][0]), set(RDH, odd[i][1]), set(RDT, odd[i][2]);
        memcpy(cable.packet + NET_HDR, HOME, 6);
        CHECK(rig_arrive(60));
        rig_turns();
        CHECK_EQ(cable.nsent, 0);
    }
    set(TDLEN, 0xfff80), set(TDH, 0), set(TDT, 0xf000), set(TDBAL, RIG_MEMORY - 64); /* out of memory */
    rig_turns();
    CHECK_EQ(get(TDH), 0xf000);
    end();
}

TEST(saved_in_the_middle)
{
    struct state_buf one = { 0 }, two = { 0 };

    setup();
    at = 0;
    set(ITR, 4000), set(RDT, N - 1), set(TIDV, 500);
    memcpy(cable.packet + NET_HDR, HOME, 6);
    CHECK(rig_arrive(60));
    get(ICR);
    CHECK(rig_arrive(60)); /* ITR holds the interrupt back */
    cable.full = 2;
    send_one(0x40000, 60 | EOP | RS, 0), send_one(0x40000, 70 | EOP | RS, 0);
    go();
    CHECK_EQ(cable.nsent, 1);
    CHECK_EQ(state_save(rig.state, &one, NULL), 0);
    rig_close();
    e1000_free(e);
    memset(&cable, 0, sizeof(cable));
    rig_open();
    card();
    CHECK_EQ(state_load(rig.state, one.data, one.len, NULL), 0);
    pci_remap(rig.pci);
    CHECK_EQ(state_save(rig.state, &two, NULL), 0);
    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));
    e1000_resume(e);
    rig_turns();
    CHECK_EQ(cable.nsent, 1);
    CHECK_EQ(cable.len, NET_HDR + 70);
    CHECK_EQ(get(TDH), 2);
    CHECK(!line());
    fake_advance(1024000);
    CHECK(line());
    end();
    state_buf_free(&one);
    state_buf_free(&two);
}
