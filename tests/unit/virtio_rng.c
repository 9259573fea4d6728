/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device (VIRTIO 1.2, 5.4). */
#include "virtio/virtio_rng.h"

#include "virtio_rig.h"

static struct virtio_rng *rng;

static void setup(void)
{
    rig_memory();
    rng = virtio_rng_new(drv.m, NULL, NULL);
    rig_start(virtio_rng_device(rng), 0);
}

static void end(void)
{
    virtio_rng_free(rng);
    rig_end();
}

TEST(fills_buffers)
{
    u32 len = 0;

    setup();
    CHECK_EQ(drv.d->ops->id, 4);
    u64 a = alloc(64), b = alloc(64);
    struct piece p[] = { { a, 64 }, { b, 30 } };
    u16 id = add(0, p, 0, 2);
    kick(0);
    CHECK_EQ(used(0, &len), id);
    CHECK_EQ(len, 94);
    CHECK(memcmp(at(a, 32), at(a + 32, 32), 32) != 0);
    CHECK(memcmp(at(a, 30), at(b, 30), 30) != 0);
    static const u8 zeroes[16];
    CHECK(memcmp(at(b, 16), zeroes, 16) != 0);
    CHECK(!memcmp(at(b + 30, 16), zeroes, 16)); /* and no byte more */
    CHECK_EQ(drv.interrupts[0], 1);
    end();
}

TEST(large_buffers_are_filled_in_part)
{
    u32 len = 0;

    setup();
    struct piece p = { alloc(0x100000), 0x100000 };
    for (int i = 0; i < 20; i++)
        add(0, &p, 0, 1);
    kick(0);
    for (int i = 0; i < 20; i++) {
        CHECK(used(0, &len) >= 0);
        CHECK(len >= 1 && len <= 0x10000);
    }
    CHECK_EQ(used(0, &len), -1);
    end();
}

TEST(a_buffer_to_read_gets_nothing)
{
    u32 len = 0;

    setup();
    struct piece p = { alloc(16), 16 };
    add(0, &p, 1, 0);
    kick(0);
    CHECK(used(0, &len) >= 0);
    CHECK_EQ(len, 0);
    end();
}
