/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdc_transfer.c - the commands that move data, a sector at a time (FORMAT: an ID at a time).
 *
 * The way of a sector that is read: find() it, io() from the disk, exchange() with the host, next(); of one that is
 * written exchange() comes first. fdc_transfer_run() goes on until it has to wait: for the disk (busy; served on the loop's
 * thread), for the DMA controller, for the host at the data port.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "devices/fdc_private.h"

enum step { STEP_FIND, STEP_IO, STEP_EXCHANGE, STEP_NEXT, STEPS };
enum { /* bytes of a command */
    AT_DRIVE = 1, AT_CYLINDER, AT_HEAD, AT_SECTOR, AT_SIZE, AT_EOT, AT_GPL, AT_DTL,
    FORMAT_SIZE = 2, FORMAT_SECTORS = 3, FORMAT_FILLER = 5, FORMAT_ID = 4 /* bytes the host gives for a sector */
};
enum { VERIFY_EC = 0x80 };

static struct fdc_drive *drive_of(struct fdc *f) { return fdc_drive(f, f->command[AT_DRIVE]); }
static bool to_host(const struct fdc *f) { return f->kind == READ_DATA || f->kind == READ_DELETED || f->kind == READ_TRACK; }
static bool writes(const struct fdc *f)
{
    return f->kind == WRITE_DATA || f->kind == WRITE_DELETED || f->kind == FORMAT_TRACK;
}
static bool scans(const struct fdc *f) { return f->kind == SCAN_EQUAL || f->kind == SCAN_LOW || f->kind == SCAN_HIGH; }
static bool by_port(const struct fdc *f) { return f->specify[1] & 1; }
static u32 piece(const struct fdc *f) { return f->kind == FORMAT_TRACK ? FORMAT_ID : FDC_SECTOR; }

static void fail(struct fdc *f, u8 st1, u8 st2)
{
    fdc_finish(f, ST0_ABNORMAL, f->st1 | st1, f->st2 | st2);
}

/* Bytes go between host and controller now. */
static void begin_exchange(struct fdc *f)
{
    f->step = STEP_EXCHANGE;
    if (by_port(f))
        fdc_interrupt(f, true);
}

/* ---- the disk ---- */

static void io_over(struct fdc *f, int result)
{
    f->busy = false;
    if (f->stale) {
        f->stale = false;
    } else if (result) {
        log_guest("floppy: the host's image cannot be %s: %s", writes(f) ? "written" : "read", strerror(-result));
        fail(f, ST1_DE, ST2_DD);
    } else if (writes(f) || f->kind == VERIFY) {
        f->step = STEP_NEXT;
    } else {
        begin_exchange(f);
    }
    fdc_transfer_run(f);
}

static void done(struct block_request *rq, int result)
{
    struct fdc *f = container_of(rq, struct fdc, rq);

    pthread_mutex_lock(&f->lock);
    io_over(f, result);
    pthread_mutex_unlock(&f->lock);
}

static void flushed(struct block_request *rq, int result)
{
    struct fdc_flush *fl = container_of(rq, struct fdc_flush, rq);

    pthread_mutex_lock(&fl->fdc->lock);
    fl->busy = false;
    pthread_mutex_unlock(&fl->fdc->lock);
    if (result)
        log_warn("floppy: what was written may not be on the host's disk yet: %s", strerror(-result));
}

/* Hands over what waits. On the loop's thread. */
static void submit(struct loop_kick *k)
{
    struct fdc *f = container_of(k, struct fdc, kick);

    pthread_mutex_lock(&f->lock);
    if (f->wanted) {
        struct block *disk = f->drive[f->io_drive].disk;
        f->wanted = false;
        if (disk) {
            f->rq.done = done;
            block_submit(disk, &f->rq);
            block_kick(disk);
        } else { /* taken out since */
            io_over(f, -ENODEV);
        }
    }
    for (u32 i = 0; i < FDC_DRIVES; i++) {
        struct fdc_flush *fl = &f->flush[i];
        struct block *disk = f->drive[i].disk;
        if (fl->wanted && !fl->busy && disk) {
            fl->busy = true;
            fl->rq = (struct block_request){ .op = BLOCK_FLUSH, .done = flushed };
            block_submit(disk, &fl->rq);
            block_kick(disk);
        }
        fl->wanted = false;
    }
    pthread_mutex_unlock(&f->lock);
}

