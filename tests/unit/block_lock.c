/* SPDX-License-Identifier: Apache-2.0 */
/* block_lock - one writer or many readers of an image: in one process, between processes, and with qemu's programs. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/block.h"
#include "test.h"

static char path[64];

static void fresh(void)
{
    snprintf(path, sizeof(path), "/tmp/lodge-test-%d", getpid());
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, 1 << 20));
    close(fd);
}

static struct block *open_as(bool writer, struct error *err)
{
    struct block_options o = { .path = path, .format = BLOCK_RAW, .readonly = !writer };

    return block_open(&o, NULL, err);
}

static size_t ballast; /* bytes of memory that a holder has */

/* A child that has the image open until it is killed; it says so through a pipe. */
static pid_t holder(bool writer)
{
    int p[2];
    char c;

    if (pipe(p))
        return -1;
    pid_t pid = fork();
    if (!pid) {
        struct error err;
        void *weight = ballast ? malloc(ballast) : NULL;
        if (weight)
            memset(weight, 1, ballast);
        c = open_as(writer, &err) ? 'y' : 'n';
        if (write(p[1], &c, 1) == 1)
            pause();
        _exit(0);
    }
    close(p[1]);
    CHECK(read(p[0], &c, 1) == 1 && c == 'y');
    close(p[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

/* One that is killed lets go of its memory before its files. */
TEST(a_killed_one_is_waited_for)
{
    for (int i = 0; i < 2; i++) {
        struct error err = { "" };
        fresh();
        ballast = MiB(128);
        const pid_t pid = holder(true);
        ballast = 0;
        kill(pid, SIGKILL);
        struct block *b = open_as(true, &err);
        if (!b)
            test_fail(__FILE__, __LINE__, "%s", err.text);
        waitpid(pid, NULL, 0);
        if (b)
            block_close(b, NULL);
    }
    unlink(path);
}

TEST(between_processes)
{
    for (int other = 0; other < 2; other++) {
        for (int we = 0; we < 2; we++) {
            struct error err = { "" };
            char number[24];
            fresh();
            pid_t pid = holder(other);
            struct block *b = open_as(we, &err);
            CHECK_EQ(b != NULL, !other && !we);
            snprintf(number, sizeof(number), "(process %d)", pid);
            if (!b)
                CHECK(strstr(err.text, path) && strstr(err.text, number) &&
                      strstr(err.text, other ? we ? "in use" : "being written" : "being read"));
            else
                block_close(b, NULL);
            end(pid);
            /* The lock dies with its process, however that died. */
            b = open_as(true, &err);
            CHECK(b);
            if (b)
                block_close(b, NULL);
        }
    }
    unlink(path);
}

TEST(in_one_process)
{
    struct error err = { "" };

    fresh();
    struct block *w = open_as(true, &err);
    REQUIRE(w);
    CHECK(!open_as(true, &err));
    CHECK(strstr(err.text, "named twice"));
    CHECK(!open_as(false, &err));
    struct block_options o = { .path = path, .readonly = true, .no_lock = true };
    struct block *look = block_open(&o, NULL, &err);
    CHECK(look);
    if (look)
        block_close(look, NULL); /* and that does not free the other's */
    CHECK(!open_as(true, &err));
    block_close(w, NULL);
    struct block *r = open_as(false, &err), *r2 = open_as(false, &err);
    CHECK(r && r2);
    CHECK(!open_as(true, &err));
    block_close(r, NULL);
    block_close(r2, NULL);
    unlink(path);
}

/* The lock of one who is gone, on an open file that no process has: it is under way in a socket, as the kernel keeps it for
   a while when an io_uring is taken down. */
static int sock[2];
static void leave_behind(void)
{
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1 }; /* nobody else may write */
    union {
        struct cmsghdr h;
        char space[CMSG_SPACE(sizeof(int))];
    } u = { .h = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
    struct msghdr m = { .msg_iov = &(struct iovec){ (char[]){ 0 }, 1 }, .msg_iovlen = 1, .msg_control = &u,
                        .msg_controllen = sizeof(u.space) };

    memcpy(CMSG_DATA(&u.h), &fd, sizeof(fd));
    CHECK(fd >= 0 && !fcntl(fd, F_OFD_SETLK, &l));
    CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock) && sendmsg(sock[0], &m, 0) == 1);
    close(fd);
}

static void *let_go_soon(void *arg)
{
    usleep(300000);
    close(sock[0]);
    close(sock[1]);
    return arg;
}

TEST(one_who_is_gone_is_waited_for)
{
    struct error err = { "" };
    pthread_t thread;

    fresh();
    leave_behind();
    CHECK(!pthread_create(&thread, NULL, let_go_soon, NULL));
    struct block *b = open_as(true, &err);
    if (!b)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    pthread_join(thread, NULL);
    if (b)
        block_close(b, NULL);

    /* Not for ever. */
    leave_behind();
    CHECK(!open_as(true, &err));
    CHECK(strstr(err.text, "another program"));
    let_go_soon(NULL);
    unlink(path);
}

/* Of many that start at the same moment just one gets it, and always one. */
TEST(a_race_has_one_winner)
{
    fresh();
    for (int round = 0; round < 20; round++) {
        enum { MANY = 6 };
        int gate[2], report[2], won = 0;
        pid_t pids[MANY];
        char c;
        CHECK(!pipe(gate) && !pipe(report));
        for (int i = 0; i < MANY; i++) {
            pids[i] = fork();
            if (!pids[i]) {
                struct error err;
                close(gate[1]);
                if (read(gate[0], &c, 1)) {}
                c = open_as(true, &err) ? 'y' : 'n';
                if (write(report[1], &c, 1) == 1)
                    pause();
                _exit(0);
            }
        }
        close(gate[0]);
        close(gate[1]);
        for (int i = 0; i < MANY; i++) {
            CHECK_EQ(read(report[0], &c, 1), 1);
            won += c == 'y';
        }
        CHECK_EQ(won, 1);
        for (int i = 0; i < MANY; i++)
            end(pids[i]);
        close(report[0]);
        close(report[1]);
    }
    unlink(path);
}

static int sh(const char *fmt)
{
    char command[512];

    snprintf(command, sizeof(command), fmt, path);
    return system(command);
}

TEST(qemu_knows_these_locks)
{
    struct error err = { "" };

    if (system("command -v qemu-io >/dev/null && command -v qemu-img >/dev/null")) {
        printf("no qemu-utils: left out\n");
        return;
    }
    fresh();
    struct block *b = open_as(true, &err);
    REQUIRE(b);
    CHECK(sh("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"));
    CHECK(!sh("qemu-img info -U -f raw %s >/dev/null 2>&1"));
    CHECK(sh("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"));
    block_close(b, NULL);
    b = open_as(false, &err);
    REQUIRE(b);
    CHECK(!sh("qemu-io -r -f raw -c 'read 0 512' %s >/dev/null 2>&1"));
    CHECK(sh("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"));
    block_close(b, NULL);
    CHECK(!sh("qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1"));

    /* The other way round: qemu writes it. (As a raw image's reader it would put up with a writer.) */
    struct flock l = { .l_type = F_UNLCK };
    int in[2], fd = open(path, O_RDWR);
    REQUIRE(!pipe(in));
    pid_t pid = fork();
    if (!pid) {
        dup2(in[0], 0);
        close(in[1]);
        execlp("sh", "sh", "-c", "exec qemu-io >/dev/null", NULL);
        _exit(127);
    }
    dprintf(in[1], "open -o driver=raw %s\n", path);
    for (int i = 0; i < 20000 && l.l_type == F_UNLCK; i++) { /* only looks, and so does not get in its way */
        usleep(10000);
        l = (struct flock){ .l_type = F_WRLCK, .l_start = 100, .l_len = 1 };
        CHECK(!fcntl(fd, F_OFD_GETLK, &l));
    }
    close(fd);
    CHECK(!open_as(true, &err) && strstr(err.text, "qemu-io"));
    CHECK(!open_as(false, &err) && strstr(err.text, "being written by qemu-io"));
    end(pid);
    close(in[0]);
    close(in[1]);
    unlink(path);
}
