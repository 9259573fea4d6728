/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chips.c - the interrupt controllers and the PIT that KVM keeps in the kernel, and their registers in the form that our own
 * chips use.
 */
#include "engine/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IOAPIC_PINS = 24 };

/* GSI n reaches PIC input n (if it is below 16) and IOAPIC pin n, with two exceptions. GSI 0, the timer, is wired to IOAPIC
   pin 2, as the MADT says. GSI 2 reaches nothing, because PIC input 2 is the cascade. */
static int route(struct engine_vm *vm)
{
    struct kvm_irq_routing *r = calloc(1, sizeof(*r) + 40 * sizeof(r->entries[0]));
    if (!r)
        return -ENOMEM;
    for (u32 gsi = 0; gsi < IOAPIC_PINS; gsi++) {
        if (gsi == 2)
            continue;
        if (gsi < 16) {
            r->entries[r->nr++] = (struct kvm_irq_routing_entry){
                .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
                .u.irqchip = { gsi < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, gsi & 7 },
            };
        }
        r->entries[r->nr++] = (struct kvm_irq_routing_entry){
            .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi },
        };
    }
    int e = kvm_vm_ioctl(vm->vm_fd, KVM_SET_GSI_ROUTING, r);
    free(r);
    return e;
}

int kvm_create_chips(struct engine_vm *vm, struct error *err)
{
    struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY }; /* port 61h gates the PIT, and is in KVM, too */
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
    if (r < 0)
        return error_set(err, -r, "KVM cannot make its interrupt controllers: %s", strerror(-r));
    r = kvm_vm_ioctl(vm->vm_fd, KVM_CREATE_PIT2, &pit);
    if (r < 0)
        return error_set(err, -r, "KVM cannot make its timer: %s", strerror(-r));
    r = route(vm);
    if (r < 0)
        return error_set(err, -r, "KVM does not take the interrupt routing: %s", strerror(-r));
    return 0;
}

int kvm_irq_line(struct engine_vm *vm, u32 gsi, bool level)
{
    struct kvm_irq_level l = { .irq = gsi, .level = level };
    return gsi < IOAPIC_PINS ? kvm_vm_ioctl(vm->vm_fd, KVM_IRQ_LINE, &l) : -EINVAL;
}

int kvm_msi(struct engine_vm *vm, u64 address, u32 data)
{
    struct kvm_msi m = { .address_lo = (u32)address, .address_hi = (u32)(address >> 32), .data = data };
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_SIGNAL_MSI, &m);
    return r < 0 ? r : 0; /* above 0: it was delivered; 0: the guest blocks it */
}

static void pic_get(struct irqchip_pic *d, const struct kvm_pic_state *s)
{
    *d = (struct irqchip_pic){
        .lines = s->last_irr, .irr = s->irr, .imr = s->imr, .isr = s->isr, .priority_add = s->priority_add,
        .irq_base = s->irq_base, .read_isr = s->read_reg_select, .poll = s->poll, .special_mask = s->special_mask,
        .auto_eoi = s->auto_eoi, .rotate_on_auto_eoi = s->rotate_on_auto_eoi,
        .special_fully_nested = s->special_fully_nested_mode, .four_byte_init = s->init4, .init_state = s->init_state,
        .elcr = s->elcr, .elcr_mask = s->elcr_mask,
    };
}

static void pic_set(struct kvm_pic_state *d, const struct irqchip_pic *s)
{
    *d = (struct kvm_pic_state){
        .last_irr = s->lines, .irr = s->irr, .imr = s->imr, .isr = s->isr, .priority_add = s->priority_add & 7,
        .irq_base = s->irq_base, .read_reg_select = s->read_isr, .poll = s->poll, .special_mask = s->special_mask,
        .init_state = s->init_state & 3, .auto_eoi = s->auto_eoi, .rotate_on_auto_eoi = s->rotate_on_auto_eoi,
        .special_fully_nested_mode = s->special_fully_nested, .init4 = s->four_byte_init, .elcr = s->elcr,
        .elcr_mask = s->elcr_mask,
    };
}

static int pit_get(struct engine_vm *vm, struct irqchip_pit *d)
{
    struct kvm_pit_state2 s = { 0 };
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_GET_PIT2, &s);
    if (r < 0)
        return r;
    for (int i = 0; i < 3; i++) {
        const struct kvm_pit_channel_state *c = &s.channels[i];
        d->channel[i] = (struct irqchip_pit_channel){
            .count = c->count & 0xffff, .latched_count = c->latched_count, .count_latched = c->count_latched,
            .status_latched = c->status_latched, .status = c->status, .read_state = c->read_state,
            .write_state = c->write_state, .write_latch = c->write_latch, .rw_mode = c->rw_mode, .mode = c->mode,
            .bcd = c->bcd, .gate = c->gate, .count_load_time = (u64)c->count_load_time,
        };
    }
    d->speaker_data_on = s.flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    return 0;
}

