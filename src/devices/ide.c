/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ide.c - see ide.h.
 *
 * Where there is no drive all registers read 0: no BSY, and no pattern written comes back, which is how everybody looks for
 * drives.  A drive that is not there does not hide behind the other one.
 */
#include "devices/ide.h"

#include <errno.h>
#include <string.h>

enum { /* offsets of the command block */
    DATA, ERROR_FEATURES, SECTOR_COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, STATUS_COMMAND,
};
enum { NIEN = 2, SRST = 4, HOB = 0x80 }; /* Device Control */
enum { BMICX = 0, BMISX = 2, BMIDTPX = 4, BM_CHANNEL = 8, BM_SIZE = 16 };
enum { SSBM = 1, RWCON = 8, ACTIVE = 1, BM_ERROR = 2, INTERRUPT = 4, DRIVES_DMA = 0x60 };
enum { PRD_SIZE = 8, PRD_TABLE = 65536, BAR = 4, IDETIM = 0x40, SIDETIM = 0x44, IDE_DECODE = 0x80, COMMAND = 4, STATUS = 6 };
#define PRD_EOT 0x80000000u

static u32 selected(const struct ide_channel *c)
{
    return c->device & ATA_DEV ? 1 : 0;
}

static void update_line(struct ide_channel *c)
{
    const bool level = c->intrq[selected(c)] && !(c->control & NIEN);

    if (level && !c->level)
        c->bm_status |= INTERRUPT;
    c->level = level;
    irq_set(&c->irq, level);
}

static void set_intrq(struct ide_channel *c, u32 n, bool level)
{
    c->intrq[n] = level;
    update_line(c);
}

/* ---- what drives ask ---- */

static bool dma_ready(void *host, struct ata_drive *d)
{
    const struct ide_channel *c = host;
    return c->bm_status & ACTIVE && pci_bus_master(&c->ide->f);
}

/* The table does not cross 64 KiB (1.2). */
static int map(void *host, struct ata_drive *d, u32 tag, u64 at, u64 len, bool to_memory, struct ata_sg *sg)
{
    struct ide_channel *c = host;
    u64 skip = at > c->bm_base ? at - c->bm_base : 0;
    u32 prd[2];

    for (u32 i = 0; i < PRD_TABLE / PRD_SIZE && len && sg->n < ATA_SG; i++) {
        if (memory_read(d->c.memory, (u64)c->bm_table + i * PRD_SIZE, prd, PRD_SIZE))
            return -EFAULT;
        const u64 size = prd[1] & 0xfffe ? prd[1] & 0xfffe : 0x10000, from = MIN(skip, size), n = MIN(size - from, len);
        const u64 before = sg->len;
        skip -= from;
        if (n && !ata_sg_add(sg, d->c.memory, (prd[0] & ~1u) + from, n, to_memory))
            return -EFAULT;
        const u64 added = sg->len - before;
        len -= added;
        c->bm_eot = prd[1] & PRD_EOT && from + added == size;
        if (prd[1] & PRD_EOT)
            break;
    }
    return 0;
}

static void event(void *host, struct ata_drive *d, enum ata_event e)
{
    struct ide_channel *c = host;
    const u32 n = d == c->drive[1];

    switch (e) {
    case ATA_EVENT_DONE:
        if (d->dma && c->bm_eot)
            c->bm_status &= (u8)~ACTIVE;
        set_intrq(c, n, true);
        break;
    case ATA_EVENT_DRQ:
        set_intrq(c, n, true);
        break;
    case ATA_EVENT_STALLED: /* the drive has data, the table no place: 3.1, status 0 0 */
        c->bm_status &= (u8)~ACTIVE;
        break;
    case ATA_EVENT_BUS_ERROR:
        c->bm_status = (u8)((c->bm_status & ~ACTIVE) | BM_ERROR);
        break;
    default:
        break;
    }
}

static const struct ata_host_ops host_ops = { .map = map, .dma_ready = dma_ready, .event = event };

/* ---- the command and control blocks ---- */

static bool decodes(const struct ide_channel *c)
{
    const struct pci_function *f = &c->ide->f;
    const u32 n = (u32)(c - c->ide->channel);

    return __atomic_load_n(&f->config[IDETIM + 1 + 2 * n], __ATOMIC_RELAXED) & IDE_DECODE &&
           __atomic_load_n(&f->config[COMMAND], __ATOMIC_RELAXED) & 1;
}

