/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - one request to a server on a unix socket, and its answer.  It waits, on the caller's thread.
 *
 * The result keeps what happened: 0; or, with answer.status 0, the -errno of reaching the server, of being heard and
 * answered (-EAGAIN: it was silent for too long, -EIO: it broke off, or its answer is no HTTP); or, with a status of 400 and
 * above, http_errno(status) (status.h), with the sentence that the server gave as its reason.
 */
#ifndef LODGE_HTTP_CLIENT_H
#define LODGE_HTTP_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "http/status.h"

struct http_request {
    const char *socket;       /* its path */
    const char *who;          /* for err: "the machine" */
    const char *method, *path; /* "PUT", "/api/v1/vm.pause", with %XX where it needs them */
    json_t *in;               /* the body; the reference is taken. NULL: none, or there was no memory for one */
    u32 patience_s;           /* how long the server may be silent; 0: for ever */
};

struct http_answer {
    int status; /* 0: none came */
    char *body; /* with a 0 after it; the caller's to free. NULL after a failure */
    size_t size;
};

int must_check http_ask(const struct http_request *q, struct http_answer *a, struct error *err);

/* An answer as it came, with a 0 after it, is taken apart: what is left in `bytes` is its body, which *a borrows.
   -EIO: it is no HTTP, or ends before it is complete.  For http_ask, and for the tests. */
int must_check http_parse_answer(char *bytes, size_t size, struct http_answer *a);

#endif
