/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernel_irqchip.c - see kernel_irqchip.h.
 *
 * pre_save fetches a chip from the engine into the record; post_load pushes it back. Our own chips know some things
 * that the kernel does not tell (levels on I/O APIC inputs, the PIT's pending counts). These are kept or derived here.
 */
#include "irq/kernel_irqchip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "irq/ioapic.h"
#include "irq/lapic_private.h"
#include "irq/pic.h"

struct kernel_pic {
    struct irqchip_pic chip[2]; /* the same name as in struct pic, because the record is the same */
};
struct kernel_lapic {
    struct kernel_irqchip *k;
    u32 vcpu;
    struct lapic_record s;
};

struct kernel_irqchip {
    const struct engine_ops *engine;
    struct engine_vm *vm;
    struct engine_vcpu *const *vcpus;
    u32 cpus;
    u32 lines; /* as last set, by I/O APIC input; atomic */
    struct kernel_pic pic;
    struct ioapic_record ioapic;
    struct pit_record pit;
    struct cpu_state *scratch;
    struct kernel_lapic lapic[];
};

void kernel_irqchip_line(void *chip, u32 gsi, bool level)
{
    struct kernel_irqchip *k = chip;
    u32 pin = gsi == 0 ? 2 : gsi; /* as in gsi.h */

    if (gsi >= IOAPIC_PINS)
        return;
    if (level)
        __atomic_fetch_or(&k->lines, 1u << pin, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&k->lines, ~(1u << pin), __ATOMIC_RELAXED);
    k->engine->irq_line(k->vm, gsi, level);
}

int kernel_irqchip_msi(struct kernel_irqchip *k, u64 address, u32 data)
{
    return k->engine->msi(k->vm, address, data);
}

/* ---- pic ---- */

static int pic_saving(void *obj)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, pic);
    int r = k->engine->irqchip_get(k->vm, IRQCHIP_PIC_MASTER, &k->pic.chip[0]);

    return r ? r : k->engine->irqchip_get(k->vm, IRQCHIP_PIC_SLAVE, &k->pic.chip[1]);
}

static int pic_loaded(void *obj, struct error *err)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, pic);
    int r = pic_check_state(k->pic.chip, err);

    if (r)
        return r;
    /* The kernel's PIT pulses its line, so the line is low between ticks, while that of our PIT is high most of the
       time. If the line were loaded high, the first tick would be no edge. It would never be acknowledged, and would
       be the last tick (pit_do_work waits for irq_ack). */
    k->pic.chip[0].lines &= (u8)~1;
    r = k->engine->irqchip_set(k->vm, IRQCHIP_PIC_MASTER, &k->pic.chip[0]);
    if (!r)
        r = k->engine->irqchip_set(k->vm, IRQCHIP_PIC_SLAVE, &k->pic.chip[1]);
    return r ? error_set(err, -r, "the engine refuses the interrupt controllers' state: %s", strerror(-r)) : 0;
}

static const struct state_field pic_fields[] = {
    STATE_STRUCTS(struct kernel_pic, chip, 1, irqchip_pic_fields),
    STATE_END,
};
static const struct state_desc kernel_pic_state = { "pic", PIC_STATE_VERSION, pic_fields, pic_saving, pic_loaded, true };

/* ---- ioapic ---- */

static int ioapic_saving(void *obj)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, ioapic);

    k->ioapic.lines = __atomic_load_n(&k->lines, __ATOMIC_RELAXED);
    return k->engine->irqchip_get(k->vm, IRQCHIP_IOAPIC, &k->ioapic.chip);
}

static int ioapic_loaded(void *obj, struct error *err)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, ioapic);
    int r;

    k->ioapic.lines &= (u32)BIT(IOAPIC_PINS) - 1;
    k->ioapic.chip.irr &= (u32)BIT(IOAPIC_PINS) - 1;
    __atomic_store_n(&k->lines, k->ioapic.lines, __ATOMIC_RELAXED);
    r = k->engine->irqchip_set(k->vm, IRQCHIP_IOAPIC, &k->ioapic.chip);
    return r ? error_set(err, -r, "the engine refuses the I/O APIC's state: %s", strerror(-r)) : 0;
}

static const struct state_desc kernel_ioapic_state = { "ioapic", IOAPIC_STATE_VERSION, ioapic_record_fields,
                                                       ioapic_saving, ioapic_loaded, true };

/* ---- i8254 ---- */

