/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_frame.h - between the guest's packets and libslirp's: libslirp knows neither open checksums nor large segments,
 * but takes and makes IP packets of up to 64 KiB if it believes that the guest does.
 *
 * From the guest, a large TCP segment goes in whole.  To the guest, libslirp is told a larger maximum segment size than
 * the guest's SYN asked for (and does not always listen to it anyway), and what it then makes is marked as a large
 * segment of the guest's size: one packet where there would be twenty.  For a guest that does not take such, it is cut.
 */
#ifndef LODGE_NET_USER_FRAME_H
#define LODGE_NET_USER_FRAME_H

#include "net/frame.h"

enum {
    USER_MSS = 32768, /* libslirp's TCP_MAXSEG_MAX; a window is 65535 at most: two are under way */
    USER_FLOWS = 1024,
};

/* The maximum segment size of a connection's guest end, by the connection's addresses and ports. */
struct user_flow {
    u8 key[36]; /* guest address, other address (IPv4: the first 4 bytes of each 16), guest port, other port */
    u16 mss;    /* without the headers; 0: free */
};

struct user_frames {
    u32 mtu;
    struct user_flow flow[USER_FLOWS];
    u8 buf[NET_MAX_FRAME]; /* a fragment or a segment */
};

/* A frame from the guest, checked as f, that may be written to: makes it what libslirp takes. First its checksum, which
   trusts nothing in data, so that it may lie in shared memory; then, if it is a SYN, the size of segments. */
void user_frame_sum(const struct frame *f, u8 *data);
void user_frame_syn(struct user_frames *u, u8 *data, u32 len);

/* A frame of libslirp's, that may be written to; emits what the guest gets: one, several, none. takes: net_offload. */
void user_frame_down(struct user_frames *u, u8 *data, u32 len, u32 takes,
                     void (*emit)(void *ctx, const u8 *hdr, const u8 *frame, u32 len), void *ctx);

#endif
