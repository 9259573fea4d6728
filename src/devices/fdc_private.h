/* SPDX-License-Identifier: Apache-2.0 */
/* fdc_private.h - between fdc.c (registers, commands that move no data), fdc_transfer.c (those that do) and fdc_drive.c. */
#ifndef LODGE_DEVICES_FDC_PRIVATE_H
#define LODGE_DEVICES_FDC_PRIVATE_H

#include "devices/fdc.h"

enum phase { PHASE_COMMAND, PHASE_EXECUTION, PHASE_RESULT };
enum { /* commands, without their flags */
    READ_TRACK = 0x02, SPECIFY, SENSE_DRIVE, WRITE_DATA, READ_DATA, RECALIBRATE, SENSE_INTERRUPT, WRITE_DELETED, READ_ID,
    READ_DELETED = 0x0c, FORMAT_TRACK, DUMPREG, SEEK, VERSION, SCAN_EQUAL, PERPENDICULAR, CONFIGURE, LOCK,
    VERIFY = 0x16, SCAN_LOW = 0x19, SCAN_HIGH = 0x1d,
};
enum { CMD_MT = 0x80, CMD_MFM = 0x40, CMD_SK = 0x20 };
enum { ST0_ABNORMAL = 0x40, ST0_INVALID = 0x80, ST0_POLLED = 0xc0, ST0_SE = 0x20, ST0_EC = 0x10, ST0_HEAD = 4 };
enum { ST1_EN = 0x80, ST1_DE = 0x20, ST1_ND = 0x04, ST1_NW = 0x02, ST1_MA = 0x01 };
enum { ST2_CM = 0x40, ST2_DD = 0x20, ST2_WC = 0x10, ST2_SH = 0x08, ST2_SN = 0x04, ST2_BC = 0x02 };
enum { CONFIG_EIS = 0x40, CONFIG_EFIFO = 0x20, CONFIG_POLL = 0x10 };
enum { DOR_SELECT = 3, DOR_RESET = 4, DOR_DMA = 8, DOR_MOTOR = 0x10 };

/* fdc.c; all with the lock held */
void fdc_interrupt(struct fdc *f, bool on);
void fdc_seek(struct fdc *f, struct fdc_drive *d, u8 track);
/* The result phase, with an interrupt: status and what C, H, R and N have become. */
void fdc_finish(struct fdc *f, u8 st0, u8 st1, u8 st2);

/* fdc_transfer.c */
void fdc_transfer_start(struct fdc *f); /* command[] is complete */
bool fdc_transfer_wants(const struct fdc *f, bool *to_host); /* by port: is a byte to be read (*to_host) or written now? */
u8 fdc_transfer_read(struct fdc *f);
void fdc_transfer_write(struct fdc *f, u8 v);
void fdc_transfer_run(struct fdc *f);   /* goes on as far as it can */
void fdc_transfer_abort(struct fdc *f); /* the command ends without a result */
void fdc_transfer_gone(struct fdc *f, u32 drive); /* its disk has been taken out */
bool fdc_transfer_valid(const struct fdc *f);
void fdc_transfer_init(struct fdc *f);
void fdc_flush(struct fdc *f, u32 drive); /* soon */

/* fdc_drive.c: drive 0 to 3 as selected; NULL: there is none. */
struct fdc_drive *fdc_drive(struct fdc *f, u8 select);
/* Is there a track that can be read under the heads, with the rate and the encoding as they are? */
bool fdc_drive_readable(const struct fdc *f, const struct fdc_drive *d, u8 side, bool mfm);
u8 fdc_drive_cylinder(const struct fdc_drive *d); /* the number that its sectors' IDs have */

#endif
