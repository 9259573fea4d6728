/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.h - a PCI bus behind a host bridge: configuration space by ports CF8h/CFCh and by ECAM, BARs that move, INTx,
 * MSI and MSI-X.  PCI Local Bus 3.0 and PCI Express Base 3.0 (7.2.2 ECAM, 7.5 configuration space), whose register
 * names are used.
 *
 * A function is embedded by its device: pci_function_init, then BARs and capabilities, then pci_add.
 *
 * A BAR that cannot be where the guest puts it (over a chip of the board or another BAR, at 0, past the end of the
 * address space) answers nowhere until it can; RAM is found before any BAR.  Of BARs that overlap, the one of the lower
 * devfn and number answers.  A BAR that is memory (a frame buffer, an option ROM) is a region of guest memory where it is,
 * and answers nowhere below 1 MiB, where regions are the board's.
 *
 * Threads: configuration and BAR accesses on vCPU threads, under the bus's lock (config) or the lock given for the BAR.
 * pci_set_intx, pci_msix_notify, pci_msi_notify: any thread, a device's lock may be held.  The rest: while no vCPU runs.
 * Lock order: bus, device, function's irq_lock, then what intx and msi take.
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

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_ROM = PCI_BARS /* the expansion ROM's */, PCI_CONFIG_SIZE = 4096, PCI_MSIX_MAX = 128, PCI_INTX_LINES = 4 };

struct pci_bus;

struct pci_bus_config {
    struct bus *ports, *mmio;
    struct memory *memory; /* for BARs that are memory; NULL: there are none */
    /* Where a device's INTA..INTD go: line (slot + pin) % 4, as PIIX boards wire PIRQA..PIRQD. */
    struct irq_line intx[PCI_INTX_LINES];
    void (*msi)(void *ctx, u64 address, u32 data); /* any thread */
    void *ctx;
    /* What answers accesses to CF8h-CFBh that are not of 4 bytes (CF9h); NULL: nothing. No lock is held. */
    const struct bus_ops *cf8_bytes;
    void *cf8_dev;
    u64 ecam;                          /* base of 1 MiB, for bus 0, the only one; 0: none */
    u64 mmio32, mmio32_size;           /* windows from which pci_assign gives BARs their addresses */
    u64 mmio64, mmio64_size;
    u16 io, io_size;
};

enum pci_bar_flags { PCI_BAR_IO = 1, PCI_BAR_64 = 2, PCI_BAR_PREFETCH = 4 };

struct pci_bar {
    u64 size;               /* a power of two, at least 16 (memory) or 4 (I/O); 0: none */
    u32 flags;
    /* It is memory, from this piece's offset 0 on, at least as large as the BAR; which is a page or more. If it is a ROM,
       writes go to ops. */
    const struct memory_piece *memory;
    const struct bus_ops *ops; /* may be NULL for memory */
    void *dev;
    pthread_mutex_t *lock;  /* as struct bus_range */
    const char *name;
    u64 at;                 /* where it is mapped now; UINT64_MAX: not */
};

struct pci_msix_entry { /* as in the table in memory */
    u32 address, upper_address, data, control;
};

struct pci_function {
    struct pci_bus *bus;
    u8 devfn;               /* slot << 3 | function */
    const char *name;
    u8 config[PCI_CONFIG_SIZE], wmask[PCI_CONFIG_SIZE], w1c[PCI_CONFIG_SIZE]; /* value, bits software writes, bits it clears by 1 */
    u8 reset[PCI_CONFIG_SIZE];                                                  /* config at power-on, taken by pci_add */
    struct pci_bar bar[PCI_BARS + 1];
    u8 next_cap;            /* private: where the next capability goes */
    u8 msi, msix;           /* their offsets, 0: none */
    u16 msix_vectors;
    pthread_mutex_t irq_lock; /* guards the following, and the pending bits in config */
    struct pci_msix_entry msix_table[PCI_MSIX_MAX];
    u64 msix_pba[PCI_MSIX_MAX / 64];
    u32 intx;               /* level the device wants */
    bool intx_out;          /* and has: not disabled, not in MSI or MSI-X mode */
    /* After software wrote config bytes [offset, offset + len); NULL: nothing to do. Under the bus's lock. */
    void (*config_written)(struct pci_function *f, u32 offset, u32 len);
    /* A configuration read of a register that is not plain memory; returns false to let config answer. May be NULL. */
    bool (*config_read)(struct pci_function *f, u32 offset, u32 len, u32 *value);
};

