/* SPDX-License-Identifier: Apache-2.0 */
/* devices_acpi_pm.c - ACPI fixed hardware (ACPI 6.5 ch. 4.8), the reset control register, and the test devices. */
#include "devices/acpi_pm.h"

#include <stdlib.h>

#include "devices/testdev.h"
#include "fake_loop.h"
#include "test.h"

static bool sci;
static unsigned offs, inits, hards;
static void set_sci(void *chip, u32 pin, bool level) { sci = level; }
static void power_off(void *ctx) { offs++; }
static void reset(void *ctx, enum reset_kind kind) { *(kind == RESET_HARD ? &hards : &inits) += 1; }

static void setup(struct acpi_pm *p)
{
    struct acpi_pm_config c = { .sci = { set_sci, NULL, 9 }, .power_off = power_off, .reset = reset };

    sci = false;
    offs = inits = hards = 0;
    acpi_pm_init(p, &c);
}
static void out(struct acpi_pm *p, u64 r, unsigned size, u64 v) { acpi_pm_ops.write(p, r, size, v); }
static u64 in(struct acpi_pm *p, u64 r, unsigned size) { return acpi_pm_ops.read(p, r, size); }

TEST(power_button)
{
    struct acpi_pm p;

    setup(&p);
    CHECK(!acpi_pm_power_button(&p)); /* nobody listens */
    CHECK_EQ(in(&p, 0, 2), 0x100);
    out(&p, 2, 2, 0x100);
    CHECK(!sci); /* not in ACPI mode */
    acpi_smi_ops.write(&p, 0, 1, ACPI_ENABLE);
    CHECK_EQ(in(&p, 4, 2), 1);
    CHECK(sci);
    out(&p, 0, 2, 0x100);
    CHECK(!sci);
    CHECK_EQ(in(&p, 0, 4), 0x01000000);
    CHECK(acpi_pm_power_button(&p));
    CHECK(sci);
    CHECK_EQ(in(&p, 1, 1), 1);
    out(&p, 1, 1, 1); /* by bytes too */
    CHECK(!sci);
    acpi_smi_ops.write(&p, 0, 1, ACPI_DISABLE);
    CHECK_EQ(in(&p, 4, 2), 0);
    CHECK_EQ(acpi_smi_ops.read(&p, 0, 1), ACPI_DISABLE);
    acpi_smi_ops.write(&p, 1, 1, 0x42);
    CHECK_EQ(acpi_smi_ops.read(&p, 1, 1), 0x42);
    acpi_pm_destroy(&p);
}

TEST(power_off)
{
    static const struct { u64 reg; unsigned size; u64 value; unsigned off; } table[] = {
        { 4, 2, 0x2000, 1 }, { 4, 2, 0x2001, 1 }, { 4, 2, 0x3400, 0 }, { 4, 2, 0x0000, 0 }, { 5, 1, 0x20, 1 },
        { 4, 4, 0x2000, 1 }, { 2, 4, 0x20000000, 1 }, { 2, 2, 0x2000, 0 }, { 3, 2, 0x2000, 0 },
    };
    struct acpi_pm p;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&p);
        out(&p, table[i].reg, table[i].size, table[i].value);
        CHECK_EQ(offs, table[i].off);
        CHECK_EQ(in(&p, 4, 2) & 0x2000, 0);
        acpi_pm_destroy(&p);
    }
}

TEST(timer)
{
    struct acpi_pm p;

    setup(&p);
    CHECK_EQ(in(&p, 8, 4), 0);
    fake_advance(1000000000);
    CHECK_EQ(in(&p, 8, 4), 3579545);
    fake_advance(599000000000);
    CHECK_EQ(in(&p, 8, 4), 3579545ull * 600);
    CHECK_EQ(in(&p, 0, 2), 1); /* bit 31 has changed: TMR_STS */
    out(&p, 0, 2, 1);
    CHECK_EQ(in(&p, 0, 2), 0);
    out(&p, 4, 2, 1);
    out(&p, 2, 2, 1);
    fake_advance(599000000000);
    CHECK(!sci);
    CHECK_EQ(fake_advance(1000000000), 1);
    CHECK(sci);
    CHECK_EQ(in(&p, 8, 4), (u32)(3579545ull * 1200));
    acpi_pm_destroy(&p);
}

TEST(general_purpose_events)
{
    struct acpi_pm p;

    setup(&p);
    out(&p, 4, 2, 1);
    acpi_pm_gpe(&p, 3);
    acpi_pm_gpe(&p, 99);
    CHECK_EQ(in(&p, 0xc, 2), 8);
    CHECK(!sci);
    out(&p, 0xe, 2, 8);
    CHECK(sci);
    out(&p, 0xc, 4, 0x00080008);
    CHECK(!sci);
    CHECK_EQ(in(&p, 0xc, 4), 0x00080000);
    acpi_pm_rtc(&p);
    CHECK_EQ(in(&p, 0, 2), 0x400);
    CHECK(!sci);
    out(&p, 2, 2, 0x400);
    CHECK(sci);
    out(&p, 0, 2, 0x400);
    CHECK(!sci);
    acpi_pm_destroy(&p);
}

