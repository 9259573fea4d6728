/* SPDX-License-Identifier: Apache-2.0 */
/* i6300esb.c - see i6300esb.h. */
#include "devices/i6300esb.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "memory/bus.h"
#include "pci/pci.h"

enum { /* configuration space */
    WDT_CONFIG = 0x60, INT_TYPE = 3, INT_IRQ = 0, PRE_SEL = 1 << 2 /* 1 MHz, not 1 kHz */, OUTPUT_DISABLE = 1 << 5,
    WDT_LOCK = 0x68, LOCK = 1 << 0, ENABLE = 1 << 1, FREE_RUN = 1 << 2,
};
enum { /* memory space */
    PRELOAD1 = 0x0, PRELOAD2 = 0x4, GINTSR = 0x8, RELOAD = 0xc, SIZE = 16,
    PRELOAD_MAX = 0xfffff, INTERRUPT = 1 << 0, DO_RELOAD = 1 << 8, TIMEOUT = 1 << 9, UNLOCK1 = 0x80, UNLOCK2 = 0x86,
};
enum { BASE_CLASS = 0x088000 /* another system peripheral */ };

#define PCI_CLOCK_MHZ 33u
#define SHORTEST_NS 10000000ull /* between two calls of the timer: a guest cannot keep the loop's thread busy */

struct i6300esb {
    struct pci_function f;
    const struct device_env *env;
    enum device_action action;
    pthread_mutex_t lock; /* guards the rest */
    struct timer timer;
    u32 preload[2];
    u8 unlocked;  /* how much of the unlocking sequence has come: 2 is all of it */
    u8 stage;     /* that counts, 1 or 2; 0: none does */
    u8 lock_reg;  /* WDT_LOCK as it is in force: once locked it stays */
    bool interrupt, timed_out; /* GINTSR, RELOAD.TIMEOUT: the latter survives a reset */
    u64 due;  /* env->clock() at which the stage ends */
    u64 left; /* saved: ns until then */
};

static u64 stage_ns(const struct i6300esb *w)
{
    const u32 shift = w->f.config[WDT_CONFIG] & PRE_SEL ? 5 : 15;
    return ((u64)w->preload[w->stage - 1] << shift) * 1000 / PCI_CLOCK_MHZ;
}

static void count_down(struct i6300esb *w, u64 ns)
{
    w->due = w->env->clock(w->env->machine) + ns;
    timer_arm(&w->timer, clock_ns() + MAX(ns, SHORTEST_NS));
}

static void begin_stage(struct i6300esb *w, u8 stage)
{
    w->stage = stage;
    count_down(w, stage_ns(w));
}

/* In free-running mode there is only the second stage. */
static void restart(struct i6300esb *w)
{
    begin_stage(w, w->lock_reg & FREE_RUN ? 2 : 1);
}

static void stop(struct i6300esb *w)
{
    w->stage = 0;
    timer_disarm(&w->timer);
}

static void set_interrupt(struct i6300esb *w, bool on)
{
    w->interrupt = on;
    pci_set_intx(&w->f, on);
}

static void first_stage_over(struct i6300esb *w)
{
    if ((w->f.config[WDT_CONFIG] & INT_TYPE) == INT_IRQ)
        set_interrupt(w, true);
    begin_stage(w, 2);
}

static void second_stage_over(struct i6300esb *w)
{
    w->timed_out = true;
    if (w->lock_reg & FREE_RUN)
        restart(w);
    else
        stop(w);
    if (!(w->f.config[WDT_CONFIG] & OUTPUT_DISABLE))
        w->env->act(w->env->machine, w->action, "the watchdog's time is over: the guest did not reload it");
}

