/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd.c - chooses which network process to be.
 */
#include "net/netd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"
#include "net/peer.h"

/* Gives up the caller's terminal or pipe, and its folder. Nobody shall have to wait for us because of that terminal
   or pipe, or because of the file system that the folder is on. */
static void be_nobodys(void)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (null >= 3)
        close(null);
    if (chdir("/"))
        _exit(1);
}

/* There are two processes. One forwards packets and can do nothing with files. The other receives nothing from
   anybody; it removes the name of the socket when the first has ended. */
static int serve_switch(int listener, const char *name)
{
    const pid_t keeper = getpid(), pid = sandbox_drop(0) ? -1 : fork();

    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return getppid() == keeper ? switch_process(listener) : 1;
    }
    close(listener);
    prctl(PR_SET_NAME, "lodge-files");
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    switch_forget(name);
    return pid < 0;
}

/* It listens before the caller's waitpid() returns, and goes on in a process that is nobody's child. */
static int run_switch(const char *name)
{
    struct error err;
    int listener = switch_listen(name, &err);

    if (listener == -EADDRINUSE)
        return 0; /* another process was faster, which is just as good */
    if (listener < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "switch:%s: cannot make its process: %s\n", name, strerror(errno));
        close(listener);
        switch_forget(name);
    }
    if (pid)
        return pid < 0;
    be_nobodys();
    return serve_switch(listener, name);
}

int netd_main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if ((argc == 2 || argc == 3) && !strcmp(argv[1], "user")) {
        prctl(PR_SET_NAME, "lodge-net");
        return user_process(3, argc == 3 ? argv[2] : "");
    }
    if (argc == 3 && !strcmp(argv[1], "switch")) {
        prctl(PR_SET_NAME, "lodge-switch");
        return run_switch(argv[2]);
    }
    fprintf(stderr, "lodge: \"netd\" is for lodge itself\n");
    return 2;
}
