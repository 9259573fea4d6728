/* SPDX-License-Identifier: Apache-2.0 */
/*
 * patience.h - waiting, before the machine runs, for somebody outside: a FIFO's other end, a lock, a server. After a
 * second a message says what the wait is for. The wait ends when a signal wants the process to end, although that
 * signal is held back (signals.h).
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
 * Says what ends this thread's waits. *flag (atomic): another thread sets it. patience_signals: a signal that is held
 * back. NULL: nothing any more. patience_ask always looks for signals. Other code that waits asks patience_over, and
 * does so every tenth of a second if patience_limited.
 */
extern const bool patience_signals;
void patience_until(const bool *flag);
bool patience_limited(void);
bool patience_over(void);

/* Sleeps for at most a tenth of a second, or until fd (-1: none) is ready for `events` of poll(2). true: it is. */
bool patience_sleep(int fd, short events);
/* Shall the wait go on? 0, or -EINTR if a signal, or the flag of patience_until, wants the end. fmt: a sentence that
   says what is waited for; printed once. */
int must_check patience_ask(struct patience *p, const char *fmt, ...) printf_like(2, 3);

/*
 * As open(2), but it waits for nothing except a FIFO's other end. option: the text before the path in messages
 * ("file:"). Returns the descriptor (close-on-exec), or -errno with err set. If the file is opened for reading, it then
 * has bytes or its end is known.
 */
int patience_open(enum opener_purpose purpose, const char *path, int flags, mode_t mode, const char *option, struct error *err);
/* Reads all of a file, or all up to its first newline (one_line), and puts a 0 after it. The caller frees the text.
   -EFBIG: the file has more than max bytes. */
int must_check patience_read(enum opener_purpose purpose, const char *path, bool one_line, size_t max, const char *option, char **text, size_t *size,
                             struct error *err);

#endif
