/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices_hammer.c - every register of every chip, with random values, sizes and moments: nothing may crash, hang or
 * run out of bounds (run it under -Db_sanitize=address,undefined).  At times the state is saved and loaded back, once
 * as it is and once with a bit turned over; then it must load or be refused, and go on.
 */
#include <stdlib.h>

#include "devices/acpi_pm.h"
#include "devices/fdc.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8237.h"
#include "devices/i8254.h"
#include "devices/lpt.h"
#include "devices/mc146818.h"
#include "devices/port92.h"
#include "devices/testdev.h"
#include "devices/uart16550.h"
#include "fake_block.h"
#include "irq_bench.h"

enum { STEPS = 400000 };

struct machine {
    struct bench irq;
    struct uart uart;
    struct i8254 pit;
    struct mc146818 rtc;
    struct i8042 kbd;
    struct port92 port92;
    struct acpi_pm pm;
    struct testdev testdev;
    struct hpet hpet;
    struct i8237 dma;
    struct fdc fdc;
    struct block disk[FDC_DRIVES];
    struct lpt lpt;
    struct state_list *state;
};

struct target {
    const struct bus_ops *ops;
    void *dev;
    u64 size;
};

static u64 seed = 0x123456789abcdef;
static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
/* Values that mean something more often than chance would have it. */
static u64 value(void)
{
    switch (rnd() & 3) {
    case 0:
        return rnd();
    case 1:
        return BIT(rnd() & 63);
    case 2:
        return rnd() & 0xff;
    default:
        return rnd() & 1 ? UINT64_MAX : 0;
    }
}

static void tx(void *ctx, const u8 *data, size_t len) {}
static void nothing(void *ctx) {}
static void reset(void *ctx, enum reset_kind kind) {}
static void exited(void *ctx, int status) {}
static u64 wall(void) { return 1700000000000000000ull + fake_now; }

static bool print(void *ctx, u8 byte) { return rnd() & 1; }

static struct memory *memory(void)
{
    static struct memory *m;
    struct error err;

    if (!m) {
        m = memory_new(&err);
        CHECK_EQ(memory_add(m, "ram", 0, 0xa0000, false, &err), 0);
    }
    return m;
}

static struct machine *build(void)
{
    struct machine *m = calloc(1, sizeof(*m));
    struct irq_line line = { gsi_set, &m->irq.gsi, 0 };
    struct uart_config uart = { .irq = { gsi_set, &m->irq.gsi, 4 }, .loop = (struct loop *)m, .tx = tx, .can_receive = nothing };
    struct i8042_config kbd = { .irq_keyboard = { gsi_set, &m->irq.gsi, 1 }, .irq_mouse = { gsi_set, &m->irq.gsi, 12 },
                                .a20 = port92_keyboard_a20, .reset = reset, .ctx = &m->port92 };
    struct acpi_pm_config pm = { NULL, { gsi_set, &m->irq.gsi, 9 }, nothing, reset, NULL };
    struct testdev_config td = { exited, NULL, NULL, { gsi_set, &m->irq.gsi, 0 } };
    int r = 0;

    bench_open(&m->irq);
    uart_init(&m->uart, &uart);
    hpet_init(&m->hpet, NULL, &line, true);
    line = (struct irq_line){ hpet_input, &m->hpet, 0 };
    i8254_init(&m->pit, NULL, &line);
    line.pin = 1;
    mc146818_init(&m->rtc, NULL, &line);
    m->rtc.wall_ns = wall;
    port92_init(&m->port92, NULL, reset, NULL);
    i8042_init(&m->kbd, &kbd);
    acpi_pm_init(&m->pm, &pm);
    testdev_init(&m->testdev, &td);
    i8237_init(&m->dma, memory());
    fdc_init(&m->fdc, &(struct fdc_config){ NULL, &m->dma, { gsi_set, &m->irq.gsi, 6 } });
    for (u32 i = 0; i < FDC_DRIVES; i++) {
        struct error err;
        fdc_plug(&m->fdc, i, FDC_360K);
        m->disk[i] = fake_block(160 * 1024);
        m->disk[i].readonly = i;
        CHECK_EQ(fdc_insert(&m->fdc, i, &m->disk[i], &err), 0);
    }
    lpt_init(&m->lpt, &(struct lpt_config){ { gsi_set, &m->irq.gsi, 7 }, print, NULL });
    m->state = state_list_new();
    r |= state_add(m->state, &pic_state, 0, &m->irq.pic);
    r |= ioapic_add_state(&m->irq.ioapic, m->state);
    r |= lapic_add_state(m->irq.lapic, m->state);
    r |= state_add(m->state, &uart_state, 0, &m->uart);
    r |= i8254_add_state(&m->pit, m->state);
    r |= state_add(m->state, &mc146818_state, 0, &m->rtc);
    r |= state_add(m->state, &i8042_state, 0, &m->kbd);
    r |= state_add(m->state, &port92_state, 0, &m->port92);
    r |= state_add(m->state, &acpi_pm_state, 0, &m->pm);
    r |= state_add(m->state, &hpet_state, 0, &m->hpet);
    r |= state_add(m->state, &i8237_state, 0, &m->dma);
    r |= state_add(m->state, &fdc_state, 0, &m->fdc);
    r |= state_add(m->state, &lpt_state, 0, &m->lpt);
    CHECK_EQ(r, 0);
    return m;
}

