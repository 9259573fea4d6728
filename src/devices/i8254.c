/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i8254.c - see i8254.h.
 *
 * A channel's position is the number of clocks since it was loaded: elapsed time
 * while it counts, a frozen age while its gate or the mode holds it.  Counts are
 * kept as written (binary or BCD, 10000h for 0) and converted where used.
 */
#include "devices/i8254.h"

#include <errno.h>
#include <string.h>

/* rw_mode; and read_state, write_state, count_latched, which also say that a word's second byte is next. These are the
   numbers an in-kernel 8254 uses: records pass between the two. */
enum { RW_LATCH = 0, RW_LSB = 1, RW_MSB = 2, RW_WORD = 3, RW_WORD_SECOND = 4 };
enum { MAX_OWED = 64 };
/* Channel 0 never interrupts more often than this, whatever count it is given. */
enum { MIN_INTERVAL_NS = 100000 };

#define NS_PER_S 1000000000ull

static u64 ns_to_clocks(u64 ns)
{
    return (u64)((unsigned __int128)ns * PIT_HZ / NS_PER_S);
}

/* The first instant at which that many clocks have passed. */
static u64 clocks_to_ns(u64 clocks)
{
    return (u64)(((unsigned __int128)clocks * NS_PER_S + PIT_HZ - 1) / PIT_HZ);
}

static u32 from_bcd(u32 v)
{
    return v == 0x10000 ? 10000 : (v >> 12 & 15) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15);
}

static u16 to_bcd(u32 v)
{
    return (u16)((v / 1000 % 10) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10);
}

/* Clocks in a count register as written. Never 0. */
static u32 clocks(const struct irqchip_pit_channel *c, u32 count)
{
    u32 n = c->bcd ? from_bcd(count) : count;

    return n ? n : c->bcd ? 10000 : 0x10000;
}

static bool periodic(const struct irqchip_pit_channel *c) { return c->mode == 2 || c->mode == 3; }
static bool triggered(const struct irqchip_pit_channel *c) { return c->mode == 1 || c->mode == 5; }

/* Time since the channel was loaded, not counting what the gate held it. */
static u64 elapsed(const struct i8254 *p, unsigned i, u64 now)
{
    u64 t = p->s.channel[i].count_load_time;

    if (!p->s.counting[i])
        return t;
    return now > t ? now - t : 0;
}

/* A count written during a period takes effect at its end: catch up with that. */
static void settle(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    u64 n, period;

    if (!periodic(c) || !p->s.next_count[i] || !p->s.counting[i])
        return;
    period = clocks(c, c->count);
    n = ns_to_clocks(elapsed(p, i, now));
    if (n < period)
        return;
    c->count_load_time += clocks_to_ns(period);
    c->count = p->s.next_count[i];
    p->s.next_count[i] = 0;
    p->s.null_count[i] = false;
}

static bool out_level(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    u64 n, count;

    settle(p, i, now);
    if (!p->s.programmed[i])
        return false;
    count = clocks(c, c->count);
    n = ns_to_clocks(elapsed(p, i, now));
    switch (c->mode) {
    case 0:
        return !p->s.null_count[i] && n >= count;
    case 1: /* low from the trigger to terminal count */
        return !p->s.counting[i] || n >= count;
    case 2: /* low for the last clock of the period; high while the gate is low */
        return !p->s.counting[i] || n % count != count - 1;
    case 3: /* high for the longer half */
        return !p->s.counting[i] || n % count < (count + 1) / 2;
    default: /* 4, 5: low for one clock at terminal count */
        return n != count || (triggered(c) && !p->s.counting[i]);
    }
}

static u16 current_count(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    u64 n, count, left, modulus = c->bcd ? 10000 : 0x10000;

    settle(p, i, now);
    count = clocks(c, c->count);
    n = ns_to_clocks(elapsed(p, i, now));
    if (c->mode == 2)
        left = count - n % count;
    else if (c->mode == 3) /* counts down by two, twice a period */
        left = (count & ~1ull) - 2 * (n % count % ((count + 1) / 2));
    else /* runs on below zero */
        left = (count + modulus - n % modulus) % modulus;
    left %= modulus;
    return c->bcd ? to_bcd((u32)left) : (u16)left;
}

/* ---- channel 0's edges ---- */

