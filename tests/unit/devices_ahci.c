/* SPDX-License-Identifier: Apache-2.0 */
/* The AHCI adapter with a disk and a CD drive, as a driver of AHCI 1.3.1, ch. 10 sees it. */
#include "devices/ahci.h"

#include "ata_rig.h"

enum { LIST = 0x1000, FIS = 0x2000, TABLES = 0x10000, TABLE_SIZE = 0x1000, DATA = 0x400000 };
enum { GHC = 4, IS = 8, PI = 12, CLB = 0x100, FB = 0x108, PIS = 0x110, PIE = 0x114, CMD = 0x118, TFD = 0x120, SIG = 0x124,
       SSTS = 0x128, SCTL = 0x12c, SERR = 0x130, SACT = 0x134, CI = 0x138 };
enum { DHRS = 1, PSS = 2, SDBS = 8, OFS = 1 << 24, HBFS = 1 << 29, TFES = 1 << 30, CR = 1 << 15 };

static struct rig r;
static struct ahci *ahci;
static struct block *disk, *disc;
static u32 port; /* whose registers rd and wr are about: 0 or 5 */

static u64 abar(void) { return ahci->f.bar[5].at; }
static u32 rd(u32 reg) { return (u32)bus_read(r.mmio, abar() + reg + (reg >= 0x100 ? port * 0x80 : 0), 4); }
static void wr(u32 reg, u32 v) { bus_write(r.mmio, abar() + reg + (reg >= 0x100 ? port * 0x80 : 0), 4, v); }

static void plug(u32 n, bool cdrom, struct block *b)
{
    struct ata_drive_config c = { .cdrom = cdrom, .block = b, .serial = "S-1", .discard = true, .werror = DISK_ERRORS_ENOSPC,
                                  .stop = rig_stop, .go = rig_go, .ctx = &r, .memory = r.memory };
    CHECK_EQ(ahci_plug(ahci, n, &c, NULL), 0);
}

static void build(void)
{
    static const u8 lines[PCI_INTX_LINES] = { 10, 11, 10, 11 };

    rig_open(&r);
    ahci = calloc(1, sizeof *ahci);
    CHECK_EQ(ahci_init(ahci, r.pci, r.state, NULL), 0);
    plug(0, false, disk);
    plug(5, true, disc);
    ahci_reset(ahci);
    pci_reset(r.pci);
    pci_assign(r.pci, lines);
    ahci->f.config[4] |= 4;
}

static void scrap(void)
{
    ahci_settle(ahci);
    rig_close(&r);
    ahci_destroy(ahci);
    free(ahci);
    turns(NULL);
}

static void start_port(u32 n)
{
    port = n;
    wr(CLB, LIST + n * 0x4000), wr(CLB + 4, 0);
    wr(FB, FIS + n * 0x4000), wr(FB + 4, 0);
    wr(PIE, 0xffffffff);
    wr(CMD, 0x10);
    wr(CMD, 0x11);
    CHECK_EQ(rd(CMD) & 0xc011, 0xc011);
}

static void setup(void)
{
    disk = disk_new(DISK);
    disc = disk_new(4 << 20);
    build();
    wr(GHC, 2);
    start_port(5);
    start_port(0);
}

