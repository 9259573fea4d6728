/* SPDX-License-Identifier: Apache-2.0 */
/* e1000.c - see e1000.h: registers, the cable, and its life. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/e1000_internal.h"
#include "net/frame.h"

enum { MMIO_SIZE = 0x20000, IO_SIZE = 8, IOADDR = 0, IODATA = 4, MMIO_BAR = 0, IO_BAR = 2 };
#define RAH_WRITABLE 0x8003ffffu

/* Which bits software can write in the registers whose writing does nothing at once; others read as zero. */
static const struct {
    u16 first, last;
    u32 mask;
} writable[] = {
    { CTRL_EXT, CTRL_EXT, 0x00f0ff0f }, { FLA, FLA, 0 }, { FCAL, FCAL, ~0u }, { FCAH, FCT, 0xffff }, { VET, VET, 0xffff },
    { ITR, ITR, 0xffff }, { RCTL, RCTL, 0x06dfb3fe }, { FCTTV, FCTTV, 0xffff }, { TXCW, TXCW, 0xc000ffff },
    { TCTL, TCTL, 0x017fffff }, { TIPG, TIPG, 0x3fffffff }, { AIT, AIT, 0xffff }, { LEDCTL, LEDCTL, 0xcfcfcfcf },
    { PBA, PBA, 0x7f }, { FCRTL, FCRTL, 0x8000fff8 }, { FCRTH, FCRTH, 0xfff8 }, { RDFH, RDFPC, 0x1fff },
    { RDBAL, RDBAL, 0xfffffff0 }, { RDBAH, RDBAH, ~0u }, { RDLEN, RDLEN, 0xfff80 }, { RDH, RDH, 0xffff },
    { RXDCTL, RXDCTL, 0x013f3f3f }, { RADV, RADV, 0xffff }, { RSRPD, RSRPD, 0xfff }, { TXDMAC, TXDMAC, 1 },
    { TDFH, TDFPC, 0x1fff }, { TDBAL, TDBAL, 0xfffffff0 }, { TDBAH, TDBAH, ~0u }, { TDLEN, TDLEN, 0xfff80 },
    { TDH, TDH, 0xffff }, { TXDCTL, TXDCTL, 0xff3f3f3f }, { TADV, TADV, 0xffff }, { TSPMT, TSPMT, ~0u },
    { RXCSUM, RXCSUM, 0x7ff }, { MTA, MTA_END - 4, ~0u }, { RA, RA_END - 4, ~0u }, { VFTA, VFTA_END - 4, ~0u },
    { WUC, WUC, 0xf }, { WUFC, WUFC, 0xf00ff }, { MANC, MANC, 0x0073e7ff }, { IPAV, IPAV, 0x1000f },
};

/* ---- registers ------------------------------------------------------------ */

/* CTRL.RST: all but configuration space, the EEPROM and the PHY (4.6, 14.4). */
static void reset_mac(struct e1000 *e)
{
    memset(e->reg, 0, sizeof(e->reg));
    memset(&e->wire, 0, sizeof(e->wire));
    memset(e->context, 0, sizeof(e->context));
    e->cut = e->io_addr = e->swsm = 0;
    e->tx_waits = e->rx_some = false;
    e->next_interrupt = 0;
    e1000_delay_stop(&e->rx_delay);
    e1000_delay_stop(&e->tx_delay);
    e1000_interrupts(e);
    REG(CTRL) = CTRL_FD | CTRL_SLU | CTRL_SPEED_1000;
    REG(VET) = 0x8100;
    REG(LEDCTL) = 0x07068302;
    REG(PBA) = 0x00100030;
    REG(RA) = e->eeprom[0] | (u32)e->eeprom[1] << 16;
    REG(RA + 4) = e->eeprom[2] | RAH_AV;
    loop_kick(&e->kick); /* what the backend keeps is for nobody */
}

static u32 read_register(struct e1000 *e, u32 at)
{
    u32 v;

    if (at >= REGISTERS_END)
        return at == SWSM ? e->swsm : 0;
    v = REG(at);
    switch (at) {
    case CTRL_DUP:
        return REG(CTRL);
    case STATUS:
        return STATUS_FD | STATUS_SPEED_1000 | STATUS_ASDV_1000 | (e1000_link(e) ? STATUS_LU : 0);
    case EECD:
        return e1000_eeprom_lines(e);
    case ICR:
        REG(ICR) = 0;
        e1000_interrupts(e);
        return v;
    case ICS:
        return REG(ICR);
    case GORCL:
    case GOTCL:
    case TORL:
    case TOTL:
        return v;
    case GORCH: /* the upper half clears both */
    case GOTCH:
    case TORH:
    case TOTH:
        REG(at - 4) = REG(at) = 0;
        return v;
    default:
        if (at >= STATS && at < STATS_END)
            REG(at) = 0;
        return v;
    }
}