static void on_timer(struct timer *t)
{
    struct i6300esb *w = container_of(t, struct i6300esb, timer);

    pthread_mutex_lock(&w->lock);
    const u64 now = w->env->clock(w->env->machine);
    if (w->stage && now < w->due) /* the machine was paused, or this call is a late one of a timer that was set anew */
        timer_arm(&w->timer, clock_ns() + MAX(w->due - now, SHORTEST_NS));
    else if (w->stage == 1)
        first_stage_over(w);
    else if (w->stage == 2)
        second_stage_over(w);
    pthread_mutex_unlock(&w->lock);
}

/* ---- registers ---- */

static u64 read_register(void *dev, u64 offset, unsigned size)
{
    struct i6300esb *w = dev;
    u32 v = 0;

    (void)size;
    pthread_mutex_lock(&w->lock);
    switch (offset & ~3ull) {
    case PRELOAD1: v = w->preload[0]; break;
    case PRELOAD2: v = w->preload[1]; break;
    case GINTSR: v = w->interrupt ? INTERRUPT : 0; break;
    case RELOAD: v = w->timed_out ? TIMEOUT : 0; break;
    }
    pthread_mutex_unlock(&w->lock);
    return v >> (offset & 3) * 8;
}

/* The write after the two unlocking values takes effect; then the registers are locked again. */
static void write_unlocked(struct i6300esb *w, u64 offset, u32 value)
{
    if (offset == PRELOAD1 || offset == PRELOAD2)
        w->preload[offset == PRELOAD2] = value & PRELOAD_MAX;
    else if (offset == RELOAD && value & TIMEOUT)
        w->timed_out = false;
    if (offset == RELOAD && value & DO_RELOAD && w->lock_reg & ENABLE)
        restart(w);
    w->unlocked = 0;
}

static void write_register(void *dev, u64 offset, unsigned size, u64 value)
{
    struct i6300esb *w = dev;

    (void)size;
    pthread_mutex_lock(&w->lock);
    if (offset == GINTSR && value & INTERRUPT)
        set_interrupt(w, false);
    else if (offset == RELOAD && value == UNLOCK1)
        w->unlocked = 1;
    else if (offset == RELOAD && value == UNLOCK2 && w->unlocked == 1)
        w->unlocked = 2;
    else if (offset != GINTSR && w->unlocked == 2)
        write_unlocked(w, offset, (u32)value);
    else
        w->unlocked = 0;
    pthread_mutex_unlock(&w->lock);
}

static const struct bus_ops register_ops = { .read = read_register, .write = write_register, .min_size = 1, .max_size = 4 };

