/* SPDX-License-Identifier: Apache-2.0 */
/* opener.c - see opener.h. */
#include "base/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/openat2.h>
#include <net/if.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unix_socket.h"

enum { BACKLOG = 64, MOMENT_MS = 200 };

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

/* A connection that is made, or still being made after a moment: a server that does not answer at all must not keep us. */
static int begin_connection(const struct addrinfo *a, int type)
{
    const int fd = socket(a->ai_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct pollfd p = { fd, POLLOUT, 0 };
    socklen_t size = sizeof errno;
    int code = 0;

    if (fd < 0 || !connect(fd, a->ai_addr, a->ai_addrlen))
        return fd;
    if (errno != EINPROGRESS)
        code = errno;
    else if (poll(&p, 1, MOMENT_MS) > 0)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size);
    if (!code)
        return fd;
    close(fd);
    errno = code;
    return -1;
}

static int begin_listening(const struct opener_request *r, const struct addrinfo *a)
{
    return socket_of(&(struct opener_request){ .purpose = r->purpose, .kind = OPENER_LISTEN, .address = a->ai_addr,
                                               .length = a->ai_addrlen, .type = r->type });
}

/* Listens on the name's first address, or connects to the first that does not refuse. */
static int socket_of_host(const struct opener_request *r)
{
    const bool listens = r->kind == OPENER_LISTEN_HOST;
    const struct addrinfo hints = { .ai_flags = AI_NUMERICSERV | (listens ? AI_PASSIVE : 0), .ai_socktype = SOCK_STREAM };
    const size_t n = strcspn(r->path, " ");
    char host[NI_MAXHOST];
    struct addrinfo *all;

    if (n >= sizeof host || !r->path[n]) {
        errno = EINVAL;
        return -1;
    }
    memcpy(host, r->path, n);
    host[n] = 0;
    if (getaddrinfo(host, r->path + n + 1, &hints, &all)) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = listens ? begin_listening(r, all) : -1;
    for (const struct addrinfo *a = all; a && fd < 0 && !listens; a = a->ai_next)
        fd = begin_connection(a, r->type);
    const int code = errno;
    freeaddrinfo(all);
    errno = code;
    return fd;
}

static int again(int fd, int flags)
{
    char name[40];

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, flags | O_CLOEXEC);
}

static int by_ourselves(const struct opener_request *r)
{
    struct error err;
    int fd = -1;

    errno = EINVAL;
    switch (r->kind) {
    case OPENER_FILE: fd = file(r); break;
    case OPENER_LISTEN:
    case OPENER_CONNECT: fd = socket_of(r); break;
    case OPENER_REMOVE: fd = unlink(r->path); break;
    case OPENER_TAP: fd = tap(r); break;
    case OPENER_FOLDER: fd = mkdir(r->path, r->mode); break;
    case OPENER_LISTEN_HOST:
    case OPENER_CONNECT_HOST: fd = socket_of_host(r); break;
    case OPENER_AGAIN: fd = again(r->fd, r->flags); break;
    case OPENER_REAL: fd = realpath(r->path, r->real) ? 0 : -1; break;
    case OPENER_STAT: fd = r->flags & O_NOFOLLOW ? lstat(r->path, r->st) : stat(r->path, r->st); break;
    case OPENER_USER: break; /* who asks itself does not ask here: file_user() */
    case OPENER_RUNTIME: return runtime_dir("", r->real, &err);
    }
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

void opener_raise_limit(void)
{
    struct rlimit r;

    if (getrlimit(RLIMIT_NOFILE, &r))
        return;
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &r);
}

bool opener_elsewhere(void)
{
    return chosen;
}

/* As open(2) returns. */
static int with_errno(int fd)
{
    if (fd >= 0)
        return fd;
    errno = -fd;
    return -1;
}

int opener_again(int fd, int flags)
{
    return with_errno(opener_request(&(struct opener_request){ .purpose = OPENER_DISK, .kind = OPENER_AGAIN, .fd = fd, .flags = flags }));
}

char *opener_real(enum opener_purpose purpose, const char *path, char real[PATH_MAX])
{
    return with_errno(opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_REAL, .path = path, .real = real })) ? NULL : real;
}

int opener_stat(enum opener_purpose purpose, const char *path, int flags, struct stat *st)
{
    return with_errno(opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_STAT, .path = path, .flags = flags, .st = st }));
}

int opener_file(enum opener_purpose purpose, const char *path, int flags, mode_t mode)
{
    return with_errno(opener_request(&(struct opener_request){ .purpose = purpose, .kind = OPENER_FILE, .path = path, .flags = flags, .mode = mode }));
}

int opener_fstat(int fd, struct stat *st)
{
    return (int)syscall(SYS_fstat, fd, st);
}

int opener_host(enum opener_purpose purpose, enum opener_kind kind, const char *host, const char *port, int type)
{
    char name[NI_MAXHOST + NI_MAXSERV + 1];

    if (snprintf(name, sizeof name, "%s %s", host, port) >= (int)sizeof name)
        return -ENAMETOOLONG;
    return opener_request(&(struct opener_request){ .purpose = purpose, .kind = kind, .path = name, .type = type });
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
