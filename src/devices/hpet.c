/* SPDX-License-Identifier: Apache-2.0 */
/* hpet.c - see hpet.h.  Register and bit names are the specification's. */
#include "devices/hpet.h"

#include <string.h>

enum { GCAP_ID = 0x000, GEN_CONF = 0x010, GINTR_STA = 0x020, MAIN_CNT = 0x0f0, TIMER_FIRST = 0x100, TIMER_SIZE = 0x20,
       TIM_CONF = 0x00, TIM_COMP = 0x08 };
enum { CONF_ENABLE = 1 << 0, CONF_LEG_RT = 1 << 1 };
enum { TIM_LEVEL = 1 << 1, TIM_INT_ENB = 1 << 2, TIM_PERIODIC = 1 << 3, TIM_PER_CAP = 1 << 4, TIM_SIZE_CAP = 1 << 5,
       TIM_VAL_SET = 1 << 6, TIM_32MODE = 1 << 8, TIM_ROUTE_SHIFT = 9, TIM_ROUTE = 0x1f << TIM_ROUTE_SHIFT };

#define ROUTES 0x00f00000ull
#define TIM_WRITABLE ((u64)(TIM_LEVEL | TIM_INT_ENB | TIM_PERIODIC | TIM_VAL_SET | TIM_32MODE | TIM_ROUTE))
#define TIM_FIXED (ROUTES << 32 | TIM_PER_CAP | TIM_SIZE_CAP)

static bool running(const struct hpet *h)
{
    return h->config & CONF_ENABLE;
}

/* Both bits are needed (2.3.5). */
static bool replaces(const struct hpet *h)
{
    return (h->config & (CONF_ENABLE | CONF_LEG_RT)) == (CONF_ENABLE | CONF_LEG_RT);
}

static u64 counter(const struct hpet *h)
{
    return running(h) ? h->counter + (clock_ns() - h->start) / HPET_TICK_NS : h->counter;
}

/* The first counter value after `seen` that matches. */
static u64 next_match(const struct hpet_timer *t)
{
    if (t->config & TIM_32MODE)
        return t->seen + 1 + (u32)((u32)t->comparator - (u32)t->seen - 1);
    return t->comparator > t->seen ? t->comparator : UINT64_MAX; /* 64 bits do not wrap: 5,800 years */
}

static const u32 legacy_irq[2] = { 0, 8 };

static void drive(struct hpet_timer *t, bool level)
{
    struct irq_line line = t->hpet->gsi;

    if (level == t->line)
        return;
    if (level) {
        const unsigned n = (unsigned)(t - t->hpet->t);
        const bool legacy = n < 2 && replaces(t->hpet);
        t->line_gsi = legacy ? legacy_irq[n] : (u32)(t->config >> TIM_ROUTE_SHIFT & 0x1f);
        if (!legacy && !(ROUTES >> t->line_gsi & 1))
            return; /* not connected */
    }
    t->line = level;
    line.pin = t->line_gsi;
    irq_set(&line, level);
}

/* The line is as GINTR_STA and the configuration have it: after one of them changed. */
static void drive_status(struct hpet_timer *t)
{
    struct hpet *h = t->hpet;

    drive(t, false);
    if (running(h) && (h->status >> (t - h->t) & 1) && (t->config & TIM_LEVEL) && (t->config & TIM_INT_ENB))
        drive(t, true);
}

/* IRQ 0 and 8 change hands. */
static void pass_legacy(struct hpet *h)
{
    struct irq_line line = h->gsi;

    for (unsigned n = 0; n < 2 && h->legacy; n++) {
        line.pin = legacy_irq[n];
        irq_set(&line, !replaces(h) && h->legacy_in[n]);
    }
}

void hpet_input(void *hpet, u32 n, bool level)
{
    struct hpet *h = hpet;
    struct irq_line line = h->gsi;

    pthread_mutex_lock(&h->lock);
    h->legacy_in[n] = level;
    line.pin = legacy_irq[n];
    if (!replaces(h))
        irq_set(&line, level);
    pthread_mutex_unlock(&h->lock);
}

static void arm(struct hpet_timer *t, u64 now_count)
{
    struct hpet *h = t->hpet;
    u64 at = next_match(t), ns;

    if (!running(h) || !(t->config & TIM_INT_ENB) || at == UINT64_MAX ||
        __builtin_mul_overflow(at > now_count ? at - now_count : 0, (u64)HPET_TICK_NS, &ns)) {
        timer_disarm(&t->timer);
        return;
    }
    timer_arm(&t->timer, add_overflows(clock_ns(), ns, &ns) ? UINT64_MAX : ns);
}