struct pci_bus *pci_bus_new(const struct pci_bus_config *c, struct error *err); /* NULL with err */
int must_check pci_bus_add_state(struct pci_bus *b, struct state_list *l);
void pci_bus_free(struct pci_bus *b);

/* class_code: 24 bits, base class << 16 | sub-class << 8 | interface. */
void pci_function_init(struct pci_function *f, const char *name, u16 vendor, u16 device, u8 revision, u32 class_code,
                       u16 subsystem_vendor, u16 subsystem);
void pci_bar_init(struct pci_function *f, u32 n, const struct pci_bar *bar); /* a 64-bit one takes n and n + 1. PCI_ROM: at
                                                                                least 2 KiB, no flags */
/* A capability of len bytes (id and next pointer included), zeroed and read-only; returns its offset. */
u8 pci_add_capability(struct pci_function *f, u8 id, u8 len);
/* INTA#. */
void pci_use_intx(struct pci_function *f);
/* 64-bit addresses, a mask bit a vector. vectors: a power of two, at most 32. */
void pci_add_msi(struct pci_function *f, u32 vectors);
/* MSI-X with its table and PBA in a memory BAR of its own, number bar. vectors: 1 to PCI_MSIX_MAX. */
void pci_add_msix(struct pci_function *f, u32 vectors, u32 bar);

/* Plugs it in; slot PCI_SLOTS: the first free one. -EEXIST, -E2BIG, -ENOMEM. Its state joins the list (l may be NULL):
   what software can write; everything else is as the device builds it, whatever a stream says. */
int must_check pci_add(struct pci_bus *b, struct pci_function *f, u32 slot, u32 function, struct state_list *l,
                       struct error *err);
/* Before the device goes away: unmaps what is mapped. */
void pci_remove(struct pci_function *f);

/* Power-on (or hot reset) of configuration space; BARs unmapped. */
void pci_reset(struct pci_bus *b);
/* What firmware does: gives BARs addresses, interrupt lines their numbers (those of the 8259As), and switches decoding
   on. For direct kernel boot; a firmware does it itself. What finds no room stays at 0. Returns the interrupt lines it
   gave, a bit each. */
u16 pci_assign(struct pci_bus *b, const u8 line_irq[PCI_INTX_LINES]);
/* The range above 4 GiB that BARs are in, from *base, of *size; left alone where it holds them all already. */
void pci_bars64(struct pci_bus *b, u64 *base, u64 *size);
/* BARs are mapped as configuration space says; loading state does so. */
void pci_remap(struct pci_bus *b);

bool pci_msix_enabled(const struct pci_function *f);
bool pci_msi_enabled(const struct pci_function *f);
/* Bus mastering: may it reach memory? */
bool pci_bus_master(const struct pci_function *f);
void pci_set_intx(struct pci_function *f, bool level);
/* Masked, or not bus master: pends. Not enabled, or outside the table: nothing. */
void pci_msix_notify(struct pci_function *f, u32 vector);
/* The same; a vector the guest did not allocate shares those it did. */
void pci_msi_notify(struct pci_function *f, u32 vector);

static inline u16 pci_get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static inline u32 pci_get32(const u8 *p) { return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }
static inline void pci_put16(u8 *p, u16 v) { p[0] = (u8)v, p[1] = (u8)(v >> 8); }
static inline void pci_put32(u8 *p, u32 v) { pci_put16(p, (u16)v), pci_put16(p + 2, (u16)(v >> 16)); }

#endif
