/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - shared by pci_bus.c (configuration space), bar.c and msi.c (interrupts). */
#ifndef LODGE_PCI_INTERNAL_H
#define LODGE_PCI_INTERNAL_H

#include "pci/pci.h"

enum { /* configuration space header, type 0 (PCI 3.0, 6.1) */
    PCI_VENDOR_ID = 0x00, PCI_DEVICE_ID = 0x02, PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_REVISION_ID = 0x08,
    PCI_CLASS_CODE = 0x09, PCI_CACHE_LINE_SIZE = 0x0c, PCI_LATENCY_TIMER = 0x0d, PCI_HEADER_TYPE = 0x0e,
    PCI_BASE_ADDRESS = 0x10, PCI_SUBSYSTEM_VENDOR_ID = 0x2c, PCI_SUBSYSTEM_ID = 0x2e, PCI_ROM_ADDRESS = 0x30, PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c, PCI_INTERRUPT_PIN = 0x3d, PCI_HEADER_END = 0x40,
};
enum {
    COMMAND_IO = 1 << 0, COMMAND_MEMORY = 1 << 1, COMMAND_MASTER = 1 << 2, COMMAND_PARITY = 1 << 6,
    COMMAND_SERR = 1 << 8, COMMAND_INTX_DISABLE = 1 << 10,
    STATUS_INTERRUPT = 1 << 3, STATUS_CAPABILITIES = 1 << 4,
    MULTIFUNCTION = 0x80,
};
enum { CAP_MSI = 0x05, CAP_MSIX = 0x11 };
enum { BAR_IO = 1 << 0, BAR_64 = 2 << 1, BAR_PREFETCH = 1 << 3, BAR_FLAGS = 0xf, BAR_IO_FLAGS = 3,
       ROM_ENABLE = 1, ROM_FLAGS = 0x7ff };

enum { PCI_FUNCTIONS = 256 };
#define UNMAPPED UINT64_MAX

struct pci_bus {
    struct pci_bus_config c;
    pthread_mutex_t lock; /* guards configuration space and the places of BARs */
    u32 address;          /* CONFIG_ADDRESS */
    struct pci_function *fn[PCI_FUNCTIONS];
    pthread_mutex_t intx_lock;
    u32 intx_count[PCI_INTX_LINES]; /* number of functions that assert each line */
};

/* Any thread reads configuration bytes: pci_msix_enabled() and similar functions take no lock. */
static inline u8 config_get(const struct pci_function *f, u32 at) { return __atomic_load_n(&f->config[at], __ATOMIC_RELAXED); }
static inline void config_put(struct pci_function *f, u32 at, u8 v) { __atomic_store_n(&f->config[at], v, __ATOMIC_RELAXED); }
static inline u16 config_get16(const struct pci_function *f, u32 at) { return (u16)(config_get(f, at) | config_get(f, at + 1) << 8); }

/* bar.c; the bus's lock held */
void bars_update(struct pci_bus *b);

/* msi.c */
void interrupts_reset(struct pci_function *f);
/* Called after COMMAND, an MSI register or an MSI-X register changed: INTx follows the change, and pending messages
   are sent if they may be. */
void interrupts_update(struct pci_function *f);
/* The bits of a configuration byte that are MSI's pending bits: they are state that software cannot write. */
u8 interrupts_pending_mask(const struct pci_function *f, u32 at);
/* Removes from a loaded state what it cannot validly hold. */
void interrupts_sanitize(struct pci_function *f);

#endif
