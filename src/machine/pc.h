/* SPDX-License-Identifier: Apache-2.0 */
/* pc.h - the board's parts; inside machine/ only. */
#ifndef LODGE_MACHINE_PC_H
#define LODGE_MACHINE_PC_H

#include <pthread.h>

#include "devices/acpi_pm.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/mc146818.h"
#include "devices/port92.h"
#include "devices/testdev.h"
#include "irq/gsi.h"
#include "irq/ioapic.h"
#include "irq/kernel_irqchip.h"
#include "irq/lapic.h"
#include "irq/pic.h"
#include "machine/machine.h"
#include "machine/pvclock.h"
#include "machine/serial.h"
#include "memory/bus.h"

/* Two outputs wired to one line. */
struct shared_irq {
    pthread_mutex_t lock;
    struct irq_line out;
    u32 levels; /* a bit per output */
};
void shared_irq_set(void *chip, u32 pin, bool level);

struct machine {
    struct machine_config c;
    struct machine_trace trace;
    u32 cpus;
    struct memory *memory;
    u64 low_ram; /* first address above the RAM below 4 GiB */
    struct boot_map_entry map[8];
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

    u32 nserial;
    struct serial serial[MACHINE_SERIAL_PORTS];
    struct shared_irq serial_irq[2]; /* IRQ 4, IRQ 3 */
    bool built; /* the following are initialised */
    struct mc146818 rtc;
    struct i8042 i8042;
    struct port92 port92;
    struct acpi_pm pm;
    struct hpet hpet;
    struct fw_cfg fw_cfg;
    pthread_mutex_t fw_cfg_lock;
    struct testdev *testdev; /* NULL: not asked for */
};

#endif
