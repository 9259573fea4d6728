/* SPDX-License-Identifier: Apache-2.0 */
/* pci_bus.c - configuration space by both ways, BARs, INTx, MSI and MSI-X, reset and state. */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci.h"
#include "test.h"

enum { ECAM = 0xe0000000 };

struct rig {
    struct bus *ports, *mmio;
    struct memory *memory;
    struct pci_bus *pci;
    struct state_list *state;
    struct pci_function f[3];
    u8 reg[3][64];
    bool line[PCI_INTX_LINES];
    unsigned messages, edges, written;
    u64 address;
    u32 data;
    u8 cf9;
};

static void on_line(void *p, u32 pin, bool level)
{
    struct rig *r = p;
    r->edges += r->line[pin] != level;
    r->line[pin] = level;
}

static void on_msi(void *p, u64 address, u32 data)
{
    struct rig *r = p;
    r->messages++, r->address = address, r->data = data;
}

static u64 reg_read(void *dev, u64 offset, unsigned size)
{
    u64 v = 0;
    memcpy(&v, (u8 *)dev + offset % 64, MIN(size, 64 - offset % 64));
    return v;
}
static void reg_write(void *dev, u64 offset, unsigned size, u64 v)
{
    memcpy((u8 *)dev + offset % 64, &v, MIN(size, 64 - offset % 64));
}
static const struct bus_ops reg_ops = { reg_read, reg_write, 1, 4 };

static u64 cf9_read(void *dev, u64 offset, unsigned size) { return offset == 1 && size == 1 ? ((struct rig *)dev)->cf9 : UINT64_MAX; }
static void cf9_write(void *dev, u64 offset, unsigned size, u64 v)
{
    if (offset == 1 && size == 1)
        ((struct rig *)dev)->cf9 = (u8)v;
}
static const struct bus_ops cf9_ops = { cf9_read, cf9_write, 1, 4 };

/* Function 0 (slot 3): 32-bit memory 64 bytes, I/O 32 bytes, MSI-X of 5 in BAR 2; function 1 (slot 4): 64-bit memory
   of 1 MiB, MSI of 4; function 2 (slot 4.1): a 32-bit BAR of 64 bytes. */
static void rig_new(struct rig *r)
{
    struct error err = { "" };
    memset(r, 0, sizeof *r);
    r->ports = bus_new(0x10000), r->mmio = bus_new(1ull << 52), r->state = state_list_new();
    CHECK((r->memory = memory_new(&err)) != NULL);
    struct pci_bus_config c = { .ports = r->ports, .mmio = r->mmio, .memory = r->memory, .msi = on_msi, .ctx = r, .cf8_bytes = &cf9_ops,
                                .cf8_dev = r, .ecam = ECAM, .mmio32 = 0xc0000000, .mmio32_size = MiB(256),
                                .mmio64 = GiB(32), .mmio64_size = GiB(32), .io = 0x1000, .io_size = 0x1000 };
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ on_line, r, i };
    CHECK((r->pci = pci_bus_new(&c, &err)) != NULL);
    CHECK_EQ(pci_bus_add_state(r->pci, r->state), 0);
    for (u32 i = 0; i < 3; i++)
        pci_function_init(&r->f[i], "thing", 0x1af4, (u16)(0x1041 + i), 1, 0x020000, 0x1af4, 0x1100);
    struct pci_bar bar = { .size = 64, .ops = &reg_ops, .dev = r->reg[0], .name = "regs" };
    pci_bar_init(&r->f[0], 0, &bar);
    bar.flags = PCI_BAR_IO, bar.size = 32;
    pci_bar_init(&r->f[0], 1, &bar);
    pci_add_msix(&r->f[0], 5, 2);
    pci_use_intx(&r->f[0]);
    bar = (struct pci_bar){ .size = MiB(1), .flags = PCI_BAR_64 | PCI_BAR_PREFETCH, .ops = &reg_ops, .dev = r->reg[1] };
    pci_bar_init(&r->f[1], 4, &bar);
    pci_add_msi(&r->f[1], 4);
    pci_use_intx(&r->f[1]);
    bar = (struct pci_bar){ .size = 64, .ops = &reg_ops, .dev = r->reg[2] };
    pci_bar_init(&r->f[2], 0, &bar);
    CHECK_EQ(pci_add(r->pci, &r->f[0], 3, 0, r->state, &err), 0);
    CHECK_EQ(pci_add(r->pci, &r->f[1], 4, 0, r->state, &err), 0);
    CHECK_EQ(pci_add(r->pci, &r->f[2], 4, 1, r->state, &err), 0);
}

