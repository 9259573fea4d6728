/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pass.h - descriptors that go from one process to another, with a message on a unix socket (SCM_RIGHTS, unix(7)). Any thread.
 */
#ifndef LODGE_BASE_PASS_H
#define LODGE_BASE_PASS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/base.h"

enum { PASS_MOST = 4 }; /* descriptors in one message */

/* Sends all len bytes as one message, with n descriptors, which stay the caller's. flags: as for send(2); MSG_NOSIGNAL is
   added. 0 or -errno. */
int must_check pass_send(int sock, const void *data, size_t len, const int *fd, u32 n, int flags);
/*
 * Waits for a message of len bytes with at most `most` descriptors, which are close-on-exec and the caller's. Returns how many
 * came; the rest of fd[] is -1. -ECONNRESET: the other side has closed its end. -EPROTO: the message has another length, or
 * more descriptors. -EMFILE: this process has no room for them. Else -errno; then no descriptor is left open.
 */
int must_check pass_receive(int sock, void *data, size_t len, int *fd, u32 most);

/* The same for a message of at most `most_len` bytes, and without waiting if flags has MSG_DONTWAIT. Returns its length; *n is
   how many descriptors came. */
ssize_t must_check pass_receive_some(int sock, void *data, size_t most_len, int *fd, u32 most, u32 *n, int flags);

#endif
