/* SPDX-License-Identifier: Apache-2.0 */
/* memory_memory.c - regions, checked access across their edges, read-only ones, and the dirty log. */
#include <errno.h>
#include <string.h>

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

TEST(regions_are_sorted_and_disjoint)
{
    struct memory *m = two_regions();
    CHECK_EQ(m->nregions, 3);
    CHECK_EQ(m->region[0].gpa, 0);
    CHECK_EQ(m->region[1].gpa, 0x10000);
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

TEST(more_than_the_host_has_is_refused_in_words)
{
    struct memory *m = memory_new(NULL);
    struct error e = { "" };
    CHECK_EQ(memory_add(m, "ram", 0, 1ull << 50, false, &e), -ENOMEM);
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
    CHECK(!memory_find(m, 0x14000));
    memory_free(m);
}

TEST(writes_are_logged)
{
    struct memory *m = two_regions();
    u64 bits[1];
    memory_dirty_take(m, 0, bits);
    CHECK_EQ(memory_write(m, 0x1ffe, "abcd", 4), 0);
    CHECK(memory_ptr(m, 0x5000, 1, true));
    CHECK(memory_ptr(m, 0x6000, 1, false));
    memory_dirty_take(m, 0, bits);
    CHECK_EQ(bits[0], 1ull << 1 | 1ull << 2 | 1ull << 5);
    memory_dirty_take(m, 0, bits);
    CHECK_EQ(bits[0], 0);
    memory_free(m);
}
