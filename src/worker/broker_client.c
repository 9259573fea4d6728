/* SPDX-License-Identifier: Apache-2.0 */
/* broker_client.c - the worker's side: one request at a time, whichever thread has it. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/pass.h"
#include "worker/broker.h"
#include "worker/broker_message.h"

/* Of the process, since what may be opened is: one worker runs one machine. */
static struct {
    int sock;
    pthread_mutex_t lock;
} client = { -1, PTHREAD_MUTEX_INITIALIZER };

static int ask(void *ctx, const struct opener_request *r)
{
    struct broker_request q;
    struct broker_answer a;
    int fd;
    const size_t path = r->path ? strlen(r->path) : 0;

    memset(&q, 0, offsetof(struct broker_request, path));
    if (path >= sizeof q.path)
        return -ENAMETOOLONG;
    if (r->length > sizeof q.address)
        return -EINVAL;
    q.purpose = r->purpose, q.kind = r->kind, q.flags = r->flags, q.type = r->type, q.mode = r->mode, q.no_links = r->no_links;
    if (r->address) {
        q.length = r->length;
        memcpy(&q.address, r->address, r->length);
    }
    if (path)
        memcpy(q.path, r->path, path);
    q.path[path] = 0;
    pthread_mutex_lock(&client.lock);
    ssize_t n;
    while ((n = send(client.sock, &q, offsetof(struct broker_request, path) + path + 1, MSG_NOSIGNAL)) < 0 && errno == EINTR)
        ;
    const int got = n < 0 ? -errno : pass_receive(client.sock, &a, sizeof a, &fd, 1);
    pthread_mutex_unlock(&client.lock);
    const int result = got < 0 ? got : got ? fd : a.result;
    /* The broker was killed: what it would have put away we can try to. */
    if ((result == -EPIPE || result == -ECONNRESET) && r->kind == OPENER_REMOVE)
        return unlink(r->path) ? -errno : 0;
    return result;
}

void broker_use(int sock)
{
    static const struct opener opener = { ask, NULL };

    client.sock = sock;
    opener_use(&opener);
}
