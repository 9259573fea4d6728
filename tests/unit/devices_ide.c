/* SPDX-License-Identifier: Apache-2.0 */
/* ATA disks behind the PIIX3's IDE channels, against ATA/ATAPI-6 to -8 and the bus master's rules. */
#include "ide_rig.h"

TEST(who_is_there)
{
    setup();
    CHECK_EQ(in(7), READY);
    CHECK_EQ(in(1), 1);
    CHECK(in(2) == 1 && in(3) == 1 && !in(4) && !in(5));
    out(6, 0xb0); /* there is no slave: what is written does not come back */
    CHECK_EQ(in(7), 0);
    out(2, 0x55);
    CHECK_EQ(in(2), 0);
    base = 0x170;
    CHECK(in(4) == 0x14 && in(5) == 0xeb);
    CHECK_EQ(in(7), 0);
    command(0xec);
    CHECK(in(7) & ERR && in(4) == 0x14 && in(5) == 0xeb);
    command(0xa1);
    CHECK_EQ(word(), 0x85c0);
    base = 0x1f0;
    control(4);
    CHECK_EQ(alt(), BSY);
    control(0);
    CHECK_EQ(alt(), READY);
    out(6, 0xb0); /* EXECUTE DEVICE DIAGNOSTIC is for both */
    command(0x90);
    CHECK_EQ(in(1), 1);
    CHECK_EQ(in(6) & 0x10, 0);
    ide->f.config[0x41] = 0; /* not decoded */
    CHECK_EQ(in(7), 0xff);
    end();
}

TEST(identify)
{
    u8 w[512], sum = 0;
    u16 v[256];

    setup();
    out(6, 0xe0);
    command(0xec);
    CHECK_EQ(pio_in(w, 512, 512), 1);
    memcpy(v, w, 512);
    for (u32 i = 0; i < 512; i++)
        sum += w[i];
    CHECK_EQ(sum, 0);
    CHECK_EQ(v[1], DISK / 512 / 16 / 63);
    CHECK(v[3] == 16 && v[6] == 63);
    CHECK_EQ(v[60] | (u32)v[61] << 16, DISK / 512);
    CHECK_EQ(v[100], DISK / 512);
    CHECK_EQ(v[10], 'S' << 8 | '-');
    CHECK(v[83] & 0x400 && v[169] == 1);
    out(1, 0x03), out(2, 0x22);
    command(0xef);
    command(0xec);
    pio_in(w, 512, 512);
    memcpy(v, w, 512);
    CHECK_EQ(v[63], 0x0407);
    end();
}

TEST(pio)
{
    u8 *buf = malloc(1 << 20);

    setup();
    address(100, 3, false);
    command(0x20);
    CHECK_EQ(pio_in(buf, 3 * 512, 512), 3);
    CHECK(!memcmp(buf, disk->data + 100 * 512, 3 * 512));
    CHECK_EQ(alt(), READY);
    address(1000, 0, false); /* 256 sectors, more than the buffer holds */
    command(0x20);
    CHECK_EQ(pio_in(buf, 256 * 512, 512), 256);
    CHECK(!memcmp(buf, disk->data + 1000 * 512, 256 * 512));
    CHECK(disk->chunks > 2);
    out(2, 8);
    command(0xc6);
    address(2000, 300, true);
    command(0x29);
    CHECK_EQ(pio_in(buf, 300 * 512, 8 * 512), 38);
    CHECK(!memcmp(buf, disk->data + 2000 * 512, 300 * 512));
    for (u32 i = 0; i < 1 << 20; i++)
        buf[i] = (u8)(i * 7 + i / 777);
    address(5000, 300, true);
    command(0x34);
    CHECK(!r.irq[14]); /* the first block is not announced */
    CHECK_EQ(pio_out(buf, 300 * 512, 512), 300);
    CHECK(!memcmp(buf, disk->data + 5000 * 512, 300 * 512));
    address(6000, 9, false);
    command(0xc5);
    CHECK_EQ(pio_out(buf, 9 * 512, 8 * 512), 2);
    CHECK(!memcmp(buf, disk->data + 6000 * 512, 9 * 512));
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 0);
    command(0xe7);
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 1);
    address(DISK / 512 - 1, 2, true);
    command(0x24);
    CHECK_EQ(in(7), READY | ERR);
    CHECK_EQ(in(1), IDNF);
    out(2, 0);
    command(0xc6);
    command(0xc4);
    CHECK_EQ(in(1), ABRT);
    disk->readonly = true;
    address(0, 1, false);
    command(0x30);
    CHECK_EQ(in(1), ABRT);
    end();
    free(buf);
}

