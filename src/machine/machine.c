/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - what both boards have: memory, processors' interrupt controllers, serial ports, the test device; what
 * engines ask; and their life.  pc.c and micro.c have the rest.
 *
 *   RAM        0 - 9FFFFh, C0000h - at most BFFFFFFFh, and from 4 GiB on (as i440FX boards do)
 *
 * An engine with an irqchip has the PIC, PIT, APICs and port 61h itself; then ours are not there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "cpu/msr.h"
#include "machine/internal.h"
#include "machine/tables.h"

#define LOW_RAM_LIMIT GiB(3)
#define HOLE_START 0xa0000ull
#define HOLE_END PAM_START

/* ---- what engines ask --------------------------------------------------- */

static u64 port_read(void *p, u16 port, unsigned size)
{
    struct machine *m = p;
    u64 v = bus_read(m->ports, port, size);
    if (unlikely(m->trace.port))
        m->trace.port(m->trace.ctx, false, port, size, v, bus_name(m->ports, port));
    return v;
}

static void port_write(void *p, u16 port, unsigned size, u64 value)
{
    struct machine *m = p;
    if (unlikely(m->trace.port))
        m->trace.port(m->trace.ctx, true, port, size, value, bus_name(m->ports, port));
    bus_write(m->ports, port, size, value);
}

static u64 mmio_read(void *p, u32 vcpu, u64 gpa, unsigned size)
{
    struct machine *m = p;
    bool apic = m->lapic && lapic_decodes(m->lapic, vcpu, gpa);
    u64 v = apic ? lapic_mmio_read(m->lapic, vcpu, (u32)(gpa & 0xfff), size) : bus_read(m->mmio, gpa, size);
    if (unlikely(m->trace.mmio))
        m->trace.mmio(m->trace.ctx, vcpu, false, gpa, size, v, apic ? "lapic" : bus_name(m->mmio, gpa));
    return v;
}

static void mmio_write(void *p, u32 vcpu, u64 gpa, unsigned size, u64 value)
{
    struct machine *m = p;
    bool apic = m->lapic && lapic_decodes(m->lapic, vcpu, gpa);
    if (unlikely(m->trace.mmio))
        m->trace.mmio(m->trace.ctx, vcpu, true, gpa, size, value, apic ? "lapic" : bus_name(m->mmio, gpa));
    if (apic)
        lapic_mmio_write(m->lapic, vcpu, (u32)(gpa & 0xfff), size, value);
    else
        bus_write(m->mmio, gpa, size, value);
}

static bool mmio_run(void *p, u32 vcpu, const struct bus_run *r)
{
    struct machine *m = p;
    if (m->trace.mmio || (m->lapic && (lapic_decodes(m->lapic, vcpu, r->to) || lapic_decodes(m->lapic, vcpu, r->from))))
        return false;
    return bus_run(m->mmio, r);
}

static int interrupt_ack(void *p, u32 vcpu)
{
    struct machine *m = p;
    return lapic_ack(m->lapic, vcpu);
}

static u8 cr8_read(void *p, u32 vcpu)
{
    struct machine *m = p;
    return m->lapic ? lapic_cr8_read(m->lapic, vcpu) : 0;
}

static void cr8_write(void *p, u32 vcpu, u8 value)
{
    struct machine *m = p;
    if (m->lapic)
        lapic_cr8_write(m->lapic, vcpu, value);
}

static int msr_read(void *p, u32 vcpu, u32 msr, u64 *value)
{
    struct machine *m = p;
    if (lapic_owns_msr(msr))
        return lapic_msr_read(m->lapic, vcpu, msr, value);
    return pvclock_msr_read(&m->pvclock, vcpu, msr, value);
}

