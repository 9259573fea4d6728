/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.c - the broker's side. What comes from the worker may be a guest's that has broken out: nothing in it is believed,
 * nothing is opened that the policy does not allow, and no more memory is taken than for what it made.
 */
#include "worker/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/file_user.h"
#include "base/pass.h"
#include "worker/broker_message.h"
#include "worker/clients.h"

enum { MOST_MADE = 64, MOST_CHILDREN = 32, MOST_ARGUMENTS = 8 };

struct broker {
    int sock; /* -1: the worker has closed its end */
    pid_t worker;
    struct policy *policy;
    struct clients *clients;
    u32 nmade, nchildren, last_id;
    struct made { /* a socket's or a new file's name, and what had it then */
        char path[PATH_MAX];
        dev_t dev;
        ino_t ino;
    } *made[MOST_MADE];
    struct helper {
        u32 id;
        pid_t pid;
    } child[MOST_CHILDREN];
};

struct broker *broker_new(int sock, struct policy *policy)
{
    struct broker *b = calloc(1, sizeof *b);

    if (!b || !(b->clients = clients_new(policy))) {
        close(sock);
        free(b);
        return NULL;
    }
    b->sock = sock;
    b->policy = policy;
    return b;
}

void broker_worker(struct broker *b, pid_t worker)
{
    b->worker = worker;
}

/* ---- what it made ----------------------------------------------------------- */

static bool is_unix(const struct opener_request *r)
{
    return r->address && r->address->sa_family == AF_UNIX && r->length > offsetof(struct sockaddr_un, sun_path) &&
           ((const struct sockaddr_un *)(const void *)r->address)->sun_path[0];
}

/* Does this request make a name that nobody had? */
static bool makes_name(const struct opener_request *r)
{
    return (r->kind == OPENER_LISTEN && is_unix(r)) || (r->kind == OPENER_FILE && (r->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL));
}

static void remember(struct broker *b, const char *path)
{
    struct made *m = malloc(sizeof *m);
    struct stat st;

    if (!m || strlen(path) >= sizeof m->path || lstat(path, &st)) {
        free(m);
        return;
    }
    strcpy(m->path, path);
    m->dev = st.st_dev;
    m->ino = st.st_ino;
    b->made[b->nmade++] = m;
}

static bool is_there(const struct made *m)
{
    struct stat st;

    return !lstat(m->path, &st) && st.st_dev == m->dev && st.st_ino == m->ino;
}

/* What the worker has made it may remove. Afterwards the name may be another program's. 1: it did not make it. */
static int remove_made(struct broker *b, const struct opener_request *r)
{
    for (u32 i = 0; i < b->nmade; i++) {
        struct made *m = b->made[i];
        if (strcmp(m->path, r->path))
            continue;
        const int result = is_there(m) ? opener_request(r) : -ENOENT;
        b->made[i] = b->made[--b->nmade];
        free(m);
        return result;
    }
    return 1;
}

/* ---- requests --------------------------------------------------------------- */

static bool answers_text(u32 kind)
{
    return kind == OPENER_USER || kind == OPENER_REAL || kind == OPENER_STAT || kind == OPENER_RUNTIME;
}

static int carry_out(struct broker *b, const struct opener_request *r, struct broker_answer *a)
{
    struct opener_request q = *r;
    int result = r->kind == OPENER_REMOVE ? remove_made(b, r) : 1;

    if (result <= 0)
        return result;
    if ((result = policy_judge(b->policy, r)))
        return result;
    if (makes_name(r) && b->nmade == MOST_MADE)
        return -EMFILE;
    q.real = a->path;
    q.st = &a->st;
    q.flags |= r->kind == OPENER_FILE ? O_NONBLOCK | O_NOCTTY : 0;
    result = opener_request(&q);
    if (result >= 0 && r->kind == OPENER_FILE && !(r->flags & O_NONBLOCK) && !(r->flags & O_PATH))
        (void)fcntl(result, F_SETFL, fcntl(result, F_GETFL) & ~O_NONBLOCK);
    const int judged = result < 0                  ? 0
                       : answers_text(r->kind) ? policy_judge_real(b->policy, r, a->path)
                                               : policy_judge_opened(b->policy, r, result);
    if (judged) {
        if (!answers_text(r->kind))
            close(result);
        return judged;
    }
    if (result >= 0 && makes_name(r))
        remember(b, r->kind == OPENER_LISTEN ? ((const struct sockaddr_un *)(const void *)r->address)->sun_path : r->path);
    if (result >= 0 && r->kind == OPENER_LISTEN && r->purpose == OPENER_API)
        return clients_listen(b->clients, result);
    return result;
}

/* Is this one message as broker_message.h has it? */
static bool well_formed(const struct broker_request *q, size_t n, u32 nfds)
{
    const bool address = q->kind == OPENER_LISTEN || q->kind == OPENER_CONNECT;

    return n > offsetof(struct broker_request, path) && !((const char *)q)[n - 1] && q->kind < BROKER_KINDS &&
           q->purpose <= OPENER_CONFIG && q->no_links <= 1 && q->length <= sizeof q->address &&
           (address ? q->length >= sizeof q->address.ss_family : !q->length) &&
           (q->kind == OPENER_AGAIN || q->kind == OPENER_USER ? nfds == 1 : q->kind == BROKER_CHILD || !nfds);
}

static bool gives_descriptor(u32 kind)
{
    return kind != OPENER_REMOVE && kind != OPENER_FOLDER && !answers_text(kind);
}

