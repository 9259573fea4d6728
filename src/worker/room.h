/* SPDX-License-Identifier: Apache-2.0 */
/*
 * room.h - the empty room that a worker is in: namespaces of its own with nothing in them, no file system, no privileges, few
 * resources. What the host forbids is left out, and the rest holds without it: docs/security.md.
 */
#ifndef LODGE_WORKER_ROOM_H
#define LODGE_WORKER_ROOM_H

#include <sys/types.h>

#include "base/error.h"

struct room {
    bool whole;     /* wanted: namespaces and an empty root. Without it the process still gives up its privileges. */
    bool made;      /* the process has namespaces of its own */
    uid_t uid;      /* whose the process is, as it was before it had them */
    gid_t gid;
};

/* As fork(), into new namespaces where the host lets this user have them. For a process with one thread. */
pid_t room_fork(struct room *r);
/* In the new process, with one thread still: it has no file system, and none of root's rights, from here on. -errno */
int must_check room_enter(const struct room *r);
/* Does this host let us make such namespaces? It is tried in a process that then ends. For lodge doctor. */
bool room_probe(void);

#endif
