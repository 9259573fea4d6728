/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata_disk.c - the commands of a disk (ATA8-ACS ch. 7; those that addressed cylinders, ATA/ATAPI-5 ch. 8), and those that
 * disks and CD drives share.
 */
#include <errno.h>
#include <string.h>

#include "devices/ata_internal.h"

enum { /* 48-bit forms are marked EXT */
    NOP = 0x00, DATA_SET_MANAGEMENT = 0x06, RECALIBRATE = 0x10, READ_SECTORS = 0x20, READ_SECTORS_EXT = 0x24,
    READ_DMA_EXT = 0x25, READ_NATIVE_MAX_EXT = 0x27, READ_MULTIPLE_EXT = 0x29, READ_LOG_EXT = 0x2f, WRITE_SECTORS = 0x30,
    WRITE_SECTORS_EXT = 0x34, WRITE_DMA_EXT = 0x35, WRITE_MULTIPLE_EXT = 0x39, WRITE_DMA_FUA_EXT = 0x3d, READ_VERIFY = 0x40,
    READ_VERIFY_EXT = 0x42, READ_LOG_DMA_EXT = 0x47, SEEK = 0x70, INITIALIZE_DEVICE_PARAMETERS = 0x91, SMART = 0xb0,
    READ_MULTIPLE = 0xc4, WRITE_MULTIPLE = 0xc5, SET_MULTIPLE_MODE = 0xc6, READ_DMA = 0xc8, WRITE_DMA = 0xca,
    WRITE_MULTIPLE_FUA_EXT = 0xce, STANDBY_IMMEDIATE = 0xe0, IDLE_IMMEDIATE = 0xe1, STANDBY = 0xe2, IDLE = 0xe3,
    READ_BUFFER = 0xe4, CHECK_POWER_MODE = 0xe5, SLEEP = 0xe6, FLUSH_CACHE = 0xe7, WRITE_BUFFER = 0xe8,
    FLUSH_CACHE_EXT = 0xea, IDENTIFY_DEVICE = 0xec, SET_FEATURES = 0xef, READ_NATIVE_MAX = 0xf8,
};
enum { FEATURE_TRIM = 1, TRIM_ENTRY = 8, TRIM_MAX_SECTORS = 8 };

/* ---- addresses ---- */

void ata_set_address(struct ata_tf *tf, u64 sector, bool ext)
{
    tf->lba_low[0] = (u8)sector;
    tf->lba_mid[0] = (u8)(sector >> 8);
    tf->lba_high[0] = (u8)(sector >> 16);
    if (ext) {
        tf->lba_low[1] = (u8)(sector >> 24);
        tf->lba_mid[1] = (u8)(sector >> 32);
        tf->lba_high[1] = (u8)(sector >> 40);
    } else {
        tf->device = (u8)((tf->device & 0xf0) | (sector >> 24 & 0xf));
    }
}

static u64 address48(const struct ata_tf *tf)
{
    return tf->lba_low[0] | (u64)tf->lba_mid[0] << 8 | (u64)tf->lba_high[0] << 16 | (u64)tf->lba_low[1] << 24 |
           (u64)tf->lba_mid[1] << 32 | (u64)tf->lba_high[1] << 40;
}

static bool is_ext(u8 command)
{
    switch (command) {
    case READ_SECTORS_EXT ... READ_LOG_EXT:
    case WRITE_SECTORS_EXT ... 0x3f:
    case READ_VERIFY_EXT:
    case WRITE_MULTIPLE_FUA_EXT:
        return true;
    default:
        return false;
    }
}

/* The first sector that is addressed; UINT64_MAX: none such. */
static u64 address(const struct ata_drive *d, bool ext)
{
    const struct ata_tf *tf = &d->tf;
    const u32 cylinder = tf->lba_mid[0] | (u32)tf->lba_high[0] << 8, head = tf->device & 0xf;

    if (ext)
        return address48(tf);
    if (tf->device & ATA_DEV_LBA)
        return tf->lba_low[0] | (u64)tf->lba_mid[0] << 8 | (u64)tf->lba_high[0] << 16 | (u64)head << 24;
    if (head >= d->now_heads || !tf->lba_low[0] || tf->lba_low[0] > d->now_sectors)
        return UINT64_MAX;
    return ((u64)cylinder * d->now_heads + head) * d->now_sectors + tf->lba_low[0] - 1;
}

