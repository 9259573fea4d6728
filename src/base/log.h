/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - lines for the person who runs the VM, on standard error. Any thread.
 *
 * If the terminal is in raw mode, log_set_raw(true) makes lines end in CR LF. Messages that a guest can provoke go
 * through log_guest(), which limits their rate so that a guest cannot fill a disk.
 */
#ifndef LODGE_BASE_LOG_H
#define LODGE_BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level most); /* lines above this level are dropped; default LOG_INFO */
void log_set_raw(bool raw);
void log_at(enum log_level level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/* Prints at most 5 lines, then one a second with the count of the lines left out; each call site has its own
   limiter. */
struct log_limit {
    u64 next_ns;
    u32 said, dropped;
};
void log_guest_at(struct log_limit *l, const char *fmt, ...) printf_like(2, 3);
#define log_guest(...)                            \
    do {                                          \
        static _Thread_local struct log_limit l_; \
        log_guest_at(&l_, __VA_ARGS__);           \
    } while (0)

#endif
