/* SPDX-License-Identifier: Apache-2.0 */
/* devices_fdc.c - the floppy controller: every command, its results and errors, by DMA. */
#include "fdc_rig.h"

TEST(identity_and_simple_commands)
{
    struct rig r;

    setup(&r, 1440, FDC_1440K);
    COMMAND(&r, 0x10);
    RESULT(&r, "VERSION", 0x90);
    COMMAND(&r, 0x18); /* PART ID: of the 82078 alone */
    RESULT(&r, "PART ID", 0x80);
    COMMAND(&r, 0x08);
    RESULT(&r, "SENSE INTERRUPT with none", 0x80);
    COMMAND(&r, 0x13, 0, 0x57, 0x21);
    COMMAND(&r, 0x12, 0x84);
    COMMAND(&r, 0x94);
    RESULT(&r, "LOCK", 0x10);
    COMMAND(&r, 0x0e);
    RESULT(&r, "DUMPREG", 0, 0, 0, 0, 0xdf, 0x02, 0, 0x84, 0x57, 0x21);
    COMMAND(&r, 0x12, 0x03);
    out(&r, 0x3f4, 0x80); /* by DSR */
    CHECK(irq6);
    COMMAND(&r, 0x0e);
    RESULT(&r, "DUMPREG after a reset", 0, 0, 0, 0, 0xdf, 0x02, 0, 0x84, 0x47, 0x21); /* polling is on again */
    COMMAND(&r, 0x14);
    RESULT(&r, "UNLOCK", 0x00);
    out(&r, 0x3f2, 0x18);
    CHECK_EQ(in(&r, 0x3f4), 0);
    out(&r, 0x3f2, 0x1c);
    COMMAND(&r, 0x0e);
    RESULT(&r, "DUMPREG after another", 0, 0, 0, 0, 0xdf, 0x02, 0, 0x04, 0x60, 0);
    COMMAND(&r, 0x04, 0x04);
    RESULT(&r, "SENSE DRIVE", 0x3c);
    COMMAND(&r, 0x04, 0x01);
    RESULT(&r, "SENSE DRIVE of none", 0x29);
    CHECK_EQ(in(&r, 0x3f2), 0x1c);
    out(&r, 0x3f3, 2);
    CHECK_EQ(in(&r, 0x3f3), 0xfe);
    teardown(&r);
}

TEST(seeks)
{
    struct rig r;

    setup(&r, 1440, FDC_1440K);
    CHECK_EQ(in(&r, 0x3f7), 0x80); /* a disk was put in */
    COMMAND(&r, 0x0f, 0x00, 20);
    CHECK(irq6);
    CHECK_EQ(in(&r, 0x3f4), 0x81);
    CHECK_EQ(in(&r, 0x3f7), 0);
    COMMAND(&r, 0x08);
    RESULT(&r, "SEEK", 0x20, 20);
    CHECK(!irq6);
    CHECK_EQ(in(&r, 0x3f4), 0x80);
    COMMAND(&r, 0xcf, 0x00, 5);
    COMMAND(&r, 0x08);
    RESULT(&r, "RELATIVE SEEK inwards", 0x20, 25);
    COMMAND(&r, 0x8f, 0x00, 30);
    COMMAND(&r, 0x08);
    RESULT(&r, "RELATIVE SEEK outwards beyond track 0", 0x70, 0);
    COMMAND(&r, 0x0f, 0x00, 7);
    COMMAND(&r, 0x8f, 0x00, 3);
    COMMAND(&r, 0x08);
    RESULT(&r, "RELATIVE SEEK outwards", 0x20, 4);
    COMMAND(&r, 0x0f, 0x00, 85);
    COMMAND(&r, 0x07, 0x00);
    COMMAND(&r, 0x08);
    RESULT(&r, "RECALIBRATE from too far", 0x70, 6);
    COMMAND(&r, 0x07, 0x00);
    COMMAND(&r, 0x08);
    RESULT(&r, "RECALIBRATE", 0x20, 0);
    COMMAND(&r, 0x07, 0x01);
    COMMAND(&r, 0x08);
    RESULT(&r, "RECALIBRATE of no drive", 0x71, 0);
    COMMAND(&r, 0x0f, 0x00, 1);
    COMMAND(&r, 0x0f, 0x01, 1);
    COMMAND(&r, 0x08);
    RESULT(&r, "two SEEKs", 0x20, 1);
    CHECK(irq6);
    COMMAND(&r, 0x08);
    RESULT(&r, "the second", 0x21, 0);
    CHECK(!irq6);
    teardown(&r);
}

