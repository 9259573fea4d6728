/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdc.h - the floppy disk controller with its drives.  Intel 82077AA data sheet (290166), "AT mode"; what the command set
 * leaves open, Intel 8272A data sheet (207216).
 *
 * A disk is a plain image, a track after the other and within it a head after the other, in one of the sizes that PCs had:
 * 160, 180, 320, 360, 720, 1200, 1440, 1680, 2880 KiB.  A drive's type says which of them it takes.  Nothing takes time but
 * the host's I/O.  Disks have neither other sector sizes than 512 bytes nor deleted data, and formatting writes the
 * sectors that are there already.
 *
 * Locks itself: map its ranges with no lock.  fdc_insert, fdc_eject, fdc_settle, fdc_destroy: the loop's thread (or before
 * it runs); blocks are borrowed.
 */
#ifndef LODGE_DEVICES_FDC_H
#define LODGE_DEVICES_FDC_H

#include <pthread.h>

#include "base/base.h"
#include "base/loop.h"
#include "block/block.h"
#include "devices/i8237.h"
#include "irq/irq.h"
#include "memory/bus.h"
#include "state/state.h"

enum { FDC_DRIVES = 2, FDC_DMA = 2, FDC_PORTS = 4, FDC_SECTOR = 512 };

/* The numbers are those of CMOS byte 10h. */
enum fdc_drive_type { FDC_NO_DRIVE, FDC_360K, FDC_1200K, FDC_720K, FDC_1440K, FDC_2880K };

struct fdc_config {
    struct loop *loop;
    struct i8237 *dma; /* channel 2 */
    struct irq_line irq; /* IRQ 6 */
};

struct fdc_drive {
    u8 type;            /* enum fdc_drive_type */
    struct block *disk; /* NULL: empty */
    u8 cylinders, heads, sectors; /* of the disk */
    u8 rate;            /* its data rate in this drive, as the rate registers have it */
    bool double_step;   /* a disk of 40 tracks in a drive for 80 */
    bool dirty;         /* written since it was last flushed */

    u8 track;           /* where the heads are */
    bool changed;       /* DSKCHG: a disk was put in or taken out, and the heads have not stepped over one since */
    u8 passed;          /* sectors that went by for READ ID */
};

struct fdc {
    pthread_mutex_t lock;
    struct fdc_config c;
    struct fdc_drive drive[FDC_DRIVES];

    u8 dor, tdr, rate, specify[2], config, precomp, perpendicular; /* config: as written by CONFIGURE; precomp: its PRETRK */
    bool locked, interrupt;
    u8 phase;
    u8 command[9], ncommand;
    u8 result[10], nresult, result_at;
    u8 sense, sense_st0[4]; /* drives with a status for SENSE INTERRUPT STATUS, and that */

    /* a command that moves data */
    u8 step, kind;
    u8 cylinder, head, sector, size; /* C, H, R, N */
    u8 side;             /* the head in use */
    u16 count;           /* FORMAT and READ TRACK: sectors done */
    u8 st1, st2;         /* what the result will say besides the reason for the end */
    bool tc;             /* terminal count: the host has had, or given, all */
    u16 at;              /* bytes of data[] that are through */
    u8 data[FDC_SECTOR], disk[FDC_SECTOR]; /* what host and controller exchange; what the disk has, for SCAN */

    /* its I/O; never under way when the state is saved */
    bool busy, wanted, stale; /* stale: the command it was for is gone */
    u8 io_drive;
    struct block_request rq;
    struct iovec iov;
    struct fdc_flush {
        struct fdc *fdc;
        struct block_request rq;
        bool wanted, busy;
    } flush[FDC_DRIVES];
    struct loop_kick kick;
};

/* The type of drive made for images of so many bytes; FDC_NO_DRIVE: there is none. */
enum fdc_drive_type fdc_drive_for(u64 bytes);

void fdc_init(struct fdc *f, const struct fdc_config *c);
void fdc_destroy(struct fdc *f); /* after its disks were drained (block_drain) or ejected */
void fdc_reset(struct fdc *f);   /* RESET pin; drives and disks stay */

void fdc_plug(struct fdc *f, u32 drive, enum fdc_drive_type type); /* before the machine runs */
/* A disk is put into an empty drive. -EINVAL: not of a size that this drive takes. */
int must_check fdc_insert(struct fdc *f, u32 drive, struct block *disk, struct error *err);
/* Takes the disk out, whatever the drive is doing: nothing is under way on it afterwards. The block, or NULL. */
struct block *fdc_eject(struct fdc *f, u32 drive);

/* Before the state is saved, no vCPU running: nothing is under way afterwards. */
void fdc_settle(struct fdc *f);

extern const struct bus_ops fdc_ops;     /* 4 ports (3F2h); dev: struct fdc */
extern const struct bus_ops fdc_dir_ops; /* 1 port (3F7h), DIR and CCR */
extern const struct state_desc fdc_state;

#endif
