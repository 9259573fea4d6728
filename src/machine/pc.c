/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc.c - the board "pc": which chip answers where, which line goes where.
 *
 *   IRQ        0 PIT, 1 keyboard, 3 4 serial, 6 floppy, 7 parallel, 8 RTC, 9 SCI, 10 11 PCI (if routed there), 12 mouse,
 *              14 15 IDE; GSI = IRQ but for 0, which is I/O APIC input 2; GSI 16-19 PCI INTA-D, 20-23 HPET
 */
#include <errno.h>

#include "machine/internal.h"
#include "machine/tables.h"

enum { RESET_CONTROL = ACPI_RESET_PORT - 0xcf8 };

/* The reset control register lies between CONFIG_ADDRESS's bytes, and only a byte access reaches it. */
static u64 cf8_bytes_read(void *p, u64 offset, unsigned size)
{
    struct machine *m = p;
    return offset == RESET_CONTROL && size == 1 ? acpi_reset_ops.read(&m->pm, 0, 1) : UINT64_MAX;
}

static void cf8_bytes_write(void *p, u64 offset, unsigned size, u64 value)
{
    struct machine *m = p;
    if (offset == RESET_CONTROL && size == 1)
        acpi_reset_ops.write(&m->pm, 0, 1, value);
}

static const struct bus_ops cf8_bytes_ops = { cf8_bytes_read, cf8_bytes_write, 1, 4 };

static int build_pci(struct machine *m, struct error *err)
{
    struct irq_line gsi[PCI_INTX_LINES], irq[16];
    struct pci_bus_config c = {
        .ports = m->ports, .mmio = m->mmio, .memory = m->memory, .msi = machine_msi, .ctx = m, .cf8_bytes = &cf8_bytes_ops, .cf8_dev = m,
        .ecam = PC_ECAM, .mmio32 = PC_MMIO32, .mmio32_size = PC_MMIO32_SIZE, .io = 0xc000, .io_size = 0x4000,
    };
    u64 high = align_up(MAX(m->memory->top, GiB(4)), PC_MMIO64_SIZE);

    if (!((high + PC_MMIO64_SIZE - 1) >> m->c.cpuid->phys_bits))
        m->mmio64 = c.mmio64 = high, m->mmio64_size = c.mmio64_size = PC_MMIO64_SIZE;
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        gsi[i] = machine_line(m, 16 + i);
    for (u32 i = 0; i < 16; i++)
        irq[i] = machine_pirq_line(m, i);
    m->i440fx.shadow = shadow_update;
    m->i440fx.ctx = m;
    return i440fx_init(&m->i440fx, &c, gsi, irq, machine_pm_base(m), m->state, err);
}

/* The gate is the keyboard controller's and port 92h's; the latter has it. */
static void keyboard_a20(void *p, bool open)
{
    struct machine *m = p;
    port92_keyboard_a20(&m->port92, open);
}

static void a20(void *p, bool open)
{
    struct machine *m = p;
    if (m->vm && m->engine->a20)
        m->engine->a20(m->vm, open);
}

/* IRQ 8, unless the HPET has it; and an ACPI event (PIIX4, 7.2.1). */
static void rtc_line(void *p, u32 pin, bool level)
{
    struct machine *m = p;
    const struct irq_line irq8 = machine_line(m, 8);

    if (level && m->nchips)
        acpi_pm_rtc(&m->pm);
    if (m->c.kernel_irqchip)
        irq_set(&irq8, level);
    else
        hpet_input(&m->hpet, 1, level);
}

/* ---- chips ---- */

static int init_rtc(struct machine *m, struct error *err)
{
    struct irq_line irq8 = { rtc_line, m, 0 };

    mc146818_init(&m->rtc, m->c.loop, &irq8);
    m->rtc.nmi = (struct irq_line){ machine_nmi_line, m, 0 };
    mc146818_set_memory(&m->rtc, m->low_ram, m->c.ram - m->low_ram);
    mc146818_set(&m->rtc, 0x5f, (u8)(m->cpus - 1)); /* where SeaBIOS and its guests look for the number of CPUs */
    return 0;
}

static int init_i8042(struct machine *m, struct error *err)
{
    const struct i8042_config c = {
        .loop = m->c.loop, .input = m->c.input, .irq_keyboard = machine_line(m, 1),
        .irq_mouse = machine_line(m, 12), .a20 = keyboard_a20, .reset = machine_request_reset, .ctx = m
    };

    i8042_init(&m->i8042, &c);
    return 0;
}

static int init_port92(struct machine *m, struct error *err)
{
    port92_init(&m->port92, a20, machine_request_reset, m);
    return 0;
}