static void rig_free(struct rig *r)
{
    pci_bus_free(r->pci);
    state_list_free(r->state);
    bus_free(r->ports);
    bus_free(r->mmio);
    memory_free(r->memory);
}

static u64 ecam(struct rig *r, u32 f, u32 at, unsigned size)
{
    return bus_read(r->mmio, ECAM + ((u64)r->f[f].devfn << 12) + at, size);
}
static void ecam_write(struct rig *r, u32 f, u32 at, unsigned size, u64 v)
{
    bus_write(r->mmio, ECAM + ((u64)r->f[f].devfn << 12) + at, size, v);
}
static u64 cf8(struct rig *r, u32 devfn, u32 at, unsigned size)
{
    bus_write(r->ports, 0xcf8, 4, 0x80000000 | devfn << 8 | (at & 0xfc));
    return bus_read(r->ports, 0xcfc + (at & 3), size);
}

TEST(both_ways_lead_to_the_same_registers)
{
    struct rig r;
    rig_new(&r);
    for (u32 f = 0; f < 3; f++)
        for (u32 at = 0; at < 256; at += 4) {
            CHECK_EQ(cf8(&r, r.f[f].devfn, at, 4), ecam(&r, f, at, 4));
            for (u32 i = 0; i < 4; i++)
                CHECK_EQ(cf8(&r, r.f[f].devfn, at + i, 1), ecam(&r, f, at + i, 1));
            for (u32 i = 0; i < 3; i++)
                CHECK_EQ(cf8(&r, r.f[f].devfn, at + i, 2), ecam(&r, f, at + i, 2));
        }
    CHECK_EQ(ecam(&r, 0, 0, 4), 0x10411af4);
    CHECK_EQ(ecam(&r, 0, 0, 8), 0x0000000010411af4 | 0x0010000000000000); /* status: capabilities */
    CHECK_EQ(ecam(&r, 0, 2, 4), 0x00001041);                              /* not aligned: no device sees it so */
    CHECK_EQ(ecam(&r, 0, 8, 4), 0x02000001);
    CHECK_EQ(ecam(&r, 0, 0x100, 4), 0);
    CHECK_EQ(ecam(&r, 0, 0xffe, 4), 0xffff0000); /* over the end: the next function is not there */
    CHECK_EQ(cf8(&r, 0, 0, 4), 0xffffffff);
    CHECK_EQ(cf8(&r, 0x118, 0, 4), 0xffffffff); /* bus 1 */
    CHECK_EQ(ecam(&r, 0, 0xe, 1), 0);
    CHECK_EQ(ecam(&r, 1, 0xe, 1), 0x80); /* the slot has more than one */
    CHECK_EQ(ecam(&r, 2, 0xe, 1), 0);
    /* CONFIG_ADDRESS takes doublewords only, and is off without its top bit. */
    bus_write(r.ports, 0xcf8, 4, 0xffffffff);
    CHECK_EQ(bus_read(r.ports, 0xcf8, 4), 0x80fffffc);
    bus_write(r.ports, 0xcf8, 4, 0x80001800);
    bus_write(r.ports, 0xcf8, 2, 0x1234);
    bus_write(r.ports, 0xcf9, 1, 6);
    CHECK_EQ(r.cf9, 6);
    CHECK_EQ(bus_read(r.ports, 0xcf9, 1), 6);
    CHECK_EQ(bus_read(r.ports, 0xcf8, 2), 0xffff);
    CHECK_EQ(bus_read(r.ports, 0xcf8, 4), 0x80001800);
    CHECK_EQ(bus_read(r.ports, 0xcfa, 4), 0x1af4ffff); /* half of it is data */
    CHECK_EQ(bus_read(r.ports, 0xcfe, 4), 0xffff1041);
    bus_write(r.ports, 0xcf8, 4, 0x00001800);
    CHECK_EQ(bus_read(r.ports, 0xcfc, 4), 0xffffffff);
    rig_free(&r);
}

