/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - a process that runs our own program. It gets none of our descriptors but those that the caller gives it. It
 * does not get our terminal either, because it parses what strangers send, and a process that has a terminal can read
 * it and type at it. What the process writes to standard error comes through a pipe and is logged; the libraries in it
 * write there when they give up. Loop thread.
 */
#ifndef LODGE_BASE_CHILD_H
#define LODGE_BASE_CHILD_H

#include <sys/types.h>

#include "base/error.h"
#include "base/loop.h"

enum { CHILD_FIRST_FD = 3, CHILD_MAX_FDS = 4, CHILD_LINE = 400, CHILD_MAX_LINES = 100 };
enum {
    CHILD_END_MS = 10000, /* a process that was told to end and has not ended by then is killed */
    CHILD_KILLED_MS = 500 /* a killed process ends sooner, unless the kernel itself waits for something in it */
};

struct child {
    pid_t pid;  /* 0: none */
    u32 id;     /* its starter's number for it, if another process started it; else 0 */
    int says;   /* the pipe from its standard error; -1: we hear no more of it */
    bool heard; /* a loop reads `says` */
    struct loop *loop;
    struct loop_fd watch;
    const char *name; /* the log prints it before what the process says */
    u32 patience_ms; /* child_end kills a process that has not ended by then; 0: ten seconds */
    u32 lines, len;
    char line[CHILD_LINE + 1];
};

/* Runs "lodge ..." with fd[0] as its descriptor 3, fd[1] as 4 and so on, away from our terminal's signals. On -errno
   the caller may call child_end or not. */
int must_check child_start(struct child *c, char *const argv[], const int *fd, int n);
/* From now on the loop logs what the process says, CHILD_MAX_LINES lines at most, since a guest may be the cause of
   them. */
int must_check child_listen(struct child *c, struct loop *l, const char *name);
/* Use this instead of child_listen: it waits without a limit until the process has ended. 0, or -EIO with the last
   line of the process in err if its status was not 0, or if it said something and another process has its status. */
int must_check child_last_words(struct child *c, struct error *err);
/* The process has been told to end. This waits for its end, logs what it still says, and does not wait for ever: it
   kills the process, and leaves behind one that does not even end then, since a file system does not answer it. */
void child_end(struct child *c);

/* Another process starts the children of this one from now on, as a process in a sandbox cannot. Before there are threads;
   s stays the caller's. */
struct child_starter {
    /* Like child_start; *says is the pipe and *id a number above 0. */
    int (*start)(void *ctx, char *const argv[], const int *fd, int n, int *says, u32 *id);
    void (*kill)(void *ctx, u32 id); /* it did not end when it was told to */
    void *ctx;
};
void child_use(const struct child_starter *s);
/* What a starter does: runs "lodge ..." with `says` as its standard error. -errno. */
int must_check child_spawn(char *const argv[], const int *fd, int n, int says, pid_t *pid);

#endif
