/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_qcow2 - qcow2 on real files and real threads, what is refused and how, what the header must keep, images that are
 * dirty or damaged. Consistency after power cuts is block_qcow2_model's, damaged images in masses fuzz_qcow2's.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/qcow2.h"
#include "block_model.h"

static char path[64], below[64];

static void fresh(u64 size, u32 cluster, bool v2, const char *backing)
{
    struct error err = { "" };

    snprintf(path, sizeof(path), "/var/tmp/lodge-qcow2-%d", getpid());
    unlink(path);
    struct block_create t = { .path = path, .format = "qcow2", .size = size, .cluster_size = cluster, .v2 = v2,
                              .backing = backing };
    if (block_create(&t, &err))
        test_fail(__FILE__, __LINE__, "%s", err.text);
}

static struct block *open_it(bool readonly, struct error *err)
{
    struct block_options o = { .path = path, .discard = true, .readonly = readonly };
    return block_open(&o, NULL, err);
}

static void poke(u64 at, const void *bytes, u32 n)
{
    int fd = open(path, O_RDWR);
    CHECK(pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n);
    close(fd);
}

static void poke64(u64 at, u64 v)
{
    u8 b[8];
    put64(b, v);
    poke(at, b, 8);
}

static u64 peek64(u64 at)
{
    u8 b[8] = { 0 };
    int fd = open(path, O_RDONLY);
    CHECK(pread(fd, b, 8, (off_t)at) == 8);
    close(fd);
    return get64(b);
}

static void sound(const char *what)
{
    struct error err = { "" };
    struct block_check c = { 0 };
    struct block *b = open_it(true, &err);

    if (!b || block_check(b, BLOCK_REPAIR_NONE, &c, &err))
        test_fail(__FILE__, __LINE__, "%s: %s", what, err.text);
    if (c.errors || c.leaks)
        test_fail(__FILE__, __LINE__, "%s: %llu errors, %llu leaks", what, (unsigned long long)c.errors,
                  (unsigned long long)c.leaks);
    if (b)
        block_close(b, NULL);
}

static const struct way {
    const char *io;
    enum block_cache cache;
    u32 cluster;
    bool loop, v2, backing;
} ways[] = {
    { "uring", BLOCK_WRITEBACK, 65536, true, false, false },  { "uring", BLOCK_DIRECT, 65536, true, false, true },
    { "threads", BLOCK_WRITEBACK, 4096, true, false, true },  { "threads", BLOCK_DIRECT, 4096, true, true, false },
    { "uring", BLOCK_DIRECT, 512, true, false, true },        { "uring", BLOCK_WRITEBACK, 2048, true, true, true },
    { "threads", BLOCK_WRITEBACK, 512, false, false, false }, { "uring", BLOCK_DIRECT, 2 << 20, true, false, true },
};

TEST(random_requests)
{
    u64 size = MiB(6) + 512 * 3;
    u8 *content = calloc(1, size);

    snprintf(below, sizeof(below), "/var/tmp/lodge-below-%d", getpid());
    for (u64 i = 0; i < size; i++)
        content[i] = (u8)(i / 512 * 7 + i % 13);
    for (u32 i = 0; i < ARRAY_SIZE(ways); i++) {
        const struct way *w = &ways[i];
        struct error err = { "" };
        struct loop *loop = w->loop ? loop_new() : NULL;
        struct model m;
        u64 there = size - MiB(1);

        int fd = open(below, O_CREAT | O_TRUNC | O_RDWR, 0600);
        REQUIRE(fd >= 0 && pwrite(fd, content, there, 0) == (ssize_t)there);
        close(fd);
        fresh(size, w->cluster, w->v2, w->backing ? below : NULL);
        setenv("LODGE_BLOCK_IO", w->io, 1);
        struct block_options o = { .path = path, .discard = true, .cache = w->cache };
        struct block *b = block_open(&o, loop, &err);
        if (!b) {
            printf("%s, cache %d: not here: %s\n", w->io, w->cache, err.text);
            continue;
        }
        const char *seed = getenv("LODGE_TEST_SEED");
        model_new(&m, b, loop, seed ? strtoull(seed, NULL, 0) : i + 1);
        if (w->backing)
            memcpy(m.shadow, content, align_down(there, 512));
        model_run(&m, 2500);
        model_compare(&m);
        CHECK_EQ(block_close(b, NULL), 0);
        sound(w->io);
        b = m.b = block_open(&o, loop, &err);
        REQUIRE(b);
        model_compare(&m);
        model_run(&m, 500);
        CHECK_EQ(block_close(b, NULL), 0);
        sound(w->io);
        model_free(&m);
        if (loop)
            loop_free(loop);
    }
    unsetenv("LODGE_BLOCK_IO");
    unlink(path);
    unlink(below);
    free(content);
}

