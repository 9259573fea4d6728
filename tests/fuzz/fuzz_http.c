/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http.c - what of HTTP is read by ourselves: an answer, the first byte odd; else paths and bodies on their way to a
 * handler.  The requests' own bytes are libmicrohttpd's.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "http/client.h"
#include "http/internal.h"

/* An argument is never empty and has no slash. */
static void check(const char *argument)
{
    if (argument && (!*argument || strchr(argument, '/')))
        abort();
}

static void handle(struct http_call *c)
{
    check(http_argument(c, "a"));
    check(http_argument(c, "b"));
    if (http_argument(c, "c") || http_query(c, "q"))
        abort();
    http_json(c, json_pack("{s:s*, s:s*, s:O*}", "a", http_argument(c, "a"), "b", http_argument(c, "b"), "in", c->in));
}

static const struct http_route table[] = {
    { "GET", "x", HTTP_JSON, handle },
    { "GET", "x/{a}", HTTP_RAW, handle },
    { "PUT", "x/{a}/y/{b}", HTTP_JSON, handle },
    { "GET", "{a}/{b}", HTTP_NO_BODY, handle },
    { NULL, NULL, HTTP_NO_BODY, NULL },
};

static void answer(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    struct http_answer a;

    memcpy(text, data, size);
    text[size] = 0;
    if (!http_parse_answer(text, size, &a) && (a.body != text || a.size > size || a.body[a.size] || a.status < 100))
        abort();
    free(text);
}

/* A path up to its 0, then a body. */
static void request(const uint8_t *data, size_t size)
{
    const struct http_routes routes[] = { { "/", table, NULL }, { NULL } };
    const size_t n = strnlen((const char *)data + 1, size - 1);
    char *path = strndup((const char *)data + 1, n);
    struct call c = { 0 };

    if (n + 1 < size && (c.body = malloc(size - n))) {
        c.public.size = size - n - 2;
        memcpy(c.body, data + n + 2, c.public.size);
    }
    call_dispatch(&c, routes, HTTP_MAX_BODY, data[0] & 1 ? "GET" : "PUT", path);
    if (!c.answered || c.status < 200)
        abort();
    /* A path that is no UTF-8 is no JSON string: 500, and nothing more. */
    if (c.out ? (c.status >= 400) != (*(const char *)c.out == '[') : c.status != HTTP_INTERNAL_ERROR)
        abort();
    call_clear(&c);
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 && data[0] & 1)
        answer(data + 1, size - 1);
    else if (size > 1)
        request(data + 1, size - 1);
    return 0;
}

size_t fuzz_seed(unsigned i, uint8_t *buf, size_t cap)
{
#define SEED(s) { s, sizeof s - 1 }
    static const struct {
        const char *text;
        size_t size;
    } seeds[] = {
        SEED("\1HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        SEED("\1HTTP/1.0 404 Not Found\r\nX: y\r\n\r\n[\"no\"]"),
        SEED("\2\1/x\0{\"a\":[1,2,\"x\"]}"),
        SEED("\2\1/x/abc\0body"),
        SEED("\2\2/x/abc/y/d\0{\"a\":{}}"),
        SEED("\2\1/abc/d"),
    };
    if (i >= ARRAY_SIZE(seeds) || seeds[i].size > cap)
        return 0;
    memcpy(buf, seeds[i].text, seeds[i].size);
    return seeds[i].size;
}
