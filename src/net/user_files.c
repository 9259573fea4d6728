/* SPDX-License-Identifier: Apache-2.0 */
/* user_files.c - see user_files.h. */
#include "net/user_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/pass.h"
#include "base/sandbox.h"

struct keeper {
    const char *tftp; /* "": none */
    int dir;          /* descriptor of that folder; -1: none */
};

/* Accepts a regular file and nothing else: the open of a FIFO would make us wait. */
static int regular(int fd)
{
    struct stat st;

    if (fd < 0 || (!fstat(fd, &st) && S_ISREG(st.st_mode)))
        return fd < 0 ? -errno : fd;
    close(fd);
    return -EACCES;
}

static int open_for_guest(void *ctx, const char *path)
{
    const struct keeper *k = ctx;
    const size_t n = strlen(k->tftp);
    const struct open_how below = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                                    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

    if (!strcmp(path, "/etc/resolv.conf"))
        return regular(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (k->dir < 0 || strncmp(path, k->tftp, n) || path[n] != '/')
        return -EACCES;
    path += n;
    return regular((int)syscall(SYS_openat2, k->dir, path + strspn(path, "/"), &below, sizeof(below)));
}

/* The descriptor of the requests, from the process that has them; -1 where the kernel has no such requests. */
static int take_requests(int sock)
{
    char c;
    int requests;

    return pass_receive(sock, &c, 1, &requests, 1) == 1 ? requests : -1;
}

static _Noreturn void keep(pid_t child, int sock, const char *tftp)
{
    const struct keeper k = { tftp, *tftp ? open(tftp, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1 };
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC), mem = sandbox_memory(child);
    const bool can = mem >= 0;
    int status;

    for (int fd = 0; fd < 3; fd++) /* messages of the other process to the machine shall end when that process ends */
        dup2(null, fd);
    close(null);
    prctl(PR_SET_NAME, "lodge-files");
    if (!sandbox_drop(0) && send(sock, &can, 1, MSG_NOSIGNAL) == 1)
        sandbox_keep(take_requests(sock), mem, sock, open_for_guest, (void *)(uintptr_t)&k);
    close(sock);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int user_files_begin(const char *tftp)
{
    const pid_t parent = getpid();
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    const pid_t pid = fork();
    if (pid > 0) {
        if (dup3(pair[0], 3, O_CLOEXEC) < 0)
            _exit(1);
        closefrom(4);
        keep(pid, 3, tftp);
    }
    close(pair[0]);
    if (pid < 0) {
        const int r = -errno;
        close(pair[1]);
        return r;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else waits for us */
    if (getppid() != parent)
        _exit(1);
    return pair[1];
}

int user_files_sandbox(int keeper, const char *tftp, struct error *err)
{
    bool can = false; /* the keeper can read what we ask for */
    int requests = -1, r = recv(keeper, &can, 1, 0) == 1 ? 0 : -EPROTO;

    r = r ? error_set(err, -r, "its process cannot give up its privileges")
          : sandbox_enter(SANDBOX_USER, tftp, can ? &requests : NULL, err);
    if (!r && (r = pass_send(keeper, "", 1, &requests, requests >= 0, 0)))
        error_set(err, -r, "its process cannot give up its privileges: %s", strerror(-r));
    if (requests >= 0)
        close(requests);
    return r; /* the keeper's socket stays open: its end tells the keeper that we have ended */
}