static void refused(const char *text)
{
    struct error err = { "" };
    struct block *b = open_it(false, &err);

    if (b)
        block_close(b, NULL);
    if (b || !strstr(err.text, text))
        test_fail(__FILE__, __LINE__, "\"%s\" is not in \"%s\"", text, b ? "(it opens)" : err.text);
    fresh(MiB(1), 4096, false, NULL);
}

TEST(refused_in_words)
{
    fresh(MiB(1), 4096, false, NULL);
    poke64(0, (u64)QCOW2_MAGIC << 32 | 4);
    refused("version 4");
    poke64(H_INCOMPATIBLE, BIT(2));
    refused("data_file");
    poke64(H_INCOMPATIBLE, BIT(4));
    refused("extended L2");
    poke64(H_INCOMPATIBLE, BIT(17));
    refused("incompatible bit 17");
    /* with a name for it */
    poke64(H_INCOMPATIBLE, BIT(3));
    refused("compress");
    u8 names[8 + 48 + 8] = { 0x68, 0x03, 0xf8, 0x57, 0, 0, 0, 48, 0, 33, 'w', 'a', 'r', 'p', ' ', 'f', 'i', 'e', 'l', 'd' };
    poke(112, names, sizeof(names));
    poke64(H_INCOMPATIBLE, BIT(33));
    refused("warp field");
    poke64(H_CRYPT, 2ull << 32 | 1);
    refused("encrypted");
    poke64(H_L1_OFFSET, GiB(1));
    refused("L1 table is not within");
    poke64(H_L1_OFFSET, 4096 * 3 + 8);
    refused("L1 table is not within");
    poke64(H_SIZE, (u64)1 << 62);
    refused("too small for its size");
    poke64(H_REFTABLE_CLUSTERS, (u64)4096 << 32);
    refused("refcount table");
    poke64(H_REFTABLE_CLUSTERS, (u64)1 << 32 | 70000);
    refused("snapshot");
    poke64(H_INCOMPATIBLE, BIT(1));
    refused("marked as damaged");
    unlink(path);
}

/* Unknown bits and extensions: kept if they are compatible, cleared if the format says so. */
TEST(kept_and_cleared)
{
    struct error err = { "" };
    u8 ext[32] = { 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 11, 'h', 'e', 'l', 'l', 'o', ' ', 'w', 'o', 'r', 'l', 'd' }, got[4096];

    fresh(MiB(1), 4096, false, NULL);
    poke(112, ext, sizeof(ext));
    poke64(H_COMPATIBLE, BIT(40));
    poke64(H_AUTOCLEAR, BIT(50) | AUTOCLEAR_BITMAPS);
    struct block *b = open_it(true, &err);
    REQUIRE(b);
    block_close(b, NULL);
    CHECK_EQ(peek64(H_AUTOCLEAR), BIT(50) | AUTOCLEAR_BITMAPS);
    b = open_it(false, &err);
    REQUIRE(b);
    CHECK_EQ(qcow2_set_backing(b, "some/where", "raw", &err), 0);
    block_close(b, NULL);
    CHECK_EQ(peek64(H_COMPATIBLE), BIT(40));
    CHECK_EQ(peek64(H_AUTOCLEAR), 0);
    int fd = open(path, O_RDONLY);
    CHECK(pread(fd, got, sizeof(got), 0) == sizeof(got));
    close(fd);
    CHECK(memmem(got, sizeof(got), ext, 19));
    CHECK(memmem(got, sizeof(got), "\xe2\x79\x2a\xca\0\0\0\3raw", 11));
    CHECK(!memcmp(got + get64(got + H_BACKING_OFFSET), "some/where", 10));
    unlink(path);
}

/* Names of any length one after the other, with and without a format before them: the extensions have their end, and it
   is before the name. */
