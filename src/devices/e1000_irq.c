/* SPDX-License-Identifier: Apache-2.0 */
/* e1000_irq.c - interrupts of the 82540EM and what delays them (3.2.7, 3.4.3, 13.4.18); link, statistics, rings. */
#include "devices/e1000_internal.h"

static void set_line(struct e1000 *e, bool level)
{
    if (level != e->line)
        pci_set_intx(&e->f, e->line = level);
}

/* ITR keeps interrupts apart; what is asked for meanwhile comes with the next one (13.4.18). */
void e1000_interrupts(struct e1000 *e)
{
    if (!(REG(ICR) & REG(IMS))) {
        set_line(e, false);
        timer_disarm(&e->itr);
        return;
    }
    if (e->line)
        return;
    u64 now = REG(ITR) ? clock_ns() : 0;
    if (now < e->next_interrupt && REG(ITR)) {
        timer_arm(&e->itr, e->next_interrupt);
        return;
    }
    e->next_interrupt = now + REG(ITR) * (u64)E1000_ITR_UNIT_NS;
    set_line(e, true);
}

static void itr_fired(struct timer *t)
{
    struct e1000 *e = container_of(t, struct e1000, itr);

    pthread_mutex_lock(&e->lock);
    e1000_interrupts(e);
    pthread_mutex_unlock(&e->lock);
}

void e1000_cause(struct e1000 *e, u32 causes)
{
    REG(ICR) |= causes;
    e1000_interrupts(e);
}

void e1000_delay(struct e1000_delay *d, u32 wait, u32 limit)
{
    u64 now = clock_ns();

    if (limit && !d->limit)
        d->limit = now + limit * (u64)E1000_DELAY_UNIT_NS;
    d->at = now + wait * (u64)E1000_DELAY_UNIT_NS;
    if (d->limit)
        d->at = MIN(d->at, d->limit);
    timer_arm(&d->timer, d->at);
}

void e1000_delay_stop(struct e1000_delay *d)
{
    d->at = d->limit = 0;
    timer_disarm(&d->timer);
}

void e1000_delay_over(struct e1000 *e, struct e1000_delay *d, u32 cause)
{
    if (!d->at)
        return;
    e1000_delay_stop(d);
    e1000_cause(e, cause);
}

static void rx_delay_fired(struct timer *t)
{
    struct e1000 *e = container_of(t, struct e1000, rx_delay.timer);

    pthread_mutex_lock(&e->lock);
    if (clock_ns() >= e->rx_delay.at)
        e1000_delay_over(e, &e->rx_delay, RXT0);
    pthread_mutex_unlock(&e->lock);
}

static void tx_delay_fired(struct timer *t)
{
    struct e1000 *e = container_of(t, struct e1000, tx_delay.timer);

    pthread_mutex_lock(&e->lock);
    if (clock_ns() >= e->tx_delay.at)
        e1000_delay_over(e, &e->tx_delay, TXDW);
    pthread_mutex_unlock(&e->lock);
}

/* ---- link, statistics, rings --------------------------------------------- */

bool e1000_link(const struct e1000 *e)
{
    return (e->cable || (e->phy[PHY_CTRL] & PHY_CTRL_LOOPBACK)) && (e->reg[CTRL / 4] & CTRL_SLU) &&
           !(e->phy[PHY_CTRL] & PHY_CTRL_POWER_DOWN);
}

void e1000_link_changed(struct e1000 *e)
{
    e1000_cause(e, LSC);
}

void e1000_count(struct e1000 *e, u32 stat, u64 n)
{
    u64 low = REG(stat) + n;

    if (stat == GORCL || stat == GOTCL || stat == TORL || stat == TOTL) {
        REG(stat) = (u32)low;
        REG(stat + 4) += (u32)(low >> 32);
    } else {
        REG(stat) = (u32)MIN(low, UINT32_MAX);
    }
}

bool e1000_ring(struct e1000 *e, u32 bal, struct e1000_ring *r)
{
    r->base = REG(bal) | (u64)REG(bal + 4) << 32;
    r->n = REG(bal + 8) / 16;
    r->head = REG(bal + 0x10);
    r->tail = REG(bal + 0x18);
    return r->head < r->n && r->tail < r->n && pci_bus_master(&e->f);
}

void e1000_timers_init(struct e1000 *e, struct loop *loop)
{
    timer_init(&e->rx_delay.timer, loop, rx_delay_fired);
    timer_init(&e->tx_delay.timer, loop, tx_delay_fired);
    timer_init(&e->itr, loop, itr_fired);
}
