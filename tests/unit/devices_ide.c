/* SPDX-License-Identifier: Apache-2.0 */
/* ATA disks and ATAPI drives behind the PIIX3's IDE channels, against ATA/ATAPI-6 to -8, MMC-5 and the bus master's rules. */
#include "devices/ide.h"

#include "ata_rig.h"

enum { BSY = 0x80, DRDY = 0x40, DRQ = 8, ERR = 1, READY = 0x50, ABRT = 4, IDNF = 0x10, UNC = 0x40 };
enum { BM = 0xc000, PRDT = 0x1000, DATA = 0x100000 };

static struct rig r;
static struct ide *ide;
static struct block *disk, *disc;

static void plug(u32 place, bool cdrom, struct block *b, enum config_disk_errors werror)
{
    struct ata_drive_config c = { .cdrom = cdrom, .block = b, .serial = "S-1", .discard = true, .werror = werror,
                                  .stop = rig_stop, .go = rig_go, .ctx = &r, .memory = r.memory };
    CHECK_EQ(ide_plug(ide, place, &c, NULL), 0);
}

static void build(enum config_disk_errors werror)
{
    static const u8 lines[PCI_INTX_LINES] = { 10, 11, 10, 11 };
    const struct irq_line irq[2] = { { rig_irq, &r, 14 }, { rig_irq, &r, 15 } };

    rig_open(&r);
    ide = calloc(1, sizeof *ide);
    CHECK_EQ(ide_init(ide, irq, r.pci, 1, 1, r.state, NULL), 0);
    for (u32 i = 0; i < 2; i++) {
        CHECK_EQ(bus_add(r.ports, &(struct bus_range){ i ? 0x170 : 0x1f0, 8, &ide_ops, &ide->channel[i], NULL, "ide" }), 0);
        CHECK_EQ(bus_add(r.ports, &(struct bus_range){ i ? 0x376 : 0x3f6, 1, &ide_control_ops, &ide->channel[i], NULL, "ide" }), 0);
    }
    plug(0, false, disk, werror);
    plug(2, true, disc, DISK_ERRORS_REPORT);
    ide_reset(ide);
    pci_reset(r.pci);
    pci_assign(r.pci, lines);
    ide->f.config[4] |= 4;
}

static void scrap(void)
{
    for (u32 i = 0; i < IDE_DRIVES; i++) /* the bus goes first, as in the machine */
        if (ide_drive(ide, i))
            ata_settle(ide_drive(ide, i));
    rig_close(&r);
    ide_destroy(ide);
    free(ide);
    turns(NULL);
}

static void setup(void)
{
    disk = disk_new(DISK);
    disc = disk_new(4 << 20);
    build(DISK_ERRORS_ENOSPC);
}

static void end(void)
{
    scrap();
    disk_free(disk);
    disk_free(disc);
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u16 base = 0x1f0;
static void out(u32 reg, u8 v) { bus_write(r.ports, base + reg, 1, v); }
static u8 in(u32 reg) { return (u8)bus_read(r.ports, base + reg, 1); }
static void control(u8 v) { bus_write(r.ports, base + 0x206, 1, v); }
static u8 alt(void) { return (u8)bus_read(r.ports, base + 0x206, 1); }
static u16 word(void) { return (u16)bus_read(r.ports, base, 2); }

static void address(u64 lba, u32 count, bool ext)
{
    if (ext) {
        out(2, (u8)(count >> 8));
        out(3, (u8)(lba >> 24)), out(4, (u8)(lba >> 32)), out(5, (u8)(lba >> 40));
    }
    out(2, (u8)count);
    out(3, (u8)lba), out(4, (u8)(lba >> 8)), out(5, (u8)(lba >> 16));
    out(6, (u8)(0xe0 | (ext ? 0 : lba >> 24 & 0xf)));
}

static void command(u8 c)
{
    out(7, c);
    turns(base == 0x1f0 ? disk : disc);
}

/* Reads DRQ blocks until there are no more; how many there were. */
static u32 pio_in(u8 *to, u32 len, u32 block)
{
    u32 n = 0, got = 0;

    while (alt() & DRQ) {
        CHECK(r.irq[14]);
        CHECK_EQ(in(7), READY | DRQ);
        CHECK(!r.irq[14]);
        for (u32 i = 0; i < block && got < len; i += 2, got += 2) {
            u16 v = word();
            memcpy(to + got, &v, 2);
        }
        n++;
        turns(disk);
    }
    CHECK_EQ(got, len);
    return n;
}

static u32 pio_out(const u8 *from, u32 len, u32 block)
{
    u32 n = 0, done = 0;

    while (alt() & DRQ) {
        for (u32 i = 0; i < block && done < len; i += 4, done += 4) {
            u32 v;
            memcpy(&v, from + done, 4);
            bus_write(r.ports, base, 4, v);
        }
        turns(disk);
        CHECK(r.irq[14]);
        in(7);
        n++;
    }
    CHECK_EQ(done, len);
    return n;
}

static void prd(u32 i, u32 gpa, u32 len, bool eot)
{
    put32(&r, PRDT + i * 8, gpa);
    put32(&r, PRDT + i * 8 + 4, (len & 0xffff) | (eot ? 0x80000000 : 0));
}

static void bm(u8 start)
{
    const u16 at = BM + (base == 0x1f0 ? 0 : 8);
    if (start) {
        bus_write(r.ports, at + 2, 1, 6);
        bus_write(r.ports, at + 4, 4, PRDT);
    }
    bus_write(r.ports, at, 1, start);
    turns(base == 0x1f0 ? disk : disc);
}
static u8 bm_status(void) { return (u8)bus_read(r.ports, BM + (base == 0x1f0 ? 2 : 10), 1); }

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

/* Saved after each chunk of a transfer, and loaded into another machine, which goes on. */
static void save_and_load(void)
{
    struct state_buf b = { 0 };
    struct error err = { "" };
    u8 *memory = malloc(RAM);
    struct block *d = disk, *c = disc;

    ide_settle(ide);
    CHECK_EQ(state_save(r.state, &b, &err), 0);
    memcpy(memory, ram(&r, 0, RAM), RAM);
    const unsigned edges = r.edges[14];
    scrap();
    disk = d, disc = c;
    build(DISK_ERRORS_ENOSPC);
    memcpy(ram(&r, 0, RAM), memory, RAM);
    CHECK_EQ(state_load(r.state, b.data, b.len, &err), 0);
    CHECK_STR(err.text, "");
    ide_resume(ide);
    r.edges[14] += edges;
    state_buf_free(&b);
    free(memory);
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

/* ---- packets ---- */

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
