/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reset.c - the board at power-on as firmware would leave it, and before and after a snapshot.
 */
#include <errno.h>
#include <string.h>

#include "machine/internal.h"
#include "machine/tables.h"

enum {
    APIC_SVR = 0xf,
    APIC_LVT_LINT0 = 0x35,
    APIC_LVT_LINT1 = 0x36,
    SVR_ENABLED = 0x1ff,
    LVT_EXTINT = 0x700,
    LVT_NMI = 0x400
};
#define SAVE_PATIENCE_NS 2000000000ull /* with a reader of a serial port that takes nothing */
enum { MTRR_ENABLED = 1 << 11, MTRR_WB = 6, MTRR_UC = 0, MTRR_VALID = 1 << 11 };

void shared_irq_set(void *chip, u32 pin, bool level)
{
    struct shared_irq *s = chip;
    pthread_mutex_lock(&s->lock);
    s->levels = level ? s->levels | 1u << pin : s->levels & ~(1u << pin);
    irq_set(&s->out, s->levels != 0);
    pthread_mutex_unlock(&s->lock);
}

/* All memory is write-back but the hole below 4 GiB, where the devices are (SDM vol. 3 ch. 12.11). */
static void firmware_mtrrs(const struct machine *m, struct cpu_state *s)
{
    u64 mask = (1ull << m->c.cpuid->phys_bits) - 1;
    s->mtrr_def_type = MTRR_ENABLED | MTRR_WB;
    s->mtrr_base[0] = 0xc0000000ull | MTRR_UC;
    s->mtrr_mask[0] = (~(GiB(1) - 1) & mask) | MTRR_VALID;
}

/* The boot processor takes interrupts from the 8259A through LINT0 ("virtual wire", MP specification 3.6.2.2). */
static int firmware_apic(struct machine *m)
{
    struct irqchip_lapic l;
    int rc;

    if (m->lapic) {
        lapic_mmio_write(m->lapic, 0, APIC_SVR << 4, 4, SVR_ENABLED);
        lapic_mmio_write(m->lapic, 0, APIC_LVT_LINT0 << 4, 4, LVT_EXTINT);
        lapic_mmio_write(m->lapic, 0, APIC_LVT_LINT1 << 4, 4, LVT_NMI);
        return 0;
    }
    if ((rc = m->engine->lapic_get(m->vcpus[0], &l)))
        return rc;
    l.reg[APIC_SVR] = SVR_ENABLED;
    l.reg[APIC_LVT_LINT0] = LVT_EXTINT;
    l.reg[APIC_LVT_LINT1] = LVT_NMI;
    return m->engine->lapic_set(m->vcpus[0], &l);
}

/* Interrupts 0-7 at vectors 8h, 8-15 at 70h, as every BIOS programs them; nothing requesting; open for the timer, keyboard,
   second 8259A and floppy, for the RTC, mouse, FPU and first disks; level for those that a PCI function has. A micro
   with an engine's irqchip has 8259As that nobody told of: masked. */
static int firmware_pic(struct machine *m)
{
    static const u8 icw2[2] = { 0x08, 0x70 }, icw3[2] = { 1 << 2, 2 }, imr[2] = { 0xb8, 0x8e };
    const u8 elcr[2] = { (u8)m->i440fx.level_irqs, (u8)(m->i440fx.level_irqs >> 8) };
    for (u32 i = 0; i < 2 && (m->gsi.pic || m->kernel); i++) {
        u16 port = i ? 0xa0 : 0x20;
        struct irqchip_pic p;
        int rc;
        if (m->lapic) {
            bus_write(m->ports, port, 1, 0x11); /* ICW1: edge, cascade, ICW4 follows */
            bus_write(m->ports, port + 1, 1, icw2[i]);
            bus_write(m->ports, port + 1, 1, icw3[i]);
            bus_write(m->ports, port + 1, 1, 1); /* ICW4: 8086 mode */
            bus_write(m->ports, port + 1, 1, imr[i]);
            bus_write(m->ports, 0x4d0 + i, 1, elcr[i]);
            continue;
        }
        enum irqchip which = i ? IRQCHIP_PIC_SLAVE : IRQCHIP_PIC_MASTER;
        if ((rc = m->engine->irqchip_get(m->vm, which, &p)))
            return rc;
        p.irq_base = icw2[i];
        p.imr = m->board->legacy_irqs ? imr[i] : 0xff;
        p.init_state = 0;
        p.elcr = elcr[i];
        if ((rc = m->engine->irqchip_set(m->vm, which, &p)))
            return rc;
    }
    return 0;
}

