/* SPDX-License-Identifier: Apache-2.0 */
/*
 * irq.h - an interrupt line as a device sees it, and where lines and messages go.
 */
#ifndef LODGE_IRQ_IRQ_H
#define LODGE_IRQ_IRQ_H

#include "base/base.h"

/* An input pin of some chip. Devices hold a copy; a zeroed one is not connected. Any thread. */
struct irq_line {
    void (*set)(void *chip, u32 pin, bool level);
    void *chip;
    u32 pin;
};
static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l->set)
        l->set(l->chip, l->pin, level);
}

#endif