TEST(reset_control)
{
    static const struct { u8 v[2]; unsigned init, hard; } table[] = {
        { { 0, 4 }, 1, 0 }, { { 2, 6 }, 0, 1 }, { { 0, 0xe }, 0, 1 }, { { 2, 2 }, 0, 0 }, { { 0, 6 }, 0, 1 },
    };
    struct acpi_pm p;

    for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
        setup(&p);
        for (unsigned j = 0; j < 2; j++)
            acpi_reset_ops.write(&p, 0, 1, table[i].v[j]);
        CHECK_EQ(inits, table[i].init);
        CHECK_EQ(hards, table[i].hard);
        CHECK_EQ(acpi_reset_ops.read(&p, 0, 1), table[i].v[1] & 0xa);
        acpi_pm_destroy(&p);
    }
}

TEST(state_survives)
{
    struct acpi_pm a, b;
    struct state_list *la = state_list_new(), *lb = state_list_new();
    struct state_buf one = { 0 }, two = { 0 };
    struct error err;

    setup(&a);
    out(&a, 4, 2, 1);
    out(&a, 2, 2, 0x121);
    fake_advance(123456789);
    CHECK_EQ(state_add(la, &acpi_pm_state, 0, &a), 0);
    CHECK_EQ(state_save(la, &one, &err), 0);
    setup(&b);
    CHECK_EQ(state_add(lb, &acpi_pm_state, 0, &b), 0);
    fake_now += 99999999999;
    u64 was = a.timer_age;
    CHECK_EQ(state_load(lb, one.data, one.len, &err), 0);
    CHECK_EQ(in(&b, 8, 4), was * 3579545 / 1000000000);
    CHECK_EQ(state_save(lb, &two, &err), 0);
    CHECK(one.len == two.len && memcmp(one.data, two.data, one.len) == 0);
    state_buf_free(&one);
    state_buf_free(&two);
    state_list_free(la);
    state_list_free(lb);
    acpi_pm_destroy(&a);
    acpi_pm_destroy(&b);
}

/* ---- test devices ---- */

static int exit_status;
static u8 console_byte;
static u32 line;
static bool line_level;
static void exited(void *ctx, int s) { exit_status = s; }
static void console(void *ctx, const u8 *d, size_t len) { console_byte = *d; }
static void set_line(void *chip, u32 pin, bool level)
{
    line = pin;
    line_level = level;
}

TEST(test_devices)
{
    struct testdev_config c = { exited, console, NULL, { set_line, NULL, 0 } };
    struct testdev *t = malloc(sizeof(*t));

    testdev_init(t, &c);
    testdev_exit_ops.write(t, 0, 4, 0x21);
    CHECK_EQ(exit_status, 0x43);
    testdev_exit_ops.write(t, 0, 1, 0);
    CHECK_EQ(exit_status, 1);
    testdev_console_ops.write(t, 0, 1, 'x');
    CHECK_EQ(console_byte, 'x');
    CHECK_EQ(testdev_console_ops.read(t, 0, 1), 0xe9);
    testdev_io_ops.write(t, 0, 4, 0x12345678);
    CHECK_EQ(testdev_io_ops.read(t, 0, 2), 0x5678);
    CHECK_EQ(testdev_io_ops.read(t, 1, 1), 0x56);
    testdev_io_ops.write(t, 0, 2, 0x9999);
    CHECK_EQ(testdev_io_ops.read(t, 0, 4), 0x12349999);
    testdev_io_ops.write(t, 3, 1, 0xff);
    CHECK_EQ(testdev_io_ops.read(t, 0, 4), 0xff349999);
    testdev_io_ops.write(t, 2, 4, 0xaaaaaaaa);
    CHECK_EQ(testdev_io_ops.read(t, 0, 4), 0xaaaa9999);
    testdev_io_ops.write(t, 4, 4, 0x1000); /* flush */
    CHECK_EQ(testdev_io_ops.read(t, 4, 4), 0);
    testdev_irq_ops.write(t, 14, 1, 1);
    CHECK_EQ(line, 14);
    CHECK(line_level);
    testdev_irq_ops.write(t, 14, 1, 0);
    CHECK(!line_level);
    testdev_iomem_ops.write(t, 0xfff8, 8, 0x1122334455667788);
    CHECK_EQ(testdev_iomem_ops.read(t, 0xfffc, 4), 0x11223344);
    CHECK_EQ(testdev_iomem_ops.read(t, 0xfffd, 4), UINT64_MAX);
    testdev_iomem_ops.write(t, 0xffff, 2, 0);
    CHECK_EQ(testdev_iomem_ops.read(t, 0xfff8, 8), 0x1122334455667788);
    testdev_destroy(t);
    free(t);
}
