/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci_bus.c - configuration space: the two ways to access it (PCI 3.0, 3.2.2.3.2 configuration mechanism 1; PCI Express
 * 3.0, 7.2.2 ECAM), the effects of a write, plugging functions in, and their state.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/internal.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };
#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS 0x80fffffcu
#define ECAM_SIZE MiB(1) /* for one bus */

/* ---- accesses; each is within one aligned doubleword, the bus's lock is held ---- */

static u32 config_read(struct pci_function *f, u32 at, u32 len)
{
    u32 v = 0;

    if (!f)
        return UINT32_MAX;
    if (f->config_read && f->config_read(f, at, len, &v))
        return v;
    v = 0;
    for (u32 i = 0; i < len; i++)
        v |= (u32)config_get(f, at + i) << i * 8;
    return v;
}

static bool touches(u32 at, u32 len, u32 reg, u32 n)
{
    return at < reg + n && reg < at + len;
}

static void config_write(struct pci_function *f, u32 at, u32 len, u32 value)
{
    if (!f)
        return;
    for (u32 i = at; i < at + len; i++, value >>= 8) {
        u8 old = config_get(f, i), v = (u8)((old & ~f->wmask[i]) | (value & f->wmask[i]));
        v &= (u8) ~(value & f->w1c[i]);
        if (f->wmask[i] | f->w1c[i]) /* another thread may be changing read-only bytes */
            config_put(f, i, v);
    }
    bool command = touches(at, len, PCI_COMMAND, 2);
    if (command || touches(at, len, PCI_BASE_ADDRESS, PCI_BARS * 4) || touches(at, len, PCI_ROM_ADDRESS, 4))
        bars_update(f->bus);
    if (command || (f->msi && touches(at, len, f->msi, 24)) || (f->msix && touches(at, len, f->msix, 12)))
        interrupts_update(f);
    if (f->config_written)
        f->config_written(f, at, len);
}

static u64 address_read(void *dev, u64 offset, unsigned size)
{
    struct pci_bus *b = dev;

    if (size != 4)
        return b->c.cf8_bytes ? b->c.cf8_bytes->read(b->c.cf8_dev, offset, size) : UINT64_MAX;
    pthread_mutex_lock(&b->lock);
    u32 v = b->address;
    pthread_mutex_unlock(&b->lock);
    return v;
}

static void address_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pci_bus *b = dev;

    if (size != 4) {
        if (b->c.cf8_bytes)
            b->c.cf8_bytes->write(b->c.cf8_dev, offset, size, value);
        return;
    }
    pthread_mutex_lock(&b->lock);
    b->address = (u32)value & ADDRESS_BITS;
    pthread_mutex_unlock(&b->lock);
}

/* The function that CONFIG_ADDRESS names, or NULL. Bus 0 is the only bus. */
static struct pci_function *addressed(const struct pci_bus *b)
{
    return (b->address & (ADDRESS_ENABLE | 0xff0000)) == ADDRESS_ENABLE ? b->fn[b->address >> 8 & 0xff] : NULL;
}

static u64 data_read(void *dev, u64 offset, unsigned size)
{
    struct pci_bus *b = dev;

    pthread_mutex_lock(&b->lock);
    u32 v = config_read(addressed(b), (b->address & 0xfc) + (u32)offset, size);
    pthread_mutex_unlock(&b->lock);
    return v;
}

static void data_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pci_bus *b = dev;

    pthread_mutex_lock(&b->lock);
    config_write(addressed(b), (b->address & 0xfc) + (u32)offset, size, (u32)value);
    pthread_mutex_unlock(&b->lock);
}

/* An access that is not aligned is split into aligned ones. */
static struct pci_function *ecam_piece(struct pci_bus *b, u64 offset, unsigned size, u32 *at, u32 *len)
{
    *at = (u32)offset & 0xfff;
    *len = MIN(size, 4 - (*at & 3));
    return b->fn[offset >> 12 & 0xff];
}

static u64 ecam_read(void *dev, u64 offset, unsigned size)
{
    struct pci_bus *b = dev;
    u64 v = 0;

    pthread_mutex_lock(&b->lock);
    for (u32 done = 0, at, len; done < size; done += len) {
        struct pci_function *f = ecam_piece(b, offset + done, size - done, &at, &len);
        v |= (config_read(f, at, len) & (BIT(len * 8) - 1)) << done * 8;
    }
    pthread_mutex_unlock(&b->lock);
    return v;
}

