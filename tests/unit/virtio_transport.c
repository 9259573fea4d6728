/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_transport.c - the registers of both transports as VIRTIO 1.2, 4.1 and 4.2, describe them: found as a driver
 * finds them, every register read and written, interrupts by INTx, MSI-X and the MMIO line, features and status, resets
 * that take their time, states that must not be loaded.
 */
#include "test.h"

#include <stdlib.h>

#include "fake_loop.h"
#include "virtio_driver.h"

enum { QUEUES = 3, CONFIG_SIZE = 10 };

/* ---- a device that does nothing but remember ------------------------------ */

struct dummy {
    struct virtio_device d;
    u8 config[CONFIG_SIZE];
    u64 features;
    u32 kicked, driver_oks, resumes, settles;
    bool slow; /* resets wait for finish() */
};

static struct dummy *dummy(struct virtio_device *d) { return container_of(d, struct dummy, d); }

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    CHECK(offset + len <= CONFIG_SIZE);
    memcpy(to, dummy(d)->config + offset, len);
}

static void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    CHECK(offset + len <= CONFIG_SIZE);
    memcpy(dummy(d)->config + offset, from, len);
}

static void features(struct virtio_device *d, u64 agreed) { dummy(d)->features = agreed; }
static void driver_ok(struct virtio_device *d) { dummy(d)->driver_oks++; }
static void kick(struct virtio_device *d, struct virtio_queue *q) { dummy(d)->kicked |= 1u << q->index; }
static bool reset(struct virtio_device *d) { return !dummy(d)->slow; }
static bool queue_reset(struct virtio_device *d, struct virtio_queue *q) { return !dummy(d)->slow; }
static void settle(struct virtio_device *d) { dummy(d)->settles++; }
static void resume(struct virtio_device *d) { dummy(d)->resumes++; }

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_NET, .name = "dummy", .config_size = CONFIG_SIZE, .config_read = config_read,
    .config_write = config_write, .features = features, .driver_ok = driver_ok, .kick = kick, .reset = reset,
    .queue_reset = queue_reset, .settle = settle, .resume = resume,
};

/* ---- the machine ---------------------------------------------------------- */

struct message {
    u64 address;
    u32 data;
};

struct world {
    struct memory *m;
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    struct dummy *x;
    struct virtio_transport *t;
    struct pci_function *f;
    u64 common, isr, device, notify; /* addresses */
    u32 notify_size;
    bool line;
    u32 edges;
    struct message message[64];
    u32 messages;
};

static void set_line(void *chip, u32 pin, bool level)
{
    struct world *w = chip;
    w->edges += level && !w->line;
    w->line = level;
}

static void on_msi(void *ctx, u64 address, u32 data)
{
    struct world *w = ctx;
    w->message[w->messages++ % 64] = (struct message){ address, data };
}

static void open_world(struct world *w, bool is_pci)
{
    static const u16 sizes[QUEUES] = { 64, 256, 1024 };
    struct pci_bus_config c = { .msi = on_msi, .ctx = w, .mmio32 = 0xc0000000, .mmio32_size = MiB(16),
                                .mmio64 = GiB(64), .mmio64_size = GiB(1) };
    struct error err = { "" };

    memset(w, 0, sizeof(*w));
    w->m = memory_new(NULL);
    CHECK_EQ(memory_add(w->m, "ram", 0, MiB(1), false, NULL), 0);
    c.ports = w->ports = bus_new(0x10000);
    c.mmio = w->mmio = bus_new(1ull << 46);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ set_line, w, i };
    w->state = state_list_new();
    w->x = calloc(1, sizeof(*w->x));
    for (u32 i = 0; i < CONFIG_SIZE; i++)
        w->x->config[i] = (u8)(0x10 + i);
    virtio_init(&w->x->d, &ops, w->m, NULL, BIT(5) | BIT(40 - 3), QUEUES, sizes);
    if (is_pci) {
        w->pci = pci_bus_new(&c, &err);
        CHECK_EQ(pci_bus_add_state(w->pci, w->state), 0);
        w->t = virtio_pci_new(&w->x->d, w->pci, 3, w->state, 0, &err);
        w->f = virtio_transport_pci(w->t);
        pci_assign(w->pci, (u8[4]){ 10, 11, 10, 11 });
    } else {
        w->t = virtio_mmio_new(&w->x->d, w->mmio, 0xd0000000, &c.intx[0], w->state, 0, &err);
        CHECK(!virtio_transport_pci(w->t));
    }
    CHECK_STR(err.text, "");
}

