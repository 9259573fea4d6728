/* SPDX-License-Identifier: Apache-2.0 */
/* ioapic.c - see ioapic.h. */
#include "irq/ioapic.h"

#include <string.h>

enum { REG_SELECT = 0x00, REG_WINDOW = 0x10 };                 /* memory-mapped */
enum { IOAPICID = 0, IOAPICVER = 1, IOAPICARB = 2, IOREDTBL = 0x10 }; /* through the window */
enum { IOAPIC_VERSION = 0x11 };

#define RTE_DELIVERY_SHIFT 8
#define RTE_LOGICAL BIT(11)
#define RTE_PENDING BIT(12)
#define RTE_REMOTE_IRR BIT(14)
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_DEST_SHIFT 56
#define RTE_WRITABLE (0xff000000000000ffull | 0x700 | RTE_LOGICAL | BIT(13) | RTE_LEVEL | RTE_MASKED)

static void send(struct ioapic *a, u32 pin)
{
    u64 *rte = &a->s.chip.redirect[pin];
    struct lapic_message m = {
        .dest = (u32)(*rte >> RTE_DEST_SHIFT),
        .logical = *rte & RTE_LOGICAL,
        .level = *rte & RTE_LEVEL,
        .mode = *rte >> RTE_DELIVERY_SHIFT & 7,
        .vector = (u8)*rte,
    };
    bool accepted;

    if (m.mode == DELIVER_STARTUP)
        return; /* reserved here */
    accepted = lapic_deliver(a->lapic, &m) > 0;
    /* The bit is set only if some local APIC accepted the message. If none did, no EOI would ever clear the bit. */
    if (accepted && m.level && (m.mode == DELIVER_FIXED || m.mode == DELIVER_LOWEST))
        *rte |= RTE_REMOTE_IRR;
}

/* Sends a level-triggered input that is asserted, unmasked and not in service. */
static void check_level(struct ioapic *a, u32 pin)
{
    u64 rte = a->s.chip.redirect[pin];

    if ((a->s.lines & BIT(pin)) && (rte & RTE_LEVEL) && !(rte & (RTE_MASKED | RTE_REMOTE_IRR)))
        send(a, pin);
}

void ioapic_set(void *chip, u32 pin, bool level)
{
    struct ioapic *a = chip;
    bool was;

    if (pin >= IOAPIC_PINS)
        return;
    pthread_mutex_lock(&a->lock);
    was = a->s.lines & BIT(pin);
    a->s.lines = level ? a->s.lines | (u32)BIT(pin) : a->s.lines & ~(u32)BIT(pin);
    if (a->s.chip.redirect[pin] & RTE_LEVEL)
        check_level(a, pin);
    else if (level && !was && !(a->s.chip.redirect[pin] & RTE_MASKED))
        send(a, pin);
    pthread_mutex_unlock(&a->lock);
}

void ioapic_eoi(struct ioapic *a, u8 vector)
{
    pthread_mutex_lock(&a->lock);
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 *rte = &a->s.chip.redirect[pin];

        if ((*rte & RTE_LEVEL) && (*rte & RTE_REMOTE_IRR) && (u8)*rte == vector) {
            *rte &= ~RTE_REMOTE_IRR;
            check_level(a, pin);
        }
    }
    pthread_mutex_unlock(&a->lock);
}

static u32 read_window(const struct ioapic *a)
{
    u32 r = a->s.chip.ioregsel;

    switch (r) {
    case IOAPICID:
    case IOAPICARB: /* loaded by a write to the ID */
        return (a->s.chip.id & 0xf) << 24;
    case IOAPICVER:
        return (IOAPIC_PINS - 1) << 16 | IOAPIC_VERSION;
    default:
        if (r < IOREDTBL || r >= IOREDTBL + 2 * IOAPIC_PINS)
            return 0;
        return (u32)(a->s.chip.redirect[(r - IOREDTBL) / 2] >> (r & 1 ? 32 : 0));
    }
}

