/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.h - a PCI bus behind a host bridge: configuration space by ports CF8h/CFCh and by ECAM, BARs that move, INTx, MSI
 * and MSI-X. PCI Local Bus 3.0 and PCI Express Base 3.0 (7.2.2 ECAM, 7.5 configuration space); we use their register
 * names.
 *
 * A device embeds its function. It calls pci_function_init, then adds BARs and capabilities, then calls pci_add.
 *
 * A guest may put a BAR at a place where it cannot be: over a chip of the board or another BAR, at 0, or past the end
 * of the address space. Such a BAR answers nowhere until it has a possible place. RAM is found before any BAR. If BARs
 * overlap, the one of the lower devfn and number answers. A BAR that is memory (a frame buffer, an option ROM) is a
 * region of guest memory at its place. It answers nowhere below 1 MiB, because the regions there belong to the board.
 *
 * Threads: configuration and BAR accesses come on vCPU threads, under the bus's lock (config) or the lock given for the
 * BAR. pci_set_intx, pci_msix_notify, pci_msi_notify: any thread; a device's lock may be held. The rest: while no vCPU
 * runs. Lock order: bus, device, function's irq_lock, then the locks of intx and msi.
 */
#ifndef LODGE_PCI_PCI_H
#define LODGE_PCI_PCI_H

#include <pthread.h>

#include "base/base.h"
#include "base/error.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "state/state.h"

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_ROM = PCI_BARS /* the expansion ROM */, PCI_CONFIG_SIZE = 4096, PCI_MSIX_MAX = 128,
       PCI_INTX_LINES = 4 };

struct pci_bus;

struct pci_bus_config {
    struct bus *ports, *mmio;
    struct memory *memory; /* for BARs that are memory; NULL: there are none */
    /* The lines for the devices' INTA..INTD: line (slot + pin) % 4, as PIIX boards wire PIRQA..PIRQD. */
    struct irq_line intx[PCI_INTX_LINES];
    void (*msi)(void *ctx, u64 address, u32 data); /* any thread */
    void *ctx;
    /* It answers accesses to CF8h-CFBh that are not of 4 bytes (CF9h); NULL: nothing answers them. No lock is held. */
    const struct bus_ops *cf8_bytes;
    void *cf8_dev;
    u64 ecam;                          /* base address of the 1 MiB for bus 0, which is the only bus; 0: there is no
                                          ECAM */
    u64 mmio32, mmio32_size;           /* windows from which pci_assign gives BARs their addresses */
    u64 mmio64, mmio64_size;
    u16 io, io_size;
};

enum pci_bar_flags { PCI_BAR_IO = 1, PCI_BAR_64 = 2, PCI_BAR_PREFETCH = 4 };

struct pci_bar {
    u64 size;               /* a power of two, at least 16 (memory) or 4 (I/O); 0: none */
    u32 flags;
    /* If set, the BAR is memory, from offset 0 of this piece on. The piece is at least as large as the BAR, and the
       BAR is a page or more. If the piece is a ROM, writes go to ops. */
    const struct memory_piece *memory;
    const struct bus_ops *ops; /* may be NULL for memory */
    void *dev;
    pthread_mutex_t *lock;  /* as struct bus_range */
    const char *name;
    u64 at;                 /* the address where it is mapped now; UINT64_MAX: it is not mapped */
};

struct pci_msix_entry { /* as in the table in memory */
    u32 address, upper_address, data, control;
};

struct pci_function {
    struct pci_bus *bus;
    u8 devfn;               /* slot << 3 | function */
    const char *name;
    /* value; bits that software can write; bits that software clears by writing 1 */
    u8 config[PCI_CONFIG_SIZE], wmask[PCI_CONFIG_SIZE], w1c[PCI_CONFIG_SIZE];
    u8 reset[PCI_CONFIG_SIZE];                                                  /* config at power-on, taken by pci_add */
    struct pci_bar bar[PCI_BARS + 1];
    u8 next_cap;            /* private: where the next capability goes */
    u8 msi, msix;           /* their offsets, 0: none */
    u16 msix_vectors;
    pthread_mutex_t irq_lock; /* guards the members below, and the pending bits in config */
    struct pci_msix_entry msix_table[PCI_MSIX_MAX];
    u64 msix_pba[PCI_MSIX_MAX / 64];
    u32 intx;               /* the level that the device wants */
    bool intx_out;          /* the level that it has: INTx is not disabled, and the function is not in MSI or MSI-X
                               mode */
    /* Called after software wrote config bytes [offset, offset + len); NULL: nothing to do. The bus's lock is held. */
    void (*config_written)(struct pci_function *f, u32 offset, u32 len);
    /* A configuration read of a register that is not plain memory. It returns false to let config answer. May be
       NULL. */
    bool (*config_read)(struct pci_function *f, u32 offset, u32 len, u32 *value);
};

