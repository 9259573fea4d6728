/* SPDX-License-Identifier: Apache-2.0 */
/* broker_message.h - what a worker and its broker say to each other (broker.h). Both are of one program, in one memory layout. */
#ifndef LODGE_WORKER_BROKER_MESSAGE_H
#define LODGE_WORKER_BROKER_MESSAGE_H

#include <limits.h>
#include <sys/socket.h>

#include "base/opener.h"

/* What can be asked for beside enum opener_kind. */
enum broker_kind {
    BROKER_FIRST = OPENER_RUNTIME + 1,
    BROKER_CHILD = BROKER_FIRST, /* path: the arguments, each with a 0 after it; with its descriptors. See base/child.h. */
    BROKER_KILL,                 /* flags: the id of a child */
    BROKER_PID,                  /* the result is the worker's number on the host */
    BROKER_KINDS,
};

struct broker_request { /* struct opener_request without its pointers, and what these lead to */
    u32 purpose, kind;
    s32 flags, type;
    u32 mode;
    u32 no_links;       /* 0 or 1 */
    u32 length;         /* of address; 0: none */
    struct sockaddr_storage address;
    char path[PATH_MAX]; /* ends with a 0; the message ends there, too */
};

struct broker_answer { /* with a descriptor, where the request is for one and result is not negative */
    s32 result;
    u32 id;              /* BROKER_CHILD */
    struct stat st;      /* OPENER_STAT */
    char path[PATH_MAX]; /* OPENER_REAL, OPENER_RUNTIME; the message ends after its 0 */
};

#endif