/* Acts on what the counter has passed since last time. */
static void sync(struct hpet *h)
{
    u64 now = counter(h), at;

    for (unsigned i = 0; i < HPET_TIMERS && running(h); i++) {
        struct hpet_timer *t = &h->t[i];

        at = next_match(t);
        t->seen = now;
        if (at > now)
            continue;
        if ((t->config & TIM_PERIODIC) && t->period) {
            u64 next = at + ((now - at) / t->period + 1) * t->period; /* missed ones make one interrupt */

            t->comparator = t->config & TIM_32MODE ? (u32)next : next;
        }
        if (t->config & TIM_LEVEL)
            h->status |= 1u << i; /* also where the interrupt is not enabled */
        if (!(t->config & TIM_INT_ENB))
            continue;
        drive(t, true);
        if (!(t->config & TIM_LEVEL))
            drive(t, false);
    }
}

static void arm_all(struct hpet *h)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        arm(&h->t[i], counter(h));
}

static void timer_fired(struct timer *timer)
{
    struct hpet_timer *t = container_of(timer, struct hpet_timer, timer);
    struct hpet *h = t->hpet;

    pthread_mutex_lock(&h->lock);
    sync(h);
    arm(t, counter(h));
    if (timer->armed)
        timer_arm(timer, MAX(timer->deadline, clock_ns() + HPET_MIN_INTERVAL_NS));
    pthread_mutex_unlock(&h->lock);
}

/* ---- registers, 64 bits each ---- */

u32 hpet_id(const struct hpet *h)
{
    return HPET_ID | (h->legacy ? (u32)HPET_LEG_RT_CAP : 0);
}

static u64 read_register(struct hpet *h, u64 r)
{
    unsigned i = (unsigned)(r - TIMER_FIRST) / TIMER_SIZE;

    switch (r) {
    case GCAP_ID:
        return (u64)HPET_TICK_NS * 1000000 << 32 | hpet_id(h); /* the period is in femtoseconds */
    case GEN_CONF:
        return h->config;
    case GINTR_STA:
        return h->status;
    case MAIN_CNT:
        return counter(h);
    default:
        break;
    }
    if (r < TIMER_FIRST || i >= HPET_TIMERS)
        return 0;
    if (r % TIMER_SIZE == TIM_CONF)
        return h->t[i].config | TIM_FIXED;
    return r % TIMER_SIZE == TIM_COMP ? h->t[i].comparator : 0;
}

static void write_config(struct hpet *h, u64 value)
{
    const u64 now = counter(h), changed = (value ^ h->config) & (CONF_ENABLE | (h->legacy ? CONF_LEG_RT : 0));
    const bool replaced = replaces(h);

    if (!changed)
        return;
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        drive(&h->t[i], false);
    h->config ^= changed;
    if (changed & CONF_ENABLE) {
        h->counter = now;
        h->start = clock_ns();
        for (unsigned i = 0; i < HPET_TIMERS; i++)
            h->t[i].seen = now;
    }
    if (replaced != replaces(h))
        pass_legacy(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        drive_status(&h->t[i]);
}

static void write_timer(struct hpet_timer *t, u64 offset, u64 value)
{
    if (offset == TIM_CONF) {
        t->config = value & TIM_WRITABLE;
        if (t->config & TIM_32MODE)
            t->comparator = (u32)t->comparator;
        drive_status(t); /* also by another route */
    } else if (offset == TIM_COMP) {
        if (t->config & TIM_32MODE)
            value = (u32)value;
        /* Periodic: VAL_SET lets the next write set the comparator too; each sets the period. */
        if (!(t->config & TIM_PERIODIC) || (t->config & TIM_VAL_SET))
            t->comparator = value;
        if (t->config & TIM_PERIODIC)
            t->period = value;
        t->config &= ~(u64)TIM_VAL_SET;
    }
}

static void write_register(struct hpet *h, u64 r, u64 value)
{
    unsigned i = (unsigned)(r - TIMER_FIRST) / TIMER_SIZE;

    switch (r) {
    case GEN_CONF:
        write_config(h, value);
        return;
    case GINTR_STA: /* write 1 to clear */
        h->status &= ~value;
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            if (value >> n & 1)
                drive_status(&h->t[n]);
        return;
    case MAIN_CNT:
        if (running(h))
            return; /* the specification forbids it */
        h->counter = value;
        for (unsigned n = 0; n < HPET_TIMERS; n++)
            h->t[n].seen = value;
        return;
    default:
        if (r >= TIMER_FIRST && i < HPET_TIMERS)
            write_timer(&h->t[i], r % TIMER_SIZE, value);
        return;
    }
}

static u64 hpet_read(void *dev, u64 offset, unsigned size)
{
    struct hpet *h = dev;
    u64 v;

    pthread_mutex_lock(&h->lock);
    sync(h);
    v = read_register(h, offset & ~7ull);
    pthread_mutex_unlock(&h->lock);
    return size == 4 ? (u32)(v >> (offset & 4) * 8) : v;
}

static void hpet_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct hpet *h = dev;
    u64 r = offset & ~7ull, mask = 0xffffffffull << (offset & 4) * 8;

    pthread_mutex_lock(&h->lock);
    sync(h);
    if (size == 4) {
        value <<= (offset & 4) * 8;
        /* The other half stays; of the status register it must not be written back. */
        if (r != GINTR_STA)
            value = (value & mask) | (read_register(h, r) & ~mask);
    }
    write_register(h, r, value);
    sync(h); /* a comparator may already have been reached */
    arm_all(h);
    pthread_mutex_unlock(&h->lock);
}

