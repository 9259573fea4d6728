/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_transport.c - the MMIO transport as VIRTIO 1.2, 4.2, describes it: every register read and written, resets that
 * take their time; and of both transports, states that must not be loaded.
 */
#include "transport_rig.h"

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
