/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_server.c - the HTTP server with good clients, which are ours (http/client.h), and with bad ones, which write what
 * they like.  The server runs on a thread with the loop, its clients on the test's own.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "http/client.h"
#include "http/server.h"

enum { LATE = 4, BODY = 1000 };

static struct rig {
    struct loop *loop;
    struct http_server *server;
    struct http_routes routes[3];
    pthread_t thread;
    char path[64];
    struct http_call *late[LATE]; /* those that wait */
    u32 nlate, nquick;            /* atomic */
} rig;

/* ---- the handlers ------------------------------------------------------- */

static struct rig *rig_of(struct http_call *c) { return c->user; }

static void quick(struct http_call *c)
{
    __atomic_fetch_add(&rig_of(c)->nquick, 1, __ATOMIC_SEQ_CST);
    http_done(c, HTTP_NO_CONTENT);
}

/* What the request was, for the client to compare. */
static void echo(struct http_call *c)
{
    const char *vm = http_argument(c, "vm"), *disk = http_argument(c, "disk"), *q = http_query(c, "q");
    http_json(c, json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:O*, s:s*}", "method", c->method, "path", c->path, "vm", vm, "disk",
                           disk, "q", q, "in", c->in, "none", http_argument(c, "none")));
}

static void raw(struct http_call *c)
{
    char *copy = malloc(c->size + 1);
    if (c->size)
        memcpy(copy, c->body, c->size);
    http_bytes(c, "text/plain", copy, c->size);
}

static void late(struct http_call *c)
{
    struct rig *r = rig_of(c);
    r->late[r->nlate] = c;
    __atomic_store_n(&r->nlate, r->nlate + 1, __ATOMIC_SEQ_CST);
}

static void fails(struct http_call *c)
{
    const char *code = http_argument(c, "errno");
    http_fail_errno(c, -atoi(code), "it fails with %s", code);
}

static void nothing(struct http_call *c) { http_json(c, NULL); }
static void odd_sentence(struct http_call *c) { http_fail(c, HTTP_CONFLICT, "\xff\xfe"); }

static const struct http_route first[] = {
    { "GET", "quick", HTTP_NO_BODY, quick },
    { "PUT", "echo", HTTP_JSON, echo },
    { "GET", "vms/all", HTTP_NO_BODY, quick },
    { "GET", "vms/{vm}", HTTP_NO_BODY, echo },
    { "PUT", "vms/{vm}/disks/{disk}", HTTP_JSON, echo },
    { "POST", "raw", HTTP_RAW, raw },
    { "GET", "late", HTTP_NO_BODY, late },
    { "GET", "fails/{errno}", HTTP_NO_BODY, fails },
    { "GET", "nothing", HTTP_NO_BODY, nothing },
    { "GET", "odd", HTTP_NO_BODY, odd_sentence },
    { NULL, NULL, HTTP_NO_BODY, NULL },
};
static const struct http_route second[] = {
    { "GET", "more", HTTP_NO_BODY, quick },
    { NULL, NULL, HTTP_NO_BODY, NULL },
};

/* ---- the rig ------------------------------------------------------------ */

static void *run(void *arg)
{
    CHECK_EQ(loop_run(rig.loop), 0);
    return NULL;
}

static bool start(const struct http_limits *limits)
{
    struct error err = { "" };

    rig = (struct rig){ .loop = loop_new() };
    rig.routes[0] = (struct http_routes){ "/a/v1/", first, &rig };
    rig.routes[1] = (struct http_routes){ "/b/", second, &rig };
    snprintf(rig.path, sizeof rig.path, "/tmp/lodge-http-%d", (int)getpid());
    rig.server = http_server_open(rig.loop, "test: ", rig.path, rig.routes, limits, &err);
    if (!rig.server)
        fprintf(stderr, "%s\n", err.text);
    return rig.server && !pthread_create(&rig.thread, NULL, run, NULL);
}

static void stop_loop(void)
{
    loop_stop(rig.loop);
    pthread_join(rig.thread, NULL);
}

