/* SPDX-License-Identifier: Apache-2.0 */
/* irqchip_state.c - see irqchip_state.h. It contains only tables. */
#include "irq/irqchip_state.h"

const struct state_field irqchip_pic_fields[] = {
    STATE_FIELD(struct irqchip_pic, lines, 1),
    STATE_FIELD(struct irqchip_pic, irr, 1),
    STATE_FIELD(struct irqchip_pic, imr, 1),
    STATE_FIELD(struct irqchip_pic, isr, 1),
    STATE_FIELD(struct irqchip_pic, priority_add, 1),
    STATE_FIELD(struct irqchip_pic, irq_base, 1),
    STATE_FIELD(struct irqchip_pic, read_isr, 1),
    STATE_FIELD(struct irqchip_pic, poll, 1),
    STATE_FIELD(struct irqchip_pic, special_mask, 1),
    STATE_FIELD(struct irqchip_pic, auto_eoi, 1),
    STATE_FIELD(struct irqchip_pic, rotate_on_auto_eoi, 1),
    STATE_FIELD(struct irqchip_pic, special_fully_nested, 1),
    STATE_FIELD(struct irqchip_pic, four_byte_init, 1),
    STATE_FIELD(struct irqchip_pic, init_state, 1),
    STATE_FIELD(struct irqchip_pic, elcr, 1),
    STATE_FIELD(struct irqchip_pic, elcr_mask, 1),
    STATE_END,
};

const struct state_field irqchip_ioapic_fields[] = {
    STATE_FIELD(struct irqchip_ioapic, base_address, 1),
    STATE_FIELD(struct irqchip_ioapic, ioregsel, 1),
    STATE_FIELD(struct irqchip_ioapic, id, 1),
    STATE_FIELD(struct irqchip_ioapic, irr, 1),
    STATE_ARRAY(struct irqchip_ioapic, redirect, 1),
    STATE_END,
};

const struct state_field irqchip_pit_channel_fields[] = {
    STATE_FIELD(struct irqchip_pit_channel, count, 1),
    STATE_FIELD(struct irqchip_pit_channel, latched_count, 1),
    STATE_FIELD(struct irqchip_pit_channel, count_latched, 1),
    STATE_FIELD(struct irqchip_pit_channel, status_latched, 1),
    STATE_FIELD(struct irqchip_pit_channel, status, 1),
    STATE_FIELD(struct irqchip_pit_channel, read_state, 1),
    STATE_FIELD(struct irqchip_pit_channel, write_state, 1),
    STATE_FIELD(struct irqchip_pit_channel, write_latch, 1),
    STATE_FIELD(struct irqchip_pit_channel, rw_mode, 1),
    STATE_FIELD(struct irqchip_pit_channel, mode, 1),
    STATE_FIELD(struct irqchip_pit_channel, bcd, 1),
    STATE_FIELD(struct irqchip_pit_channel, gate, 1),
    STATE_FIELD(struct irqchip_pit_channel, count_load_time, 1),
    STATE_END,
};

const struct state_field irqchip_lapic_fields[] = {
    STATE_ARRAY(struct irqchip_lapic, reg, 1),
    STATE_END,
};

const struct state_field ioapic_record_fields[] = {
    STATE_STRUCT(struct ioapic_record, chip, 1, irqchip_ioapic_fields),
    STATE_FIELD(struct ioapic_record, lines, 1),
    STATE_END,
};

const struct state_field lapic_record_fields[] = {
    STATE_STRUCT(struct lapic_record, chip, 1, irqchip_lapic_fields),
    STATE_FIELD(struct lapic_record, apic_base, 1),
    STATE_FIELD(struct lapic_record, tsc_deadline, 1),
    STATE_FIELD(struct lapic_record, timer_remaining, 1),
    STATE_FIELD(struct lapic_record, esr_pending, 1),
    STATE_FIELD(struct lapic_record, lint0, 1),
    STATE_FIELD(struct lapic_record, lint1, 1),
    STATE_FIELD(struct lapic_record, extint, 1),
    STATE_END,
};

const struct state_field pit_record_fields[] = {
    STATE_STRUCTS(struct pit_record, channel, 1, irqchip_pit_channel_fields),
    STATE_FIELD(struct pit_record, speaker_data_on, 1),
    STATE_FIELD(struct pit_record, port61, 1),
    STATE_ARRAY(struct pit_record, counting, 1),
    STATE_ARRAY(struct pit_record, null_count, 1),
    STATE_ARRAY(struct pit_record, next_count, 1),
    STATE_FIELD(struct pit_record, owed, 1),
    STATE_ARRAY(struct pit_record, programmed, 1),
    STATE_END,
};
