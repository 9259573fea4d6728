/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_keep.c - answers the openat() of a sandboxed process. The kernel holds that process in the call
 * (seccomp_unotify(2)). Meanwhile this process reads which file it wants, decides, and puts the descriptor into it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/sandbox.h"

/* Reads the string at `at` of a process that waits for us. That process has one thread and shares no memory that
   holds names, so nobody changes the string. Only this copy counts. */
static int read_path(int mem, u64 at, char path[PATH_MAX])
{
    const ssize_t n = at > INT64_MAX ? -1 : pread(mem, path, PATH_MAX, (off_t)at); /* reads as far as there is memory */

    return n > 0 && memchr(path, 0, (size_t)n) ? 0 : -EFAULT;
}

int sandbox_memory(pid_t pid)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* The kernel's structures may be longer than those that we know. */
union request {
    struct seccomp_notif it;
    u8 room[1024];
};

union response {
    struct seccomp_notif_resp it;
    u8 room[1024];
};

static void answer(int requests, int mem, const struct seccomp_notif *q, int (*opener)(void *ctx, const char *path),
                   void *ctx)
{
    union response a = { .it = { .id = q->id } };
    char path[PATH_MAX];
    int r = read_path(mem, q->data.args[1], path);
    const int fd = r ? r : opener(ctx, path);

    a.it.error = MIN(fd, 0);
    if (fd >= 0) {
        struct seccomp_notif_addfd add = { .id = q->id, .srcfd = (u32)fd, .newfd_flags = O_CLOEXEC };
        r = ioctl(requests, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
        if (r < 0)
            a.it.error = -errno;
        else
            a.it.val = r;
        close(fd);
    }
    r = ioctl(requests, SECCOMP_IOCTL_NOTIF_SEND, &a); /* the process may have been killed meanwhile */
    (void)r;
}

void sandbox_keep(int requests, int mem, int alive, int (*opener)(void *ctx, const char *path), void *ctx)
{
    struct pollfd p[2] = { { alive, 0, 0 }, { requests, POLLIN, 0 } };

    while (!(p[0].revents & (POLLHUP | POLLERR | POLLNVAL))) {
        union request q = { .room = { 0 } };
        if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents & POLLIN && !ioctl(requests, SECCOMP_IOCTL_NOTIF_RECV, &q))
            answer(requests, mem, &q.it, opener, ctx);
        else if (p[1].revents & (POLLHUP | POLLERR | POLLNVAL))
            p[1].fd = -1;
    }
}
