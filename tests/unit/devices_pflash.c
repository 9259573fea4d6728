/* SPDX-License-Identifier: Apache-2.0 */
/* devices_pflash.c - the flash chip as a driver of Intel's command set uses it, and as a careless one does. */
#include <stdlib.h>

#include "devices/pflash.h"
#include "test.h"

enum { SIZE = 4 * PFLASH_BLOCK, GPA = 0x100000 };

static struct memory *m;
static struct pflash p;
static u8 file[SIZE];
static int fail;

static int store(void *ctx, u32 offset, const void *data, u32 len)
{
    CHECK(offset <= SIZE && len <= SIZE - offset);
    if (!fail)
        memcpy(file + offset, data, len);
    return fail;
}

static void start(void)
{
    memset(file, 0xff, SIZE);
    memcpy(file, "variables", 9);
    fail = 0;
    m = memory_new(NULL);
    CHECK_EQ(pflash_init(&p, m, GPA, file, SIZE, store, NULL, NULL), 0);
}

static void end(void)
{
    pflash_destroy(&p);
    memory_free(m);
}

/* As a guest sees it: memory where there is some, else the chip. */
static u64 rd(u32 at, unsigned size)
{
    u64 v = 0;
    return memory_read(m, GPA + at, &v, size) ? pflash_ops.read(&p, at, size) : v;
}
static void wr(u32 at, u64 v) { pflash_ops.write(&p, at, 1, v); }

TEST(reads_as_memory)
{
    start();
    CHECK_EQ(rd(0, 4), 0x69726176); /* "vari" */
    CHECK_EQ(memory_write(m, GPA, "x", 1), -30); /* -EROFS: writes go to the chip */
    wr(0, 0x70);
    CHECK_EQ(rd(0, 1), 0x80); /* ready */
    CHECK(!memory_ptr(m, GPA, 1, false));
    wr(0, 0x50);
    CHECK_EQ(rd(0, 4), 0x69726176);
    wr(0, 0x70);
    CHECK_EQ(rd(0, 1), 0); /* cleared, as OVMF expects it */
    wr(0, 0xff);
    CHECK(memory_ptr(m, GPA, SIZE, false));
    end();
}

TEST(programs_and_erases)
{
    start();
    wr(0x1000, 0x10), wr(0x1000, 0x5a);
    CHECK_EQ(rd(0x1000, 1), 0x80);
    wr(0x1000, 0x40), wr(0x1000, 0xa7); /* ones do not come back */
    wr(0, 0xff);
    CHECK_EQ(rd(0x1000, 2), 0xff02);
    CHECK_EQ(file[0x1000], 2);
    wr(0x1abc, 0x20), wr(0x1abc, 0xd0); /* the block around it */
    CHECK_EQ(rd(0, 1), 0x80);
    wr(0, 0xff);
    CHECK_EQ(rd(0x1000, 1), 0xff);
    CHECK_EQ(file[0x1000], 0xff);
    CHECK_EQ(file[0], 'v');
    wr(0, 0x20), wr(0, 0x12); /* not confirmed */
    CHECK_EQ(rd(0, 1), 0xb0);
    wr(0, 0x50);
    fail = -5;
    wr(1, 0x20), wr(1, 0xd0);
    CHECK_EQ(rd(0, 1), 0xa0); /* erase error */
    end();
}

TEST(write_to_buffer)
{
    start();
    wr(0x2000, 0xe8);
    CHECK_EQ(rd(0x2000, 1), 0x80);
    wr(0x2000, 3); /* four bytes */
    for (u32 i = 0; i < 4; i++)
        wr(0x2010 + i, 0x41 + i);
    wr(0x2000, 0xd0);
    wr(0, 0xff);
    CHECK_EQ(rd(0x2010, 4), 0x44434241);
    CHECK_EQ(rd(0x200f, 1), 0xff);
    wr(0x2000, 0xe8), wr(0x2000, 0), wr(0x2020, 0x55), wr(0x2000, 0x00); /* not confirmed */
    wr(0, 0xff);
    CHECK_EQ(rd(0x2020, 1), 0xff);
    wr(SIZE - 1, 0xe8), wr(SIZE - 1, 0xff); /* the last bytes of the chip, and more than a buffer holds */
    for (u32 i = 0; i < PFLASH_BUFFER; i++)
        pflash_ops.write(&p, SIZE - 1, 8, 0);
    wr(0, 0xd0), wr(0, 0xff);
    end();
}

TEST(says_what_it_is)
{
    start();
    wr(0, 0x98);
    CHECK_EQ(rd(0x10, 2), 0x5251); /* "QR" */
    CHECK_EQ(1u << rd(0x27, 1), SIZE);
    CHECK_EQ(rd(0x2c, 1), 1);
    CHECK_EQ((rd(0x2d, 2) + 1) * rd(0x2f, 2) * 256, SIZE);
    wr(0, 0x90);
    CHECK_EQ(rd(0, 1), 0x89);
    end();
}

TEST(state)
{
    struct state_list *l = state_list_new();
    struct state_buf b = { 0 };
    start();
    CHECK_EQ(state_add(l, &pflash_state, 0, &p), 0);
    wr(0x2000, 0xe8), wr(0x2000, 1), wr(0x2000, 'x');
    CHECK_EQ(state_save(l, &b, NULL), 0);
    pflash_reset(&p);
    CHECK_EQ(state_load(l, b.data, b.len, NULL), 0);
    CHECK(!memory_ptr(m, GPA, 1, false));
    wr(0x2001, 'y'), wr(0x2000, 0xd0), wr(0, 0xff);
    CHECK_EQ(rd(0x2000, 2), 0x7978);
    state_buf_free(&b);
    state_list_free(l);
    end();
}
