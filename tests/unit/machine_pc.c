/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_pc.c - the board with an engine that runs nothing: reset, what answers where, interrupts on their way to a
 * processor, the events that end a run, and random accesses everywhere.
 */
#define RIG_VGA true
#include "machine_rig.h"

TEST(reset_state)
{
    struct rig r;
    rig_new(&r);
    CHECK_EQ(r.vcpu[0]->state.rip, 0x100020);
    CHECK_EQ(r.vcpu[0]->state.gpr[RAX], 0x2badb002);
    CHECK_EQ(r.vcpu[0]->state.activity, CPU_RUNNING);
    CHECK_EQ(r.vcpu[1]->state.activity, CPU_WAIT_SIPI);
    CHECK_EQ(r.vcpu[1]->state.mtrr_def_type, 0x806);
    rig_free(&r);
}

/* As a BIOS leaves it, however a guest left it before: docs/devices.md, "Without a firmware". */
TEST(left_by_firmware)
{
    static const struct { u16 port; u8 mask, value; } table[] = {
        { 0x21, 0xff, 0xb8 }, { 0xa1, 0xff, 0x8e }, { 0x4d0, 0xff, 0 }, { 0x4d1, 0xff, 0 }, { 0x61, 0x0f, 0 }, { 0x92, 3, 2 },
        { 0x64, 0x0f, 0x0c }, { 0x3f2, 0xff, 0x0c }, { 0x3f4, 0xff, 0x80 }, { 0x3f9, 0xff, 0 }, { 0x3fb, 0xff, 0 },
        { 0x3fd, 0xff, 0x60 }, { 0x37a, 0x0f, 0x0c }, { 0x0f, 0x0f, 0x0f }, { 0xde, 0x0f, 0x0e }, { 0x604, 0xff, 0 },
    };
    static const u8 pit[3] = { 0xb6, 0x94, 0xb6 };
    struct error err;
    struct rig r;

    rig_new(&r);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
            if ((in(&r, table[i].port, 1) & table[i].mask) != table[i].value)
                printf("port %xh:\n", table[i].port);
            CHECK_EQ(in(&r, table[i].port, 1) & table[i].mask, table[i].value);
        }
        for (u16 i = 0; i < 3; i++) {
            out(&r, 0x43, 1, 0xe0 | 2u << i);
            CHECK_EQ(in(&r, 0x40 + i, 1), pit[i]);
        }
        out(&r, 0x20, 1, 0x11), out(&r, 0x21, 1, 0x20), out(&r, 0x21, 1, 4), out(&r, 0x21, 1, 1), out(&r, 0x21, 1, 0xff);
        out(&r, 0x43, 1, 0x30), out(&r, 0x43, 1, 0x70), out(&r, 0x43, 1, 0xb0);
        out(&r, 0x61, 1, 3), out(&r, 0x3f2, 1, 0), out(&r, 0x3f9, 1, 0xf), out(&r, 0x3fb, 1, 0x83), out(&r, 0x37a, 1, 0);
        out(&r, 0x64, 1, 0x60), out(&r, 0x60, 1, 0x30);
        CHECK_EQ(machine_reset(r.m, r.boot, &err), 0);
    }
    rig_free(&r);
}

TEST(what_answers_where)
{
    struct rig r;
    rig_new(&r);
    CHECK_EQ(in(&r, 0x3fd, 1), 0x60); /* LSR of an idle UART */
    CHECK_EQ(in(&r, 0x2ed, 1), 0x60);
    CHECK_EQ(in(&r, 0x8fff, 1), 0xff); /* nobody */
    out(&r, 0x81, 1, 0x5a);             /* a DMA page register */
    CHECK_EQ(in(&r, 0x81, 1), 0x5a);
    CHECK_EQ(in(&r, 0x3f4, 1), 0x80);   /* the floppy controller, ready for a command */
    CHECK_EQ(in(&r, 0x1234, 4), 0xffffffff);
    out(&r, 0xcf8, 4, 0x80000600); /* a PCI address whose second byte would reset the machine at CF9h */
    CHECK_EQ(in(&r, 0xcf8, 4), 0x80000600);
    CHECK_EQ(in(&r, 0xcfc, 4), 0xffffffff);
    CHECK_EQ(r.events[MACHINE_RESET], 0);
    out(&r, 0xcf8, 4, 0x80000b40);
    CHECK_EQ(in(&r, 0xcfc, 4), 0x601);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xe0000000, 4), 0x12378086);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xe0008000, 4), 0x70008086);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xe000b000, 4), 0x71138086);
    char signature[5] = "";
    out(&r, 0x510, 2, 0);
    for (int i = 0; i < 4; i++)
        signature[i] = (char)in(&r, 0x511, 1);
    CHECK_STR(signature, "QEMU");
    out(&r, 0x510, 2, 5);
    CHECK_EQ(in(&r, 0x511, 1), 2); /* processors */
    CHECK_EQ(in(&r, 0x511, 1), 0);
    CHECK_EQ(in(&r, 0x511, 1), 0); /* past the end */
    out(&r, 0x510, 2, 0x7fff);
    CHECK_EQ(in(&r, 0x511, 1), 0);
    CHECK_EQ(ops->mmio_read(r.m, 1, 0xfee00020, 4), 1 << 24); /* the local APIC of the vCPU that asks */
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xfee00020, 4), 0);
    ops->mmio_write(r.m, 0, 0xfec00000, 4, 1);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xfec00010, 4) >> 16, 23); /* I/O APIC: redirection entries less one */
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xd0000000, 8), UINT64_MAX);
    CHECK_EQ(ops->mmio_read(r.m, 0, UINT64_MAX - 3, 4), 0xffffffff);
    rig_free(&r);
}