static void write_control(struct e1000 *e, u32 value)
{
    bool link = e1000_link(e);

    if (value & CTRL_PHY_RST)
        e1000_phy_reset(e);
    if (value & CTRL_RST) {
        reset_mac(e);
        return;
    }
    REG(CTRL) = value & ~(u32)(CTRL_PHY_RST | CTRL_RST);
    if (link != e1000_link(e))
        e1000_link_changed(e);
}

static void write_plain(struct e1000 *e, u32 at, u32 value)
{
    for (u32 i = 0; i < ARRAY_SIZE(writable); i++)
        if (at >= writable[i].first && at <= writable[i].last) {
            REG(at) = value & writable[i].mask;
            if (at >= RA && at < RA_END && (at & 4))
                REG(at) &= RAH_WRITABLE;
            return;
        }
}

static void write_register(struct e1000 *e, u32 at, u32 value)
{
    switch (at) {
    case CTRL:
    case CTRL_DUP:
        write_control(e, value);
        return;
    case EECD:
        e1000_eeprom_write(e, value);
        return;
    case EERD:
        e1000_eeprom_read(e, value);
        return;
    case MDIC:
        e1000_mdic(e, value);
        return;
    case ICR:
        REG(ICR) &= ~value;
        break;
    case ICS:
        REG(ICR) |= value & CAUSES;
        break;
    case IMS:
        REG(IMS) |= value & CAUSES;
        break;
    case IMC:
        REG(IMS) &= ~value;
        break;
    case RDTR:
        REG(RDTR) = value & 0xffff;
        if (value & DELAY_FPD)
            e1000_delay_over(e, &e->rx_delay, RXT0);
        return;
    case TIDV:
        REG(TIDV) = value & 0xffff;
        if (value & DELAY_FPD)
            e1000_delay_over(e, &e->tx_delay, TXDW);
        return;
    case RDT:
        REG(RDT) = value & 0xffff;
        if (e->rx_refused)
            loop_kick(&e->kick);
        return;
    case TDT:
        REG(TDT) = value & 0xffff;
        loop_kick(&e->kick);
        return;
    case TDH:
    case TDBAL:
    case TDLEN:
        e->cut = 0; /* another packet is at TDH */
        write_plain(e, at, value);
        return;
    case RCTL:
    case TCTL:
        write_plain(e, at, value);
        loop_kick(&e->kick);
        return;
    case PBA: /* what transmission gets follows from what reception gets, of 64 KiB */
        write_plain(e, at, value);
        REG(PBA) |= (0x40 - MIN(REG(PBA), 0x40u)) << 16;
        return;
    case WUS:
        REG(WUS) &= ~value;
        return;
    case SWSM:
        e->swsm = value & 3;
        return;
    default:
        write_plain(e, at, value);
        return;
    }
    e1000_interrupts(e);
}

static u64 mmio_read(void *dev, u64 offset, unsigned size)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    u32 v = read_register(e, (u32)offset & ~3u);
    pthread_mutex_unlock(&e->lock);
    return v;
}

static void mmio_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    write_register(e, (u32)offset & ~3u, (u32)value);
    pthread_mutex_unlock(&e->lock);
}

/* 13.2.2: a window for those who cannot reach the memory BAR. */
static u64 io_read(void *dev, u64 offset, unsigned size)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    u32 v = (offset & 4) == IOADDR ? e->io_addr : read_register(e, e->io_addr & ~3u);
    pthread_mutex_unlock(&e->lock);
    return v;
}

static void io_write(void *dev, u64 offset, unsigned size, u64 value)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    if ((offset & 4) == IOADDR)
        e->io_addr = (u32)value & (MMIO_SIZE - 1);
    else
        write_register(e, e->io_addr & ~3u, (u32)value);
    pthread_mutex_unlock(&e->lock);
}

static const struct bus_ops mmio_ops = { mmio_read, mmio_write, 4, 4 };
static const struct bus_ops io_ops = { io_read, io_write, 4, 4 };

/* ---- the loop's thread, and the cable ------------------------------------- */

static void on_kick(struct loop_kick *k)
{
    struct e1000 *e = container_of(k, struct e1000, kick);

    pthread_mutex_lock(&e->lock);
    e1000_transmit(e);
    if (e->rx_refused) {
        e->rx_refused = false;
        net_resume(e->net, 0);
    }
    pthread_mutex_unlock(&e->lock);
}

