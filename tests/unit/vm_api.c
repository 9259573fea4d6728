/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_api.c - the control socket with clients that hold it, send garbage, or wait when the machine ends.  What its calls
 * do is tests/system/screen's.
 */
#include "test.h"

#include <linux/input-event-codes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "http/server.h"
#include "vm/api.h"
#include "vm/internal.h"

static const struct engine_ops engine = { .name = "none" };
static const struct vm_config config = { .cpus = 1, .memory = MiB(1) };
static const struct vm_run usual_run;
static struct vm vm = { .config = &config, .run = &usual_run, .engine = &engine, .state = VM_RUNNING };
static struct api *api;
static pthread_t thread;
static char path[64];

/* A keyboard whose guest takes nothing. */
static u32 keys;
static void on_key(void *dev, u16 code, bool down) { keys++; }
static u32 waiting(void *dev) { return keys; }
static const struct input_sink_ops deaf_ops = { .key = on_key, .waiting = waiting };
static struct input_sink deaf = { &deaf_ops, NULL, INPUT_PS2, NULL };

static void *run(void *arg)
{
    CHECK_EQ(loop_run(vm.loop), 0);
    return NULL;
}

static bool start(void)
{
    struct error err = { "" };
    snprintf(path, sizeof path, "/tmp/lodge-api-%d", (int)getpid());
    vm.loop = loop_new();
    vm.input = input_new();
    input_plug(vm.input, &deaf);
    api = api_open(&vm, path, &err);
    if (!api)
        fprintf(stderr, "%s\n", err.text);
    return api && !pthread_create(&thread, NULL, run, NULL);
}

static void stop(void)
{
    loop_stop(vm.loop);
    pthread_join(thread, NULL);
    api_close(api);
    input_unplug(vm.input, &deaf);
    input_free(vm.input);
    loop_free(vm.loop);
}

static int dial(void)
{
    const struct timeval limit = { .tv_sec = 200 };
    const int fd = unix_socket_connect(OPENER_API, path, SOCK_STREAM);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static int send_text(int fd, const char *text)
{
    return (int)send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool answers(const char *request, const char *wanted)
{
    char answer[2048] = "";
    size_t n = 0;
    ssize_t r;
    const int fd = dial();
    send_text(fd, request);
    while (n < sizeof answer - 1 && (r = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
        n += (size_t)r;
    close(fd);
    if (!strstr(answer, wanted))
        fprintf(stderr, "\"%s\", not \"%s\"\n", answer, wanted);
    return strstr(answer, wanted) != NULL;
}

static const char ping[] = "GET /api/v1/vmm.ping HTTP/1.0\r\n\r\n";

TEST(company)
{
    struct stat st;
    struct error err;
    int idle[HTTP_MAX_CONNECTIONS + 8];
    u32 seed = 7;

    REQUIRE(start());
    CHECK(!stat(path, &st) && (st.st_mode & 0777) == 0600);
    CHECK(!api_open(&vm, path, &err) && strstr(err.text, "in use"));
    CHECK(answers(ping, "\"version\""));
    CHECK(answers("GET /api/v1/vm.info HTTP/1.0\r\n\r\n", "\"state\":\"Running\""));
    CHECK(answers("GET /api/v1/vm.screenshot HTTP/1.0\r\n\r\n", "no screen"));

    /* More than there is room for: the next gets in as they leave. */
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
        idle[i] = dial();
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
        close(idle[i]);
    CHECK(answers(ping, "\"version\""));

    static const char *const begin[] = {
        "", "GET ", "PUT /api/v1/vm.type HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", "\r\n\r\n\r\n",
        "PUT /api/v1/vm.send-key HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "PUT /api/v1/vm.send-key HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    };
    for (u32 i = 0; i < 120; i++) {
        const int fd = dial();
        char junk[700];
        send_text(fd, begin[i % ARRAY_SIZE(begin)]);
        for (u32 k = 0; k < sizeof junk; k++)
            junk[k] = (char)((seed = seed * 1664525 + 1013904223) >> 24);
        (void)!send(fd, junk, sizeof junk, MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
    }
    CHECK(answers(ping, "\"version\""));
    stop();
    CHECK(stat(path, &st));
}

/* Those who only begin a request have all the places: others get in all the same, and need not wait for the half minute that
   silence may last. */
TEST(half_open)
{
    int idle[HTTP_MAX_CONNECTIONS];

    REQUIRE(start());
    const u64 since = clock_ns();
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++) {
        idle[i] = dial();
        send_text(idle[i], i % 2 ? "GET " : "PUT /api/v1/vm.type HTTP/1.1\r\nContent-Length: 100\r\n\r\n{");
    }
    CHECK(answers(ping, "\"version\""));
    CHECK(clock_ns() - since < 25000000000ull);
    for (u32 i = 0; i < ARRAY_SIZE(idle); i++)
        close(idle[i]);
    stop();
}

/* An escaped NUL in a name does not end it. */
TEST(escapes)
{
    REQUIRE(start());
    CHECK(answers("GET /api/v1/vm.info%00x HTTP/1.0\r\n\r\n", " 404 "));
    CHECK(answers("GET /api/v1/vm.info%00 HTTP/1.0\r\n\r\n", " 404 "));
    CHECK(answers("GET /api/v1/vm%2einfo HTTP/1.0\r\n\r\n", " 200 "));
    stop();
}

/* The machine ends while a call waits for the guest: it is answered, and nothing waits for it. */
TEST(ends_while_one_waits)
{
    char answer[512] = "";
    size_t n = 0;
    ssize_t r;
    REQUIRE(start());
    keys = 0;
    const int fd = dial();
    send_text(fd, "PUT /api/v1/vm.type HTTP/1.0\r\nContent-Length: 14\r\n\r\n{\"text\":\"abc\"}");
    while (!__atomic_load_n(&keys, __ATOMIC_RELAXED))
        usleep(1000);
    stop();
    while (n < sizeof answer - 1 && (r = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
        n += (size_t)r;
    CHECK(strstr(answer, " 503 "));
    close(fd);
}

/* A request that comes when the loop has ended finds nobody who could do it: it is refused, and does not reach what has been
   taken away. */
TEST(comes_too_late)
{
    char answer[512];
    size_t n = 0;
    ssize_t r;
    REQUIRE(start());
    keys = 0;
    const int fd = dial(); /* it has a connection already */
    send_text(fd, "GET /api/v1/vmm.ping HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(recv(fd, answer, sizeof answer, 0) > 0);
    loop_stop(vm.loop);
    pthread_join(thread, NULL);
    send_text(fd, "PUT /api/v1/vm.type HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"text\":\"abc\"}");
    api_close(api);
    CHECK_EQ(keys, 0);
    while (n < sizeof answer - 1 && (r = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
        n += (size_t)r;
    answer[n] = 0;
    CHECK(strstr(answer, " 503 "));
    close(fd);
    input_unplug(vm.input, &deaf);
    input_free(vm.input);
    loop_free(vm.loop);
}
