/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - a process of our own program.  It has none of our descriptors but those it is given: not our terminal either,
 * since it parses what strangers send and a terminal can be read and typed at.  What it writes to standard error (the
 * libraries that it is made of do, when they give up) comes by a pipe and is logged.  Loop thread.
 */
#ifndef LODGE_BASE_CHILD_H
#define LODGE_BASE_CHILD_H

#include <sys/types.h>

#include "base/error.h"
#include "base/loop.h"

enum { CHILD_FIRST_FD = 3, CHILD_MAX_FDS = 4, CHILD_LINE = 400, CHILD_MAX_LINES = 100 };

struct child {
    pid_t pid;  /* 0: none */
    int says;   /* the pipe from its standard error; -1: no more is heard of it */
    bool heard; /* by a loop */
    struct loop *loop;
    struct loop_fd watch;
    const char *name; /* before what it says */
    u32 lines, len;
    char line[CHILD_LINE + 1];
};

/* Runs "lodge ..." with fd[0] as its descriptor 3, fd[1] as 4 ..., away from our terminal's signals. -errno; then child_end
   may be called or not. */
int must_check child_start(struct child *c, char *const argv[], const int *fd, int n);
/* From now on the loop logs what it says, CHILD_MAX_LINES lines at most: a guest may be the reason for them. */
int must_check child_listen(struct child *c, struct loop *l, const char *name);
/* Instead: waits until it has ended, without a limit. 0, or -EIO with its last line in err if its status was not 0. */
int must_check child_last_words(struct child *c, struct error *err);
/* Waits for its end, which it has been told of, logs what it still says, and does not wait for ever. */
void child_end(struct child *c);

#endif
