/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine_virtio.c - both boards with a virtio device, from its discovery to its interrupt in a processor: MSI-X and INTx
 * through the I/O APIC and the 8259A on "pc", an I/O APIC input on "micro"; and the same machine restored.
 */
#include "machine_rig.h"
#include "virtio/virtio.h"

static struct virtio_device dev;

static void config(struct virtio_device *d, u32 offset, void *to, u32 len) { memset(to, 0x5a, len); }
static void kick(struct virtio_device *d, struct virtio_queue *q) { }
static bool reset(struct virtio_device *d) { return true; }
static const struct virtio_ops dev_ops = { .id = VIRTIO_ID_ENTROPY, .name = "thing", .config_size = 8, .config_read = config,
                                           .kick = kick, .reset = reset };

static void plug(struct rig *r)
{
    struct error err = { "" };
    virtio_init(&dev, &dev_ops, machine_memory(r->m), r->loop, 0, 1, (u16[]){ 8 });
    CHECK_EQ(machine_plug(r->m, &dev, &err), 0);
}

static u64 rd(struct rig *r, u64 gpa, unsigned size) { return ops->mmio_read(r->m, 0, gpa, size); }
static void wr(struct rig *r, u64 gpa, unsigned size, u64 v) { ops->mmio_write(r->m, 0, gpa, size, v); }

static void ioapic(struct rig *r, u32 pin, u64 entry)
{
    for (u32 i = 0; i < 2; i++) {
        wr(r, 0xfec00000, 4, 0x10 + pin * 2 + i);
        wr(r, 0xfec00010, 4, (u32)(entry >> i * 32));
    }
}

/* Processor 1's local APIC takes interrupts; what it was given. */
static void lapic_on(struct rig *r)
{
    ops->mmio_write(r->m, 1, 0xfee000f0, 4, 0x1ff);
}
static int taken(struct rig *r)
{
    int vector = r->vcpu[1]->intr ? ops->interrupt_ack(r->m, 1) : -1;
    if (vector >= 0)
        ops->mmio_write(r->m, 1, 0xfee000b0, 4, 0);
    return vector;
}

static void change(void)
{
    pthread_mutex_lock(&dev.lock);
    virtio_config_changed(&dev);
    pthread_mutex_unlock(&dev.lock);
}

enum { FUNCTION = 0xe0000000 + (2 << 15) }; /* slot 2 in ECAM */
enum { COMMON = 0, DEVICE_STATUS = 20, MSIX_CONFIG = 16, DRIVER_FEATURE_SELECT = 8, DRIVER_FEATURE = 12 };

/* Finds the capability; for 09h the virtio structure of that type. */
static u64 capability(struct rig *r, u8 id, u8 type)
{
    for (u64 at = rd(r, FUNCTION + 0x34, 1); at; at = rd(r, FUNCTION + at + 1, 1))
        if (rd(r, FUNCTION + at, 1) == id && (id != 9 || rd(r, FUNCTION + at + 3, 1) == type))
            return FUNCTION + at;
    return 0;
}

static u64 bar(struct rig *r, u64 n)
{
    u64 low = rd(r, FUNCTION + 0x10 + n * 4, 4);
    return (low & ~0xfull) | (low & 4 ? rd(r, FUNCTION + 0x14 + n * 4, 4) << 32 : 0);
}

static u64 virtio_structure(struct rig *r, u8 type)
{
    u64 cap = capability(r, 9, type);
    return bar(r, rd(r, cap + 4, 1)) + rd(r, cap + 8, 4);
}

static void driver_ok(struct rig *r, u64 common)
{
    wr(r, common + DEVICE_STATUS, 1, 3);
    wr(r, common + DRIVER_FEATURE_SELECT, 4, 1);
    wr(r, common + DRIVER_FEATURE, 4, 1); /* VERSION_1 */
    wr(r, common + DEVICE_STATUS, 1, 0xb);
    wr(r, common + DEVICE_STATUS, 1, 0xf);
    CHECK_EQ(rd(r, common + DEVICE_STATUS, 1), 0xf);
}