static void config_written(struct pci_function *f, u32 offset, u32 len)
{
    struct i6300esb *w = container_of(f, struct i6300esb, f);

    if (offset > WDT_LOCK || offset + len <= WDT_LOCK)
        return;
    pthread_mutex_lock(&w->lock);
    if (w->lock_reg & LOCK) {
        f->config[WDT_LOCK] = w->lock_reg;
    } else {
        const bool was = w->lock_reg & ENABLE;
        w->lock_reg = f->config[WDT_LOCK];
        if (w->lock_reg & ENABLE && !was)
            restart(w);
        else if (!(w->lock_reg & ENABLE))
            stop(w);
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- state ---- */

static int pre_save(void *obj)
{
    struct i6300esb *w = obj;
    const u64 now = w->env->clock(w->env->machine);

    w->left = w->stage && w->due > now ? w->due - now : 0;
    return 0;
}

static int post_load(void *obj, struct error *err)
{
    struct i6300esb *w = obj;
    const u64 longest = ((u64)PRELOAD_MAX << 15) * 1000 / PCI_CLOCK_MHZ;

    if (w->stage > 2 || w->unlocked > 2 || w->left > longest || w->preload[0] > PRELOAD_MAX || w->preload[1] > PRELOAD_MAX)
        return error_set(err, EINVAL, "the state of the watchdog is damaged");
    if (w->stage)
        count_down(w, w->left);
    else
        timer_disarm(&w->timer);
    return 0;
}

static const struct state_field fields[] = {
    STATE_ARRAY(struct i6300esb, preload, 1), STATE_FIELD(struct i6300esb, unlocked, 1), STATE_FIELD(struct i6300esb, stage, 1),
    STATE_FIELD(struct i6300esb, lock_reg, 1), STATE_FIELD(struct i6300esb, interrupt, 1),
    STATE_FIELD(struct i6300esb, timed_out, 1), STATE_FIELD(struct i6300esb, left, 1), STATE_END,
};
static const struct state_desc state = { "i6300esb", 1, fields, pre_save, post_load, false };

/* ---- life ---- */

static void reset(struct device *d)
{
    struct i6300esb *w = d->dev;

    pthread_mutex_lock(&w->lock);
    stop(w);
    set_interrupt(w, false);
    w->preload[0] = w->preload[1] = PRELOAD_MAX;
    w->unlocked = w->lock_reg = 0;
    pthread_mutex_unlock(&w->lock);
}

/* After a load the line is as the registers say, which the bus has loaded by now. */
static void resume(struct device *d)
{
    struct i6300esb *w = d->dev;

    pthread_mutex_lock(&w->lock);
    pci_set_intx(&w->f, w->interrupt);
    pthread_mutex_unlock(&w->lock);
}

static void unplug(struct device *d)
{
    struct i6300esb *w = d->dev;

    timer_disarm(&w->timer);
    pthread_mutex_destroy(&w->lock);
    free(w);
    d->dev = NULL;
}

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    static const enum device_action actions[] = { DEVICE_RESET, DEVICE_POWER_OFF, DEVICE_PAUSE, DEVICE_EXIT, DEVICE_NMI, DEVICE_NOTHING };
    struct i6300esb *w;
    int rc;

    if (!env->pci)
        return error_set(err, EINVAL, "this board has no PCI, where the i6300esb would be; the board pc has");
    if (!(w = d->dev = calloc(1, sizeof *w)))
        return error_set(err, ENOMEM, "out of memory");
    w->env = env;
    w->action = actions[d->option[0]];
    pthread_mutex_init(&w->lock, NULL);
    timer_init(&w->timer, env->loop, on_timer);
    w->preload[0] = w->preload[1] = PRELOAD_MAX;
    pci_function_init(&w->f, "i6300esb", 0x8086, 0x25ab, 0, BASE_CLASS, 0x1af4, 0x1100);
    pci_use_intx(&w->f);
    pci_bar_init(&w->f, 0, &(struct pci_bar){ .size = SIZE, .ops = &register_ops, .dev = w, .name = "i6300esb" });
    pci_put16(w->f.wmask + WDT_CONFIG, INT_TYPE | PRE_SEL | OUTPUT_DISABLE);
    w->f.wmask[WDT_LOCK] = LOCK | ENABLE | FREE_RUN;
    w->f.config_written = config_written;
    if ((rc = pci_add(env->pci, &w->f, PCI_SLOTS, 0, env->state, err)))
        unplug(d);
    return rc;
}

static const char *const action_names[] = { "reset", "poweroff", "pause", "exit", "nmi", "none", NULL };
static const struct device_option options[] = {
    { "action", "what becomes of the machine when the guest does not reload it in time", action_names }, { NULL, NULL, NULL },
};
static const u32 values[] = { UNLOCK1, UNLOCK2, DO_RELOAD, TIMEOUT, DO_RELOAD | TIMEOUT, ENABLE, ENABLE | FREE_RUN, ENABLE | LOCK, 1 };
static const struct device_hints hints = { values, ARRAY_SIZE(values) };

const struct device_class i6300esb_class = {
    .kind = DEVICE_OTHER, .name = "i6300esb", .summary = "a watchdog timer, Intel 6300ESB's: the guest must reload it in time",
    .options = options, .state = &state, .hints = &hints, .create = create, .unplug = unplug, .reset = reset,
    .resume = resume,
};
