/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_rig.h - a virtio device that does nothing but remember, behind either transport, found as a driver finds it
 * (VIRTIO 1.2, 4.1 and 4.2).  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_TRANSPORT_RIG_H
#define LODGE_TEST_TRANSPORT_RIG_H

#include "test.h"

#include <stdlib.h>

#include "fake_loop.h"
#include "virtio_driver.h"

enum { QUEUES = 3, CONFIG_SIZE = 10 };

/* ---- a device that does nothing but remember ------------------------------ */

struct dummy {
    struct virtio_device d;
    u8 config[CONFIG_SIZE];
    u64 features;
    u32 kicked, driver_oks, resumes, settles;
    bool slow; /* resets wait for finish() */
};

static inline struct dummy *dummy(struct virtio_device *d) { return container_of(d, struct dummy, d); }

static inline void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    CHECK(offset + len <= CONFIG_SIZE);
    memcpy(to, dummy(d)->config + offset, len);
}

static inline void config_write(struct virtio_device *d, u32 offset, const void *from, u32 len)
{
    CHECK(offset + len <= CONFIG_SIZE);
    memcpy(dummy(d)->config + offset, from, len);
}

static inline void features(struct virtio_device *d, u64 agreed) { dummy(d)->features = agreed; }
static inline void driver_ok(struct virtio_device *d) { dummy(d)->driver_oks++; }
static inline void kick(struct virtio_device *d, struct virtio_queue *q) { dummy(d)->kicked |= 1u << q->index; }
static inline bool reset(struct virtio_device *d) { return !dummy(d)->slow; }
static inline bool queue_reset(struct virtio_device *d, struct virtio_queue *q) { return !dummy(d)->slow; }
static inline void settle(struct virtio_device *d) { dummy(d)->settles++; }
static inline void resume(struct virtio_device *d) { dummy(d)->resumes++; }

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_NET, .name = "dummy", .config_size = CONFIG_SIZE, .config_read = config_read,
    .config_write = config_write, .features = features, .driver_ok = driver_ok, .kick = kick, .reset = reset,
    .queue_reset = queue_reset, .settle = settle, .resume = resume,
};

/* ---- the machine ---------------------------------------------------------- */

struct message {
    u64 address;
    u32 data;
};

struct world {
    struct memory *m;
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    struct dummy *x;
    struct virtio_transport *t;
    struct pci_function *f;
    u64 common, isr, device, notify; /* addresses */
    u32 notify_size;
    bool line;
    u32 edges;
    struct message message[64];
    u32 messages;
};

static inline void set_line(void *chip, u32 pin, bool level)
{
    struct world *w = chip;
    w->edges += level && !w->line;
    w->line = level;
}

static inline void on_msi(void *ctx, u64 address, u32 data)
{
    struct world *w = ctx;
    w->message[w->messages++ % 64] = (struct message){ address, data };
}

static inline void open_world(struct world *w, bool is_pci)
{
    static const u16 sizes[QUEUES] = { 64, 256, 1024 };
    struct pci_bus_config c = { .msi = on_msi, .ctx = w, .mmio32 = 0xc0000000, .mmio32_size = MiB(16),
                                .mmio64 = GiB(64), .mmio64_size = GiB(1) };
    struct error err = { "" };

    memset(w, 0, sizeof(*w));
    w->m = memory_new(NULL);
    CHECK_EQ(memory_add(w->m, "ram", 0, MiB(1), false, NULL), 0);
    c.ports = w->ports = bus_new(0x10000);
    c.mmio = w->mmio = bus_new(1ull << 46);
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ set_line, w, i };
    w->state = state_list_new();
    w->x = calloc(1, sizeof(*w->x));
    for (u32 i = 0; i < CONFIG_SIZE; i++)
        w->x->config[i] = (u8)(0x10 + i);
    virtio_init(&w->x->d, &ops, w->m, NULL, BIT(5) | BIT(40 - 3), QUEUES, sizes);
    if (is_pci) {
        w->pci = pci_bus_new(&c, &err);
        CHECK_EQ(pci_bus_add_state(w->pci, w->state), 0);
        w->t = virtio_pci_new(&w->x->d, w->pci, 3, w->state, 0, &err);
        w->f = virtio_transport_pci(w->t);
        pci_assign(w->pci, (u8[4]){ 10, 11, 10, 11 });
    } else {
        w->t = virtio_mmio_new(&w->x->d, w->mmio, 0xd0000000, &c.intx[0], w->state, 0, &err);
        CHECK(!virtio_transport_pci(w->t));
    }
    CHECK_STR(err.text, "");
}

static inline void close_world(struct world *w)
{
    virtio_transport_free(w->t);
    CHECK(!w->line);
    virtio_destroy(&w->x->d);
    pci_bus_free(w->pci);
    free(w->x);
    state_list_free(w->state);
    bus_free(w->mmio);
    bus_free(w->ports);
    memory_free(w->m);
}

