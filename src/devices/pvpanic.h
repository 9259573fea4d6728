/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pvpanic.h - a guest's kernel says that it has crashed: one register of one byte, of which the guest reads what it may
 * say and to which it writes what has happened. QEMU, docs/specs/pvpanic.rst.
 *
 * "pvpanic" is a port (505h) with the ACPI device QEMU0001, on every board; "pvpanic-pci" is a PCI function (1b36:0011).
 */
#ifndef LODGE_DEVICES_PVPANIC_H
#define LODGE_DEVICES_PVPANIC_H

#include "devices/device.h"

enum { PVPANIC_PORT = 0x505, PVPANIC_PANICKED = 1, PVPANIC_CRASH_LOADED = 2 };

extern const struct device_class pvpanic_class, pvpanic_pci_class;

#endif
