/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio_fs.c - the file system device.  Requests are taken off the queues on the loop's thread and carried out by a thread of
 * the device's own, since the host's disk may let it wait; finished, they go back by the loop.  That thread also closes what
 * the guest had open, which may wait as well (NFS and FUSE write back then).
 */
#include "virtio/virtio_fs.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/signals.h"
#include "share/share.h"

enum { HIPRIO, REQUESTS, QUEUES, QUEUE_SIZE = 256 };
#define FS_PATIENCE_NS 2000000000ull
#define FS_LOOK_NS     100000000 /* how often a wait looks whether the end was asked for meanwhile */

struct request {
    struct request *next;
    struct virtio_queue *queue;
    struct virtio_chain chain;
    u64 answer;
    struct iovec iov[]; /* followed by as many gpa */
};

struct virtio_fs {
    struct virtio_device dev;
    struct {
        char tag[VIRTIO_FS_TAG];
        u32 num_request_queues;
    } config;
    struct fuse_server *server;
    u32 inflight[QUEUES]; /* taken and not yet given back; dev.lock */
    bool resetting, queue_resetting[QUEUES];

    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* the following; inside dev.lock */
    pthread_cond_t work, idle;
    struct request *todo, **todo_last, *done, **done_last;
    bool busy, quit, ended;
    bool clear, cleared; /* the server is to forget everything; it has */
    u64 served;          /* requests */
    bool lost, left;     /* the thread was left behind: all that it may touch stays, and is its own once the rest has left */
    struct loop_kick finished;
};

static struct virtio_fs *fs_of(struct virtio_device *d)
{
    return container_of(d, struct virtio_fs, dev);
}

/* ---- the thread --------------------------------------------------------- */

/* Also where this is root, a write takes setuid and setgid from a file of the host's that has them: capabilities(7). */
static void drop_fsetid(void)
{
    struct __user_cap_header_struct self = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct cap[2];

    if (syscall(SYS_capget, &self, cap))
        return;
    cap[0].effective &= ~(1u << CAP_FSETID);
    (void)syscall(SYS_capset, &self, cap);
}

static void free_requests(struct request *r)
{
    for (struct request *next; r; r = next) {
        next = r->next;
        free(r);
    }
}

static void free_rest(struct virtio_fs *f)
{
    free_requests(f->todo);
    free_requests(f->done);
    pthread_cond_destroy(&f->work);
    pthread_cond_destroy(&f->idle);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static u64 serve(struct fuse_server *s, const struct virtio_chain *c)
{
    return fuse_server_serve(s, &(struct fuse_message){ c->iov, c->iov + c->nout, c->nout, c->nin });
}

static void *worker(void *arg)
{
    struct virtio_fs *f = arg;
    pthread_setname_np(pthread_self(), "virtio-fs");
    drop_fsetid();
    pthread_mutex_lock(&f->lock);
    while (!f->quit && !f->lost) {
        struct request *r = f->todo;
        if (f->clear) {
            pthread_mutex_unlock(&f->lock);
            fuse_server_reset(f->server);
            pthread_mutex_lock(&f->lock);
            f->clear = false;
            f->cleared = true;
            if (!f->lost)
                loop_kick(&f->finished);
            continue;
        }
        if (!r) {
            f->busy = false;
            pthread_cond_broadcast(&f->idle);
            pthread_cond_wait(&f->work, &f->lock);
            continue;
        }
        if (!(f->todo = r->next))
            f->todo_last = &f->todo;
        f->busy = true;
        pthread_mutex_unlock(&f->lock);
        r->answer = serve(f->server, &r->chain);
        pthread_mutex_lock(&f->lock);
        if (f->lost) {
            free(r);
            break;
        }
        r->next = NULL;
        *f->done_last = r;
        f->done_last = &r->next;
        f->served++;
        loop_kick(&f->finished);
    }
    pthread_mutex_unlock(&f->lock);
    fuse_server_free(f->server);
    pthread_mutex_lock(&f->lock);
    f->ended = true;
    pthread_cond_broadcast(&f->idle);
    while (f->lost && !f->left)
        pthread_cond_wait(&f->work, &f->lock);
    const bool lost = f->lost;
    pthread_mutex_unlock(&f->lock);
    if (lost) /* it came back, and nobody else is here */
        free_rest(f);
    return NULL;
}

static bool busy(const struct virtio_fs *f)
{
    return f->inflight[HIPRIO] || f->inflight[REQUESTS];
}

/* ---- waiting for it ------------------------------------------------------ */

static bool idle(const struct virtio_fs *f) { return !f->busy && !f->todo && !f->clear; }
static bool ended(const struct virtio_fs *f) { return f->ended; }

/* The loop's thread is what waits, and so nobody else would hear it. */
static bool end_asked_for(const struct virtio_fs *f)
{
    return f->dev.ending || signals_end_pending();
}

/* Lock held. Nothing of the guest's comes back any more; the thread, if it ever goes on, finds all that it may touch. */
static void leave_behind(struct virtio_fs *f)
{
    log_warn("the shared folder %.*s: the host's file system does not answer; what the guest asked of it last is given up",
             VIRTIO_FS_TAG, f->config.tag);
    f->lost = true;
    if (busy(f)) /* else it does not touch the guest's memory, which may be gone by now */
        memory_keep_mapped(f->dev.memory);
    free_requests(f->todo);
    f->todo = NULL;
    f->todo_last = &f->todo;
    f->busy = f->clear = f->resetting = false;
    memset(f->inflight, 0, sizeof f->inflight);
    memset(f->queue_resetting, 0, sizeof f->queue_resetting);
}

/* Lock held. False: the thread is lost. */
static bool wait_until(struct virtio_fs *f, bool (*is)(const struct virtio_fs *f))
{
    u64 served = f->served, since = 0;
    struct timespec t;

    while (!f->lost && !is(f)) {
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_nsec += FS_LOOK_NS;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&f->idle, &f->lock, &t);
        if (!end_asked_for(f) || f->served != served) {
            served = f->served;
            since = 0;
        } else if (!since) {
            since = clock_ns();
        } else if (clock_ns() - since > FS_PATIENCE_NS && !is(f)) {
            leave_behind(f);
        }
    }
    return !f->lost;
}

