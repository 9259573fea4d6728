/* SPDX-License-Identifier: Apache-2.0 */
/* ata_state.c - a drive's state: its fields, and what must hold of those that were loaded. */
#include <errno.h>

#include "devices/ata_internal.h"

static const struct state_field tf_fields[] = {
    STATE_ARRAY(struct ata_tf, feature, 1), STATE_ARRAY(struct ata_tf, count, 1),    STATE_ARRAY(struct ata_tf, lba_low, 1),
    STATE_ARRAY(struct ata_tf, lba_mid, 1), STATE_ARRAY(struct ata_tf, lba_high, 1), STATE_FIELD(struct ata_tf, device, 1),
    STATE_END,
};
static const struct state_field io_fields[] = {
    STATE_FIELD(struct ata_io, op, 1),        STATE_FIELD(struct ata_io, buffered, 1), STATE_FIELD(struct ata_io, fua, 1),
    STATE_FIELD(struct ata_io, buffer_at, 1), STATE_FIELD(struct ata_io, offset, 1),   STATE_FIELD(struct ata_io, len, 1),
    STATE_FIELD(struct ata_io, done, 1),      STATE_END,
};
static const struct state_field fields[] = {
    STATE_STRUCT(struct ata_drive, tf, 1, tf_fields),
    STATE_FIELD(struct ata_drive, status, 1),
    STATE_FIELD(struct ata_drive, error, 1),
    STATE_FIELD(struct ata_drive, command, 1),
    STATE_FIELD(struct ata_drive, phase, 1),
    STATE_FIELD(struct ata_drive, dma, 1),
    STATE_FIELD(struct ata_drive, now_heads, 1),
    STATE_FIELD(struct ata_drive, now_sectors, 1),
    STATE_FIELD(struct ata_drive, multiple, 1),
    STATE_FIELD(struct ata_drive, transfer_mode, 1),
    STATE_FIELD(struct ata_drive, pio_mode, 1),
    STATE_FIELD(struct ata_drive, power, 1),
    STATE_FIELD(struct ata_drive, write_cache, 1),
    STATE_FIELD(struct ata_drive, look_ahead, 1),
    STATE_FIELD(struct ata_drive, smart_off, 1),
    STATE_FIELD(struct ata_drive, medium, 1),
    STATE_FIELD(struct ata_drive, write, 1),
    STATE_FIELD(struct ata_drive, fua, 1),
    STATE_FIELD(struct ata_drive, verify, 1),
    STATE_FIELD(struct ata_drive, sector, 1),
    STATE_FIELD(struct ata_drive, left, 1),
    STATE_FIELD(struct ata_drive, sector_out, 1),
    STATE_FIELD(struct ata_drive, cd_flags, 1),
    STATE_FIELD(struct ata_drive, moved, 1),
    STATE_FIELD(struct ata_drive, block, 1),
    STATE_FIELD(struct ata_drive, buffer_len, 1),
    STATE_FIELD(struct ata_drive, buffer_pos, 1),
    STATE_FIELD(struct ata_drive, block_end, 1),
    STATE_FIELD(struct ata_drive, range, 1),
    STATE_FIELD(struct ata_drive, queued, 1),
    STATE_FIELD(struct ata_drive, queue_error, 1),
    STATE_STRUCT(struct ata_drive, queue_tf, 1, tf_fields),
    STATE_FIELD(struct ata_drive, queue_status, 1),
    STATE_FIELD(struct ata_drive, queue_error_register, 1),
    STATE_ARRAY(struct ata_drive, cdb, 1),
    STATE_FIELD(struct ata_drive, sense_key, 1),
    STATE_FIELD(struct ata_drive, asc, 1),
    STATE_FIELD(struct ata_drive, ascq, 1),
    STATE_FIELD(struct ata_drive, unit_attention, 1),
    STATE_FIELD(struct ata_drive, media_changed, 1),
    STATE_FIELD(struct ata_drive, media_event, 1),
    STATE_FIELD(struct ata_drive, locked, 1),
    STATE_FIELD(struct ata_drive, tray_open, 1),
    STATE_ARRAY(struct ata_drive, buffer, 1),
    STATE_STRUCTS(struct ata_drive, io, 1, io_fields),
    STATE_END,
};

static bool on_medium(const struct ata_drive *d)
{
    const u64 sectors = d->size / ata_sector_size(d);
    return d->sector <= sectors && d->left <= sectors - d->sector;
}

/* Checks only what this code relies on: registers without meaning harm nobody but the guest. */
static bool consistent(const struct ata_drive *d)
{
    const bool blocks = d->phase >= ATA_PACKET && d->phase <= ATA_PIO_OUT;

    if (d->phase > ATA_IO || d->buffer_len > ATA_BUFFER || d->block_end > d->buffer_len ||
        d->buffer_pos > (blocks ? d->block_end : d->buffer_len) || !d->now_heads || !d->now_sectors || d->multiple > 16 ||
        d->sector_out > 2352 + 4 || d->range > ATA_BUFFER || d->moved > BIT(32) ||
        (d->phase == ATA_PACKET && (!d->c.cdrom || d->block_end != ATA_CDB)))
        return false;
    if (d->phase >= ATA_PIO_IN && d->phase <= ATA_PIO_OUT && (d->block_end == d->buffer_pos || !d->block))
        return false;
    if (d->medium && d->phase != ATA_IDLE &&
        (!on_medium(d) || (d->c.cdrom && d->write) || (!d->c.cdrom && d->sector_out != ATA_SECTOR) || (d->write && d->verify)))
        return false;
    if (d->medium && d->write && !d->dma && d->phase != ATA_IDLE &&
        (d->buffer_len % ATA_SECTOR || !d->buffer_len || d->buffer_len / ATA_SECTOR > d->left))
        return false;
    if (d->medium && d->write && d->dma && d->phase != ATA_IDLE && d->phase != ATA_IO)
        return false;
    for (u32 i = 0; i < ATA_TAGS; i++) {
        const struct ata_io *io = &d->io[i];
        const bool queued = d->queued & BIT(i);
        if (!ata_io_valid(d, io) || (queued && (!d->host->queued_done || !io->op || io->buffered || io->op == ATA_IO_DISCARD)) ||
            (io->op && !queued && (i || d->phase != ATA_IO)))
            return false;
    }
    return true;
}

static int loaded(void *obj, struct error *err)
{
    struct ata_drive *d = obj;

    d->busy = d->parked = d->retrying = 0;
    d->resetting = d->stopped = false;
    d->frozen = true;
    for (u32 i = 0; i < ATA_TAGS; i++)
        d->io[i].parked = d->io[i].retried = false;
    if (d->c.cdrom && d->medium && d->phase != ATA_IDLE && (!on_medium(d) || !ata_io_valid(d, &d->io[0]))) {
        d->io[0].op = ATA_IO_NONE; /* another disc than it had */
        d->phase = ATA_IDLE;
        d->disc_gone = true;
    }
    if (consistent(d))
        return 0;
    d->phase = ATA_IDLE;
    d->queued = 0;
    for (u32 i = 0; i < ATA_TAGS; i++)
        d->io[i].op = ATA_IO_NONE;
    return error_set(err, EINVAL, "the saved state does not fit this %s drive", d->c.cdrom ? "CD" : "disk");
}

const struct state_desc ata_state = { "ata", 1, fields, .post_load = loaded };
