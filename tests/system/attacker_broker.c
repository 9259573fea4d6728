/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacker_broker.c - the worker asks its broker (worker/broker.h) for what no machine needs. The broker is not confined,
 * and what it gives is as good as what the worker takes for itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "attacker.h"
#include "worker/broker_message.h"

enum { ROOM = 256 }; /* for a descriptor that comes with an answer */

/* The socket whose other end the broker has: of messages, and made by the worker's parent. */
static int broker_socket(struct attack *a)
{
    struct puppet *p = a->puppet;

    for (int fd = own_descriptor(a, "socket:", 0, NULL); fd >= 0; fd = own_descriptor(a, "socket:", fd + 1, NULL)) {
        const int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
        const int mine = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        struct ucred maker = { 0 };
        socklen_t n = sizeof maker, m = sizeof(int);
        char path[40], name[20] = "";
        int type = 0;
        if (mine >= 0 &&
            (getsockopt(mine, SOL_SOCKET, SO_PEERCRED, &maker, &n) || getsockopt(mine, SOL_SOCKET, SO_TYPE, &type, &m)))
            type = 0;
        if (mine >= 0)
            close(mine);
        if (pidfd >= 0)
            close(pidfd);
        snprintf(path, sizeof path, "/proc/%d/comm", maker.pid);
        FILE *f = fopen(path, "re");
        if (f && !fgets(name, sizeof name, f))
            name[0] = 0;
        if (f)
            fclose(f);
        if (type == SOCK_SEQPACKET && !strcmp(name, "lodge-broker\n"))
            return fd;
    }
    return -1;
}

static u64 put_message(struct puppet *p, u64 data, size_t n, u64 control, size_t nc)
{
    const struct iovec v = { (void *)(uintptr_t)data, n };
    const struct msghdr m = { .msg_iov = (void *)(uintptr_t)puppet_put(p, &v, sizeof v),
                              .msg_iovlen = 1,
                              .msg_control = (void *)(uintptr_t)control,
                              .msg_controllen = nc };

    return puppet_put(p, &m, sizeof m);
}

union control {
    struct cmsghdr head;
    char room[ROOM];
};

/* with: a descriptor that goes along, or -1. q->path has n bytes. */
static struct outcome say_to_broker(struct puppet *p, int sock, const struct broker_request *q, size_t n, int with)
{
    const size_t all = offsetof(struct broker_request, path) + n;
    union control control = { .head = { CMSG_LEN(sizeof with), SOL_SOCKET, SCM_RIGHTS } };

    memcpy(CMSG_DATA(&control.head), &with, sizeof with);
    const u64 out = puppet_put(p, q, all), descriptor = puppet_put(p, &control, sizeof control);
    const u64 message = put_message(p, out, all, with < 0 ? 0 : descriptor, with < 0 ? 0 : CMSG_SPACE(sizeof with));
    const struct outcome o = CALL(p, SYS_sendmsg, (u64)sock, message, MSG_NOSIGNAL);
    puppet_forget(p);
    return o;
}

