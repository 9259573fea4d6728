/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev_chardev.c - nothing is lost however slow either end is; clients come and go; the terminal comes back.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "chardev/chardev.h"
#include "chardev/terminal.h"

static struct loop *loop;
static char dir[] = "/tmp/lodge-chardev-XXXXXX", path[64], spec[80];

static void place(const char *kind, const char *name)
{
    if (strstr(dir, "XXXXXX") ? !mkdtemp(dir) : mkdir(dir, 0700))
        abort();
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    snprintf(spec, sizeof(spec), "%s:%s", kind, path);
}

static void tidy(void)
{
    loop_free(loop);
    unlink(path);
    rmdir(dir);
}

/* A device: takes at most `appetite` bytes at a time, sends `to_send` bytes of a pattern. */
static struct chardev *dev;
static char got[200000];
static size_t ngot, appetite, stop_at, sent, to_send;

static u8 pattern(size_t i)
{
    return (u8)(i * 7 + (i >> 8));
}

static size_t receive(void *d, const u8 *buf, size_t len)
{
    size_t n = MIN(MIN(len, appetite), sizeof(got) - ngot);

    (void)d;
    memcpy(got + ngot, buf, n);
    ngot += n;
    if (stop_at && ngot >= stop_at)
        loop_stop(loop);
    return n;
}

static void send_more(void *d)
{
    (void)d;
    while (sent < to_send) {
        u8 buf[1000];
        size_t n = MIN(sizeof(buf), to_send - sent);
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(sent + i);
        size_t taken = chardev_write(dev, buf, n);
        sent += taken;
        if (taken < n)
            return; /* we are told when there is room */
    }
    loop_stop(loop);
}

static const struct chardev_user user = { receive, send_more };

static void reset(void)
{
    loop = loop_new();
    ngot = sent = to_send = stop_at = 0;
    appetite = sizeof(got);
}

TEST(specs)
{
    struct error err;

    reset();
    CHECK(chardev_spec_valid("stdio") && chardev_spec_valid("null") && chardev_spec_valid("file:x"));
    CHECK(!chardev_spec_valid("") && !chardev_spec_valid("file:") && !chardev_spec_valid("tcp:1"));
    CHECK(!chardev_open("tcp:1", loop, &err));
    CHECK_EQ(errno, EINVAL);
    CHECK(!chardev_open("file:/nowhere/at/all", loop, &err));
    CHECK_STR(err.text, "file:/nowhere/at/all: No such file or directory");
    CHECK(!chardev_open("unix:/nowhere/at/all", loop, &err));
    CHECK(strstr(err.text, "No such file"));
    dev = chardev_open("null", loop, &err);
    CHECK_EQ(chardev_write(dev, (const u8 *)"abc", 3), 3);
    chardev_close(dev);
    loop_free(loop);
}

TEST(a_file_gets_every_byte)
{
    struct error err;

    reset();
    place("file", "out");
    dev = chardev_open(spec, loop, &err);
    REQUIRE(dev);
    chardev_attach(dev, &user, NULL);
    to_send = 1000000; /* many times the buffer */
    loop_post(loop, send_more, NULL);
    CHECK_EQ(loop_run(loop), 0);
    CHECK_EQ(sent, to_send);
    chardev_close(dev); /* writes the rest */
    FILE *f = fopen(path, "rb");
    size_t i = 0;
    for (int c; (c = getc(f)) != EOF; i++)
        if (c != pattern(i)) {
            CHECK_EQ(c, pattern(i));
            break;
        }
    CHECK_EQ(i, to_send);
    fclose(f);
    tidy();
}

static int connect_client(void)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(sa.sun_path, path);
    CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

static void *slow_reader(void *arg)
{
    int fd = *(int *)arg;
    size_t i = 0;
    u8 buf[777];

    for (ssize_t n; (n = read(fd, buf, sizeof(buf))) > 0;)
        for (ssize_t k = 0; k < n; k++, i++)
            if (buf[k] != pattern(i))
                return NULL;
    return (void *)(uintptr_t)i;
}