TEST(cylinders)
{
    u8 buf[1024];

    setup();
    out(2, 1), out(3, 1), out(4, 2), out(5, 0), out(6, 0xa0 | 3); /* 2/3/1 of x/16/63 */
    command(0x20);
    pio_in(buf, 512, 512);
    CHECK(!memcmp(buf, disk->data + ((2 * 16 + 3) * 63) * 512, 512));
    out(2, 17), out(6, 0xa0 | 3); /* four heads of 17 sectors */
    command(0x91);
    CHECK_EQ(in(7), READY);
    out(2, 2), out(3, 17), out(4, 100), out(5, 1), out(6, 0xa0 | 3);
    command(0x20);
    pio_in(buf, 1024, 512); /* into the next cylinder */
    CHECK(!memcmp(buf, disk->data + ((356 * 4 + 3) * 17 + 16) * 512, 1024));
    CHECK(in(3) == 1 && in(4) == 101 && in(5) == 1 && (in(6) & 0xf) == 0);
    out(3, 0); /* there is no sector 0, */
    command(0x20);
    CHECK_EQ(in(1), IDNF);
    out(3, 18); /* none past the track, */
    command(0x20);
    CHECK_EQ(in(1), IDNF);
    out(3, 1), out(6, 0xa4); /* and no fifth head */
    command(0x70);
    CHECK_EQ(in(1), IDNF);
    end();
}

TEST(dma)
{
    setup();
    prd(0, DATA, 100, false);
    prd(1, DATA + 0x10000, 0, false); /* 64 KiB */
    prd(2, DATA + 100, 150 * 512 - 65636, true);
    address(50, 150, false);
    command(0xc8);
    CHECK_EQ(alt() & (BSY | DRQ), BSY);
    CHECK(!r.irq[14]);
    bm(9);
    CHECK(r.irq[14]);
    CHECK_EQ(bm_status(), 4);
    CHECK_EQ(in(7), READY);
    bm(0);
    CHECK(!memcmp(ram(&r, DATA, 100), disk->data + 50 * 512, 100));
    CHECK(!memcmp(ram(&r, DATA + 0x10000, 65536), disk->data + 50 * 512 + 100, 65536));
    CHECK(!memcmp(ram(&r, DATA + 100, 100), disk->data + 50 * 512 + 65636, 100));
    /* Written, the bus master started first, in so many pieces that it takes several requests. */
    disk->chunks = 0;
    for (u32 i = 0; i < 2048; i++)
        prd(i, DATA + i * 64, 32, i == 2047);
    bm(1);
    address(3000, 128, true);
    command(0x35);
    CHECK_EQ(bm_status() & 5, 4);
    CHECK(disk->chunks > 5);
    for (u32 i = 0; i < 2048; i++)
        CHECK(!memcmp(ram(&r, DATA + i * 64, 32), disk->data + 3000 * 512 + i * 32, 32));
    in(7);
    bm(0);
    /* A table that is longer than the data: the bus master stays active. */
    prd(0, DATA, 4096, true);
    address(0, 1, false);
    command(0xc8);
    bm(9);
    CHECK_EQ(bm_status() & 7, 5);
    in(7);
    bm(0);
    CHECK_EQ(bm_status() & 7, 4);
    /* One that is shorter: no interrupt. */
    prd(0, DATA, 512, true);
    address(0, 4, false);
    command(0xc8);
    bm(9);
    CHECK_EQ(bm_status() & 7, 0);
    CHECK(!r.irq[14]);
    CHECK_EQ(in(7), READY);
    bm(0);
    /* No memory, and no table. */
    prd(0, 0xd0000000, 512, true);
    address(0, 1, false);
    command(0xc8);
    bm(9);
    CHECK_EQ(bm_status() & 3, 2);
    CHECK_EQ(in(7), READY | ERR);
    bm(0);
    end();
}

