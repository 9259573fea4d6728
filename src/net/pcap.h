/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pcap.h - writes frames to a capture file (pcap with nanoseconds, draft-ietf-opsawg-pcap: magic A1B23C4Dh,
 * LINKTYPE_ETHERNET). A frame that is not finished is finished first, so the file shows what would have been on the
 * cable.
 */
#ifndef LODGE_NET_PCAP_H
#define LODGE_NET_PCAP_H

#include "base/error.h"
#include "net/frame.h"

struct pcap;

struct pcap *pcap_open(const char *path, struct error *err); /* empties the file; NULL with err set */
void pcap_close(struct pcap *p);                             /* p may be NULL */
/* data: the whole frame. ns: CLOCK_REALTIME. A failed write is reported once and ends the capture. */
void pcap_frame(struct pcap *p, const struct frame *f, const u8 *data, u64 ns);
void pcap_flush(struct pcap *p);

#endif