void fdc_flush(struct fdc *f, u32 drive)
{
    if (!f->drive[drive].dirty)
        return;
    f->drive[drive].dirty = false;
    f->flush[drive].wanted = true;
    loop_kick(&f->kick);
}

static void io(struct fdc *f)
{
    struct fdc_drive *d = drive_of(f);

    if (!fdc_drive_readable(f, d, f->side, f->command[0] & CMD_MFM) || !f->sector || f->sector > d->sectors)
        return fail(f, ST1_MA, 0); /* it was there when the command began */
    u64 lba = ((u64)fdc_drive_cylinder(d) * d->heads + f->side) * d->sectors + f->sector - 1;

    f->io_drive = f->command[AT_DRIVE] & 3;
    f->iov = (struct iovec){ scans(f) ? f->disk : f->data, FDC_SECTOR };
    f->rq = (struct block_request){ .op = writes(f) ? BLOCK_WRITE : BLOCK_READ, .offset = lba * FDC_SECTOR,
                                    .len = FDC_SECTOR, .iov = &f->iov, .niov = 1 };
    d->dirty |= writes(f);
    f->busy = f->wanted = true;
    loop_kick(&f->kick);
}

/* ---- a sector ---- */

/* Checks the sector that was asked for. False: something is wrong with it, and the result says so already. */
static bool found(struct fdc *f, struct fdc_drive *d)
{
    u8 cylinder = fdc_drive_cylinder(d);

    if (f->kind == READ_TRACK) { /* whatever the IDs say: it is told at the end */
        if (f->cylinder != cylinder || f->head != f->side || f->size != 2)
            f->st1 |= ST1_ND;
        return f->count < d->sectors;
    }
    if (f->cylinder != cylinder) {
        fail(f, ST1_ND, f->cylinder == 0xff ? ST2_BC : ST2_WC);
        return false;
    }
    return f->head == f->side && f->size == 2 && f->sector && f->sector <= d->sectors;
}

static void find(struct fdc *f)
{
    struct fdc_drive *d = drive_of(f);

    if (!fdc_drive_readable(f, d, f->side, f->command[0] & CMD_MFM))
        return fail(f, ST1_MA, 0);
    if (writes(f) && block_readonly(d->disk))
        return fail(f, ST1_NW, 0);
    f->at = 0;
    if (f->kind == FORMAT_TRACK)
        return begin_exchange(f);
    if (!found(f, d)) {
        if (f->phase == PHASE_EXECUTION)
            fail(f, ST1_ND, 0);
        return;
    }
    if (f->kind == READ_TRACK)
        f->sector = (u8)(f->count + 1);
    if (f->kind == READ_DELETED) {
        f->st2 |= ST2_CM;
        f->step = f->command[0] & CMD_SK ? STEP_NEXT : STEP_IO;
    } else if (writes(f)) {
        begin_exchange(f);
    } else {
        f->step = STEP_IO;
    }
}

/* FORMAT: data[] holds the ID of a sector to be. */
static void format(struct fdc *f)
{
    struct fdc_drive *d = drive_of(f);
    const u8 *id = f->data;

    if (id[0] != fdc_drive_cylinder(d) || id[1] != f->side || !id[2] || id[2] > d->sectors || id[3] != 2) {
        log_guest("floppy: a track cannot be formatted with other sectors than the image has");
        return fdc_finish(f, ST0_ABNORMAL | ST0_EC, ST1_ND, 0);
    }
    f->sector = id[2];
    memset(f->data, f->command[FORMAT_FILLER], FDC_SECTOR);
    f->step = STEP_IO;
}

