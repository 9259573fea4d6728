/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - the boards' parts; inside machine/ only. */
#ifndef LODGE_MACHINE_INTERNAL_H
#define LODGE_MACHINE_INTERNAL_H

#include <pthread.h>

#include "devices/acpi_pm.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/ide.h"
#include "devices/mc146818.h"
#include "devices/pflash.h"
#include "devices/port92.h"
#include "devices/vga.h"
#include "irq/gsi.h"
#include "irq/ioapic.h"
#include "irq/kernel_irqchip.h"
#include "irq/lapic.h"
#include "irq/pic.h"
#include "machine/board.h"
#include "machine/i440fx.h"
#include "machine/isa.h"
#include "machine/machine.h"
#include "machine/micro.h"
#include "machine/pvclock.h"
#include "machine/serial.h"
#include "memory/bus.h"
#include "virtio/transport.h"

/* Where "pc" has its PCI windows; dsdt.asl says the same. */
#define PC_MMIO32 0xc0000000ull
#define PC_MMIO32_SIZE MiB(512)
#define PC_ECAM 0xe0000000ull
#define PC_MMIO64_SIZE GiB(32)

/* The host bridge's PAM registers rule the memory from here on, in segments of 16 KiB (the last has 64 KiB). Each is a region
   of memory of its own. */
#define PAM_START 0xc0000ull
static inline u64 machine_pam_size(u64 gpa) { return gpa < 0xf0000 ? KiB(16) : KiB(64); }

/* Two outputs wired to one line. */
struct shared_irq {
    pthread_mutex_t lock;
    struct irq_line out;
    u32 levels; /* a bit per output */
};
void shared_irq_set(void *chip, u32 pin, bool level);

struct machine {
    struct machine_config c;
    const struct board *board;
    struct machine_trace trace;
    u32 cpus;
    struct memory *memory;
    struct memory_piece *ram_piece; /* below 4 GiB; offset is address. What lies under A0000h-BFFFFh is not mapped */
    u64 low_ram; /* first address above the RAM below 4 GiB */
    struct boot_map_entry map[10];
    u32 nmap;
    struct bus *ports, *mmio;
    struct state_list *state;
    struct cpu_state *cpu; /* for saving, loading and reset; the engine's copy is the true one */

    const struct engine_ops *engine; /* these three: from machine_connect on */
    struct engine_vm *vm;
    struct engine_vcpu *const *vcpus;

    /* the interrupt controllers and timer: ours, or the twin of the engine's */
    struct lapic_set *lapic;
    struct pic pic;
    struct ioapic ioapic;
    struct gsi gsi;
    struct i8254 pit;
    struct pvclock pvclock;
    struct kernel_irqchip *kernel;
    pthread_mutex_t irq_lock;
    u16 irq_level[2]; /* of ISA IRQs: as devices have them, as PCI interrupts routed to them have them */

    u32 nvirtio;
    struct virtio_transport *virtio[MACHINE_MAX_VIRTIO];
    u32 ndevices;
    struct device *device[MACHINE_MAX_DEVICES]; /* plugged in, borrowed */
    u32 nserial;
    struct serial serial[MACHINE_SERIAL_PORTS];
    struct shared_irq serial_irq[2]; /* IRQ 4, IRQ 3 */

    /* "pc" only */
    struct i440fx i440fx;
    u64 mmio64, mmio64_size; /* window above RAM */
    u32 nchips; /* of pc.c's list, how many of the following are initialised */
    struct mc146818 rtc;
    struct i8042 i8042;
    struct port92 port92;
    struct acpi_pm pm;
    struct hpet hpet;
    struct isa isa;
    struct ide *ide; /* borrowed; NULL: not plugged in */
    struct memory_piece *bios; /* a firmware's code; NULL: none */
    struct pflash flash;       /* its variables; piece NULL: none */
    struct fw_cfg fw_cfg;
    u16 acpi_key; /* of the tables, which follow what the guest does to BARs */
    u32 nboot;
    struct {
        enum machine_boot what;
        char path[MACHINE_BOOT_PATH];
    } boot[MACHINE_MAX_BOOT];
    pthread_mutex_t fw_cfg_lock;
    struct vga *vga; /* NULL: none */
    const u8 *vga_font; /* a kernel is booted without a firmware, and finds a text mode; or NULL */
};

/* machine.c; lines and events: any thread */
struct irq_line machine_line(struct machine *m, u32 gsi);      /* of the one device on it */
struct irq_line machine_pirq_line(struct machine *m, u32 irq); /* of PCI interrupts routed to an ISA IRQ */
void machine_msi(void *m, u64 address, u32 data);
void machine_power_off(void *m);
void machine_nmi_line(void *m, u32 pin, bool level);
void machine_request_reset(void *m, enum reset_kind kind);
int must_check machine_ports(struct machine *m, u16 port, u16 n, const struct bus_ops *ops, void *dev, const char *name);

/* reset.c */
struct acpi_config machine_acpi_config(const struct machine *m);
/* PMBASE. OVMF powers off and sleeps (ResetSystem) at B004h, where it puts the block if it finds it disabled. */
static inline u16 machine_pm_base(const struct machine *m)
{
    return m->c.firmware && m->c.firmware->vars ? 0xb000 : ACPI_PM_BASE;
}
struct smbios_config machine_smbios_config(const struct machine *m);
u32 machine_signature(const struct machine *m); /* CPUID 1: EAX, which a processor has in EDX after RESET and INIT */

/* shadow.c; m: struct machine */
#define PAM_BASE 0xc0000ull
void shadow_update(void *m);
extern const struct bus_ops shadow_ops; /* 256 KiB at PAM_BASE */

/* firmware.c; for a machine that has one */
int must_check firmware_build(struct machine *m, struct error *err);
int must_check firmware_describe(struct machine *m, struct error *err); /* fw_cfg's items, when all is plugged in */
void firmware_destroy(struct machine *m);
void firmware_reset(struct machine *m);      /* processors as they are at power-on */
void firmware_after_load(struct machine *m); /* the file of the variables follows the state */
/* A pulse at INIT# is for the processors alone: CMOS says that the guest goes on from there. Any thread. */
bool firmware_wants_init(struct machine *m);

void pc_destroy(struct machine *m); /* of what was built */
void pc_ide_ready(struct machine *m); /* at a reset: CMOS, and without firmware what it would do */
/* pc_vga.c; nothing if there is none */
int must_check pc_vga_build(struct machine *m, struct error *err);
void pc_vga_destroy(struct machine *m); /* after the PCI bus */
void pc_vga_reset(struct machine *m);   /* after the PCI bus */

#endif