static void count_writes(struct pci_function *f, u32 offset, u32 len)
{
    struct rig *r = (struct rig *)(void *)((char *)f - offsetof(struct rig, f));
    r->written += len;
}
static bool odd_register(struct pci_function *f, u32 offset, u32 len, u32 *value)
{
    *value = 0x5a;
    return offset == 0xf0;
}

TEST(what_software_may_write)
{
    struct rig r;
    rig_new(&r);
    r.f[0].config_written = count_writes;
    r.f[0].config_read = odd_register;
    r.f[0].w1c[7] = 0xf0;
    r.f[0].config[7] = 0xf0;
    ecam_write(&r, 0, 0, 4, 0);
    ecam_write(&r, 0, 8, 4, 0);
    ecam_write(&r, 0, 0x2c, 4, 0);
    ecam_write(&r, 0, 0x30, 4, 0xffffffff);
    CHECK_EQ(r.written, 16);
    CHECK_EQ(ecam(&r, 0, 0, 4), 0x10411af4);
    CHECK_EQ(ecam(&r, 0, 0x2c, 4), 0x11001af4);
    CHECK_EQ(ecam(&r, 0, 0x30, 4), 0);
    ecam_write(&r, 0, 4, 4, 0x5000ffff);
    CHECK_EQ(ecam(&r, 0, 4, 4), 0xa0100547);
    ecam_write(&r, 0, 0x3c, 4, 0xffffff0b);
    CHECK_EQ(ecam(&r, 0, 0x3c, 4), 0x0000010b);
    CHECK_EQ(ecam(&r, 0, 0xf0, 1), 0x5a);
    CHECK_EQ(ecam(&r, 0, 0xf1, 1), 0);
    /* The list of capabilities. */
    CHECK_EQ(ecam(&r, 0, 0x34, 1), 0x40);
    CHECK_EQ(ecam(&r, 0, 0x40, 4), 0x00040011); /* MSI-X, 5 vectors, the last */
    CHECK_EQ(ecam(&r, 0, 0x44, 4), 2);
    CHECK_EQ(ecam(&r, 0, 0x48, 4), 0x802);
    CHECK_EQ(ecam(&r, 1, 0x40, 4), 0x01840005); /* MSI: 64-bit, masking, 4 */
    pci_reset(r.pci);
    CHECK_EQ(ecam(&r, 0, 4, 4), 0x00100000);
    CHECK_EQ(ecam(&r, 0, 0x3c, 4), 0x00000100);
    rig_free(&r);
}

TEST(bars_are_sized_and_move)
{
    struct rig r;
    rig_new(&r);
    for (u32 at = 0x10; at < 0x28; at += 4)
        for (u32 f = 0; f < 3; f++)
            ecam_write(&r, f, at, 4, 0xffffffff);
    CHECK_EQ(ecam(&r, 0, 0x10, 4), 0xffffffc0);
    CHECK_EQ(ecam(&r, 0, 0x14, 4), 0xffffffe1);
    CHECK_EQ(ecam(&r, 0, 0x18, 4), 0xfffff000);
    CHECK_EQ(ecam(&r, 0, 0x1c, 4), 0);
    CHECK_EQ(ecam(&r, 1, 0x20, 4), 0xfff0000c);
    CHECK_EQ(ecam(&r, 1, 0x24, 4), 0xffffffff);
    r.reg[0][0] = 0x11, r.reg[1][0] = 0x22, r.reg[2][0] = 0x33;
    /* Not before decoding is on; bits of size and type do not count. */
    ecam_write(&r, 0, 0x10, 4, 0xd000003f);
    ecam_write(&r, 0, 0x14, 4, 0x2000);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0xff);
    ecam_write(&r, 0, 4, 2, 2);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0x11);
    CHECK_EQ(bus_read(r.ports, 0x2000, 1), 0xff);
    ecam_write(&r, 0, 4, 2, 1);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0xff);
    CHECK_EQ(bus_read(r.ports, 0x2000, 1), 0x11);
    /* A byte is enough to move it. */
    ecam_write(&r, 0, 0x15, 1, 0x30);
    CHECK_EQ(bus_read(r.ports, 0x2000, 1), 0xff);
    CHECK_EQ(bus_read(r.ports, 0x3000, 1), 0x11);
    /* 64 bits, above 4 GiB. */
    ecam_write(&r, 1, 0x20, 4, 0x00100000), ecam_write(&r, 1, 0x24, 4, 0x12);
    ecam_write(&r, 1, 4, 2, 2);
    CHECK_EQ(bus_read(r.mmio, 0x1200100000, 1), 0x22);
    CHECK_EQ(bus_read(r.mmio, 0x12001fffff, 1), r.reg[1][63]);
    CHECK_EQ(bus_read(r.mmio, 0x1200200000, 1), 0xff);
    rig_free(&r);
}

