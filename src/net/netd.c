/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netd.c - which network process to be.
 */
#include "net/netd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "net/peer.h"

/* Listens before the caller's waitpid() returns, and goes on as nobody's child. */
static int run_switch(const char *name)
{
    struct error err;
    int listener = switch_listen(name, &err);

    if (listener == -EADDRINUSE)
        return 0; /* another was faster: as good */
    if (listener < 0) {
        fprintf(stderr, "lodge: %s\n", err.text);
        return 1;
    }
    const pid_t pid = fork();
    if (pid)
        return pid < 0;
    /* Whose terminal or pipe this was must not wait for us. */
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    return switch_process(listener, name);
}

int netd_main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && !strcmp(argv[1], "user")) {
        prctl(PR_SET_NAME, "lodge-net");
        return user_process(3);
    }
    if (argc == 3 && !strcmp(argv[1], "switch")) {
        prctl(PR_SET_NAME, "lodge-switch");
        return run_switch(argv[2]);
    }
    fprintf(stderr, "lodge: \"netd\" is for lodge itself\n");
    return 2;
}