TEST(backing_names)
{
    static const u16 lengths[] = { 8, 150, 200, 230, 260, 300, 999 };
    struct error err = { "" };
    u8 h[4096];

    for (u32 i = 0; i < 2 * ARRAY_SIZE(lengths) * ARRAY_SIZE(lengths); i++) {
        char name[2][1024] = { "", "" };
        fresh(MiB(1), 4096, false, NULL);
        struct block *b = open_it(false, &err);
        REQUIRE(b);
        for (u32 k = 0; k < 2; k++) {
            memset(name[k], 'a' + (int)k, lengths[(k ? i : i / ARRAY_SIZE(lengths)) % ARRAY_SIZE(lengths)]);
            const bool first = i < ARRAY_SIZE(lengths) * ARRAY_SIZE(lengths);
            CHECK_EQ(qcow2_set_backing(b, name[k], first == (k == 0) ? NULL : "raw", &err), 0);
        }
        CHECK_EQ(block_close(b, NULL), 0);
        int fd = open(path, O_RDONLY);
        CHECK(pread(fd, h, sizeof(h), 0) == sizeof(h));
        close(fd);
        u64 at = get32(h + H_LENGTH), end = get64(h + H_BACKING_OFFSET);
        while (at + 8 <= end && get32(h + at))
            at += 8 + align_up(get32(h + at + 4), 8);
        CHECK(at + 8 <= end && !get64(h + at));
        CHECK_EQ(get32(h + H_BACKING_SIZE), strlen(name[1]));
        CHECK(!memcmp(h + end, name[1], strlen(name[1])));
    }
    unlink(path);
}

/* A million entries for one refcount block, of 16 million counts each: to look at them all would take years. */
TEST(a_check_ends)
{
    struct block_check c = { 0 };
    struct error err = { "" };
    static u8 table[MiB(8)];
    u8 n[4];

    fresh(MiB(200), 2 << 20, false, NULL);
    u64 block = peek64(peek64(H_REFTABLE_OFFSET));
    for (u32 i = 0; i < sizeof(table); i += 8)
        put64(table + i, block);
    poke(MiB(100), table, sizeof(table));
    poke64(H_REFTABLE_OFFSET, MiB(100));
    put32(n, 4);
    poke(H_REFTABLE_CLUSTERS, n, 4);
    put32(n, 0);
    poke(H_REFCOUNT_ORDER, n, 4);
    struct block *b = block_open_tool(&(struct block_options){ .path = path }, BLOCK_DAMAGED, &err);
    REQUIRE(b);
    CHECK_EQ(block_check(b, BLOCK_REPAIR_NONE, &c, &err), 0);
    CHECK(c.errors);
    CHECK_EQ(block_check(b, BLOCK_REPAIR_ALL, &c, &err), 0);
    CHECK_EQ(block_close(b, NULL), 0);
    sound("after the repair");
    unlink(path);
}

/* As a shrinking leaves it whose process was killed at its end: what is behind the end is not seen again. */
TEST(grown_is_zero)
{
    struct error err = { "" };
    static u8 data[MiB(1)];

    for (int v2 = 0; v2 < 2; v2++) {
        fresh(MiB(1), 4096, v2, NULL);
        struct block *b = open_it(false, &err);
        REQUIRE(b);
        memset(data, 0x5a, sizeof(data));
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
        block_close(b, NULL);
        poke64(H_SIZE, KiB(514));
        b = open_it(false, &err);
        REQUIRE(b);
        CHECK_EQ(block_resize(b, MiB(1), false, &err), 0);
        CHECK_EQ(block_sync(b, BLOCK_READ, 0, data, sizeof(data)), 0);
        u32 wrong = 0;
        for (u32 i = 0; i < sizeof(data); i++)
            wrong += data[i] != (i < KiB(514) ? 0x5a : 0);
        CHECK_EQ(wrong, 0);
        block_close(b, NULL);
        sound("after it has grown");
    }
    unlink(path);
}

static void zero_refcounts(void)
{
    u8 zeroes[4096] = { 0 };
    poke(peek64(peek64(H_REFTABLE_OFFSET)), zeroes, sizeof(zeroes));
}

TEST(dirty_is_repaired_first)
{
    struct error err = { "" };
    u8 data[8192], got[8192];

    fresh(MiB(1), 4096, false, NULL);
    memset(data, 0x77, sizeof(data));
    struct block *b = open_it(false, &err);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 16384, data, sizeof(data)), 0);
    block_close(b, NULL);
    zero_refcounts();
    poke64(H_INCOMPATIBLE, INCOMPATIBLE_DIRTY);
    b = open_it(true, &err);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_READ, 16384, got, sizeof(got)), 0);
    block_close(b, NULL);
    CHECK_EQ(peek64(H_INCOMPATIBLE), INCOMPATIBLE_DIRTY);
    b = open_it(false, &err);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_READ, 16384, got, sizeof(got)), 0);
    CHECK(!memcmp(data, got, sizeof(data)));
    block_close(b, NULL);
    CHECK_EQ(peek64(H_INCOMPATIBLE), 0);
    sound("after the dirty bit");
    unlink(path);
}

