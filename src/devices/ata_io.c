/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata_io.c - what a drive asks of the block layer, in chunks: as much at a time as there is room for in a struct ata_sg.
 *
 * An io is begun by whoever has the lock, and submitted on the loop's thread: at once if that is us, else after a kick.
 * One that is given up while it is under way has op NONE from then on, and ends unheard.  After an error of the host's
 * that the policy lets wait it is parked; then nothing new is begun, and all parked ones are tried again each second.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "devices/ata_internal.h"

#define RETRY_NS 1000000000ull

bool ata_sg_add(struct ata_sg *sg, struct memory *m, u64 gpa, u64 len, bool write)
{
    while (len && sg->n < ATA_SG) {
        const u32 last = sg->n - 1;
        struct memory_region r;

        if (!memory_find(m, gpa, &r) || (write && r.readonly))
            return false;
        const u64 n = MIN(len, r.gpa + r.size - gpa), place = r.place + (gpa - r.gpa);
        u8 *p = r.host + (gpa - r.gpa);
        if (sg->n && (u8 *)sg->iov[last].iov_base + sg->iov[last].iov_len == p &&
            sg->place[last] + sg->iov[last].iov_len == place) {
            sg->iov[last].iov_len += n;
        } else {
            sg->iov[sg->n] = (struct iovec){ p, n };
            sg->place[sg->n++] = place;
        }
        sg->len += n;
        gpa += n;
        len -= n;
    }
    return true;
}

static void trim(struct ata_sg *sg, u64 len)
{
    while (sg->len > len) {
        struct iovec *last = &sg->iov[sg->n - 1];
        u64 n = MIN(sg->len - len, last->iov_len);
        last->iov_len -= n;
        sg->len -= n;
        sg->n -= !last->iov_len;
    }
}

static void done(struct block_request *rq, int result);

/* Which of them it is. */
static u32 tag_of(const struct ata_io *io)
{
    return (u32)(io - io->d->io);
}

static bool direct(const struct ata_io *io)
{
    return !io->buffered && (io->op == ATA_IO_READ || io->op == ATA_IO_WRITE);
}

/* 0, 1: it has to wait, or -errno. */
static int prepare(struct ata_drive *d, struct ata_io *io)
{
    int rc;

    io->chunk = io->len - io->done;
    io->rq.iov = &io->one;
    io->rq.niov = 1;
    if (io->buffered) {
        io->one = (struct iovec){ d->buffer + io->buffer_at + io->done, io->chunk };
        return 0;
    }
    if (!direct(io))
        return 0;
    if (!d->host->dma_ready(d->host_ctx, d))
        return 1;
    io->sg.n = 0;
    io->sg.len = 0;
    rc = d->host->map(d->host_ctx, d, tag_of(io), io->done, io->chunk, io->op == ATA_IO_READ, &io->sg);
    if (rc)
        return rc;
    trim(&io->sg, MIN(io->chunk, align_down(io->sg.len, BLOCK_SECTOR)));
    io->chunk = io->sg.len;
    io->rq.iov = io->sg.iov;
    io->rq.niov = io->sg.n;
    return io->chunk ? 0 : -ENOBUFS;
}

static void unpark(struct ata_io *io)
{
    if (io->parked) {
        io->parked = false;
        io->d->parked--;
    }
    if (io->retried) {
        io->retried = false;
        io->d->retrying--;
    }
}

static void end(struct ata_io *io, int result)
{
    unpark(io);
    io->op = ATA_IO_NONE;
    ata_io_ended(io->d, io, result);
}

static void submit(struct ata_io *io)
{
    static const enum block_op ops[] = {
        [ATA_IO_READ] = BLOCK_READ, [ATA_IO_WRITE] = BLOCK_WRITE, [ATA_IO_FLUSH] = BLOCK_FLUSH, [ATA_IO_DISCARD] = BLOCK_DISCARD,
    };
    struct ata_drive *d = io->d;

    if (!d->c.block)
        return end(io, -ENOMEDIUM);
    io->rq = (struct block_request){ .op = ops[io->op], .done = done };
    const int rc = prepare(d, io);
    if (rc > 0)
        return;
    if (rc)
        return end(io, rc);
    if (io->op != ATA_IO_FLUSH) {
        io->rq.offset = io->offset + io->done;
        io->rq.len = io->chunk;
    }
    io->under_way = true;
    d->busy++;
    d->submitted = true;
    block_submit(d->c.block, &io->rq);
}

void ata_io_run(struct ata_drive *d)
{
    for (u32 i = 0; i < ATA_TAGS; i++) {
        struct ata_io *io = &d->io[i];
        if (i && !(d->queued & BIT(i)))
            continue;
        if (io->op && !io->under_way && !io->parked && !d->frozen && (!d->stopped || io->retried))
            submit(io);
    }
    if (d->submitted) {
        d->submitted = false;
        block_kick(d->c.block);
    }
}

void ata_io_start(struct ata_drive *d, u32 tag, struct ata_io io)
{
    struct ata_io *to = &d->io[tag];

    assert(!to->op && !to->under_way);
    to->d = d;
    to->op = io.op;
    to->buffered = io.buffered;
    to->fua = io.fua;
    to->buffer_at = io.buffer_at;
    to->offset = io.offset;
    to->len = io.len;
    to->done = 0;
    to->parked = to->retried = false;
    loop_kick(&d->kick);
}

/* ---- errors that may wait ---- */

