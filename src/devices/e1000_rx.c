/* SPDX-License-Identifier: Apache-2.0 */
/* e1000_rx.c - reception: filters (3.2.1, 9.3), checksums (3.2.9), descriptors (3.2.3), interrupts (3.2.7). */
#include <string.h>

#include "devices/e1000_internal.h"
#include "net/frame.h"

enum { /* descriptor: status and errors, in its second quadword */
    DD = 1 << 0, EOP = 1 << 1, IXSM = 1 << 2, VP = 1 << 3, TCPCS = 1 << 5, IPCS = 1 << 6, PIF = 1 << 7,
    TCPE = 1 << 13, IPE = 1 << 14,
};
enum { RXCSUM_IPOFL = 1 << 8, RXCSUM_TUOFL = 1 << 9 };
enum { MIN_FRAME = 60, CRC = 4, LONG_FRAME = 1518, MAX_FRAME = 16384 - CRC, MAC_HEADERS = 12 };
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17 };

/* ---- is it for us? ---------------------------------------------------------- */

static bool in_receive_addresses(struct e1000 *e, const u8 *mac)
{
    const u32 low = mac[0] | mac[1] << 8 | mac[2] << 16 | (u32)mac[3] << 24, high = mac[4] | mac[5] << 8 | (u32)RAH_AV;

    for (u32 at = RA; at < RA_END; at += 8)
        if (REG(at) == low && (REG(at + 4) & (0xffff | (u32)RAH_AV)) == high)
            return true;
    return false;
}

/* *imperfect: only a hash says so. */
static bool wanted(struct e1000 *e, u32 len, bool *imperfect)
{
    static const u8 shift[4] = { 4, 3, 2, 0 };
    const u8 *to = e->rx;
    const u32 rctl = REG(RCTL), tci = len >= MAC_HEADERS + 4 ? get16(to + MAC_HEADERS + 2) : 0;

    *imperfect = false;
    if ((rctl & RCTL_VFE) && len >= MAC_HEADERS + 4 && get16(to + MAC_HEADERS) == REG(VET)) {
        if (!(REG(VFTA + (tci >> 5 & 0x7f) * 4) >> (tci & 31) & 1) ||
            ((rctl & RCTL_CFIEN) && !(tci & 0x1000) != !(rctl & RCTL_CFI)))
            return false;
    }
    if (in_receive_addresses(e, to))
        return true;
    if (!(to[0] & 1))
        return rctl & RCTL_UPE;
    if ((rctl & RCTL_MPE) || ((rctl & RCTL_BAM) && !memcmp(to, "\xff\xff\xff\xff\xff\xff", 6)))
        return true;
    const u32 hash = (u32)(to[4] | to[5] << 8) >> shift[rctl >> RCTL_MO_SHIFT & 3] & 0xfff;
    return *imperfect = REG(MTA + (hash >> 5) * 4) >> (hash & 31) & 1;
}

/* ---- what is in it ------------------------------------------------------------ */

static u32 checksum_status(struct e1000 *e, u32 len, bool checked)
{
    const u8 *p = e->rx;
    u32 at = MAC_HEADERS, type = get16(p + at), status = 0, l4, end;
    u8 protocol;

    if (!(REG(RXCSUM) & (RXCSUM_IPOFL | RXCSUM_TUOFL)))
        return IXSM;
    if (type == REG(VET) && len >= MAC_HEADERS + 6)
        type = get16(p + (at += 4));
    at += 2;
    const bool v4 = type == ETH_P_IP && at + 20 <= len && p[at] >> 4 == 4;
    if (v4) {
        l4 = at + (p[at] & 15) * 4, end = at + get16(p + at + 2), protocol = p[at + 9];
        if (l4 < at + 20 || l4 > len)
            return IXSM;
        if (REG(RXCSUM) & RXCSUM_IPOFL)
            status |= IPCS | (csum_fold(csum_add(0, p + at, l4 - at)) != 0xffff ? IPE : 0);
        if (get16(p + at + 6) & 0x3fff) /* a fragment */
            return status | (status ? 0 : IXSM);
    } else if (type == ETH_P_IPV6 && at + 40 <= len && p[at] >> 4 == 6) {
        l4 = at + 40, end = l4 + get16(p + at + 4), protocol = p[at + 6];
    } else {
        return IXSM;
    }
    const u32 field = l4 + (protocol == PROTOCOL_TCP ? 16 : 6);
    if (!(REG(RXCSUM) & RXCSUM_TUOFL) || (protocol != PROTOCOL_TCP && protocol != PROTOCOL_UDP) || end > len ||
        field + 2 > end || (protocol == PROTOCOL_UDP && !get16(p + field)))
        return status | (status ? 0 : IXSM);
    if (!checked &&
        csum_fold(csum_add(csum_pseudo(p + at, !v4, protocol, end - l4), p + l4, end - l4)) != 0xffff)
        status |= TCPE;
    return status | TCPCS;
}

