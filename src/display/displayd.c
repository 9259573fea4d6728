/* SPDX-License-Identifier: Apache-2.0 */
/*
 * displayd.c - see displayd.h. Changes that a viewer has not taken yet are joined into one rectangle. So a viewer that
 * takes nothing costs no memory.
 */
#include "display/displayd.h"

#include <errno.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "display/display.h"

enum { MAX_PROCESSES = 3 * VNC_MAX_VIEWERS, REAP_MS = 500, FIRST_SIZE_MS = 1000 };

struct client {
    pid_t pid; /* 0: none */
    int sock;  /* socket to its process */
    int stranger; /* kept open, so that displayd can cut the connection */
    bool ready, behind, resized;
    u32 x, y, w, h; /* if behind: the rectangle that it has not been told of */
    u64 since;
};

static struct vnc_hello hello;
static struct vnc_tls *tls;
static const u32 *picture;
static u32 width, height;
static struct client client[VNC_MAX_VIEWERS];
static u64 came;
static u32 processes; /* processes of clients, including those of forgotten clients that have not ended yet */

static u32 viewers(void)
{
    u32 n = 0;
    for (u32 i = 0; i < VNC_MAX_VIEWERS; i++)
        n += client[i].pid != 0;
    return n;
}

static void tell_machine(u32 n)
{
    const struct vnc_message m = { .type = VNC_VIEWERS, .x = n };
    /* The machine reads this, or has ended. */
    while (send(VNC_FD_MACHINE, &m, sizeof m, MSG_NOSIGNAL) < 0)
        if (errno != EINTR)
            _exit(0);
}

/* The client's process notices the end of the connection, at once or after its sleep for a wrong password. */
static void forget(struct client *c)
{
    shutdown(c->stranger, SHUT_RDWR);
    close(c->stranger);
    close(c->sock);
    c->pid = 0;
    tell_machine(viewers());
}

static void flush(struct client *c)
{
    const struct vnc_message m = {
        .type = c->resized ? VNC_SIZE : VNC_CHANGED, .x = c->x, .y = c->y, .w = c->w, .h = c->h
    };
    if (c->behind && send(c->sock, &m, sizeof m, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof m)
        c->behind = c->resized = false;
}

static void changed(struct client *c, const struct vnc_message *m)
{
    if (m->type == VNC_SIZE || !c->behind) {
        c->resized = m->type == VNC_SIZE;
        c->x = m->x, c->y = m->y, c->w = m->w, c->h = m->h;
    } else if (!c->resized) {
        const u32 x = MIN(c->x, m->x), y = MIN(c->y, m->y);
        c->w = MAX(c->x + c->w, m->x + m->w) - x;
        c->h = MAX(c->y + c->h, m->y + m->h) - y;
        c->x = x;
        c->y = y;
    }
    c->behind = true;
    flush(c);
}

static enum vnc_type hear_machine(void)
{
    struct vnc_message m;
    const ssize_t n = recv(VNC_FD_MACHINE, &m, sizeof m, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return VNC_READY; /* the machine has sent nothing */
    if (n != sizeof m)
        _exit(0); /* the viewers' processes notice that their sockets are closed */
    if (m.type == VNC_SIZE) {
        width = m.w;
        height = m.h;
    }
    for (u32 i = 0; i < VNC_MAX_VIEWERS; i++)
        if (client[i].pid)
            changed(&client[i], &m);
    return m.type;
}

/* While nobody looks, the machine sends nothing. So displayd asks for the present size, which it must tell the first
   viewer. */
static void ask_size(void)
{
    struct pollfd p = { VNC_FD_MACHINE, POLLIN, 0 };

    tell_machine(1);
    while (poll(&p, 1, FIRST_SIZE_MS) == 1 && hear_machine() != VNC_SIZE)
        ;
}

static void start(struct client *c, int stranger)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        close(stranger);
        return;
    }
    if (!viewers())
        ask_size();
    const pid_t pid = fork();
    if (!pid) {
        struct viewer v = { stranger, pair[1], VNC_FD_MACHINE, picture, width, height, hello.title, hello.password };
        close(pair[0]);
        close(VNC_FD_LISTENER);
        for (u32 i = 0; i < VNC_MAX_VIEWERS; i++)
            if (client[i].pid) {
                close(client[i].sock);
                close(client[i].stranger);
            }
        if (tls)
            vnc_tls_serve(tls, &v);
        viewer_serve(&v);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        close(stranger);
        tell_machine(viewers());
        return;
    }
    processes++;
    *c = (struct client){ .pid = pid, .sock = pair[0], .stranger = stranger, .since = ++came };
    tell_machine(viewers());
}

