/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker.h - how a worker has things opened: it sends what it wants to its broker, which opens it and hands the descriptor over
 * (base/opener.h says what there is to want). One message a request and one an answer, on a SOCK_SEQPACKET socket.
 */
#ifndef LODGE_WORKER_BROKER_H
#define LODGE_WORKER_BROKER_H

#include "base/opener.h"

struct broker;

/* ---- the broker's side; one thread ---- */

struct broker *broker_new(int sock); /* sock becomes the broker's; NULL: no memory */
/* One request, if there is one: never waits for the worker. False: the worker has closed its end. */
bool broker_serve(struct broker *b);
/* Removes the sockets that the worker had made and left behind, as one that was killed does. */
void broker_free(struct broker *b);

/* ---- the worker's ---- */

/* From now on the broker at the other end of sock opens all that this process wants. Before there are threads; for good. */
void broker_use(int sock);

#endif
