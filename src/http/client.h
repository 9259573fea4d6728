/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - sends one request to a server on a unix socket, and waits for the answer on the caller's thread.
 *
 * The result is one of three. 0: success. If answer.status is 0, the result is the -errno of reaching the server, of
 * sending or of receiving (-EAGAIN: the server was silent for too long; -EIO: it broke off, or its answer is not HTTP).
 * If the status is 400 or above, the result is http_errno(status) (status.h), and err has the sentence that the server
 * gave as its reason.
 */
#ifndef LODGE_HTTP_CLIENT_H
#define LODGE_HTTP_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "http/status.h"

struct http_request {
    const char *socket;       /* its path */
    const char *who;          /* the name of the server in err: "the machine" */
    const char *method, *path; /* "PUT", "/api/v1/vm.pause", with %XX where the path needs it */
    json_t *in;               /* the body; the reference is taken. NULL: there is no body, or there was no memory for
                                 one */
    u32 patience_s;           /* how long the server may be silent; 0: for ever */
};

struct http_answer {
    int status; /* 0: no answer came */
    char *body; /* with a 0 after it; the caller frees it. NULL after a failure */
    size_t size;
};

int must_check http_ask(const struct http_request *q, struct http_answer *a, struct error *err);

/* Splits an answer as it came, with a 0 after it. Afterwards `bytes` holds the body, which *a borrows. -EIO: the
   answer is not HTTP, or ends before it is complete. For http_ask, and for the tests. */
int must_check http_parse_answer(char *bytes, size_t size, struct http_answer *a);

#endif
