/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_blk.c - the block device (VIRTIO 1.2, 5.2): what it says of itself, and each kind of request. */
#include "virtio_blk_rig.h"

TEST(configuration)
{
    setup();
    CHECK_EQ(drv.d->ops->id, 2);
    CHECK_EQ(config(0, 4), DISK / 512);
    CHECK_EQ(config(8, 4), MiB(1));
    CHECK_EQ(config(12, 4), 254);
    CHECK_EQ(config(16, 2), DISK / 512 / 16 / 63);
    CHECK_EQ(config(18, 1), 16);
    CHECK_EQ(config(19, 1), 63);
    CHECK_EQ(config(20, 4), 512);
    CHECK_EQ(config(24, 1), 3);
    CHECK_EQ(config(34, 2), 2);
    CHECK(config(36, 4) > 0 && config(40, 4) > 1 && config(44, 4) == 8);
    CHECK_EQ(config(56, 1), 1);
    disk.size = 2 * DISK;
    virtio_blk_resized(blk);
    CHECK_EQ(drv.config_interrupts, 1);
    CHECK_EQ(config(0, 4), 2 * DISK / 512);
    end();
    struct virtio_blk_config c = blk_config();
    struct error err;
    c.queues = 9;
    CHECK(!virtio_blk_new(&c, &err));
    c = blk_config();
    c.serial = "more than twenty bytes";
    CHECK(!virtio_blk_new(&c, &err));
}

TEST(any_framing)
{
    u32 len = 0;

    setup();
    for (u32 split = 1; split < 16; split += 3) {
        u64 h = header(T_OUT, split), data = alloc(2048), status = status_byte();
        memset(at(data, 1536), (int)(0x40 + split), 1536);
        struct piece w[] = { { h, split }, { h + split, 16 - split }, { data, 100 }, { data + 100, 1436 }, { status, 1 } };
        u16 id = add(0, w, 4, 1);
        kick(0);
        finish_all();
        CHECK_EQ(used(0, &len), id);
        CHECK_EQ(byte(status), OK);
        CHECK_EQ(len, 1);
        CHECK_EQ(disk.data[split * 512], 0x40 + split);
        CHECK_EQ(disk.data[split * 512 + 1535], 0x40 + split);
        CHECK(disk.data[split * 512 + 1536] != 0x40 + split);

        /* Read: the status at the end of a piece with data, or alone. */
        u64 r = alloc(4096);
        struct piece in[] = { { header(T_IN, split), 16 }, { r, split * 10 }, { r + split * 10, 1537 - split * 10 } };
        *(u8 *)at(r + 1536, 1) = UNTOUCHED;
        id = add(1, in, 1, 2);
        kick(1);
        finish_all();
        CHECK_EQ(used(1, &len), id);
        CHECK_EQ(len, 1537);
        CHECK_EQ(byte(r + 1536), OK);
        CHECK(!memcmp(at(r, 1536), disk.data + split * 512, 1536));
        CHECK_EQ(byte(r + 1537), 0);
    }
    /* Header and data in one piece. */
    u64 one = alloc(1024), status = status_byte();
    memcpy(at(one, 16), at(header(T_OUT, 100), 16), 16);
    memset(at(one + 16, 512), 0xaa, 512);
    struct piece p[] = { { one, 528 }, { status, 1 } };
    add(0, p, 1, 1);
    kick(0);
    finish_all();
    CHECK_EQ(byte(status), OK);
    CHECK_EQ(disk.data[100 * 512 + 511], 0xaa);
    end();
}

TEST(many_at_once_in_any_order)
{
    enum { N = 40 };
    u64 status[N], data = alloc(0);
    u16 id[N];

    setup();
    data = alloc(N * 512);
    for (u32 i = 0; i < N; i++)
        id[i] = request(0, T_IN, i * 3, data + i * 512, 512, &status[i]);
    kick(0);
    CHECK_EQ(disk.n, N);
    CHECK_EQ(disk.kicks, 1); /* one for all */
    CHECK_EQ(drv.interrupts[0], 0);
    finish(7, 0);
    finish(30, -EIO);
    finish(0, 0);
    CHECK_EQ(drv.interrupts[0], 0);
    loop_turns();
    CHECK_EQ(drv.interrupts[0], 1); /* and one for these three */
    CHECK_EQ(used(0, NULL), id[7]);
    CHECK_EQ(used(0, NULL), id[31]);
    CHECK_EQ(used(0, NULL), id[0]);
    CHECK_EQ(used(0, NULL), -1);
    CHECK_EQ(byte(status[31]), IOERR);
    CHECK_EQ(byte(status[1]), UNTOUCHED);
    finish_all();
    for (u32 i = 0; i < N; i++)
        CHECK_EQ(byte(status[i]), i == 31 ? IOERR : OK);
    CHECK(!memcmp(at(data + 39 * 512, 512), disk.data + 39 * 3 * 512, 512));
    end();
}