const struct bus_ops hpet_ops = { .read = hpet_read, .write = hpet_write, .min_size = 4, .max_size = 8 };

/* ---- life ---- */

void hpet_reset(struct hpet *h)
{
    pthread_mutex_lock(&h->lock);
    const bool replaced = replaces(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        drive(&h->t[i], false);
    h->config = h->status = h->counter = 0;
    if (replaced)
        pass_legacy(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        struct hpet_timer *t = &h->t[i];

        timer_disarm(&t->timer);
        t->config = t->period = t->seen = 0;
        t->comparator = UINT64_MAX;
    }
    pthread_mutex_unlock(&h->lock);
}

void hpet_init(struct hpet *h, struct loop *loop, const struct irq_line *gsi, bool legacy)
{
    memset(h, 0, sizeof(*h));
    pthread_mutex_init(&h->lock, NULL);
    h->gsi = *gsi;
    h->legacy = legacy;
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        h->t[i].hpet = h;
        timer_init(&h->t[i].timer, loop, timer_fired);
    }
    hpet_reset(h);
}

void hpet_destroy(struct hpet *h)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++)
        timer_disarm(&h->t[i].timer);
    pthread_mutex_destroy(&h->lock);
}

/* Comparators that have matched since the last look are served later, here or after loading: the interrupt controllers may be saved
   already, and would not know of it. */
static int saving(void *obj)
{
    struct hpet *h = obj;

    pthread_mutex_lock(&h->lock);
    h->counter = counter(h);
    h->start = clock_ns();
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct hpet *h = obj;

    pthread_mutex_lock(&h->lock);
    h->config &= CONF_ENABLE | (h->legacy ? CONF_LEG_RT : 0);
    h->status &= (1u << HPET_TIMERS) - 1;
    h->start = clock_ns();
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        h->t[i].config &= TIM_WRITABLE;
        h->t[i].line_gsi &= 0x1f;
        h->t[i].line &= (ROUTES >> h->t[i].line_gsi & 1) || (i < 2 && h->t[i].line_gsi == legacy_irq[i] && replaces(h));
        h->t[i].seen = MIN(h->t[i].seen, h->counter);
    }
    arm_all(h);
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static const struct state_field timer_fields[] = {
    STATE_FIELD(struct hpet_timer, config, 1), STATE_FIELD(struct hpet_timer, comparator, 1),
    STATE_FIELD(struct hpet_timer, period, 1), STATE_FIELD(struct hpet_timer, seen, 1),
    STATE_FIELD(struct hpet_timer, line, 1),   STATE_FIELD(struct hpet_timer, line_gsi, 1),
    STATE_END,
};
static const struct state_field fields[] = {
    STATE_FIELD(struct hpet, config, 1),
    STATE_FIELD(struct hpet, status, 1),
    STATE_FIELD(struct hpet, counter, 1),
    STATE_STRUCTS(struct hpet, t, 1, timer_fields),
    STATE_ARRAY(struct hpet, legacy_in, 2),
    STATE_END,
};
const struct state_desc hpet_state = { "hpet", 2, fields, saving, loaded };
