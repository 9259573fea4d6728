/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon (VIRTIO 1.2, 5.5): what it takes is gone, what is not the guest's to give stays. */
#include "virtio/virtio_balloon.h"

#include "virtio_rig.h"

enum { INFLATE, DEFLATE, STATS, REPORTING, ROM = 0x2000000 };

static struct virtio_balloon *balloon;

static void setup(void)
{
    rig_memory();
    CHECK_EQ(memory_add(drv.m, "rom", ROM, 0x10000, true, NULL), 0);
    memset(drv.m->region[1].host, 0x5a, 0x10000);
    balloon = virtio_balloon_new(drv.m, NULL, MiB(1), NULL);
    rig_start(virtio_balloon_device(balloon), ~VIRTIO_F_RING_PACKED);
    loop_turns();
}

static void end(void)
{
    virtio_balloon_free(balloon);
    rig_end();
}

static void pages(u32 q, const u32 *pfn, u32 n)
{
    struct piece p = { alloc(4 * n), 4 * n };
    memcpy(at(p.gpa, p.len), pfn, p.len);
    add(q, &p, 1, 0);
    kick(q);
    CHECK(used(q, NULL) >= 0);
}

TEST(pages_are_given_up)
{
    setup();
    CHECK_EQ(config(0, 4), 256);
    u8 *ram = at(0x800000, 0x10000);
    memset(ram, 0xaa, 0x10000);
    const u32 pfn[] = { 0x801, 0x802, 0x803, 0x806, 0x805, 0x806 };
    pages(INFLATE, pfn, ARRAY_SIZE(pfn));
    for (u32 i = 0; i < 16; i++) {
        const bool gone = (i >= 1 && i <= 3) || i == 5 || i == 6;
        CHECK_EQ(ram[i * 4096], gone ? 0 : 0xaa);
        CHECK_EQ(ram[i * 4096 + 4095], gone ? 0 : 0xaa);
    }
    pages(DEFLATE, (u32[]){ 0x800 }, 1);
    CHECK_EQ(ram[0], 0xaa);
    end();
}

TEST(pages_that_are_not_ram)
{
    setup();
    u8 *ram = at(0, 4096), *last = at(MEMORY_SIZE - 4096, 4096);
    *ram = *last = 0xaa;
    const u32 pfn[] = { ~0u, ~0u - 1, 0x1000, 0x1001, ROM >> 12, 0xfffff, 0x100000, 0x80000000, ~0u, 0 };
    pages(INFLATE, pfn, ARRAY_SIZE(pfn) - 1);
    CHECK_EQ(*ram, 0xaa);
    CHECK_EQ(*last, 0xaa);
    CHECK_EQ(drv.m->region[1].host[0], 0x5a);
    memory_discard(drv.m, ~0ull - 100, 50);
    memory_discard(drv.m, ~0ull - 8191, 8191);
    memory_discard(drv.m, 100, ~0ull);
    CHECK_EQ(*ram, 0xaa);
    memory_discard(drv.m, 1, 8190); /* no whole page */
    CHECK_EQ(*ram, 0xaa);
    /* half a number, and a buffer of nothing but places to write */
    struct piece p = { alloc(7), 7 };
    add(INFLATE, &p, 1, 0);
    add(INFLATE, &p, 0, 1);
    kick(INFLATE);
    CHECK(used(INFLATE, NULL) >= 0);
    CHECK(used(INFLATE, NULL) >= 0);
    CHECK(!(virtio_status(drv.d) & VIRTIO_NEEDS_RESET));
    end();
}

TEST(a_huge_buffer_takes_a_turn_no_more)
{
    setup();
    struct piece p = { 0x400000, 0x800000 }; /* two million numbers, all 0 */
    for (u32 i = 0; i < 100; i++)
        add(INFLATE, &p, 1, 0);
    kick(INFLATE);
    for (u32 i = 0; i < 100; i++)
        CHECK(used(INFLATE, NULL) >= 0);
    end();
}

TEST(free_pages_are_reported)
{
    setup();
    u8 *ram = at(0x800000, 0x4000);
    memset(ram, 0xaa, 0x4000);
    struct piece p[] = { { 0x800000, 0x1000 }, { 0x802000, 0x2000 } };
    add(REPORTING, p, 0, 2);
    kick(REPORTING);
    CHECK(used(REPORTING, NULL) >= 0);
    CHECK_EQ(ram[0], 0);
    CHECK_EQ(ram[0x1000], 0xaa);
    CHECK_EQ(ram[0x3fff], 0);
    CHECK_EQ(virtio_balloon_figures(balloon).reported, 0x3000);
    end();
}

TEST(figures_survive_settling_and_resets)
{
    setup();
    const struct { u16 tag; u64 value; } __attribute__((packed)) stat[] = { { BALLOON_MEMFREE, 12345 }, { 999, 1 } };
    struct piece p = { alloc(sizeof stat), sizeof stat };
    memcpy(at(p.gpa, p.len), stat, p.len);
    add(STATS, &p, 1, 0);
    kick(STATS);
    CHECK_EQ(virtio_balloon_figures(balloon).stat[BALLOON_MEMFREE], 12345);
    CHECK_EQ(used(STATS, NULL), -1);
    virtio_transport_settle(&drv.t);
    CHECK_EQ(drv.d->queue[STATS].inflight, 0);
    fake_advance(5000000000);
    virtio_transport_resume(&drv.t);
    loop_turns();
    CHECK_EQ(used(STATS, NULL), -1);
    fake_advance(1000000001);
    CHECK(used(STATS, NULL) >= 0);
    add(STATS, &p, 1, 0);
    kick(STATS);
    set_status(0);
    fake_advance(5000000000);
    loop_turns();
    CHECK_EQ(virtio_status(drv.d), 0);
    end();
}