static void close_world(struct world *w)
{
    virtio_transport_free(w->t);
    CHECK(!w->line);
    virtio_destroy(&w->x->d);
    pci_bus_free(w->pci);
    free(w->x);
    state_list_free(w->state);
    bus_free(w->mmio);
    bus_free(w->ports);
    memory_free(w->m);
}

static void run(void)
{
    while (fake_run_posts())
        ;
}

/* ---- PCI ------------------------------------------------------------------ */

static u32 cfg(struct world *w, u32 reg, u32 len)
{
    bus_write(w->ports, 0xcf8, 4, 0x80000000u | 3 << 11 | (reg & 0xfc));
    return (u32)bus_read(w->ports, 0xcfc + (reg & 3), len);
}

static void cfg_set(struct world *w, u32 reg, u32 len, u32 v)
{
    bus_write(w->ports, 0xcf8, 4, 0x80000000u | 3 << 11 | (reg & 0xfc));
    bus_write(w->ports, 0xcfc + (reg & 3), len, v);
}

static u64 bar(struct world *w, u32 n)
{
    u32 low = cfg(w, 0x10 + 4 * n, 4);
    CHECK(!(low & 1));
    return (low & ~15u) | ((low & 6) == 4 ? (u64)cfg(w, 0x14 + 4 * n, 4) << 32 : 0);
}

static u32 find_cap(struct world *w, u32 id, u32 type)
{
    CHECK(cfg(w, 6, 2) & 0x10);
    for (u32 at = cfg(w, 0x34, 1), n = 0; at && n < 48; at = cfg(w, at + 1, 1), n++)
        if (cfg(w, at, 1) == id && (!type || cfg(w, at + 3, 1) == type))
            return at;
    return 0;
}

static u64 structure(struct world *w, u32 type, u32 *size)
{
    u32 at = find_cap(w, 9, type);
    CHECK(at != 0);
    CHECK(cfg(w, at + 2, 1) >= 16);
    *size = cfg(w, at + 12, 4);
    return bar(w, cfg(w, at + 4, 1)) + cfg(w, at + 8, 4);
}

static void find_device(struct world *w)
{
    u32 size, at;

    CHECK_EQ(cfg(w, 0, 4), 0x10411af4);
    CHECK(cfg(w, 8, 1) >= 1);         /* revision: no legacy driver takes it */
    CHECK_EQ(cfg(w, 0xa, 2), 0x0200); /* Ethernet */
    CHECK(cfg(w, 0x2e, 2) >= 0x40);
    w->common = structure(w, 1, &size);
    CHECK(size >= 56 && !(w->common & 3));
    w->notify = structure(w, 2, &w->notify_size);
    at = find_cap(w, 9, 2);
    CHECK_EQ(cfg(w, at + 16, 4), 4);
    CHECK(w->notify_size >= QUEUES * 4);
    w->isr = structure(w, 3, &size);
    CHECK(size >= 1);
    w->device = structure(w, 4, &size);
    CHECK(size >= CONFIG_SIZE && !(w->device & 3));
    cfg_set(w, 4, 2, 0x0406); /* memory, master, no INTx for now */
}

static u64 reg(struct world *w, u32 offset, u32 size) { return bus_read(w->mmio, w->common + offset, size); }
static void reg_set(struct world *w, u32 offset, u32 size, u64 v) { bus_write(w->mmio, w->common + offset, size, v); }

static void pci_negotiate(struct world *w, u64 f)
{
    reg_set(w, 20, 1, 0);
    CHECK_EQ(reg(w, 20, 1), 0);
    reg_set(w, 20, 1, 1);
    reg_set(w, 20, 1, 3);
    for (u32 i = 0; i < 2; i++) {
        reg_set(w, 8, 4, i);
        reg_set(w, 12, 4, (u32)(f >> i * 32));
        CHECK_EQ(reg(w, 12, 4), (u32)(f >> i * 32));
    }
    reg_set(w, 20, 1, 11);
}