/* Accepts one more viewer. If there is no room, the viewer that has tried to log in for longest is removed. */
static void knock(void)
{
    struct client *free = NULL, *oldest = NULL;
    const int fd = accept4(VNC_FD_LISTENER, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    for (u32 i = 0; i < VNC_MAX_VIEWERS; i++) {
        if (!client[i].pid)
            free = &client[i];
        else if (!client[i].ready && (!oldest || client[i].since < oldest->since))
            oldest = &client[i];
    }
    if (!free && oldest) {
        forget(oldest);
        free = oldest;
    }
    if (free)
        start(free, fd);
    else
        close(fd);
}

static void serve(void)
{
    for (;;) {
        struct pollfd p[2 + VNC_MAX_VIEWERS] = { { VNC_FD_MACHINE, POLLIN, 0 }, { VNC_FD_LISTENER, POLLIN, 0 } };
        for (u32 i = 0; i < VNC_MAX_VIEWERS; i++)
            p[2 + i] = (struct pollfd){ client[i].pid ? client[i].sock : -1,
                                        (short)(POLLIN | (client[i].behind ? POLLOUT : 0)), 0 };
        if (processes >= MAX_PROCESSES)
            p[1].fd = -1;
        const int n = poll(p, ARRAY_SIZE(p), processes ? REAP_MS : -1);
        while (processes && waitpid(-1, NULL, WNOHANG) > 0)
            processes--;
        if (n <= 0)
            continue;
        for (u32 i = 0; i < VNC_MAX_VIEWERS; i++) {
            struct client *c = &client[i];
            struct vnc_message m;
            if (p[2 + i].revents & POLLIN && recv(c->sock, &m, sizeof m, MSG_DONTWAIT) == sizeof m &&
                m.type == VNC_READY)
                c->ready = true;
            else if (p[2 + i].revents & (POLLIN | POLLHUP | POLLERR))
                forget(c);
            else if (p[2 + i].revents & POLLOUT)
                flush(c);
        }
        if (p[0].revents)
            hear_machine();
        if (p[1].revents)
            knock();
    }
}

int displayd_main(int argc, char **argv)
{
    struct vnc_answer a = { .magic = VNC_MAGIC };
    u8 warm_up[CHALLENGESIZE] = { 0 };

    /* The machine may be in a guest's hands; the one who started us and says which folder has the keys is not. */
    if (argc > 2 || recv(VNC_FD_MACHINE, &hello, sizeof hello, 0) != sizeof hello || hello.magic != VNC_MAGIC ||
        !memchr(hello.tls, 0, sizeof hello.tls) || strcmp(hello.tls, argc == 2 ? argv[1] : "")) {
        fprintf(stderr, "lodge: \"displayd\" is for lodge itself\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "lodge-screen");
    width = hello.width;
    height = hello.height;
    picture = mmap(NULL, DISPLAY_BYTES, PROT_READ, MAP_SHARED, VNC_FD_PICTURE, 0);
    if (picture == MAP_FAILED)
        a.result = error_set(&a.err, errno, "the picture cannot be mapped: %s", strerror(errno));
    close(VNC_FD_PICTURE);
    if (!a.result && *hello.tls && !(tls = vnc_tls_load(hello.tls, &a.err)))
        a.result = -EINVAL;
    rfbEncryptBytes(warm_up, hello.password); /* the library behind it reads files when it is first used */
    if (!a.result)
        a.result = sandbox_enter(SANDBOX_SCREEN, NULL, NULL, &a.err);
    if (send(VNC_FD_MACHINE, &a, sizeof a, MSG_NOSIGNAL) != sizeof a || a.result)
        return 1;
    serve();
    return 0;
}