/* IA32_TSC and TSC_ADJUST are the engine's; it may tell us that they were written. */
static int msr_write(void *p, u32 vcpu, u32 msr, u64 value)
{
    struct machine *m = p;
    if (lapic_owns_msr(msr))
        return lapic_msr_write(m->lapic, vcpu, msr, value);
    if (msr == MSR_IA32_TSC || msr == MSR_IA32_TSC_ADJUST) {
        lapic_tsc_changed(m->lapic, vcpu);
        pvclock_tsc_changed(&m->pvclock, vcpu);
        return 0;
    }
    return pvclock_msr_write(&m->pvclock, vcpu, msr, value);
}

/* Not announced in CPUID 40000001h: an IPI by ICR is as cheap here. For those who call without asking. */
static s64 hypercall(void *p, u32 vcpu, u64 number, const u64 arg[4], bool long_mode)
{
    enum { KVM_HC_SEND_IPI = 10, KVM_ENOSYS = 1000 };
    struct machine *m = p;
    if (number != KVM_HC_SEND_IPI || !m->lapic)
        return -KVM_ENOSYS;
    if (!long_mode) /* two words of 32 bits */
        return lapic_send_ipi_mask(m->lapic, (u32)arg[0] | arg[1] << 32, 0, (u32)arg[2], (u32)arg[3]);
    return lapic_send_ipi_mask(m->lapic, arg[0], arg[1], (u32)arg[2], (u32)arg[3]);
}

const struct engine_machine machine_engine_ops = {
    port_read, port_write, mmio_read, mmio_write, interrupt_ack, cr8_read, cr8_write, msr_read, msr_write, hypercall,
    mmio_run,
};

/* ---- lines and signals -------------------------------------------------- */

static void gsi_drive(struct machine *m, u32 gsi, bool level)
{
    if (m->kernel)
        kernel_irqchip_line(m->kernel, gsi, level);
    else if (!m->c.kernel_irqchip)
        gsi_set(&m->gsi, gsi, level);
}

/* An ISA IRQ may have two that drive it, a device of the board and a PCI interrupt routed to it: they are or-ed. */
static void isa_drive(struct machine *m, u32 irq, u32 source, bool level)
{
    u16 *levels = &m->irq_level[source], bit = (u16)(1u << irq);

    pthread_mutex_lock(&m->irq_lock);
    *levels = level ? *levels | bit : *levels & (u16)~bit;
    gsi_drive(m, irq, (m->irq_level[0] | m->irq_level[1]) & bit);
    pthread_mutex_unlock(&m->irq_lock);
}

static void line_set(void *p, u32 gsi, bool level)
{
    if (gsi < 16)
        isa_drive(p, gsi, 0, level);
    else
        gsi_drive(p, gsi, level);
}

static void pirq_set(void *p, u32 irq, bool level)
{
    isa_drive(p, irq, 1, level);
}

struct irq_line machine_line(struct machine *m, u32 gsi)
{
    return (struct irq_line){ line_set, m, gsi };
}

struct irq_line machine_pirq_line(struct machine *m, u32 irq)
{
    return (struct irq_line){ pirq_set, m, irq };
}

void machine_msi(void *p, u64 address, u32 data)
{
    struct machine *m = p;
    if (m->kernel)
        (void)!kernel_irqchip_msi(m->kernel, address, data); /* one that reaches no processor is lost on hardware, too */
    else if (m->lapic)
        lapic_msi(m->lapic, address, data);
}

static void signal_vcpu(struct machine *m, u32 vcpu, enum engine_signal what, u32 arg)
{
    if (m->vcpus)
        m->engine->signal(m->vcpus[vcpu], what, arg);
}

static void pic_output(void *p, bool level)
{
    struct machine *m = p;
    lapic_lint0(m->lapic, level);
}

static void on_intr(void *p, u32 vcpu, bool level) { signal_vcpu(p, vcpu, SIGNAL_INTR, level); }
static void on_nmi(void *p, u32 vcpu) { signal_vcpu(p, vcpu, SIGNAL_NMI, 0); }
static void on_init(void *p, u32 vcpu) { signal_vcpu(p, vcpu, SIGNAL_INIT, 0); }
static void on_sipi(void *p, u32 vcpu, u8 vector) { signal_vcpu(p, vcpu, SIGNAL_SIPI, vector); }