static void pci_queue(struct world *w, u32 q, u32 size, u64 gpa)
{
    reg_set(w, 22, 2, q);
    reg_set(w, 24, 2, size);
    reg_set(w, 32, 8, gpa);
    reg_set(w, 40, 4, (u32)(gpa + 0x4000));
    reg_set(w, 44, 4, 0);
    reg_set(w, 48, 8, gpa + 0x5000);
    reg_set(w, 28, 2, 1);
}

TEST(pci_registers)
{
    static const u32 max[QUEUES + 1] = { 64, 256, 1024, 0 };
    unsigned waits = fake_waits;
    struct world w;

    open_world(&w, true);
    find_device(&w);
    reg_set(&w, 0, 4, 0);
    CHECK_EQ(reg(&w, 4, 4), 1 << 5 | 1 << 28 | 1 << 29);
    reg_set(&w, 0, 4, 1);
    CHECK_EQ(reg(&w, 4, 4), 1 << 0 | 1 << 2 | 1 << 5 | 1 << 8); /* VERSION_1, RING_PACKED, its own, RING_RESET */
    reg_set(&w, 0, 4, 2);
    CHECK_EQ(reg(&w, 4, 4), 0);
    CHECK_EQ(reg(&w, 18, 2), QUEUES);
    for (u32 q = 0; q <= QUEUES; q++) {
        reg_set(&w, 22, 2, q);
        CHECK_EQ(reg(&w, 22, 2), q);
        CHECK_EQ(reg(&w, 24, 2), max[q]);
        CHECK_EQ(reg(&w, 26, 2), 0xffff);
        CHECK_EQ(reg(&w, 28, 2), 0);
        CHECK(q == QUEUES || reg(&w, 30, 2) == q);
    }
    pci_negotiate(&w, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET | BIT(5));
    CHECK_EQ(reg(&w, 20, 1), 11);
    CHECK_EQ(w.x->features, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET | BIT(5));
    reg_set(&w, 12, 4, 0); /* too late */
    CHECK_EQ(w.x->d.agreed, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET | BIT(5));
    pci_queue(&w, 1, 128, 0x10000);
    CHECK_EQ(reg(&w, 28, 2), 1);
    CHECK_EQ(reg(&w, 24, 2), 128);
    CHECK_EQ(reg(&w, 32, 8), 0x10000);
    CHECK_EQ(reg(&w, 40, 8), 0x14000);
    CHECK_EQ(reg(&w, 52, 4), 0);
    reg_set(&w, 32, 8, 0x123450); /* enabled: stays */
    reg_set(&w, 24, 2, 2);
    reg_set(&w, 28, 2, 0);
    CHECK_EQ(reg(&w, 32, 8), 0x10000);
    CHECK_EQ(reg(&w, 24, 2), 128);
    CHECK_EQ(reg(&w, 28, 2), 1);
    run();
    CHECK_EQ(w.x->kicked, 0); /* not before DRIVER_OK */
    reg_set(&w, 20, 1, 15);
    CHECK_EQ(w.x->driver_oks, 1);
    run();
    CHECK_EQ(w.x->kicked, 1 << 1);
    w.x->kicked = 0;
    bus_write(w.mmio, w.notify + 4, 2, 1);
    bus_write(w.mmio, w.notify + 8, 2, 2); /* not enabled */
    bus_write(w.mmio, w.notify + w.notify_size, 2, 3);
    run();
    CHECK_EQ(w.x->kicked, 1 << 1);
    /* Not a bus master: the device keeps still. */
    w.x->kicked = 0;
    cfg_set(&w, 4, 2, 2);
    bus_write(w.mmio, w.notify + 4, 2, 1);
    run();
    CHECK_EQ(w.x->kicked, 0);
    cfg_set(&w, 4, 2, 6);
    run();
    CHECK_EQ(w.x->kicked, 1 << 1);
    /* One queue anew, and a device that takes its time. */
    reg_set(&w, 22, 2, 1);
    w.x->slow = true;
    reg_set(&w, 58, 2, 1);
    CHECK_EQ(reg(&w, 58, 2), 1);
    CHECK_EQ(reg(&w, 28, 2), 1);
    reg_set(&w, 28, 2, 1);
    w.x->kicked = 0;
    bus_write(w.mmio, w.notify + 4, 2, 1);
    run();
    CHECK_EQ(w.x->kicked, 0);
    virtio_queue_reset_done(&w.x->d.queue[1]);
    CHECK_EQ(reg(&w, 58, 2), 0);
    CHECK_EQ(reg(&w, 28, 2), 0);
    CHECK_EQ(reg(&w, 24, 2), 256);
    pci_queue(&w, 1, 64, 0x20000);
    CHECK_EQ(reg(&w, 28, 2), 1);
    reg_set(&w, 20, 1, 0);
    CHECK(reg(&w, 20, 1) != 0);
    reg_set(&w, 20, 1, 1); /* not heard */
    virtio_reset_done(&w.x->d);
    CHECK_EQ(reg(&w, 20, 1), 0);
    CHECK_EQ(reg(&w, 22, 2), 0);
    CHECK_EQ(fake_waits, waits); /* a PCI driver polls */
    close_world(&w);
}

