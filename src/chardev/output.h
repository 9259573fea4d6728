/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.h - a bounded buffer and the thread that writes it to a descriptor with plain blocking writes.
 * (O_NONBLOCK would belong to the open file, and so to the shell that shares the terminal with us.)
 */
#ifndef LODGE_CHARDEV_OUTPUT_H
#define LODGE_CHARDEV_OUTPUT_H

#include "base/base.h"
#include "base/loop.h"

struct output;

/* room(ctx): posted to the loop when there is room again, after output_write took fewer than all bytes. name: for a
   line about a failed write; NULL: such failures are normal (a client that leaves). */
struct output *output_new(struct loop *loop, void (*room)(void *ctx), void *ctx, const char *name);

/* Sets the descriptor to write to from now on; -1: none, bytes are lost. Bytes that are buffered for another
   descriptor are dropped. Returns when the thread no longer uses the old descriptor. Loop thread. */
void output_set_fd(struct output *o, int fd);

/* Any thread. It never blocks. Returns how many bytes were taken. */
size_t output_write(struct output *o, const u8 *buf, size_t len);

/* Waits until everything is written, or until nothing moved for two seconds. Then it ends the thread and frees o. */
void output_close(struct output *o);

#endif
