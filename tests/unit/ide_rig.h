/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ide_rig.h - a PIIX3's IDE channels with a disk and a disc, and the words to talk to them: for the tests of the disks
 * and of the ATAPI drives.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_IDE_RIG_H
#define LODGE_TEST_IDE_RIG_H

#include "devices/ide.h"

#include "ata_rig.h"

enum { BSY = 0x80, DRDY = 0x40, DRQ = 8, ERR = 1, READY = 0x50, ABRT = 4, IDNF = 0x10, UNC = 0x40 };
enum { BM = 0xc000, PRDT = 0x1000, DATA = 0x100000 };

static struct rig r;
static struct ide *ide;
static struct block *disk, *disc;

static inline void plug(u32 place, bool cdrom, struct block *b, enum config_disk_errors werror)
{
    struct ata_drive_config c = { .cdrom = cdrom, .block = b, .serial = "S-1", .discard = true, .werror = werror,
                                  .stop = rig_stop, .go = rig_go, .ctx = &r, .memory = r.memory };
    CHECK_EQ(ide_plug(ide, place, &c, NULL), 0);
}

static inline void build(enum config_disk_errors werror)
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

static inline void scrap(void)
{
    for (u32 i = 0; i < IDE_DRIVES; i++) /* the bus goes first, as in the machine */
        if (ide_drive(ide, i))
            ata_settle(ide_drive(ide, i));
    rig_close(&r);
    ide_destroy(ide);
    free(ide);
    turns(NULL);
}

static inline void setup(void)
{
    disk = disk_new(DISK);
    disc = disk_new(4 << 20);
    build(DISK_ERRORS_ENOSPC);
}

static inline void end(void)
{
    scrap();
    disk_free(disk);
    disk_free(disc);
    CHECK_EQ(fake_advance(10000000000), 0);
}

static u16 base = 0x1f0;
static inline void out(u32 reg, u8 v) { bus_write(r.ports, base + reg, 1, v); }
static inline u8 in(u32 reg) { return (u8)bus_read(r.ports, base + reg, 1); }
static inline void control(u8 v) { bus_write(r.ports, base + 0x206, 1, v); }
static inline u8 alt(void) { return (u8)bus_read(r.ports, base + 0x206, 1); }
static inline u16 word(void) { return (u16)bus_read(r.ports, base, 2); }

static inline void address(u64 lba, u32 count, bool ext)
{
    if (ext) {
        out(2, (u8)(count >> 8));
        out(3, (u8)(lba >> 24)), out(4, (u8)(lba >> 32)), out(5, (u8)(lba >> 40));
    }
    out(2, (u8)count);
    out(3, (u8)lba), out(4, (u8)(lba >> 8)), out(5, (u8)(lba >> 16));
    out(6, (u8)(0xe0 | (ext ? 0 : lba >> 24 & 0xf)));
}

static inline void command(u8 c)
{
    out(7, c);
    turns(base == 0x1f0 ? disk : disc);
}

/* Reads DRQ blocks until there are no more; how many there were. */
static inline u32 pio_in(u8 *to, u32 len, u32 block)
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

static inline u32 pio_out(const u8 *from, u32 len, u32 block)
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

static inline void prd(u32 i, u32 gpa, u32 len, bool eot)
{
    put32(&r, PRDT + i * 8, gpa);
    put32(&r, PRDT + i * 8 + 4, (len & 0xffff) | (eot ? 0x80000000 : 0));
}

static inline void bm(u8 start)
{
    const u16 at = BM + (base == 0x1f0 ? 0 : 8);
    if (start) {
        bus_write(r.ports, at + 2, 1, 6);
        bus_write(r.ports, at + 4, 4, PRDT);
    }
    bus_write(r.ports, at, 1, start);
    turns(base == 0x1f0 ? disk : disc);
}
static inline u8 bm_status(void) { return (u8)bus_read(r.ports, BM + (base == 0x1f0 ? 2 : 10), 1); }

/* Saved after each chunk of a transfer, and loaded into another machine, which goes on. */
static inline void save_and_load(void)
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

#endif
