/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what a process that parses what guests or strangers send still may do once it is set up.
 */
#ifndef LODGE_BASE_SANDBOX_H
#define LODGE_BASE_SANDBOX_H

#include <sys/types.h>

#include "base/error.h"

enum sandbox {
    SANDBOX_USER,   /* sockets to anywhere; whoever has its requests decides which files it gets to read */
    SANDBOX_SWITCH, /* its own socket's clients */
    SANDBOX_SCREEN, /* accepting viewers, a process for each; one of those goes on to SANDBOX_VIEWER */
    SANDBOX_VIEWER, /* the descriptors it has, and no others */
};

/*
 * For good. -errno; with 0 err->text is "", or says what this host's kernel has not got, so that the process may do more
 * than it should.
 *
 * requests: for SANDBOX_USER. It opens files to read by asking whoever has *requests, a descriptor (sandbox_keep); -1
 * where the kernel has no such means.  Then, and with NULL, it may itself open the resolver's files and what is below dir
 * (NULL: no more), and without Landlock, too, all that its user may.  The others have no way to open files.
 */
int must_check sandbox_enter(enum sandbox kind, const char *dir, int *requests, struct error *err);

/* What of it this host's kernel has: tried, in a process that ends with it. -errno. */
struct sandbox_report {
    bool seccomp, asks, landlock; /* asks: seccomp_unotify(2), which *requests is made of */
    struct error missing;         /* "": nothing that matters */
};
int must_check sandbox_probe(struct sandbox_report *report);

/* The lesser half, for a process that helps a sandboxed one and hears nothing from strangers: no new privileges, no
   capabilities, no core files. -errno. */
int must_check sandbox_drop(void);

/* A descriptor of a child's memory, to read what it asks for; -errno: this host forbids it (Yama's ptrace_scope), so that
   the child must not ask. */
int must_check sandbox_memory(pid_t child);

/* Answers requests to open until the process of `alive`, the other end of a socket of it, has ended: opener gets the path
   and returns a descriptor or -errno. */
void sandbox_keep(int requests, int mem, int alive, int (*opener)(void *ctx, const char *path), void *ctx);

#endif
