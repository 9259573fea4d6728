/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c - see folder.h. */
#include "share/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/opener.h"

enum { ANSWER_S = 10, ROOM = 256 << 10 /* for requests that the process has not taken yet */ };

static int start(struct folder *f, const struct folder_config *c, int folder)
{
    char *const argv[] = { (char *)"lodge", (char *)"folderd", NULL };
    const int room = ROOM;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    const int r = child_start(&f->child, argv, (int[]){ pair[1], folder, c->memory }, 3);
    close(pair[1]);
    f->sock = pair[0];
    (void)setsockopt(f->sock, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    return r;
}

static int agree(struct folder *f, const struct folder_config *c, struct error *err)
{
    const struct timeval limit = { .tv_sec = ANSWER_S }, never = { 0 };
    const struct folder_hello h = { .magic = FOLDER_MAGIC, .readonly = c->readonly };
    struct folder_answer a;

    setsockopt(f->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const bool ok = send(f->sock, &h, sizeof h, MSG_NOSIGNAL) == sizeof h &&
                    recv(f->sock, &a, sizeof a, 0) == sizeof a && a.magic == FOLDER_MAGIC;
    setsockopt(f->sock, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
    if (!ok)
        return error_set(err, EIO, "%s: its process did not start", c->path);
    a.err.text[sizeof a.err.text - 1] = 0;
    if (a.result)
        return error_set(err, a.result < 0 && a.result > -4096 ? -a.result : EIO, "%s: %s", c->path, a.err.text);
    if (a.err.text[0])
        log_warn("%s: %s", c->name, a.err.text);
    return 0;
}

int folder_open(struct folder *f, const struct folder_config *c, struct error *err)
{
    const int folder = opener_file(OPENER_SHARE, c->path, O_PATH | O_DIRECTORY, 0);

    *f = (struct folder){ .child = { .says = -1 }, .sock = -1 };
    if (folder < 0)
        return error_set(err, errno, "%s: %s", c->path, strerror(errno));
    int r = start(f, c, folder);
    close(folder);
    if (r)
        error_set(err, -r, "%s: cannot start its process: %s", c->path, strerror(-r));
    else
        r = agree(f, c, err);
    if (!r && child_listen(&f->child, c->loop, c->name))
        log_warn("%s: what its process says cannot be heard", c->name);
    if (r)
        folder_close(f, 1);
    return r;
}

void folder_close(struct folder *f, u32 patience_ms)
{
    if (f->sock >= 0)
        close(f->sock); /* this ends the process */
    f->sock = -1;
    f->child.patience_ms = patience_ms;
    child_end(&f->child);
}
