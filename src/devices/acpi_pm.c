/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_pm.c - see acpi_pm.h. */
#include "devices/acpi_pm.h"

#include <string.h>

enum { /* PM1_STS and PM1_EN */
    PM1_TMR = 1 << 0, PM1_BM = 1 << 4, PM1_GBL = 1 << 5, PM1_PWRBTN = 1 << 8, PM1_SLPBTN = 1 << 9, PM1_RTC = 1 << 10,
    PM1_WAK = 1 << 15,
    PM1_STS_BITS = PM1_TMR | PM1_BM | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK,
    PM1_EN_BITS = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC,
};
enum { CNT_SCI_EN = 1 << 0, CNT_BM_RLD = 1 << 1, CNT_GBL_RLS = 1 << 2, CNT_SLP_TYP_SHIFT = 10, CNT_SLP_EN = 1 << 13 };
enum { RC_SYSTEM = 1 << 1, RC_CPU = 1 << 2, RC_FULL = 1 << 3 };

#define NS_PER_S 1000000000ull
#define TIMER_HALF 0x80000000ull /* clocks between changes of bit 31 */

static u64 timer_clocks(const struct acpi_pm *p, u64 now)
{
    u64 ns = now > p->timer_start ? now - p->timer_start : 0;

    return (u64)((unsigned __int128)ns * ACPI_PM_TIMER_HZ / NS_PER_S);
}

/* TMR_STS is set whenever the timer's top bit changes (ACPI 4.8.2.1). */
static void sync_timer(struct acpi_pm *p, u64 now)
{
    u64 half = timer_clocks(p, now) / TIMER_HALF;

    if (half != p->timer_half)
        p->pm1_sts |= PM1_TMR;
    p->timer_half = half;
}

static void update(struct acpi_pm *p)
{
    bool active = (p->pm1_sts & p->pm1_en & PM1_EN_BITS) || (p->gpe_sts & p->gpe_en);
    u64 clocks;

    /* Without SCI_EN these would be SMIs: there is nobody to take them. */
    irq_set(&p->sci, active && (p->pm1_cnt & CNT_SCI_EN));
    if ((p->pm1_en & PM1_TMR) && !(p->pm1_sts & PM1_TMR)) {
        clocks = (p->timer_half + 1) * TIMER_HALF;
        timer_arm(&p->timer, p->timer_start +
                                 (u64)(((unsigned __int128)clocks * NS_PER_S + ACPI_PM_TIMER_HZ - 1) / ACPI_PM_TIMER_HZ));
    } else {
        timer_disarm(&p->timer);
    }
}

