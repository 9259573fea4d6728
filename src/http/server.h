/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h - an HTTP server on a unix socket, on the thread of an I/O loop (libmicrohttpd without threads of its own).
 *
 * Whoever opens it says which paths there are, in tables of routes.  A handler gets a request, a struct http_call, and
 * ends it with one of http_done, http_json, http_bytes, http_fail and http_fail_errno: at once, or later, from the loop's
 * thread.  A call that is not answered yet stays although its client is gone, so that whoever holds it need not know.
 *
 * A failure is a JSON array with one sentence.  A handler's -errno becomes a status in http_status (status.h); the
 * server's own are 404 and 405 for a path or method that is in no table, 413 for a body that is too long, 400 for one that
 * is not the JSON object that the route wants, 500 without memory, and 503 for a request that comes while it closes.
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
    void *user;                /* that of the table with its route */
    const char *method, *path; /* path: without the query, %XX replaced */
    json_t *in;                /* HTTP_JSON: the body, an object; else NULL */
    const char *body;          /* as it came; NULL: none */
    size_t size;
};

/* The value of `name` in ?name=value, or NULL; "" for ?name. %XX is replaced. */
const char *http_query(const struct http_call *c, const char *name);
/* What the path has at the route's {name}, never empty: "a" for "vms/{name}/info" and .../vms/a/info. It comes from a
   stranger: it has no slash, and may be no UTF-8. NULL: the route has no such. */
const char *http_argument(const struct http_call *c, const char *name);

void http_done(struct http_call *c, unsigned status);                             /* no body */
void http_json(struct http_call *c, json_t *value);                               /* 200; takes the reference. NULL: 500 */
void http_bytes(struct http_call *c, const char *type, void *data, size_t size);  /* 200; data becomes its own (free) */
/* A sentence; from code that has a status in its specification, and from code that has an -errno. */
void http_fail(struct http_call *c, unsigned status, const char *fmt, ...) printf_like(3, 4);
void http_fail_errno(struct http_call *c, int r, const char *fmt, ...) printf_like(3, 4);

enum http_body {
    HTTP_NO_BODY, /* one that comes is ignored */
    HTTP_JSON,    /* an object, with no key twice */
    HTTP_RAW,
};

struct http_route {
    const char *method, *path; /* what follows the table's prefix: "vm.info", "vms/{name}/info" */
    enum http_body body;
    void (*handle)(struct http_call *c);
};
enum { HTTP_MAX_ARGUMENTS = 4 /* {name}s of a path */ };

struct http_routes {
    const char *prefix;             /* "/api/v1/" */
    const struct http_route *table; /* ends with a NULL method; the first that fits is taken */
    void *user;
};

struct http_limits {
    size_t body;     /* bytes of a request's; the heads have 32 KiB */
    u32 connections; /* others wait in the socket's queue */
    u32 silence_s;   /* a client that says nothing for so long is dropped */
    u32 request_s;   /* and one that takes longer for a request, or for taking its answer, */
    u32 full_s;      /* or, when others wait for a place, for so long. Waiting for an answer does not count. */
};
/* What control sockets have. */
enum { HTTP_MAX_BODY = 65536, HTTP_MAX_CONNECTIONS = 32, HTTP_SILENCE_S = 30, HTTP_REQUEST_S = 60, HTTP_FULL_S = 2 };

struct http_server;

/*
 * what: for err, before the path: "api_socket: ".  routes: ends with a NULL table, and outlives the server, as the tables
 * do.  limits: NULL for those above.  Only this user can open the socket.  NULL with err set.
 */
struct http_server *http_server_open(struct loop *l, const char *what, const char *path, const struct http_routes *routes,
                                     const struct http_limits *limits, struct error *err);
/* While the loop does not run, and when every call that waited has been answered.  Answers that were begun are sent as far
   as the sockets take them; whoever asks now is refused, and no handler is called.  May be NULL. */
void http_server_close(struct http_server *s);

#endif