/* A cluster that the image says is data, but is the L1 table, the refcounts or the header. */
TEST(tables_are_not_overwritten)
{
    struct error err = { "" };
    u8 data[4096], header[512], got[512];

    memset(data, 0x77, sizeof(data));
    for (u32 i = 0; i < 4; i++) {
        fresh(MiB(1), 4096, false, NULL);
        struct block *b = open_it(false, &err);
        REQUIRE(b);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
        block_close(b, NULL);
        u64 l1 = peek64(H_L1_OFFSET), l2 = peek64(l1) & ENTRY_OFFSET, reftable = peek64(H_REFTABLE_OFFSET);
        u64 at = (u64[]){ reftable, l1, peek64(reftable), l2 }[i];
        poke64(l2, at | ENTRY_COPIED);
        int fd = open(path, O_RDWR);
        CHECK(pread(fd, header, sizeof(header), (off_t)at) == sizeof(header));
        b = open_it(false, &err);
        REQUIRE(b);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), -EIO);
        CHECK_EQ(block_sync(b, BLOCK_WRITE, 65536, data, sizeof(data)), -EIO);
        CHECK_EQ(block_sync(b, BLOCK_READ, 65536, data, sizeof(data)), 0);
        (void)!block_close(b, NULL);
        memset(data, 0x77, sizeof(data));
        CHECK(pread(fd, got, sizeof(got), (off_t)at) == sizeof(got) && !memcmp(header, got, sizeof(got)));
        close(fd);
        CHECK_EQ(peek64(H_INCOMPATIBLE), INCOMPATIBLE_CORRUPT);
    }
    /* a table counted as free is not given away */
    fresh(MiB(1), 4096, false, NULL);
    zero_refcounts();
    struct block *b = open_it(false, &err);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), -EIO);
    (void)!block_close(b, NULL);
    struct block_check c = { 0 };
    struct block_options o = { .path = path };
    b = block_open_tool(&o, BLOCK_DAMAGED, &err);
    REQUIRE(b);
    CHECK_EQ(block_check(b, BLOCK_REPAIR_ALL, &c, &err), 0);
    CHECK(c.errors == 0 && c.errors_fixed > 0);
    block_close(b, NULL);
    sound("after repair");
    b = open_it(false, &err);
    REQUIRE(b);
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    CHECK_EQ(block_close(b, NULL), 0);
    unlink(path);
}

/* Writing in a row costs no flush of its own, and one flush of the guest few of the host. */
struct counting {
    struct block_hook hook;
    u32 flushes, writes;
};

static int count(struct block_hook *h, const struct file_event *e)
{
    struct counting *c = container_of(h, struct counting, hook);
    __atomic_fetch_add(e->op == FILE_FLUSH ? &c->flushes : &c->writes, e->op == FILE_FLUSH || e->op == FILE_WRITE,
                       __ATOMIC_RELAXED);
    return 0;
}

TEST(few_flushes)
{
    static u8 data[MiB(1)];
    struct counting c = { .hook = { .before = count } };
    struct error err = { "" };

    fresh(MiB(256), 65536, false, NULL);
    struct block_options o = { .path = path };
    struct block *b = block_open_hooked(&o, NULL, &c.hook, &err);
    REQUIRE(b);
    c.flushes = c.writes = 0;
    for (u32 i = 0; i < 128; i++)
        CHECK_EQ(block_sync(b, BLOCK_WRITE, MiB(i), data, sizeof(data)), 0);
    CHECK_EQ(c.flushes, 0);
    CHECK(c.writes <= 130);
    CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(c.flushes, 2); /* data and counts; then tables */
    CHECK_EQ(block_sync(b, BLOCK_WRITE, 0, data, sizeof(data)), 0);
    CHECK_EQ(block_sync(b, BLOCK_FLUSH, 0, NULL, 0), 0);
    CHECK_EQ(c.flushes, 3);
    CHECK_EQ(block_close(b, NULL), 0);
    unlink(path);
}

/* ---- images made to keep us: their work is bounded by what is in the file, not by what they say ---- */

struct reading {
    struct block_hook hook;
    u64 bytes;
};

static int count_reads(struct block_hook *h, const struct file_event *e)
{
    struct reading *r = container_of(h, struct reading, hook);

    /* Far from all that it names, and far above what is there. */
    return e->op == FILE_READ && (r->bytes += e->len) > MiB(256) ? -EIO : 0;
}

