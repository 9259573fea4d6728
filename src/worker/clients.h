/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clients.h - the broker receives the clients of the control socket and hands them to the worker. Before it does, it looks at
 * what they send: a request to change the medium of a drive names a file, and that is the word of the user, on which the
 * broker will open it (policy_grant). It takes nothing out of a connection, so the worker reads the request itself.
 *
 * One thread.
 */
#ifndef LODGE_WORKER_CLIENTS_H
#define LODGE_WORKER_CLIENTS_H

#include <poll.h>

#include "worker/policy.h"

struct clients;
struct clients *clients_new(struct policy *p); /* NULL: no memory */
void clients_free(struct clients *c);          /* c may be NULL */
/* Takes over a listening socket. Returns a socket, the caller's, by which the connections come as pass.h sends descriptors,
   each with a message of one byte; or -errno, and the listening socket is closed. */
int must_check clients_listen(struct clients *c, int listener);
/* See broker_poll. */
u32 clients_poll(const struct clients *c, struct pollfd *p, u32 most, int *ms);
void clients_serve(struct clients *c);

#endif