/* The descriptor's: from PCSS to the end, as a number. */
static u16 packet_sum(struct e1000 *e, u32 len)
{
    const u32 start = REG(RXCSUM) & 0xff;

    return start < len ? __builtin_bswap16((u16)~csum_fold(csum_add(0, e->rx + start, len - start))) : 0xffff;
}

static void count(struct e1000 *e, u32 len)
{
    static const u16 limit[] = { 64, 127, 255, 511, 1023 };
    u32 bin = 0;

    while (bin < 5 && len > limit[bin])
        bin++;
    e1000_count(e, PRC64 + 4 * bin, 1);
    e1000_count(e, GPRC, 1);
    e1000_count(e, GORCL, len);
    if (e->rx[0] & 1)
        e1000_count(e, memcmp(e->rx, "\xff\xff\xff\xff\xff\xff", 6) ? MPRC : BPRC, 1);
}

/* ---- descriptors -------------------------------------------------------------- */

static u32 buffer_size(struct e1000 *e)
{
    const u32 size = REG(RCTL) >> RCTL_BSIZE_SHIFT & 3;

    return REG(RCTL) & RCTL_BSEX && size ? 32768u >> size : 2048u >> size;
}

/* Frame and CRC, of which nobody here has one: zeroes. */
static void store(struct e1000 *e, struct e1000_ring *r, u32 frame_len, u32 len, u64 fields)
{
    const u32 size = buffer_size(e);

    for (u32 done = 0; done < len; r->head = r->head + 1 == r->n ? 0 : r->head + 1) {
        const u64 gpa = r->base + r->head * 16ull;
        const u32 k = MIN(size, len - done), data = done < frame_len ? MIN(k, frame_len - done) : 0;
        u64 *second = memory_ptr(e->memory, gpa + 8, 8, true), buffer;

        if (!memory_read(e->memory, gpa, &buffer, 8) && second) {
            (void)!memory_write(e->memory, buffer, e->rx + done, data);
            if (data < k)
                (void)!memory_write(e->memory, buffer + data, &(u32){ 0 }, k - data);
            /* Pairs with the driver's reading of DD before the rest. */
            __atomic_store_n(second, (fields | k | (u64)(done + k == len ? EOP | DD : DD) << 32), __ATOMIC_RELEASE);
            memory_written(e->memory, gpa + 8, 8);
        }
        done += k;
    }
    REG(RDH) = r->head;
}

bool e1000_receive(struct e1000 *e, u32 len, bool checked)
{
    struct e1000_ring r;
    bool imperfect;
    u64 fields = 0;

    if (!(REG(RCTL) & RCTL_EN) || !e1000_link(e) || !e1000_ring(e, RDBAL, &r))
        return true;
    e1000_count(e, TPR, 1);
    e1000_count(e, TORL, len + CRC);
    if (len > ((REG(RCTL) & RCTL_LPE) ? MAX_FRAME : LONG_FRAME)) {
        e1000_count(e, ROC, 1);
        return true;
    }
    if (!wanted(e, len, &imperfect))
        return true;
    if (len < MIN_FRAME) { /* the sender's card would have */
        memset(e->rx + len, 0, MIN_FRAME - len);
        len = MIN_FRAME;
    }
    const bool tagged = (REG(CTRL) & CTRL_VME) && get16(e->rx + MAC_HEADERS) == REG(VET);
    const u32 total = len - (tagged ? 4 : 0) + (REG(RCTL) & RCTL_SECRC ? 0 : CRC);
    const u32 needed = (total + buffer_size(e) - 1) / buffer_size(e), free = (r.tail + r.n - r.head) % r.n;

    if (needed > free) {
        if (needed < r.n)
            return false;
        e1000_count(e, MPC, 1);
        return true;
    }
    count(e, len + CRC);
    fields = (u64)packet_sum(e, len) << 16 | (u64)(checksum_status(e, len, checked) | (imperfect ? PIF : 0)) << 32;
    if (tagged) {
        fields |= (u64)VP << 32 | (u64)get16(e->rx + MAC_HEADERS + 2) << 48;
        memmove(e->rx + MAC_HEADERS, e->rx + MAC_HEADERS + 4, len - MAC_HEADERS - 4);
        len -= 4;
    }
    store(e, &r, len, total, fields);
    e->rx_some = true;
    u32 causes = len <= REG(RSRPD) ? SRPD : 0;
    const u32 few = r.n >> ((REG(RCTL) >> RCTL_RDMTS_SHIFT & 3) + 1);
    if (free > few && free - needed <= few)
        causes |= RXDMT0;
    if (causes)
        e1000_cause(e, causes);
    return true;
}

void e1000_received(struct e1000 *e)
{
    if (!e->rx_some)
        return;
    e->rx_some = false;
    if (REG(RDTR))
        e1000_delay(&e->rx_delay, REG(RDTR), REG(RADV));
    else
        e1000_cause(e, RXT0);
}
