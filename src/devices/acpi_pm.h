/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi_pm.h - ACPI fixed hardware: PM1a event and control registers, PM timer and
 * GPE0 block, laid out as the PIIX4's power management space; the SMI command port
 * that switches ACPI mode; the reset control register CF9h.  ACPI 6.5 ch. 4.8;
 * 82371AB (PIIX4) data sheet ch. 7.2 (PM I/O) and 4.2.6.6 (RC).
 *
 * Locks itself: map its ranges with no lock.  power_off() and reset() are called
 * with no lock held.
 */
#ifndef LODGE_DEVICES_ACPI_PM_H
#define LODGE_DEVICES_ACPI_PM_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "devices/reset.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { /* offsets in the block, for the FADT */
    ACPI_PM_BASE = 0x600, ACPI_PM_SIZE = 0x10,
    ACPI_PM1A_EVT = 0x0, ACPI_PM1A_CNT = 0x4, ACPI_PM_TMR = 0x8, ACPI_GPE0 = 0xc, ACPI_GPE0_LEN = 4,
    ACPI_SCI_IRQ = 9,
    ACPI_SMI_CMD = 0xb2, ACPI_ENABLE = 0xf1, ACPI_DISABLE = 0xf0,
    ACPI_RESET_PORT = 0xcf9, ACPI_RESET_VALUE = 0x6,
    ACPI_SLP_TYP_S5 = 0, /* for the DSDT's \_S5; 0604h <- 2000h is the power-off other machines have too */
    ACPI_PM_TIMER_HZ = 3579545,
};

struct acpi_pm {
    pthread_mutex_t lock;
    struct irq_line sci;
    struct timer timer;
    void (*power_off)(void *ctx);
    void (*reset)(void *ctx, enum reset_kind kind);
    void *ctx;

    u16 pm1_sts, pm1_en, pm1_cnt, gpe_sts, gpe_en;
    u8 apm_cnt, apm_sts, reset_control;
    u64 timer_age;   /* ns since the PM timer was 0: when saved */
    u64 timer_start; /* clock_ns() then */
    u64 timer_half;  /* times its top bit has changed, as far as TMR_STS knows */
};

struct acpi_pm_config {
    struct loop *loop;
    struct irq_line sci;
    void (*power_off)(void *ctx);
    void (*reset)(void *ctx, enum reset_kind kind);
    void *ctx;
};

void acpi_pm_init(struct acpi_pm *p, const struct acpi_pm_config *c);
void acpi_pm_destroy(struct acpi_pm *p);
void acpi_pm_reset(struct acpi_pm *p);

/* Presses the power button. False: the guest has not enabled it and will not notice. Any thread. */
bool acpi_pm_power_button(struct acpi_pm *p);
/* The RTC's interrupt rises: RTC_STS, by which an ACPI system has its alarms where the HPET has taken IRQ 8. Any thread. */
void acpi_pm_rtc(struct acpi_pm *p);
/* A general-purpose event (0-15) happens. Any thread. */
void acpi_pm_gpe(struct acpi_pm *p, unsigned event);

extern const struct bus_ops acpi_pm_ops;     /* ACPI_PM_SIZE ports at ACPI_PM_BASE; dev: struct acpi_pm */
extern const struct bus_ops acpi_smi_ops;    /* 2 ports at B2h */
extern const struct bus_ops acpi_reset_ops;  /* 1 port at CF9h */
extern const struct state_desc acpi_pm_state;

#endif
