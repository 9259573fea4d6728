/* SPDX-License-Identifier: Apache-2.0 */
/*
 * atapi.c - a CD-ROM drive: the PACKET command and the packets that read, move the tray, or ask how it went.  ATA8-ACS
 * 7.22, SPC-3, MMC-5.  What it answers about discs is in atapi_disc.c.
 *
 * A disc is the image as it is, one track of mode 1.  READ CD of more than the user data makes the rest up: the sync
 * pattern and header are right, EDC and ECC read as zero.
 */
#include <string.h>

#include "devices/ata_internal.h"

enum { IDENTIFY_DEVICE = 0xec, IDENTIFY_PACKET_DEVICE = 0xa1, NOP = 0x00, FLUSH_CACHE = 0xe7, SET_FEATURES = 0xef };
enum { /* packets */
    TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, INQUIRY = 0x12, MODE_SENSE_6 = 0x1a, START_STOP_UNIT = 0x1b,
    PREVENT_ALLOW = 0x1e, READ_CAPACITY = 0x25, READ_10 = 0x28, SEEK_10 = 0x2b, SYNCHRONIZE_CACHE = 0x35, READ_SUBCHANNEL = 0x42,
    READ_TOC = 0x43, READ_HEADER = 0x44, GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a, READ_DISC_INFORMATION = 0x51,
    READ_TRACK_INFORMATION = 0x52, MODE_SENSE_10 = 0x5a, READ_12 = 0xa8, READ_DVD_STRUCTURE = 0xad, READ_CD_MSF = 0xb9,
    SET_CD_SPEED = 0xbb, MECHANISM_STATUS = 0xbd, READ_CD = 0xbe,
};
enum { CD = 1, IO = 2 }; /* the interrupt reason, in the sector count register */
enum { FEATURE_DMA = 1 };

bool atapi_present(const struct ata_drive *d)
{
    return d->c.block && !d->tray_open;
}

/* ---- the PACKET command ---- */

bool atapi_command(struct ata_drive *d, u8 command)
{
    switch (command) {
    case ATA_CMD_PACKET:
        if (d->tf.feature[0] & ~(u32)(FEATURE_DMA | 4)) /* 4: the DMA direction, for bridges */
            return false;
        d->dma = d->tf.feature[0] & FEATURE_DMA;
        d->phase = ATA_PACKET;
        d->buffer_pos = 0;
        d->buffer_len = d->block_end = ATA_CDB;
        d->tf.count[0] = CD;
        d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
        ata_event(d, ATA_EVENT_DRQ_QUIET);
        return true;
    case IDENTIFY_PACKET_DEVICE:
        ata_identify_packet(d, d->buffer);
        ata_send(d, ATA_SECTOR);
        return true;
    case IDENTIFY_DEVICE: /* aborted, and the signature says why */
    case 0x20:
        ata_signature(d);
        return false;
    case ATA_CMD_DEVICE_RESET:
        ata_reset(d, false);
        return true;
    case SET_FEATURES:
        return ata_set_features(d);
    case FLUSH_CACHE:
        ata_done(d);
        return true;
    default:
        return false;
    }
}

/* The command's length of a block as the host limits it: even, but for the last. */
static u32 limit(const struct ata_drive *d)
{
    const u32 n = d->tf.lba_mid[0] | (u32)d->tf.lba_high[0] << 8;
    return n < 2 ? 0xfffe : n & 0xfffe;
}

void atapi_next_block(struct ata_drive *d, u32 len)
{
    d->tf.count[0] = IO;
    d->tf.lba_mid[0] = (u8)len;
    d->tf.lba_high[0] = (u8)(len >> 8);
}

void atapi_done(struct ata_drive *d)
{
    d->tf.count[0] = CD | IO;
    ata_done(d);
}

void atapi_fail(struct ata_drive *d, u8 key, u8 asc, u8 ascq)
{
    d->sense_key = key;
    d->asc = asc;
    d->ascq = ascq;
    d->tf.count[0] = CD | IO;
    ata_fail(d, (u8)(key << 4 | ATA_ABRT));
}

/* The answer, of which the host wants at most `most` bytes. */
static void reply(struct ata_drive *d, u32 len, u32 most)
{
    ata_send(d, MIN(len, most));
}

/* ---- reading ---- */

static u32 piece(const struct ata_drive *d, u8 bit)
{
    return d->cd_flags & bit;
}

