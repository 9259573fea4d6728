/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irqchip_state.h - the field tables of the register structs in engine/irqchip.h, and the records ("pic", "ioapic",
 * "lapic", "i8254") as they are in a snapshot. Our own chips and the twins of an in-kernel irqchip save and load
 * exactly these records. So each of them can load what the other saved.
 */
#ifndef LODGE_IRQ_IRQCHIP_STATE_H
#define LODGE_IRQ_IRQCHIP_STATE_H

#include "engine/irqchip.h"
#include "state/state.h"

extern const struct state_field irqchip_pic_fields[];
extern const struct state_field irqchip_ioapic_fields[];
extern const struct state_field irqchip_pit_channel_fields[];
extern const struct state_field irqchip_lapic_fields[];

enum { PIC_STATE_VERSION = 1, IOAPIC_STATE_VERSION = 1, LAPIC_STATE_VERSION = 1, PIT_STATE_VERSION = 1 };

/* Record "ioapic". chip.irr holds the asserted level-triggered inputs. An edge is delivered or lost, never kept. */
struct ioapic_record {
    struct irqchip_ioapic chip;
    u32 lines; /* level on each input */
};
extern const struct state_field ioapic_record_fields[];

/* Record "lapic", one for each vCPU. chip.reg[2] (the ID register) holds the ID's low 8 bits << 24, also in x2APIC
   mode. chip.reg[0x39] holds the current count at the time of saving. */
#define LAPIC_TIMER_STOPPED UINT64_MAX
struct lapic_record {
    struct irqchip_lapic chip;
    u64 apic_base, tsc_deadline;
    u64 timer_remaining; /* ns until the counter reaches zero, or LAPIC_TIMER_STOPPED; not used in TSC-deadline mode */
    u32 esr_pending;     /* errors that no write to ESR has made visible yet */
    bool lint0, lint1;   /* level on the local pins */
    bool extint;         /* an ExtINT message from an I/O APIC waits for its INTA */
};
extern const struct state_field lapic_record_fields[];

/* Record "i8254". channel[].count_load_time is an age in ns. */
struct pit_record {
    struct irqchip_pit_channel channel[3];
    bool speaker_data_on;
    u8 port61;             /* bits 3-0 as written */
    bool counting[3];      /* false: the gate holds it, or it waits for a trigger (modes 1 and 5) or for a count */
    bool null_count[3];    /* the count that was written has not reached the counter */
    u32 next_count[3];     /* loaded at the end of the period (modes 2, 3) or by the trigger; 0: none */
    u32 owed;              /* channel 0 ticks that were not delivered in time */
    bool programmed[3];    /* a mode has been set since power-up */
};
extern const struct state_field pit_record_fields[];

#endif