TEST(reads)
{
    static const struct {
        const char *name;
        u8 command[9];
        u16 bytes;     /* of the DMA */
        u8 result[7];
        u32 from, got; /* offset in the image; bytes that came */
    } table[] = {
        { "one sector", { 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0, 0, 0, 0, 0, 2, 2 }, 0, 512 },
        { "part of one", { 0xe6, 0, 0, 0, 3, 2, 18, 0x1b, 0xff }, 100, { 0, 0, 0, 0, 0, 4, 2 }, 1024, 100 },
        { "a track's last", { 0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff }, 512, { 0, 0, 0, 1, 0, 1, 2 }, 17 * 512, 512 },
        { "over its end", { 0x46, 0, 0, 0, 18, 2, 18, 0x1b, 0xff }, 1024, { 0x40, 0x80, 0, 1, 0, 1, 2 }, 17 * 512, 512 },
        { "both sides", { 0xc6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 18432, { 4, 0, 0, 1, 0, 1, 2 }, 0, 18432 },
        { "onto the other", { 0xc6, 0, 0, 0, 18, 2, 18, 0x1b, 0xff }, 1024, { 4, 0, 0, 0, 1, 2, 2 }, 17 * 512, 1024 },
        { "beyond both", { 0xc6, 4, 0, 1, 18, 2, 18, 0x1b, 0xff }, 1024, { 0x44, 0x80, 0, 1, 0, 1, 2 }, 35 * 512, 512 },
        { "side 0's end", { 0xc6, 0, 0, 0, 18, 2, 18, 0x1b, 0xff }, 512, { 0, 0, 0, 0, 1, 1, 2 }, 17 * 512, 512 },
        { "no such sector", { 0xe6, 0, 0, 0, 19, 2, 21, 0x1b, 0xff }, 512, { 0x40, 4, 0, 0, 0, 19, 2 }, 0, 0 },
        { "wrong cylinder", { 0xe6, 0, 7, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0x40, 4, 0x10, 7, 0, 1, 2 }, 0, 0 },
        { "bad cylinder", { 0xe6, 0, 0xff, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0x40, 4, 2, 0xff, 0, 1, 2 }, 0, 0 },
        { "wrong head", { 0xe6, 0, 0, 1, 1, 2, 18, 0x1b, 0xff }, 512, { 0x40, 4, 0, 0, 1, 1, 2 }, 0, 0 },
        { "wrong size", { 0xe6, 0, 0, 0, 1, 3, 18, 0x1b, 0xff }, 512, { 0x40, 4, 0, 0, 0, 1, 3 }, 0, 0 },
        { "FM", { 0xa6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0x40, 1, 0, 0, 0, 1, 2 }, 0, 0 },
        { "no drive", { 0xe6, 1, 0, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0x41, 1, 0, 0, 0, 1, 2 }, 0, 0 },
        { "READ TRACK", { 0x42, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 9216, { 0, 0, 0, 0, 0, 18, 2 }, 0, 9216 },
        { "READ TRACK, odd IDs", { 0x42, 4, 9, 0, 1, 2, 3, 0x1b, 0xff }, 4096, { 4, 4, 0, 9, 0, 3, 2 }, 18 * 512, 1536 },
        { "deleted data", { 0x4c, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 1024, { 0, 0, 0x40, 0, 0, 1, 2 }, 0, 512 },
        { "skip to deleted", { 0x6c, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 512, { 0x40, 0x80, 0x40, 1, 0, 1, 2 }, 0, 0 },
        { "VERIFY to EOT", { 0x56, 0, 0, 0, 1, 2, 18, 0x1b, 0xff }, 1, { 0, 0, 0, 1, 0, 1, 2 }, 0, 0 },
        { "VERIFY 3", { 0x56, 0x80, 0, 0, 1, 2, 18, 0x1b, 3 }, 1, { 0, 0, 0, 0, 0, 4, 2 }, 0, 0 },
        { "VERIFY too many", { 0x56, 0, 0, 0, 1, 2, 19, 0x1b, 0xff }, 1, { 0x40, 4, 0, 0, 0, 19, 2 }, 0, 0 },
    };
    struct rig r;

    setup(&r, 1440, FDC_1440K);
    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        memset(buffer(&r), 0xa5, 0x8000);
        dma(&r, 0x44, table[i].bytes);
        edges = 0;
        command_(&r, table[i].command, 9);
        CHECK_EQ(edges, 1);
        result_is(&r, table[i].name, table[i].result, 7);
        CHECK(!irq6);
        CHECK(!memcmp(buffer(&r), r.disk.data + table[i].from, table[i].got));
        CHECK_EQ(buffer(&r)[table[i].got], 0xa5);
    }
    COMMAND(&r, 0x0f, 0, 79);
    COMMAND(&r, 0x08);
    RESULT(&r, "SEEK", 0x20, 79);
    dma(&r, 0x44, 512);
    COMMAND(&r, 0xe6, 4, 79, 1, 18, 2, 18, 0x1b, 0xff);
    RESULT(&r, "the disk's last sector", 4, 0, 0, 80, 0, 1, 2);
    CHECK(!memcmp(buffer(&r), r.disk.data + 2879 * 512, 512));
    r.disk.fails = -5;
    dma(&r, 0x44, 512);
    COMMAND(&r, 0xe6, 4, 79, 1, 18, 2, 18, 0x1b, 0xff);
    RESULT(&r, "an error of the host's", 0x44, 0x20, 0x20, 79, 1, 18, 2);
    r.disk.fails = 0;
    COMMAND(&r, 0x13, 0, 0x40, 0); /* implied seeks */
    dma(&r, 0x44, 512);
    COMMAND(&r, 0xe6, 0, 40, 0, 1, 2, 18, 0x1b, 0xff);
    RESULT(&r, "implied seek", 0, 0, 0, 40, 0, 2, 2);
    CHECK(!memcmp(buffer(&r), r.disk.data + 40 * 36 * 512, 512));
    for (u8 i = 1; i <= 3; i++) {
        COMMAND(&r, 0x4a, 4);
        RESULT(&r, "READ ID", 4, 0, 0, 40, 1, 1 + i, 2);
    }
    out(&r, 0x3f7, 2);
    COMMAND(&r, 0x4a, 0);
    RESULT(&r, "READ ID at the wrong rate", 0x40, 1, 0, 0, 0, 0, 0);
    teardown(&r);
}

/* 82077AA table 5-6: what the host that has enough reads in C, H, R and N; and which VERIFY succeeds. */
TEST(result_phase)
{
    enum { EN = 0x80, ND = 4 };
    static const struct {
        const char *name;
        bool mt;
        u8 head, r, eot, sectors; /* that the DMA takes */
        u8 st0, st1, c_, h_, r_;
        u8 got;
    } table[] = {
        { "less than EOT, side 0", 0, 0, 5, 18, 2, 0, 0, 10, 0, 7, 2 },
        { "equal to EOT, side 0", 0, 0, 17, 18, 2, 0, 0, 11, 0, 1, 2 },
        { "less than EOT, side 1", 0, 1, 5, 18, 2, 4, 0, 10, 1, 7, 2 },
        { "equal to EOT, side 1", 0, 1, 17, 18, 2, 4, 0, 11, 1, 1, 2 },
        { "MT, less than EOT, side 0", 1, 0, 5, 18, 2, 0, 0, 10, 0, 7, 2 },
        { "MT, equal to EOT, side 0", 1, 0, 17, 18, 2, 0, 0, 10, 1, 1, 2 },
        { "MT, less than EOT, side 1", 1, 1, 5, 18, 2, 4, 0, 10, 1, 7, 2 },
        { "MT, equal to EOT, side 1", 1, 1, 17, 18, 2, 4, 0, 11, 0, 1, 2 },
        /* EOT beyond the disk's last sector: one track of both sides with MT, a sector that is not there without */
        { "MT, EOT 27, 18 of side 0 and 1", 1, 0, 10, 27, 18, 4, 0, 10, 1, 10, 18 },
        { "MT, EOT 36, the cylinder", 1, 0, 1, 36, 36, 4, 0, 10, 1, 19, 36 },
        { "MT, EOT 19, a block of two", 1, 0, 18, 19, 2, 4, 0, 10, 1, 2, 2 },
        { "MT, EOT 27, up to the last of side 0", 1, 0, 10, 27, 9, 0, 0, 10, 0, 19, 9 },
        { "MT, EOT 24, beyond the cylinder", 1, 1, 13, 24, 12, 0x44, EN, 11, 0, 1, 6 },
        { "MT, EOT 72, beyond the cylinder from side 0", 1, 0, 1, 72, 60, 0x44, EN, 11, 0, 1, 36 },
        { "EOT 27", 0, 0, 10, 27, 18, 0x40, ND, 10, 0, 19, 9 },
        /* It stops after the one that is equal to EOT. */
        { "beyond EOT", 0, 0, 5, 3, 2, 0, 0, 10, 0, 7, 2 },
        { "MT, beyond EOT", 1, 0, 18, 9, 3, 4, 0, 10, 1, 3, 3 },
    };
    struct rig r;

    setup(&r, 1440, FDC_1440K);
    COMMAND(&r, 0x0f, 0, 10);
    COMMAND(&r, 0x08);
    RESULT(&r, "SEEK", 0x20, 10);
    for (unsigned write = 0; write < 2; write++)
        for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
            const u32 from = (20u + table[i].head) * 18 + table[i].r - 1;
            const u8 want[7] = { table[i].st0, table[i].st1, 0, table[i].c_, table[i].h_, table[i].r_, 2 };
            u8 *ram = buffer(&r);

            for (unsigned k = 0; k < 0x8000; k++)
                ram[k] = (u8)(write ? k * 3 + k / 512 + i : 0xa5);
            r.disk.data[(from + table[i].got) * 512] = 0x77;
            dma(&r, write ? 0x48 : 0x44, (u16)(table[i].sectors * 512));
            COMMAND(&r, (table[i].mt ? 0xc0 : 0x40) | (write ? 5 : 6), (u8)(table[i].head << 2), 10, table[i].head,
                    table[i].r, 2, table[i].eot, 0x1b, 0xff);
            result_is(&r, table[i].name, want, 7);
            CHECK(!memcmp(ram, r.disk.data + from * 512, table[i].got * 512u));
            CHECK_EQ(r.disk.data[(from + table[i].got) * 512], 0x77);
            CHECK(write || ram[table[i].got * 512] == 0xa5);
        }

    /* VERIFY's result phase table, and the note below it; SC 0 is 256 sectors. */
    COMMAND(&r, 0xd6, 0x80, 10, 0, 1, 2, 18, 0x1b, 20);
    RESULT(&r, "VERIFY 20, MT", 4, 0, 0, 10, 1, 3, 2);
    COMMAND(&r, 0x56, 0x80, 10, 0, 1, 2, 18, 0x1b, 20);
    RESULT(&r, "VERIFY 20", 0x40, 0x80, 0, 11, 0, 1, 2);
    COMMAND(&r, 0xd6, 0, 10, 0, 1, 2, 36, 0x1b, 0xff);
    RESULT(&r, "VERIFY beyond the side", 0x40, 4, 0, 10, 0, 19, 2);
    COMMAND(&r, 0xd6, 0x80, 10, 0, 1, 2, 18, 0x1b, 0);
    RESULT(&r, "VERIFY 256", 0x44, 0x80, 0, 11, 0, 1, 2);
    teardown(&r);

    setup(&r, 180, FDC_360K); /* one side: there is nothing under head 1 */
    dma(&r, 0x44, 1024);
    COMMAND(&r, 0xc6, 0, 0, 0, 9, 2, 10, 0x1b, 0xff);
    RESULT(&r, "MT of a single-sided disk", 0x44, 1, 0, 0, 1, 1, 2);
    teardown(&r);
}

TEST(writes_and_formats)
{
    struct rig r;

    setup(&r, 720, FDC_720K);
    for (u32 i = 0; i < 0x8000; i++)
        buffer(&r)[i] = (u8)(i * 11);
    dma(&r, 0x48, 1024);
    COMMAND(&r, 0xc5, 0, 0, 0, 9, 2, 9, 0x1b, 0xff);
    RESULT(&r, "WRITE over both sides", 4, 0, 0, 0, 1, 2, 2);
    CHECK(!memcmp(r.disk.data + 8 * 512, buffer(&r), 1024));
    CHECK(r.disk.data[10 * 512] != (u8)(1024 * 11));
    dma(&r, 0x48, 10);
    COMMAND(&r, 0xc5, 0, 0, 0, 1, 2, 9, 0x1b, 0xff);
    RESULT(&r, "WRITE of a part", 0, 0, 0, 0, 0, 2, 2);
    CHECK_EQ(r.disk.data[9], (u8)(9 * 11));
    CHECK_EQ(r.disk.data[10], 0);
    CHECK_EQ(r.disk.data[511], 0);
    CHECK_EQ(r.disk.flushes, 0);
    out(&r, 0x3f2, 0x0c); /* its motor stops */
    turns(&r);
    CHECK_EQ(r.disk.flushes, 1);

    for (u8 i = 0; i < 9; i++) /* with interleaved sectors */
        memcpy(buffer(&r) + 4 * i, (const u8[]){ 0, 1, (u8)(i * 2 % 9 + 1), 2 }, 4);
    dma(&r, 0x48, 36);
    COMMAND(&r, 0x4d, 4, 2, 9, 0x54, 0xf6);
    RESULT(&r, "FORMAT", 4, 0, 0, 0, 1, (8 * 2) % 9 + 1, 2);
    for (u32 i = 0; i < 9 * 512; i++)
        CHECK_EQ(r.disk.data[9 * 512 + i], 0xf6);
    COMMAND(&r, 0x0e);
    RESULT(&r, "DUMPREG with FORMAT's SC", 0, 0, 0, 0, 0xdf, 0x02, 9, 0, 0x20, 0);
    CHECK(r.disk.data[18 * 512 + 1] != 0xf6 && r.disk.data[1] != 0xf6);
    buffer(&r)[2] = 18; /* more sectors than the image has */
    dma(&r, 0x48, 72);
    COMMAND(&r, 0x4d, 4, 2, 18, 0x54, 0xf6);
    RESULT(&r, "FORMAT otherwise", 0x54, 4, 0, 0, 1, 1, 2);

    memcpy(buffer(&r), r.disk.data + 512, 512);
    dma(&r, 0x48, 512);
    COMMAND(&r, 0x51, 0, 0, 0, 1, 2, 9, 0x1b, 1);
    RESULT(&r, "SCAN EQUAL until DMA's end", 0, 0, 4, 0, 0, 2, 2);
    memcpy(buffer(&r) + 512, r.disk.data + 512, 512);
    dma(&r, 0x48, 1024);
    COMMAND(&r, 0x51, 0, 0, 0, 1, 2, 9, 0x1b, 1);
    RESULT(&r, "SCAN EQUAL", 0, 0, 8, 0, 0, 3, 2);
    memset(buffer(&r), 0xfe, 512);
    memset(r.disk.data, 0x10, 512);
    dma(&r, 0x48, 512);
    COMMAND(&r, 0x59, 0, 0, 0, 1, 2, 9, 0x1b, 1);
    RESULT(&r, "SCAN LOW OR EQUAL", 0, 0, 0, 0, 0, 2, 2);
    dma(&r, 0x48, 512);
    COMMAND(&r, 0x5d, 0, 0, 0, 1, 2, 9, 0x1b, 1);
    RESULT(&r, "SCAN HIGH OR EQUAL", 0, 0, 4, 0, 0, 2, 2);

    r.disk.fails = -28;
    dma(&r, 0x48, 512);
    COMMAND(&r, 0xc5, 0, 0, 0, 1, 2, 9, 0x1b, 0xff);
    RESULT(&r, "a full host", 0x40, 0x20, 0x20, 0, 0, 1, 2);
    r.disk.fails = 0;
    r.disk.readonly = true;
    COMMAND(&r, 0x04, 0);
    RESULT(&r, "SENSE DRIVE, protected", 0x78);
    dma(&r, 0x48, 512);
    COMMAND(&r, 0xc5, 0, 0, 0, 1, 2, 9, 0x1b, 0xff);
    RESULT(&r, "WRITE, protected", 0x40, 2, 0, 0, 0, 1, 2);
    dma(&r, 0x48, 36);
    COMMAND(&r, 0x4d, 4, 2, 9, 0x54, 0xf6);
    RESULT(&r, "FORMAT, protected", 0x44, 2, 0, 0, 1, 1, 2);
    teardown(&r);
}
