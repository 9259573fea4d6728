/* SPDX-License-Identifier: Apache-2.0 */
/* ATAPI drives behind the PIIX3's IDE channels, against ATA/ATAPI-6 to -8 and MMC-5. */
#include "ide_rig.h"

static u8 answer[1 << 20];

/* By blocks of at most limit bytes, or (limit 0) by DMA; the bytes that came, or minus the sense key and code. */
static int packet(const u8 *cdb, u32 limit)
{
    u32 got = 0;

    base = 0x170;
    out(6, 0xa0);
    out(1, !limit);
    out(4, (u8)limit), out(5, (u8)(limit >> 8));
    out(7, 0xa0);
    CHECK_EQ(alt() & (BSY | DRQ), DRQ);
    CHECK_EQ(in(2) & 3, 1);
    for (u32 i = 0; i < 12; i += 2)
        bus_write(r.ports, base, 2, cdb[i] | cdb[i + 1] << 8);
    turns(disc);
    if (!limit) {
        bm(9);
        bm(0);
    }
    while (alt() & DRQ) {
        CHECK(r.irq[15]);
        in(7);
        CHECK_EQ(in(2) & 3, 2);
        u32 n = in(4) | (u32)in(5) << 8;
        CHECK(n && n <= limit && (n % 2 == 0 || n < limit));
        for (u32 i = 0; i < n; i += 2, got += 2) {
            u16 v = word();
            memcpy(answer + got, &v, 2);
        }
        got -= n % 2;
        turns(disc);
    }
    CHECK(r.irq[15]);
    CHECK_EQ(in(2) & 3, 3);
    const u8 status = in(7), error = in(1);
    base = 0x1f0;
    return status & ERR ? -(error >> 4) : (int)got;
}

static int sense(void)
{
    static const u8 request[12] = { 0x03, 0, 0, 0, 18 };
    CHECK_EQ(packet(request, 18), 18);
    return answer[2] << 8 | answer[12];
}

#define PACKET(limit, ...) packet((const u8[12]){ __VA_ARGS__ }, limit)

TEST(packets)
{
    setup();
    CHECK_EQ(PACKET(512, 0x12, 0, 0, 0, 36), 36); /* past the attention */
    CHECK_EQ(answer[0], 5);
    CHECK_EQ(PACKET(512, 0x00), -6);
    CHECK_EQ(sense(), 0x629);
    CHECK_EQ(PACKET(512, 0x00), 0);
    CHECK_EQ(sense(), 0);
    CHECK_EQ(PACKET(512, 0x12, 0, 0, 0, 5), 5); /* no more than was allocated, odd or not */
    CHECK_EQ(PACKET(512, 0x25), 8);
    CHECK_EQ(answer[2] << 8 | answer[3], disc->size / 2048 - 1);
    CHECK_EQ(PACKET(512, 0x43, 0, 0, 0, 0, 0, 0, 0, 100), 20);
    CHECK(answer[3] == 1 && answer[6] == 1 && answer[14] == 0xaa && answer[18] == disc->size / 2048 >> 8);
    CHECK_EQ(PACKET(512, 0x43, 2, 1, 0, 0, 0, 0, 0, 100), 12);
    CHECK_EQ(answer[10], 2); /* 00:02:00 */
    CHECK_EQ(PACKET(512, 0x43, 0, 7, 0, 0, 0, 0, 0, 100), -5);
    CHECK_EQ(sense(), 0x524);
    CHECK(PACKET(512, 0x46, 0, 0, 0, 0, 0, 0, 1, 0) > 40);
    CHECK_EQ(answer[7], 8); /* a CD-ROM */
    CHECK_EQ(PACKET(512, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 200), 30);
    CHECK_EQ(PACKET(512, 0x1a, 0, 0x01, 0, 200), 12);
    CHECK_EQ(PACKET(512, 0x77), -5);
    CHECK_EQ(sense(), 0x520);
    CHECK_EQ(PACKET(512, 0x55, 0x10, 0, 0, 0, 0, 0, 0, 20), -5); /* MODE SELECT: refused before its data */
    CHECK_EQ(sense(), 0x520);
    CHECK_EQ(PACKET(512, 0x28, 0, 0, 1, 0, 0, 0, 0, 1), -5);
    CHECK_EQ(sense(), 0x521);
    end();
}

