/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - the connections: libmicrohttpd without threads of its own. It runs when its epoll descriptor or its timer
 * says so. This file also keeps the connections within the limits.
 */
#include "http/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/pass.h"
#include "base/unix_socket.h"
#include "http/internal.h"

enum { HEAD_MEMORY = 32768 }; /* memory of a connection for the line and head of its request and the head of its
                                 answer */

static const struct http_limits usual = { HTTP_MAX_BODY, HTTP_MAX_CONNECTIONS, HTTP_SILENCE_S, HTTP_REQUEST_S, HTTP_FULL_S };

struct http_server {
    struct loop *loop;
    const struct http_routes *routes;
    struct http_limits limits;
    struct unix_socket sock;
    struct MHD_Daemon *daemon;
    struct loop_fd watch;
    struct loop_fd door; /* the connections come by it, made by another process; fd -1: none */
    struct timer timer;
    bool closing;
    struct connection {
        int fd;    /* -1: none */
        u64 since; /* when its request or its answer began; 0: it waits for the handler */
    } connection[]; /* limits.connections */
};

static unsigned connections(struct http_server *s)
{
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/*
 * MHD drops a client that is silent, but not one that sends or takes a byte now and then. Such clients could take all
 * the places. So no client may keep a place for long while none is left. A client that waits for a handler does as it
 * should and does not count. Returns the time to look again, if nothing wakes us before.
 */
static u64 drop_slow(struct http_server *s)
{
    const u64 now = clock_ns();
    const bool full = connections(s) >= s->limits.connections;
    const u64 limit = (full ? s->limits.full_s : s->limits.request_s) * 1000000000ull;
    u64 next = UINT64_MAX;

    for (u32 i = 0; i < s->limits.connections; i++) {
        struct connection *c = &s->connection[i];
        if (c->fd < 0 || !c->since)
            continue;
        if (now - c->since >= limit)
            shutdown(c->fd, SHUT_RDWR);
        else if (full)
            next = MIN(next, c->since + limit);
    }
    return next;
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **ctx, enum MHD_ConnectionNotificationCode why)
{
    struct http_server *s = cls;
    struct connection *c = *ctx;

    if (why == MHD_CONNECTION_NOTIFY_CLOSED && c)
        c->fd = -1;
    for (u32 i = 0; why == MHD_CONNECTION_NOTIFY_STARTED && !*ctx && i < s->limits.connections; i++)
        if (s->connection[i].fd < 0) {
            const int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
            s->connection[i] = (struct connection){ fd, clock_ns() };
            *ctx = &s->connection[i];
        }
}

static void set_since(struct MHD_Connection *connection, u64 since)
{
    struct connection *c = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (c)
        c->since = since;
}

/* The process that accepts the connections looks at each one's first request, so one is all that a connection has. */
static bool one_request_each(const struct http_server *s)
{
    return s->door.fd >= 0;
}

/* Takes in those who wait at the door, as long as there is room. Others wait there. */
static void admit(struct http_server *s)
{
    char c;
    int fd;
    u32 n;

    while (connections(s) < s->limits.connections && pass_receive_some(s->door.fd, &c, 1, &fd, 1, &n, MSG_DONTWAIT) > 0)
        if (n) /* MHD closes it if it does not take it */
            (void)MHD_add_connection(s->daemon, fd, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX }, sizeof(sa_family_t));
    const bool full = connections(s) >= s->limits.connections;
    if (loop_fd_set(s->loop, &s->door, full ? 0 : EPOLLIN)) /* it cannot fail for one that is there */
        return;
}

static void run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms;
    unsigned before;

    drop_slow(s);
    do { /* while it is full, it looks for new clients only at its beginning: run it once more if there is room now */
        if (one_request_each(s))
            admit(s);
        before = connections(s);
        MHD_run(s->daemon);
    } while (connections(s) < before);
    u64 next = drop_slow(s);
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        next = MIN(next, clock_ns() + ms * 1000000);
    if (next != UINT64_MAX)
        timer_arm(&s->timer, next);
    else
        timer_disarm(&s->timer);
}

static void on_ready(struct loop_fd *w, u32 events) { run(container_of(w, struct http_server, watch)); }
static void on_door(struct loop_fd *w, u32 events) { run(container_of(w, struct http_server, door)); }
static void on_timer(struct timer *t) { run(container_of(t, struct http_server, timer)); }

/* ---- requests ----------------------------------------------------------- */

/* Replaces the %XX of a path. A path with a %00 would end there and be the name of something else. Such a path is
   left as it is, and nothing has that name. */
static size_t unescape(void *cls, struct MHD_Connection *connection, char *s)
{
    return strstr(s, "%00") ? strlen(s) : MHD_http_unescape(s);
}

static enum MHD_Result send_answer(struct call *c)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(c->out_size, c->out, MHD_RESPMEM_MUST_FREE);
    if (!r)
        return MHD_NO;
    set_since(c->connection, clock_ns());
    c->out = NULL;
    if (c->type)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, c->type);
    if (one_request_each(c->server))
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
    const enum MHD_Result result = MHD_queue_response(c->connection, c->status, r);
    MHD_destroy_response(r);
    return result;
}

