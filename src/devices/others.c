/* SPDX-License-Identifier: Apache-2.0 */
/* others.c - the devices that are plugged in by their name. A new one is one line here. */
#include "devices/i6300esb.h"
#include "devices/pvpanic.h"
#include "devices/testdev.h"

const struct device_class *const device_others[] = {
    &i6300esb_class,
    &pvpanic_class,
    &pvpanic_pci_class,
    &testdev_class,
    NULL,
};
