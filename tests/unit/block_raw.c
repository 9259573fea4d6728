/* SPDX-License-Identifier: Apache-2.0 */
/* block_raw - raw images by io_uring and by threads, with and without O_DIRECT: data, failures, sizes, the guard. */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/file.h"
#include "block_model.h"

static char path[64];

static const struct way {
    const char *io;
    enum block_cache cache;
    bool loop, misaligned; /* as if the host's disk had sectors of 4096 bytes */
} ways[] = {
    { "uring", BLOCK_WRITEBACK, true, false },  { "threads", BLOCK_WRITEBACK, true, false },
    { "uring", BLOCK_DIRECT, true, false },     { "threads", BLOCK_DIRECT, true, false },
    { "uring", BLOCK_DIRECT, true, true },      { "threads", BLOCK_DIRECT, true, true },
    { "uring", BLOCK_WRITEBACK, false, false }, { "threads", BLOCK_DIRECT, false, false },
};

static void fresh(u64 size)
{
    int fd;

    snprintf(path, sizeof(path), "/var/tmp/lodge-test-%d", getpid());
    unlink(path);
    fd = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, (off_t)size));
    close(fd);
}

static struct block *open_way(const struct way *w, struct loop *loop, struct block_hook *hook, enum block_format format)
{
    struct block_options o = { .path = path, .cache = w->cache, .discard = true, .format = format };
    struct error err = { "" };

    setenv("LODGE_BLOCK_IO", w->io, 1);
    struct block *b = block_open_hooked(&o, loop, hook, &err);
    if (!b) {
        printf("%s, cache %d: not here: %s\n", w->io, w->cache, err.text);
        if (!strstr(err.text, "io_uring cannot be used here") && !strstr(err.text, "cache=none"))
            test_fail(__FILE__, __LINE__, "%s", err.text);
    } else if (w->misaligned) {
        b->file->offset_align = b->file->memory_align = 4096;
    }
    return b;
}

static u64 seed(void)
{
    const char *s = getenv("LODGE_TEST_SEED");

    return s ? strtoull(s, NULL, 0) : 1;
}

TEST(random_requests)
{
    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        struct loop *loop = ways[i].loop ? loop_new() : NULL;
        struct model m;
        fresh(MiB(4) + 512 * 3);
        struct block *b = open_way(&ways[i], loop, NULL, BLOCK_RAW);
        if (!b)
            continue;
        model_new(&m, b, loop, seed());
        model_run(&m, 2000);
        model_compare(&m);
        m.depth = 1;
        model_run(&m, 500);
        model_compare(&m);
        struct block_stats s = block_stats(b);
        CHECK(s.requests[BLOCK_WRITE] > 500 && s.bytes[BLOCK_READ] > 512000 && s.syscalls > 0);
        CHECK_EQ(block_close(b, NULL), 0);
        b = open_way(&ways[i], loop, NULL, BLOCK_RAW);
        m.b = b;
        model_compare(&m);
        CHECK_EQ(block_close(b, NULL), 0);
        model_free(&m);
        loop_free(loop);
    }
    unlink(path);
}

/* ---- failures ---- */

struct failing {
    struct block_hook hook;
    int nth;
    enum file_op op;
    int result;
    int before, after; /* atomic */
};

static int fail_before(struct block_hook *h, const struct file_event *e)
{
    struct failing *f = container_of(h, struct failing, hook);

    __atomic_fetch_add(&f->before, 1, __ATOMIC_RELAXED);
    return e->op == f->op && f->nth && --f->nth == 0 ? f->result : 0;
}

static void fail_after(struct block_hook *h, const struct file_event *e, int result)
{
    __atomic_fetch_add(&container_of(h, struct failing, hook)->after, 1, __ATOMIC_RELAXED);
}

