/* SPDX-License-Identifier: Apache-2.0 */
/*
 * card_rig.h - a PCI bus with memory and nothing on it, for the test of a card; and the cable of a network card, which
 * keeps what is sent and refuses when the test says so.  Include it in one .c of a test program.
 */
#ifndef LODGE_TEST_CARD_RIG_H
#define LODGE_TEST_CARD_RIG_H

#include <stdlib.h>

#include "fake_loop.h"
#include "memory/memory.h"
#include "net/net.h"
#include "pci/pci.h"
#include "test.h"

enum { RIG_MEMORY = 0x400000 };

struct rig {
    struct memory *m;
    struct bus *ports, *mmio;
    struct pci_bus *pci;
    struct state_list *state;
    bool line[PCI_INTX_LINES];
    unsigned raised;
};
static struct rig rig;

static void rig_line(void *chip, u32 pin, bool level)
{
    rig.raised += level && !rig.line[pin];
    rig.line[pin] = level;
}
static void rig_msi(void *ctx, u64 address, u32 data) {}

static inline void rig_open(void)
{
    if (!rig.m && (!(rig.m = memory_new(NULL)) || memory_add(rig.m, "ram", 0, RIG_MEMORY, false, NULL)))
        abort();
    rig.ports = bus_new(0x10000), rig.mmio = bus_new(1ull << 40), rig.state = state_list_new();
    rig.raised = 0;
    struct pci_bus_config c = { .ports = rig.ports, .mmio = rig.mmio, .memory = rig.m, .msi = rig_msi, .mmio32 = 0xc0000000,
                                .mmio32_size = MiB(1), .io = 0x1000, .io_size = 0x100 };
    for (u32 i = 0; i < PCI_INTX_LINES; i++)
        c.intx[i] = (struct irq_line){ rig_line, NULL, i }, rig.line[i] = false;
    if (!(rig.pci = pci_bus_new(&c, NULL)))
        abort();
}

static inline void rig_close(void)
{
    pci_bus_free(rig.pci);
    bus_free(rig.ports), bus_free(rig.mmio);
    state_list_free(rig.state);
}

/* Bus master, decoding on, BARs placed. */
static inline void rig_start(struct pci_function *f)
{
    pci_assign(rig.pci, (u8[PCI_INTX_LINES]){ 10, 11, 10, 11 });
    bus_write(rig.ports, 0xcf8, 4, 0x80000000u | (u32)f->devfn << 8 | 4);
    bus_write(rig.ports, 0xcfc, 2, 7);
}

static inline void *rig_at(u64 gpa, u64 len)
{
    void *p = memory_ptr(rig.m, gpa, len, true);
    if (!p)
        abort();
    return p;
}

static inline void rig_turns(void)
{
    for (int i = 0; i < 6; i++) {
        fake_run_posts();
        fake_advance(0);
    }
}

/* ---- the cable ---- */

struct net {
    const struct net_user *user;
    void *card;
    bool down, waits;
    u32 full, nsent, flushes; /* full: refuses, after so many more */
    u32 len;                  /* of the last one sent, header included, which is in data */
    u8 data[NET_HDR + NET_MAX_FRAME];
    u8 packet[NET_HDR + NET_MAX_FRAME];
    u32 packet_len;
};
static struct net cable;

void net_connect(struct net *n, const struct net_user *user, void *card) { n->user = user, n->card = card; }
void net_mac(const struct net *n, u8 mac[6]) { memcpy(mac, "\x52\x54\x00\x12\x34\x56", 6); }
bool net_link(const struct net *n) { return !n->down; }
void net_set_offloads(struct net *n, u32 receive) {}
void net_flush(struct net *n, u32 q) { n->flushes++; }

bool net_send(struct net *n, u32 q, const struct iovec *iov, u32 niov, size_t len)
{
    size_t at = 0;

    if (q || len < NET_HDR + 14 || len > sizeof(n->data))
        abort();
    if (n->full && n->full-- == 1) {
        n->full = 1;
        return false;
    }
    for (u32 i = 0; i < niov; at += iov[i++].iov_len)
        memcpy(n->data + at, iov[i].iov_base, iov[i].iov_len);
    if (at != len)
        abort();
    n->len = (u32)len;
    n->nsent++;
    return true;
}

/* cable.packet comes; it waits if it is refused. */
static inline bool rig_arrive(u32 len)
{
    struct iovec iov[] = { { cable.packet, NET_HDR }, { cable.packet + NET_HDR, MIN(len, 20u) },
                           { cable.packet + NET_HDR + 20, len - MIN(len, 20u) } };
    cable.packet_len = len;
    cable.waits = !cable.user->receive(cable.card, 0, iov, 3, NET_HDR + len);
    cable.user->batch(cable.card, 0);
    return !cable.waits;
}

void net_resume(struct net *n, u32 q)
{
    if (n->waits)
        rig_arrive(n->packet_len);
}

#endif
