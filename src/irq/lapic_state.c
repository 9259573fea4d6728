/* SPDX-License-Identifier: Apache-2.0 */
/* lapic_state.c - the local APICs' state in a stream, and the checks of a record that was loaded. */
#include <errno.h>

#include "irq/lapic_private.h"

int lapic_check_record(const struct lapic_record *r, u32 vcpu, struct error *err)
{
    const u32 *reg = r->chip.reg;

    if ((r->apic_base & (APIC_BASE_EXTD | APIC_BASE_EN)) == APIC_BASE_EXTD || (r->apic_base & 0x2ff) ||
        r->apic_base >> 52)
        return error_set(err, EINVAL, "the saved APIC_BASE of processor %u (%#llx) is not possible", vcpu,
                         (unsigned long long)r->apic_base);
    if (mode_of(r->apic_base) == MODE_X2APIC && reg[R_ID] != vcpu << 24)
        return error_set(err, EINVAL, "the saved x2APIC ID of processor %u is %u", vcpu, reg[R_ID] >> 24);
    if ((reg[R_ISR] | reg[R_IRR] | reg[R_TMR]) & 0xffff)
        return error_set(err, EINVAL, "the saved local APIC of processor %u has interrupts below vector 16", vcpu);
    if (r->timer_remaining != LAPIC_TIMER_STOPPED && r->timer_remaining > BIT(40))
        return error_set(err, EINVAL, "the saved local APIC timer of processor %u runs for too long", vcpu);
    return 0;
}

static int saving(void *obj)
{
    struct lapic *l = container_of(obj, struct lapic, s);

    lapic_lock(l);
    lapic_timer_save(l);
    lapic_unlock(l);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct lapic *l = container_of(obj, struct lapic, s);
    int r = lapic_check_record(&l->s, l->vcpu, err);

    if (r)
        return r;
    lapic_lock(l);
    l->s.chip.reg[R_VERSION] = APIC_VERSION;
    lapic_publish(l);
    lapic_timer_load(l);
    lapic_update(l);
    l->set->c.ops->intr(l->set->c.ctx, l->vcpu, l->intr); /* the engine's pin may have another level */
    lapic_unlock(l);
    return 0;
}

static const struct state_desc lapic_state = { "lapic", LAPIC_STATE_VERSION, lapic_record_fields, saving, loaded, true };

int lapic_add_state(struct lapic_set *set, struct state_list *list)
{
    for (u32 i = 0; i < set->c.cpus; i++) {
        int r = state_add(list, &lapic_state, i, &set->apic[i].s);

        if (r)
            return r;
    }
    return 0;
}