/* Into the registers, in the form in which the command addressed. */
static void show_address(struct ata_drive *d, u64 sector, bool ext)
{
    if (ext || d->tf.device & ATA_DEV_LBA)
        return ata_set_address(&d->tf, sector, ext);
    const u64 track = sector / d->now_sectors, cylinder = track / d->now_heads;
    d->tf.lba_low[0] = (u8)(sector % d->now_sectors + 1);
    d->tf.lba_mid[0] = (u8)cylinder;
    d->tf.lba_high[0] = (u8)(cylinder >> 8);
    d->tf.device = (u8)((d->tf.device & 0xf0) | track % d->now_heads);
}

void ata_disk_failed(struct ata_drive *d, u64 sector, bool write)
{
    if (d->command == DATA_SET_MANAGEMENT || !d->medium)
        return ata_fail(d, ATA_ABRT);
    show_address(d, sector, is_ext(d->command));
    ata_fail(d, write ? ATA_ABRT : ATA_UNC);
}

static bool addressed(struct ata_drive *d, bool ext, u32 count)
{
    const u64 sector = address(d, ext), sectors = d->size / ATA_SECTOR;

    if (sector < sectors && count <= sectors - sector) {
        d->sector = sector;
        d->left = count;
        return true;
    }
    ata_fail(d, ATA_IDNF);
    return false;
}

static u32 count_of(const struct ata_drive *d, bool ext)
{
    const u32 n = d->tf.count[0] | (ext ? (u32)d->tf.count[1] << 8 : 0);
    return n ? n : ext ? 65536 : 256;
}

/* ---- reads and writes ---- */

enum { DMA = 1, WRITE = 2, MULTIPLE = 4, FUA = 8, VERIFY = 16 };

static bool move(struct ata_drive *d, u8 command, u32 how)
{
    const bool ext = is_ext(command);

    if ((how & WRITE && block_readonly(d->c.block)) || (how & MULTIPLE && !d->multiple)) {
        ata_fail(d, ATA_ABRT);
        return true;
    }
    d->power = POWER_ACTIVE;
    if (!addressed(d, ext, count_of(d, ext)))
        return true;
    d->medium = true;
    d->dma = how & DMA;
    d->write = how & WRITE;
    d->fua = how & WRITE && (how & FUA || !d->write_cache);
    d->verify = how & VERIFY;
    d->block = how & MULTIPLE ? d->multiple * ATA_SECTOR : ATA_SECTOR;
    show_address(d, d->sector + d->left - 1, ext); /* where it is when all went well */
    d->tf.count[0] = 0;
    ata_move(d);
    return true;
}

bool ata_queue(struct ata_drive *d, u8 command, u32 tag, const struct ata_tf *tf)
{
    const u64 sector = address48(tf), sectors = d->size / ATA_SECTOR;
    u32 count = tf->feature[0] | (u32)tf->feature[1] << 8;
    const bool write = command == ATA_CMD_WRITE_FPDMA;

    count = count ? count : 65536;
    if (d->c.cdrom || d->queue_error != NO_QUEUE_ERROR || d->io[tag].op || d->io[tag].under_way)
        return false;
    if (sector >= sectors || count > sectors - sector || (write && block_readonly(d->c.block))) {
        d->queue_error = (u8)tag;
        d->queue_status = ATA_DRDY | ATA_DSC | ATA_ERR;
        d->queue_error_register = write && block_readonly(d->c.block) ? ATA_ABRT : ATA_IDNF;
        d->queue_tf = *tf;
        return false;
    }
    d->power = POWER_ACTIVE;
    d->queued |= (u32)BIT(tag);
    ata_io_start(d, tag, (struct ata_io){ .op = write ? ATA_IO_WRITE : ATA_IO_READ,
                                          .fua = write && (tf->device & 0x80 || !d->write_cache),
                                          .offset = sector * ATA_SECTOR, .len = (u64)count * ATA_SECTOR });
    return true;
}

/* ---- TRIM ---- */

/* The next range that is not empty, or the end. */
static void next_range(struct ata_drive *d)
{
    for (; d->range + TRIM_ENTRY <= d->buffer_len; d->range += TRIM_ENTRY) {
        u64 entry;
        memcpy(&entry, d->buffer + d->range, sizeof entry);
        const u64 sector = entry & (BIT(48) - 1), count = entry >> 48;
        if (!count)
            continue;
        if (sector > d->size / ATA_SECTOR || count > d->size / ATA_SECTOR - sector)
            return ata_fail(d, ATA_ABRT | ATA_IDNF);
        d->range += TRIM_ENTRY;
        d->phase = ATA_IO;
        d->status = ATA_BSY;
        return ata_io_start(d, 0, (struct ata_io){ .op = ATA_IO_DISCARD, .offset = sector * ATA_SECTOR, .len = count * ATA_SECTOR });
    }
    ata_done(d);
}

