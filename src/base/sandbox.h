/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - limits what a process may still do after its setup, if it parses what guests or strangers send.
 */
#ifndef LODGE_BASE_SANDBOX_H
#define LODGE_BASE_SANDBOX_H

#include <sys/types.h>

#include "base/error.h"

enum sandbox {
    SANDBOX_USER,   /* sockets to anywhere; the holder of *requests decides which files it may read */
    SANDBOX_SWITCH, /* the clients of its own socket */
    SANDBOX_SCREEN, /* it accepts viewers and makes a process for each; that process goes on to SANDBOX_VIEWER */
    SANDBOX_VIEWER, /* the descriptors it has, and no others */
    SANDBOX_FOLDER, /* the files below one folder; entered by sandbox_enter_folder */
    SANDBOX_DIRECT, /* it makes the processes in which a guest's programs run (engine/directd.h) */
    /* Threads of a worker, which is in an empty room already: sandbox_thread() */
    SANDBOX_LOOP, SANDBOX_VCPU, SANDBOX_BLOCK, SANDBOX_OUTPUT,
};

/*
 * The sandbox is for good. -errno. With 0, err->text is "", or it says what this host's kernel lacks, so that the
 * process may do more than it should.
 *
 * requests: for SANDBOX_USER. The process opens files to read by asking the holder of the descriptor *requests
 * (sandbox_keep); *requests is -1 where the kernel has no such means. In that case, and if requests is NULL, the
 * process may itself open the resolver's files and what is below dir (NULL: no more). Without Landlock it may then also
 * open everything that its user may open. The other kinds have no way to open files.
 */
int must_check sandbox_enter(enum sandbox kind, const char *dir, int *requests, struct error *err);

/* What a process has whose sandbox is SANDBOX_FOLDER. */
struct sandbox_folder {
    int folder;       /* a descriptor of the folder; it is replaced by one (O_PATH) that is good in the sandbox */
    bool readonly;    /* nothing is written there */
    const char *self; /* set: the directory that has this process's descriptors as its names */
};

/*
 * Nothing but the folder and what is below it can be opened. Where the host allows it, there is nothing else: the folder
 * becomes the root of a mount namespace (sandbox_root.c), and the working directory changes. root keeps the capabilities
 * by which the guest's root is the root of these files. Another user gets a user namespace, where this host allows one:
 * files of other users then seem to belong to "nobody" (65534). -errno; err as of sandbox_enter.
 */
int must_check sandbox_enter_folder(struct sandbox_folder *f, struct error *err);
/* The half of it that makes the new root. users: with a user namespace. -errno: this host does not allow it, and the
   process is as it was. */
int must_check sandbox_root(struct sandbox_folder *f, bool users);

/* Which parts of the sandbox this host's kernel has. They are tried in a process that then ends. -errno. */
struct sandbox_report {
    bool seccomp, asks, landlock; /* asks: seccomp_unotify(2), the means behind *requests */
    bool root;                    /* of a folder's process: it has a root of its own */
    struct error missing;         /* "": nothing that matters */
};
int must_check sandbox_probe(struct sandbox_report *report);

struct sock_filter;
/* Loads a program of seccomp(2), of n instructions, for good. -errno, or 0; with SECCOMP_FILTER_FLAG_NEW_LISTENER in flags a
   descriptor. It allocates no memory of this process. */
int must_check sandbox_load(struct sock_filter *code, u32 n, u32 flags);

/* The smaller half: no new privileges, no core files, and no capabilities but those in keep (1 << CAP_..., of the first
   32) that the process has. For the calling thread, and threads and processes that it makes later. -errno. */
int must_check sandbox_drop(u32 keep);

/* This process's threads are confined: from now on sandbox_thread does what it says. Before there are threads. */
void sandbox_confine_threads(void);
/* From here on this thread, and those that it makes, make only the system calls of its kind. Nothing in a process that is not
   confined. It ends the process if it cannot. */
void sandbox_thread(enum sandbox kind);

/* Landlock, after sandbox_drop: this thread, and those that it makes later, open no file by its name any more, and make no TCP connection, where
   the kernel has that. -errno; 0 where it has no Landlock. */
int must_check sandbox_no_files(void);

/* A descriptor of a child's memory, to read what the child asks for. -errno: this host forbids it (Yama's
   ptrace_scope), so the child must not ask. */
int must_check sandbox_memory(pid_t child);

/* Answers requests to open files until the process at the other end of the socket `alive` has ended. opener gets the
   path and returns a descriptor or -errno. */
void sandbox_keep(int requests, int mem, int alive, int (*opener)(void *ctx, const char *path), void *ctx);

#endif
