/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pic.c - see pic.h.
 *
 * Once an edge was seen, it stays in IRR until it is acknowledged, even if its input drops before (the real chip would
 * then answer IR7). A pulse that is shorter than the guest's latency must not be lost. Level inputs (ELCR) and the
 * cascade follow their line.
 */
#include "irq/pic.h"

#include <errno.h>
#include <string.h>

#include "irq/irqchip_state.h"

enum { MASTER, SLAVE, CASCADE = 2, NO_PRIORITY = 8 };

enum { /* ICW1, OCW2, OCW3 */
    ICW1_IC4 = 1 << 0, ICW1_SELECT = 1 << 4,
    OCW3_SELECT = 1 << 3, OCW3_RIS = 1 << 0, OCW3_RR = 1 << 1, OCW3_P = 1 << 2, OCW3_SMM = 1 << 5, OCW3_ESMM = 1 << 6,
    ICW4_AEOI = 1 << 1, ICW4_SFNM = 1 << 4,
};

/* Position of the highest-priority bit of mask, counted from priority_add; NO_PRIORITY if none. */
static unsigned highest(const struct irqchip_pic *s, u8 mask)
{
    for (unsigned p = 0; p < 8; p++)
        if (mask & (1u << ((p + s->priority_add) & 7)))
            return p;
    return NO_PRIORITY;
}

/* The input that drives INT now, or -1. */
static int pending(const struct pic *p, unsigned which)
{
    const struct irqchip_pic *s = &p->chip[which];
    u8 in_service = s->isr;
    unsigned request = highest(s, s->irr & ~s->imr);

    if (request == NO_PRIORITY)
        return -1;
    if (s->special_mask)
        in_service &= ~s->imr;
    /* Special fully nested: a slave may interrupt its own earlier request. */
    if (s->special_fully_nested && which == MASTER)
        in_service &= (u8)~(1u << CASCADE);
    return request < highest(s, in_service) ? (int)((request + s->priority_add) & 7) : -1;
}

static void update(struct pic *p)
{
    struct irqchip_pic *m = &p->chip[MASTER];
    bool out;

    if (pending(p, SLAVE) >= 0) {
        m->irr |= 1 << CASCADE;
        m->lines |= 1 << CASCADE;
    } else {
        m->irr &= (u8)~(1u << CASCADE);
        m->lines &= (u8)~(1u << CASCADE);
    }
    out = pending(p, MASTER) >= 0;
    if (out != p->output) {
        p->output = out;
        if (p->intr)
            p->intr(p->ctx, out);
    }
}

static void acknowledge(struct irqchip_pic *s, unsigned irq)
{
    u8 bit = (u8)(1u << irq);

    if (!s->auto_eoi)
        s->isr |= bit;
    else if (s->rotate_on_auto_eoi)
        s->priority_add = (irq + 1) & 7;
    if (!(s->elcr & bit))
        s->irr &= ~bit;
}

void pic_set(void *chip, u32 pin, bool level)
{
    struct pic *p = chip;
    struct irqchip_pic *s;
    u8 bit;

    if (pin >= 16 || pin == CASCADE)
        return;
    pthread_mutex_lock(&p->lock);
    s = &p->chip[pin >> 3];
    bit = (u8)(1u << (pin & 7));
    if (s->elcr & bit) {
        s->irr = level ? s->irr | bit : s->irr & ~bit;
    } else if (level && !(s->lines & bit)) {
        s->irr |= bit;
    }
    s->lines = level ? s->lines | bit : s->lines & ~bit;
    update(p);
    pthread_mutex_unlock(&p->lock);
}

