/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - shared by server.c, which has the connections, route.c, which finds the handler, and answer.c. */
#ifndef LODGE_HTTP_INTERNAL_H
#define LODGE_HTTP_INTERNAL_H

#include "http/server.h"

struct MHD_Connection;

struct call {
    struct http_call public;
    struct http_server *server; /* NULL in tests, which have a request but no connection */
    struct MHD_Connection *connection;
    const struct http_route *route;
    char *body;
    char *argument[HTTP_MAX_ARGUMENTS];
    bool too_long, suspended, answered;
    unsigned status; /* the answer */
    const char *type;
    void *out;
    size_t out_size;
};

/* route.c: finds the route, checks the body and calls the handler. path: without the query, %XX replaced. */
void call_dispatch(struct call *c, const struct http_routes *routes, size_t max_body, const char *method, const char *path);
/* Frees what the call holds. */
void call_clear(struct call *c);

/* answer.c: forgets that Jansson had no memory for something until now, since that belongs to no answer. */
void json_memory_forget(void);
void *json_memory(size_t size); /* for json_set_alloc_funcs */

/* server.c: called when the answer is ready. */
void call_answered(struct call *c);

#endif
