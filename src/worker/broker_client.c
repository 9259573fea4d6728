/* SPDX-License-Identifier: Apache-2.0 */
/* broker_client.c - the worker's side: one request at a time, whichever thread has it. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/child.h"
#include "base/pass.h"
#include "worker/broker.h"
#include "worker/broker_message.h"

/* Of the process, since what may be opened is: one worker runs one machine. */
static struct {
    int sock;
    pthread_mutex_t lock;
} client = { -1, PTHREAD_MUTEX_INITIALIZER };

/* q->path has n bytes. A descriptor that comes is *got, else -1. 0 or -errno. */
static int exchange(const struct broker_request *q, size_t n, const int *fd, u32 nfds, struct broker_answer *a, int *got)
{
    u32 came = 0;

    memset(a, 0, offsetof(struct broker_answer, path) + 1);
    pthread_mutex_lock(&client.lock);
    const int r = pass_send(client.sock, q, offsetof(struct broker_request, path) + n, fd, nfds, 0);
    const ssize_t length = r ? r : pass_receive_some(client.sock, a, sizeof *a, got, 1, &came, 0);
    pthread_mutex_unlock(&client.lock);
    if (length < 0)
        return (int)length;
    return length > (ssize_t)offsetof(struct broker_answer, path) && !((const char *)a)[length - 1] ? 0 : -EPROTO;
}

static void fill(struct broker_request *q, const struct opener_request *r)
{
    q->purpose = r->purpose, q->kind = r->kind, q->flags = r->flags, q->type = r->type, q->mode = r->mode, q->no_links = r->no_links;
    if (!r->address)
        return;
    q->length = r->length;
    memcpy(&q->address, r->address, r->length);
}

static int ask(void *ctx, const struct opener_request *r)
{
    struct broker_request q;
    struct broker_answer a;
    int fd = -1;
    const size_t path = r->path ? strlen(r->path) : 0;

    memset(&q, 0, offsetof(struct broker_request, path));
    if (path >= sizeof q.path)
        return -ENAMETOOLONG;
    if (r->length > sizeof q.address)
        return -EINVAL;
    fill(&q, r);
    if (path)
        memcpy(q.path, r->path, path);
    q.path[path] = 0;
    const int failed = exchange(&q, path + 1, &r->fd, r->kind == OPENER_AGAIN || r->kind == OPENER_USER, &a, &fd);
    const int result = failed ? failed : fd >= 0 ? fd : a.result;
    if (r->real && !result)
        strcpy(r->real, a.path);
    if (r->st && !result)
        *r->st = a.st;
    /* The broker was killed: what it would have put away we can try to. */
    if ((result == -EPIPE || result == -ECONNRESET) && r->kind == OPENER_REMOVE)
        return unlink(r->path) ? -errno : 0;
    return result;
}

static int start(void *ctx, char *const argv[], const int *fd, int n, int *says, u32 *id)
{
    struct broker_request q = { .kind = BROKER_CHILD };
    struct broker_answer a;
    size_t at = 0;

    for (u32 i = 0; argv[i]; i++) {
        const size_t length = strlen(argv[i]) + 1;
        if (length > sizeof q.path - at)
            return -ENAMETOOLONG;
        memcpy(q.path + at, argv[i], length);
        at += length;
    }
    const int r = exchange(&q, at, fd, (u32)n, &a, says);
    if (r || a.result < 0)
        return r ? r : a.result;
    *id = a.id;
    return *says >= 0 && a.id ? 0 : -EPROTO;
}

static void end(void *ctx, u32 id)
{
    struct broker_request q = { .kind = BROKER_KILL, .flags = (s32)id };
    struct broker_answer a;
    int none = -1;
    const int r = exchange(&q, 1, NULL, 0, &a, &none); /* without a broker there is nobody to kill it */

    (void)r;
}

pid_t broker_own_pid(void)
{
    struct broker_request q = { .kind = BROKER_PID };
    struct broker_answer a;
    int none = -1;

    return client.sock < 0 || exchange(&q, 1, NULL, 0, &a, &none) || a.result <= 0 ? getpid() : a.result;
}

void broker_use(int sock)
{
    static const struct opener opener = { ask, NULL };
    static const struct child_starter starter = { start, end, NULL };

    client.sock = sock;
    opener_use(&opener);
    child_use(&starter);
}
