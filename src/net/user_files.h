/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_files.h - the files that "user" reads: the host's /etc/resolv.conf, which libslirp reads again when it has changed,
 * and what is below tftp=.  Its process can open none (SANDBOX_USER); another, its keeper, which has nothing to do with the
 * guest, opens these two for it and nothing else.
 */
#ifndef LODGE_NET_USER_FILES_H
#define LODGE_NET_USER_FILES_H

#include "base/error.h"

/* Forks. What returns is the process that is to serve the guest, with a descriptor for user_files_sandbox, or -errno; the
   one that called is the keeper, ends with it and with its status. The keeper closes all other descriptors. */
int must_check user_files_begin(const char *tftp);
/* Into the sandbox. As sandbox_enter. */
int must_check user_files_sandbox(int keeper, const char *tftp, struct error *err);

#endif