void ata_disk_received(struct ata_drive *d)
{
    if (d->command == DATA_SET_MANAGEMENT)
        next_range(d);
    else /* WRITE BUFFER */
        ata_done(d);
}

void ata_disk_io_ended(struct ata_drive *d)
{
    if (d->command == DATA_SET_MANAGEMENT)
        next_range(d);
    else
        ata_done(d);
}

/* ---- modes ---- */

bool ata_set_features(struct ata_drive *d)
{
    const u8 value = d->tf.count[0];

    switch (d->tf.feature[0]) {
    case 0x02:
    case 0x82:
        if (d->c.cdrom)
            return false;
        d->write_cache = d->tf.feature[0] == 0x02;
        if (!d->write_cache) { /* what is in it nobody will flush any more */
            ata_flush(d);
            return true;
        }
        break;
    case 0x03: /* transfer mode */
        if (value == 0 || value == 1)
            d->pio_mode = 0;
        else if (value >= 0x08 && value <= 0x0c)
            d->pio_mode = value & 7;
        else if ((value >= 0x20 && value <= 0x22) || (value >= 0x40 && value <= 0x45))
            d->transfer_mode = value;
        else
            return false;
        break;
    case 0x55:
    case 0xaa:
        d->look_ahead = d->tf.feature[0] == 0xaa;
        break;
    case 0x66: /* settings stay over a soft reset: they always do */
    case 0xcc:
        break;
    default:
        return false;
    }
    ata_done(d);
    return true;
}

bool ata_power_command(struct ata_drive *d, u8 command)
{
    switch (command) {
    case 0x94: case 0x96: /* as ATA-3 numbered them */
    case STANDBY_IMMEDIATE:
    case STANDBY:
    case 0x99:
    case SLEEP:
        d->power = POWER_STANDBY;
        if (d->c.cdrom)
            break;
        ata_flush(d);
        return true;
    case 0x95: case 0x97:
    case IDLE_IMMEDIATE:
    case IDLE:
        d->power = POWER_IDLE;
        break;
    case 0x98:
    case CHECK_POWER_MODE:
        d->tf.count[0] = d->power;
        break;
    default:
        return false;
    }
    ata_done(d);
    return true;
}

static bool smart(struct ata_drive *d)
{
    enum { READ_DATA = 0xd0, READ_THRESHOLDS = 0xd1, AUTOSAVE = 0xd2, OFFLINE = 0xd4, READ_LOG = 0xd5, ENABLE = 0xd8,
           DISABLE = 0xd9, RETURN_STATUS = 0xda };
    const u8 what = d->tf.feature[0];

    if (d->tf.lba_mid[0] != 0x4f || d->tf.lba_high[0] != 0xc2 || (d->smart_off && what != ENABLE))
        return false;
    memset(d->buffer, 0, ATA_SECTOR);
    switch (what) {
    case READ_DATA:
        ata_smart_data(d, d->buffer);
        break;
    case READ_THRESHOLDS:
        d->buffer[0] = 1; /* revision */
        ata_checksum(d->buffer);
        break;
    case READ_LOG:
        if (d->tf.count[0] != 1 || !ata_log_page(d, d->tf.lba_low[0], 0, d->buffer))
            return false;
        break;
    case ENABLE:
    case DISABLE:
        d->smart_off = what == DISABLE;
        ata_done(d);
        return true;
    case AUTOSAVE:
    case OFFLINE: /* self-tests find nothing, and at once */
    case RETURN_STATUS: /* 4Fh, C2h stay: no threshold is exceeded */
        ata_done(d);
        return true;
    default:
        return false;
    }
    ata_send(d, ATA_SECTOR);
    return true;
}

/* ---- all of them ---- */

