/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata.c - see ata.h.  How a command's data moves, whatever the command is, and the drive's life.
 *
 * Data of the buffer alone (IDENTIFY, what a packet asks for, the ranges of a TRIM) is sent or received as it lies there.
 * Data of the medium goes by DMA straight between guest memory and the image; by blocks, or where the host gets something
 * else than the medium has (READ CD), through the buffer, a bufferful at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/ata_internal.h"

u32 ata_sector_size(const struct ata_drive *d)
{
    return d->c.cdrom ? ATA_CD_SECTOR : ATA_SECTOR;
}

void ata_event(struct ata_drive *d, enum ata_event e)
{
    d->host->event(d->host_ctx, d, e);
}

void ata_done(struct ata_drive *d)
{
    d->phase = ATA_IDLE;
    d->status = ATA_DRDY | ATA_DSC;
    ata_event(d, ATA_EVENT_DONE);
}

void ata_fail(struct ata_drive *d, u8 error)
{
    d->phase = ATA_IDLE;
    d->status = ATA_DRDY | ATA_DSC | ATA_ERR;
    d->error = error;
    ata_event(d, ATA_EVENT_DONE);
}

static void done(struct ata_drive *d)
{
    if (d->c.cdrom && d->command == ATA_CMD_PACKET)
        atapi_done(d);
    else
        ata_done(d);
}

/* ---- the buffer and the host ---- */

static void next_block(struct ata_drive *d, bool quiet)
{
    const u32 n = MIN(d->block, d->buffer_len - d->buffer_pos);

    d->block_end = d->buffer_pos + n;
    d->status = ATA_DRDY | ATA_DSC | ATA_DRQ;
    if (d->c.cdrom && d->command == ATA_CMD_PACKET)
        atapi_next_block(d, n);
    ata_event(d, quiet ? ATA_EVENT_DRQ_QUIET : ATA_EVENT_DRQ);
}

static void received(struct ata_drive *d);

/* All of the buffer by DMA. */
static void copy(struct ata_drive *d)
{
    struct ata_sg *sg = &d->io[0].sg;

    while (d->buffer_pos < d->buffer_len) {
        sg->n = 0;
        sg->len = 0;
        const int rc = d->host->map(d->host_ctx, d, 0, d->moved, d->buffer_len - d->buffer_pos, !d->write, sg);
        if (rc || !sg->len) {
            d->phase = ATA_IDLE;
            d->status = ATA_DRDY | ATA_DSC;
            ata_event(d, rc ? ATA_EVENT_BUS_ERROR : ATA_EVENT_STALLED);
            if (rc)
                ata_fail(d, ATA_ABRT);
            return;
        }
        for (u32 i = 0; i < sg->n && d->buffer_pos < d->buffer_len; i++) {
            const u32 n = (u32)MIN(sg->iov[i].iov_len, d->buffer_len - d->buffer_pos);
            if (d->write) {
                memcpy(d->buffer + d->buffer_pos, sg->iov[i].iov_base, n);
            } else {
                memcpy(sg->iov[i].iov_base, d->buffer + d->buffer_pos, n);
                memory_place_written(d->c.memory, sg->place[i], n);
            }
            d->buffer_pos += n;
            d->moved += n;
        }
    }
    if (d->write)
        received(d);
    else if (d->medium && d->left)
        ata_move(d);
    else
        done(d);
}

void ata_dma_start(struct ata_drive *d)
{
    if (d->phase == ATA_DMA && d->host->dma_ready(d->host_ctx, d))
        copy(d);
    else if (d->phase == ATA_IO)
        loop_kick(&d->kick);
}

/* buffer_len bytes go to the host (ATA_PIO_IN) or come from it (ATA_PIO_OUT), by DMA or in blocks. */
static void begin(struct ata_drive *d, enum ata_phase pio, bool quiet)
{
    d->buffer_pos = d->block_end = 0;
    if (d->dma) {
        d->phase = ATA_DMA;
        d->status = ATA_BSY;
        ata_dma_start(d);
    } else {
        d->phase = pio;
        next_block(d, quiet);
    }
}

static void give(struct ata_drive *d)
{
    begin(d, ATA_PIO_IN, false);
}

