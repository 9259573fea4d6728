/* SPDX-License-Identifier: Apache-2.0 */
/* The USB controller and the tablet on it: UHCI design guide 1.1, USB 2.0 chapters 8 and 9, HID 1.11. */
#include "card_rig.h"
#include "devices/uhci.h"

enum { FRAMES = 0x1000, QH = 0x2000, TDS = 0x3000, DATA = 0x8000 };
enum { CMD = 0, STS = 2, INTR = 4, NUM = 6, BASE = 8, SOF = 12, PORT1 = 16 };
enum { ACTIVE = 1 << 23, IOC = 1 << 24, SPD = 1 << 29, STALLED = 1 << 22, NAK = 1 << 19, TIMEOUT = 1 << 18, CERR = 27 };
enum { T = 1, Q = 2, VF = 4, SETUP = 0x2d, IN = 0x69, OUT = 0xe1 };

struct td {
    u32 link, control, token, buffer;
};

static struct uhci u;

/* What it is plugged into. */
static const struct chardev_user *source;
void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev) { source = user; }
void input_plug(struct input *in, struct input_sink *s) {}
void input_unplug(struct input *in, struct input_sink *s) {}

static u32 get(u32 r) { return (u32)bus_read(rig.ports, u.f.bar[4].at + r, 2); }
static void set(u32 r, u32 v) { bus_write(rig.ports, u.f.bar[4].at + r, 2, v); }
static struct td *td(u32 i) { return rig_at(TDS + i * 16, 16); }
static u32 *qh(u32 i) { return rig_at(QH + i * 16, 16); }
static u8 *data(u32 at) { return rig_at(DATA + at, 256); }

static void setup(void)
{
    rig_open();
    memset(rig_at(0, RIG_MEMORY), 0, RIG_MEMORY);
    CHECK_EQ(uhci_init(&u, rig.m, NULL, NULL, (struct chardev *)&rig, rig.pci, 1, 2, rig.state, NULL), 0);
    rig_start(&u.f);
    for (u32 i = 0; i < 1024; i++)
        *(u32 *)rig_at(FRAMES + 4 * i, 4) = QH | Q;
    qh(0)[0] = T, qh(0)[1] = T;
    bus_write(rig.ports, u.f.bar[4].at + BASE, 4, FRAMES);
}

static void end(void)
{
    rig_close();
    uhci_destroy(&u);
    CHECK_EQ(fake_advance(1000000000), 0);
}

static void port_up(void)
{
    set(PORT1, 0x202), set(PORT1, 0x200), set(PORT1, 0), set(PORT1, 4);
    set(INTR, 15);
    set(CMD, 1);
}

static void put(u32 i, u32 address, u32 pid, u32 endpoint, u32 len, u32 at, u32 more)
{
    *td(i) = (struct td){ (TDS + (i + 1) * 16) | VF, ACTIVE | 3u << CERR | more,
                          (len - 1) << 21 | endpoint << 15 | address << 8 | pid, DATA + at };
}

/* One control transfer, data at DATA; returns the bytes that came, or -1 if it stalled. */
static int control(u32 address, u64 request, u32 len)
{
    u32 n = 1;
    int got = 0;

    memcpy(data(1024), &request, 8);
    put(0, address, SETUP, 0, 8, 1024, 0);
    for (u32 at = 0; at < len; at += 8, n++)
        put(n, address, request & 0x80 ? IN : OUT, 0, MIN(8u, len - at), at, request & 0x80 ? SPD : 0);
    put(n, address, request & 0x80 && len ? OUT : IN, 0, 0x800, 0, IOC);
    td(n)->link = T;
    qh(0)[1] = TDS;
    for (u32 i = 0; i < 400 && !(qh(0)[1] & T); i++) {
        fake_advance(1000000);
        if (get(STS) & 1 && td((qh(0)[1] - TDS) / 16)->control & SPD) /* short: on to the status stage */
            qh(0)[1] = TDS + n * 16, set(STS, 1);
        if (qh(0)[1] & T || td((qh(0)[1] & ~7u) - TDS >= 0x1000 ? 0 : (qh(0)[1] - TDS) / 16)->control & STALLED)
            break;
    }
    const bool ok = qh(0)[1] & T;
    for (u32 i = 1; i < n; i++)
        if (!(td(i)->control & ACTIVE))
            got += (int)((td(i)->control + 1) & 0x7ff);
    qh(0)[1] = T;
    set(STS, 0x1f);
    return ok ? got : -1;
}

#define REQUEST(type, request, value, index, length) \
    ((u64)(type) | (request) << 8 | (u64)(value) << 16 | (u64)(index) << 32 | (u64)(length) << 48)

static void configure(void)
{
    CHECK_EQ(control(0, REQUEST(0, 5, 7, 0, 0), 0), 0); /* address 7 */
    CHECK_EQ(control(7, REQUEST(0, 9, 1, 0, 0), 0), 0);
}

