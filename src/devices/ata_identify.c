/* SPDX-License-Identifier: Apache-2.0 */
/* ata_identify.c - what a drive says of itself: IDENTIFY (PACKET) DEVICE, SMART, logs. ATA8-ACS 7.16, 7.17, 7.53, annex A. */
#include <stdio.h>
#include <string.h>

#include "devices/ata_internal.h"

enum { WORDS = 256, SERIAL_WORD = 10, FIRMWARE_WORD = 23, MODEL_WORD = 27 };

static void put_text(u8 *to, u32 word, u32 words, const char *text)
{
    u8 *p = to + word * 2;
    const u32 len = (u32)strlen(text);

    for (u32 i = 0; i < words * 2; i++)
        p[i ^ 1] = i < len ? (u8)text[i] : ' ';
}

static void put(u8 *to, u32 word, u32 v)
{
    put_le16(to + word * 2, v);
}

static void put32(u8 *to, u32 word, u64 v)
{
    put(to, word, (u32)v);
    put(to, word + 1, (u32)(v >> 16));
}

void ata_checksum(u8 *to)
{
    u8 sum = 0;

    for (u32 i = 0; i < ATA_SECTOR - 1; i++)
        sum += to[i];
    to[ATA_SECTOR - 1] = (u8)-sum;
}

static void both(const struct ata_drive *d, u8 *to, const char *model)
{
    const u8 mode = d->transfer_mode;

    memset(to, 0, ATA_SECTOR);
    put_text(to, SERIAL_WORD, 10, d->serial);
    put_text(to, FIRMWARE_WORD, 4, "1.0");
    put_text(to, MODEL_WORD, 20, model);
    put(to, 50, 0x4000);
    put(to, 51, 0x0200);
    put(to, 53, 7); /* 54-58, 64-70, 88 are valid */
    put(to, 63, 7 | (mode >= 0x20 && mode <= 0x22 ? 0x100u << (mode & 7) : 0));
    put(to, 64, 3); /* PIO 3 and 4 */
    for (u32 i = 65; i < 69; i++)
        put(to, i, 120);
    put(to, 80, 0x1f0); /* ATA/ATAPI-4 to -8 */
    put(to, 88, 0x3f | (mode >= 0x40 ? 0x100u << (mode & 7) : 0));
    put(to, 93, 0x6001 | (d->tf.device & ATA_DEV ? 0x0a00 : 0x000a)); /* a cable of 80 wires */
}

static void signature_byte(u8 *to)
{
    to[510] = 0xa5;
    ata_checksum(to);
}

