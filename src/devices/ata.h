/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata.h - one ATA drive, a disk or a CD-ROM (ATAPI), as the controller it is plugged into sees it: registers, commands,
 * data.  ATA/ATAPI-6 to -8 (ACS), whose names are used; SPC-3 and MMC-5 for packets.  Over block/block.h.
 *
 * The controller (IDE channel, AHCI port) owns the drive's lock, which is held around every call here but where said
 * otherwise, and every one of struct ata_host_ops.  It writes `tf`, calls ata_command, and moves the data: by blocks
 * (ata_block ... ata_block_done) while `phase` is one of PACKET, PIO_IN, PIO_OUT; by DMA the drive does so itself, through
 * map().  What the host's disk has to do is begun and ended on the loop's thread; everything else happens at once.
 *
 * A command is carried out in chunks, and what is under way is always one; the state between two of them is saved:
 * ata_settle waits for those under way and begins no more until ata_resume.
 */
#ifndef LODGE_DEVICES_ATA_H
#define LODGE_DEVICES_ATA_H

#include <pthread.h>
#include <sys/uio.h>

#include "base/base.h"
#include "base/loop.h"
#include "block/block.h"
#include "config/config.h"
#include "memory/memory.h"
#include "state/state.h"

enum { ATA_SECTOR = 512, ATA_CD_SECTOR = 2048, ATA_BUFFER = 65536, ATA_TAGS = 32, ATA_SG = 288, ATA_SERIAL = 20, ATA_CDB = 12 };

enum { /* Status */
    ATA_ERR = 0x01, ATA_DRQ = 0x08, ATA_DSC = 0x10, ATA_DF = 0x20, ATA_DRDY = 0x40, ATA_BSY = 0x80,
};
enum { /* Error */
    ATA_ABRT = 0x04, ATA_IDNF = 0x10, ATA_UNC = 0x40,
};
enum { ATA_DEV_LBA = 0x40, ATA_DEV = 0x10 }; /* Device */
enum { /* commands a controller knows */
    ATA_CMD_DEVICE_RESET = 0x08, ATA_CMD_READ_FPDMA = 0x60, ATA_CMD_WRITE_FPDMA = 0x61,
    ATA_CMD_EXECUTE_DEVICE_DIAGNOSTIC = 0x90, ATA_CMD_PACKET = 0xa0,
};

struct ata_drive_config {
    bool cdrom;
    struct block *block;  /* the caller's, closed after the drive is freed; NULL: a CD drive with no disc */
    const char *serial;   /* at most ATA_SERIAL bytes, or NULL */
    bool discard;         /* offer TRIM */
    enum config_disk_errors rerror, werror;
    /* Called with no lock held, in turns; for STOP and ENOSPC. why: one sentence, good for the call. */
    void (*stop)(void *ctx, const char *why);
    void (*go)(void *ctx);
    void *ctx;
    struct memory *memory;
    struct loop *loop;
};

/* The registers; [0]: as last written, [1]: before that (48-bit addresses). feature and error, command and status are
   different registers at one address. */
struct ata_tf {
    u8 feature[2], count[2], lba_low[2], lba_mid[2], lba_high[2], device;
};

struct ata_sg { /* guest memory: where it is in this process, and its places (memory.h), which do not move */
    struct iovec iov[ATA_SG];
    u64 place[ATA_SG];
    u32 n;
    u64 len;
};
/* Adds [gpa, gpa + len), as far as there is room. False: not all of that is memory (that can be written). */
bool ata_sg_add(struct ata_sg *sg, struct memory *m, u64 gpa, u64 len, bool write);

struct ata_drive;

enum ata_event {
    ATA_EVENT_DRQ,       /* a block can be moved */
    ATA_EVENT_DRQ_QUIET, /* the same, without an interrupt */
    ATA_EVENT_DONE,      /* the command has ended, as status says */
    ATA_EVENT_DONE_QUIET,
    ATA_EVENT_STALLED,   /* the command has ended because its memory did, sooner than its data: -ENOBUFS of map */
    ATA_EVENT_BUS_ERROR, /* -EFAULT of map; DONE follows */
    ATA_EVENT_RESET,     /* the signature is in the registers */
    ATA_EVENT_QUIET,     /* after ata_abort: nothing is under way any more */
};

struct ata_host_ops {
    /* Adds to sg where bytes [at, at + len) of command tag's data are in memory, as far as the command's memory goes and
       sg has room. 0, or -EFAULT. */
    int (*map)(void *host, struct ata_drive *d, u32 tag, u64 at, u64 len, bool to_memory, struct ata_sg *sg);
    bool (*dma_ready)(void *host, struct ata_drive *d); /* may it ask map now? when it may: ata_dma_start */
    void (*event)(void *host, struct ata_drive *d, enum ata_event e);
    void (*queued_done)(void *host, struct ata_drive *d, u32 tag, bool ok); /* or NULL: no command queuing */
    void (*run)(void *host, struct ata_drive *d); /* last, after events on the loop's thread; or NULL */
};

