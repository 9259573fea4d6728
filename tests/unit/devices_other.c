/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that are plugged in by their name: their options, pvpanic (QEMU's docs/specs/pvpanic), the 6300ESB's watchdog. */
#include <errno.h>

#include "card_rig.h"
#include "devices/i6300esb.h"
#include "devices/pvpanic.h"
#include "devices/testdev.h"

static struct device_env env;
static struct device dev;
static enum device_action acted;
static u32 acts;
static u64 stopped; /* ns that the machine has been paused so far */

static void on_act(void *machine, enum device_action what, const char *why)
{
    CHECK(machine == &env && why[0]);
    acted = what;
    acts++;
}
static u64 machine_clock(void *machine) { return clock_ns() - stopped; }

static int plug(const struct device_class *class, const char *options)
{
    struct error err = { "" };
    int rc;

    rig_open();
    acts = 0, stopped = 0;
    env = (struct device_env){ .memory = rig.m, .ports = rig.ports, .mmio = rig.mmio, .pci = rig.pci, .state = rig.state,
                               .machine = &env, .act = on_act, .clock = machine_clock };
    dev = (struct device){ .class = class, .env = &env };
    if ((rc = device_options(&dev, options, &err)) || (rc = class->create(&dev, &env, &err)))
        return rc;
    if (class->state)
        CHECK_EQ(state_add(rig.state, class->state, 0, dev.dev), 0);
    if (class->reset)
        class->reset(&dev);
    return 0;
}

static void unplug(void)
{
    rig_close();
    dev.class->unplug(&dev);
}

/* ---- options ---- */

TEST(options_are_those_of_the_class)
{
    struct device d = { .class = &i6300esb_class };
    struct error err = { "" };

    CHECK_EQ(device_options(&d, NULL, &err), 0);
    CHECK_EQ(d.option[0], 0);
    CHECK_EQ(device_options(&d, "action=nmi", &err), 0);
    CHECK_STR(d.class->options[0].values[d.option[0]], "nmi");
    CHECK_EQ(device_options(&d, "action=bark", &err), -EINVAL);
    CHECK_STR(err.text, "action of i6300esb is one of reset, poweroff, pause, exit, nmi, none, not \"bark\"");
    CHECK_EQ(device_options(&d, "action", &err), -EINVAL);
    CHECK_EQ(device_options(&d, "actio=reset", &err), -EINVAL);
    CHECK_STR(err.text, "i6300esb has no option \"actio\"");
    CHECK_EQ(device_options(&d, "action=none,action=exit", &err), 0);
    CHECK_STR(d.class->options[0].values[d.option[0]], "exit");
    d.class = &testdev_class;
    CHECK_EQ(device_options(&d, "x=1", &err), -EINVAL);
    CHECK_STR(err.text, "testdev has no option \"x\"");
}

/* ---- pvpanic ---- */

TEST(pvpanic_tells_of_a_crash)
{
    static const struct { const char *options; enum device_action act; } t[] = {
        { NULL, DEVICE_EXIT }, { "action=pause", DEVICE_PAUSE }, { "action=reset", DEVICE_RESET },
        { "action=poweroff", DEVICE_POWER_OFF }, { "action=none", DEVICE_NOTHING },
    };

    for (u32 i = 0; i < ARRAY_SIZE(t); i++) {
        CHECK_EQ(plug(&pvpanic_class, t[i].options), 0);
        CHECK_EQ(bus_read(rig.ports, PVPANIC_PORT, 1), PVPANIC_PANICKED | PVPANIC_CRASH_LOADED);
        bus_write(rig.ports, PVPANIC_PORT, 1, PVPANIC_CRASH_LOADED);
        CHECK_EQ(acts, 1);
        CHECK_EQ(acted, DEVICE_NOTHING);
        bus_write(rig.ports, PVPANIC_PORT, 1, 0x80);
        CHECK_EQ(acts, 1);
        bus_write(rig.ports, PVPANIC_PORT, 1, PVPANIC_PANICKED);
        CHECK_EQ(acts, 2);
        CHECK_EQ(acted, t[i].act);
        unplug();
    }
}

TEST(one_pvpanic_at_its_port)
{
    struct device second = { .class = &pvpanic_class, .env = &env };
    struct error err = { "" };

    CHECK_EQ(plug(&pvpanic_class, NULL), 0);
    CHECK(second.class->create(&second, &env, &err) < 0);
    CHECK(!second.dev && err.text[0]);
    unplug();
}

TEST(pvpanic_on_pci)
{
    u64 at;

    CHECK_EQ(plug(&pvpanic_pci_class, NULL), 0);
    pci_assign(rig.pci, (u8[PCI_INTX_LINES]){ 10, 11, 10, 11 });
    bus_write(rig.ports, 0xcf8, 4, 0x80000010);
    at = bus_read(rig.ports, 0xcfc, 4) & ~15u;
    CHECK_EQ(bus_read(rig.mmio, at, 1), 3);
    CHECK_EQ(bus_read(rig.mmio, at + 1, 1), 0);
    bus_write(rig.mmio, at, 1, PVPANIC_PANICKED);
    CHECK_EQ(acted, DEVICE_EXIT);
    unplug();
}

/* ---- the watchdog ---- */

enum { CONFIG = 0x60, LOCK = 0x68, ENABLE = 2, FREE_RUN = 4 };
enum { TIMER1 = 0, TIMER2 = 4, GINTSR = 8, RELOAD = 12 };
static u64 base;

static void config(u32 reg, unsigned size, u32 value)
{
    bus_write(rig.ports, 0xcf8, 4, 0x80000000 | (reg & ~3u));
    bus_write(rig.ports, 0xcfc + (reg & 3), size, value);
}
static u32 config_get(u32 reg)
{
    bus_write(rig.ports, 0xcf8, 4, 0x80000000 | (reg & ~3u));
    return (u32)bus_read(rig.ports, 0xcfc + (reg & 3), 1);
}
static void unlock(void) { bus_write(rig.mmio, base + RELOAD, 2, 0x80), bus_write(rig.mmio, base + RELOAD, 2, 0x86); }
static void set(u32 reg, u32 value) { unlock(), bus_write(rig.mmio, base + reg, 4, value); }
static u32 get(u32 reg) { return (u32)bus_read(rig.mmio, base + reg, 4); }

/* ms of the 33 MHz clock / 2^15 */
static void advance_ticks(u64 n) { fake_advance((n << 15) * 1000 / 33); }

static void watchdog(const char *options)
{
    CHECK_EQ(plug(&i6300esb_class, options), 0);
    pci_assign(rig.pci, (u8[PCI_INTX_LINES]){ 10, 11, 10, 11 });
    config(4, 2, 7);
    bus_write(rig.ports, 0xcf8, 4, 0x80000010);
    base = bus_read(rig.ports, 0xcfc, 4) & ~15u;
}

TEST(the_dog_bites_after_two_stages)
{
    watchdog(NULL);
    CHECK_EQ(get(TIMER1), 0xfffff);
    bus_write(rig.mmio, base + TIMER1, 4, 100); /* locked */
    CHECK_EQ(get(TIMER1), 0xfffff);
    set(TIMER1, 1000), set(TIMER2, 2000);
    CHECK_EQ(get(TIMER1), 1000);
    CHECK_EQ(get(TIMER2), 2000);
    config(CONFIG, 2, 3); /* no interrupt */
    fake_advance(100000000000ull);
    CHECK_EQ(acts, 0); /* not enabled */
    config(LOCK, 1, ENABLE);
    advance_ticks(999);
    CHECK_EQ(rig.raised, 0);
    advance_ticks(2);
    CHECK_EQ(rig.raised, 0);
    advance_ticks(1998);
    CHECK_EQ(acts, 0);
    advance_ticks(3);
    CHECK_EQ(acts, 1);
    CHECK_EQ(acted, DEVICE_RESET);
    CHECK_EQ(get(RELOAD), 0x200);
    dev.class->reset(&dev); /* the guest finds out why it was reset */
    CHECK_EQ(get(RELOAD), 0x200);
    CHECK_EQ(get(TIMER1), 0xfffff);
    fake_advance(100000000000000ull);
    CHECK_EQ(acts, 1);
    set(RELOAD, 0x300);
    CHECK_EQ(get(RELOAD), 0);
    unplug();
}

TEST(a_dog_that_is_fed_sleeps)
{
    watchdog("action=nmi");
    set(TIMER1, 100), set(TIMER2, 100);
    config(LOCK, 1, ENABLE);
    for (u32 i = 0; i < 20; i++) {
        advance_ticks(150);
        set(RELOAD, 0x100);
    }
    CHECK_EQ(acts, 0);
    CHECK(rig.raised > 0); /* each first stage ended: IRQ is the interrupt's kind at power-on */
    CHECK_EQ(get(GINTSR), 1);
    bus_write(rig.mmio, base + GINTSR, 4, 1);
    CHECK_EQ(get(GINTSR), 0);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        CHECK(!rig.line[i]);
    advance_ticks(201);
    CHECK_EQ(acts, 1);
    CHECK_EQ(acted, DEVICE_NMI);
    advance_ticks(100000); /* once */
    CHECK_EQ(acts, 1);
    unplug();
}

TEST(locked_it_cannot_be_stopped)
{
    watchdog(NULL);
    config(LOCK, 1, ENABLE | 1);
    config(LOCK, 1, 0);
    CHECK_EQ(config_get(LOCK), ENABLE | 1);
    set(TIMER1, 10), set(TIMER2, 10), set(RELOAD, 0x100);
    advance_ticks(50);
    advance_ticks(50);
    CHECK_EQ(acts, 1);
    unplug();
    watchdog(NULL);
    set(TIMER1, 10), set(TIMER2, 10);
    config(LOCK, 1, ENABLE);
    config(LOCK, 1, 0); /* not locked: stopped */
    advance_ticks(50);
    advance_ticks(50);
    CHECK_EQ(acts, 0);
    config(CONFIG, 2, 1 << 5); /* without its output it only remembers */
    config(LOCK, 1, ENABLE);
    advance_ticks(50);
    advance_ticks(50);
    CHECK_EQ(acts, 0);
    CHECK_EQ(get(RELOAD), 0x200);
    unplug();
}

TEST(free_running_and_fast_it_leaves_us_time)
{
    watchdog("action=none");
    set(TIMER1, 0), set(TIMER2, 0);
    config(CONFIG, 2, 4 | 3);
    config(LOCK, 1, ENABLE | FREE_RUN);
    for (u32 i = 0; i < 1000; i++)
        fake_advance(1000000);
    CHECK(acts >= 50 && acts <= 101);
    unplug();
}

TEST(paused_no_time_passes)
{
    watchdog(NULL);
    set(TIMER1, 1000), set(TIMER2, 1000);
    config(LOCK, 1, ENABLE);
    for (u32 i = 0; i < 100; i++) {
        stopped += 1000000000;
        fake_advance(1000000000);
    }
    CHECK_EQ(acts, 0);
    advance_ticks(1001);
    advance_ticks(1001);
    CHECK_EQ(acts, 1);
    unplug();
}

TEST(state_goes_on_where_it_was)
{
    struct state_buf b = { 0 };
    struct error err = { "" };

    watchdog(NULL);
    set(TIMER1, 1000), set(TIMER2, 1000);
    config(LOCK, 1, ENABLE);
    advance_ticks(600);
    CHECK_EQ(state_save(rig.state, &b, &err), 0);
    unplug();
    fake_advance(1000000000000ull);
    watchdog(NULL);
    CHECK_EQ(state_load(rig.state, b.data, b.len, &err), 0);
    pci_remap(rig.pci);
    CHECK_EQ(get(TIMER2), 1000);
    CHECK_EQ(config_get(LOCK), ENABLE);
    advance_ticks(401);
    CHECK_EQ(get(GINTSR), 1);
    advance_ticks(1001);
    CHECK_EQ(acts, 1);
    state_buf_free(&b);
    unplug();
}

TEST(boards_without_pci_say_so)
{
    const struct device_class *const classes[] = { &i6300esb_class, &pvpanic_pci_class };

    for (u32 i = 0; i < ARRAY_SIZE(classes); i++) {
        struct device_env none = { .pci = NULL };
        struct device d = { .class = classes[i], .env = &none };
        struct error err = { "" };
        CHECK_EQ(classes[i]->create(&d, &none, &err), -EINVAL);
        CHECK(!d.dev && strstr(err.text, "no PCI"));
    }
}