static int init_pm(struct machine *m, struct error *err)
{
    const struct acpi_pm_config c = {
        .loop = m->c.loop, .sci = machine_line(m, ACPI_SCI_IRQ), .power_off = machine_power_off, .reset = machine_request_reset, .ctx = m
    };

    acpi_pm_init(&m->pm, &c);
    return machine_ports(m, machine_pm_base(m), ACPI_PM_SIZE, &acpi_pm_ops, &m->pm, "pm");
}

/* It was initialised before the 8254 was, whose output goes through it. */
static int init_hpet(struct machine *m, struct error *err)
{
    return bus_add(m->mmio, &(struct bus_range){ HPET_BASE, HPET_SIZE, &hpet_ops, &m->hpet, NULL, "hpet" });
}

static int init_fw_cfg(struct machine *m, struct error *err)
{
    int rc;

    fw_cfg_init(&m->fw_cfg, m->c.firmware ? m->memory : NULL);
    if ((rc = bus_add(m->ports, &(struct bus_range){ FW_CFG_PORT, FW_CFG_PORTS, &fw_cfg_ops, &m->fw_cfg, &m->fw_cfg_lock, "fw_cfg" })) ||
        (rc = fw_cfg_add_int(&m->fw_cfg, FW_CFG_RAM_SIZE, m->c.ram, 8)) ||
        (rc = fw_cfg_add_int(&m->fw_cfg, FW_CFG_NB_CPUS, m->cpus, 2)))
        return rc;
    return fw_cfg_add_int(&m->fw_cfg, FW_CFG_MAX_CPUS, m->cpus, 2);
}

/* Their operations, for the list. */
#define CHIP_OPERATIONS(chip)                                      \
    static void chip##_on_reset(void *c) { chip##_reset(c); }      \
    static void chip##_on_destroy(void *c) { chip##_destroy(c); }
CHIP_OPERATIONS(mc146818)
CHIP_OPERATIONS(i8042)
CHIP_OPERATIONS(port92)
CHIP_OPERATIONS(acpi_pm)
CHIP_OPERATIONS(hpet)
CHIP_OPERATIONS(i8237)
CHIP_OPERATIONS(fdc)
CHIP_OPERATIONS(lpt)
CHIP_OPERATIONS(fw_cfg)

#define CHIP(member, chip) offsetof(struct machine, member), &chip##_state, chip##_on_reset, chip##_on_destroy
#define PORTS(port, n, ops, member) { port, n, &ops, offsetof(struct machine, member) }

/* What every "pc" has, in the order in which it is reset. */
static const struct chip {
    const char *name;
    size_t at; /* in struct machine */
    const struct state_desc *state;
    void (*reset)(void *chip), (*destroy)(void *chip);
    int (*init)(struct machine *m, struct error *err); /* -errno, err may be left empty */
    struct {
        u16 port, n;
        const struct bus_ops *ops;
        size_t at; /* what they are given, in struct machine */
    } ports[3];
} chips[] = {
    { "rtc", CHIP(rtc, mc146818), init_rtc, { PORTS(0x70, MC146818_PORTS, mc146818_ops, rtc) } },
    { "i8042", CHIP(i8042, i8042), init_i8042, { PORTS(0x60, 1, i8042_data_ops, i8042), PORTS(0x64, 1, i8042_command_ops, i8042) } },
    { "port92", CHIP(port92, port92), init_port92, { PORTS(0x92, 1, port92_ops, port92) } },
    { "pm", CHIP(pm, acpi_pm), init_pm, { PORTS(ACPI_SMI_CMD, 2, acpi_smi_ops, pm) } },
    { "hpet", CHIP(hpet, hpet), init_hpet, {} },
    { "dma", CHIP(isa.dma, i8237), isa_init_dma,
      { PORTS(0x00, I8237_PORTS, i8237_ops, isa.dma.controller[0]), PORTS(0xc0, I8237_PORTS2, i8237_ops2, isa.dma.controller[1]),
        PORTS(0x80, I8237_PAGE_PORTS, i8237_page_ops, isa.dma) } },
    { "fdc", CHIP(isa.fdc, fdc), isa_init_fdc, { PORTS(0x3f2, FDC_PORTS, fdc_ops, isa.fdc), PORTS(0x3f7, 1, fdc_dir_ops, isa.fdc) } },
    { "lpt1", CHIP(isa.lpt, lpt), isa_init_lpt, { PORTS(0x378, LPT_PORTS, lpt_ops, isa.lpt) } },
    { "fw_cfg", CHIP(fw_cfg, fw_cfg), init_fw_cfg, {} },
};

