/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - the ways in which a handler ends its call: nothing, JSON, bytes, or a sentence that says why it failed. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

static void answer(struct http_call *public, unsigned status, const char *type, void *out, size_t size)
{
    struct call *c = container_of(public, struct call, public);

    c->status = status;
    c->type = type;
    c->out = out;
    c->out_size = size;
    c->answered = true;
    if (c->suspended)
        call_answered(c);
}

void http_done(struct http_call *c, unsigned status) { answer(c, status, NULL, NULL, 0); }

void http_bytes(struct http_call *c, const char *type, void *data, size_t size) { answer(c, HTTP_OK, type, data, size); }

/* If Jansson has no memory for something, it goes on without it: a key is missing, or even a bracket. Such an answer
   is not sent. */
static _Thread_local bool json_short;

void *json_memory(size_t size)
{
    void *p = malloc(size);
    json_short |= !p;
    return p;
}

void json_memory_forget(void) { json_short = false; }

static void answer_json(struct http_call *c, unsigned status, json_t *value)
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
    answer(c, HTTP_INTERNAL_ERROR, NULL, NULL, 0);
}

void http_json(struct http_call *c, json_t *value) { answer_json(c, HTTP_OK, value); }

/* It has the form of Cloud Hypervisor: a JSON array of sentences. */
static void fail(struct http_call *c, unsigned status, const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    json_t *array = json_array(), *sentence = json_string(text);
    /* The text may quote a request and may be cut in the middle of a character. */
    json_array_append_new(array, sentence ? sentence : json_string("the request cannot be met, nor be quoted"));
    answer_json(c, status, array);
}

void http_fail(struct http_call *c, unsigned status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(c, status, fmt, ap);
    va_end(ap);
}

void http_fail_errno(struct http_call *c, int r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(c, http_status(r), fmt, ap);
    va_end(ap);
}
