/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base_child.c - a process of our own program: what it has of ours, and what becomes of what it says.  This program is
 * that process, too.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"

static int main_of(const char *what)
{
    struct stat st, null;

    if (!strcmp(what, "has")) {
        /* 3 is a pipe to be told of the end by; 4 and above are not there. */
        bool ok = !stat("/dev/null", &null) && getsid(0) == getpid();
        for (int fd = 0; fd < 2; fd++)
            ok = ok && !fstat(fd, &st) && st.st_rdev == null.st_rdev;
        ok = ok && !fstat(2, &st) && S_ISFIFO(st.st_mode) && fcntl(3, F_GETFD) == 0;
        for (int fd = 4; fd < 1024; fd++)
            ok = ok && fcntl(fd, F_GETFD) < 0;
        fprintf(stderr, "%s\n", ok ? "as it should be" : "not as it should be");
    } else if (!strcmp(what, "escapes")) {
        fprintf(stderr, "a \033[31mred\033[0m word\n\n\nno end");
    } else if (!strcmp(what, "floods")) {
        signal(SIGPIPE, SIG_IGN);
        while (fprintf(stderr, "again and again\n") > 0)
            ;
        return errno != EPIPE;
    } else if (!strcmp(what, "cannot")) {
        fprintf(stderr, "there is no room\nnone at all\n");
        return 1;
    }
    return 0;
}

static void __attribute__((constructor)) be_child(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "child"))
        _exit(main_of(argv[2]));
}

static int start(struct child *c, const char *what)
{
    char *const argv[] = { (char *)"lodge", (char *)"child", (char *)(uintptr_t)what, NULL };
    const int fd = 1;

    return child_start(c, argv, &fd, 1);
}

/* What is logged of a child from its beginning to its end. */
static const char *logged(const char *what, bool loop)
{
    static char text[65536];
    char file[] = "/tmp/lodge-child-XXXXXX";
    struct loop *l = loop_new();
    struct child c;
    const int to = mkstemp(file), old = dup(2);
    int leak = open("/dev/zero", O_RDONLY); /* as a shell's: no close-on-exec */

    dup2(to, 2);
    int r = start(&c, what);
    if (!r && loop)
        r = child_listen(&c, l, "the child");
    if (!r)
        child_end(&c);
    dup2(old, 2);
    close(old);
    close(leak);
    CHECK_EQ(r, 0);
    CHECK_EQ(c.pid, 0);
    const ssize_t n = pread(to, text, sizeof(text) - 1, 0);
    text[MAX(n, 0)] = 0;
    close(to);
    unlink(file);
    loop_free(l);
    return text;
}

TEST(has_nothing_of_ours)
{
    CHECK_STR(logged("has", true), "lodge: warning: the child: its process says: as it should be\n");
}

TEST(what_it_says_is_plain)
{
    CHECK_STR(logged("escapes", true), "lodge: warning: the child: its process says: a ?[31mred?[0m word\n"
                                       "lodge: warning: the child: its process says: no end\n");
}

/* It gets EPIPE and ends by itself; we have not read for ever. */
TEST(what_it_says_has_an_end)
{
    const char *text = logged("floods", true);
    u32 lines = 0;

    for (const char *p = text; (p = strchr(p, '\n')); p++)
        lines++;
    CHECK_EQ(lines, CHILD_MAX_LINES + 1);
    CHECK(strstr(text, "its process says more, which is not shown"));
}

TEST(last_words)
{
    struct error err;
    struct child c;

    REQUIRE(!start(&c, "cannot"));
    CHECK_EQ(child_last_words(&c, &err), -EIO);
    CHECK_STR(err.text, "there is no room");
    REQUIRE(!start(&c, "nothing"));
    CHECK_EQ(child_last_words(&c, &err), 0);
}

/* The loop's thread hears it while it runs. */
static void enough(struct timer *t)
{
    loop_stop(t->loop);
}

TEST(heard_by_a_loop)
{
    struct loop *l = loop_new();
    struct timer limit;
    struct child c;

    REQUIRE(!start(&c, "floods") && !child_listen(&c, l, "it"));
    timer_init(&limit, l, enough);
    const int old = dup(2), null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    while (c.says >= 0) { /* ends with the test's timeout at the latest */
        timer_arm(&limit, clock_ns() + 10000000);
        CHECK_EQ(loop_run(l), 0);
    }
    dup2(old, 2);
    close(old);
    close(null);
    child_end(&c);
    loop_free(l);
}