/* fd: a descriptor, which is sent and then closed, or -1 */
static void answer(struct broker *b, struct broker_answer *a, int fd)
{
    const int r = pass_send(b->sock, a, offsetof(struct broker_answer, path) + strlen(a->path) + 1, &fd, fd >= 0, MSG_DONTWAIT);

    if (fd < 0)
        return;
    close(fd);
    a->result = r;
    if (r) /* too many of them are on their way: it must not wait for ever */
        answer(b, a, -1);
}

/* q->path: n bytes, of which the last is a 0 */
static int start_child(struct broker *b, struct broker_request *q, size_t n, const int *fd, u32 nfds, u32 *id)
{
    char *argv[MOST_ARGUMENTS + 1] = { NULL };
    u32 argc = 0;
    int ends[2];

    for (size_t at = 0; at < n; at += strlen(q->path + at) + 1) {
        if (argc == MOST_ARGUMENTS)
            return -E2BIG;
        argv[argc++] = q->path + at;
    }
    int r = policy_judge_child(b->policy, argv);
    if (!r && b->nchildren == MOST_CHILDREN)
        r = -EAGAIN;
    if (r || pipe2(ends, O_CLOEXEC))
        return r ? r : -errno;
    pid_t pid = 0;
    r = child_spawn(argv, fd, (int)nfds, ends[1], &pid);
    close(ends[1]);
    if (r) {
        close(ends[0]);
        return r;
    }
    *id = ++b->last_id;
    b->child[b->nchildren++] = (struct helper){ *id, pid };
    return ends[0];
}

static void kill_child(struct broker *b, u32 id)
{
    for (u32 i = 0; i < b->nchildren; i++)
        if (b->child[i].id == id)
            kill(b->child[i].pid, SIGKILL);
}

static void serve(struct broker *b, struct broker_request *q, size_t path, const int *fd, u32 nfds)
{
    const struct opener_request r = {
        .purpose = (enum opener_purpose)q->purpose, .kind = (enum opener_kind)q->kind, .path = q->path, .flags = q->flags,
        .mode = q->mode, .no_links = q->no_links, .address = q->length ? (const struct sockaddr *)&q->address : NULL,
        .length = q->length, .type = q->type, .fd = nfds ? fd[0] : -1,
    };
    struct broker_answer a;
    bool descriptor = q->kind == BROKER_CHILD || gives_descriptor(q->kind);

    memset(&a, 0, sizeof a);
    switch (q->kind) {
    case BROKER_CHILD: a.result = start_child(b, q, path, fd, nfds, &a.id); break;
    case BROKER_KILL: kill_child(b, (u32)q->flags); descriptor = false; break;
    case BROKER_PID: a.result = b->worker; descriptor = false; break;
    case OPENER_USER: file_user_for(b->worker, q->flags, r.fd, a.path); break;
    default: a.result = carry_out(b, &r, &a); break;
    }
    const int given = descriptor ? a.result : -1;
    if (given >= 0)
        a.result = 0;
    if (a.result < 0)
        a.path[0] = 0;
    answer(b, &a, given);
}

static void hear_worker(struct broker *b)
{
    struct broker_request q;
    int fd[PASS_MOST];
    u32 nfds;
    const ssize_t n = pass_receive_some(b->sock, &q, sizeof q, fd, PASS_MOST, &nfds, MSG_DONTWAIT);

    if (n == -EAGAIN)
        return;
    if (n == -EPROTO || n == -EMFILE || (n > 0 && !well_formed(&q, (size_t)n, nfds))) {
        struct broker_answer a;
        memset(&a, 0, sizeof a);
        a.result = -EINVAL;
        answer(b, &a, -1);
    } else if (n > 0) {
        serve(b, &q, (size_t)n - offsetof(struct broker_request, path), fd, nfds);
    } else {
        close(b->sock);
        b->sock = -1;
    }
    for (u32 i = 0; i < nfds; i++)
        close(fd[i]);
}

/* ---- its turn --------------------------------------------------------------- */

static void reap(struct broker *b)
{
    for (u32 i = 0; i < b->nchildren; i++)
        if (waitpid(b->child[i].pid, NULL, WNOHANG))
            b->child[i--] = b->child[--b->nchildren];
}

u32 broker_poll(const struct broker *b, struct pollfd *p, int *ms)
{
    p[0] = (struct pollfd){ b->sock, POLLIN, 0 };
    return 1 + clients_poll(b->clients, p + 1, BROKER_FDS - 1, ms);
}

bool broker_serve(struct broker *b)
{
    reap(b);
    if (b->sock >= 0)
        hear_worker(b);
    clients_serve(b->clients);
    return b->sock >= 0;
}

void broker_drop(struct broker *b)
{
    if (!b)
        return;
    clients_free(b->clients);
    if (b->sock >= 0)
        close(b->sock);
    for (u32 i = 0; i < b->nmade; i++)
        free(b->made[i]);
    free(b);
}

void broker_free(struct broker *b)
{
    const u64 end = clock_ns() + CHILD_END_MS * 1000000ull;

    if (!b)
        return;
    for (u32 i = 0; i < b->nmade; i++) {
        struct stat st;
        if (is_there(b->made[i]) && !lstat(b->made[i]->path, &st) && S_ISSOCK(st.st_mode))
            (void)opener_remove(OPENER_REPORT, b->made[i]->path);
    }
    /* They end when their sockets do. */
    for (reap(b); b->nchildren && clock_ns() < end; reap(b))
        poll(NULL, 0, 1);
    for (u32 i = 0; i < b->nchildren; i++)
        kill(b->child[i].pid, SIGKILL);
    /* One that waits for a file system that never answers does not die of that, either. */
    const u64 left = clock_ns() + CHILD_KILLED_MS * 1000000ull;
    for (reap(b); b->nchildren && clock_ns() < left; reap(b))
        poll(NULL, 0, 1);
    broker_drop(b);
}
