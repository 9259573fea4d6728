/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mc146818.c - see mc146818.h.
 *
 * Time is a count of nanoseconds since 1970 in the guest's calendar.  The clock's
 * registers are made from it when read and turned back into it when written; while
 * the guest has stopped the clock (register B SET) they are plain bytes.  Register
 * C's flags are brought up to date (sync) before anyone looks, so a guest that polls
 * and one that takes interrupts see the same.
 */
#include "devices/mc146818.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { RTC_SECONDS, RTC_SECONDS_ALARM, RTC_MINUTES, RTC_MINUTES_ALARM, RTC_HOURS, RTC_HOURS_ALARM, RTC_DAY_OF_WEEK,
       RTC_DAY_OF_MONTH, RTC_MONTH, RTC_YEAR, RTC_A, RTC_B, RTC_C, RTC_D, RTC_CENTURY = 0x32 };
enum { A_UIP = 0x80, A_DV = 0x70, A_DV_32KHZ = 0x20, A_RS = 0x0f };
enum { B_DSE = 1, B_24H = 2, B_BINARY = 4, B_SQWE = 8, B_UIE = 16, B_AIE = 32, B_PIE = 64, B_SET = 128 };
enum { C_UF = 16, C_AF = 32, C_PF = 64, C_IRQF = 128 };
enum { D_VRT = 0x80 };
enum { ALARM_ANY = 0xc0, HOUR_PM = 0x80 };

#define NS_PER_S 1000000000ll
#define S_PER_DAY 86400ll
#define UIP_NS 244000ll /* UIP rises this long before the update */
#define NEVER INT64_MAX
/* A guest's clock stands between the years 1900 and 2255, so that 64 bits of ns hold it, with room for sums. */
#define TIME_MIN (-2208988800ll)
#define TIME_MAX 9000000000ll

static u64 host_wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

