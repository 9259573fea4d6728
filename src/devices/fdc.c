/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fdc.c - see fdc.h: the registers, and the commands that move no data.
 *
 * Seeks are over at once; their status waits for SENSE INTERRUPT STATUS. A command that moves data is in the execution
 * phase until fdc_finish() fills result[].
 */
#include <errno.h>
#include <string.h>

#include "devices/fdc_private.h"

enum { PORT_DOR, PORT_TDR, PORT_MSR, PORT_FIFO }; /* from 3F2h; MSR is DSR when written */
enum { MSR_RQM = 0x80, MSR_DIO = 0x40, MSR_NDMA = 0x20, MSR_BUSY = 0x10 };
enum { DSR_RESET = 0x80, RATE_MASK = 3, RATE_DEFAULT = 2 };
enum { DIR_CHANGED = 0x80 };
enum { ST3_WP = 0x40, ST3_ONES = 0x28, ST3_T0 = 0x10 };
enum { PERPENDICULAR_OW = 0x80, PERPENDICULAR_DRIVES = 0x3c, PERPENDICULAR_MODE = 3 };
enum { VERSION_82077 = 0x90, LAST_TRACK = 79, FINISHED = 7 /* bytes of result after an interrupt */ };

/* ---- results ---- */

static void output(struct fdc *f)
{
    irq_set(&f->c.irq, f->interrupt && (f->dor & DOR_DMA));
}

void fdc_interrupt(struct fdc *f, bool on)
{
    if (on && f->interrupt) { /* one that nobody took: there is an edge all the same */
        f->interrupt = false;
        output(f);
    }
    f->interrupt = on;
    output(f);
}

static void result(struct fdc *f, const u8 *bytes, u8 n)
{
    memcpy(f->result, bytes, n);
    f->nresult = n;
    f->result_at = 0;
    f->ncommand = 0;
    f->phase = n ? PHASE_RESULT : PHASE_COMMAND;
}

void fdc_finish(struct fdc *f, u8 st0, u8 st1, u8 st2)
{
    const u8 bytes[FINISHED] = { st0 | (u8)(f->side << 2) | (f->command[1] & 3), st1, st2, f->cylinder, f->head, f->sector,
                                 f->size };

    result(f, bytes, sizeof bytes);
    fdc_interrupt(f, true);
}

/* ---- seeks ---- */

void fdc_seek(struct fdc *f, struct fdc_drive *d, u8 track)
{
    if (track != d->track && d->disk)
        d->changed = false;
    d->track = track;
}

static void seek_over(struct fdc *f, u8 drive, u8 st0)
{
    f->sense |= (u8)(1u << drive);
    f->sense_st0[drive] = st0 | drive;
    fdc_interrupt(f, true);
}

static void recalibrate(struct fdc *f)
{
    u8 n = f->command[1] & 3;
    struct fdc_drive *d = fdc_drive(f, n);
    bool there = d && d->track <= LAST_TRACK; /* no track 0 within so many steps */

    if (d)
        fdc_seek(f, d, there ? 0 : (u8)(d->track - LAST_TRACK));
    seek_over(f, n, there ? ST0_SE : ST0_ABNORMAL | ST0_SE | ST0_EC);
}

static void seek(struct fdc *f, bool relative)
{
    u8 n = f->command[1] & 3, to = f->command[2], st0 = ST0_SE | (f->command[1] & ST0_HEAD);
    struct fdc_drive *d = fdc_drive(f, n);

    if (d && relative) {
        if (!(f->command[0] & CMD_MFM) && to > d->track) /* out beyond track 0 */
            st0 |= ST0_ABNORMAL | ST0_EC;
        to = (u8)(f->command[0] & CMD_MFM ? MIN(d->track + to, 255) : MAX(d->track - to, 0));
    }
    if (d)
        fdc_seek(f, d, to);
    seek_over(f, n, st0);
}

