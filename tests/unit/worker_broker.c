/* SPDX-License-Identifier: Apache-2.0 */
/* worker_broker.c - a worker that asks its broker: files, refusals, messages that are none; the sockets that it leaves. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "worker/broker.h"

static char dir[] = "/tmp/lodge-broker-XXXXXX", path[64];
static struct vm_config config;
static struct policy *policy;

/* Runs a worker, whose exit status is to be 0. Returns its broker, when the worker has closed its end. */
static struct broker *run_worker(int (*worker)(int sock))
{
    int pair[2], status;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        abort();
    fflush(stdout);
    const pid_t pid = fork();
    if (!pid) {
        close(pair[0]);
        broker_use(pair[1]);
        _exit(worker(pair[1]));
    }
    close(pair[1]);
    struct broker *b = broker_new(pair[0], policy);
    if (!b)
        abort();
    struct pollfd p = { pair[0], POLLIN, 0 };
    while (poll(&p, 1, -1) < 0 || broker_serve(b))
        ;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    return b;
}

static void place(const char *name)
{
    if (strstr(dir, "XXXXXX") ? !mkdtemp(dir) : mkdir(dir, 0700))
        abort();
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (config_init(&config) || config_text(&config.api_socket, "%s", path) || !(policy = policy_new(&config, NULL)) ||
        policy_allow(policy, OPENER_REPORT, path))
        abort();
}

static void leave(void)
{
    policy_free(policy);
    config_free(&config);
    rmdir(dir);
}

static int files(int sock)
{
    char word[5] = "";
    const int out = opener_file(OPENER_REPORT, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    const int in = opener_file(OPENER_REPORT, path, O_RDONLY, 0);

    if (out < 0 || in < 0 || write(out, "word", 4) != 4 || read(in, word, 4) != 4 || strcmp(word, "word"))
        return 1;
    if (!(fcntl(in, F_GETFD) & FD_CLOEXEC))
        return 2;
    if (opener_file(OPENER_REPORT, path, O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0 || errno != EEXIST)
        return 3;
    if (opener_remove(OPENER_REPORT, path) || opener_remove(OPENER_REPORT, path) != -EACCES) /* its own, and then not any more */
        return 4;
    return opener_folder(OPENER_SNAPSHOT, path, 0700) != -EACCES || opener_file(OPENER_DISK, path, O_RDWR, 0) >= 0 || errno != EACCES ? 5 : 0;
}

TEST(files_and_refusals)
{
    place("file");
    broker_free(run_worker(files));
    CHECK(access(path, F_OK));
    leave();
}

static int listen_and_die(int sock)
{
    struct unix_socket s;
    struct error err;

    return unix_socket_listen(&s, OPENER_API, "", path, &err);
}

static int listen_and_close(int sock)
{
    struct unix_socket s;
    struct error err;

    if (unix_socket_listen(&s, OPENER_API, "", path, &err))
        return 1;
    unix_socket_close(&s);
    return !access(path, F_OK);
}

TEST(a_socket_that_is_left_behind_goes)
{
    place("socket");
    struct broker *b = run_worker(listen_and_die);
    CHECK(!access(path, F_OK));
    broker_free(b);
    CHECK(access(path, F_OK));
    leave();
}

/* Whoever has the name after the worker gave it up keeps it, also with the same number on the disk. */
TEST(a_name_that_was_given_up_is_not_the_brokers)
{
    struct unix_socket other;
    struct error err;

    place("socket");
    struct broker *b = run_worker(listen_and_close);
    REQUIRE(!unix_socket_listen(&other, OPENER_API, "", path, &err));
    broker_free(b);
    CHECK(!access(path, F_OK));
    unix_socket_close(&other);
    leave();
}

static int nonsense(int sock)
{
    static const char zeroes[8192];
    int answer;

    for (size_t n = 1; n <= sizeof zeroes; n = 2 * n + 1)
        if (send(sock, zeroes, n, 0) != (ssize_t)n || recv(sock, &answer, sizeof answer, 0) != sizeof answer || answer >= 0)
            return 1;
    return 0;
}

TEST(what_is_no_request_is_refused)
{
    place("nothing");
    broker_free(run_worker(nonsense));
    leave();
}