static bool append(struct call *c, const char *data, size_t n)
{
    if (c->too_long || n > c->server->limits.body - c->public.size) {
        c->too_long = true;
        return true;
    }
    char *more = realloc(c->body, c->public.size + n);
    if (!more)
        return false;
    memcpy(more + c->public.size, data, n);
    c->body = more;
    c->public.size += n;
    return true;
}

/* It is called first with the headers, then for each piece of the body, then with none. After a resume it is called
   again. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **ctx)
{
    struct http_server *s = cls;
    struct call *c = *ctx;

    if (!c) {
        if (!(*ctx = c = calloc(1, sizeof *c)))
            return MHD_NO;
        c->server = s;
        c->connection = connection;
        return MHD_YES;
    }
    if (*size) {
        const bool ok = append(c, data, *size);
        *size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (!c->answered && s->closing)
        http_fail(&c->public, HTTP_UNAVAILABLE, "the request comes too late: it is ending");
    if (!c->answered) {
        call_dispatch(c, s->routes, s->limits.body, method, url);
        if (!c->answered) {
            c->suspended = true;
            set_since(connection, 0);
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
    }
    return send_answer(c);
}

void call_answered(struct call *c)
{
    c->suspended = false;
    MHD_resume_connection(c->connection);
    timer_arm(&c->server->timer, clock_ns());
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **ctx, enum MHD_RequestTerminationCode why)
{
    struct call *c = *ctx;
    if (!c)
        return;
    set_since(connection, clock_ns()); /* for the next request on the same connection */
    call_clear(c);
    free(c);
    *ctx = NULL;
}

const char *http_query(const struct http_call *public, const char *name)
{
    const struct call *c = container_of(public, const struct call, public);
    const char *value;
    size_t size;

    if (!c->connection || MHD_lookup_connection_value_n(c->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value,
                                                        &size) != MHD_YES)
        return NULL;
    return value ? value : "";
}

/* ---- beginning and end -------------------------------------------------- */

static int start(struct http_server *s, const char *what, const char *path, struct error *err)
{
    int r = unix_socket_listen(&s->sock, OPENER_API, what, path, err);

    if (r)
        return r;
    /* Another process that opens for us may give us, instead of the socket, one by which its connections come. */
    int type = SOCK_STREAM;
    socklen_t size = sizeof type;
    getsockopt(s->sock.fd, SOL_SOCKET, SO_TYPE, &type, &size);
    const bool door = type == SOCK_SEQPACKET;
    const struct MHD_OptionItem listens[] = {
        { door ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, s->sock.fd, NULL }, { MHD_OPTION_END, 0, NULL },
    };
    s->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (door ? MHD_USE_NO_LISTEN_SOCKET : 0), 0, NULL, NULL,
                                 on_request, s, MHD_OPTION_ARRAY, listens,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->limits.connections,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)s->limits.silence_s,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_MEMORY,
                                 MHD_OPTION_UNESCAPE_CALLBACK, unescape, s,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, s,
                                 MHD_OPTION_NOTIFY_CONNECTION, on_connection, s, MHD_OPTION_END);
    const union MHD_DaemonInfo *info = s->daemon ? MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (!info)
        return error_set(err, EIO, "%s%s: the HTTP server does not start", what, path);
    s->watch = (struct loop_fd){ info->epoll_fd, EPOLLIN, on_ready };
    if ((r = loop_fd_add(s->loop, &s->watch)))
        s->watch.fd = -1;
    s->door = (struct loop_fd){ door ? s->sock.fd : -1, EPOLLIN, on_door };
    if (door && !r && (r = loop_fd_add(s->loop, &s->door)))
        s->door.fd = -1;
    if (r) {
        error_set(err, -r, "%s%s: %s", what, path, strerror(-r));
    }
    return r;
}

struct http_server *http_server_open(struct loop *l, const char *what, const char *path, const struct http_routes *routes,
                                     const struct http_limits *limits, struct error *err)
{
    const struct http_limits *k = limits ? limits : &usual;
    struct http_server *s = calloc(1, sizeof *s + k->connections * sizeof s->connection[0]);

    if (!s) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    json_set_alloc_funcs(json_memory, free);
    s->loop = l;
    s->routes = routes;
    s->limits = *k;
    s->watch.fd = s->door.fd = s->sock.fd = -1;
    for (u32 i = 0; i < k->connections; i++)
        s->connection[i].fd = -1;
    timer_init(&s->timer, l, on_timer);
    if (!start(s, what, path, err))
        return s;
    http_server_close(s);
    return NULL;
}

void http_server_close(struct http_server *s)
{
    if (!s)
        return;
    s->closing = true;
    timer_disarm(&s->timer);
    if (s->watch.fd >= 0)
        loop_fd_remove(s->loop, &s->watch);
    if (s->door.fd >= 0)
        loop_fd_remove(s->loop, &s->door);
    s->door.fd = -1;
    if (s->daemon) {
        MHD_run(s->daemon); /* sends the last answers */
        const int fd = MHD_quiesce_daemon(s->daemon); /* otherwise MHD would close our socket */
        (void)fd; /* none, if it has none */
        MHD_stop_daemon(s->daemon);
    }
    unix_socket_close(&s->sock);
    free(s);
}
