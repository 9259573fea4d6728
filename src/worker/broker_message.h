/* SPDX-License-Identifier: Apache-2.0 */
/* broker_message.h - what a worker and its broker say to each other (broker.h). Both are of one program, in one memory layout. */
#ifndef LODGE_WORKER_BROKER_MESSAGE_H
#define LODGE_WORKER_BROKER_MESSAGE_H

#include <limits.h>
#include <sys/socket.h>

#include "base/base.h"

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
};

#endif
