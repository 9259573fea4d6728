/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch_socket.h - the directory and the name of a switch's socket.  switch_listen and switch_connect are in peer.h.
 */
#ifndef LODGE_NET_SWITCH_SOCKET_H
#define LODGE_NET_SWITCH_SOCKET_H

#include "base/unix_socket.h"

enum { SWITCH_DIR = RUNTIME_DIR, SWITCH_PATH = 108, SWITCH_BACKLOG = 64 };

/* Makes the directory if necessary, and checks that it belongs to this user and that only this user can use it.
   -errno with err set. */
int must_check switch_dir(char dir[SWITCH_DIR], struct error *err);
int must_check switch_path(const char *name, char path[SWITCH_PATH], struct error *err);

#endif
