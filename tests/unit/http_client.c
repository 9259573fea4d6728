/* SPDX-License-Identifier: Apache-2.0 */
/* http_client.c - the HTTP client with servers that answer badly, break off, say nothing or are not there. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "http/client.h"

static struct unix_socket sock;
static const char *script; /* what the server says; NULL: nothing, until its client leaves */
static char heard[4096];

static void *serve(void *arg)
{
    const int fd = accept(sock.fd, NULL, NULL);
    size_t n = 0;
    ssize_t r;

    heard[0] = 0;
    while (!strstr(heard, "\r\n\r\n") && (r = recv(fd, heard + n, sizeof heard - 1 - n, 0)) > 0)
        heard[n += (size_t)r] = 0;
    if (script)
        (void)!send(fd, script, strlen(script), MSG_NOSIGNAL);
    else
        (void)!recv(fd, heard + n, sizeof heard - 1 - n, 0);
    close(fd);
    return NULL;
}

static int ask(const char *text, u32 patience, struct http_answer *a, struct error *err)
{
    char path[64];
    pthread_t thread;

    snprintf(path, sizeof path, "/tmp/lodge-http-client-%d", (int)getpid());
    if (unix_socket_listen(&sock, OPENER_API, "test: ", path, err))
        return -1000;
    fcntl(sock.fd, F_SETFL, 0); /* accept() waits */
    script = text;
    const int r0 = pthread_create(&thread, NULL, serve, NULL);
    const int r = r0 ? -1000 : http_ask(&(struct http_request){ path, "the worker", "GET", "/x", NULL, patience }, a, err);
    if (!r0)
        pthread_join(thread, NULL);
    unix_socket_close(&sock);
    return r;
}

TEST(answers)
{
    static const struct {
        const char *text, *error;
        int result, status;
    } cases[] = {
        { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", NULL, 0, 200 },
        { "HTTP/1.0 200 OK\r\n\r\nok", NULL, 0, 200 },
        { "HTTP/1.1 202 Accepted\r\nX: y\r\ncontent-length:2\r\n\r\nok", NULL, 0, 202 },
        { "HTTP/1.1 409 Conflict\r\n\r\n[\"it is locked\"]", "it is locked", -EBUSY, 409 },
        { "HTTP/1.1 404 Not Found\r\n\r\n<html>", "the worker answers with HTTP status 404", -ENOENT, 404 },
        { "HTTP/1.1 418 Teapot\r\n\r\n[5]", "the worker answers with HTTP status 418", -EPROTO, 418 },
        { "HTTP/1.1 500 No\r\n\r\n", "the worker answers with HTTP status 500", -EIO, 500 },
        { "", "the worker ended before it answered", -EIO, 0 },
        { "SSH-2.0-OpenSSH\r\n", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
        { "HTTP/1.1 200 OK\r\nContent-", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
        { "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
        { "HTTP/1.1 -20 OK\r\n\r\nok", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
        { "HTTP/2.0 200 OK\r\n\r\nok", "the worker's answer is no HTTP, or not all of it", -EIO, 0 },
    };
    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        struct http_answer a = { .status = 1 };
        struct error err = { "" };
        CHECK_EQ(ask(cases[i].text, 100, &a, &err), cases[i].result);
        CHECK_EQ(a.status, cases[i].status);
        if (cases[i].error)
            CHECK_STR(err.text, cases[i].error);
        if (cases[i].result)
            CHECK(!a.body && err.code == -cases[i].result);
        else
            CHECK(a.size == 2 && !strcmp(a.body, "ok"));
        CHECK(!strncmp(heard, "GET /x HTTP/1.0\r\n", 17));
        free(a.body);
    }
}

TEST(nobody_and_silence)
{
    struct http_answer a = { .status = 1 };
    struct error err;

    CHECK_EQ(ask(NULL, 1, &a, &err), -EAGAIN);
    CHECK_EQ(a.status, 0);
    CHECK(strstr(err.text, "the worker does not answer"));
    CHECK_EQ(http_ask(&(struct http_request){ "/nowhere/at/all", "it", "GET", "/x", json_object(), 1 }, &a, &err), -ENOENT);
    CHECK(a.status == 0 && err.code == ENOENT);
}
