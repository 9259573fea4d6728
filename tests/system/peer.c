/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c - both ends of what the test virtio_devices sends through a machine; linked statically, for the guest too.
 *
 *   peer pattern SEED BYTES             the bytes that all agree on, on standard output
 *   peer unix PATH [TEXT]               connects, sends TEXT and a newline, then standard input; prints what comes
 *   peer unix-listen PATH               takes one connection: standard input out, what comes to standard output
 *   peer vsock CID PORT                 the same over vsock
 *   peer vsock-listen PORT
 *   peer events FILE N                  prints N input events of /dev/input/...: type code value
 *   peer keys CODE...                   presses and releases keys: events for a virtio keyboard on standard output
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/input.h>
#include <linux/vm_sockets.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void put(int fd, const void *buf, size_t n)
{
    for (const char *p = buf; n;) {
        const ssize_t w = write(fd, p, n);
        if (w <= 0)
            die("write");
        p += w, n -= (size_t)w;
    }
}

/* Standard input into fd, fd to standard output, until both have ended. It reads from fd also while that takes no more:
   of two ends that only write, both would wait for ever. */
static int join(int fd)
{
    char out[65536], in[65536];
    size_t have = 0, sent = 0;
    bool more = true, coming = true;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    while (more || coming) {
        const bool sends = more && sent < have;
        struct pollfd p[2] = { { more && !sends ? STDIN_FILENO : -1, POLLIN, 0 },
                               { sends || coming ? fd : -1, (short)((coming ? POLLIN : 0) | (sends ? POLLOUT : 0)), 0 } };
        if (poll(p, 2, -1) < 0)
            die("poll");
        if (p[0].revents) {
            const ssize_t n = read(STDIN_FILENO, out, sizeof out);
            have = n > 0 ? (size_t)n : 0;
            sent = 0;
            if (!have) {
                shutdown(fd, SHUT_WR);
                more = false;
            }
        }
        if (sends && p[1].revents & ~POLLIN) {
            const ssize_t n = write(fd, out + sent, have - sent);
            if (n < 0 && errno != EAGAIN)
                die("write");
            sent += n > 0 ? (size_t)n : 0;
        }
        if (coming && p[1].revents & ~POLLOUT) {
            const ssize_t n = read(fd, in, sizeof in);
            if (n > 0)
                put(STDOUT_FILENO, in, (size_t)n);
            else if (n == 0 || errno != EAGAIN)
                coming = false;
        }
    }
    return 0;
}

static int accepted(int fd, const struct sockaddr *a, socklen_t len)
{
    if (fd < 0 || bind(fd, a, len) || listen(fd, 4))
        die("listen");
    fprintf(stderr, "listening\n");
    const int c = accept(fd, NULL, NULL);
    if (c < 0)
        die("accept");
    return c;
}

static int connected(int fd, const struct sockaddr *a, socklen_t len)
{
    for (int tries = 0; fd >= 0 && connect(fd, a, len); tries++) {
        if (tries == 6000)
            die("connect");
        usleep(100000);
    }
    return fd;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    struct sockaddr_un u = { .sun_family = AF_UNIX };
    struct sockaddr_vm v = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };

    if (!strcmp(what, "pattern") && argc == 4) {
        uint64_t x = strtoull(argv[2], NULL, 0) * 2 + 1, n = strtoull(argv[3], NULL, 0);
        for (uint64_t k = 0; k < n; k++) {
            x = x * 6364136223846793005ull + 1442695040888963407ull;
            putchar((int)(x >> 56));
        }
        return fflush(stdout) != 0;
    }
    if (!strcmp(what, "unix") && argc >= 3) {
        strncpy(u.sun_path, argv[2], sizeof u.sun_path - 1);
        const int fd = connected(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&u, sizeof u);
        if (argc > 3) {
            put(fd, argv[3], strlen(argv[3]));
            put(fd, "\n", 1);
        }
        return join(fd);
    }
    if (!strcmp(what, "unix-listen") && argc == 3) {
        strncpy(u.sun_path, argv[2], sizeof u.sun_path - 1);
        return join(accepted(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&u, sizeof u));
    }
    if (!strcmp(what, "vsock") && argc == 4) {
        v.svm_cid = (unsigned)atoi(argv[2]);
        v.svm_port = (unsigned)atoi(argv[3]);
        return join(connected(socket(AF_VSOCK, SOCK_STREAM, 0), (struct sockaddr *)&v, sizeof v));
    }
    if (!strcmp(what, "vsock-listen") && argc == 3) {
        v.svm_port = (unsigned)atoi(argv[2]);
        return join(accepted(socket(AF_VSOCK, SOCK_STREAM, 0), (struct sockaddr *)&v, sizeof v));
    }
    if (!strcmp(what, "events") && argc == 4) {
        const int fd = open(argv[2], O_RDONLY);
        if (fd < 0)
            die(argv[2]);
        fprintf(stderr, "listening\n");
        for (int n = atoi(argv[3]); n; n--) {
            struct input_event e;
            if (read(fd, &e, sizeof e) != sizeof e)
                die("read");
            printf("EVENT %u %u %d\n", e.type, e.code, e.value);
        }
        return 0;
    }
    if (!strcmp(what, "keys") && argc > 2) {
        for (int k = 2; k < argc; k++)
            for (int down = 1; down >= 0; down--) {
                const struct {
                    uint16_t type, code;
                    int32_t value;
                } e[2] = { { EV_KEY, (uint16_t)atoi(argv[k]), down }, { EV_SYN, SYN_REPORT, 0 } };
                put(STDOUT_FILENO, e, sizeof e);
            }
        return 0;
    }
    fprintf(stderr, "peer: see peer.c\n");
    return 2;
}