/* MMC-5 6.19.2.6: which parts of a sector of 2352 bytes. */
enum { SYNC = 0x80, SUBHEADER = 0x40, HEADER = 0x20, USER_DATA = 0x10, EDC_ECC = 0x08, C2 = 0x06 };

static u32 sector_out(const struct ata_drive *d)
{
    return (piece(d, SYNC) ? 12 : 0) + (piece(d, HEADER) ? 4 : 0) + (piece(d, USER_DATA) ? ATA_CD_SECTOR : 0) +
           (piece(d, EDC_ECC) ? 288 : 0);
}

void atapi_msf(u32 lba, u8 *to)
{
    lba += 150;
    to[0] = (u8)(lba / 75 / 60);
    to[1] = (u8)(lba / 75 % 60);
    to[2] = (u8)(lba % 75);
}

static u8 bcd(u8 v)
{
    return (u8)(v / 10 % 10 << 4 | v % 10);
}

/* From the end of the buffer to its start: no sector reaches one that has not been moved yet. */
void atapi_sectors(struct ata_drive *d, u32 n)
{
    const u8 *from = d->buffer + ATA_BUFFER - n * ATA_CD_SECTOR;
    u32 lba = (u32)(d->sector - n);
    u8 *to = d->buffer, msf[3];

    if (d->sector_out == ATA_CD_SECTOR) /* as it is */
        return;
    for (u32 i = 0; i < n; i++, from += ATA_CD_SECTOR, lba++) {
        u8 *data = to + (piece(d, SYNC) ? 12 : 0) + (piece(d, HEADER) ? 4 : 0);
        if (piece(d, USER_DATA)) {
            memmove(data, from, ATA_CD_SECTOR);
            memset(data + ATA_CD_SECTOR, 0, piece(d, EDC_ECC) ? 288 : 0);
        } else if (piece(d, EDC_ECC)) {
            memset(data, 0, 288);
        }
        if (piece(d, SYNC)) {
            memset(to, 0xff, 12);
            to[0] = to[11] = 0;
            to += 12;
        }
        if (piece(d, HEADER)) {
            atapi_msf(lba, msf);
            to[0] = bcd(msf[0]), to[1] = bcd(msf[1]), to[2] = bcd(msf[2]), to[3] = 1;
        }
        to = data + (piece(d, USER_DATA) ? ATA_CD_SECTOR : 0) + (piece(d, EDC_ECC) ? 288 : 0);
    }
}

static void read(struct ata_drive *d, u32 lba, u32 count, u8 what)
{
    const u64 sectors = d->size / ATA_CD_SECTOR;

    if (lba >= sectors ? lba > sectors || count : count > sectors - lba)
        return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
    d->cd_flags = what;
    d->sector_out = sector_out(d);
    if (!count || !d->sector_out)
        return atapi_done(d);
    d->medium = true;
    d->sector = lba;
    d->left = count;
    ata_move(d);
}

static void read_cd(struct ata_drive *d)
{
    const u8 *c = d->cdb, type = c[1] >> 2 & 7;
    u32 lba = be32(c + 2), count = (u32)c[6] << 16 | be16(c + 7);
    u8 what = c[9];

    if (c[0] == READ_CD_MSF) {
        const u32 from = (c[3] * 60u + c[4]) * 75 + c[5], to = (c[6] * 60u + c[7]) * 75 + c[8];
        if (from < 150 || to < from)
            return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
        lba = from - 150;
        count = to - from;
    }
    /* Any type, or mode 1; no error flags, no subchannels. */
    if ((type != 0 && type != 2) || what & C2 || c[10] & 7)
        return type > 1 && type != 2 ? atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_ILLEGAL_MODE, 0)
                                     : atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
    read(d, lba, count, what & (SYNC | HEADER | USER_DATA | EDC_ECC));
}

/* ---- the drive ---- */

static void request_sense(struct ata_drive *d)
{
    u8 *b = d->buffer;

    memset(b, 0, 18);
    b[0] = 0x70;
    b[2] = d->sense_key;
    b[7] = 10;
    b[12] = d->asc;
    b[13] = d->ascq;
    if (d->unit_attention && !d->sense_key) {
        b[2] = SENSE_UNIT_ATTENTION;
        b[12] = d->media_changed ? ASC_MEDIUM_MAY_HAVE_CHANGED : ASC_POWER_ON;
        d->unit_attention = d->media_changed = false;
    }
    d->sense_key = d->asc = d->ascq = 0;
    reply(d, 18, d->cdb[4]);
}

