/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folder.h - the machine's side of a process that serves a folder ("lodge folderd"). Its owner sends struct
 * folder_request and gets struct folder_done (folder_message.h) by the socket; whatever comes from there may be a guest's
 * that has taken the process over. Loop thread.
 */
#ifndef LODGE_SHARE_FOLDER_H
#define LODGE_SHARE_FOLDER_H

#include "base/child.h"
#include "share/folder_message.h"

struct folder_config {
    const char *path; /* the folder */
    const char *name; /* what messages call it; outlives the process */
    bool readonly;
    int memory;       /* the memfd of the guest's memory */
    struct loop *loop;
};

struct folder {
    struct child child;
    int sock; /* -1: there is no process */
};

int must_check folder_open(struct folder *f, const struct folder_config *c, struct error *err);
/* Ends the process. It is killed if that takes longer than patience_ms, and left behind if the host's file system does
   not even let it die. */
void folder_close(struct folder *f, u32 patience_ms);

#endif