/* Copied together: checksums and tags are easier to see in one piece. */
static bool receive(void *card, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    struct e1000 *e = card;
    struct virtio_net_hdr_v1 hdr;
    size_t skip = NET_HDR, at = 0;
    struct frame f;
    bool taken = true;

    pthread_mutex_lock(&e->lock);
    if (len < NET_HDR + FRAME_ETH || len > NET_HDR + NET_MAX_FRAME || iov[0].iov_len < NET_HDR)
        goto out;
    memcpy(&hdr, iov[0].iov_base, NET_HDR);
    for (u32 i = 0; i < niov; i++, skip = 0) {
        size_t k = iov[i].iov_len - skip;
        memcpy(e->rx + at, (const u8 *)iov[i].iov_base + skip, k);
        at += k;
    }
    bool checked = hdr.flags & VIRTIO_NET_HDR_F_DATA_VALID;
    if (hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        if (frame_check(&f, &hdr, e->rx, at))
            goto out;
        frame_complete(&f, e->rx);
        checked = true;
    }
    taken = e1000_receive(e, (u32)at, checked);
    if (!taken) {
        e->rx_refused = true;
        e1000_received(e);
    }
out:
    pthread_mutex_unlock(&e->lock);
    return taken;
}

static void batch(void *card, u32 q)
{
    struct e1000 *e = card;

    pthread_mutex_lock(&e->lock);
    e1000_received(e);
    pthread_mutex_unlock(&e->lock);
}

static void cable_changed(void *card, bool up)
{
    struct e1000 *e = card;

    pthread_mutex_lock(&e->lock);
    bool link = e1000_link(e);
    e->cable = up;
    if (link != e1000_link(e))
        e1000_link_changed(e);
    pthread_mutex_unlock(&e->lock);
}

static void room(void *card)
{
    struct e1000 *e = card;

    pthread_mutex_lock(&e->lock);
    e->tx_waits = false;
    e1000_transmit(e);
    pthread_mutex_unlock(&e->lock);
}

static const struct net_user user = { .receive = receive, .batch = batch, .link = cable_changed, .room = room };

/* ---- life ------------------------------------------------------------------ */

static void config_written(struct pci_function *f, u32 offset, u32 len)
{
    if (offset < 6 && offset + len > 4) /* COMMAND: it may have become bus master */
        loop_kick(&container_of(f, struct e1000, f)->kick);
}

void e1000_reset(void *dev)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    e1000_eeprom_init(e);
    e1000_phy_reset(e);
    reset_mac(e);
    pthread_mutex_unlock(&e->lock);
}

void e1000_resume(void *dev)
{
    struct e1000 *e = dev;

    pthread_mutex_lock(&e->lock);
    e->tx_waits = false;
    e->rx_refused = true;
    loop_kick(&e->kick);
    pthread_mutex_unlock(&e->lock);
}

static u64 left(u64 at)
{
    u64 now = clock_ns();
    return !at ? 0 : at > now ? at - now : 1;
}