TEST(bars_that_cannot_be_where_they_are_put)
{
    struct rig r;
    u8 chip[64] = { 0x77 };
    rig_new(&r);
    CHECK_EQ(bus_add(r.mmio, &(struct bus_range){ 0xfec00000, 32, &reg_ops, chip, NULL, "chip" }), 0);
    r.reg[0][0] = 0x11, r.reg[2][0] = 0x33;
    ecam_write(&r, 0, 4, 2, 3), ecam_write(&r, 1, 4, 2, 2), ecam_write(&r, 2, 4, 2, 2);
    ecam_write(&r, 2, 0x10, 4, 0xd0000000);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0x33);
    ecam_write(&r, 0, 0x10, 4, 0xd0000000); /* over another: the lower devfn answers, whoever came first */
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0x11);
    CHECK_EQ(r.f[2].bar[0].at, UINT64_MAX);
    ecam_write(&r, 0, 0x10, 4, 0xfec00000); /* over a chip: nowhere, and the other is seen again */
    CHECK_EQ(bus_read(r.mmio, 0xfec00000, 1), 0x77);
    CHECK_EQ(bus_read(r.mmio, 0xfec00020, 1), 0xff);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0x33);
    CHECK_EQ(ecam(&r, 0, 0x10, 4), 0xfec00000); /* the register says what was written */
    ecam_write(&r, 0, 0x10, 4, ECAM + 0x4000);
    CHECK_EQ(r.f[0].bar[0].at, UINT64_MAX);
    CHECK_EQ(ecam(&r, 1, 0, 2), 0x1af4);
    ecam_write(&r, 0, 0x18, 4, 0xd0000000); /* its own BARs over each other, one page over 64 bytes */
    CHECK_EQ(r.f[2].bar[0].at, UINT64_MAX);
    ecam_write(&r, 0, 0x10, 4, 0xd0000040);
    CHECK_EQ(bus_read(r.mmio, 0xd0000040, 1), 0x11);
    CHECK_EQ(r.f[0].bar[2].at, UINT64_MAX);
    ecam_write(&r, 0, 0x10, 4, 0);
    CHECK_EQ(r.f[0].bar[2].at, 0xd0000000);
    ecam_write(&r, 0, 0x14, 4, 0x12345000); /* I/O beyond 64 KiB */
    CHECK_EQ(r.f[0].bar[1].at, UINT64_MAX);
    ecam_write(&r, 1, 0x20, 4, 0xffffffff), ecam_write(&r, 1, 0x24, 4, 0xffffffff); /* 2^64 - 1 MiB */
    CHECK_EQ(r.f[1].bar[4].at, UINT64_MAX);
    pci_remove(&r.f[0]);
    CHECK_EQ(bus_read(r.mmio, 0xd0000000, 1), 0x33);
    CHECK_EQ(cf8(&r, 3 << 3, 0, 4), 0xffffffff);
    rig_free(&r);
}

static void cf8_write(struct rig *r, u32 devfn, u32 at, unsigned size, u64 v)
{
    bus_write(r->ports, 0xcf8, 4, 0x80000000 | devfn << 8 | (at & 0xfc));
    bus_write(r->ports, 0xcfc + (at & 3), size, v);
}

static u8 seen(struct rig *r, u64 gpa)
{
    u8 b;
    return memory_read(r->memory, gpa, &b, 1) ? (u8)bus_read(r->mmio, gpa, 1) : b;
}