/* Floored division: time may lie before 1970. */
static s64 floor_div(s64 a, s64 b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* ---- calendar ---- */

struct calendar {
    s64 year;
    int month, day, weekday, hour, minute, second; /* month and day from 1, weekday 1 is Sunday */
};

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar: years are counted from March. */
static s64 days_from_date(s64 y, int m, int d)
{
    s64 era, yoe, doy;

    y -= m <= 2;
    era = floor_div(y, 400);
    yoe = y - era * 400;
    doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct calendar calendar_from_time(s64 seconds)
{
    s64 days = floor_div(seconds, S_PER_DAY), tod = seconds - days * S_PER_DAY;
    s64 z = days + 719468, era = floor_div(z, 146097), doe = z - era * 146097;
    s64 yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    s64 doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    struct calendar c;

    c.day = (int)(doy - (153 * mp + 2) / 5 + 1);
    c.month = (int)(mp < 10 ? mp + 3 : mp - 9);
    c.year = yoe + era * 400 + (c.month <= 2);
    c.weekday = (int)(((days + 4) % 7 + 7) % 7) + 1; /* 1970-01-01 was a Thursday */
    c.hour = (int)(tod / 3600);
    c.minute = (int)(tod / 60 % 60);
    c.second = (int)(tod % 60);
    return c;
}

/* ---- register encodings ---- */

static u8 encode(const struct mc146818 *r, int v)
{
    return (u8)(r->cmos[RTC_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static int decode(const struct mc146818 *r, u8 v)
{
    return r->cmos[RTC_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 0xf);
}

static u8 encode_hour(const struct mc146818 *r, int hour)
{
    if (r->cmos[RTC_B] & B_24H)
        return encode(r, hour);
    return encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct mc146818 *r, u8 v)
{
    if (r->cmos[RTC_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* Fills the clock's registers from a time. */
static void registers_from_time(struct mc146818 *r, s64 ns)
{
    struct calendar c = calendar_from_time(floor_div(ns, NS_PER_S));

    r->cmos[RTC_SECONDS] = encode(r, c.second);
    r->cmos[RTC_MINUTES] = encode(r, c.minute);
    r->cmos[RTC_HOURS] = encode_hour(r, c.hour);
    r->cmos[RTC_DAY_OF_WEEK] = encode(r, (c.weekday - 1 + r->weekday_shift) % 7 + 1);
    r->cmos[RTC_DAY_OF_MONTH] = encode(r, c.day);
    r->cmos[RTC_MONTH] = encode(r, c.month);
    r->cmos[RTC_YEAR] = encode(r, (int)(c.year % 100));
    r->cmos[RTC_CENTURY] = encode(r, (int)(c.year / 100));
}

static int clamp(int v, int least, int most)
{
    return v < least ? least : v > most ? most : v;
}

/* The time in the clock's registers, in whole seconds. What is no date is brought to the nearest. */
static s64 time_from_registers(struct mc146818 *r)
{
    int century = clamp(decode(r, r->cmos[RTC_CENTURY]), 19, 99);
    int year = century * 100 + clamp(decode(r, r->cmos[RTC_YEAR]), 0, 99);
    int month = clamp(decode(r, r->cmos[RTC_MONTH]), 1, 12), day = clamp(decode(r, r->cmos[RTC_DAY_OF_MONTH]), 1, 31);
    int weekday = clamp(decode(r, r->cmos[RTC_DAY_OF_WEEK]), 1, 7);
    s64 days = days_from_date(year, month, day);
    s64 t = days * S_PER_DAY + clamp(decode_hour(r, r->cmos[RTC_HOURS]), 0, 23) * 3600 +
            clamp(decode(r, r->cmos[RTC_MINUTES]), 0, 59) * 60 + clamp(decode(r, r->cmos[RTC_SECONDS]), 0, 59);

    t = MAX(MIN(t, TIME_MAX), TIME_MIN);
    r->weekday_shift = (u8)((weekday - calendar_from_time(t).weekday + 7) % 7);
    return t;
}

/* ---- time ---- */

static bool should_stop(const struct mc146818 *r)
{
    return (r->cmos[RTC_B] & B_SET) || (r->cmos[RTC_A] & A_DV) != A_DV_32KHZ;
}

static s64 now_ns(const struct mc146818 *r)
{
    s64 t;

    if (r->stopped)
        return r->held;
    if (__builtin_add_overflow((s64)r->wall_ns(), r->offset, &t) || t > TIME_MAX * NS_PER_S)
        return TIME_MAX * NS_PER_S;
    return MAX(t, TIME_MIN * NS_PER_S);
}

static void set_time(struct mc146818 *r, s64 ns)
{
    ns = MAX(MIN(ns, TIME_MAX * NS_PER_S), TIME_MIN * NS_PER_S);
    if (r->stopped)
        r->held = ns;
    else
        r->offset = ns - (s64)r->wall_ns();
    r->synced = ns;
}

/* ---- events ---- */

/* Clocks of the 32768 Hz time base between periodic interrupts, or 0. */
static s64 period_clocks(const struct mc146818 *r)
{
    unsigned rs = r->cmos[RTC_A] & A_RS;

    if (rs == 0)
        return 0;
    return 1ll << (rs <= 2 ? rs + 6 : rs - 1); /* 1 and 2 are 256 and 128 Hz again */
}

static s64 ns_to_clocks(s64 ns)
{
    s64 s = floor_div(ns, NS_PER_S);

    return s * 32768 + (ns - s * NS_PER_S) * 32768 / NS_PER_S;
}

static s64 clocks_to_ns(s64 clocks)
{
    s64 s = floor_div(clocks, 32768), rest = clocks - s * 32768;

    return s * NS_PER_S + (rest * NS_PER_S + 32767) / 32768;
}

static bool alarm_matches(u8 alarm, u8 value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || alarm == value;
}

/* The first second after `after` (in seconds) at which the alarm goes off, or NEVER. */
static s64 next_alarm(const struct mc146818 *r, s64 after)
{
    s64 t = after + 1, day = floor_div(t, S_PER_DAY);
    int first = (int)(t - day * S_PER_DAY);

    for (int pass = 0; pass < 2; pass++, first = 0, day++) {
        for (int h = first / 3600; h < 24; h++) {
            int m0 = h == first / 3600 ? first / 60 % 60 : 0;

            if (!alarm_matches(r->cmos[RTC_HOURS_ALARM], encode_hour(r, h)))
                continue;
            for (int m = m0; m < 60; m++) {
                int s0 = h * 60 + m == first / 60 ? first % 60 : 0;

                if (!alarm_matches(r->cmos[RTC_MINUTES_ALARM], encode(r, m)))
                    continue;
                for (int s = s0; s < 60; s++)
                    if (alarm_matches(r->cmos[RTC_SECONDS_ALARM], encode(r, s)))
                        return day * S_PER_DAY + h * 3600 + m * 60 + s;
            }
        }
    }
    return NEVER;
}

/* Brings register C up to date. */
static void sync(struct mc146818 *r)
{
    s64 now = now_ns(r), then = r->synced, p, alarm;
    s64 second = floor_div(now, NS_PER_S), last = floor_div(then, NS_PER_S);

    r->synced = now;
    if (r->stopped || now <= then) /* the host's clock may be set back */
        return;
    if (second > last) {
        r->cmos[RTC_C] |= C_UF;
        alarm = next_alarm(r, last);
        if (alarm <= second)
            r->cmos[RTC_C] |= C_AF;
    }
    p = period_clocks(r);
    if (p && floor_div(ns_to_clocks(now), p) > floor_div(ns_to_clocks(then), p))
        r->cmos[RTC_C] |= C_PF;
}

/* The line follows IRQF; the timer is armed for the next event that would interrupt. */
static void update(struct mc146818 *r)
{
    u8 enabled = r->cmos[RTC_B] & (B_UIE | B_AIE | B_PIE), *c = &r->cmos[RTC_C]; /* the same bit numbers as in C */
    s64 next = NEVER, p, t;

    *c = *c & enabled ? *c | C_IRQF : *c & (u8)~C_IRQF;
    irq_set(&r->irq, *c & C_IRQF);
    if (!r->stopped) {
        if ((enabled & B_UIE) && !(*c & C_UF))
            next = (floor_div(r->synced, NS_PER_S) + 1) * NS_PER_S;
        if ((enabled & B_AIE) && !(*c & C_AF)) {
            t = next_alarm(r, floor_div(r->synced, NS_PER_S));
            if (t != NEVER && t * NS_PER_S < next)
                next = t * NS_PER_S;
        }
        p = period_clocks(r);
        if ((enabled & B_PIE) && p && !(*c & C_PF)) {
            t = clocks_to_ns((floor_div(ns_to_clocks(r->synced), p) + 1) * p);
            next = MIN(next, t);
        }
    }
    if (next == NEVER)
        timer_disarm(&r->timer);
    else
        timer_arm(&r->timer, clock_ns() + (u64)MAX(next - r->synced, 0));
}

static void timer_fired(struct timer *t)
{
    struct mc146818 *r = container_of(t, struct mc146818, timer);

    pthread_mutex_lock(&r->lock);
    sync(r);
    update(r);
    pthread_mutex_unlock(&r->lock);
}

/* ---- registers ---- */

static bool is_time(u8 i)
{
    return i == RTC_SECONDS || i == RTC_MINUTES || i == RTC_HOURS || (i >= RTC_DAY_OF_WEEK && i <= RTC_YEAR) ||
           i == RTC_CENTURY;
}

static u8 read_register(struct mc146818 *r, u8 i)
{
    s64 now, fraction;
    u8 v;

    if (is_time(i)) {
        if (!(r->cmos[RTC_B] & B_SET))
            registers_from_time(r, now_ns(r));
        return r->cmos[i];
    }
    switch (i) {
    case RTC_A:
        now = now_ns(r);
        fraction = now - floor_div(now, NS_PER_S) * NS_PER_S;
        return r->cmos[RTC_A] | (!r->stopped && fraction >= NS_PER_S - UIP_NS ? A_UIP : 0);
    case RTC_C: /* reading clears */
        sync(r);
        update(r);
        v = r->cmos[RTC_C];
        r->cmos[RTC_C] = 0;
        update(r);
        return v;
    case RTC_D:
        return D_VRT;
    default:
        return r->cmos[i];
    }
}

/* Registers A and B decide whether time runs; the guest sets it by stopping it or in passing. */
static void write_control(struct mc146818 *r, u8 i, u8 v)
{
    bool set_was = r->cmos[RTC_B] & B_SET;
    u8 dv_was = r->cmos[RTC_A] & A_DV;
    s64 now, fraction, seconds;

    sync(r);
    now = now_ns(r);
    if (!set_was && i == RTC_B && (v & B_SET)) {
        registers_from_time(r, now); /* in the old format: what stands is what was shown */
        v &= (u8)~B_UIE;             /* data sheet: SET clears UIE */
    }
    r->cmos[i] = v;
    fraction = now - floor_div(now, NS_PER_S) * NS_PER_S;
    if (i == RTC_A && dv_was != A_DV_32KHZ && (v & A_DV) == A_DV_32KHZ)
        fraction = NS_PER_S / 2; /* the first update comes half a second after the divider is released */
    seconds = set_was && !(r->cmos[RTC_B] & B_SET) ? time_from_registers(r) : floor_div(now, NS_PER_S);
    now = seconds * NS_PER_S + fraction;
    r->stopped = should_stop(r);
    set_time(r, now);
    update(r);
}

static void write_register(struct mc146818 *r, u8 i, u8 v)
{
    s64 now, fraction;

    if (is_time(i)) {
        if (r->cmos[RTC_B] & B_SET) {
            r->cmos[i] = v;
            return;
        }
        sync(r);
        now = now_ns(r);
        registers_from_time(r, now);
        fraction = now - floor_div(now, NS_PER_S) * NS_PER_S;
        r->cmos[i] = v;
        set_time(r, time_from_registers(r) * NS_PER_S + fraction);
        update(r);
        return;
    }
    switch (i) {
    case RTC_SECONDS_ALARM:
    case RTC_MINUTES_ALARM:
    case RTC_HOURS_ALARM:
        sync(r);
        r->cmos[i] = v;
        update(r);
        break;
    case RTC_A:
        write_control(r, i, v & (u8)~A_UIP);
        break;
    case RTC_B:
        write_control(r, i, v);
        break;
    case RTC_C:
    case RTC_D:
        break; /* read-only */
    default:
        r->cmos[i] = v;
        break;
    }
}

static u64 rtc_read(void *dev, u64 offset, unsigned size)
{
    struct mc146818 *r = dev;
    u8 v = 0xff; /* the index ports cannot be read */

    pthread_mutex_lock(&r->lock);
    if (offset == 1)
        v = read_register(r, r->index);
    else if (offset == 2)
        v = r->index2;
    else if (offset == 3)
        v = r->cmos[0x80 | r->index2];
    pthread_mutex_unlock(&r->lock);
    return v;
}

static void pulse_nmi(struct mc146818 *r)
{
    r->nmi_waits = false;
    irq_set(&r->nmi, true);
    irq_set(&r->nmi, false);
}

bool mc146818_nmi(struct mc146818 *r)
{
    pthread_mutex_lock(&r->lock);
    const bool open = !r->nmi_masked;
    r->nmi_waits = true;
    if (open)
        pulse_nmi(r);
    pthread_mutex_unlock(&r->lock);
    return open;
}

static void rtc_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct mc146818 *r = dev;
    u8 v = (u8)value;

    pthread_mutex_lock(&r->lock);
    if (offset == 0) {
        r->index = v & 0x7f;
        r->nmi_masked = v & 0x80;
        if (r->nmi_waits && !r->nmi_masked)
            pulse_nmi(r);
    } else if (offset == 1) {
        write_register(r, r->index, v);
    } else if (offset == 2) {
        r->index2 = v & 0x7f;
    } else {
        r->cmos[0x80 | r->index2] = v;
    }
    pthread_mutex_unlock(&r->lock);
}

const struct bus_ops mc146818_ops = { .read = rtc_read, .write = rtc_write, .min_size = 1, .max_size = 1 };

/* ---- board ---- */

void mc146818_set(struct mc146818 *r, u8 index, u8 value)
{
    pthread_mutex_lock(&r->lock);
    if (!is_time(index) && index > RTC_D)
        r->cmos[index] = value;
    pthread_mutex_unlock(&r->lock);
}

u8 mc146818_get(struct mc146818 *r, u8 index)
{
    u8 v;

    pthread_mutex_lock(&r->lock);
    v = index == RTC_C ? r->cmos[RTC_C] : read_register(r, index); /* looking does not acknowledge */
    pthread_mutex_unlock(&r->lock);
    return v;
}

static void set16(struct mc146818 *r, u8 index, u64 value)
{
    mc146818_set(r, index, (u8)value);
    mc146818_set(r, index + 1, (u8)(value >> 8));
}

void mc146818_set_memory(struct mc146818 *r, u64 below_4g, u64 above_4g)
{
    u64 extended = below_4g > MiB(1) ? (below_4g - MiB(1)) >> 10 : 0;
    u64 above_16m = below_4g > MiB(16) ? (below_4g - MiB(16)) >> 16 : 0;
    u64 high = above_4g >> 16;

    set16(r, 0x15, MIN(below_4g >> 10, 640)); /* KiB of base memory */
    set16(r, 0x17, MIN(extended, 0xffff));    /* KiB above 1 MiB */
    set16(r, 0x30, MIN(extended, 0xffff));
    set16(r, 0x34, MIN(above_16m, 0xffff)); /* 64 KiB units above 16 MiB */
    mc146818_set(r, 0x5b, (u8)high);        /* 64 KiB units above 4 GiB */
    mc146818_set(r, 0x5c, (u8)(high >> 8));
    mc146818_set(r, 0x5d, (u8)(high >> 16));
}

/* ---- life ---- */

void mc146818_reset(struct mc146818 *r)
{
    pthread_mutex_lock(&r->lock);
    r->index = r->index2 = 0;
    r->nmi_masked = r->nmi_waits = false; /* set by RESET# (PIIX4), cleared by firmware */
    /* Data sheet, RESET: PIE, AIE, UIE, SQWE and the flags of C are cleared; time and memory stay. */
    sync(r);
    r->cmos[RTC_B] &= (u8)~(B_PIE | B_AIE | B_UIE | B_SQWE);
    r->cmos[RTC_C] = 0;
    update(r);
    pthread_mutex_unlock(&r->lock);
}

void mc146818_init(struct mc146818 *r, struct loop *loop, const struct irq_line *irq)
{
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->irq = *irq;
    r->wall_ns = host_wall_ns;
    timer_init(&r->timer, loop, timer_fired);
    r->cmos[RTC_A] = A_DV_32KHZ | 6; /* as a PC's firmware leaves it: 1024 Hz, 24 hours, BCD */
    r->cmos[RTC_B] = B_24H;
    r->cmos[RTC_D] = D_VRT;
    r->synced = now_ns(r);
    mc146818_reset(r);
}

void mc146818_destroy(struct mc146818 *r)
{
    timer_disarm(&r->timer);
    pthread_mutex_destroy(&r->lock);
}

static int saving(void *obj)
{
    struct mc146818 *r = obj;

    pthread_mutex_lock(&r->lock);
    sync(r);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static bool plausible(s64 ns)
{
    return ns >= -TIME_MAX * NS_PER_S && ns <= TIME_MAX * NS_PER_S;
}

static int loaded(void *obj, struct error *err)
{
    struct mc146818 *r = obj;

    if (r->weekday_shift > 6 || r->index > 0x7f || r->index2 > 0x7f || !plausible(r->offset) || !plausible(r->held) ||
        !plausible(r->synced))
        return error_set(err, EINVAL, "the saved state of the real-time clock (MC146818) is not possible");
    pthread_mutex_lock(&r->lock);
    r->stopped = should_stop(r);
    /* Time went on outside: the flags tell of what happened meanwhile. */
    sync(r);
    update(r);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static const struct state_field fields[] = {
    STATE_ARRAY(struct mc146818, cmos, 1),        STATE_FIELD(struct mc146818, index, 1),
    STATE_FIELD(struct mc146818, index2, 1),      STATE_FIELD(struct mc146818, nmi_masked, 1),
    STATE_FIELD(struct mc146818, offset, 1),      STATE_FIELD(struct mc146818, held, 1),
    STATE_FIELD(struct mc146818, stopped, 1),     STATE_FIELD(struct mc146818, weekday_shift, 1),
    STATE_FIELD(struct mc146818, synced, 1),      STATE_FIELD(struct mc146818, nmi_waits, 2),
    STATE_END,
};
const struct state_desc mc146818_state = { "mc146818", 2, fields, saving, loaded };