TEST(odd_accesses)
{
    struct world w;

    open_world(&w, true);
    find_device(&w);
    pci_negotiate(&w, VIRTIO_F_VERSION_1);
    for (u32 size = 1; size <= 8; size *= 2) {
        for (u32 at = 0; at < 0x4000; at++) { /* all of the BAR, at all places */
            bus_read(w.mmio, w.common + at, size);
            if (at != 20)
                bus_write(w.mmio, w.common + at, size, 0x0101010101010101ull * (at & 0xff));
        }
    }
    CHECK_EQ(bus_read(w.mmio, w.common + 60, 8), 0);
    /* The configuration: any width, and nothing behind it. */
    for (u32 i = 0; i < CONFIG_SIZE; i++)
        bus_write(w.mmio, w.device + i, 1, 0x20 + i);
    CHECK_EQ(bus_read(w.mmio, w.device + 1, 2), 0x2221);
    CHECK_EQ(bus_read(w.mmio, w.device + 8, 4), 0x2928);
    bus_write(w.mmio, w.device + 8, 4, 0xffffffff);
    CHECK_EQ(bus_read(w.mmio, w.device + 8, 8), 0xffff);
    CHECK_EQ(bus_read(w.mmio, w.device + 0xffc, 4), 0);
    close_world(&w);
}

/* 4.1.4.9: the same registers through configuration space, for who has no memory BARs. */
TEST(pci_cfg_window)
{
    struct world w;
    u32 at, common;

    open_world(&w, true);
    find_device(&w);
    at = find_cap(&w, 9, 5);
    common = find_cap(&w, 9, 1);
    CHECK(at != 0);
    cfg_set(&w, at + 4, 1, cfg(&w, common + 4, 1));
    cfg_set(&w, at + 12, 4, 1);
    cfg_set(&w, at + 8, 4, 20);
    cfg_set(&w, at + 16, 4, 3);
    CHECK_EQ(cfg(&w, at + 16, 4), 3);
    CHECK_EQ(reg(&w, 20, 1), 3);
    cfg_set(&w, at + 12, 4, 2);
    cfg_set(&w, at + 8, 4, 18);
    CHECK_EQ(cfg(&w, at + 16, 4), QUEUES);
    for (u32 i = 0; i < 64; i++) { /* what it may not look at */
        cfg_set(&w, at + 4, 1, i % 8);
        cfg_set(&w, at + 12, 4, i / 8);
        cfg_set(&w, at + 8, 4, i & 1 ? 0xfffffffe : 0x4000);
        cfg_set(&w, at + 16, 4, 0x55);
        cfg(&w, at + 16, 4);
    }
    close_world(&w);
}

/* A split queue 1 in which one buffer was used. */
static void use_one(struct world *w)
{
    struct iovec iov[2];
    struct virtio_chain c = { .iov = iov, .max = 2 };
    struct virtio_queue *q = &w->x->d.queue[1];
    u8 *ram = w->m->region[0].host;
    u16 n = (u16)(*(u16 *)(ram + 0x14002) + 1);

    *(u64 *)(ram + 0x10000) = 0x90000;
    *(u32 *)(ram + 0x10008) = 16;
    *(u16 *)(ram + 0x1000c) = 2;
    *(u16 *)(ram + 0x14002) = n;
    CHECK_EQ(virtio_pop(q, &c), 1);
    virtio_push(q, &c, 1);
    virtio_notify(q);
}

