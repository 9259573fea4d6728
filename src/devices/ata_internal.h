/* SPDX-License-Identifier: Apache-2.0 */
/* ata_internal.h - between ata.c, ata_disk.c, ata_identify.c, ata_io.c, atapi.c and atapi_disc.c only. The lock is held. */
#ifndef LODGE_DEVICES_ATA_INTERNAL_H
#define LODGE_DEVICES_ATA_INTERNAL_H

#include "devices/ata.h"

enum ata_io_op { ATA_IO_NONE, ATA_IO_READ, ATA_IO_WRITE, ATA_IO_FLUSH, ATA_IO_DISCARD };

enum { NO_QUEUE_ERROR = 0x80 };
enum { POWER_STANDBY = 0x00, POWER_IDLE = 0x80, POWER_ACTIVE = 0xff };

/* ata_io.c */
void ata_io_init(struct ata_drive *d);
void ata_io_free(struct ata_drive *d);
/* Begins it, from any thread. Ends in ata_io_ended. */
void ata_io_start(struct ata_drive *d, u32 tag, struct ata_io io);
void ata_io_run(struct ata_drive *d);  /* loop's thread: what can be begun is */
void ata_io_drain(struct ata_drive *d); /* loop's thread, lock NOT held: nothing is under way after, what was to follow waits */
void ata_io_forget(struct ata_drive *d); /* nothing is parked any more */
bool ata_io_valid(const struct ata_drive *d, const struct ata_io *io);
/* ata.c; result: 0 or -errno */
void ata_io_ended(struct ata_drive *d, struct ata_io *io, int result);
void ata_quiet(struct ata_drive *d);

/* ata.c: how a command goes on and ends */
void ata_event(struct ata_drive *d, enum ata_event e);
void ata_done(struct ata_drive *d);
void ata_fail(struct ata_drive *d, u8 error);
void ata_send(struct ata_drive *d, u32 len);    /* the first len bytes of the buffer, len <= ATA_BUFFER */
void ata_receive(struct ata_drive *d, u32 len); /* then received() of its kind */
/* sectors of the medium, d->sector and d->left, as d->write, fua, verify, dma, sector_out, block say */
void ata_move(struct ata_drive *d);
u32 ata_sector_size(const struct ata_drive *d);
void ata_signature(struct ata_drive *d);
void ata_flush(struct ata_drive *d);

/* ata_disk.c */
void ata_disk_init(struct ata_drive *d);
bool ata_disk_command(struct ata_drive *d, u8 command); /* false: there is no such command */
void ata_disk_received(struct ata_drive *d);
void ata_disk_io_ended(struct ata_drive *d); /* a flush or a range of a TRIM is done */
void ata_disk_failed(struct ata_drive *d, u64 sector, bool write);
void ata_set_address(struct ata_tf *tf, u64 sector, bool ext);
bool ata_set_features(struct ata_drive *d); /* of both kinds */
bool ata_power_command(struct ata_drive *d, u8 command); /* of both kinds; true: it was one, and is done */

/* ata_identify.c: 512 bytes each into the buffer */
void ata_identify(struct ata_drive *d, u8 *to);
void ata_identify_packet(struct ata_drive *d, u8 *to);
void ata_smart_data(struct ata_drive *d, u8 *to);
bool ata_log_page(struct ata_drive *d, u8 log, u32 page, u8 *to); /* false: none such */
void ata_checksum(u8 *to); /* of 512 bytes: the last makes their sum 0 */

/* atapi.c */
enum sense_key { SENSE_NONE = 0, SENSE_NOT_READY = 2, SENSE_MEDIUM_ERROR = 3, SENSE_ILLEGAL_REQUEST = 5, SENSE_UNIT_ATTENTION = 6 };
enum asc {
    ASC_UNRECOVERED_READ_ERROR = 0x11, ASC_INVALID_COMMAND = 0x20, ASC_LBA_OUT_OF_RANGE = 0x21, ASC_INVALID_FIELD = 0x24,
    ASC_MEDIUM_MAY_HAVE_CHANGED = 0x28, ASC_POWER_ON = 0x29, ASC_SAVING_NOT_SUPPORTED = 0x39, ASC_MEDIUM_NOT_PRESENT = 0x3a,
    ASC_REMOVAL_PREVENTED = 0x53, ASC_ILLEGAL_MODE = 0x64,
};
bool atapi_command(struct ata_drive *d, u8 command);
void atapi_packet(struct ata_drive *d);
void atapi_next_block(struct ata_drive *d, u32 len);
void atapi_done(struct ata_drive *d);
void atapi_fail(struct ata_drive *d, u8 key, u8 asc, u8 ascq);
void atapi_reset(struct ata_drive *d, bool hard);
void atapi_sectors(struct ata_drive *d, u32 n); /* n sectors lie at the buffer's end: as READ CD wants them, at its start */
bool atapi_present(const struct ata_drive *d);

/* atapi_disc.c: answers about the disc and the drive; their length, 0 with the sense set */
u32 atapi_toc(struct ata_drive *d, u8 *to);
u32 atapi_configuration(struct ata_drive *d, u8 *to);
u32 atapi_event_status(struct ata_drive *d, u8 *to);
u32 atapi_mode_sense(struct ata_drive *d, u8 *to);
u32 atapi_disc_information(struct ata_drive *d, u8 *to);
u32 atapi_track_information(struct ata_drive *d, u8 *to);
u32 atapi_dvd_structure(struct ata_drive *d, u8 *to);
void atapi_msf(u32 lba, u8 *to); /* 3 bytes, the two seconds of the lead-in added */

static inline u16 be16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static inline u32 be32(const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }
static inline void put_be16(u8 *p, u32 v) { p[0] = (u8)(v >> 8), p[1] = (u8)v; }
static inline void put_be32(u8 *p, u32 v) { put_be16(p, v >> 16), put_be16(p + 2, v); }
static inline void put_le16(u8 *p, u32 v) { p[0] = (u8)v, p[1] = (u8)(v >> 8); }

#endif