static void on_eoi(void *p, u8 vector)
{
    struct machine *m = p;
    ioapic_eoi(&m->ioapic, vector);
}

static int on_extint_ack(void *p)
{
    struct machine *m = p;
    return m->gsi.pic ? pic_ack(m->gsi.pic) : -1;
}

static u64 tsc_now(void *p, u32 vcpu)
{
    struct machine *m = p;
    return __rdtsc() + (m->vcpus && m->engine->tsc_offset ? m->engine->tsc_offset(m->vcpus[vcpu]) : 0);
}

static u64 tsc_to_ns(void *p, u64 ticks)
{
    struct machine *m = p;
    unsigned __int128 ns = (unsigned __int128)ticks * 1000000 / MAX(m->c.cpuid->tsc_khz, 1);
    return ns > UINT64_MAX ? UINT64_MAX : (u64)ns;
}

static const struct lapic_ops lapic_callbacks = {
    on_intr, on_nmi, on_init, on_sipi, on_eoi, on_extint_ack, tsc_now, tsc_to_ns,
};

/* ---- events ------------------------------------------------------------- */

bool machine_power_button(struct machine *m)
{
    return m->board->power_button && m->board->power_button(m);
}

void machine_nmi_line(void *p, u32 pin, bool level)
{
    struct machine *m = p;
    if (!m->kernel)
        lapic_lint1(m->lapic, level);
    else if (level)
        for (u32 i = 0; i < m->cpus; i++)
            signal_vcpu(m, i, SIGNAL_NMI, 0);
}

bool machine_nmi(struct machine *m)
{
    if (m->board->nmi)
        return m->board->nmi(m);
    machine_nmi_line(m, 0, true);
    machine_nmi_line(m, 0, false);
    return true;
}

void machine_power_off(void *p)
{
    struct machine *m = p;
    m->c.event(m->c.ctx, MACHINE_POWER_OFF, 0);
}

/* Of an INIT firmware makes a hard reset at its entry, unless CMOS tells it to go on with the guest (as the AT's software
   left the 80286's protected mode); so both kinds are one but for that. */
void machine_request_reset(void *p, enum reset_kind kind)
{
    struct machine *m = p;
    m->c.event(m->c.ctx, kind == RESET_INIT && firmware_wants_init(m) ? MACHINE_INIT : MACHINE_RESET, 0);
}

bool machine_shutdown(struct machine *m)
{
    if (m->c.firmware)
        machine_request_reset(m, RESET_INIT); /* the shutdown cycle does that to the PIIX */
    return m->c.firmware != NULL;
}

static void on_debug_exit(void *p, int status)
{
    struct machine *m = p;
    m->c.event(m->c.ctx, MACHINE_DEBUG_EXIT, status);
}

/* ---- building ----------------------------------------------------------- */