/* The machine goes before its devices, the loop after them. */
static void rig_free_with(struct rig *r, struct virtio_device *d, u32 n)
{
    machine_free(r->m);
    r->m = NULL;
    for (u32 i = 0; i < n; i++)
        virtio_destroy(&d[i]);
    rig_free(r);
}

TEST(pc)
{
    struct rig r;
    struct error err = { "" };
    struct state_buf saved = { 0 };

    rig_new_kind(&r, MACHINE_PC, plug);
    lapic_on(&r);
    CHECK_EQ(rd(&r, FUNCTION, 4), 0x10441af4);
    u64 msix = capability(&r, 0x11, 0), common = virtio_structure(&r, 1), isr = virtio_structure(&r, 3);
    REQUIRE(msix && common && isr);
    CHECK_EQ(rd(&r, FUNCTION + 4, 2) & 7, 2); /* decoded, as firmware leaves it; not bus master */
    CHECK_EQ(rd(&r, FUNCTION + 0x3c, 2), 0x010a);
    CHECK_EQ(in(&r, 0x4d1, 1), 1 << (10 - 8));
    wr(&r, FUNCTION + 4, 2, 6);

    /* INTA of slot 2 is PIRQB: I/O APIC input 18, and IRQ 10 of the 8259As, where PIRQRC says so. */
    ioapic(&r, 18, 1ull << 56 | 0x8000 | 0x51);
    out(&r, 0x21, 1, 0), out(&r, 0xa1, 1, 0);
    driver_ok(&r, common);
    change();
    CHECK_EQ(taken(&r), 0x51);
    CHECK(r.vcpu[0]->intr);
    CHECK_EQ(ops->interrupt_ack(r.m, 0), 0x72);
    CHECK_EQ(rd(&r, isr, 1), 2);
    CHECK_EQ(taken(&r), 0x51); /* once more: it was still asserted at the first EOI */
    CHECK_EQ(taken(&r), -1);
    out(&r, 0xa0, 1, 0x20), out(&r, 0x20, 1, 0x20);
    CHECK(!r.vcpu[0]->intr);
    out(&r, 0xcf8, 4, 0x80000860);
    CHECK_EQ(in(&r, 0xcfc, 4), 0x0a0b0a0b);
    out(&r, 0xcfd, 1, 0x80); /* PIRQB goes nowhere */
    change();
    CHECK_EQ(taken(&r), 0x51);
    CHECK(!r.vcpu[0]->intr);
    out(&r, 0xcfd, 1, 5); /* to IRQ 5 */
    CHECK_EQ(ops->interrupt_ack(r.m, 0), 0x0d);
    CHECK_EQ(rd(&r, isr, 1), 2);
    out(&r, 0x20, 1, 0x20);
    CHECK_EQ(taken(&r), 0x51);

    /* MSI-X, entry 1, to processor 1; masked it pends. */
    u64 table = bar(&r, rd(&r, msix + 4, 4) & 7);
    wr(&r, table + 16, 8, 0xfee01000);
    wr(&r, table + 24, 4, 0x61);
    wr(&r, msix + 2, 2, 0x8000);
    wr(&r, common + MSIX_CONFIG, 2, 1);
    CHECK_EQ(rd(&r, common + MSIX_CONFIG, 2), 1);
    change();
    CHECK_EQ(taken(&r), -1);
    CHECK_EQ(rd(&r, table + 0x800, 8), 2);

    /* Saved, changed and loaded: BARs where they were, the interrupt still pending. */
    CHECK_EQ(machine_before_save(r.m, &err), 0);
    CHECK_EQ(state_save(machine_state(r.m), &saved, &err), 0);
    machine_after_save(r.m);
    CHECK_EQ(machine_reset(r.m, r.boot, &err), 0);
    CHECK_EQ(rd(&r, common + DEVICE_STATUS, 1), 0);
    wr(&r, FUNCTION + 4, 2, 0);
    CHECK_EQ(rd(&r, common, 4), 0xffffffff);
    CHECK_EQ(state_load(machine_state(r.m), saved.data, saved.len, &err), 0);
    CHECK_EQ(machine_after_load(r.m, &err), 0);
    state_buf_free(&saved);
    CHECK_EQ(rd(&r, common + DEVICE_STATUS, 1), 0xf);
    CHECK_EQ(rd(&r, table + 0x800, 8), 2);
    CHECK_EQ(taken(&r), -1);
    wr(&r, table + 28, 4, 0);
    CHECK_EQ(taken(&r), 0x61);
    CHECK_EQ(rd(&r, table + 0x800, 8), 0);
    change();
    CHECK_EQ(taken(&r), 0x61);
    CHECK(!r.vcpu[0]->intr);
    rig_free_with(&r, &dev, 1);
}