/* Arms the timer for the next rising edge of OUT after `now`. */
static void schedule(struct i8254 *p, u64 now)
{
    const struct irqchip_pit_channel *c = &p->s.channel[0];
    u64 n, count, edge;

    settle(p, 0, now);
    p->next_edge = 0;
    if (p->s.programmed[0] && p->s.counting[0] && !(p->s.null_count[0] && !periodic(c))) {
        count = clocks(c, c->count);
        n = ns_to_clocks(elapsed(p, 0, now));
        edge = count;
        if (periodic(c))
            edge = (n / count + 1) * count;
        else if (c->mode >= 4)
            edge = count + 1;
        if (edge > n)
            p->next_edge = c->count_load_time + clocks_to_ns(edge);
    }
    if (p->next_edge)
        timer_arm(&p->timer, MAX(p->next_edge, now + 1));
    else
        timer_disarm(&p->timer);
}

static void pulse(struct i8254 *p)
{
    irq_set(&p->irq, false);
    irq_set(&p->irq, true);
}

static void timer_fired(struct timer *t)
{
    struct i8254 *p = container_of(t, struct i8254, timer);
    u64 now = clock_ns(), period, missed;
    bool repeat;

    pthread_mutex_lock(&p->lock);
    repeat = periodic(&p->s.channel[0]);
    period = clocks_to_ns(clocks(&p->s.channel[0], p->s.channel[0].count));
    if (period < MIN_INTERVAL_NS) /* a rate nobody could keep up with is not owed */
        p->s.owed = 0;
    if (!p->next_edge || (now < p->next_edge && !p->s.owed))
        goto out; /* stale */
    if (now >= p->next_edge) {
        missed = repeat ? (now - p->next_edge) / period : 0;
        if (period >= MIN_INTERVAL_NS)
            p->s.owed = (u32)MIN(p->s.owed + missed, MAX_OWED);
        pulse(p);
        schedule(p, now);
    } else {
        p->s.owed--;
        pulse(p);
    }
    if (p->next_edge && p->s.owed)
        timer_arm(t, MIN(p->next_edge, now + MAX(period / 4, MIN_INTERVAL_NS)));
    else if (p->next_edge)
        timer_arm(t, MAX(p->next_edge, now + MIN_INTERVAL_NS));
out:
    pthread_mutex_unlock(&p->lock);
}

/* ---- gates and counts ---- */

static void start(struct i8254 *p, unsigned i, u64 now, u64 age)
{
    p->s.channel[i].count_load_time = now - MIN(age, now);
    p->s.counting[i] = true;
}

static void hold(struct i8254 *p, unsigned i, u64 now)
{
    u64 age = elapsed(p, i, now);

    p->s.counting[i] = false;
    p->s.channel[i].count_load_time = age;
}

static void take_next_count(struct i8254 *p, unsigned i)
{
    if (p->s.next_count[i])
        p->s.channel[i].count = p->s.next_count[i];
    p->s.next_count[i] = 0;
    p->s.null_count[i] = false;
}

/* A whole count has been written (data sheet, mode definitions). */
static void load(struct i8254 *p, unsigned i, u16 value, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    u32 count = value ? value : 0x10000;

    settle(p, i, now);
    if (!p->s.programmed[i])
        return;
    if (triggered(c)) { /* waits for the gate */
        p->s.next_count[i] = count;
        p->s.null_count[i] = true;
    } else if (periodic(c) && !p->s.null_count[i] && p->s.counting[i]) { /* at the end of this period */
        u64 period = clocks(c, c->count);

        c->count_load_time += clocks_to_ns(ns_to_clocks(elapsed(p, i, now)) / period * period);
        p->s.next_count[i] = count;
        p->s.null_count[i] = true;
    } else if (periodic(c) && p->s.next_count[i]) { /* written twice within one period */
        p->s.next_count[i] = count;
    } else {
        c->count = count;
        p->s.next_count[i] = 0;
        p->s.null_count[i] = false;
        if (c->gate) {
            start(p, i, now, 0);
        } else {
            p->s.counting[i] = false;
            c->count_load_time = 0;
        }
    }
    if (i == 0) {
        if (c->mode == 0)
            irq_set(&p->irq, false); /* OUT falls with the new count */
        p->s.owed = periodic(c) ? p->s.owed : 0;
        schedule(p, now);
    }
}

