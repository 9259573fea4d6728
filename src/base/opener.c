/* SPDX-License-Identifier: Apache-2.0 */
/* opener.c - see opener.h. */
#include "base/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BACKLOG = 64 };

static const struct opener *chosen; /* it is set before there are threads */

static int file(const struct opener_request *r)
{
    const int flags = r->flags | O_CLOEXEC;

    if (r->no_links) {
        const struct open_how how = { .flags = (u64)flags, .mode = flags & O_CREAT ? r->mode : 0, .resolve = RESOLVE_NO_SYMLINKS };
        const int fd = (int)syscall(SYS_openat2, AT_FDCWD, r->path, &how, sizeof how);
        /* Kernels before 5.6, and containers that forbid calls which they do not know, have no openat2: at least the
           last part of the path must be no link. */
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
            return fd;
        return open(r->path, flags | O_NOFOLLOW, r->mode);
    }
    return open(r->path, flags, r->mode);
}

static int listening(const struct opener_request *r, int fd)
{
    const int one = 1;

    if (r->address->sa_family == AF_UNIX)
        fchmod(fd, 0600); /* bind() gives the name the mode that the socket has */
    else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one))
        return -1;
    return bind(fd, r->address, r->length) || listen(fd, BACKLOG) ? -1 : 0;
}

static int socket_of(const struct opener_request *r)
{
    const int fd = socket(r->address->sa_family, r->type | SOCK_CLOEXEC, 0);

    if (fd < 0 || !(r->kind == OPENER_LISTEN ? listening(r, fd) : connect(fd, r->address, r->length)))
        return fd;
    const int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static int tap(const struct opener_request *r)
{
    struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (r->flags & IFF_MULTI_QUEUE)) };
    const size_t length = strlen(r->path);

    if (length >= IFNAMSIZ) {
        errno = ENAMETOOLONG;
        return -1;
    }
    const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    memcpy(ifr.ifr_name, r->path, length);
    if (fd < 0 || !ioctl(fd, TUNSETIFF, &ifr))
        return fd;
    const int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static int by_ourselves(const struct opener_request *r)
{
    const int fd = r->kind == OPENER_FILE     ? file(r)
                   : r->kind == OPENER_REMOVE ? unlink(r->path)
                   : r->kind == OPENER_TAP    ? tap(r)
                   : r->kind == OPENER_FOLDER ? mkdir(r->path, r->mode)
                                              : socket_of(r);
    return fd < 0 ? -errno : fd;
}

void opener_use(const struct opener *o)
{
    chosen = o;
}

int opener_request(const struct opener_request *r)
{
    return chosen ? chosen->open(chosen->ctx, r) : by_ourselves(r);
}

int opener_again(int fd, int flags)
{
    char name[40];

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, flags | O_CLOEXEC);
}

int opener_file(enum opener_purpose purpose, const char *path, int flags, mode_t mode)
{
    const int fd = opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_FILE, .path = path, .flags = flags, .mode = mode });

    if (fd >= 0)
        return fd;
    errno = -fd;
    return -1;
}

int opener_listen(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type)
{
    return opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_LISTEN, .address = address, .length = length, .type = type });
}

int opener_tap(const char *name, bool multi_queue)
{
    return opener_request(&(struct opener_request){ .purpose = OPENER_NET, .kind = OPENER_TAP, .path = name, .flags = multi_queue ? IFF_MULTI_QUEUE : 0 });
}

int opener_connect(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type)
{
    return opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_CONNECT, .address = address, .length = length, .type = type });
}

int opener_remove(enum opener_purpose purpose, const char *path)
{
    return opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_REMOVE, .path = path });
}

int opener_folder(enum opener_purpose purpose, const char *path, mode_t mode)
{
    return opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_FOLDER, .path = path, .mode = mode });
}
