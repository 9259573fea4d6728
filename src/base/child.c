/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - see child.h. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

int spawn_lodge(char *const argv[], const int *fd, int n, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    extern char **environ;
    int copy[CHILD_MAX_FDS], r = 0, made = 0;

    /* Out of the way of the numbers they are to get. */
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
    for (int i = 0; i < made; i++)
        posix_spawn_file_actions_adddup2(&actions, copy[i], CHILD_FIRST_FD + i);
    posix_spawn_file_actions_addclosefrom_np(&actions, CHILD_FIRST_FD + made); /* what we were started with is not its */
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