static u8 status(const struct ide_channel *c, const struct ata_drive *d)
{
    return c->control & SRST ? ATA_BSY : d->status;
}

static u8 read_register(struct ide_channel *c, u64 offset)
{
    const u32 n = selected(c), hob = c->control & HOB ? 1 : 0;
    struct ata_drive *d = c->drive[n];

    if (!d)
        return 0;
    switch (offset) {
    case ERROR_FEATURES:
        return d->error;
    case SECTOR_COUNT:
        return d->tf.count[hob];
    case LBA_LOW:
        return d->tf.lba_low[hob];
    case LBA_MID:
        return d->tf.lba_mid[hob];
    case LBA_HIGH:
        return d->tf.lba_high[hob];
    case DEVICE:
        return (u8)(0xa0 | d->tf.device);
    default:
        set_intrq(c, n, false);
        return status(c, d);
    }
}

static u64 ide_read(void *dev, u64 offset, unsigned size)
{
    struct ide_channel *c = dev;
    u64 v = 0;

    if (!decodes(c))
        return UINT64_MAX;
    pthread_mutex_lock(&c->lock);
    struct ata_drive *d = c->drive[selected(c)];
    if (offset == DATA)
        v = d ? ata_data_read(d, size) : 0;
    else
        for (unsigned i = 0; i < size && offset + i < IDE_PORTS; i++)
            v |= (u64)read_register(c, offset + i) << i * 8;
    pthread_mutex_unlock(&c->lock);
    return v;
}

static void push(u8 reg[2], u8 value)
{
    reg[1] = reg[0];
    reg[0] = value;
}

static void command(struct ide_channel *c, u8 value)
{
    struct ata_drive *d = c->drive[selected(c)];

    if (value == ATA_CMD_EXECUTE_DEVICE_DIAGNOSTIC) { /* both do, the first one answers */
        for (u32 i = 0; i < 2; i++)
            if (c->drive[i] && (c->drive[i]->phase != ATA_IDLE || c->drive[i]->resetting))
                return;
        c->device = 0;
        for (u32 i = 0; i < 2; i++)
            if (c->drive[i])
                ata_command(c->drive[i], value);
        c->intrq[1] = c->intrq[1] && !c->drive[0];
        return update_line(c);
    }
    if (!d || d->resetting || (value == ATA_CMD_DEVICE_RESET ? !d->c.cdrom : d->phase != ATA_IDLE))
        return;
    set_intrq(c, selected(c), false);
    c->bm_eot = false;
    if (!(c->bm_status & ACTIVE))
        c->bm_base = 0;
    ata_command(d, value);
}

static void write_register(struct ide_channel *c, u64 offset, u8 value)
{
    struct ata_drive *s = c->drive[selected(c)];

    if (offset == STATUS_COMMAND)
        return command(c, value);
    if (s && (s->phase != ATA_IDLE || s->resetting) && offset != DEVICE)
        return;
    c->control &= (u8)~HOB;
    for (u32 i = 0; i < 2; i++) {
        struct ata_drive *d = c->drive[i];
        if (!d || d->phase != ATA_IDLE || d->resetting)
            continue;
        u8 *const regs[] = { NULL, d->tf.feature, d->tf.count, d->tf.lba_low, d->tf.lba_mid, d->tf.lba_high };
        if (offset == DEVICE)
            d->tf.device = value;
        else
            push(regs[offset], value);
    }
    if (offset == DEVICE) {
        c->device = value;
        update_line(c);
    }
}

static void ide_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct ide_channel *c = dev;

    if (!decodes(c))
        return;
    pthread_mutex_lock(&c->lock);
    struct ata_drive *d = c->drive[selected(c)];
    if (offset == DATA && d)
        ata_data_write(d, (u32)value, size);
    for (unsigned i = 0; offset != DATA && i < size && offset + i < IDE_PORTS; i++)
        write_register(c, offset + i, (u8)(value >> i * 8));
    pthread_mutex_unlock(&c->lock);
}

const struct bus_ops ide_ops = { ide_read, ide_write, 1, 4 };

static u64 control_read(void *dev, u64 offset, unsigned size)
{
    struct ide_channel *c = dev;

    if (!decodes(c))
        return UINT64_MAX;
    pthread_mutex_lock(&c->lock);
    const struct ata_drive *d = c->drive[selected(c)];
    const u8 v = d ? status(c, d) : 0;
    pthread_mutex_unlock(&c->lock);
    return v;
}

