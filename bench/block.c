/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block - the block layer alone: 4 KiB random reads and writes of a disk image, without a guest.
 *
 *   block FILE [raw|qcow2] [writeback|none]    FILE exists and is overwritten
 *
 * One line a case: requests a second, system calls a request (those of the block layer; the loop's epoll_wait is one more a
 * wake-up), CPU time a request. LODGE_BLOCK_IO=threads measures the other way.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/loop.h"
#include "block/block.h"

enum { SIZE = 4096, SECONDS = 3, MOST = 128 };

struct bench {
    struct block *b;
    struct loop *loop;
    struct timer end;
    enum block_op op;
    u64 done, seed, under_way;
    bool over;
    struct one {
        struct block_request rq;
        struct iovec iov;
        struct bench *bench;
    } all[MOST];
};

static void start(struct one *o);

static void done(struct block_request *rq, int result)
{
    struct one *o = container_of(rq, struct one, rq);
    struct bench *b = o->bench;

    if (result) {
        fprintf(stderr, "block: %s\n", strerror(-result));
        exit(1);
    }
    b->done++;
    b->under_way--;
    if (!b->over)
        start(o);
    else if (!b->under_way)
        loop_stop(b->loop);
}

static void start(struct one *o)
{
    struct bench *b = o->bench;

    b->seed = b->seed * 6364136223846793005u + 1442695040888963407u;
    o->rq = (struct block_request){ .op = b->op, .offset = (b->seed >> 16) % (block_size(b->b) / SIZE) * SIZE, .len = SIZE,
                                    .iov = &o->iov, .niov = 1, .done = done };
    b->under_way++;
    block_submit(b->b, &o->rq);
}

static void end(struct timer *t)
{
    container_of(t, struct bench, end)->over = true;
}

static double cpu_s(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    struct block_options o = { .path = argc > 1 ? argv[1] : "", .discard = true };
    struct error err;
    struct bench *b = calloc(1, sizeof(*b));

    o.format = argc > 2 && !strcmp(argv[2], "qcow2") ? BLOCK_QCOW2 : BLOCK_RAW;
    o.cache = argc > 3 && !strcmp(argv[3], "none") ? BLOCK_DIRECT : BLOCK_WRITEBACK;
    b->loop = loop_new();
    b->b = block_open(&o, b->loop, &err);
    if (!b->b) {
        fprintf(stderr, "block: %s\n", err.text);
        return 1;
    }
    for (u32 i = 0; i < MOST; i++) {
        void *p;
        if (posix_memalign(&p, SIZE, SIZE))
            return 1;
        memset(p, 0x5a, SIZE);
        b->all[i].iov = (struct iovec){ p, SIZE };
        b->all[i].bench = b;
    }
    timer_init(&b->end, b->loop, end);
    for (int op = BLOCK_READ; op <= BLOCK_WRITE; op++) {
        for (u32 depth = 1; depth <= 32; depth *= 32) {
            struct block_stats before = block_stats(b->b);
            double cpu = cpu_s();
            u64 began = clock_ns();
            b->op = (enum block_op)op;
            b->done = 0;
            b->over = false;
            timer_arm(&b->end, began + SECONDS * 1000000000ull);
            for (u32 i = 0; i < depth; i++)
                start(&b->all[i]);
            block_kick(b->b);
            if (loop_run(b->loop))
                return 1;
            double s = (double)(clock_ns() - began) / 1e9, n = (double)b->done;
            u64 calls = block_stats(b->b).syscalls - before.syscalls;
            printf("%s of 4 KiB at random, depth %2u: %8.0f/s, %.2f system calls and %.1f us of CPU each\n",
                   op == BLOCK_READ ? "reads " : "writes", depth, n / s, (double)calls / n, (cpu_s() - cpu) * 1e6 / n);
        }
    }
    return block_close(b->b, NULL) ? 1 : 0;
}
