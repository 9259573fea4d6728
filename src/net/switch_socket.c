/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch_socket.c - the place of a user's switches, which is the user's runtime_dir().
 */
#include "net/switch_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/opener.h"
#include "net/peer.h"

enum { MAX_NAME = 32 };

int switch_dir(char dir[SWITCH_DIR], struct error *err)
{
    return runtime_dir("the switch", dir, err);
}

static int address(const char *name, struct sockaddr_un *sa, char dir[SWITCH_DIR], struct error *err)
{
    const size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    int r;

    if (!len || name[len] || len > MAX_NAME)
        return error_set(err, EINVAL, "switch:%s: a name is of 1 to %d letters, digits, \"-\" and \"_\"", name,
                         MAX_NAME);
    r = switch_dir(dir, err);
    if (r)
        return r;
    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/switch-%s", dir, name) >= (int)sizeof(sa->sun_path))
        return error_set(err, ENAMETOOLONG, "switch:%s: the name of its socket in %s is too long", name, dir);
    return 0;
}

int switch_path(const char *name, char path[SWITCH_PATH], struct error *err)
{
    struct sockaddr_un sa;
    char dir[SWITCH_DIR];
    int r = address(name, &sa, dir, err);

    if (!r)
        snprintf(path, SWITCH_PATH, "%s", sa.sun_path);
    return r;
}

static int try_connect(const struct sockaddr_un *sa)
{
    return opener_connect(OPENER_NET, (const struct sockaddr *)sa, sizeof(*sa), SOCK_SEQPACKET);
}

int switch_connect(const char *name, struct error *err)
{
    struct sockaddr_un sa;
    char dir[SWITCH_DIR];
    int r = address(name, &sa, dir, err);

    if (r)
        return r;
    err->text[0] = 0;
    r = try_connect(&sa);
    if (r < 0 && r != -ENOENT && r != -ECONNREFUSED)
        error_set(err, -r, "switch:%s: %s: %s", name, sa.sun_path, strerror(-r));
    return r;
}

static int lock_names(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0 && !flock(fd, LOCK_EX))
        return fd;
    const int r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

void switch_forget(const char *name)
{
    struct sockaddr_un sa;
    char dir[SWITCH_DIR];
    struct error err;
    int lock, fd;

    if (address(name, &sa, dir, &err) || (lock = lock_names(dir)) < 0)
        return;
    /* Another switch may have taken its place already. */
    fd = try_connect(&sa);
    if (fd >= 0)
        close(fd);
    else if (fd == -ECONNREFUSED)
        unlink(sa.sun_path);
    close(lock);
}

int switch_listen(const char *name, struct error *err)
{
    struct sockaddr_un sa;
    char dir[SWITCH_DIR];
    int lock = -1, fd = -1, r = address(name, &sa, dir, err);

    if (r)
        return r;
    /* One process at a time looks whether a switch listens, removes what a dead one left, and takes the name. */
    lock = lock_names(dir);
    if (lock < 0) {
        r = lock;
        goto out;
    }
    r = try_connect(&sa);
    if (r >= 0) {
        close(r);
        r = -EADDRINUSE;
        goto out;
    }
    if (r == -ECONNREFUSED && unlink(sa.sun_path)) { /* a file that is not a socket stays where it is */
        r = -errno;
        goto out;
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) || listen(fd, SWITCH_BACKLOG) ? -errno : fd;
out:
    if (r < 0 && fd >= 0)
        close(fd);
    if (lock >= 0)
        close(lock);
    if (r < 0 && r != -EADDRINUSE)
        error_set(err, -r, "switch:%s: cannot listen on %s: %s", name, sa.sun_path, strerror(-r));
    return r;
}