static void *part(struct machine *m, size_t at) { return (u8 *)m + at; }

static int build_chips(struct machine *m, struct error *err)
{
    int rc = 0;

    for (u32 i = 0; i < ARRAY_SIZE(chips) && !rc; i++) {
        const struct chip *c = &chips[i];
        m->nchips = i + 1; /* destroy takes one that was only begun, too */
        rc = c->init(m, err);
        for (u32 k = 0; k < ARRAY_SIZE(c->ports) && c->ports[k].ops && !rc; k++)
            rc = machine_ports(m, c->ports[k].port, c->ports[k].n, c->ports[k].ops, part(m, c->ports[k].at), c->name);
        if (!rc)
            rc = state_add(m->state, c->state, 0, part(m, c->at));
    }
    return rc;
}

static int build(struct machine *m, struct error *err)
{
    int rc;

    if ((rc = build_chips(m, err)) || (rc = build_pci(m, err)) || (rc = isa_build_drives(m, err)) || (rc = pc_vga_build(m, err)) ||
        (rc = bus_add(m->mmio, &(struct bus_range){ PAM_BASE, MiB(1) - PAM_BASE, &shadow_ops, m, NULL, "shadow" })))
        return rc;
    return m->c.firmware ? firmware_build(m, err) : 0;
}

void pc_destroy(struct machine *m)
{
    i440fx_destroy(&m->i440fx);
    pc_vga_destroy(m);
    if (m->nchips)
        firmware_destroy(m);
    while (m->nchips) {
        const struct chip *c = &chips[--m->nchips];
        c->destroy(part(m, c->at));
    }
}

static void reset(struct machine *m)
{
    for (u32 i = 0; i < ARRAY_SIZE(chips); i++)
        chips[i].reset(part(m, chips[i].at));
    isa_ready(m);
    i440fx_reset(&m->i440fx, m->c.firmware);
    pc_ide_ready(m);
    pc_vga_reset(m);
}

/* ---- the board ---- */

/* The 8254's output goes through the HPET, which may take its place; an engine's PIT does not let itself be replaced. */
static void begin(struct machine *m)
{
    const struct irq_line gsi = machine_line(m, 0);
    hpet_init(&m->hpet, m->c.loop, &gsi, !m->c.kernel_irqchip);
}

static void after_load(struct machine *m) { i440fx_after_load(&m->i440fx); }
static bool power_button(struct machine *m) { return acpi_pm_power_button(&m->pm); }
static bool nmi(struct machine *m) { return mc146818_nmi(&m->rtc); }

/* A firmware may boot from disks and network cards. */
static int plug_virtio(struct machine *m, struct virtio_device *d, u32 n, struct error *err)
{
    if (!(m->virtio[n] = virtio_pci_new(d, m->i440fx.bus, PCI_SLOTS, m->state, n, err)))
        return -EINVAL;
    struct pci_function *f = virtio_transport_pci(m->virtio[n]);
    return d->ops->id == VIRTIO_ID_BLOCK ? machine_add_pci_boot(m, MACHINE_BOOT_DISK, f, "scsi@/disk@0,0", err)
           : d->ops->id == VIRTIO_ID_NET ? machine_add_net_boot(m, f, "efi-virtio.rom", err)
                                         : 0;
}

static void describe(const struct machine *m, struct acpi_config *c)
{
    c->pm_base = machine_pm_base(m);
    c->ecam = PC_ECAM;
    c->mmio32 = PC_MMIO32;
    c->mmio64 = m->mmio64;
    c->mmio64_size = m->mmio64_size;
    c->isa = (m->isa.floppies ? 1 : 0) | (m->c.parallel ? 2 : 0);
    c->vga = m->vga;
    c->hpet = hpet_id(&m->hpet);
}

static int tables(struct machine *m, struct error *err)
{
    const struct smbios_config smbios = machine_smbios_config(m);
    const int rc = mp_write_table(m->memory, m->cpus, err);
    return rc ? rc : smbios_write(m->memory, &smbios, err);
}

const struct board board_pc = {
    .serial_ports = MACHINE_SERIAL_PORTS, .screen = true, .legacy_irqs = true, .reserved = PC_ECAM, .reset_port = ACPI_RESET_PORT,
    .reset_value = ACPI_RESET_VALUE, .begin = begin, .build = build, .reset = reset, .settle = isa_settle, .after_load = after_load,
    .plug_virtio = plug_virtio, .describe = describe, .tables = tables, .power_button = power_button, .nmi = nmi,
};