/* The 8254 has no state of its own before it is programmed. A BIOS leaves ticks at 18.2 Hz, requests to refresh memory,
   and the speaker's beep, gated off (IBM PC/AT Technical Reference, ROM BIOS): a count without a mode is for these. */
static int firmware_pit(struct machine *m)
{
    static const struct { u8 rw, mode; u16 count; } left[3] = { { 3, 3, 0 }, { 1, 2, 18 }, { 3, 3, 0x533 } };
    struct irqchip_pit p;
    int rc;

    if (!m->board->legacy_irqs)
        return 0;
    if (!m->lapic && (rc = m->engine->irqchip_get(m->vm, IRQCHIP_PIT, &p)))
        return rc;
    for (u32 i = 0; i < 3; i++) {
        if (m->lapic) {
            bus_write(m->ports, 0x43, 1, i << 6 | (u32)left[i].rw << 4 | (u32)left[i].mode << 1);
            bus_write(m->ports, (u16)(0x40 + i), 1, left[i].count & 0xff);
            if (left[i].rw == 3)
                bus_write(m->ports, (u16)(0x40 + i), 1, left[i].count >> 8);
            continue;
        }
        p.channel[i] = (struct irqchip_pit_channel){
            .count = left[i].count ? left[i].count : 0x10000, .mode = left[i].mode, .rw_mode = left[i].rw,
            .read_state = left[i].rw, .write_state = left[i].rw, .gate = i != 2, .count_load_time = clock_ns(),
        };
    }
    return m->lapic ? 0 : m->engine->irqchip_set(m->vm, IRQCHIP_PIT, &p);
}

u32 machine_signature(const struct machine *m)
{
    const struct cpuid_leaf *l = cpuid_leaf_find(m->c.cpuid, 1, 0);
    return l ? l->eax : 0;
}

static int reset_irqchip(struct machine *m)
{
    if (m->kernel)
        return kernel_irqchip_reset(m->kernel);
    if (m->gsi.pic) {
        i8254_reset(&m->pit);
        pic_reset(&m->pic);
    }
    ioapic_reset(&m->ioapic);
    lapic_reset(m->lapic);
    return 0;
}

/* Whatever a device has under way, such as a disk's reading into memory, ends here. */
static void reset_devices(struct machine *m)
{
    for (u32 i = 0; i < m->nvirtio; i++)
        virtio_transport_reset(m->virtio[i]);
    for (u32 i = 0; i < m->ndevices; i++)
        if (m->device[i]->class->reset)
            m->device[i]->class->reset(m->device[i]);
    for (u32 i = 0; i < m->nserial; i++)
        uart_reset(&m->serial[i].uart);
    if (m->board->reset)
        m->board->reset(m);
    pvclock_reset(&m->pvclock);
}

struct acpi_config machine_acpi_config(const struct machine *m)
{
    struct acpi_config c = { .cpus = m->cpus, .ndevices = m->ndevices, .device = m->device };

    m->board->describe(m, &c);
    return c;
}

struct smbios_config machine_smbios_config(const struct machine *m)
{
    const struct cpuid_leaf *l = cpuid_leaf_find(m->c.cpuid, 1, 0);
    return (struct smbios_config){
        .cpus = m->cpus, .cpu_signature = machine_signature(m), .cpu_features = l ? l->edx : 0,
        .mhz = (u32)(m->c.cpuid->tsc_khz / 1000), .low_ram = m->low_ram, .high_ram = m->c.ram - m->low_ram,
    };
}

/* A kernel without a firmware before it: memory as firmware would leave it, and the kernel there. */
static int load_kernel(struct machine *m, struct boot *boot, struct error *err)
{
    const struct cpu_feature *lm = cpu_feature_find("lm");
    struct boot_env env = { .memory = m->memory, .map = m->map, .nmap = m->nmap };
    const struct acpi_config acpi = machine_acpi_config(m);
    int rc;

    env.text_mode = m->vga_font;
    env.no_long_mode = lm && !cpuid_has(m->c.cpuid, lm);
    if ((rc = bda_write(m->memory, m->nserial, err)) || (rc = acpi_write_tables(m->memory, &acpi, &env.rsdp, err)) ||
        (rc = entry_write(m->memory, m->board->reset_port, m->board->reset_value, err)) ||
        (m->board->tables && (rc = m->board->tables(m, err))) ||
        (rc = boot_load(boot, &env, &m->cpu[0], err)))
        return rc;
    for (u32 i = 0; i < m->cpus; i++) {
        if (i)
            cpu_reset(&m->cpu[i], false);
        firmware_mtrrs(m, &m->cpu[i]);
    }
    return 0;
}

/* Devices before the kernel, into which they would read, and before the interrupt controllers, which then stand as their
   lines say: no edge of the time before is left. */