static void scrap(struct machine *m)
{
    state_list_free(m->state);
    uart_destroy(&m->uart);
    i8254_destroy(&m->pit);
    mc146818_destroy(&m->rtc);
    i8042_destroy(&m->kbd);
    port92_destroy(&m->port92);
    acpi_pm_destroy(&m->pm);
    testdev_destroy(&m->testdev);
    hpet_destroy(&m->hpet);
    for (u32 i = 0; i < FDC_DRIVES; i++) {
        fdc_eject(&m->fdc, i);
        free(m->disk[i].data);
    }
    fdc_destroy(&m->fdc);
    i8237_destroy(&m->dma);
    lpt_destroy(&m->lpt);
    bench_close(&m->irq);
    free(m);
}

static void access_one(const struct target *t)
{
    unsigned size = 1u << (rnd() & 3), min = t->ops->min_size, max = t->ops->max_size;
    u64 offset;

    size = size < min ? min : size > max ? max : size;
    if (size > t->size)
        size = 1;
    offset = rnd() % (t->size - size + 1);
    if (rnd() & 1)
        t->ops->write(t->dev, offset, size, size == 8 ? value() : value() & (BIT(size * 8) - 1));
    else
        t->ops->read(t->dev, offset, size);
}

static void access_lapic(struct bench *b)
{
    u32 vcpu = rnd() % BENCH_CPUS, msr = (rnd() & 7) ? 0x800 + (rnd() & 0x3f) : rnd() & 1 ? 0x1b : 0x6e0;
    u64 v = value();

    if (msr == 0x1b) /* let it be in some mode more often than not */
        v = (v & 0xfff) | LAPIC_DEFAULT_BASE;
    switch (rnd() & 7) {
    case 0:
        bench_rdmsr(b, vcpu, msr);
        break;
    case 1:
    case 2:
        bench_wrmsr(b, vcpu, msr, v);
        break;
    case 3:
        lapic_mmio_read(b->lapic, vcpu, rnd() & 0xfff, 1u << (rnd() & 3));
        break;
    case 4:
    case 5:
        lapic_mmio_write(b->lapic, vcpu, rnd() & 0xff0, 4, v);
        break;
    case 6:
        lapic_msi(b->lapic, rnd() & 1 ? v : LAPIC_DEFAULT_BASE | (v & 0xfffff), (u32)rnd());
        break;
    default:
        lapic_cr8_write(b->lapic, vcpu, (u8)v);
        break;
    }
}

/* A command as a driver might give it, or nearly; what its disk does; a change of disks. */
static void floppy(struct machine *m)
{
    static const u8 commands[] = { 0xe6, 0xc5, 0x46, 0x45, 0x4d, 0x42, 0x56, 0x51, 0x59, 0x5d, 0x4c, 0x49, 0x0f, 0x07, 0x08,
                                   0x4a, 0x03, 0x13, 0x0e };
    struct error err;
    u32 n = rnd() % FDC_DRIVES;

    switch (rnd() % 6) {
    case 0 ... 2:
        fdc_ops.write(&m->fdc, 0, 1, 0x1c | (rnd() & 1));
        for (u32 i = 0; i < 10 && (fdc_ops.read(&m->fdc, 2, 1) & 0xc0) == 0xc0; i++)
            fdc_ops.read(&m->fdc, 3, 1);
        for (u32 i = 0; i < 9; i++)
            fdc_ops.write(&m->fdc, 3, 1, !i ? commands[rnd() % sizeof commands] : i == 5 ? 2 : rnd() & 1 ? rnd() % 10 : rnd() & 1);
        break;
    case 3:
        i8237_ops.write(&m->dma.controller[0], 0x0b, 1, (rnd() & 1 ? 0x46 : 0x4a) | (rnd() & 0x30));
        i8237_ops.write(&m->dma.controller[0], 0x0a, 1, 2);
        break;
    case 4:
        fake_run_posts();
        fake_block_finish(&m->disk[n]);
        break;
    default:
        if (rnd() % 8)
            fdc_settle(&m->fdc);
        else if (!fdc_eject(&m->fdc, n))
            CHECK_EQ(fdc_insert(&m->fdc, n, &m->disk[n], &err), 0);
        break;
    }
}

