/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_pci.c - a bus with four functions under a driver that does anything, and snapshots that say anything.  What holds
 * whatever is written: identities and the capability list stay, mapped BARs do not overlap, an INTx line is the OR of
 * those on it, both ways to configuration space agree, and a saved bus loads to the same.
 */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "pci/pci.h"

enum { N = 4, ECAM = 0x40000000 };

struct rig {
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    struct pci_function f[N];
    bool line[PCI_INTX_LINES];
    u8 reg[16];
};

static void on_line(void *p, u32 pin, bool level)
{
    struct rig *r = p;
    if (r->line[pin] == level)
        abort(); /* told of changes only */
    r->line[pin] = level;
}
static void on_msi(void *p, u64 address, u32 data) { ((struct rig *)p)->reg[address % 16] = (u8)data; }
static u64 reg_read(void *dev, u64 offset, unsigned size) { return ((struct rig *)dev)->reg[offset % 16]; }
static void reg_write(void *dev, u64 offset, unsigned size, u64 v) { ((struct rig *)dev)->reg[offset % 16] = (u8)v; }
static const struct bus_ops reg_ops = { reg_read, reg_write, 1, 4 };

static void rig_new(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->ports = bus_new(0x10000), r->mmio = bus_new(1ull << 52), r->state = state_list_new();
    struct pci_bus_config c = { .ports = r->ports, .mmio = r->mmio, .msi = on_msi, .ctx = r, .ecam = ECAM,
                                .mmio32 = 0x1000, .mmio32_size = 0x40000, .mmio64 = GiB(4), .mmio64_size = MiB(1),
                                .io = 0x100, .io_size = 0x300 };
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ on_line, r, i };
    if (!(r->pci = pci_bus_new(&c, NULL)) || pci_bus_add_state(r->pci, r->state) ||
        bus_add(r->mmio, &(struct bus_range){ 0x3000, 0x20, &reg_ops, r, NULL, "chip" }))
        abort();
    for (u32 i = 0; i < N; i++) {
        struct pci_function *f = &r->f[i];
        pci_function_init(f, "f", 0x1af4, (u16)(0x1040 + i), 0, 0x010000, 1, 2);
        pci_bar_init(f, 0, &(struct pci_bar){ .size = 16ull << i * 4, .ops = &reg_ops, .dev = r });
        pci_bar_init(f, 2, &(struct pci_bar){ .size = 4096, .flags = PCI_BAR_64, .ops = &reg_ops, .dev = r });
        pci_bar_init(f, 4, &(struct pci_bar){ .size = 32, .flags = PCI_BAR_IO, .ops = &reg_ops, .dev = r });
        if (i < 2)
            pci_add_msix(f, i ? PCI_MSIX_MAX : 3, 1);
        if (i > 0)
            pci_add_msi(f, 1u << i);
        if (i != 2)
            pci_use_intx(f);
        if (pci_add(r->pci, f, i == 3 ? 2 : i, i == 3, r->state, NULL))
            abort();
    }
}

static void rig_free(struct rig *r)
{
    pci_bus_free(r->pci);
    state_list_free(r->state);
    bus_free(r->ports);
    bus_free(r->mmio);
}

static void check(struct rig *r)
{
    bool line[PCI_INTX_LINES] = { false };
    struct pci_bar *bar[N * PCI_BARS];
    u32 nbar = 0;

    for (u32 i = 0; i < N; i++) {
        struct pci_function *f = &r->f[i];
        if (pci_get16(f->config) != 0x1af4 || pci_get16(f->config + 2) != 0x1040 + i)
            abort();
        for (u32 at = 0; at < PCI_CONFIG_SIZE; at++) {
            u8 fixed = (u8) ~(f->wmask[at] | f->w1c[at]);
            if (at != 6 && !(f->msi && at >= f->msi + 20u && at < f->msi + 24u) && (f->config[at] ^ f->reset[at]) & fixed)
                abort();
        }
        bool off = pci_msi_enabled(f) || pci_msix_enabled(f) || (f->config[5] & 4);
        if (f->intx && !off && f->config[0x3d])
            line[(f->devfn >> 3) % PCI_INTX_LINES] = true;
        if (!!(f->config[6] & 8) != !!f->intx)
            abort();
        for (u32 n = 0; n < PCI_BARS; n++)
            if (f->bar[n].size && f->bar[n].at != UINT64_MAX)
                bar[nbar++] = &f->bar[n];
        for (u32 at = 0; at < 256; at += 4) {
            bus_write(r->ports, 0xcf8, 4, 0x80000000 | (u32)f->devfn << 8 | at);
            if (bus_read(r->ports, 0xcfc, 4) != bus_read(r->mmio, ECAM + ((u64)f->devfn << 12) + at, 4))
                abort();
        }
    }
    if (memcmp(line, r->line, sizeof line) != 0)
        abort();
    for (u32 i = 0; i < nbar; i++)
        for (u32 k = 0; k < i; k++)
            if (!((bar[i]->flags ^ bar[k]->flags) & PCI_BAR_IO) && bar[i]->at < bar[k]->at + bar[k]->size &&
                bar[k]->at < bar[i]->at + bar[i]->size)
                abort();
}