TEST(bars_that_are_memory)
{
    struct rig r;
    struct pci_function card, *f = &card;
    struct memory_piece *vram, *rom;
    struct error err = { "" };
    u8 chip[64] = { 0x77 };
    enum { CARD = 9 << 3, ROM = 0x30 };
    rig_new(&r);
    CHECK_EQ(memory_piece(r.memory, &vram, "vram", MiB(1), false, &err), 0);
    CHECK_EQ(memory_piece(r.memory, &rom, "rom", KiB(64), true, &err), 0);
    CHECK_EQ(memory_add(r.memory, "ram", MiB(1), MiB(1), false, &err), 0);
    vram->host[0] = 0xaa, rom->host[0] = 0x55;
    pci_function_init(f, "card", 0x1234, 0x1111, 1, 0x030000, 0, 0);
    pci_bar_init(f, 0, &(struct pci_bar){ .size = MiB(1), .flags = PCI_BAR_PREFETCH, .memory = vram, .name = "vram" });
    pci_bar_init(f, PCI_ROM, &(struct pci_bar){ .size = KiB(64), .memory = rom, .ops = &reg_ops, .dev = chip });
    CHECK_EQ(pci_add(r.pci, f, 9, 0, r.state, &err), 0);
    cf8_write(&r, CARD, 0x10, 4, 0xffffffff), cf8_write(&r, CARD, ROM, 4, 0xffffffff);
    CHECK_EQ(cf8(&r, CARD, 0x10, 4), 0xfff00008);
    CHECK_EQ(cf8(&r, CARD, ROM, 4), 0xffff0001);

    /* Decoding, moving; the ROM has a switch of its own, and what is written to it goes to the device. */
    cf8_write(&r, CARD, 0x10, 4, 0xd0000000), cf8_write(&r, CARD, ROM, 4, 0xd8000000);
    CHECK_EQ(seen(&r, 0xd0000000), 0xff);
    cf8_write(&r, CARD, 4, 2, 2);
    CHECK_EQ(seen(&r, 0xd0000000), 0xaa);
    CHECK_EQ(seen(&r, 0xd8000000), 0xff);
    cf8_write(&r, CARD, ROM, 4, 0xd8000001);
    CHECK_EQ(seen(&r, 0xd8000000), 0x55);
    CHECK_EQ(memory_write(r.memory, 0xd8000000, chip, 1), -EROFS);
    bus_write(r.mmio, 0xd8000000, 1, 0x99);
    CHECK_EQ(chip[0], 0x99);
    cf8_write(&r, CARD, 0x10, 4, 0xe8000000);
    CHECK_EQ(seen(&r, 0xd0000000), 0xff);
    CHECK_EQ(memory_write(r.memory, 0xe8000000, "x", 1), 0);
    CHECK_EQ(vram->host[0], 'x');

    /* Where it cannot be: over RAM, a chip, ECAM, another BAR, below 1 MiB. */
    cf8_write(&r, CARD, 0x10, 4, MiB(1));
    CHECK_EQ(f->bar[0].at, UINT64_MAX);
    CHECK_EQ(seen(&r, MiB(1)), 0);
    CHECK_EQ(bus_add(r.mmio, &(struct bus_range){ 0xfec00000, 32, &reg_ops, chip, NULL, "chip" }), 0);
    cf8_write(&r, CARD, 0x10, 4, 0xfec00000);
    CHECK_EQ(f->bar[0].at, UINT64_MAX);
    CHECK_EQ(seen(&r, 0xfec00000), 0x99);
    cf8_write(&r, CARD, 0x10, 4, ECAM);
    CHECK_EQ(f->bar[0].at, UINT64_MAX);
    cf8_write(&r, CARD, ROM, 4, 0xc0001);
    CHECK_EQ(f->bar[PCI_ROM].at, UINT64_MAX);
    cf8_write(&r, CARD, 0x10, 4, 0xd0000000), cf8_write(&r, CARD, ROM, 4, 0xd0010001);
    CHECK_EQ(seen(&r, 0xd0010000), vram->host[0x10000]);
    CHECK_EQ(f->bar[PCI_ROM].at, UINT64_MAX);

    /* Firmware gives both addresses, and leaves the ROM off; reset takes them away; so does unplugging. */
    cf8_write(&r, CARD, ROM, 4, 0);
    pci_assign(r.pci, (const u8[4]){ 0 });
    CHECK(f->bar[0].at >= 0xc0000000 && f->bar[0].at < 0xd0000000);
    CHECK_EQ(f->bar[PCI_ROM].at, UINT64_MAX);
    CHECK(cf8(&r, CARD, ROM, 4) >= 0xc0000000);
    const u32 n = r.memory->nregions;
    pci_reset(r.pci);
    CHECK_EQ(r.memory->nregions, n - 1);
    pci_assign(r.pci, (const u8[4]){ 0 });
    pci_remove(f);
    CHECK_EQ(r.memory->nregions, n - 1);
    rig_free(&r);
}

