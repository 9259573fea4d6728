/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unix_socket.h - a listening unix socket with a name in the file system that only this user can use.
 */
#ifndef LODGE_BASE_UNIX_SOCKET_H
#define LODGE_BASE_UNIX_SOCKET_H

#include <sys/types.h>

#include "base/error.h"
#include "base/opener.h"

struct unix_socket {
    int fd; /* -1: none */
    enum opener_purpose purpose;
    char path[108];
    dev_t dev;
    ino_t ino;
};

/* Replaces a socket that nobody listens on (left by a process that was killed). what: the text before the path in
   err: "unix:". */
int must_check unix_socket_listen(struct unix_socket *s, enum opener_purpose purpose, const char *what, const char *path, struct error *err);
/* Closes the socket and removes its name, if the name still is this socket's. */
void unix_socket_close(struct unix_socket *s);
/* A connected socket, close on exec, or -errno. type: SOCK_STREAM, | SOCK_NONBLOCK: -EAGAIN if the other side's queue is full. */
int must_check unix_socket_connect(enum opener_purpose purpose, const char *path, int type);

/* Makes the directory if it is missing: $XDG_RUNTIME_DIR/lodge, else /run/user/UID/lodge, else /tmp/lodge-UID. Only
   this user can get into it. what: the text for err, for example "the switch". */
enum { RUNTIME_DIR = 96 };
int must_check runtime_dir(const char *what, char dir[RUNTIME_DIR], struct error *err);

/* Removes a socket of this name that nobody listens on. */
void unix_socket_sweep(enum opener_purpose purpose, const char *path);

#endif
