/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.c - HTTP on the control socket: libmicrohttpd without threads of its own, run when its epoll descriptor or its
 * timer says so.
 */
#include "vm/api.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/unix_socket.h"
#include "vm/api_internal.h"

static const char prefix[] = "/api/v1/";

struct api {
    struct vm *vm;
    struct unix_socket sock;
    struct MHD_Daemon *daemon;
    struct typer *typer;
    struct loop_fd watch;
    struct timer timer;
    bool closing;
    struct api_connection {
        int fd;    /* -1: none */
        u64 since; /* when its request or its answer began; 0: the guest is waited for */
    } connection[API_MAX_CONNECTIONS];
};

static unsigned connections(struct api *a)
{
    return MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/*
 * MHD drops who is silent, and not who sends or takes a byte now and then: they would have all the places.  Nobody is let
 * have one for long while there is none left; those who wait for the guest, as they are to, do not count.  Returns when to
 * look again, if nothing wakes us until then.
 */
static u64 drop_slow(struct api *a)
{
    const u64 now = clock_ns();
    const bool full = connections(a) >= API_MAX_CONNECTIONS;
    const u64 limit = (full ? API_FULL_S : API_REQUEST_S) * 1000000000ull;
    u64 next = UINT64_MAX;

    for (u32 i = 0; i < API_MAX_CONNECTIONS; i++) {
        struct api_connection *c = &a->connection[i];
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
    struct api *a = cls;
    struct api_connection *c = *ctx;

    if (why == MHD_CONNECTION_NOTIFY_CLOSED && c)
        c->fd = -1;
    for (u32 i = 0; why == MHD_CONNECTION_NOTIFY_STARTED && !*ctx && i < API_MAX_CONNECTIONS; i++)
        if (a->connection[i].fd < 0) {
            const int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
            a->connection[i] = (struct api_connection){ fd, clock_ns() };
            *ctx = &a->connection[i];
        }
}

static void set_since(struct MHD_Connection *connection, u64 since)
{
    struct api_connection *c = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (c)
        c->since = since;
}

static void run(struct api *a)
{
    MHD_UNSIGNED_LONG_LONG ms;
    unsigned before;

    drop_slow(a);
    do { /* full, it looks for who knocks only as it begins: once more if there is room now */
        before = connections(a);
        MHD_run(a->daemon);
    } while (connections(a) < before);
    u64 next = drop_slow(a);
    if (MHD_get_timeout(a->daemon, &ms) == MHD_YES)
        next = MIN(next, clock_ns() + ms * 1000000);
    if (next != UINT64_MAX)
        timer_arm(&a->timer, next);
    else
        timer_disarm(&a->timer);
}

static void on_ready(struct loop_fd *w, u32 events) { run(container_of(w, struct api, watch)); }
static void on_timer(struct timer *t) { run(container_of(t, struct api, timer)); }

/* ---- answers ------------------------------------------------------------ */

static void answer(struct api_call *c, unsigned status, const char *type, void *out, size_t size)
{
    c->status = status;
    c->type = type;
    c->out = out;
    c->out_size = size;
    c->answered = true;
    if (!c->suspended)
        return;
    c->suspended = false;
    MHD_resume_connection(c->connection);
    if (!c->api->closing)
        timer_arm(&c->api->timer, clock_ns());
}

void api_done(struct api_call *c, unsigned status) { answer(c, status, NULL, NULL, 0); }

void api_bytes(struct api_call *c, const char *type, void *data, size_t size)
{
    answer(c, MHD_HTTP_OK, type, data, size);
}

/* Jansson goes on without what it had no memory for: a key is missing, a bracket even. Such an answer is none. */
static _Thread_local bool json_short;

static void *json_memory(size_t size)
{
    void *p = malloc(size);
    json_short |= !p;
    return p;
}

static void answer_json(struct api_call *c, unsigned status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    const bool whole = text && !json_short;
    json_decref(value);
    json_short = false;
    if (whole) {
        answer(c, status, "application/json", text, strlen(text));
        return;
    }
    free(text);
    answer(c, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL, NULL, 0);
}

void api_json(struct api_call *c, json_t *value) { answer_json(c, MHD_HTTP_OK, value); }

void api_fail(struct api_call *c, unsigned status, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *array = json_array(), *sentence = json_string(text);
    /* What a request said may be cut within a character. */
    json_array_append_new(array, sentence ? sentence : json_string("the request cannot be met, nor be quoted"));
    answer_json(c, status, array);
}

/* ---- requests ----------------------------------------------------------- */

/* Of a path's %XX. One with a %00 would end there, and be another's name: it is left as it is, which is nobody's. */
static size_t unescape(void *cls, struct MHD_Connection *connection, char *s)
{
    return strstr(s, "%00") ? strlen(s) : MHD_http_unescape(s);
}

static const struct api_route *find(const char *url, const char *method, bool *other_method)
{
    static const struct api_route *const tables[] = { api_vm_routes, api_screen_routes };
    *other_method = false;
    if (strncmp(url, prefix, sizeof prefix - 1))
        return NULL;
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        for (const struct api_route *r = tables[i]; r->method; r++) {
            if (strcmp(r->name, url + sizeof prefix - 1))
                continue;
            if (!strcmp(r->method, method))
                return r;
            *other_method = true;
        }
    return NULL;
}

void api_handle(struct api_call *c, const char *url, const char *method)
{
    bool other_method;
    json_error_t why;

    json_short = false;
    c->route = find(url, method, &other_method);
    if (!c->route) {
        api_fail(c, other_method ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND, "%s %.100s: there is no such call",
                 method, url);
        return;
    }
    if (c->too_long) {
        api_fail(c, MHD_HTTP_CONTENT_TOO_LARGE, "a request has at most %d bytes", API_MAX_BODY);
        return;
    }
    if (c->route->body)
        c->in = json_loadb(c->body ? c->body : "", c->size, JSON_REJECT_DUPLICATES, &why);
    if (c->route->body && !c->in) {
        api_fail(c, MHD_HTTP_BAD_REQUEST, "the request's body is no JSON: %s", why.text);
        return;
    }
    if (c->in && !json_is_object(c->in)) {
        api_fail(c, MHD_HTTP_BAD_REQUEST, "the request's body is to be an object: { ... }");
        return;
    }
    c->route->handle(c);
}

static enum MHD_Result send_answer(struct api_call *c)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(c->out_size, c->out, MHD_RESPMEM_MUST_FREE);
    if (!r)
        return MHD_NO;
    set_since(c->connection, clock_ns());
    c->out = NULL;
    if (c->type)
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, c->type);
    const enum MHD_Result result = MHD_queue_response(c->connection, c->status, r);
    MHD_destroy_response(r);
    return result;
}

