/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lapic_timer.c - the APIC timer: one-shot, periodic, TSC-deadline. SDM vol. 3 11.5.4.
 *
 * It keeps the time at which the counter reaches zero, and computes the current count when the guest reads it. Either
 * the timer service or a register access delivers an interrupt that is due: the one that comes first
 * (lapic_timer_sync).
 */
#include "base/loop.h"
#include "irq/lapic_private.h"

/* The shortest period: no periodic timer interrupts more often than this, whatever the guest asks for. */
enum { MIN_PERIOD_NS = 50000 };

static bool deadline_mode(const struct lapic *l)
{
    return (l->s.chip.reg[R_LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_DEADLINE;
}

static bool periodic(const struct lapic *l)
{
    return (l->s.chip.reg[R_LVT_TIMER] & LVT_TIMER_MODE) == LVT_TIMER_PERIODIC;
}

/* Bus clocks (ns) for each count. Divide configuration: bits 3, 1, 0; 7 means divide by 1. */
static u64 divisor(u32 dcr)
{
    u32 v = (dcr & 3) | (dcr >> 1 & 4);

    return v == 7 ? 1 : 2ull << v;
}

static u64 period(const struct lapic *l)
{
    return l->s.chip.reg[R_TIMER_INIT] * divisor(l->s.chip.reg[R_TIMER_DIVIDE]);
}

void lapic_timer_stop(struct lapic *l)
{
    if (!l->running)
        return;
    l->running = false;
    timer_disarm(&l->timer);
}

static void start(struct lapic *l, u64 expiry)
{
    l->expiry = expiry;
    l->running = true;
    timer_arm(&l->timer, expiry);
}

/* Reads the TSC again, because the deadline on the host's clock may be inexact by rounding. */
static void sync_deadline(struct lapic *l)
{
    const struct lapic_config *c = &l->set->c;
    u64 tsc = c->ops->tsc_now(c->ctx, l->vcpu), deadline = l->s.tsc_deadline, now = clock_ns(), expiry;

    if (!deadline)
        return;
    if (tsc >= deadline) {
        l->s.tsc_deadline = 0;
        lapic_timer_stop(l);
        lapic_local(l, R_LVT_TIMER);
        return;
    }
    if (add_overflows(now, c->ops->tsc_to_ns(c->ctx, deadline - tsc), &expiry))
        expiry = UINT64_MAX;
    start(l, expiry == now ? now + 1 : expiry);
}

void lapic_timer_sync(struct lapic *l)
{
    u64 now, p;

    if (!l->running)
        return;
    now = clock_ns();
    if (now < l->expiry)
        return;
    if (deadline_mode(l)) {
        sync_deadline(l);
        return;
    }
    p = periodic(l) ? period(l) : 0;
    if (p) {
        /* Missed periods make only one interrupt, since IRR holds no more than one. */
        l->expiry += ((now - l->expiry) / p + 1) * p;
        timer_arm(&l->timer, MAX(l->expiry, now + MIN_PERIOD_NS));
    } else {
        lapic_timer_stop(l);
    }
    lapic_local(l, R_LVT_TIMER);
}

void lapic_timer_fire(struct timer *t)
{
    struct lapic *l = container_of(t, struct lapic, timer);

    lapic_lock(l);
    lapic_timer_sync(l); /* a stale call finds nothing due */
    lapic_unlock(l);
}

void lapic_timer_init_count(struct lapic *l, u32 count)
{
    lapic_timer_sync(l);
    if (deadline_mode(l))
        return; /* SDM 11.5.4.1: the write is ignored */
    l->s.chip.reg[R_TIMER_INIT] = count;
    if (count)
        start(l, clock_ns() + period(l));
    else
        lapic_timer_stop(l);
}

/* A new divisor scales the time that is left. */
void lapic_timer_divide(struct lapic *l, u32 value)
{
    u32 *dcr = &l->s.chip.reg[R_TIMER_DIVIDE];
    u64 now = clock_ns(), was = divisor(*dcr), left;

    lapic_timer_sync(l);
    *dcr = value & 0xb;
    if (!l->running || deadline_mode(l) || divisor(*dcr) == was)
        return;
    left = l->expiry > now ? l->expiry - now : 0; /* below 2^40: no overflow in the product */
    start(l, now + left / was * divisor(*dcr));
}

void lapic_timer_lvt(struct lapic *l, u32 value)
{
    u32 *lvt = &l->s.chip.reg[R_LVT_TIMER], changed;

    lapic_timer_sync(l);
    changed = (*lvt ^ value) & LVT_TIMER_MODE;
    /* SDM 11.5.4.1: a change into or out of TSC-deadline mode disarms the timer. Between one-shot and periodic, the
       timer goes on. */
    if ((changed & LVT_TIMER_DEADLINE) || (value & LVT_TIMER_MODE) == LVT_TIMER_MODE) {
        lapic_timer_stop(l);
        l->s.tsc_deadline = 0;
        l->s.chip.reg[R_TIMER_INIT] = 0;
    }
    *lvt = value;
}

u32 lapic_timer_current(struct lapic *l)
{
    u64 now, d = divisor(l->s.chip.reg[R_TIMER_DIVIDE]);

    lapic_timer_sync(l);
    if (!l->running || deadline_mode(l))
        return 0;
    now = clock_ns();
    return now >= l->expiry ? 0 : (u32)MIN((l->expiry - now + d - 1) / d, UINT32_MAX);
}

void lapic_timer_deadline(struct lapic *l, u64 tsc)
{
    if (!deadline_mode(l))
        return; /* SDM 11.5.4.1: the write is ignored, and the register reads zero */
    l->s.tsc_deadline = tsc;
    if (tsc)
        sync_deadline(l);
    else
        lapic_timer_stop(l);
}

void lapic_tsc_changed(struct lapic_set *set, u32 vcpu)
{
    struct lapic *l;

    if (vcpu >= set->c.cpus)
        return;
    l = &set->apic[vcpu];
    lapic_lock(l);
    if (deadline_mode(l))
        sync_deadline(l);
    lapic_unlock(l);
}

void lapic_timer_save(struct lapic *l)
{
    u64 now = clock_ns();

    l->s.chip.reg[R_TIMER_CURRENT] = lapic_timer_current(l);
    l->s.timer_remaining = LAPIC_TIMER_STOPPED;
    if (l->running && !deadline_mode(l))
        l->s.timer_remaining = l->expiry > now ? l->expiry - now : 0;
}

void lapic_timer_load(struct lapic *l)
{
    lapic_timer_stop(l);
    l->s.chip.reg[R_TIMER_DIVIDE] &= 0xb;
    /* A TSC deadline is armed by lapic_tsc_changed, because the processor's TSC may not be loaded yet. */
    if (!deadline_mode(l) && l->s.timer_remaining != LAPIC_TIMER_STOPPED)
        start(l, clock_ns() + l->s.timer_remaining);
}