TEST(firmware_gives_addresses)
{
    static const u8 irq[4] = { 10, 11, 5, 9 };
    struct rig r;
    rig_new(&r);
    pci_assign(r.pci, irq);
    CHECK_EQ(r.f[1].bar[4].at, 0xc0000000); /* the largest first, below 4 GiB where there is room */
    CHECK_EQ(r.f[0].bar[2].at, 0xc0100000);
    CHECK_EQ(r.f[0].bar[0].at, 0xc0101000);
    CHECK_EQ(r.f[2].bar[0].at, 0xc0101040);
    CHECK_EQ(r.f[0].bar[1].at, 0x1000);
    CHECK_EQ(ecam(&r, 0, 4, 2), 3);
    CHECK_EQ(ecam(&r, 0, 0x3c, 2), 0x0109); /* slot 3, INTA: line 3 */
    CHECK_EQ(ecam(&r, 1, 0x3c, 2), 0x010a);
    struct pci_function big[3];
    struct error err;
    struct pci_bar bar = { .size = MiB(128), .flags = PCI_BAR_64, .ops = &reg_ops, .dev = r.reg[0] };
    for (u32 i = 0; i < 3; i++) {
        pci_function_init(&big[i], "big", 1, 2, 0, 0, 0, 0);
        bar.size = GiB(1) << i * 4;
        pci_bar_init(&big[i], 0, &bar);
        CHECK_EQ(pci_add(r.pci, &big[i], PCI_SLOTS, 0, NULL, &err), 0);
    }
    CHECK_EQ(big[2].devfn, 2 << 3);
    CHECK_EQ(pci_add(r.pci, &big[0], 2, 0, NULL, &err), -EEXIST);
    CHECK_EQ(pci_add(r.pci, &big[0], 32 + 1, 0, NULL, &err), -EEXIST);
    pci_reset(r.pci);
    pci_assign(r.pci, irq);
    CHECK_EQ(big[2].bar[0].at, UINT64_MAX); /* 256 GiB fit nowhere */
    CHECK_EQ(big[1].bar[0].at, GiB(32));
    CHECK_EQ(big[0].bar[0].at, GiB(48));
    CHECK_EQ(r.f[1].bar[4].at, 0xc0000000);
    for (u32 i = 0; i < 3; i++)
        pci_remove(&big[i]);
    rig_free(&r);
}

TEST(intx)
{
    struct rig r;
    rig_new(&r);
    pci_set_intx(&r.f[0], true);
    CHECK(r.line[3]);
    CHECK_EQ(ecam(&r, 0, 6, 1), 0x18);
    ecam_write(&r, 0, 4, 2, 0x400);
    CHECK(!r.line[3]);
    CHECK_EQ(ecam(&r, 0, 6, 1), 0x18); /* the status bit is there all the same */
    ecam_write(&r, 0, 4, 2, 0);
    CHECK(r.line[3]);
    ecam_write(&r, 0, 0x42, 2, 0x8000); /* MSI-X takes its place */
    CHECK(!r.line[3]);
    ecam_write(&r, 0, 0x42, 2, 0);
    CHECK(r.line[3]);
    pci_set_intx(&r.f[2], true); /* has no pin */
    pci_set_intx(&r.f[0], false);
    CHECK_EQ(ecam(&r, 0, 6, 1), 0x10);
    CHECK_EQ(r.edges, 6);
    /* Two on one line. */
    struct pci_function other;
    struct error err;
    pci_function_init(&other, "other", 1, 2, 0, 0, 0, 0);
    pci_use_intx(&other);
    CHECK_EQ(pci_add(r.pci, &other, 7, 0, NULL, &err), 0);
    pci_set_intx(&other, true);
    pci_set_intx(&r.f[0], true);
    pci_set_intx(&other, false);
    CHECK(r.line[3]);
    pci_set_intx(&other, true);
    pci_reset(r.pci);
    CHECK(!r.line[3]);
    pci_set_intx(&other, true);
    pci_remove(&other);
    CHECK(!r.line[3]);
    rig_free(&r);
}

