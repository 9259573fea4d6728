/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micro.c - the board "micro": what it has beyond processors, memory, COM1 and virtio devices is the way out.
 */
#include "machine/micro.h"

#include <errno.h>

#include "machine/internal.h"
#include "machine/tables.h"

enum { SLEEP_CONTROL, SLEEP_STATUS, RESET }; /* offsets */
enum { SLP_TYP_SHIFT = 2, SLP_EN = 1 << 5 };

static void power_write(void *p, u64 offset, unsigned size, u64 value)
{
    (void)size;
    if (offset == SLEEP_CONTROL && value == (SLP_EN | MICRO_SLP_TYP_S5 << SLP_TYP_SHIFT))
        machine_power_off(p);
    if (offset == RESET && value == MICRO_RESET_VALUE)
        machine_request_reset(p, RESET_HARD);
}

/* Nothing ever wakes: WAK_STS stays clear. */
static u64 power_read(void *p, u64 offset, unsigned size)
{
    (void)p, (void)offset, (void)size;
    return 0;
}

const struct bus_ops micro_power_ops = { power_read, power_write, 1, 1 };

static int build(struct machine *m, struct error *err)
{
    return machine_ports(m, MICRO_SLEEP_CONTROL, MICRO_POWER_PORTS, &micro_power_ops, m, "power");
}

static int plug_virtio(struct machine *m, struct virtio_device *d, u32 n, struct error *err)
{
    struct irq_line irq = machine_line(m, MICRO_VIRTIO_GSI + n);
    m->virtio[n] = virtio_mmio_new(d, m->mmio, MICRO_VIRTIO_BASE + n * MICRO_VIRTIO_SIZE, &irq, m->state, n, err);
    return m->virtio[n] ? 0 : -EINVAL;
}

static void describe(const struct machine *m, struct acpi_config *c)
{
    c->pm_base = machine_pm_base(m);
    c->reduced = true;
    c->mmio32 = PC_MMIO32;
    c->virtio_mmio = m->nvirtio;
}

const struct board board_micro = {
    .serial_ports = 1, .reset_port = MICRO_RESET, .reset_value = MICRO_RESET_VALUE, .build = build, .plug_virtio = plug_virtio,
    .describe = describe,
};
