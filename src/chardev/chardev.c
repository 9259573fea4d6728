/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev.c - the four kinds: stdio, null, file, unix.
 *
 * All state here belongs to the loop thread, except `starved`. output.c does the output.
 */
#include "chardev/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/listener.h"
#include "base/log.h"
#include "base/patience.h"
#include "base/unix_socket.h"
#include "chardev/output.h"
#include "chardev/terminal.h"

enum { INPUT = 4096, ESCAPE = 0x1d /* Ctrl-] */ };

enum kind { KIND_STDIO, KIND_NULL, KIND_FILE, KIND_UNIX };

struct chardev {
    enum kind kind;
    const char *path;
    char name[128]; /* for messages */
    struct loop *loop;
    struct output *out; /* NULL for null */
    const struct chardev_user *user;
    void *dev;
    void (*quit)(void *ctx);
    void *quit_ctx;

    struct loop_fd input; /* stdin or the client; fd -1: none */
    struct listener listen;
    int own_fd; /* the file; or -1 */
    struct unix_socket sock;
    bool tty, escape, watched, half_closed;

    u8 pending[INPUT]; /* input that the device has not taken */
    size_t npending;
    bool starved; /* atomic: the device refused input, so chardev_resume has to post a call */
};

static bool parse(const char *spec, enum kind *kind, const char **path)
{
    *path = NULL;
    if (!strcmp(spec, "stdio"))
        *kind = KIND_STDIO;
    else if (!strcmp(spec, "null"))
        *kind = KIND_NULL;
    else if (!strncmp(spec, "file:", 5) && spec[5])
        *kind = KIND_FILE, *path = spec + 5;
    else if (!strncmp(spec, "unix:", 5) && spec[5])
        *kind = KIND_UNIX, *path = spec + 5;
    else
        return false;
    return true;
}

bool chardev_spec_valid(const char *spec)
{
    enum kind kind;
    const char *path;

    return parse(spec, &kind, &path);
}

/* ---- input ---- */

/*
 * Reads on only while there is room, except from a terminal (see take). Standard input is then not watched at all,
 * because the end of a pipe (EPOLLHUP) cannot be masked and would keep the loop busy. A client is then watched only for
 * its end, so that the next one can come.
 */
static void watch_input(struct chardev *c)
{
    bool reader = c->tty ? c->user || c->quit : c->user && c->npending < INPUT / 2;
    u32 want = reader && !c->half_closed ? EPOLLIN : 0;
    bool watch = want || c->kind == KIND_UNIX;
    int r = 0;

    if (c->input.fd < 0)
        return;
    if (!watch && c->watched)
        loop_fd_remove(c->loop, &c->input);
    else if (watch && !c->watched) {
        c->input.events = want;
        r = loop_fd_add(c->loop, &c->input);
    } else if (watch && want != c->input.events)
        r = loop_fd_set(c->loop, &c->input, want);
    c->watched = watch && !r;
    if (r && r != -EBADF) /* without any standard input there is no input */
        log_warn("%s: cannot watch its input: %s", c->name, strerror(-r));
}

/* Offers the device the input that waits. */
static void deliver(struct chardev *c)
{
    if (c->npending && c->user) {
        /* The flag is set before we ask. Otherwise room that appears between the refusal and the flag would be
           missed. */
        __atomic_store_n(&c->starved, true, __ATOMIC_SEQ_CST);
        size_t n = c->user->receive(c->dev, c->pending, c->npending);
        n = MIN(n, c->npending);
        memmove(c->pending, c->pending + n, c->npending - n);
        c->npending -= n;
        if (!c->npending)
            __atomic_store_n(&c->starved, false, __ATOMIC_SEQ_CST);
    }
    watch_input(c);
}

static void deliver_posted(void *arg)
{
    deliver(arg);
}

void chardev_resume(struct chardev *c)
{
    if (!__atomic_exchange_n(&c->starved, false, __ATOMIC_SEQ_CST))
        return;
    if (loop_post(c->loop, deliver_posted, c))
        __atomic_store_n(&c->starved, true, __ATOMIC_SEQ_CST); /* no memory: the next resume tries again */
}

static void tell(struct chardev *c, const char *text)
{
    output_write(c->out, (const u8 *)text, strlen(text));
}

static void escape_key(struct chardev *c, u8 key)
{
    switch (key) {
    case 'q':
        tell(c, "\r\n");
        if (c->quit)
            c->quit(c->quit_ctx);
        break;
    case '?':
    case 'h':
        tell(c, "\r\nlodge: Ctrl-] q      end the virtual machine at once"
                "\r\n       Ctrl-] Ctrl-] send one Ctrl-] to the guest"
                "\r\n       Ctrl-] ?      this help\r\n");
        break;
    case ESCAPE:
        if (c->npending < INPUT)
            c->pending[c->npending++] = ESCAPE;
        break;
    default:
        break; /* any other key ends the sequence and is lost, as in telnet */
    }
}

/* A terminal is read even if the guest takes nothing. Otherwise Ctrl-] would not work when the guest hangs. If the
   guest does not take 4 KiB of typing, further keys are lost. Pipes and sockets wait and lose nothing. */
static void take(struct chardev *c, const u8 *buf, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (c->tty && c->escape) {
            c->escape = false;
            escape_key(c, buf[i]);
        } else if (c->tty && buf[i] == ESCAPE) {
            c->escape = true;
        } else if (c->npending < INPUT) {
            c->pending[c->npending++] = buf[i];
        }
    }
}