static u8 track_of(struct fdc *f, u8 n)
{
    struct fdc_drive *d = fdc_drive(f, n);
    return d ? d->track : 0;
}

static void sense_interrupt(struct fdc *f)
{
    if (!f->sense)
        return result(f, (const u8[]){ ST0_INVALID }, 1);
    u8 n = (u8)__builtin_ctz(f->sense), st0 = f->sense_st0[n];

    f->sense &= (u8)~(1u << n);
    result(f, (const u8[]){ st0, track_of(f, n) }, 2);
    /* Of another seek there is another interrupt; after a reset the one is for all four. */
    fdc_interrupt(f, f->sense && (st0 & ST0_POLLED) != ST0_POLLED);
}

/* ---- the other commands ---- */

static void sense_drive(struct fdc *f)
{
    struct fdc_drive *d = fdc_drive(f, f->command[1]);
    u8 st3 = ST3_ONES | (f->command[1] & 7);

    if (d && (!d->disk || block_readonly(d->disk)))
        st3 |= ST3_WP;
    if (d && !d->track)
        st3 |= ST3_T0;
    result(f, &st3, 1);
}

static void read_id(struct fdc *f)
{
    struct fdc_drive *d = fdc_drive(f, f->command[1]);

    f->side = f->command[1] >> 2 & 1;
    if (!fdc_drive_readable(f, d, f->side, f->command[0] & CMD_MFM)) {
        f->cylinder = f->head = f->sector = f->size = 0;
        return fdc_finish(f, ST0_ABNORMAL, ST1_MA, 0);
    }
    d->passed = (u8)((d->passed + 1) % d->sectors);
    f->cylinder = fdc_drive_cylinder(d);
    f->head = f->side;
    f->sector = d->passed + 1;
    f->size = 2;
    fdc_finish(f, 0, 0, 0);
}

static void dumpreg(struct fdc *f)
{
    const u8 bytes[] = {
        track_of(f, 0), track_of(f, 1), track_of(f, 2), track_of(f, 3), f->specify[0], f->specify[1], f->command[6],
        (u8)(f->locked << 7 | (f->perpendicular & (PERPENDICULAR_DRIVES | PERPENDICULAR_MODE))), f->config, f->precomp,
    };
    result(f, bytes, sizeof bytes);
}

static void perpendicular(struct fdc *f, u8 v)
{
    if (!(v & PERPENDICULAR_OW))
        v = (u8)((f->perpendicular & PERPENDICULAR_DRIVES) | (v & PERPENDICULAR_MODE));
    f->perpendicular = v & (PERPENDICULAR_DRIVES | PERPENDICULAR_MODE);
}

/* Command bytes and the command without its flags; 0: there is none. */
static u8 decode(u8 v, u8 *name)
{
    static const struct {
        u8 mask, value, length;
    } table[] = {
        { 0x1f, READ_DATA, 9 },  { 0x1f, READ_DELETED, 9 }, { 0x3f, WRITE_DATA, 9 },    { 0x3f, WRITE_DELETED, 9 },
        { 0x9f, READ_TRACK, 9 }, { 0x1f, VERIFY, 9 },       { 0x1f, SCAN_EQUAL, 9 },    { 0x1f, SCAN_LOW, 9 },
        { 0x1f, SCAN_HIGH, 9 },  { 0xbf, FORMAT_TRACK, 6 }, { 0xbf, READ_ID, 2 },       { 0xff, RECALIBRATE, 2 },
        { 0xff, SENSE_INTERRUPT, 1 }, { 0xff, SPECIFY, 3 }, { 0xff, SENSE_DRIVE, 2 },   { 0xff, SEEK, 3 },
        { 0xbf, SEEK | CMD_MT, 3 }, /* RELATIVE SEEK */     { 0xff, CONFIGURE, 4 },     { 0xff, DUMPREG, 1 },
        { 0xff, VERSION, 1 },    { 0xff, PERPENDICULAR, 2 }, { 0x7f, LOCK, 1 },
    };
    for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
        if ((v & table[i].mask) == table[i].value) {
            *name = v & 0x1f;
            return table[i].length;
        }
    }
    return 0;
}

