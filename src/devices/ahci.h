/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahci.h - a SATA host bus adapter as the ICH9 has it (8086:2922), six ports.  Serial ATA AHCI 1.3.1, whose register names
 * are used; Serial ATA 2.6 for frames (FIS); Intel 316972 for configuration space.  AHCI only (CAP.SAM), with command
 * queuing; no port multipliers, hot plug or power states.  Only ports with a drive are implemented (PI).
 *
 * Locks itself, one lock for all.  Threads: ahci_init, _plug, _destroy, _reset, _settle, _resume: the loop's, while no vCPU
 * runs.
 */
#ifndef LODGE_DEVICES_AHCI_H
#define LODGE_DEVICES_AHCI_H

#include "devices/ata.h"
#include "pci/pci.h"

enum { AHCI_PORTS = 6, AHCI_NO_SLOT = 0xff };

struct ahci;

struct ahci_port {
    struct ahci *hba;
    struct ata_drive *drive; /* NULL: nobody is there */
    /* registers */
    u64 clb, fb;
    u32 is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
    u8 slot;        /* whose command is being carried out, not counting queued ones; AHCI_NO_SLOT */
    u8 next;        /* slot to look at first */
    bool halted;    /* after an error, until ST is cleared */
    bool signature; /* the frame waits for FRE */
    bool srst;      /* the last control frame said SRST */
    u32 moved;      /* bytes of the command's data by PIO */
};

struct ahci {
    struct pci_function f;
    pthread_mutex_t lock;
    u32 ghc, is; /* GHC: IE, HR */
    struct ahci_port port[AHCI_PORTS];
    struct state_list *state;
};

/* In the first free slot. */
int must_check ahci_init(struct ahci *a, struct pci_bus *bus, struct state_list *l, struct error *err);
int must_check ahci_plug(struct ahci *a, u32 port, const struct ata_drive_config *c, struct error *err);
struct ata_drive *ahci_drive(struct ahci *a, u32 port); /* or NULL */
void ahci_destroy(struct ahci *a);
void ahci_reset(struct ahci *a);
void ahci_settle(struct ahci *a);
void ahci_resume(struct ahci *a);

#endif