/* SCAN: data[] is the host's, FFh there or on the disk matches all. */
static void compare(struct fdc *f)
{
    bool equal = true, low = true, high = true;

    for (u32 i = 0; i < f->at; i++) {
        u8 disk = f->disk[i], host = f->data[i];
        if (disk == 0xff || host == 0xff || disk == host)
            continue;
        equal = false;
        low = low && disk < host;
        high = high && disk > host;
    }
    f->st2 &= (u8)~(ST2_SH | ST2_SN);
    if (equal)
        f->st2 |= ST2_SH;
    else if (f->kind == SCAN_EQUAL || (f->kind == SCAN_LOW ? !low : !high))
        f->st2 |= ST2_SN;
}

/* All of a piece, or all that the host has, is through. */
static void exchanged(struct fdc *f)
{
    f->step = STEP_NEXT;
    if (scans(f)) {
        compare(f);
    } else if (f->kind == FORMAT_TRACK) {
        if (f->at == FORMAT_ID)
            format(f);
        else
            fail(f, 0, 0);
    } else if (!to_host(f)) {
        memset(f->data + f->at, 0, FDC_SECTOR - f->at);
        f->step = STEP_IO;
    }
}

/* By DMA. False: it waits. */
static bool exchange(struct fdc *f)
{
    u32 n;
    bool tc;

    if (by_port(f) || !(f->dor & DOR_DMA) || f->at >= piece(f))
        return false;
    n = i8237_transfer(f->c.dma, FDC_DMA, to_host(f), f->data + f->at, piece(f) - f->at, &tc);
    f->at = (u16)(f->at + n);
    f->tc |= tc;
    if (!n)
        return false;
    if (f->tc || f->at == piece(f))
        exchanged(f);
    return true;
}

/*
 * C, H, R and N go on to the next sector (82077AA table 5-6); true: that is beyond the end of the cylinder.
 *
 * A track ends with the sector whose number is EOT (8272A: "equal to EOT"). With MT both sides are one track, which goes
 * on "to the first sector under head 1" after "the last sector under head 0" and ends with "the last sector under head 1"
 * (82077AA, MT): with the disk's last, where EOT lies beyond it. SeaBIOS makes such an EOT of a first sector and a number
 * of sectors. Without MT, and of VERIFY (its result phase table), it is a sector that is not there. A host that has enough
 * before gets the next sector of this side.
 */
static bool advance(struct fdc *f)
{
    const struct fdc_drive *d = drive_of(f);
    const u32 eot = f->command[AT_EOT], next = f->sector + (scans(f) && f->command[AT_DTL] == 2 ? 2u : 1u);
    const bool mt = f->command[0] & CMD_MT;
    bool last = f->sector == eot || (f->sector < eot && next > eot);

    if (mt && !f->tc && f->kind != VERIFY)
        last = last || !d || next > d->sectors;
    if (!last) {
        f->sector = (u8)next;
        return false;
    }
    f->sector = 1;
    if (mt) {
        f->head ^= 1;
        f->side ^= 1;
        if (f->side)
            return false;
    }
    f->cylinder++;
    return true;
}

static void finish_well(struct fdc *f)
{
    fdc_finish(f, 0, f->st1, f->st2);
}

static void next(struct fdc *f)
{
    f->step = STEP_FIND;
    f->count++;
    if (f->kind == FORMAT_TRACK || f->kind == READ_TRACK) {
        if (f->tc || f->count >= f->command[f->kind == FORMAT_TRACK ? FORMAT_SECTORS : AT_EOT])
            finish_well(f);
        return;
    }
    if (f->kind == READ_DELETED && !(f->command[0] & CMD_SK))
        return finish_well(f); /* after one without the mark */
    u8 side = f->side;
    bool end = advance(f), met = scans(f) && !(f->st2 & ST2_SN);
    u32 sc = f->command[AT_DTL] ? f->command[AT_DTL] : 256; /* of VERIFY, which nobody tells that it is enough */
    bool enough = f->kind == VERIFY && f->command[AT_DRIVE] & VERIFY_EC && f->count >= sc;

    if (f->tc || met || enough || end) {
        f->side = side; /* the head that was last in use */
        if (f->tc || met || enough || scans(f) || (f->kind == VERIFY && !(f->command[AT_DRIVE] & VERIFY_EC)))
            finish_well(f);
        else
            fail(f, ST1_EN, 0);
    }
}

