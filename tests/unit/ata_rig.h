/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ata_rig.h - drives on a bench: disks that carry requests out when the test says so, guest memory, a PCI bus, a loop that
 * turns when asked.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_ATA_RIG_H
#define LODGE_TEST_ATA_RIG_H

#include <errno.h>
#include <stdlib.h>

#include "block/block.h"
#include "fake_loop.h"
#include "memory/bus.h"
#include "memory/memory.h"
#include "pci/pci.h"
#include "test.h"

/* ---- disks ---- */

enum { DISK = 16 << 20, PENDING = 64, RAM = 16 << 20 };

struct block {
    u8 *data;
    u64 size;
    bool readonly;
    struct block_request *rq[PENDING];
    u32 n;
    unsigned ops[5], chunks;
    int fail;        /* the next request ends so, */
    u64 fail_after;  /* if it reaches this byte */
};

u64 block_size(const struct block *b) { return b->size; }
bool block_readonly(const struct block *b) { return b->readonly; }
u32 block_alignment(const struct block *b) { return 4096; }
const char *block_path(const struct block *b) { return "disk.img"; }
void block_kick(struct block *b) {}

void block_submit(struct block *b, struct block_request *rq)
{
    u64 len = 0;

    if (b->n == PENDING || (rq->op != BLOCK_FLUSH && (!rq->len || (rq->len | rq->offset) % 512 || rq->offset > b->size ||
                                                      rq->len > b->size - rq->offset)))
        abort();
    if (rq->op == BLOCK_READ || rq->op == BLOCK_WRITE) {
        for (u32 i = 0; i < rq->niov; i++)
            len += rq->iov[i].iov_len;
        if (len != rq->len || rq->niov > BLOCK_MAX_IOV || (rq->op == BLOCK_WRITE && b->readonly))
            abort();
    }
    b->rq[b->n++] = rq;
    b->ops[rq->op]++;
    b->chunks++;
}

static inline void finish(struct block *b, u32 i, int result)
{
    struct block_request *rq = b->rq[i];
    u64 at = rq->offset;

    b->rq[i] = b->rq[--b->n];
    for (u32 v = 0; !result && rq->op <= BLOCK_WRITE && v < rq->niov; at += rq->iov[v++].iov_len)
        memcpy(rq->op == BLOCK_READ ? rq->iov[v].iov_base : b->data + at,
               rq->op == BLOCK_READ ? b->data + at : rq->iov[v].iov_base, rq->iov[v].iov_len);
    if (!result && rq->op == BLOCK_DISCARD)
        memset(b->data + at, 0, rq->len);
    rq->done(rq, result);
}

static inline int result_of(struct block *b, const struct block_request *rq)
{
    int r = b->fail;

    if (!r || rq->offset + rq->len <= b->fail_after)
        return 0;
    b->fail = 0;
    return r;
}

void block_drain(struct block *b)
{
    while (b->n)
        finish(b, b->n / 2, result_of(b, b->rq[b->n / 2]));
}

static inline struct block *disk_new(u64 size)
{
    struct block *b = calloc(1, sizeof *b);

    b->data = malloc(size);
    b->size = size;
    for (u64 i = 0; i < size; i += 4) {
        u32 v = (u32)(i * 2654435761u ^ i >> 9);
        memcpy(b->data + i, &v, 4);
    }
    return b;
}

static inline void disk_free(struct block *b)
{
    free(b->data);
    free(b);
}

/* ---- the rest ---- */

struct rig {
    struct memory *memory;
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    bool intx;
    unsigned messages, stops, goes;
    bool irq[16];
    unsigned edges[16];
};

static inline void rig_irq(void *ctx, u32 pin, bool level)
{
    struct rig *r = ctx;
    r->edges[pin] += level && !r->irq[pin];
    r->irq[pin] = level;
}
static void rig_intx(void *ctx, u32 pin, bool level) { ((struct rig *)ctx)->intx = level; }
static void rig_msi(void *ctx, u64 address, u32 data) { ((struct rig *)ctx)->messages++; }
static inline void rig_stop(void *ctx, const char *why) { ((struct rig *)ctx)->stops++; }
static inline void rig_go(void *ctx) { ((struct rig *)ctx)->goes++; }

static inline void rig_open(struct rig *r)
{
    struct pci_bus_config c = { .msi = rig_msi, .ctx = r, .mmio32 = 0xc0000000, .mmio32_size = 0x10000000, .io = 0xc000,
                                .io_size = 0x1000, .ecam = 0xe0000000 };

    memset(r, 0, sizeof *r);
    c.ports = r->ports = bus_new(0x10000);
    c.mmio = r->mmio = bus_new(1ull << 40);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ rig_intx, r, i };
    r->memory = memory_new(NULL);
    r->state = state_list_new();
    if (!r->memory || memory_add(r->memory, "ram", 0, RAM, false, NULL) || !(r->pci = pci_bus_new(&c, NULL)))
        abort();
}

static inline void rig_close(struct rig *r)
{
    pci_bus_free(r->pci);
    state_list_free(r->state);
    memory_free(r->memory);
    bus_free(r->ports);
    bus_free(r->mmio);
}

static inline u8 *ram(struct rig *r, u64 gpa, u64 len)
{
    u8 *p = memory_ptr(r->memory, gpa, len, true);

    if (!p)
        abort();
    return p;
}
static inline void put32(struct rig *r, u64 gpa, u32 v) { memcpy(ram(r, gpa, 4), &v, 4); }
static inline u32 get32(struct rig *r, u64 gpa)
{
    u32 v;
    memcpy(&v, ram(r, gpa, 4), 4);
    return v;
}

/* The loop turns, and what the disk has to do is done, until nothing happens any more. */
static inline void turns(struct block *b)
{
    for (;;) {
        bool more = fake_run_posts();
        more = fake_advance(0) || more;
        if (b && b->n) {
            const u32 i = (b->n - 1) / 2;
            finish(b, i, result_of(b, b->rq[i]));
            more = true;
        }
        if (!more)
            return;
    }
}

#endif
