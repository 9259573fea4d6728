/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_blk_stops.c - the block device when something ends: a full disk, errors, resets, a machine that is saved. */
#include "virtio_blk_rig.h"

TEST(a_full_disk_stops_the_machine)
{
    struct virtio_blk_config c = blk_config();
    u64 status[4], data;

    setup();
    end();
    c.werror = DISK_ERRORS_ENOSPC;
    setup_with(c, ALL);
    data = alloc(512);
    memset(at(data, 512), 0x5a, 512);
    for (int i = 0; i < 3; i++)
        request(0, T_OUT, (u64)i, data, 512, &status[i]);
    kick(0);
    finish(0, -ENOSPC);
    finish(0, -EIO); /* this one the guest is told of */
    loop_turns();
    CHECK_EQ(stops, 1);
    CHECK(strstr(why, "disk.img") && strstr(why, "full"));
    CHECK_EQ(byte(status[0]), UNTOUCHED);
    CHECK_EQ(byte(status[1]), IOERR);
    request(0, T_FLUSH, 0, 0, 0, &status[3]); /* nothing new begins */
    kick(0);
    CHECK_EQ(disk.n, 1);
    finish(0, -ENOSPC);
    loop_turns();
    CHECK_EQ(stops, 1);
    /* It cannot be saved now. */
    struct state_list *l = state_list_new();
    struct state_buf buf = { 0 };
    CHECK_EQ(state_add(l, drv.d->ops->state, 0, blk), 0);
    CHECK_EQ(state_save(l, &buf, NULL), -EBUSY);

    fake_advance(1000000000);
    CHECK_EQ(disk.n, 2); /* tried again, in order */
    CHECK_EQ(disk.rq[0]->offset, 0);
    CHECK_EQ(disk.rq[1]->offset, 1024);
    finish(0, -ENOSPC);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(goes, 0);
    CHECK_EQ(byte(status[2]), OK);
    fake_advance(1000000000);
    CHECK_EQ(disk.n, 1);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(goes, 1);
    CHECK_EQ(byte(status[0]), OK);
    CHECK_EQ(disk.data[0], 0x5a);
    CHECK_EQ(disk.n, 1); /* the flush follows */
    CHECK_EQ(disk.rq[0]->op, BLOCK_FLUSH);
    finish_all();
    CHECK_EQ(state_save(l, &buf, NULL), 0);
    state_buf_free(&buf);
    state_list_free(l);
    end();
}

TEST(stop_or_report)
{
    struct virtio_blk_config c = blk_config();
    u64 status, data;

    setup();
    end();
    c.rerror = DISK_ERRORS_STOP;
    setup_with(c, ALL);
    data = alloc(512);
    request(0, T_IN, 0, data, 512, &status);
    kick(0);
    finish(0, -EINVAL); /* trying again would not help */
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    request(0, T_OUT, 0, data, 512, &status);
    kick(0);
    finish(0, -ENOSPC); /* writes are reported here */
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    CHECK_EQ(stops, 0);
    request(1, T_IN, 0, data, 512, &status);
    kick(1);
    finish(0, -EIO);
    loop_turns();
    CHECK_EQ(stops, 1);
    set_status(0); /* a reset gives it up */
    CHECK_EQ(virtio_status(drv.d), 0);
    loop_turns();
    CHECK_EQ(goes, 1);
    CHECK_EQ(byte(status), UNTOUCHED);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(reset_waits_for_the_host)
{
    u64 status[3], data;

    setup();
    data = alloc(512);
    for (int i = 0; i < 3; i++)
        request(0, T_IN, 0, data, 512, &status[i]);
    kick(0);
    set_status(0);
    CHECK(virtio_status(drv.d) != 0);
    finish(1, 0);
    finish(1, -EIO);
    loop_turns();
    CHECK(virtio_status(drv.d) != 0);
    finish(0, 0);
    CHECK_EQ(virtio_status(drv.d), 0);
    loop_turns();
    CHECK_EQ(used_ring(0)[1], 0); /* nothing reached the rings */
    CHECK_EQ(byte(status[0]), UNTOUCHED);
    CHECK_EQ(drv.interrupts[0], 0);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(queue_reset_waits_for_its_own)
{
    u64 status[2], data;

    setup();
    data = alloc(512);
    request(0, T_IN, 0, data, 512, &status[0]);
    request(1, T_IN, 0, data, 512, &status[1]);
    kick(0);
    kick(1);
    CHECK_EQ(disk.n, 2);
    lock();
    virtio_queue_reset(&drv.d->queue[1]);
    unlock();
    CHECK(drv.d->queue[1].resetting);
    finish(0, 0);
    CHECK(drv.d->queue[1].resetting);
    finish(0, 0);
    CHECK(!drv.d->queue[1].resetting);
    loop_turns();
    CHECK_EQ(byte(status[0]), OK);
    CHECK_EQ(byte(status[1]), UNTOUCHED);
    enable_queue(1, 16);
    request(1, T_IN, 0, data, 512, &status[1]);
    kick(1);
    finish_all();
    CHECK_EQ(byte(status[1]), OK);
    end();
}

TEST(settle_leaves_nothing_under_way)
{
    struct virtio_blk_config c = blk_config();
    u64 status[6], data;

    setup();
    end();
    c.write_cache = false;
    setup_with(c, ALL);
    data = alloc(512);
    for (int i = 0; i < 6; i++)
        request(0, i & 1 ? T_OUT : T_IN, (u64)i, data, 512, &status[i]);
    kick(0);
    virtio_transport_settle(&drv.t);
    CHECK_EQ(disk.n, 0);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(byte(status[i]), OK);
    CHECK_EQ(drv.interrupts[0], 1);
    while (used(0, NULL) >= 0)
        ;
    virtio_transport_resume(&drv.t);
    loop_turns();
    CHECK_EQ(carry_out(T_IN, 0, data, 512), OK);
    end();
}