static void ecam_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct pci_bus *b = dev;

    pthread_mutex_lock(&b->lock);
    for (u32 done = 0, at, len; done < size; done += len, value >>= len * 8) {
        struct pci_function *f = ecam_piece(b, offset + done, size - done, &at, &len);
        config_write(f, at, len, (u32)value);
    }
    pthread_mutex_unlock(&b->lock);
}

static const struct bus_ops address_ops = { address_read, address_write, 1, 4 };
static const struct bus_ops data_ops = { data_read, data_write, 1, 4 };
static const struct bus_ops ecam_ops = { ecam_read, ecam_write, 1, 4 };

/* ---- the bus ---- */

struct pci_bus *pci_bus_new(const struct pci_bus_config *c, struct error *err)
{
    struct pci_bus *b = calloc(1, sizeof *b);
    int rc;

    if (!b) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    b->c = *c;
    pthread_mutex_init(&b->lock, NULL);
    pthread_mutex_init(&b->intx_lock, NULL);
    if ((rc = bus_add(c->ports, &(struct bus_range){ CONFIG_ADDRESS, 4, &address_ops, b, NULL, "pci-address" })) ||
        (rc = bus_add(c->ports, &(struct bus_range){ CONFIG_DATA, 4, &data_ops, b, NULL, "pci-config" })) ||
        (c->ecam && (rc = bus_add(c->mmio, &(struct bus_range){ c->ecam, ECAM_SIZE, &ecam_ops, b, NULL, "ecam" })))) {
        error_set(err, -rc, "the PCI host bridge's registers cannot be placed: %s", strerror(-rc));
        pci_bus_free(b);
        return NULL;
    }
    return b;
}