static int build_memory(struct machine *m, struct error *err)
{
    u64 low = MIN(m->c.ram, LOW_RAM_LIMIT), high = m->c.ram - low;
    int rc;

    m->low_ram = low;
    if ((rc = memory_piece(m->memory, &m->ram_piece, "ram", low, false, err)))
        return rc;
    rc = memory_map(m->memory, 0, HOLE_START, m->ram_piece, 0, false);
    for (u64 at = HOLE_END; at < MiB(1) && !rc; at += machine_pam_size(at))
        rc = memory_map(m->memory, at, machine_pam_size(at), m->ram_piece, at, false);
    if (!rc && low > MiB(1))
        rc = memory_map(m->memory, MiB(1), low - MiB(1), m->ram_piece, MiB(1), false);
    if (rc)
        return error_set(err, -rc, "the guest's memory cannot be laid out: %s", strerror(-rc));
    if (high && (GiB(4) + high) >> m->c.cpuid->phys_bits)
        return error_set(err, EINVAL, "the guest's CPU addresses %u bits: %llu MiB of memory is more than it can reach",
                         m->c.cpuid->phys_bits, (unsigned long long)(m->c.ram >> 20));
    if (high && (rc = memory_add(m->memory, "ram-high", GiB(4), high, false, err)))
        return rc;

    struct boot_map_entry *e = m->map;
    *e++ = (struct boot_map_entry){ 0, EBDA_BASE, BOOT_MAP_RAM };
    *e++ = (struct boot_map_entry){ EBDA_BASE, HOLE_START - EBDA_BASE, BOOT_MAP_RESERVED };
    *e++ = (struct boot_map_entry){ ACPI_BASE, MP_LIMIT - ACPI_BASE, BOOT_MAP_RESERVED };
    if (low > MiB(1))
        *e++ = (struct boot_map_entry){ MiB(1), low - MiB(1), BOOT_MAP_RAM };
    if (m->board->reserved)
        *e++ = (struct boot_map_entry){ m->board->reserved, MiB(1), BOOT_MAP_RESERVED };
    *e++ = (struct boot_map_entry){ IOAPIC_DEFAULT_BASE, 0x1000, BOOT_MAP_RESERVED };
    *e++ = (struct boot_map_entry){ LAPIC_DEFAULT_BASE, 0x1000, BOOT_MAP_RESERVED };
    if (high)
        *e++ = (struct boot_map_entry){ GiB(4), high, BOOT_MAP_RAM };
    m->nmap = (u32)(e - m->map);
    return 0;
}

int machine_ports(struct machine *m, u16 port, u16 n, const struct bus_ops *ops, void *dev, const char *name)
{
    return bus_add(m->ports, &(struct bus_range){ port, n, ops, dev, NULL, name });
}

static int build_pic_and_pit(struct machine *m)
{
    struct irq_line irq0 = { hpet_input, &m->hpet, 0 };
    int rc;

    pic_init(&m->pic, pic_output, m);
    m->gsi.pic = &m->pic;
    i8254_init(&m->pit, m->c.loop, &irq0);
    if ((rc = machine_ports(m, 0x20, 2, &pic_ops, &m->pic.port[0], "pic")) ||
        (rc = machine_ports(m, 0xa0, 2, &pic_ops, &m->pic.port[1], "pic")) ||
        (rc = machine_ports(m, 0x4d0, 2, &pic_elcr_ops, &m->pic, "elcr")) ||
        (rc = machine_ports(m, 0x40, PIT_PORTS, &i8254_ops, &m->pit, "pit")) ||
        (rc = machine_ports(m, 0x61, 1, &i8254_port61, &m->pit, "port61")) ||
        (rc = state_add(m->state, &pic_state, 0, &m->pic)))
        return rc;
    return i8254_add_state(&m->pit, m->state);
}

static int build_irqchip(struct machine *m)
{
    const struct cpu_feature *x2apic = cpu_feature_find("x2apic"), *deadline = cpu_feature_find("tsc-deadline");
    if (!deadline)
        deadline = cpu_feature_find("tsc_deadline_timer");
    struct lapic_config lc = {
        .cpus = m->cpus,
        .x2apic = x2apic && cpuid_has(m->c.cpuid, x2apic),
        .tsc_deadline = deadline && cpuid_has(m->c.cpuid, deadline),
        .phys_bits = m->c.cpuid->phys_bits,
        .loop = m->c.loop,
        .ops = &lapic_callbacks,
        .ctx = m,
    };
    int rc;

    m->lapic = lapic_set_new(&lc);
    if (!m->lapic)
        return -ENOMEM;
    ioapic_init(&m->ioapic, m->lapic);
    m->gsi.ioapic = &m->ioapic;
    if ((rc = bus_add(m->mmio, &(struct bus_range){ IOAPIC_DEFAULT_BASE, IOAPIC_SIZE, &ioapic_ops, &m->ioapic, NULL,
                                                    "ioapic" })))
        return rc;
    if (m->board->legacy_irqs && (rc = build_pic_and_pit(m)))
        return rc;
    if ((rc = ioapic_add_state(&m->ioapic, m->state)))
        return rc;
    return lapic_add_state(m->lapic, m->state);
}