static void write_window(struct ioapic *a, u32 value)
{
    u32 r = a->s.chip.ioregsel, pin;
    u64 *rte, v;

    if (r == IOAPICID)
        a->s.chip.id = value >> 24 & 0xf;
    if (r < IOREDTBL || r >= IOREDTBL + 2 * IOAPIC_PINS)
        return;
    pin = (r - IOREDTBL) / 2;
    rte = &a->s.chip.redirect[pin];
    v = r & 1 ? (u64)value << 32 | (u32)*rte : (*rte & 0xffffffff00000000) | value;
    *rte = (v & RTE_WRITABLE) | (*rte & RTE_REMOTE_IRR);
    /* Switching to edge and back clears Remote IRR. Operating systems end an interrupt by hand in this way, on an
       I/O APIC without an EOI register. */
    if (!(*rte & RTE_LEVEL))
        *rte &= ~RTE_REMOTE_IRR;
    check_level(a, pin);
}

static u64 ioapic_read(void *dev, u64 offset, unsigned size)
{
    struct ioapic *a = dev;
    u32 value = 0;

    pthread_mutex_lock(&a->lock);
    if ((offset & 0xff) == REG_SELECT)
        value = a->s.chip.ioregsel;
    else if ((offset & 0xff) == REG_WINDOW)
        value = read_window(a);
    pthread_mutex_unlock(&a->lock);
    return value;
}

static void ioapic_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct ioapic *a = dev;

    pthread_mutex_lock(&a->lock);
    if ((offset & 0xff) == REG_SELECT)
        a->s.chip.ioregsel = value & 0xff;
    else if ((offset & 0xff) == REG_WINDOW)
        write_window(a, (u32)value);
    pthread_mutex_unlock(&a->lock);
}

const struct bus_ops ioapic_ops = { .read = ioapic_read, .write = ioapic_write, .min_size = 4, .max_size = 4 };

void ioapic_reset(struct ioapic *a)
{
    pthread_mutex_lock(&a->lock);
    a->s.chip = (struct irqchip_ioapic){ .base_address = IOAPIC_DEFAULT_BASE };
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
        a->s.chip.redirect[pin] = RTE_MASKED;
    pthread_mutex_unlock(&a->lock);
}

void ioapic_init(struct ioapic *a, struct lapic_set *lapic)
{
    memset(a, 0, sizeof(*a));
    pthread_mutex_init(&a->lock, NULL);
    a->lapic = lapic;
    ioapic_reset(a);
}

void ioapic_destroy(struct ioapic *a)
{
    pthread_mutex_destroy(&a->lock);
}

static int saving(void *obj)
{
    struct ioapic *a = container_of(obj, struct ioapic, s);

    pthread_mutex_lock(&a->lock);
    a->s.chip.irr = 0;
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
        if (a->s.chip.redirect[pin] & RTE_LEVEL)
            a->s.chip.irr |= a->s.lines & (u32)BIT(pin);
    pthread_mutex_unlock(&a->lock);
    return 0;
}

/* Nothing is sent here: messages that had been accepted are in the local APICs' records. */
static int loaded(void *obj, struct error *err)
{
    struct ioapic *a = container_of(obj, struct ioapic, s);

    pthread_mutex_lock(&a->lock);
    a->s.chip.ioregsel &= 0xff;
    a->s.chip.id &= 0xf;
    a->s.lines &= (u32)BIT(IOAPIC_PINS) - 1;
    for (u32 pin = 0; pin < IOAPIC_PINS; pin++)
        a->s.chip.redirect[pin] &= RTE_WRITABLE | RTE_REMOTE_IRR;
    pthread_mutex_unlock(&a->lock);
    return 0;
}

static const struct state_desc ioapic_state = { "ioapic", IOAPIC_STATE_VERSION, ioapic_record_fields, saving, loaded, true };

int ioapic_add_state(struct ioapic *a, struct state_list *list)
{
    return state_add(list, &ioapic_state, 0, &a->s);
}
