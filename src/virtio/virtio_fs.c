/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.c - the file system device. Requests are taken off the queues and given back on the loop's thread. A process
 * of the device's own carries them out (share/folder.h), in the guest's memory, one after another and in their order. The
 * host's disk may let it wait; then requests wait in the socket, and at last here.
 *
 * What the process wrote is not known to the engine before virtio_push tells it, which comes before the guest hears of it.
 */
#include "virtio/virtio_fs.h"

#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"
#include "share/folder.h"

enum { HIPRIO, REQUESTS, QUEUES, QUEUE_SIZE = 256 };
enum {
    PATIENCE_MS = 2000, /* a machine that ends waits as long for an answer */
    LOOK_MS = 100,      /* how often a wait looks whether the end was asked for meanwhile */
    ANSWERS = 16,       /* read at once */
};

struct request {
    struct request *next;
    struct virtio_queue *queue;
    struct virtio_chain chain;
    u32 id;
    struct iovec iov[];
};

struct requests { /* in their order */
    struct request *first, **last;
};

/* All of it is guarded by dev.lock. */
struct virtio_fs {
    struct virtio_device dev;
    struct {
        char tag[VIRTIO_FS_TAG];
        u32 num_request_queues;
    } config;
    char name[VIRTIO_FS_TAG + 24];
    struct folder folder;
    struct loop_fd sock; /* events 0: the process is given up, and every request fails */
    struct requests waiting, sent; /* the socket had no room for them; the process has them */
    u32 inflight[QUEUES];          /* taken and not yet given back */
    u32 last_id;
    u64 served; /* requests, to see whether there is progress */
    bool used;                     /* the process may know something of the guest */
    bool forgetting;               /* it is to forget that, and has not answered; last_id */
    bool resetting, queue_resetting[QUEUES];
    struct loop_kick reset_asked;
    struct folder_request message; /* what is sent next */
};

static struct virtio_fs *fs_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_fs, dev);
}

static bool busy(const struct virtio_fs *f) { return f->inflight[HIPRIO] || f->inflight[REQUESTS]; }
static bool given_up(const struct virtio_fs *f) { return !f->sock.events; }

static void put_last(struct requests *l, struct request *r)
{
    r->next = NULL;
    *l->last = r;
    l->last = &r->next;
}

static struct request *take_first(struct requests *l)
{
    struct request *r = l->first;

    if (r && !(l->first = r->next))
        l->last = &l->first;
    return r;
}

/* ---- giving back --------------------------------------------------------- */

static void give_back(struct virtio_fs *f, struct request *r, u64 written)
{
    virtio_push(r->queue, &r->chain, written);
    f->inflight[r->queue->index]--;
    free(r);
}

/* Nobody carries it out any more. */
static u64 answer_failure(const struct virtio_chain *c)
{
    struct fuse_in_header in;
    struct fuse_out_header out = { .len = sizeof out, .error = -EIO };

    if (virtio_read(c, 0, &in, sizeof in) < sizeof in || c->in_len < sizeof out)
        return 0; /* it is none, or wants no answer */
    out.unique = in.unique;
    return virtio_write(c, 0, &out, sizeof out);
}

/* What follows from requests that were given back. */
static void go_on(struct virtio_fs *f)
{
    for (u32 k = 0; k < QUEUES; k++) {
        if (virtio_queue_live(&f->dev.queue[k]))
            virtio_notify(&f->dev.queue[k]);
        if (f->queue_resetting[k] && !f->inflight[k]) {
            f->queue_resetting[k] = false;
            virtio_queue_reset_done(&f->dev.queue[k]);
        }
    }
    if (f->resetting && !busy(f) && !f->used) {
        f->resetting = false;
        virtio_reset_done(&f->dev);
    }
}

static void end_process(struct virtio_fs *f, u32 patience_ms)
{
    if (given_up(f))
        return;
    f->sock.events = 0;
    f->used = f->forgetting = false;
    loop_fd_remove(f->dev.loop, &f->sock);
    folder_close(&f->folder, patience_ms);
}

/* It has ended, or is not to be trusted. What it had it may have written to. */
static void lose(struct virtio_fs *f, const char *why)
{
    struct request *r;

    log_warn("%s: %s; the guest gets errors from now on", f->name, why);
    end_process(f, 1);
    while ((r = take_first(&f->sent))) {
        for (u32 i = r->chain.nout; i < r->chain.nout + r->chain.nin; i++)
            memory_host_written(f->dev.memory, r->chain.iov[i].iov_base, r->chain.iov[i].iov_len);
        give_back(f, r, answer_failure(&r->chain));
    }
    while ((r = take_first(&f->waiting)))
        give_back(f, r, answer_failure(&r->chain));
    go_on(f);
}

/* ---- to the process and back ---------------------------------------------- */