static int saving(void *obj)
{
    struct e1000 *e = obj;

    pthread_mutex_lock(&e->lock);
    e->rx_delay.left = left(e->rx_delay.at);
    e->tx_delay.left = left(e->tx_delay.at);
    e->next_left = left(e->next_interrupt);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static void delay_loaded(struct e1000_delay *d)
{
    e1000_delay_stop(d);
    if (!d->left)
        return;
    d->at = d->limit = clock_ns() + MIN(d->left, 0xffffull * E1000_DELAY_UNIT_NS);
    timer_arm(&d->timer, d->at);
}

static int loaded(void *obj, struct error *err)
{
    struct e1000 *e = obj;

    pthread_mutex_lock(&e->lock);
    /* Bits that no write could have left there. */
    for (u32 i = 0; i < ARRAY_SIZE(writable); i++)
        for (u32 at = writable[i].first; at <= writable[i].last; at += 4)
            if (at != PBA)
                REG(at) &= writable[i].mask;
    REG(RDT) &= 0xffff, REG(TDT) &= 0xffff, REG(RDTR) &= 0xffff, REG(TIDV) &= 0xffff;
    REG(ICR) &= CAUSES, REG(IMS) &= CAUSES;
    e->io_addr &= MMIO_SIZE - 1, e->swsm &= 3;
    e->wire.nin = MIN(e->wire.nin, 32), e->wire.nout = MIN(e->wire.nout, 16);
    delay_loaded(&e->rx_delay);
    delay_loaded(&e->tx_delay);
    e->next_interrupt = clock_ns() + MIN(e->next_left, 0xffffull * E1000_ITR_UNIT_NS);
    e->line = e->f.intx;
    e->rx_some = e->tx_waits = false;
    e1000_interrupts(e);
    pthread_mutex_unlock(&e->lock);
    return 0;
}

static const struct state_field context_fields[] = {
    STATE_FIELD(struct e1000_context, ipcss, 1),  STATE_FIELD(struct e1000_context, ipcso, 1),
    STATE_FIELD(struct e1000_context, tucss, 1),  STATE_FIELD(struct e1000_context, tucso, 1),
    STATE_FIELD(struct e1000_context, ipcse, 1),  STATE_FIELD(struct e1000_context, tucse, 1),
    STATE_FIELD(struct e1000_context, mss, 1),    STATE_FIELD(struct e1000_context, tucmd, 1),
    STATE_FIELD(struct e1000_context, hdrlen, 1), STATE_END,
};
static const struct state_field fields[] = {
    STATE_ARRAY(struct e1000, reg, 1),
    STATE_FIELD(struct e1000, io_addr, 1),
    STATE_FIELD(struct e1000, swsm, 2),
    STATE_ARRAY(struct e1000, phy, 1),
    STATE_ARRAY(struct e1000, eeprom, 1),
    STATE_FIELD(struct e1000, wire.in, 1),
    STATE_FIELD(struct e1000, wire.nin, 1),
    STATE_FIELD(struct e1000, wire.nout, 1),
    STATE_FIELD(struct e1000, wire.out, 1),
    STATE_FIELD(struct e1000, wire.writable, 1),
    STATE_FIELD(struct e1000, wire.line, 1),
    STATE_STRUCTS(struct e1000, context, 1, context_fields),
    STATE_FIELD(struct e1000, cut, 1),
    STATE_FIELD(struct e1000, rx_delay.left, 1),
    STATE_FIELD(struct e1000, tx_delay.left, 1),
    STATE_FIELD(struct e1000, next_left, 1),
    STATE_END,
};
static const struct state_desc state = { "e1000", 2, fields, saving, loaded };

struct pci_function *e1000_pci(struct e1000 *e)
{
    return &e->f;
}

struct e1000 *e1000_new(struct net *net, struct memory *m, struct loop *loop, struct pci_bus *bus, struct state_list *l,
                        u32 instance, struct error *err)
{
    struct e1000 *e = calloc(1, sizeof(*e));
    struct pci_bar mmio = { .size = MMIO_SIZE, .ops = &mmio_ops, .dev = e, .name = "e1000" };
    struct pci_bar io = { .size = IO_SIZE, .flags = PCI_BAR_IO, .ops = &io_ops, .dev = e, .name = "e1000" };
    pthread_mutexattr_t recursive;

    if (!e) {
        error_set(err, ENOMEM, "not enough memory for the network card");
        return NULL;
    }
    e->memory = m;
    e->net = net;
    e->cable = net_link(net);
    net_mac(net, e->mac);
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&e->lock, &recursive);
    pthread_mutexattr_destroy(&recursive);
    loop_kick_init(&e->kick, loop, on_kick);
    e1000_timers_init(e, loop);

    pci_function_init(&e->f, "e1000", 0x8086, 0x100e, 2, 0x020000, 0x8086, 0x001e);
    pci_use_intx(&e->f);
    pci_bar_init(&e->f, MMIO_BAR, &mmio);
    pci_bar_init(&e->f, IO_BAR, &io);
    e->f.config_written = config_written;
    if (pci_add(bus, &e->f, PCI_SLOTS, 0, l, err)) {
        free(e);
        return NULL;
    }
    e1000_reset(e);
    net_connect(net, &user, e);
    net_set_offloads(net, NET_CSUM); /* what has no checksum yet gets it here */
    if (l && state_add(l, &state, instance, e)) {
        error_set(err, ENOMEM, "out of memory");
        pci_remove(&e->f);
        e1000_free(e);
        return NULL;
    }
    return e;
}

void e1000_free(struct e1000 *e)
{
    if (!e)
        return;
    net_connect(e->net, NULL, NULL);
    loop_kick_remove(&e->kick);
    timer_disarm(&e->rx_delay.timer);
    timer_disarm(&e->tx_delay.timer);
    timer_disarm(&e->itr);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    struct e1000 *e = d->dev = e1000_new(d->net, env->memory, env->loop, env->pci, env->state, d->index, err);
    return e ? env->net_boot(env->board, &e->f, "efi-e1000.rom", err) : -EINVAL;
}

static void unplug(struct device *d) { e1000_free(d->dev); }
static void reset(struct device *d) { e1000_reset(d->dev); }
static void resume(struct device *d) { e1000_resume(d->dev); }

const struct device_class e1000_class = {
    .kind = DEVICE_NET, .name = "e1000", .create = create, .unplug = unplug, .reset = reset, .resume = resume,
};