static void execute(struct fdc *f, u8 name)
{
    const u8 *c = f->command;

    f->ncommand = 0;
    switch (name) {
    case SPECIFY:
        memcpy(f->specify, c + 1, 2);
        break;
    case SENSE_DRIVE:
        return sense_drive(f);
    case RECALIBRATE:
        return recalibrate(f);
    case SENSE_INTERRUPT:
        return sense_interrupt(f);
    case READ_ID:
        return read_id(f);
    case DUMPREG:
        return dumpreg(f);
    case SEEK:
        return seek(f, c[0] & CMD_MT);
    case VERSION:
        return result(f, (const u8[]){ VERSION_82077 }, 1);
    case PERPENDICULAR:
        return perpendicular(f, c[1]);
    case CONFIGURE:
        f->config = c[2] & 0x7f;
        f->precomp = c[3];
        break;
    case LOCK:
        f->locked = c[0] & CMD_MT;
        return result(f, (const u8[]){ (u8)(f->locked << 4) }, 1);
    default:
        fdc_transfer_start(f);
        break;
    }
}

static void command_byte(struct fdc *f, u8 v)
{
    u8 name = 0, length;

    if (!f->ncommand && !decode(v, &name))
        return result(f, (const u8[]){ ST0_INVALID }, 1);
    f->command[f->ncommand++ % sizeof f->command] = v;
    length = decode(f->command[0], &name);
    if (f->ncommand >= length)
        execute(f, name);
}

/* ---- reset ---- */

/*
 * A reset by program, in DOR or DSR. It returns EFIFO, FIFOTHR and PRETRK to their defaults, unless LOCK keeps them
 * (82077AA, LOCK), clears GAP and WGATE (PERPENDICULAR MODE), and polling is on after it, whatever CONFIGURE said before
 * (7.4). Nothing else that was programmed is named there: implied seeks stay as they are, and so do LOCK, what SPECIFY
 * said, which drives are perpendicular, the data rate (DSR), and where the heads are. The RESET pin leaves none of it
 * (fdc_reset).
 */
static void forget(struct fdc *f)
{
    fdc_transfer_abort(f);
    f->phase = PHASE_COMMAND;
    f->ncommand = f->nresult = f->result_at = f->sense = 0;
    f->perpendicular &= PERPENDICULAR_DRIVES;
    f->config &= (u8)~CONFIG_POLL;
    if (!f->locked) {
        f->config = (f->config & CONFIG_EIS) | CONFIG_EFIFO;
        f->precomp = 0;
    }
    fdc_interrupt(f, false);
}

/* Out of a reset by program all four drives have become ready, says the polling. */
static void begin(struct fdc *f)
{
    f->sense = 0xf;
    for (u8 i = 0; i < 4; i++)
        f->sense_st0[i] = ST0_POLLED | i;
    fdc_interrupt(f, true);
}

/* ---- registers ---- */

static u8 msr(const struct fdc *f)
{
    u8 v = 0;
    bool to_host;

    if (!(f->dor & DOR_RESET))
        return 0;
    for (u8 i = 0; i < 4; i++)
        if (f->sense & 1u << i && (f->sense_st0[i] & ST0_POLLED) != ST0_POLLED)
            v |= (u8)(1u << i);
    if (f->ncommand || f->phase != PHASE_COMMAND)
        v |= MSR_BUSY;
    if (f->phase == PHASE_COMMAND)
        return v | MSR_RQM;
    if (f->phase == PHASE_RESULT)
        return v | MSR_RQM | MSR_DIO;
    if (f->specify[1] & 1) {
        v |= MSR_NDMA;
        if (fdc_transfer_wants(f, &to_host))
            v |= MSR_RQM | (to_host ? MSR_DIO : 0);
    }
    return v;
}

