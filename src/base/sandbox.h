/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what a process that parses what guests or strangers send still may do once it is set up.
 */
#ifndef LODGE_BASE_SANDBOX_H
#define LODGE_BASE_SANDBOX_H

#include "base/error.h"

enum sandbox {
    SANDBOX_USER,   /* sockets to anywhere, reading the resolver's configuration and tftp='s files */
    SANDBOX_SWITCH, /* its own socket's clients, removing it at the end */
    SANDBOX_SCREEN, /* accepting viewers, a process for each; one of those goes on to SANDBOX_VIEWER */
    SANDBOX_VIEWER, /* the descriptors it has, and no others */
};

/* For good. dir: the switch's, tftp='s, or NULL. What the kernel has not got (Landlock before 5.13) is left out.
   -errno. */
int must_check sandbox_enter(enum sandbox kind, const char *dir, struct error *err);

#endif
