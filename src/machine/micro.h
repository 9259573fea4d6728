/* SPDX-License-Identifier: Apache-2.0 */
/*
 * micro.h - the board "micro": where its few parts are, and the registers of hardware-reduced ACPI (6.5, 4.8.3.7) by which
 * it is powered off and reset.
 */
#ifndef LODGE_MACHINE_MICRO_H
#define LODGE_MACHINE_MICRO_H

#include "memory/bus.h"

enum {
    MICRO_SLEEP_CONTROL = 0x600, MICRO_SLEEP_STATUS = 0x601, MICRO_RESET = 0x602, MICRO_POWER_PORTS = 3,
    MICRO_SLP_TYP_S5 = 5, MICRO_RESET_VALUE = 1,
    MICRO_VIRTIO_SIZE = 0x1000, MICRO_VIRTIO_GSI = 8,
};
#define MICRO_VIRTIO_BASE 0xc0000000ull

struct machine;
extern const struct bus_ops micro_power_ops; /* dev: struct machine; MICRO_POWER_PORTS from MICRO_SLEEP_CONTROL on */

#endif
