/* SPDX-License-Identifier: Apache-2.0 */
/* virtio.h - virtio devices, by PCI and by MMIO: negotiation, split and packed rings, requests of each kind. */
#ifndef DEVICES_VIRTIO_H
#define DEVICES_VIRTIO_H

#include "devices/e1000.h"
#include "devices/pci.h"

struct virtio { u64 common, notify, config, isr, mmio; u32 step, type; };
static struct virtio virtios[24];
static u32 nvirtio;

static void find_virtio(void)
{
    for (u32 k = 0; k < nfunctions; k++) {
        struct function *f = &functions[k];
        if ((f->id & 0xffff) != 0x1af4 || nvirtio == ARRAY_SIZE(virtios))
            continue;
        struct virtio *v = &virtios[nvirtio];
        v->type = (f->id >> 16) - 0x1040;
        for (u32 at = config_read(f->devfn, 0x34) & 0xfc, n = 0; at && n < 20; at = config_read(f->devfn, at) >> 8 & 0xfc, n++) {
            const u32 head = config_read(f->devfn, at), bar = config_read(f->devfn, at + 4) & 0xff;
            if ((head & 0xff) != 9 || bar > 5)
                continue;
            const u64 address = f->bar[bar] + config_read(f->devfn, at + 8);
            switch (head >> 24) {
            case 1: v->common = address; break;
            case 2: v->notify = address, v->step = config_read(f->devfn, at + 16); break;
            case 3: v->isr = address; break;
            case 4: v->config = address; break;
            }
        }
        if (!v->common || (v->common >> 32 && !big))
            continue;
        f->virtio = ++nvirtio;
    }
    for (u64 at = 0xc0000000; !nfunctions && r32(at) == 0x74726976 && nvirtio < ARRAY_SIZE(virtios); at += 4096) {
        virtios[nvirtio].mmio = at;
        virtios[nvirtio].config = at + 0x100;
        virtios[nvirtio++].type = r32(at + 8);
    }
}

static void virtio_status(const struct virtio *v, u64 s)
{
    if (v->mmio)
        w32(v->mmio + 0x70, s & 0xff);
    else
        w8(v->common + 0x14, s);
}

/* By its address in the common configuration; MMIO has it elsewhere, in 32 bits. */
static void virtio_put(const struct virtio *v, u32 pci, u32 mmio, u32 size, u64 x)
{
    if (v->mmio) {
        w32(v->mmio + mmio, x);
        if (size == 8)
            w32(v->mmio + mmio + 4, x >> 32);
    } else if (size == 8) {
        w32(v->common + pci, x), w32(v->common + pci + 4, x >> 32);
    } else if (size == 4) {
        w32(v->common + pci, x);
    } else {
        w16(v->common + pci, x);
    }
}

static u32 virtio_features(const struct virtio *v, u32 half)
{
    virtio_put(v, 0, 0x14, 4, half);
    return v->mmio ? r32(v->mmio + 0x10) : r32(v->common + 4);
}

/* What a request of this kind of device begins with. */
static void virtio_request(const struct virtio *v, u64 at)
{
    fill(at, 16);
    switch (v->type) {
    case 1: fill(at, 3), frame(at + 12); break;
    case 2: w32(at, PICK(0, 1, 4, 8, 11, 13)), w64(at + 8, mostly(rnd_below(2048))); break;
    case 3: w32(at, rnd_below(3)), w16(at + 4, rnd_below(9)), w16(at + 6, rnd_below(2)); break;
    case 19:
        w64(at, mostly(3)), w64(at + 8, mostly(2)), w32(at + 16, value()), w32(at + 20, mostly(1 + rnd_below(4)));
        w32(at + 24, mostly(rnd_below(20))), w16(at + 28, mostly(1)), w16(at + 30, mostly(1 + rnd_below(7)));
        break;
    case 26:
        w32(at, mostly(40 + rnd_below(60))), w32(at + 4, PICK(26, 26, 1, 3, 4, 14, 15, 16, 17, 18, 20, 22, 27, 28, 29, 34, 35, 38, 44));
        w64(at + 16, mostly(1 + rnd_below(4))), w32(at + 40, mostly(7)), w32(at + 44, mostly(31)), w64(at + 48, mostly('a'));
        break;
    }
}

