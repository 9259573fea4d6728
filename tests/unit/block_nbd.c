/* SPDX-License-Identifier: Apache-2.0 */
/* block_nbd - a disk that qemu-nbd serves: data, what the server refuses, and a server that goes away. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block_model.h"

static char image[64], sock[64], url[128];

static void fresh(u64 size)
{
    snprintf(image, sizeof(image), "/tmp/lodge-nbd-%d.img", getpid());
    snprintf(sock, sizeof(sock), "/tmp/lodge-nbd-%d.sock", getpid());
    snprintf(url, sizeof(url), "nbd+unix:///?socket=%s", sock);
    int fd = open(image, O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, (off_t)size));
    close(fd);
}

/* -1: there is no qemu-nbd. */
static pid_t serve(bool readonly)
{
    unlink(sock);
    if (system("command -v qemu-nbd >/dev/null"))
        return -1;
    pid_t pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("qemu-nbd", "qemu-nbd", "-k", sock, "-t", "-f", "raw", "-e", "4", "--discard=unmap", image,
               readonly ? "-r" : NULL, NULL);
        _exit(127);
    }
    for (int i = 0; i < 20000 && access(sock, F_OK); i++)
        usleep(10000);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    unlink(sock);
    unlink(image);
}

static struct block *open_url(struct loop *loop, bool readonly, struct error *err)
{
    struct block_options o = { .path = url, .discard = true, .readonly = readonly };

    for (int i = 0;; i++) { /* the socket is there before the server listens */
        struct block *b = block_open(&o, loop, err);
        if (b || i == 20000 || !strstr(err->text, "refused"))
            return b;
        usleep(10000);
    }
}

TEST(random_requests)
{
    for (int with_loop = 0; with_loop < 2; with_loop++) {
        struct error err = { "" };
        struct model m;
        fresh(MiB(4));
        pid_t pid = serve(false);
        if (pid < 0) {
            printf("no qemu-nbd: left out\n");
            return;
        }
        struct loop *loop = with_loop ? loop_new() : NULL;
        struct block *b = open_url(loop, false, &err);
        if (!b)
            test_fail(__FILE__, __LINE__, "%s", err.text);
        REQUIRE(b);
        CHECK_EQ(block_size(b), MiB(4));
        model_new(&m, b, loop, 1);
        model_run(&m, 1500);
        model_compare(&m);
        CHECK_EQ(block_close(b, NULL), 0);
        b = open_url(loop, true, &err);
        REQUIRE(b);
        m.b = b;
        model_compare(&m);
        CHECK_EQ(block_close(b, NULL), 0);
        model_free(&m);
        loop_free(loop);
        end(pid);
    }
}

TEST(the_server_lets_nobody_write)
{
    struct error err = { "" };
    u8 buf[512];

    fresh(MiB(1));
    pid_t pid = serve(true);
    if (pid < 0)
        return;
    CHECK(!open_url(NULL, false, &err));
    CHECK(strstr(err.text, "lets nobody write"));
    struct block *b = open_url(NULL, true, &err);
    CHECK(b);
    if (b) {
        CHECK_EQ(block_sync(b, BLOCK_READ, 0, buf, 512), 0);
        CHECK_EQ(block_close(b, NULL), 0);
    }
    end(pid);
}

struct lost {
    struct model m;
    struct timer kill;
    pid_t pid;
};

static void kill_server(struct timer *t)
{
    struct lost *l = container_of(t, struct lost, kill);

    kill(l->pid, SIGKILL);
}

TEST(the_server_dies)
{
    for (int with_loop = 0; with_loop < 2; with_loop++) {
        struct error err = { "" };
        struct lost l = { .pid = -1 };
        fresh(MiB(4));
        l.pid = serve(false);
        if (l.pid < 0)
            return;
        struct loop *loop = with_loop ? loop_new() : NULL;
        struct block *b = open_url(loop, false, &err);
        REQUIRE(b);
        model_new(&l.m, b, loop, 2);
        l.m.may_fail = -EIO;
        if (with_loop) {
            timer_init(&l.kill, loop, kill_server);
            timer_arm(&l.kill, clock_ns() + 20000000);
        } else {
            kill(l.pid, SIGKILL);
        }
        model_run(&l.m, 50000); /* ends: each of them */
        CHECK(l.m.failed > 0);
        CHECK_EQ(block_sync(b, BLOCK_READ, 0, l.m.slots[0].memory, 512), -EIO);
        CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), -EIO);
        CHECK_EQ(block_close(b, &err), -EIO);
        model_free(&l.m);
        loop_free(loop);
        end(l.pid);
    }
}

static void *open_alone(void *arg)
{
    struct error err = { "" };

    *(struct block **)arg = open_url(NULL, true, &err);
    return NULL;
}

static void ended(struct block_request *rq, int result)
{
    *(int *)rq->iov->iov_base = result;
}

/* Opened on a thread of its own, used by a loop, closed without; and a server that falls silent meanwhile is not waited for
   as long as usual by one who is in a hurry. */
TEST(attached_and_detached)
{
    struct block *b = NULL;
    struct error err = { "" };
    struct model m;
    pthread_t thread;
    union {
        int result;
        u8 bytes[512];
    } sector = { .result = 1 };
    struct iovec iov = { &sector, sizeof(sector) };
    struct block_request rq = { .op = BLOCK_READ, .len = sizeof(sector), .iov = &iov, .niov = 1, .done = ended };
    struct loop *loop = loop_new();

    fresh(MiB(4));
    const pid_t pid = serve(true);
    if (pid < 0)
        return;
    REQUIRE(!pthread_create(&thread, NULL, open_alone, &b));
    pthread_join(thread, NULL);
    REQUIRE(b);
    CHECK_EQ(block_attach(b, loop), 0);
    model_new(&m, b, loop, 3);
    model_compare(&m);
    model_free(&m);

    kill(pid, SIGSTOP);
    const u64 since = clock_ns();
    block_submit(b, &rq);
    block_kick(b);
    block_hurry(b, true);
    block_drain(b);
    CHECK_EQ(sector.result, -EIO);
    CHECK(clock_ns() - since < 40000000000ull); /* not the minute */
    block_hurry(b, false);
    block_detach(b);
    loop_free(loop);
    CHECK_EQ(block_close(b, &err), 0); /* nothing was written */
    kill(pid, SIGCONT);
    end(pid);
}

TEST(no_server)
{
    struct error err = { "" };

    fresh(512);
    unlink(image);
    struct block_options o = { .path = url };
    CHECK(!block_open(&o, NULL, &err));
    CHECK(strstr(err.text, url));
    o.path = "nbd://127.0.0.1:1/x";
    CHECK(!block_open(&o, NULL, &err));
    CHECK(strstr(err.text, "127.0.0.1:1"));
}
