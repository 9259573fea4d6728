/* SPDX-License-Identifier: Apache-2.0 */
/*
 * e1000_tx.c - transmission: descriptors (3.3), checksums and segmentation (3.5), VLAN tags (9.2).
 *
 * A packet is taken when its last descriptor (EOP) is there, copied once into e->packet, and its descriptors are given back
 * when the cable has it.  So nothing of a packet but `cut` outlives a call.
 */
#include <string.h>

#include "base/log.h"
#include "devices/e1000_internal.h"
#include "net/frame.h"

enum { /* the second quadword of a descriptor */
    CMD_EOP = 1 << 24, CMD_IC = 1 << 26, CMD_TSE = 1 << 26, CMD_RS = 1 << 27, CMD_DEXT = 1 << 29, CMD_VLE = 1 << 30,
    DTYP_SHIFT = 20, DTYP_DATA = 1, STA_DD = 1 << 0, POPTS_SHIFT = 8, POPTS_IXSM = 1, POPTS_TXSM = 2,
};
#define CMD_IDE BIT(31)
enum { TUCMD_TCP = 1, TUCMD_IP = 2 };
enum { BURST = 128, FRAMES = 2048, /* packets in one turn of the loop, and frames made of them: then everybody else has his */
       DESCRIPTORS_MAX = 4096 /* of one packet */ };
enum { MAC_HEADERS = 12, MIN_FRAME = 60, IP_PROTOCOL_TCP = 6 };

struct descriptor {
    u64 buffer;
    u32 lower, upper;
};

/* The offloads that the descriptors of one packet ask for. */
struct packet {
    u32 len, first, last; /* bytes; lower of the first data descriptor and of the last one */
    u32 popts, upper;     /* of the first; of the last */
    u32 next;             /* descriptor after it */
    bool reports;         /* RS in some descriptor */
    bool bad;             /* no frame: too long, or not in memory */
};

static u8 *frame(struct e1000 *e)
{
    return e->packet + NET_HDR;
}

/* ---- descriptors ------------------------------------------------------------ */

static void set_context(struct e1000 *e, const struct descriptor *d)
{
    struct e1000_context *c = &e->context[(d->lower & CMD_TSE) != 0];

    c->ipcss = (u8)d->buffer, c->ipcso = (u8)(d->buffer >> 8), c->ipcse = (u16)(d->buffer >> 16);
    c->tucss = (u8)(d->buffer >> 32), c->tucso = (u8)(d->buffer >> 40), c->tucse = (u16)(d->buffer >> 48);
    c->tucmd = (u8)(d->lower >> 24);
    c->hdrlen = (u8)(d->upper >> 8);
    c->mss = (u16)(d->upper >> 16);
}

/* Status DD; the rest of the descriptor is as the driver wrote it. */
static void done(struct e1000 *e, u64 at)
{
    u8 *status = memory_ptr(e->memory, at + 12, 1, true);

    if (!status)
        return;
    __atomic_store_n(status, (u8)(*status | STA_DD), __ATOMIC_RELEASE);
    memory_written(e->memory, at + 12, 1);
}

enum gathered { NOTHING, PARTIAL, WHOLE, BROKEN };

/* Of the ring up to its tail: contexts are set, data is copied. */
static enum gathered gather(struct e1000 *e, const struct e1000_ring *r, struct packet *p)
{
    struct descriptor d;
    bool any = false;
    u32 at = r->head;

    *p = (struct packet){ 0 };
    for (u32 n = 0; at != r->tail; n++) {
        if (n == DESCRIPTORS_MAX || memory_read(e->memory, r->base + at * 16ull, &d, sizeof(d)))
            return BROKEN;
        at = at + 1 == r->n ? 0 : at + 1;
        p->next = at;
        p->reports |= (d.lower & CMD_RS) != 0;
        p->last = d.lower;
        if ((d.lower & CMD_DEXT) && (d.lower >> DTYP_SHIFT & 15) != DTYP_DATA) {
            set_context(e, &d);
            if (!any)
                return NOTHING;
            continue;
        }
        u32 len = d.lower & (d.lower & CMD_DEXT ? 0xfffff : 0xffff);
        if (!any) {
            p->first = d.lower;
            p->popts = d.lower & CMD_DEXT ? d.upper >> POPTS_SHIFT & 0xff : 0;
        }
        any = true;
        if (p->bad || len > NET_MAX_FRAME - p->len || (len && memory_read(e->memory, d.buffer, frame(e) + p->len, len)))
            p->bad = true;
        else
            p->len += len;
        if (d.lower & CMD_EOP) {
            p->upper = d.upper;
            return WHOLE;
        }
    }
    return PARTIAL;
}

