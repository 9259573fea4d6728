/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.c - the broker's side. What comes from the worker may be a guest's that has broken out: nothing in it is believed, and
 * no more memory is taken than for the sockets that it made.
 */
#include "worker/broker.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/pass.h"
#include "worker/broker_message.h"

enum { MOST_SOCKETS = 64 };

struct broker {
    int sock;
    u32 nsockets;
    struct made { /* a listening socket's name, and what had it then */
        char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
        dev_t dev;
        ino_t ino;
    } socket[MOST_SOCKETS];
};

struct broker *broker_new(int sock)
{
    struct broker *b = calloc(1, sizeof *b);

    if (b)
        b->sock = sock;
    return b;
}

static bool is_unix(const struct opener_request *r)
{
    return r->address && r->address->sa_family == AF_UNIX && r->length > offsetof(struct sockaddr_un, sun_path) &&
           ((const struct sockaddr_un *)(const void *)r->address)->sun_path[0];
}

static void remember(struct broker *b, const struct opener_request *r)
{
    struct made *m = &b->socket[b->nsockets];
    struct stat st;

    memcpy(m->path, ((const struct sockaddr_un *)(const void *)r->address)->sun_path, sizeof m->path);
    m->path[sizeof m->path - 1] = 0;
    if (lstat(m->path, &st))
        return;
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    b->nsockets++;
}

/* Its name may be another program's from now on. */
static void forget(struct broker *b, const char *path)
{
    for (u32 i = 0; i < b->nsockets; i++)
        if (!strcmp(b->socket[i].path, path))
            b->socket[i--] = b->socket[--b->nsockets];
}

static int carry_out(struct broker *b, const struct opener_request *r)
{
    const bool makes_name = r->kind == OPENER_LISTEN && is_unix(r);

    if (makes_name && b->nsockets == MOST_SOCKETS)
        return -EMFILE;
    const int result = opener_request(r);
    if (result >= 0 && makes_name)
        remember(b, r);
    else if (result >= 0 && r->kind == OPENER_REMOVE)
        forget(b, r->path);
    return result;
}

/* Is this one message as broker_message.h has it? */
static bool well_formed(const struct broker_request *q, size_t n)
{
    return n > offsetof(struct broker_request, path) && !((const char *)q)[n - 1] && q->kind <= OPENER_FOLDER &&
           q->purpose <= OPENER_CONFIG && q->no_links <= 1 && q->length <= sizeof q->address &&
           (q->kind == OPENER_LISTEN || q->kind == OPENER_CONNECT ? q->length >= sizeof q->address.ss_family : !q->length);
}

static void answer(struct broker *b, int result, bool descriptor)
{
    struct broker_answer a = { descriptor ? 0 : result };
    const int r = pass_send(b->sock, &a, sizeof a, &result, descriptor, MSG_DONTWAIT);

    if (descriptor)
        close(result);
    if (r && descriptor) /* too many of them are on their way: it must not wait for ever */
        answer(b, r, false);
}

bool broker_serve(struct broker *b)
{
    struct broker_request q;
    const ssize_t n = recv(b->sock, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);
    if ((size_t)n > sizeof q || !well_formed(&q, (size_t)n)) {
        answer(b, -EINVAL, false);
        return true;
    }
    const struct opener_request r = {
        .purpose = (enum opener_purpose)q.purpose, .kind = (enum opener_kind)q.kind, .path = q.path, .flags = q.flags,
        .mode = q.mode, .no_links = q.no_links, .address = q.length ? (const struct sockaddr *)&q.address : NULL,
        .length = q.length, .type = q.type,
    };
    const int result = carry_out(b, &r);
    answer(b, result, result >= 0 && (r.kind == OPENER_FILE || r.kind == OPENER_LISTEN || r.kind == OPENER_CONNECT ||
                                   r.kind == OPENER_TAP));
    return true;
}

void broker_free(struct broker *b)
{
    struct stat st;

    if (!b)
        return;
    for (u32 i = 0; i < b->nsockets; i++) {
        const struct made *m = &b->socket[i];
        if (!lstat(m->path, &st) && S_ISSOCK(st.st_mode) && st.st_dev == m->dev && st.st_ino == m->ino)
            (void)opener_remove(OPENER_REPORT, m->path);
    }
    close(b->sock);
    free(b);
}