static int pit_saving(void *obj)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, pit);
    struct irqchip_pit chip;
    int r = k->engine->irqchip_get(k->vm, IRQCHIP_PIT, &chip);
    u64 now = clock_ns();

    if (r)
        return r;
    k->pit = (struct pit_record){ .speaker_data_on = chip.speaker_data_on };
    for (unsigned i = 0; i < 3; i++) {
        struct irqchip_pit_channel *c = &k->pit.channel[i];
        bool triggered_by_gate;

        *c = chip.channel[i];
        c->count_load_time = now > c->count_load_time ? now - c->count_load_time : 0;
        triggered_by_gate = c->mode == 1 || c->mode == 5;
        k->pit.programmed[i] = c->mode <= 5;
        k->pit.counting[i] = k->pit.programmed[i] && (triggered_by_gate || c->gate);
    }
    k->pit.port61 = (u8)((k->pit.channel[2].gate ? 1 : 0) | (chip.speaker_data_on ? 2 : 0));
    return 0;
}

static int pit_loaded(void *obj, struct error *err)
{
    struct kernel_irqchip *k = container_of(obj, struct kernel_irqchip, pit);
    struct irqchip_pit chip = { .speaker_data_on = k->pit.speaker_data_on };
    u64 now = clock_ns();
    int r;

    for (unsigned i = 0; i < 3; i++) {
        chip.channel[i] = k->pit.channel[i];
        chip.channel[i].count_load_time = now - MIN(now, k->pit.channel[i].count_load_time);
        if (!k->pit.programmed[i])
            chip.channel[i].mode = 0xff; /* as the kernel marks an idle channel */
        else if (chip.channel[i].mode > 5)
            return error_set(err, EINVAL, "the saved state of timer (8254) channel %u is not possible", i);
    }
    r = k->engine->irqchip_set(k->vm, IRQCHIP_PIT, &chip);
    return r ? error_set(err, -r, "the engine refuses the timer's (8254) state: %s", strerror(-r)) : 0;
}

static const struct state_desc kernel_pit_state = { "i8254", PIT_STATE_VERSION, pit_record_fields, pit_saving, pit_loaded };

/* ---- lapic ---- */

static int lapic_saving(void *obj)
{
    struct kernel_lapic *l = container_of(obj, struct kernel_lapic, s);
    struct kernel_irqchip *k = l->k;
    struct engine_vcpu *v = k->vcpus[l->vcpu];
    u32 *reg = l->s.chip.reg, dcr;
    int r = k->engine->get_state(v, k->scratch);

    if (!r)
        r = k->engine->lapic_get(v, &l->s.chip);
    if (r)
        return r;
    l->s.apic_base = k->scratch->apic_base;
    l->s.tsc_deadline = k->scratch->tsc_deadline;
    l->s.esr_pending = 0;
    l->s.lint0 = l->s.lint1 = l->s.extint = false;
    l->s.timer_remaining = LAPIC_TIMER_STOPPED;
    dcr = (reg[R_TIMER_DIVIDE] & 3) | (reg[R_TIMER_DIVIDE] >> 1 & 4);
    if ((reg[R_LVT_TIMER] & LVT_TIMER_MODE) != LVT_TIMER_DEADLINE && reg[R_TIMER_CURRENT])
        l->s.timer_remaining = reg[R_TIMER_CURRENT] * (dcr == 7 ? 1 : 2ull << dcr);
    return 0;
}

/* The mode (APIC_BASE) must be set before the registers. The kernel accepts the deadline only after the timer's mode
   is set. */
static int push_lapic(struct kernel_lapic *l)
{
    struct kernel_irqchip *k = l->k;
    struct engine_vcpu *v = k->vcpus[l->vcpu];
    int r = k->engine->get_state(v, k->scratch);

    if (r)
        return r;
    k->scratch->apic_base = l->s.apic_base;
    k->scratch->tsc_deadline = l->s.tsc_deadline;
    k->scratch->cr8 = l->s.chip.reg[R_TPR] >> 4 & 0xf;
    r = k->engine->set_state(v, k->scratch);
    if (!r)
        r = k->engine->lapic_set(v, &l->s.chip);
    if (!r && l->s.tsc_deadline)
        r = k->engine->set_state(v, k->scratch);
    return r;
}

static int lapic_loaded(void *obj, struct error *err)
{
    struct kernel_lapic *l = container_of(obj, struct kernel_lapic, s);
    int r = lapic_check_record(&l->s, l->vcpu, err);

    if (r)
        return r;
    r = push_lapic(l);
    return r ? error_set(err, -r, "the engine refuses the local APIC's state of processor %u: %s", l->vcpu, strerror(-r))
             : 0;
}

