/* SPDX-License-Identifier: Apache-2.0 */
/*
 * i6300esb.h - the watchdog timer of Intel's 6300ESB I/O controller hub, a PCI function (8086:25ab). Intel 6300ESB I/O
 * Controller Hub Datasheet (300641-004), chapter "Watchdog Timer"; names are those of its registers.
 *
 * The guest must reload the timer before its first stage has counted down, after which it may get an interrupt, and the
 * second stage. Then the machine is reset, or what `action` says. Time does not pass while the user has paused the machine.
 */
#ifndef LODGE_DEVICES_I6300ESB_H
#define LODGE_DEVICES_I6300ESB_H

#include "devices/device.h"

extern const struct device_class i6300esb_class;

#endif