static int pit_set(struct engine_vm *vm, const struct irqchip_pit *s)
{
    struct kvm_pit_state2 d = { 0 };
    for (int i = 0; i < 3; i++) {
        const struct irqchip_pit_channel *c = &s->channel[i];
        d.channels[i] = (struct kvm_pit_channel_state){
            .count = c->count ? c->count : 0x10000, .latched_count = c->latched_count, .count_latched = c->count_latched,
            .status_latched = c->status_latched, .status = c->status, .read_state = c->read_state,
            .write_state = c->write_state, .write_latch = c->write_latch, .rw_mode = c->rw_mode, .mode = c->mode,
            .bcd = c->bcd, .gate = c->gate, .count_load_time = (s64)c->count_load_time,
        };
    }
    if (s->speaker_data_on)
        d.flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_SET_PIT2, &d);
    if (r == -EINVAL && d.flags) { /* Linux before 5.19 does not know the flag */
        d.flags = 0;
        r = kvm_vm_ioctl(vm->vm_fd, KVM_SET_PIT2, &d);
    }
    return r;
}

int kvm_irqchip_get(struct engine_vm *vm, enum irqchip which, void *state)
{
    if (which == IRQCHIP_PIT)
        return pit_get(vm, state);
    struct kvm_irqchip c = { .chip_id = which == IRQCHIP_IOAPIC ? KVM_IRQCHIP_IOAPIC :
                             which == IRQCHIP_PIC_SLAVE ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER };
    int r = kvm_vm_ioctl(vm->vm_fd, KVM_GET_IRQCHIP, &c);
    if (r < 0)
        return r;
    if (which == IRQCHIP_IOAPIC) {
        struct irqchip_ioapic *d = state;
        d->base_address = c.chip.ioapic.base_address;
        d->ioregsel = c.chip.ioapic.ioregsel;
        d->id = c.chip.ioapic.id;
        d->irr = c.chip.ioapic.irr;
        for (int i = 0; i < IOAPIC_PINS; i++)
            d->redirect[i] = c.chip.ioapic.redirtbl[i].bits;
    } else {
        pic_get(state, &c.chip.pic);
    }
    return 0;
}

int kvm_irqchip_set(struct engine_vm *vm, enum irqchip which, const void *state)
{
    if (which == IRQCHIP_PIT)
        return pit_set(vm, state);
    struct kvm_irqchip c = { .chip_id = which == IRQCHIP_IOAPIC ? KVM_IRQCHIP_IOAPIC :
                             which == IRQCHIP_PIC_SLAVE ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER };
    if (which == IRQCHIP_IOAPIC) {
        const struct irqchip_ioapic *s = state;
        c.chip.ioapic.base_address = s->base_address;
        c.chip.ioapic.ioregsel = s->ioregsel;
        c.chip.ioapic.id = s->id;
        c.chip.ioapic.irr = s->irr;
        for (int i = 0; i < IOAPIC_PINS; i++)
            c.chip.ioapic.redirtbl[i].bits = s->redirect[i];
    } else {
        pic_set(&c.chip.pic, state);
    }
    return kvm_vm_ioctl(vm->vm_fd, KVM_SET_IRQCHIP, &c);
}

int kvm_lapic_get(struct engine_vcpu *v, struct irqchip_lapic *state)
{
    struct kvm_lapic_state k;
    int r = kvm_vm_ioctl(v->fd, KVM_GET_LAPIC, &k);
    for (u32 i = 0; r >= 0 && i < ARRAY_SIZE(state->reg); i++)
        memcpy(&state->reg[i], k.regs + i * 16, 4);
    return r;
}

int kvm_lapic_set(struct engine_vcpu *v, const struct irqchip_lapic *state)
{
    struct kvm_lapic_state k = { { 0 } };
    for (u32 i = 0; i < ARRAY_SIZE(state->reg); i++)
        memcpy(k.regs + i * 16, &state->reg[i], 4);
    int r = kvm_vm_ioctl(v->fd, KVM_SET_LAPIC, &k);
    /* KVM drops a write of IA32_TSC_DEADLINE while the timer is in another mode. The timer may be in that mode only now. */
    return r < 0 ? r : kvm_set_tsc_deadline(v, v->tsc_deadline);
}
