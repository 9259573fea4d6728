/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - a process of our own program. */
#ifndef LODGE_BASE_CHILD_H
#define LODGE_BASE_CHILD_H

#include <sys/types.h>

#include "base/base.h"

enum { CHILD_FIRST_FD = 3, CHILD_MAX_FDS = 4 };

/* Runs "lodge ..." with fd[0] as its descriptor 3, fd[1] as 4 ..., away from our terminal's signals. -errno. */
int must_check spawn_lodge(char *const argv[], const int *fd, int n, pid_t *pid);

#endif
