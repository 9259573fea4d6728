/* SPDX-License-Identifier: Apache-2.0 */
/* patience.c - see patience.h. */
#include "base/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/signals.h"

enum { MOMENT_MS = 100 };
#define SILENT_NS 1000000000ull

const bool patience_signals = false; /* only its address is used */
static _Thread_local const bool *until;

void patience_until(const bool *flag)
{
    until = flag;
}

bool patience_limited(void)
{
    return until != NULL;
}

bool patience_over(void)
{
    return until == &patience_signals ? signals_end_pending() : until && __atomic_load_n(until, __ATOMIC_ACQUIRE);
}

bool patience_sleep(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };
    return poll(&p, 1, MOMENT_MS) > 0;
}

int patience_ask(struct patience *p, const char *fmt, ...)
{
    const u64 now = clock_ns();
    char text[512];
    va_list ap;

    if (patience_over() || signals_end_pending())
        return -EINTR;
    if (!p->since)
        p->since = now;
    if (p->said || now - p->since < SILENT_NS)
        return 0;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    log_error("%s", text);
    p->said = true;
    return 0;
}

static int given_up(const char *option, const char *path, struct error *err)
{
    return error_set(err, EINTR, "%s%s: a signal ended the wait for the FIFO's other end", option, path);
}

/* Waits for bytes or for their end. A FIFO that nobody has opened yet has neither. */
static int wait_readable(int fd, struct patience *p, const char *option, const char *path, struct error *err)
{
    while (!patience_sleep(fd, POLLIN))
        if (patience_ask(p, "waiting for what is written to the FIFO %s", path))
            return given_up(option, path, err);
    return 0;
}

int patience_open(enum opener_purpose purpose, const char *path, int flags, mode_t mode, const char *option, struct error *err)
{
    struct patience p = { 0 };
    struct stat st;
    int fd, r = 0;

    while ((fd = opener_file(purpose, path, flags | O_NOCTTY | O_NONBLOCK, mode)) < 0) {
        r = errno;
        if (r == EINTR)
            continue;
        /* Nobody has opened it for reading yet (open(2)). */
        if (r != ENXIO || opener_stat(purpose, path, 0, &st) || !S_ISFIFO(st.st_mode))
            return error_set(err, r, "%s%s: %s", option, path, strerror(r));
        if (patience_ask(&p, "waiting for a reader of the FIFO %s", path))
            return given_up(option, path, err);
        patience_sleep(-1, 0);
    }
    if ((flags & O_ACCMODE) == O_RDONLY && !opener_fstat(fd, &st) && S_ISFIFO(st.st_mode))
        r = wait_readable(fd, &p, option, path, err);
    else
        r = 0;
    if (r) {
        close(fd);
        return r;
    }
    const int was = fcntl(fd, F_GETFL);
    if (was >= 0)
        (void)fcntl(fd, F_SETFL, was & ~O_NONBLOCK);
    return fd;
}

int patience_read(enum opener_purpose purpose, const char *path, bool one_line, size_t max, const char *option, char **text, size_t *size,
                  struct error *err)
{
    struct patience p = { 0 };
    size_t room = 0;
    char *buf = NULL;
    int r = 0;
    const int fd = patience_open(purpose, path, O_RDONLY, 0, option, err);

    if (fd < 0)
        return fd;
    *size = 0;
    while (!r) {
        if (room - *size < 2) {
            char *more = room < max ? realloc(buf, room = MIN(room ? 2 * room : 4096, max)) : NULL;
            if (!more) {
                r = room < max ? error_set(err, ENOMEM, "out of memory")
                               : error_set(err, EFBIG, "%s%s: more than %zu bytes", option, path, max);
                break;
            }
            buf = more;
        }
        if ((r = wait_readable(fd, &p, option, path, err)))
            break;
        const ssize_t n = read(fd, buf + *size, room - 1 - *size);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            r = error_set(err, errno, "%s%s: %s", option, path, strerror(errno));
        if (n == 0 || (n > 0 && one_line && memchr(buf + *size, '\n', (size_t)n))) {
            *size += (size_t)n;
            break;
        }
        *size += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (r) {
        free(buf);
        return r;
    }
    buf[*size] = 0;
    *text = buf;
    return 0;
}
