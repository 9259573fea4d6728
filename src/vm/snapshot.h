/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - a stopped machine as a directory, and back.
 *
 *   config  a state stream (state/state.h): memory size, number of CPUs, CPUID
 *   state   a state stream: every processor and chip
 *   ram     guest RAM as it lies in memory_fd: sparse, page-aligned, so that it can be mapped
 *
 * All while no vCPU runs, on the loop's thread.
 */
#ifndef LODGE_VM_SNAPSHOT_H
#define LODGE_VM_SNAPSHOT_H

#include "base/error.h"
#include "cpu/cpuid.h"
#include "config/config.h"

struct vm;

/* Into an existing or new directory; what was there of an older snapshot is replaced. */
int must_check vm_save(struct vm *v, const char *dir, struct error *err);

/* Reads the snapshot's processor model into *cpuid, and the network cards' addresses (0: not known) into mac; refuses one
   of another shape than the configuration's, or with features beyond `supported`. */
int must_check snapshot_config(const char *dir, const struct vm_config *c, const struct cpuid_table *supported,
                               struct cpuid_table *cpuid, u8 mac[CONFIG_MAX_NETS][6], struct error *err);
/* In place of a reset: the machine, built with that processor model, goes on where the saved one stood. */
int must_check vm_load(struct vm *v, const char *dir, struct error *err);

#endif