/* A file that is nearly all hole: a dirty image, whose tables are read before it is used. */
TEST(tables_in_holes_are_not_read)
{
    enum { N = 1 << 14 };
    struct reading reading = { .hook = { .before = count_reads } };
    struct error err = { "" };
    u64 *l1 = malloc(N * 8);

    REQUIRE(l1);
    fresh(MiB(1), 65536, false, NULL);
    for (u64 i = 0; i < N; i++)
        l1[i] = htobe64(BIT(63) | (GiB(1) + i * 65536));
    poke64(H_SIZE, N * MiB(512));
    poke64(H_CRYPT, N);
    poke64(H_L1_OFFSET, MiB(64));
    poke64(H_INCOMPATIBLE, INCOMPATIBLE_DIRTY);
    poke(MiB(64), l1, N * 8);
    CHECK_EQ(truncate(path, (off_t)(GiB(1) + N * 65536ull)), 0);
    struct block_options o = { .path = path };
    struct block *b = block_open_hooked(&o, NULL, &reading.hook, &err);
    if (!b)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    if (b)
        CHECK_EQ(block_close(b, NULL), 0);
    CHECK(reading.bytes < MiB(64));
    sound("a dirty image in a hole");
    free(l1);
    unlink(path);
}

TEST(snapshots_share_no_l1_table)
{
    struct error err = { "" };
    u8 entry[2][56] = { { 0 } };

    fresh(MiB(1), 65536, false, NULL);
    for (u32 i = 0; i < 2; i++) {
        put64(entry[i], MiB(1) + i * 65536);
        put32(entry[i] + 8, 8192);
        put32(entry[i] + 36, 16);
        put64(entry[i] + 48, MiB(1));
    }
    poke(MiB(2), entry, sizeof(entry));
    poke64(H_NB_SNAPSHOTS, 2ull << 32 | 0);
    poke64(H_SNAPSHOTS_OFFSET, MiB(2));
    CHECK_EQ(truncate(path, MiB(4)), 0);
    struct block *b = open_it(true, &err);
    if (!b)
        test_fail(__FILE__, __LINE__, "%s", err.text);
    if (b)
        block_close(b, NULL);
    put64(entry[1], MiB(1)); /* of 64 KiB each */
    poke(MiB(2), entry, sizeof(entry));
    poke64(H_NB_SNAPSHOTS, 2ull << 32 | 0);
    poke64(H_SNAPSHOTS_OFFSET, MiB(2));
    CHECK(!open_it(false, &err) && strstr(err.text, "lie over one another"));
    /* A repair gives each its own. */
    struct block_check c = { 0 };
    b = block_open_tool(&(struct block_options){ .path = path }, BLOCK_DAMAGED, &err);
    REQUIRE(b);
    CHECK_EQ(block_check(b, BLOCK_REPAIR_NONE, &c, &err), 0);
    CHECK(c.errors);
    CHECK_EQ(block_check(b, BLOCK_REPAIR_ALL, &c, &err), 0);
    CHECK(c.errors == 0 && c.errors_fixed > 0);
    CHECK_EQ(block_close(b, NULL), 0);
    sound("snapshots that shared an L1 table");
    unlink(path);
}

/* Images over images: each of them may have 32 MiB of L1 table, and there may be 64. */
TEST(a_chain_is_bounded)
{
    struct error err = { "" };
    char name[96], dir[40];
    int depth = 0;

    snprintf(dir, sizeof(dir), "/var/tmp/lodge-chain-of-%d", getpid());
    mkdir(dir, 0700);
    for (int i = 0; i < 70; i++) { /* each over the one before, and the L1 table as large as may be, all hole */
        char below_it[32];
        snprintf(name, sizeof(name), "%s/%d", dir, i);
        snprintf(below_it, sizeof(below_it), "%d", i - 1);
        struct block_create t = { .path = name, .format = "qcow2", .size = MiB(1), .backing = i ? below_it : NULL,
                                  .backing_format = i ? "qcow2" : NULL, .unchecked = true };
        REQUIRE(!block_create(&t, &err));
    }
    struct block *b = block_open(&(struct block_options){ .path = name, .readonly = true }, NULL, &err);
    CHECK(!b && strstr(err.text, "longer than 64"));
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof(path), "%.39s/%d", dir, i);
        poke64(H_CRYPT, QCOW2_MAX_L1 / 8);
        poke64(H_L1_OFFSET, MiB(64));
        CHECK_EQ(truncate(path, MiB(128)), 0);
        b = block_open(&(struct block_options){ .path = path, .readonly = true }, NULL, &err);
        depth += b != NULL;
        if (b)
            block_close(b, NULL);
    }
    CHECK_EQ(depth, 4);
    CHECK(strstr(err.text, "more than 128 MiB together"));
    char command[96];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    CHECK_EQ(system(command), 0);
}
