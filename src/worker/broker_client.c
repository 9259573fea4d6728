/* SPDX-License-Identifier: Apache-2.0 */
/* broker_client.c - the worker's side: one request at a time, whichever thread has it. */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "worker/broker.h"
#include "worker/broker_message.h"

/* Of the process, since what may be opened is: one worker runs one machine. */
static struct {
    int sock;
    pthread_mutex_t lock;
} client = { -1, PTHREAD_MUTEX_INITIALIZER };

static int receive(int sock, struct broker_answer *a)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = { a, sizeof *a };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_LEN(sizeof(int)) };
    ssize_t n;
    int fd;

    while ((n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (n != (ssize_t)sizeof *a)
        return n < 0 ? -errno : -EPIPE; /* the broker has ended, and so shall we */
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (a->result < 0 || !c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return m.msg_flags & MSG_CTRUNC ? -EMFILE : a->result;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

static int ask(void *ctx, const struct opener_request *r)
{
    struct broker_request q;
    struct broker_answer a;
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
    const int result = n < 0 ? -errno : receive(client.sock, &a);
    pthread_mutex_unlock(&client.lock);
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