static void tell(struct timer *t)
{
    struct ata_drive *d = container_of(t, struct ata_drive, tell);

    pthread_mutex_lock(d->lock);
    if (d->stopped && !d->parked && !d->retrying) {
        d->stopped = false;
        timer_disarm(&d->retry);
        ata_io_run(d);
    }
    const bool stopped = d->stopped, changed = stopped != d->told;
    d->told = stopped;
    pthread_mutex_unlock(d->lock);
    if (changed && stopped)
        d->c.stop(d->c.ctx, d->why);
    else if (changed)
        d->c.go(d->c.ctx);
}

static bool may_stop(const struct ata_drive *d, const struct ata_io *io, int error)
{
    return config_may_wait(io->op == ATA_IO_READ ? d->c.rerror : d->c.werror, error);
}

static void park(struct ata_io *io, int error)
{
    struct ata_drive *d = io->d;

    if (!d->stopped)
        snprintf(d->why, sizeof d->why, "%s of %s failed: %s; it is tried again each second",
                 io->op == ATA_IO_READ ? "a read" : io->op == ATA_IO_FLUSH ? "a flush" : "a write", block_path(d->c.block),
                 error == ENOSPC ? "the host's disk is full, or a limit (ulimit -f, a quota) reached" : strerror(error));
    d->stopped = true;
    io->parked = true;
    d->parked++;
    timer_arm(&d->retry, clock_ns() + RETRY_NS);
    timer_arm(&d->tell, 0);
}

static void retry(struct timer *t)
{
    struct ata_drive *d = container_of(t, struct ata_drive, retry);

    pthread_mutex_lock(d->lock);
    for (u32 i = 0; i < ATA_TAGS; i++) {
        struct ata_io *io = &d->io[i];
        if (!io->parked)
            continue;
        unpark(io);
        io->retried = true;
        d->retrying++;
    }
    ata_io_run(d);
    pthread_mutex_unlock(d->lock);
}

/* Gives up the requests that wait for the host, and those that have not begun. */
void ata_io_forget(struct ata_drive *d)
{
    for (u32 i = 0; i < ATA_TAGS; i++) {
        unpark(&d->io[i]);
        d->io[i].op = ATA_IO_NONE;
    }
    if (d->stopped)
        timer_arm(&d->tell, 0);
}

/* ---- the end of a chunk ---- */

static void chunk_done(struct ata_io *io, int result)
{
    struct ata_drive *d = io->d;
    const bool again = io->retried;

    unpark(io);
    if (again && d->stopped)
        timer_arm(&d->tell, 0);
    if (result < 0)
        return may_stop(d, io, -result) ? park(io, -result) : end(io, result);
    io->done += io->chunk;
    if (io->done < io->len)
        return; /* ata_io_run goes on */
    if (io->op == ATA_IO_WRITE && io->fua) {
        io->op = ATA_IO_FLUSH;
        io->len = io->done = 0;
        return;
    }
    end(io, 0);
}

static void done(struct block_request *rq, int result)
{
    struct ata_io *io = container_of(rq, struct ata_io, rq);
    struct ata_drive *d = io->d;

    pthread_mutex_lock(d->lock);
    io->under_way = false;
    d->busy--;
    if (rq->op == BLOCK_READ && rq->iov == io->sg.iov)
        for (u32 i = 0; i < io->sg.n; i++)
            memory_place_written(d->c.memory, io->sg.place[i], io->sg.iov[i].iov_len);
    if (io->op)
        chunk_done(io, result);
    else if (!d->busy)
        ata_quiet(d);
    if (d->host->run)
        d->host->run(d->host_ctx, d);
    ata_io_run(d);
    pthread_mutex_unlock(d->lock);
}

static void kicked(struct loop_kick *k)
{
    struct ata_drive *d = container_of(k, struct ata_drive, kick);

    pthread_mutex_lock(d->lock);
    ata_io_run(d);
    if (d->host->run)
        d->host->run(d->host_ctx, d);
    pthread_mutex_unlock(d->lock);
}

/* ---- life ---- */

void ata_io_drain(struct ata_drive *d)
{
    pthread_mutex_lock(d->lock);
    d->frozen = true;
    pthread_mutex_unlock(d->lock);
    if (d->c.block)
        block_drain(d->c.block);
}

void ata_io_init(struct ata_drive *d)
{
    loop_kick_init(&d->kick, d->c.loop, kicked);
    timer_init(&d->retry, d->c.loop, retry);
    timer_init(&d->tell, d->c.loop, tell);
    for (u32 i = 0; i < ATA_TAGS; i++)
        d->io[i].d = d;
}

void ata_io_free(struct ata_drive *d)
{
    ata_io_drain(d);
    timer_disarm(&d->retry);
    timer_disarm(&d->tell);
    loop_kick_remove(&d->kick);
}

/* As it is in the state that was loaded. */
bool ata_io_valid(const struct ata_drive *d, const struct ata_io *io)
{
    switch (io->op) {
    case ATA_IO_NONE:
    case ATA_IO_FLUSH:
        return true;
    case ATA_IO_READ:
    case ATA_IO_WRITE:
    case ATA_IO_DISCARD:
        return io->len && !((io->offset | io->len | io->done) % BLOCK_SECTOR) && io->offset <= d->size &&
               io->len <= d->size - io->offset && io->done < io->len &&
               (!io->buffered || (io->buffer_at < ATA_BUFFER && io->len <= ATA_BUFFER - io->buffer_at)) &&
               (io->op != ATA_IO_DISCARD || !io->done);
    default:
        return false;
    }
}
