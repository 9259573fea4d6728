/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ide.h - the IDE function of the 82371SB (PIIX3): two channels of two drives at the ports PCs always had them, and bus
 * master DMA.  Intel 290550 ch. 2.3 and 3.7; ATA/ATAPI-6 ch. 6, 9; Programming Interface for Bus Master IDE 1.0.
 *
 * Locks itself, a lock a channel: map its ranges with none.  Decoding of a channel is switched by IDETIM, as on the
 * chip, but on at power-on: OVMF relies on that.
 * Threads: ide_init, _plug, _destroy, _reset, _settle, _resume: the loop's, while no vCPU runs.
 */
#ifndef LODGE_DEVICES_IDE_H
#define LODGE_DEVICES_IDE_H

#include "devices/ata.h"
#include "irq/irq.h"
#include "pci/pci.h"

enum { IDE_CHANNELS = 2, IDE_DRIVES = 4, IDE_PORTS = 8 };

struct ide;

struct ide_channel {
    pthread_mutex_t lock;
    struct ide *ide;
    struct irq_line irq;
    struct ata_drive *drive[2];
    u8 device, control;  /* as last written */
    bool intrq[2];
    bool level;          /* of the line; not saved */
    u8 bm_command, bm_status;
    u32 bm_table;        /* BMIDTP */
    u64 bm_base;         /* bytes of the command's data before those that the table is for */
    bool bm_eot;         /* the table is used up */
};

struct ide {
    struct pci_function f;
    struct ide_channel channel[IDE_CHANNELS];
    struct state_list *state;
};

/* irq: 14 and 15. */
int must_check ide_init(struct ide *x, const struct irq_line irq[IDE_CHANNELS], struct pci_bus *bus, u32 slot, u32 function,
                        struct state_list *l, struct error *err);
/* place: 0, 1 the first channel's, 2, 3 the second's. */
int must_check ide_plug(struct ide *x, u32 place, const struct ata_drive_config *c, struct error *err);
struct ata_drive *ide_drive(struct ide *x, u32 place); /* or NULL */
void ide_destroy(struct ide *x);
void ide_reset(struct ide *x); /* the drives; configuration space is the bus's */
void ide_settle(struct ide *x);
void ide_resume(struct ide *x);

extern const struct bus_ops ide_ops;         /* IDE_PORTS ports, dev: struct ide_channel */
extern const struct bus_ops ide_control_ops; /* 1 port: 3F6h, 376h */

#endif