TEST(a_socket_loses_nothing_either_way)
{
    struct error err;
    pthread_t t;
    void *read_total;
    int fd;

    reset();
    place("unix", "sock");
    dev = chardev_open(spec, loop, &err);
    REQUIRE(dev);
    chardev_attach(dev, &user, NULL);
    fd = connect_client();
    CHECK_EQ(write(fd, "hello", 5), 5);
    stop_at = 5;
    CHECK_EQ(loop_run(loop), 0); /* connected now */
    CHECK(!memcmp(got, "hello", 5));
    pthread_create(&t, NULL, slow_reader, &fd);
    to_send = 500000;
    loop_post(loop, send_more, NULL);
    CHECK_EQ(loop_run(loop), 0);
    chardev_close(dev);
    pthread_join(t, &read_total);
    CHECK_EQ(read_total, to_send);
    CHECK(access(path, F_OK) != 0); /* the socket is gone with us */
    close(fd);
    tidy();
}

static struct timer hunger;
static unsigned meals;

static void eat(struct timer *t)
{
    if (++meals % 2)
        appetite = 100;
    chardev_resume(dev);
    timer_arm(t, clock_ns() + 1000);
}

static size_t nibble(void *d, const u8 *buf, size_t len)
{
    size_t n = receive(d, buf, len);

    appetite -= n;
    return n;
}

static void *fast_writer(void *arg)
{
    int fd = *(int *)arg;

    for (size_t i = 0; i < 100000;) {
        u8 buf[1000];
        for (size_t k = 0; k < sizeof(buf); k++)
            buf[k] = pattern(i + k);
        ssize_t n = write(fd, buf, sizeof(buf));
        if (n <= 0)
            break;
        i += (size_t)n;
    }
    return NULL;
}

TEST(a_slow_device_gets_everything)
{
    static const struct chardev_user slow = { nibble, NULL };
    struct error err;
    pthread_t t;
    int fd;

    reset();
    place("unix", "sock");
    dev = chardev_open(spec, loop, &err);
    REQUIRE(dev);
    appetite = 0;
    stop_at = 100000;
    chardev_attach(dev, &slow, NULL);
    timer_init(&hunger, loop, eat);
    timer_arm(&hunger, 0);
    fd = connect_client();
    pthread_create(&t, NULL, fast_writer, &fd);
    CHECK_EQ(loop_run(loop), 0);
    pthread_join(t, NULL);
    CHECK_EQ(ngot, 100000);
    for (size_t i = 0; i < ngot; i++)
        if ((u8)got[i] != pattern(i)) {
            CHECK_EQ((u8)got[i], pattern(i));
            break;
        }
    chardev_close(dev);
    close(fd);
    tidy();
}

TEST(clients_follow_each_other)
{
    struct error err;

    reset();
    place("unix", "sock");
    dev = chardev_open(spec, loop, &err);
    REQUIRE(dev);
    chardev_attach(dev, &user, NULL);
    for (size_t i = 1; i <= 20; i++) {
        int fd = connect_client(), next = connect_client(); /* the second waits for the first to go */
        CHECK_EQ(write(fd, "ab", 2), 2);
        stop_at = 4 * i - 2;
        CHECK_EQ(loop_run(loop), 0);
        CHECK_EQ(write(next, "cd", 2), 2);
        close(fd);
        stop_at = 4 * i;
        CHECK_EQ(loop_run(loop), 0);
        close(next);
    }
    CHECK(!memcmp(got, "abcdabcd", 8));
    chardev_close(dev);
    tidy();
}