int machine_reset(struct machine *m, struct boot *boot, struct error *err)
{
    int rc;

    reset_devices(m);
    if (!boot)
        firmware_reset(m);
    else if ((rc = load_kernel(m, boot, err)))
        return rc;
    for (u32 i = 0; i < m->cpus; i++) {
        if ((rc = m->engine->set_state(m->vcpus[i], &m->cpu[i])))
            return error_set(err, -rc, "the %s engine refuses the processor's start state: %s", m->engine->name,
                             strerror(-rc));
    }
    if ((rc = reset_irqchip(m)) || (boot && ((rc = firmware_pic(m)) || (rc = firmware_pit(m)) || (rc = firmware_apic(m)))))
        return error_set(err, -rc, "the %s engine's interrupt controllers could not be reset: %s", m->engine->name,
                         strerror(-rc));
    if (m->engine->reset_caches)
        m->engine->reset_caches(m->vm);
    return 0;
}

int machine_init_cpus(struct machine *m)
{
    int rc = 0;

    for (u32 i = 0; i < m->cpus && !rc; i++)
        if (!(rc = m->engine->get_state(m->vcpus[i], &m->cpu[i]))) {
            cpu_init_signal(&m->cpu[i], i == 0);
            m->cpu[i].gpr[RDX] = machine_signature(m);
            rc = m->engine->set_state(m->vcpus[i], &m->cpu[i]);
        }
    if (!rc && m->kernel)
        return kernel_irqchip_init(m->kernel);
    if (!rc)
        lapic_init(m->lapic);
    return rc;
}

/*
 * The paravirtual clock and APIC_BASE are the machine's with one engine and the engine's with the other: each copies
 * to where the other one looks, so that a snapshot of either loads on both.
 */
static void mirror(struct machine *m, u32 i, struct cpu_state *s)
{
    if (m->lapic) {
        s->apic_base = lapic_apic_base(m->lapic, i);
        s->kvm_system_time = m->pvclock.system_time[i];
        s->kvm_wall_clock = m->pvclock.wall;
    } else {
        m->pvclock.system_time[i] = s->kvm_system_time;
        m->pvclock.wall = s->kvm_wall_clock;
    }
}

int machine_before_save(struct machine *m, struct error *err)
{
    for (u32 i = 0; i < m->nvirtio; i++)
        virtio_transport_settle(m->virtio[i]);
    if (m->board->settle)
        m->board->settle(m);
    for (u32 i = 0; i < m->ndevices; i++)
        if (m->device[i]->class->settle)
            m->device[i]->class->settle(m->device[i]);
    machine_drain_serial(m, SAVE_PATIENCE_NS);
    for (u32 i = 0; i < m->nserial; i++)
        uart_flush(&m->serial[i].uart);
    machine_drain_serial(m, UINT64_MAX);
    for (u32 i = 0; i < m->cpus; i++) {
        int rc = m->engine->get_state(m->vcpus[i], &m->cpu[i]);
        if (rc)
            return error_set(err, -rc, "the state of CPU %u cannot be read: %s", i, strerror(-rc));
        mirror(m, i, &m->cpu[i]);
    }
    u64 ns;
    if (m->engine->clock_get && !m->engine->clock_get(m->vm, &ns))
        m->pvclock.epoch = clock_ns() - ns;
    return 0;
}

void machine_after_save(struct machine *m)
{
    for (u32 i = 0; i < m->nvirtio; i++)
        virtio_transport_resume(m->virtio[i]);
    for (u32 i = 0; i < m->ndevices; i++)
        if (m->device[i]->class->resume)
            m->device[i]->class->resume(m->device[i]);
}

int machine_after_load(struct machine *m, struct error *err)
{
    if (m->engine->reset_caches)
        m->engine->reset_caches(m->vm);
    for (u32 i = 0; i < m->cpus; i++) {
        int rc = m->engine->set_state(m->vcpus[i], &m->cpu[i]);
        if (rc)
            return error_set(err, -rc, "the state of CPU %u is not one the %s engine can take: %s", i, m->engine->name,
                             strerror(-rc));
    }
    if (m->engine->clock_set && m->engine->clock_set(m->vm, pvclock_system_time(&m->pvclock)))
        return error_set(err, EIO, "the guest's clock cannot be set");
    for (u32 i = 0; i < m->cpus && m->lapic; i++) { /* now that the guest's TSC is known */
        lapic_tsc_changed(m->lapic, i);
        pvclock_tsc_changed(&m->pvclock, i);
    }
    if (m->board->after_load)
        m->board->after_load(m);
    firmware_after_load(m);
    machine_after_save(m);
    return 0;
}