TEST(micro)
{
    enum { REGS = 0xc0000000, STATUS = 0x70, INTERRUPT_STATUS = 0x60, INTERRUPT_ACK = 0x64 };
    struct rig r;

    rig_new_kind(&r, MACHINE_MICRO, plug);
    lapic_on(&r);
    CHECK_EQ(rd(&r, REGS, 4), 0x74726976);
    CHECK_EQ(rd(&r, REGS + 8, 4), VIRTIO_ID_ENTROPY);
    CHECK_EQ(rd(&r, REGS + 0x1000, 4), 0xffffffff);
    ioapic(&r, 8, 1ull << 56 | 0x8000 | 0x52);
    wr(&r, REGS + STATUS, 4, 3);
    wr(&r, REGS + 0x24, 4, 1), wr(&r, REGS + 0x20, 4, 1);
    wr(&r, REGS + STATUS, 4, 0xb), wr(&r, REGS + STATUS, 4, 0xf);
    change();
    CHECK_EQ(r.vcpu[1]->intr, 1);
    CHECK_EQ(rd(&r, REGS + INTERRUPT_STATUS, 4), 2);
    wr(&r, REGS + INTERRUPT_ACK, 4, 2);
    CHECK_EQ(taken(&r), 0x52);
    CHECK_EQ(taken(&r), -1);
    /* What it has not. */
    static const u16 nothing[] = { 0x20, 0x40, 0x61, 0x64, 0x70, 0x92, 0xa1, 0x2f8, 0x4d0, 0x604, 0xcf8, 0xcfc, 0x510 };
    for (u32 i = 0; i < ARRAY_SIZE(nothing); i++)
        CHECK_EQ(in(&r, nothing[i], 1), 0xff);
    CHECK_EQ(in(&r, 0x3fd, 1), 0x60);
    CHECK_EQ(rd(&r, 0xe0000000, 4), 0xffffffff);
    CHECK_EQ(rd(&r, 0xfed00000, 4), 0xffffffff);
    out(&r, 0x600, 1, 0x20); /* SLP_EN of another state */
    CHECK_EQ(r.events[MACHINE_POWER_OFF], 0);
    out(&r, 0x600, 1, 0x20 | 5 << 2);
    CHECK_EQ(r.events[MACHINE_POWER_OFF], 1);
    out(&r, 0x602, 1, 1);
    CHECK_EQ(r.events[MACHINE_RESET], 1);
    rig_free_with(&r, &dev, 1);
}

static struct virtio_device many[MACHINE_MAX_VIRTIO + 1];

static void plug_many(struct rig *r)
{
    for (u32 i = 0; i <= MACHINE_MAX_VIRTIO; i++) {
        struct error err = { "" };
        virtio_init(&many[i], &dev_ops, machine_memory(r->m), r->loop, 0, 1, (u16[]){ 8 });
        CHECK_EQ(!machine_plug(r->m, &many[i], &err), i < MACHINE_MAX_VIRTIO);
        CHECK_EQ(err.text[0] != 0, i == MACHINE_MAX_VIRTIO);
    }
}

TEST(as_many_as_there_is_room_for)
{
    for (int kind = MACHINE_PC; kind <= MACHINE_MICRO; kind++) {
        struct rig r;
        rig_new_kind(&r, (enum machine_kind)kind, plug_many);
        if (kind == MACHINE_MICRO)
            CHECK_EQ(rd(&r, 0xc000f000, 4), 0x74726976);
        else
            CHECK_EQ(rd(&r, FUNCTION + (15 << 15), 4), 0x10441af4);
        rig_free_with(&r, many, ARRAY_SIZE(many));
    }
}
