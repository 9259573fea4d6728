/* SPDX-License-Identifier: Apache-2.0 */
/*
 * iov.h - parts of scattered memory: copies from it and into it, and a part of it as an iovec of its own. No function
 * touches anything past the end of an iovec. Any thread.
 */
#ifndef LODGE_BASE_IOV_H
#define LODGE_BASE_IOV_H

#include <sys/uio.h>

#include "base/base.h"

/* Writes [skip, skip + len) of an iovec as an iovec of at most max entries to `to`; returns their number. */
u32 iov_slice(struct iovec *to, u32 max, const struct iovec *iov, u32 niov, u64 skip, u64 len);
u64 iov_length(const struct iovec *iov, u32 niov);
void iov_zero(const struct iovec *iov, u32 niov, u64 skip, u64 len);
void iov_gather(void *to, const struct iovec *iov, u32 niov, u64 skip, u64 len);
void iov_scatter(const struct iovec *iov, u32 niov, u64 skip, const void *from, u64 len);

#endif