static inline void run(void)
{
    while (fake_run_posts())
        ;
}

/* ---- PCI ------------------------------------------------------------------ */

static inline u32 cfg(struct world *w, u32 reg, u32 len)
{
    bus_write(w->ports, 0xcf8, 4, 0x80000000u | 3 << 11 | (reg & 0xfc));
    return (u32)bus_read(w->ports, 0xcfc + (reg & 3), len);
}

static inline void cfg_set(struct world *w, u32 reg, u32 len, u32 v)
{
    bus_write(w->ports, 0xcf8, 4, 0x80000000u | 3 << 11 | (reg & 0xfc));
    bus_write(w->ports, 0xcfc + (reg & 3), len, v);
}

static inline u64 bar(struct world *w, u32 n)
{
    u32 low = cfg(w, 0x10 + 4 * n, 4);
    CHECK(!(low & 1));
    return (low & ~15u) | ((low & 6) == 4 ? (u64)cfg(w, 0x14 + 4 * n, 4) << 32 : 0);
}

static inline u32 find_cap(struct world *w, u32 id, u32 type)
{
    CHECK(cfg(w, 6, 2) & 0x10);
    for (u32 at = cfg(w, 0x34, 1), n = 0; at && n < 48; at = cfg(w, at + 1, 1), n++)
        if (cfg(w, at, 1) == id && (!type || cfg(w, at + 3, 1) == type))
            return at;
    return 0;
}

static inline u64 structure(struct world *w, u32 type, u32 *size)
{
    u32 at = find_cap(w, 9, type);
    CHECK(at != 0);
    CHECK(cfg(w, at + 2, 1) >= 16);
    *size = cfg(w, at + 12, 4);
    return bar(w, cfg(w, at + 4, 1)) + cfg(w, at + 8, 4);
}

static inline void find_device(struct world *w)
{
    u32 size, at;

    CHECK_EQ(cfg(w, 0, 4), 0x10411af4);
    CHECK(cfg(w, 8, 1) >= 1);         /* revision: no legacy driver takes it */
    CHECK_EQ(cfg(w, 0xa, 2), 0x0200); /* Ethernet */
    CHECK(cfg(w, 0x2e, 2) >= 0x40);
    w->common = structure(w, 1, &size);
    CHECK(size >= 56 && !(w->common & 3));
    w->notify = structure(w, 2, &w->notify_size);
    at = find_cap(w, 9, 2);
    CHECK_EQ(cfg(w, at + 16, 4), 4);
    CHECK(w->notify_size >= QUEUES * 4);
    w->isr = structure(w, 3, &size);
    CHECK(size >= 1);
    w->device = structure(w, 4, &size);
    CHECK(size >= CONFIG_SIZE && !(w->device & 3));
    cfg_set(w, 4, 2, 0x0406); /* memory, master, no INTx for now */
}

static inline u64 reg(struct world *w, u32 offset, u32 size) { return bus_read(w->mmio, w->common + offset, size); }
static inline void reg_set(struct world *w, u32 offset, u32 size, u64 v) { bus_write(w->mmio, w->common + offset, size, v); }

static inline void pci_negotiate(struct world *w, u64 f)
{
    reg_set(w, 20, 1, 0);
    CHECK_EQ(reg(w, 20, 1), 0);
    reg_set(w, 20, 1, 1);
    reg_set(w, 20, 1, 3);
    for (u32 i = 0; i < 2; i++) {
        reg_set(w, 8, 4, i);
        reg_set(w, 12, 4, (u32)(f >> i * 32));
        CHECK_EQ(reg(w, 12, 4), (u32)(f >> i * 32));
    }
    reg_set(w, 20, 1, 11);
}

static inline void pci_queue(struct world *w, u32 q, u32 size, u64 gpa)
{
    reg_set(w, 22, 2, q);
    reg_set(w, 24, 2, size);
    reg_set(w, 32, 8, gpa);
    reg_set(w, 40, 4, (u32)(gpa + 0x4000));
    reg_set(w, 44, 4, 0);
    reg_set(w, 48, 8, gpa + 0x5000);
    reg_set(w, 28, 2, 1);
}

/* A split queue 1 in which one buffer was used. */
static inline void use_one(struct world *w)
{
    struct iovec iov[2];
    struct virtio_chain c = { .iov = iov, .max = 2 };
    struct virtio_queue *q = &w->x->d.queue[1];
    u8 *ram = w->m->region[0].host;
    u16 n = (u16)(*(u16 *)(ram + 0x14002) + 1);

    *(u64 *)(ram + 0x10000) = 0x90000;
    *(u32 *)(ram + 0x10008) = 16;
    *(u16 *)(ram + 0x1000c) = 2;
    *(u16 *)(ram + 0x14002) = n;
    CHECK_EQ(virtio_pop(q, &c), 1);
    virtio_push(q, &c, 1);
    virtio_notify(q);
}

#endif
