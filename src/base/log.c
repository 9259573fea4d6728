/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - writes each line to standard error with one write(2), so that lines of several threads do not mix.
 *
 * The level and the line ending belong to the process's terminal, not to a VM. They are the only mutable state at file
 * scope here, and both are atomic.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"

enum { LINE_MAX_BYTES = 1024 };

static int most_level = LOG_INFO;
static bool raw_terminal;

void log_set_level(enum log_level most)
{
    __atomic_store_n(&most_level, (int)most, __ATOMIC_RELAXED);
}

void log_set_raw(bool raw)
{
    __atomic_store_n(&raw_terminal, raw, __ATOMIC_RELAXED);
}

static void say(enum log_level level, const char *text)
{
    static const char *const prefix[] = { "lodge: ", "lodge: warning: ", "lodge: ", "lodge: debug: " };
    bool raw = __atomic_load_n(&raw_terminal, __ATOMIC_RELAXED);
    char line[LINE_MAX_BYTES + 32];
    int saved = errno;
    int n = snprintf(line, sizeof(line), "%s%s%s", prefix[level], text, raw ? "\r\n" : "\n");

    for (ssize_t done = 0; done < n;) {
        ssize_t w = write(STDERR_FILENO, line + done, (size_t)(n - done));
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            break; /* nobody to tell */
        done += w;
    }
    errno = saved;
}

static void say_va(enum log_level level, const char *fmt, va_list ap)
{
    char text[LINE_MAX_BYTES];

    vsnprintf(text, sizeof(text), fmt, ap);
    say(level, text);
}

void log_at(enum log_level level, const char *fmt, ...)
{
    if ((int)level > __atomic_load_n(&most_level, __ATOMIC_RELAXED))
        return;
    va_list ap;
    va_start(ap, fmt);
    say_va(level, fmt, ap);
    va_end(ap);
}

void log_guest_at(struct log_limit *l, const char *fmt, ...)
{
    enum { BURST = 5, PERIOD_NS = 1000000000 };

    if (LOG_WARN > __atomic_load_n(&most_level, __ATOMIC_RELAXED))
        return;
    if (l->said >= BURST) {
        u64 now = clock_ns();
        if (now < l->next_ns) {
            l->dropped++;
            return;
        }
        l->next_ns = now + PERIOD_NS;
    } else if (++l->said == BURST) {
        l->next_ns = clock_ns() + PERIOD_NS;
    }

    char text[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (l->dropped) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof(text) - n, " (and %u more like it)", l->dropped);
        l->dropped = 0;
    }
    say(LOG_WARN, text);
}