enum ata_phase { ATA_IDLE, ATA_PACKET, ATA_PIO_IN, ATA_PIO_OUT, ATA_DMA, ATA_IO };

struct ata_io { /* one at a time of every command; that which is not queued has number 0 */
    struct ata_drive *d;
    u32 op;                /* enum ata_io_op, 0: none */
    bool buffered, fua;    /* to or from d->buffer; flush behind it */
    u32 buffer_at;
    u64 offset, len, done; /* bytes; len 0: no data */
    /* not saved */
    bool under_way, parked, retried;
    u64 chunk;
    struct block_request rq;
    struct iovec one;
    struct ata_sg sg;
};

struct ata_drive {
    struct ata_drive_config c;
    const struct ata_host_ops *host;
    void *host_ctx;
    pthread_mutex_t *lock;
    u64 size; /* bytes of the medium */
    char serial[ATA_SERIAL + 1];
    u16 cylinders; /* as made: words 1, 3, 6 */
    u8 heads, sectors;

    struct ata_tf tf;
    u8 status, error, command;
    u8 phase; /* enum ata_phase */
    bool dma; /* the command's data goes by DMA */
    /* modes */
    u8 now_heads, now_sectors, multiple, transfer_mode, pio_mode, power;
    bool write_cache, look_ahead, smart_off;
    /* the command's data */
    bool medium;       /* to or from the medium (else the buffer alone) */
    bool write, fua, verify;
    u64 sector;        /* the next one of the medium */
    u32 left;          /* sectors after that */
    u32 sector_out;    /* bytes the host gets of each */
    u8 cd_flags;       /* READ CD: what of it */
    u64 moved;         /* bytes by DMA so far */
    u32 block;         /* bytes of a block, at most */
    u32 buffer_len, buffer_pos, block_end;
    u32 range;         /* the next one of a TRIM */
    u32 queued;        /* tags */
    u8 queue_error;    /* of the queued command that failed: its tag, 80h: none; for log page 10h */
    struct ata_tf queue_tf;
    u8 queue_status, queue_error_register;
    /* packets */
    u8 cdb[ATA_CDB];
    u8 sense_key, asc, ascq;
    bool unit_attention, media_changed; /* to be told */
    u8 media_event;
    bool locked, tray_open;
    u8 buffer[ATA_BUFFER];

    struct ata_io io[ATA_TAGS];
    /* not saved */
    u32 busy; /* of io[] under way */
    bool resetting, frozen, submitted, disc_gone;
    u32 parked, retrying;
    bool stopped, told, diagnostic;
    char why[256];
    struct loop_kick kick;
    struct timer retry, tell;
};

/* ---- life; the loop's thread, no lock held, no vCPU runs ---- */

/* lock: the controller's, which it has for all that concerns the drive. NULL with err set. */
struct ata_drive *ata_new(const struct ata_drive_config *c, const struct ata_host_ops *host, void *host_ctx,
                          pthread_mutex_t *lock, struct error *err);
void ata_free(struct ata_drive *d); /* waits for what is under way; d may be NULL */
void ata_power_on(struct ata_drive *d);
void ata_settle(struct ata_drive *d);
void ata_resume(struct ata_drive *d);
extern const struct state_desc ata_state;

/* The loop's thread, no lock held; vCPUs may run. Another disc, or none (NULL), is in a CD drive; the one before is the
   caller's again. -EBUSY: the guest has locked the tray, and not `force`; it is told that somebody wants it open. */
int must_check ata_change_medium(struct ata_drive *d, struct block *b, bool force, struct error *err);

/* ---- for controllers ---- */

void ata_command(struct ata_drive *d, u8 command);
/* READ or WRITE FPDMA QUEUED with these registers. False: it is refused; queued_done is not called. */
bool ata_queue(struct ata_drive *d, u8 command, u32 tag, const struct ata_tf *tf);
void ata_dma_start(struct ata_drive *d);
/* The block at hand; to be read or written by the controller. */
u8 *ata_block(struct ata_drive *d, u32 *len);
void ata_block_done(struct ata_drive *d);
/* By the data register: size is 1, 2 or 4. */
u32 ata_data_read(struct ata_drive *d, unsigned size);
void ata_data_write(struct ata_drive *d, u32 value, unsigned size);
/* Software reset (SRST, COMRESET: hard): BSY until ATA_EVENT_RESET, which may come from within. */
void ata_reset(struct ata_drive *d, bool hard);
/* Gives up all commands; returns true if nothing is under way, else ATA_EVENT_QUIET follows. */
bool ata_abort(struct ata_drive *d);

#endif
