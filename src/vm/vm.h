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

struct loop;

enum { /* exit statuses besides the guest's own; what could not be started is the command line's to say */
       VM_EXIT_OK = 0,     /* power-off, quit from the terminal, a reboot with no_reboot */
       VM_EXIT_FAILED = 1, /* triple fault, or a failure of ours while it ran */
};

/* That devices[] names devices there are, and options they have: what config_check cannot know. -EINVAL with err set. */
int must_check vm_check_devices(const struct vm_config *config, struct error *err);
/* A list of those devices and options, for people. */
void vm_list_devices(FILE *out);

/*
 * A VM is there before its machine is built and after that has ended, when it can be booted again:
 *
 *   created -> booting -> running <-> paused, waiting -> stopped or crashed -> booting ...
 *   booting -> created: it could not be started
 *
 * The table in vm.c has all transitions, and nothing but `enter` there makes one.
 */
enum vm_state {
    VM_CREATED, /* a configuration, and no machine */
    VM_BOOTING, /* its machine is built, and does not run yet */
    VM_RUNNING,
    VM_PAUSED,  /* by the user, or for him by a device */
    VM_WAITING, /* a disk cannot go on */
    VM_STOPPED, /* it ended as the guest or the user wished */
    VM_CRASHED, /* a triple fault, a guest that said so itself, or a failure of ours */
    VM_STATES,
};

struct vm;

/* config, checked by config_check, and run: borrowed, and unchanged as long as the VM. A process may have several, each with
   a thread of its own. NULL with err set. */
struct vm *vm_new(const struct vm_config *config, const struct vm_run *run, struct error *err);
/* Not while it runs; NULL: nothing. */
void vm_free(struct vm *v);
/* Opens what the configuration names, builds the machine and brings it to its first instruction. -errno with err set, and it
   is created again. */
int must_check vm_boot(struct vm *v, struct error *err);
/*
 * Runs a booted machine on this thread, which becomes its I/O loop, until it ends, and takes it down.
 *
 * Returns the exit status: one of the above, a debug exit's (value << 1) | 1, or 128 + the signal that ended it; one line on
 * standard error says why whatever is not 0 was not the guest's wish. -errno, with err set, if the loop failed.
 */
int must_check vm_run(struct vm *v, struct error *err);

/* Any thread, while there is a VM: ends its machine in order; nothing if it has none. signal: the one that wanted it, or 0. */
void vm_quit(struct vm *v, int signal);
enum vm_state vm_state(const struct vm *v); /* any thread */
const char *vm_state_name(enum vm_state s); /* "running" */
/* Once booted, for watching descriptors beside the machine's; it ends with vm_run, and what watches does so with it. */
struct loop *vm_loop(struct vm *v);
const char *vm_engine(const struct vm *v, const char **why); /* once booted: the engine's name, and why it was chosen */

#endif
