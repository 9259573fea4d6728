/* SPDX-License-Identifier: Apache-2.0 */
/* clients.c - see clients.h. */
#include "worker/clients.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/pass.h"

enum { MOST = 16, REQUEST = 98304 /* a head and a body at the most, http/server.h */, LOOK_MS = 5,
       WAIT_MS = 2000 /* for the rest of a request; then the worker has it as it is */ };

struct clients {
    struct policy *policy;
    int listener, worker; /* -1: none */
    struct client {
        int fd; /* -1: none */
        bool began, judged; /* something of its request has come; there is no more to wait for */
        u64 since;
    } client[MOST];
    char request[REQUEST + 1];
};

struct clients *clients_new(struct policy *p)
{
    struct clients *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->policy = p;
    c->listener = c->worker = -1;
    for (u32 i = 0; i < MOST; i++)
        c->client[i].fd = -1;
    return c;
}

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void clients_free(struct clients *c)
{
    if (!c)
        return;
    shut(&c->listener);
    shut(&c->worker);
    for (u32 i = 0; i < MOST; i++)
        shut(&c->client[i].fd);
    free(c);
}

int clients_listen(struct clients *c, int listener)
{
    int pair[2];

    if (c->listener >= 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) {
        const int r = c->listener >= 0 ? -EBUSY : -errno;
        close(listener);
        return r;
    }
    c->listener = listener;
    c->worker = pair[0];
    return pair[1];
}

/* ---- what a client sends ----------------------------------------------------- */

/* The number behind Content-Length, or 0. */
static size_t body_length(const char *head, const char *end)
{
    static const char name[] = "content-length:";

    for (const char *line = head; (line = memchr(line, '\n', (size_t)(end - line)));) {
        line++;
        if (!strncasecmp(line, name, sizeof name - 1))
            return strtoul(line + sizeof name - 1, NULL, 10);
    }
    return 0;
}

static void grant(struct policy *p, const char *body, size_t n)
{
    json_t *j = json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL);
    const char *path = json_string_value(json_object_get(j, "path"));

    if (path)
        policy_grant(p, path);
    json_decref(j);
}

/* What there is of the request is in c->request. True: there is no more to wait for. */
static bool judge(struct clients *c, size_t n)
{
    char *line = memchr(c->request, '\n', n);

    c->request[n] = 0;
    if (!line)
        return n == REQUEST;
    *line = 0;
    const bool asks = strstr(c->request, "vm.change-media");
    *line = '\n';
    if (!asks)
        return true;
    const char *end = strstr(c->request, "\r\n\r\n");
    if (!end)
        return n == REQUEST;
    const char *body = end + 4;
    const size_t has = (size_t)(c->request + n - body), wants = body_length(c->request, end);
    if (wants > has)
        return n == REQUEST || wants > REQUEST;
    grant(c->policy, body, wants);
    return true;
}

/* True: it is gone, to the worker or for ever. */
static bool hand_over(struct clients *c, struct client *k)
{
    if (pass_send(c->worker, "", 1, &k->fd, 1, MSG_DONTWAIT) == -EAGAIN)
        return false; /* the worker has many already: it waits here */
    shut(&k->fd);
    return true;
}

static void look(struct clients *c, struct client *k)
{
    if (!k->judged) {
        const ssize_t n = recv(k->fd, c->request, REQUEST, MSG_PEEK | MSG_DONTWAIT);
        k->began |= n > 0;
        k->judged = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (n > 0 && judge(c, (size_t)n)) ||
                    clock_ns() - k->since > WAIT_MS * 1000000ull;
    }
    if (k->judged)
        hand_over(c, k);
}

/* ---- its turn ------------------------------------------------------------------ */

static struct client *room(const struct clients *c)
{
    for (u32 i = 0; i < MOST; i++)
        if (c->client[i].fd < 0)
            return (struct client *)(uintptr_t)&c->client[i];
    return NULL;
}

u32 clients_poll(const struct clients *c, struct pollfd *p, u32 most, int *ms)
{
    u32 n = 0;

    if (c->listener >= 0 && room(c) && n < most)
        p[n++] = (struct pollfd){ c->listener, POLLIN, 0 };
    /* A connection that has sent a part stays readable, so the clock says when to look again. */
    for (u32 i = 0; i < MOST; i++) {
        const struct client *k = &c->client[i];
        const int look = k->began || k->judged ? LOOK_MS : WAIT_MS + 1;
        if (k->fd < 0)
            continue;
        if (look > LOOK_MS && n < most)
            p[n++] = (struct pollfd){ k->fd, POLLIN, 0 };
        if (*ms < 0 || *ms > look)
            *ms = look;
    }
    return n;
}

void clients_serve(struct clients *c)
{
    for (struct client *k; c->listener >= 0 && (k = room(c));) {
        const int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            break;
        *k = (struct client){ .fd = fd, .since = clock_ns() };
    }
    for (u32 i = 0; i < MOST; i++)
        if (c->client[i].fd >= 0)
            look(c, &c->client[i]);
}