static u8 fifo_read(struct fdc *f)
{
    bool to_host;
    u8 v = 0;

    if (f->phase == PHASE_RESULT) {
        if (!f->result_at && f->nresult == FINISHED)
            fdc_interrupt(f, false);
        v = f->result[f->result_at++ % sizeof f->result];
        if (f->result_at >= f->nresult)
            f->phase = PHASE_COMMAND;
    } else if (f->phase == PHASE_EXECUTION && fdc_transfer_wants(f, &to_host) && to_host) {
        v = fdc_transfer_read(f);
    }
    return v;
}

static void fifo_write(struct fdc *f, u8 v)
{
    bool to_host;

    if (f->phase == PHASE_COMMAND)
        command_byte(f, v);
    else if (f->phase == PHASE_EXECUTION && fdc_transfer_wants(f, &to_host) && !to_host)
        fdc_transfer_write(f, v);
}

static u64 fdc_read(void *dev, u64 offset, unsigned size)
{
    struct fdc *f = dev;
    u8 v;

    pthread_mutex_lock(&f->lock);
    switch (offset) {
    case PORT_DOR:
        v = f->dor;
        break;
    case PORT_TDR:
        v = f->tdr | 0xfc;
        break;
    case PORT_MSR:
        v = msr(f);
        break;
    default:
        v = f->dor & DOR_RESET ? fifo_read(f) : 0;
        break;
    }
    pthread_mutex_unlock(&f->lock);
    return v;
}

static void write_dor(struct fdc *f, u8 v)
{
    u8 was = f->dor;

    f->dor = v;
    for (u32 i = 0; i < FDC_DRIVES; i++) /* a disk that comes to a halt is as it stands on the host's */
        if (was & ~v & DOR_MOTOR << i)
            fdc_flush(f, i);
    if (was & ~v & DOR_RESET)
        forget(f);
    else if (~was & v & DOR_RESET)
        begin(f);
    output(f);
    fdc_transfer_run(f); /* the gate for DMA may be open now */
}

static void fdc_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct fdc *f = dev;
    u8 v = (u8)value;

    pthread_mutex_lock(&f->lock);
    switch (offset) {
    case PORT_DOR:
        write_dor(f, v);
        break;
    case PORT_TDR:
        f->tdr = v & 3;
        break;
    case PORT_MSR: /* DSR */
        f->rate = v & RATE_MASK;
        if (v & DSR_RESET) {
            forget(f);
            if (f->dor & DOR_RESET)
                begin(f);
        }
        break;
    default:
        if (f->dor & DOR_RESET)
            fifo_write(f, v);
        break;
    }
    pthread_mutex_unlock(&f->lock);
}

const struct bus_ops fdc_ops = { .read = fdc_read, .write = fdc_write, .min_size = 1, .max_size = 1 };

static u64 dir_read(void *dev, u64 offset, unsigned size)
{
    struct fdc *f = dev;
    struct fdc_drive *d;

    pthread_mutex_lock(&f->lock);
    d = fdc_drive(f, f->dor & DOR_SELECT);
    u8 v = d && (d->changed || !d->disk) ? DIR_CHANGED : 0;
    pthread_mutex_unlock(&f->lock);
    return v;
}

static void ccr_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct fdc *f = dev;

    pthread_mutex_lock(&f->lock);
    f->rate = (u8)value & RATE_MASK;
    pthread_mutex_unlock(&f->lock);
}

const struct bus_ops fdc_dir_ops = { .read = dir_read, .write = ccr_write, .min_size = 1, .max_size = 1 };

/* ---- life ---- */

static void dma_ready(void *ctx)
{
    struct fdc *f = ctx;

    pthread_mutex_lock(&f->lock);
    fdc_transfer_run(f);
    pthread_mutex_unlock(&f->lock);
}