void fdc_transfer_run(struct fdc *f)
{
    while (f->phase == PHASE_EXECUTION && !f->busy) {
        switch (f->step) {
        case STEP_FIND:
            find(f);
            break;
        case STEP_IO:
            io(f);
            break;
        case STEP_EXCHANGE:
            if (!exchange(f))
                return;
            break;
        default:
            next(f);
            break;
        }
    }
}

void fdc_transfer_start(struct fdc *f)
{
    const u8 *c = f->command;
    struct fdc_drive *d = drive_of(f);

    f->phase = PHASE_EXECUTION;
    f->step = STEP_FIND;
    f->kind = c[0] & 0x1f;
    f->side = c[AT_DRIVE] >> 2 & 1;
    f->count = f->at = 0;
    f->st1 = f->st2 = 0;
    f->tc = false;
    if (f->kind == FORMAT_TRACK) {
        f->cylinder = d ? fdc_drive_cylinder(d) : 0;
        f->head = f->side;
        f->sector = 1;
        f->size = c[FORMAT_SIZE];
        f->command[AT_EOT] = c[FORMAT_SECTORS]; /* DUMPREG tells the one or the other */
    } else {
        f->cylinder = c[AT_CYLINDER];
        f->head = c[AT_HEAD];
        f->sector = c[AT_SECTOR];
        f->size = c[AT_SIZE];
        if (d && f->config & CONFIG_EIS)
            fdc_seek(f, d, (u8)(d->double_step ? 2 * f->cylinder : f->cylinder));
    }
    fdc_transfer_run(f);
}

void fdc_transfer_abort(struct fdc *f)
{
    f->stale = f->busy;
    f->phase = PHASE_COMMAND;
}

void fdc_transfer_gone(struct fdc *f, u32 drive)
{
    if (f->phase == PHASE_EXECUTION && (f->command[AT_DRIVE] & 3) == drive) {
        f->stale = f->busy;
        fail(f, ST1_MA, 0);
    }
    if (f->wanted && f->io_drive == drive)
        f->busy = f->wanted = f->stale = false;
    f->flush[drive].wanted = false;
}

/* ---- by port ---- */

bool fdc_transfer_wants(const struct fdc *f, bool *read)
{
    *read = to_host(f);
    return by_port(f) && !f->busy && f->step == STEP_EXCHANGE && f->at < piece(f);
}

/* Without the FIFO there is an interrupt for each byte, else one a sector. */
static void passed(struct fdc *f)
{
    if (++f->at == piece(f)) {
        fdc_interrupt(f, false);
        exchanged(f);
        fdc_transfer_run(f);
    } else if (f->config & CONFIG_EFIFO) {
        fdc_interrupt(f, true);
    }
}

u8 fdc_transfer_read(struct fdc *f)
{
    u8 v = f->data[f->at];

    passed(f);
    return v;
}

void fdc_transfer_write(struct fdc *f, u8 v)
{
    f->data[f->at] = v;
    passed(f);
}

/* ---- life ---- */

void fdc_settle(struct fdc *f)
{
    for (;;) {
        submit(&f->kick);
        for (u32 i = 0; i < FDC_DRIVES; i++)
            if (f->drive[i].disk)
                block_drain(f->drive[i].disk);
        pthread_mutex_lock(&f->lock);
        bool quiet = !f->wanted;
        pthread_mutex_unlock(&f->lock);
        if (quiet)
            return;
    }
}

void fdc_transfer_init(struct fdc *f)
{
    for (u32 i = 0; i < FDC_DRIVES; i++)
        f->flush[i].fdc = f;
    loop_kick_init(&f->kick, f->c.loop, submit);
}

bool fdc_transfer_valid(const struct fdc *f)
{
    return f->step < STEPS && f->at <= FDC_SECTOR && f->side < 2 &&
           (f->phase != PHASE_EXECUTION || f->step != STEP_EXCHANGE || f->at < piece(f));
}
