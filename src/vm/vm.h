/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one virtual machine, from its configuration to its exit status.
 */
#ifndef LODGE_VM_VM_H
#define LODGE_VM_VM_H

#include <stdio.h>

#include "base/base.h"
#include "base/error.h"
#include "config/config.h"
#include "vm/run.h"

enum { /* exit statuses besides the guest's own; what could not be started is the command line's to say */
       VM_EXIT_OK = 0,     /* power-off, quit from the terminal, a reboot with --no-reboot */
       VM_EXIT_FAILED = 1, /* triple fault, or a failure of ours while it ran */
};

/* That devices[] names devices there are, and options they have: what config_check cannot know. -EINVAL with err set. */
int must_check vm_check_devices(const struct vm_config *config, struct error *err);
/* A list of those devices and options, for people. */
void vm_list_devices(FILE *out);

/*
 * config: checked by config_check. Builds the machine, runs it on this thread (which becomes its I/O loop) until it ends, and takes it down.
 *
 * Returns the exit status: one of the above, a debug exit's (value << 1) | 1, or 128 + the signal that ended it;
 * one line on standard error says why whatever is not 0 was not the guest's wish.  -errno, with err set, if the
 * machine could not be started.
 */
int must_check vm_run(const struct vm_config *config, const struct vm_run *run, struct error *err);

#endif
