/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_chain.c - overlays over raw images and NBD, whose base stays as it was; which backing files are followed; a ring
 * that is refused.
 */
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

/* ---- which backing files are followed ---- */

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static u32 n;
    char *p = path[n++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

/* An image `name` that says it lies over `backing`, whatever that is. */
static void make_over(const char *name, const char *backing, const char *format)
{
    struct block_create c = { .path = in_dir(name), .format = "qcow2", .size = MiB(1), .backing = backing,
                              .backing_format = format, .unchecked = true, .overwrite = true };
    struct error err = { "" };

    if (block_create(&c, &err))
        test_fail(__FILE__, __LINE__, "%s", err.text);
}

/* "": it opens; else what the refusal says. */
static void opens(int line, const char *name, const char *more, const char *store, const char *says)
{
    struct block_options o = { .path = in_dir(name), .readonly = true, .follow = { more, store } };
    struct error err = { "" };
    struct block *b = block_open(&o, NULL, &err);

    if (*says ? b || !strstr(err.text, says) : !b)
        test_fail(__FILE__, line, "%s, backing=%s: %s", name, more ? more : "", b ? "is followed" : err.text);
    if (b)
        block_close(b, NULL);
}
#define OPENS(...) opens(__LINE__, __VA_ARGS__)

static void touch(const char *name)
{
    int fd = open(in_dir(name), O_CREAT | O_RDWR, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, MiB(1)));
    close(fd);
}

static const char outside[] = "which is not in its own folder", irregular[] = "which is no regular file";
static char home[96], foreign[96]; /* the image's folder, and a foreign one */

static void make_folders(void)
{
    fresh(MiB(1));
    snprintf(home, sizeof(home), "%s/home", dir);
    snprintf(foreign, sizeof(foreign), "%s/other", dir);
    mkdir(home, 0700);
    mkdir(foreign, 0700);
    mkdir(in_dir("home/sub"), 0700);
    mkdir(in_dir("home/.ssh"), 0700);
    touch("other/secret");
    touch("home/base.raw");
    touch("home/sub/base.raw");
    touch("home/.ssh/id_ed25519");
    touch("home/.netrc");
    CHECK(!symlink("../other/secret", in_dir("home/bent")) && !symlink("sub/base.raw", in_dir("home/straight")));
    CHECK(!symlink("../other", in_dir("home/bentdir")) && !mkfifo(in_dir("home/fifo"), 0600));
}

static void remove_folders(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    CHECK(!system(command));
}

/* In its folder and below, by whatever name, but for what is hidden. */
static void check_inside(void)
{
    make_over("home/o.qcow2", "base.raw", "raw");
    OPENS("home/o.qcow2", NULL, NULL, "");
    make_over("home/o.qcow2", in_dir("home/sub/base.raw"), "raw");
    OPENS("home/o.qcow2", NULL, NULL, "");
    CHECK(!symlink("home/o.qcow2", in_dir("link.qcow2")));
    OPENS("link.qcow2", NULL, NULL, "");
    OPENS("home/o.qcow2", "none", NULL, "none is to be followed");
    make_over("home/o.qcow2", "straight", "raw");
    OPENS("home/o.qcow2", NULL, NULL, "");
    make_over("home/o.qcow2", ".ssh/id_ed25519", "raw");
    OPENS("home/o.qcow2", NULL, NULL, outside);
    make_over("home/o.qcow2", ".netrc", "raw");
    OPENS("home/o.qcow2", NULL, NULL, outside);
}

/* Outside, by all ways there. */
static void check_outside(void)
{
    static const char *const ways[] = { "../other/secret", "bent", "bentdir/secret", "sub/../../other/secret", NULL };

    make_over("home/o.qcow2", "/etc/passwd", "raw");
    OPENS("home/o.qcow2", NULL, NULL, outside);
    OPENS("home/o.qcow2", NULL, NULL, "say so with backing");
    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        make_over("home/o.qcow2", ways[i] ? ways[i] : in_dir("other/secret"), "raw");
        OPENS("home/o.qcow2", NULL, NULL, outside);
        OPENS("home/o.qcow2", home, NULL, outside);
        OPENS("home/o.qcow2", foreign, NULL, "");
        OPENS("home/o.qcow2", NULL, foreign, "");
        OPENS("home/o.qcow2", "any", NULL, "");
        OPENS("home/o.qcow2", "none", foreign, "none is to be followed");
    }
    /* A folder whose name is only the beginning of the file's. */
    mkdir(in_dir("oth"), 0700);
    OPENS("home/o.qcow2", in_dir("oth"), NULL, outside);
}

/* What is no file: not opened, let alone waited for. */
static void check_no_files(void)
{
    make_over("home/o.qcow2", "fifo", "raw");
    OPENS("home/o.qcow2", NULL, NULL, irregular);
    make_over("home/o.qcow2", "/dev/zero", "raw");
    OPENS("home/o.qcow2", NULL, NULL, outside);
    OPENS("home/o.qcow2", "/dev", NULL, irregular);
    OPENS("home/o.qcow2", "any", NULL, "not a file or a block device");
    make_over("home/o.qcow2", "nbd+unix:///?socket=/nowhere", "raw");
    OPENS("home/o.qcow2", NULL, NULL, "which is on a server");
    OPENS("home/o.qcow2", "/", NULL, "which is on a server");
    make_over("home/o.qcow2", "gone.raw", "raw");
    OPENS("home/o.qcow2", NULL, NULL, "there is no such file");
}

/* Each link by the folder of the one that names it; how long the chain is does not cut the option off. */
static void check_chain(void)
{
    make_over("home/o.qcow2", "sub/middle.qcow2", "qcow2");
    make_over("home/sub/middle.qcow2", "base.raw", "raw");
    OPENS("home/o.qcow2", NULL, NULL, "");
    make_over("home/sub/middle.qcow2", "../base.raw", "raw");
    OPENS("home/o.qcow2", NULL, NULL, outside);
    OPENS("home/o.qcow2", NULL, NULL, "say so with backing");
    OPENS("home/o.qcow2", home, NULL, "");
}

/* Overlays that we make are over what the user named; what that names is judged. */
static void check_overlay(void)
{
    struct block_options o = { .path = in_dir("other/secret"), .overlay = in_dir("home/made.qcow2") };
    struct error err = { "" };
    struct block *b = block_open(&o, NULL, &err);

    CHECK(b);
    if (b)
        block_close(b, NULL);
    OPENS("home/made.qcow2", NULL, NULL, outside);
    o = (struct block_options){ .path = in_dir("home/made.qcow2"), .overlay = "" };
    CHECK(!block_open(&o, NULL, &err) && strstr(err.text, outside));
}

/* Into the store of images nothing is written, unless the user says so. */
static void check_store(void)
{
    make_over("home/o.qcow2", in_dir("other/secret"), "raw");
    struct block_options o = { .path = in_dir("home/o.qcow2"), .follow.store = foreign };
    struct error err = { "" };
    struct block *b = block_open(&o, NULL, &err);

    CHECK(b && block_commit(b, NULL, &err) && strstr(err.text, outside));
    if (b)
        block_close(b, NULL);
    o.follow.more = foreign;
    b = block_open(&o, NULL, &err);
    CHECK(b && !block_commit(b, NULL, &err));
    if (b)
        block_close(b, NULL);
}

TEST(followed)
{
    make_folders();
    check_inside();
    check_outside();
    check_no_files();
    check_chain();
    check_overlay();
    check_store();
    remove_folders();
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
