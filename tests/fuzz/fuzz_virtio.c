/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_virtio.c - a hostile driver: register writes on either transport, memory that changes at any moment, saved
 * states that were tampered with.  The input is a program of such steps.  The device holds what it pops for a while,
 * fills what it may, and checks that every piece lies in memory where it may be read or written.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "virtio/internal.h"

enum { QUEUES = 2, MAX_SIZE = 32, PIECES = 40, HELD = QUEUES * MAX_SIZE };
#define RAM_SIZE 0x10000ull
#define ROM_SIZE 0x1000ull
#define MMIO 0x40000000ull
#define BAR_AT 0x50000000ull

/* ---- a loop of one thread ------------------------------------------------- */

static struct loop_kick *kicked[4];
static unsigned nkicked;

void loop_kick_init(struct loop_kick *k, struct loop *l, void (*fn)(struct loop_kick *k))
{
    *k = (struct loop_kick){ .loop = l, .fn = fn };
}
void loop_kick(struct loop_kick *k)
{
    if (!k->pending)
        kicked[nkicked++] = k;
    k->pending = true;
}
void loop_kick_remove(struct loop_kick *k) { nkicked = 0; }
u64 clock_ns(void) { return 0; }
void loop_wait(struct loop *l, const bool *done) {}
void loop_done(struct loop *l, bool *done) { *done = true; }

static void turn(void)
{
    if (nkicked) {
        struct loop_kick *k = kicked[--nkicked];
        k->pending = false;
        k->fn(k);
    }
}

/* ---- the device ----------------------------------------------------------- */

struct world {
    struct memory *m;
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    struct virtio_device d;
    struct virtio_transport *t;
    struct held {
        bool busy;
        struct virtio_queue *q;
        struct virtio_chain c;
        struct iovec iov[PIECES];
        u64 gpa[PIECES];
    } held[HELD];
    u32 pops; /* in this turn */
    u8 config[5];
};
static struct world worlds[2], *w; /* MMIO, PCI */

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_chain(const struct held *h)
{
    u64 out = 0, in = 0;

    check(h->c.nout + h->c.nin <= PIECES && h->c.nout + h->c.nin && h->c.ndesc);
    for (u32 i = 0; i < h->c.nout + h->c.nin; i++) {
        struct memory_region r;
        u64 len = h->iov[i].iov_len;
        check(memory_find(w->m, h->gpa[i], &r) && len && len <= r.gpa + r.size - h->gpa[i] && !(i >= h->c.nout && r.readonly));
        check((u8 *)h->iov[i].iov_base == r.host + (h->gpa[i] - r.gpa));
        *(i < h->c.nout ? &out : &in) += len;
    }
    check(out == h->c.out_len && in == h->c.in_len && h->q->inflight <= h->q->size);
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    for (w->pops = 0;; w->pops++) {
        struct held *h = w->held;
        while (h < w->held + HELD && h->busy)
            h++;
        if (h == w->held + HELD)
            return;
        *h = (struct held){ .q = q, .c = { .iov = h->iov, .gpa = h->gpa, .max = PIECES } };
        if (virtio_pop(q, &h->c) <= 0)
            return;
        check_chain(h);
        if (!h->c.nout && h->c.in_len % 2) { /* a way to have some go back */
            virtio_unpop(q, &h->c);
            return;
        }
        h->busy = true;
        check(w->pops < 1000);
    }
}

static void finish(u32 from, u32 n)
{
    static u8 bytes[256] = "written by the device";

    for (u32 i = 0; i < HELD && n; i++) {
        struct held *h = &w->held[(i + from) % HELD];
        if (!h->busy)
            continue;
        virtio_read(&h->c, from, bytes, sizeof bytes);
        virtio_push(h->q, &h->c, virtio_write(&h->c, 0, bytes, from % sizeof bytes));
        h->busy = false;
        n--;
    }
    for (u32 i = 0; i < QUEUES; i++)
        virtio_notify(&w->d.queue[i]);
}

static bool idle(const struct virtio_queue *q)
{
    for (u32 i = 0; i < HELD; i++)
        if (w->held[i].busy && (!q || w->held[i].q == q))
            return false;
    return true;
}

static void host(u32 from, u32 n)
{
    finish(from, n);
    for (u32 i = 0; i < QUEUES; i++)
        if (idle(&w->d.queue[i]))
            virtio_queue_reset_done(&w->d.queue[i]);
    if (idle(NULL))
        virtio_reset_done(&w->d);
}

static bool reset(struct virtio_device *d) { return idle(NULL); }
static bool queue_reset(struct virtio_device *d, struct virtio_queue *q) { return idle(q); }
static void settle(struct virtio_device *d) { finish(0, HELD); }
static void config_read(struct virtio_device *d, u32 at, void *to, u32 len)
{
    check(at + len <= sizeof w->config);
    memcpy(to, w->config + at, len);
}
static void config_write(struct virtio_device *d, u32 at, const void *from, u32 len)
{
    check(at + len <= sizeof w->config);
    memcpy(w->config + at, from, len);
}