TEST(pci_interrupts)
{
    struct world w;
    u32 msix, messages;
    u64 table;

    open_world(&w, true);
    find_device(&w);
    cfg_set(&w, 4, 2, 6);
    pci_negotiate(&w, VIRTIO_F_VERSION_1);
    pci_queue(&w, 1, 64, 0x10000);
    virtio_config_changed(&w.x->d); /* no notifications before DRIVER_OK */
    CHECK(!w.line);
    reg_set(&w, 20, 1, 15);
    /* INTx */
    use_one(&w);
    CHECK(w.line);
    CHECK(cfg(&w, 6, 2) & 8);
    CHECK_EQ(bus_read(w.mmio, w.isr, 1), 1);
    CHECK(!w.line);
    CHECK_EQ(bus_read(w.mmio, w.isr, 1), 0);
    u32 g = (u32)reg(&w, 21, 1);
    virtio_config_changed(&w.x->d);
    use_one(&w);
    CHECK_EQ(w.edges, 2);
    bus_read(w.mmio, w.device, 1);
    CHECK(reg(&w, 21, 1) != g);
    g = (u32)reg(&w, 21, 1);
    bus_read(w.mmio, w.device, 1);
    CHECK_EQ(reg(&w, 21, 1), g);
    CHECK_EQ(bus_read(w.mmio, w.isr, 1), 3);
    /* MSI-X: a vector a queue, and one for the configuration */
    msix = find_cap(&w, 0x11, 0);
    CHECK(msix != 0);
    CHECK_EQ(cfg(&w, msix + 2, 2) & 0x7ff, QUEUES);
    table = bar(&w, cfg(&w, msix + 4, 4) & 7) + (cfg(&w, msix + 4, 4) & ~7u);
    for (u32 i = 0; i <= QUEUES; i++) {
        bus_write(w.mmio, table + 16 * i, 4, 0xfee00000);
        bus_write(w.mmio, table + 16 * i + 8, 4, 0x40 + i);
        bus_write(w.mmio, table + 16 * i + 12, 4, 0);
    }
    cfg_set(&w, msix + 2, 2, 0x8000);
    reg_set(&w, 22, 2, 1);
    use_one(&w); /* no vector: no interrupt */
    CHECK_EQ(w.messages, 0);
    reg_set(&w, 26, 2, QUEUES + 1);
    CHECK_EQ(reg(&w, 26, 2), 0xffff);
    reg_set(&w, 26, 2, 2);
    reg_set(&w, 16, 2, 3);
    CHECK_EQ(reg(&w, 26, 2), 2);
    use_one(&w);
    CHECK_EQ(w.messages, 1);
    CHECK_EQ(w.message[0].data, 0x42);
    virtio_config_changed(&w.x->d);
    CHECK_EQ(w.messages, 2);
    CHECK_EQ(w.message[1].data, 0x43);
    CHECK(!w.line);
    virtio_notify(&w.x->d.queue[1]); /* nothing new */
    CHECK_EQ(w.messages, 2);
    *(u16 *)(w.m->region[0].host + 0x14000) = 1; /* VIRTQ_AVAIL_F_NO_INTERRUPT */
    use_one(&w);
    CHECK_EQ(w.messages, 2);
    messages = w.messages;
    virtio_fail(&w.x->d, "the test says so");
    CHECK_EQ(w.messages, messages + 1);
    CHECK_EQ(reg(&w, 20, 1), 15 | 64);
    reg_set(&w, 20, 1, 0);
    CHECK_EQ(reg(&w, 16, 2), 0xffff);
    CHECK_EQ(bus_read(w.mmio, w.isr, 1), 0);
    close_world(&w);
}

/* ---- MMIO ----------------------------------------------------------------- */

static struct drv drv_of(struct world *w)
{
    return (struct drv){ .m = w->m, .bus = w->mmio, .base = 0xd0000000 };
}