void fdc_reset(struct fdc *f)
{
    pthread_mutex_lock(&f->lock);
    f->locked = false;
    f->config = 0;
    f->perpendicular = 0;
    forget(f);
    f->dor = f->tdr = 0;
    f->rate = RATE_DEFAULT;
    memset(f->specify, 0, sizeof f->specify);
    for (u32 i = 0; i < FDC_DRIVES; i++) {
        f->drive[i].track = f->drive[i].passed = 0;
        f->drive[i].changed = true;
        fdc_flush(f, i);
    }
    output(f);
    pthread_mutex_unlock(&f->lock);
}

void fdc_init(struct fdc *f, const struct fdc_config *c)
{
    memset(f, 0, sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    f->c = *c;
    fdc_transfer_init(f);
    i8237_attach(c->dma, FDC_DMA, dma_ready, f);
    fdc_reset(f);
}

void fdc_destroy(struct fdc *f)
{
    loop_kick_remove(&f->kick);
    pthread_mutex_destroy(&f->lock);
}

static int loaded(void *obj, struct error *err)
{
    struct fdc *f = obj;
    u8 name, length = f->ncommand ? decode(f->command[0], &name) : 1;

    if (f->phase > PHASE_RESULT || f->rate > RATE_MASK || f->ncommand >= length || f->sense > 0xf ||
        (f->phase == PHASE_RESULT && (f->nresult > sizeof f->result || f->result_at >= f->nresult)) ||
        !fdc_transfer_valid(f))
        return error_set(err, EINVAL, "the saved state of the floppy controller (82077AA) is not possible");
    f->tdr &= 3;
    pthread_mutex_lock(&f->lock);
    fdc_transfer_run(f);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

static const struct state_field drive_fields[] = {
    STATE_FIELD(struct fdc_drive, track, 1),
    STATE_FIELD(struct fdc_drive, changed, 1),
    STATE_FIELD(struct fdc_drive, passed, 1),
    STATE_END,
};
static const struct state_field fields[] = {
    STATE_STRUCTS(struct fdc, drive, 1, drive_fields),
    STATE_FIELD(struct fdc, dor, 1),           STATE_FIELD(struct fdc, tdr, 1),
    STATE_FIELD(struct fdc, rate, 1),          STATE_ARRAY(struct fdc, specify, 1),
    STATE_FIELD(struct fdc, config, 1),        STATE_FIELD(struct fdc, precomp, 1),
    STATE_FIELD(struct fdc, perpendicular, 1), STATE_FIELD(struct fdc, locked, 1),
    STATE_FIELD(struct fdc, interrupt, 1),     STATE_FIELD(struct fdc, phase, 1),
    STATE_ARRAY(struct fdc, command, 1),       STATE_FIELD(struct fdc, ncommand, 1),
    STATE_ARRAY(struct fdc, result, 1),        STATE_FIELD(struct fdc, nresult, 1),
    STATE_FIELD(struct fdc, result_at, 1),     STATE_FIELD(struct fdc, sense, 1),
    STATE_ARRAY(struct fdc, sense_st0, 1),     STATE_FIELD(struct fdc, step, 1),
    STATE_FIELD(struct fdc, kind, 1),          STATE_FIELD(struct fdc, cylinder, 1),
    STATE_FIELD(struct fdc, head, 1),          STATE_FIELD(struct fdc, sector, 1),
    STATE_FIELD(struct fdc, size, 1),          STATE_FIELD(struct fdc, side, 1),
    STATE_FIELD(struct fdc, count, 1),         STATE_FIELD(struct fdc, st1, 1),
    STATE_FIELD(struct fdc, st2, 1),           STATE_FIELD(struct fdc, tc, 1),
    STATE_FIELD(struct fdc, at, 1),            STATE_ARRAY(struct fdc, data, 1),
    STATE_ARRAY(struct fdc, disk, 1),
    STATE_END,
};
const struct state_desc fdc_state = { "fdc", 1, fields, NULL, loaded };
