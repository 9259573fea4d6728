/* SPDX-License-Identifier: Apache-2.0 */
/*
 * e1000.h - Intel's 82540EM gigabit Ethernet controller (PCI 8086:100E) over a struct net.  Intel PCI/PCI-X Family of
 * Gigabit Ethernet Controllers Software Developer's Manual (317453), whose register and field names are used.
 *
 * A frame from the cable that the driver has no descriptors for waits in the backend; one that no driver is there for, or
 * that its filters do not want, is lost.  A frame from the driver that the cable does not take waits in its ring.
 *
 * Threads: new, free, resume: the loop's.  Locks itself.
 */
#ifndef LODGE_DEVICES_E1000_H
#define LODGE_DEVICES_E1000_H

#include "base/error.h"
#include "base/loop.h"
#include "devices/device.h"
#include "memory/memory.h"
#include "net/net.h"
#include "pci/pci.h"

struct e1000;

/* net: the caller's; closed after e1000_free. It is plugged into the next free slot; instance: of its state record in l
   (l may be NULL). NULL with err set. */
struct e1000 *e1000_new(struct net *net, struct memory *m, struct loop *loop, struct pci_bus *bus, struct state_list *l,
                        u32 instance, struct error *err);
void e1000_free(struct e1000 *e); /* after the bus is gone; may be NULL */
struct pci_function *e1000_pci(struct e1000 *e);
void e1000_reset(void *e);        /* power-on */
void e1000_resume(void *e);       /* after a save or a load: what waits is looked at again */

extern const struct device_class e1000_class;

#endif
