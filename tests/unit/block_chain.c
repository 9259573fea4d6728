/* SPDX-License-Identifier: Apache-2.0 */
/* block_chain - overlays over raw images, devices' worth of names, NBD; a base stays as it was; a ring that is refused. */
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "block/internal.h"
#include "block_model.h"

static char dir[64], base[96], over[96];

static void fresh(u64 size)
{
    static u8 buf[4096];

    snprintf(dir, sizeof(dir), "/var/tmp/lodge-chain-%d", getpid());
    snprintf(base, sizeof(base), "%s/base.raw", dir);
    snprintf(over, sizeof(over), "%s/over.qcow2", dir);
    mkdir(dir, 0700);
    unlink(over);
    int fd = open(base, O_CREAT | O_TRUNC | O_RDWR, 0600);
    for (u64 at = 0; at < size; at += sizeof(buf)) {
        memset(buf, (int)(1 + at / sizeof(buf) % 250), sizeof(buf));
        CHECK_EQ(write(fd, buf, MIN(size - at, sizeof(buf))), MIN(size - at, sizeof(buf)));
    }
    close(fd);
}

static void clean(void)
{
    unlink(base);
    unlink(over);
    rmdir(dir);
}

static u64 sum_of(const char *path)
{
    u8 buf[4096];
    u64 sum = 1469598103934665603u;
    int fd = open(path, O_RDONLY);

    for (ssize_t n; (n = read(fd, buf, sizeof(buf))) > 0;)
        for (ssize_t i = 0; i < n; i++)
            sum = (sum ^ buf[i]) * 1099511628211u;
    close(fd);
    return sum;
}

/* The copy begins with what the disk holds. */
static void load(struct model *m)
{
    CHECK_EQ(block_sync(m->b, BLOCK_READ, 0, m->shadow, block_size(m->b)), 0);
}

TEST(overlay)
{
    static const char *const ways[] = { "uring", "threads" };

    for (int i = 0; i < 8; i++) {
        struct loop *loop = i & 4 ? loop_new() : NULL;
        struct error err = { "" };
        struct model m;
        fresh(MiB(4) + 512 * 5);
        u64 before = sum_of(base);
        setenv("LODGE_BLOCK_IO", ways[i & 1], 1);
        struct block_options o = { .path = base, .discard = true, .overlay = i & 2 ? over : "" };
        struct block *b = block_open(&o, loop, &err);
        unsetenv("LODGE_BLOCK_IO");
        if (!b && strstr(err.text, "io_uring cannot be used here"))
            continue;
        if (!b)
            test_fail(__FILE__, __LINE__, "%s", err.text);
        REQUIRE(b);
        CHECK(!block_readonly(b));
        CHECK_EQ(block_size(b), MiB(4) + 512 * 5);
        CHECK_EQ(access(over, F_OK), i & 2 ? 0 : -1);
        model_new(&m, b, loop, (u64)i);
        load(&m);
        model_run(&m, 1000);
        model_compare(&m);
        struct block *second = block_open(&(struct block_options){ .path = base, .overlay = "" }, NULL, &err);
        CHECK(second); /* two machines over one base */
        if (second)
            block_close(second, NULL);
        CHECK(!block_open(&(struct block_options){ .path = base }, NULL, &err));
        CHECK(strstr(err.text, "is being read by"));
        CHECK_EQ(block_close(b, &err), 0);
        if (i & 2) { /* it can be used again, and finds its base by itself */
            CHECK(!block_open(&o, loop, &err) && strstr(err.text, "exists"));
            m.b = block_open(&(struct block_options){ .path = over }, loop, &err);
            REQUIRE(m.b);
            model_compare(&m);
            block_close(m.b, NULL);
        }
        CHECK_EQ(sum_of(base), before);
        model_free(&m);
        loop_free(loop);
        clean();
    }
}

/* Copy on write reads the backing file on a worker thread, which only the loop's thread can do over NBD. */
TEST(overlay_over_nbd)
{
    char sock[128], url[160];

    if (system("command -v qemu-nbd >/dev/null")) {
        printf("no qemu-nbd: left out\n");
        return;
    }
    for (int with_loop = 0; with_loop < 2; with_loop++) {
        struct error err = { "" };
        struct model m;
        fresh(MiB(2));
        snprintf(sock, sizeof(sock), "%s/sock", dir);
        snprintf(url, sizeof(url), "nbd+unix:///?socket=%s", sock);
        pid_t pid = fork();
        if (!pid) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("qemu-nbd", "qemu-nbd", "-k", sock, "-t", "-r", "-f", "raw", base, NULL);
            _exit(127);
        }
        for (int i = 0; i < 20000 && access(sock, F_OK); i++)
            usleep(10000);
        struct loop *loop = with_loop ? loop_new() : NULL;
        struct block *b = NULL;
        for (int i = 0; i < 20000 && !b; i++) { /* the socket is there before the server listens */
            usleep(10000);
            b = block_open(&(struct block_options){ .path = url, .overlay = "" }, loop, &err);
        }
        if (!b)
            test_fail(__FILE__, __LINE__, "%s", err.text);
        REQUIRE(b);
        model_new(&m, b, loop, 7);
        load(&m);
        model_run(&m, 1000);
        model_compare(&m);
        CHECK_EQ(block_close(b, NULL), 0);
        model_free(&m);
        loop_free(loop);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unlink(sock);
        clean();
    }
}