static void close_all(void)
{
    struct stat st;
    http_server_close(rig.server);
    loop_free(rig.loop);
    CHECK(stat(rig.path, &st));
}

static void stop(void)
{
    stop_loop();
    close_all();
}

static int ask(const char *method, const char *path, json_t *in, struct http_answer *a, struct error *err)
{
    return http_ask(&(struct http_request){ rig.path, "the test", method, path, in, 200 }, a, err);
}

/* 0, or the status. */
static int status(const char *method, const char *path, json_t *in)
{
    struct http_answer a;
    struct error err;
    const int r = ask(method, path, in, &a, &err);
    CHECK_EQ(r, http_errno(a.status));
    free(a.body);
    return a.status;
}

/* As often as it takes: where limits are a second, one who is unlucky on a busy machine is dropped, too. */
static bool served(const char *method, const char *path)
{
    struct http_answer a = { 0 };
    struct error err;
    for (u32 i = 0; i < 100 && a.status != 204; i++) {
        (void)!ask(method, path, NULL, &a, &err);
        free(a.body);
    }
    return a.status == 204;
}

static bool says(const char *method, const char *path, json_t *in, const char *wanted)
{
    struct http_answer a;
    struct error err;
    if (ask(method, path, in, &a, &err)) {
        fprintf(stderr, "%s: %s\n", path, err.text);
        return false;
    }
    const bool ok = !strcmp(a.body, wanted);
    if (!ok)
        fprintf(stderr, "%s: %s, not %s\n", path, a.body, wanted);
    free(a.body);
    return ok;
}