int pic_ack(struct pic *p)
{
    int irq, vector;

    pthread_mutex_lock(&p->lock);
    irq = pending(p, MASTER);
    if (irq < 0) {
        vector = p->chip[MASTER].irq_base + 7; /* spurious: no ISR bit */
    } else if (irq != CASCADE) {
        acknowledge(&p->chip[MASTER], (unsigned)irq);
        vector = p->chip[MASTER].irq_base + irq;
    } else {
        acknowledge(&p->chip[MASTER], CASCADE);
        irq = pending(p, SLAVE);
        if (irq >= 0)
            acknowledge(&p->chip[SLAVE], (unsigned)irq);
        else
            irq = 7;
        vector = p->chip[SLAVE].irq_base + irq;
    }
    update(p);
    pthread_mutex_unlock(&p->lock);
    return vector;
}

static void icw1(struct irqchip_pic *s, u8 value)
{
    s->four_byte_init = value & ICW1_IC4;
    s->irr &= s->elcr; /* the edge sense circuit is reset */
    s->imr = 0;
    s->isr = 0;
    s->priority_add = 0;
    s->special_mask = false;
    s->read_isr = false;
    s->poll = false;
    if (!s->four_byte_init) {
        s->auto_eoi = false;
        s->special_fully_nested = false;
    }
    s->rotate_on_auto_eoi = false;
    s->init_state = 1;
}

static void end_of_interrupt(struct irqchip_pic *s, unsigned irq, bool rotate)
{
    s->isr &= (u8)~(1u << irq);
    if (rotate)
        s->priority_add = (irq + 1) & 7;
}

static void ocw2(struct irqchip_pic *s, u8 value)
{
    unsigned level = value & 7, command = value >> 5, top;

    switch (command) {
    case 0: /* rotate in automatic EOI mode: clear, set */
    case 4:
        s->rotate_on_auto_eoi = command == 4;
        break;
    case 1: /* non-specific EOI; rotating */
    case 5:
        /* In special mask mode a masked level's ISR bit is not cleared by a non-specific EOI. */
        top = highest(s, s->special_mask ? s->isr & ~s->imr : s->isr);
        if (top != NO_PRIORITY)
            end_of_interrupt(s, (top + s->priority_add) & 7, command == 5);
        break;
    case 3: /* specific EOI; rotating */
    case 7:
        end_of_interrupt(s, level, command == 7);
        break;
    case 6: /* set priority: level becomes the lowest */
        s->priority_add = (level + 1) & 7;
        break;
    default: /* 2: no operation */
        break;
    }
}

static void ocw3(struct irqchip_pic *s, u8 value)
{
    if (value & OCW3_P)
        s->poll = true;
    if (value & OCW3_RR)
        s->read_isr = value & OCW3_RIS;
    if (value & OCW3_ESMM)
        s->special_mask = value & OCW3_SMM;
}

static void write_odd(struct irqchip_pic *s, u8 value)
{
    switch (s->init_state) {
    case 1: /* ICW2; a cascaded chip expects ICW3 next */
        s->irq_base = value & 0xf8;
        s->init_state = 2;
        break;
    case 2: /* ICW3: the wiring is fixed */
        s->init_state = s->four_byte_init ? 3 : 0;
        break;
    case 3: /* ICW4 */
        s->auto_eoi = value & ICW4_AEOI;
        s->special_fully_nested = value & ICW4_SFNM;
        s->init_state = 0;
        break;
    default: /* OCW1 */
        s->imr = value;
        break;
    }
}

static void pic_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pic_port *port = dev;
    struct irqchip_pic *s = &port->pic->chip[port->index];
    u8 v = (u8)value;

    pthread_mutex_lock(&port->pic->lock);
    if (offset & 1)
        write_odd(s, v);
    else if (v & ICW1_SELECT)
        icw1(s, v);
    else if (v & OCW3_SELECT)
        ocw3(s, v);
    else
        ocw2(s, v);
    update(port->pic);
    pthread_mutex_unlock(&port->pic->lock);
}

/* A read after the poll command acknowledges the interrupt. */
static u8 poll_read(struct pic *p, unsigned which)
{
    int irq = pending(p, which);

    p->chip[which].poll = false;
    if (irq < 0)
        return 0;
    acknowledge(&p->chip[which], (unsigned)irq);
    return (u8)(0x80 | irq);
}