static const struct state_desc kernel_lapic_state = { "lapic", LAPIC_STATE_VERSION, lapic_record_fields, lapic_saving,
                                                      lapic_loaded, true };

/* ---- all chips together ---- */

int kernel_irqchip_add_state(struct kernel_irqchip *k, struct state_list *list)
{
    int r = state_add(list, &kernel_pic_state, 0, &k->pic);

    if (!r)
        r = state_add(list, &kernel_ioapic_state, 0, &k->ioapic);
    if (!r)
        r = state_add(list, &kernel_pit_state, 0, &k->pit);
    for (u32 i = 0; i < k->cpus && !r; i++)
        r = state_add(list, &kernel_lapic_state, i, &k->lapic[i].s);
    return r;
}

static void lapic_defaults(struct lapic_record *s, u32 vcpu)
{
    u32 *reg = s->chip.reg;

    memset(s, 0, sizeof(*s));
    s->timer_remaining = LAPIC_TIMER_STOPPED;
    s->apic_base = LAPIC_DEFAULT_BASE | APIC_BASE_EN | (vcpu == 0 ? APIC_BASE_BSP : 0);
    reg[R_ID] = vcpu << 24;
    reg[R_VERSION] = APIC_VERSION;
    reg[R_DFR] = 0xffffffff;
    reg[R_SVR] = 0xff;
    for (unsigned i = R_LVT_TIMER; i <= R_LVT_ERROR; i++)
        reg[i] = LVT_MASKED;
    if (vcpu == 0)
        reg[R_LVT_LINT0] = DELIVER_EXTINT << 8;
}

int kernel_irqchip_reset(struct kernel_irqchip *k)
{
    struct error ignored;
    int r;

    __atomic_store_n(&k->lines, 0, __ATOMIC_RELAXED);
    memset(&k->pic, 0, sizeof(k->pic));
    k->pic.chip[0].elcr_mask = 0xf8;
    k->pic.chip[1].elcr_mask = 0xde;
    memset(&k->ioapic, 0, sizeof(k->ioapic));
    k->ioapic.chip.base_address = IOAPIC_DEFAULT_BASE;
    for (u32 i = 0; i < IOAPIC_PINS; i++)
        k->ioapic.chip.redirect[i] = BIT(16);
    memset(&k->pit, 0, sizeof(k->pit));
    for (unsigned i = 0; i < 3; i++) {
        k->pit.channel[i].count = 0x10000;
        k->pit.channel[i].gate = i != 2;
    }
    r = pic_loaded(&k->pic, &ignored);
    if (!r)
        r = ioapic_loaded(&k->ioapic, &ignored);
    if (!r)
        r = pit_loaded(&k->pit, &ignored);
    for (u32 i = 0; i < k->cpus && !r; i++) {
        lapic_defaults(&k->lapic[i].s, i);
        r = push_lapic(&k->lapic[i]);
    }
    return r;
}

int kernel_irqchip_init(struct kernel_irqchip *k)
{
    int r = 0;

    for (u32 i = 0; i < k->cpus && !r; i++) {
        struct lapic_record *s = &k->lapic[i].s;
        if ((r = lapic_saving(s)))
            break;
        const u64 base = s->apic_base;
        const u32 id = s->chip.reg[R_ID];
        lapic_defaults(s, i);
        s->apic_base = base;
        s->chip.reg[R_ID] = id;
        r = push_lapic(&k->lapic[i]);
    }
    return r;
}

struct kernel_irqchip *kernel_irqchip_new(const struct engine_ops *engine, struct engine_vm *vm,
                                          struct engine_vcpu *const *vcpus, u32 cpus)
{
    struct kernel_irqchip *k = calloc(1, sizeof(*k) + cpus * sizeof(k->lapic[0]));

    if (!k)
        return NULL;
    /* cpu_state is aligned for XSAVE */
    k->scratch = aligned_alloc(64, align_up(sizeof(*k->scratch), 64));
    if (!k->scratch) {
        free(k);
        return NULL;
    }
    memset(k->scratch, 0, sizeof(*k->scratch));
    k->engine = engine;
    k->vm = vm;
    k->vcpus = vcpus;
    k->cpus = cpus;
    for (u32 i = 0; i < cpus; i++) {
        k->lapic[i].k = k;
        k->lapic[i].vcpu = i;
    }
    return k;
}

void kernel_irqchip_free(struct kernel_irqchip *k)
{
    if (!k)
        return;
    free(k->scratch);
    free(k);
}
