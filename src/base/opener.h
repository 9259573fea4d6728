/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opener.h - the one place where what a machine uses is opened: files, devices, folders, sockets. Rooms say what they want
 * and what for; this process opens it itself, unless opener_use gave it another who does, and who may refuse.
 *
 * tests/source_rules knows the few files that may call open(2), socket(2) and the like beside this one, and why.
 *
 * Any thread. Descriptors are close-on-exec and the caller's.
 */
#ifndef LODGE_BASE_OPENER_H
#define LODGE_BASE_OPENER_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/base.h"

enum opener_purpose {
    OPENER_DISK, OPENER_OVERLAY, OPENER_KERNEL, OPENER_FIRMWARE, OPENER_ROM, OPENER_SHARE, OPENER_CHARDEV, OPENER_NET, OPENER_CAPTURE,
    OPENER_SCREEN, OPENER_VSOCK, OPENER_API, OPENER_ENGINE, OPENER_SNAPSHOT, OPENER_REPORT /* traces, figures, symbols */,
    OPENER_CONFIG,
};

enum opener_kind {
    OPENER_FILE,    /* path, flags, mode: as open(2); no_links: openat2's RESOLVE_NO_SYMLINKS where the kernel has it */
    OPENER_LISTEN,  /* address, type: a listening socket; a path's is made for the user alone (mode 0600) */
    OPENER_CONNECT, /* address, type: a connected socket */
    OPENER_REMOVE,  /* path: as unlink(2); 0 */
    OPENER_FOLDER,  /* path, mode: as mkdir(2); 0 */
};

struct opener_request {
    enum opener_purpose purpose;
    enum opener_kind kind;
    const char *path;
    int flags;
    mode_t mode;
    bool no_links;
    const struct sockaddr *address;
    socklen_t length;
    int type; /* SOCK_STREAM or SOCK_SEQPACKET, | SOCK_NONBLOCK */
};

/* Returns a descriptor, 0 where there is none, or -errno. */
struct opener {
    int (*open)(void *ctx, const struct opener_request *r);
    void *ctx;
};

/* From now on o opens, NULL: this process itself. Before it has other threads; o stays the caller's. What a process may open
   is the process's, so this is one for all machines in it. */
void opener_use(const struct opener *o);
/* A descriptor, or -errno. */
int must_check opener_request(const struct opener_request *r);

/* As open(2): a descriptor, or -1 with errno. */
int opener_file(enum opener_purpose purpose, const char *path, int flags, mode_t mode);
/* -errno */
int must_check opener_listen(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type);
int must_check opener_connect(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type);
int opener_remove(enum opener_purpose purpose, const char *path);
int must_check opener_folder(enum opener_purpose purpose, const char *path, mode_t mode);

#endif