static u64 pic_read(void *dev, u64 offset, unsigned size)
{
    struct pic_port *port = dev;
    struct irqchip_pic *s = &port->pic->chip[port->index];
    u8 v;

    pthread_mutex_lock(&port->pic->lock);
    if (s->poll) {
        v = poll_read(port->pic, port->index);
        update(port->pic);
    } else if (offset & 1) {
        v = s->imr;
    } else {
        v = s->read_isr ? s->isr : s->irr;
    }
    pthread_mutex_unlock(&port->pic->lock);
    return v;
}

const struct bus_ops pic_ops = { .read = pic_read, .write = pic_write, .min_size = 1, .max_size = 1 };

static u64 elcr_read(void *dev, u64 offset, unsigned size)
{
    struct pic *p = dev;
    u8 v;

    pthread_mutex_lock(&p->lock);
    v = p->chip[offset & 1].elcr;
    pthread_mutex_unlock(&p->lock);
    return v;
}

static void elcr_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pic *p = dev;
    struct irqchip_pic *s = &p->chip[offset & 1];
    u8 changed;

    pthread_mutex_lock(&p->lock);
    changed = s->elcr ^ (value & s->elcr_mask);
    s->elcr ^= changed;
    /* An input that becomes level-triggered requests according to its line. One that becomes edge-triggered waits
       for an edge. */
    s->irr = (s->irr & ~changed) | (s->lines & s->elcr & changed);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

const struct bus_ops pic_elcr_ops = { .read = elcr_read, .write = elcr_write, .min_size = 1, .max_size = 1 };

static void reset_chip(struct irqchip_pic *s, u8 elcr_mask)
{
    u8 lines = s->lines;

    memset(s, 0, sizeof(*s));
    s->lines = lines; /* the lines belong to the devices that drive them */
    s->elcr_mask = elcr_mask;
}

void pic_reset(struct pic *p)
{
    pthread_mutex_lock(&p->lock);
    reset_chip(&p->chip[MASTER], 0xf8); /* PIIX4: IRQ 0, 1, 2, 8, 13 are always edge-triggered */
    reset_chip(&p->chip[SLAVE], 0xde);
    update(p);
    pthread_mutex_unlock(&p->lock);
}

void pic_init(struct pic *p, void (*intr)(void *ctx, bool level), void *ctx)
{
    memset(p, 0, sizeof(*p));
    pthread_mutex_init(&p->lock, NULL);
    for (u32 i = 0; i < 2; i++)
        p->port[i] = (struct pic_port){ .pic = p, .index = i };
    p->intr = intr;
    p->ctx = ctx;
    pic_reset(p);
}

void pic_destroy(struct pic *p)
{
    pthread_mutex_destroy(&p->lock);
}

int pic_check_state(struct irqchip_pic chip[2], struct error *err)
{
    for (unsigned i = 0; i < 2; i++)
        if (chip[i].priority_add > 7 || chip[i].init_state > 3 || (chip[i].irq_base & 7) ||
            (chip[i].elcr & ~chip[i].elcr_mask))
            return error_set(err, EINVAL, "the saved state of interrupt controller (8259A) %u is not possible", i);
    return 0;
}

static int loaded(void *obj, struct error *err)
{
    struct pic *p = obj;
    int r = pic_check_state(p->chip, err);

    if (r)
        return r;
    pthread_mutex_lock(&p->lock);
    p->output = pending(p, MASTER) >= 0;
    if (p->intr)
        p->intr(p->ctx, p->output);
    update(p);
    pthread_mutex_unlock(&p->lock);
    return 0;
}

static const struct state_field fields[] = {
    STATE_STRUCTS(struct pic, chip, 1, irqchip_pic_fields),
    STATE_END,
};
const struct state_desc pic_state = { "pic", PIC_STATE_VERSION, fields, NULL, loaded };
