/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what a network process still may do once it is set up: it parses what guests send.
 */
#ifndef LODGE_NET_SANDBOX_H
#define LODGE_NET_SANDBOX_H

#include "base/error.h"

enum sandbox {
    SANDBOX_USER,   /* sockets to anywhere, reading the resolver's configuration */
    SANDBOX_SWITCH, /* its own socket's clients, removing it at the end */
};

/* For good. dir: the switch's, else NULL. What the kernel has not got (Landlock before 5.13) is left out.
   -errno. */
int must_check sandbox_enter(enum sandbox kind, const char *dir, struct error *err);

#endif