TEST(registers)
{
    setup();
    CHECK_EQ(pci_get32(u.f.config), 0x70208086);
    CHECK_EQ(u.f.config[0x3d], 4);
    CHECK_EQ(get(STS), 0x20);
    CHECK_EQ(get(PORT1), 0x93);
    CHECK_EQ(get(PORT1 + 2), 0x80);
    CHECK_EQ(get(PORT1 + 4), 0);
    CHECK_EQ(get(SOF) & 0xff, 64);
    set(PORT1 + 2, 4); /* nobody is there */
    CHECK_EQ(get(PORT1 + 2), 0x80);
    set(PORT1, 0x1004);
    CHECK_EQ(get(PORT1), 0x1097);
    set(NUM, 0x7ff);
    set(CMD, 1);
    CHECK_EQ(get(STS), 0);
    fake_advance(2500000);
    CHECK_EQ(get(NUM), 1);
    set(CMD, 0);
    fake_advance(1000000);
    CHECK_EQ(get(NUM), 1);
    set(CMD, 2);
    CHECK_EQ(get(NUM), 0);
    CHECK_EQ(get(PORT1), 0x93);
    set(CMD, 1);
    bus_write(rig.ports, 0xcfc, 2, 1); /* no bus master any more */
    fake_advance(3000000);
    CHECK_EQ(get(STS), 0x28);
    end();
}

TEST(enumeration)
{
    setup();
    port_up();
    CHECK_EQ(get(PORT1), 0x95);
    CHECK_EQ(control(0, REQUEST(0x80, 6, 0x100, 0, 64), 64), 18);
    CHECK_EQ(data(0)[0], 18);
    CHECK_EQ(data(0)[7], 8);
    configure();
    CHECK_EQ(control(7, REQUEST(0x80, 6, 0x200, 0, 9), 9), 9);
    CHECK_EQ(control(7, REQUEST(0x80, 6, 0x200, 0, 34), 34), 34);
    CHECK_EQ(data(0)[25], control(7, REQUEST(0x81, 6, 0x2200, 0, 200), 200));
    CHECK_EQ(control(7, REQUEST(0x80, 6, 0x302, 0x409, 255), 255), 34);
    CHECK_EQ(data(0)[2], 'L');
    CHECK_EQ(control(7, REQUEST(0x80, 6, 0x304, 0x409, 255), 255), -1);
    CHECK_EQ(control(7, REQUEST(0x80, 6, 0x600, 0, 10), 10), -1);
    CHECK_EQ(control(7, REQUEST(0x80, 8, 0, 0, 1), 1), 1);
    CHECK_EQ(data(0)[0], 1);
    CHECK_EQ(control(7, REQUEST(0, 3, 1, 0, 0), 0), 0); /* remote wakeup */
    CHECK_EQ(control(7, REQUEST(0x80, 0, 0, 0, 2), 2), 2);
    CHECK_EQ(data(0)[0], 2);
    CHECK_EQ(control(7, REQUEST(2, 3, 0, 0x81, 0), 0), 0); /* endpoint 1 halts */
    CHECK_EQ(control(7, REQUEST(0x82, 0, 0, 0x81, 2), 2), 2);
    CHECK_EQ(data(0)[0], 1);
    CHECK_EQ(control(7, REQUEST(2, 3, 0, 0x82, 0), 0), -1);
    CHECK_EQ(control(7, REQUEST(0x21, 10, 0x0500, 0, 0), 0), 0);
    CHECK_EQ(control(7, REQUEST(0xa1, 2, 0, 0, 1), 1), 1);
    CHECK_EQ(data(0)[0], 5);
    CHECK_EQ(control(7, REQUEST(0x21, 9, 0x0200, 0, 8), 8), -1); /* SET_REPORT */
    CHECK_EQ(control(7, REQUEST(0x21, 9, 0x0200, 0, 2000), 0), -1);
    end();
}

TEST(nobody_answers)
{
    setup();
    port_up();
    put(0, 5, IN, 1, 8, 0, IOC);
    td(0)->link = T;
    qh(0)[1] = TDS;
    fake_advance(2500000);
    CHECK_EQ(td(0)->control & (ACTIVE | 3u << CERR), ACTIVE | 1u << CERR);
    CHECK_EQ(get(STS), 0);
    fake_advance(1000000);
    CHECK_EQ(td(0)->control & (ACTIVE | STALLED | TIMEOUT | 3u << CERR), STALLED | TIMEOUT);
    CHECK_EQ(get(STS), 3);
    CHECK(rig.line[0]);
    set(STS, 3);
    CHECK(!rig.line[0]);
    end();
}