struct pci_bus *pci_bus_new(const struct pci_bus_config *c, struct error *err); /* NULL with err */
int must_check pci_bus_add_state(struct pci_bus *b, struct state_list *l);
void pci_bus_free(struct pci_bus *b);

/* class_code: 24 bits, base class << 16 | sub-class << 8 | interface. */
void pci_function_init(struct pci_function *f, const char *name, u16 vendor, u16 device, u8 revision, u32 class_code,
                       u16 subsystem_vendor, u16 subsystem);
/* a 64-bit BAR takes n and n + 1. PCI_ROM: at least 2 KiB, no flags */
void pci_bar_init(struct pci_function *f, u32 n, const struct pci_bar *bar);
/* Adds a capability of len bytes (id and next pointer included), zeroed and read-only; returns its offset. */
u8 pci_add_capability(struct pci_function *f, u8 id, u8 len);
/* Gives the function INTA#. */
void pci_use_intx(struct pci_function *f);
/* Adds MSI with 64-bit addresses and a mask bit for each vector. vectors: a power of two, at most 32. */
void pci_add_msi(struct pci_function *f, u32 vectors);
/* Adds MSI-X with its table and PBA in a memory BAR of its own, number bar. vectors: 1 to PCI_MSIX_MAX. */
void pci_add_msix(struct pci_function *f, u32 vectors, u32 bar);

/* Plugs the function in; slot PCI_SLOTS: the first free slot. -EEXIST, -E2BIG, -ENOMEM. Its state joins the list (l
   may be NULL). The state is what software can write. Everything else is as the device builds it, whatever a stream
   says. */
int must_check pci_add(struct pci_bus *b, struct pci_function *f, u32 slot, u32 function, struct state_list *l,
                       struct error *err);
/* Call it before the device goes away: it unmaps what is mapped. */
void pci_remove(struct pci_function *f);

/* Power-on (or hot reset) of configuration space; the BARs are unmapped. */
void pci_reset(struct pci_bus *b);
/* Does the work of firmware: it gives BARs addresses, gives interrupt lines their numbers (those of the 8259As), and
   switches decoding on. It is for direct kernel boot; a firmware does this itself. A BAR that finds no room stays at
   0. Returns the interrupt lines that it gave, a bit for each. */
u16 pci_assign(struct pci_bus *b, const u8 line_irq[PCI_INTX_LINES]);
/* Finds the range above 4 GiB that BARs are in: *base, *size. Leaves them unchanged if that range holds all the BARs
   already. */
void pci_bars64(struct pci_bus *b, u64 *base, u64 *size);
/* Maps BARs as configuration space says. Loading state does this. */
void pci_remap(struct pci_bus *b);

bool pci_msix_enabled(const struct pci_function *f);
bool pci_msi_enabled(const struct pci_function *f);
/* Bus mastering: may the function reach memory? */
bool pci_bus_master(const struct pci_function *f);
void pci_set_intx(struct pci_function *f, bool level);
/* If the vector is masked, or the function is not bus master, the message stays pending. If MSI-X is not enabled, or
   the vector is outside the table, nothing happens. */
void pci_msix_notify(struct pci_function *f, u32 vector);
/* The same for MSI. A vector that the guest did not allocate shares one that it did allocate. */
void pci_msi_notify(struct pci_function *f, u32 vector);

static inline u16 pci_get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 pci_get32(const u8 *p) { return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }
static inline void pci_put16(u8 *p, u16 v) { p[0] = (u8)v, p[1] = (u8)(v >> 8); }
static inline void pci_put32(u8 *p, u32 v) { pci_put16(p, (u16)v), pci_put16(p + 2, (u16)(v >> 16)); }

#endif
