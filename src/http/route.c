/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - finds the handler in the tables for a method, a path and a body. */
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

static bool is_argument(const char *segment) { return *segment == '{'; }

/* Does the pattern fit? A {name} matches one segment, which must not be empty. */
static bool fits(const char *pattern, const char *path)
{
    for (;;) {
        const size_t n = strcspn(pattern, "/"), m = strcspn(path, "/");
        if (is_argument(pattern) ? !m : n != m || memcmp(pattern, path, n))
            return false;
        if (pattern[n] != path[m])
            return false;
        if (!pattern[n])
            return true;
        pattern += n + 1;
        path += m + 1;
    }
}

/* Copies the parts of the path that the {name}s stand for. false: no memory. */
static bool take_arguments(struct call *c, const char *path)
{
    const char *pattern = c->route->path;

    for (u32 i = 0; i < HTTP_MAX_ARGUMENTS;) {
        const size_t n = strcspn(pattern, "/"), m = strcspn(path, "/");
        if (is_argument(pattern) && !(c->argument[i++] = strndup(path, m)))
            return false;
        if (!pattern[n])
            break;
        pattern += n + 1;
        path += m + 1;
    }
    return true;
}

const char *http_argument(const struct http_call *public, const char *name)
{
    const struct call *c = container_of(public, const struct call, public);
    const size_t size = strlen(name);
    u32 i = 0;

    for (const char *p = c->route->path; i < HTTP_MAX_ARGUMENTS; p++) {
        const size_t n = strcspn(p, "/");
        if (is_argument(p) && n == size + 2 && !memcmp(p + 1, name, size))
            return c->argument[i];
        i += is_argument(p);
        p += n;
        if (!*p)
            break;
    }
    return NULL;
}

/* true: there is a route. c->route and c->public are then filled in, and *path is the part after the prefix. */
static bool find(struct call *c, const struct http_routes *routes, const char **path, bool *other_method)
{
    *other_method = false;
    for (const struct http_routes *t = routes; t->table; t++) {
        const size_t n = strlen(t->prefix);
        if (strncmp(*path, t->prefix, n))
            continue;
        for (const struct http_route *r = t->table; r->method; r++) {
            if (!fits(r->path, *path + n))
                continue;
            if (!strcmp(r->method, c->public.method)) {
                c->route = r;
                c->public.user = t->user;
                *path += n;
                return true;
            }
            *other_method = true;
        }
    }
    return false;
}

void call_dispatch(struct call *c, const struct http_routes *routes, size_t max_body, const char *method, const char *path)
{
    struct http_call *const p = &c->public;
    const char *rest = path;
    bool other_method;
    json_error_t why;

    json_memory_forget();
    p->method = method;
    p->path = path;
    p->body = c->body;
    if (!find(c, routes, &rest, &other_method)) {
        http_fail(p, other_method ? HTTP_METHOD_NOT_ALLOWED : HTTP_NOT_FOUND, "%s %.100s: there is no such call", method,
                  path);
        return;
    }
    if (c->too_long) {
        http_fail(p, HTTP_TOO_LARGE, "a request has at most %zu bytes", max_body);
        return;
    }
    const bool json = c->route->body == HTTP_JSON;
    if (json)
        p->in = json_loadb(c->body ? c->body : "", p->size, JSON_REJECT_DUPLICATES, &why);
    if (json && !p->in) {
        http_fail(p, HTTP_BAD_REQUEST, "the request's body is no JSON: %s", why.text);
        return;
    }
    if (p->in && !json_is_object(p->in)) {
        http_fail(p, HTTP_BAD_REQUEST, "the request's body is to be an object: { ... }");
        return;
    }
    if (!take_arguments(c, rest)) {
        http_fail(p, HTTP_INTERNAL_ERROR, "out of memory");
        return;
    }
    c->route->handle(p);
}

void call_clear(struct call *c)
{
    json_decref(c->public.in);
    for (u32 i = 0; i < HTTP_MAX_ARGUMENTS; i++)
        free(c->argument[i]);
    free(c->body);
    free(c->out);
}