static int dial(void)
{
    const struct timeval limit = { .tv_sec = 200 };
    const int fd = unix_socket_connect(OPENER_API, rig.path, SOCK_STREAM);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void say(int fd, const char *text) { (void)!send(fd, text, strlen(text), MSG_NOSIGNAL); }

/* Up to the end, or up to `until`; false: it was not there. */
static bool hear(int fd, const char *until)
{
    char text[8192] = "";
    size_t n = 0;
    ssize_t r;
    while (n < sizeof text - 1 && !strstr(text, until) && (r = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0)
        n += (size_t)r;
    if (!strstr(text, until))
        fprintf(stderr, "\"%s\", not \"%s\"\n", text, until);
    return strstr(text, until) != NULL;
}

static bool answers(const char *request, const char *wanted)
{
    const int fd = dial();
    say(fd, request);
    const bool ok = hear(fd, wanted);
    close(fd);
    return ok;
}

static void wait_for(const u32 *count, u32 n)
{
    while (__atomic_load_n(count, __ATOMIC_SEQ_CST) < n)
        usleep(1000);
}

/* ---- the tests ---------------------------------------------------------- */

TEST(routes)
{
    REQUIRE(start(NULL));
    CHECK_EQ(status("GET", "/a/v1/quick", NULL), 204);
    CHECK_EQ(status("GET", "/b/more", NULL), 204);
    CHECK(says("PUT", "/a/v1/echo", json_pack("{s:i}", "n", 5), "{\"method\":\"PUT\",\"path\":\"/a/v1/echo\",\"in\":{\"n\":5}}"));
    CHECK(says("GET", "/a/v1/vms/x%20y", NULL, "{\"method\":\"GET\",\"path\":\"/a/v1/vms/x y\",\"vm\":\"x y\"}"));
    CHECK(says("GET", "/a/v1/vms/x?q=%31&q2", NULL, "{\"method\":\"GET\",\"path\":\"/a/v1/vms/x\",\"vm\":\"x\",\"q\":\"1\"}"));
    CHECK(says("GET", "/a/v1/vms/x?q", NULL, "{\"method\":\"GET\",\"path\":\"/a/v1/vms/x\",\"vm\":\"x\",\"q\":\"\"}"));
    CHECK(says("PUT", "/a/v1/vms/x/disks/1", json_object(),
               "{\"method\":\"PUT\",\"path\":\"/a/v1/vms/x/disks/1\",\"vm\":\"x\",\"disk\":\"1\",\"in\":{}}"));
    CHECK_EQ(status("GET", "/a/v1/vms/all", NULL), 204); /* the first that fits */
    CHECK(says("POST", "/a/v1/raw", json_pack("{s:b}", "x", 1), "{\"x\":true}"));
    CHECK(answers("POST /a/v1/raw HTTP/1.0\r\nContent-Length: 3\r\n\r\n{[(", "\r\n\r\n{[("));

    static const char *const nobody[] = {
        "/", "/a/v1/", "/a/v1/quick/", "/a/v1/quic", "/a/v1//quick", "/b/quick", "/a/v1/vms/", "/a/v1/vms/x/", "/a/v1/vms",
        "/a/v1/vms//disks/1", "/a/v1/vms/x/disks/", "/a/v1/vms/x%2fdisks/1/2", "/a/v1/quick%00", "/a/v1/quick%00x",
        "/a/v1/vms/a%2Fb",
    };
    for (u32 i = 0; i < ARRAY_SIZE(nobody); i++)
        if (status("GET", nobody[i], NULL) != 404)
            test_fail(__FILE__, __LINE__, "%s is somebody", nobody[i]);
    CHECK_EQ(status("PUT", "/a/v1/quick", NULL), 405);
    CHECK_EQ(status("GET", "/a/v1/vms/x/disks/1", NULL), 405);
    CHECK_EQ(status("GET", "/a/v1%2fquick", NULL), 204); /* the same path, written otherwise */
    stop();
}

/* A failure is an array of one sentence, and its errno goes through the status and comes back. */
TEST(failures)
{
    static const int codes[] = { EINVAL, EACCES, ENOENT, EALREADY, EBUSY, EMSGSIZE, EIO, EOPNOTSUPP, EAGAIN, ETIMEDOUT };
    static const struct {
        int code, status;
    } others[] = { { EPERM, 403 }, { EEXIST, 409 }, { ECANCELED, 503 }, { ENOMEM, 500 }, { ENOSPC, 500 }, { 0, 500 } };
    struct http_answer a;
    struct error err;
    char path[64], text[64];

    REQUIRE(start(NULL));
    for (u32 i = 0; i < ARRAY_SIZE(codes); i++) {
        snprintf(path, sizeof path, "/a/v1/fails/%d", codes[i]);
        snprintf(text, sizeof text, "it fails with %d", codes[i]);
        CHECK_EQ(ask("GET", path, NULL, &a, &err), -codes[i]);
        CHECK_STR(err.text, text);
        CHECK_EQ(err.code, codes[i]);
        CHECK_EQ(a.status, http_status(-codes[i]));
        CHECK(!a.body);
    }
    for (u32 i = 0; i < ARRAY_SIZE(others); i++)
        CHECK_EQ(http_status(-others[i].code), others[i].status);
    CHECK_EQ(http_errno(200), 0);
    CHECK_EQ(http_errno(399), 0);
    CHECK_EQ(http_errno(418), -EPROTO);
    CHECK_EQ(http_errno(599), -EIO);
    CHECK(answers("GET /a/v1/nobody HTTP/1.0\r\n\r\n", "[\"GET /a/v1/nobody: there is no such call\"]"));
    CHECK(answers("GET /a/v1/fails/16 HTTP/1.0\r\n\r\n", "Content-Type: application/json"));
    CHECK_EQ(ask("GET", "/a/v1/nothing", NULL, &a, &err), -EIO);
    CHECK_STR(err.text, "the test answers with HTTP status 500");
    CHECK_EQ(ask("GET", "/a/v1/odd", NULL, &a, &err), -EBUSY);
    CHECK_STR(err.text, "the request cannot be met, nor be quoted");
    stop();
}

TEST(bodies)
{
    static const struct http_limits limits = { BODY, 4, 30, 60, 2 };
    static const char *const bad[] = { "", "{", "{}x", "[]", "5", "null", "\"x\"",
                                       "{\"a\":1,\"a\":2}", "{\"a\":\"\xff\"}", "{\"a\":\"\\u0000\"}" };
    char text[2 * BODY + 100];

    REQUIRE(start(&limits));
    for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(text, sizeof text, "PUT /a/v1/echo HTTP/1.0\r\nContent-Length: %zu\r\n\r\n%s", strlen(bad[i]), bad[i]);
        CHECK(answers(text, " 400 "));
    }
    for (u32 more = 0; more < 2; more++) { /* as long as may be, and a byte longer; it makes no difference how it is sent */
        int n = snprintf(text, sizeof text, "POST /a/v1/raw HTTP/1.0\r\nContent-Length: %u\r\n\r\n", BODY + more);
        memset(text + n, 'x', BODY + more);
        text[n + BODY + (int)more] = 0;
        CHECK(answers(text, more ? "a request has at most 1000 bytes" : "xxxx"));
        n = snprintf(text, sizeof text, "POST /a/v1/raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n%x\r\n", BODY);
        memset(text + n, 'x', BODY);
        snprintf(text + n + BODY, sizeof text - (size_t)n - BODY, more ? "\r\n1\r\nx\r\n0\r\n\r\n" : "\r\n0\r\n\r\n");
        CHECK(answers(text, more ? " 413 " : " 200 "));
    }
    CHECK(answers("PUT /a/v1/nobody HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", " 404 "));
    CHECK(answers("GET /a/v1/quick HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", " 204 ")); /* ignored */
    stop();
}

/* Nonsense is refused or left; and the next client is served. */
TEST(malformed)
{
    static const char *const nonsense[] = {
        "\r\n\r\n", "GET\r\n\r\n", "GET /a/v1/quick\r\n\r\n", "GET /a/v1/quick HTTP/9.9\r\n\r\n", "\1\2\3\4\r\n\r\n",
        "GET /a/v1/quick HTTP/1.1\r\nno colon\r\n\r\n", "PUT /a/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        "PUT /a/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "PUT /a/v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET /a/v1/vms/%zz%%% HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    static const struct http_limits limits = { BODY, 64, 30, 60, 2 };
    char *big = malloc(100000);

    REQUIRE(start(&limits));
    for (u32 i = 0; i < 40; i++) {
        const int fd = dial();
        say(fd, nonsense[i % ARRAY_SIZE(nonsense)]);
        if (i & 1)
            shutdown(fd, SHUT_WR);
        close(fd);
    }
    memset(big, 'x', 99999); /* a head that is too long */
    memcpy(big, "GET /", 5);
    big[99999] = 0;
    const int fd = dial();
    (void)!send(fd, big, 99999, MSG_NOSIGNAL | MSG_DONTWAIT);
    CHECK(hear(fd, " 4")); /* 414, or 431 */
    close(fd);
    CHECK_EQ(status("GET", "/a/v1/quick", NULL), 204);
    free(big);
    stop();
}

/* Two who only begin have both places; a third gets in, since the two are dropped. */
TEST(slow)
{
    static const struct http_limits limits = { BODY, 2, 1000, 1000, 1 };
    char c;

    REQUIRE(start(&limits));
    const int a = dial(), b = dial();
    say(a, "GE");
    say(b, "PUT /a/v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{");
    CHECK(served("GET", "/a/v1/quick"));
    CHECK(recv(a, &c, 1, 0) <= 0);
    CHECK(recv(b, &c, 1, 0) <= 0);
    close(a);
    close(b);
    stop();
}

/* One who is silent is dropped though there is room. */
TEST(silent)
{
    static const struct http_limits limits = { BODY, 4, 1, 100, 100 };
    char c;

    REQUIRE(start(&limits));
    const int fd = dial();
    say(fd, "GET /a/v1/qui");
    CHECK(recv(fd, &c, 1, 0) <= 0 && errno != EAGAIN);
    close(fd);
    stop();
}

static void answer_late(void *arg)
{
    for (u32 i = 0; i < rig.nlate; i++)
        http_json(rig.late[i], json_pack("{s:i}", "late", (int)i));
    rig.nlate = 0;
    __atomic_store_n((bool *)arg, true, __ATOMIC_SEQ_CST);
}

static void answer_all(void)
{
    bool done = false;
    CHECK_EQ(loop_post(rig.loop, answer_late, &done), 0);
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST))
        usleep(1000);
}