TEST(reads_discs)
{
    setup();
    PACKET(512, 0x00);
    CHECK_EQ(PACKET(0xfffe, 0x28, 0, 0, 0, 1, 0, 0, 0, 100), 100 * 2048);
    CHECK(!memcmp(answer, disc->data + 256 * 2048, 100 * 2048));
    CHECK_EQ(PACKET(2048, 0xa8, 0, 0, 0, 1, 1, 0, 0, 0, 3), 3 * 2048);
    CHECK(!memcmp(answer, disc->data + 257 * 2048, 3 * 2048));
    CHECK_EQ(PACKET(333, 0x28, 0, 0, 0, 1, 0, 0, 0, 2), 2 * 2048); /* an odd limit is one less */
    CHECK(!memcmp(answer, disc->data + 256 * 2048, 2 * 2048));
    prd(0, DATA, 5000, false);
    prd(1, DATA + 0x8000, 0, false);
    prd(2, DATA + 0x18000, 60 * 2048 - 5000 - 65536, true);
    CHECK_EQ(PACKET(0, 0x28, 0, 0, 0, 0, 9, 0, 0, 60), 0);
    CHECK(!memcmp(ram(&r, DATA, 5000), disc->data + 9 * 2048, 5000));
    CHECK(!memcmp(ram(&r, DATA + 0x8000, 60 * 2048 - 5000), disc->data + 9 * 2048 + 5000, 60 * 2048 - 5000));
    /* READ CD: whole sectors, more than the buffer holds, by both ways. */
    CHECK_EQ(PACKET(0xfffe, 0xbe, 0, 0, 0, 0, 16, 0, 0, 80, 0xf8), 80 * 2352);
    for (u32 i = 0; i < 80; i++) {
        const u8 *s = answer + i * 2352, n = (u8)((16 + i) % 75);
        CHECK(!s[0] && s[1] == 0xff && s[10] == 0xff && !s[11]);
        CHECK_EQ(s[12] << 24 | s[13] << 16 | s[14] << 8 | s[15],
                 (2 + (16 + i) / 75) << 16 | (n / 10 << 4 | n % 10) << 8 | 1);
        CHECK(!memcmp(s + 16, disc->data + (16 + i) * 2048, 2048));
    }
    prd(0, DATA, 0, false);
    prd(1, DATA + 0x10000, 0, false);
    prd(2, DATA + 0x20000, 0, true);
    CHECK_EQ(PACKET(0, 0xbe, 0, 0, 0, 0, 16, 0, 0, 80, 0xf8), 0);
    CHECK(!memcmp(ram(&r, DATA, 80 * 2352), answer, 80 * 2352));
    CHECK_EQ(PACKET(0xfffe, 0xb9, 0, 0, 0, 2, 5, 0, 2, 7, 0x10), 2 * 2048);
    CHECK(!memcmp(answer, disc->data + 5 * 2048, 2 * 2048));
    CHECK_EQ(PACKET(512, 0xbe, 4, 0, 0, 0, 16, 0, 0, 1, 0x10), -5); /* no audio here */
    /* READ SUB-CHANNEL: behind the last sector read, 00:02:07 on the disc, 00:00:07 in the track. */
    static const u8 at[12] = { 1, 0x14, 1, 1, 0, 0, 2, 7, 0, 0, 0, 7 };
    CHECK_EQ(PACKET(512, 0x42, 2, 0x40, 1, 0, 0, 0, 0, 100), 16);
    CHECK(answer[1] == 0x15 && answer[3] == 12 && !memcmp(answer + 4, at, 12));
    CHECK_EQ(PACKET(512, 0x42, 0, 0x40, 1, 0, 0, 0, 0, 100), 16);
    CHECK(answer[11] == 7 && answer[15] == 7);
    CHECK_EQ(PACKET(512, 0x42, 2, 0, 1, 0, 0, 0, 0, 100), 4);
    CHECK_EQ(answer[3], 0);
    CHECK_EQ(PACKET(512, 0x42, 0, 0x40, 2, 0, 0, 0, 0, 100), 24);
    CHECK(answer[3] == 20 && answer[4] == 2 && !answer[8]);
    CHECK_EQ(PACKET(512, 0x42, 0, 0x40, 3, 0, 0, 1, 0, 100), 24);
    CHECK(answer[4] == 3 && answer[5] == 0x14 && answer[6] == 1 && !answer[8]);
    CHECK_EQ(PACKET(512, 0x42, 0, 0x40, 3, 0, 0, 2, 0, 100), -5);
    CHECK_EQ(PACKET(512, 0x42, 0, 0x40, 0, 0, 0, 0, 0, 100), -5);
    CHECK_EQ(sense(), 0x524);
    disc->fail = -EIO;
    CHECK_EQ(PACKET(512, 0x28, 0, 0, 0, 0, 9, 0, 0, 1), -3);
    CHECK_EQ(sense(), 0x311);
    end();
}

