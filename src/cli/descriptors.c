/* SPDX-License-Identifier: Apache-2.0 */
/*
 * descriptors.c - the descriptors that the program was started with.
 *
 * Shells, terminals and editors leave descriptors of their own open in the programs that they start. A guest that takes
 * over this process must not find them: each is a file or a connection that nobody gave to the process. But some are
 * meant for it. `--disk <(...)` is "/dev/fd/63", and `exec 7<FILE; lodge ... /dev/fd/7` hands over what the user itself
 * may not open. An argument names those. There is no other way to name one, since no option takes a number, and
 * LISTEN_FDS is ignored. So a descriptor that no argument names is closed. One that an argument names stays open, since
 * a file can be opened again at any time (a reset, a snapshot). But no program that we start gets it.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

enum { MOST = 1 << 20 }; /* the default of the kernel's limit, fs.nr_open */

/* The smallest descriptor from fd on that an argument names; INT_MAX: none. */
static int next_named(int argc, char **argv, int fd)
{
    int least = INT_MAX;

    for (int i = 1; i < argc; i++)
        for (const char *p = argv[i]; (p = strstr(p, "/fd/")); p++) {
            const long n = strtol(p + 4, NULL, 10);
            if (n >= fd && n < least)
                least = (int)n;
        }
    return least;
}

void close_unnamed_descriptors(int argc, char **argv)
{
    for (int from = STDERR_FILENO + 1;;) {
        const int named = next_named(argc, argv, from);
        if (named >= MOST) {
            closefrom(from);
            return;
        }
        for (int fd = from; fd < named; fd++)
            close(fd);
        fcntl(named, F_SETFD, FD_CLOEXEC);
        from = named + 1;
    }
}
