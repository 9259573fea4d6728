/* SPDX-License-Identifier: Apache-2.0 */
/* memory_memory.c - regions, checked access across their edges, read-only ones, the dirty log; what is seen where, and
   that it changes. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "memory/memory.h"
#include "test.h"

static struct memory *two_regions(void)
{
    struct memory *m = memory_new(NULL);
    CHECK_EQ(memory_add(m, "high", 0x10000, 0x4000, false, NULL), 0);
    CHECK_EQ(memory_add(m, "ram", 0, 0x10000, false, NULL), 0);
    CHECK_EQ(memory_add(m, "rom", 0x20000, 0x1000, true, NULL), 0);
    return m;
}

TEST(regions_are_disjoint)
{
    struct memory *m = two_regions();
    CHECK_EQ(m->nregions, 3);
    CHECK_EQ(m->region[0].gpa, 0); /* the largest */
    CHECK_EQ(m->top, 0x21000);
    CHECK_EQ(memory_add(m, "x", 0x13000, 0x1000, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", 0x13000, 0x2000, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", 0x1f000, 0x2000, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", 0x30001, 0x1000, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", 0x30000, 0, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", ~0xfffull, 0x2000, false, NULL), -EINVAL);
    CHECK_EQ(memory_add(m, "x", 0x14000, 0xc000, false, NULL), 0);
    memory_free(m);
}

/* A helper process that has the descriptor cannot take memory away under us. */
TEST(its_file_cannot_shrink)
{
    struct memory *m = two_regions();
    CHECK_EQ(ftruncate(m->fd, 0), -1);
    CHECK_EQ(errno, EPERM);
    CHECK_EQ(memory_add(m, "more", 0x100000, 0x10000, false, NULL), 0);
    memory_free(m);
}

TEST(more_than_the_host_has_is_refused_in_words)
{
    struct memory *m = memory_new(NULL);
    struct error e = { "" };
    CHECK_EQ(memory_add(m, "ram", 0, 1ull << 50, false, &e), -E2BIG);
    CHECK(strstr(e.text, "more than this host has"));
    memory_free(m);
}

TEST(access_is_checked)
{
    struct memory *m = two_regions();
    u8 buf[32], back[32];
    memset(buf, 0x5a, sizeof buf);
    CHECK_EQ(memory_write(m, 0xfff0, buf, 32), 0); /* across two adjoining regions */
    CHECK_EQ(memory_read(m, 0xfff0, back, 32), 0);
    CHECK_EQ(memcmp(buf, back, 32), 0);
    CHECK_EQ(memory_write(m, 0x13ff0, buf, 32), -EFAULT); /* off the end: nothing is written */
    CHECK_EQ(memory_read(m, 0x13ff0, back, 16), 0);
    CHECK_EQ(back[0], 0);
    CHECK_EQ(memory_read(m, UINT64_MAX - 4, back, 16), -EFAULT);
    CHECK_EQ(memory_read(m, 0, back, UINT64_MAX), -EFAULT);
    CHECK_EQ(memory_write(m, 0x20000, buf, 1), -EROFS);
    CHECK_EQ(memory_load(m, 0x20000, buf, 1), 0);
    CHECK(memory_ptr(m, 0xfff0, 0x10, true));
    CHECK(!memory_ptr(m, 0xfff0, 0x11, true));
    CHECK(!memory_ptr(m, 0xfff0, UINT64_MAX, false));
    CHECK(!memory_ptr(m, 0x20000, 1, true));
    CHECK(memory_ptr(m, 0x20000, 1, false));
    CHECK(!memory_ptr(m, 0x21000, 1, false));
    struct memory_region r;
    CHECK(!memory_find(m, 0x14000, &r));
    memory_free(m);
}

TEST(writes_are_logged)
{
    struct memory *m = two_regions();
    u64 bits[1];
    const struct memory_piece *ram = &m->piece[1];
    memory_dirty_take(m, ram, bits);
    CHECK_EQ(memory_write(m, 0x1ffe, "abcd", 4), 0);
    CHECK(memory_ptr(m, 0x5000, 1, true));
    CHECK(memory_ptr(m, 0x6000, 1, false));
    memory_dirty_take(m, ram, bits);
    CHECK_EQ(bits[0], 1ull << 1 | 1ull << 2 | 1ull << 5);
    memory_dirty_take(m, ram, bits);
    CHECK_EQ(bits[0], 0);
    memory_free(m);
}

/* ---- what is seen where ------------------------------------------------- */

static struct memory_region told[2];
static unsigned tells;
static void tell(void *ctx, const struct memory_region *was, const struct memory_region *now)
{
    told[0] = was ? *was : (struct memory_region){ 0 };
    told[1] = now ? *now : (struct memory_region){ 0 };
    tells++;
}

static u8 byte_at(struct memory *m, u64 gpa)
{
    u8 b = 0xff;
    CHECK_EQ(memory_read(m, gpa, &b, 1), 0);
    return b;
}

TEST(pieces_are_mapped_moved_and_unmapped)
{
    struct memory *m = memory_new(NULL);
    struct memory_piece *ram, *rom;
    struct memory_region r;
    CHECK_EQ(memory_piece(m, &ram, "ram", 0x20000, false, NULL), 0);
    CHECK_EQ(memory_piece(m, &rom, "rom", 0x8001, true, NULL), 0);
    CHECK_EQ(rom->size, 0x9000);
    CHECK_EQ(ram->place, 0);
    m->changed = tell, tells = 0;
    ram->host[0x1000] = 1, ram->host[0x5000] = 5, rom->host[0x1000] = 0xee;

    CHECK_EQ(memory_map(m, 0x10000, 0x2000, ram, 0x4000, false), 0);
    CHECK_EQ(tells, 1);
    CHECK_EQ(told[1].gpa, 0x10000);
    CHECK_EQ(told[1].place, 0x4000);
    CHECK_EQ(byte_at(m, 0x11000), 5);
    /* What cannot be. */
    CHECK_EQ(memory_map(m, 0x11000, 0x1000, ram, 0, false), -EEXIST);
    CHECK_EQ(memory_map(m, 0xf000, 0x4000, rom, 0, false), -EEXIST);
    CHECK_EQ(memory_map(m, 0x20000, 0x1000, ram, 0x800, false), -EINVAL);
    CHECK_EQ(memory_map(m, 0x20000, 0x2000, ram, 0x1f000, false), -EINVAL);
    CHECK_EQ(memory_map(m, 0x20000, 0x1000, ram, UINT64_MAX - 0xfff, false), -EINVAL);
    CHECK_EQ(memory_map(m, 0x20000, 0, ram, 0, false), -EINVAL);
    CHECK_EQ(memory_map(m, UINT64_MAX - 0xfff, 0x2000, ram, 0, false), -EINVAL);
    CHECK_EQ(memory_remap(m, 0x11000, ram, 0, false), -EINVAL);
    CHECK_EQ(memory_remap(m, 0x10000, rom, 0x8000, false), -EINVAL);
    memory_unmap(m, 0x11000);
    CHECK_EQ(tells, 1);

    /* A ROM is read-only whatever is asked for; the same place may be seen twice. */
    CHECK_EQ(memory_map(m, 0x30000, 0x2000, rom, 0, false), 0);
    CHECK_EQ(memory_write(m, 0x31000, "x", 1), -EROFS);
    CHECK_EQ(memory_map(m, 0x40000, 0x2000, ram, 0x4000, true), 0);
    CHECK_EQ(memory_write(m, 0x11000, "y", 1), 0);
    CHECK_EQ(byte_at(m, 0x41000), 'y');
    CHECK_EQ(memory_write(m, 0x41000, "z", 1), -EROFS);
    CHECK(memory_is_dirty(m, 0x5000));

    /* In one step; the same again is no change. */
    tells = 0;
    CHECK_EQ(memory_remap(m, 0x10000, rom, 0, false), 0);
    CHECK_EQ(byte_at(m, 0x11000), 0xee);
    CHECK_EQ(told[0].place, 0x4000);
    CHECK_EQ(told[0].id, told[1].id);
    CHECK(told[1].readonly);
    CHECK_EQ(memory_remap(m, 0x10000, rom, 0, true), 0);
    CHECK_EQ(tells, 1);
    memory_unmap(m, 0x10000);
    CHECK_EQ(told[1].size, 0);
    CHECK(!memory_find(m, 0x10000, &r));

    /* What lies together is found together, as far as it may be written alike. */
    for (u64 k = 0; k < 4; k++)
        CHECK_EQ(memory_map(m, 0x50000 + k * 0x1000, 0x1000, ram, 0x10000 + k * 0x1000, k == 3), 0);
    CHECK(memory_find(m, 0x51234, &r));
    CHECK_EQ(r.gpa, 0x51000);
    CHECK_EQ(r.size, 0x2000);
    CHECK(memory_ptr(m, 0x50000, 0x3000, true));
    CHECK(!memory_ptr(m, 0x50000, 0x3001, false));
    CHECK_EQ(memory_remap(m, 0x51000, ram, 0, false), 0);
    CHECK(!memory_ptr(m, 0x50000, 0x1001, false));

    /* By place and by pointer. */
    u64 left;
    CHECK(memory_at(m, rom->place + 0x1000, &left) == rom->host + 0x1000);
    CHECK_EQ(left, 0x8000);
    CHECK(!memory_at(m, m->fd_size, &left));
    memory_host_written(m, rom->host + 0x2000, 1);
    CHECK(memory_is_dirty(m, rom->place + 0x2000));
    memory_free(m);
}

TEST(there_is_an_end_of_regions)
{
    struct memory *m = memory_new(NULL);
    struct memory_piece *ram;
    CHECK_EQ(memory_piece(m, &ram, "ram", 0x1000, false, NULL), 0);
    for (u64 k = 0; k < MEMORY_MAX_REGIONS; k++)
        CHECK_EQ(memory_map(m, k * 0x2000, 0x1000, ram, 0, false), 0);
    CHECK_EQ(memory_map(m, 0x1000, 0x1000, ram, 0, false), -ENOSPC);
    memory_unmap(m, 0x6000);
    CHECK_EQ(memory_map(m, 0x1000, 0x1000, ram, 0, false), 0);
    u64 ids[2] = { 0 };
    for (u32 k = 0; k < m->nregions; k++)
        ids[m->region[k].id / 64] |= BIT(m->region[k].id % 64);
    CHECK_EQ(__builtin_popcountll(ids[0]) + __builtin_popcountll(ids[1]), MEMORY_MAX_REGIONS);
    memory_free(m);
}

/* A reader sees what is there before a change or after it. */
static bool stop;
static void *read_on(void *p)
{
    struct memory *m = p;
    u64 wrong = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
        struct memory_region r;
        u8 b;
        if (!memory_lookup(m, 0x4000, &r) || r.gpa != 0x4000 || r.place != (u64)(r.host - m->piece[0].host))
            wrong++;
        wrong += memory_read(m, 0x4000, &b, 1) || (b != 1 && b != 2);
        wrong += memory_read(m, 0x100000, &b, 1) != 0; /* moves in the table, never in memory */
    }
    return (void *)wrong;
}

TEST(readers_never_wait_and_never_see_half)
{
    struct memory *m = memory_new(NULL);
    struct memory_piece *ram;
    pthread_t t;
    void *wrong;
    CHECK_EQ(memory_piece(m, &ram, "ram", 0x8000, false, NULL), 0);
    ram->host[0x1000] = 1, ram->host[0x2000] = 2;
    CHECK_EQ(memory_map(m, 0x4000, 0x1000, ram, 0x1000, false), 0);
    CHECK_EQ(memory_map(m, 0x100000, 0x1000, ram, 0, false), 0);
    stop = false;
    CHECK_EQ(pthread_create(&t, NULL, read_on, m), 0);
    for (unsigned k = 0; k < 100000; k++) {
        CHECK_EQ(memory_remap(m, 0x4000, ram, k & 1 ? 0x1000 : 0x2000, k & 2), 0);
        if (!(k % 16)) {
            CHECK_EQ(memory_map(m, 0x200000, 0x3000, ram, 0, false), 0); /* goes before the others */
            memory_unmap(m, 0x200000);
        }
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
    pthread_join(t, &wrong);
    CHECK_EQ((u64)wrong, 0);
    memory_free(m);
}
