/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_model_steps.c - what is under way, in an order that the seed gives: one thread, in which worker threads are
 * coroutines that change over at each access to the file and at each lock, and in which a completion may wait.
 */
#include "qcow2_model.h"

#include <pthread.h>
#include <stdlib.h>
#include <ucontext.h>

enum { STACK = 256 * 1024, COROUTINES = 16 };

struct coroutine {
    ucontext_t at;
    struct aio_work *work; /* NULL: free */
    bool over;
    u8 *stack;
};
static struct coroutine coroutines[COROUTINES], *current;
static ucontext_t main_at;
static struct aio_work *works[1024];
static u32 nworks;
static struct file_io *ios[4096];
static u32 nios;
static struct {
    struct block_request *rq;
    int result;
} dones[1024];
static u32 ndones, within; /* within submit: done() waits */

void yield(void)
{
    if (current && !one_in(3))
        swapcontext(&current->at, &main_at);
}

/* In place of the C library's: a coroutine that must wait lets others run. */
int pthread_mutex_lock(pthread_mutex_t *m)
{
    while (pthread_mutex_trylock(m)) {
        if (!current)
            die("the loop thread waits for a lock");
        swapcontext(&current->at, &main_at);
    }
    return 0;
}

static void coroutine_main(void)
{
    struct coroutine *c = current;
    c->work->run(c->work);
    c->over = true;
    swapcontext(&c->at, &main_at);
}

void aio_work(struct aio *aio, struct aio_work *w) { works[nworks++] = w; }
void aio_kick(struct aio *aio) {}
void aio_wait(struct aio *aio) { abort(); }

void file_submit(struct file *f, struct file_io *io)
{
    io->file = f;
    ios[nios++] = io;
}

void block_done(struct block_request *rq, int result)
{
    if (!within) {
        rq->done(rq, result);
        return;
    }
    dones[ndones].rq = rq;
    dones[ndones++].result = result;
}

static int padded_read(struct block *b, u64 offset, const struct iovec *iov, u32 niov)
{
    int r = 0;
    for (u32 i = 0; !r && i < niov; offset += iov[i++].iov_len)
        r = block_read_now(b, offset, iov[i].iov_base, iov[i].iov_len);
    return r;
}

int block_read_now(struct block *b, u64 offset, void *buf, u64 len)
{
    u64 there = offset < b->size ? MIN(len, b->size - offset) : 0;
    memset((u8 *)buf + there, 0, len - there);
    return there ? b->driver->read(b, offset, buf, there) : 0;
}

/* The backing file is never written, so when it is read does not matter. */
void block_submit_pad(struct block *b, struct block_request *rq)
{
    dones[ndones].rq = rq;
    dones[ndones++].result = padded_read(b, rq->offset, rq->iov, rq->niov);
}

void submit_to(struct block *b, struct block_request *rq)
{
    within++;
    b->driver->submit(b, rq);
    within--;
}

static void resume(struct coroutine *c)
{
    if (!c->over) {
        current = c;
        swapcontext(&main_at, &c->at);
        current = NULL;
    }
    if (c->over && one_in(2)) {
        struct aio_work *w = c->work;
        c->work = NULL;
        w->done(w);
    }
}

/* A function of its own: getcontext() returns twice, and the variables of the one that calls it may be lost. */
static void prepare(struct coroutine *c)
{
    getcontext(&c->at);
    c->at.uc_stack.ss_sp = c->stack;
    c->at.uc_stack.ss_size = STACK;
    makecontext(&c->at, coroutine_main, 0);
}

static void start_work(void)
{
    struct coroutine *c = coroutines;
    while (c->work)
        c++;
    u32 i = (u32)below(nworks);
    c->work = works[i];
    works[i] = works[--nworks];
    c->over = false;
    if (!c->stack)
        c->stack = malloc(STACK);
    prepare(c);
}

static void carry_out_io(void)
{
    u32 i = (u32)below(nios);
    struct file_io *io = ios[i];
    ios[i] = ios[--nios];
    int r = io->op == FILE_READ ? file_preadv(io->file, io->offset, io->iov, io->niov, io->len)
                                : file_pwritev(io->file, io->offset, io->iov, io->niov, io->len);
    io->done(io, r);
}

static void tell_result(void)
{
    u32 i = (u32)below(ndones);
    struct block_request *rq = dones[i].rq;
    int r = dones[i].result;
    dones[i] = dones[--ndones];
    rq->done(rq, r);
}

bool step(void)
{
    u32 running = 0, pick;
    for (u32 i = 0; i < COROUTINES; i++)
        running += coroutines[i].work != NULL;
    u32 start = nworks && running < COROUTINES;
    if (!(running + start + nios + ndones))
        return false;
    pick = (u32)below(running + start + nios + ndones);
    if (pick < running) {
        struct coroutine *c = coroutines;
        for (;; c++)
            if (c->work && !pick--)
                break;
        resume(c);
    } else if (pick < running + start) {
        start_work();
    } else if (pick < running + start + nios) {
        carry_out_io();
    } else {
        tell_result();
    }
    return true;
}