static void watch(struct virtio_fs *f)
{
    const u32 events = EPOLLIN | (f->waiting.first ? (u32)EPOLLOUT : 0);

    if (f->sock.events != events && loop_fd_set(f->dev.loop, &f->sock, events))
        log_warn("%s: its process's socket cannot be watched", f->name);
}

/* 0; -EAGAIN: there is no room now; or another -errno. */
static int send_message(struct virtio_fs *f, u32 type, u32 id, const struct virtio_chain *c)
{
    struct folder_request *q = &f->message;
    const u32 n = c ? c->nout + c->nin : 0;

    q->type = type;
    q->id = id;
    q->nout = c ? c->nout : 0;
    q->nin = c ? c->nin : 0;
    for (u32 i = 0; i < n; i++) {
        const bool there = memory_place_of(f->dev.memory, c->iov[i].iov_base, &q->piece[i].place);
        assert(there);
        q->piece[i].length = c->iov[i].iov_len;
    }
    const size_t len = offsetof(struct folder_request, piece) + n * sizeof q->piece[0];
    if (send(f->folder.sock, q, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len)
        return 0;
    return errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -errno;
}

/* Sends what there is to send. Loop thread. */
static int send_all(struct virtio_fs *f)
{
    int r = 0;

    while (!r && f->waiting.first) {
        f->waiting.first->id = ++f->last_id;
        r = send_message(f, FOLDER_SERVE, f->last_id, &f->waiting.first->chain);
        if (!r)
            put_last(&f->sent, take_first(&f->waiting));
        f->used |= !r;
    }
    if (!r && f->resetting && !busy(f) && f->used && !f->forgetting) {
        r = send_message(f, FOLDER_FORGET, ++f->last_id, NULL);
        f->forgetting = !r;
    }
    watch(f);
    return r == -EAGAIN ? 0 : r;
}

/* False: this is no answer to anything. */
static bool take_answer(struct virtio_fs *f, const struct folder_done *d)
{
    if (f->sent.first) {
        struct request *r = f->sent.first;
        if (d->id != r->id || d->length > r->chain.in_len)
            return false;
        give_back(f, take_first(&f->sent), d->length);
        f->served++;
        return true;
    }
    if (!f->forgetting || d->id != f->last_id)
        return false;
    f->used = f->forgetting = false;
    return true;
}

/* Takes the answers that there are. NULL, or what is wrong. */
static const char *take_answers(struct virtio_fs *f)
{
    static const char ended[] = "its process has ended";
    struct folder_done d[ANSWERS];
    struct iovec iov[ANSWERS];
    struct mmsghdr m[ANSWERS];

    memset(m, 0, sizeof m);
    for (u32 i = 0; i < ANSWERS; i++) {
        iov[i] = (struct iovec){ &d[i], sizeof d[i] };
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    const int n = recvmmsg(f->folder.sock, m, ANSWERS, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? NULL : errno == ECONNRESET ? ended : "its process cannot be heard";
    for (int i = 0; i < n; i++) {
        if (!m[i].msg_len)
            return ended;
        if (m[i].msg_len != sizeof d[i] || m[i].msg_hdr.msg_flags & MSG_TRUNC || !take_answer(f, &d[i]))
            return "its process answers what it was not asked, and is ended";
    }
    return NULL;
}

/* Loop thread, dev.lock held. */
static void exchange(struct virtio_fs *f)
{
    const char *wrong = given_up(f) ? NULL : take_answers(f);

    go_on(f);
    if (!wrong && !given_up(f) && send_all(f))
        wrong = "its process cannot be told anything";
    if (wrong)
        lose(f, wrong);
}

static void on_answer(struct loop_fd *w, u32 events)
{
    struct virtio_fs *f = container_of(w, struct virtio_fs, sock);

    pthread_mutex_lock(&f->dev.lock);
    exchange(f);
    pthread_mutex_unlock(&f->dev.lock);
}

static void on_reset_asked(struct loop_kick *k)
{
    struct virtio_fs *f = container_of(k, struct virtio_fs, reset_asked);

    pthread_mutex_lock(&f->dev.lock);
    exchange(f);
    pthread_mutex_unlock(&f->dev.lock);
}

/* ---- waiting for it ------------------------------------------------------ */

/* The loop's thread is what waits, and so nobody else would hear it. */
static bool end_asked_for(const struct virtio_fs *f)
{
    return f->dev.ending || signals_end_pending();
}

/* Nothing of the guest's comes back any more. */
static void leave_behind(struct virtio_fs *f)
{
    struct request *r;

    log_warn("%s: the host's file system does not answer; what the guest asked of it last is given up", f->name);
    end_process(f, 1);
    while ((r = take_first(&f->sent)) || (r = take_first(&f->waiting)))
        free(r);
    memset(f->inflight, 0, sizeof f->inflight);
    memset(f->queue_resetting, 0, sizeof f->queue_resetting);
    f->resetting = false;
}

static void settle(struct virtio_device *d)
{
    struct virtio_fs *f = fs_of(d);
    u64 served = f->served, since = 0;

    exchange(f);
    while (busy(f) || f->resetting) {
        struct pollfd p = { f->folder.sock, (short)(POLLIN | (f->waiting.first ? POLLOUT : 0)), 0 };
        poll(&p, 1, LOOK_MS);
        exchange(f);
        if (!end_asked_for(f) || f->served != served) {
            served = f->served;
            since = 0;
        } else if (!since) {
            since = clock_ns();
        } else if (clock_ns() - since > PATIENCE_MS * 1000000ull && (busy(f) || f->resetting)) {
            leave_behind(f);
        }
    }
}

/* ---- the device --------------------------------------------------------- */

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_fs *f = fs_of(d);
    struct iovec iov[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .max = ARRAY_SIZE(iov) };

    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        const u32 n = chain.nout + chain.nin;
        struct request *r = given_up(f) ? NULL : malloc(sizeof *r + n * sizeof iov[0]);
        if (!r) {
            virtio_push(q, &chain, answer_failure(&chain));
            continue;
        }
        *r = (struct request){ .queue = q, .chain = chain };
        r->chain.iov = memcpy(r->iov, iov, n * sizeof iov[0]);
        f->inflight[q->index]++;
        put_last(&f->waiting, r);
    }
    go_on(f);
    if (!given_up(f) && send_all(f))
        lose(f, "its process cannot be told anything");
}

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    memcpy(to, (const u8 *)&fs_of(d)->config + offset, len);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_fs *f = fs_of(d);

    memset(f->queue_resetting, 0, sizeof f->queue_resetting);
    f->resetting = busy(f) || f->used;
    if (f->resetting)
        loop_kick(&f->reset_asked); /* this is a vCPU's thread */
    return !f->resetting;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_fs *f = fs_of(d);
    f->queue_resetting[q->index] = f->inflight[q->index] > 0;
    return !f->queue_resetting[q->index];
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_FS, .name = "virtio-fs", .config_size = VIRTIO_FS_TAG + 4, .config_read = config_read, .kick = kick,
    .reset = reset, .queue_reset = queue_reset, .settle = settle,
};

