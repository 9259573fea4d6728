/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.h - the report at the end of a run, what it consisted of: the engine's figures of each CPU, its VM's, and the
 * accesses each device got. As a table, or as one JSON object:
 *
 *   {"engine": "soft", "seconds": 1.5,
 *    "cpus": [{"interpreter": {"blocks": 5, ...}, ...}, ...], "sum": {...}, "vm": {...},
 *    "devices": {"com1": {"reads": 1, "writes": 2}, ...}}
 *
 * Rates lie between 0 and 1; times are in seconds, sizes in bytes.
 */
#ifndef LODGE_VM_STATS_H
#define LODGE_VM_STATS_H

#include "base/error.h"
#include "engine/engine.h"
#include "machine/machine.h"
#include "vm/run.h"

struct stats;

/* *out NULL if the configuration asks for none. next: where what goes to the buses is told as well, or NULL; stays. */
int must_check stats_open(struct stats **out, const struct vm_run *c, u32 cpus, const struct machine_trace *next,
                          struct error *err);
void stats_close(struct stats *s); /* s may be NULL */
/* What to hand the machine: s's, or without s, next. */
const struct machine_trace *stats_machine(const struct stats *s, const struct machine_trace *next);
/* No vCPU runs. s may be NULL. */
void stats_print(struct stats *s, const struct engine_ops *engine, struct engine_vm *vm);

#endif