static int build_serial(struct machine *m)
{
    static const u16 port[MACHINE_SERIAL_PORTS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };
    static const char *const name[MACHINE_SERIAL_PORTS] = { "com1", "com2", "com3", "com4" };
    int rc = 0;

    /* COM1 and COM3 share IRQ 4, COM2 and COM4 IRQ 3: what is wired together is or-ed. */
    for (u32 i = 0; i < m->board->serial_ports && !rc; i++) {
        struct irq_line shared = { shared_irq_set, &m->serial_irq[i & 1], i >> 1 };
        m->serial_irq[i & 1].out = machine_line(m, i & 1 ? 3 : 4);
        m->nserial++; /* serial_destroy takes one that was only begun, too */
        if ((rc = serial_init(&m->serial[i], m->c.serial[i], &shared, m->c.loop)))
            break;
        if (!(rc = machine_ports(m, port[i], UART_PORTS, &uart_ops, &m->serial[i].uart, name[i])))
            rc = state_add(m->state, &uart_state, i, &m->serial[i].uart);
    }
    return rc;
}

static void debug_console(void *p, const u8 *data, size_t len)
{
    struct machine *m = p;
    if (m->c.serial[0])
        (void)chardev_write(m->c.serial[0], data, len);
}

static const struct board *const boards[] = { [MACHINE_PC] = &board_pc, [MACHINE_MICRO] = &board_micro };

bool machine_has_screen(enum machine_kind kind)
{
    return boards[kind]->screen;
}

struct machine *machine_new(const struct machine_config *c, struct error *err)
{
    struct machine *m = calloc(1, sizeof *m);
    int rc = -ENOMEM;

    if (!m)
        goto fail;
    m->c = *c;
    m->board = boards[c->kind];
    m->cpus = c->cpuid->cpus;
    if (c->trace)
        m->trace = *c->trace;
    pthread_mutex_init(&m->fw_cfg_lock, NULL);
    pthread_mutex_init(&m->irq_lock, NULL);
    for (u32 i = 0; i < 2; i++)
        pthread_mutex_init(&m->serial_irq[i].lock, NULL);
    if (!m->cpus || m->cpus > MACHINE_MAX_CPUS || c->ram < MiB(1)) {
        rc = error_set(err, EINVAL, "a machine has 1 to %d CPUs and at least 1 MiB of memory", MACHINE_MAX_CPUS);
        goto fail;
    }
    if (!(m->memory = memory_new(err)))
        goto fail;
    if ((rc = build_memory(m, err)))
        goto fail;
    rc = -ENOMEM;
    if (!(m->ports = bus_new(0x10000)) || !(m->mmio = bus_new(1ull << 52)) || !(m->state = state_list_new()) ||
        !(m->cpu = aligned_alloc(64, m->cpus * sizeof *m->cpu)))
        goto fail;
    memset(m->cpu, 0, m->cpus * sizeof *m->cpu);
    for (u32 i = 0; i < m->cpus; i++)
        if ((rc = state_add(m->state, &cpu_state_desc, i, &m->cpu[i])))
            goto fail;
    pvclock_init(&m->pvclock, m->memory, c->cpuid, tsc_now, m);
    if ((rc = state_add(m->state, &pvclock_state, 0, &m->pvclock)))
        goto fail;
    if (m->board->begin)
        m->board->begin(m);
    if (!c->kernel_irqchip && (rc = build_irqchip(m)))
        goto fail;
    if ((rc = build_serial(m)) || (rc = m->board->build(m, err)))
        goto fail;
    return m;
fail:
    if (err && !err->text[0])
        error_set(err, -rc, "the machine could not be built: %s", strerror(-rc));
    machine_free(m);
    return NULL;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    for (u32 i = 0; i < m->nvirtio; i++)
        virtio_transport_free(m->virtio[i]);
    for (u32 i = 0; i < m->nserial; i++)
        serial_destroy(&m->serial[i]);
    pc_destroy(m);
    if (m->gsi.pic) {
        i8254_destroy(&m->pit);
        pic_destroy(&m->pic);
    }
    if (m->lapic) {
        ioapic_destroy(&m->ioapic);
        lapic_set_free(m->lapic);
    }
    kernel_irqchip_free(m->kernel);
    state_list_free(m->state);
    free(m->cpu);
    bus_free(m->mmio);
    bus_free(m->ports);
    memory_free(m->memory);
    for (u32 i = 0; i < 2; i++)
        pthread_mutex_destroy(&m->serial_irq[i].lock);
    pthread_mutex_destroy(&m->irq_lock);
    pthread_mutex_destroy(&m->fw_cfg_lock);
    free(m);
}