static void soft_reset(struct ide_channel *c)
{
    c->device = 0;
    c->intrq[0] = c->intrq[1] = false;
    c->bm_command = 0;
    c->bm_status &= (u8)~ACTIVE;
    for (u32 i = 0; i < 2; i++)
        if (c->drive[i])
            ata_reset(c->drive[i], false);
}

static void control_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct ide_channel *c = dev;

    if (!decodes(c))
        return;
    pthread_mutex_lock(&c->lock);
    if (value & SRST && !(c->control & SRST))
        soft_reset(c);
    c->control = (u8)value;
    update_line(c);
    pthread_mutex_unlock(&c->lock);
}

const struct bus_ops ide_control_ops = { control_read, control_write, 1, 1 };

/* ---- bus master registers ---- */

static u64 bm_read(void *dev, u64 offset, unsigned size)
{
    struct ide *x = dev;
    struct ide_channel *c = &x->channel[offset / BM_CHANNEL];
    u64 v = 0;

    pthread_mutex_lock(&c->lock);
    const u8 regs[BM_CHANNEL] = { c->bm_command, 0, c->bm_status, 0, (u8)c->bm_table, (u8)(c->bm_table >> 8),
                                  (u8)(c->bm_table >> 16), (u8)(c->bm_table >> 24) };
    for (unsigned i = 0; i < size && offset % BM_CHANNEL + i < BM_CHANNEL; i++)
        v |= (u64)regs[offset % BM_CHANNEL + i] << i * 8;
    pthread_mutex_unlock(&c->lock);
    return v;
}

static void bm_start(struct ide_channel *c)
{
    struct ata_drive *d = c->drive[selected(c)];

    c->bm_status |= ACTIVE;
    c->bm_eot = false;
    c->bm_base = !d ? 0 : d->phase == ATA_DMA ? d->moved : d->phase == ATA_IO ? d->io[0].done : 0;
    if (d)
        ata_dma_start(d);
}

static void bm_byte(struct ide_channel *c, u64 reg, u8 v)
{
    switch (reg) {
    case BMICX: {
        const bool start = v & SSBM && !(c->bm_command & SSBM);
        c->bm_command = v & (SSBM | RWCON);
        if (start)
            bm_start(c);
        else if (!(v & SSBM))
            c->bm_status &= (u8)~ACTIVE; /* what is under way still ends */
        break;
    }
    case BMISX:
        c->bm_status = (u8)((c->bm_status & ~(v & (BM_ERROR | INTERRUPT)) & ~DRIVES_DMA) | (v & DRIVES_DMA));
        break;
    case BMIDTPX ... BMIDTPX + 3: {
        const u32 shift = (u32)(reg - BMIDTPX) * 8;
        c->bm_table = ((c->bm_table & ~(0xffu << shift)) | (u32)v << shift) & ~3u;
        break;
    }
    default:
        break;
    }
}

static void bm_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct ide *x = dev;
    struct ide_channel *c = &x->channel[offset / BM_CHANNEL];

    pthread_mutex_lock(&c->lock);
    for (unsigned i = 0; i < size && offset % BM_CHANNEL + i < BM_CHANNEL; i++)
        bm_byte(c, offset % BM_CHANNEL + i, (u8)(value >> i * 8));
    pthread_mutex_unlock(&c->lock);
}

static const struct bus_ops bm_ops = { bm_read, bm_write, 1, 4 };

/* Drives that wait for the function to be made bus master. */
static void config_written(struct pci_function *f, u32 offset, u32 len)
{
    struct ide *x = container_of(f, struct ide, f);

    if (offset > COMMAND || offset + len <= COMMAND)
        return;
    for (u32 i = 0; i < IDE_DRIVES; i++) {
        struct ide_channel *c = &x->channel[i / 2];
        pthread_mutex_lock(&c->lock);
        if (c->drive[i % 2])
            ata_dma_start(c->drive[i % 2]);
        pthread_mutex_unlock(&c->lock);
    }
}

/* ---- life ---- */

static int loaded(void *obj, struct error *err)
{
    struct ide_channel *c = obj;

    c->bm_command &= SSBM | RWCON;
    c->bm_status &= ACTIVE | BM_ERROR | INTERRUPT | DRIVES_DMA;
    c->bm_table &= ~3u;
    c->level = c->intrq[selected(c)] && !(c->control & NIEN); /* no edge: BMISX has it */
    irq_set(&c->irq, c->level);
    return 0;
}

