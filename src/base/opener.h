/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opener.h - the one place that opens what a machine uses: files, devices, folders, sockets. Rooms say what they want
 * and for which purpose. This process opens it itself, unless opener_use gave it another opener. That opener may
 * refuse.
 *
 * tests/source_rules lists the few other files that may call open(2), socket(2) and similar functions, and says why.
 *
 * Any thread. Descriptors are close-on-exec and belong to the caller.
 */
#ifndef LODGE_BASE_OPENER_H
#define LODGE_BASE_OPENER_H

#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/base.h"

enum opener_purpose {
    OPENER_DISK, OPENER_OVERLAY, OPENER_KERNEL, OPENER_FIRMWARE, OPENER_ROM, OPENER_SHARE, OPENER_CHARDEV, OPENER_NET, OPENER_CAPTURE,
    OPENER_SCREEN, OPENER_VSOCK, OPENER_API, OPENER_ENGINE, OPENER_SNAPSHOT, OPENER_REPORT /* traces, figures, symbols */,
    OPENER_CONFIG,
};

enum opener_kind {
    OPENER_FILE,    /* path, flags, mode: as open(2); no_links: openat2's RESOLVE_NO_SYMLINKS if the kernel has it */
    OPENER_LISTEN,  /* address, type: a listening socket; a socket with a path is for this user only (mode 0600) */
    OPENER_CONNECT, /* address, type: a connected socket */
    OPENER_REMOVE,  /* path: as unlink(2); 0 */
    OPENER_TAP,     /* path: the name of a tap device; flags: IFF_MULTI_QUEUE or 0. A queue of it, which does not block,
                       with IFF_NO_PI and IFF_VNET_HDR (linux/if_tun.h). Needs CAP_NET_ADMIN unless the user owns it. */
    OPENER_FOLDER,  /* path, mode: as mkdir(2); 0 */
    OPENER_LISTEN_HOST,  /* path: "HOST PORT", a name or an address and a decimal number; as OPENER_LISTEN. */
    OPENER_CONNECT_HOST, /* the same, by TCP. It does not block, and may be connecting still: poll(2). An unknown name is -EADDRNOTAVAIL. */
    OPENER_AGAIN,   /* fd, flags: the file that this process has open already, with other flags. The opener may be another
                       process, and refuses rights that fd does not have. */
    OPENER_REAL,    /* path, real: as realpath(3), which fails if the name leads nowhere; 0 */
    OPENER_STAT,    /* path, st: as stat(2), or as lstat(2) with O_NOFOLLOW in flags; 0 */
    OPENER_USER,    /* fd, real: who else has that file open, as base/file_user.h says it; flags: fd, as a number of this process; 0 */
    OPENER_RUNTIME, /* real: the user's folder for sockets, base/unix_socket.h's runtime_dir(), made and checked; 0 */
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
    int fd;     /* OPENER_AGAIN */
    char *real; /* OPENER_REAL, OPENER_RUNTIME: PATH_MAX bytes for the answer */
    struct stat *st; /* OPENER_STAT */
};

/* open returns a descriptor, 0 if there is none to return, or -errno. */
struct opener {
    int (*open)(void *ctx, const struct opener_request *r);
    void *ctx;
};

/* From now on o opens; NULL: this process opens itself. Call it before the process has other threads. o stays the
   caller's. What a process may open is a property of the process, so all machines in it share one opener. */
void opener_use(const struct opener *o);
/* A descriptor, or -errno. */
int must_check opener_request(const struct opener_request *r);

/* This process, and those that it makes later, may have as many descriptors as the host allows: a shell gives 1,024. */
void opener_raise_limit(void);

/* True if another process opens, and this one need not reach the files by their names. */
bool opener_elsewhere(void);

/* OPENER_AGAIN: a descriptor, or -1 with errno. */
int opener_again(int fd, int flags);
/* OPENER_REAL: real, or NULL with errno. */
char *opener_real(enum opener_purpose purpose, const char *path, char real[PATH_MAX]);
/* OPENER_STAT: 0, or -1 with errno. flags: 0 or O_NOFOLLOW */
int opener_stat(enum opener_purpose purpose, const char *path, int flags, struct stat *st);

/* As fstat(2), by the call of this name: the C library's looks up an empty name, which the lists of a worker's threads cannot
   tell from another name (docs/system-calls.md). */
int opener_fstat(int fd, struct stat *st);

/* As open(2): a descriptor, or -1 with errno. */
int opener_file(enum opener_purpose purpose, const char *path, int flags, mode_t mode);
/* -errno */
int must_check opener_listen(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type);
int must_check opener_tap(const char *name, bool multi_queue);
int must_check opener_connect(enum opener_purpose purpose, const struct sockaddr *address, socklen_t length, int type);
/* kind: OPENER_LISTEN_HOST or OPENER_CONNECT_HOST */
int must_check opener_host(enum opener_purpose purpose, enum opener_kind kind, const char *host, const char *port, int type);
int opener_remove(enum opener_purpose purpose, const char *path);
int must_check opener_folder(enum opener_purpose purpose, const char *path, mode_t mode);

#endif
