/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api.h - a machine's control socket: HTTP and JSON on a unix socket (http/server.h), under /api/v1/.
 * What Cloud Hypervisor has (vmm.*, vm.info, vm.pause ...) has its paths, methods and status codes; what it has not
 * (vm.screenshot, vm.screen-text, vm.send-key, vm.type, vm.change-media) is Lodge's own.  docs/screen.md.
 *
 * Requests are served on the loop's thread.  Whoever may open the socket may do all of this: it is this user's alone.
 */
#ifndef LODGE_VM_API_H
#define LODGE_VM_API_H

#include "base/error.h"

struct vm;
struct api;

/* path: the socket's. NULL with err set. */
struct api *api_open(struct vm *v, const char *path, struct error *err);
/* While the loop does not run; what waits is answered with a failure. May be NULL. */
void api_close(struct api *a);

#endif
