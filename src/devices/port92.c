/* SPDX-License-Identifier: Apache-2.0 */
/* port92.c - see port92.h. */
#include "devices/port92.h"

#include <string.h>

enum { FAST_INIT = 1, ALT_A20 = 2 };

/* Called with the lock held, returns without it. */
static void finish(struct port92 *p, bool init)
{
    if (p->open != p->told && p->a20)
        p->a20(p->ctx, p->open);
    p->told = p->open;
    pthread_mutex_unlock(&p->lock);
    if (init && p->reset)
        p->reset(p->ctx, RESET_INIT);
}

static u64 port92_read(void *dev, u64 offset, unsigned size)
{
    struct port92 *p = dev;
    u8 v;

    pthread_mutex_lock(&p->lock);
    v = p->init | (p->open ? ALT_A20 : 0);
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void port92_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct port92 *p = dev;
    bool init;

    pthread_mutex_lock(&p->lock);
    init = (value & FAST_INIT) && !p->init; /* INIT# is pulsed by the rising bit, which stays set */
    p->init = value & FAST_INIT;
    p->open = (value & ALT_A20) || init; /* what comes then is at FFFFFFF0h */
    finish(p, init);
}

const struct bus_ops port92_ops = { .read = port92_read, .write = port92_write, .min_size = 1, .max_size = 1 };

void port92_keyboard_a20(void *dev, bool enabled)
{
    struct port92 *p = dev;

    pthread_mutex_lock(&p->lock);
    p->open = enabled;
    finish(p, false);
}

bool port92_a20(struct port92 *p)
{
    bool v;

    pthread_mutex_lock(&p->lock);
    v = p->open;
    pthread_mutex_unlock(&p->lock);
    return v;
}

void port92_reset(struct port92 *p)
{
    pthread_mutex_lock(&p->lock);
    p->init = 0;
    p->open = true;
    finish(p, false);
}

void port92_init(struct port92 *p, void (*a20)(void *, bool), void (*reset)(void *, enum reset_kind), void *ctx)
{
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    p->a20 = a20;
    p->reset = reset;
    p->ctx = ctx;
    p->told = true; /* the gate is open before anyone is told */
    port92_reset(p);
}

void port92_destroy(struct port92 *p)
{
    pthread_mutex_destroy(&p->lock);
}

static int loaded(void *obj, struct error *err)
{
    struct port92 *p = obj;

    pthread_mutex_lock(&p->lock);
    p->init &= FAST_INIT;
    finish(p, false);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct port92, init, 1),
    STATE_FIELD(struct port92, open, 1),
    STATE_END,
};
const struct state_desc port92_state = { "port92", 1, fields, NULL, loaded };
