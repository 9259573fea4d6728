/* SPDX-License-Identifier: Apache-2.0 */
/* The input device (VIRTIO 1.2, 5.8): whole groups or none. */
#include "virtio/virtio_input.h"

#include <linux/input.h>

#include "virtio_rig.h"

enum { EVENTQ, STATUSQ };
struct event { u16 type, code; s32 value; };

static struct virtio_input *input;
static u64 event_gpa[64];

void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev) {}

static void setup(void)
{
    rig_memory();
    input = virtio_input_new(VIRTIO_INPUT_KEYBOARD, drv.m, NULL, NULL, NULL);
    rig_start(virtio_input_device(input), 0);
    loop_turns();
}

static void end(void)
{
    virtio_input_free(input);
    rig_end();
}

static void give(u32 n)
{
    for (u32 i = 0; i < n; i++) {
        struct piece p = { alloc(8), 8 };
        event_gpa[add(EVENTQ, &p, 0, 1)] = p.gpa;
    }
    kick(EVENTQ);
}

static bool next(struct event *e)
{
    u32 len;
    const int id = used(EVENTQ, &len);
    if (id < 0)
        return false;
    CHECK_EQ(len, 8);
    memcpy(e, at(event_gpa[id], 8), 8);
    return true;
}

static void key(u16 code, u32 n)
{
    for (u32 i = 0; i < n; i++)
        virtio_input_event(input, EV_KEY, code, 1);
    virtio_input_event(input, EV_SYN, SYN_REPORT, 0);
}

TEST(a_group_comes_whole)
{
    struct event e;
    setup();
    give(2);
    key(KEY_A, 2);
    CHECK(!next(&e));
    give(1);
    CHECK(next(&e) && e.type == EV_KEY && e.code == KEY_A);
    CHECK(next(&e) && next(&e) && e.type == EV_SYN);
    CHECK(!next(&e));
    virtio_input_event(input, EV_ABS, ABS_X, 5); /* no keyboard has that */
    key(KEY_B, 0);
    CHECK(!next(&e));
    end();
}

TEST(what_no_ring_can_hold_does_not_stop_the_rest)
{
    struct event e;
    setup();
    give(60);
    key(KEY_A, 64);
    key(KEY_B, 1);
    CHECK(next(&e) && e.code == KEY_B);
    CHECK(next(&e) && !next(&e));
    for (u32 i = 0; i < 1000; i++) /* a group without an end */
        virtio_input_event(input, EV_KEY, KEY_C, 1);
    key(KEY_D, 1);
    key(KEY_E, 1);
    bool seen = false;
    while (next(&e))
        seen |= e.code == KEY_E;
    CHECK(seen);
    end();
}

TEST(the_newest_is_kept_when_nobody_reads)
{
    struct event e;
    setup();
    for (u32 i = 0; i < 1000; i++)
        key((u16)(KEY_A + i % 8), 1);
    give(64);
    u32 n = 0;
    while (next(&e))
        n++;
    CHECK_EQ(n, 64);
    set_status(0);
    loop_turns();
    rig_start(drv.d, 0);
    give(4);
    CHECK(!next(&e)); /* of the driver before */
    end();
}

TEST(configuration_says_what_it_is)
{
    setup();
    set_config(0, 1, 1);
    CHECK_EQ(config(2, 1), 14);
    CHECK_EQ(config(8, 4), 'L' | 'o' << 8 | 'd' << 16 | (u32)'g' << 24);
    for (u32 select = 0; select < 256; select++)
        for (u32 sub = 0; sub < 32; sub++) {
            set_config(0, 1, select);
            set_config(1, 1, sub);
            CHECK(config(2, 1) <= 128);
            (void)config(132, 4);
        }
    end();
}