static void input_ended(struct chardev *c);

static void read_input(struct loop_fd *w, u32 events)
{
    struct chardev *c = container_of(w, struct chardev, input);
    u8 buf[INPUT];

    if (!(events & EPOLLIN) && (events & (EPOLLHUP | EPOLLERR)) && c->kind == KIND_UNIX) {
        input_ended(c);
        return;
    }
    ssize_t n = read(w->fd, buf, c->tty ? INPUT : INPUT - c->npending);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n == 0 && c->kind == KIND_UNIX && !(events & EPOLLHUP)) {
        c->half_closed = true; /* the client may still be reading: "echo command | nc -U socket" */
        watch_input(c);
        return;
    }
    if (n <= 0) {
        input_ended(c);
        return;
    }
    take(c, buf, (size_t)n);
    deliver(c);
}

/* ---- unix ---- */

static void accept_client(struct loop_fd *w, u32 events)
{
    struct chardev *c = container_of(w, struct chardev, listen.watch);
    int fd = listener_accept(&c->listen, 0);

    (void)events;
    if (fd < 0)
        return;
    if (listener_pause(&c->listen)) {
        close(fd);
        return;
    }
    c->input = (struct loop_fd){ fd, 0, read_input };
    c->half_closed = false;
    output_set_fd(c->out, fd);
    watch_input(c);
}

static void input_ended(struct chardev *c)
{
    int fd = c->input.fd;

    if (c->watched)
        loop_fd_remove(c->loop, &c->input);
    c->watched = false;
    c->input.fd = -1;
    if (c->kind != KIND_UNIX)
        return;
    /* The client has left. The next one may come; perhaps it already waits. */
    output_set_fd(c->out, -1);
    close(fd);
    if (listener_resume(&c->listen))
        log_warn("%s: cannot watch for the next client", c->name);
}

static int open_unix(struct chardev *c, struct error *err)
{
    int r = unix_socket_listen(&c->sock, OPENER_CHARDEV, "unix:", c->path, err);

    if (!r && (r = listener_add(&c->listen, c->loop, c->sock.fd, accept_client)))
        error_set(err, -r, "unix:%s: %s", c->path, strerror(-r));
    return r;
}

/* ---- open and close ---- */

static void room_again(void *ctx)
{
    struct chardev *c = ctx;

    if (c->user && c->user->writable)
        c->user->writable(c->dev);
}

static int open_kind(struct chardev *c, struct error *err)
{
    if (c->kind == KIND_NULL)
        return 0;
    c->out = output_new(c->loop, room_again, c, c->kind == KIND_UNIX ? NULL : c->name);
    if (!c->out)
        return error_set(err, errno ? errno : ENOMEM, "cannot start a thread for %s", c->name);
    switch (c->kind) {
    case KIND_FILE:
        c->own_fd = patience_open(OPENER_CHARDEV, c->path, O_WRONLY | O_CREAT | O_TRUNC, 0666, "file:", err);
        if (c->own_fd < 0)
            return c->own_fd;
        output_set_fd(c->out, c->own_fd);
        return 0;
    case KIND_UNIX:
        return open_unix(c, err);
    default:
        output_set_fd(c->out, STDOUT_FILENO);
        c->tty = terminal_typed_at();
        c->input = (struct loop_fd){ STDIN_FILENO, 0, read_input };
        return 0; /* it is read when a device is there, or when the escape key can be used */
    }
}

struct chardev *chardev_open(const char *spec, struct loop *loop, struct error *err)
{
    struct chardev *c = calloc(1, sizeof(*c));

    if (!c) {
        error_set(err, ENOMEM, "no memory");
        errno = ENOMEM;
        return NULL;
    }
    c->loop = loop;
    c->own_fd = c->input.fd = c->listen.watch.fd = c->sock.fd = -1;
    if (!parse(spec, &c->kind, &c->path)) {
        error_set(err, EINVAL, "\"%s\" is none of stdio, null, file:PATH, unix:PATH", spec);
        free(c);
        errno = EINVAL;
        return NULL;
    }
    snprintf(c->name, sizeof(c->name), "%s", c->kind == KIND_STDIO ? "standard output" : spec);
    int r = open_kind(c, err);
    if (r) {
        chardev_close(c);
        errno = -r;
        return NULL;
    }
    return c;
}

void chardev_on_quit(struct chardev *c, void (*quit)(void *ctx), void *ctx)
{
    c->quit = quit;
    c->quit_ctx = ctx;
    watch_input(c);
}

void chardev_attach(struct chardev *c, const struct chardev_user *user, void *dev)
{
    c->user = user;
    c->dev = dev;
    deliver(c);
}

size_t chardev_write(struct chardev *c, const u8 *buf, size_t len)
{
    return c->out ? output_write(c->out, buf, len) : len;
}

void chardev_close(struct chardev *c)
{
    if (!c)
        return;
    output_close(c->out);
    if (c->watched)
        loop_fd_remove(c->loop, &c->input);
    if (c->input.fd >= 0 && c->kind == KIND_UNIX)
        close(c->input.fd);
    if (c->listen.watch.fd >= 0)
        listener_remove(&c->listen);
    if (c->own_fd >= 0)
        close(c->own_fd);
    unix_socket_close(&c->sock);
    free(c);
}