TEST(msi)
{
    struct rig r;
    rig_new(&r);
    pci_msi_notify(&r.f[1], 0); /* not enabled */
    ecam_write(&r, 1, 0x44, 4, 0xfee01003), ecam_write(&r, 1, 0x48, 4, 1), ecam_write(&r, 1, 0x4c, 2, 0x4041);
    ecam_write(&r, 1, 0x42, 2, 0x0021); /* 4 vectors */
    CHECK(pci_msi_enabled(&r.f[1]) && !pci_bus_master(&r.f[1]));
    pci_msi_notify(&r.f[1], 3);
    CHECK_EQ(r.messages, 0);
    CHECK_EQ(ecam(&r, 1, 0x54, 4), 8);
    ecam_write(&r, 1, 4, 2, 4); /* bus master: what pended comes */
    CHECK_EQ(r.messages, 1);
    CHECK_EQ(r.address, 0x1fee01000);
    CHECK_EQ(r.data, 0x4043);
    ecam_write(&r, 1, 0x50, 4, 0xffffffff);
    CHECK_EQ(ecam(&r, 1, 0x50, 4), 0xf);
    pci_msi_notify(&r.f[1], 2);
    CHECK_EQ(ecam(&r, 1, 0x54, 4), 4);
    CHECK_EQ(r.messages, 1);
    ecam_write(&r, 1, 0x50, 1, 0xb);
    CHECK_EQ(r.messages, 2);
    CHECK_EQ(r.data, 0x4042);
    CHECK_EQ(ecam(&r, 1, 0x54, 4), 0);
    ecam_write(&r, 1, 0x50, 1, 0);
    ecam_write(&r, 1, 0x42, 2, 0x0071); /* more than offered: the 4 there are */
    pci_msi_notify(&r.f[1], 31);
    CHECK_EQ(r.data, 0x4043);
    ecam_write(&r, 1, 0x42, 2, 0x0001); /* one: all share it, and the data's low bits are software's */
    pci_msi_notify(&r.f[1], 2);
    CHECK_EQ(r.data, 0x4041);
    rig_free(&r);
}

TEST(msix)
{
    struct rig r;
    u64 t = 0xd0000000;
    rig_new(&r);
    ecam_write(&r, 0, 0x18, 4, t);
    ecam_write(&r, 0, 4, 2, 6);
    for (u32 v = 0; v < 5; v++) {
        CHECK_EQ(bus_read(r.mmio, t + v * 16 + 12, 4), 1); /* masked */
        bus_write(r.mmio, t + v * 16, 8, 0x2fee00003 + v * 0x1000);
        bus_write(r.mmio, t + v * 16 + 8, 4, 0x30 + v);
    }
    CHECK_EQ(bus_read(r.mmio, t + 16, 4), 0xfee01000);
    CHECK_EQ(bus_read(r.mmio, t + 5 * 16, 4), 0);
    bus_write(r.mmio, t + 5 * 16, 4, 1);
    CHECK_EQ(bus_read(r.mmio, t + 5 * 16, 4), 0);
    pci_msix_notify(&r.f[0], 1); /* not enabled: lost, there is INTx */
    ecam_write(&r, 0, 0x42, 2, 0xc000);
    CHECK(pci_msix_enabled(&r.f[0]));
    pci_msix_notify(&r.f[0], 1);
    pci_msix_notify(&r.f[0], 4);
    pci_msix_notify(&r.f[0], 5);
    pci_msix_notify(&r.f[0], 0xffff);
    CHECK_EQ(bus_read(r.mmio, t + 0x800, 8), 0x12);
    bus_write(r.mmio, t + 0x800, 8, 0);
    CHECK_EQ(bus_read(r.mmio, t + 0x800, 8), 0x12);
    bus_write(r.mmio, t + 16 + 12, 4, 0xfffffffe);
    CHECK_EQ(r.messages, 0); /* the function is masked yet */
    ecam_write(&r, 0, 0x43, 1, 0x80);
    CHECK_EQ(r.messages, 1);
    CHECK_EQ(r.address, 0x2fee01000);
    CHECK_EQ(r.data, 0x31);
    CHECK_EQ(bus_read(r.mmio, t + 0x800, 8), 0x10);
    CHECK_EQ(bus_read(r.mmio, t + 0x808, 8), 0);
    bus_write(r.mmio, t + 4 * 16 + 12, 4, 0);
    CHECK_EQ(r.messages, 2);
    CHECK_EQ(r.data, 0x34);
    pci_msix_notify(&r.f[0], 4);
    CHECK_EQ(r.messages, 3);
    CHECK_EQ(bus_read(r.mmio, t + 0x800, 8), 0);
    rig_free(&r);
}