/* ---- the queues --------------------------------------------------------- */

/* Nothing is under way. The server forgets all that it has of the guest; false: the thread is at it. */
static bool forget_all(struct virtio_fs *f)
{
    if (f->lost)
        return true;
    if (!fuse_server_holds_files(f->server)) {
        fuse_server_reset(f->server);
        return true;
    }
    pthread_mutex_lock(&f->lock);
    f->clear = true;
    f->cleared = false;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
    return false;
}

/* The loop's thread, dev.lock held. */
static void give_back(struct virtio_fs *f)
{
    pthread_mutex_lock(&f->lock);
    struct request *r = f->done;
    f->done = NULL;
    f->done_last = &f->done;
    const bool clearing = f->clear, cleared = f->cleared;
    f->cleared = false;
    pthread_mutex_unlock(&f->lock);
    bool pushed[QUEUES] = { false };
    for (struct request *next; r; r = next) {
        next = r->next;
        pushed[r->queue->index] = true;
        virtio_push(r->queue, &r->chain, r->answer);
        f->inflight[r->queue->index]--;
        free(r);
    }
    for (u32 k = 0; k < QUEUES; k++) {
        if (pushed[k] && virtio_queue_live(&f->dev.queue[k]))
            virtio_notify(&f->dev.queue[k]);
        if (f->queue_resetting[k] && !f->inflight[k]) {
            f->queue_resetting[k] = false;
            virtio_queue_reset_done(&f->dev.queue[k]);
        }
    }
    if (f->resetting && !busy(f) && !clearing && (cleared || forget_all(f))) {
        f->resetting = false;
        virtio_reset_done(&f->dev);
    }
}

static void on_finished(struct loop_kick *k)
{
    struct virtio_fs *f = container_of(k, struct virtio_fs, finished);
    pthread_mutex_lock(&f->dev.lock);
    give_back(f);
    pthread_mutex_unlock(&f->dev.lock);
}