TEST(one_request_fails)
{
    static u8 buf[4096];

    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        struct failing f = { .hook = { fail_before, fail_after }, .op = FILE_WRITE, .result = -EIO };
        struct loop *loop = ways[i].loop ? loop_new() : NULL;
        struct model m;
        fresh(MiB(1));
        struct block *b = open_way(&ways[i], loop, &f.hook, BLOCK_RAW);
        if (!b)
            continue;
        model_new(&m, b, loop, seed());
        m.may_fail = -EIO;
        f.nth = 50;
        model_run(&m, 500);
        CHECK_EQ(m.failed, 1);
        CHECK_EQ(f.after, f.before - 1);
        m.may_fail = 0;
        model_compare(&m);
        /* After a flush that failed none may succeed: the kernel has forgotten what it could not write. */
        f.op = FILE_FLUSH;
        f.nth = 1;
        CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), -EIO);
        CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), -EIO);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
        struct error err;
        CHECK_EQ(block_close(b, &err), -EIO);
        CHECK(strstr(err.text, "may not be on the disk"));
        model_free(&m);
        loop_free(loop);
    }
    unlink(path);
}

TEST(no_room)
{
    static u8 buf[8192];
    struct rlimit old, small;

    getrlimit(RLIMIT_FSIZE, &old);
    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        struct loop *loop = ways[i].loop ? loop_new() : NULL;
        fresh(MiB(1));
        struct block *b = open_way(&ways[i], loop, NULL, BLOCK_RAW);
        if (!b)
            continue;
        small = (struct rlimit){ KiB(512), old.rlim_max };
        setrlimit(RLIMIT_FSIZE, &small);
        memset(buf, 7, sizeof(buf));
        CHECK_EQ(block_sync(b, BLOCK_WRITE, KiB(512), buf, 4096), -ENOSPC);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, KiB(512) - 4096, buf, 8192), -ENOSPC); /* half of it fits */
        CHECK_EQ(block_sync(b, BLOCK_WRITE, KiB(512) - 4096, buf, 4096), 0);
        setrlimit(RLIMIT_FSIZE, &old);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, KiB(512), buf, 4096), 0);
        CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), 0);
        CHECK_EQ(block_close(b, NULL), 0);
        loop_free(loop);
    }
    unlink(path);
}

TEST(requests_out_of_range)
{
    u8 buf[1024];

    fresh(4096);
    struct block *b = open_way(&ways[1], NULL, NULL, BLOCK_RAW);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_READ, 4096, buf, 512), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_READ, 3584, buf, 1024), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 1, buf, 512), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, buf, 100), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, UINT64_MAX - 511, buf, 1024), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_WRITE_ZEROES, 512, NULL, UINT64_MAX - 511), -EINVAL);
    CHECK_EQ(block_sync(b, BLOCK_READ, 4096, buf, 0), 0);
    CHECK_EQ(block_close(b, NULL), 0);
    struct block_options o = { .path = path, .readonly = true };
    b = block_open(&o, NULL, NULL);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, buf, 512), -EROFS);
    CHECK_EQ(block_sync(b, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
    CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(block_close(b, NULL), 0);
    unlink(path);
}

/* The last sector of a file that is no multiple of 512 bytes long. */
TEST(odd_end)
{
    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        u8 buf[1024], want[1024] = { 0 };
        struct stat st;
        struct loop *loop = ways[i].loop ? loop_new() : NULL;
        fresh(0);
        int fd = open(path, O_WRONLY);
        memset(want, 'x', 700);
        CHECK_EQ(write(fd, want, 700), 700);
        close(fd);
        struct block *b = open_way(&ways[i], loop, NULL, BLOCK_RAW);
        if (!b)
            continue;
        CHECK_EQ(block_size(b), 1024);
        memset(buf, 1, sizeof(buf));
        CHECK_EQ(block_sync(b, BLOCK_READ, 0, buf, 1024), 0);
        CHECK(!memcmp(buf, want, 1024));
        memset(buf, 1, sizeof(buf));
        CHECK_EQ(block_sync(b, BLOCK_READ, 512, buf, 512), 0);
        CHECK(!memcmp(buf, want + 512, 512));
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 512, want, 512), 0);
        CHECK_EQ(block_close(b, NULL), 0);
        CHECK(!stat(path, &st) && st.st_size == 1024);
        loop_free(loop);
    }
    unlink(path);
}

