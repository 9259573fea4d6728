/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irqchip.h - the registers of the interrupt controllers and the timer in one neutral form, which our own chips (irq/,
 * devices/i8254) share with an engine that keeps them in the kernel. Sources: the data sheets of Intel 8259A, 82093AA and
 * 8254; SDM vol. 3 ch. 11.
 */
#ifndef LODGE_ENGINE_IRQCHIP_H
#define LODGE_ENGINE_IRQCHIP_H

#include "base/base.h"

enum irqchip { IRQCHIP_PIC_MASTER, IRQCHIP_PIC_SLAVE, IRQCHIP_IOAPIC, IRQCHIP_PIT };

struct irqchip_pic { /* 8259A */
    u8 lines;       /* the last level of the eight inputs; edges are found by it */
    u8 irr, imr, isr;
    u8 priority_add; /* highest priority input */
    u8 irq_base;     /* ICW2 */
    bool read_isr, poll, special_mask, auto_eoi, rotate_on_auto_eoi, special_fully_nested, four_byte_init;
    u8 init_state; /* 0: ready; 1-3: ICW2-4 comes next */
    u8 elcr, elcr_mask;
};

struct irqchip_ioapic { /* 82093AA */
    u64 base_address;
    u32 ioregsel, id;
    u32 irr; /* inputs asserted (level) or latched (edge) */
    u64 redirect[24];
};

struct irqchip_pit_channel {
    u32 count; /* 0 stands for 10000h */
    u16 latched_count;
    u8 count_latched, status_latched, status, read_state, write_state, write_latch, rw_mode, mode, bcd, gate;
    u64 count_load_time; /* clock_ns() of the last load; saved as age (now - load) */
};
struct irqchip_pit { /* 8254 */
    struct irqchip_pit_channel channel[3];
    bool speaker_data_on;
};

struct irqchip_lapic { /* register page, 16 bytes apart as in the xAPIC MMIO layout: reg[off >> 4] */
    u32 reg[64];
};

#endif