int machine_plug(struct machine *m, struct virtio_device *d, struct error *err)
{
    u32 n = m->nvirtio;
    int rc = 0;

    if (n == MACHINE_MAX_VIRTIO)
        return error_set(err, E2BIG, "a machine has room for %d virtio devices", MACHINE_MAX_VIRTIO);
    rc = m->board->plug_virtio(m, d, n, err);
    if (!m->virtio[n])
        return rc ? rc : -EINVAL;
    m->nvirtio++;
    return rc;
}

static int env_plug_virtio(void *m, struct virtio_device *d, struct error *err) { return machine_plug(m, d, err); }
static int env_net_boot(void *m, struct pci_function *f, const char *rom, struct error *err) { return machine_add_net_boot(m, f, rom, err); }
static struct irq_line env_line(void *m, u32 gsi) { return machine_line(m, gsi); }

void machine_device_env(struct machine *m, struct device_env *env)
{
    *env = (struct device_env){
        .memory = m->memory, .loop = m->c.loop, .ports = m->ports, .mmio = m->mmio, .pci = m->i440fx.bus, .state = m->state,
        .isa_slot = I440FX_ISA_SLOT, .input = m->c.input, .board = m, .plug_virtio = env_plug_virtio, .net_boot = env_net_boot,
        .line = env_line, .debug_exit = on_debug_exit, .debug_console = debug_console,
    };
}

int machine_add_device(struct machine *m, struct device *d, struct error *err)
{
    if (m->ndevices == MACHINE_MAX_DEVICES)
        return error_set(err, E2BIG, "a machine has room for %d devices", MACHINE_MAX_DEVICES);
    if (d->class->state && state_add(m->state, d->class->state, d->index, d->dev))
        return error_set(err, ENOMEM, "out of memory");
    m->device[m->ndevices++] = d;
    return 0;
}

struct memory *machine_memory(struct machine *m)
{
    return m->memory;
}

const struct state_list *machine_state(const struct machine *m)
{
    return m->state;
}

struct cpu_state *machine_cpu(struct machine *m, u32 i)
{
    return &m->cpu[i];
}

void machine_drain_serial(struct machine *m, u64 patience_ns)
{
    for (u32 i = 0; i < m->nserial; i++)
        serial_patience(&m->serial[i], patience_ns);
}

int machine_connect(struct machine *m, const struct engine_ops *engine, struct engine_vm *vm,
                    struct engine_vcpu *const *vcpus, struct error *err)
{
    m->engine = engine;
    m->vm = vm;
    m->vcpus = vcpus;
    if (m->c.firmware && firmware_describe(m, err))
        return -ENOMEM;
    if (!m->c.kernel_irqchip)
        return 0;
    if (!(m->kernel = kernel_irqchip_new(engine, vm, vcpus, m->cpus)) || kernel_irqchip_add_state(m->kernel, m->state))
        return error_set(err, ENOMEM, "out of memory");
    return 0;
}