TEST(mmio_registers)
{
    unsigned waits = fake_waits;
    struct world w;
    static struct drv v;

    open_world(&w, false);
    v = drv_of(&w);
    CHECK_EQ(drv_reg(&v, 0), 0x74726976);
    CHECK_EQ(drv_reg(&v, 4), 2);
    CHECK_EQ(drv_reg(&v, 8), VIRTIO_ID_NET);
    CHECK_EQ(drv_offered(&v), w.x->d.offered);
    for (u64 r = 0xb0; r < 0xc0; r += 4)
        CHECK_EQ(drv_reg(&v, r), UINT32_MAX); /* no shared memory */
    CHECK(!drv_negotiate(&v, VIRTIO_F_VERSION_1 | BIT(6)));  /* not offered */
    CHECK(!drv_negotiate(&v, BIT(5)));                       /* a legacy driver */
    CHECK_EQ(drv_reg(&v, 0x70), 3);
    drv_ok(&v);
    CHECK_EQ(drv_reg(&v, 0x70), 3 | 64);
    CHECK_EQ(w.x->driver_oks, 0);
    CHECK(drv_negotiate(&v, VIRTIO_F_VERSION_1));
    for (u32 q = 0; q <= QUEUES; q++) {
        drv_set(&v, 0x30, q);
        CHECK_EQ(drv_reg(&v, 0x34), q == QUEUES ? 0 : 64u << 2 * q);
        drv_set(&v, 0x44, 2);
        CHECK_EQ(drv_reg(&v, 0x44), 0);
    }
    drv_queue(&v, 1, 32, 0x10000);
    CHECK_EQ(drv_reg(&v, 0x44), 1);
    drv_ok(&v);
    drv_set(&v, 0x70, 1); /* bits stay */
    CHECK_EQ(drv_reg(&v, 0x70), 15);
    run();
    w.x->kicked = 0;
    bus_write(w.mmio, v.base + 0x50, 2, 1);
    bus_write(w.mmio, v.base + 0x51, 4, 1);
    drv_set(&v, 0x50, QUEUES);
    drv_set(&v, 0x50, UINT32_MAX);
    run();
    CHECK_EQ(w.x->kicked, 0);
    drv_set(&v, 0x50, 1);
    run();
    CHECK_EQ(w.x->kicked, 2);
    CHECK_EQ(bus_read(w.mmio, v.base + 0x100, 1), 0x10);
    CHECK_EQ(bus_read(w.mmio, v.base + 0x102, 2), 0x1312);
    CHECK_EQ(bus_read(w.mmio, v.base + 0x108, 4), 0x1918);
    CHECK_EQ(bus_read(w.mmio, v.base + 0x1fc, 4), 0);
    u32 g = drv_reg(&v, 0xfc);
    virtio_config_changed(&w.x->d);
    bus_read(w.mmio, v.base + 0x100, 1);
    CHECK(drv_reg(&v, 0xfc) != g);
    CHECK(w.line);
    CHECK_EQ(drv_reg(&v, 0x60), 2);
    drv_set(&v, 0x64, 1);
    CHECK(w.line);
    drv_set(&v, 0x64, 2);
    CHECK(!w.line);
    for (u32 size = 1; size <= 8; size *= 2)
        for (u32 at = 0; at < VIRTIO_MMIO_SIZE; at++) {
            bus_read(w.mmio, v.base + at, size);
            bus_write(w.mmio, v.base + at, size, 0x0102030405060708ull << at % 7);
        }
    CHECK_EQ(fake_waits, waits);
    close_world(&w);
}

/* The write of 0 waits; and so does QueueReady. Here nobody can finish it meanwhile: as if the machine was paused. */
TEST(mmio_resets_wait)
{
    struct world w;
    static struct drv v;

    open_world(&w, false);
    v = drv_of(&w);
    for (u32 round = 0; round < 4; round++) {
        CHECK(drv_negotiate(&v, VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET));
        drv_queue(&v, 0, 32, 0x10000);
        drv_queue(&v, 1, 32, 0x20000);
        drv_ok(&v);
        w.x->slow = true;
        unsigned waits = fake_waits, settles = w.x->settles;
        if (round == 0) {
            drv_set(&v, 0x44, 0);
            CHECK_EQ(fake_waits, waits + 1);
            CHECK_EQ(drv_reg(&v, 0x44), 1);
        } else {
            drv_set(&v, 0x70, 0);
            CHECK_EQ(fake_waits, waits + 1);
            CHECK(drv_reg(&v, 0x70) != 0);
        }
        CHECK(!w.x->d.quiet);
        if (round == 3) {
            virtio_transport_reset(w.t);
        } else {
            virtio_transport_settle(w.t);
            virtio_transport_resume(w.t);
        }
        CHECK_EQ(w.x->settles, settles + 1);
        CHECK(w.x->d.quiet);
        CHECK_EQ(drv_reg(&v, 0x70), round ? 0 : 15);
        for (u32 q = 0; q < 2; q++) { /* queue 1 alone was reset in the first round */
            drv_set(&v, 0x30, q);
            CHECK_EQ(drv_reg(&v, 0x44), !round && !q);
        }
        w.x->slow = false;
    }
    close_world(&w);
}

