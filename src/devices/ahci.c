/* SPDX-License-Identifier: Apache-2.0 */
/* ahci.c - see ahci.h. Registers, interrupts, life. AHCI 1.3.1 ch. 2 (configuration space), 3 (registers). */
#include <errno.h>
#include <string.h>

#include "devices/ahci_private.h"

enum { CAP = 0x00, GHC = 0x04, IS = 0x08, PI = 0x0c, VS = 0x10 };
enum { GHC_HR = 1, GHC_IE = 2 };
#define GHC_AE 0x80000000u
/* S64A, SNCQ, CLO, 3 Gbit/s, AHCI only, 32 slots */
#define CAP_BITS (1u << 31 | 1u << 30 | 1u << 24 | 2u << 20 | 1u << 18 | 31u << 8)
enum { PORTS = 0x100, PORT_SIZE = 0x80, ABAR_SIZE = 0x1000, ABAR = 5 };
enum {
    P_CLB = 0x00, P_CLBU = 0x04, P_FB = 0x08, P_FBU = 0x0c, P_IS = 0x10, P_IE = 0x14, P_CMD = 0x18, P_TFD = 0x20, P_SIG = 0x24,
    P_SSTS = 0x28, P_SCTL = 0x2c, P_SERR = 0x30, P_SACT = 0x34, P_CI = 0x38,
};
enum { IE_BITS = 0x7dc0007f, SCTL_DET = 0xf, MAP = 0x90, PCS = 0x92, PCI_STATUS = 6 };

/* ---- interrupts ---- */

static void update_intx(struct ahci *a)
{
    pci_set_intx(&a->f, a->is && a->ghc & GHC_IE && !pci_msi_enabled(&a->f));
}

/* Ports with something to tell are in IS; a message is sent if there is something new. */
static void update(struct ahci *a, bool news)
{
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].is & a->port[i].ie)
            a->is |= 1u << i;
    if (news && a->is && a->ghc & GHC_IE)
        pci_msi_notify(&a->f, 0);
    update_intx(a);
}

void ahci_raise(struct ahci_port *p, u32 bits)
{
    const u32 before = p->is & p->ie;

    p->is |= bits;
    update(p->hba, p->is & p->ie & ~before);
}

/* ---- registers ---- */

static u32 implemented(const struct ahci *a)
{
    u32 mask = 0;

    for (u32 i = 0; i < AHCI_PORTS; i++)
        mask |= a->port[i].drive ? 1u << i : 0;
    return mask;
}

static u32 port_read(const struct ahci_port *p, u32 reg)
{
    switch (reg) {
    case P_CLB:
        return (u32)p->clb;
    case P_CLBU:
        return (u32)(p->clb >> 32);
    case P_FB:
        return (u32)p->fb;
    case P_FBU:
        return (u32)(p->fb >> 32);
    case P_IS:
        return p->is;
    case P_IE:
        return p->ie;
    case P_CMD:
        return p->cmd;
    case P_TFD:
        return p->drive && (p->slot != AHCI_NO_SLOT || p->drive->resetting || p->srst) ? p->tfd | ATA_BSY : p->tfd;
    case P_SIG:
        return p->sig;
    case P_SSTS:
        return p->ssts;
    case P_SCTL:
        return p->sctl;
    case P_SERR:
        return p->serr;
    case P_SACT:
        return p->sact;
    case P_CI:
        return p->ci;
    default:
        return 0;
    }
}

static void put_low(u64 *reg, u32 v, u32 align)
{
    *reg = (*reg & ~0xffffffffull) | (v & ~(align - 1));
}

static void put_high(u64 *reg, u32 v)
{
    *reg = (*reg & 0xffffffff) | (u64)v << 32;
}

static void command_write(struct ahci_port *p, u32 v)
{
    const u32 keep = CMD_ST | CMD_SUD | CMD_POD | CMD_FRE | CMD_ATAPI | CMD_DLAE, was = p->cmd;

    p->cmd = (was & ~keep) | (v & keep) | CMD_SUD | CMD_POD;
    if (v & CMD_CLO && !(v & CMD_ST))
        p->tfd &= ~(u32)(ATA_BSY | ATA_DRQ);
    p->cmd = p->cmd & CMD_FRE ? p->cmd | CMD_FR : p->cmd & ~(u32)CMD_FR;
    ahci_port_receive(p);
    if (v & CMD_ST && !(was & CMD_ST))
        ahci_port_start(p);
    else if (!(v & CMD_ST) && was & CMD_ST)
        ahci_port_stop(p);
}

static void sctl_write(struct ahci_port *p, u32 v)
{
    const u32 was = p->sctl & SCTL_DET, det = v & SCTL_DET;

    p->sctl = v & 0xfff;
    if (det == was)
        return;
    if (det == 1) { /* COMRESET as long as it is 1 */
        p->ssts = 0;
        ahci_port_comreset(p);
    } else {
        p->ssts = det == 4 || !p->drive ? det == 4 ? 4 : 0 : SSTS_UP;
    }
}