/* The graphics adapter: its legacy ports and window, its BARs where they were put; memory where that is a plain view. */
TEST(vga)
{
    struct rig r;
    struct memory_region region;
    rig_new(&r);
    struct memory *memory = machine_memory(r.m);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xe0010000, 4), 0x11111234);
    CHECK_EQ(ops->mmio_read(r.m, 0, 0xe0010004, 2) & 3, 3);
    const u64 vram = ops->mmio_read(r.m, 0, 0xe0010010, 4) & ~15ull, mmio = ops->mmio_read(r.m, 0, 0xe0010018, 4);
    CHECK(memory_lookup(memory, vram, &region) && region.gpa == vram && region.size == MiB(16) && !region.readonly);
    CHECK_EQ(ops->mmio_read(r.m, 0, mmio + 0x500, 2), 0xb0c5);
    CHECK(!memory_lookup(memory, 0xa0000, &region));
    out(&r, 0x1ce, 2, 3), out(&r, 0x1cf, 2, 32); /* 32 bits, any size, bank 2 */
    out(&r, 0x1ce, 2, 4), out(&r, 0x1cf, 2, 1);
    out(&r, 0x1ce, 2, 5), out(&r, 0x1cf, 2, 2);
    out(&r, 0x3c2, 1, 0x63);
    CHECK_EQ(in(&r, 0x3cc, 1), 0x63);
    u32 v = 0x12345678;
    CHECK_EQ(memory_write(memory, 0xa0010, &v, 4), 0);
    v = 0;
    CHECK_EQ(memory_read(memory, vram + 0x20010, &v, 4), 0);
    CHECK_EQ(v, 0x12345678);
    struct error err;
    CHECK_EQ(machine_reset(r.m, r.boot, &err), 0);
    CHECK(!memory_lookup(memory, 0xa0000, &region));
    CHECK_EQ(memory_read(memory, vram + 0x20010, &v, 4), 0);
    CHECK_EQ(v, 0);
    rig_free(&r);
}

/* A device that is reset ends first what it has under way, which may be a read to where the kernel will be. */
static void late_dma(struct device *d)
{
    struct rig *r = d->dev;
    CHECK_EQ(memory_write(machine_memory(r->m), 0x100000, "late data", 9), 0);
}

static void plug_late_dma(struct rig *r)
{
    static const struct device_class class = { .kind = DEVICE_OTHER, .name = "late", .reset = late_dma };
    static struct device late;

    late = (struct device){ .class = &class, .env = &r->env, .dev = r };
    CHECK_EQ(machine_add_device(r->m, &late, NULL), 0);
}

TEST(kernel_after_devices_dma)
{
    struct rig r;
    u32 first = 0;
    rig_new_kind(&r, MACHINE_PC, plug_late_dma);
    CHECK_EQ(memory_read(machine_memory(r.m), 0x100000, &first, sizeof first), 0);
    CHECK_EQ(first, 0x1badb002);
    rig_free(&r);
}

TEST(events)
{
    struct rig r;
    rig_new(&r);
    out(&r, 0x604, 2, 0x2000); /* SLP_EN, S5 */
    CHECK_EQ(r.events[MACHINE_POWER_OFF], 1);
    out(&r, 0xcf9, 1, 6);
    out(&r, 0x64, 1, 0xfe);
    out(&r, 0x92, 1, 1);
    CHECK_EQ(r.events[MACHINE_RESET], 3);
    out(&r, 0xf4, 1, 21);
    CHECK_EQ(r.events[MACHINE_DEBUG_EXIT], 1);
    CHECK_EQ(r.status, 43);
    rig_free(&r);
}