/* ---- state ---------------------------------------------------------------- */

TEST(states)
{
    struct world w, to;
    struct state_buf b = { 0 };
    struct error err = { "" };
    static struct drv v;

    for (u32 round = 0; round < 2; round++) {
        open_world(&w, round);
        open_world(&to, round);
        v = drv_of(&w);
        if (round) {
            find_device(&w);
            cfg_set(&w, 4, 2, 6);
            pci_negotiate(&w, VIRTIO_F_VERSION_1 | BIT(5));
            pci_queue(&w, 1, 64, 0x10000);
            reg_set(&w, 26, 2, 2);
            reg_set(&w, 20, 1, 15);
        } else {
            CHECK(drv_negotiate(&v, VIRTIO_F_VERSION_1 | BIT(5)));
            drv_queue(&v, 1, 64, 0x10000);
            drv_ok(&v);
            v.driver = 0x14000; /* use_one() */
            DRV_AT(&v, u16, 0x10400 + 2) = 0;
        }
        virtio_config_changed(&w.x->d);
        CHECK(w.line);
        virtio_transport_settle(w.t);
        CHECK_EQ(state_save(w.state, &b, &err), 0);
        CHECK_EQ(state_load(to.state, b.data, b.len, &err), 0);
        CHECK_STR(err.text, "");
        CHECK_EQ(to.x->features, 0);
        run();
        CHECK_EQ(to.x->kicked, 0);
        virtio_transport_resume(to.t);
        CHECK_EQ(to.x->resumes, 1);
        CHECK_EQ(to.x->features, VIRTIO_F_VERSION_1 | BIT(5));
        CHECK(to.line);
        run();
        CHECK_EQ(to.x->kicked, 2);
        CHECK_EQ(to.x->d.queue[1].vector, round ? 2 : VIRTIO_MSI_NO_VECTOR);
        CHECK(to.x->d.queue[1].desc_ptr == to.m->region[0].host + 0x10000);
        state_buf_free(&b);
        close_world(&w);
        close_world(&to);
    }
}

/* Each of these is damage done to the object that is then saved: loading must say no, or be harmless. */
TEST(hostile_states)
{
    for (u32 i = 0; i < 16; i++) {
        struct world w, to;
        struct state_buf b = { 0 };
        struct error err = { "" };
        static struct drv v;
        bool accepted = false;

        open_world(&w, false);
        open_world(&to, false);
        v = drv_of(&w);
        CHECK(drv_negotiate(&v, VIRTIO_F_VERSION_1 | (i & 1 ? VIRTIO_F_RING_PACKED : 0)));
        drv_queue(&v, 1, 64, 0x10000);
        drv_ok(&v);
        struct virtio_queue *q = &w.x->d.queue[1];
        virtio_transport_settle(w.t);
        switch (i / 2) {
        case 0: q->desc = MiB(1) - 16; break;
        case 1: q->size = 2048; break;
        case 2: q->inflight = 65; break;
        case 3: w.x->d.agreed |= BIT(11); break;
        case 4: w.x->d.agreed = 0; break;
        case 5: w.x->d.status = VIRTIO_DRIVER_OK; break;
        case 6: q->last_avail = 64, accepted = !(i & 1); break;
        case 7: w.x->d.queue[31] = *q, w.x->d.isr = 0xffff, accepted = true; break;
        }
        CHECK_EQ(state_save(w.state, &b, &err), 0);
        int rc = state_load(to.state, b.data, b.len, &err);
        if (!rc != accepted || !err.text[0] != accepted)
            test_fail(__FILE__, __LINE__, "case %u: %s", i, err.text);
        virtio_transport_resume(to.t);
        drv_set(&v, 0x50, 1);
        run();
        CHECK_EQ(to.x->kicked, accepted ? 2 : 0);
        state_buf_free(&b);
        w.x->d.status = 0;
        w.x->d.agreed = 0;
        close_world(&w);
        close_world(&to);
    }
}