static const struct state_field fields[] = {
    STATE_FIELD(struct ide_channel, device, 1),     STATE_FIELD(struct ide_channel, control, 1),
    STATE_ARRAY(struct ide_channel, intrq, 1),      STATE_FIELD(struct ide_channel, bm_command, 1),
    STATE_FIELD(struct ide_channel, bm_status, 1),  STATE_FIELD(struct ide_channel, bm_table, 1),
    STATE_FIELD(struct ide_channel, bm_base, 1),    STATE_FIELD(struct ide_channel, bm_eot, 1),
    STATE_END,
};
static const struct state_desc state = { "ide", 1, fields, .post_load = loaded };

int ide_init(struct ide *x, const struct irq_line irq[IDE_CHANNELS], struct pci_bus *bus, u32 slot, u32 function,
             struct state_list *l, struct error *err)
{
    const struct pci_bar bar = { .size = BM_SIZE, .flags = PCI_BAR_IO, .ops = &bm_ops, .dev = x, .name = "ide-bm" };
    struct pci_function *f = &x->f;
    int rc;

    memset(x, 0, sizeof *x);
    x->state = l;
    for (u32 i = 0; i < IDE_CHANNELS; i++) {
        x->channel[i].ide = x;
        x->channel[i].irq = irq[i];
        pthread_mutex_init(&x->channel[i].lock, NULL);
    }
    pci_function_init(f, "piix3-ide", 0x8086, 0x7010, 0, 0x010180, 0, 0);
    pci_put16(f->config + STATUS, 0x280); /* fast back-to-back, medium DEVSEL */
    pci_bar_init(f, BAR, &bar);
    pci_put32(f->wmask + IDETIM, 0xf3fff3ff);
    f->wmask[SIDETIM] = 0xff;
    for (u32 i = 0; i < IDE_CHANNELS; i++)
        f->config[IDETIM + 1 + 2 * i] = IDE_DECODE; /* the chip comes up without; but OVMF leaves it as it is */
    f->config_written = config_written;
    for (u32 i = 0; i < IDE_CHANNELS && l; i++)
        if ((rc = state_add(l, &state, i, &x->channel[i])))
            return rc;
    return pci_add(bus, f, slot, function, l, err);
}

int ide_plug(struct ide *x, u32 place, const struct ata_drive_config *c, struct error *err)
{
    struct ide_channel *ch = &x->channel[place / 2];

    if (!(ch->drive[place % 2] = ata_new(c, &host_ops, ch, &ch->lock, err)))
        return -EINVAL;
    if (x->state && state_add(x->state, &ata_state, place, ch->drive[place % 2]))
        return error_set(err, ENOMEM, "out of memory");
    return 0;
}

struct ata_drive *ide_drive(struct ide *x, u32 place)
{
    return x->channel[place / 2].drive[place % 2];
}

void ide_destroy(struct ide *x)
{
    if (!x->channel[0].ide)
        return;
    for (u32 i = 0; i < IDE_DRIVES; i++)
        ata_free(ide_drive(x, i));
    for (u32 i = 0; i < IDE_CHANNELS; i++)
        pthread_mutex_destroy(&x->channel[i].lock);
    x->channel[0].ide = NULL;
}

void ide_reset(struct ide *x)
{
    for (u32 i = 0; i < IDE_DRIVES; i++)
        if (ide_drive(x, i))
            ata_power_on(ide_drive(x, i));
    for (u32 i = 0; i < IDE_CHANNELS; i++) {
        struct ide_channel *c = &x->channel[i];
        pthread_mutex_lock(&c->lock);
        c->device = c->control = c->bm_command = c->bm_status = 0;
        c->bm_table = 0;
        c->bm_base = 0;
        c->bm_eot = c->intrq[0] = c->intrq[1] = false;
        update_line(c);
        pthread_mutex_unlock(&c->lock);
    }
}

void ide_settle(struct ide *x)
{
    for (u32 i = 0; i < IDE_DRIVES; i++)
        if (ide_drive(x, i))
            ata_settle(ide_drive(x, i));
}

void ide_resume(struct ide *x)
{
    for (u32 i = 0; i < IDE_DRIVES; i++)
        if (ide_drive(x, i))
            ata_resume(ide_drive(x, i));
}
