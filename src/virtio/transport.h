/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h - how a driver reaches a virtio device: as a PCI function (VIRTIO 1.2, 4.1) or by MMIO registers (4.2).
 */
#ifndef LODGE_VIRTIO_TRANSPORT_H
#define LODGE_VIRTIO_TRANSPORT_H

#include "irq/irq.h"
#include "memory/bus.h"
#include "pci/pci.h"
#include "virtio/virtio.h"

struct virtio_transport;

enum { VIRTIO_MMIO_SIZE = 0x200 };

/* slot: PCI_SLOTS for the first free one. instance: of its state records ("virtio", and those of the PCI function). The
   device's state is added too; l NULL: none is. NULL with err. */
struct virtio_transport *virtio_pci_new(struct virtio_device *d, struct pci_bus *bus, u32 slot, struct state_list *l,
                                        u32 instance, struct error *err);
/* VIRTIO_MMIO_SIZE bytes of registers at base. */
struct virtio_transport *virtio_mmio_new(struct virtio_device *d, struct bus *mmio, u64 base,
                                         const struct irq_line *irq, struct state_list *l, u32 instance,
                                         struct error *err);
/* No vCPU runs. The list of states must not be used any more. */
void virtio_transport_free(struct virtio_transport *t);
/* Power-on reset: the loop's thread, no vCPU runs; returns when nothing of the device is under way. */
void virtio_transport_reset(struct virtio_transport *t);
/* Around saving and loading: settle, save or load, resume. The loop's thread, no vCPU runs. After loading alone, resume
   without settle. */
void virtio_transport_settle(struct virtio_transport *t);
void virtio_transport_resume(struct virtio_transport *t);
struct pci_function *virtio_transport_pci(struct virtio_transport *t); /* NULL: it is MMIO */

#endif
