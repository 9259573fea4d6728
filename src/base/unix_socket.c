/* SPDX-License-Identifier: Apache-2.0 */
/* unix_socket.c - see unix_socket.h. */
#include "base/unix_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int unix_socket_connect(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof sa.sun_path)
        return -ENAMETOOLONG;
    strcpy(sa.sun_path, path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !connect(fd, (const struct sockaddr *)&sa, sizeof sa))
        return fd;
    const int r = -errno;
    if (fd >= 0)
        close(fd);
    return r;
}

int unix_socket_listen(struct unix_socket *s, const char *what, const char *path, struct error *err)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct stat st;

    s->fd = -1;
    if (!*path) /* Linux would take a name that is no file's, and whose socket is everybody's */
        return error_set(err, EINVAL, "%s: a path is needed", what);
    if (strlen(path) >= sizeof sa.sun_path)
        return error_set(err, ENAMETOOLONG, "%s%s: a socket's path has at most %zu characters", what, path,
                         sizeof sa.sun_path - 1);
    strcpy(sa.sun_path, path);
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd >= 0 && !lstat(path, &st)) {
        const char *why = NULL;
        if (!S_ISSOCK(st.st_mode))
            why = "there is a file or folder of this name, which is no socket";
        else if (!connect(s->fd, (const struct sockaddr *)&sa, sizeof sa) || errno == EAGAIN) /* its queue is full */
            why = "it is in use by another program";
        else if (errno == ECONNREFUSED)
            unlink(path);
        if (why) {
            close(s->fd);
            s->fd = -1;
            return error_set(err, EADDRINUSE, "%s%s: %s", what, path, why);
        }
    }
    /* bind() makes the name with the mode that the socket has. */
    if (s->fd < 0 || fchmod(s->fd, 0600) || bind(s->fd, (const struct sockaddr *)&sa, sizeof sa)) {
        const int code = errno;
        if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
        return error_set(err, code, "%s%s: %s", what, path, strerror(code));
    }
    strcpy(s->path, path);
    if (!lstat(path, &st)) {
        s->dev = st.st_dev;
        s->ino = st.st_ino;
    }
    if (!listen(s->fd, 64))
        return 0;
    const int code = errno;
    unix_socket_close(s);
    return error_set(err, code, "%s%s: %s", what, path, strerror(code));
}

void unix_socket_close(struct unix_socket *s)
{
    struct stat st;
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    if (!lstat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->path);
}

int runtime_dir(const char *what, char dir[RUNTIME_DIR], struct error *err)
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    const unsigned uid = geteuid();
    char base[RUNTIME_DIR];
    struct stat st;
    int n;

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