static void kick(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_fs *f = fs_of(d);
    struct iovec iov[VIRTIO_MAX_IOV];
    u64 gpa[VIRTIO_MAX_IOV];
    struct virtio_chain chain = { .iov = iov, .gpa = gpa, .max = ARRAY_SIZE(iov) };

    while (virtio_queue_live(q) && virtio_pop(q, &chain) > 0) {
        const u32 n = chain.nout + chain.nin;
        struct request *r = f->lost ? NULL : malloc(sizeof *r + n * (sizeof iov[0] + sizeof gpa[0]));
        if (!r) {
            virtio_push(q, &chain, 0);
            continue;
        }
        *r = (struct request){ .queue = q, .chain = chain };
        r->chain.iov = r->iov;
        r->chain.gpa = (u64 *)&r->iov[n];
        memcpy(r->chain.iov, iov, n * sizeof iov[0]);
        memcpy(r->chain.gpa, gpa, n * sizeof gpa[0]);
        f->inflight[q->index]++;
        pthread_mutex_lock(&f->lock);
        *f->todo_last = r;
        f->todo_last = &r->next;
        f->busy = true;
        pthread_cond_signal(&f->work);
        pthread_mutex_unlock(&f->lock);
    }
}

/* ---- the device --------------------------------------------------------- */

static void config_read(struct virtio_device *d, u32 offset, void *to, u32 len)
{
    memcpy(to, (const u8 *)&fs_of(d)->config + offset, len);
}

static bool reset(struct virtio_device *d)
{
    struct virtio_fs *f = fs_of(d);
    memset(f->queue_resetting, 0, sizeof f->queue_resetting);
    f->resetting = busy(f) || !forget_all(f);
    return !f->resetting;
}

static bool queue_reset(struct virtio_device *d, struct virtio_queue *q)
{
    struct virtio_fs *f = fs_of(d);
    f->queue_resetting[q->index] = f->inflight[q->index] > 0;
    return !f->queue_resetting[q->index];
}

static void settle(struct virtio_device *d)
{
    struct virtio_fs *f = fs_of(d);
    do { /* again if the server had to be told to forget */
        pthread_mutex_lock(&f->lock);
        const bool there = wait_until(f, idle);
        pthread_mutex_unlock(&f->lock);
        if (!there)
            return;
        give_back(f);
    } while (f->resetting);
}

static const struct virtio_ops ops = {
    .id = VIRTIO_ID_FS, .name = "virtio-fs", .config_size = VIRTIO_FS_TAG + 4, .config_read = config_read, .kick = kick,
    .reset = reset, .queue_reset = queue_reset, .settle = settle,
};

struct virtio_fs *virtio_fs_new(const struct virtio_fs_config *c, struct error *err)
{
    static const u16 sizes[QUEUES] = { 128, QUEUE_SIZE };
    struct virtio_fs *f = calloc(1, sizeof *f);
    pthread_condattr_t monotonic;
    sigset_t old;
    if (!f) {
        error_set(err, ENOMEM, "out of memory");
        return NULL;
    }
    virtio_init(&f->dev, &ops, c->memory, c->loop, 0, QUEUES, sizes);
    memcpy(f->config.tag, c->tag, MIN(strlen(c->tag), (size_t)VIRTIO_FS_TAG));
    f->config.num_request_queues = 1;
    f->todo_last = &f->todo;
    f->done_last = &f->done;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->work, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
    loop_kick_init(&f->finished, c->loop, on_finished);
    if (!(f->server = fuse_server_new(c->path, c->readonly, err))) {
        virtio_fs_free(f);
        return NULL;
    }
    signals_block(&old);
    const int rc = pthread_create(&f->thread, NULL, worker, f);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        error_set(err, rc, "%s: no thread for it: %s", c->path, strerror(rc));
        virtio_fs_free(f);
        return NULL;
    }
    f->started = true;
    return f;
}

void virtio_fs_free(struct virtio_fs *f)
{
    bool lost = false;

    if (!f)
        return;
    if (f->started) {
        pthread_mutex_lock(&f->lock);
        f->quit = f->dev.ending = true;
        pthread_cond_signal(&f->work);
        lost = !wait_until(f, ended);
        pthread_mutex_unlock(&f->lock);
        if (lost)
            pthread_detach(f->thread);
        else
            pthread_join(f->thread, NULL);
    } else {
        fuse_server_free(f->server);
    }
    loop_kick_remove(&f->finished);
    virtio_destroy(&f->dev);
    if (!lost) {
        free_rest(f);
        return;
    }
    pthread_mutex_lock(&f->lock);
    f->left = true;
    pthread_cond_signal(&f->work);
    pthread_mutex_unlock(&f->lock);
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
