/* SPDX-License-Identifier: Apache-2.0 */
/* core.h - shared by the run loop (core.c) and the part of the engine that may use libc and locks (engine_gate.c). */
#ifndef LODGE_ENGINE_SOFT_CORE_H
#define LODGE_ENGINE_SOFT_CORE_H

#include "engine/soft/blocks.h"
#include "engine/soft/soft.h"

/* The guest's vectors are saved when it returns. */
enum run_result soft_run(struct soft_vcpu *v);

/* engine_gate.c: each function saves the guest's vectors first. */
int soft_interrupt_ack(struct soft_vcpu *v);
void soft_init_signal(struct soft_vcpu *v);
void soft_wait(struct soft_vcpu *v); /* waits until a request comes that could end the current activity */
void soft_trace_exec(struct soft_vcpu *v, const struct block *b);
void soft_trace_exception(struct soft_vcpu *v, unsigned vector, bool has_error, u32 error);

#endif