static void set_gate(struct i8254 *p, unsigned i, bool gate, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    bool rising = gate && !c->gate, falling = !gate && c->gate;

    settle(p, i, now);
    c->gate = gate;
    if (!p->s.programmed[i])
        return;
    if (triggered(c)) {
        if (rising && (p->s.next_count[i] || !p->s.null_count[i])) {
            take_next_count(p, i);
            start(p, i, now, 0);
        }
    } else if (falling && p->s.counting[i]) {
        hold(p, i, now);
    } else if (rising && !p->s.null_count[i]) {
        /* Modes 2 and 3 begin anew, modes 0 and 4 go on. */
        start(p, i, now, periodic(c) ? 0 : elapsed(p, i, now));
    } else if (rising && p->s.next_count[i]) {
        take_next_count(p, i);
        start(p, i, now, 0);
    }
}

/* ---- registers ---- */

static void latch_count(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];

    if (c->count_latched)
        return; /* the first latch stands until it is read */
    c->latched_count = current_count(p, i, now);
    c->count_latched = c->rw_mode;
}

static void latch_status(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];

    if (c->status_latched)
        return;
    c->status = (u8)(out_level(p, i, now) << 7 | p->s.null_count[i] << 6 | (c->rw_mode & 3) << 4 | (c->mode & 7) << 1 |
                     (c->bcd & 1));
    c->status_latched = 1;
}

static void write_control(struct i8254 *p, u8 v, u64 now)
{
    unsigned which = v >> 6;
    struct irqchip_pit_channel *c;

    if (which == 3) { /* read-back: bits 5 and 4 are active low */
        for (unsigned i = 0; i < 3; i++) {
            if (!(v & 2u << i))
                continue;
            if (!(v & 0x20))
                latch_count(p, i, now);
            if (!(v & 0x10))
                latch_status(p, i, now);
        }
        return;
    }
    if ((v >> 4 & 3) == RW_LATCH) {
        latch_count(p, which, now);
        return;
    }
    c = &p->s.channel[which];
    settle(p, which, now);
    c->rw_mode = v >> 4 & 3;
    c->mode = v >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4; /* 6 and 7 are 2 and 3 */
    c->bcd = v & 1;
    c->read_state = c->write_state = c->rw_mode;
    c->count_latched = c->status_latched = 0;
    if (p->s.counting[which])
        hold(p, which, now);
    c->count_load_time = 0;
    p->s.programmed[which] = true;
    p->s.null_count[which] = true;
    p->s.next_count[which] = 0;
    if (which == 0) {
        p->s.owed = 0;
        if (c->mode == 0)
            irq_set(&p->irq, false);
        schedule(p, now);
    }
}

static void write_count(struct i8254 *p, unsigned i, u8 v, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];

    switch (c->write_state) {
    case RW_LSB:
        load(p, i, v, now);
        break;
    case RW_MSB:
        load(p, i, (u16)(v << 8), now);
        break;
    case RW_WORD:
        c->write_latch = v;
        c->write_state = RW_WORD_SECOND;
        if (c->mode == 0 && p->s.programmed[i]) { /* the first byte stops the count, OUT falls */
            if (p->s.counting[i])
                hold(p, i, now);
            p->s.null_count[i] = true;
            if (i == 0) {
                irq_set(&p->irq, false);
                schedule(p, now);
            }
        }
        break;
    case RW_WORD_SECOND:
        c->write_state = RW_WORD;
        load(p, i, (u16)(c->write_latch | v << 8), now);
        break;
    default:
        break;
    }
}

static u8 read_count(struct i8254 *p, unsigned i, u64 now)
{
    struct irqchip_pit_channel *c = &p->s.channel[i];
    u8 *state = c->count_latched ? &c->count_latched : &c->read_state;
    bool latched = c->count_latched;
    u16 count;

    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    count = latched ? c->latched_count : current_count(p, i, now);
    switch (*state) {
    case RW_WORD:
        *state = RW_WORD_SECOND;
        return (u8)count;
    case RW_WORD_SECOND:
        *state = latched ? 0 : RW_WORD;
        return (u8)(count >> 8);
    default:
        if (latched)
            *state = 0;
        return (u8)(c->rw_mode == RW_MSB ? count >> 8 : count);
    }
}