TEST(what_is_refused)
{
    setup();
    u64 data = alloc(4096);
    CHECK_EQ(carry_out(T_IN, DISK / 512, data, 512), IOERR);
    CHECK_EQ(carry_out(T_IN, DISK / 512 - 1, data, 1024), IOERR);
    CHECK_EQ(carry_out(T_IN, DISK / 512 - 1, data, 512), OK);
    CHECK_EQ(carry_out(T_OUT, ~0ull, data, 512), IOERR);
    CHECK_EQ(carry_out(T_OUT, 1ull << 55, data, 512), IOERR);
    CHECK_EQ(carry_out(T_OUT, 0, data, 511), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 513), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 0), OK);
    CHECK_EQ(carry_out(2, 0, data, 512), UNSUPP);
    CHECK_EQ(carry_out(~0u, 0, data, 512), UNSUPP);
    CHECK_EQ(disk.ops[BLOCK_READ] + disk.ops[BLOCK_WRITE], 1);
    CHECK_EQ(carry_out(T_GET_ID, 0, data, 20), OK);
    CHECK(!memcmp(at(data, 20), "lodge-1\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
    CHECK_EQ(carry_out(T_GET_ID, 0, data, 5), OK);
    end();

    disk.readonly = true;
    setup_with(blk_config(), ALL);
    CHECK(drv.d->offered & BIT(5));
    CHECK(!(drv.d->offered & (F_DISCARD | F_WRITE_ZEROES)));
    data = alloc(512);
    CHECK_EQ(carry_out(T_OUT, 0, data, 512), IOERR);
    CHECK_EQ(carry_out(T_IN, 0, data, 512), OK);
    CHECK_EQ(carry_out(T_FLUSH, 0, 0, 0), OK);
    end();
}

/* A driver that names one piece of memory in many requests does not make the host hold as many copies of it. */
TEST(not_too_much_at_once)
{
    enum { N = 80 };
    u64 status[N];

    setup();
    u64 data = alloc(MiB(1));
    for (u32 i = 0; i < N; i++)
        request(0, T_IN, 0, data, MiB(1), &status[i]);
    kick(0);
    CHECK_EQ(disk.n, 64);
    while (disk.n)
        finish_all();
    for (u32 i = 0; i < N; i++)
        CHECK_EQ(byte(status[i]), OK);

    struct piece p[256] = { { header(T_IN, 0), 16 } };
    for (u32 i = 1; i < 255; i++)
        p[i] = (struct piece){ data, (u32)MiB(1) + (i == 1 ? 512 : 0) };
    p[255] = (struct piece){ status[0] = status_byte(), 1 };
    disk.size = GiB(1);
    virtio_blk_resized(blk);
    add(0, p, 1, 255);
    kick(0);
    CHECK_EQ(disk.n, 0);
    CHECK_EQ(byte(status[0]), IOERR);
    end();
}

TEST(no_header_no_status)
{
    setup();
    u64 h = header(T_IN, 0);
    struct piece p[] = { { h, 15 }, { alloc(513), 513 } };
    add(0, p, 1, 1);
    kick(0);
    CHECK(virtio_status(drv.d) & VIRTIO_NEEDS_RESET);
    end();
    setup();
    struct piece only[] = { { header(T_OUT, 0), 16 }, { alloc(512), 512 } };
    add(0, only, 2, 0);
    kick(0);
    CHECK(virtio_status(drv.d) & VIRTIO_NEEDS_RESET);
    rig_start(drv.d, ALL);
    CHECK_EQ(carry_out(T_IN, 0, alloc(512), 512), OK);
    end();
}

TEST(without_a_cache_a_write_is_flushed)
{
    u64 status, data;

    setup();
    CHECK_EQ(config(32, 1), 1);
    data = alloc(512);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish_all();
    CHECK_EQ(byte(status), OK);
    CHECK_EQ(disk.ops[BLOCK_FLUSH], 0);
    set_config(32, 1, 0); /* what was written until now is flushed, too */
    loop_turns();
    CHECK_EQ(disk.ops[BLOCK_FLUSH], 1);
    finish_all();
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(byte(status), UNTOUCHED);
    CHECK_EQ(disk.rq[0]->op, BLOCK_FLUSH);
    finish(0, 0);
    loop_turns();
    CHECK_EQ(byte(status), OK);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    finish(0, 0);
    loop_turns();
    finish(0, -EIO);
    loop_turns();
    CHECK_EQ(byte(status), IOERR);
    request(0, T_OUT, 3, data, 512, &status);
    kick(0);
    set_status(0);
    finish_all();
    end();

    setup_with(blk_config(), ALL & ~F_FLUSH & ~F_CONFIG_WCE); /* a driver that cannot flush */
    CHECK_EQ(carry_out(T_OUT, 0, alloc(512), 512), OK);
    CHECK(disk.ops[BLOCK_FLUSH] > 3);
    end();
}

struct range {
    u64 sector;
    u32 n, flags;
};

static u8 ranges(u32 type, const struct range *r, u32 n)
{
    u64 data = alloc(n * sizeof(*r));

    memcpy(at(data, n * sizeof(*r)), r, n * sizeof(*r));
    return carry_out(type, 0, data, (u32)(n * sizeof(*r)));
}

TEST(discard_and_write_zeroes)
{
    setup();
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 0 }, { 0, 0, 0 }, { 100, 4, 0 } }, 3), OK);
    CHECK_EQ(disk.ops[BLOCK_DISCARD], 2);
    CHECK_EQ(disk.data[100 * 512 + 2047], 0);
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 1 } }, 1), UNSUPP);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 200, 1, 0 } }, 1), OK);
    CHECK_EQ(disk.unmapped, 0);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 201, 1, 1 } }, 1), OK);
    CHECK_EQ(disk.unmapped, 512);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { 201, 1, 2 } }, 1), UNSUPP);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { DISK / 512 - 1, 2, 0 } }, 1), IOERR);
    CHECK_EQ(ranges(T_WRITE_ZEROES, (struct range[]){ { ~0ull, 0xffffffff, 0 } }, 1), IOERR);
    CHECK_EQ(carry_out(T_DISCARD, 0, alloc(24), 24), IOERR);
    CHECK_EQ(carry_out(T_DISCARD, 0, alloc(65 * 16), 65 * 16), IOERR);
    end();
    setup_with(blk_config(), ALL & ~F_DISCARD);
    CHECK_EQ(ranges(T_DISCARD, (struct range[]){ { 8, 8, 0 } }, 1), UNSUPP);
    end();
}
