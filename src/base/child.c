/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - see child.h. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

static const struct child_starter *starter; /* it is set before there are threads */

void child_use(const struct child_starter *s)
{
    starter = s;
}

int child_spawn(char *const argv[], const int *fd, int n, int says, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    extern char **environ;
    int copy[CHILD_MAX_FDS], r = 0, made = 0;

    /* The copies keep out of the way of the numbers that the child is to get. */
    for (; made < n && !r; made++) {
        copy[made] = fcntl(fd[made], F_DUPFD_CLOEXEC, CHILD_FIRST_FD + CHILD_MAX_FDS);
        if (copy[made] < 0) {
            r = errno;
            break;
        }
    }
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawn_file_actions_adddup2(&actions, says, STDERR_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
    for (int i = 0; i < made; i++)
        posix_spawn_file_actions_adddup2(&actions, copy[i], CHILD_FIRST_FD + i);
    /* the child does not get what we were started with */
    posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_FIRST_FD + made);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    if (!r)
        r = posix_spawn(pid, "/proc/self/exe", &actions, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < made; i++)
        close(copy[i]);
    return -r;
}

int child_start(struct child *c, char *const argv[], const int *fd, int n)
{
    int ends[2];

    *c = (struct child){ .says = -1 };
    if (starter) {
        const int r = starter->start(starter->ctx, argv, fd, n, &c->says, &c->id);
        return r ? r : fcntl(c->says, F_SETFL, O_NONBLOCK) ? -errno : 0;
    }
    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    /* The copies are above the numbers that are replaced in the child, in case we were started without a standard
       error. */
    int r = child_spawn(argv, fd, n, ends[1], &c->pid);
    close(ends[1]);
    if (!r && fcntl(ends[0], F_SETFL, O_NONBLOCK))
        r = -errno;
    if (!r) {
        c->says = ends[0];
        return 0;
    }
    close(ends[0]);
    child_end(c);
    return r;
}

static void hear_no_more(struct child *c)
{
    if (c->heard)
        loop_fd_remove(c->loop, &c->watch);
    c->heard = false;
    if (c->says >= 0)
        close(c->says);
    c->says = -1;
}

static void say(struct child *c)
{
    struct error e;

    c->line[c->len] = 0;
    if (c->lines++ < CHILD_MAX_LINES && c->len) { /* empty ones count, too: they are work */
        error_set(&e, 0, "%s", c->line); /* the words may come from a stranger: we print one plain line */
        log_warn("%s: its process says: %s", c->name, e.text);
    }
    c->len = 0;
}

/* Reads what is there. False when no more will come. */
static bool hear(struct child *c)
{
    char buf[1024];
    const ssize_t n = read(c->says, buf, sizeof(buf));

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] != '\n')
            c->line[c->len++] = buf[i] ? buf[i] : ' ';
        if (buf[i] == '\n' || c->len == CHILD_LINE)
            say(c);
    }
    if (c->lines >= CHILD_MAX_LINES)
        log_warn("%s: its process says more, which is not shown", c->name);
    return n && c->lines < CHILD_MAX_LINES;
}

static void heard(struct loop_fd *w, u32 events)
{
    struct child *c = container_of(w, struct child, watch);

    if (!hear(c)) {
        say(c);
        hear_no_more(c);
    }
}

int child_listen(struct child *c, struct loop *l, const char *name)
{
    c->name = name;
    c->loop = l;
    c->watch = (struct loop_fd){ c->says, EPOLLIN, heard };
    const int r = loop_fd_add(l, &c->watch);
    c->heard = !r;
    return r;
}

void child_end(struct child *c)
{
    u64 end = clock_ns() + (c->patience_ms ? c->patience_ms : CHILD_END_MS) * 1000000ull;
    int r = 0;

    if (c->pid <= 0 && !c->id)
        return;
    if (!c->name)
        c->name = "lodge";
    /* The pipe ends when the process ends. */
    while (c->says >= 0) {
        const u64 now = clock_ns();
        struct pollfd p = { c->says, POLLIN, 0 };
        if (now >= end || poll(&p, 1, (int)((end - now) / 1000000) + 1) == 0)
            break;
        if (p.revents && !hear(c))
            hear_no_more(c);
    }
    if (c->len)
        say(c);
    const bool ended = c->says < 0;
    hear_no_more(c);
    if (c->id) {
        if (!ended)
            starter->kill(starter->ctx, c->id);
        c->id = 0;
        return;
    }
    /* The process has closed the pipe, or will be a zombie in a moment, or does not want to end. We do the same in
       each case. */
    while ((r = waitpid(c->pid, NULL, WNOHANG)) == 0 && clock_ns() < end)
        poll(NULL, 0, 1);
    if (!r)
        kill(c->pid, SIGKILL);
    end = clock_ns() + CHILD_KILLED_MS * 1000000ull;
    while (!r && (r = waitpid(c->pid, NULL, WNOHANG)) == 0 && clock_ns() < end)
        poll(NULL, 0, 1);
    c->pid = 0;
}

int child_last_words(struct child *c, struct error *err)
{
    struct pollfd p = { c->says, POLLIN, 0 };
    char words[CHILD_LINE] = "";
    size_t n = 0;
    int status = 0;

    for (;;) {
        const ssize_t got = read(c->says, words + n, sizeof(words) - 1 - n);
        if (!got || (got < 0 && errno != EAGAIN && errno != EINTR))
            break;
        n += (size_t)MAX(got, 0);
        if (got < 0)
            poll(&p, 1, -1);
    }
    hear_no_more(c);
    while (!c->id && waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    words[n] = 0;
    const bool well = c->id ? !words[0] : WIFEXITED(status) && !WEXITSTATUS(status);
    c->pid = 0;
    c->id = 0;
    if (well)
        return 0;
    words[strcspn(words, "\n")] = 0;
    return error_set(err, EIO, "%s", words[0] ? words : "its process has ended and does not say why");
}