TEST(sockets_of_the_dead_and_of_the_living)
{
    struct error err;
    struct chardev *second;
    struct stat st;
    int fd;

    reset();
    place("unix", "stale");
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    strcpy(sa.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    close(fd); /* left behind */
    dev = chardev_open(spec, loop, &err);
    REQUIRE(dev);
    second = chardev_open(spec, loop, &err);
    CHECK(!second && strstr(err.text, "in use"));
    CHECK_EQ(stat(path, &st), 0);
    chardev_close(dev);

    fd = open(path, O_CREAT | O_WRONLY, 0600); /* a file is never removed */
    close(fd);
    CHECK(!chardev_open(spec, loop, &err));
    CHECK_EQ(stat(path, &st), 0);
    tidy();
}

/* ---- stdio, in a process of its own ---- */

static void quit(void *ctx)
{
    (void)ctx;
    loop_stop(loop);
}

static size_t echo(void *d, const u8 *buf, size_t len)
{
    (void)d;
    return chardev_write(dev, buf, len);
}

static const struct chardev_user echoing = { echo, NULL };

/* The child: a "guest" that echoes, until Ctrl-] q; `how` names another way out. */
static void child(int how)
{
    struct error err;

    reset();
    dev = chardev_open("stdio", loop, &err);
    if (!dev || !terminal_claim(STDIN_FILENO))
        _exit(9);
    terminal_begin();
    chardev_attach(dev, &echoing, NULL);
    chardev_on_quit(dev, quit, NULL);
    chardev_write(dev, (const u8 *)"ready\r\n", 7);
    if (loop_run(loop))
        _exit(8);
    if (how == 1)
        exit(0); /* with no chardev_close */
    if (how == 2)
        abort();
    if (how == 3)
        raise(SIGSEGV);
    chardev_close(dev);
    terminal_restore();
    _exit(0);
}

static size_t read_until(int fd, char *buf, size_t cap, const char *word)
{
    size_t n = 0;

    while (n < cap - 1) {
        ssize_t r = read(fd, buf + n, cap - 1 - n);
        if (r <= 0)
            break;
        n += (size_t)r;
        buf[n] = 0;
        if (strstr(buf, word))
            break;
    }
    buf[n] = 0;
    return n;
}

static bool same_mode(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
           a->c_lflag == b->c_lflag;
}

TEST(the_terminal_comes_back)
{
    static const struct {
        const char *name;
        int how, signal, status;
    } ways[] = {
        { "quit", 0, 0, 0 },
        { "exit", 1, 0, 0 },
        { "abort", 2, 0, SIGABRT },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they take this signal for themselves */
        { "fault", 3, 0, SIGSEGV },
#endif
        { "terminated", 0, SIGTERM, SIGTERM },
        { "hung up", 0, SIGHUP, SIGHUP },
    };

    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        struct termios before, during, after;
        char buf[4096];
        int master, slave, status;
        if (openpty(&master, &slave, NULL, NULL, NULL))
            abort();
        tcgetattr(slave, &before);
        fflush(stdout);
        pid_t pid = fork();
        if (!pid) {
            close(master);
            signal(SIGHUP, SIG_DFL); /* ignored under nohup: rightly so, but then it is not a way to end */
            login_tty(dup(slave));
            child(ways[i].how);
        }
        read_until(master, buf, sizeof(buf), "ready");
        tcgetattr(slave, &during);
        CHECK(!same_mode(&before, &during));
        CHECK_EQ(write(master, "ab\3\x1d\x1d" "c", 6), 6); /* Ctrl-C goes to the guest, one Ctrl-] too */
        read_until(master, buf, sizeof(buf), "c");
        CHECK(strstr(buf, "ab\3\x1d" "c") != NULL);
        CHECK_EQ(write(master, "\x1d?", 2), 2);
        read_until(master, buf, sizeof(buf), "this help");
        CHECK(strstr(buf, "Ctrl-] q") != NULL);
        if (ways[i].signal)
            kill(pid, ways[i].signal);
        else
            CHECK_EQ(write(master, "\x1dq", 2), 2);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        if (ways[i].status)
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == ways[i].status);
        else
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        tcgetattr(slave, &after);
        if (!same_mode(&before, &after))
            test_fail(__FILE__, __LINE__, "the terminal is not as it was after: %s", ways[i].name);
        close(slave);
        close(master);
    }
}

/* stdio as pipes and files: starts a child with in and out, returns its status. */
static int with_stdio(int in, int out)
{
    int status;

    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        struct error err;
        dup2(in, 0);
        dup2(out, 1);
        reset();
        dev = chardev_open("stdio", loop, &err);
        if (!dev)
            _exit(9);
        chardev_attach(dev, &user, NULL);
        to_send = 300000;
        stop_at = lseek(in, 0, SEEK_CUR) < 0 && errno == ESPIPE ? 11 : 0;
        if (stop_at) {
            if (loop_run(loop) || memcmp(got, "in \x1dq a pipe", 11))
                _exit(7);
        }
        loop_post(loop, send_more, NULL);
        if (loop_run(loop))
            _exit(8);
        chardev_close(dev);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return status;
}

TEST(standard_input_may_be_anything)
{
    struct stat st;
    int p[2], out;

    place("file", "stdout");
    out = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    int null = open("/dev/null", O_RDONLY);
    CHECK_EQ(with_stdio(null, out), 0);
    CHECK_EQ(pipe(p), 0);
    CHECK_EQ(write(p[1], "in \x1dq a pipe", 11), 11); /* the escape key is the terminal's only */
    close(p[1]);
    CHECK_EQ(with_stdio(p[0], out), 0);
    CHECK_EQ(fstat(out, &st), 0);
    CHECK_EQ(st.st_size, 600000);
    close(p[0]);
    close(null);
    close(out);
    loop = NULL; /* those of the children are theirs */
    tidy();
}
