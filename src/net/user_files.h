/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user_files.h - the files that "user" reads: the host's /etc/resolv.conf, which libslirp reads again when it has
 * changed, and the files below tftp=. The process of "user" can open no file itself (SANDBOX_USER). Another process,
 * its keeper, opens these for it and nothing else. The keeper has nothing to do with the guest.
 */
#ifndef LODGE_NET_USER_FILES_H
#define LODGE_NET_USER_FILES_H

#include "base/error.h"

/* Forks. It returns in the new process, which is to serve the guest, with a descriptor for user_files_sandbox, or
   -errno. The process that called becomes the keeper. It ends when the new process ends, with the same status. The
   keeper closes all other descriptors. */
int must_check user_files_begin(const char *tftp);
/* Enters the sandbox, as sandbox_enter does. */
int must_check user_files_sandbox(int keeper, const char *tftp, struct error *err);

#endif
