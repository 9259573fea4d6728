/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - an HTTP server on a unix socket, on the thread of an I/O loop (libmicrohttpd without threads of its own).
 *
 * The caller that opens it gives the paths in tables of routes. A handler gets a request, a struct http_call. It ends
 * the call with one of http_done, http_json, http_bytes, http_fail and http_fail_errno. It does so at once, or later
 * from the loop's thread. A call that is not answered yet stays even if its client is gone, so the code that holds the
 * call need not know.
 *
 * A failure is a JSON array with one sentence. http_status (status.h) turns a handler's -errno into a status. The
 * server itself answers 404 and 405 for a path or method that is in no table, 413 for a body that is too long, 400 for
 * a body that is not the JSON object that the route requires, 500 if there is no memory, and 503 for a request that
 * comes while the server closes.
 *
 * Everything here is for the loop's thread, or before and after the loop runs.
 */
#ifndef LODGE_HTTP_SERVER_H
#define LODGE_HTTP_SERVER_H

#include <jansson.h>

#include "base/error.h"
#include "base/loop.h"
#include "http/status.h"

/* One request, until it is answered. */
struct http_call {
    void *user;                /* the user of the table that has its route */
    const char *method, *path; /* path: without the query, %XX replaced */
    json_t *in;                /* HTTP_JSON: the body, which is an object; else NULL */
    const char *body;          /* as it came; NULL: none */
    size_t size;
};

/* The value of `name` in ?name=value, or NULL; "" for ?name. %XX is replaced. */
const char *http_query(const struct http_call *c, const char *name);
/* The part of the path at the route's {name}, never empty: "a" for "vms/{name}/info" and .../vms/a/info. It comes
   from a stranger: it has no slash, and it is not always valid UTF-8. NULL: the route has no such name. */
const char *http_argument(const struct http_call *c, const char *name);

void http_done(struct http_call *c, unsigned status);                             /* no body */
/* 200; takes the reference. value NULL: 500 */
void http_json(struct http_call *c, json_t *value);
/* 200; the server takes over data and frees it */
void http_bytes(struct http_call *c, const char *type, void *data, size_t size);
/* They answer with a sentence: http_fail for code whose specification gives a status, http_fail_errno for code that
   has an -errno. */
void http_fail(struct http_call *c, unsigned status, const char *fmt, ...) printf_like(3, 4);
void http_fail_errno(struct http_call *c, int r, const char *fmt, ...) printf_like(3, 4);

enum http_body {
    HTTP_NO_BODY, /* a body that comes is ignored */
    HTTP_JSON,    /* an object that has no key twice */
    HTTP_RAW,
};

struct http_route {
    const char *method, *path; /* path: the part after the table's prefix: "vm.info", "vms/{name}/info" */
    enum http_body body;
    void (*handle)(struct http_call *c);
};
enum { HTTP_MAX_ARGUMENTS = 4 /* the most {name}s of a path */ };

struct http_routes {
    const char *prefix;             /* "/api/v1/" */
    const struct http_route *table; /* ends with a NULL method; the first route that fits is taken */
    void *user;
};

struct http_limits {
    size_t body;     /* most bytes of a request's body; the heads have 32 KiB */
    u32 connections; /* further clients wait in the socket's queue */
    u32 silence_s;   /* a client that sends nothing for this time is dropped */
    u32 request_s;   /* a client that needs longer for a request, or for taking its answer, is dropped */
    u32 full_s;      /* the same limit while others wait for a place. Waiting for an answer does not count. */
};
/* The limits of control sockets. */
enum { HTTP_MAX_BODY = 65536, HTTP_MAX_CONNECTIONS = 32, HTTP_SILENCE_S = 30, HTTP_REQUEST_S = 60, HTTP_FULL_S = 2 };

struct http_server;

/*
 * what: the text before the path in err: "api_socket: ". routes: ends with a NULL table; routes and the tables must
 * outlive the server. limits: NULL for the limits above. Only this user can open the socket. NULL with err set.
 */
struct http_server *http_server_open(struct loop *l, const char *what, const char *path, const struct http_routes *routes,
                                     const struct http_limits *limits, struct error *err);
/* Call it while the loop does not run, and when every call that waited has been answered. Answers that were begun
   are sent as far as the sockets take them. A request that comes now is refused, and no handler is called. s may be
   NULL. */
void http_server_close(struct http_server *s);

#endif