static void machine_step(struct machine *m)
{
    const struct target t[] = {
        { &pic_ops, &m->irq.pic.port[0], 2 },
        { &pic_ops, &m->irq.pic.port[1], 2 },
        { &pic_elcr_ops, &m->irq.pic, 2 },
        { &ioapic_ops, &m->irq.ioapic, 0x40 },
        { &uart_ops, &m->uart, 8 },
        { &i8254_ops, &m->pit, 4 },
        { &i8254_port61, &m->pit, 1 },
        { &mc146818_ops, &m->rtc, 4 },
        { &i8042_data_ops, &m->kbd, 1 },
        { &i8042_command_ops, &m->kbd, 1 },
        { &port92_ops, &m->port92, 1 },
        { &acpi_pm_ops, &m->pm, ACPI_PM_SIZE },
        { &acpi_smi_ops, &m->pm, 2 },
        { &acpi_reset_ops, &m->pm, 1 },
        { &testdev_io_ops, &m->testdev, 8 },
        { &testdev_irq_ops, &m->testdev, 24 },
        { &testdev_iomem_ops, &m->testdev, TESTDEV_IOMEM_SIZE },
        { &testdev_exit_ops, &m->testdev, 4 },
        { &hpet_ops, &m->hpet, 0x180 },
        { &i8237_ops, &m->dma.controller[0], 16 },
        { &i8237_ops2, &m->dma.controller[1], 32 },
        { &i8237_page_ops, &m->dma, 16 },
        { &fdc_ops, &m->fdc, 4 },
        { &fdc_dir_ops, &m->fdc, 1 },
        { &lpt_ops, &m->lpt, 3 },
        { &hpet_ops, &m->hpet, 0x180 },
    };
    u8 bytes[20];

    switch (rnd() % 20) {
    case 0:
        for (unsigned i = 0; i < sizeof(bytes); i++)
            bytes[i] = (u8)rnd();
        uart_receive(&m->uart, bytes, rnd() % sizeof(bytes));
        m->kbd.sink.ops->key(&m->kbd, (u16)(rnd() % 300), rnd() & 1);
        m->kbd.sink.ops->relative(&m->kbd, (s32)value(), (s32)value(), (s32)value(), (u8)rnd());
        acpi_pm_gpe(&m->pm, rnd() % 32);
        break;
    case 1:
        /* Time passes, a little or much; how often timers fire is bounded. */
        CHECK(fake_advance_late(rnd() % 3000000, rnd() % 100000) < 400);
        if (rnd() % 64 == 0)
            fake_now += value() % 1000000000000;
        break;
    case 2:
        if (fake_posts > FAKE_POSTS / 2)
            fake_run_posts();
        bench_pending(&m->irq);
        lapic_ack(m->irq.lapic, rnd() % BENCH_CPUS);
        break;
    case 3 ... 7:
        access_lapic(&m->irq);
        break;
    case 8:
        floppy(m);
        break;
    default:
        access_one(&t[rnd() % ARRAY_SIZE(t)]);
        break;
    }
}

TEST(hammer)
{
    struct machine *m = build(), *other;
    struct error err;
    unsigned accepted = 0, refused = 0;

    seed = test_seed(seed);
    for (unsigned i = 0; i < STEPS; i++) {
        struct state_buf one = { 0 }, two = { 0 };

        machine_step(m);
        if (i % 500)
            continue;
        /* Whatever state a guest can bring about can be saved, and loads into another machine as it was. */
        fake_run_posts();
        fdc_settle(&m->fdc);
        CHECK_EQ(state_save(m->state, &one, &err), 0);
        other = build();
        if (state_load(other->state, one.data, one.len, &err) != 0)
            CHECK_STR(err.text, "no error");
        CHECK_EQ(state_save(other->state, &two, &err), 0);
        CHECK(one.len == two.len);
        if (one.len)
            one.data[rnd() % one.len] ^= (u8)(1u << (rnd() & 7));
        scrap(m);
        m = other;
        if (rnd() % 2 == 0) { /* a hostile stream */
            other = build();
            if (state_load(other->state, one.data, one.len, &err) == 0)
                accepted++;
            else
                refused++;
            for (unsigned n = 0; n < 500; n++)
                machine_step(other);
            fake_run_posts();
            scrap(other);
        }
        state_buf_free(&one);
        state_buf_free(&two);
    }
    fake_run_posts();
    scrap(m);
    printf("%u altered streams loaded, %u refused\n", accepted, refused);
}