/* The descriptors from TDH to p->next are the driver's again. */
static u32 give_back(struct e1000 *e, const struct e1000_ring *r, const struct packet *p)
{
    struct descriptor d;
    u32 causes = 0;

    for (u32 at = r->head; p->reports && at != p->next; at = at + 1 == r->n ? 0 : at + 1) {
        const u64 gpa = r->base + at * 16ull;
        if (memory_read(e->memory, gpa, &d, sizeof(d)) || !(d.lower & CMD_RS))
            continue;
        done(e, gpa);
        if ((d.lower & CMD_IDE) && REG(TIDV))
            e1000_delay(&e->tx_delay, REG(TIDV), REG(TADV));
        else
            causes |= TXDW;
    }
    REG(TDH) = p->next;
    e->cut = 0;
    return causes;
}

/* ---- frames ----------------------------------------------------------------- */

/* The sum of bytes start to end (0: the last one) goes to `to`, as what is there now is its beginning. */
static void insert_sum(u8 *data, u32 len, u32 start, u32 to, u32 end, bool never_zero)
{
    u32 stop = end && end < len ? end + 1 : len;

    if (start >= stop || to + 2 > len)
        return;
    u16 sum = (u16)~csum_fold(csum_add(0, data + start, stop - start));
    if (!sum && never_zero)
        sum = 0xffff;
    memcpy(data + to, &sum, 2);
}

static void checksums(const struct e1000_context *c, u32 popts, u8 *data, u32 len)
{
    if (popts & POPTS_IXSM)
        insert_sum(data, len, c->ipcss, c->ipcso, c->ipcse, false);
    if (popts & POPTS_TXSM)
        insert_sum(data, len, c->tucss, c->tucso, c->tucse, true);
}

/* Segment number n of the frame in e->packet, made as 3.5.3 says; its length. */
static u32 cut(struct e1000 *e, const struct packet *p, u32 n)
{
    const struct e1000_context *c = &e->context[1];
    u8 *to = e->segment + NET_HDR, *ip = to + c->ipcss, *tu = to + c->tucss;
    const u32 off = n * c->mss, k = MIN((u32)c->mss, p->len - c->hdrlen - off), len = c->hdrlen + k;
    const bool last = c->hdrlen + off + k == p->len;

    memcpy(to, frame(e), c->hdrlen);
    memcpy(to + c->hdrlen, frame(e) + c->hdrlen + off, k);
    if (c->tucmd & TUCMD_IP) {
        put16(ip + 2, len - c->ipcss);
        put16(ip + 4, get16(ip + 4) + n);
    } else {
        put16(ip + 4, len - c->ipcss - 40);
    }
    if (c->tucmd & TUCMD_TCP) {
        put32(tu + 4, get32(tu + 4) + off);
        if (!last)
            tu[13] &= (u8)~0x09; /* PSH, FIN */
    } else {
        put16(tu + 4, len - c->tucss);
    }
    if ((p->popts & POPTS_TXSM) && c->tucso + 2u <= len) { /* the driver's pseudo header has no length */
        u8 lengths[4];
        memcpy(lengths, to + c->tucso, 2);
        put16(lengths + 2, len - c->tucss);
        u16 sum = csum_fold(csum_add(0, lengths, 4));
        memcpy(to + c->tucso, &sum, 2);
    }
    checksums(c, p->popts, to, len);
    return len;
}

/* For the cable to cut: a TCP segment as everybody makes them. */
static bool as_one(struct e1000 *e, const struct packet *p, struct virtio_net_hdr_v1 *h)
{
    const struct e1000_context *c = &e->context[1];
    const bool v6 = !(c->tucmd & TUCMD_IP);
    u8 *data = frame(e), *ip = data + c->ipcss;
    struct frame f;

    if (!(c->tucmd & TUCMD_TCP) || !(p->popts & POPTS_TXSM) || (!v6 && !(p->popts & POPTS_IXSM)) || c->tucse ||
        c->tucso != c->tucss + 16 || p->len - c->hdrlen <= c->mss || c->ipcss + 40u > c->hdrlen || c->tucss + 20u > c->hdrlen)
        return false;
    put16(ip + (v6 ? 4 : 2), p->len - c->ipcss - (v6 ? 40 : 0));
    *h = (struct virtio_net_hdr_v1){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = (u8)((v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4) |
                         (data[c->tucss + 13] & 0x80 ? VIRTIO_NET_HDR_GSO_ECN : 0)),
        .hdr_len = c->hdrlen, .gso_size = c->mss, .csum_start = c->tucss, .csum_offset = 16,
    };
    if (frame_check(&f, h, data, p->len) || f.l3 != c->ipcss || f.payload != c->hdrlen) {
        *h = (struct virtio_net_hdr_v1){ 0 };
        return false;
    }
    if (!v6)
        insert_sum(data, p->len, c->ipcss, c->ipcso, c->ipcse, false);
    u16 sum = csum_fold(csum_pseudo(ip, v6, IP_PROTOCOL_TCP, p->len - c->tucss));
    memcpy(data + c->tucso, &sum, 2);
    return true;
}