static void inquiry(struct ata_drive *d)
{
    u8 *b = d->buffer;

    if (d->cdb[1] & 3 || d->cdb[2]) /* no vital product data */
        return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
    memset(b, 0, 36);
    b[0] = 5;    /* CD/DVD */
    b[1] = 0x80; /* removable */
    b[2] = 5;    /* SPC-3 */
    b[3] = 0x32; /* ATAPI; response format 2 */
    b[4] = 31;
    memcpy(b + 8, "LODGE   CD-ROM          1.0 ", 28);
    reply(d, 36, be16(d->cdb + 3));
}

static void start_stop(struct ata_drive *d)
{
    const bool load = d->cdb[4] & 2, start = d->cdb[4] & 1;

    if (load && !start && d->locked && !d->tray_open)
        return atapi_fail(d, d->c.block ? SENSE_ILLEGAL_REQUEST : SENSE_NOT_READY, ASC_REMOVAL_PREVENTED, 2);
    if (load && d->tray_open != !start) {
        d->tray_open = !start;
        if (start && d->c.block)
            d->unit_attention = d->media_changed = true, d->media_event = 2;
        else if (!start)
            d->media_event = 3;
    }
    atapi_done(d);
}

static void capacity(struct ata_drive *d)
{
    put_be32(d->buffer, (u32)(MIN(d->size / ATA_CD_SECTOR, BIT(32)) - 1));
    put_be32(d->buffer + 4, ATA_CD_SECTOR);
    ata_send(d, 8);
}

static void mechanism_status(struct ata_drive *d)
{
    memset(d->buffer, 0, 8);
    d->buffer[1] = d->tray_open ? 0x10 : 0;
    d->buffer[5] = 1;
    reply(d, 8, be16(d->cdb + 8));
}

/* READ SUB-CHANNEL, 6.24: of a data track, where it was read last; there are no catalogue number and no ISRC. */
static void subchannel(struct ata_drive *d)
{
    enum { POSITION = 1, CATALOGUE = 2, ISRC = 3 };
    const u8 *c = d->cdb, format = c[2] & 0x40 ? c[3] : 0;
    const u32 len = format == POSITION ? 12 : format ? 20 : 0, last = (u32)(d->size / ATA_CD_SECTOR);
    u8 *b = d->buffer;

    if ((c[2] & 0x40 && (!format || format > ISRC)) || (format == ISRC && c[6] != 1))
        return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD, 0);
    memset(b, 0, 24);
    b[1] = 0x15; /* no audio status to return */
    b[3] = (u8)len;
    b[4] = format;
    if (format == POSITION || format == ISRC)
        b[5] = 0x14, b[6] = 1; /* data, track 1 */
    if (format == POSITION) {
        const u32 lba = (u32)MIN(d->sector, last ? last - 1 : 0);
        b[7] = 1; /* index */
        if (c[1] & 2) {
            atapi_msf(lba, b + 9);
            atapi_msf(lba - 150, b + 13); /* from the track's beginning, which is at 00:02:00 */
        } else {
            put_be32(b + 8, lba);
            put_be32(b + 12, lba);
        }
    }
    reply(d, 4 + len, be16(c + 7));
}

static void header(struct ata_drive *d)
{
    const u32 lba = be32(d->cdb + 2);

    if (lba >= d->size / ATA_CD_SECTOR)
        return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE, 0);
    memset(d->buffer, 0, 8);
    d->buffer[0] = 1; /* mode 1 */
    if (d->cdb[1] & 2)
        atapi_msf(lba, d->buffer + 5);
    else
        put_be32(d->buffer + 4, lba);
    reply(d, 8, be16(d->cdb + 7));
}

/* ---- all packets ---- */

/* Commands that need no disc. */
static bool needs_disc(u8 op)
{
    switch (op) {
    case REQUEST_SENSE: case INQUIRY: case GET_CONFIGURATION: case GET_EVENT_STATUS: case MODE_SENSE_6: case MODE_SENSE_10:
    case START_STOP_UNIT: case PREVENT_ALLOW: case MECHANISM_STATUS: case SET_CD_SPEED:
        return false;
    default:
        return true;
    }
}

