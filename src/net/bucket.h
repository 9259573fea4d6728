/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.h - a token bucket: rate bytes a second on average, burst bytes at once. A packet may go while there is any
 * token, and is paid for afterwards. So a packet that is larger than the burst is late, but does not wait for ever.
 */
#ifndef LODGE_NET_BUCKET_H
#define LODGE_NET_BUCKET_H

#include "base/base.h"

enum { BUCKET_MAX_SHIFT = 40 }; /* rate and burst are below 2^40 bytes, so the products below fit */

struct bucket {
    u64 rate, burst; /* rate 0: no limit */
    s64 tokens;
    u64 last; /* ns; up to this time tokens have been credited */
};

static inline void bucket_init(struct bucket *b, u64 rate, u64 burst, u64 now)
{
    *b = (struct bucket){ rate, burst, (s64)burst, now };
}

/* May a packet go now? If not, *when is the time to ask again. */
static inline bool bucket_open(struct bucket *b, u64 now, u64 *when)
{
    if (!b->rate)
        return true;
    u64 ns = now > b->last ? now - b->last : 0;
    u64 earned = (u64)((unsigned __int128)ns * b->rate / 1000000000);
    if (earned) {
        /* The time for less than a whole byte is not counted yet. */
        b->last += (u64)((unsigned __int128)earned * 1000000000 / b->rate);
        b->tokens = earned > (u64)((s64)b->burst - b->tokens) ? (s64)b->burst : b->tokens + (s64)earned;
    }
    if (b->tokens > 0)
        return true;
    *when = b->last + (u64)((unsigned __int128)(1 - b->tokens) * 1000000000 / b->rate) + 1;
    return false;
}

static inline void bucket_pay(struct bucket *b, u64 bytes)
{
    b->tokens -= b->rate ? (s64)bytes : 0;
}

#endif