static u64 pit_read(void *dev, u64 offset, unsigned size)
{
    struct i8254 *p = dev;
    u8 v = 0xff; /* the control word cannot be read */

    pthread_mutex_lock(&p->lock);
    if (offset < 3)
        v = read_count(p, (unsigned)offset, clock_ns());
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void pit_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i8254 *p = dev;

    pthread_mutex_lock(&p->lock);
    if (offset < 3)
        write_count(p, (unsigned)offset, (u8)value, clock_ns());
    else
        write_control(p, (u8)value, clock_ns());
    pthread_mutex_unlock(&p->lock);
}

const struct bus_ops i8254_ops = { .read = pit_read, .write = pit_write, .min_size = 1, .max_size = 1 };

/* Port 61h: bit 0 gate 2, 1 speaker data, 2-3 NMI enables, 4 refresh toggle, 5 OUT2, 6-7 NMI sources (none). */
static u64 port61_read(void *dev, u64 offset, unsigned size)
{
    struct i8254 *p = dev;
    u64 now;
    u8 v;

    pthread_mutex_lock(&p->lock);
    now = clock_ns();
    v = p->s.port61 & 0xf;
    if (now / 15085 & 1) /* memory refresh every 15.085 us */
        v |= 0x10;
    if (out_level(p, 2, now))
        v |= 0x20;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void port61_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i8254 *p = dev;

    pthread_mutex_lock(&p->lock);
    p->s.port61 = value & 0xf;
    p->s.speaker_data_on = value & 2;
    set_gate(p, 2, value & 1, clock_ns());
    pthread_mutex_unlock(&p->lock);
}

const struct bus_ops i8254_port61 = { .read = port61_read, .write = port61_write, .min_size = 1, .max_size = 1 };

/* ---- life ---- */

void i8254_reset(struct i8254 *p)
{
    pthread_mutex_lock(&p->lock);
    memset(&p->s, 0, sizeof(p->s));
    for (unsigned i = 0; i < 3; i++) {
        p->s.channel[i].count = 0x10000;
        p->s.channel[i].gate = i != 2;
        p->s.channel[i].rw_mode = p->s.channel[i].read_state = p->s.channel[i].write_state = RW_WORD;
    }
    p->next_edge = 0;
    timer_disarm(&p->timer);
    irq_set(&p->irq, false);
    pthread_mutex_unlock(&p->lock);
}

void i8254_init(struct i8254 *p, struct loop *loop, const struct irq_line *irq)
{
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->irq = *irq;
    timer_init(&p->timer, loop, timer_fired);
    i8254_reset(p);
}

void i8254_destroy(struct i8254 *p)
{
    timer_disarm(&p->timer);
    pthread_mutex_destroy(&p->lock);
}

static int saving(void *obj)
{
    struct i8254 *p = container_of(obj, struct i8254, saved);
    u64 now = clock_ns();

    pthread_mutex_lock(&p->lock);
    p->saved = p->s;
    for (unsigned i = 0; i < 3; i++)
        p->saved.channel[i].count_load_time = elapsed(p, i, now);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct i8254 *p = container_of(obj, struct i8254, saved);
    u64 now = clock_ns();

    for (unsigned i = 0; i < 3; i++) {
        struct irqchip_pit_channel *c = &p->saved.channel[i];

        if (!p->saved.programmed[i])
            c->mode = 0;
        if (c->count == 0) /* 0 stands for 10000h */
            c->count = 0x10000;
        if (c->mode > 5 || c->rw_mode > 3 || c->count > 0x10000 || p->saved.next_count[i] > 0x10000 ||
            c->read_state > RW_WORD_SECOND || c->write_state > RW_WORD_SECOND || c->count_latched > RW_WORD_SECOND)
            return error_set(err, EINVAL, "the saved state of timer (8254) channel %u is not possible", i);
    }
    pthread_mutex_lock(&p->lock);
    p->s = p->saved;
    p->s.port61 &= 0xf;
    p->s.owed = MIN(p->s.owed, MAX_OWED);
    for (unsigned i = 0; i < 3; i++)
        if (p->s.counting[i])
            start(p, i, now, p->saved.channel[i].count_load_time);
    schedule(p, now);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static const struct state_desc i8254_state = { "i8254", PIT_STATE_VERSION, pit_record_fields, saving, loaded };

int i8254_add_state(struct i8254 *p, struct state_list *list)
{
    return state_add(list, &i8254_state, 0, &p->saved);
}