void ata_send(struct ata_drive *d, u32 len)
{
    d->medium = d->write = false;
    d->buffer_len = len;
    d->buffer_pos = d->block_end = 0;
    d->moved = 0;
    if (len)
        give(d);
    else
        done(d);
}

static void take(struct ata_drive *d, bool quiet)
{
    begin(d, ATA_PIO_OUT, quiet);
}

void ata_receive(struct ata_drive *d, u32 len)
{
    d->medium = false;
    d->write = true;
    d->buffer_len = len;
    d->moved = 0;
    take(d, true);
}

u8 *ata_block(struct ata_drive *d, u32 *len)
{
    *len = d->block_end - d->buffer_pos;
    return d->buffer + d->buffer_pos;
}

void ata_block_done(struct ata_drive *d)
{
    d->buffer_pos = d->block_end;
    switch (d->phase) {
    case ATA_PACKET:
        memcpy(d->cdb, d->buffer, sizeof d->cdb);
        atapi_packet(d);
        break;
    case ATA_PIO_IN:
        if (d->buffer_pos < d->buffer_len) {
            next_block(d, false);
        } else if (d->medium && d->left) {
            ata_move(d);
        } else if (d->c.cdrom && d->command == ATA_CMD_PACKET) {
            done(d);
        } else {
            d->phase = ATA_IDLE;
            d->status = ATA_DRDY | ATA_DSC;
            ata_event(d, ATA_EVENT_DONE_QUIET);
        }
        break;
    case ATA_PIO_OUT:
        if (d->buffer_pos < d->buffer_len)
            next_block(d, false);
        else
            received(d);
        break;
    default:
        break;
    }
}

u32 ata_data_read(struct ata_drive *d, unsigned size)
{
    u32 v = 0;

    if (d->phase != ATA_PIO_IN)
        return 0;
    for (unsigned i = 0; i < size && d->buffer_pos < d->block_end; i++)
        v |= (u32)d->buffer[d->buffer_pos++] << i * 8;
    if (d->buffer_pos == d->block_end)
        ata_block_done(d);
    return v;
}

void ata_data_write(struct ata_drive *d, u32 value, unsigned size)
{
    if (d->phase != ATA_PIO_OUT && d->phase != ATA_PACKET)
        return;
    for (unsigned i = 0; i < size && d->buffer_pos < d->block_end; i++)
        d->buffer[d->buffer_pos++] = (u8)(value >> i * 8);
    if (d->buffer_pos == d->block_end)
        ata_block_done(d);
}

/* ---- the medium ---- */

static bool straight(const struct ata_drive *d)
{
    return d->dma && d->sector_out == ata_sector_size(d) && !d->verify;
}

/* Sectors that fit the buffer. */
static u32 bufferful(const struct ata_drive *d)
{
    return MIN(d->left, ATA_BUFFER / MAX(MAX(d->sector_out, ata_sector_size(d)), 1u));
}

void ata_move(struct ata_drive *d)
{
    const u32 size = ata_sector_size(d), n = straight(d) ? d->left : bufferful(d);
    struct ata_io io = { .op = d->write ? ATA_IO_WRITE : ATA_IO_READ, .buffered = !straight(d), .fua = d->fua,
                         .offset = d->sector * size, .len = (u64)n * size };

    d->medium = true;
    if (!straight(d) && d->write && d->phase != ATA_PIO_OUT) { /* first the host's */
        d->buffer_len = n * size;
        return take(d, true);
    }
    if (!straight(d) && d->write)
        io.len = d->buffer_len;
    if (io.buffered && d->sector_out != size)
        io.buffer_at = ATA_BUFFER - n * size;
    d->phase = ATA_IO;
    d->status = ATA_BSY;
    ata_io_start(d, 0, io);
}

static void received(struct ata_drive *d)
{
    if (d->medium)
        ata_move(d);
    else if (d->c.cdrom)
        done(d); /* of packets, there is none yet that takes data */
    else
        ata_disk_received(d);
}