static void end(void)
{
    scrap();
    disk_free(disk);
    disk_free(disc);
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u64 table(u32 slot) { return TABLES + (port * 32 + slot) * TABLE_SIZE; }
static u64 received(u32 at) { return FIS + port * 0x4000 + at; }

static void prd(u32 slot, u32 i, u32 gpa, u32 len)
{
    u64 at = table(slot) + 0x80 + i * 16;
    put32(&r, at, gpa), put32(&r, at + 4, 0), put32(&r, at + 12, len - 1);
}

static void header(u32 slot, u32 prds, u32 flags)
{
    u64 at = LIST + port * 0x4000 + slot * 32;
    put32(&r, at, 5 | flags | prds << 16), put32(&r, at + 4, 0xdead), put32(&r, at + 8, (u32)table(slot)), put32(&r, at + 12, 0);
}

static void frame(u32 slot, u8 command, u64 lba, u32 count, u32 features)
{
    const u8 f[20] = { 0x27, 0x80, command, (u8)features, (u8)lba, (u8)(lba >> 8), (u8)(lba >> 16), 0x40, (u8)(lba >> 24),
                       (u8)(lba >> 32), (u8)(lba >> 40), (u8)(features >> 8), (u8)count, (u8)(count >> 8) };
    memcpy(ram(&r, table(slot), 20), f, 20);
}

/* Of `sectors` sectors, data in one piece at DATA + slot * 64 KiB. */
static u32 place(u32 slot) { return DATA + slot * 0x10000; }

static void queue(u32 slot, bool write, u64 lba, u32 sectors)
{
    prd(slot, 0, place(slot), sectors * 512);
    header(slot, 1, write ? 0x40 : 0);
    frame(slot, write ? 0x61 : 0x60, lba, slot << 3, sectors);
    wr(SACT, 1u << slot);
}

static void issue(u32 slots)
{
    wr(CI, slots);
    turns(port ? disc : disk);
}

static u32 transferred(u32 slot) { return get32(&r, LIST + port * 0x4000 + slot * 32 + 4); }

TEST(who_is_there)
{
    setup();
    CHECK_EQ(rd(PI), 0x21);
    CHECK_EQ(rd(0x10), 0x10300);
    CHECK_EQ(rd(SSTS), 0x123);
    CHECK_EQ(rd(SIG), 0x101);
    CHECK_EQ(rd(TFD), 0x150);
    CHECK_EQ(*ram(&r, received(0x40), 1), 0x34);
    port = 5;
    CHECK_EQ(rd(SIG), 0xeb140101);
    port = 1;
    CHECK_EQ(rd(SSTS), 0);
    CHECK_EQ(rd(TFD), 0x7f);
    port = 0;
    wr(CMD, 0x10);
    wr(SCTL, 1);
    CHECK_EQ(rd(SSTS), 0);
    wr(SCTL, 0);
    CHECK_EQ(rd(SSTS), 0x123);
    CHECK_EQ(rd(SIG), 0x101);
    wr(GHC, 1);
    CHECK_EQ(rd(GHC), 0x80000000);
    CHECK_EQ(rd(CMD), 6);
    end();
}

TEST(not_queued)
{
    setup();
    prd(0, 0, DATA, 200), prd(0, 1, DATA + 0x1000, 312);
    header(0, 2, 0);
    frame(0, 0xec, 0, 0, 0);
    issue(1);
    CHECK_EQ(rd(CI), 0);
    CHECK_EQ(rd(PIS), PSS);
    CHECK_EQ(rd(TFD) & 0xff, 0x50);
    CHECK_EQ(transferred(0), 512);
    CHECK_EQ(*ram(&r, received(0x20), 1), 0x5f);
    CHECK_EQ(ram(&r, DATA + 0x1000 + 311, 1)[-1], 0xa5);
    CHECK_EQ(ram(&r, DATA + 54, 1)[0], 'O'); /* "LODGE" */
    CHECK(r.intx && rd(IS) == 1);
    wr(PIS, PSS);
    wr(IS, 1);
    CHECK(!r.intx);
    for (u32 i = 0; i < 600; i++) /* many small pieces: several requests */
        prd(3, i % 240, DATA + i % 240 * 4096, 4096);
    header(3, 240, 0);
    frame(3, 0x25, 1000, 1920, 0);
    issue(8);
    CHECK_EQ(rd(PIS), DHRS);
    CHECK_EQ(transferred(3), 1920 * 512);
    for (u32 i = 0; i < 240; i++)
        CHECK(!memcmp(ram(&r, DATA + i * 4096, 4096), disk->data + 1000 * 512 + i * 4096, 4096));
    memset(ram(&r, DATA, 1024), 0x5e, 1024);
    prd(4, 0, DATA, 1024);
    header(4, 1, 0x40);
    frame(4, 0x35, 77, 2, 0);
    frame(5, 0xea, 0, 0, 0);
    header(5, 0, 0);
    issue(0x30);
    CHECK_EQ(rd(CI), 0);
    CHECK_EQ(disk->data[78 * 512 + 511], 0x5e);
    CHECK_EQ(disk->ops[BLOCK_FLUSH], 1);
    frame(4, 0x34, 88, 2, 0); /* by PIO */
    issue(0x10);
    CHECK_EQ(disk->data[89 * 512 + 511], 0x5e);
    CHECK_EQ(transferred(4), 1024);
    end();
}

TEST(errors)
{
    setup();
    prd(0, 0, DATA, 512);
    header(0, 1, 0);
    frame(0, 0x25, DISK / 512, 1, 0);
    issue(1);
    CHECK_EQ(rd(PIS), TFES | DHRS);
    CHECK_EQ(rd(TFD), 0x1051);
    CHECK_EQ(rd(CI), 1);
    frame(1, 0xec, 0, 0, 0);
    header(1, 1, 0);
    prd(1, 0, DATA, 512);
    issue(2);
    CHECK_EQ(rd(CI), 3); /* nothing more until it is restarted */
    wr(CMD, 0x10);
    CHECK_EQ(rd(CI), 0);
    wr(PIS, 0xffffffff);
    wr(CMD, 0x11);
    issue(2);
    CHECK_EQ(rd(CI), 0);
    wr(PIS, 0xffffffff);
    frame(0, 0x25, 0, 4, 0); /* room for one of four sectors */
    issue(1);
    CHECK(rd(PIS) & OFS);
    wr(CMD, 0x10), wr(PIS, 0xffffffff), wr(CMD, 0x11);
    prd(0, 0, 0xd0000000, 512);
    frame(0, 0x25, 0, 1, 0);
    issue(1);
    CHECK(rd(PIS) & HBFS);
    wr(CMD, 0x10), wr(PIS, 0xffffffff), wr(CMD, 0x11);
    put32(&r, LIST + 8, 0xd0000000);
    issue(1);
    CHECK(rd(PIS) & HBFS);
    wr(CMD, 0x10);
    wr(CLB + 4, 0x80000000);
    wr(CMD, 0x11);
    issue(1);
    CHECK(rd(PIS) & HBFS);
    end();
}

TEST(queued)
{
    setup();
    for (u32 s = 0; s < 32; s++)
        queue(s, s % 4 == 3, s * 100, 50);
    for (u32 s = 3; s < 32; s += 4)
        memset(ram(&r, place(s), 25600), (int)s, 25600);
    wr(CI, 0xffffffff);
    fake_run_posts();
    CHECK_EQ(rd(CI), 0);
    CHECK_EQ(disk->n, 32);
    finish(disk, 5, 0);
    CHECK_EQ(rd(SACT), ~0x20u);
    CHECK_EQ(rd(PIS), SDBS);
    CHECK_EQ(get32(&r, received(0x58)) & 0xff, 0xa1);
    CHECK_EQ(get32(&r, received(0x5c)), 0x20);
    turns(disk);
    CHECK_EQ(rd(SACT), 0);
    for (u32 s = 0; s < 32; s++)
        CHECK(!memcmp(ram(&r, place(s), 25600), disk->data + s * 51200, 25600));
    /* One fails: the others are not heard of; the log says which. */
    wr(PIS, 0xffffffff);
    disk->fail = -EIO;
    disk->fail_after = 300 * 512;
    for (u32 s = 0; s < 8; s++)
        queue(s, false, s * 100, 50);
    wr(CI, 0xff);
    turns(disk);
    CHECK_EQ(rd(PIS) & (TFES | SDBS), TFES | SDBS);
    CHECK(rd(TFD) & 1);
    const u32 left = rd(SACT);
    CHECK(left);
    wr(CMD, 0x10);
    CHECK(!(rd(CMD) & CR) && !rd(SACT));
    wr(PIS, 0xffffffff);
    wr(CMD, 0x11);
    prd(0, 0, DATA, 512);
    header(0, 1, 0);
    frame(0, 0x2f, 0x10, 1, 0);
    issue(1);
    const u8 *log = ram(&r, DATA, 512);
    CHECK(log[0] < 8 && left & 1u << log[0]);
    CHECK_EQ(log[3], 0x40);
    CHECK_EQ(log[4] | log[5] << 8, log[0] * 100);
    queue(9, false, 5, 1);
    issue(1u << 9);
    CHECK_EQ(rd(SACT), 0);
    CHECK(!memcmp(ram(&r, place(9), 512), disk->data + 5 * 512, 512));
    queue(9, false, DISK / 512, 1);
    issue(1u << 9);
    CHECK(rd(PIS) & TFES);
    end();
}

TEST(stopped_under_way)
{
    setup();
    queue(0, false, 0, 50);
    queue(1, false, 100, 50);
    wr(CI, 3);
    fake_run_posts();
    CHECK_EQ(disk->n, 2);
    wr(CMD, 0x10);
    CHECK(rd(CMD) & CR); /* still writing into memory */
    finish(disk, 0, 0);
    CHECK(rd(CMD) & CR);
    turns(disk);
    CHECK(!(rd(CMD) & CR));
    CHECK_EQ(rd(PIS), 0);
    wr(CMD, 0x11);
    queue(0, false, 0, 50);
    wr(CI, 1);
    fake_run_posts();
    wr(GHC, 1);
    CHECK_EQ(rd(GHC) & 1, 1);
    turns(disk);
    CHECK_EQ(rd(GHC) & 1, 0);
    /* A soft reset by two control frames. */
    wr(GHC, 2);
    start_port(0);
    frame(0, 0, 0, 0, 0);
    ram(&r, table(0), 20)[1] = 0, ram(&r, table(0), 20)[15] = 4;
    header(0, 0, 0x500);
    wr(SIG, 0);
    issue(1);
    CHECK_EQ(rd(CI), 0);
    CHECK(rd(TFD) & 0x80);
    ram(&r, table(0), 20)[15] = 0;
    issue(1);
    CHECK_EQ(rd(TFD), 0x150);
    CHECK_EQ(rd(SIG), 0x101);
    end();
}

TEST(messages)
{
    u8 *c;

    setup();
    u8 at = ahci->f.msi;
    c = ahci->f.config + at;
    pci_put32(c + 4, 0xfee00000);
    bus_write(r.mmio, 0xe0000000 + (u64)ahci->f.devfn * 4096 + at + 2, 2, 1);
    CHECK(pci_msi_enabled(&ahci->f));
    queue(0, false, 0, 1);
    issue(1);
    CHECK_EQ(r.messages, 1);
    queue(1, false, 0, 1);
    issue(2);
    CHECK_EQ(r.messages, 1); /* not served yet */
    wr(PIS, SDBS);
    wr(IS, 1);
    queue(2, false, 0, 1);
    issue(4);
    CHECK_EQ(r.messages, 2);
    CHECK(!r.intx);
    end();
}

static void packet(const u8 *cdb, bool dma, u32 len)
{
    prd(0, 0, DATA, len);
    header(0, len ? 1 : 0, 0x20);
    frame(0, 0xa0, 0x080000, 0, dma);
    memcpy(ram(&r, table(0) + 0x40, 12), cdb, 12);
    wr(PIS, 0xffffffff);
    issue(1);
}
#define PACKET(dma, len, ...) packet((const u8[12]){ __VA_ARGS__ }, dma, len)

static void save_and_load(void)
{
    struct state_buf b = { 0 };
    struct error err = { "" };
    u8 *memory = malloc(RAM);
    struct block *d = disk, *c = disc;

    ahci_settle(ahci);
    CHECK_EQ(state_save(r.state, &b, &err), 0);
    memcpy(memory, ram(&r, 0, RAM), RAM);
    scrap();
    disk = d, disc = c;
    build();
    memcpy(ram(&r, 0, RAM), memory, RAM);
    CHECK_EQ(state_load(r.state, b.data, b.len, &err), 0);
    CHECK_STR(err.text, "");
    ahci_resume(ahci);
    state_buf_free(&b);
    free(memory);
}

TEST(packets)
{
    struct block *other = disk_new(2 << 20);
    struct error err;

    setup();
    port = 5;
    PACKET(false, 512, 0x00);
    CHECK(rd(PIS) & TFES);
    CHECK_EQ(rd(TFD), 0x6451);
    wr(CMD, 0x10), wr(CMD, 0x11);
    PACKET(false, 18, 0x03, 0, 0, 0, 18);
    CHECK_EQ(rd(PIS), DHRS | PSS);
    CHECK_EQ(transferred(0), 18);
    CHECK_EQ(ram(&r, DATA, 18)[2], 6); /* it had been told */
    for (u32 dma = 0; dma < 2; dma++) {
        PACKET(dma, 65536 * 2, 0x28, 0, 0, 0, 0, 20, 0, 0, 64);
        CHECK_EQ(rd(CI), 0);
        CHECK_EQ(transferred(0), 131072);
        CHECK(!memcmp(ram(&r, DATA, 131072), disc->data + 20 * 2048, 131072));
        memset(ram(&r, DATA, 131072), 0, 131072);
        PACKET(dma, 36, 0x12, 0, 0, 0, 36);
        CHECK_EQ(rd(CI), 0);
        CHECK_EQ(ram(&r, DATA, 36)[8], 'L');
        save_and_load();
        PACKET(dma, 40 * 2352, 0xbe, 0, 0, 0, 0, 16, 0, 0, 40, 0xf8);
        CHECK_EQ(transferred(0), 40 * 2352);
        CHECK(!memcmp(ram(&r, DATA, 1) + 39 * 2352 + 16, disc->data + 55 * 2048, 2048));
    }
    CHECK_EQ(ata_change_medium(ahci_drive(ahci, 5), other, false, &err), 0);
    PACKET(true, 2048, 0x28, 0, 0, 0, 0, 20, 0, 0, 1);
    CHECK_EQ(rd(TFD), 0x6451);
    end();
    disk_free(other);
}

TEST(saved_at_any_moment)
{
    setup();
    for (u32 s = 0; s < 16; s++) {
        queue(s, false, s * 200, 40);
        for (u32 i = 0; i < 40 * 16; i++)
            prd(s, i % 200, place(s) + i % 200 * 256, i % 200 == 199 ? 20480 - 199 * 32 : 32);
        header(s, 200, 0);
    }
    wr(CI, 0xffff);
    for (u32 n = 0; n < 60 && rd(SACT); n++) {
        fake_run_posts();
        if (disk->n)
            finish(disk, n % disk->n, 0);
        if (n % 4 == 0)
            save_and_load();
    }
    turns(disk);
    CHECK_EQ(rd(SACT), 0);
    for (u32 s = 0; s < 16; s++)
        for (u32 i = 0; i < 199; i++)
            CHECK(!memcmp(ram(&r, place(s) + i * 256, 32), disk->data + s * 200 * 512 + i * 32, 32));
    prd(0, 0, DATA, 40000), prd(0, 1, DATA + 40000, 200 * 512 - 40000);
    header(0, 2, 0);
    frame(0, 0x24, 999, 200, 0); /* by PIO */
    wr(CI, 1);
    save_and_load();
    turns(disk);
    CHECK_EQ(rd(CI), 0);
    CHECK(!memcmp(ram(&r, DATA, 200 * 512), disk->data + 999 * 512, 200 * 512));
    end();
}