TEST(discs_change)
{
    struct block *other = disk_new(2 << 20);
    struct error err;

    setup();
    struct ata_drive *d = ide_drive(ide, 2);
    PACKET(512, 0x00);
    CHECK_EQ(PACKET(512, 0x1e, 0, 0, 0, 1), 0); /* locked */
    CHECK_EQ(ata_change_medium(d, other, false, &err), -EBUSY);
    CHECK_EQ(PACKET(512, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 8);
    CHECK_EQ(answer[4], 1); /* EjectRequest */
    CHECK_EQ(PACKET(512, 0x1b, 0, 0, 0, 2), -5);
    CHECK_EQ(sense(), 0x553);
    CHECK_EQ(PACKET(512, 0x1e), 0);
    CHECK_EQ(ata_change_medium(d, NULL, false, &err), 0);
    CHECK_EQ(PACKET(512, 0x00), -2);
    CHECK_EQ(sense(), 0x23a);
    CHECK_EQ(PACKET(512, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 8);
    CHECK(answer[4] == 3 && answer[5] == 0);
    CHECK_EQ(ata_change_medium(d, other, false, &err), 0);
    CHECK_EQ(PACKET(512, 0x25), -6);
    CHECK_EQ(sense(), 0x628);
    CHECK_EQ(PACKET(512, 0x25), 8);
    CHECK_EQ(answer[2] << 8 | answer[3], other->size / 2048 - 1);
    /* Pulled while it is read: what follows of that command fails, and is no byte of the next disc. */
    base = 0x170;
    out(1, 0), out(4, 0), out(5, 8), out(7, 0xa0);
    static const u8 read[12] = { 0x28, 0, 0, 0, 0, 0, 0, 0, 200 };
    for (u32 i = 0; i < 12; i += 2)
        bus_write(r.ports, base, 2, read[i] | read[i + 1] << 8);
    fake_run_posts();
    CHECK_EQ(other->n, 1);
    CHECK_EQ(ata_change_medium(d, disc, true, &err), 0);
    turns(disc);
    CHECK_EQ(in(7), READY | ERR);
    base = 0x1f0;
    CHECK_EQ(sense(), 0x23a);
    CHECK_EQ(PACKET(512, 0x00), -6);
    CHECK_EQ(sense(), 0x628);
    /* By the guest: the tray opens, and closes with the disc still in it. */
    CHECK_EQ(PACKET(512, 0x1b, 0, 0, 0, 2), 0);
    CHECK_EQ(PACKET(512, 0x00), -2);
    CHECK_EQ(PACKET(512, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8), 8);
    CHECK_EQ(answer[1], 0x10);
    CHECK_EQ(PACKET(512, 0x1b, 0, 0, 0, 3), 0);
    CHECK_EQ(PACKET(512, 0x00), -6);
    CHECK_EQ(PACKET(512, 0x28, 0, 0, 0, 0, 9, 0, 0, 1), 2048);
    end();
    disk_free(other);
}