static void port_write(struct ahci_port *p, u32 reg, u32 v)
{
    switch (reg) {
    case P_CLB:
        put_low(&p->clb, v, 1024);
        break;
    case P_CLBU:
        put_high(&p->clb, v);
        break;
    case P_FB:
        put_low(&p->fb, v, 256);
        break;
    case P_FBU:
        put_high(&p->fb, v);
        break;
    case P_IS:
        p->is &= ~(v & IS_WRITABLE);
        break;
    case P_IE: {
        const u32 before = p->is & p->ie;
        p->ie = v & IE_BITS;
        update(p->hba, p->is & p->ie & ~before);
        break;
    }
    case P_CMD:
        command_write(p, v);
        break;
    case P_SCTL:
        sctl_write(p, v);
        break;
    case P_SERR:
        p->serr &= ~v;
        break;
    case P_SACT:
        if (p->cmd & CMD_ST)
            p->sact |= v;
        break;
    case P_CI:
        if (p->cmd & CMD_ST) {
            p->ci |= v;
            ahci_port_run(p);
        }
        break;
    default:
        break;
    }
}

static void port_power_on(struct ahci_port *p)
{
    p->is = p->ie = p->sctl = p->serr = p->sact = p->ci = 0;
    p->clb = p->fb = 0;
    p->cmd = CMD_SUD | CMD_POD;
    p->sig = UINT32_MAX;
    p->ssts = p->drive ? SSTS_UP : 0;
    p->next = 0;
    p->halted = p->srst = false;
    p->tfd = TFD_NONE;
    p->slot = AHCI_NO_SLOT;
    p->moved = 0;
}

/* 10.4.3: all but PI, and what firmware writes once. */
static void hba_reset(struct ahci *a)
{
    bool all = true;

    a->is = 0;
    for (u32 i = 0; i < AHCI_PORTS; i++) {
        port_power_on(&a->port[i]);
        if (!a->port[i].drive)
            continue;
        ahci_port_comreset(&a->port[i]);
        all = all && !a->port[i].drive->resetting;
    }
    a->ghc = all ? 0 : GHC_HR; /* until all drives have been reset */
    update_intx(a);
}

static u64 abar_read(void *dev, u64 offset, unsigned size)
{
    struct ahci *a = dev;
    u32 v = 0;

    pthread_mutex_lock(&a->lock);
    const u32 n = (u32)(offset - PORTS) / PORT_SIZE;
    if (offset >= PORTS)
        v = n < AHCI_PORTS ? port_read(&a->port[n], (u32)(offset - PORTS) % PORT_SIZE) : 0;
    else if (offset == CAP)
        v = CAP_BITS | (AHCI_PORTS - 1);
    else if (offset == GHC)
        v = GHC_AE | a->ghc;
    else if (offset == IS)
        v = a->is;
    else if (offset == PI)
        v = implemented(a);
    else if (offset == VS)
        v = 0x10300;
    pthread_mutex_unlock(&a->lock);
    return v;
}

static void abar_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct ahci *a = dev;
    const u32 v = (u32)value, n = (u32)(offset - PORTS) / PORT_SIZE;

    pthread_mutex_lock(&a->lock);
    if (offset >= PORTS && n < AHCI_PORTS) {
        port_write(&a->port[n], (u32)(offset - PORTS) % PORT_SIZE, v);
    } else if (offset == GHC) {
        const bool enabled = !(a->ghc & GHC_IE) && v & GHC_IE;
        a->ghc = (a->ghc & GHC_HR) | (v & GHC_IE);
        if (v & GHC_HR && !(a->ghc & GHC_HR))
            hba_reset(a);
        else
            update(a, enabled);
    } else if (offset == IS) {
        a->is &= ~v;
        update(a, true); /* what has come meanwhile */
    }
    pthread_mutex_unlock(&a->lock);
}

static const struct bus_ops abar_ops = { abar_read, abar_write, 4, 4 };

/* MSI and bus mastering are switched here. */
static void config_written(struct pci_function *f, u32 offset, u32 len)
{
    struct ahci *a = container_of(f, struct ahci, f);

    pthread_mutex_lock(&a->lock);
    update_intx(a);
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].drive && a->port[i].hba) {
            ata_dma_start(a->port[i].drive);
            ahci_port_run(&a->port[i]);
        }
    pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

static int port_loaded(void *obj, struct error *err)
{
    struct ahci_port *p = obj;

    p->clb &= ~1023ull;
    p->fb &= ~255ull;
    p->next %= ATA_TAGS;
    p->ie &= IE_BITS;
    if (p->slot < ATA_TAGS || p->slot == AHCI_NO_SLOT)
        return 0;
    p->slot = AHCI_NO_SLOT;
    return error_set(err, EINVAL, "the saved state does not fit an AHCI port");
}