static void count(struct e1000 *e, const u8 *data, u32 len, u32 frames)
{
    static const u16 limit[] = { 64, 127, 255, 511, 1023 };
    u32 bin = 0;

    for (len += 4; bin < 5 && (frames > 1 ? 1500 : len) > limit[bin]; bin++) /* with its CRC */
        ;
    e1000_count(e, PTC64 + 4 * bin, frames);
    e1000_count(e, GPTC, frames);
    e1000_count(e, TPT, frames);
    e1000_count(e, GOTCL, len);
    e1000_count(e, TOTL, len);
    if (data[0] & 1)
        e1000_count(e, memcmp(data, "\xff\xff\xff\xff\xff\xff", 6) ? MPTC : BPTC, frames);
}

/* A frame of len bytes, with room for four more and for its header before it. False: no room on the cable. */
static bool put(struct e1000 *e, u8 *data, u32 len, const struct packet *p, const struct virtio_net_hdr_v1 *header)
{
    struct virtio_net_hdr_v1 h = *header;
    u32 frames = 1;

    if ((p->last & CMD_VLE) && (REG(CTRL) & CTRL_VME)) {
        memmove(data + MAC_HEADERS + 4, data + MAC_HEADERS, len - MAC_HEADERS);
        put16(data + MAC_HEADERS, REG(VET));
        put16(data + MAC_HEADERS + 2, p->upper >> 16);
        len += 4;
        if (h.gso_type)
            h.csum_start += 4, h.hdr_len += 4;
    }
    if (len < MIN_FRAME && (REG(TCTL) & TCTL_PSP)) {
        memset(data + len, 0, MIN_FRAME - len);
        len = MIN_FRAME;
    }
    if (len > NET_MAX_FRAME)
        return true;
    if ((REG(RCTL) & RCTL_LBM) || (e->phy[PHY_CTRL] & PHY_CTRL_LOOPBACK)) {
        memcpy(e->rx, data, len);
        (void)!e1000_receive(e, len, false);
    } else {
        const struct iovec iov[2] = { { &h, NET_HDR }, { data, len } };
        if (!net_send(e->net, 0, iov, 2, NET_HDR + len))
            return false;
        if (h.gso_type)
            frames = (len - h.hdr_len + h.gso_size - 1) / h.gso_size;
    }
    count(e, data, len, frames);
    return true;
}

/* False: no room on the cable, or no frames left of this turn (*frames); it comes again. */
static bool send(struct e1000 *e, struct packet *p, u32 *frames)
{
    const struct e1000_context *c = &e->context[1];
    const bool segment = (p->first & CMD_DEXT) && (p->first & CMD_TSE);
    struct virtio_net_hdr_v1 h = { 0 };
    u8 *data = frame(e);

    if (p->bad || p->len < FRAME_ETH)
        return true;
    if (!segment) {
        if (p->first & CMD_DEXT)
            checksums(&e->context[0], p->popts, data, p->len);
        else if (p->last & CMD_IC)
            insert_sum(data, p->len, p->upper >> 8 & 0xff, p->last >> 16 & 0xff, 0, true);
        return put(e, data, p->len, p, &h);
    }
    const bool loops = (REG(RCTL) & RCTL_LBM) || (e->phy[PHY_CTRL] & PHY_CTRL_LOOPBACK);
    if (!c->mss || c->hdrlen < FRAME_ETH || c->hdrlen >= p->len || c->ipcss + 6u > c->hdrlen || c->tucss + 14u > c->hdrlen)
        return true;
    e1000_count(e, TSCTC, !e->cut);
    if (!e->cut && !loops && as_one(e, p, &h))
        return put(e, data, p->len, p, &h);
    for (u32 n = (p->len - c->hdrlen + c->mss - 1) / c->mss; e->cut < n; e->cut++, --*frames)
        if (!*frames || !put(e, e->segment + NET_HDR, cut(e, p, e->cut), p, &h))
            return false;
    return true;
}

void e1000_transmit(struct e1000 *e)
{
    struct e1000_ring r;
    struct packet p;
    u32 causes = 0, n = 0, frames = FRAMES;
    bool sent = false;

    while (!e->tx_waits && (REG(TCTL) & TCTL_EN) && e1000_ring(e, TDBAL, &r) && r.head != r.tail) {
        if (n++ == BURST || !frames) {
            loop_kick(&e->kick);
            break;
        }
        enum gathered g = gather(e, &r, &p);
        if (g == PARTIAL)
            break;
        if (g == BROKEN) {
            log_guest("e1000: transmit descriptors outside of memory, or without an end");
            REG(TDH) = r.tail;
            break;
        }
        if (g == WHOLE && !send(e, &p, &frames)) {
            e->tx_waits = frames;
            if (!frames)
                loop_kick(&e->kick);
            break;
        }
        sent |= g == WHOLE;
        causes |= give_back(e, &r, &p);
        if (p.next == r.tail)
            causes |= TXQE;
    }
    if (sent)
        net_flush(e->net, 0);
    e1000_received(e); /* by loopback */
    if (causes)
        e1000_cause(e, causes);
}
