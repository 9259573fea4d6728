/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vcpu.h - the threads that run the virtual processors of a VM, one thread each, and how all of them are stopped.
 *
 *   created (paused) -resume-> running -pause-> paused -resume-> ...
 *
 * A vCPU whose run() ends in a shutdown or an error tells on_stop() and stays parked until the next resume.
 *
 * Threads: one controlling thread, which is no vCPU's, calls vcpus_pause, vcpus_resume and vcpus_free. Any thread may call
 * vcpus_stop_soon.
 */
#ifndef LODGE_ENGINE_VCPU_H
#define LODGE_ENGINE_VCPU_H

#include "base/base.h"
#include "base/error.h"
#include "base/loop.h"
#include "engine/engine.h"

struct vcpus;

struct vcpus_config {
    const struct engine_ops *ops;
    struct engine_vm *vm;
    u32 n;
    /* Called on the vCPU's thread. why: RUN_SHUTDOWN, or RUN_ERROR with err. */
    void (*on_stop)(void *ctx, u32 vcpu, enum run_result why, const struct error *err);
    void *ctx;
    struct loop *loop; /* the controlling thread's loop, or NULL. A pause lets go a vCPU that waits for the loop. */
};

/* Creates the engine's vCPUs and their threads, paused. */
int must_check vcpus_new(struct vcpus **out, const struct vcpus_config *c, struct error *err);
void vcpus_free(struct vcpus *g); /* pauses first; destroys the engine's vCPUs */

void vcpus_resume(struct vcpus *g);
/* Returns when every vCPU stands at an instruction boundary outside run(). */
void vcpus_pause(struct vcpus *g);
/* Asks for the same, and does not wait for it. If a vCPU's thread calls it (for a device that ends or resets the machine),
   that vCPU executes no further instruction. */
void vcpus_stop_soon(struct vcpus *g);

u32 vcpus_count(const struct vcpus *g);
struct engine_vcpu *vcpus_engine(const struct vcpus *g, u32 i);
/* CPU time used by a vCPU's thread in ns, for statistics and tests. */
u64 vcpus_cpu_time(const struct vcpus *g, u32 i);

#endif