TEST(reports)
{
    static const u8 want[][6] = { { 0, 100, 0, 200, 0, 0 }, { 1, 100, 0, 200, 0, 0 }, { 0, 0xff, 0x7f, 1, 0, 0 },
                                  { 0, 0xff, 0x7f, 1, 0, 0xfd } };
    setup();
    port_up();
    uhci_event(&u, 1, 2, 0, 1); /* nobody has set it up */
    configure();
    put(0, 7, IN, 1, 8, 0, IOC | SPD);
    td(0)->link = T;
    qh(0)[1] = TDS;
    fake_advance(50000000);
    CHECK_EQ(td(0)->control & (ACTIVE | NAK), ACTIVE | NAK);
    uhci_event(&u, 5, 5, 0, 0);
    uhci_event(&u, 100, 200, 0, 0); /* only the last of mere movements */
    uhci_event(&u, 100, 200, 0, 1);
    uhci_event(&u, 40000, 1, 0, 0);
    uhci_event(&u, 40000, 1, 0, 0);
    uhci_event(&u, 40000, 1, -2, 0);
    static const u8 events[] = { 2, 0, 8, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0 };
    CHECK_EQ(source->receive(&u, events, 3), 3);
    u.source.x = 40000, u.source.y = 1;
    CHECK_EQ(source->receive(&u, events + 3, 13), 13);
    /* The wheel's notches: the first has a report of its own, after a movement it is told with the next. */
    for (u32 i = 0; i < 3; i++) {
        fake_advance(1000000);
        CHECK_EQ(td(0)->control & (ACTIVE | 0x7ff), 5);
        CHECK_EQ(get(STS), 1);
        CHECK(rig.line[0]);
        set(STS, 1);
        if (i < 2)
            CHECK(!memcmp(data(0), want[i], 6));
        put(0, 7, IN, 1, 8, 0, IOC | SPD);
        td(0)->link = T;
        qh(0)[1] = TDS;
    }
    end();
}

/* A timer that fires often costs the host; one that fires seldom costs the guest time. */
TEST(an_idle_bus_is_looked_at_seldom)
{
    setup();
    port_up();
    configure();
    put(0, 7, IN, 1, 8, 0, IOC);
    td(0)->link = T;
    qh(0)[1] = TDS;
    fake_advance(2000000000);
    const u32 before = get(NUM);
    CHECK(fake_advance(1024000000) < 40);
    CHECK_EQ(get(NUM), (before + 1024) & 0x7ff);
    uhci_event(&u, 9, 9, 0, 0);
    fake_advance(1000000);
    CHECK_EQ(td(0)->control & ACTIVE, 0);
    set(CMD, 0);
    CHECK_EQ(fake_advance(1000000000), 0);
    end();
}

TEST(schedules_that_are_none)
{
    setup();
    port_up();
    qh(0)[0] = QH | Q, qh(0)[1] = QH | Q; /* a circle */
    fake_advance(100000000);
    CHECK_EQ(get(STS), 0);
    put(0, 3, IN, 0, 8, 0, 0);
    td(0)->link = TDS;
    *(u32 *)rig_at(FRAMES + 4 * ((get(NUM) + 40) & 1023), 4) = TDS; /* a TD that follows itself */
    fake_advance(100000000);
    CHECK_EQ(get(STS) & 0x18, 0);
    qh(0)[0] = T;
    set(STS, 2);
    put(0, 3, IN, 0, 1, 0, 0);
    td(0)->token |= 0x7feu << 21; /* more than a packet holds */
    qh(0)[1] = TDS;
    fake_advance(100000000);
    CHECK_EQ(get(STS), 0x30);
    set(STS, 0x10);
    qh(0)[0] = 0xfffffff0 | Q, qh(0)[1] = T;
    set(CMD, 1);
    fake_advance(100000000);
    CHECK_EQ(get(STS), 0x30);
    end();
}

TEST(wakes_up)
{
    setup();
    port_up();
    configure();
    CHECK_EQ(control(7, REQUEST(0, 3, 1, 0, 0), 0), 0);
    set(PORT1, 0x1004);
    set(CMD, 8); /* stopped, suspended */
    uhci_event(&u, 50, 60, 0, 0);
    CHECK_EQ(get(STS), 0x24);
    CHECK_EQ(get(PORT1) & 0x40, 0x40);
    CHECK(rig.line[0]);
    end();
}

TEST(saved_in_the_middle)
{
    struct state_buf one = { 0 }, two = { 0 };

    setup();
    port_up();
    configure();
    uhci_event(&u, 77, 88, 0, 2);
    const u64 request = REQUEST(0x80, 6, 0x100, 0, 18);
    memcpy(data(1024), &request, 8);
    put(0, 7, SETUP, 0, 8, 1024, 0);
    put(1, 7, IN, 0, 8, 0, 0);
    td(1)->link = T;
    qh(0)[1] = TDS;
    fake_advance(2000000);
    CHECK_EQ(state_save(rig.state, &one, NULL), 0);
    rig_close();
    uhci_destroy(&u);
    rig_open();
    CHECK_EQ(uhci_init(&u, rig.m, NULL, NULL, (struct chardev *)&rig, rig.pci, 1, 2, rig.state, NULL), 0);
    CHECK_EQ(state_load(rig.state, one.data, one.len, NULL), 0);
    CHECK_EQ(state_save(rig.state, &two, NULL), 0);
    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));
    put(0, 7, IN, 0, 8, 0, 0);
    put(1, 7, IN, 1, 8, 16, 0);
    td(1)->link = T;
    qh(0)[1] = TDS;
    fake_advance(3000000);
    CHECK_EQ(pci_get16(data(0)), 0x0627); /* bytes 8 on of the descriptor */
    CHECK(!memcmp(data(16), "\2\x4d\0\x58\0\0", 6));
    end();
    state_buf_free(&one);
    state_buf_free(&two);
}