TEST(a_guess_of_raw_is_guarded)
{
    u8 buf[1024] = { 'Q', 'F', 'I', 0xfb };

    for (int known = 0; known < 2; known++) {
        fresh(4096);
        struct block *b = open_way(&ways[1], NULL, NULL, known ? BLOCK_RAW : BLOCK_AUTO);
        REQUIRE(b);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, buf, 1024), known ? 0 : -EPERM);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 512, buf, 512), 0); /* harmless there */
        buf[0] = 'R';
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, buf, 1024), 0);
        buf[0] = 'Q';
        CHECK_EQ(block_close(b, NULL), 0);
    }
    unlink(path);
}

TEST(holes_are_given_back)
{
    static u8 buf[65536];

    for (u32 i = 0; i < 4; i++) {
        struct loop *loop = loop_new();
        fresh(MiB(4));
        struct block *b = open_way(&ways[i], loop, NULL, BLOCK_RAW);
        if (!b)
            continue;
        memset(buf, 1, sizeof(buf));
        for (u64 at = 0; at < MiB(4); at += sizeof(buf))
            CHECK_EQ(block_sync(b, BLOCK_WRITE, at, buf, sizeof(buf)), 0);
        CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), 0);
        u64 full = file_allocated(b->file);
        CHECK_EQ(block_sync(b, BLOCK_DISCARD, MiB(1), NULL, MiB(1)), 0);
        struct block_request rq = { .op = BLOCK_DISCARD, .offset = MiB(2) + 512, .len = 1024 }; /* less than a block */
        CHECK_EQ(block_sync(b, rq.op, rq.offset, NULL, rq.len), 0);
        u64 less = file_allocated(b->file);
        if (full - less < MiB(1) / 2)
            printf("discard freed %llu of %llu bytes: this file system has no holes?\n", (unsigned long long)(full - less),
                   (unsigned long long)full);
        CHECK(less <= full);
        CHECK_EQ(block_sync(b, BLOCK_WRITE_ZEROES, MiB(3) + 512, NULL, 1024), 0);
        CHECK_EQ(block_sync(b, BLOCK_READ, MiB(3), buf, 2048), 0);
        CHECK(buf[511] == 1 && buf[512] == 0 && buf[1535] == 0 && buf[1536] == 1);
        u64 len = MiB(4);
        enum block_map what;
        CHECK_EQ(block_map(b, MiB(1), &len, &what), 0);
        if (less < full)
            CHECK(what == BLOCK_MAP_ZERO && len == MiB(1));
        CHECK_EQ(block_close(b, NULL), 0);
        loop_free(loop);
    }
    unlink(path);
}

TEST(what_cannot_be_opened_says_why)
{
    struct error err = { "" };
    struct block_options o = { .path = "/nowhere/at/all" };

    unsetenv("LODGE_BLOCK_IO");
    CHECK(!block_open(&o, NULL, &err));
    CHECK(strstr(err.text, "/nowhere/at/all: there is no such file"));
    o.path = "/tmp";
    CHECK(!block_open(&o, NULL, &err) && strstr(err.text, "/tmp"));
    o.path = "/dev/null";
    CHECK(!block_open(&o, NULL, &err) && strstr(err.text, "not a file or a block device"));
    fresh(0);
    unlink(path);
    CHECK(!mkfifo(path, 0600));
    o.path = path;
    o.readonly = true;
    CHECK(!block_open(&o, NULL, &err) && strstr(err.text, "not a file")); /* and does not wait for a writer */
    unlink(path);
    fresh(512);
    setenv("LODGE_BLOCK_IO", "magic", 1);
    CHECK(!block_open(&o, NULL, &err) && strstr(err.text, "LODGE_BLOCK_IO"));
    unsetenv("LODGE_BLOCK_IO");
    unlink(path);
}