static void virtio(void)
{
    if (!nvirtio)
        return;
    const u32 which = (u32)rnd_below(nvirtio);
    const struct virtio *v = &virtios[which];
    static struct queue { u64 desc, avail, used; u32 size, packed; } queues[ARRAY_SIZE(virtios)][8];
    for (u32 k = 0; k < nfunctions; k++)
        if (functions[k].virtio == which + 1)
            repair(&functions[k]);
    if (!rnd_below(6)) { /* again from the start */
        virtio_status(v, 0);
        virtio_status(v, mostly(3));
        u32 packed = 0;
        for (u32 half = 0; half < 2; half++) {
            u32 wanted = virtio_features(v, half) & (rnd_below(2) ? ~0u : (u32)rnd());
            if (half)
                wanted |= 1, packed = wanted >> 2 & 1; /* VERSION_1, RING_PACKED */
            virtio_put(v, 8, 0x24, 4, half);
            virtio_put(v, 12, 0x20, 4, mostly(wanted));
        }
        virtio_status(v, mostly(11));
        virtio_put(v, 16, 0x60, 2, mostly(0xffff));
        for (u32 q = 0; q < 8; q++) {
            struct queue *u = &queues[which][q];
            *u = (struct queue){ pool_at(16), pool_at(16), pool_at(16), 4u << rnd_below(6), packed };
            virtio_put(v, 0x16, 0x30, 2, mostly(q));
            virtio_put(v, 0x18, 0x38, 2, mostly(u->size));
            virtio_put(v, 0x20, 0x80, 8, mostly(u->desc));
            virtio_put(v, 0x28, 0x90, 8, mostly(u->avail));
            virtio_put(v, 0x30, 0xa0, 8, mostly(u->used));
            virtio_put(v, 0x1a, 0x60, 2, mostly(rnd_below(2) ? q : 0xffff));
            w32(u->avail, 0);
            virtio_put(v, 0x1c, 0x44, 2, mostly(1));
        }
        virtio_status(v, mostly(15));
        return;
    }
    const u32 q = (u32)rnd_below(rnd_below(3) ? 3 : 8);
    const struct queue *u = &queues[which][q];
    if (u->size) {
        u32 at = (u32)rnd_below(u->size), n = 1 + (u32)rnd_below(5);
        const u32 first = at, out = (u32)rnd_below(n + 1);
        for (u32 i = 0; i < n; i++, at = (at + 1) % u->size) {
            const u64 buffer = pool_at(1), d = u->desc + 16 * at, last = i + 1 == n;
            if (!i)
                virtio_request(v, buffer);
            u32 flags = (u32)mostly((last ? 0 : 1) | (i >= out ? 2 : 0) | (rnd_below(10) ? 0 : 4)) & 0xffff;
            w64(d, mostly(buffer));
            w32(d + 8, mostly(i ? rnd_below(5000) : PICK(16, 44, 80, 4, 12, 8)));
            if (u->packed)
                w16(d + 12, value()), w16(d + 14, (flags & ~0x8080u) | (rnd_below(2) ? 0x80 : 0x8000));
            else
                w16(d + 12, flags), w16(d + 14, mostly((at + 1) % u->size));
        }
        if (!u->packed) {
            const u32 index = r16(u->avail + 2);
            w16(u->avail + 4 + 2 * (index % u->size), mostly(first));
            w16(u->avail, mostly(0));
            w16(u->avail + 2, mostly(index + 1));
        }
    }
    if (v->mmio)
        w32(v->mmio + 0x50, mostly(q));
    else
        w16(v->notify + q * v->step, mostly(q));
    if (v->config && !rnd_below(8))
        w32(v->config + 4 * rnd_below(8), value()), (void)r32(v->config + 4 * rnd_below(8));
    (void)(v->mmio ? r32(v->mmio + 0x60) : r8(v->isr));
    if (v->mmio)
        w32(v->mmio + 0x64, 3);
}

#endif