/* Commands that are carried out even while a unit attention is pending (MMC-5 4.1.6.1). */
static bool past_attention(u8 op)
{
    return op == REQUEST_SENSE || op == INQUIRY || op == GET_CONFIGURATION || op == GET_EVENT_STATUS;
}

static bool known(u8 op)
{
    switch (op) {
    case TEST_UNIT_READY: case READ_CAPACITY: case READ_10: case SEEK_10: case SYNCHRONIZE_CACHE: case READ_SUBCHANNEL:
    case READ_TOC: case READ_HEADER: case READ_DISC_INFORMATION: case READ_TRACK_INFORMATION: case READ_12:
    case READ_DVD_STRUCTURE: case READ_CD_MSF: case READ_CD:
        return true;
    default:
        return !needs_disc(op);
    }
}

/* An answer that may be refused, of which the host wants so much. */
static void answer(struct ata_drive *d, u32 (*make)(struct ata_drive *, u8 *), u32 most)
{
    const u32 len = make(d, d->buffer);

    if (d->sense_key)
        atapi_fail(d, d->sense_key, d->asc, d->ascq);
    else
        reply(d, len, most);
}

static void carry_out(struct ata_drive *d)
{
    const u8 *c = d->cdb;

    switch (c[0]) {
    case TEST_UNIT_READY:
    case SEEK_10:
    case SYNCHRONIZE_CACHE:
    case SET_CD_SPEED:
        return atapi_done(d);
    case REQUEST_SENSE:
        return request_sense(d);
    case INQUIRY:
        return inquiry(d);
    case START_STOP_UNIT:
        return start_stop(d);
    case PREVENT_ALLOW:
        d->locked = c[4] & 1;
        return atapi_done(d);
    case READ_CAPACITY:
        return capacity(d);
    case READ_10:
        return read(d, be32(c + 2), be16(c + 7), USER_DATA);
    case READ_12:
        return read(d, be32(c + 2), be32(c + 6), USER_DATA);
    case READ_CD:
    case READ_CD_MSF:
        return read_cd(d);
    case READ_SUBCHANNEL:
        return subchannel(d);
    case READ_HEADER:
        return header(d);
    case MECHANISM_STATUS:
        return mechanism_status(d);
    case READ_TOC:
        return answer(d, atapi_toc, be16(c + 7));
    case GET_CONFIGURATION:
        return answer(d, atapi_configuration, be16(c + 7));
    case GET_EVENT_STATUS:
        return answer(d, atapi_event_status, be16(c + 7));
    case READ_DISC_INFORMATION:
        return answer(d, atapi_disc_information, be16(c + 7));
    case READ_TRACK_INFORMATION:
        return answer(d, atapi_track_information, be16(c + 7));
    case READ_DVD_STRUCTURE:
        return answer(d, atapi_dvd_structure, be16(c + 8));
    case MODE_SENSE_6:
        return answer(d, atapi_mode_sense, c[4]);
    case MODE_SENSE_10:
        return answer(d, atapi_mode_sense, be16(c + 7));
    }
}

void atapi_packet(struct ata_drive *d)
{
    const u8 op = d->cdb[0];

    d->status = ATA_BSY;
    d->block = limit(d);
    if (op != REQUEST_SENSE)
        d->sense_key = d->asc = d->ascq = 0;
    if (!known(op))
        return atapi_fail(d, SENSE_ILLEGAL_REQUEST, ASC_INVALID_COMMAND, 0);
    if (d->unit_attention && !past_attention(op)) {
        const bool changed = d->media_changed;
        d->unit_attention = d->media_changed = false;
        return atapi_fail(d, SENSE_UNIT_ATTENTION, changed ? ASC_MEDIUM_MAY_HAVE_CHANGED : ASC_POWER_ON, 0);
    }
    if (needs_disc(op) && !atapi_present(d))
        return atapi_fail(d, SENSE_NOT_READY, ASC_MEDIUM_NOT_PRESENT, d->tray_open ? 2 : 1);
    carry_out(d);
}

void atapi_reset(struct ata_drive *d, bool hard)
{
    if (!hard)
        return;
    d->sense_key = d->asc = d->ascq = 0;
    d->unit_attention = true;
    d->media_changed = false;
    d->media_event = 0;
    d->locked = false;
}