static bool append(struct api_call *c, const char *data, size_t n)
{
    if (c->too_long || n > API_MAX_BODY - c->size) {
        c->too_long = true;
        return true;
    }
    char *more = realloc(c->body, c->size + n);
    if (!more)
        return false;
    memcpy(more + c->size, data, n);
    c->body = more;
    c->size += n;
    return true;
}

/* First with the headers, then for each piece of the body, then with none; again when resumed. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **ctx)
{
    struct api *a = cls;
    struct api_call *c = *ctx;

    if (!c) {
        if (!(*ctx = c = calloc(1, sizeof *c)))
            return MHD_NO;
        *c = (struct api_call){ .vm = a->vm, .typer = a->typer, .api = a, .connection = connection };
        return MHD_YES;
    }
    if (*size) {
        const bool ok = append(c, data, *size);
        *size = 0;
        return ok ? MHD_YES : MHD_NO;
    }
    if (!c->answered) {
        api_handle(c, url, method);
        if (!c->answered) {
            c->suspended = true;
            set_since(connection, 0);
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
    }
    return send_answer(c);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **ctx, enum MHD_RequestTerminationCode why)
{
    struct api_call *c = *ctx;
    if (!c)
        return;
    set_since(connection, clock_ns()); /* the next request, on the same connection */
    json_decref(c->in);
    free(c->body);
    free(c->out);
    free(c);
    *ctx = NULL;
}

/* ---- beginning and end -------------------------------------------------- */

struct api *api_open(struct vm *v, const char *path, struct error *err)
{
    struct api *a = calloc(1, sizeof *a);
    int r = a ? 0 : error_set(err, ENOMEM, "out of memory");

    if (!a)
        return NULL;
    json_set_alloc_funcs(json_memory, free);
    a->vm = v;
    a->watch.fd = -1;
    for (u32 i = 0; i < API_MAX_CONNECTIONS; i++)
        a->connection[i].fd = -1;
    if (v->input && !(a->typer = typer_new(v->loop, v->input, api_bios_keys, v)))
        r = error_set(err, ENOMEM, "out of memory");
    timer_init(&a->timer, v->loop, on_timer);
    a->sock.fd = -1;
    if (!r)
        r = unix_socket_listen(&a->sock, OPENER_API, "api_socket: ", path, err);
    if (!r) {
        a->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, a,
                                     MHD_OPTION_LISTEN_SOCKET, a->sock.fd,
                                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)API_MAX_CONNECTIONS,
                                     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)API_TIMEOUT_S,
                                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768,
                                     MHD_OPTION_UNESCAPE_CALLBACK, unescape, a,
                                     MHD_OPTION_NOTIFY_COMPLETED, on_completed, a,
                                     MHD_OPTION_NOTIFY_CONNECTION, on_connection, a, MHD_OPTION_END);
        const union MHD_DaemonInfo *info = a->daemon ? MHD_get_daemon_info(a->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
        if (!info)
            r = error_set(err, EIO, "api_socket: %s: the HTTP server does not start", path);
        else {
            a->watch = (struct loop_fd){ info->epoll_fd, EPOLLIN, on_ready };
            if ((r = loop_fd_add(v->loop, &a->watch))) {
                a->watch.fd = -1;
                error_set(err, -r, "api_socket: %s: %s", path, strerror(-r));
            }
        }
    }
    if (!r)
        return a;
    api_close(a);
    return NULL;
}

void api_close(struct api *a)
{
    if (!a)
        return;
    a->closing = true;
    timer_disarm(&a->timer);
    if (a->watch.fd >= 0)
        loop_fd_remove(a->vm->loop, &a->watch);
    api_screen_close(a->vm);
    api_media_close(a->vm);
    typer_free(a->typer);
    if (a->daemon) {
        MHD_run(a->daemon); /* last answers */
        const int fd = MHD_quiesce_daemon(a->daemon); /* or it would close the socket that is ours */
        (void)fd;
        MHD_stop_daemon(a->daemon);
    }
    unix_socket_close(&a->sock);
    free(a);
}