static void check_state(struct rig *r)
{
    struct state_buf a = { 0 }, b = { 0 };
    struct rig other;

    rig_new(&other);
    if (state_save(r->state, &a, NULL) || state_load(other.state, a.data, a.len, NULL) ||
        state_save(other.state, &b, NULL) || a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
        abort();
    check(&other);
    for (u32 i = 0; i < N; i++)
        for (u32 n = 0; n < PCI_BARS; n++)
            if (r->f[i].bar[n].at != other.f[i].bar[n].at)
                abort();
    rig_free(&other);
    state_buf_free(&a);
    state_buf_free(&b);
}

/* Each step is 8 bytes: what, where (2), how (1), value (4). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const u8 irq[4] = { 10, 11, 10, 11 };
    struct rig r;

    rig_new(&r);
    for (; size >= 8; data += 8, size -= 8) {
        u32 at = (u32)data[1] | (u32)data[2] << 8, value;
        struct pci_function *f = &r.f[data[3] & 3];
        unsigned len = 1u << (data[3] >> 2 & 3);
        memcpy(&value, data + 4, 4);
        switch (data[0] % 12) {
        case 0: bus_write(r.ports, 0xcf8, 4, 0x80000000 | (u32)f->devfn << 8 | (at & 0xfc)); break;
        case 1: bus_write(r.ports, 0xcfc + at % 4, MIN(len, 4), value); break;
        case 2: case 3: bus_write(r.mmio, ECAM + ((u64)f->devfn << 12) + (at & 0xff), len, value); break;
        case 4: bus_write(r.mmio, ECAM + ((u64)f->devfn << 12) + 0x10 + at % 0x18, len, value & 0xf3fff); break;
        case 5: bus_write(r.mmio, ECAM + (u64)at * 16 + (value & 15), len, value); break;
        case 6: (void)bus_read(r.mmio, ECAM + (u64)at * 4096 + (value & 0xfff), len); break;
        case 7: bus_write(r.mmio, (f->bar[1].at != UINT64_MAX ? f->bar[1].at : 0) + (at & 0xfff), len, value); break;
        case 8: pci_set_intx(f, value & 1); break;
        case 9: pci_msix_notify(f, at), pci_msi_notify(f, value); break;
        case 10:
            if (value & 1)
                pci_reset(r.pci);
            if (value & 2)
                pci_assign(r.pci, irq);
            break;
        case 11: (void)bus_read(r.mmio, value & 0xfffff, len), (void)bus_read(r.ports, at, MIN(len, 4)); break;
        }
    }
    check(&r);
    check_state(&r);
    rig_free(&r);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
    if (i > 3 || cap < 512)
        return 0;
    for (u32 k = 0; k < 64; k++) {
        u8 *step = buf + k * 8;
        memset(step, 0, 8);
        step[0] = (u8)(k % 12);
        step[1] = (u8)(k & 1 ? 4 : 0x10 + 4 * (k >> 1) % 0x18);
        step[3] = (u8)(8 | (k * (i + 1) & 3));
        step[4] = (u8)(k & 1 ? 7 : 0), step[5] = (u8)(k * 16), step[6] = (u8)i;
    }
    return 512;
}
