/* SPDX-License-Identifier: Apache-2.0 */
/* The console (VIRTIO 1.2, 5.3) between a driver on the bench and chardevs that take as much as the test says. */
#include "virtio/virtio_console.h"

#include "virtio_rig.h"

enum { MULTIPORT = 2, CONTROL_RX = 2, CONTROL_TX = 3, ALL = 1 << 20 };
enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN };

struct chardev {
    const struct chardev_user *user;
    void *dev;
    u8 out[4096];
    size_t n, room;
    u32 resumed;
};
static struct chardev port[2];
static struct virtio_console *console;

void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev)
{
    c->user = user;
    c->dev = dev;
}

size_t chardev_write(struct chardev *c, const u8 *buf, size_t len)
{
    const size_t n = MIN(MIN(len, c->room), sizeof c->out - c->n);
    memcpy(c->out + c->n, buf, n);
    c->n += n;
    c->room -= n;
    return n;
}

void chardev_resume(struct chardev *c) { c->resumed++; }

static void setup(u64 features)
{
    rig_memory();
    memset(port, 0, sizeof port);
    port[0].room = port[1].room = ALL;
    struct virtio_console_config c = { .memory = drv.m, .nports = 2, .port = { &port[0], &port[1] } };
    console = virtio_console_new(&c, NULL);
    rig_start(virtio_console_device(console), features);
    loop_turns();
}

static void end(void)
{
    virtio_console_free(console);
    rig_end();
}

static void write_port(u32 q, const char *text)
{
    struct piece p[2] = { { alloc(64), 3 }, { alloc(64), (u32)strlen(text) - 3 } };
    memcpy(at(p[0].gpa, 3), text, 3);
    memcpy(at(p[1].gpa, p[1].len), text + 3, p[1].len);
    add(q, p, 2, 0);
    kick(q);
}

static void control(u32 id, u16 event, u16 value)
{
    struct piece p = { alloc(8), 8 };
    const struct { u32 id; u16 event, value; } m = { id, event, value };
    memcpy(at(p.gpa, 8), &m, 8);
    add(CONTROL_TX, &p, 1, 0);
    kick(CONTROL_TX);
}

static size_t type(u32 i, const char *text)
{
    return port[i].user->receive(port[i].dev, (const u8 *)text, strlen(text));
}

TEST(output_waits_for_room)
{
    setup(0);
    port[0].room = 4;
    write_port(1, "hello world");
    write_port(1, "and more");
    CHECK_EQ(port[0].n, 4);
    CHECK_EQ(used(1, NULL), -1);
    virtio_transport_settle(&drv.t); /* in the middle */
    virtio_transport_resume(&drv.t);
    loop_turns();
    CHECK_EQ(port[0].n, 4);
    port[0].room = ALL;
    port[0].user->writable(port[0].dev);
    CHECK_EQ(port[0].n, 19);
    CHECK(!memcmp(port[0].out, "hello worldand more", 19));
    CHECK(used(1, NULL) >= 0);
    CHECK(used(1, NULL) >= 0);
    /* a queue that begins anew begins with the first byte */
    port[0].room = 5;
    write_port(1, "given up on");
    lock();
    virtio_queue_reset(&drv.d->queue[1]);
    unlock();
    enable_queue(1, 128);
    port[0].n = 0;
    port[0].room = ALL;
    write_port(1, "fresh");
    CHECK_EQ(port[0].n, 5);
    CHECK(!memcmp(port[0].out, "fresh", 5));
    end();
}

TEST(ports_are_announced_opened_and_closed)
{
    setup(MULTIPORT);
    struct piece p[16];
    for (u32 i = 0; i < ARRAY_SIZE(p); i++) {
        p[i] = (struct piece){ alloc(8), 8 };
        add(CONTROL_RX, &p[i], 0, 1);
    }
    control(0, DEVICE_READY, 1);
    CHECK(used(CONTROL_RX, NULL) >= 0);
    CHECK(used(CONTROL_RX, NULL) >= 0);
    CHECK_EQ(used(CONTROL_RX, NULL), -1);
    control(1, PORT_READY, 1);
    CHECK(used(CONTROL_RX, NULL) >= 0);
    CHECK(used(CONTROL_RX, NULL) >= 0);
    const u16 *m = at(p[3].gpa, 8);
    CHECK_EQ(m[0], 1);
    CHECK_EQ(m[2], PORT_OPEN);
    struct piece rx = { alloc(64), 64 };
    add(4, &rx, 0, 1);
    kick(4);
    CHECK_EQ(type(1, "closed"), 0);
    control(1, PORT_OPEN, 1);
    CHECK(port[1].resumed > 0);
    CHECK_EQ(type(1, "open"), 4);
    u32 len = 0;
    CHECK(used(4, &len) >= 0);
    CHECK_EQ(len, 4);
    CHECK(!memcmp(at(rx.gpa, 4), "open", 4));
    control(1, PORT_OPEN, 0);
    add(4, &rx, 0, 1);
    kick(4);
    CHECK_EQ(type(1, "closed"), 0);
    /* ports that are not there, endless questions nobody listens to */
    control(2, PORT_READY, 1);
    control(~0u, PORT_OPEN, 1);
    for (u32 i = 0; i < 200; i++) {
        control(0, DEVICE_READY, 1);
        while (used(CONTROL_TX, NULL) >= 0)
            ;
    }
    CHECK(!(virtio_status(drv.d) & VIRTIO_NEEDS_RESET));
    end();
}

TEST(input_into_buffers_of_no_room_ends)
{
    setup(0);
    struct piece p = { alloc(16), 16 };
    for (u32 i = 0; i < 128; i++)
        add(0, &p, 1, 0);
    kick(0);
    CHECK_EQ(type(0, "text"), 0);
    loop_turns();
    add(0, &p, 0, 1);
    kick(0);
    CHECK_EQ(type(0, "text"), 4);
    end();
}