void pci_bus_free(struct pci_bus *b)
{
    if (!b)
        return;
    for (u32 i = 0; i < PCI_FUNCTIONS; i++)
        if (b->fn[i])
            pci_remove(b->fn[i]);
    bus_remove(b->c.ports, CONFIG_ADDRESS, b);
    bus_remove(b->c.ports, CONFIG_DATA, b);
    if (b->c.ecam)
        bus_remove(b->c.mmio, b->c.ecam, b);
    pthread_mutex_destroy(&b->intx_lock);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void pci_reset(struct pci_bus *b)
{
    pthread_mutex_lock(&b->lock);
    b->address = 0;
    for (u32 i = 0; i < PCI_FUNCTIONS; i++) {
        struct pci_function *f = b->fn[i];
        if (!f)
            continue;
        for (u32 at = 0; at < PCI_CONFIG_SIZE; at++)
            config_put(f, at, f->reset[at]);
        interrupts_reset(f);
    }
    bars_update(b);
    pthread_mutex_unlock(&b->lock);
}

void pci_remap(struct pci_bus *b)
{
    pthread_mutex_lock(&b->lock);
    bars_update(b);
    pthread_mutex_unlock(&b->lock);
}

/* ---- functions ---- */

void pci_function_init(struct pci_function *f, const char *name, u16 vendor, u16 device, u8 revision, u32 class_code,
                       u16 subsystem_vendor, u16 subsystem)
{
    memset(f, 0, sizeof *f);
    f->name = name;
    f->next_cap = PCI_HEADER_END;
    pthread_mutex_init(&f->irq_lock, NULL);
    pci_put16(f->config + PCI_VENDOR_ID, vendor);
    pci_put16(f->config + PCI_DEVICE_ID, device);
    f->config[PCI_REVISION_ID] = revision;
    pci_put16(f->config + PCI_CLASS_CODE, (u16)class_code);
    f->config[PCI_CLASS_CODE + 2] = (u8)(class_code >> 16);
    pci_put16(f->config + PCI_SUBSYSTEM_VENDOR_ID, subsystem_vendor);
    pci_put16(f->config + PCI_SUBSYSTEM_ID, subsystem);
    pci_put16(f->wmask + PCI_COMMAND, COMMAND_MASTER | COMMAND_PARITY | COMMAND_SERR);
    f->wmask[PCI_CACHE_LINE_SIZE] = f->wmask[PCI_LATENCY_TIMER] = 0xff;
    for (u32 i = 0; i < ARRAY_SIZE(f->bar); i++)
        f->bar[i].at = UNMAPPED;
}

u8 pci_add_capability(struct pci_function *f, u8 id, u8 len)
{
    u32 at = f->next_cap, link = PCI_CAPABILITIES;

    assert(at + len <= 0x100 && len >= 2);
    f->next_cap = (u8)align_up(at + len, 4);
    while (f->config[link])
        link = f->config[link] + 1u;
    f->config[link] = (u8)at;
    f->config[at] = id;
    f->config[PCI_STATUS] |= STATUS_CAPABILITIES;
    return (u8)at;
}

/* Bytes that software cannot write keep the device's values; a stream cannot change them. */
static int loaded(void *obj, struct error *err)
{
    struct pci_function *f = obj;

    (void)err;
    pthread_mutex_lock(&f->bus->lock);
    for (u32 i = 0; i < PCI_CONFIG_SIZE; i++) {
        u8 own = f->wmask[i] | f->w1c[i] | interrupts_pending_mask(f, i);
        config_put(f, i, (u8)((f->reset[i] & ~own) | (f->config[i] & own)));
    }
    interrupts_sanitize(f);
    bars_update(f->bus);
    pthread_mutex_unlock(&f->bus->lock);
    return 0;
}

static const struct state_field msix_fields[] = {
    STATE_FIELD(struct pci_msix_entry, address, 1), STATE_FIELD(struct pci_msix_entry, upper_address, 1),
    STATE_FIELD(struct pci_msix_entry, data, 1),    STATE_FIELD(struct pci_msix_entry, control, 1),
    STATE_END,
};
static const struct state_field function_fields[] = {
    STATE_ARRAY(struct pci_function, config, 1),
    STATE_STRUCTS(struct pci_function, msix_table, 1, msix_fields),
    STATE_ARRAY(struct pci_function, msix_pba, 1),
    STATE_FIELD(struct pci_function, intx, 1),
    STATE_END,
};
static const struct state_desc function_state = { "pci", 1, function_fields, NULL, loaded };

int pci_add(struct pci_bus *b, struct pci_function *f, u32 slot, u32 function, struct state_list *l, struct error *err)
{
    if (slot == PCI_SLOTS) {
        for (slot = 0; slot < PCI_SLOTS && memcmp(&b->fn[slot * 8], (void *[8]){ 0 }, sizeof(void *[8])) != 0; slot++)
            ;
        if (slot == PCI_SLOTS)
            return error_set(err, E2BIG, "%s finds no free PCI slot: all %d are taken", f->name, PCI_SLOTS);
    }
    u32 devfn = slot << 3 | function;
    if (slot > PCI_SLOTS || function > 7 || b->fn[devfn])
        return error_set(err, EEXIST, "%s cannot be at PCI slot %u.%u: it is taken or does not exist", f->name, slot,
                         function);
    f->bus = b;
    f->devfn = (u8)devfn;
    if (f->msi || f->msix || f->config[PCI_INTERRUPT_PIN])
        f->wmask[PCI_INTERRUPT_LINE] = 0xff;
    memcpy(f->reset, f->config, sizeof f->reset);
    interrupts_reset(f);
    if (l && state_add(l, &function_state, devfn, f))
        return error_set(err, ENOMEM, "out of memory");
    pthread_mutex_lock(&b->lock);
    b->fn[devfn] = f;
    struct pci_function *first = b->fn[devfn & ~7u];
    for (u32 i = 1; i < 8 && first; i++)
        if (b->fn[(devfn & ~7u) + i])
            first->config[PCI_HEADER_TYPE] |= MULTIFUNCTION, first->reset[PCI_HEADER_TYPE] |= MULTIFUNCTION;
    bars_update(b);
    pthread_mutex_unlock(&b->lock);
    return 0;
}

/* ---- the bus's own state ---- */

static int bus_loaded(void *obj, struct error *err)
{
    struct pci_bus *b = obj;
    (void)err;
    b->address &= ADDRESS_BITS;
    return 0;
}

static const struct state_field bus_fields[] = { STATE_FIELD(struct pci_bus, address, 1), STATE_END };
static const struct state_desc bus_state = { "pci_bus", 1, bus_fields, NULL, bus_loaded };

int pci_bus_add_state(struct pci_bus *b, struct state_list *l)
{
    return state_add(l, &bus_state, 0, b);
}
