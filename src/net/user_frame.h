/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_frame.h - translates between the guest's packets and libslirp's. libslirp knows neither open checksums nor large
 * segments. But it takes and makes IP packets of up to 64 KiB if it believes that the guest does.
 *
 * A large TCP segment from the guest goes in as a whole. In the other direction, we tell libslirp a larger maximum
 * segment size than the guest's SYN asked for (libslirp does not always respect it anyway). We then mark what it makes
 * as a large segment with segments of the guest's size: one packet instead of twenty. If the guest does not take such
 * packets, we cut them.
 */
#ifndef LODGE_NET_USER_FRAME_H
#define LODGE_NET_USER_FRAME_H

#include "net/frame.h"

enum {
    USER_MSS = 32768, /* libslirp's TCP_MAXSEG_MAX; a window is 65535 at most, so two are under way */
    USER_FLOWS = 1024,
};

/* The maximum segment size of the guest's end of a connection, found by the addresses and ports of the connection. */
struct user_flow {
    u8 key[36]; /* guest address, other address (IPv4: the first 4 bytes of each 16), guest port, other port */
    u16 mss;    /* without the headers; 0: free */
};

struct user_frames {
    u32 mtu;
    struct user_flow flow[USER_FLOWS];
    u8 buf[NET_MAX_FRAME]; /* a fragment or a segment */
};

/* Both change a frame from the guest, checked as f, so that libslirp takes it. user_frame_sum comes first and fills
   in the checksum. It trusts nothing in data, so data may lie in shared memory. Then user_frame_syn changes the
   segment size if the frame is a SYN. */
void user_frame_sum(const struct frame *f, u8 *data);
void user_frame_syn(struct user_frames *u, u8 *data, u32 len);

/* Takes a frame of libslirp's, which it may write to, and emits what the guest gets: one frame, several, or none.
   takes: net_offload. */
void user_frame_down(struct user_frames *u, u8 *data, u32 len, u32 takes,
                     void (*emit)(void *ctx, const u8 *hdr, const u8 *frame, u32 len), void *ctx);

#endif
