/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahci_port.c - commands of an AHCI port: from the list in memory into the drive, data by the PRD table, frames back.
 * AHCI 1.3.1 ch. 4 (structures), 5 (the port's states), 6 (errors); Serial ATA 2.6 ch. 10.3 (frames).
 *
 * A command that is not queued is alone: it is taken when no other is under way, and the drive then works on it by its
 * registers.  Queued ones are accepted as they come.
 */
#include <errno.h>
#include <string.h>

#include "devices/ahci_private.h"

enum { HEADER_SIZE = 32, ACMD = 0x40, PRDT = 0x80, PRD_BATCH = 32, CFIS_SIZE = 20, PRDBC = 4 };
enum { HEADER_A = 1 << 5, HEADER_C = 1 << 10 };
enum { FIS_H2D = 0x27, FIS_D2H = 0x34, FIS_PIO = 0x5f, FIS_SDB = 0xa1, FIS_C = 0x80, FIS_I = 0x40, FIS_D = 0x20 };
enum { RX_PIO = 0x20, RX_D2H = 0x40, RX_SDB = 0x58 }; /* where frames are received */
enum { CONTROL_SRST = 4 };

struct header { /* of a command: 4.2.2 */
    u32 flags, prdbc, ctba, ctbau;
};
struct prd {
    u32 dba, dbau, reserved, dbc;
};

static struct memory *memory(const struct ahci_port *p)
{
    return p->drive->c.memory;
}

static bool header(const struct ahci_port *p, u32 slot, struct header *h)
{
    if (memory_read(memory(p), p->clb + slot * HEADER_SIZE, h, sizeof *h))
        return false;
    h->ctba &= ~0x7fu;
    return true;
}

static u64 table(const struct header *h)
{
    return h->ctba | (u64)h->ctbau << 32;
}

/* ---- frames to the host -------------------------------------------------- */

static void post(struct ahci_port *p, u32 at, const void *fis, u32 len)
{
    if (p->cmd & CMD_FRE)
        (void)!memory_write(memory(p), p->fb + at, fis, len);
}

static void registers(u8 *fis, const struct ata_drive *d)
{
    fis[2] = d->status;
    fis[3] = d->error;
    fis[4] = d->tf.lba_low[0];
    fis[5] = d->tf.lba_mid[0];
    fis[6] = d->tf.lba_high[0];
    fis[7] = d->tf.device;
    fis[8] = d->tf.lba_low[1];
    fis[9] = d->tf.lba_mid[1];
    fis[10] = d->tf.lba_high[1];
    fis[12] = d->tf.count[0];
    fis[13] = d->tf.count[1];
}

static void post_d2h(struct ahci_port *p, bool interrupt)
{
    u8 fis[20] = { FIS_D2H, interrupt ? FIS_I : 0 };

    registers(fis, p->drive);
    post(p, RX_D2H, fis, sizeof fis);
    p->tfd = (u32)p->drive->error << 8 | p->drive->status;
    if (interrupt)
        ahci_raise(p, IS_DHRS);
}

static void post_pio(struct ahci_port *p, u32 len, bool in, bool interrupt, u8 end_status)
{
    u8 fis[20] = { FIS_PIO, (u8)((interrupt ? FIS_I : 0) | (in ? FIS_D : 0)) };

    registers(fis, p->drive);
    fis[15] = end_status;
    fis[16] = (u8)len;
    fis[17] = (u8)(len >> 8);
    post(p, RX_PIO, fis, sizeof fis);
    p->tfd = end_status;
    if (interrupt)
        ahci_raise(p, IS_PSS);
}

static void post_sdb(struct ahci_port *p, u32 tags, u8 status, u8 error)
{
    const u8 fis[8] = { FIS_SDB, FIS_I, status & 0x77, error, (u8)tags, (u8)(tags >> 8), (u8)(tags >> 16), (u8)(tags >> 24) };

    post(p, RX_SDB, fis, sizeof fis);
    p->tfd = (u32)error << 8 | status;
    p->sact &= ~tags;
    ahci_raise(p, IS_SDBS);
}

static void byte_count(struct ahci_port *p, u32 slot, u32 bytes)
{
    (void)!memory_write(memory(p), p->clb + slot * HEADER_SIZE + PRDBC, &bytes, sizeof bytes);
}

/* ---- what drives ask ------------------------------------------------------ */

static u32 slot_of(const struct ahci_port *p, u32 tag)
{
    return p->slot != AHCI_NO_SLOT ? p->slot : tag;
}

static int map(void *host, struct ata_drive *d, u32 tag, u64 at, u64 len, bool to_memory, struct ata_sg *sg)
{
    struct ahci_port *p = host;
    struct prd prd[PRD_BATCH];
    struct header h;

    if (!header(p, slot_of(p, tag), &h))
        return -EFAULT;
    const u32 n = h.flags >> 16;
    for (u32 i = 0; i < n && len && sg->n < ATA_SG; i++) {
        if (i % PRD_BATCH == 0 && memory_read(memory(p), table(&h) + PRDT + i * sizeof prd[0], prd,
                                              MIN(n - i, (u32)PRD_BATCH) * sizeof prd[0]))
            return -EFAULT;
        const struct prd *e = &prd[i % PRD_BATCH];
        const u64 size = (e->dbc & 0x3fffff) + 1u, take = at < size ? MIN(size - at, len) : 0, before = sg->len;
        if (take && !ata_sg_add(sg, memory(p), (e->dba | (u64)e->dbau << 32) + at, take, to_memory))
            return -EFAULT;
        len -= sg->len - before;
        at -= MIN(at, size);
    }
    return 0;
}

static bool dma_ready(void *host, struct ata_drive *d)
{
    const struct ahci_port *p = host;
    return pci_bus_master(&p->hba->f);
}

static void halt(struct ahci_port *p, u32 why)
{
    p->halted = true;
    ahci_raise(p, why | IS_TFES);
}

/* The command in p->slot has ended. */
static void ended(struct ahci_port *p, bool quiet, u32 error)
{
    struct ata_drive *d = p->drive;
    const u32 slot = p->slot;

    if (slot == AHCI_NO_SLOT)
        return;
    byte_count(p, slot, (u32)(p->moved ? p->moved : d->moved ? d->moved : d->io[0].done));
    p->slot = AHCI_NO_SLOT;
    if (d->status & ATA_ERR || error) {
        d->status |= ATA_ERR;
        post_d2h(p, true);
        return halt(p, error);
    }
    p->ci &= ~(u32)BIT(slot);
    if (quiet)
        p->tfd = d->status;
    else
        post_d2h(p, true);
}

static void event(void *host, struct ata_drive *d, enum ata_event e)
{
    struct ahci_port *p = host;

    switch (e) {
    case ATA_EVENT_DONE:
    case ATA_EVENT_DONE_QUIET:
        ended(p, e == ATA_EVENT_DONE_QUIET, 0);
        break;
    case ATA_EVENT_STALLED:
        d->error = ATA_ABRT;
        ended(p, false, IS_OFS);
        break;
    case ATA_EVENT_BUS_ERROR:
        ahci_raise(p, IS_HBFS);
        break;
    case ATA_EVENT_RESET:
        p->signature = true;
        if (p->slot != AHCI_NO_SLOT) { /* DEVICE RESET */
            p->ci &= ~(u32)BIT(p->slot);
            p->slot = AHCI_NO_SLOT;
        }
        ahci_port_receive(p);
        break;
    case ATA_EVENT_QUIET:
        if (!(p->cmd & CMD_ST))
            p->cmd &= ~(u32)CMD_CR;
        if (p->hba->ghc & 1) { /* HR falls when all drives have been reset */
            bool all = true;
            for (u32 i = 0; i < AHCI_PORTS; i++)
                all = all && (!p->hba->port[i].drive || !p->hba->port[i].drive->resetting);
            p->hba->ghc &= all ? ~1u : ~0u;
        }
        break;
    default: /* a block: pump() sees to it */
        break;
    }
}

static void queued_done(void *host, struct ata_drive *d, u32 tag, bool ok)
{
    struct ahci_port *p = host;

    if (p->halted) /* its end is not told any more: 6.2.2.2 */
        return;
    if (ok)
        return post_sdb(p, (u32)BIT(tag), ATA_DRDY | ATA_DSC, 0);
    post_sdb(p, 0, d->queue_status, d->queue_error_register);
    halt(p, 0);
    (void)ata_abort(d);
}

/* ---- blocks ---------------------------------------------------------------- */

static bool move_block(struct ahci_port *p, bool in)
{
    struct ata_drive *d = p->drive;
    struct ata_sg *sg = &d->io[0].sg;
    u32 len, done = 0;
    u8 *block = ata_block(d, &len);

    while (done < len) {
        sg->n = 0;
        sg->len = 0;
        if (map(p, d, 0, p->moved, len - done, in, sg))
            return false;
        if (!sg->len) /* no place for the rest, or nothing to take it from */
            break;
        for (u32 i = 0; i < sg->n; i++) {
            const u32 n = (u32)sg->iov[i].iov_len;
            memcpy(in ? sg->iov[i].iov_base : block + done, in ? block + done : sg->iov[i].iov_base, n);
            if (in)
                memory_place_written(memory(p), sg->place[i], n);
            done += n;
            p->moved += n;
        }
    }
    if (!in)
        memset(block + done, 0, len - done);
    return true;
}

static void pump(struct ahci_port *p)
{
    struct ata_drive *d = p->drive;

    while (p->slot != AHCI_NO_SLOT && d->phase >= ATA_PACKET && d->phase <= ATA_PIO_OUT && !d->frozen) {
        struct header h;
        u32 len;
        u8 *block = ata_block(d, &len);
        const bool in = d->phase == ATA_PIO_IN, first = !p->moved;
        bool ok;
        if (d->phase == ATA_PACKET) {
            ok = header(p, p->slot, &h) && !memory_read(memory(p), table(&h) + ACMD, block, ATA_CDB);
        } else {
            const bool last = d->buffer_pos + len == d->buffer_len && !(d->medium && d->left) && !d->c.cdrom;
            ok = move_block(p, in);
            if (ok)
                byte_count(p, p->slot, p->moved);
            if (ok)
                post_pio(p, len, in, in || !first, last && in ? ATA_DRDY | ATA_DSC : ATA_BSY | ATA_DRDY);
        }
        if (!ok) {
            ahci_raise(p, IS_HBFS);
            d->error = ATA_ABRT;
            d->phase = ATA_IDLE;
            ended(p, false, IS_HBFS);
            return;
        }
        ata_block_done(d);
    }
}

/* ---- commands --------------------------------------------------------------- */

static void load(struct ata_tf *tf, const u8 *fis)
{
    *tf = (struct ata_tf){
        .feature = { fis[3], fis[11] }, .count = { fis[12], fis[13] }, .lba_low = { fis[4], fis[8] },
        .lba_mid = { fis[5], fis[9] }, .lba_high = { fis[6], fis[10] }, .device = fis[7],
    };
}

static void control_frame(struct ahci_port *p, u32 slot, u8 control)
{
    const bool srst = control & CONTROL_SRST, reset = srst && !p->srst;

    p->ci &= ~(u32)BIT(slot);
    p->srst = srst;
    if (reset) {
        p->tfd = ATA_BSY;
        ata_reset(p->drive, false);
    } else if (!srst) {
        ahci_port_receive(p);
    }
}

static void refused(struct ahci_port *p)
{
    p->tfd = (u32)(p->drive->queue_error_register ? p->drive->queue_error_register : ATA_ABRT) << 8 | ATA_DRDY | ATA_DSC | ATA_ERR;
    halt(p, 0);
    (void)ata_abort(p->drive);
}

/* False: it has to wait. */
static bool begin(struct ahci_port *p, u32 slot)
{
    struct ata_drive *d = p->drive;
    struct header h;
    struct ata_tf tf;
    u8 fis[CFIS_SIZE];

    if (!header(p, slot, &h) || memory_read(memory(p), table(&h), fis, sizeof fis)) {
        p->halted = true;
        ahci_raise(p, IS_HBFS);
        return false;
    }
    p->cmd = (p->cmd & ~0x1f00u) | slot << 8; /* CCS */
    if (fis[0] != FIS_H2D) {
        p->ci &= ~(u32)BIT(slot);
        return true;
    }
    if (!(fis[1] & FIS_C)) {
        control_frame(p, slot, fis[15]);
        return true;
    }
    load(&tf, fis);
    if (fis[2] == ATA_CMD_READ_FPDMA || fis[2] == ATA_CMD_WRITE_FPDMA) {
        if (tf.count[0] >> 3 != slot || !ata_queue(d, fis[2], slot, &tf)) {
            refused(p);
            return false;
        }
        p->ci &= ~(u32)BIT(slot);
        p->tfd = ATA_DRDY | ATA_DSC;
        return true;
    }
    if (d->queued) { /* not while queued ones are under way (ATA8-ACS 4.15.2) */
        refused(p);
        return false;
    }
    d->tf = tf;
    p->slot = (u8)slot;
    p->moved = 0;
    byte_count(p, slot, 0);
    ata_command(d, fis[2]);
    pump(p);
    return true;
}

void ahci_port_run(struct ahci_port *p)
{
    struct ata_drive *d = p->drive;

    while (d && p->cmd & CMD_ST && !p->halted && p->slot == AHCI_NO_SLOT && p->ci && !d->resetting && !d->frozen &&
           (d->queued || !d->busy) && pci_bus_master(&p->hba->f)) {
        u32 slot = p->next;
        while (!(p->ci & BIT(slot)))
            slot = (slot + 1) % ATA_TAGS;
        p->next = (u8)((slot + 1) % ATA_TAGS);
        if (!begin(p, slot))
            break;
    }
}

static void run(void *host, struct ata_drive *d)
{
    struct ahci_port *p = host;

    pump(p);
    ahci_port_run(p);
}

const struct ata_host_ops ahci_port_ops = { map, dma_ready, event, queued_done, run };

/* ---- the port ---------------------------------------------------------------- */

void ahci_port_start(struct ahci_port *p)
{
    p->cmd |= CMD_CR;
    p->cmd &= ~0x1f00u;
    p->next = 0;
    p->halted = false;
}

void ahci_port_stop(struct ahci_port *p)
{
    p->ci = p->sact = 0;
    p->slot = AHCI_NO_SLOT;
    p->halted = false;
    if (!p->drive || ata_abort(p->drive))
        p->cmd &= ~(u32)CMD_CR; /* else when all is quiet */
}

void ahci_port_receive(struct ahci_port *p)
{
    struct ata_drive *d = p->drive;

    if (!d || !p->signature || d->resetting || p->srst || !(p->cmd & CMD_FRE))
        return;
    p->signature = false;
    p->sig = (u32)d->tf.lba_high[0] << 24 | (u32)d->tf.lba_mid[0] << 16 | (u32)d->tf.lba_low[0] << 8 | d->tf.count[0];
    post_d2h(p, false);
}

void ahci_port_comreset(struct ahci_port *p)
{
    p->tfd = p->drive ? ATA_BSY : TFD_NONE;
    p->slot = AHCI_NO_SLOT;
    p->srst = false;
    if (p->drive)
        ata_reset(p->drive, true);
}
