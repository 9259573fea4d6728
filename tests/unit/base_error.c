/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_error.c - errors and log lines stay one line; the guest's lines are limited.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

TEST(error_is_one_line)
{
    struct error e;

    CHECK_EQ(error_set(&e, ENOENT, "%s: %s", "a\nb\x1b[2J", "gone"), -ENOENT);
    CHECK_STR(e.text, "a?b?[2J: gone");
    CHECK_EQ(e.code, ENOENT); /* for who gets NULL and no number */
    CHECK_EQ(error_set(NULL, EIO, "nobody listens"), -EIO);
}

TEST(what_a_terminal_may_get)
{
    struct error e;

    CHECK_EQ(plain_bytes("a"), 1);
    CHECK_EQ(plain_bytes("\xc3\xa4"), 2);
    CHECK_EQ(plain_bytes("\xc2\xa0"), 2);
    CHECK_EQ(plain_bytes("\xe2\x82\xac"), 3);
    CHECK_EQ(plain_bytes("\xf0\x9f\x90\xa7"), 4);
    static const char *const none[] = { "\x1b", "\x7f", "\x80", "\x9b[2J", "\xc2\x80", "\xc2\x9b", "\xc2\x9f", "\xc2", "\xc1\x9b",
                                        "\xe0\x82\x9b", "\xe2\x82", "\xed\xa0\x80", "\xf0\x80\x82\x9b", "\xf4\x90\x80\x80", "\xff" };
    for (u32 i = 0; i < ARRAY_SIZE(none); i++)
        CHECK_EQ(plain_bytes(none[i]), 0);
    error_set(&e, EIO, "\xc3\xa4 \xc2\x9b""2J \x9b""2J");
    CHECK_STR(e.text, "\xc3\xa4 ??2J ?2J");
}

TEST(error_is_cut_to_size)
{
    struct error e;
    char big[2000];

    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = 0;
    error_set(&e, EIO, "%s", big);
    CHECK_EQ(strlen(e.text), sizeof(e.text) - 1);
}

static char captured[65536];

/* What fn writes to standard error. */
static void capture(void (*fn)(void))
{
    char name[] = "/tmp/lodge-test-XXXXXX";
    int file = mkstemp(name), saved = dup(STDERR_FILENO);

    dup2(file, STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    ssize_t n = pread(file, captured, sizeof(captured) - 1, 0);
    captured[n > 0 ? n : 0] = 0;
    close(file);
    close(saved);
    unlink(name);
}

static unsigned lines(void)
{
    unsigned n = 0;

    for (const char *p = captured; *p; p++)
        n += *p == '\n';
    return n;
}

static void say_levels(void)
{
    log_set_level(LOG_WARN);
    log_error("one %d", 1);
    log_warn("two");
    log_info("not this");
    log_set_raw(true);
    log_error("three");
    log_set_raw(false);
    log_set_level(LOG_INFO);
}

TEST(log_levels_and_line_ends)
{
    capture(say_levels);
    CHECK_STR(captured, "lodge: one 1\nlodge: warning: two\nlodge: three\r\n");
}

static void flood(void)
{
    for (int i = 0; i < 100000; i++)
        log_guest("port %x written", i & 0xffff);
}

TEST(guest_cannot_flood)
{
    capture(flood);
    CHECK(lines() >= 5 && lines() < 50); /* five, and one a second however slow this machine is */
    CHECK(!strncmp(captured, "lodge: warning: port 0 written\n", 31));
}
