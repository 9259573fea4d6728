/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.h - how a worker has things opened: it sends what it wants to its broker, which opens it and hands the descriptor
 * over (base/opener.h says what there is to want). The broker also starts the worker's helper processes (base/child.h), and
 * receives the clients of its control socket, to see what they want put in a drive. One message a request and one an
 * answer, on a SOCK_SEQPACKET socket.
 *
 * The worker may be a guest's that has broken out. The broker opens what policy.h allows and nothing else.
 */
#ifndef LODGE_WORKER_BROKER_H
#define LODGE_WORKER_BROKER_H

#include <poll.h>

#include "base/opener.h"
#include "worker/policy.h"

struct broker;

/* ---- the broker's side; one thread ---- */

/* sock becomes the broker's, whatever happens, and policy stays the caller's. NULL: no memory. */
struct broker *broker_new(int sock, struct policy *policy);
void broker_worker(struct broker *b, pid_t worker); /* who it is, once it is known */

/* What it waits for. At most BROKER_FDS entries are written; *ms is lowered to when it wants to be called again. */
enum { BROKER_FDS = 18 };
u32 broker_poll(const struct broker *b, struct pollfd *p, int *ms);
/* Does what there is to do, and never waits for the worker or a client. False: the worker has closed its end. */
bool broker_serve(struct broker *b);
/* Ends the helpers that did not end with the worker, and removes the sockets that it had made and left behind, as one that
   was killed does. */
void broker_free(struct broker *b);
/* In the worker, after the fork: frees what is the broker's. */
void broker_drop(struct broker *b);

/* ---- the worker's ---- */

/* From now on the broker at the other end of sock opens all that this process wants. Before there are threads; for good. */
void broker_use(int sock);
/* This process's number on the host, where in its own namespace it may be 1. */
pid_t broker_own_pid(void);

#endif
