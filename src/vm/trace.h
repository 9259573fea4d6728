/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trace.h - the sinks of traces: instructions, exceptions, port and MMIO accesses, translations as lines of text, to
 * standard error or files; and of perf's map.  Called on vCPU threads; a line is written whole.
 */
#ifndef LODGE_VM_TRACE_H
#define LODGE_VM_TRACE_H

#include <stdio.h>

#include "base/error.h"
#include "engine/engine.h"
#include "machine/machine.h"
#include "vm/run.h"

struct trace;

/* Opens what the configuration asks for: *out NULL if that is nothing. */
int must_check trace_open(struct trace **out, const struct vm_run *c, struct error *err);
void trace_close(struct trace *t); /* no vCPU runs; t may be NULL */

/* A file of the user's for text, made or emptied; a FIFO's reader is waited for. failed: before the path, in a sentence that
   says what cannot be done. NULL with errno and err. */
FILE *trace_file(const char *path, const char *failed, struct error *err);

/* What to hand the engine and the machine; NULL if neither is traced. t may be NULL. */
const struct engine_trace *trace_engine(const struct trace *t);
const struct machine_trace *trace_machine(const struct trace *t);

#endif