TEST(cache_and_trim)
{
    u64 ranges[64] = { 10 | 5ull << 48, 0, 4000 | 100ull << 48 };

    setup();
    out(1, 0x82);
    command(0xef);
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 1);
    prd(0, DATA, 1024, true);
    address(7, 2, false);
    command(0xca);
    bm(1);
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 2); /* written through */
    out(1, 0x02);
    command(0xef);
    bm(0);
    address(7, 2, true);
    command(0x3d); /* FUA */
    bm(1);
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 3);
    bm(0);
    memcpy(ram(&r, DATA, 512), ranges, 512);
    prd(0, DATA, 512, true);
    out(1, 0), out(1, 1);
    address(0, 1, true);
    out(1, 1);
    command(0x06);
    bm(1);
    CHECK_EQ(in(7), READY);
    CHECK_EQ(disk->ops[BLOCK_DISCARD], 2);
    CHECK(!disk->data[10 * 512] && !disk->data[15 * 512 - 1] && !disk->data[4099 * 512 + 3]);
    bm(0);
    ranges[1] = BIT(47) | 1ull << 48;
    memcpy(ram(&r, DATA, 512), ranges, 512);
    command(0x06);
    bm(1);
    CHECK_EQ(in(7), READY | ERR);
    end();
}

TEST(errors)
{
    u8 buf[512];

    setup();
    disk->fail = -EIO;
    disk->fail_after = 0;
    address(1234, 2, false);
    command(0x20);
    CHECK_EQ(in(7), READY | ERR);
    CHECK_EQ(in(1), UNC);
    CHECK_EQ(in(3) | in(4) << 8, 1234);
    disk->fail = -ENOSPC; /* the machine waits, a second later it goes on */
    address(77, 1, false);
    command(0x30);
    memset(buf, 0xee, sizeof buf);
    for (u32 i = 0; i < 512; i += 2)
        bus_write(r.ports, base, 2, 0xeeee);
    turns(disk);
    CHECK(r.stops == 1 && !r.goes);
    CHECK(!r.irq[14]);
    ide_settle(ide);
    ide_resume(ide);
    fake_advance(1500000000);
    turns(disk);
    CHECK(r.goes == 1);
    CHECK(r.irq[14]);
    CHECK_EQ(in(7), READY);
    CHECK(!memcmp(disk->data + 77 * 512, buf, 512));
    disk->fail = -EIO;
    address(77, 1, false);
    command(0x30);
    for (u32 i = 0; i < 512; i += 2)
        bus_write(r.ports, base, 2, 0);
    turns(disk);
    CHECK_EQ(in(7), READY | ERR);
    /* A reset while the disk works: BSY until it has done. */
    address(0, 8, false);
    out(7, 0x20);
    fake_run_posts();
    CHECK_EQ(disk->n, 1);
    control(4);
    control(0);
    CHECK_EQ(alt(), BSY);
    out(7, 0xec); /* nobody listens */
    turns(disk);
    CHECK_EQ(alt(), READY);
    CHECK(in(2) == 1 && in(3) == 1);
    end();
}

TEST(saved_at_any_moment)
{
    u8 buf[256 * 512];

    setup();
    for (u32 i = 0; i < 4096; i++)
        prd(i, DATA + i * 32, 16, i == 4095);
    address(500, 128, true);
    out(7, 0x25);
    save_and_load();
    bus_write(r.ports, BM + 4, 4, PRDT);
    bus_write(r.ports, BM, 1, 9);
    for (u32 n = 0; n < 20 && !r.irq[14]; n++) {
        fake_run_posts();
        if (disk->n)
            finish(disk, 0, 0);
        save_and_load();
    }
    CHECK(r.irq[14]);
    CHECK_EQ(in(7), READY);
    CHECK_EQ(bm_status() & 7, 4);
    for (u32 i = 0; i < 4096; i++)
        CHECK(!memcmp(ram(&r, DATA + i * 32, 16), disk->data + 500 * 512 + i * 16, 16));
    bm(0);
    /* By blocks, in the middle of one. */
    address(600, 200, true);
    out(7, 0x24);
    for (u32 i = 0; i < sizeof buf && i < 200 * 512; i += 2) {
        if (i % 30000 == 10) {
            save_and_load();
            turns(disk);
        }
        while (alt() & BSY)
            turns(disk);
        u16 v = word();
        memcpy(buf + i, &v, 2);
    }
    CHECK(!memcmp(buf, disk->data + 600 * 512, 200 * 512));
    address(700, 200, true);
    out(7, 0x34);
    for (u32 i = 0; i < 200 * 512; i += 2) {
        if (i % 30000 == 512)
            save_and_load();
        while (alt() & BSY)
            turns(disk);
        bus_write(r.ports, base, 2, i / 2);
    }
    turns(disk);
    CHECK_EQ(in(7), READY);
    for (u32 i = 0; i < 200 * 512; i += 2)
        CHECK_EQ(disk->data[700 * 512 + i] | disk->data[700 * 512 + i + 1] << 8, i / 2 & 0xffff);
    end();
}