TEST(state)
{
    struct rig a, b;
    struct state_buf saved = { 0 };
    struct error err = { "" };
    rig_new(&a);
    rig_new(&b);
    ecam_write(&a, 0, 0x18, 4, 0xd0000000), ecam_write(&a, 0, 4, 2, 2);
    bus_write(a.mmio, 0xd0000000, 4, 0xfee00000), bus_write(a.mmio, 0xd0000008, 4, 0x41);
    ecam_write(&a, 0, 0x42, 2, 0x8000);
    pci_msix_notify(&a.f[0], 0);
    pci_set_intx(&a.f[1], true);
    ecam_write(&a, 1, 0x42, 2, 0x20);
    bus_write(a.ports, 0xcf8, 4, 0x80001810);
    /* The machine that loads has BARs where the saved one has others. */
    ecam_write(&b, 0, 0x10, 4, 0xd0000000), ecam_write(&b, 0, 4, 2, 2);
    CHECK_EQ(state_save(a.state, &saved, &err), 0);
    CHECK_EQ(state_load(b.state, saved.data, saved.len, &err), 0);
    CHECK_EQ(b.f[0].bar[2].at, 0xd0000000);
    CHECK_EQ(b.f[0].bar[0].at, UINT64_MAX);
    CHECK_EQ(bus_read(b.mmio, 0xd0000008, 4), 0x41);
    CHECK_EQ(bus_read(b.mmio, 0xd0000800, 4), 1);
    CHECK_EQ(bus_read(b.ports, 0xcf8, 4), 0x80001810);
    CHECK(b.line[0] && !b.messages);
    CHECK_EQ(ecam(&b, 1, 6, 1), 0x18);
    ecam_write(&b, 0, 4, 2, 6), bus_write(b.mmio, 0xd000000c, 4, 0);
    CHECK_EQ(b.messages, 1);
    /* A stream cannot give a device another identity, or a capability another length. */
    for (u32 i = 0; i < 256; i++)
        a.f[0].config[i] = (u8)~a.f[0].config[i];
    struct state_buf bad = { 0 };
    CHECK_EQ(state_save(a.state, &bad, &err), 0);
    CHECK_EQ(state_load(b.state, bad.data, bad.len, &err), 0);
    CHECK_EQ(ecam(&b, 0, 0, 4), 0x10411af4);
    CHECK_EQ(ecam(&b, 0, 0x34, 1), 0x40);
    CHECK_EQ(ecam(&b, 0, 0x40, 2), 0x11);
    state_buf_free(&saved);
    state_buf_free(&bad);
    rig_free(&a);
    rig_free(&b);
}

TEST(slots_run_out)
{
    struct rig r;
    struct pci_function *more = calloc(PCI_SLOTS, sizeof *more);
    struct error err = { "" };
    int rc = 0;
    rig_new(&r);
    for (u32 i = 0; i < PCI_SLOTS && !rc; i++) {
        pci_function_init(&more[i], "more", 1, 2, 0, 0, 0, 0);
        rc = pci_add(r.pci, &more[i], PCI_SLOTS, 0, NULL, &err);
    }
    CHECK_EQ(rc, -E2BIG);
    CHECK(err.text[0]);
    CHECK_EQ(more[29].devfn, 31 << 3);
    rig_free(&r);
    free(more);
}
