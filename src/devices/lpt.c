/* SPDX-License-Identifier: Apache-2.0 */
/* lpt.c - see lpt.h. */
#include "devices/lpt.h"

#include <string.h>

enum { PORT_DATA, PORT_STATUS, PORT_CONTROL };
enum { STATUS_BUSY = 0x80, STATUS_ACK = 0x40, STATUS_PAPER_OUT = 0x20, STATUS_SELECT = 0x10, STATUS_ERROR = 8,
       STATUS_ONES = 7 }; /* BUSY, ACK, ERROR: low is yes */
enum { CONTROL_STROBE = 1, CONTROL_INIT = 4, CONTROL_IRQ = 0x10, CONTROL_INPUT = 0x20, CONTROL_ONES = 0xc0 };

static u8 status(const struct lpt *l)
{
    if (!l->c.print) /* open lines read as high */
        return STATUS_ACK | STATUS_PAPER_OUT | STATUS_SELECT | STATUS_ERROR | STATUS_ONES;
    return (l->busy ? 0 : STATUS_BUSY) | STATUS_ACK | STATUS_SELECT | STATUS_ERROR | STATUS_ONES;
}

/* The printer takes the byte, if it can, and acknowledges: a pulse of ACK, whose end interrupts. */
static void print(struct lpt *l)
{
    l->busy = !l->c.print(l->c.ctx, l->pending);
    if (!l->busy && l->control & CONTROL_IRQ) {
        irq_set(&l->c.irq, true);
        irq_set(&l->c.irq, false);
    }
}

void lpt_writable(struct lpt *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->busy)
        print(l);
    pthread_mutex_unlock(&l->lock);
}

static u64 lpt_read(void *dev, u64 offset, unsigned size)
{
    struct lpt *l = dev;
    u8 v;

    pthread_mutex_lock(&l->lock);
    if (offset == PORT_DATA)
        v = l->control & CONTROL_INPUT ? 0xff : l->data;
    else if (offset == PORT_STATUS)
        v = status(l);
    else
        v = l->control | CONTROL_ONES;
    pthread_mutex_unlock(&l->lock);
    return v;
}

static void lpt_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct lpt *l = dev;
    u8 v = (u8)value;

    pthread_mutex_lock(&l->lock);
    if (offset == PORT_DATA) {
        l->data = v;
    } else if (offset == PORT_CONTROL) {
        bool strobe = v & ~l->control & CONTROL_STROBE;
        l->control = v & (u8)~CONTROL_ONES;
        if (strobe && v & CONTROL_INIT && l->c.print && !l->busy) {
            l->pending = l->data;
            print(l);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

const struct bus_ops lpt_ops = { .read = lpt_read, .write = lpt_write, .min_size = 1, .max_size = 1 };

void lpt_reset(struct lpt *l)
{
    pthread_mutex_lock(&l->lock);
    l->data = 0;
    l->control = CONTROL_INIT | 8; /* as firmware leaves it: the printer selected, and not being initialised */
    irq_set(&l->c.irq, false);
    pthread_mutex_unlock(&l->lock);
}

void lpt_init(struct lpt *l, const struct lpt_config *c)
{
    memset(l, 0, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->c = *c;
    lpt_reset(l);
}

void lpt_destroy(struct lpt *l)
{
    pthread_mutex_destroy(&l->lock);
}

static int loaded(void *obj, struct error *err)
{
    struct lpt *l = obj;

    l->control &= (u8)~CONTROL_ONES;
    if (!l->c.print)
        l->busy = false;
    lpt_writable(l);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct lpt, data, 1),    STATE_FIELD(struct lpt, control, 1),
    STATE_FIELD(struct lpt, pending, 1), STATE_FIELD(struct lpt, busy, 1),
    STATE_END,
};
const struct state_desc lpt_state = { "lpt", 1, fields, NULL, loaded };