static int loaded(void *obj, struct error *err)
{
    struct ahci *a = obj;

    a->ghc &= GHC_HR | GHC_IE;
    a->is &= (1u << AHCI_PORTS) - 1;
    update_intx(a);
    return 0;
}

static const struct state_field port_fields[] = {
    STATE_FIELD(struct ahci_port, clb, 1),    STATE_FIELD(struct ahci_port, fb, 1),        STATE_FIELD(struct ahci_port, is, 1),
    STATE_FIELD(struct ahci_port, ie, 1),     STATE_FIELD(struct ahci_port, cmd, 1),       STATE_FIELD(struct ahci_port, tfd, 1),
    STATE_FIELD(struct ahci_port, sig, 1),    STATE_FIELD(struct ahci_port, ssts, 1),      STATE_FIELD(struct ahci_port, sctl, 1),
    STATE_FIELD(struct ahci_port, serr, 1),   STATE_FIELD(struct ahci_port, sact, 1),      STATE_FIELD(struct ahci_port, ci, 1),
    STATE_FIELD(struct ahci_port, slot, 1),   STATE_FIELD(struct ahci_port, next, 1),      STATE_FIELD(struct ahci_port, halted, 1),
    STATE_FIELD(struct ahci_port, srst, 1),   STATE_FIELD(struct ahci_port, signature, 1), STATE_FIELD(struct ahci_port, moved, 1),
    STATE_END,
};
static const struct state_desc port_state = { "ahci_port", 1, port_fields, .post_load = port_loaded };
static const struct state_field fields[] = { STATE_FIELD(struct ahci, ghc, 1), STATE_FIELD(struct ahci, is, 1), STATE_END };
static const struct state_desc state = { "ahci", 1, fields, .post_load = loaded };

int ahci_init(struct ahci *a, struct pci_bus *bus, struct state_list *l, struct error *err)
{
    const struct pci_bar bar = { .size = ABAR_SIZE, .ops = &abar_ops, .dev = a, .name = "ahci" };
    struct pci_function *f = &a->f;

    memset(a, 0, sizeof *a);
    a->state = l;
    pthread_mutex_init(&a->lock, NULL);
    pci_function_init(f, "ahci", 0x8086, 0x2922, 2, 0x010601, 0x8086, 0x2922);
    pci_bar_init(f, ABAR, &bar);
    pci_use_intx(f);
    pci_add_msi(f, 1);
    f->config[MAP] = 0x40; /* AHCI mode, all six ports this function's */
    f->wmask[PCS] = 0x3f;
    f->config_written = config_written;
    for (u32 i = 0; i < AHCI_PORTS; i++) {
        a->port[i].hba = a;
        port_power_on(&a->port[i]);
        if (l && state_add(l, &port_state, i, &a->port[i]))
            return error_set(err, ENOMEM, "out of memory");
    }
    if (l && state_add(l, &state, 0, a))
        return error_set(err, ENOMEM, "out of memory");
    return pci_add(bus, f, PCI_SLOTS, 0, l, err);
}

int ahci_plug(struct ahci *a, u32 port, const struct ata_drive_config *c, struct error *err)
{
    enum { INSTANCE = 16 };
    struct ahci_port *p = &a->port[port];

    if (!(p->drive = ata_new(c, &ahci_port_ops, p, &a->lock, err)))
        return -EINVAL;
    if (a->state && state_add(a->state, &ata_state, INSTANCE + port, p->drive))
        return error_set(err, ENOMEM, "out of memory");
    return 0;
}

struct ata_drive *ahci_drive(struct ahci *a, u32 port)
{
    return a->port[port].drive;
}

void ahci_destroy(struct ahci *a)
{
    if (!a->port[0].hba)
        return;
    for (u32 i = 0; i < AHCI_PORTS; i++)
        ata_free(a->port[i].drive);
    pthread_mutex_destroy(&a->lock);
    a->port[0].hba = NULL;
}

void ahci_reset(struct ahci *a)
{
    pthread_mutex_lock(&a->lock);
    a->ghc = a->is = 0;
    for (u32 i = 0; i < AHCI_PORTS; i++)
        port_power_on(&a->port[i]);
    update_intx(a);
    pthread_mutex_unlock(&a->lock);
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].drive)
            ata_power_on(a->port[i].drive);
}

void ahci_settle(struct ahci *a)
{
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].drive)
            ata_settle(a->port[i].drive);
}

void ahci_resume(struct ahci *a)
{
    for (u32 i = 0; i < AHCI_PORTS; i++)
        if (a->port[i].drive)
            ata_resume(a->port[i].drive);
}
