/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one virtual machine, from its configuration to its exit status.
 */
#ifndef LODGE_VM_VM_H
#define LODGE_VM_VM_H

#include "base/base.h"
#include "vm/config.h"

enum { /* exit statuses of `lodge run` besides the guest's own */
    VM_EXIT_OK = 0,      /* power-off, quit from the terminal, a reboot with --no-reboot */
    VM_EXIT_FAILED = 1,  /* triple fault, or a failure of ours while it ran */
    VM_EXIT_REFUSED = 2, /* it could not be started: configuration, files, host */
};

/*
 * Builds the machine, runs it on this thread (which becomes its I/O loop) until it ends, and takes it down.
 * Returns the process's exit status: one of the above, a debug exit's (value << 1) | 1, or 128 + the signal
 * that ended it.  Says in one line on standard error why whatever is not 0 was not the guest's wish.
 */
int vm_run(const struct vm_config *config);

#endif