/* done() may do anything with the disk, also wait for what else is under way. */
struct nested {
    struct block_request rq[3];
    struct iovec iov;
    struct block *b;
    struct loop *loop;
    int done[3];
};

static struct nested *the_nested; /* of the one test */

static void nested_done(struct block_request *rq, int result)
{
    struct nested *n = the_nested;
    u8 sector[512];

    CHECK_EQ(result, 0);
    n->done[rq - n->rq]++;
    if (rq != n->rq)
        return;
    CHECK_EQ(block_sync(n->b, BLOCK_READ, 0, sector, 512), 0);
    block_submit(n->b, &n->rq[2]);
    block_drain(n->b);
    CHECK_EQ(n->done[1] + n->done[2], 2);
    CHECK_EQ(block_sync(n->b, BLOCK_FLUSH, 0, NULL, 0), 0);
    loop_stop(n->loop);
}

TEST(done_may_wait)
{
    static const char *const ways[] = { "uring", "threads" };
    u8 buf[512];

    for (int i = 0; i < 4; i++) {
        struct nested n = { .iov = { buf, 512 }, .loop = loop_new() };
        struct error err = { "" };
        fresh(MiB(1));
        setenv("LODGE_BLOCK_IO", ways[i & 1], 1);
        n.b = block_open(&(struct block_options){ .path = base, .overlay = i & 2 ? "" : NULL }, n.loop, &err);
        unsetenv("LODGE_BLOCK_IO");
        if (!n.b)
            continue;
        for (int k = 0; k < 3; k++)
            n.rq[k] = (struct block_request){ .op = BLOCK_READ, .offset = 512u * (u32)k, .len = 512, .iov = &n.iov, .niov = 1,
                                              .done = nested_done };
        the_nested = &n;
        block_submit(n.b, &n.rq[0]);
        block_submit(n.b, &n.rq[1]);
        block_kick(n.b);
        CHECK_EQ(n.done[0] + n.done[1], 0);
        CHECK_EQ(loop_run(n.loop), 0);
        CHECK(n.done[0] == 1 && n.done[1] == 1 && n.done[2] == 1);
        CHECK_EQ(block_close(n.b, NULL), 0);
        loop_free(n.loop);
        clean();
    }
}

/* As in a container: the kernel says no to io_uring, and everything works. */
TEST(the_ring_is_refused)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { ARRAY_SIZE(f), f };
    int status = -1;

    fresh(MiB(1));
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        struct error err = { "" };
        struct model m;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
            _exit(TEST_SKIP);
        struct loop *loop = loop_new();
        struct block *b = block_open(&(struct block_options){ .path = base, .format = BLOCK_RAW }, loop, &err);
        if (!b)
            _exit(2);
        model_new(&m, b, loop, 1);
        load(&m);
        model_run(&m, 300);
        model_compare(&m);
        block_close(b, NULL);
        setenv("LODGE_BLOCK_IO", "uring", 1);
        if (block_open(&(struct block_options){ .path = base }, loop, &err) || !strstr(err.text, "io_uring cannot be used"))
            _exit(3);
        _exit(test_status());
    }
    waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == TEST_SKIP));
    clean();
}

/* Refuses the first write of data to `over`. */
static int refuse_once(struct block_hook *h, const struct file_event *e)
{
    static int refused; /* by the threads of the one test */

    if (e->op != FILE_WRITE || e->len < 65536 || strcmp(file_path(e->file), over) || __atomic_exchange_n(&refused, 1, __ATOMIC_RELAXED))
        return 0;
    return -ENOSPC;
}

/* A write that fails while what follows need not be copied: the image may not get its new backing file. */
TEST(rebase_says_what_failed)
{
    struct block_hook hook = { .before = refuse_once };
    struct error err = { "" };
    struct block_info info;
    char other[96], name[96];

    fresh(MiB(16));
    snprintf(other, sizeof(other), "%s/other.raw", dir);
    snprintf(name, sizeof(name), "%s", base);
    CHECK_EQ(rename(base, other), 0);
    fresh(MiB(16));
    int fd = open(other, O_WRONLY);
    for (off_t at = 0; at < (off_t)MiB(1); at += 65536) /* the rest is the same */
        CHECK_EQ(pwrite(fd, "other", 5, at), 5);
    close(fd);
    CHECK_EQ(block_create(&(struct block_create){ .path = over, .format = "qcow2", .backing = base, .backing_format = "raw" },
                          &err), 0);
    struct block *b = block_open_hooked(&(struct block_options){ .path = over }, NULL, &hook, &err);
    REQUIRE(b);
    CHECK_EQ(block_rebase(b, other, "raw", false, NULL, &err), -ENOSPC);
    CHECK(strstr(err.text, "disk is full"));
    CHECK_EQ(block_info(b, &info, &err), 0);
    CHECK(!strcmp(info.backing, name));
    block_info_free(&info);
    CHECK_EQ(block_rebase(b, other, "raw", false, NULL, &err), 0);
    u8 sector[512];
    CHECK_EQ(block_sync(b, BLOCK_READ, 0, sector, 512), 0);
    CHECK_EQ(sector[0], 1);
    CHECK_EQ(block_close(b, NULL), 0);
    unlink(other);
    clean();
}
