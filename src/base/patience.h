/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patience.h - waiting, before the machine runs, for somebody outside: a FIFO's other end, a lock, a server.  It says what
 * for after a second, and ends when a signal wants the process to end, although that is held back (signals.h).
 */
#ifndef LODGE_BASE_PATIENCE_H
#define LODGE_BASE_PATIENCE_H

#include <sys/types.h>

#include "base/base.h"
#include "base/error.h"
#include "base/opener.h"

struct patience { /* one wait, zeroed */
    u64 since;
    bool said;
};

/*
 * What ends this thread's waits: *flag (atomic), set by another thread; patience_signals, a signal that is held back; NULL,
 * nothing any more.  patience_ask always looks for signals; others who wait ask patience_over, each tenth of a second if
 * patience_limited.
 */
extern const bool patience_signals;
void patience_until(const bool *flag);
bool patience_limited(void);
bool patience_over(void);

/* Sleeps for at most a tenth of a second, or until fd (-1: none) is ready for `events` of poll(2). true: it is. */
bool patience_sleep(int fd, short events);
/* Is it to go on? 0, or -EINTR if a signal, or whom patience_until names, wants the end. fmt: what is waited for, in a sentence; said once. */
int must_check patience_ask(struct patience *p, const char *fmt, ...) printf_like(2, 3);

/*
 * open(2), which waits for nothing but a FIFO's other end. option: what stands before the path in messages ("file:").
 * The descriptor (close-on-exec), or -errno with err set.  For reading, the file has bytes or its end is known.
 */
int patience_open(enum opener_purpose purpose, const char *path, int flags, mode_t mode, const char *option, struct error *err);
/* All of a file, or all up to its first newline (one_line), with a 0 after it; for the caller to free. -EFBIG: over max. */
int must_check patience_read(enum opener_purpose purpose, const char *path, bool one_line, size_t max, const char *option, char **text, size_t *size,
                             struct error *err);

#endif