/* Calls that wait hold nobody up, though all places but one are theirs, and for longer than anybody may take. */
TEST(late_answer)
{
    static const struct http_limits limits = { BODY, 3, 1, 1, 1 };

    REQUIRE(start(&limits));
    const int a = dial(), b = dial();
    say(a, "GET /a/v1/late HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(&rig.nlate, 1);
    say(b, "GET /a/v1/late HTTP/1.0\r\n\r\n");
    wait_for(&rig.nlate, 2);
    for (u32 i = 0; i < 3; i++) {
        CHECK(served("GET", "/a/v1/quick"));
        usleep(500000);
    }
    answer_all();
    CHECK(hear(a, "{\"late\":0}"));
    CHECK(hear(b, "{\"late\":1}"));
    close(a);
    close(b);
    stop();
}

/* A connection is good for another request after a late answer. */
TEST(goes_on)
{
    REQUIRE(start(NULL));
    const int fd = dial();
    for (u32 i = 0; i < 3; i++) {
        say(fd, "GET /a/v1/late HTTP/1.1\r\nHost: x\r\n\r\n");
        wait_for(&rig.nlate, 1);
        answer_all();
        CHECK(hear(fd, "{\"late\":0}"));
        say(fd, "GET /a/v1/quick HTTP/1.1\r\nHost: x\r\n\r\n");
        CHECK(hear(fd, " 204 "));
    }
    close(fd);
    stop();
}

/* Whoever asked has gone before the answer is there: it is lost, and nothing else; its place is free again. */
TEST(gone_before_the_answer)
{
    static const struct http_limits limits = { BODY, LATE, 200, 200, 200 };

    REQUIRE(start(&limits));
    for (u32 round = 0; round < 3; round++) {
        for (u32 i = 0; i < LATE; i++) {
            const int fd = dial();
            say(fd, "GET /a/v1/late HTTP/1.0\r\n\r\n");
            wait_for(&rig.nlate, i + 1);
            close(fd);
        }
        answer_all();
    }
    CHECK_EQ(status("GET", "/a/v1/quick", NULL), 204);
    stop();
}

/* What waits when the loop has ended is answered; what comes then is refused, and reaches no handler. */
TEST(the_end)
{
    bool done;

    REQUIRE(start(NULL));
    const int waits = dial(), comes = dial();
    say(comes, "GET /a/v1/quick HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(hear(comes, " 204 "));
    say(waits, "GET /a/v1/late HTTP/1.0\r\n\r\n");
    wait_for(&rig.nlate, 1);
    stop_loop();
    say(comes, "GET /a/v1/quick HTTP/1.1\r\nHost: x\r\n\r\n");
    answer_late(&done);
    close_all();
    CHECK(hear(waits, "{\"late\":0}"));
    CHECK(hear(comes, " 503 "));
    CHECK_EQ(rig.nquick, 1);
    close(waits);
    close(comes);
}

TEST(opening)
{
    struct error err = { "" };
    struct stat st;

    REQUIRE(start(NULL));
    CHECK(!stat(rig.path, &st) && (st.st_mode & 0777) == 0600);
    CHECK(!http_server_open(rig.loop, "test: ", rig.path, rig.routes, NULL, &err) && strstr(err.text, "in use"));
    CHECK_EQ(err.code, EADDRINUSE);
    CHECK(!http_server_open(rig.loop, "test: ", "/nowhere/at/all", rig.routes, NULL, &err) && err.code == ENOENT);
    CHECK_EQ(status("GET", "/a/v1/quick", NULL), 204);
    stop();
}
