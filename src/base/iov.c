/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iov.c - see iov.h.
 */
#include "base/iov.h"

#include <string.h>

u64 iov_length(const struct iovec *iov, u32 niov)
{
    u64 len = 0;

    for (u32 i = 0; i < niov; i++)
        len += iov[i].iov_len;
    return len;
}

u32 iov_slice(struct iovec *to, u32 max, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    u32 n = 0;

    for (u32 i = 0; i < niov && len && n < max; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        u64 piece = MIN(iov[i].iov_len - skip, len);
        to[n++] = (struct iovec){ (char *)iov[i].iov_base + skip, piece };
        len -= piece;
        skip = 0;
    }
    return n;
}

/* Calls memcpy or memset for each piece; `flat` advances. */
enum way { GATHER, SCATTER, ZERO };
static void walk(enum way way, char *flat, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    for (u32 i = 0; i < niov && len; i++) {
        if (skip >= iov[i].iov_len) {
            skip -= iov[i].iov_len;
            continue;
        }
        char *at = (char *)iov[i].iov_base + skip;
        u64 piece = MIN(iov[i].iov_len - skip, len);
        if (way == ZERO)
            memset(at, 0, piece);
        else if (way == GATHER)
            memcpy(flat, at, piece);
        else
            memcpy(at, flat, piece);
        if (flat)
            flat += piece;
        len -= piece;
        skip = 0;
    }
}

void iov_zero(const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    walk(ZERO, NULL, iov, niov, skip, len);
}

void iov_gather(void *to, const struct iovec *iov, u32 niov, u64 skip, u64 len)
{
    walk(GATHER, to, iov, niov, skip, len);
}

void iov_scatter(const struct iovec *iov, u32 niov, u64 skip, const void *from, u64 len)
{
    union {
        const void *from;
        char *to;
    } flat = { from }; /* only read */
    walk(SCATTER, flat.to, iov, niov, skip, len);
}