static void timer_fired(struct timer *t)
{
    struct acpi_pm *p = container_of(t, struct acpi_pm, timer);

    pthread_mutex_lock(&p->lock);
    sync_timer(p, clock_ns());
    update(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- the register block ---- */

/* The block as 16-bit words at even offsets; every access is made of these. */
static u16 read_word(struct acpi_pm *p, u64 offset, u64 now)
{
    switch (offset) {
    case ACPI_PM1A_EVT:
        sync_timer(p, now);
        return p->pm1_sts;
    case ACPI_PM1A_EVT + 2:
        return p->pm1_en;
    case ACPI_PM1A_CNT:
        return p->pm1_cnt;
    case ACPI_PM_TMR:
        return (u16)timer_clocks(p, now);
    case ACPI_PM_TMR + 2:
        return (u16)(timer_clocks(p, now) >> 16);
    case ACPI_GPE0:
        return p->gpe_sts;
    case ACPI_GPE0 + 2:
        return p->gpe_en;
    default:
        return 0;
    }
}

/* mask: the bits of the word the access covers. True: power off. */
static bool write_word(struct acpi_pm *p, u64 offset, u16 value, u16 mask)
{
    bool off = false;

    value &= mask;
    switch (offset) {
    case ACPI_PM1A_EVT: /* write 1 to clear */
        sync_timer(p, clock_ns());
        p->pm1_sts &= (u16)~value;
        break;
    case ACPI_PM1A_EVT + 2:
        sync_timer(p, clock_ns());
        p->pm1_en = ((p->pm1_en & ~mask) | value) & PM1_EN_BITS;
        break;
    case ACPI_PM1A_CNT: /* SLP_EN and GBL_RLS read as zero */
        p->pm1_cnt = ((p->pm1_cnt & ~mask) | value) & (CNT_SCI_EN | CNT_BM_RLD | 7 << CNT_SLP_TYP_SHIFT);
        off = (value & CNT_SLP_EN) && (p->pm1_cnt >> CNT_SLP_TYP_SHIFT & 7) == ACPI_SLP_TYP_S5;
        break;
    case ACPI_GPE0:
        p->gpe_sts &= (u16)~value;
        break;
    case ACPI_GPE0 + 2:
        p->gpe_en = (u16)((p->gpe_en & ~mask) | value);
        break;
    default:
        break;
    }
    return off;
}

static u64 pm_read(void *dev, u64 offset, unsigned size)
{
    struct acpi_pm *p = dev;
    u64 now, v = 0;

    /* Guests read the timer all the time as their clock. No lock is needed: timer_start changes only while no vCPU runs. */
    if (offset == ACPI_PM_TMR && size == 4)
        return (u32)timer_clocks(p, clock_ns());
    pthread_mutex_lock(&p->lock);
    now = clock_ns();
    for (unsigned i = 0; i < size; i++) {
        u64 at = offset + i;

        v |= (u64)(read_word(p, at & ~1ull, now) >> (at & 1) * 8 & 0xff) << i * 8;
    }
    update(p);
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void pm_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *p = dev;
    u64 first = offset & ~1ull, bits = value, covered = (BIT(size * 8) - 1);
    bool off = false;

    if (offset & 1) {
        bits <<= 8;
        covered <<= 8;
    }
    pthread_mutex_lock(&p->lock);
    for (u64 at = first; at < offset + size; at += 2, bits >>= 16, covered >>= 16)
        off |= write_word(p, at, (u16)bits, (u16)covered);
    update(p);
    pthread_mutex_unlock(&p->lock);
    if (off && p->power_off)
        p->power_off(p->ctx);
}

const struct bus_ops acpi_pm_ops = { .read = pm_read, .write = pm_write, .min_size = 1, .max_size = 4 };

/* ---- SMI command port: the firmware's part in the hand-over to ACPI (FADT SMI_CMD) ---- */

static u64 smi_read(void *dev, u64 offset, unsigned size)
{
    struct acpi_pm *p = dev;
    u8 v;

    pthread_mutex_lock(&p->lock);
    v = offset ? p->apm_sts : p->apm_cnt;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void smi_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *p = dev;

    pthread_mutex_lock(&p->lock);
    if (offset) {
        p->apm_sts = (u8)value;
    } else {
        p->apm_cnt = (u8)value;
        if (p->apm_cnt == ACPI_ENABLE)
            p->pm1_cnt |= CNT_SCI_EN;
        else if (p->apm_cnt == ACPI_DISABLE)
            p->pm1_cnt &= (u16)~CNT_SCI_EN;
        update(p);
    }
    pthread_mutex_unlock(&p->lock);
}

const struct bus_ops acpi_smi_ops = { .read = smi_read, .write = smi_write, .min_size = 1, .max_size = 1 };

/* ---- reset control: the rising edge of bit 2 resets; bit 1 says what ---- */

static u64 reset_read(void *dev, u64 offset, unsigned size)
{
    struct acpi_pm *p = dev;
    u8 v;

    pthread_mutex_lock(&p->lock);
    v = p->reset_control;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void reset_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *p = dev;
    bool fire;

    pthread_mutex_lock(&p->lock);
    fire = (value & RC_CPU) && !(p->reset_control & RC_CPU);
    p->reset_control = value & (RC_SYSTEM | RC_FULL); /* bit 2 falls with the reset */
    pthread_mutex_unlock(&p->lock);
    if (fire && p->reset)
        p->reset(p->ctx, value & RC_SYSTEM ? RESET_HARD : RESET_INIT);
}

const struct bus_ops acpi_reset_ops = { .read = reset_read, .write = reset_write, .min_size = 1, .max_size = 1 };

/* ---- events ---- */

bool acpi_pm_power_button(struct acpi_pm *p)
{
    bool heard;

    pthread_mutex_lock(&p->lock);
    p->pm1_sts |= PM1_PWRBTN;
    heard = (p->pm1_en & PM1_PWRBTN) && (p->pm1_cnt & CNT_SCI_EN);
    update(p);
    pthread_mutex_unlock(&p->lock);
    return heard;
}

void acpi_pm_rtc(struct acpi_pm *p)
{
    pthread_mutex_lock(&p->lock);
    p->pm1_sts |= PM1_RTC;
    update(p);
    pthread_mutex_unlock(&p->lock);
}

void acpi_pm_gpe(struct acpi_pm *p, unsigned event)
{
    pthread_mutex_lock(&p->lock);
    p->gpe_sts |= event < 16 ? (u16)(1u << event) : 0;
    update(p);
    pthread_mutex_unlock(&p->lock);
}

/* ---- life ---- */

void acpi_pm_reset(struct acpi_pm *p)
{
    pthread_mutex_lock(&p->lock);
    p->pm1_sts = p->pm1_en = p->pm1_cnt = p->gpe_sts = p->gpe_en = 0;
    p->apm_cnt = p->apm_sts = p->reset_control = 0;
    p->timer_start = clock_ns();
    p->timer_half = 0;
    update(p);
    pthread_mutex_unlock(&p->lock);
}

void acpi_pm_init(struct acpi_pm *p, const struct acpi_pm_config *c)
{
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->sci = c->sci;
    p->power_off = c->power_off;
    p->reset = c->reset;
    p->ctx = c->ctx;
    timer_init(&p->timer, c->loop, timer_fired);
    acpi_pm_reset(p);
}

void acpi_pm_destroy(struct acpi_pm *p)
{
    timer_disarm(&p->timer);
    pthread_mutex_destroy(&p->lock);
}

static int saving(void *obj)
{
    struct acpi_pm *p = obj;
    u64 now = clock_ns();

    pthread_mutex_lock(&p->lock);
    sync_timer(p, now);
    p->timer_age = now - p->timer_start;
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct acpi_pm *p = obj;

    pthread_mutex_lock(&p->lock);
    p->pm1_sts &= PM1_STS_BITS;
    p->pm1_en &= PM1_EN_BITS;
    /* May lie before the host's own zero: the difference is what counts, modulo 2^64. */
    p->timer_start = clock_ns() - p->timer_age;
    p->timer_half = timer_clocks(p, clock_ns()) / TIMER_HALF;
    update(p);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct acpi_pm, pm1_sts, 1), STATE_FIELD(struct acpi_pm, pm1_en, 1),
    STATE_FIELD(struct acpi_pm, pm1_cnt, 1), STATE_FIELD(struct acpi_pm, gpe_sts, 1),
    STATE_FIELD(struct acpi_pm, gpe_en, 1),  STATE_FIELD(struct acpi_pm, apm_cnt, 1),
    STATE_FIELD(struct acpi_pm, apm_sts, 1), STATE_FIELD(struct acpi_pm, reset_control, 1),
    STATE_FIELD(struct acpi_pm, timer_age, 1),
    STATE_END,
};
const struct state_desc acpi_pm_state = { "acpi_pm", 1, fields, saving, loaded };
