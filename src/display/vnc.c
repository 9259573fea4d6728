/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vnc.c - see vnc.h. It never waits for the socket to displayd. Rectangles that the socket has no room for are joined
 * into one. The number of key events that it reads in a given time is limited.
 */
#include "display/vnc.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/child.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/opener.h"
#include "base/patience.h"
#include "base/unix_socket.h"
#include "display/vnc_message.h"

enum { EVENTS = 32 /* in each EVENTS_NS */, ANSWER_S = 10 };
#define EVENTS_NS 10000000ull

struct vnc {
    struct display *display;
    struct input *input;
    struct loop *loop;
    struct display_viewer look;
    struct loop_fd sock;
    struct timer again; /* when it fires, reading goes on */
    struct child child;
    u32 viewers;
    bool behind, resized; /* displayd has not been told of `rect` */
    struct display_rect rect;
    struct unix_socket unix_;
    char address[160];
};

const char *vnc_address(const struct vnc *v) { return v->address; }

static void watch(struct vnc *v)
{
    const u32 events = (v->again.armed ? 0 : (u32)EPOLLIN) | (v->behind ? (u32)EPOLLOUT : 0);
    if (v->sock.events != events && loop_fd_set(v->loop, &v->sock, events))
        log_warn("the screen's socket cannot be watched");
}

static void gone(struct vnc *v)
{
    log_warn("the screen's process has ended; nobody can look at %s any more", v->address);
    loop_fd_remove(v->loop, &v->sock);
    timer_disarm(&v->again);
    close(v->sock.fd);
    v->sock.fd = -1;
    if (v->viewers)
        display_look_away(v->display, &v->look);
    v->viewers = 0;
    input_release(v->input);
}

/* ---- to displayd ---- */

static void flush(struct vnc *v)
{
    const struct vnc_message m = {
        v->resized ? VNC_SIZE : VNC_CHANGED, v->rect.x, v->rect.y, v->rect.w, v->rect.h, 0, 0
    };
    if (v->behind && send(v->sock.fd, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof m)
        v->behind = v->resized = false;
    watch(v);
}

static void tell(struct vnc *v, struct display_rect r, bool resized)
{
    if (resized) {
        v->resized = true;
        v->rect = r;
    } else if (!v->behind) {
        v->rect = r;
    } else if (!v->resized) {
        const u32 x = MIN(v->rect.x, r.x), y = MIN(v->rect.y, r.y);
        v->rect.w = MAX(v->rect.x + v->rect.w, r.x + r.w) - x;
        v->rect.h = MAX(v->rect.y + v->rect.h, r.y + r.h) - y;
        v->rect.x = x;
        v->rect.y = y;
    }
    v->behind = true;
    flush(v);
}

static void changed(struct display_viewer *look, const struct display_rect *r, u32 n, bool resized)
{
    struct vnc *v = container_of(look, struct vnc, look);
    if (resized) {
        struct display_rect all = { 0 };
        display_size(v->display, &all.w, &all.h);
        tell(v, all, true);
        return;
    }
    for (u32 i = 0; i < n; i++)
        tell(v, r[i], false);
}

/* ---- from displayd ---- */

static void set_viewers(struct vnc *v, u32 n)
{
    if (n < v->viewers)
        input_release(v->input);
    if (!n && v->viewers)
        display_look_away(v->display, &v->look);
    const bool first = n && !v->viewers;
    v->viewers = n;
    if (!first)
        return;
    display_refresh(v->display);
    display_look(v->display, &v->look);
    struct display_rect all = { 0 };
    display_size(v->display, &all.w, &all.h);
    tell(v, all, true);
}

static void take(struct vnc *v, const struct vnc_message *m)
{
    switch (m->type) {
    case VNC_VIEWERS: set_viewers(v, m->x); break;
    case VNC_KEY: input_key(v->input, (u16)MIN(m->x, 0xffffu), m->y != 0); break;
    case VNC_POINTER:
        input_position(v->input, m->x, m->y, MIN(m->w, (u32)DISPLAY_MAX_WIDTH), MIN(m->h, (u32)DISPLAY_MAX_HEIGHT),
                       MIN(MAX(m->wheel, -1), 1), m->buttons & 0x1f);
        break;
    default: break;
    }
}

static void ready(struct loop_fd *w, u32 events)
{
    struct vnc *v = container_of(w, struct vnc, sock);
    struct vnc_message m;
    ssize_t n = -1;

    errno = EAGAIN;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        for (u32 i = 0; i < EVENTS && (n = recv(w->fd, &m, sizeof m, MSG_DONTWAIT)) == sizeof m; i++)
            take(v, &m);
    if (n == sizeof m) /* the rest must not keep the loop away from the guest's devices */
        timer_arm(&v->again, clock_ns() + EVENTS_NS);
    else if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
        gone(v);
        return;
    }
    flush(v);
}

