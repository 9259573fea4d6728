/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.h - what a broker opens for its worker: what the machine's configuration names, for the purpose and with the rights
 * that it is named for, and what a client of the control socket asked for since. Everything else is refused with EACCES.
 *
 * A disk image may have backing files, whose names only the worker reads. It gets such files to read, if they lie where the
 * configuration lets an image look for them (docs/disks.md): below the folder of an image that is named, in the user's store,
 * in the folder of backing=FOLDER; with backing=any wherever they are.
 *
 * One thread.
 */
#ifndef LODGE_WORKER_POLICY_H
#define LODGE_WORKER_POLICY_H

#include "base/opener.h"
#include "config/config.h"

struct policy;

/* c and store (the folder of the user's images, or NULL) stay the caller's, and stay. NULL: no memory. */
struct policy *policy_new(const struct vm_config *c, const char *store);
void policy_free(struct policy *p);

/* Beside the configuration: this file, for this purpose, is the worker's to read, write and make. -ENOMEM */
int must_check policy_allow(struct policy *p, enum opener_purpose purpose, const char *path);
/* A client of the control socket asked for this medium. Only the latest are remembered. */
void policy_grant(struct policy *p, const char *path);

/* 0, or -EACCES: the request is not carried out. fd is OPENER_AGAIN's. */
int must_check policy_judge(const struct policy *p, const struct opener_request *r);
/* A file that was opened for a request that policy_judge let pass: may the worker have it? */
int must_check policy_judge_opened(const struct policy *p, const struct opener_request *r, int fd);
/* The answer to OPENER_REAL. */
int must_check policy_judge_real(const struct policy *p, const struct opener_request *r, const char *real);
/* Removes the sockets that c names and nobody listens on, should the broker have been killed. */
void policy_sweep(const struct vm_config *c);

/* May the worker start this? argv ends with NULL. */
int must_check policy_judge_child(const struct policy *p, char *const argv[]);

#endif
