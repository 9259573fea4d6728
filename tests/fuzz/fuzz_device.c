/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_device.c - every device that is plugged in by its name, against a hostile driver. First which, and its options; then
 * operations of 4 bytes:
 *
 *   0, 1 a register of its BAR or of its ports is written, 2 with one of its class's hints; 3 read; 4, 5 configuration
 *   space written; 6 time passes; 7 reset, or saved and loaded into a new one, or what was saved is loaded altered
 */
#include "../unit/card_rig.h"
#include "devices/device.h"
#include "fuzz.h"

void test_fail(const char *file, int line, const char *fmt, ...) { abort(); }

static struct device_env env;
static struct device dev;
static u32 acts;

static void on_act(void *machine, enum device_action what, const char *why)
{
    if (machine != &env || what > DEVICE_NMI || !why[0])
        abort();
    acts++;
}
static u64 machine_clock(void *machine) { return clock_ns(); }
static void on_exit_(void *board, int status) {}
static void on_console(void *board, const u8 *data, size_t len) {}
static void on_line(void *chip, u32 pin, bool level) {}
static struct irq_line line(void *board, u32 gsi) { return (struct irq_line){ on_line, board, gsi }; }

static void plug(u32 which, u8 options)
{
    struct error err;

    rig_open();
    env = (struct device_env){ .memory = rig.m, .ports = rig.ports, .mmio = rig.mmio, .pci = rig.pci, .state = rig.state,
                               .board = &env, .line = line, .debug_exit = on_exit_, .debug_console = on_console,
                               .machine = &env, .act = on_act, .clock = machine_clock };
    dev = (struct device){ .class = device_others[which], .env = &env };
    for (u32 i = 0; dev.class->options && dev.class->options[i].name; i++)
        for (u32 n = 0; dev.class->options[i].values[n] && n < (options & 7u); n++)
            dev.option[i] = n;
    if (dev.class->create(&dev, &env, &err) || (dev.class->state && state_add(rig.state, dev.class->state, 0, dev.dev)))
        abort();
    if (dev.class->reset)
        dev.class->reset(&dev);
    pci_assign(rig.pci, (u8[PCI_INTX_LINES]){ 10, 11, 10, 11 });
    bus_write(rig.ports, 0xcf8, 4, 0x80000004);
    bus_write(rig.ports, 0xcfc, 2, 7);
}

static void unplug(void)
{
    rig_close();
    dev.class->unplug(&dev);
}

static void again(u32 which, u8 options, u32 at, u8 value)
{
    struct state_buf b = { 0 };
    struct error err;

    if (state_save(rig.state, &b, NULL))
        abort();
    if (at && at < b.len)
        b.data[at] ^= value;
    unplug();
    plug(which, options);
    if (state_load(rig.state, b.data, b.len, &err)) {
        if (!at)
            abort();
        unplug(); /* a machine that cannot be loaded is thrown away */
        plug(which, options);
    }
    pci_remap(rig.pci);
    if (dev.class->resume)
        dev.class->resume(&dev);
    state_buf_free(&b);
}

/* Its first BAR, or ports where devices by name are. */
static void access(const u8 *o, bool write, u32 value)
{
    static const u16 ports[] = { 0x505, 0xe0, 0xe9, 0xf4, 0x2000 };
    const u32 size = 1u << (o[0] >> 3 & 3);

    bus_write(rig.ports, 0xcf8, 4, 0x80000010);
    const u32 bar = (u32)bus_read(rig.ports, 0xcfc, 4);
    struct bus *const bus = bar && bar != ~0u && !(bar & 1) ? rig.mmio : rig.ports;
    const u64 at = bus == rig.mmio ? (bar & ~15u) + o[1] % 24 : ports[o[1] % ARRAY_SIZE(ports)] + (o[1] >> 5);

    if (write)
        bus_write(bus, at, size, value);
    else
        bus_read(bus, at, bus == rig.mmio ? size : MIN(size, 4u));
}

static void operation(const u8 *o, u32 which, u8 options)
{
    const struct device_hints *h = dev.class->hints;
    const u32 half = (u32)o[2] | (u32)o[3] << 8;

    switch (o[0] & 7) {
    case 0:
    case 1: access(o, true, half); break;
    case 2: access(o, true, h ? h->values[half % h->n] : half); break;
    case 3: access(o, false, 0); break;
    case 4:
    case 5:
        bus_write(rig.ports, 0xcf8, 4, 0x80000000 | (o[1] & 0xfc));
        bus_write(rig.ports, 0xcfc + (o[1] & 3), 1, h && o[0] & 0x80 ? h->values[half % h->n] : half);
        break;
    case 6: fake_advance((u64)half << (o[1] & 15)); break;
    case 7:
        if (o[1] & 1)
            again(which, options, o[1] & 2 ? half : 0, o[0] | 1);
        else if (dev.class->reset)
            dev.class->reset(&dev);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u32 n = 0;

    if (size < 2)
        return 0;
    while (device_others[n])
        n++;
    const u32 which = data[0] % n;
    plug(which, data[1]);
    for (size_t i = 2; i + 4 <= MIN(size, (size_t)1024); i += 4)
        operation(data + i, which, data[1]);
    fake_advance(1000000000);
    unplug();
    return 0;
}

/* Each class: what its hints are, one after the other, at each register, and time. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    size_t len = 2;

    if (i >= 8 || cap < 2 + 4 * 64)
        return 0;
    buf[0] = (uint8_t)i, buf[1] = (uint8_t)(i / 4);
    for (u32 k = 0; k < 60; k++, len += 4) {
        const u8 o[] = { k % 6 == 5 ? 6 : k % 6 == 4 ? 0x84 : 0x12, k % 6 == 4 ? 0x68 : k % 2 ? 12 : (u8)(k % 16), (u8)(k / 2), 0 };
        memcpy(buf + len, o, 4);
    }
    return len;
}