static bool read_log(struct ata_drive *d, bool dma)
{
    const u32 count = d->tf.count[0] | (u32)d->tf.count[1] << 8, page = d->tf.lba_mid[0] | (u32)d->tf.lba_mid[1] << 8;

    if (!count || count > 16)
        return false;
    memset(d->buffer, 0, count * ATA_SECTOR);
    for (u32 i = 0; i < count; i++)
        if (!ata_log_page(d, d->tf.lba_low[0], page + i, d->buffer + i * ATA_SECTOR))
            return false;
    if (d->tf.lba_low[0] == 0x10)
        d->queue_error = NO_QUEUE_ERROR;
    d->dma = dma;
    ata_send(d, count * ATA_SECTOR);
    return true;
}

bool ata_disk_command(struct ata_drive *d, u8 command)
{
    u32 n;

    switch (command) {
    case READ_SECTORS ... READ_SECTORS + 1:
    case READ_SECTORS_EXT:
        return move(d, command, 0);
    case READ_MULTIPLE:
    case READ_MULTIPLE_EXT:
        return move(d, command, MULTIPLE);
    case READ_DMA ... READ_DMA + 1:
    case READ_DMA_EXT:
        return move(d, command, DMA);
    case READ_VERIFY ... READ_VERIFY + 1:
    case READ_VERIFY_EXT:
        return move(d, command, VERIFY);
    case WRITE_SECTORS ... WRITE_SECTORS + 1:
    case WRITE_SECTORS_EXT:
        return move(d, command, WRITE);
    case WRITE_MULTIPLE:
    case WRITE_MULTIPLE_EXT:
        return move(d, command, WRITE | MULTIPLE);
    case WRITE_MULTIPLE_FUA_EXT:
        return move(d, command, WRITE | MULTIPLE | FUA);
    case WRITE_DMA ... WRITE_DMA + 1:
    case WRITE_DMA_EXT:
        return move(d, command, WRITE | DMA);
    case WRITE_DMA_FUA_EXT:
        return move(d, command, WRITE | DMA | FUA);
    case SEEK ... SEEK + 0xf:
        if (addressed(d, false, 1))
            ata_done(d);
        return true;
    case RECALIBRATE ... RECALIBRATE + 0xf:
        ata_done(d);
        return true;
    case DATA_SET_MANAGEMENT:
        n = d->tf.count[0] | (u32)d->tf.count[1] << 8;
        if (!d->c.discard || block_readonly(d->c.block) || d->tf.feature[0] != FEATURE_TRIM || !n || n > TRIM_MAX_SECTORS)
            return false;
        d->dma = true;
        ata_receive(d, n * ATA_SECTOR);
        return true;
    case READ_NATIVE_MAX:
        if (!(d->tf.device & ATA_DEV_LBA))
            return false;
        ata_set_address(&d->tf, MIN(d->size / ATA_SECTOR, BIT(28)) - 1, false);
        break;
    case READ_NATIVE_MAX_EXT:
        ata_set_address(&d->tf, d->size / ATA_SECTOR - 1, true);
        break;
    case INITIALIZE_DEVICE_PARAMETERS:
        if (!d->tf.count[0])
            return false;
        d->now_heads = (u8)((d->tf.device & 0xf) + 1);
        d->now_sectors = d->tf.count[0];
        break;
    case SET_MULTIPLE_MODE:
        n = d->tf.count[0];
        if (n > 16 || n & (n - 1))
            return false;
        d->multiple = (u8)n;
        break;
    case FLUSH_CACHE:
    case FLUSH_CACHE_EXT:
        ata_flush(d);
        return true;
    case IDENTIFY_DEVICE:
        ata_identify(d, d->buffer);
        ata_send(d, ATA_SECTOR);
        return true;
    case READ_BUFFER:
        ata_send(d, ATA_SECTOR);
        return true;
    case WRITE_BUFFER:
        ata_receive(d, ATA_SECTOR);
        return true;
    case SET_FEATURES:
        return ata_set_features(d);
    case SMART:
        return smart(d);
    case READ_LOG_EXT:
    case READ_LOG_DMA_EXT:
        return read_log(d, command == READ_LOG_DMA_EXT);
    default: /* NOP, too, is always aborted */
        return false;
    }
    ata_done(d);
    return true;
}

/* The geometry in words 1, 3 and 6: the one that a BIOS, or the system that made the partitions, would take. */
void ata_disk_init(struct ata_drive *d)
{
    const u64 total = d->size / ATA_SECTOR;

    d->heads = 16;
    d->sectors = 63;
    d->cylinders = (u16)MAX(MIN(total / (16 * 63), 16383u), 1u);
}