static void read_on(struct timer *t)
{
    struct vnc *v = container_of(t, struct vnc, again);
    if (v->sock.fd >= 0)
        watch(v);
}

/* ---- beginning and end ---- */

static int read_password(const char *file, char password[9], struct error *err)
{
    char *line;
    size_t size;
    int r = patience_read(OPENER_SCREEN, file, true, 65536, "password: ", &line, &size, err);
    if (r)
        return r;
    line[strcspn(line, "\r\n")] = 0;
    if (!*line)
        r = error_set(err, EINVAL, "password: %s: its first line is empty", file);
    else if (strlen(line) > 8)
        log_warn("password: %s: VNC uses the first 8 characters of a password", file);
    snprintf(password, 9, "%.8s", line);
    explicit_bzero(line, size);
    free(line);
    return r;
}

static bool is_loopback(const struct sockaddr *sa)
{
    const struct sockaddr_in *in = (const void *)sa;
    const struct sockaddr_in6 *in6 = (const void *)sa;
    return sa->sa_family == AF_INET ? ntohl(in->sin_addr.s_addr) >> 24 == 127
                                    : sa->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static int listen_tcp(struct vnc *v, const struct vnc_params *o, struct error *err)
{
    char host[160], text[NI_MAXHOST], port[NI_MAXSERV];
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    const char *colon = strrchr(o->where, ':');

    if (strlen(o->where) >= sizeof host)
        return error_set(err, EINVAL, "the address is too long");
    if (!colon || colon == o->where || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        atol(colon + 1) > 65535)
        return error_set(err, EINVAL,
                         "it is vnc:HOST:PORT, for example vnc:127.0.0.1:5900, or vnc:unix:PATH");
    snprintf(host, sizeof host, "%.*s", (int)(colon - o->where), o->where);
    char *h = host;
    if (*h == '[' && h[strlen(h) - 1] == ']') {
        h[strlen(h) - 1] = 0;
        h++;
    }
    const int fd = opener_host(OPENER_SCREEN, OPENER_LISTEN_HOST, h, colon + 1, SOCK_STREAM | SOCK_NONBLOCK);
    const int code = fd < 0 ? -fd : getsockname(fd, (struct sockaddr *)&bound, &len) ? errno : 0;
    if (code) {
        if (fd >= 0)
            close(fd);
        return error_set(err, code, "%s%s", strerror(code),
                         code == EACCES         ? "; low ports are root's: take one from 1024 on"
                         : code == EADDRINUSE ? "; port 0 takes one that is free, and says which" : "");
    }
    const bool open = !is_loopback((struct sockaddr *)&bound);
    if (open && !o->password) { /* nobody has been let in yet */
        close(fd);
        return error_set(err, EPERM,
                         "everybody who can reach this address could use the machine; give it a password, or listen on "
                         "127.0.0.1 or a unix socket");
    }
    if (open && !o->tls_creds)
        log_warn("the screen at vnc:%s: without tls-creds the picture and the keys can be read on their way", o->where);
    if (getnameinfo((struct sockaddr *)&bound, len, text, sizeof text, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV))
        strcpy(text, "?"), strcpy(port, "?");
    snprintf(v->address, sizeof v->address, strchr(text, ':') ? "[%.120s]:%.8s" : "%.120s:%.8s", text, port);
    return fd;
}

static int listen_somewhere(struct vnc *v, const struct vnc_params *o, struct error *err)
{
    if (strncmp(o->where, "unix:", 5))
        return listen_tcp(v, o, err);
    const int r = unix_socket_listen(&v->unix_, OPENER_SCREEN, "vnc:unix:", o->where + 5, err);
    snprintf(v->address, sizeof v->address, "%s", o->where);
    return r ? r : v->unix_.fd;
}

static int agree(struct vnc *v, const struct vnc_hello *h, struct error *err)
{
    const struct timeval limit = { .tv_sec = ANSWER_S }, never = { 0 };
    struct vnc_answer a;

    setsockopt(v->sock.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const bool ok = send(v->sock.fd, h, sizeof *h, MSG_NOSIGNAL) == sizeof *h &&
                    recv(v->sock.fd, &a, sizeof a, 0) == sizeof a && a.magic == VNC_MAGIC;
    setsockopt(v->sock.fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
    if (!ok)
        return error_set(err, EIO, "the screen's process did not start");
    a.err.text[sizeof a.err.text - 1] = 0;
    if (!a.result && a.err.text[0])
        log_warn("the screen: %s", a.err.text);
    if (!a.result)
        return 0;
    return error_set(err, a.result < 0 && a.result > -4096 ? -a.result : EIO, "%s", a.err.text);
}

static struct vnc *vnc_new(struct display *d, struct input *in, struct loop *loop)
{
    struct vnc *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    *v = (struct vnc){ .display = d,
                       .input = in,
                       .loop = loop,
                       .look = { .changed = changed },
                       .child = { .says = -1 },
                       .sock = { -1, EPOLLIN, ready },
                       .unix_ = { .fd = -1 } };
    timer_init(&v->again, loop, read_on);
    return v;
}

struct vnc *vnc_attach(int sock, struct display *d, struct input *in, struct loop *loop)
{
    struct vnc *v = vnc_new(d, in, loop);
    if (!v)
        return NULL;
    v->sock.fd = sock;
    if (!loop_fd_add(loop, &v->sock))
        return v;
    v->sock.fd = -1;
    vnc_close(v);
    return NULL;
}

struct vnc *vnc_open(const struct vnc_params *o, const char *title, struct display *d, struct input *in, struct loop *loop,
                     struct error *err)
{
    char *const argv[] = { (char *)"lodge", (char *)"displayd", (char *)(uintptr_t)o->tls_creds, NULL };
    struct vnc_hello h;
    struct vnc *v = vnc_new(d, in, loop);
    int pair[2] = { -1, -1 }, listener = -1;

    if (!v) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    memset(&h, 0, sizeof h);
    h.magic = VNC_MAGIC;
    display_size(d, &h.width, &h.height);
    snprintf(h.title, sizeof h.title, "%s", title);
    int r = 0;
    if (o->password)
        r = read_password(o->password, h.password, err);
    if (!r && o->tls_creds && snprintf(h.tls, sizeof h.tls, "%s", o->tls_creds) >= (int)sizeof h.tls)
        r = error_set(err, ENAMETOOLONG, "tls-creds: the path is too long");
    if (!r && (listener = listen_somewhere(v, o, err)) < 0)
        r = listener;
    if (!r && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        r = error_set(err, errno, "cannot make a socket: %s", strerror(errno));
    if (!r) {
        /* read-only: it may look at the picture but not draw */
        const int fds[] = { pair[1], listener, opener_again(display_memfd(d), O_RDONLY) };
        v->sock.fd = pair[0];
        r = fds[2] < 0 ? -errno : child_start(&v->child, argv, fds, 3);
        close(pair[1]);
        if (fds[2] >= 0)
            close(fds[2]);
        if (r)
            error_set(err, -r, "cannot start its process: %s", strerror(-r));
    }
    if (listener >= 0 && v->unix_.fd < 0)
        close(listener);
    if (!r)
        r = agree(v, &h, err);
    if (!r && (r = loop_fd_add(loop, &v->sock)))
        error_set(err, -r, "cannot watch its process: %s", strerror(-r));
    if (!r && child_listen(&v->child, loop, "the screen"))
        log_warn("the screen: what its process says cannot be heard");
    explicit_bzero(&h, sizeof h);
    if (!r)
        return v;
    if (v->sock.fd >= 0)
        close(v->sock.fd);
    v->sock.fd = -1;
    vnc_close(v);
    return NULL;
}

void vnc_close(struct vnc *v)
{
    if (!v)
        return;
    timer_disarm(&v->again);
    if (v->viewers)
        display_look_away(v->display, &v->look);
    if (v->sock.fd >= 0) {
        loop_fd_remove(v->loop, &v->sock);
        close(v->sock.fd); /* this ends the process */
    }
    unix_socket_close(&v->unix_);
    child_end(&v->child);
    free(v);
}