static void moved(struct ata_drive *d, u64 bytes)
{
    const u32 most = straight(d) ? d->left : bufferful(d), n = (u32)MIN(bytes / ata_sector_size(d), most);

    d->sector += n;
    d->left -= n;
    if (straight(d))
        return done(d);
    if (d->verify)
        return d->left ? ata_move(d) : done(d);
    if (d->write) {
        if (!d->left)
            return done(d);
        d->buffer_len = bufferful(d) * ATA_SECTOR;
        return take(d, false);
    }
    if (d->c.cdrom)
        atapi_sectors(d, n);
    d->buffer_len = n * d->sector_out;
    give(d);
}

static void failed(struct ata_drive *d, const struct ata_io *io, int result)
{
    const u64 sector = (io->offset + io->done) / ata_sector_size(d);

    if (result == -ENOBUFS) {
        d->phase = ATA_IDLE;
        d->status = ATA_DRDY | ATA_DSC;
        return ata_event(d, ATA_EVENT_STALLED);
    }
    if (result == -EFAULT) {
        ata_event(d, ATA_EVENT_BUS_ERROR);
        return ata_fail(d, ATA_ABRT);
    }
    if (!d->c.cdrom)
        return ata_disk_failed(d, sector, d->write);
    if (result == -ENOMEDIUM)
        return atapi_fail(d, SENSE_NOT_READY, ASC_MEDIUM_NOT_PRESENT, 0);
    atapi_fail(d, SENSE_MEDIUM_ERROR, ASC_UNRECOVERED_READ_ERROR, 0);
}

void ata_io_ended(struct ata_drive *d, struct ata_io *io, int result)
{
    const u32 tag = (u32)(io - d->io);

    if (d->queued & BIT(tag)) {
        d->queued &= ~(u32)BIT(tag);
        if (result && d->queue_error == NO_QUEUE_ERROR) {
            d->queue_error = (u8)tag;
            d->queue_status = ATA_DRDY | ATA_DSC | ATA_ERR;
            d->queue_error_register = result == -EIO && !io->fua ? ATA_UNC : ATA_ABRT;
            d->queue_tf = (struct ata_tf){ .device = ATA_DEV_LBA };
            ata_set_address(&d->queue_tf, (io->offset + io->done) / ATA_SECTOR, true);
        }
        if (result == -EFAULT)
            ata_event(d, ATA_EVENT_BUS_ERROR);
        d->host->queued_done(d->host_ctx, d, tag, !result);
        return;
    }
    if (d->phase != ATA_IO)
        return;
    if (result)
        failed(d, io, result);
    else if (d->medium)
        moved(d, io->len);
    else
        ata_disk_io_ended(d);
}

/* ---- commands ---- */

void ata_command(struct ata_drive *d, u8 command)
{
    d->command = command;
    d->status = ATA_BSY;
    d->error = 0;
    d->dma = d->medium = d->write = d->fua = d->verify = false;
    d->sector_out = ata_sector_size(d);
    d->block = ATA_SECTOR;
    d->left = d->range = 0;
    d->moved = d->io[0].done = 0;
    if (command == ATA_CMD_EXECUTE_DEVICE_DIAGNOSTIC) {
        ata_signature(d);
        d->status = d->c.cdrom ? 0 : ATA_DRDY | ATA_DSC;
        return ata_event(d, ATA_EVENT_DONE);
    }
    if (ata_power_command(d, command))
        return;
    if (!(d->c.cdrom ? atapi_command(d, command) : ata_disk_command(d, command)))
        ata_fail(d, ATA_ABRT);
}

void ata_flush(struct ata_drive *d)
{
    d->medium = false;
    d->phase = ATA_IO;
    d->status = ATA_BSY;
    ata_io_start(d, 0, (struct ata_io){ .op = ATA_IO_FLUSH });
}

/* ---- reset ---- */

/* ATA8-ACS, "Reset signature". */
void ata_signature(struct ata_drive *d)
{
    d->tf = (struct ata_tf){ .count = { 1 }, .lba_low = { 1 }, .lba_mid = { d->c.cdrom ? 0x14 : 0 },
                             .lba_high = { d->c.cdrom ? 0xeb : 0 } };
    d->error = 1; /* passed, no device 1 or it passed */
}

static void reset_modes(struct ata_drive *d)
{
    d->now_heads = d->heads;
    d->now_sectors = d->sectors;
    d->multiple = 16;
    d->transfer_mode = d->c.cdrom ? 0x22 : 0x45;
    d->pio_mode = 4;
    d->write_cache = d->look_ahead = true;
    d->power = POWER_ACTIVE;
}

