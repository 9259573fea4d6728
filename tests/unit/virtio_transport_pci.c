/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_transport_pci.c - the registers of the PCI transport as VIRTIO 1.2, 4.1, describes them: every one read and
 * written, accesses of odd sizes, the window in configuration space, interrupts by INTx and MSI-X.
 */
#include "transport_rig.h"

/* The queues, before anything is agreed on. */
static void check_untouched_queues(struct world *w)
{
    static const u32 max[QUEUES + 1] = { 64, 256, 1024, 0 };

    CHECK_EQ(reg(w, 18, 2), QUEUES);
    for (u32 q = 0; q <= QUEUES; q++) {
        reg_set(w, 22, 2, q);
        CHECK_EQ(reg(w, 22, 2), q);
        CHECK_EQ(reg(w, 24, 2), max[q]);
        CHECK_EQ(reg(w, 26, 2), 0xffff);
        CHECK_EQ(reg(w, 28, 2), 0);
        CHECK(q == QUEUES || reg(w, 30, 2) == q);
    }
}

/* One queue anew, then all of it, of a device that takes its time. */
static void check_slow_resets(struct world *w)
{
    reg_set(w, 22, 2, 1);
    w->x->slow = true;
    reg_set(w, 58, 2, 1);
    CHECK_EQ(reg(w, 58, 2), 1);
    CHECK_EQ(reg(w, 28, 2), 1);
    reg_set(w, 28, 2, 1);
    w->x->kicked = 0;
    bus_write(w->mmio, w->notify + 4, 2, 1);
    run();
    CHECK_EQ(w->x->kicked, 0);
    virtio_queue_reset_done(&w->x->d.queue[1]);
    CHECK_EQ(reg(w, 58, 2), 0);
    CHECK_EQ(reg(w, 28, 2), 0);
    CHECK_EQ(reg(w, 24, 2), 256);
    pci_queue(w, 1, 64, 0x20000);
    CHECK_EQ(reg(w, 28, 2), 1);
    reg_set(w, 20, 1, 0);
    CHECK(reg(w, 20, 1) != 0);
    reg_set(w, 20, 1, 1); /* not heard */
    virtio_reset_done(&w->x->d);
    CHECK_EQ(reg(w, 20, 1), 0);
    CHECK_EQ(reg(w, 22, 2), 0);
}

TEST(pci_registers)
{
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
    check_untouched_queues(&w);
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
    check_slow_resets(&w);
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