/* The test device's line 5, through the 8259A as a BIOS left it: vector 0Dh; COM1 and COM3 on one line. */
TEST(interrupts)
{
    struct rig r;
    rig_new(&r);
    CHECK(!r.vcpu[0]->intr);
    out(&r, 0x21, 1, 0);
    out(&r, 0x2005, 4, 1);
    CHECK(r.vcpu[0]->intr && !r.vcpu[1]->intr);
    CHECK_EQ(ops->interrupt_ack(r.m, 0), 0x0d);
    out(&r, 0x2005, 4, 0);
    out(&r, 0x20, 1, 0x20);
    CHECK(!r.vcpu[0]->intr);
    CHECK_EQ(in(&r, 0x4d1, 1), 0); /* no PCI function has an interrupt: none is level-triggered */
    for (int port = 0x3f8; port >= 0x3e8; port -= 0x10) { /* transmitter-empty interrupts of both */
        out(&r, (u16)(port + 4), 1, 8);
        out(&r, (u16)(port + 1), 1, 2);
    }
    CHECK_EQ(ops->interrupt_ack(r.m, 0), 0x0c);
    out(&r, 0x20, 1, 0x20);
    /* INIT and SIPI to the other processor */
    ops->mmio_write(r.m, 0, 0xfee00310, 4, 1 << 24);
    ops->mmio_write(r.m, 0, 0xfee00300, 4, 0x4500);
    ops->mmio_write(r.m, 0, 0xfee00300, 4, 0x4609);
    CHECK_EQ(r.vcpu[1]->init, 1);
    CHECK_EQ(r.vcpu[1]->sipi, 9);
    rig_free(&r);
}

/* Registers and all: save, disturb, load. */
TEST(state)
{
    struct rig r;
    struct state_buf a = { 0 }, b = { 0 };
    struct error err = { "" };
    rig_new(&r);
    out(&r, 0x3ff, 1, 0x5a);
    out(&r, 0x70, 1, 0x40);
    out(&r, 0x71, 1, 0x77);
    out(&r, 0x21, 1, 0xa5);
    CHECK_EQ(machine_before_save(r.m, &err), 0);
    CHECK_EQ(state_save(machine_state(r.m), &a, &err), 0);
    CHECK_EQ(machine_reset(r.m, r.boot, &err), 0);
    out(&r, 0x71, 1, 0);
    CHECK_EQ(state_load(machine_state(r.m), a.data, a.len, &err), 0);
    CHECK_EQ(machine_after_load(r.m, &err), 0);
    CHECK_EQ(in(&r, 0x3ff, 1), 0x5a);
    CHECK_EQ(in(&r, 0x71, 1), 0x77);
    CHECK_EQ(in(&r, 0x21, 1), 0xa5);
    CHECK_EQ(state_save(machine_state(r.m), &b, &err), 0);
    CHECK_EQ(a.len, b.len);
    a.data[a.len / 2] ^= 0xff; /* damaged: an error or a machine, not a crash */
    (void)!state_load(machine_state(r.m), a.data, a.len, &err);
    CHECK(state_load(machine_state(r.m), a.data, a.len / 2, &err) != 0);
    state_buf_free(&a);
    state_buf_free(&b);
    rig_free(&r);
}

TEST(hammer)
{
    struct rig r;
    u64 x = 88172645463325252;
    rig_new(&r);
    for (int i = 0; i < 300000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        unsigned size = 1u << (x >> 60 & 3);
        u64 v = x * 0x9e3779b97f4a7c15ull;
        u16 port = (u16)(x & 8 ? x >> 16 & 0xfff : x >> 16);
        u64 base[] = { 0xfee00000, 0xfec00000, 0xff000000, 0xa0000, x, 0xfed00000, 0xe0008000, 0xc0000000 };
        u64 gpa = base[x >> 8 & 7] + (x >> 32 & 0xfff);
        u64 value;
        switch (x & 7) {
        case 0: case 1: (void)in(&r, port, size > 4 ? 4 : size); break;
        case 2: case 3: out(&r, port, size > 4 ? 4 : size, v); break;
        case 4: (void)ops->mmio_read(r.m, (u32)(x >> 20 & 1), gpa, size); break;
        case 5: ops->mmio_write(r.m, (u32)(x >> 20 & 1), gpa, size, v); break;
        case 6: (void)!ops->msr_read(r.m, (u32)(x >> 20 & 1), 0x800 + (u32)(x >> 24 & 0xff), &value); break;
        case 7:
            (void)!ops->msr_write(r.m, (u32)(x >> 20 & 1),
                                  x & 16 ? 0x800 + (u32)(x >> 24 & 0xff) : 0x4b564d00 + (u32)(x >> 24 & 3), v);
            break;
        }
        if (i % 5000 == 0)
            (void)ops->interrupt_ack(r.m, 0);
    }
    struct error err = { "" };
    CHECK_EQ(machine_reset(r.m, r.boot, &err), 0);
    rig_free(&r);
}

TEST(bad_configurations)
{
    struct rig r = { 0 };
    struct error err = { "" };
    r.loop = loop_new();
    r.cpuid = (struct cpuid_table){ .cpus = 65, .tsc_khz = 1, .phys_bits = 40 };
    struct machine_config c = { .ram = MiB(8), .cpuid = &r.cpuid, .loop = r.loop, .event = on_event };
    CHECK(!machine_new(&c, &err) && err.text[0]);
    r.cpuid.cpus = 1;
    c.ram = 4096;
    CHECK(!machine_new(&c, &err));
    err.text[0] = 0;
    c.ram = 1ull << 50;
    CHECK(!machine_new(&c, &err) && err.text[0]);
    loop_free(r.loop);
}
