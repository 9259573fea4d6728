/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api_client.c - see api_client.h.  HTTP/1.0: one request and one answer a connection, of which the end is the body's.
 */
#include "cli/api_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "store/store.h"

enum { MAX_ANSWER = 64 << 20 };

int api_path(const char *machine, char path[PATH_MAX], struct error *err)
{
    char dir[RUNTIME_DIR];

    if (strchr(machine, '/')) {
        snprintf(path, PATH_MAX, "%s", machine);
        return 0;
    }
    if (!image_name_valid(machine))
        return error_set(err, EINVAL, "\"%.80s\" is no machine's name; a socket's path has a slash in it: ./%.80s",
                         machine, machine);
    const int r = runtime_dir("the machine's control socket", dir, err);
    if (!r)
        snprintf(path, PATH_MAX, "%s/%s.sock", dir, machine);
    return r;
}

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

/* The machine's sentence: [ "..." ]. */
static int refused(const struct api_answer *a, struct error *err)
{
    json_t *array = json_loadb(a->body, a->size, 0, NULL);
    const char *text = json_string_value(json_array_get(array, 0));
    error_set(err, EPROTO, "%s", text ? text : "the machine refuses without a reason");
    if (!text)
        error_set(err, EPROTO, "the machine answers with HTTP status %d", a->status);
    json_decref(array);
    return -EPROTO;
}

int api_call(const char *machine, const char *method, const char *name, json_t *in, u32 patience,
             struct api_answer *a, struct error *err)
{
    const struct timeval limit = { .tv_sec = (time_t)patience };
    char path[PATH_MAX], head[512];
    char *body = in ? json_dumps(in, JSON_COMPACT) : strdup(""), *end;
    int fd = -1, r;

    json_decref(in);
    *a = (struct api_answer){ 0 };
    if (!body)
        return error_set(err, EINVAL, "what is to be sent is no UTF-8");
    if ((r = api_path(machine, path, err)))
        goto out;
    fd = unix_socket_connect(OPENER_API, path);
    if (fd < 0) {
        r = fd;
        if (api_nobody(r))
            error_set(err, -r, strchr(machine, '/') ? "nobody listens on %s; \"lodge run --api-socket PATH\" does"
                                                    : "the machine %s does not run; \"lodge run\" starts it", machine);
        else
            error_set(err, -r, "%s: %s", path, strerror(-r));
        goto out;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    snprintf(head, sizeof head,
             "%s /api/v1/%s HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", method, name,
             strlen(body));
    if ((r = send_all(fd, head, strlen(head))) || (r = send_all(fd, body, strlen(body))) ||
        (r = receive_all(fd, &a->body, &a->size))) {
        error_set(err, -r, "%s: %s", path, r == -EAGAIN ? "the machine does not answer" : strerror(-r));
        goto out;
    }
    end = strstr(a->body, "\r\n\r\n");
    if (!end || sscanf(a->body, "HTTP/1.%*d %d", &a->status) != 1) {
        r = error_set(err, EIO, "%s",
                      a->size ? "the machine's answer is no HTTP" : "the machine ended before it answered");
        goto out;
    }
    a->size -= (size_t)(end + 4 - a->body);
    memmove(a->body, end + 4, a->size + 1);
    if (a->status >= 400)
        r = refused(a, err);
out:
    if (fd >= 0)
        close(fd);
    free(body);
    if (r) {
        free(a->body);
        a->body = NULL;
    }
    return r;
}
