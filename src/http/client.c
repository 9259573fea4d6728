/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.c - see client.h. HTTP/1.0: each connection has one request and one answer. The end of the connection is the
 * end of the body.
 */
#include "http/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"

enum { MAX_ANSWER = 64 << 20 };

static int send_all(int fd, const char *data, size_t n)
{
    while (n) {
        const ssize_t r = send(fd, data, n, MSG_NOSIGNAL);
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r > 0)
            data += r, n -= (size_t)r;
    }
    return 0;
}

static int receive_all(int fd, char **data, size_t *size)
{
    size_t max = 0;
    ssize_t r;

    *data = NULL;
    *size = 0;
    do {
        if (max - *size < 65536) {
            max = MAX(2 * max, 131072);
            char *more = max <= MAX_ANSWER ? realloc(*data, max + 1) : NULL;
            if (!more)
                return -ENOMEM;
            *data = more;
        }
        r = recv(fd, *data + *size, max - *size, 0);
        if (r < 0 && errno != EINTR)
            return -errno;
        if (r > 0)
            *size += (size_t)r;
    } while (r);
    (*data)[*size] = 0;
    return 0;
}

/* Reads the server's sentence: [ "..." ]. */
static int refused(const struct http_request *q, const struct http_answer *a, struct error *err)
{
    const int r = http_errno(a->status);
    json_t *array = json_loadb(a->body, a->size, 0, NULL);
    const char *text = json_string_value(json_array_get(array, 0));
    if (text)
        error_set(err, -r, "%s", text);
    else
        error_set(err, -r, "%s answers with HTTP status %d", q->who, a->status);
    json_decref(array);
    return r;
}

/* The length that the head gives for the body: a body that ends before that is not complete. */
static size_t content_length(const char *head)
{
    static const char name[] = "\r\nContent-Length:";
    const char *line = strcasestr(head, name);
    unsigned long long n;

    return line && sscanf(line + sizeof name - 1, "%19llu", &n) == 1 ? (size_t)n : 0;
}

int http_parse_answer(char *bytes, size_t size, struct http_answer *a)
{
    int status;

    *a = (struct http_answer){ 0 };
    char *end = strstr(bytes, "\r\n\r\n");
    if (!end || sscanf(bytes, "HTTP/1.%*1[01] %3d", &status) != 1 || status < 100)
        return -EIO;
    *end = 0;
    const size_t head = (size_t)(end + 4 - bytes);
    if (content_length(bytes) > size - head)
        return -EIO;
    *a = (struct http_answer){ status, bytes, size - head };
    memmove(bytes, end + 4, a->size + 1);
    return 0;
}

static int exchange(const struct http_request *q, int fd, const char *body, char **bytes, size_t *size)
{
    const struct timeval limit = { .tv_sec = (time_t)q->patience_s };
    char *head;
    int r;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (asprintf(&head, "%s %s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", q->method,
                 q->path, strlen(body)) < 0)
        return -ENOMEM;
    if (!(r = send_all(fd, head, strlen(head))) && !(r = send_all(fd, body, strlen(body))))
        r = receive_all(fd, bytes, size);
    free(head);
    return r;
}

static int ask(const struct http_request *q, const char *body, struct http_answer *a, struct error *err)
{
    char *bytes = NULL;
    size_t size = 0;
    const int fd = unix_socket_connect(OPENER_API, q->socket, SOCK_STREAM);
    int r = fd < 0 ? fd : exchange(q, fd, body, &bytes, &size);

    if (fd >= 0)
        close(fd);
    if (r)
        error_set(err, -r, "%s: %s%s", q->socket, r == -EAGAIN && fd >= 0 ? q->who : strerror(-r),
                  r == -EAGAIN && fd >= 0 ? " does not answer" : "");
    else if ((r = http_parse_answer(bytes, size, a)))
        error_set(err, -r, size ? "%s's answer is no HTTP, or not all of it" : "%s ended before it answered", q->who);
    else if (a->status >= 400)
        r = refused(q, a, err);
    if (!r)
        return 0;
    free(bytes);
    a->body = NULL;
    a->size = 0;
    return r;
}

int http_ask(const struct http_request *q, struct http_answer *a, struct error *err)
{
    char *body = q->in ? json_dumps(q->in, JSON_COMPACT) : strdup("");

    json_decref(q->in);
    *a = (struct http_answer){ 0 };
    const int r = body ? ask(q, body, a, err) : error_set(err, EINVAL, "what is to be sent is no UTF-8");
    free(body);
    return r;
}