static const struct virtio_ops ops = { .id = VIRTIO_ID_ENTROPY, .name = "fuzzed", .config_size = 5,
                                       .config_read = config_read, .config_write = config_write, .kick = kick,
                                       .reset = reset, .queue_reset = queue_reset, .settle = settle };

static void build(bool is_pci)
{
    static const u16 sizes[QUEUES] = { MAX_SIZE, MAX_SIZE };
    struct pci_bus_config c = { .mmio32 = BAR_AT, .mmio32_size = MiB(1) };
    struct irq_line none = { 0 };

    if (!(w->m = memory_new(NULL)) || memory_add(w->m, "ram", 0, RAM_SIZE, false, NULL) ||
        memory_add(w->m, "rom", RAM_SIZE, ROM_SIZE, true, NULL) ||
        memory_add(w->m, "ram", RAM_SIZE + ROM_SIZE, RAM_SIZE, false, NULL))
        abort();
    c.ports = w->ports = bus_new(0x10000);
    c.mmio = w->mmio = bus_new(1ull << 40);
    w->state = state_list_new();
    virtio_init(&w->d, &ops, w->m, NULL, 0, QUEUES, sizes);
    if (is_pci) {
        w->pci = pci_bus_new(&c, NULL);
        w->t = virtio_pci_new(&w->d, w->pci, 0, w->state, 0, NULL);
    } else {
        w->t = virtio_mmio_new(&w->d, w->mmio, MMIO, &none, w->state, 0, NULL);
    }
    check(w->t);
}

/* ---- the program ---------------------------------------------------------- */

struct program {
    const u8 *p;
    size_t left;
};

static u32 get(struct program *x, u32 n)
{
    u32 v = 0;
    for (u32 i = 0; i < n && x->left; i++, x->left--)
        v |= (u32)*x->p++ << i * 8;
    return v;
}

static void poke(u64 gpa, const void *from, u64 n)
{
    (void)!memory_write(w->m, gpa, from, n);
}

/* What a driver does first. bits: the features; at: the first ring. */
static void bring_up(u32 bits, u32 size, u32 at)
{
    u64 f = VIRTIO_F_VERSION_1 | (bits & 1 ? VIRTIO_F_RING_PACKED : 0) | (bits & 2 ? VIRTIO_F_INDIRECT_DESC : 0) |
            (bits & 4 ? VIRTIO_F_EVENT_IDX : 0) | (bits & 8 ? VIRTIO_F_RING_RESET : 0);

    virtio_set_status(&w->d, 0);
    virtio_set_status(&w->d, 3);
    virtio_set_features(&w->d, 0, (u32)f);
    virtio_set_features(&w->d, 1, (u32)(f >> 32));
    virtio_set_status(&w->d, 11);
    for (u32 i = 0; i < QUEUES; i++) {
        struct virtio_queue *q = &w->d.queue[i];
        if (q->enabled || q->resetting)
            continue;
        q->size = (u16)size;
        q->desc = at + i * 0x800ull;
        q->driver = q->desc + 0x400;
        q->device = q->desc + 0x500;
        virtio_queue_enable(q);
    }
    virtio_set_status(&w->d, 15);
}

static void tamper(struct program *x)
{
    struct state_buf b = { 0 };

    virtio_transport_settle(w->t);
    check(!state_save(w->state, &b, NULL));
    for (u32 n = get(x, 1) % 8; n; n--) {
        u32 at = get(x, 2);
        b.data[at % b.len] = (u8)get(x, 1);
    }
    bool loaded = !state_load(w->state, b.data, b.len, NULL);
    state_buf_free(&b);
    if (!loaded)
        virtio_transport_reset(w->t);
    virtio_transport_resume(w->t);
}