void ata_identify(struct ata_drive *d, u8 *to)
{
    const u64 total = d->size / ATA_SECTOR;
    const u32 now = MIN((u32)MIN(total, BIT(28)) / (d->now_heads * d->now_sectors), 65535u);
    const u32 best = MAX(block_alignment(d->c.block), (u32)BLOCK_SECTOR), physical = MIN(best, 4096u);
    u64 wwn = 0xcbf29ce484222325;

    both(d, to, "LODGE HARDDISK");
    for (const char *p = d->serial; *p; p++)
        wwn = (wwn ^ (u8)*p) * 0x100000001b3;
    put(to, 0, 0x0040);
    put(to, 1, d->cylinders);
    put(to, 3, d->heads);
    put(to, 6, d->sectors);
    put(to, 47, 0x8010);
    put(to, 49, 0x0b00); /* IORDY, LBA, DMA */
    put(to, 54, now);
    put(to, 55, d->now_heads);
    put(to, 56, d->now_sectors);
    put32(to, 57, (u64)now * d->now_heads * d->now_sectors);
    put(to, 59, d->multiple ? 0x100u | d->multiple : 0);
    put32(to, 60, MIN(total, BIT(28) - 1));
    if (d->host->queued_done) {
        put(to, 75, ATA_TAGS - 1);
        put(to, 76, 0x0106); /* queuing; 1.5 and 3 Gbit/s */
        put(to, 93, 0);
        put(to, 222, 0x1010 | 0x20);
    }
    put(to, 82, 0x7069); /* NOP, buffers, look-ahead, write cache, power, SMART */
    put(to, 83, 0x7400); /* FLUSH CACHE (EXT), 48-bit addresses */
    put(to, 84, 0x4160 | 0x0003); /* name, FUA, logs, SMART's logs and self-test */
    put(to, 85, 0x7008 | !d->smart_off | (d->write_cache ? 0x20 : 0) | (d->look_ahead ? 0x40 : 0));
    put(to, 86, 0x3400);
    put(to, 87, 0x4160 | 0x0003);
    put32(to, 100, MIN(total, BIT(48) - 1));
    put(to, 102, (u32)(total >> 32));
    put(to, 106, 0x6000 | (u32)__builtin_ctz(physical / BLOCK_SECTOR));
    put(to, 108, 0x5000 | (u32)(wwn >> 52)); /* NAA 5 */
    put(to, 109, (u32)(wwn >> 32));
    put(to, 110, (u32)(wwn >> 16));
    put(to, 111, (u32)wwn);
    put(to, 119, 0x4000);
    put(to, 120, 0x4000);
    if (d->c.discard && !block_readonly(d->c.block)) {
        put(to, 105, 8);
        put(to, 169, 1);
    }
    put(to, 217, 1); /* nothing rotates */
    signature_byte(to);
}

void ata_identify_packet(struct ata_drive *d, u8 *to)
{
    both(d, to, "LODGE CD-ROM");
    put(to, 0, 0x85c0); /* CD-ROM, removable, packets of 12 bytes, DRQ within 50 us */
    put(to, 49, 0x0b00);
    put(to, 82, 0x4218); /* NOP, DEVICE RESET, PACKET, power */
    put(to, 83, 0x4000);
    put(to, 84, 0x4000);
    put(to, 85, 0x4218);
    put(to, 87, 0x4000);
    if (d->host->queued_done) { /* SATA */
        put(to, 76, 0x0006);
        put(to, 93, 0);
        put(to, 222, 0x1010 | 0x20);
    }
    signature_byte(to);
}

void ata_smart_data(struct ata_drive *d, u8 *to)
{
    to[0] = 1; /* revision */
    to[364] = 0; /* offline: never begun */
    to[367] = 0x11; /* what EXECUTE OFF-LINE IMMEDIATE takes: off-line, self-tests */
    to[368] = 3; /* attributes are saved, autosave can be switched */
    to[370] = 1; /* error logs */
    to[372] = to[373] = 1; /* minutes of the self-tests */
    ata_checksum(to);
}

bool ata_log_page(struct ata_drive *d, u8 log, u32 page, u8 *to)
{
    if (page)
        return false;
    switch (log) {
    case 0x00: /* which logs there are, and how many pages of each */
        put_le16(to, 1);
        put_le16(to + 2 * 0x01, 1);
        put_le16(to + 2 * 0x06, 1);
        if (d->host->queued_done)
            put_le16(to + 2 * 0x10, 1);
        return true;
    case 0x01: /* errors, and */
    case 0x06: /* self-tests: none */
        to[0] = 1;
        ata_checksum(to);
        return true;
    case 0x10: { /* the queued command that failed: a register FIS, nearly */
        const struct ata_tf *tf = &d->queue_tf;
        if (!d->host->queued_done)
            return false;
        to[0] = d->queue_error;
        to[2] = d->queue_status;
        to[3] = d->queue_error_register;
        to[4] = tf->lba_low[0];
        to[5] = tf->lba_mid[0];
        to[6] = tf->lba_high[0];
        to[7] = tf->device;
        to[8] = tf->lba_low[1];
        to[9] = tf->lba_mid[1];
        to[10] = tf->lba_high[1];
        to[12] = tf->count[0];
        to[13] = tf->count[1];
        ata_checksum(to);
        return true;
    }
    default:
        return false;
    }
}
