/* SPDX-License-Identifier: Apache-2.0 */
/* unix_socket.c - see unix_socket.h. */
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int unix_socket_connect(enum opener_purpose purpose, const char *path, int type)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof sa.sun_path)
        return -ENAMETOOLONG;
    strcpy(sa.sun_path, path);
    return opener_connect(purpose, (const struct sockaddr *)&sa, sizeof sa, type);
}

/* Looks at what has the name already, and removes a socket that nobody listens on. Returns why the name cannot be
   had, or NULL. */
static const char *make_way(enum opener_purpose purpose, const struct sockaddr_un *sa)
{
    struct stat st;

    if (opener_stat(purpose, sa->sun_path, O_NOFOLLOW, &st))
        return NULL;
    if (!S_ISSOCK(st.st_mode))
        return "there is a file or folder of this name, which is no socket";
    const int fd = opener_connect(purpose, (const struct sockaddr *)sa, sizeof *sa, SOCK_STREAM | SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || fd == -EAGAIN) /* its queue is full */
        return "it is in use by another program";
    if (fd == -ECONNREFUSED)
        opener_remove(purpose, sa->sun_path);
    return NULL;
}

void unix_socket_sweep(enum opener_purpose purpose, const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    if (!*path || strlen(path) >= sizeof sa.sun_path)
        return;
    strcpy(sa.sun_path, path);
    (void)make_way(purpose, &sa);
}

int unix_socket_listen(struct unix_socket *s, enum opener_purpose purpose, const char *what, const char *path, struct error *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct stat st;

    s->fd = -1;
    s->purpose = purpose;
    if (!*path) /* Linux would take a name that is not in the file system, and such a socket is open to everybody */
        return error_set(err, EINVAL, "%s: a path is needed", what);
    if (strlen(path) >= sizeof sa.sun_path)
        return error_set(err, ENAMETOOLONG, "%s%s: a socket's path has at most %zu characters", what, path,
                         sizeof sa.sun_path - 1);
    strcpy(sa.sun_path, path);
    const char *why = make_way(purpose, &sa);
    if (why)
        return error_set(err, EADDRINUSE, "%s%s: %s", what, path, why);
    const int fd = opener_listen(purpose, (const struct sockaddr *)&sa, sizeof sa, SOCK_STREAM | SOCK_NONBLOCK);
    if (fd < 0)
        return error_set(err, -fd, "%s%s: %s", what, path, strerror(-fd));
    s->fd = fd;
    strcpy(s->path, path);
    if (!opener_stat(purpose, path, O_NOFOLLOW, &st)) {
        s->dev = st.st_dev;
        s->ino = st.st_ino;
    }
    return 0;
}

void unix_socket_close(struct unix_socket *s)
{
    struct stat st;
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    /* The name may be another program's by now. */
    if (!opener_stat(s->purpose, s->path, O_NOFOLLOW, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
        opener_remove(s->purpose, s->path);
}

int runtime_dir(const char *what, char dir[RUNTIME_DIR], struct error *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    const unsigned uid = geteuid();
    char base[RUNTIME_DIR];
    struct stat st;
    int n;

    if (opener_elsewhere()) {
        char real[PATH_MAX];
        const int r = opener_request(&(struct opener_request){ .purpose = OPENER_NET, .kind = OPENER_RUNTIME, .real = real });
        if (r || snprintf(dir, RUNTIME_DIR, "%s", real) >= RUNTIME_DIR)
            return error_set(err, r ? -r : ENAMETOOLONG, "%s: there is no folder for sockets that only you can use: %s", what,
                             strerror(r ? -r : ENAMETOOLONG));
        return 0;
    }
    if (xdg && *xdg == '/')
        n = snprintf(dir, RUNTIME_DIR, "%s/lodge", xdg);
    else if (snprintf(base, sizeof(base), "/run/user/%u", uid) > 0 && !access(base, W_OK | X_OK))
        n = snprintf(dir, RUNTIME_DIR, "%s/lodge", base);
    else
        n = snprintf(dir, RUNTIME_DIR, "/tmp/lodge-%u", uid);
    if (n >= RUNTIME_DIR)
        return error_set(err, ENAMETOOLONG, "%s: XDG_RUNTIME_DIR is too long", what);
    if (mkdir(dir, 0700) && errno != EEXIST)
        return error_set(err, errno, "%s: cannot make %s: %s", what, dir, strerror(errno));
    if (lstat(dir, &st))
        return error_set(err, errno, "%s: %s: %s", what, dir, strerror(errno));
    if (!S_ISDIR(st.st_mode) || st.st_uid != uid || (st.st_mode & 077))
        return error_set(err, EPERM, "%s: %s is not a directory that only you can use; remove it", what, dir);
    return 0;
}