static void step(struct program *x)
{
    u8 bytes[16];
    u64 at;
    u32 n, q;

    switch (get(x, 1) % 12) {
    case 0: /* a register */
        at = get(x, 2);
        n = 1u << get(x, 1) % 4;
        bus_write(w->mmio, (w->pci ? BAR_AT + at % 0x5000 : MMIO + at % 0x220), n, get(x, 4));
        break;
    case 1: at = get(x, 2); bus_read(w->mmio, (w->pci ? BAR_AT + at % 0x5000 : MMIO + at % 0x220), 4); break;
    case 2: /* configuration space */
        bus_write(w->ports, 0xcf8, 4, 0x80000000u | (get(x, 1) & 0xfc));
        bus_write(w->ports, 0xcfc, 4, get(x, 4));
        bus_read(w->ports, 0xcfc, 4);
        break;
    case 3: /* memory, anywhere */
        at = get(x, 3);
        n = get(x, 1) % 17;
        for (u32 i = 0; i < n; i++)
            bytes[i] = (u8)get(x, 1);
        poke(at, bytes, n);
        break;
    case 4: turn(); break;
    case 5: n = get(x, 1); host(n, n % 5); break;
    case 6:
        n = get(x, 1);
        q = 1 + get(x, 1) % MAX_SIZE;
        bring_up(n, q, (get(x, 1) & 0xf0) << 4);
        break;
    case 7: /* a descriptor of a ring: address, length, flags, next; the index moves */
    case 8:
        n = get(x, 1);
        q = n % QUEUES;
        at = w->d.queue[q].desc + n / QUEUES % MAX_SIZE * 16;
        bytes[0] = (u8)get(x, 1), bytes[1] = (u8)get(x, 1), bytes[2] = (u8)(get(x, 1) % 4);
        memset(bytes + 3, 0, 5);
        memcpy(bytes + 8, &(u32){ get(x, 2) }, 4);
        memcpy(bytes + 12, &(u32){ get(x, 4) }, 4);
        poke(at, bytes, 16);
        break;
    case 9: /* available, and told */
        n = get(x, 1);
        q = n % QUEUES;
        if (!virtio_has(&w->d, VIRTIO_F_RING_PACKED)) {
            u16 *idx = memory_ptr(w->m, w->d.queue[q].driver, 4 + 2 * MAX_SIZE, true);
            if (idx) {
                idx[2 + idx[1] % MAX(w->d.queue[q].size, 1)] = (u16)(n / QUEUES);
                idx[1]++;
            }
        }
        virtio_kick(&w->d, q);
        turn();
        break;
    case 10: tamper(x); break;
    default: virtio_config_changed(&w->d); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program x = { data, size };

    log_set_level(LOG_ERROR);
    w = &worlds[get(&x, 1) & 1];
    if (!w->m)
        build(w == &worlds[1]);
    for (u32 i = 0; i < w->m->npieces; i++)
        memset(w->m->piece[i].host, 0, w->m->piece[i].size);
    if (w->pci) {
        pci_reset(w->pci);
        pci_assign(w->pci, (u8[4]){ 0 });
        bus_write(w->ports, 0xcf8, 4, 0x80000004u);
        bus_write(w->ports, 0xcfc, 4, 6);
    }
    virtio_transport_reset(w->t);
    while (x.left)
        step(&x);
    virtio_transport_reset(w->t);
    check(idle(NULL));
    nkicked = 0;
    w->d.kick.pending = false;
    return 0;
}

/* Programs that work: each kind of ring, a few chains, the answers; then a move. */
size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    static const u8 split[] = {
        7, 0, 0x00, 0x80, 0, 64, 0, 1, 0, 1, 0,   7, 2, 0x00, 0x90, 0, 64, 0, 2, 0, 0, 0, /* 0: out 64, in 64 */
        7, 4, 0x00, 0xff, 0, 0, 4, 0, 0, 0, 0,                                            /* 2: over the end of RAM */
        7, 6, 0x00, 0x30, 0, 32, 0, 4, 0, 0, 0,                                           /* 3: a table at 3000h */
        3, 0x00, 0x30, 0, 16, 0, 0xa0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0,
        3, 0x10, 0x30, 0, 16, 0, 0xb0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0,
        9, 0, 9, 4, 9, 6, 5, 3, 4, 5, 9, 10, 0, 5, 0, 11,
        7, 8, 0x00, 0x70, 0, 63, 0, 2, 0, 0, 0, 9, 8, 4,                                  /* 4: in 63 */
    };
    static const u8 packed[] = {
        7, 0, 0x00, 0x80, 0, 64, 0, 9, 0, 1, 0x00,   7, 2, 0x00, 0x90, 0, 64, 0, 9, 0, 2, 0x00, /* flags: below */
        3, 0x02, 0x05, 0, 1, 2, /* RING_EVENT_FLAGS_DESC */
        3, 0x0e, 0x01, 0, 2, 0x81, 0,   3, 0x1e, 0x01, 0, 2, 0x82, 0,
        7, 4, 0x00, 0x30, 0, 32, 0, 5, 0, 0x84, 0x00,
        3, 0x00, 0x30, 0, 16, 0, 0xa0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0,
        3, 0x10, 0x30, 0, 16, 0, 0xb0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 2, 0,
        9, 0, 5, 3, 4, 5, 9, 10, 0, 5, 0, 11,
    };
    size_t n = 0;

    if (i >= 32)
        return 0;
    buf[n++] = (u8)(i & 1);
    buf[n++] = 6; /* bring_up */
    buf[n++] = (u8)(i >> 1);
    buf[n++] = 7;
    buf[n++] = 0x10;
    const u8 *p = i >> 1 & 1 ? packed : split;
    size_t len = i >> 1 & 1 ? sizeof packed : sizeof split;
    if (n + len > cap)
        abort();
    memcpy(buf + n, p, len);
    return n + len;
}