struct virtio_fs *virtio_fs_new(const struct virtio_fs_config *c, struct error *err)
{
    static const u16 sizes[QUEUES] = { 128, QUEUE_SIZE };
    struct virtio_fs *f = calloc(1, sizeof *f);

    static_assert((int)FOLDER_MAX_PIECES >= (int)VIRTIO_MAX_IOV, "a chain is one message");
    if (!f) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    virtio_init(&f->dev, &ops, c->memory, c->loop, 0, QUEUES, sizes);
    memcpy(f->config.tag, c->tag, MIN(strlen(c->tag), (size_t)VIRTIO_FS_TAG));
    f->config.num_request_queues = 1;
    snprintf(f->name, sizeof f->name, "the shared folder %.*s", VIRTIO_FS_TAG, f->config.tag);
    f->waiting.last = &f->waiting.first;
    f->sent.last = &f->sent.first;
    loop_kick_init(&f->reset_asked, c->loop, on_reset_asked);
    const struct folder_config fc = { c->path, f->name, c->readonly, c->memory->fd, c->loop };
    int r = folder_open(&f->folder, &fc, err);
    if (!r) {
        f->sock = (struct loop_fd){ f->folder.sock, EPOLLIN, on_answer };
        r = loop_fd_add(c->loop, &f->sock);
        if (r) {
            error_set(err, -r, "%s: its process cannot be watched: %s", c->path, strerror(-r));
            folder_close(&f->folder, 1);
        }
    }
    if (!r)
        return f;
    f->sock.events = 0;
    virtio_fs_free(f);
    return NULL;
}

void virtio_fs_free(struct virtio_fs *f)
{
    if (!f)
        return;
    end_process(f, PATIENCE_MS); /* it may have to wait for the files that it closes */
    loop_kick_remove(&f->reset_asked);
    virtio_destroy(&f->dev);
    free(f);
}

struct virtio_device *virtio_fs_device(struct virtio_fs *f)
{
    return &f->dev;
}

/* ---- the class ---- */

static int create(struct device *d, const struct device_env *env, struct error *err)
{
    const struct config_share *s = &env->config->share[d->index];
    const struct virtio_fs_config c = {
        .memory = env->memory, .loop = env->loop, .path = s->path, .tag = config_share_tag(s), .readonly = s->readonly,
    };

    d->dev = virtio_fs_new(&c, err);
    if (!d->dev)
        return error_about(err, "shares[%u]", d->index);
    return device_plug_virtio(d, virtio_fs_device(d->dev), err);
}

static void unplug(struct device *d)
{
    virtio_fs_free(d->dev);
}

const struct device_class virtio_fs_class = { .kind = DEVICE_SHARE, .create = create, .unplug = unplug };