/* Asks, and takes the answer. A result that is not negative is an escape; what came with it is closed again. */
static void ask(struct attack *a, int sock, const char *name, const struct broker_request *q, size_t n, int along)
{
    static const char zeroes[ROOM];
    struct puppet *p = a->puppet;
    struct broker_answer answer;
    union control control;
    int fd = -1;

    struct outcome o = say_to_broker(p, sock, q, n, along);
    if (o.result < 0) {
        tried(a, name, REFUSED, say(o));
        return;
    }
    memset(&answer, 0, sizeof answer);
    const u64 in = puppet_put(p, &answer, sizeof answer), with = puppet_put(p, zeroes, ROOM);
    o = CALL(p, SYS_recvmsg, (u64)sock, put_message(p, in, sizeof answer, with, ROOM), MSG_CMSG_CLOEXEC);
    if (o.result > 0 && !puppet_read(p, in, &answer, sizeof answer.result) && !puppet_read(p, with, &control, ROOM)) {
        o.result = answer.result;
        if (control.head.cmsg_len && control.head.cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
    }
    tried_call(a, name, o, ESCAPED, NULL);
    if (fd >= 0)
        CALL(p, SYS_close, (u64)fd);
    puppet_forget(p);
}

static void ask_path(struct attack *a, int sock, const char *name, u32 kind, u32 purpose, int flags, const char *path)
{
    struct broker_request q;

    memset(&q, 0, sizeof q);
    q.kind = kind, q.purpose = purpose, q.flags = flags, q.mode = 0600, q.type = SOCK_STREAM;
    snprintf(q.path, sizeof q.path, "%s", path);
    ask(a, sock, name, &q, strlen(q.path) + 1, -1);
}

/* Files outside, for each purpose that a file can have. */
static void ask_files(struct attack *a, int sock)
{
    char secret[PATH_MAX], made[PATH_MAX], up[PATH_MAX + 32], victim[40], name[80];

    snprintf(secret, sizeof secret, "%s/secret", a->folder);
    snprintf(made, sizeof made, "%s/made", a->folder);
    /* As a file beside the disk's, which might be what the disk lies over. */
    snprintf(up, sizeof up, "%.*s/vm/../outside/secret", (int)(strrchr(a->folder, '/') - a->folder), a->folder);
    snprintf(victim, sizeof victim, "/proc/%d/mem", outside_victim(a->outside));
    for (u32 purpose = 0; purpose <= OPENER_CONFIG; purpose++) {
        snprintf(name, sizeof name, "broker: secret, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDONLY, secret);
        snprintf(name, sizeof name, "broker: secret O_PATH, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_PATH, secret);
        snprintf(name, sizeof name, "broker: secret by .., purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR, up);
        snprintf(name, sizeof name, "broker: a new file, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR | O_CREAT, made);
        snprintf(name, sizeof name, "broker: a new file O_EXCL, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR | O_CREAT | O_EXCL, made);
        snprintf(name, sizeof name, "broker: a file without a name, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR | O_TMPFILE, a->folder);
        snprintf(name, sizeof name, "broker: remove, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_REMOVE, purpose, 0, secret);
        snprintf(name, sizeof name, "broker: a folder, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FOLDER, purpose, 0, made);
        snprintf(name, sizeof name, "broker: the victim's memory, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR, victim);
        snprintf(name, sizeof name, "broker: /proc/self/mem, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDWR, "/proc/self/mem");
        snprintf(name, sizeof name, "broker: stat, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_STAT, purpose, 0, secret);
        snprintf(name, sizeof name, "broker: the real name, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_REAL, purpose, 0, secret);
        snprintf(name, sizeof name, "broker: the root, purpose %u", purpose);
        ask_path(a, sock, name, OPENER_FILE, purpose, O_RDONLY | O_DIRECTORY, "/");
    }
}

static void ask_address(struct attack *a, int sock, const char *name, u32 kind, const void *address, socklen_t n)
{
    struct broker_request q;

    memset(&q, 0, sizeof q);
    q.kind = kind, q.type = SOCK_STREAM, q.length = n;
    memcpy(&q.address, address, n);
    for (q.purpose = 0; q.purpose <= OPENER_CONFIG; q.purpose++)
        ask(a, sock, name, &q, 1, -1);
}

static void ask_sockets(struct attack *a, int sock)
{
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    struct sockaddr_in in = { .sin_family = AF_INET,
                              .sin_port = htons((u16)outside_port(a->outside)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    snprintf(u.sun_path, sizeof u.sun_path, "%s", outside_socket(a->outside, false));
    ask_address(a, sock, "broker: connect to a unix socket", OPENER_CONNECT, &u, sizeof u);
    ask_address(a, sock, "broker: connect by TCP", OPENER_CONNECT, &in, sizeof in);
    in.sin_port = 0;
    ask_address(a, sock, "broker: listen by TCP", OPENER_LISTEN, &in, sizeof in);
    snprintf(u.sun_path, sizeof u.sun_path, "%.90s/made", a->folder);
    ask_address(a, sock, "broker: listen at a unix socket", OPENER_LISTEN, &u, sizeof u);
    char host[40];
    snprintf(host, sizeof host, "127.0.0.1 %d", outside_port(a->outside));
    for (u32 purpose = 0; purpose <= OPENER_CONFIG; purpose++) {
        ask_path(a, sock, "broker: connect to a host", OPENER_CONNECT_HOST, purpose, 0, host);
        ask_path(a, sock, "broker: listen for hosts", OPENER_LISTEN_HOST, purpose, 0, "127.0.0.1 0");
    }
}

#define ARGUMENTS(text) text, sizeof(text) /* each ends with a 0 */

static void ask_children(struct attack *a, int sock)
{
    static const struct {
        const char *name, *arguments;
        size_t n;
    } programs[] = {
        { "broker: start /bin/sh", ARGUMENTS("/bin/sh\0-c\0true") },
        { "broker: start a machine", ARGUMENTS("lodge\0run\0--help") },
        { "broker: start another network", ARGUMENTS("lodge\0netd\0user\0tftp=/etc") },
        { "broker: start a switch of another name", ARGUMENTS("lodge\0netd\0switch\0attacker") },
        { "broker: start another folder", ARGUMENTS("lodge\0folderd\0/etc") },
        { "broker: start nothing", ARGUMENTS("lodge") },
    };

    for (u32 i = 0; i < ARRAY_SIZE(programs); i++) {
        struct broker_request q;
        memset(&q, 0, sizeof q);
        q.kind = BROKER_CHILD;
        memcpy(q.path, programs[i].arguments, programs[i].n);
        ask(a, sock, programs[i].name, &q, programs[i].n, -1);
    }
}

/* What it has to read, it gets no further rights to. */
static void ask_again(struct attack *a, int sock)
{
    char name[320], link[256], path[60];

    for (int fd = own_descriptor(a, "/", 0, link); fd >= 0; fd = own_descriptor(a, "/", fd + 1, link)) {
        struct broker_request q;
        struct stat st;
        snprintf(path, sizeof path, "/proc/%d/fd/%d", a->puppet->pid, fd);
        if (lstat(path, &st) || st.st_mode & S_IWUSR || stat(path, &st) || !S_ISREG(st.st_mode))
            continue;
        memset(&q, 0, sizeof q);
        q.kind = OPENER_AGAIN, q.flags = O_RDWR;
        for (q.purpose = 0; q.purpose <= OPENER_CONFIG; q.purpose++) {
            snprintf(name, sizeof name, "broker: %s again, to write, purpose %u", link, q.purpose);
            ask(a, sock, name, &q, 1, fd);
        }
    }
}

void try_broker(struct attack *a)
{
    const int sock = a->kind <= OTHER ? broker_socket(a) : -1;

    if (sock < 0)
        return;
    ask_path(a, sock, "broker: a tap device", OPENER_TAP, OPENER_NET, 0, "attacker0");
    ask_files(a, sock);
    ask_sockets(a, sock);
    ask_children(a, sock);
    ask_again(a, sock);
}