void ata_quiet(struct ata_drive *d)
{
    if (d->resetting) {
        d->resetting = false;
        d->phase = ATA_IDLE;
        ata_signature(d);
        d->status = d->c.cdrom ? 0 : ATA_DRDY | ATA_DSC;
        ata_event(d, ATA_EVENT_RESET);
    }
    ata_event(d, ATA_EVENT_QUIET);
}

bool ata_abort(struct ata_drive *d)
{
    ata_io_forget(d);
    d->phase = ATA_IDLE;
    d->queued = 0;
    return !d->busy;
}

void ata_reset(struct ata_drive *d, bool hard)
{
    if (hard)
        reset_modes(d);
    d->queue_error = NO_QUEUE_ERROR;
    d->status = ATA_BSY;
    d->resetting = true;
    if (d->c.cdrom)
        atapi_reset(d, hard);
    if (ata_abort(d))
        ata_quiet(d);
}

void ata_power_on(struct ata_drive *d)
{
    ata_io_drain(d);
    pthread_mutex_lock(d->lock);
    d->frozen = false;
    d->smart_off = d->tray_open = d->locked = false;
    ata_reset(d, true);
    pthread_mutex_unlock(d->lock);
}

/* ---- life ---- */

static void medium_size(struct ata_drive *d)
{
    d->size = d->c.block ? align_down(block_size(d->c.block), ata_sector_size(d)) : 0;
}

struct ata_drive *ata_new(const struct ata_drive_config *c, const struct ata_host_ops *host, void *host_ctx,
                          pthread_mutex_t *lock, struct error *err)
{
    struct ata_drive *d;

    if (c->serial && strlen(c->serial) > ATA_SERIAL) {
        error_set(err, EINVAL, "a drive's serial number has at most %d bytes: %s", ATA_SERIAL, c->serial);
        return NULL;
    }
    if (!(d = calloc(1, sizeof *d))) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    d->c = *c;
    d->host = host;
    d->host_ctx = host_ctx;
    d->lock = lock;
    if (c->serial)
        strcpy(d->serial, c->serial);
    medium_size(d);
    ata_io_init(d);
    ata_disk_init(d);
    reset_modes(d);
    d->queue_error = NO_QUEUE_ERROR;
    return d;
}

void ata_free(struct ata_drive *d)
{
    if (d)
        ata_io_free(d);
    free(d);
}

void ata_settle(struct ata_drive *d)
{
    ata_io_drain(d);
}

void ata_resume(struct ata_drive *d)
{
    pthread_mutex_lock(d->lock);
    d->frozen = false;
    if (d->disc_gone)
        atapi_fail(d, SENSE_NOT_READY, ASC_MEDIUM_NOT_PRESENT, 0);
    d->disc_gone = false;
    ata_io_run(d);
    if (d->host->run)
        d->host->run(d->host_ctx, d);
    pthread_mutex_unlock(d->lock);
}

int ata_change_medium(struct ata_drive *d, struct block *b, bool force, struct error *err)
{
    pthread_mutex_lock(d->lock);
    const bool locked = d->locked && !d->tray_open;
    if (locked)
        d->media_event = 1; /* EjectRequest */
    pthread_mutex_unlock(d->lock);
    if (locked && !force)
        return error_set(err, EBUSY, "the guest has locked its CD drive, and was told that somebody wants it open; try again "
                         "when it has let go, or force it");
    ata_io_drain(d); /* what is under way ends with the old disc */
    pthread_mutex_lock(d->lock);
    d->c.block = b;
    medium_size(d);
    d->tray_open = d->locked = false;
    d->unit_attention = d->media_changed = b != NULL;
    d->media_event = b ? 2 : 3; /* NewMedia, MediaRemoval */
    if (d->phase != ATA_IDLE && d->medium) { /* no byte of the new disc goes to a command for the old one */
        ata_io_forget(d);
        atapi_fail(d, SENSE_NOT_READY, ASC_MEDIUM_NOT_PRESENT, 0);
    }
    pthread_mutex_unlock(d->lock);
    ata_resume(d);
    return 0;
}
